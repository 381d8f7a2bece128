/* server.h - what `slm serve` asks of the server, and what its files share.
 *
 * Threads: libmicrohttpd's own read requests and send answers (http.c); the watcher sees clients that
 * leave and deadlines that pass (watch.c); workers read requests and make prompts (work.c); each loaded
 * model has one thread that drives its batch (drive.c); the caller's thread waits for signals (serve.c).
 * docs/internals/server.md tells the way of a request through them, and the order of the locks:
 * registry, then model, then exchange; the watcher's own lock is held while an exchange's is taken. */
#ifndef SLM_SERVER_SERVER_H
#define SLM_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slm.h"

struct cli;

struct server_options {
    const char *host; /* numeric address or "localhost" */
    uint16_t port;    /* 0: the system chooses */
    const char *tls_cert, *tls_key; /* PEM files; both or none */
    const char *keys_file;          /* NULL: no keys, unless systemd hands over a credential */
    bool insecure_no_key;
    const char *const *hosts; /* [n_hosts] names that a Host header may have, too */
    size_t n_hosts;
    const char *const *origins; /* [n_origins] "https://app.example"; "*": any */
    size_t n_origins;
    uint32_t connections;        /* at once */
    uint32_t connections_per_ip; /* 0: 32, and loopback without limit */
    uint64_t body_bytes;         /* of a request, at most */
    uint32_t parallel;           /* places of each model */
    uint32_t context;            /* positions of a place; 0: 8192, or what model and memory have */
    uint32_t queue;              /* requests that may wait */
    uint64_t queue_tokens;       /* of their prompts together */
    uint32_t timeout_s;          /* a request from its headers on */
    uint32_t drain_s;            /* for what runs when the server is told to end */
    uint32_t drain_delay_s;      /* before that new requests are still taken, for balancers to notice */
    uint32_t idle_s;             /* a model that nobody asked for so long is unloaded; 0: never */
    uint64_t max_memory;         /* for all models together */
    uint64_t cache_bytes;        /* of each model, for beginnings that were evaluated before */
    bool share_cache;            /* evaluated beginnings may be shared by different keys */
    bool log_prompts;
    unsigned metrics_names; /* 0: slm_ alone, 1: vllm: too, 2: llamacpp: too */
    bool no_page;
};

struct server;
/* Serves until a signal ends it. models [n] as on the command line, the first one is the default and all
 * are loaded at the start. Returns an exit code; what went wrong has been reported. */
int server_run(struct cli *c, const struct server_options *options, const char *const *models,
               size_t n);

#endif
