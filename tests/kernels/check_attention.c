/* check_attention.c - cache rows and attention over spans: accuracy of the reference, every
 * instruction set against it, independence of how much is computed at once.
 *
 * usage: check_attention [--seed N]    the checks; prints its seed
 *        check_attention --bench [KV [D]]  rates on every instruction set
 * The reference is held against float64; the others against the reference, bit for bit, on odd
 * sizes and addresses, masked and infinite values, with guard bytes around the outputs. Where an
 * instruction set multiplies rows as bfloat16 (kernels.h), within that rounding instead, and the
 * results of everything at once against those of one query and one key or pair at a time. */
#include "checking.h"
#include "kernels/table.h"

static const char *const kv_names[KV_COUNT] = { "f32", "f16", "bf16", "q8" };
static const size_t head_sizes[] = { 1,  5,  8,  15, 16,  17,  24,  32,  40,
                                     64, 72, 80, 96, 100, 128, 256, 320, 1040 };

/* n rows of d random values, stored with the reference, at an odd address */
static struct guarded stored_rows(enum kv_type t, size_t n, size_t d, enum flavour f) {
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    size_t row = kv_row_bytes(t, d);
    struct guarded g = guarded_new(n * row, 2 * below(32));
    float *x = malloc(4 * d + 4);
    if (!x)
        exit(1);
    for (size_t j = 0; j < n; j++) {
        fill(x, d, f);
        kv_store(ref, t, x, d, g.data + j * row);
    }
    free(x);
    return g;
}

static struct guarded floats(size_t n, enum flavour f) {
    struct guarded g = guarded_new(4 * n, 4 * below(16));
    fill((float *)(void *)g.data, n, f);
    return g;
}
static float *at(const struct guarded *g) {
    return (float *)(void *)g->data;
}

/* ---- rows ---- */

static void test_row_accuracy(void **state) {
    (void)state;
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    assert_int_equal(kv_row_bytes(KV_F32, 5), 20);
    assert_int_equal(kv_row_bytes(KV_F16, 5), 10);
    assert_int_equal(kv_row_bytes(KV_Q8, 5), 8); /* 2 + 5, padded */
    assert_int_equal(kv_row_bytes(KV_Q8, 128), 136);
    assert_int_equal(kv_row_bytes(KV_Q8, 33), 40);
    for (unsigned t = 0; t < KV_COUNT; t++) {
        static const double relative[KV_COUNT] = { 0, 1.0 / 2048, 1.0 / 256, 0 };
        float x[100], y[100];
        uint8_t row[400];
        fill(x, 100, NORMAL);
        kv_store(ref, (enum kv_type)t, x, 100, row);
        kv_load(ref, (enum kv_type)t, row, 100, y);
        for (size_t i = 0; i < 100; i++) {
            double bound = relative[t] * fabs((double)x[i]);
            for (size_t g = i / 32 * 32; t == KV_Q8 && g < 100 && g < i / 32 * 32 + 32; g++)
                bound = fmax(bound, fabs((double)x[g]) / 127 * 0.501);
            assert_true(fabs((double)x[i] - (double)y[i]) <= bound);
        }
        x[40] = NAN; /* must not turn into a number */
        x[50] = INFINITY;
        kv_store(ref, (enum kv_type)t, x, 100, row);
        kv_load(ref, (enum kv_type)t, row, 100, y);
        assert_true(!isfinite(y[40]));
        assert_true(!isfinite(y[50]));
        assert_true(isfinite(y[0]) && isfinite(y[99]));
    }
}

static void compare_rows(const struct kernels *ref, const struct kernels *k) {
    for (size_t d = 0; d < 140; d++) {
        for (unsigned t = 0; t < KV_COUNT; t++) {
            for (unsigned f = 0; f < FLAVOURS; f++) {
                size_t bytes = kv_row_bytes((enum kv_type)t, d);
                struct guarded x = floats(d, (enum flavour)f),
                               back = guarded_new(4 * d, 4 * below(16));
                struct guarded want = guarded_new(bytes, 0),
                               got = guarded_new(bytes, 1 + below(60));
                float loaded[140];
                kv_store(ref, (enum kv_type)t, at(&x), d, want.data);
                kv_store(k, (enum kv_type)t, at(&x), d, got.data);
                if (f != ODD) /* the payload of a NaN may differ */
                    assert_memory_equal(want.data, got.data, bytes);
                guarded_check(&got, "kv_store");
                kv_load(ref, (enum kv_type)t, want.data, d, loaded);
                kv_load(k, (enum kv_type)t, got.data, d, at(&back));
                same_floats(loaded, at(&back), d, "kv_load");
                guarded_check(&back, "kv_load");
                guarded_free(&x);
                guarded_free(&back);
                guarded_free(&want);
                guarded_free(&got);
            }
        }
    }
}
static void test_rows(void **state) {
    (void)state;
    each_isa(compare_rows);
}

