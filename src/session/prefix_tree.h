/* prefix_tree.h - the inside of a prefix cache, for prefix.c (tree) and prefix_disk.c (folder). */
#ifndef SLM_SESSION_PREFIX_TREE_H
#define SLM_SESSION_PREFIX_TREE_H

#include "model/kv.h"
#include "session/prefix.h"

#define NO_NODE UINT32_MAX

/* Up to KV_PAGE ids and the pages with their keys and values. A node whose page was given up stays
 * while there is room: it tells "evicted" from "never seen". Only a node of KV_PAGE ids has children. */
struct node {
    uint32_t parent, child; /* nodes, or NO_NODE */
    uint32_t next, before;  /* siblings; next also strings free nodes */
    uint32_t slot;          /* place of its page in a sequence */
    uint64_t salt;          /* of the sequences that it begins; those with another one pass it by */
    uint32_t n_ids;
    uint32_t page[KV_CLASSES]; /* held, or KV_NO_PAGE */
    uint32_t rows[KV_CLASSES]; /* of that page, that belong to ids; 0: no page */
    uint64_t used[KV_CLASSES]; /* time of the last use of that page */
};

struct prefix_cache {
    struct slm_hooks hooks;
    struct kv_pool *pool;     /* borrowed */
    struct prefix_options o;  /* folder borrowed; isa is not used, see below */
    char isa[16];             /* zero bytes after the text */
    uint32_t window;          /* of sliding layers; 0: there are none */
    bool has[KV_CLASSES];     /* layers of this class */
    uint64_t clock;           /* counts operations */
    uint64_t salt;            /* of the operation at hand */
    uint64_t guarded;         /* pages used at this time are not given up; 0: none */
    uint32_t n_nodes, n_fresh;
    uint32_t free;      /* first of the free nodes below n_fresh */
    struct node *nodes; /* [n_nodes]; 0 and 1 are the roots for short and long rope factors */
    int32_t *ids;       /* [n_nodes][KV_PAGE] */
};

static inline int32_t *node_ids(const struct prefix_cache *c, uint32_t node) {
    return c->ids + (size_t)node * KV_PAGE;
}
/* How many of the first n ids are equal. */
uint32_t ids_in_common(const int32_t *a, const int32_t *b, uint32_t n);
/* First slot whose sliding page a sequence of n positions needs to go on; n's own slot count when it
 * needs none. */
uint32_t prefix_first_needed(const struct prefix_cache *c, uint32_t n);
/* The child of `parent` that begins with ids [n], made if there is none; one that is a beginning of
 * ids is made longer. NO_NODE: every node belongs to the operation at hand. */
uint32_t prefix_step(struct prefix_cache *c, uint32_t parent, const int32_t *ids, uint32_t n);
/* Lets a node hold a page with `rows` rows, unless it has as many. */
void prefix_give(struct prefix_cache *c, uint32_t node, enum kv_class k, uint32_t page,
                 uint32_t rows);
/* The child of `parent` with most ids in common with ids [n], if any; one with a page goes before one
 * that lost it. *longest: the most that any child has in common. */
uint32_t prefix_best_child(const struct prefix_cache *c, uint32_t parent, const int32_t *ids,
                           uint32_t n, uint32_t *same, uint32_t *longest);

struct prefix_piece;
/* How many of ids [n] can be taken over from the tree and pieces [slots of n][KV_CLASSES] together. */
uint32_t prefix_usable_with(const struct prefix_cache *c, const int32_t *ids, uint32_t n,
                            bool long_rope, const struct prefix_piece *pieces);

/* prefix_disk.c: brings what the folder has of a usable beginning longer than `have` into the tree,
 * as far as the pool has pages; true when there may be more to take over now. */
bool prefix_load(struct prefix_cache *c, const int32_t *ids, uint32_t n, bool long_rope,
                 uint32_t have);

#endif
