/* test_models_tables.c - the table of models against itself and against the published numbers.
 *
 * Shapes and parameter counts are derived from each row and compared with the counts that the vendors
 * publish; with the reference folder, with every number of arch.json, config.json,
 * generation_config.json and special_tokens.json. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/net.h"
#include "support.h"

static const char *const seven[] = { "gemma-3-270m-it",        "qwen3-0.6b",    "smollm3-3b",
                                     "qwen3-4b-instruct-2507", "gemma-3-4b-it", "jan-v1-4b",
                                     "phi-4-mini-instruct" };

/* Published totals: text parts, a tied embedding counted once. */
static void test_parameters(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint64_t total, embedding;
    } published[] = {
        { "gemma-3-270m-it", 268098176, 167772160 },
        { "qwen3-0.6b", 596049920, 155582464 },
        { "smollm3-3b", 3075098624, 262668288 },
        { "qwen3-4b-instruct-2507", 4022468096, 388956160 },
        { "gemma-3-4b-it", 3880263168, 671252480 },
        { "jan-v1-4b", 4022468096, 388956160 },
        { "phi-4-mini-instruct", 3836021760, 614596608 },
        { "demo", 4984832, 655360 },
    };
    size_t rows = 0;
    while (models_all[rows] != NULL)
        rows++;
    assert_int_equal(rows, ARRAY_LEN(published));
    for (size_t i = 0; i < ARRAY_LEN(published); i++) {
        const struct model *m = model_by_name(published[i].name);
        assert_non_null(m);
        assert_int_equal(m->params, published[i].total);
        assert_int_equal(model_params(m), published[i].total);
        assert_int_equal((uint64_t)m->vocab * m->hidden, published[i].embedding);
    }
    assert_null(model_by_name("gpt-2"));
}

/* A row has to make sense on its own. */
static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; models_all[i] != NULL; i++) {
        const struct model *m = models_all[i];
        assert_non_null(m->family);
        assert_int_equal(m->heads % m->kv_heads, 0);
        assert_int_equal(m->rotary % 2, 0);
        assert_true(m->rotary <= m->head_dim);
        assert_true(m->vocab_used <= m->vocab && m->vocab_used > 0);
        assert_true(m->vocab_cut <= m->vocab);
        assert_true(m->stop[0] >= 0);
        size_t stops = 0;
        while (stops < MODEL_STOPS && m->stop[stops] >= 0)
            assert_true((uint32_t)m->stop[stops++] < m->vocab);
        assert_true(stops < MODEL_STOPS);
        assert_int_equal(m->bos >= 0, m->family->bos_text != NULL);
        assert_int_equal(m->family->sliding_pattern, strchr(m->pattern, 's') != NULL);
        assert_int_equal(m->window > 0, strchr(m->pattern, 's') != NULL);
        assert_int_equal(m->theta_sliding > 0, m->window > 0);
        assert_true(m->family->nope_layers || strchr(m->pattern, 'N') == NULL);
        assert_true(m->rope.kind != ROPE_LONG || m->family->long_rope);
        assert_non_null(m->card.title);
        assert_non_null(m->card.languages);
        assert_non_null(m->card.thinking);
        assert_non_null(m->card.tool_use);
        assert_non_null(m->card.good_at);
        for (size_t s = 0; s < MAX_SCORES && m->card.scores[s].benchmark != NULL; s++) {
            assert_non_null(m->card.scores[s].source);
            assert_true(m->card.scores[s].value > 0 && m->card.scores[s].value < 100);
        }
        for (size_t f = 0; f < MAX_HUB_FILES && m->card.files[f].repo != NULL; f++) {
            assert_non_null(m->card.files[f].quant);
            assert_non_null(strchr(m->card.files[f].repo, '/'));
        }
        if (m->card.hub_id != NULL) {
            assert_string_equal(m->card.files[0].repo, m->card.hub_id);
            assert_non_null(m->card.licence);
            assert_non_null(m->card.licence_url);
        }
    }
}

