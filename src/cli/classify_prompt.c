/* classify_prompt.c - the question that `slm classify` asks of each row.
 *
 * What is the same for all rows comes first, the row's text last, so that a session evaluates the former
 * once:  system  INSTRUCTION, "Answer with one label out of: a, b, c.", what the labels mean
 *        user    TEXT
 * With --template the user message is that text with {text}, {labels} and {notes} filled in, and there
 * is a system message only when --instruction gives one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/cmd_classify.h"

enum { LABELS_FILE_MOST = 16 << 20, PROMPT_MOST = 16 << 20 };

/* ------------------------------------------------------------------ labels */

static int add_label(struct decision *d, const char *s, size_t n, const char *note, size_t n_note) {
    struct cli *c = d->cli;
    while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL)
        n--;
    for (; n > 0 && strchr(" \t", *s) != NULL; n--)
        s++;
    if (n == 0)
        return report_usage(c, NULL, "there is an empty label");
    if (utf8_valid(s, n) != n || (note != NULL && utf8_valid(note, n_note) != n_note))
        return report(c, EXIT_COULD_NOT, "E_ENCODING", NULL, "label %zu is not UTF-8", d->n + 1);
    if (d->n == d->room) {
        d->room = d->room > 0 ? d->room * 2 : 16;
        d->labels = keep(realloc(d->labels, d->room * sizeof *d->labels));
        d->notes = keep(realloc(d->notes, d->room * sizeof *d->notes));
    }
    d->labels[d->n] = text_printf("%.*s", (int)n, s);
    d->notes[d->n] = note != NULL ? text_printf("%.*s", (int)n_note, note) : NULL;
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->labels[i], d->labels[d->n]) == 0) {
            d->n++;
            return report_usage(c, NULL, "the label '%.60s' is there twice", d->labels[i]);
        }
    d->n++;
    return EXIT_DONE;
}

static int labels_from_list(struct decision *d, const char *list) {
    int code = EXIT_DONE;
    for (const char *s = list; code == EXIT_DONE;) {
        size_t n = strcspn(s, ",");
        code = add_label(d, s, n, NULL, 0);
        if (s[n] == '\0')
            break;
        s += n + 1;
    }
    return code;
}

/* One label per line; what follows a tab says what it means. */
static int labels_from_file(struct decision *d, const char *path) {
    size_t n;
    char *text = read_path(path, LABELS_FILE_MOST, &n);
    int code = EXIT_DONE;
    if (text == NULL)
        return report(d->cli, EXIT_COULD_NOT, "E_IO", NULL, "cannot read the labels in %s: %s",
                      path, strerror(errno));
    if (strlen(text) != n)
        code = report(d->cli, EXIT_COULD_NOT, "E_ENCODING", NULL, "%s has a zero byte", path);
    const char *s = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
    for (; code == EXIT_DONE && *s != '\0'; s += *s == '\n') {
        size_t line = strcspn(s, "\n"), label = strcspn(s, "\t\n"), end = line;
        while (end > label && strchr(" \t\r", s[end - 1]) != NULL)
            end--;
        if (strspn(s, " \t\r") < line)
            code = add_label(d, s, label, end > label ? s + label + 1 : NULL, end - label - 1);
        s += line;
    }
    free(text);
    return code;
}

int decision_labels(struct decision *d) {
    struct cli *c = d->cli;
    const char *list = opt_text(c, OPT_LABELS), *path = opt_text(c, OPT_LABELS_FILE);
    int code;
    if ((list != NULL) == (path != NULL))
        return report_usage(
            c, "--labels a,b,c\n--labels-file FILE    a line each, or label<TAB>meaning",
            list != NULL ? "--labels and --labels-file exclude each other" : "which labels?");
    code = list != NULL ? labels_from_list(d, list) : labels_from_file(d, path);
    if (code == EXIT_DONE && d->n < 2)
        return report_usage(c, NULL, "a decision needs two labels at least");
    return code;
}

/* ------------------------------------------------------------------ prompt */

