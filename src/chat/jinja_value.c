/* jinja_value.c - values of one rendering: memory, strings with taint, lists, dicts, comparison.
 *
 * All memory is the rendering's arena, and none is freed before its end; every allocation counts
 * against max_memory, and every 64 bytes of work against max_steps, so that a template that doubles
 * a string or a list again and again meets a budget early. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "chat/jinja.h"

const uint8_t taint_all[1] = { 1 };

/* ---- budgets ---- */

slm_err vm_charge(struct vm *vm, size_t n) {
    if (n > vm->max_steps - vm->steps) {
        vm->steps = vm->max_steps;
        return vm_fail(vm, SLM_E_BUDGET, "the template needs more than %zu steps", vm->max_steps);
    }
    vm->steps += n;
    return SLM_OK;
}

slm_err vm_depth(struct vm *vm, unsigned depth) {
    if (depth < vm->max_depth)
        return SLM_OK;
    return vm_fail(vm, SLM_E_BUDGET, "values are nested deeper than %u", vm->max_depth);
}

slm_err vm_alloc(struct vm *vm, size_t n, size_t size, void **out) {
    size_t bytes;
    *out = NULL;
    size_t used = vm->arena.used_bytes; /* may pass the ceiling by the last block's alignment */
    size_t room = used < vm->max_memory ? vm->max_memory - used : 0;
    if (!mul_ok(n, size, &bytes) || bytes > room)
        return vm_fail(vm, SLM_E_BUDGET, "the template needs more than %zu bytes of memory",
                       vm->max_memory);
    TRY(vm_charge(vm, bytes / 64));
    *out = arena_alloc(&vm->arena, n, size);
    if (*out == NULL)
        return fail_nomem(vm->why, "chat template", bytes);
    return SLM_OK;
}

/* Room for `need` elements of `size` bytes; the first `used` are kept. */
slm_err vm_grow(struct vm *vm, void **p, size_t *cap, size_t need, size_t size, size_t used) {
    if (need <= *cap)
        return SLM_OK;
    size_t more = *cap < 8 ? 8 : *cap * 2; /* cap elements exist in memory: no wrap */
    if (more < need)
        more = need;
    void *grown;
    TRY(vm_alloc(vm, more, size, &grown));
    if (used > 0)
        memcpy(grown, *p, used * size);
    *p = grown;
    *cap = more;
    return SLM_OK;
}

/* ---- constructors ---- */

struct value v_none(void) {
    return (struct value){ .type = V_NONE };
}
struct value v_undef(void) {
    return (struct value){ .type = V_UNDEF, .sub = MISSING_OTHER };
}
struct value v_bool(bool b) {
    struct value v = { .type = V_BOOL };
    v.u.b = b;
    return v;
}
struct value v_int(int64_t i) {
    struct value v = { .type = V_INT };
    v.u.i = i;
    return v;
}
struct value v_float(double f) {
    struct value v = { .type = V_FLOAT };
    v.u.f = f;
    return v;
}
struct value v_list(enum value_type type, struct list *l) {
    struct value v = { .type = (uint8_t)type };
    v.u.l = l;
    return v;
}
struct value v_dict(struct dict *d) {
    struct value v = { .type = V_DICT };
    v.u.d = d;
    return v;
}

const char *type_name(const struct value *v) {
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    static const char *const names[] = {
        [V_UNDEF] = "Undefined",  [V_NONE] = "NoneType", [V_BOOL] = "bool",
        [V_INT] = "int",          [V_FLOAT] = "float",   [V_STR] = "str",
        [V_LIST] = "list",        [V_TUPLE] = "tuple",   [V_GEN] = "generator",
        [V_RANGE] = "range",      [V_DICT] = "dict",     [V_NS] = "Namespace",
        [V_LOOP] = "LoopContext", [V_MACRO] = "Macro",   [V_NATIVE] = "function",
        [V_METHOD] = "method",
    };
    return v->type == V_VIEW ? views[v->sub] : names[v->type];
}

