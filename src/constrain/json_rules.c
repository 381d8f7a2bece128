/* json_rules.c - the rules that every grammar of JSON shares, and the grammar of any object.
 *
 * Numbers have one of the spellings of RFC 8259 with at most 18 digits before the point, 17 behind it
 * and 2 in the exponent: what every reader can hold, and no way to write digits for ever. */
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "constrain/chars.h"

#define WHOLE_DIGITS 18
#define FRACTION_DIGITS 17
#define EXPONENT_DIGITS 2

void rule_null(struct build *b, uint32_t from, uint32_t to) {
    build_text_to(b, from, b->python ? "None" : "null", 4, to);
}

void rule_true(struct build *b, uint32_t from, uint32_t to) {
    build_text_to(b, from, b->python ? "True" : "true", 4, to);
}

void rule_false(struct build *b, uint32_t from, uint32_t to) {
    build_text_to(b, from, b->python ? "False" : "false", 5, to);
}

uint32_t rule_string(struct build *b) {
    if (b->string == NODE_NONE) {
        b->string = build_node(b);
        uint32_t body;
        if (b->python) { /* one spelling: escapes of the two languages differ */
            struct chars *all = chars_length(b, 0, UINT32_MAX);
            body = chars_emit(b, all, CHARS_STRING);
        } else
            body = chars_any_string(b, 0, UINT32_MAX);
        build_edge(b, b->string, '"', '"', body);
    }
    return b->string;
}

/* From `from` one to `most` digits; each node behind one has `flags` and, with `then`, the edges that
 * `then` has. */
static void digits(struct build *b, uint32_t from, unsigned first, int most, uint32_t then) {
    for (int i = 0; i < most && b->err == SLM_OK; i++) {
        uint32_t next = build_final(b);
        if (then != NODE_NONE)
            build_alias(b, next, then);
        build_edge(b, from, i == 0 ? first : '0', '9', next);
        from = next;
    }
}

static uint32_t number(struct build *b, bool whole) {
    uint32_t start = build_node(b), minus = build_node(b), zero = build_final(b);
    uint32_t then = NODE_NONE;
    if (!whole) {
        uint32_t exponent = build_node(b), e = build_node(b), sign = build_node(b);
        uint32_t point = build_node(b);
        then = build_node(b); /* what may follow the digits before the point */
        build_edge(b, exponent, 'e', 'e', e);
        build_edge(b, exponent, 'E', 'E', e);
        build_edge(b, e, '+', '+', sign);
        build_edge(b, e, '-', '-', sign);
        build_alias(b, e, sign);
        digits(b, sign, '0', EXPONENT_DIGITS, NODE_NONE);
        build_edge(b, then, '.', '.', point);
        digits(b, point, '0', FRACTION_DIGITS, exponent);
        build_alias(b, then, exponent);
        build_alias(b, zero, then);
    }
    build_edge(b, start, '-', '-', minus);
    build_alias(b, start, minus);
    build_edge(b, minus, '0', '0', zero);
    digits(b, minus, '1', WHOLE_DIGITS, then);
    return start;
}

uint32_t rule_number(struct build *b) {
    if (b->number == NODE_NONE)
        b->number = number(b, false);
    return b->number;
}

uint32_t rule_integer(struct build *b) {
    if (b->integer == NODE_NONE)
        b->integer = number(b, true);
    return b->integer;
}

uint32_t rule_any(struct build *b) {
    if (b->any != NODE_NONE)
        return b->any;
    uint32_t any = b->any = build_node(b), end = build_final(b);
    rule_null(b, any, end);
    rule_true(b, any, end);
    rule_false(b, any, end);
    build_alias(b, any, rule_string(b));
    build_alias(b, any, rule_number(b));
    build_alias(b, any, rule_any_object(b));
    uint32_t first = build_node(b), item = build_node(b), after = build_node(b);
    build_edge(b, any, '[', '[', build_spaced(b, first));
    build_edge(b, first, ']', ']', end);
    build_alias(b, first, item);
    build_call(b, item, any, build_spaced(b, after));
    build_edge(b, after, ']', ']', end);
    if (b->spaced)
        build_edge(b, after, ',', ',', build_spaced(b, item));
    else
        build_text_to(b, after, ", ", 2, item);
    return any;
}

uint32_t rule_any_object(struct build *b) {
    if (b->any_object != NODE_NONE)
        return b->any_object;
    uint32_t start = b->any_object = build_node(b), end = build_final(b);
    uint32_t first = build_node(b), key = build_node(b), colon = build_node(b);
    uint32_t value = build_node(b), after = build_node(b);
    struct chars *keys = chars_length(b, 0, UINT32_MAX);
    build_edge(b, start, '{', '{', build_spaced(b, first));
    build_edge(b, first, '}', '}', end);
    build_alias(b, first, key);
    build_push(b, key, '"', '"', chars_emit(b, keys, CHARS_KEY), build_spaced(b, colon));
    build_call(b, value, rule_any(b), build_spaced(b, after));
    build_edge(b, after, '}', '}', end);
    if (b->spaced) {
        build_edge(b, colon, ':', ':', build_spaced(b, value));
        build_edge(b, after, ',', ',', build_spaced(b, key));
    } else {
        build_text_to(b, colon, ": ", 2, value);
        build_text_to(b, after, ", ", 2, key);
    }
    return start;
}

/* ------------------------------------------------------------------ constants */

