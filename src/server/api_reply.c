/* api_reply.c - collects what candidates give and hands it to the dialect of the route.
 *
 * Streams: each event becomes bytes at once. Whole answers: everything is kept until api_reply_end. Both
 * go through the same shapes, so that the pieces of a stream put together are the whole answer. */
#include "server/api_reply.h"

#include <stdio.h>
#include <string.h>

#include "server/api_embed.h"

/* ------------------------------------------------------------------ life */

static void candidate_init(struct api_candidate *c) {
    buf_init(&c->answer, NULL, API_REPLY_MOST);
    buf_init(&c->reasoning, NULL, API_REPLY_MOST);
    buf_init(&c->calls, NULL, API_REPLY_MOST);
    buf_init(&c->items, NULL, API_REPLY_MOST);
    buf_init(&c->ids, NULL, API_REPLY_MOST);
    buf_init(&c->given, NULL, API_REPLY_MOST);
    logprobs_init(&c->logprobs);
}

static void candidate_free(struct api_candidate *c) {
    buf_free(&c->answer);
    buf_free(&c->reasoning);
    buf_free(&c->calls);
    buf_free(&c->items);
    buf_free(&c->ids);
    buf_free(&c->given);
    logprobs_free(&c->logprobs);
    mem_free(NULL, c->tools);
}

struct api_reply *api_reply_new(const struct api_call *call, const struct api_facts *facts) {
    struct api_reply *r = mem_zalloc(NULL, 1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->call = call;
    r->facts = facts;
    r->n_candidates = call->n_prompts * call->choices;
    buf_init(&r->out, NULL, API_REPLY_MOST);
    r->candidates = mem_zalloc(NULL, r->n_candidates + 1, sizeof *r->candidates);
    r->prompts = mem_zalloc(NULL, call->n_prompts + 1, sizeof *r->prompts);
    r->vectors = mem_zalloc(NULL, call->n_prompts + 1, sizeof *r->vectors);
    if (r->candidates == NULL || r->prompts == NULL || r->vectors == NULL) {
        r->n_candidates = 0;
        api_reply_free(r);
        return NULL;
    }
    for (size_t i = 0; i < r->n_candidates; i++)
        candidate_init(&r->candidates[i]);
    for (size_t p = 0; p < call->n_prompts; p++) {
        logprobs_init(&r->prompts[p].logprobs);
        buf_init(&r->vectors[p], NULL, API_REPLY_MOST);
    }
    return r;
}

void api_reply_free(struct api_reply *r) {
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->n_candidates; i++)
        candidate_free(&r->candidates[i]);
    for (size_t p = 0; r->prompts != NULL && r->vectors != NULL && p < r->call->n_prompts; p++) {
        logprobs_free(&r->prompts[p].logprobs);
        buf_free(&r->vectors[p]);
    }
    mem_free(NULL, r->candidates);
    mem_free(NULL, r->prompts);
    mem_free(NULL, r->vectors);
    buf_free(&r->out);
    mem_free(NULL, r);
}

struct buf *api_reply_out(struct api_reply *r) {
    return &r->out;
}

const char *api_reply_type(const struct api_call *call) {
    if (!call->stream || call->route->shape == NULL)
        return "application/json; charset=utf-8";
    return call->route->shape->lines ? "application/x-ndjson" : "text/event-stream; charset=utf-8";
}

/* ------------------------------------------------------------------ framing */

void frame_open(struct api_reply *r, const char *name) {
    if (r->call->route->shape->lines)
        return;
    if (name != NULL) {
        buf_puts(&r->out, "event: ");
        buf_puts(&r->out, name);
        buf_putc(&r->out, '\n');
    }
    buf_puts(&r->out, "data: ");
}

void frame_close(struct api_reply *r) {
    buf_puts(&r->out, r->call->route->shape->lines ? "\n" : "\n\n");
}

void frame_done(struct api_reply *r) {
    buf_puts(&r->out, "data: [DONE]\n\n");
}

/* ------------------------------------------------------------------ shared pieces */

void put_id(struct buf *b, const char *key, const char *prefix, const struct api_reply *r) {
    char id[96];
    snprintf(id, sizeof id, "%s%s", prefix, r->facts->unique);
    put_str(b, key, id);
}

void put_call_id(struct buf *b, const char *key, const char *prefix, const struct api_reply *r,
                 size_t i, size_t k) {
    char id[128];
    snprintf(id, sizeof id, "%s%s_%zu", prefix, r->facts->unique, i * 1000 + k);
    put_str(b, key, id);
}

const char *tool_name(const struct api_candidate *c, size_t k, size_t *n) {
    *n = c->tools[k].n_name;
    return c->calls.data + c->tools[k].name;
}

const char *tool_arguments(const struct api_candidate *c, size_t k, size_t *n) {
    *n = c->tools[k].n_arguments;
    return c->calls.data + c->tools[k].arguments;
}

struct api_usage reply_usage(const struct api_reply *r) {
    struct api_usage u = { 0 };
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct api_candidate *c = &r->candidates[i];
        if (i % r->call->choices == 0) {
            u.prompt += r->prompts[i / r->call->choices].n_tokens;
            u.cached += c->result.reused_tokens;
        }
        if (!r->call->score_only)
            u.output += c->result.output_tokens;
        u.reasoning += c->result.reasoning_tokens;
    }
    return u;
}