/* Every f16 and every bf16. */
static void compare_halves(const struct kernels *ref, const struct kernels *k) {
    static uint16_t h[65536], back[65536];
    static float want[65536], got[65536];
    for (size_t i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    for (int t = KV_F16; t <= KV_BF16; t++) {
        kv_load(ref, (enum kv_type)t, h, 65536, want);
        kv_load(k, (enum kv_type)t, h, 65536, got);
        same_floats(want, got, 65536, kv_names[t]);
        kv_store(k, (enum kv_type)t, got, 65536, back);
        for (size_t i = 0; i < 65536; i++)
            assert_true(back[i] == h[i] || isnan(want[i]));
    }
}
static void test_halves(void **state) {
    (void)state;
    each_isa(compare_halves);
}

/* ---- rounding of their own ---- */

/* Whether k rounds queries and weights to bfloat16 for this type of rows. */
static bool own_bf16(const struct kernels *k, enum kv_type t) {
#ifdef HAVE_X86_KERNELS
    return k->attention == &attention_ops_avx512bf16 && (t == KV_BF16 || t == KV_Q8);
#else
    (void)k;
    (void)t;
    return false;
#endif
}

/* The AVX-512 step without bfloat16 instructions, which processors like this one never take. */
static void each_isa_and_step(void (*fn)(const struct kernels *ref, const struct kernels *k)) {
    each_isa(fn);
#ifdef HAVE_X86_KERNELS
    static const struct kernels without_bf16 = { ISA_LEVEL_AVX512, NULL, NULL,
                                                 &attention_ops_avx512 };
    if (kernels_at(ISA_LEVEL_AVX512))
        fn(kernels_at(ISA_LEVEL_REF), &without_bf16);
#endif
}

/* A sum of products |a| |b| = size whose factors were rounded to bfloat16 (two of them for Q8): twice
 * 2^-9 each, and float32 sums. */
static void near_floats(const float *want, const float *got, const double *size, size_t n,
                        const char *what) {
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(want[i]) && !isfinite(got[i]))
            continue;
        double off = fabs((double)want[i] - (double)got[i]);
        if (!(off <= size[i] * 4.1 / 512 + 1e-30))
            fail_msg("%s: element %zu of %zu is %a, reference %a, off by %g of %g", what, i, n,
                     (double)got[i], (double)want[i], off, size[i]);
    }
}

/* ---- scores ---- */

/* Sizes of the scores: scale * sum of |q| |k|; 0 in the gaps, which nobody may touch. */
static void score_sizes(enum kv_type t, const float *q, size_t n_q, size_t d, const uint8_t *keys,
                        size_t n_keys, double scale, double *size, size_t stride) {
    static float key[1100];
    memset(size, 0, n_q * stride * sizeof *size);
    for (size_t j = 0; j < n_keys; j++) {
        kv_load(kernels_at(ISA_LEVEL_REF), t, keys + j * kv_row_bytes(t, d), d, key);
        for (size_t r = 0; r < n_q; r++)
            for (size_t i = 0; i < d; i++)
                size[r * stride + j] += scale * fabs((double)q[r * d + i] * (double)key[i]);
    }
}

/* Scores of one query and one key at a time. */
static void scores_alone(const struct kernels *k, enum kv_type t, const float *q, size_t n_q,
                         size_t d, const uint8_t *keys, size_t n_keys, float scale, float *scores,
                         size_t stride) {
    for (size_t r = 0; r < n_q; r++)
        for (size_t j = 0; j < n_keys; j++)
            attn_scores(k, t, q + r * d, 1, d, keys + j * kv_row_bytes(t, d), 1, scale,
                        scores + r * stride + j, 1, NULL);
}

