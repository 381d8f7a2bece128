/* jinja.h - inside the template interpreter: values, compiled form, machine.
 *
 * jinja_lex.c    text -> tokens                     jinja_value.c  strings, lists, dicts
 * jinja_expr.c   expressions -> instructions        jinja_repr.c   str(), repr(), JSON
 * jinja_stmt.c   statements -> instructions         jinja_op.c     operators, attributes, slices
 * jinja_vm.c     runs instructions                  jinja_text.c   Unicode tables and case
 * jinja_str.c    methods of str                     jinja_seq.c    filters over sequences
 * jinja_filter.c the other filters, tests           jinja_func.c   functions, methods of list, dict
 *
 * There is no C recursion at run time except over nested values (printing, comparing), which is
 * counted against max_depth, and none at compile time except over nested syntax (NEST_MAX).
 * Semantics: Python 3 and Jinja 3.1; tests/data/chat/ holds cases made with the real ones. */
#ifndef SLM_CHAT_JINJA_H
#define SLM_CHAT_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "chat/template.h"

#define NEST_MAX 128       /* nesting of statements and expressions in the text */
#define NATIVE_ARGS_MAX 6  /* bound parameters of one filter, test, function or method */
#define RANGE_MAX 100000   /* longest range(), as in Jinja's sandbox */
#define NONE_AT UINT32_MAX /* "no instruction" */

/* ---- values ---- */

