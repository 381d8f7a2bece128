/* test_base_reader.c - little-endian reads and the sticky error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/reader.h"

static void test_values(void **state) {
    (void)state;
    static const uint8_t data[] = {
        0xff,                                           /* u8 */
        0x34, 0x12,                                     /* u16 */
        0x78, 0x56, 0x34, 0xf2,                         /* u32 */
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x81, /* u64 */
        0x00, 0x00, 0xc0, 0xbf,                         /* f32 -1.5 */
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x40, /* f64 2.5 */
        'a',  'b',
    };
    struct reader r;
    reader_init(&r, data, sizeof data, NULL);
    assert_int_equal(read_u8(&r), 0xff);
    assert_int_equal(read_u16(&r), 0x1234);
    assert_int_equal(read_u32(&r), 0xf2345678u);
    assert_true(read_u64(&r) == 0x8102030405060708u);
    assert_true(read_f32(&r) == -1.5f);
    assert_true(read_f64(&r) == 2.5);
    assert_memory_equal(read_bytes(&r, 2), "ab", 2);
    assert_int_equal(r.pos, sizeof data);
    assert_int_equal(r.err, SLM_OK);
    assert_non_null(read_bytes(&r, 0)); /* nothing, at the very end */
    read_skip(&r, 0);
    assert_int_equal(r.err, SLM_OK);
}

static void test_sticky(void **state) {
    (void)state;
    static const uint8_t data[] = { 1, 2, 3, 4, 5 };
    slm_why why = { 0 };
    struct reader r;
    reader_init(&r, data, sizeof data, &why);
    assert_int_equal(read_u16(&r), 0x0201);
    assert_int_equal(read_u32(&r), 0);
    assert_int_equal(r.err, SLM_E_FORMAT);
    assert_int_equal(why.offset, 2);
    assert_string_equal(why.message, "4 bytes wanted, 3 left");
    assert_int_equal(read_u8(&r), 0); /* there is a byte, but not after a failure */
    assert_true(read_f64(&r) == 0);
    assert_null(read_bytes(&r, 0));
    assert_int_equal(r.pos, 2);
    assert_int_equal(reader_fail(&r, SLM_E_BUDGET, "later"), SLM_E_FORMAT); /* first one stays */
    assert_string_equal(why.message, "4 bytes wanted, 3 left");
}

static void test_huge(void **state) {
    (void)state;
    static const uint8_t data[] = { 1, 2, 3 };
    slm_why why;
    for (int i = 0; i < 3; i++) { /* counts that would wrap an addition */
        static const uint64_t sizes[] = { UINT64_MAX, UINT64_MAX - 1, SIZE_MAX };
        struct reader r;
        reader_init(&r, data, sizeof data, &why);
        read_skip(&r, 2);
        assert_null(read_bytes(&r, sizes[i]));
        assert_int_equal(r.err, SLM_E_FORMAT);
        assert_int_equal(why.offset, 2);
    }
}

static void test_own_failure(void **state) {
    (void)state;
    slm_why why;
    struct reader r;
    reader_init(&r, NULL, 0, &why);
    assert_non_null(read_bytes(&r, 0));
    assert_int_equal(reader_fail(&r, SLM_E_UNSUPPORTED, "version %d", 9), SLM_E_UNSUPPORTED);
    assert_string_equal(why.message, "version 9");
    assert_int_equal(read_u8(&r), 0);
    assert_int_equal(r.err, SLM_E_UNSUPPORTED);
    reader_init(&r, NULL, 0, NULL);
    assert_int_equal(read_u64(&r), 0);
    assert_int_equal(r.err, SLM_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_own_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
