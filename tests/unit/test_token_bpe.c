/* test_token_bpe.c - merging against the plain definition: find the pair of lowest rank, leftmost,
 * merge it, start again. Random vocabularies and texts, among them ones whose merges depend on
 * symbols far away, so that windows have to be joined again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support.h"
#include "token_mini.h"

/* ---- the definition ---- */

struct naive {
    char (*text)[40]; /* [n] texts of the ids */
    size_t n;
    uint32_t (*merge)[3]; /* [n_merges] left, right, result */
    size_t n_merges;
};

static size_t naive_merge(const struct naive *v, uint32_t *ids, size_t n) {
    for (;;) {
        size_t best = v->n_merges, at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t r = 0; r < best; r++)
                if (v->merge[r][0] == ids[i] && v->merge[r][1] == ids[i + 1]) {
                    best = r;
                    at = i;
                }
        if (best == v->n_merges)
            return n;
        ids[at] = v->merge[best][2];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static uint32_t seed = 7;
static uint32_t draw(uint32_t below) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

/* ---- random byte-level vocabularies ---- */

enum { MAX_EXTRA = 400 };
struct random_vocab {
    struct naive v;
    const char *extra[MAX_EXTRA + 1], *merges[4 * MAX_EXTRA + 1];
};

/* Merges over the letters of `alphabet`, in shuffled order, so that ranks say nothing. */
static void make_vocab(struct random_vocab *r, const char *alphabet, size_t n_extra) {
    memset(r, 0, sizeof *r);
    r->v.text = calloc(256 + MAX_EXTRA, sizeof *r->v.text);
    r->v.merge = calloc(4 * MAX_EXTRA, sizeof *r->v.merge);
    for (unsigned b = 0; b < 256; b++)
        r->v.text[b][0] = (char)b;
    r->v.n = 256;
    uint32_t letters = (uint32_t)strlen(alphabet);
    for (size_t tries = 0; tries < n_extra * 4 && r->v.n_merges < 4 * MAX_EXTRA; tries++) {
        uint32_t pair[2];
        for (int i = 0; i < 2; i++) {
            uint32_t k = draw(letters + (uint32_t)r->v.n - 256);
            pair[i] = k < letters ? (uint8_t)alphabet[k] : 256 + k - letters;
        }
        char joined[80];
        snprintf(joined, sizeof joined, "%s%s", r->v.text[pair[0]], r->v.text[pair[1]]);
        size_t id = 256;
        while (id < r->v.n && strcmp(r->v.text[id], joined) != 0)
            id++;
        if (strlen(joined) > 30 || (id == r->v.n && r->v.n == 256 + n_extra))
            continue;
        bool known = false;
        for (size_t m = 0; m < r->v.n_merges; m++)
            known = known || (r->v.merge[m][0] == pair[0] && r->v.merge[m][1] == pair[1]);
        if (known)
            continue;
        if (id == r->v.n)
            strcpy(r->v.text[r->v.n++], joined);
        uint32_t *m = r->v.merge[r->v.n_merges++];
        m[0] = pair[0];
        m[1] = pair[1];
        m[2] = (uint32_t)id;
    }
    for (size_t i = r->v.n_merges; i > 1; i--) {
        size_t k = draw((uint32_t)i);
        for (int c = 0; c < 3; c++) {
            uint32_t swap = r->v.merge[i - 1][c];
            r->v.merge[i - 1][c] = r->v.merge[k][c];
            r->v.merge[k][c] = swap;
        }
    }
    for (size_t i = 256; i < r->v.n; i++)
        r->extra[i - 256] = r->v.text[i];
    for (size_t i = 0; i < r->v.n_merges; i++) {
        char *line = malloc(80);
        snprintf(line, 80, "%s %s", r->v.text[r->v.merge[i][0]], r->v.text[r->v.merge[i][1]]);
        r->merges[i] = line;
    }
}

static void free_vocab(struct random_vocab *r) {
    for (size_t i = 0; i < r->v.n_merges; i++)
        free((char *)r->merges[i]);
    free(r->v.text);
    free(r->v.merge);
}

static void compare(const struct tokenizer *t, const struct naive *v, const uint32_t *symbols,
                    size_t n_symbols, const char *text, size_t n) {
    struct token_piece piece = { text, n, false };
    int32_t *ids = NULL;
    size_t n_ids = 0;
    slm_why why = { 0 };
    assert_int_equal(tokenizer_encode(t, &piece, 1, 0, &ids, &n_ids, &why), SLM_OK);
    uint32_t *want = malloc((n_symbols + 1) * sizeof *want);
    memcpy(want, symbols, n_symbols * sizeof *want);
    size_t n_want = naive_merge(v, want, n_symbols);
    bool same = n_ids == n_want;
    for (size_t i = 0; same && i < n_ids; i++)
        same = (uint32_t)ids[i] == want[i];
    if (!same)
        print_message("text of %zu bytes: %zu ids, want %zu\n", n, n_ids, n_want);
    free(want);
    free(ids);
    assert_true(same);
}

static void test_random_words(void **state) {
    (void)state;
    static const char *const alphabets[] = { "ab", "a", "abcd", "abcdefghij" };
    for (int round = 0; round < 60; round++) {
        struct random_vocab r;
        const char *alphabet = alphabets[round % 4];
        make_vocab(&r, alphabet, 5 + draw(60));
        struct mini m = { .extra = r.extra, .merges = r.merges };
        struct tokenizer *t = mini_build(&m);
        assert_non_null(t);
        for (int k = 0; k < 20; k++) {
            /* mostly words, now and then a run of several windows */
            size_t n = k == 0 ? 1500 + draw(1500) : 1 + draw(k < 10 ? 12 : 90);
            char *text = malloc(n);
            uint32_t *symbols = malloc(n * sizeof *symbols);
            uint32_t period = draw(3) == 0 ? 1 + draw(7) : 0; /* some are periodic */
            for (size_t i = 0; i < n; i++) {
                text[i] = period > 0 && i >= period ? text[i - period]
                                                    : alphabet[draw((uint32_t)strlen(alphabet))];
                symbols[i] = (uint8_t)text[i];
            }
            compare(t, &r.v, symbols, n, text, n);
            free(symbols);
            free(text);
        }
        tokenizer_free(t);
        free_vocab(&r);
    }
}

/* Characters c1 c2 .. cn where (c[i], c[i+1]) has a lower rank than (c[i-1], c[i]): the last pair
 * merges first, then the third last with the one before, and so on to the front. Which pairs are
 * made at the start depends on where the text ends, ten thousands of characters later. */
static void test_far_dependence(void **state) {
    (void)state;
    enum { CHAIN = 20000, FIRST = 0x4e00 };
    const char **extra = calloc(2 * CHAIN + 2, sizeof *extra);
    const char **merges = calloc(CHAIN + 1, sizeof *merges);
    char(*store)[16] = calloc(3 * CHAIN + 3, sizeof *store);
    size_t n_extra = 0, n_store = 0;
    extra[n_extra++] = "\xe2\x96\x81"; /* an SPM vocabulary has a token for the space */
    for (uint32_t i = 0; i < CHAIN; i++) {
        utf8_encode(FIRST + i, store[n_store]);
        extra[n_extra++] = store[n_store++];
    }
    for (uint32_t i = 0; i + 1 < CHAIN; i++) {
        char *two = store[n_store++];
        utf8_encode(FIRST + i, two);
        utf8_encode(FIRST + i + 1, two + 3);
        extra[n_extra++] = two;
    }
    for (uint32_t i = 0; i + 1 < CHAIN; i++) {
        uint32_t left = CHAIN - 2 - i;
        char *line = store[n_store++];
        utf8_encode(FIRST + left, line);
        line[3] = ' ';
        utf8_encode(FIRST + left + 1, line + 4);
        merges[i] = line;
    }
    struct mini m = { .extra = extra,
                      .merges = merges,
                      .spm = true,
                      .options =
                          "\"byte_fallback\":true,\"fuse_unk\":true,\"unk_token\":\"<unk>\"," };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    for (uint32_t last = CHAIN - 2; last <= CHAIN; last++) {
        char *text = malloc(3 * CHAIN);
        for (uint32_t i = 0; i < last; i++)
            utf8_encode(FIRST + i, text + 3 * i);
        struct token_piece piece = { text, 3 * last, false };
        int32_t *ids = NULL;
        size_t n = 0;
        assert_int_equal(tokenizer_encode(t, &piece, 1, 0, &ids, &n, NULL), SLM_OK);
        assert_int_equal(n, last / 2 + last % 2);
        const char *s;
        size_t len;
        for (size_t i = 0; i < n; i++) { /* one character at the front if the number is odd */
            assert_true(token_text_of(t, ids[i], &s, &len));
            assert_int_equal(len, last % 2 == 1 && i == 0 ? 3 : 6);
        }
        free(ids);
        free(text);
    }
    tokenizer_free(t);
    free(store);
    free(merges);
    free(extra);
}

/* Vocabulary of the SPM tests below: id 257 is the space. */
static const char *const spm_extra[] = { "\xe2\x96\x81",
                                         "a",
                                         "b",
                                         "\xc3\xa9",
                                         "ab",
                                         "\xe2\x96\x81"
                                         "a",
                                         "aa",
                                         "ba",
                                         NULL };
static const char *const spm_merges[] = { "a b", "\xe2\x96\x81 a", "a a", "b a", NULL };

static void expect(const struct tokenizer *t, const char *text, const int32_t *want,
                   size_t n_want) {
    struct token_piece piece = { text, strlen(text), false };
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(tokenizer_encode(t, &piece, 1, 0, &ids, &n, NULL), SLM_OK);
    if (n != n_want || (n > 0 && memcmp(ids, want, n * sizeof *ids) != 0)) {
        print_message("'%s':", text);
        for (size_t i = 0; i < n; i++)
            print_message(" %d", ids[i]);
        print_message("\n");
        fail_msg("other ids than expected");
    }
    free(ids);
}
#define EXPECT(t, text, ...)                                                                       \
    do {                                                                                           \
        const int32_t want_[] = { __VA_ARGS__ };                                                   \
        expect(t, text, want_, sizeof want_ / sizeof *want_);                                      \
    } while (0)

static void test_byte_fallback(void **state) {
    (void)state;
    struct mini m = { .extra = spm_extra,
                      .merges = spm_merges,
                      .spm = true,
                      .options =
                          "\"byte_fallback\":true,\"fuse_unk\":true,\"unk_token\":\"<unk>\"," };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "ab", 261);
    EXPECT(t, "aab", 258, 261); /* (a, b) before (a, a) */
    EXPECT(t, " ab", 257, 261); /* and before (space, a) */
    EXPECT(t, " aa", 262, 258);
    EXPECT(t,
           "\xe2\x96\x81"
           "a",
           262); /* U+2581 in the text is a space */
    EXPECT(t,
           "a\xc3\xa9\xc3\xa8"
           "b",
           258, 260, 1 + 0xc3, 1 + 0xa8, 259); /* e grave in bytes */
    EXPECT(t, "\xf0\x9f\x99\x82", 1 + 0xf0, 1 + 0x9f, 1 + 0x99, 1 + 0x82);
    /* a long run of unknown characters: windows must not start inside one */
    char *text = malloc(3 * 2000 + 1);
    for (int i = 0; i < 2000; i++)
        memcpy(text + 3 * i, "\xe4\xbd\xa0", 4);
    int32_t *want = malloc(3 * 2000 * sizeof *want);
    for (int i = 0; i < 6000; i++)
        want[i] = 1 + (uint8_t)text[i];
    expect(t, text, want, 6000);
    free(want);
    free(text);
    tokenizer_free(t);
}

