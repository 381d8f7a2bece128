/* serve.c - the life of a server: start, signals, draining, the end.
 *
 * SIGTERM, or Ctrl-C, begins to drain: /health/ready says no at once; new requests are taken for a short
 * while yet, so that balancers can notice; then they are refused, what runs may finish, and what is left
 * after the grace time ends with an error of its dialect. A second signal ends it at once. */
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/core.h"
#include "server/notify.h"

enum { PEM_MOST = 1 << 20, LAST_SECONDS = 5 };
#define SECOND UINT64_C(1000000000)

/* ------------------------------------------------------------------ what it is told */

static int load_keys(struct server *s) {
    const struct server_options *o = &s->options;
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char *handed = o->keys_file == NULL && folder ? text_printf("%s/slm-keys", folder) : NULL;
    slm_why why;
    slm_err err = SLM_OK;
    if (o->keys_file)
        err = keys_load(&s->keys, o->keys_file, false, &why);
    else if (handed && access(handed, R_OK) == 0)
        err = keys_load(&s->keys, handed, true, &why);
    free(handed);
    s->has_keys = s->keys.n > 0;
    return err == SLM_OK ? EXIT_DONE
                         : report(s->cli, EXIT_COULD_NOT, slm_err_name(err), NULL, "%s", why.message);
}

static int check_address(struct server *s) {
    const struct server_options *o = &s->options;
    if (!s->has_keys && !o->insecure_no_key && !gate_is_loopback(o->host))
        return report_usage(s->cli,
                            "--keys FILE    lines of NAME KEY, mode 600\n"
                            "--insecure-no-key    anybody who reaches the port may use it",
                            "--host %s can be reached from other machines and there is no key",
                            o->host);
    if ((o->tls_cert == NULL) != (o->tls_key == NULL))
        return report_usage(s->cli, NULL, "--tls-cert and --tls-key go together");
    return EXIT_DONE;
}

static int load_tls(struct server *s) {
    size_t n;
    if (s->options.tls_cert == NULL)
        return EXIT_DONE;
    s->tls_cert = read_path(s->options.tls_cert, PEM_MOST, &n);
    if (s->tls_cert == NULL)
        return report(s->cli, EXIT_COULD_NOT, "E_IO", NULL, "%s: %s", s->options.tls_cert,
                      strerror(errno));
    s->tls_key = read_path(s->options.tls_key, PEM_MOST, &n);
    if (s->tls_key == NULL)
        return report(s->cli, EXIT_COULD_NOT, "E_IO", NULL, "%s: %s", s->options.tls_key,
                      strerror(errno));
    return EXIT_DONE;
}

static int prepare(struct server *s) {
    int code = load_keys(s);
    if (code == EXIT_DONE)
        code = check_address(s);
    if (code == EXIT_DONE)
        code = load_tls(s);
    if (gnutls_rnd(GNUTLS_RND_KEY, s->id_key, sizeof s->id_key) != 0)
        code = report(s->cli, EXIT_COULD_NOT, "E_IO", NULL, "no random numbers");
    if (gethostname(s->self, sizeof s->self - 1) != 0)
        s->self[0] = '\0';
    s->gate = (struct gate){ .hosts = s->options.hosts,
                             .n_hosts = s->options.n_hosts,
                             .self = s->self[0] ? s->self : NULL,
                             .origins = s->options.origins,
                             .n_origins = s->options.n_origins };
    s->page = s->options.no_page ? NULL : page_open();
    s->start_s = clock_utc_ns() / 1000000000;
    return code;
}

/* ------------------------------------------------------------------ waiting */

/* The next signal, or 0 after so many ms. */
static int next_signal(uint32_t ms) {
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    int got = sigtimedwait(&set, NULL, &t);
    return got > 0 ? got : 0;
}

static void block_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void say_listening(struct server *s) {
    const char *host = s->options.host;
    bool v6 = strchr(host, ':') != NULL;
    char quoted[300];
    log_event(s, "listening", "\"address\":%s,\"port\":%u,\"tls\":%s,\"keys\":%zu",
              log_quote(host, quoted, sizeof quoted), s->port, s->tls_cert ? "true" : "false",
              s->keys.n);
    out_printf(&s->cli->out, "http%s://%s%s%s:%u\n", s->tls_cert ? "s" : "", v6 ? "[" : "", host,
               v6 ? "]" : "", s->port);
    out_flush(&s->cli->out);
}

