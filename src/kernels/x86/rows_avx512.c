/* rows_avx512.c - row kernels, 16 elements at a time; the same bits as ref/rows.c.
 *
 * Ends of rows are masked: masked-off lanes read nothing and count as zero. */
#include "kernels/ref/rows.h"
#include "kernels/x86/vmath_avx512.h"

#ifdef HAVE_X86_KERNELS

/* for (i, m) over n elements by 16: m is the mask of the lanes that exist */
#define FOR_16(i, m, n)                                                                            \
    for (size_t i = 0; i < (n); i += 16)                                                           \
        for (__mmask16 m = (n)-i >= 16 ? (__mmask16)0xffff : tail_16((n)-i), m##_once = 1;         \
             m##_once; m##_once = 0)

/* Lanes 0..7 and 8..15 of the sixteen float64 sums. */
ISA_AVX512 static double sum_squares(const float *x, size_t n) {
    __m512d a = _mm512_setzero_pd(), b = _mm512_setzero_pd();
    FOR_16(i, m, n) {
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        a = _mm512_fmadd_pd(low, low, a);
        b = _mm512_fmadd_pd(high, high, b);
    }
    a = _mm512_add_pd(a, b);
    __m256d c = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(c), _mm256_extractf128_pd(c, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}

ISA_AVX512 static void avx512_rmsnorm(const float *x, const float *w, bool plus_one, float eps,
                                      size_t n, float *out) {
    __m512 factor = _mm512_set1_ps(norm_factor(sum_squares(x, n), n, eps));
    __m512 one = _mm512_set1_ps(1.0f);
    FOR_16(i, m, n) {
        __m512 weight = _mm512_maskz_loadu_ps(m, w + i);
        if (plus_one)
            weight = _mm512_add_ps(one, weight);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), factor);
        _mm512_mask_storeu_ps(out + i, m, _mm512_mul_ps(v, weight));
    }
}

ISA_AVX512 static void avx512_add(float *x, const float *y, size_t n) {
    FOR_16(i, m, n) {
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, y + i)));
    }
}

ISA_AVX512 static void avx512_scale(float *x, float s, size_t n) {
    __m512 factor = _mm512_set1_ps(s);
    FOR_16(i, m, n) {
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(v, factor));
    }
}

ISA_AVX512 static void avx512_silu_mul(const float *gate, const float *up, size_t n, float *h) {
    FOR_16(i, m, n) {
        __m512 g = silu_16(_mm512_maskz_loadu_ps(m, gate + i));
        _mm512_mask_storeu_ps(h + i, m, _mm512_mul_ps(g, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

ISA_AVX512 static void avx512_gelu_mul(const float *gate, const float *up, size_t n, float *h) {
    FOR_16(i, m, n) {
        __m512 g = gelu_16(_mm512_maskz_loadu_ps(m, gate + i));
        _mm512_mask_storeu_ps(h + i, m, _mm512_mul_ps(g, _mm512_maskz_loadu_ps(m, up + i)));
    }
}

ISA_AVX512 static void rope_halves(float *x, const float *cosine, const float *sine,
                                   size_t n_pairs) {
    FOR_16(i, m, n_pairs) {
        __m512 a = _mm512_maskz_loadu_ps(m, x + i), b = _mm512_maskz_loadu_ps(m, x + i + n_pairs);
        __m512 c = _mm512_maskz_loadu_ps(m, cosine + i), s = _mm512_maskz_loadu_ps(m, sine + i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + i + n_pairs, m, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

/* Eight pairs at a time: even lanes a c - b s, odd lanes b c + a s. */
ISA_AVX512 static void rope_neighbours(float *x, const float *cosine, const float *sine,
                                       size_t n_pairs) {
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (size_t i = 0; i < n_pairs; i += 8) {
        size_t left = n_pairs - i < 8 ? n_pairs - i : 8;
        __mmask16 pairs = tail_16(left), m = tail_16(2 * left);
        __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs, cosine + i));
        __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(pairs, sine + i));
        __m512 v = _mm512_maskz_loadu_ps(m, x + 2 * i);
        __m512 product = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), s);
        _mm512_mask_storeu_ps(x + 2 * i, m, _mm512_fmaddsub_ps(v, c, product));
    }
}

static void avx512_rope(float *x, const float *cosine, const float *sine, size_t n_pairs,
                        bool interleaved) {
    if (interleaved)
        rope_neighbours(x, cosine, sine, n_pairs);
    else
        rope_halves(x, cosine, sine, n_pairs);
}

/* Each lane keeps its first largest value; of those the largest with the lowest index wins. */
ISA_AVX512 static uint32_t avx512_argmax(const float *x, size_t n, bool *finite) {
    __m512 best = _mm512_set1_ps(-INFINITY);
    __m512i index = _mm512_setzero_si512();
    __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __mmask16 odd = 0;
    FOR_16(i, m, n) {
        __m512 v = _mm512_maskz_loadu_ps(m, x + i);
        odd |= _mm512_fpclass_ps_mask(v, 0x99); /* NaN of both kinds, infinity of both signs */
        __mmask16 more = _mm512_mask_cmp_ps_mask(m, v, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, more, v);
        index = _mm512_mask_mov_epi32(index, more, at);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    float value[16], top = -INFINITY;
    uint32_t where[16], result = 0;
    _mm512_storeu_ps(value, best);
    _mm512_storeu_si512(where, index);
    for (unsigned l = 0; l < 16; l++) {
        if (value[l] > top || (value[l] == top && where[l] < result)) {
            top = value[l];
            result = where[l];
        }
    }
    *finite = odd == 0;
    return result;
}

const struct row_ops row_ops_avx512 = {
    .rmsnorm = avx512_rmsnorm,
    .add = avx512_add,
    .scale = avx512_scale,
    .silu_mul = avx512_silu_mul,
    .gelu_mul = avx512_gelu_mul,
    .rope = avx512_rope,
    .argmax = avx512_argmax,
};

#endif
