/* answer_python.c - one call of a tool as Python, byte by byte, to a JSON object of arguments.
 *
 * In:  f(1, b="x", c=[1, 2.5, None], d={'k': True}) of a tool that is known, alone or in print( ).
 *      Values are literals: strings (either quote, tripled, with prefix r or u, all escapes but \N),
 *      numbers (also 0x, 0o, 0b, 1_000), True, False, None and their JSON spellings, lists, tuples,
 *      dicts whose keys are strings. Arguments without a name take the tool's parameters in order.
 * Out: the object, written as the bytes are read. Nothing is evaluated.
 * Source: Python language reference, lexical analysis and displays. */
#include "chat/answer_unit.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum {
    PY_NAME,
    PY_ARGUMENT, /* an argument or ')' */
    PY_ITEM,     /* an item or the closing bracket */
    PY_VALUE,
    PY_WORD,
    PY_WORD_END, /* blanks behind a word that may be the name of an argument */
    PY_NUMBER,
    PY_QUOTE_ONE, /* one quote seen, two quotes seen: an empty string or the first of three */
    PY_QUOTE_TWO,
    PY_STRING,
    PY_ESCAPE,
    PY_RAW_ESCAPE,
    PY_HEX,
    PY_OCTAL,
    PY_AFTER,
    PY_PRINT_END
};

void py_unit_init(struct py_unit *u, const json_t *tools, struct call_list *out) {
    u->tools = tools;
    u->tool = NULL;
    u->out = out;
    u->state = PY_NAME;
    u->printing = u->is_key = u->keyword = u->positional = false;
    u->depth = 0;
    u->n_arguments = u->n_word = 0;
    u->items[0] = false;
}

static struct buf *out(struct py_unit *u) {
    return &u->out->bytes;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool word_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static bool word_is(const struct py_unit *u, const char *word) {
    return u->n_word == strlen(word) && memcmp(u->word, word, u->n_word) == 0;
}

static bool word_add(struct py_unit *u, char c) {
    if (u->n_word == sizeof u->word)
        return false;
    u->word[u->n_word++] = c;
    return true;
}

/* ---- the name ---- */

static enum unit_step name_byte(struct py_unit *u, char c) {
    static const char print[] = "print";
    if (c != '(') {
        bool may_print = !u->printing && u->n_word < sizeof print - 1 &&
                         memcmp(u->word, print, u->n_word) == 0 && c == print[u->n_word];
        if (u->printing && u->n_word == 0 && is_blank(c))
            return UNIT_MORE;
        if (!word_add(u, c) || (!may_print && !tool_begins(u->tools, u->word, u->n_word)))
            return UNIT_BAD;
        return UNIT_MORE;
    }
    u->tool = tool_find(u->tools, u->word, u->n_word);
    if (u->tool == NULL) {
        bool print_now = !u->printing && word_is(u, print);
        u->printing = true;
        u->n_word = 0;
        return print_now ? UNIT_MORE : UNIT_BAD;
    }
    call_list_open(u->out, u->word, u->n_word);
    buf_putc(out(u), '{');
    u->state = PY_ARGUMENT;
    return UNIT_MORE;
}

/* ---- text of strings ---- */

/* A byte of a string's value. */
static void value_byte(struct py_unit *u, char c) {
    char text[8];
    if (c == '"' || c == '\\') {
        buf_putc(out(u), '\\');
        buf_putc(out(u), c);
    } else if (c == '\n') {
        buf_puts(out(u), "\\n");
    } else if (c == '\t') {
        buf_puts(out(u), "\\t");
    } else if ((unsigned char)c < 0x20) {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)(unsigned char)c);
        buf_puts(out(u), text);
    } else {
        buf_putc(out(u), c);
    }
}

/* A character given by its number. Halves of surrogate pairs go on as halves: two make one in JSON,
 * and one alone is refused when the whole is read. */
static enum unit_step value_code(struct py_unit *u) {
    char text[8];
    u->state = PY_STRING;
    if (u->code > 0x10ffff)
        return UNIT_BAD;
    if (u->code >= 0xd800 && u->code < 0xe000) {
        snprintf(text, sizeof text, "\\u%04x", (unsigned)u->code);
        buf_puts(out(u), text);
    } else if (u->code < 0x80) {
        value_byte(u, (char)u->code);
    } else {
        buf_put(out(u), text, utf8_encode(u->code, text));
    }
    return UNIT_MORE;
}

static enum unit_step want_digits(struct py_unit *u, uint8_t n) {
    u->state = PY_HEX;
    u->digits = n;
    u->code = 0;
    return UNIT_MORE;
}

