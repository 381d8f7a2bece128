/* matmul_avx2.c - quantised panels times int8 activations with AVX2 (vpmaddubsw, vpmaddwd).
 *
 * A 64-byte vector of a panel is taken as two halves of 8 rows. vpmaddubsw multiplies unsigned by
 * signed bytes and adds neighbours with saturation at 16 bits, so 16-bit sums are widened before
 * they can reach it; activations are -127..127:
 *   levels of 4 bits or less  15 * 127 * 2 * 8 = 30480: once per 8 groups
 *   5 bits                    31 * 127 * 2 * 4 = 31496: once per 4 groups
 *   6 bits                    63 * 127 * 2 * 2 = 32004: once per 2 groups
 *   8 bits                    as signed numbers, |w| times (a with the sign of w):
 *                             128 * 127 * 2 = 32512: every group
 * So the integer sums are exact and equal the reference's, and the float steps are its own. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <string.h>

#include "kernels/ref/blocks.h"
#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX2
#define HALVES 2 /* of the 16 rows of a panel */

/* ---- from packed bits to 32 levels: 4 columns of 8 rows ---- */

INLINE __m256i load(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* 16-bit shift, to the left for n > 0; n is constant after inlining. */
INLINE __m256i shift_16(__m256i v, int n) {
    switch (n) {
    case 4:
        return _mm256_slli_epi16(v, 4);
    case 3:
        return _mm256_slli_epi16(v, 3);
    case 2:
        return _mm256_slli_epi16(v, 2);
    case 1:
        return _mm256_slli_epi16(v, 1);
    case -1:
        return _mm256_srli_epi16(v, 1);
    case -2:
        return _mm256_srli_epi16(v, 2);
    case -3:
        return _mm256_srli_epi16(v, 3);
    case -4:
        return _mm256_srli_epi16(v, 4);
    case -5:
        return _mm256_srli_epi16(v, 5);
    case -6:
        return _mm256_srli_epi16(v, 6);
    default:
        return v;
    }
}

INLINE __m256i cut(__m256i v, int shift, char mask) {
    return _mm256_and_si256(shift_16(v, shift), _mm256_set1_epi8(mask));
}

INLINE __m256i nibbles(const uint8_t *chunk, int g) {
    return cut(load(chunk + VEC * (g / 2)), g % 2 * -4, 15);
}

INLINE __m256i pairs(const uint8_t *chunk, int g) {
    return cut(load(chunk + VEC * (g / 4)), g % 4 * -2, 3);
}

/* Group g (0..7) of a chunk; chunk points at the half's first row. */
INLINE __m256i group(enum form form, const uint8_t *chunk, int g) {
    switch (form) {
    case FORM_4:
        return nibbles(chunk, g);
    case FORM_4_1:
        return _mm256_or_si256(nibbles(chunk, g), cut(load(chunk + 4 * VEC), 4 - g, 16));
    case FORM_4_2:
        return _mm256_or_si256(nibbles(chunk, g),
                               cut(load(chunk + VEC * (4 + g / 4)), 4 - g % 4 * 2, 48));
    case FORM_2:
        return pairs(chunk, g);
    case FORM_2_1:
        return _mm256_or_si256(pairs(chunk, g), cut(load(chunk + 2 * VEC), 2 - g, 4));
    default:
        return load(chunk + VEC * g);
    }
}

/* ---- sums of products ---- */

INLINE __m256i broadcast_4(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

/* What a body needs to know of its type; constant after inlining. */
struct traits {
    enum form form;
    enum header header;
    int chunk_bytes, header_bytes, sub, offset; /* offset 0 for the signed ones */
    int widen;                                  /* groups between two widenings */
    bool min, iq4;
};

/* The level of a signed type as a signed number. */
INLINE __m256i signed_value(const struct traits k, __m256i w) {
    if (!k.iq4)
        return _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
    const __m128i table =
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), w);
}

