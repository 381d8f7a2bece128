/* test_constrain_walk.c - choices, expressions and any JSON object: what is of the language, masks
 * against the trial of every token, forced bytes, keys that must not repeat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "constrain_walk.h"

static struct pieces pieces;
static struct constrain_vocab *vocab;

static void new_vocab(void) {
    constrain_vocab_free(vocab);
    vocab = NULL;
    assert_int_equal(constrain_vocab_new(NULL, pieces.tokens, pieces.n, &vocab, NULL), SLM_OK);
}

static struct matcher *matcher_of(const struct grammar *g) {
    struct matcher *m = NULL;
    assert_int_equal(matcher_new(NULL, g, vocab, &m, NULL), SLM_OK);
    return m;
}

static struct grammar *regex(const char *pattern) {
    struct grammar *g = NULL;
    slm_why why = { .message = "" };
    slm_err err = grammar_regex(NULL, pattern, strlen(pattern), NULL, &g, &why);
    if (err != SLM_OK)
        printf("# %s: %s\n", pattern, why.message);
    assert_int_equal(err, SLM_OK);
    return g;
}

/* Every prefix has the right mask; the text is of the language or not, in bytes and in tokens. */
static void check_text(const struct grammar *g, const char *s, size_t n, bool want) {
    struct matcher *m = matcher_of(g);
    struct rng r = { 7 };
    bool ends;
    size_t good = walk_bytes(m, s, n, &ends);
    if (ends != want)
        printf("# '%.*s': %zu bytes are read\n", (int)n, s, good);
    assert_int_equal(ends, want);
    for (size_t i = 0; i <= good; i += 1 + i / 8) {
        matcher_reset(m);
        assert_true(i == 0 || matcher_accept_bytes(m, s, i));
        if (!matcher_must_end(m))
            assert_true(mask_is_right(m, &pieces, s, i));
    }
    for (int i = 0; i < 4 && want; i++)
        assert_true(walk_tokens(m, &pieces, &r, s, n));
    matcher_free(m);
}

static void check(const struct grammar *g, const char *s, bool want) {
    check_text(g, s, strlen(s), want);
}

/* ------------------------------------------------------------------ expressions */

