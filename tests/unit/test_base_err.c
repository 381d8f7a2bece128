/* test_base_err.c - messages of failures: cut between characters, clean for a terminal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "base/utf8.h"

static void test_fill(void **state) {
    (void)state;
    slm_why why;
    assert_int_equal((fail)(&why, SLM_E_FORMAT, 42, "%u dimensions, at most %u", 9u, 4u),
                     SLM_E_FORMAT);
    assert_int_equal(why.code, SLM_E_FORMAT);
    assert_int_equal(why.offset, 42);
    assert_string_equal(why.message, "9 dimensions, at most 4");
    assert_int_equal((fail)(NULL, SLM_E_ARG, 0, "nobody listens"), SLM_E_ARG);
    assert_int_equal(fail_nomem(&why, "keys and values", 4096), SLM_E_NOMEM);
    assert_string_equal(why.message, "out of memory: 4096 bytes for keys and values");
    assert_true(why.offset == SLM_NO_OFFSET);
}

static void test_prefix(void **state) {
    (void)state;
    slm_why why;
    (fail)(&why, SLM_E_FORMAT, 7, "wrong magic");
    assert_int_equal(fail_prefix(&why, SLM_E_FORMAT, "file '%s'", "a.gguf"), SLM_E_FORMAT);
    assert_string_equal(why.message, "file 'a.gguf': wrong magic");
    assert_int_equal(why.offset, 7);
    assert_int_equal(fail_prefix(NULL, SLM_E_IO, "x"), SLM_E_IO);
    for (int i = 0; i < 100; i++) /* grows to the ceiling and stays there */
        fail_prefix(&why, SLM_E_FORMAT, "prefix number %d", i);
    assert_int_equal(strlen(why.message), sizeof why.message - 1);
    assert_memory_equal(why.message, "prefix number 99: prefix number 98: ", 36);
}

static void test_clean(void **state) {
    (void)state;
    slm_why why;
    (fail)(&why, SLM_E_FORMAT, 0, "tensor '%s'", "a\x1b[31m\n\xff\xc3\xa9\xc2\x9b");
    assert_string_equal(why.message, "tensor 'a?[31m?"
                                     "?\xc3\xa9?"
                                     "?'");
    /* a two-byte character across the last byte of the message is dropped whole */
    char name[600];
    memset(name, 'x', 510);
    strcpy(name + 510, "\xc3\xa9\xc3\xa9");
    (fail)(&why, SLM_E_FORMAT, 0, "%s", name);
    assert_int_equal(strlen(why.message), 510);
    assert_int_equal(utf8_valid(why.message, 510), 510);
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(err_name(SLM_OK), "OK");
    assert_string_equal(err_name(SLM_E_CHECKSUM), "E_CHECKSUM");
    assert_string_equal(err_text(SLM_E_ENCODING), "invalid UTF-8");
    assert_string_equal(err_name((slm_err)999), "E_UNKNOWN");
    assert_string_equal(err_text((slm_err)999), "unknown error");
    /* published numbers stay */
    assert_int_equal(SLM_E_NOMEM, 1);
    assert_int_equal(SLM_E_FORMAT, 3);
    assert_int_equal(SLM_E_CANCELLED, 7);
    assert_int_equal(SLM_E_CHECKSUM, 18);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
