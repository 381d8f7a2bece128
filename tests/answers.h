/* answers.h - requests of many kinds, what a session of its own answers to each, and comparing bit by
 * bit: for the tests of batches and of speculation. */
#ifndef SLM_TESTS_ANSWERS_H
#define SLM_TESTS_ANSWERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tiny_model.h"

#define ASKS 14
#define ASK_PROMPT 160
#define ASK_OUTPUT 160
#define ASK_CONTEXT 220

struct ask {
    int32_t ids[ASK_PROMPT];
    size_t n;
    slm_generate_options o;
};

/* Everything that a caller can see of an answer. */
struct heard {
    int32_t held[ASK_CONTEXT]; /* [n_held] the sequence afterwards (of a session) */
    size_t n_held;
    bool has_logits;
    int32_t ids[ASK_OUTPUT * 2];
    float logprob[ASK_OUTPUT * 2];
    size_t n, stop_after; /* the callback says stop after so many ids; 0: never */
    char text[2][1 << 14];
    size_t n_text[2];
    slm_result r;
    slm_err err;
    unsigned done; /* how often it ended */
    uint64_t id;
};

ATTR_UNUSED static bool hear_token(void *user, int32_t id, float logprob) {
    struct heard *h = user;
    assert_true(h->n < ASK_OUTPUT * 2);
    h->ids[h->n] = id;
    h->logprob[h->n++] = logprob;
    return h->n != h->stop_after;
}

ATTR_UNUSED static bool hear_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct heard *h = user;
    assert_true(h->n_text[part] + n < sizeof h->text[0]);
    memcpy(h->text[part] + h->n_text[part], text, n);
    h->n_text[part] += n;
    return true;
}

/* Prompts of many lengths, some that repeat themselves; greedy and sampled, with every option that
 * looks at more than one token. vocab: ids are below it. */
ATTR_UNUSED static void ask_make(struct ask *a, unsigned k, uint32_t vocab) {
    static const char *const stops[] = { "Lima", "e", "7 *" };
    static const size_t lengths[ASKS] = { 3, 150, 1, 40, 17, 64, 65, 5, 100, 33, 2, 90, 12, 128 };
    uint32_t seed = 77u + k;
    *a = (struct ask){ .n = lengths[k % ASKS], .o = slm_generate_default() };
    for (size_t i = 0; i < a->n; i++) {
        seed = seed * 1664525u + 1013904223u;
        a->ids[i] = k % 3 == 1 && i >= 8 ? a->ids[i - 8] : (int32_t)((seed >> 8) % vocab);
    }
    a->o.default_sampling = false;
    a->o.ignore_stop_ids = k % 4 != 3;
    a->o.max_tokens = 12 + 5 * (k % 5);
    a->o.sampling.seed = k;
    if (k % 3 != 1) {
        a->o.sampling.temperature = k % 2 ? 0.3f : 0.9f;
        a->o.sampling.top_k = k % 4 == 0 ? 5 : 0;
        a->o.sampling.top_p = k % 4 == 2 ? 0.8f : 1.0f;
    }
    if (k % 5 == 2)
        a->o.sampling.repetition_penalty = 1.3f;
    if (k % 5 == 4)
        a->o.sampling.frequency_penalty = 0.5f;
    if (k % 4 == 1) {
        a->o.stop = stops;
        a->o.n_stop = 3;
    }
    if (k % 6 == 5) {
        a->o.in_thinking = true;
        a->o.think_budget = 6;
    }
    if (k == 8)
        a->o.max_tokens = 0; /* until the context is full */
}

ATTR_UNUSED static void ask_hear(struct ask *a, struct heard *h) {
    a->o.on_token = hear_token;
    a->o.on_text = hear_text;
    a->o.user = h;
}

/* The answer of a session of its own. */
ATTR_UNUSED static void ask_alone(slm_session *s, struct ask *a, struct heard *h) {
    *h = (struct heard){ .r = { .size = sizeof h->r } };
    ask_hear(a, h);
    assert_int_equal(slm_session_truncate(s, 0, NULL), SLM_OK);
    h->err = slm_session_sync(s, a->ids, a->n, NULL, NULL);
    if (h->err == SLM_OK)
        h->err = slm_generate(s, &a->o, &h->r, NULL);
    h->done = 1;
    h->n_held = slm_session_length(s);
    h->has_logits = slm_session_logits(s) != NULL;
    memcpy(h->held, slm_session_ids(s), h->n_held * sizeof *h->held);
}

/* Every id, every bit of every log-probability, every byte of text, and how it ended. */
ATTR_UNUSED static void heard_same(const struct heard *a, const struct heard *b) {
    assert_int_equal(a->err, b->err);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->logprob, b->logprob, a->n * sizeof *a->logprob);
    for (int part = 0; part < 2; part++) {
        assert_int_equal(a->n_text[part], b->n_text[part]);
        assert_memory_equal(a->text[part], b->text[part], a->n_text[part]);
    }
    assert_int_equal(a->r.finish, b->r.finish);
    assert_int_equal(a->r.prompt_tokens, b->r.prompt_tokens);
    assert_int_equal(a->r.output_tokens, b->r.output_tokens);
    assert_int_equal(a->r.reasoning_tokens, b->r.reasoning_tokens);
    assert_int_equal(a->r.stop_index, b->r.stop_index);
    assert_int_equal(a->r.reevaluated_tokens, b->r.reevaluated_tokens);
    assert_int_equal(a->r.think_closed, b->r.think_closed);
    assert_int_equal(a->done, 1);
    assert_int_equal(b->done, 1);
}

/* ------------------------------------------------------------------ models to ask */

/* Twins of every wiring: sliding windows, layers without positions, two sets of rope factors whose
 * switch (64) the prompts cross. ask_engine opens the demo model too; it costs more than all of them. */
static const char *const ask_models[] = { "qwen3-0.6b", "gemma-3-270m-it", "smollm3-3b",
                                          "phi-4-mini-instruct" };

/* hooks may be NULL. */
ATTR_UNUSED static slm_engine *ask_engine(const char *name, const struct slm_hooks *hooks) {
    slm_engine *e = NULL;
    slm_why why;
    slm_err err;
    if (strcmp(name, "demo") == 0) {
        slm_engine_options o = slm_engine_default();
        o.threads = 1;
        o.hooks = hooks;
        o.isa = test_isa();
        err = slm_engine_open("demo-model", &o, &e, &why);
    } else {
        struct tiny t;
        char folder[512];
        tiny_init(&t, name);
        tiny_build(&t);
        for (size_t i = 0; i < t.n_files; i++) { /* a folder: the files outlive this function */
            char path[128];
            snprintf(path, sizeof path, "%s/%s", name, t.files[i].name);
            assert_true(temp_file(folder, sizeof folder, path, t.files[i].data, t.files[i].size));
        }
        tiny_free(&t);
        *strrchr(folder, '/') = '\0';
        slm_engine_options o = slm_engine_default();
        o.threads = 1;
        o.hooks = hooks;
        o.isa = test_isa();
        err = slm_engine_open(folder, &o, &e, &why);
    }
    if (err != SLM_OK)
        fail_msg("%s: %s", name, why.message);
    return e;
}

ATTR_UNUSED static uint32_t ask_vocab(const slm_engine *e) {
    slm_info i = { .size = sizeof i };
    assert_int_equal(slm_engine_info(e, &i), SLM_OK);
    return i.vocab;
}

#endif
