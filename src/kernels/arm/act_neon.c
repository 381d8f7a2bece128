/* act_neon.c - activations into bfloat16 and int8; rule and structs in panel.h. */
#include "kernels/arm/matmul_arm.h"

#ifdef HAVE_ARM_KERNELS
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/matmul.h"

ATTR_INLINE uint32x4_t magnitude_bits(float32x4_t v) {
    return vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x7FFFFFFF));
}

/* Largest magnitude of x[n], n a multiple of 16, as float32 bits: ordered like the numbers, NaN
 * above infinity. */
ATTR_INLINE uint32_t largest(const float *x, size_t n) {
    uint32x4_t max[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        max[i] = vdupq_n_u32(0);
    for (size_t c = 0; c < n; c += 16) {
        UNROLL
        for (int i = 0; i < 4; i++)
            max[i] = vmaxq_u32(max[i], magnitude_bits(vld1q_f32(x + c + 4 * i)));
    }
    return vmaxvq_u32(vmaxq_u32(vmaxq_u32(max[0], max[1]), vmaxq_u32(max[2], max[3])));
}

/* The scale, and the factor to multiply by before rounding, 0 when all codes are 0. */
ATTR_INLINE float scale_of(uint32_t max_bits, float *inverse) {
    float max;
    memcpy(&max, &max_bits, 4);
    *inverse = 0;
    if (max_bits >= 0x7F800000u)
        return NAN;
    if (max < ACT_TINY)
        return 0;
    *inverse = 127.0f / max;
    return max / 127.0f;
}

/* 4 codes; the mask clears what infinity times 0 would leave. */
ATTR_INLINE int32x4_t codes(const float *x, float inverse) {
    float32x4_t factor = vdupq_n_f32(inverse);
    uint32x4_t use = vcgtq_f32(factor, vdupq_n_f32(0));
    int32x4_t code = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x), factor));
    return vandq_s32(code, vreinterpretq_s32_u32(use));
}

/* 16 codes of x to q; returns their sum. */
ATTR_INLINE int32_t codes_16(const float *x, float inverse, int8_t *q) {
    int16x8_t a = vcombine_s16(vqmovn_s32(codes(x, inverse)), vqmovn_s32(codes(x + 4, inverse)));
    int16x8_t b =
        vcombine_s16(vqmovn_s32(codes(x + 8, inverse)), vqmovn_s32(codes(x + 12, inverse)));
    vst1q_s8(q, vcombine_s8(vqmovn_s16(a), vqmovn_s16(b)));
    return vaddvq_s16(vaddq_s16(a, b));
}

void act_q8_32_neon(const float *x, uint32_t cols, void *dst) {
    struct act_32 *a = dst;
    for (uint32_t c = 0; c < cols; c += 32, a++) {
        float inverse;
        a->d = scale_of(largest(x + c, 32), &inverse);
        int32_t sum = codes_16(x + c, inverse, a->q) + codes_16(x + c + 16, inverse, a->q + 16);
        a->nsum = -sum;
        a->dsum = a->d * (float)sum;
        a->unused = 0;
    }
}

void act_q8_256_neon(const float *x, uint32_t cols, void *dst) {
    struct act_256 *a = dst;
    for (uint32_t c = 0; c < cols; c += 256, a++) {
        float inverse;
        a->d = scale_of(largest(x + c, 256), &inverse);
        for (unsigned j = 0; j < 16; j++) {
            a->nsum[j] = -codes_16(x + c + 16 * j, inverse, a->q + 16 * j);
            a->nsum_16[j] = (int16_t)a->nsum[j];
        }
        for (unsigned j = 0; j < 8; j++)
            a->nsum_32[j] = (int16_t)(a->nsum[2 * j] + a->nsum[2 * j + 1]);
        memset(a->unused, 0, sizeof a->unused);
    }
}

/* Round to nearest even on the bits; NaN stays NaN (made quiet). */
void act_bf16_neon(const float *x, uint32_t cols, void *dst) {
    uint16_t *to = dst;
    uint32_t c = 0;
    for (; c + 4 <= cols; c += 4) {
        uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + c));
        uint32x4_t nan = vcgtq_u32(magnitude_bits(vreinterpretq_f32_u32(bits)),
                                   vdupq_n_u32(0x7F800000));
        uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
        uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
        vst1_u16(to + c, vshrn_n_u32(vbslq_u32(nan, quiet, up), 16));
    }
    if (c < cols)
        act_bf16_ref(x + c, cols - c, to + c);
}
#endif
