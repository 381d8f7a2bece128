/* matmul_x86.c - the tables of products for x86. */
#include "kernels/x86/matmul_x86.h"

#include "kernels/ref/matmul.h"

#ifdef HAVE_X86_KERNELS
#define OPS(isa, bf16)                                                                             \
    {                                                                                              \
        .act = { [ACT_F32] = act_f32_ref,                                                          \
                 [ACT_BF16] = act_bf16_##isa,                                                      \
                 [ACT_Q8_32] = act_q8_32_##isa,                                                    \
                 [ACT_Q8_256] = act_q8_256_##isa },                                                \
        .plain = matmul_plain_##isa,                                                               \
        .panel = {                                                                                 \
            [DT_F32] = matmul_f32_##isa,                                                           \
            [DT_F16] = matmul_f16_##isa,                                                           \
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

const struct matmul_ops matmul_ops_avx2 = OPS(avx2, matmul_bf16_avx2);
const struct matmul_ops matmul_ops_avx512 = OPS(avx512, matmul_bf16_avx512);
const struct matmul_ops matmul_ops_avx512bf16 = OPS(avx512, matmul_bf16_avx512bf16);
#endif
