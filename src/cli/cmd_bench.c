/* cmd_bench.c - `slm bench MODEL`: prefill and decode speed, and the share of this machine's limits.
 *
 * The matrix: for every depth, prefill of -p ids and decoding of -n ids by one sequence; for every
 * batch above one, decoding by that many sequences in one pass. A cell that the model's context or the
 * memory does not allow is left out, with the reason, unless nothing else was asked for. Medians are
 * what counts; every sample is printed with --json and --csv. */
#include "cli/cmd_bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ samples */

void samples_add(struct samples *s, double rate) {
    s->rate = keep(realloc(s->rate, (s->n + 1) * sizeof *s->rate));
    s->rate[s->n++] = rate;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void samples_summarise(struct samples *s) {
    if (s->n == 0)
        return;
    double *sorted = keep(malloc(s->n * sizeof *sorted));
    memcpy(sorted, s->rate, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, by_value);
    s->median = s->n % 2 ? sorted[s->n / 2] : (sorted[s->n / 2 - 1] + sorted[s->n / 2]) / 2;
    s->low = sorted[0];
    s->high = sorted[s->n - 1];
    free(sorted);
}

void samples_free(struct samples *s) {
    free(s->rate);
    memset(s, 0, sizeof *s);
}

/* ------------------------------------------------------------------ cells */

struct cell *bench_cell(struct bench *b, enum bench_kind kind, uint32_t depth, uint32_t batch) {
    b->cells = keep(realloc(b->cells, (b->n_cells + 1) * sizeof *b->cells));
    struct cell *cell = &b->cells[b->n_cells++];
    memset(cell, 0, sizeof *cell);
    cell->kind = kind;
    cell->depth = depth;
    cell->batch = batch;
    cell->tokens = kind == BENCH_PREFILL ? b->prompt : b->output;
    cell->bound = "";
    return cell;
}

void bench_leave_out(struct bench *b, const char *kind, uint32_t depth, uint32_t batch,
                     const char *format, ...) {
    b->out = keep(realloc(b->out, (b->n_out + 1) * sizeof *b->out));
    struct left_out *o = &b->out[b->n_out++];
    va_list list;
    va_start(list, format);
    *o = (struct left_out){ .kind = kind, .depth = depth, .batch = batch };
    vsnprintf(o->why, sizeof o->why, format, list);
    va_end(list);
}

static void cells_free(struct bench *b) {
    for (size_t i = 0; i < b->n_cells; i++) {
        struct cell *cell = &b->cells[i];
        samples_free(&cell->ours);
        free(cell->weather.read);
        free(cell->weather.multiply);
        for (int f = 0; f < FLASH_SETTINGS; f++)
            samples_free(&cell->peer.setting[f]);
    }
    free(b->cells);
    free(b->out);
    free(b->ids);
    words_free(b->peer);
}

/* ------------------------------------------------------------------ the matrix */

/* Tokens that may take this long to evaluate are not evaluated unless their depth was asked for. */
#define FILL_MOST_S 900.0

/* Seconds to bring `batch` sequences to a depth, by the latest prefill; 0 unknown. */
static double fill_seconds(const struct bench *b, uint32_t depth, uint32_t batch) {
    double rate = 0;
    for (size_t i = 0; i < b->n_cells; i++)
        if (b->cells[i].kind == BENCH_PREFILL)
            rate = b->cells[i].ours.median;
    return rate > 0 ? (double)depth * batch / rate : 0;
}

static bool too_long(struct bench *b, uint32_t depth, uint32_t batch) {
    char time[32];
    double seconds = fill_seconds(b, depth, batch);
    if (!opt_set(b->c, OPT_BENCH_FULL) || seconds < FILL_MOST_S)
        return false;
    bench_leave_out(b, batch > 1 ? "decode" : "all", depth, batch,
                    "evaluating that many tokens first would take %s; -d %u asks for it",
                    format_seconds(seconds, time, sizeof time), depth);
    return true;
}

static int bench_matrix(struct bench *b) {
    int code = EXIT_DONE;
    for (size_t d = 0; d < b->n_depths && code == EXIT_DONE; d++) {
        uint32_t depth = b->depths[d];
        if (!too_long(b, depth, 1))
            code = bench_single(b, depth);
        for (size_t i = 0; i < b->n_batches && code == EXIT_DONE; i++)
            if (b->batches[i] > 1 && !too_long(b, depth, b->batches[i]))
                code = bench_batch(b, depth, b->batches[i]);
    }
    if (code == EXIT_DONE && interrupted())
        code = EXIT_INTERRUPTED;
    if (code == EXIT_DONE && b->n_cells == 0)
        code = report(b->c, EXIT_COULD_NOT, "E_CONTEXT", "a smaller --depth, -p or -n",
                      "nothing can be measured: %s", b->n_out ? b->out[0].why : "no cells");
    return code;
}

/* ------------------------------------------------------------------ options */

static size_t list_option(struct cli *c, enum option_id id, uint32_t fallback,
                          uint32_t list[BENCH_LIST]) {
    const char *bad;
    size_t n;
    int64_t *values = opt_set(c, id) ? parse_ints(opt_text(c, id), &n, &bad) : NULL;
    list[0] = fallback;
    if (!values) /* the parser of options has refused what is none */
        return 1;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = false;
        for (size_t k = 0; k < used; k++)
            again = again || list[k] == (uint32_t)values[i];
        if (!again && used < BENCH_LIST)
            list[used++] = (uint32_t)values[i];
        else if (!again)
            used = BENCH_LIST + 1;
        if (used > BENCH_LIST)
            break;
    }
    free(values);
    return used;
}

