/* test_session_batch.c - many sequences at once give the bits of sessions of their own: whatever the
 * places, the chunk, the threads, whoever comes and goes; and nobody waits for a long prompt. */
#include "../answers.h"

#include <pthread.h>
#include <stdatomic.h>

static slm_engine *twin;

static slm_batch *open_batch(const slm_engine *e, uint32_t places, uint32_t chunk,
                             unsigned threads) {
    slm_session_options o = slm_session_default();
    slm_batch *b = NULL;
    slm_why why;
    o.sequences = places;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.threads = threads;
    if (slm_batch_open(e, &o, &b, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return b;
}

static slm_session *open_session(const slm_engine *e, uint32_t chunk) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.threads = 1;
    o.speculate = SLM_SPECULATE_OFF;
    assert_int_equal(slm_session_open(e, &o, &s, NULL), SLM_OK);
    return s;
}

static void note_done(void *user, uint64_t id, const slm_result *r, slm_err err,
                      const slm_why *why) {
    struct heard *h = user;
    assert_int_equal(id, h->id);
    assert_true((err == SLM_OK) == (why == NULL));
    h->r = *r;
    h->err = err;
    h->done++;
}

static slm_err add(slm_batch *b, struct ask *a, struct heard *h) {
    slm_request r = { .size = sizeof r,
                      .ids = a->ids,
                      .n = a->n,
                      .options = &a->o,
                      .on_done = note_done,
                      .user = h };
    ask_hear(a, h);
    return slm_batch_add(b, &r, &h->id, NULL);
}

/* ------------------------------------------------------------------ the same bits */

static struct ask asks[ASKS];
static struct heard alone[ASKS], got[ASKS];

static void prepare(const slm_engine *e) {
    slm_session *s = open_session(e, 32);
    for (unsigned k = 0; k < ASKS; k++) {
        ask_make(&asks[k], k, ask_vocab(e));
        ask_alone(s, &asks[k], &alone[k]);
        assert_int_equal(alone[k].err, SLM_OK);
    }
    slm_session_close(s);
}

/* All requests through one batch, one added every `every` steps as long as there is a place. */
static void run_all(const slm_engine *e, uint32_t places, uint32_t chunk, unsigned threads,
                    unsigned every) {
    slm_batch *b = open_batch(e, places, chunk, threads);
    size_t added = 0, steps = 0, running = 0;
    memset(got, 0, sizeof got);
    while (added < ASKS || running > 0) {
        while (added < ASKS && (every == 0 || steps % every == 0)) {
            slm_err err = add(b, &asks[added], &got[added]);
            if (err == SLM_E_BUSY)
                break;
            assert_int_equal(err, SLM_OK);
            added++;
            if (every > 0)
                break;
        }
        running = slm_batch_step(b);
        assert_true(running <= places && ++steps < 10000);
    }
    for (unsigned k = 0; k < ASKS; k++)
        heard_same(&got[k], &alone[k]);
    slm_batch_close(b);
}

static void test_same_bits(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        prepare(e);
        run_all(e, ASKS, 256, 1, 0);
        run_all(e, 3, 64, 2, 0);
        run_all(e, 8, 1, 1, 2); /* a pass has a row for each place, and no more */
        run_all(e, 5, 23, 3, 3);
        run_all(e, 1, 16, 1, 0);
        slm_engine_close(e);
    }
    slm_engine *demo = ask_engine("demo", NULL);
    prepare(demo);
    run_all(demo, 4, 23, 2, 3);
    slm_engine_close(demo);
}

/* ------------------------------------------------------------------ coming and going */

/* One is cancelled after its j-th id, by its callback or by name: it keeps a beginning of its answer,
 * and the others do not notice. */
