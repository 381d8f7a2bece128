/* test_session_speculate.c - guesses change nothing: whatever is guessed, an answer has the bits of the
 * plain run. The drafter of this program stands in front of the library's and guesses by what it is
 * told: always right (from the recorded plain run), always wrong, at random and out of range, right
 * for a while. */
#include "../answers.h"

#include "session/draft.h"

/* ------------------------------------------------------------------ the adversary */

enum guesser { RIGHT, WRONG, RANDOM, SOMETIMES, BROKEN, NONE, GUESSERS };
static enum guesser mode;
static struct heard plain[ASKS]; /* the recorded runs */
static size_t n_plain, learnt, learnt_rows, learnt_right, resets;
static uint32_t seed, most_offered;

struct drafter {
    const struct slm_hooks *hooks;
    uint32_t max;
};

static uint32_t next_random(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

slm_err drafter_new(const struct slm_hooks *h, const struct draft_options *o, struct drafter **out,
                    slm_why *why) {
    *out = mem_alloc(h, 1, sizeof **out);
    if (*out == NULL)
        return fail_nomem(why, "drafter", sizeof **out);
    **out = (struct drafter){ h, o->max };
    assert_int_equal(o->context, ASK_CONTEXT);
    return SLM_OK;
}

void drafter_free(struct drafter *d) {
    if (d != NULL)
        mem_free(d->hooks, d);
}

uint64_t drafter_bytes(uint32_t context) {
    (void)context;
    return sizeof(struct drafter);
}

void drafter_reset(struct drafter *d) {
    (void)d;
    resets++;
}

/* The recorded run that begins with these ids. */
static const struct heard *recorded(const int32_t *ids, uint32_t n) {
    for (size_t k = 0; k < n_plain; k++)
        if (plain[k].n_held >= n && memcmp(plain[k].held, ids, n * sizeof *ids) == 0)
            return &plain[k];
    return NULL;
}

uint32_t drafter_guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                       int32_t *out) {
    const struct heard *h = recorded(ids, n);
    most = most < d->max ? most : d->max;
    most_offered = most > most_offered ? most : most_offered;
    for (uint32_t i = 0; i < most; i++) {
        int32_t right = h != NULL && n + i < h->n_held ? h->held[n + i] : 0;
        out[i] = mode == RIGHT    ? right
                 : mode == WRONG  ? right + 1
                 : mode == BROKEN ? 7
                 : mode == RANDOM ? (int32_t)(next_random() % 4096) - 64
                                  : (next_random() % 4 == 0 ? right ^ 1 : right);
    }
    return mode == NONE ? 0 : mode == SOMETIMES ? next_random() % (most + 1) : most;
}

void drafter_learn(struct drafter *d, uint32_t rows, uint32_t right, uint64_t ns) {
    assert_true(rows >= 1 && rows <= 1 + d->max && right < rows && ns > 0);
    learnt++;
    learnt_rows += rows;
    learnt_right += right;
}

void drafter_counts(const struct drafter *d, struct draft_counts *out) {
    (void)d;
    *out = (struct draft_counts){ 0 };
}

/* ------------------------------------------------------------------ sessions */

static struct ask asks[ASKS];
static struct heard got[ASKS];

static slm_session *open_session(const slm_engine *e, enum slm_speculate speculate, uint32_t chunk,
                                 uint32_t guesses, unsigned threads) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.threads = threads;
    o.speculate = speculate;
    o.guesses = guesses;
    assert_int_equal(slm_session_open(e, &o, &s, NULL), SLM_OK);
    return s;
}

static void prepare(const slm_engine *e, uint32_t vocab) {
    slm_session *s = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1);
    for (unsigned k = 0; k < ASKS; k++) {
        ask_make(&asks[k], k, vocab);
        ask_alone(s, &asks[k], &plain[k]);
        assert_int_equal(plain[k].err, SLM_OK);
        assert_int_equal(plain[k].r.guessed_tokens, 0);
    }
    n_plain = ASKS;
    slm_session_close(s);
}

static void same_sequence(const struct heard *a, const struct heard *b) {
    assert_int_equal(a->n_held, b->n_held);
    assert_memory_equal(a->held, b->held, a->n_held * sizeof *a->held);
    assert_int_equal(a->has_logits, b->has_logits);
}

