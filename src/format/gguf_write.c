/* gguf_write.c - writes a GGUF version 3 file: metadata, list of tensors, data, in this order.
 *
 * Layout: see gguf.c. The front part is collected in memory (metadata in one buffer, tensors in a
 * list) and goes out when the first data comes; data is passed through. Data of every tensor is
 * padded to the alignment, the last one too, because llama.cpp reads the padding with the data.
 * What the reader would refuse is refused here, so that no file is written in vain. */
#include <inttypes.h>
#include <string.h>

#include "base/outfile.h"
#include "format/format_internal.h"

struct out_tensor {
    const char *name; /* in the writer's arena */
    enum dtype dtype;
    uint32_t n_dims;
    uint64_t dims[MAX_DIMS]; /* outermost first */
    uint64_t size;
};

struct gguf_writer {
    const struct slm_hooks *hooks;
    struct arena arena;
    struct outfile *file;
    struct buf meta;   /* keys, types and values as they will stand */
    const char **keys; /* [n_kv] */
    uint32_t n_kv, cap_kv;
    struct out_tensor *list; /* [n] in the order of the data */
    uint32_t n, cap;
    uint64_t alignment;
    bool begun;    /* the front part is out */
    uint32_t at;   /* tensor that the next byte of data belongs to */
    uint64_t done; /* bytes of it that came */
    slm_err err;
    slm_why failure;
};

/* The first failure sticks, with its reason. */
static slm_err stick(struct gguf_writer *w, slm_err err) {
    if (w->err == SLM_OK && err != SLM_OK)
        w->err = err;
    return w->err;
}
#define REFUSE(w, code, ...) stick(w, fail(&(w)->failure, code, SLM_NO_OFFSET, __VA_ARGS__))

slm_err gguf_writer_new(const struct slm_hooks *h, const char *path, struct gguf_writer **out,
                        slm_why *why) {
    *out = NULL;
    struct gguf_writer *w = mem_zalloc(h, 1, sizeof *w);
    if (w == NULL)
        return fail_nomem(why, "a writer", sizeof *w);
    w->hooks = h;
    w->alignment = ALIGNMENT_DEFAULT;
    arena_init(&w->arena, h, 0);
    buf_init(&w->meta, h, PTRDIFF_MAX);
    slm_err err = outfile_open(h, path, &w->file, why);
    if (err != SLM_OK) {
        mem_free(h, w);
        return err;
    }
    *out = w;
    return SLM_OK;
}

/* ---- little-endian pieces ---- */

static void put_le(struct buf *b, uint64_t v, size_t n) {
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> (8 * i));
    buf_put(b, bytes, n);
}

static void put_text(struct buf *b, const char *s, size_t n) {
    put_le(b, n, 8);
    buf_put(b, s, n);
}

static uint32_t f32_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* ---- metadata ---- */

/* Opens an entry: key and type. */
static slm_err begin_key(struct gguf_writer *w, const char *key, enum gguf_type type) {
    if (w->err != SLM_OK)
        return w->err;
    if (w->begun)
        return REFUSE(w, SLM_E_STATE, "metadata '%s' after the first data", key);
    const char *fault = name_fault(key, strlen(key));
    if (fault != NULL)
        return REFUSE(w, SLM_E_ARG, "key '%.64s' %s: %zu bytes, from 1 to %d", key, fault,
                      strlen(key), MAX_NAME);
    if (w->n_kv == MAX_KV)
        return REFUSE(w, SLM_E_ARG, "%d metadata entries, at most %d", MAX_KV + 1, MAX_KV);
    if (w->n_kv == w->cap_kv) {
        uint32_t cap = w->cap_kv == 0 ? 64 : w->cap_kv * 2;
        const char **keys = mem_resize(w->hooks, w->keys, cap, sizeof *keys);
        if (keys == NULL)
            return stick(w, fail_nomem(&w->failure, "metadata", cap * sizeof *keys));
        w->keys = keys;
        w->cap_kv = cap;
    }
    const char *copy = arena_strdup(&w->arena, key, strlen(key));
    if (copy == NULL)
        return stick(w, fail_nomem(&w->failure, "metadata", strlen(key) + 1));
    w->keys[w->n_kv++] = copy;
    put_text(&w->meta, key, strlen(key));
    put_le(&w->meta, (uint64_t)type, 4);
    return SLM_OK;
}

