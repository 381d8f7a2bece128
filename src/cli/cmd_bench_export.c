/* cmd_bench_export.c - the results of `slm bench` as JSON and CSV, with every sample.
 *
 * JSON: the fields of the first prefill and the first decode cell stand at the top (prefill_tok_s,
 * decode_tok_s, ...); `cells` has all. CSV: one line per round, ours and the peer's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd_bench.h"

static const char *const kinds[BENCH_KINDS] = { "prefill", "decode" };
static const char *const settings[FLASH_SETTINGS] = { "off", "on" };

/* ------------------------------------------------------------------ JSON */

static json_t *numbers_json(const double *values, size_t n) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_real(values[i]));
    return list;
}

static json_t *samples_json(const struct samples *s) {
    return numbers_json(s->rate, s->n);
}

static json_t *cost_json(const slm_cost *c) {
    return keep_json(json_pack(
        "{s:I, s:I, s:I, s:I, s:I}", "weight_bytes", (json_int_t)c->weight_bytes, "file_bytes",
        (json_int_t)c->file_bytes, "kv_bytes", (json_int_t)c->kv_bytes, "weight_macs",
        (json_int_t)c->weight_macs, "attention_macs", (json_int_t)c->attention_macs));
}

static json_t *peer_json(const struct peer_side *p) {
    json_t *o =
        keep_json(json_pack("{s:f, s:s, s:f, s:f, s:f}", "tok_s", p->setting[p->best].median,
                            "flash_attention", settings[p->best], "ratio", p->ratio, "ratio_low",
                            p->ratio_low, "ratio_high", p->ratio_high));
    for (int f = 0; f < FLASH_SETTINGS; f++) {
        char name[32];
        snprintf(name, sizeof name, "samples_flash_%s", settings[f]);
        json_object_set_new(o, name, samples_json(&p->setting[f]));
    }
    return o;
}

static json_t *cell_json(const struct cell *c) {
    const struct samples *s = &c->ours;
    const struct weather *w = &c->weather;
    json_t *o = keep_json(json_pack(
        "{s:s, s:I, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:s, s:o, s:o, s:I, s:I, s:o, s:o}",
        "kind", kinds[c->kind], "depth", (json_int_t)c->depth, "began_at", c->at, "batch",
        (json_int_t)c->batch, "tokens", (json_int_t)c->tokens, "tok_s", s->median, "low", s->low,
        "high", s->high, "limit_tok_s", c->limit, "share", cell_share(c), "bound", c->bound,
        "samples", samples_json(s), "cost", cost_json(&c->cost), "rounds_repeated",
        (json_int_t)w->repeated, "rounds_disturbed", (json_int_t)w->disturbed, "read_gb_s_around",
        numbers_json(w->read, w->n), "int8_tops_around", numbers_json(w->multiply, w->n)));
    if (c->has_peer)
        json_object_set_new(o, "peer", peer_json(&c->peer));
    return o;
}

static const struct cell *first_cell(const struct bench *b, enum bench_kind kind) {
    for (size_t i = 0; i < b->n_cells; i++)
        if (b->cells[i].kind == kind)
            return &b->cells[i];
    return NULL;
}

static void set_field(json_t *o, const char *kind, const char *name, json_t *value) {
    char key[64];
    snprintf(key, sizeof key, "%s_%s", kind, name);
    json_object_set_new(o, key, value);
}

/* prefill_tok_s and its like. */
static void set_first(json_t *o, const struct cell *c) {
    if (c == NULL)
        return;
    set_field(o, kinds[c->kind], "tok_s", json_real(c->ours.median));
    set_field(o, kinds[c->kind], "share", json_real(cell_share(c)));
    set_field(o, kinds[c->kind], "limit_tok_s", json_real(c->limit));
    set_field(o, kinds[c->kind], "samples", samples_json(&c->ours));
    if (c->has_peer)
        set_field(o, kinds[c->kind], "ratio", json_real(c->peer.ratio));
}

