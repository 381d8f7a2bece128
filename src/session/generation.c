/* generation.c - what happens to a row of logits. The file to read to see how the parts meet:
 *
 *   logits -> language (which ids may come) -> sampler (one id) -> stop ids? -> streaming decoder
 *   (whole characters) -> parser (reasoning | answer | calls of tools) -> stop strings -> the caller;
 *   the id is pending then, and whoever drives the generation evaluates it: logits ...
 *
 * Where the language leaves no choice, the ids that have to come are taken without waiting for their
 * logits, and evaluated together. Where the caller wants log-probabilities they are guesses instead, so
 * that their rows are there: the same ids either way.
 *
 * Nothing is allocated per token but what a constraint or a call that is held needs: buffers are made
 * when the generation begins. */
#include <string.h>

#include "base/pool.h"
#include "session/generation.h"

#define TEXT_ROOM 4096 /* a token with more text makes the buffer grow */

/* ------------------------------------------------------------------ text on its way out */

static void say(struct generation *g, enum slm_part part, const char *text, size_t n) {
    if (n > 0 && !g->refused && g->o.on_text != NULL && !g->o.on_text(g->o.user, part, text, n))
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

static void on_answer_call(void *user, const struct answer_call *c) {
    struct generation *g = user;
    const slm_tool_call call = { .size = sizeof call,
                                 .index = c->index,
                                 .name = c->name,
                                 .arguments = c->arguments,
                                 .n_name = c->n_name,
                                 .n_arguments = c->n_arguments };
    if (!g->refused && !g->stopper.found && !g->o.on_call(g->o.user, &call))
        g->refused = true;
}

static void text_out(struct generation *g, const char *text, size_t n) {
    if (g->parser != NULL)
        answer_parser_put(g->parser, text, n);
    else if (g->o.split_thinking && g->q->runner->engine->think_open >= 0)
        think_parser_put(&g->think, text, n);
    else
        on_part(g, PART_CONTENT, text, n);
}

/* Text of one id. The thinking markers count whether or not the tokenizer calls them special. */
static void put_id(struct generation *g, int32_t id) {
    const slm_engine *e = g->q->runner->engine;
    g->text.len = 0;
    if (e->tokenizer == NULL || (g->cut_short && (id == e->think_open || id == e->think_close)))
        return;
    if (id == e->think_open || id == e->think_close) {
        token_decoder_end(&g->decoder, &g->text);
        buf_puts(&g->text, id == e->think_open ? THINK_OPEN : THINK_CLOSE);
    } else if (id == g->marks[0] || id == g->marks[1]) {
        token_decoder_end(&g->decoder, &g->text);
        buf_puts(&g->text, id == g->marks[0] ? dialect_open(g->o.prompt->dialect)
                                             : dialect_close(g->o.prompt->dialect));
    } else {
        token_decoder_put(&g->decoder, id, &g->text);
    }
    if (g->text.len > 0)
        text_out(g, g->text.data, g->text.len);
}

static slm_err finish_text(struct generation *g, slm_why *why) {
    slm_err err = SLM_OK;
    g->text.len = 0;
    if (g->q->runner->engine->tokenizer != NULL && !g->stopper.found) {
        token_decoder_end(&g->decoder, &g->text);
        if (g->text.len > 0)
            text_out(g, g->text.data, g->text.len);
    }
    if (g->parser != NULL) {
        err = answer_parser_end(g->parser, why);
        g->r.calls = answer_parser_calls(g->parser);
        g->r.malformed_calls = answer_parser_malformed(g->parser);
    } else if (g->o.split_thinking && g->q->runner->engine->think_open >= 0) {
        think_parser_end(&g->think);
    }
    if (!g->stopper.found)
        say(g, SLM_PART_ANSWER, g->stopper.held, g->stopper.n_held);
    return err;
}

/* ------------------------------------------------------------------ tokens */

static bool is_stop(const slm_engine *e, int32_t id) {
    for (const int32_t *stop = e->facts.m.stop; *stop >= 0; stop++)
        if (*stop == id)
            return true;
    return false;
}

/* Takes an id into the sequence and its text to the caller. */
static void append(struct generation *g, int32_t id) {
    struct sequence *q = g->q;
    const slm_engine *e = q->runner->engine;
    sampler_accept(q->sampler, id);
    q->ids[q->n++] = id;
    g->r.output_tokens++;
    if (g->inside)
        g->r.reasoning_tokens++;
    if (id == e->think_open && g->r.output_tokens == 1)
        g->inside = true;
    else if (id == e->think_close)
        g->inside = false;
    put_id(g, id);
}

/* Whether the generation ends now, after the last accepted id. */
static bool ended(struct generation *g) {
    const struct sequence *q = g->q;
    if (g->stopper.found) {
        g->r.finish = SLM_FINISH_STRING;
        g->r.stop_index = g->stopper.which;
    } else if (g->refused || atomic_load_explicit(q->runner->stop, memory_order_relaxed)) {
        g->r.finish = SLM_FINISH_CANCELLED;
    } else if (language_over(&g->lang)) {
        g->r.finish = SLM_FINISH_STOP;
    } else if (g->o.max_tokens > 0 && g->r.output_tokens >= g->o.max_tokens) {
        g->r.finish = SLM_FINISH_LENGTH;
    } else if (q->n == q->runner->shape.context) {
        g->r.finish = SLM_FINISH_CONTEXT;
    } else {
        return false;
    }
    return true;
}

/* Closes the thinking block for the model, as far as the generation goes on. What stands behind the
 * closing marker is no part of the answer's language. */
static slm_err close_thinking(struct generation *g, slm_why *why) {
    g->r.think_closed = true;
    for (size_t i = 0; i < g->n_closing; i++) {
        bool inside = g->inside;
        append(g, g->closing[i]);
        if (inside)
            TRY(language_take(&g->lang, g->closing[i], why));
        if (ended(g))
            return SLM_OK;
    }
    g->cut_short = true;
    return language_answer(&g->lang, why);
}

/* Whether the caller sees numbers of each id. */
static bool wants_numbers(const struct generation *g) {
    return g->o.on_token != NULL || g->o.on_choice != NULL;
}

/* Whether what has to come is taken without waiting for its logits. */
static bool forces(const struct generation *g) {
    return !wants_numbers(g) && !g->o.no_forcing;
}

/* The language's share of the time. Without one there is nothing to measure. */
static uint64_t language_clock(const struct generation *g) {
    return g->lang.state != LANGUAGE_NONE ? clock_ns() : 0;
}

static slm_err tell_language(struct generation *g, int32_t id, slm_why *why) {
    uint64_t start = language_clock(g);
    slm_err err = language_take(&g->lang, id, why);
    g->r.constraint_ns += language_clock(g) - start;
    return err;
}

static slm_err ask_language(struct generation *g, const uint32_t **mask, slm_why *why) {
    uint64_t start = language_clock(g);
    slm_err err = language_mask(&g->lang, mask, why);
    g->r.constraint_ns += language_clock(g) - start;
    return err;
}

/* Shows an id with its numbers before its text comes. */
static void show(struct generation *g, const float *logits, int32_t id, bool stop, bool forced) {
    const struct sequence *q = g->q;
    size_t n_top = g->o.on_choice != NULL ? g->o.top : 0;
    bool reasons = g->inside || (g->r.output_tokens == 0 && id == q->runner->engine->think_open);
    if (!wants_numbers(g))
        return;
    float logprob = sampler_likely(q->sampler, logits, id, g->top, &n_top);
    if (g->o.on_token != NULL && !g->o.on_token(g->o.user, id, logprob))
        g->refused = true;
    const slm_choice choice = { .size = sizeof choice,
                                .id = id,
                                .logprob = logprob,
                                .position = q->n,
                                .stop = stop,
                                .forced = forced,
                                .part = reasons ? SLM_PART_REASONING : SLM_PART_ANSWER,
                                .top = g->top,
                                .n_top = n_top };
    if (g->o.on_choice != NULL && !g->o.on_choice(g->o.user, &choice))
        g->refused = true;
}

static slm_err take_id(struct generation *g, int32_t id, bool forced, slm_why *why) {
    append(g, id);
    g->r.forced_tokens += forced;
    TRY(tell_language(g, id, why));
    if (g->inside && g->n_closing > 0 && g->r.reasoning_tokens >= g->o.think_budget && !ended(g))
        TRY(close_thinking(g, why));
    g->done = ended(g);
    if (g->text.err != SLM_OK)
        return fail_nomem(why, "the text of a token", g->text.cap);
    return SLM_OK;
}

/* One id from one row, and those that have to follow it. */
static slm_err choose(struct generation *g, const float *logits, slm_why *why) {
    struct sequence *q = g->q;
    int32_t id = language_forced(&g->lang);
    bool forced = id >= 0;
    if (!forced) {
        const uint32_t *mask;
        TRY(ask_language(g, &mask, why));
        TRY(sampler_pick(q->sampler, logits, mask, &id, why));
    }
    bool stop = !forced && !g->o.ignore_stop_ids && is_stop(q->runner->engine, id);
    show(g, logits, id, stop, forced);
    if (stop) {
        g->r.finish = SLM_FINISH_STOP;
        g->done = true;
        return SLM_OK;
    }
    TRY(take_id(g, id, forced, why));
    while (!g->done && forces(g) && (id = language_forced(&g->lang)) >= 0)
        TRY(take_id(g, id, true, why));
    return SLM_OK;
}

/* ------------------------------------------------------------------ guesses */

static uint32_t least(uint32_t a, size_t b) {
    return a < b ? a : (uint32_t)b;
}

/* A guess that is accepted is a token like any other, so guesses end where the answer would have to,
 * and where the rope factors would change. */
static uint32_t room(const struct generation *g, uint32_t most) {
    const struct sequence *q = g->q;
    const struct runner *r = q->runner;
    const struct model *m = &r->engine->facts.m;
    most = least(most, r->shape.guesses);
    most = least(most, r->shape.context - q->n);
    if (g->o.max_tokens > 0)
        most = least(most, g->o.max_tokens - g->r.output_tokens - 1);
    if (m->rope.kind == ROPE_LONG && !q->long_rope)
        most = least(most, m->rope.original_context - q->n);
    return most;
}

uint32_t generation_guess(struct generation *g, uint32_t most) {
    struct sequence *q = g->q;
    uint32_t vocab = q->runner->engine->facts.m.vocab, n = 0;
    q->n_guess = 0;
    if (g->done || sequence_pending(q) != 1)
        return 0;
    if (!g->o.no_forcing)
        g->n_ahead = q->n_guess = language_ahead(&g->lang, q->guess, room(g, most));
    if (g->n_ahead > 0 || !g->speculates)
        return q->n_guess;
    uint32_t got = drafter_guess(q->drafter, q->ids, (uint32_t)q->n, room(g, most), q->guess);
    while (n < got && q->guess[n] >= 0 && (uint32_t)q->guess[n] < vocab)
        n++;
    q->n_guess = n;
    return n;
}

slm_err generation_take(struct generation *g, uint64_t pass_ns, slm_why *why) {
    struct sequence *q = g->q;
    size_t vocab = q->runner->engine->facts.m.vocab;
    uint32_t guesses = q->n_guess, right = 0, row = 0, held = kv_length(q->kv) - guesses;
    const float *rows = guesses > 0 ? q->rows : q->logits;
    slm_err err;
    for (q->n_guess = 0;; row++) {
        size_t n = q->n;
        q->logits = rows + row * vocab;
        err = choose(g, q->logits, why);
        uint32_t hits = 0, taken = (uint32_t)(q->n - n);
        while (hits < taken && right < guesses && q->ids[n + hits] == q->guess[right]) {
            hits++;
            right++;
        }
        if (err != SLM_OK || g->done || hits == 0)
            break;
        row += hits - 1; /* several at once: those that had to come after the one that was chosen */
        if (hits < taken) {
            row++;
            break;
        }
    }
    q->logits = rows + row * vocab;
    /* possible: no page that `held` needs was let go for the pass */
    kv_truncate(q->kv, held + row);
    sequence_keep_pages(q);
    if (g->n_ahead > 0) { /* no guesses: they had to be right */
        g->n_ahead = 0;
        return err;
    }
    g->r.guessed_tokens += guesses;
    g->r.accepted_tokens += right;
    if (g->speculates && pass_ns > 0)
        drafter_learn(q->drafter, 1 + guesses, right, pass_ns);
    return err;
}

void generation_refuse(struct generation *g) {
    g->refused = true;
    g->done = ended(g);
}

/* ------------------------------------------------------------------ begin and end */

slm_generate_options slm_generate_default(void) {
    return (slm_generate_options){ .size = sizeof(slm_generate_options),
                                   .sampling = slm_sampling_default(),
                                   .default_sampling = true,
                                   .split_thinking = true,
                                   .render = slm_render_default() };
}

/* What the prompt says of its answer. */
slm_err generation_settle(slm_generate_options *o, slm_why *why) {
    if (o->prompt == NULL)
        return SLM_OK;
    if (o->constraint != NULL && (o->prompt->format != NULL || o->prompt->must_call))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "the prompt says itself what the answer has to be: no constraint beside it");
    o->in_thinking = o->prompt->in_thinking;
    o->no_think = o->no_think || o->prompt->no_think;
    return SLM_OK;
}

