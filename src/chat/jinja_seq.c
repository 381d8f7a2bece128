/* jinja_seq.c - filters over sequences.
 *
 * What Jinja computes lazily (map, select, unique ...) is computed at once here and kept as a
 * value that can be walked once, as a generator can.
 * Source: Jinja 3.1 documentation, "List of Builtin Filters". */
#include <string.h>

#include "chat/jinja.h"

static slm_err gen_new(struct vm *vm, struct list **l, struct value *out) {
    TRY(list_new(vm, 0, l));
    *out = v_list(V_GEN, *l);
    return SLM_OK;
}

static slm_err f_length(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    size_t n;
    (void)c;
    TRY(length_of(vm, self, &n));
    *out = v_int((int64_t)n);
    return SLM_OK;
}

static slm_err f_join(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    struct list *l;
    struct builder b = { 0 };
    struct value v;
    TRY(iterate(vm, self, &l));
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0 && c->arg[0] != NULL)
            TRY(build_value(vm, &b, c->arg[0]));
        TRY(attr_path(vm, &l->items[i], c->arg[1], NULL, &v));
        TRY(build_value(vm, &b, &v));
    }
    return build_done(vm, &b, out);
}

static slm_err f_first(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    struct list *l;
    (void)c;
    *out = v_undef();
    if (self->type == V_GEN) { /* takes one and leaves the rest */
        l = self->u.l;
        if (l->walked < l->n)
            *out = l->items[l->walked++];
        return SLM_OK;
    }
    TRY(iterate(vm, self, &l));
    if (l->n > 0)
        *out = l->items[0];
    return SLM_OK;
}

static slm_err f_last(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    struct list *l;
    (void)c;
    if (self->type == V_GEN)
        return vm_type_error(vm, "a generator has no last item; use |list first");
    TRY(iterate(vm, self, &l));
    *out = l->n > 0 ? l->items[l->n - 1] : v_undef();
    return SLM_OK;
}

static slm_err copy_list(struct vm *vm, const struct value *v, struct list **out) {
    struct list *from;
    TRY(iterate(vm, v, &from));
    TRY(list_new(vm, from->n, out));
    if (from->n > 0)
        memcpy((*out)->items, from->items, from->n * sizeof *from->items);
    (*out)->n = from->n;
    (*out)->open = true;
    return SLM_OK;
}

static slm_err f_list(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    struct list *l;
    (void)c;
    TRY(copy_list(vm, self, &l));
    *out = v_list(V_LIST, l);
    return SLM_OK;
}

static slm_err f_reverse(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out) {
    struct list *l;
    (void)c;
    if (self->type == V_STR) {
        const struct value none = v_none(), back = v_int(-1);
        return op_slice(vm, self, &none, &none, &back, out);
    }
    TRY(copy_list(vm, self, &l));
    for (size_t i = 0; i < l->n / 2; i++) {
        struct value v = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = v;
    }
    *out = v_list(self->type == V_GEN ? V_LIST : V_GEN, l);
    return SLM_OK;
}

/* ---- map, select, reject ---- */

/* Nothing comes of a false value, whatever its type. */
static slm_err iterate_true(struct vm *vm, const struct value *v, struct list **out) {
    return truth(v) ? iterate(vm, v, out) : list_new(vm, 0, out);
}

static const struct value *named(const struct call *c, const char *name) {
    for (size_t i = 0; i < c->n_kw; i++)
        if (str_is(c->kw[2 * i].u.s, name))
            return &c->kw[2 * i + 1];
    return NULL;
}

static slm_err native_named(struct vm *vm, const struct value *name, bool filter,
                            const struct native **out) {
    const char *kind = filter ? "filter" : "test";
    if (name->type != V_STR)
        return vm_type_error(vm, "the name of a %s is a %s", kind, type_name(name));
    const struct str *s = name->u.s;
    *out = filter ? filter_find(s->s, s->n) : test_find(s->s, s->n);
    if (*out == NULL)
        return vm_type_error(vm, "unknown %s '%.*s'", kind, (int)(s->n < 60 ? s->n : 60), s->s);
    return SLM_OK;
}

/* map('filter', arguments ...) or map(attribute='a.b', default=x) */
static slm_err f_map(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    const struct value *path = named(c, "attribute"), *fallback = named(c, "default");
    const struct native *f = NULL;
    struct list *from, *to;
    struct value v;
    if (c->n_pos > 0)
        TRY(native_named(vm, &c->pos[0], true, &f));
    else if (path == NULL || c->n_kw != 1 + (size_t)(fallback != NULL))
        return vm_type_error(vm, "map needs a filter's name or attribute=");
    if (fallback != NULL && fallback->type == V_NONE)
        fallback = NULL;
    TRY(gen_new(vm, &to, out));
    TRY(iterate_true(vm, self, &from));
    for (size_t i = 0; i < from->n; i++) {
        TRY(vm_charge(vm, 1));
        if (f == NULL)
            TRY(attr_path(vm, &from->items[i], path, fallback, &v));
        else
            TRY(native_call(vm, f, &from->items[i], c->pos + 1, c->n_pos - 1, c->kw, c->n_kw, &v));
        TRY(list_add(vm, to, &v));
    }
    return SLM_OK;
}

