/* matmul_avx512.c - quantised panels times int8 activations with VNNI (vpdpbusd).
 *
 * A 64-byte vector of unsigned levels (4 columns of 16 rows) meets 4 signed activations repeated 16
 * times; the 16 lanes are the 16 rows. The unsigned levels stand for level - offset, so each sum
 * starts at -offset * (sum of the activations). Everything up to the float steps is exact, and
 * these are the reference's (ref/matmul.c), so the bits agree.
 * Each type instantiates one of two bodies, blocks of 32 or of 256 columns, in four tile shapes. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_X86_KERNELS
#include "kernels/x86/unpack_avx512.h"

/* ---- sums of products ---- */

/* offset * nsum, offset a power of two */
INLINE __m512i start(int offset, __m512i nsum) {
    switch (offset) {
    case 4:
        return _mm512_slli_epi32(nsum, 2);
    case 8:
        return _mm512_slli_epi32(nsum, 3);
    case 16:
        return _mm512_slli_epi32(nsum, 4);
    case 32:
        return _mm512_slli_epi32(nsum, 5);
    case 128:
        return _mm512_slli_epi32(nsum, 7);
    default:
        return _mm512_setzero_si512();
    }
}

/* Asks for the panel's bytes some chunks ahead. Full tiles compute for so long that the processor's
 * own prefetchers, which follow the loads, come too late. Smaller ones are bound by memory: there it
 * helps where levels have to be unpacked and costs a little where they do not
 * (docs/internals/kernels.md has the measurements). Past the last panel nothing happens. */
#define PREFETCH_BYTES 4096
#define PREFETCH_TOKENS 8
INLINE void prefetch(const struct traits k, int np, int nt, const uint8_t *const *panels,
                     size_t at) {
    if (nt < PREFETCH_TOKENS && k.form == FORM_8)
        return;
    UNROLL
    for (int p = 0; p < np; p++) {
        UNROLL
        for (int i = 0; i < k.chunk_bytes; i += VEC)
            _mm_prefetch((const char *)panels[p] + at + PREFETCH_BYTES + i, _MM_HINT_T0);
    }
}

/* sum[np * nt] += groups from..to-1 of the chunks at panels[p] + at times the activations q[t]. */
INLINE void dot_groups(const struct traits k, int np, int nt, const uint8_t *const *panels,
                       size_t at, const int8_t *const *q, int from, int to, __m512i *sum) {
    UNROLL
    for (int g = from; g < to; g++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512i w = group(k.form, panels[p] + at, g);
            if (k.iq4)
                w = iq4_values(w);
            UNROLL
            for (int t = 0; t < nt; t++)
                sum[p * nt + t] =
                    _mm512_dpbusd_epi32(sum[p * nt + t], w, broadcast_4(q[t] + 4 * g));
        }
        UNROLL
        for (int i = 0; i < np * nt; i++)
            PIN_VECTOR(sum[i]);
    }
}

/* ---- blocks of 32 columns ---- */

