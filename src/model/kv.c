/* kv.c - keys and values of one sequence.
 *
 * Full layers have a row per position of the context. Sliding layers have a ring of window - 1 + chunk
 * rows: while a chunk is evaluated its first row still needs the window - 1 positions before it, and
 * its last row is already stored. One block for everything; pages that are never written cost nothing. */
#include "model/kv.h"

static uint32_t layer_capacity(const struct model *m, uint32_t layer, uint32_t context,
                               uint32_t chunk) {
    if (pattern_at(m->pattern, layer) != 's')
        return context;
    uint64_t ring = (uint64_t)m->window - 1 + chunk;
    return ring < context ? (uint32_t)ring : context;
}

/* Bytes of one layer's keys (or values), rounded so that the next ones are aligned too. */
static bool half_bytes(const struct model *m, enum kv_type type, uint32_t capacity, size_t *out) {
    size_t n;
    if (!mul_ok(kv_row_bytes(type, m->head_dim), m->kv_heads, &n) || !mul_ok(n, capacity, &n) ||
        !add_ok(n, MEM_ALIGN - 1, &n))
        return false;
    *out = n / MEM_ALIGN * MEM_ALIGN;
    return true;
}

/* Bytes of the block; false when they do not fit. */
static bool block_bytes(const struct model *m, enum kv_type type, uint32_t context, uint32_t chunk,
                        size_t *out) {
    size_t total = 0, half;
    for (uint32_t i = 0; i < m->layers; i++)
        if (!half_bytes(m, type, layer_capacity(m, i, context, chunk), &half) ||
            !add_ok(total, half, &total) || !add_ok(total, half, &total))
            return false;
    *out = total;
    return true;
}

uint64_t kv_bytes(const struct model *m, enum kv_type type, uint32_t context, uint32_t chunk) {
    size_t block;
    if (!block_bytes(m, type, context, chunk, &block))
        return UINT64_MAX;
    return (uint64_t)block + sizeof(struct kv) + (uint64_t)m->layers * sizeof(struct kv_layer);
}

slm_err kv_new(const struct slm_hooks *h, const struct model *m, enum kv_type type,
               uint32_t context, uint32_t chunk, struct kv **out, slm_why *why) {
    size_t bytes;
    *out = NULL;
    if (context == 0 || chunk == 0 || (unsigned)type >= KV_COUNT)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "keys and values of type %d for %u positions in chunks of %u", (int)type,
                    context, chunk);
    if (!block_bytes(m, type, context, chunk, &bytes))
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET,
                    "keys and values of %u positions are too many bytes", context);
    struct kv *kv = mem_zalloc(h, 1, sizeof *kv);
    if (kv == NULL)
        return fail_nomem(why, "keys and values", sizeof *kv);
    hooks_init(&kv->hooks, h);
    kv->m = m;
    kv->type = type;
    kv->context = context;
    kv->chunk = chunk;
    kv->long_rope = -1;
    kv->row_bytes = kv_row_bytes(type, m->head_dim);
    kv->layers = mem_zalloc(h, m->layers, sizeof *kv->layers);
    kv->block = kv->layers != NULL ? mem_alloc_aligned(h, bytes, 1) : NULL;
    if (kv->block == NULL) {
        kv_free(kv);
        return fail_nomem(why, "keys and values", bytes);
    }
    uint8_t *at = kv->block;
    for (uint32_t i = 0; i < m->layers; i++) {
        struct kv_layer *l = &kv->layers[i];
        size_t half = 0;
        l->capacity = layer_capacity(m, i, context, chunk);
        l->window = pattern_at(m->pattern, i) == 's' ? m->window : 0;
        half_bytes(m, type, l->capacity, &half);
        l->keys = at;
        l->values = at + half;
        at += 2 * half;
    }
    *out = kv;
    return SLM_OK;
}

void kv_free(struct kv *kv) {
    if (kv == NULL)
        return;
    struct slm_hooks h = kv->hooks;
    mem_free_aligned(&h, kv->block);
    mem_free(&h, kv->layers);
    mem_free(&h, kv);
}

uint32_t kv_length(const struct kv *kv) {
    return kv->length;
}

/* The next position n needs n - window + 1 .. n - 1 in every ring. */
bool kv_can_truncate(const struct kv *kv, uint32_t n) {
    if (n >= kv->length || n == 0)
        return true;
    for (uint32_t i = 0; i < kv->m->layers; i++) {
        const struct kv_layer *l = &kv->layers[i];
        uint32_t needed = n + 1 > l->window ? n + 1 - l->window : 0;
        uint32_t lost = kv->high > l->capacity ? kv->high - l->capacity : 0;
        if (l->window > 0 && needed < lost)
            return false;
    }
    return true;
}

bool kv_truncate(struct kv *kv, uint32_t n) {
    if (n >= kv->length)
        return true;
    if (!kv_can_truncate(kv, n))
        return false;
    kv->length = n;
    if (n == 0) {
        kv->high = 0;
        kv->long_rope = -1;
    }
    return true;
}