/* ---- strings ---- */

size_t count_chars(const char *s, size_t n) {
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    return chars;
}

slm_err str_wrap(struct vm *vm, const char *s, size_t n, const uint8_t *taint, struct value *out) {
    void *p;
    TRY(vm_alloc(vm, 1, sizeof(struct str), &p));
    TRY(vm_charge(vm, n / 64));
    struct str *str = p;
    *str =
        (struct str){ .s = s, .n = n, .chars = count_chars(s, n), .taint = n > 0 ? taint : NULL };
    *out = (struct value){ .type = V_STR };
    out->u.s = str;
    return SLM_OK;
}

slm_err str_copy(struct vm *vm, const char *s, size_t n, struct value *out) {
    void *p;
    TRY(vm_alloc(vm, n + 1, 1, &p));
    memcpy(p, s, n);
    return str_wrap(vm, p, n, NULL, out);
}

slm_err str_part(struct vm *vm, const struct str *s, size_t from, size_t n, struct value *out) {
    if (n == s->n) {
        *out = (struct value){ .type = V_STR };
        out->u.s = s;
        return SLM_OK;
    }
    const uint8_t *taint = s->taint;
    if (taint != NULL && taint != taint_all)
        taint += from;
    return str_wrap(vm, s->s + from, n, taint, out);
}

size_t str_offset(const struct str *s, size_t index) {
    if (s->chars == s->n)
        return index;
    size_t at = 0;
    while (index > 0) {
        for (at++; at < s->n && ((unsigned char)s->s[at] & 0xC0) == 0x80;)
            at++;
        index--;
    }
    return at;
}

bool str_tainted(const struct str *s, size_t at) {
    return s->taint != NULL && (s->taint == taint_all || s->taint[at] != 0);
}

bool str_is(const struct str *s, const char *word) {
    return s->n == strlen(word) && memcmp(s->s, word, s->n) == 0;
}

int str_order(const struct str *a, const struct str *b) {
    /* UTF-8 sorts like its code points. */
    int c = memcmp(a->s, b->s, a->n < b->n ? a->n : b->n);
    return c != 0 ? (c < 0 ? -1 : 1) : a->n < b->n ? -1 : a->n > b->n;
}

/* ---- builder ---- */

slm_err build_room(struct vm *vm, const struct builder *b, uint64_t n) {
    if (n <= vm->max_output - b->n)
        return SLM_OK;
    return vm_fail(vm, SLM_E_BUDGET, "the template makes a text of more than %zu bytes",
                   vm->max_output);
}

slm_err build_put(struct vm *vm, struct builder *b, const char *s, size_t n, bool data) {
    if (n == 0)
        return SLM_OK;
    TRY(build_room(vm, b, n));
    if (data != (b->n_edges % 2 == 1)) {
        void *edges = b->edges;
        TRY(vm_grow(vm, &edges, &b->cap_edges, b->n_edges + 1, sizeof *b->edges, b->n_edges));
        b->edges = edges;
        b->edges[b->n_edges++] = b->n;
    }
    void *text = b->text;
    TRY(vm_grow(vm, &text, &b->cap, b->n + n, 1, b->n));
    b->text = text;
    TRY(vm_charge(vm, n / 64));
    memcpy(b->text + b->n, s, n);
    b->n += n;
    return SLM_OK;
}

slm_err build_puts(struct vm *vm, struct builder *b, const char *s) {
    return build_put(vm, b, s, strlen(s), false);
}

slm_err build_part(struct vm *vm, struct builder *b, const struct str *s, size_t from, size_t n) {
    if (s->taint == NULL || s->taint == taint_all)
        return build_put(vm, b, s->s + from, n, s->taint != NULL);
    for (size_t end = from + n, to; from < end; from = to) {
        for (to = from + 1; to < end && (s->taint[to] != 0) == (s->taint[from] != 0);)
            to++;
        TRY(build_put(vm, b, s->s + from, to - from, s->taint[from] != 0));
    }
    return SLM_OK;
}

