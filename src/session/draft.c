/* draft.c - guesses of the next tokens, from the sequence itself and from a smaller model.
 *
 * In: the ids so far; times of passes.     Out: the guesses that are worth a row each, often none.
 *   lookup       draft_lookup.c: costs nothing, and whether it would have been right is known after
 *                every id, guessed or not
 *   the model    one pass of it per guess, the most likely id each; how far the second is behind
 *                tells how far to trust it. It is stopped where one more guess is not worth its time
 *   the choice   draft_pace.c: whichever source promises more ids per time, if more than plain
 *
 * The smaller model's session follows the sequence lazily, when it is asked. Reading a prompt is an
 * investment that the account of draft_pace.c does not carry: it is made once per text, and not in
 * the next 1, 3, 7 .. 63 texts if the model did not earn anything. Its first failure of any kind (also
 * being cancelled) ends its use until the next reset; the sequence itself is not concerned. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "session/draft_lookup.h"
#include "session/runner.h"

#include "session/draft.h"

#define GAPS 5           /* classes of the model's certainty */
#define CATCH_UP 4       /* ids that are evaluated as fast as one */
#define SHARED_BY 32     /* passes that catching up has to pay off in */
#define JUDGED_AFTER 8   /* rounds of the model in one text */
#define PAUSE_MAX 63     /* texts */
#define PROBE_SHARE .005 /* of the passes, for asking a model that is thought to be of no use */

/* The smaller model, and what is known about it. */
struct helper {
    slm_session *session; /* borrowed; NULL: none */
    uint32_t vocab, context;
    uint32_t agreed; /* ids of the session that are those of the sequence; UINT32_MAX: not synced */
    bool off;        /* until the next reset */
    double pass_ns;  /* of one id, with what is read from its logits; 0: unknown */
    double row_ns;   /* of one more id when catching up; 0: unknown */
    int32_t id[DRAFT_MAX];   /* [made] what it last said, of which the first were offered */
    uint32_t gap[DRAFT_MAX]; /* and how certain it was */
    uint32_t made, from;     /* for the ids from this place on */
    struct odds odds[GAPS], any;
    uint32_t idle;        /* passes since it was last asked */
    uint32_t rounds;      /* in this text */
    double gain;          /* of these, in passes of one row */
    uint32_t pause, skip; /* texts without it: next time, still */
};

struct drafter {
    struct slm_hooks hooks;
    struct draft_options o;
    uint32_t *index;
    struct lookup lookup;
    struct pace pace;
    struct helper model;
    uint32_t length;  /* of the sequence at the last call */
    uint32_t offered; /* guesses of the last call */
    bool by_model;    /* they are the model's */
    double extra;     /* what making them took, in passes of one row */
    struct draft_counts counts;
};

/* ------------------------------------------------------------------ the smaller model */

/* How far the most likely id is ahead of the second, in classes; and what is believed of them. */
static const double gap_limit[GAPS - 1] = { .5, 1, 2, 4 };
static const double gap_prior[GAPS] = { .35, .5, .65, .8, .92 };
#define ANY_PRIOR .6

/* The most likely of n ids and its class. Logits that are no numbers never win. */
static int32_t best_of(const float *logits, uint32_t n, uint32_t *gap) {
    float first = -INFINITY, second = -INFINITY;
    uint32_t best = 0;
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > second) {
            second = logits[i];
            if (second > first) {
                second = first;
                first = logits[i];
                best = i;
            }
        }
    *gap = 0;
    while (*gap < GAPS - 1 && first - second >= (float)gap_limit[*gap])
        (*gap)++;
    return (int32_t)best;
}

/* Moving averages that a single interruption does not spoil. */
static void smooth(double *ns, double x) {
    if (*ns == 0)
        *ns = x;
    else
        *ns += ((x < 2 * *ns ? x : 2 * *ns) - *ns) / 8;
}

static double in_passes(const struct drafter *d, double ns) {
    return ns / d->pace.one_ns;
}

static double model_pass(const struct drafter *d) {
    const struct helper *m = &d->model;
    return m->pass_ns > 0 ? in_passes(d, m->pass_ns) : .25;
}