static void check_session(const slm_engine *e, uint32_t chunk, uint32_t guesses, unsigned threads) {
    slm_session *s = open_session(e, SLM_SPECULATE_LOOKUP, chunk, guesses, threads);
    size_t accepted = 0, output = 0, right = learnt_right;
    uint32_t most = guesses == 0 ? 7 : guesses;
    most = most < chunk ? most : chunk - 1;
    most_offered = 0;
    for (unsigned k = 0; k < ASKS; k++) {
        ask_alone(s, &asks[k], &got[k]);
        heard_same(&got[k], &plain[k]);
        same_sequence(&got[k], &plain[k]);
        assert_true(got[k].r.accepted_tokens <= got[k].r.guessed_tokens);
        assert_true(mode != WRONG || got[k].r.accepted_tokens == 0);
        accepted += got[k].r.accepted_tokens;
        output += got[k].n;
    }
    assert_int_equal(accepted, learnt_right - right);
    assert_int_equal(most_offered, most);
    if (mode == RIGHT && most > 1) /* nearly every token but one of a pass */
        assert_true(accepted * 10 >= output * most / (most + 1) * 9);
    slm_session_close(s);
}

static void test_same_bits(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        prepare(e, ask_vocab(e));
        static const struct {
            enum guesser mode;
            uint32_t chunk, guesses;
            unsigned threads;
        } runs[] = { { RIGHT, 64, 0, 1 },     { RIGHT, 32, 1, 1 },  { SOMETIMES, 16, 15, 1 },
                     { SOMETIMES, 64, 0, 2 }, { RANDOM, 4, 15, 1 }, { WRONG, 64, 3, 1 },
                     { BROKEN, 64, 0, 1 },    { NONE, 64, 0, 1 } };
        for (size_t i = 0; i < ARRAY_LEN(runs) - (m > 0 ? 2 : 0); i++) {
            mode = runs[i].mode;
            check_session(e, runs[i].chunk, runs[i].guesses, runs[i].threads);
        }
        slm_engine_close(e);
    }
}

/* Logits after an answer, and going on with it, are those of the plain run. */
static void test_going_on(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        size_t row = ask_vocab(e) * sizeof(float);
        prepare(e, ask_vocab(e));
        slm_session *a = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1),
                    *b = open_session(e, SLM_SPECULATE_LOOKUP, 32, 15, 1);
        for (unsigned k = m % 2; k < ASKS; k += 2) {
            static struct heard x, y;
            mode = (enum guesser)(k % GUESSERS);
            ask_alone(a, &asks[k], &x);
            ask_alone(b, &asks[k], &y);
            size_t n = x.n_held - 3;
            assert_int_equal(slm_session_sync(a, x.held, n, NULL, NULL), SLM_OK);
            assert_int_equal(slm_session_sync(b, x.held, n, NULL, NULL), SLM_OK);
            assert_memory_equal(slm_session_logits(a), slm_session_logits(b), row);
            x.r = y.r = (slm_result){ .size = sizeof x.r };
            x.n = y.n = 0;
            slm_generate_options o = asks[k].o;
            o.max_tokens = 9;
            o.user = &x;
            slm_err err = slm_generate(a, &o, &x.r, NULL);
            o.user = &y;
            assert_int_equal(slm_generate(b, &o, &y.r, NULL), err);
            x.err = y.err = err;
            heard_same(&x, &y);
        }
        slm_session_close(a);
        slm_session_close(b);
        slm_engine_close(e);
    }
}

/* A callback that stops, and one answer without guesses. */
static void test_stopped_and_switched_off(void **state) {
    (void)state;
    slm_engine *e = ask_engine("qwen3-0.6b", NULL);
    prepare(e, ask_vocab(e));
    slm_session *a = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1),
                *b = open_session(e, SLM_SPECULATE_LOOKUP, 32, 0, 1);
    mode = RIGHT;
    for (size_t after = 1; after < 12; after++) {
        static struct heard x, y;
        slm_session *const both[] = { a, b };
        for (int i = 0; i < 2; i++) {
            struct heard *h = i == 0 ? &x : &y;
            *h = (struct heard){ .stop_after = after, .r = { .size = sizeof h->r } };
            ask_hear(&asks[6], h);
            assert_int_equal(slm_session_sync(both[i], asks[6].ids, asks[6].n, NULL, NULL), SLM_OK);
            assert_int_equal(slm_generate(both[i], &asks[6].o, &h->r, NULL), SLM_OK);
            h->done = 1;
            h->n_held = slm_session_length(both[i]);
            memcpy(h->held, slm_session_ids(both[i]), h->n_held * sizeof *h->held);
        }
        heard_same(&x, &y);
        same_sequence(&x, &y);
        assert_int_equal(y.r.finish, SLM_FINISH_CANCELLED);
    }
    size_t before = learnt;
    asks[6].o.speculate = SLM_SPECULATE_OFF;
    ask_alone(b, &asks[6], &got[6]);
    heard_same(&got[6], &plain[6]);
    assert_int_equal(got[6].r.guessed_tokens, 0);
    assert_int_equal(learnt, before);
    slm_session_close(a);
    slm_session_close(b);
    slm_engine_close(e);
}

