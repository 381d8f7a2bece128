/* quantise.c - float32 -> weights as they stand in files: dispatch, float types, blocks of 32.
 *
 * Codes are always made with the scale as it is stored (rounded to f16), not with the exact one.
 * Values must be finite and, for the block types, smaller than 65504 (an f16 scale must hold
 * them): quantise() refuses others by returning false. Layouts: blocks.h; search: quantise_fit.h. */
#include "kernels/kernels.h"
#include "kernels/ref/quantise_fit.h"

#include <math.h>
#include <string.h>

static void put_nibbles(uint8_t *qs, const uint8_t codes[BLOCK]) {
    for (unsigned j = 0; j < 16; j++)
        qs[j] = (uint8_t)((codes[j] & 15u) | (codes[j + 16] & 15u) << 4);
}

static void put_fifth_bits(uint8_t *qh, const uint8_t codes[BLOCK]) {
    memset(qh, 0, 4);
    for (unsigned j = 0; j < BLOCK; j++)
        qh[j / 8] = (uint8_t)(qh[j / 8] | (codes[j] >> 4 & 1u) << (j % 8));
}

/* Scale to *d, codes shifted so that they start at 0. */
static void small_grid(const struct grid *g, const float *x, uint8_t *d, uint8_t codes[BLOCK]) {
    float w[BLOCK];
    int8_t q[BLOCK];
    fit_weights(x, BLOCK, w);
    float s = round_f16(fit_grid(g, x, w, BLOCK));
    put_u16(d, f32_to_f16(s));
    grid_codes(g, s, x, w, BLOCK, q);
    for (unsigned j = 0; j < BLOCK; j++)
        codes[j] = (uint8_t)(q[j] - (g->levels ? 0 : g->lo));
}

static void small_affine(unsigned top, const float *x, uint8_t *d, uint8_t *m,
                         uint8_t codes[BLOCK]) {
    float w[BLOCK], s, offset;
    fit_weights(x, BLOCK, w);
    fit_affine(top, x, w, BLOCK, false, &s, &offset);
    put_u16(d, f32_to_f16(s));
    put_u16(m, f32_to_f16(offset));
    affine_codes(top, get_f16(d), get_f16(m), x, w, BLOCK, codes);
}

void quantise_q4_0(const float *x, uint8_t *b) {
    uint8_t codes[BLOCK];
    small_grid(&grid_q4, x, b + Q4_0_D, codes);
    put_nibbles(b + Q4_0_QS, codes);
}

void quantise_iq4_nl(const float *x, uint8_t *b) {
    uint8_t codes[BLOCK];
    small_grid(&grid_iq4, x, b + IQ4_NL_D, codes);
    put_nibbles(b + IQ4_NL_QS, codes);
}

void quantise_q5_0(const float *x, uint8_t *b) {
    uint8_t codes[BLOCK];
    small_grid(&grid_q5, x, b + Q5_0_D, codes);
    put_nibbles(b + Q5_0_QS, codes);
    put_fifth_bits(b + Q5_0_QH, codes);
}

void quantise_q4_1(const float *x, uint8_t *b) {
    uint8_t codes[BLOCK];
    small_affine(15, x, b + Q4_1_D, b + Q4_1_M, codes);
    put_nibbles(b + Q4_1_QS, codes);
}

void quantise_q5_1(const float *x, uint8_t *b) {
    uint8_t codes[BLOCK];
    small_affine(31, x, b + Q5_1_D, b + Q5_1_M, codes);
    put_nibbles(b + Q5_1_QS, codes);
    put_fifth_bits(b + Q5_1_QH, codes);
}

/* No search: at 255 levels the scale that covers the range is within 1 % of the best one. */
void quantise_q8_0(const float *x, uint8_t *b) {
    float peak = 0.0f;
    for (unsigned j = 0; j < BLOCK; j++)
        peak = fabsf(x[j]) > peak ? fabsf(x[j]) : peak;
    float s = round_f16(peak / 127.0f), inverse = s > 0.0f ? 1.0f / s : 0.0f;
    put_u16(b + Q8_0_D, f32_to_f16(s));
    for (unsigned j = 0; j < BLOCK; j++)
        b[Q8_0_QS + j] = (uint8_t)(int8_t)nearest(clamp_float(x[j] * inverse, -127.0f, 127.0f));
}

typedef void (*block_fn)(const float *x, uint8_t *b);

static block_fn block_writer(enum dtype t) {
    switch (t) {
    case DT_Q4_0:
        return quantise_q4_0;
    case DT_Q4_1:
        return quantise_q4_1;
    case DT_Q5_0:
        return quantise_q5_0;
    case DT_Q5_1:
        return quantise_q5_1;
    case DT_Q8_0:
        return quantise_q8_0;
    case DT_Q2_K:
        return quantise_q2_k;
    case DT_Q3_K:
        return quantise_q3_k;
    case DT_Q4_K:
        return quantise_q4_k;
    case DT_Q5_K:
        return quantise_q5_k;
    case DT_Q6_K:
        return quantise_q6_k;
    case DT_IQ4_NL:
        return quantise_iq4_nl;
    case DT_IQ4_XS:
        return quantise_iq4_xs;
    default:
        return NULL;
    }
}

bool can_quantise(enum dtype t) {
    return t == DT_F32 || t == DT_F16 || t == DT_BF16 || block_writer(t) != NULL;
}

static bool all_below(const float *x, size_t n, float limit) {
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) < limit))
            return false;
    return true;
}

bool quantise(enum dtype t, const float *src, uint8_t *out, size_t n) {
    if (!can_quantise(t) || !all_below(src, n, t == DT_F32 || t == DT_BF16 ? INFINITY : 65504.0f))
        return false;
    if (t == DT_F32) {
        memcpy(out, src, n * sizeof *src);
    } else if (t == DT_F16 || t == DT_BF16) {
        for (size_t i = 0; i < n; i++)
            put_u16(out + 2 * i, t == DT_F16 ? f32_to_f16(src[i]) : f32_to_bf16(src[i]));
    } else {
        block_fn write = block_writer(t);
        const struct dtype_info *info = dtype_info(t);
        for (size_t i = 0; i < n; i += info->block) {
            write(src + i, out);
            out += info->block_bytes;
        }
    }
    return true;
}
