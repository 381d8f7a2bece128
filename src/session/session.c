/* session.c - a runner with one sequence: open, hold exactly these ids, append, forget. */
#include <string.h>

#include "session/image.h"
#include "session/runner.h"

/* Guesses are ids, so both models must mean the same by them. Models of one family have rows beyond
 * their tokens in numbers of their own: ids that one of them lacks do not matter. Cost: one comparison
 * of texts per id. */
static slm_err check_draft(const slm_engine *e, const slm_session *draft, slm_why *why) {
    const struct tokenizer *mine = e->tokenizer, *its = draft->runner.engine->tokenizer;
    if (mine == NULL || its == NULL)
        return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                    "%s has no tokenizer: whether its ids are those of %s cannot be seen",
                    mine == NULL ? e->name : draft->runner.engine->name,
                    mine == NULL ? draft->runner.engine->name : e->name);
    uint32_t size = tokenizer_size(mine), other = tokenizer_size(its);
    for (uint32_t id = 0; id < size && id < other; id++) {
        const char *a, *b;
        size_t n, k;
        if (token_text_of(mine, (int32_t)id, &a, &n) && token_text_of(its, (int32_t)id, &b, &k) &&
            (n != k || memcmp(a, b, n) != 0))
            return fail(
                why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                "the draft model has another tokenizer: id %u is '%.*s' in %s and '%.*s' in "
                "%s",
                id, (int)(n < 40 ? n : 40), a, e->name, (int)(k < 40 ? k : 40), b,
                draft->runner.engine->name);
    }
    return SLM_OK;
}

slm_err slm_session_open(const slm_engine *e, const slm_session_options *options, slm_session **out,
                         slm_why *why) {
    slm_session_options o;
    *out = NULL;
    TRY(session_settings(e, options, &o, why));
    if (o.draft != NULL && o.guesses > 0)
        TRY(check_draft(e, o.draft, why));
    slm_session *s = mem_zalloc(&e->hooks, 1, sizeof *s);
    if (s == NULL)
        return fail_nomem(why, "session", sizeof *s);
    struct runner_shape shape = runner_shape_of(&e->facts.m, &o);
    s->logit_rows = o.logit_rows;
    atomic_init(&s->cancelled, false);
    slm_err err = runner_open(&s->runner, e, &shape, &s->cancelled, why);
    if (err == SLM_OK)
        err = sequence_open(&s->sequence, &s->runner, why);
    if (err != SLM_OK) {
        runner_close(&s->runner);
        mem_free(&e->hooks, s);
        return err;
    }
    *out = s;
    return SLM_OK;
}

void slm_session_close(slm_session *s) {
    if (s == NULL)
        return;
    struct slm_hooks hooks = s->runner.hooks;
    sequence_close(&s->sequence);
    runner_close(&s->runner);
    mem_free(&hooks, s);
}

void slm_session_cancel(slm_session *s) {
    atomic_store(&s->cancelled, true);
}

void slm_session_resume(slm_session *s) {
    atomic_store(&s->cancelled, false);
}

size_t slm_session_length(const slm_session *s) {
    return s->sequence.n;
}

uint32_t slm_session_context(const slm_session *s) {
    return s->runner.shape.context;
}

const int32_t *slm_session_ids(const slm_session *s) {
    return s->sequence.ids;
}

const float *slm_session_logits(const slm_session *s) {
    return sequence_pending(&s->sequence) == 0 ? s->sequence.logits : NULL;
}

void slm_session_expect(slm_session *s, size_t n) {
    s->sequence.expect = n;
}

/* ------------------------------------------------------------------ holding ids */

/* Makes q hold what it can of ids [n] without evaluating: its own beginning as far as they have it in
 * common (`same`), or what the cache has where that is not all it held. */
static void take_over(struct sequence *q, const int32_t *ids, size_t n, size_t same) {
    uint32_t held = kv_length(q->kv);
    bool cut = same < held, cached = q->runner->prefixes != NULL;
    q->note = (struct prefix_note){ 0 };
    if (cut)
        sequence_keep(q);
    if (cut && same + 1 < n && cached)
        sequence_rewind(q, 0);
    else
        sequence_rewind(q, (uint32_t)same);
    if (same > 0 && kv_length(q->kv) == 0)
        q->note = (struct prefix_note){ .common = (uint32_t)same, .miss = PREFIX_WINDOW_GONE };
    memmove(q->ids, ids, n * sizeof *ids);
    q->n = n;
    sequence_choose_rope(q, n);
    if (kv_length(q->kv) == 0)
        sequence_reuse(q);
}

