/* rows.c - rows in: JSON Lines, CSV and plain lines, one struct row each. */
#include "cli/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"

void row_free(struct row *row) {
    free(row->text);
    free(row->label);
    json_decref(row->id);
    *row = (struct row){ 0 };
}

bool ends_all(slm_err err) {
    return err == SLM_E_NOMEM || err == SLM_E_CANCELLED || err == SLM_E_IO;
}

/* A row of its own cannot be used. */
static void refuse(struct row *row, slm_err err, uint64_t offset, const char *format, ...)
    ATTR_PRINTF(4, 5);
static void refuse(struct row *row, slm_err err, uint64_t offset, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(row->why.message, sizeof row->why.message, format, list);
    va_end(list);
    row->err = row->why.code = err;
    row->why.offset = offset;
    free(row->text);
    free(row->label);
    row->text = row->label = NULL;
}

int utf8_option(struct cli *c, enum option_id id) {
    const char *text = opt_text(c, id);
    return text == NULL || utf8_valid(text, strlen(text)) == strlen(text)
               ? EXIT_DONE
               : report_usage(c, NULL, "--%s wants UTF-8 text", option_table[id].name);
}

/* ------------------------------------------------------------------ fields */

static char *copy_text(const char *s, size_t n) {
    char *copy = keep(malloc(n + 1));
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

/* Text for the model: UTF-8 without zero bytes (a request is JSON text without \u0000). */
static void set_text(struct row *row, const char *s, size_t n) {
    size_t valid = utf8_valid(s, n);
    const char *zero = memchr(s, 0, n);
    if (valid < n)
        refuse(row, SLM_E_ENCODING, valid, "the text is not UTF-8: byte %zu of %zu is invalid",
               valid, n);
    else if (zero != NULL)
        refuse(row, SLM_E_ENCODING, (uint64_t)(zero - s), "the text has a zero byte at %zu of %zu",
               (size_t)(zero - s), n);
    else if (n == 0)
        refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET, "the text is empty");
    else {
        row->text = copy_text(s, n);
        row->n_text = n;
    }
}

static void set_label(struct row *row, const char *s, size_t n) {
    if (row->err == SLM_OK && utf8_valid(s, n) == n && memchr(s, 0, n) == NULL)
        row->label = copy_text(s, n);
    else
        refuse(row, SLM_E_ENCODING, SLM_NO_OFFSET, "the label is not UTF-8");
}

static void read_object(const struct rows *r, const char *line, size_t n, struct row *row) {
    json_t *doc = NULL;
    slm_err err = json_text(line, n, &doc, &row->why);
    if (err != SLM_OK) {
        row->err = err;
        return;
    }
    const json_t *text = json_object_get(doc, r->o.text_field);
    json_t *id = json_object_get(doc, r->o.id_field);
    if (json_is_string(id) || json_is_number(id))
        row->id = json_incref(id);
    if (!json_is_object(doc))
        refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET, "a row is a JSON object");
    else if (!json_is_string(text))
        refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET, "the row has no string \"%.100s\"",
               r->o.text_field);
    else
        set_text(row, json_string_value(text), json_string_length(text));
    if (row->err == SLM_OK && r->o.label_field != NULL) {
        const json_t *label = json_object_get(doc, r->o.label_field);
        if (json_is_string(label))
            set_label(row, json_string_value(label), json_string_length(label));
        else
            refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET, "the row has no string \"%.100s\"",
                   r->o.label_field);
    }
    json_decref(doc);
}

static void read_record(const struct rows *r, struct row *row) {
    size_t n;
    if (r->csv.n_fields != r->columns) {
        refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET,
               "the record in line %llu has %zu fields, the line of names has %zu",
               (unsigned long long)r->csv.line, r->csv.n_fields, r->columns);
        return;
    }
    if (r->id_column != SIZE_MAX) {
        const char *id = csv_field(&r->csv, r->id_column, &n);
        row->id = json_stringn(id, n); /* NULL when it is no UTF-8: then there is none */
    }
    const char *text = csv_field(&r->csv, r->text_column, &n);
    set_text(row, text, n);
    if (row->err == SLM_OK && r->label_column != SIZE_MAX) {
        const char *label = csv_field(&r->csv, r->label_column, &n);
        set_label(row, label, n);
    }
}

/* ------------------------------------------------------------------ records */

static enum csv_event next_csv(struct rows *r) {
    struct lines *l = r->lines;
    size_t used;
    while (lines_fill(l)) {
        enum csv_event e = csv_read(&r->csv, l->data + l->at, l->n - l->at, &used);
        l->at += used;
        if (e != CSV_MORE)
            return e;
    }
    if (l->failed || r->csv_over || interrupted())
        return CSV_MORE;
    r->csv_over = true;
    return csv_end(&r->csv);
}

