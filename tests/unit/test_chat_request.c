/* test_chat_request.c - requests to what templates take: what is refused and what is told, thinking,
 * calls and results, what each dialect gets, trust, failing allocations.
 * The vendors' own templates are in tests/golden/test_chat_prompts.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/json.h"
#include "chat/request.h"
#include "chat/template.h"
#include "tests/support.h"

#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"
#define USER "{\"role\":\"user\",\"content\":\"Hi\"}"
#define CALL(id, name, arguments)                                                                  \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name                      \
    "\",\"arguments\":" arguments "}}"
#define CALLING(calls)                                                                             \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[" calls "]}"
#define RESULT(id, text)                                                                           \
    "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"content\":\"" text "\"}"
#define MESSAGES(list) "\"messages\":[" list "]"

static const struct request_think plain = { .name = "Plain" },
                                  switching = { .can_switch = true, .name = "Switch" },
                                  thinker = { .always = true, .name = "Thinker" };

static slm_err read_text(const struct slm_hooks *h, const char *text, enum call_dialect dialect,
                         struct request_think think, struct request *out, slm_why *why) {
    json_t *root;
    if (json_text(text, strlen(text), &root, why) != SLM_OK)
        fail_msg("%s: %s", text, why->message);
    slm_err err = request_read(h, root, dialect, think, out, why);
    json_decref(root);
    return err;
}

static struct request good(const char *text, enum call_dialect dialect, struct request_think think) {
    struct request r;
    slm_why why = { .message = "" };
    if (read_text(NULL, text, dialect, think, &r, &why) != SLM_OK)
        fail_msg("%s: %s", text, why.message);
    return r;
}

static void is_json(const json_t *got, const char *want) {
    json_t *j;
    assert_int_equal(json_text(want, strlen(want), &j, NULL), SLM_OK);
    if (!json_equal(j, got)) {
        char *text = json_dumps(got, JSON_ENCODE_ANY);
        fail_msg("got  %s\nwant %s", text, want);
    }
    json_decref(j);
}

/* ---- what is refused, and the words that say so ---- */

struct refusal {
    const char *request, *words;
    struct request_think think;
    bool no_tools; /* the model has no dialect */
};

