/* batch.c - many sequences that share one runner: who gets which rows of a pass.
 *
 * A step: requests that were cancelled end; each that has one pending id gets its row (it writes, and
 * is never made to wait); the rows that are left go to those with more pending, in equal shares,
 * beginning with another place each time; the pass runs; each whose ids are all evaluated chooses its
 * next one. Whether a sequence reads its prompt, goes on after a rope switch or writes is not a state
 * but follows from how much of it is pending. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "session/image.h"
#include "session/generation.h"
#include "session/states.h"

/* One request and its sequence. */
struct place {
    struct sequence q;
    struct generation g;
    _Atomic uint64_t id;     /* of the request; 0: the place is free */
    _Atomic uint64_t cancel; /* the request that is to end; an old id means nothing */
    uint32_t rows;           /* in the pass at hand */
    uint32_t from;           /* their first position */
    uint32_t row_limit;      /* of its rows while each of them gives logits */
    bool prompted;           /* the prompt is evaluated */
    size_t n_prompt, reused;
    uint64_t added_ns, prompted_ns;
    struct slm_likely top[SLM_TOP_MOST]; /* of an id of the prompt */
    double *sum; /* [hidden] of the prompt's states so far; owned, NULL: not wanted */
    slm_request
        asked; /* callbacks and what is wanted; its ids and options are not looked at again */
};

struct slm_batch {
    const slm_engine *engine;
    struct runner runner;
    struct place *places; /* [n_places] */
    uint32_t n_places;
    uint32_t first; /* place whose prompt is served first in the next pass */
    uint64_t last_id;
    atomic_bool stop; /* everything that runs is to end */
    bool stepping, closing;
};

static bool is_free(struct place *p) {
    return atomic_load_explicit(&p->id, memory_order_relaxed) == 0;
}

static size_t running(slm_batch *b) {
    size_t n = 0;
    for (uint32_t i = 0; i < b->n_places; i++)
        n += !is_free(&b->places[i]);
    return n;
}

/* ------------------------------------------------------------------ the end of a request */

/* Frees the place, then tells the caller, who may fill it again at once. */
static void finish(struct place *p, slm_err err, const slm_why *why) {
    const slm_request asked = p->asked;
    uint64_t id = atomic_load(&p->id);
    slm_why own;
    slm_err end = generation_end(&p->g, true, &own);
    if (err == SLM_OK && end != SLM_OK) {
        err = end;
        why = &own;
    }
    slm_result r = p->g.r;
    uint64_t now = clock_ns(), prompted = p->prompted ? p->prompted_ns : now;
    r.prompt_tokens = p->n_prompt;
    r.reused_tokens = p->reused;
    r.prefill_ns = prompted - p->added_ns;
    r.decode_ns = now - prompted;
    mem_free(&p->q.runner->hooks, p->sum);
    p->sum = NULL;
    sequence_clear(&p->q);
    p->rows = 0;
    atomic_store(&p->id, 0);
    if (asked.on_done != NULL)
        asked.on_done(asked.user, id, &r, err, err != SLM_OK ? why : NULL);
}

static void finish_cancelled(struct place *p) {
    slm_why why;
    generation_refuse(&p->g);
    if (p->prompted)
        finish(p, SLM_OK, NULL);
    else
        finish(p,
               fail(&why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled after %u of %zu tokens",
                    kv_length(p->q.kv), p->n_prompt),
               &why);
}

/* While a prompt is read its caller is asked before every pass. */
static bool goes_on(struct place *p) {
    const slm_generate_options *o = &p->g.o;
    return p->prompted || o->on_prefill == NULL ||
           o->on_prefill(o->user, kv_length(p->q.kv) - p->reused, p->n_prompt - p->reused);
}