static void test_cancel_midway(void **state) {
    (void)state;
    prepare(twin);
    for (unsigned who = 0; who < 4; who++)
        for (size_t j = 1; j < 8; j += 5) {
            slm_batch *b = open_batch(twin, 6, 40, 1);
            memset(got, 0, sizeof got);
            for (unsigned k = 0; k < 6; k++) {
                got[k].stop_after = k == who && j % 2 ? j : 0;
                assert_int_equal(add(b, &asks[k], &got[k]), SLM_OK);
            }
            for (size_t running = 1, steps = 0; running > 0; steps++) {
                running = slm_batch_step(b);
                if (got[who].n >= j && j % 2 == 0)
                    slm_batch_cancel(b, got[who].id);
                assert_true(steps < 10000);
            }
            slm_batch_cancel(b, got[who].id); /* ended long ago: means nothing */
            for (unsigned k = 0; k < 6; k++)
                if (k != who)
                    heard_same(&got[k], &alone[k]);
            assert_int_equal(got[who].done, 1);
            assert_int_equal(got[who].err, SLM_OK);
            if (alone[who].n > j + 1)
                assert_int_equal(got[who].r.finish, SLM_FINISH_CANCELLED);
            assert_memory_equal(got[who].ids, alone[who].ids, got[who].n * sizeof(int32_t));
            slm_batch_close(b);
        }
}

static size_t asked_at[8], n_asked;
static bool on_prefill(void *user, size_t done, size_t total) {
    const size_t *limit = user;
    assert_int_equal(total, 150);
    asked_at[n_asked++ % 8] = done;
    return done < *limit;
}

/* While the prompt is read: by the callback, by name, by closing. */
static void test_cancel_prompt(void **state) {
    (void)state;
    prepare(twin);
    for (int how = 0; how < 4; how++) {
        slm_batch *b = open_batch(twin, 2, 32, 1);
        size_t limit = how == 0 ? 64 : 1000;
        memset(got, 0, sizeof got);
        got[1].r.finish = SLM_FINISH_STOP;
        n_asked = 0;
        struct ask a = asks[1];
        slm_request r = { .size = sizeof r,
                          .ids = a.ids,
                          .n = a.n,
                          .options = &a.o,
                          .on_done = note_done,
                          .user = &got[1] };
        a.o.on_prefill = on_prefill;
        a.o.user = &limit;
        a.o.on_token = NULL;
        a.o.on_text = NULL;
        assert_int_equal(slm_batch_add(b, &r, &got[1].id, NULL), SLM_OK);
        assert_int_equal(slm_batch_step(b), 1);
        assert_int_equal(slm_batch_step(b), 1);
        if (how == 1)
            slm_batch_cancel(b, got[1].id);
        if (how == 2)
            slm_batch_cancel(b, 0);
        if (how < 3)
            assert_int_equal(slm_batch_step(b), 0);
        slm_batch_close(b);
        assert_int_equal(got[1].done, 1);
        assert_int_equal(got[1].err, SLM_E_CANCELLED);
        assert_int_equal(got[1].r.prompt_tokens, 150);
        assert_true(n_asked >= 2 && asked_at[0] == 0 && asked_at[1] == 32);
    }
}

struct chain {
    slm_batch *b;
    unsigned next;
    struct heard *last;
};
static struct chain chain;

/* Places that are free are filled from on_done. */
static void add_next(void *user, uint64_t id, const slm_result *r, slm_err err,
                     const slm_why *why) {
    note_done(user, id, r, err, why);
    while (chain.next < ASKS) {
        unsigned k = chain.next;
        slm_request request = { .size = sizeof request,
                                .ids = asks[k].ids,
                                .n = asks[k].n,
                                .options = &asks[k].o,
                                .on_done = add_next,
                                .user = &got[k] };
        ask_hear(&asks[k], &got[k]);
        err = slm_batch_add(chain.b, &request, &got[k].id, NULL);
        if (err == SLM_E_BUSY)
            return;
        assert_int_equal(err, SLM_OK);
        chain.next++;
    }
}

