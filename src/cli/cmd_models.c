/* cmd_models.c - `slm models`: the known models, what fits this memory and what is on this disk; and
 * `slm` alone, which shows the same and goes on to a chat.
 *
 * "needs" is the plan of the file on disk, or, where there is none, an estimate from the table: the
 * size of the file that `slm pull` would fetch plus keys and values. Both for the context that `run`
 * takes by itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

struct model_row {
    slm_card card;
    const struct disk_model *disk; /* best on disk, NULL none */
    uint64_t needs;                /* bytes, 0 unknown */
    uint32_t context;              /* that needs counts */
    bool exact, fits;              /* needs comes from a plan; within the memory */
};

static uint64_t estimate(const slm_card *card, uint64_t file_bytes, uint32_t context) {
    if (!file_bytes)
        return 0;
    return file_bytes + card->kv_bytes_fixed + card->kv_bytes_token * context;
}

/* Plan of a file on disk (NULL: the built-in model) for a context; false when it cannot be read. */
static bool plan_file(struct cli *c, const struct disk_model *disk, uint32_t context,
                      uint64_t *needs) {
    slm_engine_options o = engine_options(c, disk ? disk->id : NULL);
    slm_session_options s = session_options(c);
    const struct found where = { .demo = !disk, .path = disk ? disk->path : NULL };
    slm_engine *engine = NULL;
    slm_plan plan = { .size = sizeof plan };
    o.need = o.want = 0;
    if (open_found(&where, &o, &engine, NULL) != SLM_OK)
        return false;
    s.context = context;
    bool ok = slm_engine_plan(engine, &s, &plan, NULL) == SLM_OK;
    slm_engine_close(engine);
    *needs = plan.total;
    return ok;
}

static void fill_row(struct cli *c, const struct disk_list *list, uint64_t memory,
                     struct model_row *row) {
    uint64_t asked = (uint64_t)opt_int(c, OPT_CONTEXT, CONTEXT_DEFAULT);
    row->context = asked < row->card.context ? (uint32_t)asked : row->card.context;
    row->disk = disk_best(list, row->card.id, NULL, memory);
    if (row->disk || row->card.builtin)
        row->exact = plan_file(c, row->disk, row->context, &row->needs);
    if (!row->exact) {
        const struct slm_hub_file *file = default_file(&row->card);
        uint64_t bytes = row->disk ? row->disk->bytes : file ? file->bytes : 0;
        row->needs = estimate(&row->card, bytes, row->context);
    }
    row->fits = row->needs && row->needs <= memory;
}

/* ------------------------------------------------------------------ table */

static const char *short_count(uint64_t n, char *text, size_t size) {
    if (n >= 1000000000)
        snprintf(text, size, "%.1fB", (double)n / 1e9);
    else
        snprintf(text, size, "%.0fM", (double)n / 1e6);
    return text;
}

static const char *short_context(uint32_t n, char *text, size_t size) {
    if (n >= 1024 && n % 1024 == 0)
        snprintf(text, size, "%uk", n / 1024);
    else
        snprintf(text, size, "%u", n);
    return text;
}

static const char *think_word(enum slm_think think) {
    return think == SLM_THINK_SWITCH ? "on/off" : think == SLM_THINK_ALWAYS ? "always" : "no";
}

static void print_table(struct cli *c, const struct model_row *rows, size_t n) {
    out_printf(&c->out, "%-23s %6s %7s %-6s %-6s %9s %-4s %s\n", "model", "params", "context",
               "thinks", "images", "needs", "fits", "on disk");
    for (size_t i = 0; i < n; i++) {
        const struct model_row *r = &rows[i];
        char params[16], context[16], needs[32] = "?", marked[40];
        bool images = r->card.modalities && strstr(r->card.modalities, "image");
        if (r->needs)
            format_bytes(r->needs, needs, sizeof needs);
        snprintf(marked, sizeof marked, "%s%s", r->exact ? "" : "~", needs);
        out_printf(&c->out, "%-23s %6s %7s %-6s %-6s %9s %-4s %.12s\n", r->card.id,
                   short_count(r->card.params, params, sizeof params),
                   short_context(r->card.context, context, sizeof context),
                   think_word(r->card.think), images ? "yes" : "no", marked, r->fits ? "yes" : "no",
                   r->card.builtin     ? "built in"
                   : !r->disk          ? "-"
                   : r->disk->quant[0] ? r->disk->quant
                                       : "yes");
    }
}

