/* rope.c - cosines and sines of positions.
 *
 * Angle of pair i at position p:  p * f_i,   f_i = theta^(-2i / rotary)
 *   linear (not on sliding layers):  f_i / factor
 *   longrope:                        f_i / (short or long factor i), cos and sin times a constant
 * Source: RoFormer (arXiv 2104.09864) and modeling_rope_utils.py of Hugging Face transformers.
 *
 * The frequencies are float32 numbers with the roundings of that code: the models were trained with
 * them, and at position 100,000 an unrounded one turns by 0.006 more or less. Its product with the
 * position, which the official code rounds to float32 as well, is a double here, and the result is
 * rounded once. */
#include "model/net.h"

#include <math.h>

struct rope {
    struct slm_hooks hooks;
    uint32_t n_pairs;
    double scale;      /* on cos and sin */
    double *full;      /* [n_pairs] frequencies of full layers; longrope: with the short factors */
    double *full_long; /* [n_pairs] with the long factors; = full where there are none */
    double *sliding;   /* [n_pairs] */
};

/* 1 / (factor * theta^(2i / rotary)), each step in float32 */
static float frequency(float theta, uint32_t i, uint32_t rotary, float factor) {
    float exponent = (float)(2 * i) / (float)rotary;
    float power = (float)pow((double)theta, (double)exponent);
    return 1.0f / (factor * power);
}

slm_err rope_new(const struct slm_hooks *h, const struct model *m, struct rope **out,
                 slm_why *why) {
    const struct rope_scaling *s = &m->rope;
    uint32_t n = m->rotary / 2;
    size_t bytes = sizeof(struct rope) + 3 * (size_t)n * sizeof(double);
    struct rope *r = mem_zalloc(h, bytes, 1);
    *out = NULL;
    if (r == NULL)
        return fail_nomem(why, "rope", bytes);
    hooks_init(&r->hooks, h);
    r->n_pairs = n;
    r->scale = s->kind == ROPE_LONG ? (double)s->attention_factor : 1.0;
    r->full = (double *)(r + 1);
    r->full_long = r->full + n;
    r->sliding = r->full + 2 * n;
    for (uint32_t i = 0; i < n; i++) {
        float f = frequency(m->theta, i, m->rotary, 1.0f);
        r->full[i] = r->full_long[i] = (double)(s->kind == ROPE_LINEAR ? f / s->factor : f);
        if (s->kind == ROPE_LONG) {
            r->full[i] = (double)frequency(m->theta, i, m->rotary, s->short_factors[i]);
            r->full_long[i] = (double)frequency(m->theta, i, m->rotary, s->long_factors[i]);
        }
        r->sliding[i] = m->theta_sliding > 0.0f
                            ? (double)frequency(m->theta_sliding, i, m->rotary, 1.0f)
                            : r->full[i];
    }
    *out = r;
    return SLM_OK;
}

void rope_free(struct rope *r) {
    if (r == NULL)
        return;
    struct slm_hooks h = r->hooks;
    mem_free(&h, r);
}

void rope_row(const struct rope *r, char layer_kind, bool long_rope, uint32_t position,
              float *cosine, float *sine) {
    const double *f = layer_kind == 's' ? r->sliding : long_rope ? r->full_long : r->full;
    for (uint32_t i = 0; i < r->n_pairs; i++) {
        double angle = (double)position * f[i];
        cosine[i] = (float)(r->scale * cos(angle));
        sine[i] = (float)(r->scale * sin(angle));
    }
}
