/* child.c - the process that decodes one picture and can do nothing else.
 *
 * In: the file on standard input up to its end.  Out on standard output: struct picture_head, then rows of
 * RGB, or a message. Before a byte of the file is looked at the process gives up what it does not need:
 * memory beyond the pixel limit, time, files, and every system call but those that read, write, take
 * memory and end. A decoder that is talked into anything else is ended by the system. */
#include <errno.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/err.h"
#include "picture/decoders.h"
#include "picture/wire.h"

#if defined(HAVE_ASAN) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* their runtimes want more memory and more calls */
#endif

/* ------------------------------------------------------------------ decoding */

slm_err decode_fail(struct decoding *d, slm_err code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    d->why = (slm_why){ .code = code, .offset = SLM_NO_OFFSET };
    vsnprintf(d->why.message, sizeof d->why.message, format, args);
    va_end(args);
    return code;
}

slm_err decode_room(struct decoding *d, uint64_t width, uint64_t height) {
    if (width == 0 || height == 0)
        return decode_fail(d, SLM_E_FORMAT, "%s: a picture of %llu x %llu", d->out.format,
                           (unsigned long long)width, (unsigned long long)height);
    if (width > SIDE_MOST || height > SIDE_MOST)
        return decode_fail(d, SLM_E_BUDGET, "a picture of %llu x %llu, sides are at most %u",
                           (unsigned long long)width, (unsigned long long)height, SIDE_MOST);
    if (width * height > d->max_pixels)
        return decode_fail(d, SLM_E_BUDGET,
                           "a picture of %llu x %llu = %llu pixels, at most %llu are read",
                           (unsigned long long)width, (unsigned long long)height,
                           (unsigned long long)(width * height), (unsigned long long)d->max_pixels);
    d->out.data = malloc((size_t)(width * height) * 3);
    if (d->out.data == NULL)
        return decode_fail(d, SLM_E_NOMEM, "no memory for a picture of %llu x %llu",
                           (unsigned long long)width, (unsigned long long)height);
    memset(d->out.data, 0, (size_t)(width * height) * 3);
    d->out.width = (uint32_t)width;
    d->out.height = (uint32_t)height;
    return SLM_OK;
}

/* What the bytes are, for the message when they are none of the three. */
static const char *looks_like(const uint8_t *p, size_t n) {
    static const struct {
        const char *name;
        size_t at, n;
        const char *bytes;
    } known[] = { { "a GIF", 0, 4, "GIF8" },          { "a TIFF", 0, 4, "II*\0" },
                  { "a TIFF", 0, 4, "MM\0*" },        { "a BMP", 0, 2, "BM" },
                  { "a HEIC or AVIF", 4, 4, "ftyp" }, { "a PDF", 0, 4, "%PDF" },
                  { "a JPEG 2000", 4, 4, "jP  " },    { "an SVG", 0, 4, "<svg" } };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (n >= known[i].at + known[i].n &&
            memcmp(p + known[i].at, known[i].bytes, known[i].n) == 0)
            return known[i].name;
    for (size_t i = 0; i < n && i < 64; i++)
        if (p[i] < 9 || p[i] == 127)
            return "something else";
    return n == 0 ? "empty" : "text";
}

slm_err decode_any(struct decoding *d) {
    slm_err err;
    d->orientation = 1;
    d->out = (struct picture_rgb){ .turned = 1 };
    if (d->n >= 3 && memcmp(d->data, "\xff\xd8\xff", 3) == 0)
        err = decode_jpeg(d);
    else if (d->n >= 8 && memcmp(d->data, "\x89PNG\r\n\x1a\n", 8) == 0)
        err = decode_png(d);
    else if (d->n >= 12 && memcmp(d->data, "RIFF", 4) == 0 && memcmp(d->data + 8, "WEBP", 4) == 0)
        err = decode_webp(d);
    else
        err = decode_fail(d, SLM_E_UNSUPPORTED,
                          "the file is %s; pictures are read from JPEG, PNG and WebP",
                          looks_like(d->data, d->n));
    if (err == SLM_OK && !d->ignore_exif && d->orientation > 1)
        err = turn(&d->out, d->orientation, &d->why);
    if (err != SLM_OK) {
        free(d->out.data);
        d->out.data = NULL;
    }
    return err;
}

/* ------------------------------------------------------------------ giving up rights */

