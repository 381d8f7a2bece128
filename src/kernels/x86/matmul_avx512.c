/* matmul_avx512.c - quantised panels times int8 activations with VNNI (vpdpbusd).
 *
 * A 64-byte vector of unsigned levels (4 columns of 16 rows) meets 4 signed activations repeated 16
 * times; the 16 lanes are the 16 rows. The unsigned levels stand for level - offset, so each sum
 * starts at -offset * (sum of the activations). Everything up to the float steps is exact, and
 * these are the reference's (ref/matmul.c), so the bits agree.
 * Each type instantiates one of two bodies, blocks of 32 or of 256 columns, in four tile shapes. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <string.h>

#include "kernels/ref/blocks.h"
#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX512

/* ---- from packed bits to 64 unsigned levels ---- */

/* 16-bit shift, to the left for n > 0; n is constant after inlining. Bits that cross from one byte
 * into its neighbour are masked away by the callers. */
INLINE __m512i shift_16(__m512i v, int n) {
    switch (n) {
    case 4:
        return _mm512_slli_epi16(v, 4);
    case 3:
        return _mm512_slli_epi16(v, 3);
    case 2:
        return _mm512_slli_epi16(v, 2);
    case 1:
        return _mm512_slli_epi16(v, 1);
    case -1:
        return _mm512_srli_epi16(v, 1);
    case -2:
        return _mm512_srli_epi16(v, 2);
    case -3:
        return _mm512_srli_epi16(v, 3);
    case -4:
        return _mm512_srli_epi16(v, 4);
    case -5:
        return _mm512_srli_epi16(v, 5);
    case -6:
        return _mm512_srli_epi16(v, 6);
    default:
        return v;
    }
}

INLINE __m512i load(const uint8_t *p) {
    return _mm512_load_si512((const void *)p);
}

/* low | (high shifted left by n & mask) */
INLINE __m512i merge_bits(__m512i low, __m512i high, int n, char mask) {
    return _mm512_ternarylogic_epi32(low, shift_16(high, n), _mm512_set1_epi8(mask), 0xF8);
}

INLINE __m512i nibbles(const uint8_t *chunk, int g) {
    return _mm512_and_si512(shift_16(load(chunk + VEC * (g / 2)), g % 2 * -4),
                            _mm512_set1_epi8(15));
}

INLINE __m512i pairs(const uint8_t *chunk, int g) {
    return _mm512_and_si512(shift_16(load(chunk + VEC * (g / 4)), g % 4 * -2), _mm512_set1_epi8(3));
}

/* Group g (0..7) of a chunk. */
INLINE __m512i group(enum form form, const uint8_t *chunk, int g) {
    switch (form) {
    case FORM_4:
        return nibbles(chunk, g);
    case FORM_4_1:
        return merge_bits(nibbles(chunk, g), load(chunk + 4 * VEC), 4 - g, 16);
    case FORM_4_2:
        return merge_bits(nibbles(chunk, g), load(chunk + VEC * (4 + g / 4)), 4 - g % 4 * 2, 48);
    case FORM_2:
        return pairs(chunk, g);
    case FORM_2_1:
        return merge_bits(pairs(chunk, g), load(chunk + 2 * VEC), 2 - g, 4);
    default:
        return load(chunk + VEC * g);
    }
}

/* iq4_levels + 128 */
INLINE __m512i iq4_values(__m512i index) {
    const __m128i table =
        _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153, (char)166,
                      (char)181, (char)197, (char)217, (char)241);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index);
}

/* ---- sums of products ---- */

INLINE __m512i broadcast_4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

/* offset * nsum, offset a power of two */
INLINE __m512i start(int offset, __m512i nsum) {
    switch (offset) {
    case 4:
        return _mm512_slli_epi32(nsum, 2);
    case 8:
        return _mm512_slli_epi32(nsum, 3);
    case 16:
        return _mm512_slli_epi32(nsum, 4);
    case 32:
        return _mm512_slli_epi32(nsum, 5);
    case 128:
        return _mm512_slli_epi32(nsum, 7);
    default:
        return _mm512_setzero_si512();
    }
}

/* What a body needs to know of its type; constant after inlining. */
struct traits {
    enum form form;
    enum header header;
    int chunk_bytes, header_bytes, sub, offset;
    bool min, iq4;
};

/* Asks for the panel's bytes some chunks ahead. Full tiles compute for so long that the processor's
 * own prefetchers, which follow the loads, come too late; with fewer tokens they are better left
 * alone (docs/internals/kernels.md has the measurements). Past the last panel nothing happens. */