/* Ends what was cancelled. Requests that come in meanwhile are not looked at. */
static void end_cancelled(slm_batch *b) {
    uint64_t newest = b->last_id;
    bool all = atomic_exchange(&b->stop, false);
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        uint64_t id = atomic_load(&p->id);
        if (id == 0 || id > newest)
            continue;
        if (all || atomic_load(&p->cancel) == id || !goes_on(p))
            finish_cancelled(p);
    }
}

/* A step leaves nobody who is done; only one added with a full context is so before its first pass,
 * and reads its prompt all the same. */
static void end_done(slm_batch *b) {
    uint64_t newest = b->last_id;
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        if (!is_free(p) && p->prompted && p->g.done && atomic_load(&p->id) <= newest)
            finish(p, SLM_OK, NULL);
    }
}

/* ------------------------------------------------------------------ one pass */

/* Whether each row of the place's prompt gives logits. */
static bool shows_prompt(const struct place *p) {
    return !p->prompted && p->asked.on_prompt != NULL;
}

/* Most rows that a sequence can use now. */
static uint32_t wanted(const slm_batch *b, const struct place *p) {
    size_t pending = sequence_pending(&p->q);
    uint32_t most = shows_prompt(p) ? p->row_limit : b->runner.shape.chunk;
    return pending < most ? (uint32_t)pending : most;
}

/* Rows of logits are fewer than rows: each place has one, those whose prompt is shown share the rest. */
static void share_logits(slm_batch *b) {
    uint32_t left = b->runner.shape.kept, shown = 0;
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        left -= !is_free(p);
        shown += !is_free(p) && shows_prompt(p);
    }
    for (uint32_t i = 0; i < b->n_places && shown > 0; i++)
        b->places[i].row_limit =
            1 + left / shown < b->runner.shape.chunk ? 1 + left / shown : b->runner.shape.chunk;
}

/* Rows of the image that a place reads next; 0: it reads something else. */
static uint32_t next_image(const slm_batch *b, const struct place *p) {
    uint32_t tokens, at = kv_length(p->q.kv);
    slm_image_side(b->engine, &tokens);
    return at < p->q.n && image_is_id(b->engine, p->q.ids[at]) ? tokens : 0;
}

/* An image is read whole: of the places that come to one, the first gets its rows before the rest is
 * shared, and the others wait for another pass, in which another is the first. There is room: rows are
 * the chunk and one for each place (runner_shape_of). Returns how many rows are left. */
static uint32_t serve_image(slm_batch *b, uint32_t left) {
    bool served = false;
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[(b->first + i) % b->n_places];
        uint32_t rows = is_free(p) ? 0 : next_image(b, p);
        if (rows == 0)
            continue;
        bool now = !served && rows <= left + 1;
        left = left + 1 - (now ? rows : 0);
        p->rows = now ? rows : 0;
        served = served || now;
    }
    return left;
}

/* Nobody's rows may end inside an image. */
static void trim_to_whole(slm_batch *b) {
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        uint32_t held = kv_length(p->q.kv);
        if (p->rows > 0)
            p->rows = sequence_whole(&p->q, held + p->rows) - held;
    }
}

/* Shares `left` rows among the places that want more than they have. */
static void share(slm_batch *b, uint32_t left) {
    for (uint32_t hungry = 1; left > 0 && hungry > 0;) {
        hungry = 0;
        for (uint32_t i = 0; i < b->n_places; i++)
            hungry += b->places[i].rows > 0 && b->places[i].rows < wanted(b, &b->places[i]);
        for (uint32_t i = 0, to_serve = hungry; to_serve > 0 && left > 0; i++) {
            struct place *p = &b->places[(b->first + i) % b->n_places];
            if (p->rows == 0 || p->rows >= wanted(b, p))
                continue;
            uint32_t more = wanted(b, p) - p->rows, part = (left + to_serve - 1) / to_serve;
            p->rows += more < part ? more : part;
            left -= more < part ? more : part;
            to_serve--;
        }
    }
    b->first = (b->first + 1) % b->n_places;
}

