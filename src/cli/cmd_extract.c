/* cmd_extract.c - `slm extract`: a record by a JSON schema from a text, or from each row of a stream.
 *
 * The answer is held to the schema while it is written (slm_constraint), so a record is valid or the
 * row is an error; there is nothing in between. Several rows are answered at once by a slm_batch, in
 * whatever order they end: a ring of slots in the order of the input holds what is done until all
 * before it is, so that records come out as rows went in. The bits of a record do not depend on what
 * is answered beside it. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/rows.h"

enum { CONTEXT_EACH = 4096, SLOTS_PER_PLACE = 4, RECORD_MOST = 64 << 20 };
#define CACHE_BYTES ((uint64_t)64 << 20) /* for what all rows begin with */

struct slot {
    struct extraction *x;
    struct row row;
    slm_prompt *prompt; /* NULL: not begun, or ended */
    struct buf answer;
    bool done;
    slm_err err;
    slm_why why;
};
struct extraction {
    struct cli *cli;
    struct loaded model;
    struct asking asking;
    slm_constraint *constraint;
    slm_generate_options o;
    enum think_choice think;
    char *system;
    char **columns; /* [n_columns] of the schema, for CSV */
    size_t n_columns;
    slm_batch *batch;
    struct slot *slots; /* ring [n_slots] */
    size_t n_slots, first, used, running, places;
};

/* ------------------------------------------------------------------ the question */

/* As the model is told: INSTRUCTION, then the schema itself. */
static char *system_text(struct extraction *x) {
    const char *instruction = opt_text(x->cli, OPT_INSTRUCTION);
    char *schema = keep(
        json_dumps(json_object_get(x->asking.format, "schema"), JSON_COMPACT | JSON_ENCODE_ANY));
    char *text = text_printf("%s%sAnswer with JSON that matches this schema:\n%s",
                             instruction != NULL ? instruction : "",
                             instruction != NULL ? "\n" : "", schema);
    free(schema);
    return text;
}

static slm_err make_prompt(struct extraction *x, const char *text, slm_prompt **out, slm_why *why) {
    struct asking none = { 0 };
    size_t n;
    json_t *messages = keep_json(json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                                           x->system, "role", "user", "content", text));
    char *request = request_text(&x->model, messages, x->think, &none, &n);
    slm_err err = slm_prompt_make(x->model.engine, request, n, &x->o.render, out, why);
    free(request);
    json_decref(messages);
    return err;
}

static int settle(struct extraction *x) {
    struct cli *c = x->cli;
    if (!opt_set(c, OPT_SCHEMA))
        return report_usage(c, "--schema FILE", "which schema?");
    x->think = opt_word(c, OPT_THINK, 1) == 0 ? THINK_ON : THINK_OFF;
    if (x->model.info.think == SLM_THINK_NONE && x->think == THINK_ON)
        return report_usage(c, "slm models    which models can", "%s never thinks",
                            model_title(&x->model));
    int code = utf8_option(c, OPT_INSTRUCTION);
    if (code == EXIT_DONE)
        code = asking_options(c, &x->model, &x->asking);
    if (code == EXIT_DONE)
        code = constraint_of(c, &x->model, &x->asking, &x->constraint);
    if (code != EXIT_DONE)
        return code;
    x->system = system_text(x);
    x->o = slm_generate_default();
    x->o.default_sampling = false;
    x->o.constraint = x->constraint;
    x->o.max_tokens = (uint32_t)opt_int(c, OPT_MAX_TOKENS, 0);
    x->o.think_budget = (uint32_t)opt_int(c, OPT_THINK_BUDGET, 0);
    x->o.render.date =
        opt_int(c, OPT_DATE, opt_set(c, OPT_FIXED_DATE) ? DATE_FIXED : x->o.render.date);
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ answers */

static bool on_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct slot *s = user;
    if (part == SLM_PART_ANSWER)
        buf_put(&s->answer, text, n);
    return s->answer.err == SLM_OK;
}

static void refuse(struct slot *s, slm_err err, const char *words) {
    s->err = s->why.code = err;
    s->why.offset = SLM_NO_OFFSET;
    snprintf(s->why.message, sizeof s->why.message, "%s", words);
}

