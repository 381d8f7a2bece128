/* split.c - the split patterns of the models, as scanners written by hand.
 *
 * A regular expression engine backtracks, and runs of one kind of character then cost stack or
 * quadratic time; these look at every byte a bounded number of times and use no stack. They match
 * the patterns below exactly as the official library's engine does (Oniguruma, Unicode 16;
 * alternatives are tried in order, quantifiers are greedy). In the comments L, N, M stand for
 * \p{L}, \p{N}, \p{M}.
 * (?i:...) of the contractions: that engine folds U+017F (long s) to s, and no other character
 * outside ASCII to one of these letters; found by trying every code point. */
#include "token/split.h"

#include <string.h>

#include "token/unicode.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define O200K_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"

static const struct {
    enum token_split split;
    const char *pattern;
} patterns[] = {
    { SPLIT_QWEN2, CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" REST },
    { SPLIT_LLAMA3,
      CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" REST },
    { SPLIT_O200K,
      PREFIX O200K_UPPER "*" O200K_LOWER "+" CONTRACTIONS "?|" PREFIX O200K_UPPER "+" O200K_LOWER
                         "*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" REST },
};

enum token_split split_by_pattern(const char *pattern, size_t n) {
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
        if (strlen(patterns[i].pattern) == n && memcmp(patterns[i].pattern, pattern, n) == 0)
            return patterns[i].split;
    return SPLIT_NONE;
}

/* ---- classes ---- */

static inline enum char_class class_at(const uint8_t *s, size_t *len) {
    if (s[0] < 0x80) { /* block 0 of the table is ASCII */
        *len = 1;
        return (enum char_class)(unicode_blocks[0][s[0]] & CC_MASK);
    }
    return char_class(char_at(s, len));
}
static inline bool is_letter(enum char_class c) {
    return c >= CC_UPPER && c <= CC_LETTER;
}
/* [^\sLN]: punctuation, symbols, controls, marks */
static inline bool is_punct(enum char_class c) {
    return c == CC_OTHER || c == CC_MARK;
}
static inline bool is_newline(uint8_t byte) {
    return byte == '\r' || byte == '\n';
}

static size_t skip_letters(const uint8_t *s, size_t n, size_t pos) {
    size_t len;
    while (pos < n && is_letter(class_at(s + pos, &len)))
        pos += len;
    return pos;
}

static size_t skip_punct(const uint8_t *s, size_t n, size_t pos) {
    size_t len;
    while (pos < n && is_punct(class_at(s + pos, &len)))
        pos += len;
    return pos;
}

static size_t skip_digits(const uint8_t *s, size_t n, size_t pos, unsigned most) {
    size_t len;
    while (most-- > 0 && pos < n && class_at(s + pos, &len) == CC_NUMBER)
        pos += len;
    return pos;
}

/* ---- parts that the patterns share ---- */

/* Length of a contraction at s[pos], which is an apostrophe; 0 if there is none. */
static size_t contraction(const uint8_t *s, size_t n, size_t pos) {
    if (n - pos < 2)
        return 0;
    switch (s[pos + 1] | 0x20) { /* no byte but the letter's two cases gives the letter */
    case 's':
    case 't':
    case 'm':
    case 'd':
        return 2;
    case 'r':
    case 'v':
        return n - pos > 2 && (s[pos + 2] | 0x20) == 'e' ? 3 : 0;
    case 'l':
        return n - pos > 2 && (s[pos + 2] | 0x20) == 'l' ? 3 : 0;
    default:
        return n - pos > 2 && s[pos + 1] == 0xc5 && s[pos + 2] == 0xbf ? 3 : 0; /* U+017F */
    }
}

/* \s*[\r\n]+ | \s+(?!\S) | \s+ at white space: up to the last line break of the run if it has one;
 * else all of it at the end of the text; else all but the last character, which the next word
 * may want; else that one character. */
static size_t space_end(const uint8_t *s, size_t n, size_t pos) {
    size_t end = pos, last = pos, after_newline = 0, len;
    while (end < n && class_at(s + end, &len) == CC_SPACE) {
        if (is_newline(s[end]))
            after_newline = end + 1;
        last = end;
        end += len;
    }
    if (after_newline > 0)
        return after_newline;
    return end < n && last > pos ? last : end;
}

/* \p{N}{1,digits} | ?[^\sLN]+[\r\n]* | white space, where none of the letter alternatives matched.
 * slash: [\r\n/]* instead. */
static size_t other_end(const uint8_t *s, size_t n, size_t pos, unsigned digits, bool slash) {
    size_t len, next;
    enum char_class c = class_at(s + pos, &len);
    if (c == CC_NUMBER)
        return skip_digits(s, n, pos, digits);
    size_t punct = s[pos] == ' ' ? pos + 1 : pos;
    if (punct == n || !is_punct(class_at(s + punct, &next)))
        return space_end(s, n, pos);
    size_t end = skip_punct(s, n, punct);
    while (end < n && (is_newline(s[end]) || (slash && s[end] == '/')))
        end++;
    return end;
}

/* ---- qwen2 and llama3 ---- */

static size_t word_end(const uint8_t *s, size_t n, size_t pos, unsigned digits) {
    size_t len, next;
    if (s[pos] == '\'') {
        size_t k = contraction(s, n, pos);
        if (k > 0)
            return pos + k;
    }
    enum char_class c = class_at(s + pos, &len);
    if (is_letter(c))
        return skip_letters(s, n, pos + len);
    if (c != CC_NUMBER && !is_newline(s[pos]) && pos + len < n &&
        is_letter(class_at(s + pos + len, &next)))
        return skip_letters(s, n, pos + len + next); /* [^\r\nLN] L+ */
    return other_end(s, n, pos, digits, false);
}

/* ---- o200k ----
 * With U = [Lu Lt Lm Lo M], W = [Ll Lm Lo M], X = [Lm Lo M] (both), P = [^\r\nLN]?:
 *   A: P U* W+ contraction?      B: P U+ W* contraction?
 * From where P ends, U* takes a run of U up to u. If s[u] is Ll, W+ goes on from u. Else U* gives
 * back up to the last X of the run, which W+ takes, and the match ends there. Without any X, A
 * fails for this P, and B takes the run (s[u] is no W then, as it is neither U nor Ll). */
static inline bool is_upper_run(enum char_class c) {
    return c == CC_UPPER || c == CC_LETTER || c == CC_MARK;
}
static inline bool is_lower_run(enum char_class c) {
    return c == CC_LOWER || c == CC_LETTER || c == CC_MARK;
}

/* End of A's match (without contraction) when U* starts at pos, or 0; *run gets u. */
static size_t cased_end(const uint8_t *s, size_t n, size_t pos, size_t *run) {
    size_t after_both = 0, len;
    enum char_class c = CC_OTHER;
    while (pos < n && is_upper_run(c = class_at(s + pos, &len))) {
        pos += len;
        if (c != CC_UPPER)
            after_both = pos;
    }
    *run = pos;
    if (pos == n || c != CC_LOWER)
        return after_both;
    while (pos < n && is_lower_run(class_at(s + pos, &len)))
        pos += len;
    return pos;
}

static size_t o200k_end(const uint8_t *s, size_t n, size_t pos) {
    size_t len, next, run;
    enum char_class c = class_at(s + pos, &len), following = CC_OTHER;
    size_t start = is_letter(c) ? pos : pos + len; /* after P */
    bool prefix = !is_letter(c);
    if (c == CC_NUMBER || is_newline(s[pos]))
        return other_end(s, n, pos, 3, true);
    if (prefix && start < n)
        following = class_at(s + start, &next);
    size_t end = 0;
    if (!prefix || is_letter(following) || following == CC_MARK) {
        end = cased_end(s, n, start, &run);
        if (end == 0)
            end = c == CC_MARK ? start : run; /* A without P takes a mark alone; else B */
    } else if (c == CC_MARK) {
        end = start; /* A without P */
    }
    if (end == 0)
        return other_end(s, n, pos, 3, true);
    return end < n && s[end] == '\'' ? end + contraction(s, n, end) : end;
}

size_t split_next(enum token_split split, const uint8_t *s, size_t n, size_t pos) {
    switch (split) {
    case SPLIT_QWEN2:
        return word_end(s, n, pos, 1);
    case SPLIT_LLAMA3:
        return word_end(s, n, pos, 3);
    case SPLIT_O200K:
        return o200k_end(s, n, pos);
    case SPLIT_NONE:
        break;
    }
    return n;
}
