/* forward.h - the inside of a forward pass, shared by forward.c, forward_scratch.c and attend.c. */
#ifndef SLM_MODEL_FORWARD_H
#define SLM_MODEL_FORWARD_H

#include "model/kv.h"

#define TILE_QUERIES 32 /* queries that share one pass over a span's keys and values, about */
#define FEW_ROWS 2      /* up to here every thread prepares all rows for itself (forward.c) */

/* Phases of a layer at most: rows and products of q k v, place, attention (ATTEND_PHASES), rows and
 * product of o, of gate and up, of down. Afterwards: last rows, output. */
#define ATTEND_PHASES 2
#define LAYER_PHASES (2 + 1 + ATTEND_PHASES + 2 + 2 + 2)
static inline size_t forward_phases(const struct model *m) {
    return (size_t)m->layers * LAYER_PHASES + 2;
}

/* What one thread has for itself. All 64-byte aligned. */
struct thread_scratch {
    uint8_t *matmul;                                /* the largest that any matrix asks for */
    float *row;                                     /* [widest of H, Q, F] */
    float *x;                                       /* [H] */
    uint8_t *act[ACT_COUNT];                        /* [FEW_ROWS][act_row] */
    float *queries;                                 /* [tile][head_dim] */
    float *scores;                                  /* [tile][SPAN] */
    float *mixed;                                   /* [tile][head_dim] of one span */
    float *total;                                   /* [tile][head_dim] of all spans so far */
    float *span_max, *span_sum, *run_max, *run_sum; /* [tile] */
};

/* One row of the batch: which slice, which position. */
struct row_place {
    uint32_t slice, position;
    uint32_t until;    /* end of the positions that it sees */
    int32_t logit;     /* row of the output, or -1 */
    const float *soft; /* [H] in place of the embedding, or NULL */
};

struct forward {
    struct slm_hooks hooks;
    const struct net *net;
    const struct kernels *k;
    const struct rope *rope;
    struct pool *pool;
    const atomic_bool *stop; /* borrowed, or NULL: asked between layers */
    uint32_t max_rows, max_logit_rows, context;
    unsigned threads;
    uint32_t group;            /* query heads that share a kv head */
    uint32_t tile_tokens;      /* tokens of a query tile */
    uint32_t tile;             /* its queries: tile_tokens x group */
    bool needs[ACT_COUNT];     /* forms of activations that some matrix wants */
    size_t act_row[ACT_COUNT]; /* bytes of the widest row in that form */

    /* Rows of the batch [R = max_rows]. H hidden, Q heads x head_dim, K kv_heads x head_dim, F ffn. */
    float *x[2];                    /* [R, H] residual stream: attention's part, ffn's part added */
    float *y;                       /* [R, H] result of attention or ffn before it is added */
    float *q, *k_new, *v_new, *mix; /* [R, Q], [R, K], [R, K], [R, Q] */
    float *gate, *up;               /* [R, F]; share the memory of the four above */
    uint8_t *act[ACT_COUNT];        /* [R][act_row] */
    float *cosine[2], *sine[2];     /* [R, pairs]: of full and of sliding layers */
    struct row_place *place;        /* [R] */
    struct slice *slices;           /* [R] copy for the run */
    uint32_t *slice_row;            /* [R + 1] first row of each slice */
    uint32_t *slice_unit;           /* [R + 1] first unit of attention work of each slice */
    float *
        partial; /* [heads x spans of the context][head_dim + 2]: span results of a decoding step */
    struct phase *phases;           /* [forward_phases] */
    struct thread_scratch *scratch; /* [threads] */
    uint8_t *block;

    /* of the run in progress */
    uint32_t n_rows, n_slices, n_logits;
    const int32_t *ids;
    float *logits;
    const struct forward_taps *taps;
    atomic_bool broken; /* a number is not finite */
    bool few;           /* rows <= FEW_ROWS */
    /* written in a phase, read by all after it, by those that lag during the next */
    atomic_bool stopped;
};

/* A thread inside forward_run. All threads pass the same phases, so that a phase is found by counting;
 * one that comes late finds their work taken and goes through. */
struct worker {
    struct forward *f;
    const struct thread_scratch *s;
    unsigned index, count;
    uint32_t phase;
    uint32_t held; /* units taken and not credited yet */
};
struct range {
    uint32_t from, to;
};
/* Up to `step` of the `total` units of the phase at hand; counts the ones before as done. */
static inline bool worker_take(struct worker *w, uint32_t total, uint32_t step, struct range *r) {
    struct phase *p = &w->f->phases[w->phase];
    if (w->held > 0)
        phase_credit(w->f->pool, p, w->held, total);
    w->held = phase_take(p, total, step, &r->from, &r->to) ? r->to - r->from : 0;
    return w->held > 0;
}
/* The same for units taken one by one. */
static inline bool worker_take_one(struct worker *w, uint32_t total, uint32_t *unit) {
    struct range r;
    bool taken = worker_take(w, total, 1, &r);
    *unit = taken ? r.from : total;
    return taken;
}
/* After the last unit was refused: waits for everyone's, then the next phase begins. */
static inline void worker_sync(struct worker *w, uint32_t total) {
    phase_wait(w->f->pool, &w->f->phases[w->phase], total);
    w->phase++;
}

/* forward.c: norm and rope of a row's queries and key of one kv head; key and value go into the cache. */
void forward_place(const struct forward *f, uint32_t layer, uint32_t row, uint32_t kv_head);

/* attend.c: places all rows, then f->q [R, Q] and the caches of layer i -> f->mix [R, Q]. Ends with all threads in step. */
void attend(struct worker *w, uint32_t layer);

#endif