slm_err session_sync(slm_session *s, const int32_t *ids, size_t n, size_t *reused,
                     prefill_fn on_prefill, void *user, slm_why *why) {
    struct sequence *q = &s->sequence;
    size_t same = 0, evaluated = kv_length(q->kv);
    if (n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "an empty sequence cannot be evaluated");
    if (n > s->runner.shape.context)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "the prompt has %zu tokens, the context holds %u; nothing was dropped", n,
                    s->runner.shape.context);
    TRY(sequence_check_ids(&s->runner, ids, n, why));
    while (same < n && same < evaluated && q->ids[same] == ids[same])
        same++;
    if (same == n && (evaluated > n || q->logits == NULL))
        same = n - 1; /* the logits of the last token are gone: evaluate it again */
    if (same < n) /* an image is read whole */
        same = image_start(s->runner.engine, ids, same);
    take_over(q, ids, n, same);
    if (reused != NULL)
        *reused = kv_length(q->kv);
    slm_err err = sequence_evaluate(q, on_prefill, user, why);
    if (err == SLM_OK) {
        sequence_keep_prompt(q);
    } else {
        q->n = kv_length(q->kv);
        sequence_keep(q);
    }
    return err;
}

slm_err slm_session_sync(slm_session *s, const int32_t *ids, size_t n, size_t *reused,
                         slm_why *why) {
    return session_sync(s, ids, n, reused, NULL, NULL, why);
}

/* Evaluates the last n ids in one pass, into the caller's logits and hidden where they are given. */
static slm_err run_tail(slm_session *s, uint32_t n, bool all_rows, float *logits, float *hidden,
                        slm_why *why) {
    struct sequence *q = &s->sequence;
    struct runner *r = &s->runner;
    struct forward_taps taps = { .final_norm = hidden };
    struct slice slice = { .kv = q->kv,
                           .n = n,
                           .long_rope = q->long_rope,
                           .rows = all_rows && logits != NULL ? LOGITS_ALL : LOGITS_LAST,
                           .soft = r->soft };
    if (r->soft != NULL)
        image_rows(r->engine, q->ids + kv_length(q->kv), n, kv_length(q->kv), r->soft);
    q->logits = NULL;
    TRY(forward_run(r->forward, &slice, 1, q->ids + kv_length(q->kv),
                    logits != NULL ? logits : r->logits, hidden != NULL ? &taps : NULL, why));
    size_t vocab = r->engine->facts.m.vocab, last = all_rows ? n - 1 : 0;
    if (logits != NULL)
        memcpy(r->logits, logits + last * vocab, vocab * sizeof *logits);
    q->logits = r->logits;
    return SLM_OK;
}

slm_err slm_session_append(slm_session *s, const int32_t *ids, size_t n, bool all_rows,
                           float *logits, float *hidden, slm_why *why) {
    struct sequence *q = &s->sequence;
    const struct runner_shape *shape = &s->runner.shape;
    size_t rows = logits == NULL ? 0 : all_rows ? n : 1;
    if (n == 0 || n > shape->chunk || rows > s->logit_rows)
        return fail(
            why, SLM_E_ARG, SLM_NO_OFFSET,
            "%zu tokens and %zu rows of logits at once, the session was opened for %u and %u", n,
            rows, shape->chunk, s->logit_rows);
    if (n > shape->context - q->n)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "%zu tokens and %zu more, the context holds %u; nothing was dropped", q->n, n,
                    shape->context);
    TRY(sequence_check_ids(&s->runner, ids, n, why));
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed))
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled before %zu tokens", n);
    size_t before = q->n;
    sequence_choose_rope(q, before + n);
    memcpy(q->ids + before, ids, n * sizeof *ids);
    q->n = before + n; /* so that what is pending before them needs no logits */
    slm_err err = sequence_evaluate_to(q, before, NULL, NULL, why);
    if (err == SLM_OK)
        err = run_tail(s, (uint32_t)n, all_rows, logits, hidden, why);
    if (err != SLM_OK)
        q->n = kv_length(q->kv);
    return err;
}

slm_err slm_session_truncate(slm_session *s, size_t n, slm_why *why) {
    struct sequence *q = &s->sequence;
    if (n >= q->n)
        return SLM_OK;
    if (sequence_whole(q, (uint32_t)n) != n)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "position %zu lies inside an image", n);
    if (n < kv_length(q->kv) && !kv_can_truncate(q->kv, (uint32_t)n))
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET,
                    "the sliding window has moved on: %zu positions cannot be brought back from %u",
                    n, kv_length(q->kv));
    sequence_rewind(q, (uint32_t)n);
    q->n = n;
    return SLM_OK;
}