void rule_quote(struct buf *out, const char *s, size_t n) {
    static const char letters[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        const char *known = s[i] != '\0' ? strchr(values, s[i]) : NULL;
        if (known != NULL) {
            buf_putc(out, '\\');
            buf_putc(out, letters[known - values]);
        } else if ((uint8_t)s[i] < 0x20)
            buf_printf(out, "\\u%04x", (unsigned)(uint8_t)s[i]);
        else
            buf_putc(out, s[i]);
    }
    buf_putc(out, '"');
}

/* The fewest digits that read back as the same number. */
static void spell_real(struct buf *out, double value) {
    char text[32];
    for (int digits_n = 1; digits_n <= 17; digits_n++) {
        double back;
        snprintf(text, sizeof text, "%.*g", digits_n, value);
        for (char *p = text; *p != '\0'; p++)
            *p = *p == ',' ? '.' : *p; /* some locales */
        if (number_read(text, strlen(text), &back) && back == value)
            break;
    }
    buf_puts(out, text);
}

static void spell_scalar(struct build *b, const json_t *v, struct buf *out) {
    switch (json_typeof(v)) {
    case JSON_STRING:
        rule_quote(out, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        buf_printf(out, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        spell_real(out, json_real_value(v));
        break;
    case JSON_TRUE:
        buf_puts(out, b->python ? "True" : "true");
        break;
    case JSON_FALSE:
        buf_puts(out, b->python ? "False" : "false");
        break;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_NULL:
        buf_puts(out, b->python ? "None" : "null");
        break;
    }
}

struct spell_level {
    const json_t *value;
    void *iter;   /* object: next member */
    size_t index; /* members written */
};
#define SPELL_DEPTH 128

/* One step: writes what comes before the next member and gives it, or ends the container. */
static const json_t *spell_member(struct spell_level *l, const char *comma, const char *colon,
                                  struct buf *out) {
    bool object = json_is_object(l->value);
    bool done = object ? l->iter == NULL : l->index >= json_array_size(l->value);
    if (done) {
        buf_putc(out, object ? '}' : ']');
        return NULL;
    }
    if (l->index++ > 0)
        buf_puts(out, comma);
    if (!object)
        return json_array_get(l->value, l->index - 1);
    const char *key = json_object_iter_key(l->iter);
    const json_t *member = json_object_iter_value(l->iter);
    rule_quote(out, key, strlen(key));
    buf_puts(out, colon);
    l->iter = json_object_iter_next((json_t *)(uintptr_t)l->value, l->iter);
    return member;
}

bool rule_spell(struct build *b, const json_t *value, struct buf *out) {
    struct spell_level levels[SPELL_DEPTH];
    unsigned depth = 0;
    const json_t *v = value;
    for (;;) {
        if (!build_goes_on(b) || out->err != SLM_OK)
            return false;
        if (v != NULL && (json_is_object(v) || json_is_array(v))) {
            if (depth == SPELL_DEPTH) {
                build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "a constant is nested deeper than %d",
                           SPELL_DEPTH);
                return false;
            }
            levels[depth++] = (struct spell_level){
                v, json_is_object(v) ? json_object_iter((json_t *)(uintptr_t)v) : NULL, 0
            };
            buf_putc(out, json_is_object(v) ? '{' : '[');
        } else if (v != NULL)
            spell_scalar(b, v, out);
        else
            depth--;
        if (depth == 0)
            return true;
        v = spell_member(&levels[depth - 1], ", ", ": ", out);
    }
}

/* ------------------------------------------------------------------ grammars of their own */

slm_err grammar_json(const struct slm_hooks *h, const struct grammar_limits *limits,
                     struct grammar **out, slm_why *why) {
    struct build b;
    slm_err err = build_init(&b, h, limits, why);
    if (err == SLM_OK)
        err = build_finish(&b, rule_any_object(&b), out);
    build_free(&b);
    return err;
}

slm_err grammar_regex(const struct slm_hooks *h, const char *pattern, size_t n,
                      const struct grammar_limits *limits, struct grammar **out, slm_why *why) {
    struct build b;
    slm_err err = build_init(&b, h, limits, why);
    if (err == SLM_OK) {
        struct chars *c = chars_regex(&b, pattern, n, false, "");
        chars_trim(&b, c);
        uint32_t start = chars_emit(&b, c, CHARS_RAW);
        err = build_finish(&b, start, out);
    }
    build_free(&b);
    return err;
}

slm_err grammar_choices(const struct slm_hooks *h, const json_t *choices,
                        const struct grammar_limits *limits, struct grammar **out, slm_why *why) {
    if (!json_is_array(choices) || json_array_size(choices) == 0)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "choices are no array of strings, or empty");
    for (size_t i = 0; i < json_array_size(choices); i++)
        if (json_string_length(json_array_get(choices, i)) == 0)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "choice %zu is no string, or empty", i);
    struct build b;
    slm_err err = build_init(&b, h, limits, why);
    uint32_t start = build_node(&b);
    for (size_t i = 0; i < json_array_size(choices) && b.err == SLM_OK; i++) {
        const json_t *c = json_array_get(choices, i);
        uint32_t end = build_word(&b, start, json_string_value(c), json_string_length(c));
        build_mark(&b, end, NODE_FINAL);
    }
    if (err == SLM_OK)
        err = build_finish(&b, start, out);
    build_free(&b);
    return err;
}
