/* vmath_avx512.h - exp and the sum over lanes for 16 elements; bit-equal to ref/vmath.h. */
#ifndef SLM_KERNELS_X86_VMATH_AVX512_H
#define SLM_KERNELS_X86_VMATH_AVX512_H

#include "kernels/ref/vmath.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>

/* Mask of the lanes that are left when n < 16 elements remain. */
ISA_AVX512 ATTR_INLINE __mmask16 tail_16(size_t n) {
    return (__mmask16)((1u << n) - 1u);
}

/* The operand order of min and max makes NaN pass, as the comparisons of exp_one do. scalef is one
 * rounding of y * 2^n; the result is normal or infinite, so two factors give the same. */
ISA_AVX512 ATTR_INLINE __m512 exp_16(__m512 x) {
    const __m512 low = _mm512_set1_ps(EXP_LOW), round = _mm512_set1_ps(EXP_ROUND);
    __m512 v = _mm512_max_ps(low, _mm512_min_ps(_mm512_set1_ps(EXP_HIGH), x));
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(v, _mm512_set1_ps(EXP_LOG2E), round), round);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_HIGH), v);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_LOW), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(EXP_Q4), r, _mm512_set1_ps(EXP_Q3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(EXP_Q2));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(EXP_Q1));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(EXP_Q0));
    __m512 y = _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r);
    y = _mm512_scalef_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), y), n);
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), y);
}

ISA_AVX512 ATTR_INLINE __m512 negate_16(__m512 x) {
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

ISA_AVX512 ATTR_INLINE __m512 silu_16(__m512 x) {
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_16(negate_16(x))));
}

ISA_AVX512 ATTR_INLINE __m512 gelu_16(__m512 x) {
    __m512 z = _mm512_mul_ps(
        x, _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(GELU_B), _mm512_set1_ps(GELU_A)));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_16(negate_16(z))));
}

ISA_AVX512 ATTR_INLINE float sum_16(__m512 s) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

#endif
#endif
