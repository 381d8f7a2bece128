/* api_llama.c - llama-server's /completion, and the readers of its small routes.
 *
 * Stream: pieces {"index","content","tokens","stop":false,...}; the last one has stop true, why it
 * stopped, and timings. Source: llama-server's README. */
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ requests */

bool read_llama_completion(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    if (!read_params(r, r->body, IN_LLAMA) || !read_stream(r) || !read_choices(r) ||
        !read_sampling(r, p) || !read_stops(r, p) || !read_bias(r) || !read_limit(r, p) ||
        !read_formats(r) || !read_constraint(r))
        return false;
    call->top = (uint32_t)p->values[P_TOP_LOGPROBS].integer;
    call->logprobs = call->top > 0;
    call->return_tokens = params_bool(p, P_RETURN_TOKENS, false);
    return read_prompts(r, p->values[P_PROMPT].json, "prompt");
}

/* Text is "content" in llama-server's words, "prompt" in those of lm-eval and vLLM. */
bool read_tokenize(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    if (!read_params(r, r->body, IN_UTIL))
        return false;
    bool prompt = p->values[P_PROMPT].set, content = p->values[P_TEXT].set;
    const struct param_value *v = &p->values[content ? P_TEXT : P_PROMPT];
    if (!prompt && !content)
        return api_fail(r->error, 400, "missing_required_parameter", "content",
                        "'content' (or 'prompt') is missing");
    if (!json_is_string(v->json))
        return bad_field(r, v->name, "has to be text");
    call->both_keys = !content;
    call->add_special = params_bool(p, P_ADD_SPECIAL, !content);
    call->parse_special = params_bool(p, P_PARSE_SPECIAL, true);
    call->pieces = params_bool(p, P_PIECES, false);
    return read_prompts(r, v->json, v->name);
}

bool read_detokenize(struct api_reader *r) {
    struct api_call *call = r->call;
    if (!read_params(r, r->body, IN_UTIL))
        return false;
    const json_t *tokens = r->params.values[P_TOKENS].json;
    if (tokens == NULL)
        return api_fail(r->error, 400, "missing_required_parameter", "tokens",
                        "'tokens' is missing");
    call->prompts = arena_zalloc(&call->arena, 1, sizeof *call->prompts);
    if (call->prompts == NULL)
        return no_memory(r);
    call->n_prompts = 1;
    call->prompts[0].kind = API_IDS;
    return read_ids(r, tokens, "tokens", &call->prompts[0].ids, &call->prompts[0].n_ids);
}

bool read_llama_template(struct api_reader *r) {
    const struct params *p = &r->params;
    if (!read_params(r, r->body, IN_UTIL))
        return false;
    if (!p->values[P_MESSAGES].set || p->values[P_MESSAGES].n == 0)
        return api_fail(r->error, 400, "missing_required_parameter", "messages",
                        "'messages' is missing");
    return chat_messages(r, p->values[P_MESSAGES].json) && chat_tools(r, p->values[P_TOOLS].json) &&
           read_think(r) && chat_document(r);
}

/* Routes that name a model in their path or nowhere. */
bool read_name(struct api_reader *r) {
    (void)r;
    return true;
}

/* ------------------------------------------------------------------ replies */

static const char *stop_type(const struct api_candidate *c) {
    switch (c->result.finish) {
    case SLM_FINISH_STOP:
        return "eos";
    case SLM_FINISH_STRING:
        return "word";
    case SLM_FINISH_LENGTH:
    case SLM_FINISH_CONTEXT:
        return "limit";
    case SLM_FINISH_CANCELLED:
        break;
    }
    return "none";
}

