/* jinja_text.c - what Python's str knows about characters: classes, case, white space.
 *
 * Source: the Unicode character database through utf8proc, and Python 3's documentation of str.
 * Text here is valid UTF-8: templates and JSON are checked on the way in. */
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "chat/jinja.h"
#include "chat/jinja_case.h"

uint32_t cp_at(const char *s, size_t n, size_t *len) {
    uint32_t cp = 0xFFFD;
    *len = utf8_decode(s, n, &cp);
    if (*len == 0)
        *len = 1; /* does not happen with valid text; moves on in any case */
    return cp;
}

uint32_t cp_before(const char *s, size_t end, size_t *len) {
    size_t at = end - 1;
    while (at > 0 && end - at < 4 && ((unsigned char)s[at] & 0xC0) == 0x80)
        at--;
    uint32_t cp = cp_at(s + at, end - at, len);
    *len = end - at;
    return cp;
}

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

/* Bidirectional class WS, B or S, or category Zs. */
bool cp_space(uint32_t cp) {
    if (cp < 0x80)
        return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool cp_linebreak(uint32_t cp) {
    return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool cp_printable(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    if (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_ZP)
        return cp == ' ';
    return c != UTF8PROC_CATEGORY_CN && (c < UTF8PROC_CATEGORY_CC || c > UTF8PROC_CATEGORY_CO);
}

static bool letter(utf8proc_category_t c) {
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool cp_identifier(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return letter(c) || (c >= UTF8PROC_CATEGORY_MN && c <= UTF8PROC_CATEGORY_NL);
}

/* ---- case ---- */

static bool cased(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LT) ||
           utf8proc_tolower((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp ||
           utf8proc_toupper((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp;
}

/* Characters that do not end a word when its case is found out: marks, apostrophes and the like. */
static bool case_ignorable(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK || cp == '\'' || cp == '.' ||
           cp == ':' || cp == 0xB7 || cp == 0x2018 || cp == 0x2019 || cp == 0x2024;
}

/* Capital sigma becomes the final form at the end of a word. */
static bool final_sigma(const struct str *s, size_t at) {
    size_t len, before = at, after = at + 2;
    uint32_t cp = 0;
    while (before > 0) {
        cp = cp_before(s->s, before, &len);
        before -= len;
        if (!case_ignorable(cp))
            break;
        cp = 0;
    }
    if (cp == 0 || !cased(cp))
        return false;
    for (; after < s->n; after += len) {
        cp = cp_at(s->s + after, s->n - after, &len);
        if (!case_ignorable(cp))
            return !cased(cp);
    }
    return true;
}

static slm_err put_cp(struct vm *vm, struct builder *b, uint32_t cp, bool data) {
    char out[4];
    return build_put(vm, b, out, utf8_encode(cp, out), data);
}

slm_err build_case(struct vm *vm, struct builder *b, const struct str *s, size_t at,
                   enum text_case how) {
    size_t len;
    uint32_t cp = cp_at(s->s + at, s->n - at, &len);
    bool data = str_tainted(s, at);
    if (how == CASE_SWAP) {
        if (category(cp) == UTF8PROC_CATEGORY_LT) /* title case is neither */
            return build_part(vm, b, s, at, len);
        bool upper = utf8proc_tolower((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp;
        how = upper ? CASE_LOWER : CASE_UPPER;
    }
    if (how == CASE_LOWER) {
        if (cp == 0x130) {
            TRY(put_cp(vm, b, 'i', data));
            return put_cp(vm, b, 0x307, data);
        }
        if (cp == 0x3A3)
            return put_cp(vm, b, final_sigma(s, at) ? 0x3C2 : 0x3C3, data);
        return put_cp(vm, b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), data);
    }
    for (size_t i = 0; cp >= 0x80 && i < ARRAY_LEN(long_case); i++) {
        if (long_case[i].cp != cp)
            continue;
        const uint16_t *to = how == CASE_UPPER ? long_case[i].upper : long_case[i].title;
        for (size_t k = 0; k < 3 && to[k] != 0; k++)
            TRY(put_cp(vm, b, to[k], data));
        return SLM_OK;
    }
    utf8proc_int32_t to = how == CASE_UPPER ? utf8proc_toupper((utf8proc_int32_t)cp)
                                            : utf8proc_totitle((utf8proc_int32_t)cp);
    return put_cp(vm, b, (uint32_t)to, data);
}

slm_err text_case(struct vm *vm, const struct str *s, enum text_case how, struct value *out) {
    struct builder b = { 0 };
    bool inside = false; /* of a word, for CASE_TITLE */
    TRY(vm_charge(vm, s->n / 8));
    for (size_t at = 0, len; at < s->n; at += len) {
        uint32_t cp = cp_at(s->s + at, s->n - at, &len);
        enum text_case one = how;
        if (how == CASE_TITLE)
            one = inside ? CASE_LOWER : CASE_TITLE;
        else if (how == CASE_CAPITAL)
            one = at > 0 ? CASE_LOWER : CASE_TITLE;
        TRY(build_case(vm, &b, s, at, one));
        inside = how == CASE_TITLE && cased(cp);
    }
    return build_done(vm, &b, out);
}

/* ---- classes ---- */

static bool digit(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_ND || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 ||
           cp == 0x2070 || (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
           (cp >= 0x2460 && cp <= 0x2468) || (cp >= 0x2474 && cp <= 0x247C) ||
           (cp >= 0x2488 && cp <= 0x2490) || (cp >= 0x24F5 && cp <= 0x24FD) ||
           (cp >= 0x2776 && cp <= 0x277E) || (cp >= 0x2780 && cp <= 0x2788) ||
           (cp >= 0x278A && cp <= 0x2792);
}

static bool in_class(uint32_t cp, enum text_class c) {
    utf8proc_category_t k = category(cp);
    bool number = k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
    switch (c) {
    case CLASS_ALPHA:
        return letter(k);
    case CLASS_DECIMAL:
        return k == UTF8PROC_CATEGORY_ND;
    case CLASS_DIGIT:
        return digit(cp);
    case CLASS_NUMERIC:
        return number;
    case CLASS_ALNUM:
        return letter(k) || number;
    case CLASS_SPACE:
        return cp_space(cp);
    case CLASS_ASCII:
        break;
    }
    return cp < 0x80;
}

bool text_all(const struct str *s, enum text_class c) {
    for (size_t at = 0, len; at < s->n; at += len)
        if (!in_class(cp_at(s->s + at, s->n - at, &len), c))
            return false;
    return s->n > 0 || c == CLASS_ASCII;
}

bool text_cased(const struct str *s, bool upper) {
    bool any = false;
    for (size_t at = 0, len; at < s->n; at += len) {
        utf8proc_category_t k = category(cp_at(s->s + at, s->n - at, &len));
        if (k == UTF8PROC_CATEGORY_LT || k == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU))
            return false;
        any |= k == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return any;
}

static bool strips(const struct str *chars, const char *c, size_t len, uint32_t cp) {
    if (chars == NULL)
        return cp_space(cp);
    for (size_t i = 0, n; i < chars->n; i += n) {
        cp_at(chars->s + i, chars->n - i, &n);
        if (n == len && memcmp(chars->s + i, c, n) == 0)
            return true;
    }
    return false;
}

void text_strip(const struct str *s, const struct str *chars, bool left, bool right, size_t *from,
                size_t *to) {
    size_t len;
    *from = 0;
    *to = s->n;
    while (left && *from < *to) {
        uint32_t cp = cp_at(s->s + *from, *to - *from, &len);
        if (!strips(chars, s->s + *from, len, cp))
            break;
        *from += len;
    }
    while (right && *to > *from) {
        uint32_t cp = cp_before(s->s, *to, &len);
        if (!strips(chars, s->s + *to - len, len, cp))
            break;
        *to -= len;
    }
}
