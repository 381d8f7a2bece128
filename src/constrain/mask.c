/* mask.c - which ids may come next, from the trie of the vocabulary and the places at hand.
 *
 * What a node's own frame reads does not depend on the stack. So for each node met, once: the ids whose
 * bytes stay in the frame (or end with it), and the entries of the trie behind which the frame can end
 * but tokens go on ("pops"). The mask of a place is then the former, and for each of the latter what is
 * below the entry, walked with the real stack. Where a decision needs more than the frame knows (whether
 * a free key was used before, or what lies beyond the bytes for which twins are the same) the walk
 * leaves a "guard": there the path is followed again from the real place.
 *
 * The results are kept in the grammar, for all its matchers; entries are never changed once they are
 * in a bucket, and never removed while the grammar lives. When there is no room left, the whole trie is
 * walked with the real stack. */
#include <string.h>

#include "base/pool.h"
#include "constrain/run.h"

enum { ENTRY_WORDS, ENTRY_IDS };
struct mask_entry {
    struct mask_entry *next;
    uint64_t vocab; /* identity */
    uint32_t node;
    uint8_t reach, kind; /* which twins the node stands for; ENTRY_ */
    uint32_t n_ids;      /* words of a bit set, or ids */
    uint32_t n_pops, n_guards;
    uint32_t data[]; /* ids, pops, guards */
};

void mask_cache_free(const struct slm_hooks *h, struct mask_cache *c) {
    for (size_t i = 0; c != NULL && i < MASK_BUCKETS; i++)
        for (struct mask_entry *e = atomic_load(&c->bucket[i]), *next; e != NULL; e = next) {
            next = e->next;
            mem_free(h, e);
        }
    mem_free(h, c);
}

/* ------------------------------------------------------------------ walking the trie */

static void set_token(const struct constrain_vocab *v, uint32_t *mask, uint32_t id) {
    uint32_t at = id & TOKEN_ID;
    mask[at / 32] |= (uint32_t)1 << (at % 32);
    while ((id & TOKEN_SAME) && (at = v->same[at]) != TOKEN_NONE)
        mask[at / 32] |= (uint32_t)1 << (at % 32);
}

static bool list_add(struct matcher *m, struct id_list *l, uint32_t x) {
    if (l->n == l->cap) {
        uint32_t more = l->cap == 0 ? 256 : l->cap * 2;
        void *p = mem_resize(&m->hooks, l->v, more, sizeof *l->v);
        if (p == NULL) {
            m->run.no_memory = true;
            return false;
        }
        l->v = p;
        l->cap = more;
    }
    l->v[l->n++] = x;
    return true;
}

/* What an edge does, in one word. */
static uint32_t dense_edge(const struct grammar *g, uint32_t edge) {
    const struct edge *e = &g->edges[edge];
    const struct node *to = &g->nodes[e->to];
    if (e->ret != NODE_NONE)
        return edge < DENSE_POP && !(to->flags & (NODE_FINAL | NODE_KEY)) ? edge | DENSE_PUSH
                                                                          : DENSE_SLOW;
    if ((to->flags & (NODE_FINAL | NODE_KEY_END)) == NODE_FINAL && to->n_edges == 0)
        return DENSE_POP;
    if (to->flags & NODE_FINAL)
        return DENSE_SLOW;
    return e->to | (to->flags & NODE_KEY ? DENSE_KEY : 0);
}

static const uint32_t *dense_of(struct matcher *m, uint32_t node) {
    struct dense *d = &m->dense[node % DENSE_SLOTS];
    if (d->node == node)
        return d->next;
    const struct grammar *g = m->g;
    const struct edge *e = g->edges + g->nodes[node].first;
    memset(d->next, 0xff, sizeof d->next);
    for (uint32_t i = 0; i < g->nodes[node].n_edges; i++, e++) {
        uint32_t to = dense_edge(g, g->nodes[node].first + i);
        for (unsigned byte = e->lo; byte <= e->hi; byte++)
            d->next[byte] = d->next[byte] == DENSE_NONE ? to : DENSE_SLOW;
    }
    d->node = node;
    return d->next;
}

/* Of one place: false when what the byte leads to is not one place that is found without looking twice.
 * *n gets the number of places that were appended, 0 or 1. */
