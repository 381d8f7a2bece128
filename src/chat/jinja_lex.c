/* jinja_lex.c - template text to tokens.
 *
 * In:  text with "\n" line ends.   Out: all tokens, the last one T_END.
 * White space around tags follows Jinja with trim_blocks and lstrip_blocks set: a line end right
 * after a statement or comment is dropped, blanks between a line's start and such a tag too;
 * '-' inside a tag's edge drops all white space there, '+' keeps it. Comments give no token;
 * what stands between raw tags is data.
 * Source: Jinja 3.1 documentation ("Template Designer", whitespace control) and its behaviour. */
#include <string.h>

#include "base/utf8.h"
#include "chat/jinja.h"

struct lexer {
    const struct template *t;
    const char *s; /* [n] */
    size_t n, pos;
    bool line_start; /* what was read last ended a line (or nothing was read) */
    struct tokens *out;
    slm_why *why;
};

static slm_err push(struct lexer *lx, enum token_type type, size_t pos, size_t n) {
    struct tokens *out = lx->out;
    if (out->n == out->cap) {
        size_t cap = out->cap == 0 ? 256 : out->cap * 2; /* at most twice TEMPLATE_TEXT_MAX */
        struct token *list = mem_resize(&lx->t->hooks, out->list, cap, sizeof *list);
        if (list == NULL)
            return fail_nomem(lx->why, "template tokens", cap * sizeof *list);
        out->list = list;
        out->cap = cap;
    }
    out->list[out->n++] = (struct token){ (uint8_t)type, (uint32_t)pos, (uint32_t)n };
    return SLM_OK;
}

static slm_err lex_fail(const struct lexer *lx, size_t pos, const char *what) {
    return template_fail(lx->t, lx->why, SLM_E_TEMPLATE, pos, "%s", what);
}

static bool starts(const struct lexer *lx, size_t at, const char *word) {
    size_t n = strlen(word);
    return n <= lx->n - at && memcmp(lx->s + at, word, n) == 0;
}

static size_t skip_space(const struct lexer *lx, size_t at) {
    while (at < lx->n) {
        size_t len;
        if (!cp_space(cp_at(lx->s + at, lx->n - at, &len)))
            break;
        at += len;
    }
    return at;
}

/* Length of a tag's end "}}", "%}" or "#}" at `at` with its '-' or '+' and the white space that
 * it swallows; 0 when there is none. Statements and comments swallow a line end. */
static size_t tag_end(const struct lexer *lx, size_t at, const char *end) {
    bool statement = end[0] != '}';
    size_t sign = at < lx->n && (lx->s[at] == '-' || (statement && lx->s[at] == '+')) ? 1 : 0;
    if (!starts(lx, at + sign, end))
        return 0;
    size_t after = at + sign + 2;
    if (sign != 0 && lx->s[at] == '-')
        after = skip_space(lx, after);
    else if (sign == 0 && statement && after < lx->n && lx->s[after] == '\n')
        after++;
    return after - at;
}

/* Data [from, to) before a tag whose sign is given (0: none), stripped as that tag wants. */
static slm_err push_data(struct lexer *lx, size_t from, size_t to, char sign, bool statement) {
    if (sign == '-') {
        while (to > from) {
            size_t len;
            if (!cp_space(cp_before(lx->s, to, &len)))
                break;
            to -= len;
        }
    } else if (sign != '+' && statement) {
        size_t line = to;
        while (line > from && lx->s[line - 1] != '\n')
            line--;
        if ((line > from || lx->line_start) && skip_space(lx, line) >= to)
            to = line;
    }
    return to > from ? push(lx, T_DATA, from, to - from) : SLM_OK;
}

/* "{% raw %}" at `at`: its length, or 0. Unlike other statements it keeps a line end after it. */
static size_t raw_begin(const struct lexer *lx, size_t at) {
    size_t p = at + 2;
    if (p < lx->n && (lx->s[p] == '-' || lx->s[p] == '+'))
        p++;
    p = skip_space(lx, p);
    if (!starts(lx, p, "raw"))
        return 0;
    p = skip_space(lx, p + 3);
    if (starts(lx, p, "-%}"))
        return skip_space(lx, p + 3) - at;
    return starts(lx, p, "%}") ? p + 2 - at : 0;
}