static json_t *text_json(const char *s) {
    return s ? json_string(s) : json_null();
}

static json_t *disk_json(const struct disk_list *list, const char *id) {
    json_t *all = keep_json(json_array());
    for (size_t i = 0; i < list->n; i++) {
        const struct disk_model *m = &list->items[i];
        if (strcmp(m->id, id) == 0)
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:I}", "path", m->path, "place",
                                                 m->place, "quant", m->quant, "bytes",
                                                 (json_int_t)m->bytes));
    }
    return all;
}

static json_t *sampling_json(const slm_sampling *s) {
    char t[4][32];
    const float v[4] = { s->temperature, s->top_p, s->min_p, s->presence_penalty };
    for (size_t i = 0; i < 4; i++)
        snprintf(t[i], sizeof t[i], "%.6g", (double)v[i]);
    return json_pack("{s:f, s:I, s:f, s:f, s:f}", "temperature", strtod(t[0], NULL), "top_k",
                     (json_int_t)s->top_k, "top_p", strtod(t[1], NULL), "min_p", strtod(t[2], NULL),
                     "presence_penalty", strtod(t[3], NULL));
}

static json_t *scores_json(const slm_card *card) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < card->n_scores; i++) {
        const struct slm_score *s = &card->scores[i];
        char value[32];
        snprintf(value, sizeof value, "%.6g", s->value);
        json_array_append_new(list, json_pack("{s:s, s:f, s:s?}", "benchmark", s->benchmark,
                                              "value", strtod(value, NULL), "source", s->source));
    }
    return list;
}

static json_t *files_json(const slm_card *card) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < card->n_files; i++) {
        const struct slm_hub_file *f = &card->files[i];
        json_array_append_new(list,
                              json_pack("{s:s?, s:s?, s:s?, s:I}", "quant", f->quant, "repo",
                                        f->repo, "file", f->file, "bytes", (json_int_t)f->bytes));
    }
    return list;
}

static json_t *row_json(const struct model_row *r, const struct disk_list *list) {
    const slm_card *k = &r->card;
    json_t *o = keep_json(json_object());
    json_object_set_new(o, "id", text_json(k->id));
    json_object_set_new(o, "title", text_json(k->title));
    json_object_set_new(o, "maker", text_json(k->maker));
    json_object_set_new(o, "hub_id", text_json(k->hub_id));
    json_object_set_new(o, "family", text_json(k->family));
    json_object_set_new(o, "params", json_integer((json_int_t)k->params));
    json_object_set_new(o, "params_embedding", json_integer((json_int_t)k->params_embed));
    json_object_set_new(o, "context", json_integer((json_int_t)k->context));
    json_object_set_new(o, "layers", json_integer((json_int_t)k->layers));
    json_object_set_new(o, "hidden", json_integer((json_int_t)k->hidden));
    json_object_set_new(o, "vocab", json_integer((json_int_t)k->vocab));
    json_object_set_new(o, "kv_bytes_token", json_integer((json_int_t)k->kv_bytes_token));
    json_object_set_new(o, "kv_bytes_fixed", json_integer((json_int_t)k->kv_bytes_fixed));
    json_object_set_new(o, "modalities", text_json(k->modalities));
    json_object_set_new(o, "languages", text_json(k->languages));
    json_object_set_new(o, "thinks", json_string(think_word(k->think)));
    json_object_set_new(o, "thinking", text_json(k->thinking));
    json_object_set_new(o, "tool_use", text_json(k->tool_use));
    json_object_set_new(o, "good_at", text_json(k->good_at));
    json_object_set_new(o, "licence", text_json(k->licence));
    json_object_set_new(o, "licence_url", text_json(k->licence_url));
    json_object_set_new(o, "sampling", sampling_json(&k->sampling));
    json_object_set_new(o, "sampling_no_think", sampling_json(&k->sampling_no_think));
    json_object_set_new(o, "suggested_output", json_integer((json_int_t)k->suggested_output));
    json_object_set_new(o, "scores", scores_json(k));
    json_object_set_new(o, "files", files_json(k));
    json_object_set_new(o, "builtin", json_boolean(k->builtin));
    json_object_set_new(o, "on_disk", disk_json(list, k->id));
    json_object_set_new(o, "needs_bytes",
                        r->needs ? json_integer((json_int_t)r->needs) : json_null());
    json_object_set_new(o, "needs_context", json_integer((json_int_t)r->context));
    json_object_set_new(o, "needs_is", json_string(r->exact ? "plan" : "estimate"));
    json_object_set_new(o, "fits", json_boolean(r->fits));
    return o;
}

