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
 * All threads walk through the layers together in phases (base/pool.h); in a phase the work (rows, or
 * panels of 16 output rows) is taken in pieces. Every element is computed in one order, whatever the
 * batch, the chunks and the number of threads, so the bits are the same.
 *
 * A layer is four products (q k v; o; gate and up; down), each after some work on rows (adding a
 * result, norm, activations in the product's form). With many rows that work is a phase of its own.
 * With few it is cheaper for every thread to do it for itself than to wait for another to have done
 * it: five phases a layer instead of nine. The residual stream changes places at each step (x[0],
 * x[1]), so that nobody reads what another writes. Allocates nothing after forward_new. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#define PIECE_BYTES 65536 /* of a matrix: what a thread takes at once */

static float *row_of(float *base, size_t width, uint32_t row) {
    return base + row * width;
}

/* ------------------------------------------------------------------ a product and its rows */

/* Where a thread leaves what it made of a row. */
struct row_out {
    float *x;            /* [H] new residual stream, where the stage makes one */
    uint8_t *const *act; /* activations by form: rows as in the batch */
    bool owner;          /* this is the copy that others read */
};

/* Prepares a row of activations once in each form that one of the matrices wants. */
static void prepare(const struct forward *f, const float *x, const struct matrix *const ms[],
                    size_t n, uint32_t row, uint8_t *const *act) {
    bool done[ACT_COUNT] = { false };
    for (size_t i = 0; i < n; i++) {
        enum act a = ms[i]->act;
        if (!done[a])
            act_prepare(f->k, a, x, ms[i]->cols, act[a] + row * act_bytes(a, ms[i]->cols));
        done[a] = true;
    }
}

struct product {
    const struct matrix *m;
    float *y; /* [n][m->rows] */
};
struct stage {
    /* Work on a row before the product; x_to: where the new residual stream goes, or NULL. */
    void (*row)(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out);
    float *x_to;
    struct product products[3];
    size_t n_products;
    uint32_t rows; /* of activations that are multiplied */
    /* Work on output rows [from, to) of all products, of all rows, while they are near. May be NULL. */
    void (*after)(struct worker *w, uint32_t from, uint32_t to);
    bool paired; /* the products have the same shape and are taken together, panel by panel */
};

/* How many panels a thread takes at once: enough bytes to be worth taking, few enough that all
 * threads end together. */
static uint32_t pieces(const struct worker *w, const struct matrix *m, uint32_t panels) {
    size_t panel = m->layout == MATRIX_PANEL ? m->panel_bytes : m->row_bytes * PANEL_ROWS;
    size_t by_bytes = PIECE_BYTES / (panel + 1) / w->f->n_rows + 1,
           by_threads = panels / (w->count * 4) + 1, shared = matmul_panels(w->f->k);
    by_bytes = by_bytes < shared ? shared : by_bytes;
    return (uint32_t)(by_bytes < by_threads ? by_bytes : by_threads);
}

static void rows_for_all(struct worker *w, uint32_t layer, const struct stage *s) {
    struct forward *f = w->f;
    for (uint32_t row; worker_take_one(w, f->n_rows, &row);) {
        struct row_out out = { .act = f->act, .owner = true };
        out.x = s->x_to != NULL ? row_of(s->x_to, f->net->m->hidden, row) : NULL;
        s->row(w, layer, row, &out);
    }
    worker_sync(w, f->n_rows);
}

static void rows_for_me(struct worker *w, uint32_t layer, const struct stage *s, bool owner) {
    struct forward *f = w->f;
    for (uint32_t row = 0; row < f->n_rows; row++) {
        struct row_out out = { .x = w->s->x, .act = w->s->act, .owner = owner };
        if (owner && s->x_to != NULL)
            out.x = row_of(s->x_to, f->net->m->hidden, row);
        s->row(w, layer, row, &out);
    }
}

/* Panels [from, to) of the products laid one after another. */
static void multiply(struct worker *w, const struct stage *s, uint8_t *const *act, uint32_t from,
                     uint32_t to) {
    uint32_t base = 0;
    for (size_t i = 0; i < s->n_products; i++) {
        const struct product *p = &s->products[i];
        uint32_t panels = matrix_panels(p->m), first = from > base ? from - base : 0,
                 end = to > base ? to - base : 0;
        end = end < panels ? end : panels;
        if (first < end)
            matmul(w->f->k, p->m, act[p->m->act], s->rows, first, end - first, p->y, p->m->rows,
                   w->s->matmul);
        base += s->paired ? 0 : panels;
    }
    if (s->after != NULL) {
        uint32_t rows = s->products[0].m->rows, end = to * PANEL_ROWS;
        s->after(w, from * PANEL_ROWS, end < rows ? end : rows);
    }
}

static void stage_run(struct worker *w, uint32_t layer, const struct stage *s) {
    struct forward *f = w->f;
    uint32_t total = 0;
    bool mine = false;
    for (size_t i = 0; i < s->n_products; i++)
        total =
            s->paired ? matrix_panels(s->products[i].m) : total + matrix_panels(s->products[i].m);
    bool together = !f->few || s->rows == 0;
    if (together)
        rows_for_all(w, layer, s);
    if (s->rows == 0)
        return;
    struct range r;
    for (uint32_t step = pieces(w, s->products[0].m, total); worker_take(w, total, step, &r);) {
        if (!together && !mine)
            rows_for_me(w, layer, s, r.from == 0);
        mine = true;
        multiply(w, s, together ? f->act : w->s->act, r.from, r.to);
    }
    worker_sync(w, total);
}

/* ------------------------------------------------------------------ rows */

static void embed_row(struct worker *w, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    const struct row_place *p = &f->place[row];
    uint32_t pairs = net->m->rotary / 2;
    if (p->soft != NULL) {
        memcpy(out->x, p->soft, net->m->hidden * sizeof *out->x);
    } else {
        matrix_row(f->k, &net->embed, (uint32_t)f->ids[row], out->x);
        if (net->embed_scale != 1.0f)
            scale_row(f->k, out->x, net->embed_scale, net->m->hidden);
    }
    if (!out->owner)
        return;
    if (f->taps != NULL && f->taps->embed != NULL)
        memcpy(row_of(f->taps->embed, net->m->hidden, row), out->x, net->m->hidden * sizeof(float));
    rope_row(f->rope, 'F', f->slices[p->slice].long_rope, p->position,
             row_of(f->cosine[0], pairs, row), row_of(f->sine[0], pairs, row));
    if (net->m->window > 0)
        rope_row(f->rope, 's', false, p->position, row_of(f->cosine[1], pairs, row),
                 row_of(f->sine[1], pairs, row));
}

/* out = x + post(y) */
static void add_result(struct worker *w, uint32_t row, const float *x, const float *post,
                       float *out) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    size_t h = net->m->hidden;
    const float *y = row_of(f->y, h, row);
    if (post != NULL) {
        rmsnorm(f->k, y, post, net->norm_plus_one, net->m->eps, h, w->s->row);
        y = w->s->row;
    }
    memcpy(out, row_of((float *)x, h, row), h * sizeof *out);
    add_rows(f->k, out, y, h);
}