#define PREFETCH_BYTES 4096
#define PREFETCH_TOKENS 8
INLINE void prefetch(const struct traits k, int np, int nt, const uint8_t *const *panels,
                     size_t at) {
    if (nt < PREFETCH_TOKENS)
        return;
    UNROLL
    for (int p = 0; p < np; p++) {
        UNROLL
        for (int i = 0; i < k.chunk_bytes; i += VEC)
            _mm_prefetch((const char *)panels[p] + at + PREFETCH_BYTES + i, _MM_HINT_T0);
    }
}

/* sum[np * nt] += groups from..to-1 of the chunks at panels[p] + at times the activations q[t]. */
INLINE void dot_groups(const struct traits k, int np, int nt, const uint8_t *const *panels,
                       size_t at, const int8_t *const *q, int from, int to, __m512i *sum) {
    UNROLL
    for (int g = from; g < to; g++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512i w = group(k.form, panels[p] + at, g);
            if (k.iq4)
                w = iq4_values(w);
            UNROLL
            for (int t = 0; t < nt; t++)
                sum[p * nt + t] =
                    _mm512_dpbusd_epi32(sum[p * nt + t], w, broadcast_4(q[t] + 4 * g));
        }
        UNROLL
        for (int i = 0; i < np * nt; i++)
            PIN_VECTOR(sum[i]);
    }
}

INLINE __m512 load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
}

INLINE __m512 scaled(__m512i sum, __m512 d, float da, __m512 acc) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(da)), acc);
}

/* ---- blocks of 32 columns ---- */

INLINE void body_32(const struct traits k, int np, int nt, const struct matrix *m,
                    const uint8_t *const *panels, const void *const *acts,
                    float (*out)[PANEL_ROWS]) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t blocks = m->cols / 32, head = 0, at = VEC;
    for (size_t b = 0; b < blocks; b++) {
        const struct act_32 *a[TILE_TOKENS];
        const int8_t *q[TILE_TOKENS];
        __m512i sum[TILE_OUTPUTS];
        UNROLL
        for (int t = 0; t < nt; t++) {
            a[t] = (const struct act_32 *)acts[t] + b;
            q[t] = a[t]->q;
            __m512i s = start(k.offset, _mm512_set1_epi32(a[t]->nsum));
            UNROLL
            for (int p = 0; p < np; p++)
                sum[p * nt + t] = s;
        }
        prefetch(k, np, nt, panels, at);
        dot_groups(k, np, nt, panels, at, q, 0, 8, sum);
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512 d = load_f16(panels[p] + head);
            UNROLL
            for (int t = 0; t < nt; t++) {
                int i = p * nt + t;
                acc[i] = scaled(sum[i], d, a[t]->d, acc[i]);
                if (k.min)
                    acc[i] = _mm512_fmadd_ps(load_f16(panels[p] + head + 32),
                                             _mm512_set1_ps(a[t]->dsum), acc[i]);
            }
        }
        if (k.header == HEADER_D && b % 2 == 0) {
            head += 32; /* the unit's second scale and chunk */
            at += (size_t)k.chunk_bytes;
        } else {
            at += (size_t)k.chunk_bytes + VEC;
            head = at - VEC;
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

/* ---- blocks of 256 columns ---- */

/* The four vectors of a six-bit set pair: A 0..3, A 4..7, B 0..3, B 4..7 (places 0..63, 64..127). */
INLINE void six_bits(const uint8_t *six, __m512i v[4]) {
    const __m512i low = _mm512_set1_epi8(15);
    __m512i n0 = load(six), n1 = load(six + 64), h = load(six + 128);
    v[0] = merge_bits(_mm512_and_si512(n0, low), h, 4, 48);
    v[1] = merge_bits(_mm512_and_si512(n1, low), h, 2, 48);
    v[2] = merge_bits(_mm512_and_si512(shift_16(n0, -4), low), h, 0, 48);
    v[3] = merge_bits(_mm512_and_si512(shift_16(n1, -4), low), h, -2, 48);
}

INLINE __m512i load_unaligned(const uint8_t *p) {
    return _mm512_loadu_si512((const void *)p);
}

/* Scales of one unit as bytes [sub-block][row], minima as bytes in pairs (panel.h). */
struct unit_scales {
    uint8_t scale[256], min[256];
};

INLINE void scales_k4(const uint8_t *unit, struct unit_scales *s) {
    __m512i v[4];
    six_bits(unit + 64, v);
    _mm512_store_si512(s->scale, v[0]);
    _mm512_store_si512(s->scale + 64, v[1]);
    _mm512_store_si512(s->min, v[2]);
    _mm512_store_si512(s->min + 64, v[3]);
}

/* Q3_K: the numbers follow 32 bytes of d, so nothing is aligned to 64 */
INLINE void scales_q3(const uint8_t *unit, struct unit_scales *s) {
    const __m512i low = _mm512_set1_epi8(15), bias = _mm512_set1_epi8(32);
    __m512i n0 = load_unaligned(unit + 32), n1 = load_unaligned(unit + 96),
            h = load_unaligned(unit + 160);
    __m512i v0 = merge_bits(_mm512_and_si512(n0, low), h, 4, 48);
    __m512i v1 = merge_bits(_mm512_and_si512(n1, low), h, 2, 48);
    __m512i v2 = merge_bits(_mm512_and_si512(shift_16(n0, -4), low), h, 0, 48);
    __m512i v3 = merge_bits(_mm512_and_si512(shift_16(n1, -4), low), h, -2, 48);
    _mm512_store_si512(s->scale, _mm512_sub_epi8(v0, bias));
    _mm512_store_si512(s->scale + 64, _mm512_sub_epi8(v1, bias));
    _mm512_store_si512(s->scale + 128, _mm512_sub_epi8(v2, bias));
    _mm512_store_si512(s->scale + 192, _mm512_sub_epi8(v3, bias));
}

INLINE void scales_q2(const uint8_t *unit, struct unit_scales *s) {
    const __m512i low = _mm512_set1_epi8(15);
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i v = load(unit + 64 + 64 * i);
        _mm512_store_si512(s->scale + 64 * i, _mm512_and_si512(v, low));
        _mm512_store_si512(s->min + 64 * i, _mm512_and_si512(shift_16(v, -4), low));
    }
}