slm_err generation_options(slm_generate_options *o, const slm_generate_options *given,
                           slm_why *why) {
    *o = slm_generate_default();
    TRY(options_copy(o, sizeof *o, given, why));
    return generation_settle(o, why);
}

static slm_err check_stops(const slm_generate_options *o, slm_why *why) {
    if (o->top > SLM_TOP_MOST)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the %u most likely ids, at most %d", o->top,
                    SLM_TOP_MOST);
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

static slm_err start_sampler(struct generation *g, slm_why *why) {
    const slm_engine *e = g->q->runner->engine;
    slm_sampling sampling = g->o.sampling;
    if (g->o.default_sampling) {
        sampling = g->o.no_think ? e->sampling_no_think : e->sampling;
        sampling.seed = g->o.sampling.seed;
        sampling.bias = g->o.sampling.bias;
        sampling.n_bias = g->o.sampling.n_bias;
    }
    g->r.sampling = sampling;
    return sampler_begin(g->q->sampler, &sampling, g->q->ids, g->q->n, why);
}

/* Where calls are told apart, a parser of calls; their control tokens are text in any case. */
static slm_err start_parser(struct generation *g, slm_why *why) {
    const slm_engine *e = g->q->runner->engine;
    const slm_prompt *p = g->o.prompt;
    bool thinks = g->o.split_thinking && e->think_open >= 0;
    think_parser_init(&g->think, THINK_OPEN, THINK_CLOSE, g->o.in_thinking, on_part, g);
    g->marks[0] = g->marks[1] = -1;
    if (p == NULL || p->dialect == CALLS_NONE)
        return SLM_OK;
    const char *open = dialect_open(p->dialect), *close = dialect_close(p->dialect);
    if (open != NULL)
        g->marks[0] = token_id_of(e->tokenizer, open, strlen(open));
    if (close != NULL)
        g->marks[1] = token_id_of(e->tokenizer, close, strlen(close));
    if (g->o.on_call == NULL)
        return SLM_OK;
    const struct answer_setup setup = { .dialect = p->dialect,
                                        .tools = p->tools,
                                        .open = thinks ? THINK_OPEN : NULL,
                                        .close = thinks ? THINK_CLOSE : NULL,
                                        .starts_inside = g->o.in_thinking };
    const struct answer_events events = { on_part, on_answer_call, g };
    return answer_parser_new(&e->hooks, &setup, &events, &g->parser, why);
}

