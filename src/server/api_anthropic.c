/* api_anthropic.c - Anthropic's /v1/messages and /v1/messages/count_tokens.
 *
 * Stream: message_start, ping; for each block (thinking, text, tool_use) content_block_start, deltas,
 * content_block_stop; message_delta with stop_reason and the final usage; message_stop. input_tokens of
 * message_start is the whole prompt; of message_delta what was evaluated, beside cache_read_input_tokens.
 * A thinking block has a signature, as clients keep and return it; this server does not check it.
 * Source: Anthropic's API reference, "Messages" and "Streaming messages". */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ request */

/* Claude Code puts a line in front that differs in every request: it would spoil the prompt cache, and
 * is no part of the conversation. */
#define BILLING "x-anthropic-billing-header"

static bool is_billing(const json_t *text) {
    return json_is_string(text) &&
           strncmp(json_string_value(text), BILLING, sizeof BILLING - 1) == 0;
}

static bool anthropic_system(struct api_reader *r, const json_t *system) {
    json_t *all = NULL;
    const json_t *block;
    size_t i;
    if (system == NULL)
        return true;
    if (json_is_string(system)) {
        json_t *text = share(system);
        return text != NULL ? chat_add(r, "system", text) != NULL : no_memory(r);
    }
    if (!json_is_array(system))
        return bad_field(r, "system", "has to be text or a list of blocks of text");
    json_array_foreach(system, i, block) {
        const json_t *text = json_object_get(block, "text");
        if (!json_is_string(text))
            return bad_field(r, "system", "has a block that is no text");
        if (is_billing(text))
            continue;
        json_t *copy = share(text);
        if (copy == NULL)
            return no_memory(r);
        if (all == NULL) {
            all = chat_add(r, "system", copy);
            if (all == NULL)
                return false;
        } else if (!message_append(r, all, "content", copy)) {
            return false;
        }
    }
    return true;
}

/* A result is text or blocks of text. An error of the tool is said in front of it. */
static bool tool_result(struct api_reader *r, const json_t *block) {
    const json_t *content = json_object_get(block, "content");
    const char *id = json_string_value(json_object_get(block, "tool_use_id"));
    if (id == NULL)
        return bad_field(r, "messages", "has a tool_result without tool_use_id");
    json_t *text = content == NULL || json_is_null(content) ? json_string("")
                                                            : content_text(r, content, "messages");
    if (text != NULL && !json_is_string(text)) {
        json_decref(text);
        return bad_field(r, "messages", "has an image in a tool_result; images belong to users");
    }
    if (text != NULL && json_is_true(json_object_get(block, "is_error"))) {
        json_t *marked = json_sprintf("Error: %s", json_string_value(text));
        json_decref(text);
        text = marked;
        if (text == NULL)
            return no_memory(r);
    }
    return text != NULL && chat_add_result(r, id, NULL, text);
}

static bool user_block(struct api_reader *r, const json_t *block, const char *type, json_t **user) {
    json_t *list, *text;
    if (strcmp(type, "tool_result") == 0) {
        *user = NULL;
        return tool_result(r, block);
    }
    list = json_pack("[O]", block);
    text = list != NULL ? content_text(r, list, "messages") : NULL;
    json_decref(list);
    if (text == NULL)
        return list == NULL ? no_memory(r) : false;
    if (*user != NULL)
        return message_append(r, *user, "content", text);
    *user = chat_add(r, "user", text);
    return *user != NULL;
}

static bool use_block(struct api_reader *r, const char *id, const char *name, const json_t *input) {
    size_t n;
    if (input == NULL)
        return chat_add_call(r, id, name, "{}");
    char *arguments = tree_text(input, &n);
    bool ok = arguments != NULL ? chat_add_call(r, id, name, arguments) : no_memory(r);
    free(arguments);
    return ok;
}

