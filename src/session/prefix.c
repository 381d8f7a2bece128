/* prefix.c - the tree of kept beginnings in memory.
 *
 * Keeping: the sequence's ids are walked down page by page; where the tree has no node one is made,
 * and where the node lacks a page the sequence's is held. Fetching: the walk with the most ids in
 * common, down to the last place from which a sequence can go on: full layers need every page before
 * it, sliding layers those of the window before it. What is taken is shared, the last page too: it is
 * kv_reserve's business to copy what somebody writes into.
 *
 * A walk never looks back up, so its cost is the ids of the beginning and the siblings at each branch.
 * Giving up pages looks at every node: some microseconds, once per 64 positions of a full pool. */
#include "session/prefix_file.h"

#include <string.h>

#define DISK_BYTES ((uint64_t)4 << 30)

const char *prefix_miss_text(enum prefix_miss m) {
    static const char *const texts[] = {
        [PREFIX_NO_MISS] = "all of it was kept",
        [PREFIX_DIFFERENT] = "nothing that was kept goes on like this",
        [PREFIX_WINDOW_GONE] = "the sliding window before this place is no longer kept",
        [PREFIX_EVICTED] = "what was kept had to make room",
        [PREFIX_ROPE] = "it was kept with the rope factors of another length",
    };
    return (unsigned)m < ARRAY_LEN(texts) ? texts[m] : "";
}

/* ------------------------------------------------------------------ making one */

/* A node for each page that can be held, and as many that remember what was given up. */
static uint32_t nodes_for(struct kv_pages pages) {
    uint32_t most = 0;
    for (unsigned k = 0; k < KV_CLASSES; k++)
        most = pages.n[k] > most ? pages.n[k] : most;
    return (most < UINT32_MAX / 4 ? most : UINT32_MAX / 4) * 2 + 16;
}

uint64_t prefix_bytes(struct kv_pages pages) {
    return sizeof(struct prefix_cache) +
           (uint64_t)nodes_for(pages) * (sizeof(struct node) + KV_PAGE * sizeof(int32_t));
}

static bool reclaim(void *user, enum kv_class k);

static void init_roots(struct prefix_cache *c) {
    for (c->n_fresh = 0; c->n_fresh < 2; c->n_fresh++)
        c->nodes[c->n_fresh] = (struct node){ .parent = NO_NODE,
                                              .child = NO_NODE,
                                              .next = NO_NODE,
                                              .before = NO_NODE,
                                              .slot = UINT32_MAX, /* one before 0 */
                                              .n_ids = KV_PAGE,
                                              .page = { KV_NO_PAGE, KV_NO_PAGE } };
    c->free = NO_NODE;
}

slm_err prefix_new(const struct slm_hooks *h, struct kv_pool *pool, const struct prefix_options *o,
                   struct prefix_cache **out, slm_why *why) {
    struct kv_pages pages;
    *out = NULL;
    if (o->isa != NULL && strlen(o->isa) >= sizeof((struct prefix_cache *)0)->isa)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "'%s' is no name of an instruction set", o->isa);
    if (o->folder != NULL)
        TRY(folder_make(h, o->folder, why));
    for (unsigned k = 0; k < KV_CLASSES; k++)
        pages.n[k] = pool->store[k].n_pages;
    struct prefix_cache *c = mem_zalloc(h, 1, sizeof *c);
    if (c == NULL)
        return fail_nomem(why, "a prefix cache", sizeof *c);
    hooks_init(&c->hooks, h);
    c->pool = pool;
    c->o = *o;
    c->o.disk_bytes = o->disk_bytes > 0 ? o->disk_bytes : DISK_BYTES;
    if (o->isa != NULL)
        memcpy(c->isa, o->isa, strlen(o->isa));
    for (unsigned k = 0; k < KV_CLASSES; k++)
        c->has[k] = pool->store[k].layers > 0;
    c->window = c->has[KV_SLIDING] ? pool->m->window : 0;
    c->n_nodes = nodes_for(pages);
    c->nodes = mem_alloc(h, c->n_nodes, sizeof *c->nodes);
    c->ids = c->nodes != NULL ? mem_alloc(h, (size_t)c->n_nodes * KV_PAGE, sizeof *c->ids) : NULL;
    if (c->ids == NULL) {
        mem_free(h, c->nodes);
        mem_free(h, c);
        return fail_nomem(why, "a prefix cache", (size_t)prefix_bytes(pages));
    }
    init_roots(c);
    kv_pool_on_full(pool, reclaim, c);
    *out = c;
    return SLM_OK;
}

/* ------------------------------------------------------------------ giving up */

