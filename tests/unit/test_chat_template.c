/* test_chat_template.c - what the cases cannot show: trust, budgets, depth, errors, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/compiler.h"
#include "base/json.h"
#include "chat/template.h"
#include "tests/support.h"

/* ---- helpers ---- */

/* Compiles and renders; why (not NULL) gets the failure. The output belongs to the caller. */
static slm_err render(const char *text, const char *messages, const char *kwargs,
                      const struct template_budget *budget, struct template_output *out,
                      slm_why *why) {
    struct template *t;
    json_t *m = json_loads(messages, 0, NULL);
    json_t *k = kwargs != NULL ? json_loads(kwargs, 0, NULL) : NULL;
    assert_non_null(m);
    assert_true(kwargs == NULL || k != NULL);
    struct template_input in = { .messages = m, .kwargs = k, .now = 1751987045 };
    if (budget != NULL)
        in.budget = *budget;
    *out = (struct template_output){ 0 };
    slm_err err = template_compile(NULL, text, strlen(text), &t, why);
    if (err == SLM_OK)
        err = template_render(t, NULL, &in, out, why);
    template_free(t);
    json_decref(m);
    json_decref(k);
    return err;
}

/* The default budgets, but a twentieth of them where a sanitizer makes every step slow. */
static struct template_budget budget(void) {
#if defined(__SANITIZE_THREAD__) || defined(HAVE_ASAN)
    return (struct template_budget){ .max_steps = 1000000,
                                     .max_output_bytes = 3 << 20,
                                     .max_memory_bytes = 12 << 20 };
#else
    return (struct template_budget){ 0 };
#endif
}

static void expect_error(const char *text, slm_err want, const char *words) {
    struct template_output out;
    slm_why why = { .message = "" };
    const struct template_budget b = budget();
    slm_err err = render(text, "[]", NULL, &b, &out, &why);
    if (err != want || strstr(why.message, words) == NULL)
        fail_msg("%.60s: %s %s", text, err_name(err), err == SLM_OK ? out.text : why.message);
    assert_null(out.text);
}

/* ---- trust ---- */

/* want marks every byte: '#' untrusted, '.' trusted. */
static void expect_trust(const char *text, const char *messages, const char *kwargs,
                         const char *want_text, const char *want) {
    struct template_output out;
    slm_why why = { .message = "" };
    char marks[512];
    if (render(text, messages, kwargs, NULL, &out, &why) != SLM_OK)
        fail_msg("%s: %s", text, why.message);
    assert_string_equal(out.text, want_text);
    assert_true(out.n < sizeof marks);
    memset(marks, '?', out.n);
    marks[out.n] = '\0';
    for (size_t i = 0; i < out.n_runs; i++)
        memset(marks + out.runs[i].start, out.runs[i].data ? '#' : '.', out.runs[i].n);
    if (strcmp(marks, want) != 0)
        fail_msg("%s\n%s\n%s\n%s (expected)", text, out.text, marks, want);
    template_output_free(NULL, &out);
}

static void test_trust_by_role(void **state) {
    (void)state;
    const char *all = "[{\"role\":\"system\",\"content\":\"sys\"},"
                      "{\"role\":\"user\",\"content\":\"usr\"},"
                      "{\"role\":\"assistant\",\"content\":\"ass\"},"
                      "{\"role\":\"tool\",\"content\":\"tol\"},"
                      "{\"role\":\"developer\",\"content\":\"dev\"},"
                      "{\"role\":\"x|>\",\"content\":\"oth\"}]";
    expect_trust("{% for m in messages %}<{{ m.content }}>{% endfor %}", all, NULL,
                 "<sys><usr><ass><tol><dev><oth>", "......###.......###.......###.");
    /* A well-known role may spell a control token, an unknown one not. */
    expect_trust("{% for m in messages %}<|{{ m.role }}|>{% endfor %}", all, NULL,
                 "<|system|><|user|><|assistant|><|tool|><|developer|><|x|>|>",
                 "......................................................###..");
    expect_trust("{{ messages[0].content[0].text }}",
                 "[{\"role\":\"user\",\"content\":[{\"text\":\"deep\"}]}]", NULL, "deep", "####");
    expect_trust("{{ messages[0] }}", "[{\"content\":\"c\"}]", NULL, "{'content': 'c'}",
                 "################");
    expect_trust("{% for k in messages[0] %}{{ k }}.{% endfor %}",
                 "[{\"role\":\"user\",\"key\":1}]", NULL, "role.key.", "####.###.");
}

