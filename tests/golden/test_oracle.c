/* test_oracle.c - the seven twins against the official code's numbers (tests/golden/README.md).
 *
 * Exact path: every logit within the recommended tolerance, hidden states likewise, greedy texts up to
 * near ties, the same bits for every way to cut a prompt, for one thread or two, alone or beside
 * another sequence. Default path (panels, float16 cache): within what the README allows. Each with
 * every instruction set of this machine. */
#include "twin.h"

static const char *const twins[] = { "gemma-3-270m-it",        "qwen3-0.6b",    "smollm3-3b",
                                     "qwen3-4b-instruct-2507", "gemma-3-4b-it", "jan-v1-4b",
                                     "phi-4-mini-instruct" };

typedef void (*twin_test)(struct twin *t);

static void each_twin(bool exact, unsigned threads, twin_test test) {
    const struct kernels *k[ISA_LEVEL_COUNT];
    size_t n = twin_kernels(k);
    for (size_t i = 0; i < ARRAY_LEN(twins); i++)
        for (size_t j = 0; j < n; j++) {
            struct twin t;
            char folder[64];
            snprintf(folder, sizeof folder, "golden/%s", twins[i]);
            twin_open(&t, folder, k[j], exact, threads);
            test(&t);
            twin_close(&t);
        }
}

static double recommended(const struct twin *t) {
    return json_number_value(
        json_object_get(json_object_get(t->golden, "tolerance"), "recommended_float32_max_abs"));
}

/* A number of the tolerance tables, or the worst of the table where this prompt is not listed. */
static double tolerance(const struct twin *t, const char *table, const char *prompt,
                        const char *key) {
    const json_t *all = json_object_get(json_object_get(t->golden, "tolerance"), table), *row;
    const char *name;
    double worst = 0.0;
    if ((row = json_object_get(all, prompt)) != NULL)
        return json_number_value(json_object_get(row, key));
    json_object_foreach((json_t *)all, name, row) {
        double v = json_number_value(json_object_get(row, key));
        worst = v > worst ? v : worst;
    }
    return worst;
}

/* The reference kernels are plain loops: they take the prompts up to 48 tokens. */
static bool too_long(const struct twin *t, uint32_t n) {
    return kernels_isa(t->net.kernels) == ISA_LEVEL_REF && n > 48;
}

static float *room(const struct twin *t, uint32_t n) {
    float *p = malloc((size_t)n * t->facts.m.vocab * sizeof *p);
    assert_non_null(p);
    return p;
}

/* ------------------------------------------------------------------ numbers */

/* How far the logits of a prompt may be from the golden ones, and in which measure. */
struct judge {
    const char *what;
    enum kv_type kv;
    double (*measure)(const float *a, const float *b, size_t n);
    double (*most)(const struct twin *t, const char *prompt);
};

static void judge_logits(struct twin *t, const struct judge *j) {
    const char *name;
    json_t *prompt;
    int32_t ids[MAX_PROMPT];
    json_object_foreach(json_object_get(t->golden, "prompts"), name, prompt) {
        uint32_t n = json_ids(json_object_get(prompt, "ids"), ids);
        if (too_long(t, n))
            continue;
        float *logits = room(t, n);
        const float *mine;
        size_t count;
        twin_run(t, j->kv, ids, n, NULL, 0, logits, NULL);
        const float *gold = golden_logits(t, prompt, logits, n, &mine, &count);
        double is = j->measure(mine, gold, count), most = j->most(t, name);
        if (!(is <= most))
            fail_msg("%s %s (%s): %s %g, at most %g", t->folder, name,
                     isa_name(kernels_isa(t->net.kernels)), j->what, is, most);
        free(logits);
    }
}

static double most_exact(const struct twin *t, const char *prompt) {
    (void)prompt;
    return recommended(t);
}