/* What bringing the model to the end of n ids costs beyond a pass of it. A prompt is not counted. */
static double model_lag(const struct drafter *d, uint32_t n) {
    const struct helper *m = &d->model;
    if (m->agreed == UINT32_MAX || n - m->agreed <= CATCH_UP)
        return 0;
    return (n - m->agreed) * (m->row_ns > 0 ? in_passes(d, m->row_ns) : model_pass(d) / 8);
}

/* Evaluates ids [n] in pieces that the session takes. */
static slm_err model_append(struct helper *m, const int32_t *ids, uint32_t n) {
    while (n > 0) {
        uint32_t piece = n < m->session->runner.shape.chunk ? n : m->session->runner.shape.chunk;
        TRY(slm_session_append(m->session, ids, piece, false, NULL, NULL, NULL));
        ids += piece;
        n -= piece;
    }
    return SLM_OK;
}

/* Brings the session to ids [n - 1] of a new text. Whatever it held in common is kept. */
static slm_err model_begin(struct helper *m, const int32_t *ids, uint32_t n) {
    size_t reused = 0;
    if (n > 1)
        TRY(slm_session_sync(m->session, ids, n - 1, &reused, NULL));
    else
        TRY(slm_session_truncate(m->session, 0, NULL));
    m->agreed = n - 1;
    return SLM_OK;
}

/* Removes guesses that were wrong, and one id more if nothing would be left to evaluate. */
static slm_err model_rewind(struct helper *m, const int32_t *ids, uint32_t n) {
    const int32_t *held = slm_session_ids(m->session);
    size_t length = slm_session_length(m->session);
    if (length < m->agreed) /* its owner used it meanwhile */
        return SLM_E_STATE;
    while (m->agreed < length && m->agreed < n - 1 && held[m->agreed] == ids[m->agreed])
        m->agreed++;
    if (m->agreed >= n)
        m->agreed = n - 1;
    return slm_session_truncate(m->session, m->agreed, NULL);
}

/* Evaluates ids [n] (a few) and notes what the model says next. */
static slm_err model_step(struct helper *m, const int32_t *ids, uint32_t n) {
    uint64_t start = clock_ns();
    TRY(model_append(m, ids, n));
    const float *logits = slm_session_logits(m->session);
    if (logits == NULL)
        return SLM_E_STATE;
    m->id[m->made] = best_of(logits, m->vocab, &m->gap[m->made]);
    m->made++;
    smooth(&m->pass_ns, (double)(clock_ns() - start));
    return SLM_OK;
}

/* The first guess: what the model says after ids [n]. */
static slm_err model_first(struct helper *m, const int32_t *ids, uint32_t n) {
    m->made = 0;
    m->from = n;
    if (m->agreed == UINT32_MAX)
        TRY(model_begin(m, ids, n));
    else
        TRY(model_rewind(m, ids, n));
    uint32_t behind = n - m->agreed;
    if (behind > CATCH_UP) {
        uint64_t start = clock_ns();
        TRY(model_append(m, ids + m->agreed, behind - 1));
        smooth(&m->row_ns, (double)(clock_ns() - start) / (behind - 1));
        m->agreed = n - 1;
    }
    TRY(model_step(m, ids + m->agreed, n - m->agreed));
    m->agreed = n;
    return SLM_OK;
}

/* Whether a further guess is worth its pass: ids and chance are those of the k guesses so far. */
static bool worth_another(const struct drafter *d, uint32_t k, double ids, double chance) {
    const struct pace *p = &d->pace;
    double pass = model_pass(d), next = odds_of(&d->model.any, ANY_PRIOR);
    if (k + 2 > pace_reach(p))
        return false;
    double now = pace_rows(p, 1 + k) + d->extra, then = pace_rows(p, 2 + k) + d->extra + pass;
    return pace_worst(p, 2 + k) + d->extra + pass - 1 <= p->account &&
           (ids + chance * next) * now > ids * then;
}

