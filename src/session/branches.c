/* branches.c - the tree of continuations, and its evaluation.
 *
 * The unit of work is a chain: a run of nodes without a fork between them, so that its rows can go
 * through one pass. Chains are listed depth first, parents before children; a pass takes the first ones
 * whose parents are done, as many as there are rows for, and rows of logits. Each runs on a fork of what its
 * parent left. When there are not enough pages for forks (the sequence almost fills its context), a
 * chain is appended to the sequence itself, which then goes back. */
#include "session/branches.h"

#include <math.h>
#include <string.h>

#include "model/kv.h"

struct chain {
    uint32_t first, n; /* nodes: first, its only child, and so on */
    enum logit_rows
        rows; /* ALL: each is asked about; LAST, NONE: given ones, the last is asked or not */
    bool done;
    uint32_t parent;  /* chain, or BRANCH_NONE: begins at the root */
    uint32_t waiting; /* chains that begin behind it and are not done */
    struct kv *kv;    /* what it left, while others wait for it; NULL: none, or evaluated alone */
};

struct work {
    struct branches *b;
    struct sequence *q;
    uint32_t n_prompt, rows, logits; /* rows, and rows of logits, of a pass at most */
    struct chain *chains;            /* [n] */
    size_t n, room;
    size_t first;         /* all chains before it are done */
    size_t *group;        /* [rows] chains of a pass */
    struct slice *slices; /* [rows] */
    int32_t *ids;         /* [rows] */
};

/* ------------------------------------------------------------------ the tree */

static uint32_t put_node(struct branches *b, int32_t id, uint32_t parent) {
    if (b->n == b->room) {
        size_t room = b->room > 0 ? b->room * 2 : 64;
        struct branch_node *more = mem_resize(b->hooks, b->nodes, room, sizeof *more);
        if (more == NULL)
            return BRANCH_NONE;
        b->nodes = more;
        b->room = room;
    }
    uint32_t at = (uint32_t)b->n++;
    bool root = parent == BRANCH_NONE;
    b->nodes[at] = (struct branch_node){ .id = id,
                                         .parent = parent,
                                         .child = BRANCH_NONE,
                                         .next = root ? BRANCH_NONE : b->nodes[parent].child,
                                         .depth = root ? 0 : b->nodes[parent].depth + 1 };
    if (!root)
        b->nodes[parent].child = at;
    return at;
}

slm_err branches_init(struct branches *b, const struct slm_hooks *h, slm_why *why) {
    *b = (struct branches){ .hooks = h };
    if (put_node(b, -1, BRANCH_NONE) == BRANCH_NONE)
        return fail_nomem(why, "labels", sizeof *b->nodes);
    return SLM_OK;
}

void branches_free(struct branches *b) {
    mem_free(b->hooks, b->nodes);
    *b = (struct branches){ 0 };
}

slm_err branches_add(struct branches *b, uint32_t at, const int32_t *ids, size_t n, bool given,
                     uint32_t *leaf, bool *twice, slm_why *why) {
    bool before = true;
    if (n > BRANCH_NODES_MAX - b->n)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "the labels have more than %zu tokens",
                    BRANCH_NODES_MAX);
    b->nodes[at].asked |= !given;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = b->nodes[at].child;
        while (c != BRANCH_NONE && b->nodes[c].id != ids[i])
            c = b->nodes[c].next;
        if (c == BRANCH_NONE) {
            before = false;
            c = put_node(b, ids[i], at);
            if (c == BRANCH_NONE)
                return fail_nomem(why, "labels", b->room * 2 * sizeof *b->nodes);
            b->nodes[c].given = given;
        }
        at = c;
        b->nodes[at].asked |= !given;
    }
    *leaf = at;
    if (twice != NULL)
        *twice = before;
    return SLM_OK;
}

double branches_sum(const struct branches *b, uint32_t from, uint32_t leaf) {
    double sum = b->nodes[leaf].end;
    for (uint32_t i = leaf; i != from; i = b->nodes[i].parent)
        sum += b->nodes[i].logprob;
    return sum;
}

/* ------------------------------------------------------------------ rows of logits */

/* Behind node `at` the model gave these logits. */
static void read_row(struct work *w, uint32_t at, const float *logits) {
    struct branch_node *nodes = w->b->nodes, *node = &nodes[at];
    const int32_t *stop = w->q->runner->engine->facts.m.stop;
    double max, log_sum, ends = 0.0;
    sampler_normal(w->q->sampler, logits, &max, &log_sum);
    for (uint32_t c = node->child; c != BRANCH_NONE; c = nodes[c].next)
        nodes[c].logprob = (double)logits[nodes[c].id] - max - log_sum;
    for (const int32_t *s = stop; *s >= 0; s++)
        ends += exp((double)logits[*s] - max - log_sum);
    node->end = stop[0] >= 0 ? log(ends) : 0.0;
}

