/* vision.c - a picture through the image tower: pixel values -> rows in place of embeddings.
 *
 *   x = patches * W + bias + position                                  [n, d], n patches row by row
 *   x += o(attention(norm(x)));  x += down(gelu(up(norm(x))))          each block; all with biases
 *   rows = (rmsnorm(mean of squares of patches of norm(x))) * P        [tokens, H]
 * norm is LayerNorm; attention is full, scale 1 / sqrt(head_dim); gelu has the tanh form.
 * Source: SigLIP and Gemma 3 in Hugging Face transformers; goldens in tests/golden/gemma-3-4b-it/vision.
 *
 * Rows are taken in blocks of BLOCK by threads, each block through everything that needs no other row:
 * keys and values first, then, when all of them are there, attention and the rest of the layer. The
 * weights are read once per block, which at BLOCK rows is far from the limit of memory. Keys are taken
 * in spans as in attend.c. Every element is summed in one order, so the bits do not depend on threads. */
#include "model/vision.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"
#include "base/pool.h"

#define BLOCK 64   /* rows that a thread takes through a layer */
#define QUERIES 32 /* of a block that share one pass over a span's keys */

/* What one thread has for itself. All 64-byte aligned. */
struct bench {
    float *norm;  /* [max(d, P)] */
    float *wide;  /* [BLOCK, f] */
    float *y;     /* [BLOCK, d] */
    float *mix;   /* [BLOCK, d] */
    uint8_t *act; /* [BLOCK][act_row] */
    uint8_t *matmul;
    float *queries;                                 /* [QUERIES, head_dim] */
    float *scores;                                  /* [QUERIES, SPAN] */
    float *mixed, *total;                           /* [QUERIES, head_dim] */
    float *span_max, *span_sum, *run_max, *run_sum; /* [QUERIES] */
};

struct picture_run {
    const struct vision_net *net;
    struct pool *pool;
    const float *pixels;
    const struct vision_taps *taps;
    vision_progress progress;
    void *user;
    float *out;
    enum kv_type type;
    uint32_t head_dim;
    size_t row_bytes; /* of a key of one head */
    size_t act_row;
    float *x, *q;           /* [n, d] */
    uint8_t *keys, *values; /* [heads][n][row_bytes] */
    struct phase *phases;   /* [2 * layers + 2] */
    struct bench *benches;  /* [threads] */
    atomic_bool stopped, broken;
};
struct hand {
    struct picture_run *r;
    const struct bench *b;
    bool first; /* the caller's thread */
    uint32_t phase;
};

/* ------------------------------------------------------------------ memory */

static size_t round_up(size_t n) {
    return (n + 63) / 64 * 64;
}

static size_t widest_act(const struct vision_net *net) {
    const struct vision_layer *l = net->layers;
    const struct matrix *ms[] = { &net->patches, &net->projection, NULL, NULL, NULL, NULL, NULL,
                                  NULL };
    size_t most = 0;
    for (uint32_t i = 0; i < net->v.layers; i++) {
        ms[2] = &l[i].q, ms[3] = &l[i].k, ms[4] = &l[i].v;
        ms[5] = &l[i].o, ms[6] = &l[i].up, ms[7] = &l[i].down;
        for (size_t j = 0; j < ARRAY_LEN(ms); j++) {
            size_t n = act_bytes(ms[j]->act, ms[j]->cols);
            most = n > most ? n : most;
        }
    }
    return most;
}

static size_t widest_scratch(const struct vision_net *net) {
    size_t most = 0;
    for (uint32_t i = 0; i < net->v.layers; i++) {
        const struct vision_layer *l = &net->layers[i];
        const struct matrix *const ms[] = { &l->q,  &l->k,    &l->v,         &l->o,
                                            &l->up, &l->down, &net->patches, &net->projection };
        for (size_t j = 0; j < ARRAY_LEN(ms); j++) {
            size_t n = matmul_scratch(ms[j], BLOCK);
            most = n > most ? n : most;
        }
    }
    return most;
}

/* Takes the next part of the block; with block NULL it only counts. */
static void *part(uint8_t *block, size_t *used, size_t n, size_t size) {
    uint8_t *p = block != NULL ? block + *used : NULL;
    *used += round_up(n * size);
    return p;
}

