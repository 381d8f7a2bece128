/* api_write.c - JSON text written straight into a buffer. */
#include "server/api_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"

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

void put_tree(struct buf *b, const char *key, const json_t *tree) {
    char *text = tree != NULL ? json_dumps(tree, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (tree != NULL && text == NULL)
        b->err = b->err != SLM_OK ? b->err : SLM_E_NOMEM;
    if (text != NULL)
        put_raw(b, key, text, strlen(text));
    else
        put_null(b, key);
    free(text);
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