/* An answer that has ended: a record, on one line, or an error. */
static void settle_answer(struct slot *s, const slm_result *r) {
    json_t *doc = NULL;
    char words[128];
    if (s->answer.err != SLM_OK) {
        refuse(s, SLM_E_BUDGET, "the record is too long");
    } else if (r->finish != SLM_FINISH_STOP) {
        snprintf(words, sizeof words, "the record was not complete after %zu tokens%s",
                 r->output_tokens,
                 r->finish == SLM_FINISH_CONTEXT ? ", where the context is full" : "");
        refuse(s, r->finish == SLM_FINISH_CONTEXT ? SLM_E_CONTEXT : SLM_E_BUDGET, words);
    } else if (s->answer.len == 0) {
        refuse(s, SLM_E_FORMAT, "the answer is empty");
    } else if (json_text(s->answer.data, s->answer.len, &doc, &s->why) != SLM_OK) {
        s->err = s->why.code;
    }
    json_decref(doc);
    for (size_t i = 0; i < s->answer.len; i++) /* line ends stand between JSON tokens only */
        if (s->answer.data[i] == '\n' || s->answer.data[i] == '\r')
            s->answer.data[i] = ' ';
}

static void on_done(void *user, uint64_t id, const slm_result *r, slm_err err, const slm_why *why) {
    struct slot *s = user;
    (void)id;
    s->x->running--;
    slm_prompt_free(s->prompt);
    s->prompt = NULL;
    s->done = true;
    s->err = err;
    if (err != SLM_OK)
        s->why = *why;
    else
        settle_answer(s, r);
}

/* ------------------------------------------------------------------ CSV columns */

static bool is_scalar_type(const json_t *type) {
    static const char *const scalars[] = { "string", "number", "integer", "boolean", "null" };
    const char *name = json_string_value(type);
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(scalars); i++)
        if (strcmp(name, scalars[i]) == 0)
            return true;
    return false;
}

/* A property whose values are no objects and no arrays, as far as the schema says by itself. */
static bool is_flat(const json_t *property) {
    const json_t *type = json_object_get(property, "type"),
                 *list = json_object_get(property, "enum"),
                 *one = json_object_get(property, "const");
    size_t i;
    json_t *item;
    bool flat = type != NULL || list != NULL || one != NULL;
    if (json_is_array(type)) {
        json_array_foreach(type, i, item) flat = flat && is_scalar_type(item);
    } else if (type != NULL) {
        flat = is_scalar_type(type);
    }
    json_array_foreach(list, i, item) flat = flat && !json_is_object(item) && !json_is_array(item);
    return flat && !json_is_object(one) && !json_is_array(one);
}

static int csv_columns(struct extraction *x) {
    const json_t *schema = json_object_get(x->asking.format, "schema");
    json_t *properties = json_object_get(schema, "properties"), *property;
    const char *key, *type = json_string_value(json_object_get(schema, "type"));
    if (type == NULL || strcmp(type, "object") != 0 || json_object_size(properties) == 0)
        return report_usage(x->cli, "--output-format jsonl",
                            "CSV records want a schema of type object with properties");
    x->columns = keep(calloc(json_object_size(properties), sizeof *x->columns));
    json_object_foreach(properties, key, property) {
        if (!is_flat(property))
            return report_usage(x->cli, "--output-format jsonl",
                                "CSV records want a flat schema: '%.100s' is no string, number, "
                                "boolean or null",
                                key);
        x->columns[x->n_columns++] = keep(strdup(key));
    }
    return EXIT_DONE;
}

static char *csv_header(const struct extraction *x, bool checked) {
    struct buf b;
    buf_init(&b, NULL, LINE_MOST);
    buf_puts(&b, "row,id");
    for (size_t i = 0; i < x->n_columns; i++) {
        buf_putc(&b, ',');
        csv_quote(&b, x->columns[i], strlen(x->columns[i]));
    }
    buf_puts(&b, checked ? ",error,check" : ",error");
    return keep(buf_take(&b));
}

