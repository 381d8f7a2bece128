/* fuzz_template.c - hostile chat templates and conversations.
 *
 * In: template text; after a zero byte, if there is one, a JSON object with "messages" and
 * "kwargs" (otherwise a conversation of our own). Checks, beyond memory: budgets end every
 * rendering, the text is valid UTF-8, its runs cover it, and a second rendering gives the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "chat/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{"
                                   "\"role\":\"user\",\"content\":\"a\\u00e4 "
                                   "'\\\"\\\\\\n<think>\"},{\"role\":\"assistant\",\"content\":"
                                   "\"\",\"tool_calls\":[{\"function\":{"
                                   "\"name\":\"f\",\"arguments\":{\"x\":1.5,\"y\":null}}}]},{"
                                   "\"role\":\"tool\",\"content\":\"21\"}],"
                                   "\"kwargs\":{\"tools\":[{\"name\":\"f\",\"items\":[1,2,true]}],"
                                   "\"n\":-7,\"l\":[3,1,2],\"s\":\"abc\","
                                   "\"d\":{\"a\":1,\"b\":[{}]},\"add_generation_prompt\":true}}";

static void check(const struct template_output *o) {
    size_t at = 0;
    for (size_t i = 0; i < o->n_runs; i++) {
        if (o->runs[i].start != at || o->runs[i].n == 0)
            abort();
        at += o->runs[i].n;
    }
    if (at != o->n || utf8_valid(o->text, o->n) != o->n)
        abort();
}

static void render(const struct template *t, const json_t *root) {
    struct template_input in = {
        .messages = json_object_get(root, "messages"),
        .kwargs = json_object_get(root, "kwargs"),
        .now = 1751987045,
        .budget = { .max_steps = 200000,
                    .max_output_bytes = 1 << 16,
                    .max_memory_bytes = 8 << 20,
                    .max_depth = 64 },
    };
    struct template_output a, b;
    slm_why why;
    slm_err err = template_render(t, NULL, &in, &a, &why);
    if (template_render(t, NULL, &in, &b, NULL) != err)
        abort();
    if (err == SLM_OK) {
        check(&a);
        if (a.n != b.n || memcmp(a.text, b.text, a.n) != 0)
            abort();
    }
    template_output_free(NULL, &a);
    template_output_free(NULL, &b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    const char *zero = size > 0 ? memchr(text, '\0', size) : NULL;
    size_t n = zero != NULL ? (size_t)(zero - text) : size;
    const char *json = zero != NULL ? zero + 1 : conversation;
    size_t n_json = zero != NULL ? size - n - 1 : sizeof conversation - 1;
    struct template *t;
    json_t *root;
    slm_why why;
    if (template_compile(NULL, text, n, &t, &why) != SLM_OK)
        return 0;
    (void)template_mentions(t, "tools");
    if (json_text(json, n_json, &root, &why) == SLM_OK) {
        render(t, root);
        json_decref(root);
    }
    template_free(t);
    return 0;
}
