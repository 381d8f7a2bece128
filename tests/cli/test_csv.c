/* test_csv.c - the CSV parser on the cases of tests/data/csv/cases.jsonl, whole and cut at every byte;
 * limits; and quoting, which reads back as what was written. In the cases each character is a byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/csv.h"
#include "support.h"

/* Characters up to U+00FF as bytes. */
static char *bytes_of(const json_t *text, size_t *n) {
    const unsigned char *s = (const unsigned char *)json_string_value(text);
    size_t len = json_string_length(text);
    char *out = malloc(len + 1);
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        bool pair = s[i] >= 0x80;
        out[(*n)++] = pair ? (char)((s[i] & 3) << 6 | (s[i + 1] & 63)) : (char)s[i];
        i += pair;
    }
    return out;
}

static void check_event(const char *name, const struct csv *c, enum csv_event e,
                        const json_t *events, size_t at) {
    const json_t *want = json_array_get(events, at);
    if (json_is_string(want)) {
        if (e != CSV_BAD || strcmp(c->wrong, json_string_value(want)) != 0)
            fail_msg("%s: event %zu is not '%s'", name, at, json_string_value(want));
        return;
    }
    if (e != CSV_RECORD || c->n_fields != json_array_size(want))
        fail_msg("%s: event %zu: %zu fields", name, at, c->n_fields);
    for (size_t i = 0; i < c->n_fields; i++) {
        size_t n, k;
        const char *got = csv_field(c, i, &n);
        char *field = bytes_of(json_array_get(want, i), &k);
        if (n != k || memcmp(got, field, n) != 0 || got[n] != '\0')
            fail_msg("%s: event %zu, field %zu is '%s'", name, at, i, got);
        free(field);
    }
}

/* Reads bytes [n] in two pieces. */
static void check_cut(const char *name, const char *bytes, size_t n, size_t cut,
                      const json_t *events) {
    struct csv c;
    size_t at = 0, seen = 0, used;
    enum csv_event e;
    csv_init(&c, 1 << 20);
    while (at < n) {
        size_t end = at < cut ? cut : n;
        e = csv_read(&c, bytes + at, end - at, &used);
        at += used;
        assert_true(used > 0 && at <= end);
        if (e != CSV_MORE)
            check_event(name, &c, e, events, seen++);
    }
    e = csv_end(&c);
    if (e != CSV_MORE)
        check_event(name, &c, e, events, seen++);
    assert_int_equal(csv_end(&c), CSV_MORE);
    if (seen != json_array_size(events))
        fail_msg("%s: %zu events", name, seen);
    csv_free(&c);
}

static void cases(void **state) {
    (void)state;
    char path[512], *line, *rest;
    size_t n_cases = 0;
    char *text = slurp(data_path(path, sizeof path, "data/csv/cases.jsonl"), NULL);
    assert_non_null(text);
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        json_t *doc = json_loads(line, JSON_ALLOW_NUL, NULL);
        size_t n;
        char *bytes = bytes_of(json_object_get(doc, "in"), &n);
        char *exact = malloc(n > 0 ? n : 1); /* so that a sanitizer sees a byte too many */
        memcpy(exact, bytes, n);
        for (size_t cut = 0; cut <= n; cut++)
            check_cut(json_string_value(json_object_get(doc, "name")), exact, n, cut,
                      json_object_get(doc, "events"));
        free(exact);
        free(bytes);
        json_decref(doc);
        n_cases++;
    }
    assert_true(n_cases >= 28);
    free(text);
}

static void limits(void **state) {
    (void)state;
    struct csv c;
    size_t used;
    csv_init(&c, 16);
    assert_int_equal(csv_read(&c, "0123456789abcdefgh\nx\n", 21, &used), CSV_BAD);
    assert_int_equal(used, 19);
    assert_string_equal(c.wrong, "the record is too long");
    assert_int_equal(csv_read(&c, "x\n", 2, &used), CSV_RECORD);
    assert_int_equal(c.line, 2);
    csv_free(&c);
    csv_init(&c, 1 << 20);
    for (size_t i = 0; i < CSV_FIELDS_MAX; i++)
        assert_int_equal(csv_read(&c, ",", 1, &used), CSV_MORE);
    assert_int_equal(csv_read(&c, "\n", 1, &used), CSV_BAD);
    assert_string_equal(c.wrong, "too many fields");
    csv_free(&c);
}

static void quoting(void **state) {
    (void)state;
    static const char *const fields[] = { "",          "a",  "a b", "a,b", "\"",
                                          "say \"x\"", "\n", "\r",  " ",   "\r\n,\"\"" };
    struct buf b;
    struct csv c;
    size_t used, n;
    buf_init(&b, NULL, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (i > 0)
            buf_putc(&b, ',');
        csv_quote(&b, fields[i], strlen(fields[i]));
    }
    buf_putc(&b, '\n');
    csv_init(&c, 1 << 20);
    assert_int_equal(csv_read(&c, b.data, b.len, &used), CSV_RECORD);
    assert_int_equal(c.n_fields, ARRAY_LEN(fields));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        assert_string_equal(csv_field(&c, i, &n), fields[i]);
    csv_free(&c);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(cases), cmocka_unit_test(limits),
                                        cmocka_unit_test(quoting) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
