/* test_base_utf8.c - strict UTF-8 against a second, arithmetic definition of validity. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

static void test_every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp < 0xe000)
            continue;
        char s[4];
        size_t n = utf8_encode(cp, s);
        assert_int_equal(n, cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4);
        uint32_t back = 0;
        assert_int_equal(utf8_decode(s, n, &back), n);
        assert_int_equal(back, cp);
        for (size_t cut = 0; cut < n; cut++) { /* every proper prefix is incomplete, not wrong */
            assert_int_equal(utf8_decode(s, cut, &back), 0);
            assert_int_equal(utf8_complete(s, cut), 0);
        }
        assert_int_equal(utf8_complete(s, n), n);
    }
}

/* Decodes by arithmetic, then asks whether the shortest form of a scalar value was used. */
static size_t slow_decode(const uint8_t *p, size_t n) {
    size_t len = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t cp = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        cp = cp * 64 + (p[i] & 63);
    }
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    bool good = cp >= least[len] && cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
    return good ? len : 0;
}

static void test_byte_pairs(void **state) {
    (void)state;
    static const uint8_t tails[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff };
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t c = 0; c < sizeof tails; c++)
                for (size_t d = 0; d < sizeof tails; d++) {
                    uint8_t p[4] = { (uint8_t)a, (uint8_t)b, tails[c], tails[d] };
                    uint32_t cp;
                    size_t want = slow_decode(p, 4);
                    assert_int_equal(utf8_decode((const char *)p, 4, &cp), want);
                }
}

static void test_valid(void **state) {
    (void)state;
    char text[64];
    memset(text, 'a', sizeof text);
    assert_int_equal(utf8_valid(text, 0), 0);
    assert_int_equal(utf8_valid(text, 64), 64);
    for (size_t at = 0; at < 64; at++) { /* the offset is exact wherever the bad byte stands */
        text[at] = (char)0xff;
        assert_int_equal(utf8_valid(text, 64), at);
        text[at] = (char)0xc3; /* a lead without its second byte, also at the very end */
        assert_int_equal(utf8_valid(text, 64), at);
        text[at] = 'a';
    }
    assert_int_equal(utf8_valid("\xe2\x82\xac", 3), 3);
    assert_int_equal(utf8_valid("\xe2\x82", 2), 0);
    assert_int_equal(utf8_valid("\xed\xa0\x80", 3), 0);     /* surrogate */
    assert_int_equal(utf8_valid("\xc0\x80", 2), 0);         /* overlong */
    assert_int_equal(utf8_valid("\xf4\x90\x80\x80", 4), 0); /* U+110000 */
    assert_int_equal(utf8_valid("x\0y", 3), 3);             /* a zero byte is a character */
}

static void test_complete(void **state) {
    (void)state;
    assert_int_equal(utf8_complete("abc\xe2\x82", 5), 3);
    assert_int_equal(utf8_complete("abc\xf0\x9f\x98", 6), 3);
    assert_int_equal(utf8_complete("abc\xf0", 4), 3);
    assert_int_equal(utf8_complete("abc\xff", 4), 4);     /* never part of a character */
    assert_int_equal(utf8_complete("abc\xed\xa0", 5), 5); /* can only become a surrogate */
    assert_int_equal(utf8_complete("abc\xf4\x90", 5), 5);
    assert_int_equal(utf8_complete("abc\xe0\x80", 5), 5);
    assert_int_equal(utf8_complete("\x80\x80\x80\x80", 4), 4); /* tails without a lead */
    assert_int_equal(utf8_complete("", 0), 0);
    assert_int_equal(utf8_complete("\xc3", 1), 0);
    assert_int_equal(utf8_complete("\xc3\xa9", 2), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_byte_pairs),
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
