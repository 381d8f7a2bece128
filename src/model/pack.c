/* pack.c - a net out of a file: bound, and its matrices packed into panels or found packed.
 *
 * In:  tensors, facts, and perhaps a folder of packed files.     Out: struct net.
 * The panels of all matrices stand one after another, the same in memory and in a packed file, and
 * are filled in blocks by all threads. Where they are kept in a file, a block is packed into a buffer
 * of its thread, hashed and written, and in the end the file is mapped: there is one kind of memory
 * whether the file was there or not, and nobody pays for panels in memory besides the file's.
 * Pages of the model file are asked for ahead and dropped behind, so that it is never in memory
 * beside its copy. No file of panels is an error: it costs the next start some time, and is noted. */
#include "model/pack.h"

#include <stdio.h>
#include <string.h>

#include "base/bigfile.h"
#include "base/pages.h"

#define SMALL 65536 /* bytes of a tensor that is read whole in any case: a norm */
#define END 4096    /* bytes at both ends of a larger one, for its identity */
#define AHEAD 8     /* blocks whose pages of the model file are asked for before they are packed */

/* A matrix that is packed, and where. */
struct item {
    struct matrix plain;
    struct matrix *to;
    const struct mapping *map;
    const uint32_t *row_map; /* [rows] row of the file, NULL: as they stand */
    uint64_t offset;         /* in the panels */
};
struct packer {
    struct net *net;
    const struct net_options *o;
    struct item *items; /* [n] by ascending offset, without gaps */
    uint32_t n;
    uint32_t *maps[2]; /* orders of rows: one for q, one for k */
    size_t panel_most; /* bytes of the largest panel */
    uint8_t *memory;   /* [packed_bytes], or NULL and then */
    struct bigfile *file;
    uint64_t file_offset;    /* of the panels in the file */
    uint64_t (*hashes)[2];   /* of blocks */
    uint8_t *buffers;        /* of threads, buffer_bytes each */
    size_t buffer_bytes;
    uint32_t n_blocks;
    struct ticket ticket;
    _Atomic uint64_t done;
    atomic_bool stop, cancelled;
};

static void note(const struct net *net, enum slm_log_level level, const char *what,
                 const slm_why *why) {
    char line[sizeof why->message + 96];
    if (net->hooks == NULL || net->hooks->log == NULL)
        return;
    snprintf(line, sizeof line, "%s: %s", what, why->message);
    net->hooks->log(net->hooks->user, level, line);
}

/* ------------------------------------------------------------------ what is packed */

/* Row r of the matrix is row map[r] of the file: the first half of a head's rows stands at even
 * places, the second at odd ones. */
static uint32_t *make_row_map(const struct slm_hooks *h, uint32_t rows, uint32_t heads) {
    uint32_t *map = mem_alloc(h, rows, sizeof *map), d = rows / heads;
    for (uint32_t r = 0; map != NULL && r < rows; r++) {
        uint32_t head = r / d, i = r % d;
        map[r] = head * d + (i < d / 2 ? 2 * i : 2 * (i - d / 2) + 1);
    }
    return map;
}

/* The order depends on the number of heads alone: q has one, k and v another or the same. */
static slm_err order_rows(struct packer *p, struct item *item, uint32_t heads, slm_why *why) {
    uint32_t **map = &p->maps[heads == p->net->m->heads ? 0 : 1];
    if (*map == NULL && (*map = make_row_map(p->net->hooks, item->plain.rows, heads)) == NULL)
        return fail_nomem(why, "order of rows", item->plain.rows * sizeof **map);
    item->row_map = *map;
    return SLM_OK;
}

static slm_err list_items(struct packer *p, const struct tensors *t, const struct bindings *b,
                          slm_why *why) {
    uint64_t at = 0;
    p->items = mem_zalloc(p->net->hooks, b->n, sizeof *p->items);
    if (p->items == NULL)
        return fail_nomem(why, "list of matrices", b->n * sizeof *p->items);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct binding *x = &b->list[i];
        size_t row_bytes = 0;
        if (x->file == NULL)
            continue;
        struct item *item = &p->items[p->n++];
        *item = (struct item){ .to = x->matrix, .map = &t->files[x->file->file].map, .offset = at };
        dtype_row_bytes(x->matrix->dtype, x->matrix->cols, &row_bytes);
        matrix_plain(&item->plain, x->matrix->dtype, x->matrix->rows, x->matrix->cols,
                     x->file->data + x->first_row * row_bytes);
        if (x->permuted_heads > 0)
            TRY(order_rows(p, item, x->permuted_heads, why));
        if (item->to->panel_bytes > p->panel_most)
            p->panel_most = item->to->panel_bytes;
        at += matrix_bytes(item->to);
    }
    p->n_blocks = (uint32_t)((p->net->packed_bytes + PACK_BLOCK - 1) / PACK_BLOCK);
    return SLM_OK;
}

