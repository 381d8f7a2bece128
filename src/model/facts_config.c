/* facts_config.c - config.json and generation_config.json of a Hugging Face folder -> facts.
 *
 * Format: the configuration classes of Hugging Face transformers (gemma3, qwen3, smollm3, phi3), the
 * flat and the nested form (text_config), rope settings as rope_theta + rope_scaling (version 4) or
 * rope_parameters (version 5). What is missing gets the class's default (families.c), nothing else.
 * Whatever would change the arithmetic and is not computed here is refused by its name. */
#include "model/facts.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

struct config {
    struct facts *f;
    const json_t *root, *text; /* text: root, or its text_config */
    struct json_want want;
    slm_why *why;
};

static bool given(const json_t *obj, const char *key) {
    const json_t *v = json_object_get(obj, key);
    return v != NULL && !json_is_null(v);
}

static slm_err unsupported(struct config *c, const char *what) {
    return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "config.json: %s is not supported for %s",
                what, c->f->m.family->name);
}

static slm_err missing(struct config *c, const char *key) {
    return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET, "config.json has no %s", key);
}

/* ------------------------------------------------------------------ refusals */

/* Switches that have to be off. */
static slm_err refuse_switches(struct config *c) {
    static const char *const off[] = { "attention_bias",
                                       "mlp_bias",
                                       "lm_head_bias",
                                       "use_sliding_window",
                                       "use_bidirectional_attention",
                                       "add_cross_attention",
                                       "is_encoder_decoder" };
    static const char *const none[] = { "attn_logit_softcapping",
                                        "final_logit_softcapping",
                                        "quantization_config",
                                        "compression_config",
                                        "num_experts",
                                        "num_local_experts" };
    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        bool on = false;
        if (json_bool(&c->want, c->text, off[i], &on) && on)
            return unsupported(c, off[i]);
        TRY(c->want.err);
    }
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (given(c->text, none[i]) || given(c->root, none[i]))
            return unsupported(c, none[i]);
    return SLM_OK;
}

static slm_err check_activation(struct config *c) {
    static const char *const keys[] = { "hidden_activation", "hidden_act" };
    bool gelu = c->f->m.family->activation == ACTIVATION_GELU_TANH;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *name = NULL;
        if (!json_str(&c->want, c->text, keys[i], &name))
            continue;
        if (gelu ? strcmp(name, "gelu_pytorch_tanh") != 0
                 : strcmp(name, "silu") != 0 && strcmp(name, "swish") != 0)
            return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "config.json: %s '%s' is not supported, %s computes %s", keys[i], name,
                        c->f->m.family->name, gelu ? "gelu_pytorch_tanh" : "silu");
    }
    return c->want.err;
}

/* ------------------------------------------------------------------ sizes */

static slm_err want_u32(struct config *c, const char *key, uint32_t fallback, uint32_t *out) {
    *out = fallback;
    if (json_u32(&c->want, c->text, key, out))
        return SLM_OK;
    TRY(c->want.err);
    return fallback > 0 ? SLM_OK : missing(c, key);
}

