/* test_oracle_gguf.c - the GGUF twins: every block format against the official code's logits for the
 * dequantised weights (tests/golden/gguf/README.md).
 *
 * Exact path within 1e-3. Packed path (int8 activations for the quantised types) against the exact
 * one: the bound per type is what 8 bits cost on these noise weights as measured, times 1.4. The
 * smollm3 files have permuted q and k rows, the f16 ones an alignment of 64. */
#include "twin.h"

#define TOLERANCE 1e-3

struct file {
    const char *arch, *tag;
    double packed_l2; /* relative L2 of the packed path against the exact one, at most */
};

/* Measured on p40 (AVX-512): qwen3 0.029 0.028 0.038 0.039, smollm3 0.042 0.044 0.062 0.060, mixed
 * 0.053; float types keep their order of summation only nearly. */
static const struct file files[] = {
    { "qwen3", "f32", 1e-5 },    { "qwen3", "f16", 1e-5 },    { "qwen3", "q8_0", 0.042 },
    { "qwen3", "q4_0", 0.042 },  { "qwen3", "q4_k", 0.055 },  { "qwen3", "q6_k", 0.055 },
    { "smollm3", "f16", 1e-5 },  { "smollm3", "q8_0", 0.06 }, { "smollm3", "q4_0", 0.065 },
    { "smollm3", "q4_k", 0.09 }, { "smollm3", "q6_k", 0.09 }, { "smollm3", "mixed", 0.08 },
};

static void open_file(struct twin *t, const struct file *f, const struct kernels *k, bool exact,
                      unsigned threads) {
    char folder[64], path[640];
    *t = (struct twin){ 0 };
    snprintf(folder, sizeof folder, "golden/gguf/%s", f->arch);
    twin_open_golden(t, folder);
    snprintf(path, sizeof path, "%s/%s-%s.gguf", t->folder, f->arch, f->tag);
    OK(t, tensors_open(NULL, path, &t->weights, &t->why));
    OK(t, facts_from_gguf(NULL, t->weights, NULL, &t->facts, &t->why));
    twin_bind(t, k, exact, threads);
}

typedef void (*file_test)(struct twin *t, const struct file *f);

static void each_file(bool exact, unsigned threads, file_test test) {
    const struct kernels *k[ISA_LEVEL_COUNT];
    size_t n = twin_kernels(k);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        for (size_t j = 0; j < n; j++) {
            struct twin t;
            open_file(&t, &files[i], k[j], exact, threads);
            test(&t, &files[i]);
            twin_close(&t);
        }
}

static uint32_t prompt_ids(const struct twin *t, const char *name, int32_t ids[MAX_PROMPT]) {
    return json_ids(json_object_get(json_object_get(t->golden, "prompts"), name), ids);
}

static const char *const prompts[] = { "p1", "p7", "p40" };

static void check_exact(struct twin *t, const struct file *f) {
    for (size_t i = 0; i < ARRAY_LEN(prompts); i++) {
        int32_t ids[MAX_PROMPT];
        char name[64];
        uint32_t n = prompt_ids(t, prompts[i], ids), v = t->facts.m.vocab;
        if (kernels_isa(t->net.kernels) == ISA_LEVEL_REF && n > 7)
            continue;
        float *logits = malloc((size_t)n * v * sizeof *logits);
        twin_run(t, KV_F32, ids, n, NULL, 0, logits, NULL);
        snprintf(name, sizeof name, "%s.%s.logits", f->tag, prompts[i]);
        double worst = max_abs(logits, twin_floats(t, name, NULL), (size_t)n * v);
        if (!(worst <= TOLERANCE))
            fail_msg("%s-%s %s (%s): logits differ by %g", f->arch, f->tag, prompts[i],
                     isa_name(kernels_isa(t->net.kernels)), worst);
        free(logits);
    }
}

static void test_exact(void **state) {
    (void)state;
    each_file(true, 2, check_exact);
}

/* First two rows of each tensor in file order, to the bit. */
static void check_dequant(struct twin *t, const struct file *f) {
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s.dequant.", f->tag);
    size_t n_prefix = strlen(prefix), seen = 0;
    for (uint32_t i = 0; i < t->gold->n; i++) {
        const struct tensor_info *g = &t->gold->list[i];
        char name[128];
        if (strncmp(g->name, prefix, n_prefix) != 0)
            continue;
        snprintf(name, sizeof name, "%s", g->name + n_prefix);
        char *end = strstr(name, ".rows0_1");
        assert_non_null(end);
        *end = '\0';
        const struct tensor_info *w = tensors_find(t->weights, name);
        assert_non_null(w);
        size_t cols = (size_t)g->dims[1];
        float *row = malloc(cols * sizeof *row);
        for (uint32_t r = 0; r < 2; r++) {
            struct matrix m;
            assert_true(matrix_plain(&m, w->dtype, (uint32_t)w->dims[0], (uint32_t)cols, w->data));
            matrix_row(t->net.kernels, &m, r, row);
            assert_memory_equal(row, (const float *)(const void *)g->data + r * cols,
                                cols * sizeof *row);
        }
        free(row);
        seen++;
    }
    assert_true(seen > 0);
}

static void test_dequant(void **state) {
    (void)state;
    each_file(true, 1, check_dequant);
}

