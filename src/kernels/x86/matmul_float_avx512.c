/* matmul_float_avx512.c - F32, F16 and BF16 panels, and rows as they stand in the file, 16 lanes wide.
 *
 * Panels: lane = row, one accumulator per output, columns ascending with fused multiply-add.
 * BF16 has two versions: with the BF16 extension pairs of columns go through vdpbf16ps, whose
 * rounding is its own; without it the same bfloat16 activations are widened, like the reference.
 * PLAIN: lane = column mod 16, then a fixed tree (ref/matmul.c). */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>
#include <string.h>

#include "kernels/ref/matmul.h"

#define INLINE ATTR_INLINE ISA_AVX512
#define INLINE_BF16 ATTR_INLINE ISA_AVX512BF16

/* ---- panels ---- */

INLINE void body_f32(bool f16, int np, int nt, const struct matrix *m, const uint8_t *const *panels,
                     const void *const *acts, float *const *out) {
    __m512 acc[TILE_OUTPUTS];
    const float *x[TILE_TOKENS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    UNROLL
    for (int t = 0; t < nt; t++)
        x[t] = acts[t];
    for (size_t c = 0; c < m->cols; c++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512 w;
            if (f16)
                w = _mm512_cvtph_ps(
                    _mm256_load_si256((const __m256i *)(const void *)(panels[p] + 32 * c)));
            else
                w = _mm512_load_ps((const void *)(panels[p] + VEC * c));
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[p * nt + t] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[t][c]), acc[p * nt + t]);
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

INLINE __m512i pair(const void *x, size_t g) {
    int32_t v;
    memcpy(&v, (const uint8_t *)x + 4 * g, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512 first_of(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 second_of(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000u)));
}

INLINE void body_bf16(int np, int nt, const struct matrix *m, const uint8_t *const *panels,
                      const void *const *acts, float *const *out) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t groups = ((size_t)m->cols + 1) / 2;
    for (size_t g = 0; g < groups; g++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512i w = _mm512_load_si512((const void *)(panels[p] + VEC * g));
            UNROLL
            for (int t = 0; t < nt; t++) {
                __m512i x = pair(acts[t], g);
                __m512 sum = _mm512_fmadd_ps(first_of(w), first_of(x), acc[p * nt + t]);
                acc[p * nt + t] = _mm512_fmadd_ps(second_of(w), second_of(x), sum);
            }
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

INLINE_BF16 void body_bf16_dot(int np, int nt, const struct matrix *m, const uint8_t *const *panels,
                               const void *const *acts, float *const *out) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t groups = ((size_t)m->cols + 1) / 2;
    for (size_t g = 0; g < groups; g++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512bh w = (__m512bh)_mm512_load_si512((const void *)(panels[p] + VEC * g));
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[p * nt + t] = _mm512_dpbf16_ps(acc[p * nt + t], w, (__m512bh)pair(acts[t], g));
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

#define TILE(name, isa, np, nt, call)                                                              \
    static isa void tile_##name##_##np##x##nt(const struct matrix *m,                              \
                                              const uint8_t *const *panels,                        \
                                              const void *const *acts, float *const *out) {  \
        call;                                                                                      \
    }

#define MATMUL(name, isa, suffix, body, ...)                                                       \
    TILE(name, isa, 2, 8, body(__VA_ARGS__ 2, 8, m, panels, acts, out))                            \
    TILE(name, isa, 2, 4, body(__VA_ARGS__ 2, 4, m, panels, acts, out))                            \
    TILE(name, isa, 4, 1, body(__VA_ARGS__ 4, 1, m, panels, acts, out))                            \
    void matmul_##suffix(const struct matrix *m, const void *acts, size_t n_tokens,                \
                         uint32_t first, uint32_t n, float *y, size_t y_stride, void *scratch) {   \
        static const struct tile_shape shapes[] = { { 2, 8, tile_##name##_2x8 },                   \
                                                    { 2, 4, tile_##name##_2x4 },                   \
                                                    { 4, 1, tile_##name##_4x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

#define COMMA ,
MATMUL(f32, ISA_AVX512, f32_avx512, body_f32, false COMMA)
MATMUL(f16, ISA_AVX512, f16_avx512, body_f32, true COMMA)
MATMUL(bf16, ISA_AVX512, bf16_avx512, body_bf16, )
MATMUL(bf16_dot, ISA_AVX512BF16, bf16_avx512bf16, body_bf16_dot, )

/* ---- rows as they stand in the file ---- */

/* One row as float32: the widening types here, the block types by the reference. */
static ISA_AVX512 void row_to_f32(enum dtype t, const uint8_t *src, uint32_t cols, float *out) {
    uint32_t c = 0;
    for (; t == DT_F16 && c + 16 <= cols; c += 16)
        _mm512_storeu_ps(out + c, _mm512_cvtph_ps(_mm256_loadu_si256(
                                      (const __m256i *)(const void *)(src + 2 * c))));
    for (; t == DT_BF16 && c + 16 <= cols; c += 16) {
        __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)(src + 2 * c));
        _mm512_storeu_si512(out + c, _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    }
    if (c < cols)
        dequant(t, c == 0 ? src : src + 2 * c, out + c, cols - c);
}

/* Lanes l and l + 8, l + 4, l + 2, l + 1 added in this order. */
INLINE float tree_16(__m512 v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

/* y[t * y_stride + r] for nr rows in w (plain_stride floats apart) and nt tokens in x. */
INLINE void dots(int nr, int nt, const float *w, size_t w_stride, const float *x, size_t x_stride,
                 uint32_t cols, float *y, size_t y_stride) {
    __m512 acc[16];
    UNROLL
    for (int i = 0; i < nr * nt; i++)
        acc[i] = _mm512_setzero_ps();
    for (size_t c = 0; c < cols; c += 16) {
        __mmask16 k =
            cols - c < 16 ? _cvtu32_mask16((1u << (cols - c)) - 1) : _cvtu32_mask16(0xFFFF);
        UNROLL
        for (int r = 0; r < nr; r++) {
            __m512 row = _mm512_maskz_loadu_ps(k, w + (size_t)r * w_stride + c);
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[r * nt + t] = _mm512_mask3_fmadd_ps(
                    row, _mm512_maskz_loadu_ps(k, x + (size_t)t * x_stride + c), acc[r * nt + t],
                    k);
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++) {
        UNROLL
        for (int t = 0; t < nt; t++)
            y[(size_t)t * y_stride + (size_t)r] = tree_16(acc[r * nt + t]);
    }
}

static ISA_AVX512 void dots_4x4(const float *w, size_t w_stride, const float *x, size_t x_stride,
                                uint32_t cols, float *y, size_t y_stride) {
    dots(4, 4, w, w_stride, x, x_stride, cols, y, y_stride);
}

static ISA_AVX512 void dots_4x1(const float *w, size_t w_stride, const float *x, uint32_t cols,
                                float *y) {
    dots(4, 1, w, w_stride, x, 0, cols, y, 0);
}

static ISA_AVX512 void dots_1x1(const float *w, const float *x, uint32_t cols, float *y) {
    dots(1, 1, w, 0, x, 0, cols, y, 0);
}

void matmul_plain_avx512(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                         uint32_t n, float *y, size_t y_stride, void *scratch) {
    float *w = scratch; /* [PLAIN_ROWS, w_stride] */
    size_t w_stride = plain_stride(m->cols), x_stride = act_bytes(ACT_F32, m->cols) / sizeof(float);
    size_t end =
        (size_t)(first + n) * PANEL_ROWS < m->rows ? (size_t)(first + n) * PANEL_ROWS : m->rows;
    for (size_t r = (size_t)first * PANEL_ROWS; r < end; r += PLAIN_ROWS) {
        size_t rows = end - r < PLAIN_ROWS ? end - r : PLAIN_ROWS;
        for (size_t i = 0; i < rows; i++)
            row_to_f32(m->dtype, m->data + (r + i) * m->row_bytes, m->cols, w + i * w_stride);
        size_t t = 0;
        for (; rows == 4 && t + 4 <= n_tokens; t += 4)
            dots_4x4(w, w_stride, (const float *)acts + t * x_stride, x_stride, m->cols,
                     y + t * y_stride + r, y_stride);
        for (; t < n_tokens; t++) {
            const float *x = (const float *)acts + t * x_stride;
            if (rows == 4)
                dots_4x1(w, w_stride, x, m->cols, y + t * y_stride + r);
            else
                for (size_t i = 0; i < rows; i++)
                    dots_1x1(w + i * w_stride, x, m->cols, y + t * y_stride + r + i);
        }
    }
}
#endif
