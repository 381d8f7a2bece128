/* test_session_threads.c - one engine, many threads: what slm.h promises, and for ThreadSanitizer.
 *
 * Sessions with worker threads of their own run at once and give what one alone gives; text, ids and
 * plans are asked for from everywhere; a session is cancelled from another thread and from a signal
 * handler, before, during and after its work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slm.h"
#include "support.h"

#define THREADS 4

static slm_engine *engine;
static const char question[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of Peru?\"}],"
    "\"kwargs\":{\"enable_thinking\":false}}";
static const char sums[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is 47 * 36?\"}]}";

struct heard {
    char text[2048];
    size_t n;
};

static bool hear(void *user, enum slm_part part, const char *text, size_t n) {
    struct heard *h = user;
    (void)part;
    if (h->n + n < sizeof h->text)
        memcpy(h->text + h->n, text, n);
    h->n += n;
    return true;
}

static slm_engine *open_demo(void) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.threads = 2;
    o.isa = test_isa();
    return slm_engine_open("demo-model", &o, &e, NULL) == SLM_OK ? e : NULL;
}

static slm_session *open_session(const slm_engine *e, uint32_t chunk, unsigned threads) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.chunk = chunk;
    o.threads = threads;
    return slm_session_open(e, &o, &s, NULL) == SLM_OK ? s : NULL;
}

/* ------------------------------------------------------------------ sharing an engine */

struct worker {
    const slm_engine *engine;
    unsigned index;
    struct heard heard;
    int32_t ids[1024];
    size_t n;
    bool ok;
};

/* cmocka's assertions belong to the main thread: workers only note. */
static void *work(void *arg) {
    struct worker *w = arg;
    slm_result r = { .size = sizeof r };
    slm_generate_options o = slm_generate_default();
    o.on_text = hear;
    o.user = &w->heard;
    o.max_tokens = 40;
    slm_session *s = open_session(w->engine, 5 + 11 * w->index, 1 + w->index % 2);
    w->ok = s != NULL && slm_chat(s, sums, sizeof sums - 1, &o, &r, NULL) == SLM_OK;
    w->n = s != NULL ? slm_session_length(s) : 0;
    if (w->ok)
        memcpy(w->ids, slm_session_ids(s), w->n * sizeof *w->ids);
    slm_session_close(s);
    return NULL;
}

/* The same ids with other chunks, other numbers of threads, and others beside it. */
static void test_sessions(void **state) {
    (void)state;
    static struct worker alone, w[THREADS];
    pthread_t thread[THREADS];
    alone.engine = engine;
    work(&alone);
    assert_true(alone.ok && alone.n > 50);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){ .engine = engine, .index = i };
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_true(w[i].ok);
        assert_int_equal(w[i].n, alone.n);
        assert_memory_equal(w[i].ids, alone.ids, alone.n * sizeof *alone.ids);
        assert_memory_equal(w[i].heard.text, alone.heard.text, alone.heard.n);
    }
}

/* Everything about an engine that needs no session. */
static void *ask(void *arg) {
    struct worker *w = arg;
    w->ok = true;
    for (int i = 0; i < 30 && w->ok; i++) {
        int32_t *ids = NULL;
        char *text = NULL, value[32];
        const char *key;
        size_t n_ids, n;
        bool inside;
        slm_info info = { .size = sizeof info };
        slm_plan plan = { .size = sizeof plan };
        slm_why why;
        w->ok = slm_render_ids(w->engine, question, sizeof question - 1, NULL, &ids, &n_ids,
                               &inside, &why) == SLM_OK &&
                slm_decode(w->engine, ids, n_ids, false, &text, &n, &why) == SLM_OK && n > 20 &&
                slm_engine_info(w->engine, &info) == SLM_OK &&
                slm_engine_plan(w->engine, NULL, &plan, &why) == SLM_OK &&
                slm_engine_meta(w->engine, 0, &key, value, sizeof value) == SLM_E_ARG;
        slm_free(w->engine, ids);
        slm_free(w->engine, text);
    }
    return NULL;
}

/* Engines of their own, opened while others work. */
static void *open_and_ask(void *arg) {
    struct worker *w = arg;
    slm_engine *own = open_demo();
    w->engine = own;
    if (own != NULL) {
        ask(w);
        if (w->ok)
            work(w);
    }
    slm_engine_close(own);
    return NULL;
}

