/* attention_avx512.c - attention over one span of keys, 16 elements at a time; the same bits as
 * ref/attention.c.
 *
 * Scores: tiles of 4 keys x up to 4 queries, one register of 16 lanes for each pair, so that a key
 * is read and converted once for 4 queries and 16 sums share their tree of additions (reduce_4x4).
 * Mix: up to 4 queries x 64 elements (2 x 128) stay in registers while the values pass.
 * More than 4 queries: keys or values are converted to float32 once, in blocks that stay in the
 * first-level cache, and the float32 tiles run over them. Conversions are exact (Q8: one rounding,
 * the same one), so it makes no difference to the result. Rates: check_attention --bench. */
#include "kernels/x86/attention_avx512.h"

#ifdef HAVE_X86_KERNELS

#define CONVERTED 4096  /* floats of the block of converted rows */
#define MIX_BYTES 16384 /* values that pass all tiles of elements before the next ones do */

/* Asks for the lines of n bytes (constant) that lie `ahead` of a row; any address will do. Into the
 * second-level cache, which keeps more lines on their way than the first. */
ISA_AVX512 ATTR_INLINE void want(const uint8_t *row, size_t ahead, size_t n) {
    for (size_t b = 0; b < n; b += 64)
        _mm_prefetch((const char *)((uintptr_t)row + ahead + b), _MM_HINT_T1);
}

/* Bytes of n elements, near enough for prefetching. */
ISA_AVX512 ATTR_INLINE size_t element_bytes(enum kv_type t, size_t n) {
    return t == KV_F32 ? 4 * n : t == KV_Q8 ? n : 2 * n;
}

/* ---- rows of the cache ---- */

/* Elements i..i+15 of a row, those of mask m (the others are zero and not read). */
ISA_AVX512 ATTR_INLINE __m512 load_16(enum kv_type t, const uint8_t *row, size_t d, size_t i,
                                      __mmask16 m) {
    if (t == KV_F32)
        return _mm512_maskz_loadu_ps(m, row + 4 * i);
    if (t == KV_F16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, row + 2 * i));
    if (t == KV_BF16) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, row + 2 * i));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    uint16_t scale;
    memcpy(&scale, row + 2 * (i / KV_GROUP), 2);
    const uint8_t *codes = row + 2 * ((d + KV_GROUP - 1) / KV_GROUP);
    __m512 s = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
    __m512i code = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, codes + i));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(code), s);
}

/* bfloat16 of 16 floats as base's f32_to_bf16: nearest even; NaN becomes quiet. */
ISA_AVX512 ATTR_INLINE __m256i bf16_of_16(__m512 v) {
    __m512i u = _mm512_castps_si512(v);
    __m512i even = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i near = _mm512_add_epi32(u, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    near = _mm512_mask_or_epi32(near, nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(near, 16));
}

ISA_AVX512 static void store_q8(const float *x, size_t d, uint8_t *dst) {
    size_t groups = (d + KV_GROUP - 1) / KV_GROUP, used = 2 * groups + d;
    for (size_t g = 0; g < groups; g++) {
        size_t first = g * KV_GROUP, n = d - first < KV_GROUP ? d - first : KV_GROUP;
        __mmask16 m0 = n >= 16 ? (__mmask16)0xffff : tail_16(n),
                  m1 = n >= 16 ? tail_16(n - 16) : (__mmask16)0;
        __m512 a = _mm512_maskz_loadu_ps(m0, x + first),
               b = _mm512_maskz_loadu_ps(m1, x + first + 16);
        __m512i magnitude = _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(a)),
                                             _mm512_castps_si512(_mm512_abs_ps(b)));
        float inverse;
        uint16_t scale = kv_q8_scale(float_of_bits(_mm512_reduce_max_epu32(magnitude)), &inverse);
        memcpy(dst + 2 * g, &scale, 2);
        __m512 factor = _mm512_set1_ps(inverse), low = _mm512_set1_ps(-127.0f),
               high = _mm512_set1_ps(127.0f);
        a = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(a, factor), low), high);
        b = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(b, factor), low), high);
        uint8_t *codes = dst + 2 * groups + first;
        __mmask16 any =
            inverse == 0.0f ? (__mmask16)0 : (__mmask16)0xffff; /* then x * 0 may be NaN */
        _mm_mask_storeu_epi8(codes, m0,
                             _mm_maskz_mov_epi8(any, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a))));
        _mm_mask_storeu_epi8(codes + 16, m1,
                             _mm_maskz_mov_epi8(any, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(b))));
    }
    memset(dst + used, 0, kv_row_bytes(KV_Q8, d) - used);
}

