/* test_quantize.c - slm_quantize: what is written is the same model. Folders become GGUF files whose
 * exact logits are the same bits (float types) or near (blocks); tokenizers and templates out of the
 * file give the same ids and texts; a file made from a file equals one made from the folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"
#include "slm.h"
#include "support.h"

static char folder[512]; /* of this program, removed at exit */

static const char *made(const char *name) {
    static char path[8][768];
    static unsigned at;
    at = (at + 1) % 8;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}

static int setup(void **state) {
    char first[512];
    (void)state;
    if (!temp_file(first, sizeof first, "first", "x", 1))
        return -1;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(first, '/') - first), first);
    return 0;
}

#define MUST(expr)                                                                                 \
    do {                                                                                           \
        slm_why why_ = { 0 }, *const why = &why_;                                                  \
        slm_err err_ = (expr);                                                                     \
        if (err_ != SLM_OK)                                                                        \
            fail_msg("%s: %s (%s)", #expr, why_.message, slm_err_name(err_));                      \
    } while (0)

static void quantize(const char *in, const char *out, const char *type) {
    slm_quantize_options o = slm_quantize_default();
    o.threads = 2;
    MUST(slm_quantize(in, out, type, &o, why));
}

static slm_engine *open_parts(const char *path, unsigned parts, bool exact) {
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    o.need = o.want = parts;
    o.exact = exact;
    o.threads = 1;
    o.isa = test_isa();
    MUST(slm_engine_open(path, &o, &e, why));
    return e;
}

/* ------------------------------------------------------------------ logits */

struct logits {
    float *v; /* [rows][vocab] */
    size_t n;
};

static struct logits evaluate(const char *path, const int32_t *ids, size_t n) {
    slm_engine *e = open_parts(path, SLM_WEIGHTS, true);
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    slm_info info = { .size = sizeof info };
    struct logits l;
    slm_engine_info(e, &info);
    o.context = o.chunk = o.logit_rows = (uint32_t)n;
    o.kv = SLM_KV_F32;
    o.threads = 1;
    MUST(slm_session_open(e, &o, &s, why));
    l.n = n * info.vocab;
    l.v = malloc(l.n * sizeof *l.v);
    assert_non_null(l.v);
    MUST(slm_session_append(s, ids, n, true, l.v, NULL, why));
    slm_session_close(s);
    slm_engine_close(e);
    return l;
}

/* |a - b| / |b| */
static double distance(const struct logits *a, const struct logits *b) {
    double d = 0, size = 0;
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        d += ((double)a->v[i] - b->v[i]) * ((double)a->v[i] - b->v[i]);
        size += (double)b->v[i] * b->v[i];
    }
    return sqrt(d / size);
}

static bool same_bits(const struct logits *a, const struct logits *b) {
    return a->n == b->n && memcmp(a->v, b->v, a->n * sizeof *a->v) == 0;
}

static size_t load_ids(const json_t *list, int32_t *ids, size_t most) {
    size_t n = json_array_size(list);
    assert_true(n > 0 && n <= most);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return n;
}

static const char *const twins[] = { "gemma-3-270m-it", "gemma-3-4b-it",
                                     "jan-v1-4b",       "phi-4-mini-instruct",
                                     "qwen3-0.6b",      "qwen3-4b-instruct-2507",
                                     "smollm3-3b" };

/* Float files give the folder's bits, except where the family's GGUF has rows of q and k in another
 * order: the same products are then summed in another order. Twins have random weights, on which
 * block formats show more than on real ones. */
static void compare_types(const char *in, const int32_t *ids, size_t n, bool permuted) {
    static const struct {
        const char *type;
        double most; /* 0: the same bits */
    } types[] = { { "f32", 0 },    { "bf16", 0 },     { "f16", 1e-5 }, { "q8_0", 0.12 },
                  { "q6_k", 0.2 }, { "q4_k_m", 0.6 }, { "q4_0", 0.9 } };
    struct logits base = evaluate(in, ids, n);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char name[64];
        snprintf(name, sizeof name, "t-%s.gguf", types[i].type);
        quantize(in, made(name), types[i].type);
        struct logits l = evaluate(made(name), ids, n);
        double d = distance(&l, &base);
        double most = types[i].most > 0 ? types[i].most : permuted ? 1e-5 : 0;
        if (most == 0 ? !same_bits(&l, &base) : !(d < most))
            fail_msg("%s as %s: relative distance %g", in, types[i].type, d);
        free(l.v);
    }
    free(base.v);
}