static slm_err end_value(struct gguf_writer *w) {
    if (w->meta.err != SLM_OK)
        return stick(w, fail_nomem(&w->failure, "metadata", w->meta.len));
    return w->err;
}

static slm_err set_alignment(struct gguf_writer *w, uint32_t v) {
    if ((v & (v - 1)) != 0 || v < ALIGNMENT_MIN || v > ALIGNMENT_MAX)
        return REFUSE(w, SLM_E_ARG, "%s is %" PRIu32 ", not a power of two from %d to %d",
                      ALIGNMENT_KEY, v, ALIGNMENT_MIN, ALIGNMENT_MAX);
    w->alignment = v;
    return SLM_OK;
}

slm_err gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v) {
    TRY(begin_key(w, key, GGUF_U32));
    if (strcmp(key, ALIGNMENT_KEY) == 0)
        TRY(set_alignment(w, v));
    put_le(&w->meta, v, 4);
    return end_value(w);
}

slm_err gguf_put_f32(struct gguf_writer *w, const char *key, float v) {
    TRY(begin_key(w, key, GGUF_F32));
    put_le(&w->meta, f32_bits(v), 4);
    return end_value(w);
}

slm_err gguf_put_bool(struct gguf_writer *w, const char *key, bool v) {
    TRY(begin_key(w, key, GGUF_BOOL));
    put_le(&w->meta, v, 1);
    return end_value(w);
}

slm_err gguf_put_str(struct gguf_writer *w, const char *key, const char *s, size_t n) {
    TRY(begin_key(w, key, GGUF_STRING));
    put_text(&w->meta, s, n);
    return end_value(w);
}

static slm_err begin_array(struct gguf_writer *w, const char *key, enum gguf_type item,
                           uint64_t count) {
    TRY(begin_key(w, key, GGUF_ARRAY));
    put_le(&w->meta, (uint64_t)item, 4);
    put_le(&w->meta, count, 8);
    return SLM_OK;
}

slm_err gguf_put_raw(struct gguf_writer *w, const struct gguf_value *v) {
    if (strcmp(v->key, ALIGNMENT_KEY) == 0) {
        if (v->type != GGUF_U32)
            return w->err != SLM_OK ? w->err
                                    : REFUSE(w, SLM_E_ARG, "%s is of type %s, not u32", v->key,
                                             gguf_type_name(v->type));
        const uint8_t *p = v->data;
        return gguf_put_u32(w, v->key,
                            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                (uint32_t)p[3] << 24);
    }
    if (v->type == GGUF_STRING)
        return gguf_put_str(w, v->key, (const char *)v->data, (size_t)v->size);
    if (v->type == GGUF_ARRAY)
        TRY(begin_array(w, v->key, v->item, v->count));
    else
        TRY(begin_key(w, v->key, v->type));
    buf_put(&w->meta, v->data, (size_t)v->size);
    return end_value(w);
}

slm_err gguf_put_strs(struct gguf_writer *w, const char *key, const char *const *s, const size_t *n,
                      uint64_t count) {
    TRY(begin_array(w, key, GGUF_STRING, count));
    for (uint64_t i = 0; i < count; i++)
        put_text(&w->meta, s[i], n[i]);
    return end_value(w);
}

slm_err gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, uint64_t count) {
    TRY(begin_array(w, key, GGUF_I32, count));
    for (uint64_t i = 0; i < count; i++)
        put_le(&w->meta, (uint32_t)v[i], 4);
    return end_value(w);
}

slm_err gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, uint64_t count) {
    TRY(begin_array(w, key, GGUF_F32, count));
    for (uint64_t i = 0; i < count; i++)
        put_le(&w->meta, f32_bits(v[i]), 4);
    return end_value(w);
}

/* ---- tensors ---- */