static void test_trust_of_arguments(void **state) {
    (void)state;
    const char *k = "{\"tools\":[{\"n\":\"t\"}],\"documents\":[\"doc\"],\"date\":\"d\",\"n\":5}";
    expect_trust("<{{ tools[0].n }}{{ documents[0] }}{{ date }}{{ n }}>", "[]", k, "<tdocd5>",
                 ".####...");
    expect_trust("<{{ tools | tojson }}>", "[]", k, "<[{\"n\": \"t\"}]>", ".############.");
    expect_trust("<{{ tools | string }}>", "[]", k, "<[{'n': 't'}]>", ".############.");
    expect_trust("{{ bos_token }}", "[]", "{\"bos_token\":\"<s>\"}", "<s>", "...");
}

static void test_trust_through_operations(void **state) {
    (void)state;
    const char *m = "[{\"role\":\"user\",\"content\":\" aB<c>\\n\"}]";
#define U "{% set u = messages[0].content %}"
    expect_trust(U "{{ 'x' + u + 'y' }}", m, NULL, "x aB<c>\ny", ".#######.");
    expect_trust(U "{{ 'x' ~ u ~ 1 }}", m, NULL, "x aB<c>\n1", ".#######.");
    expect_trust(U "{{ u | trim }}|", m, NULL, "aB<c>|", "#####.");
    expect_trust(U "{{ ('x' ~ u ~ 'y')[1:4] }}|", m, NULL, " aB|", "###.");
    expect_trust(U "{{ ('xy' ~ u)[::-1] }}|", m, NULL, "\n>c<Ba yx|", "#######...");
    expect_trust(U "{{ ('x' ~ u).split('B') | join('-') }}", m, NULL, "x a-<c>\n", ".##.####");
    expect_trust(U "{{ 'x--y'.replace('--', u) }}", m, NULL, "x aB<c>\ny", ".#######.");
    expect_trust(U "{{ ('<' ~ u).replace('<', '[[') }}", m, NULL, "[[ aB[[c>\n", "..###..###");
    expect_trust(U "{{ ('x' ~ u) | upper }}", m, NULL, "X AB<C>\n", ".#######");
    expect_trust(U "{{ ('x' ~ u) | title }}|", m, NULL, "X Ab<C>\n|", ".#######.");
    expect_trust(U "{{ ('x' ~ u) | tojson }}", m, NULL, "\"x aB<c>\\n\"", "###########");
    expect_trust(U "{{ ('x' ~ u) | e }}", m, NULL, "x aB&lt;c&gt;\n", ".#############");
    expect_trust(U "{{ ('x' ~ u) | indent(1) }}|", m, NULL, "x aB<c>\n|", ".######..");
    expect_trust(U "{{ '{}{}'.format('x', u) }}", m, NULL, "x aB<c>\n", ".#######");
    expect_trust(U "{{ u * 2 }}", m, NULL, " aB<c>\n aB<c>\n", "##############");
    expect_trust(U "{% set b %}[{{ u }}]{% endset %}{{ b }}", m, NULL, "[ aB<c>\n]", ".#######.");
    expect_trust(U "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(u) }}", m, NULL, "[ aB<c>\n]",
                 ".#######.");
    expect_trust(U "{% set d = {'k': u} %}{{ d.k }}|{{ d.items() | list }}", m, NULL,
                 " aB<c>\n|[('k', ' aB<c>\\n')]", "#######.###################");
    expect_trust(U "{% set ns = namespace(x=u) %}{{ ns.x.strip() }}|", m, NULL, "aB<c>|", "#####.");
    expect_trust(U "{% filter trim %} ({{ u }}) {% endfilter %}", m, NULL, "( aB<c>\n)",
                 ".#######.");
    expect_trust(U "{{ u if u else 'y' }}{{ u == 'q' }}", m, NULL, " aB<c>\nFalse", "#######.....");
    expect_trust(U "{{ [u, 'x'] | map('trim') | join(',') }}", m, NULL, "aB<c>,x", "#####..");
    expect_trust(U "{{ u.splitlines()[0] }}|{{ u[3] }}{{ u | first }}{{ u | last }}", m, NULL,
                 " aB<c>|< \n", "######.###");
    expect_trust(U "{{ strftime_now('%Y' ~ u[:1]) }}", m, NULL, "2025 ", "#####");
    expect_trust(U "{{ u | default('x') }}{{ nope | default(u) }}", m, NULL, " aB<c>\n aB<c>\n",
                 "##############");
#undef U
}

