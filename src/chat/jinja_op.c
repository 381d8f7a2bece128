/* jinja_op.c - operators, attributes, items and slices with Python's meaning.
 *
 * Whole numbers have 64 bits; a result that needs more is an error (Python's grow for ever).
 * Source: Python 3 language reference, "Expressions"; Jinja 3.1, "Implementation of variables". */
#include <math.h>
#include <string.h>

#include "chat/jinja.h"

slm_err undefined_error(struct vm *vm, const struct value *v) {
    int n = v->u.s != NULL ? (int)(v->u.s->n < 80 ? v->u.s->n : 80) : 0;
    if (n == 0)
        return vm_type_error(vm, "an undefined value is used");
    return vm_type_error(
        vm, v->sub == MISSING_NAME ? "'%.*s' is undefined" : "there is no attribute '%.*s'", n,
        v->u.s->s);
}

/* ---- arithmetic ---- */

static slm_err overflow(struct vm *vm) {
    return vm_type_error(vm, "a whole number needs more than 64 bits");
}

static slm_err int_pow(struct vm *vm, int64_t a, int64_t b, struct value *out) {
    int64_t result = 1;
    if (b < 0) {
        if (a == 0)
            return vm_type_error(vm, "0 to a negative power");
        *out = v_float(pow((double)a, (double)b));
        return SLM_OK;
    }
    while (b > 0) {
        if ((b & 1) != 0 && __builtin_mul_overflow(result, a, &result))
            return overflow(vm);
        b >>= 1;
        if (b > 0 && __builtin_mul_overflow(a, a, &a))
            return overflow(vm);
    }
    *out = v_int(result);
    return SLM_OK;
}

static slm_err int_arith(struct vm *vm, enum op op, int64_t a, int64_t b, struct value *out) {
    int64_t r = 0;
    bool wraps = false;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return vm_type_error(vm, "division by zero");
    switch (op) {
    case OP_ADD:
        wraps = __builtin_add_overflow(a, b, &r);
        break;
    case OP_SUB:
        wraps = __builtin_sub_overflow(a, b, &r);
        break;
    case OP_MUL:
        wraps = __builtin_mul_overflow(a, b, &r);
        break;
    case OP_DIV:
        *out = v_float((double)a / (double)b);
        return SLM_OK;
    case OP_POW:
        return int_pow(vm, a, b, out);
    default: /* floor: the remainder has the sign of b */
        if (b == -1) {
            wraps = op == OP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &r);
        } else {
            int64_t q = a / b, m = a % b;
            if (m != 0 && (m < 0) != (b < 0)) {
                q--;
                m += b;
            }
            r = op == OP_MOD ? m : q;
        }
        break;
    }
    if (wraps)
        return overflow(vm);
    *out = v_int(r);
    return SLM_OK;
}

/* Python's divmod of floats: the remainder has the sign of b, the quotient is whole. */
static double float_floor(double a, double b, double *mod) {
    double m = fmod(a, b);
    double q = (a - m) / b;
    if (m != 0) {
        if ((b < 0) != (m < 0)) {
            m += b;
            q -= 1;
        }
    } else {
        m = copysign(0, b);
    }
    *mod = m;
    if (q == 0)
        return copysign(0, a / b);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1 : whole;
}

static slm_err float_arith(struct vm *vm, enum op op, double a, double b, struct value *out) {
    double mod, r = 0;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return vm_type_error(vm, "division by zero");
    switch (op) {
    case OP_ADD:
        r = a + b;
        break;
    case OP_SUB:
        r = a - b;
        break;
    case OP_MUL:
        r = a * b;
        break;
    case OP_DIV:
        r = a / b;
        break;
    case OP_POW:
        if ((a == 0 && b < 0) || (a < 0 && b != floor(b)))
            return vm_type_error(vm, "a power without a real value");
        r = pow(a, b);
        if (isinf(r) && !isinf(a) && !isinf(b))
            return vm_type_error(vm, "a power is too large");
        break;
    case OP_FLOORDIV:
        r = float_floor(a, b, &mod);
        break;
    default:
        (void)float_floor(a, b, &r);
        break;
    }
    *out = v_float(r);
    return SLM_OK;
}

static bool is_sequence(const struct value *v) {
    return v->type == V_STR || v->type == V_LIST || v->type == V_TUPLE;
}

