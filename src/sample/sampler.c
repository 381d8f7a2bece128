/* sampler.c - see sampler.h for the order of steps and their definitions.
 *
 * Works on a list of candidates (id, logit). Filters shrink the list; from top_p on it is sorted by
 * falling logit, ties by rising id, and probabilities are kept beside it. Nothing is allocated
 * after sampler_new. The first filter usually leaves a handful of candidates, so sorting is cheap;
 * without top_k the list is first cut to those within reach of the maximum. */
#include "sample/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float logit;
    int32_t id;
};

struct sampler {
    const struct slm_hooks *hooks;
    uint32_t vocab;
    const uint32_t *allowed; /* borrowed, [ceil(vocab/32)] or NULL */
    slm_sampling p;
    uint64_t draws;          /* tokens accepted since begin */
    uint32_t *count;         /* [vocab] occurrences in the output */
    uint32_t *seen;          /* bit set: in prompt or output */
    struct candidate *list;  /* [vocab] */
    float *values;           /* [vocab] for selection */
    double *prob;            /* [vocab] beside the sorted list */
};

static bool bit(const uint32_t *set, uint32_t id) {
    return (set[id >> 5] >> (id & 31)) & 1u;
}

static void set_bit(uint32_t *set, uint32_t id) {
    set[id >> 5] |= 1u << (id & 31);
}

slm_err sampler_new(const struct slm_hooks *h, uint32_t vocab, const uint32_t *allowed, struct sampler **out,
                    slm_why *why) {
    struct sampler *s = mem_zalloc(h, 1, sizeof *s);
    if (s == NULL)
        return fail_nomem(why, "sampler", sizeof *s);
    s->hooks = h;
    s->vocab = vocab;
    s->allowed = allowed;
    s->count = mem_zalloc(h, vocab, sizeof *s->count);
    s->seen = mem_zalloc(h, (vocab + 31) / 32, sizeof *s->seen);
    s->list = mem_alloc(h, vocab, sizeof *s->list);
    s->values = mem_alloc(h, vocab, sizeof *s->values);
    s->prob = mem_alloc(h, vocab, sizeof *s->prob);
    if (!s->count || !s->seen || !s->list || !s->values || !s->prob) {
        sampler_free(s);
        return fail_nomem(why, "sampler", (size_t)vocab * 24);
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
    mem_free(s->hooks, s->prob);
    mem_free(s->hooks, s);
}

/* One row per parameter: its range is checked and named in one place. */
static slm_err check(const slm_sampling *p, slm_why *why) {
    const struct {
        const char *name;
        float value, low, high;
    } range[] = {
        {"temperature", p->temperature, 0.0f, 100.0f},
        {"top_p", p->top_p, 0.0f, 1.0f},
        {"min_p", p->min_p, 0.0f, 1.0f},
        {"typical_p", p->typical_p, 0.0f, 1.0f},
        {"repetition_penalty", p->repetition_penalty, 0.01f, 100.0f},
        {"presence_penalty", p->presence_penalty, -100.0f, 100.0f},
        {"frequency_penalty", p->frequency_penalty, -100.0f, 100.0f},
    };
    for (size_t i = 0; i < ARRAY_LEN(range); i++)
        if (!(range[i].value >= range[i].low && range[i].value <= range[i].high))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%s is %g, allowed is %g to %g", range[i].name,
                        (double)range[i].value, (double)range[i].low, (double)range[i].high);
    return SLM_OK;
}

slm_err sampler_begin(struct sampler *s, const slm_sampling *p, const int32_t *prompt, size_t n, slm_why *why) {
    TRY(check(p, why));
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || (uint32_t)p->bias[i].id >= s->vocab)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "logit bias for id %d, the model has ids 0 to %u",
                        p->bias[i].id, s->vocab - 1);
        if (isnan(p->bias[i].bias) || p->bias[i].bias > 1e30f)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "logit bias %g for id %d is not a usable number",
                        (double)p->bias[i].bias, p->bias[i].id);
    }
    s->p = *p;
    s->draws = 0;
    memset(s->count, 0, (size_t)s->vocab * sizeof *s->count);
    memset(s->seen, 0, (size_t)((s->vocab + 31) / 32) * sizeof *s->seen);
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

