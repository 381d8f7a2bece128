/* metadata.c - GGUF metadata of a file that slm writes.
 *
 * From another GGUF file everything is copied, except what quantising changes. From a Hugging Face
 * folder the keys of the architecture, the tokenizer and the chat template are written, with the
 * names that llama.cpp's converter uses (gguf specification), so that other programs read them. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "session/quantize.h"

slm_err metadata_copy(const struct source *in, uint32_t file_type, struct gguf_writer *w,
                      slm_why *why) {
    const struct gguf *g = in->tensors->gguf;
    slm_err err = SLM_OK;
    for (uint32_t i = 0; i < gguf_count(g) && err == SLM_OK; i++) {
        const struct gguf_value *v = gguf_at(g, i);
        if (strcmp(v->key, "general.file_type") != 0 && strcmp(v->key, "general.alignment") != 0 &&
            strcmp(v->key, "general.quantization_version") != 0)
            err = gguf_put_raw(w, v);
    }
    if (err == SLM_OK)
        err = gguf_put_u32(w, "general.file_type", file_type);
    if (err == SLM_OK)
        err = gguf_put_u32(w, "general.quantization_version", 2);
    return err == SLM_OK
               ? SLM_OK
               : fail(why, err, SLM_NO_OFFSET, "metadata cannot be written: %s", err_text(err));
}

/* ------------------------------------------------------------------ architecture */

struct arch_writer {
    struct gguf_writer *w;
    const char *arch;
    slm_err err;
};

static const char *key(const struct arch_writer *a, const char *name, char buffer[128]) {
    snprintf(buffer, 128, "%s.%s", a->arch, name);
    return buffer;
}

static void arch_u32(struct arch_writer *a, const char *name, uint32_t v) {
    char k[128];
    if (a->err == SLM_OK)
        a->err = gguf_put_u32(a->w, key(a, name, k), v);
}

static void arch_f32(struct arch_writer *a, const char *name, float v) {
    char k[128];
    if (a->err == SLM_OK)
        a->err = gguf_put_f32(a->w, key(a, name, k), v);
}

static void arch_str(struct arch_writer *a, const char *name, const char *s) {
    char k[128];
    if (a->err == SLM_OK)
        a->err = gguf_put_str(a->w, key(a, name, k), s, strlen(s));
}

/* Which layers slide, where that is not what every reader of the family assumes. */
static slm_err put_pattern(const struct arch_writer *a, const struct model *m,
                           const struct slm_hooks *h, slm_why *why) {
    const char *usual = m->family->default_pattern;
    char k[128];
    bool same = true, known = true;
    for (uint32_t i = 0; i < m->layers; i++) {
        char mine = pattern_at(m->pattern, i), theirs = pattern_at(usual, i);
        same = same && mine == theirs;
        known = known && (mine == 'N') == (theirs == 'N');
    }
    if (same)
        return SLM_OK;
    if (!known || !m->family->sliding_pattern)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "GGUF has no key for the layers '%.64s' of this model; usual are '%s'",
                    m->pattern, usual);
    int32_t *flags = mem_alloc(h, m->layers, sizeof *flags);
    if (flags == NULL)
        return fail_nomem(why, "kinds of layers", m->layers * sizeof *flags);
    for (uint32_t i = 0; i < m->layers; i++)
        flags[i] = pattern_at(m->pattern, i) == 's';
    slm_err err =
        gguf_put_i32s(a->w, key(a, "attention.sliding_window_pattern", k), flags, m->layers);
    mem_free(h, flags);
    return err;
}