/* Keeps the items (or those whose attribute, the first argument) for which a test gives `want`.
 * Without a test, the value's truth counts. */
static slm_err choose(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out, bool want, bool by_attr) {
    const struct native *test = NULL;
    const size_t first = by_attr ? 1 : 0;
    struct list *from, *to;
    struct value v, result;
    if (c->n_pos > first)
        TRY(native_named(vm, &c->pos[first], false, &test));
    TRY(gen_new(vm, &to, out));
    TRY(iterate_true(vm, self, &from));
    for (size_t i = 0; i < from->n; i++) {
        TRY(vm_charge(vm, 1));
        TRY(attr_path(vm, &from->items[i], by_attr ? &c->pos[0] : NULL, NULL, &v));
        result = v;
        if (test != NULL)
            TRY(native_call(vm, test, &v, c->pos + first + 1, c->n_pos - first - 1, c->kw, c->n_kw,
                            &result));
        if (truth(&result) == want)
            TRY(list_add(vm, to, &from->items[i]));
    }
    return SLM_OK;
}
static slm_err f_select(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return choose(vm, self, c, out, true, false);
}
static slm_err f_reject(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return choose(vm, self, c, out, false, false);
}
static slm_err f_selectattr(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    return choose(vm, self, c, out, true, true);
}
static slm_err f_rejectattr(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    return choose(vm, self, c, out, false, true);
}

/* ---- sort and what depends on order ---- */

/* What an item is compared by: its attribute, in lower case when case does not count. */
static slm_err key_of(struct vm *vm, const struct value *item, const struct value *path,
                      bool exact_case, struct value *out) {
    TRY(attr_path(vm, item, path, NULL, out));
    return out->type == V_STR && !exact_case ? text_case(vm, out->u.s, CASE_LOWER, out) : SLM_OK;
}

/* As key_of for "a,b": a list of keys. */
static slm_err keys_of(struct vm *vm, const struct value *item, const struct value *paths,
                       bool exact_case, struct value *out) {
    struct list *l;
    struct value part, key;
    if (paths == NULL || paths->type != V_STR)
        return key_of(vm, item, paths, exact_case, out);
    const struct str *s = paths->u.s;
    TRY(list_new(vm, 1, &l));
    for (size_t from = 0; from <= s->n;) {
        size_t end = from;
        while (end < s->n && s->s[end] != ',')
            end++;
        TRY(str_part(vm, s, from, end - from, &part));
        TRY(key_of(vm, item, &part, exact_case, &key));
        TRY(list_add(vm, l, &key));
        from = end + 1;
    }
    *out = v_list(V_LIST, l);
    return SLM_OK;
}

struct keyed {
    struct value key, item;
};

/* Merges [from, mid) and [mid, to) of a into b. Stable; descending keeps equal items in order. */
static slm_err merge(struct vm *vm, const struct keyed *a, struct keyed *b, size_t from, size_t mid,
                     size_t to, bool down) {
    size_t i = from, j = mid;
    for (size_t k = from; k < to; k++) {
        int order = 0;
        bool unordered;
        if (i < mid && j < to)
            TRY(value_order(vm, &a[i].key, &a[j].key, 0, &order, &unordered));
        bool left = j >= to || (i < mid && (down ? order >= 0 : order <= 0));
        b[k] = left ? a[i++] : a[j++];
        TRY(vm_charge(vm, 1));
    }
    return SLM_OK;
}

/* Sorts items [n] by keys [n] in place: merge sort from below, without recursion. */
static slm_err sort(struct vm *vm, struct value *items, const struct value *keys, size_t n,
                    bool down) {
    void *p, *q;
    TRY(vm_alloc(vm, n, sizeof(struct keyed), &p));
    TRY(vm_alloc(vm, n, sizeof(struct keyed), &q));
    struct keyed *a = p, *b = q;
    for (size_t i = 0; i < n; i++)
        a[i] = (struct keyed){ .key = keys[i], .item = items[i] };
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t mid = from + width < n ? from + width : n;
            size_t to = mid + width < n ? mid + width : n;
            TRY(merge(vm, a, b, from, mid, to, down));
        }
        struct keyed *swap = a;
        a = b;
        b = swap;
    }
    for (size_t i = 0; i < n; i++)
        items[i] = a[i].item;
    return SLM_OK;
}

static slm_err f_sort(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    struct list *l, *keys;
    TRY(copy_list(vm, self, &l));
    TRY(list_new(vm, l->n, &keys));
    for (; keys->n < l->n; keys->n++)
        TRY(keys_of(vm, &l->items[keys->n], c->arg[2], arg_bool(c, 1, false),
                    &keys->items[keys->n]));
    *out = v_list(V_LIST, l);
    return sort(vm, l->items, keys->items, l->n, arg_bool(c, 0, false));
}

