/* sequence.c - ids, how far they are evaluated, and going on and back in them.
 *
 * With a prefix cache, what a sequence has evaluated is kept when a prompt ends, when an answer ends,
 * and before anything of it is forgotten, so that the cache has all that the sequence ever had.
 *
 * Models with two sets of rope factors (longrope): a sequence longer than original_context uses the
 * long ones for all of its positions, as the official code does when it evaluates it in one go. So
 * when a growing sequence crosses the switch it is evaluated again from the start, and counted in
 * q->reevaluated. slm_session_expect avoids that when the final length is known. */
#include <stdio.h>

#include "session/image.h"
#include "session/runner.h"

slm_err sequence_open(struct sequence *q, struct runner *r, slm_why *why) {
    const slm_engine *e = r->engine;
    slm_err err = SLM_OK;
    *q = (struct sequence){ .runner = r };
    q->ids = mem_alloc(&r->hooks, r->shape.context, sizeof *q->ids);
    if (q->ids == NULL)
        TRY_OUT(fail_nomem(why, "the ids of a sequence", (size_t)r->shape.context * 4));
    TRY_OUT(kv_new(r->kv_pool, r->shape.context, r->shape.chunk, &q->kv, why));
    if (r->shape.guesses > 0) {
        struct draft_options o = { .lookup = true,
                                   .model = r->shape.draft,
                                   .max = r->shape.guesses,
                                   .vocab = e->facts.m.vocab,
                                   .context = r->shape.context };
        TRY_OUT(drafter_new(&r->hooks, &o, &q->drafter, why));
    }
    TRY_OUT(sampler_new(&r->hooks, e->facts.m.vocab, e->allowed, &q->sampler, why));
    return SLM_OK;
out:
    sequence_close(q);
    return err;
}

void sequence_close(struct sequence *q) {
    if (q->runner == NULL)
        return;
    sampler_free(q->sampler);
    drafter_free(q->drafter);
    kv_free(q->kv);
    mem_free(&q->runner->hooks, q->ids);
    *q = (struct sequence){ 0 };
}

void sequence_clear(struct sequence *q) {
    kv_truncate(q->kv, 0);
    q->n = q->expect = q->reevaluated = 0;
    q->n_guess = q->pages_kept = 0;
    q->salt = 0;
    q->note = (struct prefix_note){ 0 };
    q->logits = q->rows = q->states = NULL;
    q->wants_states = false;
}

void sequence_rewind(struct sequence *q, uint32_t n) {
    if (kv_length(q->kv) > n) {
        if (!kv_truncate(q->kv, n))
            kv_truncate(q->kv, 0);
        q->logits = NULL;
    }
    if (q->pages_kept > kv_length(q->kv) / KV_PAGE)
        q->pages_kept = kv_length(q->kv) / KV_PAGE;
}

void sequence_choose_rope(struct sequence *q, size_t length) {
    const struct model *m = &q->runner->engine->facts.m;
    size_t planned = length > q->expect ? length : q->expect;
    bool wanted = m->rope.kind == ROPE_LONG && planned > m->rope.original_context;
    if (wanted == q->long_rope)
        return;
    q->reevaluated += kv_length(q->kv);
    sequence_rewind(q, 0);
    q->long_rope = wanted;
}

uint32_t sequence_whole(const struct sequence *q, uint32_t end) {
    return end < q->n ? (uint32_t)image_start(q->runner->engine, q->ids, end) : end;
}

/* ------------------------------------------------------------------ the prefix cache */

void sequence_reuse(struct sequence *q) {
    struct prefix_cache *c = q->runner->prefixes;
    if (c == NULL || q->n <= 1)
        return;
    prefix_salt(c, q->salt);
    prefix_fetch(c, q->ids, (uint32_t)q->n - 1, q->long_rope, q->kv, &q->note);
    sequence_rewind(q, sequence_whole(q, kv_length(q->kv)));
    q->note.reused = kv_length(q->kv);
}

void sequence_keep(const struct sequence *q) {
    struct prefix_cache *c = q->runner->prefixes;
    if (c == NULL || kv_length(q->kv) == 0)
        return;
    prefix_salt(c, q->salt);
    prefix_keep(c, q->ids, q->kv);
}

