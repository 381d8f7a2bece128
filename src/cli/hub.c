/* hub.c - talking to the models' hub over HTTP.
 *
 * Redirects are followed here and not by libcurl, so that each hop is judged: the token goes to the
 * hub's own origin (scheme, host and port) and nowhere else, an encrypted connection never leads to
 * a plain one, and plain HTTP is for this machine only. No compressed bodies are asked for or taken:
 * what is hashed is what came. A server that sends less than a kilobyte per second for stall_s
 * seconds counts as gone. What may go better next time (a cut, 408, 429, 5xx) is tried again a few
 * times with growing pauses, or after what Retry-After asks for within reason.
 *
 * Environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (huggingface_hub's documentation);
 * SLM_HUB_STALL_S and SLM_HUB_WAIT_MS for the two times. */
#include "cli/hub.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/pool.h"

enum {
    HOPS_MOST = 8,
    PAGES_MOST = 200,
    CONNECT_S = 20,
    STALL_S = 30,
    SLOW_BYTES = 1024, /* per second: less than this counts as silence */
    WAIT_MS = 1000,
    WAIT_MOST_MS = 30000,
    RETRY_AFTER_MOST_S = 120,
    IGNORED_MOST = 64 << 10 /* of the body of an answer that is not wanted */
};

/* ------------------------------------------------------------------ addresses */

static bool loopback(const char *host) {
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

bool hub_origin(const char *url, char origin[HUB_ORIGIN_MOST], bool *https, bool *safe) {
    char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL;
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_USER, &user, 0) != CURLUE_OK;
    if (ok) {
        for (char *p = host; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        *https = strcmp(scheme, "https") == 0;
        *safe = *https || (strcmp(scheme, "http") == 0 && loopback(host));
        ok = snprintf(origin, HUB_ORIGIN_MOST, "%s://%s:%s", scheme, host, port) < HUB_ORIGIN_MOST;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(user);
    curl_url_cleanup(u);
    return ok;
}

void hub_escape(struct buf *b, const char *text, bool keep_slash) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (isascii(*p) && (isalnum(*p) || strchr("-_.~", *p) || (keep_slash && *p == '/')))
            buf_putc(b, (char)*p);
        else
            buf_printf(b, "%%%02X", *p);
}

/* ------------------------------------------------------------------ environment */

static const char *environment(const char *name) {
    const char *v = getenv(name);
    return v && v[0] ? v : NULL;
}

bool hub_offline(void) {
    const char *v = environment("HF_HUB_OFFLINE");
    return v && (strcmp(v, "1") == 0 || strcasecmp(v, "true") == 0 || strcasecmp(v, "yes") == 0 ||
                 strcasecmp(v, "on") == 0);
}

static unsigned environment_number(const char *name, unsigned fallback) {
    int64_t v;
    const char *text = environment(name);
    return text && parse_int(text, &v) && v > 0 && v < 1000000 ? (unsigned)v : fallback;
}

static slm_err check_token(struct hub *h, slm_why *why) {
    h->token = environment("HF_TOKEN");
    for (const char *p = h->token; p && *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f) {
            h->token = NULL;
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "HF_TOKEN holds a character that no token has");
        }
    return SLM_OK;
}

slm_err hub_open(struct hub *h, const struct cli *c, slm_why *why) {
    const char *endpoint = environment("HF_ENDPOINT");
    bool https, safe = false;
    memset(h, 0, sizeof *h);
    h->c = c;
    h->stall_s = environment_number("SLM_HUB_STALL_S", STALL_S);
    h->wait_ms = environment_number("SLM_HUB_WAIT_MS", WAIT_MS);
    h->endpoint = keep(strdup(endpoint ? endpoint : HUB_ENDPOINT));
    for (size_t n = strlen(h->endpoint); n && h->endpoint[n - 1] == '/';)
        h->endpoint[--n] = 0;
    TRY(check_token(h, why));
    if (!hub_origin(h->endpoint, h->origin, &https, &safe) || strpbrk(h->endpoint, "?# "))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "HF_ENDPOINT '%s' is no address like https://host[:port]", h->endpoint);
    if (!safe) {
        snprintf(h->ways, sizeof h->ways,
                 "http:// is accepted for this machine itself only (127.0.0.1, localhost)");
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "HF_ENDPOINT '%s' is not https", h->endpoint);
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->curl = curl_easy_init()))
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "libcurl did not start");
    return SLM_OK;
}

