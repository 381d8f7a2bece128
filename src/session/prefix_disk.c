/* prefix_disk.c - the folder of a prefix cache: what it has of a sequence, bringing it in, adding.
 *
 * A file holds the pages that one save found missing, in one piece: the beginning of a conversation
 * once, and then what each turn added. (A file per sequence would write a growing conversation again
 * and again; a file per page would make thousands of files of small models.) Files continue each other
 * by key, see prefix_file.h; a file with another ending begins at the page where it differs.
 *
 * Several processes may use a folder: files appear whole, never change, and one that vanishes while
 * it is wanted counts as absent. Over the limit, those go that were not used for the longest time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/outfile.h"
#include "session/prefix_file.h"

#define FOLDER_MOST 65536     /* entries that are looked at */
#define HEADERS_MOST 1024     /* files that are opened for one sequence */
#define ALIGN 64              /* of pages in a file */
#define STALE ((int64_t)3600) /* seconds after which an unfinished file is nobody's */

/* ------------------------------------------------------------------ the folder */

struct listed {
    char name[PREFIX_NAME];
    bool wanted; /* the sequence at hand uses it */
    uint64_t size;
    int64_t used;
};
struct listing {
    struct prefix_cache *c;
    struct listed *list; /* [n] by name */
    size_t n, cap;
    uint64_t bytes;
    bool no_memory;
};

static bool is_hex(const char *s, size_t n) {
    return strspn(s, "0123456789abcdef") >= n;
}

/* 32 digits, '-', 16 digits, ".kv" */
static bool is_ours(const char *name) {
    return strlen(name) == PREFIX_NAME - 1 && is_hex(name, 32) && name[32] == '-' &&
           is_hex(name + 33, 16) && strcmp(name + 49, PREFIX_SUFFIX) == 0;
}

static bool list_one(void *user, const struct folder_entry *e) {
    struct listing *l = user;
    if (!is_ours(e->name))
        return true;
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 64;
        struct listed *more = mem_resize(&l->c->hooks, l->list, cap, sizeof *more);
        l->no_memory = more == NULL;
        if (more == NULL)
            return false;
        l->list = more;
        l->cap = cap;
    }
    struct listed *x = &l->list[l->n++];
    *x = (struct listed){ .size = e->size, .used = e->used };
    memcpy(x->name, e->name, PREFIX_NAME);
    l->bytes = e->size < UINT64_MAX - l->bytes ? l->bytes + e->size : UINT64_MAX;
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

static slm_err list_folder(struct prefix_cache *c, struct listing *l, slm_why *why) {
    *l = (struct listing){ .c = c };
    slm_err err = folder_each(c->o.folder, FOLDER_MOST, list_one, l, why);
    if (err == SLM_OK && l->no_memory)
        err = fail_nomem(why, "the names in a folder", l->cap * 2 * sizeof *l->list);
    if (err == SLM_OK && l->n > 1)
        qsort(l->list, l->n, sizeof *l->list, by_name);
    return err;
}

static void key_text(const uint64_t key[2], char out[33]) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)key[0], (unsigned long long)key[1]);
}

