/* test_session_tokens.c - bytes of single tokens and the identity of a model, on the demo model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "slm.h"
#include "support.h"

static slm_engine *open_demo(unsigned want, bool exact) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.need = o.want = want;
    o.exact = exact;
    o.threads = 1;
    o.isa = test_isa();
    return slm_engine_open("demo-model", &o, &e, NULL) == SLM_OK ? e : NULL;
}

/* The bytes of the ids of a text in a row are the text, also where a character takes several ids. */
static void test_bytes(void **state) {
    (void)state;
    static const char text[] = "Caf\xc3\xa9 \xf0\x9f\xa6\x8a <|im_end|> 12";
    slm_engine *e = open_demo(SLM_TOKENIZER, false);
    char all[128];
    size_t n_all = 0, n_ids, partial = 0, n;
    const char *bytes;
    int32_t *ids;
    assert_non_null(e);
    assert_int_equal(slm_encode(e, text, strlen(text), 0, &ids, &n_ids, NULL), SLM_OK);
    for (size_t i = 0; i < n_ids; i++) {
        assert_int_equal(slm_token_bytes(e, ids[i], &bytes, &n), SLM_OK);
        assert_true(n > 0 && n_all + n < sizeof all);
        partial += (unsigned char)bytes[0] >= 0x80 && n < 4;
        memcpy(all + n_all, bytes, n);
        n_all += n;
    }
    assert_true(partial > 0); /* the fox is no token of its own */
    assert_int_equal(n_all, strlen(text));
    assert_memory_equal(all, text, n_all);
    slm_free(e, ids);
    bytes = NULL;
    assert_int_equal(slm_token_bytes(e, -1, &bytes, &n), SLM_E_ARG);
    assert_int_equal(slm_token_bytes(e, 1 << 20, &bytes, &n), SLM_E_ARG);
    assert_null(bytes);
    slm_engine_close(e);
}

static void test_identity(void **state) {
    (void)state;
    char one[33], two[33], other[33];
    slm_why why;
    slm_engine *a = open_demo(SLM_ALL, false), *b = open_demo(SLM_ALL, false),
               *x = open_demo(SLM_ALL, true), *bare = open_demo(SLM_WEIGHTS, false);
    assert_true(a != NULL && b != NULL && x != NULL && bare != NULL);
    assert_int_equal(slm_engine_identity(a, one, &why), SLM_OK);
    assert_int_equal(slm_engine_identity(b, two, &why), SLM_OK);
    assert_int_equal(strlen(one), 32);
    assert_int_equal(strspn(one, "0123456789abcdef"), 32);
    assert_string_equal(one, two);
    assert_int_equal(slm_engine_identity(x, other, &why), SLM_OK);
    assert_string_not_equal(one, other);
    assert_int_equal(slm_engine_identity(bare, other, &why), SLM_OK); /* no template */
    assert_string_not_equal(one, other);
    slm_info info = { .size = sizeof info };
    assert_int_equal(slm_engine_info(a, &info), SLM_OK);
    assert_non_null(strstr(info.chat_template, "<|im_start|>"));
    assert_string_equal(info.eos_text, "<|im_end|>");
    slm_engine_close(bare);
    slm_engine_close(x);
    slm_engine_close(b);
    slm_engine_close(a);
}

static void test_without(void **state) {
    (void)state;
    char text[33] = "untouched";
    const char *bytes;
    size_t n;
    slm_why why;
    slm_engine *e = open_demo(SLM_WEIGHTS, false);
    assert_non_null(e);
    assert_int_equal(slm_token_bytes(e, 5, &bytes, &n), SLM_E_NOTFOUND);
    slm_engine_close(e);
    slm_engine_options o = slm_engine_default();
    struct slm_memory_file file = { "tokenizer.json", NULL, 0 };
    char *data = slurp("demo-model/tokenizer.json", &file.size);
    file.data = data;
    o.need = o.want = SLM_TOKENIZER;
    assert_int_equal(slm_engine_open_memory(&file, 1, &o, &e, &why), SLM_OK);
    assert_int_equal(slm_engine_identity(e, text, &why), SLM_E_NOTFOUND);
    assert_string_equal(text, "untouched");
    slm_engine_close(e);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