static const struct refusal refusals[] = {
    { "[]", "a request is a JSON object", { .name = NULL }, false },
    { "{}", "\"messages\" is no array", { .name = NULL }, false },
    { "{\"messages\":{}}", "\"messages\" is no array", { .name = NULL }, false },
    { "{\"messages\":[]}", "\"messages\" is empty", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"temperature\":1}", "\"temperature\" is no part", { .name = NULL }, false },
    { "{\"messages\":[1]}", "messages[0]: no object", { .name = NULL }, false },
    { "{\"messages\":[" USER ",{\"role\":\"boss\",\"content\":\"\"}]}", "messages[1]: \"role\"",
      { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\"}]}", "messages[0]: content is missing", { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0]: content is neither",
      { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"audio\"}]}]}", "messages[0]: a part",
      { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
      "messages[0]: Plain reads text only", { .name = "Plain" }, false },
    { "{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"image\"}]}]}",
      "messages[0]: images belong", { .images = true }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"\",\"reasoning_content\":\"x\"}]}",
      "messages[0]: only assistants", { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"\",\"tool_calls\":[{}]}]}",
      "messages[0]: only assistants", { .name = NULL }, false },
    { "{\"messages\":[{\"role\":\"user\",\"content\":\"\",\"name\":1}]}", "messages[0]: \"name\"",
      { .name = NULL }, false },
    { "{\"messages\":[" USER "," RESULT("c", "1") "]}", "messages[1]: the result of a tool before",
      { .name = NULL }, false },
    { "{\"messages\":[" USER "," CALLING("{}") "]}", "messages[1]: a call has no", { .name = NULL },
      false },
    { "{\"messages\":[" USER "," CALLING(CALL("c", "a b", "{}")) "]}", "messages[1]: a call has no",
      { .name = NULL }, false },
    { "{\"messages\":[" USER "," CALLING(CALL("c", "f", "[]")) "]}", "messages[1]: arguments of a call",
      { .name = NULL }, false },
    { "{\"messages\":[" USER "," CALLING(CALL("c", "f", "\"[1]\"")) "]}",
      "messages[1]: arguments of a call", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":{}}", "\"tools\" is no array", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[{\"name\":\"f\"}]}", "tools[0]: not", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("a b") "]}", "tools[0]: \"name\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("") "]}", "tools[0]: \"name\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":["
      TOOL("abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcde") "]}",
      "tools[0]: \"name\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "," TOOL("g") "," TOOL("f") "]}",
      "tools[2]: a second tool 'f'", { .name = NULL }, false },
    { "{" MESSAGES(USER)
      ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":[]}}]}",
      "tools[0]: \"parameters\"", { .name = NULL }, false },
    { "{" MESSAGES(USER)
      ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":1}}]}",
      "tools[0]: \"description\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "]}", "Plain cannot be told of tools",
      { .name = "Plain" }, true },
    { "{" MESSAGES(USER) ",\"tool_choice\":\"required\"}", "there are no tools", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tool_choice\":\"maybe\"}", "\"tool_choice\" is none of", { .name = NULL },
      false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"function\",\"function\":"
      "{\"name\":\"g\"}}}", "there is no tool 'g'", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"parallel_tool_calls\":1}", "\"parallel_tool_calls\"", { .name = NULL },
      false },
    { "{" MESSAGES(USER) ",\"format\":\"json\"}", "\"format\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"kwargs\":[]}", "\"kwargs\"", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"kwargs\":{\"messages\":[]}}", "\"messages\" stand", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "],\"kwargs\":{\"tools\":[]}}", "tools stand",
      { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"think\":\"yes\"}", "\"think\" is neither", { .name = NULL }, false },
    { "{" MESSAGES(USER) ",\"think\":false}", "\"think\": Thinker always thinks",
      { .always = true, .name = "Thinker" }, false },
    { "{" MESSAGES(USER) ",\"think\":true}", "\"think\": this model cannot think", { .name = NULL },
      false },
    { "{" MESSAGES(USER) ",\"kwargs\":{\"enable_thinking\":false}}",
      "\"enable_thinking\": this model always thinks", { .always = true }, false },
    { "{" MESSAGES(USER) ",\"kwargs\":{\"enable_thinking\":true}}",
      "\"enable_thinking\": this model cannot think", { .name = NULL }, false },
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *c = &refusals[i];
        struct request r;
        slm_why why = { .message = "" };
        slm_err err = read_text(NULL, c->request, c->no_tools ? CALLS_NONE : CALLS_HERMES, c->think,
                                &r, &why);
        if (err != SLM_E_ARG || strstr(why.message, c->words) == NULL)
            fail_msg("%s: %d, '%s', not '%s'", c->request, (int)err, why.message, c->words);
        assert_null(r.messages);
        assert_null(r.kwargs);
    }
    struct request r; /* arguments that are no JSON: with the place inside */
    slm_why why;
    assert_int_equal(read_text(NULL, "{\"messages\":[" CALLING(CALL("c", "f", "\"{\"")) "]}",
                               CALLS_HERMES, plain, &r, &why),
                     SLM_E_FORMAT);
    assert_non_null(strstr(why.message, "messages[0]: arguments of f"));
}

/* 256 tools and no more. */
static void test_many_tools(void **state) {
    (void)state;
    for (size_t n = REQUEST_TOOLS_MAX; n <= REQUEST_TOOLS_MAX + 1; n++) {
        struct request r;
        struct buf b;
        slm_why why;
        buf_init(&b, NULL, 1 << 20);
        buf_puts(&b, "{" MESSAGES(USER) ",\"tools\":[");
        for (size_t i = 0; i < n; i++)
            buf_printf(&b, "%s{\"type\":\"function\",\"function\":{\"name\":\"t%zu\"}}",
                       i > 0 ? "," : "", i);
        buf_puts(&b, "]}");
        slm_err err = read_text(NULL, b.data, CALLS_HERMES, plain, &r, &why);
        assert_int_equal(err, n > REQUEST_TOOLS_MAX ? SLM_E_ARG : SLM_OK);
        request_free(NULL, &r);
        buf_free(&b);
    }
}

/* ---- what is told ---- */

static void warns(const char *text, const char *words) {
    struct request r = good(text, CALLS_HERMES, plain);
    if (words == NULL ? r.warnings.len > 0
                      : r.warnings.len == 0 || strstr(r.warnings.data, words) == NULL)
        fail_msg("%s: warnings '%s'", text, r.warnings.len > 0 ? r.warnings.data : "");
    request_free(NULL, &r);
}

static void test_warnings(void **state) {
    (void)state;
    warns("{" MESSAGES(USER) ",\"think\":false,\"tools\":null,\"format\":null}", NULL);
    warns("{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"refusal\":null}]}", NULL);
    warns("{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"mood\":\"good\"}]}",
          "messages[0]: \"mood\" was not used\n");
    warns("{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"content_data\":[0,1]}]}",
          "messages[0]: \"content_data\" was not used\n");
    warns("{\"messages\":[" USER "," CALLING(CALL("c", "f", "{}")) "," RESULT("d", "1") "]}",
          "messages[2]: tool_call_id belongs to no call before it\n");
    warns("{\"messages\":[" USER "," CALLING(CALL("c", "f", "{}")) "," RESULT("c", "1") ","
          RESULT("c", "2") "]}", "messages[3]: a second result of the same call\n");
    warns("{\"messages\":[" USER "," CALLING(CALL("c", "f", "{}")) "," USER "]}",
          "messages[2]: a call of f before it has no result\n");
    warns("{\"messages\":[" USER "," CALLING(CALL("c", "f", "{}")) "," RESULT("c", "1") "," USER
          "," CALLING(CALL("c", "f", "{}")) "," RESULT("c", "1") "]}", NULL);
}

/* However much there is to tell, it stays short. */
static void test_warnings_end(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    buf_puts(&b, "{\"messages\":[");
    for (int i = 0; i < 3000; i++)
        buf_printf(&b, "%s{\"role\":\"user\",\"content\":\"\",\"odd\":1}", i > 0 ? "," : "");
    buf_puts(&b, "]}");
    struct request r = good(b.data, CALLS_HERMES, plain);
    assert_true(r.warnings.len > 8000 && r.warnings.len <= 16384);
    request_free(NULL, &r);
    buf_free(&b);
}

/* ---- messages ---- */

static void messages_are(const char *list, enum call_dialect dialect, const char *want) {
    struct buf b;
    struct request_think think = { .images = true };
    buf_init(&b, NULL, 1 << 20);
    buf_printf(&b, "{\"messages\":%s}", list);
    struct request r = good(b.data, dialect, think);
    is_json(r.messages, want);
    request_free(NULL, &r);
    buf_free(&b);
}

static void test_messages(void **state) {
    (void)state;
    messages_are("[{\"role\":\"developer\",\"content\":\"S\"}," USER "]", CALLS_HERMES,
                 "[{\"role\":\"system\",\"content\":\"S\"}," USER "]");
    messages_are("[{\"role\":\"user\",\"name\":\"Ann\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                 "{\"type\":\"text\",\"text\":\"b\"}]}]",
                 CALLS_HERMES, "[{\"role\":\"user\",\"name\":\"Ann\",\"content\":\"a\\nb\"}]");
    messages_are("[{\"role\":\"user\",\"content\":[]}]", CALLS_HERMES,
                 "[{\"role\":\"user\",\"content\":\"\"}]");
    messages_are("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                 "{\"type\":\"image\",\"x\":1},{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}},"
                 "{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\"c\"}]}]",
                 CALLS_HERMES,
                 "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                 "{\"type\":\"image\",\"x\":1},{\"type\":\"image\",\"image_url\":{\"url\":\"u\"}},"
                 "{\"type\":\"text\",\"text\":\"b\\nc\"}]}]");
    messages_are("[" USER ",{\"role\":\"assistant\",\"reasoning_content\":\"hm\",\"tool_calls\":["
                 CALL("c", "f", "\"{\\\"a\\\": [1]}\"") ",{\"function\":{\"name\":\"g\"}},"
                 CALL("e", "g", "\" \"") "]}," RESULT("c", "1") "]",
                 CALLS_HERMES,
                 "[" USER ",{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"hm\","
                 "\"tool_calls\":[" CALL("c", "f", "{\"a\":[1]}")
                 ",{\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":{}}},"
                 CALL("e", "g", "{}") "]},{\"role\":\"tool\",\"tool_call_id\":\"c\",\"name\":\"f\","
                 "\"content\":\"1\"}]");
}

/* Results stand in the order of their calls; what belongs to none comes last. */
static void test_order(void **state) {
    (void)state;
    struct request r =
        good("{\"messages\":[" USER "," CALLING(CALL("a", "f", "{}") "," CALL("b", "g", "{}") ","
             CALL("c", "h", "{}")) "," RESULT("c", "3") "," RESULT("x", "?") "," RESULT("a", "1") ","
             RESULT("b", "2") "," USER "]}", CALLS_HERMES, plain);
    static const char *const want[] = { "1", "2", "3", "?", "Hi" };
    for (size_t i = 0; i < 5; i++) {
        const json_t *m = json_array_get(r.messages, 2 + i);
        assert_string_equal(json_string_value(json_object_get(m, "content")), want[i]);
    }
    request_free(NULL, &r);
}

static void test_choices(void **state) {
    (void)state;
    struct request r = good("{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "]}", CALLS_HERMES, plain);
    assert_int_equal(r.choice, TOOLS_AUTO);
    assert_true(r.many_calls);
    is_json(r.tools, "[" TOOL("f") "]");
    is_json(r.kwargs, "{\"add_generation_prompt\":true,\"tools\":[" TOOL("f") "]}");
    request_free(NULL, &r);
    r = good("{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "],\"tool_choice\":\"none\","
             "\"kwargs\":{\"add_generation_prompt\":false,\"x\":1}}", CALLS_HERMES, plain);
    assert_int_equal(r.choice, TOOLS_NO);
    assert_null(r.tools);
    is_json(r.kwargs, "{\"add_generation_prompt\":false,\"x\":1}");
    request_free(NULL, &r);
    r = good("{" MESSAGES(USER) ",\"tools\":[" TOOL("f") "],\"tool_choice\":{\"type\":\"function\","
             "\"function\":{\"name\":\"f\"}},\"parallel_tool_calls\":false,"
             "\"format\":{\"type\":\"json_object\"}}", CALLS_HERMES, plain);
    assert_int_equal(r.choice, TOOLS_NAMED);
    assert_string_equal(r.tool_name, "f");
    assert_false(r.many_calls);
    is_json(r.format, "{\"type\":\"json_object\"}");
    request_free(NULL, &r);
}

