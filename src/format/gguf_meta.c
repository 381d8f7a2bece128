/* gguf_meta.c - typed access to the metadata of a GGUF file that gguf.c has checked.
 *
 * Values stay where they are in the file, at any alignment, little-endian: bytes are put together
 * one by one. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "format/format_internal.h"

/* ---- finding ---- */

uint32_t gguf_count(const struct gguf *g) {
    return g->n;
}

const struct gguf_value *gguf_at(const struct gguf *g, uint32_t i) {
    return i < g->n ? &g->values[i] : NULL;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key) {
    uint32_t low = 0, high = g->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(key, g->by_key[middle]->key);
        if (order == 0)
            return g->by_key[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

uint32_t gguf_version(const struct gguf *g) {
    return g->version;
}

uint64_t gguf_alignment(const struct gguf *g) {
    return g->alignment;
}

/* ---- numbers from bytes ---- */

static uint64_t load_le(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

/* A whole number as sign and magnitude, so that u64 and i64 both fit. */
struct whole {
    bool negative;
    uint64_t magnitude;
};

static bool load_whole(enum gguf_type t, const uint8_t *p, struct whole *out) {
    size_t n = gguf_type_bytes((uint32_t)t);
    switch (t) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
    case GGUF_BOOL:
        *out = (struct whole){ false, load_le(p, n) };
        return true;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: {
        uint64_t v = load_le(p, n), sign = (uint64_t)1 << (8 * n - 1);
        uint64_t wide = (v ^ sign) - sign; /* sign extension */
        bool negative = (v & sign) != 0;
        *out = (struct whole){ negative, negative ? 0 - wide : wide };
        return true;
    }
    case GGUF_F32:
    case GGUF_F64:
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
    return false;
}

static double load_f64(const uint8_t *p) {
    uint64_t bits = load_le(p, 8);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static float load_f32(const uint8_t *p) {
    uint32_t bits = (uint32_t)load_le(p, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* ---- typed access ---- */

/* Keeps the first error; false, for the callers to return. */
static bool wrong_kind(const struct gguf_value *v, const char *wanted, slm_err *err, slm_why *why) {
    if (*err == SLM_OK)
        *err = fail(why, SLM_E_FORMAT, v->offset, "key '%s' is of type %s, %s is wanted", v->key,
                    gguf_type_name(v->type), wanted);
    return false;
}

bool gguf_u32(const struct gguf *g, const char *key, uint32_t *out, slm_err *err, slm_why *why) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL)
        return false;
    struct whole w;
    if (v->type == GGUF_BOOL || !load_whole(v->type, v->data, &w))
        return wrong_kind(v, "a whole number", err, why);
    if (w.magnitude > UINT32_MAX || (w.negative && w.magnitude != 0)) {
        if (*err == SLM_OK)
            *err = fail(why, SLM_E_FORMAT, v->offset,
                        "key '%s' is %s%" PRIu64 ", not from 0 to %" PRIu32, key,
                        w.negative ? "-" : "", w.magnitude, UINT32_MAX);
        return false;
    }
    *out = (uint32_t)w.magnitude;
    return true;
}

bool gguf_f32(const struct gguf *g, const char *key, float *out, slm_err *err, slm_why *why) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL)
        return false;
    if (v->type != GGUF_F32 && v->type != GGUF_F64)
        return wrong_kind(v, "a floating-point number", err, why);
    double d = v->type == GGUF_F32 ? (double)load_f32(v->data) : load_f64(v->data);
    const double limit = 3.4028234663852886e38; /* FLT_MAX; a NaN fails the comparison too */
    if (!(d >= -limit && d <= limit)) {
        if (*err == SLM_OK)
            *err = fail(why, SLM_E_FORMAT, v->offset,
                        "key '%s' is %g, not a finite number up to %g", key, d, limit);
        return false;
    }
    *out = (float)d;
    return true;
}

bool gguf_bool(const struct gguf *g, const char *key, bool *out, slm_err *err, slm_why *why) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL)
        return false;
    if (v->type != GGUF_BOOL)
        return wrong_kind(v, "a bool", err, why);
    *out = v->data[0] != 0;
    return true;
}

bool gguf_str(const struct gguf *g, const char *key, const char **s, size_t *n, slm_err *err,
              slm_why *why) {
    const struct gguf_value *v = gguf_find(g, key);
    if (v == NULL)
        return false;
    if (v->type != GGUF_STRING)
        return wrong_kind(v, "a string", err, why);
    *s = (const char *)v->data;
    *n = (size_t)v->size; /* inside the mapping, so it fits */
    return true;
}

/* ---- arrays ---- */

bool gguf_next_str(const struct gguf_value *array, uint64_t *cursor, const char **s, size_t *n) {
    if (array->type != GGUF_ARRAY || array->item != GGUF_STRING || *cursor >= array->size)
        return false;
    const uint8_t *p = array->data + *cursor;
    uint64_t length = load_le(p, 8), room = array->size - *cursor - 8;
    if (length > room) /* gguf.c walked all lengths: the file was changed since */
        return false;
    *s = (const char *)p + 8;
    *n = (size_t)length;
    *cursor += 8 + length;
    return true;
}

static const uint8_t *item_at(const struct gguf_value *array, uint64_t i) {
    assert(array->type == GGUF_ARRAY && i < array->count);
    return array->data + i * gguf_type_bytes((uint32_t)array->item);
}

float gguf_item_f32(const struct gguf_value *array, uint64_t i) {
    if (array->item == GGUF_F32)
        return load_f32(item_at(array, i));
    return array->item == GGUF_F64 ? (float)load_f64(item_at(array, i)) : 0.0f;
}

int64_t gguf_item_int(const struct gguf_value *array, uint64_t i) {
    struct whole w;
    if (!load_whole(array->item, item_at(array, i), &w))
        return 0;
    if (w.negative)
        return w.magnitude > INT64_MAX ? INT64_MIN : -(int64_t)w.magnitude;
    return w.magnitude > INT64_MAX ? INT64_MAX : (int64_t)w.magnitude;
}
