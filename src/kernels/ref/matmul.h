/* matmul.h - reference pieces that the tables of other instruction sets also use. */
#ifndef SLM_KERNELS_REF_MATMUL_H
#define SLM_KERNELS_REF_MATMUL_H

#include <float.h>

#include "kernels/panel.h"
#include "kernels/table.h"

/* MATRIX_PLAIN: rows that are dequantised together, at the start of scratch. */
#define PLAIN_ROWS 4
/* Floats from one dequantised row to the next in scratch: cols rounded up to whole vectors. */
static inline size_t plain_stride(uint32_t cols) {
    return ((size_t)cols + 15) / 16 * 16;
}

act_fn act_f32_ref, act_bf16_ref, act_q8_32_ref, act_q8_256_ref;
void act_256_sums(struct act_256 *a); /* fills everything but q and d */

matmul_fn matmul_plain_ref, matmul_f32_ref, matmul_f16_ref, matmul_bf16_ref, matmul_q_ref;

#endif