static slm_err read_sizes(struct config *c) {
    struct model *m = &c->f->m;
    const struct config_defaults *d = &m->family->defaults;
    double eps = d->eps, partial = 1.0;
    TRY(want_u32(c, "num_hidden_layers", 0, &m->layers));
    TRY(want_u32(c, "hidden_size", 0, &m->hidden));
    TRY(want_u32(c, "intermediate_size", 0, &m->ffn));
    TRY(want_u32(c, "num_attention_heads", d->heads, &m->heads));
    TRY(want_u32(c, "num_key_value_heads", d->kv_heads, &m->kv_heads));
    TRY(want_u32(c, "vocab_size", d->vocab, &m->vocab));
    TRY(want_u32(c, "max_position_embeddings", d->context, &m->context));
    m->head_dim = d->head_dim;
    if (!json_u32(&c->want, c->text, "head_dim", &m->head_dim) && d->head_dim_divides &&
        m->heads > 0)
        m->head_dim = m->hidden / m->heads;
    json_f64(&c->want, c->text, "rms_norm_eps", &eps);
    m->eps = (float)eps;
    m->tied = d->tied;
    if (!json_bool(&c->want, c->text, "tie_word_embeddings", &m->tied))
        json_bool(&c->want, c->root, "tie_word_embeddings", &m->tied);
    if (json_f64(&c->want, c->text, "partial_rotary_factor", &partial) && partial != 1.0 &&
        !m->family->partial_rotary)
        return unsupported(c, "partial_rotary_factor");
    if (!(partial > 0.0 && partial <= 1.0))
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET, "config.json: partial_rotary_factor is %g",
                    partial);
    m->rotary = (uint32_t)((double)m->head_dim * partial);
    TRY(c->want.err);
    if (d->query_scalar > 0) {
        double scalar = d->query_scalar;
        json_f64(&c->want, c->text, "query_pre_attn_scalar", &scalar);
        if (!(scalar > 0.0))
            return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "config.json: query_pre_attn_scalar is %g", scalar);
        m->attn_scale = (float)(1.0 / sqrt(scalar));
    }
    return c->want.err;
}

/* ------------------------------------------------------------------ kinds of layers */

static slm_err apply_layer_types(struct config *c, char *kinds) {
    const struct model *m = &c->f->m;
    const json_t *types = json_object_get(c->text, "layer_types");
    if (types == NULL || json_is_null(types))
        return SLM_OK;
    if (!json_is_array(types) || json_array_size(types) != m->layers)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: layer_types has %zu entries for %u layers",
                    json_array_size(types), m->layers);
    for (uint32_t i = 0; i < m->layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool full = type != NULL && strcmp(type, "full_attention") == 0;
        bool slides = type != NULL && strcmp(type, "sliding_attention") == 0;
        if (!full && (!slides || !m->family->sliding_pattern))
            return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "config.json: layer_types[%u] '%s' is not supported for %s", i,
                        type != NULL ? type : "(no text)", m->family->name);
        kinds[i] = full ? 'F' : 's';
    }
    return SLM_OK;
}

/* 1 means that rope IS used. */
static slm_err apply_rope_flags(struct config *c, char *kinds) {
    const struct model *m = &c->f->m;
    const json_t *flags = json_object_get(c->text, "no_rope_layers");
    uint32_t interval = 4;
    if (json_u32(&c->want, c->text, "no_rope_layer_interval", &interval) && interval == 0)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: no_rope_layer_interval is 0");
    TRY(c->want.err);
    bool listed = flags != NULL && !json_is_null(flags);
    if (listed && (!json_is_array(flags) || json_array_size(flags) != m->layers))
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: no_rope_layers has %zu entries for %u layers",
                    json_array_size(flags), m->layers);
    for (uint32_t i = 0; i < m->layers; i++) {
        const json_t *flag = listed ? json_array_get(flags, i) : NULL;
        json_int_t turned = listed ? json_integer_value(flag) : (i + 1) % interval != 0;
        if ((listed && !json_is_integer(flag)) || turned < 0 || turned > 1)
            return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "config.json: no_rope_layers[%u] is neither 0 nor 1", i);
        kinds[i] = turned ? 'F' : 'N';
    }
    return SLM_OK;
}

static slm_err read_window(struct config *c) {
    struct model *m = &c->f->m;
    uint32_t window = m->family->defaults.window;
    json_u32(&c->want, c->text, "sliding_window", &window);
    TRY(c->want.err);
    if (m->family->sliding_pattern)
        m->window = window;
    else if (window > 0 && window < m->context && !given(c->text, "use_sliding_window"))
        return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "config.json: sliding_window %u inside a context of %u is not supported for %s",
                    window, m->context, m->family->name);
    return SLM_OK;
}

