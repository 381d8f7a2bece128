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

/* metadata.c: everything but the tensors. file_type is GGUF's general.file_type. */
slm_err metadata_copy(const struct source *in, uint32_t file_type, struct gguf_writer *w, slm_why *why);
slm_err metadata_from_folder(const struct source *in, uint32_t file_type, struct gguf_writer *w, slm_why *why);

#endif
