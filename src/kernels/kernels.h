/* kernels.h - the numbers of the engine; knows no model.
 *
 * THE RULE: the value of an output element depends on its inputs only, never on how many rows or
 * tokens were asked for together, nor on the number of threads. So every element is summed in one
 * order, written down below, by the one-token and the many-token code alike, and integer parts are
 * exact. On one instruction set the same call with other splits gives the same bits.
 *
 * Matrices.  y[t, r] = sum over c of W[r, c] * x[t, c].   W has rows r, cols c.
 *   MATRIX_PLAIN  rows as they stand in the file; multiplied as float32 after dequantising: the
 *                 exact path (--exact) and the fallback. Order: see matmul.
 *   MATRIX_PANEL  16 rows side by side, k in groups that feed one dot-product instruction. Rows are
 *                 padded to a multiple of 16 with zeros. One layout serves one token and many.
 * Activations are prepared once per row of x into the form that the matrix wants (enum act).
 *
 * Attention works on spans of SPAN keys that start at multiples of SPAN in the sequence, so that
 * the arithmetic of one query depends on positions alone; a query's partial results of its spans
 * are merged in ascending order. */
#ifndef SLM_KERNELS_H
#define SLM_KERNELS_H

#include "base/dtype.h"
#include "base/pool.h"

#define PANEL_ROWS 16
#define SPAN 256 /* keys per attention span */

enum isa { ISA_LEVEL_REF, ISA_LEVEL_AVX2, ISA_LEVEL_AVX512, ISA_LEVEL_AMX, ISA_LEVEL_NEON, ISA_LEVEL_COUNT };

/* How one row of activations is stored for a product. */
enum act {
    ACT_F32,    /* float [cols] */
    ACT_BF16,   /* bfloat16, round to nearest even [cols, padded to even] */
    ACT_Q8_32,  /* int8 per 32 columns with a float scale each, and the sums of the int8 (panel.h) */
    ACT_Q8_256, /* the same per 256 columns, sums per 16 and 32 */
    ACT_COUNT
};

enum layout { MATRIX_PLAIN, MATRIX_PANEL };

struct matrix {
    enum dtype dtype;    /* as in the file */
    enum layout layout;
    enum act act;        /* what matmul wants of x: ACT_F32 for PLAIN */
    uint32_t rows, cols;
    const uint8_t *data; /* borrowed; PLAIN: [rows][row_bytes]; PANEL: [ceil(rows/16)][panel_bytes], 64-byte aligned */
    size_t row_bytes;    /* PLAIN */
    size_t panel_bytes;  /* PANEL */
};

enum kv_type { KV_F32, KV_F16, KV_BF16, KV_Q8, KV_COUNT };

struct kernels; /* the table of function pointers of one instruction set; constant, static */

/* Best table that this CPU can run and that is no higher than `limit` (ISA_LEVEL_COUNT: no limit).
 * Detection happens inside, once per call; keep the pointer. Never NULL (the reference always runs). */
const struct kernels *kernels_pick(enum isa limit);
/* Table of exactly this level, or NULL when the CPU or the build has none. */
const struct kernels *kernels_at(enum isa level);
enum isa kernels_isa(const struct kernels *k);
const char *isa_name(enum isa level); /* "ref", "avx2", "avx512", "amx", "neon" */
int isa_by_name(const char *name);    /* -1 unknown */

/* ---- matrices ---- */
/* Whether dtype has a panel layout in this table (else only PLAIN). */
bool matrix_can_pack(const struct kernels *k, enum dtype t, uint32_t rows, uint32_t cols);
/* A PLAIN matrix over file bytes. false: cols do not fit the blocks or sizes overflow. */
bool matrix_plain(struct matrix *m, enum dtype t, uint32_t rows, uint32_t cols, const uint8_t *data);
/* Describes the PANEL form of the same matrix (data NULL); its size is matrix_bytes(). */
bool matrix_panel(const struct kernels *k, struct matrix *m, enum dtype t, uint32_t rows, uint32_t cols);
/* Number of the panel layout of this table. Two tables with the same number have the same bytes in the
 * panels of a matrix that both can pack; any change of those bytes is a new number: panels are kept
 * in files. */
uint32_t matrix_layout(const struct kernels *k);
size_t matrix_bytes(const struct matrix *m);
uint32_t matrix_panels(const struct matrix *m); /* ceil(rows / 16) */
/* Packs panels first..first+n-1 of `from` (PLAIN) into `to` (same layout place in to->data, which
 * is written). Threads may pack different panels at once. Row order is the file's unless row_map is
 * given: [rows] panel row r holds file row row_map[r]. */
void matrix_pack(const struct kernels *k, const struct matrix *from, struct matrix *to, uint8_t *to_data,
                 uint32_t first, uint32_t n, const uint32_t *row_map);
/* One row as float32, bit-equal for PLAIN and PANEL. out [cols] */
void matrix_row(const struct kernels *k, const struct matrix *m, uint32_t row, float *out);
/* Dequantises n whole blocks' worth of elements; bit-exact with the published formula in float32. */
void dequant(enum dtype t, const uint8_t *src, float *out, size_t n);
/* The other way, for `slm quantize`: n elements (whole blocks); importance may be NULL. Supports
 * F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, Q3_K, Q2_K, IQ4_NL; false if t has no writer. */
