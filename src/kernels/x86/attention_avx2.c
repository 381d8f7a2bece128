/* attention_avx2.c - attention over one span of keys, 8 elements at a time; the same bits as
 * ref/attention.c.
 *
 * The 16 lanes of a sum are two registers. Scores: a tile of 4 keys x up to 2 queries runs over
 * lanes 0..7 of the whole row and then over lanes 8..15, because 16 registers do not hold both.
 * Mix: up to 2 queries x 32 elements stay in registers while the values pass. With more than 4
 * queries keys or values are converted to float32 once, in blocks that stay in the first-level
 * cache. Head sizes that are no multiple of 16 occur in no model: the reference does them. */
#include "kernels/ref/rows.h"
#include "kernels/x86/vmath_avx2.h"

#ifdef HAVE_X86_KERNELS

#define CONVERTED 4096  /* floats of the block of converted rows */
#define MIX_BYTES 16384 /* values that pass all tiles of elements before the next ones do */

/* Asks for the lines of n bytes (constant) that lie `ahead` of a row; any address will do. Into the
 * second-level cache, which keeps more lines on their way than the first. */
ISA_AVX2 ATTR_INLINE void want(const uint8_t *row, size_t ahead, size_t n) {
    for (size_t b = 0; b < n; b += 64)
        _mm_prefetch((const char *)((uintptr_t)row + ahead + b), _MM_HINT_T1);
}

/* Bytes of n elements, near enough for prefetching. */
ISA_AVX2 ATTR_INLINE size_t element_bytes(enum kv_type t, size_t n) {
    return t == KV_F32 ? 4 * n : t == KV_Q8 ? n : 2 * n;
}

/* ---- rows of the cache ---- */

/* Elements i..i+7 of a row. */
ISA_AVX2 ATTR_INLINE __m256 load_kv_8(enum kv_type t, const uint8_t *row, size_t d, size_t i) {
    if (t == KV_F32)
        return _mm256_loadu_ps((const float *)(const void *)(row + 4 * i));
    if (t == KV_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(row + 2 * i)));
    if (t == KV_BF16) {
        __m256i wide =
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(row + 2 * i)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    uint16_t scale;
    memcpy(&scale, row + 2 * (i / KV_GROUP), 2);
    const uint8_t *codes = row + 2 * ((d + KV_GROUP - 1) / KV_GROUP);
    __m256 s = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
    __m256i code =
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(codes + i)));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(code), s);
}

