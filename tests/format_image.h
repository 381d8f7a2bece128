/* format_image.h - small model files made in memory for tests and fuzz targets: a builder, a walker
 * that finds every number field of a GGUF image, and a check that an opened file is sound. */
#ifndef SLM_TESTS_FORMAT_IMAGE_H
#define SLM_TESTS_FORMAT_IMAGE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "format/format.h"

/* ---- builder ---- */

struct image {
    uint8_t *data; /* [n], malloc */
    size_t n, cap;
};

ATTR_UNUSED static void img_bytes(struct image *g, const void *p, size_t n) {
    if (g->n + n > g->cap) {
        g->cap = (g->n + n) * 2;
        g->data = realloc(g->data, g->cap);
        if (g->data == NULL)
            abort();
    }
    if (n > 0)
        memcpy(g->data + g->n, p, n);
    g->n += n;
}
ATTR_UNUSED static void img_le(struct image *g, uint64_t v, size_t n) {
    uint8_t b[8];
    for (size_t i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    img_bytes(g, b, n);
}
ATTR_UNUSED static void img_text(struct image *g, const char *s) {
    img_le(g, strlen(s), 8);
    img_bytes(g, s, strlen(s));
}
ATTR_UNUSED static void img_head(struct image *g, uint32_t version, uint64_t n_tensors,
                                 uint64_t n_kv) {
    img_bytes(g, "GGUF", 4);
    img_le(g, version, 4);
    img_le(g, n_tensors, 8);
    img_le(g, n_kv, 8);
}
ATTR_UNUSED static void img_kv(struct image *g, const char *key, enum gguf_type type) {
    img_text(g, key);
    img_le(g, (uint64_t)type, 4);
}
ATTR_UNUSED static void img_kv_u32(struct image *g, const char *key, uint32_t v) {
    img_kv(g, key, GGUF_U32);
    img_le(g, v, 4);
}
ATTR_UNUSED static void img_kv_str(struct image *g, const char *key, const char *v) {
    img_kv(g, key, GGUF_STRING);
    img_text(g, v);
}
ATTR_UNUSED static void img_array(struct image *g, const char *key, enum gguf_type item,
                                  uint64_t count) {
    img_kv(g, key, GGUF_ARRAY);
    img_le(g, (uint64_t)item, 4);
    img_le(g, count, 8);
}
/* dims innermost first, as in the file; ends at the first 0 */
ATTR_UNUSED static void img_tensor(struct image *g, const char *name, uint32_t type,
                                   uint64_t offset, uint64_t d0, uint64_t d1) {
    img_text(g, name);
    img_le(g, d1 ? 2 : 1, 4);
    img_le(g, d0, 8);
    if (d1)
        img_le(g, d1, 8);
    img_le(g, type, 4);
    img_le(g, offset, 8);
}
ATTR_UNUSED static void img_pad(struct image *g, size_t alignment) {
    while (g->n % alignment)
        img_le(g, 0, 1);
}
ATTR_UNUSED static void img_fill(struct image *g, size_t n) {
    for (size_t i = 0; i < n; i++)
        img_le(g, i * 7 + 1, 1);
}
ATTR_UNUSED static void img_free(struct image *g) {
    free(g->data);
    *g = (struct image){ 0 };
}

/* A sound file with one of each: scalar, string, array of numbers and of strings, bool; three
 * tensors of three types; alignment 32. The data ends with the file. */
ATTR_UNUSED static struct image img_sample(void) {
    struct image g = { 0 };
    img_head(&g, 3, 3, 6);
    img_kv_u32(&g, "general.alignment", 32);
    img_kv_str(&g, "general.architecture", "x");
    img_array(&g, "a.ints", GGUF_I32, 3);
    img_fill(&g, 12);
    img_array(&g, "a.words", GGUF_STRING, 2);
    img_text(&g, "ab");
    img_text(&g, "");
    img_kv(&g, "a.flag", GGUF_BOOL);
    img_le(&g, 1, 1);
    img_kv(&g, "a.big", GGUF_U64);
    img_le(&g, 77, 8);
    img_text(&g, "w"); /* three dimensions: 48 bytes */
    img_le(&g, 3, 4);
    img_le(&g, 4, 8);
    img_le(&g, 3, 8);
    img_le(&g, 1, 8);
    img_le(&g, DT_F32, 4);
    img_le(&g, 0, 8);
    img_tensor(&g, "q", DT_Q8_0, 64, 32, 2); /* 68 bytes */
    img_tensor(&g, "b", DT_BF16, 160, 5, 0); /* 10 bytes */
    img_pad(&g, 32);
    img_fill(&g, 170);
    return g;
}

/* A safetensors file: json padded with spaces to a multiple of 8, then n_data bytes. */
ATTR_UNUSED static struct image img_safetensors(const char *json, size_t n_data) {
    struct image g = { 0 };
    img_le(&g, (strlen(json) + 7) / 8 * 8, 8);
    img_bytes(&g, json, strlen(json));
    while (g.n % 8)
        img_le(&g, ' ', 1);
    img_fill(&g, n_data);
    return g;
}

/* ---- walker ---- */

struct field {
    size_t pos;
    unsigned width;   /* 4 or 8; 1 for a bool */
    const char *what; /* "n_kv", "key length", ... */
    bool length;      /* counts bytes or items that follow */
};
struct fields {
    struct field *at; /* [cap], the caller's */
    size_t n, cap;
    const uint8_t *data;
    size_t size, pos;
    bool ended; /* the image made no sense from here on */
};

static uint64_t fields_take(struct fields *f, unsigned width, const char *what, bool length) {
    if (f->ended || f->size - f->pos < width) {
        f->ended = true;
        return 0;
    }
    uint64_t v = 0;
    for (unsigned i = width; i-- > 0;)
        v = v << 8 | f->data[f->pos + i];
    if (f->n < f->cap)
        f->at[f->n++] = (struct field){ f->pos, width, what, length };
    f->pos += width;
    return v;
}
static void fields_skip(struct fields *f, uint64_t n) {
    if (f->ended || n > f->size - f->pos)
        f->ended = true;
    else
        f->pos += (size_t)n;
}
static void fields_text(struct fields *f, const char *what) {
    fields_skip(f, fields_take(f, 8, what, true));
}
static void fields_scalar(struct fields *f, uint32_t type) {
    static const uint8_t widths[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    if (type == GGUF_STRING)
        fields_text(f, "string length");
    else if (type >= sizeof widths || widths[type] == 0)
        f->ended = true;
    else if (widths[type] == 2)
        fields_skip(f, 2);
    else
        (void)fields_take(f, widths[type], "value", false);
}
/* Finds fields [cap] of a GGUF image, as far as it makes sense; returns how many. */
ATTR_UNUSED static size_t fields_find(const uint8_t *data, size_t size, struct field *at,
                                      size_t cap) {
    struct fields f = { .at = at, .cap = cap, .data = data, .size = size };
    fields_skip(&f, 4);
    (void)fields_take(&f, 4, "version", false);
    uint64_t n_tensors = fields_take(&f, 8, "n_tensors", true),
             n_kv = fields_take(&f, 8, "n_kv", true);
    for (uint64_t i = 0; i < n_kv && !f.ended && f.n < cap; i++) {
        fields_text(&f, "key length");
        uint32_t type = (uint32_t)fields_take(&f, 4, "type", false);
        if (type != GGUF_ARRAY) {
            fields_scalar(&f, type);
            continue;
        }
        uint32_t item = (uint32_t)fields_take(&f, 4, "item type", false);
        uint64_t count = fields_take(&f, 8, "count", true);
        for (uint64_t k = 0; k < count && !f.ended && f.n < cap; k++)
            fields_scalar(&f, item);
    }
    for (uint64_t i = 0; i < n_tensors && !f.ended && f.n < cap; i++) {
        fields_text(&f, "name length");
        uint64_t n_dims = fields_take(&f, 4, "n_dims", true);
        for (uint64_t d = 0; d < n_dims && !f.ended && f.n < cap; d++)
            (void)fields_take(&f, 8, "dimension", false);
        (void)fields_take(&f, 4, "tensor type", false);
        (void)fields_take(&f, 8, "offset", false);
    }
    return f.n;
}

/* Values at which sizes go wrong: out [BOUNDARY_VALUES] for a file of n bytes. */
#define BOUNDARY_VALUES 26
ATTR_UNUSED static size_t boundary_values(uint64_t n, uint64_t alignment,
                                          uint64_t out[BOUNDARY_VALUES]) {
    const uint64_t two31 = (uint64_t)1 << 31, two32 = (uint64_t)1 << 32, two63 = (uint64_t)1 << 63;
    const uint64_t all[BOUNDARY_VALUES] = { 0,
                                            1,
                                            2,
                                            3,
                                            two31 - 1,
                                            two31,
                                            two31 + 1,
                                            two32 - 1,
                                            two32,
                                            two32 + 1,
                                            two63 - 1,
                                            two63,
                                            two63 + 1,
                                            UINT64_MAX,
                                            UINT64_MAX - 1,
                                            UINT64_MAX / 4 + 1,
                                            n - 1,
                                            n,
                                            n + 1,
                                            alignment - 1,
                                            alignment,
                                            alignment + 1,
                                            7,
                                            8,
                                            9,
                                            65537 };
    memcpy(out, all, sizeof all);
    return BOUNDARY_VALUES;
}
ATTR_UNUSED static void field_set(uint8_t *data, const struct field *f, uint64_t v) {
    for (unsigned i = 0; i < f->width; i++)
        data[f->pos + i] = (uint8_t)(v >> (8 * i));
}

/* ---- soundness ---- */

/* Reads every byte of every tensor and of the metadata; true when all that the header of format.h
 * promises holds. files [n]: what t was opened from. */
ATTR_UNUSED static bool image_sound(const struct tensors *t, const struct slm_memory_file *files,
                                    size_t n) {
    volatile uint8_t sink = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor_info *x = &t->list[i];
        bool inside = false;
        for (size_t k = 0; k < n; k++) {
            uintptr_t begin = (uintptr_t)files[k].data, at = (uintptr_t)x->data;
            inside |= at >= begin && at - begin <= files[k].size &&
                      x->size <= files[k].size - (at - begin) && x->offset == at - begin;
        }
        if (!inside || x->size == 0 || x->n_dims > MAX_DIMS || x->name[0] == '\0' ||
            strlen(x->name) > 255 || tensors_find(t, x->name) != x ||
            (i > 0 && strcmp(t->list[i - 1].name, x->name) >= 0))
            return false;
        for (uint64_t b = 0; b < x->size; b++)
            sink = (uint8_t)(sink ^ x->data[b]);
    }
    for (uint32_t i = 0; t->gguf != NULL && i < gguf_count(t->gguf); i++) {
        const struct gguf_value *v = gguf_at(t->gguf, i);
        if (gguf_find(t->gguf, v->key) != v)
            return false;
        for (uint64_t b = 0; b < v->size; b++)
            sink = (uint8_t)(sink ^ v->data[b]);
        uint64_t cursor = 0, count = 0;
        const char *s;
        size_t len;
        while (v->type == GGUF_ARRAY && gguf_next_str(v, &cursor, &s, &len))
            count++;
        if (v->type == GGUF_ARRAY && v->item == GGUF_STRING &&
            (count != v->count || cursor != v->size))
            return false;
        for (uint64_t k = 0; v->type == GGUF_ARRAY && v->item != GGUF_STRING && k < v->count; k++)
            sink =
                (uint8_t)(sink ^ (uint8_t)gguf_item_int(v, k) ^ (uint8_t)(gguf_item_f32(v, k) > 0));
    }
    return true;
}

/* ---- counting allocator: how much memory was held at most ---- */

struct counter {
    struct slm_hooks hooks;
    size_t live, peak, calls;
};
static void *counter_alloc(void *user, size_t n) {
    struct counter *c = user;
    size_t *p = malloc(n + 16);
    if (p == NULL)
        return NULL;
    p[0] = n;
    c->calls++;
    c->live += n;
    if (c->live > c->peak)
        c->peak = c->live;
    return p + 2;
}
static void counter_release(void *user, void *p) {
    struct counter *c = user;
    if (p == NULL)
        return;
    size_t *q = (size_t *)p - 2;
    c->live -= q[0];
    free(q);
}
static void *counter_resize(void *user, void *p, size_t n) {
    void *q = counter_alloc(user, n);
    if (q != NULL && p != NULL) {
        size_t old = ((size_t *)p)[-2];
        memcpy(q, p, old < n ? old : n);
        counter_release(user, p);
    }
    return q;
}
ATTR_UNUSED static void counter_init(struct counter *c) {
    *c = (struct counter){ .hooks = { .size = sizeof c->hooks,
                                      .alloc = counter_alloc,
                                      .resize = counter_resize,
                                      .release = counter_release } };
    c->hooks.user = c;
}

#endif