/* sum[nt] += groups from..to-1 of the half chunk times the activations q[t]; 8 rows as int32 */
INLINE void dot_groups(const struct traits k, int nt, const uint8_t *chunk, const int8_t *const *q,
                       int from, int to, __m256i *sum) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i narrow[TILE_TOKENS];
    UNROLL
    for (int g = from; g < to; g++) {
        __m256i w = group(k.form, chunk, g), size = w;
        if (k.widen == 1) {
            w = signed_value(k, w);
            size = _mm256_abs_epi8(w);
        }
        UNROLL
        for (int t = 0; t < nt; t++) {
            __m256i a = broadcast_4(q[t] + 4 * g);
            if (k.widen == 1)
                a = _mm256_sign_epi8(a, w);
            __m256i product = _mm256_maddubs_epi16(size, a);
            narrow[t] = (g - from) % k.widen == 0 ? product : _mm256_add_epi16(narrow[t], product);
            if ((g - from) % k.widen == k.widen - 1 || g == to - 1)
                sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(narrow[t], ones));
        }
    }
}

/* -offset * (sum of q) from its negated sum */
INLINE __m256i start(int offset, int32_t nsum) {
    return _mm256_set1_epi32(offset * nsum);
}

INLINE __m256 load_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE __m256 scaled(__m256i sum, __m256 d, float da, __m256 acc) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d, _mm256_set1_ps(da)), acc);
}

INLINE void store_rows(int np, int nt, const __m256 *acc, float *const *out) {
    for (int p = 0; p < np; p++)
        for (int h = 0; h < HALVES; h++)
            for (int t = 0; t < nt; t++)
                _mm256_storeu_ps(out[p * nt + t] + 8 * h, acc[(p * HALVES + h) * nt + t]);
}

/* ---- blocks of 32 columns ---- */

