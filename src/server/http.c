/* http.c - requests from libmicrohttpd, and answers to it.
 *
 * A request's head goes through the gate before anything else is done with it: Host, Origin, route, key,
 * method, content type, length. What is refused there is answered at once, or after its body when that is
 * short (closing over unread bytes would reset the connection and take the answer with it). Everything
 * else is given to a worker, and the connection suspended until there is something to send. */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "server/core.h"

#if MHD_VERSION < 0x00097002
#error "libmicrohttpd 0.9.71 or newer is wanted"
#endif

enum { HEADERS_BYTES_MOST = 32 << 10, MEMORY_PER_CONNECTION = 48 << 10, HTTP_THREADS = 2, BLOCK = 32 << 10 };

/* A request from its first line on. */
struct pending {
    struct exchange *x; /* NULL: the head has not been looked at */
    struct api_error refusal; /* status 0: none */
    enum own_route own;
    bool given; /* to a worker */
    bool preflight, origin_listed, answered;
};

/* ------------------------------------------------------------------ the gate */

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

struct count {
    const char *name;
    size_t n, bytes;
    bool nul; /* a header has a zero byte inside: what is behind it would be overlooked */
};
static enum MHD_Result count_one(void *cls, enum MHD_ValueKind kind, const char *key,
                                 size_t key_size, const char *value, size_t value_size) {
    struct count *count = cls;
    (void)kind;
    count->bytes += key_size + value_size + 4;
    count->nul |= strlen(key) != key_size || (value && strlen(value) != value_size);
    if (count->name && strcasecmp(key, count->name) == 0)
        count->n++;
    return MHD_YES;
}
static size_t headers_named(struct MHD_Connection *c, const char *name) {
    struct count count = { .name = name };
    MHD_get_connection_values_n(c, MHD_HEADER_KIND, count_one, &count);
    return count.n;
}

static bool check_origin(struct server *s, struct MHD_Connection *c, struct pending *p,
                         struct api_error *e) {
    const char *host = header(c, "Host"), *origin = header(c, "Origin");
    if (headers_named(c, "Host") > 1 || headers_named(c, "Origin") > 1)
        return api_fail(e, 400, "bad_request", NULL, "the Host or Origin header is there twice");
    if (!gate_host(&s->gate, host))
        return api_fail(e, 403, "host_not_allowed", NULL,
                        "the Host header is none of this server's names; --allow-host adds one");
    enum origin_verdict verdict = gate_origin(&s->gate, origin, host);
    p->origin_listed = verdict == ORIGIN_LISTED;
    if (verdict == ORIGIN_FOREIGN)
        return api_fail(e, 403, "origin_not_allowed", NULL,
                        "web pages of this origin may not ask; --allow-origin adds one");
    return true;
}

/* Every credential that is presented has to be the same valid key. */
static bool check_key(struct server *s, struct MHD_Connection *c, struct exchange *x,
                      struct api_error *e) {
    const char *authorization = header(c, "Authorization"), *plain = header(c, "x-api-key");
    const char *bearer = gate_bearer(authorization);
    struct key *key = NULL, *second = NULL;
    bool ok = headers_named(c, "Authorization") <= 1 && headers_named(c, "x-api-key") <= 1;
    if (!s->has_keys)
        return true;
    if (bearer)
        key = keys_find(&s->keys, bearer, strlen(bearer));
    if (plain)
        second = keys_find(&s->keys, plain, strlen(plain));
    if (authorization == NULL)
        key = second;
    else if (plain != NULL && second != key)
        ok = false;
    if (ok && key != NULL) {
        x->key = key;
        if (!s->options.share_cache)
            memcpy(&x->salt, key->hash, sizeof x->salt);
        return true;
    }
    atomic_fetch_add(&s->meter.rejected[REJECT_AUTH], 1);
    exchange_header(x, "www-authenticate", "Bearer");
    return api_fail(e, 401, "invalid_api_key", NULL,
                    authorization || plain
                        ? "this API key is not one of the server's"
                        : "an API key is wanted: Authorization: Bearer KEY, or x-api-key: KEY");
}

