/* jinja_filter.c - filters over single values, and the tests of "is".
 *
 * tojson is Hugging Face's: json.dumps without sorting, without HTML escapes, characters beyond
 * ASCII as they are.
 * Source: Jinja 3.1 documentation, "List of Builtin Filters" and "List of Builtin Tests"; the
 * chat templating pages of Hugging Face transformers; Python 3 documentation, int() and float(). */
#include <math.h>
#include <string.h>

#include "chat/jinja.h"

/* ---- text ---- */

/* A filter that is a method of str, applied to str(value). */
static slm_err as_method(struct vm *vm, const char *name, const struct value *self,
                         const struct call *c, size_t n_args, struct value *out) {
    struct value text = { .type = V_STR };
    struct value args[NATIVE_ARGS_MAX];
    TRY(to_str(vm, self, &text.u.s));
    for (size_t i = 0; i < n_args; i++)
        args[i] = c->arg[i] != NULL ? *c->arg[i] : v_none();
    return native_call(vm, native_find(jinja_str_methods, name, strlen(name)), &text, args, n_args,
                       NULL, 0, out);
}

static slm_err f_string(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    (void)c;
    *out = (struct value){ .type = V_STR };
    return to_str(vm, self, &out->u.s);
}

static slm_err f_trim(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    return as_method(vm, "strip", self, c, 1, out);
}
static slm_err f_upper(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return as_method(vm, "upper", self, c, 0, out);
}
static slm_err f_lower(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return as_method(vm, "lower", self, c, 0, out);
}
static slm_err f_capitalize(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    return as_method(vm, "capitalize", self, c, 0, out);
}

static slm_err f_replace(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out) {
    struct value text = { .type = V_STR }, args[3];
    TRY(to_str(vm, self, &text.u.s));
    for (unsigned i = 0; i < 2; i++) {
        args[i] = (struct value){ .type = V_STR };
        TRY(to_str(vm, c->arg[i], &args[i].u.s));
    }
    args[2] = c->arg[2] != NULL ? *c->arg[2] : v_none();
    return native_call(vm, native_find(jinja_str_methods, "replace", 7), &text, args, 3, NULL, 0,
                       out);
}

/* Jinja's own title: a word begins after white space, '-' or an opening bracket. */
static slm_err f_title(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    const struct str *s;
    struct builder b = { 0 };
    bool inside = false;
    (void)c;
    TRY(to_str(vm, self, &s));
    TRY(vm_charge(vm, s->n / 8));
    for (size_t at = 0, len; at < s->n; at += len) {
        uint32_t cp = cp_at(s->s + at, s->n - at, &len);
        bool between = cp_space(cp) || (cp < 0x80 && cp != 0 && strchr("-({[<", (int)cp) != NULL);
        TRY(build_case(vm, &b, s, at, inside ? CASE_LOWER : CASE_UPPER));
        inside = !between;
    }
    return build_done(vm, &b, out);
}

static slm_err f_indent(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    struct value space, text, lines;
    bool first = arg_bool(c, 1, false), blank = arg_bool(c, 2, false);
    const struct value newline = { .type = V_STR, .u.s = &(const struct str){ "\n", 1, 1, NULL } };
    if (c->arg[0] != NULL && c->arg[0]->type == V_STR) {
        space = *c->arg[0];
    } else {
        int64_t width;
        TRY(arg_int(vm, c, 0, 4, &width));
        TRY(str_copy(vm, " ", 1, &space));
        const struct value times = v_int(width);
        TRY(op_arith(vm, OP_MUL, &space, &times, &space));
    }
    TRY(op_arith(vm, OP_ADD, self, &newline, &text));
    TRY(native_call(vm, native_find(jinja_str_methods, "splitlines", 10), &text, NULL, 0, NULL, 0,
                    &lines));
    struct builder b = { 0 };
    const struct list *l = lines.u.l;
    if (first)
        TRY(build_str(vm, &b, space.u.s));
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            TRY(build_puts(vm, &b, "\n"));
        if (i > 0 && (blank || l->items[i].u.s->n > 0))
            TRY(build_str(vm, &b, space.u.s));
        TRY(build_str(vm, &b, l->items[i].u.s));
    }
    return build_done(vm, &b, out);
}