INLINE void body_32(const struct traits k, int np, int nt, const struct matrix *m,
                    const uint8_t *const *panels, const void *const *acts,
                    float *const *out) {
    __m256 acc[HALVES * TILE_OUTPUTS]; /* [panel][half][token] */
    for (int i = 0; i < np * HALVES * nt; i++)
        acc[i] = _mm256_setzero_ps();
    size_t blocks = m->cols / 32, head = 0, at = VEC;
    for (size_t b = 0; b < blocks; b++) {
        const struct act_32 *a[TILE_TOKENS];
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++) {
            a[t] = (const struct act_32 *)acts[t] + b;
            q[t] = a[t]->q;
        }
        for (int i = 0; i < np * HALVES; i++) {
            const uint8_t *panel = panels[i / HALVES];
            int h = i % HALVES;
            __m256i sum[TILE_TOKENS];
            UNROLL
            for (int t = 0; t < nt; t++)
                sum[t] = start(k.offset, a[t]->nsum);
            dot_groups(k, nt, panel + at + 32 * h, q, 0, 8, sum);
            __m256 d = load_f16(panel + head + 16 * h);
            UNROLL
            for (int t = 0; t < nt; t++) {
                __m256 s = scaled(sum[t], d, a[t]->d, acc[i * nt + t]);
                if (k.min)
                    s = _mm256_fmadd_ps(load_f16(panel + head + 32 + 16 * h),
                                        _mm256_set1_ps(a[t]->dsum), s);
                acc[i * nt + t] = s;
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
    store_rows(np, nt, acc, out);
}

/* ---- blocks of 256 columns ---- */

/* Scales of one unit as bytes [sub-block][row], minima as bytes in pairs (panel.h). */
struct unit_scales {
    uint8_t scale[256], min[256];
};

INLINE void put(uint8_t *p, __m256i v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

/* Six-bit sets A and B, 128 numbers each; bias is subtracted. */
INLINE void six_bits(const uint8_t *six, char bias, uint8_t *a, uint8_t *b) {
    const __m256i less = _mm256_set1_epi8(bias);
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i n = load(six + 32 * i), h = load(six + 128 + 32 * (i % 2));
        __m256i high_a = cut(h, i < 2 ? 4 : 2, 48), high_b = cut(h, i < 2 ? 0 : -2, 48);
        put(a + 32 * i, _mm256_sub_epi8(_mm256_or_si256(cut(n, 0, 15), high_a), less));
        put(b + 32 * i, _mm256_sub_epi8(_mm256_or_si256(cut(n, -4, 15), high_b), less));
    }
}

/* 256 bytes: low nibbles to a, high ones to b. */
INLINE void nibble_pairs(const uint8_t *bytes, uint8_t *a, uint8_t *b) {
    UNROLL
    for (int i = 0; i < 8; i++) {
        put(a + 32 * i, cut(load(bytes + 32 * i), 0, 15));
        put(b + 32 * i, cut(load(bytes + 32 * i), -4, 15));
    }
}

INLINE void unpack_scales(const struct traits k, const uint8_t *unit, struct unit_scales *s) {
    if (k.header == HEADER_K4)
        six_bits(unit + 64, 0, s->scale, s->min);
    else if (k.header == HEADER_Q3)
        six_bits(unit + 32, 32, s->scale, s->scale + 128);
    else if (k.header == HEADER_Q2)
        nibble_pairs(unit + 64, s->scale, s->min);
}

INLINE __m256i scale_of(enum header header, const uint8_t *unit, const struct unit_scales *s,
                        size_t j, int h) {
    const uint8_t *from = header == HEADER_I8 ? unit + 32 : s->scale;
    return _mm256_cvtepi8_epi32(
        _mm_loadl_epi64((const __m128i *)(const void *)(from + 16 * j + 8 * (size_t)h)));
}

/* total[nt] = sum over sub-blocks of scale * (sum of weight * q), for half h of one unit */
INLINE void sum_256(const struct traits k, int nt, const uint8_t *unit, int h,
                    const struct act_256 *const *a, const struct unit_scales *s, __m256i *total) {
    const int parts = 32 / k.sub, per = k.sub / 4;
    UNROLL
    for (int t = 0; t < nt; t++)
        total[t] = _mm256_setzero_si256();
    for (size_t c = 0; c < 8; c++) {
        const uint8_t *chunk = unit + k.header_bytes + c * (size_t)k.chunk_bytes + 32 * h;
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++)
            q[t] = a[t]->q + 32 * c;
        UNROLL
        for (int i = 0; i < parts; i++) {
            size_t j = c * (size_t)parts + (size_t)i;
            __m256i sum[TILE_TOKENS], scale = scale_of(k.header, unit, s, j, h);
            UNROLL
            for (int t = 0; t < nt; t++)
                sum[t] = start(k.offset, k.sub == 16 ? a[t]->nsum[j] : a[t]->nsum_32[j]);
            dot_groups(k, nt, chunk, q, i * per, i * per + per, sum);
            UNROLL
            for (int t = 0; t < nt; t++)
                total[t] = _mm256_add_epi32(total[t], _mm256_mullo_epi32(sum[t], scale));
        }
    }
}

INLINE __m256i sum_minima(const struct traits k, const struct unit_scales *s, int h,
                          const struct act_256 *a) {
    const int16_t *nsum = k.sub == 16 ? a->nsum_16 : a->nsum_32;
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 128 / k.sub; i++) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(s->min + 32 * i + 16 * h));
        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(_mm256_cvtepu8_epi16(bytes), broadcast_4(nsum + 2 * i)));
    }
    return sum;
}

