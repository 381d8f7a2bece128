/* runner.c - one set of threads and scratch, and the passes of the sequences that share it.
 *
 * A pass takes rows of one or many sequences through the model together: the weights are read once
 * for all of them. A token's numbers do not depend on what is computed with it (forward.c), so
 * nothing here can change a result. Nothing is allocated after opening. */
#include "session/runner.h"

#include <string.h>

#include "base/pool.h"
#include "session/image.h"

/* Pages that the cache has for itself: cache_bytes in pages of both classes together, and for sliding
 * layers one more window for each sequence, so that the end of a prompt outlives its answer. */
static struct kv_pages spare_pages(const struct model *m, const slm_session_options *o,
                                   uint32_t places) {
    struct kv_pages spare = { { 0 } };
    uint64_t each = 0;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        each += kv_page_bytes(m, kv_internal(o->kv), (enum kv_class)c);
    uint64_t n = each > 0 ? o->cache_bytes / each : 0;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        if (kv_page_bytes(m, kv_internal(o->kv), (enum kv_class)c) > 0)
            spare.n[c] = n < UINT32_MAX / 2 ? (uint32_t)n : UINT32_MAX / 2;
    if (kv_page_bytes(m, kv_internal(o->kv), KV_SLIDING) > 0)
        spare.n[KV_SLIDING] += places * (m->window / KV_PAGE + 2);
    return spare;
}

struct runner_shape runner_shape_of(const struct model *m, const slm_session_options *o) {
    uint32_t places = o->batch ? o->sequences : 1, checked = 1 + o->guesses;
    uint32_t kept = places > checked ? places : checked;
    if (o->batch && o->logit_rows > kept)
        kept = o->logit_rows;
    bool cached = o->cache_bytes > 0 || o->prompt_cache != NULL;
    return (struct runner_shape){ .places = places,
                                  .context = o->context,
                                  /* an image is read whole, beside whoever writes */
                                  .rows = o->chunk + (o->batch && m->vision.image > 0 ? places : 0),
                                  .chunk = o->chunk < o->context ? o->chunk : o->context,
                                  .kept = kept,
                                  .asked = kept > o->logit_rows ? kept : o->logit_rows,
                                  .guesses = o->guesses,
                                  .draft = o->draft,
                                  .cached = cached,
                                  .spare = cached ? spare_pages(m, o, places)
                                                  : (struct kv_pages){ { 0 } },
                                  .folder = o->prompt_cache,
                                  .disk_bytes = o->disk_bytes,
                                  .kv = kv_internal(o->kv),
                                  .threads = o->threads };
}

/* Of the pool: for the sequences and to spare. */
static struct kv_pages all_pages(const struct model *m, const struct runner_shape *s) {
    struct kv_pages pages = kv_pages_for(m, s->context, s->chunk, s->places);
    for (unsigned c = 0; c < KV_CLASSES; c++)
        pages.n[c] =
            s->spare.n[c] < UINT32_MAX - pages.n[c] ? pages.n[c] + s->spare.n[c] : UINT32_MAX;
    return pages;
}

uint64_t runner_bytes(const struct model *m, const struct runner_shape *s) {
    uint64_t each = sampler_bytes(m->vocab) + (uint64_t)s->context * sizeof(int32_t) +
                    (s->guesses > 0 ? drafter_bytes(s->context) : 0);
    uint64_t soft = m->vision.image > 0 ? sizeof(struct soft_row) : 0;
    return (uint64_t)s->rows * (sizeof(int32_t) + soft + m->hidden * sizeof(float)) +
           (s->cached ? prefix_bytes(all_pages(m, s)) : 0) +
           s->places * (sizeof(struct slice) + sizeof(struct sequence *) + each);
}

static slm_err open_cache(struct runner *r, slm_why *why) {
    const slm_engine *e = r->engine;
    struct prefix_options o = { .folder = r->shape.folder,
                                .disk_bytes = r->shape.disk_bytes,
                                .isa = isa_name(kernels_isa(e->kernels)),
                                .exact = e->exact };
    if (o.folder != NULL)
        net_identity(e->tensors, &e->facts, o.identity);
    return prefix_new(&r->hooks, r->kv_pool, &o, &r->prefixes, why);
}

