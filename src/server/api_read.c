/* api_read.c - single values of a request: sampling, limits, stops, prompts, formats. */
#include "server/api_read.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/api_write.h"

#define CALL_BYTES_MOST ((size_t)256 << 20) /* of what a call keeps beside its JSON */
#define BIAS_MOST 1024

/* ------------------------------------------------------------------ errors, memory */

bool bad_field(struct api_reader *r, const char *name, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return api_fail(r->error, 400, "invalid_value", name, "'%s' %s", name, text);
}

bool no_memory(struct api_reader *r) {
    return api_fail(r->error, 503, "out_of_memory", NULL, "no memory left for this request");
}

const char *keep_text(struct api_reader *r, const char *s, size_t n) {
    const char *copy = arena_strdup(&r->call->arena, s, n);
    if (copy == NULL)
        no_memory(r);
    return copy;
}

/* ------------------------------------------------------------------ warnings */

void api_warn(struct api_call *call, const char *words) {
    struct buf *b = &call->warnings;
    if (b->len >= 2048)
        return; /* a header has to end somewhere */
    if (b->len > 0)
        buf_puts(b, "; ");
    for (const char *s = words; *s != '\0' && b->len < 2048; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\n' && s[1] != '\0')
            buf_puts(b, "; ");
        else if (c != '\n')
            buf_putc(b, c >= 0x20 && c < 0x7f ? (char)c : '?');
    }
}

/* "unknown fields: a, b" */
static void warn_names(struct api_call *call, const char *words, const char *const *names,
                       size_t n) {
    struct buf b;
    if (n == 0)
        return;
    buf_init(&b, NULL, 4096);
    buf_puts(&b, words);
    for (size_t i = 0; i < n && i < PARAM_NOTED_MOST; i++)
        buf_printf(&b, "%s%.64s", i == 0 ? ": " : ", ", names[i]);
    if (n > PARAM_NOTED_MOST)
        buf_printf(&b, " and %zu more", n - PARAM_NOTED_MOST);
    if (b.err == SLM_OK)
        api_warn(call, b.data);
    buf_free(&b);
}

bool read_params(struct api_reader *r, const json_t *object, unsigned place) {
    struct params *p = &r->params;
    if (!params_read(object, place, p, r->error))
        return false;
    warn_names(r->call, "unknown fields", p->unknown, p->n_unknown);
    warn_names(r->call, "fields without effect", p->ignored, p->n_ignored);
    const struct param_value *model = &p->values[P_MODEL];
    if (model->set && model->n > 0)
        r->call->model = model->text;
    if (p->values[P_SESSION].set)
        r->call->session = p->values[P_SESSION].text;
    return true;
}

/* ------------------------------------------------------------------ stream, choices, sampling */

bool read_stream(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    const char *key;
    json_t *v;
    call->stream = params_bool(p, P_STREAM, call->stream);
    call->progress = params_bool(p, P_PROGRESS, false);
    call->timings = params_bool(p, P_TIMINGS, false);
    if (p->values[P_STREAM_OPTIONS].set && !call->stream)
        return bad_field(r, "stream_options", "wants 'stream': true beside it");
    json_object_foreach((json_t *)(uintptr_t)p->values[P_STREAM_OPTIONS].json, key, v) {
        if (strcmp(key, "include_usage") == 0) {
            if (!json_is_boolean(v) && !json_is_null(v))
                return bad_field(r, "stream_options", "include_usage has to be true or false");
            call->include_usage = json_is_true(v);
        } else {
            const char *name = key;
            warn_names(call, "stream_options without effect", &name, 1);
        }
    }
    return true;
}

bool read_choices(struct api_reader *r) {
    const struct params *p = &r->params;
    if (p->values[P_N].set)
        r->call->choices = (size_t)p->values[P_N].integer;
    if (p->values[P_BEST_OF].set && (size_t)p->values[P_BEST_OF].integer != r->call->choices)
        return bad_field(r, "best_of", "has to equal 'n' (%zu): answers are not ranked",
                         r->call->choices);
    return true;
}

