/* api_completions.c - OpenAI's /v1/completions: raw text and token ids, echo, log-probabilities.
 *
 * With echo the text begins with the prompt, and logprobs has the prompt's tokens in front: what
 * lm-evaluation-harness scores choices with. Text of the prompt: as it was sent, or what its ids say. */
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

bool read_completions(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    call->max_tokens = 16; /* what OpenAI's API has when nothing is said */
    if (!read_params(r, r->body, IN_COMPLETIONS) || !read_stream(r) || !read_choices(r) ||
        !read_sampling(r, p) || !read_stops(r, p) || !read_bias(r) || !read_limit(r, p) ||
        !read_formats(r) || !read_constraint(r))
        return false;
    call->logprobs = p->values[P_TOP_LOGPROBS].set;
    call->top = (uint32_t)p->values[P_TOP_LOGPROBS].integer;
    call->echo = params_bool(p, P_ECHO, false);
    if (p->values[P_SUFFIX].set && p->values[P_SUFFIX].n > 0)
        return api_fail(r->error, 400, "unsupported_value", "suffix",
                        "'suffix': the models were not trained to fill gaps");
    return read_prompts(r, p->values[P_PROMPT].json, "prompt");
}

/* pieces and whole answers have the same name */
#define OBJECT "text_completion"

/* The prompt's text, for echo. */
static void prompt_text(struct api_reply *r, size_t i, struct buf *to) {
    const struct api_prompt *p = &r->call->prompts[i / r->call->choices];
    size_t n;
    if (p->kind == API_TEXT)
        buf_put(to, p->text, p->n);
    for (size_t k = 0; k < p->n_ids && r->facts->token != NULL; k++) {
        const char *s = r->facts->token(r->facts->user, p->ids[k], &n);
        if (s != NULL)
            buf_put(to, s, n);
    }
}

/* A choice of a piece, with tokens of the prompt and of the answer (NULL: not those). reason NULL: not
 * finished. */
static void put_choice(struct api_reply *r, size_t i, const struct buf *text, const char *reason,
                       struct api_logprobs *prompt, struct api_logprobs *answer) {
    struct buf *b = &r->out;
    put_open(b, NULL, '{');
    put_size(b, "index", i);
    put_text(b, "text", text->data, text->len);
    if (r->call->logprobs && (prompt != NULL || answer != NULL))
        put_logprobs_text(b, "logprobs", prompt, answer);
    else
        put_null(b, "logprobs");
    put_str(b, "finish_reason", reason);
    if (reason != NULL && (r->call->stream || r->n_candidates > 1))
        put_timings(b, &r->candidates[i]);
    put_close(b, '}');
}

static void put_piece(struct api_reply *r, size_t i, const struct buf *text, const char *reason,
                      struct api_logprobs *prompt, struct api_logprobs *answer) {
    frame_open(r, NULL);
    open_choices(r, "cmpl-", OBJECT);
    put_choice(r, i, text, reason, prompt, answer);
    put_close(&r->out, ']');
    if (r->call->include_usage)
        put_null(&r->out, "usage");
    put_close(&r->out, '}');
    frame_close(r);
}

/* The first piece of a candidate, once its prompt is evaluated: the prompt itself. */
static void echo_once(struct api_reply *r, size_t i) {
    struct buf text;
    if (!r->call->echo || r->candidates[i].started)
        return;
    r->candidates[i].started = true;
    buf_init(&text, NULL, API_REPLY_MOST);
    prompt_text(r, i, &text);
    put_piece(r, i, &text, NULL, &r->prompts[i / r->call->choices].logprobs, NULL);
    buf_free(&text);
}

/* Tokens that have not been given out, or NULL. */
static struct api_logprobs *pending(struct api_reply *r, size_t i) {
    struct api_logprobs *l = &r->candidates[i].logprobs;
    return l->tokens.len > 0 ? l : NULL;
}

static void text_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                      size_t n) {
    (void)part; /* raw text is not taken apart */
    const struct buf piece = { .data = (char *)(uintptr_t)text, .len = n }; /* only read */
    echo_once(r, i);
    put_piece(r, i, &piece, NULL, NULL, pending(r, i));
}

static void text_done(struct api_reply *r, size_t i) {
    echo_once(r, i);
    const struct buf nothing = { .data = NULL };
    put_piece(r, i, &nothing, finish_reason(&r->candidates[i]), NULL, pending(r, i));
}

static void text_end(struct api_reply *r) {
    end_choices(r, "cmpl-", OBJECT);
}

static void text_whole(struct api_reply *r) {
    struct buf *b = &r->out, text;
    open_choices(r, "cmpl-", OBJECT);
    for (size_t i = 0; i < r->n_candidates; i++) {
        struct api_candidate *c = &r->candidates[i];
        buf_init(&text, NULL, API_REPLY_MOST);
        if (r->call->echo)
            prompt_text(r, i, &text);
        buf_put(&text, c->answer.data, c->answer.len);
        put_choice(r, i, &text, finish_reason(c),
                   r->call->echo ? &r->prompts[i / r->call->choices].logprobs : NULL, &c->logprobs);
        buf_free(&text);
    }
    put_close(b, ']');
    put_usage(b, r);
    if (r->n_candidates == 1)
        put_timings(b, &r->candidates[0]);
    put_close(b, '}');
}

const struct api_shape shape_completions = {
    .text = text_text, .done = text_done, .end = text_end, .whole = text_whole
};
