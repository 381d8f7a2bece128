/* test_model_forward.c - caches and the forward pass beyond the goldens: windows and what they forget,
 * long sequences by spans, batches, arguments, numbers that break, no allocation while running. */
#include "../golden/twin.h"

#define LONG 700 /* tokens: three spans of keys */

static void random_ids(int32_t *ids, uint32_t n, uint32_t vocab, uint32_t seed) {
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(seed >> 8) % (int32_t)vocab;
    }
}

/* Sequence and scratch over an opened twin. */
struct bench {
    struct twin t;
    struct kv *kv;
    struct forward *f;
    float *logits; /* [64, vocab] */
};

static void open_bench(struct bench *b, const char *twin, enum kv_type type, uint32_t context,
                       uint32_t chunk, unsigned threads, bool exact) {
    char folder[64];
    snprintf(folder, sizeof folder, "golden/%s", twin);
    twin_open(&b->t, folder, kernels_pick(ISA_LEVEL_COUNT), exact, threads);
    OK(&b->t, kv_alone(NULL, &b->t.facts.m, type, context, chunk, &b->kv, &b->t.why));
    OK(&b->t,
       forward_new(NULL, &b->t.net, b->t.rope, b->t.pool, chunk, chunk, context, &b->f, &b->t.why));
    b->logits = malloc((size_t)chunk * b->t.facts.m.vocab * sizeof(float));
}

static void close_bench(struct bench *b) {
    free(b->logits);
    forward_free(b->f);
    kv_alone_free(b->kv);
    twin_close(&b->t);
}

static slm_err step(struct bench *b, const int32_t *ids, uint32_t n, bool long_rope) {
    struct slice s = { .kv = b->kv, .n = n, .long_rope = long_rope, .rows = LOGITS_LAST };
    return forward_run(b->f, &s, 1, ids, b->logits, NULL, &b->t.why);
}

/* ------------------------------------------------------------------ long sequences */

/* Last logits of LONG tokens, evaluated in chunks. window: 0 leaves the twin's. */
static float *run_long(const char *twin, enum kv_type type, uint32_t chunk, unsigned threads,
                       uint32_t window, const char *pattern) {
    struct bench b;
    char folder[64];
    int32_t ids[LONG];
    snprintf(folder, sizeof folder, "golden/%s", twin);
    twin_open(&b.t, folder, kernels_pick(ISA_LEVEL_COUNT), false, threads);
    if (window > 0)
        b.t.facts.m.window = window;
    if (pattern != NULL) {
        b.t.facts.m.pattern = pattern;
        for (uint32_t i = 0; i < b.t.facts.m.layers; i++)
            b.t.net.layers[i].kind = pattern_at(pattern, i);
    }
    OK(&b.t, kv_alone(NULL, &b.t.facts.m, type, LONG, chunk, &b.kv, &b.t.why));
    OK(&b.t, forward_new(NULL, &b.t.net, b.t.rope, b.t.pool, chunk, 1, LONG, &b.f, &b.t.why));
    b.logits = malloc(b.t.facts.m.vocab * sizeof(float));
    random_ids(ids, LONG, b.t.facts.m.vocab, 7);
    for (uint32_t at = 0; at < LONG; at += chunk)
        OK(&b.t, step(&b, ids + at, LONG - at < chunk ? LONG - at : chunk,
                      b.t.facts.m.rope.kind == ROPE_LONG));
    float *last = malloc(b.t.facts.m.vocab * sizeof *last);
    memcpy(last, b.logits, b.t.facts.m.vocab * sizeof *last);
    close_bench(&b);
    return last;
}

static uint32_t vocab_of(const char *twin) {
    return strncmp(twin, "gemma", 5) == 0 || strncmp(twin, "phi", 3) == 0 ? 320 : 512;
}

/* Spans of keys, tiles of queries, pages inside a span, spans handed to several threads: the
 * bits are those of one token at a time on one thread. */
