/* dequant.c - weights as they stand in files -> float32: dispatch, float types, blocks of 32.
 *
 * Bit-exact with the published formulas evaluated in float32, one rounding per product and sum:
 *   Q4_0  d * (q - 8)      Q5_0  d * (q - 16)      Q8_0  d * q       IQ4_NL  d * level[q]
 *   Q4_1  (q * d) + m      Q5_1  (q * d) + m
 * The K types are in dequant_k.c. Layouts and their source: blocks.h. Goldens: gguf twins. */
#include "kernels/kernels.h"
#include "kernels/ref/blocks.h"

#include <string.h>

const int8_t iq4_levels[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113 };

void dequant_q4_0(const uint8_t *b, float *y) {
    float d = get_f16(b + Q4_0_D);
    for (unsigned j = 0; j < 16; j++) {
        unsigned q = b[Q4_0_QS + j];
        y[j] = d * (float)((int)(q & 15u) - 8);
        y[j + 16] = d * (float)((int)(q >> 4) - 8);
    }
}

void dequant_q4_1(const uint8_t *b, float *y) {
    float d = get_f16(b + Q4_1_D), m = get_f16(b + Q4_1_M);
    for (unsigned j = 0; j < 16; j++) {
        unsigned q = b[Q4_1_QS + j];
        float low = (float)(q & 15u) * d, high = (float)(q >> 4) * d;
        y[j] = low + m;
        y[j + 16] = high + m;
    }
}

/* Element j of a Q5 block: its nibble, and bit j of the 32-bit word qh as bit 4. */
static unsigned q5_code(const uint8_t *qs, uint32_t qh, unsigned j) {
    unsigned nibble = j < 16 ? qs[j] & 15u : (unsigned)(qs[j - 16] >> 4);
    return nibble | (qh >> j & 1u) << 4;
}

static uint32_t get_u32(const uint8_t *p) {
    return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

void dequant_q5_0(const uint8_t *b, float *y) {
    float d = get_f16(b + Q5_0_D);
    uint32_t qh = get_u32(b + Q5_0_QH);
    for (unsigned j = 0; j < BLOCK; j++)
        y[j] = d * (float)((int)q5_code(b + Q5_0_QS, qh, j) - 16);
}

void dequant_q5_1(const uint8_t *b, float *y) {
    float d = get_f16(b + Q5_1_D), m = get_f16(b + Q5_1_M);
    uint32_t qh = get_u32(b + Q5_1_QH);
    for (unsigned j = 0; j < BLOCK; j++) {
        float product = (float)q5_code(b + Q5_1_QS, qh, j) * d;
        y[j] = product + m;
    }
}

void dequant_q8_0(const uint8_t *b, float *y) {
    float d = get_f16(b + Q8_0_D);
    for (unsigned j = 0; j < BLOCK; j++)
        y[j] = d * (float)(int8_t)b[Q8_0_QS + j];
}

void dequant_iq4_nl(const uint8_t *b, float *y) {
    float d = get_f16(b + IQ4_NL_D);
    for (unsigned j = 0; j < 16; j++) {
        unsigned q = b[IQ4_NL_QS + j];
        y[j] = d * (float)iq4_levels[q & 15u];
        y[j + 16] = d * (float)iq4_levels[q >> 4];
    }
}

typedef void (*block_fn)(const uint8_t *b, float *y);

static block_fn block_reader(enum dtype t) {
    switch (t) {
    case DT_Q4_0:
        return dequant_q4_0;
    case DT_Q4_1:
        return dequant_q4_1;
    case DT_Q5_0:
        return dequant_q5_0;
    case DT_Q5_1:
        return dequant_q5_1;
    case DT_Q8_0:
        return dequant_q8_0;
    case DT_Q2_K:
        return dequant_q2_k;
    case DT_Q3_K:
        return dequant_q3_k;
    case DT_Q4_K:
        return dequant_q4_k;
    case DT_Q5_K:
        return dequant_q5_k;
    case DT_Q6_K:
        return dequant_q6_k;
    case DT_IQ4_NL:
        return dequant_iq4_nl;
    case DT_IQ4_XS:
        return dequant_iq4_xs;
    default:
        return NULL;
    }
}

/* Types that slm does not read never get here (dtype_supported is asked when a file is opened). */
void dequant(enum dtype t, const uint8_t *src, float *out, size_t n) {
    if (t == DT_F32) {
        memcpy(out, src, n * sizeof(float));
    } else if (t == DT_F16) {
        for (size_t i = 0; i < n; i++)
            out[i] = f16_to_f32(get_u16(src + 2 * i));
    } else if (t == DT_BF16) {
        for (size_t i = 0; i < n; i++)
            out[i] = bf16_to_f32(get_u16(src + 2 * i));
    } else {
        block_fn read = block_reader(t);
        const struct dtype_info *info = dtype_info(t);
        for (size_t i = 0; read && i < n; i += info->block) {
            read(src, out + i);
            src += info->block_bytes;
        }
    }
}
