/* sse.c - a stream of server-sent events, in whatever pieces it comes.
 *
 * Source: the HTML standard, "Interpreting an event stream". Bytes go to the current line; a line that
 * has ended is a field, a comment or (empty) the end of an event. */
#include "agent/rpc.h"

#include <string.h>

void sse_init(struct sse *s, size_t limit) {
    memset(s, 0, sizeof *s);
    buf_init(&s->line, NULL, limit);
    buf_init(&s->data, NULL, limit);
}

void sse_free(struct sse *s) {
    buf_free(&s->line);
    buf_free(&s->data);
}

static bool is_field(const char *name, size_t n, const char *want) {
    return n == strlen(want) && memcmp(name, want, n) == 0;
}

/* Digits only, else it is not set. */
static void set_retry(struct sse *s, const char *value, size_t n) {
    unsigned ms = 0;
    for (size_t i = 0; i < n; i++) {
        if (value[i] < '0' || value[i] > '9' || ms > 10000000)
            return;
        ms = ms * 10 + (unsigned)(value[i] - '0');
    }
    s->retry_ms = n ? ms : s->retry_ms;
}

/* Text that fits, else nothing: a name or id that was cut would be another one. */
static void set_text(char *to, size_t size, const char *value, size_t n) {
    if (n >= size || memchr(value, 0, n))
        n = 0;
    memcpy(to, value, n);
    to[n] = 0;
}

static void take_field(struct sse *s, const char *line, size_t n) {
    const char *colon = memchr(line, ':', n);
    size_t name = colon ? (size_t)(colon - line) : n, skip = colon ? name + 1 : n;
    if (skip < n && line[skip] == ' ')
        skip++;
    const char *value = line + skip;
    size_t size = n - skip;
    if (is_field(line, name, "data")) {
        buf_put(&s->data, value, size);
        buf_putc(&s->data, '\n');
        s->has_data = true;
    } else if (is_field(line, name, "event")) {
        set_text(s->event, sizeof s->event, value, size);
    } else if (is_field(line, name, "id")) {
        set_text(s->id, sizeof s->id, value, size);
    } else if (is_field(line, name, "retry")) {
        set_retry(s, value, size);
    }
}

/* False: event() said stop. */
static bool end_event(struct sse *s, bool (*event)(void *, const char *, size_t), void *user) {
    bool message = s->event[0] == 0 || strcmp(s->event, "message") == 0;
    bool go_on = true;
    if (s->has_data && message && s->data.len > 1)
        go_on = event(user, s->data.data, s->data.len - 1); /* without its last newline */
    s->data.len = 0;
    s->has_data = false;
    s->event[0] = 0;
    return go_on;
}

/* A line has ended. */
static bool end_line(struct sse *s, bool (*event)(void *, const char *, size_t), void *user) {
    const char *line = s->line.data;
    size_t n = s->line.len;
    s->line.len = 0;
    if (!s->begun && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        n -= 3;
    }
    s->begun = true;
    if (n == 0)
        return end_event(s, event, user);
    if (line[0] != ':')
        take_field(s, line, n);
    return true;
}

slm_err sse_feed(struct sse *s, const char *bytes, size_t n,
                 bool (*event)(void *user, const char *data, size_t n), void *user) {
    for (size_t i = 0; i < n;) {
        if (s->after_cr && bytes[i] == '\n') { /* the second half of CRLF */
            s->after_cr = false;
            i++;
            continue;
        }
        s->after_cr = false;
        size_t run = i;
        while (run < n && bytes[run] != '\n' && bytes[run] != '\r')
            run++;
        buf_put(&s->line, bytes + i, run - i);
        if (s->line.err)
            return s->line.err;
        if (run == n)
            return SLM_OK;
        s->after_cr = bytes[run] == '\r';
        i = run + 1;
        if (!end_line(s, event, user))
            return SLM_OK;
        if (s->data.err)
            return s->data.err;
    }
    return SLM_OK;
}