static void compare_scores(const struct kernels *ref, const struct kernels *k) {
    static const size_t counts[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17 };
    for (size_t s = 0; s < ARRAY_LEN(head_sizes); s++) {
        for (unsigned t = 0; t < KV_COUNT; t++) {
            for (unsigned round = 0; round < ARRAY_LEN(counts); round++) {
                size_t d = head_sizes[s], n_q = counts[round],
                       n_keys = below(40) + (round == 0 ? 217 : 0);
                size_t stride = n_keys + below(20);
                enum flavour f = (enum flavour)(below(3) ? NORMAL : below(FLAVOURS));
                struct guarded q = floats(n_q * d, f),
                               keys = stored_rows((enum kv_type)t, n_keys, d, f);
                struct guarded want = guarded_new(4 * n_q * stride, 0),
                               got = guarded_new(4 * n_q * stride, 4 * below(16));
                attn_scores(ref, (enum kv_type)t, at(&q), n_q, d, keys.data, n_keys, 0.125f,
                            at(&want), stride, NULL);
                attn_scores(k, (enum kv_type)t, at(&q), n_q, d, keys.data, n_keys, 0.125f, at(&got),
                            stride, NULL);
                if (own_bf16(k, (enum kv_type)t)) {
                    static double size[17 * 300];
                    score_sizes((enum kv_type)t, at(&q), n_q, d, keys.data, n_keys, 0.125, size,
                                stride);
                    if (f == NORMAL || f == ZEROS)
                        near_floats(at(&want), at(&got), size, n_q * stride, "attn_scores");
                    scores_alone(k, (enum kv_type)t, at(&q), n_q, d, keys.data, n_keys, 0.125f,
                                 at(&want), stride);
                }
                same_floats(at(&want), at(&got), n_q * stride,
                            "attn_scores"); /* the gaps stay too */
                guarded_check(&got, "attn_scores");
                guarded_free(&q);
                guarded_free(&keys);
                guarded_free(&want);
                guarded_free(&got);
            }
        }
    }
}
static void test_scores(void **state) {
    (void)state;
    each_isa_and_step(compare_scores);
}

/* ---- softmax ---- */

static void compare_softmax(const struct kernels *ref, const struct kernels *k) {
    for (unsigned round = 0; round < 200; round++) {
        size_t n = 16 * (1 + below(16));
        struct guarded want = floats(n, (enum flavour)(round % FLAVOURS)),
                       got = guarded_new(4 * n, 4 * below(16));
        float max[2], sum[2];
        size_t masked = round % 7 == 0 ? n : below((uint32_t)n);
        for (size_t i = n - masked; i < n; i++)
            at(&want)[i] = -INFINITY;
        memcpy(got.data, want.data, 4 * n);
        attn_softmax(ref, at(&want), n, &max[0], &sum[0]);
        attn_softmax(k, at(&got), n, &max[1], &sum[1]);
        same_floats(at(&want), at(&got), n, "attn_softmax");
        same_floats(&max[0], &max[1], 1, "attn_softmax max");
        same_floats(&sum[0], &sum[1], 1, "attn_softmax sum");
        guarded_check(&got, "attn_softmax");
        guarded_free(&want);
        guarded_free(&got);
    }
}
static void test_softmax(void **state) {
    (void)state;
    each_isa(compare_softmax);
}

/* On every instruction set: a span that is masked whole, and one of equal scores. */
static void test_softmax_edges(void **state) {
    (void)state;
    for (int level = 0; level < ISA_LEVEL_COUNT; level++) {
        const struct kernels *k = kernels_at((enum isa)level);
        float s[32], max, sum;
        if (!k)
            continue;
        for (size_t i = 0; i < 32; i++)
            s[i] = -INFINITY;
        attn_softmax(k, s, 32, &max, &sum);
        assert_true(max == -INFINITY && sum == 0.0f);
        for (size_t i = 0; i < 32; i++) {
            assert_true(s[i] == 0.0f);
            s[i] = 1e30f;
        }
        attn_softmax(k, s, 32, &max, &sum);
        assert_true(max == 1e30f && sum == 32.0f && s[31] == 1.0f);
        s[3] = NAN;
        attn_softmax(k, s, 32, &max, &sum);
        assert_true(isnan(sum) && isnan(s[3]));
        float run_max = -INFINITY, run_sum = 0, run[2] = { NAN, NAN }, acc[2] = { 0, 0 };
        attn_merge(k, &run_max, &run_sum, run, -INFINITY, 0, acc, 2); /* nothing and nothing */
        assert_true(run_max == -INFINITY && run_sum == 0.0f);
        acc[0] = 3;
        attn_merge(k, &run_max, &run_sum, run, 2.0f, 1.5f, acc, 2); /* the first: taken as it is */
        assert_true(run_max == 2.0f && run_sum == 1.5f && run[0] == 3.0f && run[1] == 0.0f);
        attn_merge(k, &run_max, &run_sum, run, -INFINITY, 0, acc, 2); /* masked: no change */
        assert_true(run_max == 2.0f && run_sum == 1.5f && run[0] == 3.0f);
        attn_merge(k, &run_max, &run_sum, run, 200.0f, 1.0f, acc + 1, 1); /* buries what was */
        assert_true(run_max == 200.0f && run_sum == 1.0f && run[0] == 0.0f);
    }
}

