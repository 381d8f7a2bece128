/* jinja_repr.c - values as text: Python's str() and repr(), json.dumps(), decimal numbers.
 *
 * A container's text is untrusted as a whole as soon as one string inside is: its punctuation can
 * form no control token, and the tokenizer gets one run instead of hundreds.
 * Source: Python 3 documentation, repr() and json; RFC 8259. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/utf8.h"
#include "chat/jinja.h"

/* ---- numbers ---- */

/* Significant digits and decimal exponent of f in `precision` digits, whatever the locale. */
static bool decimal(double f, int precision, char digits[20], int *exponent) {
    char text[64];
    int n = 0;
    snprintf(text, sizeof text, "%.*e", precision - 1, f);
    const char *p = text;
    for (; *p != '\0' && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    digits[n] = '\0';
    *exponent = *p == 'e' ? atoi(p + 1) : 0;
    return strtod(text, NULL) == f;
}

/* The shortest digits that read back as f; positional for exponents -4 to 15, else scientific. */
size_t float_text(double f, char out[FLOAT_TEXT_MAX]) {
    if (isnan(f) || isinf(f)) {
        const char *word = isnan(f) ? "nan" : f < 0 ? "-inf" : "inf";
        strcpy(out, word);
        return strlen(word);
    }
    char digits[20];
    int exponent, precision = 1;
    while (!decimal(fabs(f), precision, digits, &exponent) && precision < 17)
        precision++;
    int n = (int)strlen(digits);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    char *p = out;
    if (signbit(f))
        *p++ = '-';
    if (exponent < -4 || exponent >= 16) {
        *p++ = digits[0];
        if (n > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)n - 1);
            p += n - 1;
        }
        p += snprintf(p, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return (size_t)(p - out);
    }
    for (int i = exponent < 0 ? exponent : 0; i < n || i <= exponent + 1; i++) {
        if (i == exponent + 1)
            *p++ = '.';
        *p++ = i >= 0 && i < n ? digits[i] : '0';
    }
    *p = '\0';
    return (size_t)(p - out);
}

/* Python allows underscores between digits. */
bool parse_double(const char *s, size_t n, double *out) {
    char text[NUMBER_TEXT_MAX];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '_')
            continue;
        if (len == sizeof text)
            return false;
        text[len++] = s[i];
    }
    return number_read(text, len, out);
}

double round_decimal(double f, int digits) {
    char text[512];
    if (isnan(f) || isinf(f) || digits > 330 || (digits > 22 && fabs(f) > 1))
        return f;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", digits, f); /* exact, ties to even */
        return strtod(text, NULL);
    }
    if (digits < -308)
        return f < 0 ? -0.0 : 0.0;
    double unit = pow(10, -digits);
    return nearbyint(f / unit) * unit;
}

/* ---- repr ---- */

static slm_err repr_escape(struct vm *vm, struct builder *b, uint32_t cp, char quote, bool data) {
    char text[16];
    const char *known = cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : cp == '\t' ? "\\t" : NULL;
    if (known != NULL)
        return build_put(vm, b, known, 2, data);
    if (cp == '\\' || cp == (unsigned char)quote)
        snprintf(text, sizeof text, "\\%c", (char)cp);
    else
        snprintf(text, sizeof text,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 cp);
    return build_put(vm, b, text, strlen(text), data);
}

/* Single quotes, unless only those occur inside. */
static slm_err repr_str(struct vm *vm, struct builder *b, const struct str *s) {
    bool single = s->n > 0 && memchr(s->s, '\'', s->n) != NULL;
    bool both = single && memchr(s->s, '"', s->n) != NULL;
    char quote = single && !both ? '"' : '\'';
    TRY(build_put(vm, b, &quote, 1, false));
    size_t run = 0;
    for (size_t at = 0, len; at < s->n; at += len) {
        uint32_t cp = cp_at(s->s + at, s->n - at, &len);
        bool plain = cp < 0x80 ? cp >= 0x20 && cp < 0x7F : cp_printable(cp);
        if (plain && cp != '\\' && cp != (unsigned char)quote)
            continue;
        TRY(build_part(vm, b, s, run, at - run));
        TRY(repr_escape(vm, b, cp, quote, str_tainted(s, at)));
        run = at + len;
    }
    TRY(build_part(vm, b, s, run, s->n - run));
    return build_put(vm, b, &quote, 1, false);
}

static slm_err repr_items(struct vm *vm, struct builder *b, const struct list *l, const char *open,
                          const char *close, unsigned depth) {
    TRY(build_puts(vm, b, open));
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            TRY(build_puts(vm, b, ", "));
        TRY(build_repr(vm, b, &l->items[i], depth + 1));
    }
    return build_puts(vm, b, close);
}

