/* test_chat_answer.c - answers to reasoning, content and calls: cases of every dialect, whole and cut
 * anywhere; random answers; calls of 1 MB; allocations that fail. */
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
#include "chat/answer.h"
#include "tests/support.h"

/* Tools of all cases; the order of parameters counts for arguments without a name. */
static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"a\":{},\"b\":{},\"c\":{}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"g\"}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"},\"unit\":{}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"ns.tool-x\"}}]";

static json_t *tools;

static int load_tools(void **state) {
    (void)state;
    return json_text(tools_text, sizeof tools_text - 1, &tools, NULL) == SLM_OK ? 0 : -1;
}

static int drop_tools(void **state) {
    (void)state;
    json_decref(tools);
    return 0;
}

/* ---- events as one text: R reasoning, T content, C name(arguments), a line each; runs are joined ---- */

struct record {
    struct buf text;
    int last; /* part of the last line, 'C' for a call */
    size_t calls;
};

static void record_text(void *user, enum think_part part, const char *text, size_t n) {
    struct record *r = user;
    int kind = part == PART_REASONING ? 'R' : 'T';
    assert_true(n > 0);
    if (r->last != kind) {
        buf_putc(&r->text, '\1');
        buf_putc(&r->text, (char)kind);
        buf_putc(&r->text, ' ');
    }
    r->last = kind;
    buf_put(&r->text, text, n);
}

static void record_call(void *user, const struct answer_call *call) {
    struct record *r = user;
    json_t *arguments;
    assert_int_equal(call->index, r->calls++);
    assert_int_equal(json_text(call->arguments, call->n_arguments, &arguments, NULL), SLM_OK);
    assert_true(json_is_object(arguments));
    json_decref(arguments);
    buf_puts(&r->text, "\1C ");
    buf_put(&r->text, call->name, call->n_name);
    buf_putc(&r->text, '(');
    buf_put(&r->text, call->arguments, call->n_arguments);
    buf_putc(&r->text, ')');
    r->last = 'C';
}

static struct answer_setup setup_of(enum call_dialect dialect, bool inside) {
    return (struct answer_setup){ .dialect = dialect,
                                  .tools = tools,
                                  .open = "<think>",
                                  .close = "</think>",
                                  .starts_inside = inside };
}

/* Events of text [n] whose pieces are `step` bytes, the first cut being at `cut`; owned. */
static char *events_of(const struct answer_setup *setup, const char *text, size_t n, size_t cut,
                       size_t step, size_t *malformed) {
    struct record r = { .last = 0 };
    const struct answer_events events = { record_text, record_call, &r };
    struct answer_parser *p;
    buf_init(&r.text, NULL, (size_t)64 << 20);
    assert_int_equal(answer_parser_new(NULL, setup, &events, &p, NULL), SLM_OK);
    answer_parser_put(p, text, cut);
    for (size_t i = cut; i < n; i += step)
        answer_parser_put(p, text + i, step < n - i ? step : n - i);
    assert_int_equal(answer_parser_end(p, NULL), SLM_OK);
    assert_int_equal(answer_parser_calls(p), r.calls);
    if (malformed != NULL)
        *malformed = answer_parser_malformed(p);
    answer_parser_free(p);
    buf_putc(&r.text, '\0');
    return buf_take(&r.text);
}

struct answer_case {
    enum call_dialect dialect;
    const char *text, *want; /* want: lines begin with '|' */
    size_t malformed;
    bool inside;
};

static const struct answer_case cases[] = {
#include "tests/unit/answer_cases.h"
};

static void check_case(const struct answer_case *c, size_t cut, size_t step) {
    const struct answer_setup setup = setup_of(c->dialect, c->inside);
    size_t n = strlen(c->text), malformed;
    char *got = events_of(&setup, c->text, n, cut, step, &malformed);
    for (char *s = got; *s != '\0'; s++)
        if (*s == '\1')
            *s = '|';
    if (strcmp(got, c->want) != 0 || malformed != c->malformed)
        fail_msg("'%s' cut at %zu, then every %zu:\n got %s (%zu malformed)\nwant %s (%zu)",
                 c->text, cut, step, got, malformed, c->want, c->malformed);
    free(got);
}

