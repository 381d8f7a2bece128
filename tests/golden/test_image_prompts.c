/* test_image_prompts.c - prompts with images against the official processor's ids.
 *
 * In: SLM_REFERENCE/models/gemma-3-4b-it (template, conversations, image_prompt_golden.json) and its
 * tokenizer. The rows of images are the vendor's id for them here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/desc.h"
#include "session/prompt.h"
#include "support.h"

#define FOLDER "models/gemma-3-4b-it/"

static json_t *load_json(const char *rel) {
    char path[1024];
    size_t n;
    assert_non_null(ref_path(path, sizeof path, rel));
    char *text = slurp(path, &n);
    json_t *j = text != NULL ? json_loadb(text, n, 0, NULL) : NULL;
    assert_non_null(j);
    free(text);
    return j;
}

static slm_engine *open_engine(char **texts) {
    char path[1024];
    struct slm_memory_file files[2] = { { .name = "tokenizer.json" },
                                        { .name = "chat_template.jinja" } };
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why;
    o.need = o.want = SLM_TOKENIZER | SLM_TEMPLATE;
    assert_non_null(ref_path(path, sizeof path, "tokenizers/gemma3/tokenizer.json.gz"));
    files[0].data = texts[0] = slurp_gz(path, &files[0].size);
    assert_non_null(ref_path(path, sizeof path, FOLDER "chat_template.jinja"));
    files[1].data = texts[1] = slurp(path, &files[1].size);
    if (slm_engine_open_memory(files, 2, &o, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return e;
}

/* The conversation of a case; crops are not part of it. */
static const json_t *messages_of(const json_t *cases, const char *id) {
    size_t i;
    json_t *row;
    if (strncmp(id, "image_pan_and_scan", 18) == 0)
        id = "image";
    json_array_foreach(cases, i, row) if (strcmp(json_string_value(json_object_get(row, "id")),
                                                 id) == 0) return json_object_get(row, "messages");
    fail_msg("no conversation '%s'", id);
    return NULL;
}

static size_t expand(const json_t *runs, int32_t *ids, size_t most) {
    size_t n = 0, i;
    json_t *run;
    json_array_foreach(runs, i, run) {
        bool many = json_is_array(run);
        json_int_t id = json_integer_value(many ? json_array_get(run, 0) : run),
                   times = many ? json_integer_value(json_array_get(run, 1)) : 1;
        for (; times > 0 && n < most; times--)
            ids[n++] = (int32_t)id;
    }
    return n;
}

static void check_case(const slm_engine *e, const json_t *chats, const json_t *golden) {
    enum { MOST = 4096 };
    static int32_t want[MOST], rows[5 * 256];
    const struct vision *v = &model_by_name("gemma-3-4b-it")->vision;
    const char *id = json_string_value(json_object_get(golden, "id"));
    bool crops = strncmp(id, "image_pan_and_scan", 18) == 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        rows[i] = v->soft;
    struct prompt_image images[2] = { { crops ? 3 : 1, rows }, { 1, rows } };
    size_t n_images = strstr(id, "two_images") != NULL ? 2 : 1, n_ids;
    struct template_output text = { 0 };
    json_t *kwargs = json_pack("{s:s}", "bos_token", "<bos>");
    int32_t *ids = NULL;
    slm_why why;
    if (prompt_render(e, messages_of(chats, id), kwargs, 0, &text, &why) != SLM_OK ||
        prompt_place_images(e, v, images, n_images, &text, &why) != SLM_OK ||
        prompt_encode(e, &text, &ids, &n_ids, &why) != SLM_OK ||
        prompt_put_images(e, v, images, n_images, &ids, &n_ids, &why) != SLM_OK)
        fail_msg("%s: %s", id, why.message);
    size_t n = expand(json_object_get(golden, "ids_run_length"), want, MOST);
    assert_int_equal(n, json_integer_value(json_object_get(golden, "total_tokens")));
    for (size_t i = 0; i < n && i < n_ids; i++)
        if (ids[i] != want[i])
            fail_msg("%s: id %zu is %d, expected %d", id, i, ids[i], want[i]);
    assert_int_equal(n_ids, n);
    json_decref(kwargs);
    template_output_free(&e->hooks, &text);
    slm_free(e, ids);
}

static void test_prompts(void **state) {
    char path[1024], *texts[2];
    size_t i;
    json_t *row;
    (void)state;
    if (ref_path(path, sizeof path, FOLDER "image_prompt_golden.json") == NULL)
        skip();
    slm_engine *e = open_engine(texts);
    json_t *golden = load_json(FOLDER "image_prompt_golden.json"),
           *chats = load_json(FOLDER "chat_golden.json");
    const json_t *cases = json_is_array(chats) ? chats : json_object_get(chats, "cases");
    json_array_foreach(json_object_get(golden, "cases"), i, row) check_case(e, cases, row);
    json_decref(golden);
    json_decref(chats);
    slm_engine_close(e);
    free(texts[0]);
    free(texts[1]);
}

/* A mark that a user typed is text; a number of images that does not fit is an error. */
static void test_typed_marks(void **state) {
    char path[1024], *texts[2];
    static int32_t rows[256];
    const struct vision *v = &model_by_name("gemma-3-4b-it")->vision;
    const struct prompt_image image = { 1, rows };
    struct template_output text = { 0 };
    slm_why why;
    (void)state;
    if (ref_path(path, sizeof path, FOLDER "image_prompt_golden.json") == NULL)
        skip();
    slm_engine *e = open_engine(texts);
    json_t *kwargs = json_object(),
           *messages = json_loads("[{\"role\":\"user\",\"content\":\"see <start_of_image> here\"}]",
                                  0, NULL);
    assert_int_equal(prompt_render(e, messages, kwargs, 0, &text, &why), SLM_OK);
    assert_int_equal(prompt_place_images(e, v, &image, 1, &text, &why), SLM_E_ARG);
    assert_non_null(strstr(why.message, "0 places"));
    template_output_free(&e->hooks, &text);
    json_decref(kwargs);
    json_decref(messages);
    slm_engine_close(e);
    free(texts[0]);
    free(texts[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_prompts),
                                        cmocka_unit_test(test_typed_marks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