/* From the folder, or over a file of the folder: the same. */
static void compare_ways(const char *in, const int32_t *ids, size_t n) {
    static const char *const types[] = { "q8_0", "q4_k_m", "q4_0" };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        quantize(in, made("direct.gguf"), types[i]);
        quantize(made("t-f32.gguf"), made("over.gguf"), types[i]);
        struct logits a = evaluate(made("direct.gguf"), ids, n),
                      b = evaluate(made("over.gguf"), ids, n);
        if (!same_bits(&a, &b))
            fail_msg("%s as %s differs when made over f32: %g", in, types[i], distance(&a, &b));
        free(a.v);
        free(b.v);
    }
    quantize(made("t-q4_k_m.gguf"), made("again.gguf"),
             "q4_k_m"); /* blocks of the same type are copied */
    struct logits a = evaluate(made("again.gguf"), ids, n),
                  b = evaluate(made("t-q4_k_m.gguf"), ids, n);
    assert_true(same_bits(&a, &b));
    free(a.v);
    free(b.v);
}

static void folders(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(twins); i++) {
        char rel[64], in[512], golden[600];
        int32_t ids[512];
        snprintf(rel, sizeof rel, "golden/%s", twins[i]);
        assert_non_null(data_path(in, sizeof in, rel));
        snprintf(golden, sizeof golden, "%s/golden.json", in);
        json_t *doc = json_load_file(golden, 0, NULL);
        const json_t *prompts = json_object_get(doc, "prompts");
        size_t n =
            load_ids(json_object_get(json_object_get(prompts, "p40"), "ids"), ids, ARRAY_LEN(ids));
        bool permuted = strncmp(twins[i], "smollm3", 7) == 0;
        compare_types(in, ids, n, permuted);
        compare_ways(in, ids, n);
        const json_t *longer =
            json_object_get(prompts, "long"); /* longrope's other factors, windows that moved on */
        if (longer) {
            n = load_ids(json_object_get(longer, "ids"), ids, ARRAY_LEN(ids));
            struct logits a = evaluate(in, ids, n), b = evaluate(made("t-bf16.gguf"), ids, n);
            if (permuted ? !(distance(&b, &a) < 1e-5) : !same_bits(&a, &b))
                fail_msg("%s, long prompt: %g", twins[i], distance(&b, &a));
            free(a.v);
            free(b.v);
        }
        json_decref(doc);
    }
}

static const struct slm_tensor *tensor_of(const slm_engine *e, const char *name) {
    static slm_tensor t;
    t.size = sizeof t;
    for (size_t i = 0; slm_engine_tensor(e, i, &t) == SLM_OK; i++)
        if (strcmp(t.name, name) == 0)
            return &t;
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Q8_0 blocks that another writer made of the same float32 weights: the same scales, and whole numbers
 * that differ by one at most (which of two near ones is nearer depends on the scale before or after it
 * was rounded). */
static void other_writer(void **state) {
    static const char *const names[] = { "token_embd.weight", "blk.0.attn_q.weight",
                                         "blk.0.attn_output.weight", "blk.1.ffn_down.weight" };
    enum { BLOCK = 34 };
    char from[512], other[512];
    size_t n_a, n_b, differ = 0, all = 0;
    (void)state;
    assert_non_null(data_path(from, sizeof from, "golden/gguf/qwen3/qwen3-f32.gguf"));
    assert_non_null(data_path(other, sizeof other, "golden/gguf/qwen3/qwen3-q8_0.gguf"));
    quantize(from, made("mine.gguf"), "q8_0");
    slm_engine *a = open_parts(made("mine.gguf"), 0, false), *b = open_parts(other, 0, false);
    char *mine = slurp(made("mine.gguf"), &n_a), *theirs = slurp(other, &n_b);
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        slm_tensor x = *tensor_of(a, names[k]), y = *tensor_of(b, names[k]);
        assert_string_equal(x.type, "Q8_0");
        assert_int_equal(x.bytes, y.bytes);
        for (size_t i = 0; i < x.bytes; i++, all++) {
            int d = (signed char)mine[x.offset + i] - (signed char)theirs[y.offset + i];
            differ += d != 0;
            if (i % BLOCK < 2 ? d != 0 : d < -1 || d > 1)
                fail_msg("%s, byte %zu: differs by %d", names[k], i, d);
        }
    }
    assert_true(differ * 100 < all);
    free(mine);
    free(theirs);
    slm_engine_close(a);
    slm_engine_close(b);
}

