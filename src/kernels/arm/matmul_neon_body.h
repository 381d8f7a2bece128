/* matmul_neon_body.h - quantised panels times int8 activations, 4 rows to a register.
 *
 * Included once per instruction set by matmul_neon.c and matmul_neon_dot.c, which define
 *   ISA                      target attribute of every function here
 *   SUFFIX(name)             name of a public function of this instruction set
 *   dot(sum, w, a, lane)     sum[r] += w[4 r + i] * a[4 lane + i] over i = 0..3, exact
 * before. A 64-byte vector of a panel is four quarters of 4 rows x 4 columns. Levels of up to 6 bits
 * are signed bytes as they stand; 8-bit ones become signed by flipping the top bit (level - 128).
 * Everything up to the float steps is exact, and these are the reference's (ref/matmul.c).
 *
 * A tile takes `nq` quarters at a time with all its tokens: their nq * nt integer sums stay in
 * registers through a block, the float32 accumulators of the other quarters wait in the first-level
 * cache, where they are touched once per block. */
#include "kernels/ref/matmul.h"

#if defined(HAVE_ARM_KERNELS) && defined(SUFFIX)
#include <arm_neon.h>
#include <string.h>

#define INLINE ATTR_INLINE ISA
#define QUARTER_ROWS 4
#define QUARTERS 4

/* ---- from packed bits to 16 levels: 4 columns of 4 rows ---- */

/* Shift of bytes, to the left for n > 0; n is constant after inlining. */
INLINE uint8x16_t shift_8(uint8x16_t v, int n) {
    switch (n) {
    case 4:
        return vshlq_n_u8(v, 4);
    case 3:
        return vshlq_n_u8(v, 3);
    case 2:
        return vshlq_n_u8(v, 2);
    case 1:
        return vshlq_n_u8(v, 1);
    case -1:
        return vshrq_n_u8(v, 1);
    case -2:
        return vshrq_n_u8(v, 2);
    case -3:
        return vshrq_n_u8(v, 3);
    case -4:
        return vshrq_n_u8(v, 4);
    case -5:
        return vshrq_n_u8(v, 5);
    case -6:
        return vshrq_n_u8(v, 6);
    default:
        return v;
    }
}

/* Bits `mask` of v shifted; nothing is masked where the shift leaves nothing else. */
INLINE uint8x16_t cut(uint8x16_t v, int shift, int mask) {
    uint8x16_t moved = shift_8(v, shift);
    return shift < 0 && mask == 255 >> -shift ? moved : vandq_u8(moved, vdupq_n_u8((uint8_t)mask));
}

INLINE uint8x16_t nibbles(const uint8_t *chunk, int g) {
    return cut(vld1q_u8(chunk + VEC * (g / 2)), g % 2 * -4, 15);
}

INLINE uint8x16_t pairs(const uint8_t *chunk, int g) {
    return cut(vld1q_u8(chunk + VEC * (g / 4)), g % 4 * -2, 3);
}

/* Group g (0..7) of a chunk; chunk points at the quarter's first row. */
INLINE uint8x16_t group(enum form form, const uint8_t *chunk, int g) {
    switch (form) {
    case FORM_4:
        return nibbles(chunk, g);
    case FORM_4_1:
        return vorrq_u8(nibbles(chunk, g), cut(vld1q_u8(chunk + 4 * VEC), 4 - g, 16));
    case FORM_4_2:
        return vorrq_u8(nibbles(chunk, g),
                        cut(vld1q_u8(chunk + VEC * (4 + g / 4)), 4 - g % 4 * 2, 48));
    case FORM_2:
        return pairs(chunk, g);
    case FORM_2_1:
        return vorrq_u8(pairs(chunk, g), cut(vld1q_u8(chunk + 2 * VEC), 2 - g, 4));
    default:
        return vld1q_u8(chunk + VEC * g);
    }
}

/* What a body needs to know of its type; constant after inlining. */
struct traits {
    enum form form;
    enum header header;
    int chunk_bytes, header_bytes, sub, offset; /* offset 0 for 8-bit levels, which become signed */
    bool min, iq4;
};

/* The same group as signed numbers: weight + offset. */
INLINE int8x16_t value(const struct traits k, const uint8_t *chunk, int g) {
    static const int8_t iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                    1,    13,   25,  38,  53,  69,  89,  113 };
    uint8x16_t w = group(k.form, chunk, g);
    if (k.iq4)
        return vqtbl1q_s8(vld1q_s8(iq4), w);
    if (k.form == FORM_8)
        w = veorq_u8(w, vdupq_n_u8(0x80));
    return vreinterpretq_s8_u8(w);
}

