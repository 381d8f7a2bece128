/* api_responses.c - OpenAI's /v1/responses, without stored state.
 *
 * Output items in the order they come: reasoning, message, function_call. Stream: response.created,
 * response.in_progress; for each item output_item.added, then content_part.added, deltas, done's and
 * content_part.done (or function_call_arguments.delta and .done), output_item.done; at last
 * response.completed (or .incomplete, .failed) with all of it. Each event has its sequence_number.
 * Reasoning is given as reasoning_text content, as open models' servers do; summaries stay empty.
 * Source: OpenAI's API reference, "Responses" and "Streaming events". */
#include <stdlib.h>
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ request */

static bool input_message(struct api_reader *r, const json_t *item) {
    const char *role = json_string_value(json_object_get(item, "role"));
    if (role == NULL)
        return bad_field(r, "input", "has a message without a role");
    if (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
        strcmp(role, "system") != 0 && strcmp(role, "developer") != 0)
        return bad_field(r, "input", "has a message of the role '%.64s'", role);
    json_t *text = content_text(r, json_object_get(item, "content"), "input");
    return text != NULL && chat_add(r, role, text) != NULL;
}

static bool input_call(struct api_reader *r, const json_t *item) {
    const char *id = json_string_value(json_object_get(item, "call_id")),
               *name = json_string_value(json_object_get(item, "name")),
               *arguments = json_string_value(json_object_get(item, "arguments"));
    if (id == NULL || name == NULL)
        return bad_field(r, "input", "has a function_call without call_id or name");
    return chat_add_call(r, id, name, arguments != NULL && arguments[0] != '\0' ? arguments : "{}");
}

static bool input_result(struct api_reader *r, const json_t *item) {
    const char *id = json_string_value(json_object_get(item, "call_id"));
    if (id == NULL)
        return bad_field(r, "input", "has a function_call_output without call_id");
    return chat_add_result(r, id, NULL, content_text(r, json_object_get(item, "output"), "input"));
}

/* Text of a reasoning item belongs to the message or call behind it. */
static bool input_reasoning(struct api_reader *r, const json_t *item) {
    const json_t *parts = json_object_get(item, "content"), *part;
    struct buf b;
    size_t i;
    if (json_array_size(parts) == 0)
        parts = json_object_get(item, "summary");
    buf_init(&b, NULL, (size_t)1 << 28);
    json_array_foreach(parts, i, part) {
        const json_t *text = json_object_get(part, "text");
        if (json_is_string(text))
            buf_put(&b, json_string_value(text), json_string_length(text));
    }
    bool ok = true;
    if (b.len > 0) {
        json_decref(r->reasoning);
        r->reasoning = b.err == SLM_OK ? json_stringn_nocheck(b.data, b.len) : NULL;
        ok = r->reasoning != NULL || no_memory(r);
    }
    buf_free(&b);
    return ok;
}

static bool input_item(struct api_reader *r, const json_t *item) {
    const char *type = json_string_value(json_object_get(item, "type"));
    char words[128];
    if (!json_is_object(item))
        return bad_field(r, "input", "has an item that is no object");
    if (type == NULL || strcmp(type, "message") == 0)
        return input_message(r, item);
    if (strcmp(type, "function_call") == 0)
        return input_call(r, item);
    if (strcmp(type, "function_call_output") == 0)
        return input_result(r, item);
    if (strcmp(type, "reasoning") == 0)
        return input_reasoning(r, item);
    if (strcmp(type, "item_reference") == 0)
        return api_fail(r->error, 400, "unsupported_value", "input",
                        "'input' refers to an item of an earlier answer; answers are not stored, "
                        "send the items themselves");
    snprintf(words, sizeof words, "input item of type %.64s left out", type);
    api_warn(r->call, words);
    return true;
}