static void put_labels(struct buf *b, const struct decision *d) {
    for (size_t i = 0; i < d->n; i++)
        buf_printf(b, "%s%s", i > 0 ? ", " : "", d->labels[i]);
}

static void put_notes(struct buf *b, const struct decision *d) {
    bool any = false;
    for (size_t i = 0; i < d->n; i++)
        if (d->notes[i] != NULL) {
            buf_printf(b, "%s%s: %s", any ? "\n" : "", d->labels[i], d->notes[i]);
            any = true;
        }
}

static char *text_of(struct buf *b) {
    char *text = keep(b->err == SLM_OK ? strdup(b->data != NULL ? b->data : "") : NULL);
    buf_free(b);
    return text;
}

/* The template up to {text} and from there on, the other names filled in. */
static int fill_template(struct decision *d, const char *s) {
    struct buf part[2];
    int at = 0;
    buf_init(&part[0], NULL, PROMPT_MOST);
    buf_init(&part[1], NULL, PROMPT_MOST);
    while (*s != '\0') {
        size_t plain = strcspn(s, "{");
        buf_put(&part[at], s, plain);
        s += plain;
        if (strncmp(s, "{text}", 6) == 0 && at == 0) {
            at = 1;
            s += 6;
        } else if (strncmp(s, "{labels}", 8) == 0) {
            put_labels(&part[at], d);
            s += 8;
        } else if (strncmp(s, "{notes}", 7) == 0) {
            put_notes(&part[at], d);
            s += 7;
        } else if (*s != '\0') {
            buf_putc(&part[at], *s++);
        }
    }
    d->before = text_of(&part[0]);
    d->after = text_of(&part[1]);
    return at == 1
               ? EXIT_DONE
               : report_usage(d->cli, NULL, "--template has no {text}, where the row's text goes");
}

/* What a calibration, and the rows of an output file, belong to. */
static void note_settings(struct decision *d) {
    struct hash h;
    char identity[33] = "";
    uint64_t sum[2];
    slm_engine_identity(d->model.engine, identity, NULL);
    hash_init(&h, 1);
    hash_add(&h, identity, sizeof identity);
    const char *const parts[] = { d->system, d->before, d->after, d->o.by_length ? "mean" : "sum" };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        hash_add(&h, parts[i] != NULL ? parts[i] : "", parts[i] != NULL ? strlen(parts[i]) + 1 : 1);
    for (size_t i = 0; i < d->n; i++)
        hash_add(&h, d->labels[i], strlen(d->labels[i]) + 1);
    hash_add_u64(&h, (uint64_t)d->o.render.date);
    hash_add_u64(&h, d->o.beginnings);
    hash_end(&h, sum);
    snprintf(d->settings, sizeof d->settings, "%016llx%016llx", (unsigned long long)sum[0],
             (unsigned long long)sum[1]);
}

int decision_prompt(struct decision *d) {
    struct cli *c = d->cli;
    const char *instruction = opt_text(c, OPT_INSTRUCTION), *template = opt_text(c, OPT_TEMPLATE);
    struct buf b;
    int code = utf8_option(c, OPT_INSTRUCTION);
    if (code == EXIT_DONE)
        code = utf8_option(c, OPT_TEMPLATE);
    if (code != EXIT_DONE)
        return code;
    buf_init(&b, NULL, PROMPT_MOST);
    if (instruction != NULL)
        buf_puts(&b, instruction);
    if (template == NULL) {
        buf_puts(&b, instruction != NULL ? "\n" : "");
        buf_puts(&b, "Answer with one label out of: ");
        put_labels(&b, d);
        buf_puts(&b, ".");
        size_t bare = b.len;
        buf_puts(&b, "\n\n");
        size_t before = b.len;
        put_notes(&b, d);
        if (b.len == before)
            b.len = bare;
        if (b.data != NULL)
            b.data[b.len] = '\0';
    }
    d->system = text_of(&b);
    if (template != NULL)
        code = fill_template(d, template);
    d->o = slm_classify_default();
    d->o.by_length = opt_set(c, OPT_BY_LENGTH);
    d->o.beginnings = opt_set(c, OPT_BEGINNINGS);
    d->o.render.date =
        opt_int(c, OPT_DATE, opt_set(c, OPT_FIXED_DATE) ? DATE_FIXED : d->o.render.date);
    d->bias = keep(calloc(3 * d->n, sizeof *d->bias));
    d->logprob = d->bias + d->n;
    d->p = d->bias + 2 * d->n;
    note_settings(d);
    return code;
}

