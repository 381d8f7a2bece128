/* matcher.c - walks one answer through a grammar. */
#include <string.h>

#include "constrain/run.h"

slm_err matcher_new(const struct slm_hooks *h, const struct grammar *g,
                    const struct constrain_vocab *v, struct matcher **out, slm_why *why) {
    struct matcher *m = mem_zalloc(h, 1, sizeof *m);
    if (m == NULL)
        return fail_nomem(why, "a matcher", sizeof *m);
    hooks_init(&m->hooks, h);
    m->g = g;
    m->v = v;
    m->words = (v->n_tokens + 31) / 32;
    m->mask = mem_alloc(h, m->words, sizeof *m->mask);
    m->building = mem_alloc(h, m->words, sizeof *m->building);
    m->levels = mem_alloc(h, (size_t)v->longest + 1, sizeof *m->levels);
    m->plain = mem_alloc(h, (size_t)v->longest + 1, sizeof *m->plain);
    m->dense = mem_alloc(h, DENSE_SLOTS, sizeof *m->dense);
    slm_err err = run_init(&m->run, &m->hooks, g, why);
    if (err == SLM_OK && (m->mask == NULL || m->building == NULL || m->levels == NULL ||
                          m->plain == NULL || m->dense == NULL))
        err = fail_nomem(why, "a matcher", m->words * 2 * sizeof *m->mask);
    if (err != SLM_OK) {
        matcher_free(m);
        return err;
    }
    for (int i = 0; i < DENSE_SLOTS; i++)
        m->dense[i].node = NODE_NONE;
    matcher_reset(m);
    *out = m;
    return SLM_OK;
}

void matcher_free(struct matcher *m) {
    if (m == NULL)
        return;
    struct slm_hooks h = m->hooks;
    run_free(&m->run);
    mem_free(&h, m->mask);
    mem_free(&h, m->building);
    mem_free(&h, m->levels);
    mem_free(&h, m->plain);
    mem_free(&h, m->dense);
    mem_free(&h, m->pops.v);
    mem_free(&h, m->guards.v);
    mem_free(&h, m);
}

void matcher_reset(struct matcher *m) {
    run_back(&m->run, (struct run_mark){ 0, 1, 1 });
    run_add(&m->run, 0, (struct place){ m->g->start, 0, 0, 0 });
    m->n_now = m->run.n_places;
    m->mask_valid = false;
}

slm_err matcher_mask(struct matcher *m, const uint32_t **mask, slm_why *why) {
    if (!m->mask_valid)
        TRY(mask_fill(m, why));
    m->mask_valid = true;
    *mask = m->mask;
    return SLM_OK;
}

/* ------------------------------------------------------------------ going on */

/* Goes on with bytes behind the places at hand; *first and the result are the set that is reached. */
static uint32_t try_bytes(struct matcher *m, const char *s, size_t n, uint32_t *first) {
    struct run *r = &m->run;
    uint32_t from = 0, count = m->n_now, base = m->n_now;
    for (size_t i = 0; i < n && count > 0; i++) {
        uint32_t next = run_step(r, from, count, (uint8_t)s[i]);
        memmove(&r->places[base], &r->places[r->n_places - next], next * sizeof *r->places);
        r->n_places = base + next;
        from = base;
        count = next;
    }
    *first = from;
    return count;
}

/* Cells and keys that nothing leads to any more are dropped, as far as they are the newest. */
static void drop_unused(struct run *r) {
    uint32_t cell = 0, keys = 0;
    for (uint32_t i = 0; i < r->n_places; i++) {
        cell = r->places[i].stack > cell ? r->places[i].stack : cell;
        keys = r->places[i].keys > keys ? r->places[i].keys : keys;
    }
    r->n_cells = cell + 1;
    if (r->n_keys == 1)
        return;
    for (uint32_t i = 1; i < r->n_cells; i++)
        keys = r->cells[i].keys > keys ? r->cells[i].keys : keys;
    r->n_keys = keys + 1;
}

bool matcher_accept_bytes(struct matcher *m, const char *s, size_t n) {
    struct run *r = &m->run;
    struct run_mark mark = run_mark(r);
    uint32_t first, count = try_bytes(m, s, n, &first);
    if (count == 0 || n == 0) {
        run_back(r, mark);
        return count > 0;
    }
    memmove(r->places, &r->places[first], count * sizeof *r->places);
    r->n_places = m->n_now = count;
    drop_unused(r);
    m->mask_valid = false;
    return true;
}

bool matcher_accept(struct matcher *m, int32_t id) {
    if (id < 0 || (uint32_t)id >= m->v->n_tokens)
        return false;
    size_t n = m->v->offset[id + 1] - m->v->offset[id];
    return n > 0 && matcher_accept_bytes(m, m->v->text + m->v->offset[id], n);
}

/* ------------------------------------------------------------------ asking */

static bool may_end(const struct run *r, uint32_t first, uint32_t n) {
    for (uint32_t i = first; i < first + n; i++)
        if (r->places[i].stack == 0 && (r->g->nodes[r->places[i].node].flags & NODE_FINAL))
            return true;
    return false;
}

bool matcher_may_end(const struct matcher *m) {
    return may_end(&m->run, 0, m->n_now);
}

bool matcher_must_end(struct matcher *m) {
    for (uint32_t i = 0; i < m->n_now; i++)
        if (m->g->nodes[m->run.places[i].node].n_edges > 0)
            return false;
    return true;
}

/* The only byte that the set can read; -1: none or several. */
static int only_byte(const struct run *r, uint32_t first, uint32_t n) {
    int byte = -1;
    for (uint32_t i = first; i < first + n; i++) {
        const struct node *node = &r->g->nodes[r->places[i].node];
        for (uint32_t k = 0; k < node->n_edges; k++) {
            const struct edge *e = &r->g->edges[node->first + k];
            if (e->lo != e->hi || (byte >= 0 && e->lo != byte))
                return -1;
            byte = e->lo;
        }
    }
    return byte;
}

size_t matcher_forced(struct matcher *m, char *bytes, size_t room) {
    struct run *r = &m->run;
    struct run_mark mark = run_mark(r);
    uint32_t from = 0, count = m->n_now, base = m->n_now;
    size_t n = 0;
    while (n < room && !may_end(r, from, count)) {
        int byte = only_byte(r, from, count);
        if (byte < 0)
            break;
        uint32_t next = run_step(r, from, count, (uint8_t)byte);
        if (next == 0)
            break; /* out of memory or budget: the step itself will say so */
        memmove(&r->places[base], &r->places[r->n_places - next], next * sizeof *r->places);
        r->n_places = base + next;
        from = base;
        count = next;
        bytes[n++] = (char)byte;
    }
    run_back(r, mark);
    return n;
}
