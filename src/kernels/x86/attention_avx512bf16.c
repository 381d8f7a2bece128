/* attention_avx512bf16.c - scores and mixes of bfloat16 products, for rows of KV_BF16 and KV_Q8 on
 * processors with vdpbf16ps, which multiplies and adds two pairs per lane at the rate at which
 * float32 does one. F32 and F16 rows, and d > MAX_D, go through attention_avx512.c.
 *
 * Its own order of an output (the reference rounds no query and no weight):
 *   score  q rounded to bfloat16; a Q8 key's code * scale as well. Four lanes: lane c sums the pairs
 *          of columns (2p, 2p + 1) with p mod 4 = c, p ascending, zeros past d; then
 *          scale * ((lane 0 + lane 2) + (lane 1 + lane 3)).
 *   mix    p (and a Q8 value) rounded to bfloat16; pairs of keys (2j, 2j + 1) ascending, one lane per
 *          element. A call's first key is the first of a pair; a last key without partner gets a zero.
 * A pair whose weights are 0 changes nothing, so runs may end anywhere and begin at any even key.
 *
 * Scores: 16 keys at a time are laid out so that one register holds 8 columns of 4 keys, one
 * in each quarter, then tiles of 1..6 queries x 16 keys run over them: 24 sums, 4 loads of
 * keys per 24 products, and a quarter of the horizontal additions of 16 lanes per key.
 * Mix: tiles of 1..6 queries x 64 (1..3: 128) elements stay in registers while values pass. */
#include "kernels/x86/attention_avx512.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <string.h>

#define INLINE ATTR_INLINE ISA_AVX512BF16

#define MAX_D 512
#define KEYS 16           /* that are scored together */
#define TILE_Q 6          /* queries of a tile */
#define ROUNDED 8192      /* bfloat16 numbers of queries or weights that are kept at a time */
#define BLOCK_BYTES 16384 /* of values that all tiles pass before the next ones do */
#define FEW 4             /* queries whose sums stay in registers while keys pass */

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

INLINE __m512i bf16_of_32(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

INLINE __mmask32 tail_32(size_t n) { /* of the n elements that are left */
    return n >= 32 ? 0xffffffffu : (1u << n) - 1u;
}

INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

/* Elements i..i+31 of a row (i a multiple of 32), those of mask m; the others are zero. */
INLINE __m512i load_32(enum kv_type t, const uint8_t *row, size_t d, size_t i, __mmask32 m) {
    if (t == KV_BF16)
        return _mm512_maskz_loadu_epi16(m, row + 2 * i);
    uint16_t scale;
    memcpy(&scale, row + 2 * (i / KV_GROUP), 2);
    __m256i code = _mm256_maskz_loadu_epi8(m, row + 2 * ((d + KV_GROUP - 1) / KV_GROUP) + i);
    __m512 s = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
    __m512i a = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(code)),
            b = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(code, 1));
    return bf16_of_32(_mm512_mul_ps(_mm512_cvtepi32_ps(a), s),
                      _mm512_mul_ps(_mm512_cvtepi32_ps(b), s));
}

/* n floats as bfloat16, zeros up to a multiple of 32. */
INLINE void round_row(const float *x, size_t n, uint16_t *out) {
    for (size_t i = 0; i < n; i += 32) {
        __mmask32 m = tail_32(n - i);
        __m512 a = _mm512_maskz_loadu_ps((__mmask16)m, x + i),
               b = _mm512_maskz_loadu_ps((__mmask16)(m >> 16), x + i + 16);
        _mm512_storeu_si512(out + i, bf16_of_32(a, b));
    }
}

/* Asks for the lines of n bytes that lie `ahead` of a row; any address will do. Into the second-level cache: it keeps more lines on their way than the first-level one (scores of 1 query:
 * 11 -> 20 GB/s where plain reading has 25). */
INLINE void want(const uint8_t *row, size_t ahead, size_t n) {
    for (size_t b = 0; b < n; b += 64)
        _mm_prefetch((const char *)((uintptr_t)row + ahead + b), _MM_HINT_T1);
}

/* ---- scores ---- */

struct keys {
    const uint8_t *rows;
    size_t row_bytes, d;
    size_t ahead; /* bytes from a row to the one to ask for meanwhile */
};

