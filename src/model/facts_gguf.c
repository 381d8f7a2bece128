/* facts_gguf.c - metadata of a GGUF file -> facts.
 *
 * Format: the "<architecture>.*" keys of the GGUF specification (ggml-org/ggml docs/gguf.md) as
 * converters write them for gemma3, qwen3, smollm3 and phi3. Not in any key: which layers have no
 * rope (smollm3: every fourth, as its converter's files are read everywhere), the attention scale
 * (gemma3), whether q and k rows are permuted (the family says so), the number of vocabulary rows in
 * older files (the embedding's). Rope factors are tensors. */
#include "model/facts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE 96

struct meta {
    struct facts *f;
    const struct tensors *t;
    const char *arch;
    slm_err err;
    slm_why *why;
};

/* "<arch>.<rest>" */
static const char *key_of(const struct meta *g, const char *rest, char buffer[KEY_SIZE]) {
    snprintf(buffer, KEY_SIZE, "%s.%s", g->arch, rest);
    return buffer;
}

static bool get_u32(struct meta *g, const char *rest, uint32_t *out) {
    char key[KEY_SIZE];
    return gguf_u32(g->t->gguf, key_of(g, rest, key), out, &g->err, g->why);
}

static bool get_f32(struct meta *g, const char *rest, float *out) {
    char key[KEY_SIZE];
    return gguf_f32(g->t->gguf, key_of(g, rest, key), out, &g->err, g->why);
}

static slm_err need_u32(struct meta *g, const char *rest, uint32_t *out) {
    if (get_u32(g, rest, out))
        return SLM_OK;
    return g->err != SLM_OK
               ? g->err
               : fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET, "key %s.%s is missing", g->arch, rest);
}

static slm_err need_f32(struct meta *g, const char *rest, float *out) {
    if (get_f32(g, rest, out))
        return SLM_OK;
    return g->err != SLM_OK
               ? g->err
               : fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET, "key %s.%s is missing", g->arch, rest);
}

/* A copy of a string value, zero-terminated, in the arena; *out NULL if the key is absent. */
static slm_err get_name(struct meta *g, const char *key, const char **out) {
    const char *s;
    size_t n;
    *out = NULL;
    if (!gguf_str(g->t->gguf, key, &s, &n, &g->err, g->why))
        return g->err;
    *out = arena_strdup(&g->f->arena, s, n < 256 ? n : 256);
    return *out != NULL ? SLM_OK : fail_nomem(g->why, key, n);
}

/* ------------------------------------------------------------------ refusals */

static slm_err refuse_features(struct meta *g) {
    static const char *const zero[] = { "attn_logit_softcapping",
                                        "final_logit_softcapping",
                                        "attention.clamp_kqv",
                                        "attention.max_alibi_bias",
                                        "logit_scale",
                                        "residual_scale",
                                        "embedding_scale",
                                        "rope.scaling.yarn_log_multiplier" };
    float value = 0.0f;
    uint32_t count = 0;
    bool causal = true;
    char key[KEY_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(zero); i++)
        if (get_f32(g, zero[i], &value) && value != 0.0f)
            return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "%s.%s is %g, which is not supported", g->arch, zero[i], (double)value);
    if (get_u32(g, "expert_count", &count) && count > 0)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "%s.expert_count is %u, which is not supported", g->arch, count);
    if (gguf_bool(g->t->gguf, key_of(g, "attention.causal", key), &causal, &g->err, g->why) &&
        !causal)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "%s.attention.causal is false, which is not supported", g->arch);
    return g->err;
}

/* ------------------------------------------------------------------ sizes */

/* A converter that leaves rows out keeps the original number in the key. */
static bool rows_were_cut(const struct model *m, uint32_t said) {
    for (size_t i = 0; models_all[i] != NULL; i++)
        if (models_all[i]->family == m->family && models_all[i]->vocab == said &&
            models_all[i]->vocab_cut == m->vocab)
            return true;
    return false;
}