static void test_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        check_case(&cases[i], n, 1);
        check_case(&cases[i], 0, 1);
        for (size_t cut = 1; cut < n; cut++) {
            check_case(&cases[i], cut, n);
            check_case(&cases[i], cut, 3);
        }
    }
}

/* ---- random answers ---- */

static uint32_t next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static const char *const pieces[] = {
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    "\n\n",
    "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
    "{\"name\": \"g\"}",
    "{\"name\": \"nope\", \"parameters\": {}}",
    "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Z\xc3\xbcrich </tool_call>\"}}",
    "<tool_call>\n{\"name\": \"f\", \"arguments\": \"{}\"}\n</tool_call>",
    "text",
    "[",
    "]",
    "{",
    "}",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools[",
    "f(a=1)",
    "print(f(1))",
    "get_weather('x', unit=\"c\")",
    "[f(a=1), g()]",
    "```",
    "```tool_code\n",
    "```json\n",
    "<code>",
    "</code>",
    "<",
    "`",
    "f",
    "\"",
    "'",
    "(",
    ")",
    ",",
    "<think>",
    "</think>",
    "<think>\nhm\n</think>\n\n",
    "\\",
    "\xf0\x9f\x99\x82",
    "{\"name\": \"f\", ",
    "<tool_",
    "tool_call|>",
};

static void test_random(void **state) {
    (void)state;
    uint32_t seed = 20260;
    for (int round = 0; round < 40000; round++) {
        char text[1024] = "";
        enum call_dialect dialect = (enum call_dialect)(next(&seed) % 5);
        const struct answer_setup setup = setup_of(dialect, next(&seed) % 4 == 0);
        size_t n_pieces = 1 + next(&seed) % 12;
        for (size_t k = 0; k < n_pieces; k++)
            strcat(text, pieces[next(&seed) % (sizeof pieces / sizeof pieces[0])]);
        size_t n = strlen(text), bad_whole, bad_cut;
        char *whole = events_of(&setup, text, n, n, 1, &bad_whole);
        for (int way = 0; way < 3; way++) {
            size_t cut = way == 0 ? 0 : next(&seed) % n, step = way == 0 ? 1 : 1 + next(&seed) % n;
            char *parts = events_of(&setup, text, n, cut, step, &bad_cut);
            if (strcmp(whole, parts) != 0 || bad_whole != bad_cut)
                fail_msg("dialect %d, '%s' cut at %zu, then every %zu:\nwhole %s\nparts %s",
                         (int)dialect, text, cut, step, whole, parts);
            free(parts);
        }
        free(whole);
    }
}

/* ---- size ---- */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct big_form {
    enum call_dialect dialect;
    const char *before, *after;
};
static const struct big_form big_forms[] = {
    { CALLS_HERMES, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"",
      "\"}}\n</tool_call>" },
    { CALLS_SMOLLM3, "<code>print(f(a='", "'))</code>" },
    { CALLS_PHI4, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": \"",
      "\"}}]<|/tool_call|>" },
    { CALLS_GEMMA, "Sure: [f(a=\"", "\")]" },
    { CALLS_GEMMA, "{\"name\": \"f\", \"parameters\": {\"a\": \"", "\"}}" },
};

static double big_case(const struct big_form *form, size_t n_value, size_t step) {
    const struct answer_setup setup = setup_of(form->dialect, false);
    struct buf text;
    buf_init(&text, NULL, (size_t)16 << 20);
    buf_puts(&text, form->before);
    for (size_t i = 0; i < n_value; i++)
        buf_putc(&text, i % 9 == 8 ? ' ' : (char)('a' + i % 26));
    buf_puts(&text, form->after);
    double start = seconds();
    char *got = events_of(&setup, text.data, text.len, 0, step, NULL),
         *call = strstr(got, "\1C f(");
    double took = seconds() - start;
    assert_non_null(call);
    assert_true(strlen(call) > n_value + 10 && strlen(call) < n_value + 20);
    free(got);
    buf_free(&text);
    return took;
}

/* 1 MB of arguments a byte at a time; four times as much must not take sixteen times as long. */
static void test_big(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof big_forms / sizeof big_forms[0]; i++) {
        double small = big_case(&big_forms[i], (size_t)1 << 20, 1);
        double large = big_case(&big_forms[i], ((size_t)1 << 22) - 256, 1);
        print_message("1 MB byte by byte %.0f ms, 4 MB %.0f ms\n", 1e3 * small, 1e3 * large);
        assert_true(large < 9 * small + 0.5);
        big_case(&big_forms[i], (size_t)1 << 20, 4096);
    }
}