/* bfloat16 of 8 floats as base's f32_to_bf16: nearest even; NaN becomes quiet. */
ISA_AVX2 ATTR_INLINE __m128i bf16_of_8(__m256 v) {
    __m256i u = _mm256_castps_si256(v);
    __m256i even = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i near = _mm256_add_epi32(u, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i h = _mm256_srli_epi32(_mm256_blendv_epi8(near, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* d a multiple of 8, not Q8 */
ISA_AVX2 static void store_halves(enum kv_type t, const float *x, size_t d, uint8_t *dst) {
    for (size_t i = 0; i < d; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m128i h = t == KV_F16 ? _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : bf16_of_8(v);
        _mm_storeu_si128((__m128i *)(void *)(dst + 2 * i), h);
    }
}

/* One whole group of 32: its scale and codes. */
ISA_AVX2 static void store_group(const float *x, uint8_t *scale_at, uint8_t *codes) {
    const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    const __m256 low = _mm256_set1_ps(-127.0f), high = _mm256_set1_ps(127.0f),
                 sign = _mm256_set1_ps(-0.0f);
    __m256 v[4];
    __m256i peak = _mm256_setzero_si256(), code[4];
    for (unsigned c = 0; c < 4; c++) {
        v[c] = _mm256_loadu_ps(x + 8 * c);
        peak = _mm256_max_epu32(peak, _mm256_castps_si256(_mm256_andnot_ps(sign, v[c])));
    }
    uint32_t lanes[8], most = 0;
    _mm256_storeu_si256((__m256i *)(void *)lanes, peak);
    for (unsigned l = 0; l < 8; l++)
        most = lanes[l] > most ? lanes[l] : most;
    float inverse;
    uint16_t scale = kv_q8_scale(float_of_bits(most), &inverse);
    memcpy(scale_at, &scale, 2);
    if (inverse == 0.0f) {
        memset(codes, 0, KV_GROUP);
        return;
    }
    for (unsigned c = 0; c < 4; c++) {
        __m256 y = _mm256_mul_ps(v[c], _mm256_set1_ps(inverse));
        code[c] = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, low), high));
    }
    __m256i a = _mm256_packs_epi32(code[0], code[1]), b = _mm256_packs_epi32(code[2], code[3]);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
    _mm256_storeu_si256((__m256i *)(void *)codes, bytes);
}

static void avx2_kv_store(enum kv_type t, const float *x, size_t d, void *dst) {
    uint8_t *p = dst;
    if (t == KV_F32) {
        memcpy(p, x, 4 * d);
    } else if (t == KV_Q8 && d % KV_GROUP == 0) {
        for (size_t i = 0; i < d; i += KV_GROUP)
            store_group(x + i, p + i / KV_GROUP * 2, p + d / KV_GROUP * 2 + i);
        memset(p + d / KV_GROUP * 2 + d, 0, kv_row_bytes(t, d) - d / KV_GROUP * 2 - d);
    } else if (t != KV_Q8 && d % 8 == 0) {
        store_halves(t, x, d, p);
    } else {
        attention_ops_ref.kv_store(t, x, d, dst);
    }
}

ISA_AVX2 ATTR_INLINE void load_row(enum kv_type t, const uint8_t *src, size_t d, float *x) {
    for (size_t i = 0; i < d; i += 8)
        _mm256_storeu_ps(x + i, load_kv_8(t, src, d, i));
}

ISA_AVX2 static void avx2_kv_load(enum kv_type t, const void *src, size_t d, float *x) {
    if (t == KV_F32)
        memcpy(x, src, 4 * d);
    else if (d % 8)
        attention_ops_ref.kv_load(t, src, d, x);
    else if (t == KV_F16)
        load_row(KV_F16, src, d, x);
    else if (t == KV_BF16)
        load_row(KV_BF16, src, d, x);
    else
        load_row(KV_Q8, src, d, x);
}

/* ---- scores ---- */

/* Sums of 8 registers a[4 * query + key] of 8 lanes by the fixed tree (lanes l and l + 8 are added
 * already). Result, low half: keys 0, 1 of query 0, then of query 1; high half: keys 2, 3. */
ISA_AVX2 ATTR_INLINE __m256 reduce_4x2(const __m256 a[8]) {
    __m256 pair[4]; /* 4 lanes of key j in the low half, of key j + 2 in the high half; j = 0, 1 */
    for (unsigned r = 0; r < 2; r++) {
        for (unsigned j = 0; j < 2; j++) {
            __m256 x = a[4 * r + j], y = a[4 * r + j + 2];
            pair[2 * r + j] = _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20),
                                            _mm256_permute2f128_ps(x, y, 0x31));
        }
    }
    __m256 two[2];
    for (unsigned r = 0; r < 2; r++)
        two[r] = _mm256_add_ps(_mm256_shuffle_ps(pair[2 * r], pair[2 * r + 1], 0x44),
                               _mm256_shuffle_ps(pair[2 * r], pair[2 * r + 1], 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(two[0], two[1], 0x88),
                         _mm256_shuffle_ps(two[0], two[1], 0xdd));
}

