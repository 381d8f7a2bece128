/* drive.c - one thread drives the batch of one model: who waits, who runs, what comes of it.
 *
 * A turn: what left while waiting goes; free places are filled from the queue, first come first served
 * (a request of several lanes fills several); one pass; signs of life to streams that wait. Events of the
 * batch come to this thread inside the pass and go through the reply's dialect into the exchange. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core.h"

/* ------------------------------------------------------------------ to the client */

static void flush(struct exchange *x) {
    struct buf *out = api_reply_out(x->reply);
    if (out->err != SLM_OK && !x->failed) {
        x->failed = true;
        api_fail(&x->error, 500, "answer_too_large", NULL, "the answer is larger than the server holds");
    }
    if (x->call.stream)
        exchange_write(x, out);
}

static void count_result(struct exchange *x, const struct lane *lane, const slm_result *r) {
    struct meter *meter = &x->server->meter;
    struct served_model *m = x->model;
    x->tokens_in += r->prompt_tokens;
    x->tokens_out += r->output_tokens;
    x->tokens_cached += r->reused_tokens;
    atomic_fetch_add(&meter->prompt_tokens, r->prompt_tokens);
    atomic_fetch_add(&meter->generation_tokens, r->output_tokens);
    atomic_fetch_add(&meter->reasoning_tokens, r->reasoning_tokens);
    atomic_fetch_add(&meter->prefix_queries, r->prompt_tokens);
    atomic_fetch_add(&meter->prefix_hits, r->reused_tokens);
    atomic_fetch_add(&meter->guessed, r->guessed_tokens);
    atomic_fetch_add(&meter->accepted, r->accepted_tokens);
    atomic_fetch_add(&m->prompt_tokens, r->prompt_tokens);
    atomic_fetch_add(&m->output_tokens, r->output_tokens);
    atomic_fetch_add(&meter->prefill_us, r->prefill_ns / 1000);
    atomic_fetch_add(&meter->decode_us, r->decode_ns / 1000);
    meter_observe(&meter->prefill, r->prefill_ns);
    meter_observe(&meter->decode, r->decode_ns);
    if (exchange_left(x))
        atomic_fetch_add(&meter->wasted, r->output_tokens + atomic_load(&lane->prompt_done));
}

/* ------------------------------------------------------------------ events of the batch */

static bool goes_on(const struct exchange *x) {
    return !exchange_left(x) && !x->failed;
}

static bool on_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct lane *lane = user;
    if (!goes_on(lane->exchange))
        return false;
    api_reply_text(lane->exchange->reply, lane->index, part, text, n);
    flush(lane->exchange);
    return goes_on(lane->exchange);
}

static bool on_call(void *user, const slm_tool_call *call) {
    struct lane *lane = user;
    if (!goes_on(lane->exchange))
        return false;
    api_reply_call(lane->exchange->reply, lane->index, call);
    flush(lane->exchange);
    return goes_on(lane->exchange);
}

static bool on_choice(void *user, const slm_choice *choice) {
    struct lane *lane = user;
    struct meter *meter = &lane->exchange->server->meter;
    uint64_t now = clock_ns();
    if (lane->first_ns == 0) {
        lane->first_ns = now;
        meter_observe(&meter->first_token, now - lane->exchange->arrived_ns);
    } else {
        meter_observe(&meter->token_gap, now - lane->last_ns);
    }
    lane->last_ns = now;
    atomic_fetch_add_explicit(&lane->output, 1, memory_order_relaxed);
    if (goes_on(lane->exchange))
        api_reply_choice(lane->exchange->reply, lane->index, choice);
    return goes_on(lane->exchange);
}

static bool on_prompt(void *user, const slm_choice *choice) {
    struct lane *lane = user;
    if (goes_on(lane->exchange) && lane->index % lane->exchange->call.choices == 0)
        api_reply_prompt(lane->exchange->reply, lane->index / lane->exchange->call.choices, choice);
    return goes_on(lane->exchange);
}

static bool on_prefill(void *user, size_t done, size_t total) {
    struct lane *lane = user;
    atomic_store_explicit(&lane->prompt_done, (uint32_t)done, memory_order_relaxed);
    if (goes_on(lane->exchange) && lane->exchange->call.progress) {
        api_reply_progress(lane->exchange->reply, lane->index, done, total);
        flush(lane->exchange);
    }
    return goes_on(lane->exchange);
}

/* ------------------------------------------------------------------ the end of an exchange */