/* ------------------------------------------------------------------ every type on the demo */

static void all_types(void **state) {
    const char *name, *note;
    int32_t ids[24];
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        ids[i] = (int32_t)(i * 97 % 2500);
    struct logits base = evaluate("demo-model", ids, ARRAY_LEN(ids));
    for (size_t i = 0; (name = slm_quantize_type(i, &note)) != NULL; i++, count++) {
        assert_true(note != NULL && note[0]);
        if (strncmp(name, "mmproj-", 7) == 0) { /* of models that see images: test_session_images */
            assert_int_equal(slm_quantize("demo-model", made("any.gguf"), name, NULL, NULL),
                             SLM_E_NOTFOUND);
            continue;
        }
        quantize("demo-model", made("any.gguf"), name);
        struct logits l = evaluate(made("any.gguf"), ids, ARRAY_LEN(ids));
        double d = distance(&l, &base), most = strstr(name, "q2")   ? 0.6
                                               : strstr(name, "q3") ? 0.4
                                                                    : 0.25;
        if (!(d < most))
            fail_msg("demo as %s: relative distance %g", name, d);
        free(l.v);
        slm_engine *e = open_parts(made("any.gguf"), SLM_ALL, false);
        slm_info info = { .size = sizeof info };
        slm_engine_info(e, &info);
        assert_string_equal(info.id, "demo");
        assert_string_equal(info.trust, "verified");
        slm_engine_close(e);
    }
    assert_true(count >= 12);
    assert_null(slm_quantize_type(count, NULL));
    quantize("demo-model", made("any.gguf"), "Q4_K_M"); /* names in any case */
    slm_engine *e = open_parts(made("any.gguf"), 0, false);
    assert_string_equal(tensor_of(e, "token_embd.weight")->type, "Q6_K");
    assert_string_equal(tensor_of(e, "blk.0.attn_q.weight")->type, "Q4_K");
    assert_string_equal(tensor_of(e, "blk.0.attn_norm.weight")->type, "F32");
    slm_engine_close(e);
    free(base.v);
}

/* ------------------------------------------------------------------ text */

static void same_ids(const slm_engine *a, const slm_engine *b, const char *text, size_t n,
                     unsigned flags) {
    int32_t *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    MUST(slm_encode(a, text, n, flags, &x, &nx, why));
    MUST(slm_encode(b, text, n, flags, &y, &ny, why));
    if (nx != ny || memcmp(x, y, nx * sizeof *x) != 0)
        fail_msg("other ids for '%.60s' (flags %u): %zu and %zu", text, flags, nx, ny);
    char *back = NULL, *back2 = NULL;
    size_t k = 0, k2 = 0;
    MUST(slm_decode(a, x, nx, false, &back, &k, why));
    MUST(slm_decode(b, y, ny, false, &back2, &k2, why));
    assert_true(k == k2 && memcmp(back, back2, k) == 0);
    slm_free(a, back);
    slm_free(b, back2);
    slm_free(a, x);
    slm_free(b, y);
}

static void same_render(const slm_engine *a, const slm_engine *b, const json_t *request) {
    char *text = json_dumps(request, JSON_COMPACT), *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    slm_render_options o = slm_render_default();
    slm_why why;
    o.date = 1751932800;
    slm_err ea = slm_render(a, text, strlen(text), &o, &x, &nx, &why),
            eb = slm_render(b, text, strlen(text), &o, &y, &ny, &why);
    if (ea != eb || nx != ny || (nx && memcmp(x, y, nx) != 0))
        fail_msg("other rendering of %.100s", text);
    slm_free(a, x);
    slm_free(b, y);
    int32_t *ia = NULL, *ib = NULL; /* control tokens are control tokens in both */
    ea = slm_render_ids(a, text, strlen(text), &o, &ia, &nx, NULL, &why);
    eb = slm_render_ids(b, text, strlen(text), &o, &ib, &ny, NULL, &why);
    if (ea != eb || nx != ny || (nx && memcmp(ia, ib, nx * sizeof *ia) != 0))
        fail_msg("other ids of %.100s", text);
    slm_free(a, ia);
    slm_free(b, ib);
    free(text);
}

