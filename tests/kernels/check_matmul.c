/* check_matmul.c - products: packing, activations, every instruction set against the reference.
 *
 * usage: check_matmul [--seed N]            the checks, as TAP; prints its seed
 *        check_matmul --bench [TYPE [TOKENS]] [--isa NAME] [--threads N] [--shape ROWSxCOLS]
 * Checks run over random blocks of every type, odd numbers of rows and columns, 1 to 17 and more
 * tokens, sub-ranges of panels, extremes of levels, scales and activations, with guard numbers
 * around the output. Expected: the reference's bits (BF16: within rounding), and on every
 * instruction set the same bits for a token alone and among others. */
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

#include "kernels/panel.h"
#include "kernels/peak.h"
#include "kernels/table.h"
#include "support.h"

static uint64_t seed = 20261124;
static uint64_t state;

static uint32_t rnd(void) { /* xorshift64*, Vigna 2016 */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 32);
}

static uint32_t below(uint32_t n) {
    return rnd() % n;
}

static float normal(void) { /* sum of four uniform numbers: near enough */
    float s = 0;
    for (int i = 0; i < 4; i++)
        s += (float)(int32_t)rnd() / 2147483648.0f;
    return s;
}

static const enum dtype types[] = {
    DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,   DT_Q5_1, DT_IQ4_NL, DT_Q2_K, DT_Q3_K,
    DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_IQ4_XS, DT_BF16, DT_F16,    DT_F32,
};

static void *need(size_t n) {
    void *p = mem_alloc_aligned(NULL, n ? n : 1, 1);
    if (!p) {
        fprintf(stderr, "out of memory: %zu bytes\n", n);
        exit(1);
    }
    return p;
}

static void drop(void *p) {
    mem_free_aligned(NULL, p);
}

/* ---- tables ---- */

#ifdef HAVE_AMX_KERNELS
/* src/kernels/x86/matmul_amx.c on tests/kernels/amx_model.h */
extern const struct matmul_ops matmul_ops_amx_model;
static const struct kernels amx_model = { ISA_LEVEL_AMX, &matmul_ops_amx_model, NULL, NULL };
#endif

#define TABLES_MAX (ISA_LEVEL_COUNT + 2)

/* Every table that this machine can run, the reference first; also the steps that the best one of
 * its level hides (AVX-512 without the bfloat16 instructions, NEON without extensions), and where
 * AVX-512 is, the products on tiles with a model of the tile instructions. */
static size_t tables(const struct kernels *list[TABLES_MAX]) {
    size_t n = 0;
    for (int level = 0; level < ISA_LEVEL_COUNT; level++)
        if (kernels_at((enum isa)level))
            list[n++] = kernels_at((enum isa)level);
#ifdef HAVE_X86_KERNELS
    static const struct kernels without_bf16 = { ISA_LEVEL_AVX512, &matmul_ops_avx512, NULL, NULL };
    if (kernels_at(ISA_LEVEL_AVX512))
        list[n++] = &without_bf16;
#endif
#ifdef HAVE_AMX_KERNELS
    if (kernels_at(ISA_LEVEL_AVX512))
        list[n++] = &amx_model;
#endif
#ifdef HAVE_ARM_EXTENSIONS
    static const struct kernels plain_neon = { ISA_LEVEL_NEON, &matmul_ops_neon, NULL, NULL },
                                dot = { ISA_LEVEL_NEON, &matmul_ops_neon_dot, NULL, NULL };
    const struct matmul_ops *best = kernels_at(ISA_LEVEL_NEON)->matmul;
    if (best != &matmul_ops_neon)
        list[n++] = &plain_neon;
    if (best == &matmul_ops_neon_bf16)
        list[n++] = &dot;
#endif
    return n;
}

/* Whether its bfloat16 products have an order of their own. */
static bool own_bf16(const struct kernels *k) {
    if (k->isa == ISA_LEVEL_AMX)
        return true;
#ifdef HAVE_X86_KERNELS
    return k->matmul == &matmul_ops_avx512bf16;
#else
    (void)k;
    return false;
#endif
}

/* ---- inputs ---- */

enum flavour { ORDINARY, ZERO_SCALES, LARGE_SCALES, LOWEST, HIGHEST, FLAVOURS };

