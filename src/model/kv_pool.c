/* kv_pool.c - the pages that sequences and caches keep their keys and values in.
 *
 * All memory is one block, reserved when the pool is made; a page that was never taken is never
 * touched (but for what the system's large pages round up to), and one that was given back is taken
 * again before a fresh one. Full layers and sliding layers have pages of their own, because they are
 * let go at different times. A page has as many holders as sequences and caches name it; only the one
 * holder of a page may write it. A pool is used by one thread at a time; the threads of a forward pass
 * only follow tables that stand still. */
#include "model/kv.h"

#include "base/pages.h"

static enum kv_class layer_class(const struct model *m, uint32_t layer) {
    return m->window > 0 && pattern_at(m->pattern, layer) == 's' ? KV_SLIDING : KV_FULL;
}

static uint32_t class_layers(const struct model *m, enum kv_class c) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->layers; i++)
        n += layer_class(m, i) == c;
    return n;
}

/* ------------------------------------------------------------------ sizes */

/* Pages that n positions in a row touch, wherever they begin. */
static uint64_t pages_of_run(uint64_t n) {
    return (n + KV_PAGE - 2) / KV_PAGE + 1;
}

/* While a chunk is evaluated its first row still needs the window - 1 positions before it, and its
 * last row is already stored. */
struct kv_pages kv_pages_for(const struct model *m, uint32_t context, uint32_t chunk,
                             uint32_t sequences) {
    struct kv_pages p = { { 0 } };
    uint64_t whole = ((uint64_t)context + KV_PAGE - 1) / KV_PAGE;
    uint64_t window = pages_of_run((uint64_t)m->window - (m->window > 0) + chunk);
    for (unsigned c = 0; c < KV_CLASSES; c++) {
        uint64_t n = c == KV_SLIDING && window < whole ? window : whole;
        n = class_layers(m, (enum kv_class)c) > 0 ? n * sequences : 0;
        p.n[c] = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    }
    return p;
}

static bool page_bytes(const struct model *m, enum kv_type type, enum kv_class c, size_t *out) {
    size_t n;
    if (!mul_ok(kv_row_bytes(type, m->head_dim), (size_t)2 * KV_PAGE, &n) ||
        !mul_ok(n, m->kv_heads, &n) || !mul_ok(n, class_layers(m, c), &n))
        return false;
    *out = n;
    return true;
}

uint64_t kv_page_bytes(const struct model *m, enum kv_type type, enum kv_class c) {
    size_t n;
    return page_bytes(m, type, c, &n) ? n : UINT64_MAX;
}

/* Bytes of all pages, and of the tables beside them. */
static bool pool_sizes(const struct model *m, enum kv_type type, struct kv_pages pages,
                       size_t *block, size_t *tables) {
    *block = *tables = 0;
    for (unsigned c = 0; c < KV_CLASSES; c++) {
        size_t n, t;
        if (!page_bytes(m, type, (enum kv_class)c, &n) || !mul_ok(n, pages.n[c], &n) ||
            !add_ok(*block, n, block) || !mul_ok(pages.n[c], 2 * sizeof(uint32_t), &t) ||
            !add_ok(*tables, t, tables))
            return false;
    }
    return true;
}

uint64_t kv_pool_bytes(const struct model *m, enum kv_type type, struct kv_pages pages) {
    size_t block, tables;
    uint64_t n;
    if (!pool_sizes(m, type, pages, &block, &tables) || !add_u64_ok(block, tables, &n) ||
        !add_u64_ok(n, sizeof(struct kv_pool) + (uint64_t)m->layers * sizeof(struct kv_layer), &n))
        return UINT64_MAX;
    return n;
}

/* ------------------------------------------------------------------ making one */

