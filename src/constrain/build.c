/* build.c - makes grammars: nodes and edges under budgets, and the steps that end building.
 *
 * build_finish works in this order, none of it recursive:
 *   1. open:    aliases and calls become edges (copies of first edges);
 *   2. judge:   a node is productive when its frame can end from there; edges that lead elsewhere go.
 *               What is left has no dead ends: every prefix that is read can be completed;
 *   3. pack:    nodes reachable from the start, renumbered in the order they are met;
 *   4. twins:   nodes of long repetitions that read the same as far as tokens reach. */
#include "constrain/grammar.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/pool.h"

#define MAX_NODES_DEFAULT 200000u
#define MAX_NODES_MOST ((uint32_t)1 << 26) /* ids leave bits for the matcher */
#define MAX_BYTES_DEFAULT ((size_t)64 << 20)
#define MAX_NS_DEFAULT 2000000000u
#define CLOCK_EVERY 1024 /* steps between looks at the clock */

/* ------------------------------------------------------------------ budgets */

slm_err build_init(struct build *b, const struct slm_hooks *h, const struct grammar_limits *limits,
                   slm_why *why) {
    static const struct grammar_limits none = { 0 };
    const struct grammar_limits *l = limits != NULL ? limits : &none;
    memset(b, 0, sizeof *b);
    b->hooks = h;
    b->why = why;
    b->max_nodes = l->max_nodes != 0 ? l->max_nodes : MAX_NODES_DEFAULT;
    if (b->max_nodes > MAX_NODES_MOST)
        b->max_nodes = MAX_NODES_MOST;
    b->max_bytes = l->max_bytes != 0 ? l->max_bytes : MAX_BYTES_DEFAULT;
    uint64_t now = clock_ns();
    if (!add_u64_ok(now, l->max_ns != 0 ? l->max_ns : MAX_NS_DEFAULT, &b->deadline))
        b->deadline = UINT64_MAX;
    b->spaced = l->any_whitespace;
    b->any = b->any_object = b->string = b->string_body = b->number = b->integer = NODE_NONE;
    b->space_rule = b->into[0] = b->escapes = NODE_NONE;
    arena_init(&b->arena, h, b->max_bytes);
    build_node(b); /* node 0 stands in for nodes that could not be made */
    return b->err;
}

void build_free(struct build *b) {
    mem_free(b->hooks, b->nodes);
    mem_free(b->hooks, b->edges);
    arena_free(&b->arena);
    memset(b, 0, sizeof *b);
}

slm_err build_fail(struct build *b, slm_err code, uint64_t offset, const char *format, ...) {
    if (b->err != SLM_OK)
        return b->err;
    char text[sizeof b->why->message];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    b->err = code;
    return fail(b->why, code, offset, "%s", text);
}

bool build_goes_on(struct build *b) {
    if (b->err != SLM_OK)
        return false;
    if (++b->ticks % CLOCK_EVERY == 0 && clock_ns() > b->deadline)
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "compiling the constraint took too long");
    return b->err == SLM_OK;
}

static void no_memory(struct build *b, size_t n) {
    if (n > b->max_bytes || b->grown + b->arena.used_bytes > b->max_bytes - n)
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET,
                   "the constraint needs more than its budget of %zu bytes", b->max_bytes);
    else if (b->err == SLM_OK)
        b->err = fail_nomem(b->why, "a constraint", n);
}

void *build_alloc(struct build *b, size_t n, size_t size) {
    size_t bytes;
    if (b->err != SLM_OK)
        return NULL;
    if (!mul_ok(n, size, &bytes))
        bytes = SIZE_MAX;
    void *p = NULL;
    if (bytes <= b->max_bytes && b->grown + b->arena.used_bytes <= b->max_bytes - bytes)
        p = arena_zalloc(&b->arena, n, size);
    if (p == NULL)
        no_memory(b, bytes);
    return p;
}

bool build_grow(struct build *b, void **array, uint32_t n, uint32_t *cap, size_t size) {
    if (b->err != SLM_OK)
        return false;
    if (n < *cap)
        return true;
    uint32_t more = *cap < 8 ? 16 : *cap > UINT32_MAX / 2 ? UINT32_MAX : *cap * 2;
    void *p = build_alloc(b, more, size);
    if (p == NULL)
        return false;
    if (n > 0)
        memcpy(p, *array, (size_t)n * size);
    *array = p;
    *cap = more;
    return true;
}

