/* cmd_bench_print.c - the table of `slm bench`, at most 80 columns. */
#include "cli/cmd_bench.h"

static const char *kind_name(enum bench_kind kind) {
    return kind == BENCH_PREFILL ? "prefill" : "decode";
}

static void print_head(struct bench *b) {
    char cpu[128];
    const struct slm_read_rate *read = limits_best_read(&b->machine);
    const char *unit = b->cells[0].cost.multiply ? b->cells[0].cost.multiply : "f32";
    out_printf(&b->c->out, "%.42s (%.32s)\n%s, %u thread%s of %.50s\n", model_title(&b->m),
               b->m.info.types ? b->m.info.types : "", b->m.info.isa, b->machine.threads,
               b->machine.threads == 1 ? "" : "s", cpu_name(cpu, sizeof cpu));
    out_printf(&b->c->out, "limits: read %.1f GB/s", b->machine.read_gb_s);
    if (read)
        out_printf(&b->c->out, " (%u stream%s%s)", read->streams, read->streams == 1 ? "" : "s",
                   read->huge_pages ? ", huge pages" : "");
    out_printf(&b->c->out, "; %s %s %.3f Top/s\n", b->m.info.isa, unit, limits_multiply(b, unit));
    out_printf(&b->c->out, "prefill of %u, decoding of %u tokens, %u round%s\n\n", b->prompt,
               b->output, b->rounds, b->rounds == 1 ? "" : "s");
}

static void print_cells(struct bench *b) {
    bool cached = false;
    out_printf(&b->c->out, "%-8s%7s %5s %10s %9s %9s %6s %9s %7s\n", "", "depth", "batch", "tok/s",
               "low", "high", "spread", "limit", "share");
    for (size_t i = 0; i < b->n_cells; i++) {
        const struct cell *cell = &b->cells[i];
        const struct samples *s = &cell->ours;
        cached = cached || cell_share(cell) > 1.02;
        out_printf(&b->c->out, "%-8s%7u %5u %10.1f %9.1f %9.1f %5.1f%% %9.1f %6.1f%%\n",
                   kind_name(cell->kind), cell->depth, cell->batch, s->median, s->low, s->high,
                   100 * (s->high - s->low) / s->median, cell->limit, 100 * cell_share(cell));
    }
    if (cached)
        out_text(&b->c->out, "above 100 %: the weights stay in the processor's cache\n");
}

static void print_costs(struct bench *b) {
    char weights[32], kv[32], a[32], d[32];
    for (size_t i = 0; i < b->n_cells; i++) {
        const struct cell *cell = &b->cells[i];
        if (cell->kind != BENCH_DECODE || cell->batch != 1)
            continue;
        out_printf(&b->c->out, "at depth %s a token reads %s of weights, %s of keys and values\n",
                   format_count(cell->depth, a, sizeof a),
                   format_bytes(cell->cost.file_bytes, weights, sizeof weights),
                   format_bytes(cell->cost.kv_bytes, kv, sizeof kv));
        double drift = cell->at - cell->depth;
        if (drift >= 1)
            out_printf(&b->c->out, "  (the window does not let it go back: rounds began at %s)\n",
                       format_count((uint64_t)cell->at, d, sizeof d));
    }
}

static void print_weather(struct bench *b) {
    uint32_t repeated = 0, disturbed = 0;
    for (size_t i = 0; i < b->n_cells; i++) {
        if (b->cells[i].kind == BENCH_PREFILL)
            continue; /* the same rounds */
        repeated += b->cells[i].weather.repeated;
        disturbed += b->cells[i].weather.disturbed;
    }
    if (repeated)
        out_printf(&b->c->out, "%u round%s repeated: the machine was slower than at its best\n",
                   repeated, repeated == 1 ? " was" : "s were");
    if (disturbed)
        out_printf(&b->c->out, "%u round%s counted although the machine was slow\n", disturbed,
                   disturbed == 1 ? " is" : "s are");
}

static void print_peer(struct bench *b) {
    static const char *const settings[FLASH_SETTINGS] = { "off", "on" };
    bool any = false;
    for (size_t i = 0; i < b->n_cells; i++)
        any = any || b->cells[i].has_peer;
    if (!any)
        return;
    out_printf(&b->c->out, "\nin turns with the peer: %s\n",
               b->peer_build[0] ? b->peer_build : "unknown version");
    out_printf(&b->c->out, "%-8s%7s %10s %10s %6s %7s %8s %8s\n", "", "depth", "ours", "peer",
               "flash", "ratio", "low", "high");
    for (size_t i = 0; i < b->n_cells; i++) {
        const struct cell *cell = &b->cells[i];
        const struct peer_side *p = &cell->peer;
        if (cell->has_peer)
            out_printf(&b->c->out, "%-8s%7u %10.1f %10.1f %6s %7.2f %8.2f %8.2f\n",
                       kind_name(cell->kind), cell->depth, cell->ours.median,
                       p->setting[p->best].median, settings[p->best], p->ratio, p->ratio_low,
                       p->ratio_high);
    }
}

static void print_left_out(struct bench *b) {
    for (size_t i = 0; i < b->n_out; i++) {
        const struct left_out *o = &b->out[i];
        out_printf(&b->c->out, "left out: %s at depth %u, batch %u: %s\n", o->kind, o->depth,
                   o->batch, o->why);
    }
}

void bench_print_table(struct bench *b) {
    print_head(b);
    print_cells(b);
    print_costs(b);
    print_weather(b);
    print_peer(b);
    print_left_out(b);
}