static bool check_body(struct server *s, struct MHD_Connection *c, struct exchange *x,
                       struct api_error *e) {
    const char *encoding = header(c, "Content-Encoding"), *length = header(c, "Content-Length");
    uint64_t n = 0;
    if (encoding && strcasecmp(encoding, "identity") != 0)
        return api_fail(e, 415, "unsupported_encoding", NULL,
                        "bodies are taken as they are, not with a Content-Encoding");
    if (length && (!gate_length(length, &n) || headers_named(c, "Content-Length") > 1))
        return api_fail(e, 400, "bad_request", NULL, "the Content-Length is no number");
    if (n > s->options.body_bytes)
        return api_fail(e, 413, "request_too_large", NULL,
                        "the body has %llu bytes, at most %llu are taken", (unsigned long long)n,
                        (unsigned long long)s->options.body_bytes);
    if (x->route && x->route->has_body && strcmp(x->method, "POST") == 0 &&
        !gate_json_type(header(c, "Content-Type")))
        return api_fail(e, 415, "unsupported_media_type", NULL,
                        "the body has to come as Content-Type: application/json");
    return true;
}

static const char *static_method(const char *method) {
    static const char *const known[] = { "GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH" };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(known[i], method) == 0)
            return known[i];
    return "other";
}

static bool find_route(struct server *s, struct MHD_Connection *c, struct pending *p,
                       const char *url, struct api_error *e) {
    struct exchange *x = p->x;
    bool known = false, api_known = false;
    const char *name = NULL, *method = strcmp(x->method, "HEAD") == 0 ? "GET" : x->method;
    p->own = own_route_find(s, method, url, header(c, "Accept"), &known);
    if (p->own != OWN_NONE)
        return true;
    x->route = api_route_find(x->method, url, &name, &api_known);
    if (x->route == NULL && method != x->method)
        x->route = api_route_find(method, url, &name, &api_known);
    if (x->route != NULL) {
        x->has_name = name != NULL;
        if (name && strlen(name) >= sizeof x->name)
            return api_fail(e, 404, "model_not_found", NULL, "there is no name as long as that");
        snprintf(x->name, sizeof x->name, "%s", name ? name : "");
        return true;
    }
    if (known || api_known)
        return api_fail(e, 405, "method_not_allowed", NULL, "this path is not asked like that");
    return api_fail(e, 404, "not_found", NULL, "there is no such path here");
}

/* Default-deny: what is not public wants the key before anything is told about it. */
static bool gate(struct server *s, struct MHD_Connection *c, struct pending *p, const char *url,
                 struct api_error *e) {
    struct count all = { .bytes = strlen(url) };
    struct exchange *x = p->x;
    struct api_error lost = { .status = 0 };
    MHD_get_connection_values_n(c, MHD_HEADER_KIND, count_one, &all);
    if (all.bytes > HEADERS_BYTES_MOST)
        return api_fail(e, 431, "headers_too_large", NULL, "the headers have %zu bytes, at most %d",
                        all.bytes, HEADERS_BYTES_MOST);
    if (all.nul)
        return api_fail(e, 400, "bad_request", NULL, "a header has a zero byte");
    if (!check_origin(s, c, p, e))
        return false;
    if (strcmp(x->method, "OPTIONS") == 0) {
        p->preflight = true;
        return true;
    }
    bool found = find_route(s, c, p, url, &lost);
    if (!(found && own_route_public(p->own)) && !check_key(s, c, x, e))
        return false;
    if (!found) {
        *e = lost;
        return false;
    }
    if (atomic_load(&s->draining) && !own_route_public(p->own)) {
        atomic_fetch_add(&s->meter.rejected[REJECT_DRAINING], 1);
        api_fail(e, 503, "server_stopping", NULL, "the server is being stopped");
        e->retry_ms = 1000;
        return false;
    }
    return check_body(s, c, x, e);
}

/* ------------------------------------------------------------------ answers */