/* ---- scales ---- */

/* 4 floats from 4 f16 */
INLINE float32x4_t load_f16(const uint8_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

INLINE float32x4_t scaled(int32x4_t sum, float32x4_t d, float32x4_t da, float32x4_t acc) {
    return vfmaq_f32(acc, vcvtq_f32_s32(sum), vmulq_f32(d, da));
}

/* Scales of one unit as bytes [sub-block][row], minima as bytes in pairs (panel.h). */
struct unit_scales {
    uint8_t scale[256], min[256];
};

/* Six-bit sets A and B, 128 numbers each; bias is subtracted. */
INLINE void six_bits(const uint8_t *six, uint8_t bias, uint8_t *a, uint8_t *b) {
    const uint8x16_t less = vdupq_n_u8(bias);
    UNROLL
    for (int i = 0; i < 8; i++) {
        uint8x16_t n = vld1q_u8(six + 16 * i), h = vld1q_u8(six + 128 + 16 * (i % 4));
        uint8x16_t high_a = cut(h, i < 4 ? 4 : 2, 48), high_b = cut(h, i < 4 ? 0 : -2, 48);
        vst1q_u8(a + 16 * i, vsubq_u8(vorrq_u8(cut(n, 0, 15), high_a), less));
        vst1q_u8(b + 16 * i, vsubq_u8(vorrq_u8(cut(n, -4, 15), high_b), less));
    }
}

/* 256 bytes: low nibbles to a, high ones to b. */
INLINE void nibble_pairs(const uint8_t *bytes, uint8_t *a, uint8_t *b) {
    for (int i = 0; i < 256; i += 16) {
        uint8x16_t v = vld1q_u8(bytes + i);
        vst1q_u8(a + i, cut(v, 0, 15));
        vst1q_u8(b + i, cut(v, -4, 15));
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

/* Scale of sub-block j for the 4 rows of quarter i. I8 types have them in the panel, ready. */
INLINE int32x4_t scale_of(enum header header, const uint8_t *unit, const struct unit_scales *s,
                          size_t j, int i) {
    const uint8_t *from = (header == HEADER_I8 ? unit + 32 : s->scale) + 16 * j + 4 * i;
    uint32_t four;
    memcpy(&four, from, 4);
    int8x8_t bytes = vreinterpret_s8_u32(vdup_n_u32(four));
    return vmovl_s16(vget_low_s16(vmovl_s8(bytes)));
}

/* sum over sub-blocks of min * nsum, for quarter i */
INLINE int32x4_t sum_minima(const struct traits k, const struct unit_scales *s, int i,
                            const struct act_256 *a) {
    const int16_t *nsum = k.sub == 16 ? a->nsum_16 : a->nsum_32;
    int32x4_t sum = vdupq_n_s32(0);
    UNROLL
    for (int j = 0; j < 128 / k.sub; j++) { /* two neighbouring sub-blocks of each row */
        int16x8_t two = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(s->min + 32 * j + 8 * i)));
        int16x8_t apart = vuzp1q_s16(two, vextq_s16(two, two, 1));
        sum = vmlal_n_s16(sum, vget_low_s16(apart), nsum[2 * j]);
        sum = vmlal_n_s16(sum, vget_high_s16(apart), nsum[2 * j + 1]);
    }
    return sum;
}

/* Where block b + 1 of a type with blocks of 32 has its scales and its chunk, from those of b. */
INLINE void next_block(const struct traits k, size_t b, size_t *head, size_t *at) {
    if (k.header == HEADER_D && b % 2 == 0) {
        *head += 32; /* the unit's second scale and chunk */
        *at += (size_t)k.chunk_bytes;
    } else {
        *at += (size_t)k.chunk_bytes + VEC;
        *head = *at - VEC;
    }
}

/* ---- products ---- */

/* sum[nq * nt] += groups from..to-1 of nq quarters of a chunk, the first at `chunk`, times the
 * activations, 32 of each token */
INLINE void dot_groups(const struct traits k, int nq, int nt, const uint8_t *chunk,
                       const int8_t *const *q, int from, int to, int32x4_t *sum) {
    UNROLL
    for (int g = from; g < to; g++) {
        UNROLL
        for (int i = 0; i < nq; i++) {
            int8x16_t w = value(k, chunk + 16 * i, g);
            UNROLL
            for (int t = 0; t < nt; t++)
                sum[i * nt + t] = dot(sum[i * nt + t], w, vld1q_s8(q[t] + g / 4 * 16), g % 4);
        }
        if (g % 4 == 3 || (nq == QUARTERS && g % 2 == 1))
            LOADS_STAY();
    }
}

/* float32 accumulators of a tile */
struct sums {
    float32x4_t of[QUARTERS][TILE_TOKENS];
};

INLINE void sums_clear(int nt, struct sums *acc) {
    for (int i = 0; i < QUARTERS; i++) {
        UNROLL
        for (int t = 0; t < nt; t++)
            acc->of[i][t] = vdupq_n_f32(0);
    }
}

INLINE void sums_store(int nt, const struct sums *acc, float *const *out) {
    for (int i = 0; i < QUARTERS; i++) {
        UNROLL
        for (int t = 0; t < nt; t++)
            vst1q_f32(out[t] + QUARTER_ROWS * i, acc->of[i][t]);
    }
}

/* ---- blocks of 32 columns ---- */

INLINE void body_32(const struct traits k, int nq, int nt, const struct matrix *m,
                    const uint8_t *panel, const void *const *acts, float *const *out) {
    struct sums acc;
    sums_clear(nt, &acc);
    size_t blocks = m->cols / 32, head = 0, at = VEC;
    for (size_t b = 0; b < blocks; b++) {
        const struct act_32 *a[TILE_TOKENS];
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++) {
            a[t] = (const struct act_32 *)acts[t] + b;
            q[t] = a[t]->q;
        }
        for (int first = 0; first < QUARTERS; first += nq) {
            int32x4_t sum[TILE_OUTPUTS];
            UNROLL
            for (int t = 0; t < nt; t++) {
                UNROLL
                for (int i = 0; i < nq; i++)
                    sum[i * nt + t] = vdupq_n_s32(k.offset ? k.offset * a[t]->nsum : 0);
            }
            dot_groups(k, nq, nt, panel + at + 16 * first, q, 0, 8, sum);
            UNROLL
            for (int i = 0; i < nq; i++) {
                const uint8_t *scale = panel + head + 8 * (first + i);
                float32x4_t d = load_f16(scale), *to = acc.of[first + i];
                UNROLL
                for (int t = 0; t < nt; t++) {
                    to[t] = scaled(sum[i * nt + t], d, vdupq_n_f32(a[t]->d), to[t]);
                    if (k.min)
                        to[t] = vfmaq_n_f32(to[t], load_f16(scale + 32), a[t]->dsum);
                }
            }
        }
        next_block(k, b, &head, &at);
    }
    sums_store(nt, &acc, out);
}

