/* api_chat.c - OpenAI's /v1/chat/completions.
 *
 * Stream: for each candidate one piece with the role, then pieces of reasoning, text or calls, then one
 * with finish_reason; after all of them usage, when it was asked for, and [DONE]. A call is two pieces:
 * index, id, type and name; then index and arguments. reasoning_content is what llama.cpp and vLLM call
 * it, `reasoning` what Ollama does: both are given, clients read one of them.
 * Source: OpenAI's API reference, "Chat" and "Streaming". */
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ request */

bool read_chat(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    if (!read_params(r, r->body, IN_CHAT) || !read_stream(r) || !read_choices(r) ||
        !read_sampling(r, p) || !read_stops(r, p) || !read_bias(r) || !read_limit(r, p))
        return false;
    call->logprobs = params_bool(p, P_LOGPROBS, false);
    call->top = (uint32_t)p->values[P_TOP_LOGPROBS].integer;
    if (call->top > 0 && !call->logprobs)
        return api_fail(r->error, 400, "invalid_value", "top_logprobs",
                        "'top_logprobs' wants 'logprobs': true beside it");
    return chat_messages(r, p->values[P_MESSAGES].json) && chat_tools(r, p->values[P_TOOLS].json) &&
           chat_tool_choice(r, p->values[P_TOOL_CHOICE].json) && read_parallel(r) &&
           read_formats(r) && read_think(r) && chat_document(r);
}

/* ------------------------------------------------------------------ stream */

#define CHUNK "chat.completion.chunk"

static void open_choice(struct api_reply *r, size_t i) {
    frame_open(r, NULL);
    open_choices(r, "chatcmpl-", CHUNK);
    put_open(&r->out, NULL, '{');
    put_size(&r->out, "index", i);
}

static void close_piece(struct api_reply *r) {
    if (r->call->include_usage)
        put_null(&r->out, "usage");
    put_close(&r->out, '}');
    frame_close(r);
}

/* What stands behind the delta. reason NULL: not finished. */
static void close_choice(struct api_reply *r, size_t i, const char *reason, bool tokens) {
    struct api_candidate *c = &r->candidates[i];
    if (tokens && c->logprobs.content.len > 0)
        put_logprobs_chat(&r->out, "logprobs", r, &c->logprobs);
    else
        put_null(&r->out, "logprobs");
    put_str(&r->out, "finish_reason", reason);
    put_close(&r->out, '}');
    put_close(&r->out, ']');
    if (reason != NULL)
        put_timings(&r->out, c);
    close_piece(r);
}

static void chat_begin(struct api_reply *r) {
    for (size_t i = 0; i < r->n_candidates; i++) {
        open_choice(r, i);
        put_open(&r->out, "delta", '{');
        put_str(&r->out, "role", "assistant");
        put_str(&r->out, "content", "");
        put_close(&r->out, '}');
        close_choice(r, i, NULL, false);
    }
}

static void chat_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                      size_t n) {
    open_choice(r, i);
    put_open(&r->out, "delta", '{');
    if (part == SLM_PART_REASONING) {
        put_text(&r->out, "reasoning_content", text, n);
        put_text(&r->out, "reasoning", text, n);
    } else {
        put_text(&r->out, "content", text, n);
    }
    put_close(&r->out, '}');
    close_choice(r, i, NULL, part == SLM_PART_ANSWER);
}

static void chat_call(struct api_reply *r, size_t i, const slm_tool_call *call) {
    for (int part = 0; part < 2; part++) {
        open_choice(r, i);
        put_open(&r->out, "delta", '{');
        put_open(&r->out, "tool_calls", '[');
        put_open(&r->out, NULL, '{');
        put_size(&r->out, "index", call->index);
        if (part == 0) {
            put_call_id(&r->out, "id", "call_", r, i, call->index);
            put_str(&r->out, "type", "function");
        }
        put_open(&r->out, "function", '{');
        if (part == 0)
            put_text(&r->out, "name", call->name, call->n_name);
        put_text(&r->out, "arguments", call->arguments, part == 0 ? 0 : call->n_arguments);
        put_close(&r->out, '}');
        put_close(&r->out, '}');
        put_close(&r->out, ']');
        put_close(&r->out, '}');
        close_choice(r, i, NULL, false);
    }
}

static void chat_progress(struct api_reply *r, size_t i, size_t done, size_t total) {
    open_choice(r, i);
    put_open(&r->out, "delta", '{');
    put_close(&r->out, '}');
    put_null(&r->out, "logprobs");
    put_null(&r->out, "finish_reason");
    put_close(&r->out, '}');
    put_close(&r->out, ']');
    put_open(&r->out, "prompt_progress", '{');
    put_size(&r->out, "total", total);
    put_size(&r->out, "processed", done);
    put_close(&r->out, '}');
    close_piece(r);
}

static void chat_done(struct api_reply *r, size_t i) {
    open_choice(r, i);
    put_open(&r->out, "delta", '{');
    put_close(&r->out, '}');
    close_choice(r, i, finish_reason(&r->candidates[i]), true);
}

static void chat_end(struct api_reply *r) {
    end_choices(r, "chatcmpl-", CHUNK);
}

/* ------------------------------------------------------------------ whole */

static void put_calls(struct buf *b, const struct api_reply *r, size_t i) {
    const struct api_candidate *c = &r->candidates[i];
    size_t n;
    put_open(b, "tool_calls", '[');
    for (size_t k = 0; k < c->n_tools; k++) {
        put_open(b, NULL, '{');
        put_call_id(b, "id", "call_", r, i, k);
        put_str(b, "type", "function");
        put_open(b, "function", '{');
        const char *s = tool_name(c, k, &n);
        put_text(b, "name", s, n);
        s = tool_arguments(c, k, &n);
        put_text(b, "arguments", s, n);
        put_close(b, '}');
        put_close(b, '}');
    }
    put_close(b, ']');
}

static void put_message(struct buf *b, const struct api_reply *r, size_t i) {
    const struct api_candidate *c = &r->candidates[i];
    put_open(b, "message", '{');
    put_str(b, "role", "assistant");
    if (c->n_tools > 0 && c->answer.len == 0)
        put_null(b, "content");
    else
        put_text(b, "content", c->answer.data, c->answer.len);
    put_null(b, "refusal");
    if (c->reasoning.len > 0) {
        put_text(b, "reasoning_content", c->reasoning.data, c->reasoning.len);
        put_text(b, "reasoning", c->reasoning.data, c->reasoning.len);
    }
    if (c->n_tools > 0)
        put_calls(b, r, i);
    put_close(b, '}');
}

static void chat_whole(struct api_reply *r) {
    struct buf *b = &r->out;
    open_choices(r, "chatcmpl-", "chat.completion");
    for (size_t i = 0; i < r->n_candidates; i++) {
        put_open(b, NULL, '{');
        put_size(b, "index", i);
        put_message(b, r, i);
        put_logprobs_chat(b, "logprobs", r, &r->candidates[i].logprobs);
        put_str(b, "finish_reason", finish_reason(&r->candidates[i]));
        if (r->n_candidates > 1)
            put_timings(b, &r->candidates[i]);
        put_close(b, '}');
    }
    put_close(b, ']');
    put_usage(b, r);
    if (r->n_candidates == 1)
        put_timings(b, &r->candidates[0]);
    put_close(b, '}');
}

const struct api_shape shape_chat = { .begin = chat_begin,
                                      .text = chat_text,
                                      .call = chat_call,
                                      .progress = chat_progress,
                                      .done = chat_done,
                                      .end = chat_end,
                                      .whole = chat_whole };
