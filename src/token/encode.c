/* encode.c - text to ids.
 *
 * Order (that of the official library): added tokens are cut from the raw text; what is between
 * them is normalised; added tokens that want the normalised text are cut from that; the rest is
 * split into words; each word is merged. A SentencePiece vocabulary has no words, its merges run
 * over everything between two added tokens; there a border between two characters that stand side
 * by side in no result of a merge is as good as one between words: a token across it would hold
 * the pair. */
#include <string.h>

#include "base/utf8.h"
#include "token/added.h"
#include "token/bpe.h"
#include "token/nfc.h"
#include "token/split.h"
#include "token/tokenizer.h"
#include "token/unicode.h"

struct encoder {
    const struct tokenizer *t;
    struct id_list out;
    struct bpe *bpe;
    struct buf normal; /* normalised text of the part at hand */
    slm_why *why;
};

/* ---- words ---- */

static slm_err encode_spm_words(struct encoder *e, const uint8_t *s, size_t n) {
    const struct tokenizer *t = e->t;
    size_t start = 0, len;
    uint32_t before = char_at(s, &len);
    if (before == METASPACE_CP)
        before = ' ';
    for (size_t i = len; i < n; i += len) {
        uint32_t cp = char_at(s + i, &len);
        if (cp == METASPACE_CP)
            cp = ' ';
        /* unknown characters in a row may become one token */
        if (!chars_joined(t, before, cp) && (t->byte_fallback || char_token(t, cp) != NO_TOKEN)) {
            TRY(bpe_word(e->bpe, s + start, i - start, e->why));
            start = i;
        }
        before = cp;
    }
    return bpe_word(e->bpe, s + start, n - start, e->why);
}

static slm_err encode_words(struct encoder *e, const uint8_t *s, size_t n) {
    if (n == 0)
        return SLM_OK;
    if (e->t->model == TOKEN_BPE_SPM)
        return encode_spm_words(e, s, n);
    for (size_t pos = 0; pos < n;) {
        size_t end = split_next(e->t->split, s, n, pos);
        TRY(bpe_word(e->bpe, s + pos, end - pos, e->why));
        pos = end;
    }
    return SLM_OK;
}

/* ---- between added tokens ---- */

static slm_err normalise(struct encoder *e, const uint8_t **s, size_t *n) {
    bool changed = false;
    e->normal.len = 0;
    if (e->t->nfc)
        TRY(nfc_text(&e->t->hooks, (const char *)*s, *n, &e->normal, &changed, e->why));
    if (e->t->space_prefix) {
        buf_putc(&e->normal, ' ');
        buf_put(&e->normal, *s, *n);
        if (e->normal.err != SLM_OK)
            return fail_nomem(e->why, "normalised text", *n + 1);
        changed = true;
    }
    if (changed) {
        *s = (const uint8_t *)e->normal.data;
        *n = e->normal.len;
    }
    return SLM_OK;
}

static slm_err encode_between(struct encoder *e, const uint8_t *s, size_t n) {
    if (n == 0)
        return SLM_OK;
    TRY(normalise(e, &s, &n));
    struct added_scan scan = {
        .t = e->t, .trie = &e->t->normalised, .s = s, .n = n, .normalised_pass = true
    };
    struct added_match match;
    size_t done = 0;
    while (added_next(&scan, &match)) {
        TRY(encode_words(e, s + done, match.start - done));
        TRY(id_list_put(&e->out, (int32_t)match.id, e->why));
        done = scan.done;
    }
    return encode_words(e, s + done, n - done);
}

static slm_err encode_text(struct encoder *e, const uint8_t *s, size_t n, struct trust *trust) {
    struct added_scan scan = { .t = e->t, .trie = &e->t->raw, .s = s, .n = n, .trust = trust };
    struct added_match match;
    size_t done = 0;
    while (added_next(&scan, &match)) {
        TRY(encode_between(e, s + done, match.start - done));
        TRY(id_list_put(&e->out, (int32_t)match.id, e->why));
        done = scan.done;
    }
    return encode_between(e, s + done, n - done);
}

/* ---- pieces ---- */

/* The pieces in one row: the only one with text itself, or a copy (*copy, owned). */
static slm_err join_pieces(const struct slm_hooks *h, const struct token_piece *pieces, size_t n,
                           char **copy, const char **text, size_t *size, slm_why *why) {
    size_t total = 0, n_full = 0;
    *text = "";
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].n == 0)
            continue;
        n_full++;
        *text = pieces[i].text;
        if (pieces[i].n > TOKEN_TEXT_MAX - total)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "text has more than %zu bytes",
                        TOKEN_TEXT_MAX);
        total += pieces[i].n;
    }
    *size = total;
    if (n_full < 2)
        return SLM_OK;
    *copy = mem_alloc(h, total, 1);
    if (*copy == NULL)
        return fail_nomem(why, "text", total);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].n > 0)
            memcpy(*copy + at, pieces[i].text, pieces[i].n);
        at += pieces[i].n;
    }
    *text = *copy;
    return SLM_OK;
}

slm_err tokenizer_encode(const struct tokenizer *t, const struct token_piece *pieces,
                         size_t n_pieces, unsigned flags, int32_t **ids, size_t *n_ids,
                         slm_why *why) {
    struct encoder e = { .t = t, .out = { .hooks = &t->hooks }, .why = why };
    struct trust trust = { .pieces = pieces, .n = n_pieces };
    char *copy = NULL;
    const char *text;
    size_t n = 0;
    slm_err err = SLM_OK;
    buf_init(&e.normal, &t->hooks,
             TOKEN_TEXT_MAX * 3 + 1); /* NFC makes UTF-8 at most 3 times as long */
    TRY_OUT(join_pieces(&t->hooks, pieces, n_pieces, &copy, &text, &n, why));
    size_t valid = utf8_valid(text, n);
    if (valid < n)
        TRY_OUT(fail(why, SLM_E_ENCODING, valid, "text is not UTF-8 at byte %zu (0x%02x)", valid,
                     (uint8_t)text[valid]));
    e.out.cap = n / 4 + 16;
    e.out.ids = mem_alloc(&t->hooks, e.out.cap, sizeof *e.out.ids);
    if (e.out.ids == NULL)
        TRY_OUT(fail_nomem(why, "ids", e.out.cap * sizeof *e.out.ids));
    if ((flags & TOKEN_ADD_BOS) && t->bos >= 0)
        TRY_OUT(id_list_put(&e.out, t->bos, why));
    if (n > 0) {
        TRY_OUT(bpe_new(t, &e.out, n, &e.bpe, why));
        TRY_OUT(encode_text(&e, (const uint8_t *)text, n, &trust));
    }
    *ids = e.out.ids;
    *n_ids = e.out.n;
    e.out.ids = NULL;
out:
    bpe_free(e.bpe);
    mem_free(&t->hooks, e.out.ids);
    mem_free(&t->hooks, copy);
    buf_free(&e.normal);
    return err;
}
