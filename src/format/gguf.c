/* gguf.c - reads the header, metadata and tensor list of a GGUF file.
 *
 * In:  a mapped file.   Out: struct gguf (values stay in the file), tensors in t->list.
 * Layout, all little-endian; a string is a u64 length and that many bytes:
 *   magic "GGUF", u32 version, u64 n_tensors, u64 n_kv
 *   n_kv    x { string key, u32 type, value }    array value: u32 item type, u64 count, items
 *   n_tensors x { string name, u32 n_dims, u64 dims[n_dims] innermost first, u32 type, u64 offset }
 *   padding to the alignment, then the data that offsets count from
 * Source: the GGUF specification (ggml-org/ggml docs/gguf.md). Version 2 has the same layout;
 * version 1 had 32-bit lengths.
 *
 * Counts are compared with the bytes that are left before anything is allocated for them; sizes are
 * computed with checked arithmetic; offset and size are compared as size > room - offset. */
#include <inttypes.h>
#include <string.h>

#include "base/reader.h"
#include "format/format_internal.h"

#define MIN_KV_BYTES (8 + 1 + 4 + 1)             /* key of one byte, type, one byte of value */
#define MIN_TENSOR_BYTES (8 + 1 + 4 + 8 + 4 + 8) /* name of one byte, one dimension */

static const struct {
    const char *name;
    uint8_t bytes;
} value_types[] = {
    [GGUF_U8] = { "u8", 1 },       [GGUF_I8] = { "i8", 1 },     [GGUF_U16] = { "u16", 2 },
    [GGUF_I16] = { "i16", 2 },     [GGUF_U32] = { "u32", 4 },   [GGUF_I32] = { "i32", 4 },
    [GGUF_F32] = { "f32", 4 },     [GGUF_BOOL] = { "bool", 1 }, [GGUF_STRING] = { "string", 0 },
    [GGUF_ARRAY] = { "array", 0 }, [GGUF_U64] = { "u64", 8 },   [GGUF_I64] = { "i64", 8 },
    [GGUF_F64] = { "f64", 8 },
};

const char *gguf_type_name(enum gguf_type t) {
    return (uint32_t)t < ARRAY_LEN(value_types) ? value_types[t].name : "unknown";
}

size_t gguf_type_bytes(uint32_t type) {
    return type < ARRAY_LEN(value_types) ? value_types[type].bytes : 0;
}

/* Like reader_fail, but for a field that began `back` bytes ago. */
#define FIELD_FAIL(r, back, ...) ((r)->pos -= (back), reader_fail((r), SLM_E_FORMAT, __VA_ARGS__))

/* ---- header ---- */

static slm_err read_header(struct reader *r, struct gguf *g, uint32_t *n_tensors) {
    read_skip(r, 4); /* the magic is why we are here */
    g->version = read_u32(r);
    uint64_t n_list = read_u64(r), n_kv = read_u64(r);
    if (r->err != SLM_OK)
        return r->err;
    size_t left = r->size - r->pos;
    r->pos = 4;
    if (g->version == 1)
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "GGUF version 1 (32-bit lengths); versions 2 and 3 are read");
    if (g->version != 0 && (g->version & 0xffff) == 0)
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "big-endian GGUF (version word 0x%08" PRIx32
                           "); only little-endian is read",
                           g->version);
    if (g->version != 2 && g->version != 3)
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "GGUF version %" PRIu32 "; versions 2 and 3 are read", g->version);
    r->pos = 8;
    if (n_list > left / MIN_TENSOR_BYTES)
        return reader_fail(r, SLM_E_FORMAT, "%" PRIu64 " tensors cannot be in the %zu bytes left",
                           n_list, left);
    if (n_list > MAX_TENSORS)
        return reader_fail(r, SLM_E_UNSUPPORTED, "%" PRIu64 " tensors, at most %d are read", n_list,
                           MAX_TENSORS);
    r->pos = 16;
    if (n_kv > left / MIN_KV_BYTES)
        return reader_fail(r, SLM_E_FORMAT,
                           "%" PRIu64 " metadata entries cannot be in the %zu bytes left", n_kv,
                           left);
    if (n_kv > MAX_KV)
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "%" PRIu64 " metadata entries, at most %d are read", n_kv, MAX_KV);
    r->pos = 24;
    *n_tensors = (uint32_t)n_list;
    g->n = (uint32_t)n_kv;
    return SLM_OK;
}

/* ---- strings and names ---- */

/* A length and its bytes; `what` is for the message. NULL on failure. */
static const uint8_t *read_text(struct reader *r, const char *what, uint64_t *n) {
    *n = read_u64(r);
    if (r->err != SLM_OK)
        return NULL;
    size_t left = r->size - r->pos;
    if (*n > left) {
        (void)FIELD_FAIL(r, 8, "%s of %" PRIu64 " bytes, %zu left", what, *n, left);
        return NULL;
    }
    return read_bytes(r, *n);
}

