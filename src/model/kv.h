/* kv.h - the inside of a sequence's keys and values, for forward.c and attend.c. */
#ifndef SLM_MODEL_KV_H
#define SLM_MODEL_KV_H

#include "model/net.h"

/* One layer: keys, then values, each [kv_heads][capacity][row_bytes]. Position p is row p % capacity. */
struct kv_layer {
    uint8_t *keys, *values;
    uint32_t capacity; /* the context, or on sliding layers window - 1 + chunk if that is less */
    uint32_t window;   /* 0: sees everything */
};

struct kv {
    struct slm_hooks hooks;
    const struct model *m; /* borrowed */
    enum kv_type type;
    uint32_t context, chunk;
    uint32_t length; /* positions held */
    uint32_t
        high; /* positions ever written since empty: rings have lost what lies before high - capacity */
    int8_t long_rope;        /* factors that the keys were turned with; -1: empty */
    size_t row_bytes;        /* of one head's key or value */
    uint8_t *block;          /* everything, one allocation */
    struct kv_layer *layers; /* [m->layers] */
};

static inline uint8_t *kv_row(const struct kv *kv, uint8_t *base, const struct kv_layer *l,
                              uint32_t head, uint32_t position) {
    return base + ((size_t)head * l->capacity + position % l->capacity) * kv->row_bytes;
}

#endif
