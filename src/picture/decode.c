/* decode.c - one picture through the child: starts it, feeds it, takes what it says, and ends it when it
 * takes too long. Nothing that the child says is believed: sizes are held against the limits again. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/pool.h"
#include "picture/picture.h"
#include "picture/wire.h"

#define BYTES_MOST ((size_t)10 << 20)
#define PIXELS_MOST ((uint64_t)40000000)
#define TIMEOUT_S 20
#define OWN_FILE "/proc/self/exe"

struct decoder {
    struct picture_options o;
    pid_t pid;
    int fd; /* both ways */
    const uint8_t *in;
    size_t n_in; /* left to be sent */
    struct picture_head head;
    size_t n_head; /* received */
    uint8_t *body; /* picture or message */
    size_t n_body, body_size;
    uint64_t deadline_ns;
    slm_why *why;
};

/* ------------------------------------------------------------------ start and end */

static slm_err start(struct decoder *d) {
    char pixels[24], bytes[24], seconds[12];
    char *const argv[] = { (char *)"slm", (char *)PICTURE_CHILD_ARG,
                           pixels,        bytes,
                           seconds,       (char *)(d->o.ignore_exif ? "as-stored" : "exif"),
                           NULL };
    char *const none[] = { NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int pair[2];
    snprintf(pixels, sizeof pixels, "%llu", (unsigned long long)d->o.max_pixels);
    snprintf(bytes, sizeof bytes, "%zu", d->o.max_bytes);
    snprintf(seconds, sizeof seconds, "%u", d->o.timeout_s);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return fail(d->why, SLM_E_IO, SLM_NO_OFFSET, "no connection to a picture decoder: %s",
                    strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    sigset_t empty, usual;
    sigemptyset(&empty);
    sigfillset(&usual);
    posix_spawnattr_setsigmask(&attributes, &empty);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int failed = posix_spawn(&d->pid, d->o.program, &actions, &attributes, argv, none);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    d->fd = pair[0];
    if (failed == 0)
        return SLM_OK;
    close(d->fd);
    return fail(d->why, SLM_E_IO, SLM_NO_OFFSET, "the picture decoder does not start: %s",
                strerror(failed));
}

static int finish(struct decoder *d, bool at_once) {
    int status = 0;
    close(d->fd);
    if (at_once)
        kill(d->pid, SIGKILL);
    while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* ------------------------------------------------------------------ talking */

static slm_err send_some(struct decoder *d) {
    ssize_t n = send(d->fd, d->in, d->n_in, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        d->in += n;
        d->n_in -= (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        d->n_in = 0; /* it has gone, or needs no more: what it says tells */
    }
    if (d->n_in == 0)
        shutdown(d->fd, SHUT_WR);
    return SLM_OK;
}

static slm_err make_room(struct decoder *d) {
    const struct picture_head *h = &d->head;
    uint64_t pixels = (uint64_t)h->width * h->height;
    if (h->magic != PICTURE_MAGIC || (h->code == 0 && (pixels == 0 || pixels > d->o.max_pixels)) ||
        (h->code != 0 && h->n >= sizeof d->why->message))
        return fail(d->why, SLM_E_IO, SLM_NO_OFFSET,
                    "the picture decoder says what makes no sense");
    d->body_size = h->code == 0 ? (size_t)pixels * 3 : h->n;
    d->body = malloc(d->body_size + 1);
    return d->body != NULL ? SLM_OK
                           : fail(d->why, SLM_E_NOMEM, SLM_NO_OFFSET,
                                  "no memory for a picture of %u x %u", h->width, h->height);
}

/* *end: the child closed its side. */
static slm_err receive_some(struct decoder *d, bool *end) {
    bool of_head = d->n_head < sizeof d->head;
    uint8_t *to = of_head ? (uint8_t *)&d->head + d->n_head : d->body + d->n_body;
    size_t room = of_head ? sizeof d->head - d->n_head : d->body_size - d->n_body;
    uint8_t extra;
    ssize_t n = recv(d->fd, room > 0 ? to : &extra, room > 0 ? room : 1, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR
                   ? SLM_OK
                   : (*end = true, SLM_OK); /* reset: its status says more */
    *end = n == 0;
    if (n > 0 && room == 0)
        return fail(d->why, SLM_E_IO, SLM_NO_OFFSET, "the picture decoder says too much");
    *(of_head ? &d->n_head : &d->n_body) += (size_t)n;
    return of_head && d->n_head == sizeof d->head ? make_room(d) : SLM_OK;
}

static slm_err talk(struct decoder *d) {
    slm_err err = SLM_OK;
    for (bool end = false; err == SLM_OK && !end;) {
        uint64_t now = clock_ns();
        if (now >= d->deadline_ns)
            return fail(d->why, SLM_E_BUDGET, SLM_NO_OFFSET,
                        "decoding the picture took more than %u s", d->o.timeout_s);
        struct pollfd p = { d->fd, (short)(POLLIN | (d->n_in > 0 ? POLLOUT : 0)), 0 };
        int ready = poll(&p, 1, (int)((d->deadline_ns - now) / 1000000) + 1);
        if (ready < 0 && errno != EINTR)
            return fail(d->why, SLM_E_IO, SLM_NO_OFFSET, "waiting for the picture decoder: %s",
                        strerror(errno));
        if (ready > 0 && (p.revents & POLLOUT) != 0)
            err = send_some(d);
        if (ready > 0 && err == SLM_OK && (p.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            err = receive_some(d, &end);
    }
    return err;
}

/* ------------------------------------------------------------------ what came of it */

static slm_err judge(struct decoder *d, int status, struct picture_rgb *out) {
    static const char *const formats[] = { "JPEG", "PNG", "WebP" };
    if (d->n_head == sizeof d->head && d->n_body == d->body_size && d->head.code != 0) {
        d->body[d->n_body] = 0;
        return fail(d->why, (slm_err)d->head.code, SLM_NO_OFFSET, "%s", (const char *)d->body);
    }
    if (WIFSIGNALED(status))
        return fail(d->why, SLM_E_IO, SLM_NO_OFFSET,
                    "the picture decoder was ended by signal %d; the picture is not usable",
                    WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == PICTURE_EXIT_SANDBOX)
        return fail(d->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "this system cannot lock the picture decoder in (seccomp); pictures are not "
                    "read without that");
    if (d->n_head < sizeof d->head || d->n_body < d->body_size)
        return fail(d->why, SLM_E_IO, SLM_NO_OFFSET,
                    "the picture decoder ended early (exit code %d)",
                    WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    *out = (struct picture_rgb){ d->body, d->head.width, d->head.height, "", d->head.turned };
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strncmp(d->head.format, formats[i], sizeof d->head.format) == 0)
            out->format = formats[i];
    d->body = NULL;
    return SLM_OK;
}

slm_err picture_decode(const void *data, size_t n, const struct picture_options *options,
                       struct picture_rgb *out, slm_why *why) {
    struct decoder d = { .in = data, .n_in = n, .why = why };
    slm_why unused;
    *out = (struct picture_rgb){ 0 };
    if (options != NULL)
        d.o = *options;
    if (why == NULL)
        d.why = &unused;
    d.o.max_bytes = d.o.max_bytes > 0 ? d.o.max_bytes : BYTES_MOST;
    d.o.max_pixels = d.o.max_pixels > 0 ? d.o.max_pixels : PIXELS_MOST;
    d.o.timeout_s = d.o.timeout_s > 0 ? d.o.timeout_s : TIMEOUT_S;
    d.o.program = d.o.program != NULL ? d.o.program : OWN_FILE;
    if (n > d.o.max_bytes)
        return fail(d.why, SLM_E_BUDGET, SLM_NO_OFFSET,
                    "the picture's file has %zu bytes, at most %zu are read", n, d.o.max_bytes);
    d.deadline_ns = clock_ns() + (uint64_t)d.o.timeout_s * 1000000000u;
    TRY(start(&d));
    if (n == 0)
        shutdown(d.fd, SHUT_WR);
    slm_err err = talk(&d);
    int status = finish(&d, err != SLM_OK);
    if (err == SLM_OK)
        err = judge(&d, status, out);
    free(d.body);
    return err;
}

void picture_free(struct picture_rgb *p) {
    free(p->data);
    *p = (struct picture_rgb){ 0 };
}
