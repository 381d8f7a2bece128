/* child.c - running another program: posix_spawn, two pipes, a deadline.
 *
 * The child leads a process group, so that ending it ends what it started as well. Ctrl-C at a
 * terminal goes to our group only; the handler of signals.c sets its flag, poll returns, and the
 * child's group is ended from here. SIGTERM and SIGHUP are taken the same way meanwhile. */
#include "cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "cli/cli.h"

#define TICK_MS 100          /* how long a signal may go unnoticed when it comes just before poll */
#define GRACE_NS 2000000000u /* between SIGTERM and SIGKILL */
#define SECOND_NS UINT64_C(1000000000)

extern char **environ;

struct stream {
    int fd; /* -1: at its end */
    struct buf text;
};

/* ------------------------------------------------------------------ starting */

static bool make_pipe(int fd[2]) {
    return pipe2(fd, O_CLOEXEC) == 0;
}

static void close_pair(int fd[2]) {
    for (int i = 0; i < 2; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

/* 0, or errno. Signals that this program ignores or handles are ordinary ones in the child. */
static int spawn(char *const argv[], int out, int err, pid_t *pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t defaults, none;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGHUP);
    int failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                       POSIX_SPAWN_SETSIGMASK);
    if (!failed)
        failed = posix_spawnp(pid, argv[0], &files, &how, argv, environ);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return failed;
}

/* ------------------------------------------------------------------ collecting */

/* Reads what is there. Standard error keeps its end only. */
static void drain(struct stream *s, bool keep_end) {
    char piece[4096];
    ssize_t k = read(s->fd, piece, sizeof piece);
    if (k < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (k <= 0) {
        close(s->fd);
        s->fd = -1;
        return;
    }
    if (keep_end && s->text.len > 4 * sizeof piece) {
        size_t end = sizeof piece;
        memmove(s->text.data, s->text.data + s->text.len - end, end);
        s->text.len = end;
    }
    buf_put(&s->text, piece, (size_t)k);
}

/* Until both streams end or there is a reason to end the child: which one, or CHILD_EXITED. */
static enum child_end collect(struct stream s[2], uint64_t deadline_ns) {
    while (s[0].fd >= 0 || s[1].fd >= 0) {
        struct pollfd wait[2] = { { s[0].fd, POLLIN, 0 }, { s[1].fd, POLLIN, 0 } };
        int ready = poll(wait, 2, TICK_MS); /* a negative fd is passed over */
        for (int i = 0; i < 2 && ready > 0; i++)
            if (wait[i].revents)
                drain(&s[i], i == 1);
        if (interrupted())
            return CHILD_INTERRUPTED;
        if (s[0].text.err)
            return CHILD_TOO_MUCH;
        if (clock_ns() > deadline_ns)
            return CHILD_TIMEOUT;
    }
    return CHILD_EXITED;
}

static void pause_ms(unsigned ms) {
    (void)poll(NULL, 0, (int)ms);
}

/* Waits for the child's end until then; false: it still runs. */
static bool reap(pid_t pid, uint64_t until_ns, int *status) {
    for (;;) {
        pid_t done = waitpid(pid, status, WNOHANG);
        if (done == pid || (done < 0 && errno != EINTR))
            return true;
        if (clock_ns() > until_ns)
            return false;
        pause_ms(5);
    }
}

static void end_group(pid_t pid, int *status) {
    kill(-pid, SIGTERM);
    bool gone = reap(pid, clock_ns() + GRACE_NS, status);
    kill(-pid, SIGKILL); /* also what it left behind */
    while (!gone && waitpid(pid, status, 0) < 0 && errno == EINTR)
        continue;
}

/* The last lines of standard error that fit, made printable. */
static void keep_said(struct child *c, const struct buf *text) {
    size_t from = text->len > sizeof c->said - 1 ? text->len - (sizeof c->said - 1) : 0, n = 0;
    for (size_t i = from; i < text->len; i++) {
        char k = text->data[i];
        c->said[n++] = k == '\n' || (k >= ' ' && k <= '~') ? k : '?';
    }
    while (n && (c->said[n - 1] == '\n' || c->said[n - 1] == ' '))
        n--;
    c->said[n] = 0;
}

static void set_status(struct child *c, int status) {
    bool killed = WIFSIGNALED(status);
    if (c->end == CHILD_EXITED && killed)
        c->end = CHILD_KILLED;
    c->status = killed ? WTERMSIG(status) : WEXITSTATUS(status);
}

void child_run(char *const argv[], unsigned timeout_s, size_t most_bytes, struct child *c) {
    int out[2] = { -1, -1 }, err[2] = { -1, -1 }, status = 0;
    pid_t pid;
    memset(c, 0, sizeof *c);
    signals_child(true);
    c->end = CHILD_NOT_STARTED;
    c->status = make_pipe(out) && make_pipe(err) ? spawn(argv, out[1], err[1], &pid) : errno;
    if (c->status) {
        close_pair(out);
        close_pair(err);
        c->out = keep(calloc(1, 1));
        signals_child(false);
        return;
    }
    uint64_t deadline = clock_ns() + timeout_s * SECOND_NS;
    struct stream s[2] = { { .fd = out[0] }, { .fd = err[0] } };
    close(out[1]);
    close(err[1]);
    buf_init(&s[0].text, NULL, most_bytes);
    buf_init(&s[1].text, NULL, (size_t)1 << 20);
    c->end = collect(s, deadline);
    /* a program may close its streams and go on: it has the rest of its time for that */
    while (c->end == CHILD_EXITED && !reap(pid, clock_ns() + TICK_MS * UINT64_C(1000000), &status))
        c->end = interrupted()           ? CHILD_INTERRUPTED
                 : clock_ns() > deadline ? CHILD_TIMEOUT
                                         : CHILD_EXITED;
    if (c->end != CHILD_EXITED)
        end_group(pid, &status);
    set_status(c, status);
    keep_said(c, &s[1].text);
    c->n = s[0].text.len;
    c->out = s[0].text.len ? buf_take(&s[0].text) : NULL;
    if (!c->out) {
        c->n = 0;
        c->out = keep(calloc(1, 1));
    }
    for (int i = 0; i < 2; i++) {
        if (s[i].fd >= 0)
            close(s[i].fd);
        buf_free(&s[i].text);
    }
    signals_child(false);
}

void child_free(struct child *c) {
    free(c->out);
    c->out = NULL;
}

/* ------------------------------------------------------------------ words */

/* One word from *at on, unquoted, into word (as long as the line). False: a quote is open. */
static bool next_word(const char **at, char *word) {
    char quote = 0;
    for (; **at && (quote || **at != ' '); (*at)++) {
        if (!quote && (**at == '\'' || **at == '"'))
            quote = **at;
        else if (**at == quote)
            quote = 0;
        else
            *word++ = **at;
    }
    *word = 0;
    return !quote;
}

char **words_split(const char *line, size_t spare, size_t *n) {
    size_t most = strlen(line) / 2 + 2;
    char **words = keep(calloc(most + spare + 1, sizeof *words));
    *n = 0;
    for (const char *p = line;;) {
        while (*p == ' ')
            p++;
        if (!*p)
            return words;
        words[*n] = keep(malloc(strlen(p) + 1));
        if (!next_word(&p, words[(*n)++])) {
            words_free(words);
            return NULL;
        }
    }
}

void words_free(char **words) {
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}
