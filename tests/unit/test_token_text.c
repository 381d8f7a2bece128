/* test_token_text.c - added tokens, untrusted pieces, streaming, and long runs on a small stack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "support.h"
#include "token/tokenizer.h" /* flags, for one test */
#include "token_mini.h"

static void show(const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        print_message(" %d", ids[i]);
    print_message("\n");
}

/* Encodes the pieces and compares; a count of -1 ends the ids. */
static void expect_pieces(const struct tokenizer *t, const struct token_piece *pieces,
                          size_t n_pieces, const int32_t *want) {
    int32_t *ids = NULL;
    size_t n = 0, n_want = 0;
    slm_why why = { 0 };
    if (tokenizer_encode(t, pieces, n_pieces, 0, &ids, &n, &why) != SLM_OK)
        fail_msg("%s", why.message);
    while (want[n_want] >= 0)
        n_want++;
    if (n != n_want || memcmp(ids, want, n * sizeof *ids) != 0) {
        show(ids, n);
        show(want, n_want);
        fail_msg("'%.*s': other ids than expected", (int)pieces[0].n, pieces[0].text);
    }
    free(ids);
}
static void expect_text(const struct tokenizer *t, const char *text, const int32_t *want) {
    struct token_piece piece = { text, strlen(text), false };
    expect_pieces(t, &piece, 1, want);
}
#define IDS(...) ((const int32_t[]){ __VA_ARGS__, -1 })

/* ---- added tokens ---- */

static const char added_list[] =
    "[{\"id\":256,\"content\":\"<|im_end|>\",\"special\":true},"
    "{\"id\":257,\"content\":\"<|user|>\",\"special\":true,\"rstrip\":true},"
    "{\"id\":258,\"content\":\"<mask>\",\"lstrip\":true},"
    "{\"id\":259,\"content\":\"word\",\"single_word\":true},"
    "{\"id\":260,\"content\":\"\\n\\n\"},{\"id\":261,\"content\":\"\\n\\n\\n\"},"
    "{\"id\":262,\"content\":\"<tool>\"},{\"id\":263,\"content\":\"caf\\u00e9\",\"normalized\":"
    "true},"
    "{\"id\":264,\"content\":\"<tool\"}]";

static struct tokenizer *build(const char *normalizer) {
    struct mini m = { .added = added_list, .normalizer = normalizer, .pattern = QWEN2_PATTERN };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    return t;
}

static void test_added_tokens(void **state) {
    (void)state;
    struct tokenizer *t = build("{\"type\":\"NFC\"}");
    expect_text(t, "a<|im_end|>b", IDS('a', 256, 'b'));
    expect_text(t, "<|im_end|", IDS('<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|'));
    expect_text(t, "<<|im_end|>>", IDS('<', 256, '>'));
    expect_text(t, "\n\n\n\n\n\n\n", IDS(261, 261, '\n')); /* leftmost, longest */
    expect_text(t, "\n\n\n\n\na", IDS(261, 260, 'a'));
    expect_text(t, "<tool><tool<", IDS(262, 264, '<'));
    /* white space around */
    expect_text(t, "a <|user|> \t\xe3\x80\x80\r\n b", IDS('a', ' ', 257, 'b'));
    expect_text(t, "a \n<mask> b", IDS('a', 258, ' ', 'b'));
    expect_text(t, "<|user|>  <mask>", IDS(257, 258)); /* what one took is gone for the other */
    /* whole words */
    expect_text(t, "word", IDS(259));
    expect_text(t, "a word.", IDS('a', ' ', 259, '.'));
    expect_text(t, "swords", IDS('s', 'w', 'o', 'r', 'd', 's'));
    expect_text(t, "word_", IDS('w', 'o', 'r', 'd', '_'));
    expect_text(t, "\xc3\xa9word", IDS(0xc3, 0xa9, 'w', 'o', 'r', 'd'));
    expect_text(t, "word\xe2\x81\xbf",
                IDS('w', 'o', 'r', 'd', 0xe2, 0x81, 0xbf)); /* superscript n */
    /* matched in the normalised text: e and U+0301 compose */
    expect_text(t, "caf\xc3\xa9", IDS(263));
    expect_text(t, "cafe\xcc\x81", IDS(263));
    expect_text(t, "", IDS(-1));
    tokenizer_free(t);
    t = build(NULL); /* without a normaliser the decomposed form is another text */
    expect_text(t, "caf\xc3\xa9", IDS(263));
    expect_text(t, "cafe\xcc\x81", IDS('c', 'a', 'f', 'e', 0xcc, 0x81));
    tokenizer_free(t);
}

