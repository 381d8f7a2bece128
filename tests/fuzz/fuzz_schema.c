/* fuzz_schema.c - hostile schemas, and documents.
 *
 * In: a schema; after a zero byte, if there is one, a document. A schema that is an array is taken for
 * tools (calls in the style that its length says), an array of strings for choices. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "constrain/constrain.h"
#include "fuzz/constrain_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t n = end != NULL ? (size_t)(end - data) : size;
    const char *text = end != NULL ? (const char *)end + 1 : "";
    size_t n_text = end != NULL ? size - n - 1 : 0;
    struct grammar_limits limits = {
        .max_nodes = 5000, .max_bytes = 8 << 20, .max_ns = 300000000, .any_whitespace = n % 2 != 0
    };
    json_t *schema = NULL;
    struct grammar *g = NULL;
    slm_why why;
    if (json_text((const char *)data, n, &schema, NULL) != SLM_OK)
        return 0;
    if (json_is_array(schema) && json_is_string(json_array_get(schema, 0))) {
        if (grammar_choices(NULL, schema, &limits, &g, &why) != SLM_OK)
            g = NULL;
    } else if (json_is_array(schema)) {
        struct call_shape shape = { .style = (enum call_style)(n % 3),
                                    .open = "<c>",
                                    .close = "</c>",
                                    .between = "\n",
                                    .arguments_key = "arguments",
                                    .tools = schema,
                                    .many = true };
        if (grammar_calls(NULL, &shape, &limits, &g, &why) != SLM_OK)
            g = NULL;
    } else if (grammar_schema(NULL, schema, &limits, &g, &why) != SLM_OK)
        g = NULL;
    if (g != NULL)
        check_grammar(g, text, n_text);
    grammar_free(g);
    json_decref(schema);
    return 0;
}