static slm_err read_kinds(struct config *c) {
    struct model *m = &c->f->m;
    const struct family *family = m->family;
    if (m->layers > 65536)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET, "config.json: %u layers", m->layers);
    char *kinds = arena_alloc(&c->f->arena, (size_t)m->layers + 1, 1);
    if (kinds == NULL)
        return fail_nomem(c->why, "kinds of layers", m->layers);
    uint32_t every = family->defaults.window_every;
    if (family->sliding_pattern && !json_u32(&c->want, c->text, "sliding_window_pattern", &every))
        json_u32(&c->want, c->text, "_sliding_window_pattern", &every);
    TRY(c->want.err);
    if (family->sliding_pattern && every == 0)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: sliding_window_pattern is 0");
    for (uint32_t i = 0; i < m->layers; i++)
        kinds[i] = family->sliding_pattern && (i + 1) % every != 0 ? 's' : 'F';
    kinds[m->layers] = '\0';
    TRY(apply_layer_types(c, kinds));
    if (family->nope_layers)
        TRY(apply_rope_flags(c, kinds));
    m->pattern = kinds;
    return read_window(c);
}

/* ------------------------------------------------------------------ rope */

static slm_err read_factors(struct config *c, const json_t *scaling, const char *key,
                            const float **out) {
    const struct model *m = &c->f->m;
    const json_t *list = json_object_get(scaling, key);
    if (!json_is_array(list) || json_array_size(list) != m->rotary / 2)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: rope %s has %zu entries for %u turned dimensions", key,
                    json_array_size(list), m->rotary);
    float *factors = arena_alloc(&c->f->arena, m->rotary / 2, sizeof *factors);
    if (factors == NULL)
        return fail_nomem(c->why, "rope factors", m->rotary);
    for (uint32_t i = 0; i < m->rotary / 2; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_number(v))
            return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "config.json: rope %s[%u] is no number", key, i);
        factors[i] = (float)json_number_value(v);
    }
    *out = factors;
    return SLM_OK;
}

static slm_err read_long_rope(struct config *c, const json_t *scaling) {
    struct rope_scaling *r = &c->f->m.rope;
    double factor = 0.0;
    if (!json_u32(&c->want, c->text, "original_max_position_embeddings", &r->original_context) &&
        !json_u32(&c->want, scaling, "original_max_position_embeddings", &r->original_context)) {
        TRY(c->want.err);
        return missing(c, "original_max_position_embeddings");
    }
    r->kind = ROPE_LONG;
    TRY(read_factors(c, scaling, "short_factor", &r->short_factors));
    TRY(read_factors(c, scaling, "long_factor", &r->long_factors));
    if (r->original_context < 2)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: original_max_position_embeddings is %u", r->original_context);
    r->attention_factor = long_rope_attention_factor(c->f->m.context, r->original_context);
    if (json_f64(&c->want, scaling, "attention_factor", &factor))
        r->attention_factor = (float)factor;
    return c->want.err;
}

/* Keys of a rope object that are read here or say nothing about the arithmetic. */
static slm_err check_rope_keys(struct config *c, const json_t *scaling) {
    static const char *const known[] = { "type",
                                         "rope_type",
                                         "factor",
                                         "rope_theta",
                                         "partial_rotary_factor",
                                         "short_factor",
                                         "long_factor",
                                         "original_max_position_embeddings",
                                         "attention_factor" };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)scaling, key, value) {
        bool ok = json_is_null(value);
        for (size_t i = 0; i < ARRAY_LEN(known) && !ok; i++)
            ok = strcmp(key, known[i]) == 0;
        if (!ok)
            return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "config.json: rope setting '%s' is not supported", key);
    }
    return SLM_OK;
}

