/* vision.h - an image tower bound to its weights, and pictures through it.
 *
 * picture.c   8-bit pictures of any size -> pixel values of the tower's size
 * facts_vision.c   the tower's numbers out of config.json or GGUF metadata
 * vision_weights.c   tensors in their slots
 * vision.c    pixel values -> rows that stand in place of embeddings */
#ifndef SLM_MODEL_VISION_H
#define SLM_MODEL_VISION_H

#include "model/net.h"

struct vision_layer {
    struct matrix q, k, v, o; /* [d, d] */
    struct matrix up, down;   /* [f, d], [d, f] */
    const float *q_bias, *k_bias, *v_bias, *o_bias, *up_bias, *down_bias;
    const float *norm1, *norm1_bias, *norm2, *norm2_bias; /* [d] */
};
struct vision_net {
    const struct slm_hooks *hooks;
    const struct kernels *kernels;
    struct vision v;
    uint32_t out;   /* H: width of the rows for the text part */
    uint32_t patch; /* P: values of a patch */
    uint32_t n;     /* patches of a picture */
    float text_eps; /* of the norm before the projection */
    bool exact;
    struct matrix patches, position;                                  /* [d, P], [n, d] */
    struct matrix projection;                                         /* [H, d] */
    const float *patch_bias, *post_norm, *post_norm_bias, *soft_norm; /* [d] */
    bool soft_plus_one; /* soft_norm holds w of 1 + w */
    const float *ones;  /* [f] */
    struct vision_layer *layers;
    struct arena arena; /* vectors, layers, and the projection turned round */
    uint8_t *packed;    /* panels of all matrices, or NULL */
    uint64_t packed_bytes;
};

/* t: the tensors of the model's folder (tower and text together), or of a GGUF file of the tower alone.
 * v: its numbers, checked. pool: for packing. With exact, PLAIN matrices. Types that are not bfloat16
 * but hold nothing that bfloat16 could not are packed as that, which is faster and the same.
 * Every tensor of a tower's own file must find its slot. On failure vision_free is still to be called. */
slm_err vision_bind(struct vision_net *net, const struct slm_hooks *h, const struct tensors *t,
                    const struct facts *f, const struct vision *v, const struct net_options *o,
                    slm_why *why);
void vision_free(struct vision_net *net);
/* The numbers of a GGUF file's tower for a text part with these facts. E_UNSUPPORTED, E_FORMAT,
 * E_MISMATCH. */
slm_err vision_facts_gguf(const struct tensors *t, const struct facts *f, struct vision *out,
                          slm_why *why);

struct vision_taps {      /* for goldens; NULL pointers are skipped */
    float *embeddings;    /* [n, d] */
    float *layers;        /* [L, n, d] */
    float *post_norm;     /* [n, d] */
    float *pooled;        /* [tokens, d] */
    float *pooled_normed; /* [tokens, d] */
};
/* done and in all are blocks. false cancels: E_CANCELLED. Called by the caller's thread only. */
typedef bool (*vision_progress)(void *user, uint32_t done, uint32_t total);

/* pixels [3, S, S] in -1..1, channel by channel -> out [tokens, H]. The bits depend neither on the
 * number of threads nor on what else runs. Allocates vision_bytes and lets it go. E_NOMEM,
 * E_CANCELLED, E_NUMERIC. */
slm_err vision_run(const struct vision_net *net, struct pool *pool, const float *pixels,
                   const struct vision_taps *taps, vision_progress progress, void *user, float *out,
                   slm_why *why);
uint64_t vision_bytes(const struct vision_net *net, unsigned threads);
/* Multiply-adds of one picture: of matrices, of attention. For speed's share of the limit. */
void vision_cost(const struct vision_net *net, uint64_t *matrix_macs, uint64_t *attention_macs);

#endif