/* ---- budgets ---- */

/* Templates that would run or grow without end, as they were seen against other engines. */
static void test_bombs(void **state) {
    (void)state;
    expect_error("{{ 'x' * 1000000000000 }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ 'x' * 10 ** 9 }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ [1] * 9223372036854775807 }}", SLM_E_BUDGET, "memory");
    expect_error("{% for i in range(10**9) %}{% endfor %}", SLM_E_BUDGET, "range");
    expect_error("{{ range(1000000000000)|list }}", SLM_E_BUDGET, "range");
    expect_error("{{ range(-9223372036854775807, 9223372036854775807)|length }}", SLM_E_BUDGET,
                 "range");
    expect_error("{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) "
                 "%}{% endfor %}{% endfor %}{% endfor %}",
                 SLM_E_BUDGET, "");
    expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", SLM_E_BUDGET, "deeper");
    expect_error("{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}"
                 "{{ f() }}",
                 SLM_E_BUDGET, "deeper");
    expect_error("{% set ns = namespace(x='ab') %}{% for i in range(99) %}"
                 "{% set ns.x = ns.x + ns.x %}{% endfor %}",
                 SLM_E_BUDGET, "");
    expect_error("{% set ns = namespace(x=['ab']) %}{% for i in range(99) %}"
                 "{% set ns.x = ns.x + ns.x %}{% endfor %}",
                 SLM_E_BUDGET, "memory");
    expect_error("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
                 "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
                 SLM_E_BUDGET, "nested");
    expect_error("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
                 "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson }}",
                 SLM_E_BUDGET, "nested");
    expect_error("{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}"
                 "{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
                 SLM_E_BUDGET, "nested");
    /* Shared lists: small in memory, endless when written out or compared. */
    expect_error("{% set ns = namespace(x=['a']) %}{% for i in range(99) %}"
                 "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
                 SLM_E_BUDGET, "");
    expect_error("{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(99) %}"
                 "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
                 "{{ ns.x == ns.y }}",
                 SLM_E_BUDGET, "steps");
    expect_error("{% set x = 'a' * 1000000 %}{% set y = 'a' * 500000 ~ 'b' %}"
                 "{% for i in range(99999) %}{{ x.rfind(y) }}{% endfor %}",
                 SLM_E_BUDGET, "steps");
    expect_error("{% set x = 'a' * 1000000 %}{% for i in range(99999) %}"
                 "{{ x.replace('a', 'bb')|length }}{% endfor %}",
                 SLM_E_BUDGET, "");
    expect_error("{{ 'x'.ljust(10 ** 12) }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ 'x'.zfill(10 ** 12) }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ 'x'.center(10 ** 12) }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ 'a\nb'|indent(10 ** 12) }}", SLM_E_BUDGET, "bytes");
    expect_error("{{ [1]|tojson(indent=10 ** 12) }}", SLM_E_BUDGET, "bytes");
    expect_error("{% set x %}{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}{% endset %}",
                 SLM_E_BUDGET, "");
    expect_error("{% set l = [1] %}{% set _ = l.append(l) %}{{ l == [1, l] }}{{ l }}", SLM_E_BUDGET,
                 "nested");
    expect_error("{% set l = [] %}{% for i in range(99999) %}{% for j in range(99999) %}"
                 "{% set _ = l.append('x') %}{% endfor %}{% endfor %}",
                 SLM_E_BUDGET, "");
    expect_error("{% set l = [1] %}{% for i in range(99999) %}{% for j in range(99999) %}"
                 "{% macro m() %}{% endmacro %}{% endfor %}{% endfor %}",
                 SLM_E_BUDGET, "");
}

