/* term.c - what the terminal can do, the progress line, and numbers for people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/pool.h"
#include "cli/cli.h"

void term_init(struct term *t) {
    const char *name = getenv("TERM"), *plain = getenv("NO_COLOR");
    bool colours = !(plain && plain[0]) && name && name[0] && strcmp(name, "dumb") != 0;
    struct winsize size;
    t->in_tty = isatty(STDIN_FILENO);
    t->out_tty = isatty(STDOUT_FILENO);
    t->err_tty = isatty(STDERR_FILENO);
    t->out_colour = t->out_tty && colours;
    t->err_colour = t->err_tty && colours;
    t->width = 80;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
        t->width = size.ws_col;
}

/* ------------------------------------------------------------------ numbers */

const char *format_bytes(uint64_t bytes, char *text, size_t size) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double v = (double)bytes;
    size_t unit = 0;
    while (v >= 999.5 && unit + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        unit++;
    }
    snprintf(text, size, unit && v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[unit]);
    return text;
}

const char *format_count(uint64_t n, char *text, size_t size) {
    char digits[32], spaced[48];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t k = 0;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            spaced[k++] = ',';
        spaced[k++] = digits[i];
    }
    spaced[k] = 0;
    snprintf(text, size, "%s", spaced);
    return text;
}

const char *format_seconds(double seconds, char *text, size_t size) {
    unsigned long s = seconds > 0 ? (unsigned long)(seconds + 0.5) : 0;
    if (s < 60)
        snprintf(text, size, "%lu s", s);
    else if (s < 3600)
        snprintf(text, size, "%lu min %lu s", s / 60, s % 60);
    else
        snprintf(text, size, "%lu h %lu min", s / 3600, s % 3600 / 60);
    return text;
}

size_t text_columns(const char *s, size_t n) {
    size_t columns = 0;
    for (size_t i = 0; i < n; i++)
        columns += ((unsigned char)s[i] & 0xC0) != 0x80;
    return columns;
}

/* ------------------------------------------------------------------ progress */

enum { FIRST_MS = 1000, EVERY_MS = 100 };

void progress_start(struct progress *p, const struct term *t, bool quiet, const char *label,
                    const char *unit) {
    memset(p, 0, sizeof *p);
    p->term = t;
    p->enabled = t->err_tty && !quiet;
    p->start_ns = clock_ns();
    snprintf(p->label, sizeof p->label, "%s", label);
    snprintf(p->unit, sizeof p->unit, "%s", unit);
}

void progress_step(struct progress *p, uint64_t done, uint64_t total) {
    if (!p->enabled)
        return;
    uint64_t now = clock_ns();
    if (now - p->start_ns < FIRST_MS * UINT64_C(1000000) ||
        now - p->last_ns < EVERY_MS * UINT64_C(1000000))
        return;
    p->last_ns = now;
    char line[256], a[32], b[32], left[64] = "", rate[40] = "";
    double seconds = (double)(now - p->start_ns) / 1e9;
    if (done && total > done)
        snprintf(left, sizeof left, ", %s left",
                 format_seconds(seconds / (double)done * (double)(total - done), a, sizeof a));
    bool size = strcmp(p->unit, "B") == 0;
    if (size && done)
        snprintf(rate, sizeof rate, ", %s/s",
                 format_bytes((uint64_t)((double)done / seconds), a, sizeof a));
    const char *(*format)(uint64_t, char *, size_t) = size ? format_bytes : format_count;
    if (total)
        snprintf(line, sizeof line, "%s %3.0f %%  %s of %s%s%s%s%s", p->label,
                 100.0 * (double)done / (double)total, format(done, a, sizeof a),
                 format(total, b, sizeof b), size ? "" : " ", size ? "" : p->unit, rate, left);
    else
        snprintf(line, sizeof line, "%s %s%s%s", p->label, format(done, a, sizeof a),
                 size ? "" : " ", size ? "" : p->unit);
    if (p->term->width < sizeof line)
        line[p->term->width - 1] = 0;
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    p->shown = true;
}

void progress_end(struct progress *p) {
    if (p->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    p->shown = p->enabled = false;
}