/* size of what dims and type ask for; E_ARG like the reader's E_FORMAT */
static slm_err measure(struct gguf_writer *w, struct out_tensor *x) {
    if (!dtype_supported((uint32_t)x->dtype))
        return REFUSE(w, SLM_E_ARG, "tensor '%s' has type %d, which cannot be written", x->name,
                      (int)x->dtype);
    if (x->n_dims < 1 || x->n_dims > MAX_DIMS)
        return REFUSE(w, SLM_E_ARG, "tensor '%s' has %" PRIu32 " dimensions, not 1 to %d", x->name,
                      x->n_dims, MAX_DIMS);
    uint64_t rows = 1, cols = x->dims[x->n_dims - 1];
    size_t row_bytes = 0, size = 0;
    bool ok = cols > 0 && dtype_row_bytes(x->dtype, cols, &row_bytes);
    for (uint32_t d = 0; d + 1 < x->n_dims; d++)
        ok = ok && x->dims[d] > 0 && mul_u64_ok(rows, x->dims[d], &rows);
    ok = ok && rows <= SIZE_MAX && mul_ok((size_t)rows, row_bytes, &size) && size <= PTRDIFF_MAX;
    if (!ok)
        return REFUSE(w, SLM_E_ARG,
                      "tensor '%s': %" PRIu64 " rows of %" PRIu64 " elements are no %s", x->name,
                      rows, cols, dtype_info((uint32_t)x->dtype)->name);
    x->size = size;
    return SLM_OK;
}

slm_err gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype t, uint32_t n_dims,
                        const uint64_t *dims) {
    if (w->err != SLM_OK)
        return w->err;
    if (w->begun)
        return REFUSE(w, SLM_E_STATE, "tensor '%s' after the first data", name);
    const char *fault = name_fault(name, strlen(name));
    if (fault != NULL)
        return REFUSE(w, SLM_E_ARG, "tensor name '%.64s' %s: %zu bytes, from 1 to %d", name, fault,
                      strlen(name), MAX_NAME);
    if (w->n == MAX_TENSORS)
        return REFUSE(w, SLM_E_ARG, "%d tensors, at most %d", MAX_TENSORS + 1, MAX_TENSORS);
    if (w->n == w->cap) {
        uint32_t cap = w->cap == 0 ? 64 : w->cap * 2;
        struct out_tensor *list = mem_resize(w->hooks, w->list, cap, sizeof *list);
        if (list == NULL)
            return stick(w, fail_nomem(&w->failure, "the list of tensors", cap * sizeof *list));
        w->list = list;
        w->cap = cap;
    }
    struct out_tensor x = { .name = arena_strdup(&w->arena, name, strlen(name)),
                            .dtype = t,
                            .n_dims = n_dims };
    if (x.name == NULL)
        return stick(w, fail_nomem(&w->failure, "a tensor name", strlen(name) + 1));
    if (n_dims >= 1 && n_dims <= MAX_DIMS)
        memcpy(x.dims, dims, n_dims * sizeof *dims);
    TRY(measure(w, &x));
    w->list[w->n++] = x;
    return SLM_OK;
}