static bool responses_input(struct api_reader *r, const json_t *input) {
    const json_t *item;
    size_t i;
    if (input == NULL)
        return api_fail(r->error, 400, "missing_required_parameter", "input", "'input' is missing");
    if (json_is_string(input))
        return chat_add(r, "user", share(input)) != NULL;
    if (!json_is_array(input) || json_array_size(input) == 0)
        return bad_field(r, "input", "has to be text or a list of items");
    json_array_foreach(input, i, item) {
        if (!input_item(r, item))
            return false;
    }
    return true;
}

static bool refuse_state(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    if (v[P_PREVIOUS].set && v[P_PREVIOUS].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "previous_response_id",
                        "'previous_response_id': answers are not stored; send the whole "
                        "conversation as 'input'");
    if (v[P_BACKGROUND].set && v[P_BACKGROUND].flag)
        return api_fail(r->error, 400, "unsupported_value", "background",
                        "'background': answers are not stored, so none can be fetched later");
    if (v[P_TRUNCATION].set && strcmp(v[P_TRUNCATION].text, "auto") != 0 &&
        strcmp(v[P_TRUNCATION].text, "disabled") != 0)
        return bad_field(r, "truncation", "is '%.64s'; known are auto and disabled",
                         v[P_TRUNCATION].text);
    r->call->truncate = v[P_TRUNCATION].set && v[P_TRUNCATION].text[0] == 'a';
    return true;
}

static void responses_logprobs(struct api_reader *r) {
    const struct param_value *v = r->params.values;
    const json_t *name;
    size_t i;
    r->call->top = (uint32_t)v[P_TOP_LOGPROBS].integer;
    r->call->logprobs = r->call->top > 0;
    json_array_foreach(v[P_INCLUDE].json, i, name) {
        const char *s = json_string_value(name);
        if (s != NULL && strcmp(s, "message.output_text.logprobs") == 0)
            r->call->logprobs = true;
    }
}

static bool responses_format(struct api_reader *r) {
    const json_t *format = json_object_get(r->params.values[P_FORMAT].json, "format");
    return format == NULL || json_is_null(format) || read_format_object(r, format, "text");
}

bool read_responses(struct api_reader *r) {
    const struct params *p = &r->params;
    const struct param_value *system;
    if (!read_params(r, r->body, IN_RESPONSES) || !refuse_state(r) || !read_stream(r) ||
        !read_sampling(r, p) || !read_limit(r, p))
        return false;
    responses_logprobs(r);
    system = &p->values[P_SYSTEM];
    if (system->set && system->n > 0 && chat_add(r, "system", share(system->json)) == NULL)
        return false;
    return responses_input(r, p->values[P_INPUT].json) && chat_tools(r, p->values[P_TOOLS].json) &&
           chat_tool_choice(r, p->values[P_TOOL_CHOICE].json) && read_parallel(r) &&
           responses_format(r) && read_think(r) && chat_document(r);
}

/* ------------------------------------------------------------------ the response object */

static void put_item_id(struct buf *b, const char *key, const char *prefix,
                        const struct api_reply *r, size_t number) {
    char id[128];
    snprintf(id, sizeof id, "%s%s_%zu", prefix, r->facts->unique, number);
    put_str(b, key, id);
}

/* What the request said, given back: a field, or what holds without it. */
static void put_said(struct buf *b, const struct api_reply *r, const char *key,
                     const char *fallback) {
    const json_t *v = json_object_get(r->call->body, key);
    if (v != NULL && !json_is_null(v))
        put_tree(b, key, v);
    else
        put_raw(b, key, fallback, strlen(fallback));
}

static void put_response_usage(struct buf *b, const struct api_reply *r) {
    struct api_usage u = reply_usage(r);
    put_open(b, "usage", '{');
    put_size(b, "input_tokens", u.prompt);
    put_open(b, "input_tokens_details", '{');
    put_size(b, "cached_tokens", u.cached);
    put_close(b, '}');
    put_size(b, "output_tokens", u.output);
    put_open(b, "output_tokens_details", '{');
    put_size(b, "reasoning_tokens", u.reasoning);
    put_close(b, '}');
    put_size(b, "total_tokens", u.prompt + u.output);
    put_close(b, '}');
}

