/* test_constrain_schema.c - the cases of tests/data/constrain/schema.txt: each document byte for byte, in
 * random tokens, and with the masks of its prefixes against the trial of every token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "constrain_walk.h"

static struct pieces pieces;
static struct constrain_vocab *vocab;

static bool check_document(const struct grammar *g, const char *s, size_t n, bool want) {
    struct matcher *m = NULL;
    struct rng r = { 5 };
    bool ends, ok = true;
    if (matcher_new(NULL, g, vocab, &m, NULL) != SLM_OK)
        return false;
    size_t good = walk_bytes(m, s, n, &ends);
    if (ends != want) {
        printf("# '%.*s' is %s: %zu bytes were read\n", (int)n, s, want ? "refused" : "accepted",
               good);
        ok = false;
    }
    for (size_t i = 0; i <= good && ok; i += 1 + i / 4) {
        matcher_reset(m);
        ok = i == 0 || matcher_accept_bytes(m, s, i);
        if (ok && !matcher_must_end(m))
            ok = mask_is_right(m, &pieces, s, i);
    }
    for (int i = 0; i < 3 && want && ok; i++)
        ok = walk_tokens(m, &pieces, &r, s, n);
    matcher_free(m);
    return ok;
}

static bool same_error(const char *want, size_t n, slm_err err, const slm_why *why) {
    char code[64];
    size_t len = 0;
    while (len < n && want[len] != ' ' && len + 1 < sizeof code) {
        code[len] = want[len];
        len++;
    }
    code[len] = '\0';
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)(n - len - 1), want + len + 1);
    if (strcmp(err_name(err), code) == 0 && strstr(why->message, text) != NULL)
        return true;
    printf("# %s: %s, not %s\n", err_name(err), why->message, want);
    return false;
}

static void test_cases(void **state) {
    (void)state;
    char path[1024];
    size_t n, cases = 0, failed = 0;
    char *text = slurp(data_path(path, sizeof path, "data/constrain/schema.txt"), &n);
    assert_non_null(text);
    struct grammar *g = NULL;
    json_t *schema = NULL;
    slm_err err = SLM_OK;
    slm_why why = { .message = "" };
    char *line = text;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        size_t len = (size_t)(end - line);
        bool ok = true;
        *end = '\0';
        if (strncmp(line, "schema ", 7) == 0) {
            grammar_free(g);
            json_decref(schema);
            g = NULL;
            why.message[0] = '\0';
            assert_int_equal(json_text(line + 7, len - 7, &schema, &why), SLM_OK);
            err = grammar_schema(NULL, schema, NULL, &g, &why);
            printf("# %s\n", line + 7);
            continue;
        }
        if (len == 0 || line[0] == '#')
            continue;
        cases++;
        if (strncmp(line, "err ", 4) == 0)
            ok = same_error(line + 4, len - 4, err, &why);
        else if (err != SLM_OK) {
            printf("# refused: %s\n", why.message);
            ok = false;
        } else if (strncmp(line, "yes ", 4) == 0) {
            ok = check_document(g, line + 4, len - 4, true);
            json_t *v = NULL;
            assert_int_equal(json_text(line + 4, len - 4, &v, NULL),
                             SLM_OK); /* the cases are JSON */
            json_decref(v);
        } else if (strncmp(line, "no ", 3) == 0)
            ok = check_document(g, line + 3, len - 3, false);
        else {
            assert_true(strncmp(line, "never ", 6) == 0);
            ok = check_document(g, line + 6, len - 6, false);
        }
        failed += !ok;
    }
    printf("# %zu cases\n", cases);
    grammar_free(g);
    json_decref(schema);
    free(text);
    assert_int_equal(failed, 0);
    assert_true(cases >= 300);
}

static int setup(void **state) {
    (void)state;
    pieces_bytes(&pieces);
    return constrain_vocab_new(NULL, pieces.tokens, pieces.n, &vocab, NULL) == SLM_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    constrain_vocab_free(vocab);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