/* The embedding says how many rows there are; a key that says otherwise is a lie. */
static slm_err read_vocabulary(struct meta *g) {
    const struct tensor_info *embed = tensors_find(g->t, g->f->m.family->gguf_names[SLOT_EMBED]);
    uint32_t said;
    if (embed == NULL)
        return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET, "tensor '%s' is missing",
                    g->f->m.family->gguf_names[SLOT_EMBED]);
    if (embed->n_dims != 2 || embed->dims[0] > UINT32_MAX)
        return fail(g->why, SLM_E_FORMAT, embed->offset, "tensor '%s' has %u dimensions, not 2",
                    embed->name, embed->n_dims);
    g->f->m.vocab = (uint32_t)embed->dims[0];
    if (get_u32(g, "vocab_size", &said) && said != g->f->m.vocab && !rows_were_cut(&g->f->m, said))
        return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "%s.vocab_size is %u, but the embedding has %u rows", g->arch, said,
                    g->f->m.vocab);
    return g->err;
}

/* Rows behind the last token that is not marked unused. */
static void read_used(struct meta *g) {
    const struct gguf_value *types = gguf_find(g->t->gguf, "tokenizer.ggml.token_type");
    enum { TOKEN_UNUSED = 5 };
    if (types == NULL || types->type != GGUF_ARRAY ||
        (types->item != GGUF_I32 && types->item != GGUF_U32))
        return;
    uint64_t n = types->count < g->f->m.vocab ? types->count : g->f->m.vocab;
    while (n > 0 && gguf_item_int(types, n - 1) == TOKEN_UNUSED)
        n--;
    g->f->m.vocab_used = (uint32_t)n;
}

static slm_err read_sizes(struct meta *g) {
    struct model *m = &g->f->m;
    uint32_t value_length;
    TRY(need_u32(g, "block_count", &m->layers));
    TRY(need_u32(g, "context_length", &m->context));
    TRY(need_u32(g, "embedding_length", &m->hidden));
    TRY(need_u32(g, "feed_forward_length", &m->ffn));
    TRY(need_u32(g, "attention.head_count", &m->heads));
    TRY(need_u32(g, "attention.head_count_kv", &m->kv_heads));
    TRY(need_f32(g, "attention.layer_norm_rms_epsilon", &m->eps));
    if (m->heads == 0)
        return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s.attention.head_count is 0", g->arch);
    m->head_dim = m->hidden / m->heads;
    get_u32(g, "attention.key_length", &m->head_dim);
    value_length = m->head_dim;
    get_u32(g, "attention.value_length", &value_length);
    if (value_length != m->head_dim)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "keys of %u and values of %u dimensions", m->head_dim, value_length);
    m->tied = tensors_find(g->t, m->family->gguf_names[SLOT_OUTPUT]) == NULL;
    TRY(g->err);
    return read_vocabulary(g);
}

/* Gemma's scale is query_pre_attn_scalar^-0.5, which no key holds: it equals head_dim^-0.5 for the
 * sizes with the class's default of both, and not for others. */
static slm_err read_attention_scale(struct meta *g) {
    struct model *m = &g->f->m;
    uint32_t scalar = m->family->defaults.query_scalar;
    if (get_f32(g, "attention.scale", &m->attn_scale) || scalar == 0)
        return g->err;
    if (m->head_dim != scalar)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "heads of %u dimensions: the attention scale is known for %u only, and the "
                    "file does not hold it",
                    m->head_dim, scalar);
    m->attn_scale = (float)(1.0 / sqrt((double)scalar));
    return g->err;
}

/* ------------------------------------------------------------------ kinds of layers */