/* The values of a flat object in the order of the columns, numbers as they were written. */
static void csv_values(struct buf *b, const struct extraction *x, const struct buf *record) {
    char **cell = keep(calloc(x->n_columns + 1, sizeof *cell));
    struct json_pull p;
    size_t at = x->n_columns;
    json_pull_init(&p, NULL, record->data, record->len, NULL);
    for (enum json_event e = json_next(&p); e != PULL_END && e != PULL_ERROR; e = json_next(&p)) {
        if (e == PULL_KEY) {
            for (at = 0; at < x->n_columns; at++)
                if (strlen(x->columns[at]) == p.n && memcmp(x->columns[at], p.text, p.n) == 0)
                    break;
        } else if (e != PULL_OBJECT && e != PULL_OBJECT_END && e != PULL_NULL &&
                   at < x->n_columns) {
            free(cell[at]);
            cell[at] = e == PULL_TRUE    ? keep(strdup("true"))
                       : e == PULL_FALSE ? keep(strdup("false"))
                                         : text_printf("%.*s", (int)p.n, p.text);
        }
    }
    json_pull_free(&p);
    for (size_t i = 0; i < x->n_columns; i++) {
        buf_putc(b, ',');
        if (cell[i] != NULL)
            csv_quote(b, cell[i], strlen(cell[i]));
        free(cell[i]);
    }
    free(cell);
}

/* ------------------------------------------------------------------ rows */

static bool put_record(struct extraction *x, struct rows_out *w, struct slot *s) {
    struct buf line;
    buf_init(&line, NULL, LINE_MOST);
    if (w->form == ROWS_CSV) {
        buf_printf(&line, "%llu,", (unsigned long long)s->row.number);
        csv_id(&line, &s->row);
        if (s->err == SLM_OK)
            csv_values(&line, x, &s->answer);
        for (size_t i = 0; s->err != SLM_OK && i < x->n_columns; i++)
            buf_putc(&line, ',');
        buf_putc(&line, ',');
        if (s->err != SLM_OK)
            csv_error(&line, s->err, &s->why);
    } else if (s->err != SLM_OK) {
        record_error(&line, &s->row, s->err, &s->why);
    } else {
        record_begin(&line, &s->row);
        buf_puts(&line, ",\"record\":");
        buf_put(&line, s->answer.data, s->answer.len);
    }
    bool ok = rows_out_put(w, &s->row, &line);
    buf_free(&line);
    return ok;
}

static void free_slot(struct slot *s) {
    slm_prompt_free(s->prompt);
    buf_free(&s->answer);
    row_free(&s->row);
    *s = (struct slot){ 0 };
}

/* Starts the answer of a row; one that cannot begin is done, with its error. */
static void begin(struct extraction *x, struct slot *s) {
    slm_generate_options o = x->o;
    slm_request q = { .size = sizeof q, .options = &o, .on_done = on_done, .user = s };
    slm_prompt_info i = { .size = sizeof i };
    s->err = s->row.err;
    s->why = s->row.why;
    if (s->err == SLM_OK)
        s->err = make_prompt(x, s->row.text, &s->prompt, &s->why);
    if (s->err == SLM_OK) {
        slm_prompt_get(s->prompt, &i);
        o.prompt = s->prompt;
        o.on_text = on_text;
        o.user = s;
        q.ids = i.ids;
        q.n = i.n;
        s->err = slm_batch_add(x->batch, &q, NULL, &s->why);
    }
    s->done = s->err != SLM_OK;
    x->running += s->err == SLM_OK;
}

/* Reads rows while there are places for them. *more: the input may have others. */
static int fill(struct extraction *x, struct rows *r, bool *more) {
    int code = EXIT_DONE;
    while (*more && x->running < x->places && x->used < x->n_slots) {
        struct slot *s = &x->slots[(x->first + x->used) % x->n_slots];
        struct row row;
        *more = rows_next(r, &row, &code);
        if (!*more)
            break;
        *s = (struct slot){ .x = x, .row = row };
        buf_init(&s->answer, NULL, RECORD_MOST);
        x->used++;
        begin(x, s);
    }
    return code;
}

