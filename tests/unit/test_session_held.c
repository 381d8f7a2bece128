/* test_session_held.c - answers that are held to a language, on the demo model's real weights: choices,
 * expressions, JSON by schema, calls of tools, behind the thinking and without it. What comes is always
 * of the language; the bits are the same alone and in a batch, with guesses and without, in any chunks
 * and threads, and whether or not tokens that have to come are taken together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tiny_model.h"

#include "base/compiler.h"
#include "slm.h"
#include "support.h"

static slm_engine *demo;

/* ------------------------------------------------------------------ requests */

#define USER(text) "\"messages\":[{\"role\":\"user\",\"content\":\"" text "\"}]"
#define SCHEMA(text) "\"format\":{\"type\":\"json_schema\",\"schema\":" text "}"
#define PERSON                                                                                     \
    SCHEMA("{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12}," \
           "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},\"kind\":{\"enum\":"      \
           "[\"friend\",\"stranger\"]}},\"required\":[\"name\",\"age\",\"kind\"],"                 \
           "\"additionalProperties\":false}")
#define TOOLS                                                                                      \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":"    \
    "\"Get the weather in a city\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":"  \
    "{\"type\":\"string\",\"description\":\"The city\"}},\"required\":[\"city\"]}}},"              \
    "{\"type\":\"function\",\"function\":{\"name\":\"set_timer\",\"description\":\"Start a "       \
    "timer\",\"parameters\":{\"type\":\"object\",\"properties\":{\"minutes\":{\"type\":"           \
    "\"integer\"}},\"required\":[\"minutes\"]}}},"                                                 \
    "{\"type\":\"function\",\"function\":{\"name\":\"set_light\",\"description\":\"Switch the "    \
    "light in a room on or off\",\"parameters\":{\"type\":\"object\",\"properties\":{\"room\":"    \
    "{\"type\":\"string\"},\"state\":{\"type\":\"string\",\"enum\":[\"on\",\"off\"]}},"            \
    "\"required\":[\"room\",\"state\"]}}}]"

enum kind { PLAIN, CHOICES, EXPRESSION, OBJECT, RECORD, CALLS, ONE_CALL, MAYBE };
static const struct request {
    enum kind kind;
    const char *text;
    uint32_t budget;
} requests[] = {
    { CHOICES,
      "{" USER("Classify the sentiment of this text as positive, negative: The hotel was wonderful.")
      ",\"think\":false,\"format\":{\"type\":\"choices\",\"choices\":[\"positive\",\"negative\","
      "\"posh\"]}}",
      0 },
    { CHOICES,
      "{" USER("What is 47 * 36?") ",\"format\":{\"type\":\"choices\",\"choices\":[\"1692\","
      "\"1693\",\"1\"]}}",
      0 },
    { CHOICES,
      "{" USER("What is 4587 + 968?") ",\"format\":{\"type\":\"choices\",\"choices\":[\"5555\","
      "\"5556\"]}}",
      7 },
    { EXPRESSION,
      "{" USER("What is the capital of Peru?") ",\"format\":{\"type\":\"regex\",\"pattern\":"
      "\"The capital is ([A-Z][a-z]{2,9}), (yes|no) it is\\\\.\"}}",
      0 },
    { EXPRESSION,
      "{" USER("Hello") ",\"think\":false,\"format\":{\"type\":\"regex\",\"pattern\":"
      "\"The capital is ([A-Z][a-z]{2,9}), (yes|no) it is\\\\.\"}}",
      0 },
    { OBJECT,
      "{" USER("Make a JSON object: name is Anna, age is 30")
      ",\"think\":false,\"format\":{\"type\":\"json_object\"}}",
      0 },
    { RECORD, "{" USER("Make a JSON object: name is Anna, age is 30") ",\"think\":false," PERSON "}",
      0 },
    { RECORD, "{" USER("Extract name, age as JSON: Peter Miller is 41 years old.") "," PERSON "}",
      0 },
    { RECORD, "{" USER("Explain quantum physics.") "," PERSON "}", 9 },
    { CALLS, "{" USER("What is the weather in Oslo?") ",\"think\":false," TOOLS "}", 0 },
    { CALLS, "{" USER("Turn off the light in the kitchen.") "," TOOLS "}", 0 },
    { CALLS,
      "{" USER("Set a timer for 5 minutes and turn on the kitchen light.") ",\"think\":false," TOOLS
      "}",
      0 },
    { ONE_CALL,
      "{" USER("Set a timer for 5 minutes and turn on the kitchen light.")
      ",\"think\":false,\"parallel_tool_calls\":false," TOOLS "}",
      0 },
    { CALLS, "{" USER("Hello") ",\"tool_choice\":\"required\"," TOOLS "}", 0 },
    { ONE_CALL,
      "{" USER("What is 47 * 36?") ",\"think\":false,\"parallel_tool_calls\":false,"
      "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"set_light\"}}," TOOLS "}",
      0 },
    { MAYBE,
      "{" USER("What is the weather in Oslo?") ",\"think\":false," TOOLS "," PERSON "}", 0 },
    { PLAIN, "{" USER("What is the capital of Uruguay?") ",\"think\":false}", 0 },
    { PLAIN, "{" USER("What is 47 * 36?") ",\"tool_choice\":\"none\"," TOOLS "}", 0 },
};
enum { REQUESTS = ARRAY_LEN(requests), WRITTEN = 512 };

/* ------------------------------------------------------------------ what a caller hears */

struct heard {
    char text[2][8192], calls[8192]; /* a call as name(arguments), one after another */
    size_t n_text[2], n_calls, calls_bytes;
    int32_t ids[WRITTEN];
    float logprob[WRITTEN];
    bool forced[WRITTEN];
    size_t n, stop_after;
    slm_result r;
    slm_err err;
    unsigned done;
};

static bool hear_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct heard *h = user;
    assert_true(h->n_text[part] + n < sizeof h->text[0]);
    memcpy(h->text[part] + h->n_text[part], text, n);
    h->n_text[part] += n;
    h->text[part][h->n_text[part]] = 0;
    return true;
}