static void test_added_from_done(void **state) {
    (void)state;
    prepare(twin);
    memset(got, 0, sizeof got);
    chain = (struct chain){ .b = open_batch(twin, 2, 50, 1) };
    struct heard first = { .done = 0 };
    slm_request r = {
        .size = sizeof r, .ids = asks[0].ids, .n = 1, .on_done = add_next, .user = &first
    };
    slm_generate_options o = slm_generate_default();
    o.max_tokens = 1;
    r.options = &o;
    assert_int_equal(slm_batch_add(chain.b, &r, &first.id, NULL), SLM_OK);
    for (size_t steps = 0; slm_batch_step(chain.b) > 0; steps++)
        assert_true(steps < 10000);
    for (unsigned k = 0; k < ASKS; k++)
        heard_same(&got[k], &alone[k]);
    slm_batch_close(chain.b);
}

/* Cancelling all ends those that run, not those that their ends bring in. */
static void test_cancel_all(void **state) {
    (void)state;
    prepare(twin);
    memset(got, 0, sizeof got);
    chain = (struct chain){ .b = open_batch(twin, 4, 50, 1) };
    struct heard first[2] = { { .done = 0 }, { .done = 0 } };
    for (unsigned k = 0; k < 2; k++) {
        slm_request r = { .size = sizeof r,
                          .ids = asks[0].ids,
                          .n = asks[0].n,
                          .on_done = add_next,
                          .user = &first[k] };
        assert_int_equal(slm_batch_add(chain.b, &r, &first[k].id, NULL), SLM_OK);
    }
    assert_int_equal(slm_batch_step(chain.b), 2);
    slm_batch_cancel(chain.b, 0);
    while (slm_batch_step(chain.b) > 0)
        ;
    for (unsigned k = 0; k < 2; k++)
        assert_int_equal(first[k].r.finish, SLM_FINISH_CANCELLED);
    for (unsigned k = 0; k < ASKS; k++)
        heard_same(&got[k], &alone[k]);
    slm_batch_close(chain.b);
}

/* What runs when the batch is closed ends as cancelled, and nothing can be added then. */
static void add_while_closing(void *user, uint64_t id, const slm_result *r, slm_err err,
                              const slm_why *why) {
    note_done(user, id, r, err, why);
    assert_int_equal(add(chain.b, &asks[3], &got[3]), SLM_E_STATE);
}

static void test_close(void **state) {
    (void)state;
    prepare(twin);
    memset(got, 0, sizeof got);
    chain.b = open_batch(twin, 2, 64, 1);
    slm_request r = { .size = sizeof r,
                      .ids = asks[0].ids,
                      .n = asks[0].n,
                      .options = &asks[0].o,
                      .on_done = add_while_closing,
                      .user = &got[0] };
    ask_hear(&asks[0], &got[0]);
    assert_int_equal(slm_batch_add(chain.b, &r, &got[0].id, NULL), SLM_OK);
    assert_int_equal(slm_batch_step(chain.b), 1);
    slm_batch_close(chain.b);
    assert_int_equal(got[0].done, 1);
    assert_int_equal(got[0].err, SLM_OK);
    assert_int_equal(got[0].r.finish, SLM_FINISH_CANCELLED);
    slm_batch_close(NULL);
}

/* ------------------------------------------------------------------ fairness */

/* A prompt of 150 tokens in passes of 16 rows does not keep those who write from a token each step;
 * two prompts of equal length are done together; a short one before a long one. */
