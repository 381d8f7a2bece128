/* peak_x86.c - the peak loops of AVX2 and AVX-512: independent accumulators on registers.
 *
 * int8: AVX-512 uses vpdpbusd (64 multiply-adds), AVX2 the vpmaddubsw, vpmaddwd, vpaddd triple (32).
 * An empty asm keeps the compiler from folding rounds together.
 * Reading: the compiler makes one loop of each pair of constants (streams, asking ahead or not). A
 * request for memory beyond the end of the region is harmless: it cannot fault. */
#include "kernels/peak.h"

#include "base/compiler.h"

#ifdef HAVE_X86_KERNELS
#include <immintrin.h>

#define N_ACC 12
#define KEEP(x) __asm__ volatile("" : "+x"(x))
#define KEEP512(x) __asm__ volatile("" : "+v"(x))

ISA_AVX2 static uint64_t words256(__m256i x) {
    uint64_t v[4];
    _mm256_storeu_si256((__m256i *)(void *)v, x);
    return v[0] + v[1] + v[2] + v[3];
}

ISA_AVX2 static uint32_t ints256(__m256i x) {
    uint32_t v[8], sum = 0;
    _mm256_storeu_si256((__m256i *)(void *)v, x);
    for (int i = 0; i < 8; i++)
        sum += v[i];
    return sum;
}

ISA_AVX2 static double floats256(__m256 x) {
    float v[8];
    double sum = 0;
    _mm256_storeu_ps(v, x);
    for (int i = 0; i < 8; i++)
        sum += (double)v[i];
    return sum;
}

/* 128 bytes of each stream at a time, so that four streams use no more registers than one. */
ISA_AVX2 ATTR_INLINE uint64_t walk_avx2(const uint8_t *p, size_t n, int streams, size_t ahead) {
    __m256i a[4];
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_setzero_si256();
    size_t part = n / (size_t)streams;
    for (size_t i = 0; i < part; i += 128)
        for (int s = 0; s < streams; s++) {
            const uint8_t *q = p + (size_t)s * part + i;
            if (ahead) {
                _mm_prefetch((const char *)q + ahead, _MM_HINT_T0);
                _mm_prefetch((const char *)q + ahead + 64, _MM_HINT_T0);
            }
            for (int j = 0; j < 4; j++)
                a[j] = _mm256_add_epi64(
                    a[j], _mm256_load_si256((const __m256i *)(const void *)(q + 32 * j)));
        }
    return words256(_mm256_add_epi64(_mm256_add_epi64(a[0], a[1]), _mm256_add_epi64(a[2], a[3])));
}

ISA_AVX2 static uint64_t read_avx2(const uint8_t *p, size_t n, unsigned streams, size_t ahead) {
    if (streams == 4)
        return ahead ? walk_avx2(p, n, 4, ahead) : walk_avx2(p, n, 4, 0);
    return ahead ? walk_avx2(p, n, 1, ahead) : walk_avx2(p, n, 1, 0);
}

ISA_AVX2 static uint64_t int8_avx2(uint64_t rounds) {
    __m256i a[N_ACC], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(2), one = _mm256_set1_epi16(1);
    for (int i = 0; i < N_ACC; i++)
        a[i] = _mm256_setzero_si256();
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N_ACC; i++) {
            KEEP(x);
            a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one));
        }
    uint32_t sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += ints256(a[i]);
    return sum;
}

ISA_AVX2 static uint64_t f32_avx2(uint64_t rounds) {
    __m256 a[N_ACC], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
    for (int i = 0; i < N_ACC; i++)
        a[i] = _mm256_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N_ACC; i++) {
            KEEP(x);
            a[i] = _mm256_fmadd_ps(x, y, a[i]);
        }
    double sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += floats256(a[i]);
    return (uint64_t)sum;
}

const struct peak_ops peak_ops_avx2 = { .read = read_avx2,
                                        .int8 = int8_avx2,
                                        .f32 = f32_avx2,
                                        .int8_ops = N_ACC * 64,
                                        .f32_ops = N_ACC * 16 };

ISA_AVX512 static uint64_t words512(__m512i x) {
    uint64_t v[8], sum = 0;
    _mm512_storeu_si512(v, x);
    for (int i = 0; i < 8; i++)
        sum += v[i];
    return sum;
}