void hub_close(struct hub *h) {
    if (h->curl)
        curl_easy_cleanup(h->curl);
    free(h->endpoint);
    h->curl = NULL;
    h->endpoint = NULL;
}

void hub_note(const struct hub *h, const char *format, ...) {
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (h->line && h->line->shown)
        fputs("\r\033[K", stderr);
    note(h->c, "%s", text);
}

/* ------------------------------------------------------------------ one request */

struct exchange {
    struct hub_call *call;
    bool begun, enough; /* the body has begun; enough of an unwanted one was seen */
    size_t ignored;
};

/* Value of a header line if it has that name: trimmed, cut, printable. */
static bool header(const char *line, size_t n, const char *name, char *value, size_t size) {
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':')
        return false;
    for (k++; k < n && (line[k] == ' ' || line[k] == '\t');)
        k++;
    while (n > k && isspace((unsigned char)line[n - 1]))
        n--;
    snprintf(value, size, "%.*s", (int)(n - k < size ? n - k : size), line + k);
    hub_clean(value);
    return true;
}

static int64_t whole_number(const char *text) {
    int64_t v;
    return parse_int(text, &v) && v >= 0 ? v : -1;
}

static size_t take_header(char *line, size_t unit, size_t n, void *user) {
    struct hub_reply *r = &((struct exchange *)user)->call->reply;
    char v[64];
    (void)unit;
    if (n > 9 && strncmp(line, "HTTP/", 5) ==
                     0) { /* another answer begins; what the hub said about the file stays */
        const char *space = memchr(line, ' ', n - 4);
        struct hub_reply fresh = { .length = -1,
                                   .retry_after_s = -1,
                                   .linked_size = r->linked_size };
        fresh.status = space ? strtol(space + 1, NULL, 10) : 0; /* the line ends in CR LF */
        memcpy(fresh.linked_etag, r->linked_etag, sizeof fresh.linked_etag);
        *r = fresh;
    } else if (header(line, n, "Content-Length", v, sizeof v)) {
        r->length = whole_number(v);
    } else if (header(line, n, "Retry-After", v, sizeof v)) {
        r->retry_after_s = whole_number(v);
        time_t date = r->retry_after_s < 0 ? curl_getdate(v, NULL) : -1;
        if (date >= 0)
            r->retry_after_s = date > time(NULL) ? (int64_t)(date - time(NULL)) : 0;
    } else if (header(line, n, "X-Linked-Size", v, sizeof v)) {
        r->linked_size = whole_number(v);
    } else if (!header(line, n, "ETag", r->etag, sizeof r->etag) &&
               !header(line, n, "X-Linked-ETag", r->linked_etag, sizeof r->linked_etag) &&
               !header(line, n, "Content-Range", r->range, sizeof r->range) &&
               !header(line, n, "Content-Encoding", r->encoding, sizeof r->encoding) &&
               !header(line, n, "Link", r->next, sizeof r->next) &&
               !header(line, n, "X-Error-Code", r->error_code, sizeof r->error_code)) {
        header(line, n, "X-Error-Message", r->error_text, sizeof r->error_text);
    }
    return n;
}

static bool wanted(long status) {
    return status == 200 || status == 206;
}

static bool start_body(struct exchange *x) {
    x->begun = true;
    if (!x->call->begin || x->call->begin(x->call->user, &x->call->reply))
        return true;
    x->call->stopped = true;
    return false;
}

static size_t take_body(char *data, size_t unit, size_t n, void *user) {
    struct exchange *x = user;
    (void)unit;
    if (!wanted(x->call->reply.status)) {
        x->ignored += n;
        x->enough = x->ignored > IGNORED_MOST;
        return x->enough ? 0 : n;
    }
    if (!x->begun && !start_body(x))
        return 0;
    if (x->call->data(x->call->user, data, n))
        return n;
    x->call->stopped = true;
    return 0;
}

static int check_interrupt(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                           curl_off_t up_now) {
    (void)user, (void)total, (void)now, (void)up_total, (void)up_now;
    return interrupted() ? 1 : 0;
}