/* Rows 4g..4g+3 of 16 (past n: the last again). */
INLINE void group_rows(const struct keys *k, size_t g, size_t n, const uint8_t *row[4]) {
    for (size_t l = 0; l < 4; l++)
        row[l] = k->rows + (4 * g + l < n ? 4 * g + l : n - 1) * k->row_bytes;
}

/* Columns i..i+31 of 4 rows: out[8 columns], a row in each quarter. */
INLINE void load_quarters(enum kv_type t, const struct keys *k, const uint8_t *const row[4],
                          size_t i, __m512i out[4]) {
    __mmask32 m = tail_32(k->d - i);
    want(row[0] + 4 * (t == KV_Q8 ? i : 2 * i), k->ahead, t == KV_Q8 ? 128 : 256);
    __m512i a = load_32(t, row[0], k->d, i, m), b = load_32(t, row[1], k->d, i, m);
    __m512i c = load_32(t, row[2], k->d, i, m), e = load_32(t, row[3], k->d, i, m);
    __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44), ab2 = _mm512_shuffle_i32x4(a, b, 0xee);
    __m512i ce = _mm512_shuffle_i32x4(c, e, 0x44), ce2 = _mm512_shuffle_i32x4(c, e, 0xee);
    out[0] = _mm512_shuffle_i32x4(ab, ce, 0x88);
    out[1] = _mm512_shuffle_i32x4(ab, ce, 0xdd);
    out[2] = _mm512_shuffle_i32x4(ab2, ce2, 0x88);
    out[3] = _mm512_shuffle_i32x4(ab2, ce2, 0xdd);
}

/* n (1..16) keys: out[8 columns][group]. */
INLINE void lay_out_keys(enum kv_type t, const struct keys *k, size_t n, __m512i *out) {
    for (size_t g = 0; g < 4; g++) {
        const uint8_t *row[4];
        group_rows(k, g, n, row);
        for (size_t i = 0; i < k->d; i += 32) {
            __m512i quarters[4];
            load_quarters(t, k, row, i, quarters);
            for (size_t c = 0; c < 4; c++)
                out[i / 2 + 4 * c + g] = quarters[c];
        }
    }
}

INLINE __m512i eight_columns(const uint16_t *q) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)q));
}

/* The sums of 4 lanes in each quarter of the 4 groups: scores of the keys in order. */
INLINE __m512 reduce_quarters(const __m512 a[4]) {
    __m512 low =
        _mm512_add_ps(_mm512_shuffle_ps(a[0], a[1], 0x44), _mm512_shuffle_ps(a[0], a[1], 0xee));
    __m512 high =
        _mm512_add_ps(_mm512_shuffle_ps(a[2], a[3], 0x44), _mm512_shuffle_ps(a[2], a[3], 0xee));
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    return _mm512_permutexvar_ps(order, _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x88),
                                                      _mm512_shuffle_ps(low, high, 0xdd)));
}

struct scoring {
    const __m512i *keys; /* laid out */
    size_t padded;       /* columns: d up to a multiple of 32 */
    __m512 scale;
    size_t stride;
    __mmask16 stored; /* keys that exist */
};

INLINE void store_scores(const struct scoring *s, const __m512 sum[4], float *scores) {
    _mm512_mask_storeu_ps(scores, s->stored, _mm512_mul_ps(reduce_quarters(sum), s->scale));
}

/* n_q (1..4, constant) queries against n keys that pass from memory: two groups at a time. */
INLINE void score_passing(enum kv_type t, int n_q, const struct scoring *s, const struct keys *k,
                          size_t n, const uint16_t *q, float *scores) {
    __m512 sum[4 * FEW];
    UNROLL
    for (size_t g = 0; g < 4; g += 2) {
        const uint8_t *row[2][4];
        __m512 a[FEW], b[FEW];
        group_rows(k, g, n, row[0]);
        group_rows(k, g + 1, n, row[1]);
        UNROLL
        for (int r = 0; r < n_q; r++)
            a[r] = b[r] = _mm512_setzero_ps();
        for (size_t i = 0; i < k->d; i += 32) {
            __m512i k0[4], k1[4];
            load_quarters(t, k, row[0], i, k0);
            load_quarters(t, k, row[1], i, k1);
            UNROLL
            for (size_t c = 0; c < 4; c++) {
                UNROLL
                for (int r = 0; r < n_q; r++) {
                    __m512i x = eight_columns(q + (size_t)r * s->padded + i + 8 * c);
                    a[r] = dot(a[r], k0[c], x);
                    b[r] = dot(b[r], k1[c], x);
                }
            }
        }
        UNROLL
        for (int r = 0; r < n_q; r++) {
            sum[4 * r + (int)g] = a[r];
            sum[4 * r + (int)g + 1] = b[r];
        }
    }
    UNROLL
    for (int r = 0; r < n_q; r++)
        store_scores(s, sum + 4 * r, scores + (size_t)r * s->stride);
}