/* Up to `most` guesses after ids [n]; *made of them, the first of m->id, are worth their rows. */
static slm_err model_guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                           uint32_t *made) {
    struct helper *m = &d->model;
    double value[DRAFT_MAX + 1] = { 1 }, chance = 1; /* value[k]: ids that k guesses promise */
    uint32_t k = 0;
    bool first = m->pass_ns == 0; /* to know what it costs is part of the investment */
    d->extra = model_lag(d, n);
    TRY(model_first(m, ids, n));
    for (;; first = false) {
        d->extra += first ? 0 : model_pass(d);
        chance *= odds_of(&m->odds[m->gap[k]], gap_prior[m->gap[k]]);
        value[k + 1] = value[k] + chance;
        k++;
        if (k == most || !worth_another(d, k, value[k], chance))
            break;
        TRY(model_step(m, &m->id[k - 1], 1));
    }
    /* what the model took is spent: is the last guess worth its row? */
    while (k > 0 && value[k] * (pace_rows(&d->pace, k) + d->extra) <
                        value[k - 1] * (pace_rows(&d->pace, 1 + k) + d->extra))
        k--;
    *made = k;
    return SLM_OK;
}

/* Ids have come since the model spoke: was it right? Also about guesses that were not offered. */
static void model_check(struct helper *m, const int32_t *ids, uint32_t n) {
    for (uint32_t j = 0; j < m->made && m->from + j < n; j++) {
        bool right = m->id[j] == ids[m->from + j];
        odds_learn(&m->odds[m->gap[j]], right);
        odds_learn(&m->any, right);
        if (!right)
            break;
    }
    m->made = 0;
}

/* Guesses that the model could make after n ids. */
static uint32_t model_room(const struct helper *m, uint32_t n, uint32_t most) {
    if (m->session == NULL || m->off || m->skip > 0 || n >= m->context)
        return 0;
    return most < m->context - n ? most : m->context - n;
}

/* Whether to ask the model; *rate is what it promises, as pace_best has it. A model that is thought
 * to be of no use is asked now and then, as far as PROBE_SHARE of the passes without it covers the
 * cost. */
static bool model_wanted(const struct drafter *d, uint32_t n, uint32_t room, double *rate) {
    double p[DRAFT_MAX], lag = model_lag(d, n);
    struct pace_offer offer = {
        .p = p, .most = room, .each = model_pass(d), .share = lag / SHARED_BY, .once = lag
    };
    for (uint32_t j = 0; j < room; j++)
        p[j] = odds_of(&d->model.any, ANY_PRIOR);
    if (pace_best(&d->pace, &offer, rate) > 0)
        return true;
    double cost = offer.each + lag - 1;
    return cost + pace_rows(&d->pace, 2) <= PROBE_SHARE * d->model.idle &&
           cost + pace_worst(&d->pace, 2) <= d->pace.account;
}

static uint32_t ask_model(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t room,
                          int32_t *out) {
    struct helper *m = &d->model;
    uint64_t start = clock_ns();
    uint32_t made = 0;
    if (model_guess(d, ids, n, room, &made) != SLM_OK) {
        m->off = true;
        m->made = made = 0;
    }
    memcpy(out, m->id, made * sizeof *out);
    m->idle = 0;
    d->by_model = true;
    d->counts.model_ns += clock_ns() - start;
    return made;
}

/* Judges the model by the text that ends here. */
static void model_reset(struct helper *m) {
    if (m->rounds >= JUDGED_AFTER) {
        m->pause = m->gain > 0 ? 0 : 2 * m->pause + 1;
        if (m->pause > PAUSE_MAX)
            m->pause = PAUSE_MAX;
        m->skip = m->pause;
    } else if (m->skip > 0) {
        m->skip--;
    }
    for (uint32_t i = 0; i < GAPS; i++)
        odds_fade(&m->odds[i]);
    odds_fade(&m->any);
    m->agreed = UINT32_MAX;
    m->off = false;
    m->made = m->idle = m->rounds = 0;
    m->gain = 0;
}

/* ------------------------------------------------------------------ guessing */

/* Ids that cannot be the model's, if the two vocabularies differ in their padding. */
static uint32_t only_known(const struct drafter *d, const int32_t *out, uint32_t k) {
    for (uint32_t j = 0; j < k; j++)
        if (out[j] < 0 || (d->o.vocab > 0 && (uint32_t)out[j] >= d->o.vocab))
            return j;
    return k;
}