/* Until the models of the command line are there. */
static int wait_for_models(struct server *s, int *stopped) {
    struct served_model *failed = NULL;
    for (;;) {
        switch (registry_listed(&s->registry, &failed)) {
        case LOADS_DONE:
            return EXIT_DONE;
        case LOADS_FAILED:
            return report_error(s->cli, AT_LOAD, failed->load_err, &failed->why,
                                failed->load_err == SLM_E_MEMORY
                                    ? "--context N    a smaller one\n--parallel N    fewer places"
                                    : NULL);
        case LOADS_GO_ON:
            break;
        }
        if ((*stopped = next_signal(50)) != 0)
            return EXIT_DONE;
    }
}

/* The days of the server: until a signal comes. */
static int run(struct server *s, const char *socket) {
    uint32_t every = notify_watchdog_ms(getenv("WATCHDOG_USEC")), tick = 1000;
    const char *why, *before = NULL;
    if (every > 0 && every < tick)
        tick = every;
    for (;;) {
        int got = next_signal(tick);
        if (got != 0)
            return got;
        registry_idle(&s->registry);
        bool ready = server_ready(s, &why);
        bool hangs = !ready && strcmp(why, "a model does not go on") == 0;
        if (every > 0 && !hangs)
            notify_send(socket, "WATCHDOG=1");
        if (before == NULL || strcmp(before, why) != 0)
            log_event(s, ready ? "ready" : "not_ready", "\"reason\":\"%s\"", why);
        before = why;
    }
}

/* ------------------------------------------------------------------ the end */

/* Waits until nothing is at hand, a signal comes (true) or the time is over. */
static bool wait_idle(struct server *s, uint64_t ns, bool until_idle) {
    uint64_t end = clock_ns() + ns;
    while (clock_ns() < end && (!until_idle || atomic_load(&s->exchanges) > 0))
        if (next_signal(20) != 0)
            return true;
    return false;
}

static void drain(struct server *s, const char *socket) {
    const struct server_options *o = &s->options;
    char state[96];
    snprintf(state, sizeof state, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
             (unsigned long long)(o->drain_delay_s + o->drain_s + LAST_SECONDS + 5) * 1000000);
    notify_send(socket, state);
    log_event(s, "draining", "\"running\":%llu",
              (unsigned long long)atomic_load(&s->exchanges));
    atomic_store(&s->ending, true);
    bool now = wait_idle(s, o->drain_delay_s * SECOND, false);
    atomic_store(&s->draining, true);
    if (!now)
        now = wait_idle(s, o->drain_s * SECOND, true);
    http_quiesce(s);
    atomic_store(&s->stop_now, true);
    wait_idle(s, (now ? 1 : LAST_SECONDS) * SECOND, true);
}

static void close_all(struct server *s) {
    /* models first: their threads answer what still waits; then nothing is suspended any more */
    atomic_store(&s->draining, true);
    atomic_store(&s->stop_now, true);
    workers_stop(&s->workers);
    registry_close(&s->registry);
    watch_leave_all(&s->watch);
    http_stop(s);
    watch_stop(&s->watch);
    registry_stop(&s->registry);
    keys_free(&s->keys);
    page_close(s->page);
    if (s->tls_key)
        explicit_bzero(s->tls_key, strlen(s->tls_key));
    free(s->tls_key);
    free(s->tls_cert);
}

int server_run(struct cli *c, const struct server_options *options, const char *const *models,
               size_t n) {
    struct server *s = keep(calloc(1, sizeof *s));
    const char *socket = getenv("NOTIFY_SOCKET");
    int stopped = 0;
    s->cli = c;
    s->options = *options;
    block_signals();
    int code = prepare(s);
    if (code == EXIT_DONE)
        code = registry_open(&s->registry, s, models, n);
    if (code == EXIT_DONE && (!watch_start(&s->watch, s) || !workers_start(&s->workers, s)))
        code = report(c, EXIT_COULD_NOT, "E_NOMEM", NULL, "threads could not be started");
    if (code == EXIT_DONE && !http_start(s))
        code = EXIT_COULD_NOT;
    if (code == EXIT_DONE) {
        registry_load_listed(&s->registry);
        say_listening(s);
        code = wait_for_models(s, &stopped);
    }
    if (code == EXIT_DONE) {
        if (stopped == 0) {
            notify_send(socket, "READY=1");
            stopped = run(s, socket);
        }
        drain(s, socket);
    }
    close_all(s);
    free(s);
    return code;
}
