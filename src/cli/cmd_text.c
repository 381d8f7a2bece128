/* cmd_text.c - `slm tokenize`, `slm detokenize`, `slm render`: text, ids and prompts, also as lines
 * of JSON, for tests and for people who check us. A line that fails gives {"error": ...} and the
 * rest goes on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { TEXT_MOST = 1 << 30 };

/* ------------------------------------------------------------------ lines */

/* Calls one() for each line that is not blank; out gets one line each. */
static int each_line(struct cli *c, const struct loaded *m,
                     json_t *(*one)(struct cli *c, const struct loaded *m, const char *text,
                                    size_t n)) {
    struct lines *l = keep(malloc(sizeof *l));
    int code = EXIT_DONE;
    lines_init(l);
    while (code == EXIT_DONE && lines_next(l)) {
        if (l->line.err)
            code = report(c, EXIT_COULD_NOT, "E_BUDGET", NULL, "a line has more than %d bytes",
                          LINE_MOST);
        else if (!lines_blank(l) && !out_json(&c->out, one(c, m, l->line.data, l->line.len), true))
            break;
    }
    if (interrupted())
        code = EXIT_INTERRUPTED;
    else if (code == EXIT_DONE && l->failed)
        code = report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read standard input: %s",
                      strerror(errno));
    lines_free(l);
    free(l);
    return code;
}

static json_t *failed_line(slm_err err, const slm_why *why) {
    return json_pack("{s:o}", "error", error_json(err, why));
}

static json_t *bad_line(const char *message) {
    slm_why why = { .code = SLM_E_ARG, .offset = SLM_NO_OFFSET };
    snprintf(why.message, sizeof why.message, "%s", message);
    return failed_line(SLM_E_ARG, &why);
}

/* A line as JSON. Unlike json_text of the library it takes \u0000: text is bytes with a length here. */
static slm_err parse_line(const char *line, size_t n, json_t **out, slm_why *why) {
    json_error_t error;
    *out = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (*out)
        return SLM_OK;
    why->offset = error.position >= 0 ? (uint64_t)error.position : SLM_NO_OFFSET;
    snprintf(why->message, sizeof why->message, "JSON: %s", error.text);
    return SLM_E_FORMAT;
}

static char *read_input(struct cli *c, size_t *n) {
    char *text = read_all(STDIN_FILENO, TEXT_MOST, n);
    if (!text && !interrupted())
        report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read standard input: %s", strerror(errno));
    return text;
}

/* ------------------------------------------------------------------ tokenize */

static json_t *ids_json(const int32_t *ids, size_t n) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static unsigned encode_flags(const struct cli *c) {
    return (opt_set(c, OPT_BOS) ? (unsigned)SLM_ENCODE_BOS : 0u) |
           (opt_set(c, OPT_DATA) ? (unsigned)SLM_ENCODE_DATA : 0u);
}

static json_t *tokenize_line(struct cli *c, const struct loaded *m, const char *line, size_t n) {
    json_t *doc = NULL, *result;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    slm_why why;
    slm_err err = parse_line(line, n, &doc, &why);
    if (err != SLM_OK)
        return failed_line(err, &why);
    const json_t *text = json_object_get(doc, "text"), *special = json_object_get(doc, "special"),
                 *bos = json_object_get(doc, "bos");
    if (!json_is_string(text) || (special && !json_is_boolean(special)) ||
        (bos && !json_is_boolean(bos))) {
        result = bad_line("a line is {\"text\": string, \"special\": bool?, \"bos\": bool?}");
    } else {
        unsigned flags = encode_flags(c);
        if (special)
            flags = json_is_true(special) ? flags & ~(unsigned)SLM_ENCODE_DATA
                                          : flags | (unsigned)SLM_ENCODE_DATA;
        if (bos)
            flags = json_is_true(bos) ? flags | (unsigned)SLM_ENCODE_BOS
                                      : flags & ~(unsigned)SLM_ENCODE_BOS;
        err = slm_encode(m->engine, json_string_value(text), json_string_length(text), flags, &ids,
                         &n_ids, &why);
        result = err != SLM_OK ? failed_line(err, &why)
                               : json_pack("{s:o}", "ids", ids_json(ids, n_ids));
        slm_free(m->engine, ids);
    }
    json_decref(doc);
    return result;
}

