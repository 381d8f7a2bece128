/* generate.c - one answer, token by token. The file to read to see how the parts meet:
 *
 *   logits -> sampler (one id) -> stop ids? -> streaming decoder (whole characters) -> thinking
 *   parser (reasoning | answer) -> stop strings -> the caller -> evaluate the id -> logits ...
 *
 * Nothing is allocated per token: buffers are made when the generation begins. */
#include <string.h>

#include "base/pool.h"
#include "session/engine.h"

#define MAX_STOP_STRINGS 16
#define MAX_STOP_BYTES 256
#define TEXT_ROOM 4096 /* a token with more text makes the buffer grow */

/* Looks for stop strings across pieces: holds back what may be the beginning of one. */
struct stopper {
    const char *const *stop;
    size_t n_stop;
    char held[MAX_STOP_BYTES * 2];
    size_t n_held;
    bool found;
    size_t which;
};

struct generation {
    slm_session *s;
    const slm_generate_options *o;
    slm_result *r;
    struct token_decoder decoder;
    struct think_parser think;
    struct stopper stopper;
    struct buf text;
    bool inside;      /* in the thinking block, by ids */
    bool refused;     /* a callback said stop */
    int32_t *closing; /* ids that close the thinking block when its budget is used up */
    size_t n_closing;
    bool cut_short; /* closed for the model: markers that it writes later are not shown */
};

slm_generate_options slm_generate_default(void) {
    return (slm_generate_options){ .size = sizeof(slm_generate_options),
                                   .sampling = slm_sampling_default(),
                                   .default_sampling = true,
                                   .split_thinking = true,
                                   .render = slm_render_default() };
}

/* ------------------------------------------------------------------ text on its way out */

static void say(struct generation *g, enum slm_part part, const char *text, size_t n) {
    if (n > 0 && !g->refused && g->o->on_text != NULL && !g->o->on_text(g->o->user, part, text, n))
        g->refused = true;
}

/* First stop string that ends or starts inside held[0..n): true and its place. */
static bool find_stop(struct stopper *t, size_t *at) {
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t len = strlen(t->stop[i]);
        for (size_t k = 0; len > 0 && k + len <= t->n_held && k < best; k++)
            if (memcmp(t->held + k, t->stop[i], len) == 0) {
                best = k;
                t->which = i;
            }
    }
    *at = best;
    return best != SIZE_MAX;
}

/* Length of the longest tail of held that is a proper beginning of a stop string. */
static size_t possible_tail(const struct stopper *t) {
    size_t longest = 0;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t len = strlen(t->stop[i]);
        for (size_t k = len - 1 < t->n_held ? len - 1 : t->n_held; k > longest; k--)
            if (memcmp(t->held + t->n_held - k, t->stop[i], k) == 0)
                longest = k;
    }
    return longest;
}

static void answer_piece(struct generation *g, const char *text, size_t n) {
    struct stopper *t = &g->stopper;
    while (n > 0 && !t->found) {
        size_t room = sizeof t->held - t->n_held, take = n < room ? n : room, at;
        memcpy(t->held + t->n_held, text, take);
        t->n_held += take;
        text += take;
        n -= take;
        t->found = find_stop(t, &at);
        size_t out = t->found ? at : t->n_held - possible_tail(t);
        say(g, SLM_PART_ANSWER, t->held, out);
        memmove(t->held, t->held + out, t->n_held - out);
        t->n_held -= out;
    }
}

static void on_part(void *user, enum think_part part, const char *text, size_t n) {
    struct generation *g = user;
    if (part == PART_REASONING)
        say(g, SLM_PART_REASONING, text, n);
    else if (g->stopper.n_stop == 0)
        say(g, SLM_PART_ANSWER, text, n);
    else
        answer_piece(g, text, n);
}

static void text_out(struct generation *g, const char *text, size_t n) {
    if (g->o->split_thinking && g->s->engine->think_open >= 0)
        think_parser_put(&g->think, text, n);
    else
        on_part(g, PART_CONTENT, text, n);
}