/* A rope_scaling or rope_parameters object of full layers; NULL: none. */
static slm_err read_scaling(struct config *c, const json_t *scaling) {
    struct model *m = &c->f->m;
    const char *type = "default";
    double factor = 1.0;
    if (scaling == NULL || json_is_null(scaling))
        return SLM_OK;
    if (!json_is_object(scaling))
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET, "config.json: rope_scaling is no object");
    if (!json_str(&c->want, scaling, "rope_type", &type))
        json_str(&c->want, scaling, "type", &type);
    TRY(c->want.err);
    bool is_long = strcmp(type, "longrope") == 0;
    if (strcmp(type, "default") != 0 && strcmp(type, "linear") != 0 &&
        !(is_long && m->family->long_rope))
        return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "config.json: rope scaling '%s' is not supported for %s", type,
                    m->family->name);
    TRY(check_rope_keys(c, scaling));
    if (is_long)
        return read_long_rope(c, scaling);
    if (strcmp(type, "linear") != 0)
        return SLM_OK;
    if (!json_f64(&c->want, scaling, "factor", &factor)) {
        TRY(c->want.err);
        return missing(c, "factor of the linear rope scaling");
    }
    m->rope.kind = ROPE_LINEAR;
    m->rope.factor = (float)factor;
    return SLM_OK;
}

/* rope_parameters of the sliding layers: only a base. */
static slm_err read_sliding_rope(struct config *c, const json_t *sliding, double *theta) {
    const char *type = "default";
    json_f64(&c->want, sliding, "rope_theta", theta);
    json_str(&c->want, sliding, "rope_type", &type);
    TRY(c->want.err);
    if (strcmp(type, "default") != 0)
        return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "config.json: rope scaling '%s' on sliding layers is not supported", type);
    return check_rope_keys(c, sliding);
}

static slm_err read_rope(struct config *c) {
    struct model *m = &c->f->m;
    double theta = m->family->defaults.theta, theta_sliding = m->family->defaults.theta_sliding;
    const json_t *scaling = json_object_get(c->text, "rope_scaling"),
                 *all = json_object_get(c->text, "rope_parameters");
    json_f64(&c->want, c->text, "rope_theta", &theta);
    json_f64(&c->want, c->text, "rope_local_base_freq", &theta_sliding);
    if (json_is_object(all)) {
        const json_t *full = json_object_get(all, "full_attention"),
                     *sliding = json_object_get(all, "sliding_attention");
        double partial = 1.0;
        scaling = json_is_object(full) ? full : all;
        json_f64(&c->want, scaling, "rope_theta", &theta);
        if (json_is_object(sliding))
            TRY(read_sliding_rope(c, sliding, &theta_sliding));
        if (json_f64(&c->want, scaling, "partial_rotary_factor", &partial)) {
            if (partial != 1.0 && !m->family->partial_rotary)
                return unsupported(c, "partial_rotary_factor");
            if (!(partial > 0.0 && partial <= 1.0))
                return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                            "config.json: partial_rotary_factor is %g", partial);
            m->rotary = (uint32_t)((double)m->head_dim * partial);
        }
    }
    TRY(c->want.err);
    m->theta = (float)theta;
    m->theta_sliding = (float)theta_sliding;
    return read_scaling(c, scaling);
}

/* ------------------------------------------------------------------ ids and sampling */

/* One id, or a list of them, or nothing. */
static slm_err add_stops(struct config *c, const json_t *obj, const char *where) {
    const json_t *v = json_object_get(obj, "eos_token_id");
    if (v == NULL || json_is_null(v))
        return SLM_OK;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id))
            return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "%s: eos_token_id is no id or list of ids", where);
        TRY(facts_add_stop(&c->f->m, json_integer_value(id), where, c->why));
    }
    return SLM_OK;
}

static slm_err read_generation(struct config *c, const json_t *g, struct file_sampling *s) {
    if (!json_is_object(g))
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET, "generation_config.json is no object");
    c->want.where = "generation_config.json";
    s->has_sample = json_bool(&c->want, g, "do_sample", &s->sample);
    s->has_temperature = json_f64(&c->want, g, "temperature", &s->temperature);
    s->has_top_p = json_f64(&c->want, g, "top_p", &s->top_p);
    s->has_min_p = json_f64(&c->want, g, "min_p", &s->min_p);
    s->has_top_k = json_u32(&c->want, g, "top_k", &s->top_k);
    TRY(c->want.err);
    return add_stops(c, g, "generation_config.json");
}

