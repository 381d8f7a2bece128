/* quantize.h - writing a model as GGUF: which type each tensor gets, and the metadata. */
#ifndef SLM_SESSION_QUANTIZE_H
#define SLM_SESSION_QUANTIZE_H

#include "session/engine.h"

/* What is read: containers, facts, and for folders the files beside the weights. */
struct source {
    struct slm_hooks hooks;
    struct parts parts;
    struct tensors *tensors;
    struct facts facts;
    bool has_facts;
};

/* One tensor of the output. */
struct item {
    const struct tensor_info *from;
    char name[128]; /* in GGUF */
    enum slot slot; /* SLOT_COUNT: of no slot of the text part */
    uint32_t layer;
    enum dtype type;
    bool plus_one;       /* a norm of a 1 + w family */
    uint32_t permute;    /* heads whose rows are interleaved, 0 none */
    const float *values; /* instead of from: rope factors */
    uint64_t n_values;
};
/* "model.layers.%u.x" against a name: the layer, or -1. */
int64_t match_layer(const char *pattern, const char *name);

/* quantize_tower.c: what becomes of a tensor when the image tower is written; false if it is left out,
 * and the metadata of that file. */
bool tower_item(const struct source *in, enum dtype base, const struct tensor_info *t,
                struct item *it);
slm_err tower_metadata(const struct source *in, uint32_t file_type, struct gguf_writer *w,
                       slm_why *why);

/* metadata.c: everything but the tensors. file_type is GGUF's general.file_type. */
slm_err metadata_copy(const struct source *in, uint32_t file_type, struct gguf_writer *w, slm_why *why);
slm_err metadata_from_folder(const struct source *in, uint32_t file_type, struct gguf_writer *w, slm_why *why);

#endif