static slm_err put_arch(const struct model *m, const struct slm_hooks *h, struct gguf_writer *w,
                        slm_why *why) {
    struct arch_writer a = { .w = w, .arch = m->family->gguf_arch };
    arch_u32(&a, "block_count", m->layers);
    arch_u32(&a, "context_length", m->context);
    arch_u32(&a, "embedding_length", m->hidden);
    arch_u32(&a, "feed_forward_length", m->ffn);
    arch_u32(&a, "attention.head_count", m->heads);
    arch_u32(&a, "attention.head_count_kv", m->kv_heads);
    arch_f32(&a, "attention.layer_norm_rms_epsilon", m->eps);
    arch_u32(&a, "attention.key_length", m->head_dim);
    arch_u32(&a, "attention.value_length", m->head_dim);
    arch_u32(&a, "vocab_size", m->vocab);
    arch_u32(&a, "rope.dimension_count", m->rotary);
    arch_f32(&a, "rope.freq_base", m->theta);
    if (m->window > 0)
        arch_u32(&a, "attention.sliding_window", m->window);
    if (m->family->defaults.query_scalar > 0)
        arch_f32(&a, "attention.scale", m->attn_scale);
    if (m->theta_sliding > 0.0f && m->family->sliding_pattern)
        arch_f32(&a, "rope.freq_base_swa", m->theta_sliding);
    if (m->rope.kind == ROPE_LINEAR) {
        arch_str(&a, "rope.scaling.type", "linear");
        arch_f32(&a, "rope.scaling.factor", m->rope.factor);
    }
    if (m->rope.kind == ROPE_LONG) {
        arch_u32(&a, "rope.scaling.original_context_length", m->rope.original_context);
        arch_f32(&a, "rope.scaling.attn_factor", m->rope.attention_factor);
    }
    return a.err == SLM_OK ? put_pattern(&a, m, h, why) : a.err;
}

/* ------------------------------------------------------------------ tokenizer.json -> arrays */

struct vocabulary {
    struct arena arena;
    const char **text; /* [n] NULL: no such id */
    size_t *len;
    int32_t *type;
    uint32_t n; /* rows of the embedding */
    const char **merge;
    size_t *merge_len;
    size_t n_merges, cap_merges;
};

static slm_err keep(struct vocabulary *v, int64_t id, const char *s, size_t n, int32_t type,
                    slm_why *why) {
    if (id < 0 || id >= v->n)
        return SLM_OK; /* a tokenizer may know ids that the model has no rows for */
    /* some vendors list control tokens twice, and the plain list last: it does not make text of them */
    bool added = v->text[id] != NULL && (v->type[id] == TT_CONTROL || v->type[id] == TT_USER);
    v->text[id] = arena_strdup(&v->arena, s, n);
    v->len[id] = n;
    if (!added || type != TT_NORMAL)
        v->type[id] = type;
    return v->text[id] != NULL ? SLM_OK : fail_nomem(why, "token", n);
}

static slm_err read_vocab(struct json_pull *p, struct vocabulary *v, bool spm, slm_why *why) {
    char name[512];
    for (enum json_event e; (e = json_next(p)) == PULL_KEY;) {
        size_t n = p->n;
        int64_t id;
        const char *text = arena_strdup(&v->arena, p->text, n);
        if (text == NULL)
            return fail_nomem(why, "token", n);
        snprintf(name, sizeof name, "%s", text);
        if (json_next(p) != PULL_NUMBER || !json_pull_int(p, &id))
            return json_pull_fail(p, SLM_E_FORMAT, "token '%s' has no id", name);
        int32_t type = spm && n == 6 && memcmp(text, "<0x", 3) == 0 ? TT_BYTE
                       : spm && strcmp(text, "<unk>") == 0          ? TT_UNKNOWN
                                                                    : TT_NORMAL;
        TRY(keep(v, id, text, n, type, why));
    }
    return p->err;
}

static slm_err grow_merges(struct vocabulary *v, slm_why *why) {
    size_t cap = v->cap_merges == 0 ? 65536 : v->cap_merges * 2;
    const char **m = arena_alloc(&v->arena, cap, sizeof *m);
    size_t *l = arena_alloc(&v->arena, cap, sizeof *l);
    if (m == NULL || l == NULL)
        return fail_nomem(why, "merges", cap * sizeof *m);
    if (v->n_merges > 0) {
        memcpy(m, v->merge, v->n_merges * sizeof *m);
        memcpy(l, v->merge_len, v->n_merges * sizeof *l);
    }
    v->merge = m;
    v->merge_len = l;
    v->cap_merges = cap;
    return SLM_OK;
}

