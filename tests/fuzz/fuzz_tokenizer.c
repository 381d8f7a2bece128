/* fuzz_tokenizer.c - tokenizers from untrusted files, and untrusted text through them.
 *
 * Input: a tokenizer.json, a zero byte, a text; or, starting with B or S, a vocabulary for
 * tokenizer_from_spec (byte-level or SentencePiece-style), one entry a line as <type><text>, an
 * empty line, merges, an empty line, a text. The 256 byte tokens are put in front of those.
 * Checked: every id exists; pieces give what one string gives; a stream gives what the whole gives,
 * never half a character; data gives no control token; texts come back where they must. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "token/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* the library under test only returns errors; the fuzzer wants a crash */
static void expect(bool truth) {
    if (!truth)
        abort();
}

struct result {
    int32_t *ids;
    size_t n;
};

static bool encode(const struct tokenizer *t, const struct token_piece *pieces, size_t n,
                   struct result *r) {
    slm_why why = { 0 };
    r->ids = NULL;
    slm_err err = tokenizer_encode(t, pieces, n, TOKEN_ADD_BOS, &r->ids, &r->n, &why);
    expect(err == SLM_OK || (r->ids == NULL && why.code == err && why.message[0] != 0));
    for (size_t i = 0; err == SLM_OK && i < r->n; i++)
        expect(token_entry(t, r->ids[i]) != NULL);
    return err == SLM_OK;
}

static void check_decode(const struct tokenizer *t, const struct result *r, const char *text,
                         size_t n, bool comes_back) {
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf whole, stream;
    buf_init(&whole, &hooks, (size_t)1 << 26);
    buf_init(&stream, &hooks, (size_t)1 << 26);
    expect(tokenizer_decode(t, r->ids, r->n, false, &whole, NULL) == SLM_OK);
    struct token_decoder d;
    token_decoder_init(&d, t, false);
    for (size_t i = 0; i < r->n; i++)
        token_decoder_put(&d, r->ids[i], &stream);
    expect(utf8_valid(stream.data, stream.len) == stream.len);
    token_decoder_end(&d, &stream);
    expect(whole.len == stream.len &&
           (whole.len == 0 || memcmp(whole.data, stream.data, whole.len) == 0));
    if (comes_back)
        expect(whole.len == n && (n == 0 || memcmp(whole.data, text, n) == 0));
    buf_free(&whole);
    buf_free(&stream);
}

/* Whether every text comes back: nothing is swallowed, normalised or put in front. */
static bool loses_nothing(const struct tokenizer *t) {
    if (t->nfc || t->model != TOKEN_BPE_BYTES || t->bos >= 0)
        return false;
    for (uint32_t id = 0; id < t->size; id++)
        if (t->tok[id].flags & (TF_LSTRIP | TF_RSTRIP))
            return false;
    return true;
}

static void use(struct tokenizer *t, const char *text, size_t n) {
    const char *s;
    size_t len;
    for (int32_t id = -1; id <= (int32_t)t->size; id++)
        if (token_text_of(t, id, &s, &len) && !(t->tok[id].flags & TF_RAW))
            expect(token_id_of(t, s, len) >= 0 || !(t->tok[id].flags & TF_VOCAB));
    struct result one, cut, hostile;
    struct token_piece whole = { text, n, false }, as_data = { text, n, true };
    struct token_piece parts[] = { { text, n / 3, false },
                                   { text + n / 3, n / 3, false },
                                   { text + n / 3 * 2, n - n / 3 * 2, false } };
    if (!encode(t, &whole, 1, &one))
        return;
    expect(encode(t, parts, 3, &cut) && cut.n == one.n &&
           memcmp(cut.ids, one.ids, one.n * sizeof *one.ids) == 0);
    check_decode(t, &one, text, n, loses_nothing(t));
    expect(encode(t, &as_data, 1, &hostile));
    check_decode(t, &hostile, text, n, loses_nothing(t));
    tokenizer_mark_control(t, text, n);
    free(one.ids);
    free(cut.ids);
    free(hostile.ids);
}

static void from_json(const char *data, size_t size) {
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    size_t n = 0;
    while (n < size && data[n] != 0)
        n++;
    slm_err err = tokenizer_from_json(NULL, data, n, &t, &why);
    expect((err == SLM_OK) == (t != NULL));
    expect(err == SLM_OK || (why.code == err && why.message[0] != 0));
    if (err != SLM_OK)
        return;
    size_t start = n < size ? n + 1 : n;
    use(t, data + start, size - start);
    use(t, data, n < 2000 ? n : 2000);
    tokenizer_free(t);
}

enum { MOST_LINES = 600 };

/* Lines up to an empty one; returns where the rest starts. */
static size_t lines(const char *s, size_t n, size_t at, struct token_text *out, size_t *n_out,
                    size_t most) {
    while (at < n && *n_out < most) {
        size_t end = at;
        while (end < n && s[end] != '\n')
            end++;
        size_t next = end < n ? end + 1 : end;
        if (end == at)
            return next;
        out[(*n_out)++] = (struct token_text){ s + at, end - at };
        at = next;
    }
    return at;
}

static void from_spec(const char *data, size_t size) {
    static struct token_text tokens[MOST_LINES], merges[MOST_LINES];
    static int32_t types[MOST_LINES];
    static float scores[MOST_LINES];
    static char store[256][8];
    bool spm = data[0] == 'S';
    size_t n_tokens = 256, n_merges = 0, n_byte = 0;
    for (unsigned b = 0; b < 256; b++) {
        static const char hex[] = "0123456789ABCDEF";
        char text[8] = { '<', '0', 'x', hex[b >> 4], hex[b & 15], '>' };
        uint32_t cp = (b > 32 && b < 127) || (b > 160 && b != 173) ? b : 256 + (uint32_t)n_byte++;
        size_t n = spm ? 6 : utf8_encode(cp, text);
        memcpy(store[b], text, n);
        tokens[b] = (struct token_text){ store[b], n };
        types[b] = spm ? TT_BYTE : TT_NORMAL;
        scores[b] = 0;
    }
    size_t at = lines(data, size, 1, tokens, &n_tokens, MOST_LINES);
    for (size_t i = 256; i < n_tokens; i++) {
        types[i] = tokens[i].s[0] - '0';
        scores[i] = -(float)(i % 7);
        tokens[i].s++;
        tokens[i].n--;
    }
    at = lines(data, size, at, merges, &n_merges, MOST_LINES);
    struct token_spec spec = { .model = spm ? "llama" : "gpt2",
                               .pre = spm ? "default" : "gpt-4o",
                               .tokens = tokens,
                               .types = types,
                               .scores = scores,
                               .n_tokens = n_tokens,
                               .merges = merges,
                               .n_merges = n_merges,
                               .bos = -1,
                               .eos = -1,
                               .unk = -1,
                               .add_space_prefix = size % 2 == 1 };
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    slm_err err = tokenizer_from_spec(NULL, &spec, &t, &why);
    expect((err == SLM_OK) == (t != NULL));
    expect(err == SLM_OK || (why.code == err && why.message[0] != 0));
    if (err == SLM_OK)
        use(t, data + at, size - at);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *s = (const char *)data;
    if (size > 0 && (data[0] == 'B' || data[0] == 'S'))
        from_spec(s, size);
    else
        from_json(s, size);
    return 0;
}