static bool assistant_block(struct api_reader *r, const json_t *block, const char *type) {
    if (strcmp(type, "redacted_thinking") == 0)
        return true; /* nothing in it that this server could read */
    if (strcmp(type, "thinking") == 0) {
        json_t *text = json_object_get(block, "thinking"), *m = chat_assistant(r);
        return m != NULL &&
               (!json_is_string(text) || message_append(r, m, "reasoning_content", share(text)));
    }
    if (strcmp(type, "tool_use") == 0) {
        const char *name = json_string_value(json_object_get(block, "name"));
        const json_t *input = json_object_get(block, "input");
        if (name == NULL || (input != NULL && !json_is_object(input)))
            return bad_field(r, "messages",
                             "has a tool_use without name, or with an input that is no "
                             "object");
        return use_block(r, json_string_value(json_object_get(block, "id")), name, input);
    }
    json_t *list = json_pack("[O]", block);
    json_t *text = list != NULL ? content_text(r, list, "messages") : NULL;
    json_decref(list);
    json_t *m = text != NULL ? chat_assistant(r) : NULL;
    if (m == NULL) {
        json_decref(text);
        return list == NULL ? no_memory(r) : false;
    }
    return message_append(r, m, "content", text);
}

static bool anthropic_message(struct api_reader *r, const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content"), *block;
    json_t *user = NULL;
    size_t i;
    if (role == NULL || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0 &&
                         strcmp(role, "system") != 0))
        return bad_field(r, "messages", "has a message whose role is neither user nor assistant");
    if (json_is_string(content)) {
        json_t *text = share(content);
        return text != NULL ? chat_add(r, role, text) != NULL : no_memory(r);
    }
    if (!json_is_array(content))
        return bad_field(r, "messages", "has a content that is neither text nor a list of blocks");
    bool assistant = role[0] == 'a';
    if (assistant && chat_add(r, "assistant", json_string("")) == NULL)
        return false;
    json_array_foreach(content, i, block) {
        const char *type = json_string_value(json_object_get(block, "type"));
        if (type == NULL)
            return bad_field(r, "messages", "has a block without a type");
        if (assistant ? !assistant_block(r, block, type) : !user_block(r, block, type, &user))
            return false;
    }
    return true;
}

static bool anthropic_tools(struct api_reader *r, const json_t *list) {
    const json_t *tool;
    char words[128];
    size_t i;
    json_array_foreach(list, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type")),
                   *name = json_string_value(json_object_get(tool, "name"));
        const json_t *schema = json_object_get(tool, "input_schema");
        if (type != NULL && strcmp(type, "custom") != 0) {
            snprintf(words, sizeof words, "tool of type %.64s left out: it runs at Anthropic",
                     type);
            api_warn(r->call, words);
            continue;
        }
        if (name == NULL || !json_is_object(schema))
            return bad_field(r, "tools", "has a tool without name or input_schema");
        if (!chat_tool(r, name, json_object_get(tool, "description"), schema))
            return false;
    }
    return true;
}

static bool anthropic_choice(struct api_reader *r, const json_t *choice) {
    const char *type = json_string_value(json_object_get(choice, "type"));
    if (choice == NULL)
        return true;
    if (type == NULL)
        return bad_field(r, "tool_choice", "has no type");
    if (json_is_true(json_object_get(choice, "disable_parallel_tool_use")) &&
        json_object_set_new(r->document, "parallel_tool_calls", json_false()) != 0)
        return no_memory(r);
    if (strcmp(type, "tool") == 0)
        return tool_choice_name(r, json_string_value(json_object_get(choice, "name")));
    return tool_choice_word(r, strcmp(type, "any") == 0 ? "required" : type);
}

/* output_config: {"effort": ..., "format": {"type": "json_schema", "schema": ...}} */
static bool anthropic_output(struct api_reader *r, const json_t *config) {
    const json_t *format = json_object_get(config, "format"),
                 *effort = json_object_get(config, "effort");
    if (format != NULL && !json_is_null(format) && !read_format_object(r, format, "output_config"))
        return false;
    return !json_is_string(effort) || r->think == THINK_NO ||
           think_effort(r, json_string_value(effort), "output_config");
}

static bool read_conversation(struct api_reader *r) {
    const struct params *p = &r->params;
    const json_t *message;
    size_t i;
    if (!read_params(r, r->body, IN_MESSAGES) || !anthropic_system(r, p->values[P_SYSTEM].json))
        return false;
    json_array_foreach(p->values[P_MESSAGES].json, i, message) {
        if (!anthropic_message(r, message))
            return false;
    }
    return anthropic_tools(r, p->values[P_TOOLS].json) &&
           anthropic_choice(r, p->values[P_TOOL_CHOICE].json) && read_think(r) &&
           anthropic_output(r, p->values[P_FORMAT].json);
}

