/* json_pull.c - JSON one event at a time, without a tree and without recursion.
 *
 * Grammar: RFC 8259. Strings are checked as strict UTF-8 (RFC 3629) while they are scanned; one
 * without escapes is handed out where it stands in the input, others are unescaped into scratch,
 * which never outgrows the input. `stack` holds the open brackets, `state` what may come next. */
#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum state {
    WANT_VALUE,
    WANT_VALUE_OR_END, /* after '[' */
    WANT_KEY_OR_END,   /* after '{' */
    AFTER_VALUE,       /* ',' or a closing bracket; at depth 0 the end of the document */
    ENDED
};

void json_pull_init(struct json_pull *p, const struct slm_hooks *h, const char *data, size_t size,
                    slm_why *why) {
    *p = (struct json_pull){ .data = data, .size = size, .state = WANT_VALUE, .why = why };
    buf_init(&p->scratch, h, size);
}

void json_pull_free(struct json_pull *p) {
    buf_free(&p->scratch);
    p->text = NULL;
    p->n = 0;
}

slm_err json_pull_fail(struct json_pull *p, slm_err code, const char *format, ...) {
    if (p->err != SLM_OK)
        return p->err;
    p->err = code;
    if (p->why == NULL)
        return code;
    char message[sizeof p->why->message];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return fail(p->why, code, p->pos, "%s", n < 0 ? format : message);
}

static enum json_event refuse(struct json_pull *p, slm_err code, const char *message) {
    (void)json_pull_fail(p, code, "%s", message);
    return PULL_ERROR;
}

static enum json_event unexpected(struct json_pull *p, const char *expected) {
    if (p->pos >= p->size)
        (void)json_pull_fail(p, SLM_E_FORMAT, "JSON ends where %s was expected", expected);
    else
        (void)json_pull_fail(p, SLM_E_FORMAT, "JSON has byte 0x%02x where %s was expected",
                             (uint8_t)p->data[p->pos], expected);
    return PULL_ERROR;
}

/* ---- strings ---- */

/* True when one of the eight bytes is a quote, a backslash, a control character or not ASCII.
 * A byte x is below 0x20 or is zero after the xor exactly where the subtraction borrows; bytes from
 * 0x80 up are caught by their own top bit, and a borrow can only start at a byte that counts. */
static bool has_special(uint64_t w) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
    return ((w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & tops) != 0;
}

/* Scans from pos over characters that stand for themselves; false on invalid UTF-8. */
static bool scan_plain(struct json_pull *p) {
    const char *s = p->data;
    size_t i = p->pos, n = p->size;
    for (;;) {
        uint64_t word;
        while (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if (has_special(word))
                break;
            i += sizeof word;
        }
        while (i < n && (uint8_t)s[i] < 0x80) {
            uint8_t c = (uint8_t)s[i];
            if (c == '"' || c == '\\' || c < 0x20) {
                p->pos = i;
                return true;
            }
            i++;
        }
        uint32_t cp;
        for (size_t len; i < n && (uint8_t)s[i] >= 0x80; i += len) {
            len = utf8_decode(s + i, n - i, &cp);
            if (len == 0) {
                p->pos = i;
                return false;
            }
        }
        if (i >= n) {
            p->pos = n;
            return true;
        }
    }
}

/* Four hexadecimal digits at pos. */
static bool scan_hex4(struct json_pull *p, uint32_t *out) {
    if (p->size - p->pos < 4)
        return false;
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = (uint8_t)p->data[p->pos + i];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - (uint32_t)'0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20u) - (uint32_t)'a' + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    p->pos += 4;
    *out = value;
    return true;
}

/* Behind "\u": one code unit, or two that form a pair. pos is at the digits. */
static bool scan_unicode(struct json_pull *p) {
    size_t begin = p->pos - 2;
    uint32_t cp, low;
    if (!scan_hex4(p, &cp)) {
        (void)unexpected(p, "four hexadecimal digits");
        return false;
    }
    if (cp >= 0xd800 && cp < 0xe000) {
        bool pair = cp < 0xdc00 && p->size - p->pos >= 2 && p->data[p->pos] == '\\' &&
                    p->data[p->pos + 1] == 'u';
        if (pair) {
            p->pos += 2;
            pair = scan_hex4(p, &low) && low >= 0xdc00 && low < 0xe000;
        }
        if (!pair) {
            p->pos = begin;
            (void)json_pull_fail(p, SLM_E_ENCODING, "half a surrogate pair: \\u%04x", (unsigned)cp);
            return false;
        }
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    }
    char out[4];
    buf_put(&p->scratch, out, utf8_encode(cp, out));
    return true;
}

