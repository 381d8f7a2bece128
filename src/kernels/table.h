/* table.h - what one instruction set offers: the functions behind kernels.h.
 *
 * Each file group exports one constant group of pointers per instruction set; dispatch.c joins the
 * groups into the tables that kernels_pick() hands out. A group of a higher level may name functions
 * of a lower one where a special version is not worth its code. Meanings, shapes and orders of
 * summation are those of kernels.h; nothing is checked again here. */
#ifndef SLM_KERNELS_TABLE_H
#define SLM_KERNELS_TABLE_H

#include "base/compiler.h"
#include "kernels/kernels.h"

/* ref/rows.c, x86/rows_*.c, arm/rows_neon.c */
struct row_ops {
    void (*rmsnorm)(const float *x, const float *w, bool plus_one, float eps, size_t n, float *out);
    void (*add)(float *x, const float *y, size_t n);
    void (*scale)(float *x, float s, size_t n);
    void (*silu_mul)(const float *gate, const float *up, size_t n, float *h);
    void (*gelu_mul)(const float *gate, const float *up, size_t n, float *h);
    void (*rope)(float *x, const float *cosine, const float *sine, size_t n_pairs,
                 bool interleaved);
    uint32_t (*argmax)(const float *x, size_t n, bool *finite);
};

/* ref/attention.c, x86/attention_*.c, arm/attention_neon.c */
struct attention_ops {
    void (*kv_store)(enum kv_type t, const float *x, size_t d, void *dst);
    void (*kv_load)(enum kv_type t, const void *src, size_t d, float *x);
    void (*scores)(enum kv_type t, const float *q, size_t n_q, size_t d, const void *keys,
                   size_t n_keys, float scale, float *scores, size_t stride, const void *next);
    void (*softmax)(float *s, size_t n, float *max, float *sum);
    void (*mix)(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
                const void *values, size_t n_keys, float *acc, const void *next);
    void (*merge)(float *run_max, float *run_sum, float *run_acc, float max, float sum,
                  const float *acc, size_t d);
};

typedef void act_fn(const float *x, uint32_t cols, void *dst);
typedef void matmul_fn(const struct matrix *m, const void *acts, size_t n_tokens, uint32_t first,
                       uint32_t n, float *y, size_t y_stride, void *scratch);

/* ref/matmul.c, act.c, x86/matmul_*.c, x86/act_*.c, arm/matmul_*.c, arm/act_neon.c */
struct matmul_ops {
    act_fn *act[ACT_COUNT];
    matmul_fn *plain;
    matmul_fn *panel[DT_COUNT]; /* NULL: no panel layout for this type */
};

struct kernels {
    enum isa isa;
    const struct matmul_ops *matmul;
    const struct row_ops *rows;
    const struct attention_ops *attention;
};

extern const struct matmul_ops matmul_ops_ref;
extern const struct row_ops row_ops_ref;
extern const struct attention_ops attention_ops_ref;
#ifdef HAVE_X86_KERNELS
extern const struct matmul_ops matmul_ops_avx2, matmul_ops_avx512, matmul_ops_avx512bf16;
extern const struct row_ops row_ops_avx2, row_ops_avx512;
extern const struct attention_ops attention_ops_avx2, attention_ops_avx512,
    attention_ops_avx512bf16;
#endif
#ifdef HAVE_AMX_KERNELS
extern const struct matmul_ops matmul_ops_amx;
#endif
#ifdef HAVE_ARM_KERNELS
extern const struct matmul_ops matmul_ops_neon;
extern const struct row_ops row_ops_neon;
extern const struct attention_ops attention_ops_neon;
#ifdef HAVE_ARM_EXTENSIONS
extern const struct matmul_ops matmul_ops_neon_dot, matmul_ops_neon_bf16;
#endif
#endif

#endif
