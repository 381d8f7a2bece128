/* draft_pace.c - what guesses cost and what they are worth (draft_pace.h has the model).
 *
 * In: times of passes, guesses that were right.     Out: how many guesses to make.
 * Robust against passes that were interrupted: the cost of one row is a median of recent passes, and
 * one observation changes the ratio of r rows to one by half at most, later by a sixteenth of that.
 * Passes of many rows tell about one row too (through their ratio, once it is known), so a growing
 * depth or a busy machine is noticed while nothing but guesses is evaluated. */
#include <string.h>

#include "session/draft_pace.h"

#define SLOPE 0.2       /* of a row, where nothing is known */
#define JUMP 1.5        /* one observation moves a known ratio by this factor at most */
#define SEEN_MAX 16     /* observations that a ratio is an average of */
#define SEEN_FIRM 3     /* from here on a ratio may tell the cost of one row */
#define HALVE_EVERY 256 /* passes after which old ratios count half: a wrong one is tried again */

void pace_init(struct pace *p) {
    memset(p, 0, sizeof *p);
    p->cost[1] = 1;
    p->account = PACE_START;
}

/* ------------------------------------------------------------------ costs */

/* The lower median: of two it is the smaller, because interruptions only add time. */
static double median(const double *x, uint32_t n) {
    double sorted[PACE_RECENT];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = i;
        for (; k > 0 && sorted[k - 1] > x[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = x[i];
    }
    return sorted[(n - 1) / 2];
}

static void learn_one(struct pace *p, double ns) {
    p->recent[p->at] = ns;
    p->at = (p->at + 1) % PACE_RECENT;
    if (p->n_recent < PACE_RECENT)
        p->n_recent++;
    p->one_ns = median(p->recent, p->n_recent);
}

static double within(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

static void learn_ratio(struct pace *p, uint32_t rows, double ratio) {
    double *cost = &p->cost[rows];
    if (p->seen[rows] == 0) {
        *cost = within(ratio, 1, JUMP * rows); /* more rows never take less time */
    } else {
        double to = within(ratio, *cost / JUMP, *cost * JUMP);
        *cost += (to - *cost) / (p->seen[rows] + 1);
        *cost = within(*cost, 1, JUMP * rows);
    }
    if (p->seen[rows] < SEEN_MAX)
        p->seen[rows]++;
}

void pace_learn(struct pace *p, uint32_t rows, uint64_t ns) {
    double time = ns > 0 ? (double)ns : 1;
    if (rows == 1) {
        learn_one(p, time);
        p->since_plain = 0;
    } else if (p->n_recent > 0) {
        if (p->seen[rows] >= SEEN_FIRM)
            learn_one(p, time / p->cost[rows]);
        learn_ratio(p, rows, time / p->one_ns);
        p->since_plain++;
    }
    if (++p->passes == HALVE_EVERY) {
        p->passes = 0;
        for (uint32_t r = 2; r <= PACE_ROWS; r++)
            p->seen[r] /= 2;
    }
}

bool pace_ready(const struct pace *p) {
    return p->n_recent >= 2 && p->since_plain < HALVE_EVERY;
}

double pace_rows(const struct pace *p, uint32_t rows) {
    uint32_t below = rows, above = rows;
    if (rows <= 1 || p->seen[rows] > 0)
        return p->cost[rows];
    while (below > 1 && p->seen[below] == 0)
        below--;
    while (above <= PACE_ROWS && p->seen[above] == 0)
        above++;
    double from = p->cost[below];
    double slope = above <= PACE_ROWS ? (p->cost[above] - from) / (above - below)
                   : below > 1        ? (from - 1) / (below - 1)
                                      : SLOPE;
    return from + (slope > 0 ? slope : 0) * (rows - below);
}

double pace_worst(const struct pace *p, uint32_t rows) {
    uint32_t below = rows, above = rows;
    while (below > 1 && p->seen[below] == 0)
        below--;
    while (above < PACE_ROWS && p->seen[above] == 0)
        above++;
    double worst = p->cost[below] + (rows - below);
    return p->seen[above] > 0 && p->cost[above] < worst ? p->cost[above] : worst;
}

uint32_t pace_reach(const struct pace *p) {
    uint32_t known = PACE_ROWS;
    while (known > 1 && p->seen[known] == 0)
        known--;
    return known * 2 < PACE_ROWS ? known * 2 : PACE_ROWS;
}

/* ------------------------------------------------------------------ decisions */

uint32_t pace_best(const struct pace *p, const struct pace_offer *o, double *rate) {
    uint32_t best = 0, reach = pace_reach(p);
    double chance = 1, ids = 1, most = 1 + PACE_MARGIN;
    for (uint32_t k = 1; k <= o->most && 1 + k <= reach; k++) {
        double time = pace_rows(p, 1 + k) + o->each * k;
        if (pace_worst(p, 1 + k) + o->each * k + o->once - 1 > p->account)
            break;
        chance *= o->p[k - 1];
        ids += chance;
        if (ids / (time + o->share) > most) {
            most = ids / (time + o->share);
            best = k;
        }
    }
    *rate = best > 0 ? most : 1;
    return best;
}

void pace_settle(struct pace *p, uint32_t rows, uint32_t ids, double extra) {
    double lost = pace_rows(p, rows) + extra - ids;
    p->account += PACE_INCOME - lost;
    if (p->account > PACE_CAP)
        p->account = PACE_CAP;
}

/* ------------------------------------------------------------------ odds */

#define ODDS_SPAN 32.0
#define PRIOR_WEIGHT 2.0

void odds_learn(struct odds *t, bool right) {
    t->right += (right ? 1 : 0) - t->right / ODDS_SPAN;
    t->tried += 1 - t->tried / ODDS_SPAN;
}

double odds_of(const struct odds *t, double prior) {
    return (t->right + PRIOR_WEIGHT * prior) / (t->tried + PRIOR_WEIGHT);
}

void odds_fade(struct odds *t) {
    t->right /= 4;
    t->tried /= 4;
}
