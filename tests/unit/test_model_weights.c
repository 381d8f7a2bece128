/* test_model_weights.c - binding tensors to slots: other spellings, tied outputs, lies, what is left
 * over, fused rows, permuted rows, refused allocations, plans that equal what is allocated.
 *
 * Files are made in memory from a twin (tests/golden), with one tensor renamed, dropped, added or
 * changed. */
#include "../golden/twin.h"

#define MAX_ENTRIES 256

struct entry {
    char name[160];
    const char *dtype;
    uint64_t dims[2];
    uint32_t n_dims;
    const uint8_t *data;
    size_t size;
    uint8_t *owned;
};

struct folder {
    struct entry list[MAX_ENTRIES];
    size_t n;
    char *bytes; /* model.safetensors */
    size_t size;
};

static void add_entry(struct folder *f, const char *name, const char *dtype, uint32_t n_dims,
                      uint64_t rows, uint64_t cols, const uint8_t *data, size_t size) {
    struct entry *e = &f->list[f->n++];
    assert_true(f->n <= MAX_ENTRIES);
    *e = (struct entry){
        .dtype = dtype, .dims = { rows, cols }, .n_dims = n_dims, .data = data, .size = size
    };
    snprintf(e->name, sizeof e->name, "%s", name);
}

static void copy_twin(struct folder *f, const struct tensors *t) {
    *f = (struct folder){ 0 };
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor_info *x = &t->list[i];
        if (x->n_dims <= 2)
            add_entry(f, x->name, x->dtype == DT_BF16 ? "BF16" : "F32", x->n_dims, x->dims[0],
                      x->n_dims == 2 ? x->dims[1] : 1, x->data, (size_t)x->size);
    }
}

static struct entry *entry_of(struct folder *f, const char *name) {
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->list[i].name, name) == 0)
            return &f->list[i];
    fail_msg("no entry %s", name);
    return NULL;
}

static void drop_entry(struct folder *f, const char *name) {
    *entry_of(f, name) = f->list[--f->n];
}

/* A copy of the entry's data that the test may change. */
static uint8_t *own_data(struct entry *e) {
    e->owned = malloc(e->size);
    memcpy(e->owned, e->data, e->size);
    e->data = e->owned;
    return e->owned;
}

static void rename_prefix(struct folder *f, const char *from, const char *to) {
    for (size_t i = 0; i < f->n; i++)
        if (strncmp(f->list[i].name, from, strlen(from)) == 0) {
            char rest[160];
            snprintf(rest, sizeof rest, "%s", f->list[i].name + strlen(from));
            snprintf(f->list[i].name, sizeof f->list[i].name, "%s%.120s", to, rest);
        }
}