/* Writes what is done at the front of the ring. */
static bool drain(struct extraction *x, struct rows_out *w, struct pace *pace, int *code) {
    while (x->used > 0 && x->slots[x->first].done) {
        struct slot *s = &x->slots[x->first];
        if (s->err != SLM_OK && ends_all(s->err)) {
            *code = report_error(x->cli, AT_WORK, s->err, &s->why, NULL);
            return false;
        }
        pace->rows++;
        pace->failed += s->err != SLM_OK;
        bool ok = put_record(x, w, s);
        free_slot(s);
        x->first = (x->first + 1) % x->n_slots;
        x->used--;
        if (!ok) {
            *code = w->path != NULL ? EXIT_COULD_NOT : EXIT_DONE;
            return false;
        }
    }
    return true;
}

static int each_row(struct extraction *x, struct rows *r, struct rows_out *w, struct pace *pace) {
    int code = rows_skip_done(r, w);
    bool more = true;
    while (code == EXIT_DONE) {
        code = fill(x, r, &more);
        if (code != EXIT_DONE || !drain(x, w, pace, &code) || (!more && x->used == 0))
            break;
        if (x->running > 0)
            slm_batch_step(x->batch);
        if (interrupted())
            code = EXIT_INTERRUPTED;
        else if (!drain(x, w, pace, &code))
            break;
        pace_step(pace, pace->rows, r->total > w->done ? r->total - w->done : 0);
    }
    return code;
}

/* A batch with as many places as were asked for, in the context of --context or what fits. */
static int open_batch(struct extraction *x) {
    struct cli *c = x->cli;
    slm_session_options o = session_options(c);
    slm_why why;
    char have[32];
    uint32_t most = x->model.info.context < CONTEXT_EACH ? x->model.info.context : CONTEXT_EACH;
    x->places = (size_t)opt_int(c, OPT_PARALLEL_ROWS, 8);
    o.batch = true;
    o.sequences = (uint32_t)x->places;
    o.cache_bytes = CACHE_BYTES;
    o.context = (uint32_t)opt_int(c, OPT_CONTEXT, 0);
    if (o.context == 0)
        o.context = context_within(x->model.engine, &o, most, x->model.allowed);
    if (o.context == 0)
        return report(c, EXIT_MEMORY_REFUSED, "E_MEMORY",
                      "--parallel N    fewer rows at once\n--kv q8    half of it",
                      "%zu rows at once do not fit the %s that are free", x->places,
                      format_bytes(x->model.allowed, have, sizeof have));
    o.max_bytes = x->model.allowed;
    slm_err err = slm_batch_open(x->model.engine, &o, &x->batch, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, "--parallel N    fewer rows at once");
    x->n_slots = x->places * SLOTS_PER_PLACE;
    x->slots = keep(calloc(x->n_slots, sizeof *x->slots));
    return EXIT_DONE;
}

/* What the records depend on besides the rows. */
static char *settings_of(const struct extraction *x, enum row_form form) {
    char identity[33] = "";
    slm_engine_identity(x->model.engine, identity, NULL);
    return text_printf("extract %s %d %d %u %u %lld %s", identity, (int)form, (int)x->think,
                       x->o.max_tokens, x->o.think_budget, (long long)x->o.render.date, x->system);
}

static int extract_rows(struct extraction *x, const char *input) {
    struct cli *c = x->cli;
    struct rows rows = { 0 };
    struct rows_out out = { .fd = -1 };
    struct pace pace;
    const char *path = opt_text(c, OPT_OUT);
    enum row_form form = rows_output_form(c, path);
    struct rows_options o = rows_input(c, input, false);
    int code = form == ROWS_CSV ? csv_columns(x) : EXIT_DONE;
    if (code == EXIT_DONE && c->json && form == ROWS_CSV && path == NULL)
        code =
            report_usage(c, "--out FILE", "--json and CSV on standard output exclude each other");
    char *header = csv_header(x, path != NULL), *settings = settings_of(x, form);
    if (code == EXIT_DONE)
        code = rows_open(&rows, c, &o, settings, strlen(settings));
    if (code == EXIT_DONE)
        code = rows_out_open(&out, c, path, form, header);
    if (code == EXIT_DONE)
        code = open_batch(x);
    pace_start(&pace, c, "extract");
    if (code == EXIT_DONE)
        code = each_row(x, &rows, &out, &pace);
    pace_end(&pace);
    slm_batch_close(x->batch); /* what still runs ends, and is not written */
    x->batch = NULL;
    int closed = rows_out_close(&out);
    code = rows_summary(c, &x->model, &pace, &out, code == EXIT_DONE ? closed : code);
    rows_close(&rows);
    free(settings);
    free(header);
    return code;
}

