/* test_token_load.c - what is accepted, what is refused and with which words; the n-th allocation
 * failing, for every n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "support.h"
#include "token_mini.h"

/* ---- tokenizer.json ---- */

static const char *const extra[] = { "ab", "abc", NULL };
static const char *const merges[] = { "a b", "ab c", NULL };

#define ADDED(id, content, rest) "{\"id\":" #id ",\"content\":\"" content "\"" rest "}"
#define IM_END ADDED(258, "<|im_end|>", ",\"special\":true")

/* text with its first `from` replaced by `to`; owned */
static char *replaced(const char *text, const char *from, const char *to) {
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void refused(const char *json, slm_err code, const char *word) {
    struct tokenizer *t = (void *)1;
    slm_why why = { 0 };
    slm_err err = tokenizer_from_json(NULL, json, strlen(json), &t, &why);
    if (err != code || strstr(why.message, word) == NULL)
        print_message("want %d with '%s', got %d: %s\n", code, word, err, why.message);
    assert_int_equal(err, code);
    assert_int_equal(why.code, code);
    assert_non_null(strstr(why.message, word));
    assert_null(t);
    assert_true(why.offset == SLM_NO_OFFSET || why.offset <= strlen(json));
}

struct edit {
    const char *from, *to;
    slm_err code;
    const char *word;
};

static void refuse_edits(const char *json, const struct edit *edits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *bad = replaced(json, edits[i].from, edits[i].to);
        refused(bad, edits[i].code, edits[i].word);
        free(bad);
    }
}

static void test_lies(void **state) {
    (void)state;
    static const struct edit edits[] = {
        { "\"ab\":256", "\"ab\":-1", SLM_E_FORMAT, "-1" },
        { "\"ab\":256", "\"ab\":255", SLM_E_FORMAT, "255" },
        { "\"ab\":256", "\"ab\":1048576", SLM_E_FORMAT, "1048576" },
        { "\"ab\":256", "\"ab\":4294967296", SLM_E_FORMAT, "4294967296" },
        { "\"ab\":256", "\"ab\":99999999999999999999", SLM_E_FORMAT, "'ab'" },
        { "\"ab\":256", "\"ab\":1.5", SLM_E_FORMAT, "'ab'" },
        { "\"ab\":256", "\"ab\":\"256\"", SLM_E_FORMAT, "'ab'" },
        { "\"ab\":256", "\"abc\":256", SLM_E_FORMAT, "'abc'" },
        { "\"ab\":256", "\"a\":256", SLM_E_FORMAT, "'a'" },
        { "\"b\":98,", "", SLM_E_FORMAT, "'b'" }, /* a merge needs it */
        { "\"x\":120,", "", SLM_E_FORMAT, "0x78" },
        { "\"a b\"", "\"a z\"", SLM_E_FORMAT, "'az'" },
        { "\"a b\"", "\"a q q\"", SLM_E_FORMAT, "merge 0" },
        { "\"a b\"", "\"ab\"", SLM_E_FORMAT, "merge 0" },
        { "\"a b\"", "[\"a\"]", SLM_E_FORMAT, "merge 0" },
        { "\"a b\"", "[\"a\",\"b\",\"c\"]", SLM_E_FORMAT, "merge 0" },
        { "\"a b\"", "7", SLM_E_FORMAT, "merge 0" },
        { "\"ab c\"", "{}", SLM_E_FORMAT, "merge 1" },
        { "\"id\":258", "\"id\":97", SLM_E_FORMAT, "97" },
        { "\"id\":258", "\"id\":-1", SLM_E_FORMAT, "-1" },
        { "\"id\":258", "\"id\":2147483648", SLM_E_FORMAT, "2147483648" },
        { "\"<|im_end|>\"", "\"ab\"", SLM_E_FORMAT, "'ab'" },
        { "\"<|im_end|>\"", "\"\"", SLM_E_FORMAT, "0 bytes" },
        { "\"special\":true", "\"special\":1", SLM_E_FORMAT, "special" },
        { IM_END, IM_END "," ADDED(259, "<|im_end|>", ""), SLM_E_FORMAT, "twice" },
        { "\"merges\"", "\"mergers\"", SLM_E_UNSUPPORTED, "mergers" },
        { "\"vocab\":{", "\"vocab\":[{", SLM_E_FORMAT, "" },
        { "]}}", "]}", SLM_E_FORMAT, "" },
        { "]}}", "]}}x", SLM_E_FORMAT, "" },
        { "\"ab\":256", "\"a\xff\":256", SLM_E_ENCODING, "" },
    };
    struct mini m = { .extra = extra, .merges = merges, .added = "[" IM_END "]" };
    char *json = mini_json(&m);
    refuse_edits(json, edits, sizeof edits / sizeof *edits);
    /* the whole text cut short anywhere */
    for (size_t n = 0; n < strlen(json); n += 1 + n / 50) {
        struct tokenizer *t = NULL;
        slm_err err = tokenizer_from_json(NULL, json, n, &t, NULL);
        assert_true(err == SLM_E_FORMAT || err == SLM_E_ENCODING); /* cut inside a character */
        assert_null(t);
    }
    free(json);
    refused("[]", SLM_E_FORMAT, "object");
    refused("{}", SLM_E_FORMAT, "model");
    refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", SLM_E_UNSUPPORTED, "normalizer");
}