/* ------------------------------------------------------------------ a range of the panels */

/* The item that holds byte `at` of the panels. */
static uint32_t item_at(const struct packer *p, uint64_t at) {
    uint32_t low = 0, high = p->n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (p->items[middle].offset <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Panels of an item that begin in [begin, end) of all panels; overlapping: or before, and reach into
 * it. Returns how many. */
static uint32_t panels_in(const struct item *x, uint64_t begin, uint64_t end, bool overlapping,
                          uint32_t *first) {
    uint64_t bytes = x->to->panel_bytes, from = begin > x->offset ? begin - x->offset : 0;
    uint64_t to = end > x->offset ? end - x->offset : 0, all = matrix_panels(x->to);
    from = overlapping ? from / bytes : (from + bytes - 1) / bytes;
    to = (to + bytes - 1) / bytes;
    to = to < all ? to : all;
    *first = (uint32_t)(from < to ? from : to);
    return (uint32_t)(to - *first);
}

/* Packs panels [first, first + n) to `to`. */
static void pack_panels(const struct packer *p, const struct item *x, uint32_t first, uint32_t n,
                        uint8_t *to) {
    struct matrix from = x->plain, panels = *x->to;
    uint32_t skip = first * PANEL_ROWS;
    panels.rows -= skip;
    if (x->row_map == NULL)
        from.data += skip * from.row_bytes;
    matrix_pack(p->net->kernels, &from, &panels, to, 0, n,
                x->row_map != NULL ? x->row_map + skip : NULL);
}

typedef void advise_fn(const struct mapping *m, size_t offset, size_t size);

/* Advice on the rows of the file that the panels of [begin, end) come from. Rows in another order
 * have no range that is their panels' alone. */
static void advise_range(const struct packer *p, uint64_t begin, uint64_t end, advise_fn *advise) {
    if (end > p->net->packed_bytes)
        end = p->net->packed_bytes;
    if (begin >= end)
        return;
    for (uint32_t i = item_at(p, begin); i < p->n && p->items[i].offset < end; i++) {
        const struct item *x = &p->items[i];
        uint32_t first, n = panels_in(x, begin, end, false, &first);
        uint64_t row = (uint64_t)first * PANEL_ROWS, stop = row + (uint64_t)n * PANEL_ROWS;
        stop = stop < x->plain.rows ? stop : x->plain.rows;
        if (n > 0 && x->row_map == NULL)
            advise(x->map, (size_t)(x->plain.data - x->map->data) + row * x->plain.row_bytes,
                   (stop - row) * x->plain.row_bytes);
    }
}

/* Packs what is needed for [begin, end). To memory: the panels that begin there, at their places.
 * To a buffer: all that reach into it; returns where in the buffer byte `begin` is. */
static uint8_t *pack_range(const struct packer *p, uint64_t begin, uint64_t end, uint8_t *buffer) {
    uint64_t origin = 0; /* byte of the panels that stands at the target's begin */
    uint8_t *to = buffer != NULL ? buffer : p->memory;
    bool known = buffer == NULL;
    for (uint32_t i = item_at(p, begin); i < p->n && p->items[i].offset < end; i++) {
        const struct item *x = &p->items[i];
        uint32_t first, n = panels_in(x, begin, end, buffer != NULL, &first);
        uint64_t at = x->offset + (uint64_t)first * x->to->panel_bytes;
        if (!known)
            origin = at;
        known = true;
        if (n > 0)
            pack_panels(p, x, first, n, to + (at - origin));
    }
    return buffer != NULL ? buffer + (begin - origin) : NULL;
}

/* ------------------------------------------------------------------ all of them */

static bool go_on(struct packer *p, uint64_t more) {
    uint64_t done = atomic_fetch_add(&p->done, more) + more;
    if (p->o->progress == NULL || p->o->progress(p->o->user, done, p->net->packed_bytes))
        return true;
    atomic_store(&p->cancelled, true);
    return false;
}

static void pack_blocks(void *arg, unsigned index, unsigned count) {
    struct packer *p = arg;
    uint8_t *buffer =
        p->file != NULL ? p->buffers + index * p->buffer_bytes : NULL;
    (void)count;
    for (unsigned i; !atomic_load(&p->stop) && (i = ticket_take(&p->ticket, 1)) < p->n_blocks;) {
        uint64_t begin = i * PACK_BLOCK, end = begin + PACK_BLOCK;
        end = end < p->net->packed_bytes ? end : p->net->packed_bytes;
        advise_range(p, begin + AHEAD * PACK_BLOCK, end + AHEAD * PACK_BLOCK, file_want);
        uint8_t *data = pack_range(p, begin, end, buffer);
        if (buffer != NULL) {
            packed_block_hash(data, (size_t)(end - begin), p->hashes[i]);
            if (!bigfile_write(p->file, p->file_offset + begin, data, (size_t)(end - begin)))
                atomic_store(&p->stop, true);
        }
        advise_range(p, begin, end, file_drop);
        if (index == 0 && !go_on(p, end - begin)) /* told by the caller's own thread */
            atomic_store(&p->stop, true);
        else if (index != 0)
            atomic_fetch_add(&p->done, end - begin);
    }
}

static slm_err pack_all(struct packer *p, slm_why *why) {
    for (uint32_t i = 0; i < p->n; i++)
        file_neighbours(p->items[i].map, true);
    atomic_store(&p->done, 0);
    atomic_store(&p->stop, false);
    p->ticket = (struct ticket){ 0 };
    if (go_on(p, 0))
        pool_run(p->o->pool, pack_blocks, p);
    for (uint32_t i = 0; i < p->n; i++) /* rows in another order, pages that two blocks share */
        file_drop(p->items[i].map, (size_t)(p->items[i].plain.data - p->items[i].map->data),
                  matrix_bytes(&p->items[i].plain));
    if (!atomic_load(&p->cancelled) && p->o->progress != NULL && !atomic_load(&p->stop))
        p->o->progress(p->o->user, p->net->packed_bytes, p->net->packed_bytes);
    if (atomic_load(&p->cancelled))
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET,
                    "cancelled after %llu of %llu bytes of weights",
                    (unsigned long long)atomic_load(&p->done),
                    (unsigned long long)p->net->packed_bytes);
    return SLM_OK;
}

static slm_err pack_to_memory(struct packer *p, slm_why *why) {
    struct net *net = p->net;
    if (net->packed_bytes > SIZE_MAX ||
        (net->packed = mem_alloc_aligned(net->hooks, (size_t)net->packed_bytes, 1)) == NULL)
        return fail_nomem(why, "packed weights", (size_t)net->packed_bytes);
    pages_size(net->packed, (size_t)net->packed_bytes, true);
    p->memory = net->packed;
    TRY(pack_all(p, why));
    net->packed_from = PACKED_MEMORY;
    return SLM_OK;
}

/* ------------------------------------------------------------------ into a file */

static slm_err write_panels(struct packer *p, const struct packed_file *where, slm_why *why) {
    const struct slm_hooks *h = p->net->hooks;
    p->buffer_bytes = ((size_t)PACK_BLOCK + 2 * p->panel_most + 63) / 64 * 64;
    p->buffers = mem_alloc_aligned(h, pool_size(p->o->pool), p->buffer_bytes);
    p->hashes = mem_zalloc(h, p->n_blocks, sizeof *p->hashes);
    if (p->buffers == NULL || p->hashes == NULL)
        return fail_nomem(why, "packing", p->buffer_bytes);
    TRY(bigfile_open(h, where->path, where->panels_offset + where->panels_bytes, &p->file, why));
    p->file_offset = where->panels_offset;
    slm_err err = pack_all(p, why);
    char *head = err == SLM_OK ? packed_file_head(where, p->hashes) : NULL;
    if (err == SLM_OK && head == NULL)
        err = fail_nomem(why, "header", (size_t)where->head_bytes);
    if (head != NULL)
        bigfile_write(p->file, 0, head, (size_t)where->head_bytes);
    mem_free(h, head);
    slm_err closed =
        bigfile_close(p->file, err == SLM_OK, &p->net->packed_file, err == SLM_OK ? why : NULL);
    p->file = NULL;
    return err != SLM_OK ? err : closed;
}

/* The panels out of a packed file, which is made where there is none. *done stays false when they
 * have to be packed into memory; only a cancelled packing is an error. */
static slm_err use_file(struct packer *p, const struct bindings *b, const struct tensors *t,
                        const struct facts *f, bool *done, slm_why *why) {
    struct net *net = p->net;
    struct packed_file where;
    slm_why reason = { .code = SLM_OK };
    slm_err err = packed_file_of(net, b, t, f, p->o->packed_dir, &where, &reason);
    enum packed_state state = PACKED_ABSENT;
    if (err == SLM_OK)
        state = packed_file_find(&where, p->o->pool, &net->packed_file, &reason);
    if (state == PACKED_DAMAGED)
        note(net, SLM_LOG_WARN, "packing the weights again", &reason);
    if (err == SLM_OK && state != PACKED_GOOD)
        err = write_panels(p, &where, &reason);
    *done = err == SLM_OK;
    if (err == SLM_OK) {
        net->packed_from = state == PACKED_GOOD ? PACKED_CACHED : PACKED_WRITTEN;
        for (uint32_t i = 0; i < p->n; i++)
            p->items[i].to->data = net->packed_file.data + where.panels_offset + p->items[i].offset;
    } else if (err != SLM_E_CANCELLED) { /* another process's file is as good as ours, next time */
        note(net, err == SLM_E_STATE ? SLM_LOG_INFO : SLM_LOG_WARN,
             "the packed weights are not kept", &reason);
    } else if (why != NULL) {
        *why = reason;
    }
    packed_file_free(&where);
    return err == SLM_E_CANCELLED ? err : SLM_OK;
}

/* ------------------------------------------------------------------ what is read of a model whose panels are there */

/* Norms, and both ends of every matrix for the file's identity: some hundred pages here and there. They
 * are asked for together, and without the megabytes around them that the system would read too. */
static void ask_for_ends(const struct tensors *t) {
    for (uint32_t i = 0; i < t->n_files; i++)
        file_neighbours(&t->files[i].map, false);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor_info *x = &t->list[i];
        const struct mapping *map = &t->files[x->file].map;
        size_t at = (size_t)(x->data - map->data), size = (size_t)x->size;
        file_want(map, at, size < SMALL ? size : END);
        if (size >= SMALL)
            file_want(map, at + size - END, END);
    }
}