/* ---- thinking: one outcome for every way of saying it ---- */

struct think_case {
    const struct request_think *model;
    enum call_dialect dialect;
    const char *system, *user, *more; /* more: further fields of the request */
    bool thinks, no_think;
    int arg; /* enable_thinking for the template: 0, 1; -1: not given */
    const char *warning;
    const char *system_after, *user_after; /* NULL: as they were */
};

static const struct think_case think_cases[] = {
    { &switching, CALLS_HERMES, "S", "Hi", "", true, false, -1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi", ",\"think\":true", true, false, 1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi", ",\"think\":false", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi", ",\"kwargs\":{\"enable_thinking\":false}", false, true, 0, NULL,
      NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi", ",\"think\":true,\"kwargs\":{\"enable_thinking\":false}", true,
      false, 1, "\"think\" counts", NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi /no_think", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi\\n/no_think \\n", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "/no_think", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi /think", "", true, false, 1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S /no_think", "Hi", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S /no_think", "Hi /think", "", true, false, 1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "see a/no_think", "", true, false, -1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "/no_think is a word", "", true, false, -1, NULL, NULL, NULL },
    { &switching, CALLS_HERMES, "S", "Hi /no_think", ",\"think\":true", true, false, 1,
      "\"think\" counts, not the word in messages[1]", NULL, "Hi" },
    { &switching, CALLS_HERMES, "S", "Hi /no_think", ",\"kwargs\":{\"enable_thinking\":true}", true, false,
      1, "\"enable_thinking\" counts", NULL, "Hi" },
    { &switching, CALLS_HERMES, "S", "Hi /think", ",\"think\":true", true, false, 1, NULL, NULL, NULL },
    { &switching, CALLS_SMOLLM3, "/no_think Be terse.", "Hi", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_SMOLLM3, "Be terse. /think", "Hi", "", true, false, 1, NULL, NULL, NULL },
    { &switching, CALLS_SMOLLM3, "Be terse.", "Hi /no_think", "", false, true, 0, NULL, NULL, NULL },
    { &switching, CALLS_SMOLLM3, "/no_think Be /think terse.", "Hi", ",\"think\":true", true, false, 1,
      "\"think\" counts, not the word in messages[0]", " Be  terse.", NULL },
    { &plain, CALLS_HERMES, "S", "Hi /no_think", "", false, false, -1, NULL, NULL, NULL },
    { &plain, CALLS_HERMES, "S", "Hi", ",\"think\":false", false, false, -1, NULL, NULL, NULL },
    { &thinker, CALLS_HERMES, "S", "Hi /no_think", "", true, false, -1, NULL, NULL, NULL },
    { &thinker, CALLS_HERMES, "S", "Hi", ",\"think\":true", true, false, -1, NULL, NULL, NULL },
};

static void content_is(const struct request *r, size_t i, const char *escaped) {
    struct buf b;
    json_t *want;
    buf_init(&b, NULL, 4096);
    buf_printf(&b, "[\"%s\"]", escaped);
    assert_int_equal(json_text(b.data, b.len, &want, NULL), SLM_OK);
    const json_t *m = json_array_get(r->messages, i);
    assert_string_equal(json_string_value(json_object_get(m, "content")),
                        json_string_value(json_array_get(want, 0)));
    json_decref(want);
    buf_free(&b);
}

static void test_think(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof think_cases / sizeof think_cases[0]; i++) {
        const struct think_case *c = &think_cases[i];
        char text[512];
        snprintf(text, sizeof text,
                 "{\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},{\"role\":\"user\","
                 "\"content\":\"%s\"}]%s}",
                 c->system, c->user, c->more);
        struct request r = good(text, c->dialect, *c->model);
        const json_t *arg = json_object_get(r.kwargs, "enable_thinking");
        int is = arg == NULL ? -1 : json_is_true(arg);
        if (r.thinks != c->thinks || r.no_think != c->no_think || is != c->arg)
            fail_msg("%s: thinks %d, no_think %d, argument %d", text, r.thinks, r.no_think, is);
        if ((c->warning == NULL) != (r.warnings.len == 0) ||
            (c->warning != NULL && strstr(r.warnings.data, c->warning) == NULL))
            fail_msg("%s: warnings '%s'", text, r.warnings.len > 0 ? r.warnings.data : "");
        content_is(&r, 0, c->system_after != NULL ? c->system_after : c->system);
        content_is(&r, 1, c->user_after != NULL ? c->user_after : c->user);
        request_free(NULL, &r);
    }
}