bool read_sampling(struct api_reader *r, const struct params *p) {
    struct api_sampling *s = &r->call->sampling;
    const struct {
        enum param_id id;
        enum api_sampling_field field;
        float *to;
    } rows[] = {
        { P_TEMPERATURE, SET_TEMPERATURE, &s->values.temperature },
        { P_TOP_P, SET_TOP_P, &s->values.top_p },
        { P_MIN_P, SET_MIN_P, &s->values.min_p },
        { P_TYPICAL_P, SET_TYPICAL_P, &s->values.typical_p },
        { P_REPEAT_PENALTY, SET_REPETITION_PENALTY, &s->values.repetition_penalty },
        { P_PRESENCE_PENALTY, SET_PRESENCE_PENALTY, &s->values.presence_penalty },
        { P_FREQUENCY_PENALTY, SET_FREQUENCY_PENALTY, &s->values.frequency_penalty },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!p->values[rows[i].id].set)
            continue;
        *rows[i].to = (float)p->values[rows[i].id].number;
        s->set |= 1u << rows[i].field;
    }
    if (p->values[P_TOP_K].set) {
        int64_t k = p->values[P_TOP_K].integer;
        s->values.top_k = k > 0 ? (uint32_t)k : 0;
        s->set |= 1u << SET_TOP_K;
    }
    if (p->values[P_SEED].set && p->values[P_SEED].integer != -1) {
        s->values.seed = (uint64_t)p->values[P_SEED].integer;
        r->call->seed_set = true;
    }
    if (p->values[P_IGNORE_EOS].set)
        r->call->ignore_stop_ids = p->values[P_IGNORE_EOS].flag;
    return true;
}

bool read_limit(struct api_reader *r, const struct params *p) {
    const struct param_value *v = &p->values[P_MAX_TOKENS];
    if (!v->set || v->integer < 0)
        return true;
    r->call->score_only = v->integer == 0;
    r->call->max_tokens = v->integer == 0 ? 1 : (uint32_t)v->integer;
    return true;
}

bool read_stops(struct api_reader *r, const struct params *p) {
    const struct param_value *v = &p->values[P_STOP];
    if (!v->set || v->n == 0)
        return true;
    const char **list = arena_alloc(&r->call->arena, v->n, sizeof *list);
    if (list == NULL)
        return no_memory(r);
    for (size_t i = 0; i < v->n; i++) {
        const json_t *item = json_is_string(v->json) ? v->json : json_array_get(v->json, i);
        if (json_string_length(item) == 0)
            return bad_field(r, v->name, "has an empty text");
        list[i] = json_string_value(item);
    }
    r->call->stop = list;
    r->call->n_stop = v->n;
    return true;
}

static bool number_ok(const char *text, double *out) {
    if (text[0] == '\0' || strlen(text) > 10 || strspn(text, "0123456789") != strlen(text))
        return false;
    *out = (double)strtol(text, NULL, 10);
    return true;
}

/* One entry of logit_bias. -100 and below means never, as OpenAI's description has it; false is
 * llama-server's word for that. */
static bool bias_entry(struct api_reader *r, struct slm_bias *to, const char *id_text,
                       const json_t *id, const json_t *value) {
    double number = 0;
    if (id_text != NULL ? !number_ok(id_text, &number) : !json_is_integer(id))
        return bad_field(r, "logit_bias",
                         "has a key that is no token id; texts have to be made ids first "
                         "(POST /tokenize)");
    if (id_text == NULL)
        number = (double)json_integer_value(id);
    if (!(number >= 0 && number <= (double)INT32_MAX))
        return bad_field(r, "logit_bias", "has the token id %.0f", number);
    if (!json_is_number(value) && !json_is_false(value))
        return bad_field(r, "logit_bias", "has a value that is no number");
    double bias = json_is_false(value) ? -HUGE_VAL : json_number_value(value);
    if (bias > 1e6)
        return bad_field(r, "logit_bias", "has the value %g, at most 1e6", bias);
    to->id = (int32_t)number;
    to->bias = bias <= -100.0 ? -INFINITY : (float)bias;
    return true;
}

bool read_bias(struct api_reader *r) {
    const struct param_value *v = &r->params.values[P_LOGIT_BIAS];
    const char *key;
    json_t *value;
    size_t i, n = json_is_object(v->json) ? json_object_size(v->json) : json_array_size(v->json);
    if (!v->set || n == 0)
        return true;
    if (!json_is_object(v->json) && !json_is_array(v->json))
        return bad_field(r, "logit_bias", "has to be an object of token ids or an array of pairs");
    if (n > BIAS_MOST)
        return bad_field(r, "logit_bias", "has %zu entries, at most %d", n, BIAS_MOST);
    struct slm_bias *list = arena_zalloc(&r->call->arena, n, sizeof *list);
    if (list == NULL)
        return no_memory(r);
    n = 0;
    json_object_foreach((json_t *)(uintptr_t)v->json, key, value) {
        if (!bias_entry(r, &list[n++], key, NULL, value))
            return false;
    }
    json_array_foreach(v->json, i, value) {
        if (json_array_size(value) != 2)
            return bad_field(r, "logit_bias", "has an item that is no pair of id and number");
        if (!bias_entry(r, &list[n++], NULL, json_array_get(value, 0), json_array_get(value, 1)))
            return false;
    }
    r->call->sampling.values.bias = list;
    r->call->sampling.values.n_bias = n;
    return true;
}

