/* calibrate.c - fitting by Newton's method, and the measures; formulas in calibrate.h.
 *
 * Unknowns x = (a, c[0..k)) with a = 1/T and c = bias/T, so that z[j] = a s[j] + c[j]. With p = softmax(z):
 *     gradient   a: sum of E[s] - s[right];  c[j]: sum of p[j] - [j is right]
 *     Hessian    aa: sum of Var[s];  a c[j]: sum of p[j] (s[j] - E[s]);  c[j] c[l]: sum of p[j] ([j = l] - p[l])
 * and the prior adds x - (1, 0, ...) and the identity, so that the Hessian can always be factored. */
#include "cli/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MOST 200
#define A_LEAST 1e-3 /* temperatures up to 1000 */

struct fit {
    const struct scored *s;
    size_t folds, left_out;
    size_t d;     /* unknowns: 1, or 1 + k */
    size_t from;  /* first unknown that is free: 1 while a is held */
    double *x;    /* [d] */
    double *g;    /* [d] */
    double *h;    /* [d][d] */
    double *step; /* [d] */
    double *next; /* [d] */
    double *p;    /* [k] */
};

static bool counts(size_t row, size_t folds, size_t left_out) {
    return folds == 0 || row % folds != left_out;
}

/* z - max and their softmax of one row into p; returns log of the sum of exp(z - max), and *max. */
static double row_softmax(const double *score, size_t k, double a, const double *c, double *p,
                          double *max) {
    double sum = 0;
    *max = -INFINITY;
    for (size_t j = 0; j < k; j++) {
        p[j] = a * score[j] + (c != NULL ? c[j] : 0);
        *max = p[j] > *max ? p[j] : *max;
    }
    for (size_t j = 0; j < k; j++)
        sum += p[j] = exp(p[j] - *max);
    for (size_t j = 0; j < k; j++)
        p[j] /= sum;
    return log(sum);
}

static const double *biases(const struct fit *f, const double *x) {
    return f->d > 1 ? x + 1 : NULL;
}

static double objective(struct fit *f, const double *x) {
    const struct scored *s = f->s;
    double total = (x[0] - 1) * (x[0] - 1) / 2;
    for (size_t j = 1; j < f->d; j++)
        total += x[j] * x[j] / 2;
    for (size_t i = 0; i < s->n; i++) {
        const double *score = s->score + i * s->k;
        double max, log_sum;
        if (!counts(i, f->folds, f->left_out))
            continue;
        log_sum = row_softmax(score, s->k, x[0], biases(f, x), f->p, &max);
        double z = x[0] * score[s->gold[i]] + (f->d > 1 ? x[1 + s->gold[i]] : 0);
        total += log_sum + max - z;
    }
    return total;
}

/* Gradient and lower half of the Hessian at x. */
static void derive(struct fit *f) {
    const struct scored *s = f->s;
    size_t d = f->d, k = s->k;
    double *g = f->g, *h = f->h, *p = f->p, max;
    memset(h, 0, d * d * sizeof *h);
    for (size_t j = 0; j < d; j++) {
        g[j] = f->x[j] - (j == 0);
        h[j * d + j] = 1;
    }
    for (size_t i = 0; i < s->n; i++) {
        const double *score = s->score + i * k;
        double mean = 0, square = 0;
        if (!counts(i, f->folds, f->left_out))
            continue;
        row_softmax(score, k, f->x[0], biases(f, f->x), p, &max);
        for (size_t j = 0; j < k; j++)
            mean += p[j] * score[j];
        for (size_t j = 0; j < k; j++)
            square += p[j] * (score[j] - mean) * (score[j] - mean);
        g[0] += mean - score[s->gold[i]];
        h[0] += square;
        for (size_t j = 0; j + 1 < d; j++) {
            double *row = h + (j + 1) * d;
            g[1 + j] += p[j] - (s->gold[i] == j);
            row[0] += p[j] * (score[j] - mean);
            for (size_t l = 0; l <= j; l++)
                row[1 + l] += p[j] * ((j == l) - p[l]);
        }
    }
}

/* Solves h step = -g for the free unknowns by Cholesky's factors, in place of h. */
static void solve(struct fit *f) {
    size_t d = f->d, from = f->from;
    double *h = f->h, *y = f->step;
    memset(y, 0, d * sizeof *y);
    for (size_t i = from; i < d; i++) {
        for (size_t j = from; j <= i; j++) {
            double v = h[i * d + j];
            for (size_t l = from; l < j; l++)
                v -= h[i * d + l] * h[j * d + l];
            h[i * d + j] = i == j ? sqrt(v > 1e-12 ? v : 1e-12) : v / h[j * d + j];
        }
        double v = -f->g[i];
        for (size_t l = from; l < i; l++)
            v -= h[i * d + l] * y[l];
        y[i] = v / h[i * d + i];
    }
    for (size_t i = d; i-- > from;) {
        for (size_t l = i + 1; l < d; l++)
            y[i] -= h[l * d + i] * y[l];
        y[i] /= h[i * d + i];
    }
}

/* Newton steps, halved until they go down far enough. */
static void newton(struct fit *f) {
    double value = objective(f, f->x);
    for (int step = 0; step < STEPS_MOST; step++) {
        double slope = 0, size = 1;
        derive(f);
        solve(f);
        for (size_t j = f->from; j < f->d; j++)
            slope += f->g[j] * f->step[j];
        if (-slope < 1e-20 * (1 + fabs(value)))
            return;
        for (int halved = 0;; halved++, size /= 2) {
            memcpy(f->next, f->x, f->d * sizeof *f->next);
            for (size_t j = f->from; j < f->d; j++)
                f->next[j] += size * f->step[j];
            double there = objective(f, f->next);
            if (there <= value + 1e-4 * size * slope) {
                value = there;
                break;
            }
            if (halved == 60)
                return; /* as far down as numbers go */
        }
        memcpy(f->x, f->next, f->d * sizeof *f->x);
    }
}

