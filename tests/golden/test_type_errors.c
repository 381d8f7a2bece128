/* test_type_errors.c - what each weight type and each type of keys and values costs in exactness.
 *
 * The demo model is written as every type that slm_quantize knows; the golden conversations with
 * their answers (demo-model/golden.json, every position a row) run through the fast path and the
 * exact path of each file and through the exact path of the model as it was trained. Compared are
 * logits x against reference y:
 *     relative L2   |x - y| / |y| over all rows and ids, and the largest |x - y|
 *     KL            mean over rows of sum p_y (ln p_y - ln p_x), nats per token
 *     top 1         share of rows whose best id is the same
 * Keys and values are float32 while types are compared, so what differs between the fast and the
 * exact path of one file is how activations are rounded (8 bits for block types) and summed.
 *
 * Keys and values are compared on the exact path, against float32 ones: on the fast path the
 * smallest difference makes some activations round the other way, and all that shows is the
 * rounding's own noise. The fast path with them is compared with the exact path with float32.
 *
 * Bounds are about twice what was measured. KL goes with the square of an error: a rounding that
 * is worse by half already breaks them. `test_type_errors --table` prints the figures as they
 * stand in docs/SPEED.md (bench/exactness.sh); SLM_ISA picks the instruction set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "slm.h"
#include "support.h"

#define FOLDER "demo-model"
#define CASE_MOST 512 /* ids of the longest conversation, and the chunk */

struct error {
    double relative, largest, kl, same_best;
};

/* Upper bounds, over all instruction sets. */
struct bound {
    const char *type;
    double relative, kl; /* fast against exact, of the same file */
    double kl_original;  /* fast against the model as it was trained */
};
static const struct bound type_bounds[] = {
    { "f32", 2e-6, 1e-11, 1e-11 },      { "f16", 2e-6, 1e-11, 1e-11 },
    { "bf16", 0.0042, 3.2e-5, 3.2e-5 }, { "q8_0", 0.015, 3.8e-4, 7.2e-4 },
    { "q6_k", 0.026, 1.0e-3, 0.0048 },  { "q5_k_m", 0.026, 9.2e-4, 0.0114 },
    { "q4_k_m", 0.026, 1.0e-3, 0.044 }, { "q4_k_s", 0.026, 1.1e-3, 0.048 },
    { "q3_k_m", 0.026, 9.6e-4, 0.17 },  { "q2_k", 0.027, 1.2e-3, 0.64 },
    { "q4_0", 0.016, 4.2e-4, 0.07 },    { "q4_1", 0.017, 4.4e-4, 0.044 },
    { "q5_0", 0.016, 4.2e-4, 0.016 },   { "q5_1", 0.016, 4.2e-4, 0.011 },
    { "iq4_nl", 0.017, 4.2e-4, 0.05 },  { "iq4_xs", 0.026, 9.4e-4, 0.048 },
};

/* Of the q8_0 file, against its exact path with float32 keys and values. */
static const struct {
    const char *name;
    enum slm_kv kv;
    double relative, kl; /* exact path */
    double kl_fast;
} kv_bounds[] = {
    { "f16", SLM_KV_F16, 4e-4, 3.6e-7, 3.8e-4 },
    { "bf16", SLM_KV_BF16, 0.0034, 2.6e-5, 4e-4 },
    { "q8", SLM_KV_Q8, 0.0094, 2.2e-4, 5.4e-4 },
};

#define TYPES ARRAY_LEN(type_bounds)
#define KVS ARRAY_LEN(kv_bounds)

static bool table; /* print all figures, of all conversations; else a fifth of them is enough */
static char folder[512];
static int32_t *ids; /* [rows] the conversations one after another */
static size_t *lengths, n_cases, rows, vocab;
static float *original; /* [rows][vocab] exact path of the model as it was trained */

#define MUST(expr)                                                                                 \
    do {                                                                                           \
        slm_why why_ = { 0 }, *const why = &why_;                                                  \
        slm_err err_ = (expr);                                                                     \
        if (err_ != SLM_OK)                                                                        \
            fail_msg("%s: %s (%s)", #expr, why_.message, slm_err_name(err_));                      \
    } while (0)

/* ------------------------------------------------------------------ logits */

static slm_engine *open_engine(const char *path, bool exact) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.need = o.want = SLM_WEIGHTS;
    o.exact = exact;
    o.isa = test_isa();
    o.threads = 2;
    MUST(slm_engine_open(path, &o, &e, why));
    return e;
}

/* Logits of every row of every conversation, [rows][vocab]; free(). */
static float *evaluate(const char *path, bool exact, enum slm_kv kv) {
    slm_engine *e = open_engine(path, exact);
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    float *logits = malloc(rows * vocab * sizeof *logits);
    assert_non_null(logits);
    o.context = o.chunk = o.logit_rows = CASE_MOST;
    o.kv = kv;
    o.threads = 2;
    MUST(slm_session_open(e, &o, &s, why));
    for (size_t i = 0, at = 0; i < n_cases; at += lengths[i++]) {
        MUST(slm_session_truncate(s, 0, why));
        MUST(slm_session_append(s, ids + at, lengths[i], true, logits + at * vocab, NULL, why));
    }
    slm_session_close(s);
    slm_engine_close(e);
    return logits;
}

