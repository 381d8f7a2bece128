/* matmul.c - the plain products: y[t, r] = sum over c of W[r, c] x[t, c], in the order that every
 * instruction set keeps.
 *
 *   MATRIX_PLAIN  lane c mod 16 gets fma(W[r, c], x[t, c]) for ascending c; then lanes l and l + 8
 *                 are added, l and l + 4, l and l + 2, l and l + 1.
 *   F32, F16      acc = fma(W[r, c], x[t, c], acc), c ascending.
 *   BF16          the same over x rounded to bfloat16 (two columns per step: padding adds 0 * 0).
 *   blocks of 32  per block: i = sum of weight * q (exact int32);
 *                 acc = fma((float)i, d * da, acc), with d * da rounded once;
 *                 types with a minimum then acc = fma(m, dsum, acc).
 *   blocks of 256 i = sum over sub-blocks of scale * (sum of weight * q), exact in int32 (the
 *                 largest possible: 133 million, for Q6_K and IQ4_XS);
 *                 acc = fma((float)i, d * da, acc); types with a minimum then, with
 *                 k = sum over sub-blocks of min * nsum:  acc = fma((float)k, dmin * da, acc).
 * Here d, m, dmin are the weights' f16 scales as float32, da, dsum, nsum the activations' (panel.h).
 * (float)i rounds to nearest even. No tolerance: all instruction sets agree in every bit, but for
 * BF16 where a bfloat16 instruction is used. */
#include "kernels/ref/matmul.h"

#include <math.h>
#include <string.h>

#include "kernels/ref/blocks.h"

/* ---- rows as they stand in the file ---- */

