/* machine.c - what this machine is and can do at most, for slm.h. */
#include "kernels/peak.h"
#include "session/engine.h"

#define BUFFER_BYTES ((size_t)256 << 20) /* far beyond any cache that two cores share */

slm_err slm_machine_get(bool measure, unsigned threads, slm_machine *out, slm_why *why) {
    const struct kernels *k = kernels_pick(ISA_LEVEL_COUNT);
    slm_machine m = { .size = out->size,
                      .isa = isa_name(kernels_isa(k)),
                      .threads = threads > 0 ? threads : cpu_count() };
    if (measure) {
        struct slm_hooks hooks;
        struct pool *pool;
        struct peak p;
        hooks_init(&hooks, NULL);
        TRY(pool_new(&hooks, m.threads, &pool, why));
        slm_err err = peak_measure(k, &hooks, pool, BUFFER_BYTES, &p, why);
        pool_free(pool);
        TRY(err);
        m.read_gb_s = p.read_bytes_s / 1e9;
        m.int8_tops = p.int8_ops_s / 1e12;
        m.bf16_tflops = p.bf16_ops_s / 1e12;
        m.f32_tflops = p.f32_ops_s / 1e12;
    }
    if (result_give(out, &m, sizeof m) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_machine is not set: %zu",
                    out->size);
    return SLM_OK;
}