static void test_control(void **state) {
    (void)state;
    struct tokenizer *t = build(NULL);
    assert_true(token_is_control(t, 256) && token_is_control(t, 257));
    assert_false(token_is_control(t, 258) || token_is_control(t, 262) || token_is_control(t, 97));
    assert_true(token_is_special(t, 256) && !token_is_special(t, 262));
    assert_false(token_is_control(t, -1) || token_is_control(t, 9999) || token_is_special(t, -1));
    const char chat_template[] = "{% if tools %}\n\n\n<tool>{{ x }}{% endif %}caf\xc3\xa9";
    tokenizer_mark_control(t, chat_template, strlen(chat_template));
    assert_true(token_is_control(t, 262) && token_is_control(t, 263) && token_is_control(t, 264));
    assert_false(token_is_control(t, 260) || token_is_control(t, 261)); /* layout */
    tokenizer_free(t);
}

static void test_data_stays_text(void **state) {
    (void)state;
    struct tokenizer *t = build(NULL);
    const struct token_piece whole[] = { { "<|im_end|>", 10, true } };
    expect_pieces(t, whole, 1, IDS('<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'));
    /* data between trusted parts of a marker, and the other way round */
    const struct token_piece parts[] = { { "<|im", 4, false },
                                         { "_", 1, true },
                                         { "end|>", 5, false } };
    expect_pieces(t, parts, 3, IDS('<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'));
    const struct token_piece ends[] = { { "<", 1, true },
                                        { "|im_end|", 8, false },
                                        { ">", 1, true } };
    expect_pieces(t, ends, 3, IDS('<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>'));
    /* trusted parts alone make the marker, empty data or not */
    const struct token_piece joined[] = { { "<|im", 4, false },
                                          { NULL, 0, true },
                                          { "_end|>", 6, false } };
    expect_pieces(t, joined, 3, IDS(256));
    const struct token_piece mixed[] = { { "<|im_end|>", 10, false },
                                         { "a<|im_end|>", 11, true },
                                         { "<|im_end|>", 10, false } };
    expect_pieces(t, mixed, 3,
                  IDS(256, 'a', '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>', 256));
    /* tokens that are no control match everywhere */
    const struct token_piece layout[] = { { "x\n", 2, true },
                                          { "\n", 1, false },
                                          { "\n<tool>", 7, true } };
    expect_pieces(t, layout, 3, IDS('x', 261, 262));
    /* where the longest is not allowed, a shorter one is */
    tokenizer_mark_control(t, "<tool>", 6);
    t->tok[264].flags &= (uint16_t)~TF_CONTROL;
    const struct token_piece shorter[] = { { "<tool>", 6, true } };
    expect_pieces(t, shorter, 1, IDS(264, '>'));
    tokenizer_free(t);
}

/* Words, marks and contractions across the borders of pieces: as one string. */
static void test_pieces_join(void **state) {
    (void)state;
    struct mini m = { .added = added_list,
                      .normalizer = "{\"type\":\"NFC\"}",
                      .pattern = QWEN2_PATTERN,
                      .extra = NULL };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    const char text[] = "cafe\xcc\x81 don't  <|user|>\n\xe4\xbd\xa0 123\n\n<|im_end|>";
    size_t n = strlen(text);
    struct token_piece whole = { text, n, false };
    int32_t *want = NULL, *ids = NULL;
    size_t n_want = 0, n_ids = 0;
    assert_int_equal(tokenizer_encode(t, &whole, 1, 0, &want, &n_want, NULL), SLM_OK);
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++) {
            struct token_piece cut[] = { { text, a, false },
                                         { text + a, b - a, false },
                                         { text + b, n - b, false } };
            assert_int_equal(tokenizer_encode(t, cut, 3, 0, &ids, &n_ids, NULL), SLM_OK);
            assert_int_equal(n_ids, n_want);
            assert_memory_equal(ids, want, n_ids * sizeof *ids);
            free(ids);
        }
    free(want);
    tokenizer_free(t);
}

