/* act_avx2.c - activations into bfloat16 and int8; rule and structs in panel.h. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX2

INLINE __m256i magnitude_bits(__m256 v) {
    return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7FFFFFFF));
}

INLINE uint32_t max_of(__m256i v) {
    __m128i a = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4E));
    a = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(a);
}

INLINE int32_t sum_of(__m256i v) {
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4E));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0xB1));
    return _mm_cvtsi128_si32(a);
}

/* Largest magnitude of x[n], n a multiple of 8, as float32 bits: ordered like the numbers, NaN above
 * infinity. */
INLINE uint32_t largest(const float *x, size_t n) {
    __m256i max = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8)
        max = _mm256_max_epu32(max, magnitude_bits(_mm256_loadu_ps(x + i)));
    return max_of(max);
}

/* The scale, and the factor to multiply by before rounding, 0 when all codes are 0. */
INLINE float scale_of(uint32_t max_bits, float *inverse) {
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

/* 8 codes; the mask clears what NaN or infinity times 0 would leave. */
INLINE __m256i codes(const float *x, float inverse) {
    __m256 factor = _mm256_set1_ps(inverse);
    __m256i use = _mm256_castps_si256(_mm256_cmp_ps(factor, _mm256_setzero_ps(), _CMP_GT_OQ));
    return _mm256_and_si256(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor)), use);
}

/* 16 codes of x to q; returns their sum. */
INLINE int32_t codes_16(const float *x, float inverse, int8_t *q) {
    __m256i a = codes(x, inverse), b = codes(x + 8, inverse);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)q, bytes);
    return sum_of(_mm256_add_epi32(a, b));
}

ISA_AVX2 void act_q8_32_avx2(const float *x, uint32_t cols, void *dst) {
    struct act_32 *a = dst;
    for (uint32_t c = 0; c < cols; c += 32, a++) {
        float inverse;
        a->d = scale_of(largest(x + c, 32), &inverse);
        int32_t sum = codes_16(x + c, inverse, a->q) + codes_16(x + c + 16, inverse, a->q + 16);
        a->nsum = -sum;
        a->dsum = a->d * (float)sum;
        a->unused = 0;
    }
}

ISA_AVX2 void act_q8_256_avx2(const float *x, uint32_t cols, void *dst) {
    struct act_256 *a = dst;
    for (uint32_t c = 0; c < cols; c += 256, a++) {
        float inverse;
        a->d = scale_of(largest(x + c, 256), &inverse);
        for (unsigned j = 0; j < 16; j++) {
            a->nsum[j] = -codes_16(x + c + 16 * j, inverse, a->q + 16 * j);
            a->nsum_16[j] = (int16_t)a->nsum[j];
        }
        for (unsigned j = 0; j < 8; j++)
            a->nsum_32[j] = (int16_t)(a->nsum[2 * j] + a->nsum[2 * j + 1]);
        memset(a->unused, 0, sizeof a->unused);
    }
}

/* Round to nearest even on the bits; NaN stays NaN (made quiet). */
ISA_AVX2 void act_bf16_avx2(const float *x, uint32_t cols, void *dst) {
    uint16_t *to = dst;
    uint32_t c = 0;
    for (; c + 8 <= cols; c += 8) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(x + c));
        __m256i nan = _mm256_cmpgt_epi32(magnitude_bits(_mm256_castsi256_ps(bits)),
                                         _mm256_set1_epi32(0x7F800000));
        __m256i high = _mm256_srli_epi32(bits, 16);
        __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
        __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
        __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(up, 16),
                                             _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0xD8);
        _mm_storeu_si128((__m128i *)(void *)(to + c), _mm256_castsi256_si128(packed));
    }
    if (c < cols)
        act_bf16_ref(x + c, cols - c, to + c);
}
#endif