static int tokenize_text(struct cli *c, const struct loaded *m, const char *text, size_t n) {
    int32_t *ids = NULL;
    size_t n_ids = 0;
    slm_why why;
    slm_err err = slm_encode(m->engine, text, n, encode_flags(c), &ids, &n_ids, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    if (c->json || opt_set(c, OPT_JSONL)) {
        out_json(&c->out, json_pack("{s:o}", "ids", ids_json(ids, n_ids)), true);
    } else {
        for (size_t i = 0; i < n_ids; i++)
            out_printf(&c->out, "%s%d", i ? "," : "", ids[i]);
        out_text(&c->out, "\n");
    }
    slm_free(m->engine, ids);
    return EXIT_DONE;
}

int cmd_tokenize(struct cli *c) {
    struct loaded m = { 0 };
    size_t n;
    int code = model_open(c, c->options.args[0], SLM_TOKENIZER, SLM_TOKENIZER, &m);
    if (code == EXIT_DONE && c->options.n_args == 2) {
        code = tokenize_text(c, &m, c->options.args[1], strlen(c->options.args[1]));
    } else if (code == EXIT_DONE && opt_set(c, OPT_JSONL)) {
        code = each_line(c, &m, tokenize_line);
    } else if (code == EXIT_DONE) {
        char *text = read_input(c, &n);
        code = text            ? tokenize_text(c, &m, text, n)
               : interrupted() ? EXIT_INTERRUPTED
                               : EXIT_COULD_NOT;
        free(text);
    }
    model_close(&m);
    return code;
}

/* ------------------------------------------------------------------ detokenize */

/* Checked narrowing of ids; *out is owned (free). */
static bool narrow_ids(const int64_t *from, size_t n, int32_t **out) {
    int32_t *ids = keep(malloc((n ? n : 1) * sizeof *ids));
    for (size_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] > INT32_MAX) {
            free(ids);
            return false;
        }
        ids[i] = (int32_t)from[i];
    }
    *out = ids;
    return true;
}

static json_t *detokenize_ids(const struct loaded *m, const int32_t *ids, size_t n, bool skip) {
    char *text = NULL;
    size_t n_text = 0;
    slm_why why;
    slm_err err = slm_decode(m->engine, ids, n, skip, &text, &n_text, &why);
    if (err != SLM_OK)
        return failed_line(err, &why);
    json_t *string = json_stringn(text, n_text);
    slm_free(m->engine, text);
    return string ? json_pack("{s:o}", "text", string) : bad_line("the ids end inside a character");
}

static json_t *detokenize_line(struct cli *c, const struct loaded *m, const char *line, size_t n) {
    json_t *doc = NULL, *result, *item;
    slm_why why;
    size_t i, n_ids = 0;
    slm_err err = parse_line(line, n, &doc, &why);
    if (err != SLM_OK)
        return failed_line(err, &why);
    const json_t *list = json_is_array(doc) ? doc : json_object_get(doc, "ids");
    const json_t *special = json_object_get(doc, "skip_special");
    int32_t *ids = keep(malloc((json_array_size(list) + 1) * sizeof *ids));
    json_array_foreach(list, i, item) {
        json_int_t v = json_is_integer(item) ? json_integer_value(item) : -1;
        if (v >= 0 && v <= INT32_MAX)
            ids[n_ids++] = (int32_t)v;
    }
    if (!json_is_array(list) || n_ids != json_array_size(list))
        result = bad_line("a line is {\"ids\": [numbers from 0], \"skip_special\": bool?}");
    else
        result = detokenize_ids(m, ids, n_ids,
                                special ? json_is_true(special) : opt_set(c, OPT_SKIP_SPECIAL));
    free(ids);
    json_decref(doc);
    return result;
}