slm_err build_str(struct vm *vm, struct builder *b, const struct str *s) {
    return build_part(vm, b, s, 0, s->n);
}

slm_err build_done(struct vm *vm, const struct builder *b, struct value *out) {
    const uint8_t *taint = NULL;
    if (b->n_edges == 1 && b->edges[0] == 0) {
        taint = taint_all;
    } else if (b->n_edges > 0) {
        void *flags;
        TRY(vm_alloc(vm, b->n, 1, &flags));
        memset(flags, 0, b->n);
        for (size_t i = 0; i < b->n_edges; i += 2) {
            size_t end = i + 1 < b->n_edges ? b->edges[i + 1] : b->n;
            memset((uint8_t *)flags + b->edges[i], 1, end - b->edges[i]);
        }
        taint = flags;
    }
    return str_wrap(vm, b->text != NULL ? b->text : "", b->n, taint, out);
}

slm_err build_done_whole(struct vm *vm, const struct builder *b, struct value *out) {
    return str_wrap(vm, b->text != NULL ? b->text : "", b->n, b->n_edges > 0 ? taint_all : NULL,
                    out);
}

/* ---- lists ---- */

slm_err list_new(struct vm *vm, size_t cap, struct list **out) {
    void *p, *items = NULL;
    TRY(vm_alloc(vm, 1, sizeof(struct list), &p));
    if (cap > 0)
        TRY(vm_alloc(vm, cap, sizeof(struct value), &items));
    struct list *l = p;
    *l = (struct list){ .items = items, .cap = cap };
    *out = l;
    return SLM_OK;
}

slm_err list_add(struct vm *vm, struct list *l, const struct value *v) {
    void *items = l->items;
    TRY(vm_grow(vm, &items, &l->cap, l->n + 1, sizeof *l->items, l->n));
    l->items = items;
    l->items[l->n++] = *v;
    return SLM_OK;
}

slm_err tuple2(struct vm *vm, const struct value *a, const struct value *b, struct value *out) {
    struct list *l;
    TRY(list_new(vm, 2, &l));
    l->items[0] = *a;
    l->items[1] = *b;
    l->n = 2;
    *out = v_list(V_TUPLE, l);
    return SLM_OK;
}

/* ---- dicts ---- */

#define DICT_SMALL 8 /* entries that are searched without an index */

static uint64_t mix(uint64_t h) {
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return mix(h);
}

/* Equal values have equal hashes: 1, 1.0 and True are one key. */
static slm_err hash_value(struct vm *vm, const struct value *v, unsigned depth, uint64_t *out) {
    uint64_t bits = 0;
    double f;
    switch (v->type) {
    case V_STR:
        *out = hash_bytes(v->u.s->s, v->u.s->n);
        return vm_charge(vm, v->u.s->n / 64);
    case V_NONE:
        *out = 1;
        return SLM_OK;
    case V_BOOL:
    case V_INT:
    case V_FLOAT:
        f = as_double(v);
        f = f == 0 ? 0 : f; /* -0.0 is 0 */
        memcpy(&bits, &f, sizeof f);
        *out = mix(bits);
        return SLM_OK;
    case V_TUPLE:
        TRY(vm_depth(vm, depth));
        *out = v->u.l->n;
        for (size_t i = 0; i < v->u.l->n; i++) {
            TRY(hash_value(vm, &v->u.l->items[i], depth + 1, &bits));
            *out = mix(*out * 31 + bits);
        }
        return vm_charge(vm, v->u.l->n / 4);
    case V_LIST:
    case V_DICT:
    case V_VIEW:
        return vm_type_error(vm, "a %s cannot be a key", type_name(v));
    default: /* rare: told apart by comparing only */
        *out = 2 + (uint64_t)v->type;
        return SLM_OK;
    }
}

