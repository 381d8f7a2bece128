/* runner.c - one set of threads and scratch, and the passes of the sequences that share it.
 *
 * A pass takes rows of one or many sequences through the model together: the weights are read once
 * for all of them. A token's numbers do not depend on what is computed with it (forward.c), so
 * nothing here can change a result. Nothing is allocated after opening. */
#include "session/runner.h"

#include <string.h>

struct runner_shape runner_shape_of(const slm_session_options *o) {
    uint32_t places = o->batch ? o->sequences : 1;
    return (struct runner_shape){ .places = places,
                                  .context = o->context,
                                  .rows = o->chunk,
                                  .chunk = o->chunk < o->context ? o->chunk : o->context,
                                  .kept = places,
                                  .asked = places > o->logit_rows ? places : o->logit_rows,
                                  .kv = kv_internal(o->kv),
                                  .threads = o->threads };
}

uint64_t runner_bytes(const struct model *m, const struct runner_shape *s) {
    uint64_t each = sampler_bytes(m->vocab) + (uint64_t)s->context * sizeof(int32_t);
    return (uint64_t)s->rows * sizeof(int32_t) +
           s->places * (sizeof(struct slice) + sizeof(struct sequence *) + each);
}

slm_err runner_open(struct runner *r, const slm_engine *e, const struct runner_shape *shape,
                    const atomic_bool *stop, slm_why *why) {
    const struct model *m = &e->facts.m;
    slm_err err = SLM_OK;
    *r = (struct runner){ .engine = e, .hooks = e->hooks, .shape = *shape, .stop = stop };
    r->logits = mem_alloc_aligned(&r->hooks, (size_t)shape->kept * m->vocab, sizeof *r->logits);
    r->ids = mem_alloc(&r->hooks, shape->rows, sizeof *r->ids);
    r->slices = mem_alloc(&r->hooks, shape->places, sizeof *r->slices);
    r->members = mem_alloc(&r->hooks, shape->places, sizeof *r->members);
    if (r->logits == NULL || r->ids == NULL || r->slices == NULL || r->members == NULL)
        TRY_OUT(fail_nomem(why, "logits", (size_t)shape->kept * m->vocab * sizeof *r->logits));
    TRY_OUT(pool_new(&r->hooks, shape->threads, &r->pool, why));
    TRY_OUT(kv_pool_new(&r->hooks, m, shape->kv,
                        kv_pages_for(m, shape->context, shape->chunk, shape->places), &r->kv_pool,
                        why));
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
    kv_pool_free(r->kv_pool);
    pool_free(r->pool);
    mem_free(&r->hooks, r->members);
    mem_free(&r->hooks, r->slices);
    mem_free(&r->hooks, r->ids);
    mem_free_aligned(&r->hooks, r->logits);
    *r = (struct runner){ 0 };
}

void runner_begin(struct runner *r) {
    r->n_rows = r->n_slices = 0;
}

void runner_add(struct runner *r, struct sequence *q, uint32_t n, enum logit_rows rows) {
    memcpy(r->ids + r->n_rows, q->ids + kv_length(q->kv), n * sizeof *r->ids);
    r->slices[r->n_slices] =
        (struct slice){ .kv = q->kv, .n = n, .long_rope = q->long_rope, .rows = rows };
    r->members[r->n_slices++] = q;
    r->n_rows += n;
}

slm_err runner_run(struct runner *r, slm_why *why) {
    const float *at = r->logits;
    size_t vocab = r->engine->facts.m.vocab;
    for (uint32_t i = 0; i < r->n_slices; i++)
        r->members[i]->logits = r->members[i]->rows = NULL;
    TRY(forward_run(r->forward, r->slices, r->n_slices, r->ids, r->logits, NULL, why));
    for (uint32_t i = 0; i < r->n_slices; i++) {
        const struct slice *s = &r->slices[i];
        size_t n = s->rows == LOGITS_ALL ? s->n : s->rows == LOGITS_LAST;
        if (n == 0)
            continue;
        r->members[i]->rows = at;
        at += n * vocab;
        r->members[i]->logits = at - vocab;
    }
    return SLM_OK;
}
