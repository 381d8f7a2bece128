/* deploy_haproxy.c - `slm deploy haproxy`: a configuration for HAProxy 2.6 in front of several servers.
 *
 * What it does with a request:
 * - Which server: a hash of what the prompt begins with (system prompt, instructions, first message, raw
 *   prompt) and of the model, on a ring: prompts that begin alike meet the server that has evaluated that
 *   beginning, and when a server comes or goes only its share moves. A client that knows better says
 *   x-session-id. No server gets more than twice the average at once: the next on the ring takes the rest.
 *   150 % would keep fewer of them together (86 instead of 97 of 100 with 12 clients and 3 servers).
 * - The body has to be in the buffer to be looked into and to be sent again, so the buffer is larger than
 *   usual; the beginning of a longer one is not looked at, and it is spread and not repeated.
 * - Waiting is done here: a server is given as many requests as it answers at once.
 * - Again: when a connection cannot be made, ends before an answer, or a server says 503 (it drains, or
 *   loads), another server is asked. Nothing is lost by asking twice: an answer depends on its request
 *   alone. An answer that has begun to be streamed cannot be begun again.
 * Keys, Host and everything else go to the servers as they came. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "cli/deploy.h"

enum {
    SERVERS_MOST = 64,
    PORT = 8080,
    STATS_PORT = 8404,
    READ_AHEAD = 256 << 10,
    READ_AHEAD_MOST = 64 << 20,
    QUEUE_SECONDS = 60,
    TIMEOUT_SECONDS = 3600,
    PARALLEL = 4,
    CHEAP_PER_SERVER = 256
};

struct servers {
    struct buf text; /* what the names lie in */
    const char *names[SERVERS_MOST];
    size_t n;
};

/* ------------------------------------------------------------------ --servers */

