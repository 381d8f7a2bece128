/* attention_avx512.h - what attention_avx512bf16.c takes over from attention_avx512.c as it is. */
#ifndef SLM_KERNELS_X86_ATTENTION_AVX512_H
#define SLM_KERNELS_X86_ATTENTION_AVX512_H

#include "kernels/ref/rows.h"
#include "kernels/x86/vmath_avx512.h"

#ifdef HAVE_X86_KERNELS
void avx512_kv_store(enum kv_type t, const float *x, size_t d, void *dst);
void avx512_kv_load(enum kv_type t, const void *src, size_t d, float *x);
void avx512_softmax(float *s, size_t n, float *max, float *sum);
void avx512_merge(float *run_max, float *run_sum, float *run_acc, float max, float sum,
                  const float *acc, size_t d);
#endif

#endif
