/* detect_arm.h - which extensions beyond NEON this 64-bit ARM processor and its system offer. */
#ifndef SLM_KERNELS_ARM_DETECT_ARM_H
#define SLM_KERNELS_ARM_DETECT_ARM_H

#include <stdbool.h>

struct arm_features {
    bool dot; /* SDOT: sums of four products of bytes (Armv8.2, optional) */
    bool v86; /* the above and what Armv8.6 brings: SMMLA, products of 2 x 8 by 8 x 2 bytes, and
               * BFMLALB, BFMLALT, fused multiply-add of bfloat16 into float32 */
};
struct arm_features arm_detect(void);

#endif