static bool hear_call(void *user, const slm_tool_call *c) {
    struct heard *h = user;
    assert_int_equal(c->index, h->n_calls++);
    h->calls_bytes += (size_t)snprintf(h->calls + h->calls_bytes, sizeof h->calls - h->calls_bytes,
                                       "%.*s(%.*s)", (int)c->n_name, c->name, (int)c->n_arguments,
                                       c->arguments);
    assert_true(h->calls_bytes < sizeof h->calls);
    return true;
}

static bool hear_choice(void *user, const slm_choice *c) {
    struct heard *h = user;
    if (c->stop)
        return true;
    assert_true(h->n < WRITTEN);
    h->ids[h->n] = c->id;
    h->logprob[h->n] = c->logprob;
    h->forced[h->n++] = c->forced;
    return h->n != h->stop_after;
}

static void note_done(void *user, uint64_t id, const slm_result *r, slm_err err,
                      const slm_why *why) {
    struct heard *h = user;
    (void)id;
    (void)why;
    h->r = *r;
    h->err = err;
    h->done++;
}

static slm_prompt *make(const char *text) {
    slm_prompt *p = NULL;
    slm_why why;
    if (slm_prompt_make(demo, text, strlen(text), NULL, &p, &why) != SLM_OK)
        fail_msg("%s: %s", text, why.message);
    return p;
}

static slm_generate_options options_of(const struct request *q, const slm_prompt *p,
                                       struct heard *h) {
    slm_generate_options o = slm_generate_default();
    memset(h, 0, sizeof *h);
    h->r.size = sizeof h->r;
    o.prompt = p;
    o.think_budget = q->budget;
    o.max_tokens = 300;
    o.on_text = hear_text;
    o.on_call = hear_call;
    o.on_choice = hear_choice;
    o.user = h;
    return o;
}