/* The first entry whose name is not before `text`. */
static size_t first_named(const struct listing *l, const char *text) {
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(l->list[middle].name, text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static slm_err open_listed(const struct listing *l, size_t i, struct infile *f, char **path,
                           slm_why *why) {
    *path = path_join(&l->c->hooks, l->c->o.folder, l->list[i].name);
    if (*path == NULL)
        return fail_nomem(why, "a file name", PREFIX_NAME);
    slm_err err = infile_open(*path, f, why);
    if (err != SLM_OK) {
        mem_free(&l->c->hooks, *path);
        *path = NULL;
    }
    return err;
}

static void remove_listed(struct listing *l, size_t i) {
    char *path = path_join(&l->c->hooks, l->c->o.folder, l->list[i].name);
    if (path != NULL)
        (void)file_remove(path);
    mem_free(&l->c->hooks, path);
}

/* Uses of files count for the order in which they go; a beginning is younger than what continues it. */
static void mark_wanted(const struct listing *l, const struct prefix_piece *pieces,
                        uint32_t n_slots) {
    uint32_t last = UINT32_MAX;
    for (uint32_t i = n_slots * KV_CLASSES; i-- > 0;) {
        if (pieces[i].rows == 0 || pieces[i].file == last)
            continue;
        last = pieces[i].file;
        char *path = path_join(&l->c->hooks, l->c->o.folder, l->list[last].name);
        if (path != NULL)
            file_mark_used(path);
        mem_free(&l->c->hooks, path);
    }
}

/* ------------------------------------------------------------------ what there is of a sequence */

/* The pieces of one file that belong to ids [n] from its first slot on, where they are more than those
 * found before. */
static void note_pieces(const struct prefix_header *x, const int32_t *ids, uint32_t n,
                        uint32_t file, struct prefix_piece *pieces) {
    uint32_t first = x->slot * KV_PAGE;
    uint32_t common =
        ids_in_common(x->ids, ids + first, x->n_ids < n - first ? x->n_ids : n - first);
    for (uint32_t i = 0; i * KV_PAGE < common; i++)
        for (unsigned k = 0; k < KV_CLASSES; k++) {
            const struct prefix_piece *p = &x->pieces[i * KV_CLASSES + k];
            struct prefix_piece *to = &pieces[(x->slot + i) * KV_CLASSES + k];
            uint32_t left = common - i * KV_PAGE, good = p->rows < left ? p->rows : left;
            if (good <= to->good)
                continue;
            *to = *p;
            to->good = good;
            to->file = file;
        }
}

/* pieces [slots of n][KV_CLASSES], zeroed: filled with what the folder has. Files that cannot be read
 * or are not what their names say are left aside. */
static void survey(const struct listing *l, const struct prefix_kind *kind, const int32_t *ids,
                   uint32_t n, struct prefix_piece *pieces) {
    uint64_t key[2];
    unsigned opened = 0;
    prefix_key_start(kind, key);
    for (uint32_t slot = 0; slot * KV_PAGE < n; slot++) {
        char text[33];
        key_text(key, text);
        for (size_t i = first_named(l, text); i < l->n && strncmp(l->list[i].name, text, 32) == 0;
             i++) {
            struct infile f;
            struct arena a;
            struct prefix_header x;
            char *path;
            if (opened++ >= HEADERS_MOST || open_listed(l, i, &f, &path, NULL) != SLM_OK)
                continue;
            arena_init(&a, &l->c->hooks, 0);
            if (prefix_header_read(kind, &f, &l->c->hooks, &a, &x, NULL) == SLM_OK &&
                x.slot == slot && x.key[0] == key[0] && x.key[1] == key[1])
                note_pieces(&x, ids, n, (uint32_t)i, pieces);
            arena_free(&a);
            infile_close(&f);
            mem_free(&l->c->hooks, path);
        }
        if (n - slot * KV_PAGE >= KV_PAGE)
            prefix_key_next(key, ids + slot * KV_PAGE);
    }
}

static struct prefix_piece *pieces_for(const struct prefix_cache *c, uint32_t n) {
    return mem_zalloc(&c->hooks, (size_t)(n / KV_PAGE + 1) * KV_CLASSES,
                      sizeof(struct prefix_piece));
}

/* ------------------------------------------------------------------ bringing it in */

/* The file that pieces are read from; it stays open while it is the same. */
struct source {
    struct listing *l;
    uint32_t file;
    struct infile f;
    char *path; /* NULL: none is open */
};

static void close_source(struct source *s) {
    if (s->path == NULL)
        return;
    infile_close(&s->f);
    mem_free(&s->l->c->hooks, s->path);
    s->path = NULL;
}

static slm_err read_piece(struct source *s, enum kv_class k, const struct prefix_piece *p,
                          uint32_t page) {
    if (s->path == NULL || s->file != p->file) {
        close_source(s);
        TRY(open_listed(s->l, p->file, &s->f, &s->path, NULL));
        s->file = p->file;
    }
    slm_err err = prefix_piece_read(s->l->c->pool, &s->f, k, p, page, NULL);
    if (err == SLM_E_CHECKSUM) /* the header is ours and whole, the page is not: save it anew */
        (void)file_remove(s->path);
    return err;
}

/* Gives the node its page with `rows` rows from the folder, unless it has one. */
static bool bring_page(struct source *s, uint32_t node, enum kv_class k,
                       const struct prefix_piece *p, uint32_t rows) {
    struct prefix_cache *c = s->l->c;
    c->nodes[node].used[k] = c->clock;
    if (c->nodes[node].rows[k] >= rows)
        return true;
    uint32_t page = p->good >= rows ? kv_page_take(c->pool, k) : KV_NO_PAGE;
    if (page == KV_NO_PAGE)
        return false;
    bool ok = read_piece(s, k, p, page) == SLM_OK;
    if (ok)
        prefix_give(c, node, k, page, rows);
    kv_page_drop(c->pool, k, page);
    return ok;
}

/* Walks down to position `end`, guarding what is there; with a source, fills in what is not. */
static bool bring(struct prefix_cache *c, struct source *s, const struct prefix_piece *pieces,
                  const int32_t *ids, uint32_t end, bool long_rope) {
    uint32_t at = long_rope, needed = prefix_first_needed(c, end);
    for (uint32_t slot = 0; slot * KV_PAGE < end; slot++) {
        uint32_t left = end - slot * KV_PAGE, rows = left < KV_PAGE ? left : KV_PAGE;
        const struct prefix_piece *p = pieces + (size_t)slot * KV_CLASSES;
        at = prefix_step(c, at, ids + slot * KV_PAGE, rows);
        if (at == NO_NODE)
            return false;
        if (slot >= needed)
            c->nodes[at].used[KV_SLIDING] = c->clock;
        if (s == NULL)
            continue;
        if ((c->has[KV_FULL] && !bring_page(s, at, KV_FULL, &p[KV_FULL], rows)) ||
            (slot >= needed && c->has[KV_SLIDING] &&
             !bring_page(s, at, KV_SLIDING, &p[KV_SLIDING], rows)))
            return false;
    }
    return true;
}

bool prefix_load(struct prefix_cache *c, const int32_t *ids, uint32_t n, bool long_rope,
                 uint32_t have) {
    struct listing l;
    struct prefix_kind kind = prefix_kind_of(c, long_rope);
    struct prefix_piece *pieces = NULL;
    bool brought = false;
    if (list_folder(c, &l, NULL) == SLM_OK && l.n > 0 && (pieces = pieces_for(c, n)) != NULL) {
        survey(&l, &kind, ids, n, pieces);
        uint32_t end = prefix_usable_with(c, ids, n, long_rope, pieces);
        if (end > have) {
            struct source s = { .l = &l };
            c->guarded = c->clock;
            brought = bring(c, NULL, pieces, ids, end, long_rope);
            if (brought) /* as far as the pool has pages */
                (void)bring(c, &s, pieces, ids, end, long_rope);
            c->guarded = 0;
            close_source(&s);
            mark_wanted(&l, pieces, (end + KV_PAGE - 1) / KV_PAGE);
        }
    }
    mem_free(&c->hooks, pieces);
    mem_free(&c->hooks, l.list);
    return brought;
}

/* ------------------------------------------------------------------ adding */

struct stale {
    struct prefix_cache *c;
    int64_t before;
};

/* What a process that died left behind: a name of ours, and ".tmp" after it. */
static bool remove_stale(void *user, const struct folder_entry *e) {
    const struct stale *s = user;
    char name[PREFIX_NAME];
    if (strlen(e->name) < PREFIX_NAME + 3 || strncmp(e->name + PREFIX_NAME - 1, ".tmp", 4) != 0 ||
        e->used >= s->before)
        return true;
    memcpy(name, e->name, PREFIX_NAME - 1);
    name[PREFIX_NAME - 1] = '\0';
    char *path = is_ours(name) ? path_join(&s->c->hooks, s->c->o.folder, e->name) : NULL;
    if (path != NULL)
        (void)file_remove(path);
    mem_free(&s->c->hooks, path);
    return true;
}

/* Makes room for so many bytes; the files of the sequence at hand stay. */
static slm_err make_room(struct listing *l, const struct prefix_piece *pieces, uint32_t n_slots,
                         uint64_t bytes, slm_why *why) {
    uint64_t limit = l->c->o.disk_bytes;
    if (bytes > limit)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                    "%llu bytes to keep, the folder may hold %llu", (unsigned long long)bytes,
                    (unsigned long long)limit);
    for (uint32_t i = 0; i < n_slots * KV_CLASSES; i++)
        if (pieces[i].rows > 0)
            l->list[pieces[i].file].wanted = true;
    while (l->bytes > limit - bytes) {
        size_t oldest = l->n;
        for (size_t i = 0; i < l->n; i++)
            if (!l->list[i].wanted && l->list[i].size > 0 &&
                (oldest == l->n || l->list[i].used < l->list[oldest].used))
                oldest = i;
        if (oldest == l->n)
            return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                        "%llu bytes to keep beside %llu of the same sequence, the folder may hold "
                        "%llu",
                        (unsigned long long)bytes, (unsigned long long)l->bytes,
                        (unsigned long long)limit);
        remove_listed(l, oldest);
        l->bytes -= l->list[oldest].size;
        l->list[oldest].size = 0;
    }
    return SLM_OK;
}