static uint16_t some_scale(enum flavour f) {
    if (f == ZERO_SCALES)
        return 0;
    if (f == LARGE_SCALES)
        return below(2) ? 0x7BFF : 0xFBFF; /* +-65504 */
    return f32_to_f16(normal() * 0.02f);
}

/* One block with every bit random, but scales that give finite sums. */
static void fill_block(enum dtype t, enum flavour f, uint8_t *block) {
    struct levels l;
    size_t n = dtype_info(t)->block_bytes;
    for (size_t i = 0; i < n; i++)
        block[i] = (uint8_t)(f == LOWEST ? 0 : f == HIGHEST ? 255 : rnd() >> 24);
    levels_read(t, block, &l);
    l.d = some_scale(f);
    l.m = some_scale(f);
    levels_write(t, &l, block);
}

static uint8_t *make_weights(enum dtype t, enum flavour f, uint32_t rows, uint32_t cols,
                             struct matrix *m) {
    size_t row, size;
    assert_true(dtype_row_bytes(t, cols, &row));
    size = row * rows;
    uint8_t *data = need(size);
    for (size_t i = 0; i < size;) {
        if (panel_kind(t)) {
            fill_block(t, f, data + i);
            i += dtype_info(t)->block_bytes;
            continue;
        }
        float v = normal() * (f == LARGE_SCALES ? 30000.0f : f == ZERO_SCALES ? 0.0f : 0.1f);
        uint16_t half = t == DT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
        memcpy(data + i, t == DT_F32 ? (const void *)&v : (const void *)&half, t == DT_F32 ? 4 : 2);
        i += t == DT_F32 ? 4 : 2;
    }
    assert_true(matrix_plain(m, t, rows, cols, data));
    return data;
}

static uint8_t *make_panels(const struct kernels *k, const struct matrix *plain, struct matrix *m) {
    assert_true(matrix_panel(k, m, plain->dtype, plain->rows, plain->cols));
    uint8_t *data = need(matrix_bytes(m));
    memset(data, 0xA5, matrix_bytes(m)); /* packing must write every byte */
    matrix_pack(k, plain, m, data, 0, matrix_panels(m), NULL);
    m->data = data;
    return data;
}

static void fill_acts(float *x, uint32_t cols, unsigned kind) {
    for (uint32_t c = 0; c < cols; c++)
        switch (kind % 6) {
        case 0:
            x[c] = 1.0f;
            break;
        case 1:
            x[c] = -1.0f;
            break;
        case 2:
            x[c] = c % 2 ? 3e20f : -3e20f;
            break;
        case 3:
            x[c] = c / 64 % 2 ? 0.0f : normal();
            break;
        default:
            x[c] = normal() * (below(50) ? 1.0f : 40.0f);
            break;
        }
}

static uint8_t *make_acts(const struct kernels *k, enum act a, const float *x, size_t n,
                          uint32_t cols) {
    size_t size = act_bytes(a, cols);
    uint8_t *acts = need(n * size);
    memset(acts, 0x5A, n * size);
    for (size_t t = 0; t < n; t++)
        act_prepare(k, a, x + t * cols, cols, acts + t * size);
    return acts;
}

/* ---- packing ---- */

/* Random bytes, whatever number they mean: both layouts must give the same float32 bits. */
static void test_pack_round_trip(void **unused) {
    (void)unused;
    const struct kernels *k = kernels_at(ISA_LEVEL_REF);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        enum dtype t = types[i];
        uint32_t block = dtype_info(t)->block, rows = 37, cols = block == 1 ? 51 : 3 * block;
        uint32_t map[37];
        struct matrix plain, panel;
        uint8_t *data = make_weights(t, ORDINARY, rows, cols, &plain);
        if (t == DT_Q8_0 || panel_kind(t))
            for (size_t b = 0; b < plain.row_bytes * rows; b++)
                data[b] = (uint8_t)(rnd() >> 24);
        uint8_t *packed = make_panels(k, &plain, &panel);
        assert_int_equal((uintptr_t)panel.panel_bytes % 64, 0);
        float *a = need(cols * sizeof *a), *b = need(cols * sizeof *b);
        for (uint32_t r = 0; r < rows; r++) {
            matrix_row(k, &plain, r, a);
            matrix_row(k, &panel, r, b);
            assert_memory_equal(a, b, cols * sizeof *a);
            map[r] = (r * 11 + 5) % rows;
        }
        matrix_pack(k, &plain, &panel, packed, 0, matrix_panels(&panel), map);
        for (uint32_t r = 0; r < rows; r++) {
            matrix_row(k, &plain, map[r], a);
            matrix_row(k, &panel, r, b);
            assert_memory_equal(a, b, cols * sizeof *a);
        }
        drop(a);
        drop(b);
        drop(packed);
        drop(data);
    }
}