static slm_session *open_session(slm_engine *e, uint32_t chunk, unsigned threads,
                                 enum slm_speculate speculate, uint32_t guesses) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    slm_info i = { .size = sizeof i };
    slm_why why;
    assert_int_equal(slm_engine_info(e, &i), SLM_OK);
    o.context = i.context < 1024 ? i.context : 1024;
    o.chunk = chunk;
    o.threads = threads;
    o.speculate = speculate;
    o.guesses = guesses;
    if (slm_session_open(e, &o, &s, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return s;
}

static void answer(slm_session *s, const slm_generate_options *o, struct heard *h) {
    slm_why why;
    h->err = slm_chat(s, NULL, 0, o, &h->r, &why);
    if (h->err != SLM_OK)
        print_error("%s\n", why.message);
}

/* ------------------------------------------------------------------ is it of the language? */

static bool is_person(const char *text) {
    json_error_t bad;
    json_t *d = json_loads(text, 0, &bad);
    const char *name = json_string_value(json_object_get(d, "name"));
    const char *kind = json_string_value(json_object_get(d, "kind"));
    json_int_t age = json_integer_value(json_object_get(d, "age"));
    bool ok = json_object_size(d) == 3 && name != NULL && kind != NULL &&
              json_is_integer(json_object_get(d, "age")) && age >= 0 && age <= 150 &&
              (strcmp(kind, "friend") == 0 || strcmp(kind, "stranger") == 0);
    json_decref(d);
    return ok;
}

static bool is_object(const char *text) {
    json_t *d = json_loads(text, 0, NULL);
    bool ok = json_is_object(d);
    json_decref(d);
    return ok;
}

static bool is_capital(const char *text) {
    char city[16], word[4];
    int end = 0;
    return sscanf(text, "The capital is %10[A-Za-z], %3[a-z] it is.%n", city, word, &end) == 2 &&
           end > 0 && text[end] == 0 && strlen(city) >= 3 &&
           (strcmp(word, "yes") == 0 || strcmp(word, "no") == 0);
}

static bool is_choice(const char *request, const char *text) {
    json_t *d = json_loads(request, 0, NULL), *list, *one;
    size_t i;
    bool ok = false;
    list = json_object_get(json_object_get(d, "format"), "choices");
    json_array_foreach(list, i, one)
        ok = ok || strcmp(json_string_value(one), text) == 0;
    json_decref(d);
    return ok;
}

/* name(arguments)name(arguments)...: known names, arguments of their types and no others required */
static bool are_calls(const char *text) {
    while (*text) {
        size_t n = strcspn(text, "(");
        json_error_t bad;
        json_t *d = json_loads(text + n + 1, JSON_DISABLE_EOF_CHECK, &bad);
        bool ok = false;
        if (strncmp(text, "get_weather", n) == 0)
            ok = json_is_string(json_object_get(d, "city"));
        else if (strncmp(text, "set_timer", n) == 0)
            ok = json_is_integer(json_object_get(d, "minutes"));
        else if (strncmp(text, "set_light", n) == 0) {
            const char *state = json_string_value(json_object_get(d, "state"));
            ok = json_is_string(json_object_get(d, "room")) && state != NULL &&
                 (strcmp(state, "on") == 0 || strcmp(state, "off") == 0);
        }
        json_decref(d);
        if (!ok)
            return false;
        text += n + 1 + (size_t)bad.position + 1;
    }
    return true;
}

static void check(const struct request *q, const struct heard *h) {
    const char *text = h->text[SLM_PART_ANSWER];
    bool ok = true;
    assert_int_equal(h->err, SLM_OK);
    if (h->r.finish == SLM_FINISH_LENGTH || h->r.finish == SLM_FINISH_CONTEXT)
        return; /* cut off: no promise */
    assert_int_equal(h->r.finish, SLM_FINISH_STOP);
    switch (q->kind) {
    case PLAIN:
        break;
    case CHOICES:
        ok = is_choice(q->text, text);
        break;
    case EXPRESSION:
        ok = is_capital(text);
        break;
    case OBJECT:
        ok = is_object(text);
        break;
    case RECORD:
        ok = is_person(text);
        break;
    case MAYBE:
        ok = h->n_calls > 0 ? h->n_text[SLM_PART_ANSWER] == 0 && are_calls(h->calls)
                            : is_person(text);
        break;
    case CALLS:
    case ONE_CALL: {
        bool must = strstr(q->text, "tool_choice") != NULL;
        ok = are_calls(h->calls) && (!must || (h->n_calls > 0 && h->n_text[SLM_PART_ANSWER] == 0)) &&
             (q->kind == CALLS || h->n_calls <= 1) && h->r.calls == h->n_calls &&
             (!must || strstr(q->text, "\"name\":\"set_light\"}}") == NULL ||
              strncmp(h->calls, "set_light(", 10) == 0);
        break;
    }
    }
    if (!ok)
        fail_msg("%s\n-> '%s' calls '%s'", q->text, text, h->calls);
    if (q->kind != PLAIN)
        assert_int_equal(h->r.malformed_calls, 0);
    if (q->budget > 0) {
        assert_true(h->r.think_closed);
        assert_true(h->r.reasoning_tokens >= q->budget && h->r.reasoning_tokens < q->budget + 4);
    }
}

/* Ids one after another cost a row each; numbers are wanted here, so they are shown as such. */
static void same(const struct heard *a, const struct heard *b, bool numbers) {
    assert_int_equal(a->err, b->err);
    for (int part = 0; part < 2; part++)
        assert_string_equal(a->text[part], b->text[part]);
    assert_string_equal(a->calls, b->calls);
    assert_int_equal(a->r.finish, b->r.finish);
    assert_int_equal(a->r.output_tokens, b->r.output_tokens);
    assert_int_equal(a->r.reasoning_tokens, b->r.reasoning_tokens);
    assert_int_equal(a->r.forced_tokens, b->r.forced_tokens);
    assert_int_equal(a->r.think_closed, b->r.think_closed);
    if (!numbers)
        return;
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_memory_equal(a->logprob, b->logprob, a->n * sizeof *a->logprob);
    assert_memory_equal(a->forced, b->forced, a->n * sizeof *a->forced);
}

/* ------------------------------------------------------------------ the same bits */

static struct heard alone[REQUESTS], got[REQUESTS];
static slm_prompt *prompts[REQUESTS];

static slm_generate_options asked(unsigned k, struct heard *h) {
    slm_generate_options o = options_of(&requests[k], prompts[k], h);
    if (k % 3 == 2) { /* some are sampled */
        o.default_sampling = false;
        o.sampling.temperature = 0.9f;
        o.sampling.seed = k;
    }
    return o;
}

/* One by one, no guesses: the plainest way. */
static void plain_runs(void) {
    slm_session *s = open_session(demo, 16, 1, SLM_SPECULATE_OFF, 0);
    for (unsigned k = 0; k < REQUESTS; k++) {
        slm_generate_options o = asked(k, &alone[k]);
        o.no_forcing = true;
        answer(s, &o, &alone[k]);
        check(&requests[k], &alone[k]);
    }
    slm_session_close(s);
}

static void test_guesses_chunks_threads(void **state) {
    (void)state;
    static const struct {
        uint32_t chunk, guesses;
        unsigned threads;
        enum slm_speculate speculate;
    } ways[] = { { 256, 0, 1, SLM_SPECULATE_OFF },
                 { 5, 4, 2, SLM_SPECULATE_LOOKUP },
                 { 64, 15, 1, SLM_SPECULATE_LOOKUP } };
    size_t forced = 0;
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        slm_session *s = open_session(demo, ways[w].chunk, ways[w].threads, ways[w].speculate,
                                      ways[w].guesses);
        for (unsigned k = 0; k < REQUESTS; k++) {
            slm_generate_options o = asked(k, &got[k]);
            answer(s, &o, &got[k]);
            same(&got[k], &alone[k], true);
            const int32_t *ids = slm_session_ids(s); /* the sequence is what was shown */
            size_t n = slm_session_length(s);
            assert_true(n >= got[k].r.output_tokens);
            for (size_t i = 0, at = n - got[k].r.output_tokens; i < got[k].n; i++) {
                while (at < n && ids[at] != got[k].ids[i])
                    at++; /* what closed the thinking is not shown */
                assert_true(at++ < n);
            }
            /* and without anybody looking: forced ids are taken together */
            o = asked(k, &got[k]);
            o.on_choice = NULL;
            answer(s, &o, &got[k]);
            same(&got[k], &alone[k], false);
            assert_int_equal(slm_session_length(s), n);
            forced += got[k].r.forced_tokens;
        }
        slm_session_close(s);
    }
    assert_true(forced > 100);
}

