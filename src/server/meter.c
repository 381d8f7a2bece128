/* meter.c - counters and histograms as Prometheus text (exposition format 0.0.4). */
#include "server/meter.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* upper bounds in seconds, for every histogram: from one fast token to a long answer */
static const double bounds[HIST_BOUNDS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                            0.5,   1,      2.5,   5,    10,    30,   60,  300 };

void meter_observe(struct histogram *h, uint64_t ns) {
    size_t i = 0;
    while (i < HIST_BOUNDS && (double)ns > bounds[i] * 1e9)
        i++;
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_us, ns / 1000, memory_order_relaxed);
}

static uint64_t at(const _Atomic uint64_t *v) {
    return atomic_load_explicit(v, memory_order_relaxed);
}

/* ------------------------------------------------------------------ pieces */

struct text {
    struct buf *out;
    const char *prefix; /* "slm_", "vllm:" */
};

static void head(const struct text *t, const char *name, const char *type, const char *help) {
    buf_printf(t->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", t->prefix, name, help, t->prefix, name,
               type);
}

static void one(const struct text *t, const char *name, const char *type, const char *help,
                double v) {
    head(t, name, type, help);
    buf_printf(t->out, "%s%s %.17g\n", t->prefix, name, v);
}

static void labelled(const struct text *t, const char *name, const char *label, const char *value,
                     uint64_t v) {
    buf_printf(t->out, "%s%s{%s=\"", t->prefix, name, label);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            buf_putc(t->out, '\\');
        buf_putc(t->out, (unsigned char)*value < 0x20 ? '?' : *value);
    }
    buf_printf(t->out, "\"} %llu\n", (unsigned long long)v);
}

static void histogram(const struct text *t, const char *name, const char *help,
                      const struct histogram *h) {
    uint64_t sum = 0;
    head(t, name, "histogram", help);
    for (size_t i = 0; i <= HIST_BOUNDS; i++) {
        sum += at(&h->counts[i]);
        if (i < HIST_BOUNDS)
            buf_printf(t->out, "%s%s_bucket{le=\"%g\"} %llu\n", t->prefix, name, bounds[i],
                       (unsigned long long)sum);
        else
            buf_printf(t->out, "%s%s_bucket{le=\"+Inf\"} %llu\n", t->prefix, name,
                       (unsigned long long)sum);
    }
    buf_printf(t->out, "%s%s_sum %.6f\n%s%s_count %llu\n", t->prefix, name,
               (double)at(&h->sum_us) / 1e6, t->prefix, name, (unsigned long long)sum);
}

/* ------------------------------------------------------------------ what slm_ and vllm: share */

static void shared(const struct text *t, const struct meter *m, const struct gauges *g) {
    static const char *const finished[FINISH_KINDS] = { "stop", "length", "abort", "error" };
    one(t, "num_requests_running", "gauge", "Answers being evaluated or written.",
        (double)g->running);
    one(t, "num_requests_waiting", "gauge", "Answers waiting for a place.", (double)g->waiting);
    one(t, "kv_cache_usage_perc", "gauge", "Share of the places' positions in use, 0 to 1.",
        g->cache_used);
    one(t, "prefix_cache_queries_total", "counter", "Tokens of prompts looked up in the cache.",
        (double)at(&m->prefix_queries));
    one(t, "prefix_cache_hits_total", "counter", "Of these, tokens that were there.",
        (double)at(&m->prefix_hits));
    one(t, "prompt_tokens_total", "counter", "Tokens of prompts.", (double)at(&m->prompt_tokens));
    one(t, "generation_tokens_total", "counter", "Tokens written.",
        (double)at(&m->generation_tokens));
    head(t, "request_success_total", "counter", "Answers by how they ended.");
    for (size_t i = 0; i < FINISH_KINDS; i++)
        labelled(t, "request_success_total", "finished_reason", finished[i], at(&m->success[i]));
    histogram(t, "time_to_first_token_seconds", "From a request's headers to its first token.",
              &m->first_token);
    histogram(t, "inter_token_latency_seconds", "Between tokens of one answer.", &m->token_gap);
    histogram(t, "e2e_request_latency_seconds", "From a request's headers to its end.", &m->whole);
    histogram(t, "request_queue_time_seconds", "Waiting for a place.", &m->queue);
    histogram(t, "request_prefill_time_seconds", "Evaluating the prompt.", &m->prefill);
    histogram(t, "request_decode_time_seconds", "Writing.", &m->decode);
}