/* Bytes per weight stay within 3 % of the file's. */
static void test_panel_sizes(void **unused) {
    (void)unused;
    const struct kernels *k = kernels_at(ISA_LEVEL_REF);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct matrix plain, panel;
        assert_true(matrix_plain(&plain, types[i], 1024, 2560, NULL));
        assert_true(matrix_panel(k, &panel, types[i], 1024, 2560));
        assert_true(matrix_bytes(&panel) <= matrix_bytes(&plain) / 100 * 103);
        assert_int_equal(matrix_panels(&panel), 64);
    }
}

static void test_refusals(void **unused) {
    (void)unused;
    const struct kernels *k = kernels_at(ISA_LEVEL_REF);
    struct matrix m;
    assert_false(matrix_plain(&m, DT_Q8_0, 4, 33, NULL));
    assert_false(matrix_panel(k, &m, DT_Q8_0, 4, 33));
    assert_false(matrix_panel(k, &m, DT_Q4_K, 4, 128));
    assert_false(matrix_panel(k, &m, DT_Q4_K, 0, 256));
    assert_false(matrix_panel(k, &m, DT_F32, 4, 0));
    assert_false(matrix_panel(k, &m, DT_F32, UINT32_MAX, 256));
    assert_false(matrix_can_pack(k, (enum dtype)9, 16, 256)); /* Q8_1 */
    assert_true(matrix_can_pack(k, DT_Q6_K, 1, 256));
}

/* ---- activations ---- */

static void check_acts(const struct kernels *k, const float *x, uint32_t cols) {
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    for (int a = 0; a < ACT_COUNT; a++) {
        if ((a == ACT_Q8_32 && cols % 32) || (a == ACT_Q8_256 && cols % 256))
            continue;
        uint8_t *want = make_acts(ref, (enum act)a, x, 1, cols);
        uint8_t *got = make_acts(k, (enum act)a, x, 1, cols);
        assert_memory_equal(want, got, act_bytes((enum act)a, cols));
        drop(want);
        drop(got);
    }
}

static void test_acts(void **unused) {
    (void)unused;
    static const float special[] = { 0.0f,     -0.0f, 1e-38f, 1e-45f, 9e-31f, 1.1e-30f, 3.4e38f,
                                     -3.4e38f, 0.5f,  1.5f,   2.5f,   126.5f, 127.0f,   -127.0f };
    const struct kernels *list[TABLES_MAX];
    size_t n_tables = tables(list);
    for (size_t i = 1; i < n_tables; i++) {
        for (int round = 0; round < 200; round++) {
            uint32_t cols = round % 3 == 0   ? 1 + below(300)
                            : round % 3 == 1 ? 32 * (1 + below(9))
                                             : 512;
            float x[512];
            for (uint32_t c = 0; c < cols; c++)
                x[c] = round % 4 == 0   ? special[below(ARRAY_LEN(special))]
                       : round % 4 == 1 ? special[below(5)]
                                        : normal() * 100.0f;
            if (round % 5 == 0)
                x[below(cols)] = below(2) ? (below(2) ? INFINITY : -INFINITY) : NAN;
            check_acts(list[i], x, cols);
        }
    }
}

static void test_act_rule(void **unused) {
    (void)unused;
    float x[256] = { 0 };
    _Alignas(64) uint8_t dst[512];
    x[0] = -254.0f;
    x[1] = 3.0f; /* 1.5 -> 2: ties to even */
    x[2] = 5.0f; /* 2.5 -> 2 */
    x[40] = 1.0f;
    act_prepare(kernels_pick(ISA_LEVEL_COUNT), ACT_Q8_256, x, 256, dst);
    const struct act_256 *a = (const void *)dst;
    assert_int_equal(a->q[0], -127);
    assert_int_equal(a->q[1], 2);
    assert_int_equal(a->q[2], 2);
    assert_int_equal(a->nsum[0], 123);
    assert_int_equal(a->nsum_32[0], 123);
    assert_true(a->d == 2.0f);
    act_prepare(kernels_pick(ISA_LEVEL_COUNT), ACT_Q8_32, x, 64, dst);
    const struct act_32 *b = (const void *)dst;
    assert_int_equal(b[0].nsum, 123);
    assert_true(b[0].dsum == -246.0f);
    assert_int_equal(b[1].q[8], 127);
}