static void run_batch(uint32_t places, uint32_t chunk, bool numbers) {
    slm_session_options o = slm_session_default();
    slm_batch *b = NULL;
    unsigned added = 0;
    size_t running = 0, steps = 0;
    o.sequences = places;
    o.context = 700;
    o.chunk = chunk;
    o.threads = 1;
    o.cache_bytes = places % 2 ? 1 << 22 : 0;
    assert_int_equal(slm_batch_open(demo, &o, &b, NULL), SLM_OK);
    do {
        for (; added < REQUESTS; added++) {
            slm_generate_options g = asked(added, &got[added]);
            slm_prompt_info i = { .size = sizeof i };
            assert_int_equal(slm_prompt_get(prompts[added], &i), SLM_OK);
            if (!numbers)
                g.on_choice = NULL;
            slm_request r = { .size = sizeof r,
                              .ids = i.ids,
                              .n = i.n,
                              .options = &g,
                              .on_done = note_done,
                              .user = &got[added] };
            slm_err err = slm_batch_add(b, &r, NULL, NULL);
            if (err == SLM_E_BUSY)
                break;
            assert_int_equal(err, SLM_OK);
        }
        running = slm_batch_step(b);
        assert_true(++steps < 20000);
    } while (running > 0 || added < REQUESTS);
    for (unsigned k = 0; k < REQUESTS; k++) {
        assert_int_equal(got[k].done, 1);
        same(&got[k], &alone[k], numbers);
    }
    slm_batch_close(b);
}

static void test_batches(void **state) {
    (void)state;
    run_batch(8, 256, true);
    run_batch(8, 64, false);
    run_batch(3, 7, true);
}

/* ------------------------------------------------------------------ always of the language */

static void test_always_valid(void **state) {
    (void)state;
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    size_t ended = 0;
    static struct heard h;
    for (unsigned k = 0; k < REQUESTS; k++)
        for (uint64_t seed = 1; seed <= 8; seed++) {
            slm_generate_options o = options_of(&requests[k], prompts[k], &h);
            o.default_sampling = false;
            o.sampling.temperature = 0.6f + 0.4f * (float)seed;
            o.sampling.seed = seed;
            o.max_tokens = 160;
            o.think_budget = requests[k].budget > 0 ? requests[k].budget : 20;
            struct request q = requests[k];
            q.budget = 0;
            answer(s, &o, &h);
            check(&q, &h);
            ended += h.r.finish == SLM_FINISH_STOP;
        }
    print_message("# %zu of %d answers ended by themselves\n", ended, 8 * REQUESTS);
    assert_true(ended > 3 * REQUESTS);
    slm_session_close(s);
}

/* ------------------------------------------------------------------ single cases */

static struct heard h1;

static const struct heard *ask(const char *request, uint32_t budget) {
    struct request q = { PLAIN, request, budget };
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    slm_prompt *p = make(request);
    slm_generate_options o = options_of(&q, p, &h1);
    answer(s, &o, &h1);
    slm_prompt_free(p);
    slm_session_close(s);
    assert_int_equal(h1.err, SLM_OK);
    return &h1;
}

/* The demo model chooses the tool, fills its arguments, and answers from the result. */
static void test_round_trip(void **state) {
    (void)state;
    const struct heard *h = ask("{" USER("What is the weather in Oslo?") ",\"think\":false," TOOLS "}", 0);
    assert_string_equal(h->calls, "get_weather({\"city\": \"Oslo\"})");
    assert_string_equal(h->text[SLM_PART_ANSWER], "");
    assert_int_equal(h->r.calls, 1);
    assert_true(h->r.forced_tokens > 3);
    h = ask("{\"messages\":[{\"role\":\"user\",\"content\":\"What is the weather in Oslo?\"},"
            "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_0\",\"type\":"
            "\"function\",\"function\":{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\": "
            "\\\"Oslo\\\"}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call_0\",\"content\":"
            "\"{\\\"temperature\\\": -3, \\\"condition\\\": \\\"snowy\\\"}\"}],\"think\":false," TOOLS
            "}",
            0);
    assert_string_equal(h->text[SLM_PART_ANSWER], "It is -3 degrees and snowy in Oslo.");
    assert_string_equal(h->calls, "");
    h = ask("{" USER("Turn off the light in the kitchen.") "," TOOLS "}", 0);
    assert_string_equal(h->calls, "set_light({\"room\": \"kitchen\", \"state\": \"off\"})");
    assert_true(h->r.reasoning_tokens > 0);
    assert_string_equal(h->text[SLM_PART_ANSWER], "");
}

/* Without anybody who takes calls they are text, as the model wrote them. */
static void test_calls_as_text(void **state) {
    (void)state;
    static struct heard h;
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_OFF, 0);
    slm_prompt *p = make(requests[9].text);
    slm_generate_options o = options_of(&requests[9], p, &h);
    o.on_call = NULL;
    answer(s, &o, &h);
    assert_string_equal(h.text[SLM_PART_ANSWER], "<tool_call>\n{\"name\": \"get_weather\", "
                                                 "\"arguments\": {\"city\": \"Oslo\"}}\n"
                                                 "</tool_call>");
    assert_int_equal(h.r.calls, 0);
    /* the same text through the parser by itself */
    static struct heard parsed;
    slm_answer_events events = { hear_text, hear_call, &parsed };
    size_t malformed = 9;
    memset(&parsed, 0, sizeof parsed);
    assert_int_equal(slm_answer_parse(p, h.text[0], h.n_text[0], &events, &malformed, NULL), SLM_OK);
    assert_string_equal(parsed.calls, "get_weather({\"city\": \"Oslo\"})");
    assert_int_equal(parsed.n_text[0], 0);
    assert_int_equal(malformed, 0);
    slm_prompt_free(p);
    slm_session_close(s);
}