static uint32_t guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                      int32_t *out) {
    double p[DRAFT_MAX], lookup_rate = 1, model_rate = 1;
    uint32_t k = 0, room = model_room(&d->model, n, most);
    if (d->o.lookup) {
        struct pace_offer offer = { .p = p, .most = lookup_guess(&d->lookup, ids, most, out, p) };
        k = pace_best(&d->pace, &offer, &lookup_rate);
    }
    if (room > 0 && model_wanted(d, n, room, &model_rate) && (k == 0 || model_rate > lookup_rate))
        return ask_model(d, ids, n, room, out);
    return k;
}

uint32_t drafter_guess(struct drafter *d, const int32_t *ids, uint32_t n, uint32_t most,
                       int32_t *out) {
    d->offered = 0;
    d->by_model = false;
    d->extra = 0;
    if (n == 0 || n > d->o.context)
        return 0;
    if (n < d->length || n - d->length > DRAFT_MAX + 1) { /* a prompt, not the outcome of a pass */
        d->model.agreed = UINT32_MAX;
        d->model.made = 0;
    }
    d->length = n;
    model_check(&d->model, ids, n);
    if (d->o.lookup)
        lookup_update(&d->lookup, ids, n);
    if (most > d->o.max)
        most = d->o.max;
    if (most == 0 || !pace_ready(&d->pace))
        return 0;
    d->offered = only_known(d, out, guess(d, ids, n, most, out));
    return d->offered;
}

void drafter_learn(struct drafter *d, uint32_t rows, uint32_t right, uint64_t ns) {
    if (rows == 0 || rows > PACE_ROWS)
        return;
    uint32_t guesses = rows - 1 < d->offered ? rows - 1 : d->offered;
    if (right > guesses)
        right = guesses;
    pace_learn(&d->pace, rows, ns);
    pace_settle(&d->pace, rows, 1 + right, d->extra);
    d->model.idle++;
    if (d->by_model) {
        d->model.rounds++;
        d->model.gain += 1 + right - d->extra - pace_rows(&d->pace, rows);
    }
    d->counts.passes++;
    d->counts.guessed += guesses;
    d->counts.right += right;
    d->offered = 0;
    d->by_model = false;
    d->extra = 0;
}

void drafter_counts(const struct drafter *d, struct draft_counts *out) {
    *out = d->counts;
}

/* ------------------------------------------------------------------ begin and end */

void drafter_reset(struct drafter *d) {
    lookup_reset(&d->lookup);
    model_reset(&d->model);
    d->length = d->offered = 0;
    d->by_model = false;
    d->extra = 0;
}

uint64_t drafter_bytes(uint32_t context) {
    return sizeof(struct drafter) + lookup_words(context) * sizeof(uint32_t);
}

slm_err drafter_new(const struct slm_hooks *h, const struct draft_options *o, struct drafter **out,
                    slm_why *why) {
    uint64_t words = lookup_words(o->context);
    *out = NULL;
    if (o->max < 1 || o->max > DRAFT_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%u guesses at once, allowed are 1 to %d",
                    o->max, DRAFT_MAX);
    struct drafter *d = mem_zalloc(h, 1, sizeof *d);
    uint32_t *index = words > SIZE_MAX ? NULL : mem_alloc(h, (size_t)words, sizeof *index);
    if (d == NULL || index == NULL) {
        mem_free(h, index);
        mem_free(h, d);
        return fail_nomem(why, "index of drafts", (size_t)drafter_bytes(o->context));
    }
    hooks_init(&d->hooks, h);
    d->o = *o;
    d->index = index;
    lookup_init(&d->lookup, o->context, index);
    pace_init(&d->pace);
    d->model.session = o->model;
    d->model.agreed = UINT32_MAX;
    if (o->model != NULL) {
        d->model.vocab = o->model->runner.engine->facts.m.vocab;
        d->model.context = slm_session_context(o->model);
    }
    *out = d;
    return SLM_OK;
}

void drafter_free(struct drafter *d) {
    if (d == NULL)
        return;
    struct slm_hooks hooks = d->hooks;
    mem_free(&hooks, d->index);
    mem_free(&hooks, d);
}