static float dot_lanes(const float *w, const float *x, uint32_t cols) {
    float lane[16] = { 0 };
    for (uint32_t c = 0; c < cols; c++)
        lane[c % 16] = fmaf(w[c], x[c], lane[c % 16]);
    for (unsigned half = 8; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

void matmul_plain_ref(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                      uint32_t n, float *y, size_t y_stride, void *scratch) {
    float *row = scratch;
    size_t stride = act_bytes(ACT_F32, m->cols) / sizeof(float);
    for (uint32_t p = first; p < first + n; p++)
        for (unsigned i = 0; i < panel_rows(m, p); i++) {
            size_t r = (size_t)p * PANEL_ROWS + i;
            dequant(m->dtype, m->data + r * m->row_bytes, row, m->cols);
            for (size_t t = 0; t < n_tokens; t++)
                y[t * y_stride + r] = dot_lanes(row, (const float *)acts + t * stride, m->cols);
        }
}

/* ---- float panels ---- */

void matmul_f32_ref(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                    uint32_t n, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    size_t stride = act_bytes(ACT_F32, m->cols) / sizeof(float);
    for (uint32_t p = first; p < first + n; p++) {
        const float *w =
            (const float *)(const void *)(m->data + p * m->panel_bytes); /* [cols, 16] */
        for (size_t t = 0; t < n_tokens; t++)
            for (unsigned r = 0; r < panel_rows(m, p); r++) {
                const float *x = (const float *)acts + t * stride;
                float acc = 0;
                for (uint32_t c = 0; c < m->cols; c++)
                    acc = fmaf(w[16 * (size_t)c + r], x[c], acc);
                y[t * y_stride + (size_t)p * PANEL_ROWS + r] = acc;
            }
    }
}

void matmul_f16_ref(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                    uint32_t n, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    size_t stride = act_bytes(ACT_F32, m->cols) / sizeof(float);
    for (uint32_t p = first; p < first + n; p++) {
        const uint8_t *w = m->data + p * m->panel_bytes; /* f16 [cols, 16] */
        for (size_t t = 0; t < n_tokens; t++)
            for (unsigned r = 0; r < panel_rows(m, p); r++) {
                const float *x = (const float *)acts + t * stride;
                float acc = 0;
                for (uint32_t c = 0; c < m->cols; c++)
                    acc = fmaf(get_f16(w + 32 * (size_t)c + 2 * r), x[c], acc);
                y[t * y_stride + (size_t)p * PANEL_ROWS + r] = acc;
            }
    }
}

void matmul_bf16_ref(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                     uint32_t n, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    size_t stride = act_bytes(ACT_BF16, m->cols) / 2;
    uint32_t even = m->cols + m->cols % 2;
    for (uint32_t p = first; p < first + n; p++) {
        const uint8_t *w = m->data + p * m->panel_bytes; /* bf16 [even / 2, 16, 2] */
        for (size_t t = 0; t < n_tokens; t++)
            for (unsigned r = 0; r < panel_rows(m, p); r++) {
                const uint16_t *x = (const uint16_t *)acts + t * stride;
                float acc = 0;
                for (uint32_t c = 0; c < even; c++) {
                    uint16_t element = get_u16(w + VEC * (size_t)(c / 2) + 4 * r + c % 2 * 2);
                    acc = fmaf(bf16_to_f32(element), bf16_to_f32(x[c]), acc);
                }
                y[t * y_stride + (size_t)p * PANEL_ROWS + r] = acc;
            }
    }
}

/* ---- quantised panels ---- */

/* Levels -> integer weights. */
static void weights(const struct panel_kind *k, const struct levels *l, int *w) {
    for (unsigned c = 0; c < k->block; c++)
        w[c] = k->iq4 ? iq4_levels[l->q[c]] : l->q[c] - k->offset;
}

static int dot_ints(const int *w, const int8_t *q, unsigned n) {
    int s = 0;
    for (unsigned i = 0; i < n; i++)
        s += w[i] * q[i];
    return s;
}

static float step_32(const struct panel_kind *k, const struct levels *l, const int *w,
                     const struct act_32 *a, float acc) {
    float dd = f16_to_f32(l->d) * a->d;
    acc = fmaf((float)dot_ints(w, a->q, 32), dd, acc);
    if (k->min)
        acc = fmaf(f16_to_f32(l->m), a->dsum, acc);
    return acc;
}

static float step_256(const struct panel_kind *k, const struct levels *l, const int *w,
                      const struct act_256 *a, float acc) {
    int total = 0, mins = 0;
    for (unsigned c = 0; c < 256; c += k->sub)
        total += l->scale[c / k->sub] * dot_ints(w + c, a->q + c, k->sub);
    float dd = f16_to_f32(l->d) * a->d;
    acc = fmaf((float)total, dd, acc);
    if (k->min) {
        for (unsigned j = 0; j < 256u / k->sub; j++)
            mins += l->min[j] * (k->sub == 16 ? a->nsum_16[j] : a->nsum_32[j]);
        float md = f16_to_f32(l->m) * a->d;
        acc = fmaf((float)mins, md, acc);
    }
    return acc;
}

/* y itself is the accumulator: each block of a row is taken apart once for all tokens. */
void matmul_q_ref(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                  uint32_t n, float *y, size_t y_stride, void *scratch) {
    (void)scratch;
    const struct panel_kind *k = panel_kind(m->dtype);
    size_t act_size = act_bytes(m->act, m->cols), blocks = m->cols / k->block;
    struct levels l;
    int w[256];
    for (uint32_t p = first; p < first + n; p++)
        for (unsigned i = 0; i < panel_rows(m, p); i++) {
            size_t r = (size_t)p * PANEL_ROWS + i;
            for (size_t b = 0; b < blocks; b++) {
                panel_get(k, m->data + p * m->panel_bytes, b, i, &l);
                weights(k, &l, w);
                for (size_t t = 0; t < n_tokens; t++) {
                    const void *a = (const uint8_t *)acts + t * act_size;
                    float *out = y + t * y_stride + r, acc = b == 0 ? 0.0f : *out;
                    *out = k->block == 32 ? step_32(k, &l, w, (const struct act_32 *)a + b, acc)
                                          : step_256(k, &l, w, (const struct act_256 *)a + b, acc);
                }
            }
        }
}

const struct matmul_ops matmul_ops_ref = {
    .act = { [ACT_F32] = act_f32_ref,
             [ACT_BF16] = act_bf16_ref,
             [ACT_Q8_32] = act_q8_32_ref,
             [ACT_Q8_256] = act_q8_256_ref },
    .plain = matmul_plain_ref,
    .panel = { [DT_F32] = matmul_f32_ref,
               [DT_F16] = matmul_f16_ref,
               [DT_BF16] = matmul_bf16_ref,
               [DT_Q8_0] = matmul_q_ref,
               [DT_Q4_0] = matmul_q_ref,
               [DT_Q4_1] = matmul_q_ref,
               [DT_Q5_0] = matmul_q_ref,
               [DT_Q5_1] = matmul_q_ref,
               [DT_IQ4_NL] = matmul_q_ref,
               [DT_Q2_K] = matmul_q_ref,
               [DT_Q3_K] = matmul_q_ref,
               [DT_Q4_K] = matmul_q_ref,
               [DT_Q5_K] = matmul_q_ref,
               [DT_Q6_K] = matmul_q_ref,
               [DT_IQ4_XS] = matmul_q_ref },
};
