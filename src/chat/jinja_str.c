/* jinja_str.c - the methods of str.
 *
 * Every result keeps, byte for byte, whether its text came from something untrusted.
 * Source: Python 3 documentation, "String Methods". */
#include <string.h>

#include "chat/jinja.h"

#define SELF (self->u.s)

static slm_err all_work(struct vm *vm, const struct str *s) {
    return vm_charge(vm, s->n / 16);
}

/* A search from the end looks at every place and may compare all of the needle there. */
static slm_err search_cost(struct vm *vm, const struct str *s, const struct str *needle) {
    return vm_charge(vm, (s->n / 16 + 1) * (needle->n / 64 + 1));
}

/* ---- white space and case ---- */

static slm_err strip(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out, bool left, bool right) {
    const struct str *chars;
    size_t from, to;
    TRY(arg_str(vm, c, 0, &chars));
    /* Each character is looked for among all of chars. */
    TRY(vm_charge(vm, (SELF->n / 16 + 1) * (chars != NULL ? chars->n / 16 + 1 : 1)));
    text_strip(SELF, chars, left, right, &from, &to);
    return str_part(vm, SELF, from, to - from, out);
}
static slm_err m_strip(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return strip(vm, self, c, out, true, true);
}
static slm_err m_lstrip(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return strip(vm, self, c, out, true, false);
}
static slm_err m_rstrip(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return strip(vm, self, c, out, false, true);
}

#define CASE_METHOD(name, how)                                                                     \
    static slm_err m_##name(struct vm *vm, const struct value *self, const struct call *c,         \
                            struct value *out) {                                                   \
        (void)c;                                                                                   \
        return text_case(vm, SELF, how, out);                                                      \
    }
CASE_METHOD(upper, CASE_UPPER)
CASE_METHOD(lower, CASE_LOWER)
CASE_METHOD(title, CASE_TITLE)
CASE_METHOD(capitalize, CASE_CAPITAL)
CASE_METHOD(swapcase, CASE_SWAP)

#define CLASS_METHOD(name, test)                                                                   \
    static slm_err m_##name(struct vm *vm, const struct value *self, const struct call *c,         \
                            struct value *out) {                                                   \
        (void)c;                                                                                   \
        *out = v_bool(test);                                                                       \
        return all_work(vm, SELF);                                                                 \
    }
CLASS_METHOD(isalpha, text_all(SELF, CLASS_ALPHA))
CLASS_METHOD(isdecimal, text_all(SELF, CLASS_DECIMAL))
CLASS_METHOD(isdigit, text_all(SELF, CLASS_DIGIT))
CLASS_METHOD(isnumeric, text_all(SELF, CLASS_NUMERIC))
CLASS_METHOD(isalnum, text_all(SELF, CLASS_ALNUM))
CLASS_METHOD(isspace, text_all(SELF, CLASS_SPACE))
CLASS_METHOD(isascii, text_all(SELF, CLASS_ASCII))
CLASS_METHOD(isupper, text_cased(SELF, true))
CLASS_METHOD(islower, text_cased(SELF, false))

/* ---- split ---- */

static slm_err add_part(struct vm *vm, struct list *l, const struct str *s, size_t from,
                        size_t to) {
    struct value v;
    TRY(str_part(vm, s, from, to - from, &v));
    return list_add(vm, l, &v);
}

/* Words between white space, at most `max` cuts; after those the rest stays as it is. */
static slm_err split_space(struct vm *vm, const struct str *s, int64_t max, struct list *l) {
    size_t at = 0, len;
    for (;;) {
        while (at < s->n && cp_space(cp_at(s->s + at, s->n - at, &len)))
            at += len;
        if (at == s->n)
            return SLM_OK;
        size_t from = at;
        if (max >= 0 && (int64_t)l->n >= max)
            return add_part(vm, l, s, from, s->n);
        while (at < s->n && !cp_space(cp_at(s->s + at, s->n - at, &len)))
            at += len;
        TRY(add_part(vm, l, s, from, at));
    }
}

static slm_err rsplit_space(struct vm *vm, const struct str *s, int64_t max, struct list *l) {
    size_t at = s->n, len;
    for (;;) {
        while (at > 0 && cp_space(cp_before(s->s, at, &len)))
            at -= len;
        if (at == 0)
            return SLM_OK;
        size_t to = at;
        if (max >= 0 && (int64_t)l->n >= max)
            return add_part(vm, l, s, 0, to);
        while (at > 0 && !cp_space(cp_before(s->s, at, &len)))
            at -= len;
        TRY(add_part(vm, l, s, at, to));
    }
}

