/* blocks.h - byte layout of the weight blocks, shared by dequant and quantise.
 *
 * Every type of 32 or 256 elements is described by the offsets of its parts in one block. All
 * numbers are little-endian; f16 parts are IEEE half. "Low nibbles first": byte j of a run of 16
 * holds element j in its low and element j + 16 in its high half.
 * Source: the block structs of ggml (ggml-common.h), https://github.com/ggml-org/ggml. */
#ifndef SLM_KERNELS_REF_BLOCKS_H
#define SLM_KERNELS_REF_BLOCKS_H

#include "base/dtype.h"

#define BLOCK 32  /* elements of a small block, and of a sub-block of the K types */
#define SUPER 256 /* elements of a K block */

enum { Q4_0_D = 0, Q4_0_QS = 2, Q4_0_BYTES = 18 };
enum { Q4_1_D = 0, Q4_1_M = 2, Q4_1_QS = 4, Q4_1_BYTES = 20 };
enum { Q5_0_D = 0, Q5_0_QH = 2, Q5_0_QS = 6, Q5_0_BYTES = 22 };
enum { Q5_1_D = 0, Q5_1_M = 2, Q5_1_QH = 4, Q5_1_QS = 8, Q5_1_BYTES = 24 };
enum { Q8_0_D = 0, Q8_0_QS = 2, Q8_0_BYTES = 34 };
enum { IQ4_NL_D = 0, IQ4_NL_QS = 2, IQ4_NL_BYTES = 18 };
enum { Q2_K_SC = 0, Q2_K_QS = 16, Q2_K_D = 80, Q2_K_DMIN = 82, Q2_K_BYTES = 84 };
enum { Q3_K_HM = 0, Q3_K_QS = 32, Q3_K_SC = 96, Q3_K_D = 108, Q3_K_BYTES = 110 };
enum { Q4_K_D = 0, Q4_K_DMIN = 2, Q4_K_SC = 4, Q4_K_QS = 16, Q4_K_BYTES = 144 };
enum { Q5_K_D = 0, Q5_K_DMIN = 2, Q5_K_SC = 4, Q5_K_QH = 16, Q5_K_QS = 48, Q5_K_BYTES = 176 };
enum { Q6_K_QL = 0, Q6_K_QH = 128, Q6_K_SC = 192, Q6_K_D = 208, Q6_K_BYTES = 210 };
enum { IQ4_XS_D = 0, IQ4_XS_SH = 2, IQ4_XS_SL = 4, IQ4_XS_QS = 8, IQ4_XS_BYTES = 136 };

/* The 16 levels of IQ4_NL and IQ4_XS. */
extern const int8_t iq4_levels[16];

static inline uint16_t get_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline void put_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline float get_f16(const uint8_t *p) {
    return f16_to_f32(get_u16(p));
}

/* 6-bit scale and minimum of sub-block j (0..7) of Q4_K and Q5_K from their 12 packed bytes:
 * bytes 0..3 scales 0..3, bytes 4..7 minima 0..3 (6 bits each); bytes 8..11 the low 4 bits of scale
 * and minimum 4..7, whose upper 2 bits are the upper 2 bits of bytes 0..3 and 4..7. */
static inline void k4_scale_min(const uint8_t *sc, unsigned j, unsigned *scale, unsigned *min) {
    if (j < 4) {
        *scale = sc[j] & 63u;
        *min = sc[j + 4] & 63u;
    } else {
        *scale = (sc[j + 4] & 15u) | (unsigned)(sc[j - 4] >> 6) << 4;
        *min = (unsigned)(sc[j + 4] >> 4) | (unsigned)(sc[j] >> 6) << 4;
    }
}

/* Scale of sub-block j (0..15, 16 elements each) of Q3_K from its 12 packed bytes: -32..31. Low
 * nibbles of bytes 0..7 are scales 0..7, high ones 8..15; bytes 8..11 hold the upper 2 bits. */
static inline int q3_scale(const uint8_t *sc, unsigned j) {
    unsigned low = j < 8 ? sc[j] & 15u : (unsigned)(sc[j - 8] >> 4);
    unsigned high = (unsigned)(sc[8 + j % 4] >> (2 * (j / 4))) & 3u;
    return (int)(low | high << 4) - 32;
}

/* One block each: 32 or 256 elements. */
void dequant_q4_0(const uint8_t *b, float *y);
void dequant_q4_1(const uint8_t *b, float *y);
void dequant_q5_0(const uint8_t *b, float *y);
void dequant_q5_1(const uint8_t *b, float *y);
void dequant_q8_0(const uint8_t *b, float *y);
void dequant_iq4_nl(const uint8_t *b, float *y);
void dequant_q2_k(const uint8_t *b, float *y);
void dequant_q3_k(const uint8_t *b, float *y);
void dequant_q4_k(const uint8_t *b, float *y);
void dequant_q5_k(const uint8_t *b, float *y);
void dequant_q6_k(const uint8_t *b, float *y);
void dequant_iq4_xs(const uint8_t *b, float *y);

void quantise_q4_0(const float *x, uint8_t *b);
void quantise_q4_1(const float *x, uint8_t *b);
void quantise_q5_0(const float *x, uint8_t *b);
void quantise_q5_1(const float *x, uint8_t *b);
void quantise_q8_0(const float *x, uint8_t *b);
void quantise_iq4_nl(const float *x, uint8_t *b);
void quantise_q2_k(const float *x, uint8_t *b);
void quantise_q3_k(const float *x, uint8_t *b);
void quantise_q4_k(const float *x, uint8_t *b);
void quantise_q5_k(const float *x, uint8_t *b);
void quantise_q6_k(const float *x, uint8_t *b);
void quantise_iq4_xs(const float *x, uint8_t *b);

#endif
