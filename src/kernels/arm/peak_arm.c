/* peak_arm.c - the peak loops of 64-bit ARM: independent accumulators on registers.
 *
 * int8: SDOT (16 multiply-adds) where it exists, else the multiplication of 8 bytes with pairwise
 * addition. BFMLALB multiplies as many numbers as the float32 instruction, so bf16 has
 * no limit of its own. An empty asm keeps the compiler from folding rounds together. */
#include "kernels/peak.h"

#include "base/compiler.h"

#ifdef HAVE_ARM_KERNELS
#include <arm_neon.h>

#define N_ACC 16
#define KEEP(x) __asm__ volatile("" : "+w"(x))

/* 128 bytes of each stream at a time, so that four streams use no more registers than one. */
ATTR_INLINE uint64_t walk(const uint8_t *p, size_t n, int streams, size_t ahead) {
    uint64x2_t a[4];
    for (int i = 0; i < 4; i++)
        a[i] = vdupq_n_u64(0);
    size_t part = n / (size_t)streams;
    for (size_t i = 0; i < part; i += 128)
        for (int s = 0; s < streams; s++) {
            const uint8_t *q = p + (size_t)s * part + i;
            if (ahead) {
                __builtin_prefetch(q + ahead);
                __builtin_prefetch(q + ahead + 64);
            }
            UNROLL
            for (int j = 0; j < 8; j++)
                a[j % 4] = vaddq_u64(a[j % 4], vreinterpretq_u64_u8(vld1q_u8(q + 16 * j)));
        }
    return vaddvq_u64(vaddq_u64(vaddq_u64(a[0], a[1]), vaddq_u64(a[2], a[3])));
}

static uint64_t read_neon(const uint8_t *p, size_t n, unsigned streams, size_t ahead) {
    if (streams == 4)
        return ahead ? walk(p, n, 4, ahead) : walk(p, n, 4, 0);
    return ahead ? walk(p, n, 1, ahead) : walk(p, n, 1, 0);
}

static uint64_t int8_neon(uint64_t rounds) {
    int32x4_t a[N_ACC];
    int8x8_t x = vdup_n_s8(3), y = vdup_n_s8(2);
    UNROLL
    for (int i = 0; i < N_ACC; i++)
        a[i] = vdupq_n_s32(0);
    for (uint64_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < N_ACC; i++) {
            KEEP(x);
            a[i] = vpadalq_s16(a[i], vmull_s8(x, y));
        }
    }
    uint32_t sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += vaddvq_u32(vreinterpretq_u32_s32(a[i]));
    return sum;
}

static uint64_t f32_neon(uint64_t rounds) {
    float32x4_t a[N_ACC], x = vdupq_n_f32(0.5f), y = vdupq_n_f32(0.25f);
    UNROLL
    for (int i = 0; i < N_ACC; i++)
        a[i] = vdupq_n_f32(0);
    for (uint64_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < N_ACC; i++) {
            KEEP(x);
            a[i] = vfmaq_f32(a[i], x, y);
        }
    }
    double sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += vaddvq_f64(
            vaddq_f64(vcvt_f64_f32(vget_low_f32(a[i])), vcvt_high_f64_f32(a[i])));
    return (uint64_t)sum;
}

const struct peak_ops peak_ops_neon = { .read = read_neon,
                                        .int8 = int8_neon,
                                        .f32 = f32_neon,
                                        .int8_ops = N_ACC * 16,
                                        .f32_ops = N_ACC * 8 };

#ifdef HAVE_ARM_EXTENSIONS
ISA_NEON_DOT static uint64_t int8_neon_dot(uint64_t rounds) {
    int32x4_t a[N_ACC];
    int8x16_t x = vdupq_n_s8(3), y = vdupq_n_s8(2);
    UNROLL
    for (int i = 0; i < N_ACC; i++)
        a[i] = vdupq_n_s32(0);
    for (uint64_t r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < N_ACC; i++) {
            KEEP(x);
            a[i] = vdotq_s32(a[i], x, y);
        }
    }
    uint32_t sum = 0;
    for (int i = 0; i < N_ACC; i++)
        sum += vaddvq_u32(vreinterpretq_u32_s32(a[i]));
    return sum;
}

const struct peak_ops peak_ops_neon_dot = { .read = read_neon,
                                            .int8 = int8_neon_dot,
                                            .f32 = f32_neon,
                                            .int8_ops = N_ACC * 32,
                                            .f32_ops = N_ACC * 8 };
#endif
#endif
