/* test_bad_models.c - models and requests that are wrong, through the public interface: each gives
 * the exact kind of error, and its message names what disagrees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "base/pool.h"
#include "format_image.h"
#include "models/desc.h"
#include "tiny_model.h"

static struct tiny twin;

static int setup(void **state) {
    (void)state;
    tiny_init(&twin, "qwen3-0.6b");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tiny_free(&twin);
    return 0;
}

/* The message holds every word of `words`, separated by '|'. */
static bool has_words(const slm_why *why, const char *words) {
    char word[64];
    while (*words != '\0') {
        size_t n = strcspn(words, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        if (strstr(why->message, word) == NULL)
            return false;
        words += n + (words[n] == '|');
    }
    return true;
}

static void check_words(const slm_why *why, const char *words) {
    if (!has_words(why, words))
        print_error("'%s' is not in: %s\n", words, why->message);
    assert_true(has_words(why, words));
}

/* Opens the twin as it is now; the error and the words of its message. With and without a reason. */
static void check_open(unsigned parts, slm_err want, const char *words) {
    slm_engine *e = (slm_engine *)&twin;
    slm_why why = { 0 };
    tiny_build(&twin);
    slm_err err = tiny_open(&twin, parts, NULL, &e, &why);
    if (err != want)
        print_error("%s: %s\n", slm_err_name(err), why.message);
    assert_int_equal(err, want);
    assert_null(e);
    assert_int_equal(why.code, want);
    check_words(&why, words);
    assert_int_equal(tiny_open(&twin, parts, NULL, &e, NULL), want);
    assert_null(e);
}

static slm_engine *open_good(unsigned parts) {
    slm_engine *e = NULL;
    slm_why why = { 0 };
    tiny_build(&twin);
    if (tiny_open(&twin, parts, NULL, &e, &why) != SLM_OK)
        print_error("%s\n", why.message);
    assert_non_null(e);
    return e;
}

static slm_session *session_on(slm_engine *e, uint32_t context) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = context;
    o.chunk = 16;
    o.threads = 1;
    assert_int_equal(slm_session_open(e, &o, &s, NULL), SLM_OK);
    return s;
}

/* ------------------------------------------------------------------ numbers that are none */

static void put_bf16(struct tiny_tensor *x, size_t index, uint16_t bits) {
    assert_int_equal(x->dtype, DT_BF16);
    memcpy(x->data + 2 * index, &bits, 2);
}

static void test_norms(void **state) {
    (void)state;
    static const char *const names[] = { "model.norm.weight",
                                         "model.layers.1.input_layernorm.weight",
                                         "model.layers.3.self_attn.q_norm.weight",
                                         "model.layers.2.post_attention_layernorm.weight" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tiny_tensor *x = tiny_find(&twin, names[i]);
        uint16_t bits;
        memcpy(&bits, x->data + 10, 2);
        put_bf16(x, 5, 0x7fc0);
        char words[128];
        snprintf(words, sizeof words, "%s|NaN|5", names[i]);
        check_open(SLM_WEIGHTS, SLM_E_NUMERIC, words);
        put_bf16(x, 5, 0xff80);
        snprintf(words, sizeof words, "%s|infinity|5", names[i]);
        check_open(SLM_WEIGHTS, SLM_E_NUMERIC, words);
        put_bf16(x, 5, bits);
    }
    slm_engine_close(open_good(SLM_WEIGHTS));
}

/* Own output matrix, so that a broken row of the embedding meets only who uses that token. */
static void test_one_bad_token(void **state) {
    (void)state;
    struct tiny_tensor *embed = tiny_find(&twin, "model.embed_tokens.weight");
    int32_t good[] = { 1, 2, 3, 4, 5, 6 }, bad[] = { 1, 2, 3, 7, 5, 6 };
    slm_why why = { 0 };
    json_object_set_new(twin.config, "tie_word_embeddings", json_false());
    uint16_t before;
    memcpy(&before, embed->data + 2 * 7 * embed->dims[1], 2);
    put_bf16(embed, 7 * embed->dims[1], 0x7fc0);
    slm_engine *e = open_good(SLM_WEIGHTS);
    slm_session *s = session_on(e, 32);
    assert_int_equal(slm_session_sync(s, good, 6, NULL, &why), SLM_OK);
    float first = slm_session_logits(s)[17];
    assert_int_equal(slm_session_sync(s, bad, 6, NULL, &why), SLM_E_NUMERIC);
    assert_true(slm_session_length(s) <= 3);
    assert_null(slm_session_logits(s));
    assert_int_equal(slm_session_append(s, bad, 6, false, NULL, NULL, NULL), SLM_E_NUMERIC);
    assert_int_equal(slm_session_sync(s, good, 6, NULL, &why), SLM_OK);
    assert_true(slm_session_logits(s)[17] == first);
    slm_session_close(s);
    slm_engine_close(e);
    put_bf16(embed, 7 * embed->dims[1], before);
    json_object_set_new(twin.config, "tie_word_embeddings", json_true());
}

