/* test_chat_prompts.c - whole requests through the vendors' templates and tokenizers: the exact prompt,
 * and ids in which no control token came from data.
 *
 * In: tests/golden/prompts.json (tools/prompt_oracle.py makes it with the real Jinja);
 *     SLM_REFERENCE/models/<model>/ and tokenizers/<name>/, without which the tests are skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "slm.h"
#include "tests/support.h"

#define NOW 1751976000 /* 2025-07-08 12:00:00 */
enum { FILES = 4 };

static json_t *cases;

static int load_cases(void **state) {
    char path[1024];
    size_t n;
    (void)state;
    char *text = slurp(data_path(path, sizeof path, "golden/prompts.json"), &n);
    int bad = text == NULL || json_text(text, n, &cases, NULL) != SLM_OK;
    free(text);
    return bad;
}

static int drop_cases(void **state) {
    (void)state;
    json_decref(cases);
    return 0;
}

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

/* A file of the reference; false when the test has to be skipped. */
static bool add_file(struct slm_memory_file *files, size_t *n, const char *rel, const char *name) {
    char path[1024];
    struct slm_memory_file *f = &files[*n];
    bool there = ref_path(path, sizeof path, rel) != NULL;
    f->data = !there                       ? NULL
              : strstr(rel, ".gz") != NULL ? slurp_gz(path, &f->size)
                                           : slurp(path, &f->size);
    f->name = name;
    *n += f->data != NULL;
    return f->data != NULL;
}

/* Tokenizer, template and configuration of a model; NULL: the reference is not here. */
static slm_engine *open_engine(const char *model, const char *tokenizer,
                               struct slm_memory_file *files, size_t *n) {
    static const char *const names[] = { "chat_template.jinja", "config.json",
                                         "generation_config.json" };
    char rel[256];
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why;
    *n = 0;
    o.need = o.want = SLM_TOKENIZER | SLM_TEMPLATE;
    o.id_hint = model;
    snprintf(rel, sizeof rel, "tokenizers/%s/tokenizer.json.gz", tokenizer);
    if (!add_file(files, n, rel, "tokenizer.json"))
        return NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(rel, sizeof rel, "models/%s/%s", model, names[i]);
        if (!add_file(files, n, rel, names[i]))
            return NULL;
    }
    if (slm_engine_open_memory(files, *n, &o, &e, &why) != SLM_OK)
        fail_msg("%s: %s", model, why.message);
    return e;
}

/* How often the token of a control text is among the ids. */
static size_t count(const slm_engine *e, const slm_prompt_info *p, const char *control) {
    int32_t *ids;
    size_t n_ids, n = 0;
    assert_int_equal(slm_encode(e, control, strlen(control), 0, &ids, &n_ids, NULL), SLM_OK);
    assert_int_equal(n_ids, 1);
    for (size_t i = 0; i < p->n; i++)
        n += p->ids[i] == ids[0];
    slm_free(e, ids);
    return n;
}

static bool check_case(const slm_engine *e, const json_t *one) {
    char *request = json_dumps(json_object_get(one, "request"), 0);
    const char *want = text_of(one, "prompt"), *control;
    slm_render_options o = slm_render_default();
    slm_prompt *p = NULL;
    slm_prompt_info info = { .size = sizeof info };
    slm_why why = { .message = "" };
    json_t *times;
    bool good = true;
    o.date = NOW;
    if (slm_prompt_make(e, request, strlen(request), &o, &p, &why) != SLM_OK)
        fail_msg("%s %s: %s", text_of(one, "model"), text_of(one, "id"), why.message);
    assert_int_equal(slm_prompt_get(p, &info), SLM_OK);
    if (info.n_text != strlen(want) || memcmp(info.text, want, info.n_text) != 0) {
        print_message("%s %s\nwant %s\ngot  %s\n", text_of(one, "model"), text_of(one, "id"), want,
                      info.text);
        good = false;
    }
    json_object_foreach(json_object_get(one, "counts"), control, times) {
        size_t n = count(e, &info, control);
        if (n != (size_t)json_integer_value(times)) {
            print_message("%s %s: %s %zu times\n", text_of(one, "model"), text_of(one, "id"),
                          control, n);
            good = false;
        }
    }
    slm_prompt_free(p);
    free(request);
    return good;
}

static void test_model(void **state) {
    const char *model = *state;
    struct slm_memory_file files[FILES] = { { .name = NULL } };
    size_t n_files = 0, n = 0, bad = 0, i;
    slm_engine *e = NULL;
    json_t *one;
    json_array_foreach(cases, i, one) {
        if (strcmp(text_of(one, "model"), model) != 0)
            continue;
        if (e == NULL)
            e = open_engine(model, text_of(one, "tokenizer"), files, &n_files);
        if (e == NULL)
            break;
        bad += !check_case(e, one);
        n++;
    }
    slm_engine_close(e);
    for (i = 0; i < n_files; i++)
        free((void *)(uintptr_t)files[i].data);
    if (e == NULL)
        skip();
    assert_true(n >= 8);
    assert_int_equal(bad, 0);
}

#define MODEL(name)                                                                                \
    { name, test_model, NULL, NULL, name }

int main(void) {
    static char gemma_small[] = "gemma-3-270m-it", gemma[] = "gemma-3-4b-it", jan[] = "jan-v1-4b",
                phi[] = "phi-4-mini-instruct", qwen[] = "qwen3-0.6b",
                qwen_4b[] = "qwen3-4b-instruct-2507", smol[] = "smollm3-3b";
    const struct CMUnitTest tests[] = {
        MODEL(gemma_small), MODEL(gemma),   MODEL(jan),  MODEL(phi),
        MODEL(qwen),        MODEL(qwen_4b), MODEL(smol),
    };
    return cmocka_run_group_tests(tests, load_cases, drop_cases);
}
