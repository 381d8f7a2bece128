/* test_constrain_vocab.c - masks of real vocabularies, against the trial of tokens: the demo model's,
 * and those of the reference folder where it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "constrain_walk.h"
#include "token/token.h"

static const char schema_text[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"code\":{\"type\":"
    "\"string\",\"maxLength\":200},"
    "\"short\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":6},\"day\":{\"type\":\"string\","
    "\"format\":\"date\"},"
    "\"n\":{\"type\":\"integer\",\"minimum\":3,\"maximum\":500},\"kind\":{\"enum\":[\"red\","
    "\"green\",\"reddish\"]}},"
    "\"required\":[\"name\"],\"additionalProperties\":{\"type\":[\"string\",\"null\"]}}";
static const char document[] =
    "{\"name\": \"J\xc3\xbcrgen said \\\"no\\\"\", \"code\": \"x y z\", \"short\": "
    "\"\xe4\xb8\xad\xe6\x96\x87!\", \"day\": "
    "\"2024-02-29\", \"n\": 47, \"kind\": \"red\", \"other\": null, \"others\": \"a\"}";

static void check_vocabulary(const char *text, size_t n) {
    struct tokenizer *t = NULL;
    struct constrain_vocab *v = NULL;
    struct grammar *g = NULL;
    struct matcher *m = NULL, *trial = NULL;
    json_t *schema = NULL;
    assert_int_equal(tokenizer_from_json(NULL, text, n, &t, NULL), SLM_OK);
    uint32_t n_ids = tokenizer_size(t);
    struct constrain_token *tokens = calloc(n_ids, sizeof *tokens);
    assert_non_null(tokens);
    for (uint32_t i = 0; i < n_ids; i++)
        if (!token_is_control(t, (int32_t)i))
            token_text_of(t, (int32_t)i, &tokens[i].s, &tokens[i].n);
    assert_int_equal(constrain_vocab_new(NULL, tokens, n_ids, &v, NULL), SLM_OK);
    assert_int_equal(json_text(schema_text, sizeof schema_text - 1, &schema, NULL), SLM_OK);
    assert_int_equal(grammar_schema(NULL, schema, NULL, &g, NULL), SLM_OK);
    assert_int_equal(matcher_new(NULL, g, v, &m, NULL), SLM_OK);
    assert_int_equal(matcher_new(NULL, g, v, &trial, NULL), SLM_OK);
    size_t allowed = 0, stride = 1 + n_ids / 8000;
    for (size_t at = 0; at < sizeof document - 1; at++) {
        const uint32_t *mask;
        assert_int_equal(matcher_mask(m, &mask, NULL), SLM_OK);
        for (uint32_t id = 0; id < n_ids && at % 5 == 0; id++) {
            bool has = mask_has(mask, id);
            allowed += has;
            if ((id + at) % stride != 0) /* a few thousand for each place, others for the next */
                continue;
            matcher_reset(trial);
            assert_true(at == 0 || matcher_accept_bytes(trial, document, at));
            bool want = matcher_accept(trial, (int32_t)id);
            if (has != want)
                printf("# behind '%.*s' id %u\n", (int)at, document, id);
            assert_int_equal(has, want);
        }
        assert_true(matcher_accept_bytes(m, document + at, 1));
    }
    assert_true(matcher_must_end(m));
    assert_true(allowed > n_ids / 4);
    matcher_free(m);
    matcher_free(trial);
    grammar_free(g);
    constrain_vocab_free(v);
    json_decref(schema);
    free(tokens);
    tokenizer_free(t);
}

static void test_demo(void **state) {
    (void)state;
    size_t n;
    char *text = slurp("demo-model/tokenizer.json", &n);
    assert_non_null(text);
    check_vocabulary(text, n);
    free(text);
}

static void reference(const char *rel) {
    char path[1024];
    size_t n;
    if (ref_path(path, sizeof path, rel) == NULL)
        skip();
    char *text = slurp_gz(path, &n);
    assert_non_null(text);
    check_vocabulary(text, n);
    free(text);
}

static void test_bytes(void **state) {
    (void)state;
    reference("tokenizers/qwen3/tokenizer.json.gz");
}

static void test_pieces(void **state) {
    (void)state;
    reference("tokenizers/gemma3/tokenizer.json.gz");
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_demo), cmocka_unit_test(test_bytes),
                                        cmocka_unit_test(test_pieces) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
