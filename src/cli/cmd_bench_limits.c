/* cmd_bench_limits.c - what the machine allows.
 *
 * prefill of p tokens from depth d:
 *   multiply  2 (p (W - V H + A) + V H) / peak     W multiply-adds of the matrices per token, V H those
 *             of the output row, which is computed for the last token only, A those of attention
 *   read      (matrices as in the file + keys and values) / bandwidth
 * decoding by b sequences, for one pass, which gives b tokens:
 *   multiply  2 b (W + A) / peak
 *   read      (matrices once + keys and values of all b) / bandwidth
 * The longer of the two times is the limit. Peaks are those of the instruction set and the unit that
 * the model's matrices use; depth-dependent parts are taken at the middle of a round. */
#include <string.h>

#include "cli/cmd_bench.h"

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* What the machine can do is the best it has shown: called before and after the rounds, because
 * something else may run on it at either time. */
slm_err limits_measure(struct bench *b, slm_why *why) {
    slm_machine m = { .size = sizeof m }, *best = &b->machine;
    slm_err err = slm_machine_get(SLM_MEASURE_QUICK, b->session.threads, &m, why);
    if (err != SLM_OK)
        return err;
    m.read_gb_s = larger(m.read_gb_s, best->read_gb_s);
    m.int8_tops = larger(m.int8_tops, best->int8_tops);
    m.bf16_tflops = larger(m.bf16_tflops, best->bf16_tflops);
    m.f32_tflops = larger(m.f32_tflops, best->f32_tflops);
    for (size_t i = 0; i < m.n_reads && i < best->n_reads; i++)
        m.reads[i].all_gb_s = larger(m.reads[i].all_gb_s, best->reads[i].all_gb_s);
    for (size_t i = 0; i < m.n_multiplies && i < best->n_multiplies; i++)
        m.multiplies[i].all_tops = larger(m.multiplies[i].all_tops, best->multiplies[i].all_tops);
    *best = m;
    return SLM_OK;
}

double limits_multiply(const struct bench *b, const char *unit) {
    const slm_machine *m = &b->machine;
    double f32 = m->f32_tflops;
    for (size_t i = 0; i < m->n_multiplies; i++) {
        const struct slm_multiply_rate *r = &m->multiplies[i];
        if (strcmp(r->isa, b->m.info.isa) != 0)
            continue;
        if (strcmp(r->unit, unit) == 0)
            return r->all_tops;
        if (strcmp(r->unit, "f32") == 0)
            f32 = r->all_tops;
    }
    return f32; /* no such instruction: the product is done in float32 */
}

const struct slm_read_rate *limits_best_read(const slm_machine *m) {
    const struct slm_read_rate *best = m->n_reads ? &m->reads[0] : NULL;
    for (size_t i = 1; i < m->n_reads; i++)
        if (m->reads[i].all_gb_s > best->all_gb_s)
            best = &m->reads[i];
    return best;
}

static void cell_limit(struct bench *b, struct cell *cell) {
    uint64_t row = (uint64_t)b->m.info.vocab * b->m.info.hidden;
    double batch = cell->batch, peak, macs, bytes, tokens;
    cell->cost.size = sizeof cell->cost;
    uint32_t middle = (uint32_t)cell->at + cell->tokens / 2;
    if (slm_engine_cost(b->m.engine, b->session.kv, middle, &cell->cost) != SLM_OK)
        return;
    const slm_cost *cost = &cell->cost;
    if (cell->kind == BENCH_PREFILL) {
        tokens = cell->tokens;
        macs = tokens * (double)(cost->weight_macs - row + cost->attention_macs) + (double)row;
        bytes = (double)cost->file_bytes + (double)cost->kv_bytes;
    } else {
        tokens = batch;
        macs = batch * (double)(cost->weight_macs + cost->attention_macs);
        bytes = (double)cost->file_bytes + batch * (double)cost->kv_bytes;
    }
    peak = limits_multiply(b, cost->multiply) * 1e12;
    double multiply_s = peak > 0 ? 2 * macs / peak : 0;
    double read_s = b->machine.read_gb_s > 0 ? bytes / (b->machine.read_gb_s * 1e9) : 0;
    double longest = larger(multiply_s, read_s);
    cell->bound = multiply_s > read_s ? "multiply" : "read";
    cell->limit = longest > 0 ? tokens / longest : 0;
}

void limits_set(struct bench *b) {
    for (size_t i = 0; i < b->n_cells; i++) {
        struct cell *cell = &b->cells[i];
        struct weather *w = &cell->weather;
        cell_limit(b, cell);
        w->disturbed = 0;
        for (size_t k = 0; k < w->n; k++) {
            struct pulses p = { w->read[k], w->multiply[k] };
            w->disturbed += pulses_low(b, &p);
        }
    }
}

double cell_share(const struct cell *cell) {
    return cell->limit > 0 ? cell->ours.median / cell->limit : 0;
}