/* Scale of sub-block j for 16 rows as int32. I8 types have them in the panel, ready. */
INLINE __m512i scale_of(enum header header, const uint8_t *unit, const struct unit_scales *s,
                        size_t j) {
    const uint8_t *from = header == HEADER_I8 ? unit + 32 : s->scale;
    return _mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)(const void *)(from + 16 * j)));
}

/* -(sum of q) for sub-block j */
INLINE __m512i nsum_of(int sub, const struct act_256 *a, size_t j) {
    if (sub == 16)
        return _mm512_set1_epi32(a->nsum[j]);
    return _mm512_set1_epi32(a->nsum_32[j]);
}

/* total[np * nt] = sum over sub-blocks of scale * (sum of weight * q) */
INLINE void sum_256(const struct traits k, int np, int nt, const uint8_t *const *units,
                    const struct act_256 *const *a, const struct unit_scales *s, __m512i *total) {
    const int halves = 32 / k.sub, per = k.sub / 4;
    UNROLL
    for (int i = 0; i < np * nt; i++)
        total[i] = _mm512_setzero_si512();
    for (size_t c = 0; c < 8; c++) {
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++)
            q[t] = a[t]->q + 32 * c;
        size_t at = (size_t)k.header_bytes + c * (size_t)k.chunk_bytes;
        prefetch(k, np, nt, units, at);
        UNROLL
        for (int h = 0; h < halves; h++) {
            size_t j = c * (size_t)halves + (size_t)h;
            __m512i sum[TILE_OUTPUTS];
            UNROLL
            for (int t = 0; t < nt; t++) {
                __m512i first =
                    k.offset ? start(k.offset, nsum_of(k.sub, a[t], j)) : _mm512_setzero_si512();
                UNROLL
                for (int p = 0; p < np; p++)
                    sum[p * nt + t] = first;
            }
            dot_groups(k, np, nt, units, at, q, h * per, h * per + per, sum);
            UNROLL
            for (int p = 0; p < np; p++) {
                __m512i scale = scale_of(k.header, units[p], s + p, j);
                UNROLL
                for (int t = 0; t < nt; t++)
                    total[p * nt + t] = _mm512_add_epi32(
                        total[p * nt + t], _mm512_mullo_epi32(sum[p * nt + t], scale));
            }
        }
    }
}

/* acc[nt] += dmin * da * (sum over sub-blocks of min * nsum): pairs of 16-bit products */
INLINE void add_minima(const struct traits k, int nt, const uint8_t *unit,
                       const struct unit_scales *s, const struct act_256 *const *a, __m512 *acc) {
    const int n = 128 / k.sub;
    __m512i pair[8];
    UNROLL
    for (int i = 0; i < n; i++)
        pair[i] = _mm512_cvtepu8_epi16(
            _mm256_load_si256((const __m256i *)(const void *)(s->min + 32 * i)));
    __m512 dmin = load_f16(unit + 32);
    UNROLL
    for (int t = 0; t < nt; t++) {
        const int16_t *nsum = k.sub == 16 ? a[t]->nsum_16 : a[t]->nsum_32;
        __m512i sum = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < n; i++)
            sum = _mm512_dpwssd_epi32(sum, pair[i], broadcast_4(nsum + 2 * i));
        acc[t] = scaled(sum, dmin, a[t]->d, acc[t]);
    }
}

