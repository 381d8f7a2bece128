/* facts_vision.c - the numbers of an image tower: vision_config of config.json, or the metadata of the
 * GGUF file that holds a tower alone ("mmproj", general.architecture clip).
 *
 * Format: SiglipVisionConfig and Gemma3Config of Hugging Face transformers; what is missing gets the
 * class's default (families.c). GGUF: keys clip.* as llama.cpp's converter writes them. What would
 * change the arithmetic and is not computed here is refused by its name. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "model/facts.h"
#include "model/vision.h"

#define LAYERS_MOST 256
#define WIDTH_MOST 65536
#define SIDE_MOST 4096

static slm_err bad(slm_why *why, const char *what, double is) {
    return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the image tower's %s is %.9g", what, is);
}

/* ------------------------------------------------------------------ judging */

static slm_err check_possible(const struct facts *f, const struct vision *v, slm_why *why) {
    uint32_t side = v->patch > 0 ? v->image / v->patch : 0, square = 0;
    while (square * square < v->tokens && square < side)
        square++;
    if (v->layers == 0 || v->layers > LAYERS_MOST)
        return bad(why, "number of layers", v->layers);
    if (v->hidden == 0 || v->hidden > WIDTH_MOST)
        return bad(why, "width", v->hidden);
    if (v->ffn == 0 || v->ffn > WIDTH_MOST)
        return bad(why, "feed-forward width", v->ffn);
    if (v->heads == 0 || v->hidden % v->heads != 0)
        return bad(why, "number of heads", v->heads);
    if (v->image == 0 || v->image > SIDE_MOST || v->image % v->patch != 0)
        return bad(why, "picture size", v->image);
    if (square * square != v->tokens || v->tokens == 0 || side % square != 0)
        return bad(why, "number of tokens for a picture", v->tokens);
    if (!(v->eps > 0.0f && v->eps < 1.0f))
        return bad(why, "layer_norm_eps", (double)v->eps);
    const int32_t ids[] = { v->begin, v->end, v->soft };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        if (ids[i] < 0 || (uint32_t)ids[i] > f->m.vocab)
            return bad(why, "token id", ids[i]);
    return SLM_OK;
}

static slm_err compare(const struct model *known, const struct vision *v, slm_why *why) {
    const struct vision *t = &known->vision;
    const struct {
        const char *what;
        double is, wanted;
    } rows[] = { { "width", v->hidden, t->hidden },
                 { "number of layers", v->layers, t->layers },
                 { "number of heads", v->heads, t->heads },
                 { "feed-forward width", v->ffn, t->ffn },
                 { "picture size", v->image, t->image },
                 { "patch size", v->patch, t->patch },
                 { "number of tokens for a picture", v->tokens, t->tokens },
                 { "layer_norm_eps", (double)v->eps, (double)t->eps },
                 { "begin id", v->begin, t->begin },
                 { "end id", v->end, t->end },
                 { "image id", v->soft, t->soft } };
    if (t->image == 0)
        return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET, "%s has no image tower", known->name);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].is != rows[i].wanted)
            return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                        "the image tower's %s is %.9g, that of %s is %.9g", rows[i].what,
                        rows[i].is, known->name, rows[i].wanted);
    return SLM_OK;
}

slm_err facts_check_vision(const struct facts *f, const struct vision *v, slm_why *why) {
    if (v->patch == 0)
        return bad(why, "patch size", 0);
    TRY(check_possible(f, v, why));
    return f->known != NULL ? compare(f->known, v, why) : SLM_OK;
}

/* ------------------------------------------------------------------ config.json */

static slm_err refuse_config(const json_t *v, slm_why *why) {
    const char *act = json_string_value(json_object_get(v, "hidden_act"));
    const json_t *channels = json_object_get(v, "num_channels");
    if (act != NULL && strcmp(act, "gelu_pytorch_tanh") != 0)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "vision_config: hidden_act '%s' is not supported, gelu_pytorch_tanh is", act);
    if (json_is_true(json_object_get(v, "vision_use_head")))
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "vision_config: vision_use_head is not supported");
    if (json_is_integer(channels) && json_integer_value(channels) != 3)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "vision_config: %lld channels are not supported, 3 are",
                    (long long)json_integer_value(channels));
    return SLM_OK;
}

/* An id under its old or its new name. */
static void read_id(struct json_want *w, const json_t *root, const char *old, const char *new,
                    int32_t *out) {
    uint32_t id;
    if ((json_u32(w, root, old, &id) || json_u32(w, root, new, &id)) && id <= INT32_MAX)
        *out = (int32_t)id;
}

