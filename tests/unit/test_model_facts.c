/* test_model_facts.c - config.json and GGUF metadata -> facts: verified, derived, altered, refused.
 *
 * Configurations of the known models are written here from the table, then one field is changed at a
 * time. The vendors' own files are read where the reference folder is. */
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

#include "model/net.h"
#include "support.h"

static const char *const seven[] = { "gemma-3-270m-it",        "qwen3-0.6b",    "smollm3-3b",
                                     "qwen3-4b-instruct-2507", "gemma-3-4b-it", "jan-v1-4b",
                                     "phi-4-mini-instruct" };

/* ------------------------------------------------------------------ configurations */

static json_t *factor_list(const float *f, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_real((double)f[i]));
    return list;
}

/* config.json as the vendor's library would save it for a row of the table. */
static json_t *config_of(const struct model *m) {
    const struct family *f = m->family;
    const char *type = f->model_type_text != NULL ? f->model_type_text : f->model_type;
    json_t *c = json_pack(
        "{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:n, s:i}",
        "model_type", type, "architectures", f->hf_classes[0], "num_hidden_layers", (int)m->layers,
        "hidden_size", (int)m->hidden, "num_attention_heads", (int)m->heads, "num_key_value_heads",
        (int)m->kv_heads, "head_dim", (int)m->head_dim, "intermediate_size", (int)m->ffn,
        "vocab_size", (int)m->vocab, "max_position_embeddings", (int)m->context, "rms_norm_eps",
        m->eps == 1e-5f ? 1e-5 : 1e-6, "rope_theta", (double)m->theta, "tie_word_embeddings",
        (int)m->tied, "rope_scaling", "eos_token_id", (int)m->stop[0]);
    assert_non_null(c);
    json_object_set_new(
        c, f->activation == ACTIVATION_SILU ? "hidden_act" : "hidden_activation",
        json_string(f->activation == ACTIVATION_SILU ? "silu" : "gelu_pytorch_tanh"));
    if (f->sliding_pattern) {
        json_object_set_new(c, "sliding_window", json_integer(m->window));
        json_object_set_new(c, "rope_local_base_freq", json_real((double)m->theta_sliding));
    }
    if (m->rope.kind == ROPE_LINEAR)
        json_object_set_new(
            c, "rope_scaling",
            json_pack("{s:s, s:f}", "rope_type", "linear", "factor", (double)m->rope.factor));
    if (m->rope.kind == ROPE_LONG) {
        json_object_set_new(c, "original_max_position_embeddings",
                            json_integer(m->rope.original_context));
        json_object_set_new(c, "partial_rotary_factor", json_real((double)m->rotary / m->head_dim));
        json_object_set_new(c, "rope_scaling",
                            json_pack("{s:s, s:o, s:o}", "type", "longrope", "short_factor",
                                      factor_list(m->rope.short_factors, m->rotary / 2),
                                      "long_factor",
                                      factor_list(m->rope.long_factors, m->rotary / 2)));
    }
    return c;
}

/* The config is consumed. */
static slm_err read_config(json_t *config, const char *generation, const char *hint,
                           struct facts *f, slm_why *why) {
    char *text = json_dumps(config, 0);
    json_decref(config);
    slm_err err = facts_from_config(NULL, text, strlen(text), generation,
                                    generation != NULL ? strlen(generation) : 0, hint, f, why);
    free(text);
    return err;
}

static void test_known_models(void **state) {
    (void)state;
    for (size_t i = 0; models_all[i] != NULL; i++) {
        struct facts f;
        slm_why why;
        const struct model *m = models_all[i];
        if (read_config(config_of(m), NULL, m->name, &f, &why) != SLM_OK)
            fail_msg("%s: %s", m->name, why.message);
        assert_ptr_equal(f.known, m);
        assert_int_equal(f.trust, TRUST_VERIFIED);
        assert_string_equal(f.m.name, m->name);
        assert_int_equal(f.m.params, m->params);
        facts_free(&f);
    }
}