static slm_err split_at(struct vm *vm, const struct str *s, const struct str *sep, int64_t max,
                        struct list *l) {
    size_t from = 0, at;
    while ((max < 0 || (int64_t)l->n < max) && (at = find_bytes(s, sep, from)) != SIZE_MAX) {
        TRY(add_part(vm, l, s, from, at));
        from = at + sep->n;
    }
    return add_part(vm, l, s, from, s->n);
}

static slm_err rsplit_at(struct vm *vm, const struct str *s, const struct str *sep, int64_t max,
                         struct list *l) {
    size_t to = s->n, at;
    TRY(search_cost(vm, s, sep));
    while ((max < 0 || (int64_t)l->n < max) && (at = find_last(s, sep, 0, to)) != SIZE_MAX) {
        TRY(add_part(vm, l, s, at + sep->n, to));
        to = at;
    }
    return add_part(vm, l, s, 0, to);
}

static void reverse_list(struct list *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        struct value v = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = v;
    }
}

static slm_err split(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out, bool right) {
    const struct str *sep;
    int64_t max;
    struct list *l;
    TRY(arg_str(vm, c, 0, &sep));
    TRY(arg_int(vm, c, 1, -1, &max));
    if (sep != NULL && sep->n == 0)
        return vm_type_error(vm, "split at an empty text");
    TRY(all_work(vm, SELF));
    TRY(list_new(vm, 0, &l));
    l->open = true;
    if (sep == NULL)
        TRY(right ? rsplit_space(vm, SELF, max, l) : split_space(vm, SELF, max, l));
    else
        TRY(right ? rsplit_at(vm, SELF, sep, max, l) : split_at(vm, SELF, sep, max, l));
    if (right)
        reverse_list(l);
    *out = v_list(V_LIST, l);
    return SLM_OK;
}
static slm_err m_split(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return split(vm, self, c, out, false);
}
static slm_err m_rsplit(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return split(vm, self, c, out, true);
}

static slm_err m_splitlines(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    bool keep = arg_bool(c, 0, false);
    struct list *l;
    TRY(all_work(vm, SELF));
    TRY(list_new(vm, 0, &l));
    l->open = true;
    for (size_t from = 0, at = 0, len; from < SELF->n; from = at) {
        while (at < SELF->n && !cp_linebreak(cp_at(SELF->s + at, SELF->n - at, &len)))
            at += len;
        size_t end = at;
        if (at < SELF->n)
            at += SELF->s[at] == '\r' && at + 1 < SELF->n && SELF->s[at + 1] == '\n' ? 2 : len;
        TRY(add_part(vm, l, SELF, from, keep ? at : end));
    }
    *out = v_list(V_LIST, l);
    return SLM_OK;
}

static slm_err partition(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out, bool right) {
    const struct str *sep;
    struct list *l;
    TRY(arg_str(vm, c, 0, &sep));
    if (sep == NULL || sep->n == 0)
        return vm_type_error(vm, "partition at an empty text");
    TRY(search_cost(vm, SELF, sep));
    size_t at = right ? find_last(SELF, sep, 0, SELF->n) : find_bytes(SELF, sep, 0);
    size_t a = at != SIZE_MAX ? at : right ? 0 : SELF->n;
    size_t b = at != SIZE_MAX ? at + sep->n : a;
    TRY(list_new(vm, 3, &l));
    TRY(add_part(vm, l, SELF, 0, a));
    TRY(add_part(vm, l, SELF, a, b));
    TRY(add_part(vm, l, SELF, b, SELF->n));
    *out = v_list(V_TUPLE, l);
    return SLM_OK;
}
static slm_err m_partition(struct vm *vm, const struct value *self, const struct call *c,
                           struct value *out) {
    return partition(vm, self, c, out, false);
}
static slm_err m_rpartition(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    return partition(vm, self, c, out, true);
}

/* ---- search ---- */

/* Optional start and end (arguments 1 and 2, in characters) as byte offsets; false when start is
 * behind the text's end, where nothing is found. */
