/* quantize_tower.c - the image tower of a folder as a GGUF file of its own ("mmproj").
 *
 * Names and metadata are those of llama.cpp's converter, so that other programs read the file: vectors
 * and positions in float32, the norm before the projection as 1 + w where the family has it so, the
 * projection as it stands in the folder. Where a model's numbers are no known model's, the few that
 * the format has no key for are written as slm.vision.*. */
#include <stdio.h>
#include <string.h>

#include "session/quantize.h"

static void tower_name(const struct family *f, enum vision_slot slot, uint32_t layer, char *out,
                       size_t n) {
    const char *pattern = f->gguf_vision[slot], *mark = strstr(pattern, "%u");
    if (mark == NULL)
        snprintf(out, n, "%s", pattern);
    else
        snprintf(out, n, "%.*s%u%s", (int)(mark - pattern), pattern, layer, mark + 2);
}

static bool match_slot(const struct family *f, const char *name, enum vision_slot *slot,
                       uint32_t *layer) {
    for (int s = 0; s < VISION_SLOT_COUNT; s++)
        for (int a = 0; a < VISION_ALIASES && f->hf_vision[s][a] != NULL; a++) {
            int64_t at = match_layer(f->hf_vision[s][a], name);
            if (at >= 0) {
                *slot = (enum vision_slot)s;
                *layer = (uint32_t)at;
                return true;
            }
        }
    return false;
}

/* Convolutions and the projection are not multiplied by rows where other programs read them. */
static enum dtype type_of(enum vision_slot slot, enum dtype base, const struct tensor_info *t) {
    size_t row;
    bool small = slot == VISION_PATCH || slot == VISION_PROJECTION;
    if (t->n_dims < 2 || slot == VISION_POSITION)
        return DT_F32;
    if (small && base != DT_F32)
        return DT_F16;
    return dtype_row_bytes(base, t->dims[t->n_dims - 1], &row) ? base : DT_F16;
}

bool tower_item(const struct source *in, enum dtype base, const struct tensor_info *t,
                struct item *it) {
    const struct family *f = in->facts.m.family;
    enum vision_slot slot;
    *it = (struct item){ .from = t, .slot = SLOT_COUNT };
    if (!match_slot(f, t->name, &slot, &it->layer))
        return false;
    tower_name(f, slot, it->layer, it->name, sizeof it->name);
    it->type = type_of(slot, base, t);
    it->plus_one = slot == VISION_SOFT_NORM && f->norm_plus_one;
    return true;
}

/* ------------------------------------------------------------------ metadata */

struct keys {
    struct gguf_writer *w;
    slm_err err;
};

static void put_u32(struct keys *k, const char *key, uint32_t v) {
    if (k->err == SLM_OK)
        k->err = gguf_put_u32(k->w, key, v);
}

static void put_str(struct keys *k, const char *key, const char *s) {
    if (k->err == SLM_OK)
        k->err = gguf_put_str(k->w, key, s, strlen(s));
}

static void put_tower(struct keys *k, const struct vision *v, uint32_t text) {
    static const float half[3] = { 0.5f, 0.5f, 0.5f };
    put_u32(k, "clip.vision.image_size", v->image);
    put_u32(k, "clip.vision.patch_size", v->patch);
    put_u32(k, "clip.vision.embedding_length", v->hidden);
    put_u32(k, "clip.vision.feed_forward_length", v->ffn);
    put_u32(k, "clip.vision.block_count", v->layers);
    put_u32(k, "clip.vision.attention.head_count", v->heads);
    put_u32(k, "clip.vision.projection_dim", text);
    if (k->err == SLM_OK)
        k->err = gguf_put_f32(k->w, "clip.vision.attention.layer_norm_epsilon", v->eps);
    if (k->err == SLM_OK)
        k->err = gguf_put_f32s(k->w, "clip.vision.image_mean", half, 3);
    if (k->err == SLM_OK)
        k->err = gguf_put_f32s(k->w, "clip.vision.image_std", half, 3);
}

slm_err tower_metadata(const struct source *in, uint32_t file_type, struct gguf_writer *w,
                       slm_why *why) {
    const struct model *m = &in->facts.m;
    struct keys k = { w, SLM_OK };
    if (in->tensors->gguf != NULL || !in->facts.has_vision)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET,
                    "an image tower is written from a model's folder, and this %s",
                    in->tensors->gguf != NULL ? "is a GGUF file" : "model has none");
    put_str(&k, "general.architecture", "clip");
    put_str(&k, "general.type", "mmproj");
    put_str(&k, "general.name", m->name);
    put_u32(&k, "general.file_type", file_type);
    put_u32(&k, "general.quantization_version", 2);
    if (k.err == SLM_OK)
        k.err = gguf_put_bool(w, "clip.has_vision_encoder", true);
    if (k.err == SLM_OK)
        k.err = gguf_put_bool(w, "clip.use_gelu", true);
    put_str(&k, "clip.projector_type", m->family->gguf_projector);
    put_tower(&k, &m->vision, m->hidden);
    if (in->facts.known == NULL) {
        put_u32(&k, "slm.vision.tokens", m->vision.tokens);
        put_u32(&k, "slm.vision.begin_id", (uint32_t)m->vision.begin);
        put_u32(&k, "slm.vision.end_id", (uint32_t)m->vision.end);
        put_u32(&k, "slm.vision.soft_id", (uint32_t)m->vision.soft);
    }
    return k.err == SLM_OK
               ? SLM_OK
               : fail(why, k.err, SLM_NO_OFFSET, "metadata cannot be written: %s", err_text(k.err));
}
