/* cmd_serve.c - `slm serve`: options of the command line to options of the server. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "server/gate.h"
#include "server/params.h"
#include "server/server.h"

enum { PORT = 8080, DELAY_SECONDS = 5 };

static int print_parameters(struct cli *c) {
    char *text = params_markdown();
    if (text == NULL)
        return report(c, EXIT_COULD_NOT, "E_NOMEM", NULL, "out of memory");
    out_text(&c->out, text);
    free(text);
    return EXIT_DONE;
}

static struct server_options serve_options(const struct cli *c) {
    const struct parsed *p = &c->options;
    const char *host = opt_set(c, OPT_HOST) ? opt_text(c, OPT_HOST) : "127.0.0.1";
    return (struct server_options){
        .host = host,
        .port = (uint16_t)opt_int(c, OPT_PORT, PORT),
        .tls_cert = opt_text(c, OPT_TLS_CERT),
        .tls_key = opt_text(c, OPT_TLS_KEY),
        .keys_file = opt_text(c, OPT_KEYS),
        .insecure_no_key = opt_set(c, OPT_INSECURE_NO_KEY),
        .hosts = p->values[OPT_ALLOW_HOST].all,
        .n_hosts = p->values[OPT_ALLOW_HOST].n,
        .origins = p->values[OPT_ALLOW_ORIGIN].all,
        .n_origins = p->values[OPT_ALLOW_ORIGIN].n,
        .connections = (uint32_t)opt_int(c, OPT_CONNECTIONS, 1024),
        .connections_per_ip = (uint32_t)opt_int(c, OPT_CONNECTIONS_PER_IP, 0),
        .body_bytes = (uint64_t)opt_int(c, OPT_MAX_BODY, 32 << 20),
        .parallel = (uint32_t)opt_int(c, OPT_PARALLEL, 4),
        .context = (uint32_t)opt_int(c, OPT_CONTEXT, 0),
        .queue = (uint32_t)opt_int(c, OPT_QUEUE, 64),
        .queue_tokens = (uint64_t)opt_int(c, OPT_QUEUE_TOKENS, 1 << 20),
        .timeout_s = (uint32_t)opt_int(c, OPT_TIMEOUT, 3600),
        .drain_s = (uint32_t)opt_int(c, OPT_DRAIN, 30),
        .drain_delay_s =
            (uint32_t)opt_int(c, OPT_DRAIN_DELAY, gate_is_loopback(host) ? 0 : DELAY_SECONDS),
        .idle_s = (uint32_t)opt_int(c, OPT_UNLOAD_AFTER, 0),
        .max_memory = memory_allowed(c),
        .cache_bytes = (uint64_t)opt_int(c, OPT_CACHE_MEMORY, 256 << 20),
        .share_cache = opt_set(c, OPT_SHARE_CACHE),
        .log_prompts = opt_set(c, OPT_LOG_PROMPTS),
        .metrics_names = opt_word(c, OPT_METRICS_NAMES, 0),
        .no_page = opt_set(c, OPT_NO_PAGE),
    };
}

int cmd_serve(struct cli *c) {
    if (opt_set(c, OPT_PARAMETERS))
        return print_parameters(c);
    struct server_options o = serve_options(c);
    return server_run(c, &o, c->options.args, c->options.n_args);
}