static void test_budgets_are_kept(void **state) {
    (void)state;
    struct template_output out;
    slm_why why;
    struct template_budget b = { .max_output_bytes = 10 };
    assert_int_equal(render("{{ 'x' * 10 }}", "[]", NULL, &b, &out, NULL), SLM_OK);
    assert_int_equal(out.n, 10);
    template_output_free(NULL, &out);
    assert_int_equal(render("{{ 'x' * 10 }}y", "[]", NULL, &b, &out, &why), SLM_E_BUDGET);
    assert_non_null(strstr(why.message, "more than 10 bytes"));
    b = (struct template_budget){ .max_steps = 1000 };
    assert_int_equal(render("{% for i in range(10) %}{% endfor %}", "[]", NULL, &b, &out, NULL),
                     SLM_OK);
    template_output_free(NULL, &out);
    assert_int_equal(render("{% for i in range(1000) %}{% endfor %}", "[]", NULL, &b, &out, &why),
                     SLM_E_BUDGET);
    assert_non_null(strstr(why.message, "more than 1000 steps"));
    b = (struct template_budget){ .max_memory_bytes = 4096 };
    assert_int_equal(render("{{ range(1000)|list|length }}", "[]", NULL, &b, &out, &why),
                     SLM_E_BUDGET);
    assert_non_null(strstr(why.message, "more than 4096 bytes of memory"));
    b = (struct template_budget){ .max_depth = 3 };
    const char *f = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{{ n }}{% endmacro %}";
    char text[256];
    snprintf(text, sizeof text, "%s{{ f(2) }}", f);
    assert_int_equal(render(text, "[]", NULL, &b, &out, NULL), SLM_OK);
    assert_string_equal(out.text, "012");
    template_output_free(NULL, &out);
    snprintf(text, sizeof text, "%s{{ f(3) }}", f);
    assert_int_equal(render(text, "[]", NULL, &b, &out, &why), SLM_E_BUDGET);
    assert_int_equal(render("{{ messages }}", "[{\"a\":[[1]]}]", NULL, &b, &out, &why),
                     SLM_E_BUDGET);
}

/* ---- nesting, on a small stack ---- */

static char *repeat(const char *open, const char *middle, const char *close, size_t n) {
    size_t a = strlen(open), m = strlen(middle), b = strlen(close);
    char *s = malloc(n * (a + b) + m + 1);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++)
        memcpy(s + i * a, open, a);
    memcpy(s + n * a, middle, m);
    for (size_t i = 0; i < n; i++)
        memcpy(s + n * a + m + i * b, close, b);
    s[n * (a + b) + m] = '\0';
    return s;
}

static const char *const nesting[][3] = {
    { "(", "1", ")" },           { "[", "1", "]" },      { "{1:", "1", "}" },
    { "not ", "1", "" },         { "-", "1", "" },       { "(1 if ", "1", " else 2)" },
    { "1 if 0 else ", "1", "" }, { "1 ~ (", "1", ")" },  { "1 or 0 and (", "1", ")" },
    { "x[", "1", "]" },          { "range(", "1", ")" }, { "1|default(", "1", ")" },
    { "1 is eq(", "1", ")" },    { "x", "", ".y" },      { "x", "", "|string" },
    { "1 < ", "1", "" },         { "1 + ", "1", "" },    { "'' ", "''", "" },
    { "1, ", "1", "" },
};
static const char *const statements[][3] = {
    { "{% if 1 %}", "x", "{% endif %}" },
    { "{% for i in [1] %}", "x", "{% endfor %}" },
    { "{% set x %}", "x", "{% endset %}" },
    { "{% macro m() %}", "x", "{% endmacro %}" },
    { "{% filter upper %}", "x", "{% endfilter %}" },
    { "{% with a = 1 %}", "x", "{% endwith %}" },
    { "{% call m() %}", "x", "{% endcall %}" },
    { "{% generation %}", "x", "{% endgeneration %}" },
    { "{% if 0 %}{% else %}", "x", "{% endif %}" },
    { "{% if 1 %}{% elif 1 %}", "x", "{% endif %}" },
};

