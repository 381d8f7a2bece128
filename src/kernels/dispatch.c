/* dispatch.c - one table of functions per instruction set, the choice among them, and the public
 * calls of kernels.h, each of which is one step through the table.
 *
 * Ladder on x86: ref, avx2, avx512 (with a variant whose bfloat16 products use the BF16 extension),
 * amx. On 64-bit ARM: ref, neon (with the dot product and BF16 extensions where the processor has
 * them). The numbers of integer, F16 and F32 products are the same on every step; see
 * ref/matmul.c. */
#include <string.h>

#include "kernels/arm/detect_arm.h"
#include "kernels/ref/matmul.h"
#include "kernels/x86/detect.h"

static const struct kernels table_ref = { ISA_LEVEL_REF, &matmul_ops_ref, &row_ops_ref,
                                          &attention_ops_ref };
#ifdef HAVE_X86_KERNELS
static const struct kernels table_avx2 = { ISA_LEVEL_AVX2, &matmul_ops_avx2, &row_ops_avx2,
                                           &attention_ops_avx2 };
static const struct kernels table_avx512 = { ISA_LEVEL_AVX512, &matmul_ops_avx512, &row_ops_avx512,
                                             &attention_ops_avx512 };
static const struct kernels table_avx512bf16 = { ISA_LEVEL_AVX512, &matmul_ops_avx512bf16,
                                                 &row_ops_avx512, &attention_ops_avx512bf16 };
#endif
#ifdef HAVE_AMX_KERNELS
static const struct kernels table_amx = { ISA_LEVEL_AMX, &matmul_ops_amx, &row_ops_avx512,
                                          &attention_ops_avx512bf16 };
#endif
#ifdef HAVE_ARM_KERNELS
static const struct kernels table_neon = { ISA_LEVEL_NEON, &matmul_ops_neon, &row_ops_neon,
                                           &attention_ops_neon };
#ifdef HAVE_ARM_EXTENSIONS
static const struct kernels table_neon_dot = { ISA_LEVEL_NEON, &matmul_ops_neon_dot, &row_ops_neon,
                                               &attention_ops_neon };
static const struct kernels table_neon_bf16 = { ISA_LEVEL_NEON, &matmul_ops_neon_bf16,
                                                &row_ops_neon, &attention_ops_neon };
#endif

static const struct kernels *best_neon(void) {
#ifdef HAVE_ARM_EXTENSIONS
    struct arm_features f = arm_detect();
    if (f.dot)
        return f.bf16 ? &table_neon_bf16 : &table_neon_dot;
#endif
    return &table_neon;
}
#endif

/* ---- the ladder ---- */

const struct kernels *kernels_at(enum isa level) {
    if (level == ISA_LEVEL_REF)
        return &table_ref;
#ifdef HAVE_X86_KERNELS
    struct x86_features f = x86_detect();
    if (level == ISA_LEVEL_AVX2 && f.avx2)
        return &table_avx2;
    if (level == ISA_LEVEL_AVX512 && f.avx512)
        return f.avx512bf16 ? &table_avx512bf16 : &table_avx512;
#endif
#ifdef HAVE_AMX_KERNELS
    if (level == ISA_LEVEL_AMX && f.amx && f.avx512bf16 && cpu_allow_tiles())
        return &table_amx;
#endif
#ifdef HAVE_ARM_KERNELS
    if (level == ISA_LEVEL_NEON)
        return best_neon();
#endif
    return NULL;
}

/* Steps of one machine's ladder in ascending order; the arm steps have a higher number but no
 * table on x86, and the other way round. */
const struct kernels *kernels_pick(enum isa limit) {
    for (int level = (int)limit < ISA_LEVEL_COUNT ? (int)limit : ISA_LEVEL_COUNT - 1; level > 0;
         level--) {
        const struct kernels *k = kernels_at((enum isa)level);
        if (k)
            return k;
    }
    return &table_ref;
}

enum isa kernels_isa(const struct kernels *k) {
    return k->isa;
}

