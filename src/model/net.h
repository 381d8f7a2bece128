/* net.h - a model bound to its weights: what a forward pass needs, and how it is called.
 *
 * facts   what config.json or GGUF metadata say, as a struct model (facts.c)
 * net     facts + tensors in their slots, checked and perhaps packed (weights.c)
 * plan    bytes of everything, known before anything is touched (plan.c)
 * kv      keys and values: pages of a pool (kv_pool.c), tables of sequences (kv.c)
 * forward hidden states and logits of a batch of rows (forward.c) */
#ifndef SLM_MODEL_NET_H
#define SLM_MODEL_NET_H

#include "format/format.h"
#include "kernels/kernels.h"
#include "models/desc.h"

/* ---- what follows from a model's numbers (shapes.c) ---- */
/* Shape of the tensor in a slot, outermost first: returns 2, 1 (dims[1] is 1), or 0 when the model
 * has none. */
unsigned slot_shape(const struct model *m, enum slot s, uint64_t dims[2]);
/* Parameters of the text part; a tied embedding counts once. */
uint64_t model_params(const struct model *m);
/* What q.k is multiplied by. */
float model_attn_scale(const struct model *m);
#define SLOT_NAME 128
/* The tensor name that a pattern of the family gives for a layer. */
void slot_name(const char *pattern, uint32_t layer, char out[SLOT_NAME]);

/* ---- facts ---- */
enum trust {
    TRUST_VERIFIED, /* equals the table of a known model in every number */
    TRUST_DERIVED,  /* a known family with other numbers: runs, "derived, not verified" */
};
struct facts {
    struct model m; /* numbers of this file; m.name of the known model, or the file's own name */
    const struct model *known; /* table row that it equals; NULL for a derived one */
    enum trust trust;
    bool from_gguf;
    bool has_vision;      /* the model also has an image tower */
    struct arena arena;   /* owns rope factors, pattern and names when they came from the file */
};
/* Both read a file's numbers, refuse what the engine does not compute (by name, E_UNSUPPORTED), and
 * compare with the known models: a file of the same family, layers, hidden, heads, ffn, vocabulary
 * and context as a known one (or of that shape and its name) has to equal it in every number, else
 * E_MISMATCH with both values. Anything else is derived.
 * hint  a name from outside (id, folder, file name), used where known models have equal numbers and
 *       the file does not say which it is; may be NULL.
 * On failure *out holds nothing that needs freeing. */
/* HF: text of config.json and generation_config.json (the latter may be NULL). */
slm_err facts_from_config(const struct slm_hooks *h, const char *config, size_t n,
                          const char *generation, size_t n_generation, const char *hint,
                          struct facts *out, slm_why *why);
slm_err facts_from_gguf(const struct slm_hooks *h, const struct tensors *t, const char *hint,
                        struct facts *out, slm_why *why);
/* The facts of a table row, for plans without a file. */
void facts_from_model(const struct slm_hooks *h, const struct model *m, struct facts *out);
void facts_free(struct facts *f);

/* ---- net ---- */
struct layer {
    char kind;             /* 'F', 's', 'N' */
    struct matrix q, k, v; /* separate, or row ranges of qkv (fused): each its own matrix */
    struct matrix o, gate, up, down;
    const float *attn_norm, *post_attn_norm, *ffn_norm,
        *post_ffn_norm;           /* float32 [H]; NULL if none */
    const float *q_norm, *k_norm; /* [head_dim]; NULL if none */
};
/* Where the panels of a net are. */
enum packed_from {
    PACKED_NONE,    /* nothing is packed */
    PACKED_MEMORY,  /* in memory of this process */
    PACKED_WRITTEN, /* in a file that this process made, mapped */
    PACKED_CACHED,  /* in a file that was there, mapped */
};
struct net {
    const struct slm_hooks *hooks;
    const struct model *m; /* borrowed from facts */
    const struct kernels *kernels;
    struct matrix embed, output; /* output shares embed's data when tied */
    const float *final_norm;
    struct layer *layers;  /* [m->layers] */
    bool norm_plus_one;    /* of this file (false for GGUF, which holds 1 + w) */
    bool interleaved_rope; /* q and k rows stand as pairs (2i, 2i + 1) in the matrices as bound */
    bool has_vision;       /* the file holds an image tower (bound by vision_bind) */
    float embed_scale;     /* 1, or sqrt(H) in float32 */
    bool exact;            /* PLAIN matrices, float32 everything */
    struct arena arena;    /* small things: norms as float32, layers */
    enum packed_from packed_from;
    uint8_t *packed;            /* one block for all panels (PACKED_MEMORY), or NULL */
    struct mapping packed_file; /* the file that holds them (PACKED_WRITTEN, PACKED_CACHED) */
    uint64_t mapped_bytes, packed_bytes;
};
/* progress: called with bytes done and in all; returns false to cancel. May be NULL. */
typedef bool (*net_progress)(void *user, uint64_t done, uint64_t total);
struct net_options {
    bool exact;
    const struct kernels *kernels;
    struct pool *pool;     /* for packing */
    net_progress progress; /* of packing: nothing is told when a file of panels is there */
    void *user;
    const char *packed_dir; /* folder of packed files (packed_file.h); NULL: panels are in memory */
};
/* Finds every tensor (all aliases of the family), checks shapes and types, refuses missing, extra
 * (outside a list of known ignorable: rotary tables, vision tower, lm_head that equals the
 * embedding) and mis-shaped ones, packs matrices or finds them packed (pack.c). `t` and `f` must
 * outlive net. */