void put_usage(struct buf *b, const struct api_reply *r) {
    struct api_usage u = reply_usage(r);
    put_open(b, "usage", '{');
    put_size(b, "prompt_tokens", u.prompt);
    put_size(b, "completion_tokens", u.output);
    put_size(b, "total_tokens", u.prompt + u.output);
    put_open(b, "prompt_tokens_details", '{');
    put_size(b, "cached_tokens", u.cached);
    put_close(b, '}');
    put_open(b, "completion_tokens_details", '{');
    put_size(b, "reasoning_tokens", u.reasoning);
    put_close(b, '}');
    put_close(b, '}');
}

void open_choices(struct api_reply *r, const char *prefix, const char *object) {
    struct buf *b = &r->out;
    put_open(b, NULL, '{');
    put_id(b, "id", prefix, r);
    put_str(b, "object", object);
    put_int(b, "created", r->facts->created_ns / 1000000000);
    put_str(b, "model", r->facts->model);
    put_str(b, "system_fingerprint", r->facts->fingerprint);
    put_open(b, "choices", '[');
}

void end_choices(struct api_reply *r, const char *prefix, const char *object) {
    if (r->call->include_usage) {
        frame_open(r, NULL);
        open_choices(r, prefix, object);
        put_close(&r->out, ']');
        put_usage(&r->out, r);
        put_close(&r->out, '}');
        frame_close(r);
    }
    frame_done(r);
}

/* "NAME_n", "NAME_ms", "NAME_per_token_ms", "NAME_per_second" */
static void put_phase(struct buf *b, const char *name, size_t n, uint64_t ns) {
    char key[48];
    double ms = (double)ns / 1e6;
    snprintf(key, sizeof key, "%s_n", name);
    put_size(b, key, n);
    snprintf(key, sizeof key, "%s_ms", name);
    put_double(b, key, ms);
    snprintf(key, sizeof key, "%s_per_token_ms", name);
    put_double(b, key, n > 0 ? ms / (double)n : 0.0);
    snprintf(key, sizeof key, "%s_per_second", name);
    put_double(b, key, ns > 0 ? (double)n * 1e9 / (double)ns : 0.0);
}

void put_timings(struct buf *b, const struct api_candidate *c) {
    const slm_result *r = &c->result;
    put_open(b, "timings", '{');
    put_size(b, "cache_n", r->reused_tokens);
    put_phase(b, "prompt", r->prompt_tokens - r->reused_tokens, r->prefill_ns);
    put_phase(b, "predicted", r->output_tokens, r->decode_ns);
    if (r->guessed_tokens > 0) {
        put_size(b, "draft_n", r->guessed_tokens);
        put_size(b, "draft_n_accepted", r->accepted_tokens);
    }
    put_double(b, "queue_ms", (double)c->spent.queue_ns / 1e6);
    if (r->cache_miss != NULL)
        put_str(b, "cache_miss", r->cache_miss);
    put_close(b, '}');
}

const char *finish_reason(const struct api_candidate *c) {
    switch (c->result.finish) {
    case SLM_FINISH_LENGTH:
    case SLM_FINISH_CONTEXT:
        return "length";
    case SLM_FINISH_STOP:
    case SLM_FINISH_STRING:
    case SLM_FINISH_CANCELLED:
        break;
    }
    return c->n_tools > 0 ? "tool_calls" : "stop";
}

const char *stop_string(const struct api_reply *r, const struct api_candidate *c) {
    if (c->result.finish != SLM_FINISH_STRING || c->result.stop_index >= r->call->n_stop)
        return NULL;
    return r->call->stop[c->result.stop_index];
}

/* ------------------------------------------------------------------ events */

void api_reply_begin(struct api_reply *r, const size_t *prompt_tokens) {
    for (size_t p = 0; p < r->call->n_prompts; p++)
        r->prompts[p].n_tokens = prompt_tokens[p];
    r->begun = true;
    if (r->call->stream && r->call->route->shape->begin != NULL)
        r->call->route->shape->begin(r);
}

void api_reply_prompt(struct api_reply *r, size_t p, const slm_choice *choice) {
    if (r->call->echo && r->call->logprobs)
        logprobs_text(r, &r->prompts[p].logprobs, choice);
}

/* White space between the thinking and the answer belongs to neither. */
static bool is_gap(const struct api_reply *r, const struct api_candidate *c, int32_t id) {
    size_t n = 0, i = 0;
    const char *s = r->facts->token != NULL ? r->facts->token(r->facts->user, id, &n) : NULL;
    while (s != NULL && i < n && strchr(" \t\r\n", s[i]) != NULL && s[i] != '\0')
        i++;
    return c->thought && !c->answered && i == n;
}

/* Chat: tokens of the answer alone, as reasoning has no place for them. Completions: every id, the stop id
 * too, so that there is one for each that was computed. */