/* The two large arrays are not in the arena: it would keep every size they once had. */
static bool grow_big(struct build *b, void **array, uint32_t n, uint32_t *cap, size_t size) {
    if (n < *cap)
        return true;
    uint32_t more = *cap == 0 ? 256 : *cap > UINT32_MAX / 2 ? UINT32_MAX : *cap + *cap / 2;
    size_t bytes = (size_t)more * size, before = (size_t)*cap * size;
    void *p = NULL;
    if (bytes - before <= b->max_bytes &&
        b->grown + b->arena.used_bytes <= b->max_bytes - (bytes - before))
        p = mem_resize(b->hooks, *array, more, size);
    if (p == NULL) {
        no_memory(b, bytes - before);
        return false;
    }
    b->grown += bytes - before;
    *array = p;
    *cap = more;
    return true;
}

/* ------------------------------------------------------------------ nodes and edges */

uint32_t build_node(struct build *b) {
    if (!build_goes_on(b))
        return 0;
    if (b->n_nodes >= b->max_nodes) {
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET,
                   "the constraint needs more than its budget of %u nodes", b->max_nodes);
        return 0;
    }
    void *array = b->nodes;
    if (!grow_big(b, &array, b->n_nodes, &b->cap_nodes, sizeof *b->nodes))
        return 0;
    b->nodes = array;
    b->nodes[b->n_nodes] = (struct build_node){ NODE_NONE, 0 };
    return b->n_nodes++;
}

uint32_t build_final(struct build *b) {
    uint32_t node = build_node(b);
    build_mark(b, node, NODE_FINAL);
    return node;
}

void build_mark(struct build *b, uint32_t node, uint32_t flags) {
    if (b->err == SLM_OK)
        b->nodes[node].flags |= flags;
}

static void add_edge(struct build *b, uint32_t from, struct build_edge e) {
    if (!build_goes_on(b))
        return;
    void *array = b->edges;
    if (!grow_big(b, &array, b->n_edges, &b->cap_edges, sizeof *b->edges))
        return;
    b->edges = array;
    e.next = b->nodes[from].edges;
    b->nodes[from].edges = b->n_edges;
    b->edges[b->n_edges++] = e;
}

void build_push(struct build *b, uint32_t from, unsigned lo, unsigned hi, uint32_t to,
                uint32_t ret) {
    add_edge(b, from,
             (struct build_edge){
                 .to = to, .ret = ret, .lo = (uint8_t)lo, .hi = (uint8_t)hi, .kind = EDGE_BYTES });
}

void build_edge(struct build *b, uint32_t from, unsigned lo, unsigned hi, uint32_t to) {
    build_push(b, from, lo, hi, to, NODE_NONE);
}

void build_call(struct build *b, uint32_t from, uint32_t rule, uint32_t after) {
    add_edge(b, from, (struct build_edge){ .to = rule, .ret = after, .kind = EDGE_CALL });
}

void build_alias(struct build *b, uint32_t from, uint32_t rule) {
    add_edge(b, from, (struct build_edge){ .to = rule, .ret = NODE_NONE, .kind = EDGE_ALIAS });
}

void build_text_to(struct build *b, uint32_t from, const char *s, size_t n, uint32_t to) {
    for (size_t i = 0; i + 1 < n && b->err == SLM_OK; i++) {
        uint32_t next = build_node(b);
        build_edge(b, from, (uint8_t)s[i], (uint8_t)s[i], next);
        from = next;
    }
    build_edge(b, from, (uint8_t)s[n - 1], (uint8_t)s[n - 1], to);
}

uint32_t build_text(struct build *b, uint32_t from, const char *s, size_t n) {
    if (n == 0)
        return from;
    uint32_t to = build_node(b);
    build_text_to(b, from, s, n, to);
    return to;
}

uint32_t build_word(struct build *b, uint32_t from, const char *s, size_t n) {
    for (size_t i = 0; i < n && b->err == SLM_OK; i++) {
        uint8_t byte = (uint8_t)s[i];
        uint32_t k = b->nodes[from].edges;
        while (k != NODE_NONE && (b->edges[k].lo != byte || b->edges[k].kind != EDGE_BYTES))
            k = b->edges[k].next;
        if (k == NODE_NONE) {
            uint32_t next = build_node(b);
            build_edge(b, from, byte, byte, next);
            from = next;
        } else
            from = b->edges[k].to;
    }
    return from;
}