static void give_up(struct prefix_cache *c, uint32_t node, enum kv_class k) {
    struct node *x = &c->nodes[node];
    if (x->page[k] != KV_NO_PAGE)
        kv_page_drop(c->pool, k, x->page[k]);
    x->page[k] = KV_NO_PAGE;
    x->rows[k] = 0;
}

/* Everything that a node and those below it hold: without its full page nobody gets to them. */
static void give_up_branch(struct prefix_cache *c, uint32_t top) {
    uint32_t at = top;
    for (;;) {
        for (unsigned k = 0; k < KV_CLASSES; k++)
            give_up(c, at, (enum kv_class)k);
        if (c->nodes[at].child != NO_NODE) {
            at = c->nodes[at].child;
            continue;
        }
        while (at != top && c->nodes[at].next == NO_NODE)
            at = c->nodes[at].parent;
        if (at == top)
            return;
        at = c->nodes[at].next;
    }
}

void prefix_free(struct prefix_cache *c) {
    if (c == NULL)
        return;
    struct slm_hooks h = c->hooks;
    for (uint32_t i = 0; i < c->n_fresh; i++)
        for (unsigned k = 0; k < KV_CLASSES; k++)
            give_up(c, i, (enum kv_class)k);
    kv_pool_on_full(c->pool, NULL, NULL);
    mem_free(&h, c->ids);
    mem_free(&h, c->nodes);
    mem_free(&h, c);
}

/* Whether page k of node a goes before that of b: first those that nobody else holds, for they make
 * room; of the others the partial ones, for their sequence can then go on writing them; then the
 * least recently used. At equal times full pages go from the end of a branch, so that what is left
 * can be reached; sliding pages from the beginning, where the window was first. */
static bool goes_before(const struct prefix_cache *c, enum kv_class k, const struct node *a,
                        const struct node *b) {
    bool sole_a = kv_page_refs(c->pool, k, a->page[k]) == 1;
    bool sole_b = kv_page_refs(c->pool, k, b->page[k]) == 1;
    if (sole_a != sole_b)
        return sole_a;
    if (!sole_a && (a->rows[k] < KV_PAGE) != (b->rows[k] < KV_PAGE))
        return a->rows[k] < KV_PAGE;
    if (a->used[k] != b->used[k])
        return a->used[k] < b->used[k];
    return k == KV_FULL ? a->slot > b->slot : a->slot < b->slot;
}

/* The pool has no page left: gives up one share. Whoever asks counts again and asks again. */
static bool reclaim(void *user, enum kv_class k) {
    struct prefix_cache *c = user;
    const struct node *best = NULL;
    for (uint32_t i = 0; i < c->n_fresh; i++) {
        const struct node *x = &c->nodes[i];
        if (x->page[k] != KV_NO_PAGE && (c->guarded == 0 || x->used[k] != c->guarded) &&
            (best == NULL || goes_before(c, k, x, best)))
            best = x;
    }
    if (best == NULL)
        return false;
    if (k == KV_FULL)
        give_up_branch(c, (uint32_t)(best - c->nodes));
    else
        give_up(c, (uint32_t)(best - c->nodes), k);
    return true;
}

/* ------------------------------------------------------------------ nodes */

static void unlink_node(struct prefix_cache *c, uint32_t node) {
    struct node *x = &c->nodes[node];
    if (x->before != NO_NODE)
        c->nodes[x->before].next = x->next;
    else
        c->nodes[x->parent].child = x->next;
    if (x->next != NO_NODE)
        c->nodes[x->next].before = x->before;
}

static bool is_empty(const struct node *x) {
    return x->page[KV_FULL] == KV_NO_PAGE && x->page[KV_SLIDING] == KV_NO_PAGE;
}

static uint64_t last_use(const struct node *x) {
    return x->used[KV_FULL] > x->used[KV_SLIDING] ? x->used[KV_FULL] : x->used[KV_SLIDING];
}

/* A node to use anew: the least recently used end of a branch, of those without pages first. */
static uint32_t spare_node(struct prefix_cache *c) {
    uint32_t best = NO_NODE;
    if (c->free != NO_NODE) {
        best = c->free;
        c->free = c->nodes[best].next;
        return best;
    }
    if (c->n_fresh < c->n_nodes)
        return c->n_fresh++;
    for (uint32_t i = 2; i < c->n_fresh; i++) {
        const struct node *x = &c->nodes[i], *b = &c->nodes[best == NO_NODE ? i : best];
        if (x->child != NO_NODE || last_use(x) == c->clock)
            continue;
        bool older = last_use(x) < last_use(b);
        if (best == NO_NODE || (is_empty(x) != is_empty(b) ? is_empty(x) : older))
            best = i;
    }
    if (best != NO_NODE) {
        for (unsigned k = 0; k < KV_CLASSES; k++)
            give_up(c, best, (enum kv_class)k);
        unlink_node(c, best);
    }
    return best;
}

