/* sampler.c - see sampler.h for the order of steps and their definitions.
 *
 * Works on a list of candidates (key, id); a key is the logit after penalties and temperature. The
 * first pass reads all logits: with top_k (or greedily) it keeps a list of a few k above a rising
 * floor, so that most blocks of 32 ids cost one comparison. Without top_k the list is the whole
 * vocabulary, which is never sorted: top_p and the draw only need the candidate at which the mass,
 * counted from the largest key down, reaches a share of the total, and find it by looking closer and
 * closer into bins of keys. The list is always in the order of ids.
 * Nothing is allocated after sampler_new. */
#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BINS 1024
#define SORT_MAX 1024 /* candidates; shorter lists are sorted */
#define KEYS_MAX 4096 /* candidates that are cut back to top_k at once */
#define REACH 50.0    /* exp(-50) times any vocabulary is below the rounding of a sum */
#define KEY_MAX 3e38f /* a huge quotient must stay finite */
#define BLOCK 32      /* ids in one word of a bit set */

struct candidate {
    float key;
    int32_t id;
};

struct bin {
    double mass;
    uint32_t n;
};

struct sampler {
    const struct slm_hooks *hooks;
    uint32_t vocab;
    const uint32_t *allowed; /* borrowed, [ceil(vocab/32)] or NULL */
    slm_sampling p;
    uint64_t draws;         /* tokens accepted since begin */
    uint32_t *count;        /* [vocab] occurrences in the output */
    uint32_t *seen;         /* bit set: in prompt or output */
    struct candidate *list; /* [vocab] */
    float *values;          /* [vocab] logits with penalties; later scratch */
    union {
        struct bin bins[BINS];
        float keys[KEYS_MAX]; /* while candidates are gathered */
        struct candidate sorted[SORT_MAX];
    };
};

static bool bit(const uint32_t *set, uint32_t id) {
    return (set[id >> 5] >> (id & 31)) & 1u;
}

static void set_bit(uint32_t *set, uint32_t id) {
    set[id >> 5] |= 1u << (id & 31);
}

static size_t words(uint32_t vocab) {
    return ((size_t)vocab + BLOCK - 1) / BLOCK;
}

uint64_t sampler_bytes(uint32_t vocab) {
    return sizeof(struct sampler) + words(vocab) * 4 +
           (uint64_t)vocab * (sizeof(uint32_t) + sizeof(struct candidate) + sizeof(float));
}

slm_err sampler_new(const struct slm_hooks *h, uint32_t vocab, const uint32_t *allowed,
                    struct sampler **out, slm_why *why) {
    *out = NULL;
    struct sampler *s = mem_zalloc(h, 1, sizeof *s);
    if (s == NULL)
        return fail_nomem(why, "sampler", sizeof *s);
    s->hooks = h;
    s->vocab = vocab;
    s->allowed = allowed;
    s->count = mem_zalloc(h, vocab, sizeof *s->count);
    s->seen = mem_zalloc(h, words(vocab), sizeof *s->seen);
    s->list = mem_alloc(h, vocab, sizeof *s->list);
    s->values = mem_alloc(h, vocab, sizeof *s->values);
    if (!s->count || !s->seen || !s->list || !s->values) {
        sampler_free(s);
        return fail_nomem(why, "sampler", (size_t)sampler_bytes(vocab));
    }
    s->p = slm_sampling_default();
    *out = s;
    return SLM_OK;
}

void sampler_free(struct sampler *s) {
    if (s == NULL)
        return;
    mem_free(s->hooks, s->count);
    mem_free(s->hooks, s->seen);
    mem_free(s->hooks, s->list);
    mem_free(s->hooks, s->values);
    mem_free(s->hooks, s);
}