static slm_err f_safe(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    return f_string(vm, self, c, out);
}

static slm_err f_escape(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    static const char from[] = "&<>'\"";
    const struct str *s;
    struct builder b = { 0 };
    size_t run = 0;
    (void)c;
    TRY(to_str(vm, self, &s));
    for (size_t i = 0; i < s->n; i++) {
        const char *hit = s->s[i] != '\0' ? strchr(from, s->s[i]) : NULL;
        if (hit == NULL)
            continue;
        TRY(build_part(vm, &b, s, run, i - run));
        TRY(build_put(vm, &b, to[hit - from], strlen(to[hit - from]), str_tainted(s, i)));
        run = i + 1;
    }
    TRY(build_part(vm, &b, s, run, s->n - run));
    return build_done(vm, &b, out);
}

static slm_err json_indent(struct vm *vm, const struct value *v, const struct str **out) {
    struct value space;
    int64_t width;
    if (v->type == V_STR) {
        *out = v->u.s;
        return SLM_OK;
    }
    if (!as_int(v, &width))
        return vm_type_error(vm, "tojson: indent is a %s", type_name(v));
    TRY(str_copy(vm, " ", 1, &space));
    const struct value times = v_int(width);
    TRY(op_arith(vm, OP_MUL, &space, &times, &space));
    *out = space.u.s;
    return SLM_OK;
}

static slm_err f_tojson(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    static const struct str comma = { ",", 1, 1, NULL }, comma_space = { ", ", 2, 2, NULL },
                            colon = { ": ", 2, 2, NULL };
    struct json_style style = { .ascii = arg_bool(c, 0, false),
                                .sorted = arg_bool(c, 3, false),
                                .key_separator = &colon };
    if (arg_given(c, 1))
        TRY(json_indent(vm, c->arg[1], &style.indent));
    style.item_separator = style.indent != NULL ? &comma : &comma_space;
    if (arg_given(c, 2)) {
        const struct value *s = c->arg[2];
        if ((s->type != V_TUPLE && s->type != V_LIST) || s->u.l->n != 2 ||
            s->u.l->items[0].type != V_STR || s->u.l->items[1].type != V_STR)
            return vm_type_error(vm, "tojson: separators must be two texts");
        style.item_separator = s->u.l->items[0].u.s;
        style.key_separator = s->u.l->items[1].u.s;
    }
    struct builder b = { 0 };
    TRY(build_json(vm, &b, self, &style, 0));
    return build_done_whole(vm, &b, out);
}

static slm_err f_default(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out) {
    bool replace = self->type == V_UNDEF || (arg_bool(c, 1, false) && !truth(self));
    if (!replace)
        *out = *self;
    else if (c->arg[0] != NULL)
        *out = *c->arg[0];
    else
        return str_copy(vm, "", 0, out);
    return SLM_OK;
}

/* ---- numbers ---- */

static unsigned digit_value(char c) {
    return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
           : c >= 'a' && c <= 'z' ? (unsigned)(c - 'a') + 10
           : c >= 'A' && c <= 'Z' ? (unsigned)(c - 'A') + 10
                                  : 99;
}

/* int(text, base): false when the text is no such number; *wraps when it needs over 64 bits. */
static bool int_text(const struct str *s, unsigned base, int64_t *out, bool *wraps) {
    size_t at, to;
    text_strip(s, NULL, true, true, &at, &to);
    bool minus = at < to && s->s[at] == '-', digit = false;
    *wraps = false;
    at += at < to && (s->s[at] == '-' || s->s[at] == '+');
    if (to - at > 2 && s->s[at] == '0') {
        char kind = (char)(s->s[at + 1] | 0x20);
        unsigned named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        if (named != 0 && (base == named || base == 0)) {
            base = named;
            at += 2;
            at += s->s[at] == '_';
        }
    }
    base = base == 0 ? 10 : base;
    *out = 0;
    for (; at < to; at++) {
        if (s->s[at] == '_' && digit) {
            digit = false;
            continue;
        }
        unsigned d = digit_value(s->s[at]);
        if (d >= base)
            return false;
        digit = true;
        if (__builtin_mul_overflow(*out, (int64_t)base, out) ||
            __builtin_add_overflow(*out, minus ? -(int64_t)d : (int64_t)d, out))
            *wraps = true;
    }
    return digit;
}