static void norm_row(struct worker *w, const float *x, const float *weight, float *out) {
    const struct net *net = w->f->net;
    rmsnorm(w->f->k, x, weight, net->norm_plus_one, net->m->eps, net->m->hidden, out);
}

static void tap_layer(const struct forward *f, uint32_t layer, uint32_t row, const float *x) {
    size_t h = f->net->m->hidden;
    if (f->taps != NULL && f->taps->layers != NULL)
        memcpy(f->taps->layers + ((size_t)layer * f->n_rows + row) * h, x, h * sizeof(float));
}

/* Begins a layer: the result of the layer before is added, the norm's output prepared. */
static void start_row(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct layer *l = &f->net->layers[layer];
    const struct matrix *const ms[] = { &l->q, &l->k, &l->v };
    if (layer == 0) {
        embed_row(w, row, out);
    } else {
        add_result(w, row, f->x[1], f->net->layers[layer - 1].post_ffn_norm, out->x);
        if (out->owner)
            tap_layer(f, layer - 1, row, out->x);
    }
    norm_row(w, out->x, l->attn_norm, w->s->row);
    prepare(f, w->s->row, ms, ARRAY_LEN(ms), row, out->act);
}

static void mix_row(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct matrix *const o[] = { &f->net->layers[layer].o };
    prepare(f, row_of(f->mix, (size_t)f->net->m->heads * f->net->m->head_dim, row), o, 1, row,
            out->act);
}