/* Rows of every place. shape.rows is at least the number of places, so each gets one at least, but for
 * those that wait to read an image. */
static void lay_out(slm_batch *b) {
    uint32_t left = b->runner.shape.rows;
    share_logits(b);
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        p->rows = 0;
        if (is_free(p))
            continue;
        sequence_choose_rope(&p->q, p->q.n);
        p->rows = 1;
        left--;
    }
    share(b, b->engine->images != NULL ? serve_image(b, left) : left);
    if (b->engine->images != NULL)
        trim_to_whole(b);
}

/* When nobody reads a prompt and so few write that a pass stays small, each guesses what comes next.
 * Returns whether the pass is for writing alone. */
static bool guess(slm_batch *b) {
    uint32_t most = b->runner.shape.guesses + 1, writers = 0;
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        p->q.n_guess = 0;
        if (p->rows > 0 && sequence_pending(&p->q) > 1)
            writers = UINT32_MAX;
        else if (p->rows > 0 && writers < UINT32_MAX)
            writers++;
    }
    for (uint32_t i = 0; i < b->n_places && most / writers > 1; i++)
        if (b->places[i].rows > 0 && b->places[i].prompted)
            generation_guess(&b->places[i].g, most / writers - 1);
    return writers < UINT32_MAX;
}

static void put(struct place *p) {
    bool whole = p->rows == sequence_pending(&p->q);
    p->from = kv_length(p->q.kv);
    runner_add(p->q.runner, &p->q, p->rows,
               p->q.n_guess > 0 || shows_prompt(p) ? LOGITS_ALL
               : whole                             ? LOGITS_LAST
                                                   : LOGITS_NONE);
}

/* ------------------------------------------------------------------ what is asked of a prompt */

/* Shows one id of the prompt; logits: of the row before it, NULL for the first. */
static void show_prompt(struct place *p, size_t position, const float *logits) {
    struct generation *g = &p->g;
    slm_choice c = { .size = sizeof c,
                     .id = p->q.ids[position],
                     .logprob = NAN,
                     .position = position,
                     .part = SLM_PART_ANSWER };
    if (g->refused)
        return;
    if (logits != NULL) {
        c.top = p->top;
        c.n_top = p->asked.prompt_top;
        c.logprob = sampler_likely(p->q.sampler, logits, c.id, p->top, &c.n_top);
    }
    if (!p->asked.on_prompt(p->asked.user, &c))
        g->refused = true;
}

/* Rows of the prompt, of positions [p->from, p->from + n), have been evaluated. */
static void read_prompt(struct place *p, uint32_t n) {
    size_t vocab = p->q.runner->engine->facts.m.vocab;
    if (p->sum != NULL)
        states_add(p->sum, p->q.states, n, p->q.runner->engine->facts.m.hidden);
    if (p->asked.on_prompt == NULL)
        return;
    if (p->from == 0)
        show_prompt(p, 0, NULL);
    for (size_t i = 0; i < n && p->from + i + 1 < p->n_prompt; i++)
        show_prompt(p, p->from + i + 1, p->q.rows + i * vocab);
}

static void end_prompt(struct place *p) {
    const slm_generate_options *o = &p->g.o;
    p->prompted = true;
    sequence_keep_prompt(&p->q);
    p->prompted_ns = clock_ns();
    if (p->sum != NULL)
        states_mean(p->sum, p->n_prompt, p->q.runner->engine->facts.m.hidden, p->asked.mean_hidden);
    if (o->on_prefill != NULL)
        o->on_prefill(o->user, p->n_prompt - p->reused, p->n_prompt - p->reused);
}

