/* csv.c - a state machine over bytes; csv.h has the grammar. */
#include "cli/csv.h"

#include <string.h>

enum state {
    BEGIN,   /* of a record */
    FIELD,   /* of a field, nothing of it read */
    PLAIN,   /* in a field without quotes */
    QUOTED,  /* between quotes */
    CLOSING, /* behind a quote in a quoted field: its end, or half of a doubled one */
    RETURN,  /* behind a CR that ends a record: an LF has to follow */
    BROKEN   /* malformed: up to the end of the line */
};

static const char byte_order_mark[] = "\xef\xbb\xbf";

void csv_init(struct csv *c, size_t limit) {
    *c = (struct csv){ .at_line = 1 };
    buf_init(&c->text, NULL, limit);
}

void csv_free(struct csv *c) {
    buf_free(&c->text);
    mem_free(NULL, c->ends);
    c->ends = NULL;
    c->n_fields = c->room = 0;
}

static void wrong(struct csv *c, const char *words) {
    if (c->wrong == NULL)
        c->wrong = words;
    c->state = BROKEN;
}

static void end_field(struct csv *c) {
    if (c->n_fields == CSV_FIELDS_MAX) {
        wrong(c, "too many fields");
        return;
    }
    if (c->n_fields == c->room) {
        size_t room = c->room > 0 ? c->room * 2 : 16;
        size_t *more = mem_resize(NULL, c->ends, room, sizeof *more);
        if (more == NULL) {
            c->text.err = SLM_E_NOMEM;
            return;
        }
        c->ends = more;
        c->room = room;
    }
    c->ends[c->n_fields++] = c->text.len;
    buf_putc(&c->text, '\0');
}

/* The record is over: what it is. */
static enum csv_event end_record(struct csv *c) {
    c->state = BEGIN;
    c->started = false;
    if (c->text.err == SLM_E_NOMEM)
        return CSV_NOMEM;
    if (c->text.err != SLM_OK)
        wrong(c, "the record is too long");
    c->state = BEGIN;
    return c->wrong != NULL ? CSV_BAD : CSV_RECORD;
}

static void begin_record(struct csv *c) {
    c->text.len = 0;
    c->text.err = c->text.err == SLM_E_NOMEM ? SLM_E_NOMEM : SLM_OK;
    c->n_fields = 0;
    c->wrong = NULL;
    c->line = c->at_line;
    c->started = true;
    c->state = FIELD;
}

/* The first byte of a field. */
static void first_byte(struct csv *c, char b) {
    if (b == '"') {
        c->state = QUOTED;
    } else if (b == ',') {
        end_field(c);
    } else {
        buf_putc(&c->text, b);
        c->state = PLAIN;
    }
}

static void plain_byte(struct csv *c, char b) {
    if (b == ',') {
        end_field(c);
        c->state = c->state == BROKEN ? BROKEN : FIELD;
    } else if (b == '"') {
        wrong(c, "a quote inside a field without quotes");
    } else {
        buf_putc(&c->text, b);
    }
}

static void closing_byte(struct csv *c, char b) {
    if (b == '"') {
        buf_putc(&c->text, '"');
        c->state = QUOTED;
    } else if (b == ',') {
        end_field(c);
        c->state = c->state == BROKEN ? BROKEN : FIELD;
    } else {
        wrong(c, "something between the closing quote and the comma");
    }
}

/* One byte; true when it ends a record. */
static bool take(struct csv *c, char b) {
    bool outside = c->state != QUOTED;
    if (b == '\n')
        c->at_line++;
    if (c->state == BEGIN) {
        if (b == '\n' || b == '\r') /* an empty line, CR LF or LF */
            return false;
        begin_record(c);
    }
    if (c->state == RETURN && b != '\n')
        wrong(c, "a carriage return that ends no line");
    if (outside && b == '\n') {
        if (c->state == FIELD || c->state == PLAIN || c->state == CLOSING)
            end_field(c);
        return true;
    }
    if (outside && b == '\r' && c->state != BROKEN) {
        if (c->state != RETURN)
            end_field(c);
        c->state = c->state == BROKEN ? BROKEN : RETURN;
        return false;
    }
    if (c->state == FIELD)
        first_byte(c, b);
    else if (c->state == PLAIN)
        plain_byte(c, b);
    else if (c->state == CLOSING)
        closing_byte(c, b);
    else if (c->state == QUOTED && b == '"')
        c->state = CLOSING;
    else if (c->state == QUOTED)
        buf_putc(&c->text, b);
    return false;
}

/* Bytes of a byte order mark at the very beginning, which may come one by one: how many of [n] are. */
static size_t skip_mark(struct csv *c, const char *bytes, size_t n) {
    size_t k = 0;
    while (c->mark < 3 && k < n && bytes[k] == byte_order_mark[c->mark]) {
        c->mark++;
        k++;
    }
    if (k < n && c->mark < 3) {
        unsigned held = c->mark; /* was none after all: these bytes are text */
        c->mark = 3;
        for (unsigned i = 0; i < held; i++)
            take(c, byte_order_mark[i]);
    }
    return k;
}

enum csv_event csv_read(struct csv *c, const char *bytes, size_t n, size_t *used) {
    size_t i = c->mark < 3 ? skip_mark(c, bytes, n) : 0;
    while (i < n)
        if (take(c, bytes[i++])) {
            *used = i;
            return end_record(c);
        }
    *used = n;
    return CSV_MORE;
}

enum csv_event csv_end(struct csv *c) {
    for (unsigned i = 0, held = c->mark < 3 ? c->mark : 0; i < held; i++)
        take(c, byte_order_mark[i]);
    c->mark = 3;
    if (!c->started)
        return CSV_MORE;
    if (c->state == QUOTED)
        wrong(c, "the input ends inside quotes");
    else if (c->state == RETURN)
        wrong(c, "a carriage return that ends no line");
    else if (c->state != BROKEN)
        end_field(c);
    return end_record(c);
}

void csv_quote(struct buf *b, const char *s, size_t n) {
    bool plain = n > 0;
    for (size_t i = 0; i < n && plain; i++)
        plain = s[i] != '"' && s[i] != ',' && s[i] != '\r' && s[i] != '\n';
    if (plain) {
        buf_put(b, s, n);
        return;
    }
    buf_putc(b, '"');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"')
            buf_putc(b, '"');
        buf_putc(b, s[i]);
    }
    buf_putc(b, '"');
}
