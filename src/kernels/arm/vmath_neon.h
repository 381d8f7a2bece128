/* vmath_neon.h - exp, silu, gelu for 4 elements and the sum over lanes; bit-equal to ref/vmath.h. */
#ifndef SLM_KERNELS_ARM_VMATH_NEON_H
#define SLM_KERNELS_ARM_VMATH_NEON_H

#include "kernels/ref/vmath.h"

#ifdef HAVE_ARM_KERNELS
#include <arm_neon.h>

/* Selections by comparison instead of FMIN and FMAX, so that NaN passes as in exp_one. */
ATTR_INLINE float32x4_t exp_4(float32x4_t x) {
    const float32x4_t low = vdupq_n_f32(EXP_LOW), high = vdupq_n_f32(EXP_HIGH),
                      round = vdupq_n_f32(EXP_ROUND);
    float32x4_t v = vbslq_f32(vcltq_f32(high, x), high, x);
    v = vbslq_f32(vcgtq_f32(low, v), low, v);
    float32x4_t t = vfmaq_f32(round, v, vdupq_n_f32(EXP_LOG2E));
    float32x4_t n = vsubq_f32(t, round);
    float32x4_t r = vfmaq_f32(v, n, vdupq_n_f32(-EXP_LN2_HIGH));
    r = vfmaq_f32(r, n, vdupq_n_f32(-EXP_LN2_LOW));
    float32x4_t q = vfmaq_f32(vdupq_n_f32(EXP_Q3), vdupq_n_f32(EXP_Q4), r);
    q = vfmaq_f32(vdupq_n_f32(EXP_Q2), q, r);
    q = vfmaq_f32(vdupq_n_f32(EXP_Q1), q, r);
    q = vfmaq_f32(vdupq_n_f32(EXP_Q0), q, r);
    float32x4_t y = vaddq_f32(vdupq_n_f32(1.0f), vfmaq_f32(r, vmulq_f32(r, r), q));
    int32x4_t k = vsubq_s32(vreinterpretq_s32_f32(t), vreinterpretq_s32_f32(round));
    int32x4_t half = vshrq_n_s32(k, 1), rest = vsubq_s32(k, half);
    const int32x4_t bias = vdupq_n_s32(127);
    y = vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
    y = vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23)));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltq_f32(x, low)));
}

ATTR_INLINE float32x4_t silu_4(float32x4_t x) {
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), exp_4(vnegq_f32(x))));
}

ATTR_INLINE float32x4_t gelu_4(float32x4_t x) {
    float32x4_t z =
        vmulq_f32(x, vfmaq_f32(vdupq_n_f32(GELU_A), vmulq_f32(x, x), vdupq_n_f32(GELU_B)));
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0f), exp_4(vnegq_f32(z))));
}

/* Sixteen lanes in four registers: 0..3, 4..7, 8..11, 12..15. */
ATTR_INLINE float sum_4x4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    float32x4_t four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
    return vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}

#endif
#endif
