/* generate.c - slm_generate and slm_chat: one answer of a session, token by token. The loop is the
 * whole program: evaluate what is pending, choose from the logits (generation.c), again. */
#include "base/pool.h"
#include "session/generation.h"

/* Evaluates what is pending, with guesses where there are some. *ns: what that took if it was one row
 * and guesses, else 0. */
static slm_err evaluate(struct generation *g, uint64_t *ns, slm_why *why) {
    struct sequence *q = g->q;
    struct runner *r = q->runner;
    sequence_choose_rope(q, q->n);
    bool writes = sequence_pending(q) == 1;
    slm_err err = SLM_E_STATE;
    if (generation_guess(g, DRAFT_MAX) > 0) {
        runner_begin(r);
        runner_add(r, q, 1, LOGITS_ALL);
        err = runner_run(r, why);
        if (err != SLM_OK)
            q->n_guess = 0; /* a guess may be what broke it */
    }
    if (err != SLM_OK && err != SLM_E_CANCELLED)
        err = sequence_evaluate(q, NULL, NULL, why);
    *ns = writes && err == SLM_OK ? r->pass_ns : 0;
    return err;
}

static slm_err loop(struct generation *g, slm_why *why) {
    while (!g->done) {
        uint64_t ns;
        slm_err err = evaluate(g, &ns, why);
        if (err == SLM_E_CANCELLED) {
            g->r.finish = SLM_FINISH_CANCELLED;
            return SLM_OK;
        }
        TRY(err);
        TRY(generation_take(g, ns, why));
    }
    return SLM_OK;
}

/* Continues what s holds. r comes in with what is known of the prompt. */
static slm_err generate(slm_session *s, const slm_generate_options *o, slm_result *r,
                        slm_why *why) {
    struct generation g;
    uint64_t start = clock_ns();
    slm_err err = generation_begin(&g, &s->sequence, o, why);
    bool begun = err == SLM_OK;
    if (begun)
        err = loop(&g, why);
    /* what was held back had been said, however the loop ended */
    slm_err end = generation_end(&g, begun, err == SLM_OK ? why : NULL);
    err = err == SLM_OK ? end : err;
    g.r.prompt_tokens = r->prompt_tokens;
    g.r.reused_tokens = r->reused_tokens;
    g.r.prefill_ns = r->prefill_ns;
    g.r.decode_ns = clock_ns() - start;
    *r = g.r;
    return err;
}

/* Fields of a result that the caller's struct has room for. */
static void give(slm_result *out, const slm_result *r) {
    if (out != NULL)
        result_give(out, r, sizeof *r);
}

/* Options with their defaults; a result whose size was never set is found before the work is done. */
static slm_err take(slm_generate_options *o, const slm_generate_options *options,
                    slm_result *result, slm_why *why) {
    const slm_result none = { .size = sizeof none };
    TRY(generation_options(o, options, why));
    if (result != NULL && result_give(result, &none, sizeof none) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_result is not set: %zu",
                    result->size);
    return SLM_OK;
}

slm_err slm_generate(slm_session *s, const slm_generate_options *options, slm_result *result,
                     slm_why *why) {
    slm_generate_options o;
    slm_result r = { .size = sizeof r };
    TRY(take(&o, options, result, why));
    if (s->sequence.n == 0)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "the session holds no tokens to continue");
    s->sequence.reevaluated = 0;
    r.prompt_tokens = s->sequence.n;
    slm_err err = generate(s, &o, &r, why);
    give(result, &r);
    return err;
}

/* The prompt, then its answer. */
static slm_err answer(slm_session *s, const slm_prompt *p, const slm_generate_options *o,
                      slm_result *r, slm_why *why) {
    uint64_t start = clock_ns();
    s->sequence.reevaluated = 0;
    r->prompt_tokens = p->n_ids;
    slm_err err =
        session_sync(s, p->ids, p->n_ids, &r->reused_tokens, o->on_prefill, o->user, why);
    r->prefill_ns = clock_ns() - start;
    return err == SLM_OK ? generate(s, o, r, why) : err;
}

slm_err slm_chat(slm_session *s, const char *request, size_t n, const slm_generate_options *options,
                 slm_result *result, slm_why *why) {
    slm_generate_options o;
    slm_result r = { .size = sizeof r };
    slm_prompt *p = NULL;
    TRY(take(&o, options, result, why));
    if ((o.prompt != NULL) != (request == NULL))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "slm_chat wants a request or a prompt%s",
                    request != NULL ? ", not both" : "");
    if (request != NULL) {
        TRY(slm_prompt_make(s->runner.engine, request, n, &o.render, &p, why));
        o.prompt = p;
    }
    slm_err err = generation_settle(&o, why);
    if (err == SLM_OK)
        err = answer(s, o.prompt, &o, &r, why);
    slm_prompt_free(p);
    give(result, &r);
    return err;
}
