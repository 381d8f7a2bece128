/* forward_scratch.c - the memory of a forward pass: every buffer sized once, in one block.
 *
 * forward_bytes counts by the same walk that gives the buffers their places, so a plan cannot differ
 * from what is allocated. */
#include "model/forward.h"

#include <string.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Hands out aligned pieces of one block; with base NULL it only counts. */
struct carver {
    uint8_t *base;
    size_t used;
    bool overflow;
};

static void *carve(struct carver *c, size_t n, size_t size) {
    size_t bytes, at = c->used;
    if (!mul_ok(n, size, &bytes) || !add_ok(bytes, MEM_ALIGN - 1, &bytes) ||
        !add_ok(at, bytes / MEM_ALIGN * MEM_ALIGN, &c->used)) {
        c->overflow = true;
        return NULL;
    }
    return c->base != NULL ? c->base + at : NULL;
}

/* Calls visit for every matrix that multiplies. */
static void each_matrix(const struct net *net,
                        void (*visit)(struct forward *f, const struct matrix *m),
                        struct forward *f) {
    for (uint32_t i = 0; i < net->m->layers; i++) {
        const struct layer *l = &net->layers[i];
        const struct matrix *const all[] = {
            &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down
        };
        for (size_t j = 0; j < ARRAY_LEN(all); j++)
            visit(f, all[j]);
    }
    visit(f, &net->output);
}

static void note_activation(struct forward *f, const struct matrix *m) {
    f->needs[m->act] = true;
    f->act_row[m->act] = larger(f->act_row[m->act], act_bytes(m->act, m->cols));
}

static size_t matmul_bytes(const struct net *net, uint32_t rows) {
    size_t most = matmul_scratch(&net->output, rows);
    for (uint32_t i = 0; i < net->m->layers; i++) {
        const struct layer *l = &net->layers[i];
        const struct matrix *const all[] = {
            &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down
        };
        for (size_t j = 0; j < ARRAY_LEN(all); j++)
            most = larger(most, matmul_scratch(all[j], rows));
    }
    return most;
}

static void carve_scratch(struct carver *c, const struct forward *f, struct thread_scratch *s) {
    const struct model *m = f->net->m;
    size_t d = m->head_dim, q = (size_t)m->heads * d;
    s->matmul = carve(c, matmul_bytes(f->net, f->max_rows), 1);
    s->row = carve(c, larger(larger(m->hidden, q), m->ffn), sizeof(float));
    s->x = carve(c, m->hidden, sizeof(float));
    for (unsigned a = 0; a < ACT_COUNT; a++)
        s->act[a] = f->needs[a] ? carve(c, FEW_ROWS, f->act_row[a]) : NULL;
    s->queries = carve(c, f->tile * d, sizeof(float));
    s->scores = carve(c, (size_t)f->tile * SPAN, sizeof(float));
    s->mixed = carve(c, f->tile * d, sizeof(float));
    s->total = carve(c, f->tile * d, sizeof(float));
    s->span_max = carve(c, f->tile, sizeof(float));
    s->span_sum = carve(c, f->tile, sizeof(float));
    s->run_max = carve(c, f->tile, sizeof(float));
    s->run_sum = carve(c, f->tile, sizeof(float));
}

