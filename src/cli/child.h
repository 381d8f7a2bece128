/* child.h - running another program and collecting what it prints. */
#ifndef SLM_CLI_CHILD_H
#define SLM_CLI_CHILD_H

#include <stdbool.h>
#include <stddef.h>

enum child_end {
    CHILD_EXITED,      /* status is its exit code */
    CHILD_KILLED,      /* status is the number of the signal that ended it */
    CHILD_NOT_STARTED, /* status is errno */
    CHILD_TIMEOUT,     /* it was ended because it took too long */
    CHILD_TOO_MUCH,    /* it was ended because it printed too much */
    CHILD_INTERRUPTED  /* it was ended because of Ctrl-C, SIGTERM or SIGHUP */
};

struct child {
    enum child_end end;
    int status;
    char *out; /* standard output [n], a zero byte after it; owned */
    size_t n;
    char said[768]; /* the end of standard error, printable characters and newlines only */
};

/* Runs argv[0] (looked for in PATH, no shell) with the given arguments, nothing on standard input, in
 * a process group of its own, and returns when it has ended or was ended: after timeout_s seconds,
 * more than most_bytes on standard output, or Ctrl-C, it and all that it started get SIGTERM and two
 * seconds later SIGKILL. Free with child_free. Afterwards signals_watch has to be called again. */
void child_run(char *const argv[], unsigned timeout_s, size_t most_bytes, struct child *c);
void child_free(struct child *c);

/* Words of a command line: separated by spaces, '...' and "..." keep spaces inside, nothing else has a
 * meaning. A NULL-terminated array with room for `spare` more words, *n of the words; free each word
 * and the array with words_free. NULL when a quote is not closed. */
char **words_split(const char *line, size_t spare, size_t *n);
void words_free(char **words);

#endif
