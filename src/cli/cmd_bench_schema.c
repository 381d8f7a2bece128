/* cmd_bench_schema.c - `slm bench MODEL --schema FILE`: what a constraint costs and gains.
 *
 * Three ways of writing in turns, each -n tokens a round after the same short prompt: free, held to the
 * schema with one token a pass, and held with the tokens that have to come evaluated together. Answers
 * are sampled with the round's seed, so that the second and third write the same text. An answer that
 * ends early is followed by another. Guesses are off: they would gain in their own way. */
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "cli/cmd_bench.h"

enum { WAY_FREE, WAY_HELD, WAY_FORCED, WAYS };

struct held {
    struct cli *c;
    struct loaded m;
    slm_constraint *constraint;
    double compile_ms;
    int32_t *ids;
    size_t n_ids;
    uint32_t output, rounds;
    struct samples rate[WAYS];
    uint64_t mask_ns, held_ns; /* of the held way */
    size_t held_tokens, forced, forced_of;
};

static const char prompt[] = "A record as JSON:\n";

/* One answer of at most n tokens. */
static slm_err answer(struct held *h, unsigned way, uint64_t seed, uint32_t n, slm_result *r,
                      slm_why *why) {
    slm_generate_options o = slm_generate_default();
    o.default_sampling = false;
    o.sampling.temperature = 0.7f;
    o.sampling.top_p = 0.95f;
    o.sampling.seed = seed;
    o.max_tokens = n;
    o.split_thinking = false;
    o.speculate = SLM_SPECULATE_OFF;
    o.constraint = way == WAY_FREE ? NULL : h->constraint;
    o.no_forcing = way == WAY_HELD;
    o.ignore_stop_ids = way == WAY_FREE;
    slm_err err = slm_session_sync(h->m.session, h->ids, h->n_ids, NULL, why);
    return err == SLM_OK ? slm_generate(h->m.session, &o, r, why) : err;
}

static slm_err round_of(struct held *h, unsigned way, uint64_t round, slm_why *why) {
    uint64_t ns = 0;
    size_t tokens = 0;
    for (uint64_t k = 0; tokens < h->output; k++) {
        slm_result r = { .size = sizeof r };
        slm_err err =
            answer(h, way, round * 1000 + k, h->output - (uint32_t)tokens, &r, why);
        if (err == SLM_OK && (interrupted() || r.finish == SLM_FINISH_CANCELLED))
            err = SLM_E_CANCELLED;
        if (err != SLM_OK)
            return err;
        tokens += r.output_tokens > 0 ? r.output_tokens : h->output; /* an empty language */
        ns += r.decode_ns;
        if (way == WAY_HELD) {
            h->mask_ns += r.constraint_ns;
            h->held_ns += r.decode_ns;
            h->held_tokens += r.output_tokens;
        } else if (way == WAY_FORCED) {
            h->forced += r.forced_tokens;
            h->forced_of += r.output_tokens;
        }
    }
    if (round > 0) /* round 0 warms up */
        samples_add(&h->rate[way], (double)tokens * 1e9 / (double)(ns > 0 ? ns : 1));
    return SLM_OK;
}

static slm_err all_rounds(struct held *h, slm_why *why) {
    struct progress p;
    slm_err err = SLM_OK;
    progress_start(&p, &h->c->term, h->c->quiet, "bench", "rounds");
    for (uint32_t round = 0; round <= h->rounds && err == SLM_OK; round++) {
        for (unsigned way = 0; way < WAYS && err == SLM_OK; way++)
            err = round_of(h, way, round, why);
        progress_step(&p, round, h->rounds);
    }
    progress_end(&p);
    for (unsigned way = 0; way < WAYS; way++)
        samples_summarise(&h->rate[way]);
    return err;
}

/* ------------------------------------------------------------------ printing */

static double share(double part, double of) {
    return of > 0 ? part / of : 0;
}