static void test_nobody_waits(void **state) {
    (void)state;
    prepare(twin);
    slm_batch *b = open_batch(twin, 6, 16, 1);
    memset(got, 0, sizeof got);
    struct ask a[6];
    for (unsigned k = 0; k < 6; k++) {
        ask_make(&a[k], k < 2 ? 2 : 1, ask_vocab(twin)); /* one token, or 150 */
        a[k].o = slm_generate_default();
        a[k].o.ignore_stop_ids = true;
        a[k].o.speculate = SLM_SPECULATE_OFF; /* a token a step, not more */
        a[k].o.max_tokens = k < 2 ? 40 : 2;
    }
    a[5].n = 9;
    for (unsigned k = 0; k < 2; k++)
        assert_int_equal(add(b, &a[k], &got[k]), SLM_OK);
    slm_batch_step(b);
    for (unsigned k = 2; k < 6; k++)
        assert_int_equal(add(b, &a[k], &got[k]), SLM_OK);
    size_t first_of[6] = { 0 };
    for (size_t step = 1; slm_batch_step(b) > 0; step++) {
        for (unsigned k = 0; k < 2; k++)
            assert_int_equal(got[k].n, step + 1 < 40 ? step + 1 : 40);
        for (unsigned k = 2; k < 6; k++)
            if (got[k].n > 0 && first_of[k] == 0)
                first_of[k] = step;
    }
    assert_true(first_of[5] > 0 && first_of[5] <= 3); /* 9 tokens at 3 or 4 rows a step */
    assert_true(first_of[2] <= first_of[3] + 1 && first_of[3] <= first_of[2] + 1);
    assert_true(first_of[3] <= first_of[4] + 1 && first_of[4] <= first_of[3] + 1);
    assert_true(first_of[4] >= 30 && first_of[4] <= 33); /* 459 tokens at 14 rows a step */
    slm_batch_close(b);
}

/* ------------------------------------------------------------------ what goes wrong */

static void test_refused(void **state) {
    (void)state;
    prepare(twin);
    slm_batch *b = open_batch(twin, 2, 64, 1);
    struct ask a = asks[0];
    struct heard h = { .done = 0 };
    static int32_t many[ASK_CONTEXT + 1];
    slm_request r = { .size = sizeof r, .ids = many, .n = ASK_CONTEXT + 1 };
    slm_why why;
    assert_int_equal(slm_batch_context(b), ASK_CONTEXT);
    assert_int_equal(slm_batch_add(b, &r, NULL, &why), SLM_E_CONTEXT);
    assert_non_null(strstr(why.message, "221"));
    assert_non_null(strstr(why.message, "220"));
    r.n = 0;
    assert_int_equal(slm_batch_add(b, &r, NULL, &why), SLM_E_ARG);
    a.ids[1] = 1 << 20;
    assert_int_equal(add(b, &a, &h), SLM_E_ARG);
    a = asks[0];
    a.o.sampling.temperature = -1.0f;
    assert_int_equal(add(b, &a, &h), SLM_E_ARG);
    a.o = asks[0].o;
    a.o.n_stop = 99;
    assert_int_equal(add(b, &a, &h), SLM_E_ARG);
    r.size = 3;
    assert_int_equal(slm_batch_add(b, &r, NULL, &why), SLM_E_ARG);
    assert_int_equal(slm_batch_step(b), 0);
    /* nothing of that took a place; a full prompt is read and ends at once */
    r = (slm_request){
        .size = sizeof r, .ids = many, .n = ASK_CONTEXT, .on_done = note_done, .user = &h
    };
    assert_int_equal(slm_batch_add(b, &r, &h.id, NULL), SLM_OK);
    assert_int_equal(h.id, 1);
    assert_int_equal(add(b, &asks[1], &got[1]), SLM_OK);
    assert_int_equal(add(b, &asks[2], &got[2]), SLM_E_BUSY);
    while (slm_batch_step(b) > 0)
        ;
    assert_int_equal(h.done, 1);
    assert_int_equal(h.r.finish, SLM_FINISH_CONTEXT);
    assert_int_equal(h.r.output_tokens, 0);
    slm_batch_close(b);
    slm_session_options o = slm_session_default();
    o.sequences = 1000000;
    assert_int_equal(slm_batch_open(twin, &o, &b, &why), SLM_E_ARG);
    assert_null(b);
    o.sequences = 4;
    o.context = 512;
    o.max_bytes = 1000000;
    assert_int_equal(slm_batch_open(twin, &o, &b, &why), SLM_E_MEMORY);
}

