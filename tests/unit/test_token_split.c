/* test_token_split.c - scanners and NFC against what the official library made of random texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "support.h"
#include "token/nfc.h"
#include "token/split.h"
#include "token/unicode.h"

static json_t *load(const char *rel) {
    char path[512];
    assert_non_null(data_path(path, sizeof path, rel));
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    return root;
}

static void test_golden_splits(void **state) {
    (void)state;
    static const struct {
        const char *key;
        enum token_split split;
    } kinds[] = { { "qwen2", SPLIT_QWEN2 }, { "llama3", SPLIT_LLAMA3 }, { "o200k", SPLIT_O200K } };
    json_t *root = load("data/token/splits.json");
    size_t wrong = 0, n_rows = 0;
    for (size_t k = 0; k < 3; k++) {
        json_t *rows = json_object_get(root, kinds[k].key), *row;
        size_t i;
        json_array_foreach(rows, i, row) {
            const json_t *text = json_array_get(row, 0), *lengths = json_array_get(row, 1);
            const uint8_t *s = (const uint8_t *)json_string_value(text);
            size_t n = json_string_length(text), piece = 0;
            for (size_t pos = 0; pos < n; piece++) {
                size_t end = split_next(kinds[k].split, s, n, pos);
                assert_true(end > pos && end <= n);
                if ((json_int_t)(end - pos) != json_integer_value(json_array_get(lengths, piece))) {
                    char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
                    print_message("%s: %s: piece %zu has %zu bytes\n", kinds[k].key, shown, piece,
                                  end - pos);
                    free(shown);
                    wrong++;
                    break;
                }
                pos = end;
            }
            n_rows++;
        }
    }
    json_decref(root);
    assert_int_equal(n_rows, 1200);
    assert_int_equal(wrong, 0);
}

static void test_golden_nfc(void **state) {
    (void)state;
    json_t *root = load("data/token/nfc.json"), *row;
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    size_t i, wrong = 0;
    json_array_foreach(root, i, row) {
        const json_t *text = json_array_get(row, 0), *want = json_array_get(row, 1);
        struct buf out;
        buf_init(&out, &hooks, 1 << 16);
        bool changed;
        assert_int_equal(nfc_text(&hooks, json_string_value(text), json_string_length(text), &out,
                                  &changed, NULL),
                         SLM_OK);
        const char *got = changed ? out.data : json_string_value(text);
        size_t n = changed ? out.len : json_string_length(text);
        if (n != json_string_length(want) || memcmp(got, json_string_value(want), n) != 0) {
            char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
            print_message("NFC of %s differs\n", shown);
            free(shown);
            wrong++;
        }
        buf_free(&out);
    }
    assert_int_equal(i, 400);
    json_decref(root);
    assert_int_equal(wrong, 0);
}

/* A million marks in the worst order: quadratic sorting would not come back. */
static void test_nfc_long_run(void **state) {
    (void)state;
    enum { PAIRS = 1 << 19 };
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    char *text = malloc(1 + PAIRS * 4);
    text[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++)
        memcpy(text + 1 + i * 4, i < PAIRS / 2 ? "\xcd\x85\xcc\x95" : "\xcc\xa3\xcc\xb4", 4);
    struct buf out;
    buf_init(&out, &hooks, 1 << 28);
    bool changed;
    assert_int_equal(nfc_text(&hooks, text, 1 + PAIRS * 4, &out, &changed, NULL), SLM_OK);
    assert_true(changed);
    assert_int_equal(out.len, 1 + PAIRS * 4);
    /* class 1 (U+0334), then 220 (U+0323), 232 (U+0315), 240 (U+0345) */
    assert_memory_equal(out.data, "q\xcc\xb4\xcc\xb4", 5);
    assert_memory_equal(out.data + out.len - 4, "\xcd\x85\xcd\x85", 4);
    buf_free(&out);
    free(text);
}

static void test_patterns_by_text(void **state) {
    (void)state;
    const char *qwen = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                       "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    assert_int_equal(split_by_pattern(qwen, strlen(qwen)), SPLIT_QWEN2);
    assert_int_equal(split_by_pattern(qwen, strlen(qwen) - 1), SPLIT_NONE);
    assert_int_equal(split_by_pattern("", 0), SPLIT_NONE);
}

/* The table against counts of Unicode 16.0.0, and ASCII by hand. */
static void test_classes(void **state) {
    (void)state;
    size_t count[8] = { 0 };
    for (uint32_t cp = 0; cp < 0x110000; cp++)
        count[char_class(cp)]++;
    assert_int_equal(count[CC_UPPER], 1858 + 31);
    assert_int_equal(count[CC_LOWER], 2258);
    assert_int_equal(count[CC_LETTER], 404 + 136477);
    assert_int_equal(count[CC_MARK], 2501);
    assert_int_equal(count[CC_NUMBER], 1911);
    assert_int_equal(count[CC_SPACE], 25);
    for (uint32_t cp = 0; cp < 128; cp++) {
        enum char_class want = cp >= 'a' && cp <= 'z'               ? CC_LOWER
                               : cp >= 'A' && cp <= 'Z'             ? CC_UPPER
                               : cp >= '0' && cp <= '9'             ? CC_NUMBER
                               : cp == ' ' || (cp >= 9 && cp <= 13) ? CC_SPACE
                                                                    : CC_OTHER;
        assert_int_equal(char_class(cp), want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_splits), cmocka_unit_test(test_golden_nfc),
        cmocka_unit_test(test_nfc_long_run),  cmocka_unit_test(test_patterns_by_text),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests_name("token_split", tests, NULL, NULL);
}
