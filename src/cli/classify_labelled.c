/* classify_labelled.c - rows whose right label is known: how good the probabilities are, and a
 * calibration that makes them better.
 *
 * A calibration is a small JSON file: temperature and biases (calibrate.h), the labels, and a hash of
 * model, labels and prompt, because numbers fitted for other ones would be wrong without a sign. Its
 * promise is measured on rows that it was not fitted to: row i is judged by the fit to all rows j with
 * j mod 5 other than i mod 5. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/outfile.h"
#include "cli/cmd_classify.h"

enum { CALIBRATION_MOST = 16 << 20, SHOWN_FAILURES = 3 };

/* The scores of all labelled rows that could be read and asked about. */
struct labelled {
    double *score;  /* [n][k] */
    uint32_t *gold; /* [n] */
    double *p;      /* [n][k] */
    double *logp;   /* [n] */
    size_t n, room;
    struct pace pace;
};

static void labelled_free(struct labelled *l) {
    free(l->score);
    free(l->gold);
    free(l->p);
    free(l->logp);
}

static struct scored scored_of(const struct decision *d, const struct labelled *l) {
    return (struct scored){ .n = l->n, .k = d->n, .score = l->score, .gold = l->gold };
}

/* ------------------------------------------------------------------ reading */

static void put_row(const struct decision *d, struct labelled *l, size_t gold) {
    if (l->n == l->room) {
        l->room = l->room > 0 ? l->room * 2 : 256;
        l->score = keep(realloc(l->score, l->room * d->n * sizeof *l->score));
        l->gold = keep(realloc(l->gold, l->room * sizeof *l->gold));
    }
    memcpy(l->score + l->n * d->n, d->logprob, d->n * sizeof *l->score);
    l->gold[l->n++] = (uint32_t)gold;
}

static size_t label_index(const struct decision *d, const char *label) {
    size_t i = 0;
    while (i < d->n && strcmp(d->labels[i], label) != 0)
        i++;
    return i;
}

/* One row; what is wrong with it is said for the first few and counted for all. False: the work ends. */
static bool read_row(struct decision *d, struct labelled *l, struct row *row, int *code) {
    slm_why why = row->why;
    slm_err err = row->err;
    size_t gold = err == SLM_OK ? label_index(d, row->label) : 0;
    if (err == SLM_OK && gold == d->n) {
        err = SLM_E_ARG;
        snprintf(why.message, sizeof why.message, "'%.100s' is none of the labels", row->label);
    }
    if (err == SLM_OK)
        err = decision_ask(d, row->text, row->n_text, &why);
    if (err != SLM_OK && ends_all(err)) {
        *code = report_error(d->cli, AT_WORK, err, &why, NULL);
        return false;
    }
    l->pace.rows++;
    if (err == SLM_OK) {
        put_row(d, l, gold);
        return true;
    }
    if (++l->pace.failed <= SHOWN_FAILURES)
        note(d->cli, "row %llu: %s", (unsigned long long)row->number, why.message);
    return true;
}

static int read_labelled(struct decision *d, const char *path, const char *what,
                         struct labelled *l) {
    struct cli *c = d->cli;
    struct rows rows;
    struct row row;
    struct rows_options o = rows_input(c, path, true);
    int code = rows_open(&rows, c, &o, "", 0);
    if (code == EXIT_DONE && rows.form == ROWS_LINES)
        code = report_usage(c, "--input-format csv|jsonl", "plain lines have no labels");
    pace_start(&l->pace, c, what);
    while (code == EXIT_DONE && rows_next(&rows, &row, &code)) {
        bool go_on = read_row(d, l, &row, &code);
        row_free(&row);
        if (!go_on)
            break;
        pace_step(&l->pace, l->pace.rows, rows.total);
    }
    pace_end(&l->pace);
    rows_close(&rows);
    if (code == EXIT_DONE && l->n == 0)
        code = report(c, EXIT_COULD_NOT, "E_FORMAT", NULL, "%s has no row that can be used", path);
    l->p = keep(calloc(l->n * d->n + 1, sizeof *l->p));
    l->logp = keep(calloc(l->n + 1, sizeof *l->logp));
    return code;
}

