/* facts.h - what the two readers of facts share (facts_config.c, facts_gguf.c; facts.c implements it). */
#ifndef SLM_MODEL_FACTS_H
#define SLM_MODEL_FACTS_H

#include <jansson.h>

#include "model/net.h"

/* Sampling that the file recommends; a field counts when its flag is set. */
struct file_sampling {
    bool has_sample, has_temperature, has_top_p, has_min_p, has_top_k;
    bool sample;
    double temperature, top_p, min_p;
    uint32_t top_k;
};

/* Clears *f; everything unset gets its neutral value. */
void facts_start(struct facts *f, const struct slm_hooks *h, const struct family *family,
                 bool from_gguf);
/* Adds an id to m->stop unless it is there. E_FORMAT if it is no id or there are too many. */
slm_err facts_add_stop(struct model *m, int64_t id, const char *where, slm_why *why);
/* sqrt(1 + ln(context / original) / ln(original)), 1 when the context is not longer. Source: the
 * longrope initialisation of Hugging Face transformers (modeling_rope_utils.py). */
float long_rope_attention_factor(uint32_t context, uint32_t original);
/* Checks the numbers against each other and against limits, compares them with the known models
 * (see net.h) and fills in the rest. own_name: what the file calls itself, or NULL. */
slm_err facts_finish(struct facts *f, const char *own_name, const char *hint,
                     const struct file_sampling *s, slm_why *why);
/* Checks the numbers of an image tower against each other, against limits, and, when the text part is a
 * known model, against its table. */
slm_err facts_check_vision(const struct facts *f, const struct vision *v, slm_why *why);
/* facts_vision.c: vision_config and the image ids of a config.json. */
slm_err facts_vision_config(struct facts *f, const json_t *root, slm_why *why);
/* "gemma3, qwen3, ..." */
void facts_list_families(char *out, size_t n);

#endif