/* A checked name, copied with a zero byte into the arena. */
static slm_err read_name(struct tensors *t, struct reader *r, const char *what, const char **out) {
    uint64_t n;
    const char *s = (const char *)read_text(r, what, &n);
    if (s == NULL)
        return r->err;
    const char *fault = name_fault(s, (size_t)n);
    if (fault != NULL) {
        r->pos -= (size_t)n + 8;
        return reader_fail(r, n > MAX_NAME ? SLM_E_UNSUPPORTED : SLM_E_FORMAT,
                           "%s %s: %" PRIu64 " bytes '%.*s', from 1 to %d printable ones are read",
                           what, fault, n, n > 64 ? 64 : (int)n, s, MAX_NAME);
    }
    *out = arena_strdup(&t->arena, s, (size_t)n);
    return *out != NULL ? SLM_OK : fail_nomem(r->why, what, (size_t)n + 1);
}

/* ---- metadata ---- */

static slm_err check_bools(struct reader *r, const struct gguf_value *v) {
    for (uint64_t i = 0; i < v->count; i++)
        if (v->data[i] > 1) {
            r->pos = (size_t)(v->offset + i);
            return reader_fail(r, SLM_E_FORMAT, "key '%s': a bool is %u, not 0 or 1", v->key,
                               (unsigned)v->data[i]);
        }
    return SLM_OK;
}

/* Walks the lengths of all strings once, so that gguf_next_str may trust them. A plain loop: real
 * files have half a million. */
static slm_err check_strings(struct reader *r, struct gguf_value *v) {
    for (uint64_t i = 0; i < v->count; i++) {
        uint64_t n = read_u64(r);
        size_t left = r->size - r->pos;
        if (r->err == SLM_OK && n > left)
            (void)FIELD_FAIL(r, 8, "key '%s': string %" PRIu64 " of %" PRIu64 " bytes, %zu left",
                             v->key, i, n, left);
        if (r->err != SLM_OK)
            return r->err;
        r->pos += (size_t)n;
    }
    v->size = r->pos - v->offset;
    return SLM_OK;
}

static slm_err read_array(struct reader *r, struct gguf_value *v) {
    uint32_t item = read_u32(r);
    uint64_t count = read_u64(r);
    if (r->err != SLM_OK)
        return r->err;
    if (item == GGUF_ARRAY) {
        r->pos -= 12;
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "key '%s': an array of arrays; only flat arrays are read", v->key);
    }
    if (item >= ARRAY_LEN(value_types))
        return FIELD_FAIL(r, 12, "key '%s': array items of type %" PRIu32 ", the last known is %d",
                          v->key, item, GGUF_F64);
    size_t left = r->size - r->pos, least = item == GGUF_STRING ? 8 : value_types[item].bytes;
    if (count > left / least)
        return FIELD_FAIL(r, 8, "key '%s': %" PRIu64 " array items cannot be in the %zu bytes left",
                          v->key, count, left);
    v->item = (enum gguf_type)item;
    v->count = count;
    v->offset = r->pos;
    v->data = r->data + r->pos;
    if (item == GGUF_STRING)
        return check_strings(r, v);
    v->size = count * least;
    read_skip(r, v->size);
    return item == GGUF_BOOL ? check_bools(r, v) : r->err;
}

static slm_err read_value(struct reader *r, struct gguf_value *v) {
    uint32_t type = read_u32(r);
    if (r->err != SLM_OK)
        return r->err;
    if (type >= ARRAY_LEN(value_types))
        return FIELD_FAIL(r, 4, "key '%s': value of type %" PRIu32 ", the last known is %d", v->key,
                          type, GGUF_F64);
    v->type = (enum gguf_type)type;
    v->count = 1;
    if (type == GGUF_ARRAY)
        return read_array(r, v);
    if (type == GGUF_STRING) {
        v->data = read_text(r, "string value", &v->size);
    } else {
        v->size = value_types[type].bytes;
        v->data = read_bytes(r, v->size);
    }
    if (r->err != SLM_OK)
        return r->err;
    v->offset = r->pos - v->size;
    return type == GGUF_BOOL ? check_bools(r, v) : SLM_OK;
}

