/* cmd_bench_batch.c - rounds of several sequences that decode together, one pass for all.
 *
 * A batch of as many places gets a prompt of `depth` random ids for each (at least one id), none like
 * another, and writes greedily with stop ids ignored. When all prompts are read, a round is -n steps:
 * each gives every sequence its next token. The rate is that of all sequences together.
 *
 * Where reading the prompts again is cheap, each round begins at the depth; else the sequences just go
 * on, and where the rounds began is written down (cell.at) and counted in the limit. */
#include <string.h>

#include "base/pool.h"
#include "cli/cmd_bench.h"

#define REFILL_MOST 4096 /* tokens of all prompts that are evaluated anew for a round */
#define SLACK                                                                                      \
    64 /* positions for steps in which some write already while others read their prompt */

struct team {
    struct bench *b;
    slm_batch *batch;
    uint32_t size, n_prompt; /* sequences; ids of each prompt */
    uint32_t prompted;       /* sequences whose prompt is read */
    uint32_t written;        /* tokens of each since then */
    bool refill;
    slm_err err; /* the first that a sequence met */
    slm_why why;
};

static bool on_prefill(void *user, size_t done, size_t total) {
    struct team *t = user;
    t->prompted += done == total;
    return !interrupted();
}

static void on_done(void *user, uint64_t id, const slm_result *result, slm_err err,
                    const slm_why *why) {
    struct team *t = user;
    (void)id, (void)result;
    if (err != SLM_OK && t->err == SLM_OK) {
        t->err = err;
        t->why = *why;
    }
}

/* ------------------------------------------------------------------ steps */

/* One pass; all sequences have to be there afterwards. */
static slm_err step_all(struct team *t) {
    size_t running = slm_batch_step(t->batch);
    if (interrupted())
        return SLM_E_CANCELLED;
    if (t->err == SLM_OK && running < t->size) { /* the context was reserved for all rounds */
        t->err = SLM_E_STATE;
        t->why =
            (slm_why){ .offset = SLM_NO_OFFSET, .message = "a sequence of the batch ended early" };
    }
    return t->err;
}

/* Everybody with a prompt of the depth, read. */
static slm_err fill(struct team *t) {
    slm_generate_options o = slm_generate_default();
    o.default_sampling = false; /* greedy */
    o.ignore_stop_ids = true;
    o.split_thinking = false;
    o.on_prefill = on_prefill;
    o.user = t;
    slm_batch_cancel(t->batch, 0);
    slm_batch_step(t->batch);
    t->err = SLM_OK; /* those that were cancelled */
    t->prompted = t->written = 0;
    for (uint32_t i = 0; i < t->size && t->err == SLM_OK; i++) {
        slm_request r = { .size = sizeof r,
                          .ids = t->b->ids + (size_t)i * t->n_prompt,
                          .n = t->n_prompt,
                          .options = &o,
                          .on_done = on_done,
                          .user = t };
        t->err = slm_batch_add(t->batch, &r, NULL, &t->why);
    }
    while (t->err == SLM_OK && t->prompted < t->size)
        if (step_all(t) == SLM_E_CANCELLED)
            return SLM_E_CANCELLED;
    return t->err;
}

static slm_err time_steps(struct team *t, uint32_t n, double *rate) {
    slm_err err = SLM_OK;
    uint64_t start = clock_ns();
    for (uint32_t i = 0; i < n && err == SLM_OK; i++)
        err = step_all(t);
    *rate = (double)t->size * n / ((double)(clock_ns() - start) / 1e9);
    t->written += n;
    return err;
}

/* ------------------------------------------------------------------ rounds */

static slm_err round_once(struct team *t, struct pulses *p, double *at, double *rate) {
    slm_err err = t->refill ? fill(t) : SLM_OK;
    if (err == SLM_OK)
        err = pulses_begin(t->b, p, &t->why);
    *at = (double)t->n_prompt + t->written;
    if (err == SLM_OK)
        err = time_steps(t, t->b->output, rate);
    return err == SLM_OK ? pulses_take(t->b, p, &t->why) : err;
}

static slm_err all_rounds(struct team *t, struct cell *cell) {
    double at, rate;
    slm_err err = fill(t);
    if (err == SLM_OK)
        err = time_steps(t, t->b->output < 8 ? t->b->output : 8, &rate); /* warms up */
    while (err == SLM_OK && cell->ours.n < t->b->rounds) {
        struct pulses p;
        err = round_once(t, &p, &at, &rate);
        if (err != SLM_OK)
            break;
        if (pulses_low(t->b, &p) && cell->weather.repeated < t->b->rounds) {
            cell->weather.repeated++;
            continue;
        }
        double n = (double)cell->ours.n;
        cell->at = (cell->at * n + at) / (n + 1);
        samples_add(&cell->ours, rate);
        weather_add(&cell->weather, &p);
    }
    samples_summarise(&cell->ours);
    return err;
}

/* Positions that a place needs: 2 x rounds, because each may be repeated. */
static uint64_t context_needed(const struct team *t) {
    uint64_t rounds = t->refill ? 1 : 2 * (uint64_t)t->b->rounds;
    return t->n_prompt + rounds * t->b->output + SLACK;
}

int bench_batch(struct bench *b, uint32_t depth, uint32_t batch) {
    struct team t = { .b = b, .size = batch, .n_prompt = depth > 0 ? depth : 1 };
    slm_session_options o = b->session;
    slm_why why;
    t.refill = (uint64_t)t.n_prompt * batch <= REFILL_MOST;
    uint64_t context = context_needed(&t);
    o.context = context > UINT32_MAX ? UINT32_MAX : (uint32_t)context;
    o.sequences = batch;
    o.max_bytes = b->m.allowed;
    slm_err err = slm_batch_open(b->m.engine, &o, &t.batch, &why);
    if (err != SLM_OK && b->listed && (err == SLM_E_CONTEXT || err == SLM_E_MEMORY)) {
        bench_leave_out(b, "decode", depth, batch, "%s", why.message);
        return EXIT_DONE;
    }
    if (err != SLM_OK)
        return report_error(b->c, AT_WORK, err, &why, "a smaller --batch, --depth or -n");
    bench_ids(b, (size_t)t.n_prompt * batch);
    err = all_rounds(&t, bench_cell(b, BENCH_DECODE, depth, batch));
    slm_batch_close(t.batch);
    return err == SLM_OK ? EXIT_DONE : report_error(b->c, AT_WORK, err, &t.why, NULL);
}