INLINE void body_256(const struct traits k, int np, int nt, const struct matrix *m,
                     const uint8_t *const *panels, const void *const *acts,
                     float *const *out) {
    __m256 acc[HALVES * TILE_OUTPUTS]; /* [panel][half][token] */
    for (int i = 0; i < np * HALVES * nt; i++)
        acc[i] = _mm256_setzero_ps();
    size_t blocks = m->cols / 256, unit_size = (size_t)(k.header_bytes + 8 * k.chunk_bytes);
    for (size_t b = 0; b < blocks; b++) {
        const struct act_256 *a[TILE_TOKENS];
        struct unit_scales s;
        UNROLL
        for (int t = 0; t < nt; t++)
            a[t] = (const struct act_256 *)acts[t] + b;
        for (int i = 0; i < np * HALVES; i++) {
            const uint8_t *unit = panels[i / HALVES] + b * unit_size;
            int h = i % HALVES;
            __m256i total[TILE_TOKENS];
            if (h == 0)
                unpack_scales(k, unit, &s);
            sum_256(k, nt, unit, h, a, &s, total);
            __m256 d = load_f16(unit + 16 * h);
            for (int t = 0; t < nt; t++) {
                __m256 sum = scaled(total[t], d, a[t]->d, acc[i * nt + t]);
                if (k.min)
                    sum = scaled(sum_minima(k, &s, h, a[t]), load_f16(unit + 32 + 16 * h), a[t]->d,
                                 sum);
                acc[i * nt + t] = sum;
            }
        }
    }
    store_rows(np, nt, acc, out);
}

/* ---- the types ---- */

#define TILE(type, body, traits, np, nt)                                                           \
    static ISA_AVX2 void tile_##type##_##np##x##nt(                                                \
        const struct matrix *m, const uint8_t *const *panels, const void *const *acts,             \
        float *const *out) {                                                                 \
        body(traits, np, nt, m, panels, acts, out);                                                \
    }

/* { form, header, chunk_bytes, header_bytes, sub, offset, widen, min, iq4 }, mostly as in panel.c */
#define MATMUL(type, body, ...)                                                                    \
    static const struct traits traits_##type = { __VA_ARGS__ };                                    \
    TILE(type, body, traits_##type, 1, 4)                                                          \
    TILE(type, body, traits_##type, 1, 1)                                                          \
    void matmul_##type##_avx2(const struct matrix *m, const void *acts, size_t n_tokens,           \
                              uint32_t first, uint32_t n, float *y, size_t y_stride,               \
                              void *scratch) {                                                     \
        static const struct tile_shape shapes[] = { { 1, 4, tile_##type##_1x4 },                   \
                                                    { 1, 1, tile_##type##_1x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

MATMUL(q8_0, body_32, FORM_8, HEADER_D, 512, 64, 0, 0, 1, false, false)
MATMUL(q4_0, body_32, FORM_4, HEADER_D, 256, 64, 0, 8, 8, false, false)
MATMUL(q4_1, body_32, FORM_4, HEADER_DM, 256, 64, 0, 0, 8, true, false)
MATMUL(q5_0, body_32, FORM_4_1, HEADER_D, 320, 64, 0, 16, 4, false, false)
MATMUL(q5_1, body_32, FORM_4_1, HEADER_DM, 320, 64, 0, 0, 4, true, false)
MATMUL(iq4_nl, body_32, FORM_4, HEADER_D, 256, 64, 0, 0, 1, false, true)
MATMUL(q2_k, body_256, FORM_2, HEADER_Q2, 128, 320, 16, 0, 8, true, false)
MATMUL(q3_k, body_256, FORM_2_1, HEADER_Q3, 192, 256, 16, 4, 8, false, false)
MATMUL(q4_k, body_256, FORM_4, HEADER_K4, 256, 256, 32, 0, 8, true, false)
MATMUL(q5_k, body_256, FORM_4_1, HEADER_K4, 320, 256, 32, 0, 4, true, false)
MATMUL(q6_k, body_256, FORM_4_2, HEADER_I8, 384, 320, 16, 32, 2, false, false)
MATMUL(iq4_xs, body_256, FORM_4, HEADER_I8, 256, 192, 32, 0, 1, false, true)
#endif