static void observe_end(struct exchange *x, enum finish_kind kind) {
    uint64_t now = clock_ns();
    atomic_fetch_add(&x->server->meter.success[kind], 1);
    meter_observe(&x->server->meter.whole, now - x->arrived_ns);
}

static void fail_exchange(struct exchange *x) {
    observe_end(x, FINISH_ERROR);
    x->finish = "error";
    pthread_mutex_lock(&x->lock);
    bool begun = x->streams;
    pthread_mutex_unlock(&x->lock);
    if (begun) {
        api_reply_error(x->reply, &x->error);
        exchange_write(x, api_reply_out(x->reply));
        exchange_end(x);
    } else {
        exchange_error(x, &x->error);
    }
}

/* Nothing of it runs or waits any more. Gives the reference back that drive_admit took. */
static void finish_exchange(struct exchange *x) {
    struct served_model *m = x->model;
    pthread_mutex_lock(&x->lock);
    x->queued_at = NULL;
    pthread_mutex_unlock(&x->lock);
    atomic_store(&x->stage, STAGE_DONE);
    if (exchange_left(x)) {
        observe_end(x, FINISH_ABORT);
        x->finish = "cancelled";
    } else if (x->failed) {
        fail_exchange(x);
    } else {
        api_reply_end(x->reply);
        struct buf *out = api_reply_out(x->reply);
        if (x->call.stream) {
            exchange_write(x, out);
            exchange_end(x);
        } else {
            exchange_reply(x, 200, api_reply_type(&x->call), out);
        }
        observe_end(x, x->finish && strcmp(x->finish, "length") == 0 ? FINISH_LENGTH : FINISH_STOP);
    }
    pthread_mutex_lock(&m->lock);
    pace_departed(&m->pace, clock_ns(), m->n_waiting > 0 || m->n_running > 0);
    pthread_mutex_unlock(&m->lock);
    exchange_drop_work(x);
    exchange_unref(x);
}

static void lane_failed(struct exchange *x, slm_err err, const slm_why *why) {
    if (exchange_left(x) || x->failed)
        return;
    x->failed = true;
    api_fail_slm(&x->error, err, why);
}

static void count_cancelled(struct exchange *x, enum cancel_phase phase) {
    if (exchange_left(x))
        atomic_fetch_add(&x->server->meter.cancelled[phase], 1);
}

/* The lane's place is free again. */
static void on_done(void *user, uint64_t id, const slm_result *r, slm_err err, const slm_why *why) {
    struct lane *lane = user;
    struct exchange *x = lane->exchange;
    struct served_model *m = x->model;
    (void)id;
    pthread_mutex_lock(&m->lock);
    lane->request = 0;
    m->n_running--;
    for (uint32_t i = 0; i < m->places; i++)
        if (m->placed[i] == lane)
            m->placed[i] = NULL;
    pthread_mutex_unlock(&m->lock);
    x->lanes_running--;
    x->lanes_done++;
    count_result(x, lane, r);
    if (err != SLM_OK) {
        count_cancelled(x, CANCEL_PREFILL);
        lane_failed(x, err, why);
    } else if (r->finish == SLM_FINISH_CANCELLED) {
        count_cancelled(x, CANCEL_DECODE);
    } else if (goes_on(x)) {
        struct api_spent spent = { .queue_ns = lane->started_ns - x->queued_ns,
                                   .load_ns = x->load_ns,
                                   .total_ns = clock_ns() - x->arrived_ns };
        if (lane->hidden)
            api_reply_embedding(x->reply, lane->index, lane->hidden, m->info.hidden,
                                lane->n_ids);
        else
            api_reply_done(x->reply, lane->index, r, &spent);
        x->finish = r->finish == SLM_FINISH_LENGTH || r->finish == SLM_FINISH_CONTEXT ? "length"
                                                                                      : "stop";
        flush(x);
    }
}

/* ------------------------------------------------------------------ places */

static slm_err start_lane(struct served_model *m, struct exchange *x, struct lane *lane,
                          slm_why *why) {
    slm_generate_options *o = &lane->options;
    uint32_t prompt_top = 0;
    o->on_text = on_text;
    o->on_call = on_call;
    o->on_choice = on_choice;
    o->on_prefill = on_prefill;
    o->user = lane;
    slm_request request = { .size = sizeof request,
                            .ids = lane->ids,
                            .n = lane->n_ids,
                            .options = o,
                            .on_done = on_done,
                            .user = lane,
                            .mean_hidden = lane->hidden,
                            .prompt_only = x->call.score_only,
                            .cache_salt = x->salt };
    if (api_wants_prompt(&x->call, &prompt_top)) {
        request.on_prompt = on_prompt;
        request.prompt_top = prompt_top;
    }
    lane->started_ns = clock_ns();
    uint64_t id = 0;
    TRY(slm_batch_add(m->batch, &request, &id, why));
    pthread_mutex_lock(&m->lock);
    lane->request = id;
    m->n_running++;
    for (uint32_t i = 0; i < m->places; i++) {
        if (m->placed[i] == NULL) {
            m->placed[i] = lane;
            break;
        }
    }
    pthread_mutex_unlock(&m->lock);
    x->lanes_running++;
    return SLM_OK;
}