/* Two rows with equal numbers: the name decides, and without one the row that needs none. */
static void test_equal_numbers(void **state) {
    (void)state;
    static const struct {
        const char *path, *hint, *want;
    } cases[] = {
        { NULL, NULL, "qwen3-4b-instruct-2507" },
        { NULL, "jan-v1-4b", "jan-v1-4b" },
        { NULL, "Jan-v1-4B-Q4_K_M", "jan-v1-4b" },
        { "janhq/Jan-v1-4B", NULL, "jan-v1-4b" },
        { "Qwen/Qwen3-4B-Instruct-2507", "whatever", "qwen3-4b-instruct-2507" },
        { NULL, "my-janitor", "qwen3-4b-instruct-2507" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct facts f;
        slm_why why;
        json_t *c = config_of(model_by_name("jan-v1-4b"));
        if (cases[i].path != NULL)
            json_object_set_new(c, "_name_or_path", json_string(cases[i].path));
        assert_int_equal(read_config(c, NULL, cases[i].hint, &f, &why), SLM_OK);
        assert_string_equal(f.known->name, cases[i].want);
        assert_int_equal(f.m.think,
                         strcmp(cases[i].want, "jan-v1-4b") == 0 ? THINK_ALWAYS : THINK_NONE);
        facts_free(&f);
    }
}

/* ------------------------------------------------------------------ one field changed */

/* value: JSON text; NULL deletes the key. */
static slm_err with_field(const char *model, const char *key, const char *value, struct facts *f,
                          slm_why *why) {
    json_t *c = config_of(model_by_name(model));
    if (value == NULL)
        json_object_del(c, key);
    else
        json_object_set_new(c, key, json_loads(value, JSON_DECODE_ANY, NULL));
    return read_config(c, NULL, NULL, f, why);
}

struct change {
    const char *model, *key, *value;
    slm_err err;
    const char *says[2]; /* in the message */
};

static void expect(const struct change *c) {
    struct facts f;
    slm_why why = { 0 };
    slm_err err = with_field(c->model, c->key, c->value, &f, &why);
    if (err != c->err)
        fail_msg("%s with %s = %s: %s (%s), expected %s", c->model, c->key, c->value, err_name(err),
                 why.message, err_name(c->err));
    for (size_t i = 0; err != SLM_OK && i < 2; i++)
        if (c->says[i] != NULL && strstr(why.message, c->says[i]) == NULL)
            fail_msg("%s with %s = %s: '%s' does not say '%s'", c->model, c->key, c->value,
                     why.message, c->says[i]);
    if (err == SLM_OK) {
        assert_int_equal(f.trust, c->says[0] == NULL ? TRUST_DERIVED : TRUST_VERIFIED);
        facts_free(&f);
    }
}

static void test_altered(void **state) {
    (void)state;
    static const struct change changes[] = {
        { "qwen3-0.6b", "rope_theta", "5000000", SLM_E_MISMATCH, { "5000000", "1000000" } },
        { "qwen3-4b-instruct-2507",
          "rope_theta",
          "1000000",
          SLM_E_MISMATCH,
          { "rope base", "qwen3-4b-instruct-2507" } },
        { "qwen3-0.6b", "rms_norm_eps", "1e-5", SLM_E_MISMATCH, { "epsilon", "qwen3-0.6b" } },
        { "qwen3-0.6b", "head_dim", "64", SLM_E_MISMATCH, { "64", "128" } },
        { "qwen3-0.6b", "num_key_value_heads", "16", SLM_E_MISMATCH, { "16", "8" } },
        { "gemma-3-270m-it", "rms_norm_eps", "1e-5", SLM_E_MISMATCH, { "epsilon", NULL } },
        { "gemma-3-4b-it", "rms_norm_eps", "1e-5", SLM_E_MISMATCH, { "epsilon", NULL } },
        { "gemma-3-4b-it", "rope_scaling", "null", SLM_E_MISMATCH, { "rope scaling", NULL } },
        { "gemma-3-4b-it",
          "rope_scaling",
          "{\"rope_type\":\"linear\",\"factor\":4}",
          SLM_E_MISMATCH,
          { "4", "8" } },
        { "gemma-3-270m-it", "sliding_window", "1024", SLM_E_MISMATCH, { "1024", "512" } },
        { "gemma-3-270m-it",
          "rope_local_base_freq",
          "1000000",
          SLM_E_MISMATCH,
          { "sliding", NULL } },
        { "gemma-3-270m-it",
          "query_pre_attn_scalar",
          "160",
          SLM_E_MISMATCH,
          { "attention scale", NULL } },
        { "gemma-3-270m-it",
          "sliding_window_pattern",
          "5",
          SLM_E_MISMATCH,
          { "kind of a layer", NULL } },
        { "smollm3-3b",
          "no_rope_layer_interval",
          "3",
          SLM_E_MISMATCH,
          { "kind of a layer", NULL } },
        { "smollm3-3b", "rope_theta", NULL, SLM_E_MISMATCH, { "2000000", "5000000" } },
        { "phi-4-mini-instruct",
          "partial_rotary_factor",
          NULL,
          SLM_E_FORMAT,
          { "short_factor", "128" } },
        { "phi-4-mini-instruct", "rms_norm_eps", "1e-6", SLM_E_MISMATCH, { "epsilon", NULL } },
        { "phi-4-mini-instruct",
          "original_max_position_embeddings",
          "8192",
          SLM_E_MISMATCH,
          { "8192", "4096" } },
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        expect(&changes[i]);
}

/* Other numbers make another model, not an altered one; what may differ leaves it verified. */
static void test_other(void **state) {
    (void)state;
    static const struct change changes[] = {
        { "qwen3-0.6b", "num_hidden_layers", "20", SLM_OK, { NULL, NULL } },
        { "qwen3-0.6b", "vocab_size", "151000", SLM_E_FORMAT, { "stop id 151645", NULL } },
        { "qwen3-0.6b", "max_position_embeddings", "32768", SLM_OK, { NULL, NULL } },
        { "gemma-3-270m-it", "hidden_size", "1152", SLM_OK, { NULL, NULL } },
        { "qwen3-0.6b", "eos_token_id", "[151643]", SLM_OK, { "verified", NULL } },
        { "qwen3-0.6b", "transformers_version", "\"9.9\"", SLM_OK, { "verified", NULL } },
        { "qwen3-0.6b",
          "rope_scaling",
          "{\"rope_type\":\"default\"}",
          SLM_OK,
          { "verified", NULL } },
        { "phi-4-mini-instruct", "sliding_window", "262144", SLM_OK, { "verified", NULL } },
        { "gemma-3-270m-it", "rope_local_base_freq", NULL, SLM_OK, { "verified", NULL } },
        { "gemma-3-270m-it", "query_pre_attn_scalar", "256", SLM_OK, { "verified", NULL } },
        { "qwen3-0.6b",
          "head_dim",
          NULL,
          SLM_OK,
          { "verified", NULL } }, /* the class's default is 128 */
        { "smollm3-3b", "head_dim", NULL, SLM_OK, { "verified", NULL } }, /* hidden / heads */
        { "gemma-3-270m-it", "head_dim", NULL, SLM_OK, { "verified", NULL } },
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        expect(&changes[i]);
}

/* The base model of a known one bears its name and computes the same, in a shorter context. */
static void test_sister(void **state) {
    (void)state;
    struct facts f;
    slm_why why;
    json_t *c = config_of(model_by_name("qwen3-0.6b"));
    json_object_set_new(c, "max_position_embeddings", json_integer(32768));
    assert_int_equal(read_config(c, NULL, "Qwen3-0.6B-Base", &f, &why), SLM_OK);
    assert_int_equal(f.trust, TRUST_DERIVED);
    assert_null(f.known);
    assert_string_equal(f.m.name, "Qwen3-0.6B-Base");
    assert_int_equal(f.m.context, 32768);
    facts_free(&f);
    c = config_of(model_by_name("qwen3-0.6b"));
    json_object_set_new(c, "max_position_embeddings", json_integer(32768));
    json_object_set_new(c, "rope_theta", json_real(1e4));
    assert_int_equal(read_config(c, NULL, "Qwen3-0.6B-Base", &f, &why), SLM_E_MISMATCH);
}

static void test_refused(void **state) {
    (void)state;
    static const struct change changes[] = {
        { "qwen3-0.6b", "attention_bias", "true", SLM_E_UNSUPPORTED, { "attention_bias", NULL } },
        { "smollm3-3b", "mlp_bias", "true", SLM_E_UNSUPPORTED, { "mlp_bias", NULL } },
        { "phi-4-mini-instruct",
          "lm_head_bias",
          "true",
          SLM_E_UNSUPPORTED,
          { "lm_head_bias", NULL } },
        { "qwen3-0.6b",
          "use_sliding_window",
          "true",
          SLM_E_UNSUPPORTED,
          { "use_sliding_window", NULL } },
        { "gemma-3-270m-it",
          "use_bidirectional_attention",
          "true",
          SLM_E_UNSUPPORTED,
          { "use_bidirectional", NULL } },
        { "gemma-3-270m-it",
          "attn_logit_softcapping",
          "50.0",
          SLM_E_UNSUPPORTED,
          { "attn_logit_softcapping", NULL } },
        { "gemma-3-270m-it",
          "final_logit_softcapping",
          "30.0",
          SLM_E_UNSUPPORTED,
          { "final_logit_softcapping", NULL } },
        { "qwen3-0.6b",
          "quantization_config",
          "{\"quant_method\":\"awq\"}",
          SLM_E_UNSUPPORTED,
          { "quantization_config", NULL } },
        { "qwen3-0.6b", "hidden_act", "\"gelu\"", SLM_E_UNSUPPORTED, { "hidden_act", "gelu" } },
        { "gemma-3-270m-it",
          "hidden_activation",
          "\"gelu\"",
          SLM_E_UNSUPPORTED,
          { "gelu_pytorch_tanh", NULL } },
        { "qwen3-0.6b",
          "rope_scaling",
          "{\"rope_type\":\"yarn\",\"factor\":4.0}",
          SLM_E_UNSUPPORTED,
          { "yarn", NULL } },
        { "smollm3-3b",
          "rope_scaling",
          "{\"type\":\"dynamic\",\"factor\":2.0}",
          SLM_E_UNSUPPORTED,
          { "dynamic", NULL } },
        { "qwen3-0.6b",
          "rope_scaling",
          "{\"rope_type\":\"linear\",\"factor\":2.0,\"beta\":1}",
          SLM_E_UNSUPPORTED,
          { "beta", NULL } },
        { "qwen3-0.6b",
          "partial_rotary_factor",
          "0.5",
          SLM_E_UNSUPPORTED,
          { "partial_rotary_factor", NULL } },
        { "qwen3-0.6b",
          "model_type",
          "\"llama\"",
          SLM_E_UNSUPPORTED,
          { "llama", "gemma3, qwen3, smollm3, phi3" } },
        { "qwen3-0.6b",
          "architectures",
          "[\"Qwen3ForSequenceClassification\"]",
          SLM_E_UNSUPPORTED,
          { "Qwen3ForSeq", NULL } },
        { "qwen3-0.6b",
          "layer_types",
          "[\"full_attention\"]",
          SLM_E_FORMAT,
          { "1 entries", "28" } },
        { "phi-4-mini-instruct", "sliding_window", "2047", SLM_E_UNSUPPORTED, { "2047", NULL } },
        { "smollm3-3b", "no_rope_layers", "[1, 1, 1, 0]", SLM_E_FORMAT, { "4 entries", "36" } },
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        expect(&changes[i]);
}

static void test_malformed(void **state) {
    (void)state;
    static const struct change changes[] = {
        { "qwen3-0.6b", "hidden_size", NULL, SLM_E_FORMAT, { "hidden_size", NULL } },
        { "qwen3-0.6b", "hidden_size", "\"big\"", SLM_E_FORMAT, { "hidden_size", NULL } },
        { "qwen3-0.6b", "hidden_size", "-1", SLM_E_FORMAT, { "hidden_size", NULL } },
        { "qwen3-0.6b", "num_attention_heads", "0", SLM_E_FORMAT, { "heads is 0", NULL } },
        { "qwen3-0.6b", "num_key_value_heads", "0", SLM_E_FORMAT, { "kv heads is 0", NULL } },
        { "qwen3-0.6b", "num_key_value_heads", "3", SLM_E_FORMAT, { "3 kv heads", NULL } },
        { "qwen3-0.6b", "num_hidden_layers", "4000000000", SLM_E_FORMAT, { "4000000000", NULL } },
        { "qwen3-0.6b", "num_hidden_layers", "0", SLM_E_FORMAT, { "layers is 0", NULL } },
        { "qwen3-0.6b", "vocab_size", "4294967295", SLM_E_FORMAT, { "vocabulary", NULL } },
        { "qwen3-0.6b", "head_dim", "127", SLM_E_FORMAT, { "127", NULL } },
        { "qwen3-0.6b", "rms_norm_eps", "0", SLM_E_FORMAT, { "epsilon", NULL } },
        { "qwen3-0.6b", "rope_theta", "-1", SLM_E_FORMAT, { "rope base", NULL } },
        { "qwen3-0.6b", "eos_token_id", "-3", SLM_E_FORMAT, { "-3", NULL } },
        { "qwen3-0.6b", "eos_token_id", "\"x\"", SLM_E_FORMAT, { "eos_token_id", NULL } },
        { "qwen3-0.6b",
          "eos_token_id",
          "[1,2,3,4,5,6,7,8]",
          SLM_E_FORMAT,
          { "more than 7", NULL } },
        { "qwen3-0.6b", "model_type", NULL, SLM_E_FORMAT, { "model_type", NULL } },
        { "gemma-3-270m-it", "sliding_window", "0", SLM_E_FORMAT, { "window is 0", NULL } },
        { "gemma-3-270m-it",
          "sliding_window_pattern",
          "0",
          SLM_E_FORMAT,
          { "sliding_window_pattern", NULL } },
        { "gemma-3-270m-it",
          "query_pre_attn_scalar",
          "0",
          SLM_E_FORMAT,
          { "query_pre_attn_scalar", NULL } },
        { "gemma-3-270m-it", "bos_token_id", "262144", SLM_E_FORMAT, { "bos_token_id", NULL } },
        { "smollm3-3b", "no_rope_layer_interval", "0", SLM_E_FORMAT, { "interval", NULL } },
        { "phi-4-mini-instruct",
          "original_max_position_embeddings",
          NULL,
          SLM_E_FORMAT,
          { "original_max", NULL } },
        { "phi-4-mini-instruct",
          "rope_scaling",
          "{\"type\":\"longrope\",\"short_factor\":[1.0],\"long_factor\":[1.0]}",
          SLM_E_FORMAT,
          { "1 entries", NULL } },
        { "phi-4-mini-instruct", "partial_rotary_factor", "1.5", SLM_E_FORMAT, { "1.5", NULL } },
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        expect(&changes[i]);
    struct facts f;
    slm_why why;
    assert_int_equal(facts_from_config(NULL, "{", 1, NULL, 0, NULL, &f, &why), SLM_E_FORMAT);
    assert_int_equal(facts_from_config(NULL, "[]", 2, NULL, 0, NULL, &f, &why), SLM_E_FORMAT);
    assert_int_equal(read_config(config_of(model_by_name("qwen3-0.6b")), "[1]", NULL, &f, &why),
                     SLM_E_FORMAT);
    assert_int_equal(
        read_config(config_of(model_by_name("qwen3-0.6b")), "{\"temperature\":-1}", NULL, &f, &why),
        SLM_E_FORMAT);
}

/* ------------------------------------------------------------------ forms of the same thing */

/* Version 5 of the library: rope_parameters, flat or per kind of layer. */
static void test_rope_parameters(void **state) {
    (void)state;
    struct facts f;
    slm_why why;
    json_t *c = config_of(model_by_name("qwen3-0.6b"));
    json_object_del(c, "rope_theta");
    json_object_del(c, "rope_scaling");
    json_object_set_new(c, "rope_parameters",
                        json_pack("{s:s, s:f}", "rope_type", "default", "rope_theta", 1e6));
    assert_int_equal(read_config(c, NULL, NULL, &f, &why), SLM_OK);
    assert_string_equal(f.known->name, "qwen3-0.6b");
    facts_free(&f);

    c = config_of(model_by_name("gemma-3-4b-it"));
    json_object_del(c, "rope_theta");
    json_object_del(c, "rope_scaling");
    json_object_del(c, "rope_local_base_freq");
    json_object_set_new(c, "rope_parameters",
                        json_pack("{s:{s:s, s:f, s:f}, s:{s:s, s:f}}", "full_attention",
                                  "rope_type", "linear", "factor", 8.0, "rope_theta", 1e6,
                                  "sliding_attention", "rope_type", "default", "rope_theta", 1e4));
    assert_int_equal(read_config(c, NULL, NULL, &f, &why), SLM_OK);
    assert_string_equal(f.known->name, "gemma-3-4b-it");
    facts_free(&f);
}

/* The sparse form with an image tower: everything that is missing is the class's default. */
static void test_nested(void **state) {
    (void)state;
    static const char text[] =
        "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\",\"eos_"
        "token_id\":[1,106],"
        "\"text_config\":{\"hidden_size\":2560,\"intermediate_size\":10240,\"model_type\":\"gemma3_"
        "text\",\"num_hidden_layers\":34,"
        "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"sliding_window\":1024},"
        "\"vision_config\":{\"hidden_size\":1152,\"image_size\":896,\"intermediate_size\":4304,"
        "\"num_attention_heads\":16,\"num_hidden_layers\":27,\"patch_size\":14}}";
    struct facts f;
    slm_why why;
    assert_int_equal(facts_from_config(NULL, text, strlen(text), NULL, 0, NULL, &f, &why), SLM_OK);
    assert_int_equal(f.m.vision.layers, 27);
    assert_int_equal(f.m.vision.tokens, 256);
    assert_string_equal(f.known->name, "gemma-3-4b-it");
    assert_int_equal(f.trust, TRUST_VERIFIED);
    assert_true(f.has_vision);
    assert_int_equal(f.m.heads, 8);
    assert_int_equal(f.m.kv_heads, 4);
    assert_int_equal(f.m.head_dim, 256);
    assert_int_equal(f.m.vocab, 262208);
    assert_true(f.m.theta_sliding == 1e4f && f.m.attn_scale == 0.0625f);
    facts_free(&f);
    /* another tower than the model's, and one that cannot be */
    char other[sizeof text];
    memcpy(other, text, sizeof text);
    memcpy(strstr(other, "4304"), "4305", 4);
    assert_int_equal(facts_from_config(NULL, other, strlen(other), NULL, 0, NULL, &f, &why),
                     SLM_E_MISMATCH);
    assert_non_null(strstr(why.message, "4305"));
    memcpy(other, text, sizeof text);
    memcpy(strstr(other, "\"patch_size\":14"), "\"patch_size\":13", 15);
    assert_int_equal(facts_from_config(NULL, other, strlen(other), NULL, 0, NULL, &f, &why),
                     SLM_E_FORMAT);
}

static void test_generation(void **state) {
    (void)state;
    struct facts f;
    slm_why why;
    assert_int_equal(read_config(config_of(model_by_name("phi-4-mini-instruct")),
                                 "{\"eos_token_id\":[200020,199999,200018]}", NULL, &f, &why),
                     SLM_OK);
    assert_int_equal(f.m.stop[0], 200020);
    assert_int_equal(f.m.stop[1], 199999);
    assert_int_equal(f.m.stop[2], 200018);
    assert_int_equal(f.m.stop[3], -1);
    assert_false(f.m.sampling.sample);
    facts_free(&f);
    assert_int_equal(
        read_config(
            config_of(model_by_name("qwen3-0.6b")),
            "{\"do_sample\":true,\"temperature\":0.9,\"top_k\":7,\"top_p\":0.5,\"min_p\":0.1}",
            NULL, &f, &why),
        SLM_OK);
    assert_true(f.m.sampling.sample && f.m.sampling.temperature == 0.9f &&
                f.m.sampling.top_p == 0.5f && f.m.sampling.min_p == 0.1f);
    assert_int_equal(f.m.sampling.top_k, 7);
    facts_free(&f);
}

static void test_vendor_files(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seven); i++) {
        char rel[128], path[1024];
        struct facts f;
        slm_why why;
        size_t n, n_generation;
        snprintf(rel, sizeof rel, "models/%s/config.json", seven[i]);
        if (ref_path(path, sizeof path, rel) == NULL)
            skip();
        char *config = slurp(path, &n);
        snprintf(rel, sizeof rel, "models/%s/generation_config.json", seven[i]);
        char *generation = slurp(ref_path(path, sizeof path, rel), &n_generation);
        if (facts_from_config(NULL, config, n, generation, n_generation, seven[i], &f, &why) !=
            SLM_OK)
            fail_msg("%s: %s", seven[i], why.message);
        assert_string_equal(f.known->name, seven[i]);
        assert_int_equal(f.trust, TRUST_VERIFIED);
        assert_int_equal(f.has_vision, strcmp(seven[i], "gemma-3-4b-it") == 0);
        for (size_t k = 0; k < MODEL_STOPS; k++)
            assert_int_equal(f.m.stop[k] > 0 ? f.m.stop[k] : -1,
                             f.known->stop[k] > 0 ? f.known->stop[k] : -1);
        assert_int_equal(f.m.bos, f.known->bos);
        facts_free(&f);
        free(config);
        free(generation);
    }
}

/* ------------------------------------------------------------------ GGUF */

struct gguf_file {
    char path[512];
    struct gguf_writer *w;
    const char *arch;
};

static const char *key(const struct gguf_file *g, const char *rest) {
    static char buffer[128];
    snprintf(buffer, sizeof buffer, "%s.%s", g->arch, rest);
    return buffer;
}

/* Metadata as converters write it for a row of the table. skip, extra: one key left out, one put in. */
static void put_metadata(struct gguf_file *g, const struct model *m, const char *name,
                         const char *left_out) {
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = { { "block_count", m->layers },
                    { "context_length", m->context },
                    { "embedding_length", m->hidden },
                    { "feed_forward_length", m->ffn },
                    { "attention.head_count", m->heads },
                    { "attention.head_count_kv", m->kv_heads },
                    { "attention.key_length", m->head_dim },
                    { "attention.value_length", m->head_dim },
                    { "rope.dimension_count", m->rotary },
                    { "attention.sliding_window", m->window > 0 ? m->window : 0 },
                    { "rope.scaling.original_context_length", m->rope.original_context } };
    gguf_put_str(g->w, "general.architecture", g->arch, strlen(g->arch));
    gguf_put_str(g->w, "general.name", name, strlen(name));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (numbers[i].value > 0 && (left_out == NULL || strcmp(left_out, numbers[i].key) != 0))
            gguf_put_u32(g->w, key(g, numbers[i].key), numbers[i].value);
    gguf_put_f32(g->w, key(g, "rope.freq_base"), m->theta);
    gguf_put_f32(g->w, key(g, "attention.layer_norm_rms_epsilon"), m->eps);
    if (m->rope.kind == ROPE_LINEAR) {
        gguf_put_str(g->w, key(g, "rope.scaling.type"), "linear", 6);
        gguf_put_f32(g->w, key(g, "rope.scaling.factor"), m->rope.factor);
    }
    if (m->rope.kind == ROPE_LONG)
        gguf_put_f32(g->w, key(g, "rope.scaling.attn_factor"), m->rope.attention_factor);
    gguf_put_u32(g->w, "tokenizer.ggml.eos_token_id", (uint32_t)m->stop[0]);
    gguf_put_u32(g->w, "tokenizer.ggml.bos_token_id", 2);
    gguf_put_bool(g->w, "tokenizer.ggml.add_bos_token", m->bos >= 0);
}

static void put_tensors(struct gguf_file *g, const struct model *m) {
    const uint64_t embed[2] = { 4, 32 }, factors[1] = { m->rotary / 2 };
    const float zeros[128] = { 0 };
    gguf_put_tensor(g->w, "token_embd.weight", DT_F32, 2, embed);
    if (m->rope.kind == ROPE_LONG) {
        gguf_put_tensor(g->w, "rope_factors_long.weight", DT_F32, 1, factors);
        gguf_put_tensor(g->w, "rope_factors_short.weight", DT_F32, 1, factors);
    }
    gguf_write_data(g->w, zeros, sizeof zeros, NULL);
    if (m->rope.kind == ROPE_LONG) {
        gguf_write_data(g->w, m->rope.long_factors, factors[0] * sizeof(float), NULL);
        gguf_write_data(g->w, m->rope.short_factors, factors[0] * sizeof(float), NULL);
    }
}

typedef void (*extra_fn)(struct gguf_file *g);

/* Writes and opens a file whose embedding is small, then says that it has `rows` rows. */
static slm_err read_gguf(const struct model *m, uint32_t rows, const char *name,
                         const char *left_out, extra_fn extra, struct facts *f, slm_why *why) {
    struct gguf_file g = { .arch = m->family->gguf_arch };
    struct tensors *t;
    assert_true(temp_file(g.path, sizeof g.path, "facts.gguf", "", 0));
    assert_int_equal(gguf_writer_new(NULL, g.path, &g.w, why), SLM_OK);
    put_metadata(&g, m, name, left_out);
    if (extra != NULL)
        extra(&g);
    put_tensors(&g, m);
    assert_int_equal(gguf_writer_close(g.w, true, why), SLM_OK);
    assert_int_equal(tensors_open(NULL, g.path, &t, why), SLM_OK);
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->list[i].name, "token_embd.weight") == 0)
            t->list[i].dims[0] = rows;
    slm_err err = facts_from_gguf(NULL, t, NULL, f, why);
    tensors_close(t);
    return err;
}

static void test_gguf_known(void **state) {
    (void)state;
    for (size_t i = 0; models_all[i] != NULL; i++) {
        const struct model *m = models_all[i];
        struct facts f;
        slm_why why;
        if (read_gguf(m, m->vocab, m->name, NULL, NULL, &f, &why) != SLM_OK)
            fail_msg("%s: %s", m->name, why.message);
        assert_ptr_equal(f.known, m);
        assert_true(f.from_gguf);
        assert_int_equal(f.m.stop[0], m->stop[0]);
        facts_free(&f);
    }
    struct facts f;
    slm_why why;
    const struct model *big = model_by_name("gemma-3-4b-it");
    assert_int_equal(read_gguf(big, 262144, "Gemma 3 4b It", NULL, NULL, &f, &why),
                     SLM_OK); /* rows left out */
    assert_ptr_equal(f.known, big);
    assert_int_equal(f.m.vocab, 262144);
    assert_int_equal(f.m.vocab_used, 262144);
    facts_free(&f);
}

static void add_yarn(struct gguf_file *g) {
    gguf_put_str(g->w, key(g, "rope.scaling.type"), "yarn", 4);
}
static void add_cap(struct gguf_file *g) {
    gguf_put_f32(g->w, key(g, "final_logit_softcapping"), 30.0f);
}
static void add_experts(struct gguf_file *g) {
    gguf_put_u32(g->w, key(g, "expert_count"), 8);
}
static void add_vocabulary(struct gguf_file *g) {
    gguf_put_u32(g->w, key(g, "vocab_size"), 7);
}
static void add_window(struct gguf_file *g) {
    gguf_put_u32(g->w, key(g, "attention.sliding_window"), 100);
}
static void add_half_rope(struct gguf_file *g) {
    gguf_put_u32(g->w, key(g, "rope.dimension_count"), 64);
}

static void test_gguf_refused(void **state) {
    (void)state;
    struct model m = *model_by_name("qwen3-0.6b");
    const struct {
        const char *left_out;
        extra_fn extra;
        slm_err err;
        const char *says;
    } cases[] = {
        { NULL, add_yarn, SLM_E_UNSUPPORTED, "yarn" },
        { NULL, add_cap, SLM_E_UNSUPPORTED, "softcapping" },
        { NULL, add_experts, SLM_E_UNSUPPORTED, "expert" },
        { NULL, add_vocabulary, SLM_E_FORMAT, "vocab_size" },
        { NULL, add_window, SLM_E_UNSUPPORTED, "window" },
        { "block_count", NULL, SLM_E_FORMAT, "block_count" },
        { "rope.dimension_count", add_half_rope, SLM_E_UNSUPPORTED, "dimension_count" },
        { "attention.head_count", NULL, SLM_E_FORMAT, "head_count" },
    };
    struct facts f;
    slm_why why;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        slm_err err = read_gguf(&m, m.vocab, "x", cases[i].left_out, cases[i].extra, &f, &why);
        if (err != cases[i].err || strstr(why.message, cases[i].says) == NULL)
            fail_msg("case %zu: %s (%s)", i, err_name(err), err != SLM_OK ? why.message : "");
    }
    m.theta = 5e6f;
    assert_int_equal(read_gguf(&m, m.vocab, "x", NULL, NULL, &f, &why), SLM_E_MISMATCH);
    assert_non_null(strstr(why.message, "5000000"));
    assert_non_null(strstr(why.message, "1000000"));
    m.context = 4096; /* another model then, unless it bears the name */
    assert_int_equal(read_gguf(&m, m.vocab, "x", NULL, NULL, &f, &why), SLM_OK);
    assert_int_equal(f.trust, TRUST_DERIVED);
    assert_string_equal(f.m.name, "x");
    facts_free(&f);
    assert_int_equal(read_gguf(&m, m.vocab, "Qwen3 0.6B", NULL, NULL, &f, &why), SLM_E_MISMATCH);
    struct model wide = *model_by_name("gemma-3-4b-it");
    wide.layers = 62, wide.head_dim = wide.rotary = 128;
    assert_int_equal(read_gguf(&wide, wide.vocab, "x", NULL, NULL, &f, &why), SLM_E_UNSUPPORTED);
    assert_non_null(strstr(why.message, "attention scale"));
}