/* One row per parameter: its range is checked and named in one place. */
static slm_err check(const slm_sampling *p, slm_why *why) {
    const struct {
        const char *name;
        float value, low, high;
    } range[] = {
        { "temperature", p->temperature, 0.0f, 100.0f },
        { "top_p", p->top_p, 0.0f, 1.0f },
        { "min_p", p->min_p, 0.0f, 1.0f },
        { "typical_p", p->typical_p, 0.0f, 1.0f },
        { "repetition_penalty", p->repetition_penalty, 0.01f, 100.0f },
        { "presence_penalty", p->presence_penalty, -100.0f, 100.0f },
        { "frequency_penalty", p->frequency_penalty, -100.0f, 100.0f },
    };
    for (size_t i = 0; i < ARRAY_LEN(range); i++)
        if (!(range[i].value >= range[i].low && range[i].value <= range[i].high))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%s is %g, allowed is %g to %g",
                        range[i].name, (double)range[i].value, (double)range[i].low,
                        (double)range[i].high);
    return SLM_OK;
}

slm_err sampler_begin(struct sampler *s, const slm_sampling *p, const int32_t *prompt, size_t n,
                      slm_why *why) {
    TRY(check(p, why));
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || (uint32_t)p->bias[i].id >= s->vocab)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "logit bias for id %d, the model has ids 0 to %u", p->bias[i].id,
                        s->vocab - 1);
        if (isnan(p->bias[i].bias) || p->bias[i].bias > 1e30f)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "logit bias %g for id %d is not a usable number", (double)p->bias[i].bias,
                        p->bias[i].id);
    }
    s->p = *p;
    s->draws = 0;
    memset(s->count, 0, (size_t)s->vocab * sizeof *s->count);
    memset(s->seen, 0, words(s->vocab) * sizeof *s->seen);
    for (size_t i = 0; i < n; i++)
        if (prompt[i] >= 0 && (uint32_t)prompt[i] < s->vocab)
            set_bit(s->seen, (uint32_t)prompt[i]);
    return SLM_OK;
}

void sampler_accept(struct sampler *s, int32_t id) {
    if (id >= 0 && (uint32_t)id < s->vocab) {
        s->count[id]++;
        set_bit(s->seen, (uint32_t)id);
    }
    s->draws++;
}

double sampler_uniform(uint64_t seed, uint64_t i) {
    uint64_t x = seed ^ (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int round = 0; round < 2; round++) {
        x += UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
}

/* ------------------------------------------------------------------ numbers */

/* exp(x) for x <= 0, within 1e-14 of its value; below -700 it is exp(-700). Of our own, so that a
 * seed gives the same text with every C library, and several times as fast. With ln 2 in two parts,
 * x = k (ln 2) / 32 + r and |r| <= ln 2 / 64: exp(r) by its Taylor series to the sixth power, times
 * 2^(k mod 32 / 32) from a table, times a power of two by its bits. */
static double exp_below(double x) {
    static const double root[32] = {
        0x1.0000000000000p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,
        0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,
        0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,
        0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,
        0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
        0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f090p+0, 0x1.a5503b23e255dp+0,
        0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,
        0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e4540p+0,
    };
    static const double shift = 0x1.8p52; /* adding it leaves k in the low bits */
    x = x > -700.0 ? x : -700.0;
    double t = x * 0x1.71547652b82fep5 + shift, k = t - shift, power;
    double r = x - k * 0x1.62e42fefa3800p-6 - k * 0x1.ef35793c76730p-50;
    double low = 1.0 + r + r * r * (1.0 / 2.0 + r * (1.0 / 6.0));
    double high = 1.0 / 24.0 + r * (1.0 / 120.0) + r * r * (1.0 / 720.0);
    uint64_t bits, exponent;
    memcpy(&bits, &t, sizeof bits);
    /* bits / 32 rounds down; what is above k in them leaves through the top */
    exponent = ((bits >> 5) + 1023) << 52;
    memcpy(&power, &exponent, sizeof power);
    return (low + r * r * (r * r) * high) * root[bits & 31] * power;
}

/* Mass of a logit relative to the best one's. */
static double mass_of(float logit, double max) {
    double x = (double)logit - max;
    return x < -REACH ? 0.0 : exp_below(x);
}

/* Index of the largest key, the first among equals. */
static size_t best(const struct candidate *list, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (list[i].key > list[at].key)
            at = i;
    return at;
}

static int by_key(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* k-th largest of v[n] (k from 1 to n) by quickselect; reorders v. */
static float kth_largest(float *v, size_t n, size_t k) {
    size_t low = 0, high = n - 1, want = k - 1;
    while (low < high) {
        float pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] > pivot)
                i++;
            while (v[j] < pivot)
                j--;
            if (i >= j)
                break;
            float t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        /* now v[low..j] >= pivot >= v[j+1..high], and j < high */
        if (want <= j)
            high = j;
        else
            low = j + 1;
    }
    return v[want];
}