/* ------------------------------------------------------------------ one text */

static void print_text(struct extraction *x, const struct slot *s, const slm_result *r) {
    struct output *o = &x->cli->out;
    if (!x->cli->json) {
        out_write(o, s->answer.data, s->answer.len);
        out_text(o, "\n");
        return;
    }
    json_t *doc = keep_json(json_object()), *record = NULL;
    json_text(s->answer.data, s->answer.len, &record, NULL);
    json_object_set_new(doc, "record", keep_json(record));
    add_receipt(doc, x->cli, &x->model, r);
    out_json(o, doc, false);
}

static int extract_text(struct extraction *x) {
    struct cli *c = x->cli;
    struct slot s = { .x = x };
    struct buf text;
    slm_generate_options o = x->o;
    slm_result r = { .size = sizeof r };
    buf_init(&text, NULL, LINE_MOST);
    for (size_t i = 1; i < c->options.n_args; i++)
        buf_printf(&text, "%s%s", i > 1 ? " " : "", c->options.args[i]);
    int code = model_session(c, &x->model);
    if (code == EXIT_DONE && text.len == 0)
        code = report_usage(c, NULL, "the text is empty");
    if (code == EXIT_DONE && utf8_valid(text.data, text.len) < text.len)
        code = report(c, EXIT_COULD_NOT, "E_ENCODING", NULL, "the text is not UTF-8");
    if (code == EXIT_DONE) {
        note_model(c, &x->model);
        buf_init(&s.answer, NULL, RECORD_MOST);
        s.err = make_prompt(x, text.data, &s.prompt, &s.why);
        o.prompt = s.prompt;
        o.on_text = on_text;
        o.user = &s;
        signals_watch(x->model.session);
        if (s.err == SLM_OK)
            s.err = slm_chat(x->model.session, NULL, 0, &o, &r, &s.why);
        signals_watch(NULL);
        if (s.err == SLM_OK && !interrupted())
            settle_answer(&s, &r);
        if (interrupted())
            code = EXIT_INTERRUPTED;
        else if (s.err != SLM_OK)
            code = report_answer(c, &x->model, s.err, &s.why, r.prompt_tokens);
        else
            print_text(x, &s, &r);
    }
    free_slot(&s);
    buf_free(&text);
    return code;
}

/* ------------------------------------------------------------------ the command */

static void extraction_free(struct extraction *x) {
    for (size_t i = 0; i < x->n_slots; i++)
        free_slot(&x->slots[i]);
    free(x->slots);
    for (size_t i = 0; i < x->n_columns; i++)
        free(x->columns[i]);
    free(x->columns);
    free(x->system);
    slm_constraint_close(x->constraint);
    asking_free(&x->asking);
    model_close(&x->model);
}

int cmd_extract(struct cli *c) {
    struct extraction x = { .cli = c };
    const char *input = opt_text(c, OPT_INPUT);
    bool text = c->options.n_args > 1;
    if (text && (input != NULL || opt_set(c, OPT_OUT)))
        return report_usage(c, NULL, "TEXT excludes --input and --out");
    if (!text && input == NULL) {
        if (!input_is_piped(c, true))
            return report_usage(c, "slm extract MODEL --schema FILE 'a text'\n--input FILE    rows",
                                "there is nothing to extract from");
        input = "-";
    }
    int code = model_open(c, c->options.args[0], SLM_ALL, SLM_ALL, &x.model);
    if (code == EXIT_DONE)
        code = settle(&x);
    if (code == EXIT_DONE)
        code = text ? extract_text(&x) : extract_rows(&x, input);
    extraction_free(&x);
    return code;
}
