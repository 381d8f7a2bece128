/* rows.h - the row and attention kernels of each instruction set, for the tables of dispatch.
 *
 * Same meaning as the functions of kernels.h without the table argument. DECLARE_ROWS(isa) and
 * DECLARE_ATTENTION(isa) declare one set; ROWS_OF and ATTENTION_OF list it as initialisers. */
#ifndef SLM_KERNELS_REF_ROWS_H
#define SLM_KERNELS_REF_ROWS_H

#include "kernels/kernels.h"

#define DECLARE_ROWS(isa)                                                                       \
    void isa##_rmsnorm(const float *x, const float *w, bool plus_one, float eps, size_t n,      \
                       float *out);                                                             \
    void isa##_add_rows(float *x, const float *y, size_t n);                                    \
    void isa##_scale_row(float *x, float s, size_t n);                                          \
    void isa##_silu_mul(const float *gate, const float *up, size_t n, float *h);                \
    void isa##_gelu_mul(const float *gate, const float *up, size_t n, float *h);                \
    void isa##_rope_apply(float *x, const float *cosine, const float *sine, size_t n_pairs,     \
                          bool interleaved);                                                    \
    uint32_t isa##_argmax(const float *x, size_t n, bool *finite)

#define DECLARE_ATTENTION(isa)                                                                  \
    void isa##_kv_store(enum kv_type t, const float *x, size_t d, void *dst);                   \
    void isa##_kv_load(enum kv_type t, const void *src, size_t d, float *x);                    \
    void isa##_attn_scores(enum kv_type t, const float *q, size_t n_q, size_t d,                \
                           const void *keys, size_t n_keys, float scale, float *scores,         \
                           size_t stride);                                                      \
    void isa##_attn_softmax(float *s, size_t n, float *max, float *sum);                        \
    void isa##_attn_mix(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,    \
                        const void *values, size_t n_keys, float *acc);                         \
    void isa##_attn_merge(float *run_max, float *run_sum, float *run_acc, float max, float sum, \
                          const float *acc, size_t d)

#define ROWS_OF(isa)                                                                            \
    .rmsnorm = isa##_rmsnorm, .add_rows = isa##_add_rows, .scale_row = isa##_scale_row,         \
    .silu_mul = isa##_silu_mul, .gelu_mul = isa##_gelu_mul, .rope_apply = isa##_rope_apply,     \
    .argmax = isa##_argmax
#define ATTENTION_OF(isa)                                                                       \
    .kv_store = isa##_kv_store, .kv_load = isa##_kv_load, .attn_scores = isa##_attn_scores,     \
    .attn_softmax = isa##_attn_softmax, .attn_mix = isa##_attn_mix,                             \
    .attn_merge = isa##_attn_merge

DECLARE_ROWS(ref);
DECLARE_ATTENTION(ref);
DECLARE_ROWS(avx2);
DECLARE_ATTENTION(avx2);
DECLARE_ROWS(avx512);
DECLARE_ATTENTION(avx512);

/* Shared by all sets: float32 of 1 / sqrt(sum / n + eps). */
float norm_factor(double sum, size_t n, float eps);

/* Scale of a KV_Q8 group of n <= 32 values, as f16 bits, and *inverse that codes are made with. */
uint16_t kv_q8_scale(const float *x, size_t n, float *inverse);
/* The code of x: round to nearest even of x * inverse within -127..127. */
int8_t kv_q8_code(float x, float inverse);

#endif