static double most_bf16(const struct twin *t, const char *prompt) {
    return 2 * tolerance(t, "bf16_run_vs_float32", prompt, "rel_l2");
}

static double most_f16_cache(const struct twin *t, const char *prompt) {
    return 2 * tolerance(t, "float16_kv_vs_float32", prompt, "max_abs") + recommended(t);
}

static void check_logits_exact(struct twin *t) {
    judge_logits(t, &(struct judge){ "logits differ by", KV_F32, max_abs, most_exact });
}

static void test_logits_exact(void **state) {
    (void)state;
    each_twin(true, 2, check_logits_exact);
}

/* The bfloat16 panels with a float16 cache: both roundings together, over whole prompts. */
static void check_logits_default(struct twin *t) {
    judge_logits(t, &(struct judge){ "relative L2", KV_F16, relative_l2, most_bf16 });
}

static void test_logits_default(void **state) {
    (void)state;
    each_twin(false, 2, check_logits_default);
}

/* A float16 cache alone. */
static void check_logits_f16_cache(struct twin *t) {
    judge_logits(t, &(struct judge){ "float16 cache costs", KV_F16, max_abs, most_f16_cache });
}

static void test_logits_f16_cache(void **state) {
    (void)state;
    each_twin(true, 1, check_logits_f16_cache);
}

/* bfloat16 has 8 bits, int8 with a scale per 32 about 7.5: both near the bfloat16 run's error. */
static void check_small_caches(struct twin *t) {
    int32_t ids[MAX_PROMPT];
    const json_t *prompt = json_object_get(json_object_get(t->golden, "prompts"), "split");
    uint32_t n = json_ids(json_object_get(prompt, "ids"), ids);
    const enum kv_type types[] = { KV_BF16, KV_Q8 };
    float *logits = room(t, n);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const float *mine;
        size_t count;
        twin_run(t, types[i], ids, n, NULL, 0, logits, NULL);
        const float *gold = golden_logits(t, prompt, logits, n, &mine, &count);
        double is = relative_l2(mine, gold, count),
               most = 2 * tolerance(t, "bf16_run_vs_float32", "split", "rel_l2");
        if (!(is <= most))
            fail_msg("%s cache type %d: relative L2 %g, at most %g", t->folder, (int)types[i], is,
                     most);
    }
    free(logits);
}

static void test_small_caches(void **state) {
    (void)state;
    each_twin(true, 1, check_small_caches);
}

/* ------------------------------------------------------------------ hidden states */

static void compare_hidden(struct twin *t, const char *what, const float *mine, size_t n) {
    char name[64];
    snprintf(name, sizeof name, "p7.hidden.%s", what);
    const float *gold = twin_floats(t, name, NULL);
    double size = 0.0, worst = max_abs(mine, gold, n);
    for (size_t i = 0; i < n; i++)
        size = fabs((double)gold[i]) > size ? fabs((double)gold[i]) : size;
    if (!(worst <= recommended(t) * (size > 1.0 ? size : 1.0)))
        fail_msg("%s %s: differs by %g where values reach %g", t->folder, name, worst, size);
}

static void check_hidden(struct twin *t) {
    int32_t ids[MAX_PROMPT];
    uint32_t n = json_ids(
        json_object_get(json_object_get(json_object_get(t->golden, "prompts"), "p7"), "ids"), ids);
    size_t h = t->facts.m.hidden, layers = t->facts.m.layers;
    float *logits = room(t, n), *all = malloc((layers + 2) * n * h * sizeof *all);
    struct forward_taps taps = { .embed = all,
                                 .layers = all + n * h,
                                 .final_norm = all + (layers + 1) * n * h };
    twin_run(t, KV_F32, ids, n, NULL, 0, logits, &taps);
    compare_hidden(t, "embed", taps.embed, n * h);
    for (size_t i = 0; i < layers; i++) {
        char name[32];
        snprintf(name, sizeof name, "layer%zu", i);
        compare_hidden(t, name, taps.layers + i * n * h, n * h);
    }
    compare_hidden(t, "final_norm", taps.final_norm, n * h);
    free(logits);
    free(all);
}

