/* test_constrain_calls.c - calls of tools in three styles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "constrain_walk.h"

static struct pieces pieces;
static struct constrain_vocab *vocab;
static json_t *tools;

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get\",\"description\":\"d\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":"
    "\"integer\","
    "\"minimum\":1,\"maximum\":9},\"deep\":{\"$ref\":\"#/$defs/"
    "d\"}},\"required\":[\"city\"],\"$defs\":"
    "{\"d\":{\"type\":[\"null\",\"boolean\"]}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}},"
    "{\"name\":\"any\",\"parameters\":{}},"
    "{\"name\":\"open\",\"parameters\":{\"properties\":{\"a\":{\"enum\":[\"x\",null]}},"
    "\"additionalProperties\":{\"type\":\"integer\"}}}]";

static struct grammar *grammar(const struct call_shape *shape) {
    struct grammar *g = NULL;
    slm_why why = { .message = "" };
    slm_err err = grammar_calls(NULL, shape, NULL, &g, &why);
    if (err != SLM_OK)
        printf("# %s\n", why.message);
    assert_int_equal(err, SLM_OK);
    return g;
}

static void check(const struct call_shape *shape, const char *s, bool want) {
    struct grammar *g = grammar(shape);
    struct matcher *m = NULL;
    struct rng r = { 11 };
    bool ends;
    size_t n = strlen(s);
    assert_int_equal(matcher_new(NULL, g, vocab, &m, NULL), SLM_OK);
    size_t good = walk_bytes(m, s, n, &ends);
    if (ends != want)
        printf("# '%s': %zu of %zu bytes\n", s, good, n);
    assert_int_equal(ends, want);
    for (size_t i = 0; i <= good; i += 1 + i / 4) {
        matcher_reset(m);
        assert_true(i == 0 || matcher_accept_bytes(m, s, i));
        if (!matcher_must_end(m))
            assert_true(mask_is_right(m, &pieces, s, i));
    }
    for (int i = 0; i < 3 && want; i++)
        assert_true(walk_tokens(m, &pieces, &r, s, n));
    matcher_free(m);
    grammar_free(g);
}

static void test_json(void **state) {
    (void)state;
    struct call_shape s = { .style = CALL_JSON,
                            .open = "<tool_call>\n",
                            .close = "\n</tool_call>",
                            .between = "\n",
                            .arguments_key = "arguments",
                            .tools = tools };
    check(&s, "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>",
          true);
    check(&s,
          "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"\", \"days\": 9, \"deep\": "
          "null}}\n</tool_call>",
          true);
    check(&s, "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>", true);
    check(&s, "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"a\": 1}}\n</tool_call>",
          false);
    check(&s, "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>", false);
    check(&s,
          "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"a\", \"x\": "
          "1}}\n</tool_call>",
          false);
    check(&s,
          "<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": \"a\", \"days\": "
          "10}}\n</tool_call>",
          false);
    check(&s, "<tool_call>\n{\"name\": \"what\", \"arguments\": {}}\n</tool_call>", false);
    check(&s,
          "<tool_call>\n{\"name\": \"open\", \"arguments\": {\"a\": null, \"b\": 4}}\n</tool_call>",
          true);
    check(&s, "<tool_call>\n{\"name\": \"open\", \"arguments\": {\"b\": \"x\"}}\n</tool_call>",
          false);
    check(&s, "<tool_call>\n{\"name\": \"open\", \"arguments\": [1]}\n</tool_call>", false);
    check(&s, "{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>", false);
    const char two[] =
        "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{"
        "\"name\": \"any\", \"arguments\": {}}\n</tool_call>";
    check(&s, two, false);
    s.many = true;
    check(&s, two, true);
    s.between = "";
    check(&s, two, false);
    s.opened = true;
    check(&s,
          "{\"name\": \"get_time\", \"arguments\": {}}\n</tool_call><tool_call>\n{\"name\": "
          "\"get_time\", "
          "\"arguments\": {}}\n</tool_call>",
          true);
    check(&s, two, false);
    s = (struct call_shape){ .style = CALL_JSON,
                             .open = "",
                             .close = "",
                             .between = "",
                             .arguments_key = "parameters",
                             .tools = tools,
                             .name = "get_time" };
    check(&s, "{\"name\": \"get_time\", \"parameters\": {}}", true);
    check(&s, "{\"name\": \"get\", \"parameters\": {\"city\": \"a\"}}", false);
    check(&s, "{\"name\": \"get_time\", \"arguments\": {}}", false);
    s.many = true;
    check(
        &s,
        "{\"name\": \"get_time\", \"parameters\": {}}{\"name\": \"get_time\", \"parameters\": {}}",
        true);
}

static void test_list(void **state) {
    (void)state;
    struct call_shape s = { .style = CALL_LIST,
                            .open = "<|t|>",
                            .close = "<|/t|>",
                            .between = "",
                            .arguments_key = "arguments",
                            .tools = tools,
                            .many = true };
    check(&s, "<|t|>[{\"name\": \"get\", \"arguments\": {\"city\": \"a\"}}]<|/t|>", true);
    check(&s,
          "<|t|>[{\"name\": \"get\", \"arguments\": {\"city\": \"a\"}}, {\"name\": \"get_time\", "
          "\"arguments\": {}}]<|/t|>",
          true);
    check(&s, "<|t|>[]<|/t|>", false);
    check(&s, "<|t|>{\"name\": \"get_time\", \"arguments\": {}}<|/t|>", false);
    s.many = false;
    check(&s,
          "<|t|>[{\"name\": \"get_time\", \"arguments\": {}}, {\"name\": \"get_time\", "
          "\"arguments\": {}}]<|/t|>",
          false);
    s.opened = true;
    check(&s, "[{\"name\": \"get_time\", \"arguments\": {}}]<|/t|>", true);
}

static void test_python(void **state) {
    (void)state;
    struct call_shape s = {
        .style = CALL_PYTHON, .arguments_key = "parameters", .tools = tools, .many = true
    };
    check(&s, "[get(city=\"Rome\")]", true);
    check(&s, "[get(city=\"R\\n\\\"\", days=3, deep=None)]", true);
    check(&s, "[get(city=\"R\", deep=True), get_time(), any()]", true);
    check(&s, "[open(a=None)]", true);
    check(&s, "[open(a=\"x\")]", true);
    check(&s, "[open(b=1)]", false);
    check(&s, "[open(a=null)]", false);
    check(&s, "[get()]", false);
    check(&s, "[get(days=3, city=\"a\")]", false);
    check(&s, "[get(city='a')]", false);
    check(&s, "[get(city=\"a\", deep=true)]", false);
    check(&s, "[]", false);
    check(&s, "get_time()", false);
    check(&s, "[get_time(), ]", false);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *tools, *name, *text;
        slm_err err;
    } bad[] = {
        { "[]", NULL, "no array", SLM_E_ARG },
        { "{}", NULL, "no array", SLM_E_ARG },
        { "[{}]", NULL, "no name", SLM_E_ARG },
        { "[{\"name\":\"a\"},{\"name\":\"a\"}]", NULL, "two tools", SLM_E_ARG },
        { "[{\"name\":\"a\"}]", "b", "no tool 'b'", SLM_E_ARG },
        { "[{\"name\":\"a\",\"parameters\":[]}]", NULL, "parameters of tool 'a'", SLM_E_ARG },
        { "[{\"name\":\"a\",\"parameters\":{\"not\":{}}}]", NULL, "tool 'a'", SLM_E_UNSUPPORTED },
        { "[{\"name\":\"a\",\"parameters\":{\"properties\":{\"x\":{\"type\":1}}}}]", NULL,
          "#/properties/x", SLM_E_FORMAT },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *v = NULL;
        struct grammar *g = NULL;
        slm_why why = { .message = "" };
        assert_int_equal(json_text(bad[i].tools, strlen(bad[i].tools), &v, NULL), SLM_OK);
        struct call_shape s = { .style = CALL_JSON,
                                .open = "",
                                .close = "",
                                .between = "",
                                .arguments_key = "arguments",
                                .tools = v,
                                .name = bad[i].name };
        assert_int_equal(grammar_calls(NULL, &s, NULL, &g, &why), bad[i].err);
        if (strstr(why.message, bad[i].text) == NULL)
            printf("# %s\n", why.message);
        assert_non_null(strstr(why.message, bad[i].text));
        assert_null(g);
        json_decref(v);
    }
}

static int setup(void **state) {
    (void)state;
    static const char *const more[] = { "<tool_call>", "</tool_call>", "{\"name\": \"",
                                        "get",         "_time",        "(city=\"",
                                        ")]" };
    pieces_bytes(&pieces);
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        piece_add(&pieces, more[i], strlen(more[i]));
    return json_text(tools_text, sizeof tools_text - 1, &tools, NULL) != SLM_OK ||
           constrain_vocab_new(NULL, pieces.tokens, pieces.n, &vocab, NULL) != SLM_OK;
}

static int teardown(void **state) {
    (void)state;
    constrain_vocab_free(vocab);
    json_decref(tools);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_json), cmocka_unit_test(test_list),
                                        cmocka_unit_test(test_python),
                                        cmocka_unit_test(test_refused) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