slm_err net_bind(struct net *net, const struct slm_hooks *h, const struct tensors *t,
                 const struct facts *f, const struct net_options *o, slm_why *why);
void net_free(struct net *net);
/* 128 bits that two files share only when they hold the same weights and numbers: facts, sizes of
 * files, and of each tensor its name, type, shape, size, first and last 4 KiB (identity.c says what
 * that cannot see). For the keys of caches on disk. Which kernels compute with the weights is not in
 * it. Cost: two pages of each tensor are read. */
void net_identity(const struct tensors *t, const struct facts *f, uint64_t out[2]);

/* ---- keys and values: pages of one pool, a table of pages per sequence (kv_pool.c, kv.c) ---- */
#define KV_PAGE 64 /* positions of a page; SPAN is a multiple of it */
/* Full layers (and those without positions) and sliding layers have pages of their own: a page holds
 * KV_PAGE positions of every layer of its class. Sequences and caches share pages by reference; a page
 * that more than one holds is not written. Pages of sliding layers are let go once the window has
 * passed them. */
enum kv_class { KV_FULL, KV_SLIDING, KV_CLASSES };
struct kv_pool;
struct kv;
struct kv_pages {
    uint32_t n[KV_CLASSES];
};
/* Pages that sequences of this length need, each evaluated in chunks of at most `chunk`. */
struct kv_pages kv_pages_for(const struct model *m, uint32_t context, uint32_t chunk,
                             uint32_t sequences);
uint64_t kv_page_bytes(const struct model *m, enum kv_type type, enum kv_class c);
/* Bytes of a pool with so many pages; UINT64_MAX when that is too much. */
uint64_t kv_pool_bytes(const struct model *m, enum kv_type type, struct kv_pages pages);
/* All memory is reserved here; pages that are never used cost nothing. */
slm_err kv_pool_new(const struct slm_hooks *h, const struct model *m, enum kv_type type,
                    struct kv_pages pages, struct kv_pool **out, slm_why *why);
void kv_pool_free(struct kv_pool *pool); /* after every sequence and cache */
/* Called when no page of a class is free: gives at least one back (true) or cannot (false). */
typedef bool (*kv_reclaim)(void *user, enum kv_class c);
void kv_pool_on_full(struct kv_pool *pool, kv_reclaim fn, void *user);

/* A sequence of at most `context` positions, evaluated at most `chunk` at a time. Allocates its table,
 * no page. */
slm_err kv_new(struct kv_pool *pool, uint32_t context, uint32_t chunk, struct kv **out,
               slm_why *why);
void kv_free(struct kv *kv);                                /* gives its pages back */
uint64_t kv_bytes(const struct model *m, uint32_t context); /* of the table */
uint32_t kv_length(const struct kv *kv);
/* Pages of its own for positions [length, length + n): what is shared there is copied. E_MEMORY with
 * both numbers when the pool has none left; the sequence is as before then. forward_run does this for
 * its slices. */
slm_err kv_reserve(struct kv *kv, uint32_t n, slm_why *why);
/* Forgets positions >= n. false if that is impossible because the window of a sliding layer has
 * already let go what position n would need: then the sequence has to be evaluated from 0. */
bool kv_truncate(struct kv *kv, uint32_t n);
bool kv_can_truncate(const struct kv *kv, uint32_t n);