/* ---- products ---- */

#define GUARD 8
static const float guard_value = 1234.5f;

/* y with guards before, after and beyond the rows of every token; any stride, so not aligned. */
struct output {
    float *all, *y;
    size_t stride, n;
};

static struct output output_new(uint32_t rows, size_t n_tokens) {
    struct output o = { .stride = rows + GUARD, .n = GUARD + n_tokens * (rows + GUARD) };
    o.all = need(o.n * sizeof(float));
    for (size_t i = 0; i < o.n; i++)
        o.all[i] = guard_value;
    o.y = o.all + GUARD;
    return o;
}

static void assert_guards(const struct output *o, uint32_t rows, size_t n_tokens, uint32_t from,
                          uint32_t to) {
    for (size_t i = 0; i < GUARD; i++)
        assert_true(o->all[i] == guard_value);
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t r = 0; r < o->stride; r++)
            if (r >= rows || r < from || r >= to)
                assert_true(o->y[t * o->stride + r] == guard_value);
}

static bool same_bits(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* Sum of w * x and of |w * x| in double over what the product really sees of the activations. */
static double truth(const struct matrix *m, const float *w, const uint8_t *acts,
                    double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (uint32_t c = 0; c < m->cols; c++) {
        double x;
        if (m->act == ACT_F32)
            x = ((const float *)(const void *)acts)[c];
        else if (m->act == ACT_BF16)
            x = bf16_to_f32(((const uint16_t *)(const void *)acts)[c]);
        else if (m->act == ACT_Q8_32) {
            const struct act_32 *a = (const struct act_32 *)(const void *)acts + c / 32;
            x = (double)a->q[c % 32] * a->d;
        } else {
            const struct act_256 *a = (const struct act_256 *)(const void *)acts + c / 256;
            x = (double)a->q[c % 256] * a->d;
        }
        sum += w[c] * x;
        *magnitude += fabs(w[c] * x);
    }
    return sum;
}

/* The reference against the definition, in double, with what float32 sums may lose. Types with
 * minima subtract two large parts, whose size the factor allows for. */
static void assert_truth(const struct matrix *m, const uint8_t *acts, size_t n_tokens,
                         const struct output *o) {
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    float *w = need(m->cols * sizeof *w);
    size_t act_size = act_bytes(m->act, m->cols);
    for (uint32_t r = 0; r < m->rows; r++) {
        matrix_row(ref, m, r, w);
        for (size_t t = 0; t < n_tokens; t++) {
            double size, want = truth(m, w, acts + t * act_size, &size);
            double got = o->y[t * o->stride + r];
            if (isfinite(want) && size < 1e37)
                assert_true(fabs(got - want) <= 3e-5 * size + 1e-30);
        }
    }
    drop(w);
}

/* One matrix, all instruction sets. */
static void check_product(const struct matrix *m, const float *x, size_t n_tokens) {
    const struct kernels *list[TABLES_MAX], *ref = kernels_at(ISA_LEVEL_REF);
    size_t n_tables = tables(list);
    uint8_t *acts = make_acts(ref, m->act, x, n_tokens, m->cols);
    void *scratch = need(matmul_scratch(m, n_tokens));
    uint32_t panels = matrix_panels(m);
    struct output want = output_new(m->rows, n_tokens);
    matmul(ref, m, acts, n_tokens, 0, panels, want.y, want.stride, scratch);
    assert_guards(&want, m->rows, n_tokens, 0, m->rows);
    assert_truth(m, acts, n_tokens, &want);
    for (size_t i = 1; i < n_tables; i++) {
        const struct kernels *k = list[i];
        bool exact = m->act != ACT_BF16 || !own_bf16(k);
        struct output got = output_new(m->rows, n_tokens), part = output_new(m->rows, n_tokens);
        matmul(k, m, acts, n_tokens, 0, panels, got.y, got.stride, scratch);
        assert_guards(&got, m->rows, n_tokens, 0, m->rows);
        for (size_t t = 0; t < n_tokens; t++)
            for (uint32_t r = 0; r < m->rows; r++) {
                float a = want.y[t * want.stride + r], b = got.y[t * got.stride + r];
                bool good = exact ? same_bits(a, b)
                                  : fabsf(a - b) <= 1e-3f * (1 + fabsf(a)) || a == b ||
                                        (!isfinite(a) && !isfinite(b));
                if (!good)
                    fail_msg("%s %s %ux%u token %zu of %zu row %u: want %a, got %a",
                             isa_name(k->isa), dtype_info(m->dtype)->name, m->rows, m->cols, t,
                             n_tokens, r, (double)a, (double)b);
            }
        /* the same in another cut: one token at a time, one sub-range of panels */
        uint32_t first = below(panels), n = 1 + below(panels - first);
        for (size_t t = 0; t < n_tokens; t++)
            matmul(k, m, acts + t * act_bytes(m->act, m->cols), 1, first, n,
                   part.y + t * part.stride, part.stride, scratch);
        uint32_t from = first * PANEL_ROWS, to = (first + n) * PANEL_ROWS;
        assert_guards(&part, m->rows, n_tokens, from, to);
        for (size_t t = 0; t < n_tokens; t++)
            for (uint32_t r = from; r < to && r < m->rows; r++)
                assert_true(same_bits(part.y[t * part.stride + r], got.y[t * got.stride + r]));
        drop(got.all);
        drop(part.all);
    }
    drop(want.all);
    drop(scratch);
    drop(acts);
}

static void check_type(enum dtype t, enum flavour f, uint32_t rows, uint32_t cols, size_t n_tokens,
                       bool packed) {
    struct matrix plain, panel;
    uint8_t *data = make_weights(t, f, rows, cols, &plain), *panels = NULL;
    float *x = need(n_tokens * cols * sizeof *x);
    for (size_t i = 0; i < n_tokens; i++)
        fill_acts(x + i * cols, cols, f == ORDINARY ? 5 : below(6));
    if (packed)
        panels = make_panels(kernels_at(ISA_LEVEL_REF), &plain, &panel);
    check_product(packed ? &panel : &plain, x, n_tokens);
    drop(panels);
    drop(x);
    drop(data);
}

static void test_products(void **unused) {
    (void)unused;
    static const uint32_t some_rows[] = { 1, 15, 16, 17, 33, 70 };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (size_t n_tokens = 1; n_tokens <= 18; n_tokens++) {
            enum dtype t = types[i];
            uint32_t block = dtype_info(t)->block;
            uint32_t cols = block == 1 ? 1 + below(200) : block * (1 + below(block == 32 ? 9 : 3));
            check_type(t, ORDINARY, some_rows[below(6)], cols, n_tokens == 18 ? 61 : n_tokens,
                       true);
        }
}

/* Beyond every block of panels, tokens and columns that a kernel may work in. */
static void test_large(void **unused) {
    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        enum dtype t = types[i];
        uint32_t block = dtype_info(t)->block;
        uint32_t cols = block == 1 ? 587 : block == 32 ? 19 * 32 : 3 * 256;
        check_type(t, ORDINARY, 71, cols, 32 + below(17), true);
        check_type(t, ORDINARY, 16 * 19 + 1 + below(15), cols, 24 + below(9), true);
    }
    check_type(DT_Q8_0, ORDINARY, 40, 96, 541, true);
    check_type(DT_Q4_K, ORDINARY, 40, 256, 541, true);
    check_type(DT_BF16, ORDINARY, 40, 300, 541, true);
}