ISA_AVX512 void avx512_kv_store(enum kv_type t, const float *x, size_t d, void *dst) {
    uint8_t *p = dst;
    if (t == KV_F32) {
        memcpy(p, x, 4 * d);
    } else if (t == KV_Q8) {
        store_q8(x, d, p);
    } else {
        for (size_t i = 0; i < d; i += 16) {
            __mmask16 m = d - i >= 16 ? (__mmask16)0xffff : tail_16(d - i);
            __m512 v = _mm512_maskz_loadu_ps(m, x + i);
            __m256i h = t == KV_F16 ? _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : bf16_of_16(v);
            _mm256_mask_storeu_epi16(p + 2 * i, m, h);
        }
    }
}

ISA_AVX512 ATTR_INLINE void load_row(enum kv_type t, const uint8_t *src, size_t d, float *x) {
    size_t i = 0;
    for (; i + 16 <= d; i += 16)
        _mm512_storeu_ps(x + i, load_16(t, src, d, i, (__mmask16)0xffff));
    if (i < d)
        _mm512_mask_storeu_ps(x + i, tail_16(d - i), load_16(t, src, d, i, tail_16(d - i)));
}

ISA_AVX512 void avx512_kv_load(enum kv_type t, const void *src, size_t d, float *x) {
    switch (t) {
    case KV_F32:
        memcpy(x, src, 4 * d);
        break;
    case KV_F16:
        load_row(KV_F16, src, d, x);
        break;
    case KV_BF16:
        load_row(KV_BF16, src, d, x);
        break;
    default:
        load_row(KV_Q8, src, d, x);
        break;
    }
}

/* ---- scores ---- */

/* Sums of 16 registers a[4 * query + key] by the fixed tree, all at once: each step adds lanes l and
 * l + 8, then l + 4, l + 2, l + 1, of two registers in one. Result: lane 4 * key + query. */
ISA_AVX512 ATTR_INLINE __m512 reduce_4x4(const __m512 a[16]) {
    __m512 quad[4];
    for (unsigned r = 0; r < 4; r++) {
        const __m512 *k = a + 4 * r;
        __m512 s01 = _mm512_add_ps(_mm512_shuffle_f32x4(k[0], k[1], 0x44),
                                   _mm512_shuffle_f32x4(k[0], k[1], 0xee));
        __m512 s23 = _mm512_add_ps(_mm512_shuffle_f32x4(k[2], k[3], 0x44),
                                   _mm512_shuffle_f32x4(k[2], k[3], 0xee));
        quad[r] = _mm512_add_ps(_mm512_shuffle_f32x4(s01, s23, 0x88),
                                _mm512_shuffle_f32x4(s01, s23, 0xdd));
    }
    __m512 p01 = _mm512_add_ps(_mm512_shuffle_ps(quad[0], quad[1], 0x44),
                               _mm512_shuffle_ps(quad[0], quad[1], 0xee));
    __m512 p23 = _mm512_add_ps(_mm512_shuffle_ps(quad[2], quad[3], 0x44),
                               _mm512_shuffle_ps(quad[2], quad[3], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(p01, p23, 0x88), _mm512_shuffle_ps(p01, p23, 0xdd));
}

/* n_q (1..4, constant) queries against 4 keys; stores n (1..4) scores of each query. */
ISA_AVX512 ATTR_INLINE void score_tile(enum kv_type t, unsigned n_q, const float *q, size_t d,
                                       const uint8_t *const key[4], unsigned n, size_t ahead,
                                       __m512 scale, float *scores, size_t stride) {
    __m512 sum[16];
    for (unsigned s = 0; s < 16; s++)
        sum[s] = _mm512_setzero_ps();
    for (size_t i = 0; i + 16 <= d; i += 16) {
        __m512 k[4];
        if (ahead != 0)
            want(key[0] + element_bytes(t, 4 * i), ahead, element_bytes(t, 64));
        for (unsigned j = 0; j < 4; j++)
            k[j] = load_16(t, key[j], d, i, (__mmask16)0xffff);
        for (unsigned r = 0; r < n_q; r++) {
            __m512 v = _mm512_loadu_ps(q + r * d + i);
            for (unsigned j = 0; j < 4; j++)
                sum[4 * r + j] = _mm512_fmadd_ps(v, k[j], sum[4 * r + j]);
        }
    }
    if (d % 16) {
        size_t i = d / 16 * 16;
        __mmask16 m = tail_16(d - i);
        for (unsigned r = 0; r < n_q; r++)
            for (unsigned j = 0; j < 4; j++)
                sum[4 * r + j] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, q + r * d + i),
                                                 load_16(t, key[j], d, i, m), sum[4 * r + j]);
    }
    const __m512i transpose =
        _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512 all = _mm512_permutexvar_ps(transpose, _mm512_mul_ps(reduce_4x4(sum), scale));
    __mmask8 m = (__mmask8)((1u << n) - 1u);
    _mm_mask_storeu_ps(scores, m, _mm512_castps512_ps128(all));
    if (n_q > 1)
        _mm_mask_storeu_ps(scores + stride, m, _mm512_extractf32x4_ps(all, 1));
    if (n_q > 2)
        _mm_mask_storeu_ps(scores + 2 * stride, m, _mm512_extractf32x4_ps(all, 2));
    if (n_q > 3)
        _mm_mask_storeu_ps(scores + 3 * stride, m, _mm512_extractf32x4_ps(all, 3));
}

