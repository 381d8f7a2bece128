/* calibrate.h - how good probabilities of labels are, and making them better: numbers only.
 *
 * A row has a score for each label (log-probabilities) and the label that is right. Probabilities are
 *     z[j] = (score[j] + bias[j]) / temperature,      p = softmax(z)
 * Fitting takes the temperature and biases that are most likely given the rows and a standard normal
 * prior on 1 / temperature - 1 and on every bias / temperature:
 *     minimise  sum over rows of -log p[right]  +  ((1/T - 1)^2 + sum of (bias[j]/T)^2) / 2
 * which is convex in 1/T and bias/T and has one minimum, also when the rows can be told apart perfectly.
 * Newton's method from T = 1, bias = 0: the same rows give the same bits. */
#ifndef SLM_CLI_CALIBRATE_H
#define SLM_CLI_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CALIBRATE_BINS = 15,
    CALIBRATE_BIAS_MOST = 128, /* more labels: the temperature alone is fitted */
    CALIBRATE_FOLDS = 5
};

struct scored {
    size_t n, k;          /* rows, labels */
    const double *score;  /* [n][k] */
    const uint32_t *gold; /* [n] the right label, < k */
};
struct calibration {
    double temperature;
    double *bias; /* [k] of the caller */
};

/* Fits to the rows whose number modulo `folds` is not `left_out` (folds 0: all). Returns false when memory
 * is short. */
bool calibrate_fit(const struct scored *s, size_t folds, size_t left_out, struct calibration *out);
/* Probabilities [n][k] of rows; those of one fold (folds 0: of all), the others are left as they are.
 * logp [n] gets the log of the right label's. */
void calibrate_apply(const struct scored *s, const struct calibration *c, size_t folds, size_t fold,
                     double *p, double *logp);

struct measures {
    size_t n, correct;
    double accuracy, low, high; /* Wilson's interval, 95 % */
    double nll, brier;          /* means over rows; Brier over all labels of a row */
    double ece_width, ece_mass; /* expected calibration error of the likeliest label, in
                                   CALIBRATE_BINS bins of equal width, of equally many rows */
};
/* The likeliest label; the first of equals. */
size_t likeliest(const double *p, size_t k);
/* False when memory is short. */
bool calibrate_measure(const struct scored *s, const double *p, const double *logp,
                       struct measures *out);
void wilson(size_t correct, size_t n, double *low, double *high);

#endif