/* At a backslash: unescapes into scratch. */
static bool scan_escape(struct json_pull *p) {
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    p->pos++;
    char c = p->pos < p->size ? p->data[p->pos] : '\0';
    if (c == 'u') {
        p->pos++;
        return scan_unicode(p);
    }
    const char *found = c != '\0' ? strchr(letters, c) : NULL;
    if (found == NULL) {
        (void)unexpected(p, "an escape letter");
        return false;
    }
    buf_putc(&p->scratch, values[found - letters]);
    p->pos++;
    return true;
}

/* At the opening quote: sets text and n; false on failure. */
static bool scan_string(struct json_pull *p) {
    p->pos++;
    size_t begin = p->pos; /* of the piece that is not in scratch yet */
    bool escaped = false;
    p->scratch.len = 0;
    for (;;) {
        if (!scan_plain(p)) {
            (void)json_pull_fail(p, SLM_E_ENCODING, "invalid UTF-8 in a JSON string: byte 0x%02x",
                                 (uint8_t)p->data[p->pos]);
            return false;
        }
        if (p->pos >= p->size || (uint8_t)p->data[p->pos] < 0x20) {
            (void)unexpected(p, "the end of a string");
            return false;
        }
        if (p->data[p->pos] == '"')
            break;
        escaped = true;
        buf_put(&p->scratch, p->data + begin, p->pos - begin);
        if (!scan_escape(p))
            return false;
        begin = p->pos;
    }
    p->text = p->data + begin;
    p->n = p->pos - begin;
    if (escaped) {
        buf_put(&p->scratch, p->text, p->n);
        if (p->scratch.err != SLM_OK) {
            (void)json_pull_fail(p, p->scratch.err, "no memory for a string of %zu bytes", p->n);
            return false;
        }
        p->text = p->scratch.data != NULL ? p->scratch.data : "";
        p->n = p->scratch.len;
    }
    p->pos++;
    return true;
}

/* ---- numbers and words ---- */

static bool digit_at(const struct json_pull *p) {
    return p->pos < p->size && p->data[p->pos] >= '0' && p->data[p->pos] <= '9';
}

static bool char_at(const struct json_pull *p, char c) {
    return p->pos < p->size && p->data[p->pos] == c;
}

static bool scan_digits(struct json_pull *p) {
    if (!digit_at(p)) {
        (void)unexpected(p, "a digit");
        return false;
    }
    while (digit_at(p))
        p->pos++;
    return true;
}

/* -? (0 | [1-9][0-9]*) ('.' [0-9]+)? ([eE] [+-]? [0-9]+)? */
static enum json_event scan_number(struct json_pull *p) {
    size_t begin = p->pos;
    if (char_at(p, '-'))
        p->pos++;
    bool zero = char_at(p, '0');
    if (zero)
        p->pos++;
    else if (!scan_digits(p))
        return PULL_ERROR;
    if (zero && digit_at(p))
        return refuse(p, SLM_E_FORMAT, "JSON number with a leading zero");
    if (char_at(p, '.')) {
        p->pos++;
        if (!scan_digits(p))
            return PULL_ERROR;
    }
    if (char_at(p, 'e') || char_at(p, 'E')) {
        p->pos++;
        if (char_at(p, '+') || char_at(p, '-'))
            p->pos++;
        if (!scan_digits(p))
            return PULL_ERROR;
    }
    p->text = p->data + begin;
    p->n = p->pos - begin;
    return PULL_NUMBER;
}

static enum json_event scan_word(struct json_pull *p, const char *word, enum json_event event) {
    size_t n = strlen(word);
    if (p->size - p->pos < n || memcmp(p->data + p->pos, word, n) != 0)
        return unexpected(p, "a value");
    p->pos += n;
    return event;
}