/* ------------------------------------------------------------------ asking */

/* The row's text between the template's halves; of a picture, itself and then the halves. */
static json_t *content_of(const struct decision *d, const char *text, size_t n) {
    const char *before = d->before != NULL ? d->before : "",
               *after = d->after != NULL ? d->after : "";
    char *words = d->pictures ? text_printf("%s%s", before, after)
                              : text_printf("%s%.*s%s", before, (int)n, text, after);
    json_t *content = keep_json(json_string(words));
    if (d->pictures) {
        json_t *parts = picture_parts(1, content);
        json_decref(content);
        content = parts;
    }
    free(words);
    return content;
}

/* The request about a text. Returns owned. */
static char *request_of(const struct decision *d, const char *text, size_t n) {
    json_t *messages = keep_json(json_array());
    if (d->system[0] != '\0')
        json_array_append_new(
            messages, keep_json(json_pack("{s:s, s:s}", "role", "system", "content", d->system)));
    json_array_append_new(messages, keep_json(json_pack("{s:s, s:o}", "role", "user", "content",
                                                        content_of(d, text, n))));
    json_t *request = keep_json(json_pack("{s:o}", "messages", messages));
    char *body = keep(json_dumps(request, JSON_COMPACT));
    json_decref(request);
    return body;
}

static slm_err ask(struct decision *d, const char *text, size_t n, slm_why *why) {
    char *body = request_of(d, text, n);
    d->result = (slm_result){ .size = sizeof d->result };
    slm_err err = slm_classify(d->model.session, body, strlen(body), (const char *const *)d->labels,
                               d->n, &d->o, d->logprob, d->p, &d->result, why);
    free(body);
    return err;
}

slm_err decision_ask(struct decision *d, const char *text, size_t n, slm_why *why) {
    slm_image *image;
    if (!d->pictures)
        return ask(d, text, n, why);
    char *path = text_printf("%.*s", (int)n, text);
    slm_err err = open_picture(d->cli, &d->model, path, &d->shown, &image, why);
    free(path);
    TRY(err);
    d->o.render.images = (const slm_image *const *)&image;
    d->o.render.n_images = 1;
    err = ask(d, NULL, 0, why);
    slm_image_close(image);
    d->o.render.images = NULL;
    d->o.render.n_images = 0;
    return err;
}

slm_err decision_ask_many(struct decision *d, struct row *const *rows, size_t k, double *logprob,
                          double *p, slm_why *why) {
    char **bodies = keep(calloc(k, sizeof *bodies));
    size_t *sizes = keep(calloc(k, sizeof *sizes));
    for (size_t i = 0; i < k; i++) {
        bodies[i] = request_of(d, rows[i]->text, rows[i]->n_text);
        sizes[i] = strlen(bodies[i]);
    }
    slm_err err =
        slm_classify_many(d->model.session, (const char *const *)bodies, sizes, k,
                          (const char *const *)d->labels, d->n, &d->o, logprob, p, NULL, why);
    for (size_t i = 0; i < k; i++)
        free(bodies[i]);
    free(bodies);
    free(sizes);
    return err;
}

void decision_free(struct decision *d) {
    for (size_t i = 0; i < d->n; i++) {
        free(d->labels[i]);
        free(d->notes[i]);
    }
    free(d->labels);
    free(d->notes);
    free(d->system);
    free(d->before);
    free(d->after);
    free(d->bias);
    model_close(&d->model);
}
