/* rows_out.c - records out: appended one by one, gone on with after a kill; and the pace of it all. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/pool.h"
#include "cli/rows.h"

enum { SYNC_MS = 5000 };

/* ------------------------------------------------------------------ records */

void record_begin(struct buf *b, const struct row *row) {
    buf_printf(b, "{\"row\":%llu", (unsigned long long)row->number);
    if (row->id != NULL) {
        char *id = keep(json_dumps(row->id, JSON_ENCODE_ANY | JSON_COMPACT));
        buf_printf(b, ",\"id\":%s", id);
        free(id);
    }
}

void record_error(struct buf *b, const struct row *row, slm_err err, const slm_why *why) {
    json_t *error = keep_json(error_json(err, why));
    char *text = keep(json_dumps(error, JSON_COMPACT));
    record_begin(b, row);
    buf_printf(b, ",\"error\":%s", text);
    free(text);
    json_decref(error);
}

void csv_error(struct buf *b, slm_err err, const slm_why *why) {
    char *text = text_printf("%s: %s", slm_err_name(err), why->message);
    csv_quote(b, text, strlen(text));
    free(text);
}

void csv_id(struct buf *b, const struct row *row) {
    if (json_is_string(row->id)) {
        csv_quote(b, json_string_value(row->id), json_string_length(row->id));
    } else if (row->id != NULL) {
        char *id = keep(json_dumps(row->id, JSON_ENCODE_ANY | JSON_COMPACT));
        csv_quote(b, id, strlen(id));
        free(id);
    }
}

/* ------------------------------------------------------------------ what a file holds already */

struct held {
    uint64_t rows, row; /* records; the number that the last one has */
    uint64_t failed;
    off_t end; /* of the last whole one */
    char check[17];
    const char *wrong;
};

static void held_line(struct held *h, const char *line, size_t n) {
    json_t *doc = NULL;
    slm_why why;
    const char *check;
    if (json_text(line, n, &doc, &why) != SLM_OK || !json_is_object(doc) ||
        !json_is_integer(json_object_get(doc, "row")) ||
        (check = json_string_value(json_object_get(doc, "check"))) == NULL) {
        h->wrong = "its last line is no record of this command";
    } else {
        h->row = (uint64_t)json_integer_value(json_object_get(doc, "row"));
        snprintf(h->check, sizeof h->check, "%.16s", check);
    }
    json_decref(doc);
}

/* Whether a record is an error. Only lines that may be one are parsed: these bytes cannot stand inside a
 * string, but inside a record of somebody's schema. */
static bool is_error(const char *line, size_t n) {
    static const char sign[] = ",\"error\":{\"code\":";
    json_t *doc = NULL;
    if (memmem(line, n, sign, sizeof sign - 1) == NULL || json_text(line, n, &doc, NULL) != SLM_OK)
        return false;
    bool error = json_is_object(json_object_get(doc, "error"));
    json_decref(doc);
    return error;
}

static void look_at_lines(struct held *h, const char *data, size_t n) {
    size_t at = 0, last = 0;
    const char *newline;
    while (at < n && (newline = memchr(data + at, '\n', n - at)) != NULL) {
        last = at;
        h->failed += is_error(data + at, (size_t)(newline - data) - at);
        at = (size_t)(newline - data) + 1;
        h->rows++;
    }
    h->end = (off_t)at;
    if (h->rows > 0)
        held_line(h, data + last, at - last - 1);
}

static void look_at_csv(struct held *h, const char *data, size_t n, const char *header) {
    struct csv csv;
    size_t at = 0, used, k, names = strlen(header);
    csv_init(&csv, n + 1);
    if (n <= names || memcmp(data, header, names) != 0 || data[names] != '\n') {
        /* nothing whole of it: only a torn line of names may be begun anew */
        if (memchr(data, '\n', n) != NULL || n > names || memcmp(data, header, n) != 0)
            h->wrong = "it has other columns";
        csv_free(&csv);
        return;
    }
    at = names + 1;
    h->end = (off_t)at;
    while (at < n && h->wrong == NULL) {
        enum csv_event e = csv_read(&csv, data + at, n - at, &used);
        at += used;
        if (e == CSV_MORE)
            break;
        keep(e != CSV_NOMEM ? h : NULL);
        if (e == CSV_BAD || csv.n_fields < 2) {
            h->wrong = "it has a record that is none of this command";
            break;
        }
        h->rows++;
        h->end = (off_t)at;
        h->row = strtoull(csv_field(&csv, 0, &k), NULL, 10);
        csv_field(&csv, csv.n_fields - 2, &k);
        h->failed += k > 0; /* the error stands before the check */
        snprintf(h->check, sizeof h->check, "%.16s", csv_field(&csv, csv.n_fields - 1, &k));
    }
    csv_free(&csv);
}