/* Rows of a chain in node order; returns what follows them. */
static const float *read_chain(struct work *w, const struct chain *c, const float *logits) {
    uint32_t at = c->first;
    for (uint32_t i = 0; i < c->n; i++, at = w->b->nodes[at].child) {
        w->b->rows += !w->b->nodes[at].given;
        if (c->rows == LOGITS_ALL || (c->rows == LOGITS_LAST && i + 1 == c->n)) {
            read_row(w, at, logits);
            logits += w->q->runner->engine->facts.m.vocab;
        }
    }
    return logits;
}

/* ------------------------------------------------------------------ chains */

static bool put_chain(struct work *w, uint32_t first, uint32_t parent) {
    if (w->n == w->room) {
        size_t room = w->room > 0 ? w->room * 2 : 32;
        struct chain *more = mem_resize(w->b->hooks, w->chains, room, sizeof *more);
        if (more == NULL)
            return false;
        w->chains = more;
        w->room = room;
    }
    w->chains[w->n++] = (struct chain){ .first = first,
                                        .n = 1,
                                        .rows = w->b->nodes[first].asked ? LOGITS_ALL : LOGITS_NONE,
                                        .parent = parent };
    if (parent != BRANCH_NONE)
        w->chains[parent].waiting++;
    return true;
}

/* The node behind `at` in depth-first order, when the children of `at` are not wanted: the next
 * sibling of it or of the nearest node above that has one. */
static uint32_t pass_over(const struct branch_node *nodes, uint32_t at) {
    while (at != 0 && nodes[at].next == BRANCH_NONE)
        at = nodes[at].parent;
    return at != 0 ? nodes[at].next : BRANCH_NONE;
}

/* Whether a node can be the next one of the chain that its parent ends. */
static bool prolongs(const struct work *w, const struct chain *c, uint32_t at) {
    if (c->rows == LOGITS_ALL)
        return w->b->nodes[at].asked && c->n < w->logits;
    return c->rows == LOGITS_NONE && c->n < w->rows;
}

