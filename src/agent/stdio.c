/* stdio.c - a server that is a program: one message per line on its standard input and output.
 *
 * Started without a shell, in a process group of its own, with a short list of our variables and those
 * of the configuration. Both directions and standard error are served in one poll loop: a server that
 * writes a burst before it reads does not deadlock with us. Ended by closing its input, then SIGTERM,
 * then SIGKILL; the last goes to the whole group while its leader is still a zombie, so that no other
 * process can have the number by then. What leaves its group (setsid) is out of reach: a sandbox with a
 * process namespace is for that. */
#include "agent/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/utf8.h"
#include "cli/cli.h"

enum {
    TICK_MS = 50, /* how long a signal or the end of the program may go unnoticed */
    GRACE_MS = 2000, /* between SIGTERM and SIGKILL */
    PIECE = 65536,
    SAID_MOST = 1024, /* end of standard error that is kept for the message of a failure */
    STDERR_LINES = 200 /* that are passed on; a server that goes on is not worth listening to */
};

struct stdio {
    struct wire wire;
    struct wire_ear ear;
    const struct mcp_config *config;
    int in, out, err;   /* our ends; -1: at their end */
    struct buf queue;   /* to be written, [written..len) is left */
    size_t written;
    struct buf line;    /* what has come and was not given away: [taken..len) */
    size_t taken, seen; /* seen: no newline before it */
    struct buf err_line;
    char said[SAID_MOST];
    size_t n_said;
    unsigned err_lines;
};

char *line_clean(const char *text, size_t n, char *to, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t k = utf8_decode(text + i, n - i, &cp);
        bool control = k == 0 || cp < ' ' || (cp >= 0x7f && cp < 0xa0) ||
                       (cp >= 0x200e && cp <= 0x200f) || (cp >= 0x202a && cp <= 0x202e) ||
                       (cp >= 0x2066 && cp <= 0x2069); /* the last three turn the writing around */
        size_t wide = control ? 1 : k;
        if (used + wide >= size)
            break;
        if (control)
            to[used] = cp == '\n' || cp == '\t' ? ' ' : '?';
        else
            memcpy(to + used, text + i, k);
        used += wide;
        i += k ? k : 1;
    }
    to[used] = 0;
    return to;
}

/* ------------------------------------------------------------------ starting */

/* The variables of ours that a server gets; others may hold secrets. */
static const char *const passed_on[] = { "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH",
                                         "SHELL", "TERM", "TMPDIR", "TZ", "USER" };

static bool configured(const struct mcp_config *c, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < c->n_env; i++)
        if (strncmp(c->env[i], name, n) == 0 && c->env[i][n] == '=')
            return true;
    return false;
}

/* Returns owned, with owned strings at the beginning [*n_own] and borrowed ones behind. */
static char **environment_of(const struct mcp_config *c, size_t *n_own) {
    char **list = keep(calloc(ARRAY_LEN(passed_on) + c->n_env + 1, sizeof *list));
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(passed_on); i++) {
        const char *value = getenv(passed_on[i]);
        if (value && !configured(c, passed_on[i]))
            list[n++] = text_printf("%s=%s", passed_on[i], value);
    }
    *n_own = n;
    for (size_t i = 0; i < c->n_env; i++)
        list[n++] = c->env[i];
    return list;
}

/* 0, or errno. */
static int spawn(const struct mcp_config *c, int in, int out, int err, pid_t *pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t defaults, none;
    size_t n_own;
    char **environment = environment_of(c, &n_own);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGHUP);
    int failed = posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    if (!failed) /* ours are closed on exec anyway; these are what was left open for us */
        failed = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
    if (!failed && c->cwd)
        failed = posix_spawn_file_actions_addchdir_np(&files, c->cwd);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                       POSIX_SPAWN_SETSIGMASK);
    if (!failed)
        failed = posix_spawnp(pid, c->argv[0], &files, &how, c->argv, environment);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    for (size_t i = 0; i < n_own; i++)
        free(environment[i]);
    free(environment);
    return failed;
}

static void shut(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* All of it or nothing; ours do not block. 0, or errno. */
static int start(struct stdio *s) {
    int pair[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } }, failed = 0;
    for (int i = 0; i < 3 && !failed; i++)
        failed = pipe2(pair[i], O_CLOEXEC) == 0 ? 0 : errno;
    int *ours[3] = { &pair[0][1], &pair[1][0], &pair[2][0] };
    for (int i = 0; i < 3 && !failed; i++)
        failed = fcntl(*ours[i], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
    if (!failed)
        failed = spawn(s->config, pair[0][0], pair[1][1], pair[2][1], &s->wire.pid);
    if (!failed) {
        int *to[3] = { &s->in, &s->out, &s->err };
        for (int i = 0; i < 3; i++) {
            *to[i] = *ours[i];
            *ours[i] = -1;
        }
    }
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++)
            shut(&pair[i][k]);
    return failed;
}

