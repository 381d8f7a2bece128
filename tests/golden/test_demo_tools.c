/* test_demo_tools.c - trained weights at work with tools: the built-in model chooses the tool, fills its
 * arguments, and answers from the result, through its own template and the vendors' templates whose
 * control tokens it has and whose way of showing tools it was trained on (JSON lines in ChatML; one of
 * them begins the thinking itself).
 *
 * In: demo-model/; SLM_REFERENCE/models/<model>/chat_template.jinja, skipped when it is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "chat/request.h"
#include "chat/template.h"
#include "slm.h"
#include "tests/support.h"

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Get the "
    "weather in a "
    "city\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\","
    "\"description\":\"The city\"}},\"required\":[\"city\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"set_timer\",\"description\":\"Start a timer\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"minutes\":{\"type\":\"integer\"}},"
    "\"required\":[\"minutes\"]}}}]";

struct way { /* of telling the model of tools */
    char name[32];
    const char *path; /* of the template */
    enum call_dialect dialect;
};

struct heard {
    struct answer_parser *parser;
    json_t *calls;
    struct buf text;
};

static void hear_text(void *user, enum think_part part, const char *text, size_t n) {
    struct heard *h = user;
    if (part == PART_CONTENT)
        buf_put(&h->text, text, n);
}

static void hear_call(void *user, const struct answer_call *call) {
    struct heard *h = user;
    char arguments[256] = "", name[65] = "", id[16];
    assert_true(call->n_arguments < sizeof arguments);
    memcpy(arguments, call->arguments, call->n_arguments);
    memcpy(name, call->name, call->n_name);
    snprintf(id, sizeof id, "call_%zu", call->index);
    json_array_append_new(h->calls, json_pack("{s:s,s:s,s:{s:s,s:s}}", "id", id, "type", "function",
                                              "function", "name", name, "arguments", arguments));
}

static bool pass_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct heard *h = user;
    (void)part;
    answer_parser_put(h->parser, text, n);
    return true;
}

/* The prompt's text by the way's template. */
static char *render(const struct way *way, const struct template *t, const json_t *messages,
                    json_t **told, size_t *n) {
    json_t *root = json_object(), *list;
    struct request_think think = { .can_switch = true };
    struct template_output out;
    struct request r;
    slm_why why;
    assert_int_equal(json_text(tools, sizeof tools - 1, &list, NULL), SLM_OK);
    json_object_set_new(root, "tools", list);
    json_object_set_new(root, "messages", json_deep_copy(messages));
    json_object_set_new(root, "think", json_false());
    if (request_read(NULL, root, way->dialect, think, &r, &why) != SLM_OK)
        fail_msg("%s", why.message);
    struct template_input in = { .messages = r.messages, .kwargs = r.kwargs, .now = 1751976000 };
    if (template_render(t, NULL, &in, &out, &why) != SLM_OK)
        fail_msg("%s", why.message);
    *told = json_incref(r.tools);
    *n = out.n;
    request_free(NULL, &r);
    json_decref(root);
    free(out.runs);
    return out.text;
}

static void answer(slm_engine *e, slm_session *s, const struct way *way, const struct template *t,
                   const json_t *messages, struct heard *h) {
    json_t *told;
    size_t n, n_ids;
    int32_t *ids;
    char *text = render(way, t, messages, &told, &n);
    bool inside = n > 8 && strcmp(text + n - 8, "<think>\n") == 0;
    const struct answer_setup setup = { .dialect = way->dialect,
                                        .tools = told,
                                        .open = "<think>",
                                        .close = "</think>",
                                        .starts_inside = inside };
    const struct answer_events events = { hear_text, hear_call, h };
    slm_generate_options o = slm_generate_default();
    slm_why why;
    h->calls = json_array();
    buf_init(&h->text, NULL, 65536);
    o.default_sampling = false;
    o.sampling = slm_sampling_default();
    o.split_thinking = false;
    o.max_tokens = 100;
    o.on_text = pass_text;
    o.user = h;
    assert_int_equal(answer_parser_new(NULL, &setup, &events, &h->parser, NULL), SLM_OK);
    assert_int_equal(slm_encode(e, text, n, 0, &ids, &n_ids, &why), SLM_OK);
    assert_int_equal(slm_session_sync(s, ids, n_ids, NULL, &why), SLM_OK);
    assert_int_equal(slm_generate(s, &o, NULL, &why), SLM_OK);
    assert_int_equal(answer_parser_end(h->parser, NULL), SLM_OK);
    answer_parser_free(h->parser);
    buf_putc(&h->text, '\0');
    slm_free(e, ids);
    json_decref(told);
    free(text);
}