static void nest(const char *const parts[3], bool expression, size_t n) {
    struct template_output out;
    slm_why why;
    char *inner = repeat(parts[0], parts[1], parts[2], n);
    char *text = expression ? repeat("{{ ", inner, " }}", 1) : repeat("", inner, "", 1);
    slm_err err = render(text, "[]", NULL, NULL, &out, &why);
    assert_true(err == SLM_OK || err == SLM_E_BUDGET || err == SLM_E_TEMPLATE);
    template_output_free(NULL, &out);
    free(text);
    free(inner);
}

static void *nest_all(void *unused) {
    (void)unused;
    for (size_t n = 100; n <= 20000; n = n * 3 / 2) {
        for (size_t i = 0; i < ARRAY_LEN(nesting); i++)
            nest(nesting[i], true, n);
        for (size_t i = 0; i < ARRAY_LEN(statements); i++)
            nest(statements[i], false, n);
    }
    /* the deepest that is allowed, in values and in macros */
    struct template_output out;
    slm_why why;
    assert_int_equal(render("{% set ns = namespace(x=[]) %}{% for i in range(120) %}"
                            "{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}{{ ns.x }}",
                            "[]", NULL, NULL, &out, &why),
                     SLM_OK);
    template_output_free(NULL, &out);
    assert_int_equal(render("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}"
                            "{{ f(126) }}",
                            "[]", NULL, NULL, &out, &why),
                     SLM_OK);
    template_output_free(NULL, &out);
    return NULL;
}

static void test_small_stack(void **state) {
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
#ifdef HAVE_ASAN
    const size_t stack = 4u << 20; /* its frames are several times as large */
#else
    const size_t stack = 256u << 10;
#endif
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
    assert_int_equal(pthread_create(&thread, &attr, nest_all, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
}

static void test_nesting_limit(void **state) {
    (void)state;
    struct template_output out;
    char *inner = repeat("(", "1", ")", 120), *text = repeat("{{", inner, "}}", 1);
    assert_int_equal(render(text, "[]", NULL, NULL, &out, NULL), SLM_OK);
    assert_string_equal(out.text, "1");
    template_output_free(NULL, &out);
    free(text);
    free(inner);
    inner = repeat("(", "1", ")", 200);
    text = repeat("{{", inner, "}}", 1);
    expect_error(text, SLM_E_BUDGET, "nested");
    free(text);
    free(inner);
}

/* ---- errors ---- */

static void expect_at(const char *text, slm_err want, uint64_t offset, const char *words) {
    struct template *t;
    slm_why why = { .message = "" };
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, &why), want);
    assert_null(t);
    if (why.offset != offset || strstr(why.message, words) == NULL)
        fail_msg("%s: at %llu, %s", text, (unsigned long long)why.offset, why.message);
}

