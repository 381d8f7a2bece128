/* api_ollama.c - Ollama's /api/chat and /api/generate.
 *
 * Streams (the default) are lines of JSON; the last one has done, done_reason, counts, and durations in
 * nanoseconds. Arguments of tools are objects in both directions. A request without messages or prompt
 * only loads the model (keep_alive 0: unloads it).
 * Source: Ollama's API description, docs/api.md. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ request */

/* "5m", "1h30m", "90s", "300ms", "-1": seconds. False when it is none of these. */
static bool duration(const char *s, int64_t *seconds) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = { { "ms", 1e-3 }, { "h", 3600 }, { "m", 60 }, { "s", 1 } };
    bool negative = *s == '-';
    double sum = 0;
    s += negative;
    if (*s == '\0')
        return false;
    while (*s != '\0') {
        double value = 0, place = 1;
        const char *digits = s;
        for (; *s >= '0' && *s <= '9' && s - digits < 12; s++)
            value = value * 10 + (*s - '0');
        if (s == digits)
            return false;
        if (*s == '.')
            for (s++; *s >= '0' && *s <= '9' && s - digits < 24; s++)
                value += (*s - '0') * (place /= 10);
        size_t k = 0;
        while (k < ARRAY_LEN(units) && strncmp(s, units[k].unit, strlen(units[k].unit)) != 0)
            k++;
        if (k == ARRAY_LEN(units) && *s != '\0')
            return false;
        sum += value * (k < ARRAY_LEN(units) ? units[k].seconds : 1);
        s += k < ARRAY_LEN(units) ? strlen(units[k].unit) : 0;
    }
    *seconds = negative ? -1 : sum > 1e12 ? (int64_t)1e12 : (int64_t)ceil(sum);
    return true;
}

static bool keep_alive(struct api_reader *r) {
    const struct param_value *v = &r->params.values[P_KEEP_ALIVE];
    struct api_call *call = r->call;
    if (!v->set)
        return true;
    call->keep_alive_set = true;
    if (json_is_number(v->json)) {
        double s = json_number_value(v->json);
        call->keep_alive_s = s < 0 ? -1 : s > 1e12 ? (int64_t)1e12 : (int64_t)ceil(s);
        return true;
    }
    return (json_is_string(v->json) && duration(json_string_value(v->json), &call->keep_alive_s)) ||
           bad_field(r, "keep_alive", "has to be seconds or a duration like \"5m\"");
}

/* "options" are read by their own rows; what they leave open stays as it was. */
bool read_ollama_options(struct api_reader *r) {
    struct params top = r->params;
    struct api_call *call = r->call;
    bool ok = keep_alive(r);
    if (!ok || !top.values[P_OPTIONS].set)
        return ok;
    const char *model = call->model;
    ok = read_params(r, top.values[P_OPTIONS].json, IN_OLLAMA_OPTIONS) &&
         read_sampling(r, &r->params) && read_stops(r, &r->params) && read_limit(r, &r->params);
    if (ok && r->params.values[P_NUM_CTX].set)
        call->num_ctx = (uint32_t)r->params.values[P_NUM_CTX].integer;
    call->model = model;
    r->params = top;
    return ok;
}

static bool ollama_format(struct api_reader *r) {
    const json_t *format = r->params.values[P_FORMAT].json;
    const char *word = json_string_value(format);
    if (format == NULL || (word != NULL && word[0] == '\0'))
        return true;
    if (json_is_object(format))
        return format_schema(r, format);
    if (word == NULL || strcmp(word, "json") != 0)
        return bad_field(r, "format", "has to be \"json\" or a schema");
    json_t *object = json_pack("{s:s}", "type", "json_object");
    bool ok = object != NULL ? read_format_object(r, object, "format") : no_memory(r);
    json_decref(object);
    return ok;
}

static bool refuse_extras(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    if (v[P_TEMPLATE].set && v[P_TEMPLATE].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "template",
                        "'template': the model's own template is used");
    if (v[P_SUFFIX].set && v[P_SUFFIX].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "suffix",
                        "'suffix': the models were not trained to fill gaps");
    return true;
}