/* Asks, answers the call, asks again. */
static void converse(slm_engine *e, slm_session *s, const struct way *way,
                     const struct template *t) {
    struct heard first, second;
    json_t *messages =
        json_pack("[{s:s,s:s}]", "role", "user", "content", "What is the weather in Oslo?");
    answer(e, s, way, t, messages, &first);
    json_t *want =
        json_pack("[{s:s,s:s,s:{s:s,s:s}}]", "id", "call_0", "type", "function", "function", "name",
                  "get_weather", "arguments", "{\"city\": \"Oslo\"}");
    if (!json_equal(first.calls, want) || first.text.len != 1)
        fail_msg("%s: text '%s', calls %s", way->name, first.text.data, json_dumps(first.calls, 0));
    json_array_append_new(messages, json_pack("{s:s,s:n,s:o}", "role", "assistant", "content",
                                              "tool_calls", first.calls));
    json_array_append_new(messages,
                          json_pack("{s:s,s:s,s:s}", "role", "tool", "tool_call_id", "call_0",
                                    "content", "{\"temperature\": -3, \"condition\": \"snowy\"}"));
    answer(e, s, way, t, messages, &second);
    if (json_array_size(second.calls) != 0 || strstr(second.text.data, "-3") == NULL ||
        strstr(second.text.data, "snow") == NULL)
        fail_msg("%s: text '%s', calls %s", way->name, second.text.data,
                 json_dumps(second.calls, 0));
    json_decref(second.calls);
    json_decref(messages);
    json_decref(want);
    buf_free(&first.text);
    buf_free(&second.text);
}

static void test_way(void **state) {
    const struct way *way = *state;
    char path[1024], demo[1024];
    struct template *t;
    slm_engine *e;
    slm_session *s;
    slm_why why;
    size_t n;
    if (ref_path(path, sizeof path, way->path) == NULL ||
        ref_path(demo, sizeof demo, "demo-model") == NULL)
        skip();
    char *text = slurp(path, &n);
    assert_non_null(text);
    assert_int_equal(template_compile(NULL, text, n, &t, &why), SLM_OK);
    if (slm_engine_open(demo, NULL, &e, &why) != SLM_OK ||
        slm_session_open(e, NULL, &s, &why) != SLM_OK)
        fail_msg("%s", why.message);
    converse(e, s, way, t);
    slm_session_close(s);
    slm_engine_close(e);
    template_free(t);
    free(text);
}

static struct way ways[] = {
    { "demo", "demo-model/chat_template.jinja", CALLS_HERMES },
    { "qwen3-0.6b", "models/qwen3-0.6b/chat_template.jinja", CALLS_HERMES },
    { "qwen3-4b-instruct-2507", "models/qwen3-4b-instruct-2507/chat_template.jinja", CALLS_HERMES },
    { "jan-v1-4b", "models/jan-v1-4b/chat_template.jinja", CALLS_HERMES },
};

int main(void) {
    struct CMUnitTest tests[sizeof ways / sizeof ways[0]];
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        tests[i] = (struct CMUnitTest){ ways[i].name, test_way, NULL, NULL, &ways[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
