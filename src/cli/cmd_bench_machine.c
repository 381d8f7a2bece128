/* cmd_bench_machine.c - `slm bench --machine`: what this machine reads and multiplies at most. */
#include <stdio.h>

#include "cli/cmd_bench.h"

/* 0 was not measured. */
static void set_rate(json_t *o, const char *name, double rate) {
    if (rate > 0)
        json_object_set_new(o, name, json_real(rate));
}

json_t *machine_json(const slm_machine *m) {
    json_t *o = keep_json(json_pack("{s:f, s:f, s:f, s:f}", "read_gb_s", m->read_gb_s, "int8_tops",
                                    m->int8_tops, "bf16_tflops", m->bf16_tflops, "f32_tflops",
                                    m->f32_tflops));
    json_t *reads = keep_json(json_array()), *multiplies = keep_json(json_array());
    for (size_t i = 0; i < m->n_reads; i++) {
        const struct slm_read_rate *r = &m->reads[i];
        json_t *row =
            keep_json(json_pack("{s:i, s:i, s:b}", "streams", (int)r->streams, "prefetch_bytes",
                                (int)r->prefetch_bytes, "huge_pages", r->huge_pages));
        set_rate(row, "one_gb_s", r->one_gb_s);
        set_rate(row, "all_gb_s", r->all_gb_s);
        json_array_append_new(reads, row);
    }
    for (size_t i = 0; i < m->n_multiplies; i++) {
        const struct slm_multiply_rate *r = &m->multiplies[i];
        json_t *row = keep_json(json_pack("{s:s, s:s}", "isa", r->isa, "unit", r->unit));
        set_rate(row, "one_tops", r->one_tops);
        set_rate(row, "all_tops", r->all_tops);
        json_array_append_new(multiplies, row);
    }
    json_object_set_new(o, "reads", reads);
    json_object_set_new(o, "multiplies", multiplies);
    return o;
}

static void print_machine_json(struct cli *c, const slm_machine *m) {
    char cpu[128];
    json_t *o = machine_json(m);
    json_object_set_new(o, "cpu", json_string(cpu_name(cpu, sizeof cpu)));
    json_object_set_new(o, "isa", json_string(m->isa));
    json_object_set_new(o, "threads", json_integer((json_int_t)m->threads));
    out_json(&c->out, o, false);
}

static void print_machine_csv(struct cli *c, const slm_machine *m) {
    out_text(&c->out, "what,how,one_thread,all_threads,unit\n");
    for (size_t i = 0; i < m->n_reads; i++) {
        const struct slm_read_rate *r = &m->reads[i];
        out_printf(&c->out, "read,%u streams %u ahead %s pages,%.2f,%.2f,GB/s\n", r->streams,
                   r->prefetch_bytes, r->huge_pages ? "huge" : "small", r->one_gb_s, r->all_gb_s);
    }
    for (size_t i = 0; i < m->n_multiplies; i++) {
        const struct slm_multiply_rate *r = &m->multiplies[i];
        out_printf(&c->out, "multiply,%s %s,%.4f,%.4f,Top/s\n", r->isa, r->unit, r->one_tops,
                   r->all_tops);
    }
}

static void print_machine_table(struct cli *c, const slm_machine *m) {
    char cpu[128], ahead[32];
    out_printf(&c->out, "%.60s, %u thread%s\n\n%-34s%12s %12s\n", cpu_name(cpu, sizeof cpu),
               m->threads, m->threads == 1 ? "" : "s", "reading, GB/s", "one thread", "all");
    for (size_t i = 0; i < m->n_reads; i++) {
        const struct slm_read_rate *r = &m->reads[i];
        snprintf(ahead, sizeof ahead, r->prefetch_bytes ? "asking %u ahead" : "plain",
                 r->prefetch_bytes);
        out_printf(&c->out, "%u stream%s %-6s %-16s %12.1f %12.1f%s\n", r->streams,
                   r->streams == 1 ? ", " : "s,", r->huge_pages ? "huge," : "small,", ahead,
                   r->one_gb_s, r->all_gb_s, r == limits_best_read(m) ? "  best" : "");
    }
    out_printf(&c->out, "\n%-34s%12s %12s\n", "multiplying, 10^12 operations/s", "one thread",
               "all");
    for (size_t i = 0; i < m->n_multiplies; i++) {
        const struct slm_multiply_rate *r = &m->multiplies[i];
        out_printf(&c->out, "%-10s %-22s %12.4f %12.4f\n", r->isa, r->unit, r->one_tops,
                   r->all_tops);
    }
}

int bench_machine(struct cli *c) {
    slm_machine m = { .size = sizeof m };
    slm_why why;
    slm_err err = slm_machine_get(SLM_MEASURE_FULL, (unsigned)opt_int(c, OPT_THREADS, 0), &m, &why);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    if (c->json)
        print_machine_json(c, &m);
    else if (opt_set(c, OPT_CSV))
        print_machine_csv(c, &m);
    else
        print_machine_table(c, &m);
    return EXIT_DONE;
}