/* ------------------------------------------------------------------ one card */

/* "label     text", wrapped at 80 columns. */
static void line(struct cli *c, const char *label, const char *text) {
    enum { INDENT = 13, COLUMNS = 80 };
    size_t at = INDENT;
    if (!text || !text[0])
        return;
    out_printf(&c->out, "%-*s", INDENT, label);
    for (bool first = true; *text; first = false) {
        size_t n = strcspn(text, " "), columns = text_columns(text, n);
        if (!first && at + 1 + columns > COLUMNS) {
            out_printf(&c->out, "\n%-*s", INDENT, "");
            at = INDENT;
        } else if (!first) {
            out_text(&c->out, " ");
            at++;
        }
        out_write(&c->out, text, n);
        at += columns;
        text += n;
        text += strspn(text, " ");
    }
    out_text(&c->out, "\n");
}

static void print_sampling(struct cli *c, const char *label, const slm_sampling *s) {
    char text[200];
    int n = snprintf(text, sizeof text, s->temperature > 0 ? "temperature %g" : "greedy",
                     (double)s->temperature);
    if (s->top_k)
        n += snprintf(text + n, sizeof text - (size_t)n, ", top-k %u", s->top_k);
    if (s->top_p < 1)
        n += snprintf(text + n, sizeof text - (size_t)n, ", top-p %g", (double)s->top_p);
    if (s->min_p > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, ", min-p %g", (double)s->min_p);
    if (s->presence_penalty > 0)
        snprintf(text + n, sizeof text - (size_t)n, ", presence penalty %g",
                 (double)s->presence_penalty);
    line(c, label, text);
}

/* A source stands once above the scores that it gave. */
static void print_scores(struct cli *c, const slm_card *k) {
    char text[256];
    for (size_t i = 0; i < k->n_scores; i++) {
        const struct slm_score *s = &k->scores[i];
        const char *source = s->source ? s->source : "no source";
        if (i == 0 ||
            strcmp(source, k->scores[i - 1].source ? k->scores[i - 1].source : "no source") != 0)
            line(c, i ? "" : "scores", source);
        snprintf(text, sizeof text, "%6.4g  %s", s->value, s->benchmark);
        out_printf(&c->out, "%-13s%s\n", "", text);
    }
}

/* Files to pull, under the repository that has them; the one that is fetched unless told otherwise
 * is marked. */
static void print_files(struct cli *c, const slm_card *k) {
    char size[32];
    for (size_t i = 0; i < k->n_files; i++) {
        const struct slm_hub_file *f = &k->files[i];
        if (i == 0 || strcmp(f->repo, k->files[i - 1].repo) != 0)
            line(c, i ? "" : "to pull", f->repo);
        out_printf(&c->out, "%-13s%c %-7s %9s  %s\n", "", f == default_file(k) ? '*' : ' ',
                   f->quant ? f->quant : "?",
                   f->bytes ? format_bytes(f->bytes, size, sizeof size) : "",
                   f->file ? f->file : "safetensors");
    }
}

