/* test_model_stop.c - a run that is told to stop ends after the layer at hand and leaves sequences as
 * they were, rings included; plans of a bound net equal those made from its file. */
#include "../golden/twin.h"

#include <stdatomic.h>

#define CONTEXT 64
#define CHUNK 8

static void pick_ids(int32_t ids[CONTEXT], uint32_t vocab) {
    for (uint32_t i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)((i * 37 + 11) % vocab);
}

/* Logits of the last token; every chunk is first cancelled once when `disturbed`. */
static float *run_all(const char *folder, unsigned threads, bool disturbed) {
    struct twin t;
    struct kv *kv;
    struct forward *f;
    int32_t ids[CONTEXT];
    atomic_bool stop;
    twin_open(&t, folder, kernels_pick(ISA_LEVEL_COUNT), false, threads);
    const struct model *m = &t.facts.m;
    pick_ids(ids, m->vocab);
    OK(&t, kv_alone(NULL, m, KV_F16, CONTEXT, CHUNK, &kv, &t.why));
    OK(&t, forward_new(NULL, &t.net, t.rope, t.pool, CHUNK, 1, CONTEXT, &f, &t.why));
    atomic_init(&stop, false);
    if (disturbed)
        forward_stop_on(f, &stop);
    float *logits = malloc(m->vocab * sizeof *logits);
    assert_non_null(logits);
    for (uint32_t at = 0; at < CONTEXT; at += CHUNK) {
        struct slice s = { .kv = kv, .n = CHUNK, .rows = LOGITS_LAST };
        if (disturbed) {
            atomic_store(&stop, true);
            assert_int_equal(forward_run(f, &s, 1, ids + at, logits, NULL, &t.why),
                             SLM_E_CANCELLED);
            assert_int_equal(kv_length(kv), at);
            atomic_store(&stop, false);
        }
        OK(&t, forward_run(f, &s, 1, ids + at, logits, NULL, &t.why));
        assert_int_equal(kv_length(kv), at + CHUNK);
    }
    forward_free(f);
    kv_alone_free(kv);
    twin_close(&t);
    return logits;
}

static void test_stop_leaves_no_trace(void **state) {
    static const struct {
        const char *folder;
        uint32_t vocab;
    } twins[] = { { "golden/qwen3-0.6b", 512 }, { "golden/gemma-3-270m-it", 320 } };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(twins); i++) {
        float *want = run_all(twins[i].folder, 1, false);
        for (unsigned threads = 1; threads <= 3; threads++) {
            float *got = run_all(twins[i].folder, threads, true);
            assert_memory_equal(got, want, twins[i].vocab * sizeof *want);
            free(got);
        }
        free(want);
    }
}

static void test_plan_of_a_bound_net(void **state) {
    static const char *const folders[] = { "golden/qwen3-0.6b", "golden/phi-4-mini-instruct" };
    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(folders); i++) {
        struct twin t;
        struct plan a, b;
        bool exact = i % 2 == 1;
        twin_open(&t, folders[i / 2], kernels_pick(ISA_LEVEL_COUNT), exact, 1);
        struct plan_request r = { .context = 100,
                                  .sequences = 3,
                                  .chunk = 20,
                                  .logit_rows = 2,
                                  .kv = KV_F16,
                                  .threads = 2,
                                  .exact = exact,
                                  .session_bytes = 1234,
                                  .vocabulary_bytes = 99 };
        OK(&t, plan_make(&t.facts, t.weights, t.net.kernels, &r, &a, &t.why));
        OK(&t, plan_net(&t.net, &r, &b, &t.why));
        assert_memory_equal(&a, &b, sizeof a);
        r.threads = POOL_MAX + 1; /* no pool has so many, and each costs scratch */
        assert_int_equal(plan_net(&t.net, &r, &b, &t.why), SLM_E_ARG);
        assert_int_equal(plan_make(&t.facts, t.weights, t.net.kernels, &r, &b, &t.why), SLM_E_ARG);
        twin_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_leaves_no_trace),
        cmocka_unit_test(test_plan_of_a_bound_net),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