/* What chat and generate have in common. */
static bool ollama_common(struct api_reader *r) {
    struct api_call *call = r->call;
    call->stream = true;
    if (!read_params(r, r->body, IN_OLLAMA) || !read_stream(r) || !read_ollama_options(r) ||
        !refuse_extras(r) || !ollama_format(r) || !read_think(r))
        return false;
    call->logprobs = params_bool(&r->params, P_LOGPROBS, false);
    call->top = (uint32_t)r->params.values[P_TOP_LOGPROBS].integer;
    call->truncate = params_bool(&r->params, P_TRUNCATE, false);
    return true;
}

bool read_ollama_chat(struct api_reader *r) {
    const struct params *p = &r->params;
    if (!ollama_common(r))
        return false;
    if (!p->values[P_MESSAGES].set || p->values[P_MESSAGES].n == 0) {
        r->call->op = API_LOAD;
        return true;
    }
    return chat_messages(r, p->values[P_MESSAGES].json) && chat_tools(r, p->values[P_TOOLS].json) &&
           chat_document(r);
}

bool read_ollama_generate(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    if (!ollama_common(r))
        return false;
    if (v[P_PROMPT].set && !json_is_string(v[P_PROMPT].json))
        return bad_field(r, "prompt", "has to be text");
    if (v[P_OLD_CONTEXT].set && v[P_OLD_CONTEXT].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "context",
                        "'context': send the conversation to /api/chat instead");
    if (!v[P_PROMPT].set || json_string_length(v[P_PROMPT].json) == 0) {
        r->call->op = API_LOAD;
        return true;
    }
    if (params_bool(&r->params, P_RAW, false))
        return read_constraint(r) && read_prompts(r, v[P_PROMPT].json, "prompt");
    if (v[P_SYSTEM].set && !json_is_string(v[P_SYSTEM].json))
        return bad_field(r, "system", "has to be text");
    if (json_string_length(v[P_SYSTEM].json) > 0 &&
        chat_add(r, "system", share(v[P_SYSTEM].json)) == NULL)
        return false;
    json_t *content = share(v[P_PROMPT].json);
    if (content != NULL && v[P_IMAGES].n > 0)
        content = image_content(r, v[P_IMAGES].json, content, "images");
    return content != NULL && chat_add(r, "user", content) != NULL && chat_document(r);
}

bool read_ollama_show(struct api_reader *r) {
    if (!read_params(r, r->body, IN_UTIL))
        return false;
    return r->call->model != NULL ||
           api_fail(r->error, 400, "missing_required_parameter", "model", "'model' is missing");
}

/* ------------------------------------------------------------------ replies */

static void open_line(struct api_reply *r) {
    frame_open(r, NULL);
    put_open(&r->out, NULL, '{');
    put_str(&r->out, "model", r->facts->model);
    put_time(&r->out, "created_at", r->facts->created_ns);
}

static void close_line(struct api_reply *r) {
    put_close(&r->out, '}');
    if (r->call->stream)
        frame_close(r);
}

/* Log-probabilities that are pending, where they were asked for. */
static void put_pending(struct api_reply *r, struct api_candidate *c) {
    if (r->call->logprobs && c->logprobs.content.len > 0)
        put_logprobs_list(&r->out, "logprobs", &c->logprobs);
}

static void put_numbers(struct api_reply *r, struct api_candidate *c) {
    const slm_result *result = &c->result;
    struct buf *b = &r->out;
    put_pending(r, c);
    put_bool(b, "done", true);
    put_str(b, "done_reason", strcmp(finish_reason(c), "length") == 0 ? "length" : "stop");
    put_size(b, "total_duration", c->spent.total_ns);
    put_size(b, "load_duration", c->spent.load_ns);
    put_size(b, "prompt_eval_count", result->prompt_tokens);
    put_size(b, "prompt_eval_cached_count", result->reused_tokens);
    put_size(b, "prompt_eval_duration", result->prefill_ns);
    put_size(b, "eval_count", result->output_tokens);
    put_size(b, "eval_duration", result->decode_ns);
}