struct score_job {
    const float *q; /* [n_q, d] */
    size_t n_q, d;
    const uint8_t *keys; /* [n_keys] rows of row_bytes */
    size_t row_bytes, n_keys;
    float scale, *scores; /* [n_q] rows of stride */
    size_t stride;
    size_t ahead; /* from a key to the one to ask for meanwhile; 0: to none */
};

ISA_AVX512 ATTR_INLINE void score_all(enum kv_type t, const struct score_job *job) {
    __m512 scale = _mm512_set1_ps(job->scale);
    for (size_t j = 0; j < job->n_keys; j += 4) {
        size_t n = job->n_keys - j < 4 ? job->n_keys - j : 4;
        const uint8_t *key[4];
        for (size_t l = 0; l < 4; l++) /* past the end: the last key again, not stored */
            key[l] = job->keys + (j + (l < n ? l : n - 1)) * job->row_bytes;
        for (size_t r = 0; r < job->n_q; r += 4) {
            const float *q = job->q + r * job->d;
            float *out = job->scores + r * job->stride + j;
            size_t ahead = r == 0 ? job->ahead : 0;
            switch (job->n_q - r) {
            case 1:
                score_tile(t, 1, q, job->d, key, (unsigned)n, ahead, scale, out, job->stride);
                break;
            case 2:
                score_tile(t, 2, q, job->d, key, (unsigned)n, ahead, scale, out, job->stride);
                break;
            case 3:
                score_tile(t, 3, q, job->d, key, (unsigned)n, ahead, scale, out, job->stride);
                break;
            default:
                score_tile(t, 4, q, job->d, key, (unsigned)n, ahead, scale, out, job->stride);
                break;
            }
        }
    }
}

ISA_AVX512 static void score_f32(const struct score_job *job) {
    score_all(KV_F32, job);
}
ISA_AVX512 static void score_f16(const struct score_job *job) {
    score_all(KV_F16, job);
}
ISA_AVX512 static void score_bf16(const struct score_job *job) {
    score_all(KV_BF16, job);
}
ISA_AVX512 static void score_q8(const struct score_job *job) {
    score_all(KV_Q8, job);
}

ISA_AVX512 static void avx512_scores(enum kv_type t, const float *q, size_t n_q, size_t d,
                                     const void *keys, size_t n_keys, float scale, float *scores,
                                     size_t stride, const void *next) {
    static void (*const score[KV_COUNT])(const struct score_job *) = { score_f32, score_f16,
                                                                       score_bf16, score_q8 };
    struct score_job job = { q,      n_q,   d,      keys,   kv_row_bytes(t, d),
                             n_keys, scale, scores, stride, kv_distance(keys, next) };
    if (t == KV_F32 || n_q <= 4 || d > CONVERTED / 4) {
        score[t](&job);
        return;
    }
    float block[CONVERTED];
    size_t per_block = CONVERTED / d / 4 * 4, stored_bytes = job.row_bytes;
    job.row_bytes = 4 * d;
    job.keys = (const uint8_t *)block;
    size_t ahead = job.ahead;
    job.ahead = 0;
    for (size_t j = 0; j < n_keys; j += per_block) {
        job.n_keys = n_keys - j < per_block ? n_keys - j : per_block;
        want((const uint8_t *)keys + j * stored_bytes, ahead, job.n_keys * stored_bytes);
        for (size_t l = 0; l < job.n_keys; l++)
            avx512_kv_load(t, (const uint8_t *)keys + (j + l) * stored_bytes, d, block + l * d);
        job.scores = scores + j;
        score_f32(&job);
    }
}

