/* vocab.c - the tokenizer, the chat template and the special ids of an engine.
 *
 * Hugging Face folder: tokenizer.json; chat_template.jinja, else chat_template in
 * tokenizer_config.json (a string, or a list of named ones of which "default" counts);
 * bos_token and eos_token there (a string or an object with content).
 * GGUF: tokenizer.ggml.* and tokenizer.chat_template of the metadata. */
#include <string.h>

#include "base/json.h"
#include "session/engine.h"

#define LIMIT_TOKENIZER ((size_t)256 << 20)
#define LIMIT_CONFIG ((size_t)64 << 20)
#define LIMIT_TEMPLATE ((size_t)1 << 20)

/* Resident bytes of a loaded tokenizer per id, its share of texts, merges and tables included: 78 to
 * 123 for the vocabularies of the known models. And of one chat template with its program. */
#define BYTES_PER_TOKEN 96
#define TEMPLATE_BYTES ((uint64_t)128 << 10)

/* ------------------------------------------------------------------ both kinds */

static slm_err set_template(slm_engine *e, const char *text, size_t n, slm_why *why) {
    if (n > LIMIT_TEMPLATE)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                    "the chat template has %zu bytes, at most %zu", n, LIMIT_TEMPLATE);
    char *copy = arena_strdup(&e->arena, text, n);
    if (copy == NULL)
        return fail_nomem(why, "chat template", n);
    TRY(template_compile(&e->hooks, copy, n, &e->chat, why));
    e->chat_source = copy;
    e->chat_size = n;
    return SLM_OK;
}

/* ------------------------------------------------------------------ GGUF */

/* Strings of a metadata array as (pointer, length) pairs, in the arena `scratch`. */
static slm_err texts(struct arena *scratch, const struct gguf_value *v, struct token_text **out,
                     size_t *n, slm_why *why) {
    *out = NULL;
    *n = 0;
    if (v == NULL)
        return SLM_OK;
    if (v->type != GGUF_ARRAY || v->item != GGUF_STRING)
        return fail(why, SLM_E_FORMAT, v->offset, "'%s' is not an array of strings", v->key);
    struct token_text *t = arena_alloc(scratch, (size_t)v->count, sizeof *t);
    if (t == NULL)
        return fail_nomem(why, v->key, (size_t)v->count * sizeof *t);
    uint64_t cursor = 0;
    while (*n < v->count && gguf_next_str(v, &cursor, &t[*n].s, &t[*n].n))
        ++*n;
    *out = t;
    return SLM_OK;
}

/* A numeric array with one entry per token; NULL when absent. */
static slm_err token_types(struct arena *scratch, const struct gguf_value *v, size_t n_tokens,
                           int32_t **out, slm_why *why) {
    *out = NULL;
    if (v == NULL)
        return SLM_OK;
    if (v->type != GGUF_ARRAY || (v->item != GGUF_I32 && v->item != GGUF_U32) ||
        v->count != n_tokens)
        return fail(why, SLM_E_FORMAT, v->offset, "'%s' has %llu entries of type %d for %zu tokens",
                    v->key, (unsigned long long)v->count, (int)v->item, n_tokens);
    *out = arena_alloc(scratch, n_tokens, sizeof **out);
    if (*out == NULL)
        return fail_nomem(why, v->key, n_tokens * sizeof **out);
    for (size_t i = 0; i < n_tokens; i++) {
        int64_t x = gguf_item_int(v, i);
        (*out)[i] = x < 0 || x > 6 ? 0 : (int32_t)x;
    }
    return SLM_OK;
}

static slm_err token_scores(struct arena *scratch, const struct gguf_value *v, size_t n_tokens,
                            float **out, slm_why *why) {
    *out = NULL;
    if (v == NULL)
        return SLM_OK;
    if (v->type != GGUF_ARRAY || v->item != GGUF_F32 || v->count != n_tokens)
        return fail(why, SLM_E_FORMAT, v->offset, "'%s' has %llu entries for %zu tokens", v->key,
                    (unsigned long long)v->count, n_tokens);
    *out = arena_alloc(scratch, n_tokens, sizeof **out);
    if (*out == NULL)
        return fail_nomem(why, v->key, n_tokens * sizeof **out);
    for (size_t i = 0; i < n_tokens; i++)
        (*out)[i] = gguf_item_f32(v, i);
    return SLM_OK;
}