slm_err dict_new(struct vm *vm, struct dict **out) {
    void *p;
    TRY(vm_alloc(vm, 1, sizeof(struct dict), &p));
    memset(p, 0, sizeof(struct dict));
    *out = p;
    return SLM_OK;
}

static slm_err dict_reindex(struct vm *vm, struct dict *d) {
    size_t n = d->n_index == 0 ? 4 * DICT_SMALL : d->n_index * 2;
    void *p;
    TRY(vm_alloc(vm, n, sizeof *d->index, &p));
    memset(p, 0, n * sizeof *d->index);
    d->index = p;
    d->n_index = n;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = d->entries[i].hash & (n - 1);
        while (d->index[at] != 0)
            at = (at + 1) & (n - 1);
        d->index[at] = (uint32_t)i + 1;
    }
    return SLM_OK;
}

/* Index of the entry with this key, or d->n. *slot: where a new one would go. */
static slm_err dict_find(struct vm *vm, const struct dict *d, const struct value *key,
                         uint64_t hash, size_t *slot, size_t *found) {
    bool same;
    *found = d->n;
    *slot = 0;
    if (d->index == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            if (d->entries[i].hash != hash)
                continue;
            TRY(value_equal(vm, &d->entries[i].key, key, 0, &same));
            if (same) {
                *found = i;
                break;
            }
        }
        return SLM_OK;
    }
    for (*slot = hash & (d->n_index - 1); d->index[*slot] != 0;
         *slot = (*slot + 1) & (d->n_index - 1)) {
        size_t i = d->index[*slot] - 1;
        TRY(vm_charge(vm, 1)); /* keys made to collide pay for it */
        if (d->entries[i].hash != hash)
            continue;
        TRY(value_equal(vm, &d->entries[i].key, key, 0, &same));
        if (same) {
            *found = i;
            break;
        }
    }
    return SLM_OK;
}

slm_err dict_get(struct vm *vm, const struct dict *d, const struct value *key,
                 const struct value **out) {
    uint64_t hash;
    size_t slot, at;
    *out = NULL;
    TRY(hash_value(vm, key, 0, &hash));
    TRY(dict_find(vm, d, key, hash, &slot, &at));
    if (at < d->n)
        *out = &d->entries[at].value;
    return SLM_OK;
}

slm_err dict_set(struct vm *vm, struct dict *d, const struct value *key, const struct value *v) {
    uint64_t hash;
    size_t slot, at;
    TRY(hash_value(vm, key, 0, &hash));
    TRY(dict_find(vm, d, key, hash, &slot, &at));
    if (at < d->n) {
        d->entries[at].value = *v;
        return SLM_OK;
    }
    void *entries = d->entries;
    TRY(vm_grow(vm, &entries, &d->cap, d->n + 1, sizeof *d->entries, d->n));
    d->entries = entries;
    d->entries[d->n++] = (struct entry){ .key = *key, .value = *v, .hash = hash };
    if (d->index != NULL && d->n * 2 <= d->n_index) {
        d->index[slot] = (uint32_t)d->n;
        return SLM_OK;
    }
    return d->n > DICT_SMALL ? dict_reindex(vm, d) : SLM_OK;
}

const struct value *dict_word(const struct dict *d, const char *s, size_t n) {
    uint64_t hash = hash_bytes(s, n);
    size_t slot = hash & (d->n_index - 1);
    for (size_t k = 0; k < d->n; k++) {
        size_t i = k;
        if (d->index != NULL) {
            if (d->index[slot] == 0)
                return NULL;
            i = d->index[slot] - 1;
            slot = (slot + 1) & (d->n_index - 1);
        }
        const struct entry *e = &d->entries[i];
        if (e->hash == hash && e->key.type == V_STR && e->key.u.s->n == n &&
            memcmp(e->key.u.s->s, s, n) == 0)
            return &e->value;
    }
    return NULL;
}

