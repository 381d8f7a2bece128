/* dequant_k.c - the K types (256 elements, two levels of scales) and IQ4_XS -> float32.
 *
 * The scale of a sub-block is the float32 product of the block's f16 scale and the sub-block's
 * integer; then
 *   Q2_K (d*sc) * q - (dmin*m)    16 sub-blocks of 16, q 2 bits, sc and m 4 bits
 *   Q3_K (d*sc) * (q - 4)         16 of 16, q 3 bits, sc 6 bits signed
 *   Q4_K (d*sc) * q - (dmin*m)     8 of 32, q 4 bits, sc and m 6 bits
 *   Q5_K (d*sc) * q - (dmin*m)     8 of 32, q 5 bits, sc and m 6 bits
 *   Q6_K (d*sc) * (q - 32)        16 of 16, q 6 bits, sc 8 bits signed
 *   IQ4_XS (d*sc) * level[q]       8 of 32, q 4 bits, sc 6 bits signed
 * with one rounding per product and difference. Layouts and their source: blocks.h. */
#include "kernels/ref/blocks.h"

/* y[i] = scale * q - offset, two roundings */
static float affine(float scale, unsigned q, float offset) {
    float product = scale * (float)q;
    return product - offset;
}

/* qs: per half of 128 elements 32 bytes; bits 2s, 2s + 1 of byte l are element 32 s + l. */
void dequant_q2_k(const uint8_t *b, float *y) {
    float d = get_f16(b + Q2_K_D), dmin = get_f16(b + Q2_K_DMIN);
    for (unsigned i = 0; i < SUPER; i++) {
        unsigned sc = b[Q2_K_SC + i / 16];
        unsigned byte = b[Q2_K_QS + i / 128 * 32 + i % 32], shift = i % 128 / 32 * 2;
        y[i] = affine(d * (float)(sc & 15u), byte >> shift & 3u, dmin * (float)(sc >> 4));
    }
}

/* qs as in Q2_K; bit i / 32 of hmask byte i % 32 is the third bit of element i. */
void dequant_q3_k(const uint8_t *b, float *y) {
    float d = get_f16(b + Q3_K_D);
    for (unsigned i = 0; i < SUPER; i++) {
        float scale = d * (float)q3_scale(b + Q3_K_SC, i / 16);
        unsigned byte = b[Q3_K_QS + i / 128 * 32 + i % 32], shift = i % 128 / 32 * 2;
        unsigned high = (unsigned)(b[Q3_K_HM + i % 32] >> (i / 32)) & 1u;
        y[i] = scale * (float)((int)((byte >> shift & 3u) | high << 2) - 4);
    }
}

/* Per 64 elements 32 bytes: low nibbles are the first 32, high nibbles the second. */
void dequant_q4_k(const uint8_t *b, float *y) {
    float d = get_f16(b + Q4_K_D), dmin = get_f16(b + Q4_K_DMIN);
    for (unsigned j = 0; j < 8; j++) {
        unsigned sc, m;
        k4_scale_min(b + Q4_K_SC, j, &sc, &m);
        float scale = d * (float)sc, offset = dmin * (float)m;
        const uint8_t *qs = b + Q4_K_QS + j / 2 * 32;
        for (unsigned l = 0; l < 32; l++)
            y[32 * j + l] = affine(scale, qs[l] >> (j % 2 * 4) & 15u, offset);
    }
}

/* Nibbles as in Q4_K; bit j of qh byte l is the fifth bit of element 32 j + l. */
void dequant_q5_k(const uint8_t *b, float *y) {
    float d = get_f16(b + Q5_K_D), dmin = get_f16(b + Q5_K_DMIN);
    for (unsigned j = 0; j < 8; j++) {
        unsigned sc, m;
        k4_scale_min(b + Q5_K_SC, j, &sc, &m);
        float scale = d * (float)sc, offset = dmin * (float)m;
        const uint8_t *qs = b + Q5_K_QS + j / 2 * 32, *qh = b + Q5_K_QH;
        for (unsigned l = 0; l < 32; l++) {
            unsigned high = (unsigned)(qh[l] >> j) & 1u;
            y[32 * j + l] = affine(scale, (qs[l] >> (j % 2 * 4) & 15u) | high << 4, offset);
        }
    }
}

/* Per half of 128 elements 64 bytes of ql and 32 of qh. Element 32 s + l of a half (s 0..3): nibble
 * s / 2 of ql byte 32 (s % 2) + l, and bits 2s, 2s + 1 of qh byte l as bits 4, 5. */
void dequant_q6_k(const uint8_t *b, float *y) {
    float d = get_f16(b + Q6_K_D);
    for (unsigned i = 0; i < SUPER; i++) {
        unsigned half = i / 128, s = i % 128 / 32, l = i % 32;
        float scale = d * (float)(int8_t)b[Q6_K_SC + i / 16];
        unsigned low = (unsigned)b[Q6_K_QL + half * 64 + s % 2 * 32 + l] >> (s / 2 * 4) & 15u;
        unsigned high = (unsigned)(b[Q6_K_QH + half * 32 + l] >> (2 * s)) & 3u;
        y[i] = scale * (float)((int)(low | high << 4) - 32);
    }
}

/* Scale j: 4 low bits in nibble j % 2 of sl byte j / 2, 2 high bits at bit 2 j of the word sh. */
void dequant_iq4_xs(const uint8_t *b, float *y) {
    float d = get_f16(b + IQ4_XS_D);
    unsigned sh = get_u16(b + IQ4_XS_SH);
    for (unsigned j = 0; j < 8; j++) {
        unsigned low = (unsigned)b[IQ4_XS_SL + j / 2] >> (j % 2 * 4) & 15u;
        float scale = d * (float)((int)(low | (sh >> (2 * j) & 3u) << 4) - 32);
        const uint8_t *qs = b + IQ4_XS_QS + 16 * j;
        for (unsigned l = 0; l < 16; l++) {
            y[32 * j + l] = scale * (float)iq4_levels[qs[l] & 15u];
            y[32 * j + l + 16] = scale * (float)iq4_levels[qs[l] >> 4];
        }
    }
}