/* Where rows of a sequence's pages are missing in the folder: the first such slot, or n_slots. */
static uint32_t first_missing(const struct prefix_cache *c, const struct prefix_piece *pieces,
                              uint32_t n, uint32_t n_slots) {
    uint32_t needed = prefix_first_needed(c, n);
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        uint32_t left = n - slot * KV_PAGE, rows = left < KV_PAGE ? left : KV_PAGE;
        const struct prefix_piece *p = &pieces[slot * KV_CLASSES];
        if ((c->has[KV_FULL] && p[KV_FULL].good < rows) ||
            (c->has[KV_SLIDING] && slot >= needed && p[KV_SLIDING].good < rows))
            return slot;
    }
    return n_slots;
}

/* Fills in x->pieces: what of the sequence goes into the file, where, with which hash. */
static void place_pieces(const struct prefix_cache *c, const struct kv *kv,
                         const struct prefix_kind *kind, const struct prefix_piece *there,
                         struct prefix_header *x) {
    uint64_t at = (prefix_header_size(x->n_ids) + ALIGN - 1) / ALIGN * ALIGN;
    uint32_t needed = prefix_first_needed(c, kv->length);
    for (uint32_t i = 0; i < x->n_slots; i++)
        for (unsigned k = 0; k < KV_CLASSES; k++) {
            uint32_t slot = x->slot + i, left = x->n_ids - i * KV_PAGE,
                     rows = left < KV_PAGE ? left : KV_PAGE, page = kv->pages[k][slot];
            struct prefix_piece *p = &x->pieces[i * KV_CLASSES + k];
            *p = (struct prefix_piece){ .rows = 0 };
            if (!c->has[k] || page == KV_NO_PAGE || there[slot * KV_CLASSES + k].good >= rows ||
                (k == KV_SLIDING && slot < needed))
                continue;
            p->rows = rows;
            p->offset = at;
            prefix_piece_hash(c->pool, (enum kv_class)k, page, rows, p->hash);
            at += (prefix_piece_bytes(kind, (enum kv_class)k, rows) + ALIGN - 1) / ALIGN * ALIGN;
        }
    x->file_size = at;
}