/* The optional key is a period, or one flag per layer (true: slides). */
static slm_err read_pattern(struct meta *g) {
    struct model *m = &g->f->m;
    char key[KEY_SIZE];
    m->pattern = m->family->default_pattern;
    const struct gguf_value *v =
        gguf_find(g->t->gguf, key_of(g, "attention.sliding_window_pattern", key));
    if (v == NULL || !m->family->sliding_pattern)
        return SLM_OK;
    uint32_t every = 0;
    bool flags = v->type == GGUF_ARRAY;
    if (flags ? v->item == GGUF_STRING || v->item == GGUF_F32 || v->item == GGUF_F64 ||
                    v->count != m->layers
              : !gguf_u32(g->t->gguf, key, &every, &g->err, g->why) || every == 0)
        return g->err != SLM_OK ? g->err
                                : fail(g->why, SLM_E_FORMAT, v->offset, "%s does not fit %u layers",
                                       key, m->layers);
    char *kinds = arena_alloc(&g->f->arena, (size_t)m->layers + 1, 1);
    if (kinds == NULL)
        return fail_nomem(g->why, "kinds of layers", m->layers);
    for (uint32_t i = 0; i < m->layers; i++)
        kinds[i] = (flags ? gguf_item_int(v, i) != 0 : (i + 1) % every != 0) ? 's' : 'F';
    kinds[m->layers] = '\0';
    m->pattern = kinds;
    return SLM_OK;
}

static slm_err read_window(struct meta *g) {
    struct model *m = &g->f->m;
    uint32_t window = 0;
    get_u32(g, "attention.sliding_window", &window);
    TRY(g->err);
    if (m->family->sliding_pattern)
        m->window = window;
    else if (window > 0 && window < m->context)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "%s.attention.sliding_window %u inside a context of %u is not supported",
                    g->arch, window, m->context);
    return read_pattern(g);
}

/* ------------------------------------------------------------------ rope */

static slm_err read_factors(struct meta *g, enum slot slot, const float **out) {
    const struct model *m = &g->f->m;
    const struct tensor_info *t = tensors_find(g->t, m->family->gguf_names[slot]);
    if (t == NULL)
        return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "tensor '%s' is missing, although the context was extended from %u to %u",
                    m->family->gguf_names[slot], m->rope.original_context, m->context);
    if (t->dtype != DT_F32 || t->n_dims != 1 || t->dims[0] != m->rotary / 2)
        return fail(g->why, SLM_E_FORMAT, t->offset,
                    "tensor '%s' has %llu items of type %s, expected %u of F32", t->name,
                    (unsigned long long)t->dims[0], dtype_info(t->dtype)->name, m->rotary / 2);
    float *factors = arena_alloc(&g->f->arena, m->rotary / 2, sizeof *factors);
    if (factors == NULL)
        return fail_nomem(g->why, "rope factors", m->rotary);
    memcpy(factors, t->data, m->rotary / 2 * sizeof *factors);
    *out = factors;
    return SLM_OK;
}

/* Families with factor tensors have no scaling type in their files: an original context says it. */
static slm_err read_long_rope(struct meta *g) {
    struct model *m = &g->f->m;
    bool factors = tensors_find(g->t, m->family->gguf_names[SLOT_ROPE_LONG]) != NULL;
    m->rope.original_context = m->context;
    get_u32(g, "rope.scaling.original_context_length", &m->rope.original_context);
    TRY(g->err);
    if (!factors && m->rope.original_context >= m->context)
        return SLM_OK;
    if (m->rotary > m->head_dim || m->rope.original_context < 2)
        return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "%u of %u dimensions turned, original context %u", m->rotary, m->head_dim,
                    m->rope.original_context);
    m->rope.kind = ROPE_LONG;
    TRY(read_factors(g, SLOT_ROPE_SHORT, &m->rope.short_factors));
    TRY(read_factors(g, SLOT_ROPE_LONG, &m->rope.long_factors));
    m->rope.attention_factor = long_rope_attention_factor(m->context, m->rope.original_context);
    get_f32(g, "rope.scaling.attn_factor", &m->rope.attention_factor);
    return g->err;
}