static bool cut_short(const struct api_reply *r) {
    const slm_result *result = &r->candidates[0].result;
    return result->finish == SLM_FINISH_LENGTH || result->finish == SLM_FINISH_CONTEXT;
}

/* status: "in_progress", "completed", "incomplete", "failed". error: of "failed", else NULL. */
static void put_response(struct api_reply *r, const char *key, const char *status,
                         const struct api_error *error) {
    struct buf *b = &r->out;
    const struct api_candidate *c = &r->candidates[0];
    put_open(b, key, '{');
    put_id(b, "id", "resp_", r);
    put_str(b, "object", "response");
    put_int(b, "created_at", r->facts->created_ns / 1000000000);
    put_str(b, "status", status);
    put_bool(b, "background", false);
    if (error != NULL) {
        put_open(b, "error", '{');
        put_str(b, "code", error->code != NULL ? error->code : "server_error");
        put_str(b, "message", error->message);
        put_close(b, '}');
    } else {
        put_null(b, "error");
    }
    if (strcmp(status, "incomplete") == 0) {
        put_open(b, "incomplete_details", '{');
        put_str(b, "reason", "max_output_tokens");
        put_close(b, '}');
    } else {
        put_null(b, "incomplete_details");
    }
    put_said(b, r, "instructions", "null");
    put_said(b, r, "max_output_tokens", "null");
    put_str(b, "model", r->facts->model);
    put_open(b, "output", '[');
    buf_put(b, c->items.data, c->items.len);
    put_close(b, ']');
    put_said(b, r, "parallel_tool_calls", "true");
    put_null(b, "previous_response_id");
    put_said(b, r, "reasoning", "{\"effort\":null,\"summary\":null}");
    put_bool(b, "store", false);
    put_said(b, r, "temperature", "null");
    put_said(b, r, "text", "{\"format\":{\"type\":\"text\"}}");
    put_said(b, r, "tool_choice", "\"auto\"");
    put_said(b, r, "tools", "[]");
    put_said(b, r, "top_p", "null");
    put_said(b, r, "truncation", "\"disabled\"");
    if (c->done)
        put_response_usage(b, r);
    else
        put_null(b, "usage");
    put_said(b, r, "metadata", "{}");
    put_str(b, "system_fingerprint", r->facts->fingerprint);
    if (c->done)
        put_timings(b, c);
    put_close(b, '}');
}

/* ------------------------------------------------------------------ items */

/* A list of what is rendered already; NULL: an empty one. */
static void put_list(struct buf *b, const char *key, const struct buf *items) {
    put_open(b, key, '[');
    if (items != NULL)
        buf_put(b, items->data, items->len);
    put_close(b, ']');
}

/* A part of a message: its text, and what stands beside it. */
static void put_text_part(struct buf *b, const char *key, bool reasoning, const char *s, size_t n,
                          const struct buf *logprobs) {
    put_open(b, key, '{');
    put_str(b, "type", reasoning ? "reasoning_text" : "output_text");
    put_text(b, "text", s, n);
    if (!reasoning) {
        put_open(b, "annotations", '[');
        put_close(b, ']');
        put_list(b, "logprobs", logprobs);
    }
    put_close(b, '}');
}

/* A reasoning or message item; text NULL: just begun. */
static void put_text_item(struct buf *b, const char *key, const struct api_reply *r, bool reasoning,
                          size_t number, const char *s, size_t n, const struct buf *logprobs) {
    put_open(b, key, '{');
    put_item_id(b, "id", reasoning ? "rs_" : "msg_", r, number);
    put_str(b, "type", reasoning ? "reasoning" : "message");
    put_str(b, "status", s != NULL ? "completed" : "in_progress");
    if (reasoning) {
        put_open(b, "summary", '[');
        put_close(b, ']');
    } else {
        put_str(b, "role", "assistant");
    }
    put_open(b, "content", '[');
    if (s != NULL)
        put_text_part(b, NULL, reasoning, s, n, logprobs);
    put_close(b, ']');
    put_close(b, '}');
}