ISA_AVX512 static uint32_t ints512(__m512i x) {
    uint32_t v[16], sum = 0;
    _mm512_storeu_si512(v, x);
    for (int i = 0; i < 16; i++)
        sum += v[i];
    return sum;
}

ISA_AVX512 static double floats512(__m512 x) {
    float v[16];
    double sum = 0;
    _mm512_storeu_ps(v, x);
    for (int i = 0; i < 16; i++)
        sum += (double)v[i];
    return sum;
}

ISA_AVX512 ATTR_INLINE uint64_t walk_avx512(const uint8_t *p, size_t n, int streams, size_t ahead) {
    __m512i a[4];
    for (int i = 0; i < 4; i++)
        a[i] = _mm512_setzero_si512();
    size_t part = n / (size_t)streams;
    for (size_t i = 0; i < part; i += 256)
        for (int s = 0; s < streams; s++)
            for (int j = 0; j < 4; j++) {
                const uint8_t *q = p + (size_t)s * part + i + 64 * (size_t)j;
                if (ahead)
                    _mm_prefetch((const char *)q + ahead, _MM_HINT_T0);
                a[j] = _mm512_add_epi64(a[j], _mm512_load_si512(q));
            }
    return words512(_mm512_add_epi64(_mm512_add_epi64(a[0], a[1]), _mm512_add_epi64(a[2], a[3])));
}

ISA_AVX512 static uint64_t read_avx512(const uint8_t *p, size_t n, unsigned streams, size_t ahead) {
    if (streams == 4)
        return ahead ? walk_avx512(p, n, 4, ahead) : walk_avx512(p, n, 4, 0);
    return ahead ? walk_avx512(p, n, 1, ahead) : walk_avx512(p, n, 1, 0);
}

ISA_AVX512 static uint64_t int8_avx512(uint64_t rounds) {
    __m512i a[N_ACC], x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(2);
    for (int i = 0; i < N_ACC; i++)
        a[i] = _mm512_setzero_si512();
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N_ACC; i++) {
            KEEP512(x);
            a[i] = _mm512_dpbusd_epi32(a[i], x, y);
        }
    uint32_t sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += ints512(a[i]);
    return sum;
}

ISA_AVX512 static uint64_t f32_avx512(uint64_t rounds) {
    __m512 a[N_ACC], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
    for (int i = 0; i < N_ACC; i++)
        a[i] = _mm512_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N_ACC; i++) {
            KEEP512(x);
            a[i] = _mm512_fmadd_ps(x, y, a[i]);
        }
    double sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += floats512(a[i]);
    return (uint64_t)sum;
}

ISA_AVX512BF16 static uint64_t bf16_avx512(uint64_t rounds) {
    __m512 a[N_ACC];
    __m512i x = _mm512_set1_epi16(0x3f00), y = _mm512_set1_epi16(0x3e80);
    for (int i = 0; i < N_ACC; i++)
        a[i] = _mm512_setzero_ps();
    for (uint64_t r = 0; r < rounds; r++)
        for (int i = 0; i < N_ACC; i++) {
            KEEP512(x);
            a[i] = _mm512_dpbf16_ps(a[i], (__m512bh)x, (__m512bh)y);
        }
    double sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += floats512(a[i]);
    return (uint64_t)sum;
}

const struct peak_ops peak_ops_avx512 = { .read = read_avx512,
                                          .int8 = int8_avx512,
                                          .f32 = f32_avx512,
                                          .int8_ops = N_ACC * 128,
                                          .f32_ops = N_ACC * 32 };
const struct peak_ops peak_ops_avx512bf16 = { .read = read_avx512,
                                              .int8 = int8_avx512,
                                              .bf16 = bf16_avx512,
                                              .f32 = f32_avx512,
                                              .int8_ops = N_ACC * 128,
                                              .bf16_ops = N_ACC * 64,
                                              .f32_ops = N_ACC * 32 };
#ifdef HAVE_AMX_KERNELS
const struct peak_ops peak_ops_amx = { .read = read_avx512,
                                       .int8 = peak_int8_amx,
                                       .bf16 = peak_bf16_amx,
                                       .f32 = f32_avx512,
                                       .int8_ops = PEAK_INT8_AMX_OPS,
                                       .bf16_ops = PEAK_BF16_AMX_OPS,
                                       .f32_ops = N_ACC * 32 };
#endif
#endif