static const struct {
    const char *pattern, *yes[6], *no[6];
} expressions[] = {
    { "abc", { "abc" }, { "", "ab", "abcd", "xabc" } },
    { "", { "" }, { "a" } },
    { "a*b+c?", { "b", "aabbc", "bc" }, { "", "a", "bcc" } },
    { "(ab|a)(c|bc)", { "abc", "abbc", "ac" }, { "ab", "abcc" } },
    { "^abc$", { "abc" }, { "abcabc", "^abc$" } },
    { "(^a|b)c$", { "ac", "bc" }, { "c" } },
    { "a^b", { NULL }, { "ab", "a^b" } },
    { "[a-c]{2,3}", { "ab", "cab" }, { "a", "abca", "ad" } },
    { "[^a-c\\d]", { "d", "\xc3\xa9", "\xf0\x9f\x98\x80", " " }, { "a", "5", "\xc3", "dd" } },
    { "[\\w-]+", { "a-b_1" }, { "a b", "" } },
    { "[a\\-z]+", { "a-z" }, { "b" } },
    { "[]a]", { NULL }, { "a" } },
    { "[]", { NULL }, { "", "a" } },
    { "[^]", { "a", "\n", "\xe2\x82\xac" }, { "", "ab" } },
    { ".", { "a", "\xe2\x82\xac" }, { "\n", "\r", "\xe2\x80\xa8", "" } },
    { "\\.\\/\\{\\}", { "./{}" }, { "a/{}" } },
    { "\\x41\\u0042\\u{43}\\u{1F600}", { "ABC\xf0\x9f\x98\x80" }, { "ABC" } },
    { "\\uD83D\\uDE00", { "\xf0\x9f\x98\x80" }, { "" } },
    { "a{2}", { "aa" }, { "a", "aaa" } },
    { "a{2,}", { "aa", "aaaaa" }, { "a" } },
    { "a{0}b", { "b" }, { "ab" } },
    { "x{,3}", { "x{,3}" }, { "xx", "x{}" } },
    { "{a}]", { "{a}]" }, { "a" } },
    { "(?:a|b)*?c+?", { "c", "abcc" }, { "ab" } },
    { "(?<year>\\d{4})-(\\d\\d)", { "2024-12" }, { "2024-1", "24-12" } },
    { "\\d{3,}|\\s", { "123", "1234", "\t", "\xc2\xa0" }, { "12", "  " } },
    { "\\S\\D\\W", { "aa ", "\xc3\xa9z-" }, { "a1 ", " a " } },
    { "[\\u4e00-\\u9fff]{1,2}",
      { "\xe4\xb8\x80", "\xe9\xbf\xbf\xe6\x96\x87" },
      { "a", "\xea\x80\x80" } },
    { "[\\u{10000}-\\u{10FFFF}]", { "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf" }, { "\xef\xbf\xbf" } },
    { "[\\x80-\\u07ff]", { "\xc2\x80", "\xdf\xbf" }, { "\x7f", "\xe0\xa0\x80" } },
    { "a{60,70}",
      { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
      { "aaaa" } },
    { "[^\"]{0,200}\", \"x",
      { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"x" },
      { "a" } },
    { "((a{0,2}){0,2}){0,2}", { "", "aaaaaaaa" }, { "aaaaaaaaa" } },
    { "(a*)*", { "", "aaa" }, { "b" } },
    { "(|a|b)+", { "", "abba" }, { "c" } },
    { "\\cJ\\0?", { "\n" }, { "" } },
};

static void test_expressions(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof expressions / sizeof expressions[0]; i++) {
        if (expressions[i].yes[0] == NULL) { /* nothing matches */
            struct grammar *none = NULL;
            assert_int_equal(grammar_regex(NULL, expressions[i].pattern,
                                           strlen(expressions[i].pattern), NULL, &none, NULL),
                             SLM_E_FORMAT);
            continue;
        }
        struct grammar *g = regex(expressions[i].pattern);
        for (int k = 0; k < 6 && expressions[i].yes[k] != NULL; k++)
            check(g, expressions[i].yes[k], true);
        for (int k = 0; k < 6 && expressions[i].no[k] != NULL; k++)
            check(g, expressions[i].no[k], false);
        grammar_free(g);
    }
}

static void test_bad_expressions(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        slm_err err;
        uint64_t at;
    } bad[] = {
        { "a(b", SLM_E_FORMAT, 1 },
        { "a)b", SLM_E_FORMAT, 1 },
        { "[a", SLM_E_FORMAT, 0 },
        { "a\\", SLM_E_FORMAT, 1 },
        { "*a", SLM_E_FORMAT, 0 },
        { "a**", SLM_E_FORMAT, 2 },
        { "a{3,2}", SLM_E_FORMAT, 1 },
        { "[z-a]", SLM_E_FORMAT, 1 },
        { "(?=a)", SLM_E_UNSUPPORTED, 0 },
        { "(?<!a)", SLM_E_UNSUPPORTED, 0 },
        { "(a)\\1", SLM_E_UNSUPPORTED, 3 },
        { "\\bword", SLM_E_UNSUPPORTED, 0 },
        { "\\p{L}", SLM_E_UNSUPPORTED, 0 },
        { "a{10001}", SLM_E_BUDGET, 1 },
        { "\\uD83D", SLM_E_FORMAT, 0 },
        { "(?a)", SLM_E_FORMAT, 0 },
        { "\\u{110000}", SLM_E_FORMAT, 0 },
        { "{2}", SLM_E_FORMAT, 0 },
        { "^*", SLM_E_FORMAT, 1 },
        { "ab\xff", SLM_E_ENCODING, 2 },
        { "\\q", SLM_E_FORMAT, 0 },
        { "(a|b)*a(a|b){20}", SLM_E_BUDGET, SLM_NO_OFFSET },
        { "((a{100}){100}){100}", SLM_E_BUDGET, SLM_NO_OFFSET },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct grammar *g = NULL;
        slm_why why = { .message = "" };
        slm_err err = grammar_regex(NULL, bad[i].pattern, strlen(bad[i].pattern), NULL, &g, &why);
        if (err != bad[i].err || why.offset != bad[i].at)
            printf("# %s: %d at %d: %s\n", bad[i].pattern, err, (int)why.offset, why.message);
        assert_int_equal(err, bad[i].err);
        assert_int_equal(why.offset, bad[i].at);
        assert_null(g);
    }
}