static const char *const isa_names[ISA_LEVEL_COUNT] = {
    [ISA_LEVEL_REF] = "ref", [ISA_LEVEL_AVX2] = "avx2", [ISA_LEVEL_AVX512] = "avx512",
    [ISA_LEVEL_AMX] = "amx", [ISA_LEVEL_NEON] = "neon",
};

const char *isa_name(enum isa level) {
    return (unsigned)level < ISA_LEVEL_COUNT ? isa_names[level] : "unknown";
}

int isa_by_name(const char *name) {
    for (int i = 0; i < ISA_LEVEL_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0)
            return i;
    return -1;
}

/* ---- matrices and activations ---- */

void act_prepare(const struct kernels *k, enum act a, const float *x, uint32_t cols, void *dst) {
    k->matmul->act[a](x, cols, dst);
}

size_t matmul_scratch(const struct matrix *m, size_t n_tokens) {
    (void)n_tokens;
    return m->layout == MATRIX_PLAIN ? PLAIN_ROWS * plain_stride(m->cols) * sizeof(float) : 0;
}

/* matmul_amx.c unpacks four panels together; vectors need nothing of the kind. */
uint32_t matmul_panels(const struct kernels *k) {
    return k->isa == ISA_LEVEL_AMX ? 4 : 1;
}

void matmul(const struct kernels *k, const struct matrix *m, const void *acts, size_t n_tokens,
            uint32_t first, uint32_t n, float *y, size_t y_stride, void *scratch) {
    matmul_fn *fn = m->layout == MATRIX_PLAIN ? k->matmul->plain : k->matmul->panel[m->dtype];
    fn(m, acts, n_tokens, first, n, y, y_stride, scratch);
}

/* ---- rows ---- */

void rmsnorm(const struct kernels *k, const float *x, const float *w, bool plus_one, float eps,
             size_t n, float *out) {
    k->rows->rmsnorm(x, w, plus_one, eps, n, out);
}

void add_rows(const struct kernels *k, float *x, const float *y, size_t n) {
    k->rows->add(x, y, n);
}

void scale_row(const struct kernels *k, float *x, float s, size_t n) {
    k->rows->scale(x, s, n);
}

void silu_mul(const struct kernels *k, const float *gate, const float *up, size_t n, float *h) {
    k->rows->silu_mul(gate, up, n, h);
}

void gelu_mul(const struct kernels *k, const float *gate, const float *up, size_t n, float *h) {
    k->rows->gelu_mul(gate, up, n, h);
}

void rope_apply(const struct kernels *k, float *x, const float *cosine, const float *sine,
                size_t n_pairs, bool interleaved) {
    k->rows->rope(x, cosine, sine, n_pairs, interleaved);
}

uint32_t argmax(const struct kernels *k, const float *x, size_t n, bool *finite) {
    return k->rows->argmax(x, n, finite);
}

/* ---- attention ---- */

void kv_store(const struct kernels *k, enum kv_type t, const float *x, size_t d, void *dst) {
    k->attention->kv_store(t, x, d, dst);
}

void kv_load(const struct kernels *k, enum kv_type t, const void *src, size_t d, float *x) {
    k->attention->kv_load(t, src, d, x);
}

void attn_scores(const struct kernels *k, enum kv_type t, const float *q, size_t n_q, size_t d,
                 const void *keys, size_t n_keys, float scale, float *scores, size_t stride,
                 const void *next) {
    k->attention->scores(t, q, n_q, d, keys, n_keys, scale, scores, stride, next);
}

void attn_softmax(const struct kernels *k, float *s, size_t n, float *max, float *sum) {
    k->attention->softmax(s, n, max, sum);
}

void attn_mix(const struct kernels *k, enum kv_type t, const float *p, size_t n_q, size_t stride,
              size_t d, const void *values, size_t n_keys, float *acc, const void *next) {
    k->attention->mix(t, p, n_q, stride, d, values, n_keys, acc, next);
}

void attn_merge(const struct kernels *k, float *run_max, float *run_sum, float *run_acc, float max,
                float sum, const float *acc, size_t d) {
    k->attention->merge(run_max, run_sum, run_acc, max, sum, acc, d);
}
