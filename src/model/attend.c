/* attend.c - attention of one layer over the cached keys and values.
 *
 * out[query] = softmax(scale * q.k + mask) v over the keys that the query's position may see: key <=
 * position, and on sliding layers key > position - window. Rows of an image see all of it: key < until.
 *
 * Keys are taken in spans of SPAN positions that start at multiples of SPAN in the sequence. A span
 * gives each query a maximum, a sum and a mix of values, and a query's spans are merged in ascending
 * order (FlashAttention, arXiv 2205.14135). So what a query gets depends on its position alone, not on
 * which other queries shared the pass: a key that it may not see counts as -infinity, whose weight is
 * exactly 0, and a span without visible keys is left out.
 *
 * Work is cut into (slice, tile of tokens, kv head): the queries of a tile share the loads of keys and
 * values. A decoding step has few of those, so its spans are handed out one by one, and merged after. */
#include "model/forward.h"

#include <math.h>
#include <string.h>

/* A rectangle of work: queries of tokens [first, first + n) of a slice, heads of one kv head. */
struct tile {
    const struct kv *kv;
    const struct kv_layer *l;
    uint32_t kv_head;
    uint32_t row;      /* in the batch, of the first token */
    uint32_t position; /* of the first token */
    uint32_t n_tokens, n_queries;
    uint32_t end; /* of the positions that some token of it sees */
};

static uint32_t first_visible(const struct tile *t, uint32_t position) {
    return t->l->window > 0 && position + 1 > t->l->window ? position + 1 - t->l->window : 0;
}

/* ------------------------------------------------------------------ one span */

/* End of the positions from `at` on that lie one after another: those of a page, before `to`. */
static uint32_t run_end(uint32_t at, uint32_t to) {
    uint32_t end = (at / KV_PAGE + 1) * KV_PAGE;
    return end < to ? end : to;
}

/* Columns that a query of this place may not see; [from, to) are scored, the rest up to `padded`
 * never existed. */
static void mask_row(const struct tile *t, float *scores, uint32_t start, uint32_t from,
                     uint32_t to, uint32_t padded, const struct row_place *place) {
    uint32_t low = first_visible(t, place->position), high = place->until;
    uint32_t first = low > from ? low : from, end = high < to ? high : to;
    if (end < first)
        end = first = from;
    for (uint32_t j = start; j < first; j++)
        scores[j - start] = -INFINITY;
    for (uint32_t j = end; j < start + padded; j++)
        scores[j - start] = -INFINITY;
}

/* Scores, weights and mixed values of all queries of the tile over the span at `start`:
 * s->span_max, s->span_sum, s->mixed. next: the keys that this thread reads after it, if known. */
static void span_results(const struct worker *w, const struct tile *t, uint32_t start,
                         const uint8_t *next) {
    const struct forward *f = w->f;
    const struct thread_scratch *s = w->s;
    const struct model *m = f->net->m;
    size_t d = m->head_dim;
    uint32_t low = first_visible(t, t->position);
    uint32_t from = low > start ? low & ~1u : start, /* attn_mix wants an even one */
        to = t->end < start + SPAN ? t->end : start + SPAN;
    uint32_t padded = (to - start + 15) / 16 * 16;
    float scale = model_attn_scale(m);
    for (uint32_t at = from, end; at < to; at = end) {
        end = run_end(at, to);
        attn_scores(f->k, t->kv->type, s->queries, t->n_queries, d,
                    kv_key(t->kv, t->l, t->kv_head, at), end - at, scale, s->scores + (at - start),
                    SPAN,
                    end < to ? kv_key(t->kv, t->l, t->kv_head, end)
                             : kv_value(t->kv, t->l, t->kv_head, from));
    }
    for (uint32_t i = 0; i < t->n_queries; i++) {
        mask_row(t, s->scores + (size_t)i * SPAN, start, from, to, padded,
                 &f->place[t->row + i / f->group]);
        attn_softmax(f->k, s->scores + (size_t)i * SPAN, padded, &s->span_max[i], &s->span_sum[i]);
    }
    memset(s->mixed, 0, t->n_queries * d * sizeof *s->mixed);
    for (uint32_t at = from, end; at < to; at = end) {
        end = run_end(at, to);
        attn_mix(f->k, t->kv->type, s->scores + (at - start), t->n_queries, SPAN, d,
                 kv_value(t->kv, t->l, t->kv_head, at), end - at, s->mixed,
                 end < to ? kv_value(t->kv, t->l, t->kv_head, end) : next);
    }
}