static slm_err repeat(struct vm *vm, const struct value *v, int64_t times, struct value *out) {
    size_t n = times > 0 ? (size_t)times : 0;
    if (v->type == V_STR) {
        struct builder b = { 0 };
        if (v->u.s->n > 0)
            TRY(build_room(vm, &b, n)); /* at least a byte each time */
        for (size_t i = 0; i < n && v->u.s->n > 0; i++) {
            TRY(vm_charge(vm, 1));
            TRY(build_str(vm, &b, v->u.s));
        }
        return build_done(vm, &b, out);
    }
    struct list *l;
    size_t total;
    if (!mul_ok(n, v->u.l->n, &total))
        total = SIZE_MAX; /* refused by the memory budget */
    TRY(list_new(vm, total, &l));
    while (l->n < total) {
        memcpy(l->items + l->n, v->u.l->items, v->u.l->n * sizeof *l->items);
        l->n += v->u.l->n;
    }
    l->open = v->type == V_LIST;
    *out = v_list((enum value_type)v->type, l);
    return SLM_OK;
}

static slm_err join_lists(struct vm *vm, const struct value *a, const struct value *b,
                          struct value *out) {
    struct list *l;
    TRY(list_new(vm, a->u.l->n + b->u.l->n, &l));
    if (a->u.l->n > 0)
        memcpy(l->items, a->u.l->items, a->u.l->n * sizeof *l->items);
    if (b->u.l->n > 0)
        memcpy(l->items + a->u.l->n, b->u.l->items, b->u.l->n * sizeof *l->items);
    l->n = l->cap;
    l->open = a->type == V_LIST;
    *out = v_list((enum value_type)a->type, l);
    return SLM_OK;
}

slm_err op_arith(struct vm *vm, enum op op, const struct value *a, const struct value *b,
                 struct value *out) {
    static const char *const signs[] = { "+", "-", "*", "/", "//", "%", "**" };
    int64_t i, j;
    if (as_int(a, &i) && as_int(b, &j))
        return int_arith(vm, op, i, j, out);
    if (is_number(a) && is_number(b))
        return float_arith(vm, op, as_double(a), as_double(b), out);
    if (op == OP_ADD && a->type == V_STR && b->type == V_STR)
        return op_concat(vm, (const struct value[2]){ *a, *b }, 2, out);
    if (op == OP_ADD && a->type == b->type && (a->type == V_LIST || a->type == V_TUPLE))
        return join_lists(vm, a, b, out);
    if (op == OP_MUL && is_sequence(a) && as_int(b, &j))
        return repeat(vm, a, j, out);
    if (op == OP_MUL && is_sequence(b) && as_int(a, &i))
        return repeat(vm, b, i, out);
    if (a->type == V_UNDEF || b->type == V_UNDEF)
        return undefined_error(vm, a->type == V_UNDEF ? a : b);
    return vm_type_error(vm, "'%s' between a %s and a %s", signs[op - OP_ADD], type_name(a),
                         type_name(b));
}

slm_err op_sign(struct vm *vm, enum op op, const struct value *a, struct value *out) {
    int64_t i;
    if (a->type == V_FLOAT) {
        *out = v_float(op == OP_NEG ? -a->u.f : a->u.f);
        return SLM_OK;
    }
    if (!as_int(a, &i))
        return a->type == V_UNDEF ? undefined_error(vm, a)
                                  : vm_type_error(vm, "a sign before a %s", type_name(a));
    if (op == OP_NEG && i == INT64_MIN)
        return overflow(vm);
    *out = v_int(op == OP_NEG ? -i : i);
    return SLM_OK;
}

slm_err op_concat(struct vm *vm, const struct value *v, size_t n, struct value *out) {
    struct builder b = { 0 };
    for (size_t i = 0; i < n; i++)
        TRY(build_value(vm, &b, &v[i]));
    return build_done(vm, &b, out);
}

/* ---- comparison and membership ---- */

size_t find_bytes(const struct str *s, const struct str *needle, size_t from) {
    if (needle->n == 0)
        return from <= s->n ? from : SIZE_MAX;
    if (from > s->n || needle->n > s->n - from)
        return SIZE_MAX;
    const char *p = memmem(s->s + from, s->n - from, needle->s, needle->n);
    return p != NULL ? (size_t)(p - s->s) : SIZE_MAX;
}

