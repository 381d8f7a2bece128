/* api_options.c - from a call to the options of one candidate, and whether its prompt fits. */
#include <stdio.h>
#include <string.h>

#include "server/api_reply.h"

/* Positions that the call may use. */
static uint32_t limit_of(const struct api_call *call, uint32_t context) {
    return call->num_ctx > 0 && call->num_ctx < context ? call->num_ctx : context;
}

bool api_fit(struct api_call *call, size_t n, uint32_t context, struct api_error *e) {
    uint32_t limit = limit_of(call, context);
    bool writes = call->op == API_GENERATE && !call->score_only;
    if (n + writes <= limit)
        return true;
    api_fail(e, 400, "context_length_exceeded", call->document != NULL ? "messages" : "prompt",
             "the prompt has %zu tokens, the context holds %u%s; nothing was dropped", n, limit,
             n <= limit ? " and one has to be left for the answer" : "");
    e->n_prompt = call->over_n = n;
    call->over_limit = limit;
    e->n_context = limit;
    return false;
}

bool api_wants_prompt(const struct api_call *call, uint32_t *top) {
    *top = call->top;
    return call->echo && call->logprobs;
}

static void set_sampling(const struct api_sampling *s, slm_sampling *to) {
    const slm_sampling *v = &s->values;
    if (s->set & 1u << SET_TEMPERATURE)
        to->temperature = v->temperature;
    if (s->set & 1u << SET_TOP_K)
        to->top_k = v->top_k;
    if (s->set & 1u << SET_TOP_P)
        to->top_p = v->top_p;
    if (s->set & 1u << SET_MIN_P)
        to->min_p = v->min_p;
    if (s->set & 1u << SET_TYPICAL_P)
        to->typical_p = v->typical_p;
    if (s->set & 1u << SET_REPETITION_PENALTY)
        to->repetition_penalty = v->repetition_penalty;
    if (s->set & 1u << SET_PRESENCE_PENALTY)
        to->presence_penalty = v->presence_penalty;
    if (s->set & 1u << SET_FREQUENCY_PENALTY)
        to->frequency_penalty = v->frequency_penalty;
    to->seed = v->seed;
    to->bias = v->bias;
    to->n_bias = v->n_bias;
}

void api_options(const struct api_call *call, size_t i, const slm_info *info, bool no_think,
                 size_t n_prompt, uint32_t context, slm_generate_options *out) {
    uint32_t limit = limit_of(call, context);
    uint32_t room = n_prompt < limit ? limit - (uint32_t)n_prompt : 1;
    *out = slm_generate_default();
    out->sampling = no_think ? info->sampling_no_think : info->sampling;
    out->sampling.size = sizeof out->sampling;
    out->default_sampling = false;
    set_sampling(&call->sampling, &out->sampling);
    out->sampling.seed += i % call->choices;
    out->max_tokens = call->max_tokens > 0 && call->max_tokens < room ? call->max_tokens : 0;
    if (out->max_tokens == 0 && limit < context)
        out->max_tokens = room;
    out->stop = call->stop;
    out->n_stop = call->n_stop;
    out->ignore_stop_ids = call->ignore_stop_ids;
    out->split_thinking = call->prompts[i / call->choices].kind == API_CHAT;
    out->no_think = no_think;
    out->think_budget = call->think_budget;
    out->top = call->logprobs ? call->top : 0;
}