static void test_bad_matrices(void **state) {
    (void)state;
    static const char *const names[] = { "model.layers.0.self_attn.q_proj.weight",
                                         "model.layers.1.mlp.down_proj.weight",
                                         "model.layers.3.self_attn.v_proj.weight",
                                         "model.layers.2.mlp.gate_proj.weight" };
    static const uint16_t values[] = { 0x7fc0, 0x7f80, 0xff80 };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        for (size_t k = 0; k < ARRAY_LEN(values); k++) {
            struct tiny_tensor *x = tiny_find(&twin, names[i]);
            int32_t ids[] = { 10, 20, 30, 40 };
            uint16_t before;
            slm_why why = { 0 };
            memcpy(&before, x->data + 2 * 33, 2);
            put_bf16(x, 33, values[k]);
            slm_engine *e = open_good(SLM_ALL);
            slm_session *s = session_on(e, 64);
            assert_int_equal(slm_session_sync(s, ids, 4, NULL, &why), SLM_E_NUMERIC);
            assert_int_equal(slm_session_length(s), 0);
            assert_int_equal(slm_generate(s, NULL, NULL, &why), SLM_E_STATE);
            static const char hello[] =
                "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
            assert_int_equal(slm_chat(s, hello, sizeof hello - 1, NULL, NULL, &why), SLM_E_NUMERIC);
            assert_int_equal(slm_session_truncate(s, 0, &why), SLM_OK);
            slm_session_close(s);
            slm_engine_close(e);
            put_bf16(x, 33, before);
        }
}

/* ------------------------------------------------------------------ tensors */

static void test_missing(void **state) {
    (void)state;
    static const char *const names[] = { "model.embed_tokens.weight", "model.norm.weight",
                                         "model.layers.0.self_attn.k_proj.weight",
                                         "model.layers.3.mlp.up_proj.weight",
                                         "model.layers.2.self_attn.k_norm.weight" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tiny_tensor *x = tiny_find(&twin, names[i]);
        char words[160];
        snprintf(x->name, sizeof x->name, "model.not_used.weight");
        snprintf(words, sizeof words, "%s|missing", names[i]);
        check_open(SLM_WEIGHTS, SLM_E_FORMAT, words);
        snprintf(x->name, sizeof x->name, "%s", names[i]);
    }
}

static void test_extra(void **state) {
    (void)state;
    static const char *const names[] = { "model.layers.4.input_layernorm.weight",
                                         "model.layers.0.self_attn.q_proj.bias", "something" };
    float zeros[64] = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        tiny_add(&twin, names[i], DT_F32, 1, (const uint64_t[]){ 64 }, zeros, sizeof zeros);
        check_open(SLM_WEIGHTS, SLM_E_FORMAT, names[i]);
        tiny_drop(&twin, names[i]);
    }
}

static void test_misshaped(void **state) {
    (void)state;
    struct tiny_tensor *x = tiny_find(&twin, "model.layers.1.self_attn.q_proj.weight");
    uint64_t rows = x->dims[0], cols = x->dims[1]; /* 128, 64 */
    x->dims[0] = cols;
    x->dims[1] = rows;
    check_open(SLM_WEIGHTS, SLM_E_FORMAT,
               "model.layers.1.self_attn.q_proj.weight|[64, 128]|[128, 64]");
    x->dims[0] = rows * cols;
    x->n_dims = 1;
    check_open(SLM_WEIGHTS, SLM_E_FORMAT, "q_proj|[8192]|[128, 64]");
    x->n_dims = 3;
    x->dims[0] = 2;
    x->dims[1] = rows / 2;
    x->dims[2] = cols;
    check_open(SLM_WEIGHTS, SLM_E_FORMAT, "q_proj|[2, 64, 64]|[128, 64]");
    x->n_dims = 2;
    x->dims[0] = rows;
    x->dims[1] = cols;
    x = tiny_find(&twin, "model.norm.weight");
    x->dims[0] = 32;
    x->size /= 2;
    check_open(SLM_WEIGHTS, SLM_E_FORMAT, "model.norm.weight|[32]|[64]");
    x->dims[0] = 64;
    x->size *= 2;
}

/* ------------------------------------------------------------------ config.json */

