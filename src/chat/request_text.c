/* request_text.c - JSON values as text: as Python's json.dumps(ensure_ascii=False) writes them, which is
 * what models have seen, and as Python literals. No recursion: what is open is on a stack. */
#include "chat/request_unit.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "chat/jinja.h"

struct open_value {
    json_t *v; /* borrowed */
    size_t i;  /* items written */
    void *it;  /* objects: the next member */
};

static void python_string(struct buf *b, const char *s, size_t n) {
    char text[8];
    buf_putc(b, '"');
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '"' || c == '\\') {
            buf_putc(b, '\\');
            buf_putc(b, c);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            buf_puts(b, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
        } else if ((unsigned char)c < 0x20 || c == 0x7f) {
            snprintf(text, sizeof text, "\\x%02x", (unsigned)(unsigned char)c);
            buf_puts(b, text);
        } else {
            buf_putc(b, c);
        }
    }
    buf_putc(b, '"');
}

static void write_string(struct buf *b, const char *s, size_t n, enum value_style style) {
    if (style == STYLE_PYTHON)
        python_string(b, s, n);
    else
        json_quote(b, s, n);
}

/* Everything but arrays and objects. */
static void write_scalar(struct buf *b, const json_t *v, enum value_style style) {
    static const char *const words[2][3] = { { "true", "false", "null" },
                                             { "True", "False", "None" } };
    char text[FLOAT_TEXT_MAX];
    switch (json_typeof(v)) {
    case JSON_STRING:
        write_string(b, json_string_value(v), json_string_length(v), style);
        break;
    case JSON_INTEGER:
        buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        buf_put(b, text, float_text(json_real_value(v), text));
        break;
    case JSON_TRUE:
        buf_puts(b, words[style][0]);
        break;
    case JSON_FALSE:
        buf_puts(b, words[style][1]);
        break;
    default:
        buf_puts(b, words[style][2]);
    }
}

/* The next item of what is open; its key is written. NULL: there is none left. */
static json_t *next_item(struct buf *b, struct open_value *o, enum value_style style) {
    if (json_is_array(o->v)) {
        json_t *v = json_array_get(o->v, o->i);
        if (v != NULL && o->i++ > 0)
            buf_puts(b, ", ");
        return v;
    }
    if (o->it == NULL)
        return NULL;
    if (o->i++ > 0)
        buf_puts(b, ", ");
    const char *key = json_object_iter_key(o->it);
    json_t *v = json_object_iter_value(o->it);
    write_string(b, key, strlen(key), style);
    buf_puts(b, ": ");
    o->it = json_object_iter_next(o->v, o->it);
    return v;
}

slm_err request_value(struct buf *b, const json_t *value, enum value_style style, slm_why *why) {
    struct open_value open[JSON_PULL_DEPTH];
    unsigned depth = 0;
    /* jansson's iterators want a pointer that is not const, and change nothing */
    union {
        const json_t *from;
        json_t *to;
    } root = { .from = value };
    for (json_t *v = root.to; v != NULL || depth > 0;) {
        if (v != NULL && (json_is_array(v) || json_is_object(v))) {
            if (depth == JSON_PULL_DEPTH)
                return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "JSON is nested deeper than %d",
                            JSON_PULL_DEPTH);
            buf_putc(b, json_is_array(v) ? '[' : '{');
            open[depth++] = (struct open_value){ .v = v, .it = json_object_iter(v) };
        } else if (v != NULL) {
            write_scalar(b, v, style);
        }
        v = depth > 0 ? next_item(b, &open[depth - 1], style) : NULL;
        if (v == NULL && depth > 0) {
            depth--;
            buf_putc(b, json_is_array(open[depth].v) ? ']' : '}');
        }
    }
    return SLM_OK;
}