static void middle_row(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct layer *l = &f->net->layers[layer];
    const struct matrix *const in[] = { &l->gate, &l->up };
    add_result(w, row, f->x[0], l->post_attn_norm, out->x);
    norm_row(w, out->x, l->ffn_norm, w->s->row);
    prepare(f, w->s->row, in, ARRAY_LEN(in), row, out->act);
}

static void down_row(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct matrix *const down[] = { &f->net->layers[layer].down };
    prepare(f, row_of(f->gate, f->net->m->ffn, row), down, 1, row, out->act);
}

static void check_finite(struct forward *f, const float *x, size_t n) {
    bool finite;
    argmax(f->k, x, n, &finite);
    if (!finite)
        f->broken = true;
}

/* After the last layer. A broken number stays in the residual stream, so looking at it here finds it
 * for rows without logits too. */
static void last_row(struct worker *w, uint32_t layer, uint32_t row, const struct row_out *out) {
    struct forward *f = w->f;
    const struct net *net = f->net;
    const struct matrix *const ms[] = { &net->output };
    bool tapped = out->owner && f->taps != NULL && f->taps->final_norm != NULL;
    add_result(w, row, f->x[1], net->layers[layer].post_ffn_norm, out->x);
    if (out->owner) {
        tap_layer(f, layer, row, out->x);
        check_finite(f, out->x, net->m->hidden);
    }
    if (!tapped && f->place[row].logit < 0)
        return;
    norm_row(w, out->x, net->final_norm, w->s->row);
    if (tapped)
        memcpy(row_of(f->taps->final_norm, net->m->hidden, row), w->s->row,
               net->m->hidden * sizeof(float));
    if (f->place[row].logit >= 0)
        prepare(f, w->s->row, ms, 1, (uint32_t)f->place[row].logit, out->act);
}

/* ------------------------------------------------------------------ a layer */

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
void forward_place(const struct forward *f, uint32_t layer, uint32_t row, uint32_t kv_head) {
    const struct model *m = f->net->m;
    const struct layer *l = &f->net->layers[layer];
    size_t d = m->head_dim;
    const struct row_place *p = &f->place[row];
    const struct kv *kv = f->slices[p->slice].kv;
    const struct kv_layer *cache = &kv->layers[layer];
    float *key = row_of(f->k_new, m->kv_heads * d, row) + kv_head * d;
    for (uint32_t g = 0; g < f->group; g++)
        place_head(f, l, row_of(f->q, m->heads * d, row) + (kv_head * f->group + g) * d, l->q_norm,
                   row);
    place_head(f, l, key, l->k_norm, row);
    kv_store(f->k, kv->type, key, d, kv_key(kv, cache, kv_head, p->position));
    kv_store(f->k, kv->type, row_of(f->v_new, m->kv_heads * d, row) + kv_head * d, d,
             kv_value(kv, cache, kv_head, p->position));
}

static void activate(struct worker *w, uint32_t from, uint32_t to) {
    struct forward *f = w->f;
    size_t width = f->net->m->ffn;
    bool gelu = f->net->m->family->activation == ACTIVATION_GELU_TANH;
    for (uint32_t row = 0; row < f->n_rows; row++) {
        float *gate = row_of(f->gate, width, row) + from;
        (gelu ? gelu_mul : silu_mul)(f->k, gate, row_of(f->up, width, row) + from, to - from, gate);
    }
}

/* Whoever does the first rows of `down` looks whether the run is to stop. */
static void ask_stop(struct worker *w, uint32_t from, uint32_t to) {
    struct forward *f = w->f;
    (void)to;
    if (from == 0 && f->stop != NULL && atomic_load_explicit(f->stop, memory_order_relaxed))
        f->stopped = true;
}

static void layer_run(struct worker *w, uint32_t i) {
    struct forward *f = w->f;
    const struct layer *l = &f->net->layers[i];
    uint32_t n = f->n_rows;
    struct stage qkv = {
        start_row, f->x[0], { { &l->q, f->q }, { &l->k, f->k_new }, { &l->v, f->v_new } }, 3, n,
        NULL,      false
    };
    struct stage o = { mix_row, NULL, { { &l->o, f->y } }, 1, n, NULL, false };
    struct stage in = { middle_row, f->x[1], { { &l->gate, f->gate }, { &l->up, f->up } }, 2, n,
                        activate,   true };
    struct stage down = { down_row, NULL, { { &l->down, f->y } }, 1, n, ask_stop, false };
    stage_run(w, i, &qkv);
    attend(w, i);
    stage_run(w, i, &o);
    stage_run(w, i, &in);
    stage_run(w, i, &down);
}