/* Layer kinds of the three patterns, by number. */
static void test_layer_kinds(void **state) {
    (void)state;
    const struct model *small = model_by_name("gemma-3-270m-it"),
                       *big = model_by_name("gemma-3-4b-it");
    const struct model *smol = model_by_name("smollm3-3b");
    for (uint32_t i = 0; i < small->layers; i++)
        assert_int_equal(pattern_at(small->pattern, i), i == 5 || i == 11 || i == 17 ? 'F' : 's');
    for (uint32_t i = 0; i < big->layers; i++)
        assert_int_equal(pattern_at(big->pattern, i), (i + 1) % 6 == 0 ? 'F' : 's');
    for (uint32_t i = 30; i < 34; i++)
        assert_int_equal(pattern_at(big->pattern, i), 's');
    unsigned nope = 0;
    for (uint32_t i = 0; i < smol->layers; i++)
        nope += pattern_at(smol->pattern, i) == 'N';
    assert_int_equal(nope, 9);
    assert_int_equal(pattern_at(smol->pattern, 0), 'F');
    assert_int_equal(pattern_at(smol->pattern, 3), 'N');
    assert_int_equal(pattern_at(smol->pattern, 35), 'N');
}

/* Shapes that a careless formula gets wrong. */
static void test_shapes(void **state) {
    (void)state;
    static const struct {
        const char *model;
        enum slot slot;
        uint64_t rows, cols; /* cols 0: a vector */
    } shapes[] = {
        { "qwen3-0.6b", SLOT_Q, 2048, 1024 },
        { "qwen3-0.6b", SLOT_O, 1024, 2048 },
        { "qwen3-4b-instruct-2507", SLOT_Q, 4096, 2560 },
        { "qwen3-4b-instruct-2507", SLOT_K, 1024, 2560 },
        { "gemma-3-270m-it", SLOT_Q, 1024, 640 },
        { "gemma-3-270m-it", SLOT_V, 256, 640 },
        { "gemma-3-4b-it", SLOT_O, 2560, 2048 },
        { "gemma-3-4b-it", SLOT_POST_FFN_NORM, 2560, 0 },
        { "smollm3-3b", SLOT_DOWN, 2048, 11008 },
        { "phi-4-mini-instruct", SLOT_QKV, 5120, 3072 },
        { "phi-4-mini-instruct", SLOT_GATE_UP, 16384, 3072 },
        { "phi-4-mini-instruct", SLOT_ROPE_LONG, 48, 0 },
        { "jan-v1-4b", SLOT_Q_NORM, 128, 0 },
        { "gemma-3-4b-it", SLOT_K_NORM, 256, 0 },
    };
    uint64_t dims[2];
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        assert_int_equal(slot_shape(model_by_name(shapes[i].model), shapes[i].slot, dims),
                         shapes[i].cols > 0 ? 2 : 1);
        assert_int_equal(dims[0], shapes[i].rows);
        assert_int_equal(dims[1], shapes[i].cols > 0 ? shapes[i].cols : 1);
    }
    static const struct {
        const char *model;
        enum slot slot;
    } absent[] = { { "qwen3-0.6b", SLOT_QKV },
                   { "phi-4-mini-instruct", SLOT_Q },
                   { "smollm3-3b", SLOT_Q_NORM },
                   { "qwen3-0.6b", SLOT_OUTPUT },
                   { "qwen3-0.6b", SLOT_POST_ATTN_NORM },
                   { "phi-4-mini-instruct", SLOT_GATE } };
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        assert_int_equal(slot_shape(model_by_name(absent[i].model), absent[i].slot, dims), 0);
}

/* ------------------------------------------------------------------ against the reference folder */

static json_t *load(const char *model, const char *file) {
    char rel[128], path[1024];
    json_error_t error;
    snprintf(rel, sizeof rel, "models/%s/%s", model, file);
    if (ref_path(path, sizeof path, rel) == NULL)
        return NULL;
    json_t *j = json_load_file(path, 0, &error);
    assert_non_null(j);
    return j;
}

static double at(const json_t *j, const char *a, const char *b) {
    const json_t *v = json_object_get(j, a);
    if (b != NULL)
        v = json_object_get(v, b);
    if (!json_is_number(v) && !json_is_boolean(v))
        fail_msg("no number at %s %s", a, b != NULL ? b : "");
    return json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
}

