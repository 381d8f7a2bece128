/* kv.h - the inside of keys and values, for those who compute with them (forward.c, attend.c) and for
 * those who share them (the prefix cache).
 *
 * A page: for each layer of its class, for each kv head, keys [KV_PAGE][row_bytes], then values
 * [KV_PAGE][row_bytes]; every part is a multiple of 64 bytes and begins at one. Position p of a
 * sequence is row p % KV_PAGE of the page in slot p / KV_PAGE of its table. */
#ifndef SLM_MODEL_KV_H
#define SLM_MODEL_KV_H

#include "model/net.h"

#define KV_NO_PAGE UINT32_MAX

/* Where a layer's keys lie. */
struct kv_layer {
    enum kv_class c;
    uint32_t window; /* 0: sees everything */
    size_t offset;   /* in a page, of the first head's keys */
};

/* The pages of one class. */
struct kv_store {
    uint8_t *base; /* [n_pages][page_bytes] */
    size_t page_bytes;
    uint32_t layers; /* of this class; 0: no pages */
    uint32_t n_pages;
    uint32_t n_fresh; /* pages from here on were never used, nor touched */
    uint32_t n_back;  /* pages that were given back */
    uint32_t *back;   /* [n_pages] the first n_back: those pages; the last one is taken first */
    uint32_t *refs;   /* [n_pages] the first n_fresh: holders; 0: given back */
};

struct kv_pool {
    struct slm_hooks hooks;
    const struct model *m; /* borrowed */
    enum kv_type type;
    size_t row_bytes;  /* of one head's key or value */
    size_t head_bytes; /* of a head's keys and values in a page */
    struct kv_store store[KV_CLASSES];
    struct kv_layer *layers; /* [m->layers] */
    uint32_t *tables;        /* what store[].back and refs point into */
    uint8_t *block;          /* all pages, one allocation */
    kv_reclaim reclaim;
    void *user;
};

struct kv {
    struct kv_pool *pool;
    const struct model *m; /* the pool's, as the next four */
    enum kv_type type;
    size_t row_bytes, head_bytes;
    const struct kv_layer *layers;
    uint32_t context, chunk;
    uint32_t length;             /* positions held */
    int8_t long_rope;            /* factors that the keys were turned with; -1: empty */
    uint32_t slots;              /* of a table */
    uint32_t low;                /* no sliding page is held below this slot */
    uint32_t *pages[KV_CLASSES]; /* [slots] page numbers, or KV_NO_PAGE */
};

/* ---- pages ---- */
/* A page with one holder, its contents undefined; asks the reclaimer. KV_NO_PAGE: there is none. */
uint32_t kv_page_take(struct kv_pool *pool, enum kv_class c);
void kv_page_hold(struct kv_pool *pool, enum kv_class c, uint32_t page); /* one holder more */
void kv_page_drop(struct kv_pool *pool, enum kv_class c, uint32_t page); /* one less */
uint32_t kv_pages_free(const struct kv_pool *pool, enum kv_class c);

static inline uint32_t kv_page_refs(const struct kv_pool *pool, enum kv_class c, uint32_t page) {
    return pool->store[c].refs[page];
}
static inline uint8_t *kv_page_data(const struct kv_pool *pool, enum kv_class c, uint32_t page) {
    return pool->store[c].base + (size_t)page * pool->store[c].page_bytes;
}
/* Slots below this one hold nothing that position `length` or a later one sees in a sliding layer. */
uint32_t kv_slots_gone(const struct model *m, uint32_t length);

/* ---- sequences ---- */
/* Puts a shared page (a holder more) into a slot of a sequence that is being started from kept pages;
 * kv_started then says what it holds: `length` positions, of which the pages are there. */
void kv_share(struct kv *kv, enum kv_class c, uint32_t slot, uint32_t page);
void kv_started(struct kv *kv, uint32_t length, bool long_rope);

/* The key of a position in one head; that of the next position of the same page follows it. */
static inline uint8_t *kv_key(const struct kv *kv, const struct kv_layer *l, uint32_t head,
                              uint32_t position) {
    return kv_page_data(kv->pool, l->c, kv->pages[l->c][position / KV_PAGE]) + l->offset +
           head * kv->head_bytes + position % KV_PAGE * kv->row_bytes;
}
static inline uint8_t *kv_value(const struct kv *kv, const struct kv_layer *l, uint32_t head,
                                uint32_t position) {
    return kv_key(kv, l, head, position) + kv->head_bytes / 2;
}

#endif
