/* rows.c - reference of the row kernels: norm, add, scale, activations, rope, argmax.
 *
 * The vector versions (x86/rows_*.c) give the same bits; check_rows holds them to it.
 *
 * rmsnorm: squares are exact in float64 and are summed there in 16 lanes by index modulo 16, each
 * ascending, then by the tree of sum_lanes; the factor 1 / sqrt(mean + eps) is rounded to float32
 * once, and out = (x * factor) * w. So the sum of 16,384 squares is right to 1e-14, whatever the
 * outliers of the row. */
#include "kernels/ref/rows.h"
#include "kernels/ref/vmath.h"

static double sum_squares(const float *x, size_t n) {
    double s[LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        s[i % LANES] += (double)x[i] * (double)x[i];
    for (unsigned half = LANES / 2; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

float norm_factor(double sum, size_t n, float eps) {
    return (float)(1.0 / sqrt(sum / (double)n + (double)eps));
}

static void ref_rmsnorm(const float *x, const float *w, bool plus_one, float eps, size_t n,
                        float *out) {
    float factor = norm_factor(sum_squares(x, n), n, eps);
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor * (plus_one ? 1.0f + w[i] : w[i]);
}

static void ref_add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void ref_scale(float *x, float s, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] *= s;
}

static void ref_silu_mul(const float *gate, const float *up, size_t n, float *h) {
    for (size_t i = 0; i < n; i++)
        h[i] = silu_one(gate[i]) * up[i];
}

static void ref_gelu_mul(const float *gate, const float *up, size_t n, float *h) {
    for (size_t i = 0; i < n; i++)
        h[i] = gelu_one(gate[i]) * up[i];
}

/* (a, b) turned by the angle: a cos - b sin, b cos + a sin; the second product is rounded first. */
static void ref_rope(float *x, const float *cosine, const float *sine, size_t n_pairs,
                     bool interleaved) {
    for (size_t i = 0; i < n_pairs; i++) {
        float *a = interleaved ? &x[2 * i] : &x[i];
        float *b = interleaved ? &x[2 * i + 1] : &x[i + n_pairs];
        float turned = fmaf(*a, cosine[i], -(*b * sine[i]));
        *b = fmaf(*b, cosine[i], *a * sine[i]);
        *a = turned;
    }
}

/* NaN compares false and so never wins; a row of nothing but -inf or NaN gives 0. */
static uint32_t ref_argmax(const float *x, size_t n, bool *finite) {
    float best = -INFINITY;
    uint32_t index = 0;
    bool all_finite = true;
    for (size_t i = 0; i < n; i++) {
        all_finite = all_finite && isfinite(x[i]);
        if (x[i] > best) {
            best = x[i];
            index = (uint32_t)i;
        }
    }
    *finite = all_finite;
    return index;
}

const struct row_ops row_ops_ref = {
    .rmsnorm = ref_rmsnorm,
    .add = ref_add,
    .scale = ref_scale,
    .silu_mul = ref_silu_mul,
    .gelu_mul = ref_gelu_mul,
    .rope = ref_rope,
    .argmax = ref_argmax,
};