/* Text of one id. The thinking markers count whether or not the tokenizer calls them special. */
static void put_id(struct generation *g, int32_t id) {
    const slm_engine *e = g->s->engine;
    g->text.len = 0;
    if (e->tokenizer == NULL || (g->cut_short && (id == e->think_open || id == e->think_close)))
        return;
    if (id == e->think_open || id == e->think_close) {
        token_decoder_end(&g->decoder, &g->text);
        buf_puts(&g->text, id == e->think_open ? THINK_OPEN : THINK_CLOSE);
    } else {
        token_decoder_put(&g->decoder, id, &g->text);
    }
    if (g->text.len > 0)
        text_out(g, g->text.data, g->text.len);
}

static void finish_text(struct generation *g) {
    g->text.len = 0;
    if (g->s->engine->tokenizer != NULL && !g->stopper.found) {
        token_decoder_end(&g->decoder, &g->text);
        if (g->text.len > 0)
            text_out(g, g->text.data, g->text.len);
    }
    if (g->o->split_thinking && g->s->engine->think_open >= 0)
        think_parser_end(&g->think);
    if (!g->stopper.found)
        say(g, SLM_PART_ANSWER, g->stopper.held, g->stopper.n_held);
}

/* ------------------------------------------------------------------ tokens */

static bool is_stop(const slm_engine *e, int32_t id) {
    for (const int32_t *stop = e->facts.m.stop; *stop >= 0; stop++)
        if (*stop == id)
            return true;
    return false;
}

/* Takes an id into the sequence and its text to the caller. */
static void accept(struct generation *g, int32_t id) {
    slm_session *s = g->s;
    sampler_accept(s->sampler, id);
    s->ids[s->n++] = id;
    g->r->output_tokens++;
    if (g->inside)
        g->r->reasoning_tokens++;
    if (id == s->engine->think_open && g->r->output_tokens == 1)
        g->inside = true;
    else if (id == s->engine->think_close)
        g->inside = false;
    put_id(g, id);
}

/* Whether the generation ends now, after the last accepted id. */
static bool ended(struct generation *g) {
    const slm_session *s = g->s;
    if (g->stopper.found) {
        g->r->finish = SLM_FINISH_STRING;
        g->r->stop_index = g->stopper.which;
    } else if (g->refused || atomic_load_explicit(&s->cancelled, memory_order_relaxed)) {
        g->r->finish = SLM_FINISH_CANCELLED;
    } else if (g->o->max_tokens > 0 && g->r->output_tokens >= g->o->max_tokens) {
        g->r->finish = SLM_FINISH_LENGTH;
    } else if (s->n == s->context) {
        g->r->finish = SLM_FINISH_CONTEXT;
    } else {
        return false;
    }
    return true;
}

/* Closes the thinking block for the model; false if the generation ends meanwhile. */
static bool close_thinking(struct generation *g) {
    g->r->think_closed = true;
    for (size_t i = 0; i < g->n_closing; i++) {
        accept(g, g->closing[i]);
        if (ended(g))
            return false;
    }
    g->cut_short = true;
    return true;
}

static slm_err loop(struct generation *g, slm_why *why) {
    slm_session *s = g->s;
    const slm_engine *e = s->engine;
    while (!ended(g)) {
        int32_t id;
        slm_err err = session_evaluate(s, NULL, NULL, why);
        if (err == SLM_E_CANCELLED) {
            g->r->finish = SLM_FINISH_CANCELLED;
            return SLM_OK;
        }
        TRY(err);
        TRY(sampler_pick(s->sampler, s->logits, NULL, &id, why));
        if (g->o->on_token != NULL &&
            !g->o->on_token(g->o->user, id, sampler_logprob(s->sampler, s->logits, id)))
            g->refused = true;
        if (is_stop(e, id) && !g->o->ignore_stop_ids) {
            g->r->finish = SLM_FINISH_STOP;
            return SLM_OK;
        }
        accept(g, id);
        if (g->text.err != SLM_OK)
            return fail_nomem(why, "the text of a token", g->text.cap);
        if (g->inside && g->n_closing > 0 && g->r->reasoning_tokens >= g->o->think_budget &&
            !ended(g))
            if (!close_thinking(g))
                return SLM_OK;
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ begin and end */

static slm_err check_stops(const slm_generate_options *o, slm_why *why) {
    if (o->n_stop > MAX_STOP_STRINGS)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%zu stop strings, at most %d", o->n_stop,
                    MAX_STOP_STRINGS);
    for (size_t i = 0; i < o->n_stop; i++) {
        size_t len = strlen(o->stop[i]);
        if (len == 0 || len > MAX_STOP_BYTES)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "stop string %zu has %zu bytes, allowed are 1 to %d", i, len,
                        MAX_STOP_BYTES);
    }
    return SLM_OK;
}