bool read_messages(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    if (!read_conversation(r) || !read_stream(r) || !read_sampling(r, p) || !read_stops(r, p) ||
        !read_limit(r, p))
        return false;
    if (!p->values[P_MAX_TOKENS].set)
        return api_fail(r->error, 400, "missing_required_parameter", "max_tokens",
                        "'max_tokens' is missing");
    if (call->think_budget > 0 && call->think_budget >= call->max_tokens &&
        p->values[P_THINKING].set)
        return api_fail(r->error, 400, "invalid_value", "thinking",
                        "'max_tokens' (%u) has to be greater than thinking.budget_tokens (%u)",
                        call->max_tokens, call->think_budget);
    return chat_document(r);
}

bool read_count(struct api_reader *r) {
    return read_conversation(r) && chat_document(r);
}

/* ------------------------------------------------------------------ pieces */

static void open_event(struct api_reply *r, const char *name) {
    frame_open(r, name);
    put_open(&r->out, NULL, '{');
    put_str(&r->out, "type", name);
}

static void close_event(struct api_reply *r) {
    put_close(&r->out, '}');
    frame_close(r);
}

/* An opaque text that belongs to this thinking. */
static void signature_of(const struct buf *reasoning, size_t from, char out[40]) {
    uint64_t h[2];
    hash_bytes(reasoning->len > from ? reasoning->data + from : "", reasoning->len - from, 0, h);
    snprintf(out, 40, "slm%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
}

static const char *stop_reason(const struct api_candidate *c) {
    switch (c->result.finish) {
    case SLM_FINISH_LENGTH:
        return "max_tokens";
    case SLM_FINISH_CONTEXT:
        return "model_context_window_exceeded";
    case SLM_FINISH_STRING:
        return "stop_sequence";
    case SLM_FINISH_STOP:
    case SLM_FINISH_CANCELLED:
        break;
    }
    return c->n_tools > 0 ? "tool_use" : "end_turn";
}

static void put_anthropic_usage(struct buf *b, uint64_t prompt, uint64_t cached, uint64_t output) {
    put_open(b, "usage", '{');
    put_size(b, "input_tokens", prompt - cached);
    put_size(b, "cache_creation_input_tokens", 0);
    put_size(b, "cache_read_input_tokens", cached);
    put_size(b, "output_tokens", output);
    put_close(b, '}');
}

static void put_head(struct api_reply *r) {
    put_id(&r->out, "id", "msg_", r);
    put_str(&r->out, "type", "message");
    put_str(&r->out, "role", "assistant");
    put_str(&r->out, "model", r->facts->model);
}

/* ------------------------------------------------------------------ stream */

static void messages_ping(struct api_reply *r) {
    open_event(r, "ping");
    close_event(r);
}

static void messages_begin(struct api_reply *r) {
    struct buf *b = &r->out;
    open_event(r, "message_start");
    put_open(b, "message", '{');
    put_head(r);
    put_open(b, "content", '[');
    put_close(b, ']');
    put_null(b, "stop_reason");
    put_null(b, "stop_sequence");
    put_anthropic_usage(b, r->prompts[0].n_tokens, 0, 0);
    put_close(b, '}');
    close_event(r);
    messages_ping(r);
}

static void block_event(struct api_reply *r, const char *name) {
    open_event(r, name);
    put_size(&r->out, "index", r->candidates[0].n_blocks - 1);
}

static void delta(struct api_reply *r, const char *type, const char *key, const char *s, size_t n) {
    block_event(r, "content_block_delta");
    put_open(&r->out, "delta", '{');
    put_str(&r->out, "type", type);
    put_text(&r->out, key, s, n);
    put_close(&r->out, '}');
    close_event(r);
}

static void block_close(struct api_reply *r) {
    struct api_candidate *c = &r->candidates[0];
    char signature[40];
    if (c->block == BLOCK_NONE)
        return;
    if (c->block == BLOCK_REASONING) {
        signature_of(&c->reasoning, c->block_begin, signature);
        delta(r, "signature_delta", "signature", signature, strlen(signature));
    }
    block_event(r, "content_block_stop");
    close_event(r);
    c->block = BLOCK_NONE;
}

static void block_open(struct api_reply *r, enum api_block block) {
    struct api_candidate *c = &r->candidates[0];
    bool reasoning = block == BLOCK_REASONING;
    block_close(r);
    c->block = (int)block;
    c->n_blocks++;
    c->block_begin = reasoning ? c->reasoning.len : c->answer.len;
    block_event(r, "content_block_start");
    put_open(&r->out, "content_block", '{');
    put_str(&r->out, "type", reasoning ? "thinking" : "text");
    put_str(&r->out, reasoning ? "thinking" : "text", "");
    if (reasoning)
        put_str(&r->out, "signature", "");
    put_close(&r->out, '}');
    close_event(r);
}

static void messages_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                          size_t n) {
    enum api_block block = part == SLM_PART_REASONING ? BLOCK_REASONING : BLOCK_ANSWER;
    if (r->candidates[i].block != (int)block)
        block_open(r, block);
    if (block == BLOCK_REASONING)
        delta(r, "thinking_delta", "thinking", text, n);
    else
        delta(r, "text_delta", "text", text, n);
}

