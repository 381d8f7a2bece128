/* levels.c - blocks of quantised weights taken apart into levels and scales, and put together again.
 *
 * The two ways are exact inverses for every type. Panels are packed from levels, rows are read out
 * of panels through them, and the reference product computes with them.
 * Layouts of the blocks: ref/blocks.h. */
#include "kernels/panel.h"
#include "kernels/ref/blocks.h"

#include <string.h>

/* ---- runs of nibbles ---- */

/* n bytes: low nibbles are levels 0..n-1, high nibbles levels n..2n-1 */
static void nibbles_read(const uint8_t *qs, unsigned n, uint8_t *q) {
    for (unsigned i = 0; i < n; i++) {
        q[i] = qs[i] & 15;
        q[i + n] = qs[i] >> 4;
    }
}

static void nibbles_write(const uint8_t *q, unsigned n, uint8_t *qs) {
    for (unsigned i = 0; i < n; i++)
        qs[i] = (uint8_t)((q[i] & 15) | (q[i + n] & 15) << 4);
}

/* ---- blocks of 32 ---- */

static void q5_high_read(const uint8_t *qh, uint8_t *q) {
    for (unsigned i = 0; i < BLOCK; i++)
        q[i] = (uint8_t)(q[i] | (qh[i / 8] >> (i % 8) & 1) << 4);
}

static void q5_high_write(const uint8_t *q, uint8_t *qh) {
    memset(qh, 0, BLOCK / 8);
    for (unsigned i = 0; i < BLOCK; i++)
        qh[i / 8] = (uint8_t)(qh[i / 8] | (q[i] >> 4 & 1) << (i % 8));
}

/* ---- K types: levels ---- */

/* 2-bit runs of Q2_K and Q3_K: per half of 128 columns 32 bytes; bits 2s, 2s + 1 of byte i are
 * column 32 s + i. Also the upper bits of Q6_K. */
static void pairs_read(const uint8_t *qs, unsigned place, uint8_t *q) {
    for (unsigned half = 0; half < 2; half++)
        for (unsigned s = 0; s < 4; s++)
            for (unsigned i = 0; i < 32; i++) {
                uint8_t *to = q + 128 * half + 32 * s + i;
                *to = (uint8_t)(*to | (qs[32 * half + i] >> (2 * s) & 3) << place);
            }
}

static void pairs_write(const uint8_t *q, unsigned place, uint8_t *qs) {
    for (unsigned half = 0; half < 2; half++)
        for (unsigned i = 0; i < 32; i++) {
            unsigned byte = 0;
            for (unsigned s = 0; s < 4; s++)
                byte |= (q[128 * half + 32 * s + i] >> place & 3u) << (2 * s);
            qs[32 * half + i] = (uint8_t)byte;
        }
}

/* 1-bit runs of Q3_K and Q5_K: bit j of byte i is column 32 j + i. */
static void bits_read(const uint8_t *qh, unsigned place, uint8_t *q) {
    for (unsigned j = 0; j < 8; j++)
        for (unsigned i = 0; i < 32; i++)
            q[32 * j + i] = (uint8_t)(q[32 * j + i] | (qh[i] >> j & 1) << place);
}

static void bits_write(const uint8_t *q, unsigned place, uint8_t *qh) {
    for (unsigned i = 0; i < 32; i++) {
        unsigned byte = 0;
        for (unsigned j = 0; j < 8; j++)
            byte |= (q[32 * j + i] >> place & 1u) << j;
        qh[i] = (uint8_t)byte;
    }
}

/* Q6_K: per half 64 bytes of nibbles; columns 0..63 of the half are low nibbles */
static void q6_low_read(const uint8_t *ql, uint8_t *q) {
    nibbles_read(ql, 64, q);
    nibbles_read(ql + 64, 64, q + 128);
}

static void q6_low_write(const uint8_t *q, uint8_t *ql) {
    nibbles_write(q, 64, ql);
    nibbles_write(q + 128, 64, ql + 64);
}

/* ---- K types: scales ---- */

static void k4_scales_read(const uint8_t *sc, struct levels *l) {
    for (unsigned j = 0; j < 8; j++) {
        unsigned scale, min;
        k4_scale_min(sc, j, &scale, &min);
        l->scale[j] = (int8_t)scale;
        l->min[j] = (uint8_t)min;
    }
}

