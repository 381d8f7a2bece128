/* rows_avx2.c - row kernels, 8 elements at a time; the same bits as ref/rows.c.
 *
 * Ends of rows go through masked loads and stores, which touch only what exists. */
#include "kernels/ref/rows.h"
#include "kernels/x86/vmath_avx2.h"

#ifdef HAVE_X86_KERNELS

/* Elements i..i+7 of x[n]; those past the end read as zero. */
ISA_AVX2 ATTR_INLINE __m256 load_8(const float *x, size_t i, size_t n) {
    return n - i >= 8 ? _mm256_loadu_ps(x + i) : _mm256_maskload_ps(x + i, tail_8(n - i));
}
ISA_AVX2 ATTR_INLINE void store_8(float *x, size_t i, size_t n, __m256 v) {
    if (n - i >= 8)
        _mm256_storeu_ps(x + i, v);
    else
        _mm256_maskstore_ps(x + i, tail_8(n - i), v);
}

/* Sixteen float64 sums in four registers; index modulo 16 picks the lane. */
ISA_AVX2 static double sum_squares(const float *x, size_t n) {
    __m256d s[4];
    for (unsigned c = 0; c < 4; c++)
        s[c] = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 16) {
        for (unsigned half = 0; half < 2 && i + 8 * half < n; half++) {
            __m256 v = load_8(x, i + 8 * half, n);
            __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
            s[2 * half] = _mm256_fmadd_pd(a, a, s[2 * half]);
            s[2 * half + 1] = _mm256_fmadd_pd(b, b, s[2 * half + 1]);
        }
    }
    __m256d c = _mm256_add_pd(_mm256_add_pd(s[0], s[2]), _mm256_add_pd(s[1], s[3]));
    __m128d d = _mm_add_pd(_mm256_castpd256_pd128(c), _mm256_extractf128_pd(c, 1));
    return _mm_cvtsd_f64(_mm_add_sd(d, _mm_unpackhi_pd(d, d)));
}

ISA_AVX2 static void avx2_rmsnorm(const float *x, const float *w, bool plus_one, float eps,
                                  size_t n, float *out) {
    __m256 factor = _mm256_set1_ps(norm_factor(sum_squares(x, n), n, eps));
    __m256 one = _mm256_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256 weight = load_8(w, i, n);
        if (plus_one)
            weight = _mm256_add_ps(one, weight);
        store_8(out, i, n, _mm256_mul_ps(_mm256_mul_ps(load_8(x, i, n), factor), weight));
    }
}

ISA_AVX2 static void avx2_add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i += 8)
        store_8(x, i, n, _mm256_add_ps(load_8(x, i, n), load_8(y, i, n)));
}

ISA_AVX2 static void avx2_scale(float *x, float s, size_t n) {
    __m256 factor = _mm256_set1_ps(s);
    for (size_t i = 0; i < n; i += 8)
        store_8(x, i, n, _mm256_mul_ps(load_8(x, i, n), factor));
}

ISA_AVX2 static void avx2_silu_mul(const float *gate, const float *up, size_t n, float *h) {
    for (size_t i = 0; i < n; i += 8)
        store_8(h, i, n, _mm256_mul_ps(silu_8(load_8(gate, i, n)), load_8(up, i, n)));
}

ISA_AVX2 static void avx2_gelu_mul(const float *gate, const float *up, size_t n, float *h) {
    for (size_t i = 0; i < n; i += 8)
        store_8(h, i, n, _mm256_mul_ps(gelu_8(load_8(gate, i, n)), load_8(up, i, n)));
}

ISA_AVX2 static void rope_halves(float *x, const float *cosine, const float *sine, size_t n) {
    float *y = x + n;
    for (size_t i = 0; i < n; i += 8) {
        __m256 a = load_8(x, i, n), b = load_8(y, i, n);
        __m256 c = load_8(cosine, i, n), s = load_8(sine, i, n);
        store_8(x, i, n, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store_8(y, i, n, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
}

/* Four floats as eight, each twice. */
ISA_AVX2 ATTR_INLINE __m256 twice_4(const float *x, size_t i, size_t n) {
    const __m256i order = _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0);
    size_t left = n - i < 4 ? n - i : 4;
    return _mm256_permutevar8x32_ps(_mm256_maskload_ps(x + i, tail_8(left)), order);
}

/* Four pairs at a time: even lanes a c - b s, odd lanes b c + a s. */
ISA_AVX2 static void rope_neighbours(float *x, const float *cosine, const float *sine,
                                     size_t n_pairs) {
    for (size_t i = 0; i < n_pairs; i += 4) {
        __m256 c = twice_4(cosine, i, n_pairs), s = twice_4(sine, i, n_pairs);
        __m256 v = load_8(x, 2 * i, 2 * n_pairs);
        __m256 product = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), s);
        store_8(x, 2 * i, 2 * n_pairs, _mm256_fmaddsub_ps(v, c, product));
    }
}

static void avx2_rope(float *x, const float *cosine, const float *sine, size_t n_pairs,
                      bool interleaved) {
    if (interleaved)
        rope_neighbours(x, cosine, sine, n_pairs);
    else
        rope_halves(x, cosine, sine, n_pairs);
}

/* Each lane keeps its first largest value; of those the largest with the lowest index wins. Lanes
 * past the end read as 0, which could win, so the end is done one by one. */
ISA_AVX2 static uint32_t avx2_argmax(const float *x, size_t n, bool *finite) {
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256 best = _mm256_set1_ps(-INFINITY);
    __m256i index = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
    __m256i at = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    size_t whole = n / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256i e = _mm256_and_si256(_mm256_castps_si256(v), exponent);
        odd = _mm256_or_si256(odd, _mm256_cmpeq_epi32(e, exponent));
        __m256 more = _mm256_cmp_ps(v, best, _CMP_GT_OQ);
        best = _mm256_blendv_ps(best, v, more);
        index = _mm256_blendv_epi8(index, at, _mm256_castps_si256(more));
        at = _mm256_add_epi32(at, _mm256_set1_epi32(8));
    }
    float value[8], top = -INFINITY;
    uint32_t where[8], result = 0;
    _mm256_storeu_ps(value, best);
    _mm256_storeu_si256((__m256i *)where, index);
    for (unsigned l = 0; l < 8; l++) {
        if (value[l] > top || (value[l] == top && where[l] < result)) {
            top = value[l];
            result = where[l];
        }
    }
    bool all_finite = _mm256_testz_si256(odd, odd) != 0;
    for (size_t i = whole; i < n; i++) {
        all_finite = all_finite && isfinite(x[i]);
        if (x[i] > top) {
            top = x[i];
            result = (uint32_t)i;
        }
    }
    *finite = all_finite;
    return result;
}

const struct row_ops row_ops_avx2 = {
    .rmsnorm = avx2_rmsnorm,
    .add = avx2_add,
    .scale = avx2_scale,
    .silu_mul = avx2_silu_mul,
    .gelu_mul = avx2_gelu_mul,
    .rope = avx2_rope,
    .argmax = avx2_argmax,
};

#endif