/* Cuts the tree into chains. `of` [n nodes] is room for the chain that a node belongs to. */
static bool cut(struct work *w, uint32_t *of) {
    const struct branch_node *nodes = w->b->nodes;
    of[0] = BRANCH_NONE;
    for (uint32_t at = nodes[0].child; at != BRANCH_NONE;
         at = nodes[at].child != BRANCH_NONE ? nodes[at].child : pass_over(nodes, at)) {
        if (w->b->open && nodes[at].child == BRANCH_NONE)
            continue;
        uint32_t parent = nodes[at].parent;
        struct chain *c = of[parent] != BRANCH_NONE ? &w->chains[of[parent]] : NULL;
        bool only = nodes[parent].child == at && nodes[at].next == BRANCH_NONE;
        if (c != NULL && only && prolongs(w, c, at)) {
            c->n++;
            if (c->rows == LOGITS_NONE && nodes[at].asked)
                c->rows = LOGITS_LAST;
            of[at] = of[parent];
        } else {
            of[at] = (uint32_t)w->n;
            if (!put_chain(w, at, of[parent]))
                return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ forks */

/* A sequence that goes on where `from` is, on the same pages. NULL: no memory. */
static struct kv *fork_of(struct work *w, const struct kv *from) {
    const struct runner *r = w->q->runner;
    struct kv *kv;
    if (kv_new(r->kv_pool, r->shape.context, r->shape.chunk, &kv, NULL) != SLM_OK)
        return NULL;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        for (uint32_t i = 0; i < from->slots; i++)
            if (from->pages[c][i] != KV_NO_PAGE)
                kv_share(kv, (enum kv_class)c, i, from->pages[c][i]);
    kv_started(kv, kv_length(from), from->long_rope > 0);
    kv->low = from->low;
    return kv;
}

static void drop_kv(struct chain *c) {
    kv_free(c->kv);
    c->kv = NULL;
}

/* The parent of a chain that is done is needed by one less. */
static void leave(struct work *w, struct chain *c) {
    c->done = true;
    if (c->waiting == 0)
        drop_kv(c);
    if (c->parent != BRANCH_NONE && --w->chains[c->parent].waiting == 0)
        drop_kv(&w->chains[c->parent]);
}

static uint32_t logits_of(const struct chain *c) {
    return c->rows == LOGITS_ALL ? c->n : c->rows == LOGITS_LAST;
}

/* Chains that can go into one pass: whose parents are done, and left something to fork. Returns how many. */
static size_t gather(struct work *w) {
    size_t k = 0;
    uint32_t rows = 0, logits = 0;
    while (w->first < w->n && w->chains[w->first].done)
        w->first++;
    for (size_t i = w->first; i < w->n && rows < w->rows; i++) {
        const struct chain *c = &w->chains[i];
        bool ready = c->parent == BRANCH_NONE || w->chains[c->parent].kv != NULL;
        if (c->done || !ready || rows + c->n > w->rows || logits + logits_of(c) > w->logits)
            continue;
        rows += c->n;
        logits += logits_of(c);
        w->group[k++] = i;
    }
    return k;
}

/* One pass over k chains of the group on forks. E_MEMORY: not enough pages for so many. */
static slm_err run_forked(struct work *w, size_t k, slm_why *why) {
    struct runner *r = w->q->runner;
    uint32_t rows = 0;
    slm_err err = SLM_OK;
    for (size_t i = 0; i < k && err == SLM_OK; i++) {
        struct chain *c = &w->chains[w->group[i]];
        c->kv = fork_of(w, c->parent != BRANCH_NONE ? w->chains[c->parent].kv : w->q->kv);
        if (c->kv == NULL)
            err = fail_nomem(why, "a fork of the sequence",
                             (size_t)kv_bytes(&r->engine->facts.m, r->shape.context));
        w->slices[i] =
            (struct slice){ .kv = c->kv, .n = c->n, .long_rope = w->q->long_rope, .rows = c->rows };
        for (uint32_t j = 0, at = c->first; j < c->n; j++, at = w->b->nodes[at].child)
            w->ids[rows++] = w->b->nodes[at].id;
    }
    if (err == SLM_OK)
        err = forward_run(r->forward, w->slices, k, w->ids, r->logits, NULL, why);
    const float *at = r->logits;
    for (size_t i = 0; i < k; i++) {
        struct chain *c = &w->chains[w->group[i]];
        if (err != SLM_OK) {
            drop_kv(c);
        } else {
            at = read_chain(w, c, at);
            leave(w, c);
        }
    }
    return err;
}

/* A chain on the sequence itself, without a fork: what leads to it is evaluated (again), and it goes
 * back. A sliding window that cannot go back makes it start over: the way out when nothing is left. */
static slm_err run_alone(struct work *w, struct chain *c, slm_why *why) {
    struct sequence *q = w->q;
    const struct branch_node *nodes = w->b->nodes;
    size_t begin = w->n_prompt + nodes[c->first].depth - 1;
    uint32_t at = c->first;
    for (uint32_t i = nodes[at].parent; i != 0; i = nodes[i].parent)
        q->ids[w->n_prompt + nodes[i].depth - 1] = nodes[i].id;
    for (uint32_t i = 0; i < c->n; i++, at = nodes[at].child)
        q->ids[begin + i] = nodes[at].id;
    q->n = begin + c->n;
    slm_err err = sequence_evaluate_to(q, begin, NULL, NULL, why);
    if (err == SLM_OK) {
        runner_begin(q->runner);
        runner_add(q->runner, q, c->n, c->rows);
        err = runner_run(q->runner, why);
    }
    if (err == SLM_OK) {
        read_chain(w, c, q->rows);
        leave(w, c);
    }
    sequence_rewind(q, w->n_prompt);
    q->n = w->n_prompt;
    return err;
}

static slm_err run(struct work *w, slm_why *why) {
    for (size_t k = gather(w); w->first < w->n; k = gather(w)) {
        slm_err err = SLM_E_MEMORY;
        if (atomic_load_explicit(w->q->runner->stop, memory_order_relaxed))
            return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled among the labels");
        while (k > 0 && (err = run_forked(w, k, why)) == SLM_E_MEMORY)
            k /= 2;
        if (err == SLM_E_MEMORY) {
            for (size_t i = 0; i < w->n; i++)
                drop_kv(&w->chains
                             [i]); /* their pages are needed; what waits for them runs alone, too */
            err = run_alone(w, &w->chains[w->first], why);
        }
        TRY(err);
        w->b->passes++;
    }
    return SLM_OK;
}

slm_err branches_score(struct branches *b, struct sequence *q, slm_why *why) {
    const struct runner_shape *s = &q->runner->shape;
    struct work w = { .b = b, .q = q, .n_prompt = (uint32_t)q->n };
    w.rows = s->chunk;
    w.logits = s->kept < s->chunk ? s->kept : s->chunk;
    uint32_t *of = mem_alloc(b->hooks, b->n, sizeof *of);
    w.slices = mem_alloc(b->hooks, w.rows, sizeof *w.slices);
    w.ids = mem_alloc(b->hooks, w.rows, sizeof *w.ids);
    w.group = mem_alloc(b->hooks, w.rows, sizeof *w.group);
    slm_err err = SLM_OK;
    if (of == NULL || w.slices == NULL || w.ids == NULL || w.group == NULL || !cut(&w, of))
        err = fail_nomem(why, "labels", b->n * sizeof(struct chain));
    b->passes = b->rows = 0;
    if (err == SLM_OK) {
        if (b->nodes[0].asked)
            read_row(&w, 0, q->logits);
        err = run(&w, why);
        if (b->passes > 0)
            q->logits = q->rows = NULL;
    }
    for (size_t i = 0; i < w.n; i++)
        drop_kv(&w.chains[i]);
    mem_free(b->hooks, w.chains);
    mem_free(b->hooks, w.group);
    mem_free(b->hooks, w.ids);
    mem_free(b->hooks, w.slices);
    mem_free(b->hooks, of);
    return err;
}
