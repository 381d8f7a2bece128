/* quantise_fit.c - least-squares search of scales; see quantise_fit.h for the method. */
#include "kernels/ref/quantise_fit.h"

#include <math.h>

#define TRIALS                                                                                     \
    10           /* on each side of the scale that just covers the range, a tenth of a code apart */
#define ROUNDS 4 /* of making codes and scale from each other */

const struct grid grid_q3 = { -4, 3, NULL };
const struct grid grid_q4 = { -8, 7, NULL };
const struct grid grid_q5 = { -16, 15, NULL };
const struct grid grid_q6 = { -32, 31, NULL };
const struct grid grid_iq4 = { -127, 113, iq4_levels };

/* The code of a value of the table. */
static int level_code(const struct grid *g, float value) {
    int code = 0;
    for (int step = 8; step > 0; step /= 2)
        code += value >= (float)g->levels[code + step] ? step : 0;
    return code;
}

int grid_value(const struct grid *g, int code) {
    return g->levels ? g->levels[code] : code;
}

float fit_weights(const float *x, unsigned n, float *w) {
    float sum = 0.0f;
    for (unsigned i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (unsigned i = 0; i < n; i++)
        w[i] = sum / (float)n + x[i] * x[i];
    return sum;
}

float round_f16(float v) {
    return f16_to_f32(f32_to_f16(v));
}

/* ---- trials: many sets of codes for one sub-block, so these loops are written for the vectoriser:
 * element by element without branches, sums in four lanes ---- */

struct lanes {
    float s[4];
};
static float total(const struct lanes *l) {
    return (l->s[0] + l->s[2]) + (l->s[1] + l->s[3]);
}
static void sum_product(const float *a, const float *b, unsigned n, struct lanes *out) {
    *out = (struct lanes){ { 0 } };
    for (unsigned i = 0; i < n; i += 4)
        for (unsigned l = 0; l < 4; l++)
            out->s[l] += a[i + l] * b[i + l];
}

/* One sub-block of n (a multiple of 4, at most 32) values with what all trials need. */
struct trial {
    unsigned n;
    const float *x, *w;
    float wx[BLOCK];
    float sw, swx, swxx;
};
static void trial_init(struct trial *t, const float *x, const float *w, unsigned n) {
    struct lanes l;
    float one[BLOCK];
    t->n = n;
    t->x = x;
    t->w = w;
    for (unsigned i = 0; i < n; i++) {
        t->wx[i] = w[i] * x[i];
        one[i] = 1.0f;
    }
    sum_product(w, one, n, &l);
    t->sw = total(&l);
    sum_product(t->wx, one, n, &l);
    t->swx = total(&l);
    sum_product(t->wx, x, n, &l);
    t->swxx = total(&l);
}

/* v[i]: the grid's value nearest to x[i] * inverse. */
static void grid_values(const struct grid *g, float inverse, const float *x, unsigned n, float *v) {
    const float round = 0x1.8p+23f;
    float lo = (float)g->lo, hi = (float)g->hi;
    for (unsigned i = 0; i < n; i++)
        v[i] = clamp_float(x[i] * inverse, lo, hi);
    if (!g->levels) {
        for (unsigned i = 0; i < n; i++)
            v[i] = (v[i] + round) - round;
        return;
    }
    float y[BLOCK];
    for (unsigned i = 0; i < n; i++)
        y[i] = lo;
    for (unsigned k = 0; k + 1 < 16; k++) {
        float middle = 0.5f * (float)(g->levels[k] + g->levels[k + 1]);
        float step = (float)(g->levels[k + 1] - g->levels[k]);
        for (unsigned i = 0; i < n; i++)
            y[i] += v[i] > middle ? step : 0.0f;
    }
    for (unsigned i = 0; i < n; i++)
        v[i] = y[i];
}

/* Sums of one set of codes: with them the best scale is xv / vv, and the error falls by xv^2 / vv. */
struct match {
    float xv, vv;
};

static struct match grid_match(const struct grid *g, float inverse, const struct trial *t) {
    float v[BLOCK], wv[BLOCK];
    struct lanes xv, vv;
    grid_values(g, inverse, t->x, t->n, v);
    for (unsigned i = 0; i < t->n; i++)
        wv[i] = t->w[i] * v[i];
    sum_product(t->wx, v, t->n, &xv);
    sum_product(wv, v, t->n, &vv);
    return (struct match){ total(&xv), total(&vv) };
}

static float gain(struct match m) {
    return m.vv > 0.0f ? m.xv / m.vv * m.xv : 0.0f;
}

float fit_grid(const struct grid *g, const float *x, const float *w, unsigned n) {
    float peak = 0.0f;
    for (unsigned i = 0; i < n; i++)
        peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
    if (!(fabsf(peak) > 0x1p-100f))
        return 0.0f;
    struct trial trial;
    trial_init(&trial, x, w, n);
    /* lo is the longer side: the peak goes there with the right sign of the scale, and to hi with
     * the other; in fine grids one code more or less is not worth trying both */
    float unit = (float)g->lo / (float)(g->levels ? 8 : -g->lo);
    float best_gain = 0.0f, best = 0.0f;
    for (int sign = -g->lo > 8 && !g->levels ? 1 : -1; sign <= 1; sign += 2) {
        for (int t = -TRIALS; t <= TRIALS; t++) {
            float inverse = (float)sign * ((float)g->lo + 0.1f * (float)t * unit) / peak;
            struct match m = grid_match(g, inverse, &trial);
            if (gain(m) > best_gain) {
                best_gain = gain(m);
                best = m.xv / m.vv;
            }
        }
    }
    for (unsigned round = 0; round < ROUNDS && best != 0.0f; round++) {
        struct match m = grid_match(g, 1.0f / best, &trial);
        if (!(gain(m) > best_gain))
            break;
        best_gain = gain(m);
        best = m.xv / m.vv;
    }
    return best;
}

/* Least-squares scale and offset for the codes that (lo, inverse) give; false when they are no
 * better than *error. */
static bool affine_trial(unsigned top, float lo, float inverse, const struct trial *t,
                         bool non_positive, float *error, float *s, float *offset) {
    const float round = 0x1.8p+23f;
    float q[BLOCK], wq[BLOCK];
    struct lanes l;
    for (unsigned i = 0; i < t->n; i++)
        q[i] = (clamp_float((t->x[i] - lo) * inverse, 0.0f, (float)top) + round) - round;
    for (unsigned i = 0; i < t->n; i++)
        wq[i] = t->w[i] * q[i];
    sum_product(t->w, q, t->n, &l);
    float sq = total(&l);
    sum_product(wq, q, t->n, &l);
    float sqq = total(&l);
    sum_product(t->wx, q, t->n, &l);
    float sxq = total(&l), sw = t->sw, sx = t->swx;
    float det = sw * sqq - sq * sq;
    if (!(det > 0.0f))
        return false;
    float scale = (sw * sxq - sx * sq) / det, off = (sqq * sx - sq * sxq) / det;
    if (non_positive && off > 0.0f) {
        off = 0.0f;
        scale = sxq / sqq;
    }
    float e = t->swxx + scale * scale * sqq + off * off * sw +
              2.0f * (scale * off * sq - scale * sxq - off * sx);
    if (!(scale > 0.0f) || !(e < *error))
        return false;
    *error = e;
    *s = scale;
    *offset = off;
    return true;
}

void fit_affine(unsigned top, const float *x, const float *w, unsigned n, bool non_positive,
                float *s, float *offset) {
    float lo = x[0], hi = x[0];
    for (unsigned i = 1; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    if (non_positive && lo > 0.0f)
        lo = 0.0f;
    if (non_positive && hi < 0.0f)
        hi = 0.0f;
    *s = 0.0f;
    *offset = lo;
    if (!(hi - lo > 0x1p-100f))
        return;
    struct trial trial;
    trial_init(&trial, x, w, n);
    *s = (hi - lo) / (float)top; /* stays when every trial is degenerate (two distinct values) */
    float error = INFINITY;
    for (int t = -TRIALS; t <= TRIALS; t++)
        affine_trial(top, lo, ((float)top + 0.1f * (float)t) / (hi - lo), &trial, non_positive,
                     &error, s, offset);
    for (unsigned round = 0; round < ROUNDS; round++)
        if (!affine_trial(top, *offset, 1.0f / *s, &trial, non_positive, &error, s, offset))
            break;
}

float grid_codes(const struct grid *g, float s, const float *x, const float *w, unsigned n,
                 int8_t *codes) {
    float inverse = s != 0.0f ? 1.0f / s : 0.0f, v[BLOCK], miss[BLOCK], wm[BLOCK];
    struct lanes error;
    grid_values(g, inverse, x, n, v);
    for (unsigned i = 0; i < n; i++) {
        miss[i] = x[i] - s * v[i];
        wm[i] = w[i] * miss[i];
    }
    for (unsigned i = 0; i < n; i++)
        codes[i] = (int8_t)(g->levels ? level_code(g, v[i]) : (int)v[i]);
    sum_product(wm, miss, n, &error);
    return total(&error);
}

float affine_codes(unsigned top, float s, float offset, const float *x, const float *w, unsigned n,
                   uint8_t *codes) {
    const float round = 0x1.8p+23f;
    float inverse = s != 0.0f ? 1.0f / s : 0.0f, q[BLOCK], miss[BLOCK], wm[BLOCK];
    struct lanes error;
    for (unsigned i = 0; i < n; i++) {
        q[i] = (clamp_float((x[i] - offset) * inverse, 0.0f, (float)top) + round) - round;
        miss[i] = x[i] - (s * q[i] + offset);
        wm[i] = w[i] * miss[i];
    }
    for (unsigned i = 0; i < n; i++)
        codes[i] = (uint8_t)q[i];
    sum_product(wm, miss, n, &error);
    return total(&error);
}