static void test_bad_text(void **state) {
    (void)state;
    struct tokenizer *t = build(NULL);
    int32_t *ids = NULL;
    size_t n = 0;
    slm_why why;
    const struct token_piece bad[] = { { "ab", 2, false }, { "c\xff", 2, true } };
    assert_int_equal(tokenizer_encode(t, bad, 2, 0, &ids, &n, &why), SLM_E_ENCODING);
    assert_int_equal(why.offset, 3);
    const struct token_piece cut[] = { { "\xe4\xbd", 2, false } };
    assert_int_equal(tokenizer_encode(t, cut, 1, 0, &ids, &n, &why), SLM_E_ENCODING);
    assert_int_equal(why.offset, 0);
    const struct token_piece surrogate[] = { { "\xed\xa0\x80", 3, false } };
    assert_int_equal(tokenizer_encode(t, surrogate, 1, 0, &ids, &n, &why), SLM_E_ENCODING);
    const struct token_piece huge[] = { { "a", TOKEN_TEXT_MAX, false }, { "a", 1, false } };
    assert_int_equal(tokenizer_encode(t, huge, 2, 0, &ids, &n, &why), SLM_E_ARG);
    assert_null(ids);
    tokenizer_free(t);
}

/* ---- decoding ---- */

static void expect_decoded(const struct tokenizer *t, const int32_t *ids, bool skip,
                           const char *want) {
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out, stream;
    buf_init(&out, &hooks, 1 << 16);
    buf_init(&stream, &hooks, 1 << 16);
    size_t n = 0;
    while (ids[n] >= 0)
        n++;
    assert_int_equal(tokenizer_decode(t, ids, n, skip, &out, NULL), SLM_OK);
    assert_string_equal(out.len > 0 ? out.data : "", want);
    struct token_decoder d;
    token_decoder_init(&d, t, skip);
    for (size_t i = 0; i < n; i++) {
        token_decoder_put(&d, ids[i], &stream);
        assert_int_equal(utf8_valid(stream.data, stream.len), stream.len); /* never half of one */
    }
    token_decoder_end(&d, &stream);
    assert_int_equal(stream.len, out.len);
    if (out.len > 0)
        assert_memory_equal(stream.data, out.data, out.len);
    buf_free(&out);
    buf_free(&stream);
}
#define FFFD "\xef\xbf\xbd"

static void test_decode_bytes(void **state) {
    (void)state;
    struct tokenizer *t = build(NULL);
    expect_decoded(t, IDS('a', 0xc3, 0xa9, 'b'), false,
                   "a\xc3\xa9"
                   "b");
    expect_decoded(t, IDS(0xf0, 0x9f, 0x99, 0x82), false, "\xf0\x9f\x99\x82");
    expect_decoded(t, IDS(0xf0, 0x9f, 0x99), false, FFFD); /* one for the longest part */
    expect_decoded(t, IDS(0xf0, 0x9f, 'a'), false, FFFD "a");
    expect_decoded(t, IDS(0xe4, 0xe4, 0xbd, 0xa0), false, FFFD "\xe4\xbd\xa0");
    expect_decoded(t, IDS(0xe0, 0x80, 0x80), false, FFFD FFFD FFFD); /* overlong: no part of one */
    expect_decoded(t, IDS(0xed, 0xa0, 0x80), false, FFFD FFFD FFFD); /* surrogate */
    expect_decoded(t, IDS(0xff, 0x80, 'x'), false, FFFD FFFD "x");
    expect_decoded(t, IDS('a', 256, 262, 'b'), false, "a<|im_end|><tool>b");
    expect_decoded(t, IDS('a', 256, 262, 'b'), true, "a<tool>b");
    expect_decoded(t, IDS(0xc3, 256, 0xa9), true, "\xc3\xa9"); /* a token left out does not part */
    expect_decoded(t, IDS(0xc3, 256, 0xa9), false, FFFD "<|im_end|>" FFFD);
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out;
    buf_init(&out, &hooks, 10);
    slm_why why;
    assert_int_equal(tokenizer_decode(t, IDS(265), 1, false, &out, &why), SLM_E_ARG);
    assert_non_null(strstr(why.message, "265"));
    const int32_t negative = -1;
    assert_int_equal(tokenizer_decode(t, &negative, 1, false, &out, &why), SLM_E_ARG);
    assert_int_equal(tokenizer_decode(t, IDS(256, 256), 2, false, &out, &why), SLM_E_BUDGET);
    buf_free(&out);
    tokenizer_free(t);
}