static bool quick_step(struct matcher *m, const struct place *from, uint8_t byte, uint32_t *n) {
    struct run *r = &m->run;
    struct place p = *from;
    uint32_t to = dense_of(m, p.node)[byte];
    *n = 0;
    if (to == DENSE_NONE)
        return true;
    if ((to & (DENSE_SLOW | DENSE_KEY)) || r->n_places == r->cap_places)
        return false;
    if (to & DENSE_PUSH) {
        const struct edge *e = &m->g->edges[to & ~DENSE_FLAGS];
        if (r->n_cells == r->cap_cells || !run_push(r, &p, e->ret))
            return false;
        p.node = e->to;
        p.hash = 0;
    } else if (to & DENSE_POP) {
        const struct cell *c = &r->cells[p.stack];
        if (p.stack == 0 || (m->g->nodes[c->ret].flags & NODE_FINAL))
            return false;
        p = (struct place){ c->ret, c->parent, c->keys, 0 };
    } else
        p.node = to;
    r->places[r->n_places++] = p;
    *n = 1;
    return true;
}

struct walk {
    uint32_t *mask;
    uint32_t depth_most; /* open: leave a guard at this depth, UINT32_MAX: never */
    bool keys;           /* open, and the bottom frame is a free key: its end is always a pop */
};

/* One entry from the set of a level; returns the size of the set behind it, 0 also where all that is to
 * be known about what lies below was noted. */
static uint32_t walk_step(struct matcher *m, const struct walk *w, const struct level *l,
                          uint32_t i) {
    struct run *r = &m->run;
    const struct trie_entry *e = &m->v->trie[i];
    uint32_t n;
    run_back(r, l->mark);
    if (l->n == 1 && quick_step(m, &r->places[l->first], e->byte, &n))
        return n;
    r->popped = r->guarded = false;
    n = run_step(r, l->first, l->n, e->byte);
    if (r->guarded) { /* all that is below is found again from the real place */
        list_add(m, &m->guards, i);
        return 0;
    }
    if (r->popped) {
        if (e->token != TOKEN_NONE && !w->keys)
            set_token(m->v, w->mask, e->token);
        if (w->keys || e->next > i + 1)
            list_add(m, &m->pops, i);
    }
    return n;
}

/* Entries [i, end) are those below the one at depth `base` (0: all), where the set is levels[base].
 *
 * While one place does nothing but change its node within its frame, only nodes are noted (`plain`);
 * below an entry where more happens, sets are. */
static void walk(struct matcher *m, const struct walk *w, uint32_t base, uint32_t i, uint32_t end) {
    struct run *r = &m->run;
    const struct trie_entry *trie = m->v->trie;
    const struct level start = m->levels[base];
    /* plain up to this depth; in an open walk nobody asks for the hash of a key at the bottom */
    uint32_t plain_to = start.n == 1 ? UINT32_MAX : 0;
    struct place from = { 0 };
    uint32_t refused = DENSE_FLAGS;
    if (start.n == 1) {
        from = r->places[start.first];
        m->plain[base] = from.node;
        if (r->open && from.stack == 0)
            refused &= ~DENSE_KEY;
    }
    while (i < end) {
        const struct trie_entry *e = &trie[i];
        struct level l;
        if (e->depth <= plain_to) {
            uint32_t node = m->plain[e->depth - 1], to = dense_of(m, node)[e->byte];
            plain_to = UINT32_MAX;
            if (to == DENSE_NONE) {
                i = e->next;
                continue;
            }
            if (!(to & refused)) {
                m->plain[e->depth] = to & ~DENSE_KEY;
                if (e->depth == w->depth_most && e->next > i + 1) {
                    list_add(m, &m->guards, i);
                    i = e->next;
                    continue;
                }
                if (e->token != TOKEN_NONE)
                    set_token(m->v, w->mask, e->token);
                i++;
                continue;
            }
            r->places[start.first] = from;
            r->places[start.first].node = node;
            l = start;
        } else
            l = m->levels[e->depth - 1];
        uint32_t n = walk_step(m, w, &l, i);
        if (n == 0) {
            i = e->next;
            continue;
        }
        if (e->depth == w->depth_most && e->next > i + 1) {
            list_add(m, &m->guards, i);
            i = e->next;
            continue;
        }
        if (e->token != TOKEN_NONE)
            set_token(m->v, w->mask, e->token);
        if (plain_to == UINT32_MAX)
            plain_to = e->depth;
        m->levels[e->depth] = (struct level){ l.mark.places, n, run_mark(r) };
        i++;
    }
    if (start.n == 1)
        r->places[start.first] = from;
}