static void test_config_lies(void **state) {
    (void)state;
    static const struct {
        const char *key, *value;
        slm_err err;
        const char *words;
    } cases[] = {
        { "model_type", "\"llama4\"", SLM_E_UNSUPPORTED, "llama4" },
        { "model_type", "17", SLM_E_FORMAT, "model_type" },
        { "architectures", "[\"MambaForCausalLM\"]", SLM_E_UNSUPPORTED, "MambaForCausalLM" },
        { "num_attention_heads", "5", SLM_E_FORMAT, "5|2" },
        { "num_attention_heads", "0", SLM_E_FORMAT, "0" },
        { "num_key_value_heads", "3", SLM_E_FORMAT, "4|3" },
        { "num_key_value_heads", "0", SLM_E_FORMAT, "0" },
        { "num_key_value_heads", "8", SLM_E_FORMAT, "4|8" },
        { "head_dim", "0", SLM_E_FORMAT, "head dimension is 0" },
        { "head_dim", "31", SLM_E_FORMAT, "31" },
        { "head_dim", "64", SLM_E_FORMAT, "256|128" },
        { "head_dim", "4294967295", SLM_E_FORMAT, "4294967295" },
        { "num_hidden_layers", "0", SLM_E_FORMAT, "0" },
        { "num_hidden_layers", "-4", SLM_E_FORMAT, "num_hidden_layers|-4" },
        { "num_hidden_layers", "3", SLM_E_FORMAT, "layers.3|3 layers" },
        { "num_hidden_layers", "5", SLM_E_FORMAT, "layers.4|missing" },
        { "num_hidden_layers", "4000000000", SLM_E_FORMAT, "4000000000" },
        { "num_hidden_layers", "4.5", SLM_E_FORMAT, "num_hidden_layers" },
        { "num_hidden_layers", "\"4\"", SLM_E_FORMAT, "num_hidden_layers|string" },
        { "num_hidden_layers", "1e99", SLM_E_FORMAT, "num_hidden_layers" },
        { "hidden_size", "0", SLM_E_FORMAT, "hidden is 0" },
        { "hidden_size", "128", SLM_E_FORMAT, "64|128" },
        { "hidden_size", "-64", SLM_E_FORMAT, "hidden_size|-64" },
        { "hidden_size", "4294967296", SLM_E_FORMAT, "4294967296" },
        { "intermediate_size", "191", SLM_E_FORMAT, "192|191" },
        { "vocab_size", "513", SLM_E_FORMAT, "512|513" },
        { "vocab_size", "511", SLM_E_FORMAT, "512|511" },
        { "vocab_size", "0", SLM_E_FORMAT, "vocab" },
        { "vocab_size", "4294967295", SLM_E_FORMAT, "4294967295" },
        { "max_position_embeddings", "0", SLM_E_FORMAT, "0" },
        { "max_position_embeddings", "4294967295", SLM_E_FORMAT, "4294967295" },
        { "rms_norm_eps", "-1", SLM_E_FORMAT, "epsilon of the norms is -1" },
        { "rms_norm_eps", "\"small\"", SLM_E_FORMAT, "rms_norm_eps" },
        { "rms_norm_eps", "true", SLM_E_FORMAT, "rms_norm_eps" },
        { "rope_theta", "0", SLM_E_FORMAT, "rope base is 0" },
        { "rope_theta", "-1000000", SLM_E_FORMAT, "rope base is -1e+06" },
        { "rope_theta", "[]", SLM_E_FORMAT, "rope_theta" },
        { "rope_scaling", "{\"rope_type\":\"yarn\",\"factor\":4.0}", SLM_E_UNSUPPORTED, "yarn" },
        { "rope_scaling", "7", SLM_E_FORMAT, "rope_scaling" },
        { "hidden_act", "\"relu\"", SLM_E_UNSUPPORTED, "relu|silu" },
        { "attention_bias", "true", SLM_E_UNSUPPORTED, "attention_bias" },
        { "quantization_config", "{\"quant_method\":\"gptq\"}", SLM_E_UNSUPPORTED,
          "quantization_config" },
        { "use_sliding_window", "true", SLM_E_UNSUPPORTED, "use_sliding_window" },
        { "eos_token_id", "512", SLM_E_FORMAT, "512" },
        { "eos_token_id", "-7", SLM_E_FORMAT, "-7" },
    };
    size_t wrong = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *before = json_incref(json_object_get(twin.config, cases[i].key));
        slm_engine *e = NULL;
        slm_why why = { 0 };
        json_object_set_new(twin.config, cases[i].key,
                            json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        tiny_build(&twin);
        tiny_file(&twin, "generation_config.json", NULL, 0);
        slm_err err = tiny_open(&twin, SLM_WEIGHTS, NULL, &e, &why);
        if (err != cases[i].err || !has_words(&why, cases[i].words)) {
            print_error("%s %s: %s %s\n", cases[i].key, cases[i].value, slm_err_name(err),
                        why.message);
            wrong++;
        }
        slm_engine_close(e);
        if (before != NULL)
            json_object_set_new(twin.config, cases[i].key, before);
        else
            json_object_del(twin.config, cases[i].key);
    }
    slm_engine_close(open_good(SLM_WEIGHTS));
    assert_int_equal(wrong, 0);
}