static size_t keep_above(struct candidate *list, size_t n, float threshold) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].key >= threshold)
            list[kept++] = list[i];
    return kept;
}

/* ------------------------------------------------------------------ all logits -> candidates */

/* The logits with bias and penalties: the caller's own where there are none, else s->values. */
static const float *adjusted(struct sampler *s, const float *logits) {
    const slm_sampling *p = &s->p;
    bool penalties = p->repetition_penalty != 1.0f || p->presence_penalty != 0.0f ||
                     p->frequency_penalty != 0.0f;
    if (!penalties && p->n_bias == 0)
        return logits;
    memcpy(s->values, logits, (size_t)s->vocab * sizeof *s->values);
    for (size_t i = 0; i < p->n_bias; i++)
        s->values[p->bias[i].id] += p->bias[i].bias;
    for (size_t w = 0; penalties && w < words(s->vocab); w++)
        for (uint32_t set = s->seen[w], k = 0; set != 0; set >>= 1, k++) {
            float *v = &s->values[w * BLOCK + k];
            uint32_t n = s->count[w * BLOCK + k];
            if ((set & 1u) == 0)
                continue;
            *v = *v > 0.0f ? *v / p->repetition_penalty : *v * p->repetition_penalty;
            if (n > 0)
                *v -= p->presence_penalty + p->frequency_penalty * (float)n;
        }
    return s->values;
}

/* The first pass while it runs. A list that is to keep the k largest is cut back to them whenever
 * it is full; the floor is then a little below the k-th, so that logits which the division by the
 * temperature makes equal to it stay. k = 0 keeps all that reach the floor. */
struct gather {
    struct candidate *list;
    float *keys; /* [KEYS_MAX] */
    size_t n, full, k;
    float floor;
};

static void cut_back(struct gather *g) {
    for (size_t i = 0; i < g->n; i++)
        g->keys[i] = g->list[i].key;
    float kth = kth_largest(g->keys, g->n, g->k);
    g->floor = kth - fabsf(kth) * 0x1p-20f;
    g->n = keep_above(g->list, g->n, g->floor);
    if (g->n > g->k + g->full / 2) /* many alike */
        g->full *= 2;
    if (g->full > KEYS_MAX)
        g->k = 0;
}

static void offer(struct gather *g, float x, uint32_t id) {
    if (x >= g->floor && x != -INFINITY) { /* -INFINITY: banned by a bias */
        g->list[g->n++] = (struct candidate){ x < KEY_MAX ? x : KEY_MAX, (int32_t)id };
        if (g->k > 0 && g->n == g->full)
            cut_back(g);
    }
}

static slm_err not_finite(const float *logits, uint32_t first, uint32_t set, slm_why *why) {
    while (!((set & 1u) && !isfinite(logits[first]))) {
        set >>= 1;
        first++;
    }
    return fail(why, SLM_E_NUMERIC, SLM_NO_OFFSET,
                "the logit of id %u is %g: the weights or the computation are damaged", first,
                (double)logits[first]);
}