/* "a b" or ["a", "b"] */
static slm_err read_merges(struct json_pull *p, struct vocabulary *v, slm_why *why) {
    for (enum json_event e; (e = json_next(p)) == PULL_STRING || e == PULL_ARRAY;) {
        if (v->n_merges == v->cap_merges)
            TRY(grow_merges(v, why));
        const char *a = NULL, *pair;
        size_t na = 0, n;
        if (e == PULL_ARRAY) {
            if (json_next(p) != PULL_STRING ||
                (na = p->n, a = arena_strdup(&v->arena, p->text, na)) == NULL ||
                json_next(p) != PULL_STRING)
                return json_pull_fail(p, SLM_E_FORMAT, "merge %zu is no pair of strings",
                                      v->n_merges);
            char *both = arena_alloc(&v->arena, na + 1 + p->n + 1, 1);
            if (both == NULL)
                return fail_nomem(why, "merge", na + p->n);
            memcpy(both, a, na);
            both[na] = ' ';
            memcpy(both + na + 1, p->text, p->n);
            n = na + 1 + p->n;
            both[n] = '\0';
            pair = both;
            if (json_next(p) != PULL_ARRAY_END)
                return json_pull_fail(p, SLM_E_FORMAT, "merge %zu has more than two parts",
                                      v->n_merges);
        } else {
            n = p->n;
            pair = arena_strdup(&v->arena, p->text, n);
            if (pair == NULL)
                return fail_nomem(why, "merge", n);
        }
        v->merge[v->n_merges] = pair;
        v->merge_len[v->n_merges++] = n;
    }
    return p->err;
}

static slm_err read_model(struct json_pull *p, struct vocabulary *v, bool spm, slm_why *why) {
    for (enum json_event e; (e = json_next(p)) == PULL_KEY;) {
        bool vocab = p->n == 5 && memcmp(p->text, "vocab", 5) == 0,
             merges = p->n == 6 && memcmp(p->text, "merges", 6) == 0;
        enum json_event first = json_next(p);
        if (vocab && first == PULL_OBJECT)
            TRY(read_vocab(p, v, spm, why));
        else if (merges && first == PULL_ARRAY && !spm)
            TRY(read_merges(p, v, why));
        else
            json_skip(p, first);
    }
    return p->err;
}

static slm_err read_added(struct json_pull *p, struct vocabulary *v, slm_why *why) {
    while (json_next(p) == PULL_OBJECT) {
        char text[1024] = "";
        size_t n = 0;
        int64_t id = -1;
        bool special = false;
        for (enum json_event e; (e = json_next(p)) == PULL_KEY;) {
            char name[32];
            snprintf(name, sizeof name, "%.*s", (int)(p->n < 31 ? p->n : 31), p->text);
            enum json_event value = json_next(p);
            if (value == PULL_STRING && strcmp(name, "content") == 0 && p->n < sizeof text) {
                n = p->n;
                memcpy(text, p->text, n);
            } else if (value == PULL_NUMBER && strcmp(name, "id") == 0) {
                json_pull_int(p, &id);
            } else if (strcmp(name, "special") == 0) {
                special = value == PULL_TRUE;
            } else {
                json_skip(p, value);
            }
        }
        if (n > 0)
            TRY(keep(v, id, text, n, special ? TT_CONTROL : TT_USER, why));
    }
    return p->err;
}

static slm_err read_tokenizer(const struct source *in, const struct mapping *map,
                              struct vocabulary *v, bool spm, slm_why *why) {
    struct json_pull p;
    slm_err err = SLM_OK;
    json_pull_init(&p, &in->hooks, (const char *)map->data, map->size, why);
    if (json_next(&p) != PULL_OBJECT)
        err = json_pull_fail(&p, SLM_E_FORMAT, "not an object");
    while (err == SLM_OK && json_next(&p) == PULL_KEY) {
        bool model = p.n == 5 && memcmp(p.text, "model", 5) == 0,
             added = p.n == 12 && memcmp(p.text, "added_tokens", 12) == 0;
        enum json_event first = json_next(&p);
        if (model && first == PULL_OBJECT)
            err = read_model(&p, v, spm, why);
        else if (added && first == PULL_ARRAY)
            err = read_added(&p, v, why);
        else
            json_skip(&p, first);
        if (err == SLM_OK)
            err = p.err;
    }
    json_pull_free(&p);
    return err;
}

