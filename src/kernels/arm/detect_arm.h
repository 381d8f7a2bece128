/* detect_arm.h - which extensions beyond NEON this 64-bit ARM processor and its system offer. */
#ifndef SLM_KERNELS_ARM_DETECT_ARM_H
#define SLM_KERNELS_ARM_DETECT_ARM_H

#include <stdbool.h>

struct arm_features {
    bool dot;  /* SDOT: sums of four products of bytes (Armv8.2, optional; Armv8.4) */
    bool bf16; /* the above and BFMLALB, BFMLALT: fused multiply-add of bfloat16 into float32
                * (Armv8.2, optional; Armv8.6) */
};
struct arm_features arm_detect(void);

#endif