/* Largest of a whole block; *bits has the largest magnitude's bits (0x7f800000 on: not finite). */
static float block_max(const float *logits, const float *x, uint32_t *bits) {
    uint32_t raw[BLOCK], top = 0;
    float max = x[0];
    memcpy(raw, logits, sizeof raw);
    for (size_t i = 0; i < BLOCK; i++)
        top = (raw[i] & 0x7fffffffu) > top ? raw[i] & 0x7fffffffu : top;
    for (size_t i = 0; i < BLOCK; i++)
        max = x[i] > max ? x[i] : max;
    *bits = top;
    return max;
}

/* Ids of one word of the vocabulary that may come next. */
static uint32_t word_of(const struct sampler *s, const uint32_t *mask, size_t w) {
    uint32_t set = s->allowed != NULL ? s->allowed[w] : UINT32_MAX, tail = s->vocab % BLOCK;
    if (mask != NULL)
        set &= mask[w];
    if (tail > 0 && w == words(s->vocab) - 1)
        set &= (1u << tail) - 1;
    return set;
}

static slm_err gather(struct sampler *s, const float *logits, const uint32_t *mask, size_t k,
                      size_t *n, slm_why *why) {
    const float *x = adjusted(s, logits);
    struct gather g = { s->list, s->keys, 0, 2 * k + 256, k, -INFINITY };
    if (g.full > KEYS_MAX)
        g.k = 0; /* top_k cuts the whole list afterwards */
    for (size_t w = 0; w < words(s->vocab); w++) {
        uint32_t set = word_of(s, mask, w), first = (uint32_t)(w * BLOCK), bits;
        if (set == UINT32_MAX) {
            float max = block_max(logits + first, x + first, &bits);
            if (bits >= 0x7f800000u)
                return not_finite(logits, first, set, why);
            if (max < g.floor)
                continue;
        }
        for (uint32_t id = first; set != 0; set >>= 1, id++) {
            if ((set & 1u) == 0)
                continue;
            if (!isfinite(logits[id]))
                return not_finite(logits, id, set, why);
            offer(&g, x[id], id);
        }
    }
    if (g.n == 0)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET,
                    "no token may come next: all %u are masked or banned", s->vocab);
    *n = g.n;
    return SLM_OK;
}

/* ------------------------------------------------------------------ filters */

static void temperature(struct sampler *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float key = s->list[i].key / s->p.temperature;
        key = key < KEY_MAX ? key : KEY_MAX;
        s->list[i].key = key > -KEY_MAX ? key : -KEY_MAX;
    }
}

static size_t top_k(struct sampler *s, size_t n) {
    if (s->p.top_k == 0 || s->p.top_k >= n)
        return n;
    for (size_t i = 0; i < n; i++)
        s->values[i] = s->list[i].key;
    return keep_above(s->list, n, kth_largest(s->values, n, s->p.top_k));
}

/* Finding the candidate at which the mass, counted from the largest key down (ties by rising id),
 * reaches a share of the whole. */
struct search {
    const struct candidate *list;
    size_t n;
    const float *logits; /* by id, where keys are something else; NULL: the keys */
    double max;          /* of the logits */
    float high, low;     /* it is among the candidates with low <= key <= high, */
    size_t inside;       /* which are so many, */
    double mass, target; /* and those above them have this mass; target: of all */
};

static double mass_in(const struct search *f, const struct candidate *c) {
    return mass_of(f->logits != NULL ? f->logits[c->id] : c->key, f->max);
}

static bool in_range(const struct search *f, float key) {
    return key >= f->low && key <= f->high;
}

/* The bins of a range of keys: 0 holds the largest; what is below REACH falls into the last. */
struct scale {
    double high, factor;
};

static size_t bin_of(const struct scale *c, float key) {
    double at = (c->high - (double)key) * c->factor;
    return at < BINS - 1 ? (size_t)at : BINS - 1;
}

