/* test_session_held_guesses.c - guesses across text that has to come: a drafter that stands in front of
 * the library's and knows the answer (always, now and then, with errors) guesses ids that are taken
 * together with the one that was chosen. The answer has the bits of the plain run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "session/draft.h"
#include "support.h"

enum guesser { RIGHT, SOMETIMES, WRONG, GUESSERS };
static enum guesser mode;
static int32_t whole[1024]; /* the plain run: prompt and answer */
static size_t n_whole, n_right;
static uint32_t seed;

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
}
uint32_t drafter_guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                       int32_t *out) {
    most = most < d->max ? most : d->max;
    if (n_whole < n || memcmp(whole, ids, n * sizeof *ids) != 0)
        return 0;
    for (uint32_t i = 0; i < most; i++) {
        out[i] = n + i < n_whole ? whole[n + i] : 5;
        if (mode == WRONG || (mode == SOMETIMES && next_random() % 4 == 0))
            out[i] ^= 1;
    }
    return mode == SOMETIMES ? next_random() % (most + 1) : most;
}
void drafter_learn(struct drafter *d, uint32_t rows, uint32_t right, uint64_t ns) {
    assert_true(rows <= 1 + d->max && right < rows && ns > 0);
    n_right += right;
}

/* ------------------------------------------------------------------ answers */

static const char *const requests[] = {
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Make a JSON object: name is Anna, age is 30\"}],"
    "\"think\":false,\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\","
    "\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"some_long_key\":{\"enum\":["
    "\"friend of mine\",\"stranger\"]},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150}},"
    "\"required\":[\"name\",\"some_long_key\",\"age\"],\"additionalProperties\":false}}}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of Peru?\"}],\"think\":false,"
    "\"format\":{\"type\":\"regex\",\"pattern\":\"The (capital|town) is ([A-Z][a-z]{2,9}), (yes|no) it "
    "is indeed so\\\\. (And|But) that is all there is to it\\\\.\"}}",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Turn off the light in the kitchen.\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"set_light\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"room\":{\"type\":\"string\"},\"state\":{\"type\":\"string\","
    "\"enum\":[\"on\",\"off\"]}},\"required\":[\"room\",\"state\"]}}},{\"type\":\"function\","
    "\"function\":{\"name\":\"set_timer\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"minutes\":{\"type\":\"integer\"}},\"required\":[\"minutes\"]}}}]}",
};

static slm_engine *demo;
static char text[4096];
static size_t n_text;

static bool hear(void *user, enum slm_part part, const char *s, size_t n) {
    (void)user;
    (void)part;
    assert_true(n_text + n < sizeof text);
    memcpy(text + n_text, s, n);
    n_text += n;
    return true;
}

static slm_session *open_session(enum slm_speculate speculate, uint32_t guesses) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = 1024;
    o.chunk = 32;
    o.threads = 1;
    o.speculate = speculate;
    o.guesses = guesses;
    assert_int_equal(slm_session_open(demo, &o, &s, NULL), SLM_OK);
    return s;
}

static slm_result ask(slm_session *s, const char *request, bool plain, uint32_t most) {
    slm_generate_options o = slm_generate_default();
    slm_result r = { .size = sizeof r };
    slm_why why;
    o.on_text = hear;
    o.max_tokens = most;
    o.no_forcing = plain;
    n_text = 0;
    if (slm_chat(s, request, strlen(request), &o, &r, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return r;
}

static void test_guesses(void **state) {
    (void)state;
    static char plain[sizeof text];
    size_t together = 0;
    for (size_t k = 0; k < sizeof requests / sizeof *requests; k++)
        for (uint32_t most = 200; most > 20; most = most == 200 ? 33 : most - 4) {
            slm_session *s = open_session(SLM_SPECULATE_OFF, 0);
            slm_result r = ask(s, requests[k], true, most);
            size_t n_plain = n_text;
            memcpy(plain, text, n_text);
            n_whole = slm_session_length(s);
            memcpy(whole, slm_session_ids(s), n_whole * sizeof *whole);
            slm_session_close(s);
            for (mode = RIGHT; mode < GUESSERS; mode++)
                for (uint32_t guesses = 1; guesses <= DRAFT_MAX; guesses += 7) {
                    s = open_session(SLM_SPECULATE_LOOKUP, guesses);
                    slm_result g = ask(s, requests[k], false, most);
                    assert_int_equal(n_text, n_plain);
                    assert_memory_equal(text, plain, n_text);
                    assert_int_equal(slm_session_length(s), n_whole);
                    assert_memory_equal(slm_session_ids(s), whole, n_whole * sizeof *whole);
                    assert_int_equal(g.finish, r.finish);
                    assert_int_equal(g.output_tokens, r.output_tokens);
                    assert_int_equal(g.forced_tokens, r.forced_tokens);
                    if (mode == RIGHT && most == 200)
                        together += g.accepted_tokens;
                    /* what it holds is what was evaluated */
                    static float logits[2][2560];
                    for (int i = 0; i < 2; i++) {
                        if (i == 1)
                            assert_int_equal(slm_session_truncate(s, 0, NULL), SLM_OK);
                        assert_int_equal(slm_session_sync(s, whole, n_whole, NULL, NULL), SLM_OK);
                        memcpy(logits[i], slm_session_logits(s), sizeof logits[i]);
                    }
                    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
                    slm_session_close(s);
                }
        }
    print_message("# %zu guesses were right\n", together);
    assert_true(together > 30);
}

static int setup(void **state) {
    (void)state;
    slm_engine_options o = slm_engine_default();
    o.threads = 1;
    o.isa = test_isa();
    return slm_engine_open("demo-model", &o, &demo, NULL) == SLM_OK ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    slm_engine_close(demo);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_guesses) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
