/* lines.c - standard input, or another file, line by line, of any length up to a limit, NUL bytes included. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

void lines_init(struct lines *l) {
    l->at = l->n = 0;
    l->fd = STDIN_FILENO;
    l->end = l->failed = false;
    buf_init(&l->line, NULL, LINE_MOST);
}

void lines_free(struct lines *l) {
    buf_free(&l->line);
}

bool lines_fill(struct lines *l) {
    while (l->at == l->n && !l->end) {
        ssize_t k = read(l->fd, l->data, sizeof l->data);
        if (k < 0 && errno == EINTR && !interrupted())
            continue;
        l->failed = k < 0;
        l->end = k <= 0;
        l->at = 0;
        l->n = k > 0 ? (size_t)k : 0;
    }
    return l->at < l->n;
}

bool lines_next(struct lines *l) {
    l->line.len = 0;
    bool any = false;
    while (lines_fill(l)) {
        any = true;
        char *newline = memchr(l->data + l->at, '\n', l->n - l->at);
        size_t take = newline ? (size_t)(newline - (l->data + l->at)) : l->n - l->at;
        buf_put(&l->line, l->data + l->at, take);
        l->at += take + (newline != NULL);
        if (newline)
            break;
    }
    buf_putc(&l->line, '\0'); /* for callers that read on to a zero byte; not part of the line */
    l->line.len -= l->line.len > 0;
    return any && !l->failed;
}

bool lines_blank(const struct lines *l) {
    for (size_t i = 0; i < l->line.len; i++)
        if (!strchr(" \t\r", l->line.data[i]))
            return false;
    return true;
}