static slm_err repr_dict(struct vm *vm, struct builder *b, const struct dict *d, unsigned depth) {
    TRY(build_puts(vm, b, "{"));
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0)
            TRY(build_puts(vm, b, ", "));
        TRY(build_repr(vm, b, &d->entries[i].key, depth + 1));
        TRY(build_puts(vm, b, ": "));
        TRY(build_repr(vm, b, &d->entries[i].value, depth + 1));
    }
    return build_puts(vm, b, "}");
}

static slm_err repr_scalar(struct vm *vm, struct builder *b, const struct value *v) {
    char text[96];
    switch (v->type) {
    case V_NONE:
        return build_puts(vm, b, "None");
    case V_BOOL:
        return build_puts(vm, b, v->u.b ? "True" : "False");
    case V_INT:
        snprintf(text, sizeof text, "%lld", (long long)v->u.i);
        return build_puts(vm, b, text);
    case V_FLOAT:
        return build_put(vm, b, text, float_text(v->u.f, text), false);
    case V_RANGE:
        snprintf(text, sizeof text,
                 v->u.r->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
                 (long long)v->u.r->start, (long long)v->u.r->stop, (long long)v->u.r->step);
        return build_puts(vm, b, text);
    case V_LOOP:
        snprintf(text, sizeof text, "<LoopContext %zu/%zu>", v->u.loop->i, v->u.loop->n);
        return build_puts(vm, b, text);
    default:
        return vm_type_error(vm, "a %s has no text", type_name(v));
    }
}

slm_err build_repr(struct vm *vm, struct builder *b, const struct value *v, unsigned depth) {
    TRY(vm_depth(vm, depth));
    TRY(vm_charge(vm, 1));
    switch (v->type) {
    case V_UNDEF:
        return build_puts(vm, b, "Undefined");
    case V_STR:
        return repr_str(vm, b, v->u.s);
    case V_LIST:
        return repr_items(vm, b, v->u.l, "[", "]", depth);
    case V_TUPLE:
        return repr_items(vm, b, v->u.l, "(", v->u.l->n == 1 ? ",)" : ")", depth);
    case V_VIEW:
        TRY(build_puts(vm, b, type_name(v)));
        return repr_items(vm, b, v->u.l, "([", "])", depth);
    case V_DICT:
        return repr_dict(vm, b, v->u.d, depth);
    case V_NS:
        TRY(build_puts(vm, b, "<Namespace "));
        TRY(repr_dict(vm, b, v->u.d, depth));
        return build_puts(vm, b, ">");
    case V_MACRO:
        TRY(build_puts(vm, b, "<Macro "));
        TRY(repr_str(vm, b, vm->t->words[v->u.macro->def->name].str));
        return build_puts(vm, b, ">");
    default:
        return repr_scalar(vm, b, v);
    }
}

slm_err to_str(struct vm *vm, const struct value *v, const struct str **out) {
    static const struct str empty = { .s = "" };
    if (v->type == V_STR) {
        *out = v->u.s;
        return SLM_OK;
    }
    *out = &empty;
    if (v->type == V_UNDEF)
        return SLM_OK;
    struct builder b = { 0 };
    struct value text;
    TRY(build_repr(vm, &b, v, 0));
    TRY(build_done_whole(vm, &b, &text));
    *out = text.u.s;
    return SLM_OK;
}

slm_err build_value(struct vm *vm, struct builder *b, const struct value *v) {
    const struct str *s;
    TRY(to_str(vm, v, &s));
    return build_str(vm, b, s);
}

/* ---- JSON ---- */

static slm_err json_escape(struct vm *vm, struct builder *b, uint32_t cp, bool data) {
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    char text[16];
    const char *known = cp < 0x80 && cp != 0 ? strchr(from, (int)cp) : NULL;
    if (known != NULL)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else if (cp < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", cp);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10),
                 0xDC00 + ((cp - 0x10000) & 0x3FF));
    return build_put(vm, b, text, strlen(text), data);
}

static slm_err json_str(struct vm *vm, struct builder *b, const struct str *s, bool ascii) {
    size_t run = 0;
    TRY(build_puts(vm, b, "\""));
    for (size_t at = 0, len; at < s->n; at += len) {
        uint32_t cp = cp_at(s->s + at, s->n - at, &len);
        if (cp >= 0x20 && cp != '"' && cp != '\\' && !(ascii && cp > 0x7E))
            continue;
        TRY(build_part(vm, b, s, run, at - run));
        TRY(json_escape(vm, b, cp, str_tainted(s, at)));
        run = at + len;
    }
    TRY(build_part(vm, b, s, run, s->n - run));
    return build_puts(vm, b, "\"");
}