enum value_type {
    V_UNDEF, /* u.s: what is missing (may be NULL); sub: enum missing */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_VIEW, /* keys, values or items of a dict: u.l; sub: enum view */
    V_GEN,  /* result of map, select ...: can be walked once: u.l */
    V_RANGE,
    V_DICT,
    V_NS, /* namespace(): u.d */
    V_LOOP,
    V_MACRO,
    V_NATIVE, /* function of the language */
    V_METHOD, /* bound method */
};
enum missing { MISSING_NAME, MISSING_ATTR, MISSING_OTHER };
enum view { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

struct value {
    uint8_t type; /* enum value_type */
    uint8_t sub;
    union {
        bool b;
        int64_t i;
        double f;
        const struct str *s;
        struct list *l;
        struct dict *d;
        struct range *r;
        struct loop *loop;
        struct macro *macro;
        const struct native *native;
        struct method *method;
    } u;
};

/* Immutable text. taint runs beside the bytes: NULL none, taint_all every byte, else one flag per
 * byte; a nonzero byte came from something untrusted. */
struct str {
    const char *s; /* [n], not zero-terminated */
    size_t n;
    size_t chars; /* code points */
    const uint8_t *taint;
};
extern const uint8_t taint_all[1];

struct list {
    struct value *items; /* [n] */
    size_t n, cap;
    size_t walked; /* V_GEN: items already taken */
    bool open;     /* made by the template: append is allowed */
};

struct entry {
    struct value key, value;
    uint64_t hash;
};
struct dict {
    struct entry *entries; /* [n], in order of insertion */
    size_t n, cap;
    uint32_t *index; /* [n_index] entry + 1, 0 is free; NULL while the dict is small */
    size_t n_index;  /* power of two */
};
struct range {
    int64_t start, stop, step;
    size_t n;
};
struct method {
    struct value self;
    const struct native *native;
};

/* ---- natives: filters, tests, functions, methods ---- */

struct vm;
/* Arguments of one call. pos and kw are as given; arg[] is filled by name for natives that
 * declare their parameters (NULL: not given). */
struct call {
    const struct value *arg[NATIVE_ARGS_MAX];
    const struct value *pos; /* [n_pos] */
    const struct value *kw;  /* [2 * n_kw]: name, value, name, value ... */
    size_t n_pos, n_kw;
};
typedef slm_err (*native_fn)(struct vm *vm, const struct value *self, const struct call *c,
                             struct value *out);
struct native {
    const char *name;
    const char *params; /* "old,new,count"; "*": takes pos and kw as they are */
    native_fn fn;
    unsigned min; /* how many parameters must be given */
};
/* Tables end with a row whose name is NULL. */
extern const struct native jinja_filters[], jinja_seq_filters[], jinja_tests[], jinja_functions[];
extern const struct native jinja_str_methods[], jinja_list_methods[], jinja_dict_methods[],
    jinja_loop_methods[];

const struct native *native_find(const struct native *table, const char *name, size_t n);
const struct native *filter_find(const char *name, size_t n);
const struct native *test_find(const char *name, size_t n);
/* True when some type has a method of this name. */
bool method_known(const char *name, size_t n);
/* Methods that would change a value given by the caller: Jinja's sandbox hides them. */
bool method_refused(const char *name, size_t n);
slm_err native_call(struct vm *vm, const struct native *f, const struct value *self,
                    const struct value *pos, size_t n_pos, const struct value *kw, size_t n_kw,
                    struct value *out);

/* ---- compiled form ---- */

enum op {
    OP_TEXT,     /* arg: constant; writes it */
    OP_OUTPUT,   /* pops and writes str(value) */
    OP_CONST,    /* arg: constant */
    OP_LOAD,     /* arg: name */
    OP_STORE,    /* arg: name; pops */
    OP_STORE_NS, /* arg: attribute name; pops namespace, then value */
    OP_UNPACK,   /* n: pops one, pushes n values, first on top */
    OP_UNDEF,    /* pushes undefined */
    OP_ATTR,     /* arg: name */
    OP_ITEM,
    OP_SLICE, /* pops step, stop, start, object */
    OP_LIST,
    OP_TUPLE, /* arg: how many */
    OP_DICT,  /* arg: how many pairs */
    OP_NOT,
    OP_NEG,
    OP_POS,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_CONCAT,     /* arg: how many */
    OP_COMPARE,    /* n: enum compare */
    OP_CHAIN,      /* n: enum compare; false: leaves false and jumps; true: leaves right operand */
    OP_JUMP,       /* arg: distance, as in all jumps */
    OP_JUMP_FALSE, /* pops */
    OP_AND,        /* false: keeps and jumps; else pops */
    OP_OR,         /* true: keeps and jumps; else pops */
    OP_UNBOUND,    /* arg: name; pushes whether the innermost scope lacks it */
    OP_FILTER,     /* arg: constant (a native); n positional, n_kw named arguments */
    OP_TEST,
    OP_CALL,
    OP_CAPTURE,
    OP_CAPTURE_END, /* pushes what was written since */
    OP_SCOPE,
    OP_UNSCOPE,
    OP_FOR,      /* pops an iterable, starts a loop; n = 1: it only collects, and has no name */
    OP_NEXT,     /* pushes the next item, or ends the loop and jumps */
    OP_KEEP,     /* filtered for: pops a condition, keeps the item when true */
    OP_KEPT,     /* pushes the list of kept items (after the loop ended) */
    OP_RAN,      /* jumps when the loop that just ended completed at least one round */
    OP_CONTINUE, /* jumps back to OP_NEXT; n = 1: the round was completed */
    OP_BREAK,    /* ends the loop and jumps */
    OP_MACRO,    /* arg: index of the definition; pushes a macro */
    OP_RETURN,
    OP_HALT,
};
enum compare { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_IN, CMP_NOT_IN };

struct insn {
    uint8_t op; /* enum op */
    uint8_t n_kw;
    uint16_t n;
    int32_t arg;
    uint32_t pos; /* offset in the text */
};

/* Every name, attribute and literal once. */
enum word_flag {
    WORD_NAME = 1,           /* variable */
    WORD_ATTR = 2,           /* attribute or argument name */
    WORD_TEXT = 4,           /* literal or text between tags */
    WORD_ASSIGNED = 8,       /* variable set by the template */
    WORD_ATTR_ASSIGNED = 16, /* attribute set by the template */
    WORD_CALLED = 32,
    WORD_METHOD_CALLED = 64,
};
struct word {
    const struct str *str; /* arena */
    uint8_t flags;
    uint32_t constant;             /* its text among the constants, or NONE_AT */
    uint32_t called_at, method_at; /* offsets of the first such use */
};

enum macro_flag { MACRO_CALLER = 1, MACRO_VARARGS = 2, MACRO_KWARGS = 4 };
struct macro_def {
    uint32_t name;  /* word */
    uint32_t entry; /* instruction */
    uint32_t n_params;
    uint32_t *params; /* [n_params] words, arena */
    uint8_t flags;    /* which special variables the body mentions */
};

struct template {
    struct slm_hooks hooks;
    struct arena arena;
    char *text; /* [n_text], line ends made "\n" */
    size_t n_text;
    struct insn *code; /* [n_code], hooks */
    size_t n_code, cap_code;
    struct word *words; /* [n_words], hooks */
    size_t n_words, cap_words;
    uint32_t *word_index; /* [n_word_index] word + 1, hooks */
    size_t n_word_index;
    struct value *consts; /* [n_consts], hooks */
    size_t n_consts, cap_consts;
    struct macro_def *macros; /* hooks */
    size_t n_macros, cap_macros;
    uint32_t caller, varargs, kwargs, loop; /* words the machine itself sets */
};

/* ---- lexer ---- */

enum token_type {
    T_END,
    T_DATA, /* text between tags */
    T_BLOCK,
    T_BLOCK_END,
    T_VAR,
    T_VAR_END,
    T_NAME,
    T_STRING, /* with its quotes */
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
};
struct token {
    uint8_t type; /* enum token_type */
    uint32_t pos, n;
};
struct tokens {
    struct token *list; /* [n], hooks; the last is T_END */
    size_t n, cap;
};
slm_err jinja_lex(const struct template *t, struct tokens *out, slm_why *why);
/* Error at an offset of t->text: adds the line. */
slm_err template_fail(const struct template *t, slm_why *why, slm_err code, size_t pos,
                      const char *format, ...) ATTR_PRINTF(5, 6);

/* ---- parser ---- */

struct parser {
    struct template *t;
    struct tokens tokens;
    size_t at;        /* current token */
    unsigned depth;   /* against NEST_MAX */
    unsigned loops;   /* enclosing loops in this macro */
    uint32_t breaks;  /* chain of OP_BREAK of the innermost loop, through arg */
    uint32_t top;     /* OP_NEXT of the innermost loop */
    uint8_t specials; /* enum macro_flag: special variables seen in this macro */
    slm_why *why;
};
slm_err jinja_parse(struct parser *p);   /* whole template */
slm_err parse_expr(struct parser *p);    /* with inline if */
slm_err parse_operand(struct parser *p); /* no operators, filters or tests outside of brackets */
/* Comma-separated expressions make a tuple; at least one expression. */
slm_err parse_tuple(struct parser *p, bool with_if);
slm_err parse_filters(struct parser *p, bool first_without_pipe);
slm_err parse_enter(struct parser *p); /* one level deeper, or an error */

const struct token *tok(const struct parser *p);
bool tok_is(const struct parser *p, enum token_type type);
bool tok_name(const struct parser *p, const char *name); /* current token is this word */
slm_err tok_expect(struct parser *p, enum token_type type, const char *what);
slm_err parse_fail(struct parser *p, const char *format, ...) ATTR_PRINTF(2, 3);
/* Appends an instruction; *at (may be NULL) gets its index. */
slm_err emit(struct parser *p, enum op op, unsigned n, int64_t arg, uint32_t *at);
/* Makes the jump at `at` lead to the next instruction to come. */
void patch(struct parser *p, uint32_t at);
slm_err word_add(struct parser *p, const char *s, size_t n, uint8_t flags, uint32_t *out);
uint32_t word_find(const struct template *t, const char *s, size_t n); /* or NONE_AT */
slm_err const_add(struct parser *p, const struct value *v, uint32_t *out);
slm_err emit_const(struct parser *p, const struct value *v);
slm_err emit_word(struct parser *p, uint32_t word); /* the word's text as a constant */

/* ---- machine ---- */

struct binding {
    uint32_t name;
    struct value value;
};
struct scope {
    struct scope *parent;
    struct binding *vars; /* [n] */
    uint32_t n, cap;
    bool captured; /* a macro remembers it */
};
struct macro {
    const struct macro_def *def;
    struct scope *scope; /* where it was made */
};
struct loop {
    struct loop *outer;
    struct list *items; /* walked list; n is fixed at the start */
    size_t n, i;        /* i: rounds begun; the current item is i - 1 */
    struct scope *scope_before;
    struct builder *sink;
    struct list *kept;     /* filtered for */
    struct value *changed; /* arguments of the last loop.changed() */
    size_t n_changed;
    bool completed; /* some round ran to its end: no else */
};
struct frame {
    uint32_t return_to;
    struct scope *scope;
    struct builder *sink;
    struct loop *loop;
};
/* Text being made. Edges are the offsets where untrusted text begins and ends, in turn. */
struct builder {
    char *text; /* [n] */
    size_t n, cap;
    size_t *edges; /* [n_edges] */
    size_t n_edges, cap_edges;
    struct builder *outer; /* captures */
};

struct vm {
    const struct template *t;
    struct arena arena; /* all values of this rendering */
    slm_why *why;
    size_t steps, max_steps, max_output, max_memory;
    unsigned max_depth;
    int64_t now;
    size_t pc;
    struct value *stack; /* [sp] */
    size_t sp, cap;
    struct scope *scope;
    struct loop *loop;
    struct list *kept;
    bool loop_ran;
    struct builder *sink;
    struct frame *frames; /* [n_frames] */
    size_t n_frames, cap_frames;
};
slm_err vm_run(struct vm *vm);
slm_err scope_set(struct vm *vm, struct scope *s, uint32_t name, const struct value *v);
slm_err scope_new(struct vm *vm, struct scope *parent, struct scope **out);
slm_err vm_fail(struct vm *vm, slm_err code, const char *format, ...) ATTR_PRINTF(3, 4);
#define vm_type_error(vm, ...) vm_fail(vm, SLM_E_TEMPLATE, __VA_ARGS__)
/* n * size bytes that live as long as the rendering; an error names the budget. */
slm_err vm_alloc(struct vm *vm, size_t n, size_t size, void **out);
slm_err vm_grow(struct vm *vm, void **p, size_t *cap, size_t need, size_t size, size_t used);
/* Counts work: n units of 64 bytes. */
slm_err vm_charge(struct vm *vm, size_t n);
slm_err vm_depth(struct vm *vm, unsigned depth); /* error when a value is nested too deep */

/* ---- values: jinja_value.c ---- */

struct value v_none(void);
struct value v_undef(void);
struct value v_bool(bool b);
struct value v_int(int64_t i);
struct value v_float(double f);
struct value v_list(enum value_type type, struct list *l);
struct value v_dict(struct dict *d);
const char *type_name(const struct value *v); /* Python's name of the type */

slm_err str_wrap(struct vm *vm, const char *s, size_t n, const uint8_t *taint, struct value *out);
slm_err str_copy(struct vm *vm, const char *s, size_t n, struct value *out); /* trusted */
/* Bytes [from, from + n) of s; shares them. */
slm_err str_part(struct vm *vm, const struct str *s, size_t from, size_t n, struct value *out);
size_t str_offset(const struct str *s, size_t index); /* byte offset of a code point */
bool str_tainted(const struct str *s, size_t at);
bool str_is(const struct str *s, const char *word);
size_t count_chars(const char *s, size_t n);

slm_err build_put(struct vm *vm, struct builder *b, const char *s, size_t n, bool data);
slm_err build_puts(struct vm *vm, struct builder *b, const char *s);
/* Error when n more bytes would pass the ceiling: known before the work is done. */
slm_err build_room(struct vm *vm, const struct builder *b, uint64_t n);
slm_err build_part(struct vm *vm, struct builder *b, const struct str *s, size_t from, size_t n);
slm_err build_str(struct vm *vm, struct builder *b, const struct str *s);
slm_err build_done(struct vm *vm, const struct builder *b, struct value *out);
/* As build_done, but one untrusted byte makes the whole text untrusted. */
slm_err build_done_whole(struct vm *vm, const struct builder *b, struct value *out);

slm_err list_new(struct vm *vm, size_t cap, struct list **out);
slm_err list_add(struct vm *vm, struct list *l, const struct value *v);
slm_err tuple2(struct vm *vm, const struct value *a, const struct value *b, struct value *out);
slm_err dict_new(struct vm *vm, struct dict **out);
slm_err dict_set(struct vm *vm, struct dict *d, const struct value *key, const struct value *v);
/* *out is NULL when absent. */
slm_err dict_get(struct vm *vm, const struct dict *d, const struct value *key,
                 const struct value **out);
const struct value *dict_word(const struct dict *d, const char *s, size_t n);

bool truth(const struct value *v);
slm_err value_equal(struct vm *vm, const struct value *a, const struct value *b, unsigned depth,
                    bool *out);
/* -1, 0, 1; values without an order are an error. unordered: a NaN is involved. */
slm_err value_order(struct vm *vm, const struct value *a, const struct value *b, unsigned depth,
                    int *out, bool *unordered);
int number_order(const struct value *a, const struct value *b, bool *unordered);
bool is_number(const struct value *v);            /* int, float or bool */
bool as_int(const struct value *v, int64_t *out); /* int or bool */
double as_double(const struct value *v);
int str_order(const struct str *a, const struct str *b);
/* What iterating gives, as a list; uses up a generator. */
slm_err iterate(struct vm *vm, const struct value *v, struct list **out);

/* ---- jinja_repr.c ---- */

#define FLOAT_TEXT_MAX 32
size_t float_text(double f, char out[FLOAT_TEXT_MAX]);                        /* Python's repr */
slm_err to_str(struct vm *vm, const struct value *v, const struct str **out); /* str(v) */
slm_err build_value(struct vm *vm, struct builder *b, const struct value *v); /* str(v) */
slm_err build_repr(struct vm *vm, struct builder *b, const struct value *v, unsigned depth);
struct json_style {
    bool ascii, sorted;
    const struct str *indent; /* NULL: one line */
    const struct str *item_separator, *key_separator;
};
slm_err build_json(struct vm *vm, struct builder *b, const struct value *v,
                   const struct json_style *style, unsigned depth);
bool parse_double(const char *s, size_t n, double *out); /* decimal point whatever the locale */
/* Exactly rounded decimal with `digits` after the point, then back. */
double round_decimal(double f, int digits);

/* ---- jinja_op.c ---- */

slm_err op_arith(struct vm *vm, enum op op, const struct value *a, const struct value *b,
                 struct value *out);
slm_err op_sign(struct vm *vm, enum op op, const struct value *a, struct value *out);
slm_err op_compare(struct vm *vm, enum compare c, const struct value *a, const struct value *b,
                   bool *out);
slm_err op_concat(struct vm *vm, const struct value *v, size_t n, struct value *out);
slm_err op_attr(struct vm *vm, const struct value *v, const struct str *name, struct value *out);
slm_err op_item(struct vm *vm, const struct value *v, const struct value *key, struct value *out);
slm_err op_slice(struct vm *vm, const struct value *v, const struct value *start,
                 const struct value *stop, const struct value *step, struct value *out);
slm_err contains(struct vm *vm, const struct value *box, const struct value *v, bool *out);
/* len(v) */
slm_err length_of(struct vm *vm, const struct value *v, size_t *out);
/* "a.b.0" of v, as filters' attribute argument means it */
slm_err attr_path(struct vm *vm, const struct value *v, const struct value *path,
                  const struct value *fallback, struct value *out);
/* Reports the use of an undefined value. */
slm_err undefined_error(struct vm *vm, const struct value *v);
/* First occurrence of needle in s at or after `from`; SIZE_MAX when there is none. */
size_t find_bytes(const struct str *s, const struct str *needle, size_t from);
size_t find_last(const struct str *s, const struct str *needle, size_t from, size_t end);

/* ---- arguments of natives ---- */

slm_err arg_int(struct vm *vm, const struct call *c, unsigned i, int64_t fallback, int64_t *out);
bool arg_bool(const struct call *c, unsigned i, bool fallback);
/* *out is NULL when not given (or None); any other type than str is an error. */
slm_err arg_str(struct vm *vm, const struct call *c, unsigned i, const struct str **out);
bool arg_given(const struct call *c, unsigned i); /* given and not None */

/* ---- jinja_text.c ---- */

bool cp_space(uint32_t cp);     /* str.isspace */
bool cp_linebreak(uint32_t cp); /* str.splitlines */
bool cp_printable(uint32_t cp);
bool cp_identifier(uint32_t cp);
uint32_t cp_at(const char *s, size_t n, size_t *len); /* valid text only */
uint32_t cp_before(const char *s, size_t end, size_t *len);
enum text_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP };
slm_err text_case(struct vm *vm, const struct str *s, enum text_case how, struct value *out);
/* One character of s at `at` (byte offset) in another case. */
slm_err build_case(struct vm *vm, struct builder *b, const struct str *s, size_t at,
                   enum text_case how);
enum text_class {
    CLASS_ALPHA,
    CLASS_DECIMAL,
    CLASS_DIGIT,
    CLASS_NUMERIC,
    CLASS_ALNUM,
    CLASS_SPACE,
    CLASS_ASCII
};
bool text_all(const struct str *s, enum text_class c);
bool text_cased(const struct str *s, bool upper); /* isupper, islower */
/* Offsets of what strip leaves. chars NULL: white space. */
void text_strip(const struct str *s, const struct str *chars, bool left, bool right, size_t *from,
                size_t *to);

#endif