static void print_card(struct cli *c, const struct model_row *r, const struct disk_list *list) {
    const slm_card *k = &r->card;
    char a[32], b[32], d[32], text[640];
    out_printf(&c->out, "%s%s%s\n", k->title ? k->title : k->id, k->maker ? " by " : "",
               k->maker ? k->maker : "");
    line(c, "id", k->id);
    line(c, "hub", k->hub_id);
    line(c, "good at", k->good_at);
    snprintf(text, sizeof text,
             "%s, of these %s in the embedding; %u layers, width %u, vocabulary %s",
             format_count(k->params, a, sizeof a), format_count(k->params_embed, b, sizeof b),
             k->layers, k->hidden, format_count(k->vocab, d, sizeof d));
    line(c, "parameters", text);
    snprintf(text, sizeof text, "%s tokens; keys and values %s per token%s%s",
             format_count(k->context, a, sizeof a), format_bytes(k->kv_bytes_token, b, sizeof b),
             k->kv_bytes_fixed ? " and at most " : "",
             k->kv_bytes_fixed ? format_bytes(k->kv_bytes_fixed, d, sizeof d) : "");
    if (k->kv_bytes_fixed)
        snprintf(text + strlen(text), sizeof text - strlen(text), " in sliding windows");
    line(c, "context", text);
    line(c, "reads", k->modalities);
    line(c, "languages", k->languages);
    line(c, "thinking", k->thinking ? k->thinking : think_word(k->think));
    line(c, "tools", k->tool_use);
    snprintf(text, sizeof text, "%s%s%s%s", k->licence ? k->licence : "",
             k->licence_url ? " (" : "", k->licence_url ? k->licence_url : "",
             k->licence_url ? ")" : "");
    line(c, "licence", text);
    print_sampling(c, "sampling", &k->sampling);
    if (k->think == SLM_THINK_SWITCH)
        print_sampling(c, "  no think", &k->sampling_no_think);
    line(c, "", k->sampling_note);
    print_scores(c, k);
    print_files(c, k);
    bool any = false;
    for (size_t i = 0; i < list->n; i++) {
        const struct disk_model *m = &list->items[i];
        if (strcmp(m->id, k->id) != 0)
            continue;
        snprintf(text, sizeof text, "%s%s%s (%s, %s)", m->path, m->quant[0] ? ": " : "", m->quant,
                 m->place, format_bytes(m->bytes, a, sizeof a));
        line(c, any ? "" : "on disk", text);
        any = true;
    }
    if (!any)
        line(c, "on disk", k->builtin ? "built in" : "no");
    if (r->needs) {
        snprintf(text, sizeof text, "%s%s with a context of %s: %s", r->exact ? "" : "about ",
                 format_bytes(r->needs, a, sizeof a), format_count(r->context, b, sizeof b),
                 r->fits ? "fits the free memory" : "does not fit the free memory");
        line(c, "memory", text);
    }
}

/* ------------------------------------------------------------------ commands */

enum { ROWS_MOST = 64 };

static size_t fill_rows(struct cli *c, const struct disk_list *list, uint64_t memory,
                        struct model_row *rows) {
    size_t n = 0;
    for (size_t i = 0; i < slm_catalog_count() && n < ROWS_MOST; i++) {
        memset(&rows[n], 0, sizeof rows[n]);
        rows[n].card.size = sizeof rows[n].card;
        if (slm_catalog_get(i, &rows[n].card) == SLM_OK)
            fill_row(c, list, memory, &rows[n++]);
    }
    return n;
}

static const char *row_name(void *user, size_t i) {
    const struct model_row *rows = user;
    return i < ROWS_MOST ? rows[i].card.id : NULL;
}