static struct curl_slist *request_headers(const struct hub *h, const struct hub_call *call,
                                          bool ours) {
    struct curl_slist *list = NULL;
    char *lines[4] = { text_printf("Accept-Encoding: identity"), NULL, NULL, NULL };
    if (ours && h->token)
        lines[1] = text_printf("Authorization: Bearer %s", h->token);
    if (call->from > 0)
        lines[2] = text_printf("Range: bytes=%llu-", (unsigned long long)call->from);
    if (call->from > 0 && call->if_range && call->if_range[0])
        lines[3] = text_printf("If-Range: %s", call->if_range);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (lines[i]) {
            list = keep(curl_slist_append(list, lines[i]));
            free(lines[i]);
        }
    return list;
}

static void set_options(struct hub *h, const char *url, struct curl_slist *headers,
                        struct exchange *x, char *error) {
    CURL *curl = h->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "slm/" SLM_VERSION);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)h->stall_s);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, check_interrupt);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
}

static slm_err one_hop(struct hub *h, const char *url, struct hub_call *call, slm_why *why) {
    char origin[HUB_ORIGIN_MOST], error[CURL_ERROR_SIZE] = "";
    bool https, safe;
    struct exchange x = { .call = call };
    if (!hub_origin(url, origin, &https, &safe) || !safe)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "the hub leads to an address that is not accepted: %.200s", url);
    struct curl_slist *headers = request_headers(h, call, strcmp(origin, h->origin) == 0);
    call->reply.status = 0;
    set_options(h, url, headers, &x, error);
    CURLcode code = curl_easy_perform(h->curl);
    curl_slist_free_all(headers);
    if (interrupted())
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
    if (call->stopped || x.enough)
        return SLM_OK;
    if (code == CURLE_OK && wanted(call->reply.status) && !x.begun)
        start_body(&x); /* an empty body */
    if (code == CURLE_OK)
        return SLM_OK;
    bool slow = code == CURLE_OPERATION_TIMEDOUT && call->reply.status != 0;
    if (slow)
        return fail(why, SLM_E_NET, SLM_NO_OFFSET, "%s sent less than %d bytes per second for %u s",
                    origin, SLOW_BYTES, h->stall_s);
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "%s: %s", origin,
                error[0] ? error : curl_easy_strerror(code));
}

/* Where an answer leads. Never from an encrypted connection to a plain one. Returns owned. */
static slm_err next_hop(struct hub *h, const char *url, char **next, slm_why *why) {
    char origin[HUB_ORIGIN_MOST], clean[200];
    const char *target = NULL;
    bool from_https, to_https, safe;
    curl_easy_getinfo(h->curl, CURLINFO_REDIRECT_URL, &target);
    if (!target)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the hub redirects without saying where to");
    snprintf(clean, sizeof clean, "%s", target);
    if (!hub_origin(url, origin, &from_https, &safe) ||
        !hub_origin(target, origin, &to_https, &safe) || !safe || (from_https && !to_https))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "the hub redirects to an address that is not accepted: %s", clean);
    *next = keep(strdup(target));
    return SLM_OK;
}

slm_err hub_request(struct hub *h, struct hub_call *call, slm_why *why) {
    char *url = keep(strdup(call->url));
    slm_err err;
    call->stopped = false;
    memset(&call->reply, 0, sizeof call->reply);
    call->reply.linked_size = -1;
    for (unsigned hops = 0;; hops++) {
        char *next = NULL;
        err = one_hop(h, url, call, why);
        long status = call->reply.status;
        if (err != SLM_OK ||
            !(status == 301 || status == 302 || status == 303 || status == 307 || status == 308))
            break;
        if (hops == HOPS_MOST)
            err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the hub redirects more than %d times",
                       HOPS_MOST);
        else
            err = next_hop(h, url, &next, why);
        if (err != SLM_OK)
            break;
        free(url);
        url = next;
    }
    free(url);
    return err;
}

/* ------------------------------------------------------------------ again, or an explanation */

static bool transient(long status) {
    return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
           status == 503 || status == 504;
}

