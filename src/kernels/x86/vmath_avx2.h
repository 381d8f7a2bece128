/* vmath_avx2.h - exp and the sum over lanes for 8 elements; bit-equal to ref/vmath.h. */
#ifndef SLM_KERNELS_X86_VMATH_AVX2_H
#define SLM_KERNELS_X86_VMATH_AVX2_H

#include "kernels/ref/vmath.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>

/* The operand order of min and max makes NaN pass, as the comparisons of exp_one do. */
ISA_AVX2 ATTR_INLINE __m256 exp_8(__m256 x) {
    const __m256 low = _mm256_set1_ps(EXP_LOW), round = _mm256_set1_ps(EXP_ROUND);
    __m256 v = _mm256_max_ps(low, _mm256_min_ps(_mm256_set1_ps(EXP_HIGH), x));
    __m256 t = _mm256_fmadd_ps(v, _mm256_set1_ps(EXP_LOG2E), round);
    __m256 n = _mm256_sub_ps(t, round);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_HIGH), v);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_LOW), r);
    __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(EXP_Q4), r, _mm256_set1_ps(EXP_Q3));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(EXP_Q2));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(EXP_Q1));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(EXP_Q0));
    __m256 y = _mm256_add_ps(_mm256_set1_ps(1.0f), _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r));
    __m256i k = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_castps_si256(round));
    __m256i half = _mm256_srai_epi32(k, 1), rest = _mm256_sub_epi32(k, half);
    const __m256i bias = _mm256_set1_epi32(127);
    y = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    y = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
    return _mm256_and_ps(y, _mm256_cmp_ps(x, low, _CMP_NLT_UQ));
}

ISA_AVX2 ATTR_INLINE __m256 negate_8(__m256 x) {
    return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

ISA_AVX2 ATTR_INLINE __m256 silu_8(__m256 x) {
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_8(negate_8(x))));
}

ISA_AVX2 ATTR_INLINE __m256 gelu_8(__m256 x) {
    __m256 z = _mm256_mul_ps(
        x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(GELU_B), _mm256_set1_ps(GELU_A)));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_8(negate_8(z))));
}

/* Sixteen lanes in two registers: 0..7 and 8..15. */
ISA_AVX2 ATTR_INLINE float sum_8_8(__m256 low, __m256 high) {
    __m256 a = _mm256_add_ps(low, high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* Mask of the first n < 8 lanes, for maskload and maskstore. */
ISA_AVX2 ATTR_INLINE __m256i tail_8(size_t n) {
    const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

#endif
#endif