/* Penalised logit of one id; bias comes separately because the list is sparse. */
static float penalised(const struct sampler *s, float logit, uint32_t id) {
    const slm_sampling *p = &s->p;
    if (p->repetition_penalty != 1.0f && bit(s->seen, id))
        logit = logit > 0.0f ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    if (s->count[id] > 0)
        logit -= p->presence_penalty + p->frequency_penalty * (float)s->count[id];
    return logit;
}

/* Fills s->list with every id that may come next; returns how many. */
static slm_err collect(struct sampler *s, const float *logits, const uint32_t *mask, size_t *n_out, slm_why *why) {
    size_t n = 0;
    bool plain = s->p.repetition_penalty == 1.0f && s->p.presence_penalty == 0.0f && s->p.frequency_penalty == 0.0f;
    memcpy(s->values, logits, (size_t)s->vocab * sizeof *s->values);
    for (size_t i = 0; i < s->p.n_bias; i++)
        s->values[s->p.bias[i].id] += s->p.bias[i].bias;
    for (uint32_t id = 0; id < s->vocab; id++) {
        if ((s->allowed != NULL && !bit(s->allowed, id)) || (mask != NULL && !bit(mask, id)))
            continue;
        if (!isfinite(logits[id]))
            return fail(why, SLM_E_NUMERIC, SLM_NO_OFFSET, "the logit of id %u is %g: the weights or the computation are damaged",
                        id, (double)logits[id]);
        float v = plain ? s->values[id] : penalised(s, s->values[id], id);
        if (v == -INFINITY)
            continue; /* banned by a bias */
        s->list[n++] = (struct candidate){v, (int32_t)id};
    }
    if (n == 0)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "no token may come next: all %u are masked or banned", s->vocab);
    *n_out = n;
    return SLM_OK;
}

static size_t best(const struct candidate *list, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (list[i].logit > list[at].logit)
            at = i;
    return at;
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
        if (list[i].logit >= threshold)
            list[kept++] = list[i];
    return kept;
}

static size_t top_k(struct sampler *s, size_t n) {
    if (s->p.top_k == 0 || s->p.top_k >= n)
        return n;
    for (size_t i = 0; i < n; i++)
        s->values[i] = s->list[i].logit;
    return keep_above(s->list, n, kth_largest(s->values, n, s->p.top_k));
}

static int by_logit(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Probabilities of the list (sorted or not) into s->prob; returns the largest logit used. */
static void softmax(struct sampler *s, size_t n) {
    double max = (double)s->list[best(s->list, n)].logit, sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        s->prob[i] = exp((double)s->list[i].logit - max);
        sum += s->prob[i];
    }
    for (size_t i = 0; i < n; i++)
        s->prob[i] /= sum;
}

/* Sorting 100,000 candidates to keep ten is wasteful: for top_p, first keep what lies within
 * `reach` of the maximum when that holds enough of the mass, so that the answer cannot change. */
static size_t cut_far_tail(struct sampler *s, size_t n) {
    double max = (double)s->list[best(s->list, n)].logit, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)s->list[i].logit - max);
    for (double reach = 8.0; reach <= 32.0; reach *= 2.0) {
        double mass = 0.0;
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if ((double)s->list[i].logit >= max - reach) {
                mass += exp((double)s->list[i].logit - max);
                kept++;
            }
        if (mass >= (double)s->p.top_p * sum * (1.0 + 1e-9) && kept < n)
            return keep_above(s->list, n, (float)(max - reach));
    }
    return n;
}

