/* plan.c - bytes of everything, known before anything is touched.
 *
 * The weights are bound as for running, without being read (but for a separate output matrix of a
 * model that is not tied, which is compared with the embedding), and the sizes come from the functions
 * that the allocations use. */
#include "model/weights.h"

static bool add_all(uint64_t *total, const uint64_t *parts, size_t n) {
    *total = 0;
    for (size_t i = 0; i < n; i++)
        if (!add_u64_ok(*total, parts[i], total))
            return false;
    return true;
}

/* A pool for the sequences of each set of scratch, and their tables. */
static bool kv_plan(const struct model *m, const struct plan_request *r, uint32_t runners,
                    uint64_t *out) {
    uint32_t each = r->sequences / runners + (r->sequences % runners > 0);
    struct kv_pages pages = kv_pages_for(m, r->context, r->chunk, each);
    uint64_t tables;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        pages.n[c] =
            r->spare.n[c] < UINT32_MAX - pages.n[c] ? pages.n[c] + r->spare.n[c] : UINT32_MAX;
    return mul_u64_ok(kv_pool_bytes(m, r->kv, pages), runners, out) &&
           mul_u64_ok(kv_bytes(m, r->context), r->sequences, &tables) &&
           add_u64_ok(*out, tables, out);
}

static slm_err count(const struct net *net, const struct plan_request *r, struct plan *p,
                     slm_why *why) {
    const struct model *m = net->m;
    uint64_t logits = (uint64_t)r->logit_rows * m->vocab * sizeof(float);
    uint64_t scratch = forward_bytes(net, r->chunk, r->logit_rows, r->context, r->threads);
    uint32_t runners = r->runners > 0 ? r->runners : r->sequences;
    uint64_t all = 0;
    p->weights_file = net->mapped_bytes;
    p->weights_packed = net->packed_bytes;
    p->vocabulary = r->vocabulary_bytes;
    if (!kv_plan(m, r, runners, &p->kv) || !add_u64_ok(scratch, logits, &scratch) ||
        !add_u64_ok(scratch, r->session_bytes, &scratch) ||
        !mul_u64_ok(scratch, runners, &p->scratch) ||
        !add_all(&all,
                 (const uint64_t[]){ p->weights_file, p->weights_packed, p->kv, p->scratch,
                                     p->vocabulary },
                 5))
        return fail(why, SLM_E_MEMORY, SLM_NO_OFFSET,
                    "a context of %u positions for %u sequences is too many bytes", r->context,
                    r->sequences);
    p->total = all;
    return SLM_OK;
}

static slm_err check_request(const struct plan_request *r, slm_why *why) {
    if (r->context == 0 || r->sequences == 0 || r->chunk == 0 || r->threads == 0 ||
        r->threads > POOL_MAX || r->logit_rows > r->chunk)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "a plan for %u positions, %u sequences, chunks of %u, %u threads (at most %d)",
                    r->context, r->sequences, r->chunk, r->threads, POOL_MAX);
    return SLM_OK;
}

slm_err plan_net(const struct net *net, const struct plan_request *r, struct plan *out,
                 slm_why *why) {
    struct plan p = { 0 };
    TRY(check_request(r, why));
    TRY(count(net, r, &p, why));
    *out = p;
    return SLM_OK;
}

slm_err plan_make(const struct facts *f, const struct tensors *t, const struct kernels *k,
                  const struct plan_request *r, struct plan *out, slm_why *why) {
    struct net net = { .kernels = k, .exact = r->exact };
    struct bindings b;
    const struct slm_hooks *h = t != NULL ? t->hooks : f->arena.hooks;
    TRY(check_request(r, why));
    slm_err err = weights_bind(&net, &b, h, t, f, true, why);
    if (err == SLM_OK)
        err = weights_arrange(&net, &b, why);
    if (err == SLM_OK)
        err = plan_net(&net, r, out, why);
    net_free(&net);
    return err;
}