static int compare_keys(const void *a, const void *b) {
    const struct gguf_value *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static slm_err index_keys(struct gguf *g, slm_why *why) {
    for (uint32_t i = 0; i < g->n; i++)
        g->by_key[i] = &g->values[i];
    sort_items(g->by_key, g->n, sizeof *g->by_key, compare_keys);
    for (uint32_t i = 1; i < g->n; i++) {
        const struct gguf_value *a = g->by_key[i - 1], *b = g->by_key[i];
        if (strcmp(a->key, b->key) == 0)
            return fail(why, SLM_E_FORMAT, a->offset > b->offset ? a->offset : b->offset,
                        "key '%s' occurs twice: values at %" PRIu64 " and %" PRIu64, a->key,
                        a->offset < b->offset ? a->offset : b->offset,
                        a->offset > b->offset ? a->offset : b->offset);
    }
    return SLM_OK;
}

static slm_err read_metadata(struct tensors *t, struct reader *r, struct gguf *g) {
    g->values = arena_zalloc(&t->arena, g->n, sizeof *g->values);
    g->by_key = arena_alloc(&t->arena, g->n, sizeof *g->by_key);
    if (g->values == NULL || g->by_key == NULL)
        return fail_nomem(r->why, "metadata", g->n * (sizeof *g->values + sizeof *g->by_key));
    for (uint32_t i = 0; i < g->n; i++) {
        TRY(read_name(t, r, "key", &g->values[i].key));
        TRY(read_value(r, &g->values[i]));
    }
    return index_keys(g, r->why);
}

/* The two keys that change how the file itself is read. */
static slm_err apply_metadata(struct gguf *g, slm_why *why) {
    slm_err err = SLM_OK;
    uint32_t alignment = ALIGNMENT_DEFAULT, parts = 1;
    if (gguf_u32(g, ALIGNMENT_KEY, &alignment, &err, why)) {
        const struct gguf_value *v = gguf_find(g, ALIGNMENT_KEY);
        if ((alignment & (alignment - 1)) != 0 || alignment < ALIGNMENT_MIN ||
            alignment > ALIGNMENT_MAX)
            return fail(why, SLM_E_FORMAT, v->offset,
                        "%s is %" PRIu32 ", not a power of two from %d to %d", ALIGNMENT_KEY,
                        alignment, ALIGNMENT_MIN, ALIGNMENT_MAX);
    }
    g->alignment = alignment;
    if (gguf_u32(g, "split.count", &parts, &err, why) && parts > 1) {
        uint32_t no = 0;
        (void)gguf_u32(g, "split.no", &no, &err, why);
        if (err == SLM_OK)
            return fail(why, SLM_E_UNSUPPORTED, gguf_find(g, "split.count")->offset,
                        "part %" PRIu64 " of %" PRIu32 " of a split GGUF; join the parts first",
                        (uint64_t)no + 1, parts);
    }
    return err;
}

/* ---- tensors ---- */

/* Names of types that ggml once had, or has beside those in dtype.h. */
static const char *type_name(uint32_t id) {
    static const struct {
        uint32_t id;
        const char *name;
    } others[] = { { 4, "Q4_2" },        { 5, "Q4_3" },       { 31, "Q4_0_4_4" },
                   { 32, "Q4_0_4_8" },   { 33, "Q4_0_8_8" },  { 36, "IQ4_NL_4_4" },
                   { 37, "IQ4_NL_4_8" }, { 38, "IQ4_NL_8_8" } };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i].id == id)
            return others[i].name;
    return dtype_info(id)->name;
}

static slm_err check_type(struct reader *r, const char *name, uint32_t id) {
    if (dtype_supported(id))
        return SLM_OK;
    r->pos -= 4;
    const char *type = type_name(id);
    if (type != NULL)
        return reader_fail(r, SLM_E_UNSUPPORTED,
                           "tensor '%s' has type %s (%" PRIu32 "), which is not read", name, type,
                           id);
    return reader_fail(r, SLM_E_UNSUPPORTED, "tensor '%s' has the unknown type %" PRIu32, name, id);
}

/* size from dims and dtype */
static slm_err size_tensor(struct reader *r, struct tensor_info *x) {
    uint64_t rows = 1, cols = x->dims[x->n_dims - 1];
    const struct dtype_info *type = dtype_info((uint32_t)x->dtype);
    if (cols % type->block != 0)
        return reader_fail(r, SLM_E_FORMAT,
                           "tensor '%s' has rows of %" PRIu64
                           " elements, %s needs a multiple of %" PRIu32,
                           x->name, cols, type->name, type->block);
    size_t row_bytes, size;
    bool ok = dtype_row_bytes(x->dtype, cols, &row_bytes);
    for (uint32_t d = 0; d + 1 < x->n_dims; d++)
        ok = ok && mul_u64_ok(rows, x->dims[d], &rows);
    ok = ok && rows <= SIZE_MAX && mul_ok((size_t)rows, row_bytes, &size);
    if (!ok)
        return reader_fail(r, SLM_E_FORMAT,
                           "tensor '%s': rows of %" PRIu64 " elements times %" PRIu64
                           " rows and more exceed 64 bits",
                           x->name, cols, x->dims[0]);
    x->size = size;
    return SLM_OK;
}