static void test_offset_is_of_the_entry(void **state) {
    (void)state;
    struct mini m = { .extra = extra, .merges = merges };
    char *json = mini_json(&m), *bad = replaced(json, "\"abc\":257", "\"abc\":-7");
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    assert_int_equal(tokenizer_from_json(NULL, bad, strlen(bad), &t, &why), SLM_E_FORMAT);
    size_t entry = (size_t)(strstr(bad, "\"abc\"") - bad);
    assert_in_range(why.offset, entry, entry + 10);
    free(bad);
    free(json);
}

static void test_unsupported_by_name(void **state) {
    (void)state;
    static const struct edit edits[] = {
        { "\"BPE\"", "\"Unigram\"", SLM_E_UNSUPPORTED, "Unigram" },
        { "\\\\p{N}|", "\\\\p{N}{1,2}|", SLM_E_UNSUPPORTED, "(?i:" },
        { "\"Isolated\"", "\"Contiguous\"", SLM_E_UNSUPPORTED, "Split" },
        { "\"invert\":false", "\"invert\":true", SLM_E_UNSUPPORTED, "Split" },
        { "\"use_regex\":false", "\"use_regex\":true", SLM_E_UNSUPPORTED, "ByteLevel" },
        { "\"add_prefix_space\":false", "\"add_prefix_space\":true", SLM_E_UNSUPPORTED,
          "ByteLevel" },
        { "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", SLM_E_UNSUPPORTED, "NFKC" },
        { "\"normalizer\":null",
          "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
          "\"NFC\"},{\"type\":\"Lowercase\"}]}",
          SLM_E_UNSUPPORTED, "Lowercase" },
        { "\"post_processor\":null", "\"post_processor\":{\"type\":\"BertProcessing\"}",
          SLM_E_UNSUPPORTED, "BertProcessing" },
        { "\"post_processor\":null",
          "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":"
          "\"A\"}},{\"SpecialToken\":{\"id\":\"</s>\"}}]}",
          SLM_E_UNSUPPORTED, "after the text" },
        { "\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":null", SLM_E_UNSUPPORTED,
          "decoder" },
        { "\"decoder\":{\"type\":\"ByteLevel\"}", "\"decoder\":{\"type\":\"WordPiece\"}",
          SLM_E_UNSUPPORTED, "WordPiece" },
        { "\"type\":\"BPE\",", "\"type\":\"BPE\",\"dropout\":0.1,", SLM_E_UNSUPPORTED, "dropout" },
        { "\"type\":\"BPE\",", "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",",
          SLM_E_UNSUPPORTED, "end_of_word_suffix" },
        { "\"version\"", "\"novelty\":1,\"version\"", SLM_E_UNSUPPORTED, "novelty" },
        { "\"special\":true", "\"special\":true,\"lazy\":true", SLM_E_UNSUPPORTED, "lazy" },
    };
    struct mini m = {
        .extra = extra, .merges = merges, .pattern = QWEN2_PATTERN, .added = "[" IM_END "]"
    };
    char *json = mini_json(&m);
    refuse_edits(json, edits, sizeof edits / sizeof *edits);
    free(json);
}

