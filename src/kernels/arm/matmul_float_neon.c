/* matmul_float_neon.c - F32, F16 and BF16 panels, and rows as they stand in the file, 4 lanes wide.
 *
 * Panels: lane = row, four registers per panel, one accumulator per output, columns ascending with
 * fused multiply-add; the activations of four columns are one register, of which a lane is used at a
 * time. BF16 has two versions with the same bits: widened to float32, or with BFMLALB and BFMLALT,
 * which widen and fuse in one (BFDOT would be faster still, but rounds in its own way).
 * PLAIN: four registers hold the 16 lanes of the order in ref/matmul.c. */
#include "kernels/arm/matmul_arm.h"

#ifdef HAVE_ARM_KERNELS
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/matmul.h"

#define QUARTERS 4 /* registers of 4 rows in a panel */

/* ---- panels ---- */

ATTR_INLINE void clear(int n, float32x4_t *acc) {
    UNROLL
    for (int i = 0; i < n; i++)
        acc[i] = vdupq_n_f32(0);
}

/* acc: [panel][quarter][token] */
ATTR_INLINE void store_rows(int np, int nt, const float32x4_t *acc, float *const *out) {
    UNROLL
    for (int i = 0; i < np * QUARTERS; i++) {
        UNROLL
        for (int t = 0; t < nt; t++)
            vst1q_f32(out[i / QUARTERS * nt + t] + 4 * (i % QUARTERS), acc[i * nt + t]);
    }
}

/* acc + w * x[lane] */
ATTR_INLINE float32x4_t fma_lane(float32x4_t acc, float32x4_t w, float32x4_t x, int lane) {
    switch (lane) {
    case 0:
        return vfmaq_laneq_f32(acc, w, x, 0);
    case 1:
        return vfmaq_laneq_f32(acc, w, x, 1);
    case 2:
        return vfmaq_laneq_f32(acc, w, x, 2);
    default:
        return vfmaq_laneq_f32(acc, w, x, 3);
    }
}

/* 16 bytes of a BF16 panel: columns 2 g and 2 g + 1 of 4 rows */
ATTR_INLINE float32x4_t first_of(uint32x4_t two) {
    return vreinterpretq_f32_u32(vshlq_n_u32(two, 16));
}
ATTR_INLINE float32x4_t second_of(uint32x4_t two) {
    return vreinterpretq_f32_u32(vandq_u32(two, vdupq_n_u32(0xFFFF0000u)));
}

/* Activations of 4 columns (n of them exist, the others read as 0), as float32. */
ATTR_INLINE float32x4_t acts_4(enum dtype type, const void *row, size_t c, size_t n) {
    if (type == DT_BF16) {
        uint16_t some[4] = { 0 };
        const uint16_t *x = (const uint16_t *)row + c;
        if (n < 4)
            memcpy(some, x, n * sizeof *x);
        return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(n < 4 ? some : x), 16));
    }
    float some[4] = { 0 };
    const float *x = (const float *)row + c;
    if (n < 4)
        memcpy(some, x, n * sizeof *x);
    return vld1q_f32(n < 4 ? some : x);
}

/* acc[nt] += w * x[t][lane] */
ATTR_INLINE void add_column(int nt, float32x4_t w, const float32x4_t *x, int lane,
                            float32x4_t *acc) {
    UNROLL
    for (int t = 0; t < nt; t++)
        acc[t] = fma_lane(acc[t], w, x[t], lane);
}

/* Columns c..c+n-1 (n constant, at most 4; for BF16 2 or 4, c even) of np panels times nt tokens. */
ATTR_INLINE void columns(enum dtype type, int np, int nt, const uint8_t *const *panels,
                         const void *const *acts, size_t c, int n, float32x4_t *acc) {
    float32x4_t x[TILE_TOKENS];
    UNROLL
    for (int t = 0; t < nt; t++)
        x[t] = acts_4(type, acts[t], c, (size_t)n);
    UNROLL
    for (int j = 0; j < n; j += type == DT_BF16 ? 2 : 1) {
        UNROLL
        for (int i = 0; i < np * QUARTERS; i++) {
            const uint8_t *panel = panels[i / QUARTERS];
            const size_t q = (size_t)i % QUARTERS, column = c + (size_t)j;
            if (type == DT_F32) {
                add_column(nt, vreinterpretq_f32_u8(vld1q_u8(panel + VEC * column + 16 * q)), x, j,
                           acc + i * nt);
            } else if (type == DT_F16) {
                uint8x8_t half = vld1_u8(panel + VEC / 2 * column + 8 * q);
                add_column(nt, vcvt_f32_f16(vreinterpret_f16_u8(half)), x, j, acc + i * nt);
            } else {
                uint32x4_t two =
                    vreinterpretq_u32_u8(vld1q_u8(panel + VEC / 2 * column + 16 * q));
                add_column(nt, first_of(two), x, j, acc + i * nt);
                add_column(nt, second_of(two), x, j + 1, acc + i * nt);
            }
            if (q == QUARTERS - 1)
                LOADS_STAY();
        }
    }
}