/* A thinking block that is closed for the model in the middle of guesses that were right. */
static void test_think_budget(void **state) {
    (void)state;
    static const char hello[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"What is 47 * 36?\"}]}";
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *a = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1),
                *b = open_session(e, SLM_SPECULATE_LOOKUP, 32, 0, 1);
    for (uint32_t budget = 1; budget < 24; budget += 3) {
        struct ask ask = { .o = slm_generate_default() };
        int32_t *ids;
        assert_int_equal(slm_render_ids(e, hello, sizeof hello - 1, NULL, &ids, &ask.n,
                                        &ask.o.in_thinking, NULL),
                         SLM_OK);
        memcpy(ask.ids, ids, ask.n * sizeof *ids);
        slm_free(e, ids);
        ask.o.think_budget = budget;
        ask_alone(a, &ask, &plain[0]);
        assert_true(plain[0].r.think_closed);
        n_plain = 1;
        mode = budget % 2 ? RIGHT : SOMETIMES;
        ask_alone(b, &ask, &got[0]);
        heard_same(&got[0], &plain[0]);
        same_sequence(&got[0], &plain[0]);
        assert_true(got[0].r.accepted_tokens > 0);
    }
    slm_session_close(a);
    slm_session_close(b);
    slm_engine_close(e);
}