#define SPACE_RUN 16 /* characters of white space in a row */

static void space_edges(struct build *b, uint32_t from, uint32_t to, uint32_t ret) {
    build_push(b, from, '\t', '\n', to, ret);
    build_push(b, from, '\r', '\r', to, ret);
    build_push(b, from, ' ', ' ', to, ret);
}

uint32_t build_spaced(struct build *b, uint32_t node) {
    if (!b->spaced)
        return node;
    if (b->space_rule == NODE_NONE) {
        uint32_t at = build_final(b);
        b->space_rule = at; /* entered behind the first character */
        for (int i = 1; i < SPACE_RUN; i++) {
            uint32_t next = build_final(b);
            space_edges(b, at, next, NODE_NONE);
            at = next;
        }
    }
    uint32_t before = build_node(b);
    build_alias(b, before, node);
    space_edges(b, before, b->space_rule, node);
    return before;
}

/* ------------------------------------------------------------------ 1. aliases and calls become edges */

struct opener {
    uint32_t *stack; /* [n_nodes] */
    uint32_t *seen;  /* [n_nodes] stamp of the last walk that met it */
    uint32_t stamp, n;
};

/* What the nodes behind the aliases of `root` read becomes root's own. Edges from `given` on are copies
 * of before and are not copied again. */
static void open_aliases(struct build *b, struct opener *o, uint32_t root, uint32_t given) {
    o->stamp++;
    o->n = 0;
    o->stack[o->n++] = root;
    o->seen[root] = o->stamp;
    while (o->n > 0 && build_goes_on(b)) {
        uint32_t at = o->stack[--o->n];
        b->nodes[root].flags |= b->nodes[at].flags & NODE_FINAL;
        for (uint32_t i = b->nodes[at].edges; i != NODE_NONE && build_goes_on(b);) {
            struct build_edge e = b->edges[i];
            if (i < given && e.kind == EDGE_ALIAS) {
                if (o->seen[e.to] != o->stamp) {
                    o->seen[e.to] = o->stamp;
                    o->stack[o->n++] = e.to;
                }
            } else if (i < given && at != root)
                add_edge(b, root, e);
            i = e.next;
        }
    }
}

static bool has_edge(const struct build *b, uint32_t node, enum build_kind kind) {
    uint32_t i = b->nodes[node].edges;
    while (i != NODE_NONE && b->edges[i].kind != kind)
        i = b->edges[i].next;
    return i != NODE_NONE;
}

static void open_edges(struct build *b) {
    uint32_t n = b->n_nodes, given = b->n_edges;
    struct opener o = { .stack = build_alloc(b, n, sizeof *o.stack),
                        .seen = build_alloc(b, n, sizeof *o.seen) };
    if (b->err != SLM_OK)
        return;
    for (uint32_t v = 0; v < n && build_goes_on(b); v++)
        if (has_edge(b, v, EDGE_ALIAS))
            open_aliases(b, &o, v, given);
    given = b->n_edges;
    for (uint32_t v = 0; v < n && build_goes_on(b); v++)
        for (uint32_t i = b->nodes[v].edges; i != NODE_NONE && build_goes_on(b);) {
            struct build_edge call = b->edges[i];
            i = call.next;
            if (call.kind != EDGE_CALL)
                continue;
            for (uint32_t k = b->nodes[call.to].edges; k != NODE_NONE && build_goes_on(b);) {
                struct build_edge e = b->edges[k];
                k = e.next;
                if (e.kind == EDGE_BYTES && e.ret == NODE_NONE)
                    build_push(b, v, e.lo, e.hi, e.to, call.ret);
            }
        }
}

/* ------------------------------------------------------------------ 2. what can end */

/* A list of edges for each node that they need: whose end they wait for. */
struct judge {
    uint32_t *head; /* [n_nodes] first slot, NODE_NONE */
    uint32_t *next; /* [2 * n_edges] slot 2e: edge e waits for its `to`; 2e + 1: for its `ret` */
    uint32_t *from; /* [n_edges] */
    uint8_t *productive, *waits; /* [n_nodes], [n_edges] */
    uint32_t *queue;             /* [n_nodes] */
    uint32_t n_queue;
};

