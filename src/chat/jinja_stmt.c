/* jinja_stmt.c - statements to instructions; the compiled form's tables.
 *
 * In:  tokens.   Out: t->code, t->words, t->consts, t->macros.
 * Statements: if, for (with filter and else), set (also as a block), macro, call, filter, with,
 * break, continue, and generation, which only marks what a model wrote. Those that reach other
 * files (include, import, extends, block) do not exist here.
 * A body that is written before its use runs (the filters of a set block, a for's targets, the
 * caller block of a call) is compiled by going back to its tokens. */
#include <string.h>

#include "base/utf8.h"
#include "chat/jinja.h"

/* ---- growing tables ---- */

static slm_err table_room(struct parser *p, void **list, size_t *cap, size_t n, size_t size) {
    if (n < *cap)
        return SLM_OK;
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = mem_resize(&p->t->hooks, *list, more, size);
    if (grown == NULL)
        return fail_nomem(p->why, "template tables", more * size);
    *list = grown;
    *cap = more;
    return SLM_OK;
}

slm_err emit(struct parser *p, enum op op, unsigned n, int64_t arg, uint32_t *at) {
    struct template *t = p->t;
    void *list = t->code;
    TRY(table_room(p, &list, &t->cap_code, t->n_code, sizeof *t->code));
    t->code = list;
    if (at != NULL)
        *at = (uint32_t)t->n_code;
    /* The text is at most 1 MiB, so counts and distances stay far below 2^31; NONE_AT as the end
     * of a chain of jumps becomes -1. */
    t->code[t->n_code++] = (struct insn){
        .op = (uint8_t)op, .n = (uint16_t)n, .arg = (int32_t)(uint32_t)arg, .pos = tok(p)->pos
    };
    return SLM_OK;
}

void patch(struct parser *p, uint32_t at) {
    p->t->code[at].arg = (int32_t)(p->t->n_code - at);
}

static slm_err emit_continue(struct parser *p, bool completed, uint32_t to) {
    return emit(p, OP_CONTINUE, completed, (int64_t)to - (int64_t)p->t->n_code, NULL);
}

/* Makes a chain of jumps (linked through arg) lead here. */
static void patch_chain(struct parser *p, uint32_t chain) {
    while (chain != NONE_AT) {
        uint32_t before = (uint32_t)p->t->code[chain].arg;
        patch(p, chain);
        chain = before;
    }
}

