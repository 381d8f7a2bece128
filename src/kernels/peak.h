/* peak.h - what this machine can do at most: the denominators of every "share of the limit".
 *
 * Read bandwidth is measured the way decoding reads: every thread walks through memory of its own,
 * forward, with the widest loads; in one stream or in four that advance side by side, plain or asking
 * for the memory some way ahead, in small and in huge pages. Multiply peaks come from the very
 * instructions that the kernels use, on registers only. */
#ifndef SLM_KERNELS_PEAK_H
#define SLM_KERNELS_PEAK_H

#include "kernels/kernels.h"

enum peak_unit { PEAK_INT8, PEAK_BF16, PEAK_F32, PEAK_UNITS };
const char *peak_unit_name(enum peak_unit u); /* "int8", "bf16", "f32" */

struct peak_read {
    unsigned streams;    /* per thread: 1 or 4 */
    unsigned ahead;      /* bytes ahead that are asked for, 0: nothing is */
    bool huge;           /* huge pages */
    double one_s, all_s; /* bytes per second, one thread and all; 0 not measured */
};
struct peak_multiply {
    enum isa isa;
    enum peak_unit unit;
    double one_s, all_s; /* operations per second, a multiply-add counts as two; 0 not measured */
};
#define PEAK_READS 8 /* streams, pages, with and without asking */
#define PEAK_MULTIPLIES (ISA_LEVEL_COUNT * PEAK_UNITS)

struct peak {
    double read_bytes_s; /* all threads, the best of reads */
    double
        int8_ops_s; /* all threads, of the table that was given; bf16: f32's where there is none */
    double bf16_ops_s;
    double f32_ops_s;
    struct peak_read reads[PEAK_READS];
    struct peak_multiply
        multiplies[PEAK_MULTIPLIES]; /* every step of the ladder up to that table */
    unsigned n_reads, n_multiplies;
};
/* quick: all threads only, huge pages where there are any, one distance ahead: 0.6 s. Otherwise
 * everything: about 3 s, and longer on slow machines. Memory: buffer_bytes (at least 64 MiB; several
 * times the last cache). Every figure is the best of several repetitions, which take turns, so that
 * something else that runs for a while does not fall on one of them alone. */
slm_err peak_measure(const struct kernels *k, const struct slm_hooks *h, struct pool *pool,
                     size_t buffer_bytes, bool quick, struct peak *out, slm_why *why);
/* What all threads get just now, the mean of a few runs instead of the best: read_bytes_s and
 * int8_ops_s of *out, the rest 0. Some 150 ms and 256 MiB: to be asked before and after something that
 * is timed, because memory and processors of a virtual machine are shared with strangers. */
slm_err peak_pulse(const struct kernels *k, const struct slm_hooks *h, struct pool *pool,
                   struct peak *out, slm_why *why);

/* One step of each kind; they return something that depends on all the work, so that none of it can
 * be left out (and the tests can see that it was not). */
struct peak_ops {
    /* Sum of the 64-bit words of p [n], n a multiple of 1024, p of 64. streams 1 or 4. */
    uint64_t (*read)(const uint8_t *p, size_t n, unsigned streams, size_t ahead);
    /* `rounds` rounds of *_ops operations, half of them multiplications: int8 of 3 by 2, the others
     * of 0.5 by 0.25. Return the sum of the products: int8 modulo 2^32. bf16 NULL: no such
     * instruction. */
    uint64_t (*int8)(uint64_t rounds);
    uint64_t (*bf16)(uint64_t rounds);
    uint64_t (*f32)(uint64_t rounds);
    uint32_t int8_ops, bf16_ops, f32_ops; /* per round */
};
const struct peak_ops *peak_ops_at(const struct kernels *k);
extern const struct peak_ops peak_ops_ref;
#ifdef __x86_64__
extern const struct peak_ops peak_ops_avx2, peak_ops_avx512, peak_ops_avx512bf16, peak_ops_amx;
#define PEAK_INT8_AMX_OPS (4 * 2 * 16 * 16 * 64) /* of a round of peak_int8_amx */
#define PEAK_BF16_AMX_OPS (4 * 2 * 16 * 16 * 32)
uint64_t peak_int8_amx(uint64_t rounds), peak_bf16_amx(uint64_t rounds); /* for peak_ops_amx */
#endif
#ifdef __aarch64__
extern const struct peak_ops peak_ops_neon, peak_ops_neon_dot;
#endif

#endif
