/* families.c - how the layers of each family are wired, and what its tensors are called.
 *
 * Layer of every family:  x += post(attn(norm(x)));  x += post(ffn(norm(x)))     post: sandwich only
 * Sources: the modelling and configuration classes of Hugging Face transformers 4.57 (gemma3,
 * qwen3, smollm3, phi3) and the tensor and metadata names of GGUF files of these architectures. */
#include "models/desc.h"

#include <string.h>

/* Whole models, and the text half of a model that also has an image tower, old and new spelling. */
#define HF_TOP(rest)                                                                               \
    { "model." rest, "language_model.model." rest, "model.language_model." rest }
#define HF_LAYER(rest) HF_TOP("layers.%u." rest)
#define HF_OUTPUT                                                                                  \
    { "lm_head.weight", "language_model.lm_head.weight", NULL }
/* An image tower, old and new spelling. */
#define HF_TOWER(rest) { "vision_tower.vision_model." rest, "model.vision_tower.vision_model." rest }
#define HF_TOWER_LAYER(rest) HF_TOWER("encoder.layers.%u." rest)
#define HF_PROJECTOR(rest) { "multi_modal_projector." rest, "model.multi_modal_projector." rest }
#define GGUF_LAYER(rest) "blk.%u." rest ".weight"

/* Names that all families share, and those of families with separate projections. */
#define HF_SHARED                                                                               \
    [SLOT_EMBED] = HF_TOP("embed_tokens.weight"), [SLOT_FINAL_NORM] = HF_TOP("norm.weight"),    \
    [SLOT_OUTPUT] = HF_OUTPUT, [SLOT_ATTN_NORM] = HF_LAYER("input_layernorm.weight"),           \
    [SLOT_O] = HF_LAYER("self_attn.o_proj.weight"),                                             \
    [SLOT_DOWN] = HF_LAYER("mlp.down_proj.weight")
#define HF_SEPARATE                                                                             \
    [SLOT_Q] = HF_LAYER("self_attn.q_proj.weight"),                                             \
    [SLOT_K] = HF_LAYER("self_attn.k_proj.weight"),                                             \
    [SLOT_V] = HF_LAYER("self_attn.v_proj.weight"),                                             \
    [SLOT_GATE] = HF_LAYER("mlp.gate_proj.weight"), [SLOT_UP] = HF_LAYER("mlp.up_proj.weight")
#define GGUF_SHARED                                                                             \
    [SLOT_EMBED] = "token_embd.weight", [SLOT_FINAL_NORM] = "output_norm.weight",               \
    [SLOT_OUTPUT] = "output.weight", [SLOT_ATTN_NORM] = GGUF_LAYER("attn_norm"),                \
    [SLOT_O] = GGUF_LAYER("attn_output"), [SLOT_FFN_NORM] = GGUF_LAYER("ffn_norm"),             \
    [SLOT_DOWN] = GGUF_LAYER("ffn_down")
#define GGUF_SEPARATE                                                                           \
    [SLOT_Q] = GGUF_LAYER("attn_q"), [SLOT_K] = GGUF_LAYER("attn_k"),                           \
    [SLOT_V] = GGUF_LAYER("attn_v"), [SLOT_GATE] = GGUF_LAYER("ffn_gate"),                      \
    [SLOT_UP] = GGUF_LAYER("ffn_up")