static enum unit_step escape_byte(struct py_unit *u, char c) {
    static const char letters[] = "ntrbfav\\'\"", values[] = "\n\t\r\b\f\a\v\\'\"";
    u->state = PY_STRING;
    if (c == '\n')
        return UNIT_MORE;
    if (c >= '0' && c <= '7') {
        u->state = PY_OCTAL;
        u->digits = 2;
        u->code = (uint32_t)(c - '0');
        return UNIT_MORE;
    }
    const char *found = c != '\0' ? strchr(letters, c) : NULL;
    if (found != NULL) {
        value_byte(u, values[found - letters]);
        return UNIT_MORE;
    }
    if (c == 'x' || c == 'u' || c == 'U')
        return want_digits(u, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    if (c == 'N')
        return UNIT_BAD;
    value_byte(u, '\\'); /* as Python: an escape that is none is two characters */
    value_byte(u, c);
    return UNIT_MORE;
}

static enum unit_step hex_byte(struct py_unit *u, char c) {
    uint32_t digit;
    if (c >= '0' && c <= '9')
        digit = (uint32_t)(c - '0');
    else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        digit = (uint32_t)((c | 0x20) - 'a' + 10);
    else
        return UNIT_BAD;
    u->code = u->code << 4 | digit;
    return --u->digits > 0 ? UNIT_MORE : value_code(u);
}

static enum unit_step string_end(struct py_unit *u) {
    buf_putc(out(u), '"');
    u->state = PY_AFTER;
    return UNIT_MORE;
}

static enum unit_step string_byte(struct py_unit *u, char c) {
    if (c == u->quote && !u->triple)
        return string_end(u);
    if (c == u->quote)
        return ++u->quotes == 3 ? string_end(u) : UNIT_MORE;
    for (; u->quotes > 0; u->quotes--)
        value_byte(u, u->quote);
    if (c == '\\') {
        u->state = u->raw ? PY_RAW_ESCAPE : PY_ESCAPE;
        return UNIT_MORE;
    }
    if ((c == '\n' || c == '\r') && !u->triple)
        return UNIT_BAD;
    value_byte(u, c);
    return UNIT_MORE;
}

static enum unit_step octal_byte(struct py_unit *u, char c) {
    if (c >= '0' && c <= '7' && u->digits > 0) {
        u->code = u->code << 3 | (uint32_t)(c - '0');
        u->digits--;
        return UNIT_MORE;
    }
    return value_code(u) == UNIT_BAD ? UNIT_BAD : string_byte(u, c);
}

static enum unit_step string_begin(struct py_unit *u, char c, bool raw) {
    u->quote = c;
    u->raw = raw;
    u->triple = false;
    u->quotes = 0;
    buf_putc(out(u), '"');
    u->state = PY_QUOTE_ONE;
    return UNIT_MORE;
}

/* ---- numbers ---- */

/* 0x1f, 0o17, 0b101 behind the sign: their value, if it fits. */
static bool based_number(struct py_unit *u, const char *s, size_t n, bool minus) {
    char letter = (char)(s[1] | 0x20);
    unsigned base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
    uint64_t value = 0;
    if (n < 3)
        return false;
    for (size_t i = 2; i < n; i++) {
        if (s[i] == '_')
            continue;
        unsigned digit =
            s[i] <= '9' ? (unsigned)(s[i] - '0') : (unsigned)((s[i] | 0x20) - 'a' + 10);
        if (digit >= base || value > (uint64_t)INT64_MAX / base)
            return false;
        value = value * base + digit;
        if (value > (uint64_t)INT64_MAX)
            return false;
    }
    buf_printf(out(u), "%s%llu", minus ? "-" : "", (unsigned long long)value);
    return true;
}

/* Copies digits with the underlines between them left out; how many there were. */
static size_t copy_digits(struct py_unit *u, const char *s, size_t n, size_t *i) {
    size_t digits = 0;
    while (*i < n && ((s[*i] >= '0' && s[*i] <= '9') || (s[*i] == '_' && digits > 0))) {
        if (s[*i] != '_') {
            buf_putc(out(u), s[*i]);
            digits++;
        }
        (*i)++;
    }
    return digits;
}

/* Python's decimal numbers to JSON's: a digit on both sides of the point. */
static bool number_end(struct py_unit *u) {
    const char *s = u->word;
    size_t n = u->n_word, i = 0;
    bool minus = s[0] == '-';
    if (minus || s[0] == '+') {
        s++;
        n--;
    }
    if (n > 1 && s[0] == '0' && strchr("xXoObB", s[1]) != NULL)
        return based_number(u, s, n, minus);
    if (n > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9')
        return false;
    if (minus)
        buf_putc(out(u), '-');
    size_t whole = copy_digits(u, s, n, &i), part = 0;
    if (whole == 0)
        buf_putc(out(u), '0');
    if (i < n && s[i] == '.') {
        i++;
        buf_putc(out(u), '.');
        part = copy_digits(u, s, n, &i);
        if (part == 0)
            buf_putc(out(u), '0');
    }
    if (whole + part == 0)
        return false;
    if (i < n && (s[i] | 0x20) == 'e') {
        buf_putc(out(u), s[i++]);
        if (i < n && (s[i] == '+' || s[i] == '-'))
            buf_putc(out(u), s[i++]);
        if (copy_digits(u, s, n, &i) == 0)
            return false;
    }
    return i == n;
}

/* ---- values ---- */

static enum unit_step call_end(struct py_unit *u) {
    buf_putc(out(u), '}');
    u->state = PY_PRINT_END;
    return u->printing ? UNIT_MORE : UNIT_DONE;
}

/* A comma before everything but the first thing in a container. */
static void separate(struct py_unit *u) {
    if (u->items[u->depth])
        buf_puts(out(u), ", ");
    u->items[u->depth] = true;
}

/* Before the value of an argument without a name. */
static bool take_position(struct py_unit *u) {
    const char *name = tool_parameter(u->tool, u->n_arguments++);
    u->positional = false;
    if (name == NULL || u->keyword)
        return false;
    separate(u);
    json_quote(out(u), name, strlen(name));
    buf_puts(out(u), ": ");
    return true;
}

static enum unit_step value_end(struct py_unit *u) {
    u->is_key = false;
    u->state = PY_AFTER;
    return UNIT_MORE;
}

/* (x) is x, (x,) a list: the bracket that was written becomes a blank. */
static enum unit_step bracket_end(struct py_unit *u, char c) {
    unsigned top = --u->depth;
    if (u->stack[top] != '(')
        buf_putc(out(u), c);
    else if (u->comma[top] || !u->items[top + 1])
        buf_putc(out(u), ']');
    else if (out(u)->err == SLM_OK)
        out(u)->data[u->opened_at[top]] = ' ';
    return value_end(u);
}

static enum unit_step bracket_begin(struct py_unit *u, char c) {
    if (u->depth == JSON_PULL_DEPTH)
        return UNIT_BAD;
    u->opened_at[u->depth] = out(u)->len;
    buf_putc(out(u), c == '{' ? '{' : '[');
    u->comma[u->depth] = false;
    u->stack[u->depth++] = (uint8_t)c;
    u->items[u->depth] = false;
    u->state = PY_ITEM;
    return UNIT_MORE;
}

static bool closes(uint8_t open, char c) {
    return (open == '[' && c == ']') || (open == '(' && c == ')') || (open == '{' && c == '}');
}

/* A value begins with c. */
static enum unit_step value_begin(struct py_unit *u, char c) {
    u->n_word = 0;
    if (c == '"' || c == '\'')
        return string_begin(u, c, false);
    if (word_byte(c) && (c < '0' || c > '9')) {
        u->state = PY_WORD;
        return word_add(u, c) ? UNIT_MORE : UNIT_BAD;
    }
    if (u->is_key)
        return UNIT_BAD;
    if (c == '[' || c == '(' || c == '{')
        return bracket_begin(u, c);
    u->state = PY_NUMBER;
    return ((c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.') && word_add(u, c)
               ? UNIT_MORE
               : UNIT_BAD;
}

static enum unit_step argument_byte(struct py_unit *u, char c) {
    if (is_blank(c))
        return UNIT_MORE;
    if (c == ')')
        return call_end(u);
    u->is_key = false;
    u->positional = true;
    /* a word may turn out to be the argument's name; all else is a value without one */
    if (!(word_byte(c) && (c < '0' || c > '9')) && !take_position(u))
        return UNIT_BAD;
    return value_begin(u, c);
}

static enum unit_step item_byte(struct py_unit *u, char c) {
    uint8_t top = u->stack[u->depth - 1];
    if (is_blank(c))
        return UNIT_MORE;
    if (closes(top, c))
        return bracket_end(u, c);
    separate(u);
    u->is_key = top == '{';
    return value_begin(u, c);
}

static enum unit_step after_byte(struct py_unit *u, char c) {
    if (is_blank(c))
        return UNIT_MORE;
    if (u->depth == 0) {
        u->state = PY_ARGUMENT;
        return c == ')' ? call_end(u) : c == ',' ? UNIT_MORE : UNIT_BAD;
    }
    uint8_t top = u->stack[u->depth - 1];
    if (u->is_key) {
        u->is_key = false;
        u->state = PY_VALUE;
        buf_puts(out(u), ": ");
        return c == ':' ? UNIT_MORE : UNIT_BAD;
    }
    if (closes(top, c))
        return bracket_end(u, c);
    u->comma[u->depth - 1] = true;
    u->state = PY_ITEM;
    return c == ',' ? UNIT_MORE : UNIT_BAD;
}

/* ---- words: names of arguments, prefixes of strings, True and its sisters ---- */

static const char *literal(const struct py_unit *u) {
    if (word_is(u, "True") || word_is(u, "true"))
        return "true";
    if (word_is(u, "False") || word_is(u, "false"))
        return "false";
    return word_is(u, "None") || word_is(u, "null") ? "null" : NULL;
}

static enum unit_step word_end(struct py_unit *u, char c) {
    bool argument = u->depth == 0 && u->positional;
    if (argument && c == '=') {
        u->positional = false;
        u->keyword = true;
        separate(u);
        json_quote(out(u), u->word, u->n_word);
        buf_puts(out(u), ": ");
        u->state = PY_VALUE;
        return UNIT_MORE;
    }
    if (argument && is_blank(c)) {
        u->state = PY_WORD_END;
        return UNIT_MORE;
    }
    if (argument && !take_position(u))
        return UNIT_BAD;
    char first = (char)(u->word[0] | 0x20);
    if ((c == '"' || c == '\'') && u->state == PY_WORD && u->n_word == 1 &&
        (first == 'r' || first == 'u'))
        return string_begin(u, c, first == 'r');
    const char *value = literal(u);
    if (value == NULL || u->is_key)
        return UNIT_BAD;
    buf_puts(out(u), value);
    (void)value_end(u);
    return after_byte(u, c);
}

static enum unit_step number_byte(struct py_unit *u, char c) {
    bool exponent = (u->word[u->n_word - 1] | 0x20) == 'e' &&
                    (u->word[0] != '0' || u->n_word < 2 || (u->word[1] | 0x20) != 'x');
    if ((word_byte(c) && (unsigned char)c < 0x80) || c == '.' ||
        ((c == '+' || c == '-') && exponent))
        return word_add(u, c) ? UNIT_MORE : UNIT_BAD;
    if (!number_end(u))
        return UNIT_BAD;
    (void)value_end(u);
    return after_byte(u, c);
}

static enum unit_step quote_byte(struct py_unit *u, char c) {
    if (u->state == PY_QUOTE_ONE && c == u->quote) {
        u->state = PY_QUOTE_TWO;
        return UNIT_MORE;
    }
    if (u->state == PY_QUOTE_TWO && c != u->quote) {
        (void)string_end(u);
        return after_byte(u, c);
    }
    u->triple = u->state == PY_QUOTE_TWO;
    u->state = PY_STRING;
    return u->triple ? UNIT_MORE : string_byte(u, c);
}

enum unit_step py_unit_put(struct py_unit *u, char c) {
    switch (u->state) {
    case PY_NAME:
        return name_byte(u, c);
    case PY_ARGUMENT:
        return argument_byte(u, c);
    case PY_ITEM:
        return item_byte(u, c);
    case PY_VALUE:
        return is_blank(c) ? UNIT_MORE : value_begin(u, c);
    case PY_WORD:
        if (word_byte(c))
            return word_add(u, c) ? UNIT_MORE : UNIT_BAD;
        return word_end(u, c);
    case PY_WORD_END:
        return word_end(u, c);
    case PY_NUMBER:
        return number_byte(u, c);
    case PY_QUOTE_ONE:
    case PY_QUOTE_TWO:
        return quote_byte(u, c);
    case PY_STRING:
        return string_byte(u, c);
    case PY_ESCAPE:
        return escape_byte(u, c);
    case PY_RAW_ESCAPE:
        value_byte(u, '\\');
        value_byte(u, c);
        u->state = PY_STRING;
        return UNIT_MORE;
    case PY_HEX:
        return hex_byte(u, c);
    case PY_OCTAL:
        return octal_byte(u, c);
    case PY_AFTER:
        return after_byte(u, c);
    default: /* PY_PRINT_END */
        return is_blank(c) ? UNIT_MORE : c == ')' ? UNIT_DONE : UNIT_BAD;
    }
}