/* Last occurrence inside [from, end). Compares at every place: search_cost() pays for that. */
size_t find_last(const struct str *s, const struct str *needle, size_t from, size_t end) {
    if (needle->n > end - from)
        return SIZE_MAX;
    for (size_t at = end - needle->n + 1; at > from; at--)
        if (memcmp(s->s + at - 1, needle->s, needle->n) == 0)
            return at - 1;
    return SIZE_MAX;
}

slm_err contains(struct vm *vm, const struct value *box, const struct value *v, bool *out) {
    const struct value *found;
    struct list *l;
    *out = false;
    switch (box->type) {
    case V_STR:
        if (v->type != V_STR)
            return v->type == V_UNDEF ? undefined_error(vm, v)
                                      : vm_type_error(vm, "a %s cannot be in a str", type_name(v));
        TRY(vm_charge(vm, box->u.s->n / 64));
        *out = find_bytes(box->u.s, v->u.s, 0) != SIZE_MAX;
        return SLM_OK;
    case V_DICT:
        TRY(dict_get(vm, box->u.d, v, &found));
        *out = found != NULL;
        return SLM_OK;
    default:
        TRY(iterate(vm, box, &l));
        for (size_t i = 0; i < l->n && !*out; i++) {
            TRY(vm_charge(vm, 1));
            TRY(value_equal(vm, &l->items[i], v, 0, out));
        }
        return SLM_OK;
    }
}

slm_err op_compare(struct vm *vm, enum compare c, const struct value *a, const struct value *b,
                   bool *out) {
    int order;
    bool unordered;
    if (c == CMP_IN || c == CMP_NOT_IN) {
        TRY(contains(vm, b, a, out));
        *out ^= c == CMP_NOT_IN;
        return SLM_OK;
    }
    if (c == CMP_EQ || c == CMP_NE) {
        TRY(value_equal(vm, a, b, 0, out));
        *out ^= c == CMP_NE;
        return SLM_OK;
    }
    TRY(value_order(vm, a, b, 0, &order, &unordered));
    *out = !unordered && (c == CMP_LT   ? order < 0
                          : c == CMP_LE ? order <= 0
                          : c == CMP_GT ? order > 0
                                        : order >= 0);
    return SLM_OK;
}

/* ---- attributes and items ---- */

static struct value missing(const struct str *name) {
    struct value v = { .type = V_UNDEF, .sub = MISSING_ATTR };
    v.u.s = name;
    return v;
}

static const struct native *method_of(const struct value *v, const char *name, size_t n) {
    switch (v->type) {
    case V_STR:
        return native_find(jinja_str_methods, name, n);
    case V_LIST:
    case V_TUPLE:
        return native_find(jinja_list_methods, name, n);
    case V_DICT:
        return native_find(jinja_dict_methods, name, n);
    case V_LOOP:
        return native_find(jinja_loop_methods, name, n);
    default:
        return NULL;
    }
}

static bool loop_attr(const struct loop *l, const struct str *name, struct value *out) {
    const int64_t i = (int64_t)l->i, n = (int64_t)l->n;
    if (str_is(name, "index"))
        *out = v_int(i);
    else if (str_is(name, "index0"))
        *out = v_int(i - 1);
    else if (str_is(name, "revindex"))
        *out = v_int(n - i + 1);
    else if (str_is(name, "revindex0"))
        *out = v_int(n - i);
    else if (str_is(name, "first"))
        *out = v_bool(i == 1);
    else if (str_is(name, "last"))
        *out = v_bool(i == n);
    else if (str_is(name, "length"))
        *out = v_int(n);
    else if (str_is(name, "depth"))
        *out = v_int(1);
    else if (str_is(name, "depth0"))
        *out = v_int(0);
    else if (str_is(name, "previtem") && i > 1)
        *out = l->items->items[i - 2];
    else if (str_is(name, "nextitem") && i < n)
        *out = l->items->items[i];
    else
        return false;
    return true;
}