static void common_headers(struct server *s, struct MHD_Connection *c, const struct pending *p,
                           struct MHD_Response *r) {
    MHD_add_response_header(r, "x-request-id", p->x->id);
    MHD_add_response_header(r, "x-content-type-options", "nosniff");
    MHD_add_response_header(r, "server", "slm/" SLM_VERSION);
    if (p->origin_listed) {
        MHD_add_response_header(r, "access-control-allow-origin", header(c, "Origin"));
        MHD_add_response_header(r, "vary", "Origin");
        MHD_add_response_header(r, "access-control-expose-headers",
                                "x-request-id, retry-after, retry-after-ms, x-should-retry, "
                                "x-slm-warning");
    }
    if (atomic_load(&s->draining))
        MHD_add_response_header(r, "connection", "close");
}

static enum MHD_Result preflight(struct server *s, struct MHD_Connection *c, struct pending *p) {
    struct MHD_Response *r = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    if (r == NULL)
        return MHD_NO;
    common_headers(s, c, p, r);
    MHD_add_response_header(r, "allow", "GET, HEAD, POST, OPTIONS");
    if (p->origin_listed) {
        MHD_add_response_header(r, "access-control-allow-methods", "GET, POST, OPTIONS");
        MHD_add_response_header(r, "access-control-allow-headers",
                                "authorization, content-type, x-api-key, anthropic-version, "
                                "anthropic-beta, x-session-id, x-request-id, x-stainless-lang, "
                                "x-stainless-package-version, x-stainless-os, x-stainless-arch, "
                                "x-stainless-runtime, x-stainless-runtime-version, "
                                "x-stainless-retry-count, x-stainless-timeout, user-agent");
        MHD_add_response_header(r, "access-control-max-age", "600");
    }
    p->x->status = 204;
    enum MHD_Result ok = MHD_queue_response(c, 204, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result answer_page(struct server *s, struct MHD_Connection *c, struct pending *p,
                                   const char *url) {
    struct page_file file;
    struct MHD_Response *r = NULL;
    if (!page_find(s->page, url, &file))
        return MHD_NO;
    bool fresh = page_fresh(&file, header(c, "If-None-Match"));
    r = MHD_create_response_from_buffer(fresh ? 0 : file.n, (void *)(uintptr_t)file.data,
                                        MHD_RESPMEM_PERSISTENT);
    if (r == NULL)
        return MHD_NO;
    common_headers(s, c, p, r);
    MHD_add_response_header(r, "content-type", file.type);
    MHD_add_response_header(r, "cache-control", file.cache);
    MHD_add_response_header(r, "etag", file.etag);
    for (const struct page_header *h = page_headers; h->name; h++)
        if (strcasecmp(h->name, "x-content-type-options") != 0)
            MHD_add_response_header(r, h->name, h->value);
    p->x->status = fresh ? 304 : 200;
    watch_phase(&s->watch, p->x->connection, CONNECTION_REPLY, NULL);
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)p->x->status, r);
    MHD_destroy_response(r);
    return ok;
}

/* A short answer of the server itself. */
static enum MHD_Result answer_own(struct server *s, struct MHD_Connection *c, struct pending *p) {
    const char *type = "application/json";
    int status = 200;
    struct buf out;
    buf_init(&out, NULL, 64 << 20);
    own_route_answer(s, p->own, &status, &type, &out);
    size_t n = out.len;
    char *text = buf_take(&out);
    struct MHD_Response *r =
        text ? MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE) : NULL;
    buf_free(&out);
    if (r == NULL) {
        free(text);
        return MHD_NO;
    }
    common_headers(s, c, p, r);
    MHD_add_response_header(r, "content-type", type);
    MHD_add_response_header(r, "cache-control", "no-store");
    p->x->status = status;
    watch_phase(&s->watch, p->x->connection, CONNECTION_REPLY, NULL);
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return ok;
}