/* float(text) */
static bool float_from(const struct str *s, double *out) {
    size_t at, to;
    text_strip(s, NULL, true, true, &at, &to);
    bool minus = at < to && s->s[at] == '-', digit = false;
    at += at < to && (s->s[at] == '-' || s->s[at] == '+');
    char word[9] = { 0 };
    for (size_t i = 0; i < to - at && i < 8; i++)
        word[i] = (char)(s->s[at + i] | 0x20);
    if (strcmp(word, "inf") == 0 || (strcmp(word, "infinity") == 0 && to - at == 8)) {
        *out = minus ? -INFINITY : INFINITY;
        return true;
    }
    if (strcmp(word, "nan") == 0) {
        *out = NAN;
        return true;
    }
    for (size_t i = at; i < to; i++) {
        bool is = s->s[i] >= '0' && s->s[i] <= '9';
        if (s->s[i] == '_' && !(digit && i + 1 < to && s->s[i + 1] >= '0' && s->s[i + 1] <= '9'))
            return false;
        digit = is;
    }
    if (at == to || s->s[at] == '-' || s->s[at] == '+' || !parse_double(s->s + at, to - at, out))
        return false;
    *out = minus ? -*out : *out;
    return true;
}

static slm_err float_to_int(struct vm *vm, double f, struct value *out) {
    if (!(f > -9223372036854775809.0 && f < 9223372036854775808.0))
        return vm_type_error(vm, "a number that does not fit a whole number of 64 bits");
    *out = v_int((int64_t)f);
    return SLM_OK;
}

static slm_err f_int(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    int64_t i, base;
    double f = NAN;
    bool wraps;
    TRY(arg_int(vm, c, 1, 10, &base));
    bool good_base = base == 0 || (base >= 2 && base <= 36);
    if (as_int(self, &i)) {
        *out = v_int(i);
        return SLM_OK;
    }
    if (self->type == V_UNDEF)
        return undefined_error(vm, self);
    if (self->type == V_STR) {
        TRY(vm_charge(vm, self->u.s->n / 16));
        if (good_base && int_text(self->u.s, (unsigned)base, &i, &wraps)) {
            if (wraps)
                return vm_type_error(vm, "a whole number needs more than 64 bits");
            *out = v_int(i);
            return SLM_OK;
        }
        if (!float_from(self->u.s, &f))
            f = NAN;
    } else if (self->type == V_FLOAT) {
        f = self->u.f;
    }
    if (!isnan(f))
        return float_to_int(vm, f, out);
    *out = c->arg[0] != NULL ? *c->arg[0] : v_int(0);
    return SLM_OK;
}

static slm_err f_float(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    double f;
    *out = c->arg[0] != NULL ? *c->arg[0] : v_float(0);
    if (self->type == V_UNDEF)
        return undefined_error(vm, self);
    if (is_number(self))
        *out = v_float(as_double(self));
    else if (self->type == V_STR && float_from(self->u.s, &f))
        *out = v_float(f);
    return SLM_OK;
}

static slm_err f_abs(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    (void)c;
    if (self->type == V_FLOAT) {
        *out = v_float(fabs(self->u.f));
        return SLM_OK;
    }
    int64_t i = 0;
    return op_sign(vm, as_int(self, &i) && i < 0 ? OP_NEG : OP_POS, self, out);
}

/* Whole number to a multiple of 10^digits, ties to even. */
static slm_err round_int(struct vm *vm, int64_t i, int64_t digits, struct value *out) {
    int64_t unit = 1;
    *out = v_int(digits > 18 ? 0 : i);
    if (digits <= 0 || digits > 18)
        return SLM_OK;
    for (; digits > 0; digits--)
        unit *= 10;
    int64_t low = i % unit;
    low = low < 0 ? low + unit : low;
    if (__builtin_sub_overflow(i, low, &i))
        return vm_type_error(vm, "a whole number needs more than 64 bits");
    bool up = low > unit - low || (low == unit - low && (i / unit) % 2 != 0);
    if (up && __builtin_add_overflow(i, unit, &i))
        return vm_type_error(vm, "a whole number needs more than 64 bits");
    *out = v_int(i);
    return SLM_OK;
}

