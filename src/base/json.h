/* json.h - two ways to read JSON.
 *
 * Small documents (config.json, requests): jansson trees through json_text(), with duplicate keys
 * refused.
 * Large ones (tokenizer.json with 500,000 merges, safetensors headers): a pull parser that keeps
 * no tree and does not recurse. Grammar: RFC 8259, strict UTF-8; json_text reads with it too. */
#ifndef SLM_BASE_JSON_H
#define SLM_BASE_JSON_H

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"

/* Parses text [n]; *out is a new reference, NULL on failure. With the byte offset: E_FORMAT for
 * syntax, a repeated key, \u0000, a number out of range; E_ENCODING; E_BUDGET for depth, a key of
 * more than 1023 bytes, a fraction of more than 512 characters. E_NOMEM. */
slm_err json_text(const char *text, size_t n, json_t **out, slm_why *why);

/* Typed field access. *out is unchanged and false is returned when the field is absent or null;
 * a field of the wrong type is an error: sets *err (first one kept) to SLM_E_FORMAT and fills why. */
struct json_want {
    slm_err err;
    slm_why *why;      /* may be NULL */
    const char *where; /* "config.json" */
};
bool json_u32(struct json_want *w, const json_t *obj, const char *key, uint32_t *out);
bool json_f64(struct json_want *w, const json_t *obj, const char *key, double *out);
bool json_bool(struct json_want *w, const json_t *obj, const char *key, bool *out);
bool json_str(struct json_want *w, const json_t *obj, const char *key,
              const char **out); /* borrowed */

/* ---- pull parser ----
 * Events are named PULL_: jansson owns JSON_OBJECT and its sisters. The first failure sticks. */
enum json_event {
    PULL_ERROR,
    PULL_END, /* document complete */
    PULL_OBJECT,
    PULL_OBJECT_END,
    PULL_ARRAY,
    PULL_ARRAY_END,
    PULL_KEY,    /* text, n: the key */
    PULL_STRING, /* text, n */
    PULL_NUMBER, /* text, n: as written */
    PULL_TRUE,
    PULL_FALSE,
    PULL_NULL
};
#define JSON_PULL_DEPTH 128 /* deeper nesting is SLM_E_BUDGET */
struct json_pull {
    const char *data; /* borrowed [size] */
    size_t size, pos;
    const char *text; /* unescaped text of the last key, string or number: [n], in the input itself
                         or in scratch; valid until the next call; may hold zero bytes */
    size_t n;
    unsigned depth;
    uint8_t stack[JSON_PULL_DEPTH];
    uint8_t state;
    struct buf scratch;
    slm_err err;
    slm_why *why;
};
/* h and data are borrowed until json_pull_free. */
void json_pull_init(struct json_pull *p, const struct slm_hooks *h, const char *data, size_t size,
                    slm_why *why);
/* Errors: SLM_E_FORMAT (not JSON), SLM_E_ENCODING (bad UTF-8 in a string), SLM_E_BUDGET (depth),
 * SLM_E_NOMEM. After PULL_ERROR or PULL_END the same event is returned again. */
enum json_event json_next(struct json_pull *p);
/* Skips the rest of the value whose first event was given (PULL_KEY: the key's value). */
void json_skip(struct json_pull *p, enum json_event first);
/* Whole number in the last PULL_NUMBER; false if it is no integer or out of int64. */
bool json_pull_int(const struct json_pull *p, int64_t *out);
void json_pull_free(struct json_pull *p);
/* Marks the parser as failed at its position and returns the error. */
slm_err json_pull_fail(struct json_pull *p, slm_err code, const char *format, ...)
    ATTR_PRINTF(3, 4);

/* Appends s as a JSON string literal with quotes; invalid UTF-8 becomes U+FFFD. */
void json_quote(struct buf *b, const char *s, size_t n);

#endif
