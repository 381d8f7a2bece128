/* test_chat_cases.c - the template interpreter against the real Jinja.
 *
 * In: the cases in tests/data/chat, made by tools/template_oracle.py (except ours.json, which is
 * written by hand and holds what we do on purpose beyond or unlike Jinja), and the file that
 * SLM_CHAT_CASES names. Each case must give the same text, or an error where Jinja gives one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "chat/template.h"
#include "tests/support.h"

#define NOW 1751987045 /* 2025-07-08 15:04:05, as in the oracle */

static bool same_error(const json_t *one, slm_err err) {
    const char *kind = json_string_value(json_object_get(one, "fails"));
    const char *code = json_string_value(json_object_get(one, "code"));
    if (code != NULL)
        return strcmp(code, err_name(err)) == 0;
    return (strcmp(kind, "TemplateError") == 0) == (err == SLM_E_RAISED);
}

/* Runs one case; prints what differs. */
static bool run_case(const json_t *one, json_t *variables) {
    json_t *own = json_object_get(one, "c");
    json_t *kwargs = json_copy(own != NULL ? own : variables);
    const char *text = json_string_value(json_object_get(one, "t"));
    const json_t *wanted = json_object_get(one, "want");
    const char *want = json_string_value(wanted);
    size_t n_want = json_string_length(wanted);
    json_t *messages = json_incref(json_object_get(kwargs, "messages"));
    if (messages == NULL)
        messages = json_array();
    json_object_del(kwargs, "messages");
    struct template *t = NULL;
    struct template_output out = { 0 };
    slm_why why = { .message = "" };
    struct template_input in = { .messages = messages, .kwargs = kwargs, .now = NOW };
    size_t n_text = json_string_length(json_object_get(one, "t"));
    slm_err err = template_compile(NULL, text, n_text, &t, &why);
    if (err == SLM_OK)
        err = template_render(t, NULL, &in, &out, &why);
    bool good = want != NULL
                    ? err == SLM_OK && out.n == n_want && memcmp(out.text, want, n_want) == 0
                    : err != SLM_OK && same_error(one, err);
    if (!good)
        printf("template %s\n  want %s\n  got  %s\n", text,
               want != NULL ? want : json_string_value(json_object_get(one, "fails")),
               err == SLM_OK ? out.text : why.message);
    template_output_free(NULL, &out);
    template_free(t);
    json_decref(messages);
    json_decref(kwargs);
    return good;
}

static void run_file(const char *path) {
    size_t n;
    char *text = slurp(path, &n);
    assert_non_null(text);
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    const json_t *cases = json_is_array(root) ? root : json_object_get(root, "cases");
    assert_true(json_array_size(cases) > 0);
    size_t bad = 0;
    for (size_t i = 0; i < json_array_size(cases); i++)
        bad += !run_case(json_array_get(cases, i), json_object_get(root, "variables"));
    printf("%s: %zu cases, %zu differ\n", path, json_array_size(cases), bad);
    json_decref(root);
    free(text);
    assert_int_equal(bad, 0);
}

static void test_file(void **state) {
    char path[1024], rel[128];
    snprintf(rel, sizeof rel, "data/chat/%s.json", (const char *)*state);
    assert_non_null(data_path(path, sizeof path, rel));
    run_file(path);
}

static void test_given(void **state) {
    (void)state;
    const char *path = getenv("SLM_CHAT_CASES");
    if (path == NULL)
        skip();
    run_file(path);
}

#define FILE_TEST(name)                                                                            \
    { #name, test_file, NULL, NULL, #name }

int main(void) {
    const struct CMUnitTest tests[] = {
        FILE_TEST(whitespace), FILE_TEST(expressions),
        FILE_TEST(methods),    FILE_TEST(filters),
        FILE_TEST(json),       FILE_TEST(edges),
        FILE_TEST(tests),      FILE_TEST(statements),
        FILE_TEST(ours),       cmocka_unit_test(test_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
