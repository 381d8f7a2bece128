/* tensors.c - opens whatever holds tensors: finds out what a file is from its first bytes, reads it,
 * and keeps the sorted list.
 *
 * In:  a path, or files of the caller's memory.   Out: struct tensors.
 * Other people's formats that end up in model folders are refused by their name, with the way out. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "format/format_internal.h"

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
#define ARENA_BASE ((size_t)32 << 20) /* half of the 64 MiB; lists that grow take the rest */
#define ARENA_PER_BYTE 2              /* likewise of 4 */

const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

/* ---- sources ---- */

static const struct slm_memory_file *find_memory(const struct source *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->files[i].name, name) == 0)
            return &s->files[i];
    return NULL;
}

slm_err source_has(const struct source *s, const struct slm_hooks *h, const char *name, bool *has,
                   slm_why *why) {
    if (s->dir == NULL) {
        *has = find_memory(s, name) != NULL;
        return SLM_OK;
    }
    char *path = path_join(h, s->dir, name);
    if (path == NULL)
        return fail_nomem(why, "a path", strlen(s->dir) + strlen(name) + 2);
    *has = file_exists(path);
    mem_free(h, path);
    return SLM_OK;
}

/* Its size may count against the memory that is spent on the container. */
static void raise_ceiling(struct tensors *t, size_t size) {
    size_t more;
    if (!mul_ok(size, ARENA_PER_BYTE, &more) ||
        !add_ok(t->arena.limit_bytes, more, &t->arena.limit_bytes))
        t->arena.limit_bytes = SIZE_MAX;
}

static slm_err map_path(struct tensors *t, const char *path, struct tensor_file *out,
                        slm_why *why) {
    *out = (struct tensor_file){ 0 };
    out->path = arena_strdup(&t->arena, path, strlen(path));
    if (out->path == NULL)
        return fail_nomem(why, "a path", strlen(path) + 1);
    TRY(file_map(path, &out->map, why));
    raise_ceiling(t, out->map.size);
    return SLM_OK;
}

static slm_err map_memory(struct tensors *t, const struct slm_memory_file *f, struct tensor_file *out,
                          slm_why *why) {
    *out = (struct tensor_file){ 0 };
    out->path = arena_strdup(&t->arena, f->name, strlen(f->name));
    if (out->path == NULL)
        return fail_nomem(why, "a file name", strlen(f->name) + 1);
    out->map = (struct mapping){ .data = f->data, .size = f->size };
    raise_ceiling(t, f->size);
    return SLM_OK;
}

slm_err source_map(const struct source *s, struct tensors *t, const char *name,
                   struct tensor_file *out, slm_why *why) {
    if (s->dir == NULL) {
        const struct slm_memory_file *f = find_memory(s, name);
        if (f == NULL)
            return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "no file '%s'", name);
        return map_memory(t, f, out, why);
    }
    char *path = path_join(t->hooks, s->dir, name);
    if (path == NULL)
        return fail_nomem(why, "a path", strlen(s->dir) + strlen(name) + 2);
    slm_err err = map_path(t, path, out, why);
    mem_free(t->hooks, path);
    return err;
}

/* ---- the list ---- */

struct tensor_info *tensors_add(struct tensors *t) {
    if (t->n == t->cap) {
        uint32_t cap = t->cap == 0 ? 64 : t->cap * 2; /* n is at most MAX_TENSORS: no wrap */
        struct tensor_info *list = mem_resize(t->hooks, t->list, cap, sizeof *list);
        if (list == NULL)
            return NULL;
        t->list = list;
        t->cap = cap;
    }
    struct tensor_info *x = &t->list[t->n++];
    memset(x, 0, sizeof *x);
    return x;
}