/* Every refused allocation gives E_NOMEM (jansson's trees use the C library) and leaves nothing behind. */
static void test_no_memory(void **state) {
    (void)state;
    char *text[2];
    json_t *a = config_of(model_by_name("phi-4-mini-instruct")),
           *b = config_of(model_by_name("smollm3-3b"));
    json_object_set_new(b, "num_hidden_layers", json_integer(10));
    text[0] = json_dumps(a, 0);
    text[1] = json_dumps(b, 0);
    json_decref(a);
    json_decref(b);
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 1;; k++) {
            struct test_hooks h;
            struct facts f;
            slm_why why;
            test_hooks_init(&h, k);
            slm_err err =
                facts_from_config(&h.hooks, text[i], strlen(text[i]), NULL, 0, NULL, &f, &why);
            if (err == SLM_OK)
                facts_free(&f);
            assert_int_equal(h.live, 0);
            if (!h.failed) {
                assert_int_equal(err, SLM_OK);
                break;
            }
            assert_int_equal(err, SLM_E_NOMEM);
        }
    free(text[0]);
    free(text[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_models), cmocka_unit_test(test_equal_numbers),
        cmocka_unit_test(test_altered),      cmocka_unit_test(test_other),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_sister),
        cmocka_unit_test(test_malformed),    cmocka_unit_test(test_rope_parameters),
        cmocka_unit_test(test_nested),       cmocka_unit_test(test_generation),
        cmocka_unit_test(test_vendor_files), cmocka_unit_test(test_gguf_known),
        cmocka_unit_test(test_gguf_refused), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