static struct scale scale_of(const struct search *f) {
    double width = (double)f->high - (double)f->low;
    return (struct scale){ (double)f->high, BINS / (width < REACH ? width : REACH) };
}

static void count_bins(struct bin bins[BINS], const struct search *f, const struct scale *c) {
    memset(bins, 0, BINS * sizeof *bins);
    for (size_t i = 0; i < f->n; i++)
        if (in_range(f, f->list[i].key)) {
            struct bin *b = &bins[bin_of(c, f->list[i].key)];
            b->mass += mass_in(f, &f->list[i]);
            b->n++;
        }
}

/* Narrows the range to one bin: its smallest and its largest key. */
static void enter_bin(struct search *f, const struct scale *c, size_t at, size_t inside) {
    float high = -INFINITY, low = INFINITY;
    for (size_t i = 0; i < f->n; i++) {
        float key = f->list[i].key;
        if (in_range(f, key) && bin_of(c, key) == at) {
            high = key > high ? key : high;
            low = key < low ? key : low;
        }
    }
    f->high = high;
    f->low = low;
    f->inside = inside;
}

/* The range has become small, or all of it is alike (and the list has rising ids). */
static struct candidate walk(struct candidate sorted[SORT_MAX], const struct search *f) {
    double mass = f->mass;
    struct candidate last = { 0 };
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (!in_range(f, f->list[i].key))
            continue;
        last = f->list[i];
        if (f->inside <= SORT_MAX)
            sorted[n++] = last;
        else if ((mass += mass_in(f, &last)) >= f->target)
            break;
    }
    if (f->inside > SORT_MAX)
        return last;
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t i = 0; i + 1 < n; i++)
        if ((mass += mass_in(f, &sorted[i])) >= f->target)
            return sorted[i];
    return sorted[n - 1];
}

/* logits and max: see struct search. */
static struct candidate reach_by(struct sampler *s, size_t n, double share, const float *logits,
                                 double max) {
    struct search f = { .list = s->list, .n = n, .logits = logits, .max = max, .inside = n };
    double total = 0.0;
    f.high = f.low = s->list[0].key;
    for (size_t i = 1; i < n; i++) {
        f.high = s->list[i].key > f.high ? s->list[i].key : f.high;
        f.low = s->list[i].key < f.low ? s->list[i].key : f.low;
    }
    for (size_t i = 0; (n <= SORT_MAX || f.low == f.high) && i < n; i++)
        total += mass_in(&f, &s->list[i]);
    while (f.inside > SORT_MAX && f.low < f.high) {
        struct scale c = scale_of(&f);
        size_t at = 0, last = 0;
        count_bins(s->bins, &f, &c);
        for (size_t b = 0; b < BINS; b++) {
            total += f.inside == n ? s->bins[b].mass : 0.0;
            last = s->bins[b].n > 0 ? b : last;
        }
        /* bin 0 holds the largest key, and only a bin with mass ends this walk: never an empty one */
        while (at < last && f.mass + s->bins[at].mass < share * total)
            f.mass += s->bins[at++].mass;
        enter_bin(&f, &c, at, s->bins[at].n);
    }
    f.target = share * total;
    return walk(s->sorted, &f);
}

static struct candidate reach(struct sampler *s, size_t n, double share) {
    return reach_by(s, n, share, NULL, (double)s->list[best(s->list, n)].key);
}

/* What comes no later than `last` in the order of keys. */
static size_t keep_until(struct candidate *list, size_t n, const struct candidate *last) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (by_key(&list[i], last) <= 0)
            list[kept++] = list[i];
    return kept;
}

static size_t top_p(struct sampler *s, size_t n) {
    if (s->p.top_p >= 1.0f)
        return n;
    struct candidate last = reach(s, n, (double)s->p.top_p);
    return keep_until(s->list, n, &last);
}