static void check_rope(const struct model *m, const json_t *a) {
    const json_t *rope = json_object_get(a, "rope");
    assert_int_equal(m->rotary, at(rope, "rotary_dim", NULL));
    if (m->window > 0) {
        assert_true((double)m->theta == at(rope, "theta_full_layers", NULL));
        assert_true((double)m->theta_sliding == at(rope, "theta_sliding_layers", NULL));
        assert_true((double)(m->rope.kind == ROPE_LINEAR ? m->rope.factor : 1.0f) ==
                    at(rope, "linear_scaling_full_layers", NULL));
        assert_true(at(rope, "linear_scaling_sliding_layers", NULL) == 1.0);
    } else {
        assert_true((double)m->theta == at(rope, "theta", NULL));
    }
    if (m->rope.kind == ROPE_LONG) {
        assert_int_equal(m->rope.original_context,
                         at(rope, "original_max_position_embeddings", NULL));
        assert_true(fabs((double)m->rope.attention_factor - at(rope, "attention_factor", NULL)) <
                    1e-7);
    }
}

static void check_kinds(const struct model *m, const json_t *a) {
    const json_t *pattern = json_object_get(a, "attn_pattern"),
                 *flags = json_object_get(json_object_get(a, "rope"), "rope_layers");
    for (uint32_t i = 0; i < m->layers; i++) {
        char kind = pattern_at(m->pattern, i);
        if (json_is_array(pattern))
            assert_int_equal(kind == 's',
                             strcmp(json_string_value(json_array_get(pattern, i)), "sliding") == 0);
        else
            assert_int_not_equal(kind, 's');
        if (json_is_array(flags))
            assert_int_equal(kind == 'N', json_integer_value(json_array_get(flags, i)) == 0);
    }
}

static void check_cache(const struct model *m, const json_t *a) {
    const json_t *kv = json_object_get(a, "kv_bytes_per_token_f16");
    uint64_t per_layer = kv_row_bytes(KV_F16, m->head_dim) * m->kv_heads * 2, growing = 0,
             fixed = 0;
    for (uint32_t i = 0; i < m->layers; i++)
        *(pattern_at(m->pattern, i) == 's' ? &fixed : &growing) += per_layer;
    assert_int_equal(per_layer, at(kv, "per_layer", NULL));
    assert_int_equal(growing,
                     at(kv, m->window > 0 ? "full_context_part_per_token" : "total", NULL));
    if (m->window > 0)
        assert_int_equal(fixed * m->window, at(kv, "sliding_part_fixed_bytes", NULL));
}

static void check_stops(const struct model *m, const json_t *a) {
    const json_t *list = json_object_get(a, "stop_ids");
    size_t n = 0;
    while (m->stop[n] >= 0)
        n++;
    assert_int_equal(n, json_array_size(list));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(m->stop[i], json_integer_value(json_array_get(list, i)));
    assert_int_equal(m->bos >= 0, json_is_true(json_object_get(a, "add_bos")));
    if (m->bos >= 0)
        assert_int_equal(m->bos, at(a, "bos_id", NULL));
}

static void check_tensor_names(const struct model *m, const json_t *a);

static void test_arch(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seven); i++) {
        const struct model *m = model_by_name(seven[i]);
        json_t *a = load(seven[i], "arch.json");
        if (a == NULL)
            skip();
        assert_int_equal(m->layers, at(a, "n_layers", NULL));
        assert_int_equal(m->hidden, at(a, "hidden", NULL));
        assert_int_equal(m->heads, at(a, "n_heads", NULL));
        assert_int_equal(m->kv_heads, at(a, "n_kv_heads", NULL));
        assert_int_equal(m->head_dim, at(a, "head_dim", NULL));
        assert_int_equal(m->ffn, at(a, "ffn", NULL));
        assert_int_equal(m->vocab, at(a, "vocab_rows", NULL));
        assert_int_equal(m->context, at(a, "max_context", NULL));
        assert_int_equal(m->tied, at(a, "tie_embeddings", NULL));
        assert_true(m->eps == (float)at(a, "norm", "eps"));
        assert_int_equal(m->family->norm_plus_one, at(a, "norm", "weight_is_1_plus_w"));
        assert_int_equal(m->family->qk_norm, at(a, "qk_norm", "present"));
        assert_true(fabs((double)model_attn_scale(m) - at(a, "attn_scale", NULL)) < 1e-8);
        if (json_object_get(a, "vocab_used") != NULL)
            assert_int_equal(m->vocab_used, at(a, "vocab_used", NULL));
        if (m->window > 0)
            assert_int_equal(m->window, at(a, "sliding_window", NULL));
        if (m->family->embed_scale_sqrt)
            assert_true(fabs(sqrt((double)m->hidden) - at(a, "embed_scale_exact", NULL)) < 1e-12);
        const json_t *params = json_object_get(a, "params");
        assert_int_equal(
            m->params,
            at(params, json_object_get(params, "total") != NULL ? "total" : "text_total", NULL));
        check_rope(m, a);
        check_kinds(m, a);
        check_cache(m, a);
        check_stops(m, a);
        check_tensor_names(m, a);
        json_decref(a);
    }
}