/* Exit code. */
static int matrix_options(struct bench *b) {
    static const uint32_t full_depths[] = { 0, 4096, 16384 }, full_batches[] = { 1, 4, 16 };
    struct cli *c = b->c;
    b->n_depths = list_option(c, OPT_BENCH_DEPTH, 0, b->depths);
    b->n_batches = list_option(c, OPT_BENCH_BATCH, 1, b->batches);
    if (b->n_depths > BENCH_LIST || b->n_batches > BENCH_LIST)
        return report_usage(c, NULL, "at most %d depths and %d batches", BENCH_LIST, BENCH_LIST);
    if (opt_set(c, OPT_BENCH_FULL) && !opt_set(c, OPT_BENCH_DEPTH)) {
        b->n_depths = ARRAY_LEN(full_depths);
        memcpy(b->depths, full_depths, sizeof full_depths);
    }
    if (opt_set(c, OPT_BENCH_FULL) && !opt_set(c, OPT_BENCH_BATCH)) {
        b->n_batches = ARRAY_LEN(full_batches);
        memcpy(b->batches, full_batches, sizeof full_batches);
    }
    b->listed = b->n_depths > 1 || b->n_batches > 1;
    b->prompt = (uint32_t)opt_int(c, OPT_BENCH_PROMPT, 512);
    b->output = (uint32_t)opt_int(c, OPT_BENCH_OUTPUT, 128);
    b->rounds = (uint32_t)opt_int(c, OPT_BENCH_ROUNDS, 5);
    return EXIT_DONE;
}

static int peer_options(struct bench *b) {
    if (!opt_set(b->c, OPT_BENCH_PEER))
        return EXIT_DONE;
    /* room for the arguments of one round */
    b->peer = words_split(opt_text(b->c, OPT_BENCH_PEER), 32, &b->n_peer);
    if (b->peer == NULL || b->n_peer == 0)
        return report_usage(b->c, NULL, "--peer wants a command, not '%s'",
                            opt_text(b->c, OPT_BENCH_PEER));
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ the command */

static int bench(struct bench *b) {
    slm_why why;
    int code =
        model_open(b->c, b->c->options.args[0], SLM_WEIGHTS, SLM_WEIGHTS | SLM_TOKENIZER, &b->m);
    if (code != EXIT_DONE)
        return code;
    if (b->peer && b->m.found.path == NULL)
        return report(b->c, EXIT_USAGE, "E_USAGE", "a MODEL that is a file",
                      "--peer needs a file that both programs can read");
    b->session = session_options(b->c);
    b->machine.size = sizeof b->machine;
    slm_err err = limits_measure(b, &why);
    if (err != SLM_OK)
        return report_error(b->c, AT_WORK, err, &why, NULL);
    progress_start(&b->progress, &b->c->term, b->c->quiet, "bench", "rounds");
    b->total = (uint64_t)b->n_depths * b->n_batches * (b->rounds + 1);
    code = bench_matrix(b);
    progress_end(&b->progress);
    if (code == EXIT_DONE && (err = limits_measure(b, &why)) != SLM_OK)
        code = report_error(b->c, AT_WORK, err, &why, NULL);
    if (code != EXIT_DONE)
        return code;
    limits_set(b);
    if (b->c->json)
        bench_print_json(b);
    else if (opt_set(b->c, OPT_CSV))
        bench_print_csv(b);
    else
        bench_print_table(b);
    return EXIT_DONE;
}

int cmd_bench(struct cli *c) {
    struct bench b = { .c = c };
    if (opt_set(c, OPT_BENCH_MACHINE))
        return c->options.n_args ? report_usage(c, "slm bench --machine\nslm bench MODEL",
                                                "--machine measures no MODEL")
                                 : bench_machine(c);
    if (c->options.n_args > 0 && opt_set(c, OPT_SCHEMA))
        return bench_schema(c);
    if (c->options.n_args == 0)
        return report_usage(c, "slm bench MODEL\nslm bench --machine", "bench wants a MODEL");
    int code = matrix_options(&b);
    if (code == EXIT_DONE)
        code = peer_options(&b);
    if (code == EXIT_DONE)
        code = bench(&b);
    model_close(&b.m);
    cells_free(&b);
    return code;
}
