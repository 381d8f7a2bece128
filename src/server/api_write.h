/* api_write.h - JSON text written straight into a buffer, in the order of the calls.
 *
 * A comma is put where one is needed: the last byte tells. key NULL: an item of an array, or the whole
 * document. Keys are written as they are (static, plain ASCII); texts are quoted, invalid UTF-8 in them
 * becomes U+FFFD. */
#ifndef SLM_SERVER_API_WRITE_H
#define SLM_SERVER_API_WRITE_H

#include <jansson.h>

#include "base/mem.h"

void put_open(struct buf *b, const char *key, char bracket); /* '{' or '[' */
void put_close(struct buf *b, char bracket);                 /* '}' or ']' */
void put_text(struct buf *b, const char *key, const char *s, size_t n);
void put_str(struct buf *b, const char *key, const char *s); /* NULL: null */
void put_int(struct buf *b, const char *key, int64_t v);
void put_size(struct buf *b, const char *key, uint64_t v);
/* Shortest of %.9g (a float) or %.15g; what is no finite number becomes -9999 (below) or null. */
void put_float(struct buf *b, const char *key, float v);
void put_double(struct buf *b, const char *key, double v);
void put_bool(struct buf *b, const char *key, bool v);
void put_null(struct buf *b, const char *key);
/* JSON text as it is, and a tree (compact; NULL: null). */
void put_raw(struct buf *b, const char *key, const char *json, size_t n);
void put_tree(struct buf *b, const char *key, const json_t *tree);
/* A tree as text [n] of its own, owned (free); NULL when out of memory. */
char *tree_text(const json_t *tree, size_t *n);
/* Seconds since the epoch as RFC 3339 in UTC with nanoseconds: "2026-01-02T03:04:05.000000006Z". */
void put_time(struct buf *b, const char *key, int64_t ns);

#endif
