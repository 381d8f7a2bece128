/* http.c - streamable HTTP: each message is a POST, its answer one JSON object or a stream of events.
 *
 * Where requests go: https, or http to this machine itself; plain http elsewhere only when the
 * configuration says so. For plain http the address that is connected to has to be a loopback one as
 * well, so that a name cannot lead elsewhere. A redirect is followed within the same origin only: the
 * headers of the configuration hold secrets. Bodies are not compressed, and have ceilings.
 *
 * Older versions of the protocol have a session (Mcp-Session-Id), streams that can be taken up again
 * (Last-Event-ID), and servers that ask back within a stream; those are served here as well. */
#include "agent/wire.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "agent/rpc.h"
#include "base/pool.h"
#include "cli/hub.h"

enum {
    HOPS_MOST = 3,
    CONNECT_S = 20,
    RESUMES_MOST = 16,
    RESUME_MS = 1000, /* pause before a stream is taken up again, unless the server says another */
    RESUME_MOST_MS = 30000,
    SIDE_S = 10, /* for messages that nobody waits for */
    SESSION_MOST = 1024
};

struct http {
    struct wire wire;
    struct wire_ear ear;
    const struct mcp_config *config;
    CURL *curl, *side; /* side: for what has to be sent while an answer is read */
    char *url;
    char origin[HUB_ORIGIN_MOST];
    char session[SESSION_MOST], version[16];
    /* of the answer that is read */
    long status;
    bool json, events, done, stop;
    char type[64];
    size_t total;
    struct buf body;
    struct sse sse;
    slm_err err;
};

/* ------------------------------------------------------------------ addresses */

/* Plain http stays on this machine, whatever the name resolves to. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *to) {
    const struct http *h = user;
    (void)purpose;
    bool loopback = false, plain = strncmp(h->origin, "http://", 7) == 0;
    if (to->family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &to->addr, sizeof v4);
        loopback = ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    } else if (to->family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &to->addr, sizeof v6);
        loopback = IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
    }
    if (plain && !h->config->allow_http && !loopback)
        return CURL_SOCKET_BAD;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static slm_err check_address(const struct http *h, const char *url, char *origin, slm_why *why) {
    bool https, safe = false;
    if (!hub_origin(url, origin, &https, &safe) ||
        (strncmp(origin, "http://", 7) != 0 && strncmp(origin, "https://", 8) != 0))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "server '%s': '%.200s' is no address like https://host/path (names and passwords "
                    "go into \"headers\")",
                    h->config->name, url);
    if (!safe && !h->config->allow_http)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "server '%s': %.200s is not encrypted and not on this machine; "
                    "\"slm\": {\"allow_http\": true} allows it",
                    h->config->name, origin);
    return SLM_OK;
}

/* ------------------------------------------------------------------ what comes back */

static bool header(const char *line, size_t n, const char *name, char *value, size_t size) {
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
        return false;
    for (k++; k < n && (line[k] == ' ' || line[k] == '\t');)
        k++;
    while (n > k && isspace((unsigned char)line[n - 1]))
        n--;
    line_clean(line + k, n - k, value, size);
    return true;
}

/* Sessions are visible ASCII; another one could not be sent back as it came. */
static void take_session(struct http *h, const char *value) {
    for (const char *p = value; *p; p++)
        if (*p < 0x21 || *p > 0x7e)
            return;
    if (strlen(value) < sizeof h->session - 1)
        snprintf(h->session, sizeof h->session, "%s", value);
}

static size_t on_header(char *line, size_t unit, size_t n, void *user) {
    struct http *h = user;
    char value[SESSION_MOST];
    (void)unit;
    if (n > 9 && strncmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', n - 4);
        h->status = space ? strtol(space + 1, NULL, 10) : 0;
        h->json = h->events = false;
        h->type[0] = 0;
    } else if (header(line, n, "Content-Type", h->type, sizeof h->type)) {
        h->json = strncasecmp(h->type, "application/json", 16) == 0;
        h->events = strncasecmp(h->type, "text/event-stream", 17) == 0;
    } else if (header(line, n, "Mcp-Session-Id", value, sizeof value)) {
        take_session(h, value);
    }
    return n;
}

static bool hear(struct http *h, const char *text, size_t n) {
    enum wire_verdict verdict = h->ear.message(h->ear.user, text, n);
    h->done = verdict == WIRE_DONE;
    h->stop = verdict == WIRE_STOP;
    return verdict == WIRE_MORE;
}

static bool on_event(void *user, const char *data, size_t n) {
    struct http *h = user;
    return hear(h, data, n);
}

