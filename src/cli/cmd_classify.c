/* cmd_classify.c - `slm classify`: a label for a text, or for each row of a stream.
 *
 * A row that cannot be used or does not fit becomes a record with an error, and the exit status is 1 at
 * the end; only what would fail every row (labels that are the same to the model, a template that
 * refuses) ends the command, and is found by asking once before the first row. */
#include "cli/cmd_classify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"

/* Of the likeliest label and the next. */
static double margin_of(const double *p, size_t n, size_t best) {
    double second = 0;
    for (size_t i = 0; i < n; i++)
        if (i != best && p[i] > second)
            second = p[i];
    return p[best] - second;
}

/* Probability that the model gives to all labels together, as answers. */
static double mass_of(const struct decision *d) {
    double mass = 0;
    for (size_t i = 0; i < d->n; i++)
        mass += exp(d->logprob[i]);
    return mass;
}

/* ------------------------------------------------------------------ one text */

static void print_json(struct decision *d) {
    struct cli *c = d->cli;
    size_t best = likeliest(d->p, d->n);
    json_t *doc = keep_json(json_object()), *p = keep_json(json_object()),
           *logprob = keep_json(json_object());
    for (size_t i = 0; i < d->n; i++) {
        json_object_set_new(p, d->labels[i], json_real(d->p[i]));
        json_object_set_new(logprob, d->labels[i], json_real(d->logprob[i]));
    }
    json_object_set_new(doc, "label", json_string(d->labels[best]));
    json_object_set_new(doc, "probability", json_real(d->p[best]));
    json_object_set_new(doc, "margin", json_real(margin_of(d->p, d->n, best)));
    if (!d->o.by_length)
        json_object_set_new(doc, "mass", json_real(mass_of(d)));
    json_object_set_new(doc, "calibrated", json_boolean(d->calibrated));
    json_object_set_new(doc, "probabilities", p);
    json_object_set_new(doc, "logprobs", logprob);
    add_receipt(doc, c, &d->model, &d->result);
    out_json(&c->out, doc, false);
}

/* A line per label, the likeliest first. */
static void print_text(struct decision *d) {
    size_t widest = 0;
    double *left = keep(malloc(d->n * sizeof *left));
    memcpy(left, d->p, d->n * sizeof *left);
    for (size_t i = 0; i < d->n; i++) {
        size_t columns = text_columns(d->labels[i], strlen(d->labels[i]));
        widest = columns > widest ? columns : widest;
    }
    for (size_t i = 0; i < d->n; i++) {
        size_t best = likeliest(left, d->n);
        size_t columns = text_columns(d->labels[best], strlen(d->labels[best]));
        out_printf(&d->cli->out, "%s%*s %6.2f %%\n", d->labels[best], (int)(widest - columns + 1),
                   "", 100 * d->p[best]);
        left[best] = -1;
    }
    free(left);
}

static int classify_text(struct decision *d) {
    struct cli *c = d->cli;
    struct buf text;
    slm_why why;
    buf_init(&text, NULL, LINE_MOST);
    for (size_t i = 1; i < c->options.n_args; i++)
        buf_printf(&text, "%s%s", i > 1 ? " " : "", c->options.args[i]);
    size_t valid = text.len > 0 ? utf8_valid(text.data, text.len) : 0;
    int code = EXIT_DONE;
    if (text.len == 0)
        code = report_usage(c, NULL, "the text is empty");
    else if (valid < text.len)
        code = report(c, EXIT_COULD_NOT, "E_ENCODING", NULL,
                      "the text is not UTF-8: byte %zu of %zu is invalid", valid, text.len);
    if (code == EXIT_DONE) {
        slm_err err = decision_ask(d, text.data, text.len, &why);
        if (err != SLM_OK)
            code = report_answer(c, &d->model, err, &why, d->result.prompt_tokens);
        else if (c->json)
            print_json(d);
        else
            print_text(d);
    }
    buf_free(&text);
    return code;
}

/* ------------------------------------------------------------------ rows */