slm_err facts_vision_config(struct facts *f, const json_t *root, slm_why *why) {
    const json_t *v = json_object_get(root, "vision_config");
    struct json_want w = { .why = why, .where = "vision_config" };
    struct vision r = f->m.family->vision_defaults;
    double eps = (double)r.eps;
    if (r.image == 0)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "%s models with images are not known",
                    f->m.family->name);
    TRY(refuse_config(v, why));
    json_u32(&w, v, "hidden_size", &r.hidden);
    json_u32(&w, v, "num_hidden_layers", &r.layers);
    json_u32(&w, v, "num_attention_heads", &r.heads);
    json_u32(&w, v, "intermediate_size", &r.ffn);
    json_u32(&w, v, "image_size", &r.image);
    json_u32(&w, v, "patch_size", &r.patch);
    json_f64(&w, v, "layer_norm_eps", &eps);
    w.where = "config.json";
    json_u32(&w, root, "mm_tokens_per_image", &r.tokens);
    read_id(&w, root, "boi_token_index", "boi_token_id", &r.begin);
    read_id(&w, root, "eoi_token_index", "eoi_token_id", &r.end);
    read_id(&w, root, "image_token_index", "image_token_id", &r.soft);
    TRY(w.err);
    r.eps = (float)eps;
    TRY(facts_check_vision(f, &r, why));
    f->m.vision = r;
    return SLM_OK;
}

/* ------------------------------------------------------------------ GGUF */

static slm_err refuse_gguf(const struct gguf *g, const struct family *family, slm_why *why) {
    const char *s;
    size_t n;
    slm_err err = SLM_OK;
    if (!gguf_str(g, "clip.projector_type", &s, &n, &err, why) &&
        !gguf_str(g, "clip.vision.projector_type", &s, &n, &err, why))
        return err != SLM_OK
                   ? err
                   : fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the file has no clip.projector_type");
    if (family->gguf_projector == NULL || strlen(family->gguf_projector) != n ||
        memcmp(s, family->gguf_projector, n) != 0)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "an image tower with projector '%.*s' does not belong to a %s model",
                    n < 64 ? (int)n : 64, s, family->name);
    static const char *const norms[] = { "clip.vision.image_mean", "clip.vision.image_std" };
    for (size_t i = 0; i < ARRAY_LEN(norms); i++) {
        const struct gguf_value *v = gguf_find(g, norms[i]);
        for (uint64_t j = 0;
             v != NULL && v->type == GGUF_ARRAY && v->item == GGUF_F32 && j < v->count; j++)
            if (gguf_item_f32(v, j) != 0.5f)
                return fail(why, SLM_E_UNSUPPORTED, v->offset, "%s is %.9g, 0.5 is supported",
                            norms[i], (double)gguf_item_f32(v, j));
    }
    return SLM_OK;
}

slm_err vision_facts_gguf(const struct tensors *t, const struct facts *f, struct vision *out,
                          slm_why *why) {
    struct vision r = f->m.family->vision_defaults;
    const struct gguf *g = t->gguf;
    slm_err err = SLM_OK;
    if (g == NULL || r.image == 0)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "%s models with images are not known",
                    f->m.family->name);
    TRY(refuse_gguf(g, f->m.family, why));
    gguf_u32(g, "clip.vision.embedding_length", &r.hidden, &err, why);
    gguf_u32(g, "clip.vision.block_count", &r.layers, &err, why);
    gguf_u32(g, "clip.vision.attention.head_count", &r.heads, &err, why);
    gguf_u32(g, "clip.vision.feed_forward_length", &r.ffn, &err, why);
    gguf_u32(g, "clip.vision.image_size", &r.image, &err, why);
    gguf_u32(g, "clip.vision.patch_size", &r.patch, &err, why);
    gguf_f32(g, "clip.vision.attention.layer_norm_epsilon", &r.eps, &err, why);
    TRY(err);
    /* what the file does not say: the text part's table has it */
    if (f->m.vision.image > 0) {
        r.tokens = f->m.vision.tokens;
        r.begin = f->m.vision.begin;
        r.end = f->m.vision.end;
        r.soft = f->m.vision.soft;
    } else {
        uint32_t id;
        gguf_u32(g, "slm.vision.tokens", &r.tokens, &err, why);
        r.begin = gguf_u32(g, "slm.vision.begin_id", &id, &err, why) ? (int32_t)id : r.begin;
        r.end = gguf_u32(g, "slm.vision.end_id", &id, &err, why) ? (int32_t)id : r.end;
        r.soft = gguf_u32(g, "slm.vision.soft_id", &id, &err, why) ? (int32_t)id : r.soft;
    }
    TRY(err);
    TRY(facts_check_vision(f, &r, why));
    *out = r;
    return SLM_OK;
}
