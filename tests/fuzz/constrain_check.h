/* constrain_check.h - what holds for every grammar, for the fuzz targets of constraints. */
#ifndef SLM_TESTS_FUZZ_CONSTRAIN_CHECK_H
#define SLM_TESTS_FUZZ_CONSTRAIN_CHECK_H

#include <stdlib.h>

#include "constrain/constrain.h"

/* Walks the bytes as far as they are of the language, with masks over all single bytes and a few pairs,
 * then on by allowed bytes for a while. Aborts where a state has no way on, or a mask is not what is
 * accepted. */
static void check_grammar(const struct grammar *g, const char *text, size_t n) {
    static char bytes[256 + 8] = { 0 };
    struct constrain_token tokens[260];
    struct constrain_vocab *v = NULL;
    struct matcher *m = NULL;
    for (int i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        tokens[i] = (struct constrain_token){ bytes + i, 1 };
    }
    tokens[256] = (struct constrain_token){ "\", \"", 4 };
    tokens[257] = (struct constrain_token){ "\": ", 3 };
    tokens[258] = (struct constrain_token){ "aa", 2 };
    tokens[259] = (struct constrain_token){ "}]", 2 };
    if (constrain_vocab_new(NULL, tokens, 260, &v, NULL) != SLM_OK ||
        matcher_new(NULL, g, v, &m, NULL) != SLM_OK)
        abort();
    uint32_t draw = (uint32_t)n;
    for (size_t i = 0; i < n + 40 && !matcher_must_end(m); i++) {
        const uint32_t *mask;
        slm_why why;
        slm_err err = matcher_mask(m, &mask, &why);
        if (err == SLM_E_BUDGET)
            break;
        if (err != SLM_OK)
            abort();
        uint32_t id = i < n ? (uint8_t)text[i] : 0;
        draw = draw * 1664525u + 1013904223u;
        for (uint32_t k = 0; i >= n && k < 260; k++) {
            id = (draw % 260 + k) % 260;
            if (mask[id / 32] >> (id % 32) & 1)
                break;
        }
        bool allowed = (mask[id / 32] >> (id % 32) & 1) != 0;
        if (!allowed && i >= n) {
            if (!matcher_may_end(m))
                abort(); /* a dead end */
            break;
        }
        if (matcher_accept(m, (int32_t)id) != allowed)
            abort();
        if (!allowed)
            i = n; /* the text leaves the language: on by what is allowed */
    }
    matcher_free(m);
    constrain_vocab_free(v);
}

#endif