static slm_err begin(struct generation *g, slm_why *why) {
    const slm_engine *e = g->s->engine;
    const slm_generate_options *o = g->o;
    slm_sampling sampling = o->sampling;
    TRY(check_stops(o, why));
    if (o->default_sampling) {
        sampling = o->no_think ? e->sampling_no_think : e->sampling;
        sampling.seed = o->sampling.seed;
        sampling.bias = o->sampling.bias;
        sampling.n_bias = o->sampling.n_bias;
    }
    g->r->sampling = sampling;
    TRY(sampler_begin(g->s->sampler, &sampling, g->s->ids, g->s->n, why));
    g->stopper.stop = o->stop;
    g->stopper.n_stop = o->n_stop;
    g->inside = o->in_thinking;
    buf_init(&g->text, &g->s->hooks, (size_t)1 << 20);
    buf_printf(&g->text, "%*s", TEXT_ROOM, ""); /* reserve */
    if (e->tokenizer != NULL)
        token_decoder_init(&g->decoder, e->tokenizer, true);
    think_parser_init(&g->think, THINK_OPEN, THINK_CLOSE, o->in_thinking, on_part, g);
    if (o->think_budget > 0 && e->think_close >= 0) {
        static const char close[] = "\n" THINK_CLOSE "\n\n";
        struct token_piece piece = { close, sizeof close - 1, false };
        TRY(tokenizer_encode(e->tokenizer, &piece, 1, 0, &g->closing, &g->n_closing, why));
    }
    return g->text.err == SLM_OK ? SLM_OK : fail_nomem(why, "text", TEXT_ROOM);
}

static slm_err generate(slm_session *s, const slm_generate_options *o, slm_result *r,
                        slm_why *why) {
    struct generation g = { .s = s, .o = o, .r = r };
    uint64_t start = clock_ns();
    slm_err err = begin(&g, why);
    if (err == SLM_OK) {
        err = loop(&g, why);
        finish_text(&g); /* what was held back had been said, however the loop ended */
    }
    r->decode_ns = clock_ns() - start;
    r->reevaluated_tokens = s->reevaluated;
    buf_free(&g.text);
    mem_free(&s->hooks, g.closing);
    return err;
}

/* Fields of a result that the caller's struct has room for. */
static void give(slm_result *out, const slm_result *r) {
    if (out != NULL)
        result_give(out, r, sizeof *r);
}

/* Options with their defaults; a result whose size was never set is found before the work is done. */
static slm_err take(slm_generate_options *o, const slm_generate_options *options,
                    slm_result *result, slm_why *why) {
    const slm_result none = { .size = sizeof none };
    *o = slm_generate_default();
    TRY(options_copy(o, sizeof *o, options, why));
    if (result != NULL && result_give(result, &none, sizeof none) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_result is not set: %zu",
                    result->size);
    return SLM_OK;
}

slm_err slm_generate(slm_session *s, const slm_generate_options *options, slm_result *result,
                     slm_why *why) {
    slm_generate_options o;
    slm_result r = { .size = sizeof r };
    TRY(take(&o, options, result, why));
    if (s->n == 0)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "the session holds no tokens to continue");
    s->reevaluated = 0;
    r.prompt_tokens = s->n;
    slm_err err = generate(s, &o, &r, why);
    give(result, &r);
    return err;
}

slm_err slm_chat(slm_session *s, const char *request, size_t n, const slm_generate_options *options,
                 slm_result *result, slm_why *why) {
    slm_generate_options o;
    slm_result r = { .size = sizeof r };
    int32_t *ids;
    size_t n_ids;
    TRY(take(&o, options, result, why));
    TRY(slm_render_ids(s->engine, request, n, &o.render, &ids, &n_ids, &o.in_thinking, why));
    uint64_t start = clock_ns();
    s->reevaluated = 0;
    slm_err err = session_sync(s, ids, n_ids, &r.reused_tokens, o.on_prefill, o.user, why);
    slm_free(s->engine, ids);
    r.prompt_tokens = n_ids;
    r.prefill_ns = clock_ns() - start;
    if (err == SLM_OK)
        err = generate(s, &o, &r, why);
    give(result, &r);
    return err;
}