static void record_json(struct buf *b, const struct decision *d, const struct row *row) {
    size_t best = likeliest(d->p, d->n);
    record_begin(b, row);
    buf_puts(b, ",\"label\":");
    json_quote(b, d->labels[best], strlen(d->labels[best]));
    buf_printf(b, ",\"probability\":%.7g,\"margin\":%.7g", d->p[best], margin_of(d->p, d->n, best));
    if (!d->o.by_length)
        buf_printf(b, ",\"mass\":%.7g", mass_of(d));
    buf_puts(b, ",\"probabilities\":{");
    for (size_t i = 0; i < d->n; i++) {
        buf_puts(b, i > 0 ? "," : "");
        json_quote(b, d->labels[i], strlen(d->labels[i]));
        buf_printf(b, ":%.7g", d->p[i]);
    }
    buf_putc(b, '}');
}

static char *csv_header(const struct decision *d, bool checked) {
    struct buf b;
    buf_init(&b, NULL, LINE_MOST);
    buf_puts(&b, "row,id,label,probability,margin,mass");
    for (size_t i = 0; i < d->n; i++) {
        char *name = text_printf("p:%s", d->labels[i]);
        buf_putc(&b, ',');
        csv_quote(&b, name, strlen(name));
        free(name);
    }
    buf_puts(&b, checked ? ",error,check" : ",error");
    return keep(buf_take(&b));
}

static void record_csv(struct buf *b, const struct decision *d, const struct row *row) {
    size_t best = likeliest(d->p, d->n);
    buf_printf(b, "%llu,", (unsigned long long)row->number);
    csv_id(b, row);
    buf_putc(b, ',');
    csv_quote(b, d->labels[best], strlen(d->labels[best]));
    buf_printf(b, ",%.7g,%.7g,", d->p[best], margin_of(d->p, d->n, best));
    if (!d->o.by_length)
        buf_printf(b, "%.7g", mass_of(d));
    for (size_t i = 0; i < d->n; i++)
        buf_printf(b, ",%.7g", d->p[i]);
    buf_putc(b, ',');
}

static void record_csv_error(struct buf *b, const struct decision *d, const struct row *row,
                             slm_err err, const slm_why *why) {
    buf_printf(b, "%llu,", (unsigned long long)row->number);
    csv_id(b, row);
    buf_puts(b, ",,,,");
    for (size_t i = 0; i < d->n; i++)
        buf_putc(b, ',');
    buf_putc(b, ',');
    csv_error(b, err, why);
}

/* Rows that are asked about together. */
struct group {
    struct row *rows; /* [most] the first n */
    size_t n, most;
    double *logprob, *p; /* [most][labels] */
};

/* A row, answered or failed, to its record. False: nothing more can be written, *code says why. */
static bool put_row(struct decision *d, struct rows_out *w, const struct row *row, slm_err err,
                    const slm_why *why, struct pace *pace, int *code) {
    struct buf line;
    buf_init(&line, NULL, LINE_MOST);
    if (err != SLM_OK && w->form == ROWS_CSV)
        record_csv_error(&line, d, row, err, why);
    else if (err != SLM_OK)
        record_error(&line, row, err, why);
    else if (w->form == ROWS_CSV)
        record_csv(&line, d, row);
    else
        record_json(&line, d, row);
    bool ok = rows_out_put(w, row, &line);
    buf_free(&line);
    pace->rows++;
    pace->failed += err != SLM_OK;
    if (!ok) /* a reader that went away is no failure */
        *code = w->path != NULL ? EXIT_COULD_NOT : EXIT_DONE;
    return ok;
}

/* Asks about all rows of a group that can be read; false when they have to be asked one by one, because
 * one of them fails, or there is but one. */
static bool ask_together(struct decision *d, struct group *g) {
    struct row **able = keep(calloc(g->n + 1, sizeof *able));
    size_t k = 0;
    for (size_t i = 0; i < g->n; i++)
        if (g->rows[i].err == SLM_OK)
            able[k++] = &g->rows[i];
    bool done =
        k > 1 && !d->pictures && decision_ask_many(d, able, k, g->logprob, g->p, NULL) == SLM_OK;
    free(able);
    return done;
}