static void pause_ms(uint64_t ms) {
    for (uint64_t end = clock_ns() + ms * 1000000; !interrupted() && clock_ns() < end;)
        nanosleep(&(struct timespec){ .tv_nsec = 20 * 1000 * 1000 }, NULL);
}

bool hub_again(struct hub *h, unsigned *failed, slm_err err, const struct hub_reply *reply,
               const slm_why *why) {
    char left[32];
    if (err != SLM_E_NET && !(err == SLM_OK && transient(reply->status)))
        return false;
    if (*failed >= HUB_TRIES || interrupted())
        return false;
    uint64_t wait = (uint64_t)h->wait_ms << *failed;
    wait = wait < WAIT_MOST_MS ? wait : WAIT_MOST_MS;
    if (err == SLM_OK && reply->retry_after_s > RETRY_AFTER_MOST_S)
        return false;
    if (err == SLM_OK && reply->retry_after_s >= 0)
        wait = (uint64_t)reply->retry_after_s * 1000;
    ++*failed;
    if (err == SLM_OK)
        hub_note(h, "the hub answered %ld; again in %s (%u of %d)", reply->status,
                 format_seconds((double)wait / 1000, left, sizeof left), *failed, HUB_TRIES);
    else
        hub_note(h, "%s; again in %s (%u of %d)", why->message,
                 format_seconds((double)wait / 1000, left, sizeof left), *failed, HUB_TRIES);
    pause_ms(wait);
    return !interrupted();
}

/* Gated models, private ones, and names that do not exist all give 401 to strangers. */
static slm_err refused_access(struct hub *h, const char *repo, const struct hub_reply *r,
                              slm_why *why) {
    const char *account = "make a token at %s/settings/tokens and set HF_TOKEN to it";
    char make[600];
    bool gone = strcmp(r->error_code, "RepoNotFound") == 0;
    snprintf(make, sizeof make, account, h->endpoint);
    if (gone && h->token) {
        snprintf(h->ways, sizeof h->ways, "check the name at %s/%s", h->endpoint, repo);
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET,
                    "there is no %s at %s that this token may see", repo, h->endpoint);
    }
    snprintf(h->ways, sizeof h->ways, "open %s/%s, sign in%s\n%s", h->endpoint, repo,
             gone ? " and see whether it exists" : " and accept the licence terms shown there",
             h->token
                 ? "see that the token in HF_TOKEN is still valid and may read gated repositories"
                 : make);
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "%s refuses access to %s (status %ld%s%s)%s",
                h->endpoint, repo, r->status, r->error_text[0] ? ": " : "", r->error_text,
                gone       ? ""
                : h->token ? "; HF_TOKEN was sent"
                           : "; no HF_TOKEN is set");
}

slm_err hub_refusal(struct hub *h, const char *repo, const char *what, const struct hub_reply *r,
                    slm_why *why) {
    char wait[32];
    if (r->status == 401 || r->status == 403)
        return refused_access(h, repo, r, why);
    if (r->status == 404) {
        snprintf(h->ways, sizeof h->ways, "see %s/%s", h->endpoint, repo);
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "the hub has no %s in %s%s%s", what, repo,
                    r->error_text[0] ? ": " : "", r->error_text);
    }
    if (r->status == 429) {
        snprintf(h->ways, sizeof h->ways, "the same command later; what has come is kept%s",
                 h->token ? "" : "\nHF_TOKEN of an account has larger limits");
        return fail(
            why, SLM_E_NET, SLM_NO_OFFSET, "the hub says that there were too many requests%s%s",
            r->retry_after_s >= 0 ? "; it asks to wait " : "",
            r->retry_after_s >= 0 ? format_seconds((double)r->retry_after_s, wait, sizeof wait)
                                  : "");
    }
    snprintf(h->ways, sizeof h->ways, "the same command later; what has come is kept");
    return fail(why, SLM_E_NET, SLM_NO_OFFSET, "the hub answered %ld for %s in %s%s%s", r->status,
                what, repo, r->error_text[0] ? ": " : "", r->error_text);
}

/* ------------------------------------------------------------------ the list of files */

struct text_call {
    struct buf text;
    slm_err err;
    slm_why *why;
};

