/* cmd_bench.c - `slm bench MODEL`: prefill and decode speed, and the share of this machine's limits.
 *
 * Each round: the session is brought to the depth (not timed), -p random ids are evaluated in chunks
 * (prefill), the session goes back to the depth, and -n ids are evaluated one by one, each with its
 * row of logits (decode). The first, untimed round warms up. Medians are what counts; every sample
 * is printed with --json and --csv.
 *
 * Limits, from slm_machine_get() with the same threads, the better of before and after:
 *   prefill  2 (multiply-adds of the matrices and of attention) / peak of the named multiply; the
 *            output row is computed for the last token of the prompt only
 *   decode   (bytes of the matrices as in the file + keys and values at the middle depth) / read
 *            bandwidth */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "cli/cli.h"

struct samples {
    double *rate; /* [n] tokens per second */
    size_t n;
    double median, low, high;
    double limit; /* tokens per second at the machine's limit, 0 unknown */
};

struct bench {
    struct cli *c;
    struct loaded m;
    slm_machine machine;
    slm_cost cost; /* at the middle depth of decoding */
    uint32_t depth, prompt, output, rounds;
    int32_t *ids; /* [depth + max(prompt, output)] */
    struct samples prefill, decode;
    struct progress progress;
    uint64_t done, total; /* tokens, for the progress line */
};

/* ------------------------------------------------------------------ measuring */