/* ------------------------------------------------------------------ raw prompts */

bool read_ids(struct api_reader *r, const json_t *list, const char *name, const int32_t **ids,
              size_t *n) {
    const json_t *v;
    size_t i;
    *n = json_array_size(list);
    int32_t *to = arena_alloc(&r->call->arena, *n + 1, sizeof *to);
    if (to == NULL)
        return no_memory(r);
    json_array_foreach(list, i, v) {
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return bad_field(r, name, "has something at place %zu that is no token id", i);
        to[i] = (int32_t)id;
    }
    *ids = to;
    return true;
}

static bool one_prompt(struct api_reader *r, const json_t *v, const char *name,
                       struct api_prompt *to) {
    if (json_is_string(v)) {
        *to = (struct api_prompt){ .kind = API_TEXT,
                                   .text = json_string_value(v),
                                   .n = json_string_length(v) };
        return true;
    }
    if (!json_is_array(v))
        return bad_field(r, name, "has to be text, token ids, or a list of either");
    to->kind = API_IDS;
    if (json_array_size(v) == 0)
        return bad_field(r, name, "has an empty list of token ids");
    return read_ids(r, v, name, &to->ids, &to->n_ids);
}

bool read_prompts(struct api_reader *r, const json_t *value, const char *name) {
    struct api_call *call = r->call;
    const json_t *v;
    size_t i;
    bool list = json_is_array(value) && !json_is_integer(json_array_get(value, 0));
    if (value == NULL)
        return api_fail(r->error, 400, "missing_required_parameter", name, "'%s' is missing", name);
    if (json_is_array(value) && json_array_size(value) == 0)
        return bad_field(r, name, "is an empty list");
    if (list && json_array_size(value) > API_PROMPTS_MOST)
        return bad_field(r, name, "has %zu items, at most %d", json_array_size(value),
                         API_PROMPTS_MOST);
    call->n_prompts = list ? json_array_size(value) : 1;
    if (call->n_prompts * call->choices > API_CANDIDATES_MOST)
        return bad_field(r, name, "has %zu items of %zu choices each, at most %d in all",
                         call->n_prompts, call->choices, API_CANDIDATES_MOST);
    call->prompts = arena_zalloc(&call->arena, call->n_prompts, sizeof *call->prompts);
    if (call->prompts == NULL) {
        call->n_prompts = 0;
        return no_memory(r);
    }
    if (!list)
        return one_prompt(r, value, name, &call->prompts[0]);
    json_array_foreach(value, i, v) {
        if (!one_prompt(r, v, name, &call->prompts[i]))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ formats */

/* Keeps a value until the call has been read. */
static const json_t *hold(struct api_reader *r, json_t *v) {
    if (v == NULL || json_array_append_new(r->held, v) != 0) {
        no_memory(r);
        return NULL;
    }
    return v;
}

static bool format_set(struct api_reader *r, const char *name, json_t *v) {
    if (r->format != NULL) {
        json_decref(v);
        return bad_field(r, name,
                         "stands beside another field that says what the answer has to be");
    }
    r->format = hold(r, v);
    return r->format != NULL;
}

bool format_schema(struct api_reader *r, const json_t *schema) {
    return format_set(r, "json_schema",
                      json_pack("{s:s, s:O}", "type", "json_schema", "schema", schema));
}

bool read_format_object(struct api_reader *r, const json_t *format, const char *name) {
    const json_t *schema = json_object_get(format, "schema"), *inner;
    const char *type = json_string_value(json_object_get(format, "type"));
    if (type == NULL)
        return bad_field(r, name, "has no 'type'");
    if (strcmp(type, "text") == 0)
        return true;
    if (strcmp(type, "json_object") == 0 && schema == NULL)
        return format_set(r, name, json_pack("{s:s}", "type", "json_object"));
    if (strcmp(type, "json_schema") != 0 && strcmp(type, "json_object") != 0)
        return bad_field(r, name, "has the type '%.64s'; known are text, json_object, json_schema",
                         type);
    inner = json_object_get(format, "json_schema");
    if (json_is_object(inner))
        schema = json_object_get(inner, "schema");
    if (schema == NULL)
        return bad_field(r, name, "has no schema");
    return format_set(r, name, json_pack("{s:s, s:O}", "type", "json_schema", "schema", schema));
}

bool read_formats(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    if (v[P_GRAMMAR].set && v[P_GRAMMAR].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "grammar",
                        "'grammar': GBNF is not supported; use json_schema or guided_regex");
    if (v[P_FORMAT].set && json_is_object(v[P_FORMAT].json) &&
        !read_format_object(r, v[P_FORMAT].json, v[P_FORMAT].name))
        return false;
    if (v[P_SCHEMA].set && !format_schema(r, v[P_SCHEMA].json))
        return false;
    if (v[P_REGEX].set &&
        !format_set(r, "guided_regex",
                    json_pack("{s:s, s:O}", "type", "regex", "pattern", v[P_REGEX].json)))
        return false;
    if (v[P_CHOICES].set &&
        !format_set(r, "guided_choice",
                    json_pack("{s:s, s:O}", "type", "choices", "choices", v[P_CHOICES].json)))
        return false;
    return true;
}

/* Text of a value in the arena. */
static bool keep_dump(struct api_reader *r, const json_t *v) {
    char *text = tree_text(v, &r->call->n_constraint);
    if (text == NULL)
        return no_memory(r);
    r->call->constraint = keep_text(r, text, r->call->n_constraint);
    free(text);
    return r->call->constraint != NULL;
}

bool read_constraint(struct api_reader *r) {
    struct api_call *call = r->call;
    if (r->format == NULL)
        return true;
    const char *type = json_string_value(json_object_get(r->format, "type"));
    call->has_constraint = true;
    call->constraint = "";
    if (strcmp(type, "json_object") == 0) {
        call->constraint_kind = SLM_CONSTRAINT_JSON;
        return true;
    }
    if (strcmp(type, "regex") == 0) {
        const json_t *pattern = json_object_get(r->format, "pattern");
        call->constraint_kind = SLM_CONSTRAINT_REGEX;
        call->n_constraint = json_string_length(pattern);
        call->constraint = keep_text(r, json_string_value(pattern), call->n_constraint);
        return call->constraint != NULL;
    }
    bool choices = strcmp(type, "choices") == 0;
    call->constraint_kind = choices ? SLM_CONSTRAINT_CHOICES : SLM_CONSTRAINT_SCHEMA;
    return keep_dump(r, json_object_get(r->format, choices ? "choices" : "schema"));
}

/* ------------------------------------------------------------------ thinking */

bool think_set(struct api_reader *r, bool on, const char *name) {
    enum api_thinking think = on ? THINK_YES : THINK_NO;
    if (r->think != THINK_AS_IS && r->think != think)
        return bad_field(r, name, "says the opposite of another field about thinking");
    r->think = think;
    return true;
}

/* Levels: what there is no room for in a switch goes into the budget. */
bool think_effort(struct api_reader *r, const char *word, const char *name) {
    static const struct {
        const char *word;
        bool on;
        uint32_t budget;
    } levels[] = {
        { "none", false, 0 },     { "minimal", false, 0 }, { "low", true, 512 },
        { "medium", true, 2048 }, { "high", true, 0 },     { "xhigh", true, 0 },
        { "max", true, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (strcmp(word, levels[i].word) != 0)
            continue;
        if (r->call->think_budget == 0)
            r->call->think_budget = levels[i].budget;
        return think_set(r, levels[i].on, name);
    }
    return bad_field(r, name, "is '%.64s'; known are none, minimal, low, medium, high, xhigh, max",
                     word);
}

/* Anthropic's {"type": "enabled", "budget_tokens": n}, also taken by other dialects. */
static bool think_object(struct api_reader *r, const json_t *v) {
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *budget = json_object_get(v, "budget_tokens");
    if (type == NULL || (strcmp(type, "enabled") != 0 && strcmp(type, "disabled") != 0 &&
                         strcmp(type, "adaptive") != 0))
        return bad_field(r, "thinking", "has to have the type enabled, disabled or adaptive");
    if (budget != NULL && (!json_is_integer(budget) || json_integer_value(budget) < 1 ||
                           json_integer_value(budget) > 1000000000))
        return bad_field(r, "thinking", "has budget_tokens that are no whole number from 1 on");
    if (strcmp(type, "adaptive") == 0)
        return true;
    if (budget != NULL)
        r->call->think_budget = (uint32_t)json_integer_value(budget);
    return think_set(r, type[0] == 'e', "thinking");
}

static bool think_value(struct api_reader *r, const struct param_value *v) {
    if (json_is_boolean(v->json))
        return think_set(r, json_is_true(v->json), v->name);
    if (json_is_string(v->json))
        return think_effort(r, json_string_value(v->json), v->name);
    return bad_field(r, v->name, "has to be true, false or a level");
}

bool read_think(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    const json_t *effort = json_object_get(v[P_REASONING].json, "effort"),
                 *kwarg = json_object_get(v[P_TEMPLATE_KWARGS].json, "enable_thinking");
    if (v[P_THINK_BUDGET].set && v[P_THINK_BUDGET].integer == 0 &&
        !think_set(r, false, "thinking_budget"))
        return false;
    if (v[P_THINK_BUDGET].set && v[P_THINK_BUDGET].integer > 0)
        r->call->think_budget = (uint32_t)v[P_THINK_BUDGET].integer;
    if (v[P_THINKING].set && !think_object(r, v[P_THINKING].json))
        return false;
    if (v[P_THINK].set && !think_value(r, &v[P_THINK]))
        return false;
    if (v[P_EFFORT].set && !think_effort(r, v[P_EFFORT].text, v[P_EFFORT].name))
        return false;
    if (effort != NULL && !json_is_null(effort)) {
        if (!json_is_string(effort))
            return bad_field(r, "reasoning", "has an effort that is no string");
        if (!think_effort(r, json_string_value(effort), "reasoning"))
            return false;
    }
    if (kwarg != NULL && !json_is_null(kwarg)) {
        if (!json_is_boolean(kwarg))
            return bad_field(r, "chat_template_kwargs",
                             "has enable_thinking that is no truth value");
        if (!think_set(r, json_is_true(kwarg), "chat_template_kwargs"))
            return false;
    }
    return true;
}

bool read_parallel(struct api_reader *r) {
    const struct param_value *v = &r->params.values[P_PARALLEL_TOOL_CALLS];
    if (v->set && !v->flag && json_object_set_new(r->document, v->name, json_false()) != 0)
        return no_memory(r);
    return true;
}

/* ------------------------------------------------------------------ a call */

bool api_read(const struct api_route *route, const char *name, const char *body, size_t n,
              struct api_call *out, struct api_error *e) {
    struct api_reader r = { .name = name, .call = out, .error = e };
    slm_why why;
    *out = (struct api_call){ .route = route, .op = route->op, .choices = 1 };
    out->sampling.values = slm_sampling_default();
    arena_init(&out->arena, NULL, CALL_BYTES_MOST);
    buf_init(&out->warnings, NULL, 4096);
    out->model =
        name != NULL && name[0] != '\0' ? arena_strdup(&out->arena, name, strlen(name)) : NULL;
    if (route->has_body && n > 0) {
        slm_err err = json_text(body, n, &out->body, &why);
        if (err != SLM_OK)
            return api_fail(e, err == SLM_E_NOMEM ? 503 : 400, "invalid_json", NULL,
                            "the body is no JSON that can be read: %s (byte %llu)", why.message,
                            (unsigned long long)why.offset);
    }
    if (route->has_body && out->body == NULL)
        return api_fail(e, 400, "invalid_json", NULL, "a JSON body is missing");
    if (route->read == NULL)
        return true;
    r.body = out->body;
    r.document = json_object();
    r.held = json_array();
    bool ok = r.document != NULL && r.held != NULL ? route->read(&r) : no_memory(&r);
    buf_free(&r.joints[0].text); /* of a request that was refused */
    buf_free(&r.joints[1].text);
    json_decref(r.document);
    json_decref(r.held);
    json_decref(r.reasoning);
    return ok;
}

void api_call_free(struct api_call *call) {
    json_decref(call->body);
    json_decref(call->document);
    free(call->document_text);
    buf_free(&call->warnings);
    arena_free(&call->arena);
    *call = (struct api_call){ 0 };
}
