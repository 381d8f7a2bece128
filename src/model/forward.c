/* forward.c - hidden states and logits of one batch through all layers.
 *
 * In:  ids and the slices (sequences) that they continue, weights, caches.   Out: logits [rows, V].
 *   x = embedding row (times sqrt(H) in some families)
 *   x += post(attn(norm(x)));  x += post(down(act(gate(norm(x))) * up(norm(x))))      each layer
 *   logits = output(norm(x))                                   post: sandwich families only
 * Source: the models' reference implementations; goldens in tests/golden/<model>/.
 *
 * The residual stream is float32 (its values exceed float16's range in some models), and so is
 * everything between two matrices. The embedding scale is sqrt(H) rounded to float32, as the official
 * code has it in float32.
 *
 * All threads walk through the layers together: one pool_run, a barrier after each phase, and in a
 * phase the work (rows, or panels of 16 output rows) is taken from a ticket. Every element is computed
 * by one thread in one order, whatever the batch, the chunks and the number of threads, so the bits
 * are the same. Between layers one thread looks whether the run is to stop, and all see its answer
 * behind the same barrier. Reads top to bottom: sizes, embed, attention, ffn, head, run. Allocates
 * nothing after forward_new. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

/* start of layer, q k v, rope and store, attention (ATTEND_PHASES), its activations, o, its result
 * and the ffn's norm, gate and up, activations, down */
#define LAYER_PHASES (9 + ATTEND_PHASES)
#define EXTRA_PHASES 4    /* last result and final norm, output matrix, check of rows, one spare */
#define PIECE_BYTES 65536 /* of a matrix: what a thread takes at once */
#define CHECK_PIECE 16384 /* logits checked at once */

/* ------------------------------------------------------------------ sizes */

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
    f->x = carve(&c, r * m->hidden, sizeof(float));
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
    f->tickets = carve(&c, (size_t)m->layers * LAYER_PHASES + EXTRA_PHASES, sizeof *f->tickets);
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

/* ------------------------------------------------------------------ rows and matrices */

static float *row_of(float *base, size_t width, uint32_t row) {
    return base + row * width;
}

/* Prepares a row of activations once in each form that one of the matrices wants. */
static void prepare(struct forward *f, const float *x, const struct matrix *const ms[], size_t n,
                    uint32_t row) {
    bool done[ACT_COUNT] = { false };
    for (size_t i = 0; i < n; i++) {
        enum act a = ms[i]->act;
        if (!done[a])
            act_prepare(f->k, a, x, ms[i]->cols, f->act[a] + row * act_bytes(a, ms[i]->cols));
        done[a] = true;
    }
}

/* How many panels a thread takes at once: enough bytes to be worth a ticket, few enough that all
 * threads end together. */
static uint32_t pieces(const struct worker *w, const struct matrix *m, uint32_t panels) {
    size_t panel = m->layout == MATRIX_PANEL ? m->panel_bytes : m->row_bytes * PANEL_ROWS;
    size_t by_bytes = PIECE_BYTES / (panel + 1) / w->f->n_rows + 1,
           by_threads = panels / (w->count * 4) + 1;
    return (uint32_t)(by_bytes < by_threads ? by_bytes : by_threads);
}

struct product {
    const struct matrix *m;
    float *y; /* [n][m->rows] */
};

/* All products read activations that are already prepared; their panels are one list of work. */
static void multiply(struct worker *w, const struct product *list, size_t n, uint32_t rows) {
    struct forward *f = w->f;
    uint32_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += matrix_panels(list[i].m);
    uint32_t step = pieces(w, list[0].m, total);
    for (uint32_t at; (at = ticket_take(worker_ticket(w), step)) < total;) {
        uint32_t end = total - at < step ? total : at + step, base = 0;
        for (size_t i = 0; i < n; i++) {
            uint32_t panels = matrix_panels(list[i].m);
            uint32_t from = at > base ? at - base : 0,
                     to = end - base < panels ? end - base : panels;
            if (end > base && from < to)
                matmul(f->k, list[i].m, f->act[list[i].m->act], rows, from, to - from, list[i].y,
                       list[i].m->rows, w->s->matmul);
            base += panels;
        }
    }
}

/* ------------------------------------------------------------------ embedding */

static void embed_row(struct worker *w, uint32_t row) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    const struct row_place *p = &f->place[row];
    uint32_t pairs = net->m->rotary / 2;
    float *x = row_of(f->x, net->m->hidden, row);
    matrix_row(f->k, &net->embed, (uint32_t)f->ids[row], x);
    if (net->embed_scale != 1.0f)
        scale_row(f->k, x, net->embed_scale, net->m->hidden);
    if (f->taps != NULL && f->taps->embed != NULL)
        memcpy(row_of(f->taps->embed, net->m->hidden, row), x, net->m->hidden * sizeof *x);
    rope_row(f->rope, 'F', f->slices[p->slice].long_rope, p->position,
             row_of(f->cosine[0], pairs, row), row_of(f->sine[0], pairs, row));
    if (net->m->window > 0)
        rope_row(f->rope, 's', false, p->position, row_of(f->cosine[1], pairs, row),
                 row_of(f->sine[1], pairs, row));
}

