/* catalog.c - the table of known models as the public header shows it. */
#include <string.h>

#include "session/engine.h"

#define OPTIONS_MAX 65536 /* bytes; a larger size field was never set */

const char *slm_version(void) {
    return SLM_VERSION;
}

const char *slm_err_text(slm_err code) {
    return err_text(code);
}

const char *slm_err_name(slm_err code) {
    return err_name(code);
}

slm_sampling slm_sampling_default(void) {
    return (slm_sampling){
        .size = sizeof(slm_sampling), .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f
    };
}

slm_err options_copy(void *to, size_t to_size, const void *from, slm_why *why) {
    size_t size;
    if (from == NULL)
        return SLM_OK;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size || size > OPTIONS_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "options of %zu bytes, expected about %zu: their size is not set", size,
                    to_size);
    for (size_t i = to_size; i < size; i++)
        if (((const unsigned char *)from)[i] != 0)
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                        "byte %zu of the options is set, this library knows %zu", i, to_size);
    memcpy(to, from, size < to_size ? size : to_size);
    memcpy(to, &to_size, sizeof to_size);
    return SLM_OK;
}

slm_err result_give(void *out, const void *from, size_t from_size) {
    size_t size;
    memcpy(&size, out, sizeof size);
    if (size < sizeof size || size > OPTIONS_MAX)
        return SLM_E_ARG;
    memcpy(out, from, size < from_size ? size : from_size);
    memcpy(out, &size, sizeof size);
    return SLM_OK;
}

static slm_sampling sampling_of(bool sample, float t, float top_p, float min_p, uint32_t top_k,
                                float presence) {
    slm_sampling s = slm_sampling_default();
    if (!sample)
        return s;
    s.temperature = t;
    s.top_p = top_p > 0.0f ? top_p : 1.0f;
    s.min_p = min_p;
    s.top_k = top_k;
    s.presence_penalty = presence;
    return s;
}

void model_sampling(const struct model *m, slm_sampling *usual, slm_sampling *no_think) {
    *usual = sampling_of(m->sampling.sample, m->sampling.temperature, m->sampling.top_p,
                         m->sampling.min_p, m->sampling.top_k, m->sampling.presence);
    *no_think = *usual;
    if (m->sampling_no_think.set)
        *no_think = sampling_of(true, m->sampling_no_think.temperature, m->sampling_no_think.top_p,
                                m->sampling_no_think.min_p, m->sampling_no_think.top_k,
                                m->sampling_no_think.presence);
}

enum slm_think think_public(enum think_mode mode) {
    return mode == THINK_ALWAYS ? SLM_THINK_ALWAYS
           : mode == THINK_NONE ? SLM_THINK_NONE
                                : SLM_THINK_SWITCH;
}

static void kv_cost(const struct model *m, uint64_t *per_token, uint64_t *fixed) {
    uint64_t layer =
        (uint64_t)m->kv_heads * m->head_dim * 2 * 2; /* keys and values, two bytes each */
    *per_token = *fixed = 0;
    for (uint32_t i = 0; i < m->layers; i++) {
        if (pattern_at(m->pattern, i) == 's')
            *fixed += layer * m->window;
        else
            *per_token += layer;
    }
}

static void fill_card(const struct model *m, slm_card *c) {
    c->id = m->name;
    c->title = m->card.title;
    c->maker = m->card.maker;
    c->hub_id = m->card.hub_id;
    c->family = m->family->name;
    c->modalities = m->card.modalities;
    c->languages = m->card.languages;
    c->licence = m->card.licence;
    c->licence_url = m->card.licence_url;
    c->thinking = m->card.thinking;
    c->tool_use = m->card.tool_use;
    c->good_at = m->card.good_at;
    c->sampling_note = m->card.sampling_note;
    c->params = m->params;
    c->params_embed = (uint64_t)m->vocab * m->hidden;
    c->context = m->context;
    c->layers = m->layers;
    c->hidden = m->hidden;
    c->vocab = m->vocab;
    kv_cost(m, &c->kv_bytes_token, &c->kv_bytes_fixed);
    c->think = think_public(m->think);
    model_sampling(m, &c->sampling, &c->sampling_no_think);
    c->suggested_output = m->suggested_output;
    c->scores = m->card.scores;
    while (c->n_scores < MAX_SCORES && m->card.scores[c->n_scores].benchmark != NULL)
        c->n_scores++;
    c->files = m->card.files;
    while (c->n_files < MAX_HUB_FILES && m->card.files[c->n_files].repo != NULL)
        c->n_files++;
    c->builtin = m->card.hub_id == NULL;
}

size_t slm_catalog_count(void) {
    size_t n = 0;
    while (models_all[n] != NULL)
        n++;
    return n;
}

slm_err slm_catalog_get(size_t i, slm_card *out) {
    slm_card c = { .size = sizeof c };
    if (i >= slm_catalog_count())
        return SLM_E_ARG;
    fill_card(models_all[i], &c);
    return result_give(out, &c, sizeof c);
}

slm_err slm_catalog_find(const char *id, slm_card *out) {
    for (size_t i = 0; models_all[i] != NULL; i++)
        if (strcmp(models_all[i]->name, id) == 0)
            return slm_catalog_get(i, out);
    return SLM_E_NOTFOUND;
}
