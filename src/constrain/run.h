/* run.h - places in an automaton, and the matcher made of them.
 *
 * A place is a node and a stack; what was read so far has led to a set of places, nearly always one.
 * Stacks are lists of cells that share their lower parts: a cell never changes, and its parent always
 * has a lower index, so dropping everything above an index forgets the newest cells. */
#ifndef SLM_CONSTRAIN_RUN_H
#define SLM_CONSTRAIN_RUN_H

#include "constrain/grammar.h"
#include "constrain/vocab.h"

#define SET_MOST 4096    /* places at once */
#define DEPTH_MOST 10000 /* frames of a stack */
#define KEYS_MOST 60000  /* free keys of one object */
#define KEYS_OPEN UINT32_MAX

struct place {
    uint32_t node;
    uint32_t stack; /* top cell, 0: the outermost frame */
    uint32_t
        keys; /* of the object whose frame this is: newest key, 0: none; KEYS_OPEN: not known */
    uint64_t hash; /* inside a free key: of its bytes so far */
};
struct cell {
    uint32_t ret, parent, keys; /* where to go on, with which stack and keys */
    uint32_t depth;
    uint64_t mix; /* of all down to the bottom: stacks that differ in it differ */
};
struct used_key {
    uint64_t hash, mix;
    uint32_t parent, count;
};

struct run {
    const struct slm_hooks *hooks;
    const struct grammar *g;
    struct place *places;
    struct cell *cells;    /* cells[0] stands for the bottom */
    struct used_key *keys; /* keys[0] for no keys */
    uint32_t n_places, cap_places, n_cells, cap_cells, n_keys, cap_keys;
    bool open;                /* the bottom is not the end of the text, only of what is known */
    bool popped;              /* open: the bottom frame could end here */
    bool guarded;             /* open: whether a key was used before is not known here */
    bool no_memory, too_much; /* something was left out for that reason */
};
struct run_mark {
    uint32_t places, cells, keys;
};

slm_err run_init(struct run *r, const struct slm_hooks *h, const struct grammar *g, slm_why *why);
void run_free(struct run *r);
static inline struct run_mark run_mark(const struct run *r) {
    return (struct run_mark){ r->n_places, r->n_cells, r->n_keys };
}
static inline void run_back(struct run *r, struct run_mark m) {
    r->n_places = m.places;
    r->n_cells = m.cells;
    r->n_keys = m.keys;
}
/* Adds a place to the set that begins at index `first` and ends the list, and all that it leads to by
 * ending frames. */
void run_add(struct run *r, uint32_t first, struct place p);
/* The set behind the byte, appended to the list; returns its size. */
uint32_t run_step(struct run *r, uint32_t first, uint32_t n, uint8_t byte);
/* A new frame for p, to be left at `ret`; false when there is no room. */
bool run_push(struct run *r, struct place *p, uint32_t ret);
/* The same as run_step for s [n] from one place; the set is left at the end of the list. */
uint32_t run_text(struct run *r, struct place from, const char *s, size_t n);
/* Where a frame's end leads, appended as a set; 0 for the outermost frame. */
uint32_t run_leave(struct run *r, struct place p);

struct level { /* of a walk: the set before an entry of this depth */
    uint32_t first, n;
    struct run_mark mark; /* with the set */
};
#define DENSE_SLOTS 64
struct dense { /* a node's edges by byte */
    uint32_t node;
    uint32_t next[256];
};
#define DENSE_NONE UINT32_MAX
#define DENSE_SLOW ((uint32_t)1 << 31)
#define DENSE_KEY ((uint32_t)1 << 30)
#define DENSE_PUSH ((uint32_t)1 << 29) /* the rest is an edge that makes a frame */
#define DENSE_POP ((uint32_t)1 << 28)  /* to a node that only ends its frame */
#define DENSE_FLAGS (DENSE_SLOW | DENSE_KEY | DENSE_PUSH | DENSE_POP)

struct id_list {
    uint32_t *v;
    uint32_t n, cap;
};

struct matcher {
    struct slm_hooks hooks;
    const struct grammar *g;
    const struct constrain_vocab *v;
    struct run run; /* the places at hand are the first n_now of the list */
    uint32_t n_now;
    uint32_t *mask;     /* [words] */
    uint32_t *building; /* [words] mask of a node on its way to the cache */
    uint32_t words;
    bool mask_valid;
    struct level *levels; /* [longest + 1] */
    uint32_t *plain; /* [longest + 1] of a walk: nodes on the path, while nothing else changes */
    struct dense *dense; /* [DENSE_SLOTS] */
    struct id_list pops, guards;
};

/* Computes m->mask. */
slm_err mask_fill(struct matcher *m, slm_why *why);

#endif
