/* matmul_float_avx2.c - F32, F16 and BF16 panels, and rows as they stand in the file, 8 lanes wide.
 *
 * Panels: lane = row, two vectors per panel, one accumulator per output, columns ascending with
 * fused multiply-add; bfloat16 is widened. PLAIN: two vectors hold the 16 lanes of the order in
 * ref/matmul.c. The bits are the reference's. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX2
#define HALVES 2 /* of the 16 rows of a panel */

/* ---- panels ---- */

INLINE void clear(int n, __m256 *acc) {
    UNROLL
    for (int i = 0; i < n; i++)
        acc[i] = _mm256_setzero_ps();
}

INLINE void store_rows(int np, int nt, const __m256 *acc, float *const *out) {
    UNROLL
    for (int i = 0; i < np * HALVES; i++) {
        UNROLL
        for (int t = 0; t < nt; t++)
            _mm256_storeu_ps(out[i / HALVES * nt + t] + 8 * (i % HALVES), acc[i * nt + t]);
    }
}

INLINE void body_f32(bool f16, int np, int nt, const struct matrix *m, const uint8_t *const *panels,
                     const void *const *acts, float *const *out) {
    __m256 acc[HALVES * 4];
    clear(np * HALVES * nt, acc);
    for (size_t c = 0; c < m->cols; c++) {
        UNROLL
        for (int i = 0; i < np * HALVES; i++) {
            const uint8_t *from = panels[i / HALVES] + (f16 ? 32 * c + 16 * (size_t)(i % HALVES)
                                                            : VEC * c + 32 * (size_t)(i % HALVES));
            __m256 w = f16 ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from))
                           : _mm256_loadu_ps((const float *)(const void *)from);
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[i * nt + t] = _mm256_fmadd_ps(w, _mm256_set1_ps(((const float *)acts[t])[c]),
                                                  acc[i * nt + t]);
        }
    }
    store_rows(np, nt, acc, out);
}

INLINE __m256 first_of(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

INLINE __m256 second_of(__m256i pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000u)));
}

INLINE void body_bf16(int np, int nt, const struct matrix *m, const uint8_t *const *panels,
                      const void *const *acts, float *const *out) {
    __m256 acc[HALVES * 4];
    clear(np * HALVES * nt, acc);
    size_t groups = ((size_t)m->cols + 1) / 2;
    for (size_t g = 0; g < groups; g++) {
        UNROLL
        for (int t = 0; t < nt; t++) {
            int32_t two;
            memcpy(&two, (const uint8_t *)acts[t] + 4 * g, 4);
            __m256i x = _mm256_set1_epi32(two);
            UNROLL
            for (int i = 0; i < np * HALVES; i++) {
                const uint8_t *from = panels[i / HALVES] + VEC * g + 32 * (size_t)(i % HALVES);
                __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)from);
                __m256 sum = _mm256_fmadd_ps(first_of(w), first_of(x), acc[i * nt + t]);
                acc[i * nt + t] = _mm256_fmadd_ps(second_of(w), second_of(x), sum);
            }
        }
    }
    store_rows(np, nt, acc, out);
}

#define TILE(name, np, nt, ...)                                                                    \
    static ISA_AVX2 void tile_##name##_##np##x##nt(                                                \
        const struct matrix *m, const uint8_t *const *panels, const void *const *acts,             \
        float *const *out) {                                                                 \
        __VA_ARGS__;                                                                               \
    }

#define MATMUL(name)                                                                               \
    void matmul_##name##_avx2(const struct matrix *m, const void *acts, size_t n_tokens,           \
                              uint32_t first, uint32_t n, float *y, size_t y_stride,               \
                              void *scratch) {                                                     \
        static const struct tile_shape shapes[] = { { 1, 4, tile_##name##_1x4 },                   \
                                                    { 4, 1, tile_##name##_4x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

TILE(f32, 1, 4, body_f32(false, 1, 4, m, panels, acts, out))
TILE(f32, 4, 1, body_f32(false, 4, 1, m, panels, acts, out))
TILE(f16, 1, 4, body_f32(true, 1, 4, m, panels, acts, out))
TILE(f16, 4, 1, body_f32(true, 4, 1, m, panels, acts, out))
TILE(bf16, 1, 4, body_bf16(1, 4, m, panels, acts, out))
TILE(bf16, 4, 1, body_bf16(4, 1, m, panels, acts, out))
MATMUL(f32)
MATMUL(f16)
MATMUL(bf16)

/* ---- rows as they stand in the file ---- */

static ISA_AVX2 void row_to_f32(enum dtype t, const uint8_t *src, uint32_t cols, float *out) {
    uint32_t c = 0;
    for (; t == DT_F16 && c + 8 <= cols; c += 8)
        _mm256_storeu_ps(out + c, _mm256_cvtph_ps(_mm_loadu_si128(
                                      (const __m128i *)(const void *)(src + 2 * c))));
    for (; t == DT_BF16 && c + 8 <= cols; c += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(src + 2 * c));
        _mm256_storeu_ps(out + c,
                         _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)));
    }
    if (c < cols)
        dequant(t, c == 0 ? src : src + 2 * c, out + c, cols - c);
}

/* Sum of the 16 lanes a (0..7), b (8..15) after the last, incomplete 16 columns were added. */
INLINE float finish(__m256 a, __m256 b, const float *w, const float *x, size_t n) {
    float lane[16];
    _mm256_storeu_ps(lane, a);
    _mm256_storeu_ps(lane + 8, b);
    for (size_t l = 0; l < n; l++)
        lane[l] = fmaf(w[l], x[l], lane[l]);
    __m256 eight = _mm256_add_ps(_mm256_loadu_ps(lane), _mm256_loadu_ps(lane + 8));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* y[0..nr-1]: nr rows of w times one token */
INLINE void dots(int nr, const float *w, size_t w_stride, const float *x, uint32_t cols, float *y) {
    __m256 a[PLAIN_ROWS], b[PLAIN_ROWS];
    size_t whole = cols / 16 * 16;
    clear(nr, a);
    clear(nr, b);
    for (size_t c = 0; c < whole; c += 16) {
        __m256 x0 = _mm256_loadu_ps(x + c), x1 = _mm256_loadu_ps(x + c + 8);
        UNROLL
        for (int r = 0; r < nr; r++) {
            a[r] = _mm256_fmadd_ps(_mm256_loadu_ps(w + (size_t)r * w_stride + c), x0, a[r]);
            b[r] = _mm256_fmadd_ps(_mm256_loadu_ps(w + (size_t)r * w_stride + c + 8), x1, b[r]);
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++)
        y[r] = finish(a[r], b[r], w + (size_t)r * w_stride + whole, x + whole, cols - whole);
}

static ISA_AVX2 void dots_4(const float *w, size_t w_stride, const float *x, uint32_t cols,
                            float *y) {
    dots(4, w, w_stride, x, cols, y);
}

static ISA_AVX2 void dots_1(const float *w, const float *x, uint32_t cols, float *y) {
    dots(1, w, 0, x, cols, y);
}

void matmul_plain_avx2(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
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