static void wait_for(struct judge *j, uint32_t node, uint32_t slot) {
    j->next[slot] = j->head[node];
    j->head[node] = slot;
    j->waits[slot / 2]++;
}

static void found_productive(struct judge *j, uint32_t node) {
    if (!j->productive[node]) {
        j->productive[node] = 1;
        j->queue[j->n_queue++] = node;
    }
}

static bool judge_init(struct build *b, struct judge *j) {
    uint32_t n = b->n_nodes, m = b->n_edges;
    j->head = build_alloc(b, n, sizeof *j->head);
    j->next = build_alloc(b, m, 2 * sizeof *j->next);
    j->from = build_alloc(b, m, sizeof *j->from);
    j->productive = build_alloc(b, n, 1);
    j->waits = build_alloc(b, m, 1);
    j->queue = build_alloc(b, n, sizeof *j->queue);
    j->n_queue = 0;
    if (b->err == SLM_OK)
        memset(j->head, 0xff, (size_t)n * sizeof *j->head);
    return b->err == SLM_OK;
}

/* Only byte edges are left to look at: aliases and calls were copied. */
static void judge_run(struct build *b, struct judge *j) {
    for (uint32_t v = 0; v < b->n_nodes && build_goes_on(b); v++) {
        for (uint32_t i = b->nodes[v].edges; i != NODE_NONE; i = b->edges[i].next) {
            const struct build_edge *e = &b->edges[i];
            if (e->kind != EDGE_BYTES)
                continue;
            j->from[i] = v;
            wait_for(j, e->to, 2 * i);
            if (e->ret != NODE_NONE)
                wait_for(j, e->ret, 2 * i + 1);
        }
        if (b->nodes[v].flags & NODE_FINAL)
            found_productive(j, v);
    }
    for (uint32_t q = 0; q < j->n_queue && build_goes_on(b); q++)
        for (uint32_t s = j->head[j->queue[q]]; s != NODE_NONE; s = j->next[s])
            if (--j->waits[s / 2] == 0)
                found_productive(j, j->from[s / 2]);
}

/* ------------------------------------------------------------------ 3. packing */

struct pack {
    uint32_t *number; /* [n_nodes] new id, NODE_NONE: not met */
    uint32_t *order;  /* [n_nodes] old ids in the order of new ones */
    uint32_t n;
    const struct judge *j;
};

static bool edge_lives(const struct pack *p, const struct build_edge *e) {
    return e->kind == EDGE_BYTES && p->j->productive[e->to] &&
           (e->ret == NODE_NONE || p->j->productive[e->ret]);
}

/* A frame that only ends after the return needs no frame: the callee ends it. */
static bool only_ends(const struct build *b, const struct pack *p, uint32_t node) {
    if ((b->nodes[node].flags & ~(uint32_t)NODE_CHAIN) != NODE_FINAL)
        return false;
    for (uint32_t i = b->nodes[node].edges; i != NODE_NONE; i = b->edges[i].next)
        if (edge_lives(p, &b->edges[i]))
            return false;
    return true;
}

static void meet(struct pack *p, uint32_t node) {
    if (node != NODE_NONE && p->number[node] == NODE_NONE) {
        p->number[node] = p->n;
        p->order[p->n++] = node;
    }
}

static int edge_order(const struct edge *a, const struct edge *b) {
    if (a->lo != b->lo)
        return a->lo < b->lo ? -1 : 1;
    if (a->hi != b->hi)
        return a->hi < b->hi ? -1 : 1;
    if (a->to != b->to)
        return a->to < b->to ? -1 : 1;
    return a->ret < b->ret ? -1 : a->ret > b->ret;
}

/* Heap sort: no memory, no bad case. */
static void sort_edges(struct edge *e, uint32_t n) {
    for (uint32_t start = n / 2, end = n; end > 1;) {
        struct edge x;
        if (start > 0)
            x = e[--start];
        else {
            x = e[--end];
            e[end] = e[0];
        }
        uint32_t hole = start;
        for (uint32_t child; (child = 2 * hole + 1) < end; hole = child) {
            if (child + 1 < end && edge_order(&e[child], &e[child + 1]) < 0)
                child++;
            if (edge_order(&x, &e[child]) >= 0)
                break;
            e[hole] = e[child];
        }
        e[hole] = x;
    }
}