/* Everything up to and with "{% endraw %}" is data. */
static slm_err lex_raw(struct lexer *lx, size_t begin) {
    for (size_t at = lx->pos; at < lx->n; at++) {
        if (lx->s[at] != '{' || !starts(lx, at, "{%"))
            continue;
        char sign = at + 2 < lx->n ? lx->s[at + 2] : '\0';
        if (sign != '-' && sign != '+')
            sign = '\0';
        size_t p = skip_space(lx, at + 2 + (sign != '\0'));
        if (!starts(lx, p, "endraw"))
            continue;
        p = skip_space(lx, p + 6);
        size_t end = tag_end(lx, p, "%}");
        if (end == 0)
            continue;
        TRY(push_data(lx, lx->pos, at, sign, true));
        lx->pos = p + end;
        lx->line_start = lx->s[lx->pos - 1] == '\n';
        return SLM_OK;
    }
    return lex_fail(lx, begin, "raw block without endraw");
}

static slm_err lex_comment(struct lexer *lx, size_t begin) {
    for (size_t at = lx->pos; at < lx->n; at++) {
        size_t end = tag_end(lx, at, "#}");
        if (end == 0)
            continue;
        lx->pos = at + end;
        lx->line_start = lx->s[lx->pos - 1] == '\n';
        return SLM_OK;
    }
    return lex_fail(lx, begin, "comment without an end");
}

/* ---- inside a tag ---- */

static bool digit_of(char c, unsigned base) {
    unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                 : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                        : 99;
    return d < base;
}

/* End of digits with single underscores between them, from `at`; `at` when there is none. */
static size_t digits(const struct lexer *lx, size_t at, unsigned base) {
    size_t p = at;
    while (p < lx->n) {
        if (digit_of(lx->s[p], base))
            p++;
        else if (p > at && lx->s[p] == '_' && p + 1 < lx->n && digit_of(lx->s[p + 1], base))
            p += 2;
        else
            break;
    }
    return p;
}

static slm_err lex_number(struct lexer *lx) {
    size_t at = lx->pos;
    char kind = lx->s[at] == '0' && at + 1 < lx->n ? (char)(lx->s[at + 1] | 0x20) : '\0';
    unsigned base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    if (base != 10) {
        size_t first = at + 2 + (at + 2 < lx->n && lx->s[at + 2] == '_');
        size_t end = digits(lx, first, base);
        if (end == first)
            return lex_fail(lx, at, "a number without digits");
        lx->pos = end;
        return push(lx, T_INT, at, end - at);
    }
    size_t whole = digits(lx, at, 10), end = whole;
    bool after_dot = at > 0 && lx->s[at - 1] == '.'; /* a.0.b: an index, not a fraction */
    if (!after_dot) {
        if (end + 1 < lx->n && lx->s[end] == '.' && digit_of(lx->s[end + 1], 10))
            end = digits(lx, end + 1, 10);
        if (end < lx->n && (lx->s[end] | 0x20) == 'e') {
            size_t p = end + 1;
            if (p < lx->n && (lx->s[p] == '+' || lx->s[p] == '-'))
                p++;
            size_t exponent = digits(lx, p, 10);
            if (exponent > p)
                end = exponent;
        }
    }
    lx->pos = end;
    if (end > whole)
        return push(lx, T_FLOAT, at, end - at);
    if (lx->s[at] == '0')
        for (size_t i = at; i < whole; i++)
            if (lx->s[i] != '0' && lx->s[i] != '_')
                return lex_fail(lx, at, "a whole number starts with 0");
    return push(lx, T_INT, at, whole - at);
}

static slm_err lex_string(struct lexer *lx) {
    size_t at = lx->pos, p = at + 1;
    for (; p < lx->n && lx->s[p] != lx->s[at]; p++)
        if (lx->s[p] == '\\')
            p++;
    if (p >= lx->n)
        return lex_fail(lx, at, "string without an end");
    lx->pos = p + 1;
    return push(lx, T_STRING, at, lx->pos - at);
}

static bool name_byte(const struct lexer *lx, size_t at, bool first, size_t *len) {
    char c = lx->s[at];
    *len = 1;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
        (!first && c >= '0' && c <= '9'))
        return true;
    return (unsigned char)c >= 0x80 && cp_identifier(cp_at(lx->s + at, lx->n - at, len));
}