/* 0 ends the transfer: enough was read, or too much. */
static size_t on_body(char *data, size_t unit, size_t n, void *user) {
    struct http *h = user;
    (void)unit;
    h->total += n;
    if (h->total > MCP_STREAM_MOST)
        h->err = SLM_E_BUDGET;
    else if (h->events && h->status == 200)
        h->err = sse_feed(&h->sse, data, n, on_event, h);
    else
        buf_put(&h->body, data, n);
    if (!h->err)
        h->err = h->body.err;
    return h->err || h->done || h->stop ? 0 : n;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now) {
    (void)user, (void)total, (void)now, (void)up_total, (void)up_now;
    return interrupted() ? 1 : 0;
}

/* ------------------------------------------------------------------ one transfer */

static void add(struct curl_slist **list, char *line) {
    *list = keep(curl_slist_append(*list, line));
    free(line);
}

static struct curl_slist *headers_of(const struct http *h, const struct wire_send *m) {
    struct curl_slist *list = NULL;
    add(&list, text_printf("Content-Type: application/json"));
    add(&list, text_printf("Accept: application/json, text/event-stream"));
    add(&list, text_printf("Accept-Encoding: identity"));
    add(&list, text_printf("Expect:"));
    const char *version = m && m->version ? m->version : h->version;
    if (version[0])
        add(&list, text_printf("MCP-Protocol-Version: %s", version));
    if (h->session[0])
        add(&list, text_printf("Mcp-Session-Id: %s", h->session));
    for (size_t i = 0; m && i < m->n_headers; i++)
        add(&list, text_printf("%s", m->headers[i]));
    for (size_t i = 0; i < h->config->n_headers; i++)
        add(&list, text_printf("%s", h->config->headers[i]));
    return list;
}

static void common_options(struct http *h, CURL *curl, struct curl_slist *headers) {
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, h->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "slm/" SLM_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, h);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    if (strncmp(h->origin, "http://", 7) == 0) /* no proxy between this machine and itself */
        curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
}

static long ms_until(uint64_t deadline_ns) {
    uint64_t now = clock_ns();
    return deadline_ns <= now ? 1 : (long)((deadline_ns - now) / 1000000 + 1);
}

/* m NULL: a GET that takes up the stream that broke off. */
static slm_err transfer(struct http *h, const struct wire_send *m, const struct wire_send *what,
                        slm_why *why) {
    char error[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = headers_of(h, what);
    if (!m)
        add(&headers, text_printf("Last-Event-ID: %s", h->sse.id));
    h->json = h->events = h->done = h->stop = false;
    h->err = SLM_OK;
    h->status = 0;
    h->body.len = 0;
    common_options(h, h->curl, headers);
    curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, ms_until(what->deadline_ns));
    if (m) {
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)m->n);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, m->text);
    }
    CURLcode code = curl_easy_perform(h->curl);
    curl_slist_free_all(headers);
    h->wire.status = h->status;
    if (interrupted())
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
    if (h->stop)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s' is given up", h->config->name);
    if (h->err)
        return fail(why, h->err, SLM_NO_OFFSET, "server '%s' answers with more than %d bytes",
                    h->config->name, h->total > MCP_STREAM_MOST ? MCP_STREAM_MOST : MCP_LINE_MOST);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s' did not answer %s in time",
                    h->config->name, what->method);
    /* a stream that breaks off counts as ended: it may be resumable */
    if (code != CURLE_OK && !h->done && !(h->events && h->status == 200))
        return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s': %s: %s", h->config->name,
                    h->origin, error[0] ? error : curl_easy_strerror(code));
    return SLM_OK;
}

static bool redirects(long status) {
    return status == 307 || status == 308 || status == 301 || status == 302 || status == 303;
}

/* The address that the last answer leads to becomes ours. */
static slm_err follow(struct http *h, slm_why *why) {
    const char *target = NULL;
    char origin[HUB_ORIGIN_MOST] = "";
    curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &target);
    if (!target || (h->status != 307 && h->status != 308) ||
        check_address(h, target, origin, NULL) != SLM_OK || strcmp(origin, h->origin) != 0)
        return fail(why, SLM_E_NET, SLM_NO_OFFSET,
                    "server '%s' redirects (status %ld) to %.200s, which is not followed",
                    h->config->name, h->status, target ? target : "nowhere");
    char *copy = keep(strdup(target));
    free(h->url);
    h->url = copy;
    return SLM_OK;
}

/* ------------------------------------------------------------------ the wire */

static void rest(unsigned ms) {
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };
    nanosleep(&t, NULL); /* Ctrl-C ends it early */
}

