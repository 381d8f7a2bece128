/* draft_lookup.c - what followed the same ids earlier in a sequence (draft_lookup.h).
 *
 * In: ids [n], growing.     Out: a place in them whose continuation is the guess.
 * A place is the position after an n-gram, so it is at least 2 and 0 can mean none. The n-gram that
 * ends the sequence enters when the next id does: what is found always has an id after it.
 * The longest n-grams are looked for first; the longest match wins, of equal ones the latest. While a
 * place is followed its match grows with the sequence and cannot be beaten by another, because the
 * longest match grows by one per id at most. Allocates nothing. */
#include <string.h>

#include "session/draft_lookup.h"

#define FIRM 8  /* a match of so many ids is followed without searching */
#define GRACE 4 /* ids that may differ after a firm match */
#define MAX_BITS 24

static const uint32_t gram[LOOKUP_LEVELS] = { 8, 4, 2 };

/* Matches of 0, 1, 2, 3, 4-7, 8-15, 16-31 and more ids; what is believed of each at first. 0 and 1
 * only occur where a firm match was interrupted. */
static const double prior[LOOKUP_CLASSES] = { .3, .4, .35, .45, .6, .75, .85, .92 };

static uint32_t class_of(uint32_t match) {
    uint32_t c = 4;
    if (match < 4)
        return match;
    while (c < LOOKUP_CLASSES - 1 && match >= (uint32_t)1 << (c - 1))
        c++;
    return c;
}

static uint32_t bits_for(uint32_t context) {
    uint32_t bits = 6;
    while (bits < MAX_BITS && (uint32_t)1 << bits < context)
        bits++;
    return bits;
}

uint64_t lookup_words(uint32_t context) {
    return LOOKUP_LEVELS * (((uint64_t)1 << bits_for(context)) + context);
}

void lookup_init(struct lookup *l, uint32_t context, uint32_t *index) {
    memset(l, 0, sizeof *l);
    l->context = context;
    l->bits = bits_for(context);
    for (uint32_t i = 0; i < LOOKUP_LEVELS; i++) {
        l->head[i] = index;
        l->prev[i] = index + ((size_t)1 << l->bits);
        index = l->prev[i] + context;
    }
    lookup_reset(l);
}

void lookup_reset(struct lookup *l) {
    for (uint32_t i = 0; i < LOOKUP_LEVELS; i++)
        memset(l->head[i], 0, sizeof(uint32_t) << l->bits);
    for (uint32_t c = 0; c < LOOKUP_CLASSES; c++)
        odds_fade(&l->odds[c]);
    l->n = l->source = l->match = l->grace = 0;
}

/* ------------------------------------------------------------------ taking in */

/* Of the n ids before `place`. */
static uint32_t hash(const struct lookup *l, const int32_t *ids, uint32_t place, uint32_t n) {
    uint64_t h = n;
    for (uint32_t i = place - n; i < place; i++) {
        h = (h ^ (uint32_t)ids[i]) * 0x9e3779b97f4a7c15U;
        h ^= h >> 32;
    }
    return (uint32_t)((h * 0xd6e8feb86659fd93U) >> (64 - l->bits));
}

static void enter(struct lookup *l, const int32_t *ids, uint32_t place) {
    for (uint32_t i = 0; i < LOOKUP_LEVELS; i++)
        if (place >= gram[i]) {
            uint32_t *head = &l->head[i][hash(l, ids, place, gram[i])];
            l->prev[i][place] = *head;
            *head = place;
            l->steps++;
        }
}

/* The id at the end of the sequence is known: was it the expected one? */
static void follow(struct lookup *l, const int32_t *ids, int32_t id) {
    bool right = ids[l->source] == id;
    odds_learn(&l->odds[class_of(l->match)], right);
    l->steps++;
    l->source++;
    if (right) {
        l->match++;
        return;
    }
    l->grace = l->match >= FIRM ? GRACE : l->grace > 0 ? l->grace - 1 : 0;
    l->match = 0;
    if (l->grace == 0)
        l->source = 0;
}

static void take_in(struct lookup *l, const int32_t *ids) {
    uint32_t place = l->n;
    enter(l, ids, place);
    if (l->source > 0)
        follow(l, ids, ids[place]);
    l->tail[place % LOOKUP_TAIL] = ids[place];
    l->n++;
}

static bool continued(struct lookup *l, const int32_t *ids, uint32_t n) {
    if (n < l->n)
        return false;
    for (uint32_t i = l->n > LOOKUP_TAIL ? l->n - LOOKUP_TAIL : 0; i < l->n; i++)
        if (ids[i] != l->tail[i % LOOKUP_TAIL])
            return false;
    return true;
}

/* ------------------------------------------------------------------ searching */

/* Ids before `place` that equal those before the end, LOOKUP_DEEP at most. */
static uint32_t equal_before(struct lookup *l, const int32_t *ids, uint32_t place) {
    uint32_t most = place < LOOKUP_DEEP ? place : LOOKUP_DEEP, same = 0;
    while (same < most && ids[place - 1 - same] == ids[l->n - 1 - same])
        same++;
    l->steps += same + 1;
    return same;
}

/* Longest match among the latest places of one length of n-gram; 0 when there is none. */
static uint32_t search_level(struct lookup *l, const int32_t *ids, uint32_t level,
                             uint32_t *place) {
    uint32_t best = 0,
             at = l->n >= gram[level] ? l->head[level][hash(l, ids, l->n, gram[level])] : 0;
    for (uint32_t depth = 0; depth < LOOKUP_DEPTH && at > 0; depth++) {
        uint32_t same = equal_before(l, ids, at);
        if (same >= gram[level] && same > best) {
            best = same;
            *place = at;
        }
        at = l->prev[level][at]; /* always smaller: places enter in their order */
    }
    return best;
}

static void search(struct lookup *l, const int32_t *ids) {
    uint32_t place = 0, match = 0;
    for (uint32_t level = 0; level < LOOKUP_LEVELS && match == 0; level++)
        match = search_level(l, ids, level, &place);
    if (match > l->match) {
        l->source = place;
        l->match = match;
        l->grace = 0;
    }
}

void lookup_update(struct lookup *l, const int32_t *ids, uint32_t n) {
    if (!continued(l, ids, n))
        lookup_reset(l);
    while (l->n < n)
        take_in(l, ids);
    if (l->source == 0 || l->match < FIRM)
        search(l, ids);
}

uint32_t lookup_guess(const struct lookup *l, const int32_t *ids, uint32_t k, int32_t *out,
                      double *p) {
    if (l->source == 0)
        return 0;
    for (uint32_t j = 0; j < k; j++) {
        uint32_t from = l->source + j, c = class_of(l->match + j);
        out[j] = from < l->n ? ids[from] : out[from - l->n];
        p[j] = odds_of(&l->odds[c], prior[c]);
    }
    return k;
}