static void test_long(void **state) {
    (void)state;
    static const struct {
        const char *twin;
        uint32_t window;
        const char *pattern;
        enum kv_type type;
    } cases[] = {
        { "gemma-3-270m-it", 0, NULL, KV_F16 }, { "gemma-3-270m-it", 300, NULL, KV_F32 },
        { "gemma-3-4b-it", 256, "s", KV_BF16 }, { "gemma-3-4b-it", 257, "s", KV_Q8 },
        { "gemma-3-4b-it", 1, "s", KV_F16 },    { "qwen3-0.6b", 0, NULL, KV_F16 },
        { "smollm3-3b", 0, NULL, KV_Q8 },       { "phi-4-mini-instruct", 0, NULL, KV_F32 },
    };
    static const uint32_t chunks[] = { 64, LONG, 33 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        float *one =
            run_long(cases[i].twin, cases[i].type, 1, 1, cases[i].window, cases[i].pattern);
        for (size_t j = 0; j < ARRAY_LEN(chunks) + 1; j++) {
            bool decode = j == ARRAY_LEN(chunks);
            if (decode && cases[i].type != KV_F16)
                continue;
            float *other = run_long(cases[i].twin, cases[i].type, decode ? 1 : chunks[j],
                                    decode ? 4 : 2, cases[i].window, cases[i].pattern);
            for (uint32_t v = 0; v < vocab_of(cases[i].twin); v++)
                if (memcmp(&one[v], &other[v], sizeof *one) != 0)
                    fail_msg("%s window %u, chunk %u: logit %u is %.9g, one by one %.9g",
                             cases[i].twin, cases[i].window, decode ? 1 : chunks[j], v,
                             (double)other[v], (double)one[v]);
            free(other);
        }
        free(one);
    }
}

/* The window counts its own position: at 1 a layer sees nothing but itself, so the order of what came
 * before does not matter. */
static void test_window_of_one(void **state) {
    (void)state;
    struct bench b;
    float *first = NULL;
    for (unsigned order = 0; order < 2; order++) {
        twin_open(&b.t, "golden/gemma-3-270m-it", kernels_pick(ISA_LEVEL_COUNT), true, 1);
        b.t.facts.m.window = 1;
        b.t.facts.m.pattern = "s";
        for (uint32_t i = 0; i < b.t.facts.m.layers; i++)
            b.t.net.layers[i].kind = 's';
        OK(&b.t, kv_alone(NULL, &b.t.facts.m, KV_F32, 8, 8, &b.kv, &b.t.why));
        OK(&b.t, forward_new(NULL, &b.t.net, b.t.rope, b.t.pool, 8, 1, 8, &b.f, &b.t.why));
        b.logits = malloc(b.t.facts.m.vocab * sizeof(float));
        OK(&b.t,
           step(&b, order == 0 ? (const int32_t[]){ 5, 9, 100 } : (const int32_t[]){ 9, 5, 100 }, 3,
                false));
        if (order == 0) {
            first = b.logits;
            b.logits = NULL;
        } else {
            assert_memory_equal(first, b.logits, b.t.facts.m.vocab * sizeof *first);
        }
        close_bench(&b);
    }
    free(first);
}

/* ------------------------------------------------------------------ forgetting */

static void test_truncate(void **state) {
    (void)state;
    struct bench b;
    int32_t ids[150];
    float *want = malloc(320 * sizeof *want);
    open_bench(&b, "gemma-3-270m-it", KV_F16, 200, 10, 1, false); /* a window of 16, pages of 64 */
    random_ids(ids, 150, 320, 3);
    for (uint32_t at = 0; at < 150; at += 10)
        OK(&b.t, step(&b, ids + at, 10, false));
    /* before the last ten, page 1 (64 to 127) was needed from position 125 on; page 0 is gone */
    assert_true(kv_can_truncate(b.kv, 150) && kv_can_truncate(b.kv, 199) &&
                kv_can_truncate(b.kv, 140) && kv_can_truncate(b.kv, 0));
    assert_true(kv_can_truncate(b.kv, 79)); /* needs 64 on */
    assert_false(kv_can_truncate(b.kv, 78));
    assert_false(kv_truncate(b.kv, 78));
    assert_int_equal(kv_length(b.kv), 150);
    memcpy(want, b.logits, 320 * sizeof *want);
    for (uint32_t back = 79; back < 150; back += 7) { /* again from places that are left */
        assert_true(kv_truncate(b.kv, back));
        assert_int_equal(kv_length(b.kv), back);
        for (uint32_t at = back, n; at < 150; at += n) { /* the last ten together */
            n = (150 - at) % 10 > 0 ? (150 - at) % 10 : 10;
            OK(&b.t, step(&b, ids + at, n, false));
        }
        assert_memory_equal(want, b.logits, 320 * sizeof *want);
    }
    assert_true(kv_can_truncate(b.kv, 143)); /* the last run began at 149: page 1 is gone too */
    assert_false(kv_can_truncate(b.kv, 142));
    assert_true(kv_truncate(b.kv, 0));
    for (uint32_t at = 0; at < 150; at += 6)
        OK(&b.t, step(&b, ids + at, 6, false));
    assert_memory_equal(want, b.logits, 320 * sizeof *want);
    close_bench(&b);

    open_bench(&b, "qwen3-0.6b", KV_F16, 128, 10, 1, false); /* full layers forget nothing */
    for (uint32_t at = 0; at < 60; at += 10)
        OK(&b.t, step(&b, ids + at, 10, false));
    for (uint32_t n = 59; n > 0; n--)
        assert_true(kv_can_truncate(b.kv, n));
    close_bench(&b);
    free(want);
}