INLINE void body_32(const struct traits k, int np, int nt, const struct matrix *m,
                    const uint8_t *const *panels, const void *const *acts,
                    float *const *out) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t blocks = m->cols / 32, head = 0, at = VEC;
    for (size_t b = 0; b < blocks; b++) {
        const struct act_32 *a[TILE_TOKENS];
        const int8_t *q[TILE_TOKENS];
        __m512i sum[TILE_OUTPUTS];
        UNROLL
        for (int t = 0; t < nt; t++) {
            a[t] = (const struct act_32 *)acts[t] + b;
            q[t] = a[t]->q;
            __m512i s = start(k.offset, _mm512_set1_epi32(a[t]->nsum));
            UNROLL
            for (int p = 0; p < np; p++)
                sum[p * nt + t] = s;
        }
        prefetch(k, np, nt, panels, at);
        dot_groups(k, np, nt, panels, at, q, 0, 8, sum);
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512 d = load_f16(panels[p] + head);
            UNROLL
            for (int t = 0; t < nt; t++) {
                int i = p * nt + t;
                acc[i] = scaled(sum[i], d, a[t]->d, acc[i]);
                if (k.min)
                    acc[i] = _mm512_fmadd_ps(load_f16(panels[p] + head + 32),
                                             _mm512_set1_ps(a[t]->dsum), acc[i]);
            }
        }
        if (k.header == HEADER_D && b % 2 == 0) {
            head += 32; /* the unit's second scale and chunk */
            at += (size_t)k.chunk_bytes;
        } else {
            at += (size_t)k.chunk_bytes + VEC;
            head = at - VEC;
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

/* ---- blocks of 256 columns ---- */

/* -(sum of q) for sub-block j */
INLINE __m512i nsum_of(int sub, const struct act_256 *a, size_t j) {
    if (sub == 16)
        return _mm512_set1_epi32(a->nsum[j]);
    return _mm512_set1_epi32(a->nsum_32[j]);
}

/* total[np * nt] = sum over sub-blocks of scale * (sum of weight * q) */
INLINE void sum_256(const struct traits k, int np, int nt, const uint8_t *const *units,
                    const struct act_256 *const *a, const struct unit_scales *s, __m512i *total) {
    const int halves = 32 / k.sub, per = k.sub / 4;
    UNROLL
    for (int i = 0; i < np * nt; i++)
        total[i] = _mm512_setzero_si512();
    for (size_t c = 0; c < 8; c++) {
        const int8_t *q[TILE_TOKENS];
        UNROLL
        for (int t = 0; t < nt; t++)
            q[t] = a[t]->q + 32 * c;
        size_t at = (size_t)k.header_bytes + c * (size_t)k.chunk_bytes;
        prefetch(k, np, nt, units, at);
        UNROLL
        for (int h = 0; h < halves; h++) {
            size_t j = c * (size_t)halves + (size_t)h;
            __m512i sum[TILE_OUTPUTS];
            UNROLL
            for (int t = 0; t < nt; t++) {
                __m512i first =
                    k.offset ? start(k.offset, nsum_of(k.sub, a[t], j)) : _mm512_setzero_si512();
                UNROLL
                for (int p = 0; p < np; p++)
                    sum[p * nt + t] = first;
            }
            dot_groups(k, np, nt, units, at, q, h * per, h * per + per, sum);
            UNROLL
            for (int p = 0; p < np; p++) {
                __m512i scale = scale_of(k.header, units[p], s + p, j);
                UNROLL
                for (int t = 0; t < nt; t++)
                    total[p * nt + t] = _mm512_add_epi32(
                        total[p * nt + t], _mm512_mullo_epi32(sum[p * nt + t], scale));
            }
        }
    }
}

INLINE void body_256(const struct traits k, int np, int nt, const struct matrix *m,
                     const uint8_t *const *panels, const void *const *acts,
                     float *const *out) {
    __m512 acc[TILE_OUTPUTS];
    UNROLL
    for (int i = 0; i < np * nt; i++)
        acc[i] = _mm512_setzero_ps();
    size_t blocks = m->cols / 256, unit_size = (size_t)(k.header_bytes + 8 * k.chunk_bytes);
    for (size_t b = 0; b < blocks; b++) {
        const uint8_t *units[TILE_PANELS];
        const struct act_256 *a[TILE_TOKENS];
        _Alignas(64) struct unit_scales s[TILE_PANELS];
        __m512i total[TILE_OUTPUTS];
        UNROLL
        for (int p = 0; p < np; p++) {
            units[p] = panels[p] + b * unit_size;
            scales_read(k.header, units[p], s + p);
        }
        UNROLL
        for (int t = 0; t < nt; t++)
            a[t] = (const struct act_256 *)acts[t] + b;
        sum_256(k, np, nt, units, a, s, total);
        UNROLL
        for (int p = 0; p < np; p++) {
            __m512 d = load_f16(units[p]);
            UNROLL
            for (int t = 0; t < nt; t++)
                acc[p * nt + t] = scaled(total[p * nt + t], d, a[t]->d, acc[p * nt + t]);
            if (k.min)
                add_minima(k, nt, units[p], s + p, a, acc + p * nt);
        }
    }
    UNROLL
    for (int i = 0; i < np * nt; i++)
        _mm512_storeu_ps(out[i], acc[i]);
}

/* ---- the types ---- */

#define TILE(type, body, traits, np, nt)                                                           \
    static ISA_AVX512 void tile_##type##_##np##x##nt(                                              \
        const struct matrix *m, const uint8_t *const *panels, const void *const *acts,             \
        float *const *out) {                                                                 \
        body(traits, np, nt, m, panels, acts, out);                                                \
    }

/* { form, header, chunk_bytes, header_bytes, sub, offset, min, iq4 } as in panel.c */
#define MATMUL(type, body, ...)                                                                    \
    static const struct traits traits_##type = { __VA_ARGS__ };                                    \
    TILE(type, body, traits_##type, 1, 8)                                                          \
    TILE(type, body, traits_##type, 1, 4)                                                          \
    TILE(type, body, traits_##type, 1, 2)                                                          \
    TILE(type, body, traits_##type, 1, 1)                                                          \
    void matmul_##type##_avx512(const struct matrix *m, const void *acts, size_t n_tokens,         \
                                uint32_t first, uint32_t n, float *y, size_t y_stride,             \
                                void *scratch) {                                                   \
        static const struct tile_shape shapes[] = { { 1, 8, tile_##type##_1x8 },                   \
                                                    { 1, 4, tile_##type##_1x4 },                   \
                                                    { 1, 2, tile_##type##_1x2 },                   \
                                                    { 1, 1, tile_##type##_1x1 },                   \
                                                    { 0, 0, NULL } };                              \
        (void)scratch;                                                                             \
        tiles_run(shapes, m, acts, n_tokens, first, n, y, y_stride);                               \
    }

MATMUL(q8_0, body_32, FORM_8, HEADER_D, 512, 64, 0, 128, false, false)
MATMUL(q4_0, body_32, FORM_4, HEADER_D, 256, 64, 0, 8, false, false)
MATMUL(q4_1, body_32, FORM_4, HEADER_DM, 256, 64, 0, 0, true, false)
MATMUL(q5_0, body_32, FORM_4_1, HEADER_D, 320, 64, 0, 16, false, false)
MATMUL(q5_1, body_32, FORM_4_1, HEADER_DM, 320, 64, 0, 0, true, false)
MATMUL(iq4_nl, body_32, FORM_4, HEADER_D, 256, 64, 0, 128, false, true)
MATMUL(q2_k, body_256, FORM_2, HEADER_Q2, 128, 320, 16, 0, true, false)
MATMUL(q3_k, body_256, FORM_2_1, HEADER_Q3, 192, 256, 16, 4, false, false)
MATMUL(q4_k, body_256, FORM_4, HEADER_K4, 256, 256, 32, 0, true, false)
MATMUL(q5_k, body_256, FORM_4_1, HEADER_K4, 320, 256, 32, 0, true, false)
MATMUL(q6_k, body_256, FORM_4_2, HEADER_I8, 384, 320, 16, 32, false, false)
MATMUL(iq4_xs, body_256, FORM_4, HEADER_I8, 256, 192, 32, 128, false, true)
#endif
