/* decode.c - ids to text, one at a time, never half a character.
 *
 * Byte-level: the bytes of all tokens in a row, read as UTF-8; a sequence that cannot become a
 * character gives one U+FFFD for its longest part that could have (Unicode's "maximal subpart",
 * what Rust's from_utf8_lossy does).
 * SentencePiece: texts of tokens are whole characters; <0xNN> tokens collect bytes until they make
 * a character. Bytes that make none become one U+FFFD each, with all bytes that follow in the same
 * row of <0xNN> tokens, as in the official ByteFallback decoder. That one also takes back valid
 * characters before the bad byte in the row, which a stream has already given out. */
#include <string.h>

#include "base/utf8.h"
#include "token/tokenizer.h"

#define REPLACEMENT "\xef\xbf\xbd"

/* pending[7]: the row of <0xNN> tokens at hand has a byte that makes no character */
enum { BROKEN = 7 };

void token_decoder_init(struct token_decoder *d, const struct tokenizer *t, bool skip_special) {
    *d = (struct token_decoder){ .t = t, .skip_special = skip_special, .first = true };
}

/* Complete characters. The first space of a text that was given one in front is not given back. */
static void put_text(struct token_decoder *d, const char *s, size_t n, struct buf *out) {
    if (n == 0)
        return;
    if (d->first && d->t->space_prefix && s[0] == ' ') {
        s++;
        n--;
    }
    d->first = false;
    buf_put(out, s, n);
}

static void put_byte(struct token_decoder *d, uint8_t byte, struct buf *out) {
    uint32_t cp;
    d->pending[d->n_pending++] = byte;
    for (;;) {
        const char *s = (const char *)d->pending;
        size_t n = d->n_pending;
        if (utf8_decode(s, n, &cp) == n) {
            put_text(d, s, n, out);
            d->n_pending = 0;
            return;
        }
        if (utf8_complete(s, n) == 0)
            return; /* the beginning of a character */
        put_text(d, REPLACEMENT, 3, out);
        if (n == 1) {
            d->n_pending = 0;
            return;
        }
        /* what was there before could have become a character; the new byte starts again */
        d->pending[0] = byte;
        d->n_pending = 1;
    }
}

static void put_bytes(struct token_decoder *d, const char *s, size_t n, struct buf *out) {
    size_t i = 0;
    while (i < n && d->n_pending > 0)
        put_byte(d, (uint8_t)s[i++], out);
    size_t plain = utf8_valid(s + i, n - i);
    put_text(d, s + i, plain, out);
    for (i += plain; i < n; i++)
        put_byte(d, (uint8_t)s[i], out);
}

static void give_up_pending(struct token_decoder *d, struct buf *out) {
    size_t each = d->t->model == TOKEN_BPE_SPM ? d->n_pending : d->n_pending > 0;
    for (size_t i = 0; i < each; i++)
        put_text(d, REPLACEMENT, 3, out);
    d->n_pending = 0;
}

/* One byte of a row of <0xNN> tokens. */
static void put_fallback(struct token_decoder *d, uint8_t byte, struct buf *out) {
    uint32_t cp;
    d->pending[d->n_pending++] = byte;
    const char *s = (const char *)d->pending;
    if (!d->pending[BROKEN] && utf8_decode(s, d->n_pending, &cp) == d->n_pending) {
        put_text(d, s, d->n_pending, out);
        d->n_pending = 0;
    } else if (d->pending[BROKEN] || utf8_complete(s, d->n_pending) != 0) {
        d->pending[BROKEN] = 1;
        give_up_pending(d, out);
    }
}

void token_decoder_put(struct token_decoder *d, int32_t id, struct buf *out) {
    const struct token_entry *e = token_entry(d->t, id);
    const char *s;
    size_t n;
    if (e == NULL || (d->skip_special && (e->flags & TF_SPECIAL)) ||
        !token_text_of(d->t, id, &s, &n))
        return;
    if (d->t->model == TOKEN_BPE_BYTES) {
        put_bytes(d, s, n, out);
    } else if (e->flags & TF_BYTE) {
        put_fallback(d, (uint8_t)s[0], out);
    } else {
        give_up_pending(d, out);
        d->pending[BROKEN] = 0;
        put_text(d, s, n, out);
    }
}

void token_decoder_end(struct token_decoder *d, struct buf *out) {
    give_up_pending(d, out);
    d->pending[BROKEN] = 0;
}

slm_err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                         struct buf *out, slm_why *why) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= t->size)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "id %d at place %zu, allowed are 0 to %u",
                        ids[i], i, t->size - 1);
    struct token_decoder d;
    token_decoder_init(&d, t, skip_special);
    for (size_t i = 0; i < n; i++)
        token_decoder_put(&d, ids[i], out);
    token_decoder_end(&d, out);
    if (out->err != SLM_OK)
        return fail(why, out->err, SLM_NO_OFFSET, "no room for the decoded text (%zu bytes)",
                    out->len);
    return SLM_OK;
}
