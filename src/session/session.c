/* session.c - one sequence: open, hold exactly these ids, append, forget.
 *
 * Invariant: ids[0..n) is the sequence; the first kv_length(kv) of them are evaluated, and logits
 * belong to the last evaluated one while has_logits is set. Ids beyond that are pending and are
 * evaluated by whoever needs their logits.
 *
 * Models with two sets of rope factors (longrope): a sequence longer than original_context uses the
 * long ones for all of its positions, as the official code does when it evaluates it in one go. So
 * when a growing sequence crosses the switch it is evaluated again from the start, and counted in
 * s->reevaluated. slm_session_expect avoids that when the final length is known. */
#include <string.h>

#include "session/engine.h"

static slm_err allocate(slm_session *s, const slm_session_options *o, slm_why *why) {
    const slm_engine *e = s->engine;
    const struct model *m = &e->facts.m;
    s->ids = mem_alloc(&s->hooks, s->context, sizeof *s->ids);
    s->logits = mem_alloc_aligned(&s->hooks, m->vocab, sizeof *s->logits);
    if (s->ids == NULL || s->logits == NULL)
        return fail_nomem(why, "session", (size_t)s->context * 4 + (size_t)m->vocab * 4);
    TRY(pool_new(&s->hooks, o->threads, &s->pool, why));
    TRY(kv_new(&s->hooks, m, s->kv_type, s->context, s->chunk, &s->kv, why));
    TRY(forward_new(&s->hooks, &e->net, e->rope, s->pool, s->chunk, s->logit_rows, s->context,
                    &s->forward, why));
    forward_stop_on(s->forward, &s->cancelled);
    return sampler_new(&s->hooks, m->vocab, e->allowed, &s->sampler, why);
}

slm_err slm_session_open(const slm_engine *e, const slm_session_options *options, slm_session **out,
                         slm_why *why) {
    slm_session_options o;
    *out = NULL;
    if (e->has_facts && !e->bound)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "the model was opened without its weights");
    TRY(session_settings(e, options, &o, why));
    slm_session *s = mem_zalloc(&e->hooks, 1, sizeof *s);
    if (s == NULL)
        return fail_nomem(why, "session", sizeof *s);
    s->engine = e;
    s->hooks = e->hooks;
    s->context = o.context;
    s->chunk = o.chunk;
    s->logit_rows = o.logit_rows;
    s->kv_type = kv_internal(o.kv);
    atomic_init(&s->cancelled, false);
    slm_err err = allocate(s, &o, why);
    if (err != SLM_OK) {
        slm_session_close(s);
        return err;
    }
    *out = s;
    return SLM_OK;
}

void slm_session_close(slm_session *s) {
    if (s == NULL)
        return;
    struct slm_hooks hooks = s->hooks;
    sampler_free(s->sampler);
    forward_free(s->forward);
    kv_free(s->kv);
    pool_free(s->pool);
    mem_free_aligned(&hooks, s->logits);
    mem_free(&hooks, s->ids);
    mem_free(&hooks, s);
}

void slm_session_cancel(slm_session *s) {
    atomic_store(&s->cancelled, true);
}

void slm_session_resume(slm_session *s) {
    atomic_store(&s->cancelled, false);
}

size_t slm_session_length(const slm_session *s) {
    return s->n;
}

uint32_t slm_session_context(const slm_session *s) {
    return s->context;
}

const int32_t *slm_session_ids(const slm_session *s) {
    return s->ids;
}

const float *slm_session_logits(const slm_session *s) {
    return s->has_logits && kv_length(s->kv) == s->n ? s->logits : NULL;
}

void slm_session_expect(slm_session *s, size_t n) {
    s->expect = n;
}

/* ------------------------------------------------------------------ evaluation */

/* Drops evaluated positions from n on; to 0 when a sliding window cannot go back that far. */
static void rewind_to(slm_session *s, uint32_t n) {
    if (kv_length(s->kv) > n) {
        if (!kv_truncate(s->kv, n))
            kv_truncate(s->kv, 0);
        s->has_logits = false;
    }
}

/* Chooses the rope factors for a sequence of `length` positions; starts over if they changed. */
static void choose_rope(slm_session *s, size_t length) {
    const struct model *m = &s->engine->facts.m;
    size_t planned = length > s->expect ? length : s->expect;
    bool wanted = m->rope.kind == ROPE_LONG && planned > m->rope.original_context;
    if (wanted == s->long_rope)
        return;
    s->reevaluated += kv_length(s->kv);
    rewind_to(s, 0);
    s->long_rope = wanted;
}

static slm_err run(slm_session *s, size_t n, enum logit_rows rows, float *logits,
                   const struct forward_taps *taps, slm_why *why) {
    struct slice slice = { .kv = s->kv, .n = (uint32_t)n, .long_rope = s->long_rope, .rows = rows };
    return forward_run(s->forward, &slice, 1, s->ids + kv_length(s->kv), logits, taps, why);
}

