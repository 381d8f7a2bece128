/* quantise_k.c - writers of the types with two levels of scales: K types and IQ4_XS.
 *
 * Each sub-block gets its own best scale (and minimum) as a real number; then
 *   1. the super-block's f16 scale is the one that covers the largest of them,
 *   2. every sub-block takes the integer scale (and minimum), out of the rounded one and its
 *      neighbours, whose codes have the least error,
 *   3. with all integers fixed, the f16 scale (and that of the minima) is the least-squares one;
 * 2 and 3 repeat while the error of the block falls. Layouts: blocks.h; search: quantise_fit.h. */
#include "kernels/ref/quantise_fit.h"

#include <math.h>
#include <string.h>

#define ROUNDS 2 /* of steps 2 and 3 after the first */

/* ---- y = (d sc) q - (dmin m) ---- */

struct affine_block {
    unsigned sub, top, level_top; /* elements of a sub-block; largest q; largest sc and m */
    float d, dmin, error;
    uint8_t sc[16], m[16];
    uint8_t q[SUPER];
};

/* Step 2 for one sub-block: integers around the real s and m. Returns the error. */
static float affine_levels(struct affine_block *b, unsigned j, float s, float m, const float *x,
                           const float *w) {
    float best = INFINITY;
    int sc0 = b->d > 0.0f ? nearest(s / b->d) : 0, m0 = b->dmin > 0.0f ? nearest(m / b->dmin) : 0;
    for (int sc = sc0 - 1; sc <= sc0 + 1; sc++) {
        for (int mm = m0 - 1; mm <= m0 + 1; mm++) {
            uint8_t q[BLOCK];
            if (sc < 0 || mm < 0 || sc > (int)b->level_top || mm > (int)b->level_top)
                continue;
            float e =
                affine_codes(b->top, b->d * (float)sc, -(b->dmin * (float)mm), x, w, b->sub, q);
            if (e < best) {
                best = e;
                b->sc[j] = (uint8_t)sc;
                b->m[j] = (uint8_t)mm;
                memcpy(b->q + j * b->sub, q, b->sub);
            }
        }
    }
    return best;
}

/* Step 3: d and dmin that fit x = d (sc q) - dmin m best. */
static void affine_refit(struct affine_block *b, const float *x, const float *w) {
    double ff = 0, fm = 0, mm = 0, xf = 0, xm = 0;
    for (unsigned i = 0; i < SUPER; i++) {
        double f = (double)b->sc[i / b->sub] * b->q[i], m = -(double)b->m[i / b->sub],
               wi = (double)w[i];
        ff += wi * f * f;
        fm += wi * f * m;
        mm += wi * m * m;
        xf += wi * (double)x[i] * f;
        xm += wi * (double)x[i] * m;
    }
    double det = ff * mm - fm * fm;
    if (mm > 0 && det > 1e-9 * ff * mm) {
        b->d = round_f16((float)((mm * xf - fm * xm) / det));
        b->dmin = round_f16((float)((ff * xm - fm * xf) / det));
    } else if (ff > 0 && mm == 0) {
        b->d = round_f16((float)(xf / ff));
    }
}

static void fit_affine_block(struct affine_block *b, const float *x) {
    float w[SUPER], s[16], m[16], s_top = 0.0f, m_top = 0.0f;
    unsigned n_sub = SUPER / b->sub;
    fit_weights(x, SUPER, w);
    for (unsigned j = 0; j < n_sub; j++) {
        float offset;
        fit_affine(b->top, x + j * b->sub, w + j * b->sub, b->sub, true, &s[j], &offset);
        m[j] = -offset;
        s_top = s[j] > s_top ? s[j] : s_top;
        m_top = m[j] > m_top ? m[j] : m_top;
    }
    b->d = round_f16(s_top / (float)b->level_top);
    b->dmin = round_f16(m_top / (float)b->level_top);
    b->error = INFINITY;
    for (unsigned round = 0; round <= ROUNDS; round++) {
        struct affine_block next = *b;
        if (round > 0)
            affine_refit(&next, x, w);
        if (!(next.d >= 0.0f && next.dmin >= 0.0f))
            break;
        next.error = 0.0f;
        for (unsigned j = 0; j < n_sub; j++)
            next.error += affine_levels(&next, j, s[j], m[j], x + j * b->sub, w + j * b->sub);
        if (!(next.error < b->error))
            break;
        *b = next;
    }
}