static const char *gguf_text(slm_engine *e, const char *key, slm_err *err, slm_why *why) {
    const char *s;
    size_t n;
    if (!gguf_str(e->tensors->gguf, key, &s, &n, err, why))
        return NULL;
    char *copy = arena_strdup(&e->arena, s, n);
    if (copy == NULL && *err == SLM_OK)
        *err = fail_nomem(why, key, n);
    return copy;
}

static int32_t gguf_id(const struct gguf *g, const char *key, slm_err *err, slm_why *why) {
    uint32_t id;
    return gguf_u32(g, key, &id, err, why) && id <= INT32_MAX ? (int32_t)id : -1;
}

static slm_err gguf_tokenizer(slm_engine *e, struct arena *scratch, slm_why *why) {
    const struct gguf *g = e->tensors->gguf;
    struct token_text *tokens, *merges;
    int32_t *types;
    float *scores;
    slm_err err = SLM_OK;
    struct token_spec spec = { .bos = -1, .eos = -1, .unk = -1 };
    const struct gguf_value *list = gguf_find(g, "tokenizer.ggml.tokens"),
                            *pairs = gguf_find(g, "tokenizer.ggml.merges");
    if (list == NULL)
        return SLM_OK;
    TRY(texts(scratch, list, &tokens, &spec.n_tokens, why));
    TRY(texts(scratch, pairs, &merges, &spec.n_merges, why));
    TRY(token_types(scratch, gguf_find(g, "tokenizer.ggml.token_type"), spec.n_tokens, &types,
                    why));
    TRY(token_scores(scratch, gguf_find(g, "tokenizer.ggml.scores"), spec.n_tokens, &scores, why));
    spec.tokens = tokens;
    spec.merges = merges;
    spec.types = types;
    spec.scores = scores;
    spec.model = gguf_text(e, "tokenizer.ggml.model", &err, why);
    spec.pre = gguf_text(e, "tokenizer.ggml.pre", &err, why);
    spec.bos = gguf_id(g, "tokenizer.ggml.bos_token_id", &err, why);
    spec.eos = gguf_id(g, "tokenizer.ggml.eos_token_id", &err, why);
    spec.unk = gguf_id(g, "tokenizer.ggml.unknown_token_id", &err, why);
    gguf_bool(g, "tokenizer.ggml.add_bos_token", &spec.add_bos, &err, why);
    gguf_bool(g, "tokenizer.ggml.add_space_prefix", &spec.add_space_prefix, &err, why);
    TRY(err);
    return tokenizer_from_spec(&e->hooks, &spec, &e->tokenizer, why);
}

/* Text of a special token for the template; untouched where there is no such token. */
static slm_err keep_text(slm_engine *e, const char *text, size_t n, char **out, slm_why *why) {
    char *copy = arena_strdup(&e->arena, text, n);
    if (copy == NULL)
        return fail_nomem(why, "special token", n);
    *out = copy;
    return SLM_OK;
}

static slm_err token_copy(slm_engine *e, const char *key, char **out, slm_why *why) {
    const char *text;
    size_t n;
    slm_err err = SLM_OK;
    int32_t id = gguf_id(e->tensors->gguf, key, &err, why);
    TRY(err);
    if (e->tokenizer == NULL || id < 0 || !token_text_of(e->tokenizer, id, &text, &n))
        return SLM_OK;
    return keep_text(e, text, n, out, why);
}

slm_err vocab_from_gguf(slm_engine *e, unsigned want, slm_why *why) {
    const struct gguf *g = e->tensors->gguf;
    slm_err err = SLM_OK;
    const char *text;
    size_t n;
    if (want & SLM_TOKENIZER) {
        struct arena scratch;
        arena_init(&scratch, &e->hooks, 0);
        err = gguf_tokenizer(e, &scratch, why);
        arena_free(&scratch);
        TRY(err);
        TRY(token_copy(e, "tokenizer.ggml.bos_token_id", &e->bos_text, why));
        TRY(token_copy(e, "tokenizer.ggml.eos_token_id", &e->eos_text, why));
    }
    if ((want & SLM_TEMPLATE) && gguf_str(g, "tokenizer.chat_template", &text, &n, &err, why))
        TRY(set_template(e, text, n, why));
    return err;
}