/* Rows without a token get names that no text can produce, marked as unused. */
static slm_err fill_holes(struct vocabulary *v, slm_why *why) {
    char name[32];
    for (uint32_t i = 0; i < v->n; i++)
        if (v->text[i] == NULL) {
            int n = snprintf(name, sizeof name, "[PAD%u]", i);
            TRY(keep(v, i, name, (size_t)n, TT_UNUSED, why));
        }
    return SLM_OK;
}

static slm_err put_arrays(const struct vocabulary *v, bool spm, struct gguf_writer *w,
                          slm_why *why) {
    TRY(gguf_put_strs(w, "tokenizer.ggml.tokens", v->text, v->len, v->n));
    TRY(gguf_put_i32s(w, "tokenizer.ggml.token_type", v->type, v->n));
    if (!spm)
        return gguf_put_strs(w, "tokenizer.ggml.merges", v->merge, v->merge_len, v->n_merges);
    /* The order of merging is the order of ids; a score per token says the same. */
    float *scores = mem_alloc(v->arena.hooks, v->n, sizeof *scores);
    if (scores == NULL)
        return fail_nomem(why, "scores", v->n * sizeof *scores);
    for (uint32_t i = 0; i < v->n; i++)
        scores[i] = -(float)i;
    slm_err err = gguf_put_f32s(w, "tokenizer.ggml.scores", scores, v->n);
    mem_free(v->arena.hooks, scores);
    for (uint32_t i = 0; i < v->n && err == SLM_OK; i++)
        if (v->type[i] == TT_UNKNOWN) {
            err = gguf_put_u32(w, "tokenizer.ggml.unknown_token_id", i);
            break;
        }
    return err == SLM_OK ? gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false) : err;
}

/* Whether the tokenizer puts a token in front of raw text, which no file but its own says: -1 or the id. */
static slm_err find_bos(const struct source *in, const struct mapping *map, int32_t *bos,
                        slm_why *why) {
    struct tokenizer *t;
    TRY(tokenizer_from_json(&in->hooks, (const char *)map->data, map->size, &t, why));
    *bos = tokenizer_bos(t);
    tokenizer_free(t);
    return SLM_OK;
}

/* *bos: what the tokenizer puts in front, -1 nothing. */
static slm_err put_tokenizer(const struct source *in, struct gguf_writer *w, int32_t *bos,
                             slm_why *why) {
    const struct model *m = &in->facts.m;
    bool spm = strcmp(m->family->gguf_tokenizer, "llama") == 0;
    struct vocabulary v = { .n = m->vocab };
    struct mapping map;
    slm_err err = SLM_OK;
    TRY(parts_map(&in->parts, "tokenizer.json", (size_t)256 << 20, &map, why));
    if (map.data == NULL)
        return SLM_OK; /* a model without a tokenizer stays one */
    err = find_bos(in, &map, bos, why);
    if (err != SLM_OK) {
        file_unmap(&map);
        return fail_prefix(why, err, "tokenizer.json");
    }
    arena_init(&v.arena, &in->hooks, 0);
    v.text = arena_zalloc(&v.arena, v.n, sizeof *v.text);
    v.len = arena_zalloc(&v.arena, v.n, sizeof *v.len);
    v.type = arena_zalloc(&v.arena, v.n, sizeof *v.type);
    if (v.text == NULL || v.len == NULL || v.type == NULL)
        err = fail_nomem(why, "vocabulary", v.n * sizeof *v.text);
    else
        err = read_tokenizer(in, &map, &v, spm, why);
    if (err == SLM_OK)
        err = fill_holes(&v, why);
    if (err == SLM_OK)
        err = gguf_put_str(w, "tokenizer.ggml.model", m->family->gguf_tokenizer,
                           strlen(m->family->gguf_tokenizer));
    if (err == SLM_OK)
        err =
            gguf_put_str(w, "tokenizer.ggml.pre", m->family->gguf_pre, strlen(m->family->gguf_pre));
    if (err == SLM_OK)
        err = put_arrays(&v, spm, w, why);
    arena_free(&v.arena);
    file_unmap(&map);
    return err;
}

