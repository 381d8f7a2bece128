/* matmul_neon_dot.c - quantised products with the dot product extension (SDOT). */
#include "kernels/arm/matmul_arm.h"

#ifdef HAVE_ARM_EXTENSIONS
#define ISA ISA_NEON_DOT
#define SUFFIX(name) name##_neon_dot
#include <arm_neon.h>

ATTR_INLINE ISA int32x4_t dot(int32x4_t sum, int8x16_t w, int8x16_t a, int lane) {
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(sum, w, a, 0);
    case 1:
        return vdotq_laneq_s32(sum, w, a, 1);
    case 2:
        return vdotq_laneq_s32(sum, w, a, 2);
    default:
        return vdotq_laneq_s32(sum, w, a, 3);
    }
}

#include "kernels/arm/matmul_neon_body.h"

TYPES(MATMUL)
#endif
