/* api_write.c - JSON text written straight into a buffer. */
#include "server/api_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/number.h"

/* A comma follows a value; behind an opening bracket, a colon, white space or nothing there is none. */
static void item(struct buf *b, const char *key) {
    char last = b->len > 0 ? b->data[b->len - 1] : '\n';
    if (strchr("{[:, \n", last) == NULL)
        buf_putc(b, ',');
    if (key != NULL) {
        buf_putc(b, '"');
        buf_puts(b, key);
        buf_puts(b, "\":");
    }
}

void put_open(struct buf *b, const char *key, char bracket) {
    item(b, key);
    buf_putc(b, bracket);
}

void put_close(struct buf *b, char bracket) {
    buf_putc(b, bracket);
}

void put_text(struct buf *b, const char *key, const char *s, size_t n) {
    item(b, key);
    json_quote(b, n > 0 ? s : "", n);
}

void put_str(struct buf *b, const char *key, const char *s) {
    if (s != NULL)
        put_text(b, key, s, strlen(s));
    else
        put_null(b, key);
}

void put_int(struct buf *b, const char *key, int64_t v) {
    item(b, key);
    buf_printf(b, "%lld", (long long)v);
}

void put_size(struct buf *b, const char *key, uint64_t v) {
    item(b, key);
    buf_printf(b, "%llu", (unsigned long long)v);
}

static void put_number(struct buf *b, const char *key, double v, int digits) {
    char text[40];
    if (isnan(v)) {
        put_null(b, key);
        return;
    }
    snprintf(text, sizeof text, "%.*g", digits, v < -9999.0 ? -9999.0 : v > 1e300 ? 1e300 : v);
    for (char *p = text; *p != '\0'; p++)
        if (strchr("0123456789+-e", *p) == NULL)
            *p = '.'; /* whatever the locale has there */
    item(b, key);
    buf_puts(b, text);
}

void put_float(struct buf *b, const char *key, float v) {
    put_number(b, key, (double)v, 9);
}

void put_double(struct buf *b, const char *key, double v) {
    put_number(b, key, v, 15);
}

void put_bool(struct buf *b, const char *key, bool v) {
    item(b, key);
    buf_puts(b, v ? "true" : "false");
}

void put_null(struct buf *b, const char *key) {
    item(b, key);
    buf_puts(b, "null");
}

void put_raw(struct buf *b, const char *key, const char *json, size_t n) {
    item(b, key);
    buf_put(b, json, n);
}

/* ------------------------------------------------------------------ trees
 * Not by json_dumps, which can leave out text when memory is refused, and recurses. */

#define TREE_DEPTH (2 * JSON_PULL_DEPTH) /* what was read has half of it at most */

/* The shortest text that reads as the same number; always with a point or an exponent. */
static void put_real(struct buf *b, double v) {
    char text[40];
    double again = 0;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        for (char *p = text; *p != '\0'; p++)
            if (strchr("0123456789+-e", *p) == NULL)
                *p = '.';
        if (number_read(text, strlen(text), &again) && again == v)
            break;
    }
    buf_puts(b, text);
    if (strpbrk(text, ".e") == NULL)
        buf_puts(b, ".0");
}

static void put_leaf(struct buf *b, const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_STRING:
        json_quote(b, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        buf_printf(b, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        put_real(b, json_real_value(v));
        break;
    case JSON_TRUE:
        buf_puts(b, "true");
        break;
    case JSON_FALSE:
        buf_puts(b, "false");
        break;
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        buf_puts(b, "null");
        break;
    }
}

struct level {
    json_t *v; /* an object or array that is being written */
    void *iter;
    size_t i; /* members that were begun */
};

/* The next member of a container, its key written; NULL: it is closed now. */
static const json_t *next_member(struct buf *b, struct level *l) {
    bool object = json_is_object(l->v);
    if (object)
        l->iter = l->i == 0 ? json_object_iter(l->v) : json_object_iter_next(l->v, l->iter);
    if (object ? l->iter == NULL : l->i == json_array_size(l->v)) {
        buf_putc(b, object ? '}' : ']');
        return NULL;
    }
    if (l->i++ > 0)
        buf_putc(b, ',');
    if (!object)
        return json_array_get(l->v, l->i - 1);
    const char *key = json_object_iter_key(l->iter);
    json_quote(b, key, strlen(key));
    buf_putc(b, ':');
    return json_object_iter_value(l->iter);
}

void put_tree(struct buf *b, const char *key, const json_t *tree) {
    struct level stack[TREE_DEPTH];
    size_t depth = 0;
    const json_t *v = tree;
    item(b, key);
    if (tree == NULL)
        buf_puts(b, "null");
    while (v != NULL) {
        if (json_is_object(v) || json_is_array(v)) {
            if (depth == TREE_DEPTH) {
                b->err = b->err != SLM_OK ? b->err : SLM_E_BUDGET;
                return;
            }
            buf_putc(b, json_is_object(v) ? '{' : '[');
            stack[depth++] = (struct level){ .v = (json_t *)(uintptr_t)v };
        } else {
            put_leaf(b, v);
        }
        for (v = NULL; depth > 0 && v == NULL;) {
            v = next_member(b, &stack[depth - 1]);
            depth -= v == NULL;
        }
    }
}

char *tree_text(const json_t *tree, size_t *n) {
    struct buf b;
    buf_init(&b, NULL, (size_t)1 << 28);
    put_tree(&b, NULL, tree);
    *n = b.len;
    char *text = buf_take(&b);
    buf_free(&b);
    return text;
}

void put_time(struct buf *b, const char *key, int64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    char text[64] = "1970-01-01T00:00:00", all[96];
    if (gmtime_r(&seconds, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(all, sizeof all, "%s.%09dZ", text, (int)(ns % 1000000000));
    put_str(b, key, all);
}