static slm_err bounds(struct vm *vm, const struct str *s, const struct call *c, size_t *from,
                      size_t *to, bool *inside) {
    int64_t n = (int64_t)s->chars, start, end;
    TRY(arg_int(vm, c, 1, 0, &start));
    TRY(arg_int(vm, c, 2, n, &end));
    start = start < 0 ? (start + n < 0 ? 0 : start + n) : start;
    end = end < 0 ? (end + n < 0 ? 0 : end + n) : end > n ? n : end;
    *inside = start <= end;
    *from = *inside ? str_offset(s, (size_t)start) : 0;
    *to = *inside ? str_offset(s, (size_t)end) : 0;
    return vm_charge(vm, s->n / 16);
}

static slm_err find(struct vm *vm, const struct value *self, const struct call *c,
                    struct value *out, bool right, bool must) {
    const struct str *needle;
    size_t from, to, at = SIZE_MAX;
    bool inside;
    TRY(arg_str(vm, c, 0, &needle));
    if (needle == NULL)
        return vm_type_error(vm, "find needs a str");
    TRY(bounds(vm, SELF, c, &from, &to, &inside));
    if (inside) {
        const struct str part = { .s = SELF->s, .n = to };
        TRY(search_cost(vm, right ? &part : needle, needle));
        at = right ? find_last(&part, needle, from, to) : find_bytes(&part, needle, from);
    }
    if (at == SIZE_MAX && must)
        return vm_type_error(vm, "substring not found");
    *out = v_int(at == SIZE_MAX ? -1 : (int64_t)count_chars(SELF->s, at));
    return SLM_OK;
}
static slm_err m_find(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    return find(vm, self, c, out, false, false);
}
static slm_err m_rfind(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return find(vm, self, c, out, true, false);
}
static slm_err m_index(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return find(vm, self, c, out, false, true);
}
static slm_err m_rindex(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return find(vm, self, c, out, true, true);
}

static slm_err m_count(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    const struct str *needle;
    size_t from, to, at;
    bool inside;
    int64_t n = 0;
    TRY(arg_str(vm, c, 0, &needle));
    if (needle == NULL)
        return vm_type_error(vm, "count needs a str");
    TRY(bounds(vm, SELF, c, &from, &to, &inside));
    const struct str part = { .s = SELF->s, .n = to };
    if (inside && needle->n == 0)
        n = (int64_t)count_chars(SELF->s + from, to - from) + 1;
    else if (inside)
        for (; (at = find_bytes(&part, needle, from)) != SIZE_MAX; n++)
            from = at + needle->n;
    *out = v_int(n);
    return SLM_OK;
}

static bool edge_is(const struct str *s, const struct str *edge, size_t from, size_t to, bool end) {
    return edge->n <= to - from &&
           memcmp(s->s + (end ? to - edge->n : from), edge->s, edge->n) == 0;
}

/* startswith, endswith: a str, or a tuple of which one must fit. */
static slm_err edge(struct vm *vm, const struct value *self, const struct call *c,
                    struct value *out, bool end) {
    size_t from, to;
    bool inside, fits = false;
    const struct value *v = c->arg[0];
    const struct value *list = v->type == V_TUPLE ? v->u.l->items : v;
    size_t n = v->type == V_TUPLE ? v->u.l->n : 1;
    TRY(bounds(vm, SELF, c, &from, &to, &inside));
    for (size_t i = 0; i < n && !fits; i++) {
        if (list[i].type != V_STR)
            return list[i].type == V_UNDEF
                       ? undefined_error(vm, &list[i])
                       : vm_type_error(vm, "a str cannot begin or end with a %s",
                                       type_name(&list[i]));
        fits = inside && edge_is(SELF, list[i].u.s, from, to, end);
    }
    *out = v_bool(fits);
    return SLM_OK;
}
static slm_err m_startswith(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    return edge(vm, self, c, out, false);
}
static slm_err m_endswith(struct vm *vm, const struct value *self, const struct call *c,
                          struct value *out) {
    return edge(vm, self, c, out, true);
}

static slm_err remove_edge(struct vm *vm, const struct value *self, const struct call *c,
                           struct value *out, bool end) {
    const struct str *s;
    TRY(arg_str(vm, c, 0, &s));
    if (s == NULL)
        return vm_type_error(vm, "a prefix or suffix must be a str");
    size_t cut = edge_is(SELF, s, 0, SELF->n, end) ? s->n : 0;
    return str_part(vm, SELF, end ? 0 : cut, SELF->n - cut, out);
}
static slm_err m_removeprefix(struct vm *vm, const struct value *self, const struct call *c,
                              struct value *out) {
    return remove_edge(vm, self, c, out, false);
}
static slm_err m_removesuffix(struct vm *vm, const struct value *self, const struct call *c,
                              struct value *out) {
    return remove_edge(vm, self, c, out, true);
}

