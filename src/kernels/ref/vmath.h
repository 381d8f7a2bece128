/* vmath.h - exp, silu, gelu and the sum over lanes, one element at a time.
 *
 * The vector kernels do the same operations in the same order on 8 or 16 elements, so every
 * instruction set gives the same bits. Fused steps are written as fmaf and nothing else is fused
 * (the build must not contract expressions: -ffp-contract=off, the default of gcc -std=c11).
 *
 * exp(x): n = x / ln 2 rounded to nearest (by adding and subtracting 1.5 * 2^23), r = x - n ln 2 in
 * two fused steps, exp(r) = 1 + (r + r^2 q(r)) with q of degree 4, times 2^n in two factors. q is a
 * minimax fit of (exp(r) - 1 - r) / r^2 on |r| <= ln 2 / 2, weighted for relative error (3.1e-9,
 * Lawson's iteration in float64). Error at most 1 ulp; below EXP_LOW the result is 0, which is
 * nothing beside the 1 that the largest of a softmax gets; NaN stays NaN.
 *
 * silu(x) = x / (1 + exp(-x)).  gelu, tanh form: 0.5 x (1 + tanh u) is x / (1 + exp(-2u)) exactly,
 * with 2u = x (a + b x^2); this way nothing cancels for negative x. */
#ifndef SLM_KERNELS_REF_VMATH_H
#define SLM_KERNELS_REF_VMATH_H

#include "base/compiler.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16

#define EXP_LOW -87.0f /* exp(-87.34) is the smallest normal float */
#define EXP_HIGH 89.0f /* exp(88.73) is above the largest float */
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_LN2_HIGH 0x1.62e43p-1f
#define EXP_LN2_LOW -0x1.05c61p-29f
#define EXP_ROUND 0x1.8p+23f
#define EXP_Q0 0x1.fffffcp-2f
#define EXP_Q1 0x1.555492p-3f
#define EXP_Q2 0x1.5558f2p-5f
#define EXP_Q3 0x1.123a2p-7f
#define EXP_Q4 0x1.6a23dp-10f

#define GELU_A 0x1.988454p+0f /* 2 sqrt(2 / pi) */
#define GELU_B 0x1.2444f2p-4f /* 0.044715 times that */

static inline float float_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t bits_of_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float exp_one(float x) {
    float v = EXP_HIGH < x ? EXP_HIGH : x;
    v = EXP_LOW > v ? EXP_LOW : v;
    float t = fmaf(v, EXP_LOG2E, EXP_ROUND);
    float n = t - EXP_ROUND;
    float r = fmaf(n, -EXP_LN2_HIGH, v);
    r = fmaf(n, -EXP_LN2_LOW, r);
    float q = fmaf(EXP_Q4, r, EXP_Q3);
    q = fmaf(q, r, EXP_Q2);
    q = fmaf(q, r, EXP_Q1);
    q = fmaf(q, r, EXP_Q0);
    float y = 1.0f + fmaf(r * r, q, r);
    uint32_t k = bits_of_float(t) - bits_of_float(EXP_ROUND); /* n as two's complement, -126..128 */
    uint32_t half = (k >> 1) | (k & 0x80000000u);             /* arithmetic shift */
    y *= float_of_bits((half + 127u) << 23);
    y *= float_of_bits((k - half + 127u) << 23);
    return x < EXP_LOW ? 0.0f : y;
}

static inline float silu_one(float x) {
    return x / (1.0f + exp_one(-x));
}

static inline float gelu_one(float x) {
    float z = x * fmaf(x * x, GELU_B, GELU_A);
    return x / (1.0f + exp_one(-z));
}

/* The fixed tree: lane l with l + 8, then l + 4, l + 2, l + 1. Destroys s. */
static inline float sum_lanes(float s[LANES]) {
    for (unsigned half = LANES / 2; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

#endif