/* Equal ones become one, neighbours of the same aim a longer one. Returns how many are left. */
static uint32_t join_edges(struct edge *e, uint32_t n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct edge *last = kept > 0 ? &e[kept - 1] : NULL;
        if (last != NULL && last->to == e[i].to && last->ret == e[i].ret &&
            (unsigned)last->hi + 1 >= e[i].lo)
            last->hi = last->hi > e[i].hi ? last->hi : e[i].hi;
        else
            e[kept++] = e[i];
    }
    return kept;
}

static void pack_edges(struct build *b, struct pack *p, struct grammar *g) {
    g->n_edges = 0;
    for (uint32_t i = 0; i < p->n; i++) { /* p->n grows as nodes are met */
        const struct build_node *v = &b->nodes[p->order[i]];
        uint32_t first = g->n_edges;
        for (uint32_t k = v->edges; k != NODE_NONE; k = b->edges[k].next) {
            const struct build_edge *e = &b->edges[k];
            if (!edge_lives(p, e))
                continue;
            uint32_t ret = e->ret != NODE_NONE && only_ends(b, p, e->ret) ? NODE_NONE : e->ret;
            meet(p, e->to);
            meet(p, ret);
            g->edges[g->n_edges++] =
                (struct edge){ p->number[e->to], ret == NODE_NONE ? ret : p->number[ret], e->lo,
                               e->hi };
        }
        sort_edges(g->edges + first, g->n_edges - first);
        g->n_edges = first + join_edges(g->edges + first, g->n_edges - first);
        g->nodes[i] = (struct node){ first, g->n_edges - first, v->flags };
        if (!build_goes_on(b))
            return;
    }
    g->n_nodes = p->n;
}

/* ------------------------------------------------------------------ 4. twins */

static uint64_t stir(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* One more byte of foresight: what a node of a chain reads first, and what its neighbours were known to
 * read. Other nodes are themselves. */
static void foresee(const struct grammar *g, const uint32_t *chain, uint32_t n,
                    const uint64_t *before, uint64_t *after) {
    for (uint32_t i = 0; i < n; i++) {
        const struct node *v = &g->nodes[chain[i]];
        const struct edge *e = g->edges + v->first;
        uint64_t h = stir(0x243f6a8885a308d3u, v->flags);
        for (uint32_t k = 0; k < v->n_edges; k++, e++) {
            h = stir(h, (uint64_t)e->lo << 8 | e->hi);
            h = stir(h, before[e->to]);
            h = stir(h, e->ret == NODE_NONE ? 1 : before[e->ret]);
        }
        after[chain[i]] = h;
    }
}

/* The first node with the same foresight, by a hash table; NODE_NONE for a node without twins. */
static void name_twins(const uint32_t *chain, uint32_t n, const uint64_t *seen, uint32_t *slots,
                       uint32_t mask, uint32_t *twin) {
    memset(slots, 0xff, ((size_t)mask + 1) * sizeof *slots);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t v = chain[i], at = (uint32_t)(seen[v] >> 32) & mask;
        while (slots[at] != NODE_NONE && seen[slots[at]] != seen[v])
            at = (at + 1) & mask;
        if (slots[at] == NODE_NONE)
            slots[at] = v;
        else
            twin[v] = twin[slots[at]] = slots[at];
    }
}

