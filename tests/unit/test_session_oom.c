/* test_session_oom.c - what happens when memory, or a thread, is refused.
 *
 * Every request of a whole life (open, plan, session, chat, append, close; and of quantising) fails
 * once and from there on: an error code each time, nothing is left behind, and with enough memory the
 * answer is the same as ever. The library's requests come through its hooks, jansson's through that
 * library's own; both are counted as one sequence. Threads are refused by a pthread_create of this
 * program, which stands in front of the C library's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "tiny_model.h"

/* ------------------------------------------------------------------ refusals */

static struct test_hooks counter;

static void *json_alloc(size_t n) {
    return counter.hooks.alloc(&counter, n);
}

static void json_release(void *p) {
    if (p != NULL)
        counter.hooks.release(&counter, p);
}

static size_t threads_left = SIZE_MAX;

typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                   void *arg) {
    create_fn create;
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&create, &symbol, sizeof create);
    if (threads_left == 0)
        return EAGAIN;
    if (threads_left != SIZE_MAX)
        threads_left--;
    return create(thread, attr, start, arg);
}

/* ------------------------------------------------------------------ lives */

static struct tiny tiny;
static char gguf_path[512], out_path[512], answer[256];
static size_t n_answer;
static slm_why why;
static const char hello[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},"
    "{\"role\":\"user\",\"content\":\"What is 2 + 2? <s>\"}],\"kwargs\":{\"x\":[1,\"y\",null]}}";

static bool hear(void *user, enum slm_part part, const char *text, size_t n) {
    (void)user;
    (void)part;
    if (n_answer + n < sizeof answer) {
        memcpy(answer + n_answer, text, n);
        n_answer += n;
    }
    return true;
}

static slm_err talk(slm_engine *e, unsigned threads) {
    slm_session_options so = slm_session_default();
    slm_generate_options g = slm_generate_default();
    slm_session *s = NULL;
    slm_result r = { .size = sizeof r };
    slm_plan p = { .size = sizeof p };
    int32_t ids[] = { 1, 2, 3 };
    so.context = 96;
    so.chunk = 16;
    so.threads = threads;
    so.max_bytes = (uint64_t)1 << 40;
    g.max_tokens = 3;
    g.default_sampling = false;
    g.on_text = hear;
    g.think_budget = 2;
    n_answer = 0;
    slm_err err = slm_engine_plan(e, &so, &p, &why);
    if (err == SLM_OK)
        err = slm_session_open(e, &so, &s, NULL);
    if (err == SLM_OK && slm_session_context(s) != 96)
        err = SLM_E_STATE;
    if (err == SLM_OK)
        err = slm_chat(s, hello, sizeof hello - 1, &g, &r, &why);
    if (err == SLM_OK)
        err = slm_session_append(s, ids, 3, false, NULL, NULL, NULL);
    slm_session_close(s);
    return err;
}

static slm_err use(slm_err err, slm_engine *e, unsigned threads) {
    slm_info i = { .size = sizeof i };
    char value[64];
    const char *key;
    if (err == SLM_OK)
        err = slm_engine_info(e, &i);
    if (err == SLM_OK && i.n_meta > 0)
        err = slm_engine_meta(e, i.n_meta - 1, &key, value, sizeof value);
    if (err == SLM_OK)
        err = talk(e, threads);
    slm_engine_close(e);
    return err;
}

static slm_err life_folder(unsigned threads) {
    slm_engine *e = NULL;
    slm_engine_options o = slm_engine_default();
    o.hooks = &counter.hooks;
    o.threads = threads;
    o.isa = test_isa();
    slm_err err = slm_engine_open_memory(tiny.files, tiny.n_files, &o, &e, &why);
    return use(err, e, threads);
}

static slm_err life_path(const char *path, unsigned threads) {
    slm_engine *e = NULL;
    slm_engine_options o = slm_engine_default();
    o.hooks = &counter.hooks;
    o.threads = threads;
    o.isa = test_isa();
    slm_err err = slm_engine_open(path, &o, &e, &why);
    return use(err, e, threads);
}

static slm_err life_gguf(unsigned threads) {
    return life_path(gguf_path, threads);
}

static slm_err life_demo(unsigned threads) {
    return life_path("demo-model", threads);
}

static slm_err life_quantize(unsigned threads) {
    slm_quantize_options o = slm_quantize_default();
    o.hooks = &counter.hooks;
    o.threads = threads;
    unlink(out_path);
    return slm_quantize("tests/golden/qwen3-0.6b", out_path, "q8_0", &o, &why);
}