/* ------------------------------------------------------------------ public */

static bool keeps_panels(const struct tensors *t, const struct net_options *o) {
    return !o->exact && o->packed_dir != NULL && t->n_files > 0 && t->files[0].map.owned;
}

static slm_err pack_net(struct packer *p, const struct bindings *b, const struct tensors *t,
                        const struct facts *f, slm_why *why) {
    struct net *net = p->net;
    bool done = false;
    TRY(list_items(p, t, b, why));
    if (keeps_panels(t, p->o))
        TRY(use_file(p, b, t, f, &done, why));
    if (!done) {
        TRY(pack_to_memory(p, why));
        for (uint32_t i = 0; i < p->n; i++)
            p->items[i].to->data = net->packed + p->items[i].offset;
    }
    if (b->shared)
        net->embed = net->output;
    return SLM_OK;
}

slm_err net_bind(struct net *net, const struct slm_hooks *h, const struct tensors *t,
                 const struct facts *f, const struct net_options *o, slm_why *why) {
    struct bindings b;
    *net = (struct net){ .kernels = o->kernels, .exact = o->exact };
    if (keeps_panels(t, o))
        ask_for_ends(t);
    slm_err err = weights_bind(net, &b, h, t, f, false, why);
    if (err == SLM_OK)
        err = weights_arrange(net, &b, why);
    if (err == SLM_OK && net->packed_bytes > 0) {
        struct packer p = { .net = net, .o = o };
        err = pack_net(&p, &b, t, f, why);
        mem_free_aligned(h, p.buffers);
        mem_free(h, p.hashes);
        mem_free(h, p.maps[0]);
        mem_free(h, p.maps[1]);
        mem_free(h, p.items);
    }
    if (err != SLM_OK)
        net_free(net);
    return err;
}

void net_free(struct net *net) {
    if (net == NULL)
        return;
    mem_free_aligned(net->hooks, net->packed);
    file_unmap(&net->packed_file);
    arena_free(&net->arena);
    *net = (struct net){ 0 };
}
