/* peak.h - what this machine can do at most: the denominators of every "share of the limit".
 *
 * Read bandwidth is measured the way decoding reads: every thread streams through memory of its
 * own, in four streams at once, with the widest loads. Multiply peaks come from the very
 * instructions that the kernels use, on registers only. */
#ifndef SLM_KERNELS_PEAK_H
#define SLM_KERNELS_PEAK_H

#include "kernels/kernels.h"

struct peak {
    double read_bytes_s;  /* all threads */
    double int8_ops_s;    /* a multiply-add counts as two */
    double bf16_ops_s;
    double f32_ops_s;
};
/* Takes about a second and buffer_bytes of memory. Each figure is the best of several repetitions. */
slm_err peak_measure(const struct kernels *k, const struct slm_hooks *h, struct pool *pool, size_t buffer_bytes,
                     struct peak *out, slm_why *why);

/* One step of each kind; they return something that depends on all the work, so that none of it can
 * be left out. work functions do `rounds` rounds of ops_per_round operations. */
struct peak_ops {
    uint64_t (*read)(const uint8_t *p, size_t n); /* n a multiple of 1024: four streams of n/4 */
    uint64_t (*int8)(uint64_t rounds);
    uint64_t (*bf16)(uint64_t rounds); /* NULL: no such instruction; the f32 peak counts */
    uint64_t (*f32)(uint64_t rounds);
    uint32_t int8_ops, bf16_ops, f32_ops; /* per round */
};
const struct peak_ops *peak_ops_at(const struct kernels *k);
extern const struct peak_ops peak_ops_ref;
#ifdef __x86_64__
extern const struct peak_ops peak_ops_avx2, peak_ops_avx512, peak_ops_avx512bf16;
#endif

#endif