/* More than is held: text, wherever it is cut, and nothing is lost. */
static void test_too_big(void **state) {
    (void)state;
    static const char open[] = "<tool_call>{\"name\":\"";
    const struct answer_setup setup = setup_of(CALLS_HERMES, false);
    size_t n = CALL_BYTES_MAX + 100, bad;
    char *text = malloc(n);
    memset(text, 'a', n);
    memcpy(text, open, sizeof open - 1);
    memset(text + n - 10, ' ', 10);
    for (size_t step = 1; step <= n; step = step == 1 ? 4095 : step == 4095 ? n : n + 1) {
        char *got = events_of(&setup, text, n, 0, step, &bad);
        assert_int_equal(strlen(got), n + 3);
        assert_memory_equal(got + 3, text, n);
        assert_int_equal(bad, 1);
        free(got);
    }
    memset(text, ' ', n); /* blanks alone, then a call: those beyond the limit are text */
    memcpy(text + n - 40, "<tool_call>{\"name\":\"g\"}</tool_call>", 35);
    char *whole = events_of(&setup, text, n, n, 1, NULL);
    for (size_t step = 1; step <= n; step = step == 1 ? 65537 : n + 1) {
        char *parts = events_of(&setup, text, n, 0, step, NULL);
        assert_string_equal(whole, parts);
        free(parts);
    }
    assert_non_null(strstr(whole, "\1C g({})"));
    free(whole);
    free(text);
}

/* ---- what is held ---- */

/* After the text, all of it or nothing but what a later byte could change has come out. */
static void check_held(enum call_dialect dialect, const char *text, const char *out) {
    const struct answer_setup setup = setup_of(dialect, false);
    struct record r = { .last = 0 };
    const struct answer_events events = { record_text, record_call, &r };
    struct answer_parser *p;
    buf_init(&r.text, NULL, 4096);
    assert_int_equal(answer_parser_new(NULL, &setup, &events, &p, NULL), SLM_OK);
    answer_parser_put(p, text, strlen(text));
    buf_putc(&r.text, '\0');
    for (size_t i = 0; i + 1 < r.text.len; i++)
        if (r.text.data[i] == '\1')
            r.text.data[i] = '|';
    if (strcmp(r.text.data, out) != 0)
        fail_msg("'%s': out came '%s', not '%s'", text, r.text.data, out);
    answer_parser_free(p);
    buf_free(&r.text);
}

static void test_held(void **state) {
    (void)state;
    check_held(CALLS_HERMES, "a b <tool_", "|T a b");
    check_held(CALLS_HERMES, "a b <tool_x", "|T a b <tool_x");
    check_held(CALLS_HERMES, "a <tool_call> {\"na", "|T a");
    check_held(CALLS_HERMES, "a <tool_call> {na", "|T a <tool_call> {na");
    check_held(CALLS_HERMES, "<tool_call>{\"name\":\"f\"}", "");
    check_held(CALLS_HERMES, "<tool_call>{\"name\":\"f\"}</tool_call>", "|C f({})");
    check_held(CALLS_PHI4, "{\"x\": 1", "|T {\"x\": 1");
    check_held(CALLS_PHI4, "{\"name\": \"x\"", "|T {\"name\": \"x\"");
    check_held(CALLS_PHI4, "func", "");
    check_held(CALLS_PHI4, "func tools", "|T func tools");
    check_held(CALLS_GEMMA, "x[0] = [1", "|T x[0] = [1");
    check_held(CALLS_GEMMA, "list [get_w", "|T list");
    check_held(CALLS_GEMMA, "list [get_x", "|T list [get_x");
    check_held(CALLS_GEMMA, "```python\nimport", "|T ```python\nimport");
    check_held(CALLS_GEMMA, "[f(a=1)", "");
    check_held(CALLS_GEMMA, "[f(a=b", "");
    check_held(CALLS_GEMMA, "[f(a=b)", "|T [f(a=b)");
    check_held(CALLS_NONE, "<tool_call> \n", "|T <tool_call> \n");
}