/* The queries of a token's heads lie together in q; those of the next token one row further. */
static void gather_queries(const struct worker *w, const struct tile *t) {
    const struct forward *f = w->f;
    size_t width = (size_t)f->group * f->net->m->head_dim,
           q = (size_t)f->net->m->heads * f->net->m->head_dim;
    for (uint32_t i = 0; i < t->n_tokens; i++)
        memcpy(w->s->queries + i * width, f->q + (t->row + i) * q + t->kv_head * width,
               width * sizeof(float));
}

/* ------------------------------------------------------------------ a tile over all its spans */

static void finish_query(const struct forward *f, float *acc, float sum, uint32_t row,
                         uint32_t head) {
    size_t d = f->net->m->head_dim;
    scale_row(f->k, acc, 1.0f / sum, d);
    memcpy(f->mix + ((size_t)row * f->net->m->heads + head) * d, acc, d * sizeof *acc);
}

static void attend_tile(const struct worker *w, const struct tile *t) {
    const struct forward *f = w->f;
    const struct thread_scratch *s = w->s;
    size_t d = f->net->m->head_dim;
    uint32_t last = t->end - 1;
    gather_queries(w, t);
    for (uint32_t i = 0; i < t->n_queries; i++) {
        s->run_max[i] = -INFINITY;
        s->run_sum[i] = 0.0f;
    }
    for (uint32_t start = first_visible(t, t->position) / SPAN * SPAN; start <= last;
         start += SPAN) {
        span_results(w, t, start,
                     start + SPAN <= last ? kv_key(t->kv, t->l, t->kv_head, start + SPAN) : NULL);
        for (uint32_t i = 0; i < t->n_queries; i++)
            if (s->span_sum[i] > 0.0f || isnan(s->span_sum[i]) || isnan(s->span_max[i]))
                attn_merge(f->k, &s->run_max[i], &s->run_sum[i], s->total + i * d, s->span_max[i],
                           s->span_sum[i], s->mixed + i * d, d);
    }
    for (uint32_t i = 0; i < t->n_queries; i++)
        finish_query(f, s->total + i * d, s->run_sum[i], t->row + i / f->group,
                     t->kv_head * f->group + i % f->group);
}

/* ------------------------------------------------------------------ work lists */