static slm_err read_rope(struct meta *g) {
    struct model *m = &g->f->m;
    char key[KEY_SIZE];
    const char *type;
    float factor = 0.0f;
    m->rotary = m->head_dim;
    get_u32(g, "rope.dimension_count", &m->rotary);
    TRY(need_f32(g, "rope.freq_base", &m->theta));
    m->theta_sliding = (float)m->family->defaults.theta_sliding;
    get_f32(g, "rope.freq_base_swa", &m->theta_sliding);
    if (m->rotary != m->head_dim && !m->family->partial_rotary)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "%s.rope.dimension_count %u of %u is not supported", g->arch, m->rotary,
                    m->head_dim);
    TRY(get_name(g, key_of(g, "rope.scaling.type", key), &type));
    if (m->family->long_rope &&
        (type == NULL || strcmp(type, "longrope") == 0 || strcmp(type, "none") == 0))
        return read_long_rope(g);
    if (type == NULL || strcmp(type, "none") == 0)
        return g->err;
    if (strcmp(type, "linear") != 0)
        return fail(g->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "rope scaling '%s' is not supported for %s", type, g->arch);
    TRY(need_f32(g, "rope.scaling.factor", &factor));
    if (factor != 1.0f) {
        m->rope.kind = ROPE_LINEAR;
        m->rope.factor = factor;
    }
    return g->err;
}

/* ------------------------------------------------------------------ ids */

static slm_err read_ids(struct meta *g) {
    static const char *const stops[] = { "tokenizer.ggml.eos_token_id",
                                         "tokenizer.ggml.eot_token_id",
                                         "tokenizer.ggml.eom_token_id" };
    struct model *m = &g->f->m;
    const struct gguf *gguf = g->t->gguf;
    bool add = m->family->bos_text != NULL;
    uint32_t id;
    for (size_t i = 0; i < ARRAY_LEN(stops); i++)
        if (gguf_u32(gguf, stops[i], &id, &g->err, g->why))
            TRY(facts_add_stop(m, id, stops[i], g->why));
    gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &add, &g->err, g->why);
    if (add && gguf_u32(gguf, "tokenizer.ggml.bos_token_id", &id, &g->err, g->why)) {
        if (id >= m->vocab)
            return fail(g->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "tokenizer.ggml.bos_token_id %u lies outside the vocabulary of %u", id,
                        m->vocab);
        m->bos = (int32_t)id;
    }
    return g->err;
}

static slm_err read_all(struct meta *g, const char *hint) {
    const struct file_sampling none = { 0 };
    const char *own;
    TRY(get_name(g, "general.name", &own));
    TRY(refuse_features(g));
    TRY(read_sizes(g));
    TRY(read_attention_scale(g));
    TRY(read_window(g));
    TRY(read_rope(g));
    TRY(read_ids(g));
    read_used(g);
    return facts_finish(g->f, own, hint, &none, g->why);
}

slm_err facts_from_gguf(const struct slm_hooks *h, const struct tensors *t, const char *hint,
                        struct facts *out, slm_why *why) {
    const char *s;
    size_t n;
    char arch[64] = "", known[128];
    slm_err err = SLM_OK;
    *out = (struct facts){ 0 };
    if (t->gguf == NULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "no GGUF file");
    if (gguf_str(t->gguf, "general.architecture", &s, &n, &err, why))
        snprintf(arch, sizeof arch, "%.*s", (int)(n < sizeof arch ? n : sizeof arch - 1), s);
    TRY(err);
    const struct family *family = family_by_gguf(arch);
    facts_list_families(known, sizeof known);
    if (family == NULL)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "architecture '%s' is not supported; known: %s", arch, known);
    facts_start(out, h, family, true);
    struct meta g = { .f = out, .t = t, .arch = family->gguf_arch, .why = why };
    err = read_all(&g, hint);
    if (err != SLM_OK)
        facts_free(out);
    return err;
}