static slm_err pairs_of(struct vm *vm, const struct dict *d, struct list *l) {
    for (size_t i = 0; i < d->n; i++) {
        struct value pair;
        TRY(tuple2(vm, &d->entries[i].key, &d->entries[i].value, &pair));
        TRY(list_add(vm, l, &pair));
    }
    return SLM_OK;
}

static slm_err f_dictsort(struct vm *vm, const struct value *self, const struct call *c,
                          struct value *out) {
    const struct str *by;
    struct list *l, *keys;
    TRY(arg_str(vm, c, 1, &by));
    bool value = by != NULL && str_is(by, "value");
    if (by != NULL && !value && !str_is(by, "key"))
        return vm_type_error(vm, "dictsort sorts by 'key' or 'value'");
    if (self->type != V_DICT)
        return self->type == V_UNDEF ? undefined_error(vm, self)
                                     : vm_type_error(vm, "dictsort of a %s", type_name(self));
    TRY(list_new(vm, self->u.d->n, &l));
    TRY(list_new(vm, self->u.d->n, &keys));
    l->open = true;
    TRY(pairs_of(vm, self->u.d, l));
    for (; keys->n < l->n; keys->n++)
        TRY(key_of(vm, &l->items[keys->n].u.l->items[value], NULL, arg_bool(c, 0, false),
                   &keys->items[keys->n]));
    *out = v_list(V_LIST, l);
    return sort(vm, l->items, keys->items, l->n, arg_bool(c, 2, false));
}

static slm_err f_items(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    struct list *l;
    (void)c;
    TRY(gen_new(vm, &l, out));
    if (self->type == V_UNDEF)
        return SLM_OK;
    if (self->type != V_DICT)
        return vm_type_error(vm, "items of a %s", type_name(self));
    return pairs_of(vm, self->u.d, l);
}

static slm_err f_unique(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    struct list *from, *to;
    struct dict *seen;
    TRY(iterate(vm, self, &from));
    TRY(gen_new(vm, &to, out));
    TRY(dict_new(vm, &seen));
    for (size_t i = 0; i < from->n; i++) {
        struct value key;
        size_t before = seen->n;
        TRY(key_of(vm, &from->items[i], c->arg[1], arg_bool(c, 0, false), &key));
        TRY(dict_set(vm, seen, &key, &key));
        if (seen->n > before)
            TRY(list_add(vm, to, &from->items[i]));
    }
    return SLM_OK;
}

static slm_err extreme(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out, int want) {
    struct list *l;
    struct value best = v_undef(), key;
    TRY(iterate(vm, self, &l));
    *out = v_undef();
    for (size_t i = 0; i < l->n; i++) {
        int order = 0;
        bool unordered = false;
        TRY(vm_charge(vm, 1));
        TRY(key_of(vm, &l->items[i], c->arg[1], arg_bool(c, 0, false), &key));
        if (i > 0)
            TRY(value_order(vm, &key, &best, 0, &order, &unordered));
        if (i == 0 || (order == want && !unordered)) {
            best = key;
            *out = l->items[i];
        }
    }
    return SLM_OK;
}
static slm_err f_min(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    return extreme(vm, self, c, out, -1);
}
static slm_err f_max(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    return extreme(vm, self, c, out, 1);
}

static slm_err f_sum(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    struct list *l;
    struct value v, sum;
    TRY(iterate(vm, self, &l));
    *out = c->arg[1] != NULL ? *c->arg[1] : v_int(0);
    if (out->type == V_STR)
        return vm_type_error(vm, "sum of texts; use join");
    for (size_t i = 0; i < l->n; i++) {
        TRY(vm_charge(vm, 1));
        TRY(attr_path(vm, &l->items[i], c->arg[0], NULL, &v));
        TRY(op_arith(vm, OP_ADD, out, &v, &sum));
        *out = sum;
    }
    return SLM_OK;
}

const struct native jinja_seq_filters[] = {
    { "length", "", f_length, 0 },
    { "count", "", f_length, 0 },
    { "join", "d,attribute", f_join, 0 },
    { "first", "", f_first, 0 },
    { "last", "", f_last, 0 },
    { "list", "", f_list, 0 },
    { "reverse", "", f_reverse, 0 },
    { "map", "*", f_map, 0 },
    { "select", "*", f_select, 0 },
    { "reject", "*", f_reject, 0 },
    { "selectattr", "*", f_selectattr, 1 },
    { "rejectattr", "*", f_rejectattr, 1 },
    { "sort", "reverse,case_sensitive,attribute", f_sort, 0 },
    { "dictsort", "case_sensitive,by,reverse", f_dictsort, 0 },
    { "items", "", f_items, 0 },
    { "unique", "case_sensitive,attribute", f_unique, 0 },
    { "min", "case_sensitive,attribute", f_min, 0 },
    { "max", "case_sensitive,attribute", f_max, 0 },
    { "sum", "attribute,start", f_sum, 0 },
    { NULL, NULL, NULL, 0 },
};
