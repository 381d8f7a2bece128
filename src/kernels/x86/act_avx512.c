/* act_avx512.c - activations into bfloat16 and int8; rule and structs in panel.h. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX512

INLINE __m512i magnitude_bits(__m512 v) {
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF));
}

/* From the largest magnitude as float32 bits (ordered like the numbers, NaN above infinity): the
 * scale, and the factor to multiply by before rounding, 0 when all codes are 0. */
static float scale_of(uint32_t max_bits, float *inverse) {
    float max;
    memcpy(&max, &max_bits, 4);
    *inverse = 0;
    if (max_bits >= 0x7F800000u)
        return NAN;
    if (max < ACT_TINY)
        return 0;
    *inverse = 127.0f / max;
    return max / 127.0f;
}

/* 16 codes; a factor of 0 gives 0 also for NaN and infinity. */
INLINE __m512i codes(__m512 v, float inverse) {
    __mmask16 use = inverse > 0 ? (__mmask16)0xFFFF : (__mmask16)0;
    return _mm512_maskz_cvtps_epi32(use, _mm512_mul_ps(v, _mm512_set1_ps(inverse)));
}

ISA_AVX512 void act_q8_32_avx512(const float *x, uint32_t cols, void *dst) {
    struct act_32 *a = dst;
    for (uint32_t c = 0; c < cols; c += 32, a++) {
        __m512 v0 = _mm512_loadu_ps(x + c), v1 = _mm512_loadu_ps(x + c + 16);
        float inverse;
        a->d = scale_of(
            _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude_bits(v0), magnitude_bits(v1))),
            &inverse);
        __m512i q0 = codes(v0, inverse), q1 = codes(v1, inverse);
        _mm_storeu_si128((__m128i *)(void *)a->q, _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(a->q + 16), _mm512_cvtepi32_epi8(q1));
        int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
        a->nsum = -sum;
        a->dsum = a->d * (float)sum;
        a->unused = 0;
    }
}

ISA_AVX512 void act_q8_256_avx512(const float *x, uint32_t cols, void *dst) {
    struct act_256 *a = dst;
    for (uint32_t c = 0; c < cols; c += 256, a++) {
        __m512i max = _mm512_setzero_si512();
        for (int j = 0; j < 16; j++)
            max = _mm512_max_epu32(max, magnitude_bits(_mm512_loadu_ps(x + c + 16 * j)));
        float inverse;
        a->d = scale_of(_mm512_reduce_max_epu32(max), &inverse);
        for (int j = 0; j < 16; j++) {
            __m512i q = codes(_mm512_loadu_ps(x + c + 16 * j), inverse);
            _mm_storeu_si128((__m128i *)(void *)(a->q + 16 * j), _mm512_cvtepi32_epi8(q));
            a->nsum[j] = -_mm512_reduce_add_epi32(q);
            a->nsum_16[j] = (int16_t)a->nsum[j];
        }
        for (int j = 0; j < 8; j++)
            a->nsum_32[j] = (int16_t)(a->nsum[2 * j] + a->nsum[2 * j + 1]);
        memset(a->unused, 0, sizeof a->unused);
    }
}

/* Round to nearest even on the bits; NaN stays NaN (made quiet). */
ISA_AVX512 void act_bf16_avx512(const float *x, uint32_t cols, void *dst) {
    uint16_t *to = dst;
    uint32_t c = 0;
    for (; c + 16 <= cols; c += 16) {
        __m512i bits = _mm512_loadu_si512(x + c);
        __mmask16 nan = _mm512_cmpgt_epu32_mask(magnitude_bits(_mm512_castsi512_ps(bits)),
                                                _mm512_set1_epi32(0x7F800000));
        __m512i high = _mm512_srli_epi32(bits, 16);
        __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
        __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
        __m512i rounded =
            _mm512_mask_or_epi32(_mm512_srli_epi32(up, 16), nan, high, _mm512_set1_epi32(0x40));
        _mm256_storeu_si256((__m256i *)(void *)(to + c), _mm512_cvtepi32_epi16(rounded));
    }
    if (c < cols)
        act_bf16_ref(x + c, cols - c, to + c);
}
#endif