/* x += post(y) */
static void add_result(struct worker *w, uint32_t row, const float *post) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    size_t h = net->m->hidden;
    float *y = row_of(f->y, h, row);
    if (post != NULL)
        rmsnorm(f->k, y, post, net->norm_plus_one, net->m->eps, h, y);
    add_rows(f->k, row_of(f->x, h, row), y, h);
}

static void norm_row(struct worker *w, uint32_t row, const float *weight, float *out) {
    const struct net *net = w->f->net;
    rmsnorm(w->f->k, row_of(w->f->x, net->m->hidden, row), weight, net->norm_plus_one, net->m->eps,
            net->m->hidden, out);
}

static void tap_layer(const struct forward *f, uint32_t layer, uint32_t row) {
    size_t h = f->net->m->hidden;
    if (f->taps != NULL && f->taps->layers != NULL)
        memcpy(f->taps->layers + ((size_t)layer * f->n_rows + row) * h, f->x + row * h,
               h * sizeof(float));
}

/* ------------------------------------------------------------------ attention */

/* Begins layer i: the result of the layer before is added, the norm's output prepared. */
static void start_layer(struct worker *w, uint32_t i) {
    struct forward *f = w->f;
    const struct layer *l = &f->net->layers[i];
    const struct matrix *const ms[] = { &l->q, &l->k, &l->v };
    for (uint32_t row; (row = ticket_take(worker_ticket(w), 1)) < f->n_rows;) {
        if (i == 0) {
            embed_row(w, row);
        } else {
            add_result(w, row, f->net->layers[i - 1].post_ffn_norm);
            tap_layer(f, i - 1, row);
        }
        norm_row(w, row, l->attn_norm, w->s->row);
        prepare(f, w->s->row, ms, ARRAY_LEN(ms), row);
    }
    worker_sync(w);
}

static void place_head(const struct forward *f, const struct layer *l, float *x, const float *norm,
                       uint32_t row) {
    const struct model *m = f->net->m;
    uint32_t table = l->kind == 's', pairs = m->rotary / 2;
    if (norm != NULL)
        rmsnorm(f->k, x, norm, f->net->norm_plus_one, m->eps, m->head_dim, x);
    if (l->kind != 'N')
        rope_apply(f->k, x, row_of(f->cosine[table], pairs, row),
                   row_of(f->sine[table], pairs, row), pairs, f->net->interleaved_rope);
}

/* Norm and rope of the queries and the key of one kv head; key and value go into the cache. */
static void place_group(const struct forward *f, const struct layer *l, uint32_t layer,
                        uint32_t row, uint32_t kv_head) {
    const struct model *m = f->net->m;
    size_t d = m->head_dim;
    const struct row_place *p = &f->place[row];
    const struct kv *kv = f->slices[p->slice].kv;
    const struct kv_layer *cache = &kv->layers[layer];
    float *key = row_of(f->k_new, m->kv_heads * d, row) + kv_head * d;
    for (uint32_t g = 0; g < f->group; g++)
        place_head(f, l, row_of(f->q, m->heads * d, row) + (kv_head * f->group + g) * d, l->q_norm,
                   row);
    place_head(f, l, key, l->k_norm, row);
    kv_store(f->k, kv->type, key, d, kv_row(kv, cache->keys, cache, kv_head, p->position));
    kv_store(f->k, kv->type, row_of(f->v_new, m->kv_heads * d, row) + kv_head * d, d,
             kv_row(kv, cache->values, cache, kv_head, p->position));
}

static void attention(struct worker *w, uint32_t i) {
    struct forward *f = w->f;
    const struct model *m = f->net->m;
    const struct layer *l = &f->net->layers[i];
    const struct matrix *const o[] = { &l->o };
    const struct product qkv[] = { { &l->q, f->q }, { &l->k, f->k_new }, { &l->v, f->v_new } };
    multiply(w, qkv, ARRAY_LEN(qkv), f->n_rows);
    worker_sync(w);
    for (uint32_t u; (u = ticket_take(worker_ticket(w), 1)) < f->n_rows * m->kv_heads;)
        place_group(f, l, i, u / m->kv_heads, u % m->kv_heads);
    worker_sync(w);
    attend(w, i);
    for (uint32_t row; (row = ticket_take(worker_ticket(w), 1)) < f->n_rows;)
        prepare(f, row_of(f->mix, (size_t)m->heads * m->head_dim, row), o, 1, row);
    worker_sync(w);
    multiply(w, &(struct product){ &l->o, f->y }, 1, f->n_rows);
    worker_sync(w);
}

