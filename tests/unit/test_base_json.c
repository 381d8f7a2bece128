/* test_base_json.c - both readers of JSON and the writer of strings. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/pool.h"
#include "support.h"

/* ---- pull parser: a document as a line of events ---- */

static void events_of(const char *text, size_t n, struct buf *out, slm_err *err, uint64_t *offset) {
    struct json_pull p;
    slm_why why = { .offset = SLM_NO_OFFSET };
    json_pull_init(&p, NULL, text, n, &why);
    for (;;) {
        enum json_event e = json_next(&p);
        static const char *names[] = {
            "!", "$", "{", "}", "[", "]", "k:", "s:", "n:", "T", "F", "N"
        };
        buf_printf(out, "%s", names[e]);
        if (e == PULL_KEY || e == PULL_STRING || e == PULL_NUMBER)
            buf_put(out, p.text, p.n);
        if (e == PULL_END || e == PULL_ERROR) {
            assert_int_equal(json_next(&p), e); /* stays so */
            break;
        }
        buf_putc(out, ' ');
    }
    *err = p.err;
    *offset = why.offset;
    json_pull_free(&p);
}

static void test_events(void **state) {
    (void)state;
    static const char *cases[][2] = {
        { "{}", "{ } $" },
        { " [ ] ", "[ ] $" },
        { "0", "n:0 $" },
        { "-0.5e+10", "n:-0.5e+10 $" },
        { "[1,2.0,3E5,-4e-2]", "[ n:1 n:2.0 n:3E5 n:-4e-2 ] $" },
        { "\"\"", "s: $" },
        { "{\"a\":{\"b\":[true,false,null]},\"c\":\"d\"}", "{ k:a { k:b [ T F N ] } k:c s:d } $" },
        { "\t\r\n {\"a\" : 1 , \"b\" : [ 2 , 3 ] }\n", "{ k:a n:1 k:b [ n:2 n:3 ] } $" },
        { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s:\"\\/\b\f\n\r\t $" },
        { "\"x\\u0041\\u00e9\\u20AC\\ud83d\\ude00y\"",
          "s:xA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80y $" },
        { "\"\xc3\xa9\xf0\x9f\x98\x80 plain text that is longer than eight bytes\"",
          "s:\xc3\xa9\xf0\x9f\x98\x80 plain text that is longer than eight bytes $" },
        { "{\"k\\n\":\"\\u0020\"}", "{ k:k\n s:  } $" },
        { "\"\x7f\"", "s:\x7f $" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out;
        buf_init(&out, NULL, 10000);
        slm_err err;
        uint64_t offset;
        events_of(cases[i][0], strlen(cases[i][0]), &out, &err, &offset);
        assert_string_equal(out.data, cases[i][1]);
        assert_int_equal(err, SLM_OK);
        buf_free(&out);
    }
}

static void test_zero_in_string(void **state) {
    (void)state;
    struct json_pull p;
    json_pull_init(&p, NULL, "\"a\\u0000b\"", 10, NULL);
    assert_int_equal(json_next(&p), PULL_STRING);
    assert_int_equal(p.n, 3);
    assert_memory_equal(p.text, "a\0b", 3);
    json_pull_free(&p);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *text;
        slm_err err;
        uint64_t offset;
    } cases[] = {
        { "", SLM_E_FORMAT, 0 },
        { "   ", SLM_E_FORMAT, 3 },
        { "{", SLM_E_FORMAT, 1 },
        { "[", SLM_E_FORMAT, 1 },
        { "[1", SLM_E_FORMAT, 2 },
        { "[1,]", SLM_E_FORMAT, 3 },
        { "[,1]", SLM_E_FORMAT, 1 },
        { "[1 2]", SLM_E_FORMAT, 3 },
        { "[1}", SLM_E_FORMAT, 2 },
        { "{\"a\":1]", SLM_E_FORMAT, 6 },
        { "]", SLM_E_FORMAT, 0 },
        { "{a:1}", SLM_E_FORMAT, 1 },
        { "{\"a\"}", SLM_E_FORMAT, 4 },
        { "{\"a\":}", SLM_E_FORMAT, 5 },
        { "{\"a\":1,}", SLM_E_FORMAT, 7 },
        { "{\"a\":1 \"b\":2}", SLM_E_FORMAT, 7 },
        { "{1:2}", SLM_E_FORMAT, 1 },
        { "1 1", SLM_E_FORMAT, 2 },
        { "{}x", SLM_E_FORMAT, 2 },
        { "01", SLM_E_FORMAT, 1 },
        { "-01", SLM_E_FORMAT, 2 },
        { "+1", SLM_E_FORMAT, 0 },
        { ".5", SLM_E_FORMAT, 0 },
        { "1.", SLM_E_FORMAT, 2 },
        { "1.e5", SLM_E_FORMAT, 2 },
        { "1e", SLM_E_FORMAT, 2 },
        { "1e+", SLM_E_FORMAT, 3 },
        { "-", SLM_E_FORMAT, 1 },
        { "0x10", SLM_E_FORMAT, 1 },
        { "NaN", SLM_E_FORMAT, 0 },
        { "Infinity", SLM_E_FORMAT, 0 },
        { "tru", SLM_E_FORMAT, 0 },
        { "truex", SLM_E_FORMAT, 4 },
        { "nul", SLM_E_FORMAT, 0 },
        { "'a'", SLM_E_FORMAT, 0 },
        { "\"a", SLM_E_FORMAT, 2 },
        { "\"a\\\"", SLM_E_FORMAT, 4 },
        { "\"a\nb\"", SLM_E_FORMAT, 2 },
        { "\"\x1f\"", SLM_E_FORMAT, 1 },
        { "\"\\x41\"", SLM_E_FORMAT, 2 },
        { "\"\\u12g4\"", SLM_E_FORMAT, 3 },
        { "\"\\u12", SLM_E_FORMAT, 3 },
        { "\"\\ud800\"", SLM_E_ENCODING, 1 },
        { "\"\\udc00\"", SLM_E_ENCODING, 1 },
        { "\"\\ud800\\ud800\"", SLM_E_ENCODING, 1 },
        { "\"\\ud800x\"", SLM_E_ENCODING, 1 },
        { "\"abc\xff\"", SLM_E_ENCODING, 4 },
        { "\"\xc0\x80\"", SLM_E_ENCODING, 1 },
        { "\"\xed\xa0\x80\"", SLM_E_ENCODING, 1 },
        { "\"0123456789\xf4\x90\x80\x80\"", SLM_E_ENCODING, 11 },
        { "\"\xe2\x82\"", SLM_E_ENCODING, 1 },
        { "\xef\xbb\xbf{}", SLM_E_FORMAT, 0 }, /* a byte order mark is not JSON */
        { "// x\n1", SLM_E_FORMAT, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out;
        buf_init(&out, NULL, 10000);
        slm_err err;
        uint64_t offset;
        events_of(cases[i].text, strlen(cases[i].text), &out, &err, &offset);
        if (err != cases[i].err || offset != cases[i].offset)
            print_message("case: %s\n", cases[i].text);
        assert_int_equal(err, cases[i].err);
        assert_int_equal(offset, cases[i].offset);
        buf_free(&out);
    }
}

static void test_depth(void **state) {
    (void)state;
    char text[300];
    for (unsigned depth = 63; depth <= 66; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct buf out;
        buf_init(&out, NULL, 10000);
        slm_err err;
        uint64_t offset;
        events_of(text, (size_t)depth * 2, &out, &err, &offset);
        assert_int_equal(err, depth <= JSON_PULL_DEPTH ? SLM_OK : SLM_E_BUDGET);
        buf_free(&out);
    }
}

static void test_skip(void **state) {
    (void)state;
    static const char text[] = "{\"a\":[1,{\"b\":[]}],\"c\":{},\"d\":4,\"e\":\"x\"}";
    struct json_pull p;
    json_pull_init(&p, NULL, text, sizeof text - 1, NULL);
    assert_int_equal(json_next(&p), PULL_OBJECT);
    char seen[8] = "";
    for (enum json_event e; (e = json_next(&p)) == PULL_KEY;) {
        strncat(seen, p.text, p.n);
        if (seen[strlen(seen) - 1] == 'c')
            json_skip(&p, PULL_KEY); /* the key's value */
        else
            json_skip(&p, json_next(&p));
    }
    assert_string_equal(seen, "acde");
    assert_int_equal(json_next(&p), PULL_END);
    json_pull_free(&p);
    json_pull_init(&p, NULL, "[[[1,", 5, NULL); /* ends inside: skipping ends too */
    json_skip(&p, json_next(&p));
    assert_int_equal(json_next(&p), PULL_ERROR);
    json_pull_free(&p);
}

static void test_int(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {
        { "0", true, 0 },
        { "-0", true, 0 },
        { "151645", true, 151645 },
        { "9223372036854775807", true, INT64_MAX },
        { "-9223372036854775808", true, INT64_MIN },
        { "9223372036854775808", false, 0 },
        { "-9223372036854775809", false, 0 },
        { "99999999999999999999", false, 0 },
        { "1.0", false, 0 },
        { "1e2", false, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct json_pull p;
        json_pull_init(&p, NULL, cases[i].text, strlen(cases[i].text), NULL);
        assert_int_equal(json_next(&p), PULL_NUMBER);
        int64_t value = 77;
        assert_int_equal(json_pull_int(&p, &value), cases[i].ok);
        assert_true(value == (cases[i].ok ? cases[i].value : 77));
        json_pull_free(&p);
    }
}

/* a caller's own failure keeps the position and ends the parse */
static void test_own_failure(void **state) {
    (void)state;
    struct json_pull p;
    slm_why why;
    json_pull_init(&p, NULL, "[1,2]", 5, &why);
    json_next(&p);
    json_next(&p);
    assert_int_equal(json_pull_fail(&p, SLM_E_UNSUPPORTED, "no %s", "ones"), SLM_E_UNSUPPORTED);
    assert_int_equal(why.offset, 2);
    assert_string_equal(why.message, "no ones");
    assert_int_equal(json_next(&p), PULL_ERROR);
    assert_int_equal(json_pull_fail(&p, SLM_E_FORMAT, "x"), SLM_E_UNSUPPORTED);
    json_pull_free(&p);
}

/* every cut of a document is an error or a shorter valid one, and never reads past its end */
static void test_truncation(void **state) {
    (void)state;
    static const char text[] =
        "{\"k\\u00e9y\":[1.5e3,true,\"\\ud83d\\ude00\xe2\x82\xac\"],\"n\":null}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *copy = malloc(n ? n : 1); /* exact, for the sanitizer */
        memcpy(copy, text, n);
        struct buf out;
        buf_init(&out, NULL, 10000);
        slm_err err;
        uint64_t offset;
        events_of(copy, n, &out, &err, &offset);
        assert_int_not_equal(err, SLM_OK);
        assert_true(offset <= n);
        buf_free(&out);
        free(copy);
    }
}

static void test_pull_oom(void **state) {
    (void)state;
    struct test_hooks t;
    for (size_t k = 1;; k++) {
        test_hooks_init(&t, k);
        struct json_pull p;
        json_pull_init(&p, &t.hooks, "[\"\\n\",\"plain\"]", 14, NULL);
        enum json_event e;
        do
            e = json_next(&p);
        while (e != PULL_END && e != PULL_ERROR);
        slm_err err = p.err;
        json_pull_free(&p);
        assert_int_equal(t.live, 0);
        if (!t.failed) {
            assert_int_equal(err, SLM_OK);
            assert_int_equal(t.requests, 1); /* one buffer, for the string with an escape */
            break;
        }
        assert_int_equal(err, SLM_E_NOMEM);
    }
}

/* A million strings of ten bytes; the floor is far below what an idle core does, so that a busy
 * machine passes and a scan that became quadratic or copies everything does not. */
static void test_speed(void **state) {
    (void)state;
    enum { N = 1000000 };
    struct buf b;
    buf_init(&b, NULL, (size_t)64 << 20);
    buf_putc(&b, '[');
    for (int i = 0; i < N; i++)
        buf_puts(&b, i ? ",\"ten bytes.\"" : "\"ten bytes.\"");
    buf_putc(&b, ']');
    struct json_pull p;
    uint64_t begin = clock_ns();
    json_pull_init(&p, NULL, b.data, b.len, NULL);
    size_t strings = 0;
    for (enum json_event e; (e = json_next(&p)) != PULL_END && e != PULL_ERROR;)
        strings += e == PULL_STRING;
    double seconds = (double)(clock_ns() - begin) / 1e9;
    json_pull_free(&p);
    assert_int_equal(strings, N);
    print_message("# pull parser: %.0f MB/s\n", (double)b.len / seconds / 1e6);
#if !defined(HAVE_ASAN) && !defined(__SANITIZE_THREAD__) && defined(__OPTIMIZE__)
    assert_true((double)b.len / seconds > 20e6);
#endif
    buf_free(&b);
}

/* ---- trees ---- */

static void test_text(void **state) {
    (void)state;
    slm_why why;
    json_t *root;
    assert_int_equal(json_text("{\"a\":[1,2]}", 11, &root, &why), SLM_OK);
    assert_int_equal(json_array_size(json_object_get(root, "a")), 2);
    json_decref(root);
    assert_int_equal(json_text("7", 1, &root, &why), SLM_OK);
    json_decref(root);
    static const char *bad[] = {
        "",       "{\"a\":1,\"a\":2}", "[1", "[1] x", "\"\\u0000\"", "{\"\\u0000\":1}", "\"\xff\"",
        "[1e999]"
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        root = (json_t *)1;
        assert_int_equal(json_text(bad[i], strlen(bad[i]), &root, &why),
                         strcmp(bad[i], "\"\xff\"") == 0 ? SLM_E_ENCODING : SLM_E_FORMAT);
        assert_null(root);
        assert_true(why.offset <= strlen(bad[i]));
    }
    assert_int_equal(json_text("[2\0]", 4, &root, &why), SLM_E_FORMAT);
    assert_int_equal(why.offset, 2);
    char deep[5000];
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_text(deep, sizeof deep, &root, &why), SLM_E_BUDGET);
    static const char number[] = "[-0, -0.0, 1.5e3, 9223372036854775807, 1E-400, 0.1]";
    assert_int_equal(json_text(number, sizeof number - 1, &root, &why), SLM_OK);
    assert_true(json_is_integer(json_array_get(root, 0)) && json_is_real(json_array_get(root, 1)));
    assert_true(json_real_value(json_array_get(root, 2)) == 1500.0);
    assert_true(json_integer_value(json_array_get(root, 3)) == INT64_MAX);
    assert_true(json_real_value(json_array_get(root, 4)) == 0.0);
    assert_true(json_real_value(json_array_get(root, 5)) == 0.1);
    json_decref(root);
    assert_int_equal(json_text("[9223372036854775808]", 21, &root, &why), SLM_E_FORMAT);
}