static void test_hidden(void **state) {
    (void)state;
    each_twin(true, 2, check_hidden);
}

/* ------------------------------------------------------------------ greedy */

static uint32_t best_of(const float *logits, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Each step as the reference took it, a whole run (which a crossing of the rope switch asks for). */
static void check_greedy(struct twin *t) {
    const char *name;
    json_t *g;
    int32_t ids[MAX_PROMPT];
    json_object_foreach(json_object_get(t->golden, "greedy"), name, g) {
        const json_t *want = json_object_get(g, "ids"), *margin = json_object_get(g, "margin");
        const json_t *prompt = json_object_get(json_object_get(t->golden, "prompts"), name);
        uint32_t n = json_ids(json_object_get(prompt, "ids"), ids), v = t->facts.m.vocab;
        const json_t *rows = json_object_get(prompt, "greedy_rows");
        for (size_t i = 0; i < json_array_size(want) && !too_long(t, n); i++, n++) {
            float *logits = room(t, n);
            twin_run(t, KV_F32, ids, n, NULL, 0, logits, NULL);
            const float *last = logits + (size_t)(n - 1) * v;
            if (rows != NULL) {
                double worst =
                    max_abs(last, twin_floats(t, json_string_value(rows), NULL) + i * v, v);
                if (!(worst <= recommended(t)))
                    fail_msg("%s %s step %zu (length %u): logits differ by %g", t->folder, name, i,
                             n, worst);
            }
            uint32_t best = best_of(last, v);
            free(logits);
            if (json_number_value(json_array_get(margin, i)) < 2 * recommended(t))
                break;
            assert_int_equal(best, json_integer_value(json_array_get(want, i)));
            ids[n] = (int32_t)best;
        }
    }
}

static void test_greedy(void **state) {
    (void)state;
    each_twin(true, 1, check_greedy);
}

/* ------------------------------------------------------------------ the same bits */

static void same_bits(struct twin *t, const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s (%s, %s): row %zu, logit %zu is %.9g, in one shot %.9g", t->folder,
                     isa_name(kernels_isa(t->net.kernels)), what, i / t->facts.m.vocab,
                     i % t->facts.m.vocab, (double)a[i], (double)b[i]);
}

/* Prompts cut as the goldens cut them, and in chunks of 1, 7, 64; every type of cache takes its turn. */
static void check_splits(struct twin *t) {
    static const uint32_t even[][1] = { { 1 }, { 7 }, { 64 } };
    unsigned type = 0;
    const char *name;
    json_t *prompt;
    int32_t ids[MAX_PROMPT];
    json_object_foreach(json_object_get(t->golden, "prompts"), name, prompt) {
        const json_t *splits = json_object_get(json_object_get(t->golden, "splits"), name), *split;
        uint32_t n = json_ids(json_object_get(prompt, "ids"), ids), chunks[MAX_PROMPT];
        size_t count = (size_t)n * t->facts.m.vocab, i;
        if (kernels_isa(t->net.kernels) == ISA_LEVEL_REF && n > 17)
            continue;
        float *once = room(t, n), *cut = room(t, n);
        type = (type + 1) % KV_COUNT;
        twin_run(t, (enum kv_type)type, ids, n, NULL, 0, once, NULL);
        for (i = 0; i < ARRAY_LEN(even); i++) {
            twin_run(t, (enum kv_type)type, ids, n, even[i], 1, cut, NULL);
            same_bits(t, name, cut, once, count);
        }
        json_array_foreach(splits, i, split) {
            const json_t *list = json_object_get(split, "chunks");
            for (size_t c = 0; c < json_array_size(list); c++)
                chunks[c] = (uint32_t)json_integer_value(json_array_get(list, c));
            twin_run(t, (enum kv_type)type, ids, n, chunks, json_array_size(list), cut, NULL);
            same_bits(t, name, cut, once, count);
        }
        free(once);
        free(cut);
    }
}