void quantise_q2_k(const float *x, uint8_t *out) {
    struct affine_block b = { .sub = 16, .top = 3, .level_top = 15 };
    fit_affine_block(&b, x);
    memset(out, 0, Q2_K_BYTES);
    put_u16(out + Q2_K_D, f32_to_f16(b.d));
    put_u16(out + Q2_K_DMIN, f32_to_f16(b.dmin));
    for (unsigned j = 0; j < 16; j++)
        out[Q2_K_SC + j] = (uint8_t)(b.sc[j] | b.m[j] << 4);
    for (unsigned i = 0; i < SUPER; i++)
        out[Q2_K_QS + i / 128 * 32 + i % 32] |= (uint8_t)(b.q[i] << (i % 128 / 32 * 2));
}

/* The inverse of k4_scale_min for all eight sub-blocks. */
static void put_k4_scales(uint8_t *out, const struct affine_block *b) {
    for (unsigned j = 0; j < 4; j++) {
        out[j] = (uint8_t)(b->sc[j] | b->sc[j + 4] >> 4 << 6);
        out[j + 4] = (uint8_t)(b->m[j] | b->m[j + 4] >> 4 << 6);
        out[j + 8] = (uint8_t)((b->sc[j + 4] & 15u) | (b->m[j + 4] & 15u) << 4);
    }
}

static void put_k4_nibbles(uint8_t *qs, const uint8_t q[SUPER]) {
    for (unsigned i = 0; i < SUPER; i += 64)
        for (unsigned l = 0; l < 32; l++)
            qs[i / 2 + l] = (uint8_t)((q[i + l] & 15u) | (q[i + 32 + l] & 15u) << 4);
}

void quantise_q4_k(const float *x, uint8_t *out) {
    struct affine_block b = { .sub = 32, .top = 15, .level_top = 63 };
    fit_affine_block(&b, x);
    put_u16(out + Q4_K_D, f32_to_f16(b.d));
    put_u16(out + Q4_K_DMIN, f32_to_f16(b.dmin));
    put_k4_scales(out + Q4_K_SC, &b);
    put_k4_nibbles(out + Q4_K_QS, b.q);
}

void quantise_q5_k(const float *x, uint8_t *out) {
    struct affine_block b = { .sub = 32, .top = 31, .level_top = 63 };
    fit_affine_block(&b, x);
    put_u16(out + Q5_K_D, f32_to_f16(b.d));
    put_u16(out + Q5_K_DMIN, f32_to_f16(b.dmin));
    put_k4_scales(out + Q5_K_SC, &b);
    put_k4_nibbles(out + Q5_K_QS, b.q);
    memset(out + Q5_K_QH, 0, 32);
    for (unsigned i = 0; i < SUPER; i++)
        out[Q5_K_QH + i % 32] |= (uint8_t)((b.q[i] >> 4 & 1u) << (i / 32));
}

/* ---- y = (d sc) value(q) ---- */

struct grid_block {
    const struct grid *grid;
    unsigned sub;
    int level_low, level_top; /* range of sc */
    float d, error;
    int8_t sc[16];
    int8_t q[SUPER];
};

static float grid_levels(struct grid_block *b, unsigned j, float s, const float *x,
                         const float *w) {
    float best = INFINITY;
    int sc0 = b->d != 0.0f ? nearest(s / b->d) : 0;
    for (int sc = sc0 - 1; sc <= sc0 + 1; sc++) {
        int8_t q[BLOCK];
        if (sc < b->level_low || sc > b->level_top)
            continue;
        float e = grid_codes(b->grid, b->d * (float)sc, x, w, b->sub, q);
        if (e < best) {
            best = e;
            b->sc[j] = (int8_t)sc;
            memcpy(b->q + j * b->sub, q, b->sub);
        }
    }
    return best;
}

static void grid_refit(struct grid_block *b, const float *x, const float *w) {
    double vv = 0, xv = 0;
    for (unsigned i = 0; i < SUPER; i++) {
        double v = (double)(b->sc[i / b->sub] * grid_value(b->grid, b->q[i]));
        vv += (double)w[i] * v * v;
        xv += (double)w[i] * (double)x[i] * v;
    }
    if (vv > 0)
        b->d = round_f16((float)(xv / vv));
}

