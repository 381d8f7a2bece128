/* output.c - standard output of the program.
 *
 * One buffered writer for everything, so that a reader that goes away (EPIPE) ends the work quietly
 * and a full disk is reported once, at the end, instead of being lost. SIGPIPE is ignored (main.c). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static bool write_through(struct output *o, const char *data, size_t n) {
    while (n && !o->broken && !o->failed) {
        ssize_t k = write(STDOUT_FILENO, data, n);
        if (k >= 0) {
            data += k;
            n -= (size_t)k;
        } else if (errno == EPIPE) {
            o->broken = true;
        } else if (errno != EINTR) {
            o->failed = errno;
        }
    }
    return !o->broken && !o->failed;
}

bool out_flush(struct output *o) {
    size_t n = o->n;
    o->n = 0;
    return write_through(o, o->data, n);
}

bool out_write(struct output *o, const void *data, size_t n) {
    if (n > sizeof o->data - o->n && !out_flush(o))
        return false;
    if (n >= sizeof o->data)
        return write_through(o, data, n);
    if (n)
        memcpy(o->data + o->n, data, n);
    o->n += n;
    return !o->broken && !o->failed;
}

bool out_text(struct output *o, const char *text) {
    return out_write(o, text, strlen(text));
}

bool out_printf(struct output *o, const char *format, ...) {
    char small[512];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(small, sizeof small, format, list);
    va_end(list);
    if (n < 0)
        return false;
    if ((size_t)n < sizeof small)
        return out_write(o, small, (size_t)n);
    char *large = keep(malloc((size_t)n + 1));
    va_start(list, format);
    vsnprintf(large, (size_t)n + 1, format, list);
    va_end(list);
    bool ok = out_write(o, large, (size_t)n);
    free(large);
    return ok;
}

static int dump_piece(const char *data, size_t n, void *user) {
    return out_write(user, data, n) ? 0 : -1;
}

bool out_json(struct output *o, json_t *value, bool compact) {
    keep_json(value);
    size_t flags =
        JSON_ENCODE_ANY | JSON_REAL_PRECISION(9) | (compact ? JSON_COMPACT : JSON_INDENT(2));
    bool ok = json_dump_callback(value, dump_piece, o, flags) == 0;
    json_decref(value);
    return ok && out_write(o, "\n", 1);
}

void *keep(void *p) {
    if (!p) {
        static const char words[] = "slm: out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, words, sizeof words - 1);
        (void)ignored;
        exit(EXIT_COULD_NOT);
    }
    return p;
}

json_t *keep_json(json_t *p) {
    return keep(p);
}

char *text_printf(const char *format, ...) {
    char *text = NULL;
    va_list list;
    va_start(list, format);
    int n = vasprintf(&text, format, list);
    va_end(list);
    return keep(n < 0 ? NULL : text);
}