static int refuse_file(struct rows_out *w, const char *words) {
    return report(w->cli, EXIT_COULD_NOT, "E_MISMATCH",
                  "remove it, or give another name with --out", "%s cannot be gone on with: %s",
                  w->path, words);
}

/* Finds the last whole record and cuts off what is behind it. */
static int find_place(struct rows_out *w, const char *header) {
    struct held h = { 0 };
    size_t n;
    int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    char *data = fd >= 0 ? read_all(fd, SIZE_MAX / 4, &n) : NULL;
    if (fd >= 0)
        close(fd);
    if (data == NULL)
        return report(w->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot read %s: %s", w->path,
                      strerror(errno));
    if (w->form == ROWS_CSV)
        look_at_csv(&h, data, n, header);
    else
        look_at_lines(&h, data, n);
    free(data);
    if (h.wrong == NULL && h.rows != h.row)
        h.wrong = "its rows are not numbered from 1 without gaps";
    if (h.wrong != NULL)
        return refuse_file(w, h.wrong);
    if (ftruncate(w->fd, h.end) != 0)
        return report(w->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot cut off the torn end of %s: %s",
                      w->path, strerror(errno));
    w->done = h.rows;
    w->failed_before = h.failed;
    memcpy(w->last_check, h.check, sizeof h.check);
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ writing */

static bool put_bytes(struct rows_out *w, const char *data, size_t n) {
    if (w->path == NULL)
        return out_write(&w->cli->out, data, n) && out_flush(&w->cli->out);
    while (n > 0) {
        ssize_t k = write(w->fd, data, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0) {
            report(w->cli, EXIT_COULD_NOT, "E_IO", "the same command goes on where it stopped",
                   "cannot write %s: %s", w->path, strerror(errno));
            return false;
        }
        data += k;
        n -= (size_t)k;
    }
    return true;
}

enum row_form rows_output_form(struct cli *c, const char *path) {
    size_t n = path != NULL ? strlen(path) : 0;
    if (opt_set(c, OPT_OUTPUT_FORMAT))
        return (enum row_form)opt_word(c, OPT_OUTPUT_FORMAT, 0);
    return n > 4 && strcasecmp(path + n - 4, ".csv") == 0 ? ROWS_CSV : ROWS_JSONL;
}

int rows_out_open(struct rows_out *w, struct cli *c, const char *path, enum row_form form,
                  const char *header) {
    struct stat st;
    *w = (struct rows_out){ .cli = c, .path = path, .form = form, .fd = -1 };
    w->synced_ns = clock_ns();
    if (path != NULL) {
        w->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (w->fd < 0 || fstat(w->fd, &st) != 0)
            return report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot write %s: %s", path,
                          strerror(errno));
        if (flock(w->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
            return report(c, EXIT_COULD_NOT, "E_BUSY", NULL, "another slm is writing %s", path);
        if (S_ISREG(st.st_mode) && st.st_size > 0) {
            int code = find_place(w, header);
            if (code != EXIT_DONE)
                return code;
        }
    }
    if (form != ROWS_CSV || w->done > 0 ||
        (path != NULL && fstat(w->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0))
        return EXIT_DONE;
    char *line = text_printf("%s\n", header);
    bool ok = put_bytes(w, line, strlen(line));
    free(line);
    return ok ? EXIT_DONE : EXIT_COULD_NOT;
}

int rows_skip_done(struct rows *r, struct rows_out *w) {
    char check[17] = "";
    int code = EXIT_DONE;
    while (r->number < w->done) {
        struct row row;
        bool there = rows_next(r, &row, &code);
        memcpy(check, row.check, sizeof check);
        row_free(&row);
        if (!there && code != EXIT_DONE)
            return code;
        if (!there)
            return refuse_file(w, "the input has fewer rows than it");
    }
    if (w->done > 0 && strcmp(check, w->last_check) != 0)
        return refuse_file(w, "it comes from another input, or with other settings");
    return EXIT_DONE;
}

bool rows_out_put(struct rows_out *w, const struct row *row, struct buf *line) {
    bool csv = w->form == ROWS_CSV;
    if (w->path != NULL)
        buf_printf(line, csv ? ",%s" : ",\"check\":\"%s\"", row->check);
    buf_puts(line, csv ? "\n" : "}\n");
    if (line->err != SLM_OK)
        keep(NULL);
    if (!put_bytes(w, line->data, line->len))
        return false;
    w->written++;
    if (w->path != NULL && clock_ns() - w->synced_ns > SYNC_MS * UINT64_C(1000000)) {
        fdatasync(w->fd); /* against power cuts; a kill loses nothing that was written */
        w->synced_ns = clock_ns();
    }
    return true;
}

int rows_out_close(struct rows_out *w) {
    int code = EXIT_DONE;
    if (w->fd < 0)
        return EXIT_DONE;
    if (w->written > 0 && fsync(w->fd) != 0 && errno != EINVAL && errno != EROFS)
        code = report(w->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot write %s: %s", w->path,
                      strerror(errno));
    close(w->fd);
    w->fd = -1;
    return code;
}

/* ------------------------------------------------------------------ pace */

void pace_start(struct pace *p, struct cli *c, const char *what) {
    *p = (struct pace){ .start_ns = clock_ns(), .what = what };
    progress_start(&p->progress, &c->term, c->quiet, what, "rows");
}

double pace_rate(const struct pace *p) {
    double seconds = (double)(clock_ns() - p->start_ns) / 1e9;
    return seconds > 0 ? (double)p->rows / seconds : 0;
}

void pace_step(struct pace *p, uint64_t done, uint64_t total) {
    snprintf(p->progress.label, sizeof p->progress.label, "%s %.1f rows/s", p->what, pace_rate(p));
    progress_step(&p->progress, done, total);
}

void pace_end(struct pace *p) {
    progress_end(&p->progress);
}

int rows_summary(struct cli *c, const struct loaded *m, struct pace *p, const struct rows_out *w,
                 int code) {
    double seconds = (double)(clock_ns() - p->start_ns) / 1e9, rate = pace_rate(p);
    char rows[32], failed[32], before[32], time[32];
    bool ended = code == EXIT_DONE || code == EXIT_INTERRUPTED;
    if (!ended)
        return code;
    if (c->json) {
        json_t *doc = keep_json(
            json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "model", model_title(m), "rows",
                      (json_int_t)p->rows, "failed", (json_int_t)p->failed, "rows_before",
                      (json_int_t)w->done, "failed_before", (json_int_t)w->failed_before, "seconds",
                      seconds, "rows_per_second", rate, "complete", code == EXIT_DONE));
        if (w->path == NULL)
            doc = keep_json(json_pack("{s:o}", "summary", doc));
        out_json(&c->out, doc, w->path == NULL);
    } else {
        format_count(w->done, before, sizeof before);
        note(c, "%s rows in %s, %.1f rows/s%s%s%s%s%s%s", format_count(p->rows, rows, sizeof rows),
             format_seconds(seconds, time, sizeof time), rate, p->failed > 0 ? ", failed: " : "",
             p->failed > 0 ? format_count(p->failed, failed, sizeof failed) : "",
             w->done > 0 ? ", there before: " : "", w->done > 0 ? before : "",
             code == EXIT_INTERRUPTED ? "; interrupted" : "",
             code == EXIT_INTERRUPTED && w->path != NULL
                 ? ": the same command goes on where it stopped"
                 : "");
    }
    return code == EXIT_DONE && p->failed + w->failed_before > 0 ? EXIT_COULD_NOT : code;
}
