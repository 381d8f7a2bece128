/* runner.h - what evaluates, and what is evaluated.
 *
 * A runner is one set of worker threads, scratch and rows of logits; a sequence is ids with their
 * keys and values, and the sampler that continues them. A session is a runner with one sequence, a
 * batch one with many: both put rows of their sequences into a pass and run it. */
#ifndef SLM_SESSION_RUNNER_H
#define SLM_SESSION_RUNNER_H

#include "session/draft.h"
#include "session/engine.h"
#include "session/prefix.h"

/* Sizes of a runner and its sequences, from settled options (info.c): plans and openings both go by
 * them, so that they count the same. */
struct runner_shape {
    uint32_t places;       /* sequences: 1, or those of a batch */
    uint32_t context;      /* positions of each at most */
    uint32_t rows;         /* of a pass at most */
    uint32_t chunk;        /* of these, of one sequence at most */
    uint32_t kept;         /* rows of logits that the runner holds */
    uint32_t asked;        /* rows of logits that a pass may give (into the caller's buffer, too) */
    uint32_t guesses;      /* of one sequence in a pass at most; 0: none */
    slm_session *draft;    /* borrowed, or NULL */
    bool cached;           /* has a prefix cache */
    struct kv_pages spare; /* pages for it beyond those of the sequences */
    const char *folder;    /* of the cache, borrowed, or NULL */
    uint64_t disk_bytes;
    enum kv_type kv;
    unsigned threads;
};
struct runner_shape runner_shape_of(const struct model *m, const slm_session_options *settled);
/* What a runner holds besides forward's scratch, logits, and keys and values: ids, samplers, drafters,
 * the tree of the cache. */
uint64_t runner_bytes(const struct model *m, const struct runner_shape *shape);

struct sequence;

struct runner {
    const slm_engine *engine;
    struct slm_hooks hooks;
    struct runner_shape shape;
    const atomic_bool *stop; /* borrowed: ends the pass at hand after a layer */
    struct pool *pool;
    struct kv_pool *kv_pool;       /* of all its sequences */
    struct prefix_cache *prefixes; /* NULL: none */
    struct forward *forward;
    float *logits; /* [kept][vocab] of the last pass, in the order of its slices */
    float *states; /* [rows][hidden] after the final norm, of a pass with a sequence that wants them */
    /* the pass that is being put together */
    int32_t *ids;              /* [rows] */
    struct slice *slices;      /* [places] */
    struct sequence **members; /* [places] whose slices they are */
    struct soft_row *soft;     /* [rows] of images; NULL for a model without them */
    uint32_t n_rows, n_slices;
    bool tapped; /* one of them wants its states */
    uint64_t pass_ns; /* that the last pass took */
};

/* On failure the runner holds nothing. stop is borrowed until runner_close. */
slm_err runner_open(struct runner *r, const slm_engine *e, const struct runner_shape *shape,
                    const atomic_bool *stop, slm_why *why);
void runner_close(struct runner *r); /* after its sequences; also a runner of zeros */

/* One pass: begin, add slices of different sequences, run. A slice is the next n pending ids of q and
 * behind them its guesses, if it has any (n are all that are pending then, and rows is LOGITS_ALL);
 * rows says whose logits are wanted. */
void runner_begin(struct runner *r);
void runner_add(struct runner *r, struct sequence *q, uint32_t n, enum logit_rows rows);
/* Afterwards q->rows are the logits of its slice's rows that were asked for (NULL: none),
 * q->logits those of its last position, and q->states its rows' states if it wants them. Errors as forward_run: no sequence has grown then. */
slm_err runner_run(struct runner *r, slm_why *why);

/* ------------------------------------------------------------------ sequence.c */

/* Invariant: ids[0..n) is the sequence; the first kv_length(kv) of them are evaluated, and `logits`,
 * when there, belong to the last evaluated one. Ids beyond that are pending, and are evaluated by
 * whoever needs their logits. */
struct sequence {
    struct runner *runner;
    struct kv *kv;
    struct sampler *sampler;
    struct drafter *drafter; /* NULL: no speculation */
    int32_t *ids;            /* [context] */
    size_t n;
    const float *logits;      /* [vocab] in the runner's rows: valid until its next pass; or NULL */
    const float *rows;        /* of the last pass, see runner_run */
    bool wants_states;        /* in its passes */
    const float *states;      /* [n][hidden] of the last pass: valid until the next; or NULL */
    int32_t guess[DRAFT_MAX]; /* [n_guess] ids that may follow; evaluated beyond n after a pass */
    uint32_t n_guess;
    uint32_t pages_kept;     /* whole pages that sequence_keep_pages has seen */
    bool long_rope;          /* factors that kv was filled with */
    uint64_t salt;           /* of the prefix cache; of a sequence that was cleared: 0 */
    struct prefix_note note; /* what the prefix cache gave, and why not more */
    size_t expect;           /* announced length */
    size_t reevaluated; /* tokens evaluated again because of the rope switch, since last asked */
};

slm_err sequence_open(struct sequence *q, struct runner *r, slm_why *why);
void sequence_close(struct sequence *q); /* also one of zeros */
void sequence_clear(struct sequence *q); /* to none, as it was opened */
static inline size_t sequence_pending(const struct sequence *q) {
    size_t held = kv_length(q->kv); /* more than n while guesses are looked at */
    return held < q->n ? q->n - held : 0;
}
/* Drops evaluated positions from n on; to 0 when a sliding window cannot go back that far. The ids
 * stay. */
void sequence_rewind(struct sequence *q, uint32_t n);
/* The last place up to `end` where the sequence may be cut: not inside an image, which is read whole. */
uint32_t sequence_whole(const struct sequence *q, uint32_t end);
/* Chooses the rope factors for a sequence of `length` positions; starts over if they changed. */
void sequence_choose_rope(struct sequence *q, size_t length);
/* Takes the longest beginning of ids that the cache has, but not the last id, whose logits are wanted.
 * Nothing of q is evaluated before, and its rope factors are chosen. */
void sequence_reuse(struct sequence *q);
/* Remembers in the cache, if there is one, what is evaluated: all of it, or whole pages (between chunks
 * and in an answer, before a sliding window leaves them behind). */
void sequence_keep(const struct sequence *q);
void sequence_keep_pages(struct sequence *q);
/* Writes it to the cache's folder; a failure goes to the log. */
void sequence_save(const struct sequence *q);
/* A prompt has been evaluated: keeps it; and saves it where an answer would leave it behind. */
void sequence_keep_prompt(const struct sequence *q);
/* E_ARG for an id that the model has no row for. */
slm_err sequence_check_ids(const struct runner *r, const int32_t *ids, size_t n, slm_why *why);
/* Evaluates up to position `end` in chunks, with the logits of the last one when it is the sequence's
 * end. on_prefill may be NULL; false, or the runner's stop, gives E_CANCELLED between chunks. */
typedef bool (*prefill_fn)(void *user, size_t done, size_t total);
slm_err sequence_evaluate_to(struct sequence *q, size_t end, prefill_fn on_prefill, void *user,
                             slm_why *why);
/* Everything that is pending, so that there are logits. */
slm_err sequence_evaluate(struct sequence *q, prefill_fn on_prefill, void *user, slm_why *why);

/* ------------------------------------------------------------------ session.c */

struct slm_session {
    struct runner runner;
    struct sequence sequence;
    uint32_t logit_rows;
    atomic_bool cancelled;
};
/* slm_session_sync with a progress callback */
slm_err session_sync(slm_session *s, const int32_t *ids, size_t n, size_t *reused,
                     prefill_fn on_prefill, void *user, slm_why *why);

#endif