/* Gives every buffer its place in the block (base NULL: counts). Returns the bytes of the block. */
static size_t arrange(struct forward *f, uint8_t *base, bool *overflow) {
    struct carver c = { .base = base };
    const struct model *m = f->net->m;
    size_t r = f->max_rows, d = m->head_dim, q = m->heads * d, k = m->kv_heads * d,
           pairs = m->rotary / 2;
    for (unsigned i = 0; i < 2; i++)
        f->x[i] = carve(&c, r * m->hidden, sizeof(float));
    f->y = carve(&c, r * m->hidden, sizeof(float));
    size_t shared = c.used; /* attention's rows and the ffn's are never alive together */
    f->q = carve(&c, r * q, sizeof(float));
    f->k_new = carve(&c, r * k, sizeof(float));
    f->v_new = carve(&c, r * k, sizeof(float));
    f->mix = carve(&c, r * q, sizeof(float));
    size_t end = c.used;
    c.used = shared;
    f->gate = carve(&c, r * m->ffn, sizeof(float));
    f->up = carve(&c, r * m->ffn, sizeof(float));
    c.used = larger(c.used, end);
    for (unsigned a = 0; a < ACT_COUNT; a++)
        f->act[a] = f->needs[a] ? carve(&c, r, f->act_row[a]) : NULL;
    for (unsigned i = 0; i < 2; i++) {
        f->cosine[i] = carve(&c, r * pairs, sizeof(float));
        f->sine[i] = carve(&c, r * pairs, sizeof(float));
    }
    f->place = carve(&c, r, sizeof *f->place);
    f->slices = carve(&c, r, sizeof *f->slices);
    f->slice_row = carve(&c, r + 1, sizeof *f->slice_row);
    f->slice_unit = carve(&c, r + 1, sizeof *f->slice_unit);
    f->partial = carve(&c, ((size_t)f->context + SPAN - 1) / SPAN * m->heads * (d + 2),
                       f->threads > 1 ? sizeof(float) : 0);
    f->phases = carve(&c, forward_phases(m), sizeof *f->phases);
    f->scratch = carve(&c, f->threads, sizeof *f->scratch);
    for (unsigned t = 0; t < f->threads; t++) {
        struct thread_scratch counted;
        carve_scratch(&c, f, base != NULL ? &f->scratch[t] : &counted);
    }
    *overflow = c.overflow;
    return c.used;
}

static void describe(struct forward *f, const struct net *net, uint32_t max_rows,
                     uint32_t max_logit_rows, uint32_t context, unsigned threads) {
    const struct model *m = net->m;
    *f = (struct forward){ .net = net,
                           .k = net->kernels,
                           .max_rows = max_rows,
                           .max_logit_rows = max_logit_rows,
                           .context = context,
                           .threads = threads };
    f->group = m->heads / m->kv_heads;
    f->tile_tokens = f->group < TILE_QUERIES ? TILE_QUERIES / f->group : 1;
    if (f->tile_tokens > max_rows)
        f->tile_tokens = max_rows;
    f->tile = f->tile_tokens * f->group;
    each_matrix(net, note_activation, f);
}

uint64_t forward_bytes(const struct net *net, uint32_t max_rows, uint32_t max_logit_rows,
                       uint32_t context, unsigned threads) {
    struct forward f;
    bool overflow;
    describe(&f, net, max_rows, max_logit_rows, context, threads);
    size_t block = arrange(&f, NULL, &overflow);
    return overflow ? UINT64_MAX : (uint64_t)block + sizeof f;
}

slm_err forward_new(const struct slm_hooks *h, const struct net *net, const struct rope *rope,
                    struct pool *pool, uint32_t max_rows, uint32_t max_logit_rows, uint32_t context,
                    struct forward **out, slm_why *why) {
    bool overflow;
    *out = NULL;
    if (max_rows == 0 || context == 0 || max_logit_rows > max_rows)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "%u rows with %u rows of logits in a context of %u", max_rows, max_logit_rows,
                    context);
    struct forward *f = mem_alloc(h, 1, sizeof *f);
    if (f == NULL)
        return fail_nomem(why, "scratch", sizeof *f);
    describe(f, net, max_rows, max_logit_rows, context, pool_size(pool));
    hooks_init(&f->hooks, h);
    f->rope = rope;
    f->pool = pool;
    size_t bytes = arrange(f, NULL, &overflow);
    f->block = overflow ? NULL : mem_alloc_aligned(h, bytes, 1);
    if (f->block == NULL) {
        forward_free(f);
        return fail_nomem(why, "scratch", bytes);
    }
    arrange(f, f->block, &overflow);
    *out = f;
    return SLM_OK;
}

void forward_free(struct forward *f) {
    if (f == NULL)
        return;
    struct slm_hooks h = f->hooks;
    mem_free_aligned(&h, f->block);
    mem_free(&h, f);
}

void forward_stop_on(struct forward *f, const atomic_bool *stop) {
    f->stop = stop;
}