static void put_call_item(struct buf *b, const char *key, const struct api_reply *r, size_t number,
                          size_t k, bool complete) {
    const struct api_candidate *c = &r->candidates[0];
    size_t n;
    put_open(b, key, '{');
    put_item_id(b, "id", "fc_", r, number);
    put_str(b, "type", "function_call");
    put_str(b, "status", complete ? "completed" : "in_progress");
    const char *s = tool_arguments(c, k, &n);
    put_text(b, "arguments", s, complete ? n : 0);
    put_call_id(b, "call_id", "call_", r, 0, k);
    s = tool_name(c, k, &n);
    put_text(b, "name", s, n);
    put_close(b, '}');
}

/* ------------------------------------------------------------------ stream */

static void open_event(struct api_reply *r, const char *name) {
    frame_open(r, name);
    put_open(&r->out, NULL, '{');
    put_str(&r->out, "type", name);
    put_size(&r->out, "sequence_number", r->sequence++);
}

static void close_event(struct api_reply *r) {
    put_close(&r->out, '}');
    frame_close(r);
}

static void responses_begin(struct api_reply *r) {
    static const char *const names[] = { "response.created", "response.in_progress" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        open_event(r, names[i]);
        put_response(r, "response", "in_progress", NULL);
        close_event(r);
    }
}

/* An event about the item that is open: its id, where it stands, and which part of it. */
static void item_event(struct api_reply *r, const char *name, const char *prefix, bool part) {
    size_t number = r->candidates[0].n_blocks - 1;
    open_event(r, name);
    put_item_id(&r->out, "item_id", prefix, r, number);
    put_size(&r->out, "output_index", number);
    if (part)
        put_size(&r->out, "content_index", 0);
}

static void added(struct api_reply *r, const char *name) {
    open_event(r, name);
    put_size(&r->out, "output_index", r->candidates[0].n_blocks - 1);
}

static void open_text(struct api_reply *r, bool reasoning) {
    struct api_candidate *c = &r->candidates[0];
    c->block = reasoning ? BLOCK_REASONING : BLOCK_ANSWER;
    c->block_begin = reasoning ? c->reasoning.len : c->answer.len;
    c->n_blocks++;
    added(r, "response.output_item.added");
    put_text_item(&r->out, "item", r, reasoning, c->n_blocks - 1, NULL, 0, NULL);
    close_event(r);
    item_event(r, "response.content_part.added", reasoning ? "rs_" : "msg_", true);
    put_text_part(&r->out, "part", reasoning, "", 0, NULL);
    close_event(r);
}

/* The item goes to the list of complete ones, and to the event that says so. */
static void item_done(struct api_reply *r, size_t from) {
    const struct buf *items = &r->candidates[0].items;
    added(r, "response.output_item.done");
    put_raw(&r->out, "item", items->data + from, items->len - from);
    close_event(r);
}

/* Where the next item will begin: behind the comma that it gets. */
static size_t next_item(const struct api_candidate *c) {
    return c->items.len + (c->items.len > 0);
}