static void find_twins(struct build *b, struct grammar *g) {
    static const int bytes[TWINS] = { TWIN_BYTES, TWIN_BYTES_FAR };
    uint32_t mask = 1, n = 0;
    uint64_t *one = build_alloc(b, g->n_nodes, sizeof *one);
    uint64_t *two = build_alloc(b, g->n_nodes, sizeof *two);
    uint32_t *chain = build_alloc(b, g->n_nodes, sizeof *chain);
    for (uint32_t v = 0; v < g->n_nodes && b->err == SLM_OK; v++) {
        if (g->nodes[v].flags & NODE_CHAIN)
            chain[n++] = v;
        else
            one[v] = two[v] = stir(0x13198a2e03707344u, v);
    }
    while (mask < 2 * n)
        mask = mask * 2 + 1;
    uint32_t *slots = build_alloc(b, (size_t)mask + 1, sizeof *slots);
    for (int i = 0, round = 0; i < TWINS && build_goes_on(b); i++) {
        for (; round <= bytes[i] && build_goes_on(b); round++) { /* and whether it ends there */
            foresee(g, chain, n, one, two);
            uint64_t *swap = one;
            one = two;
            two = swap;
            b->ticks = CLOCK_EVERY - 1; /* a round is long: look at the clock */
        }
        g->twin[i] = mem_alloc(b->hooks, g->n_nodes, sizeof *g->twin[i]);
        if (g->twin[i] == NULL) {
            no_memory(b, g->n_nodes * sizeof *g->twin[i]);
            return;
        }
        memset(g->twin[i], 0xff, g->n_nodes * sizeof *g->twin[i]);
        name_twins(chain, n, one, slots, mask, g->twin[i]);
    }
}

/* ------------------------------------------------------------------ all of it */

static void finish(struct build *b, uint32_t start, struct grammar *g) {
    struct judge j;
    open_edges(b);
    if (b->err != SLM_OK || !judge_init(b, &j))
        return;
    judge_run(b, &j);
    if (b->err == SLM_OK && !j.productive[start])
        build_fail(b, SLM_E_FORMAT, SLM_NO_OFFSET, "nothing can satisfy this constraint");
    struct pack p = { .j = &j };
    p.number = build_alloc(b, b->n_nodes, sizeof *p.number);
    p.order = build_alloc(b, b->n_nodes, sizeof *p.order);
    if (b->err != SLM_OK)
        return;
    memset(p.number, 0xff, (size_t)b->n_nodes * sizeof *p.number);
    g->nodes = mem_alloc(b->hooks, b->n_nodes, sizeof *g->nodes);
    g->edges = mem_alloc(b->hooks, b->n_edges, sizeof *g->edges);
    if (g->nodes == NULL || g->edges == NULL) {
        no_memory(b, b->n_nodes * sizeof *g->nodes + b->n_edges * sizeof *g->edges);
        return;
    }
    meet(&p, start);
    pack_edges(b, &p, g);
    if (b->err != SLM_OK)
        return;
    if (b->chained)
        find_twins(b, g);
}

/* What was allocated for the worst case shrinks to what there is. */
static void shrink(struct grammar *g) {
    void *nodes = mem_resize(&g->hooks, g->nodes, g->n_nodes, sizeof *g->nodes);
    g->nodes = nodes != NULL ? nodes : g->nodes;
    void *edges =
        mem_resize(&g->hooks, g->edges, g->n_edges > 0 ? g->n_edges : 1, sizeof *g->edges);
    g->edges = edges != NULL ? edges : g->edges;
    g->bytes = sizeof *g + sizeof *g->cache + g->n_nodes * sizeof *g->nodes +
               g->n_edges * sizeof *g->edges +
               (g->twin[0] != NULL ? TWINS * g->n_nodes * sizeof *g->twin[0] : 0);
}

slm_err build_finish(struct build *b, uint32_t start, struct grammar **out) {
    if (b->err != SLM_OK)
        return b->err;
    struct grammar *g = mem_zalloc(b->hooks, 1, sizeof *g);
    if (g == NULL) {
        no_memory(b, sizeof *g);
        return b->err;
    }
    hooks_init(&g->hooks, b->hooks);
    g->cache = mem_zalloc(b->hooks, 1, sizeof *g->cache);
    if (g->cache == NULL)
        no_memory(b, sizeof *g->cache);
    else
        finish(b, start, g);
    if (b->err != SLM_OK) {
        grammar_free(g);
        return b->err;
    }
    shrink(g);
    *out = g;
    return SLM_OK;
}

void grammar_free(struct grammar *g) {
    if (g == NULL)
        return;
    struct slm_hooks h = g->hooks;
    mask_cache_free(&h, g->cache);
    mem_free(&h, g->nodes);
    mem_free(&h, g->edges);
    for (int i = 0; i < TWINS; i++)
        mem_free(&h, g->twin[i]);
    mem_free(&h, g);
}

size_t grammar_bytes(const struct grammar *g) {
    return g->bytes + atomic_load(&g->cache->bytes);
}

uint32_t grammar_nodes(const struct grammar *g) {
    return g->n_nodes;
}