/* A line that is not blank, without its line end and the byte order mark. */
static bool next_line(struct rows *r, const char **line, size_t *n) {
    struct lines *l = r->lines;
    while (lines_next(l)) {
        *line = l->line.data;
        *n = l->line.len;
        if (*n >= 3 && r->number == 0 && memcmp(*line, "\xef\xbb\xbf", 3) == 0) {
            *line += 3;
            *n -= 3;
        }
        if (*n > 0 && (*line)[*n - 1] == '\r')
            --*n;
        if (!lines_blank(l) || l->line.err != SLM_OK)
            return true;
    }
    return false;
}

static void chain(struct rows *r, const void *data, size_t n, struct row *row) {
    uint64_t sum[2];
    hash_add_u64(&r->chain, n);
    hash_add(&r->chain, data, n);
    hash_end(&r->chain, sum);
    snprintf(row->check, sizeof row->check, "%016llx", (unsigned long long)sum[0]);
}

static bool read_csv_row(struct rows *r, struct row *row) {
    enum csv_event e = next_csv(r);
    if (e == CSV_MORE)
        return false;
    keep(e != CSV_NOMEM ? r : NULL);
    row->number = ++r->number;
    if (e == CSV_BAD)
        refuse(row, SLM_E_FORMAT, SLM_NO_OFFSET, "CSV: %s, in the record that begins in line %llu",
               r->csv.wrong, (unsigned long long)r->csv.line);
    else
        read_record(r, row);
    for (size_t i = 0; i < r->csv.n_fields; i++) /* where one field ends counts, too */
        hash_add_u64(&r->chain, r->csv.ends[i]);
    chain(r, r->csv.text.data, r->csv.text.len, row);
    return true;
}

static bool read_line_row(struct rows *r, struct row *row) {
    const char *line;
    size_t n;
    if (!next_line(r, &line, &n))
        return false;
    row->number = ++r->number;
    if (r->lines->line.err != SLM_OK) {
        refuse(row, SLM_E_BUDGET, SLM_NO_OFFSET, "the line has more than %d bytes", LINE_MOST);
        r->lines->line.err = SLM_OK;
    } else if (r->form == ROWS_JSONL) {
        read_object(r, line, n, row);
    } else {
        set_text(row, line, n);
    }
    chain(r, line, n, row);
    return true;
}

bool rows_next(struct rows *r, struct row *row, int *code) {
    *row = (struct row){ .why.offset = SLM_NO_OFFSET };
    *code = EXIT_DONE;
    if (interrupted()) {
        *code = EXIT_INTERRUPTED;
        return false;
    }
    if (r->form == ROWS_CSV ? read_csv_row(r, row) : read_line_row(r, row))
        return true;
    if (interrupted())
        *code = EXIT_INTERRUPTED;
    else if (r->lines->failed)
        *code = report(r->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot read %s: %s",
                       r->o.path != NULL ? r->o.path : "standard input", strerror(errno));
    return false;
}

/* ------------------------------------------------------------------ opening */

static size_t column_of(const struct rows *r, const char *name) {
    for (size_t i = 0; name != NULL && i < r->csv.n_fields; i++) {
        size_t n;
        const char *s = csv_field(&r->csv, i, &n);
        if (n == strlen(name) && memcmp(s, name, n) == 0)
            return i;
    }
    return SIZE_MAX;
}

static int missing_column(struct rows *r, const char *name, const char *option) {
    struct buf names;
    buf_init(&names, NULL, 512);
    for (size_t i = 0; i < r->csv.n_fields; i++) {
        size_t n;
        const char *s = csv_field(&r->csv, i, &n);
        buf_printf(&names, "%s%.*s", i > 0 ? ", " : "", (int)(n < 60 ? n : 60), s);
    }
    char *ways = text_printf("%s NAME    one of: %s", option, names.data ? names.data : "");
    int code =
        report(r->cli, EXIT_COULD_NOT, "E_FORMAT", ways, "the CSV has no column '%.100s'", name);
    free(ways);
    buf_free(&names);
    return code;
}