/* Zero bytes are bytes: they neither end a text nor pass for a mark. */
static void test_zero(void **state) {
    (void)state;
    static const char text[] = "a\0<tool_call>{\"name\":\"q\"}\0</tool_call>[\0g()] `\0``\0\n{\0}";
    for (int d = CALLS_NONE; d <= CALLS_GEMMA; d++) {
        const struct answer_setup setup = setup_of((enum call_dialect)d, false);
        for (size_t step = 1; step <= sizeof text; step += sizeof text - 1) {
            struct record r = { .last = 0 };
            const struct answer_events events = { record_text, record_call, &r };
            struct answer_parser *p;
            buf_init(&r.text, NULL, 4096);
            assert_int_equal(answer_parser_new(NULL, &setup, &events, &p, NULL), SLM_OK);
            for (size_t i = 0; i < sizeof text - 1; i += step)
                answer_parser_put(p, text + i, step == 1 ? 1 : sizeof text - 1);
            assert_int_equal(answer_parser_end(p, NULL), SLM_OK);
            assert_int_equal(r.calls, 0);
            if (r.text.data[1] != 'T' || r.text.len != sizeof text + 2 ||
                memcmp(r.text.data + 3, text, sizeof text - 1) != 0)
                fail_msg("dialect %d, step %zu", d, step);
            answer_parser_free(p);
            buf_free(&r.text);
        }
    }
}

/* Without tools only marks that mean nothing else are looked for. */
static void test_no_tools(void **state) {
    (void)state;
    static const struct answer_case without[] = {
        { CALLS_HERMES, "<tool_call>{\"name\":\"x\"}</tool_call>", "|C x({})", 0, false },
        { CALLS_GEMMA, "[f(a=1)] {\"name\":\"f\"}", "|T [f(a=1)] {\"name\":\"f\"}", 0, false },
        { CALLS_PHI4, "{\"name\":\"f\"}<|tool_call|>{\"name\":\"f\"}",
          "|T {\"name\":\"f\"}|C f({})", 0, false },
    };
    json_t *all = tools;
    tools = NULL;
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
        check_case(&without[i], 0, 1);
    tools = all;
}

/* ---- failing allocations: all text comes out in any case, calls are whole or text ---- */

static void test_oom(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t k = 1;; k++) {
            const struct answer_case *c = &cases[i];
            const struct answer_setup setup = setup_of(c->dialect, c->inside);
            struct record r = { .last = 0 };
            const struct answer_events events = { record_text, record_call, &r };
            struct answer_parser *p;
            struct test_hooks t;
            test_hooks_init(&t, k);
            buf_init(&r.text, NULL, 65536);
            slm_err err = answer_parser_new(&t.hooks, &setup, &events, &p, NULL);
            if (err == SLM_OK) {
                answer_parser_put(p, c->text, strlen(c->text));
                err = answer_parser_end(p, NULL);
                answer_parser_free(p);
            }
            buf_free(&r.text);
            assert_int_equal(t.live, 0);
            assert_int_equal(err, t.failed ? SLM_E_NOMEM : SLM_OK);
            if (!t.failed)
                break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),    cmocka_unit_test(test_random), cmocka_unit_test(test_big),
        cmocka_unit_test(test_too_big),  cmocka_unit_test(test_held),   cmocka_unit_test(test_zero),
        cmocka_unit_test(test_no_tools), cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests(tests, load_tools, drop_tools);
}
