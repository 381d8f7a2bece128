/* fake_kv.h - sequences whose keys and values are known numbers: of the ids up to their position. So
 * pools and caches are tested without weights, and a page in the wrong place is found. */
#ifndef SLM_TESTS_FAKE_KV_H
#define SLM_TESTS_FAKE_KV_H

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "model/kv.h"

#define FAKE_CONTEXT 1200

/* Three kinds of models: full layers, sliding ones, both. */
static ATTR_UNUSED struct model fake_model(const char *pattern, uint32_t window) {
    return (struct model){ .name = "fake",
                           .layers = 3,
                           .kv_heads = 2,
                           .head_dim = 5,
                           .pattern = pattern,
                           .window = window,
                           .context = FAKE_CONTEXT };
}

struct fake {
    struct kv *kv;
    int32_t ids[FAKE_CONTEXT];
    uint64_t sums[FAKE_CONTEXT + 1]; /* of the ids before a position */
    bool long_rope;
};

static inline uint64_t fake_mix(uint64_t x, uint64_t y) {
    x = (x ^ y) * 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

static ATTR_UNUSED void fake_row(const struct fake *s, uint32_t layer, uint32_t head, bool value,
                                 uint32_t position, uint8_t *out, size_t n) {
    uint64_t x = fake_mix(s->sums[position + 1],
                          (uint64_t)s->long_rope << 40 | layer << 8 | head << 1 | value);
    for (size_t i = 0; i < n; i++) {
        x = fake_mix(x, i);
        out[i] = (uint8_t)(x >> 8);
    }
}

/* Sets ids from position `at` on. */
static ATTR_UNUSED void fake_set(struct fake *s, uint32_t at, const int32_t *ids, uint32_t n) {
    memmove(s->ids + at, ids, n * sizeof *ids);
    for (uint32_t i = at; i < at + n; i++)
        s->sums[i + 1] = fake_mix(s->sums[i], (uint64_t)(uint32_t)s->ids[i] + 1);
}

/* What a forward pass does to the pages: n positions more, of the ids that are set. */
static ATTR_UNUSED slm_err fake_evaluate(struct fake *s, uint32_t n, slm_why *why) {
    struct kv *kv = s->kv;
    uint8_t row[64];
    TRY(kv_reserve(kv, n, why));
    for (uint32_t p = kv->length; p < kv->length + n; p++)
        for (uint32_t l = 0; l < kv->m->layers; l++)
            for (uint32_t h = 0; h < kv->m->kv_heads; h++) {
                fake_row(s, l, h, false, p, row, kv->row_bytes);
                memcpy(kv_key(kv, &kv->layers[l], h, p), row, kv->row_bytes);
                fake_row(s, l, h, true, p, row, kv->row_bytes);
                memcpy(kv_value(kv, &kv->layers[l], h, p), row, kv->row_bytes);
            }
    kv->length += n;
    kv->long_rope = s->long_rope;
    return SLM_OK;
}

/* Everything that the next position sees is what it should be. */
static ATTR_UNUSED bool fake_right(const struct fake *s) {
    const struct kv *kv = s->kv;
    uint8_t row[64];
    for (uint32_t l = 0; l < kv->m->layers; l++) {
        const struct kv_layer *layer = &kv->layers[l];
        uint32_t first = layer->window > 0 && kv->length + 1 > layer->window
                             ? kv->length + 1 - layer->window
                             : 0;
        for (uint32_t p = first; p < kv->length; p++)
            for (uint32_t h = 0; h < kv->m->kv_heads; h++) {
                if (kv->pages[layer->c][p / KV_PAGE] == KV_NO_PAGE)
                    return false;
                fake_row(s, l, h, false, p, row, kv->row_bytes);
                if (memcmp(kv_key(kv, layer, h, p), row, kv->row_bytes) != 0)
                    return false;
                fake_row(s, l, h, true, p, row, kv->row_bytes);
                if (memcmp(kv_value(kv, layer, h, p), row, kv->row_bytes) != 0)
                    return false;
            }
    }
    return true;
}

#endif
