/* jinja_expr.c - expressions to instructions.
 *
 * In:  tokens.   Out: instructions that leave one value on the stack.
 * Binding, loosest first:  a if c else b;  or;  and;  not;  comparisons and in (chained as in
 * Python);  + -;  ~;  * / // %;  **;  sign;  . [] () ;  | is.
 * Source: Jinja 3.1 documentation, "Expressions", and its behaviour. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "chat/jinja.h"

/* ---- tokens ---- */

const struct token *tok(const struct parser *p) {
    return &p->tokens.list[p->at];
}

bool tok_is(const struct parser *p, enum token_type type) {
    return tok(p)->type == type;
}

static bool spelled(const struct parser *p, const struct token *t, const char *name) {
    return t->type == T_NAME && t->n == strlen(name) &&
           memcmp(p->t->text + t->pos, name, t->n) == 0;
}

bool tok_name(const struct parser *p, const char *name) {
    return spelled(p, tok(p), name);
}

static bool skip_name(struct parser *p, const char *name) {
    if (!tok_name(p, name))
        return false;
    p->at++;
    return true;
}

static bool skip_type(struct parser *p, enum token_type type) {
    if (!tok_is(p, type))
        return false;
    p->at++;
    return true;
}

slm_err tok_expect(struct parser *p, enum token_type type, const char *what) {
    if (skip_type(p, type))
        return SLM_OK;
    const struct token *t = tok(p);
    if (t->type == T_END)
        return parse_fail(p, "expected %s, found the end of the template", what);
    return parse_fail(p, "expected %s, found '%.*s'", what, (int)(t->n < 40 ? t->n : 40),
                      p->t->text + t->pos);
}

slm_err parse_enter(struct parser *p) {
    if (p->depth == NEST_MAX)
        return template_fail(p->t, p->why, SLM_E_BUDGET, tok(p)->pos, "nested deeper than %d",
                             NEST_MAX);
    p->depth++;
    return SLM_OK;
}

/* ---- literals ---- */

static int hex_value(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A code point written as `digits` hexadecimal digits at s[*at]. */
static slm_err hex_escape(struct parser *p, const char *s, size_t n, size_t *at, unsigned digits,
                          struct buf *b) {
    uint32_t cp = 0;
    for (unsigned i = 0; i < digits; i++, ++*at) {
        int v = *at < n ? hex_value(s[*at]) : -1;
        if (v < 0)
            return parse_fail(p, "escape with fewer than %u hexadecimal digits", digits);
        cp = cp << 4 | (uint32_t)v;
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return parse_fail(p, "escape U+%04X is no character", cp);
    char out[4];
    buf_put(b, out, utf8_encode(cp, out));
    return SLM_OK;
}

static void octal_escape(const char *s, size_t n, size_t *at, struct buf *b) {
    uint32_t cp = 0;
    for (unsigned i = 0; i < 3 && *at < n && s[*at] >= '0' && s[*at] <= '7'; i++, ++*at)
        cp = cp << 3 | (uint32_t)(s[*at] - '0');
    char out[4];
    buf_put(b, out, utf8_encode(cp, out)); /* at most 0777 */
}

/* The escapes of Python's string literals; unknown ones stay as they are written. */
static slm_err unescape(struct parser *p, const char *s, size_t n, struct buf *b) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (i < n && s[i] != '\\')
            i++;
        buf_put(b, s + run, i - run);
        if (i == n)
            break;
        char c = s[i + 1]; /* the lexer saw a character after every backslash */
        const char *known = c != '\0' ? strchr(from, c) : NULL;
        i += 2;
        if (known != NULL) {
            buf_putc(b, to[known - from]);
        } else if (c == 'x' || c == 'u' || c == 'U') {
            TRY(hex_escape(p, s, n, &i, c == 'x' ? 2 : c == 'u' ? 4 : 8, b));
        } else if (c >= '0' && c <= '7') {
            i--;
            octal_escape(s, n, &i, b);
        } else if (c == 'N') {
            return parse_fail(p, "escape \\N{...} is not supported");
        } else if (c != '\n') {
            i--;
            buf_putc(b, '\\');
        }
    }
    return b->err == SLM_OK ? SLM_OK : fail_nomem(p->why, "string literal", n);
}