/* ---- truth, equality, order ---- */

bool truth(const struct value *v) {
    switch (v->type) {
    case V_UNDEF:
    case V_NONE:
        return false;
    case V_BOOL:
        return v->u.b;
    case V_INT:
        return v->u.i != 0;
    case V_FLOAT:
        return v->u.f != 0;
    case V_STR:
        return v->u.s->n != 0;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        return v->u.l->n != 0;
    case V_RANGE:
        return v->u.r->n != 0;
    case V_DICT:
        return v->u.d->n != 0;
    default:
        return true;
    }
}

bool is_number(const struct value *v) {
    return v->type == V_INT || v->type == V_FLOAT || v->type == V_BOOL;
}

bool as_int(const struct value *v, int64_t *out) {
    if (v->type != V_INT && v->type != V_BOOL)
        return false;
    *out = v->type == V_INT ? v->u.i : v->u.b;
    return true;
}

double as_double(const struct value *v) {
    return v->type == V_FLOAT ? v->u.f : v->type == V_INT ? (double)v->u.i : (double)v->u.b;
}

int number_order(const struct value *a, const struct value *b, bool *unordered) {
    int64_t i, j;
    *unordered = false;
    if (as_int(a, &i) && as_int(b, &j))
        return i < j ? -1 : i > j;
    double f = as_double(a), g = as_double(b);
    if (isnan(f) || isnan(g)) {
        *unordered = true;
        return 1;
    }
    if (f != g || (a->type == V_FLOAT && b->type == V_FLOAT))
        return f < g ? -1 : f > g;
    /* A whole number near a double of the same value: compare as whole numbers. 2^63 as a double
     * is above every int64. */
    bool flip = a->type == V_FLOAT;
    const struct value *whole = flip ? b : a;
    double d = flip ? f : g;
    i = whole->type == V_INT ? whole->u.i : whole->u.b;
    int c = d >= 9223372036854775808.0 ? -1 : i < (int64_t)d ? -1 : i > (int64_t)d;
    return flip ? -c : c;
}

/* Lists, tuples and ranges of the same type, element by element. */
static slm_err lists_equal(struct vm *vm, const struct list *a, const struct list *b,
                           unsigned depth, bool *out) {
    *out = a->n == b->n;
    if (a == b || !*out)
        return SLM_OK;
    TRY(vm_depth(vm, depth));
    for (size_t i = 0; i < a->n && *out; i++) {
        TRY(vm_charge(vm, 1));
        TRY(value_equal(vm, &a->items[i], &b->items[i], depth + 1, out));
    }
    return SLM_OK;
}

static slm_err dicts_equal(struct vm *vm, const struct dict *a, const struct dict *b,
                           unsigned depth, bool *out) {
    *out = a->n == b->n;
    if (a == b || !*out)
        return SLM_OK;
    TRY(vm_depth(vm, depth));
    for (size_t i = 0; i < a->n && *out; i++) {
        const struct value *other;
        TRY(vm_charge(vm, 1));
        TRY(dict_get(vm, b, &a->entries[i].key, &other));
        *out = other != NULL;
        if (*out)
            TRY(value_equal(vm, &a->entries[i].value, other, depth + 1, out));
    }
    return SLM_OK;
}

