/* signals.c - Ctrl-C. The first one asks the running session to stop, so that what was said so far
 * is kept; a second one ends the program at once. The only mutable globals of the program are here,
 * because a signal handler has nothing else. */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static volatile sig_atomic_t hits;
static volatile sig_atomic_t idle;
static volatile sig_atomic_t guarded;
static _Atomic(slm_session *) watched;
static _Atomic(const char *) last_words;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    hits = hits < 2 ? hits + 1 : 2;
    if (idle)
        return;
    if (hits > 1 && !guarded) {
        const char *words = atomic_load(&last_words);
        if (words) {
            ssize_t ignored = write(STDOUT_FILENO, words, strlen(words));
            (void)ignored;
        }
        _exit(EXIT_INTERRUPTED);
    }
    slm_session *session = atomic_load(&watched);
    if (session)
        slm_session_cancel(session);
}

void signals_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_interrupt; /* no SA_RESTART: a read that waits for input ends */
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

void signals_watch(slm_session *session) {
    atomic_store(&watched, session);
    idle = 0;
    if (session && hits) /* came between two looks */
        slm_session_cancel(session);
}

void signals_idle(void) {
    idle = 1;
    atomic_store(&watched, NULL);
}

void signals_child(bool runs) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = runs ? on_interrupt : SIG_DFL;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    if (runs)
        signals_idle();
}

void signals_servers(bool run) {
    signals_child(run);
    guarded = run;
    idle = 0;
}

bool interrupted(void) {
    return hits != 0;
}

void interrupted_clear(void) {
    hits = 0;
}

void signals_last_words(const char *text) {
    atomic_store(&last_words, text);
}