/* Thinking switched off, by itself, closed by the budget: the language holds from there on. */
static void test_thinking(void **state) {
    (void)state;
    const char *choices = "\"format\":{\"type\":\"choices\",\"choices\":[\"1692\",\"2\"]}}";
    char text[512];
    snprintf(text, sizeof text, "{%s,\"think\":false,%s", USER("What is 47 * 36?"), choices);
    const struct heard *h = ask(text, 0);
    assert_int_equal(h->r.reasoning_tokens, 0);
    assert_string_equal(h->text[SLM_PART_REASONING], "");
    snprintf(text, sizeof text, "{%s,%s", USER("What is 47 * 36?"), choices);
    h = ask(text, 0);
    assert_string_equal(h->text[SLM_PART_ANSWER], "1692");
    assert_true(strncmp(h->text[SLM_PART_REASONING], "47*36\n", 6) == 0);
    assert_false(h->r.think_closed);
    h = ask(text, 5);
    assert_true(h->r.think_closed);
    assert_true(is_choice(text, h->text[SLM_PART_ANSWER]));
}

/* Ends that come from outside: a number of tokens, a stop string, the caller, the context. */
static void test_ends(void **state) {
    (void)state;
    static struct heard h, whole;
    static const char *const stops[] = { "age" };
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    slm_prompt *p = make(requests[6].text);
    slm_generate_options o = options_of(&requests[6], p, &whole);
    answer(s, &o, &whole);
    for (uint32_t n = 1; n < whole.r.output_tokens; n++)
        for (int looked = 0; looked < 2; looked++) {
            o = options_of(&requests[6], p, &h);
            o.max_tokens = n;
            if (!looked)
                o.on_choice = NULL;
            answer(s, &o, &h);
            assert_int_equal(h.r.output_tokens, n);
            assert_int_equal(h.r.finish, SLM_FINISH_LENGTH);
            assert_memory_equal(h.text[0], whole.text[0], h.n_text[0]);
            o = options_of(&requests[6], p, &h);
            h.stop_after = n;
            answer(s, &o, &h);
            assert_int_equal(h.r.finish, SLM_FINISH_CANCELLED);
            assert_int_equal(h.n, n);
        }
    o = options_of(&requests[6], p, &h);
    o.stop = stops;
    o.n_stop = 1;
    answer(s, &o, &h);
    assert_int_equal(h.r.finish, SLM_FINISH_STRING);
    assert_string_equal(h.text[0], "{\"name\": \"Anna\", \"");
    slm_prompt_free(p);
    slm_session_close(s);
}

/* A constraint without a prompt: raw text, shared between answers. */
static void test_raw(void **state) {
    (void)state;
    static struct heard h;
    slm_constraint *c = NULL;
    slm_why why;
    int32_t *ids;
    size_t n;
    const char *schema = "{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":2,"
                         "\"maxItems\":3}";
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    if (slm_constraint_open(demo, SLM_CONSTRAINT_SCHEMA, schema, strlen(schema), NULL, &c, &why) !=
        SLM_OK)
        fail_msg("%s", why.message);
    assert_int_equal(slm_encode(demo, "Some: ", 6, 0, &ids, &n, NULL), SLM_OK);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct request q = { PLAIN, NULL, 0 };
        slm_generate_options o = options_of(&q, NULL, &h);
        o.constraint = c;
        o.split_thinking = false;
        o.default_sampling = false;
        o.sampling.temperature = 2;
        o.sampling.seed = seed;
        assert_int_equal(slm_session_sync(s, ids, n, NULL, NULL), SLM_OK);
        assert_int_equal(slm_generate(s, &o, &h.r, &why), SLM_OK);
        json_t *d = json_loads(h.text[0], 0, NULL);
        assert_true(json_is_array(d) && json_array_size(d) >= 2 && json_array_size(d) <= 3);
        assert_true(json_is_boolean(json_array_get(d, 0)));
        json_decref(d);
    }
    /* nothing that the language needs may be banned: an error, not another answer */
    struct slm_bias bans[2560];
    for (int32_t i = 0; i < 2560; i++)
        bans[i] = (struct slm_bias){ i, -1.0f / 0.0f };
    struct request q = { PLAIN, NULL, 0 };
    slm_generate_options o = options_of(&q, NULL, &h);
    o.constraint = c;
    o.split_thinking = false;
    o.default_sampling = false;
    o.sampling.bias = bans;
    o.sampling.n_bias = 2560;
    o.no_forcing = true;
    assert_int_equal(slm_session_sync(s, ids, n, NULL, NULL), SLM_OK);
    assert_int_equal(slm_generate(s, &o, &h.r, &why), SLM_E_STATE);
    slm_free(demo, ids);
    slm_constraint_close(c);
    slm_session_close(s);
}

/* ------------------------------------------------------------------ errors and facts */

static void refuse(const char *request, slm_err want, const char *word) {
    slm_prompt *p = (slm_prompt *)&want;
    slm_why why;
    slm_err err = slm_prompt_make(demo, request, strlen(request), NULL, &p, &why);
    if (err != want || (word != NULL && strstr(why.message, word) == NULL))
        fail_msg("%s\n-> %s: %s", request, slm_err_name(err), err ? why.message : "");
    assert_null(p);
}