/* The rows of a place have been evaluated. */
static void advance(struct place *p, uint64_t pass_ns) {
    uint32_t rows = p->rows;
    slm_why why;
    p->rows = 0;
    if (!p->prompted)
        read_prompt(p, rows);
    if (sequence_pending(&p->q) > 0) {
        sequence_keep_pages(&p->q);
        if (p->g.refused)
            finish_cancelled(p);
        return;
    }
    if (!p->prompted)
        end_prompt(p);
    if (p->g.refused) {
        finish_cancelled(p);
        return;
    }
    slm_err err = p->g.done ? SLM_OK : generation_take(&p->g, pass_ns, &why);
    if (err != SLM_OK)
        finish(p, err, &why);
}

/* A pass broke: each sequence has one of its own, so that only the one at fault ends. */
static void pass_each(slm_batch *b) {
    for (uint32_t i = 0; i < b->n_places; i++) {
        struct place *p = &b->places[i];
        slm_why why;
        if (p->rows == 0)
            continue;
        runner_begin(&b->runner);
        p->q.n_guess = 0; /* a guess may be what broke it */
        put(p);
        slm_err err = runner_run(&b->runner, &why);
        if (err == SLM_OK)
            advance(p, 0);
        else if (err != SLM_E_CANCELLED)
            finish(p, err, &why);
    }
}

static void pass(slm_batch *b) {
    if (running(b) == 0)
        return;
    bool writes = guess(b);
    runner_begin(&b->runner);
    for (uint32_t i = 0; i < b->n_places; i++)
        if (b->places[i].rows > 0)
            put(&b->places[i]);
    slm_err err = runner_run(&b->runner, NULL);
    if (err == SLM_E_CANCELLED)
        return; /* end_cancelled ends them all */
    if (err != SLM_OK) {
        pass_each(b);
        return;
    }
    for (uint32_t i = 0; i < b->n_places; i++)
        if (b->places[i].rows > 0)
            advance(&b->places[i], writes ? b->runner.pass_ns : 0);
}

/* ------------------------------------------------------------------ public */

slm_err slm_batch_open(const slm_engine *e, const slm_session_options *options, slm_batch **out,
                       slm_why *why) {
    slm_session_options asked = slm_session_default(), o;
    *out = NULL;
    TRY(options_copy(&asked, sizeof asked, options, why));
    if (options == NULL && e->exact)
        asked.kv = SLM_KV_F32;
    asked.batch = true;
    TRY(session_settings(e, &asked, &o, why));
    struct runner_shape shape = runner_shape_of(&e->facts.m, &o);
    slm_batch *b = mem_zalloc(&e->hooks, 1, sizeof *b);
    if (b == NULL)
        return fail_nomem(why, "batch", sizeof *b);
    b->engine = e;
    atomic_init(&b->stop, false);
    slm_err err = runner_open(&b->runner, e, &shape, &b->stop, why);
    if (err == SLM_OK) {
        b->places = mem_zalloc(&e->hooks, shape.places, sizeof *b->places);
        if (b->places == NULL)
            err = fail_nomem(why, "batch", shape.places * sizeof *b->places);
    }
    for (; b->n_places < shape.places && err == SLM_OK; b->n_places++)
        err = sequence_open(&b->places[b->n_places].q, &b->runner, why);
    if (err != SLM_OK) {
        slm_batch_close(b);
        return err;
    }
    *out = b;
    return SLM_OK;
}

void slm_batch_close(slm_batch *b) {
    if (b == NULL)
        return;
    const slm_engine *e = b->engine;
    b->closing = true;
    atomic_store(&b->stop, true);
    end_cancelled(b);
    for (uint32_t i = 0; i < b->n_places; i++)
        sequence_close(&b->places[i].q);
    runner_close(&b->runner);
    mem_free(&e->hooks, b->places);
    mem_free(&e->hooks, b);
}

uint32_t slm_batch_context(const slm_batch *b) {
    return b->runner.shape.context;
}