/* A guess whose embedding is no number breaks the pass, not the answer. */
static void test_guess_that_breaks(void **state) {
    (void)state;
    static const struct slm_bias never = { 7, -1000.0f };
    struct tiny t;
    slm_engine *e;
    slm_why why;
    uint16_t nan = 0x7fc0;
    tiny_init(&t, "qwen3-0.6b");
    struct tiny_tensor *embed = tiny_find(&t, "model.embed_tokens.weight");
    json_object_set_new(t.config, "tie_word_embeddings", json_false());
    memcpy(embed->data + 2 * 7 * embed->dims[1], &nan, 2);
    tiny_build(&t);
    if (tiny_open(&t, SLM_WEIGHTS, NULL, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    slm_session *s = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1);
    for (unsigned k = 0; k < 6; k++) {
        ask_make(&asks[k], k, 300);
        for (size_t i = 0; i < asks[k].n; i++)
            asks[k].ids[i] = asks[k].ids[i] == 7 ? 8 : asks[k].ids[i];
        asks[k].o.sampling.bias = &never;
        asks[k].o.sampling.n_bias = 1;
        ask_alone(s, &asks[k], &plain[k]);
        assert_int_equal(plain[k].err, SLM_OK);
    }
    slm_session_close(s);
    s = open_session(e, SLM_SPECULATE_LOOKUP, 32, 0, 1);
    mode = BROKEN;
    for (unsigned k = 0; k < 6; k++) {
        ask_alone(s, &asks[k], &got[k]);
        heard_same(&got[k], &plain[k]);
    }
    slm_session_close(s);
    slm_engine_close(e);
    tiny_free(&t);
}

/* ------------------------------------------------------------------ batches */

static void note_done(void *user, uint64_t id, const slm_result *r, slm_err err,
                      const slm_why *why) {
    struct heard *h = user;
    (void)id;
    (void)why;
    h->r = *r;
    h->err = err;
    h->done++;
}

static size_t run_batch(const slm_engine *e, uint32_t places, uint32_t chunk, uint32_t guesses) {
    slm_session_options o = slm_session_default();
    slm_batch *b;
    size_t added = 0, steps = 0, accepted = 0;
    o.sequences = places;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.guesses = guesses;
    o.threads = 1;
    assert_int_equal(slm_batch_open(e, &o, &b, NULL), SLM_OK);
    memset(got, 0, sizeof got);
    for (size_t running = 1; added < ASKS || running > 0; steps++) {
        while (added < ASKS) {
            struct heard *h = &got[added];
            slm_request r = { .size = sizeof r,
                              .ids = asks[added].ids,
                              .n = asks[added].n,
                              .options = &asks[added].o,
                              .on_done = note_done,
                              .user = h };
            ask_hear(&asks[added], h);
            slm_err err = slm_batch_add(b, &r, NULL, NULL);
            if (err == SLM_E_BUSY)
                break;
            assert_int_equal(err, SLM_OK);
            added++;
        }
        running = slm_batch_step(b);
        assert_true(steps < 10000);
    }
    for (unsigned k = 0; k < ASKS; k++) {
        heard_same(&got[k], &plain[k]);
        accepted += got[k].r.accepted_tokens;
    }
    slm_batch_close(b);
    return accepted;
}

static void test_batches(void **state) {
    (void)state;
    for (size_t m = 1; m < ARRAY_LEN(ask_models); m += 2) { /* windows; two ropes */
        slm_engine *e = ask_engine(ask_models[m], NULL);
        prepare(e, ask_vocab(e));
        mode = RIGHT;
        assert_true(run_batch(e, 3, 64, 15) > 0);
        mode = SOMETIMES;
        run_batch(e, 1, 32, 0);
        run_batch(e, 2, 7, 7);
        run_batch(e, ASKS, 40, 1); /* most of the time too many write to guess */
        mode = RANDOM;
        run_batch(e, 4, 64, 15);
        slm_engine_close(e);
    }
}

/* ------------------------------------------------------------------ memory, options */

static struct test_hooks counted;
static size_t at_first, at_last, seen;

static bool watch(void *user, int32_t id, float logprob) {
    (void)user;
    (void)id;
    (void)logprob;
    if (seen++ == 0)
        at_first = counted.requests;
    at_last = counted.requests;
    return true;
}

static void test_no_allocation(void **state) {
    (void)state;
    test_hooks_init(&counted, 0);
    slm_engine *e = ask_engine("qwen3-0.6b", &counted.hooks);
    prepare(e, ask_vocab(e));
    slm_session *s = open_session(e, SLM_SPECULATE_LOOKUP, 32, 15, 1);
    for (int g = 0; g < GUESSERS; g++) {
        slm_generate_options o = asks[8].o;
        mode = (enum guesser)g;
        o.on_token = watch;
        o.on_text = NULL;
        seen = 0;
        assert_int_equal(slm_session_sync(s, asks[8].ids, asks[8].n, NULL, NULL), SLM_OK);
        assert_int_equal(slm_generate(s, &o, NULL, NULL), SLM_OK);
        assert_true(seen > 50);
        assert_int_equal(at_first, at_last);
    }
    slm_session_close(s);
    slm_engine_close(e);
    assert_int_equal(counted.live, 0);
}

static void test_options(void **state) {
    (void)state;
    slm_engine *e = ask_engine("qwen3-0.6b", NULL), *other = ask_engine("demo", NULL);
    slm_session_options o = slm_session_default();
    slm_plan with = { .size = sizeof with }, without = with;
    slm_why why;
    slm_session *s, *draft = open_session(e, SLM_SPECULATE_OFF, 32, 0, 1),
                    *foreign = open_session(other, SLM_SPECULATE_OFF, 32, 0, 1);
    o.context = ASK_CONTEXT;
    o.threads = 1;
    o.guesses = DRAFT_MAX + 1;
    assert_int_equal(slm_session_open(e, &o, &s, &why), SLM_E_ARG);
    o.guesses = 3;
    assert_int_equal(slm_engine_plan(e, &o, &with, NULL), SLM_OK);
    o.speculate = SLM_SPECULATE_OFF;
    assert_int_equal(slm_engine_plan(e, &o, &without, NULL), SLM_OK);
    assert_int_equal(with.scratch - without.scratch,
                     3 * ask_vocab(e) * sizeof(float) + sizeof(struct drafter));
    o.speculate = SLM_SPECULATE_LOOKUP;
    o.draft = draft;
    assert_int_equal(slm_session_open(e, &o, &s, &why), SLM_OK);
    slm_session_close(s);
    o.draft = foreign;
    assert_int_equal(slm_session_open(e, &o, &s, &why), SLM_E_MISMATCH);
    assert_null(s);
    assert_non_null(strstr(why.message, "id 0 is"));
    o.draft = draft;
    slm_batch *b;
    assert_int_equal(slm_batch_open(e, &o, &b, &why), SLM_E_ARG);
    slm_session_close(draft);
    slm_session_close(foreign);
    slm_engine_close(e);
    slm_engine_close(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_stopped_and_switched_off),
        cmocka_unit_test(test_think_budget),
        cmocka_unit_test(test_guess_that_breaks),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_no_allocation),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