/* n_q (1 or 2, constant) queries against 4 keys; stores n (1..4) scores of each query. */
ISA_AVX2 ATTR_INLINE void score_tile(enum kv_type t, unsigned n_q, const float *q, size_t d,
                                     const uint8_t *const key[4], size_t n, size_t ahead,
                                     float scale, float *scores, size_t stride) {
    __m256 whole[8];
    for (unsigned half = 0; half < 2; half++) {
        __m256 sum[8];
        for (unsigned s = 0; s < 8; s++)
            sum[s] = _mm256_setzero_ps();
        for (size_t i = 8 * half; i < d; i += 16) {
            __m256 k[4];
            if (ahead != 0 && half == 0)
                want(key[0] + element_bytes(t, 4 * i), ahead, element_bytes(t, 64));
            for (unsigned j = 0; j < 4; j++)
                k[j] = load_kv_8(t, key[j], d, i);
            for (unsigned r = 0; r < n_q; r++) {
                __m256 v = _mm256_loadu_ps(q + r * d + i);
                for (unsigned j = 0; j < 4; j++)
                    sum[4 * r + j] = _mm256_fmadd_ps(v, k[j], sum[4 * r + j]);
            }
        }
        for (unsigned s = 0; s < 8; s++)
            whole[s] = half == 0 ? sum[s] : _mm256_add_ps(whole[s], sum[s]);
    }
    __m256 all = _mm256_mul_ps(reduce_4x2(whole), _mm256_set1_ps(scale));
    __m128 low = _mm256_castps256_ps128(all), high = _mm256_extractf128_ps(all, 1);
    __m128i m = _mm256_castsi256_si128(tail_8(n));
    _mm_maskstore_ps(scores, m, _mm_movelh_ps(low, high));
    if (n_q > 1)
        _mm_maskstore_ps(scores + stride, m, _mm_movehl_ps(high, low));
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

ISA_AVX2 ATTR_INLINE void score_all(enum kv_type t, const struct score_job *job) {
    for (size_t j = 0; j < job->n_keys; j += 4) {
        size_t n = job->n_keys - j < 4 ? job->n_keys - j : 4;
        const uint8_t *key[4];
        for (size_t l = 0; l < 4; l++) /* past the end: the last key again, not stored */
            key[l] = job->keys + (j + (l < n ? l : n - 1)) * job->row_bytes;
        for (size_t r = 0; r < job->n_q; r += 2) {
            const float *q = job->q + r * job->d;
            float *out = job->scores + r * job->stride + j;
            size_t ahead = r == 0 ? job->ahead : 0;
            if (job->n_q - r == 1)
                score_tile(t, 1, q, job->d, key, n, ahead, job->scale, out, job->stride);
            else
                score_tile(t, 2, q, job->d, key, n, ahead, job->scale, out, job->stride);
        }
    }
}

ISA_AVX2 static void score_f32(const struct score_job *job) {
    score_all(KV_F32, job);
}
ISA_AVX2 static void score_f16(const struct score_job *job) {
    score_all(KV_F16, job);
}
ISA_AVX2 static void score_bf16(const struct score_job *job) {
    score_all(KV_BF16, job);
}
ISA_AVX2 static void score_q8(const struct score_job *job) {
    score_all(KV_Q8, job);
}

ISA_AVX2 static void avx2_scores(enum kv_type t, const float *q, size_t n_q, size_t d,
                                 const void *keys, size_t n_keys, float scale, float *scores,
                                 size_t stride, const void *next) {
    static void (*const score[KV_COUNT])(const struct score_job *) = { score_f32, score_f16,
                                                                       score_bf16, score_q8 };
    struct score_job job = { q,      n_q,   d,      keys,   kv_row_bytes(t, d),
                             n_keys, scale, scores, stride, kv_distance(keys, next) };
    if (d % 16) {
        attention_ops_ref.scores(t, q, n_q, d, keys, n_keys, scale, scores, stride, next);
        return;
    }
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
            avx2_kv_load(t, (const uint8_t *)keys + (j + l) * stored_bytes, d, block + l * d);
        job.scores = scores + j;
        score_f32(&job);
    }
}

/* ---- softmax ---- */