/* ---- blocks of 256 columns ---- */

/* total[nq * nt] = sum over sub-blocks of scale * (sum of weight * q), for nq quarters of a unit */
INLINE void sum_256(const struct traits k, int nq, int nt, const uint8_t *unit, int first,
                    const struct act_256 *const *a, const struct unit_scales *s,
                    int32x4_t *total) {
    const int parts = 32 / k.sub, per = k.sub / 4;
    UNROLL
    for (int i = 0; i < nq * nt; i++)
        total[i] = vdupq_n_s32(0);
    for (size_t c = 0; c < 8; c++) {
        const uint8_t *chunk = unit + k.header_bytes + c * (size_t)k.chunk_bytes + 16 * first;
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++)
            q[t] = a[t]->q + 32 * c;
        UNROLL
        for (int h = 0; h < parts; h++) {
            size_t j = c * (size_t)parts + (size_t)h;
            int32x4_t sum[TILE_OUTPUTS];
            UNROLL
            for (int t = 0; t < nt; t++) {
                int32_t nsum = k.sub == 16 ? a[t]->nsum[j] : a[t]->nsum_32[j];
                UNROLL
                for (int i = 0; i < nq; i++)
                    sum[i * nt + t] = vdupq_n_s32(k.offset ? k.offset * nsum : 0);
            }
            dot_groups(k, nq, nt, chunk, q, h * per, h * per + per, sum);
            UNROLL
            for (int i = 0; i < nq; i++) {
                int32x4_t scale = scale_of(k.header, unit, s, j, first + i);
                UNROLL
                for (int t = 0; t < nt; t++)
                    total[i * nt + t] = vmlaq_s32(total[i * nt + t], sum[i * nt + t], scale);
            }
        }
    }
}