static size_t lay_out(const struct picture_run *r, struct picture_run *to, uint8_t *block,
                      unsigned threads) {
    const struct vision_net *net = r->net;
    size_t d = net->v.hidden, n = net->n, hd = r->head_dim, used = 0;
    size_t norm = d > net->patch ? d : net->patch, scratch = widest_scratch(net);
    struct picture_run none;
    to = to != NULL ? to : &none;
    to->x = part(block, &used, n * d, sizeof(float));
    to->q = part(block, &used, n * d, sizeof(float));
    to->keys = part(block, &used, net->v.heads * n, r->row_bytes);
    to->values = part(block, &used, net->v.heads * n, r->row_bytes);
    to->phases = part(block, &used, 2 * (size_t)net->v.layers + 2, sizeof *to->phases);
    to->benches = part(block, &used, threads, sizeof *to->benches);
    for (unsigned i = 0; i < threads; i++) {
        struct bench b = { 0 };
        b.norm = part(block, &used, norm, sizeof(float));
        b.wide = part(block, &used, BLOCK * (size_t)net->v.ffn, sizeof(float));
        b.y = part(block, &used, BLOCK * d, sizeof(float));
        b.mix = part(block, &used, BLOCK * d, sizeof(float));
        b.act = part(block, &used, BLOCK, r->act_row);
        b.matmul = part(block, &used, scratch, 1);
        b.queries = part(block, &used, QUERIES * hd, sizeof(float));
        b.scores = part(block, &used, QUERIES * SPAN, sizeof(float));
        b.mixed = part(block, &used, QUERIES * hd, sizeof(float));
        b.total = part(block, &used, QUERIES * hd, sizeof(float));
        b.span_max = part(block, &used, QUERIES, sizeof(float));
        b.span_sum = part(block, &used, QUERIES, sizeof(float));
        b.run_max = part(block, &used, QUERIES, sizeof(float));
        b.run_sum = part(block, &used, QUERIES, sizeof(float));
        if (block != NULL)
            to->benches[i] = b;
    }
    return used;
}

static struct picture_run run_of(const struct vision_net *net) {
    struct picture_run r = { .net = net, .type = net->exact ? KV_F32 : KV_BF16 };
    r.head_dim = net->v.hidden / net->v.heads;
    r.row_bytes = kv_row_bytes(r.type, r.head_dim);
    r.act_row = round_up(widest_act(net));
    return r;
}

uint64_t vision_bytes(const struct vision_net *net, unsigned threads) {
    struct picture_run r = run_of(net);
    return lay_out(&r, NULL, NULL, threads);
}

void vision_cost(const struct vision_net *net, uint64_t *matrix_macs, uint64_t *attention_macs) {
    uint64_t n = net->n, d = net->v.hidden, f = net->v.ffn, layers = net->v.layers;
    *matrix_macs = n * d * net->patch + layers * n * (4 * d * d + 2 * d * f) +
                   (uint64_t)net->v.tokens * d * net->out;
    *attention_macs = layers * 2 * n * n * d;
}

/* ------------------------------------------------------------------ rows */

static void layer_norm(const struct hand *h, const float *x, const float *w, const float *bias,
                       float *out) {
    const struct vision_net *net = h->r->net;
    size_t d = net->v.hidden;
    double lanes[16] = { 0 };
    for (size_t i = 0; i < d; i++)
        lanes[i % 16] += (double)x[i];
    for (unsigned half = 8; half > 0; half /= 2)
        for (unsigned l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    double mean = lanes[0] / (double)d;
    for (size_t i = 0; i < d; i++)
        out[i] = (float)((double)x[i] - mean);
    rmsnorm(net->kernels, out, w, false, net->v.eps, d, out);
    add_rows(net->kernels, out, bias, d);
}

/* Row `row` of the input of a product, in b->act. */
static void ready(const struct hand *h, const struct matrix *m, const float *x, uint32_t row) {
    act_prepare(h->r->net->kernels, m->act, x, m->cols,
                h->b->act + row * act_bytes(m->act, m->cols));
}

/* What b->act holds for n rows, times m, plus the bias. */
static void multiply(const struct hand *h, const struct matrix *m, const float *bias, uint32_t n,
                     float *y) {
    const struct kernels *k = h->r->net->kernels;
    matmul(k, m, h->b->act, n, 0, matrix_panels(m), y, m->rows, h->b->matmul);
    for (uint32_t i = 0; i < n && bias != NULL; i++)
        add_rows(k, y + (size_t)i * m->rows, bias, m->rows);
}

/* Forms of one input for several products: made again only where they differ. */
static void ready_norm(const struct hand *h, const struct matrix *m, uint32_t from, uint32_t n,
                       const float *w, const float *bias) {
    size_t d = h->r->net->v.hidden;
    for (uint32_t i = 0; i < n; i++) {
        layer_norm(h, h->r->x + (from + i) * d, w, bias, h->b->norm);
        ready(h, m, h->b->norm, i);
    }
}

static void add_block(const struct hand *h, uint32_t from, uint32_t n) {
    size_t d = h->r->net->v.hidden;
    add_rows(h->r->net->kernels, h->r->x + from * d, h->b->y, n * d);
}

/* ------------------------------------------------------------------ patches */

/* Values of a patch: channel by channel, row by row, as the convolution's weights stand. */
static void gather_patch(const struct hand *h, uint32_t patch) {
    const struct vision *v = &h->r->net->v;
    uint32_t side = v->image / v->patch, top = patch / side * v->patch,
             left = patch % side * v->patch;
    float *to = h->b->norm;
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t row = 0; row < v->patch; row++, to += v->patch)
            memcpy(to, h->r->pixels + ((size_t)c * v->image + top + row) * v->image + left,
                   v->patch * sizeof *to);
}