static void test_fields(void **state) {
    (void)state;
    json_t *o;
    static const char text[] =
        "{\"n\":28,\"f\":1e-6,\"b\":true,\"s\":\"silu\",\"z\":null,\"neg\":-1,"
        "\"big\":4294967296,\"top\":4294967295,\"real\":3.0}";
    assert_int_equal(json_text(text, sizeof text - 1, &o, NULL), SLM_OK);
    slm_why why;
    struct json_want w = { .why = &why, .where = "config.json" };
    uint32_t u = 5;
    double d = 5;
    bool b = false;
    const char *s = "old";
    assert_true(json_u32(&w, o, "n", &u) && u == 28);
    assert_true(json_u32(&w, o, "top", &u) && u == UINT32_MAX);
    assert_true(json_f64(&w, o, "f", &d) && d == 1e-6);
    assert_true(json_f64(&w, o, "n", &d) && d == 28);
    assert_true(json_bool(&w, o, "b", &b) && b);
    assert_true(json_str(&w, o, "s", &s));
    assert_string_equal(s, "silu");
    u = 5;
    assert_false(json_u32(&w, o, "absent", &u));
    assert_false(json_u32(&w, o, "z", &u));
    assert_false(json_u32(&w, NULL, "n", &u));
    assert_int_equal(u, 5);
    assert_int_equal(w.err, SLM_OK);
    static const char *wrong[] = { "neg", "big", "real", "s", "b" };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        w.err = SLM_OK;
        assert_false(json_u32(&w, o, wrong[i], &u));
        assert_int_equal(w.err, SLM_E_FORMAT);
        assert_non_null(strstr(why.message, wrong[i]));
        assert_memory_equal(why.message, "config.json: ", 13);
    }
    assert_false(json_str(&w, o, "n", &s)); /* the first one stays */
    assert_non_null(strstr(why.message, "'b'"));
    w.err = SLM_OK;
    assert_false(json_str(&w, o, "n", &s));
    assert_string_equal(why.message, "config.json: 'n' is a whole number, expected a string");
    w.err = SLM_OK;
    assert_false(json_bool(&w, o, "n", &b));
    w.err = SLM_OK;
    assert_false(json_f64(&w, o, "s", &d));
    assert_int_equal(w.err, SLM_E_FORMAT);
    json_decref(o);
}

