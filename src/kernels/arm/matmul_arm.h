/* matmul_arm.h - products for 64-bit ARM, joined into tables in matmul_arm.c. */
#ifndef SLM_KERNELS_ARM_MATMUL_ARM_H
#define SLM_KERNELS_ARM_MATMUL_ARM_H

#include "kernels/table.h"
#include "kernels/tiles.h"

act_fn act_bf16_neon, act_q8_32_neon, act_q8_256_neon;
matmul_fn matmul_plain_neon, matmul_f32_neon, matmul_f16_neon, matmul_bf16_neon;
matmul_fn matmul_bf16_neon_bf16;

/* the integer products of one instruction set */
#define QUANTISED_FNS(isa)                                                                         \
    matmul_fn matmul_q8_0_##isa, matmul_q4_0_##isa, matmul_q4_1_##isa, matmul_q5_0_##isa,          \
        matmul_q5_1_##isa, matmul_iq4_nl_##isa, matmul_q2_k_##isa, matmul_q3_k_##isa,              \
        matmul_q4_k_##isa, matmul_q5_k_##isa, matmul_q6_k_##isa, matmul_iq4_xs_##isa;
QUANTISED_FNS(neon)
QUANTISED_FNS(neon_dot)

#endif