static slm_err check_prompt(const slm_batch *b, const slm_request *r, slm_why *why) {
    if (b->closing)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "the batch is being closed");
    if (r->n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "an empty sequence cannot be evaluated");
    if (r->n > b->runner.shape.context)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "the prompt has %zu tokens, the context holds %u; nothing was dropped", r->n,
                    b->runner.shape.context);
    return sequence_check_ids(&b->runner, r->ids, r->n, why);
}

static struct place *free_place(slm_batch *b) {
    for (uint32_t i = 0; i < b->n_places; i++)
        if (is_free(&b->places[i]))
            return &b->places[i];
    return NULL;
}

/* What a prompt is asked for beyond its answer. */
static slm_err ask_prompt(struct place *p, const slm_request *r, slm_why *why) {
    const struct slm_hooks *h = &p->q.runner->hooks;
    size_t hidden = p->q.runner->engine->facts.m.hidden;
    if (r->prompt_top > SLM_TOP_MOST)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the %u most likely ids, at most %d",
                    r->prompt_top, SLM_TOP_MOST);
    for (size_t i = 0; r->on_prompt != NULL && i < r->n; i++)
        if (image_is_id(p->q.runner->engine, r->ids[i]))
            return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "log-probabilities of a prompt with an image (position %zu)", i);
    if (r->mean_hidden != NULL) {
        p->sum = mem_zalloc(h, hidden, sizeof *p->sum);
        if (p->sum == NULL)
            return fail_nomem(why, "mean of states", hidden * sizeof *p->sum);
        p->q.wants_states = true;
    }
    if ((r->mean_hidden != NULL || r->prompt_only) && !p->g.done) {
        p->g.done = true;
        p->g.r.finish = SLM_FINISH_LENGTH;
    }
    return SLM_OK;
}

static slm_err begin(struct place *p, const slm_request *r, const slm_generate_options *o,
                     slm_why *why) {
    TRY(generation_begin(&p->g, &p->q, o, why));
    return ask_prompt(p, r, why);
}

slm_err slm_batch_add(slm_batch *b, const slm_request *request, uint64_t *id, slm_why *why) {
    slm_request r = { .size = sizeof r };
    slm_generate_options o;
    TRY(options_copy(&r, sizeof r, request, why));
    TRY(generation_options(&o, r.options, why));
    TRY(check_prompt(b, &r, why));
    struct place *p = free_place(b);
    if (p == NULL)
        return fail(why, SLM_E_BUSY, SLM_NO_OFFSET, "all %u places of the batch are taken",
                    b->n_places);
    memcpy(p->q.ids, r.ids, r.n * sizeof *r.ids);
    p->q.n = r.n;
    slm_err err = begin(p, &r, &o, why);
    if (err != SLM_OK) {
        generation_end(&p->g, false, NULL);
        mem_free(&b->engine->hooks, p->sum);
        p->sum = NULL;
        sequence_clear(&p->q);
        return err;
    }
    sequence_choose_rope(&p->q, r.n);
    p->q.salt = r.cache_salt;
    if (r.on_prompt == NULL && r.mean_hidden == NULL)
        sequence_reuse(&p->q);
    p->reused = kv_length(p->q.kv);
    p->prompted = false;
    p->rows = 0;
    p->n_prompt = r.n;
    p->added_ns = clock_ns();
    p->asked = r;
    atomic_store(&p->id, ++b->last_id);
    if (id != NULL)
        *id = b->last_id;
    return SLM_OK;
}

size_t slm_batch_step(slm_batch *b) {
    if (!b->stepping && !b->closing) {
        b->stepping = true;
        end_cancelled(b);
        lay_out(b);
        pass(b);
        end_done(b);
        b->stepping = false;
    }
    return running(b);
}

void slm_batch_cancel(slm_batch *b, uint64_t id) {
    if (id == 0)
        atomic_store(&b->stop, true);
    for (uint32_t i = 0; id != 0 && i < b->n_places; i++)
        if (atomic_load(&b->places[i].id) == id)
            atomic_store(&b->places[i].cancel, id);
}