/* ------------------------------------------------------------------ feed-forward */

/* gate and up of the same 16 rows, and the activation while they are near. */
static void gate_and_up(struct worker *w, const struct layer *l) {
    struct forward *f = w->f;
    size_t width = f->net->m->ffn;
    bool gelu = f->net->m->family->activation == ACTIVATION_GELU_TANH;
    uint32_t panels = matrix_panels(&l->gate), step = pieces(w, &l->gate, panels);
    for (uint32_t at; (at = ticket_take(worker_ticket(w), step)) < panels;) {
        uint32_t n = panels - at < step ? panels - at : step;
        size_t first = (size_t)at * PANEL_ROWS, end = first + (size_t)n * PANEL_ROWS;
        end = end < width ? end : width;
        matmul(f->k, &l->gate, f->act[l->gate.act], f->n_rows, at, n, f->gate, width, w->s->matmul);
        matmul(f->k, &l->up, f->act[l->up.act], f->n_rows, at, n, f->up, width, w->s->matmul);
        for (uint32_t row = 0; row < f->n_rows; row++) {
            float *gate = row_of(f->gate, width, row) + first;
            (gelu ? gelu_mul : silu_mul)(f->k, gate, row_of(f->up, width, row) + first, end - first,
                                         gate);
        }
    }
}

static void feed_forward(struct worker *w, uint32_t i) {
    struct forward *f = w->f;
    const struct layer *l = &f->net->layers[i];
    const struct matrix *const in[] = { &l->gate, &l->up }, *const down[] = { &l->down };
    for (uint32_t row; (row = ticket_take(worker_ticket(w), 1)) < f->n_rows;) {
        add_result(w, row, l->post_attn_norm);
        norm_row(w, row, l->ffn_norm, w->s->row);
        prepare(f, w->s->row, in, ARRAY_LEN(in), row);
    }
    worker_sync(w);
    gate_and_up(w, l);
    worker_sync(w);
    for (uint32_t row; (row = ticket_take(worker_ticket(w), 1)) < f->n_rows;)
        prepare(f, row_of(f->gate, f->net->m->ffn, row), down, 1, row);
    worker_sync(w);
    multiply(w, &(struct product){ &l->down, f->y }, 1, f->n_rows);
    if (w->index == 0 && f->stop != NULL && atomic_load_explicit(f->stop, memory_order_relaxed))
        f->stopped = true; /* the others read it after the barrier */
    worker_sync(w);
}

/* ------------------------------------------------------------------ head */

static void check_finite(struct forward *f, const float *x, size_t n) {
    bool finite;
    argmax(f->k, x, n, &finite);
    if (!finite)
        f->broken = true;
}

/* A broken number stays in the residual stream, so looking at it here finds it for rows without
 * logits too. */
static void finish_rows(struct worker *w) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    const struct matrix *const out[] = { &net->output };
    uint32_t last = net->m->layers - 1;
    for (uint32_t row; (row = ticket_take(worker_ticket(w), 1)) < f->n_rows;) {
        add_result(w, row, net->layers[last].post_ffn_norm);
        tap_layer(f, last, row);
        check_finite(f, row_of(f->x, net->m->hidden, row), net->m->hidden);
        bool tapped = f->taps != NULL && f->taps->final_norm != NULL;
        if (!tapped && f->place[row].logit < 0)
            continue;
        norm_row(w, row, net->final_norm, w->s->row);
        if (tapped)
            memcpy(row_of(f->taps->final_norm, net->m->hidden, row), w->s->row,
                   net->m->hidden * sizeof(float));
        if (f->place[row].logit >= 0)
            prepare(f, w->s->row, out, 1, (uint32_t)f->place[row].logit);
    }
    worker_sync(w);
}

static void make_logits(struct worker *w) {
    struct forward *f = w->f;
    size_t v = f->net->m->vocab, parts = (v + CHECK_PIECE - 1) / CHECK_PIECE;
    multiply(w, &(struct product){ &f->net->output, f->logits }, 1, f->n_logits);
    worker_sync(w);
    for (uint32_t u; (u = ticket_take(worker_ticket(w), 1)) < f->n_logits * parts;) {
        size_t first = u % parts * CHECK_PIECE,
               n = v - first < CHECK_PIECE ? v - first : CHECK_PIECE;
        check_finite(f, f->logits + u / parts * v + first, n);
    }
}

static void walk(void *arg, unsigned index, unsigned count) {
    struct forward *f = arg;
    struct worker w = { .f = f, .s = &f->scratch[index], .index = index, .count = count };
    for (uint32_t i = 0; i < f->net->m->layers; i++) {
        start_layer(&w, i);
        attention(&w, i);
        feed_forward(&w, i);
        if (f->stopped)
            return;
    }
    finish_rows(&w);
    if (f->n_logits > 0)
        make_logits(&w);
}