static void embed(const struct hand *h, uint32_t from, uint32_t n) {
    const struct vision_net *net = h->r->net;
    size_t d = net->v.hidden;
    for (uint32_t i = 0; i < n; i++) {
        gather_patch(h, from + i);
        ready(h, &net->patches, h->b->norm, i);
    }
    multiply(h, &net->patches, net->patch_bias, n, h->r->x + from * d);
    for (uint32_t i = 0; i < n; i++) {
        matrix_row(net->kernels, &net->position, from + i, h->b->norm);
        add_rows(net->kernels, h->r->x + (from + i) * d, h->b->norm, d);
    }
    if (h->r->taps != NULL && h->r->taps->embeddings != NULL)
        memcpy(h->r->taps->embeddings + from * d, h->r->x + from * d, n * d * sizeof(float));
}

/* ------------------------------------------------------------------ attention */

static uint8_t *cache_row(const struct picture_run *r, uint8_t *base, uint32_t head, uint32_t row) {
    return base + ((size_t)head * r->net->n + row) * r->row_bytes;
}

static void store(const struct hand *h, uint32_t from, uint32_t n, uint8_t *base) {
    const struct picture_run *r = h->r;
    size_t d = r->net->v.hidden;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t head = 0; head < r->net->v.heads; head++)
            kv_store(r->net->kernels, r->type, h->b->y + i * d + head * r->head_dim, r->head_dim,
                     cache_row(r, base, head, from + i));
}

/* Queries, keys and values of a block. */
static void project(const struct hand *h, const struct vision_layer *l, uint32_t from, uint32_t n) {
    size_t d = h->r->net->v.hidden;
    ready_norm(h, &l->q, from, n, l->norm1, l->norm1_bias);
    multiply(h, &l->q, l->q_bias, n, h->r->q + from * d);
    if (l->k.act != l->q.act)
        ready_norm(h, &l->k, from, n, l->norm1, l->norm1_bias);
    multiply(h, &l->k, l->k_bias, n, h->b->y);
    store(h, from, n, h->r->keys);
    if (l->v.act != l->k.act)
        ready_norm(h, &l->v, from, n, l->norm1, l->norm1_bias);
    multiply(h, &l->v, l->v_bias, n, h->b->y);
    store(h, from, n, h->r->values);
}

static void span(const struct hand *h, uint32_t head, uint32_t start, uint32_t n_queries) {
    const struct picture_run *r = h->r;
    const struct bench *b = h->b;
    const struct kernels *k = r->net->kernels;
    size_t hd = r->head_dim;
    uint32_t n = r->net->n - start < SPAN ? r->net->n - start : SPAN, padded = (n + 15) / 16 * 16;
    attn_scores(k, r->type, b->queries, n_queries, hd, cache_row(r, r->keys, head, start), n,
                1.0f / sqrtf((float)hd), b->scores, SPAN, NULL);
    for (uint32_t i = 0; i < n_queries; i++) {
        float *s = b->scores + (size_t)i * SPAN;
        for (uint32_t j = n; j < padded; j++)
            s[j] = -INFINITY;
        attn_softmax(k, s, padded, &b->span_max[i], &b->span_sum[i]);
    }
    memset(b->mixed, 0, n_queries * hd * sizeof *b->mixed);
    attn_mix(k, r->type, b->scores, n_queries, SPAN, hd, cache_row(r, r->values, head, start), n,
             b->mixed, NULL);
    for (uint32_t i = 0; i < n_queries; i++)
        attn_merge(k, &b->run_max[i], &b->run_sum[i], b->total + i * hd, b->span_max[i],
                   b->span_sum[i], b->mixed + i * hd, hd);
}