/* ---- mix and merge ---- */

static void mix_sizes(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
                      const uint8_t *values, size_t n_keys, const float *acc, double *size) {
    static float value[1100];
    for (size_t i = 0; i < n_q * d; i++)
        size[i] = fabs((double)acc[i]);
    for (size_t j = 0; j < n_keys; j++) {
        kv_load(kernels_at(ISA_LEVEL_REF), t, values + j * kv_row_bytes(t, d), d, value);
        for (size_t r = 0; r < n_q; r++)
            for (size_t i = 0; i < d; i++)
                size[r * d + i] += fabs((double)p[r * stride + j] * (double)value[i]);
    }
}

/* One query and one pair of values at a time. */
static void mix_alone(const struct kernels *k, enum kv_type t, const float *p, size_t n_q,
                      size_t stride, size_t d, const uint8_t *values, size_t n_keys, float *acc) {
    for (size_t r = 0; r < n_q; r++)
        for (size_t j = 0; j < n_keys; j += 2)
            attn_mix(k, t, p + r * stride + j, 1, stride, d, values + j * kv_row_bytes(t, d),
                     n_keys - j < 2 ? 1 : 2, acc + r * d, NULL);
}

static void compare_mix(const struct kernels *ref, const struct kernels *k) {
    static const size_t counts[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17 };
    for (size_t s = 0; s < ARRAY_LEN(head_sizes); s++) {
        for (unsigned t = 0; t < KV_COUNT; t++) {
            for (unsigned round = 0; round < ARRAY_LEN(counts); round++) {
                size_t d = head_sizes[s], n_q = counts[round],
                       n_keys = below(40) + (round == 0 ? 217 : 0);
                size_t stride = n_keys + below(20);
                enum flavour f = (enum flavour)(below(3) ? NORMAL : below(FLAVOURS));
                struct guarded p = floats(n_q * stride, f),
                               values = stored_rows((enum kv_type)t, n_keys, d, f);
                struct guarded want = floats(n_q * d, NORMAL),
                               got = guarded_new(4 * n_q * d, 4 * below(16));
                static float from[17 * 1040];
                memcpy(from, want.data, 4 * n_q * d);
                memcpy(got.data, from, 4 * n_q * d);
                attn_mix(ref, (enum kv_type)t, at(&p), n_q, stride, d, values.data, n_keys,
                         at(&want), NULL);
                attn_mix(k, (enum kv_type)t, at(&p), n_q, stride, d, values.data, n_keys, at(&got),
                         NULL);
                if (own_bf16(k, (enum kv_type)t)) {
                    static double size[17 * 1040];
                    mix_sizes((enum kv_type)t, at(&p), n_q, stride, d, values.data, n_keys, from,
                              size);
                    if (f == NORMAL || f == ZEROS)
                        near_floats(at(&want), at(&got), size, n_q * d, "attn_mix");
                    memcpy(want.data, from, 4 * n_q * d);
                    mix_alone(k, (enum kv_type)t, at(&p), n_q, stride, d, values.data, n_keys,
                              at(&want));
                }
                same_floats(at(&want), at(&got), n_q * d, "attn_mix");
                guarded_check(&got, "attn_mix");
                guarded_free(&p);
                guarded_free(&values);
                guarded_free(&want);
                guarded_free(&got);
            }
        }
    }
}
static void test_mix(void **state) {
    (void)state;
    each_isa_and_step(compare_mix);
}

