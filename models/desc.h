/* desc.h - what a model is: the two structs that every model is described by.
 *
 * A family says how layers are wired; a model holds its numbers. Code outside models/ asks for
 * these properties and never for names. Numbers come from the vendors' config.json (docs/MODELS.md
 * names the sources); tests derive shapes and the parameter count from each table and compare them
 * with the published ones.
 *
 * A new model of a known family is one file <name>.c here that defines `const struct model <name>`
 * (the build lists the files); a new family is one row in families.c. */
#ifndef SLM_MODELS_DESC_H
#define SLM_MODELS_DESC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slm.h"

enum activation { ACTIVATION_SILU, ACTIVATION_GELU_TANH };
enum think_mode { THINK_NONE, THINK_DEFAULT_ON, THINK_ALWAYS };
enum tool_dialect { TOOLS_NONE, TOOLS_HERMES, TOOLS_SMOLLM3, TOOLS_PHI4, TOOLS_GEMMA_PROMPT };

/* The roles that tensors play. Letters: V vocabulary rows, H hidden, Q heads x head_dim,
 * K kv_heads x head_dim, F ffn. Names per role and layout are in the family. */
enum slot {
    SLOT_EMBED,                        /* [V, H] */
    SLOT_FINAL_NORM,                   /* [H] */
    SLOT_OUTPUT,                       /* [V, H]; absent or equal to SLOT_EMBED when tied */
    SLOT_ROPE_LONG,                    /* [rotary/2], GGUF longrope only */
    SLOT_ROPE_SHORT,                   /* [rotary/2] */
    SLOT_LAYER_FIRST,                  /* from here on: one per layer */
    SLOT_ATTN_NORM = SLOT_LAYER_FIRST, /* [H] */
    SLOT_Q,                            /* [Q, H] */
    SLOT_K,                            /* [K, H] */
    SLOT_V,                            /* [K, H] */
    SLOT_QKV,                          /* [Q + 2K, H] fused */
    SLOT_Q_NORM,                       /* [head_dim] */
    SLOT_K_NORM,                       /* [head_dim] */
    SLOT_O,                            /* [H, Q] */
    SLOT_POST_ATTN_NORM,               /* [H] sandwich */
    SLOT_FFN_NORM,                     /* [H] */
    SLOT_GATE,                         /* [F, H] */
    SLOT_UP,                           /* [F, H] */
    SLOT_GATE_UP,                      /* [2F, H] fused, gate first */
    SLOT_DOWN,                         /* [H, F] */
    SLOT_POST_FFN_NORM,                /* [H] sandwich */
    SLOT_COUNT
};

/* The roles of an image tower's tensors. d its width, f its feed-forward width, P values of a patch
 * (3 x patch x patch), n patches, H hidden of the text part. A vector after a matrix is its bias. */
enum vision_slot {
    VISION_PATCH,                      /* [d, P] */
    VISION_PATCH_BIAS,                 /* [d] */
    VISION_POSITION,                   /* [n, d] */
    VISION_POST_NORM,                  /* [d] */
    VISION_POST_NORM_BIAS,             /* [d] */
    VISION_SOFT_NORM,                  /* [d] */
    VISION_PROJECTION,                 /* [d, H]: the other way round than matrices are */
    VISION_LAYER_FIRST,                /* from here on: one per layer */
    VISION_NORM1 = VISION_LAYER_FIRST, /* [d] */
    VISION_NORM1_BIAS,                 /* [d] */
    VISION_Q,                          /* [d, d] */
    VISION_Q_BIAS,                     /* [d] */
    VISION_K,                          /* [d, d] */
    VISION_K_BIAS,                     /* [d] */
    VISION_V,                          /* [d, d] */
    VISION_V_BIAS,                     /* [d] */
    VISION_O,                          /* [d, d] */
    VISION_O_BIAS,                     /* [d] */
    VISION_NORM2,                      /* [d] */
    VISION_NORM2_BIAS,                 /* [d] */
    VISION_UP,                         /* [f, d] */
    VISION_UP_BIAS,                    /* [f] */
    VISION_DOWN,                       /* [d, f] */
    VISION_DOWN_BIAS,                  /* [d] */
    VISION_SLOT_COUNT
};

#define NAME_ALIASES 3   /* spellings of one tensor name in Hugging Face files; "%u" is the layer */
#define VISION_ALIASES 2 /* the same of an image tower */
#define VISION_PREFIXES 6 /* beginnings of names of an image tower and its projector */

/* What the vendor's configuration class assumes where config.json is silent; 0 means that the key
 * has to be there. Source: the configuration classes of Hugging Face transformers 4.57. */
struct config_defaults {
    uint32_t vocab, heads, kv_heads, head_dim, context, window, query_scalar, window_every;
    double theta, theta_sliding, eps;
    bool head_dim_divides; /* a missing head_dim is hidden / heads (else it is head_dim above) */
    bool tied;
};

/* Numbers of an image tower: square pictures of `image` pixels in patches of `patch`, `layers` blocks
 * of LayerNorm, full attention and a feed-forward part with the tanh form of GELU, all with biases;
 * then the mean over squares of patches gives `tokens` rows for the text part. */
struct vision {
    uint32_t hidden, layers, heads, ffn, image, patch, tokens; /* image 0: there is no tower */
    float eps;                                                 /* of its LayerNorms */
    int32_t begin, end, soft; /* ids around an image and at the place of each of its rows */
};