ISA_AVX2 static void avx2_softmax(float *s, size_t n, float *max, float *sum) {
    __m256 top = _mm256_set1_ps(-INFINITY), low = _mm256_setzero_ps(), high = low;
    for (size_t i = 0; i < n; i += 8)
        top = _mm256_max_ps(_mm256_loadu_ps(s + i), top); /* NaN in s: top stays */
    float lanes[8], m = -INFINITY;
    _mm256_storeu_ps(lanes, top);
    for (unsigned l = 0; l < 8; l++)
        m = lanes[l] > m ? lanes[l] : m;
    m += 0.0f;
    __m256 shift = _mm256_set1_ps(m == -INFINITY ? 0.0f : m);
    for (size_t i = 0; i < n; i += 16) {
        __m256 a = exp_8(_mm256_sub_ps(_mm256_loadu_ps(s + i), shift));
        __m256 b = exp_8(_mm256_sub_ps(_mm256_loadu_ps(s + i + 8), shift));
        _mm256_storeu_ps(s + i, a);
        _mm256_storeu_ps(s + i + 8, b);
        low = _mm256_add_ps(low, a);
        high = _mm256_add_ps(high, b);
    }
    *max = m;
    *sum = sum_8_8(low, high);
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

/* Elements i..i+8*width-1 of n_q queries from r on (n_q * width <= 8, both constant) over the values
 * from..to-1. */
ISA_AVX2 ATTR_INLINE void mix_tile(enum kv_type t, unsigned n_q, unsigned width,
                                   const struct mix_job *job, size_t r, size_t i, size_t from,
                                   size_t to) {
    __m256 sum[8];
    float *acc = job->acc + r * job->d + i;
    const float *p = job->p + r * job->stride;
    for (unsigned a = 0; a < n_q; a++)
        for (unsigned c = 0; c < width; c++)
            sum[a * width + c] = _mm256_loadu_ps(acc + a * job->d + 8 * c);
    for (size_t j = from; j < to; j++) {
        const uint8_t *value = job->values + j * job->row_bytes;
        __m256 v[4];
        if (job->ahead != 0 && r == 0 && width == 4) /* 32 elements: the part of the row in use */
            want(value + element_bytes(t, i), job->ahead, element_bytes(t, 32));
        for (unsigned c = 0; c < width; c++)
            v[c] = load_kv_8(t, value, job->d, i + 8 * c);
        for (unsigned a = 0; a < n_q; a++) {
            __m256 weight = _mm256_broadcast_ss(p + a * job->stride + j);
            for (unsigned c = 0; c < width; c++)
                sum[a * width + c] = _mm256_fmadd_ps(weight, v[c], sum[a * width + c]);
        }
    }
    for (unsigned a = 0; a < n_q; a++)
        for (unsigned c = 0; c < width; c++)
            _mm256_storeu_ps(acc + a * job->d + 8 * c, sum[a * width + c]);
}

ISA_AVX2 ATTR_INLINE void mix_queries(enum kv_type t, unsigned n_q, const struct mix_job *job,
                                      size_t r, size_t from, size_t to) {
    size_t i = 0;
    for (; i + 32 <= job->d; i += 32)
        mix_tile(t, n_q, 4, job, r, i, from, to);
    for (; i < job->d; i += 8)
        mix_tile(t, n_q, 1, job, r, i, from, to);
}

/* A row takes several tiles: they run over as many values at a time as the first-level cache holds. */
ISA_AVX2 ATTR_INLINE void mix_all(enum kv_type t, const struct mix_job *job) {
    const size_t block = MIX_BYTES / job->row_bytes + 1;
    for (size_t from = 0, to; from < job->n_keys; from = to) {
        to = job->n_keys - from < block ? job->n_keys : from + block;
        for (size_t r = 0; r < job->n_q; r += 2) {
            if (job->n_q - r == 1)
                mix_queries(t, 1, job, r, from, to);
            else
                mix_queries(t, 2, job, r, from, to);
        }
    }
}

ISA_AVX2 static void mix_f32(const struct mix_job *job) {
    mix_all(KV_F32, job);
}
ISA_AVX2 static void mix_f16(const struct mix_job *job) {
    mix_all(KV_F16, job);
}
ISA_AVX2 static void mix_bf16(const struct mix_job *job) {
    mix_all(KV_BF16, job);
}
ISA_AVX2 static void mix_q8(const struct mix_job *job) {
    mix_all(KV_Q8, job);
}

ISA_AVX2 static void avx2_mix(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
                              const void *values, size_t n_keys, float *acc, const void *next) {
    static void (*const mix[KV_COUNT])(const struct mix_job *) = { mix_f32, mix_f16, mix_bf16,
                                                                   mix_q8 };
    struct mix_job job = { p,      stride, n_q,
                           d,      values, kv_row_bytes(t, d),
                           n_keys, acc,    kv_distance(values, next) };
    if (d % 8) {
        attention_ops_ref.mix(t, p, n_q, stride, d, values, n_keys, acc, next);
        return;
    }
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
            avx2_kv_load(t, (const uint8_t *)values + (j + l) * stored_bytes, d, block + l * d);
        job.p = p + j;
        mix_f32(&job);
    }
}

/* ---- merge ---- */

ISA_AVX2 static void avx2_merge(float *run_max, float *run_sum, float *run_acc, float max,
                                float sum, const float *acc, size_t d) {
    if (*run_max == -INFINITY || (max == -INFINITY && sum == 0.0f)) {
        attention_ops_ref.merge(run_max, run_sum, run_acc, max, sum, acc,
                                d); /* copies, or nothing */
        return;
    }
    float top = max > *run_max ? max : *run_max;
    __m256 keep = exp_8(_mm256_set1_ps(*run_max - top)), take = exp_8(_mm256_set1_ps(max - top));
    for (size_t i = 0; i < d; i += 8) {
        __m256i m = tail_8(d - i < 8 ? d - i : 8);
        __m256 add = _mm256_mul_ps(_mm256_maskload_ps(acc + i, m), take);
        _mm256_maskstore_ps(run_acc + i, m,
                            _mm256_fmadd_ps(_mm256_maskload_ps(run_acc + i, m), keep, add));
    }
    __m256 all =
        _mm256_fmadd_ps(_mm256_set1_ps(*run_sum), keep, _mm256_mul_ps(_mm256_set1_ps(sum), take));
    *run_sum = _mm256_cvtss_f32(all);
    *run_max = top;
}

const struct attention_ops attention_ops_avx2 = {
    .kv_store = avx2_kv_store,
    .kv_load = avx2_kv_load,
    .scores = avx2_scores,
    .softmax = avx2_softmax,
    .mix = avx2_mix,
    .merge = avx2_merge,
};

#endif
