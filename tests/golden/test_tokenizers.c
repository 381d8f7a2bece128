/* test_tokenizers.c - ids of the real tokenizers against goldens made with the official library.
 *
 * In the reference folder: tokenizers/<name>/golden.json (52 texts each), the ids in
 * models/<model>/chat_golden.json. Of our own: demo-model/. Each tokenizer is built twice, from its
 * tokenizer.json and from the arrays that a GGUF file would hold, and must give the same ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support.h"
#include "token/token.h"

/* ---- building ---- */

struct built {
    struct tokenizer *json, *spec;
    char *text;
    size_t n;
};

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The arrays as a converter to GGUF writes them, from the tree of a tokenizer.json. */
static struct tokenizer *build_spec(const json_t *root, const char *pre) {
    bool spm = strcmp(pre, "default") == 0;
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    json_t *added = json_object_get(root, "added_tokens"), *value;
    const char *key;
    size_t i, n = 0;
    json_object_foreach(vocab, key, value) if ((size_t)json_integer_value(value) >= n) n =
        (size_t)json_integer_value(value) + 1;
    json_array_foreach(added, i,
                       value) if ((size_t)json_integer_value(json_object_get(value, "id")) >= n) n =
        (size_t)json_integer_value(json_object_get(value, "id")) + 1;
    n += 7; /* unused rows at the end, as models have */

    struct token_text *tokens = calloc(n, sizeof *tokens);
    int32_t *types = calloc(n, sizeof *types);
    float *scores = calloc(n, sizeof *scores);
    for (i = 0; i < n; i++) {
        tokens[i] = (struct token_text){ "[PAD1]", 6 };
        types[i] = TT_UNUSED;
        scores[i] = -(float)i;
    }
    json_object_foreach(vocab, key, value) {
        size_t id = (size_t)json_integer_value(value);
        tokens[id] = (struct token_text){ key, strlen(key) };
        types[id] = spm && strlen(key) == 6 && starts_with(key, "<0x") ? TT_BYTE : TT_NORMAL;
    }
    json_array_foreach(added, i, value) {
        size_t id = (size_t)json_integer_value(json_object_get(value, "id"));
        const char *content = json_string_value(json_object_get(value, "content"));
        tokens[id] = (struct token_text){ content, strlen(content) };
        types[id] = json_is_true(json_object_get(value, "special")) ? TT_CONTROL : TT_USER;
    }
    if (spm)
        types[3] = TT_UNKNOWN;