/* The head of the queue begins to run: all of its lanes come before whoever waits behind it. */
static struct exchange *take_waiting(struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    struct exchange *x = m->queue;
    if (x != NULL) {
        m->queue = x->next;
        if (m->queue == NULL)
            m->queue_last = NULL;
        m->n_waiting--;
        m->waiting_tokens -= x->waiting_tokens;
        x->next = NULL;
        atomic_store(&x->stage, STAGE_RUN);
    }
    pthread_mutex_unlock(&m->lock);
    if (x != NULL) {
        struct exchange **at = &m->running;
        while (*at)
            at = &(*at)->next;
        *at = x;
        meter_observe(&m->server->meter.queue, clock_ns() - x->queued_ns);
    }
    return x;
}

/* The next lane that wants a place, of those that run and then of those that wait; NULL: none. */
static struct lane *next_lane(struct served_model *m) {
    struct exchange *x = m->running;
    while (x && (x->next_lane == x->n_lanes || !goes_on(x)))
        x = x->next;
    if (x == NULL)
        x = take_waiting(m);
    return x ? &x->lanes[x->next_lane++] : NULL;
}

static void fill_places(struct served_model *m) {
    while (m->n_running < m->places) { /* changed by this thread alone */
        slm_why why;
        struct lane *lane = next_lane(m);
        if (lane == NULL)
            return;
        slm_err err = start_lane(m, lane->exchange, lane, &why);
        if (err != SLM_OK) {
            lane->exchange->lanes_done++;
            lane_failed(lane->exchange, err, &why);
        }
    }
}

/* ------------------------------------------------------------------ a turn */

static void ping(struct exchange *x, uint64_t now) {
    if (x->call.stream && api_reply_out(x->reply)->len > 0)
        flush(x); /* what it begins with */
    if (!x->call.stream || now < x->ping_ns)
        return;
    x->ping_ns = now + PING_SECONDS * UINT64_C(1000000000);
    for (size_t i = 0; i < x->n_lanes; i++)
        if (x->lanes[i].first_ns != 0)
            return; /* it writes: that is sign enough */
    api_reply_ping(x->reply);
    flush(x);
}

/* The request's time is up, or everybody's. */
static bool out_of_time(struct exchange *x, uint64_t now) {
    if (atomic_load(&x->server->stop_now))
        api_fail(&x->error, 503, "server_stopping", NULL, "the server is being stopped");
    else if (now >= x->deadline_ns)
        api_fail(&x->error, 504, "timeout", NULL, "the request took longer than %u s",
                 x->server->options.timeout_s);
    else
        return false;
    x->failed = true;
    return true;
}

static void check_running(struct served_model *m) {
    uint64_t now = clock_ns();
    for (struct exchange *x = m->running; x; x = x->next) {
        if (!goes_on(x) || out_of_time(x, now))
            drive_cancel(m, x);
        else
            ping(x, now);
    }
}

static bool is_over(const struct exchange *x) {
    return x->lanes_running == 0 && (x->lanes_done == x->n_lanes || !goes_on(x));
}

static void end_running(struct served_model *m) {
    for (struct exchange **at = &m->running; *at;) {
        struct exchange *x = *at;
        if (is_over(x)) {
            *at = x->next;
            x->next = NULL;
            finish_exchange(x);
        } else {
            at = &x->next;
        }
    }
}

/* Takes those out of the queue whose client has left or whose time is up; only this thread takes out. */
static void end_waiting(struct served_model *m) {
    struct exchange *over = NULL, *last = NULL;
    uint64_t now = clock_ns();
    pthread_mutex_lock(&m->lock);
    for (struct exchange **at = &m->queue; *at;) {
        struct exchange *x = *at;
        if (goes_on(x) && !out_of_time(x, now)) {
            last = x;
            at = &x->next;
            continue;
        }
        *at = x->next;
        m->n_waiting--;
        m->waiting_tokens -= x->waiting_tokens;
        x->next = over;
        over = x;
    }
    m->queue_last = last;
    struct exchange *first = m->queue; /* behind `last` others may be put meanwhile */
    pthread_mutex_unlock(&m->lock);
    for (struct exchange *x = first; x && last; x = x == last ? NULL : x->next)
        ping(x, now);
    while (over) {
        struct exchange *x = over;
        over = x->next;
        x->next = NULL;
        count_cancelled(x, CANCEL_QUEUE);
        finish_exchange(x);
    }
}

