/* meter.h - what is counted, and its text for Prometheus.
 *
 * Counters are atomic and never go back; histograms have fixed bounds. Names follow vLLM's with slm_ in
 * front of them; the same figures go out under vLLM's or llama-server's own names on request. */
#ifndef SLM_SERVER_METER_H
#define SLM_SERVER_METER_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/mem.h"

enum reject_reason { REJECT_QUEUE, REJECT_KEY, REJECT_AUTH, REJECT_LOADING, REJECT_DRAINING, REJECT_COUNT };
enum cancel_phase { CANCEL_QUEUE, CANCEL_PREFILL, CANCEL_DECODE, CANCEL_COUNT };
enum finish_kind { FINISH_STOP, FINISH_LENGTH, FINISH_ABORT, FINISH_ERROR, FINISH_KINDS };
enum { HIST_BOUNDS = 16, HTTP_STATUSES = 600 };

struct histogram {
    _Atomic uint64_t counts[HIST_BOUNDS + 1]; /* the last: above all bounds */
    _Atomic uint64_t sum_us;
};

struct meter {
    _Atomic uint64_t prompt_tokens, generation_tokens, reasoning_tokens;
    _Atomic uint64_t prefix_queries, prefix_hits; /* tokens */
    _Atomic uint64_t guessed, accepted;
    _Atomic uint64_t success[FINISH_KINDS];
    _Atomic uint64_t rejected[REJECT_COUNT];
    _Atomic uint64_t cancelled[CANCEL_COUNT];
    _Atomic uint64_t wasted; /* tokens computed for clients that had left */
    _Atomic uint64_t steps, step_rows, step_ns; /* passes of batches, requests in them, time */
    _Atomic uint64_t prefill_us, decode_us;
    _Atomic uint64_t cut_slow, cut_deadline, connections_total, connections_refused;
    _Atomic uint64_t loads, unloads, load_failures;
    struct histogram first_token, token_gap, whole, queue, prefill, decode;
    _Atomic uint64_t http[HTTP_STATUSES]; /* answers by status */
};
void meter_observe(struct histogram *h, uint64_t ns);

/* Figures of the moment that are not counted but looked up. */
struct gauges {
    uint64_t running, waiting, waiting_tokens, connections;
    double cache_used;  /* 0..1 of all places' positions */
    uint64_t models_loaded, models_bytes, places;
    uint64_t start_s;   /* since the epoch */
    bool ready;
};
struct model_gauge {
    const char *name;
    uint64_t running, waiting, places, bytes, prompt_tokens, generation_tokens;
};
/* names: 0 slm_ alone, 1 vllm: too, 2 llamacpp: too. */
void meter_text(const struct meter *m, const struct gauges *g, const struct model_gauge *models,
                size_t n_models, unsigned names, struct buf *out);

#endif