static void messages_call(struct api_reply *r, size_t i, const slm_tool_call *call) {
    struct buf *b = &r->out;
    block_close(r);
    r->candidates[i].n_blocks++;
    block_event(r, "content_block_start");
    put_open(b, "content_block", '{');
    put_str(b, "type", "tool_use");
    put_call_id(b, "id", "toolu_", r, i, call->index);
    put_text(b, "name", call->name, call->n_name);
    put_open(b, "input", '{');
    put_close(b, '}');
    put_close(b, '}');
    close_event(r);
    delta(r, "input_json_delta", "partial_json", call->arguments, call->n_arguments);
    block_event(r, "content_block_stop");
    close_event(r);
}

static void messages_end(struct api_reply *r) {
    const struct api_candidate *c = &r->candidates[0];
    struct api_usage u = reply_usage(r);
    block_close(r);
    open_event(r, "message_delta");
    put_open(&r->out, "delta", '{');
    put_str(&r->out, "stop_reason", stop_reason(c));
    put_str(&r->out, "stop_sequence", stop_string(r, c));
    put_close(&r->out, '}');
    put_anthropic_usage(&r->out, u.prompt, u.cached, u.output);
    close_event(r);
    open_event(r, "message_stop");
    close_event(r);
}

static void messages_error(struct api_reply *r, const struct api_error *e) {
    frame_open(r, "error");
    api_error_body(API_ANTHROPIC, e, &r->out);
    frame_close(r);
}

/* ------------------------------------------------------------------ whole */

static void put_blocks(struct api_reply *r) {
    const struct api_candidate *c = &r->candidates[0];
    struct buf *b = &r->out;
    char signature[40];
    size_t n;
    if (c->reasoning.len > 0) {
        signature_of(&c->reasoning, 0, signature);
        put_open(b, NULL, '{');
        put_str(b, "type", "thinking");
        put_text(b, "thinking", c->reasoning.data, c->reasoning.len);
        put_str(b, "signature", signature);
        put_close(b, '}');
    }
    if (c->answer.len > 0) {
        put_open(b, NULL, '{');
        put_str(b, "type", "text");
        put_text(b, "text", c->answer.data, c->answer.len);
        put_close(b, '}');
    }
    for (size_t k = 0; k < c->n_tools; k++) {
        put_open(b, NULL, '{');
        put_str(b, "type", "tool_use");
        put_call_id(b, "id", "toolu_", r, 0, k);
        const char *s = tool_name(c, k, &n);
        put_text(b, "name", s, n);
        s = tool_arguments(c, k, &n);
        put_raw(b, "input", s, n);
        put_close(b, '}');
    }
}

static void messages_whole(struct api_reply *r) {
    const struct api_candidate *c = &r->candidates[0];
    struct api_usage u = reply_usage(r);
    struct buf *b = &r->out;
    put_open(b, NULL, '{');
    put_head(r);
    put_open(b, "content", '[');
    put_blocks(r);
    put_close(b, ']');
    put_str(b, "stop_reason", stop_reason(c));
    put_str(b, "stop_sequence", stop_string(r, c));
    put_anthropic_usage(b, u.prompt, u.cached, u.output);
    put_close(b, '}');
}

const struct api_shape shape_messages = { .keep = true, /* for the signature */
                                          .begin = messages_begin,
                                          .text = messages_text,
                                          .call = messages_call,
                                          .ping = messages_ping,
                                          .end = messages_end,
                                          .error = messages_error,
                                          .whole = messages_whole };