static void compare_merge(const struct kernels *ref, const struct kernels *k) {
    for (unsigned round = 0; round < 300; round++) {
        size_t d = 1 + below(150);
        enum flavour f = (enum flavour)(round % FLAVOURS);
        struct guarded acc = floats(d, f), want = floats(d, f),
                       got = guarded_new(4 * d, 4 * below(16));
        float run[2] = { below(5) ? some_float(f) : -INFINITY, 0 },
              sum[2] = { fabsf(some_float(f)), 0 };
        float max = below(5) ? some_float(f) : -INFINITY, add = below(3) ? fabsf(some_float(f)) : 0;
        run[1] = run[0];
        sum[1] = sum[0];
        memcpy(got.data, want.data, 4 * d);
        attn_merge(ref, &run[0], &sum[0], at(&want), max, add, at(&acc), d);
        attn_merge(k, &run[1], &sum[1], at(&got), max, add, at(&acc), d);
        same_floats(&run[0], &run[1], 1, "attn_merge max");
        same_floats(&sum[0], &sum[1], 1, "attn_merge sum");
        same_floats(at(&want), at(&got), d, "attn_merge");
        guarded_check(&got, "attn_merge");
        guarded_free(&acc);
        guarded_free(&want);
        guarded_free(&got);
    }
}
static void test_merge(void **state) {
    (void)state;
    each_isa(compare_merge);
}

/* ---- the rule, and the whole ---- */

/* One query and one key at a time give the bits of all at once; keys may be handed to mix in any
 * pieces that begin at even ones, as long as they come in order. Keys of weight 0 are as if they were
 * not there. */
static void check_independence(const struct kernels *k) {
    for (unsigned t = 0; t < KV_COUNT; t++) {
        enum { N_Q = 9, KEYS = 75, D = 64 };
        struct guarded q = floats(N_Q * D, NORMAL),
                       rows = stored_rows((enum kv_type)t, KEYS, D, NORMAL);
        size_t row = kv_row_bytes((enum kv_type)t, D);
        static float all[N_Q][KEYS], acc[N_Q][D], one[D];
        attn_scores(k, (enum kv_type)t, at(&q), N_Q, D, rows.data, KEYS, 0.1f, &all[0][0], KEYS,
                    NULL);
        memset(acc, 0, sizeof acc);
        attn_mix(k, (enum kv_type)t, &all[0][0], N_Q, KEYS, D, rows.data, KEYS, &acc[0][0], NULL);
        for (size_t r = 0; r < N_Q; r++) {
            for (size_t j = 0; j < KEYS; j++) {
                float s;
                attn_scores(k, (enum kv_type)t, at(&q) + r * D, 1, D, rows.data + j * row, 1, 0.1f,
                            &s, 1, NULL);
                same_floats(&all[r][j], &s, 1, "a score alone");
            }
            memset(one, 0, sizeof one);
            for (size_t j = 0, n; j < KEYS; j += n) {
                n = KEYS - j < 10 ? KEYS - j : 2 + 2 * below(5);
                attn_mix(k, (enum kv_type)t, &all[r][j], 1, KEYS, D, rows.data + j * row, n, one,
                         NULL);
            }
            same_floats(acc[r], one, D, "a mix alone");
            for (size_t j = 0; j < KEYS; j++)
                all[r][j] = j > 20 && j < 31 ? all[r][j] : 0.0f;
            memset(acc[r], 0, sizeof acc[r]);
            memset(one, 0, sizeof one);
            attn_mix(k, (enum kv_type)t, all[r], 1, KEYS, D, rows.data, KEYS, acc[r], NULL);
            attn_mix(k, (enum kv_type)t, &all[r][20], 1, KEYS, D, rows.data + 20 * row, 11, one,
                     NULL);
            same_floats(acc[r], one, D, "a mix of the keys that weigh something");
        }
        guarded_free(&q);
        guarded_free(&rows);
    }
}

