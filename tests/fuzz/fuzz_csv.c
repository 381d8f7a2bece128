/* fuzz_csv.c - the CSV parser: the same records however the input is cut, and every record that it reads
 * is read again after it was written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* the code under test only returns errors; the fuzzer wants a crash */
static void expect(bool truth) {
    if (!truth)
        abort();
}

static void note_event(struct buf *log, const struct csv *c, enum csv_event e) {
    expect(e != CSV_NOMEM);
    if (e == CSV_BAD)
        buf_printf(log, "!%s %llu\n", c->wrong, (unsigned long long)c->line);
    for (size_t i = 0; e == CSV_RECORD && i < c->n_fields; i++) {
        size_t n;
        const char *s = csv_field(c, i, &n);
        expect(s[n] == '\0');
        buf_printf(log, "%zu:", n);
        buf_put(log, s, n);
    }
    if (e == CSV_RECORD)
        buf_printf(log, " %llu\n", (unsigned long long)c->line);
}

/* A record written and read is the same record. */
static void write_and_read(const struct csv *c) {
    struct csv again;
    struct buf b;
    size_t used, n, k;
    buf_init(&b, NULL, (size_t)1 << 26);
    for (size_t i = 0; i < c->n_fields; i++) {
        const char *s = csv_field(c, i, &n);
        if (i > 0)
            buf_putc(&b, ',');
        csv_quote(&b, s, n);
    }
    buf_putc(&b, '\n');
    csv_init(&again, (size_t)1 << 26);
    again.mark = 3; /* a field may begin with the bytes of a mark */
    expect(csv_read(&again, b.data, b.len, &used) == CSV_RECORD && used == b.len);
    expect(again.n_fields == c->n_fields);
    for (size_t i = 0; i < c->n_fields; i++) {
        const char *x = csv_field(c, i, &n), *y = csv_field(&again, i, &k);
        expect(n == k && memcmp(x, y, n) == 0);
    }
    csv_free(&again);
    buf_free(&b);
}

/* All events with the input in pieces of `piece` bytes. */
static void run(const char *bytes, size_t n, size_t piece, struct buf *log) {
    struct csv c;
    size_t used;
    enum csv_event e;
    csv_init(&c, (size_t)1 << 20);
    for (size_t at = 0; at < n; at += used) {
        size_t left = n - at;
        e = csv_read(&c, bytes + at, left < piece ? left : piece, &used);
        expect(used > 0);
        note_event(log, &c, e);
        if (e == CSV_RECORD)
            write_and_read(&c);
    }
    note_event(log, &c, csv_end(&c));
    csv_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf whole, cut;
    buf_init(&whole, NULL, (size_t)1 << 27);
    buf_init(&cut, NULL, (size_t)1 << 27);
    run((const char *)data, size, size > 0 ? size : 1, &whole);
    run((const char *)data, size, size > 0 ? 1 + data[0] % 7 : 1, &cut);
    expect(whole.err == SLM_OK && whole.len == cut.len);
    expect(whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0);
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