static int read_names(struct rows *r) {
    enum csv_event e = next_csv(r);
    keep(e != CSV_NOMEM ? r : NULL);
    if (e == CSV_BAD)
        return report(r->cli, EXIT_COULD_NOT, "E_FORMAT", NULL, "the CSV's line of names: %s",
                      r->csv.wrong);
    if (e == CSV_MORE)
        return interrupted() ? EXIT_INTERRUPTED
                             : report(r->cli, EXIT_COULD_NOT, "E_FORMAT", NULL,
                                      "the CSV has no line of names");
    r->columns = r->csv.n_fields;
    r->text_column = column_of(r, r->o.text_field);
    r->id_column = column_of(r, r->o.id_field);
    r->label_column = column_of(r, r->o.label_field);
    if (r->text_column == SIZE_MAX)
        return missing_column(r, r->o.text_field, "--field");
    if (r->o.label_field != NULL && r->label_column == SIZE_MAX)
        return missing_column(r, r->o.label_field, "--label-field");
    hash_add(&r->chain, r->csv.text.data, r->csv.text.len);
    return EXIT_DONE;
}

struct rows_options rows_input(struct cli *c, const char *path, bool labelled) {
    bool piped = path == NULL || strcmp(path, "-") == 0;
    const char *text = opt_text(c, OPT_FIELD), *id = opt_text(c, OPT_ID_FIELD),
               *label = opt_text(c, OPT_LABEL_FIELD);
    return (struct rows_options){
        .path = piped ? NULL : path,
        .form = opt_set(c, OPT_INPUT_FORMAT) ? (int)opt_word(c, OPT_INPUT_FORMAT, 0) : -1,
        .text_field = text != NULL ? text : "text",
        .id_field = id != NULL ? id : "id",
        .label_field = !labelled       ? NULL
                       : label != NULL ? label
                                       : "label",
    };
}

static bool ends_in(const char *path, const char *end) {
    size_t n = strlen(path), k = strlen(end);
    return n > k && strcasecmp(path + n - k, end) == 0;
}

/* What the input is: as told, by its name, or an object at its beginning. */
static enum row_form form_of(struct rows *r) {
    const char *path = r->o.path;
    if (r->o.form >= 0)
        return (enum row_form)r->o.form;
    if (path != NULL && ends_in(path, ".csv"))
        return ROWS_CSV;
    if (path != NULL && (ends_in(path, ".jsonl") || ends_in(path, ".ndjson")))
        return ROWS_JSONL;
    if (lines_fill(r->lines)) {
        const char *s = r->lines->data;
        size_t i = r->lines->n >= 3 && memcmp(s, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        while (i < r->lines->n && memchr(" \t\r\n", s[i], 4) != NULL)
            i++;
        if (i < r->lines->n && s[i] == '{')
            return ROWS_JSONL;
    }
    return ROWS_LINES;
}

static int open_input(struct rows *r) {
    r->lines = keep(malloc(sizeof *r->lines));
    lines_init(r->lines);
    csv_init(&r->csv, LINE_MOST);
    if (r->o.path != NULL)
        r->lines->fd = open(r->o.path, O_RDONLY | O_CLOEXEC);
    if (r->lines->fd < 0)
        return report(r->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot read %s: %s", r->o.path,
                      strerror(errno));
    r->form = form_of(r);
    return r->form == ROWS_CSV ? read_names(r) : EXIT_DONE;
}

/* How many rows a file has, for the time that is left. */
static void count_rows(struct rows *r) {
    struct stat st;
    struct rows again = { .cli = r->cli, .o = r->o };
    const char *line;
    size_t n;
    if (r->o.path == NULL || fstat(r->lines->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return;
    again.o.form = (int)r->form;
    hash_init(&again.chain, 0);
    if (open_input(&again) == EXIT_DONE)
        while (r->form == ROWS_CSV ? next_csv(&again) != CSV_MORE : next_line(&again, &line, &n))
            r->total++;
    rows_close(&again);
}

int rows_open(struct rows *r, struct cli *c, const struct rows_options *o, const void *settings,
              size_t n_settings) {
    *r = (struct rows){ .cli = c, .o = *o };
    hash_init(&r->chain, 0);
    hash_add_u64(&r->chain, n_settings);
    hash_add(&r->chain, settings, n_settings);
    hash_add(&r->chain, o->text_field, strlen(o->text_field) + 1);
    hash_add(&r->chain, o->id_field, strlen(o->id_field) + 1);
    int code = open_input(r);
    if (code == EXIT_DONE)
        count_rows(r);
    return code;
}

bool rows_waiting(const struct rows *r) {
    struct pollfd input = { .fd = r->lines->fd, .events = POLLIN };
    return r->lines->at < r->lines->n || (!r->lines->end && poll(&input, 1, 0) > 0);
}

void rows_close(struct rows *r) {
    if (r->lines == NULL)
        return;
    if (r->o.path != NULL && r->lines->fd >= 0)
        close(r->lines->fd);
    lines_free(r->lines);
    free(r->lines);
    csv_free(&r->csv);
    r->lines = NULL;
}