/* ---- what each dialect gets ---- */

#define HISTORY                                                                                    \
    USER ",{\"role\":\"assistant\",\"content\":\"Look.\",\"reasoning_content\":\"hm\","            \
         "\"tool_calls\":[" CALL("c", "f", "{\"a\":\"x\\n\",\"b\":[true,null,-1.5]}") ","          \
         CALL("d", "g", "{}") "]}," RESULT("c", "1") "," RESULT("d", "2")

static void test_dialects(void **state) {
    (void)state;
    messages_are("[" HISTORY "]", CALLS_PHI4,
                 "[" USER ",{\"role\":\"assistant\",\"content\":\"Look.<|tool_call|>[{\\\"name\\\": "
                 "\\\"f\\\", \\\"arguments\\\": {\\\"a\\\": \\\"x\\\\n\\\", \\\"b\\\": [true, null, "
                 "-1.5]}}, {\\\"name\\\": \\\"g\\\", \\\"arguments\\\": {}}]<|/tool_call|>\","
                 "\"content_data\":[18,99]},{\"role\":\"tool\",\"tool_call_id\":\"c\",\"name\":\"f\","
                 "\"content\":\"1\"},{\"role\":\"tool\",\"tool_call_id\":\"d\",\"name\":\"g\","
                 "\"content\":\"2\"}]");
    messages_are("[" HISTORY "]", CALLS_GEMMA,
                 "[" USER ",{\"role\":\"assistant\",\"content\":\"Look.\\n[f(a=\\\"x\\\\n\\\", b=[True, "
                 "None, -1.5]), g()]\",\"content_data\":[6,39]},{\"role\":\"user\",\"tool_call_id\":"
                 "\"c\",\"name\":\"f\",\"content\":\"1\\n2\"}]");
    messages_are("[" HISTORY "]", CALLS_SMOLLM3,
                 "[" USER ",{\"role\":\"assistant\",\"content\":\"Look.\\n<tool_call>\\n{\\\"name\\\": "
                 "\\\"f\\\", \\\"arguments\\\": {\\\"a\\\": \\\"x\\\\n\\\", \\\"b\\\": [true, null, "
                 "-1.5]}}\\n</tool_call>\\n<tool_call>\\n{\\\"name\\\": \\\"g\\\", \\\"arguments\\\": "
                 "{}}\\n</tool_call>\",\"content_data\":[18,65,109,30]},{\"role\":\"tool\","
                 "\"tool_call_id\":\"c\",\"name\":\"f\",\"content\":\"1\"},{\"role\":\"tool\","
                 "\"tool_call_id\":\"d\",\"name\":\"g\",\"content\":\"2\"}]");
    /* neighbours of one role become one turn, and a user begins */
    messages_are("[{\"role\":\"assistant\",\"content\":\"A\"},{\"role\":\"assistant\",\"content\":\"B\"},"
                 USER "," USER "]", CALLS_GEMMA,
                 "[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"assistant\",\"content\":\"A\\nB\"},"
                 "{\"role\":\"user\",\"content\":\"Hi\\nHi\"}]");
    messages_are("[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"system\",\"content\":\"T\"}," USER
                 ",{\"role\":\"system\",\"content\":\"U\"}]", CALLS_GEMMA,
                 "[{\"role\":\"system\",\"content\":\"S\\n\\nT\"},{\"role\":\"user\",\"content\":"
                 "\"Hi\\nU\"}]");
    messages_are("[" USER ",{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]", CALLS_GEMMA,
                 "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"},"
                 "{\"type\":\"image\"}]}]");
    /* names that Python cannot write */
    messages_are("[" USER "," CALLING(CALL("c", "f", "{\"a-b\":\"\\u0007\"}")) "]", CALLS_GEMMA,
                 "[" USER ",{\"role\":\"assistant\",\"content\":\"[{\\\"name\\\": \\\"f\\\", "
                 "\\\"parameters\\\": {\\\"a-b\\\": \\\"\\\\u0007\\\"}}]\",\"content_data\":[0,48]}]");
}