void bench_print_json(struct bench *b) {
    char cpu[128];
    const struct cell *decode = first_cell(b, BENCH_DECODE), *cell = decode ? decode : &b->cells[0];
    json_t *o = keep_json(json_pack("{s:s, s:s?, s:s?, s:s, s:s, s:I}", "model", model_title(&b->m),
                                    "path", b->m.found.path, "types", b->m.info.types, "cpu",
                                    cpu_name(cpu, sizeof cpu), "isa", b->m.info.isa, "threads",
                                    (json_int_t)b->machine.threads));
    json_object_set_new(o, "prompt_tokens", json_integer((json_int_t)b->prompt));
    json_object_set_new(o, "output_tokens", json_integer((json_int_t)b->output));
    json_object_set_new(o, "depth", json_integer((json_int_t)b->cells[0].depth));
    json_object_set_new(o, "rounds", json_integer((json_int_t)b->rounds));
    set_first(o, first_cell(b, BENCH_PREFILL));
    set_first(o, decode);
    json_t *limits = machine_json(&b->machine);
    json_object_set_new(limits, "multiply", json_string(cell->cost.multiply));
    json_object_set_new(limits, "multiply_tops",
                        json_real(limits_multiply(b, cell->cost.multiply)));
    json_object_set_new(o, "limits", limits);
    json_object_set_new(o, "cost", cost_json(&cell->cost));
    if (b->peer)
        json_object_set_new(o, "peer_build", json_string(b->peer_build));
    json_t *list = keep_json(json_array()), *out = keep_json(json_array());
    for (size_t i = 0; i < b->n_cells; i++)
        json_array_append_new(list, cell_json(&b->cells[i]));
    for (size_t i = 0; i < b->n_out; i++)
        json_array_append_new(
            out, keep_json(json_pack("{s:s, s:I, s:I, s:s}", "kind", b->out[i].kind, "depth",
                                     (json_int_t)b->out[i].depth, "batch",
                                     (json_int_t)b->out[i].batch, "why", b->out[i].why)));
    json_object_set_new(o, "cells", list);
    json_object_set_new(o, "left_out", out);
    out_json(&b->c->out, o, false);
}

/* ------------------------------------------------------------------ CSV */

/* RFC 4180: quoted when it has to be. */
static void csv_text(struct output *o, const char *text) {
    if (!strpbrk(text, ",\"\r\n")) {
        out_text(o, text);
        return;
    }
    out_text(o, "\"");
    for (const char *p = text; *p; p++)
        out_printf(o, *p == '"' ? "\"\"" : "%c", *p);
    out_text(o, "\"");
}

static void csv_lines(struct bench *b, const struct cell *c, const char *who,
                      const struct samples *s) {
    for (size_t i = 0; i < s->n; i++) {
        const struct weather *w = &c->weather;
        struct pulses p = { i < w->n ? w->read[i] : 0, i < w->n ? w->multiply[i] : 0 };
        csv_text(&b->c->out, model_title(&b->m));
        out_printf(&b->c->out, ",%s,%u,%s,%s,%u,%u,%u,%zu,%.3f,%.3f,%.4f,%s,%.1f,%.3f,%d\n",
                   b->m.info.isa, b->machine.threads, who, kinds[c->kind], c->depth, c->batch,
                   c->tokens, i + 1, s->rate[i], c->limit, c->limit > 0 ? s->rate[i] / c->limit : 0,
                   c->bound, p.read, p.multiply, pulses_low(b, &p));
    }
}

void bench_print_csv(struct bench *b) {
    out_text(&b->c->out, "model,isa,threads,who,kind,depth,batch,tokens,round,tok_s,limit_tok_s,"
                         "share,bound,read_gb_s_around,int8_tops_around,disturbed\n");
    for (size_t i = 0; i < b->n_cells; i++) {
        const struct cell *c = &b->cells[i];
        csv_lines(b, c, "slm", &c->ours);
        for (int f = 0; f < FLASH_SETTINGS && c->has_peer; f++)
            csv_lines(b, c, f == FLASH_ON ? "peer flash on" : "peer flash off",
                      &c->peer.setting[f]);
    }
    for (size_t i = 0; i < b->n_out; i++)
        note(b->c, "left out: %s at depth %u, batch %u: %s", b->out[i].kind, b->out[i].depth,
             b->out[i].batch, b->out[i].why);
}