/* ------------------------------------------------------------------ measures */

static json_t *measures_json(const struct measures *m) {
    return keep_json(json_pack("{s:f, s:[f, f], s:f, s:f, s:f, s:f}", "accuracy", m->accuracy,
                               "accuracy_95", m->low, m->high, "nll", m->nll, "brier", m->brier,
                               "ece_equal_width", m->ece_width, "ece_equal_mass", m->ece_mass));
}

static void print_measures(struct cli *c, const struct measures *before,
                           const struct measures *after) {
    const struct {
        const char *name;
        double a, b;
    } lines[] = {
        { "accuracy", before->accuracy, after ? after->accuracy : 0 },
        { "negative log-likelihood", before->nll, after ? after->nll : 0 },
        { "Brier score", before->brier, after ? after->brier : 0 },
        { "calibration error, 15 bins of equal width", before->ece_width,
          after ? after->ece_width : 0 },
        { "calibration error, 15 bins of equally many", before->ece_mass,
          after ? after->ece_mass : 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        out_printf(&c->out, "%-44s %8.4f", lines[i].name, lines[i].a);
        if (after)
            out_printf(&c->out, "  %8.4f", lines[i].b);
        out_text(&c->out, "\n");
    }
}

static struct measures measure(const struct decision *d, const struct labelled *l) {
    struct scored s = scored_of(d, l);
    struct measures m;
    keep(calibrate_measure(&s, l->p, l->logp, &m) ? l->p : NULL);
    return m;
}

/* Rows that failed make the exit status 1, as everywhere. */
static int ending(const struct labelled *l) {
    return l->pace.failed > 0 ? EXIT_COULD_NOT : EXIT_DONE;
}

static void add_counts(json_t *doc, const struct decision *d, const struct labelled *l) {
    json_object_set_new(doc, "model", json_string(model_title(&d->model)));
    json_object_set_new(doc, "rows", json_integer((json_int_t)l->n));
    json_object_set_new(doc, "failed", json_integer((json_int_t)l->pace.failed));
    json_object_set_new(doc, "rows_per_second", json_real(pace_rate(&l->pace)));
}

/* ------------------------------------------------------------------ evaluate */

/* counts [right][chosen] */
static size_t *confusion_of(const struct decision *d, const struct labelled *l) {
    size_t *count = keep(calloc(d->n * d->n, sizeof *count));
    for (size_t i = 0; i < l->n; i++)
        count[l->gold[i] * d->n + likeliest(l->p + i * d->n, d->n)]++;
    return count;
}

static void print_confusion(struct decision *d, const size_t *count) {
    struct output *o = &d->cli->out;
    size_t widest = 8;
    for (size_t i = 0; i < d->n; i++) {
        size_t columns = text_columns(d->labels[i], strlen(d->labels[i]));
        widest = columns > widest ? columns : widest;
    }
    out_printf(o, "\n%-*s  chosen\n%-*s", (int)widest, "right", (int)widest, "");
    for (size_t j = 0; j < d->n; j++)
        out_printf(o, " %8.8s", d->labels[j]);
    for (size_t i = 0; i < d->n; i++) {
        size_t columns = text_columns(d->labels[i], strlen(d->labels[i]));
        out_printf(o, "\n%s%*s", d->labels[i], (int)(widest - columns), "");
        for (size_t j = 0; j < d->n; j++)
            out_printf(o, " %8zu", count[i * d->n + j]);
    }
    out_text(o, "\n");
}

static json_t *confusion_json(const struct decision *d, const size_t *count) {
    json_t *doc = keep_json(json_object());
    for (size_t i = 0; i < d->n; i++) {
        json_t *row = keep_json(json_object());
        for (size_t j = 0; j < d->n; j++)
            json_object_set_new(row, d->labels[j], json_integer((json_int_t)count[i * d->n + j]));
        json_object_set_new(doc, d->labels[i], row);
    }
    return doc;
}

int classify_evaluate(struct decision *d, const char *path) {
    struct cli *c = d->cli;
    struct labelled l = { 0 };
    int code = read_labelled(d, path, "evaluate", &l);
    if (code == EXIT_DONE) {
        struct scored s = scored_of(d, &l);
        struct calibration fitted = { d->o.temperature, d->bias };
        calibrate_apply(&s, &fitted, 0, 0, l.p, l.logp);
        struct measures m = measure(d, &l);
        size_t *count = confusion_of(d, &l);
        if (c->json) {
            json_t *doc = measures_json(&m);
            add_counts(doc, d, &l);
            json_object_set_new(doc, "calibrated", json_boolean(d->calibrated));
            json_object_set_new(doc, "confusion", confusion_json(d, count));
            out_json(&c->out, doc, false);
        } else {
            out_printf(&c->out, "%zu rows, %zu failed, %.1f rows/s\n", l.n, (size_t)l.pace.failed,
                       pace_rate(&l.pace));
            out_printf(&c->out, "accuracy %.2f %% (95 %%: %.2f to %.2f)\n", 100 * m.accuracy,
                       100 * m.low, 100 * m.high);
            print_measures(c, &m, NULL);
            print_confusion(d, count);
        }
        free(count);
        code = ending(&l);
    }
    labelled_free(&l);
    return code;
}

/* ------------------------------------------------------------------ calibrate */

static json_t *calibration_json(const struct decision *d, const struct labelled *l,
                                const struct calibration *fitted, const struct measures *before,
                                const struct measures *after) {
    json_t *labels = keep_json(json_array()), *bias = keep_json(json_array());
    for (size_t i = 0; i < d->n; i++) {
        json_array_append_new(labels, json_string(d->labels[i]));
        json_array_append_new(bias, json_real(fitted->bias[i]));
    }
    json_t *doc = keep_json(json_pack(
        "{s:s, s:s, s:s, s:b, s:o, s:f, s:o, s:I}", "kind", "slm classify calibration", "model",
        model_title(&d->model), "settings", d->settings, "by_length", d->o.by_length, "labels",
        labels, "temperature", fitted->temperature, "bias", bias, "rows", (json_int_t)l->n));
    json_object_set_new(doc, "before", measures_json(before));
    if (after)
        json_object_set_new(doc, "after", measures_json(after));
    return doc;
}

static int save_calibration(struct decision *d, const char *path, const json_t *doc) {
    char *text = keep(json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(17)));
    struct outfile *f;
    slm_why why;
    slm_err err = outfile_open(NULL, path, &f, &why);
    if (err == SLM_OK) {
        outfile_write(f, text, strlen(text), NULL);
        outfile_write(f, "\n", 1, NULL);
        err = outfile_close(f, true, &why);
    }
    free(text);
    return err == SLM_OK ? EXIT_DONE : report_error(d->cli, AT_WORK, err, &why, NULL);
}