/* ---- plan ---- */
struct plan_request {
    uint32_t context;    /* positions of one sequence */
    uint32_t sequences;  /* how many of them */
    uint32_t runners;    /* sets of scratch that they share; 0: each has its own */
    uint32_t chunk;      /* rows of one forward call at most */
    uint32_t logit_rows; /* rows of logits kept at most */
    enum kv_type kv;
    struct kv_pages spare; /* of each pool, beyond what its sequences need: for a prefix cache */
    unsigned threads;
    bool exact;
    uint64_t session_bytes;    /* what goes with each set of scratch: samplers, ids */
    uint64_t vocabulary_bytes; /* tokenizer and template */
};
struct plan {
    uint64_t
        weights_file; /* bytes of tensors in the file that stay mapped and are read while running */
    uint64_t weights_packed; /* bytes of panels in memory */
    uint64_t kv;             /* pools of pages, and the sequences' tables */
    uint64_t scratch;        /* of all sequences: rows, logits, per-thread, session_bytes */
    uint64_t vocabulary;     /* as requested */
    uint64_t total;          /* expected peak of the process beyond its own code */
};
/* From facts and the tensors of a file, which are bound for it and let go again. */
slm_err plan_make(const struct facts *f, const struct tensors *t, const struct kernels *k,
                  const struct plan_request *r, struct plan *out, slm_why *why);
/* The same of a net that is bound already: a matter of adding. */
slm_err plan_net(const struct net *net, const struct plan_request *r, struct plan *out,
                 slm_why *why);

/* ---- rope ---- */
/* cos and sin [n_pairs] of one position, attention factor included. long_rope selects the long
 * factors of a ROPE_LONG model. Frequencies are computed once, rounded as the official code has them. */
struct rope;
slm_err rope_new(const struct slm_hooks *h, const struct model *m, struct rope **out, slm_why *why);
void rope_free(struct rope *r);
void rope_row(const struct rope *r, char layer_kind, bool long_rope, uint32_t position,
              float *cosine, float *sine);

/* ---- forward ---- */
enum logit_rows { LOGITS_NONE, LOGITS_LAST, LOGITS_ALL }; /* of a slice */
/* A row that stands in place of an embedding: one of an image's. x NULL: the id's embedding. */
struct soft_row {
    const float *x; /* [H] borrowed for the run; not scaled */
    uint32_t
        until; /* the row sees positions before this one, all of them in the same slice or before
                       it: those of its image. 0: its own and those before it */
};
/* Consecutive new positions of one sequence; the rows of a batch are its slices one after another. */
struct slice {
    struct kv *kv;  /* grows by n */
    uint32_t n;     /* rows, >= 1; kv_length(kv) + n <= context */
    bool long_rope; /* ROPE_LONG models: this sequence uses the long factors */
    enum logit_rows rows;
    const struct soft_row *soft; /* [n], or NULL: all rows are ids. Borrowed for the run */
};
struct forward_taps {  /* for goldens and `logits --hidden`; NULL pointers are skipped */
    float *embed;      /* [rows, H] */
    float *layers;     /* [L, rows, H] */
    float *final_norm; /* [rows, H] */
};
struct forward; /* scratch of one session: sized once, allocates nothing afterwards */
slm_err forward_new(const struct slm_hooks *h, const struct net *net, const struct rope *rope,
                    struct pool *pool, uint32_t max_rows, uint32_t max_logit_rows, uint32_t context,
                    struct forward **out, slm_why *why);
void forward_free(struct forward *f);
/* From now on a run ends with E_CANCELLED after the layer at hand once *stop is set; the sequences
 * then hold what they held before. stop is borrowed; NULL: nothing is asked. */
void forward_stop_on(struct forward *f, const atomic_bool *stop);
uint64_t forward_bytes(const struct net *net, uint32_t max_rows, uint32_t max_logit_rows,
                       uint32_t context, unsigned threads);
/* ids [sum of n]. logits: [n rows asked for, vocab] in row order. Returns E_ARG for an id outside the
 * vocabulary rows, E_NUMERIC when a logit is not finite, E_CANCELLED (see forward_stop_on),
 * E_MEMORY when the pool has no pages left; the kv holds what it held before then. */
slm_err forward_run(struct forward *f, const struct slice *slices, size_t n_slices,
                    const int32_t *ids, float *logits, const struct forward_taps *taps,
                    slm_why *why);

#endif