static size_t min_p(struct sampler *s, size_t n) {
    if (s->p.min_p <= 0.0f)
        return n;
    double max = (double)s->list[best(s->list, n)].key, least = log((double)s->p.min_p);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)s->list[i].key - max >= least)
            s->list[kept++] = s->list[i];
    return kept;
}

/* Orders candidates by how far -log p is from the entropy (log p = key - max - log of the total), and
 * keeps the nearest. Their keys wait in values meanwhile. */
static size_t typical(struct sampler *s, size_t n) {
    if (s->p.typical_p >= 1.0f || n < 2)
        return n;
    double max = (double)s->list[best(s->list, n)].key, total = 0.0, weighted = 0.0;
    for (size_t i = 0; i < n; i++) {
        double mass = mass_of(s->list[i].key, max);
        total += mass;
        weighted += mass > 0.0 ? mass * ((double)s->list[i].key - max) : 0.0;
    }
    double mean = weighted / total; /* of key - max: log of the total minus the entropy */
    for (size_t i = 0; i < n; i++) {
        struct candidate *c = &s->list[i];
        s->values[c->id] = c->key;
        c->key = -(float)fabs((double)c->key - max - mean); /* the nearest has the largest key */
    }
    struct candidate last = reach_by(s, n, (double)s->p.typical_p, s->values, max);
    n = keep_until(s->list, n, &last);
    for (size_t i = 0; i < n; i++)
        s->list[i].key = s->values[s->list[i].id];
    return n;
}

/* ------------------------------------------------------------------ public */

slm_err sampler_pick(struct sampler *s, const float *logits, const uint32_t *mask, int32_t *id,
                     slm_why *why) {
    size_t n = 0;
    bool greedy = s->p.temperature == 0.0f;
    TRY(gather(s, logits, mask, greedy ? 1 : s->p.top_k, &n, why));
    if (greedy) {
        *id = s->list[best(s->list, n)].id;
        return SLM_OK;
    }
    temperature(s, n);
    n = top_k(s, n);
    n = top_p(s, n);
    n = min_p(s, n);
    n = typical(s, n);
    *id = reach(s, n, sampler_uniform(s->p.seed, s->draws)).id;
    return SLM_OK;
}

void sampler_normal(const struct sampler *s, const float *logits, double *max, double *log_sum) {
    double sum = 0.0;
    *max = -INFINITY;
    for (uint32_t i = 0; i < s->vocab; i++)
        if ((s->allowed == NULL || bit(s->allowed, i)) && (double)logits[i] > *max)
            *max = (double)logits[i];
    for (uint32_t i = 0; i < s->vocab; i++)
        if (s->allowed == NULL || bit(s->allowed, i))
            sum += exp_below((double)logits[i] - *max);
    *log_sum = log(sum);
}

float sampler_logprob(const struct sampler *s, const float *logits, int32_t id) {
    double max, log_sum;
    sampler_normal(s, logits, &max, &log_sum);
    return (float)((double)logits[id] - max - log_sum);
}

float sampler_likely(const struct sampler *s, const float *logits, int32_t id,
                     struct slm_likely *top, size_t *n_top) {
    double max, log_sum;
    size_t n = 0, room = *n_top;
    sampler_normal(s, logits, &max, &log_sum);
    for (uint32_t i = 0; i < s->vocab && room > 0; i++) {
        if (s->allowed != NULL && !bit(s->allowed, i))
            continue;
        if (n == room && !(logits[i] > top[n - 1].logprob))
            continue; /* ids rise, so an equal one comes later */
        size_t at = n < room ? n++ : n - 1;
        for (; at > 0 && logits[i] > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (struct slm_likely){ (int32_t)i, logits[i] }; /* a logit for now */
    }
    for (size_t k = 0; k < n; k++)
        top[k].logprob = (float)((double)top[k].logprob - max - log_sum);
    *n_top = n;
    return (float)((double)logits[id] - max - log_sum);
}