/* A list of numbers as plain text; the bytes go out as they are. */
static int detokenize_text(struct cli *c, const struct loaded *m, const char *list) {
    const char *bad;
    size_t n, n_text = 0;
    int32_t *ids;
    char *text = NULL;
    slm_why why;
    int64_t *wide = parse_ints(list, &n, &bad);
    if (!wide)
        return report_usage(c, NULL,
                            "ids are numbers with commas or spaces between them, not '%.40s'", bad);
    bool ok = narrow_ids(wide, n, &ids);
    free(wide);
    if (!ok)
        return report_usage(c, NULL, "ids are numbers from 0");
    if (c->json) {
        json_t *doc = detokenize_ids(m, ids, n, opt_set(c, OPT_SKIP_SPECIAL));
        int code = json_object_get(doc, "error") ? EXIT_COULD_NOT : EXIT_DONE;
        out_json(&c->out, doc, true);
        free(ids);
        return code;
    }
    slm_err err = slm_decode(m->engine, ids, n, opt_set(c, OPT_SKIP_SPECIAL), &text, &n_text, &why);
    free(ids);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    out_write(&c->out, text, n_text);
    out_text(&c->out, "\n");
    slm_free(m->engine, text);
    return EXIT_DONE;
}

static int detokenize_input(struct cli *c, const struct loaded *m) {
    struct lines *l = keep(malloc(sizeof *l));
    int code = EXIT_DONE;
    lines_init(l);
    while (code == EXIT_DONE && lines_next(l)) {
        if (lines_blank(l))
            continue;
        const char *first = l->line.data + strspn(l->line.data, " \t");
        if (*first == '{' || *first == '[')
            out_json(&c->out, detokenize_line(c, m, l->line.data, l->line.len), true);
        else
            code = detokenize_text(c, m, l->line.data);
    }
    if (interrupted())
        code = EXIT_INTERRUPTED;
    lines_free(l);
    free(l);
    return code;
}

int cmd_detokenize(struct cli *c) {
    struct loaded m = { 0 };
    int code = model_open(c, c->options.args[0], SLM_TOKENIZER, SLM_TOKENIZER, &m);
    if (code == EXIT_DONE && c->options.n_args > 1) {
        struct buf b;
        buf_init(&b, NULL, LINE_MOST);
        for (size_t i = 1; i < c->options.n_args; i++)
            buf_printf(&b, "%s ", c->options.args[i]);
        code = detokenize_text(c, &m, b.data);
        buf_free(&b);
    } else if (code == EXIT_DONE && opt_set(c, OPT_JSONL)) {
        code = each_line(c, &m, detokenize_line);
    } else if (code == EXIT_DONE) {
        code = detokenize_input(c, &m);
    }
    model_close(&m);
    return code;
}

/* ------------------------------------------------------------------ render */

static slm_render_options render_options(const struct cli *c) {
    slm_render_options o = slm_render_default();
    o.date = opt_int(c, OPT_DATE, opt_set(c, OPT_FIXED_DATE) ? DATE_FIXED : o.date);
    return o;
}

static json_t *render_line(struct cli *c, const struct loaded *m, const char *line, size_t n) {
    slm_render_options o = render_options(c);
    char *text = NULL;
    size_t n_text = 0;
    slm_why why;
    slm_err err = slm_render(m->engine, line, n, &o, &text, &n_text, &why);
    if (err != SLM_OK)
        return failed_line(err, &why);
    json_t *string = json_stringn(text, n_text);
    slm_free(m->engine, text);
    return string ? json_pack("{s:o}", "rendered", string)
                  : bad_line("the template wrote invalid UTF-8");
}

static int render_input(struct cli *c, const struct loaded *m) {
    slm_render_options o = render_options(c);
    char *text = NULL;
    size_t n, n_text = 0;
    slm_why why;
    char *request = read_input(c, &n);
    if (!request)
        return interrupted() ? EXIT_INTERRUPTED : EXIT_COULD_NOT;
    slm_err err = slm_render(m->engine, request, n, &o, &text, &n_text, &why);
    free(request);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    if (c->json)
        out_json(&c->out, json_pack("{s:o}", "rendered", json_stringn(text, n_text)), false);
    else
        out_write(&c->out, text, n_text);
    slm_free(m->engine, text);
    return EXIT_DONE;
}

int cmd_render(struct cli *c) {
    struct loaded m = { 0 };
    int code = model_open(c, c->options.args[0], SLM_TEMPLATE, SLM_TEMPLATE, &m);
    if (code == EXIT_DONE)
        code = opt_set(c, OPT_JSONL) ? each_line(c, &m, render_line) : render_input(c, &m);
    model_close(&m);
    return code;
}