struct writing {
    struct outfile *f;
    slm_why *why;
};

static slm_err write_part(void *user, const void *data, size_t n) {
    struct writing *w = user;
    return outfile_write(w->f, data, n, w->why);
}

static slm_err pad_to(struct writing *w, uint64_t at) {
    static const uint8_t zeros[ALIGN];
    uint64_t n = at - outfile_size(w->f);
    return n > 0 ? outfile_write(w->f, zeros, (size_t)n, w->why) : SLM_OK;
}

static slm_err write_file(const struct prefix_cache *c, const struct kv *kv, const char *path,
                          const struct buf *header, const struct prefix_header *x, slm_why *why) {
    struct writing w = { .why = why };
    TRY(outfile_open_cache(&c->hooks, path, &w.f, why));
    slm_err err = outfile_write(w.f, header->data, header->len, why);
    for (uint32_t i = 0; i < x->n_slots * KV_CLASSES && err == SLM_OK; i++) {
        const struct prefix_piece *p = &x->pieces[i];
        enum kv_class k = (enum kv_class)(i % KV_CLASSES);
        if (p->rows == 0)
            continue;
        err = pad_to(&w, p->offset);
        if (err == SLM_OK)
            err = prefix_piece_walk(c->pool, k, kv->pages[k][x->slot + i / KV_CLASSES], p->rows,
                                    write_part, &w);
    }
    if (err == SLM_OK)
        err = pad_to(&w, x->file_size);
    slm_err closed = outfile_close(w.f, err == SLM_OK, why);
    return err != SLM_OK ? err : closed;
}