/* On a sorted list whose probabilities refer to `total` mass 1 of the uncut list. */
static size_t top_p(struct sampler *s, size_t n) {
    if (s->p.top_p >= 1.0f)
        return n;
    double max = (double)s->list[best(s->list, n)].logit, sum = 0.0, mass = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)s->list[i].logit - max);
    if (n > 1024)
        n = cut_far_tail(s, n);
    qsort(s->list, n, sizeof *s->list, by_logit);
    for (size_t i = 0; i < n; i++) {
        mass += exp((double)s->list[i].logit - max) / sum;
        if (mass >= (double)s->p.top_p)
            return i + 1;
    }
    return n;
}

static size_t min_p(struct sampler *s, size_t n) {
    if (s->p.min_p <= 0.0f)
        return n;
    double max = (double)s->list[best(s->list, n)].logit, least = log((double)s->p.min_p);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)s->list[i].logit - max >= least)
            s->list[kept++] = s->list[i];
    return kept;
}

/* For typical_p the list is ordered by how far -log p is from the entropy; value holds that. */
static int by_shift(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t typical(struct sampler *s, size_t n) {
    if (s->p.typical_p >= 1.0f || n < 2)
        return n;
    softmax(s, n);
    double entropy = 0.0, max = (double)s->list[best(s->list, n)].logit, sum = 0.0, mass = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)s->list[i].logit - max);
        if (s->prob[i] > 0.0)
            entropy -= s->prob[i] * log(s->prob[i]);
    }
    /* keep the logits in values by position in the id-ordered list; sort shifts */
    for (size_t i = 0; i < n; i++) {
        double log_p = (double)s->list[i].logit - max - log(sum);
        s->values[s->list[i].id] = s->list[i].logit;
        s->list[i].logit = (float)fabs(-log_p - entropy);
    }
    qsort(s->list, n, sizeof *s->list, by_shift);
    size_t kept = 0;
    while (kept < n) {
        mass += exp((double)s->values[s->list[kept].id] - max) / sum;
        kept++;
        if (mass >= (double)s->p.typical_p)
            break;
    }
    for (size_t i = 0; i < kept; i++)
        s->list[i].logit = s->values[s->list[i].id];
    return kept;
}

static int32_t draw(struct sampler *s, size_t n) {
    qsort(s->list, n, sizeof *s->list, by_logit);
    softmax(s, n);
    double u = sampler_uniform(s->p.seed, s->draws), mass = 0.0;
    for (size_t i = 0; i < n; i++) {
        mass += s->prob[i];
        if (u < mass)
            return s->list[i].id;
    }
    return s->list[n - 1].id;
}

slm_err sampler_pick(struct sampler *s, const float *logits, const uint32_t *mask, int32_t *id, slm_why *why) {
    size_t n = 0;
    TRY(collect(s, logits, mask, &n, why));
    if (s->p.temperature == 0.0f) {
        *id = s->list[best(s->list, n)].id;
        return SLM_OK;
    }
    for (size_t i = 0; i < n; i++) /* a huge quotient must stay finite, or two of them would tie */
        s->list[i].logit = fmaxf(-3e38f, fminf(3e38f, s->list[i].logit / s->p.temperature));
    n = top_k(s, n);
    n = top_p(s, n);
    n = min_p(s, n);
    n = typical(s, n);
    *id = draw(s, n);
    return SLM_OK;
}

float sampler_logprob(const struct sampler *s, const float *logits, int32_t id) {
    double max = -INFINITY, sum = 0.0;
    for (uint32_t i = 0; i < s->vocab; i++)
        if ((s->allowed == NULL || bit(s->allowed, i)) && (double)logits[i] > max)
            max = (double)logits[i];
    for (uint32_t i = 0; i < s->vocab; i++)
        if (s->allowed == NULL || bit(s->allowed, i))
            sum += exp((double)logits[i] - max);
    return (float)((double)logits[id] - max - log(sum));
}
