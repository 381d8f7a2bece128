/* cmd_bench.h - what the files of `slm bench` share: what is measured, what came out, the limits.
 *
 *   cmd_bench.c          options, the matrix of depths and batches, what is left out and why
 *   cmd_bench_measure.c  rounds of one sequence: prefill and decode at a depth, in turns with the peer
 *   cmd_bench_batch.c    rounds of several sequences in one pass
 *   cmd_bench_limits.c   the machine's limits, and what they allow for a cell
 *   cmd_bench_peer.c     another program's bench on the same file
 *   cmd_bench_print.c    the table      cmd_bench_export.c  JSON and CSV
 *   cmd_bench_machine.c  `slm bench --machine`
 *   cmd_bench_schema.c   `slm bench MODEL --schema FILE` */
#ifndef SLM_CLI_CMD_BENCH_H
#define SLM_CLI_CMD_BENCH_H

#include "cli/child.h"
#include "cli/cli.h"

#define BENCH_LIST 16 /* most depths, and most batches */

enum bench_kind { BENCH_PREFILL, BENCH_DECODE, BENCH_KINDS };

struct samples {
    double *rate; /* [n] tokens per second, of all sequences together */
    size_t n;
    double median, low, high;
};

/* What else ran, or how fast the machine was, around each kept round. */
struct weather {
    double *read, *multiply; /* [n] the lower of the pulses around it: GB/s, Top/s */
    size_t n;
    uint32_t repeated;  /* rounds that were thrown away because the machine was slow */
    uint32_t disturbed; /* rounds that were kept although it was */
};

enum { FLASH_OFF, FLASH_ON, FLASH_SETTINGS };

/* The peer's side of a cell. */
struct peer_side {
    struct samples setting[FLASH_SETTINGS];
    unsigned best;                       /* setting with the higher median */
    double ratio, ratio_low, ratio_high; /* ours / peer: of the medians, and of single rounds */
};

struct cell {
    enum bench_kind kind;
    uint32_t depth, batch, tokens; /* tokens per round of one sequence */
    double at;                     /* mean of the depths at which the rounds began */
    struct samples ours;
    struct weather weather;
    slm_cost cost;     /* at the middle of a round */
    double limit;      /* tokens per second at the machine's limit, 0 unknown */
    const char *bound; /* "read" or "multiply": which limit */
    bool has_peer;
    struct peer_side peer;
};

struct left_out {
    const char *kind; /* "decode", "all", "peer" */
    uint32_t depth, batch;
    char why[320];
};

struct bench {
    struct cli *c;
    struct loaded m;
    uint32_t prompt, output, rounds;
    uint32_t depths[BENCH_LIST], batches[BENCH_LIST];
    size_t n_depths, n_batches;
    bool listed; /* several cells were asked for: one that cannot be is left out, not an error */
    slm_session_options session; /* as the command line has them */
    slm_machine machine;         /* the best it has shown */
    int32_t *ids;                /* [n_ids] random tokens */
    size_t n_ids;
    struct cell *cells; /* [n_cells] in the order of measuring */
    size_t n_cells;
    struct left_out *out; /* [n_out] */
    size_t n_out;
    char **peer; /* words of --peer, NULL none */
    size_t n_peer;
    char peer_build[64]; /* what the peer calls itself, "" unknown */
    struct progress progress;
    uint64_t done, total; /* rounds, for the progress line */
};

/* ---- cmd_bench.c ---- */
struct cell *bench_cell(struct bench *b, enum bench_kind kind, uint32_t depth, uint32_t batch);
void bench_leave_out(struct bench *b, const char *kind, uint32_t depth, uint32_t batch,
                     const char *format, ...) ATTR_PRINTF(5, 6);
/* Room for one more sample, and its value. */
void samples_add(struct samples *s, double rate);
void samples_summarise(struct samples *s);
void samples_free(struct samples *s);

/* ---- cmd_bench_measure.c ---- */
/* Random ids, at least n of them: ids [0, n) stay what they were. */
void bench_ids(struct bench *b, size_t n);
/* All rounds of one sequence at a depth. Reports what goes wrong. Exit code. */
int bench_single(struct bench *b, uint32_t depth);
/* Pulses before and after each round. */
struct pulses {
    double read, multiply; /* the lowest since pulses_begin */
};
slm_err pulses_begin(struct bench *b, struct pulses *p, slm_why *why);
slm_err pulses_take(struct bench *b, struct pulses *p, slm_why *why);
/* Whether a round with such pulses should be repeated; counts it in w. */
bool pulses_low(const struct bench *b, const struct pulses *p);
void weather_add(struct weather *w, const struct pulses *p);

/* ---- cmd_bench_batch.c ---- */
/* All rounds of several sequences that decode together. Exit code. */
int bench_batch(struct bench *b, uint32_t depth, uint32_t batch);

/* ---- cmd_bench_limits.c ---- */
/* Measures the machine and keeps the better of that and what is known. */
slm_err limits_measure(struct bench *b, slm_why *why);
/* Limit, bound and cost of every cell; how many of its rounds were disturbed. */
void limits_set(struct bench *b);
double cell_share(const struct cell *cell);
/* 10^12 operations per second of the instruction set and unit that the model uses. */
double limits_multiply(const struct bench *b, const char *unit);
/* The way to read that was the fastest, NULL if none. */
const struct slm_read_rate *limits_best_read(const slm_machine *m);

/* ---- cmd_bench_peer.c ---- */
/* One round of the peer: tokens per second by setting and kind. EXIT_DONE, EXIT_INTERRUPTED, or
 * another code with the reason in why[size]. */
int peer_round(struct bench *b, uint32_t depth, double rate[FLASH_SETTINGS][BENCH_KINDS], char *why,
               size_t size);
void peer_summarise(struct cell *cell);

/* ---- cmd_bench_print.c, cmd_bench_export.c, cmd_bench_machine.c ---- */
void bench_print_table(struct bench *b);
void bench_print_json(struct bench *b);
void bench_print_csv(struct bench *b);
int bench_machine(struct cli *c);
int bench_schema(struct cli *c);
json_t *machine_json(const slm_machine *m);

#endif