static void put_tool(struct buf *b, const struct api_reply *r, size_t k, const char *name,
                     size_t n_name, const char *arguments, size_t n_arguments) {
    put_open(b, NULL, '{');
    put_call_id(b, "id", "call_", r, 0, k);
    put_open(b, "function", '{');
    put_size(b, "index", k);
    put_text(b, "name", name, n_name);
    put_raw(b, "arguments", arguments, n_arguments);
    put_close(b, '}');
    put_close(b, '}');
}

static void open_message(struct api_reply *r, const char *content, size_t n) {
    put_open(&r->out, "message", '{');
    put_str(&r->out, "role", "assistant");
    put_text(&r->out, "content", content, n);
}

static void ollama_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                        size_t n) {
    bool reasoning = part == SLM_PART_REASONING;
    open_line(r);
    open_message(r, text, reasoning ? 0 : n);
    if (reasoning)
        put_text(&r->out, "thinking", text, n);
    put_close(&r->out, '}');
    put_pending(r, &r->candidates[i]);
    put_bool(&r->out, "done", false);
    close_line(r);
}

static void ollama_call(struct api_reply *r, size_t i, const slm_tool_call *call) {
    (void)i;
    open_line(r);
    open_message(r, "", 0);
    put_open(&r->out, "tool_calls", '[');
    put_tool(&r->out, r, call->index, call->name, call->n_name, call->arguments, call->n_arguments);
    put_close(&r->out, ']');
    put_close(&r->out, '}');
    put_bool(&r->out, "done", false);
    close_line(r);
}

static void ollama_end(struct api_reply *r) {
    open_line(r);
    open_message(r, "", 0);
    put_close(&r->out, '}');
    put_numbers(r, &r->candidates[0]);
    close_line(r);
}

static void ollama_whole(struct api_reply *r) {
    struct api_candidate *c = &r->candidates[0];
    size_t n_name, n_arguments;
    put_open(&r->out, NULL, '{');
    put_str(&r->out, "model", r->facts->model);
    put_time(&r->out, "created_at", r->facts->created_ns);
    open_message(r, c->answer.data, c->answer.len);
    if (c->reasoning.len > 0)
        put_text(&r->out, "thinking", c->reasoning.data, c->reasoning.len);
    if (c->n_tools > 0)
        put_open(&r->out, "tool_calls", '[');
    for (size_t k = 0; k < c->n_tools; k++) {
        const char *name = tool_name(c, k, &n_name),
                   *arguments = tool_arguments(c, k, &n_arguments);
        put_tool(&r->out, r, k, name, n_name, arguments, n_arguments);
    }
    if (c->n_tools > 0)
        put_close(&r->out, ']');
    put_close(&r->out, '}');
    put_numbers(r, c);
    put_close(&r->out, '}');
}

static void generate_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                          size_t n) {
    bool reasoning = part == SLM_PART_REASONING;
    open_line(r);
    put_text(&r->out, "response", text, reasoning ? 0 : n);
    if (reasoning)
        put_text(&r->out, "thinking", text, n);
    put_pending(r, &r->candidates[i]);
    put_bool(&r->out, "done", false);
    close_line(r);
}

static void generate_end(struct api_reply *r) {
    open_line(r);
    put_str(&r->out, "response", "");
    put_numbers(r, &r->candidates[0]);
    close_line(r);
}

static void generate_whole(struct api_reply *r) {
    struct api_candidate *c = &r->candidates[0];
    put_open(&r->out, NULL, '{');
    put_str(&r->out, "model", r->facts->model);
    put_time(&r->out, "created_at", r->facts->created_ns);
    put_text(&r->out, "response", c->answer.data, c->answer.len);
    if (c->reasoning.len > 0)
        put_text(&r->out, "thinking", c->reasoning.data, c->reasoning.len);
    put_numbers(r, c);
    put_close(&r->out, '}');
}

const struct api_shape shape_ollama_chat = { .lines = true,
                                             .text = ollama_text,
                                             .call = ollama_call,
                                             .end = ollama_end,
                                             .whole = ollama_whole };
const struct api_shape shape_ollama_generate = {
    .lines = true, .text = generate_text, .end = generate_end, .whole = generate_whole
};
