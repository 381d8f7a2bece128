/* cmd_classify.h - what the parts of `slm classify` share: the question that is asked of each row
 * (classify_prompt.c), rows and single texts (cmd_classify.c), labelled rows (classify_labelled.c). */
#ifndef SLM_CLI_CMD_CLASSIFY_H
#define SLM_CLI_CMD_CLASSIFY_H

#include "cli/calibrate.h"
#include "cli/rows.h"

struct decision {
    struct cli *cli;
    struct loaded model;
    char **labels, **notes; /* [n] owned; a note describes its label, or is NULL */
    size_t n, room;
    char *system, *before, *after; /* system message; the user's: before TEXT after. Owned */
    slm_classify_options o;
    double *bias;        /* [n] what o.bias points to */
    double *logprob, *p; /* [n] of the last row */
    slm_result result;   /* of the last row */
    char settings[33];   /* hash of model, labels and prompt: what a calibration belongs to */
    bool calibrated;
    bool pictures; /* the text of a row is the name of a picture */
    struct shown shown; /* for the progress of pictures */
};

/* classify_prompt.c */
/* Labels from the options, before the model is opened. Exit code. */
int decision_labels(struct decision *d);
/* The prompt, with the model open: also settings. Exit code. */
int decision_prompt(struct decision *d);
/* Asks about a text: d->logprob, d->p, d->result. */
slm_err decision_ask(struct decision *d, const char *text, size_t n, slm_why *why);
/* About the texts of k rows at once: logprob and p are [k][d->n]. All or nothing. */
slm_err decision_ask_many(struct decision *d, struct row *const *rows, size_t k, double *logprob,
                          double *p, slm_why *why);
void decision_free(struct decision *d);

/* classify_labelled.c */
/* --calibration FILE: temperature and biases into d->o. Exit code. */
int calibration_read(struct decision *d, const char *path);
/* --calibrate FILE and --evaluate FILE. Exit code. */
int classify_calibrate(struct decision *d, const char *path);
int classify_evaluate(struct decision *d, const char *path);

#endif
