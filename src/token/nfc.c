/* nfc.c - NFC for the tokenizers that ask for it.
 *
 * Formula: UAX #15: decompose, order marks by combining class (stable), compose. Decomposition and
 * composition come from utf8proc; the ordering is our own, because that library's is quadratic in
 * a run of marks and the text is not trusted.
 * CC_NFC in the character table names every character that is not itself a safe border (combining
 * class 0 and NFC_Quick_Check = Yes). So the text falls into spans of one unflagged character and
 * the flagged ones behind it, and only spans with a flagged character need work. The flags are
 * those of Unicode 9, the version of the official tokenizer library: younger characters pass
 * unchanged, whatever version of utf8proc is installed. */
#include "token/nfc.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "token/unicode.h"

enum { SMALL_SPAN = 64, SHORT_RUN = 24 };

static int combining_class(utf8proc_int32_t cp) {
    return utf8proc_get_property(cp)->combining_class;
}

/* Code points of the canonical decomposition of cp, at dst [room]; returns how many there are. */
static size_t decompose(uint32_t cp, utf8proc_int32_t *dst, size_t room) {
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, dst, (utf8proc_ssize_t)room,
                                                 UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
    return n > 0 ? (size_t)n : 0;
}

/* Stable sort of cps [n] by combining class: insertion for short runs, counting for long ones. */
static void order_run(utf8proc_int32_t *cps, size_t n, utf8proc_int32_t *scratch) {
    if (n <= SHORT_RUN) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t cp = cps[i];
            int ccc = combining_class(cp);
            size_t k = i;
            for (; k > 0 && combining_class(cps[k - 1]) > ccc; k--)
                cps[k] = cps[k - 1];
            cps[k] = cp;
        }
        return;
    }
    size_t start[257] = { 0 };
    for (size_t i = 0; i < n; i++)
        start[(combining_class(cps[i]) & 255) + 1]++;
    for (size_t c = 1; c < 257; c++)
        start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++)
        scratch[start[combining_class(cps[i]) & 255]++] = cps[i];
    memcpy(cps, scratch, n * sizeof *cps);
}

static void order_marks(utf8proc_int32_t *cps, size_t first, size_t n, utf8proc_int32_t *scratch) {
    for (size_t i = first; i < n;) {
        size_t end = i;
        while (end < n && combining_class(cps[end]) != 0)
            end++;
        if (end > i + 1)
            order_run(cps + i, end - i, scratch);
        i = end + 1;
    }
}

/* One span s [n]: an unflagged character (unless the text starts with flagged ones), then flagged
 * ones. */
static slm_err normalise_span(const struct slm_hooks *h, const uint8_t *s, size_t n,
                              struct buf *out, slm_why *why) {
    utf8proc_int32_t small[2 * SMALL_SPAN], *cps = small;
    size_t room = SMALL_SPAN, total = 0, len, count = 0, first = 0;
    for (size_t i = 0; i < n; i += len)
        total += decompose(char_at(s + i, &len), NULL, 0);
    if (total > room) {
        room = total;
        cps = mem_alloc(h, total, 2 * sizeof *cps); /* the second half is scratch */
        if (cps == NULL)
            return fail_nomem(why, "normalised text", total * 2 * sizeof *cps);
    }
    for (size_t i = 0; i < n; i += len) {
        uint32_t cp = char_at(s + i, &len);
        count += decompose(cp, cps + count, room - count);
        /* a mark younger than Unicode 9 counts as a base character */
        if (i == 0 && count == 1 && !(char_flags(cp) & CC_NFC) && combining_class(cps[0]) != 0)
            first = 1;
    }
    order_marks(cps, first, count, cps + room);
    utf8proc_ssize_t composed =
        utf8proc_normalize_utf32(cps, (utf8proc_ssize_t)count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        char bytes[4];
        buf_put(out, bytes, utf8_encode((uint32_t)cps[i], bytes));
    }
    if (cps != small)
        mem_free(h, cps);
    return SLM_OK;
}

/* Offset of the next flagged character at or after pos, or n; *before gets the offset of the
 * character that ends there (pos itself if the flagged one stands at pos). */
static size_t next_flagged(const uint8_t *s, size_t n, size_t pos, size_t *before) {
    size_t len;
    *before = pos;
    while (pos < n) {
        if (s[pos] < 0xcc) { /* below U+0300 nothing is flagged */
            *before = pos;
            pos += s[pos] < 0x80 ? 1 : 2;
            continue;
        }
        if (char_flags(char_at(s + pos, &len)) & CC_NFC)
            return pos;
        *before = pos;
        pos += len;
    }
    return n;
}

slm_err nfc_text(const struct slm_hooks *h, const char *text, size_t n, struct buf *out,
                 bool *changed, slm_why *why) {
    const uint8_t *s = (const uint8_t *)text;
    size_t done = 0, before, len;
    *changed = false;
    for (size_t pos = next_flagged(s, n, 0, &before); pos < n;
         pos = next_flagged(s, n, done, &before)) {
        size_t end = pos;
        while (end < n && (char_flags(char_at(s + end, &len)) & CC_NFC))
            end += len;
        buf_put(out, s + done, before - done);
        TRY(normalise_span(h, s + before, end - before, out, why));
        *changed = true;
        done = end;
    }
    if (*changed)
        buf_put(out, s + done, n - done);
    if (out->err != SLM_OK)
        return out->err == SLM_E_NOMEM
                   ? fail_nomem(why, "normalised text", n)
                   : fail(why, out->err, SLM_NO_OFFSET, "normalised text is longer than %zu bytes",
                          out->limit);
    return SLM_OK;
}
