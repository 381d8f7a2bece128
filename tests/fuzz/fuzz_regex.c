/* fuzz_regex.c - hostile expressions.
 *
 * In: a pattern; after a line end, text that is tried. Checks, beyond memory: a grammar has a way to its
 * end from every state that is met, and what the mask allows is accepted. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constrain/constrain.h"
#include "fuzz/constrain_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t n = end != NULL ? (size_t)(end - data) : size;
    struct grammar_limits limits = { .max_nodes = 5000, .max_bytes = 8 << 20, .max_ns = 300000000 };
    struct grammar *g = NULL;
    slm_why why;
    if (grammar_regex(NULL, (const char *)data, n, &limits, &g, &why) != SLM_OK)
        return 0;
    check_grammar(g, end != NULL ? (const char *)end + 1 : "", end != NULL ? size - n - 1 : 0);
    grammar_free(g);
    return 0;
}