ATTR_INLINE void body(enum dtype type, int np, int nt, const struct matrix *m,
                      const uint8_t *const *panels, const void *const *acts,
                      float *const *out) {
    float32x4_t acc[QUARTERS * 4];
    clear(np * QUARTERS * nt, acc);
    const int step = type == DT_BF16 ? 2 : 1;
    size_t c = 0;
    for (; c + 4 <= m->cols; c += 4)
        columns(type, np, nt, panels, acts, c, 4, acc);
    for (; c < m->cols; c += (size_t)step) /* an odd last column of BF16 has a pair of zeros beside it */
        columns(type, np, nt, panels, acts, c, step, acc);
    store_rows(np, nt, acc, out);
}

#define TILE(name, type, np, nt)                                                                   \
    static void tile_##name##_##np##x##nt(const struct matrix *m, const uint8_t *const *panels,    \
                                          const void *const *acts, float *const *out) {      \
        body(type, np, nt, m, panels, acts, out);                                                  \
    }

#define MATMUL(name, suffix)                                                                       \
    void matmul_##name##_##suffix(const struct matrix *m, const void *acts, size_t n_tokens,       \
                                  uint32_t first, uint32_t n, float *y, size_t y_stride,           \
                                  void *scratch) {                                                 \
        static const struct tile_shape shapes[] = { { 1, 4, tile_##name##_1x4 },                   \
                                                    { 4, 1, tile_##name##_4x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

TILE(f32, DT_F32, 1, 4)
TILE(f32, DT_F32, 4, 1)
TILE(f16, DT_F16, 1, 4)
TILE(f16, DT_F16, 4, 1)
TILE(bf16, DT_BF16, 1, 4)
TILE(bf16, DT_BF16, 4, 1)
MATMUL(f32, neon)
MATMUL(f16, neon)
MATMUL(bf16, neon)

/* ---- the same BF16 with its own instructions ---- */

#ifdef HAVE_ARM_EXTENSIONS
/* acc + (column 2 g) * x[2 g] + (column 2 g + 1) * x[2 g + 1], fused and in this order; odd: g = 1 */
ATTR_INLINE ISA_NEON_BF16 float32x4_t fma_pair(float32x4_t acc, bfloat16x8_t w, bfloat16x4_t x,
                                               bool odd) {
    if (odd)
        return vbfmlaltq_lane_f32(vbfmlalbq_lane_f32(acc, w, x, 2), w, x, 3);
    return vbfmlaltq_lane_f32(vbfmlalbq_lane_f32(acc, w, x, 0), w, x, 1);
}

/* n (1 or 2, constant) pairs of columns from pair g on */
ATTR_INLINE ISA_NEON_BF16 void bf16_pairs(int np, int nt, const uint8_t *const *panels,
                                          const void *const *acts, size_t g, int n,
                                          float32x4_t *acc) {
    bfloat16x4_t x[TILE_TOKENS];
    UNROLL
    for (int t = 0; t < nt; t++) {
        uint64_t four = 0;
        memcpy(&four, (const uint8_t *)acts[t] + 4 * g, 4 * (size_t)n);
        x[t] = vreinterpret_bf16_u64(vcreate_u64(four));
    }
    UNROLL
    for (int j = 0; j < n; j++) {
        UNROLL
        for (int i = 0; i < np * QUARTERS; i++) {
            const uint8_t *from = panels[i / QUARTERS] + 16 * (i % QUARTERS);
            bfloat16x8_t w = vreinterpretq_bf16_u8(vld1q_u8(from + VEC * (g + (size_t)j)));
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[i * nt + t] = fma_pair(acc[i * nt + t], w, x[t], j == 1);
            if (i % QUARTERS == QUARTERS - 1)
                LOADS_STAY();
        }
    }
}

ATTR_INLINE ISA_NEON_BF16 void body_bf16(int np, int nt, const struct matrix *m,
                                         const uint8_t *const *panels, const void *const *acts,
                                         float *const *out) {
    float32x4_t acc[QUARTERS * 4];
    clear(np * QUARTERS * nt, acc);
    size_t pairs = ((size_t)m->cols + 1) / 2, g = 0;
    for (; g + 2 <= pairs; g += 2)
        bf16_pairs(np, nt, panels, acts, g, 2, acc);
    if (g < pairs)
        bf16_pairs(np, nt, panels, acts, g, 1, acc);
    store_rows(np, nt, acc, out);
}

static ISA_NEON_BF16 void tile_bfmlal_1x4(const struct matrix *m, const uint8_t *const *panels,
                                          const void *const *acts, float *const *out) {
    body_bf16(1, 4, m, panels, acts, out);
}
static ISA_NEON_BF16 void tile_bfmlal_4x1(const struct matrix *m, const uint8_t *const *panels,
                                          const void *const *acts, float *const *out) {
    body_bf16(4, 1, m, panels, acts, out);
}
void matmul_bf16_neon_bf16(const struct matrix *m, const void *acts, size_t n_tokens,
                           uint32_t first, uint32_t n, float *y, size_t y_stride, void *scratch) {
    static const struct tile_shape shapes[] = { { 1, 4, tile_bfmlal_1x4 },
                                                { 4, 1, tile_bfmlal_4x1 },
                                                { 0, 0, NULL } };
    (void)scratch;
    tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);
}
#endif

/* ---- rows as they stand in the file ---- */

static void row_to_f32(enum dtype t, const uint8_t *src, uint32_t cols, float *out) {
    uint32_t c = 0;
    for (; t == DT_F16 && c + 4 <= cols; c += 4)
        vst1q_f32(out + c, vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(src + 2 * c))));
    for (; t == DT_BF16 && c + 4 <= cols; c += 4) {
        uint16x4_t half = vreinterpret_u16_u8(vld1_u8(src + 2 * c));
        vst1q_f32(out + c, vreinterpretq_f32_u32(vshll_n_u16(half, 16)));
    }
    if (c < cols)
        dequant(t, c == 0 ? src : src + 2 * c, out + c, cols - c);
}

/* Sum of the 16 lanes after the last, incomplete 16 columns were added. */
ATTR_INLINE float finish(const float32x4_t *sum, const float *w, const float *x, size_t n) {
    float lane[16];
    UNROLL
    for (int i = 0; i < 4; i++)
        vst1q_f32(lane + 4 * i, sum[i]);
    for (size_t l = 0; l < n; l++)
        lane[l] = fmaf(w[l], x[l], lane[l]);
    for (unsigned half = 8; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* y[0..nr-1]: nr rows of w times one token */
ATTR_INLINE void dots(int nr, const float *w, size_t w_stride, const float *x, uint32_t cols,
                      float *y) {
    float32x4_t sum[PLAIN_ROWS * 4];
    size_t whole = cols / 16 * 16;
    clear(nr * 4, sum);
    for (size_t c = 0; c < whole; c += 16) {
        UNROLL
        for (int i = 0; i < 4; i++) {
            float32x4_t four = vld1q_f32(x + c + 4 * i);
            UNROLL
            for (int r = 0; r < nr; r++)
                sum[4 * r + i] = vfmaq_f32(
                    sum[4 * r + i], vld1q_f32(w + (size_t)r * w_stride + c + 4 * i), four);
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++)
        y[r] = finish(sum + 4 * r, w + (size_t)r * w_stride + whole, x + whole, cols - whole);
}

static void dots_4(const float *w, size_t w_stride, const float *x, uint32_t cols, float *y) {
    dots(4, w, w_stride, x, cols, y);
}

static void dots_1(const float *w, const float *x, uint32_t cols, float *y) {
    dots(1, w, 0, x, cols, y);
}

void matmul_plain_neon(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                       uint32_t n, float *y, size_t y_stride, void *scratch) {
    float *w = scratch; /* [PLAIN_ROWS, w_stride] */
    size_t w_stride = plain_stride(m->cols), x_stride = act_bytes(ACT_F32, m->cols) / sizeof(float);
    size_t end =
        ((size_t)first + n) * PANEL_ROWS < m->rows ? ((size_t)first + n) * PANEL_ROWS : m->rows;
    for (size_t r = (size_t)first * PANEL_ROWS; r < end; r += PLAIN_ROWS) {
        size_t rows = end - r < PLAIN_ROWS ? end - r : PLAIN_ROWS;
        for (size_t i = 0; i < rows; i++)
            row_to_f32(m->dtype, m->data + (r + i) * m->row_bytes, m->cols, w + i * w_stride);
        for (size_t t = 0; t < n_tokens; t++) {
            const float *x = (const float *)acts + t * x_stride;
            if (rows == PLAIN_ROWS)
                dots_4(w, w_stride, x, m->cols, y + t * y_stride + r);
            else
                for (size_t i = 0; i < rows; i++)
                    dots_1(w + i * w_stride, x, m->cols, y + t * y_stride + r + i);
        }
    }
}
#endif
