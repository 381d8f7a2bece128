/* draft_lookup.h - what followed the same ids earlier in a sequence.
 *
 * An index of all n-grams of LOOKUP_LEVELS lengths, kept while the sequence grows: per length a table
 * of the latest place by hash, and per place the one before it with the same hash. A place found is
 * compared with the ids themselves, so a collision, or ids that changed unnoticed, cost a guess and
 * nothing else. A place that turns out right is followed without searching again; one that was right
 * for long is kept for a few ids after it fails (a word was replaced in a text that is repeated).
 *
 * Cost, whatever the sequence is: per id one entry per length; per search LOOKUP_DEPTH places per
 * length, LOOKUP_DEEP ids compared at each. */
#ifndef SLM_SESSION_DRAFT_LOOKUP_H
#define SLM_SESSION_DRAFT_LOOKUP_H

#include "session/draft_pace.h"

#define LOOKUP_LEVELS 3
#define LOOKUP_CLASSES 8
#define LOOKUP_DEPTH 8
#define LOOKUP_DEEP 32
#define LOOKUP_TAIL 8

struct lookup {
    uint32_t context, bits;
    uint32_t *head[LOOKUP_LEVELS]; /* [2^bits] place after the latest n-gram of a hash; 0: none */
    uint32_t
        *prev[LOOKUP_LEVELS];  /* [context] by place: the one before of the same hash; 0: none */
    uint32_t n;                /* ids taken in */
    int32_t tail[LOOKUP_TAIL]; /* the last of them, by place % LOOKUP_TAIL */
    uint32_t source;           /* place of the id that is expected next, < n; 0: none */
    uint32_t match;            /* ids before source that equal the end of the sequence */
    uint32_t grace;            /* ids that may still differ before source is given up */
    struct odds odds[LOOKUP_CLASSES]; /* by match: how often the expected id came */
    uint64_t steps;                   /* entries and comparisons so far */
};

/* 32-bit words of index for sequences of `context` ids. */
uint64_t lookup_words(uint32_t context);
/* index [lookup_words(context)] is borrowed for the lookup's life. */
void lookup_init(struct lookup *l, uint32_t context, uint32_t *index);
/* Forgets the sequence; what is known about matches fades. Cost: the index is cleared. */
void lookup_reset(struct lookup *l);
/* Takes in what is new of ids [n], n <= context, and finds the source for what follows them. Ids that
 * are no continuation of those taken in start over, as far as the last LOOKUP_TAIL show it. */
void lookup_update(struct lookup *l, const int32_t *ids, uint32_t n);
/* What followed the source, k ids: beyond the end of the sequence, what was just guessed. Returns k,
 * or 0 when there is no source. p [k]: how likely guess j is right if those before it are. */
uint32_t lookup_guess(const struct lookup *l, const int32_t *ids, uint32_t k, int32_t *out,
                      double *p);

#endif