/* ------------------------------------------------------------------ its standard error */

static void keep_end(struct stdio *s, const char *text, size_t n) {
    if (n > sizeof s->said)
        text += n - sizeof s->said, n = sizeof s->said;
    size_t room = sizeof s->said - s->n_said;
    if (n > room) {
        size_t drop = n - room;
        memmove(s->said, s->said + drop, s->n_said - drop);
        s->n_said -= drop;
    }
    memcpy(s->said + s->n_said, text, n);
    s->n_said += n;
}

static void pass_line(struct stdio *s) {
    char clean[512];
    if (s->err_line.len && s->err_lines < STDERR_LINES)
        s->ear.said(s->ear.user, MCP_STDERR,
                    line_clean(s->err_line.data, s->err_line.len, clean, sizeof clean));
    s->err_lines += s->err_lines < STDERR_LINES;
    buf_free(&s->err_line); /* forgets that it was too long as well */
}

static void read_err(struct stdio *s) {
    char piece[4096];
    ssize_t k = read(s->err, piece, sizeof piece);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (k <= 0) {
        shut(&s->err);
        return;
    }
    keep_end(s, piece, (size_t)k);
    for (ssize_t i = 0; i < k; i++)
        if (piece[i] == '\n')
            pass_line(s);
        else
            buf_putc(&s->err_line, piece[i]); /* the rest of a long line is dropped */
}

/* ------------------------------------------------------------------ lines */

/* Gives away whole lines until the ear has what it waits for. */
static enum wire_verdict give_lines(struct stdio *s) {
    enum wire_verdict verdict = WIRE_MORE;
    while (verdict == WIRE_MORE && !s->line.err) {
        const char *from = s->line.data + s->taken;
        const char *end = s->line.len > s->seen
                              ? memchr(s->line.data + s->seen, '\n', s->line.len - s->seen)
                              : NULL;
        if (!end) {
            s->seen = s->line.len;
            break;
        }
        size_t n = (size_t)(end - from);
        s->taken = s->seen = (size_t)(end - s->line.data) + 1;
        if (n && from[n - 1] == '\r')
            n--;
        if (n > MCP_LINE_MOST)
            s->line.err = SLM_E_BUDGET;
        else if (n)
            verdict = s->ear.message(s->ear.user, from, n);
    }
    return verdict;
}

/* Makes room: what was given away goes. */
static void forget_lines(struct stdio *s) {
    if (!s->taken)
        return;
    memmove(s->line.data, s->line.data + s->taken, s->line.len - s->taken);
    s->line.len -= s->taken;
    s->seen -= s->taken;
    s->taken = 0;
}

static void read_out(struct stdio *s) {
    char piece[PIECE];
    ssize_t k = read(s->out, piece, sizeof piece);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (k <= 0)
        shut(&s->out);
    else
        buf_put(&s->line, piece, (size_t)k);
}

static void write_in(struct stdio *s) {
    ssize_t k = write(s->in, s->queue.data + s->written, s->queue.len - s->written);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (k < 0)
        shut(&s->in);
    else
        s->written += (size_t)k;
    if (s->in < 0 || s->written == s->queue.len) {
        s->queue.len = 0;
        s->written = 0;
    }
}

/* Waits for at most that long and serves what is ready. False: nothing was. */
static bool turn(struct stdio *s, int wait_ms) {
    /* nothing to write: still told when nobody reads any more */
    struct pollfd set[3] = { { s->in, s->queue.len ? POLLOUT : 0, 0 },
                             { s->out, POLLIN, 0 },
                             { s->err, POLLIN, 0 } };
    if (poll(set, 3, wait_ms) <= 0)
        return false;
    if (set[0].revents && s->queue.len)
        write_in(s);
    else if (set[0].revents)
        shut(&s->in);
    if (set[1].revents)
        read_out(s);
    if (set[2].revents)
        read_err(s);
    return true;
}

/* ------------------------------------------------------------------ its end */

static bool has_exited(const struct stdio *s, siginfo_t *info) {
    memset(info, 0, sizeof *info);
    return waitid(P_PID, (id_t)s->wire.pid, info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info->si_pid == s->wire.pid;
}

/* What there is to say about a server that speaks no more. */
static slm_err ended(struct stdio *s, slm_why *why) {
    siginfo_t info;
    char how[64] = "closed its output", said[400] = "";
    for (int i = 0; i < 20 && !has_exited(s, &info); i++)
        poll(NULL, 0, 5); /* the streams close a moment before the program is gone */
    while (s->err >= 0 && turn(s, 0) && s->out < 0)
        continue;
    if (has_exited(s, &info))
        snprintf(how, sizeof how, info.si_code == CLD_EXITED ? "ended with exit code %d"
                                                             : "was killed by signal %d",
                 info.si_status);
    size_t n = s->n_said;
    while (n && (s->said[n - 1] == '\n' || s->said[n - 1] == ' '))
        n--;
    size_t from = n > sizeof said - 1 ? n - (sizeof said - 1) : 0;
    line_clean(s->said + from, n - from, said, sizeof said);
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s' %s%s%s", s->config->name, how,
                said[0] ? "; it said: " : "", said);
}