INLINE void body_256(const struct traits k, int np, int nt, const struct matrix *m,
                     const uint8_t *const *panels, const void *const *acts,
                     float (*out)[PANEL_ROWS]) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t blocks = m->cols / 256, unit_size = (size_t)(k.header_bytes + 8 * k.chunk_bytes);
    for (size_t b = 0; b < blocks; b++) {
        const uint8_t *units[TILE_PANELS];
        const struct act_256 *a[TILE_TOKENS];
        _Alignas(64) struct unit_scales s[TILE_PANELS];
        __m512i total[TILE_OUTPUTS];
        UNROLL
        for (int p = 0; p < np; p++) {
            units[p] = panels[p] + b * unit_size;
            if (k.header == HEADER_K4)
                scales_k4(units[p], s + p);
            else if (k.header == HEADER_Q3)
                scales_q3(units[p], s + p);
            else if (k.header == HEADER_Q2)
                scales_q2(units[p], s + p);
        }
        UNROLL
        for (int t = 0; t < nt; t++)
            a[t] = (const struct act_256 *)acts[t] + b;
        sum_256(k, np, nt, units, a, s, total);
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512 d = load_f16(units[p]);
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[p * nt + t] = scaled(total[p * nt + t], d, a[t]->d, acc[p * nt + t]);
            if (k.min)
                add_minima(k, nt, units[p], s + p, a, acc + p * nt);
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

/* ---- the types ---- */

#define TILE(type, body, traits, np, nt)                                                           \
    static ISA_AVX512 void tile_##type##_##np##x##nt(                                              \
        const struct matrix *m, const uint8_t *const *panels, const void *const *acts,             \
        float(*out)[PANEL_ROWS]) {                                                                 \
        body(traits, np, nt, m, panels, acts, out);                                                \
    }

/* { form, header, chunk_bytes, header_bytes, sub, offset, min, iq4 } as in panel.c */
#define MATMUL(type, body, ...)                                                                    \
    static const struct traits traits_##type = { __VA_ARGS__ };                                    \
    TILE(type, body, traits_##type, 1, 8)                                                          \
    TILE(type, body, traits_##type, 1, 4)                                                          \
    TILE(type, body, traits_##type, 1, 2)                                                          \
    TILE(type, body, traits_##type, 1, 1)                                                          \
    void matmul_##type##_avx512(const struct matrix *m, const void *acts, size_t n_tokens,         \
                                uint32_t first, uint32_t n, float *y, size_t y_stride,             \
                                void *scratch) {                                                   \
        static const struct tile_shape shapes[] = { { 1, 8, tile_##type##_1x8 },                   \
                                                    { 1, 4, tile_##type##_1x4 },                   \
                                                    { 1, 2, tile_##type##_1x2 },                   \
                                                    { 1, 1, tile_##type##_1x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

MATMUL(q8_0, body_32, FORM_8, HEADER_D, 512, 64, 0, 128, false, false)
MATMUL(q4_0, body_32, FORM_4, HEADER_D, 256, 64, 0, 8, false, false)
MATMUL(q4_1, body_32, FORM_4, HEADER_DM, 256, 64, 0, 0, true, false)
MATMUL(q5_0, body_32, FORM_4_1, HEADER_D, 320, 64, 0, 16, false, false)
MATMUL(q5_1, body_32, FORM_4_1, HEADER_DM, 320, 64, 0, 0, true, false)
MATMUL(iq4_nl, body_32, FORM_4, HEADER_D, 256, 64, 0, 128, false, true)
MATMUL(q2_k, body_256, FORM_2, HEADER_Q2, 128, 320, 16, 0, true, false)
MATMUL(q3_k, body_256, FORM_2_1, HEADER_Q3, 192, 256, 16, 4, false, false)
MATMUL(q4_k, body_256, FORM_4, HEADER_K4, 256, 256, 32, 0, true, false)
MATMUL(q5_k, body_256, FORM_4_1, HEADER_K4, 320, 256, 32, 0, true, false)
MATMUL(q6_k, body_256, FORM_4_2, HEADER_I8, 384, 320, 16, 32, false, false)
MATMUL(iq4_xs, body_256, FORM_4, HEADER_I8, 256, 192, 32, 128, false, true)
#endif