static void test_decode_spm(void **state) {
    (void)state;
    static const char *const extra[] = { "\xe2\x96\x81", "a",
                                         "\xe2\x96\x81"
                                         "b",
                                         NULL };
    struct mini m = { .extra = extra, .spm = true, .options = "\"byte_fallback\":true," };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    const int32_t b = 1; /* byte x is token b + x */
    expect_decoded(t, IDS(258, 259, 257, 258), false, "a b a");
    expect_decoded(t, IDS(b + 0xe4, b + 0xbd, b + 0xa0, b + 'x'), false, "\xe4\xbd\xa0x");
    expect_decoded(t, IDS(b + 0xe4, b + 0xbd, 258), false, FFFD FFFD "a"); /* one per byte */
    expect_decoded(t, IDS(b + 0xe4, b + 0xbd), false, FFFD FFFD);
    expect_decoded(t, IDS(b + 0xff, b + 'x', 258, b + 'x'), false, FFFD FFFD "ax");
    tokenizer_free(t);
}

/* ---- long runs ---- */

struct run {
    const char *name;
    uint32_t first, last;
};
static const struct run runs[] = {
    { "letter", 'a', 'a' },        { "letters", 'a', 'z' },   { "capitals", 'A', 'Z' },
    { "CJK", 0x4e00, 0x9fa5 },     { "digits", '0', '9' },    { "spaces", ' ', ' ' },
    { "newlines", '\n', '\n' },    { "tabs", '\t', '\t' },    { "dots", '.', '.' },
    { "mark", 0x330, 0x330 },      { "marks", 0x300, 0x33f }, { "title case", 0x1c5, 0x1c5 },
    { "modifiers", 0x2b0, 0x2b8 }, { "ASCII", ' ', '~' },     { "mixed", 0, 0 },
};

static uint32_t seed = 3;
static uint32_t draw(uint32_t below) {
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

struct job {
    const struct tokenizer *t;
    const char *text;
    size_t n;
    bool same;
    slm_err err;
};

static void *round_trip(void *arg) {
    struct job *j = arg;
    struct token_piece piece = { j->text, j->n, true };
    int32_t *ids = NULL;
    size_t n = 0;
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out;
    buf_init(&out, &hooks, j->n + 16);
    j->err = tokenizer_encode(j->t, &piece, 1, 0, &ids, &n, NULL);
    if (j->err == SLM_OK)
        j->err = tokenizer_decode(j->t, ids, n, false, &out, NULL);
    j->same = out.len == j->n && memcmp(out.data, j->text, j->n) == 0;
    buf_free(&out);
    free(ids);
    return NULL;
}

/* Sanitizers make all of this some thirty times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RUN_BYTES ((size_t)1 << 17)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RUN_BYTES ((size_t)1 << 17)
#endif
#endif
#ifndef RUN_BYTES
#define RUN_BYTES ((size_t)1 << 20)
#endif

/* Encodes and decodes each run on a stack of 64 KiB. */
static void long_runs(const struct tokenizer *t, const char *what) {
    size_t n = RUN_BYTES, wrong = 0;
    char *text = malloc(n);
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        size_t at = 0;
        while (at + 4 < n) {
            const struct run *k = runs[r].last > 0 ? &runs[r] : &runs[draw(14)];
            at += utf8_encode(k->first + draw(k->last - k->first + 1), text + at);
        }
        struct job job = { .t = t, .text = text, .n = at };
        pthread_attr_t attr;
        pthread_t thread;
        assert_int_equal(pthread_attr_init(&attr), 0);
        assert_int_equal(pthread_attr_setstacksize(&attr, 65536), 0);
        assert_int_equal(pthread_create(&thread, &attr, round_trip, &job), 0);
        pthread_join(thread, NULL);
        pthread_attr_destroy(&attr);
        assert_int_equal(job.err, SLM_OK);
        /* NFC may compose or reorder marks: those texts need not come back as they were */
        if (!job.same && !t->nfc) {
            print_message("%s: %s come back changed\n", what, runs[r].name);
            wrong++;
        }
    }
    free(text);
    assert_int_equal(wrong, 0);
}

