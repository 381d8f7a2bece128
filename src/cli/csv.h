/* csv.h - comma-separated values as RFC 4180 has them, record by record from pieces of any size.
 *
 *     record = field *("," field) line-end       line-end = CR LF or LF; may lack at the end of input
 *     field  = plain or quoted                   plain: no quote, comma, CR or LF
 *     quoted = DQUOTE (anything, a quote twice) DQUOTE
 * A byte order mark at the beginning is skipped, and so are empty lines. Bytes are not looked at beyond
 * that: they may be zero, and need not be UTF-8. A record that is malformed is reported once, at its
 * end: the line end after the place where it went wrong (which a broken quote may have swallowed rows
 * before), and reading goes on behind it. */
#ifndef SLM_CLI_CSV_H
#define SLM_CLI_CSV_H

#include "base/mem.h"

#define CSV_FIELDS_MAX 65536 /* of one record */

enum csv_event {
    CSV_MORE,   /* all bytes were taken, the record goes on */
    CSV_RECORD, /* fields [n_fields] */
    CSV_BAD,    /* a malformed record; `wrong` says how, `line` where it began */
    CSV_NOMEM
};
struct csv {
    struct buf text; /* the fields one after another, each followed by a zero byte */
    size_t *ends;    /* [room] end of each field in text, without its zero byte */
    size_t n_fields, room;
    const char *wrong; /* static text */
    uint64_t line;     /* in which the record began, from 1 */
    /* of the parser */
    uint64_t at_line;
    unsigned state, mark;
    bool started; /* something of the record was read */
};

/* limit: most bytes of one record. */
void csv_init(struct csv *c, size_t limit);
void csv_free(struct csv *c);
/* Reads bytes [n], up to the end of the next record; *used is how many were taken. What CSV_RECORD gave
 * is valid until the next call. */
enum csv_event csv_read(struct csv *c, const char *bytes, size_t n, size_t *used);
/* The input ends here: CSV_RECORD or CSV_BAD for what was still open, CSV_MORE when there is nothing. */
enum csv_event csv_end(struct csv *c);
/* Field i, a zero byte after it. */
static inline const char *csv_field(const struct csv *c, size_t i, size_t *n) {
    size_t begin = i > 0 ? c->ends[i - 1] + 1 : 0;
    *n = c->ends[i] - begin;
    return c->text.data + begin;
}
/* Appends a field, quoted where it has to be (or is empty, so that a line is never blank). */
void csv_quote(struct buf *b, const char *s, size_t n);

#endif
