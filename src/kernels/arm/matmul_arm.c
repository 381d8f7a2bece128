/* matmul_arm.c - the tables of products for 64-bit ARM: any processor, one with the dot product
 * extension, one with that and the BF16 extension. */
#include "kernels/arm/matmul_arm.h"

#include "kernels/ref/matmul.h"

#ifdef HAVE_ARM_KERNELS
#define OPS(isa, bf16)                                                                             \
    {                                                                                              \
        .act = { [ACT_F32] = act_f32_ref,                                                          \
                 [ACT_BF16] = act_bf16_neon,                                                       \
                 [ACT_Q8_32] = act_q8_32_neon,                                                     \
                 [ACT_Q8_256] = act_q8_256_neon },                                                 \
        .plain = matmul_plain_neon,                                                                \
        .panel = {                                                                                 \
            [DT_F32] = matmul_f32_neon,                                                            \
            [DT_F16] = matmul_f16_neon,                                                            \
            [DT_BF16] = bf16,                                                                      \
            [DT_Q8_0] = matmul_q8_0_##isa,                                                         \
            [DT_Q4_0] = matmul_q4_0_##isa,                                                         \
            [DT_Q4_1] = matmul_q4_1_##isa,                                                         \
            [DT_Q5_0] = matmul_q5_0_##isa,                                                         \
            [DT_Q5_1] = matmul_q5_1_##isa,                                                         \
            [DT_IQ4_NL] = matmul_iq4_nl_##isa,                                                     \
            [DT_Q2_K] = matmul_q2_k_##isa,                                                         \
            [DT_Q3_K] = matmul_q3_k_##isa,                                                         \
            [DT_Q4_K] = matmul_q4_k_##isa,                                                         \
            [DT_Q5_K] = matmul_q5_k_##isa,                                                         \
            [DT_Q6_K] = matmul_q6_k_##isa,                                                         \
            [DT_IQ4_XS] = matmul_iq4_xs_##isa,                                                     \
        },                                                                                         \
    }

const struct matmul_ops matmul_ops_neon = OPS(neon, matmul_bf16_neon);
#ifdef HAVE_ARM_EXTENSIONS
const struct matmul_ops matmul_ops_neon_dot = OPS(neon_dot, matmul_bf16_neon);
const struct matmul_ops matmul_ops_neon_bf16 = OPS(neon_dot, matmul_bf16_neon_bf16);
#endif
#endif