/* ---- making text ---- */

static slm_err m_replace(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out) {
    const struct str *old, *new;
    int64_t max;
    TRY(arg_str(vm, c, 0, &old));
    TRY(arg_str(vm, c, 1, &new));
    TRY(arg_int(vm, c, 2, -1, &max));
    if (old == NULL || new == NULL)
        return vm_type_error(vm, "replace needs two texts");
    struct builder b = { 0 };
    size_t from = 0, at = 0;
    TRY(all_work(vm, SELF));
    for (int64_t n = 0; max < 0 || n < max; n++) {
        size_t hit = find_bytes(SELF, old, at);
        if (hit == SIZE_MAX)
            break;
        TRY(vm_charge(vm, 1));
        TRY(build_part(vm, &b, SELF, from, hit - from));
        TRY(build_str(vm, &b, new));
        from = at = hit + old->n;
        if (old->n == 0) { /* an empty text stands before every character and at the end */
            size_t len = 1;
            if (at < SELF->n)
                cp_at(SELF->s + at, SELF->n - at, &len);
            at += len;
        }
    }
    TRY(build_part(vm, &b, SELF, from, SELF->n - from));
    return build_done(vm, &b, out);
}

static slm_err m_join(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    struct list *l;
    struct builder b = { 0 };
    TRY(iterate(vm, c->arg[0], &l));
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].type != V_STR)
            return vm_type_error(vm, "join: item %zu is a %s, not a str", i,
                                 type_name(&l->items[i]));
        if (i > 0)
            TRY(build_str(vm, &b, SELF));
        TRY(build_str(vm, &b, l->items[i].u.s));
    }
    return build_done(vm, &b, out);
}

/* Blanks (or another fill) on both sides; `left` counts those before the text. */
static slm_err pad(struct vm *vm, const struct value *self, const struct call *c, struct value *out,
                   unsigned where) {
    const struct str *fill;
    int64_t width;
    struct value space;
    TRY(arg_int(vm, c, 0, 0, &width));
    TRY(arg_str(vm, c, 1, &fill));
    if (fill != NULL && fill->chars != 1)
        return vm_type_error(vm, "the fill must be one character");
    TRY(str_copy(vm, " ", 1, &space));
    fill = fill != NULL ? fill : space.u.s;
    int64_t more = width > 0 ? width - (int64_t)SELF->chars : 0, left = 0;
    if (more > 0)
        left = where == 0 ? 0 : where == 2 ? more : more / 2 + (more & width & 1);
    struct builder b = { 0 };
    TRY(build_room(vm, &b, more > 0 ? (uint64_t)more : 0));
    for (int64_t i = 0; i < more || i == left; i++) {
        if (i == left)
            TRY(build_str(vm, &b, SELF));
        if (i >= more)
            break;
        TRY(vm_charge(vm, 1));
        TRY(build_str(vm, &b, fill));
    }
    return build_done(vm, &b, out);
}
static slm_err m_ljust(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return pad(vm, self, c, out, 0);
}
static slm_err m_center(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    return pad(vm, self, c, out, 1);
}
static slm_err m_rjust(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    return pad(vm, self, c, out, 2);
}

static slm_err m_zfill(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    int64_t width;
    struct builder b = { 0 };
    TRY(arg_int(vm, c, 0, 0, &width));
    TRY(build_room(vm, &b, width > 0 ? (uint64_t)width : 0));
    size_t sign = SELF->n > 0 && (SELF->s[0] == '-' || SELF->s[0] == '+');
    TRY(build_part(vm, &b, SELF, 0, sign));
    for (int64_t i = (int64_t)SELF->chars; i < width; i++) {
        TRY(vm_charge(vm, 1));
        TRY(build_puts(vm, &b, "0"));
    }
    TRY(build_part(vm, &b, SELF, sign, SELF->n - sign));
    return build_done(vm, &b, out);
}