static void check_config(const char *text, size_t n, slm_err want, const char *words) {
    slm_engine *e;
    slm_why why = { 0 };
    tiny_build(&twin);
    tiny_file(&twin, "config.json", text, n);
    slm_err err = tiny_open(&twin, SLM_WEIGHTS, NULL, &e, &why);
    if (err != want)
        print_error("%s: %s\n", slm_err_name(err), why.message);
    assert_int_equal(err, want);
    check_words(&why, words);
}

static void test_config_syntax(void **state) {
    (void)state;
    check_config("", 0, SLM_E_FORMAT, "");
    check_config("[]", 2, SLM_E_FORMAT, "");
    check_config("{\"model_type\":\"qwen3\"}", 22, SLM_E_FORMAT, "num_hidden_layers");
    check_config("{\"model_type\":\"qwen3\",}", 23, SLM_E_FORMAT, "");
    check_config("{\"a\":1,\"a\":2}", 13, SLM_E_FORMAT, "duplicate");
    char *deep = malloc(100000);
    memset(deep, '[', 100000);
    check_config(deep, 100000, SLM_E_BUDGET, "deeper");
    free(deep);
}

/* A known model's shape and name with one number changed is that model altered: both are named. */
static void test_known_with_other_numbers(void **state) {
    (void)state;
    static const char *const config = "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":"
                                      "\"qwen3\",\"num_hidden_layers\":28,\"hidden_size\":1024,"
                                      "\"intermediate_size\":3072,\"num_attention_heads\":16,\"num_"
                                      "key_value_heads\":8,\"head_dim\":128,\"vocab_size\":151936,"
                                      "\"max_position_embeddings\":40960,\"rope_theta\":%s,\"rms_"
                                      "norm_eps\":%s,\"tie_word_embeddings\":true,"
                                      "\"hidden_act\":\"silu\"}";
    static const struct {
        const char *theta, *eps;
        slm_err err;
        const char *words;
    } cases[] = {
        { "1000000", "1e-6", SLM_OK, "" },
        { "500000", "1e-6", SLM_E_MISMATCH, "500000|1000000|qwen3-0.6b" },
        { "1000000", "1e-5", SLM_E_MISMATCH, "9.99999975e-06|9.99999997e-07|qwen3-0.6b" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[1024];
        slm_engine *e = NULL;
        slm_why why = { 0 };
        snprintf(text, sizeof text, config, cases[i].theta, cases[i].eps);
        struct slm_memory_file file = { "config.json", text, strlen(text) };
        slm_engine_options o = slm_engine_default();
        o.need = o.want = 0;
        assert_int_equal(slm_engine_open_memory(&file, 1, &o, &e, &why), cases[i].err);
        check_words(&why, cases[i].words);
        slm_engine_close(e);
    }
}

/* ------------------------------------------------------------------ parts */

static void test_vocabulary_of_another_model(void **state) {
    (void)state;
    char names[300][16];
    const char *extra[301] = { NULL };
    for (int i = 0; i < 300; i++) {
        snprintf(names[i], sizeof names[i], "tok%d", i);
        extra[i] = names[i];
    }
    struct mini m = { .extra = extra };
    char *text = mini_json(&m);
    tiny_text(&twin, "tokenizer.json", text);
    free(text);
    check_open(SLM_ALL, SLM_E_MISMATCH, "556|512");
    extra[256] = NULL; /* exactly as many ids as rows */
    text = mini_json(&m);
    tiny_text(&twin, "tokenizer.json", text);
    free(text);
    slm_engine_close(open_good(SLM_ALL));
    tiny_free(&twin);
    tiny_init(&twin, "qwen3-0.6b");
}

static void test_missing_parts(void **state) {
    (void)state;
    static const struct {
        const char *file;
        const char *words;
    } cases[] = { { "tokenizer.json", "tokenizer" }, { "chat_template.jinja", "chat template" } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        tiny_file(&twin, cases[i].file, NULL, 0);
        check_open(SLM_ALL, SLM_E_NOTFOUND, cases[i].words);
        slm_engine_close(open_good(SLM_WEIGHTS));
        tiny_free(&twin);
        tiny_init(&twin, "qwen3-0.6b");
    }
    slm_engine *e;
    slm_why why;
    tiny_build(&twin);
    tiny_file(&twin, "config.json", NULL, 0);
    assert_int_equal(tiny_open(&twin, SLM_ALL, NULL, &e, &why), SLM_E_NOTFOUND);
    check_words(&why, "config.json");
    tiny_build(&twin);
    tiny_file(&twin, "model.safetensors", NULL, 0);
    assert_int_equal(tiny_open(&twin, SLM_ALL, NULL, &e, &why), SLM_E_NOTFOUND);
    check_words(&why, "model.safetensors");
    /* an index whose shard is not there is not a folder without weights */
    tiny_text(&twin, "model.safetensors.index.json",
              "{\"weight_map\":{\"a\":\"model-00001.safetensors\"}}");
    assert_int_equal(tiny_open(&twin, 0, NULL, &e, &why), SLM_E_NOTFOUND);
    check_words(&why, "model-00001.safetensors");
    tiny_file(&twin, "model.safetensors.index.json", NULL, 0);
}

/* What a folder has can be used, and the rest says what is missing. */
static void test_only_one_part(void **state) {
    (void)state;
    static const char hello[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    slm_engine *e;
    slm_why why;
    int32_t *ids;
    char *text;
    size_t n;
    slm_session *s;
    struct tiny only = { .files = { twin.files[0] } };
    for (size_t i = 0; i < twin.n_files; i++)
        if (strcmp(twin.files[i].name, "tokenizer.json") == 0)
            only.files[0] = twin.files[i];
    only.n_files = 1;
    assert_int_equal(tiny_open(&only, SLM_TOKENIZER, NULL, &e, &why), SLM_OK);
    assert_int_equal(slm_encode(e, "hi", 2, 0, &ids, &n, &why), SLM_OK);
    assert_int_equal(n, 2);
    slm_free(e, ids);
    assert_int_equal(slm_render(e, hello, sizeof hello - 1, NULL, &text, &n, &why), SLM_E_NOTFOUND);
    check_words(&why, "template");
    assert_int_equal(slm_session_open(e, NULL, &s, &why), SLM_E_NOTFOUND);
    assert_null(s);
    slm_plan p = { .size = sizeof p };
    assert_int_equal(slm_engine_plan(e, NULL, &p, &why), SLM_E_NOTFOUND);
    slm_cost c = { .size = sizeof c };
    assert_int_equal(slm_engine_cost(e, SLM_KV_F16, 1, &c), SLM_E_STATE);
    slm_engine_close(e);
    assert_int_equal(tiny_open(&only, SLM_ALL, NULL, &e, &why), SLM_E_NOTFOUND);

    struct slm_memory_file file = { "chat_template.jinja", TINY_TEMPLATE, strlen(TINY_TEMPLATE) };
    slm_engine_options o = slm_engine_default();
    o.need = o.want = SLM_TEMPLATE;
    assert_int_equal(slm_engine_open_memory(&file, 1, &o, &e, &why), SLM_OK);
    assert_int_equal(slm_render(e, hello, sizeof hello - 1, NULL, &text, &n, &why), SLM_OK);
    assert_string_equal(text, "<s>hi</s><a>");
    slm_free(e, text);
    assert_int_equal(slm_encode(e, "hi", 2, 0, &ids, &n, &why), SLM_E_NOTFOUND);
    assert_int_equal(slm_render_ids(e, hello, sizeof hello - 1, NULL, &ids, &n, NULL, &why),
                     SLM_E_NOTFOUND);
    slm_engine_close(e);
}

static void check_template(const char *text, size_t n, slm_err at_open, slm_err at_render,
                           const char *words) {
    static const char hello[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    struct slm_memory_file file = { "chat_template.jinja", text, n };
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why = { 0 };
    char *out;
    size_t n_out;
    o.need = o.want = SLM_TEMPLATE;
    slm_err err = slm_engine_open_memory(&file, 1, &o, &e, &why);
    if (err != at_open)
        print_error("%s: %s\n", slm_err_name(err), why.message);
    assert_int_equal(err, at_open);
    if (err == SLM_OK) {
        uint64_t start = clock_ns();
        assert_int_equal(slm_render(e, hello, sizeof hello - 1, NULL, &out, &n_out, &why),
                         at_render);
        assert_null(out);
        assert_int_equal(slm_render(e, hello, sizeof hello - 1, NULL, &out, &n_out, NULL),
                         at_render);
        print_message("# refused after %.2f s\n", (double)(clock_ns() - start) / 2e9);
    }
    check_words(&why, words);
    slm_engine_close(e);
}

static void test_templates(void **state) {
    (void)state;
#define TEMPLATE(text, open, render, words)                                                        \
    check_template(text, sizeof(text) - 1, open, render, words)
    TEMPLATE("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
             SLM_OK, SLM_E_BUDGET, "");
    TEMPLATE("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", SLM_OK, SLM_E_BUDGET, "");
    TEMPLATE("{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + "
             "ns.s %}{% endfor %}",
             SLM_OK, SLM_E_BUDGET, "");
    TEMPLATE("{{ raise_exception('no such role') }}", SLM_OK, SLM_E_RAISED, "no such role");
    TEMPLATE("{{ messages|sneaky }}", SLM_E_TEMPLATE, SLM_OK, "sneaky");
    TEMPLATE("{{ open('/etc/passwd') }}", SLM_E_TEMPLATE, SLM_OK, "open");
    TEMPLATE("{% for m in messages %}", SLM_E_TEMPLATE, SLM_OK, "");
    TEMPLATE("a\xff", SLM_E_ENCODING, SLM_OK, "");
    char *large = malloc(((size_t)1 << 20) + 1);
    memset(large, 'x', ((size_t)1 << 20) + 1);
    check_template(large, ((size_t)1 << 20) + 1, SLM_E_BUDGET, SLM_OK, "1048577|1048576");
    free(large);
#undef TEMPLATE
}

/* ------------------------------------------------------------------ requests */

static void test_long_prompt(void **state) {
    (void)state;
    slm_engine *e = open_good(SLM_ALL);
    slm_session *s = session_on(e, 128);
    slm_result r = { .size = sizeof r };
    slm_why why;
    size_t n = (size_t)10 << 20;
    char *request = malloc(n + 100);
    size_t at = (size_t)sprintf(request, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(request + at, 'a', n);
    at += n + (size_t)sprintf(request + at + n, "\"}]}");
    uint64_t start = clock_ns();
    assert_int_equal(slm_chat(s, request, at, NULL, &r, &why), SLM_E_CONTEXT);
    double seconds = (double)(clock_ns() - start) / 1e9;
    print_message("# 10 MB refused after %.2f s: %s\n", seconds, why.message);
    check_words(&why, "10485763|128");
    assert_true(seconds < 20.0);
    assert_int_equal(slm_session_length(s), 0);
    free(request);
    slm_session_close(s);
    slm_engine_close(e);
}

static void test_encoding(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n, offset;
    } cases[] = { { "abc\xff", 4, 3 },
                  { "\xc0\x80", 2, 0 },
                  { "ab\xed\xa0\x80", 5, 2 },
                  { "\xf4\x90\x80\x80", 4, 0 },
                  { "good \xe2\x82", 7, 5 } };
    slm_engine *e = open_good(SLM_ALL);
    slm_session *s = session_on(e, 128);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t *ids = (int32_t *)&e;
        size_t n = 9;
        slm_why why = { 0 };
        assert_int_equal(slm_encode(e, cases[i].text, cases[i].n, 0, &ids, &n, &why),
                         SLM_E_ENCODING);
        assert_null(ids);
        assert_int_equal(why.offset, cases[i].offset);
        char request[128];
        int head = sprintf(request, "{\"messages\":[{\"role\":\"user\",\"content\":\"");
        memcpy(request + head, cases[i].text, cases[i].n);
        size_t size = (size_t)head + cases[i].n;
        size += (size_t)sprintf(request + size, "\"}]}");
        assert_int_equal(slm_chat(s, request, size, NULL, NULL, &why), SLM_E_ENCODING);
        assert_int_equal(why.offset, (uint64_t)head + cases[i].offset);
    }
    slm_session_close(s);
    slm_engine_close(e);
}

static void test_bad_requests(void **state) {
    (void)state;
    static const char *const no_json[] = { "", "{\"messages\":[]", "{\"messages\":[]}x",
                                           "{\"messages\":[],\"messages\":[]}" };
    static const char *const no_request[] = { "[]", "{}", "{\"messages\":{}}",
                                              "{\"messages\":[],\"kwargs\":[]}" };
    slm_engine *e = open_good(SLM_ALL);
    slm_session *s = session_on(e, 128);
    slm_why why;
    for (size_t i = 0; i < ARRAY_LEN(no_json); i++)
        assert_int_equal(slm_chat(s, no_json[i], strlen(no_json[i]), NULL, NULL, &why),
                         SLM_E_FORMAT);
    for (size_t i = 0; i < ARRAY_LEN(no_request); i++)
        assert_int_equal(slm_chat(s, no_request[i], strlen(no_request[i]), NULL, NULL, &why),
                         SLM_E_ARG);
    int32_t bad[] = { 1, 512 }, negative[] = { -1 }, ids[] = { 1, 2, 3 };
    assert_int_equal(slm_session_sync(s, bad, 2, NULL, &why), SLM_E_ARG);
    check_words(&why, "512|511");
    assert_int_equal(slm_session_sync(s, negative, 1, NULL, &why), SLM_E_ARG);
    assert_int_equal(slm_session_sync(s, ids, 0, NULL, &why), SLM_E_ARG);
    assert_int_equal(slm_session_append(s, ids, 0, false, NULL, NULL, &why), SLM_E_ARG);
    assert_int_equal(slm_session_append(s, ids, 17, false, NULL, NULL, &why), SLM_E_ARG);
    check_words(&why, "17|16");
    float rows[2 * 512];
    assert_int_equal(slm_session_append(s, ids, 2, true, rows, NULL, &why),
                     SLM_E_ARG); /* one row was reserved */
    assert_int_equal(slm_generate(s, NULL, NULL, &why), SLM_E_STATE);
    char *text;
    size_t n;
    assert_int_equal(slm_decode(e, bad, 2, false, &text, &n, &why), SLM_E_ARG);
    assert_null(text);
    slm_session_close(s);
    slm_engine_close(e);
}

/* ------------------------------------------------------------------ files on disk */

static slm_err open_path(const char *path, slm_why *why) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.need = 0;
    o.threads = 1;
    o.isa = test_isa();
    slm_err err = slm_engine_open(path, &o, &e, why);
    assert_true((e == NULL) == (err != SLM_OK));
    slm_engine_close(e);
    return err;
}

/* Cuts the file at the edges, from the end on. */
static size_t cut_at(const char *path, uint64_t *edges, size_t n, uint64_t size) {
    size_t done = 0;
    for (uint64_t last = size; n > 0;) {
        size_t top = 0;
        for (size_t i = 1; i < n; i++)
            top = edges[i] > edges[top] ? i : top;
        uint64_t edge = edges[top];
        edges[top] = edges[--n];
        for (int d = 1; d >= -1; d--) {
            uint64_t at = edge + (uint64_t)(int64_t)d;
            if ((edge == 0 && d < 0) || at >= last)
                continue;
            slm_why why = { 0 };
            assert_int_equal(truncate(path, (off_t)at), 0);
            slm_err err = open_path(path, &why);
            if (err != SLM_E_FORMAT)
                print_error("cut at %llu: %s %s\n", (unsigned long long)at, slm_err_name(err),
                            why.message);
            assert_int_equal(err, SLM_E_FORMAT);
            last = at;
            done++;
        }
    }
    return done;
}

static size_t copy_file(const char *from, const char *name, char *path, size_t n_path) {
    char buffer[512];
    size_t n;
    char *bytes = slurp(data_path(buffer, sizeof buffer, from), &n);
    assert_non_null(bytes);
    assert_true(temp_file(path, n_path, name, bytes, n));
    free(bytes);
    return n;
}

/* Edges of every value and tensor; and every byte of the first 64. */
static void test_truncated_gguf(void **state) {
    (void)state;
    static const char *const files[] = { "golden/gguf/qwen3/qwen3-q4_0.gguf",
                                         "golden/gguf/smollm3/smollm3-mixed.gguf" };
    for (size_t f = 0; f < ARRAY_LEN(files); f++) {
        char path[512];
        uint64_t edges[1024];
        size_t n = 0, size = copy_file(files[f], "cut.gguf", path, sizeof path);
        struct tensors *t;
        assert_int_equal(tensors_open(NULL, path, &t, NULL), SLM_OK);
        for (uint32_t i = 0; i < gguf_count(t->gguf); i++) {
            edges[n++] = gguf_at(t->gguf, i)->offset;
            edges[n++] = gguf_at(t->gguf, i)->offset + gguf_at(t->gguf, i)->size;
        }
        for (uint32_t i = 0; i < t->n; i++) {
            edges[n++] = t->list[i].offset;
            edges[n++] = t->list[i].offset + t->list[i].size;
        }
        for (uint64_t i = 0; i < 64; i += 2)
            edges[n++] = i;
        assert_true(n <= ARRAY_LEN(edges));
        tensors_close(t);
        assert_int_equal(open_path(path, NULL), SLM_OK);
        print_message("# %zu cuts\n", cut_at(path, edges, n, size));
    }
}

static void test_truncated_safetensors(void **state) {
    (void)state;
    char path[512], folder[512];
    uint64_t edges[256];
    size_t n = 0;
    copy_file("golden/qwen3-0.6b/config.json", "cut/config.json", path, sizeof path);
    size_t size = copy_file("golden/qwen3-0.6b/model.safetensors", "cut/model.safetensors", path,
                            sizeof path);
    snprintf(folder, sizeof folder, "%.*s", (int)(strlen(path) - strlen("/model.safetensors")),
             path);
    struct tensors *t;
    assert_int_equal(tensors_open(NULL, folder, &t, NULL), SLM_OK);
    for (uint32_t i = 0; i < t->n; i++) {
        edges[n++] = t->list[i].offset;
        edges[n++] = t->list[i].offset + t->list[i].size;
    }
    for (uint64_t i = 0; i < 64; i += 2)
        edges[n++] = i;
    tensors_close(t);
    assert_int_equal(open_path(folder, NULL), SLM_OK);
    size_t done = 0;
    for (uint64_t last = size; n > 0;) { /* as cut_at, but what is opened is the folder */
        size_t top = 0;
        for (size_t i = 1; i < n; i++)
            top = edges[i] > edges[top] ? i : top;
        uint64_t edge = edges[top];
        edges[top] = edges[--n];
        for (int d = 1; d >= -1; d--) {
            uint64_t at = edge + (uint64_t)(int64_t)d;
            if ((edge == 0 && d < 0) || at >= last)
                continue;
            assert_int_equal(truncate(path, (off_t)at), 0);
            assert_int_equal(open_path(folder, NULL), SLM_E_FORMAT);
            last = at;
            done++;
        }
    }
    print_message("# %zu cuts\n", done);
}

static void test_wrong_files(void **state) {
    (void)state;
    char path[512];
    slm_why why;
    assert_true(temp_file(path, sizeof path, "magic.gguf", "GGML\3\0\0\0", 8));
    assert_int_equal(open_path(path, &why), SLM_E_FORMAT);
    assert_true(temp_file(path, sizeof path, "pickle.bin", "\x80\x02}q\0.", 6));
    slm_err err = open_path(path, &why);
    assert_true(err == SLM_E_FORMAT || err == SLM_E_UNSUPPORTED);
    assert_true(temp_file(path, sizeof path, "v1.gguf",
                          "GGUF\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24));
    assert_int_equal(open_path(path, &why), SLM_E_UNSUPPORTED);
    check_words(&why, "1|3");
    assert_int_equal(open_path("/dev/null", &why), SLM_E_IO);
    assert_int_equal(open_path("", &why), SLM_E_NOTFOUND);
}

/* GGUF made by hand: types and architectures that are not read are refused by their names. */
static void check_gguf(const char *arch, uint32_t type, slm_err want, const char *words) {
    struct image g = { 0 };
    img_head(&g, 3, 1, 1);
    img_kv_str(&g, "general.architecture", arch);
    img_tensor(&g, "token_embd.weight", type, 0, 256, 1);
    img_pad(&g, 32);
    img_fill(&g, 4096);
    struct slm_memory_file file = { "x.gguf", g.data, g.n };
    slm_engine *e;
    slm_why why = { 0 };
    slm_err err = slm_engine_open_memory(&file, 1, NULL, &e, &why);
    if (err != want)
        print_error("%s: %s\n", slm_err_name(err), why.message);
    assert_int_equal(err, want);
    check_words(&why, words);
    img_free(&g);
}

static void test_gguf_names(void **state) {
    (void)state;
    check_gguf("qwen3", 34, SLM_E_UNSUPPORTED, "TQ1_0");
    check_gguf("qwen3", 35, SLM_E_UNSUPPORTED, "TQ2_0");
    check_gguf("qwen3", 16, SLM_E_UNSUPPORTED, "IQ2_XXS");
    check_gguf("qwen3", 4, SLM_E_UNSUPPORTED, "4"); /* taken out of the format */
    check_gguf("qwen3", 1000, SLM_E_UNSUPPORTED, "1000");
    check_gguf("mamba2", 0, SLM_E_UNSUPPORTED, "mamba2");
    check_gguf("", 0, SLM_E_UNSUPPORTED, "");
}

/* Weights without a tokenizer are usable by ids. */
static void test_gguf_without_tokenizer(void **state) {
    (void)state;
    char path[512], out[512];
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why = { 0 };
    assert_true(temp_file(out, sizeof out, "plain.gguf", "", 0));
    assert_int_equal(
        slm_quantize(data_path(path, sizeof path, "golden/qwen3-0.6b"), out, "q8_0", NULL, &why),
        SLM_OK);
    o.isa = test_isa();
    assert_int_equal(slm_engine_open(out, &o, &e, &why), SLM_E_NOTFOUND);
    check_words(&why, "plain.gguf|tokenizer");
    o.need = SLM_WEIGHTS;
    assert_int_equal(slm_engine_open(out, &o, &e, &why), SLM_OK);
    slm_session *s = session_on(e, 32);
    int32_t ids[] = { 1, 2, 3 };
    slm_generate_options g = slm_generate_default();
    slm_result r = { .size = sizeof r };
    g.max_tokens = 3;
    assert_int_equal(slm_session_sync(s, ids, 3, NULL, &why), SLM_OK);
    assert_int_equal(slm_generate(s, &g, &r, &why), SLM_OK);
    assert_int_equal(slm_chat(s, "{\"messages\":[]}", 15, NULL, NULL, &why), SLM_E_NOTFOUND);
    int32_t *list;
    size_t n;
    assert_int_equal(slm_encode(e, "a", 1, 0, &list, &n, &why), SLM_E_NOTFOUND);
    slm_session_close(s);
    slm_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_one_bad_token),
        cmocka_unit_test(test_bad_matrices),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_extra),
        cmocka_unit_test(test_misshaped),
        cmocka_unit_test(test_config_lies),
        cmocka_unit_test(test_config_syntax),
        cmocka_unit_test(test_known_with_other_numbers),
        cmocka_unit_test(test_vocabulary_of_another_model),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_only_one_part),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_long_prompt),
        cmocka_unit_test(test_encoding),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_truncated_gguf),
        cmocka_unit_test(test_truncated_safetensors),
        cmocka_unit_test(test_wrong_files),
        cmocka_unit_test(test_gguf_names),
        cmocka_unit_test(test_gguf_without_tokenizer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
