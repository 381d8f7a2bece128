/* json.c - small JSON documents as jansson trees, typed access to their fields, and quoting. */
#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/number.h"
#include "base/utf8.h"

/* ---- trees ----
 * Built from the pull parser's events. jansson's own parser is not used: when memory is refused while
 * it collects a token it can leave a byte out and go on. */

#define KEY_MAX 1024 /* bytes of a key, with its zero */

struct tree {
    struct json_pull p;
    json_t *root;
    unsigned depth;
    json_t *open[JSON_PULL_DEPTH]; /* borrowed: containers that are being filled */
    void *place[JSON_PULL_DEPTH];  /* objects: where the value of the last key goes */
};

/* Takes a value (NULL: it could not be made) into its container. */
static slm_err tree_put(struct tree *t, json_t *v) {
    int rc = 0;
    if (v == NULL)
        return json_pull_fail(&t->p, SLM_E_NOMEM, "out of memory for JSON");
    if (t->depth == 0)
        t->root = v;
    else if (json_is_array(t->open[t->depth - 1]))
        rc = json_array_append_new(t->open[t->depth - 1], v);
    else
        rc = json_object_iter_set_new(t->open[t->depth - 1], t->place[t->depth - 1], v);
    return rc == 0 ? SLM_OK : json_pull_fail(&t->p, SLM_E_NOMEM, "out of memory for JSON");
}

/* \u0000 is refused in keys and strings: every consumer of these trees uses C strings. */
static slm_err tree_no_zero(struct tree *t) {
    if (t->p.n > 0 && memchr(t->p.text, 0, t->p.n) != NULL)
        return json_pull_fail(&t->p, SLM_E_FORMAT, "zero byte in a JSON string");
    return SLM_OK;
}

/* The key gets null for now, and its place is remembered. */
static slm_err tree_key(struct tree *t) {
    char key[KEY_MAX];
    json_t *object = t->open[t->depth - 1];
    TRY(tree_no_zero(t));
    if (t->p.n >= sizeof key)
        return json_pull_fail(&t->p, SLM_E_BUDGET, "JSON key of %zu bytes, at most %d", t->p.n,
                              KEY_MAX - 1);
    memcpy(key, t->p.text, t->p.n);
    key[t->p.n] = '\0';
    if (json_object_get(object, key) != NULL)
        return json_pull_fail(&t->p, SLM_E_FORMAT, "duplicate JSON key '%s'", key);
    if (json_object_set_new_nocheck(object, key, json_null()) != 0)
        return json_pull_fail(&t->p, SLM_E_NOMEM, "out of memory for JSON");
    t->place[t->depth - 1] = json_object_iter_at(object, key);
    return SLM_OK;
}

/* A number with a point or an exponent. */
static slm_err tree_real(struct tree *t) {
    double value;
    if (!number_read(t->p.text, t->p.n, &value))
        return json_pull_fail(&t->p, SLM_E_BUDGET, "JSON number of %zu characters, at most %d",
                              t->p.n, NUMBER_TEXT_MAX);
    if (!isfinite(value))
        return json_pull_fail(&t->p, SLM_E_FORMAT, "JSON number is out of range");
    return tree_put(t, json_real(value));
}

static slm_err tree_number(struct tree *t) {
    int64_t whole;
    if (json_pull_int(&t->p, &whole))
        return tree_put(t, json_integer(whole));
    for (size_t i = 0; i < t->p.n; i++)
        if (t->p.text[i] == '.' || t->p.text[i] == 'e' || t->p.text[i] == 'E')
            return tree_real(t);
    return json_pull_fail(&t->p, SLM_E_FORMAT, "JSON whole number is out of range");
}

static slm_err tree_event(struct tree *t, enum json_event event) {
    switch (event) {
    case PULL_OBJECT:
    case PULL_ARRAY: {
        json_t *v = event == PULL_OBJECT ? json_object() : json_array();
        TRY(tree_put(t, v));
        t->open[t->depth++] = v;
        return SLM_OK;
    }
    case PULL_OBJECT_END:
    case PULL_ARRAY_END:
        t->depth--;
        return SLM_OK;
    case PULL_KEY:
        return tree_key(t);
    case PULL_STRING:
        TRY(tree_no_zero(t));
        return tree_put(t, json_stringn_nocheck(t->p.text, t->p.n));
    case PULL_NUMBER:
        return tree_number(t);
    case PULL_TRUE:
        return tree_put(t, json_true());
    case PULL_FALSE:
        return tree_put(t, json_false());
    case PULL_NULL:
        return tree_put(t, json_null());
    case PULL_ERROR:
    case PULL_END:
        break;
    }
    return t->p.err;
}

slm_err json_text(const char *text, size_t n, json_t **out, slm_why *why) {
    struct tree t = { .root = NULL };
    enum json_event event;
    slm_err err = SLM_OK;
    *out = NULL;
    json_pull_init(&t.p, NULL, text, n, why);
    do {
        event = json_next(&t.p);
        err = tree_event(&t, event);
    } while (err == SLM_OK && event != PULL_END);
    json_pull_free(&t.p);
    if (err == SLM_OK)
        *out = t.root;
    else
        json_decref(t.root);
    return err;
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