/* Adjacent literals are one. */
static slm_err parse_string(struct parser *p) {
    struct buf b;
    buf_init(&b, &p->t->hooks, TEMPLATE_TEXT_MAX * 2);
    slm_err err = SLM_OK;
    uint32_t word = 0;
    for (; tok_is(p, T_STRING); p->at++)
        TRY_OUT(unescape(p, p->t->text + tok(p)->pos + 1, tok(p)->n - 2, &b));
    TRY_OUT(word_add(p, b.data != NULL ? b.data : "", b.len, WORD_TEXT, &word));
    TRY_OUT(emit_word(p, word));
out:
    buf_free(&b);
    return err;
}

static slm_err parse_int(struct parser *p, struct value *out) {
    const struct token *t = tok(p);
    const char *s = p->t->text + t->pos;
    char kind = t->n > 1 ? (char)(s[1] | 0x20) : '\0';
    int64_t base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    int64_t sum = 0;
    for (size_t i = base == 10 ? 0 : 2; i < t->n; i++) {
        if (s[i] == '_')
            continue;
        int d = hex_value(s[i]);
        if (sum > (INT64_MAX - d) / base)
            return parse_fail(p, "whole number %.*s is larger than 64 bits", (int)t->n, s);
        sum = sum * base + d;
    }
    *out = v_int(sum);
    return SLM_OK;
}

static slm_err parse_float(struct parser *p, struct value *out) {
    const struct token *t = tok(p);
    double f;
    if (!parse_double(p->t->text + t->pos, t->n, &f))
        return parse_fail(p, "bad number %.*s", (int)(t->n < 40 ? t->n : 40), p->t->text + t->pos);
    *out = v_float(f);
    return SLM_OK;
}

/* ---- primaries ---- */

