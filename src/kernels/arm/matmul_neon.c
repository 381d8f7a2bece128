/* matmul_neon.c - quantised products for any 64-bit ARM processor: widening multiplications.
 *
 * A product of signed bytes with activations of -127..127 is at most 16256, so the sum of two fits
 * 16 bits, and pairs of those are added into 32 bits: four instructions where SDOT needs one. */
#include "kernels/arm/matmul_arm.h"

#ifdef HAVE_ARM_KERNELS
#define ISA
#define SUFFIX(name) name##_neon
#include <arm_neon.h>

ATTR_INLINE int32x4_t repeat(int8x16_t a, int lane) {
    int32x4_t words = vreinterpretq_s32_s8(a);
    switch (lane) {
    case 0:
        return vdupq_laneq_s32(words, 0);
    case 1:
        return vdupq_laneq_s32(words, 1);
    case 2:
        return vdupq_laneq_s32(words, 2);
    default:
        return vdupq_laneq_s32(words, 3);
    }
}

ATTR_INLINE int32x4_t dot(int32x4_t sum, int8x16_t w, int8x16_t a, int lane) {
    int8x16_t four = vreinterpretq_s8_s32(repeat(a, lane));
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(four)), high = vmull_high_s8(w, four);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}

#include "kernels/arm/matmul_neon_body.h"

TYPES(MATMUL)
#endif