static void test_errors(void **state) {
    (void)state;
    static struct heard h;
    slm_constraint *c = (slm_constraint *)state;
    slm_why why;
    refuse("{", SLM_E_FORMAT, NULL);
    refuse("{" USER("x") ",\"format\":{\"type\":\"poem\"}}", SLM_E_ARG, "poem");
    refuse("{" USER("x") ",\"format\":{\"type\":\"regex\",\"pattern\":\"(\"}}", SLM_E_FORMAT, NULL);
    refuse("{" USER("x") "," SCHEMA("{\"type\":\"object\",\"contentEncoding2\":1,"
                                    "\"unevaluatedProperties\":{\"$dynamicRef\":\"#x\"}}") "}",
           SLM_E_UNSUPPORTED, NULL);
    assert_int_equal(slm_constraint_open(demo, SLM_CONSTRAINT_CHOICES, "{}", 2, NULL, &c, &why),
                     SLM_E_FORMAT);
    assert_null(c);
    assert_int_equal(slm_constraint_open(demo, (enum slm_constraint_kind)9, "", 0, NULL, &c, &why),
                     SLM_E_ARG);
    /* two languages for one answer; a request and a prompt; neither */
    assert_int_equal(slm_constraint_open(demo, SLM_CONSTRAINT_JSON, "", 0, NULL, &c, &why), SLM_OK);
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_OFF, 0);
    slm_generate_options o = options_of(&requests[0], prompts[0], &h);
    o.constraint = c;
    assert_int_equal(slm_chat(s, NULL, 0, &o, NULL, &why), SLM_E_ARG);
    o.constraint = NULL;
    assert_int_equal(slm_chat(s, "{}", 2, &o, NULL, &why), SLM_E_ARG);
    o.prompt = NULL;
    assert_int_equal(slm_chat(s, NULL, 0, &o, NULL, &why), SLM_E_ARG);
    slm_session_close(s);
    slm_constraint_close(c);
    slm_constraint_close(NULL);
    slm_prompt_free(NULL);
}

static void test_info(void **state) {
    (void)state;
    slm_info i = { .size = sizeof i };
    slm_prompt_info p = { .size = sizeof p };
    int32_t *ids;
    size_t n;
    assert_int_equal(slm_engine_info(demo, &i), SLM_OK);
    assert_string_equal(i.tools, "hermes");
    assert_int_equal(slm_prompt_get(prompts[10], &p), SLM_OK);
    assert_int_equal(p.n_tools, 3);
    assert_true(p.constrained && p.thinks && !p.no_think && !p.in_thinking);
    assert_null(p.warnings);
    assert_int_equal(slm_prompt_get(prompts[16], &p), SLM_OK);
    assert_true(!p.constrained && p.no_think && !p.thinks && p.n_tools == 0);
    /* the bits of the old way to ask */
    static const char old[] = "{" USER("What is the capital of Uruguay?") ",\"kwargs\":{"
                              "\"enable_thinking\":false}}";
    assert_int_equal(slm_render_ids(demo, old, sizeof old - 1, NULL, &ids, &n, NULL, NULL), SLM_OK);
    assert_int_equal(p.n, n);
    assert_memory_equal(p.ids, ids, n * sizeof *ids);
    slm_free(demo, ids);
}

/* Tools given to the template alone, as conversations always could: the same prompt, nothing is held,
 * and calls are told apart for whoever takes them. */
static void test_tools_of_the_template(void **state) {
    (void)state;
    static struct heard h;
    char old[2048];
    int32_t *ids;
    size_t n;
    slm_prompt_info i = { .size = sizeof i };
    snprintf(old, sizeof old, "{%s,\"kwargs\":{\"enable_thinking\":false,%s}}",
             USER("What is the weather in Oslo?"), TOOLS);
    slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_OFF, 0);
    slm_prompt *p = make(old);
    assert_int_equal(slm_prompt_get(p, &i), SLM_OK);
    assert_int_equal(slm_render_ids(demo, old, strlen(old), NULL, &ids, &n, NULL, NULL), SLM_OK);
    assert_int_equal(i.n, n);
    assert_memory_equal(i.ids, ids, n * sizeof *ids);
    assert_false(i.constrained);
    slm_free(demo, ids);
    struct request q = { PLAIN, old, 0 };
    slm_generate_options o = options_of(&q, p, &h);
    answer(s, &o, &h);
    assert_string_equal(h.calls, "get_weather({\"city\": \"Oslo\"})");
    assert_int_equal(h.r.forced_tokens, 0);
    slm_prompt_free(p);
    slm_session_close(s);
}

