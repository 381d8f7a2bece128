/* draft_pace.h - what guesses cost and what they are worth, learnt while they are made.
 *
 * Everything is counted in passes of one row, so that a machine that becomes slower changes nothing:
 *   cost of a pass of r rows   rows(r) >= 1, learnt per r; between and beyond the known ones straight
 *   worth of k guesses         1 + p1 + p1 p2 + ... + p1..pk ids
 *   cost of k guesses          rows(1 + k), and what making them took
 * The number of guesses with the most ids per time is taken, if that beats plain decoding.
 *
 * Estimates can be wrong and texts can be hostile, so every pass is also settled in an account. It
 * gets PACE_INCOME of each pass, and the difference between what a pass with guesses brought and what
 * it cost; a pass whose guesses could all fail must be covered by it. So whatever happens, the time
 * lost is at most PACE_START passes and PACE_INCOME of all of them. Where rows(r) is not known yet, the
 * account has to cover the worst case, rows that cost as much as passes.
 *
 * Time comes from the caller only; the same numbers give the same decisions. */
#ifndef SLM_SESSION_DRAFT_PACE_H
#define SLM_SESSION_DRAFT_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_ROWS 16     /* rows of a pass at most */
#define PACE_RECENT 7    /* passes whose median is the pace of the machine */
#define PACE_INCOME 0.01 /* of every pass, that may be lost */
#define PACE_START 1.25  /* passes that may be lost at first: enough to try a row and a model */
#define PACE_CAP 8.0     /* most that the account keeps */
#define PACE_MARGIN 0.03 /* what guesses must promise over plain decoding */

struct pace {
    double recent[PACE_RECENT]; /* time of a pass, as of one row, in ns: a ring */
    uint32_t n_recent, at;
    double one_ns;                /* their median: what one row costs */
    double cost[PACE_ROWS + 1];   /* by rows, in passes of one row */
    uint32_t seen[PACE_ROWS + 1]; /* how often, at most 16, halved every 256 passes; 0: unknown */
    uint32_t passes, since_plain; /* since the last halving; since the last pass of one row */
    double account;               /* passes of one row */
};

void pace_init(struct pace *p);
/* A pass of `rows` (1 .. PACE_ROWS) took ns. */
void pace_learn(struct pace *p, uint32_t rows, uint64_t ns);
/* Settles a pass of `rows` that brought `ids` ids, after `extra` passes' worth of making guesses. */
void pace_settle(struct pace *p, uint32_t rows, uint32_t ids, double extra);
/* Whether one row's cost is known, from recent passes too: without it nothing is guessed. */
bool pace_ready(const struct pace *p);
/* Cost of a pass of `rows` (1 .. PACE_ROWS), in passes of one row. */
double pace_rows(const struct pace *p, uint32_t rows);
/* The most that it can be: rows that are not known cost as much as passes, or as more rows did. */
double pace_worst(const struct pace *p, uint32_t rows);
/* Rows that may be tried: twice what is known, so that a wrong extrapolation stays cheap. */
uint32_t pace_reach(const struct pace *p);

struct pace_offer {
    const double *p; /* [most] probability that guess j is right if those before it are */
    uint32_t most;
    double each;  /* what making one guess takes, in passes of one row */
    double share; /* what making any takes, as far as this pass has to earn it */
    double once;  /* the same, whole: what the account has to cover */
};
/* Number of guesses (0 .. most) that is worth most; *rate gets ids per pass of one row (plain: 1). */
uint32_t pace_best(const struct pace *p, const struct pace_offer *o, double *rate);

/* How often guesses of one kind were right: an average over about the last 32. */
struct odds {
    double right, tried;
};
void odds_learn(struct odds *t, bool right);
/* prior: what is believed before anything was seen, with the weight of two guesses. */
double odds_of(const struct odds *t, double prior);
/* A new text begins: three quarters of what was seen no longer count. */
void odds_fade(struct odds *t);

#endif
