/* unpack_avx512.h - from the bits of a panel to levels, scales and float steps, 16 rows at a time:
 * what the products with VNNI (matmul_avx512.c) and with tiles (matmul_amx.c) have in common.
 *
 * Layouts: panel.h. Roundings: ref/matmul.c. */
#ifndef SLM_KERNELS_X86_UNPACK_AVX512_H
#define SLM_KERNELS_X86_UNPACK_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "base/compiler.h"
#include "kernels/panel.h"

#define INLINE ATTR_INLINE ISA_AVX512

/* What a body needs to know of its type; constant after inlining. */
struct traits {
    enum form form;
    enum header header;
    int chunk_bytes, header_bytes, sub, offset;
    bool min, iq4;
};

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

/* ---- scales ---- */

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

/* Scales and minima of one unit, for the headers that pack them; the others need nothing. */
INLINE void scales_read(enum header header, const uint8_t *unit, struct unit_scales *s) {
    if (header == HEADER_K4)
        scales_k4(unit, s);
    else if (header == HEADER_Q3)
        scales_q3(unit, s);
    else if (header == HEADER_Q2)
        scales_q2(unit, s);
}

/* ---- float steps ---- */

INLINE __m512i broadcast_4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512 load_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
}

INLINE __m512 scaled(__m512i sum, __m512 d, float da, __m512 acc) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(da)), acc);
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

#endif