static void test_spm_lies(void **state) {
    (void)state;
    static const char *const spm_extra[] = { "\xe2\x96\x81", "a", "b", "ab", NULL };
    static const char *const spm_merges[] = { "a b", NULL };
    static const struct edit edits[] = {
        { "\"<0x0A>\"", "\"<0x-1>\"", SLM_E_FORMAT, "<0x-1>" },
        { "\"<0x0A>\"", "\"<0xGG>\"", SLM_E_FORMAT, "<0xGG>" },
        { "\"ab\":260", "\"<0x41>b\":260,\"ab\":261", SLM_E_UNSUPPORTED, "byte token" },
        { "\"byte_fallback\":true", "\"byte_fallback\":false", SLM_E_UNSUPPORTED,
          "256 byte tokens" },
        { "\"Replace\",\"pattern\":{\"String\":\" \"},",
          "\"Replace\",\"pattern\":{\"String\":\"_\"},", SLM_E_UNSUPPORTED, "Replace" },
    };
    struct mini m = {
        .extra = spm_extra, .merges = spm_merges, .spm = true, .options = "\"byte_fallback\":true,"
    };
    char *json = mini_json(&m);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = replaced(json, edits[i].from, edits[i].to);
        if (i == 2) { /* its merge too */
            char *worse = replaced(bad, "\"a b\"", "\"<0x41> b\"");
            free(bad);
            bad = worse;
        }
        refused(bad, edits[i].code, edits[i].word);
        free(bad);
    }
    char *bad = replaced(json, "\"\xe2\x96\x81\":257", "\"z\":257");
    refused(bad, SLM_E_FORMAT, "U+2581");
    free(bad);
    free(json);
}