static void test_unknown_token(void **state) {
    (void)state;
    struct mini m = { .extra = spm_extra,
                      .merges = spm_merges,
                      .spm = true,
                      .options =
                          "\"byte_fallback\":false,\"fuse_unk\":true,\"unk_token\":\"<unk>\"," };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "axyzb", 258, 0, 259); /* fused */
    EXPECT(t, "x", 0);
    char *text = malloc(5001); /* longer than a window, one token */
    memset(text, 'x', 5000);
    text[5000] = 0;
    EXPECT(t, text, 0);
    text[4000] = 'a';
    EXPECT(t, text, 0, 258, 0);
    free(text);
    tokenizer_free(t);
    m.options = "\"byte_fallback\":false,\"fuse_unk\":false,\"unk_token\":\"<unk>\",";
    t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "axyzb", 258, 0, 0, 0, 259);
    tokenizer_free(t);
}

static void test_ignore_merges(void **state) {
    (void)state;
    static const char *const extra[] = { "ab", "abc", "bc", NULL };
    static const char *const merges[] = { "b c", "a b", "ab c", NULL };
    struct mini m = { .pattern = QWEN2_PATTERN, .extra = extra, .merges = merges };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "abc", 'a', 258); /* merging never makes the word whole */
    tokenizer_free(t);
    m.options = "\"ignore_merges\":true,";
    t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "abc", 257);
    EXPECT(t, "abcb", 'a', 258, 'b');
    EXPECT(t, "abc1", 257, '1');
    tokenizer_free(t);
}

/* The same pair twice: the later one counts, as in the official library. */
static void test_repeated_merge(void **state) {
    (void)state;
    static const char *const extra[] = { "ab", "bc", NULL };
    static const char *const merges[] = { "a b", "b c", "a b", NULL };
    struct mini m = { .extra = extra, .merges = merges };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    EXPECT(t, "abc", 'a', 257);
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_words),  cmocka_unit_test(test_far_dependence),
        cmocka_unit_test(test_byte_fallback), cmocka_unit_test(test_unknown_token),
        cmocka_unit_test(test_ignore_merges), cmocka_unit_test(test_repeated_merge),
    };
    return cmocka_run_group_tests_name("token_bpe", tests, NULL, NULL);
}
