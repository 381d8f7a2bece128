/* test_chat_goldens.c - the vendors' own templates, byte for byte.
 *
 * In: SLM_REFERENCE/models/<model>/chat_template*.jinja with chat_golden.json, rendered by the real
 * Jinja with the date frozen to 2025-07-08; demo-model/chat_template.jinja with golden.json. */
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

#define NOW 1751976000 /* 2025-07-08 12:00:00 */

static json_t *load_json(const char *rel) {
    char path[1024];
    size_t n;
    if (ref_path(path, sizeof path, rel) == NULL)
        return NULL;
    char *text = slurp(path, &n);
    assert_non_null(text);
    json_t *j = json_loadb(text, n, 0, NULL);
    assert_non_null(j);
    free(text);
    return j;
}

static struct template *load_template(const char *rel) {
    char path[1024];
    size_t n;
    struct template *t;
    slm_why why = { .message = "" };
    if (ref_path(path, sizeof path, rel) == NULL)
        return NULL;
    char *text = slurp(path, &n);
    assert_non_null(text);
    if (template_compile(NULL, text, n, &t, &why) != SLM_OK)
        fail_msg("%s: %s", rel, why.message);
    free(text);
    return t;
}

/* Runs cover the text in order, are never empty, and neighbours differ. */
static void check_runs(const struct template_output *o) {
    size_t at = 0;
    for (size_t i = 0; i < o->n_runs; i++) {
        assert_int_equal(o->runs[i].start, at);
        assert_true(o->runs[i].n > 0);
        if (i > 0)
            assert_true(o->runs[i].data != o->runs[i - 1].data);
        at += o->runs[i].n;
    }
    assert_int_equal(at, o->n);
}

/* Renders; want NULL: only that it works. False when the text differs. */
static bool render_is(const struct template *t, const json_t *messages, const json_t *kwargs,
                      const char *want) {
    struct template_output out;
    slm_why why = { .message = "" };
    struct template_input in = { .messages = messages, .kwargs = kwargs, .now = NOW };
    slm_err err = template_render(t, NULL, &in, &out, &why);
    bool good = err == SLM_OK && (want == NULL || strcmp(out.text, want) == 0);
    if (good)
        check_runs(&out);
    else
        printf("want %s\ngot  %s\n", want, err == SLM_OK ? out.text : why.message);
    template_output_free(NULL, &out);
    return good;
}

static void check_model(const char *model, const char *variant, bool same) {
    char rel[256];
    snprintf(rel, sizeof rel, "models/%s/chat_golden.json", model);
    json_t *root = load_json(rel);
    snprintf(rel, sizeof rel, "models/%s/%s", model, variant);
    struct template *t = root != NULL ? load_template(rel) : NULL;
    if (t == NULL)
        skip();
    const json_t *cases = json_object_get(root, "cases"), *one;
    size_t i, bad = 0;
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, i, one) {
        const char *want = json_string_value(json_object_get(one, "rendered"));
        bool good = render_is(t, json_object_get(one, "messages"), json_object_get(one, "kwargs"),
                              same ? want : NULL);
        if (!good)
            printf("%s: case %s differs\n", rel, json_string_value(json_object_get(one, "id")));
        bad += !good;
    }
    template_free(t);
    json_decref(root);
    assert_int_equal(bad, 0);
}

static void test_model(void **state) {
    check_model(*state, "chat_template.jinja", true);
}

/* The first published Qwen3 template gives the same for contents that are strings. */
static void test_qwen_first(void **state) {
    (void)state;
    check_model("qwen3-0.6b", "chat_template.2025-04.jinja", true);
}

/* Other versions in circulation: they load and render. */
static void test_variant(void **state) {
    check_model("smollm3-3b", *state, false);
}

static void test_demo(void **state) {
    (void)state;
    json_t *root = load_json("demo-model/golden.json");
    struct template *t = root != NULL ? load_template("demo-model/chat_template.jinja") : NULL;
    if (t == NULL)
        skip();
    const json_t *cases = json_object_get(root, "cases"), *one;
    size_t i;
    assert_true(json_array_size(cases) > 0);
    json_array_foreach(cases, i, one) {
        json_t *kwargs = json_object();
        json_object_set(kwargs, "tools", json_object_get(one, "tools"));
        json_object_set_new(kwargs, "add_generation_prompt", json_true());
        if (json_is_false(json_object_get(one, "enable_thinking")))
            json_object_set_new(kwargs, "enable_thinking", json_false());
        assert_true(render_is(t, json_object_get(one, "messages"), kwargs,
                              json_string_value(json_object_get(one, "prompt"))));
        json_decref(kwargs);
    }
    template_free(t);
    json_decref(root);
}

#define MODEL(name)                                                                                \
    { name, test_model, NULL, NULL, name }
#define VARIANT(name)                                                                              \
    { name, test_variant, NULL, NULL, name }

int main(void) {
    static char gemma_small[] = "gemma-3-270m-it", gemma[] = "gemma-3-4b-it", jan[] = "jan-v1-4b",
                phi[] = "phi-4-mini-instruct", qwen[] = "qwen3-0.6b",
                qwen_4b[] = "qwen3-4b-instruct-2507", smol[] = "smollm3-3b",
                first[] = "chat_template.2025-07.jinja", unsloth[] = "chat_template.unsloth.jinja",
                closed[] = "chat_template.closed-system.jinja";
    const struct CMUnitTest tests[] = {
        MODEL(gemma_small),
        MODEL(gemma),
        MODEL(jan),
        MODEL(phi),
        MODEL(qwen),
        MODEL(qwen_4b),
        MODEL(smol),
        VARIANT(first),
        VARIANT(unsloth),
        VARIANT(closed),
        cmocka_unit_test(test_qwen_first),
        cmocka_unit_test(test_demo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