/* Logits are looked at while they are near. */
static void check_logits(struct worker *w, uint32_t from, uint32_t to) {
    struct forward *f = w->f;
    for (uint32_t row = 0; row < f->n_logits; row++)
        check_finite(f, row_of(f->logits, f->net->m->vocab, row) + from, to - from);
}

static void walk(void *arg, unsigned index, unsigned count) {
    struct forward *f = arg;
    struct worker w = { .f = f, .s = &f->scratch[index], .index = index, .count = count };
    uint32_t layers = f->net->m->layers;
    for (uint32_t i = 0; i < layers; i++) {
        layer_run(&w, i);
        if (f->stopped)
            return;
    }
    struct stage last = { last_row,     f->x[0], { { &f->net->output, f->logits } }, 1, f->n_logits,
                          check_logits, false };
    stage_run(&w, layers - 1, &last);
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
    for (uint32_t j = 0; j < s->n && s->soft != NULL; j++)
        if (s->soft[j].until > kv->length + s->n)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "row %u of slice %zu sees %u positions, there are %u", j, i,
                        s->soft[j].until, kv->length + s->n);
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
                       slm_why *why) {
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
            bool wanted = s->rows == LOGITS_ALL || (s->rows == LOGITS_LAST && j + 1 == s->n);
            uint32_t position = s->kv->length + j;
            const struct soft_row *soft = s->soft != NULL ? &s->soft[j] : NULL;
            f->place[row] = (struct row_place){ .slice = (uint32_t)i,
                                                .position = position,
                                                .until = position + 1,
                                                .logit = wanted ? (int32_t)logits++ : -1,
                                                .soft = soft != NULL ? soft->x : NULL };
            if (soft != NULL && soft->until > position)
                f->place[row].until = soft->until;
        }
    }
    if (logits > f->max_logit_rows)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%u rows of logits, at most %u", logits,
                    f->max_logit_rows);
    f->slice_row[n_slices] = row;
    f->slice_unit[n_slices] = units;
    f->n_rows = row;
    f->few = row <= FEW_ROWS;
    f->n_slices = (uint32_t)n_slices;
    f->n_logits = logits;
    return SLM_OK;
}

static slm_err check_ids(const struct forward *f, const int32_t *ids, slm_why *why) {
    for (uint32_t i = 0; i < f->n_rows; i++)
        if (f->place[i].soft == NULL && (ids[i] < 0 || (uint32_t)ids[i] >= f->net->m->vocab))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "id %d at place %u lies outside the vocabulary of %u", ids[i], i,
                        f->net->m->vocab);
    return SLM_OK;
}

/* Pages of their own for the new rows. A sequence whose turn came before another's failure keeps its
 * pages for the next run. */
static slm_err reserve(const struct forward *f, slm_why *why) {
    for (uint32_t i = 0; i < f->n_slices; i++)
        TRY(kv_reserve(f->slices[i].kv, f->slices[i].n, why));
    return SLM_OK;
}

/* The sequences grow only when the run came to its end and every number was finite. What was written
 * beyond their length is not read by anyone. */
static void grow(struct forward *f) {
    for (uint32_t i = 0; i < f->n_slices && !f->broken && !f->stopped; i++) {
        f->slices[i].kv->length += f->slices[i].n;
        f->slices[i].kv->long_rope = (int8_t)f->slices[i].long_rope;
    }
}

slm_err forward_run(struct forward *f, const struct slice *slices, size_t n_slices,
                    const int32_t *ids, float *logits, const struct forward_taps *taps,
                    slm_why *why) {
    if (n_slices == 0 || n_slices > f->max_rows)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%zu slices, expected 1 to %u", n_slices,
                    f->max_rows);
    TRY(lay_out(f, slices, n_slices, why));
    TRY(check_ids(f, ids, why));
    TRY(reserve(f, why));
    f->ids = ids;
    f->logits = logits;
    f->taps = taps;
    f->broken = f->stopped = false;
    memset(f->phases, 0, forward_phases(f->net->m) * sizeof *f->phases);
    pool_share(f->pool, walk, f);
    grow(f);
    if (f->stopped)
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled among %u tokens", f->n_rows);
    if (f->broken)
        return fail(why, SLM_E_NUMERIC, SLM_NO_OFFSET,
                    "the computation gave a number that is not finite");
    return SLM_OK;
}