static void demo_text(void **state) {
    static const char *const texts[] = { "",
                                         " ",
                                         "Hello world",
                                         "What is 47 * 36?\n\n",
                                         "<|im_start|>user\nhi<|im_end|>",
                                         "caf\xc3\xa9 \xf0\x9f\x98\x80",
                                         "<think>x</think>",
                                         "  two  spaces\t\ttabs" };
    slm_engine *a = open_parts("demo-model", SLM_TOKENIZER | SLM_TEMPLATE, false);
    (void)state;
    quantize("demo-model", made("text.gguf"), "q8_0");
    quantize(made("text.gguf"), made("text2.gguf"), "q4_0");
    static const char *const names[] = { "text.gguf", "text2.gguf" };
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        slm_engine *b = open_parts(made(names[k]), SLM_TOKENIZER | SLM_TEMPLATE, false);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            for (unsigned flags = 0; flags < 4; flags++)
                same_ids(a, b, texts[i], strlen(texts[i]), flags);
        json_t *r = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "messages", "role", "system",
                              "content", "Be brief.", "role", "user", "content", "Hi");
        same_render(a, b, r);
        json_decref(r);
        slm_info x = { .size = sizeof x }, y = { .size = sizeof y };
        slm_engine_info(a, &x);
        slm_engine_info(b, &y);
        assert_int_equal(x.n_stop, y.n_stop);
        for (size_t i = 0; i < x.n_stop; i++)
            assert_int_equal(x.stop[i], y.stop[i]);
        assert_int_equal(x.vocab_used, y.vocab_used);
        slm_engine_close(b);
    }
    slm_engine_close(a);
}

/* A folder with a vendor's tokenizer, template and config, shrunk to one small layer of zeros. */
static void put_number(json_t *config, const char *key, int v) {
    if (json_object_get(config, key))
        json_object_set_new(config, key, json_integer(v));
}

static void write_file(const char *path, const char *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void write_zeros(const char *path, json_int_t vocab, bool fused, bool gemma, bool qk_norm) {
    struct {
        const char *name;
        json_int_t rows, cols;
    } all[] = { { "embed_tokens", vocab, 64 },
                { "norm", 64, 0 },
                { "layers.0.input_layernorm", 64, 0 },
                { "layers.0.post_attention_layernorm", 64, 0 },
                { "layers.0.self_attn.o_proj", 64, 64 },
                { "layers.0.mlp.down_proj", 64, 64 },
                { fused ? "layers.0.self_attn.qkv_proj" : "layers.0.self_attn.q_proj",
                  fused ? 192 : 64, 64 },
                { fused ? "layers.0.mlp.gate_up_proj" : "layers.0.mlp.gate_proj", fused ? 128 : 64,
                  64 },
                { fused ? NULL : "layers.0.mlp.up_proj", 64, 64 },
                { fused ? NULL : "layers.0.self_attn.k_proj", 64, 64 },
                { fused ? NULL : "layers.0.self_attn.v_proj", 64, 64 },
                { qk_norm ? "layers.0.self_attn.q_norm" : NULL, 64, 0 },
                { qk_norm ? "layers.0.self_attn.k_norm" : NULL, 64, 0 },
                { gemma ? "layers.0.pre_feedforward_layernorm" : NULL, 64, 0 },
                { gemma ? "layers.0.post_feedforward_layernorm" : NULL, 64, 0 } };
    json_t *head = json_object();
    json_int_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char name[128];
        if (!all[i].name)
            continue;
        json_int_t bytes = 2 * all[i].rows * (all[i].cols ? all[i].cols : 1);
        snprintf(name, sizeof name, "model.%s.weight", all[i].name);
        json_t *shape = all[i].cols ? json_pack("[I,I]", all[i].rows, all[i].cols)
                                    : json_pack("[I]", all[i].rows);
        json_object_set_new(head, name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", "BF16", "shape", shape,
                                      "data_offsets", at, at + bytes));
        at += bytes;
    }
    char *text = json_dumps(head, JSON_COMPACT);
    uint64_t written = strlen(text), n = (written + 7) / 8 * 8; /* blanks to a multiple of 8 */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(&n, 8, 1, f) == 1 && fwrite(text, 1, written, f) == written &&
                fprintf(f, "%*s", (int)(n - written), "") >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(truncate(path, (off_t)(8 + n) + (off_t)at), 0);
    free(text);
    json_decref(head);
}