static void k4_scales_write(const struct levels *l, uint8_t *sc) {
    for (unsigned j = 0; j < 4; j++) {
        unsigned s = (unsigned)l->scale[j + 4], m = l->min[j + 4];
        sc[j] = (uint8_t)((unsigned)l->scale[j] | s >> 4 << 6);
        sc[j + 4] = (uint8_t)(l->min[j] | m >> 4 << 6);
        sc[j + 8] = (uint8_t)((s & 15u) | (m & 15u) << 4);
    }
}

static void q3_scales_write(const struct levels *l, uint8_t *sc) {
    memset(sc, 0, 12);
    for (unsigned j = 0; j < 16; j++) {
        unsigned s = (unsigned)(l->scale[j] + 32);
        sc[j % 8] = (uint8_t)(sc[j % 8] | (s & 15u) << (j / 8 * 4));
        sc[8 + j % 4] = (uint8_t)(sc[8 + j % 4] | s >> 4 << (j / 4 * 2));
    }
}

static void iq4_scales_read(const uint8_t *b, struct levels *l) {
    unsigned high = get_u16(b + IQ4_XS_SH);
    for (unsigned j = 0; j < 8; j++) {
        unsigned low = (unsigned)(b[IQ4_XS_SL + j / 2] >> (j % 2 * 4)) & 15u;
        l->scale[j] = (int8_t)((int)(low | (high >> (2 * j) & 3u) << 4) - 32);
    }
}

static void iq4_scales_write(const struct levels *l, uint8_t *b) {
    unsigned high = 0;
    memset(b + IQ4_XS_SL, 0, 4);
    for (unsigned j = 0; j < 8; j++) {
        unsigned s = (unsigned)(l->scale[j] + 32);
        b[IQ4_XS_SL + j / 2] = (uint8_t)(b[IQ4_XS_SL + j / 2] | (s & 15u) << (j % 2 * 4));
        high |= s >> 4 << (2 * j);
    }
    put_u16(b + IQ4_XS_SH, (uint16_t)high);
}

/* ---- one block ---- */

static void read_32(enum dtype t, const uint8_t *b, struct levels *l) {
    l->d = get_u16(b); /* the scale comes first in every block of 32, then the minimum */
    switch (t) {
    case DT_Q8_0:
        for (unsigned i = 0; i < BLOCK; i++)
            l->q[i] = b[Q8_0_QS + i] ^ 0x80;
        break;
    case DT_Q4_1:
        l->m = get_u16(b + Q4_1_M);
        nibbles_read(b + Q4_1_QS, 16, l->q);
        break;
    case DT_Q5_0:
        nibbles_read(b + Q5_0_QS, 16, l->q);
        q5_high_read(b + Q5_0_QH, l->q);
        break;
    case DT_Q5_1:
        l->m = get_u16(b + Q5_1_M);
        nibbles_read(b + Q5_1_QS, 16, l->q);
        q5_high_read(b + Q5_1_QH, l->q);
        break;
    default: /* Q4_0, IQ4_NL */
        nibbles_read(b + Q4_0_QS, 16, l->q);
        break;
    }
}

static void write_32(enum dtype t, const struct levels *l, uint8_t *b) {
    put_u16(b, l->d);
    switch (t) {
    case DT_Q8_0:
        for (unsigned i = 0; i < BLOCK; i++)
            b[Q8_0_QS + i] = l->q[i] ^ 0x80;
        break;
    case DT_Q4_1:
        put_u16(b + Q4_1_M, l->m);
        nibbles_write(l->q, 16, b + Q4_1_QS);
        break;
    case DT_Q5_0:
        nibbles_write(l->q, 16, b + Q5_0_QS);
        q5_high_write(l->q, b + Q5_0_QH);
        break;
    case DT_Q5_1:
        put_u16(b + Q5_1_M, l->m);
        nibbles_write(l->q, 16, b + Q5_1_QS);
        q5_high_write(l->q, b + Q5_1_QH);
        break;
    default: /* Q4_0, IQ4_NL */
        nibbles_write(l->q, 16, b + Q4_0_QS);
        break;
    }
}

