/* generation.c - what happens to a row of logits. The file to read to see how the parts meet:
 *
 *   logits -> sampler (one id) -> stop ids? -> streaming decoder (whole characters) -> thinking
 *   parser (reasoning | answer) -> stop strings -> the caller; the id is pending then, and whoever
 *   drives the generation evaluates it: logits ...
 *
 * Nothing is allocated per token: buffers are made when the generation begins. */
#include <string.h>

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

static void text_out(struct generation *g, const char *text, size_t n) {
    if (g->o.split_thinking && g->q->runner->engine->think_open >= 0)
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
    } else {
        token_decoder_put(&g->decoder, id, &g->text);
    }
    if (g->text.len > 0)
        text_out(g, g->text.data, g->text.len);
}

static void finish_text(struct generation *g) {
    g->text.len = 0;
    if (g->q->runner->engine->tokenizer != NULL && !g->stopper.found) {
        token_decoder_end(&g->decoder, &g->text);
        if (g->text.len > 0)
            text_out(g, g->text.data, g->text.len);
    }
    if (g->o.split_thinking && g->q->runner->engine->think_open >= 0)
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
    } else if (g->o.max_tokens > 0 && g->r.output_tokens >= g->o.max_tokens) {
        g->r.finish = SLM_FINISH_LENGTH;
    } else if (q->n == q->runner->shape.context) {
        g->r.finish = SLM_FINISH_CONTEXT;
    } else {
        return false;
    }
    return true;
}

/* Closes the thinking block for the model, as far as the generation goes on. */
static void close_thinking(struct generation *g) {
    g->r.think_closed = true;
    for (size_t i = 0; i < g->n_closing; i++) {
        accept(g, g->closing[i]);
        if (ended(g))
            return;
    }
    g->cut_short = true;
}

/* One id from one row. */
static slm_err choose(struct generation *g, const float *logits, slm_why *why) {
    struct sequence *q = g->q;
    int32_t id;
    TRY(sampler_pick(q->sampler, logits, NULL, &id, why));
    if (g->o.on_token != NULL &&
        !g->o.on_token(g->o.user, id, sampler_logprob(q->sampler, logits, id)))
        g->refused = true;
    if (is_stop(q->runner->engine, id) && !g->o.ignore_stop_ids) {
        g->r.finish = SLM_FINISH_STOP;
        g->done = true;
        return SLM_OK;
    }
    accept(g, id);
    if (g->text.err == SLM_OK && g->inside && g->n_closing > 0 &&
        g->r.reasoning_tokens >= g->o.think_budget && !ended(g))
        close_thinking(g);
    g->done = ended(g);
    if (g->text.err != SLM_OK)
        return fail_nomem(why, "the text of a token", g->text.cap);
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
    if (!g->speculates || g->done || sequence_pending(q) != 1)
        return 0;
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
        bool hit = right < guesses && q->n > n && q->ids[n] == q->guess[right];
        right += hit;
        if (err != SLM_OK || g->done || !hit || q->n != n + 1)
            break;
    }
    /* possible: no page that `held` needs was let go for the pass */
    kv_truncate(q->kv, held + row);
    sequence_keep_pages(q);
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

slm_err generation_options(slm_generate_options *o, const slm_generate_options *given,
                           slm_why *why) {
    *o = slm_generate_default();
    return options_copy(o, sizeof *o, given, why);
}

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
    think_parser_init(&g->think, THINK_OPEN, THINK_CLOSE, o->in_thinking, on_part, g);
    if (o->think_budget > 0 && e->think_close >= 0) {
        static const char close[] = "\n" THINK_CLOSE "\n\n";
        struct token_piece piece = { close, sizeof close - 1, false };
        TRY(tokenizer_encode(e->tokenizer, &piece, 1, 0, &g->closing, &g->n_closing, why));
    }
    if (g->text.err != SLM_OK)
        return fail_nomem(why, "text", TEXT_ROOM);
    g->done = ended(g);
    return SLM_OK;
}

void generation_end(struct generation *g, bool begun) {
    if (begun) {
        finish_text(g);
        sequence_keep(g->q);
        sequence_save(g->q);
    }
    g->r.disk_tokens = g->q->note.from_disk;
    if (g->q->note.miss != PREFIX_NO_MISS)
        g->r.cache_miss = prefix_miss_text(g->q->note.miss);
    g->r.reevaluated_tokens = g->q->reevaluated;
    buf_free(&g->text);
    mem_free(&g->q->runner->hooks, g->closing);
    g->closing = NULL;
}