/* A token whose embedding is no number breaks the pass of everybody; only its request ends. */
static void test_one_breaks(void **state) {
    (void)state;
    static const struct slm_bias never = { 7, -1000.0f };
    struct tiny t;
    slm_engine *e;
    slm_why why;
    tiny_init(&t, "qwen3-0.6b");
    struct tiny_tensor *embed = tiny_find(&t, "model.embed_tokens.weight");
    json_object_set_new(t.config, "tie_word_embeddings", json_false());
    uint16_t nan = 0x7fc0;
    memcpy(embed->data + 2 * 7 * embed->dims[1], &nan, 2);
    tiny_build(&t);
    if (tiny_open(&t, SLM_WEIGHTS, NULL, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    slm_session *s = open_session(e, 32);
    for (unsigned k = 0; k < 4; k++) {
        ask_make(&asks[k], k, 300);
        for (size_t i = 0; i < asks[k].n; i++)
            asks[k].ids[i] = asks[k].ids[i] == 7 ? 8 : asks[k].ids[i];
        asks[k].o.sampling.bias = &never;
        asks[k].o.sampling.n_bias = 1;
        ask_alone(s, &asks[k], &alone[k]);
    }
    slm_session_close(s);
    asks[1].ids[100] = 7;
    memset(got, 0, sizeof got);
    slm_batch *b = open_batch(e, 4, 40, 2);
    for (unsigned k = 0; k < 4; k++)
        assert_int_equal(add(b, &asks[k], &got[k]), SLM_OK);
    while (slm_batch_step(b) > 0)
        ;
    for (unsigned k = 0; k < 4; k++)
        if (k != 1)
            heard_same(&got[k], &alone[k]);
    assert_int_equal(got[1].done, 1);
    assert_int_equal(got[1].err, SLM_E_NUMERIC);
    slm_batch_close(b);
    slm_engine_close(e);
    tiny_free(&t);
}

/* ------------------------------------------------------------------ memory and threads */

static struct test_hooks counted;

static slm_err life(const slm_engine *e, bool watch) {
    slm_session_options o = slm_session_default();
    slm_batch *b = NULL;
    slm_err err;
    o.sequences = 3;
    o.context = ASK_CONTEXT;
    o.chunk = 16;
    o.threads = 1;
    TRY(slm_batch_open(e, &o, &b, NULL));
    memset(got, 0, sizeof got);
    for (unsigned k = 3; k < 6; k++)
        TRY_OUT(add(b, &asks[k], &got[k]));
    for (size_t running = 1; running > 0;) {
        size_t before = counted.requests;
        running = slm_batch_step(b);
        if (watch)
            assert_int_equal(counted.requests, before); /* a step asks for nothing */
    }
    for (unsigned k = 3; k < 6 && err == SLM_OK; k++)
        err = got[k].err;
out:
    slm_batch_close(b);
    return err;
}

static void test_memory(void **state) {
    (void)state;
    test_hooks_init(&counted, 0);
    slm_engine *e = ask_engine("qwen3-0.6b", &counted.hooks);
    prepare(e);
    size_t at_rest = counted.live, before = counted.requests;
    assert_int_equal(life(e, true), SLM_OK);
    for (unsigned k = 3; k < 6; k++)
        heard_same(&got[k], &alone[k]);
    size_t requests = counted.requests - before;
    for (int once = 0; once < 2; once++)
        for (size_t k = 1; k <= requests; k++) {
            counted.fail_at = counted.requests + k;
            counted.once = once;
            counted.failed = false;
            assert_int_equal(life(e, false), SLM_E_NOMEM);
            assert_true(counted.failed);
            counted.fail_at = 0;
            assert_int_equal(counted.live, at_rest);
        }
    print_message("# %zu requests\n", requests);
    assert_int_equal(life(e, true), SLM_OK);
    slm_engine_close(e);
    assert_int_equal(counted.live, 0);
}

/* The bytes that a batch asks for are those of its plan: one set of scratch, everybody's keys and
 * values, samplers, ids and logits. */
struct bytes {
    struct slm_hooks hooks;
    size_t total;
};
static void *bytes_alloc(void *user, size_t n) {
    ((struct bytes *)user)->total += n;
    return malloc(n);
}
static void *bytes_resize(void *user, void *p, size_t n) {
    ((struct bytes *)user)->total += n;
    return realloc(p, n);
}
static void bytes_release(void *user, void *p) {
    (void)user;
    free(p);
}

static void test_plan(void **state) {
    (void)state;
    struct bytes bytes = { .hooks = { .size = sizeof bytes.hooks,
                                      .alloc = bytes_alloc,
                                      .resize = bytes_resize,
                                      .release = bytes_release,
                                      .user = &bytes } };
    slm_engine *e = ask_engine("gemma-3-270m-it", &bytes.hooks);
    slm_session_options o = slm_session_default();
    for (uint32_t places = 1; places <= 16; places *= 4) {
        slm_plan p = { .size = sizeof p }, sessions = p;
        slm_batch *b;
        o.sequences = places;
        o.context = 300;
        o.chunk = 24;
        o.threads = 2;
        o.batch = false;
        assert_int_equal(slm_engine_plan(e, &o, &sessions, NULL), SLM_OK);
        o.batch = true;
        assert_int_equal(slm_engine_plan(e, &o, &p, NULL), SLM_OK);
        assert_true(places == 1 || p.scratch < sessions.scratch);
        bytes.total = 0;
        assert_int_equal(slm_batch_open(e, &o, &b, NULL), SLM_OK);
        uint64_t want = p.kv + p.scratch;
        print_message("# %u places: planned %llu, asked for %zu\n", places,
                      (unsigned long long)want, bytes.total);
        /* beyond it: the objects themselves and alignment */
        assert_true(bytes.total >= want && bytes.total <= want + 8192 + places * 3072);
        slm_batch_close(b);
    }
    slm_engine_close(e);
}

static atomic_bool over;

static void *cancel_at_random(void *arg) {
    uint64_t id = 1;
    while (!atomic_load(&over)) {
        slm_batch_cancel(arg, id);
        id = id % 40 + 1;
        if (id == 20)
            slm_batch_cancel(arg, 0);
    }
    return NULL;
}

/* For ThreadSanitizer above all. */
static void test_cancel_from_a_thread(void **state) {
    (void)state;
    prepare(twin);
    slm_batch *b = open_batch(twin, 4, 32, 2);
    pthread_t t;
    memset(got, 0, sizeof got);
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&t, NULL, cancel_at_random, b), 0);
    unsigned added = 0;
    for (size_t running = 1; added < ASKS || running > 0;) {
        if (added < ASKS && add(b, &asks[added], &got[added]) == SLM_OK)
            added++;
        running = slm_batch_step(b);
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    for (unsigned k = 0; k < ASKS; k++) {
        assert_int_equal(got[k].done, 1);
        assert_memory_equal(got[k].ids, alone[k].ids, got[k].n * sizeof(int32_t));
    }
    slm_batch_close(b);
}

static int setup(void **state) {
    (void)state;
    twin = ask_engine("qwen3-0.6b", NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    slm_engine_close(twin);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),     cmocka_unit_test(test_cancel_midway),
        cmocka_unit_test(test_cancel_prompt), cmocka_unit_test(test_added_from_done),
        cmocka_unit_test(test_cancel_all),    cmocka_unit_test(test_close),
        cmocka_unit_test(test_nobody_waits),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_one_breaks),    cmocka_unit_test(test_memory),
        cmocka_unit_test(test_plan),          cmocka_unit_test(test_cancel_from_a_thread),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