/* Softmax attention over 700 keys in spans, against float64 over the same stored rows. */
static void check_whole(const struct kernels *k) {
    enum { KEYS = 700, D = 128 };
    static double score[KEYS];
    static float s[SPAN], key[D], run[D], acc[D];
    double worst = 0, worst_l2 = 0; /* the second: bfloat16 products, relative, of whole results */
    for (unsigned t = 0; t < KV_COUNT; t++) {
        double square[2] = { 0, 0 };
        struct guarded q = floats(D, NORMAL), keys = stored_rows((enum kv_type)t, KEYS, D, NORMAL);
        struct guarded values = stored_rows((enum kv_type)t, KEYS, D, NORMAL);
        size_t row = kv_row_bytes((enum kv_type)t, D);
        for (size_t i = 0; i < D;
             i++) /* scores of some units, as in models: their error is the result's */
            at(&q)[i] = normal() * 0.5f;
        double exact[D] = { 0 }, top = -1e300, total = 0;
        float run_max = -INFINITY, run_sum = 0;
        for (size_t j = 0; j < KEYS; j++) {
            kv_load(k, (enum kv_type)t, keys.data + j * row, D, key);
            score[j] = 0;
            for (size_t i = 0; i < D; i++)
                score[j] += (double)key[i] * (double)at(&q)[i] * (double)0.0883883f;
            top = fmax(top, score[j]);
        }
        for (size_t j = 0; j < KEYS; j++) {
            double p = exp(score[j] - top);
            kv_load(k, (enum kv_type)t, values.data + j * row, D, key);
            total += p;
            for (size_t i = 0; i < D; i++)
                exact[i] += p * (double)key[i];
        }
        for (size_t j = 0; j < KEYS; j += SPAN) {
            size_t n = KEYS - j < SPAN ? KEYS - j : SPAN, padded = (n + 15) / 16 * 16;
            float max, sum;
            attn_scores(k, (enum kv_type)t, at(&q), 1, D, keys.data + j * row, n, 0.0883883f, s,
                        SPAN, NULL);
            for (size_t i = n; i < padded; i++)
                s[i] = -INFINITY;
            attn_softmax(k, s, padded, &max, &sum);
            memset(acc, 0, sizeof acc);
            attn_mix(k, (enum kv_type)t, s, 1, SPAN, D, values.data + j * row, n, acc, NULL);
            attn_merge(k, &run_max, &run_sum, run, max, sum, acc, D);
        }
        for (size_t i = 0; i < D; i++) {
            double off = (double)(run[i] / run_sum) - exact[i] / total;
            square[0] += off * off;
            square[1] += exact[i] / total * (exact[i] / total);
            if (!own_bf16(k, (enum kv_type)t))
                worst = fmax(worst, fabs(off));
        }
        if (own_bf16(k, (enum kv_type)t))
            worst_l2 = fmax(worst_l2, sqrt(square[0] / square[1]));
        guarded_free(&q);
        guarded_free(&keys);
        guarded_free(&values);
    }
    print_message("# %s: attention over %d keys is off by %.1e at most; with bfloat16 relative L2 "
                  "%.1e\n",
                  isa_name(kernels_isa(k)), KEYS, worst, worst_l2);
    assert_true(worst < 3e-5 && worst_l2 < 2e-2);
}

static void test_independence(void **state) {
    (void)state;
    for (int level = 0; level < ISA_LEVEL_COUNT; level++)
        if (kernels_at((enum isa)level))
            check_independence(kernels_at((enum isa)level));
}
static void test_whole(void **state) {
    (void)state;
    for (int level = 0; level < ISA_LEVEL_COUNT; level++)
        if (kernels_at((enum isa)level))
            check_whole(kernels_at((enum isa)level));
}

/* ---- bench ---- */

/* One thread, calls of RUN keys. Two figures for each number of queries: GB/s where the rows come
 * from memory (96 MB of them, more than any cache here holds: few queries, decoding), and the share
 * of the float32 multiply peak where they lie in cache (many queries, prefill). bfloat16 products
 * may reach more than 100 % of that. */
#define STREAM ((size_t)96 << 20)
#define RUN 64
#define MOST_Q 32

struct bench_job {
    const struct kernels *k;
    enum kv_type t;
    size_t d, n_q;
    bool mix;
    uint8_t *rows; /* [STREAM] */
    float *q, *p, *acc;
};

