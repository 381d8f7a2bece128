/* fuzz_config.c - config.json, generation_config.json, and whole models through the public door.
 *
 * In: texts with a zero byte between them. By the first byte:
 *   F   a folder: config, generation config, tokenizer.json, tokenizer_config.json, template, and all
 *       that is left as model.safetensors; texts that are empty are files that are not there
 *   G   one GGUF file
 *   else config.json, generation_config.json, a hint
 * Facts that were accepted must agree with each other; a model that opens must plan, render, encode
 * and compute without harm, and what was refused must say why. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "model/net.h"
#include "slm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLAN_MAX ((uint64_t)64 << 20) /* bytes: sessions that would be larger are not opened */

static void expect(bool ok) {
    if (!ok)
        abort();
}

/* The next text; the rest of the input when it is the last. */
static const char *text(const uint8_t **data, size_t *size, size_t *n) {
    const char *start = (const char *)*data;
    const uint8_t *zero = *size > 0 ? memchr(*data, 0, *size) : NULL;
    *n = zero != NULL ? (size_t)(zero - *data) : *size;
    *data += zero != NULL ? *n + 1 : *n;
    *size -= zero != NULL ? *n + 1 : *n;
    return start;
}

/* ------------------------------------------------------------------ facts alone */

static void check_model(const struct model *m) {
    expect(m->family != NULL && m->layers > 0 && m->hidden > 0 && m->ffn > 0 && m->vocab > 0 &&
           m->context > 0);
    expect(m->heads > 0 && m->kv_heads > 0 && m->heads % m->kv_heads == 0 && m->head_dim > 0);
    expect(m->rotary <= m->head_dim && m->rotary % 2 == 0);
    expect(isfinite(m->theta) && m->theta > 0.0f && isfinite(m->eps) && m->eps >= 0.0f);
    for (size_t i = 0; i < ARRAY_LEN(m->stop) && m->stop[i] >= 0; i++)
        expect((uint32_t)m->stop[i] < m->vocab);
    expect(m->bos < 0 || (uint32_t)m->bos < m->vocab);
    for (uint32_t i = 0; i < m->layers && i < 300; i++)
        expect(strchr("FsN", pattern_at(m->pattern, i)) != NULL);
}

static void facts_only(const uint8_t *data, size_t size) {
    struct facts f;
    slm_why why = { SLM_OK, 0, "" };
    char hint[64];
    size_t n, n_generation, n_hint;
    const char *config = text(&data, &size, &n), *generation = text(&data, &size, &n_generation);
    const char *name = text(&data, &size, &n_hint);
    n_hint = n_hint < sizeof hint ? n_hint : sizeof hint - 1;
    memcpy(hint, name, n_hint);
    hint[n_hint] = '\0';
    slm_err err = facts_from_config(NULL, config, n, n_generation > 0 ? generation : NULL,
                                    n_generation, hint, &f, &why);
    if (err != SLM_OK) {
        expect(why.code == err && why.message[0] != '\0');
        return;
    }
    check_model(&f.m);
    expect((f.known != NULL) == (f.trust == TRUST_VERIFIED));
    facts_free(&f);
}

/* ------------------------------------------------------------------ whole models */

static const char question[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a <s> b\"}]}";

static bool nothing(void *user, enum slm_part part, const char *piece, size_t n) {
    (void)user;
    (void)part;
    (void)piece;
    (void)n;
    return true;
}

static void run(slm_engine *e, const slm_info *i) {
    slm_session_options o = slm_session_default();
    slm_generate_options g = slm_generate_default();
    slm_plan p = { .size = sizeof p };
    slm_session *s = NULL;
    int32_t ids[] = { 0, (int32_t)i->vocab - 1, 1 };
    slm_why why;
    o.context = i->context < 24 ? i->context : 24;
    o.chunk = 4;
    o.threads = 1;
    if (slm_engine_plan(e, &o, &p, &why) != SLM_OK || p.total > PLAN_MAX ||
        (i->parts & SLM_WEIGHTS) == 0)
        return;
    if (slm_session_open(e, &o, &s, &why) != SLM_OK)
        return;
    g.on_text = nothing;
    g.max_tokens = 3;
    if (slm_session_sync(s, ids, o.context < 3 ? o.context : 3, NULL, &why) == SLM_OK) {
        expect(slm_session_logits(s) != NULL);
        (void)slm_generate(s, &g, NULL, &why);
    }
    (void)slm_chat(s, question, sizeof question - 1, &g, NULL, &why);
    expect(slm_session_length(s) <= o.context);
    slm_session_close(s);
}

static void use(slm_engine *e) {
    slm_info i = { .size = sizeof i };
    slm_tensor t = { .size = sizeof t };
    char value[40], *out;
    const char *key;
    size_t n;
    int32_t *ids;
    slm_why why;
    expect(slm_engine_info(e, &i) == SLM_OK && i.name != NULL && i.trust != NULL);
    for (size_t k = 0; k < i.n_tensors && k < 8; k++)
        expect(slm_engine_tensor(e, k, &t) == SLM_OK && t.name != NULL && t.type != NULL);
    for (size_t k = 0; k < i.n_meta && k < 64; k++)
        expect(slm_engine_meta(e, k, &key, value, sizeof value) == SLM_OK &&
               strlen(value) < sizeof value);
    if (slm_render(e, question, sizeof question - 1, NULL, &out, &n, &why) == SLM_OK)
        slm_free(e, out);
    if (slm_encode(e, "abc \xe2\x82\xac <s>", 11, SLM_ENCODE_BOS, &ids, &n, &why) == SLM_OK) {
        if (slm_decode(e, ids, n, true, &out, &n, &why) == SLM_OK)
            slm_free(e, out);
        slm_free(e, ids);
    }
    if (i.family != NULL)
        run(e, &i);
}

static void open_files(const struct slm_memory_file *files, size_t n) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why = { SLM_OK, 0, "" };
    o.need = 0;
    o.threads = 1;
    slm_err err = slm_engine_open_memory(files, n, &o, &e, &why);
    expect((err == SLM_OK) == (e != NULL));
    if (err != SLM_OK)
        expect(why.code == err && why.message[0] != '\0');
    else
        use(e);
    slm_engine_close(e);
    o.want = 0; /* as for a plan */
    if (slm_engine_open_memory(files, n, &o, &e, NULL) == SLM_OK) {
        slm_plan p = { .size = sizeof p };
        (void)slm_engine_plan(e, NULL, &p, NULL);
        slm_engine_close(e);
    }
}

static void folder(const uint8_t *data, size_t size) {
    static const char *const names[] = { "config.json", "generation_config.json", "tokenizer.json",
                                         "tokenizer_config.json", "chat_template.jinja" };
    struct slm_memory_file files[6];
    size_t n_files = 0, n;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *start = text(&data, &size, &n);
        if (n > 0)
            files[n_files++] = (struct slm_memory_file){ names[i], start, n };
    }
    if (size > 0)
        files[n_files++] = (struct slm_memory_file){ "model.safetensors", data, size };
    open_files(files, n_files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0 && data[0] == 'F') {
        folder(data + 1, size - 1);
    } else if (size > 0 && data[0] == 'G') {
        struct slm_memory_file file = { "x.gguf", data + 1, size - 1 };
        open_files(&file, 1);
    } else {
        facts_only(data, size);
    }
    return 0;
}