void api_reply_choice(struct api_reply *r, size_t i, const slm_choice *choice) {
    struct api_candidate *c = &r->candidates[i];
    struct api_logprobs *l = &c->logprobs;
    if (r->call->return_tokens && !choice->stop)
        put_int(&c->ids, NULL, choice->id);
    c->thought = c->thought || choice->part == SLM_PART_REASONING;
    if (!r->call->logprobs || r->call->score_only)
        return;
    if (r->call->route->shape == &shape_completions) {
        if (r->call->echo && l->n_characters == 0)
            l->n_characters = r->prompts[i / r->call->choices].logprobs.n_characters;
        logprobs_text(r, l, choice);
    } else if (!choice->stop && choice->part != SLM_PART_REASONING && !is_gap(r, c, choice->id)) {
        logprobs_chat(r, l, choice);
    }
}

static bool kept(const struct api_reply *r) {
    return !r->call->stream || r->call->route->shape->keep;
}

void api_reply_text(struct api_reply *r, size_t i, enum slm_part part, const char *text, size_t n) {
    struct api_candidate *c = &r->candidates[i];
    if (n == 0 || r->call->score_only)
        return;
    c->thought = c->thought || part == SLM_PART_REASONING;
    c->answered = c->answered || part == SLM_PART_ANSWER;
    if (r->call->stream && r->call->route->shape->text != NULL)
        r->call->route->shape->text(r, i, part, text, n);
    if (kept(r))
        buf_put(part == SLM_PART_REASONING ? &c->reasoning : &c->answer, text, n);
}

static bool keep_tool(struct api_candidate *c, const slm_tool_call *call, bool text) {
    struct api_tool *more = mem_resize(NULL, c->tools, c->n_tools + 1, sizeof *more);
    if (more == NULL)
        return false;
    c->tools = more;
    more += c->n_tools;
    *more = (struct api_tool){ .name = c->calls.len,
                               .n_name = call->n_name,
                               .arguments = c->calls.len + call->n_name,
                               .n_arguments = call->n_arguments };
    if (text) {
        buf_put(&c->calls, call->name, call->n_name);
        buf_put(&c->calls, call->arguments, call->n_arguments);
        if (c->calls.err != SLM_OK)
            return false;
    }
    c->n_tools++;
    return true;
}

void api_reply_call(struct api_reply *r, size_t i, const slm_tool_call *call) {
    if (!keep_tool(&r->candidates[i], call, kept(r))) {
        r->out.err = r->out.err == SLM_OK ? SLM_E_NOMEM : r->out.err;
        return;
    }
    if (r->call->stream && r->call->route->shape->call != NULL)
        r->call->route->shape->call(r, i, call);
}

void api_reply_embedding(struct api_reply *r, size_t p, const float *values, size_t n,
                         size_t n_tokens) {
    r->prompts[p].n_tokens = n_tokens;
    embedding_render(r->call, values, n, &r->vectors[p]);
}

void api_reply_progress(struct api_reply *r, size_t i, size_t done, size_t total) {
    if (r->call->stream && r->call->progress && r->call->route->shape->progress != NULL)
        r->call->route->shape->progress(r, i, done, total);
}

void api_reply_done(struct api_reply *r, size_t i, const slm_result *result,
                    const struct api_spent *spent) {
    struct api_candidate *c = &r->candidates[i];
    c->result = *result;
    if (spent != NULL)
        c->spent = *spent;
    c->done = true;
    if (r->call->stream && r->call->route->shape->done != NULL)
        r->call->route->shape->done(r, i);
}

void api_reply_ping(struct api_reply *r) {
    const struct api_shape *shape = r->call->route->shape;
    if (!r->call->stream || r->ended)
        return;
    if (shape->ping != NULL && r->begun)
        shape->ping(r);
    else if (!shape->lines)
        buf_puts(&r->out, ": ping\n\n");
}

/* What was kept must be whole, or the answer is none. */
static void forward_errors(struct api_reply *r) {
    for (size_t i = 0; i < r->n_candidates; i++) {
        const struct api_candidate *c = &r->candidates[i];
        const struct buf *all[] = { &c->answer, &c->reasoning,        &c->calls,
                                    &c->items,  &c->logprobs.content, &c->logprobs.tokens };
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            if (all[k]->err != SLM_OK && r->out.err == SLM_OK)
                r->out.err = all[k]->err;
    }
}

void api_reply_end(struct api_reply *r) {
    const struct api_shape *shape = r->call->route->shape;
    if (r->ended)
        return;
    r->ended = true;
    forward_errors(r);
    if (!r->call->stream)
        shape->whole(r);
    else if (shape->end != NULL)
        shape->end(r);
}

void api_reply_error(struct api_reply *r, const struct api_error *e) {
    const struct api_shape *shape = r->call->route->shape;
    if (r->ended)
        return;
    r->ended = true;
    if (!r->call->stream) {
        api_error_body(r->call->route->family, e, &r->out);
    } else if (shape->error != NULL) {
        shape->error(r, e);
    } else {
        frame_open(r, NULL);
        api_error_body(r->call->route->family, e, &r->out);
        frame_close(r);
        if (!shape->lines && r->call->route->family == API_OPENAI)
            frame_done(r);
    }
}