static void put_settings(struct buf *b, const struct api_reply *r, const struct api_candidate *c) {
    const slm_sampling *s = &c->result.sampling;
    put_open(b, "generation_settings", '{');
    put_size(b, "seed", s->seed);
    put_double(b, "temperature", (double)s->temperature);
    put_size(b, "top_k", s->top_k);
    put_float(b, "top_p", s->top_p);
    put_float(b, "min_p", s->min_p);
    put_float(b, "typical_p", s->typical_p);
    put_float(b, "repeat_penalty", s->repetition_penalty);
    put_float(b, "presence_penalty", s->presence_penalty);
    put_float(b, "frequency_penalty", s->frequency_penalty);
    put_int(b, "n_predict", r->call->max_tokens > 0 ? (int64_t)r->call->max_tokens : -1);
    put_bool(b, "ignore_eos", r->call->ignore_stop_ids);
    put_open(b, "stop", '[');
    for (size_t i = 0; i < r->call->n_stop; i++)
        put_str(b, NULL, r->call->stop[i]);
    put_close(b, ']');
    put_close(b, '}');
}

static void put_probabilities(struct api_reply *r, struct api_candidate *c) {
    if (r->call->logprobs && c->logprobs.content.len > 0)
        put_logprobs_list(&r->out, "completion_probabilities", &c->logprobs);
}

static void put_ids(struct api_reply *r, struct api_candidate *c) {
    put_open(&r->out, "tokens", '[');
    buf_put(&r->out, c->ids.data, c->ids.len);
    put_close(&r->out, ']');
    c->ids.len = 0;
}

static void put_final(struct api_reply *r, size_t i, const char *text, size_t n) {
    struct api_candidate *c = &r->candidates[i];
    const struct api_prompt *p = &r->call->prompts[i / r->call->choices];
    struct buf *b = &r->out;
    put_open(b, NULL, '{');
    put_size(b, "index", i);
    put_text(b, "content", text, n);
    put_ids(r, c);
    put_bool(b, "stop", true);
    put_str(b, "model", r->facts->model);
    put_size(b, "tokens_predicted", c->result.output_tokens);
    put_size(b, "tokens_evaluated", c->result.prompt_tokens);
    put_settings(b, r, c);
    put_text(b, "prompt", p->text != NULL ? p->text : "", p->n);
    put_bool(b, "truncated", false);
    put_str(b, "stop_type", stop_type(c));
    put_str(b, "stopping_word", stop_string(r, c) != NULL ? stop_string(r, c) : "");
    put_size(b, "tokens_cached", c->result.prompt_tokens + c->result.output_tokens);
    put_probabilities(r, c);
    put_timings(b, c);
    put_close(b, '}');
}

static void llama_text(struct api_reply *r, size_t i, enum slm_part part, const char *text,
                       size_t n) {
    struct api_candidate *c = &r->candidates[i];
    (void)part; /* raw text is not taken apart */
    frame_open(r, NULL);
    put_open(&r->out, NULL, '{');
    put_size(&r->out, "index", i);
    put_text(&r->out, "content", text, n);
    put_ids(r, c);
    put_bool(&r->out, "stop", false);
    put_probabilities(r, c);
    put_close(&r->out, '}');
    frame_close(r);
}

static void llama_progress(struct api_reply *r, size_t i, size_t done, size_t total) {
    frame_open(r, NULL);
    put_open(&r->out, NULL, '{');
    put_size(&r->out, "index", i);
    put_str(&r->out, "content", "");
    put_open(&r->out, "tokens", '[');
    put_close(&r->out, ']');
    put_bool(&r->out, "stop", false);
    put_open(&r->out, "prompt_progress", '{');
    put_size(&r->out, "total", total);
    put_size(&r->out, "processed", done);
    put_close(&r->out, '}');
    put_close(&r->out, '}');
    frame_close(r);
}

static void llama_done(struct api_reply *r, size_t i) {
    frame_open(r, NULL);
    put_final(r, i, "", 0);
    frame_close(r);
}

/* One answer is an object, several are a list of them. */
static void llama_whole(struct api_reply *r) {
    if (r->n_candidates != 1)
        put_open(&r->out, NULL, '[');
    for (size_t i = 0; i < r->n_candidates; i++)
        put_final(r, i, r->candidates[i].answer.data, r->candidates[i].answer.len);
    if (r->n_candidates != 1)
        put_close(&r->out, ']');
}

const struct api_shape shape_llama = {
    .text = llama_text, .progress = llama_progress, .done = llama_done, .whole = llama_whole
};