static slm_err f_round(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    const struct str *method;
    int64_t digits, i;
    TRY(arg_int(vm, c, 0, 0, &digits));
    TRY(arg_str(vm, c, 1, &method));
    bool common = method == NULL || str_is(method, "common");
    if (!common && !str_is(method, "ceil") && !str_is(method, "floor"))
        return vm_type_error(vm, "round: the method is common, ceil or floor");
    if (!is_number(self))
        return self->type == V_UNDEF ? undefined_error(vm, self)
                                     : vm_type_error(vm, "round of a %s", type_name(self));
    digits = digits > 400 ? 400 : digits < -400 ? -400 : digits;
    if (common && as_int(self, &i))
        return round_int(vm, i, -digits, out);
    if (common) {
        *out = v_float(round_decimal(self->u.f, (int)digits));
        return SLM_OK;
    }
    double unit = pow(10, (double)digits), scaled = as_double(self) * unit;
    *out = v_float((str_is(method, "ceil") ? ceil(scaled) : floor(scaled)) / unit);
    return SLM_OK;
}

const struct native jinja_filters[] = {
    { "string", "", f_string, 0 },
    { "trim", "chars", f_trim, 0 },
    { "upper", "", f_upper, 0 },
    { "lower", "", f_lower, 0 },
    { "capitalize", "", f_capitalize, 0 },
    { "title", "", f_title, 0 },
    { "replace", "old,new,count", f_replace, 2 },
    { "indent", "width,first,blank", f_indent, 0 },
    { "safe", "", f_safe, 0 },
    { "escape", "", f_escape, 0 },
    { "e", "", f_escape, 0 },
    { "tojson", "ensure_ascii,indent,separators,sort_keys", f_tojson, 0 },
    { "default", "default_value,boolean", f_default, 0 },
    { "d", "default_value,boolean", f_default, 0 },
    { "int", "default,base", f_int, 0 },
    { "float", "default", f_float, 0 },
    { "abs", "", f_abs, 0 },
    { "round", "precision,method", f_round, 0 },
    { NULL, NULL, NULL, 0 },
};

/* ---- tests ---- */

#define TEST(name, condition)                                                                      \
    static slm_err t_##name(struct vm *vm, const struct value *self, const struct call *c,         \
                            struct value *out) {                                                   \
        (void)vm;                                                                                  \
        (void)self;                                                                                \
        (void)c;                                                                                   \
        *out = v_bool(condition);                                                                  \
        return SLM_OK;                                                                             \
    }
TEST(defined, self->type != V_UNDEF)
TEST(undefined, self->type == V_UNDEF)
TEST(none, self->type == V_NONE)
TEST(boolean, self->type == V_BOOL)
TEST(true, self->type == V_BOOL && self->u.b)
TEST(false, self->type == V_BOOL && !self->u.b)
TEST(integer, self->type == V_INT)
TEST(float, self->type == V_FLOAT)
TEST(number, is_number(self))
TEST(string, self->type == V_STR)
TEST(mapping, self->type == V_DICT)
TEST(sequence, self->type == V_STR || self->type == V_LIST || self->type == V_TUPLE ||
                   self->type == V_DICT || self->type == V_RANGE || self->type == V_UNDEF)
TEST(iterable, self->type == V_STR || self->type == V_LIST || self->type == V_TUPLE ||
                   self->type == V_DICT || self->type == V_RANGE || self->type == V_UNDEF ||
                   self->type == V_VIEW || self->type == V_GEN || self->type == V_LOOP)
TEST(callable, self->type == V_MACRO || self->type == V_NATIVE || self->type == V_METHOD ||
                   self->type == V_UNDEF || self->type == V_LOOP)
TEST(escaped, false)
TEST(filter, self->type == V_STR && filter_find(self->u.s->s, self->u.s->n) != NULL)
TEST(test, self->type == V_STR && test_find(self->u.s->s, self->u.s->n) != NULL)