bool quantise(enum dtype t, const float *src, uint8_t *out, size_t n);
bool can_quantise(enum dtype t);

/* ---- activations ---- */
size_t act_bytes(enum act a, uint32_t cols); /* of one row, multiple of 64 */
/* Prepares one row. dst is 64-byte aligned [act_bytes]. */
void act_prepare(const struct kernels *k, enum act a, const float *x, uint32_t cols, void *dst);

/* Writes y[t * y_stride + r] for t in [0, n_tokens) and the rows r of panels [first, first + n): r in
 * [16 first, 16 (first + n)) and below m->rows (PLAIN: the same groups of 16 rows); nothing else.
 * acts: n_tokens rows of act_bytes(m->act, m->cols) each, contiguous, 64-byte aligned.
 * y: float [n_tokens, y_stride], any alignment.
 * scratch: per thread, matmul_scratch(m, n_tokens) bytes (may be none), 64-byte aligned.
 * Order of one element: PLAIN: float32 lanes l = c mod 16 summed ascending with fused
 * multiply-add, then a fixed tree over the 16 lanes. PANEL float kinds: ascending k, fused, one
 * accumulator. PANEL integer kinds: exact int32 sum of a block (32 or 256 columns), then one fused
 * multiply-add per block (and one for the minimum term) in ascending order; ref/matmul.c has every
 * rounding. All instruction sets give the same bits, but for BF16 where the processor has an
 * instruction for it. NaN or infinity in a token's activations makes all its outputs NaN (integer
 * kinds). */
void matmul(const struct kernels *k, const struct matrix *m, const void *acts, size_t n_tokens,
            uint32_t first, uint32_t n, float *y, size_t y_stride, void *scratch);
size_t matmul_scratch(const struct matrix *m, size_t n_tokens);
/* Panels that one call should have at least where there are many tokens, so that the activations
 * are read less often; fewer are right too, only slower. */
uint32_t matmul_panels(const struct kernels *k);

/* ---- rows ---- (all over float32, fixed order of summation: 16 lanes by index, fixed tree) */
/* out = x / sqrt(mean(x^2) + eps) * (w or 1 + w); out may be x. Mean in double or compensated. */
void rmsnorm(const struct kernels *k, const float *x, const float *w, bool plus_one, float eps, size_t n, float *out);
void add_rows(const struct kernels *k, float *x, const float *y, size_t n); /* x += y */
void scale_row(const struct kernels *k, float *x, float s, size_t n);
/* h = silu(gate) * up; gelu: tanh form 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) * up. h may be gate. */
void silu_mul(const struct kernels *k, const float *gate, const float *up, size_t n, float *h);
void gelu_mul(const struct kernels *k, const float *gate, const float *up, size_t n, float *h);
/* Rotates pairs in place. x: one head [head_dim]; cosine, sine [n_pairs].
 * interleaved false: pairs (i, i + n_pairs) of the first 2 * n_pairs; true: pairs (2i, 2i + 1). */
void rope_apply(const struct kernels *k, float *x, const float *cosine, const float *sine, size_t n_pairs,
                bool interleaved);

/* ---- attention ----
 * All instruction sets give the same bits, but for KV_BF16 and KV_Q8 where the processor has a
 * bfloat16 product: there queries, weights and Q8's values are rounded to bfloat16 and summed in that
 * product's order (x86/attention_avx512bf16.c). THE RULE holds everywhere. */
size_t kv_row_bytes(enum kv_type t, size_t d); /* one head's key or value; Q8: ceil(d/32) f16 scales, then d int8, padded to 4 */
void kv_store(const struct kernels *k, enum kv_type t, const float *x, size_t d, void *dst);
void kv_load(const struct kernels *k, enum kv_type t, const void *src, size_t d, float *x);
/* scores[q * stride + j] = scale * dot(queries[q], key j), keys j = 0..n_keys-1 contiguous rows of
 * kv_row_bytes. dot: 16 lanes by index, fused, fixed tree. Each score is independent of the others.
 * next: the rows that are read after these, as many; they may be asked for from memory meanwhile. May be
 * NULL: nothing is known. It never changes a result. */
void attn_scores(const struct kernels *k, enum kv_type t, const float *q, size_t n_q, size_t d, const void *keys,
                 size_t n_keys, float scale, float *scores, size_t stride, const void *next);
/* In place over one span s[n] (n a multiple of 16; masked entries are -INFINITY): s = exp(s - max).
 * *max gets the maximum (-INFINITY when all are masked: then s = 0, sum = 0), *sum the sum. */
void attn_softmax(const struct kernels *k, float *s, size_t n, float *max, float *sum);
/* acc[q][d] += sum over j ascending of p[q * stride + j] * value j (fused, one accumulator per element).
 * Value 0 belongs to an even position: pairs of positions may be summed together. */
void attn_mix(const struct kernels *k, enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
              const void *values, size_t n_keys, float *acc, const void *next);
/* Merges a span's (max, sum, acc) into the running ones: flash-attention's rule, fixed operations. */
void attn_merge(const struct kernels *k, float *run_max, float *run_sum, float *run_acc, float max, float sum,
                const float *acc, size_t d);

/* ---- logits ---- */
/* Index of the largest of x[n] (the lowest index among equals); *finite is false if any is NaN or inf. */
uint32_t argmax(const struct kernels *k, const float *x, size_t n, bool *finite);

#endif