static void pass(struct served_model *m) {
    struct meter *meter = &m->server->meter;
    size_t n = m->n_running; /* changed by this thread alone */
    if (n == 0)
        return;
    uint64_t start = clock_ns();
    pthread_mutex_lock(&m->lock);
    m->stepping = true;
    pthread_mutex_unlock(&m->lock);
    atomic_store(&m->step_ns, start);
    slm_batch_step(m->batch);
    atomic_store(&m->step_ns, 0);
    pthread_mutex_lock(&m->lock);
    bool again = m->all_left;
    m->stepping = m->all_left = false;
    pthread_mutex_unlock(&m->lock);
    if (again) /* the next step ends what runs, so it must come before others get places */
        slm_batch_step(m->batch);
    atomic_fetch_add(&meter->steps, 1);
    atomic_fetch_add(&meter->step_rows, n);
    atomic_fetch_add(&meter->step_ns, clock_ns() - start);
}

/* Waits until there is work; false: the end. */
static bool wait_for_work(struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    while (m->queue == NULL && m->running == NULL && !m->stop)
        pthread_cond_wait(&m->more, &m->lock);
    bool goes = m->queue != NULL || m->running != NULL;
    pthread_mutex_unlock(&m->lock);
    return goes;
}

void drive_run(struct served_model *m) {
    while (wait_for_work(m)) {
        end_waiting(m);
        fill_places(m);
        check_running(m);
        pass(m);
        end_running(m);
    }
}

/* ------------------------------------------------------------------ from other threads */

void drive_stop(struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_signal(&m->more);
    pthread_mutex_unlock(&m->lock);
}

void drive_wake(struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    pthread_cond_signal(&m->more);
    pthread_mutex_unlock(&m->lock);
}

bool drive_admit(struct served_model *m, struct exchange *x, struct api_error *e) {
    const struct server_options *o = &m->server->options;
    bool admitted = false;
    pthread_mutex_lock(&m->lock);
    /* who waits for a place that is free already waits for the pass at hand only */
    size_t free_places = m->places - m->n_running;
    bool must_wait = m->n_waiting >= free_places;
    if (m->stop) {
        api_fail(e, 503, "model_unloading", NULL, "the model is being unloaded");
        e->retry_ms = PACE_UNKNOWN_MS;
    } else if (must_wait && (m->n_waiting - free_places >= o->queue ||
                             m->waiting_tokens + x->waiting_tokens > o->queue_tokens)) {
        uint32_t ms = pace_wait_ms(&m->pace, 1 + m->n_waiting / 4, clock_ns());
        api_fail(e, 429, "server_overloaded", NULL,
                 "%zu requests with %zu tokens wait, at most %u with %llu may", m->n_waiting,
                 m->waiting_tokens, o->queue, (unsigned long long)o->queue_tokens);
        e->retry_ms = ms;
    } else {
        admitted = true;
        if (x->call.stream) /* the status is known now; bytes follow from the model's thread */
            exchange_stream(x, api_reply_type(&x->call));
        if (m->queue_last)
            m->queue_last->next = x;
        else
            m->queue = x;
        m->queue_last = x;
        m->n_waiting++;
        m->waiting_tokens += x->waiting_tokens;
        pthread_cond_signal(&m->more);
    }
    pthread_mutex_unlock(&m->lock);
    return admitted;
}

/* With the lock held: whether all that runs is for clients that have left. */
static bool all_left(const struct served_model *m) {
    for (uint32_t i = 0; i < m->places; i++)
        if (m->placed[i] && goes_on(m->placed[i]->exchange))
            return false;
    return true;
}

void drive_cancel(struct served_model *m, struct exchange *x) {
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; m->batch && i < m->places; i++)
        if (m->placed[i] && m->placed[i]->exchange == x && m->placed[i]->request != 0)
            slm_batch_cancel(m->batch, m->placed[i]->request);
    if (m->stepping && !m->all_left && all_left(m)) {
        m->all_left = true;
        slm_batch_cancel(m->batch, 0); /* the pass at hand need not end either */
    }
    pthread_cond_signal(&m->more);
    pthread_mutex_unlock(&m->lock);
}