/* One head of some rows: b->mix. first: of them in the block. */
static void attend_head(const struct hand *h, uint32_t from, uint32_t first, uint32_t n,
                        uint32_t head) {
    const struct picture_run *r = h->r;
    const struct bench *b = h->b;
    size_t d = r->net->v.hidden, hd = r->head_dim;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(b->queries + i * hd, r->q + (from + first + i) * d + head * hd, hd * sizeof(float));
        b->run_max[i] = -INFINITY;
        b->run_sum[i] = 0.0f;
    }
    for (uint32_t start = 0; start < r->net->n; start += SPAN)
        span(h, head, start, n);
    for (uint32_t i = 0; i < n; i++) {
        scale_row(r->net->kernels, b->total + i * hd, 1.0f / b->run_sum[i], hd);
        memcpy(b->mix + (first + i) * d + head * hd, b->total + i * hd, hd * sizeof(float));
    }
}

/* ------------------------------------------------------------------ a block */

static void finish_layer(const struct hand *h, const struct vision_layer *l, uint32_t from,
                         uint32_t n) {
    const struct vision_net *net = h->r->net;
    size_t d = net->v.hidden, f = net->v.ffn;
    for (uint32_t head = 0; head < net->v.heads; head++)
        for (uint32_t i = 0; i < n; i += QUERIES)
            attend_head(h, from, i, n - i < QUERIES ? n - i : QUERIES, head);
    for (uint32_t i = 0; i < n; i++)
        ready(h, &l->o, h->b->mix + i * d, i);
    multiply(h, &l->o, l->o_bias, n, h->b->y);
    add_block(h, from, n);
    ready_norm(h, &l->up, from, n, l->norm2, l->norm2_bias);
    multiply(h, &l->up, l->up_bias, n, h->b->wide);
    for (uint32_t i = 0; i < n; i++) {
        gelu_mul(net->kernels, h->b->wide + i * f, net->ones, f, h->b->wide + i * f);
        ready(h, &l->down, h->b->wide + i * f, i);
    }
    multiply(h, &l->down, l->down_bias, n, h->b->y);
    add_block(h, from, n);
}

/* Mean of a square of patches, norm, projection: one row for the text part. Patches are normed in
 * place by whoever comes to the end of the tower. */
static void pool_row(const struct hand *h, uint32_t token, float *row) {
    const struct vision_net *net = h->r->net;
    size_t d = net->v.hidden;
    uint32_t side = net->v.image / net->v.patch, out_side = 1;
    while (out_side * out_side < net->v.tokens)
        out_side++;
    uint32_t square = side / out_side, top = token / out_side * square,
             left = token % out_side * square;
    memset(row, 0, d * sizeof *row);
    for (uint32_t i = 0; i < square * square; i++)
        add_rows(net->kernels, row,
                 h->r->x + ((top + i / square) * (size_t)side + left + i % square) * d, d);
    scale_row(net->kernels, row, 1.0f / (float)(square * square), d);
}

static void project_tokens(const struct hand *h, uint32_t from, uint32_t n) {
    const struct picture_run *r = h->r;
    const struct vision_net *net = r->net;
    size_t d = net->v.hidden;
    bool finite;
    for (uint32_t i = 0; i < n; i++) {
        float *row = h->b->norm;
        pool_row(h, from + i, row);
        if (r->taps != NULL && r->taps->pooled != NULL)
            memcpy(r->taps->pooled + (from + i) * d, row, d * sizeof *row);
        rmsnorm(net->kernels, row, net->soft_norm, net->soft_plus_one, net->text_eps, d, row);
        if (r->taps != NULL && r->taps->pooled_normed != NULL)
            memcpy(r->taps->pooled_normed + (from + i) * d, row, d * sizeof *row);
        ready(h, &net->projection, row, i);
    }
    multiply(h, &net->projection, NULL, n, r->out + (size_t)from * net->out);
    argmax(net->kernels, r->out + (size_t)from * net->out, (size_t)n * net->out, &finite);
    if (!finite)
        h->r->broken = true;
}