slm_err value_equal(struct vm *vm, const struct value *a, const struct value *b, unsigned depth,
                    bool *out) {
    bool unordered;
    if (is_number(a) && is_number(b)) {
        *out = number_order(a, b, &unordered) == 0;
        return SLM_OK;
    }
    *out = false;
    if (a->type != b->type)
        return SLM_OK;
    switch (a->type) {
    case V_UNDEF:
    case V_NONE:
        *out = true;
        return SLM_OK;
    case V_STR:
        *out = a->u.s->n == b->u.s->n && memcmp(a->u.s->s, b->u.s->s, a->u.s->n) == 0;
        return vm_charge(vm, *out ? a->u.s->n / 64 : 0);
    case V_LIST:
    case V_TUPLE:
        return lists_equal(vm, a->u.l, b->u.l, depth, out);
    case V_VIEW:
        return a->sub == b->sub && a->sub != VIEW_VALUES
                   ? lists_equal(vm, a->u.l, b->u.l, depth, out)
                   : SLM_OK;
    case V_RANGE:
        *out = a->u.r->n == b->u.r->n &&
               (a->u.r->n == 0 || (a->u.r->start == b->u.r->start &&
                                   (a->u.r->n == 1 || a->u.r->step == b->u.r->step)));
        return SLM_OK;
    case V_DICT:
        return dicts_equal(vm, a->u.d, b->u.d, depth, out);
    default:
        *out = a->u.l == b->u.l; /* the same object */
        return SLM_OK;
    }
}

slm_err value_order(struct vm *vm, const struct value *a, const struct value *b, unsigned depth,
                    int *out, bool *unordered) {
    *unordered = false;
    if (is_number(a) && is_number(b)) {
        *out = number_order(a, b, unordered);
        return SLM_OK;
    }
    if (a->type == V_UNDEF || b->type == V_UNDEF)
        return undefined_error(vm, a->type == V_UNDEF ? a : b);
    if (a->type == V_STR && b->type == V_STR) {
        *out = str_order(a->u.s, b->u.s);
        return vm_charge(vm, a->u.s->n / 64);
    }
    if (a->type != b->type || (a->type != V_LIST && a->type != V_TUPLE))
        return vm_type_error(vm, "a %s and a %s have no order", type_name(a), type_name(b));
    TRY(vm_depth(vm, depth));
    const struct list *x = a->u.l, *y = b->u.l;
    for (size_t i = 0; i < x->n && i < y->n; i++) {
        bool same;
        TRY(vm_charge(vm, 1));
        TRY(value_equal(vm, &x->items[i], &y->items[i], depth + 1, &same));
        if (!same)
            return value_order(vm, &x->items[i], &y->items[i], depth + 1, out, unordered);
    }
    *out = x->n < y->n ? -1 : x->n > y->n;
    return SLM_OK;
}

/* ---- iteration ---- */

static slm_err characters(struct vm *vm, const struct str *s, struct list *l) {
    struct value v;
    for (size_t at = 0, len; at < s->n; at += len) {
        cp_at(s->s + at, s->n - at, &len);
        TRY(str_part(vm, s, at, len, &v));
        TRY(list_add(vm, l, &v));
    }
    return SLM_OK;
}

slm_err iterate(struct vm *vm, const struct value *v, struct list **out) {
    struct list *l;
    switch (v->type) {
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        *out = v->u.l;
        return SLM_OK;
    case V_GEN:
        TRY(list_new(vm, 0, &l));
        l->items = v->u.l->walked > 0 ? v->u.l->items + v->u.l->walked : v->u.l->items;
        l->n = l->cap = v->u.l->n - v->u.l->walked;
        v->u.l->walked = v->u.l->n;
        break;
    case V_STR:
        TRY(list_new(vm, v->u.s->chars, &l));
        TRY(characters(vm, v->u.s, l));
        break;
    case V_DICT:
        TRY(list_new(vm, v->u.d->n, &l));
        for (size_t i = 0; i < v->u.d->n; i++)
            l->items[l->n++] = v->u.d->entries[i].key;
        break;
    case V_RANGE:
        TRY(list_new(vm, v->u.r->n, &l));
        for (; l->n < v->u.r->n; l->n++)
            l->items[l->n] = v_int(v->u.r->start + (int64_t)l->n * v->u.r->step);
        break;
    case V_UNDEF:
        TRY(list_new(vm, 0, &l));
        break;
    default:
        return vm_type_error(vm, "a %s cannot be iterated", type_name(v));
    }
    *out = l;
    return SLM_OK;
}