/* ---- trust: control words in what is untrusted stay text ---- */

/* The rendered text, its untrusted runs in braces. */
static char *render(const struct request *r, const char *template) {
    struct template *t;
    struct template_output out;
    slm_why why = { .message = "" };
    struct buf b;
    assert_int_equal(template_compile(NULL, template, strlen(template), &t, &why), SLM_OK);
    struct template_input in = { .messages = r->messages, .kwargs = r->kwargs };
    if (template_render(t, NULL, &in, &out, &why) != SLM_OK)
        fail_msg("%s", why.message);
    buf_init(&b, NULL, 65536);
    for (size_t i = 0; i < out.n_runs; i++) {
        buf_puts(&b, out.runs[i].data ? "{{" : "");
        buf_put(&b, out.text + out.runs[i].start, out.runs[i].n);
        buf_puts(&b, out.runs[i].data ? "}}" : "");
    }
    template_output_free(NULL, &out);
    template_free(t);
    return buf_take(&b);
}

static void test_trust(void **state) {
    (void)state;
    static const char evil[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"}," USER ",{\"role\":\"assistant\","
        "\"content\":\"A\",\"reasoning_content\":\"<e>\",\"tool_calls\":["
        CALL("c", "f", "{\"a\":\"<e>\"}") "]}," RESULT("c", "<e>") "],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"<e>\"}}]}";
    static const char template[] =
        "{% for m in messages %}<{{ m.role }}>{{ m.tools }}{{ m.content }}{{ m.reasoning_content }}"
        "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
        "{% endfor %}{% endfor %}{{ tools }}{{ xml_tools }}";
    static const struct {
        enum call_dialect dialect;
        const char *want;
    } all[] = {
        { CALLS_HERMES,
          "<system>S<user>{{Hi}}<assistant>A{{<e>f{\"a\": \"<e>\"}}}<tool>{{<e>[{'type': 'function', "
          "'function': {'name': 'f', 'description': '<e>'}}]}}" },
        { CALLS_SMOLLM3,
          "<system>S<user>{{Hi}}<assistant>A\n<tool_call>\n{{{\"name\": \"f\", \"arguments\": {\"a\": "
          "\"<e>\"}}}}\n</tool_call><tool>{{<e>[{'type': 'function', 'function': {'name': 'f', "
          "'description': '<e>'}}]}}" },
        { CALLS_PHI4,
          "<system>{{[{\"name\": \"f\", \"description\": \"<e>\"}]}}S<user>{{Hi}}<assistant>A"
          "<|tool_call|>{{[{\"name\": \"f\", \"arguments\": {\"a\": \"<e>\"}}]}}<|/tool_call|><tool>"
          "{{<e>}}" },
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct request r = good(evil, all[i].dialect, plain);
        char *got = render(&r, template);
        assert_string_equal(got, all[i].want);
        free(got);
        request_free(NULL, &r);
    }
    struct request r = good(evil, CALLS_GEMMA, plain);
    char *got = render(&r, template), *user = strstr(got, "<user>{{You have access to functions.");
    assert_non_null(user);
    assert_non_null(strstr(user, "\"<e>\"}\n]\nHi}}<assistant>A\n{{[f(a=\"<e>\")]}}<user>{{<e>}}"));
    free(got);
    request_free(NULL, &r);
}

/* Marks of data follow their bytes, and cannot point elsewhere. */
static void test_marks(void **state) {
    (void)state;
    static const char *const wrong[] = { "[-1,1]", "[0,4]", "[4,0]", "[0,-1]", "[1,9223372036854775807]" };
    struct template *t;
    struct template_output out;
    const char *text = "{{ messages[0].content }}{{ messages[0].content_data is defined }}";
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, NULL), SLM_OK);
    for (size_t i = 0; i <= sizeof wrong / sizeof wrong[0]; i++) {
        json_t *messages;
        char list[256];
        bool right = i == sizeof wrong / sizeof wrong[0];
        snprintf(list, sizeof list, "[{\"role\":\"assistant\",\"content\":\"abc\",\"content_data\":%s}]",
                 right ? "[1,1]" : wrong[i]);
        assert_int_equal(json_text(list, strlen(list), &messages, NULL), SLM_OK);
        struct template_input in = { .messages = messages };
        assert_int_equal(template_render(t, NULL, &in, &out, NULL), right ? SLM_OK : SLM_E_ARG);
        if (right) {
            assert_string_equal(out.text, "abcFalse");
            assert_int_equal(out.n_runs, 3);
            assert_true(out.runs[1].data && out.runs[1].start == 1 && out.runs[1].n == 1);
        }
        template_output_free(NULL, &out);
        json_decref(messages);
    }
    template_free(t);
}