const struct family family_gemma3 = {
    .name = "gemma3",
    .model_type = "gemma3",
    .model_type_text = "gemma3_text",
    .hf_classes = { "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", NULL },
    .gguf_arch = "gemma3",
    .gguf_tokenizer = "llama",
    .gguf_pre = "default",
    .activation = ACTIVATION_GELU_TANH,
    .norm_plus_one = true,
    .sandwich = true,
    .qk_norm = true,
    .embed_scale_sqrt = true,
    .sliding_pattern = true,
    .default_pattern = "sssssF",
    .think = THINK_NONE,
    .tools = TOOLS_GEMMA_PROMPT,
    .bos_text = "<bos>",
    .defaults = { .vocab = 262208, .heads = 8, .kv_heads = 4, .head_dim = 256, .context = 131072, .window = 4096,
                  .query_scalar = 256, .window_every = 6, .theta = 1e6, .theta_sliding = 1e4, .eps = 1e-6,
                  .tied = true },
    .hf_names = {
        HF_SHARED,
        HF_SEPARATE,
        [SLOT_Q_NORM] = HF_LAYER("self_attn.q_norm.weight"),
        [SLOT_K_NORM] = HF_LAYER("self_attn.k_norm.weight"),
        [SLOT_POST_ATTN_NORM] = HF_LAYER("post_attention_layernorm.weight"),
        [SLOT_FFN_NORM] = HF_LAYER("pre_feedforward_layernorm.weight"),
        [SLOT_POST_FFN_NORM] = HF_LAYER("post_feedforward_layernorm.weight"),
    },
    .gguf_names = {
        GGUF_SHARED,
        GGUF_SEPARATE,
        [SLOT_Q_NORM] = GGUF_LAYER("attn_q_norm"),
        [SLOT_K_NORM] = GGUF_LAYER("attn_k_norm"),
        [SLOT_POST_ATTN_NORM] = GGUF_LAYER("post_attention_norm"),
        [SLOT_POST_FFN_NORM] = GGUF_LAYER("post_ffw_norm"),
    },
    .vision_prefixes = { "vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                         "model.multi_modal_projector.", "v.", "mm." },
    /* Source: SiglipVisionConfig and Gemma3Config of the same library */
    .vision_defaults = { .hidden = 768, .layers = 12, .heads = 12, .ffn = 3072, .image = 224, .patch = 16,
                         .tokens = 256, .eps = 1e-6f, .begin = 255999, .end = 256000, .soft = 262144 },
    .gguf_projector = "gemma3",
    .hf_vision = {
        [VISION_PATCH] = HF_TOWER("embeddings.patch_embedding.weight"),
        [VISION_PATCH_BIAS] = HF_TOWER("embeddings.patch_embedding.bias"),
        [VISION_POSITION] = HF_TOWER("embeddings.position_embedding.weight"),
        [VISION_POST_NORM] = HF_TOWER("post_layernorm.weight"),
        [VISION_POST_NORM_BIAS] = HF_TOWER("post_layernorm.bias"),
        [VISION_NORM1] = HF_TOWER_LAYER("layer_norm1.weight"),
        [VISION_NORM1_BIAS] = HF_TOWER_LAYER("layer_norm1.bias"),
        [VISION_Q] = HF_TOWER_LAYER("self_attn.q_proj.weight"),
        [VISION_Q_BIAS] = HF_TOWER_LAYER("self_attn.q_proj.bias"),
        [VISION_K] = HF_TOWER_LAYER("self_attn.k_proj.weight"),
        [VISION_K_BIAS] = HF_TOWER_LAYER("self_attn.k_proj.bias"),
        [VISION_V] = HF_TOWER_LAYER("self_attn.v_proj.weight"),
        [VISION_V_BIAS] = HF_TOWER_LAYER("self_attn.v_proj.bias"),
        [VISION_O] = HF_TOWER_LAYER("self_attn.out_proj.weight"),
        [VISION_O_BIAS] = HF_TOWER_LAYER("self_attn.out_proj.bias"),
        [VISION_NORM2] = HF_TOWER_LAYER("layer_norm2.weight"),
        [VISION_NORM2_BIAS] = HF_TOWER_LAYER("layer_norm2.bias"),
        [VISION_UP] = HF_TOWER_LAYER("mlp.fc1.weight"),
        [VISION_UP_BIAS] = HF_TOWER_LAYER("mlp.fc1.bias"),
        [VISION_DOWN] = HF_TOWER_LAYER("mlp.fc2.weight"),
        [VISION_DOWN_BIAS] = HF_TOWER_LAYER("mlp.fc2.bias"),
        [VISION_SOFT_NORM] = HF_PROJECTOR("mm_soft_emb_norm.weight"),
        [VISION_PROJECTION] = HF_PROJECTOR("mm_input_projection_weight"),
    },
    .gguf_vision = {
        [VISION_PATCH] = "v.patch_embd.weight",
        [VISION_PATCH_BIAS] = "v.patch_embd.bias",
        [VISION_POSITION] = "v.position_embd.weight",
        [VISION_POST_NORM] = "v.post_ln.weight",
        [VISION_POST_NORM_BIAS] = "v.post_ln.bias",
        [VISION_NORM1] = "v.blk.%u.ln1.weight",
        [VISION_NORM1_BIAS] = "v.blk.%u.ln1.bias",
        [VISION_Q] = "v.blk.%u.attn_q.weight",
        [VISION_Q_BIAS] = "v.blk.%u.attn_q.bias",
        [VISION_K] = "v.blk.%u.attn_k.weight",
        [VISION_K_BIAS] = "v.blk.%u.attn_k.bias",
        [VISION_V] = "v.blk.%u.attn_v.weight",
        [VISION_V_BIAS] = "v.blk.%u.attn_v.bias",
        [VISION_O] = "v.blk.%u.attn_out.weight",
        [VISION_O_BIAS] = "v.blk.%u.attn_out.bias",
        [VISION_NORM2] = "v.blk.%u.ln2.weight",
        [VISION_NORM2_BIAS] = "v.blk.%u.ln2.bias",
        [VISION_UP] = "v.blk.%u.ffn_up.weight",
        [VISION_UP_BIAS] = "v.blk.%u.ffn_up.bias",
        [VISION_DOWN] = "v.blk.%u.ffn_down.weight",
        [VISION_DOWN_BIAS] = "v.blk.%u.ffn_down.bias",
        [VISION_SOFT_NORM] = "mm.soft_emb_norm.weight",
        [VISION_PROJECTION] = "mm.input_projection.weight",
    },
};

const struct family family_qwen3 = {
    .name = "qwen3",
    .model_type = "qwen3",
    .hf_classes = { "Qwen3ForCausalLM", NULL },
    .gguf_arch = "qwen3",
    .gguf_tokenizer = "gpt2",
    .gguf_pre = "qwen2",
    .activation = ACTIVATION_SILU,
    .qk_norm = true,
    .default_pattern = "F",
    .think = THINK_DEFAULT_ON,
    .tools = TOOLS_HERMES,
    .defaults = { .head_dim = 128, .context = 32768, .theta = 1e4, .eps = 1e-6 },
    .hf_names = {
        HF_SHARED,
        HF_SEPARATE,
        [SLOT_Q_NORM] = HF_LAYER("self_attn.q_norm.weight"),
        [SLOT_K_NORM] = HF_LAYER("self_attn.k_norm.weight"),
        [SLOT_FFN_NORM] = HF_LAYER("post_attention_layernorm.weight"),
    },
    .gguf_names = {
        GGUF_SHARED,
        GGUF_SEPARATE,
        [SLOT_Q_NORM] = GGUF_LAYER("attn_q_norm"),
        [SLOT_K_NORM] = GGUF_LAYER("attn_k_norm"),
    },
};

const struct family family_smollm3 = {
    .name = "smollm3",
    .model_type = "smollm3",
    .hf_classes = { "SmolLM3ForCausalLM", NULL },
    .gguf_arch = "smollm3",
    .gguf_tokenizer = "gpt2",
    .gguf_pre = "smaug-bpe",
    .activation = ACTIVATION_SILU,
    .gguf_interleaved = true,
    .nope_layers = true,
    .default_pattern = "FFFN",
    .think = THINK_DEFAULT_ON,
    .tools = TOOLS_SMOLLM3,
    .defaults = { .vocab = 128256, .heads = 16, .kv_heads = 4, .context = 32768, .theta = 2e6, .eps = 1e-6,
                  .head_dim_divides = true, .tied = true },
    .hf_names = {
        HF_SHARED,
        HF_SEPARATE,
        [SLOT_FFN_NORM] = HF_LAYER("post_attention_layernorm.weight"),
    },
    .gguf_names = {
        GGUF_SHARED,
        GGUF_SEPARATE,
    },
};

const struct family family_phi3 = {
    .name = "phi3",
    .model_type = "phi3",
    .hf_classes = { "Phi3ForCausalLM", NULL },
    .gguf_arch = "phi3",
    .gguf_tokenizer = "gpt2",
    .gguf_pre = "gpt-4o",
    .activation = ACTIVATION_SILU,
    .fused_qkv = true,
    .fused_gate_up = true,
    .partial_rotary = true,
    .long_rope = true,
    .default_pattern = "F",
    .think = THINK_NONE,
    .tools = TOOLS_PHI4,
    .defaults = { .context = 4096, .theta = 1e4, .eps = 1e-5, .head_dim_divides = true },
    .hf_names = {
        HF_SHARED,
        [SLOT_QKV] = HF_LAYER("self_attn.qkv_proj.weight"),
        [SLOT_FFN_NORM] = HF_LAYER("post_attention_layernorm.weight"),
        [SLOT_GATE_UP] = HF_LAYER("mlp.gate_up_proj.weight"),
    },
    .gguf_names = {
        GGUF_SHARED,
        [SLOT_ROPE_LONG] = "rope_factors_long.weight",
        [SLOT_ROPE_SHORT] = "rope_factors_short.weight",
        [SLOT_QKV] = GGUF_LAYER("attn_qkv"),
        [SLOT_GATE_UP] = GGUF_LAYER("ffn_up"), /* holds gate, then up */
    },
};

const struct family *const families_all[] = { &family_gemma3, &family_qwen3, &family_smollm3,
                                              &family_phi3, NULL };

const struct family *family_by_hf(const char *model_type, const char *hf_class) {
    for (size_t i = 0; families_all[i] != NULL; i++) {
        const struct family *f = families_all[i];
        if (strcmp(model_type, f->model_type) != 0 &&
            (f->model_type_text == NULL || strcmp(model_type, f->model_type_text) != 0))
            continue;
        if (hf_class == NULL)
            return f;
        for (size_t c = 0; f->hf_classes[c] != NULL; c++)
            if (strcmp(hf_class, f->hf_classes[c]) == 0)
                return f;
    }
    return NULL;
}

const struct family *family_by_gguf(const char *arch) {
    for (size_t i = 0; families_all[i] != NULL; i++)
        if (strcmp(arch, families_all[i]->gguf_arch) == 0)
            return families_all[i];
    return NULL;
}

const struct model *model_by_name(const char *name) {
    for (size_t i = 0; models_all[i] != NULL; i++)
        if (strcmp(name, models_all[i]->name) == 0)
            return models_all[i];
    return NULL;
}

char pattern_at(const char *pattern, uint32_t layer) {
    return pattern[layer % strlen(pattern)];
}