static bool text_begin(void *user, const struct hub_reply *reply) {
    struct text_call *t = user;
    buf_free(&t->text);
    buf_init(&t->text, NULL, HUB_TEXT_MOST);
    if (reply->encoding[0] && strcasecmp(reply->encoding, "identity") != 0)
        t->err =
            fail(t->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                 "the hub sends content-encoding '%s', which was not asked for", reply->encoding);
    return t->err == SLM_OK;
}

static bool text_data(void *user, const void *data, size_t n) {
    struct text_call *t = user;
    buf_put(&t->text, data, n);
    if (t->text.err != SLM_OK)
        t->err = fail(t->why, SLM_E_BUDGET, SLM_NO_OFFSET,
                      "the hub's answer is longer than %d bytes", HUB_TEXT_MOST);
    return t->err == SLM_OK;
}

/* One JSON answer, with tries. *next: the Link header. */
static slm_err get_text(struct hub *h, const char *repo, const char *what, const char *url,
                        struct buf *out, char *next, size_t next_size, slm_why *why) {
    struct text_call t = { .why = why };
    struct hub_call call = { .url = url, .begin = text_begin, .data = text_data, .user = &t };
    unsigned failed = 0;
    slm_err err;
    buf_init(&t.text, NULL, HUB_TEXT_MOST);
    do
        err = hub_request(h, &call, why);
    while (t.err == SLM_OK && hub_again(h, &failed, err, &call.reply, why));
    if (err == SLM_OK && t.err != SLM_OK)
        err = t.err;
    if (err == SLM_OK && interrupted())
        err = fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "interrupted");
    if (err == SLM_OK && call.reply.status != 200)
        err = hub_refusal(h, repo, what, &call.reply, why);
    if (err == SLM_E_NET && !h->ways[0])
        snprintf(h->ways, sizeof h->ways,
                 "check the network and HF_ENDPOINT, then the same command again");
    if (err != SLM_OK) {
        buf_free(&t.text);
        return err;
    }
    *next = 0;
    if (call.reply.next[0])
        hub_next_link(call.reply.next, next, next_size);
    *out = t.text;
    return SLM_OK;
}

static char *api_url(const struct hub *h, const char *repo, const char *kind, const char *revision,
                     const char *query) {
    struct buf b;
    buf_init(&b, NULL, 8192);
    buf_printf(&b, "%s/api/models/%s/%s/", h->endpoint, repo, kind);
    hub_escape(&b, revision, false);
    buf_puts(&b, query);
    return keep(buf_take(&b));
}

static slm_err get_tree(struct hub *h, const char *repo, struct hub_listing *out, slm_why *why) {
    char *url = api_url(h, repo, "tree", out->commit, "?recursive=1"), next[2048],
         origin[HUB_ORIGIN_MOST];
    bool https, safe;
    slm_err err = SLM_OK;
    for (unsigned page = 0; err == SLM_OK && url; page++) {
        struct buf text;
        err = page == PAGES_MOST
                  ? fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "the hub's list has more than %d pages",
                         PAGES_MOST)
                  : get_text(h, repo, "list of files", url, &text, next, sizeof next, why);
        if (err != SLM_OK)
            break;
        err = hub_parse_tree(text.data ? text.data : "", text.len, out, why);
        buf_free(&text);
        free(url);
        url = NULL;
        if (err == SLM_OK && next[0]) {
            if (!hub_origin(next, origin, &https, &safe) || strcmp(origin, h->origin) != 0)
                err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                           "the next page of the hub's list is elsewhere: %.200s", next);
            else
                url = keep(strdup(next));
        }
    }
    free(url);
    return err;
}

slm_err hub_list(struct hub *h, const char *repo, const char *revision, struct hub_listing *out,
                 slm_why *why) {
    char *url = api_url(h, repo, "revision", revision, ""), what[256], next[2048];
    struct buf text;
    memset(out, 0, sizeof *out);
    snprintf(what, sizeof what, "revision '%.200s'", revision);
    slm_err err = get_text(h, repo, what, url, &text, next, sizeof next, why);
    free(url);
    if (err != SLM_OK)
        return err;
    err = hub_parse_info(text.data ? text.data : "", text.len, out, why);
    buf_free(&text);
    return err == SLM_OK ? get_tree(h, repo, out, why) : err;
}
