/* shapes.c - what follows from a model's numbers: shapes of its tensors, how many parameters.
 *
 * One place, so that binding, planning and the checks of the tables cannot disagree. */
#include "model/net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool family_has(const struct model *m, enum slot s) {
    const struct family *f = m->family;
    switch (s) {
    case SLOT_OUTPUT:
        return !m->tied;
    case SLOT_ROPE_LONG:
    case SLOT_ROPE_SHORT:
        return m->rope.kind == ROPE_LONG;
    case SLOT_Q:
    case SLOT_K:
    case SLOT_V:
        return !f->fused_qkv;
    case SLOT_QKV:
        return f->fused_qkv;
    case SLOT_GATE:
    case SLOT_UP:
        return !f->fused_gate_up;
    case SLOT_GATE_UP:
        return f->fused_gate_up;
    case SLOT_Q_NORM:
    case SLOT_K_NORM:
        return f->qk_norm;
    case SLOT_POST_ATTN_NORM:
    case SLOT_POST_FFN_NORM:
        return f->sandwich;
    default:
        return true;
    }
}

unsigned slot_shape(const struct model *m, enum slot s, uint64_t dims[2]) {
    uint64_t q = (uint64_t)m->heads * m->head_dim, k = (uint64_t)m->kv_heads * m->head_dim;
    uint64_t rows = 0, cols = m->hidden; /* rows 0: a vector of cols */
    if (!family_has(m, s))
        return 0;
    switch (s) {
    case SLOT_EMBED:
    case SLOT_OUTPUT:
        rows = m->vocab;
        break;
    case SLOT_ROPE_LONG:
    case SLOT_ROPE_SHORT:
        cols = m->rotary / 2;
        break;
    case SLOT_Q:
        rows = q;
        break;
    case SLOT_K:
    case SLOT_V:
        rows = k;
        break;
    case SLOT_QKV:
        rows = q + 2 * k;
        break;
    case SLOT_Q_NORM:
    case SLOT_K_NORM:
        cols = m->head_dim;
        break;
    case SLOT_O:
        rows = m->hidden, cols = q;
        break;
    case SLOT_GATE:
    case SLOT_UP:
        rows = m->ffn;
        break;
    case SLOT_GATE_UP:
        rows = 2 * (uint64_t)m->ffn;
        break;
    case SLOT_DOWN:
        rows = m->hidden, cols = m->ffn;
        break;
    default:
        break; /* norms of [H] */
    }
    dims[0] = rows > 0 ? rows : cols;
    dims[1] = rows > 0 ? cols : 1;
    return rows > 0 ? 2 : 1;
}

uint64_t model_params(const struct model *m) {
    uint64_t total = 0;
    for (unsigned s = 0; s < SLOT_COUNT; s++) {
        uint64_t dims[2];
        if (s == SLOT_ROPE_LONG || s == SLOT_ROPE_SHORT || slot_shape(m, (enum slot)s, dims) == 0)
            continue;
        total += dims[0] * dims[1] * (s >= SLOT_LAYER_FIRST ? m->layers : 1);
    }
    return total;
}

float model_attn_scale(const struct model *m) {
    return m->attn_scale > 0.0f ? m->attn_scale : (float)(1.0 / sqrt((double)m->head_dim));
}

void slot_name(const char *pattern, uint32_t layer, char out[SLOT_NAME]) {
    const char *at = strstr(pattern, "%u");
    if (at == NULL)
        snprintf(out, SLOT_NAME, "%s", pattern);
    else
        snprintf(out, SLOT_NAME, "%.*s%u%s", (int)(at - pattern), pattern, layer, at + 2);
}