static uint64_t pool_bytes(const struct model *m, enum kv_type type, uint32_t context,
                           uint32_t chunk) {
    return kv_pool_bytes(m, type, kv_pages_for(m, context, chunk, 1));
}

static void test_sizes(void **state) {
    (void)state;
    const struct model *m = model_by_name("gemma-3-270m-it");
    uint64_t small = pool_bytes(m, KV_F16, 8192, 256), large = pool_bytes(m, KV_F16, 16384, 256);
    assert_true(large - small == (uint64_t)8192 * 3072 + 128 * 8); /* only full layers grow */
    assert_true(pool_bytes(m, KV_F16, 4096, 1) - (uint64_t)4096 * 3072 >=
                7864320); /* the published fixed part, and a page for the window's uneven ends */
    assert_true(pool_bytes(m, KV_F16, 4096, 1) - (uint64_t)4096 * 3072 <
                7864320 + kv_page_bytes(m, KV_F16, KV_SLIDING) + 4096);
    assert_true(pool_bytes(m, KV_F32, 4096, 1) > 2 * pool_bytes(m, KV_F16, 4096, 1) - 8192);
    assert_true(pool_bytes(m, KV_Q8, 4096, 1) * 16 < pool_bytes(m, KV_F16, 4096, 1) * 9);
    struct kv *kv;
    slm_why why;
    assert_int_equal(kv_alone(NULL, m, KV_F16, 0, 1, &kv, &why), SLM_E_ARG);
    assert_int_equal(kv_alone(NULL, m, KV_F16, 1, 0, &kv, &why), SLM_E_ARG);
    assert_int_equal(kv_alone(NULL, m, KV_COUNT, 1, 1, &kv, &why), SLM_E_ARG);
    assert_null(kv);
}

/* ------------------------------------------------------------------ arguments */

static void test_arguments(void **state) {
    (void)state;
    struct bench b;
    int32_t ids[64];
    open_bench(&b, "qwen3-0.6b", KV_F16, 20, 8, 1, false);
    random_ids(ids, 64, 512, 1);
    struct forward *f = b.f;
    slm_why *why = &b.t.why;
    struct slice s[2] = { { .kv = b.kv, .n = 8 }, { .kv = b.kv, .n = 1 } };
    assert_int_equal(forward_run(f, s, 0, ids, NULL, NULL, why), SLM_E_ARG);
    assert_int_equal(forward_run(f, s, 2, ids, NULL, NULL, why),
                     SLM_E_ARG); /* the same sequence twice */
    s[0].n = 0;
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_ARG);
    s[0].n = 9;
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_ARG);
    s[0].n = 8;
    s[0].long_rope = true;
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_ARG);
    s[0].long_rope = false;
    ids[3] = 512;
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_ARG);
    assert_non_null(strstr(why->message, "512"));
    ids[3] = -1;
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_ARG);
    ids[3] = 511;
    assert_int_equal(kv_length(b.kv), 0);
    OK(&b.t, forward_run(f, s, 1, ids, NULL, NULL, why));
    OK(&b.t, forward_run(f, s, 1, ids, NULL, NULL, why));
    assert_int_equal(forward_run(f, s, 1, ids, NULL, NULL, why), SLM_E_CONTEXT);
    assert_non_null(strstr(why->message, "16"));
    assert_non_null(strstr(why->message, "20"));
    assert_int_equal(kv_length(b.kv), 16);
    struct forward *small;
    assert_int_equal(forward_new(NULL, &b.t.net, b.t.rope, b.t.pool, 4, 5, 20, &small, why),
                     SLM_E_ARG);
    OK(&b.t, forward_new(NULL, &b.t.net, b.t.rope, b.t.pool, 4, 2, 20, &small, why));
    s[0].n = 3;
    s[0].rows = LOGITS_ALL;
    assert_int_equal(forward_run(small, s, 1, ids, b.logits, NULL, why),
                     SLM_E_ARG); /* three rows of logits */
    s[0].rows = LOGITS_LAST;
    OK(&b.t, forward_run(small, s, 1, ids, b.logits, NULL, why));
    forward_free(small);
    close_bench(&b);
}