static int compare_names(const void *a, const void *b) {
    const struct tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

slm_err tensors_sort(struct tensors *t, slm_why *why) {
    sort_items(t->list, t->n, sizeof *t->list, compare_names);
    for (uint32_t i = 1; i < t->n; i++) {
        const struct tensor_info *a = &t->list[i - 1], *b = &t->list[i];
        if (strcmp(a->name, b->name) == 0)
            return fail(why, SLM_E_FORMAT, a->offset > b->offset ? a->offset : b->offset,
                        "tensor '%s' occurs twice: at byte %" PRIu64 " of '%s' and %" PRIu64
                        " of '%s'",
                        a->name, a->offset, base_name(t->files[a->file].path), b->offset,
                        base_name(t->files[b->file].path));
    }
    return SLM_OK;
}

const struct tensor_info *tensors_find(const struct tensors *t, const char *name) {
    uint32_t low = 0, high = t->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, t->list[middle].name);
        if (order == 0)
            return &t->list[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- what a file is ---- */

struct magic {
    const char *bytes;
    size_t n;
    slm_err code;
    const char *what;
};
#define MAGIC(s, code, what)                                                                       \
    { s, sizeof s - 1, code, what }
static const struct magic strangers[] = {
    MAGIC("PK\x03\x04", SLM_E_UNSUPPORTED,
          "is a zip archive, as PyTorch's .bin and .pt files are; pickles can run code when they "
          "are loaded, so only "
          "safetensors and GGUF are read"),
    MAGIC("\x80\x02", SLM_E_UNSUPPORTED,
          "is a Python pickle; pickles can run code when they are loaded, so only safetensors and "
          "GGUF are read"),
    MAGIC("\x80\x04", SLM_E_UNSUPPORTED,
          "is a Python pickle; pickles can run code when they are loaded, so only safetensors and "
          "GGUF are read"),
    MAGIC("lmgg", SLM_E_UNSUPPORTED, "is a GGML file, older than GGUF; convert it to GGUF"),
    MAGIC("fmgg", SLM_E_UNSUPPORTED, "is a GGMF file, older than GGUF; convert it to GGUF"),
    MAGIC("tjgg", SLM_E_UNSUPPORTED, "is a GGJT file, older than GGUF; convert it to GGUF"),
    MAGIC("algg", SLM_E_UNSUPPORTED, "is a GGLA adapter, older than GGUF; convert it to GGUF"),
    MAGIC("\x89HDF", SLM_E_UNSUPPORTED, "is an HDF5 file; only safetensors and GGUF are read"),
    MAGIC("\x93NUMPY", SLM_E_UNSUPPORTED,
          "is a NumPy array; only safetensors and GGUF hold models"),
    MAGIC("\x1f\x8b", SLM_E_UNSUPPORTED, "is compressed with gzip; decompress it first"),
    MAGIC("\x28\xb5\x2f\xfd", SLM_E_UNSUPPORTED, "is compressed with zstd; decompress it first"),
    MAGIC("version https://git-lfs", SLM_E_FORMAT,
          "is a Git LFS pointer, not the weights themselves; fetch them with git lfs pull"),
    MAGIC("<!DOCTYPE", SLM_E_FORMAT, "is a web page, not weights: the download went wrong"),
    MAGIC("<html", SLM_E_FORMAT, "is a web page, not weights: the download went wrong"),
    MAGIC("{", SLM_E_UNSUPPORTED, "is JSON, not weights; give the folder that it is in"),
};

static bool starts_with(const struct mapping *m, const char *bytes, size_t n) {
    return m->size >= n && memcmp(m->data, bytes, n) == 0;
}

static slm_err refuse_stranger(const struct mapping *m, slm_why *why) {
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
        if (starts_with(m, strangers[i].bytes, strangers[i].n))
            return fail(why, strangers[i].code, 0, "%s", strangers[i].what);
    char hex[3 * 8 + 1] = "";
    size_t n = m->size < 8 ? m->size : 8;
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 3 * i, sizeof hex - 3 * i, " %02x", m->data[i]);
    return fail(why, SLM_E_FORMAT, 0, "neither GGUF nor safetensors: %zu bytes that begin with%s",
                m->size, n > 0 ? hex : " nothing");
}

/* Reads files[0], which is mapped. A header length cannot look like another magic: as numbers all
 * of them exceed the ceiling for headers, but for the shortest, so '{' at byte 8 decides first. */
static slm_err read_single(struct tensors *t, bool numbers, slm_why *why) {
    const struct mapping *m = &t->files[0].map;
    slm_err err;
    if (starts_with(m, "GGUF", 4))
        err = gguf_read(t, 0, why);
    else if (m->size > 8 && m->data[8] == '{')
        err = safetensors_read(t, 0, numbers, why);
    else
        err = refuse_stranger(m, why);
    if (err == SLM_OK)
        err = tensors_sort(t, why);
    return err != SLM_OK ? fail_prefix(why, err, "%s", base_name(t->files[0].path)) : SLM_OK;
}

/* ---- opening ---- */

static slm_err tensors_new(const struct slm_hooks *h, struct tensors **out, slm_why *why) {
    struct tensors *t = mem_zalloc(h, 1, sizeof *t);
    if (t == NULL)
        return fail_nomem(why, "a container", sizeof *t);
    t->hooks = h;
    arena_init(&t->arena, h, ARENA_BASE);
    *out = t;
    return SLM_OK;
}

static slm_err one_file(struct tensors *t, slm_why *why) {
    t->files = arena_zalloc(&t->arena, 1, sizeof *t->files);
    return t->files != NULL ? SLM_OK : fail_nomem(why, "a file", sizeof *t->files);
}

static slm_err open_single(struct tensors *t, const struct source *s, const char *name,
                           slm_why *why) {
    TRY(one_file(t, why));
    TRY(source_map(s, t, name, &t->files[0], why));
    t->n_files = 1;
    return read_single(t, s->numbers, why);
}

/* Weights that are there, but in a form that slm refuses, are worth a better sentence. */
static slm_err refuse_folder(const struct tensors *t, const struct source *s, slm_why *why) {
    static const char *const pickles[] = { "pytorch_model.bin", "pytorch_model.bin.index.json",
                                           "model.pt", "consolidated.00.pth" };
    const char *dir = s->dir != NULL ? s->dir : "memory";
    for (size_t i = 0; i < ARRAY_LEN(pickles); i++) {
        bool has = false;
        TRY(source_has(s, t->hooks, pickles[i], &has, why));
        if (has)
            return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "'%s' has its weights in '%s', a PyTorch pickle; pickles can run code when "
                        "they are loaded, so "
                        "only safetensors and GGUF are read",
                        dir, pickles[i]);
    }
    return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "'%s' has neither %s nor %s", dir, SINGLE_NAME,
                INDEX_NAME);
}

