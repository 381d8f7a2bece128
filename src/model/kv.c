/* kv.c - keys and values of one sequence: a table of pages per class.
 *
 * Before rows are written, kv_reserve gives the sequence pages of its own for them: fresh ones, and
 * a copy where it would write into a page that others hold too. At that time it lets go the sliding
 * pages that the window has passed. It looks at the length that is certain, not at the one that the
 * rows would make: so whatever becomes of the rows, the sequence can go back to where it was. */
#include "model/kv.h"

#include <string.h>

static uint32_t slots_of(uint32_t positions) {
    return positions / KV_PAGE + (positions % KV_PAGE > 0);
}

uint64_t kv_bytes(const struct model *m, uint32_t context) {
    (void)m;
    return sizeof(struct kv) + (uint64_t)KV_CLASSES * slots_of(context) * sizeof(uint32_t);
}

slm_err kv_new(struct kv_pool *pool, uint32_t context, uint32_t chunk, struct kv **out,
               slm_why *why) {
    *out = NULL;
    if (context == 0 || chunk == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "keys and values for %u positions in chunks of %u", context, chunk);
    uint32_t slots = slots_of(context);
    struct kv *kv = mem_alloc(&pool->hooks, 1, sizeof *kv);
    uint32_t *table =
        kv != NULL ? mem_alloc(&pool->hooks, (size_t)KV_CLASSES * slots, sizeof *table) : NULL;
    if (table == NULL) {
        mem_free(&pool->hooks, kv);
        return fail_nomem(why, "a table of pages", (size_t)kv_bytes(pool->m, context));
    }
    *kv = (struct kv){ .pool = pool,
                       .m = pool->m,
                       .type = pool->type,
                       .row_bytes = pool->row_bytes,
                       .head_bytes = pool->head_bytes,
                       .layers = pool->layers,
                       .context = context,
                       .chunk = chunk,
                       .long_rope = -1,
                       .slots = slots,
                       .pages = { table, table + slots } };
    for (size_t i = 0; i < (size_t)KV_CLASSES * slots; i++)
        table[i] = KV_NO_PAGE;
    *out = kv;
    return SLM_OK;
}

static void let_go(struct kv *kv, enum kv_class c, uint32_t from, uint32_t end) {
    for (uint32_t i = from; i < end; i++)
        if (kv->pages[c][i] != KV_NO_PAGE) {
            kv_page_drop(kv->pool, c, kv->pages[c][i]);
            kv->pages[c][i] = KV_NO_PAGE;
        }
}

void kv_free(struct kv *kv) {
    if (kv == NULL)
        return;
    struct kv_pool *pool = kv->pool;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        let_go(kv, (enum kv_class)c, 0, kv->slots);
    mem_free(&pool->hooks, kv->pages[0]);
    mem_free(&pool->hooks, kv);
}

uint32_t kv_length(const struct kv *kv) {
    return kv->length;
}

/* ------------------------------------------------------------------ room for new rows */

/* Pages of a class that rows [length, length + n) lack, and those that nobody needs once the sequence
 * lets go of them. */
static void count_pages(const struct kv *kv, enum kv_class c, uint32_t n, uint32_t gone,
                        uint32_t *lacking, uint32_t *spare) {
    const uint32_t *pages = kv->pages[c];
    *lacking = *spare = 0;
    for (uint32_t i = kv->length / KV_PAGE; i < slots_of(kv->length + n); i++)
        *lacking += pages[i] == KV_NO_PAGE || kv_page_refs(kv->pool, c, pages[i]) > 1;
    for (uint32_t i = kv->low; c == KV_SLIDING && i < gone; i++)
        *spare += pages[i] != KV_NO_PAGE && kv_page_refs(kv->pool, c, pages[i]) == 1;
}

/* Sees to it that there are enough pages; changes nothing of the sequence. What the reclaimer gives up
 * may be a share of a page that then need not be copied, so it is counted again each time. */