/* One entry of the list; x->offset still counts from the start of the data. */
static slm_err read_tensor(struct tensors *t, struct reader *r, struct tensor_info *x) {
    TRY(read_name(t, r, "tensor name", &x->name));
    x->n_dims = read_u32(r);
    if (r->err == SLM_OK && (x->n_dims < 1 || x->n_dims > MAX_DIMS))
        return FIELD_FAIL(r, 4, "tensor '%s' has %" PRIu32 " dimensions, not 1 to %d", x->name,
                          x->n_dims, MAX_DIMS);
    for (uint32_t d = x->n_dims; r->err == SLM_OK && d-- > 0;) {
        x->dims[d] = read_u64(r);
        if (r->err == SLM_OK && x->dims[d] == 0)
            return FIELD_FAIL(r, 8, "tensor '%s': dimension %" PRIu32 " is 0, at least 1 is needed",
                              x->name, x->n_dims - 1 - d);
    }
    uint32_t type = read_u32(r);
    if (r->err != SLM_OK)
        return r->err;
    TRY(check_type(r, x->name, type));
    x->dtype = (enum dtype)type;
    TRY(size_tensor(r, x));
    x->offset = read_u64(r);
    return r->err;
}

/* Turns offsets into places in the file. field [n]: where in the file each offset stands. */
static slm_err place_tensors(struct tensors *t, const struct gguf *g, uint64_t start,
                             const uint64_t *field, slm_why *why) {
    for (uint32_t i = 0; i < t->n; i++) {
        struct tensor_info *x = &t->list[i];
        const struct mapping *m = &t->files[x->file].map;
        if (start > m->size)
            return fail(why, SLM_E_FORMAT, field[i],
                        "tensor data starts at byte %" PRIu64 ", the file has %zu", start, m->size);
        if (x->offset % g->alignment != 0)
            return fail(why, SLM_E_FORMAT, field[i],
                        "tensor '%s' at offset %" PRIu64 ", no multiple of %" PRIu64, x->name,
                        x->offset, g->alignment);
        uint64_t room = m->size - start;
        if (x->offset > room || x->size > room - x->offset)
            return fail(why, SLM_E_FORMAT, field[i],
                        "tensor '%s' needs %" PRIu64 " bytes at data offset %" PRIu64
                        ", the file has %" PRIu64 " bytes of data; is it complete?",
                        x->name, x->size, x->offset, room);
        x->offset += start;
        x->data = m->data + x->offset;
    }
    return SLM_OK;
}

static int compare_offsets(const void *a, const void *b) {
    const struct tensor_info *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static slm_err check_overlap(struct tensors *t, slm_why *why) {
    sort_items(t->list, t->n, sizeof *t->list, compare_offsets);
    for (uint32_t i = 1; i < t->n; i++) {
        const struct tensor_info *a = &t->list[i - 1], *b = &t->list[i];
        if (a->size > b->offset - a->offset)
            return fail(why, SLM_E_FORMAT, b->offset,
                        "tensor '%s' begins at byte %" PRIu64 ", inside '%s', which "
                        "ends at %" PRIu64,
                        b->name, b->offset, a->name, a->offset + a->size);
    }
    return SLM_OK;
}

static slm_err read_tensors(struct tensors *t, struct reader *r, const struct gguf *g,
                            uint32_t file, uint32_t n) {
    uint64_t *field = mem_alloc(t->hooks, n, sizeof *field);
    if (field == NULL)
        return fail_nomem(r->why, "tensor offsets", n * sizeof *field);
    slm_err err = SLM_OK;
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_info *x = tensors_add(t);
        if (x == NULL)
            TRY_OUT(fail_nomem(r->why, "the list of tensors", n * sizeof *x));
        x->file = file;
        TRY_OUT(read_tensor(t, r, x));
        field[i] = r->pos - 8;
    }
    uint64_t start = (r->pos + g->alignment - 1) / g->alignment * g->alignment;
    TRY_OUT(place_tensors(t, g, start, field, r->why));
    err = check_overlap(t, r->why);
out:
    mem_free(t->hooks, field);
    return err;
}

slm_err gguf_read(struct tensors *t, uint32_t file, slm_why *why) {
    struct reader r;
    reader_init(&r, t->files[file].map.data, t->files[file].map.size, why);
    struct gguf *g = arena_zalloc(&t->arena, 1, sizeof *g);
    if (g == NULL)
        return fail_nomem(why, "metadata", sizeof *g);
    uint32_t n_tensors = 0;
    TRY(read_header(&r, g, &n_tensors));
    TRY(read_metadata(t, &r, g));
    TRY(apply_metadata(g, why));
    TRY(read_tensors(t, &r, g, file, n_tensors));
    t->gguf = g;
    return SLM_OK;
}