static void close_text(struct api_reply *r) {
    struct api_candidate *c = &r->candidates[0];
    bool reasoning = c->block == BLOCK_REASONING;
    const struct buf *all = reasoning ? &c->reasoning : &c->answer;
    const char *prefix = reasoning ? "rs_" : "msg_", *s = "";
    size_t n = all->len - c->block_begin, from = next_item(c);
    if (c->block == BLOCK_NONE)
        return;
    if (n > 0)
        s = all->data + c->block_begin;
    item_event(r, reasoning ? "response.reasoning_text.done" : "response.output_text.done", prefix,
               true);
    put_text(&r->out, "text", s, n);
    if (!reasoning)
        put_list(&r->out, "logprobs", &c->given);
    close_event(r);
    item_event(r, "response.content_part.done", prefix, true);
    put_text_part(&r->out, "part", reasoning, s, n, &c->given);
    close_event(r);
    put_text_item(&c->items, NULL, r, reasoning, c->n_blocks - 1, s, n, &c->given);
    item_done(r, from);
    if (!reasoning)
        c->given.len = 0;
    c->block = BLOCK_NONE;
}

/* Those that are pending go into the piece; all of them are kept for the whole item. */
static void give_logprobs(struct api_reply *r, struct api_candidate *c) {
    if (c->logprobs.content.len > 0)
        put_raw(&c->given, NULL, c->logprobs.content.data, c->logprobs.content.len);
    put_logprobs_list(&r->out, "logprobs", &c->logprobs);
}

static void responses_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                           size_t n) {
    struct api_candidate *c = &r->candidates[i];
    bool reasoning = part == SLM_PART_REASONING;
    if (c->block != (reasoning ? BLOCK_REASONING : BLOCK_ANSWER)) {
        close_text(r);
        open_text(r, reasoning);
    }
    item_event(r, reasoning ? "response.reasoning_text.delta" : "response.output_text.delta",
               reasoning ? "rs_" : "msg_", true);
    put_text(&r->out, "delta", text, n);
    if (!reasoning)
        give_logprobs(r, c);
    close_event(r);
}

/* Called when the call is kept already: it is the last one. */
static void responses_call(struct api_reply *r, size_t i, const slm_tool_call *call) {
    struct api_candidate *c = &r->candidates[i];
    size_t k = c->n_tools - 1, from;
    close_text(r);
    c->n_blocks++;
    added(r, "response.output_item.added");
    put_call_item(&r->out, "item", r, c->n_blocks - 1, k, false);
    close_event(r);
    item_event(r, "response.function_call_arguments.delta", "fc_", false);
    put_text(&r->out, "delta", call->arguments, call->n_arguments);
    close_event(r);
    item_event(r, "response.function_call_arguments.done", "fc_", false);
    put_text(&r->out, "name", call->name, call->n_name);
    put_text(&r->out, "arguments", call->arguments, call->n_arguments);
    close_event(r);
    from = next_item(c);
    put_call_item(&c->items, NULL, r, c->n_blocks - 1, k, true);
    item_done(r, from);
}

static void responses_end(struct api_reply *r) {
    close_text(r);
    open_event(r, cut_short(r) ? "response.incomplete" : "response.completed");
    put_response(r, "response", cut_short(r) ? "incomplete" : "completed", NULL);
    close_event(r);
}

static void responses_error(struct api_reply *r, const struct api_error *e) {
    open_event(r, "response.failed");
    put_response(r, "response", "failed", e);
    close_event(r);
}

/* ------------------------------------------------------------------ whole */

static void responses_whole(struct api_reply *r) {
    struct api_candidate *c = &r->candidates[0];
    size_t number = 0;
    if (c->reasoning.len > 0)
        put_text_item(&c->items, NULL, r, true, number++, c->reasoning.data, c->reasoning.len,
                      NULL);
    if (c->answer.len > 0)
        put_text_item(&c->items, NULL, r, false, number++, c->answer.data, c->answer.len,
                      &c->logprobs.content);
    for (size_t k = 0; k < c->n_tools; k++)
        put_call_item(&c->items, NULL, r, number++, k, true);
    put_response(r, NULL, cut_short(r) ? "incomplete" : "completed", NULL);
}

const struct api_shape shape_responses = { .keep = true,
                                           .begin = responses_begin,
                                           .text = responses_text,
                                           .call = responses_call,
                                           .end = responses_end,
                                           .error = responses_error,
                                           .whole = responses_whole };