/* Answers and writes a group. False: the work ends, *code says why. */
static bool do_group(struct decision *d, struct rows_out *w, struct group *g, struct pace *pace,
                     int *code) {
    double *logprob = d->logprob, *p = d->p;
    bool together = ask_together(d, g), go_on = true;
    size_t at = 0;
    for (size_t i = 0; i < g->n && go_on; i++) {
        struct row *row = &g->rows[i];
        slm_why why = row->why;
        slm_err err = row->err;
        if (err == SLM_OK && together) {
            d->logprob = g->logprob + at * d->n;
            d->p = g->p + at++ * d->n;
        } else if (err == SLM_OK) {
            err = decision_ask(d, row->text, row->n_text, &why);
        }
        if (err != SLM_OK && ends_all(err)) {
            *code = report_error(d->cli, AT_WORK, err, &why, NULL);
            go_on = false;
        } else {
            go_on = put_row(d, w, row, err, &why, pace, code);
        }
    }
    d->logprob = logprob;
    d->p = p;
    for (size_t i = 0; i < g->n; i++)
        row_free(&g->rows[i]);
    g->n = 0;
    return go_on;
}

/* Groups are as large as --parallel says, or as there is input: what comes slowly is answered at once. */
static int each_row(struct decision *d, struct rows *r, struct rows_out *w, struct pace *pace) {
    struct group g = { .most = (size_t)opt_int(d->cli, OPT_PARALLEL_ROWS, 8) };
    int code = rows_skip_done(r, w);
    bool more = code == EXIT_DONE;
    g.rows = keep(calloc(g.most, sizeof *g.rows));
    g.logprob = keep(calloc(2 * g.most * d->n, sizeof *g.logprob));
    g.p = g.logprob + g.most * d->n;
    while (more) {
        struct row row;
        more = rows_next(r, &row, &code);
        if (more)
            g.rows[g.n++] = row;
        if (code != EXIT_DONE || (more && g.n < g.most && rows_waiting(r)))
            continue;
        if (!do_group(d, w, &g, pace, &code))
            break;
        pace_step(pace, pace->rows, r->total > w->done ? r->total - w->done : 0);
    }
    for (size_t i = 0; i < g.n; i++)
        row_free(&g.rows[i]);
    free(g.rows);
    free(g.logprob);
    return code;
}

/* ------------------------------------------------------------------ pictures */

/* What the names after MODEL are: pictures when the first one is a file of a known kind. */
static bool names_pictures(const char *path) {
    static const char *const kinds[] = { ".jpg", ".jpeg", ".png", ".webp" };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < ARRAY_LEN(kinds); i++)
        if (strcasecmp(dot, kinds[i]) == 0)
            return access(path, F_OK) == 0;
    return false;
}

/* A record for each; one that cannot be read is a record with an error. */
static int classify_pictures(struct decision *d) {
    struct cli *c = d->cli;
    size_t failed = 0, n = c->options.n_args - 1;
    struct pace pace;
    int code = EXIT_DONE;
    pace_start(&pace, c, "classify");
    for (size_t i = 0; i < n && code == EXIT_DONE && !interrupted(); i++) {
        const char *path = c->options.args[i + 1];
        struct row row = { .number = i + 1, .id = json_string(path) };
        struct buf line;
        slm_why why;
        slm_err err = decision_ask(d, path, strlen(path), &why);
        if (err != SLM_OK && ends_all(err)) {
            code = report_error(c, AT_WORK, err, &why, NULL);
        } else {
            buf_init(&line, NULL, LINE_MOST);
            if (err == SLM_OK)
                record_json(&line, d, &row);
            else
                record_error(&line, &row, err, &why);
            buf_puts(&line, "}\n");
            if (line.err != SLM_OK || !out_write(&c->out, line.data, line.len))
                code = EXIT_COULD_NOT;
            out_flush(&c->out);
            buf_free(&line);
        }
        failed += err != SLM_OK;
        pace.rows++;
        pace_step(&pace, pace.rows, n);
        json_decref(row.id);
    }
    pace_end(&pace);
    if (code == EXIT_DONE && interrupted())
        return EXIT_INTERRUPTED;
    return code == EXIT_DONE && failed > 0 ? EXIT_COULD_NOT : code;
}

/* ------------------------------------------------------------------ a stream of rows */

/* What every row would fail for; it also evaluates what all rows begin with. */
static int try_once(struct decision *d) {
    slm_why why;
    if (d->pictures)
        return EXIT_DONE; /* each has its own, and takes long */
    slm_err err = decision_ask(d, "?", 1, &why);
    return err == SLM_OK ? EXIT_DONE
                         : report_answer(d->cli, &d->model, err, &why, d->result.prompt_tokens);
}

