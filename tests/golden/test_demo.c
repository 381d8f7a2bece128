/* test_demo.c - the built-in model against its golden file, through the public interface only.
 *
 * demo-model/golden.json: 20 conversations with rendered prompt, ids, float32 logits after the
 * prompt, greedy continuation and the margin between the two best logits of every step.
 * The exact path must reproduce prompt, ids and text, and its logits within 1e-3 (they span about
 * 30; the file keeps six digits). The fast path must give the same text wherever every margin is
 * larger than the error that its rounding makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "slm.h"
#include "support.h"

#define FOLDER "demo-model"
#define FAST_MARGIN 0.5 /* smallest margin at which the fast path has to choose the same id */

static json_t *golden;
static slm_engine *exact, *fast;

static slm_engine *open_demo(bool want_exact) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why = {0};
    o.exact = want_exact;
    o.isa = test_isa();
    o.id_hint = "demo";
    if (slm_engine_open(FOLDER, &o, &e, &why) != SLM_OK)
        print_error("%s\n", why.message);
    return e;
}

static int setup(void **state) {
    (void)state;
    golden = json_load_file(FOLDER "/golden.json", 0, NULL);
    exact = open_demo(true);
    fast = open_demo(false);
    return golden != NULL && exact != NULL && fast != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    json_decref(golden);
    slm_engine_close(exact);
    slm_engine_close(fast);
    return 0;
}

/* The conversation of a case as slm.h wants it; free(). */
static char *request_of(const json_t *c) {
    json_t *kwargs = json_object(), *root = json_object();
    if (json_is_array(json_object_get(c, "tools")))
        json_object_set(kwargs, "tools", json_object_get(c, "tools"));
    json_object_set(kwargs, "enable_thinking", json_object_get(c, "enable_thinking"));
    json_object_set(root, "messages", json_object_get(c, "messages"));
    json_object_set_new(root, "kwargs", kwargs);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

static void test_prompts(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        char *request = request_of(c), *text;
        size_t n, n_ids;
        int32_t *ids;
        bool inside = true;
        slm_why why = {0};
        assert_int_equal(slm_render(exact, request, strlen(request), NULL, &text, &n, &why), SLM_OK);
        assert_string_equal(text, json_string_value(json_object_get(c, "prompt")));
        slm_free(exact, text);
        assert_int_equal(slm_render_ids(exact, request, strlen(request), NULL, &ids, &n_ids, &inside, &why), SLM_OK);
        const json_t *want = json_object_get(c, "prompt_ids");
        assert_false(inside);
        assert_int_equal(n_ids, json_array_size(want));
        for (size_t k = 0; k < n_ids; k++)
            assert_int_equal(ids[k], json_integer_value(json_array_get(want, k)));
        slm_free(exact, ids);
        free(request);
    }
}

static slm_session *session_of(const slm_engine *e, enum slm_kv kv, unsigned threads) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    slm_why why = {0};
    o.kv = kv;
    o.threads = threads;
    if (slm_session_open(e, &o, &s, &why) != SLM_OK)
        print_error("%s\n", why.message);
    return s;
}

/* Evaluates the prompt of a case; returns its ids in out [at most max]. */
static size_t feed(slm_session *s, const json_t *c) {
    int32_t ids[1024];
    const json_t *list = json_object_get(c, "prompt_ids");
    size_t n = json_array_size(list);
    slm_why why = {0};
    assert_true(n < 1024);
    for (size_t k = 0; k < n; k++)
        ids[k] = (int32_t)json_integer_value(json_array_get(list, k));
    assert_int_equal(slm_session_sync(s, ids, n, NULL, &why), SLM_OK);
    return n;
}

static double worst_logit(slm_session *s, const json_t *c) {
    const json_t *want = json_object_get(c, "last_logits");
    double worst = 0.0;
    const float *got = slm_session_logits(s);
    assert_non_null(got);
    for (size_t k = 0; k < json_array_size(want); k++)
        worst = fmax(worst, fabs((double)got[k] - json_number_value(json_array_get(want, k))));
    return worst;
}

static void check_greedy(slm_session *s, const json_t *c, double least_margin) {
    const json_t *want = json_object_get(c, "greedy_ids"), *margins = json_object_get(c, "top2_margins");
    size_t n = feed(s, c);
    slm_generate_options o = slm_generate_default();
    slm_result r = {.size = sizeof r};
    slm_why why = {0};
    o.max_tokens = (uint32_t)json_array_size(want);
    assert_int_equal(slm_generate(s, &o, &r, &why), SLM_OK);
    for (size_t k = 0; k < r.output_tokens && k < json_array_size(want); k++) {
        if (json_number_value(json_array_get(margins, k)) < least_margin)
            return; /* a near tie: what follows may differ */
        assert_int_equal(slm_session_ids(s)[n + k], json_integer_value(json_array_get(want, k)));
    }
    if (r.finish == SLM_FINISH_STOP) /* the stop id is not kept */
        assert_int_equal(r.output_tokens + 1, json_array_size(want));
    else /* the golden was cut at its own limit */
        assert_int_equal(r.output_tokens, json_array_size(want));
}

static void test_exact(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    slm_session *s = session_of(exact, SLM_KV_F32, 2);
    assert_non_null(s);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        feed(s, c);
        double worst = worst_logit(s, c);
        if (worst >= 1e-3)
            print_error("%s: logits off by %g\n", json_string_value(json_object_get(c, "id")), worst);
        assert_true(worst < 1e-3);
        check_greedy(s, c, 2e-3);
    }
    slm_session_close(s);
}

static void test_fast(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    double worst = 0.0;
    slm_session *s = session_of(fast, SLM_KV_F16, 2);
    assert_non_null(s);
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        feed(s, c);
        worst = fmax(worst, worst_logit(s, c));
        check_greedy(s, c, FAST_MARGIN);
    }
    print_message("# fast path: logits within %.3f of the float32 golden\n", worst);
    assert_true(worst < FAST_MARGIN);
    slm_session_close(s);
}

/* The same bits with one thread and with two, and after a detour over other prompts. */
static void test_same_bits(void **state) {
    (void)state;
    const json_t *cases = json_object_get(golden, "cases");
    slm_session *one = session_of(fast, SLM_KV_F16, 1), *two = session_of(fast, SLM_KV_F16, 2);
    assert_true(one != NULL && two != NULL);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        feed(one, json_array_get(cases, i));
        feed(two, json_array_get(cases, i));
        assert_memory_equal(slm_session_logits(one), slm_session_logits(two), 2560 * sizeof(float));
    }
    feed(one, json_array_get(cases, 0));
    feed(two, json_array_get(cases, 8));
    feed(two, json_array_get(cases, 0));
    assert_memory_equal(slm_session_logits(one), slm_session_logits(two), 2560 * sizeof(float));
    slm_session_close(one);
    slm_session_close(two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_fast),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