    size_t n_merges = spm ? 0 : json_array_size(merges);
    struct token_text *lines = calloc(n_merges + 1, sizeof *lines);
    for (i = 0; i < n_merges; i++) {
        const json_t *m = json_array_get(merges, i);
        char *line;
        if (json_is_string(m)) {
            line = strdup(json_string_value(m));
        } else {
            const char *a = json_string_value(json_array_get(m, 0));
            const char *b = json_string_value(json_array_get(m, 1));
            line = malloc(strlen(a) + strlen(b) + 2);
            sprintf(line, "%s %s", a, b);
        }
        lines[i] = (struct token_text){ line, strlen(line) };
    }
    struct token_spec spec = { .model = spm ? "llama" : "gpt2",
                               .pre = pre,
                               .tokens = tokens,
                               .types = types,
                               .scores = spm ? scores : NULL,
                               .n_tokens = n,
                               .merges = lines,
                               .n_merges = n_merges,
                               .bos = spm ? 2 : -1,
                               .eos = -1,
                               .unk = spm ? 3 : -1,
                               .add_bos = spm };
    struct tokenizer *t = NULL;
    slm_why why = { 0 };
    if (tokenizer_from_spec(NULL, &spec, &t, &why) != SLM_OK)
        print_message("spec: %s\n", why.message);
    for (i = 0; i < n_merges; i++)
        free((char *)lines[i].s);
    free(lines);
    free(scores);
    free(types);
    free(tokens);
    return t;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static struct built build(const char *path, const char *pre) {
    struct built b = { 0 };
    slm_why why = { 0 };
    b.text = slurp_gz(path, &b.n);
    assert_non_null(b.text);
    double start = seconds();
    if (tokenizer_from_json(NULL, b.text, b.n, &b.json, &why) != SLM_OK)
        fail_msg("%s: %s at %llu", path, why.message, (unsigned long long)why.offset);
    print_message("%s: %.0f ms for %.1f MB\n", path, (seconds() - start) * 1e3, (double)b.n * 1e-6);
    json_t *root = json_loadb(b.text, b.n, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    b.spec = build_spec(root, pre);
    json_decref(root);
    assert_non_null(b.spec);
    free(b.text);
    return b;
}

static void drop(struct built *b) {
    tokenizer_free(b->json);
    tokenizer_free(b->spec);
}

/* ---- comparing ---- */

static void print_ids(const char *what, const int32_t *ids, size_t n) {
    print_message("%s:", what);
    for (size_t i = 0; i < n && i < 60; i++)
        print_message(" %d", ids[i]);
    print_message("\n");
}

/* Whether text encodes to the list `expected`. */
static bool encodes_to(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                       const json_t *expected) {
    struct token_piece piece = { text, n, false };
    int32_t *ids = NULL;
    size_t n_ids = 0;
    slm_why why = { 0 };
    if (tokenizer_encode(t, &piece, 1, flags, &ids, &n_ids, &why) != SLM_OK) {
        print_message("encode: %s\n", why.message);
        return false;
    }
    bool same = n_ids == json_array_size(expected);
    for (size_t i = 0; same && i < n_ids; i++)
        same = ids[i] == json_integer_value(json_array_get(expected, i));
    if (!same) {
        char *want = json_dumps(expected, JSON_COMPACT);
        print_message("text %.*s\nwant %.300s\n", (int)(n < 200 ? n : 200), text, want);
        print_ids("got ", ids, n_ids);
        free(want);
    }
    free(ids);
    return same;
}

static bool decodes_to(const struct tokenizer *t, const json_t *list, const json_t *expected) {
    size_t n = json_array_size(list);
    int32_t *ids = calloc(n + 1, sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out;
    buf_init(&out, &hooks, 1 << 20);
    assert_int_equal(tokenizer_decode(t, ids, n, false, &out, NULL), SLM_OK);
    bool same = out.len == json_string_length(expected) &&
                (out.len == 0 || memcmp(out.data, json_string_value(expected), out.len) == 0);
    if (!same)
        print_message("decoded '%.*s', want '%s'\n", (int)out.len, out.data,
                      json_string_value(expected));
    buf_free(&out);
    free(ids);
    return same;
}

static json_t *load_golden(const char *rel) {
    char path[512];
    if (ref_path(path, sizeof path, rel) == NULL)
        return NULL;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    return root;
}

/* Text that came from outside and spells control tokens: no control id, and it comes back whole. */
static bool data_stays_text(const struct tokenizer *t, const char *control) {
    struct token_piece pieces[] = { { control, strlen(control), false }, /* trusted: the token */
                                    { control, strlen(control), true },
                                    { "x ", 2, true },
                                    { control, 3, true }, /* in two parts, one of them trusted */
                                    { control + 3, strlen(control) - 3, false } };
    int32_t *ids = NULL, id = token_id_of(t, control, strlen(control));
    size_t n = 0, n_control = 0;
    if (id < 0 || !token_is_control(t, id) ||
        tokenizer_encode(t, pieces, 5, 0, &ids, &n, NULL) != SLM_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        n_control += token_is_control(t, ids[i]);
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    struct buf out;
    buf_init(&out, &hooks, 1 << 20);
    assert_int_equal(tokenizer_decode(t, ids + 1, n - 1, false, &out, NULL), SLM_OK);
    char want[256];
    snprintf(want, sizeof want, "%sx %s", control, control);
    bool ok = n_control == 1 && ids[0] == id && out.len == strlen(want) &&
              memcmp(out.data, want, out.len) == 0;
    if (!ok) {
        print_message("%s as data decodes to '%.*s', %zu control ids\n", control, (int)out.len,
                      out.data, n_control);
        print_ids("ids", ids, n);
    }
    buf_free(&out);
    free(ids);
    return ok;
}

/* ---- tests ---- */

struct row {
    const char *name, *pre, *control;
    const char *models[4]; /* whose chat goldens use this tokenizer */
};
static const struct row rows[] = {
    { "qwen3", "qwen2", "<|im_end|>", { "qwen3-0.6b", "qwen3-4b-instruct-2507", "jan-v1-4b" } },
    { "gemma3", "default", "<end_of_turn>", { "gemma-3-270m-it", "gemma-3-4b-it" } },
    { "smollm3", "smaug-bpe", "<|im_end|>", { "smollm3-3b" } },
    { "phi4-mini", "gpt-4o", "<|end|>", { "phi-4-mini-instruct" } },
    { "llama3", "llama-bpe", "<|eot_id|>", { NULL } },
    { "gpt4o", "gpt-4o", "<|endoftext|>", { NULL } },
};

static size_t check_chats(const struct row *row, const struct built *b) {
    size_t wrong = 0;
    for (int m = 0; m < 4 && row->models[m] != NULL; m++) {
        char rel[256];
        snprintf(rel, sizeof rel, "models/%s/chat_golden.json", row->models[m]);
        json_t *golden = load_golden(rel), *c;
        size_t i;
        json_array_foreach(json_object_get(golden, "cases"), i, c) {
            const json_t *text = json_object_get(c, "rendered"), *ids = json_object_get(c, "ids");
            if (!json_is_string(text) || !json_is_array(ids))
                continue;
            wrong +=
                !encodes_to(b->json, json_string_value(text), json_string_length(text), 0, ids);
            wrong +=
                !encodes_to(b->spec, json_string_value(text), json_string_length(text), 0, ids);
        }
        json_decref(golden);
    }
    return wrong;
}

static void run_row(const struct row *row) {
    char rel[256], path[512];
    snprintf(rel, sizeof rel, "tokenizers/%s/tokenizer.json.gz", row->name);
    if (ref_path(path, sizeof path, rel) == NULL)
        skip();
    struct built b = build(path, row->pre);
    snprintf(rel, sizeof rel, "tokenizers/%s/golden.json", row->name);
    json_t *golden = load_golden(rel), *c;
    size_t i, wrong = 0;
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const json_t *text = json_object_get(c, "text"), *ids = json_object_get(c, "ids");
        const json_t *decoded = json_object_get(c, "decoded");
        const char *s = json_string_value(text);
        size_t n = json_string_length(text);
        wrong += !encodes_to(b.json, s, n, 0, ids);
        wrong += !encodes_to(b.spec, s, n, 0, ids);
        wrong += !decodes_to(b.json, ids, decoded != NULL ? decoded : text);
        wrong += !decodes_to(b.spec, ids, decoded != NULL ? decoded : text);
    }
    assert_int_equal(i, 52);
    const json_t *with_bos = json_object_get(golden, "hello_world_with_special_tokens");
    wrong += !encodes_to(b.json, "Hello world", 11, TOKEN_ADD_BOS, with_bos);
    json_decref(golden);
    wrong += check_chats(row, &b);
    wrong += !data_stays_text(b.json, row->control);
    wrong += !data_stays_text(b.spec, row->control);
    assert_int_equal(tokenizer_size(b.json), tokenizer_size(b.spec));
    drop(&b);
    assert_int_equal(wrong, 0);
}

static void test_qwen3(void **state) {
    (void)state;
    run_row(&rows[0]);
}
static void test_gemma3(void **state) {
    (void)state;
    run_row(&rows[1]);
}
static void test_smollm3(void **state) {
    (void)state;
    run_row(&rows[2]);
}
static void test_phi4_mini(void **state) {
    (void)state;
    run_row(&rows[3]);
}
static void test_llama3(void **state) {
    (void)state;
    run_row(&rows[4]);
}
static void test_gpt4o(void **state) {
    (void)state;
    run_row(&rows[5]);
}

/* Our own model: every prompt of its golden file, and the answers decoded. */
static void test_demo(void **state) {
    (void)state;
    char path[512];
    assert_non_null(data_path(path, sizeof path, "../demo-model/tokenizer.json"));
    struct built b = build(path, "qwen2");
    assert_non_null(data_path(path, sizeof path, "../demo-model/golden.json"));
    json_t *golden = json_load_file(path, 0, NULL), *c;
    size_t i, wrong = 0;
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        const json_t *text = json_object_get(c, "prompt"), *ids = json_object_get(c, "prompt_ids");
        wrong += !encodes_to(b.json, json_string_value(text), json_string_length(text), 0, ids);
        wrong += !encodes_to(b.spec, json_string_value(text), json_string_length(text), 0, ids);
        wrong += !decodes_to(b.json, ids, text);
    }
    assert_true(i >= 20);
    wrong += !data_stays_text(b.json, "<|im_end|>");
    json_decref(golden);
    drop(&b);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_demo),      cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_gemma3),    cmocka_unit_test(test_smollm3),
        cmocka_unit_test(test_phi4_mini), cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_gpt4o),
    };
    return cmocka_run_group_tests_name("tokenizers", tests, NULL, NULL);
}