slm_err op_attr(struct vm *vm, const struct value *v, const struct str *name, struct value *out) {
    const struct value *found = NULL;
    if (v->type == V_UNDEF)
        return undefined_error(vm, v);
    const struct native *m = method_of(v, name->s, name->n);
    *out = missing(name);
    if (m != NULL) {
        void *p;
        TRY(vm_alloc(vm, 1, sizeof(struct method), &p));
        struct method *method = p;
        *method = (struct method){ .self = *v, .native = m };
        *out = (struct value){ .type = V_METHOD };
        out->u.method = method;
        return SLM_OK;
    }
    if (v->type == V_LOOP)
        (void)loop_attr(v->u.loop, name, out);
    /* A dict's own methods hide keys of their name, also those that are refused. */
    else if (v->type == V_NS || (v->type == V_DICT && !method_refused(name->s, name->n)))
        found = dict_word(v->u.d, name->s, name->n);
    else if (v->type == V_MACRO && str_is(name, "name")) {
        *out = (struct value){ .type = V_STR };
        out->u.s = vm->t->words[v->u.macro->def->name].str;
    }
    if (found != NULL)
        *out = *found;
    return SLM_OK;
}

slm_err length_of(struct vm *vm, const struct value *v, size_t *out) {
    switch (v->type) {
    case V_STR:
        *out = v->u.s->chars;
        return SLM_OK;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        *out = v->u.l->n;
        return SLM_OK;
    case V_RANGE:
        *out = v->u.r->n;
        return SLM_OK;
    case V_DICT:
        *out = v->u.d->n;
        return SLM_OK;
    case V_LOOP:
        *out = v->u.loop->n;
        return SLM_OK;
    case V_UNDEF:
        *out = 0;
        return SLM_OK;
    default:
        return vm_type_error(vm, "a %s has no length", type_name(v));
    }
}

/* Element i of a str, list, tuple or range; i is inside. */
static slm_err element(struct vm *vm, const struct value *v, size_t i, struct value *out) {
    if (v->type == V_RANGE) {
        *out = v_int(v->u.r->start + (int64_t)i * v->u.r->step);
        return SLM_OK;
    }
    if (v->type != V_STR) {
        *out = v->u.l->items[i];
        return SLM_OK;
    }
    const struct str *s = v->u.s;
    TRY(vm_charge(vm, s->chars == s->n ? 0 : s->n / 64));
    size_t at = str_offset(s, i), len;
    cp_at(s->s + at, s->n - at, &len);
    return str_part(vm, s, at, len, out);
}

slm_err op_item(struct vm *vm, const struct value *v, const struct value *key, struct value *out) {
    const struct value *found;
    int64_t i;
    size_t n;
    if (v->type == V_UNDEF)
        return undefined_error(vm, v);
    *out = missing(key->type == V_STR ? key->u.s : NULL);
    if (v->type == V_DICT && key->type != V_LIST && key->type != V_DICT) {
        TRY(dict_get(vm, v->u.d, key, &found));
        if (found != NULL) {
            *out = *found;
            return SLM_OK;
        }
    } else if ((is_sequence(v) || v->type == V_RANGE) && as_int(key, &i)) {
        TRY(length_of(vm, v, &n));
        if (i < 0)
            i += (int64_t)n;
        return i >= 0 && (size_t)i < n ? element(vm, v, (size_t)i, out) : SLM_OK;
    }
    return key->type == V_STR ? op_attr(vm, v, key->u.s, out) : SLM_OK;
}

/* ---- slices ---- */

static slm_err slice_bound(struct vm *vm, const struct value *v, int64_t n, int64_t fallback,
                           int64_t low, int64_t high, int64_t *out) {
    *out = fallback;
    if (v->type == V_NONE)
        return SLM_OK;
    if (!as_int(v, out))
        return v->type == V_UNDEF ? undefined_error(vm, v)
                                  : vm_type_error(vm, "a slice with a %s", type_name(v));
    if (*out < 0)
        *out += n;
    *out = *out < low ? low : *out > high ? high : *out;
    return SLM_OK;
}

static slm_err slice_str(struct vm *vm, const struct str *s, int64_t start, int64_t step,
                         size_t count, struct value *out) {
    TRY(vm_charge(vm, s->n / 16));
    if (step == 1) {
        size_t from = str_offset(s, (size_t)start);
        struct str rest = { .s = s->s + from, .n = s->n - from, .chars = s->chars - (size_t)start };
        return str_part(vm, s, from, str_offset(&rest, count), out);
    }
    void *p; /* byte offset of every character, and the end */
    TRY(vm_alloc(vm, s->chars + 1, sizeof(size_t), &p));
    size_t *at = p, c = 0;
    for (size_t i = 0, len; i < s->n; i += len) {
        at[c++] = i;
        cp_at(s->s + i, s->n - i, &len);
    }
    at[c] = s->n;
    struct builder b = { 0 };
    for (size_t k = 0; k < count; k++) {
        size_t i = (size_t)(start + (int64_t)k * step);
        TRY(build_part(vm, &b, s, at[i], at[i + 1] - at[i]));
    }
    return build_done(vm, &b, out);
}