static void test_splits_exact(void **state) {
    (void)state;
    each_twin(true, 1, check_splits);
}

static void test_splits_default(void **state) {
    (void)state;
    each_twin(false, 2, check_splits);
}

/* Threads: the same prompt with one, two and three. */
static void test_threads(void **state) {
    (void)state;
    const struct kernels *k[ISA_LEVEL_COUNT];
    size_t n_k = twin_kernels(k);
    for (size_t i = 0; i < ARRAY_LEN(twins) * n_k; i++) {
        float *logits[3];
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct twin t;
            char folder[64];
            int32_t ids[MAX_PROMPT];
            static const uint32_t chunks[] = { 20, 1 };
            snprintf(folder, sizeof folder, "golden/%s", twins[i / n_k]);
            twin_open(&t, folder, k[i % n_k], false, threads);
            uint32_t n =
                json_ids(json_object_get(
                             json_object_get(json_object_get(t.golden, "prompts"), "p40"), "ids"),
                         ids);
            float *out = logits[threads - 1] = room(&t, n);
            twin_run(&t, KV_F16, ids, n, chunks, 2, out, NULL);
            if (threads > 1)
                same_bits(&t, "more threads", out, logits[0], (size_t)n * t.facts.m.vocab);
            twin_close(&t);
        }
        for (size_t j = 0; j < 3; j++)
            free(logits[j]);
    }
}

/* Three sequences of different lengths in one batch, continued together, against each alone. */
static void check_batch(struct twin *t) {
    static const char *const names[] = { "p40", "p7", "split" };
    int32_t ids[3][MAX_PROMPT], joined[3 * MAX_PROMPT];
    uint32_t n[3], v = t->facts.m.vocab;
    float *alone[3], *batch = room(t, 128);
    struct kv *kv[3];
    struct forward *f;
    OK(t, forward_new(NULL, &t->net, t->rope, t->pool, 128, 128, t->facts.m.context, &f, &t->why));
    for (size_t i = 0; i < 3; i++) {
        const json_t *prompt = json_object_get(json_object_get(t->golden, "prompts"), names[i]);
        n[i] = json_ids(json_object_get(prompt, "ids"), ids[i]);
        alone[i] = room(t, n[i]);
        twin_run(t, KV_F16, ids[i], n[i], NULL, 0, alone[i], NULL);
        OK(t, kv_alone(NULL, &t->facts.m, KV_F16, t->facts.m.context, 64, &kv[i], &t->why));
    }
    for (unsigned round = 0; round < 2; round++) { /* all but the last token of each, then these */
        struct slice s[3];
        uint32_t rows = 0, first[3];
        for (size_t i = 0; i < 3; i++) {
            uint32_t at = round == 0 ? 0 : n[i] - 1;
            s[i] = (struct slice){ .kv = kv[i], .n = round == 0 ? n[i] - 1 : 1, .rows = LOGITS_ALL };
            first[i] = rows;
            memcpy(joined + rows, ids[i] + at, s[i].n * sizeof *joined);
            rows += s[i].n;
        }
        OK(t, forward_run(f, s, 3, joined, batch, NULL, &t->why));
        for (size_t i = 0; i < 3; i++)
            same_bits(t, "batched", batch + (size_t)first[i] * v,
                      alone[i] + (size_t)(round == 0 ? 0 : n[i] - 1) * v, (size_t)s[i].n * v);
    }
    for (size_t i = 0; i < 3; i++) {
        kv_alone_free(kv[i]);
        free(alone[i]);
    }
    forward_free(f);
    free(batch);
}

static void test_batch(void **state) {
    (void)state;
    each_twin(false, 2, check_batch);
}