/* n_q (1..6, constant) queries, rows of `padded` bfloat16, against 16 keys. */
INLINE void score_tile(int n_q, const struct scoring *s, const uint16_t *q, float *scores) {
    __m512 sum[4 * TILE_Q];
    UNROLL
    for (int i = 0; i < 4 * n_q; i++)
        sum[i] = _mm512_setzero_ps();
    const __m512i *k = s->keys;
    for (size_t i = 0; i < s->padded; i += 8, k += 4) {
        __m512i k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];
        UNROLL
        for (int r = 0; r < n_q; r++) {
            __m512i x = eight_columns(q + (size_t)r * s->padded + i);
            sum[4 * r] = dot(sum[4 * r], k0, x);
            sum[4 * r + 1] = dot(sum[4 * r + 1], k1, x);
            sum[4 * r + 2] = dot(sum[4 * r + 2], k2, x);
            sum[4 * r + 3] = dot(sum[4 * r + 3], k3, x);
        }
    }
    UNROLL
    for (int r = 0; r < n_q; r++)
        store_scores(s, sum + 4 * r, scores + (size_t)r * s->stride);
}

#define SCORE_TILE(n)                                                                              \
    ISA_AVX512BF16 static void score_tile_##n(const struct scoring *s, const uint16_t *q,          \
                                              float *scores) {                                     \
        score_tile(n, s, q, scores);                                                               \
    }
SCORE_TILE(1)
SCORE_TILE(2)
SCORE_TILE(3)
SCORE_TILE(4)
SCORE_TILE(5)
SCORE_TILE(6)

/* Queries of the next tile when n are left: tiles of nearly equal size. */
static size_t tile_queries(size_t n) {
    size_t tiles = (n + TILE_Q - 1) / TILE_Q;
    return (n + tiles - 1) / tiles;
}

/* 16 keys (the n that exist) for all queries. */
INLINE void score_keys(enum kv_type t, struct scoring *s, const struct keys *k, size_t n,
                       const uint16_t *q, size_t n_q, float *scores) {
    static void (*const tile[])(const struct scoring *, const uint16_t *,
                                float *) = { NULL,         score_tile_1, score_tile_2, score_tile_3,
                                             score_tile_4, score_tile_5, score_tile_6 };
    s->stored = n < KEYS ? tail_16(n) : (__mmask16)0xffff;
    switch (n_q) {
    case 1:
        score_passing(t, 1, s, k, n, q, scores);
        return;
    case 2:
        score_passing(t, 2, s, k, n, q, scores);
        return;
    case 3:
        score_passing(t, 3, s, k, n, q, scores);
        return;
    case 4:
        score_passing(t, 4, s, k, n, q, scores);
        return;
    default:
        break;
    }
    __m512i laid_out[KEYS * MAX_D / 32];
    s->keys = laid_out;
    lay_out_keys(t, k, n, laid_out);
    for (size_t r = 0, n_tile; r < n_q; r += n_tile) {
        n_tile = tile_queries(n_q - r);
        tile[n_tile](s, q + r * s->padded, scores + r * s->stride);
    }
}

INLINE void score_rows(enum kv_type t, const uint16_t *q, size_t n_q, size_t d, const uint8_t *keys,
                       size_t n_keys, float scale, float *scores, size_t stride, size_t ahead) {
    size_t row_bytes = kv_row_bytes(t, d);
    struct scoring s = { NULL, round_up(d, 32), _mm512_set1_ps(scale), stride, 0 };
    for (size_t j = 0; j < n_keys; j += KEYS) {
        struct keys k = { keys + j * row_bytes, row_bytes, d, ahead };
        score_keys(t, &s, &k, n_keys - j < KEYS ? n_keys - j : KEYS, q, n_q, scores + j);
    }
}