/* ------------------------------------------------------------------ choices */

static void test_choices(void **state) {
    (void)state;
    json_t *list = json_pack("[s,s,s,s]", "positive", "pos", "negative", "n\xc3\xa4h");
    struct grammar *g = NULL;
    assert_int_equal(grammar_choices(NULL, list, NULL, &g, NULL), SLM_OK);
    check(g, "positive", true);
    check(g, "pos", true);
    check(g, "n\xc3\xa4h", true);
    check(g, "posi", false);
    check(g, "negativeX", false);
    struct matcher *m = matcher_of(g);
    char forced[32];
    assert_int_equal(matcher_forced(m, forced, sizeof forced), 0);
    assert_true(matcher_accept_bytes(m, "p", 1));
    assert_int_equal(matcher_forced(m, forced, sizeof forced), 2);
    assert_memory_equal(forced, "os", 2);
    assert_int_equal(matcher_forced(m, forced, 1), 1);
    assert_true(matcher_accept_bytes(m, "os", 2));
    assert_true(matcher_may_end(m));
    assert_false(matcher_must_end(m));
    assert_int_equal(matcher_forced(m, forced, sizeof forced), 0);
    assert_false(matcher_accept_bytes(m, "x", 1));
    assert_true(matcher_accept_bytes(m, "itive", 5));
    assert_true(matcher_must_end(m));
    assert_false(matcher_accept(m, 0));
    assert_false(matcher_accept(m, -1));
    assert_false(matcher_accept(m, (int32_t)pieces.n));
    matcher_free(m);
    grammar_free(g);
    json_decref(list);

    static const char *const bad[] = { "[]", "{}", "[\"a\",1]", "[\"\"]", "[\"a\",\"\"]" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        json_t *v = NULL;
        assert_int_equal(json_text(bad[i], strlen(bad[i]), &v, NULL), SLM_OK);
        g = NULL;
        assert_int_equal(grammar_choices(NULL, v, NULL, &g, NULL), SLM_E_FORMAT);
        assert_null(g);
        json_decref(v);
    }
}

/* ------------------------------------------------------------------ any object */

static void test_json(void **state) {
    (void)state;
    struct grammar *g = NULL, *free_space = NULL;
    struct grammar_limits wide = { .any_whitespace = true };
    assert_int_equal(grammar_json(NULL, NULL, &g, NULL), SLM_OK);
    assert_int_equal(grammar_json(NULL, &wide, &free_space, NULL), SLM_OK);
    static const char *const yes[] = {
        "{}",
        "{\"a\": 1}",
        "{\"a\": 1, \"b\": [1, \"x\", null, true, false, {}, []]}",
        "{\"\": -0.5e-10}",
        "{\"\xc3\xa9\": \"\xf0\x9f\x98\x80\\u00e9\\ud83d\\ude00\\n\\/\"}",
        "{\"a\": {\"a\": {\"a\": 1}, \"b\": 2}, \"b\": [{\"a\": 1}, {\"a\": 2}]}",
        "{\"ab\": 1, \"a\": 2, \"abc\": 3}",
        "{\"a\\n\": 0, \"a\\u0001\": 1}",
    };
    static const char *const no[] = {
        "",
        "[]",
        "1",
        "{",
        "{\"a\"}",
        "{\"a\": }",
        "{\"a\": 1,}",
        "{\"a\": 01}",
        "{\"a\": 1.}",
        "{\"a\": +1}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": \"\\ud83d\"}",
        "{\"a\": \"\\ude00\"}",
        "{\"a\": \"\x01\"}",
        "{\"a\": \"\xff\"}",
        "{\"a\": \"\xed\xa0\x80\"}",
        "{\"a\": \"\xc0\x80\"}",
        "{\"a\": 1, \"a\": 2}",
        "{\"b\": 1, \"a\": {\"a\": 1, \"a\": 2}}",
        "{\"a\": 1}}",
        "{\"a\": 1, \"b\": 2, \"c\": {}, \"b\": 3}",
        "{\"a\": 1e999}",
        "{\"a\": nul}",
        "{\"a\":1}",
        "{\"\\u0061\": 1}",
    };
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        check(g, yes[i], true);
        check(free_space, yes[i], true);
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        check(g, no[i], false);
    check(free_space, "{ \"a\" : [ 1,2 ,\n 3 ] ,\t\"b\":{ } }", true);
    check(free_space, "{\"a\":                1}", true);
    check(free_space, "{\"a\":                  1}", false);
    check(free_space, "{\"a\": 1, \"a\" : 2}", false);
    grammar_free(g);
    grammar_free(free_space);
}