static void test_extremes(void **unused) {
    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (int f = ORDINARY + 1; f < FLAVOURS; f++)
            for (size_t n_tokens = 1; n_tokens <= 10; n_tokens += 3) {
                uint32_t block = dtype_info(types[i])->block;
                check_type(types[i], (enum flavour)f, 35, block == 1 ? 77 : 3 * block, n_tokens,
                           true);
            }
}

static void test_plain(void **unused) {
    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        for (size_t n_tokens = 1; n_tokens <= 9; n_tokens += 2) {
            uint32_t block = dtype_info(types[i])->block;
            check_type(types[i], ORDINARY, 1 + below(40), block == 1 ? 1 + below(90) : block,
                       n_tokens, false);
        }
}

/* NaN among the activations must be seen in every output of that token, and only of that token. */
static void test_fault_spreads(void **unused) {
    (void)unused;
    const struct kernels *list[TABLES_MAX];
    size_t n_tables = tables(list);
    for (size_t table = 0; table < n_tables; table++)
        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
            const struct kernels *k = list[table];
            struct matrix plain, panel;
            uint8_t *data = make_weights(types[i], ORDINARY, 16, 512, &plain);
            uint8_t *panels = make_panels(k, &plain, &panel);
            float x[2 * 512], y[2 * 16];
            for (size_t c = 0; c < 1024; c++)
                x[c] = normal();
            x[100] = NAN;
            uint8_t *acts = make_acts(k, panel.act, x, 2, 512);
            matmul(k, &panel, acts, 2, 0, 1, y, 16, NULL);
            for (size_t r = 0; r < 16; r++)
                assert_true(isnan(y[r]) && isfinite(y[16 + r]));
            drop(acts);
            drop(panels);
            drop(data);
        }
}