void sequence_keep_pages(struct sequence *q) {
    uint32_t pages = kv_length(q->kv) / KV_PAGE;
    if (q->runner->prefixes != NULL && pages > q->pages_kept) {
        prefix_salt(q->runner->prefixes, q->salt);
        prefix_keep_full_pages(q->runner->prefixes, q->ids, q->kv);
    }
    q->pages_kept = pages;
}

void sequence_save(const struct sequence *q) {
    const struct slm_hooks *h = &q->runner->hooks;
    char line[sizeof((slm_why *)NULL)->message + 64];
    slm_why why;
    for (size_t i = 0; i < q->n; i++) /* ids of images mean nothing after a restart */
        if (image_is_id(q->runner->engine, q->ids[i]))
            return;
    if (q->runner->shape.folder == NULL)
        return;
    prefix_salt(q->runner->prefixes, q->salt);
    if (prefix_save(q->runner->prefixes, q->ids, q->kv, &why) == SLM_OK || h->log == NULL)
        return;
    snprintf(line, sizeof line, "the prompt cache was not written: %s", why.message);
    h->log(h->user, SLM_LOG_WARN, line);
}

void sequence_keep_prompt(const struct sequence *q) {
    sequence_keep(q);
    if (q->runner->engine->facts.m.window > 0)
        sequence_save(q);
}

/* ------------------------------------------------------------------ evaluation */

slm_err sequence_check_ids(const struct runner *r, const int32_t *ids, size_t n, slm_why *why) {
    const slm_engine *e = r->engine;
    uint32_t vocab = e->facts.m.vocab, tokens = 0;
    slm_image_side(e, &tokens);
    for (size_t i = 0; i < n; i++) {
        uint32_t index = 0;
        if (ids[i] >= 0 && (uint32_t)ids[i] < vocab)
            continue;
        if (!image_is_id(e, ids[i]))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "token %zu has id %d, the model has ids 0 to %u", i, ids[i], vocab - 1);
        if (image_row(e, ids[i], &index) == NULL)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "token %zu has id %d, of an image that is not open", i, ids[i]);
        bool follows = i > 0 && ids[i] == ids[i - 1] + 1, last = index + 1 == tokens;
        if ((index > 0 && !follows) || (!last && (i + 1 == n || ids[i + 1] != ids[i] + 1)))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "token %zu is row %u of an image whose %u rows do not all stand there", i,
                        index, tokens);
    }
    return SLM_OK;
}

slm_err sequence_evaluate_to(struct sequence *q, size_t end, prefill_fn on_prefill, void *user,
                             slm_why *why) {
    struct runner *r = q->runner;
    size_t first = kv_length(q->kv);
    while (kv_length(q->kv) < end) {
        size_t done = kv_length(q->kv), left = end - done;
        uint32_t n = left < r->shape.chunk ? (uint32_t)left : r->shape.chunk;
        n = sequence_whole(q, (uint32_t)done + n) - (uint32_t)done;
        if (n == 0)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "an image does not fit a chunk of %u tokens: it is read whole",
                        r->shape.chunk);
        if (atomic_load_explicit(r->stop, memory_order_relaxed) ||
            (on_prefill != NULL && !on_prefill(user, done - first, end - first)))
            return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled after %zu of %zu tokens",
                        done - first, end - first);
        runner_begin(r);
        runner_add(r, q, n, done + n == q->n ? LOGITS_LAST : LOGITS_NONE);
        TRY(runner_run(r, why));
        if (kv_length(q->kv) < end)
            sequence_keep_pages(q);
    }
    if (on_prefill != NULL)
        on_prefill(user, end - first, end - first);
    return SLM_OK;
}

slm_err sequence_evaluate(struct sequence *q, prefill_fn on_prefill, void *user, slm_why *why) {
    sequence_choose_rope(q, q->n);
    if (sequence_pending(q) == 0 && q->logits == NULL && q->n > 0)
        sequence_rewind(q, sequence_whole(q, (uint32_t)q->n - 1));
    return sequence_evaluate_to(q, q->n, on_prefill, user, why);
}