static uint32_t word_hash(const char *s, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

static slm_err words_rehash(struct parser *p) {
    struct template *t = p->t;
    size_t n = t->n_word_index == 0 ? 128 : t->n_word_index * 2;
    uint32_t *index = mem_zalloc(&t->hooks, n, sizeof *index);
    if (index == NULL)
        return fail_nomem(p->why, "template tables", n * sizeof *index);
    for (size_t i = 0; i < t->n_words; i++) {
        size_t at = word_hash(t->words[i].str->s, t->words[i].str->n) & (n - 1);
        while (index[at] != 0)
            at = (at + 1) & (n - 1);
        index[at] = (uint32_t)i + 1;
    }
    mem_free(&t->hooks, t->word_index);
    t->word_index = index;
    t->n_word_index = n;
    return SLM_OK;
}

static slm_err word_new(struct parser *p, const char *s, size_t n, uint32_t *out) {
    struct template *t = p->t;
    void *list = t->words;
    TRY(table_room(p, &list, &t->cap_words, t->n_words, sizeof *t->words));
    t->words = list;
    struct str *str = arena_alloc(&t->arena, 1, sizeof *str);
    char *copy = arena_strdup(&t->arena, s, n);
    if (str == NULL || copy == NULL)
        return fail_nomem(p->why, "template words", n);
    *str = (struct str){ .s = copy, .n = n, .chars = count_chars(s, n) };
    *out = (uint32_t)t->n_words;
    t->words[t->n_words++] = (struct word){ .str = str, .constant = NONE_AT };
    return SLM_OK;
}

/* Place of a word in the index, or the free place where it would go. */
static size_t word_slot(const struct template *t, const char *s, size_t n) {
    size_t at = word_hash(s, n) & (t->n_word_index - 1);
    for (; t->word_index[at] != 0; at = (at + 1) & (t->n_word_index - 1)) {
        const struct str *have = t->words[t->word_index[at] - 1].str;
        if (have->n == n && memcmp(have->s, s, n) == 0)
            break;
    }
    return at;
}

uint32_t word_find(const struct template *t, const char *s, size_t n) {
    return t->word_index[word_slot(t, s, n)] - 1; /* 0, a free place, becomes NONE_AT */
}

slm_err word_add(struct parser *p, const char *s, size_t n, uint8_t flags, uint32_t *out) {
    struct template *t = p->t;
    if ((t->n_words + 1) * 2 > t->n_word_index)
        TRY(words_rehash(p));
    size_t at = word_slot(t, s, n);
    if (t->word_index[at] == 0) {
        TRY(word_new(p, s, n, out));
        t->word_index[at] = *out + 1;
    }
    *out = t->word_index[at] - 1;
    t->words[*out].flags |= flags;
    return SLM_OK;
}

slm_err const_add(struct parser *p, const struct value *v, uint32_t *out) {
    struct template *t = p->t;
    void *list = t->consts;
    TRY(table_room(p, &list, &t->cap_consts, t->n_consts, sizeof *t->consts));
    t->consts = list;
    *out = (uint32_t)t->n_consts;
    t->consts[t->n_consts++] = *v;
    return SLM_OK;
}

slm_err emit_const(struct parser *p, const struct value *v) {
    uint32_t index;
    TRY(const_add(p, v, &index));
    return emit(p, OP_CONST, 0, index, NULL);
}

static slm_err emit_word_as(struct parser *p, enum op op, uint32_t word) {
    uint32_t index = p->t->words[word].constant;
    if (index == NONE_AT) {
        struct value v = { .type = V_STR };
        v.u.s = p->t->words[word].str;
        TRY(const_add(p, &v, &index));
        p->t->words[word].constant = index;
    }
    return emit(p, op, 0, index, NULL);
}

slm_err emit_word(struct parser *p, uint32_t word) {
    return emit_word_as(p, OP_CONST, word);
}

/* ---- helpers ---- */

static slm_err block_end(struct parser *p) {
    return tok_expect(p, T_BLOCK_END, "'%}'");
}

static bool take_name(struct parser *p, const char *name) {
    if (!tok_name(p, name))
        return false;
    p->at++;
    return true;
}

static slm_err word_here(struct parser *p, uint8_t flags, uint32_t *out) {
    if (!tok_is(p, T_NAME))
        return tok_expect(p, T_NAME, "a name");
    TRY(word_add(p, p->t->text + tok(p)->pos, tok(p)->n, flags, out));
    p->at++;
    return SLM_OK;
}

/* Skips to the end of this tag. */
static void skip_tag(struct parser *p) {
    while (!tok_is(p, T_BLOCK_END) && !tok_is(p, T_END))
        p->at++;
}

static slm_err parse_body(struct parser *p, const char *const *ends);

/* Body up to {% name %}, whose tag is consumed. */
static slm_err parse_until(struct parser *p, const char *name) {
    const char *const ends[] = { name, NULL };
    TRY(parse_body(p, ends));
    p->at++;
    return block_end(p);
}

/* Stores the value on the stack: a name, an attribute of a namespace, or several by unpacking. */
static slm_err parse_one_target(struct parser *p) {
    uint32_t word;
    if (tok_is(p, T_LPAREN)) {
        uint32_t at;
        unsigned n = 0;
        TRY(parse_enter(p));
        TRY(emit(p, OP_UNPACK, 0, 0, &at));
        for (p->at++; !tok_is(p, T_RPAREN); n++) {
            if (n > 0)
                TRY(tok_expect(p, T_COMMA, "',' or ')'"));
            if (tok_is(p, T_RPAREN))
                break;
            TRY(parse_one_target(p));
        }
        p->at++;
        p->depth--;
        if (n > UINT16_MAX)
            return parse_fail(p, "too many targets");
        p->t->code[at].n = (uint16_t)n;
        return SLM_OK;
    }
    if (tok_is(p, T_NAME) && tok(p)[1].type == T_DOT) {
        TRY(word_here(p, WORD_NAME, &word));
        TRY(emit(p, OP_LOAD, 0, word, NULL));
        p->at++;
        TRY(word_here(p, WORD_ATTR | WORD_ATTR_ASSIGNED, &word));
        return emit(p, OP_STORE_NS, 0, word, NULL);
    }
    TRY(word_here(p, WORD_NAME | WORD_ASSIGNED, &word));
    return emit(p, OP_STORE, 0, word, NULL);
}

static slm_err parse_targets(struct parser *p) {
    uint32_t at, end;
    unsigned n = 0;
    TRY(emit(p, OP_UNPACK, 0, 0, &at));
    bool comma;
    do {
        TRY(parse_one_target(p));
        n++;
        comma = tok_is(p, T_COMMA);
        p->at += comma;
    } while (comma && (tok_is(p, T_NAME) || tok_is(p, T_LPAREN)) && !tok_name(p, "in"));
    if (n > UINT16_MAX)
        return parse_fail(p, "too many targets");
    p->t->code[at].n = (uint16_t)n;
    if (n == 1 && !comma) { /* a single target takes the value as it is */
        end = (uint32_t)p->t->n_code;
        memmove(&p->t->code[at], &p->t->code[at + 1], (end - at - 1) * sizeof *p->t->code);
        p->t->n_code--;
    }
    return SLM_OK;
}

/* ---- statements ---- */

static slm_err parse_if(struct parser *p) {
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    uint32_t done = NONE_AT, skip, at;
    for (;;) {
        TRY(parse_tuple(p, false));
        TRY(emit(p, OP_JUMP_FALSE, 0, 0, &skip));
        TRY(block_end(p));
        TRY(parse_body(p, ends));
        if (tok_name(p, "endif"))
            break;
        TRY(emit(p, OP_JUMP, 0, (int64_t)done, &at));
        done = at;
        patch(p, skip);
        skip = NONE_AT;
        if (take_name(p, "elif"))
            continue;
        p->at++;
        TRY(block_end(p));
        TRY(parse_body(p, ends + 2));
        break;
    }
    p->at++;
    if (skip != NONE_AT)
        patch(p, skip);
    patch_chain(p, done);
    return block_end(p);
}

/* One loop: FOR, NEXT -> end, targets, body, CONTINUE. The iterable is on the stack. */
struct loop_code {
    uint32_t next;
    uint32_t breaks_outside, top_outside;
};

static slm_err loop_begin(struct parser *p, struct loop_code *l, size_t targets, bool collects) {
    TRY(emit(p, OP_FOR, collects, 0, NULL));
    TRY(emit(p, OP_NEXT, 0, 0, &l->next));
    size_t after = p->at;
    p->at = targets;
    TRY(parse_targets(p));
    if (!tok_name(p, "in"))
        return parse_fail(p, "expected 'in'");
    p->at = after;
    l->breaks_outside = p->breaks;
    l->top_outside = p->top;
    p->breaks = NONE_AT;
    p->top = l->next;
    p->loops++;
    return SLM_OK;
}

static slm_err loop_end(struct parser *p, const struct loop_code *l) {
    TRY(emit_continue(p, true, l->next));
    patch(p, l->next);
    patch_chain(p, p->breaks);
    p->breaks = l->breaks_outside;
    p->top = l->top_outside;
    p->loops--;
    return SLM_OK;
}

static slm_err parse_for(struct parser *p) {
    static const char *const ends[] = { "else", "endfor", NULL };
    struct loop_code l;
    uint32_t ran;
    size_t targets = p->at;
    while (!tok_name(p, "in") && !tok_is(p, T_BLOCK_END) && !tok_is(p, T_END))
        p->at++;
    if (!take_name(p, "in"))
        return parse_fail(p, "expected 'in'");
    TRY(parse_tuple(p, false));
    if (take_name(p, "if")) { /* a first loop collects what the condition keeps */
        TRY(loop_begin(p, &l, targets, true));
        TRY(parse_expr(p));
        TRY(emit(p, OP_KEEP, 0, 0, NULL));
        TRY(loop_end(p, &l));
        TRY(emit(p, OP_KEPT, 0, 0, NULL));
    }
    if (tok_name(p, "recursive"))
        return parse_fail(p, "recursive loops are not supported");
    TRY(loop_begin(p, &l, targets, false));
    if (!tok_is(p, T_BLOCK_END))
        return block_end(p);
    p->at++;
    TRY(parse_body(p, ends));
    TRY(loop_end(p, &l));
    if (take_name(p, "else")) {
        TRY(block_end(p));
        TRY(emit(p, OP_RAN, 0, 0, &ran));
        TRY(parse_body(p, ends + 1));
        patch(p, ran);
    }
    p->at++;
    return block_end(p);
}

static slm_err parse_break(struct parser *p, bool again) {
    uint32_t at;
    if (p->loops == 0)
        return parse_fail(p, "%s outside of a loop", again ? "continue" : "break");
    if (again) {
        TRY(emit_continue(p, false, p->top));
    } else {
        TRY(emit(p, OP_BREAK, 0, (int64_t)p->breaks, &at));
        p->breaks = at;
    }
    return block_end(p);
}

static slm_err parse_set(struct parser *p) {
    size_t targets = p->at;
    while (!tok_is(p, T_ASSIGN) && !tok_is(p, T_BLOCK_END) && !tok_is(p, T_PIPE) &&
           !tok_is(p, T_END))
        p->at++;
    size_t after;
    if (tok_is(p, T_ASSIGN)) {
        p->at++;
        TRY(parse_tuple(p, true));
        after = p->at;
        p->at = targets;
        TRY(parse_targets(p));
        TRY(tok_expect(p, T_ASSIGN, "'='"));
        p->at = after;
        return block_end(p);
    }
    size_t filters = p->at;
    TRY(emit(p, OP_CAPTURE, 0, 0, NULL));
    skip_tag(p);
    TRY(block_end(p));
    TRY(emit(p, OP_SCOPE, 0, 0, NULL));
    TRY(parse_until(p, "endset"));
    TRY(emit(p, OP_UNSCOPE, 0, 0, NULL));
    TRY(emit(p, OP_CAPTURE_END, 0, 0, NULL));
    after = p->at;
    p->at = filters;
    TRY(parse_filters(p, false));
    TRY(block_end(p));
    p->at = targets;
    TRY(parse_targets(p));
    if (p->at != filters)
        return parse_fail(p, "expected '=', '|' or '%%}'");
    p->at = after;
    return SLM_OK;
}

static slm_err parse_filter_block(struct parser *p) {
    size_t filters = p->at;
    TRY(emit(p, OP_CAPTURE, 0, 0, NULL));
    skip_tag(p);
    TRY(block_end(p));
    TRY(emit(p, OP_SCOPE, 0, 0, NULL));
    TRY(parse_until(p, "endfilter"));
    TRY(emit(p, OP_UNSCOPE, 0, 0, NULL));
    TRY(emit(p, OP_CAPTURE_END, 0, 0, NULL));
    size_t after = p->at;
    p->at = filters;
    TRY(parse_filters(p, true));
    TRY(block_end(p));
    p->at = after;
    return emit(p, OP_OUTPUT, 0, 0, NULL);
}

/* Parameters "(a, b=1)" of a macro; the instructions that fill in missing ones. */
static slm_err parse_params(struct parser *p, struct macro_def *m) {
    uint32_t list[256];
    uint32_t unbound, store;
    bool defaults = false;
    for (p->at++; !tok_is(p, T_RPAREN);) {
        if (m->n_params > 0)
            TRY(tok_expect(p, T_COMMA, "',' or ')'"));
        if (m->n_params == ARRAY_LEN(list))
            return parse_fail(p, "more than %zu parameters", ARRAY_LEN(list));
        TRY(word_here(p, WORD_NAME | WORD_ASSIGNED, &store));
        list[m->n_params++] = store;
        if (!tok_is(p, T_ASSIGN)) {
            if (defaults)
                return parse_fail(p, "a parameter without default follows one with default");
            continue;
        }
        defaults = true;
        p->at++;
        TRY(emit(p, OP_UNBOUND, 0, store, NULL));
        TRY(emit(p, OP_JUMP_FALSE, 0, 0, &unbound));
        TRY(parse_expr(p));
        TRY(emit(p, OP_STORE, 0, store, NULL));
        patch(p, unbound);
    }
    p->at++;
    m->params = arena_alloc(&p->t->arena, m->n_params, sizeof *m->params);
    if (m->params == NULL)
        return fail_nomem(p->why, "macro", m->n_params * sizeof *m->params);
    memcpy(m->params, list, m->n_params * sizeof *list);
    return SLM_OK;
}

/* Parameters at tokens `params` (0: none), then the body, whose tokens begin at p->at. Leaves the
 * macro on the stack. */
static slm_err parse_macro_body(struct parser *p, uint32_t name, size_t params, const char *end) {
    struct template *t = p->t;
    struct macro_def m = { .name = name };
    uint32_t over;
    TRY(emit(p, OP_JUMP, 0, 0, &over));
    m.entry = (uint32_t)t->n_code;
    unsigned loops = p->loops;
    uint8_t specials = p->specials;
    p->loops = 0;
    p->specials = 0;
    if (params != 0) {
        size_t body = p->at;
        p->at = params;
        TRY(parse_params(p, &m));
        p->at = body;
    }
    TRY(parse_until(p, end));
    TRY(emit(p, OP_RETURN, 0, 0, NULL));
    m.flags = p->specials;
    p->loops = loops;
    /* The body of a call block may use the caller of the macro around it. */
    p->specials = name == t->caller ? specials | m.flags : specials;
    patch(p, over);
    void *list = t->macros;
    TRY(table_room(p, &list, &t->cap_macros, t->n_macros, sizeof *t->macros));
    t->macros = list;
    t->macros[t->n_macros++] = m;
    return emit(p, OP_MACRO, 0, (int64_t)t->n_macros - 1, NULL);
}

/* From '(' to behind the matching ')'; the lexer balanced them. */
static void skip_brackets(struct parser *p) {
    unsigned open = 0;
    do {
        open += tok_is(p, T_LPAREN);
        open -= tok_is(p, T_RPAREN);
        p->at++;
    } while (open > 0 && !tok_is(p, T_BLOCK_END));
}

static slm_err parse_macro(struct parser *p) {
    uint32_t name;
    TRY(word_here(p, WORD_NAME | WORD_ASSIGNED, &name));
    if (!tok_is(p, T_LPAREN))
        return tok_expect(p, T_LPAREN, "'('");
    size_t params = p->at;
    skip_brackets(p);
    TRY(block_end(p));
    TRY(parse_macro_body(p, name, params, "endmacro"));
    return emit(p, OP_STORE, 0, name, NULL);
}

/* {% call(params) f(x) %}body{% endcall %}: f gets the body as one more argument, caller. */
static slm_err parse_call_block(struct parser *p) {
    struct template *t = p->t;
    size_t params = tok_is(p, T_LPAREN) ? p->at : 0;
    uint32_t at;
    if (params != 0)
        skip_brackets(p);
    TRY(parse_operand(p));
    if (t->code[t->n_code - 1].op != OP_CALL)
        return parse_fail(p, "expected a call");
    struct insn call = t->code[--t->n_code];
    TRY(block_end(p));
    TRY(emit_word(p, t->caller));
    TRY(parse_macro_body(p, t->caller, params, "endcall"));
    TRY(emit(p, OP_CALL, call.n, 0, &at));
    t->code[at].n_kw = (uint8_t)(call.n_kw + 1); /* parse_args allows 250 */
    return emit(p, OP_OUTPUT, 0, 0, NULL);
}

/* {% with a = 1, b = 2 %}: the values are computed outside of the new scope. */
static slm_err parse_with(struct parser *p) {
    uint32_t names[64];
    size_t n = 0;
    while (!tok_is(p, T_BLOCK_END)) {
        if (n > 0)
            TRY(tok_expect(p, T_COMMA, "','"));
        if (n == ARRAY_LEN(names))
            return parse_fail(p, "more than %zu names", ARRAY_LEN(names));
        TRY(word_here(p, WORD_NAME | WORD_ASSIGNED, &names[n++]));
        TRY(tok_expect(p, T_ASSIGN, "'='"));
        TRY(parse_expr(p));
    }
    TRY(block_end(p));
    TRY(emit(p, OP_SCOPE, 0, 0, NULL));
    while (n > 0)
        TRY(emit(p, OP_STORE, 0, names[--n], NULL));
    TRY(parse_until(p, "endwith"));
    return emit(p, OP_UNSCOPE, 0, 0, NULL);
}

static slm_err parse_generation(struct parser *p) {
    TRY(block_end(p));
    TRY(emit(p, OP_SCOPE, 0, 0, NULL));
    TRY(parse_until(p, "endgeneration"));
    return emit(p, OP_UNSCOPE, 0, 0, NULL);
}

static slm_err parse_statement(struct parser *p) {
    static const struct {
        const char *name;
        slm_err (*parse)(struct parser *p);
    } table[] = {
        { "if", parse_if },           { "for", parse_for },
        { "set", parse_set },         { "macro", parse_macro },
        { "call", parse_call_block }, { "filter", parse_filter_block },
        { "with", parse_with },       { "generation", parse_generation },
    };
    if (!tok_is(p, T_NAME))
        return parse_fail(p, "expected a statement");
    bool again = tok_name(p, "continue");
    if (again || tok_name(p, "break")) {
        p->at++;
        return parse_break(p, again);
    }
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (take_name(p, table[i].name)) {
            TRY(parse_enter(p));
            TRY(table[i].parse(p));
            p->depth--;
            return SLM_OK;
        }
    }
    return parse_fail(p, "unknown statement '%.*s'", (int)(tok(p)->n < 40 ? tok(p)->n : 40),
                      p->t->text + tok(p)->pos);
}