int cmd_models(struct cli *c) {
    struct model_row rows[ROWS_MOST + 1];
    struct disk_list list;
    memset(rows, 0, sizeof rows);
    disk_scan(&list);
    size_t n = fill_rows(c, &list, memory_allowed(c), rows);
    int code = EXIT_DONE;
    if (c->options.n_args) {
        const char *id = c->options.args[0];
        size_t i = 0;
        while (i < n && strcasecmp(rows[i].card.id, id) != 0 &&
               !(rows[i].card.hub_id && strcasecmp(rows[i].card.hub_id, id) == 0))
            i++;
        const char *near = i < n ? NULL : nearest_name(id, row_name, rows);
        char way[96];
        snprintf(way, sizeof way, "%s%s%sslm models    lists them", near ? "did you mean " : "",
                 near ? near : "", near ? "?\n" : "");
        if (i == n)
            code = report(c, EXIT_COULD_NOT, "E_NOTFOUND", way, "'%s' is not a known model", id);
        else if (c->json)
            out_json(&c->out, row_json(&rows[i], &list), false);
        else
            print_card(c, &rows[i], &list);
    } else if (c->json) {
        json_t *all = keep_json(json_array());
        for (size_t i = 0; i < n; i++)
            json_array_append_new(all, row_json(&rows[i], &list));
        out_json(&c->out, all, false);
    } else {
        print_table(c, rows, n);
    }
    disk_free(&list);
    return code;
}

/* The largest model on disk that fits, else the built-in one. */
static const char *best_row(const struct model_row *rows, size_t n) {
    const struct model_row *best = NULL;
    for (size_t i = 0; i < n; i++)
        if (rows[i].disk && rows[i].fits && (!best || rows[i].card.params > best->card.params))
            best = &rows[i];
    return best ? best->card.id : "demo";
}

static void print_machine(struct cli *c, const slm_machine *machine,
                          const struct machine_memory *memory) {
    char cpu[128], total[32], available[32];
    out_printf(&c->out, "slm %s on %s, %s, %u thread%s, memory %s (%s free%s)\n\n", slm_version(),
               cpu_name(cpu, sizeof cpu), machine->isa, machine->threads,
               machine->threads == 1 ? "" : "s", format_bytes(memory->total, total, sizeof total),
               format_bytes(memory->available, available, sizeof available),
               memory->limited ? ", cgroup limit" : "");
}

static void print_home_json(struct cli *c, const slm_machine *machine,
                            const struct machine_memory *memory, const struct model_row *rows,
                            size_t n, const struct disk_list *list) {
    char cpu[128];
    json_t *all = keep_json(json_array());
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, row_json(&rows[i], list));
    json_t *here = keep_json(
        json_pack("{s:s, s:s, s:I, s:I, s:I}", "cpu", cpu_name(cpu, sizeof cpu), "isa",
                  machine->isa, "threads", (json_int_t)machine->threads, "memory_total",
                  (json_int_t)memory->total, "memory_available", (json_int_t)memory->available));
    out_json(&c->out,
             json_pack("{s:s, s:o, s:s, s:o}", "version", slm_version(), "machine", here, "best",
                       best_row(rows, n), "models", all),
             false);
}

int cmd_home(struct cli *c) {
    struct model_row rows[ROWS_MOST + 1];
    struct disk_list list;
    struct machine_memory memory;
    slm_machine machine = { .size = sizeof machine };
    slm_why why;
    slm_err err = slm_machine_get(SLM_MEASURE_NOTHING, (unsigned)opt_int(c, OPT_THREADS, 0), &machine, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    if (opt_set(c, OPT_ISA))
        machine.isa = opt_text(c, OPT_ISA);
    memset(rows, 0, sizeof rows);
    memory_get(&memory);
    disk_scan(&list);
    size_t n = fill_rows(c, &list, memory_allowed(c), rows);
    const char *best = best_row(rows, n);
    if (c->json) {
        print_home_json(c, &machine, &memory, rows, n, &list);
    } else {
        print_machine(c, &machine, &memory);
        print_table(c, rows, n);
        out_printf(&c->out,
                   "\nneeds: memory with a context of %d or the model's own; ~ from the table, "
                   "else planned.\n"
                   "slm models ID shows a card, slm pull ID fetches, slm help lists commands.\n",
                   CONTEXT_DEFAULT);
    }
    out_flush(&c->out);
    disk_free(&list);
    if (c->json || !c->term.in_tty || !c->term.out_tty)
        return EXIT_DONE;
    out_printf(&c->out, "\nChat with %s (/help, /quit):\n", best);
    return chat_with(c, best);
}