static uint64_t next_random(uint64_t *state) { /* xorshift64*, Vigna 2016 */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void fill_ids(struct bench *b) {
    uint32_t vocab = b->m.info.vocab_used ? b->m.info.vocab_used : b->m.info.vocab;
    uint32_t longer = b->prompt > b->output ? b->prompt : b->output;
    size_t n = (size_t)b->depth + longer;
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    b->ids = keep(malloc(n * sizeof *b->ids));
    for (size_t i = 0; i < n; i++)
        b->ids[i] = (int32_t)(next_random(&state) >> 33) % (int32_t)vocab;
}

static void stepped(struct bench *b, uint64_t tokens) {
    b->done += tokens;
    progress_step(&b->progress, b->done, b->total);
}

/* The session holds the first `depth` ids and nothing else. */
static slm_err to_depth(struct bench *b, slm_why *why) {
    slm_err err = b->depth ? slm_session_sync(b->m.session, b->ids, b->depth, NULL, why)
                           : slm_session_truncate(b->m.session, 0, why);
    return err;
}

static slm_err time_prefill(struct bench *b, double *rate, slm_why *why) {
    slm_err err = to_depth(b, why);
    uint64_t start = clock_ns();
    if (err == SLM_OK)
        err = slm_session_sync(b->m.session, b->ids, (size_t)b->depth + b->prompt, NULL, why);
    *rate = b->prompt / ((double)(clock_ns() - start) / 1e9);
    stepped(b, b->prompt);
    return err;
}

static slm_err time_decode(struct bench *b, double *rate, slm_why *why) {
    slm_err err = to_depth(b, why);
    uint64_t start = clock_ns();
    for (uint32_t i = 0; i < b->output && err == SLM_OK; i++) {
        err = slm_session_append(b->m.session, b->ids + b->depth + i, 1, false, NULL, NULL, why);
        stepped(b, 1);
        if (err == SLM_OK && interrupted())
            err = SLM_E_CANCELLED;
    }
    *rate = b->output / ((double)(clock_ns() - start) / 1e9);
    return err;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(struct samples *s) {
    double *sorted = keep(malloc(s->n * sizeof *sorted));
    memcpy(sorted, s->rate, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, by_value);
    s->median = s->n % 2 ? sorted[s->n / 2] : (sorted[s->n / 2 - 1] + sorted[s->n / 2]) / 2;
    s->low = sorted[0];
    s->high = sorted[s->n - 1];
    free(sorted);
}

static slm_err measure(struct bench *b, slm_why *why) {
    double ignored;
    slm_err err = SLM_OK;
    b->total = (uint64_t)(b->rounds + 1) * ((uint64_t)b->prompt + b->output);
    b->prefill.rate = keep(calloc(b->rounds, sizeof(double)));
    b->decode.rate = keep(calloc(b->rounds, sizeof(double)));
    progress_start(&b->progress, &b->c->term, b->c->quiet, "bench", "tokens");
    err = time_prefill(b, &ignored, why);
    if (err == SLM_OK)
        err = time_decode(b, &ignored, why);
    for (uint32_t i = 0; i < b->rounds && err == SLM_OK; i++) {
        err = time_prefill(b, &b->prefill.rate[i], why);
        if (err == SLM_OK)
            err = time_decode(b, &b->decode.rate[i], why);
        b->prefill.n = b->decode.n = i + 1;
    }
    progress_end(&b->progress);
    if (err == SLM_OK) {
        summarise(&b->prefill);
        summarise(&b->decode);
    }
    return err;
}

/* ------------------------------------------------------------------ limits */

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* What the machine can do is the best it has shown: called before and after the rounds, because
 * something else may run on it at either time. */
static slm_err best_limits(struct bench *b, unsigned threads, slm_why *why) {
    slm_machine m = { .size = sizeof m }, *best = &b->machine;
    slm_err err = slm_machine_get(SLM_MEASURE_QUICK, threads, &m, why);
    if (err != SLM_OK)
        return err;
    m.read_gb_s = larger(m.read_gb_s, best->read_gb_s);
    m.int8_tops = larger(m.int8_tops, best->int8_tops);
    m.bf16_tflops = larger(m.bf16_tflops, best->bf16_tflops);
    m.f32_tflops = larger(m.f32_tflops, best->f32_tflops);
    *best = m;
    return SLM_OK;
}

static double multiply_peak(const struct bench *b) {
    if (strcmp(b->cost.multiply, "int8") == 0)
        return b->machine.int8_tops * 1e12;
    return strcmp(b->cost.multiply, "bf16") == 0 ? b->machine.bf16_tflops * 1e12
                                                 : b->machine.f32_tflops * 1e12;
}

static void set_limits(struct bench *b, enum slm_kv kv) {
    slm_cost middle = { .size = sizeof middle };
    uint64_t row = (uint64_t)b->m.info.vocab * b->m.info.hidden;
    slm_engine_cost(b->m.engine, kv, b->depth + b->prompt / 2, &middle);
    double macs = (double)b->prompt * (double)(middle.weight_macs - row + middle.attention_macs) +
                  (double)row;
    b->prefill.limit = b->prompt * multiply_peak(b) / (2 * macs);
    slm_engine_cost(b->m.engine, kv, b->depth + b->output / 2, &b->cost);
    b->decode.limit = b->machine.read_gb_s * 1e9 / (double)(b->cost.file_bytes + b->cost.kv_bytes);
}

static double share(const struct samples *s) {
    return s->limit > 0 ? s->median / s->limit : 0;
}

/* ------------------------------------------------------------------ results */

static json_t *samples_json(const struct samples *s) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(list, json_real(s->rate[i]));
    return list;
}

static void print_json(struct bench *b) {
    char cpu[128];
    json_t *o = keep_json(json_pack("{s:s, s:s?, s:s?, s:s, s:s, s:i}", "model", model_title(&b->m),
                                    "path", b->m.found.path, "types", b->m.info.types, "cpu",
                                    cpu_name(cpu, sizeof cpu), "isa", b->m.info.isa, "threads",
                                    (int)b->machine.threads));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = { { "prompt_tokens", b->prompt },
                    { "output_tokens", b->output },
                    { "depth", b->depth },
                    { "rounds", b->rounds } };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    json_object_set_new(o, "prefill_tok_s", json_real(b->prefill.median));
    json_object_set_new(o, "decode_tok_s", json_real(b->decode.median));
    json_object_set_new(o, "prefill_share", json_real(share(&b->prefill)));
    json_object_set_new(o, "decode_share", json_real(share(&b->decode)));
    json_object_set_new(o, "prefill_limit_tok_s", json_real(b->prefill.limit));
    json_object_set_new(o, "decode_limit_tok_s", json_real(b->decode.limit));
    json_object_set_new(o, "prefill_samples", samples_json(&b->prefill));
    json_object_set_new(o, "decode_samples", samples_json(&b->decode));
    json_object_set_new(o, "limits",
                        keep_json(json_pack("{s:f, s:f, s:f, s:f, s:s}", "read_gb_s",
                                            b->machine.read_gb_s, "int8_tops", b->machine.int8_tops,
                                            "bf16_tflops", b->machine.bf16_tflops, "f32_tflops",
                                            b->machine.f32_tflops, "multiply", b->cost.multiply)));
    json_object_set_new(o, "cost",
                        keep_json(json_pack("{s:I, s:I, s:I, s:I, s:I}", "weight_bytes",
                                            (json_int_t)b->cost.weight_bytes, "file_bytes",
                                            (json_int_t)b->cost.file_bytes, "kv_bytes",
                                            (json_int_t)b->cost.kv_bytes, "weight_macs",
                                            (json_int_t)b->cost.weight_macs, "attention_macs",
                                            (json_int_t)b->cost.attention_macs)));
    out_json(&b->c->out, o, false);
}

static void csv_lines(struct bench *b, const char *kind, uint32_t tokens, const struct samples *s) {
    for (size_t i = 0; i < s->n; i++)
        out_printf(&b->c->out, "%s,%s,%u,%u,%s,%u,%zu,%.3f,%.4f\n", model_title(&b->m),
                   b->m.info.isa, b->machine.threads, b->depth, kind, tokens, i + 1, s->rate[i],
                   s->limit > 0 ? s->rate[i] / s->limit : 0);
}

static void print_csv(struct bench *b) {
    out_text(&b->c->out, "model,isa,threads,depth,kind,tokens,round,tok_s,share\n");
    csv_lines(b, "prefill", b->prompt, &b->prefill);
    csv_lines(b, "decode", b->output, &b->decode);
}

static void print_row(struct bench *b, const char *kind, uint32_t tokens, const struct samples *s) {
    out_printf(&b->c->out, "%-8s %8u %10.1f %10.1f %10.1f %6.1f %% %11.1f %6.1f %%\n", kind, tokens,
               s->median, s->low, s->high, 100 * (s->high - s->low) / s->median, s->limit,
               100 * share(s));
}

static void print_table(struct bench *b) {
    char cpu[128], weights[32], kv[32];
    out_printf(&b->c->out, "%.42s (%.32s)\n%s, %u thread%s of %.50s\n", model_title(&b->m),
               b->m.info.types ? b->m.info.types : "", b->m.info.isa, b->machine.threads,
               b->machine.threads == 1 ? "" : "s", cpu_name(cpu, sizeof cpu));
    out_printf(&b->c->out,
               "%u round%s at depth %u; a token reads %s of weights, %s of keys and values\n",
               b->rounds, b->rounds == 1 ? "" : "s", b->depth,
               format_bytes(b->cost.file_bytes, weights, sizeof weights),
               format_bytes(b->cost.kv_bytes, kv, sizeof kv));
    out_printf(&b->c->out, "%-8s %8s %10s %10s %10s %8s %11s %8s\n", "", "tokens", "tok/s", "low",
               "high", "spread", "limit tok/s", "share");
    print_row(b, "prefill", b->prompt, &b->prefill);
    print_row(b, "decode", b->output, &b->decode);
    out_printf(&b->c->out,
               "limits: read %.1f GB/s; int8 %.2f, bf16 %.2f, f32 %.2f Top/s (used: %s)\n",
               b->machine.read_gb_s, b->machine.int8_tops, b->machine.bf16_tflops,
               b->machine.f32_tflops, b->cost.multiply);
    if (share(&b->decode) > 1)
        out_text(&b->c->out, "above 100 %: the weights stay in the processor's cache\n");
}

/* ------------------------------------------------------------------ the command */

static uint32_t option(struct cli *c, enum option_id id, uint32_t fallback) {
    return (uint32_t)opt_int(c, id, fallback);
}

/* A session that holds just what is measured. Exit code. */
static int open_session(struct bench *b, slm_session_options *o) {
    uint64_t longer = b->prompt > b->output ? b->prompt : b->output, context = b->depth + longer;
    slm_why why;
    *o = session_options(b->c);
    o->context = context > UINT32_MAX ? UINT32_MAX : (uint32_t)context;
    o->max_bytes = b->m.allowed;
    slm_err err = slm_session_open(b->m.engine, o, &b->m.session, &why);
    if (err == SLM_OK)
        signals_watch(b->m.session);
    return err == SLM_OK ? EXIT_DONE
                         : report_error(b->c, AT_WORK, err, &why, "a smaller --depth, -p or -n");
}

static int bench(struct bench *b) {
    slm_session_options o;
    slm_why why;
    int code =
        model_open(b->c, b->c->options.args[0], SLM_WEIGHTS, SLM_WEIGHTS | SLM_TOKENIZER, &b->m);
    if (code == EXIT_DONE)
        code = open_session(b, &o);
    if (code != EXIT_DONE)
        return code;
    b->machine.size = sizeof b->machine;
    b->cost.size = sizeof b->cost;
    fill_ids(b);
    slm_err err = best_limits(b, o.threads, &why);
    if (err == SLM_OK)
        err = slm_engine_cost(b->m.engine, o.kv, b->depth + b->output / 2, &b->cost);
    if (err == SLM_OK)
        err = measure(b, &why);
    if (err == SLM_OK)
        err = best_limits(b, o.threads, &why);
    if (err != SLM_OK)
        return report_error(b->c, AT_WORK, err, &why, NULL);
    set_limits(b, o.kv);
    if (b->c->json)
        print_json(b);
    else if (opt_set(b->c, OPT_CSV))
        print_csv(b);
    else
        print_table(b);
    return EXIT_DONE;
}

int cmd_bench(struct cli *c) {
    struct bench b = { .c = c };
    uint32_t batch = option(c, OPT_BENCH_BATCH, 1);
    if (batch != 1)
        return report(c, EXIT_COULD_NOT, "E_UNSUPPORTED", "-b 1",
                      "-b %u: this version decodes one sequence at a time", batch);
    b.prompt = option(c, OPT_BENCH_PROMPT, 512);
    b.output = option(c, OPT_BENCH_OUTPUT, 128);
    b.depth = option(c, OPT_BENCH_DEPTH, 0);
    b.rounds = option(c, OPT_BENCH_ROUNDS, 5);
    int code = bench(&b);
    model_close(&b.m);
    free(b.prefill.rate);
    free(b.decode.rate);
    free(b.ids);
    return code;
}