/* Called by the connection for the next bytes. */
static ssize_t read_out(void *cls, uint64_t position, char *to, size_t most) {
    struct exchange *x = cls;
    (void)position;
    pthread_mutex_lock(&x->lock);
    size_t n = x->out.len - x->sent;
    ssize_t result;
    if (n > 0 && !x->cut) {
        n = n < most ? n : most;
        memcpy(to, x->out.data + x->sent, n);
        x->sent += n;
        x->taken_ns = clock_ns();
        result = (ssize_t)n;
    } else if (x->cut) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (x->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        x->suspended = true;
        MHD_suspend_connection(x->http);
        result = 0;
    }
    pthread_mutex_unlock(&x->lock);
    return result;
}

static void forget(void *cls) {
    exchange_unref(cls);
}

static enum MHD_Result answer(struct server *s, struct MHD_Connection *c, struct pending *p) {
    struct exchange *x = p->x;
    pthread_mutex_lock(&x->lock);
    uint64_t size = x->ended && !x->streams ? x->out.len : MHD_SIZE_UNKNOWN;
    int status = x->status;
    pthread_mutex_unlock(&x->lock);
    exchange_ref(x);
    struct MHD_Response *r = MHD_create_response_from_callback(size, BLOCK, read_out, x, forget);
    if (r == NULL) {
        exchange_unref(x);
        return MHD_NO;
    }
    common_headers(s, c, p, r);
    MHD_add_response_header(r, "content-type", x->type);
    MHD_add_response_header(r, "cache-control", "no-store");
    if (x->streams)
        MHD_add_response_header(r, "x-accel-buffering", "no");
    for (size_t i = 0; i < x->n_headers; i++)
        MHD_add_response_header(r, x->headers[i].name, x->headers[i].value);
    if (status == 405)
        MHD_add_response_header(r, "allow", "GET, HEAD, POST, OPTIONS");
    p->answered = true;
    enum MHD_Result ok = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result refuse(struct server *s, struct MHD_Connection *c, struct pending *p) {
    exchange_error(p->x, &p->refusal);
    watch_phase(&s->watch, p->x->connection, CONNECTION_WORK, p->x);
    return answer(s, c, p);
}

/* ------------------------------------------------------------------ a request, step by step */

static void note_client(struct exchange *x) {
    const struct sockaddr *a = (const struct sockaddr *)&x->connection->peer;
    const void *bytes = NULL;
    if (a->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)a)->sin_addr;
    else if (a->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    if (bytes == NULL || inet_ntop(a->sa_family, bytes, x->client, sizeof x->client) == NULL)
        snprintf(x->client, sizeof x->client, "-");
}

static struct connection *connection_of(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* The headers are complete. */
static enum MHD_Result begin(struct server *s, struct MHD_Connection *c, struct pending *p,
                             const char *url, const char *method, const char *version) {
    struct exchange *x = exchange_new(s);
    uint64_t length = 0;
    if (x == NULL)
        return MHD_NO;
    p->x = x;
    x->http = c;
    x->connection = connection_of(c);
    x->method = static_method(method);
    x->http_1_0 = strcmp(version, "HTTP/1.1") != 0;
    x->path = strndup(url, 256);
    if (x->connection == NULL)
        return MHD_NO;
    note_client(x);
    const char *text = header(c, "Content-Length");
    bool chunked = header(c, "Transfer-Encoding") != NULL;
    bool counted = text != NULL && gate_length(text, &length);
    x->has_body = chunked || length > 0 || (text && !counted);
    bool short_body = counted && !chunked && length <= DRAIN_BODY_MOST;
    if (!gate(s, c, p, url, &p->refusal) && x->has_body && !short_body)
        return refuse(s, c, p);
    watch_phase(&s->watch, x->connection, x->has_body ? CONNECTION_BODY : CONNECTION_WORK, x);
    return MHD_YES;
}

static enum MHD_Result receive(struct server *s, struct pending *p, const char *data, size_t *n) {
    struct exchange *x = p->x;
    watch_received(&s->watch, x->connection, *n);
    if (p->refusal.status == 0 && !p->preflight && p->own == OWN_NONE && !x->too_large) {
        buf_put(&x->body, data, *n);
        if (x->body.err != SLM_OK) {
            x->too_large = true;
            api_fail(&p->refusal, x->body.err == SLM_E_BUDGET ? 413 : 503, "request_too_large", NULL,
                     "the body has more than %llu bytes",
                     (unsigned long long)s->options.body_bytes);
            buf_free(&x->body);
        }
    }
    *n = 0;
    /* an endless body is not read to its end */
    return x->too_large && x->connection->bytes > 2 * s->options.body_bytes ? MHD_NO : MHD_YES;
}

/* The request is complete: to a worker, unless too many are there already. */
static enum MHD_Result give(struct server *s, struct MHD_Connection *c, struct pending *p) {
    struct exchange *x = p->x;
    struct api_error e = { .status = 0 };
    uint32_t retry_ms;
    enum key_verdict verdict = keys_enter(&s->keys, x->key, clock_ns(), &retry_ms);
    if (verdict != KEY_TAKEN) {
        static const char *const what[] = { "", "requests a minute", "requests at once",
                                            "tokens a minute" };
        atomic_fetch_add(&s->meter.rejected[REJECT_KEY], 1);
        api_fail(&p->refusal, 429, "rate_limit_exceeded", NULL, "this key has used up its %s",
                 what[verdict]);
        p->refusal.retry_ms = retry_ms;
        return refuse(s, c, p);
    }
    atomic_store(&x->key_entered, x->key != NULL);
    if (workers_waiting(&s->workers) > s->options.queue + 4 * WORKERS) {
        atomic_fetch_add(&s->meter.rejected[REJECT_QUEUE], 1);
        api_fail(&e, 429, "server_overloaded", NULL, "too many requests are waiting to be read");
        e.retry_ms = PACE_UNKNOWN_MS;
        p->refusal = e;
        return refuse(s, c, p);
    }
    p->given = true;
    watch_phase(&s->watch, x->connection, CONNECTION_WORK, x);
    pthread_mutex_lock(&x->lock);
    bool gone = x->cut; /* nobody would resume it any more */
    if (!gone) {
        x->suspended = true;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&x->lock);
    if (gone)
        return MHD_NO;
    exchange_ref(x);
    workers_give(&s->workers, x);
    return MHD_YES;
}

/* Resumed, or called again for another reason. */
static enum MHD_Result go_on(struct server *s, struct MHD_Connection *c, struct pending *p) {
    struct exchange *x = p->x;
    pthread_mutex_lock(&x->lock);
    bool ready = x->answered, gone = x->cut;
    if (!ready && !gone) {
        x->suspended = true;
        MHD_suspend_connection(c);
    }
    pthread_mutex_unlock(&x->lock);
    if (gone)
        return MHD_NO;
    return ready ? answer(s, c, p) : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **state) {
    struct server *s = cls;
    struct pending *p = *state;
    if (p == NULL)
        return MHD_NO;
    if (p->x == NULL)
        return begin(s, c, p, url, method, version);
    if (*n > 0)
        return receive(s, p, data, n);
    if (p->answered)
        return MHD_YES;
    if (p->given)
        return go_on(s, c, p);
    if (p->refusal.status != 0)
        return refuse(s, c, p);
    if (p->preflight)
        return preflight(s, c, p);
    if (p->own == OWN_PAGE)
        return answer_page(s, c, p, url);
    if (p->own != OWN_NONE)
        return answer_own(s, c, p);
    return give(s, c, p);
}

/* ------------------------------------------------------------------ what the library tells */

/* A request's first line has been read: its time runs. */
static void *on_first_line(void *cls, const char *uri, struct MHD_Connection *c) {
    struct server *s = cls;
    struct connection *connection = connection_of(c);
    (void)uri;
    if (connection && connection->phase == CONNECTION_IDLE)
        watch_phase(&s->watch, connection, CONNECTION_HEAD, NULL);
    return calloc(1, sizeof(struct pending));
}

static void on_completed(void *cls, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode why) {
    struct server *s = cls;
    struct pending *p = *state;
    (void)c;
    *state = NULL;
    if (p == NULL)
        return;
    struct exchange *x = p->x;
    free(p);
    if (x == NULL)
        return;
    if (x->connection)
        watch_phase(&s->watch, x->connection, CONNECTION_IDLE, NULL);
    bool all = why == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    pthread_mutex_lock(&x->lock);
    x->http = NULL;
    x->connection = NULL;
    x->suspended = false;
    pthread_mutex_unlock(&x->lock);
    if (!all)
        exchange_leave(x);
    atomic_fetch_add(&s->meter.http[x->status > 0 && x->status < HTTP_STATUSES ? x->status : 499], 1);
    log_exchange(x);
    exchange_unref(x);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    struct server *s = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context)
            watch_remove(&s->watch, *context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *peer =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    atomic_fetch_add(&s->meter.connections_total, 1);
    if (fd)
        *context = watch_add(&s->watch, fd->connect_fd, peer ? peer->client_addr : NULL);
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *peer, socklen_t n) {
    struct server *s = cls;
    (void)n;
    if (watch_allows(&s->watch, peer))
        return MHD_YES;
    atomic_fetch_add(&s->meter.connections_refused, 1);
    return MHD_NO;
}

/* What the library has to say is about single connections, and said by our own log already. */
static void on_log(void *cls, const char *format, va_list args) {
    (void)cls;
    (void)format;
    (void)args;
}

/* ------------------------------------------------------------------ start and end */

static int bind_socket(struct server *s) {
    const char *host = strcasecmp(s->options.host, "localhost") == 0 ? "127.0.0.1" : s->options.host;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(s->options.port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(s->options.port) };
    const struct sockaddr *a = NULL;
    socklen_t n = 0;
    int yes = 1;
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        a = (const struct sockaddr *)&v4;
        n = sizeof v4;
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        a = (const struct sockaddr *)&v6;
        n = sizeof v6;
    } else {
        report_usage(s->cli, NULL, "--host wants a numeric address or localhost, not '%s'", host);
        return -1;
    }
    int fd = socket(a->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, a, n) != 0 || listen(fd, 512) != 0) {
        int why = errno;
        if (fd >= 0)
            close(fd);
        report(s->cli, EXIT_COULD_NOT, "E_IO",
               why == EADDRINUSE ? "--port N    another one; 0 lets the system choose" : NULL,
               "cannot listen on %s port %u: %s", host, s->options.port, strerror(why));
        return -1;
    }
    struct sockaddr_storage bound;
    n = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &n) == 0)
        s->port = ntohs(bound.ss_family == AF_INET
                            ? ((struct sockaddr_in *)(void *)&bound)->sin_port
                            : ((struct sockaddr_in6 *)(void *)&bound)->sin6_port);
    return fd;
}

bool http_start(struct server *s) {
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    int fd = bind_socket(s);
    if (fd < 0)
        return false;
    struct MHD_OptionItem tls[4] = { { MHD_OPTION_END, 0, NULL } };
    if (s->tls_cert) {
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, s->tls_cert };
        tls[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, s->tls_key };
        tls[2] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                          (void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" };
        tls[3] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
    }
    s->daemon = MHD_start_daemon(
        flags, 0, on_accept, s, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)HTTP_THREADS,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->options.connections,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_PER_CONNECTION,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(2 * IDLE_SECONDS), MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_URI_LOG_CALLBACK,
        on_first_line, s, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (s->daemon == NULL) {
        close(fd);
        report(s->cli, EXIT_COULD_NOT, "E_IO",
               s->tls_cert ? "are --tls-cert and --tls-key PEM files that belong together?" : NULL,
               "the HTTP library did not start");
    }
    return s->daemon != NULL;
}

void http_quiesce(struct server *s) {
    int fd = s->daemon ? MHD_quiesce_daemon(s->daemon) : -1;
    if (fd >= 0)
        close(fd);
}

/* Every exchange has been answered or left by now, so that no connection is suspended. */
void http_stop(struct server *s) {
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    s->daemon = NULL;
}