/* "host:port" or "[v6]:port": characters of names and addresses only, since it becomes a line of a file. */
static bool valid_server(const char *s) {
    static const char name[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    size_t n;
    if (s[0] == '[') {
        n = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");
        if (n == 1 || s[n] != ']')
            return false;
        n++;
    } else {
        n = strspn(s, name);
        if (n == 0 || s[0] == '-')
            return false;
    }
    const char *port = s + n;
    size_t digits = port[0] == ':' ? strspn(port + 1, "0123456789") : 0;
    if (digits == 0 || digits > 5 || port[1 + digits] != '\0')
        return false;
    long number = strtol(port + 1, NULL, 10);
    return number > 0 && number < 65536;
}

static int read_servers(struct cli *c, struct servers *out) {
    static const char ways[] = "--servers 10.0.0.1:8080,10.0.0.2:8080";
    const char *list = opt_text(c, OPT_SERVERS);
    if (list == NULL)
        return report_usage(c, ways, "--servers is required: which servers?");
    buf_puts(&out->text, list[0] ? list : ","); /* an empty one is one that is no address */
    if (out->text.err != SLM_OK)
        return report_usage(c, ways, "--servers is too long");
    for (char *s = out->text.data, *end; s; s = end) {
        end = strchr(s, ',');
        if (end)
            *end++ = '\0';
        if (!valid_server(s))
            return report_usage(c, ways, "--servers: '%.80s' is no ADDRESS:PORT",
                                deploy_plain(s) ? s : "?");
        for (size_t i = 0; i < out->n; i++)
            if (strcmp(out->names[i], s) == 0)
                return report_usage(c, ways, "--servers: %s is there twice", s);
        if (out->n == SERVERS_MOST)
            return report_usage(c, ways, "--servers: more than %d", SERVERS_MOST);
        out->names[out->n++] = s;
    }
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ the file */

static void put_head(struct cli *c, const struct servers *s) {
    const long long seconds = opt_int(c, OPT_TIMEOUT, TIMEOUT_SECONDS);
    struct output *o = &c->out;
    out_printf(o,
               "# HAProxy 2.6 or newer in front of %zu servers of slm; written by slm deploy "
               "haproxy.\n"
               "# Check:   haproxy -c -f FILE\n"
               "# Servers: slm serve --host ADDRESS --port PORT --keys FILE --allow-host NAME\n"
               "#          NAME: what clients call this balancer; the same keys on each server\n\n",
               s->n);
    out_printf(o,
               "global\n"
               "    log stdout format raw local0 notice\n"
               "    maxconn 4096\n"
               "    # of a request, what its server is found by and what can be sent again; a\n"
               "    # connection takes two of them\n"
               "    tune.bufsize %lld\n"
               "    ssl-default-bind-options ssl-min-ver TLSv1.2\n\n",
               (long long)opt_int(c, OPT_READ_AHEAD, READ_AHEAD));
    out_printf(o,
               "defaults\n"
               "    mode http\n"
               "    log global\n"
               "    option dontlognull\n"
               "    timeout http-request 30s\n"
               "    timeout http-keep-alive 60s\n"
               "    timeout connect 3s\n"
               "    timeout check 3s\n"
               "    # for a place at a server, then 503\n"
               "    timeout queue %llds\n"
               "    # between two pieces of an answer, or for a whole one\n"
               "    timeout client %llds\n"
               "    timeout server %llds\n",
               (long long)opt_int(c, OPT_QUEUE_TIME, QUEUE_SECONDS), seconds, seconds);
}

/* What HAProxy itself answers, in the shape that clients of the servers read. */
static void put_errors(struct cli *c) {
    static const struct {
        int status;
        const char *message, *code;
    } rows[] = {
        { 400, "the balancer cannot read this request", "bad_request" },
        { 408, "the request did not arrive in time", "request_timeout" },
        { 500, "the balancer failed", "internal_error" },
        { 502, "a server ended before its answer", "bad_gateway" },
        { 503, "no server has a place for this request", "server_overloaded" },
        { 504, "a server did not answer in time", "gateway_timeout" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        out_printf(&c->out,
                   "    http-error status %d content-type application/json%s string "
                   "'{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}'\n",
                   rows[i].status, rows[i].status == 503 ? " hdr retry-after 2" : "", rows[i].message,
                   rows[i].status < 500 ? "invalid_request_error" : "server_error", rows[i].code);
}

static void put_frontend(struct cli *c) {
    /* in this order: the first that a body has */
    static const char *const beginnings[] = {
        "$.system",              /* Anthropic's messages, Ollama's generate */
        "$.instructions",        /* OpenAI's responses */
        "$.messages[0].content", /* chat, as text */
        "$.messages[0].content[0].text",
        "$.system[0].text",
        "$.prompt",
        "$.input",
    };
    const char *host = opt_set(c, OPT_HOST) ? opt_text(c, OPT_HOST) : "127.0.0.1";
    struct output *o = &c->out;
    out_printf(o, "frontend slm\n    bind %s:%lld", strcmp(host, "localhost") == 0 ? "127.0.0.1" : host,
               (long long)opt_int(c, OPT_PORT, PORT));
    if (opt_set(c, OPT_TLS_CERT))
        out_printf(o, " ssl crt \"%s\" alpn h2,http/1.1", opt_text(c, OPT_TLS_CERT));
    out_text(o, "\n    option forwardfor\n"
                "    # is there a server that can answer?\n"
                "    monitor-uri /health/balancer\n"
                "    monitor fail if { nbsrv(prompts) lt 1 }\n"
                "    # what a prompt begins with\n"
                "    http-request wait-for-body time 30s if METH_POST\n"
                "    http-request set-var(txn.begin) req.hdr(x-session-id)\n");
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++)
        out_printf(o,
                   "    http-request set-var(txn.begin) req.body,json_query('%s') if METH_POST !{ "
                   "var(txn.begin) -m found }\n",
                   beginnings[i]);
    out_text(o, "    http-request set-var(txn.model) req.body,json_query('$.model') if METH_POST\n"
                "    # whom to ask about an answer\n"
                "    http-response set-header x-slm-server %s\n"
                "    use_backend prompts if METH_POST\n"
                "    default_backend cheap\n\n");
}

/* What both backends do when a server fails. */
static void put_again(struct cli *c) {
    out_text(&c->out, "    option redispatch 1\n"
                      "    retries 3\n"
                      "    retry-on conn-failure empty-response 503\n"
                      "    option abortonclose\n");
}

static void put_server(struct cli *c, const char *name, size_t i, const char *more) {
    out_printf(&c->out, "    server s%zu %s%s", i + 1, name, more);
    if (opt_set(c, OPT_SERVERS_CA))
        out_printf(&c->out, " ssl verify required ca-file \"%s\"", opt_text(c, OPT_SERVERS_CA));
    out_text(&c->out, "\n");
}

static void put_backends(struct cli *c, const struct servers *s) {
    char more[128];
    struct output *o = &c->out;
    out_text(o, "backend prompts\n"
                "    balance hash var(txn.begin),concat(|,txn.model)\n"
                "    hash-type consistent djb2 avalanche\n"
                "    hash-balance-factor 200\n");
    put_again(c);
    out_text(o, "    option httpchk\n"
                "    http-check send meth GET uri /health/ready ver HTTP/1.1 hdr Host localhost\n"
                "    http-check expect status 200\n");
    snprintf(more, sizeof more, " check inter 1s fall 2 rise 1 maxconn %lld",
             (long long)opt_int(c, OPT_PARALLEL, PARALLEL));
    for (size_t i = 0; i < s->n; i++)
        put_server(c, s->names[i], i, more);
    out_text(o, "\n# lists, health and the page: never behind prompts that wait\n"
                "backend cheap\n    balance leastconn\n");
    put_again(c);
    for (size_t i = 0; i < s->n; i++) {
        snprintf(more, sizeof more, " track prompts/s%zu maxconn %d", i + 1, CHEAP_PER_SERVER);
        put_server(c, s->names[i], i, more);
    }
}

static void put_stats(struct cli *c) {
    const long long port = opt_int(c, OPT_STATS_PORT, STATS_PORT);
    if (port == 0)
        return;
    out_printf(&c->out,
               "\n# state of the servers as a page, and at /metrics for Prometheus: this machine "
               "only\n"
               "frontend stats\n"
               "    bind 127.0.0.1:%lld\n"
               "    http-request use-service prometheus-exporter if { path /metrics }\n"
               "    stats enable\n"
               "    stats uri /\n"
               "    stats refresh 5s\n",
               port);
}

/* ------------------------------------------------------------------ the command */

static int check_options(struct cli *c) {
    const char *host = opt_set(c, OPT_HOST) ? opt_text(c, OPT_HOST) : "127.0.0.1";
    static const enum option_id files[] = { OPT_TLS_CERT, OPT_SERVERS_CA };
    if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:*[]")] ||
        host[0] == '\0')
        return report_usage(c, NULL, "--host wants an address");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (opt_set(c, files[i]) &&
            (!deploy_plain(opt_text(c, files[i])) || strchr(opt_text(c, files[i]), '$')))
            return report_usage(c, NULL,
                                "quotes, $, backslashes and control characters cannot be in a path "
                                "in HAProxy's file");
    const int64_t ahead = opt_int(c, OPT_READ_AHEAD, READ_AHEAD);
    if (ahead < (16 << 10) || ahead > READ_AHEAD_MOST)
        return report_usage(c, NULL, "--read-ahead: from 16K to 64M");
    if (opt_int(c, OPT_PORT, PORT) == 0)
        return report_usage(c, NULL, "--port: HAProxy wants a number from 1 on");
    return EXIT_DONE;
}

int deploy_haproxy(struct cli *c) {
    struct servers s = { .n = 0 };
    buf_init(&s.text, NULL, 64 << 10);
    int code = check_options(c);
    if (code == EXIT_DONE)
        code = read_servers(c, &s);
    if (code == EXIT_DONE) {
        put_head(c, &s);
        put_errors(c);
        out_text(&c->out, "\n");
        put_frontend(c);
        put_backends(c, &s);
        put_stats(c);
    }
    buf_free(&s.text);
    return code;
}
