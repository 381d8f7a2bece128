/* json.c - small JSON documents as jansson trees, typed access to their fields, and quoting. */
#include "base/json.h"

#include <string.h>

#include "base/utf8.h"

slm_err json_text(const char *text, size_t n, json_t **out, slm_why *why) {
    *out = NULL;
    /* jansson overlooks a zero byte behind a number; the grammar has it nowhere */
    const char *zero = n > 0 ? memchr(text, 0, n) : NULL;
    if (zero != NULL)
        return fail(why, SLM_E_FORMAT, (uint64_t)(zero - text), "zero byte in JSON");
    json_error_t error;
    /* \u0000 inside a string is refused too: every consumer of these trees uses C strings. */
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (root == NULL) {
        if (json_error_code(&error) == json_error_out_of_memory)
            return fail_nomem(why, "JSON", n);
        uint64_t offset = error.position >= 0 ? (uint64_t)error.position : SLM_NO_OFFSET;
        return fail(why, SLM_E_FORMAT, offset, "JSON line %d: %s", error.line, error.text);
    }
    *out = root;
    return SLM_OK;
}

/* ---- typed fields ---- */

static const char *kind_name(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* The field, or NULL when it is absent or null, or when an earlier one was wrong. */
static const json_t *wanted(const struct json_want *w, const json_t *obj, const char *key) {
    if (w->err != SLM_OK)
        return NULL;
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

static bool wrong_type(struct json_want *w, const json_t *v, const char *key,
                       const char *expected) {
    w->err = fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s: '%s' is %s, expected %s", w->where, key,
                  kind_name(v), expected);
    return false;
}

bool json_u32(struct json_want *w, const json_t *obj, const char *key, uint32_t *out) {
    const json_t *v = wanted(w, obj, key);
    if (v == NULL)
        return false;
    if (!json_is_integer(v))
        return wrong_type(w, v, key, "a whole number");
    json_int_t value = json_integer_value(v);
    if (value < 0 || value > (json_int_t)UINT32_MAX) {
        w->err = fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s: '%s' is %lld, expected 0 to %lu",
                      w->where, key, (long long)value, (unsigned long)UINT32_MAX);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

bool json_f64(struct json_want *w, const json_t *obj, const char *key, double *out) {
    const json_t *v = wanted(w, obj, key);
    if (v == NULL)
        return false;
    if (!json_is_number(v))
        return wrong_type(w, v, key, "a number");
    *out = json_number_value(v);
    return true;
}

bool json_bool(struct json_want *w, const json_t *obj, const char *key, bool *out) {
    const json_t *v = wanted(w, obj, key);
    if (v == NULL)
        return false;
    if (!json_is_boolean(v))
        return wrong_type(w, v, key, "true or false");
    *out = json_is_true(v);
    return true;
}

bool json_str(struct json_want *w, const json_t *obj, const char *key, const char **out) {
    const json_t *v = wanted(w, obj, key);
    if (v == NULL)
        return false;
    if (!json_is_string(v))
        return wrong_type(w, v, key, "a string");
    *out = json_string_value(v);
    return true;
}

/* ---- writing ---- */

/* Bytes from s that stand for themselves inside a JSON string. */
static size_t plain_run(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint8_t c = (uint8_t)s[i];
        if (c < 0x20 || c == '"' || c == '\\')
            break;
        if (c < 0x80) {
            i++;
            continue;
        }
        uint32_t cp;
        size_t len = utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

void json_quote(struct buf *b, const char *s, size_t n) {
    static const char short_names[] = "\b\t\n\f\r\"\\", short_letters[] = "btnfr\"\\";
    buf_putc(b, '"');
    while (n > 0) {
        size_t run = plain_run(s, n);
        buf_put(b, s, run);
        s += run;
        n -= run;
        if (n == 0)
            break;
        uint8_t c = (uint8_t)*s;
        const char *found = c != 0 ? strchr(short_names, c) : NULL;
        if (c >= 0x80) {
            buf_puts(b, "\xef\xbf\xbd"); /* U+FFFD, one for each byte that is no UTF-8 */
        } else if (found != NULL) {
            buf_putc(b, '\\');
            buf_putc(b, short_letters[found - short_names]);
        } else {
            buf_printf(b, "\\u%04x", c);
        }
        s++;
        n--;
    }
    buf_putc(b, '"');
}