INLINE void body_256(const struct traits k, int nq, int nt, const struct matrix *m,
                     const uint8_t *panel, const void *const *acts, float *const *out) {
    struct sums acc;
    sums_clear(nt, &acc);
    size_t blocks = m->cols / 256, unit_size = (size_t)(k.header_bytes + 8 * k.chunk_bytes);
    for (size_t b = 0; b < blocks; b++) {
        const uint8_t *unit = panel + b * unit_size;
        const struct act_256 *a[TILE_TOKENS];
        struct unit_scales s;
        unpack_scales(k, unit, &s);
        UNROLL
        for (int t = 0; t < nt; t++)
            a[t] = (const struct act_256 *)acts[t] + b;
        for (int first = 0; first < QUARTERS; first += nq) {
            int32x4_t total[TILE_OUTPUTS];
            sum_256(k, nq, nt, unit, first, a, &s, total);
            UNROLL
            for (int i = 0; i < nq; i++) {
                const uint8_t *scale = unit + 8 * (first + i);
                float32x4_t d = load_f16(scale), *to = acc.of[first + i];
                UNROLL
                for (int t = 0; t < nt; t++) {
                    float32x4_t da = vdupq_n_f32(a[t]->d);
                    to[t] = scaled(total[i * nt + t], d, da, to[t]);
                    if (k.min)
                        to[t] = scaled(sum_minima(k, &s, first + i, a[t]), load_f16(scale + 32), da,
                                       to[t]);
                }
            }
        }
    }
    sums_store(nt, &acc, out);
}

/* ---- the types ---- */

#define TILE(type, body, nq, nt)                                                                   \
    static ISA void tile_##type##_##nt(const struct matrix *m, const uint8_t *const *panels,       \
                                       const void *const *acts, float *const *out) {         \
        body(traits_##type, nq, nt, m, panels[0], acts, out);                                      \
    }

/* { form, header, chunk_bytes, header_bytes, sub, offset, min, iq4 } as in panel.c */
#define TYPES(each)                                                                                \
    each(q8_0, body_32, FORM_8, HEADER_D, 512, 64, 0, 0, false, false)                             \
    each(q4_0, body_32, FORM_4, HEADER_D, 256, 64, 0, 8, false, false)                             \
    each(q4_1, body_32, FORM_4, HEADER_DM, 256, 64, 0, 0, true, false)                             \
    each(q5_0, body_32, FORM_4_1, HEADER_D, 320, 64, 0, 16, false, false)                          \
    each(q5_1, body_32, FORM_4_1, HEADER_DM, 320, 64, 0, 0, true, false)                           \
    each(iq4_nl, body_32, FORM_4, HEADER_D, 256, 64, 0, 0, false, true)                            \
    each(q2_k, body_256, FORM_2, HEADER_Q2, 128, 320, 16, 0, true, false)                          \
    each(q3_k, body_256, FORM_2_1, HEADER_Q3, 192, 256, 16, 4, false, false)                       \
    each(q4_k, body_256, FORM_4, HEADER_K4, 256, 256, 32, 0, true, false)                          \
    each(q5_k, body_256, FORM_4_1, HEADER_K4, 320, 256, 32, 0, true, false)                        \
    each(q6_k, body_256, FORM_4_2, HEADER_I8, 384, 320, 16, 32, false, false)                      \
    each(iq4_xs, body_256, FORM_4, HEADER_I8, 256, 192, 32, 0, false, true)

#define MATMUL(type, body, ...)                                                                    \
    static const struct traits traits_##type = { __VA_ARGS__ };                                    \
    TILE(type, body, 1, 8)                                                                         \
    TILE(type, body, 1, 4)                                                                         \
    TILE(type, body, 2, 2)                                                                         \
    TILE(type, body, 4, 1)                                                                         \
    void SUFFIX(matmul_##type)(const struct matrix *m, const void *acts, size_t n_tokens,          \
                               uint32_t first, uint32_t n, float *y, size_t y_stride,              \
                               void *scratch) {                                                    \
        static const struct tile_shape shapes[] = { { 1, 8, tile_##type##_8 },                     \
                                                    { 1, 4, tile_##type##_4 },                     \
                                                    { 1, 2, tile_##type##_2 },                     \
                                                    { 1, 1, tile_##type##_1 },                     \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }
#endif