static void print_table(const struct held *h) {
    struct output *o = &h->c->out;
    double tokens = (double)h->held_tokens;
    out_printf(o, "compiling   %10.2f ms\n", h->compile_ms);
    out_printf(o, "mask        %10.2f us/token  %5.2f %% of decoding\n",
               share((double)h->mask_ns / 1e3, tokens),
               100 * share((double)h->mask_ns, (double)h->held_ns));
    out_printf(o, "free        %10.2f tokens/s  %.2f..%.2f\n", h->rate[WAY_FREE].median,
               h->rate[WAY_FREE].low, h->rate[WAY_FREE].high);
    out_printf(o, "held        %10.2f tokens/s  %.2f..%.2f  one by one\n",
               h->rate[WAY_HELD].median, h->rate[WAY_HELD].low, h->rate[WAY_HELD].high);
    out_printf(o, "held        %10.2f tokens/s  %.2f..%.2f  forced together (%.1f %% of them)\n",
               h->rate[WAY_FORCED].median, h->rate[WAY_FORCED].low, h->rate[WAY_FORCED].high,
               100 * share((double)h->forced, (double)h->forced_of));
}

static json_t *rate_json(const struct samples *s) {
    json_t *all = keep_json(json_array());
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(all, json_real(s->rate[i]));
    return keep_json(json_pack("{s:f, s:o}", "tok_s", s->median, "samples", all));
}

static void print_json(struct held *h) {
    out_json(&h->c->out,
             keep_json(json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "model",
                                 model_title(&h->m), "isa", h->m.info.isa, "compile_ms",
                                 h->compile_ms, "mask_us",
                                 share((double)h->mask_ns / 1e3, (double)h->held_tokens),
                                 "mask_share", share((double)h->mask_ns, (double)h->held_ns),
                                 "forced_share", share((double)h->forced, (double)h->forced_of),
                                 "free", rate_json(&h->rate[WAY_FREE]), "held",
                                 rate_json(&h->rate[WAY_HELD]), "held_forced",
                                 rate_json(&h->rate[WAY_FORCED]))),
             false);
}

/* ------------------------------------------------------------------ the command */

static int open_constraint(struct held *h) {
    struct asking a;
    int code = asking_options(h->c, &h->m, &a);
    if (code == EXIT_DONE)
        code = constraint_of(h->c, &h->m, &a, &h->constraint); /* makes the vocabulary, too */
    slm_constraint_close(h->constraint);
    h->constraint = NULL;
    uint64_t start = clock_ns();
    if (code == EXIT_DONE)
        code = constraint_of(h->c, &h->m, &a, &h->constraint);
    h->compile_ms = (double)(clock_ns() - start) / 1e6;
    asking_free(&a);
    return code;
}

static int measure(struct held *h) {
    const unsigned parts = SLM_WEIGHTS | SLM_TOKENIZER;
    slm_why why;
    int code = model_open(h->c, h->c->options.args[0], parts, parts, &h->m);
    if (code == EXIT_DONE)
        code = open_constraint(h);
    if (code == EXIT_DONE)
        code = model_session(h->c, &h->m);
    if (code != EXIT_DONE)
        return code;
    signals_watch(h->m.session);
    slm_err err = slm_encode(h->m.engine, prompt, sizeof prompt - 1, SLM_ENCODE_BOS, &h->ids,
                             &h->n_ids, &why);
    if (err == SLM_OK)
        err = all_rounds(h, &why);
    signals_watch(NULL);
    slm_free(h->m.engine, h->ids);
    if (interrupted())
        return EXIT_INTERRUPTED;
    if (err != SLM_OK)
        return report_error(h->c, AT_WORK, err, &why, NULL);
    if (h->c->json)
        print_json(h);
    else
        print_table(h);
    return EXIT_DONE;
}

int bench_schema(struct cli *c) {
    struct held h = { .c = c };
    h.output = (uint32_t)opt_int(c, OPT_BENCH_OUTPUT, 128);
    h.rounds = (uint32_t)opt_int(c, OPT_BENCH_ROUNDS, 5);
    int code = measure(&h);
    slm_constraint_close(h.constraint);
    for (unsigned way = 0; way < WAYS; way++)
        samples_free(&h.rate[way]);
    model_close(&h.m);
    return code;
}