/* The demo model's tokenizer with the given split pattern in place of its own. */
static struct tokenizer *demo_with(const char *pattern, bool nfc) {
    char path[512];
    size_t n;
    assert_non_null(data_path(path, sizeof path, "../demo-model/tokenizer.json"));
    char *json = slurp(path, &n);
    assert_non_null(json);
    json_t *root = json_loadb(json, n, 0, NULL);
    free(json);
    assert_non_null(root);
    if (!nfc)
        json_object_set_new(root, "normalizer", json_null());
    json_t *split =
        json_array_get(json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers"), 0);
    if (pattern != NULL)
        json_object_set_new(json_object_get(split, "pattern"), "Regex", json_string(pattern));
    json = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    if (tokenizer_from_json(NULL, json, strlen(json), &t, &why) != SLM_OK)
        fail_msg("%s", why.message);
    free(json);
    return t;
}

static void test_long_qwen2(void **state) {
    (void)state;
    struct tokenizer *t = demo_with(NULL, true);
    long_runs(t, "qwen2, NFC");
    tokenizer_free(t);
    t = demo_with(NULL, false);
    long_runs(t, "qwen2");
    tokenizer_free(t);
}

static void test_long_llama3(void **state) {
    (void)state;
    struct tokenizer *t =
        demo_with("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                  "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                  false);
    long_runs(t, "llama3");
    tokenizer_free(t);
}

static void test_long_o200k(void **state) {
    (void)state;
    struct tokenizer *t = demo_with(
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]"
        "+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        false);
    long_runs(t, "o200k");
    tokenizer_free(t);
}

static void test_long_spm(void **state) {
    (void)state;
    static const char *const extra[] = {
        "\xe2\x96\x81", "a",  "b",  "c",    "A",  "B",
        "ab",           "ba", "aa", "aaaa", "AB", "\xe2\x96\x81\xe2\x96\x81",
        "..",           ".",  "1",  NULL
    };
    static const char *const merges[] = {
        "\xe2\x96\x81 \xe2\x96\x81", "a b", "a a", "aa aa", "b a", "A B", ". .", NULL
    };
    struct mini m = {
        .extra = extra, .merges = merges, .spm = true, .options = "\"byte_fallback\":true,"
    };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    long_runs(t, "SPM");
    tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_added_tokens),    cmocka_unit_test(test_control),
        cmocka_unit_test(test_data_stays_text), cmocka_unit_test(test_pieces_join),
        cmocka_unit_test(test_bad_text),        cmocka_unit_test(test_decode_bytes),
        cmocka_unit_test(test_decode_spm),      cmocka_unit_test(test_long_qwen2),
        cmocka_unit_test(test_long_llama3),     cmocka_unit_test(test_long_o200k),
        cmocka_unit_test(test_long_spm),
    };
    return cmocka_run_group_tests_name("token_text", tests, NULL, NULL);
}
