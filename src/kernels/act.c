/* act.c - sizes of prepared activations, and their plain preparation.
 *
 * Forms: enum act in kernels.h, structs and the rule of rounding in panel.h. A row takes an odd
 * number of cache lines, so that equal columns of neighbouring tokens fall into different sets of
 * the first-level cache. */
#include "kernels/ref/matmul.h"

#include <math.h>
#include <string.h>

size_t act_bytes(enum act a, uint32_t cols) {
    size_t n = cols;
    switch (a) {
    case ACT_F32:
        n *= sizeof(float);
        break;
    case ACT_BF16:
        n = (n + 1) / 2 * 4;
        break;
    case ACT_Q8_32:
        n = n / 32 * sizeof(struct act_32);
        break;
    default:
        n = n / 256 * sizeof(struct act_256);
        break;
    }
    return ((n + 63) / 64 | 1) * 64;
}

void act_f32_ref(const float *x, uint32_t cols, void *dst) {
    memcpy(dst, x, cols * sizeof(float));
}

void act_bf16_ref(const float *x, uint32_t cols, void *dst) {
    uint16_t *to = dst;
    for (uint32_t c = 0; c < cols; c++)
        to[c] = f32_to_bf16(x[c]);
    if (cols % 2)
        to[cols] = 0;
}

/* Largest magnitude; NaN when any of x[n] is NaN or infinite. */
static float absmax(const float *x, unsigned n) {
    float max = 0;
    bool finite = true;
    for (unsigned i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        finite = finite && a <= FLT_MAX;
        max = a > max ? a : max;
    }
    return finite ? max : NAN;
}

/* q[n] and the returned scale, as panel.h says. */
static float quantise_row(const float *x, unsigned n, int8_t *q) {
    float max = absmax(x, n);
    if (!(max >= ACT_TINY)) {
        memset(q, 0, n);
        return isnan(max) ? max : 0.0f;
    }
    float inverse = 127.0f / max;
    for (unsigned i = 0; i < n; i++)
        q[i] = (int8_t)rintf(x[i] * inverse);
    return max / 127.0f;
}

static int sum(const int8_t *q, unsigned n) {
    int s = 0;
    for (unsigned i = 0; i < n; i++)
        s += q[i];
    return s;
}

void act_q8_32_ref(const float *x, uint32_t cols, void *dst) {
    struct act_32 *a = dst;
    for (uint32_t c = 0; c < cols; c += 32, a++) {
        a->d = quantise_row(x + c, 32, a->q);
        int s = sum(a->q, 32);
        a->nsum = -s;
        a->dsum = a->d * (float)s;
        a->unused = 0;
    }
}

void act_256_sums(struct act_256 *a) {
    for (unsigned j = 0; j < 16; j++) {
        a->nsum[j] = -sum(a->q + 16 * j, 16);
        a->nsum_16[j] = (int16_t)a->nsum[j];
    }
    for (unsigned j = 0; j < 8; j++)
        a->nsum_32[j] = (int16_t)(a->nsum[2 * j] + a->nsum[2 * j + 1]);
    memset(a->unused, 0, sizeof a->unused);
}

void act_q8_256_ref(const float *x, uint32_t cols, void *dst) {
    struct act_256 *a = dst;
    for (uint32_t c = 0; c < cols; c += 256, a++) {
        a->d = quantise_row(x + c, 256, a->q);
        act_256_sums(a);
    }
}
