/* rows.h - streams of rows in and out, for the commands that answer each row by itself.
 *
 * In: JSON Lines (an object per line), CSV with a line of names, or plain lines (each a text). Rows are
 * counted from 1; lines that are blank are none. A row that cannot be read is a row with an error, so
 * that every row of the input has exactly one record of output, in the same order.
 *
 * Out: JSON Lines or CSV, to standard output or appended to a file. In a file each record ends with a
 * check: a hash over the settings and every input row up to this one. Whoever goes on after a kill
 * reads the last whole record, cuts off what is torn behind it, and finds by its check whether it
 * belongs to this input and these settings. */
#ifndef SLM_CLI_ROWS_H
#define SLM_CLI_ROWS_H

#include "base/hash.h"
#include "cli/cli.h"
#include "cli/csv.h"

enum row_form { ROWS_JSONL, ROWS_CSV, ROWS_LINES };

struct row {
    uint64_t number; /* from 1 */
    slm_err err;     /* with why: it cannot be read; text and label are NULL then */
    slm_why why;
    char *text; /* [n_text] UTF-8, a zero byte after it; owned like the other two */
    size_t n_text;
    char *label; /* of labelled rows, or NULL */
    json_t *id;  /* string or number, or NULL */
    char check[17];
};
void row_free(struct row *row);

struct rows_options {
    const char *path; /* NULL: standard input */
    int form;         /* enum row_form, or -1: by name, else by the first byte */
    const char *text_field, *id_field, *label_field; /* label_field NULL: rows have none */
};
struct rows {
    struct cli *cli;
    struct rows_options o;
    enum row_form form;
    struct lines *lines;
    struct csv csv;
    size_t text_column, id_column, label_column, columns; /* SIZE_MAX: none */
    uint64_t number, total; /* rows read; of the input, 0 unknown (no file) */
    struct hash chain;      /* settings and rows so far */
    bool csv_over;
};
/* As the command line has them; "-" is standard input. */
struct rows_options rows_input(struct cli *c, const char *path, bool labelled);
/* Opens the input, reads the names of a CSV and counts the rows of a file. settings: what the output
 * depends on besides the rows. Exit code. */
int rows_open(struct rows *r, struct cli *c, const struct rows_options *o, const void *settings,
              size_t n_settings);
/* The next row into *row (to be freed), false at the end. *code: EXIT_DONE, or of what was reported. */
bool rows_next(struct rows *r, struct row *row, int *code);
/* Whether more of the input can be read without waiting. */
bool rows_waiting(const struct rows *r);
void rows_close(struct rows *r);

struct rows_out {
    struct cli *cli;
    const char *path; /* NULL: standard output */
    enum row_form form;
    int fd;
    uint64_t done, failed_before; /* rows that the file holds already; of these, with an error */
    uint64_t written;             /* rows of this run */
    char last_check[17];
    uint64_t synced_ns;
};
/* As --output-format or the name of the file says; JSON Lines otherwise. */
enum row_form rows_output_form(struct cli *c, const char *path);
/* header: line of names of a CSV without its end, the last one "check" when there is a path. Finds what
 * a file holds already. Exit code. */
int rows_out_open(struct rows_out *w, struct cli *c, const char *path, enum row_form form,
                  const char *header);
/* A record (a CSV or JSON line without check and line end), to which the row's check is added. False
 * after a report, or when nobody reads any more. */
bool rows_out_put(struct rows_out *w, const struct row *row, struct buf *line);
/* Passes over the rows that the file holds. Exit code: E_MISMATCH when they are of another input. */
int rows_skip_done(struct rows *r, struct rows_out *w);
/* Everything on disk. Exit code. */
int rows_out_close(struct rows_out *w);

/* The beginning of a record's JSON: {"row":N,"id":... without the end; of an error the whole but the
 * closing brace. */
void record_begin(struct buf *b, const struct row *row);
void record_error(struct buf *b, const struct row *row, slm_err err, const slm_why *why);
/* "E_CONTEXT: message" for the error column of a CSV. */
void csv_error(struct buf *b, slm_err err, const slm_why *why);
/* The id as a CSV field. */
void csv_id(struct buf *b, const struct row *row);
/* Whether the work ends with this error (memory, interruption), instead of the row. */
bool ends_all(slm_err err);

/* E_USAGE for an option's text that is not UTF-8. Exit code. */
int utf8_option(struct cli *c, enum option_id id);

/* ---- progress with rows per second ---- */
struct pace {
    struct progress progress;
    uint64_t start_ns;
    uint64_t rows, failed;
    const char *what;
};
void pace_start(struct pace *p, struct cli *c, const char *what);
void pace_step(struct pace *p, uint64_t done, uint64_t total);
double pace_rate(const struct pace *p); /* rows per second since the start */
void pace_end(struct pace *p);
/* Rows, failures and rows per second: on standard error, or with --json as a document on standard output
 * (a last line {"summary": ...} where the records went there). code: how the work ended; returns the
 * exit code, which rows that failed make 1. */
int rows_summary(struct cli *c, const struct loaded *m, struct pace *p, const struct rows_out *w,
                 int code);

#endif