struct family {
    const char *name;            /* "qwen3" */
    const char *model_type;      /* config.json model_type */
    const char *model_type_text; /* of a nested or text-only config ("gemma3_text"), or NULL */
    const char *hf_classes[3];   /* architectures[0]; ends with NULL */
    const char *gguf_arch;       /* general.architecture */
    enum activation activation;
    bool norm_plus_one;    /* safetensors hold w of 1 + w; GGUF files hold 1 + w already */
    bool sandwich;         /* norms after attention and ffn too */
    bool qk_norm;          /* RMS norm of each head of q and k before rope */
    bool embed_scale_sqrt; /* embedding rows times sqrt(H) */
    bool fused_qkv, fused_gate_up;
    bool gguf_interleaved;       /* GGUF converters permuted q and k rows: pairs (2i, 2i+1) */
    bool sliding_pattern;        /* layer kinds alternate by model.pattern */
    bool nope_layers;            /* config.json has no_rope_layers */
    bool partial_rotary;         /* config.json has partial_rotary_factor */
    bool long_rope;              /* rope_scaling may be of type longrope */
    const char *default_pattern; /* where a file does not say */
    enum think_mode think;       /* of the family's usual models; a model may differ */
    enum tool_dialect tools;
    const char *gguf_tokenizer; /* tokenizer.ggml.model when slm writes a file: "gpt2" or "llama" */
    const char *gguf_pre;       /* tokenizer.ggml.pre likewise */
    const char *bos_text;       /* put in front of raw text; NULL: nothing is */
    struct config_defaults defaults;
    const char *hf_names[SLOT_COUNT][NAME_ALIASES]; /* unused slots NULL */
    const char *gguf_names[SLOT_COUNT];
    const char *vision_prefixes[VISION_PREFIXES]; /* ends with NULL if shorter */
    struct vision
        vision_defaults; /* image 0: the family has no towers; layers and widths 0: as above */
    const char *hf_vision[VISION_SLOT_COUNT][VISION_ALIASES];
    const char *gguf_vision[VISION_SLOT_COUNT];
    const char *gguf_projector; /* clip.projector_type of GGUF files of the tower */
};

struct rope_scaling {
    enum { ROPE_PLAIN, ROPE_LINEAR, ROPE_LONG } kind; /* LINEAR: not on sliding layers */
    float factor;                                     /* LINEAR: positions are divided by it */
    const float *short_factors, *long_factors;        /* LONG: [rotary / 2] */
    uint32_t original_context; /* LONG: sequences longer than this use the long factors */
    float attention_factor;    /* LONG: on cos and sin, with either factors */
};

#define MAX_SCORES 24
#define MAX_HUB_FILES 6

/* What a person who chooses wants to know; NULL or 0 where nothing is published. */
struct card {
    const char *title; /* "Qwen3 0.6B" */
    const char *maker;
    const char *hub_id;     /* "Qwen/Qwen3-0.6B"; NULL: compiled in */
    const char *modalities; /* "text" or "text, images" */
    const char *languages;
    const char *licence; /* SPDX or short name */
    const char *licence_url;
    const char *thinking; /* one sentence */
    const char *tool_use;
    const char *good_at; /* one sentence */
    const char *sampling_note;
    struct slm_score scores[MAX_SCORES]; /* until benchmark is NULL */
    struct slm_hub_file
        files[MAX_HUB_FILES]; /* until repo is NULL; file NULL: whole safetensors repository */
};

#define MODEL_STOPS 8

struct model {
    const char *name; /* id of the command line */
    const struct family *family;
    uint64_t params; /* of the text part, tied embedding counted once */
    uint32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    uint32_t vocab_used; /* ids from here on have no token and are never sampled; 0: not known */
    uint32_t vocab_cut; /* rows in GGUF files whose converter left out rows without text; 0: none */
    const char *pattern; /* repeated over layers: F full, s sliding, N full without rope */
    uint32_t window;     /* of sliding layers, itself included; 0 none */
    float theta, theta_sliding;
    uint32_t rotary;  /* dimensions turned, <= head_dim */
    float attn_scale; /* on q.k; 0: 1 / sqrt(head_dim) */
    float eps;
    struct rope_scaling rope;
    uint32_t context;          /* positions the vendor promises */
    int32_t bos;               /* -1: none is put in front */
    int32_t stop[MODEL_STOPS]; /* ends with -1 */
    bool tied;
    bool chosen_by_name; /* same numbers as another row: meant only when the name says so */
    enum think_mode think;
    struct {
        bool sample;
        float temperature, top_p, min_p;
        uint32_t top_k;
        float presence;
    } sampling; /* recommended */
    struct {
        float temperature, top_p, min_p;
        uint32_t top_k;
        float presence;
        bool set;
    } sampling_no_think;
    uint32_t suggested_output; /* tokens; 0 none published */
    struct vision vision;      /* of zeros: reads text alone */
    struct card card;
};

extern const struct model *const
    models_all[]; /* every file of this folder, by name; ends with NULL (made by the build) */
const struct model *model_by_name(const char *name); /* NULL if none */
extern const struct family family_gemma3, family_qwen3, family_smollm3, family_phi3;
extern const struct family *const families_all[]; /* ends with NULL */
/* By model_type (of a whole or a text-only config) and class; hf_class may be NULL. NULL if none. */
const struct family *family_by_hf(const char *model_type, const char *hf_class);
const struct family *family_by_gguf(const char *arch);
/* 'F', 's' or 'N' of a layer under a pattern */
char pattern_at(const char *pattern, uint32_t layer);

#endif