static void test_quote(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, NULL, 100000);
    json_quote(&b, "a\"\\\b\f\n\r\t/\x01\x1f\0\x7f\xc3\xa9", 15);
    assert_string_equal(b.data, "\"a\\\"\\\\\\b\\f\\n\\r\\t/\\u0001\\u001f\\u0000\x7f\xc3\xa9\"");
    buf_free(&b);
    json_quote(&b, "x\xff\xc3y\xe2\x82", 6);
    assert_string_equal(b.data, "\"x\xef\xbf\xbd\xef\xbf\xbdy\xef\xbf\xbd\xef\xbf\xbd\"");
    buf_free(&b);
    json_quote(&b, "", 0);
    assert_string_equal(b.data, "\"\"");
    buf_free(&b);
    /* what was written reads back, for every code point below U+3000 */
    char text[4 * 0x3000];
    size_t n = 0;
    for (unsigned cp = 1; cp < 0x3000; cp++) {
        if (cp < 0x80) {
            text[n++] = (char)cp;
        } else if (cp < 0x800) {
            text[n++] = (char)(0xc0 | cp >> 6);
            text[n++] = (char)(0x80 | (cp & 63));
        } else {
            text[n++] = (char)(0xe0 | cp >> 12);
            text[n++] = (char)(0x80 | (cp >> 6 & 63));
            text[n++] = (char)(0x80 | (cp & 63));
        }
    }
    json_quote(&b, text, n);
    assert_int_equal(b.err, SLM_OK);
    struct json_pull p;
    json_pull_init(&p, NULL, b.data, b.len, NULL);
    assert_int_equal(json_next(&p), PULL_STRING);
    assert_int_equal(p.n, n);
    assert_memory_equal(p.text, text, n);
    json_pull_free(&p);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),      cmocka_unit_test(test_zero_in_string),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_skip),        cmocka_unit_test(test_int),
        cmocka_unit_test(test_own_failure), cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_pull_oom),    cmocka_unit_test(test_speed),
        cmocka_unit_test(test_text),        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