ISA_AVX512BF16 static void bf16_scores(enum kv_type t, const float *q, size_t n_q, size_t d,
                                       const void *keys, size_t n_keys, float scale, float *scores,
                                       size_t stride, const void *next) {
    if (t == KV_F32 || t == KV_F16 || d > MAX_D || d == 0) {
        attention_ops_avx512.scores(t, q, n_q, d, keys, n_keys, scale, scores, stride, next);
        return;
    }
    _Alignas(64) uint16_t rounded[ROUNDED];
    size_t padded = round_up(d, 32), block = ROUNDED / padded, ahead = kv_distance(keys, next);
    for (size_t r = 0, n; r < n_q; r += n) {
        n = n_q - r < block ? n_q - r : block;
        for (size_t i = 0; i < n; i++)
            round_row(q + (r + i) * d, d, rounded + i * padded);
        if (t == KV_BF16)
            score_rows(KV_BF16, rounded, n, d, keys, n_keys, scale, scores + r * stride, stride,
                       ahead);
        else
            score_rows(KV_Q8, rounded, n, d, keys, n_keys, scale, scores + r * stride, stride,
                       ahead);
    }
}

/* ---- mix ---- */

struct mixing {
    const uint16_t *p; /* rows of p_stride bfloat16; pairs beyond n_keys are zero */
    size_t p_stride, n_keys, d;
    const uint8_t *values; /* rows of row_bytes bfloat16 */
    size_t row_bytes;
    float *acc;   /* rows of d */
    size_t ahead; /* bytes from a row to the one to ask for meanwhile; 0: to none */
};

INLINE __m512i interleave(__m512i a, __m512i b, bool high) {
    const __m512i low_order =
        _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                         37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i order = high ? _mm512_add_epi16(low_order, _mm512_set1_epi16(16)) : low_order;
    return _mm512_permutex2var_epi16(a, order, b);
}

/* Pairs of elements of two values; the second does not exist if `alone`. */
INLINE void load_pairs(int width, const struct mixing *x, const uint8_t *v, __mmask32 m, bool alone,
                       __m512i pair[8]) {
    UNROLL
    for (int c = 0; c < width; c++) {
        __mmask32 mc = c < width - 1 ? 0xffffffffu : m;
        __m512i a = _mm512_maskz_loadu_epi16(mc, v + 64 * c),
                b = alone ? _mm512_setzero_si512()
                          : _mm512_maskz_loadu_epi16(mc, v + x->row_bytes + 64 * c);
        pair[2 * c] = interleave(a, b, false);
        pair[2 * c + 1] = interleave(a, b, true);
    }
}

INLINE void mix_pair(int n_q, int width, const struct mixing *x, size_t j, const __m512i pair[8],
                     __m512 sum[24]) {
    UNROLL
    for (int r = 0; r < n_q; r++) {
        int32_t both;
        memcpy(&both, x->p + (size_t)r * x->p_stride + j, 4);
        __m512i weight = _mm512_set1_epi32(both);
        UNROLL
        for (int c = 0; c < 2 * width; c++)
            sum[2 * width * r + c] = dot(sum[2 * width * r + c], pair[c], weight);
    }
}

/* Elements i.. + 32 * width of n_q queries (both constant, n_q * width <= 12), `left` of which exist. */
INLINE void mix_tile(int n_q, int width, const struct mixing *x, size_t i, size_t left) {
    __m512 sum[24];
    __m512i pair[8];
    float *acc = x->acc + i;
    const __mmask32 m = tail_32(left - 32 * (size_t)(width - 1)); /* of the last two registers */
    const uint8_t *v = x->values + 2 * i;
    UNROLL
    for (int r = 0; r < n_q; r++) {
        UNROLL
        for (int c = 0; c < 2 * width; c++)
            sum[2 * width * r + c] = _mm512_maskz_loadu_ps(
                c < 2 * width - 2 ? (__mmask16)0xffff : (__mmask16)(c % 2 ? m >> 16 : m),
                acc + (size_t)r * x->d + 16 * c);
    }
    size_t j = 0;
    for (; j + 2 <= x->n_keys; j += 2, v += 2 * x->row_bytes) {
        if (x->ahead != 0) {
            want(v, x->ahead, 64 * (size_t)width);
            want(v + x->row_bytes, x->ahead, 64 * (size_t)width);
        }
        load_pairs(width, x, v, m, false, pair);
        mix_pair(n_q, width, x, j, pair, sum);
    }
    if (j < x->n_keys) {
        load_pairs(width, x, v, m, true, pair);
        mix_pair(n_q, width, x, j, pair, sum);
    }
    UNROLL
    for (int r = 0; r < n_q; r++) {
        UNROLL
        for (int c = 0; c < 2 * width; c++)
            _mm512_mask_storeu_ps(acc + (size_t)r * x->d + 16 * c,
                                  c < 2 * width - 2 ? (__mmask16)0xffff
                                                    : (__mmask16)(c % 2 ? m >> 16 : m),
                                  sum[2 * width * r + c]);
    }
}

