/* logits_bits.c - one line per token: a hash of the bits of its logits. test_portable.sh builds it
 * for another processor and compares whole models with this one.
 *
 * usage: logits_bits FILE.gguf ISA KV    KV: f16, f32, bf16 or q8
 * Twelve ids: one alone, two together, the rest together. Linked without jansson and utf8proc, which
 * a GGUF file does not need. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slm.h"

#define TOKENS 12u

/* FNV-1a, 64 bits */
static uint64_t hash_of(const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static slm_err run(slm_engine *engine, slm_session *session, slm_why *why) {
    static const size_t chunks[] = { 1, 2, TOKENS - 3 };
    slm_info info = { .size = sizeof info };
    slm_err err = slm_engine_info(engine, &info);
    if (err != SLM_OK)
        return err;
    float *logits = calloc(TOKENS * (size_t)info.vocab, sizeof *logits);
    int32_t ids[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)((i * 77 + 5) % info.vocab);
    size_t done = 0;
    for (size_t c = 0; c < 3 && err == SLM_OK && logits != NULL; c++) {
        err = slm_session_append(session, ids + done, chunks[c], true, logits, NULL, why);
        for (size_t i = 0; i < chunks[c] && err == SLM_OK; i++)
            printf("token %2zu %016" PRIx64 "\n", done + i,
                   hash_of(logits + i * info.vocab, info.vocab * sizeof *logits));
        done += chunks[c];
    }
    free(logits);
    return err;
}

int main(int argc, char **argv) {
    static const char *const kv_names[] = { "f16", "f32", "bf16", "q8" };
    slm_engine_options options = slm_engine_default();
    slm_session_options how = slm_session_default();
    slm_engine *engine = NULL;
    slm_session *session = NULL;
    slm_why why = { 0 };
    if (argc != 4)
        return 2;
    options.isa = argv[2];
    options.need = options.want = SLM_WEIGHTS;
    options.threads = how.threads = 1;
    how.context = 64;
    how.logit_rows = TOKENS;
    for (int i = 0; i < 4; i++)
        if (strcmp(argv[3], kv_names[i]) == 0)
            how.kv = (enum slm_kv)i;
    slm_err err = slm_engine_open(argv[1], &options, &engine, &why);
    if (err == SLM_OK)
        err = slm_session_open(engine, &how, &session, &why);
    if (err == SLM_OK)
        err = run(engine, session, &why);
    if (err != SLM_OK)
        printf("failed: %s\n", why.message);
    slm_session_close(session);
    slm_engine_close(engine);
    return err != SLM_OK;
}
