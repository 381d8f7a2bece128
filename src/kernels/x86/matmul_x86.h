/* matmul_x86.h - products for x86, joined into tables in matmul_x86.c. */
#ifndef SLM_KERNELS_X86_MATMUL_X86_H
#define SLM_KERNELS_X86_MATMUL_X86_H

#include "kernels/table.h"
#include "kernels/tiles.h"

act_fn act_bf16_avx2, act_q8_32_avx2, act_q8_256_avx2;
matmul_fn matmul_plain_avx2, matmul_f32_avx2, matmul_f16_avx2, matmul_bf16_avx2;
matmul_fn matmul_q8_0_avx2, matmul_q4_0_avx2, matmul_q4_1_avx2, matmul_q5_0_avx2;
matmul_fn matmul_q5_1_avx2, matmul_iq4_nl_avx2, matmul_q2_k_avx2, matmul_q3_k_avx2;
matmul_fn matmul_q4_k_avx2, matmul_q5_k_avx2, matmul_q6_k_avx2, matmul_iq4_xs_avx2;

act_fn act_bf16_avx512, act_q8_32_avx512, act_q8_256_avx512;
matmul_fn matmul_plain_avx512, matmul_f32_avx512, matmul_f16_avx512, matmul_bf16_avx512;
matmul_fn matmul_bf16_avx512bf16;
matmul_fn matmul_q8_0_avx512, matmul_q4_0_avx512, matmul_q4_1_avx512, matmul_q5_0_avx512;
matmul_fn matmul_q5_1_avx512, matmul_iq4_nl_avx512, matmul_q2_k_avx512, matmul_q3_k_avx512;
matmul_fn matmul_q4_k_avx512, matmul_q5_k_avx512, matmul_q6_k_avx512, matmul_iq4_xs_avx512;

#endif