/* ln of the sum of exp(x); *best is the first of the largest. */
static double log_sum(const float *x, size_t *best) {
    double sum = 0;
    *best = 0;
    for (size_t k = 1; k < vocab; k++)
        if (x[k] > x[*best])
            *best = k;
    for (size_t k = 0; k < vocab; k++)
        sum += exp((double)x[k] - x[*best]);
    return x[*best] + log(sum);
}

static struct error compare(const float *got, const float *want) {
    struct error e = { 0 };
    double difference = 0, size = 0;
    for (size_t i = 0; i < rows; i++) {
        const float *x = got + i * vocab, *y = want + i * vocab;
        size_t best_x, best_y;
        double sum_x = log_sum(x, &best_x), sum_y = log_sum(y, &best_y);
        for (size_t k = 0; k < vocab; k++) {
            double d = (double)x[k] - y[k];
            difference += d * d;
            size += (double)y[k] * y[k];
            e.largest = fmax(e.largest, fabs(d));
            e.kl += exp(y[k] - sum_y) * (sum_x - sum_y - d);
        }
        e.same_best += best_x == best_y;
    }
    e.relative = sqrt(difference / size);
    e.kl = fmax(e.kl / (double)rows, 0); /* rounding may leave -1e-17 */
    e.same_best /= (double)rows;
    return e;
}

/* NaN is over every bound. */
static bool within(const struct error *e, double relative, double kl) {
    return e->relative <= relative && e->kl <= kl;
}

/* ------------------------------------------------------------------ the conversations */

static void add_ids(const json_t *list) {
    for (size_t k = 0; k < json_array_size(list); k++)
        ids[rows++] = (int32_t)json_integer_value(json_array_get(list, k));
}

static void load_cases(void) {
    json_t *golden = json_load_file(FOLDER "/golden.json", 0, NULL), *c;
    const json_t *cases = json_object_get(golden, "cases");
    size_t i;
    size_t most = json_array_size(cases);
    assert_true(most > 0);
    vocab = json_array_size(json_object_get(json_array_get(cases, 0), "last_logits"));
    ids = malloc(most * CASE_MOST * sizeof *ids);
    lengths = malloc(most * sizeof *lengths);
    assert_true(ids != NULL && lengths != NULL);
    json_array_foreach(cases, i, c) {
        const json_t *prompt = json_object_get(c, "prompt_ids");
        const json_t *answer = json_object_get(c, "greedy_ids");
        if (!table && i % 5 != 3)
            continue;
        lengths[n_cases] = json_array_size(prompt) + json_array_size(answer);
        assert_in_range(lengths[n_cases++], 2, CASE_MOST);
        add_ids(prompt);
        add_ids(answer);
    }
    json_decref(golden);
}

static int setup(void **state) {
    char first[512];
    (void)state;
    if (!temp_file(first, sizeof first, "first", "x", 1))
        return -1;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(first, '/') - first), first);
    load_cases();
    original = evaluate(FOLDER, true, SLM_KV_F32);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(original);
    free(lengths);
    free(ids);
    return 0;
}

/* Path of the demo model in that type, made when it is not there. */
static const char *file_of(const char *type) {
    static char path[768];
    slm_quantize_options o = slm_quantize_default();
    snprintf(path, sizeof path, "%s/%s.gguf", folder, type);
    o.threads = 2;
    if (access(path, R_OK) != 0)
        MUST(slm_quantize(FOLDER, path, type, &o, why));
    return path;
}

/* ------------------------------------------------------------------ tests */

static void test_every_type_has_bounds(void **state) {
    const char *name;
    size_t n = 0;
    (void)state;
    for (size_t at = 0; (name = slm_quantize_type(at, NULL)) != NULL; at++) {
        size_t i = 0;
        if (strncmp(name, "mmproj-", 7) == 0) /* image towers: test_vision, test_session_images */
            continue;
        while (i < TYPES && strcmp(type_bounds[i].type, name) != 0)
            i++;
        if (i == TYPES)
            fail_msg("no bounds for '%s': run with --table and add them", name);
        n++;
    }
    assert_int_equal(n, TYPES);
}

static void print_type(const char *type, const struct error *fast, const struct error *weights,
                       const struct error *both) {
    if (table)
        printf("| %s | %.2g | %.2g | %.2g | %.2f %% | %.2g | %.2g | %.2f %% |\n", type,
               fast->relative, fast->largest, fast->kl, 100 * fast->same_best, weights->kl,
               both->kl, 100 * both->same_best);
    else
        print_message("# %-7s fast to exact: relative %.2g, KL %.2g; to the original: KL %.2g\n",
                      type, fast->relative, fast->kl, both->kl);
}