/* The value that a replacement field "{...}" names: nothing (the next one), a number or a name. */
static slm_err format_field(struct vm *vm, const struct call *c, const char *name, size_t n,
                            size_t *next, const struct value **out) {
    size_t index = 0;
    bool number = true;
    *out = NULL;
    for (size_t i = 0; i < n; i++) {
        number = number && name[i] >= '0' && name[i] <= '9' && i < 6;
        index = number ? index * 10 + (size_t)(name[i] - '0') : 0;
    }
    if (number) {
        if (n == 0)
            index = (*next)++;
        if (index >= c->n_pos)
            return vm_type_error(vm, "format has no argument %zu", index);
        *out = &c->pos[index];
        return SLM_OK;
    }
    if (memchr(name, ':', n) != NULL || memchr(name, '!', n) != NULL ||
        memchr(name, '.', n) != NULL || memchr(name, '[', n) != NULL)
        return vm_type_error(vm, "format supports only {}, {0} and {name}");
    for (size_t i = 0; i < c->n_kw; i++)
        if (c->kw[2 * i].u.s->n == n && memcmp(c->kw[2 * i].u.s->s, name, n) == 0)
            *out = &c->kw[2 * i + 1];
    return *out != NULL
               ? SLM_OK
               : vm_type_error(vm, "format has no argument '%.*s'", (int)(n < 60 ? n : 60), name);
}

static slm_err m_format(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    struct builder b = { 0 };
    size_t next = 0, at = 0;
    const struct str *s = SELF;
    TRY(all_work(vm, s));
    while (at < s->n) {
        size_t run = at;
        while (at < s->n && s->s[at] != '{' && s->s[at] != '}')
            at++;
        TRY(build_part(vm, &b, s, run, at - run));
        if (at == s->n)
            break;
        if (at + 1 < s->n && s->s[at + 1] == s->s[at]) { /* "{{" or "}}" */
            TRY(build_part(vm, &b, s, at, 1));
            at += 2;
            continue;
        }
        const char *end = s->s[at] == '{' ? memchr(s->s + at, '}', s->n - at) : NULL;
        if (end == NULL)
            return vm_type_error(vm, "format: a single brace");
        const struct value *v;
        size_t n = (size_t)(end - (s->s + at)) - 1;
        TRY(format_field(vm, c, s->s + at + 1, n, &next, &v));
        TRY(build_value(vm, &b, v));
        at += n + 2;
    }
    return build_done(vm, &b, out);
}

const struct native jinja_str_methods[] = {
    { "strip", "chars", m_strip, 0 },
    { "lstrip", "chars", m_lstrip, 0 },
    { "rstrip", "chars", m_rstrip, 0 },
    { "split", "sep,maxsplit", m_split, 0 },
    { "rsplit", "sep,maxsplit", m_rsplit, 0 },
    { "splitlines", "keepends", m_splitlines, 0 },
    { "partition", "sep", m_partition, 1 },
    { "rpartition", "sep", m_rpartition, 1 },
    { "startswith", "prefix,start,end", m_startswith, 1 },
    { "endswith", "suffix,start,end", m_endswith, 1 },
    { "removeprefix", "prefix", m_removeprefix, 1 },
    { "removesuffix", "suffix", m_removesuffix, 1 },
    { "replace", "old,new,count", m_replace, 2 },
    { "join", "iterable", m_join, 1 },
    { "upper", "", m_upper, 0 },
    { "lower", "", m_lower, 0 },
    { "title", "", m_title, 0 },
    { "capitalize", "", m_capitalize, 0 },
    { "swapcase", "", m_swapcase, 0 },
    { "find", "sub,start,end", m_find, 1 },
    { "rfind", "sub,start,end", m_rfind, 1 },
    { "index", "sub,start,end", m_index, 1 },
    { "rindex", "sub,start,end", m_rindex, 1 },
    { "count", "sub,start,end", m_count, 1 },
    { "ljust", "width,fillchar", m_ljust, 1 },
    { "rjust", "width,fillchar", m_rjust, 1 },
    { "center", "width,fillchar", m_center, 1 },
    { "zfill", "width", m_zfill, 1 },
    { "format", "*", m_format, 0 },
    { "isalpha", "", m_isalpha, 0 },
    { "isdecimal", "", m_isdecimal, 0 },
    { "isdigit", "", m_isdigit, 0 },
    { "isnumeric", "", m_isnumeric, 0 },
    { "isalnum", "", m_isalnum, 0 },
    { "isspace", "", m_isspace, 0 },
    { "isascii", "", m_isascii, 0 },
    { "isupper", "", m_isupper, 0 },
    { "islower", "", m_islower, 0 },
    { NULL, NULL, NULL, 0 },
};