static void bench_span(const struct bench_job *b, const uint8_t *rows) {
    size_t step = RUN * kv_row_bytes(b->t, b->d);
    for (size_t j = 0; j < SPAN; j += RUN, rows += step)
        if (b->mix)
            attn_mix(b->k, b->t, b->p + j, b->n_q, SPAN, b->d, rows, RUN, b->acc, rows + step);
        else
            attn_scores(b->k, b->t, b->q, b->n_q, b->d, rows, RUN, 0.1f, b->p + j, SPAN,
                        rows + step);
}

static double stream_rate(const struct bench_job *b) {
    size_t span = SPAN * kv_row_bytes(b->t, b->d), n = STREAM / span;
    double best = 1e9;
    for (unsigned round = 0; round < 3; round++) {
        uint64_t from = clock_ns();
        for (size_t i = 0; i < n; i++)
            bench_span(b, b->rows + i * span);
        best = fmin(best, (double)(clock_ns() - from) * 1e-9);
    }
    return (double)(n * span) / best;
}

static void bench_line(struct bench_job *b, double peak) {
    static const size_t counts[] = { 1, 2, 3, 4, 8, 16, 32 };
    printf("%-7s %-5s %4zu %-6s", isa_name(kernels_isa(b->k)), kv_names[b->t], b->d,
           b->mix ? "mix" : "scores");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        double seconds;
        b->n_q = counts[i];
        BENCH(seconds, bench_span(b, b->rows));
        double ops = 2.0 * (double)(b->n_q * SPAN * b->d);
        printf("  %5.1f %4.0f%%", stream_rate(b) * 1e-9, 100 * ops / seconds / peak);
    }
    printf("\n");
    fflush(stdout);
}

/* only: NULL or the one type of rows; only_d: 0 or the one head size */
static void bench_isa(const struct kernels *k, struct bench_job *b, const char *only,
                      size_t only_d) {
    const struct peak_ops *ops = peak_ops_at(k);
    double peak = bench_peak(k), softmax, read = 1e9;
    float max, sum;
    for (unsigned round = 0; round < 8; round++) { /* one stream, four streams in turns */
        uint64_t from = clock_ns();
        volatile uint64_t keep = ops->read(b->rows, STREAM, round % 2 ? 4 : 1, 0);
        (void)keep;
        read = fmin(read, (double)(clock_ns() - from) * 1e-9);
    }
    BENCH(softmax, attn_softmax(k, b->p, SPAN, &max, &sum));
    printf("%s: float32 multiply peak %.1f GFLOP/s, plain reading %.1f GB/s, softmax %.2f ns per "
           "key\n%-26s",
           isa_name(kernels_isa(k)), peak * 1e-9, (double)STREAM / read * 1e-9,
           softmax * 1e9 / SPAN, "queries");
    printf("%7d%13d%13d%13d%13d%13d%13d   GB/s, share of the peak\n", 1, 2, 3, 4, 8, 16, 32);
    b->k = k;
    for (unsigned t = 0; t < KV_COUNT; t++)
        for (b->d = 128; b->d <= 256; b->d *= 2)
            for (unsigned mix = 0; mix < 2; mix++) {
                b->t = (enum kv_type)t;
                b->mix = mix;
                if ((!only || strcmp(only, kv_names[t]) == 0) && (!only_d || only_d == b->d))
                    bench_line(b, peak);
            }
}

static int bench(const char *only, size_t only_d) {
    static float q[MOST_Q * 256], p[MOST_Q * SPAN], acc[MOST_Q * 256];
    struct bench_job b = { .rows = mem_alloc_aligned(NULL, STREAM, 1), .q = q, .p = p, .acc = acc };
    if (!b.rows)
        return 1;
    memset(b.rows, 0, STREAM);
    fill(q, MOST_Q * 256, NORMAL);
    for (int level = ISA_LEVEL_COUNT - 1; level > ISA_LEVEL_REF; level--)
        if (kernels_at((enum isa)level))
            bench_isa(kernels_at((enum isa)level), &b, only, only_d);
    mem_free_aligned(NULL, b.rows);
    return 0;
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_accuracy), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_halves),       cmocka_unit_test(test_scores),
        cmocka_unit_test(test_softmax),      cmocka_unit_test(test_softmax_edges),
        cmocka_unit_test(test_mix),          cmocka_unit_test(test_merge),
        cmocka_unit_test(test_independence), cmocka_unit_test(test_whole),
    };
    check_start(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc > 2 ? argv[2] : NULL, argc > 3 ? strtoul(argv[3], NULL, 10) : 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