static void test_ladder(void **unused) {
    (void)unused;
    assert_int_equal(kernels_isa(kernels_pick(ISA_LEVEL_REF)), ISA_LEVEL_REF);
    assert_non_null(kernels_at(ISA_LEVEL_REF));
    for (int level = 0; level < ISA_LEVEL_COUNT; level++) {
        assert_int_equal(isa_by_name(isa_name((enum isa)level)), level);
        const struct kernels *k = kernels_pick((enum isa)level);
        assert_non_null(k);
        assert_true(kernels_isa(k) <= (enum isa)level);
        if (kernels_at((enum isa)level))
            assert_true(kernels_isa(kernels_at((enum isa)level)) == (enum isa)level);
    }
    assert_int_equal(isa_by_name("sse9"), -1);
    print_message("# best: %s\n", isa_name(kernels_isa(kernels_pick(ISA_LEVEL_COUNT))));
}

/* ---- bench ---- */

struct job {
    const struct kernels *k;
    const struct matrix *m;
    const uint8_t *acts;
    size_t n_tokens;
    float *y;
    uint8_t *scratch; /* [threads] pieces */
    struct ticket ticket;
};

#define STEP 8 /* panels per ticket */

static void job_run(void *arg, unsigned index, unsigned count) {
    struct job *j = arg;
    (void)count;
    uint32_t panels = matrix_panels(j->m);
    void *scratch = j->scratch + index * ((matmul_scratch(j->m, j->n_tokens) + 63) / 64 * 64);
    for (;;) {
        uint32_t p = ticket_take(&j->ticket, 1) * STEP;
        if (p >= panels)
            return;
        matmul(j->k, j->m, j->acts, j->n_tokens, p, panels - p < STEP ? panels - p : STEP, j->y,
               j->m->rows, scratch);
    }
}

static double bench_one(struct job *j, struct pool *pool) {
    double best = 1e30, ops = 2.0 * j->m->rows * j->m->cols * (double)j->n_tokens;
    int runs = ops > 2e10 ? 3 : 7;
    for (int i = 0; i < runs; i++) {
        atomic_store(&j->ticket.next, 0);
        uint64_t from = clock_ns();
        pool_run(pool, job_run, j);
        double s = (double)(clock_ns() - from) * 1e-9;
        best = s < best ? s : best;
    }
    return best;
}

/* Panels of a random matrix: 16 rows are made, every panel is a copy. */
static uint8_t *bench_panels(const struct kernels *k, enum dtype t, uint32_t rows, uint32_t cols,
                             struct matrix *m) {
    struct matrix plain, one;
    uint8_t *data = make_weights(t, ORDINARY, PANEL_ROWS, cols, &plain),
            *first = make_panels(k, &plain, &one);
    matrix_panel(k, m, t, rows, cols);
    uint8_t *all = need(matrix_bytes(m));
    for (uint32_t p = 0; p < matrix_panels(m); p++)
        memcpy(all + p * m->panel_bytes, first, m->panel_bytes);
    m->data = all;
    drop(first);
    drop(data);
    return all;
}