/* Decoded pixels twice (turning), the file twice, and what libraries take. */
static bool set_limits(uint64_t max_pixels, uint64_t max_bytes, unsigned timeout_s) {
    const rlim_t bytes = max_pixels * 8 + max_bytes * 2 + ((rlim_t)256 << 20);
    const struct rlimit memory = { bytes, bytes }, time = { timeout_s + 1, timeout_s + 1 },
                        none = { 0, 0 }, files = { 3, 3 };
#if defined(SANITIZED) /* their shadow memory is terabytes of addresses */
    (void)memory;
#else
    if (setrlimit(RLIMIT_AS, &memory) != 0)
        return false;
#endif
    return setrlimit(RLIMIT_CPU, &time) == 0 && setrlimit(RLIMIT_CORE, &none) == 0 &&
           setrlimit(RLIMIT_FSIZE, &none) == 0 && setrlimit(RLIMIT_NOFILE, &files) == 0;
}

static bool allow(scmp_filter_ctx filter, int call) {
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0) == 0;
}

static bool set_filter(void) {
    static const int calls[] = {
        SCMP_SYS(read),  SCMP_SYS(write),        SCMP_SYS(exit),      SCMP_SYS(exit_group),
        SCMP_SYS(brk),   SCMP_SYS(munmap),       SCMP_SYS(mremap),    SCMP_SYS(madvise),
        SCMP_SYS(futex), SCMP_SYS(rt_sigreturn), SCMP_SYS(getrandom), SCMP_SYS(rt_sigprocmask)
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    bool ok = filter != NULL;
    for (size_t i = 0; i < ARRAY_LEN(calls) && ok; i++)
        ok = allow(filter, calls[i]);
    /* memory, but none that can be executed */
    ok = ok && seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0;
    ok = ok && seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0;
#if defined(SANITIZED)
    static const int theirs[] = {
        SCMP_SYS(sigaltstack), SCMP_SYS(gettid),   SCMP_SYS(getpid),
        SCMP_SYS(openat),      SCMP_SYS(readlink), SCMP_SYS(sched_yield)
    };
    for (size_t i = 0; i < ARRAY_LEN(theirs) && ok; i++)
        ok = allow(filter, theirs[i]);
#endif
    ok = ok && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return ok;
}

bool picture_lock(uint64_t max_pixels, size_t max_bytes, unsigned timeout_s) {
    return set_limits(max_pixels, max_bytes, timeout_s) && set_filter();
}

/* ------------------------------------------------------------------ in and out */

static uint8_t *read_file(size_t most, size_t *n) {
    uint8_t *data = malloc(most + 1);
    *n = 0;
    for (ssize_t got = 1; data != NULL && got > 0 && *n <= most;) {
        got = read(STDIN_FILENO, data + *n, most + 1 - *n);
        if (got > 0)
            *n += (size_t)got;
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    return data;
}

static void write_all(const void *data, size_t n) {
    const uint8_t *p = data;
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            _exit(PICTURE_EXIT_PIPE);
        p += done;
        n -= (size_t)done;
    }
}

static void say_failure(const slm_why *why) {
    struct picture_head head = { .magic = PICTURE_MAGIC, .code = (uint32_t)why->code };
    head.n = (uint32_t)strlen(why->message);
    write_all(&head, sizeof head);
    write_all(why->message, head.n);
}

static void say_picture(const struct picture_rgb *p) {
    struct picture_head head = {
        .magic = PICTURE_MAGIC, .width = p->width, .height = p->height, .turned = p->turned
    };
    snprintf(head.format, sizeof head.format, "%s", p->format);
    write_all(&head, sizeof head);
    write_all(p->data, (size_t)p->width * p->height * 3);
}

/* Arguments: PICTURE_CHILD_ARG, most pixels, most bytes, seconds, "exif" or "as-stored". */
int picture_child_main(int argc, char **argv) {
    struct decoding d = { 0 };
    if (argc != 6)
        return PICTURE_EXIT_USAGE;
    d.max_pixels = strtoull(argv[2], NULL, 10);
    size_t most = (size_t)strtoull(argv[3], NULL, 10);
    d.ignore_exif = strcmp(argv[5], "exif") != 0;
    if (!picture_lock(d.max_pixels, most, (unsigned)strtoul(argv[4], NULL, 10)))
        return PICTURE_EXIT_SANDBOX;
    uint8_t *file = read_file(most, &d.n);
    d.data = file;
    slm_err err = file == NULL ? decode_fail(&d, SLM_E_NOMEM, "no memory for the file")
                  : d.n > most
                      ? decode_fail(&d, SLM_E_BUDGET, "the file has more than %zu bytes", most)
                      : decode_any(&d);
    if (err == SLM_OK)
        say_picture(&d.out);
    else
        say_failure(&d.why);
    _exit(0);
}