/* ---- structure ---- */

static void skip_space(struct json_pull *p) {
    while (p->pos < p->size) {
        char c = p->data[p->pos];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        p->pos++;
    }
}

static enum json_event open_bracket(struct json_pull *p, char bracket) {
    if (p->depth >= JSON_PULL_DEPTH) {
        (void)json_pull_fail(p, SLM_E_BUDGET, "JSON is nested deeper than %d", JSON_PULL_DEPTH);
        return PULL_ERROR;
    }
    p->stack[p->depth++] = (uint8_t)bracket;
    p->pos++;
    p->state = bracket == '{' ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    return bracket == '{' ? PULL_OBJECT : PULL_ARRAY;
}

static enum json_event close_bracket(struct json_pull *p) {
    p->depth--;
    p->pos++;
    p->state = AFTER_VALUE;
    return p->stack[p->depth] == '{' ? PULL_OBJECT_END : PULL_ARRAY_END;
}

static enum json_event next_value(struct json_pull *p) {
    if (p->pos >= p->size)
        return unexpected(p, "a value");
    char c = p->data[p->pos];
    if (c == '{' || c == '[')
        return open_bracket(p, c);
    p->state = AFTER_VALUE;
    switch (c) {
    case '"':
        return scan_string(p) ? PULL_STRING : PULL_ERROR;
    case 't':
        return scan_word(p, "true", PULL_TRUE);
    case 'f':
        return scan_word(p, "false", PULL_FALSE);
    case 'n':
        return scan_word(p, "null", PULL_NULL);
    default:
        if (c == '-' || digit_at(p))
            return scan_number(p);
        return unexpected(p, "a value");
    }
}

static enum json_event next_key(struct json_pull *p) {
    if (!char_at(p, '"'))
        return unexpected(p, "a key");
    if (!scan_string(p))
        return PULL_ERROR;
    skip_space(p);
    if (!char_at(p, ':'))
        return unexpected(p, "':'");
    p->pos++;
    p->state = WANT_VALUE;
    return PULL_KEY;
}

/* Behind a value inside a bracket: a comma and what it announces, or the closing bracket. */
static enum json_event after_value(struct json_pull *p) {
    bool object = p->stack[p->depth - 1] == '{';
    if (char_at(p, object ? '}' : ']'))
        return close_bracket(p);
    if (!char_at(p, ','))
        return unexpected(p, object ? "',' or '}'" : "',' or ']'");
    p->pos++;
    skip_space(p);
    return object ? next_key(p) : next_value(p);
}

enum json_event json_next(struct json_pull *p) {
    if (p->err != SLM_OK)
        return PULL_ERROR;
    skip_space(p);
    switch ((enum state)p->state) {
    case WANT_VALUE:
        return next_value(p);
    case WANT_VALUE_OR_END:
        return char_at(p, ']') ? close_bracket(p) : next_value(p);
    case WANT_KEY_OR_END:
        return char_at(p, '}') ? close_bracket(p) : next_key(p);
    case AFTER_VALUE:
        if (p->depth > 0)
            return after_value(p);
        if (p->pos < p->size)
            return unexpected(p, "the end of the document");
        p->state = ENDED;
        return PULL_END;
    case ENDED:
        break;
    }
    return PULL_END;
}

void json_skip(struct json_pull *p, enum json_event first) {
    if (first == PULL_KEY)
        first = json_next(p);
    if (first != PULL_OBJECT && first != PULL_ARRAY)
        return;
    unsigned outer = p->depth - 1;
    while (p->depth > outer && json_next(p) != PULL_ERROR)
        ;
}

bool json_pull_int(const struct json_pull *p, int64_t *out) {
    size_t i = p->n > 0 && p->text[0] == '-';
    bool negative = i > 0;
    uint64_t limit = (uint64_t)INT64_MAX + negative, value = 0;
    if (i >= p->n)
        return false;
    for (; i < p->n; i++) {
        if (p->text[i] < '0' || p->text[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(p->text[i] - '0');
        if (value > (limit - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}
