/* run.c - one byte further, from a set of places to the next. */
#include "constrain/run.h"

#include <string.h>

static bool room(struct run *r, void **array, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap)
        return true;
    uint32_t more = *cap == 0 ? 64 : *cap * 2;
    void *p = more > *cap ? mem_resize(r->hooks, *array, more, size) : NULL;
    if (p == NULL) {
        r->no_memory = true;
        return false;
    }
    *array = p;
    *cap = more;
    return true;
}

slm_err run_init(struct run *r, const struct slm_hooks *h, const struct grammar *g, slm_why *why) {
    memset(r, 0, sizeof *r);
    r->hooks = h;
    r->g = g;
    void *places = NULL, *cells = NULL, *keys = NULL;
    bool ok = room(r, &places, 0, &r->cap_places, sizeof *r->places) &&
              room(r, &cells, 0, &r->cap_cells, sizeof *r->cells) &&
              room(r, &keys, 0, &r->cap_keys, sizeof *r->keys);
    r->places = places;
    r->cells = cells;
    r->keys = keys;
    if (!ok)
        return fail_nomem(why, "a matcher", 64 * sizeof *r->places);
    memset(&r->cells[0], 0, sizeof r->cells[0]);
    memset(&r->keys[0], 0, sizeof r->keys[0]);
    r->n_cells = r->n_keys = 1;
    return SLM_OK;
}

void run_free(struct run *r) {
    mem_free(r->hooks, r->places);
    mem_free(r->hooks, r->cells);
    mem_free(r->hooks, r->keys);
    memset(r, 0, sizeof *r);
}

static uint64_t stir(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* ------------------------------------------------------------------ equality */

static bool same_keys(const struct run *r, uint32_t a, uint32_t b) {
    if (a == KEYS_OPEN || b == KEYS_OPEN)
        return a == b;
    while (a != b) {
        if (r->keys[a].mix != r->keys[b].mix || r->keys[a].hash != r->keys[b].hash)
            return false;
        a = r->keys[a].parent;
        b = r->keys[b].parent;
    }
    return true;
}

static bool same_stack(const struct run *r, uint32_t a, uint32_t b) {
    while (a != b) {
        const struct cell *x = &r->cells[a], *y = &r->cells[b];
        if (a == 0 || b == 0 || x->mix != y->mix || x->ret != y->ret ||
            !same_keys(r, x->keys, y->keys))
            return false;
        a = x->parent;
        b = y->parent;
    }
    return true;
}

static bool known(const struct run *r, uint32_t first, const struct place *p) {
    for (uint32_t i = first; i < r->n_places; i++) {
        const struct place *q = &r->places[i];
        if (q->node == p->node && q->hash == p->hash && same_keys(r, q->keys, p->keys) &&
            same_stack(r, q->stack, p->stack))
            return true;
    }
    return false;
}

/* ------------------------------------------------------------------ keys */

static bool key_used(const struct run *r, uint32_t keys, uint64_t hash) {
    for (; keys != 0; keys = r->keys[keys].parent)
        if (r->keys[keys].hash == hash)
            return true;
    return false;
}

/* The list with one more; 0 when there is no room. */
static uint32_t key_add(struct run *r, uint32_t keys, uint64_t hash) {
    void *array = r->keys;
    if (r->keys[keys].count >= KEYS_MOST) {
        r->too_much = true;
        return 0;
    }
    if (!room(r, &array, r->n_keys, &r->cap_keys, sizeof *r->keys))
        return 0;
    r->keys = array;
    r->keys[r->n_keys] =
        (struct used_key){ hash, stir(r->keys[keys].mix, hash), keys, r->keys[keys].count + 1 };
    return r->n_keys++;
}

/* ------------------------------------------------------------------ places */

/* False: it was there already, or there is no room. */
static bool insert(struct run *r, uint32_t first, const struct place *p) {
    void *array = r->places;
    if (r->n_places > first && known(r, first, p))
        return false;
    if (r->n_places - first >= SET_MOST) {
        r->too_much = true;
        return false;
    }
    if (!room(r, &array, r->n_places, &r->cap_places, sizeof *r->places))
        return false;
    r->places = array;
    r->places[r->n_places++] = *p;
    return true;
}

void run_add(struct run *r, uint32_t first, struct place p) {
    for (;;) {
        const struct node *node = &r->g->nodes[p.node];
        bool final = (node->flags & NODE_FINAL) != 0;
        if ((node->n_edges > 0 || (final && p.stack == 0 && !r->open)) && !insert(r, first, &p))
            return;
        if (!final)
            return;
        if (p.stack == 0) {
            r->popped = r->popped || r->open;
            return;
        }
        const struct cell *cell = &r->cells[p.stack];
        struct place next = { cell->ret, cell->parent, cell->keys, 0 };
        if (node->flags & NODE_KEY_END) {
            if (next.keys == KEYS_OPEN) {
                r->guarded = true;
                return;
            }
            if (key_used(r, next.keys, p.hash))
                return;
            next.keys = key_add(r, next.keys, p.hash);
            if (next.keys == 0)
                return;
        }
        p = next;
    }
}

bool run_push(struct run *r, struct place *p, uint32_t ret) {
    void *array = r->cells;
    uint32_t depth = r->cells[p->stack].depth + 1;
    if (depth > DEPTH_MOST) {
        r->too_much = true;
        return false;
    }
    if (!room(r, &array, r->n_cells, &r->cap_cells, sizeof *r->cells))
        return false;
    r->cells = array;
    uint64_t mix = stir(r->cells[p->stack].mix, ret);
    r->cells[r->n_cells] = (struct cell){ ret, p->stack, p->keys, depth, mix };
    p->stack = r->n_cells++;
    p->keys = 0;
    p->hash = 1;
    return true;
}

uint32_t run_step(struct run *r, uint32_t first, uint32_t n, uint8_t byte) {
    uint32_t begin = r->n_places;
    for (uint32_t i = first; i < first + n; i++) {
        const struct node *node = &r->g->nodes[r->places[i].node];
        const struct edge *e = r->g->edges + node->first, *end = e + node->n_edges;
        for (; e < end && e->lo <= byte; e++) {
            if (e->hi < byte)
                continue;
            struct place p = r->places[i];
            if (e->ret != NODE_NONE && !run_push(r, &p, e->ret))
                continue;
            if (e->ret == NODE_NONE)
                p.hash = p.hash != 0 ? stir(p.hash, byte) : 0;
            else if (!(r->g->nodes[e->to].flags & NODE_KEY))
                p.hash = 0;
            p.node = e->to;
            run_add(r, begin, p);
        }
    }
    return r->n_places - begin;
}

uint32_t run_text(struct run *r, struct place from, const char *s, size_t n) {
    uint32_t first = r->n_places, count;
    run_add(r, first, from);
    count = r->n_places - first;
    for (size_t i = 0; i < n && count > 0; i++) {
        uint32_t next = run_step(r, first, count, (uint8_t)s[i]);
        memmove(&r->places[first], &r->places[first + count], next * sizeof *r->places);
        r->n_places = first + next;
        count = next;
    }
    return count;
}

uint32_t run_leave(struct run *r, struct place p) {
    uint32_t first = r->n_places;
    if (p.stack != 0) {
        const struct cell *c = &r->cells[p.stack];
        run_add(r, first, (struct place){ c->ret, c->parent, c->keys, 0 });
    }
    return r->n_places - first;
}