/* A template that opens the block itself: the prompt ends inside, and the language waits. */
static void test_prompt_opens_thinking(void **state) {
    (void)state;
    static const char *const names[] = { "config.json", "tokenizer.json", "model.safetensors" };
    static const char template[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n<think>\n";
    static struct heard h;
    struct slm_memory_file files[4] = { [3] = { "chat_template.jinja", template,
                                                sizeof template - 1 } };
    slm_engine_options eo = slm_engine_default();
    slm_engine *e = NULL, *usual = demo;
    slm_why why;
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "demo-model/%s", names[i]);
        files[i].name = names[i];
        files[i].data = slurp(path, &files[i].size);
        assert_non_null(files[i].data);
    }
    eo.threads = 1;
    eo.isa = test_isa();
    if (slm_engine_open_memory(files, 4, &eo, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    demo = e;
    for (uint32_t budget = 0; budget < 12; budget += 5) {
        struct request q = { RECORD, "{" USER("What is 47 * 36?") "," PERSON "}", budget };
        slm_session *s = open_session(e, 64, 1, SLM_SPECULATE_LOOKUP, 0);
        slm_prompt *p = make(q.text);
        slm_prompt_info i = { .size = sizeof i };
        assert_int_equal(slm_prompt_get(p, &i), SLM_OK);
        assert_true(i.in_thinking);
        slm_generate_options o = options_of(&q, p, &h);
        answer(s, &o, &h);
        check(&q, &h);
        assert_int_equal(h.r.finish, SLM_FINISH_STOP);
        assert_true(h.r.reasoning_tokens > 0 && h.n_text[SLM_PART_REASONING] > 0);
        slm_prompt_free(p);
        slm_session_close(s);
    }
    demo = usual;
    slm_engine_close(e);
    for (int i = 0; i < 3; i++)
        free((void *)(uintptr_t)files[i].data);
}

/* Every dialect, on weights that know nothing: what is required comes, and is read back as calls. */
static void test_dialects(void **state) {
    (void)state;
    static const char *const dialects[][2] = { { "qwen3-0.6b", "hermes" },
                                               { "smollm3-3b", "smollm3" },
                                               { "phi-4-mini-instruct", "phi4" },
                                               { "gemma-3-270m-it", "gemma-prompt" } };
    static struct heard h;
    slm_engine *usual = demo;
    for (size_t d = 0; d < ARRAY_LEN(dialects); d++) {
        struct tiny t;
        slm_why why;
        slm_info info = { .size = sizeof info };
        tiny_init(&t, dialects[d][0]);
        tiny_build(&t);
        if (tiny_open(&t, SLM_ALL, NULL, &demo, &why) != SLM_OK)
            fail_msg("%s", why.message);
        assert_int_equal(slm_engine_info(demo, &info), SLM_OK);
        assert_string_equal(info.tools, dialects[d][1]);
        slm_session *s = open_session(demo, 64, 1, SLM_SPECULATE_LOOKUP, 0);
        size_t ended = 0;
        for (uint64_t seed = 0; seed < 12; seed++) {
            char text[2048];
            struct request q = { seed % 2 ? CALLS : ONE_CALL, text, 0 };
            snprintf(text, sizeof text, "{%s,\"parallel_tool_calls\":%s,\"tool_choice\":%s,%s}",
                     USER("Hi"), seed % 2 ? "true" : "false",
                     seed % 3 ? "\"required\""
                              : "{\"type\":\"function\",\"function\":{\"name\":\"set_light\"}}",
                     TOOLS);
            slm_prompt *p = make(text);
            slm_generate_options o = options_of(&q, p, &h);
            o.default_sampling = false;
            o.sampling.temperature = 1;
            o.sampling.seed = seed;
            o.max_tokens = 700;
            o.on_choice = NULL;
            answer(s, &o, &h);
            check(&q, &h);
            ended += h.r.finish == SLM_FINISH_STOP;
            slm_prompt_free(p);
        }
        print_message("# %s: %zu of 12 ended\n", dialects[d][1], ended);
        assert_true(ended > 0);
        slm_session_close(s);
        slm_engine_close(demo);
        tiny_free(&t);
    }
    demo = usual;
}

/* ------------------------------------------------------------------ threads */

struct worker {
    slm_engine *engine;
    const slm_prompt *prompt;
    struct heard h[2];
};

static void *work(void *user) {
    struct worker *w = user;
    slm_constraint *c = NULL;
    slm_session *s = open_session(w->engine, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    const char *list = "[\"left\",\"right\"]";
    if (slm_constraint_open(w->engine, SLM_CONSTRAINT_CHOICES, list, strlen(list), NULL, &c, NULL) ==
        SLM_OK) {
        slm_generate_options o = options_of(&requests[7], NULL, &w->h[0]);
        static const int32_t ids[] = { 7, 8, 9 };
        o.constraint = c;
        o.split_thinking = false;
        o.default_sampling = false;
        w->h[0].err = slm_session_sync(s, ids, 3, NULL, NULL);
        if (w->h[0].err == SLM_OK)
            w->h[0].err = slm_generate(s, &o, &w->h[0].r, NULL);
    }
    slm_constraint_close(c);
    slm_session_close(s);
    return NULL;
}

/* Several threads are the first to need the vocabulary. */
static void test_threads(void **state) {
    (void)state;
    enum { N = 4 };
    static struct worker w[N];
    pthread_t threads[N];
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.threads = 1;
    o.isa = test_isa();
    assert_int_equal(slm_engine_open("demo-model", &o, &e, NULL), SLM_OK);
    for (int i = 0; i < N; i++) {
        w[i].engine = e;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < N; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(w[i].h[0].err, SLM_OK);
        assert_string_equal(w[i].h[0].text[0], w[0].h[0].text[0]);
        assert_true(strcmp(w[i].h[0].text[0], "left") == 0 ||
                    strcmp(w[i].h[0].text[0], "right") == 0);
    }
    slm_engine_close(e);
}

/* ------------------------------------------------------------------ memory */

static struct test_hooks counter;

static void *json_alloc(size_t n) {
    return counter.hooks.alloc != NULL ? counter.hooks.alloc(counter.hooks.user, n) : malloc(n);
}
static void json_release(void *p) {
    if (counter.hooks.release != NULL)
        counter.hooks.release(counter.hooks.user, p);
    else
        free(p);
}

static size_t requests_at[WRITTEN], n_at;
static bool note_requests(void *user, const slm_choice *c) {
    (void)user;
    (void)c;
    assert_true(n_at < WRITTEN);
    requests_at[n_at++] = counter.requests;
    return true;
}

/* A token that is chosen takes no memory, once the matcher has seen as deep a stack. */
static void test_tokens_allocate_nothing(void **state) {
    (void)state;
    slm_engine_options eo = slm_engine_default();
    slm_engine *e = NULL;
    slm_constraint *c = NULL;
    static const int32_t ids[] = { 7, 8, 9 };
    test_hooks_init(&counter, 0);
    eo.hooks = &counter.hooks;
    eo.threads = 1;
    eo.isa = test_isa();
    assert_int_equal(slm_engine_open("demo-model", &eo, &e, NULL), SLM_OK);
    slm_session *s = open_session(e, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    const char *re = "([a-z]{1,6} ){200}"; /* a forced space at a time */
    assert_int_equal(slm_constraint_open(e, SLM_CONSTRAINT_REGEX, re, strlen(re), NULL, &c, NULL),
                     SLM_OK);
    slm_generate_options o = slm_generate_default();
    o.constraint = c;
    o.split_thinking = false;
    o.default_sampling = false;
    o.sampling.temperature = 1;
    o.max_tokens = 200;
    o.on_choice = note_requests;
    assert_int_equal(slm_session_sync(s, ids, 3, NULL, NULL), SLM_OK);
    assert_int_equal(slm_generate(s, &o, NULL, NULL), SLM_OK);
    assert_int_equal(n_at, 200);
    if (requests_at[199] != requests_at[20])
        fail_msg("%zu requests in 179 tokens", requests_at[199] - requests_at[20]);
    slm_constraint_close(c);
    slm_session_close(s);
    slm_engine_close(e);
    assert_int_equal(counter.live, 0);
}

/* One answer with everything: tools and a format, thinking and its budget. */
static slm_err life(slm_engine *e, slm_session *s, const char *request) {
    static struct heard h;
    struct request q = { PLAIN, request, 4 };
    slm_prompt *p = NULL;
    slm_err err = slm_prompt_make(e, request, strlen(request), NULL, &p, NULL);
    if (err == SLM_OK) {
        slm_generate_options o = options_of(&q, p, &h);
        o.max_tokens = 60;
        o.top = 3;
        err = slm_chat(s, NULL, 0, &o, &h.r, NULL);
    }
    slm_prompt_free(p);
    return err;
}

/* Every request for memory fails in turn, of making the vocabulary and of whole answers. */
static void test_no_memory(void **state) {
    (void)state;
    static const char *const lives[] = {
        "{" USER("What is the weather in Oslo?") "," TOOLS "," PERSON "}",
        "{" USER("What is the weather in Oslo?") ",\"think\":false," TOOLS "}",
    };
    slm_engine_options eo = slm_engine_default();
    slm_engine *e = NULL;
    json_set_alloc_funcs(json_alloc, json_release);
    test_hooks_init(&counter, 0);
    eo.hooks = &counter.hooks;
    eo.threads = 1;
    eo.isa = test_isa();
    assert_int_equal(slm_engine_open("demo-model", &eo, &e, NULL), SLM_OK);
    size_t before = counter.live, refused = 0;
    for (size_t k = 1;; k++) { /* the first constraint of the engine */
        slm_constraint *c = NULL;
        counter.failed = false;
        counter.fail_at = counter.requests + k;
        slm_err err = slm_constraint_open(e, SLM_CONSTRAINT_JSON, "", 0, NULL, &c, NULL);
        counter.fail_at = 0;
        slm_constraint_close(c);
        if (!counter.failed) {
            assert_int_equal(err, SLM_OK);
            break;
        }
        assert_true(err == SLM_E_NOMEM || err == SLM_OK); /* what only becomes smaller may be refused */
        refused += err == SLM_E_NOMEM;
    }
    print_message("# %zu refusals of the first constraint\n", refused);
    assert_true(refused > 3);
    assert_true(counter.live > before);
    slm_session *s = open_session(e, 64, 1, SLM_SPECULATE_LOOKUP, 0);
    for (size_t l = 0; l < ARRAY_LEN(lives); l++) {
        assert_int_equal(life(e, s, lives[l]), SLM_OK);
        size_t live = counter.live, start = counter.requests, tried = 0, through = 0;
        assert_int_equal(life(e, s, lives[l]), SLM_OK);
        size_t n = counter.requests - start;
        assert_int_equal(counter.live, live);
        for (size_t k = 1; k <= n; k += k < 60 || k + 250 > n ? 1 : 17)
            for (int once = 0; once < 2; once++) {
                counter.failed = false;
                counter.once = once;
                counter.fail_at = counter.requests + k;
                slm_err err = life(e, s, lives[l]);
                counter.fail_at = 0;
                if ((err != SLM_E_NOMEM && err != SLM_OK) || counter.live != live)
                    print_error("request %zu of %zu%s: %s, %zu blocks more\n", k, n,
                                once ? " once" : "", slm_err_name(err), counter.live - live);
                assert_true(err == SLM_E_NOMEM || err == SLM_OK);
                assert_int_equal(counter.live, live);
                tried++;
                through += err == SLM_OK;
            }
        print_message("# %zu requests of an answer, %zu of %zu refusals did no harm\n", n, through,
                      tried);
        assert_true(through * 10 < tried);
    }
    slm_session_close(s);
    slm_engine_close(e);
    assert_int_equal(counter.live, 0);
    json_set_alloc_funcs(malloc, free);
}

/* ------------------------------------------------------------------ all */

static int setup(void **state) {
    (void)state;
    slm_engine_options o = slm_engine_default();
    slm_why why;
    o.threads = 1;
    o.isa = test_isa();
    if (slm_engine_open("demo-model", &o, &demo, &why) != SLM_OK)
        return 1;
    for (unsigned k = 0; k < REQUESTS; k++)
        prompts[k] = make(requests[k].text);
    plain_runs();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (unsigned k = 0; k < REQUESTS; k++)
        slm_prompt_free(prompts[k]);
    slm_engine_close(demo);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guesses_chunks_threads),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_always_valid),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_calls_as_text),
        cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_tools_of_the_template),
        cmocka_unit_test(test_prompt_opens_thinking),
        cmocka_unit_test(test_dialects),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_tokens_allocate_nothing),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