/* Only families that put one in front have a bos; the id in the file counts. */
static slm_err read_bos(struct config *c) {
    uint32_t id = 2;
    if (c->f->m.family->bos_text == NULL)
        return SLM_OK;
    if (!json_u32(&c->want, c->text, "bos_token_id", &id))
        json_u32(&c->want, c->root, "bos_token_id", &id);
    TRY(c->want.err);
    if (id >= c->f->m.vocab)
        return fail(c->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "config.json: bos_token_id %u lies outside the vocabulary of %u", id,
                    c->f->m.vocab);
    c->f->m.bos = (int32_t)id;
    return SLM_OK;
}

/* ------------------------------------------------------------------ the whole file */

static slm_err find_family(const json_t *root, const struct family **out, slm_why *why) {
    const char *type = json_string_value(json_object_get(root, "model_type"));
    const json_t *classes = json_object_get(root, "architectures");
    const char *class = json_string_value(json_array_get(classes, 0));
    char known[128];
    if (type == NULL)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "config.json has no model_type");
    *out = family_by_hf(type, class);
    facts_list_families(known, sizeof known);
    if (*out == NULL)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "model_type '%s' of class '%s' is not supported; known: %s", type,
                    class != NULL ? class : "(none)", known);
    return SLM_OK;
}

static slm_err find_text(struct config *c) {
    const struct family *family = c->f->m.family;
    const char *type = json_string_value(json_object_get(c->root, "model_type"));
    c->text = c->root;
    if (family->model_type_text == NULL || strcmp(type, family->model_type_text) == 0)
        return SLM_OK;
    c->text = json_object_get(c->root, "text_config");
    if (!json_is_object(c->text))
        return missing(c, "text_config");
    const char *inner = json_string_value(json_object_get(c->text, "model_type"));
    if (inner != NULL && strcmp(inner, family->model_type_text) != 0)
        return fail(c->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "text_config has model_type '%s', not '%s'", inner, family->model_type_text);
    c->f->has_vision = json_is_object(json_object_get(c->root, "vision_config"));
    return SLM_OK;
}

static slm_err read_config(struct config *c, const json_t *generation, const char *hint) {
    struct file_sampling s = { 0 };
    const char *path = NULL;
    TRY(find_text(c));
    TRY(refuse_switches(c));
    TRY(check_activation(c));
    TRY(read_sizes(c));
    TRY(read_kinds(c));
    TRY(read_rope(c));
    TRY(read_bos(c));
    if (generation != NULL)
        TRY(read_generation(c, generation, &s));
    c->want.where = "config.json";
    TRY(add_stops(c, c->root, "config.json"));
    if (c->text != c->root)
        TRY(add_stops(c, c->text, "config.json"));
    json_str(&c->want, c->root, "_name_or_path", &path);
    TRY(c->want.err);
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    TRY(facts_finish(c->f, slash != NULL ? slash + 1 : path, hint, &s, c->why));
    return c->f->has_vision ? facts_vision_config(c->f, c->root, c->why) : SLM_OK;
}

slm_err facts_from_config(const struct slm_hooks *h, const char *config, size_t n,
                          const char *generation, size_t n_generation, const char *hint,
                          struct facts *out, slm_why *why) {
    json_t *root = NULL, *gen = NULL;
    const struct family *family = NULL;
    slm_err err = json_text(config, n, &root, why);
    *out = (struct facts){ 0 };
    if (err != SLM_OK)
        return fail_prefix(why, err, "config.json");
    TRY_OUT(find_family(root, &family, why));
    if (generation != NULL && (err = json_text(generation, n_generation, &gen, why)) != SLM_OK) {
        fail_prefix(why, err, "generation_config.json");
        goto out;
    }
    facts_start(out, h, family, false);
    struct config c = {
        .f = out, .root = root, .want = { .why = why, .where = "config.json" }, .why = why
    };
    err = read_config(&c, gen, hint);
    if (err != SLM_OK)
        facts_free(out);
out:
    json_decref(root);
    json_decref(gen);
    return err;
}