slm_err runner_open(struct runner *r, const slm_engine *e, const struct runner_shape *shape,
                    const atomic_bool *stop, slm_why *why) {
    const struct model *m = &e->facts.m;
    slm_err err = SLM_OK;
    *r = (struct runner){ .engine = e, .hooks = e->hooks, .shape = *shape, .stop = stop };
    r->logits = mem_alloc_aligned(&r->hooks, (size_t)shape->kept * m->vocab, sizeof *r->logits);
    r->states = mem_alloc_aligned(&r->hooks, (size_t)shape->rows * m->hidden, sizeof *r->states);
    r->ids = mem_alloc(&r->hooks, shape->rows, sizeof *r->ids);
    r->slices = mem_alloc(&r->hooks, shape->places, sizeof *r->slices);
    r->members = mem_alloc(&r->hooks, shape->places, sizeof *r->members);
    if (m->vision.image > 0)
        r->soft = mem_alloc(&r->hooks, shape->rows, sizeof *r->soft);
    if (r->logits == NULL || r->states == NULL || r->ids == NULL || r->slices == NULL ||
        r->members == NULL || (m->vision.image > 0 && r->soft == NULL))
        TRY_OUT(fail_nomem(why, "logits", (size_t)shape->kept * m->vocab * sizeof *r->logits));
    TRY_OUT(pool_new(&r->hooks, shape->threads, &r->pool, why));
    TRY_OUT(kv_pool_new(&r->hooks, m, shape->kv, all_pages(m, shape), &r->kv_pool, why));
    if (shape->cached)
        TRY_OUT(open_cache(r, why));
    TRY_OUT(forward_new(&r->hooks, &e->net, e->rope, r->pool, shape->rows, shape->asked,
                        shape->context, &r->forward, why));
    forward_stop_on(r->forward, stop);
    return SLM_OK;
out:
    runner_close(r);
    return err;
}

void runner_close(struct runner *r) {
    if (r->engine == NULL)
        return;
    forward_free(r->forward);
    prefix_free(r->prefixes);
    kv_pool_free(r->kv_pool);
    pool_free(r->pool);
    mem_free(&r->hooks, r->soft);
    mem_free(&r->hooks, r->members);
    mem_free(&r->hooks, r->slices);
    mem_free(&r->hooks, r->ids);
    mem_free_aligned(&r->hooks, r->states);
    mem_free_aligned(&r->hooks, r->logits);
    *r = (struct runner){ 0 };
}

void runner_begin(struct runner *r) {
    r->n_rows = r->n_slices = 0;
    r->tapped = false;
}

void runner_add(struct runner *r, struct sequence *q, uint32_t n, enum logit_rows rows) {
    memcpy(r->ids + r->n_rows, q->ids + kv_length(q->kv), n * sizeof *r->ids);
    memcpy(r->ids + r->n_rows + n, q->guess, q->n_guess * sizeof *r->ids);
    if (r->soft != NULL)
        image_rows(r->engine, r->ids + r->n_rows, n + q->n_guess, kv_length(q->kv),
                   r->soft + r->n_rows);
    r->slices[r->n_slices] = (struct slice){ .kv = q->kv,
                                             .n = n + q->n_guess,
                                             .long_rope = q->long_rope,
                                             .rows = rows,
                                             .soft = r->soft != NULL ? r->soft + r->n_rows : NULL };
    r->members[r->n_slices++] = q;
    r->tapped = r->tapped || q->wants_states;
    r->n_rows += n + q->n_guess;
}

slm_err runner_run(struct runner *r, slm_why *why) {
    const float *at = r->logits, *states = r->states;
    size_t vocab = r->engine->facts.m.vocab, hidden = r->engine->facts.m.hidden;
    struct forward_taps taps = { .final_norm = r->states };
    for (uint32_t i = 0; i < r->n_slices; i++)
        r->members[i]->logits = r->members[i]->rows = r->members[i]->states = NULL;
    uint64_t start = clock_ns();
    TRY(forward_run(r->forward, r->slices, r->n_slices, r->ids, r->logits, r->tapped ? &taps : NULL,
                    why));
    r->pass_ns = clock_ns() - start;
    for (uint32_t i = 0; i < r->n_slices; i++) {
        const struct slice *s = &r->slices[i];
        size_t n = s->rows == LOGITS_ALL ? s->n : s->rows == LOGITS_LAST;
        r->members[i]->states = r->members[i]->wants_states ? states : NULL;
        states += s->n * hidden;
        if (n == 0)
            continue;
        r->members[i]->rows = at;
        at += n * vocab;
        r->members[i]->logits = at - vocab;
    }
    return SLM_OK;
}