static void fit_grid_block(struct grid_block *b, const float *x) {
    float w[SUPER], s[16], top = 0.0f;
    unsigned n_sub = SUPER / b->sub;
    fit_weights(x, SUPER, w);
    for (unsigned j = 0; j < n_sub; j++) {
        s[j] = fit_grid(b->grid, x + j * b->sub, w + j * b->sub, b->sub);
        top = fabsf(s[j]) > fabsf(top) ? s[j] : top;
    }
    b->d =
        round_f16(top / (float)b->level_low); /* the largest scale gets the longer, negative side */
    b->error = INFINITY;
    for (unsigned round = 0; round <= ROUNDS; round++) {
        struct grid_block next = *b;
        if (round > 0)
            grid_refit(&next, x, w);
        next.error = 0.0f;
        for (unsigned j = 0; j < n_sub; j++)
            next.error += grid_levels(&next, j, s[j], x + j * b->sub, w + j * b->sub);
        if (!(next.error < b->error))
            break;
        *b = next;
    }
}

void quantise_q3_k(const float *x, uint8_t *out) {
    struct grid_block b = { .grid = &grid_q3, .sub = 16, .level_low = -32, .level_top = 31 };
    fit_grid_block(&b, x);
    memset(out, 0, Q3_K_BYTES);
    put_u16(out + Q3_K_D, f32_to_f16(b.d));
    for (unsigned j = 0; j < 16; j++) {
        unsigned sc = (unsigned)(b.sc[j] + 32);
        out[Q3_K_SC + j % 8] |= (uint8_t)((sc & 15u) << (j / 8 * 4));
        out[Q3_K_SC + 8 + j % 4] |= (uint8_t)(sc >> 4 << (j / 4 * 2));
    }
    for (unsigned i = 0; i < SUPER; i++) {
        unsigned q = (unsigned)(b.q[i] + 4);
        out[Q3_K_QS + i / 128 * 32 + i % 32] |= (uint8_t)((q & 3u) << (i % 128 / 32 * 2));
        out[Q3_K_HM + i % 32] |= (uint8_t)(q >> 2 << (i / 32));
    }
}

void quantise_q6_k(const float *x, uint8_t *out) {
    struct grid_block b = { .grid = &grid_q6, .sub = 16, .level_low = -128, .level_top = 127 };
    fit_grid_block(&b, x);
    memset(out, 0, Q6_K_BYTES);
    put_u16(out + Q6_K_D, f32_to_f16(b.d));
    for (unsigned j = 0; j < 16; j++)
        out[Q6_K_SC + j] = (uint8_t)b.sc[j];
    for (unsigned i = 0; i < SUPER; i++) {
        unsigned q = (unsigned)(b.q[i] + 32), half = i / 128, s = i % 128 / 32, l = i % 32;
        out[Q6_K_QL + half * 64 + s % 2 * 32 + l] |= (uint8_t)((q & 15u) << (s / 2 * 4));
        out[Q6_K_QH + half * 32 + l] |= (uint8_t)(q >> 4 << (2 * s));
    }
}

void quantise_iq4_xs(const float *x, uint8_t *out) {
    struct grid_block b = { .grid = &grid_iq4, .sub = 32, .level_low = -32, .level_top = 31 };
    fit_grid_block(&b, x);
    memset(out, 0, IQ4_XS_BYTES);
    put_u16(out + IQ4_XS_D, f32_to_f16(b.d));
    unsigned high = 0;
    for (unsigned j = 0; j < 8; j++) {
        unsigned sc = (unsigned)(b.sc[j] + 32);
        out[IQ4_XS_SL + j / 2] |= (uint8_t)((sc & 15u) << (j % 2 * 4));
        high |= sc >> 4 << (2 * j);
        for (unsigned l = 0; l < 16; l++)
            out[IQ4_XS_QS + 16 * j + l] = (uint8_t)(b.q[32 * j + l] | b.q[32 * j + l + 16] << 4);
    }
    put_u16(out + IQ4_XS_SH, (uint16_t)high);
}