/* Random answers are objects that our own reader takes, and repeats of keys are among what it refuses. */
static void test_json_random(void **state) {
    (void)state;
    struct grammar *g = NULL;
    assert_int_equal(grammar_json(NULL, NULL, &g, NULL), SLM_OK);
    struct matcher *m = matcher_of(g);
    struct rng r = { 1 };
    unsigned done = 0;
    for (int i = 0; i < 300; i++) {
        char out[8192];
        size_t n = walk_random(m, &pieces, &r, 40, out, sizeof out);
        assert_true(n != SIZE_MAX);
        if (n == SIZE_MAX - 1)
            continue;
        json_t *v = NULL;
        slm_why why;
        slm_err err = json_text(out, n, &v, &why);
        if (err != SLM_OK)
            printf("# %s: %.*s\n", why.message, (int)n, out);
        assert_int_equal(err, SLM_OK);
        assert_true(json_is_object(v));
        json_decref(v);
        done++;
    }
    assert_true(done > 200);
    matcher_free(m);
    grammar_free(g);
}

/* Nesting grows the stack of the matcher, not the C stack, and stops at its budget. */
static void test_json_deep(void **state) {
    (void)state;
    struct grammar *g = NULL;
    assert_int_equal(grammar_json(NULL, NULL, &g, NULL), SLM_OK);
    struct matcher *m = matcher_of(g);
    assert_true(matcher_accept_bytes(m, "{\"a\": ", 6));
    size_t depth = 0;
    while (depth < 100000 && matcher_accept_bytes(m, "[", 1))
        depth++;
    assert_true(depth > 5000 && depth < 100000);
    const uint32_t *mask;
    slm_why why = { .message = "" };
    slm_err err = matcher_mask(m, &mask, &why);
    assert_true(err == SLM_OK || err == SLM_E_BUDGET);
    matcher_reset(m);
    assert_true(matcher_accept_bytes(m, "{\"a\": 1}", 8));
    assert_true(matcher_must_end(m));
    matcher_free(m);
    grammar_free(g);
}

static int setup(void **state) {
    (void)state;
    struct rng r = { 3 };
    static const char sample[] =
        "{\"a\": {\"a\": {\"a\": 1}, \"b\": 2}, \"b\": [{\"a\": 1}, {\"a\": 2}]}";
    pieces_bytes(&pieces);
    for (int i = 0; i < 4; i++)
        pieces_cut(&pieces, &r, sample, sizeof sample - 1);
    new_vocab();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    constrain_vocab_free(vocab);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions), cmocka_unit_test(test_bad_expressions),
        cmocka_unit_test(test_choices),     cmocka_unit_test(test_json),
        cmocka_unit_test(test_json_random), cmocka_unit_test(test_json_deep),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