static void test_errors_at_load(void **state) {
    (void)state;
    expect_at("ab{{ x|nope }}", SLM_E_TEMPLATE, 7, "line 1: unknown filter 'nope'");
    expect_at("a\nb{{ x is nope }}", SLM_E_TEMPLATE, 11, "line 2: unknown test 'nope'");
    expect_at("{{ nope(1) }}", SLM_E_TEMPLATE, 7, "unknown function 'nope'");
    expect_at("{{ x.nope(1) }}", SLM_E_TEMPLATE, 9, "unknown method 'nope'");
    expect_at("{{ x.pop(1) }}", SLM_E_TEMPLATE, 8, "would change");
    expect_at("{% include 'x' %}", SLM_E_TEMPLATE, 3, "unknown statement 'include'");
    expect_at("{% import 'os' as os %}", SLM_E_TEMPLATE, 3, "unknown statement");
    expect_at("a\r\nb\r\n{{ 1|nope }}", SLM_E_TEMPLATE, 11, "line 3");
    expect_at("x{% if a %}", SLM_E_TEMPLATE, 11, "'elif'");
    expect_at("x{{ 'a", SLM_E_TEMPLATE, 4, "string without an end");
    expect_at("x\xff", SLM_E_ENCODING, 1, "UTF-8");
    expect_at("{{ a.__class__() }}", SLM_E_TEMPLATE, 14, "unknown method");
    char *big = repeat("x", "", "", TEMPLATE_TEXT_MAX + 1);
    expect_at(big, SLM_E_BUDGET, SLM_NO_OFFSET, "at most");
    free(big);
}

static void test_errors_while_rendering(void **state) {
    (void)state;
    struct template_output out;
    slm_why why;
    expect_error("a\nb\n{{ messages[0].x }}", SLM_E_TEMPLATE, "line 3: an undefined value");
    expect_error("{{ nope.x }}", SLM_E_TEMPLATE, "'nope' is undefined");
    expect_error("{% set d = {} %}{{ d.a.b }}", SLM_E_TEMPLATE, "no attribute 'a'");
    expect_error("{{ raise_exception('Roles must alternate: \xc3\xa4') }}", SLM_E_RAISED,
                 "Roles must alternate: \xc3\xa4");
    assert_int_equal(render("{{ raise_exception('just this') }}", "[]", NULL, NULL, &out, &why),
                     SLM_E_RAISED);
    assert_string_equal(why.message, "just this");
    assert_int_equal(render("x", "{}", NULL, NULL, &out, &why), SLM_E_ARG);
    assert_int_equal(render("x", "[1]", NULL, NULL, &out, &why), SLM_E_ARG);
    assert_int_equal(render("x", "[]", "[]", NULL, &out, &why), SLM_E_ARG);
    assert_int_equal(render("x", "[]", "{\"messages\":[]}", NULL, &out, &why), SLM_E_ARG);
    assert_int_equal(render("{{ 1 / 0 }}", "[]", NULL, NULL, &out, NULL), SLM_E_TEMPLATE);
}

/* ---- the rest of the interface ---- */

static void test_mentions(void **state) {
    (void)state;
    struct template *t;
    const char *text = "<|tool|>{% if enable_thinking %}{{ m.reasoning_content }}{{ '<think>\\n' }}"
                       "{% endif %}{{ f(tools=1) if 0 }}{% macro f(a) %}{% endmacro %}";
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, NULL), SLM_OK);
    assert_true(template_mentions(t, "enable_thinking"));
    assert_false(template_mentions(t, "enable"));
    assert_true(template_mentions(t, "reasoning_content"));
    assert_true(template_mentions(t, "tools"));
    assert_true(template_mentions(t, "<think>"));
    assert_true(template_mentions(t, "<|tool|>"));
    assert_false(template_mentions(t, "</think>"));
    assert_false(template_mentions(t, "xml_tools"));
    assert_false(template_mentions(t, ""));
    template_free(t);
    template_free(NULL);
}

static void test_tokens_and_date(void **state) {
    (void)state;
    struct template *t;
    struct template_output out;
    const char *text = "{{ bos_token }}|{{ eos_token is defined }}|{{ strftime_now('%F') }}";
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, NULL), SLM_OK);
    json_t *m = json_array(), *k = json_pack("{ss}", "bos_token", "<kw>");
    struct template_input in = { .messages = m, .bos_token = "<bos>", .now = -1 };
    assert_int_equal(template_render(t, NULL, &in, &out, NULL), SLM_OK);
    assert_string_equal(out.text, "<bos>|False|1969-12-31");
    template_output_free(NULL, &out);
    in = (struct template_input){
        .messages = m, .kwargs = k, .bos_token = "a", .eos_token = "", .now = 951782400
    };
    assert_int_equal(template_render(t, NULL, &in, &out, NULL), SLM_OK);
    assert_string_equal(out.text, "<kw>|True|2000-02-29");
    template_output_free(NULL, &out);
    in.now = INT64_MAX;
    assert_int_equal(template_render(t, NULL, &in, &out, NULL), SLM_E_TEMPLATE);
    json_decref(m);
    json_decref(k);
    template_free(t);
}