/* Many messages that have to become few: the cost stays linear (quadratic would be minutes). */
static void test_many(void **state) {
    (void)state;
    static const char *const kinds[] = {
        "{\"role\":\"system\",\"content\":\"a system message\"}",
        "{\"role\":\"user\",\"content\":\"a user message\"}",
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image\"}]}",
        CALLING(CALL("a", "f", "{}") "," CALL("b", "g", "{}")) "," RESULT("b", "2") "," RESULT("a", "1"),
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct buf b;
        struct request_think think = { .images = true };
        clock_t start = clock();
        buf_init(&b, NULL, (size_t)64 << 20);
        buf_puts(&b, "{\"messages\":[");
        for (int i = 0; i < 100000; i++) {
            buf_puts(&b, i > 0 ? "," : "");
            buf_puts(&b, kinds[k]);
        }
        buf_puts(&b, "]}");
        struct request r = good(b.data, CALLS_GEMMA, think);
        assert_int_equal(json_array_size(r.messages), k == 0 ? 2 : k == 3 ? 200001 : 1);
        request_free(NULL, &r);
        buf_free(&b);
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
    }
}

/* ---- failing allocations, jansson's among them ---- */

static struct test_hooks counter;

static void *json_alloc(size_t n) {
    return counter.hooks.alloc(counter.hooks.user, n);
}