static void post_norm(const struct hand *h, uint32_t from, uint32_t n) {
    const struct vision_net *net = h->r->net;
    size_t d = net->v.hidden;
    for (uint32_t i = 0; i < n; i++) {
        float *x = h->r->x + (from + i) * d;
        layer_norm(h, x, net->post_norm, net->post_norm_bias, h->b->norm);
        memcpy(x, h->b->norm, d * sizeof *x);
    }
    if (h->r->taps != NULL && h->r->taps->post_norm != NULL)
        memcpy(h->r->taps->post_norm + from * d, h->r->x + from * d, n * d * sizeof(float));
}

/* ------------------------------------------------------------------ the run */

typedef void (*block_work)(struct hand *h, uint32_t layer, uint32_t from, uint32_t n);

static void first_blocks(struct hand *h, uint32_t layer, uint32_t from, uint32_t n) {
    if (layer == 0)
        embed(h, from, n);
    project(h, &h->r->net->layers[layer], from, n);
}

static void second_blocks(struct hand *h, uint32_t layer, uint32_t from, uint32_t n) {
    const struct picture_run *r = h->r;
    size_t d = r->net->v.hidden;
    finish_layer(h, &r->net->layers[layer], from, n);
    if (r->taps != NULL && r->taps->layers != NULL)
        memcpy(r->taps->layers + (layer * (size_t)r->net->n + from) * d, r->x + from * d,
               n * d * sizeof(float));
    if (layer + 1 == r->net->v.layers)
        post_norm(h, from, n);
}

static void last_blocks(struct hand *h, uint32_t layer, uint32_t from, uint32_t n) {
    (void)layer;
    project_tokens(h, from, n);
}

static void phase_run(struct hand *h, uint32_t rows, block_work work, uint32_t layer) {
    struct picture_run *r = h->r;
    uint32_t blocks = (rows + BLOCK - 1) / BLOCK, i, end;
    struct phase *p = &r->phases[h->phase++];
    while (phase_take(p, blocks, 1, &i, &end)) {
        uint32_t from = i * BLOCK, n = rows - from < BLOCK ? rows - from : BLOCK;
        if (!r->stopped)
            work(h, layer, from, n);
        phase_credit(r->pool, p, 1, blocks);
    }
    phase_wait(r->pool, p, blocks);
    if (h->first && r->progress != NULL && !r->stopped &&
        !r->progress(r->user, h->phase, 2 * r->net->v.layers + 1))
        r->stopped = true;
}

static void walk(void *arg, unsigned index, unsigned count) {
    struct picture_run *r = arg;
    struct hand h = { .r = r, .b = &r->benches[index], .first = index == 0 };
    (void)count;
    for (uint32_t i = 0; i < r->net->v.layers; i++) {
        phase_run(&h, r->net->n, first_blocks, i);
        phase_run(&h, r->net->n, second_blocks, i);
    }
    phase_run(&h, r->net->v.tokens, last_blocks, 0);
}

slm_err vision_run(const struct vision_net *net, struct pool *pool, const float *pixels,
                   const struct vision_taps *taps, vision_progress progress, void *user, float *out,
                   slm_why *why) {
    struct picture_run r = run_of(net);
    unsigned threads = pool_size(pool);
    size_t n = lay_out(&r, NULL, NULL, threads);
    uint8_t *block = mem_alloc_aligned(net->hooks, n, 1);
    if (block == NULL)
        return fail_nomem(why, "image tower", n);
    lay_out(&r, &r, block, threads);
    r.pool = pool;
    r.pixels = pixels;
    r.taps = taps;
    r.progress = progress;
    r.user = user;
    r.out = out;
    memset(r.phases, 0, (2 * (size_t)net->v.layers + 2) * sizeof *r.phases);
    pool_share(pool, walk, &r);
    bool stopped = r.stopped, broken = r.broken;
    mem_free_aligned(net->hooks, block);
    if (stopped)
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled while a picture was read");
    if (broken)
        return fail(why, SLM_E_NUMERIC, SLM_NO_OFFSET,
                    "the image tower computed a number that is not finite");
    return SLM_OK;
}