static slm_err find_pages(struct kv *kv, enum kv_class c, uint32_t n, uint32_t gone, slm_why *why) {
    struct kv_pool *p = kv->pool;
    for (;;) {
        uint32_t lacking, spare, there = kv_pages_free(p, c);
        count_pages(kv, c, n, gone, &lacking, &spare);
        if (lacking <= there || lacking - there <= spare)
            return SLM_OK;
        if (p->reclaim == NULL || !p->reclaim(p->user, c))
            return fail(why, SLM_E_MEMORY, SLM_NO_OFFSET,
                        "%u more positions need %u pages of keys and values, %u of %u are free", n,
                        lacking, there + spare, p->store[c].n_pages);
    }
}

/* Rows [0, rows) of every head of every layer. */
static void copy_rows(const struct kv_pool *p, enum kv_class c, uint32_t to, uint32_t from,
                      uint32_t rows) {
    uint8_t *t = kv_page_data(p, c, to);
    const uint8_t *f = kv_page_data(p, c, from);
    size_t half = p->head_bytes / 2, parts = p->store[c].page_bytes / half;
    for (size_t i = 0; i < parts; i++)
        memcpy(t + i * half, f + i * half, rows * p->row_bytes);
}

/* A page of the sequence's own in this slot, with the rows that it held. */
static void own_page(struct kv *kv, enum kv_class c, uint32_t slot) {
    uint32_t *page = &kv->pages[c][slot], old = *page;
    if (old != KV_NO_PAGE && kv_page_refs(kv->pool, c, old) == 1)
        return;
    *page = kv_page_take(kv->pool, c);
    if (old == KV_NO_PAGE)
        return;
    if (kv->length > slot * KV_PAGE)
        copy_rows(kv->pool, c, *page, old, kv->length - slot * KV_PAGE);
    kv_page_drop(kv->pool, c, old);
}

slm_err kv_reserve(struct kv *kv, uint32_t n, slm_why *why) {
    struct kv_pool *p = kv->pool;
    if (n > kv->context - kv->length)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "%u more positions after %u exceed the context of %u", n, kv->length,
                    kv->context);
    uint32_t gone = kv_slots_gone(p->m, kv->length);
    for (unsigned c = 0; c < KV_CLASSES; c++)
        if (p->store[c].layers > 0)
            TRY(find_pages(kv, (enum kv_class)c, n, gone, why));
    if (p->store[KV_SLIDING].layers > 0 && gone > kv->low) {
        let_go(kv, KV_SLIDING, kv->low, gone);
        kv->low = gone;
    }
    for (unsigned c = 0; c < KV_CLASSES; c++)
        for (uint32_t i = kv->length / KV_PAGE; i < slots_of(kv->length + n); i++)
            if (p->store[c].layers > 0)
                own_page(kv, (enum kv_class)c, i);
    return SLM_OK;
}

/* ------------------------------------------------------------------ going back */

/* The next position n needs n - window + 1 .. n - 1 in every sliding layer. */
bool kv_can_truncate(const struct kv *kv, uint32_t n) {
    if (n >= kv->length || n == 0 || kv->pool->store[KV_SLIDING].layers == 0)
        return true;
    uint32_t needed = n + 1 > kv->m->window ? n + 1 - kv->m->window : 0;
    for (uint32_t i = needed / KV_PAGE; needed < n && i < slots_of(n); i++)
        if (kv->pages[KV_SLIDING][i] == KV_NO_PAGE)
            return false;
    return true;
}

bool kv_truncate(struct kv *kv, uint32_t n) {
    if (n >= kv->length)
        return true;
    if (!kv_can_truncate(kv, n))
        return false;
    for (unsigned c = 0; c < KV_CLASSES; c++)
        let_go(kv, (enum kv_class)c, slots_of(n), kv->slots);
    kv->length = n;
    if (n == 0) {
        kv->low = 0;
        kv->long_rope = -1;
    }
    return true;
}

/* ------------------------------------------------------------------ starting from kept pages */

void kv_share(struct kv *kv, enum kv_class c, uint32_t slot, uint32_t page) {
    kv_page_hold(kv->pool, c, page);
    let_go(kv, c, slot, slot + 1);
    kv->pages[c][slot] = page;
}

void kv_started(struct kv *kv, uint32_t length, bool long_rope) {
    kv->length = length;
    kv->low = 0;
    kv->long_rope = length > 0 ? (int8_t)long_rope : -1;
}