static void bench_shape(const struct kernels *k, struct pool *pool, enum dtype t, uint32_t rows,
                        uint32_t cols, size_t only, const struct peak *peak) {
    static const size_t tokens[] = { 1, 2, 4, 8, 16, 64, 512 };
    struct matrix m;
    uint8_t *panels = bench_panels(k, t, rows, cols, &m);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        size_t n = tokens[i];
        if ((only && n != only) || (double)rows * cols * (double)n > 3e10)
            continue;
        float *x = need(n * cols * sizeof *x);
        for (size_t c = 0; c < n * cols; c++)
            x[c] = normal();
        struct job j = { k,
                         &m,
                         make_acts(k, m.act, x, n, cols),
                         n,
                         need(n * rows * sizeof(float)),
                         need(pool_size(pool) * (matmul_scratch(&m, n) + 64)),
                         { 0 } };
        double s = bench_one(&j, pool);
        double ops = 2.0 * rows * cols * (double)n / s, bytes = (double)matrix_bytes(&m) / s;
        double limit = m.act == ACT_F32    ? peak->f32_ops_s
                       : m.act == ACT_BF16 ? peak->bf16_ops_s
                                           : peak->int8_ops_s;
        printf("%-7s %6u x %-5u T %-4zu %8.1f GOP/s %5.1f %%   %6.2f GB/s %5.1f %%\n",
               dtype_info(t)->name, rows, cols, n, ops * 1e-9, 100 * ops / limit, bytes * 1e-9,
               100 * bytes / peak->read_bytes_s);
        fflush(stdout);
        drop((void *)(uintptr_t)j.acts);
        drop(j.y);
        drop(j.scratch);
        drop(x);
    }
    drop(panels);
}

static int bench(int argc, char **argv) {
    static const uint32_t shapes[][2] = {
        { 3072, 1024 }, { 9728, 2560 }, { 2560, 9728 }, { 151936, 1024 }
    };
    unsigned threads = 2, rows = 0, cols = 0;
    size_t only = 0;
    int type = -1, isa = ISA_LEVEL_COUNT;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            isa = isa_by_name(argv[++i]);
        else if (strcmp(argv[i], "--shape") == 0 && i + 1 < argc &&
                 sscanf(argv[i + 1], "%ux%u", &rows, &cols) == 2)
            i++;
        else if (type < 0)
            type = dtype_by_name(argv[i]);
        else
            only = (size_t)atol(argv[i]);
    }
    const struct kernels *k = kernels_pick((enum isa)isa);
    struct pool *pool;
    struct peak peak;
    if (pool_new(NULL, threads, &pool, NULL) != SLM_OK)
        return 1;
    if (peak_measure(k, NULL, pool, 256u << 20, true, &peak, NULL) != SLM_OK)
        return 1;
    printf("%s, %u threads: read %.1f GB/s, int8 %.0f, bf16 %.0f, f32 %.0f GOP/s\n",
           isa_name(kernels_isa(k)), threads, peak.read_bytes_s * 1e-9, peak.int8_ops_s * 1e-9,
           peak.bf16_ops_s * 1e-9, peak.f32_ops_s * 1e-9);
    for (size_t i = 0; i < ARRAY_LEN(types) && rows > 0; i++)
        if (type < 0 || (int)types[i] == type)
            bench_shape(k, pool, types[i], rows, cols, only, &peak);
    for (size_t i = 0; i < ARRAY_LEN(types) && rows == 0; i++)
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
            if ((type < 0 ? s == 1 : (int)types[i] == type))
                bench_shape(k, pool, types[i], shapes[s][0], shapes[s][1], only, &peak);
    pool_free(pool);
    return 0;
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ladder),      cmocka_unit_test(test_pack_round_trip),
        cmocka_unit_test(test_panel_sizes), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_acts),        cmocka_unit_test(test_act_rule),
        cmocka_unit_test(test_products),    cmocka_unit_test(test_large),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_fault_spreads),
    };
    if (argc > 2 && strcmp(argv[1], "--seed") == 0)
        seed = strtoull(argv[2], NULL, 0);
    state = seed | 1;
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc, argv);
    printf("# seed %" PRIu64 "\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