static void check_packed(struct twin *t, const struct file *f) {
    struct twin exact;
    int32_t ids[MAX_PROMPT];
    bool ref = kernels_isa(t->net.kernels) == ISA_LEVEL_REF;
    uint32_t n = prompt_ids(t, ref ? "p7" : "p40", ids), v = t->facts.m.vocab;
    float *a = malloc((size_t)n * v * sizeof *a), *b = malloc((size_t)n * v * sizeof *b);
    open_file(&exact, f, t->net.kernels, true, 1);
    twin_run(t, KV_F32, ids, n, NULL, 0, a, NULL);
    twin_run(&exact, KV_F32, ids, n, NULL, 0, b, NULL);
    double is = relative_l2(a, b, (size_t)n * v);
    if (getenv("SLM_TEST_PRINT") != NULL)
        print_message("# %s-%s %s: packed against exact %.5f\n", f->arch, f->tag,
                      isa_name(kernels_isa(t->net.kernels)), is);
    if (!(is <= f->packed_l2))
        fail_msg("%s-%s (%s): packed path differs by %g, at most %g", f->arch, f->tag,
                 isa_name(kernels_isa(t->net.kernels)), is, f->packed_l2);
    assert_true(t->net.packed_bytes > 0);
    twin_close(&exact);
    free(a);
    free(b);
}

static void test_packed(void **state) {
    (void)state;
    each_file(false, 2, check_packed);
}

/* Cutting a prompt, and threads, change no bit of the packed path either. */
static void check_splits(struct twin *t, const struct file *f) {
    static const uint32_t chunks[][2] = { { 1, 1 }, { 7, 7 }, { 33, 5 } };
    int32_t ids[MAX_PROMPT];
    struct twin other;
    uint32_t n = prompt_ids(t, kernels_isa(t->net.kernels) == ISA_LEVEL_REF ? "p7" : "p40", ids),
             v = t->facts.m.vocab;
    float *once = malloc((size_t)n * v * sizeof *once), *cut = malloc((size_t)n * v * sizeof *cut);
    open_file(&other, f, t->net.kernels, false, 3);
    twin_run(t, KV_F16, ids, n, NULL, 0, once, NULL);
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        twin_run(&other, KV_F16, ids, n, chunks[i], 2, cut, NULL);
        for (size_t j = 0; j < (size_t)n * v; j++)
            if (memcmp(&cut[j], &once[j], sizeof *cut) != 0)
                fail_msg("%s-%s (%s), chunks of %u: row %zu, logit %zu is %.9g, in one shot %.9g",
                         f->arch, f->tag, isa_name(kernels_isa(t->net.kernels)), chunks[i][0],
                         j / v, j % v, (double)cut[j], (double)once[j]);
    }
    twin_close(&other);
    free(once);
    free(cut);
}

static void test_splits(void **state) {
    (void)state;
    each_file(false, 1, check_splits);
}

/* Eight greedy steps from p7 on the exact path. */
static void check_greedy(struct twin *t, const struct file *f) {
    char name[64];
    int32_t ids[MAX_PROMPT];
    snprintf(name, sizeof name, "%s-%s.gguf", f->arch, f->tag);
    const json_t *g =
        json_object_get(json_object_get(json_object_get(t->golden, "files"), name), "greedy");
    const json_t *want = json_object_get(g, "ids"), *margin = json_object_get(g, "margin");
    uint32_t n = prompt_ids(t, "p7", ids), v = t->facts.m.vocab;
    assert_true(json_array_size(want) == 8);
    for (size_t i = 0; i < json_array_size(want); i++, n++) {
        float *logits = malloc((size_t)n * v * sizeof *logits);
        bool finite;
        twin_run(t, KV_F32, ids, n, NULL, 0, logits, NULL);
        ids[n] = (int32_t)argmax(t->net.kernels, logits + (size_t)(n - 1) * v, v, &finite);
        free(logits);
        if (json_number_value(json_array_get(margin, i)) < 2 * TOLERANCE)
            break;
        assert_int_equal(ids[n], json_integer_value(json_array_get(want, i)));
    }
}

static void test_greedy(void **state) {
    (void)state;
    each_file(true, 1, check_greedy);
}

/* What the files say, and how permuted rows are dealt with on each path. */
static void test_facts(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct twin t;
        const struct file *f = &files[i];
        open_file(&t, f, kernels_pick(ISA_LEVEL_REF), true, 1);
        bool smol = strcmp(f->arch, "smollm3") == 0;
        assert_int_equal(t.facts.trust, TRUST_DERIVED);
        assert_null(t.facts.known);
        assert_int_equal(t.net.interleaved_rope, smol);
        assert_int_equal(gguf_alignment(t.weights->gguf), strcmp(f->tag, "f16") == 0 ? 64 : 32);
        assert_int_equal(t.facts.m.stop[0], 314);
        assert_int_equal(t.facts.m.stop[1], -1);
        assert_int_equal(t.facts.m.bos, -1);
        assert_true(t.facts.m.tied);
        if (smol)
            assert_int_equal(t.net.layers[3].kind, 'N');
        twin_close(&t);
        open_file(&t, f, kernels_pick(ISA_LEVEL_REF), false, 1);
        assert_false(t.net.interleaved_rope); /* rows were put back in order */
        twin_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),  cmocka_unit_test(test_dequant),
        cmocka_unit_test(test_exact),  cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_packed), cmocka_unit_test(test_splits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