/* What the fit promises for rows that it has not seen; false: too few rows to say. */
static bool cross_validate(const struct decision *d, struct labelled *l, struct calibration *room,
                           struct measures *out) {
    struct scored s = scored_of(d, l);
    if (l->n < 4 * CALIBRATE_FOLDS)
        return false;
    for (size_t fold = 0; fold < CALIBRATE_FOLDS; fold++) {
        keep(calibrate_fit(&s, CALIBRATE_FOLDS, fold, room) ? l : NULL);
        calibrate_apply(&s, room, CALIBRATE_FOLDS, fold, l->p, l->logp);
    }
    *out = measure(d, l);
    return true;
}

static void print_calibration(struct decision *d, const struct labelled *l,
                              const struct calibration *fitted, const struct measures *before,
                              const struct measures *after) {
    struct output *o = &d->cli->out;
    out_printf(o, "%zu rows, %zu failed, %.1f rows/s\n", l->n, (size_t)l->pace.failed,
               pace_rate(&l->pace));
    out_printf(o, "temperature %.4f\n", fitted->temperature);
    if (d->n <= CALIBRATE_BIAS_MOST)
        for (size_t i = 0; i < d->n; i++)
            out_printf(o, "bias        %+.4f  %s\n", fitted->bias[i], d->labels[i]);
    else
        out_printf(o, "no biases: more than %d labels\n", CALIBRATE_BIAS_MOST);
    out_printf(o, "\n%-44s %8s  %8s\n", "", "before", after ? "after" : "");
    print_measures(d->cli, before, after);
    if (after)
        out_printf(o, "after: each row judged by a fit to the other four fifths\n");
    else
        out_printf(o, "fewer than %d rows: not measured on rows that it was not fitted to\n",
                   4 * CALIBRATE_FOLDS);
}

