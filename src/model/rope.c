/* rope.c - cosines and sines of positions.
 *
 * Angle of pair i at position p:  p * f_i,   f_i = theta^(-2i / rotary)
 *   linear (not on sliding layers):  f_i / factor
 *   longrope:                        f_i / (short or long factor i), cos and sin times a constant
 * Source: RoFormer (arXiv 2104.09864) and modeling_rope_utils.py of Hugging Face transformers. That
 * code multiplies in float32, so its angles at position 100,000 are off by up to 0.004; here the angle
 * is a double, and the result is rounded once. */
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

static double frequency(double theta, uint32_t i, uint32_t rotary) {
    return pow(theta, -2.0 * (double)i / (double)rotary);
}

slm_err rope_new(const struct slm_hooks *h, const struct model *m, struct rope **out, slm_why *why) {
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
        double f = frequency((double)m->theta, i, m->rotary);
        if (s->kind == ROPE_LINEAR)
            f /= (double)s->factor;
        r->full[i] = s->kind == ROPE_LONG ? f / (double)s->short_factors[i] : f;
        r->full_long[i] = s->kind == ROPE_LONG ? f / (double)s->long_factors[i] : f;
        r->sliding[i] = m->theta_sliding > 0.0f ? frequency((double)m->theta_sliding, i, m->rotary) : f;
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

void rope_row(const struct rope *r, char layer_kind, bool long_rope, uint32_t position, float *cosine, float *sine) {
    const double *f = layer_kind == 's' ? r->sliding : long_rope ? r->full_long : r->full;
    for (uint32_t i = 0; i < r->n_pairs; i++) {
        double angle = (double)position * f[i];
        cosine[i] = (float)(r->scale * cos(angle));
        sine[i] = (float)(r->scale * sin(angle));
    }
}