/* A part of a range is a range; start and stop are as Python writes them. The numbers are small:
 * positions are at most RANGE_MAX, and a longer step than the range takes one element. */
static slm_err slice_range(struct vm *vm, const struct range *r, int64_t from, int64_t to,
                           int64_t by, size_t count, struct value *out) {
    void *p;
    int64_t start, stop, step;
    TRY(vm_alloc(vm, 1, sizeof(struct range), &p));
    if (__builtin_mul_overflow(from, r->step, &start) ||
        __builtin_add_overflow(start, r->start, &start) ||
        __builtin_mul_overflow(to, r->step, &stop) ||
        __builtin_add_overflow(stop, r->start, &stop) || __builtin_mul_overflow(by, r->step, &step))
        return overflow(vm);
    struct range *part = p;
    *part = (struct range){ .start = start, .stop = stop, .step = step, .n = count };
    *out = (struct value){ .type = V_RANGE };
    out->u.r = part;
    return SLM_OK;
}

slm_err op_slice(struct vm *vm, const struct value *v, const struct value *start,
                 const struct value *stop, const struct value *step, struct value *out) {
    size_t length, count;
    int64_t by = 1, from, to;
    if (v->type == V_UNDEF)
        return undefined_error(vm, v);
    if (!is_sequence(v) && v->type != V_RANGE)
        return vm_type_error(vm, "a slice of a %s", type_name(v));
    TRY(length_of(vm, v, &length));
    if (step->type != V_NONE && (!as_int(step, &by) || by == 0))
        return vm_type_error(vm, "a slice with a step that is %s",
                             by == 0 ? "0" : "no whole number");
    if (by < -INT64_MAX / 2 || by > INT64_MAX / 2)
        by = by < 0 ? -INT64_MAX / 2 : INT64_MAX / 2;
    int64_t n = (int64_t)length, low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
    TRY(slice_bound(vm, start, n, by > 0 ? low : high, low, high, &from));
    TRY(slice_bound(vm, stop, n, by > 0 ? high : low, low, high, &to));
    count = by > 0 ? (from < to ? (size_t)((to - from - 1) / by) + 1 : 0)
                   : (to < from ? (size_t)((from - to - 1) / -by) + 1 : 0);
    if (v->type == V_STR)
        return slice_str(vm, v->u.s, count > 0 ? from : 0, count > 0 ? by : 1, count, out);
    if (v->type == V_RANGE)
        return slice_range(vm, v->u.r, from, to, by, count, out);
    struct list *l;
    TRY(list_new(vm, count, &l));
    for (; l->n < count; l->n++)
        TRY(element(vm, v, (size_t)(from + (int64_t)l->n * by), &l->items[l->n]));
    l->open = true;
    *out = v_list(v->type == V_TUPLE ? V_TUPLE : V_LIST, l);
    return SLM_OK;
}

/* ---- attribute paths of filters ---- */

slm_err attr_path(struct vm *vm, const struct value *v, const struct value *path,
                  const struct value *fallback, struct value *out) {
    *out = *v;
    if (path == NULL || path->type == V_NONE)
        return SLM_OK;
    if (path->type != V_STR)
        return op_item(vm, v, path, out);
    const struct str *s = path->u.s;
    for (size_t from = 0; from <= s->n;) {
        size_t end = from;
        int64_t number = 0;
        bool digits = true;
        for (; end < s->n && s->s[end] != '.'; end++) {
            digits = digits && s->s[end] >= '0' && s->s[end] <= '9' && end - from < 18;
            number = digits ? number * 10 + (s->s[end] - '0') : 0;
        }
        struct value part, item;
        TRY(str_part(vm, s, from, end - from, &part));
        if (digits && end > from)
            part = v_int(number);
        TRY(op_item(vm, out, &part, &item));
        if (item.type == V_UNDEF && fallback != NULL)
            item = *fallback;
        *out = item;
        from = end + 1;
    }
    return SLM_OK;
}