/* Every day of some years, against the C library. */
static void test_calendar(void **state) {
    (void)state;
    struct template *t;
    const char *text = "{{ strftime_now('%Y-%m-%d %j %U %W %V %G %u %w %a %B') }}";
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, NULL), SLM_OK);
    json_t *m = json_array();
    for (int64_t day = -800; day<30000; day += day> 12000 ? 7 : 1) {
        struct template_input in = { .messages = m, .now = day * 86400 + 43200 };
        struct template_output out;
        char want[128];
        time_t when = (time_t)in.now;
        struct tm tm;
        gmtime_r(&when, &tm);
        strftime(want, sizeof want, "%Y-%m-%d %j %U %W %V %G %u %w %a %B", &tm);
        assert_int_equal(template_render(t, NULL, &in, &out, NULL), SLM_OK);
        assert_string_equal(out.text, want);
        template_output_free(NULL, &out);
    }
    json_decref(m);
    template_free(t);
}

/* A failing allocation anywhere is reported, and nothing is leaked. */
static void test_no_memory(void **state) {
    (void)state;
    const char *text =
        "{% macro f(x, y=1) %}{{ x|upper }}{% endmacro %}{% set ns = namespace(a=[]) %}"
        "{% for m in messages if m.role %}{% set ns.a = ns.a + [m.content] %}{{ f(m.content) }}"
        "{% endfor %}{{ ns.a|tojson }}{{ {'a': 1, 'b': 2}|dictsort }}{{ 'x y'.split()|join }}";
    json_t *m = json_pack("[{ssss}]", "role", "user", "content", "hello");
    struct test_hooks h;
    for (size_t k = 1;; k++) {
        struct template *t;
        struct template_output out = { 0 };
        slm_why why;
        struct template_input in = { .messages = m };
        test_hooks_init(&h, k);
        slm_err err = template_compile(&h.hooks, text, strlen(text), &t, &why);
        if (err == SLM_OK)
            err = template_render(t, &h.hooks, &in, &out, &why);
        assert_int_equal(err, h.failed ? SLM_E_NOMEM : SLM_OK);
        template_output_free(&h.hooks, &out);
        template_free(t);
        assert_int_equal(h.live, 0);
        if (!h.failed)
            break;
    }
    json_decref(m);
}

/* One template, several threads. */
static void *render_many(void *arg) {
    json_t *m = json_pack("[{ssss}]", "role", "user", "content", "hi");
    struct template_input in = { .messages = m };
    for (int i = 0; i < 200; i++) {
        struct template_output out;
        if (template_render(arg, NULL, &in, &out, NULL) != SLM_OK ||
            strcmp(out.text, "user: HI") != 0)
            return arg;
        template_output_free(NULL, &out);
    }
    json_decref(m);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    struct template *t;
    pthread_t threads[4];
    const char *text = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content.upper() }}{% endfor %}";
    assert_int_equal(template_compile(NULL, text, strlen(text), &t, NULL), SLM_OK);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, t), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *bad;
        assert_int_equal(pthread_join(threads[i], &bad), 0);
        assert_null(bad);
    }
    template_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trust_by_role),
        cmocka_unit_test(test_trust_of_arguments),
        cmocka_unit_test(test_trust_through_operations),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_budgets_are_kept),
        cmocka_unit_test(test_small_stack),
        cmocka_unit_test(test_nesting_limit),
        cmocka_unit_test(test_errors_at_load),
        cmocka_unit_test(test_errors_while_rendering),
        cmocka_unit_test(test_mentions),
        cmocka_unit_test(test_tokens_and_date),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
