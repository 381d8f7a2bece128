/* test_base_number.c - decimal text to numbers, in this and in another locale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/json.h"
#include "base/number.h"

static void check_values(void) {
    static const struct {
        const char *text;
        double value;
    } good[] = {
        { "0", 0.0 },          { "1.5", 1.5 },
        { "-2.25e2", -225.0 }, { "1e-6", 1e-6 },
        { ".5", 0.5 },         { "5.", 5.0 },
        { "1E+3", 1000.0 },    { "0.1", 0.1 },
        { "1e400", INFINITY }, { "179769313486231570000000000000000000000", 1.7976931348623157e38 }
    };
    static const char *const bad[] = { "",    "x",  "1.5.5", "1,5", "0x10", "nan",
                                       "inf", " 1", "1 ",    "1e",  "-",    "." };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        double d = 7.0;
        assert_true(number_read(good[i].text, strlen(good[i].text), &d));
        assert_true(d == good[i].value);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        double d = 7.0;
        assert_false(number_read(bad[i], strlen(bad[i]), &d));
        assert_true(d == 7.0);
    }
}

static void check_json(void) {
    json_t *j = NULL;
    slm_why why;
    assert_int_equal(json_text("[1.25e1,0.5]", 12, &j, &why), SLM_OK);
    assert_true(json_real_value(json_array_get(j, 0)) == 12.5);
    assert_true(json_real_value(json_array_get(j, 1)) == 0.5);
    json_decref(j);
}

static void test_values(void **state) {
    (void)state;
    check_values();
    check_json();
}

static void test_length(void **state) {
    char text[NUMBER_TEXT_MAX + 2];
    double d;
    (void)state;
    memset(text, '1', sizeof text);
    text[1] = '.';
    assert_true(number_read(text, NUMBER_TEXT_MAX, &d));
    assert_false(number_read(text, NUMBER_TEXT_MAX + 1, &d));
    assert_true(number_read("1\0", 1, &d));
    assert_false(number_read("1\0", 2, &d));
}

/* A locale of our own that writes a comma, where localedef and its sources are installed. */
static void test_comma(void **state) {
    char dir[] = "/tmp/slm-locale-XXXXXX", command[512];
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command,
             "localedef -c -i de_DE -f UTF-8 %s/de_DE.UTF-8 >/dev/null 2>&1; test -f "
             "%s/de_DE.UTF-8/LC_NUMERIC",
             dir, dir);
    bool made = system(command) == 0;
    if (made) {
        setenv("LOCPATH", dir, 1);
        made = setlocale(LC_NUMERIC, "de_DE.UTF-8") != NULL;
    }
    if (made) {
        char half[16];
        snprintf(half, sizeof half, "%.1f", 0.5);
        assert_string_equal(half, "0,5");
        check_values();
        check_json();
        setlocale(LC_NUMERIC, "C");
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    if (!made) {
        print_message("# skip no localedef, or no source of de_DE\n");
        skip();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_comma),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