/* A file for what is missing from slot `first` on. */
static slm_err save_from(struct listing *l, const struct prefix_kind *kind, const int32_t *ids,
                         const struct kv *kv, const struct prefix_piece *there, uint32_t first,
                         slm_why *why) {
    struct prefix_cache *c = l->c;
    uint32_t n = kv->length, n_slots = (n + KV_PAGE - 1) / KV_PAGE;
    struct prefix_header x = { .slot = first,
                               .n_ids = n - first * KV_PAGE,
                               .n_slots = n_slots - first };
    struct buf header;
    char name[PREFIX_NAME], *path = NULL;
    uint64_t hash[2];
    if (prefix_header_size(x.n_ids) == 0)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "%u positions are too many for one file",
                    x.n_ids);
    prefix_key_start(kind, x.key);
    for (uint32_t i = 0; i < first; i++)
        prefix_key_next(x.key, ids + i * KV_PAGE);
    x.ids = (int32_t *)(uintptr_t)(ids + first * KV_PAGE); /* only read */
    x.pieces = mem_alloc(&c->hooks, (size_t)x.n_slots * KV_CLASSES, sizeof *x.pieces);
    if (x.pieces == NULL)
        return fail_nomem(why, "a table of pages", x.n_slots * KV_CLASSES * sizeof *x.pieces);
    place_pieces(c, kv, kind, there, &x);
    buf_init(&header, &c->hooks, PREFIX_HEADER_MAX);
    prefix_header_put(kind, &x, &header);
    slm_err err = header.err != SLM_OK ? fail_nomem(why, "a header", prefix_header_size(x.n_ids))
                                       : make_room(l, there, n_slots, x.file_size, why);
    if (err == SLM_OK) {
        key_text(x.key, name);
        hash_bytes(header.data, header.len, 0, hash);
        snprintf(name + 32, sizeof name - 32, "-%016llx%s", (unsigned long long)hash[0],
                 PREFIX_SUFFIX);
        path = path_join(&c->hooks, c->o.folder, name);
        err = path != NULL ? write_file(c, kv, path, &header, &x, why)
                           : fail_nomem(why, "a file name", sizeof name);
    }
    mem_free(&c->hooks, path);
    buf_free(&header);
    mem_free(&c->hooks, x.pieces);
    return err;
}

slm_err prefix_save(struct prefix_cache *c, const int32_t *ids, const struct kv *kv, slm_why *why) {
    uint32_t n = kv->length, n_slots = n / KV_PAGE + (n % KV_PAGE > 0);
    struct listing l;
    if (c->o.folder == NULL || n == 0)
        return SLM_OK;
    struct prefix_kind kind = prefix_kind_of(c, kv->long_rope == 1);
    struct prefix_piece *there = pieces_for(c, n);
    if (there == NULL)
        return fail_nomem(why, "a table of pages", n / KV_PAGE * sizeof *there);
    slm_err err = list_folder(c, &l, why);
    if (err == SLM_OK) {
        survey(&l, &kind, ids, n, there);
        uint32_t first = first_missing(c, there, n, n_slots);
        if (first < n_slots)
            err = save_from(&l, &kind, ids, kv, there, first, why);
        mark_wanted(&l, there, n_slots);
        struct stale s = { .c = c, .before = clock_utc_ns() - STALE * 1000000000 };
        (void)folder_each(c->o.folder, FOLDER_MOST, remove_stale, &s, NULL);
    }
    mem_free(&c->hooks, l.list);
    mem_free(&c->hooks, there);
    return err;
}