static const struct {
    char text[3];
    uint8_t type;
} operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW },      { "==", T_EQ },    { "!=", T_NE },
    { ">=", T_GE },       { "<=", T_LE },       { "+", T_ADD },    { "-", T_SUB },
    { "/", T_DIV },       { "*", T_MUL },       { "%", T_MOD },    { "~", T_TILDE },
    { "[", T_LBRACKET },  { "]", T_RBRACKET },  { "(", T_LPAREN }, { ")", T_RPAREN },
    { "{", T_LBRACE },    { "}", T_RBRACE },    { ">", T_GT },     { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },       { ":", T_COLON },  { "|", T_PIPE },
    { ",", T_COMMA },     { ";", T_SEMICOLON },
};

/* One operator; open brackets are kept in stack [*n], since "}}" ends nothing inside them. */
static slm_err lex_operator(struct lexer *lx, char *stack, size_t *n) {
    for (size_t i = 0; i < ARRAY_LEN(operators); i++) {
        if (!starts(lx, lx->pos, operators[i].text))
            continue;
        char c = operators[i].text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (*n == NEST_MAX)
                return template_fail(lx->t, lx->why, SLM_E_BUDGET, lx->pos,
                                     "brackets nested deeper than %d", NEST_MAX);
            stack[(*n)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (*n == 0 || stack[--*n] != c)
                return template_fail(lx->t, lx->why, SLM_E_TEMPLATE, lx->pos, "'%c' closes nothing",
                                     c);
        }
        size_t len = strlen(operators[i].text);
        lx->pos += len;
        return push(lx, (enum token_type)operators[i].type, lx->pos - len, len);
    }
    return template_fail(lx->t, lx->why, SLM_E_TEMPLATE, lx->pos, "unexpected character '%c'",
                         lx->s[lx->pos]);
}

static slm_err lex_tag(struct lexer *lx, const char *end, enum token_type end_type, size_t begin) {
    char stack[NEST_MAX];
    size_t n_stack = 0;
    for (;;) {
        lx->pos = skip_space(lx, lx->pos);
        if (lx->pos >= lx->n)
            return lex_fail(lx, begin, "tag without an end");
        size_t len = n_stack == 0 ? tag_end(lx, lx->pos, end) : 0;
        if (len != 0) {
            TRY(push(lx, end_type, lx->pos, len));
            lx->pos += len;
            lx->line_start = lx->s[lx->pos - 1] == '\n';
            return SLM_OK;
        }
        char c = lx->s[lx->pos];
        if (c >= '0' && c <= '9') {
            TRY(lex_number(lx));
        } else if (c == '\'' || c == '"') {
            TRY(lex_string(lx));
        } else if (name_byte(lx, lx->pos, true, &len)) {
            size_t at = lx->pos;
            while (lx->pos < lx->n && name_byte(lx, lx->pos, false, &len))
                lx->pos += len;
            TRY(push(lx, T_NAME, at, lx->pos - at));
        } else {
            TRY(lex_operator(lx, stack, &n_stack));
        }
    }
}

/* Text up to the next tag, and that tag. */
static slm_err lex_piece(struct lexer *lx) {
    size_t from = lx->pos, at = from;
    while (at < lx->n && !(lx->s[at] == '{' && at + 1 < lx->n &&
                           (lx->s[at + 1] == '{' || lx->s[at + 1] == '%' || lx->s[at + 1] == '#')))
        at++;
    if (at == lx->n) {
        lx->pos = lx->n;
        return push(lx, T_DATA, from, at - from);
    }
    char kind = lx->s[at + 1];
    char sign = at + 2 < lx->n ? lx->s[at + 2] : '\0';
    if (sign != '-' && sign != '+')
        sign = '\0';
    TRY(push_data(lx, from, at, sign, kind != '{'));
    lx->pos = at + 2 + (sign != '\0');
    lx->line_start = false;
    if (kind == '#')
        return lex_comment(lx, at);
    if (kind == '{') {
        TRY(push(lx, T_VAR, at, 2));
        return lex_tag(lx, "}}", T_VAR_END, at);
    }
    size_t raw = raw_begin(lx, at);
    if (raw != 0) {
        lx->pos = at + raw;
        lx->line_start = lx->s[lx->pos - 1] == '\n';
        return lex_raw(lx, at);
    }
    TRY(push(lx, T_BLOCK, at, 2));
    return lex_tag(lx, "%}", T_BLOCK_END, at);
}

slm_err jinja_lex(const struct template *t, struct tokens *out, slm_why *why) {
    struct lexer lx = {
        .t = t, .s = t->text, .n = t->n_text, .line_start = true, .out = out, .why = why
    };
    while (lx.pos < lx.n)
        TRY(lex_piece(&lx));
    return push(&lx, T_END, lx.n, 0);
}