int classify_calibrate(struct decision *d, const char *path) {
    struct cli *c = d->cli;
    struct labelled l = { 0 };
    struct measures before, after;
    struct calibration fitted = { 1, keep(calloc(d->n, sizeof(double))) };
    int code = read_labelled(d, path, "calibrate", &l);
    if (code == EXIT_DONE) {
        struct scored s = scored_of(d, &l);
        calibrate_apply(&s, NULL, 0, 0, l.p, l.logp);
        before = measure(d, &l);
        bool judged = cross_validate(d, &l, &fitted, &after);
        keep(calibrate_fit(&s, 0, 0, &fitted) ? c : NULL);
        json_t *doc = calibration_json(d, &l, &fitted, &before, judged ? &after : NULL);
        if (opt_set(c, OPT_SAVE_CALIBRATION))
            code = save_calibration(d, opt_text(c, OPT_SAVE_CALIBRATION), doc);
        if (code == EXIT_DONE && c->json) {
            add_counts(doc, d, &l);
            out_json(&c->out, json_incref(doc), false);
        } else if (code == EXIT_DONE) {
            print_calibration(d, &l, &fitted, &before, judged ? &after : NULL);
        }
        json_decref(doc);
        code = code == EXIT_DONE ? ending(&l) : code;
    }
    free(fitted.bias);
    labelled_free(&l);
    return code;
}

/* ------------------------------------------------------------------ reading a calibration */

static int bad_calibration(struct decision *d, const char *path, const char *words) {
    return report(d->cli, EXIT_COULD_NOT, "E_FORMAT", NULL, "%s is no calibration: %s", path,
                  words);
}

int calibration_read(struct decision *d, const char *path) {
    struct cli *c = d->cli;
    json_t *doc = NULL;
    slm_why why;
    size_t n;
    int code = EXIT_DONE;
    char *text = read_path(path, CALIBRATION_MOST, &n);
    if (text == NULL)
        return report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read the calibration %s: %s", path,
                      strerror(errno));
    slm_err err = json_text(text, n, &doc, &why);
    free(text);
    if (err != SLM_OK)
        return bad_calibration(d, path, why.message);
    const json_t *bias = json_object_get(doc, "bias"),
                 *temperature = json_object_get(doc, "temperature");
    const char *settings = json_string_value(json_object_get(doc, "settings")),
               *model = json_string_value(json_object_get(doc, "model"));
    if (settings == NULL || model == NULL || !json_is_number(temperature) || !json_is_array(bias))
        code = bad_calibration(d, path, "settings, model, temperature or bias are missing");
    else if (strcmp(settings, d->settings) != 0)
        code = report(c, EXIT_COULD_NOT, "E_MISMATCH",
                      "slm classify MODEL ... --calibrate FILE --save-calibration FILE",
                      "%s was fitted for %s with other weights, labels or prompt than these of %s",
                      path, model, model_title(&d->model));
    else if (json_array_size(bias) != d->n)
        code = bad_calibration(d, path, "it has another number of biases than labels");
    for (size_t i = 0; code == EXIT_DONE && i < d->n; i++) {
        if (!json_is_number(json_array_get(bias, i)))
            code = bad_calibration(d, path, "a bias is no number");
        else
            d->bias[i] = json_number_value(json_array_get(bias, i));
    }
    if (code == EXIT_DONE) {
        d->o.temperature = json_number_value(temperature);
        d->o.bias = d->bias;
        d->calibrated = true;
        if (!(d->o.temperature >= 1e-3 && d->o.temperature <= 1e6))
            code = bad_calibration(d, path, "its temperature is out of range");
    }
    json_decref(doc);
    return code;
}