/* The name of each role in arch.json is among those of the slot. */
static void check_tensor_names(const struct model *m, const json_t *a) {
    static const struct {
        const char *role;
        enum slot slot;
    } roles[] = {
        { "embed", SLOT_EMBED },
        { "final_norm", SLOT_FINAL_NORM },
        { "input_norm", SLOT_ATTN_NORM },
        { "q", SLOT_Q },
        { "k", SLOT_K },
        { "v", SLOT_V },
        { "qkv_fused", SLOT_QKV },
        { "q_norm", SLOT_Q_NORM },
        { "k_norm", SLOT_K_NORM },
        { "o", SLOT_O },
        { "post_attn_norm", SLOT_POST_ATTN_NORM },
        { "ffn_norm", SLOT_FFN_NORM },
        { "pre_ffn_norm", SLOT_FFN_NORM },
        { "gate", SLOT_GATE },
        { "up", SLOT_UP },
        { "gate_up_fused", SLOT_GATE_UP },
        { "down", SLOT_DOWN },
        { "post_ffn_norm", SLOT_POST_FFN_NORM },
    };
    const char *role;
    json_t *value;
    json_object_foreach(json_object_get(a, "tensors_hf"), role, value) {
        char want[SLOT_NAME], have[SLOT_NAME];
        const char *text = json_string_value(value), *x = strstr(text, ".x.");
        size_t end = strcspn(text, " ");
        bool found = false;
        if (x != NULL)
            snprintf(want, sizeof want, "%.*s.7.%.*s", (int)(x - text), text,
                     (int)(end - (size_t)(x - text) - 3), x + 3);
        else
            snprintf(want, sizeof want, "%.*s", (int)end, text);
        for (size_t r = 0; r < ARRAY_LEN(roles); r++)
            for (size_t n = 0; strcmp(roles[r].role, role) == 0 && n < NAME_ALIASES; n++)
                if (m->family->hf_names[roles[r].slot][n] != NULL) {
                    slot_name(m->family->hf_names[roles[r].slot][n], 7, have);
                    found = found || strcmp(want, have) == 0;
                }
        if (!found)
            fail_msg("%s: '%s' is no name of role %s", m->name, want, role);
    }
}

static void test_factors(void **state) {
    (void)state;
    const struct model *m = model_by_name("phi-4-mini-instruct");
    json_t *c = load(m->name, "config.json");
    if (c == NULL)
        skip();
    const json_t *scaling = json_object_get(c, "rope_scaling");
    const json_t *lists[] = { json_object_get(scaling, "short_factor"),
                              json_object_get(scaling, "long_factor") };
    const float *mine[] = { m->rope.short_factors, m->rope.long_factors };
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(json_array_size(lists[k]), 48);
        for (size_t i = 0; i < 48; i++)
            assert_true(mine[k][i] == (float)json_number_value(json_array_get(lists[k], i)));
    }
    json_decref(c);
}

static void test_sampling(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seven); i++) {
        const struct model *m = model_by_name(seven[i]);
        json_t *g = load(seven[i], "generation_config.json");
        const json_t *v;
        if (g == NULL)
            skip();
        assert_int_equal(m->sampling.sample, json_is_true(json_object_get(g, "do_sample")));
        if ((v = json_object_get(g, "temperature")) != NULL)
            assert_true(m->sampling.temperature == (float)json_number_value(v));
        else if (m->sampling.sample)
            assert_true(m->sampling.temperature == 1.0f);
        if ((v = json_object_get(g, "top_p")) != NULL)
            assert_true(m->sampling.top_p == (float)json_number_value(v));
        if ((v = json_object_get(g, "top_k")) != NULL)
            assert_int_equal(m->sampling.top_k, json_integer_value(v));
        json_decref(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters),  cmocka_unit_test(test_rows),
        cmocka_unit_test(test_layer_kinds), cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_arch),        cmocka_unit_test(test_factors),
        cmocka_unit_test(test_sampling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
