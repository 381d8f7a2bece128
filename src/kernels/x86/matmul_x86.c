/* matmul_x86.c - the tables of products for x86. */
#include "kernels/x86/matmul_x86.h"

#include "kernels/ref/matmul.h"

#ifdef HAVE_X86_KERNELS
#define AVX512_OPS(bf16)                                                                              \
    {                                                                                                 \
        .act = { [ACT_F32] = act_f32_ref, [ACT_BF16] = act_bf16_avx512,                               \
                 [ACT_Q8_32] = act_q8_32_avx512, [ACT_Q8_256] = act_q8_256_avx512 },                  \
        .plain = matmul_plain_avx512,                                                                 \
        .panel = {                                                                                    \
            [DT_F32] = matmul_f32_avx512, [DT_F16] = matmul_f16_avx512, [DT_BF16] = bf16,             \
            [DT_Q8_0] = matmul_q8_0_avx512, [DT_Q4_0] = matmul_q4_0_avx512,                           \
            [DT_Q4_1] = matmul_q4_1_avx512, [DT_Q5_0] = matmul_q5_0_avx512,                           \
            [DT_Q5_1] = matmul_q5_1_avx512, [DT_IQ4_NL] = matmul_iq4_nl_avx512,                       \
            [DT_Q2_K] = matmul_q2_k_avx512, [DT_Q3_K] = matmul_q3_k_avx512,                           \
            [DT_Q4_K] = matmul_q4_k_avx512, [DT_Q5_K] = matmul_q5_k_avx512,                           \
            [DT_Q6_K] = matmul_q6_k_avx512, [DT_IQ4_XS] = matmul_iq4_xs_avx512,                       \
        },                                                                                            \
    }

const struct matmul_ops matmul_ops_avx512 = AVX512_OPS(matmul_bf16_avx512);
const struct matmul_ops matmul_ops_avx512bf16 = AVX512_OPS(matmul_bf16_avx512bf16);
#endif