static void test_engines(void **state) {
    (void)state;
    static struct worker w[THREADS];
    pthread_t thread[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){ .engine = engine, .index = i };
        assert_int_equal(pthread_create(&thread[i], NULL, i % 2 == 0 ? ask : open_and_ask, &w[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(w[i].ok);
    }
}

/* ------------------------------------------------------------------ cancelling */

struct cancelling {
    slm_session *session;
    _Atomic size_t tokens;
    _Atomic bool begun;
};

static bool count(void *user, int32_t id, float logprob) {
    struct cancelling *c = user;
    (void)id;
    (void)logprob;
    atomic_fetch_add(&c->tokens, 1);
    return true;
}

static bool begun(void *user, size_t done, size_t total) {
    struct cancelling *c = user;
    (void)done;
    (void)total;
    atomic_store(&c->begun, true);
    return true;
}

static void *cancel_after_tokens(void *arg) {
    struct cancelling *c = arg;
    while (atomic_load(&c->tokens) < 10)
        usleep(200);
    slm_session_cancel(c->session);
    return NULL;
}

static void *cancel_after_begin(void *arg) {
    struct cancelling *c = arg;
    while (!atomic_load(&c->begun))
        usleep(50);
    slm_session_cancel(c->session);
    return NULL;
}

/* Raw text continued until the context is full: long enough for the canceller to come first. */
static slm_generate_options endless(struct cancelling *c) {
    slm_generate_options o = slm_generate_default();
    o.default_sampling = false;
    o.sampling.temperature = 1.5f;
    o.ignore_stop_ids = true;
    o.on_token = count;
    o.on_prefill = begun;
    o.user = c;
    return o;
}

static void test_cancel_generation(void **state) {
    (void)state;
    for (int round = 0; round < 3; round++) {
        struct cancelling c = { .session = open_session(engine, 64, 2) };
        slm_generate_options o = endless(&c);
        slm_result r = { .size = sizeof r };
        pthread_t thread;
        assert_non_null(c.session);
        assert_int_equal(pthread_create(&thread, NULL, cancel_after_tokens, &c), 0);
        assert_int_equal(slm_chat(c.session, question, sizeof question - 1, &o, &r, NULL), SLM_OK);
        pthread_join(thread, NULL);
        assert_int_equal(r.finish, SLM_FINISH_CANCELLED);
        assert_true(r.output_tokens >= 10 && r.output_tokens < 1000);
        assert_int_equal(slm_session_length(c.session), r.prompt_tokens + r.output_tokens);
        slm_session_resume(c.session); /* and it goes on from there */
        o.max_tokens = 5;
        size_t before = slm_session_length(c.session);
        assert_int_equal(slm_generate(c.session, &o, &r, NULL), SLM_OK);
        assert_int_equal(slm_session_length(c.session), before + 5);
        slm_session_close(c.session);
    }
}

static void test_cancel_prefill(void **state) {
    (void)state;
    int32_t ids[1000];
    for (int i = 0; i < 1000; i++)
        ids[i] = i * 7 % 2500;
    struct cancelling c = { .session = open_session(engine, 1, 1) };
    pthread_t thread;
    assert_non_null(c.session);
    slm_session *other = open_session(engine, 64, 1);
    assert_int_equal(slm_session_sync(other, ids, 1000, NULL, NULL), SLM_OK);
    atomic_store(&c.begun, true);
    assert_int_equal(pthread_create(&thread, NULL, cancel_after_begin, &c), 0);
    slm_err err = slm_session_sync(c.session, ids, 1000, NULL, NULL);
    pthread_join(thread, NULL);
    assert_true(err == SLM_E_CANCELLED || err == SLM_OK); /* the other thread may have been late */
    size_t held = slm_session_length(c.session), reused = 0;
    assert_true(err == SLM_OK || held < 1000);
    slm_session_resume(c.session);
    assert_int_equal(slm_session_sync(c.session, ids, 1000, &reused, NULL), SLM_OK);
    assert_true(err == SLM_OK || reused == held); /* what was evaluated is kept */
    assert_memory_equal(slm_session_logits(c.session), slm_session_logits(other),
                        2560 * sizeof(float));
    slm_session_close(other);
    slm_session_close(c.session);
}

static slm_session *interrupted;

static void on_signal(int number) {
    (void)number;
    slm_session_cancel(interrupted);
}

static bool raise_after_five(void *user, int32_t id, float logprob) {
    struct cancelling *c = user;
    (void)id;
    (void)logprob;
    if (atomic_fetch_add(&c->tokens, 1) == 4)
        raise(SIGUSR1);
    return true;
}

static void test_cancel_from_a_signal(void **state) {
    (void)state;
    struct sigaction action = { .sa_handler = on_signal }, before;
    struct cancelling c = { .session = open_session(engine, 64, 2) };
    slm_generate_options o = endless(&c);
    slm_result r = { .size = sizeof r };
    interrupted = c.session;
    o.on_token = raise_after_five;
    sigaction(SIGUSR1, &action, &before);
    assert_int_equal(slm_chat(c.session, question, sizeof question - 1, &o, &r, NULL), SLM_OK);
    sigaction(SIGUSR1, &before, NULL);
    assert_int_equal(r.finish, SLM_FINISH_CANCELLED);
    assert_int_equal(r.output_tokens, 5);
    slm_session_close(c.session);
}

static int setup(void **state) {
    (void)state;
    engine = open_demo();
    return engine != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    slm_engine_close(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_engines),
        cmocka_unit_test(test_cancel_generation),
        cmocka_unit_test(test_cancel_prefill),
        cmocka_unit_test(test_cancel_from_a_signal),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