/* Statements up to {% name %} for a name in ends [NULL-terminated]; p->at is then at that name.
 * ends NULL: the whole template. */
static slm_err parse_body(struct parser *p, const char *const *ends) {
    for (;;) {
        uint32_t word;
        switch (tok(p)->type) {
        case T_DATA:
            TRY(word_add(p, p->t->text + tok(p)->pos, tok(p)->n, WORD_TEXT, &word));
            TRY(emit_word_as(p, OP_TEXT, word));
            p->at++;
            break;
        case T_VAR:
            p->at++;
            TRY(parse_tuple(p, true));
            TRY(emit(p, OP_OUTPUT, 0, 0, NULL));
            TRY(tok_expect(p, T_VAR_END, "'}}'"));
            break;
        case T_BLOCK:
            p->at++;
            for (size_t i = 0; ends != NULL && ends[i] != NULL; i++)
                if (tok_name(p, ends[i]))
                    return SLM_OK;
            TRY(parse_statement(p));
            break;
        default: /* T_END: no other token stands outside of a tag */
            if (ends != NULL)
                return parse_fail(p, "expected '%s' before the end of the template", ends[0]);
            return SLM_OK;
        }
    }
}

/* What is called by a name that nothing defines can only fail, so it is refused now. */
static slm_err check_calls(struct parser *p) {
    for (size_t i = 0; i < p->t->n_words; i++) {
        const struct word *w = &p->t->words[i];
        int n = (int)(w->str->n < 60 ? w->str->n : 60);
        if ((w->flags & WORD_CALLED) != 0 && (w->flags & WORD_ASSIGNED) == 0 &&
            native_find(jinja_functions, w->str->s, w->str->n) == NULL)
            return template_fail(p->t, p->why, SLM_E_TEMPLATE, w->called_at,
                                 "unknown function '%.*s'", n, w->str->s);
        bool ours = (w->flags & (WORD_ATTR_ASSIGNED | WORD_TEXT)) != 0;
        if ((w->flags & WORD_METHOD_CALLED) != 0 && !ours && !method_known(w->str->s, w->str->n))
            return template_fail(p->t, p->why, SLM_E_TEMPLATE, w->method_at,
                                 method_refused(w->str->s, w->str->n)
                                     ? "method '%.*s' would change a value"
                                     : "unknown method '%.*s'",
                                 n, w->str->s);
    }
    return SLM_OK;
}

slm_err jinja_parse(struct parser *p) {
    struct template *t = p->t;
    TRY(word_add(p, "caller", 6, 0, &t->caller));
    TRY(word_add(p, "varargs", 7, 0, &t->varargs));
    TRY(word_add(p, "kwargs", 6, 0, &t->kwargs));
    TRY(word_add(p, "loop", 4, 0, &t->loop));
    t->words[t->caller].flags |= WORD_ASSIGNED;
    p->breaks = NONE_AT;
    TRY(parse_body(p, NULL));
    TRY(emit(p, OP_HALT, 0, 0, NULL));
    return check_calls(p);
}