/* Keys turned with the short factors cannot be continued with the long ones, nor the other way. */
static void test_rope_state(void **state) {
    (void)state;
    struct bench b;
    int32_t ids[80];
    open_bench(&b, "phi-4-mini-instruct", KV_F32, 128, 40, 1, true);
    random_ids(ids, 80, 320, 2);
    OK(&b.t, step(&b, ids, 40, false));
    assert_int_equal(step(&b, ids + 40, 40, true), SLM_E_STATE);
    assert_non_null(strstr(b.t.why.message, "short"));
    assert_int_equal(kv_length(b.kv), 40);
    assert_true(kv_truncate(b.kv, 0));
    OK(&b.t, step(&b, ids, 40, true));
    assert_int_equal(step(&b, ids + 40, 1, false), SLM_E_STATE);
    assert_true(kv_truncate(b.kv, 10));
    assert_int_equal(step(&b, ids + 40, 1, false), SLM_E_STATE); /* what is left is still long */
    OK(&b.t, step(&b, ids + 40, 1, true));
    close_bench(&b);
}

/* ------------------------------------------------------------------ numbers that break */

static void test_not_finite(void **state) {
    (void)state;
    struct bench b;
    int32_t ids[64];
    open_bench(&b, "qwen3-0.6b", KV_F32, 64, 8, 2, true);
    random_ids(ids, 64, 512, 5);
    OK(&b.t, step(&b, ids, 8, false));
    float *norm = (float *)(uintptr_t)b.t.net.layers[2].ffn_norm, kept = norm[3];
    norm[3] = NAN;
    assert_int_equal(step(&b, ids + 8, 4, false), SLM_E_NUMERIC);
    assert_int_equal(kv_length(b.kv), 8); /* as before the call */
    struct slice s = { .kv = b.kv, .n = 4 };
    assert_int_equal(forward_run(b.f, &s, 1, ids + 8, NULL, NULL, &b.t.why),
                     SLM_E_NUMERIC); /* without logits too */
    norm[3] = kept;
    OK(&b.t, step(&b, ids + 8, 4, false));
    float *after = malloc(512 * sizeof *after);
    memcpy(after, b.logits, 512 * sizeof *after);
    assert_true(kv_truncate(b.kv, 0));
    OK(&b.t, step(&b, ids, 8, false));
    OK(&b.t, step(&b, ids + 8, 4, false));
    assert_memory_equal(after, b.logits, 512 * sizeof *after); /* the failed calls left no trace */
    free(after);
    close_bench(&b);
}

/* ------------------------------------------------------------------ no allocation */

static void test_no_allocation(void **state) {
    (void)state;
    struct twin t;
    struct test_hooks h;
    struct pool *pool;
    struct net net;
    struct kv *kv;
    struct forward *f;
    int32_t ids[64];
    twin_open(&t, "golden/gemma-3-4b-it", kernels_pick(ISA_LEVEL_COUNT), false, 1);
    test_hooks_init(&h, 0);
    OK(&t, pool_new(&h.hooks, 2, &pool, &t.why));
    struct net_options o = { .kernels = t.net.kernels, .pool = pool };
    OK(&t, net_bind(&net, &h.hooks, t.weights, &t.facts, &o, &t.why));
    OK(&t, kv_alone(&h.hooks, &t.facts.m, KV_F16, 400, 16, &kv, &t.why));
    OK(&t, forward_new(&h.hooks, &net, t.rope, pool, 16, 1, 400, &f, &t.why));
    float *logits = malloc(t.facts.m.vocab * sizeof *logits);
    random_ids(ids, 64, t.facts.m.vocab, 9);
    size_t before = h.requests;
    for (unsigned i = 0; i < 100; i++) {
        struct slice s = { .kv = kv, .n = i < 20 ? 16 : 1, .rows = LOGITS_LAST };
        OK(&t, forward_run(f, &s, 1, ids, logits, NULL, &t.why));
    }
    assert_int_equal(h.requests, before);
    forward_free(f);
    kv_alone_free(kv);
    net_free(&net);
    pool_free(pool);
    assert_int_equal(h.live, 0);
    free(logits);
    twin_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),         cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_arguments),     cmocka_unit_test(test_rope_state),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_window_of_one), cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