void levels_read(enum dtype t, const uint8_t *b, struct levels *l) {
    switch (t) {
    case DT_Q2_K:
        l->d = get_u16(b + Q2_K_D);
        l->m = get_u16(b + Q2_K_DMIN);
        for (unsigned j = 0; j < 16; j++) {
            l->scale[j] = (int8_t)(b[Q2_K_SC + j] & 15);
            l->min[j] = b[Q2_K_SC + j] >> 4;
        }
        memset(l->q, 0, SUPER);
        pairs_read(b + Q2_K_QS, 0, l->q);
        break;
    case DT_Q3_K:
        l->d = get_u16(b + Q3_K_D);
        for (unsigned j = 0; j < 16; j++)
            l->scale[j] = (int8_t)q3_scale(b + Q3_K_SC, j);
        memset(l->q, 0, SUPER);
        pairs_read(b + Q3_K_QS, 0, l->q);
        bits_read(b + Q3_K_HM, 2, l->q);
        break;
    case DT_Q4_K:
    case DT_Q5_K:
        l->d = get_u16(b + Q4_K_D);
        l->m = get_u16(b + Q4_K_DMIN);
        k4_scales_read(b + Q4_K_SC, l);
        for (unsigned j = 0; j < 4; j++)
            nibbles_read(b + (t == DT_Q4_K ? Q4_K_QS : Q5_K_QS) + 32 * j, 32, l->q + 64 * j);
        if (t == DT_Q5_K)
            bits_read(b + Q5_K_QH, 4, l->q);
        break;
    case DT_Q6_K:
        l->d = get_u16(b + Q6_K_D);
        memcpy(l->scale, b + Q6_K_SC, 16);
        q6_low_read(b + Q6_K_QL, l->q);
        pairs_read(b + Q6_K_QH, 4, l->q);
        break;
    case DT_IQ4_XS:
        l->d = get_u16(b + IQ4_XS_D);
        iq4_scales_read(b, l);
        for (unsigned j = 0; j < 8; j++)
            nibbles_read(b + IQ4_XS_QS + 16 * j, 16, l->q + 32 * j);
        break;
    default:
        read_32(t, b, l);
        break;
    }
}

void levels_write(enum dtype t, const struct levels *l, uint8_t *b) {
    switch (t) {
    case DT_Q2_K:
        put_u16(b + Q2_K_D, l->d);
        put_u16(b + Q2_K_DMIN, l->m);
        for (unsigned j = 0; j < 16; j++)
            b[Q2_K_SC + j] = (uint8_t)(l->scale[j] | l->min[j] << 4);
        pairs_write(l->q, 0, b + Q2_K_QS);
        break;
    case DT_Q3_K:
        put_u16(b + Q3_K_D, l->d);
        q3_scales_write(l, b + Q3_K_SC);
        pairs_write(l->q, 0, b + Q3_K_QS);
        bits_write(l->q, 2, b + Q3_K_HM);
        break;
    case DT_Q4_K:
    case DT_Q5_K:
        put_u16(b + Q4_K_D, l->d);
        put_u16(b + Q4_K_DMIN, l->m);
        k4_scales_write(l, b + Q4_K_SC);
        for (unsigned j = 0; j < 4; j++)
            nibbles_write(l->q + 64 * j, 32, b + (t == DT_Q4_K ? Q4_K_QS : Q5_K_QS) + 32 * j);
        if (t == DT_Q5_K)
            bits_write(l->q, 4, b + Q5_K_QH);
        break;
    case DT_Q6_K:
        put_u16(b + Q6_K_D, l->d);
        memcpy(b + Q6_K_SC, l->scale, 16);
        q6_low_write(l->q, b + Q6_K_QL);
        pairs_write(l->q, 4, b + Q6_K_QH);
        break;
    case DT_IQ4_XS:
        put_u16(b + IQ4_XS_D, l->d);
        iq4_scales_write(l, b);
        for (unsigned j = 0; j < 8; j++)
            nibbles_write(l->q + 32 * j, 16, b + IQ4_XS_QS + 16 * j);
        break;
    default:
        write_32(t, l, b);
        break;
    }
}
