/* weights.h - binding in two steps, for net_bind and for plans: find and check, then arrange. */
#ifndef SLM_MODEL_WEIGHTS_H
#define SLM_MODEL_WEIGHTS_H

#include "model/net.h"

/* A matrix of the net and where its rows come from. */
struct binding {
    struct matrix *matrix;          /* in the net; PLAIN over the file until it is arranged */
    const struct tensor_info *file; /* NULL in a plan without a file */
    uint64_t first_row;             /* of the tensor: a fused one holds several matrices */
    uint32_t permuted_heads;        /* rows of that many heads stand as pairs (2i, 2i + 1); 0: no */
};
struct bindings {
    struct binding *list; /* [n] in the order of the layers, output last; in the net's arena */
    uint32_t n;
    bool shared; /* output is the embedding */
};

/* Fills in every field of *net but packed and packed_bytes, with PLAIN matrices. plan_only reads no
 * weights but for the comparison of a separate output with the embedding: norms stay NULL.
 * t NULL: the shapes of the facts in bfloat16. On failure net_free is still to be called. */
slm_err weights_bind(struct net *net, struct bindings *b, const struct slm_hooks *h,
                     const struct tensors *t, const struct facts *f, bool plan_only, slm_why *why);
/* Turns matrices that have a panel layout into descriptions of it (data NULL) and says how many bytes
 * of panels and of mapped file there will be. Nothing is packed when net->exact. */
slm_err weights_arrange(struct net *net, struct bindings *b, slm_why *why);

#endif
