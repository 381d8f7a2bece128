/* fuzz_request.c - hostile requests in every dialect.
 *
 * In: a byte that tells the dialect and what the model can, then JSON. Checks, beyond memory: what is
 * accepted has messages of the shape that templates take, marks of data inside their contents, roles
 * that alternate where they must; it renders; a second reading gives the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "chat/request.h"
#include "chat/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char template_text[] =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.tools }}{{ m.reasoning_content }}"
    "{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor "
    "%}"
    "{% endfor %}{{ tools }}{{ xml_tools }}{{ enable_thinking }}";

static const char *word(const json_t *message, const char *key) {
    const char *s = json_string_value(json_object_get(message, key));
    return s != NULL ? s : "";
}

static void check_marks(const json_t *message) {
    const json_t *marks = json_object_get(message, "content_data");
    json_int_t n = (json_int_t)json_string_length(json_object_get(message, "content")), end = 0;
    if (json_array_size(marks) % 2 != 0)
        abort();
    for (size_t i = 0; i < json_array_size(marks); i += 2) {
        json_int_t start = json_integer_value(json_array_get(marks, i));
        json_int_t len = json_integer_value(json_array_get(marks, i + 1));
        if (start < end || len < 0 || len > n - start)
            abort();
        end = start + len;
    }
}

static void check_messages(const json_t *messages, enum call_dialect dialect, bool images) {
    const json_t *message;
    const char *before = "";
    size_t i;
    if (json_array_size(messages) == 0)
        abort();
    json_array_foreach(messages, i, message) {
        const json_t *content = json_object_get(message, "content");
        const char *role = word(message, "role");
        if (!json_is_string(content) && !(images && json_is_array(content)))
            abort();
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
            strcmp(role, "assistant") != 0 && strcmp(role, "tool") != 0)
            abort();
        if (dialect == CALLS_GEMMA && (strcmp(role, "tool") == 0 || strcmp(role, before) == 0))
            abort();
        if (dialect > CALLS_HERMES && json_object_get(message, "tool_calls") != NULL)
            abort();
        check_marks(message);
        before = role;
    }
}

static void render(const struct request *r) {
    struct template *t;
    struct template_output out;
    if (template_compile(NULL, template_text, sizeof template_text - 1, &t, NULL) != SLM_OK)
        abort();
    struct template_input in = { .messages = r->messages, .kwargs = r->kwargs };
    slm_err err = template_render(t, NULL, &in, &out, NULL);
    if (err == SLM_OK && utf8_valid(out.text, out.n) != out.n)
        abort();
    template_output_free(NULL, &out);
    template_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *root;
    if (size < 1 || json_text((const char *)data + 1, size - 1, &root, NULL) != SLM_OK)
        return 0;
    const struct request_think think = { .can_switch = (data[0] & 8) != 0,
                                         .always = (data[0] & 24) == 16,
                                         .images = (data[0] & 32) != 0 };
    enum call_dialect dialect = (enum call_dialect)((data[0] & 7) % 5);
    struct request a, b;
    slm_why why;
    slm_err err = request_read(NULL, root, dialect, think, &a, &why);
    if (request_read(NULL, root, dialect, think, &b, NULL) != err)
        abort();
    if (err == SLM_OK) {
        check_messages(a.messages, dialect, think.images);
        if (!json_equal(a.messages, b.messages) || !json_equal(a.kwargs, b.kwargs) ||
            (a.thinks && a.no_think) || (a.choice == TOOLS_NAMED) != (a.tool_name != NULL))
            abort();
        render(&a);
    } else if (a.messages != NULL || why.message[0] == '\0') {
        abort();
    }
    request_free(NULL, &a);
    request_free(NULL, &b);
    json_decref(root);
    return 0;
}