static void test_types(void **state) {
    (void)state;
    size_t over = 0;
    if (table)
        printf("| type | relative L2 | largest | KL | same best | KL of the weights alone "
               "| KL to the original | same best |\n|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < TYPES; i++) {
        const struct bound *b = &type_bounds[i];
        float *exact = evaluate(file_of(b->type), true, SLM_KV_F32);
        float *fast = evaluate(file_of(b->type), false, SLM_KV_F32);
        struct error rounding = compare(fast, exact), weights = compare(exact, original),
                     both = compare(fast, original);
        free(exact);
        free(fast);
        print_type(b->type, &rounding, &weights, &both);
        if (within(&rounding, b->relative, b->kl) && both.kl <= b->kl_original)
            continue;
        over++;
        print_error("%s: relative %.3g (at most %.3g), KL %.3g (%.3g), to the original %.3g "
                    "(%.3g)\n",
                    b->type, rounding.relative, b->relative, rounding.kl, b->kl, both.kl,
                    b->kl_original);
    }
    assert_int_equal(over, 0);
}

static void print_kv(const char *name, const struct error *narrow, const struct error *fast) {
    if (table)
        printf("| %s | %.2g | %.2g | %.2g | %.2f %% | %.2g | %.2f %% |\n", name, narrow->relative,
               narrow->largest, narrow->kl, 100 * narrow->same_best, fast->kl,
               100 * fast->same_best);
    else
        print_message("# kv %-4s to f32: relative %.2g, KL %.2g; fast: KL %.2g\n", name,
                      narrow->relative, narrow->kl, fast->kl);
}

static void test_kv_types(void **state) {
    (void)state;
    size_t over = 0;
    float *wide = evaluate(file_of("q8_0"), true, SLM_KV_F32);
    if (table)
        printf("\n| keys and values | relative L2 | largest | KL | same best | KL on the fast path "
               "| same best |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < KVS; i++) {
        float *narrow = evaluate(file_of("q8_0"), true, kv_bounds[i].kv);
        float *fast = evaluate(file_of("q8_0"), false, kv_bounds[i].kv);
        struct error e = compare(narrow, wide), all = compare(fast, wide);
        free(narrow);
        free(fast);
        print_kv(kv_bounds[i].name, &e, &all);
        if (within(&e, kv_bounds[i].relative, kv_bounds[i].kl) && all.kl <= kv_bounds[i].kl_fast)
            continue;
        over++;
        print_error("kv %s: relative %.3g (at most %.3g), KL %.3g (%.3g), fast %.3g (%.3g)\n",
                    kv_bounds[i].name, e.relative, kv_bounds[i].relative, e.kl, kv_bounds[i].kl,
                    all.kl, kv_bounds[i].kl_fast);
    }
    free(wide);
    assert_int_equal(over, 0);
}

/* The bounds see what they are for: q8_0's fast path against its exact path with an error of the
 * rounding's own shape added once more, so that it is twice as large (activations of 7 bits), and
 * with weights of the next coarser type; and a row that is no number. */
static void test_bounds_can_fail(void **state) {
    (void)state;
    const struct bound *b = type_bounds;
    while (strcmp(b->type, "q8_0") != 0)
        b++;
    float *exact = evaluate(file_of("q8_0"), true, SLM_KV_F32);
    float *fast = evaluate(file_of("q8_0"), false, SLM_KV_F32);
    float *coarse = evaluate(file_of("q6_k"), false, SLM_KV_F32);
    struct error e = compare(coarse, exact);
    assert_false(within(&e, b->relative, b->kl));
    for (size_t i = 0; i < rows * vocab; i++)
        coarse[i] = fast[i] + (fast[i] - exact[i]);
    e = compare(coarse, exact);
    assert_false(within(&e, b->relative, b->kl));
    fast[rows / 2 * vocab] = NAN;
    e = compare(fast, exact);
    assert_false(within(&e, b->relative, b->kl));
    free(exact);
    free(fast);
    free(coarse);
}

/* The kernels in plain C would take many minutes, and add nothing: what all others round is compared
 * with theirs, integer by integer, by the programs of tests/kernels. */
static bool too_slow(void) {
    slm_machine machine = { .size = sizeof machine };
    const char *isa = test_isa();
    if (isa == NULL && slm_machine_get(SLM_MEASURE_NOTHING, 1, &machine, NULL) == SLM_OK)
        isa = machine.isa;
    return isa != NULL && strcmp(isa, "ref") == 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_bounds),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_kv_types),
        cmocka_unit_test(test_bounds_can_fail),
    };
    table = argc == 2 && strcmp(argv[1], "--table") == 0;
    if (!table && too_slow()) {
        puts("# skip the kernels in plain C take minutes here");
        return 0;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