/* Evaluates up to position `end` in chunks; logits of the last one when it is the sequence's end. */
static slm_err evaluate_to(slm_session *s, size_t end, prefill_fn on_prefill, void *user,
                           slm_why *why) {
    size_t first = kv_length(s->kv);
    while (kv_length(s->kv) < end) {
        size_t done = kv_length(s->kv), n = end - done < s->chunk ? end - done : s->chunk;
        bool last = done + n == s->n;
        if (atomic_load_explicit(&s->cancelled, memory_order_relaxed) ||
            (on_prefill != NULL && !on_prefill(user, done - first, end - first)))
            return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled after %zu of %zu tokens",
                        done - first, end - first);
        s->has_logits = false;
        TRY(run(s, n, last ? LOGITS_LAST : LOGITS_NONE, last ? s->logits : NULL, NULL, why));
        s->has_logits = last;
    }
    if (on_prefill != NULL)
        on_prefill(user, end - first, end - first);
    return SLM_OK;
}

slm_err session_evaluate(slm_session *s, prefill_fn on_prefill, void *user, slm_why *why) {
    choose_rope(s, s->n);
    if (kv_length(s->kv) == s->n && !s->has_logits && s->n > 0)
        rewind_to(s, (uint32_t)s->n - 1);
    return evaluate_to(s, s->n, on_prefill, user, why);
}

static slm_err check_ids(const slm_session *s, const int32_t *ids, size_t n, slm_why *why) {
    uint32_t vocab = s->engine->facts.m.vocab;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "token %zu has id %d, the model has ids 0 to %u", i, ids[i], vocab - 1);
    return SLM_OK;
}

slm_err session_sync(slm_session *s, const int32_t *ids, size_t n, size_t *reused,
                     prefill_fn on_prefill, void *user, slm_why *why) {
    size_t same = 0, evaluated = kv_length(s->kv);
    if (n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "an empty sequence cannot be evaluated");
    if (n > s->context)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "the prompt has %zu tokens, the context holds %u; nothing was dropped", n,
                    s->context);
    TRY(check_ids(s, ids, n, why));
    while (same < n && same < evaluated && s->ids[same] == ids[same])
        same++;
    if (same == n && (evaluated > n || !s->has_logits))
        same = n - 1; /* the logits of the last token are gone: evaluate it again */
    rewind_to(s, (uint32_t)same);
    memmove(s->ids, ids, n * sizeof *ids);
    s->n = n;
    choose_rope(s, n);
    if (reused != NULL)
        *reused = kv_length(s->kv);
    slm_err err = session_evaluate(s, on_prefill, user, why);
    if (err != SLM_OK)
        s->n = kv_length(s->kv);
    return err;
}

slm_err slm_session_sync(slm_session *s, const int32_t *ids, size_t n, size_t *reused,
                         slm_why *why) {
    return session_sync(s, ids, n, reused, NULL, NULL, why);
}

slm_err slm_session_append(slm_session *s, const int32_t *ids, size_t n, bool all_rows,
                           float *logits, float *hidden, slm_why *why) {
    struct forward_taps taps = { .final_norm = hidden };
    size_t rows = logits == NULL ? 0 : all_rows ? n : 1;
    if (n == 0 || n > s->chunk || rows > s->logit_rows)
        return fail(
            why, SLM_E_ARG, SLM_NO_OFFSET,
            "%zu tokens and %zu rows of logits at once, the session was opened for %u and %u", n,
            rows, s->chunk, s->logit_rows);
    if (n > s->context - s->n)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "%zu tokens and %zu more, the context holds %u; nothing was dropped", s->n, n,
                    s->context);
    TRY(check_ids(s, ids, n, why));
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed))
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled before %zu tokens", n);
    size_t before = s->n;
    choose_rope(s, before + n);
    memcpy(s->ids + before, ids, n * sizeof *ids);
    slm_err err = evaluate_to(s, before, NULL, NULL, why);
    s->n = before + n;
    s->has_logits = false;
    if (err == SLM_OK)
        err = run(s, n, all_rows && rows > 0 ? LOGITS_ALL : LOGITS_LAST,
                  rows > 0 ? logits : s->logits, hidden ? &taps : NULL, why);
    if (err != SLM_OK) {
        s->n = kv_length(s->kv);
        return err;
    }
    if (rows > 0)
        memcpy(s->logits, logits + (rows - 1) * s->engine->facts.m.vocab,
               s->engine->facts.m.vocab * sizeof *logits);
    s->has_logits = true;
    return SLM_OK;
}

slm_err slm_session_truncate(slm_session *s, size_t n, slm_why *why) {
    if (n >= s->n)
        return SLM_OK;
    if (n < kv_length(s->kv) && !kv_can_truncate(s->kv, (uint32_t)n))
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET,
                    "the sliding window has moved on: %zu positions cannot be brought back from %u",
                    n, kv_length(s->kv));
    rewind_to(s, (uint32_t)n);
    s->n = n;
    return SLM_OK;
}