static int compare_strings(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* names [n] are sorted in place. */
static slm_err refuse_twice(struct gguf_writer *w, const char **names, uint32_t n,
                            const char *what) {
    sort_items(names, n, sizeof *names, compare_strings);
    for (uint32_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return REFUSE(w, SLM_E_ARG, "%s '%s' was put twice, among %" PRIu32, what, names[i], n);
    return SLM_OK;
}

static slm_err check_names(struct gguf_writer *w) {
    TRY(refuse_twice(w, w->keys, w->n_kv, "key"));
    const char **names = mem_alloc(w->hooks, w->n, sizeof *names);
    if (names == NULL)
        return stick(w, fail_nomem(&w->failure, "tensor names", w->n * sizeof *names));
    for (uint32_t i = 0; i < w->n; i++)
        names[i] = w->list[i].name;
    slm_err err = refuse_twice(w, names, w->n, "tensor");
    mem_free(w->hooks, names);
    return err;
}

/* ---- going out ---- */

static slm_err put_bytes(struct gguf_writer *w, const void *p, size_t n) {
    return stick(w, outfile_write(w->file, p, n, &w->failure));
}

static slm_err pad(struct gguf_writer *w) {
    static const uint8_t zeros[256];
    uint64_t n = (w->alignment - outfile_size(w->file) % w->alignment) % w->alignment;
    for (; n > 0 && w->err == SLM_OK; n -= n < sizeof zeros ? n : sizeof zeros)
        put_bytes(w, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros);
    return w->err;
}

static slm_err put_front(struct gguf_writer *w) {
    struct buf b;
    buf_init(&b, w->hooks, PTRDIFF_MAX);
    buf_put(&b, "GGUF", 4);
    put_le(&b, 3, 4);
    put_le(&b, w->n, 8);
    put_le(&b, w->n_kv, 8);
    buf_put(&b, w->meta.data, w->meta.len);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct out_tensor *x = &w->list[i];
        put_text(&b, x->name, strlen(x->name));
        put_le(&b, x->n_dims, 4);
        for (uint32_t d = x->n_dims; d-- > 0;)
            put_le(&b, x->dims[d], 8);
        put_le(&b, (uint64_t)x->dtype, 4);
        put_le(&b, offset, 8);
        uint64_t padded;
        if (!add_u64_ok(x->size, w->alignment - 1, &padded) ||
            !add_u64_ok(offset, padded / w->alignment * w->alignment, &offset) ||
            offset > PTRDIFF_MAX) {
            buf_free(&b);
            return REFUSE(w, SLM_E_ARG, "the data up to tensor '%s' exceeds %" PRIdPTR " bytes",
                          x->name, PTRDIFF_MAX);
        }
    }
    if (b.err != SLM_OK)
        stick(w, fail_nomem(&w->failure, "the front of the file", b.len));
    else
        put_bytes(w, b.data, b.len);
    buf_free(&b);
    return w->err;
}

/* Once, before the first byte of data. */
static slm_err begin_data(struct gguf_writer *w) {
    if (w->begun || w->err != SLM_OK)
        return w->err;
    w->begun = true;
    TRY(check_names(w));
    TRY(put_front(w));
    return pad(w);
}

static slm_err report(const struct gguf_writer *w, slm_why *why) {
    if (w->err != SLM_OK && why != NULL)
        *why = w->failure;
    return w->err;
}

slm_err gguf_write_data(struct gguf_writer *w, const void *data, size_t n, slm_why *why) {
    const uint8_t *p = data;
    begin_data(w);
    while (n > 0 && w->err == SLM_OK) {
        if (w->at == w->n) {
            REFUSE(w, SLM_E_ARG, "%zu bytes of data after the last of %" PRIu32 " tensors", n,
                   w->n);
            break;
        }
        uint64_t want = w->list[w->at].size - w->done;
        size_t piece = n < want ? n : (size_t)want;
        put_bytes(w, p, piece);
        p += piece;
        n -= piece;
        w->done += piece;
        if (w->done == w->list[w->at].size) {
            pad(w);
            w->at++;
            w->done = 0;
        }
    }
    return report(w, why);
}

slm_err gguf_writer_close(struct gguf_writer *w, bool finish, slm_why *why) {
    if (w == NULL)
        return SLM_OK;
    if (finish) {
        begin_data(w);
        if (w->err == SLM_OK && w->at < w->n)
            REFUSE(w, SLM_E_STATE, "tensor '%s' got %" PRIu64 " of its %" PRIu64 " bytes",
                   w->list[w->at].name, w->done, w->list[w->at].size);
    }
    bool good = finish && w->err == SLM_OK;
    slm_err closed = outfile_close(w->file, good, why);
    slm_err err = !finish ? SLM_OK : w->err != SLM_OK ? report(w, why) : closed;
    mem_free(w->hooks, w->list);
    mem_free(w->hooks, w->keys);
    buf_free(&w->meta);
    arena_free(&w->arena);
    mem_free(w->hooks, w);
    return err;
}