/* A stream ended before what was waited for: the server may want it taken up again. */
static slm_err resume(struct http *h, const struct wire_send *m, slm_why *why) {
    for (int i = 0; i < RESUMES_MOST && !h->done && h->events && h->sse.id[0]; i++) {
        unsigned ms = h->sse.retry_ms ? h->sse.retry_ms : RESUME_MS;
        rest(ms < RESUME_MOST_MS ? ms : RESUME_MOST_MS);
        h->sse.line.len = h->sse.data.len = 0; /* half an event is nothing */
        h->sse.has_data = false;
        TRY(transfer(h, NULL, m, why));
    }
    return SLM_OK;
}

static slm_err refused(const struct http *h, const struct wire_send *m, slm_why *why) {
    const char *hint = h->status == 401 || h->status == 403
                           ? "; \"headers\": {\"Authorization\": \"Bearer ...\"} is how a key is given"
                           : "";
    char said[160] = "";
    if (h->body.len && strncasecmp(h->type, "text/html", 9) != 0)
        line_clean(h->body.data, h->body.len, said, sizeof said);
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s' answers %s with HTTP status %ld%s%s%s",
                h->config->name, m->method, h->status, said[0] ? ": " : "", said, hint);
}

static slm_err http_send(struct wire *w, const struct wire_send *m, slm_why *why) {
    struct http *h = (struct http *)w;
    h->total = 0;
    w->session_lost = false;
    if (m->version)
        snprintf(h->version, sizeof h->version, "%s", m->version);
    for (int hop = 0;; hop++) {
        sse_free(&h->sse);
        sse_init(&h->sse, MCP_LINE_MOST);
        TRY(transfer(h, m, m, why));
        if (!redirects(h->status) || hop == HOPS_MOST)
            break;
        TRY(follow(h, why));
    }
    w->session_lost = h->status == 404 && h->session[0];
    if (h->json && h->body.len && !w->session_lost && (m->answer || h->status >= 400))
        hear(h, h->body.data, h->body.len);
    if (h->done || (!m->answer && h->status >= 200 && h->status < 300))
        return SLM_OK;
    if (h->stop)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s' is given up", h->config->name);
    if (h->status < 200 || h->status >= 300)
        return refused(h, m, why);
    TRY(resume(h, m, why));
    if (h->done)
        return SLM_OK;
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "server '%s': its answer to %s ends without a result%s%s",
                h->config->name, m->method, h->type[0] ? ", as " : "", h->type);
}

static size_t drop_body(char *data, size_t unit, size_t n, void *user) {
    (void)data, (void)unit, (void)user;
    return n;
}

/* A message that nobody waits for, or the end of the session (text NULL). */
static void side_send(struct http *h, const char *text, size_t n) {
    if (!h->side && !(h->side = curl_easy_init()))
        return;
    struct curl_slist *headers = headers_of(h, NULL);
    common_options(h, h->side, headers);
    curl_easy_setopt(h->side, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(h->side, CURLOPT_WRITEFUNCTION, drop_body);
    curl_easy_setopt(h->side, CURLOPT_TIMEOUT_MS, interrupted() ? 1000L : SIDE_S * 1000L);
    if (text) {
        curl_easy_setopt(h->side, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        curl_easy_setopt(h->side, CURLOPT_POSTFIELDS, text);
    } else {
        curl_easy_setopt(h->side, CURLOPT_CUSTOMREQUEST, "DELETE");
    }
    curl_easy_perform(h->side);
    curl_slist_free_all(headers);
}

static void http_reply(struct wire *w, const char *text, size_t n) {
    side_send((struct http *)w, text, n);
}

static void http_drain(struct wire *w) {
    (void)w; /* nothing comes but answers */
}

static bool http_alive(struct wire *w) {
    return !w->session_lost;
}

static void http_close(struct wire *w) {
    struct http *h = (struct http *)w;
    if (h->session[0] && !w->session_lost)
        side_send(h, NULL, 0);
    if (h->curl)
        curl_easy_cleanup(h->curl);
    if (h->side)
        curl_easy_cleanup(h->side);
    sse_free(&h->sse);
    buf_free(&h->body);
    free(h->url);
    free(h);
}

slm_err http_open(const struct mcp_config *config, const struct wire_ear *ear, struct wire **out,
                  slm_why *why) {
    struct http *h = keep(calloc(1, sizeof *h));
    h->wire = (struct wire){ .send = http_send,
                             .reply = http_reply,
                             .drain = http_drain,
                             .alive = http_alive,
                             .close = http_close };
    h->ear = *ear;
    h->config = config;
    h->url = keep(strdup(config->url));
    buf_init(&h->body, NULL, MCP_LINE_MOST);
    sse_init(&h->sse, MCP_LINE_MOST);
    slm_err err = check_address(h, h->url, h->origin, why);
    if (err == SLM_OK && (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
                          !(h->curl = curl_easy_init())))
        err = fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "libcurl did not start");
    if (err == SLM_OK)
        *out = &h->wire;
    else
        http_close(&h->wire);
    return err;
}