/* The set that ends the list becomes the level at `depth`. */
static void set_level(struct matcher *m, uint32_t depth, uint32_t n) {
    m->levels[depth] = (struct level){ m->run.n_places - n, n, run_mark(&m->run) };
}

/* ------------------------------------------------------------------ what a node's frame reads */

static uint32_t count_bits(const uint32_t *mask, uint32_t words) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < words; i++)
        for (uint32_t x = mask[i]; x != 0; x &= x - 1)
            n++;
    return n;
}

static struct mask_entry *entry_new(struct matcher *m, uint32_t node, int reach) {
    uint32_t ids = count_bits(m->building, m->words);
    uint8_t kind = ids < m->words ? ENTRY_IDS : ENTRY_WORDS;
    uint32_t n_ids = kind == ENTRY_IDS ? ids : m->words;
    size_t bytes =
        sizeof(struct mask_entry) + ((size_t)n_ids + m->pops.n + m->guards.n) * sizeof(uint32_t);
    struct mask_cache *c = m->g->cache;
    if (atomic_load(&c->bytes) + bytes > MASK_CACHE_BYTES)
        return NULL;
    struct mask_entry *e = mem_alloc(&m->g->hooks, 1, bytes);
    if (e == NULL)
        return NULL;
    *e = (struct mask_entry){ .vocab = m->v->identity,
                              .node = node,
                              .reach = (uint8_t)reach,
                              .kind = kind,
                              .n_ids = n_ids,
                              .n_pops = m->pops.n,
                              .n_guards = m->guards.n };
    uint32_t at = 0;
    for (uint32_t i = 0; i < m->words && kind == ENTRY_IDS; i++)
        for (uint32_t x = m->building[i], bit = 0; x != 0; x >>= 1, bit++)
            if (x & 1)
                e->data[at++] = i * 32 + bit;
    if (kind == ENTRY_WORDS)
        memcpy(e->data, m->building, m->words * sizeof *e->data);
    if (m->pops.n > 0)
        memcpy(e->data + n_ids, m->pops.v, m->pops.n * sizeof *e->data);
    if (m->guards.n > 0)
        memcpy(e->data + n_ids + m->pops.n, m->guards.v, m->guards.n * sizeof *e->data);
    atomic_fetch_add(&c->bytes, bytes);
    return e;
}

static _Atomic(struct mask_entry *) *bucket_of(const struct matcher *m, uint32_t node) {
    uint64_t h = (m->v->identity ^ node) * 0x9e3779b97f4a7c15u;
    return &m->g->cache->bucket[h >> 32 & (MASK_BUCKETS - 1)];
}

static const struct mask_entry *entry_find(const struct matcher *m, uint32_t node, int reach) {
    const struct mask_entry *e = atomic_load_explicit(bucket_of(m, node), memory_order_acquire);
    while (e != NULL && (e->node != node || e->reach != reach || e->vocab != m->v->identity))
        e = e->next;
    return e;
}

/* The entry of a node, made when it is not there; NULL when there is no room for it (or no memory). Two
 * threads may make the same one at once: both stay. */