static void json_release(void *p) {
    if (p != NULL)
        counter.hooks.release(counter.hooks.user, p);
}

static void test_oom(void **state) {
    (void)state;
    static const char text[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"/no_think S\"}]},"
        "{\"role\":\"system\",\"content\":\"T\"}," HISTORY "," USER "," USER
        ",{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"}]}],"
        "\"tools\":[" TOOL("f") "],\"think\":true,\"tool_choice\":{\"type\":"
        "\"function\",\"function\":{\"name\":\"f\"}}}";
    struct request_think think = { .can_switch = true, .images = true };
    json_set_alloc_funcs(json_alloc, json_release);
    for (int d = CALLS_HERMES; d <= CALLS_GEMMA; d++) {
        for (size_t k = 1;; k++) {
            struct request r;
            slm_why why;
            json_t *root;
            test_hooks_init(&counter, 0);
            assert_int_equal(json_text(text, sizeof text - 1, &root, &why), SLM_OK);
            size_t live = counter.live;
            counter.fail_at = counter.requests + k;
            slm_err err = request_read(&counter.hooks, root, (enum call_dialect)d, think, &r, &why);
            assert_int_equal(err, counter.failed ? SLM_E_NOMEM : SLM_OK);
            request_free(&counter.hooks, &r);
            assert_int_equal(counter.live, live);
            json_decref(root);
            assert_int_equal(counter.live, 0);
            if (!counter.failed)
                break;
        }
    }
    json_set_alloc_funcs(malloc, free);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_many_tools),
        cmocka_unit_test(test_warnings), cmocka_unit_test(test_warnings_end),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_order),
        cmocka_unit_test(test_choices),  cmocka_unit_test(test_think),
        cmocka_unit_test(test_dialects), cmocka_unit_test(test_trust),
        cmocka_unit_test(test_marks),    cmocka_unit_test(test_many),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
