/* engine.h - the inside of slm_engine (see include/slm.h for what it promises).
 *
 * An engine is filled in once by engine.c and constant afterwards. Everything that changes belongs to
 * runners and sequences (runner.h): keys and values, scratch, worker threads, samplers, ids. */
#ifndef SLM_SESSION_ENGINE_H
#define SLM_SESSION_ENGINE_H

#include <jansson.h>
#include <stdatomic.h>

#include "chat/template.h"
#include "chat/thinking.h"
#include "model/net.h"
#include "sample/sampler.h"
#include "slm.h"
#include "token/token.h"

/* How models that think mark their reasoning. */
#define THINK_OPEN "<think>"
#define THINK_CLOSE "</think>"

struct slm_engine {
    struct slm_hooks hooks;
    struct arena arena; /* strings that info points to */
    const struct kernels *kernels;
    struct tensors *tensors; /* NULL when there are no weights */
    struct facts facts;
    bool has_facts;
    struct net net;
    bool bound; /* net is usable */
    bool exact; /* asked for when it was opened */
    struct rope *rope;
    struct tokenizer *tokenizer; /* NULL if absent */
    struct template *chat;       /* NULL if absent */
    const char *chat_source;     /* text of the template [chat_size], in arena */
    size_t chat_size;
    char *bos_text, *eos_text;       /* for the template; NULL unknown */
    struct image_store *images;  /* NULL: it does not see images */
    uint32_t *allowed;               /* bit set [ceil(vocab/32)]: ids that may be sampled */
    int32_t think_open, think_close; /* ids of the markers, -1 if the model has none */
    struct engine_late *late;        /* what is made when it is first asked for (constraint.h) */
    uint64_t vocabulary_bytes;       /* tokenizer and template in memory, estimated for plans */
    slm_sampling sampling, sampling_no_think;
    const char *name, *types;
    const char *container; /* "gguf", "safetensors" or "none" */
    uint64_t file_bytes, tensor_bytes;
};

/* Where the parts of an engine come from: a folder or the caller's memory. */
struct parts {
    const struct slm_hooks *hooks;
    const char *path; /* NULL when from memory */
    bool is_folder;
    const struct slm_memory_file *files; /* [n_files] borrowed, or NULL */
    size_t n_files;
};
/* Maps a file of the model by name; *out has data NULL when there is none. Limit in bytes. */
slm_err parts_map(const struct parts *p, const char *name, size_t limit, struct mapping *out,
                  slm_why *why);
/* Whether there is a file of that name. */
slm_err parts_have(const struct parts *p, const char *name, bool *out, slm_why *why);

/* Facts out of GGUF metadata, or of config.json and generation_config.json; *there is false when the
 * model has neither. t may be NULL. */
slm_err parts_facts(const struct parts *p, const struct tensors *t, const char *hint,
                    struct facts *out, bool *there, slm_why *why);

/* vocab.c: tokenizer, template and special tokens out of files or GGUF metadata */
slm_err vocab_from_gguf(slm_engine *e, unsigned want, slm_why *why);
slm_err vocab_from_parts(slm_engine *e, const struct parts *p, unsigned want, slm_why *why);
/* Notes what tokenizer and template take in memory: also before loading, but not when the weights
 * were asked for without them. */
slm_err vocab_estimate(slm_engine *e, const struct parts *p, unsigned want, slm_why *why);
/* The template that a tokenizer_config.json holds, a string; borrowed, NULL if it has none. */
const json_t *config_template(const json_t *config);

/* catalog.c: table values in the public form */
void model_sampling(const struct model *m, slm_sampling *usual, slm_sampling *no_think);
enum slm_think think_public(enum think_mode mode);

/* info.c: options with every default filled in and checked against the model and max_bytes */
slm_err session_settings(const slm_engine *e, const slm_session_options *options,
                         slm_session_options *o, slm_why *why);
enum kv_type kv_internal(enum slm_kv kv);

/* catalog.c: structs with a leading size field, written by programs with other headers. */
/* Copies the caller's over defaults; NULL leaves them. E_ARG for a size that cannot be, and for a
 * longer struct with something in the part that is not known here. */
slm_err options_copy(void *to, size_t to_size, const void *from, slm_why *why);
/* The other way: what fits into the caller's struct, whose size field stays as it was. */
slm_err result_give(void *out, const void *from, size_t from_size);

#endif