static bool reserved(const struct parser *p, const struct token *t) {
    static const char *const words[] = { "and", "or", "not", "if", "else", "in", "is" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (spelled(p, t, words[i]))
            return true;
    return false;
}

static slm_err parse_name(struct parser *p) {
    const struct token *t = tok(p);
    const char *s = p->t->text + t->pos;
    struct value v = v_none();
    bool is_true = spelled(p, t, "true") || spelled(p, t, "True");
    if (is_true || spelled(p, t, "false") || spelled(p, t, "False"))
        v = v_bool(is_true);
    else if (!spelled(p, t, "none") && !spelled(p, t, "None")) {
        if (reserved(p, t))
            return parse_fail(p, "unexpected '%.*s'", (int)t->n, s);
        p->specials |= spelled(p, t, "caller")    ? MACRO_CALLER
                       : spelled(p, t, "varargs") ? MACRO_VARARGS
                       : spelled(p, t, "kwargs")  ? MACRO_KWARGS
                                                  : 0;
        uint32_t word;
        TRY(word_add(p, s, t->n, WORD_NAME, &word));
        TRY(emit(p, OP_LOAD, 0, word, NULL));
        p->at++;
        return SLM_OK;
    }
    TRY(emit_const(p, &v));
    p->at++;
    return SLM_OK;
}

static slm_err parse_list(struct parser *p) {
    int64_t n = 0;
    for (p->at++; !tok_is(p, T_RBRACKET); n++) {
        if (n > 0)
            TRY(tok_expect(p, T_COMMA, "',' or ']'"));
        if (tok_is(p, T_RBRACKET))
            break;
        TRY(parse_expr(p));
    }
    p->at++;
    return emit(p, OP_LIST, 0, n, NULL);
}

static slm_err parse_dict(struct parser *p) {
    int64_t n = 0;
    for (p->at++; !tok_is(p, T_RBRACE); n++) {
        if (n > 0)
            TRY(tok_expect(p, T_COMMA, "',' or '}'"));
        if (tok_is(p, T_RBRACE))
            break;
        TRY(parse_expr(p));
        TRY(tok_expect(p, T_COLON, "':'"));
        TRY(parse_expr(p));
    }
    p->at++;
    return emit(p, OP_DICT, 0, n, NULL);
}

static bool tuple_ends(const struct parser *p) {
    enum token_type t = (enum token_type)tok(p)->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN;
}

static slm_err parse_binary(struct parser *p, unsigned level);

slm_err parse_tuple(struct parser *p, bool with_if) {
    int64_t n = 0;
    bool comma = false;
    if (tuple_ends(p))
        return parse_fail(p, "expected an expression");
    for (;;) {
        TRY(with_if ? parse_expr(p) : parse_binary(p, 0));
        n++;
        if (!skip_type(p, T_COMMA))
            break;
        comma = true;
        if (tuple_ends(p))
            break;
    }
    return comma ? emit(p, OP_TUPLE, 0, n, NULL) : SLM_OK;
}

static slm_err parse_primary(struct parser *p) {
    struct value v;
    switch (tok(p)->type) {
    case T_NAME:
        return parse_name(p);
    case T_STRING:
        return parse_string(p);
    case T_INT:
        TRY(parse_int(p, &v));
        p->at++;
        return emit_const(p, &v);
    case T_FLOAT:
        TRY(parse_float(p, &v));
        p->at++;
        return emit_const(p, &v);
    case T_LBRACKET:
        return parse_list(p);
    case T_LBRACE:
        return parse_dict(p);
    case T_LPAREN:
        p->at++;
        if (skip_type(p, T_RPAREN))
            return emit(p, OP_TUPLE, 0, 0, NULL);
        TRY(parse_tuple(p, true));
        return tok_expect(p, T_RPAREN, "')'");
    case T_END:
        return parse_fail(p, "expected an expression, found the end of the template");
    default:
        return parse_fail(p, "expected an expression, found '%.*s'",
                          (int)(tok(p)->n < 40 ? tok(p)->n : 40), p->t->text + tok(p)->pos);
    }
}

/* ---- postfix: attributes, items, calls, filters, tests ---- */

/* Arguments in brackets; the current token is '('. */
static slm_err parse_args(struct parser *p, unsigned *n_pos, unsigned *n_kw) {
    *n_pos = *n_kw = 0;
    for (p->at++; !tok_is(p, T_RPAREN);) {
        if (*n_pos + *n_kw > 0)
            TRY(tok_expect(p, T_COMMA, "',' or ')'"));
        if (tok_is(p, T_RPAREN))
            break;
        if (tok_is(p, T_MUL) || tok_is(p, T_POW))
            return parse_fail(p, "arguments spread with '*' are not supported");
        if (*n_pos + *n_kw == 250)
            return parse_fail(p, "more than 250 arguments");
        if (tok_is(p, T_NAME) && tok(p)[1].type == T_ASSIGN) {
            uint32_t word;
            TRY(word_add(p, p->t->text + tok(p)->pos, tok(p)->n, WORD_ATTR | WORD_ATTR_ASSIGNED,
                         &word));
            TRY(emit_word(p, word));
            p->at += 2;
            ++*n_kw;
        } else if (*n_kw > 0) {
            return parse_fail(p, "a positional argument follows a named one");
        } else {
            ++*n_pos;
        }
        TRY(parse_expr(p));
    }
    p->at++;
    return SLM_OK;
}

/* Remembers what is called by name, to be checked when the whole template is known. */
static void note_call(struct parser *p, uint32_t pos) {
    const struct insn *last = &p->t->code[p->t->n_code - 1];
    if (last->op != OP_LOAD && last->op != OP_ATTR)
        return;
    struct word *w = &p->t->words[last->arg];
    uint8_t flag = last->op == OP_LOAD ? WORD_CALLED : WORD_METHOD_CALLED;
    if ((w->flags & flag) == 0)
        *(flag == WORD_CALLED ? &w->called_at : &w->method_at) = pos;
    w->flags |= flag;
}

static slm_err parse_call(struct parser *p) {
    unsigned n_pos, n_kw;
    uint32_t at;
    note_call(p, tok(p)->pos);
    TRY(parse_args(p, &n_pos, &n_kw));
    TRY(emit(p, OP_CALL, n_pos, 0, &at));
    p->t->code[at].n_kw = (uint8_t)n_kw;
    return SLM_OK;
}

/* One slot of a slice: an expression, or nothing before ':', ',' or ']'. */
static slm_err parse_slot(struct parser *p) {
    struct value none = v_none();
    if (tok_is(p, T_COLON) || tok_is(p, T_RBRACKET) || tok_is(p, T_COMMA))
        return emit_const(p, &none);
    return parse_expr(p);
}

static slm_err parse_subscript(struct parser *p) {
    if (skip_type(p, T_DOT)) {
        uint32_t word;
        struct value v;
        if (tok_is(p, T_NAME)) {
            TRY(word_add(p, p->t->text + tok(p)->pos, tok(p)->n, WORD_ATTR, &word));
            TRY(emit(p, OP_ATTR, 0, word, NULL));
            p->at++;
            return SLM_OK;
        }
        if (!tok_is(p, T_INT))
            return parse_fail(p, "expected a name or number after '.'");
        TRY(parse_int(p, &v));
        TRY(emit_const(p, &v));
        p->at++;
        return emit(p, OP_ITEM, 0, 0, NULL);
    }
    p->at++; /* '[' */
    if (tok_is(p, T_RBRACKET) || tok_is(p, T_COMMA))
        return parse_fail(p, "expected an expression after '['");
    TRY(parse_slot(p));
    if (skip_type(p, T_COLON)) {
        TRY(parse_slot(p));
        if (!skip_type(p, T_COLON) && !tok_is(p, T_RBRACKET))
            return tok_expect(p, T_RBRACKET, "']'");
        TRY(parse_slot(p));
        TRY(tok_expect(p, T_RBRACKET, "']'"));
        return emit(p, OP_SLICE, 0, 0, NULL);
    }
    int64_t n = 1;
    for (; skip_type(p, T_COMMA) && !tok_is(p, T_RBRACKET); n++)
        TRY(parse_expr(p));
    TRY(tok_expect(p, T_RBRACKET, "']'"));
    if (n > 1)
        TRY(emit(p, OP_TUPLE, 0, n, NULL));
    return emit(p, OP_ITEM, 0, 0, NULL);
}

static slm_err parse_postfix(struct parser *p) {
    for (;;) {
        if (tok_is(p, T_DOT) || tok_is(p, T_LBRACKET))
            TRY(parse_subscript(p));
        else if (tok_is(p, T_LPAREN))
            TRY(parse_call(p));
        else
            return SLM_OK;
    }
}

slm_err parse_operand(struct parser *p) {
    TRY(parse_primary(p));
    return parse_postfix(p);
}

static slm_err emit_native(struct parser *p, enum op op, const struct native *f, unsigned n_pos,
                           unsigned n_kw) {
    struct value v = { .type = V_NATIVE };
    uint32_t index, at;
    v.u.native = f;
    TRY(const_add(p, &v, &index));
    TRY(emit(p, op, n_pos, index, &at));
    p->t->code[at].n_kw = (uint8_t)n_kw;
    return SLM_OK;
}

/* map('upper'), select('defined') ...: the name of a filter or test that stands as a literal in
 * argument `which` (code from `from` on) must exist, as any other. */
static slm_err check_named(struct parser *p, const struct native *f, size_t from, unsigned n_pos) {
    bool map = strcmp(f->name, "map") == 0;
    bool attr = strcmp(f->name, "selectattr") == 0 || strcmp(f->name, "rejectattr") == 0;
    if (!map && !attr && strcmp(f->name, "select") != 0 && strcmp(f->name, "reject") != 0)
        return SLM_OK;
    size_t at = from + (attr ? 1 : 0); /* a literal is one instruction */
    if (n_pos < (attr ? 2u : 1u) || at >= p->t->n_code || p->t->code[at].op != OP_CONST ||
        (attr && p->t->code[from].op != OP_CONST))
        return SLM_OK;
    const struct value *v = &p->t->consts[p->t->code[at].arg];
    if (v->type != V_STR)
        return SLM_OK;
    const struct str *s = v->u.s;
    if ((map ? filter_find(s->s, s->n) : test_find(s->s, s->n)) != NULL)
        return SLM_OK;
    return template_fail(p->t, p->why, SLM_E_TEMPLATE, p->t->code[at].pos, "unknown %s '%.*s'",
                         map ? "filter" : "test", (int)(s->n < 40 ? s->n : 40), s->s);
}

static slm_err parse_filter(struct parser *p) {
    const struct token *t = tok(p);
    if (t->type != T_NAME)
        return parse_fail(p, "expected the name of a filter");
    const struct native *f = filter_find(p->t->text + t->pos, t->n);
    if (f == NULL)
        return parse_fail(p, "unknown filter '%.*s'", (int)(t->n < 60 ? t->n : 60),
                          p->t->text + t->pos);
    unsigned n_pos = 0, n_kw = 0;
    size_t from = p->t->n_code;
    p->at++;
    if (tok_is(p, T_LPAREN))
        TRY(parse_args(p, &n_pos, &n_kw));
    TRY(check_named(p, f, from, n_pos));
    return emit_native(p, OP_FILTER, f, n_pos, n_kw);
}

slm_err parse_filters(struct parser *p, bool first_without_pipe) {
    while (first_without_pipe || skip_type(p, T_PIPE)) {
        first_without_pipe = false;
        TRY(parse_filter(p));
    }
    return SLM_OK;
}

/* After "is": a test with arguments in brackets, or one argument without. */
static slm_err parse_test(struct parser *p) {
    bool negated = skip_name(p, "not");
    const struct token *t = tok(p);
    if (t->type != T_NAME)
        return parse_fail(p, "expected the name of a test");
    const struct native *f = test_find(p->t->text + t->pos, t->n);
    if (f == NULL)
        return parse_fail(p, "unknown test '%.*s'", (int)(t->n < 60 ? t->n : 60),
                          p->t->text + t->pos);
    unsigned n_pos = 0, n_kw = 0;
    p->at++;
    t = tok(p);
    if (t->type == T_LPAREN) {
        TRY(parse_args(p, &n_pos, &n_kw));
    } else if (t->type == T_STRING || t->type == T_INT || t->type == T_FLOAT ||
               t->type == T_LBRACKET || t->type == T_LBRACE ||
               (t->type == T_NAME && !reserved(p, t))) {
        TRY(parse_operand(p));
        n_pos = 1;
    } else if (spelled(p, t, "is")) {
        return parse_fail(p, "tests cannot be chained with 'is'");
    }
    TRY(emit_native(p, OP_TEST, f, n_pos, n_kw));
    return negated ? emit(p, OP_NOT, 0, 0, NULL) : SLM_OK;
}

static slm_err parse_unary(struct parser *p) {
    bool sign = false, minus = false;
    for (; tok_is(p, T_SUB) || tok_is(p, T_ADD); p->at++) {
        sign = true;
        minus ^= tok_is(p, T_SUB);
    }
    TRY(parse_operand(p));
    if (sign)
        TRY(emit(p, minus ? OP_NEG : OP_POS, 0, 0, NULL));
    for (;;) {
        if (tok_is(p, T_PIPE))
            TRY(parse_filters(p, false));
        else if (skip_name(p, "is"))
            TRY(parse_test(p));
        else if (tok_is(p, T_LPAREN))
            TRY(parse_call(p));
        else
            return SLM_OK;
    }
}

/* ---- operators ---- */

enum { L_OR, L_AND, L_NOT, L_COMPARE, L_ADD, L_CONCAT, L_MUL, L_POW };

/* Level and instruction of the binary operator at the current token; false when it is none. */
static bool binary_at(const struct parser *p, unsigned *level, enum op *op, enum compare *compare) {
    static const struct {
        uint8_t token, level, op, compare;
    } table[] = {
        { T_EQ, L_COMPARE, OP_COMPARE, CMP_EQ },
        { T_NE, L_COMPARE, OP_COMPARE, CMP_NE },
        { T_LT, L_COMPARE, OP_COMPARE, CMP_LT },
        { T_LE, L_COMPARE, OP_COMPARE, CMP_LE },
        { T_GT, L_COMPARE, OP_COMPARE, CMP_GT },
        { T_GE, L_COMPARE, OP_COMPARE, CMP_GE },
        { T_ADD, L_ADD, OP_ADD, 0 },
        { T_SUB, L_ADD, OP_SUB, 0 },
        { T_TILDE, L_CONCAT, OP_CONCAT, 0 },
        { T_MUL, L_MUL, OP_MUL, 0 },
        { T_DIV, L_MUL, OP_DIV, 0 },
        { T_FLOORDIV, L_MUL, OP_FLOORDIV, 0 },
        { T_MOD, L_MUL, OP_MOD, 0 },
        { T_POW, L_POW, OP_POW, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (tok(p)->type == table[i].token) {
            *level = table[i].level;
            *op = (enum op)table[i].op;
            *compare = (enum compare)table[i].compare;
            return true;
        }
    }
    *op = OP_COMPARE;
    *level = L_COMPARE;
    if (tok_name(p, "in"))
        *compare = CMP_IN;
    else if (tok_name(p, "not") && spelled(p, tok(p) + 1, "in"))
        *compare = CMP_NOT_IN;
    else if (tok_name(p, "and"))
        *level = L_AND, *op = OP_AND;
    else if (tok_name(p, "or"))
        *level = L_OR, *op = OP_OR;
    else
        return false;
    return true;
}

/* a < b < c: the middle operand is computed once, the rest is skipped when one link is false. */
static slm_err parse_compare(struct parser *p) {
    unsigned level;
    enum op op;
    enum compare c;
    uint32_t links = NONE_AT, at;
    while (binary_at(p, &level, &op, &c) && op == OP_COMPARE) {
        p->at += c == CMP_NOT_IN ? 2 : 1;
        TRY(parse_binary(p, L_ADD));
        enum compare next;
        bool more = binary_at(p, &level, &op, &next) && op == OP_COMPARE;
        TRY(emit(p, more ? OP_CHAIN : OP_COMPARE, c, more ? (int64_t)links : 0, &at));
        if (more)
            links = at;
    }
    while (links != NONE_AT) {
        uint32_t before = (uint32_t)p->t->code[links].arg;
        patch(p, links);
        links = before;
    }
    return SLM_OK;
}

static slm_err parse_operator(struct parser *p, unsigned level, enum op op) {
    uint32_t at;
    if (op == OP_COMPARE)
        return parse_compare(p);
    if (op == OP_AND || op == OP_OR) {
        TRY(emit(p, op, 0, 0, &at));
        p->at++;
        TRY(parse_binary(p, level + 1));
        patch(p, at);
        return SLM_OK;
    }
    int64_t n = 1;
    do {
        p->at++;
        TRY(parse_binary(p, level + 1));
        n++;
    } while (op == OP_CONCAT && tok_is(p, T_TILDE));
    return emit(p, op, 0, op == OP_CONCAT ? n : 0, NULL);
}

/* Operators that bind at least as tightly as `level`. */
static slm_err parse_binary(struct parser *p, unsigned level) {
    TRY(parse_enter(p));
    if (level <= L_NOT && tok_name(p, "not")) {
        p->at++;
        TRY(parse_binary(p, L_NOT));
        TRY(emit(p, OP_NOT, 0, 0, NULL));
    } else {
        TRY(parse_unary(p));
    }
    unsigned found;
    enum op op;
    enum compare c;
    while (binary_at(p, &found, &op, &c) && found >= level)
        TRY(parse_operator(p, found, op));
    p->depth--;
    return SLM_OK;
}

/* The value before "if" was compiled first but runs second: its instructions, [from, end), are
 * set aside, the condition is compiled in their place, and they are put behind it. Jumps are
 * distances, so moving a whole expression keeps them right. */
static slm_err parse_condition(struct parser *p, size_t from) {
    struct template *t = p->t;
    size_t n = t->n_code - from;
    struct insn *aside = mem_alloc(&t->hooks, n, sizeof *aside);
    if (aside == NULL)
        return fail_nomem(p->why, "template code", n * sizeof *aside);
    memcpy(aside, t->code + from, n * sizeof *aside);
    t->n_code = from;
    uint32_t skip, at;
    slm_err err;
    TRY_OUT(parse_binary(p, L_OR));
    TRY_OUT(emit(p, OP_JUMP_FALSE, 0, 0, &skip));
    for (size_t i = 0; i < n; i++) {
        TRY_OUT(emit(p, (enum op)aside[i].op, aside[i].n, aside[i].arg, &at));
        t->code[at] = aside[i];
    }
    t->code[skip].arg = (int32_t)(t->n_code + 1 - skip); /* over the jump that comes next */
out:
    mem_free(&t->hooks, aside);
    return err;
}

slm_err parse_expr(struct parser *p) {
    uint32_t ends = NONE_AT, at;
    size_t from = p->t->n_code;
    TRY(parse_binary(p, L_OR));
    while (skip_name(p, "if")) {
        TRY(parse_condition(p, from));
        if (skip_name(p, "else")) {
            TRY(emit(p, OP_JUMP, 0, (int64_t)ends, &at));
            ends = at;
            from = p->t->n_code;
            TRY(parse_binary(p, L_OR));
        } else {
            TRY(emit(p, OP_JUMP, 0, 0, &at));
            TRY(emit(p, OP_UNDEF, 0, 0, NULL));
            patch(p, at);
        }
    }
    while (ends != NONE_AT) {
        uint32_t before = (uint32_t)p->t->code[ends].arg;
        patch(p, ends);
        ends = before;
    }
    return SLM_OK;
}