static bool same_ids(const struct tokenizer *a, const struct tokenizer *b, const char *text) {
    struct token_piece piece = { text, strlen(text), false };
    int32_t *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    assert_int_equal(tokenizer_encode(a, &piece, 1, TOKEN_ADD_BOS, &x, &n, NULL), SLM_OK);
    assert_int_equal(tokenizer_encode(b, &piece, 1, TOKEN_ADD_BOS, &y, &m, NULL), SLM_OK);
    bool same = n == m && memcmp(x, y, n * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

/* Members may come in any order, merges in either form. */
static void test_order_of_members(void **state) {
    (void)state;
    struct mini m = {
        .extra = extra, .merges = merges, .pattern = QWEN2_PATTERN, .added = "[" IM_END "]"
    };
    char *json = mini_json(&m);
    struct tokenizer *t = mini_build(&m), *u = NULL;
    assert_non_null(t);
    /* {model, rest}, with merges in front of the vocabulary and as pairs */
    char *model = strstr(json, "\"model\":");
    char *rest = malloc(strlen(json) + 64);
    char *vocab = strstr(model, "\"vocab\":"), *list = strstr(model, ",\"merges\"");
    sprintf(rest,
            "{\"model\":{\"type\":\"BPE\",\"merges\":[[\"a\",\"b\"],[\"ab\",\"c\"]],%.*s},%.*s}",
            (int)(list - vocab), vocab, (int)(model - 1 - (json + 1)), json + 1);
    slm_why why = { 0 };
    if (tokenizer_from_json(NULL, rest, strlen(rest), &u, &why) != SLM_OK)
        fail_msg("%s", why.message);
    assert_int_equal(tokenizer_size(t), 259);
    assert_int_equal(tokenizer_size(u), 259);
    assert_true(same_ids(t, u, "abc ab cab<|im_end|>abcabc 12 don't"));
    tokenizer_free(t);
    tokenizer_free(u);
    free(rest);
    free(json);
}

static void test_first_token(void **state) {
    (void)state;
    static const char post[] =
        "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":"
        "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":"
        "{\"id\":\"<s>\",\"ids\":[258],\"tokens\":[\"<s>\"]}}}]}";
    struct mini m = { .extra = extra,
                      .merges = merges,
                      .post = post,
                      .added = "[" ADDED(258, "<s>", ",\"special\":true") "]" };
    struct tokenizer *t = mini_build(&m);
    assert_non_null(t);
    assert_int_equal(tokenizer_bos(t), 258);
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(tokenizer_encode(t, NULL, 0, TOKEN_ADD_BOS, &ids, &n, NULL), SLM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 258);
    free(ids);
    struct token_piece piece = { "ab", 2, false };
    assert_int_equal(tokenizer_encode(t, &piece, 1, 0, &ids, &n, NULL), SLM_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 256);
    free(ids);
    tokenizer_free(t);
    char *json = mini_json(&m), *bad = replaced(json, "\"ids\":[258]", "\"ids\":[999]");
    refused(bad, SLM_E_FORMAT, "999");
    free(bad);
    free(json);
}

/* ---- arrays ---- */

struct arrays {
    struct token_text tokens[300];
    int32_t types[300];
    float scores[300];
    struct token_text merges[4];
    char store[300][8];
    struct token_spec spec;
};

static void set(struct arrays *a, size_t id, const char *s, int32_t type) {
    a->tokens[id] = (struct token_text){ s, strlen(s) };
    a->types[id] = type;
}

static struct arrays *byte_arrays(void) {
    struct arrays *a = calloc(1, sizeof *a);
    for (unsigned b = 0; b < 256; b++) {
        a->tokens[b] =
            (struct token_text){ a->store[b], utf8_encode(mini_alphabet(b), a->store[b]) };
        a->types[b] = TT_NORMAL;
    }
    set(a, 256, "ab", TT_NORMAL);
    set(a, 257, "<|end|>", TT_CONTROL);
    set(a, 258, "<think>", TT_USER);
    set(a, 259, "[PAD259]", TT_UNUSED);
    a->merges[0] = (struct token_text){ "a b", 3 };
    a->spec = (struct token_spec){ .model = "gpt2",
                                   .pre = "qwen2",
                                   .tokens = a->tokens,
                                   .types = a->types,
                                   .n_tokens = 260,
                                   .merges = a->merges,
                                   .n_merges = 1,
                                   .bos = -1,
                                   .eos = 257,
                                   .unk = -1 };
    return a;
}

static struct arrays *spm_arrays(void) {
    struct arrays *a = calloc(1, sizeof *a);
    set(a, 0, "<unk>", TT_UNKNOWN);
    set(a, 1, "<s>", TT_CONTROL);
    for (unsigned b = 0; b < 256; b++) {
        snprintf(a->store[b], sizeof a->store[b], "<0x%02X>", b);
        set(a, 2 + b, a->store[b], TT_BYTE);
    }
    set(a, 258, "\xe2\x96\x81", TT_NORMAL);
    set(a, 259, "a", TT_NORMAL);
    set(a, 260, "ab", TT_NORMAL);
    set(a, 261, "b", TT_NORMAL);
    set(a, 262, "  ", TT_USER); /* converters write the spaces of these plainly */
    set(a, 263,
        "\xe2\x96\x81"
        "a",
        TT_NORMAL);
    for (int i = 0; i < 300; i++)
        a->scores[i] = -(float)i;
    a->spec = (struct token_spec){ .model = "llama",
                                   .pre = "default",
                                   .tokens = a->tokens,
                                   .types = a->types,
                                   .scores = a->scores,
                                   .n_tokens = 264,
                                   .bos = 1,
                                   .eos = -1,
                                   .unk = 0,
                                   .add_bos = true };
    return a;
}

static void spec_refused(struct arrays *a, slm_err code, const char *word) {
    struct tokenizer *t = (void *)1;
    slm_why why = { 0 };
    slm_err err = tokenizer_from_spec(NULL, &a->spec, &t, &why);
    if (err != code || strstr(why.message, word) == NULL)
        print_message("want %d with '%s', got %d: %s\n", code, word, err, why.message);
    assert_int_equal(err, code);
    assert_non_null(strstr(why.message, word));
    assert_null(t);
    free(a);
}
#define REFUSED(make, change, code, word)                                                          \
    do {                                                                                           \
        struct arrays *a = make();                                                                 \
        change;                                                                                    \
        spec_refused(a, code, word);                                                               \
    } while (0)

static void test_array_lies(void **state) {
    (void)state;
    REFUSED(byte_arrays, a->spec.pre = "mystery", SLM_E_UNSUPPORTED, "'mystery'");
    REFUSED(byte_arrays, a->spec.pre = NULL, SLM_E_UNSUPPORTED, "'default'");
    REFUSED(byte_arrays, a->spec.model = "t5", SLM_E_UNSUPPORTED, "'t5'");
    REFUSED(byte_arrays, a->spec.model = NULL, SLM_E_UNSUPPORTED, "model");
    REFUSED(byte_arrays, a->spec.n_tokens = 0, SLM_E_FORMAT, "0 tokens");
    REFUSED(byte_arrays, a->spec.n_tokens = ((size_t)1 << 20) + 1, SLM_E_FORMAT, "1048577");
    REFUSED(byte_arrays, a->spec.bos = 260, SLM_E_FORMAT, "260");
    REFUSED(byte_arrays, a->spec.eos = -2, SLM_E_FORMAT, "-2");
    REFUSED(byte_arrays, a->spec.unk = INT32_MAX, SLM_E_FORMAT, "2147483647");
    REFUSED(byte_arrays, set(a, 256, "a", TT_NORMAL), SLM_E_FORMAT, "97");
    REFUSED(byte_arrays, set(a, 256, "ab", 9), SLM_E_FORMAT, "type 9");
    REFUSED(byte_arrays, set(a, 256, "ab", TT_BYTE), SLM_E_FORMAT, "'ab'");
    REFUSED(byte_arrays, set(a, 256, "a\xff", TT_NORMAL), SLM_E_FORMAT, "UTF-8");
    REFUSED(byte_arrays, set(a, 258, "<|end|>", TT_USER), SLM_E_FORMAT, "twice");
    REFUSED(byte_arrays, set(a, 120, "xx", TT_NORMAL), SLM_E_FORMAT, "0x78");
    REFUSED(byte_arrays, a->merges[0].n = 2, SLM_E_FORMAT, "merge 0");
    REFUSED(byte_arrays, (a->merges[0] = (struct token_text){ "a c", 3 }), SLM_E_FORMAT, "'ac'");
    REFUSED(byte_arrays, a->spec.merges = NULL, SLM_E_ARG, "merges");
    REFUSED(spm_arrays, set(a, 12, "<0x-1>", TT_BYTE), SLM_E_FORMAT, "<0x-1>");
    REFUSED(spm_arrays, set(a, 12, "<0x1>", TT_BYTE), SLM_E_FORMAT, "<0x1>");
    REFUSED(spm_arrays, set(a, 12, "-1", TT_BYTE), SLM_E_FORMAT, "'-1'");
    REFUSED(spm_arrays, a->spec.scores = NULL, SLM_E_FORMAT, "scores");
    REFUSED(spm_arrays, a->scores[260] = NAN, SLM_E_FORMAT, "260");
    REFUSED(spm_arrays, a->spec.pre = "qwen2", SLM_E_UNSUPPORTED, "qwen2");
}

static void test_arrays(void **state) {
    (void)state;
    struct arrays *a = byte_arrays();
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_from_spec(NULL, &a->spec, &t, NULL), SLM_OK);
    assert_int_equal(tokenizer_size(t), 259); /* padding is no token */
    assert_true(token_is_control(t, 257) && token_is_special(t, 257));
    assert_false(token_is_control(t, 258) || token_is_special(t, 258));
    assert_int_equal(token_id_of(t, "ab", 2), 256);
    assert_int_equal(token_id_of(t, "<think>", 7), 258);
    assert_int_equal(token_id_of(t, " ", 1), 32);
    assert_int_equal(token_id_of(t, "xyz", 3), -1);
    assert_int_equal(token_id_of(t, "", 0), -1);
    const char *s;
    size_t n;
    assert_true(token_text_of(t, 32, &s, &n) && n == 1 && s[0] == ' ');
    assert_false(token_text_of(t, 259, &s, &n) || token_text_of(t, -1, &s, &n));
    tokenizer_free(t);
    free(a);
}

static void test_spm_arrays(void **state) {
    (void)state;
    struct arrays *a = spm_arrays();
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    if (tokenizer_from_spec(NULL, &a->spec, &t, &why) != SLM_OK)
        fail_msg("%s", why.message);
    struct token_piece piece = { "ab   a<s>", 9, false };
    int32_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(tokenizer_encode(t, &piece, 1, TOKEN_ADD_BOS, &ids, &n, NULL), SLM_OK);
    const int32_t want[] = { 1, 260, 262, 263, 1 };
    assert_int_equal(n, 5);
    assert_memory_equal(ids, want, sizeof want);
    free(ids);
    const char *s;
    size_t len;
    assert_true(token_text_of(t, 2 + 0x41, &s, &len) && len == 1 && s[0] == 'A');
    assert_true(token_text_of(t, 263, &s, &len) && len == 2 && memcmp(s, " a", 2) == 0);
    assert_int_equal(token_id_of(t, " a", 2), 263);
    assert_int_equal(token_id_of(t, "A", 1), 2 + 0x41);
    tokenizer_free(t);
    /* a space in front of the text, taken away again when it is decoded */
    a->spec.add_space_prefix = true;
    assert_int_equal(tokenizer_from_spec(NULL, &a->spec, &t, NULL), SLM_OK);
    piece = (struct token_piece){ "ab", 2, false };
    assert_int_equal(tokenizer_encode(t, &piece, 1, 0, &ids, &n, NULL), SLM_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 258); /* ab (-260) before space-a (-263) */
    assert_int_equal(ids[1], 260);
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out;
    buf_init(&out, &hooks, 100);
    assert_int_equal(tokenizer_decode(t, ids, n, false, &out, NULL), SLM_OK);
    assert_string_equal(out.data, "ab");
    buf_free(&out);
    free(ids);
    tokenizer_free(t);
    free(a);
}

/* ---- memory ---- */

static void test_allocation_fails(void **state) {
    (void)state;
    static const char *const long_extra[] = { "ab", "abc", NULL };
    struct mini m = { .extra = long_extra,
                      .merges = merges,
                      .pattern = QWEN2_PATTERN,
                      .normalizer = "{\"type\":\"NFC\"}",
                      .added = "[" IM_END "]" };
    char *json = mini_json(&m);
    /* long enough for windows, with marks for NFC and two pieces to join */
    size_t n = 3000;
    char *text = malloc(n);
    memset(text, 'a', n);
    memcpy(text + 100, "e\xcc\xa3\xcc\x81", 5);
    for (size_t i = 200; i < 400; i += 2)
        memcpy(text + i, i == 200 ? " e" : "\xcc\x81", 2);
    struct token_piece pieces[] = { { text, 2000, false }, { text + 2000, n - 2000, true } };
    size_t k = 1;
    for (;; k++) {
        struct test_hooks h;
        test_hooks_init(&h, k);
        struct tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t n_ids = 0;
        slm_why why = { 0 };
        slm_err err = tokenizer_from_json(&h.hooks, json, strlen(json), &t, &why);
        if (err == SLM_OK)
            err = tokenizer_encode(t, pieces, 2, 0, &ids, &n_ids, &why);
        if (err == SLM_OK)
            h.hooks.release(h.hooks.user, ids);
        tokenizer_free(t);
        assert_int_equal(h.live, 0);
        if (!h.failed)
            break;
        assert_int_equal(err, SLM_E_NOMEM);
        assert_int_equal(why.code, SLM_E_NOMEM);
    }
    assert_true(k > 25);
    for (k = 1;; k++) {
        struct test_hooks h;
        test_hooks_init(&h, k);
        struct tokenizer *t = NULL;
        struct arrays *a = spm_arrays();
        slm_err err = tokenizer_from_spec(&h.hooks, &a->spec, &t, NULL);
        tokenizer_free(t);
        free(a);
        assert_int_equal(h.live, 0);
        if (!h.failed)
            break;
        assert_int_equal(err, SLM_E_NOMEM);
    }
    free(text);
    free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_offset_is_of_the_entry),
        cmocka_unit_test(test_unsupported_by_name),
        cmocka_unit_test(test_spm_lies),
        cmocka_unit_test(test_order_of_members),
        cmocka_unit_test(test_first_token),
        cmocka_unit_test(test_array_lies),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_spm_arrays),
        cmocka_unit_test(test_allocation_fails),
    };
    return cmocka_run_group_tests_name("token_load", tests, NULL, NULL);
}
