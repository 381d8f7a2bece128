/* draft.h - guesses of the next tokens, which the model then checks several at a time.
 *
 * A guess costs a row of a pass and is worth a whole pass when it is right; it never changes what
 * comes out, because each id is still chosen from the model's own logits with the draw that its
 * position has (sampler.h), and a guess counts only when it equals that id. Two sources: what followed
 * the same words earlier in the prompt or output (lookup), and a smaller model with the same
 * tokenizer. How many are tried follows from what a pass of n rows costs here and how often guesses
 * were right lately: when they are not worth it, none are made. */
#ifndef SLM_SESSION_DRAFT_H
#define SLM_SESSION_DRAFT_H

#include "base/mem.h"
#include "slm.h"

#define DRAFT_MAX 15 /* guesses of one pass at most */

struct drafter;

struct draft_options {
    bool lookup;        /* guess from the sequence itself */
    slm_session *model; /* a session on a model with the same tokenizer, borrowed; NULL: none */
    uint32_t max;       /* 1 .. DRAFT_MAX */
    uint32_t context;   /* ids that the sequence may reach */
    uint32_t vocab;     /* guesses are below this; 0: the two models have the same ids */
};
slm_err drafter_new(const struct slm_hooks *h, const struct draft_options *o, struct drafter **out,
                    slm_why *why);
void drafter_free(struct drafter *d);
uint64_t drafter_bytes(uint32_t context);
/* A new sequence begins, or the old one changed other than by appending. What was learnt about costs
 * stays. */
void drafter_reset(struct drafter *d);
/* Guesses what follows ids [n] (the whole sequence so far, ending with the id not yet evaluated).
 * most: as many as there is room for. Returns how many were written to out [<= min(most, max)].
 * Allocates nothing. Cost of lookup: a few steps per new id, whatever n is. */
uint32_t drafter_guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                       int32_t *out);
/* What became of a pass: `rows` were evaluated (1 + guesses), `right` guesses were accepted, it took
 * ns. Also called for passes without guesses: they tell what one row costs. */
void drafter_learn(struct drafter *d, uint32_t rows, uint32_t right, uint64_t ns);

struct draft_counts {
    uint64_t guessed, right, passes;
    uint64_t model_ns; /* spent in the smaller model */
};
void drafter_counts(const struct drafter *d, struct draft_counts *out);

#endif