uint32_t ids_in_common(const int32_t *a, const int32_t *b, uint32_t n) {
    uint32_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

uint32_t prefix_best_child(const struct prefix_cache *c, uint32_t parent, const int32_t *ids,
                           uint32_t n, uint32_t *same, uint32_t *longest) {
    uint32_t best = NO_NODE;
    bool best_held = false;
    *same = *longest = 0;
    for (uint32_t i = c->nodes[parent].child; i != NO_NODE; i = c->nodes[i].next) {
        const struct node *x = &c->nodes[i];
        if (x->salt != c->salt)
            continue;
        uint32_t common = ids_in_common(node_ids(c, i), ids, x->n_ids < n ? x->n_ids : n);
        bool held = !c->has[KV_FULL] || x->rows[KV_FULL] > 0;
        *longest = common > *longest ? common : *longest;
        if (common > 0 && (best == NO_NODE || (held != best_held ? held : common > *same))) {
            best = i;
            best_held = held;
            *same = common;
        }
    }
    return best;
}

uint32_t prefix_step(struct prefix_cache *c, uint32_t parent, const int32_t *ids, uint32_t n) {
    uint32_t at = c->nodes[parent].child;
    for (; at != NO_NODE; at = c->nodes[at].next) {
        uint32_t shorter = c->nodes[at].n_ids < n ? c->nodes[at].n_ids : n;
        if (c->nodes[at].salt == c->salt &&
            ids_in_common(node_ids(c, at), ids, shorter) == shorter)
            break;
    }
    if (at == NO_NODE) {
        at = spare_node(c);
        if (at == NO_NODE)
            return NO_NODE;
        struct node *p = &c->nodes[parent];
        c->nodes[at] = (struct node){ .parent = parent,
                                      .child = NO_NODE,
                                      .next = p->child,
                                      .before = NO_NODE,
                                      .slot = p->slot + 1,
                                      .salt = c->salt,
                                      .page = { KV_NO_PAGE, KV_NO_PAGE } };
        if (p->child != NO_NODE)
            c->nodes[p->child].before = at;
        p->child = at;
    }
    if (c->nodes[at].n_ids < n) {
        memcpy(node_ids(c, at), ids, n * sizeof *ids);
        c->nodes[at].n_ids = n;
    }
    c->nodes[at].used[KV_FULL] = c->clock;
    return at;
}

void prefix_give(struct prefix_cache *c, uint32_t node, enum kv_class k, uint32_t page,
                 uint32_t rows) {
    struct node *x = &c->nodes[node];
    if (x->rows[k] >= rows)
        return;
    kv_page_hold(c->pool, k, page);
    give_up(c, node, k);
    x->page[k] = page;
    x->rows[k] = rows;
    x->used[k] = c->clock;
}

void prefix_salt(struct prefix_cache *c, uint64_t salt) {
    c->salt = salt;
}

/* ------------------------------------------------------------------ keeping */

uint32_t prefix_first_needed(const struct prefix_cache *c, uint32_t n) {
    uint32_t first = n + 1 > c->window ? n + 1 - c->window : 0;
    return c->window == 0 || first >= n ? n / KV_PAGE + (n % KV_PAGE > 0) : first / KV_PAGE;
}

static void keep(struct prefix_cache *c, const int32_t *ids, uint32_t n, const struct kv *kv) {
    uint32_t at = kv->long_rope == 1, needed = prefix_first_needed(c, n);
    c->clock++;
    for (uint32_t slot = 0; slot * KV_PAGE < n; slot++) {
        uint32_t left = n - slot * KV_PAGE, rows = left < KV_PAGE ? left : KV_PAGE;
        at = prefix_step(c, at, ids + slot * KV_PAGE, rows);
        if (at == NO_NODE)
            return;
        for (unsigned k = 0; k < KV_CLASSES; k++)
            if (kv->pages[k][slot] != KV_NO_PAGE)
                prefix_give(c, at, (enum kv_class)k, kv->pages[k][slot], rows);
        if (slot >= needed)
            c->nodes[at].used[KV_SLIDING] = c->clock;
    }
}

void prefix_keep(struct prefix_cache *c, const int32_t *ids, const struct kv *kv) {
    keep(c, ids, kv->length, kv);
}

void prefix_keep_full_pages(struct prefix_cache *c, const int32_t *ids, const struct kv *kv) {
    keep(c, ids, kv->length / KV_PAGE * KV_PAGE, kv);
}

/* ------------------------------------------------------------------ fetching */

/* The walk down: where it ends, and the last place from which a sequence can go on. */
struct walk {
    uint32_t common;  /* ids in common, whether held or not */
    uint32_t covered; /* of these, with the pages of full layers */
    uint32_t usable;
    uint32_t node; /* of the page before `usable` */
};

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* The tree's rows at a node and, where they are more, those of `pieces` (which may be NULL). A walk
 * goes on through pieces where the tree ends. */
static struct walk walk_down(const struct prefix_cache *c, const int32_t *ids, uint32_t n,
                             bool long_rope, const struct prefix_piece *pieces) {
    struct walk w = { .node = NO_NODE };
    uint32_t at = long_rope, in_a_row = 0; /* whole sliding pages right before this slot */
    for (uint32_t slot = 0; slot * KV_PAGE < n; slot++) {
        uint32_t most = least(n - slot * KV_PAGE, KV_PAGE), same = 0, longest = 0;
        uint32_t rows[KV_CLASSES] = { 0 };
        if (at != NO_NODE)
            at = prefix_best_child(c, at, ids + slot * KV_PAGE, most, &same, &longest);
        for (unsigned k = 0; k < KV_CLASSES; k++) {
            uint32_t tree = at != NO_NODE ? least(c->nodes[at].rows[k], same) : 0;
            uint32_t disk = pieces != NULL ? pieces[slot * KV_CLASSES + k].good : 0;
            rows[k] = tree > disk ? tree : disk;
        }
        if (longest > 0)
            w.common = slot * KV_PAGE + longest;
        /* without full layers only the last window matters */
        uint32_t covered = c->has[KV_FULL] ? rows[KV_FULL] : same;
        if (!c->has[KV_FULL] && rows[KV_SLIDING] > covered)
            covered = rows[KV_SLIDING];
        if (covered == 0)
            break;
        w.covered = slot * KV_PAGE + covered;
        uint32_t here = c->window > 1 ? least(covered, rows[KV_SLIDING]) : covered;
        uint32_t place = slot * KV_PAGE + here, first = prefix_first_needed(c, place);
        if (here > 0 && (first >= slot || slot - first <= in_a_row)) {
            w.usable = place;
            w.node = at;
        }
        in_a_row = rows[KV_SLIDING] == KV_PAGE ? in_a_row + 1 : 0;
        if (covered < KV_PAGE)
            break;
        if (same < KV_PAGE)
            at = NO_NODE;
    }
    return w;
}

uint32_t prefix_usable_with(const struct prefix_cache *c, const int32_t *ids, uint32_t n,
                            bool long_rope, const struct prefix_piece *pieces) {
    return walk_down(c, ids, n, long_rope, pieces).usable;
}

static enum prefix_miss why_not(const struct prefix_cache *c, const int32_t *ids, uint32_t n,
                                bool long_rope, const struct walk *w) {
    if (w->usable == n)
        return PREFIX_NO_MISS;
    if (w->covered > w->usable)
        return PREFIX_WINDOW_GONE;
    if (w->common > w->usable)
        return PREFIX_EVICTED;
    return walk_down(c, ids, n, !long_rope, NULL).common > w->common ? PREFIX_ROPE
                                                                     : PREFIX_DIFFERENT;
}

static void take(struct prefix_cache *c, const struct walk *w, bool long_rope, struct kv *kv) {
    uint32_t needed = prefix_first_needed(c, w->usable);
    for (uint32_t at = w->node; at > 1; at = c->nodes[at].parent) {
        struct node *x = &c->nodes[at];
        x->used[KV_FULL] = c->clock;
        if (c->has[KV_FULL])
            kv_share(kv, KV_FULL, x->slot, x->page[KV_FULL]);
        if (x->slot < needed || !c->has[KV_SLIDING])
            continue;
        x->used[KV_SLIDING] = c->clock;
        kv_share(kv, KV_SLIDING, x->slot, x->page[KV_SLIDING]);
    }
    kv_started(kv, w->usable, long_rope);
}

uint32_t prefix_fetch(struct prefix_cache *c, const int32_t *ids, uint32_t n, bool long_rope,
                      struct kv *kv, struct prefix_note *note) {
    if (n > kv->context)
        n = kv->context;
    c->clock++;
    struct walk w = walk_down(c, ids, n, long_rope, NULL);
    uint32_t in_memory = w.usable;
    if (c->o.folder != NULL && w.usable < n && prefix_load(c, ids, n, long_rope, w.usable))
        w = walk_down(c, ids, n, long_rope, NULL);
    if (w.usable > 0)
        take(c, &w, long_rope, kv);
    if (note != NULL)
        *note = (struct prefix_note){ .common = w.common,
                                      .reused = w.usable,
                                      .from_disk = w.usable - in_memory,
                                      .miss = why_not(c, ids, n, long_rope, &w) };
    return w.usable;
}
