/* cmd_bench_measure.c - rounds of one sequence at a depth.
 *
 * A session is brought to the depth once, not timed. Each round: -p random ids are evaluated in chunks
 * (prefill), -n ids one by one, each with its row of logits (decode), each from the depth on; with
 * --peer the other program does the same between. The first round warms up and does not count.
 *
 * Going back to the depth costs nothing, except where a sliding window has dropped what would be
 * needed: there the next part begins where the last one ended, which is written down (cell.at) and
 * counted in the limit.
 *
 * A machine that is shared with strangers has slow times that the system does not tell. So a pulse is
 * taken before and after each round, and a round beside a low one is thrown away as a whole, the
 * peer's part too, and done again: whether it counts does not depend on its own result. */
#include <stdlib.h>

#include "base/pool.h"
#include "cli/cmd_bench.h"

#define PULSE_SHARE 0.75 /* of the best: below that the machine was disturbed */

/* ------------------------------------------------------------------ tokens */

static uint64_t next_random(uint64_t *state) { /* xorshift64*, Vigna 2016 */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

void bench_ids(struct bench *b, size_t n) {
    uint32_t vocab = b->m.info.vocab_used ? b->m.info.vocab_used : b->m.info.vocab;
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    if (n <= b->n_ids)
        return;
    b->ids = keep(realloc(b->ids, n * sizeof *b->ids));
    for (size_t i = 0; i < n; i++)
        b->ids[i] = (int32_t)((next_random(&state) >> 33) % vocab);
    b->n_ids = n;
}

/* ------------------------------------------------------------------ pulses */

static slm_err pulse(struct bench *b, slm_machine *m, slm_why *why) {
    *m = (slm_machine){ .size = sizeof *m };
    slm_err err = slm_machine_get(SLM_MEASURE_PULSE, b->session.threads, m, why);
    if (err == SLM_OK && m->read_gb_s > b->machine.read_gb_s)
        b->machine.read_gb_s = m->read_gb_s; /* the limit is the best that was seen at all */
    return err;
}

slm_err pulses_begin(struct bench *b, struct pulses *p, slm_why *why) {
    slm_machine m;
    slm_err err = pulse(b, &m, why);
    p->read = m.read_gb_s;
    p->multiply = m.int8_tops;
    return err;
}

slm_err pulses_take(struct bench *b, struct pulses *p, slm_why *why) {
    slm_machine m;
    slm_err err = pulse(b, &m, why);
    p->read = m.read_gb_s < p->read ? m.read_gb_s : p->read;
    p->multiply = m.int8_tops < p->multiply ? m.int8_tops : p->multiply;
    return err;
}

bool pulses_low(const struct bench *b, const struct pulses *p) {
    return p->read < PULSE_SHARE * b->machine.read_gb_s ||
           p->multiply < PULSE_SHARE * b->machine.int8_tops;
}

void weather_add(struct weather *w, const struct pulses *p) {
    w->read = keep(realloc(w->read, (w->n + 1) * sizeof *w->read));
    w->multiply = keep(realloc(w->multiply, (w->n + 1) * sizeof *w->multiply));
    w->read[w->n] = p->read;
    w->multiply[w->n++] = p->multiply;
}

/* ------------------------------------------------------------------ one part of a round */

/* The session at the depth, or further where it cannot go back; `room` more tokens fit. */
static slm_err stand(struct bench *b, uint32_t depth, uint32_t room, uint32_t *at, slm_why *why) {
    slm_session *s = b->m.session;
    size_t held = slm_session_length(s);
    slm_err err = SLM_OK;
    if (held > depth || depth == 0) {
        err = slm_session_truncate(s, depth, why);
        if (err == SLM_E_STATE && held + room > slm_session_context(s))
            err = slm_session_sync(s, b->ids, depth, NULL, why); /* from its beginning */
        else if (err == SLM_E_STATE)
            err = SLM_OK;
    } else if (held < depth) {
        err = slm_session_sync(s, b->ids, depth, NULL, why);
    }
    *at = (uint32_t)slm_session_length(s);
    return err;
}

static slm_err time_prefill(struct bench *b, uint32_t depth, uint32_t *at, double *rate,
                            slm_why *why) {
    slm_err err = stand(b, depth, b->prompt, at, why);
    uint64_t start = clock_ns();
    if (err == SLM_OK)
        err = slm_session_sync(b->m.session, b->ids, (size_t)*at + b->prompt, NULL, why);
    *rate = b->prompt / ((double)(clock_ns() - start) / 1e9);
    return err;
}

static slm_err time_decode(struct bench *b, uint32_t depth, uint32_t n, uint32_t *at, double *rate,
                           slm_why *why) {
    slm_err err = stand(b, depth, n, at, why);
    uint64_t start = clock_ns();
    for (uint32_t i = 0; i < n && err == SLM_OK; i++) {
        err = slm_session_append(b->m.session, b->ids + *at + i, 1, false, NULL, NULL, why);
        if (err == SLM_OK && interrupted())
            err = SLM_E_CANCELLED;
    }
    *rate = n / ((double)(clock_ns() - start) / 1e9);
    return err;
}

/* ------------------------------------------------------------------ one round */

struct round {
    double rate[BENCH_KINDS];
    uint32_t at[BENCH_KINDS];
    double peer[FLASH_SETTINGS][BENCH_KINDS];
    bool has_peer;
    struct pulses pulses;
};

/* The peer's part; a failure is an error at the first depth and left out at others. Exit code. */
static int round_peer(struct bench *b, uint32_t depth, bool *peer_works, struct round *r) {
    char why[sizeof b->out->why];
    int code = peer_round(b, depth, r->peer, why, sizeof why);
    if (code == EXIT_DONE || code == EXIT_INTERRUPTED) {
        r->has_peer = code == EXIT_DONE;
        signals_watch(b->m.session);
        return code;
    }
    if (depth == b->depths[0])
        return report(b->c, code, "E_PEER", "the command alone, to see what it says", "%s", why);
    bench_leave_out(b, "peer", depth, 1, "%s", why);
    *peer_works = false;
    signals_watch(b->m.session);
    return EXIT_DONE;
}

static int round_measure(struct bench *b, uint32_t depth, bool *peer_works, struct round *r) {
    slm_why why;
    *r = (struct round){ 0 };
    slm_err err = pulses_begin(b, &r->pulses, &why);
    if (err == SLM_OK)
        err = time_prefill(b, depth, &r->at[BENCH_PREFILL], &r->rate[BENCH_PREFILL], &why);
    if (err == SLM_OK)
        err = time_decode(b, depth, b->output, &r->at[BENCH_DECODE], &r->rate[BENCH_DECODE], &why);
    if (err == SLM_OK)
        err = pulses_take(b, &r->pulses, &why);
    if (err == SLM_OK && *peer_works) {
        int code = round_peer(b, depth, peer_works, r);
        if (code != EXIT_DONE)
            return code;
        err = pulses_take(b, &r->pulses, &why);
    }
    return err == SLM_OK ? EXIT_DONE : report_error(b->c, AT_WORK, err, &why, NULL);
}

static void round_keep(const struct round *r, struct cell *cell) {
    double n = (double)cell->ours.n;
    cell->at = (cell->at * n + r->at[cell->kind]) / (n + 1);
    samples_add(&cell->ours, r->rate[cell->kind]);
    weather_add(&cell->weather, &r->pulses);
    for (int f = 0; f < FLASH_SETTINGS && r->has_peer; f++)
        samples_add(&cell->peer.setting[f], r->peer[f][cell->kind]);
}

static void step(struct bench *b) {
    b->done++;
    progress_step(&b->progress, b->done, b->total > b->done ? b->total : b->done);
}

/* ------------------------------------------------------------------ all rounds */

/* The most positions that the rounds reach: further where a window may keep them from going back. */
static uint64_t context_needed(const struct bench *b, uint32_t depth) {
    uint64_t longer = b->prompt > b->output ? b->prompt : b->output;
    if (b->m.info.window == 0 || depth == 0)
        return depth + longer;
    return depth + (2 * (uint64_t)b->rounds + 1) * ((uint64_t)b->prompt + b->output);
}

/* EXIT_DONE with a session, or without one when the cell was left out. */
static int open_session(struct bench *b, uint32_t depth) {
    slm_session_options o = b->session;
    uint64_t longer = b->prompt > b->output ? b->prompt : b->output;
    uint64_t least = depth + longer, most = context_needed(b, depth);
    slm_why why;
    if (most > b->m.info.context)
        most = least > b->m.info.context ? least : b->m.info.context;
    o.context = most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
    o.max_bytes = b->m.allowed;
    slm_err err = slm_session_open(b->m.engine, &o, &b->m.session, &why);
    if (err == SLM_OK)
        signals_watch(b->m.session);
    if (err == SLM_OK)
        return EXIT_DONE;
    if (!b->listed || (err != SLM_E_CONTEXT && err != SLM_E_MEMORY))
        return report_error(b->c, AT_WORK, err, &why, "a smaller --depth, -p or -n");
    bench_leave_out(b, "all", depth, 1, "%s", why.message);
    return EXIT_DONE;
}

static int warm_up(struct bench *b, uint32_t depth) {
    uint32_t at, few = b->output < 8 ? b->output : 8;
    double ignored;
    slm_why why;
    slm_err err = time_prefill(b, depth, &at, &ignored, &why);
    if (err == SLM_OK)
        err = time_decode(b, depth, few, &at, &ignored, &why);
    step(b);
    return err == SLM_OK ? EXIT_DONE : report_error(b->c, AT_WORK, err, &why, NULL);
}

static int all_rounds(struct bench *b, struct cell cells[BENCH_KINDS]) {
    bool peer_works = b->peer != NULL;
    uint32_t depth = cells[0].depth, repeated = 0;
    int code = warm_up(b, depth);
    while (code == EXIT_DONE && cells[0].ours.n < b->rounds) {
        struct round r;
        code = round_measure(b, depth, &peer_works, &r);
        if (code != EXIT_DONE)
            break;
        if (pulses_low(b, &r.pulses) && repeated < b->rounds) {
            repeated++;
            continue;
        }
        step(b);
        for (int k = 0; k < BENCH_KINDS; k++)
            round_keep(&r, &cells[k]);
    }
    for (int k = 0; k < BENCH_KINDS && code == EXIT_DONE; k++) {
        cells[k].has_peer = peer_works;
        cells[k].weather.repeated = repeated;
        samples_summarise(&cells[k].ours);
        if (peer_works)
            peer_summarise(&cells[k]);
    }
    return code;
}

int bench_single(struct bench *b, uint32_t depth) {
    int code = open_session(b, depth);
    if (code != EXIT_DONE || b->m.session == NULL)
        return code;
    bench_ids(b, slm_session_context(b->m.session));
    bench_cell(b, BENCH_PREFILL, depth, 1);
    bench_cell(b, BENCH_DECODE, depth, 1);
    code = all_rounds(b, &b->cells[b->n_cells - BENCH_KINDS]);
    signals_watch(NULL);
    slm_session_close(b->m.session);
    b->m.session = NULL;
    return code;
}