static void lay_out_layers(struct kv_pool *p) {
    size_t layer_bytes = p->head_bytes * p->m->kv_heads;
    for (uint32_t i = 0; i < p->m->layers; i++) {
        enum kv_class c = layer_class(p->m, i);
        struct kv_store *s = &p->store[c];
        p->layers[i] = (struct kv_layer){ .c = c,
                                          .window = c == KV_SLIDING ? p->m->window : 0,
                                          .offset = s->layers++ * layer_bytes };
    }
    uint8_t *at = p->block;
    uint32_t *table = p->tables;
    for (unsigned c = 0; c < KV_CLASSES; c++) {
        struct kv_store *s = &p->store[c];
        s->page_bytes = s->layers * layer_bytes;
        s->base = at;
        s->back = table;
        s->refs = table + s->n_pages;
        at += s->page_bytes * s->n_pages;
        table += (size_t)2 * s->n_pages;
    }
}

slm_err kv_pool_new(const struct slm_hooks *h, const struct model *m, enum kv_type type,
                    struct kv_pages pages, struct kv_pool **out, slm_why *why) {
    size_t block, tables;
    *out = NULL;
    if ((unsigned)type >= KV_COUNT)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "keys and values of type %d", (int)type);
    if (!pool_sizes(m, type, pages, &block, &tables))
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET,
                    "%u and %u pages of keys and values are too many bytes", pages.n[KV_FULL],
                    pages.n[KV_SLIDING]);
    struct kv_pool *p = mem_zalloc(h, 1, sizeof *p);
    if (p == NULL)
        return fail_nomem(why, "keys and values", sizeof *p);
    hooks_init(&p->hooks, h);
    p->m = m;
    p->type = type;
    p->row_bytes = kv_row_bytes(type, m->head_dim);
    p->head_bytes = 2 * KV_PAGE * p->row_bytes;
    p->layers = mem_alloc(h, m->layers, sizeof *p->layers);
    p->tables = p->layers != NULL ? mem_alloc(h, tables, 1) : NULL;
    p->block = p->tables != NULL ? mem_alloc_aligned(h, block, 1) : NULL;
    if (p->block == NULL) {
        kv_pool_free(p);
        return fail_nomem(why, "keys and values", block);
    }
    (void)pages_size(p->block, block,
                     true); /* attention walks all of it; fresh pages are neighbours */
    for (unsigned c = 0; c < KV_CLASSES; c++)
        p->store[c].n_pages = pages.n[c];
    lay_out_layers(p);
    *out = p;
    return SLM_OK;
}

void kv_pool_free(struct kv_pool *p) {
    if (p == NULL)
        return;
    struct slm_hooks h = p->hooks;
    mem_free_aligned(&h, p->block);
    mem_free(&h, p->tables);
    mem_free(&h, p->layers);
    mem_free(&h, p);
}

void kv_pool_on_full(struct kv_pool *p, kv_reclaim fn, void *user) {
    p->reclaim = fn;
    p->user = user;
}

/* ------------------------------------------------------------------ pages */

uint32_t kv_pages_free(const struct kv_pool *p, enum kv_class c) {
    return p->store[c].n_pages - p->store[c].n_fresh + p->store[c].n_back;
}

uint32_t kv_page_take(struct kv_pool *p, enum kv_class c) {
    struct kv_store *s = &p->store[c];
    while (kv_pages_free(p, c) == 0)
        if (p->reclaim == NULL || !p->reclaim(p->user, c))
            return KV_NO_PAGE;
    uint32_t page = s->n_back > 0 ? s->back[--s->n_back] : s->n_fresh++;
    s->refs[page] = 1;
    return page;
}

void kv_page_hold(struct kv_pool *p, enum kv_class c, uint32_t page) {
    p->store[c].refs[page]++;
}

void kv_page_drop(struct kv_pool *p, enum kv_class c, uint32_t page) {
    struct kv_store *s = &p->store[c];
    if (--s->refs[page] == 0)
        s->back[s->n_back++] = page;
}

uint32_t kv_slots_gone(const struct model *m, uint32_t length) {
    return length + 1 > m->window ? (length + 1 - m->window) / KV_PAGE : 0;
}