static int classify_rows(struct decision *d, const char *input) {
    struct cli *c = d->cli;
    struct rows rows = { 0 };
    struct rows_out out = { .fd = -1 };
    struct pace pace;
    const char *path = opt_text(c, OPT_OUT);
    enum row_form form = rows_output_form(c, path);
    struct rows_options o = rows_input(c, input, false);
    char settings[96];
    if (c->json && form == ROWS_CSV && path == NULL)
        return report_usage(c, "--out FILE",
                            "--json and CSV on standard output exclude each other");
    snprintf(settings, sizeof settings, "classify %s %.17g %d", d->settings, d->o.temperature,
             (int)form);
    struct buf all;
    buf_init(&all, NULL, LINE_MOST);
    buf_puts(&all, settings);
    buf_put(&all, d->bias, d->n * sizeof *d->bias);
    char *header = csv_header(d, path != NULL);
    int code = rows_open(&rows, c, &o, all.data, all.len);
    if (code == EXIT_DONE)
        code = rows_out_open(&out, c, path, form, header);
    if (code == EXIT_DONE)
        code = try_once(d);
    pace_start(&pace, c, "classify");
    if (code == EXIT_DONE)
        code = each_row(d, &rows, &out, &pace);
    pace_end(&pace);
    int closed = rows_out_close(&out);
    code = code == EXIT_DONE ? closed : code;
    code = rows_summary(c, &d->model, &pace, &out, code);
    rows_close(&rows);
    free(header);
    buf_free(&all);
    return code;
}

/* ------------------------------------------------------------------ the command */

/* At most one of: TEXT, --input, --calibrate, --evaluate; without any the rows come from a pipe. */
static int check_sources(struct cli *c, const char **input) {
    bool text = c->options.n_args > 1, calibrate = opt_set(c, OPT_CALIBRATE),
         evaluate = opt_set(c, OPT_EVALUATE), rows = opt_set(c, OPT_INPUT);
    *input = opt_text(c, OPT_INPUT);
    if (text + calibrate + evaluate + rows > 1)
        return report_usage(c, NULL,
                            "TEXT, --input, --calibrate and --evaluate exclude each other");
    if (opt_set(c, OPT_SAVE_CALIBRATION) && !calibrate)
        return report_usage(c, NULL, "--save-calibration belongs to --calibrate FILE");
    if (calibrate && opt_set(c, OPT_CALIBRATION))
        return report_usage(c, NULL, "--calibrate and --calibration exclude each other");
    if ((text || calibrate || evaluate) && opt_set(c, OPT_OUT))
        return report_usage(c, NULL, "--out belongs to rows");
    if (!text && !calibrate && !evaluate && !rows) {
        if (!input_is_piped(c, true))
            return report_usage(c, "slm classify MODEL --labels a,b 'a text'\n--input FILE    rows",
                                "there is nothing to classify");
        *input = "-";
    }
    return EXIT_DONE;
}

int cmd_classify(struct cli *c) {
    struct decision d = { .cli = c };
    const char *input;
    int code = check_sources(c, &input);
    if (code == EXIT_DONE)
        code = decision_labels(&d);
    if (code == EXIT_DONE)
        code = model_open(c, c->options.args[0], SLM_ALL, SLM_ALL, &d.model);
    d.pictures = opt_set(c, OPT_ROW_PICTURES) ||
                 (c->options.n_args > 1 && names_pictures(c->options.args[1]));
    if (code == EXIT_DONE && d.pictures)
        code = picture_check(c, &d.model);
    if (code == EXIT_DONE)
        code = decision_prompt(&d);
    if (code == EXIT_DONE && opt_set(c, OPT_CALIBRATION))
        code = calibration_read(&d, opt_text(c, OPT_CALIBRATION));
    if (code == EXIT_DONE)
        code = model_session(c, &d.model);
    if (code == EXIT_DONE) {
        note_model(c, &d.model);
        signals_watch(d.model.session);
        if (opt_set(c, OPT_CALIBRATE))
            code = classify_calibrate(&d, opt_text(c, OPT_CALIBRATE));
        else if (opt_set(c, OPT_EVALUATE))
            code = classify_evaluate(&d, opt_text(c, OPT_EVALUATE));
        else if (input != NULL)
            code = classify_rows(&d, input);
        else if (d.pictures && (c->options.n_args > 2 || c->json))
            code = classify_pictures(&d);
        else
            code = classify_text(&d);
        signals_watch(NULL);
    }
    decision_free(&d);
    return code;
}
