/* checking.h - what the kernel checks share: a seeded generator, guarded buffers, comparison of
 * bits, the list of instruction sets, timing. Header only; each check is one program. */
#ifndef SLM_TESTS_KERNELS_CHECKING_H
#define SLM_TESTS_KERNELS_CHECKING_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/peak.h"

static uint64_t check_seed = 20261124;
static uint64_t check_state = 20261125;

static inline uint32_t rnd(void) { /* xorshift64*: Vigna, "An experimental exploration", 2016 */
    check_state ^= check_state >> 12;
    check_state ^= check_state << 25;
    check_state ^= check_state >> 27;
    return (uint32_t)((check_state * 0x2545F4914F6CDD1Du) >> 32);
}
static inline uint32_t below(uint32_t n) {
    return rnd() % n;
}
static inline float normal(void) { /* Box and Muller, 1958 */
    double u = ((double)rnd() + 1.0) / 4294967297.0, v = (double)rnd() / 4294967296.0;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

/* Takes --seed N; every check starts from it. */
static inline void check_start(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--seed") == 0)
            check_seed = strtoull(argv[i + 1], NULL, 0);
    check_state = check_seed | 1;
    printf("# seed %" PRIu64 "\n", check_seed);
}

/* ---- guarded buffers: n bytes at an address that is `skew` past a multiple of 64, with GUARD
 * bytes of a pattern on both sides ---- */
#define GUARD 128
struct guarded {
    uint8_t *base, *data;
    size_t n;
};
static inline struct guarded guarded_new(size_t n, size_t skew) {
    struct guarded g = { mem_alloc_aligned(NULL, n + 2 * GUARD + 64, 1), NULL, n };
    if (!g.base)
        exit(1);
    memset(g.base, 0xA5, n + 2 * GUARD + 64);
    g.data = g.base + GUARD + skew % 64;
    return g;
}
static inline void guarded_check(const struct guarded *g, const char *what) {
    for (size_t i = 1; i <= GUARD / 2; i++)
        if (g->data[-(ptrdiff_t)i] != 0xA5 || g->data[g->n + i - 1] != 0xA5)
            fail_msg("%s wrote outside its output of %zu bytes", what, g->n);
}
static inline void guarded_free(struct guarded *g) {
    mem_free_aligned(NULL, g->base);
}

/* ---- comparison: the same bits, or NaN on both sides ---- */
static inline void same_floats(const float *want, const float *got, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], 4) != 0 && !(isnan(want[i]) && isnan(got[i])))
            fail_msg("%s: element %zu of %zu is %a, reference %a", what, i, n, (double)got[i],
                     (double)want[i]);
}

/* ---- values ---- */
enum flavour { NORMAL, ZEROS, EXTREMES, TINY, ODD, FLAVOURS }; /* ODD: with infinities and NaN */
static inline float some_float(enum flavour f) {
    static const float extremes[] = { 3.4e38f, -3.4e38f, 1e30f, -1e30f, 0.0f, -0.0f, 1.0f, -1.0f };
    static const float odd[] = { INFINITY, -INFINITY, NAN };
    switch (f) {
    case ZEROS:
        return below(2) ? 0.0f : -0.0f;
    case EXTREMES:
        return extremes[below(8)];
    case TINY:
        return normal() * 1e-39f;
    case ODD:
        return below(8) ? normal() : odd[below(3)];
    default:
        return normal() * (below(20) ? 1.0f : 30.0f);
    }
}
static inline void fill(float *x, size_t n, enum flavour f) {
    for (size_t i = 0; i < n; i++)
        x[i] = some_float(f);
}

/* ---- instruction sets: calls fn for each one beyond the reference that this machine has ---- */
static inline void each_isa(void (*fn)(const struct kernels *ref, const struct kernels *k)) {
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    unsigned n = 0;
    for (int level = ISA_LEVEL_REF + 1; level < ISA_LEVEL_COUNT; level++) {
        const struct kernels *k = kernels_at((enum isa)level);
        if (k) {
            print_message("# %s against ref\n", isa_name((enum isa)level));
            fn(ref, k);
            n++;
        }
    }
    if (n == 0) {
        print_message("# skip this machine has nothing beyond the reference\n");
        skip();
    }
}

/* ---- timing ---- */
static inline double
bench_peak(const struct kernels *k) { /* float32 operations a second, one thread */
    const struct peak_ops *ops = peak_ops_at(k);
    double best = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t rounds = 200000, t = clock_ns();
        volatile uint64_t keep = ops->f32(rounds);
        (void)keep;
        t = clock_ns() - t;
        double rate = (double)rounds * ops->f32_ops / ((double)t * 1e-9);
        best = rate > best ? rate : best;
    }
    return best;
}
/* Best seconds of one `call` out of runs of about 2 ms. */
#define BENCH(seconds, call)                                                                       \
    do {                                                                                           \
        uint64_t bench_n_ = 1, bench_t_ = 0;                                                       \
        (seconds) = 1e9;                                                                           \
        for (unsigned bench_r_ = 0; bench_r_ < 40; bench_r_++) {                                   \
            uint64_t bench_from_ = clock_ns();                                                     \
            for (uint64_t bench_i_ = 0; bench_i_ < bench_n_; bench_i_++)                           \
                call;                                                                              \
            bench_t_ = clock_ns() - bench_from_;                                                   \
            double bench_s_ = (double)bench_t_ * 1e-9 / (double)bench_n_;                          \
            (seconds) = bench_s_ < (seconds) ? bench_s_ : (seconds);                               \
            bench_n_ = (uint64_t)(0.002 / (seconds)) + 1;                                          \
        }                                                                                          \
    } while (0)

#endif
