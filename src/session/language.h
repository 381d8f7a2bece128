/* language.h - which ids an answer may go on with, as it is written.
 *
 * A generation has one: it begins after the thinking, is told every id that is taken, and says which
 * may come next, which have to come, and when the answer is over. Everything follows from the ids so
 * far, so that it is the same alone, in a batch, and with guesses. */
#ifndef SLM_SESSION_LANGUAGE_H
#define SLM_SESSION_LANGUAGE_H

#include "session/constraint.h"

#define FORCED_BYTES 512 /* looked ahead at once */

struct language_setup {
    const struct grammar *format; /* of the whole answer, or NULL */
    const struct grammar *calls;  /* of calls of tools, or NULL */
    bool must_call;               /* the whole answer is calls */
    enum call_dialect dialect;
    bool inside;                  /* the prompt ended inside a thinking block */
    bool may_think;               /* a block may come first */
    bool ignore_stop;             /* ids that end an answer are never allowed */
};

enum language_state {
    LANGUAGE_NONE,     /* there is no constraint */
    LANGUAGE_THINKING, /* inside the block */
    LANGUAGE_FREE,     /* text, until the token that opens a call */
    LANGUAGE_BEGINS,   /* of the language, or what may stand before it */
    LANGUAGE_ON,
};

struct language {
    const slm_engine *engine;
    struct language_setup setup;
    enum language_state state;
    struct matcher *format, *calls; /* owned */
    struct matcher *now;            /* the one in force; borrowed from the two above */
    int32_t marker;                 /* id that opens a call; -1 none */
    int32_t blank[2];               /* ids of one and of two line ends; -1 none */
    unsigned blanks;                /* line ends that may still come before the answer */
    bool first;                     /* no id was taken yet */
    uint32_t *mask;                 /* [words], owned */
    size_t words;
    int32_t *forced; /* [n_forced] ids that have to come next, from `at` on; owned */
    size_t n_forced, at;
};

/* Also without a grammar: then nothing is allocated and every id may come. Whatever it returns,
 * language_end has to follow. */
slm_err language_begin(struct language *l, const slm_engine *e, const struct language_setup *setup,
                       slm_why *why);
void language_end(struct language *l);
/* The id that has to come next, -1: there is a choice. Its text counts, not what the model would say. */
static inline int32_t language_forced(const struct language *l) {
    return l->at < l->n_forced ? l->forced[l->at] : -1;
}
/* Bit set of the ids that may come next; NULL: all. E_NOMEM, E_BUDGET, E_STATE when none may. */
slm_err language_mask(struct language *l, const uint32_t **mask, slm_why *why);
/* An id was taken: by choice out of the mask, or forced, or (in the thinking) by a budget.
 * Allocates while forced text is made into ids. E_STATE when it is not of the language. */
slm_err language_take(struct language *l, int32_t id, slm_why *why);
/* Thinking was closed for the model, and what stands before an answer written. */
slm_err language_answer(struct language *l, slm_why *why);
/* The answer is complete and nothing can follow. */
bool language_over(const struct language *l);
/* Copies up to room of the ids that have to come next; for looking ahead. */
uint32_t language_ahead(const struct language *l, int32_t *ids, uint32_t room);

#endif