static slm_err life_requantize(unsigned threads) {
    slm_quantize_options o = slm_quantize_default();
    o.hooks = &counter.hooks;
    o.threads = threads;
    unlink(out_path);
    return slm_quantize(gguf_path, out_path, "q8_0", &o, &why);
}

/* ------------------------------------------------------------------ every request fails in turn */

typedef slm_err (*life_fn)(unsigned threads);

/* A life with memory enough; gives the number of requests. */
static size_t count_requests(life_fn life) {
    test_hooks_init(&counter, 0);
    assert_int_equal(life(1), SLM_OK);
    assert_int_equal(counter.live, 0);
    return counter.requests;
}

/* Long lives (a tokenizer has thousands of requests that are all alike) are sampled after the first
 * `dense`, at steps that share no factor with loops of two or three requests. */
static void fail_each(life_fn life, size_t dense) {
    size_t n = count_requests(life), refused = 0;
    char usual[sizeof answer];
    memcpy(usual, answer, sizeof usual);
    for (int once = 0; once < 2; once++)
        for (size_t k = 1; k <= n; k += k < dense || k + dense > n ? 1 : 37) {
            test_hooks_init(&counter, k);
            counter.once = once;
            slm_err err = life(1);
            if (err != SLM_E_NOMEM || counter.live != 0)
                print_error("request %zu of %zu%s: %s (%s), %zu blocks left\n", k, n,
                            once ? " once" : "", slm_err_name(err), why.message, counter.live);
            assert_true(counter.failed);
            assert_int_equal(err, SLM_E_NOMEM);
            assert_int_equal(counter.live, 0);
            refused++;
        }
    assert_int_equal(count_requests(life), n);
    assert_memory_equal(usual, answer, sizeof usual);
    print_message("# %zu requests, %zu refusals\n", n, refused);
}

static void test_folder(void **state) {
    (void)state;
    fail_each(life_folder, 1500);
}

static void test_gguf(void **state) {
    (void)state;
    fail_each(life_gguf, 1500);
}

static void test_demo(void **state) {
    (void)state;
    fail_each(life_demo, 100);
}

static void test_quantize(void **state) {
    (void)state;
    fail_each(life_quantize, 1000);
    assert_int_equal(access(out_path, F_OK), 0);
    test_hooks_init(&counter, counter.requests / 2);
    assert_int_equal(life_quantize(1), SLM_E_NOMEM);
    assert_int_equal(access(out_path, F_OK), -1); /* no half file under the name */
}

static void test_requantize(void **state) {
    (void)state;
    fail_each(life_requantize, 1000);
}

/* The n-th thread does not start, in loading, in the session, in quantising. */
static void test_threads(void **state) {
    (void)state;
    static const life_fn lives[] = { life_folder, life_gguf, life_demo, life_quantize };
    for (size_t i = 0; i < ARRAY_LEN(lives); i++) {
        size_t k = 0;
        for (;; k++) {
            test_hooks_init(&counter, 0);
            threads_left = k;
            slm_err err = lives[i](3);
            bool enough = threads_left > 0;
            threads_left = SIZE_MAX;
            assert_int_equal(counter.live, 0);
            if (enough)
                break;
            assert_true(err != SLM_OK || k > 0);
            if (err == SLM_OK)
                break; /* exactly as many as were wanted */
            assert_int_equal(err, SLM_E_NOMEM);
        }
        assert_true(k >= 2);
        test_hooks_init(&counter, 0);
        assert_int_equal(lives[i](3), SLM_OK);
        assert_int_equal(counter.live, 0);
    }
}

static int setup(void **state) {
    (void)state;
    char folder[512];
    tiny_init(&tiny, "qwen3-0.6b");
    tiny_text(&tiny, "tokenizer_config.json",
              "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"chat_template\":\"{{ "
              "bos_token }}\"}");
    tiny_build(&tiny);
    for (size_t i = 0; i < tiny.n_files; i++) {
        char name[64];
        snprintf(name, sizeof name, "folder/%s", tiny.files[i].name);
        if (!temp_file(folder, sizeof folder, name, tiny.files[i].data, tiny.files[i].size))
            return -1;
    }
    *strrchr(folder, '/') = '\0';
    if (!temp_file(gguf_path, sizeof gguf_path, "model.gguf", "", 0) ||
        !temp_file(out_path, sizeof out_path, "out.gguf", "", 0))
        return -1;
    if (slm_quantize(folder, gguf_path, "q8_0", NULL, &why) != SLM_OK) {
        print_error("%s\n", why.message);
        return -1;
    }
    test_hooks_init(&counter, 0);
    json_set_alloc_funcs(json_alloc, json_release);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    json_set_alloc_funcs(malloc, free);
    tiny_free(&tiny);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),     cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_demo),       cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_requantize), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