/* ---- softmax ---- */

ISA_AVX512 void avx512_softmax(float *s, size_t n, float *max, float *sum) {
    __m512 top = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16)
        top = _mm512_max_ps(_mm512_loadu_ps(s + i), top); /* NaN in s: top stays */
    float m = _mm512_reduce_max_ps(top) + 0.0f;
    __m512 shift = _mm512_set1_ps(m == -INFINITY ? 0.0f : m);
    for (size_t i = 0; i < n; i += 16) {
        __m512 e = exp_16(_mm512_sub_ps(_mm512_loadu_ps(s + i), shift));
        _mm512_storeu_ps(s + i, e);
        total = _mm512_add_ps(total, e);
    }
    *max = m;
    *sum = sum_16(total);
}

/* ---- mix ---- */

struct mix_job {
    const float *p; /* [n_q] rows of stride, n_keys used */
    size_t stride, n_q, d;
    const uint8_t *values; /* [n_keys] rows of row_bytes */
    size_t row_bytes, n_keys;
    float *acc;   /* [n_q, d] */
    size_t ahead; /* from a value to the one to ask for meanwhile; 0: to none */
};

/* Elements i..i+16*width-1 of n_q queries from r on (n_q * width <= 16, both constant) over the values
 * from..to-1; m masks the last register. */
ISA_AVX512 ATTR_INLINE void mix_tile(enum kv_type t, unsigned n_q, unsigned width,
                                     const struct mix_job *job, size_t r, size_t i, size_t from,
                                     size_t to, __mmask16 m) {
    __m512 sum[16];
    float *acc = job->acc + r * job->d + i;
    const float *p = job->p + r * job->stride;
    for (unsigned a = 0; a < n_q; a++)
        for (unsigned c = 0; c < width; c++)
            sum[a * width + c] = _mm512_maskz_loadu_ps(c + 1 == width ? m : (__mmask16)0xffff,
                                                       acc + a * job->d + 16 * c);
    for (size_t j = from; j < to; j++) {
        const uint8_t *value = job->values + j * job->row_bytes;
        __m512 v[8];
        if (job->ahead != 0 && r == 0)
            want(value + element_bytes(t, i), job->ahead, element_bytes(t, 16 * width));
        for (unsigned c = 0; c < width; c++)
            v[c] = load_16(t, value, job->d, i + 16 * c, c + 1 == width ? m : (__mmask16)0xffff);
        for (unsigned a = 0; a < n_q; a++) {
            __m512 weight = _mm512_set1_ps(p[a * job->stride + j]);
            for (unsigned c = 0; c < width; c++)
                sum[a * width + c] = _mm512_fmadd_ps(weight, v[c], sum[a * width + c]);
        }
    }
    for (unsigned a = 0; a < n_q; a++)
        for (unsigned c = 0; c < width; c++)
            _mm512_mask_storeu_ps(acc + a * job->d + 16 * c, c + 1 == width ? m : (__mmask16)0xffff,
                                  sum[a * width + c]);
}

/* All elements of n_q (constant) queries from r on: wide tiles, then narrow ones. When a row takes
 * several tiles they run over as many values at a time as the first-level cache holds. */
ISA_AVX512 ATTR_INLINE void mix_queries(enum kv_type t, unsigned n_q, const struct mix_job *job,
                                        size_t r) {
    const unsigned width = n_q <= 2 ? 8 : 4;
    const size_t block = job->d > 16 * width ? MIX_BYTES / job->row_bytes + 1 : job->n_keys;
    for (size_t from = 0, to; from < job->n_keys; from = to) {
        size_t i = 0;
        to = job->n_keys - from < block ? job->n_keys : from + block;
        for (; i + 16 * width <= job->d; i += 16 * width)
            mix_tile(t, n_q, width, job, r, i, from, to, (__mmask16)0xffff);
        for (; width > 4 && i + 64 <= job->d; i += 64)
            mix_tile(t, n_q, 4, job, r, i, from, to, (__mmask16)0xffff);
        for (; i < job->d; i += 16)
            mix_tile(t, n_q, 1, job, r, i, from, to,
                     job->d - i >= 16 ? (__mmask16)0xffff : tail_16(job->d - i));
    }
}