/* added: what the tokenizer puts in front, -1 nothing; the model's own id may be set without that. */
static slm_err put_special_ids(const struct model *m, int32_t added, struct gguf_writer *w) {
    int32_t bos = added >= 0 ? added : m->bos;
    TRY(gguf_put_bool(w, "tokenizer.ggml.add_bos_token", added >= 0));
    if (bos >= 0)
        TRY(gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)bos));
    static const char *const stops[] = { "tokenizer.ggml.eos_token_id",
                                         "tokenizer.ggml.eot_token_id",
                                         "tokenizer.ggml.eom_token_id" };
    for (size_t i = 0; i < ARRAY_LEN(stops) && m->stop[i] >= 0; i++)
        TRY(gguf_put_u32(w, stops[i], (uint32_t)m->stop[i]));
    return SLM_OK;
}

/* The template as the engine would read it: its own file, else the tokenizer's config. */
static slm_err put_template(const struct source *in, struct gguf_writer *w, slm_why *why) {
    struct mapping map;
    json_t *config = NULL;
    TRY(parts_map(&in->parts, "chat_template.jinja", (size_t)1 << 20, &map, why));
    if (map.data != NULL) {
        slm_err err = gguf_put_str(w, "tokenizer.chat_template", (const char *)map.data, map.size);
        file_unmap(&map);
        return err;
    }
    TRY(parts_map(&in->parts, "tokenizer_config.json", (size_t)64 << 20, &map, why));
    if (map.data == NULL)
        return SLM_OK;
    slm_err err = json_text((const char *)map.data, map.size, &config, why);
    const json_t *t = err == SLM_OK ? config_template(config) : NULL;
    if (t != NULL)
        err =
            gguf_put_str(w, "tokenizer.chat_template", json_string_value(t), json_string_length(t));
    json_decref(config);
    file_unmap(&map);
    return err;
}

static slm_err put_text(struct gguf_writer *w, const char *key_name, const char *s) {
    return s != NULL ? gguf_put_str(w, key_name, s, strlen(s)) : SLM_OK;
}

/* The last part of a path; a model without a name of its own is called after its folder. */
static slm_err put_name(const struct source *in, struct gguf_writer *w) {
    const char *name = in->facts.m.name != NULL ? in->facts.m.name : "model";
    size_t n = strlen(name);
    if (in->facts.known != NULL)
        return gguf_put_str(w, "general.name", name, n);
    while (n > 0 && name[n - 1] == '/')
        n--;
    size_t start = n;
    while (start > 0 && name[start - 1] != '/')
        start--;
    return gguf_put_str(w, "general.name", name + start, n - start);
}

/* What it is and where it came from. */
static slm_err put_general(const struct source *in, uint32_t file_type, struct gguf_writer *w) {
    const struct model *m = &in->facts.m;
    const struct model *known = in->facts.known;
    TRY(put_text(w, "general.architecture", m->family->gguf_arch));
    TRY(put_text(w, "general.type", "model"));
    TRY(put_name(in, w));
    TRY(put_text(w, "general.quantized_by", "slm " SLM_VERSION));
    TRY(gguf_put_u32(w, "general.file_type", file_type));
    TRY(gguf_put_u32(w, "general.quantization_version", 2));
    if (known != NULL) {
        TRY(put_text(w, "general.license", known->card.licence));
        TRY(put_text(w, "general.license.link", known->card.licence_url));
        TRY(put_text(w, "general.source.huggingface.repository", known->card.hub_id));
    }
    return SLM_OK;
}

slm_err metadata_from_folder(const struct source *in, uint32_t file_type, struct gguf_writer *w,
                             slm_why *why) {
    slm_why detail = { .code = SLM_OK };
    int32_t bos = -1;
    slm_err err = put_general(in, file_type, w);
    if (err == SLM_OK)
        err = put_arch(&in->facts.m, &in->hooks, w, &detail);
    if (err == SLM_OK)
        err = put_tokenizer(in, w, &bos, &detail);
    if (err == SLM_OK)
        err = put_special_ids(&in->facts.m, bos, w);
    if (err == SLM_OK)
        err = put_template(in, w, &detail);
    if (err == SLM_OK)
        return SLM_OK;
    if (detail.code != err)
        return fail(why, err, SLM_NO_OFFSET, "metadata cannot be written: %s", err_text(err));
    if (why != NULL)
        *why = detail;
    return err;
}