static bool vendor_folder(const char *model, const char *tokenizer) {
    static const char *const parts[] = { "chat_template.jinja" };
    char rel[128], path[600];
    size_t n;
    snprintf(rel, sizeof rel, "models/%s/config.json", model);
    if (!ref_path(path, sizeof path, rel))
        return false;
    json_t *config = json_load_file(path, 0, NULL);
    assert_non_null(config);
    static const char *const small[] = { "hidden_size", "intermediate_size", "head_dim",
                                         "query_pre_attn_scalar" };
    for (size_t i = 0; i < ARRAY_LEN(small); i++)
        put_number(config, small[i], 64);
    static const char *const one[] = { "num_attention_heads", "num_key_value_heads",
                                       "num_hidden_layers" };
    for (size_t i = 0; i < ARRAY_LEN(one); i++)
        put_number(config, one[i], 1);
    static const char *const per_layer[] = { "layer_types", "no_rope_layers", "rope_scaling",
                                             "max_window_layers", "auto_map" };
    for (size_t i = 0; i < ARRAY_LEN(per_layer); i++)
        json_object_del(config, per_layer[i]);
    json_object_del(config, "partial_rotary_factor");
    mkdir(made("vendor"), 0700);
    char *text = json_dumps(config, 0);
    write_file(made("vendor/config.json"), text, strlen(text));
    free(text);
    bool gemma = strncmp(model, "gemma", 5) == 0, phi = strncmp(model, "phi", 3) == 0;
    write_zeros(made("vendor/model.safetensors"),
                json_integer_value(json_object_get(config, "vocab_size")), phi, gemma,
                gemma || strncmp(model, "qwen", 4) == 0);
    json_decref(config);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        snprintf(rel, sizeof rel, "models/%s/%s", model, parts[i]);
        unlink(made("vendor/chat_template.jinja"));
        if (ref_path(path, sizeof path, rel) && (text = slurp(path, &n)) != NULL) {
            write_file(made("vendor/chat_template.jinja"), text, n);
            free(text);
        }
    }
    snprintf(rel, sizeof rel, "tokenizers/%s/tokenizer.json.gz", tokenizer);
    if (!ref_path(path, sizeof path, rel))
        return false;
    text = slurp_gz(path, &n);
    write_file(made("vendor/tokenizer.json"), text, n);
    free(text);
    unlink(made("vendor/tokenizer_config.json"));
    path[strlen(path) - strlen("tokenizer.json.gz")] = 0; /* the config is not in every folder */
    strncat(path, "tokenizer_config.json", sizeof path - strlen(path) - 1);
    if ((text = slurp(path, &n)) != NULL) {
        write_file(made("vendor/tokenizer_config.json"), text, n);
        free(text);
    }
    return true;
}

static void vendor_cases(const slm_engine *a, const slm_engine *b, const char *model,
                         const char *tokenizer) {
    char rel[128], path[600];
    size_t i, k;
    json_t *entry, *id;
    snprintf(rel, sizeof rel, "tokenizers/%s/golden.json", tokenizer);
    json_t *doc = json_load_file(ref_path(path, sizeof path, rel), 0, NULL);
    json_array_foreach(json_object_get(doc, "cases"), i, entry) {
        const json_t *text = json_object_get(entry, "text"), *want = json_object_get(entry, "ids");
        int32_t *ids = NULL;
        size_t n = 0;
        same_ids(a, b, json_string_value(text), json_string_length(text), SLM_ENCODE_BOS);
        same_ids(a, b, json_string_value(text), json_string_length(text), SLM_ENCODE_DATA);
        MUST(slm_encode(b, json_string_value(text), json_string_length(text), 0, &ids, &n, why));
        assert_int_equal(n, json_array_size(want));
        json_array_foreach(want, k, id) assert_int_equal(ids[k], json_integer_value(id));
        slm_free(b, ids);
    }
    json_decref(doc);
    snprintf(rel, sizeof rel, "models/%s/chat_golden.json", model);
    doc = json_load_file(ref_path(path, sizeof path, rel), 0, NULL);
    json_array_foreach(json_object_get(doc, "cases"), i, entry) same_render(a, b, entry);
    json_decref(doc);
}

