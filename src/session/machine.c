/* machine.c - what this machine is and can do at most, for slm.h. */
#include "kernels/peak.h"
#include <assert.h>

#include "base/compiler.h"
#include "session/engine.h"

/* 16 times a cache of 32 MiB: with 3 times as much a read still looks a quarter faster than it is. */
#define BUFFER_BYTES ((size_t)512 << 20)

static_assert(ARRAY_LEN(((slm_machine *)0)->reads) >= PEAK_READS, "room for every way to read");
static_assert(ARRAY_LEN(((slm_machine *)0)->multiplies) >= PEAK_MULTIPLIES, "room for every step");

static void take(slm_machine *m, const struct peak *p) {
    m->read_gb_s = p->read_bytes_s / 1e9;
    m->int8_tops = p->int8_ops_s / 1e12;
    m->bf16_tflops = p->bf16_ops_s / 1e12;
    m->f32_tflops = p->f32_ops_s / 1e12;
    for (unsigned i = 0; i < p->n_reads; i++)
        m->reads[m->n_reads++] =
            (struct slm_read_rate){ p->reads[i].streams, p->reads[i].ahead, p->reads[i].huge,
                                    p->reads[i].one_s / 1e9, p->reads[i].all_s / 1e9 };
    for (unsigned i = 0; i < p->n_multiplies; i++)
        m->multiplies[m->n_multiplies++] = (struct slm_multiply_rate){
            isa_name(p->multiplies[i].isa), peak_unit_name(p->multiplies[i].unit),
            p->multiplies[i].one_s / 1e12, p->multiplies[i].all_s / 1e12
        };
}

static slm_err measure_into(enum slm_measure measure, slm_machine *m, const struct kernels *k,
                            slm_why *why) {
    bool quick = measure == SLM_MEASURE_QUICK;
    struct slm_hooks hooks;
    struct pool *pool;
    struct peak p;
    slm_err err = SLM_OK;
    hooks_init(&hooks, NULL);
    TRY(pool_new(&hooks, m->threads, &pool, why));
    if (measure == SLM_MEASURE_PULSE)
        err = peak_pulse(k, &hooks, pool, &p, why);
    else
        err = peak_measure(k, &hooks, pool, BUFFER_BYTES, quick, &p, why);
    if (err == SLM_OK)
        take(m, &p);
    pool_free(pool);
    return err;
}

slm_err slm_machine_get(enum slm_measure measure, unsigned threads, slm_machine *out,
                        slm_why *why) {
    const struct kernels *k = kernels_pick(ISA_LEVEL_COUNT);
    slm_machine m = { .size = out->size,
                      .isa = isa_name(kernels_isa(k)),
                      .threads = threads > 0 ? threads : cpu_count() };
    if ((unsigned)measure > SLM_MEASURE_FULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "there is no way %d to measure", (int)measure);
    if (measure != SLM_MEASURE_NOTHING)
        TRY(measure_into(measure, &m, k, why));
    if (result_give(out, &m, sizeof m) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_machine is not set: %zu",
                    out->size);
    return SLM_OK;
}