bool calibrate_fit(const struct scored *s, size_t folds, size_t left_out, struct calibration *out) {
    size_t d = s->k <= CALIBRATE_BIAS_MOST ? 1 + s->k : 1;
    double *memory = calloc(4 * d + d * d + s->k, sizeof *memory);
    if (memory == NULL)
        return false;
    struct fit f = { .s = s,
                     .folds = folds,
                     .left_out = left_out,
                     .d = d,
                     .x = memory,
                     .g = memory + d,
                     .step = memory + 2 * d,
                     .next = memory + 3 * d,
                     .p = memory + 4 * d,
                     .h = memory + 4 * d + s->k };
    f.x[0] = 1;
    newton(&f);
    if (f.x[0] < A_LEAST) { /* convex: then the best allowed one lies on the border */
        f.x[0] = A_LEAST;
        f.from = 1;
        newton(&f);
    }
    out->temperature = 1 / f.x[0];
    for (size_t j = 0; j < s->k; j++)
        out->bias[j] = d > 1 ? f.x[1 + j] * out->temperature : 0;
    free(memory);
    return true;
}

void calibrate_apply(const struct scored *s, const struct calibration *c, size_t folds, size_t fold,
                     double *p, double *logp) {
    for (size_t i = 0; i < s->n; i++) {
        const double *score = s->score + i * s->k;
        double *row = p + i * s->k, max = -INFINITY, sum = 0;
        if (folds > 0 && i % folds != fold)
            continue;
        for (size_t j = 0; j < s->k; j++) {
            row[j] = (score[j] + (c != NULL ? c->bias[j] : 0)) / (c != NULL ? c->temperature : 1);
            max = row[j] > max ? row[j] : max;
        }
        logp[i] = row[s->gold[i]] - max;
        for (size_t j = 0; j < s->k; j++)
            sum += row[j] = exp(row[j] - max);
        for (size_t j = 0; j < s->k; j++)
            row[j] /= sum;
        logp[i] -= log(sum);
    }
}

/* ------------------------------------------------------------------ measures */

void wilson(size_t correct, size_t n, double *low, double *high) {
    const double z = 1.959963984540054, z2 = z * z;
    double m = (double)n, share = n > 0 ? (double)correct / m : 0;
    *low = 0;
    *high = 1;
    if (n == 0)
        return;
    double middle = share + z2 / (2 * m),
           half = z * sqrt(share * (1 - share) / m + z2 / (4 * m * m)), scale = 1 + z2 / m;
    *low = correct == 0 ? 0 : (middle - half) / scale;
    *high = correct == n ? 1 : (middle + half) / scale;
}

size_t likeliest(const double *p, size_t k) {
    size_t best = 0;
    for (size_t j = 1; j < k; j++)
        if (p[j] > p[best])
            best = j;
    return best;
}

struct guess {
    double confidence;
    size_t row;
    bool right;
};

static int by_confidence(const void *a, const void *b) {
    const struct guess *x = a, *y = b;
    if (x->confidence != y->confidence)
        return x->confidence < y->confidence ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Expected calibration errors from the rows' guesses; sorts them. */
static void ece(struct guess *g, size_t n, struct measures *m) {
    double gap[CALIBRATE_BINS] = { 0 };
    for (size_t i = 0; i < n; i++) {
        size_t bin = (size_t)(g[i].confidence * CALIBRATE_BINS);
        gap[bin < CALIBRATE_BINS ? bin : CALIBRATE_BINS - 1] += g[i].confidence - g[i].right;
    }
    for (size_t b = 0; b < CALIBRATE_BINS; b++)
        m->ece_width += fabs(gap[b]) / (double)n;
    qsort(g, n, sizeof *g, by_confidence);
    for (size_t b = 0; b < CALIBRATE_BINS; b++) {
        double sum = 0;
        for (size_t i = b * n / CALIBRATE_BINS; i < (b + 1) * n / CALIBRATE_BINS; i++)
            sum += g[i].confidence - g[i].right;
        m->ece_mass += fabs(sum) / (double)n;
    }
}

bool calibrate_measure(const struct scored *s, const double *p, const double *logp,
                       struct measures *out) {
    *out = (struct measures){ .n = s->n };
    struct guess *guesses = calloc(s->n > 0 ? s->n : 1, sizeof *guesses);
    if (guesses == NULL)
        return false;
    for (size_t i = 0; i < s->n; i++) {
        const double *row = p + i * s->k;
        size_t best = likeliest(row, s->k);
        guesses[i] = (struct guess){ row[best], i, best == s->gold[i] };
        out->correct += guesses[i].right;
        out->nll -= logp[i] / (double)s->n;
        for (size_t j = 0; j < s->k; j++) {
            double off = row[j] - (j == s->gold[i]);
            out->brier += off * off / (double)s->n;
        }
    }
    if (s->n > 0)
        ece(guesses, s->n, out);
    out->accuracy = s->n > 0 ? (double)out->correct / (double)s->n : 0;
    wilson(out->correct, s->n, &out->low, &out->high);
    free(guesses);
    return true;
}