/* ------------------------------------------------------------------ what only slm_ has */

static void own(const struct text *t, const struct meter *m, const struct gauges *g) {
    static const char *const reasons[REJECT_COUNT] = { "queue_full", "key_limit", "auth", "loading",
                                                       "draining" };
    static const char *const phases[CANCEL_COUNT] = { "queue", "prefill", "decode" };
    one(t, "ready", "gauge", "1 when the server wants requests.", g->ready ? 1 : 0);
    one(t, "waiting_prompt_tokens", "gauge", "Tokens of the prompts that wait.",
        (double)g->waiting_tokens);
    head(t, "requests_rejected_total", "counter", "Requests refused, by reason.");
    for (size_t i = 0; i < REJECT_COUNT; i++)
        labelled(t, "requests_rejected_total", "reason", reasons[i], at(&m->rejected[i]));
    head(t, "requests_cancelled_total", "counter", "Answers whose client left, by phase.");
    for (size_t i = 0; i < CANCEL_COUNT; i++)
        labelled(t, "requests_cancelled_total", "phase", phases[i], at(&m->cancelled[i]));
    one(t, "tokens_wasted_total", "counter", "Tokens computed for clients that left.",
        (double)at(&m->wasted));
    one(t, "reasoning_tokens_total", "counter", "Of the tokens written, reasoning.",
        (double)at(&m->reasoning_tokens));
    one(t, "guessed_tokens_total", "counter", "Tokens that speculation guessed.",
        (double)at(&m->guessed));
    one(t, "accepted_tokens_total", "counter", "Of these, right ones.", (double)at(&m->accepted));
    one(t, "batch_steps_total", "counter", "Passes through models.", (double)at(&m->steps));
    one(t, "batch_requests_total", "counter", "Answers in those passes, added up.",
        (double)at(&m->step_rows));
    one(t, "batch_seconds_total", "counter", "Time in those passes.",
        (double)at(&m->step_ns) / 1e9);
    one(t, "connections", "gauge", "Connections that are open.", (double)g->connections);
    one(t, "connections_accepted_total", "counter", "Connections that were taken.",
        (double)at(&m->connections_total));
    one(t, "connections_refused_total", "counter", "Connections over a limit.",
        (double)at(&m->connections_refused));
    head(t, "connections_cut_total", "counter", "Connections that the server ended, by reason.");
    labelled(t, "connections_cut_total", "reason", "slow_reader", at(&m->cut_slow));
    labelled(t, "connections_cut_total", "reason", "deadline", at(&m->cut_deadline));
    one(t, "models_loaded", "gauge", "Models in memory.", (double)g->models_loaded);
    one(t, "models_bytes", "gauge", "Memory planned for them.", (double)g->models_bytes);
    one(t, "model_loads_total", "counter", "Models that were loaded.", (double)at(&m->loads));
    one(t, "model_unloads_total", "counter", "Models that were unloaded.",
        (double)at(&m->unloads));
    one(t, "model_load_failures_total", "counter", "Models that could not be loaded.",
        (double)at(&m->load_failures));
    head(t, "http_requests_total", "counter", "Answers by HTTP status.");
    for (unsigned i = 0; i < HTTP_STATUSES; i++) {
        char status[8];
        snprintf(status, sizeof status, "%u", i);
        if (at(&m->http[i]) > 0)
            labelled(t, "http_requests_total", "status", status, at(&m->http[i]));
    }
}

