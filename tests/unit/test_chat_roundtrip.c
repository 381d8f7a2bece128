/* test_chat_roundtrip.c - random calls of the history, written as the model's dialect writes them, are
 * read back as the same text and calls: by the renderer of requests and by the parser of answers, in
 * every form that the parser takes, cut at random places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "chat/answer.h"
#include "chat/request.h"
#include "chat/template.h"

enum { ROUNDS = 400 }; /* per form */

static uint32_t seed = 77;

static uint32_t next(uint32_t n) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* ---- random calls ---- */

static const char *const names[] = { "f", "get_weather", "ns.tool", "a-b", "print", "Z9" };
static const char *const keys[] = {
    "a", "city", "_x1", "name", "Z", "naïve", "with-dash", "", "a b"
};
static const char *const bits[] = { "x",
                                    " ",
                                    "\"",
                                    "'",
                                    "\\",
                                    "\n",
                                    "\t",
                                    "\r",
                                    "\x01",
                                    "\x7f",
                                    "Zürich",
                                    "你好",
                                    "🙂",
                                    "</tool_call>",
                                    "<tool_call>",
                                    "<|/tool_call|>",
                                    "]",
                                    ")",
                                    "}",
                                    "{",
                                    "[",
                                    "```",
                                    "</code>",
                                    "'''",
                                    "\"\"\"",
                                    "\\u00e4",
                                    "</think>",
                                    "<think>",
                                    "True",
                                    ",",
                                    ":",
                                    "/",
                                    "{\"name\": \"f\"}" };

static json_t *random_text(void) {
    struct buf b;
    buf_init(&b, NULL, 4096);
    for (uint32_t n = next(8); n > 0; n--)
        buf_puts(&b, bits[next(sizeof bits / sizeof bits[0])]);
    json_t *s = json_stringn(b.len > 0 ? b.data : "", b.len);
    buf_free(&b);
    return s;
}

static json_t *random_scalar(void) {
    static const double reals[] = { 0.5, -2.25, 1e300, -1e-7, 3.0, 1.1, 12345678.875 };
    static const json_int_t whole[] = { 0, 1, -1, 42, INT64_MAX, INT64_MIN, 1000000 };
    switch (next(6)) {
    case 0:
        return json_integer(whole[next(7)]);
    case 1:
        return json_real(reals[next(7)]);
    case 2:
        return json_boolean(next(2));
    case 3:
        return json_null();
    default:
        return random_text();
    }
}

static json_t *random_value(unsigned depth) {
    uint32_t kind = depth > 0 ? next(4) : 3;
    if (kind == 0) {
        json_t *a = json_array();
        for (uint32_t n = next(4); n > 0; n--)
            json_array_append_new(a, random_value(depth - 1));
        return a;
    }
    if (kind == 1) {
        json_t *o = json_object();
        for (uint32_t n = next(4); n > 0; n--)
            json_object_set_new(o, keys[next(sizeof keys / sizeof keys[0])],
                                random_value(depth - 1));
        return o;
    }
    return random_scalar();
}

static json_t *random_calls(bool simple_keys) {
    json_t *calls = json_array();
    for (uint32_t n = 1 + next(4); n > 0; n--) {
        json_t *arguments = json_object();
        for (uint32_t k = next(5); k > 0; k--)
            json_object_set_new(arguments,
                                keys[next(simple_keys ? 5 : sizeof keys / sizeof keys[0])],
                                random_value(4));
        json_array_append_new(calls, json_pack("{s:s,s:{s:s,s:o}}", "type", "function", "function",
                                               "name", names[next(6)], "arguments", arguments));
    }
    return calls;
}

/* ---- the forms ---- */

struct form {
    const char *name;
    enum call_dialect written, read; /* by the renderer, by the parser */
    const char *before, *behind;     /* around the calls */
    const char *from, *to; /* replaced in them: all occurrences outside of strings; or NULL */
    const char *text;      /* before the calls; NULL: none is possible */
    bool simple_keys;
};

static const struct form forms[] = {
    { "hermes", CALLS_HERMES, CALLS_HERMES, "", "", NULL, NULL, "I look.\n", false },
    { "hermes, thinking", CALLS_HERMES, CALLS_HERMES, "<think>\nhm <tool_call> hm\n</think>\n\n",
      "", NULL, NULL, "I look.\n", false },
    { "smollm3", CALLS_SMOLLM3, CALLS_SMOLLM3, "", "", NULL, NULL, "I look.\n", false },
    { "smollm3, Python", CALLS_GEMMA, CALLS_SMOLLM3, "<code>\n", "\n</code>", NULL, NULL,
      "I look.\n", true },
    { "phi4", CALLS_PHI4, CALLS_PHI4, "", "", NULL, NULL, "I look.", false },
    { "phi4, not closed", CALLS_PHI4, CALLS_PHI4, "", "", "<|/tool_call|>", "", "I look.", false },
    { "phi4, functools", CALLS_PHI4, CALLS_PHI4, "", "", "<|tool_call|>", "functools", "I look.",
      false },
    { "gemma", CALLS_GEMMA, CALLS_GEMMA, "", "", NULL, NULL, "I look: ", false },
    { "gemma, fence", CALLS_GEMMA, CALLS_GEMMA, "```tool_code\n", "\n```", NULL, NULL,
      "I look: ", false },
    { "gemma, JSON", CALLS_PHI4, CALLS_GEMMA, "", "", "<|tool_call|>", "", "I look: ", false },
};