static slm_err remainder_is(struct vm *vm, const struct value *self, const struct value *by,
                            int64_t want, struct value *out) {
    const struct value wanted = v_int(want);
    struct value rest;
    bool same;
    TRY(op_arith(vm, OP_MOD, self, by, &rest));
    TRY(value_equal(vm, &rest, &wanted, 0, &same));
    *out = v_bool(same);
    return SLM_OK;
}
static slm_err t_odd(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    const struct value two = v_int(2);
    (void)c;
    return remainder_is(vm, self, &two, 1, out);
}
static slm_err t_even(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    const struct value two = v_int(2);
    (void)c;
    return remainder_is(vm, self, &two, 0, out);
}
static slm_err t_divisibleby(struct vm *vm, const struct value *self, const struct call *c,
                             struct value *out) {
    return remainder_is(vm, self, c->arg[0], 0, out);
}

static slm_err cased(struct vm *vm, const struct value *self, bool upper, struct value *out) {
    const struct str *s;
    TRY(to_str(vm, self, &s));
    *out = v_bool(text_cased(s, upper));
    return SLM_OK;
}
static slm_err t_lower(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    (void)c;
    return cased(vm, self, false, out);
}
static slm_err t_upper(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    (void)c;
    return cased(vm, self, true, out);
}

/* The same object: for values without identity here, the same type and value. */
static slm_err t_sameas(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    const struct value *other = c->arg[0];
    bool same = self->type == other->type;
    if (same && (is_number(self) || self->type == V_STR))
        TRY(value_equal(vm, self, other, 0, &same));
    else if (same && self->type != V_NONE)
        same = self->u.l == other->u.l;
    *out = v_bool(same);
    return SLM_OK;
}

#define COMPARE_TEST(name, how)                                                                    \
    static slm_err t_##name(struct vm *vm, const struct value *self, const struct call *c,         \
                            struct value *out) {                                                   \
        bool result;                                                                               \
        TRY(op_compare(vm, how, self, c->arg[0], &result));                                        \
        *out = v_bool(result);                                                                     \
        return SLM_OK;                                                                             \
    }
COMPARE_TEST(eq, CMP_EQ)
COMPARE_TEST(ne, CMP_NE)
COMPARE_TEST(lt, CMP_LT)
COMPARE_TEST(le, CMP_LE)
COMPARE_TEST(gt, CMP_GT)
COMPARE_TEST(ge, CMP_GE)
COMPARE_TEST(in, CMP_IN)

const struct native jinja_tests[] = {
    { "defined", "", t_defined, 0 },
    { "undefined", "", t_undefined, 0 },
    { "none", "", t_none, 0 },
    { "boolean", "", t_boolean, 0 },
    { "true", "", t_true, 0 },
    { "false", "", t_false, 0 },
    { "integer", "", t_integer, 0 },
    { "float", "", t_float, 0 },
    { "number", "", t_number, 0 },
    { "string", "", t_string, 0 },
    { "mapping", "", t_mapping, 0 },
    { "sequence", "", t_sequence, 0 },
    { "iterable", "", t_iterable, 0 },
    { "callable", "", t_callable, 0 },
    { "escaped", "", t_escaped, 0 },
    { "filter", "", t_filter, 0 },
    { "test", "", t_test, 0 },
    { "odd", "", t_odd, 0 },
    { "even", "", t_even, 0 },
    { "divisibleby", "num", t_divisibleby, 1 },
    { "lower", "", t_lower, 0 },
    { "upper", "", t_upper, 0 },
    { "sameas", "other", t_sameas, 1 },
    { "eq", "other", t_eq, 1 },
    { "equalto", "other", t_eq, 1 },
    { "==", "other", t_eq, 1 },
    { "ne", "other", t_ne, 1 },
    { "!=", "other", t_ne, 1 },
    { "lt", "other", t_lt, 1 },
    { "lessthan", "other", t_lt, 1 },
    { "<", "other", t_lt, 1 },
    { "le", "other", t_le, 1 },
    { "<=", "other", t_le, 1 },
    { "gt", "other", t_gt, 1 },
    { "greaterthan", "other", t_gt, 1 },
    { ">", "other", t_gt, 1 },
    { "ge", "other", t_ge, 1 },
    { ">=", "other", t_ge, 1 },
    { "in", "seq", t_in, 1 },
    { NULL, NULL, NULL, 0 },
};