static const struct mask_entry *entry_of(struct matcher *m, uint32_t node, int reach,
                                         uint32_t depth_most) {
    const struct mask_entry *found = entry_find(m, node, reach);
    if (found != NULL || atomic_load(&m->g->cache->bytes) >= MASK_CACHE_BYTES)
        return found;
    struct run *r = &m->run;
    struct run_mark mark = run_mark(r);
    struct walk w = { .mask = m->building,
                      .depth_most = depth_most,
                      .keys = (m->g->nodes[node].flags & NODE_KEY) != 0 };
    memset(m->building, 0, m->words * sizeof *m->building);
    m->pops.n = m->guards.n = 0;
    r->open = true;
    run_add(r, mark.places, (struct place){ node, 0, KEYS_OPEN, w.keys });
    set_level(m, 0, r->n_places - mark.places);
    walk(m, &w, 0, 0, m->v->n_entries);
    r->open = false;
    run_back(r, mark);
    struct mask_entry *e = r->no_memory || r->too_much ? NULL : entry_new(m, node, reach);
    if (e == NULL)
        return NULL;
    _Atomic(struct mask_entry *) *bucket = bucket_of(m, node);
    e->next = atomic_load_explicit(bucket, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(bucket, &e->next, e, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return e;
}

/* That of the node that stands for this one: the further its twins reach, the less is left to guards. The
 * names of entries tell how far: the two kinds of twins are different nodes to the cache. */
static const struct mask_entry *entry_for(struct matcher *m, uint32_t node) {
    static const uint32_t depth[TWINS] = { TWIN_BYTES, TWIN_BYTES_FAR };
    for (int i = TWINS; i-- > 0;) {
        uint32_t twin = m->g->twin[i] != NULL ? m->g->twin[i][node] : NODE_NONE;
        if (twin != NODE_NONE)
            return entry_of(m, twin, i, depth[i]);
    }
    return entry_of(m, node, TWINS, UINT32_MAX);
}

/* ------------------------------------------------------------------ what a place reads */

/* From the real place along the path to a trie entry, then everything at and below it. */
static void follow(struct matcher *m, const struct walk *w, struct place p, uint32_t entry) {
    const struct trie_entry *e = &m->v->trie[entry];
    struct run_mark mark = run_mark(&m->run);
    uint32_t n = run_text(&m->run, p, vocab_path(m->v, entry), e->depth);
    if (n > 0) {
        if (e->token != TOKEN_NONE)
            set_token(m->v, w->mask, e->token);
        set_level(m, e->depth, n);
        walk(m, w, e->depth, entry + 1, e->next);
    }
    run_back(&m->run, mark);
}

static void apply_pops(struct matcher *m, const struct walk *w, struct place p,
                       const uint32_t *pops, uint32_t n_pops) {
    struct run_mark mark = run_mark(&m->run);
    if (m->g->nodes[p.node].flags & NODE_KEY) {
        bool first = p.stack != 0 && m->run.cells[p.stack].keys == 0;
        for (uint32_t i = 0; i < n_pops; i++) {
            const struct trie_entry *e = &m->v->trie[pops[i]];
            if (first && e->next == pops[i] + 1)
                set_token(m->v, w->mask, e->token);
            else
                follow(m, w, p, pops[i]);
        }
        return;
    }
    uint32_t n = n_pops > 0 ? run_leave(&m->run, p) : 0;
    struct level left = { mark.places, n, run_mark(&m->run) };
    for (uint32_t i = 0; i < n_pops && n > 0; i++) {
        const struct trie_entry *e = &m->v->trie[pops[i]];
        m->levels[e->depth] = left;
        walk(m, w, e->depth, pops[i] + 1, e->next);
    }
    run_back(&m->run, mark);
}

static void apply_entry(struct matcher *m, const struct walk *w, struct place p,
                        const struct mask_entry *e) {
    if (e->kind == ENTRY_WORDS)
        for (uint32_t i = 0; i < m->words; i++)
            w->mask[i] |= e->data[i];
    else
        for (uint32_t i = 0; i < e->n_ids; i++)
            w->mask[e->data[i] / 32] |= (uint32_t)1 << (e->data[i] % 32);
    apply_pops(m, w, p, e->data + e->n_ids, e->n_pops);
    for (uint32_t i = 0; i < e->n_guards; i++)
        follow(m, w, p, e->data[e->n_ids + e->n_pops + i]);
}

static void walk_all(struct matcher *m, const struct walk *w, struct place p) {
    struct run_mark mark = run_mark(&m->run);
    run_add(&m->run, mark.places, p);
    set_level(m, 0, m->run.n_places - mark.places);
    walk(m, w, 0, 0, m->v->n_entries);
    run_back(&m->run, mark);
}

slm_err mask_fill(struct matcher *m, slm_why *why) {
    struct walk w = { .mask = m->mask, .depth_most = UINT32_MAX };
    memset(m->mask, 0, m->words * sizeof *m->mask);
    m->run.no_memory = m->run.too_much = false;
    for (uint32_t i = 0; i < m->n_now; i++) {
        struct place p = m->run.places[i];
        if (m->g->nodes[p.node].n_edges == 0)
            continue;
        const struct mask_entry *e = entry_for(m, p.node);
        if (e != NULL)
            apply_entry(m, &w, p, e);
        else
            walk_all(m, &w, p);
    }
    if (m->run.no_memory)
        return fail_nomem(why, "a constraint's step", m->words * sizeof *m->mask);
    bool empty = true;
    for (uint32_t i = 0; i < m->words && empty; i++)
        empty = m->mask[i] == 0;
    if (!empty || matcher_may_end(m))
        return SLM_OK;
    if (m->run.too_much)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                    "the answer is nested deeper than %d, or has more than %d keys in an object",
                    DEPTH_MOST, KEYS_MOST);
    return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                "no token of this vocabulary can go on in the constraint");
}