static void per_model(const struct text *t, const struct model_gauge *models, size_t n) {
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } rows[] = {
        { "model_running", "gauge", "Answers in the model's places.",
          offsetof(struct model_gauge, running) },
        { "model_waiting", "gauge", "Answers waiting for the model.",
          offsetof(struct model_gauge, waiting) },
        { "model_places", "gauge", "Places of the model.", offsetof(struct model_gauge, places) },
        { "model_memory_bytes", "gauge", "Memory planned for the model.",
          offsetof(struct model_gauge, bytes) },
        { "model_prompt_tokens_total", "counter", "Tokens of prompts, by model.",
          offsetof(struct model_gauge, prompt_tokens) },
        { "model_generation_tokens_total", "counter", "Tokens written, by model.",
          offsetof(struct model_gauge, generation_tokens) },
    };
    for (size_t r = 0; n > 0 && r < ARRAY_LEN(rows); r++) {
        head(t, rows[r].name, rows[r].type, rows[r].help);
        for (size_t i = 0; i < n; i++) {
            uint64_t v;
            memcpy(&v, (const char *)&models[i] + rows[r].offset, sizeof v);
            labelled(t, rows[r].name, "model", models[i].name, v);
        }
    }
}

/* ------------------------------------------------------------------ llama-server's names */

static double per_second(uint64_t n, uint64_t us) {
    return us > 0 ? (double)n * 1e6 / (double)us : 0;
}

static void llama(const struct text *t, const struct meter *m, const struct gauges *g) {
    uint64_t steps = at(&m->steps);
    one(t, "requests_processing", "gauge", "Answers being evaluated or written.",
        (double)g->running);
    one(t, "requests_deferred", "gauge", "Answers waiting for a place.", (double)g->waiting);
    one(t, "prompt_tokens_total", "counter", "Tokens of prompts.", (double)at(&m->prompt_tokens));
    one(t, "tokens_predicted_total", "counter", "Tokens written.",
        (double)at(&m->generation_tokens));
    one(t, "prompt_tokens_seconds", "gauge", "Tokens of prompts per second.",
        per_second(at(&m->prompt_tokens), at(&m->prefill_us)));
    one(t, "predicted_tokens_seconds", "gauge", "Tokens written per second.",
        per_second(at(&m->generation_tokens), at(&m->decode_us)));
    one(t, "n_busy_slots_per_decode", "gauge", "Answers in one pass, on average.",
        steps > 0 ? (double)at(&m->step_rows) / (double)steps : 0);
}

/* ------------------------------------------------------------------ the process */

static void process(struct buf *out, uint64_t start_s) {
    const struct text t = { out, "process_" };
    unsigned long pages = 0, resident = 0, user = 0, system = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu %lu", &pages, &resident) == 2) {
        one(&t, "resident_memory_bytes", "gauge", "Memory in use.",
            (double)resident * (double)sysconf(_SC_PAGESIZE));
        one(&t, "virtual_memory_bytes", "gauge", "Address space in use.",
            (double)pages * (double)sysconf(_SC_PAGESIZE));
    }
    if (f)
        fclose(f);
    f = fopen("/proc/self/stat", "re");
    if (f && fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                    &system) == 2)
        one(&t, "cpu_seconds_total", "counter", "Processor time of all threads.",
            (double)(user + system) / (double)sysconf(_SC_CLK_TCK));
    if (f)
        fclose(f);
    one(&t, "start_time_seconds", "gauge", "When it started, since the epoch.", (double)start_s);
}

void meter_text(const struct meter *m, const struct gauges *g, const struct model_gauge *models,
                size_t n_models, unsigned names, struct buf *out) {
    const struct text slm = { out, "slm_" }, vllm = { out, "vllm:" }, llamacpp = { out, "llamacpp:" };
    shared(&slm, m, g);
    own(&slm, m, g);
    per_model(&slm, models, n_models);
    if (names == 1)
        shared(&vllm, m, g);
    if (names == 2)
        llama(&llamacpp, m, g);
    process(out, g->start_s);
}