/* ------------------------------------------------------------------ Hugging Face */

/* "<s>" or {"content": "<s>", ...} */
static slm_err special_text(slm_engine *e, const json_t *config, const char *key, char **out,
                            slm_why *why) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v))
        v = json_object_get(v, "content");
    if (!json_is_string(v))
        return SLM_OK;
    return keep_text(e, json_string_value(v), json_string_length(v), out, why);
}

const json_t *config_template(const json_t *config) {
    const json_t *v = json_object_get(config, "chat_template"), *entry;
    size_t i;
    if (!json_is_array(v))
        return json_is_string(v) ? v : NULL;
    json_array_foreach(v, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0 &&
            json_is_string(json_object_get(entry, "template")))
            return json_object_get(entry, "template");
    }
    return NULL;
}

static slm_err read_tokenizer_config(slm_engine *e, const struct parts *p, bool want_template,
                                     slm_why *why) {
    struct mapping map;
    json_t *config = NULL;
    TRY(parts_map(p, "tokenizer_config.json", LIMIT_CONFIG, &map, why));
    if (map.data == NULL)
        return SLM_OK;
    slm_err err = json_text((const char *)map.data, map.size, &config, why);
    if (err == SLM_OK && !json_is_object(config))
        err = fail(why, SLM_E_FORMAT, 0, "not an object");
    if (err == SLM_OK)
        err = special_text(e, config, "bos_token", &e->bos_text, why);
    if (err == SLM_OK)
        err = special_text(e, config, "eos_token", &e->eos_text, why);
    const json_t *t = err == SLM_OK ? config_template(config) : NULL;
    if (want_template && e->chat == NULL && t != NULL)
        err = set_template(e, json_string_value(t), json_string_length(t), why);
    json_decref(config);
    file_unmap(&map);
    return err == SLM_OK ? SLM_OK : fail_prefix(why, err, "tokenizer_config.json");
}

static slm_err read_template_file(slm_engine *e, const struct parts *p, slm_why *why) {
    struct mapping map;
    TRY(parts_map(p, "chat_template.jinja", LIMIT_TEMPLATE, &map, why));
    if (map.data == NULL)
        return SLM_OK;
    slm_err err = set_template(e, (const char *)map.data, map.size, why);
    file_unmap(&map);
    return err;
}

slm_err vocab_from_parts(slm_engine *e, const struct parts *p, unsigned want, slm_why *why) {
    if (want & SLM_TOKENIZER) {
        struct mapping map;
        TRY(parts_map(p, "tokenizer.json", LIMIT_TOKENIZER, &map, why));
        if (map.data != NULL) {
            slm_err err = tokenizer_from_json(&e->hooks, (const char *)map.data, map.size,
                                              &e->tokenizer, why);
            file_unmap(&map);
            if (err != SLM_OK)
                return fail_prefix(why, err, "tokenizer.json");
        }
    }
    if (want & SLM_TEMPLATE)
        TRY(read_template_file(e, p, why));
    return read_tokenizer_config(e, p, (want & SLM_TEMPLATE) != 0, why);
}

/* ------------------------------------------------------------------ what it costs */

slm_err vocab_estimate(slm_engine *e, const struct parts *p, unsigned want, slm_why *why) {
    const struct gguf *g = e->tensors != NULL ? e->tensors->gguf : NULL;
    const struct gguf_value *list = g != NULL ? gguf_find(g, "tokenizer.ggml.tokens") : NULL;
    bool folder_has = false;
    uint64_t n = 0;
    if (g == NULL)
        TRY(parts_have(p, "tokenizer.json", &folder_has, why));
    if ((want & SLM_WEIGHTS) && !(want & SLM_TOKENIZER))
        n = 0;
    else if (e->tokenizer != NULL)
        n = tokenizer_size(e->tokenizer);
    else if (list != NULL)
        n = list->count;
    else if (folder_has && e->has_facts)
        n = e->facts.m.vocab;
    e->vocabulary_bytes = n * BYTES_PER_TOKEN + (n > 0 ? TEMPLATE_BYTES : 0);
    return SLM_OK;
}