/* ------------------------------------------------------------------ run */

static slm_err check_slice(const struct forward *f, const struct slice *slices, size_t i,
                           slm_why *why) {
    const struct slice *s = &slices[i];
    const struct kv *kv = s->kv;
    for (size_t j = 0; j < i; j++)
        if (slices[j].kv == kv)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "slices %zu and %zu continue the same sequence", j, i);
    if (kv->m != f->net->m)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "slice %zu is a sequence of another model", i);
    if (s->n == 0 || s->n > kv->chunk)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "slice %zu has %u rows, expected 1 to %u", i,
                    s->n, kv->chunk);
    if (s->n > kv->context - kv->length)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "%u more positions after %u exceed the context of %u", s->n, kv->length,
                    kv->context);
    if (kv->context > f->context)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a sequence of %u positions, scratch for %u",
                    kv->context, f->context);
    if (s->long_rope && f->net->m->rope.kind != ROPE_LONG)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%s has no long rope factors", f->net->m->name);
    if (kv->long_rope >= 0 && kv->long_rope != (int8_t)s->long_rope)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET,
                    "the sequence's %u positions were turned with the %s rope factors", kv->length,
                    s->long_rope ? "short" : "long");
    return SLM_OK;
}

/* Places of all rows, and the rows whose logits are wanted. */
static slm_err lay_out(struct forward *f, const struct slice *slices, size_t n_slices,
                       enum logit_rows rows, slm_why *why) {
    uint32_t row = 0, units = 0, logits = 0;
    for (size_t i = 0; i < n_slices; i++) {
        const struct slice *s = &slices[i];
        TRY(check_slice(f, slices, i, why));
        if (s->n > f->max_rows - row)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "more than %u rows in one batch",
                        f->max_rows);
        f->slices[i] = *s;
        f->slice_row[i] = row;
        f->slice_unit[i] = units;
        units += (s->n + f->tile_tokens - 1) / f->tile_tokens * f->net->m->kv_heads;
        for (uint32_t j = 0; j < s->n; j++, row++) {
            bool wanted = rows == LOGITS_ALL || (rows == LOGITS_LAST && j + 1 == s->n);
            f->place[row] = (struct row_place){ .slice = (uint32_t)i,
                                                .position = s->kv->length + j,
                                                .logit = wanted ? (int32_t)logits++ : -1 };
        }
    }
    if (logits > f->max_logit_rows)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%u rows of logits, at most %u", logits,
                    f->max_logit_rows);
    f->slice_row[n_slices] = row;
    f->slice_unit[n_slices] = units;
    f->n_rows = row;
    f->n_slices = (uint32_t)n_slices;
    f->n_logits = logits;
    return SLM_OK;
}

static slm_err check_ids(const struct forward *f, const int32_t *ids, slm_why *why) {
    for (uint32_t i = 0; i < f->n_rows; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= f->net->m->vocab)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "id %d at place %u lies outside the vocabulary of %u", ids[i], i,
                        f->net->m->vocab);
    return SLM_OK;
}

/* The sequences grow only when the run came to its end and every number was finite. What was written beyond their length is not
 * read by anyone; rings keep all that position `length` needs. */
static void grow(struct forward *f) {
    for (uint32_t i = 0; i < f->n_slices; i++) {
        struct kv *kv = f->slices[i].kv;
        uint32_t end = kv->length + f->slices[i].n;
        kv->high = kv->high > end ? kv->high : end;
        if (f->broken || f->stopped)
            continue;
        kv->length = end;
        kv->long_rope = (int8_t)f->slices[i].long_rope;
    }
}

slm_err forward_run(struct forward *f, const struct slice *slices, size_t n_slices,
                    const int32_t *ids, enum logit_rows rows, float *logits,
                    const struct forward_taps *taps, slm_why *why) {
    if (n_slices == 0 || n_slices > f->max_rows)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%zu slices, expected 1 to %u", n_slices,
                    f->max_rows);
    TRY(lay_out(f, slices, n_slices, rows, why));
    TRY(check_ids(f, ids, why));
    f->ids = ids;
    f->logits = logits;
    f->taps = taps;
    f->broken = f->stopped = false;
    memset(f->tickets, 0,
           ((size_t)f->net->m->layers * LAYER_PHASES + EXTRA_PHASES) * sizeof *f->tickets);
    pool_run(f->pool, walk, f);
    grow(f);
    if (f->stopped)
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled among %u tokens", f->n_rows);
    if (f->broken)
        return fail(why, SLM_E_NUMERIC, SLM_NO_OFFSET,
                    "the computation gave a number that is not finite");
    return SLM_OK;
}