static slm_err json_newline(struct vm *vm, struct builder *b, const struct json_style *style,
                            unsigned depth) {
    if (style->indent == NULL)
        return SLM_OK;
    TRY(build_puts(vm, b, "\n"));
    for (unsigned i = 0; i < depth; i++)
        TRY(build_str(vm, b, style->indent));
    return SLM_OK;
}

static slm_err json_list(struct vm *vm, struct builder *b, const struct list *l,
                         const struct json_style *style, unsigned depth) {
    TRY(build_puts(vm, b, "["));
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            TRY(build_str(vm, b, style->item_separator));
        TRY(json_newline(vm, b, style, depth + 1));
        TRY(build_json(vm, b, &l->items[i], style, depth + 1));
    }
    if (l->n > 0)
        TRY(json_newline(vm, b, style, depth));
    return build_puts(vm, b, "]");
}

static slm_err json_number(struct vm *vm, struct builder *b, const struct value *v) {
    char text[FLOAT_TEXT_MAX];
    if (v->type == V_NONE || v->type == V_BOOL)
        return build_puts(vm, b, v->type == V_NONE ? "null" : v->u.b ? "true" : "false");
    if (v->type == V_FLOAT && (isnan(v->u.f) || isinf(v->u.f)))
        return build_puts(vm, b, isnan(v->u.f) ? "NaN" : v->u.f < 0 ? "-Infinity" : "Infinity");
    if (v->type == V_FLOAT)
        return build_put(vm, b, text, float_text(v->u.f, text), false);
    snprintf(text, sizeof text, "%lld", (long long)v->u.i);
    return build_puts(vm, b, text);
}

static slm_err json_key(struct vm *vm, struct builder *b, const struct value *key, bool ascii) {
    if (key->type == V_STR)
        return json_str(vm, b, key->u.s, ascii);
    if (!is_number(key) && key->type != V_NONE)
        return vm_type_error(vm, "a %s cannot be a key in JSON", type_name(key));
    TRY(build_puts(vm, b, "\""));
    TRY(json_number(vm, b, key));
    return build_puts(vm, b, "\"");
}

/* Order of a dict's entries by key: an insertion sort over indexes, since objects in prompts are
 * small; each comparison is charged. */
static slm_err json_order(struct vm *vm, const struct dict *d, size_t **out) {
    void *p;
    TRY(vm_alloc(vm, d->n, sizeof(size_t), &p));
    size_t *order = p;
    for (size_t i = 0; i < d->n; i++) {
        size_t at = i;
        for (; at > 0; at--) {
            int c;
            bool unordered;
            TRY(vm_charge(vm, 1));
            TRY(value_order(vm, &d->entries[order[at - 1]].key, &d->entries[i].key, 0, &c,
                            &unordered));
            if (c <= 0)
                break;
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    *out = order;
    return SLM_OK;
}

static slm_err json_dict(struct vm *vm, struct builder *b, const struct dict *d,
                         const struct json_style *style, unsigned depth) {
    size_t *order = NULL;
    if (style->sorted)
        TRY(json_order(vm, d, &order));
    TRY(build_puts(vm, b, "{"));
    for (size_t i = 0; i < d->n; i++) {
        const struct entry *e = &d->entries[order != NULL ? order[i] : i];
        if (i > 0)
            TRY(build_str(vm, b, style->item_separator));
        TRY(json_newline(vm, b, style, depth + 1));
        TRY(json_key(vm, b, &e->key, style->ascii));
        TRY(build_str(vm, b, style->key_separator));
        TRY(build_json(vm, b, &e->value, style, depth + 1));
    }
    if (d->n > 0)
        TRY(json_newline(vm, b, style, depth));
    return build_puts(vm, b, "}");
}

slm_err build_json(struct vm *vm, struct builder *b, const struct value *v,
                   const struct json_style *style, unsigned depth) {
    TRY(vm_depth(vm, depth));
    TRY(vm_charge(vm, 1));
    switch (v->type) {
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_FLOAT:
        return json_number(vm, b, v);
    case V_STR:
        return json_str(vm, b, v->u.s, style->ascii);
    case V_LIST:
    case V_TUPLE:
        return json_list(vm, b, v->u.l, style, depth);
    case V_DICT:
        return json_dict(vm, b, v->u.d, style, depth);
    case V_UNDEF:
        return undefined_error(vm, v);
    default:
        return vm_type_error(vm, "a %s cannot be written as JSON", type_name(v));
    }
}