ISA_AVX512 ATTR_INLINE void mix_all(enum kv_type t, const struct mix_job *job) {
    for (size_t r = 0; r < job->n_q; r += 4) {
        switch (job->n_q - r) {
        case 1:
            mix_queries(t, 1, job, r);
            break;
        case 2:
            mix_queries(t, 2, job, r);
            break;
        case 3:
            mix_queries(t, 3, job, r);
            break;
        default:
            mix_queries(t, 4, job, r);
            break;
        }
    }
}

ISA_AVX512 static void mix_f32(const struct mix_job *job) {
    mix_all(KV_F32, job);
}
ISA_AVX512 static void mix_f16(const struct mix_job *job) {
    mix_all(KV_F16, job);
}
ISA_AVX512 static void mix_bf16(const struct mix_job *job) {
    mix_all(KV_BF16, job);
}
ISA_AVX512 static void mix_q8(const struct mix_job *job) {
    mix_all(KV_Q8, job);
}

ISA_AVX512 static void avx512_mix(enum kv_type t, const float *p, size_t n_q, size_t stride,
                                  size_t d, const void *values, size_t n_keys, float *acc,
                                  const void *next) {
    static void (*const mix[KV_COUNT])(const struct mix_job *) = { mix_f32, mix_f16, mix_bf16,
                                                                   mix_q8 };
    struct mix_job job = { p,      stride, n_q,
                           d,      values, kv_row_bytes(t, d),
                           n_keys, acc,    kv_distance(values, next) };
    if (t == KV_F32 || n_q <= 4 || d > CONVERTED / 4) {
        mix[t](&job);
        return;
    }
    float block[CONVERTED];
    size_t per_block = CONVERTED / d, stored_bytes = job.row_bytes;
    job.row_bytes = 4 * d;
    job.values = (const uint8_t *)block;
    size_t ahead = job.ahead;
    job.ahead = 0;
    for (size_t j = 0; j < n_keys; j += per_block) {
        job.n_keys = n_keys - j < per_block ? n_keys - j : per_block;
        want((const uint8_t *)values + j * stored_bytes, ahead, job.n_keys * stored_bytes);
        for (size_t l = 0; l < job.n_keys; l++)
            avx512_kv_load(t, (const uint8_t *)values + (j + l) * stored_bytes, d, block + l * d);
        job.p = p + j;
        mix_f32(&job);
    }
}

/* ---- merge ---- */

ISA_AVX512 void avx512_merge(float *run_max, float *run_sum, float *run_acc, float max, float sum,
                             const float *acc, size_t d) {
    if (*run_max == -INFINITY || (max == -INFINITY && sum == 0.0f)) {
        attention_ops_ref.merge(run_max, run_sum, run_acc, max, sum, acc,
                                d); /* copies, or nothing */
        return;
    }
    float top = max > *run_max ? max : *run_max;
    __m512 keep = exp_16(_mm512_set1_ps(*run_max - top)), take = exp_16(_mm512_set1_ps(max - top));
    for (size_t i = 0; i < d; i += 16) {
        __mmask16 m = d - i >= 16 ? (__mmask16)0xffff : tail_16(d - i);
        __m512 add = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, acc + i), take);
        _mm512_mask_storeu_ps(run_acc + i, m,
                              _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, run_acc + i), keep, add));
    }
    __m512 all =
        _mm512_fmadd_ps(_mm512_set1_ps(*run_sum), keep, _mm512_mul_ps(_mm512_set1_ps(sum), take));
    *run_sum = _mm512_cvtss_f32(all);
    *run_max = top;
}

const struct attention_ops attention_ops_avx512 = {
    .kv_store = avx512_kv_store,
    .kv_load = avx512_kv_load,
    .scores = avx512_scores,
    .softmax = avx512_softmax,
    .mix = avx512_mix,
    .merge = avx512_merge,
};

#endif