static uint32_t slice_of(const uint32_t *first, uint32_t n_slices, uint32_t unit) {
    uint32_t low = 0, high = n_slices;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (first[middle] <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Tile number `unit` of a slice; later tokens, which see more keys, come first. */
static struct tile tile_at(const struct forward *f, uint32_t layer, uint32_t slice, uint32_t unit) {
    const struct slice *s = &f->slices[slice];
    const struct model *m = f->net->m;
    uint32_t tiles = (s->n + f->tile_tokens - 1) / f->tile_tokens;
    uint32_t first = (tiles - 1 - unit / m->kv_heads) * f->tile_tokens;
    struct tile t = { .kv = s->kv, .l = &s->kv->layers[layer], .kv_head = unit % m->kv_heads };
    t.n_tokens = s->n - first < f->tile_tokens ? s->n - first : f->tile_tokens;
    t.n_queries = t.n_tokens * f->group;
    t.row = f->slice_row[slice] + first;
    t.position = f->place[t.row].position;
    for (uint32_t i = 0; i < t.n_tokens; i++) {
        uint32_t until = f->place[t.row + i].until;
        t.end = until > t.end ? until : t.end;
    }
    return t;
}

/* Whether every slice is one token: then a tile is all there is of its kv head, and whoever attends
 * places first. */
static bool one_row_each(const struct forward *f) {
    return f->n_rows == f->n_slices;
}

static void place_all(struct worker *w, uint32_t layer) {
    struct forward *f = w->f;
    uint32_t heads = f->net->m->kv_heads, n = f->n_rows * heads;
    for (uint32_t u; worker_take_one(w, n, &u);)
        forward_place(f, layer, u / heads, u % heads);
    worker_sync(w, n);
}

static void attend_tiles(struct worker *w, uint32_t layer) {
    struct forward *f = w->f;
    uint32_t n = f->slice_unit[f->n_slices];
    bool single = one_row_each(f);
    if (!single)
        place_all(w, layer);
    for (uint32_t u; worker_take_one(w, n, &u);) {
        uint32_t slice = slice_of(f->slice_unit, f->n_slices, u);
        struct tile t = tile_at(f, layer, slice, u - f->slice_unit[slice]);
        if (single)
            forward_place(f, layer, t.row, t.kv_head);
        attend_tile(w, &t);
    }
    worker_sync(w, n);
}

/* ------------------------------------------------------------------ decoding: a span at a time */

static uint32_t spans_of(const struct tile *t) {
    return t->position / SPAN - first_visible(t, t->position) / SPAN + 1;
}

/* Results of a query's span: head_dim mixed values, maximum, sum. */
static float *partial_at(const struct forward *f, uint32_t base, uint32_t span, uint32_t head) {
    const struct model *m = f->net->m;
    return f->partial + ((size_t)(base + span) * m->heads + head) * (m->head_dim + 2);
}

/* Whether every slice is one token, there is too little work for all threads otherwise, and the
 * results of all spans fit. All threads come to the same answer. */
static bool by_spans(const struct forward *f, uint32_t layer, uint32_t *n_spans) {
    *n_spans = 0;
    if (!one_row_each(f) || f->slice_unit[f->n_slices] >= 2 * f->threads || f->threads == 1)
        return false;
    for (uint32_t i = 0; i < f->n_slices; i++) {
        struct tile t = tile_at(f, layer, i, 0);
        *n_spans += spans_of(&t);
    }
    return *n_spans > f->n_slices && *n_spans <= (f->context + SPAN - 1) / SPAN;
}

static void attend_spans(struct worker *w, uint32_t layer, uint32_t n_spans) {
    struct forward *f = w->f;
    const struct model *m = f->net->m;
    size_t d = m->head_dim;
    uint32_t n = n_spans * m->kv_heads;
    place_all(w, layer);
    for (uint32_t u; worker_take_one(w, n, &u);) {
        uint32_t base = 0, span = u / m->kv_heads, slice = 0;
        struct tile t = tile_at(f, layer, 0, u % m->kv_heads);
        while (span - base >= spans_of(&t)) {
            base += spans_of(&t);
            t = tile_at(f, layer, ++slice, u % m->kv_heads);
        }
        gather_queries(w, &t);
        uint32_t start = (first_visible(&t, t.position) / SPAN + span - base) * SPAN;
        uint32_t later = start + f->threads * SPAN; /* this head's span that is likely to be next */
        span_results(w, &t, start,
                     m->kv_heads == 1 && later <= t.position ? kv_key(t.kv, t.l, 0, later) : NULL);
        for (uint32_t i = 0; i < f->group; i++) {
            float *p = partial_at(f, 0, span, t.kv_head * f->group + i);
            memcpy(p, w->s->mixed + i * d, d * sizeof *p);
            p[d] = w->s->span_max[i];
            p[d + 1] = w->s->span_sum[i];
        }
    }
    worker_sync(w, n);
}

static void merge_spans(struct worker *w, uint32_t layer) {
    struct forward *f = w->f;
    const struct model *m = f->net->m;
    size_t d = m->head_dim;
    uint32_t n = f->n_slices * m->heads;
    for (uint32_t u; worker_take_one(w, n, &u);) {
        uint32_t base = 0, slice = u / m->heads, head = u % m->heads;
        for (uint32_t i = 0; i < slice; i++) {
            struct tile before = tile_at(f, layer, i, 0);
            base += spans_of(&before);
        }
        struct tile t = tile_at(f, layer, slice, 0);
        float max = -INFINITY, sum = 0.0f;
        for (uint32_t span = 0; span < spans_of(&t); span++) {
            const float *p = partial_at(f, base, span, head);
            attn_merge(f->k, &max, &sum, w->s->total, p[d], p[d + 1], p, d);
        }
        finish_query(f, w->s->total, sum, t.row, head);
    }
    worker_sync(w, n);
}

void attend(struct worker *w, uint32_t layer) {
    uint32_t n_spans;
    if (by_spans(w->f, layer, &n_spans)) {
        attend_spans(w, layer, n_spans);
        merge_spans(w, layer);
    } else {
        attend_tiles(w, layer);
    }
}
