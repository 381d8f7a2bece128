/* embed.c - embeddings of texts: the mean of what the model makes of their tokens. */
#include <string.h>

#include "session/runner.h"
#include "session/states.h"

void states_add(double *sum, const float *states, size_t n, size_t hidden) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < hidden; k++)
            sum[k] += (double)states[i * hidden + k];
}

void states_mean(const double *sum, size_t n, size_t hidden, float *out) {
    for (size_t k = 0; k < hidden; k++)
        out[k] = (float)(sum[k] / (double)n);
}

/* Evaluates all that q holds from the start; its states are wanted. */
static slm_err evaluate_all(struct sequence *q, double *sum, slm_why *why) {
    struct runner *r = q->runner;
    while (sequence_pending(q) > 0) {
        size_t pending = sequence_pending(q);
        uint32_t held = kv_length(q->kv);
        uint32_t n = pending < r->shape.chunk ? (uint32_t)pending : r->shape.chunk;
        n = sequence_whole(q, held + n) - held;
        if (n == 0)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "an image does not fit a chunk of %u tokens: it is read whole",
                        r->shape.chunk);
        if (atomic_load_explicit(r->stop, memory_order_relaxed))
            return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled after %u of %zu tokens",
                        kv_length(q->kv), q->n);
        runner_begin(r);
        runner_add(r, q, n, n == pending ? LOGITS_LAST : LOGITS_NONE);
        TRY(runner_run(r, why));
        states_add(sum, q->states, n, r->engine->facts.m.hidden);
        if (n < pending)
            sequence_keep_pages(q);
    }
    return SLM_OK;
}

slm_err slm_embed(slm_session *s, const int32_t *ids, size_t n, float *out, slm_why *why) {
    struct sequence *q = &s->sequence;
    size_t hidden = s->runner.engine->facts.m.hidden;
    if (n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "an empty sequence cannot be evaluated");
    if (n > s->runner.shape.context)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "the text has %zu tokens, the context holds %u; nothing was dropped", n,
                    s->runner.shape.context);
    TRY(sequence_check_ids(&s->runner, ids, n, why));
    double *sum = mem_zalloc(&s->runner.hooks, hidden, sizeof *sum);
    if (sum == NULL)
        return fail_nomem(why, "mean of states", hidden * sizeof *sum);
    sequence_keep(q);
    sequence_rewind(q, 0);
    memmove(q->ids, ids, n * sizeof *ids); /* they may be those that the session holds */
    q->n = n;
    q->note = (struct prefix_note){ 0 };
    sequence_choose_rope(q, n);
    q->wants_states = true;
    slm_err err = evaluate_all(q, sum, why);
    q->wants_states = false;
    if (err == SLM_OK) {
        states_mean(sum, n, hidden, out);
        sequence_keep_prompt(q);
    } else {
        q->n = kv_length(q->kv);
    }
    mem_free(&s->runner.hooks, sum);
    return err;
}