static slm_err open_folder(struct tensors *t, const struct source *s, slm_why *why) {
    bool single = false, sharded = false;
    TRY(source_has(s, t->hooks, SINGLE_NAME, &single, why));
    if (single)
        return open_single(t, s, SINGLE_NAME, why);
    TRY(source_has(s, t->hooks, INDEX_NAME, &sharded, why));
    if (sharded)
        return shards_read(t, s, INDEX_NAME, why);
    return refuse_folder(t, s, why);
}

static slm_err open_path(struct tensors *t, const char *path, bool numbers, slm_why *why) {
    if (dir_exists(path)) {
        struct source s = { .dir = path, .numbers = numbers };
        return open_folder(t, &s, why);
    }
    TRY(one_file(t, why));
    TRY(map_path(t, path, &t->files[0], why));
    t->n_files = 1;
    return read_single(t, numbers, why);
}

static slm_err open_files(struct tensors *t, const struct source *s, slm_why *why) {
    if (s->n == 1)
        return open_single(t, s, s->files[0].name, why);
    for (size_t i = 0; i < s->n; i++)
        if (s->files[i].size >= 4 && memcmp(s->files[i].data, "GGUF", 4) == 0)
            return open_single(t, s, s->files[i].name, why);
    return open_folder(t, s, why);
}

static slm_err finish(struct tensors *t, slm_err err, struct tensors **out) {
    if (err == SLM_OK)
        *out = t;
    else
        tensors_close(t);
    return err;
}

slm_err tensors_open(const struct slm_hooks *h, const char *path, struct tensors **out,
                     slm_why *why) {
    struct tensors *t = NULL;
    *out = NULL;
    TRY(tensors_new(h, &t, why));
    return finish(t, open_path(t, path, false, why), out);
}

slm_err tensors_open_numbers(const struct slm_hooks *h, const char *path, struct tensors **out,
                             slm_why *why) {
    struct tensors *t = NULL;
    *out = NULL;
    TRY(tensors_new(h, &t, why));
    return finish(t, open_path(t, path, true, why), out);
}

slm_err tensors_open_memory(const struct slm_hooks *h, const struct slm_memory_file *files, size_t n,
                            struct tensors **out, slm_why *why) {
    struct tensors *t = NULL;
    *out = NULL;
    if (n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "no files: 0 given, at least 1 is needed");
    TRY(tensors_new(h, &t, why));
    struct source s = { .files = files, .n = n };
    return finish(t, open_files(t, &s, why), out);
}

void tensors_close(struct tensors *t) {
    if (t == NULL)
        return;
    for (uint32_t i = 0; i < t->n_files; i++)
        file_unmap(&t->files[i].map);
    mem_free(t->hooks, t->list);
    arena_free(&t->arena);
    mem_free(t->hooks, t);
}
