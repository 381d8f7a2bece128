/* exchange.c - one request and its answer: what the connection's thread and the one that works on it
 * share.
 *
 * The answer is a buffer: workers and models append, the connection takes. A connection with nothing to
 * take is suspended, and resumed by whoever appends. Both sides look at the buffer under the exchange's
 * lock, so no wake-up is lost. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/core.h"

enum { OUT_MOST = 256 << 20 };

/* ------------------------------------------------------------------ life */

/* Different for every request, and not to be guessed from another one's. */
static void make_id(struct server *s, char out[ID_TEXT]) {
    static const char letters[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint64_t number = atomic_fetch_add(&s->last_id, 1) + 1;
    uint8_t in[8], hash[32] = { 0 };
    memcpy(in, &number, sizeof in);
    gnutls_hmac_fast(GNUTLS_MAC_SHA256, s->id_key, sizeof s->id_key, in, sizeof in, hash);
    memcpy(out, "req_", 4);
    for (size_t i = 0; i + 5 < ID_TEXT; i++)
        out[4 + i] = letters[hash[i] & 31];
    out[ID_TEXT - 1] = '\0';
}

struct exchange *exchange_new(struct server *s) {
    struct exchange *x = calloc(1, sizeof *x);
    if (x == NULL)
        return NULL;
    x->server = s;
    atomic_init(&x->refs, 1);
    pthread_mutex_init(&x->lock, NULL);
    make_id(s, x->id);
    x->arrived_ns = clock_ns();
    x->created_ns = clock_utc_ns();
    x->deadline_ns = x->arrived_ns + s->options.timeout_s * UINT64_C(1000000000);
    buf_init(&x->body, NULL, (size_t)s->options.body_bytes);
    buf_init(&x->out, NULL, OUT_MOST);
    atomic_fetch_add(&s->exchanges, 1);
    return x;
}

void exchange_ref(struct exchange *x) {
    atomic_fetch_add(&x->refs, 1);
}

/* What the key may have at once is given back before the client learns that it has its answer: it may
 * ask again at once. */
static void leave_key(struct exchange *x) {
    if (atomic_exchange(&x->key_entered, false))
        keys_leave(&x->server->keys, x->key, x->tokens_in + x->tokens_out, clock_ns());
}

void exchange_unref(struct exchange *x) {
    if (atomic_fetch_sub(&x->refs, 1) != 1)
        return;
    struct server *s = x->server;
    exchange_drop_work(x);
    leave_key(x);
    buf_free(&x->body);
    buf_free(&x->out);
    free(x->path);
    pthread_mutex_destroy(&x->lock);
    free(x);
    atomic_fetch_sub(&s->exchanges, 1);
}

void exchange_drop_work(struct exchange *x) {
    struct served_model *m = x->model;
    api_reply_free(x->reply);
    x->reply = NULL;
    for (size_t i = 0; x->has_call && i < x->call.n_prompts; i++) {
        if (x->prompts)
            slm_prompt_free(x->prompts[i]);
        if (x->encoded)
            slm_free(m->engine, x->encoded[i]);
    }
    for (size_t i = 0; i < x->n_lanes; i++)
        free(x->lanes[i].hidden);
    free(x->prompts);
    free(x->encoded);
    free(x->prompt_tokens);
    free(x->lanes);
    slm_constraint_close(x->constraint);
    for (size_t i = 0; i < x->n_images; i++)
        slm_image_close(x->images[i]);
    x->n_images = 0;
    x->prompts = NULL;
    x->encoded = NULL;
    x->prompt_tokens = NULL;
    x->lanes = NULL;
    x->n_lanes = 0;
    x->constraint = NULL;
    if (x->has_call)
        api_call_free(&x->call);
    x->has_call = false;
    if (m != NULL)
        registry_release(&x->server->registry, m);
    x->model = NULL;
}

/* ------------------------------------------------------------------ the connection's side */

/* With the lock held. */
static void resume(struct exchange *x) {
    if (x->suspended && x->http) {
        x->suspended = false;
        MHD_resume_connection(x->http);
    }
}

void exchange_leave(struct exchange *x) {
    bool first = !atomic_exchange(&x->left, true);
    struct served_model *m = NULL;
    pthread_mutex_lock(&x->lock);
    x->cut = true;
    resume(x);
    enum exchange_stage stage = atomic_load(&x->stage);
    if (stage == STAGE_QUEUE || stage == STAGE_RUN)
        m = x->queued_at;
    pthread_mutex_unlock(&x->lock);
    if (first && m != NULL)
        drive_cancel(m, x);
}

/* ------------------------------------------------------------------ answering */

void exchange_header(struct exchange *x, const char *name, const char *format, ...) {
    va_list args;
    pthread_mutex_lock(&x->lock);
    if (x->n_headers < HEADERS_MOST && !x->answered) {
        struct exchange_header *h = &x->headers[x->n_headers++];
        snprintf(h->name, sizeof h->name, "%s", name);
        va_start(args, format);
        vsnprintf(h->value, sizeof h->value, format, args);
        va_end(args);
        for (char *p = h->value; *p; p++)
            if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
                *p = '?';
    }
    pthread_mutex_unlock(&x->lock);
}

void exchange_reply(struct exchange *x, int status, const char *type, struct buf *body) {
    static const char no_memory[] =
        "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"param\":null,"
        "\"code\":\"out_of_memory\"}}";
    leave_key(x);
    pthread_mutex_lock(&x->lock);
    if (!x->answered) {
        x->answered = x->ended = true;
        x->status = body->err == SLM_OK ? status : 500;
        x->type = body->err == SLM_OK ? type : "application/json";
        buf_free(&x->out);
        if (body->err == SLM_OK) {
            x->out = *body;
            buf_init(body, NULL, body->limit);
        } else {
            buf_puts(&x->out, no_memory);
        }
        x->taken_ns = clock_ns();
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
    buf_free(body);
}

static void retry_headers(struct exchange *x, const struct api_error *e) {
    if (e->retry_ms > 0) {
        exchange_header(x, "retry-after", "%llu",
                        (unsigned long long)((e->retry_ms + 999) / 1000));
        exchange_header(x, "retry-after-ms", "%llu", (unsigned long long)e->retry_ms);
    }
    exchange_header(x, "x-should-retry", "%s", e->retry_ms > 0 ? "true" : "false");
}

void exchange_error(struct exchange *x, const struct api_error *e) {
    struct buf body;
    buf_init(&body, NULL, 1 << 20);
    api_error_body(x->route ? x->route->family : API_OPENAI, e, &body);
    retry_headers(x, e);
    exchange_reply(x, e->status, "application/json", &body);
}

void exchange_stream(struct exchange *x, const char *type) {
    pthread_mutex_lock(&x->lock);
    if (!x->answered) {
        x->answered = x->streams = true;
        x->status = 200;
        x->type = type;
        x->taken_ns = clock_ns();
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
}

/* What was taken goes before the buffer grows on. With the lock held. */
static void compact(struct exchange *x) {
    size_t rest = x->out.len - x->sent;
    if (x->sent < 65536 || x->sent < rest)
        return;
    memmove(x->out.data, x->out.data + x->sent, rest);
    x->out.len = rest;
    x->sent = 0;
}

void exchange_write(struct exchange *x, struct buf *bytes) {
    bool slow = false;
    pthread_mutex_lock(&x->lock);
    if (x->streams && !x->ended && !x->cut && bytes->len > 0) {
        compact(x);
        if (x->out.len == x->sent)
            x->taken_ns = clock_ns(); /* from now on there is something to take */
        buf_put(&x->out, bytes->data, bytes->len);
        slow = x->out.err != SLM_OK || x->out.len - x->sent > UNSENT_MOST;
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
    bytes->len = 0;
    if (slow) {
        if (!exchange_left(x))
            atomic_fetch_add(&x->server->meter.cut_slow, 1);
        exchange_leave(x);
    }
}

void exchange_end(struct exchange *x) {
    leave_key(x);
    pthread_mutex_lock(&x->lock);
    if (x->streams && !x->ended) {
        x->ended = true;
        resume(x);
    }
    pthread_mutex_unlock(&x->lock);
}
