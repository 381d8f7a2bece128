/* prefix.h - beginnings of sequences that were evaluated before, kept for whoever starts alike.
 *
 * A radix tree over pages of keys and values: a node is one page of KV_PAGE ids (the last of a branch
 * may be shorter) and holds a reference to the page of the full layers and to that of the sliding
 * layers, as long as the pool can spare it. Pages are shared with the sequences that use them and are
 * never written while shared (kv.h: whoever writes gets its own copy). When the pool runs out, the
 * least recently used pages that nobody else holds go first. Pages of sliding layers go by their own
 * last use: they serve only beginnings that end inside or shortly behind them.
 *
 * Because a token's numbers do not depend on what was evaluated with it, a sequence that starts from
 * kept pages has the bits of one that was evaluated whole. */
#ifndef SLM_SESSION_PREFIX_H
#define SLM_SESSION_PREFIX_H

#include "model/net.h"

struct prefix_cache;

/* Why a fetch gave less than there was in common, for receipts and messages. */
enum prefix_miss {
    PREFIX_NO_MISS,      /* everything that could be reused was */
    PREFIX_DIFFERENT,    /* the ids differ from here on */
    PREFIX_WINDOW_GONE,  /* equal further on, but a sliding window's pages are no longer held */
    PREFIX_EVICTED,      /* pages were given up for other sequences */
    PREFIX_ROPE,         /* kept with the other set of rope factors */
};
struct prefix_note {
    uint32_t common;       /* ids in common with the best branch */
    uint32_t reused;       /* of these, taken over */
    uint32_t from_disk;    /* of these, read from the folder */
    enum prefix_miss miss; /* why reused < the length asked for */
};
const char *prefix_miss_text(enum prefix_miss m);

struct prefix_options {
    const char *folder;  /* kept across restarts; NULL: memory only. Borrowed while the cache lives */
    uint64_t disk_bytes; /* most that the folder may hold; 0: 4 GiB. The least recently used go first */
    uint64_t identity[2]; /* of the weights and their numbers (net_identity) */
    const char *isa;      /* what computes with them (isa_name); NULL: not told */
    bool exact;           /* the other path of computing */
};
/* pool is borrowed and must outlive the cache, which becomes the pool's reclaimer (kv_pool_on_full):
 * a sequence never lacks a page that the cache alone could spare. The folder is made when it is not
 * there. All memory of the tree is reserved here; the folder's files are read and written through
 * buffers that come and go. Used by the pool's thread. */
slm_err prefix_new(const struct slm_hooks *h, struct kv_pool *pool, const struct prefix_options *o,
                   struct prefix_cache **out, slm_why *why);
void prefix_free(struct prefix_cache *c);
/* Bytes of the tree over a pool of so many pages, for plans. */
uint64_t prefix_bytes(struct kv_pages pages);

/* From now on calls are about sequences of this salt: those of another one share nothing with them, not
 * even the knowledge that the ids were seen. 0 is a salt like others, and holds until it is changed. */
void prefix_salt(struct prefix_cache *c, uint64_t salt);
/* Makes kv, which must be empty, hold the longest usable beginning of ids [n] and returns its length
 * (<= n; 0 when there is none). All of it is shared; kv_reserve copies what is kept of the last,
 * partial page when it is written. A beginning that only the folder has is read, verified by hash,
 * and enters the tree; a file that is damaged or foreign is left aside and counts as absent.
 * Who needs the logits of ids[n - 1] asks for n - 1. note may be NULL.
 * Cost: one comparison of ids; reading when it comes from the folder. */
uint32_t prefix_fetch(struct prefix_cache *c, const int32_t *ids, uint32_t n, bool long_rope,
                      struct kv *kv, struct prefix_note *note);
/* Remembers what kv holds: ids [kv_length(kv)]. Called when a prompt has been evaluated and when an
 * answer ends. Nothing is copied and nothing allocated. */
void prefix_keep(struct prefix_cache *c, const int32_t *ids, const struct kv *kv);
/* The same of the pages that are full. Called between the chunks of a prompt, and in an answer now and
 * then (more often than the window moves a page on), it hands the sliding pages that a sequence is
 * about to let go to the tree, which keeps them while the pool can spare them: so a later prompt may
 * differ anywhere, not only near the ends that were kept. Cost: one comparison of ids. */
void prefix_keep_full_pages(struct prefix_cache *c, const int32_t *ids, const struct kv *kv);
/* Writes what kv holds to the folder, unless it is there. Nothing to do without a folder. Errors are
 * the caller's to report: the sequence is not affected. E_BUDGET: larger than the folder may be. */
slm_err prefix_save(struct prefix_cache *c, const int32_t *ids, const struct kv *kv, slm_why *why);

#endif