static json_t *told;

static int tell(void **state) {
    (void)state;
    told = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        json_array_append_new(
            told, json_pack("{s:s,s:{s:s}}", "type", "function", "function", "name", names[i]));
    return 0;
}

static int forget(void **state) {
    (void)state;
    json_decref(told);
    return 0;
}

/* What a template makes of the assistant's message; hermes has its calls in a field. */
static char *write_calls(enum call_dialect dialect, json_t *calls) {
    static const char text[] =
        "{% set m = messages[1] %}{{ m.content }}{% for c in m.tool_calls %}{% if not loop.first %}"
        "{{ '\\n' }}{% endif %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": "
        "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}";
    json_t *root = json_pack("{s:[{s:s,s:s},{s:s,s:s,s:O}]}", "messages", "role", "user", "content",
                             "q", "role", "assistant", "content", "", "tool_calls", calls);
    struct request_think think = { .name = NULL };
    struct template *t;
    struct template_output out;
    struct request r;
    slm_why why = { .message = "" };
    if (request_read(NULL, root, dialect, think, &r, &why) != SLM_OK)
        fail_msg("%s", why.message);
    json_decref(root);
    assert_int_equal(template_compile(NULL, text, sizeof text - 1, &t, NULL), SLM_OK);
    struct template_input in = { .messages = r.messages, .kwargs = r.kwargs };
    assert_int_equal(template_render(t, NULL, &in, &out, NULL), SLM_OK);
    template_free(t);
    request_free(NULL, &r);
    free(out.runs);
    return out.text;
}

/* The mark stands first or last, so that strings, which may spell it too, are left alone. */
static void put_replaced(struct buf *b, const char *s, const struct form *f) {
    size_t n = strlen(s), n_from = f->from != NULL ? strlen(f->from) : 0;
    if (n_from > 0 && n > n_from && strncmp(s, f->from, n_from) == 0) {
        buf_puts(b, f->to);
        s += n_from;
        n -= n_from;
    } else if (n_from > 0 && n > n_from && strcmp(s + n - n_from, f->from) == 0) {
        n -= n_from;
    }
    static const char close[] = "<|/tool_call|>";
    if (f->written == CALLS_PHI4 && f->from != NULL && n > sizeof close &&
        strcmp(s + n - (sizeof close - 1), close) == 0)
        n -= sizeof close - 1;
    buf_put(b, s, n);
}

/* ---- reading ---- */

struct heard {
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
    json_t *arguments;
    char name[65] = "";
    memcpy(name, call->name, call->n_name);
    assert_int_equal(json_text(call->arguments, call->n_arguments, &arguments, NULL), SLM_OK);
    json_array_append_new(h->calls, json_pack("{s:s,s:{s:s,s:o}}", "type", "function", "function",
                                              "name", name, "arguments", arguments));
}

static void read_back(const struct form *f, const struct buf *text, json_t *calls) {
    struct heard h = { .calls = json_array() };
    const struct answer_setup setup = {
        .dialect = f->read, .tools = told, .open = "<think>", .close = "</think>"
    };
    const struct answer_events events = { hear_text, hear_call, &h };
    struct answer_parser *p;
    buf_init(&h.text, NULL, 65536);
    assert_int_equal(answer_parser_new(NULL, &setup, &events, &p, NULL), SLM_OK);
    for (size_t i = 0, n; i < text->len; i += n) {
        n = 1 + next(30);
        n = n < text->len - i ? n : text->len - i;
        answer_parser_put(p, text->data + i, n);
    }
    assert_int_equal(answer_parser_end(p, NULL), SLM_OK);
    size_t n_want = f->text != NULL ? strcspn(f->text, ":.") + 1 : 0;
    bool same = h.text.len == n_want && (n_want == 0 || memcmp(h.text.data, f->text, n_want) == 0);
    if (!same || !json_equal(h.calls, calls) || answer_parser_malformed(p) != 0)
        fail_msg("%s: %s\ngot text '%.*s', calls %s\nwant calls %s", f->name, text->data,
                 (int)h.text.len, h.text.len > 0 ? h.text.data : "", json_dumps(h.calls, 0),
                 json_dumps(calls, 0));
    answer_parser_free(p);
    json_decref(h.calls);
    buf_free(&h.text);
}

static void test_form(void **state) {
    const struct form *f = *state;
    for (int round = 0; round < ROUNDS; round++) {
        json_t *calls = random_calls(f->simple_keys);
        char *written = write_calls(f->written, calls);
        bool thinking = strncmp(f->before, "<think>", 7) == 0;
        struct buf text;
        buf_init(&text, NULL, 1 << 20);
        buf_puts(&text, thinking ? f->before : "");
        buf_puts(&text, f->text);
        buf_puts(&text, thinking ? "" : f->before);
        put_replaced(&text, written, f);
        buf_puts(&text, f->behind);
        read_back(f, &text, calls);
        buf_free(&text);
        free(written);
        json_decref(calls);
    }
}

int main(void) {
    struct CMUnitTest tests[sizeof forms / sizeof forms[0]];
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        tests[i] = (struct CMUnitTest){ forms[i].name, test_form, NULL, NULL,
                                        (void *)(uintptr_t)&forms[i] };
    return cmocka_run_group_tests(tests, tell, forget);
}