static void vendors(void **state) {
    static const struct {
        const char *model, *tokenizer;
    } all[] = { { "gemma-3-270m-it", "gemma3" },
                { "qwen3-0.6b", "qwen3" },
                { "smollm3-3b", "smollm3" },
                { "phi-4-mini-instruct", "phi4-mini" } };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (!vendor_folder(all[i].model, all[i].tokenizer))
            skip();
        quantize(made("vendor"), made("vendor.gguf"), "q8_0");
        slm_engine *a = open_parts(made("vendor"), SLM_TOKENIZER | SLM_TEMPLATE, false);
        slm_engine *b = open_parts(made("vendor.gguf"), SLM_TOKENIZER | SLM_TEMPLATE, false);
        vendor_cases(a, b, all[i].model, all[i].tokenizer);
        slm_engine_close(a);
        slm_engine_close(b);
    }
}

/* ------------------------------------------------------------------ what goes wrong */

static bool stop_at_half(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)user;
    assert_string_equal(stage, "quantize");
    assert_true(done <= total);
    return done * 2 < total;
}

static bool count_up(void *user, const char *stage, uint64_t done, uint64_t total) {
    uint64_t *last = user;
    (void)stage;
    assert_true(done >= *last && done <= total);
    *last = done == total ? UINT64_MAX : done;
    return true;
}

static void failures(void **state) {
    slm_quantize_options o = slm_quantize_default();
    slm_why why;
    struct stat s;
    uint64_t last = 0;
    (void)state;
    assert_int_equal(slm_quantize("demo-model", made("x.gguf"), "q9_9", NULL, &why), SLM_E_ARG);
    assert_int_equal(slm_quantize(NULL, made("x.gguf"), "f16", NULL, NULL), SLM_E_ARG);
    assert_int_equal(slm_quantize("demo-model", NULL, "f16", NULL, NULL), SLM_E_ARG);
    assert_int_equal(slm_quantize("demo-model", made("x.gguf"), NULL, NULL, NULL), SLM_E_ARG);
    assert_int_not_equal(slm_quantize(made("nothing"), made("x.gguf"), "f16", NULL, &why), SLM_OK);
    assert_int_equal(slm_quantize("demo-model", made("no/such/folder.gguf"), "f16", NULL, &why),
                     SLM_E_IO);
    write_file(made("bad.gguf"), "GGUF\3\0\0\0lies", 12);
    assert_int_equal(slm_quantize(made("bad.gguf"), made("x.gguf"), "f16", NULL, &why),
                     SLM_E_FORMAT);
    assert_int_not_equal(stat(made("x.gguf"), &s), 0);
    write_file(made("kept.gguf"), "before", 6);
    o.progress = stop_at_half;
    assert_int_equal(slm_quantize("demo-model", made("kept.gguf"), "q8_0", &o, &why),
                     SLM_E_CANCELLED);
    assert_int_equal(stat(made("kept.gguf"), &s), 0);
    assert_int_equal(s.st_size, 6);
    o.progress = count_up;
    o.user = &last;
    assert_int_equal(slm_quantize("demo-model", made("kept.gguf"), "q8_0", &o, &why), SLM_OK);
    assert_true(last == UINT64_MAX); /* the last call said that all is done */
    quantize(made("kept.gguf"), made("kept.gguf"), "q4_0"); /* onto itself */
    slm_engine_close(open_parts(made("kept.gguf"), SLM_ALL, false));
}

/* The k-th allocation fails, for every k. */
static void out_of_memory(void **state) {
    static const char *const inputs[] = { "golden/smollm3-3b", "golden/phi-4-mini-instruct",
                                          "golden/gguf/qwen3/qwen3-q8_0.gguf" };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(inputs); i++) {
        char in[512];
        struct stat s;
        assert_non_null(data_path(in, sizeof in, inputs[i]));
        unlink(made("oom.gguf"));
        for (size_t k = 1;; k++) {
            struct test_hooks t;
            slm_quantize_options o = slm_quantize_default();
            test_hooks_init(&t, k);
            o.hooks = &t.hooks;
            o.threads = 1;
            slm_err err = slm_quantize(in, made("oom.gguf"), "q8_0", &o, NULL);
            assert_int_equal(t.live, 0);
            if (!t.failed) {
                assert_int_equal(err, SLM_OK);
                break;
            }
            if (err != SLM_E_NOMEM)
                fail_msg("%s, allocation %zu: %s", inputs[i], k, slm_err_name(err));
            assert_int_not_equal(stat(made("oom.gguf"), &s), 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders),       cmocka_unit_test(other_writer),
        cmocka_unit_test(all_types),     cmocka_unit_test(demo_text),
        cmocka_unit_test(vendors),       cmocka_unit_test(failures),
        cmocka_unit_test(out_of_memory),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, NULL);
}
