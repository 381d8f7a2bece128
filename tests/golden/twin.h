/* twin.h - opening a twin of tests/golden/ and running prompts through it, for the golden tests. */
#ifndef SLM_TESTS_TWIN_H
#define SLM_TESTS_TWIN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "model/kv.h"
#include "support.h"

#define MAX_PROMPT 512

struct twin {
    char folder[512];
    struct tensors *weights, *gold;
    json_t *golden;
    struct facts facts;
    struct net net;
    struct rope *rope;
    struct pool *pool;
    slm_why why;
};

#define OK(t, expr)                                                                                \
    do {                                                                                           \
        slm_err err_ = (expr);                                                                     \
        if (err_ != SLM_OK)                                                                        \
            fail_msg("%s: %s (%s)", #expr, (t)->why.message, err_name(err_));                      \
    } while (0)

/* The tables to test: SLM_ISA alone, or every one that this machine runs. */
static ATTR_UNUSED size_t twin_kernels(const struct kernels *out[ISA_LEVEL_COUNT]) {
    const char *only = test_isa();
    size_t n = 0;
    for (int i = 0; i < ISA_LEVEL_COUNT; i++)
        if (kernels_at((enum isa)i) != NULL && (only == NULL || i == isa_by_name(only)))
            out[n++] = kernels_at((enum isa)i);
    return n;
}

static ATTR_UNUSED void twin_bind(struct twin *t, const struct kernels *k, bool exact,
                                  unsigned threads) {
    OK(t, pool_new(NULL, threads, &t->pool, &t->why));
    struct net_options o = { .exact = exact, .kernels = k, .pool = t->pool };
    OK(t, net_bind(&t->net, NULL, t->weights, &t->facts, &o, &t->why));
    OK(t, rope_new(NULL, &t->facts.m, &t->rope, &t->why));
}

static ATTR_UNUSED void twin_open_golden(struct twin *t, const char *folder) {
    char path[640];
    json_error_t error;
    data_path(t->folder, sizeof t->folder, folder);
    snprintf(path, sizeof path, "%s/golden.json", t->folder);
    t->golden = json_load_file(path, 0, &error);
    assert_non_null(t->golden);
    snprintf(path, sizeof path, "%s/golden.safetensors", t->folder);
    OK(t, tensors_open_numbers(NULL, path, &t->gold, &t->why));
}

/* A Hugging Face twin: "golden/<name>". */
static ATTR_UNUSED void twin_open(struct twin *t, const char *folder, const struct kernels *k,
                                  bool exact, unsigned threads) {
    char path[640];
    *t = (struct twin){ 0 };
    twin_open_golden(t, folder);
    OK(t, tensors_open(NULL, t->folder, &t->weights, &t->why));
    snprintf(path, sizeof path, "%s/config.json", t->folder);
    size_t n, n_generation;
    char *config = slurp(path, &n);
    snprintf(path, sizeof path, "%s/generation_config.json", t->folder);
    char *generation = slurp(path, &n_generation);
    OK(t, facts_from_config(NULL, config, n, generation, n_generation, NULL, &t->facts, &t->why));
    free(config);
    free(generation);
    twin_bind(t, k, exact, threads);
}

/* A sequence with a pool of exactly its size. */
static ATTR_UNUSED slm_err kv_alone(const struct slm_hooks *h, const struct model *m,
                                    enum kv_type type, uint32_t context, uint32_t chunk,
                                    struct kv **out, slm_why *why) {
    struct kv_pool *pool;
    *out = NULL;
    TRY(kv_pool_new(h, m, type, kv_pages_for(m, context, chunk, 1), &pool, why));
    slm_err err = kv_new(pool, context, chunk, out, why);
    if (err != SLM_OK)
        kv_pool_free(pool);
    return err;
}

static ATTR_UNUSED void kv_alone_free(struct kv *kv) {
    struct kv_pool *pool = kv != NULL ? kv->pool : NULL;
    kv_free(kv);
    kv_pool_free(pool);
}

static ATTR_UNUSED void twin_close(struct twin *t) {
    rope_free(t->rope);
    net_free(&t->net);
    facts_free(&t->facts);
    pool_free(t->pool);
    tensors_close(t->weights);
    tensors_close(t->gold);
    json_decref(t->golden);
}

static ATTR_UNUSED const float *twin_floats(const struct twin *t, const char *name,
                                            uint64_t *rows) {
    const struct tensor_info *x = tensors_find(t->gold, name);
    if (x == NULL)
        fail_msg("no golden tensor %s", name);
    assert_int_equal(x->dtype, DT_F32);
    if (rows != NULL)
        *rows = x->dims[0];
    return (const float *)(const void *)x->data;
}

static ATTR_UNUSED uint32_t json_ids(const json_t *list, int32_t ids[MAX_PROMPT]) {
    assert_true(json_is_array(list) && json_array_size(list) <= MAX_PROMPT);
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (uint32_t)json_array_size(list);
}

static ATTR_UNUSED bool is_long(const struct twin *t, uint32_t length) {
    return t->facts.m.rope.kind == ROPE_LONG && length > t->facts.m.rope.original_context;
}

/* Evaluates ids in chunks (the last size repeats; NULL: one shot); logits [n, vocab]. The rope factors
 * are those of the whole length. */
static ATTR_UNUSED void twin_run(struct twin *t, enum kv_type type, const int32_t *ids, uint32_t n,
                                 const uint32_t *chunks, size_t n_chunks, float *logits,
                                 const struct forward_taps *taps) {
    struct kv *kv;
    struct forward *f;
    uint32_t most = n;
    if (chunks != NULL)
        for (size_t i = most = 0; i < n_chunks; i++)
            most = chunks[i] > most ? chunks[i] : most;
    OK(t, kv_alone(NULL, &t->facts.m, type, t->facts.m.context, most, &kv, &t->why));
    OK(t,
       forward_new(NULL, &t->net, t->rope, t->pool, most, most, t->facts.m.context, &f, &t->why));
    for (uint32_t done = 0, i = 0; done < n; i++) {
        uint32_t size = chunks == NULL ? n : chunks[i < n_chunks ? i : n_chunks - 1];
        size = size < n - done ? size : n - done;
        struct slice s = { .kv = kv, .n = size, .long_rope = is_long(t, n), .rows = LOGITS_ALL };
        OK(t, forward_run(f, &s, 1, ids + done, logits + (size_t)done * t->facts.m.vocab, taps, &t->why));
        done += size;
    }
    assert_int_equal(kv_length(kv), n);
    forward_free(f);
    kv_alone_free(kv);
}

static ATTR_UNUSED double max_abs(const float *a, const float *b, size_t n) {
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/* |a - b| / |b| over all */
static ATTR_UNUSED double relative_l2(const float *a, const float *b, size_t n) {
    double difference = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

/* Golden logits of a prompt against computed ones of all n rows ("rows": "last" has only the last). */
static ATTR_UNUSED const float *golden_logits(const struct twin *t, const json_t *prompt,
                                              const float *all, uint32_t n, const float **mine,
                                              size_t *count) {
    uint64_t rows;
    const float *gold = twin_floats(t, json_string_value(json_object_get(prompt, "logits")), &rows);
    *mine = all + (size_t)(n - rows) * t->facts.m.vocab;
    *count = rows * t->facts.m.vocab;
    return gold;
}

#endif
