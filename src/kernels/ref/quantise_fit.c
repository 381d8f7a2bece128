/* quantise_fit.c - least-squares search of scales; see quantise_fit.h for the method. */
#include "kernels/ref/quantise_fit.h"

#include <math.h>

#define TRIALS 10 /* on each side of the scale that just covers the range, a tenth of a code apart */
#define ROUNDS 4  /* of making codes and scale from each other */

const struct grid grid_q3 = { -4, 3, NULL };
const struct grid grid_q4 = { -8, 7, NULL };
const struct grid grid_q5 = { -16, 15, NULL };
const struct grid grid_q6 = { -32, 31, NULL };
const struct grid grid_iq4 = { -127, 113, iq4_levels };

int grid_code(const struct grid *g, float v) {
    v = clamp_float(v, (float)g->lo, (float)g->hi);
    if (!g->levels)
        return nearest(v);
    int code = 0;
    for (int step = 8; step > 0; step /= 2) { /* how many midpoints between levels are below v */
        float middle = 0.5f * (float)(g->levels[code + step - 1] + g->levels[code + step]);
        code += v > middle ? step : 0;
    }
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

/* Sums of one set of codes: with them the best scale is xv / vv, and the error falls by xv^2 / vv. */
struct match {
    float xv, vv;
};

static struct match grid_match(const struct grid *g, float inverse, const float *x, const float *w, unsigned n) {
    struct match m = { 0.0f, 0.0f };
    for (unsigned i = 0; i < n; i++) {
        float v = (float)grid_value(g, grid_code(g, x[i] * inverse));
        m.xv += w[i] * x[i] * v;
        m.vv += w[i] * v * v;
    }
    return m;
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
    /* lo is the longer side: the peak goes there with the right sign of the scale, and to hi with
     * the other; in fine grids one code more or less is not worth trying both */
    float unit = (float)g->lo / (float)(g->levels ? 8 : -g->lo);
    float best_gain = 0.0f, best = 0.0f;
    for (int sign = -g->lo > 8 && !g->levels ? 1 : -1; sign <= 1; sign += 2) {
        for (int t = -TRIALS; t <= TRIALS; t++) {
            float inverse = (float)sign * ((float)g->lo + 0.1f * (float)t * unit) / peak;
            struct match m = grid_match(g, inverse, x, w, n);
            if (gain(m) > best_gain) {
                best_gain = gain(m);
                best = m.xv / m.vv;
            }
        }
    }
    for (unsigned round = 0; round < ROUNDS && best != 0.0f; round++) {
        struct match m = grid_match(g, 1.0f / best, x, w, n);
        if (!(gain(m) > best_gain))
            break;
        best_gain = gain(m);
        best = m.xv / m.vv;
    }
    return best;
}

/* Least-squares scale and offset for the codes that (lo, inverse) give; false when they are no
 * better than *error. */
static bool affine_trial(unsigned top, float lo, float inverse, const float *x, const float *w, unsigned n,
                         bool non_positive, float *error, float *s, float *offset) {
    float sw = 0, sx = 0, sq = 0, sqq = 0, sxq = 0, sxx = 0;
    for (unsigned i = 0; i < n; i++) {
        float q = (float)nearest(clamp_float((x[i] - lo) * inverse, 0.0f, (float)top));
        sw += w[i];
        sx += w[i] * x[i];
        sq += w[i] * q;
        sqq += w[i] * q * q;
        sxq += w[i] * x[i] * q;
        sxx += w[i] * x[i] * x[i];
    }
    float det = sw * sqq - sq * sq;
    if (!(det > 0.0f))
        return false;
    float scale = (sw * sxq - sx * sq) / det, off = (sqq * sx - sq * sxq) / det;
    if (non_positive && off > 0.0f) {
        off = 0.0f;
        scale = sxq / sqq;
    }
    float e = sxx + scale * scale * sqq + off * off * sw +
              2.0f * (scale * off * sq - scale * sxq - off * sx);
    if (!(scale > 0.0f) || !(e < *error))
        return false;
    *error = e;
    *s = scale;
    *offset = off;
    return true;
}

void fit_affine(unsigned top, const float *x, const float *w, unsigned n, bool non_positive, float *s, float *offset) {
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
    *s = (hi - lo) / (float)top; /* stays when every trial is degenerate (two distinct values) */
    float error = INFINITY;
    for (int t = -TRIALS; t <= TRIALS; t++)
        affine_trial(top, lo, ((float)top + 0.1f * (float)t) / (hi - lo), x, w, n, non_positive, &error, s, offset);
    for (unsigned round = 0; round < ROUNDS; round++)
        if (!affine_trial(top, *offset, 1.0f / *s, x, w, n, non_positive, &error, s, offset))
            break;
}

float grid_codes(const struct grid *g, float s, const float *x, const float *w, unsigned n, int8_t *codes) {
    float inverse = s != 0.0f ? 1.0f / s : 0.0f, error = 0.0f;
    for (unsigned i = 0; i < n; i++) {
        codes[i] = (int8_t)grid_code(g, x[i] * inverse);
        float miss = x[i] - s * (float)grid_value(g, codes[i]);
        error += w[i] * miss * miss;
    }
    return error;
}

float affine_codes(unsigned top, float s, float offset, const float *x, const float *w, unsigned n, uint8_t *codes) {
    float inverse = s != 0.0f ? 1.0f / s : 0.0f, error = 0.0f;
    for (unsigned i = 0; i < n; i++) {
        codes[i] = (uint8_t)nearest(clamp_float((x[i] - offset) * inverse, 0.0f, (float)top));
        float miss = x[i] - (s * (float)codes[i] + offset);
        error += w[i] * miss * miss;
    }
    return error;
}