static struct tensors *open_folder(struct folder *f) {
    json_t *head = json_object();
    size_t at = 0;
    struct tensors *t;
    slm_why why;
    for (size_t i = 0; i < f->n; i++) {
        const struct entry *e = &f->list[i];
        json_t *shape = json_array();
        for (uint32_t d = 0; d < e->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)e->dims[d]));
        json_object_set_new(head, e->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", e->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)(at + e->size)));
        at += e->size;
    }
    char *text = json_dumps(head, JSON_COMPACT);
    json_decref(head);
    uint64_t n = (strlen(text) + 7) / 8 * 8;
    f->size = 8 + n + at;
    f->bytes = aligned_alloc(64, (f->size + 63) / 64 * 64);
    memset(f->bytes, ' ', 8 + n);
    memcpy(f->bytes, &n, 8);
    memcpy(f->bytes + 8, text, strlen(text));
    at = 8 + n;
    for (size_t i = 0; i < f->n; i++) {
        memcpy(f->bytes + at, f->list[i].data, f->list[i].size);
        at += f->list[i].size;
    }
    free(text);
    struct slm_memory_file file = { "model.safetensors", f->bytes, f->size };
    if (tensors_open_memory(NULL, &file, 1, &t, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return t;
}

static void free_folder(struct folder *f) {
    for (size_t i = 0; i < f->n; i++)
        free(f->list[i].owned);
    free(f->bytes);
}

typedef void (*edit_fn)(struct folder *f);

/* The twin with an edit; *net is bound when SLM_OK comes back (then close_edited). */
struct edited {
    struct twin twin;
    struct folder folder;
    struct tensors *tensors;
    struct net net;
    slm_why why;
};

static slm_err bind_edited(struct edited *e, const char *twin, edit_fn edit, bool exact) {
    char path[64];
    snprintf(path, sizeof path, "golden/%s", twin);
    twin_open(&e->twin, path, kernels_pick(ISA_LEVEL_COUNT), true, 1);
    copy_twin(&e->folder, e->twin.weights);
    if (edit != NULL)
        edit(&e->folder);
    e->tensors = open_folder(&e->folder);
    struct net_options o = { .exact = exact, .kernels = e->twin.net.kernels, .pool = e->twin.pool };
    return net_bind(&e->net, NULL, e->tensors, &e->twin.facts, &o, &e->why);
}

static void close_edited(struct edited *e) {
    net_free(&e->net);
    tensors_close(e->tensors);
    free_folder(&e->folder);
    twin_close(&e->twin);
}

/* Logits of p7 by the edited net. */
static void edited_logits(struct edited *e, float *out) {
    int32_t ids[MAX_PROMPT];
    struct net mine = e->twin.net;
    uint32_t n = json_ids(
        json_object_get(json_object_get(json_object_get(e->twin.golden, "prompts"), "p7"), "ids"),
        ids);
    e->twin.net = e->net;
    twin_run(&e->twin, KV_F32, ids, n, NULL, 0, out, NULL);
    e->twin.net = mine;
}

static void expect_same_logits(struct edited *e) {
    size_t n = 7 * (size_t)e->twin.facts.m.vocab;
    float *logits = malloc(n * sizeof *logits);
    edited_logits(e, logits);
    assert_true(max_abs(logits, twin_floats(&e->twin, "p7.logits", NULL), n) < 1e-3);
    free(logits);
}

/* ------------------------------------------------------------------ other spellings */

static void spell_nested(struct folder *f) {
    rename_prefix(f, "model.", "language_model.model.");
}
static void spell_new(struct folder *f) {
    rename_prefix(f, "model.", "model.language_model.");
}
static void add_rope_tables(struct folder *f) {
    static const uint8_t zeros[64];
    add_entry(f, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, 16, 1, zeros, 64);
}
static void add_vision(struct folder *f) {
    static const uint8_t zeros[64];
    add_entry(f, "vision_tower.vision_model.post_layernorm.weight", "F32", 1, 16, 1, zeros, 64);
    add_entry(f, "multi_modal_projector.mm_soft_emb_norm.weight", "F32", 1, 16, 1, zeros, 64);
}

static void test_spellings(void **state) {
    (void)state;
    static const struct {
        const char *twin;
        edit_fn edit;
        bool vision;
    } cases[] = {
        { "qwen3-0.6b", NULL, false },           { "qwen3-0.6b", spell_nested, false },
        { "smollm3-3b", spell_new, false },      { "qwen3-0.6b", add_rope_tables, false },
        { "gemma-3-270m-it", add_vision, true }, { "phi-4-mini-instruct", spell_new, false }
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct edited e;
        if (bind_edited(&e, cases[i].twin, cases[i].edit, true) != SLM_OK)
            fail_msg("case %zu: %s", i, e.why.message);
        assert_int_equal(e.net.has_vision, cases[i].vision);
        expect_same_logits(&e);
        close_edited(&e);
    }
}

/* ------------------------------------------------------------------ the output matrix */

static void drop_head(struct folder *f) {
    drop_entry(f, "lm_head.weight");
}
static void change_head(struct folder *f) {
    own_data(entry_of(f, "lm_head.weight"))[77] ^= 1;
}

static void test_output(void **state) {
    (void)state;
    struct edited e;
    assert_int_equal(bind_edited(&e, "qwen3-0.6b", NULL, true),
                     SLM_OK); /* equal to the embedding: left aside */
    assert_ptr_equal(e.net.output.data, e.net.embed.data);
    close_edited(&e);
    assert_int_equal(bind_edited(&e, "qwen3-0.6b", drop_head, false), SLM_OK);
    assert_ptr_equal(e.net.output.data, e.net.embed.data);
    assert_int_equal(e.net.embed.layout, MATRIX_PANEL);
    close_edited(&e);
    assert_int_equal(bind_edited(&e, "qwen3-0.6b", change_head, true),
                     SLM_E_MISMATCH); /* tied, says config.json */
    assert_non_null(strstr(e.why.message, "lm_head.weight"));
    close_edited(&e);
}

/* Untied: the separate matrix is used, the embedding stays in the file; and it has to be there. */
static void test_untied(void **state) {
    (void)state;
    struct edited e;
    struct net_options o = { .kernels = kernels_pick(ISA_LEVEL_COUNT) };
    size_t n = 7 * 512;
    float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    assert_int_equal(bind_edited(&e, "qwen3-0.6b", NULL, true), SLM_OK);
    edited_logits(&e, a);
    net_free(&e.net);
    e.twin.facts.m.tied = false;
    struct entry *head = entry_of(&e.folder, "lm_head.weight");
    for (size_t i = 0, row = head->size / 512; i < 512; i++) /* rows in the opposite order */
        memcpy((uint8_t *)(uintptr_t)tensors_find(e.tensors, "lm_head.weight")->data +
                   (511 - i) * row,
               head->data + i * row, row);
    o.exact = true;
    o.pool = e.twin.pool;
    assert_int_equal(net_bind(&e.net, NULL, e.tensors, &e.twin.facts, &o, &e.why), SLM_OK);
    assert_ptr_not_equal(e.net.output.data, e.net.embed.data);
    edited_logits(&e, b);
    for (size_t i = 0; i < n; i++)
        assert_memory_equal(&a[i], &b[i / 512 * 512 + 511 - i % 512], sizeof *a);
    net_free(&e.net);
    o.exact = false;
    assert_int_equal(net_bind(&e.net, NULL, e.tensors, &e.twin.facts, &o, &e.why), SLM_OK);
    assert_int_equal(e.net.embed.layout, MATRIX_PLAIN);
    assert_int_equal(e.net.output.layout, MATRIX_PANEL);
    assert_true(e.net.mapped_bytes == matrix_bytes(&e.net.embed));
    close_edited(&e);
    assert_int_equal(bind_edited(&e, "qwen3-0.6b", drop_head, true), SLM_OK);
    net_free(&e.net);
    e.twin.facts.m.tied = false;
    assert_int_equal(net_bind(&e.net, NULL, e.tensors, &e.twin.facts, &o, &e.why), SLM_E_FORMAT);
    assert_non_null(strstr(e.why.message, "lm_head.weight"));
    close_edited(&e);
    free(a);
    free(b);
}

/* ------------------------------------------------------------------ lies */

static void lose_layer(struct folder *f) {
    drop_entry(f, "model.layers.2.mlp.up_proj.weight");
}
static void lose_norm(struct folder *f) {
    drop_entry(f, "model.layers.1.self_attn.q_norm.weight");
}
static void add_layer(struct folder *f) {
    struct entry *e = entry_of(f, "model.layers.0.mlp.up_proj.weight");
    add_entry(f, "model.layers.4.mlp.up_proj.weight", e->dtype, 2, e->dims[0], e->dims[1], e->data,
              e->size);
}
static void add_bias(struct folder *f) {
    static const uint8_t zeros[256];
    add_entry(f, "model.layers.0.self_attn.q_proj.bias", "BF16", 1, 128, 1, zeros, 256);
}
static void add_second_spelling(struct folder *f) {
    struct entry *e = entry_of(f, "model.norm.weight");
    add_entry(f, "language_model.model.norm.weight", e->dtype, 1, e->dims[0], 1, e->data, e->size);
}
static void transpose(struct folder *f) {
    struct entry *e = entry_of(f, "model.layers.0.self_attn.q_proj.weight");
    uint64_t d = e->dims[0];
    e->dims[0] = e->dims[1];
    e->dims[1] = d;
}
static void flatten(struct folder *f) {
    struct entry *e = entry_of(f, "model.layers.0.self_attn.o_proj.weight");
    e->dims[0] *= e->dims[1];
    e->n_dims = 1;
}
static void poison(struct folder *f, const char *name, size_t index, uint16_t value) {
    memcpy(own_data(entry_of(f, name)) + 2 * index, &value, 2);
}
static void put_nan(struct folder *f) {
    poison(f, "model.layers.1.input_layernorm.weight", 5, 0x7fc0);
}
static void put_infinity(struct folder *f) {
    poison(f, "model.norm.weight", 63, 0xff80);
}

static void test_lies(void **state) {
    (void)state;
    static const struct {
        edit_fn edit;
        slm_err err;
        const char *says[2];
    } cases[] = {
        { lose_layer, SLM_E_FORMAT, { "model.layers.2.mlp.up_proj.weight", "missing" } },
        { lose_norm, SLM_E_FORMAT, { "model.layers.1.self_attn.q_norm.weight", "missing" } },
        { add_layer, SLM_E_FORMAT, { "model.layers.4.mlp.up_proj.weight", "4 layers" } },
        { add_bias, SLM_E_FORMAT, { "q_proj.bias", "not part" } },
        { add_second_spelling, SLM_E_FORMAT, { "language_model.model.norm.weight", "not part" } },
        { add_vision,
          SLM_E_FORMAT,
          { "multi_modal_projector", "not part" } }, /* qwen3 has no tower */
        { transpose, SLM_E_FORMAT, { "[64, 128]", "[128, 64]" } },
        { flatten, SLM_E_FORMAT, { "[8192]", "[64, 128]" } },
        { put_nan, SLM_E_NUMERIC, { "model.layers.1.input_layernorm.weight", "NaN at index 5" } },
        { put_infinity, SLM_E_NUMERIC, { "model.norm.weight", "infinity at index 63" } },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct edited e;
        slm_err err = bind_edited(&e, "qwen3-0.6b", cases[i].edit, i % 2 == 0);
        if (err != cases[i].err || strstr(e.why.message, cases[i].says[0]) == NULL ||
            strstr(e.why.message, cases[i].says[1]) == NULL)
            fail_msg("case %zu: %s (%s)", i, err_name(err), err != SLM_OK ? e.why.message : "");
        close_edited(&e);
    }
}

/* ------------------------------------------------------------------ plans, memory, cancelling */

static bool stop_at_once(void *user, uint64_t done, uint64_t total) {
    (void)user;
    return done < total / 2;
}

static void test_cancel(void **state) {
    (void)state;
    struct twin t;
    twin_open(&t, "golden/smollm3-3b", kernels_pick(ISA_LEVEL_COUNT), true, 2);
    struct net net;
    struct net_options o = { .kernels = t.net.kernels, .pool = t.pool, .progress = stop_at_once };
    assert_int_equal(net_bind(&net, NULL, t.weights, &t.facts, &o, &t.why), SLM_E_CANCELLED);
    twin_close(&t);
}

/* Hooks that add up the bytes that are held. */
struct counter {
    size_t live;
};
static void *count_alloc(void *user, size_t n) {
    size_t *p = malloc(n + 64);
    struct counter *c = user;
    if (p == NULL)
        return NULL;
    *p = n;
    c->live += n;
    return (char *)p + 64;
}
static void count_release(void *user, void *p) {
    struct counter *c = user;
    if (p == NULL)
        return;
    c->live -= *(size_t *)(void *)((char *)p - 64);
    free((char *)p - 64);
}
static void *count_resize(void *user, void *p, size_t n) {
    void *q = count_alloc(user, n);
    if (p != NULL && q != NULL) {
        size_t old = *(size_t *)(void *)((char *)p - 64);
        memcpy(q, p, old < n ? old : n);
        count_release(user, p);
    }
    return q;
}

/* What a plan says is what gets allocated, up to the allocator's alignment and small tables. */
static void test_plan(void **state) {
    (void)state;
    static const char *const twins[] = { "gemma-3-270m-it", "smollm3-3b", "phi-4-mini-instruct",
                                         "qwen3-0.6b" };
    for (size_t i = 0; i < ARRAY_LEN(twins); i++) {
        struct counter counter = { 0 };
        struct slm_hooks h = { sizeof h, count_alloc, count_resize, count_release, NULL, &counter };
        struct twin t;
        struct plan p;
        struct net net;
        struct kv *kv;
        struct forward *f;
        char folder[64];
        snprintf(folder, sizeof folder, "golden/%s", twins[i]);
        twin_open(&t, folder, kernels_pick(ISA_LEVEL_COUNT), true, 2);
        struct plan_request r = {
            .context = 300, .sequences = 1, .chunk = 20, .logit_rows = 4, .kv = KV_F16, .threads = 2
        };
        OK(&t, plan_make(&t.facts, t.weights, t.net.kernels, &r, &p, &t.why));
        struct net_options o = { .kernels = t.net.kernels, .pool = t.pool };
        OK(&t, net_bind(&net, &h, t.weights, &t.facts, &o, &t.why));
        assert_true(net.packed_bytes == p.weights_packed && net.mapped_bytes == p.weights_file);
        assert_true(counter.live >= p.weights_packed &&
                    counter.live < p.weights_packed + 128 * 1024);
        size_t before = counter.live;
        OK(&t, kv_alone(&h, &t.facts.m, r.kv, r.context, r.chunk, &kv, &t.why));
        assert_true(counter.live - before >= p.kv && counter.live - before <= p.kv + 256);
        before = counter.live;
        OK(&t, forward_new(&h, &net, t.rope, t.pool, r.chunk, r.logit_rows, r.context, &f, &t.why));
        uint64_t logits = (uint64_t)r.logit_rows * t.facts.m.vocab * sizeof(float);
        assert_true(counter.live - before >= p.scratch - logits &&
                    counter.live - before <= p.scratch - logits + 256);
        assert_true(p.total == p.weights_file + p.weights_packed + p.kv + p.scratch + p.vocabulary);
        forward_free(f);
        kv_alone_free(kv);
        net_free(&net);
        assert_int_equal(counter.live, 0);
        r.sequences = 3;
        struct plan more;
        OK(&t, plan_make(&t.facts, t.weights, t.net.kernels, &r, &more, &t.why));
        assert_true(more.kv == 3 * p.kv);
        r.chunk = 0;
        assert_int_equal(plan_make(&t.facts, t.weights, t.net.kernels, &r, &more, &t.why),
                         SLM_E_ARG);
        twin_close(&t);
    }
}

/* Plans of the real models without a file: the tables alone, weights in bfloat16. */
static void test_plan_from_table(void **state) {
    (void)state;
    for (size_t i = 0; models_all[i] != NULL; i++) {
        const struct model *m = models_all[i];
        struct facts f;
        struct plan p, exact;
        slm_why why;
        struct plan_request r = { .context = m->context < 4096 ? m->context : 4096,
                                  .sequences = 1,
                                  .chunk = 256,
                                  .logit_rows = 1,
                                  .kv = KV_F16,
                                  .threads = 2 };
        facts_from_model(NULL, m, &f);
        if (plan_make(&f, NULL, kernels_pick(ISA_LEVEL_REF), &r, &p, &why) != SLM_OK)
            fail_msg("%s: %s", m->name, why.message);
        r.exact = true;
        assert_int_equal(plan_make(&f, NULL, kernels_pick(ISA_LEVEL_REF), &r, &exact, &why),
                         SLM_OK);
        uint64_t norms = 0, dims[2];
        for (unsigned s = 0; s < SLOT_COUNT; s++)
            if (s != SLOT_ROPE_LONG && s != SLOT_ROPE_SHORT &&
                slot_shape(m, (enum slot)s, dims) == 1)
                norms += dims[0] * (s >= SLOT_LAYER_FIRST ? m->layers : 1);
        assert_true(exact.weights_packed == 0 && exact.weights_file == 2 * (m->params - norms));
        assert_true(p.weights_packed >= exact.weights_file &&
                    p.weights_packed < exact.weights_file + exact.weights_file / 50);
        facts_free(&f);
    }
}

static void test_no_memory(void **state) {
    (void)state;
    static const char *const twins[] = { "golden/phi-4-mini-instruct", "golden/smollm3-3b" };
    for (size_t i = 0; i < ARRAY_LEN(twins); i++) {
        struct twin t;
        twin_open(&t, twins[i], kernels_pick(ISA_LEVEL_COUNT), true, 1);
        for (size_t k = 1;; k++) {
            struct test_hooks h;
            struct net net;
            struct kv *kv = NULL;
            struct forward *f = NULL;
            struct rope *r = NULL;
            struct net_options o = { .kernels = t.net.kernels, .pool = t.pool };
            test_hooks_init(&h, k);
            slm_err err = net_bind(&net, &h.hooks, t.weights, &t.facts, &o, &t.why);
            if (err == SLM_OK &&
                (err = kv_alone(&h.hooks, &t.facts.m, KV_F16, 64, 8, &kv, &t.why)) == SLM_OK &&
                (err = rope_new(&h.hooks, &t.facts.m, &r, &t.why)) == SLM_OK)
                err = forward_new(&h.hooks, &net, r, t.pool, 8, 1, 64, &f, &t.why);
            forward_free(f);
            rope_free(r);
            kv_alone_free(kv);
            net_free(&net);
            assert_int_equal(h.live, 0);
            if (!h.failed) {
                assert_int_equal(err, SLM_OK);
                break;
            }
            assert_int_equal(err, SLM_E_NOMEM);
        }
        twin_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings),       cmocka_unit_test(test_output),
        cmocka_unit_test(test_untied),          cmocka_unit_test(test_lies),
        cmocka_unit_test(test_cancel),          cmocka_unit_test(test_plan),
        cmocka_unit_test(test_plan_from_table), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