static slm_err start_language(struct generation *g, slm_why *why) {
    const slm_engine *e = g->q->runner->engine;
    const slm_prompt *p = g->o.prompt;
    const slm_constraint *c = g->o.constraint;
    const struct language_setup setup = {
        .format = c != NULL   ? c->grammar
                  : p != NULL ? p->format
                              : NULL,
        .calls = p != NULL ? p->calls : NULL,
        .must_call = p != NULL && p->must_call,
        .dialect = p != NULL ? p->dialect : CALLS_NONE,
        .inside = g->o.in_thinking,
        .may_think = p != NULL ? p->thinks : g->o.split_thinking && !g->o.no_think,
        .ignore_stop = g->o.ignore_stop_ids,
    };
    return language_begin(&g->lang, e, &setup, why);
}

static slm_err start_closing(struct generation *g, slm_why *why) {
    static const char close[] = "\n" THINK_CLOSE "\n\n";
    const slm_engine *e = g->q->runner->engine;
    struct token_piece piece = { close, sizeof close - 1, false };
    if (g->o.think_budget == 0 || e->think_close < 0)
        return SLM_OK;
    return tokenizer_encode(e->tokenizer, &piece, 1, 0, &g->closing, &g->n_closing, why);
}

slm_err generation_begin(struct generation *g, struct sequence *q, const slm_generate_options *o,
                         slm_why *why) {
    const slm_engine *e = q->runner->engine;
    *g = (struct generation){ .q = q, .o = *o, .r = { .size = sizeof g->r } };
    buf_init(&g->text, &q->runner->hooks, (size_t)1 << 20);
    TRY(check_stops(o, why));
    TRY(start_sampler(g, why));
    g->speculates = q->drafter != NULL && o->speculate != SLM_SPECULATE_OFF;
    if (g->speculates)
        drafter_reset(q->drafter);
    g->stopper.stop = o->stop;
    g->stopper.n_stop = o->n_stop;
    g->inside = o->in_thinking;
    buf_printf(&g->text, "%*s", TEXT_ROOM, ""); /* reserve */
    if (e->tokenizer != NULL)
        token_decoder_init(&g->decoder, e->tokenizer, true);
    TRY(start_parser(g, why));
    TRY(start_language(g, why));
    TRY(start_closing(g, why));
    if (o->on_choice != NULL && o->top > 0) {
        g->top = mem_alloc(&q->runner->hooks, o->top, sizeof *g->top);
        if (g->top == NULL)
            return fail_nomem(why, "likely ids", o->top * sizeof *g->top);
    }
    if (g->text.err != SLM_OK)
        return fail_nomem(why, "text", TEXT_ROOM);
    g->done = ended(g);
    return SLM_OK;
}

slm_err generation_end(struct generation *g, bool begun, slm_why *why) {
    const struct slm_hooks *h = &g->q->runner->hooks;
    slm_err err = SLM_OK;
    if (begun) {
        err = finish_text(g, why);
        sequence_keep(g->q);
        sequence_save(g->q);
    }
    g->r.disk_tokens = g->q->note.from_disk;
    if (g->q->note.miss != PREFIX_NO_MISS)
        g->r.cache_miss = prefix_miss_text(g->q->note.miss);
    g->r.reevaluated_tokens = g->q->reevaluated;
    buf_free(&g->text);
    answer_parser_free(g->parser);
    language_end(&g->lang);
    mem_free(h, g->top);
    mem_free(h, g->closing);
    g->parser = NULL;
    g->top = NULL;
    g->closing = NULL;
    return err;
}