static bool group_gone(struct stdio *s, unsigned wait_ms) {
    siginfo_t info;
    uint64_t until = clock_ns() + wait_ms * UINT64_C(1000000);
    while (!has_exited(s, &info)) {
        if (clock_ns() > until)
            return false;
        turn(s, 10); /* a full pipe would keep it from ending */
        s->line.len = s->taken = s->seen = 0;
        if (s->out < 0 && s->err < 0)
            poll(NULL, 0, 5);
    }
    return true;
}

static void stdio_close(struct wire *w) {
    struct stdio *s = (struct stdio *)w;
    if (w->pid > 0) {
        if (interrupted() || s->in < 0)
            kill(-w->pid, SIGTERM);
        shut(&s->in);
        s->queue.len = 0;
        if (!group_gone(s, s->config->stop_s * 1000)) {
            kill(-w->pid, SIGTERM);
            group_gone(s, GRACE_MS);
        }
        kill(-w->pid, SIGKILL); /* what it started, and itself if it is still there */
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    shut(&s->in);
    shut(&s->out);
    shut(&s->err);
    buf_free(&s->queue);
    buf_free(&s->line);
    buf_free(&s->err_line);
    free(s);
}

/* ------------------------------------------------------------------ the wire */

static slm_err stdio_send(struct wire *w, const struct wire_send *m, slm_why *why) {
    struct stdio *s = (struct stdio *)w;
    siginfo_t info;
    bool quiet = false;
    buf_put(&s->queue, m->text, m->n);
    buf_putc(&s->queue, '\n');
    for (;;) {
        enum wire_verdict verdict = give_lines(s);
        forget_lines(s);
        if (verdict == WIRE_DONE || (!m->answer && !s->queue.len && s->in >= 0))
            return SLM_OK;
        if (verdict == WIRE_STOP)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s' is given up",
                        s->config->name);
        if (s->line.err || s->line.len > MCP_LINE_MOST || s->queue.err)
            return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                        "server '%s' has written a line of more than %d bytes", s->config->name,
                        MCP_LINE_MOST);
        if (interrupted())
            return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
        if (s->out < 0 || s->in < 0 || (quiet && has_exited(s, &info)))
            return ended(s, why);
        if (clock_ns() > m->deadline_ns)
            return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s' did not answer %s in time",
                        s->config->name, m->method);
        quiet = !turn(s, TICK_MS);
    }
}

static void stdio_reply(struct wire *w, const char *text, size_t n) {
    struct stdio *s = (struct stdio *)w;
    buf_put(&s->queue, text, n);
    buf_putc(&s->queue, '\n');
}

static void stdio_drain(struct wire *w) {
    struct stdio *s = (struct stdio *)w;
    for (int i = 0; i < 64 && s->out >= 0 && turn(s, 0); i++) {
        if (give_lines(s) == WIRE_STOP)
            break;
        forget_lines(s);
    }
}

static bool stdio_alive(struct wire *w) {
    struct stdio *s = (struct stdio *)w;
    siginfo_t info;
    return s->in >= 0 && s->out >= 0 && !s->line.err && s->line.len <= MCP_LINE_MOST &&
           !has_exited(s, &info);
}

slm_err stdio_open(const struct mcp_config *config, const struct wire_ear *ear, struct wire **out,
                   slm_why *why) {
    struct stdio *s = keep(calloc(1, sizeof *s));
    s->wire = (struct wire){ .send = stdio_send,
                             .reply = stdio_reply,
                             .drain = stdio_drain,
                             .alive = stdio_alive,
                             .close = stdio_close };
    s->ear = *ear;
    s->config = config;
    s->in = s->out = s->err = -1;
    buf_init(&s->queue, NULL, 2 * (size_t)MCP_LINE_MOST);
    buf_init(&s->line, NULL, MCP_LINE_MOST + 2 * (size_t)PIECE);
    buf_init(&s->err_line, NULL, 4096);
    int failed = start(s);
    if (failed) {
        s->wire.pid = 0;
        stdio_close(&s->wire);
        return fail(why, SLM_E_IO, SLM_NO_OFFSET, "server '%s': '%s' cannot be started: %s",
                    config->name, config->argv[0], strerror(failed));
    }
    *out = &s->wire;
    return SLM_OK;
}