/* ------------------------------------------------------------------ rope tables */

/* Full-size tables against the official float32 ones: within what float32 costs there. One frequency
 * of each kind comes out of the official power function one unit in the last place off: that pair's
 * angles may differ by as much. */
static void check_rope_kind(struct twin *t, const struct tensors *tables, const struct rope *r,
                            const struct model *m, const char *kind) {
    char name[32];
    const float *table[2], *frequency;
    const struct tensor_info *positions = tensors_find(tables, "positions");
    snprintf(name, sizeof name, "%s.inv_freq", kind);
    frequency = (const float *)(const void *)tensors_find(tables, name)->data;
    for (size_t k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "%s.%s", kind, k == 0 ? "cos" : "sin");
        table[k] = (const float *)(const void *)tensors_find(tables, name)->data;
    }
    const json_t *error =
        json_object_get(json_object_get(json_object_get(t->golden, "rope_full_size"), kind),
                        "float32_cos_error_against_float64_by_position");
    size_t pairs = m->rotary / 2;
    bool odd[MAX_PROMPT] = { false };
    assert_int_equal(tensors_find(tables, name)->dims[1], pairs);
    float *mine[2] = { malloc(pairs * sizeof(float)), malloc(pairs * sizeof(float)) };
    for (size_t i = 0; i < positions->dims[0]; i++) {
        int32_t p;
        char key[16];
        memcpy(&p, positions->data + i * 4, 4);
        snprintf(key, sizeof key, "%d", p);
        rope_row(r, strcmp(kind, "sliding") == 0 ? 's' : 'F', strcmp(kind, "long") == 0,
                 (uint32_t)p, mine[0], mine[1]);
        for (size_t j = 0; j < 2 * pairs; j++) {
            size_t pair = j % pairs;
            double is =
                fabs((double)mine[j / pairs][pair] - (double)table[j / pairs][i * pairs + pair]);
            /* the cosine's column; the angle p f was rounded, which a sine shows where the cosine does not */
            double allowed = json_number_value(json_object_get(error, key)) + 3e-7,
                   angle = (double)p * (double)frequency[pair];
            if (j >= pairs && allowed < angle * 8e-8 + 3e-7)
                allowed = angle * 8e-8 + 3e-7;
            if (is <= allowed)
                continue;
            odd[pair] = true;
            if (!(is <= allowed + angle * 1.5e-7))
                fail_msg("%s %s at position %d, pair %zu: differs by %g, at most %g", t->folder,
                         kind, p, pair, is, allowed);
        }
    }
    size_t n_odd = 0;
    for (size_t j = 0; j < pairs; j++)
        n_odd += odd[j];
    assert_true(n_odd <= 1);
    free(mine[0]);
    free(mine[1]);
}

static void test_rope_tables(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(twins); i++) {
        struct twin t = { 0 };
        struct tensors *tables;
        struct rope *r;
        char folder[64], path[640];
        const char *kind;
        json_t *unused;
        snprintf(folder, sizeof folder, "golden/%s", twins[i]);
        twin_open_golden(&t, folder);
        snprintf(path, sizeof path, "%s/rope_full_size.safetensors", t.folder);
        OK(&t, tensors_open_numbers(NULL, path, &tables, &t.why));
        const struct model *m = model_by_name(twins[i]);
        OK(&t, rope_new(NULL, m, &r, &t.why));
        json_object_foreach(json_object_get(t.golden, "rope_full_size"), kind, unused)
            check_rope_kind(&t, tables, r, m, kind);
        rope_free(r);
        tensors_close(tables);
        tensors_close(t.gold);
        json_decref(t.golden);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope_tables),
        cmocka_unit_test(test_logits_exact),
        cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_logits_f16_cache),
        cmocka_unit_test(test_small_caches),
        cmocka_unit_test(test_logits_default),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_splits_exact),
        cmocka_unit_test(test_splits_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
