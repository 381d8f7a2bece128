/* piped.c - is standard input meant for us?
 *
 * `git diff | slm run MODEL PROMPT` must wait for git. The same command started by an editor, a
 * build server or another program that leaves an open pipe on standard input must not wait for ever.
 * Both look alike on the descriptor, so the writer decides: a process of our own process group that
 * is no ancestor of ours is the other half of a pipeline, and is waited for. From any other writer,
 * what comes within a moment is taken, to its end; if nothing comes, that is said.
 *
 * Source: proc(5): /proc/PID/stat fields 4 and 5 (parent, process group), /proc/PID/fd. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { ANCESTORS_MOST = 64, MOMENT_MS = 1000 };

static bool process_facts(long pid, long *parent, long *group) {
    char path[64];
    size_t n;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    char *text = read_path(path, 4096, &n);
    const char *after = text ? strrchr(text, ')') : NULL; /* the name may hold anything */
    bool ok = after && sscanf(after + 1, " %*c %ld %ld", parent, group) == 2;
    free(text);
    return ok;
}

/* Does the process hold the writing end of this pipe? */
static bool writes_to(long pid, ino_t pipe) {
    char folder[64], wanted[64], target[64];
    bool found = false;
    snprintf(folder, sizeof folder, "/proc/%ld/fd", pid);
    snprintf(wanted, sizeof wanted, "pipe:[%llu]", (unsigned long long)pipe);
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        struct stat s;
        ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        /* the link's own permissions tell how the descriptor was opened */
        found = strcmp(target, wanted) == 0 &&
                fstatat(dirfd(dir), e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 &&
                (s.st_mode & S_IWUSR);
    }
    if (dir)
        closedir(dir);
    return found;
}

static bool is_ancestor(long pid) {
    long at = (long)getpid(), group;
    for (int i = 0; i < ANCESTORS_MOST && at > 1; i++) {
        if (at == pid)
            return true;
        if (!process_facts(at, &at, &group))
            return false;
    }
    return at == pid;
}

static bool has_partner(ino_t pipe) {
    bool found = false;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        char *end;
        long pid = strtol(e->d_name, &end, 10), parent, group;
        if (*end || pid <= 0 || !process_facts(pid, &parent, &group) || group != (long)getpgrp())
            continue;
        found = !is_ancestor(pid) && writes_to(pid, pipe);
    }
    if (dir)
        closedir(dir);
    return found;
}

bool input_is_piped(struct cli *c, bool needed) {
    struct stat s;
    if (fstat(STDIN_FILENO, &s) != 0)
        return false;
    if (S_ISREG(s.st_mode)) /* of a file that a loop around us is reading, the rest is not for us */
        return needed || lseek(STDIN_FILENO, 0, SEEK_CUR) == 0;
    if (!S_ISFIFO(s.st_mode))
        return needed && !c->term.in_tty && !S_ISCHR(s.st_mode);
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    if (needed || poll(&p, 1, 0) > 0 || has_partner(s.st_ino))
        return true;
    if (poll(&p, 1, MOMENT_MS) > 0)
        return true;
    if (!interrupted())
        note(c, "standard input is an open pipe that gives nothing; going on without it ('-' waits "
                "for it)");
    return false;
}