/* All elements of n_q (constant) queries. */
INLINE void mix_queries(int n_q, const struct mixing *x) {
    const int width = n_q <= 3 ? 4 : 2;
    size_t i = 0;
    for (; i + 32 * (size_t)width <= x->d; i += 32 * (size_t)width)
        mix_tile(n_q, width, x, i, 32 * (size_t)width);
    for (; i < x->d; i += 32)
        mix_tile(n_q, 1, x, i, x->d - i);
}

#define MIX_QUERIES(n)                                                                             \
    ISA_AVX512BF16 static void mix_queries_##n(const struct mixing *x) {                           \
        mix_queries(n, x);                                                                         \
    }
MIX_QUERIES(1)
MIX_QUERIES(2)
MIX_QUERIES(3)
MIX_QUERIES(4)
MIX_QUERIES(5)
MIX_QUERIES(6)

/* One block of values for all queries of x. */
ISA_AVX512BF16 static void mix_block(const struct mixing *block, size_t n_q) {
    static void (*const mix[])(
        const struct mixing *) = { NULL,          mix_queries_1, mix_queries_2, mix_queries_3,
                                   mix_queries_4, mix_queries_5, mix_queries_6 };
    struct mixing x = *block;
    for (size_t r = 0, n; r < n_q; r += n) {
        n = tile_queries(n_q - r);
        mix[n](&x);
        x.p += n * x.p_stride;
        x.acc += n * x.d;
        x.ahead = 0;
    }
}

INLINE void q8_to_bf16(const uint8_t *row, size_t d, uint16_t *out) {
    for (size_t i = 0; i < d; i += 32)
        _mm512_storeu_si512(out + i, load_32(KV_Q8, row, d, i, tail_32(d - i)));
}

ISA_AVX512BF16 static void bf16_mix(enum kv_type t, const float *p, size_t n_q, size_t stride,
                                    size_t d, const void *values, size_t n_keys, float *acc,
                                    const void *next) {
    if (t == KV_F32 || t == KV_F16 || d > MAX_D || d == 0) {
        attention_ops_avx512.mix(t, p, n_q, stride, d, values, n_keys, acc, next);
        return;
    }
    _Alignas(64) uint16_t rounded[ROUNDED], block[BLOCK_BYTES / 2];
    size_t stored_bytes = kv_row_bytes(t, d), padded = round_up(d, 32);
    size_t per_block = BLOCK_BYTES / (2 * padded) / 2 * 2;
    size_t queries = ROUNDED / round_up(per_block, 32), ahead = kv_distance(values, next);
    for (size_t j = 0; j < n_keys; j += per_block) {
        size_t n = n_keys - j < per_block ? n_keys - j : per_block;
        const uint8_t *rows = (const uint8_t *)values + j * stored_bytes;
        struct mixing x = { rounded, round_up(n, 32), n,   d,
                            rows,    stored_bytes,    acc, t == KV_BF16 ? ahead : 0 };
        if (t == KV_Q8) {
            for (size_t l = 0; l < n; l++) {
                want(rows + l * stored_bytes, ahead, stored_bytes);
                q8_to_bf16(rows + l * stored_bytes, d, block + l * padded);
            }
            x.values = (const uint8_t *)block;
            x.row_bytes = 2 * padded;
        }
        for (size_t r = 0, n_r; r < n_q; r += n_r) {
            n_r = n_q - r < queries ? n_q - r : queries;
            for (size_t i = 0; i < n_r; i++)
                round_row(p + (r + i) * stride + j, n, rounded + i * x.p_stride);
            x.acc = acc + r * d;
            mix_block(&x, n_r);
            x.ahead = 0;
        }
    }
}

const struct attention_ops attention_ops_avx512bf16 = {
    .kv_store = avx512_kv_store,
    .kv_load = avx512_kv_load,
    .scores = bf16_scores,
    .softmax = avx512_softmax,
    .mix = bf16_mix,
    .merge = avx512_merge,
};

#endif
