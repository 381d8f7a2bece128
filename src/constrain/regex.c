/* regex.c - from the tree of a regular expression to a deterministic automaton over code points.
 *
 * Tree to states that may be left without a character (Thompson's construction, repetitions written
 * out), then sets of those states to states of the result. `^` can be passed only before the first
 * character, `$` only after the last: a set that can end by way of `$` accepts, and nothing follows.
 * In a search every character may come before a match; once one is found, anything may follow.
 *
 * Time and memory: linear in the expression for what the first step makes; the second can be
 * exponential, as for "(a|b)*a(a|b){20}", and is stopped by the budgets. */
#include <string.h>

#include "constrain/regex.h"

/* ------------------------------------------------------------------ states of the first kind */

enum link_kind { LINK_FREE, LINK_SET, LINK_BEGIN, LINK_END };
struct link {
    uint32_t to, next, set;
    uint8_t kind;
};
struct task {
    uint32_t node, from, to;
};
struct nfa {
    struct build *b;
    const struct regex *re;
    uint32_t *links; /* [n_states] first link */
    struct link *link;
    uint32_t n_states, cap_states, n_links, cap_links;
    struct task *tasks;
    uint32_t n_tasks, cap_tasks;
    uint32_t start, final, most;
};

static uint32_t nfa_state(struct nfa *a) {
    void *links = a->links;
    if (!build_goes_on(a->b))
        return 0;
    if (a->n_states >= a->most) {
        build_fail(a->b, SLM_E_BUDGET, SLM_NO_OFFSET,
                   "a pattern needs more than its budget of %u states", a->most);
        return 0;
    }
    if (!build_grow(a->b, &links, a->n_states, &a->cap_states, sizeof *a->links))
        return 0;
    a->links = links;
    a->links[a->n_states] = NODE_NONE;
    return a->n_states++;
}

static void nfa_link(struct nfa *a, uint32_t from, enum link_kind kind, uint32_t set, uint32_t to) {
    void *link = a->link;
    if (!build_goes_on(a->b) ||
        !build_grow(a->b, &link, a->n_links, &a->cap_links, sizeof *a->link))
        return;
    a->link = link;
    a->link[a->n_links] = (struct link){ to, a->links[from], set, (uint8_t)kind };
    a->links[from] = a->n_links++;
}

static void nfa_later(struct nfa *a, uint32_t node, uint32_t from, uint32_t to) {
    void *tasks = a->tasks;
    if (!build_goes_on(a->b) ||
        !build_grow(a->b, &tasks, a->n_tasks, &a->cap_tasks, sizeof *a->tasks))
        return;
    a->tasks = tasks;
    a->tasks[a->n_tasks++] = (struct task){ node, from, to };
}

static void nfa_repeat(struct nfa *a, const struct re_node *r, uint32_t from, uint32_t to) {
    uint32_t at = from;
    for (uint32_t i = 0; i < r->min && a->b->err == SLM_OK; i++) {
        uint32_t next = nfa_state(a);
        nfa_later(a, r->left, at, next);
        at = next;
    }
    if (r->max == REPEAT_ENDLESS) {
        uint32_t loop = nfa_state(a);
        nfa_link(a, at, LINK_FREE, 0, loop);
        nfa_later(a, r->left, loop, loop);
        nfa_link(a, loop, LINK_FREE, 0, to);
        return;
    }
    for (uint32_t i = r->min; i < r->max && a->b->err == SLM_OK; i++) {
        uint32_t next = nfa_state(a);
        nfa_link(a, at, LINK_FREE, 0, to);
        nfa_later(a, r->left, at, next);
        at = next;
    }
    nfa_link(a, at, LINK_FREE, 0, to);
}

static void nfa_build(struct nfa *a) {
    a->start = nfa_state(a);
    a->final = nfa_state(a);
    nfa_later(a, a->re->root, a->start, a->final);
    while (a->n_tasks > 0 && build_goes_on(a->b)) {
        struct task t = a->tasks[--a->n_tasks];
        const struct re_node *r = &a->re->nodes[t.node];
        uint32_t middle;
        switch ((enum re_kind)r->kind) {
        case RE_EMPTY:
            nfa_link(a, t.from, LINK_FREE, 0, t.to);
            break;
        case RE_SET:
            nfa_link(a, t.from, LINK_SET, r->left, t.to);
            break;
        case RE_BEGIN:
            nfa_link(a, t.from, LINK_BEGIN, 0, t.to);
            break;
        case RE_END:
            nfa_link(a, t.from, LINK_END, 0, t.to);
            break;
        case RE_CAT:
            middle = nfa_state(a);
            nfa_later(a, r->left, t.from, middle);
            nfa_later(a, r->right, middle, t.to);
            break;
        case RE_ALT:
            nfa_later(a, r->left, t.from, t.to);
            nfa_later(a, r->right, t.from, t.to);
            break;
        case RE_REPEAT:
            nfa_repeat(a, r, t.from, t.to);
            break;
        }
    }
}

/* ------------------------------------------------------------------ classes of characters */

/* Numbers without characters go: a table of states has a column for each class. */
static void renumber(struct chars *c, uint32_t *name) {
    uint32_t n = 0;
    memset(name, 0xff, (size_t)c->n_classes * sizeof *name);
    for (uint32_t s = 0; s < c->n_spans; s++) {
        if (name[c->classes[s]] == NODE_NONE)
            name[c->classes[s]] = n++;
        c->classes[s] = name[c->classes[s]];
    }
    c->n_classes = n;
}

/* The part of each class that lies in the set becomes a class of its own. */
static void split_classes(struct build *b, struct chars *c, const struct re_set *set,
                          uint32_t *part) {
    uint32_t before = c->n_classes, k = 0;
    memset(part, 0xff, (size_t)before * sizeof *part);
    for (uint32_t s = 0; s < c->n_spans && build_goes_on(b); s++) {
        while (k < set->n && set->spans[k].hi < c->bounds[s])
            k++;
        if (k == set->n)
            break;
        if (set->spans[k].lo > c->bounds[s])
            continue;
        uint32_t old = c->classes[s];
        if (part[old] == NODE_NONE)
            part[old] = c->n_classes++;
        c->classes[s] = part[old];
    }
    renumber(c, part);
}

/* Splits classes until each lies wholly in or out of every set. */
static bool make_classes(struct build *b, const struct regex *re, struct chars *c) {
    uint64_t total = 1;
    for (uint32_t i = 0; i < re->n_sets; i++)
        total += 2 * (uint64_t)re->sets[i].n;
    if (total > UINT32_MAX / 8) {
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "a pattern has too many sets of characters");
        return false;
    }
    c->bounds = build_alloc(b, total, sizeof *c->bounds);
    c->classes = build_alloc(b, total, sizeof *c->classes);
    uint32_t *part = build_alloc(b, 2 * total + 2, sizeof *part);
    if (b->err != SLM_OK)
        return false;
    uint32_t n = 1;
    for (uint32_t i = 0; i < re->n_sets; i++)
        for (uint32_t k = 0; k < re->sets[i].n; k++) {
            c->bounds[n++] = re->sets[i].spans[k].lo;
            if (re->sets[i].spans[k].hi < CP_MAX)
                c->bounds[n++] = re->sets[i].spans[k].hi + 1;
        }
    chars_sort(c->bounds, n);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || c->bounds[i] != c->bounds[c->n_spans - 1])
            c->bounds[c->n_spans++] = c->bounds[i];
    c->n_classes = 1;
    for (uint32_t i = 0; i < re->n_sets && b->err == SLM_OK; i++)
        split_classes(b, c, &re->sets[i], part);
    return b->err == SLM_OK;
}

/* ------------------------------------------------------------------ sets of states */

struct subset {
    struct nfa *a;
    struct chars *c;
    bool search;
    uint8_t **has; /* [n_sets] -> [n_classes] whether the set has the class */
    uint32_t *
        items; /* pool of sorted kernels: states that have a link with a set, or matter at the end */
    uint32_t n_items, cap_items;
    uint32_t *first; /* [states + 1] where each state's kernel begins in items */
    uint32_t cap_first;
    uint32_t *slots, mask; /* hash table of states */
    uint32_t *seen, stamp; /* [nfa states] */
    uint32_t *stack, *set;
    uint32_t n_set;
    uint32_t all; /* state of strings that have a match already; NODE_NONE */
};

/* Follows what takes no character. The marks of `seen` join several calls of one set. */
static void close_over(struct subset *s, uint32_t from, bool begin) {
    struct nfa *a = s->a;
    uint32_t n = 0;
    if (s->seen[from] == s->stamp)
        return;
    s->seen[from] = s->stamp;
    s->stack[n++] = from;
    while (n > 0 && build_goes_on(a->b)) {
        uint32_t at = s->stack[--n];
        bool keep = at == a->final;
        for (uint32_t i = a->links[at]; i != NODE_NONE; i = a->link[i].next) {
            const struct link *l = &a->link[i];
            keep = keep || l->kind == LINK_SET || l->kind == LINK_END;
            bool free = l->kind == LINK_FREE || (l->kind == LINK_BEGIN && begin);
            if (free && s->seen[l->to] != s->stamp) {
                s->seen[l->to] = s->stamp;
                s->stack[n++] = l->to;
            }
        }
        if (keep)
            s->set[s->n_set++] = at;
    }
}

/* Ends here: the final state is in the set, or `$` and what takes no character lead to it. (`^` too,
 * while nothing was read.) */
static bool ends(struct subset *s, bool begin) {
    struct nfa *a = s->a;
    uint32_t n = 0;
    s->stamp++;
    for (uint32_t i = 0; i < s->n_set; i++) {
        s->seen[s->set[i]] = s->stamp;
        s->stack[n++] = s->set[i];
    }
    while (n > 0 && build_goes_on(a->b)) {
        uint32_t at = s->stack[--n];
        if (at == a->final)
            return true;
        for (uint32_t i = a->links[at]; i != NODE_NONE; i = a->link[i].next) {
            const struct link *l = &a->link[i];
            if (l->kind != LINK_SET && (l->kind != LINK_BEGIN || begin) &&
                s->seen[l->to] != s->stamp) {
                s->seen[l->to] = s->stamp;
                s->stack[n++] = l->to;
            }
        }
    }
    return false;
}

static uint64_t hash_set(const uint32_t *v, uint32_t n) {
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ v[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

static bool same_set(const struct subset *s, uint32_t state) {
    uint32_t n = s->first[state + 1] - s->first[state];
    return n == s->n_set &&
           (n == 0 || memcmp(s->items + s->first[state], s->set, n * sizeof *s->set) == 0);
}

static void rehash(struct build *b, struct subset *s) {
    uint32_t mask = s->slots == NULL ? 255 : s->mask * 2 + 1;
    uint32_t *slots = build_alloc(b, (size_t)mask + 1, sizeof *slots);
    if (slots == NULL)
        return;
    memset(slots, 0xff, ((size_t)mask + 1) * sizeof *slots);
    for (uint32_t i = 0; i < s->c->n_states; i++) {
        const uint32_t *v = s->items + s->first[i];
        uint32_t at = (uint32_t)(hash_set(v, s->first[i + 1] - s->first[i]) >> 32) & mask;
        while (slots[at] != NODE_NONE)
            at = (at + 1) & mask;
        slots[at] = i;
    }
    s->slots = slots;
    s->mask = mask;
}

/* The state of the set at hand, made when it is new; NODE_NONE for the empty set. */
static uint32_t subset_state(struct build *b, struct subset *s, bool begin) {
    if (s->n_set == 0 || !build_goes_on(b))
        return NODE_NONE;
    chars_sort(s->set, s->n_set);
    if (s->slots == NULL || s->c->n_states * 2 > s->mask)
        rehash(b, s);
    if (b->err != SLM_OK)
        return NODE_NONE;
    uint32_t at = (uint32_t)(hash_set(s->set, s->n_set) >> 32) & s->mask;
    /* what is true at the beginning only has a state of its own, which nothing leads back to */
    while (!begin && s->slots[at] != NODE_NONE) {
        if (s->slots[at] != 0 && same_set(s, s->slots[at]))
            return s->slots[at];
        at = (at + 1) & s->mask;
    }
    while (s->slots[at] != NODE_NONE)
        at = (at + 1) & s->mask;
    for (uint32_t i = 0; i < s->n_set; i++) {
        void *items = s->items;
        if (!build_grow(b, &items, s->n_items, &s->cap_items, sizeof *s->items))
            return NODE_NONE;
        s->items = items;
        s->items[s->n_items++] = s->set[i];
    }
    uint32_t state = chars_state(b, s->c, ends(s, begin));
    void *first = s->first;
    if (state == NODE_NONE || !build_grow(b, &first, state + 1, &s->cap_first, sizeof *s->first))
        return NODE_NONE;
    s->first = first;
    s->first[state + 1] = s->n_items;
    s->slots[at] = state;
    return state;
}

static uint32_t all_state(struct build *b, struct subset *s) {
    if (s->all == NODE_NONE) {
        s->n_set = 1;
        s->set[0] = s->a->final;
        s->all = subset_state(b, s, false);
        for (uint32_t k = 0; k < s->c->n_classes && b->err == SLM_OK; k++)
            s->c->next[(size_t)s->all * s->c->n_classes + k] = s->all;
    }
    return s->all;
}

/* In a search a match may begin behind every character, and what holds one already may go on at will. */
static uint32_t next_state(struct build *b, struct subset *s, uint32_t state, uint32_t class) {
    struct nfa *a = s->a;
    s->stamp++;
    s->n_set = 0;
    for (uint32_t i = s->first[state]; i < s->first[state + 1] && build_goes_on(b); i++)
        for (uint32_t k = a->links[s->items[i]]; k != NODE_NONE; k = a->link[k].next)
            if (a->link[k].kind == LINK_SET && s->has[a->link[k].set][class])
                close_over(s, a->link[k].to, false);
    if (s->search)
        close_over(s, a->start, false);
    if (s->search && s->seen[a->final] == s->stamp)
        return all_state(b, s);
    return subset_state(b, s, false);
}

static bool subset_init(struct build *b, struct subset *s, const struct regex *re) {
    uint32_t n = s->a->n_states;
    s->seen = build_alloc(b, n, sizeof *s->seen);
    s->stack = build_alloc(b, n, sizeof *s->stack);
    s->set = build_alloc(b, n, sizeof *s->set);
    s->has = build_alloc(b, (size_t)re->n_sets + 1, sizeof *s->has);
    s->all = NODE_NONE;
    void *first = NULL;
    if (!build_grow(b, &first, 0, &s->cap_first, sizeof *s->first))
        return false;
    s->first = first;
    for (uint32_t i = 0; i < re->n_sets && b->err == SLM_OK; i++) {
        const struct re_set *set = &re->sets[i];
        uint32_t k = 0;
        s->has[i] = build_alloc(b, s->c->n_classes, 1);
        for (uint32_t p = 0; p < s->c->n_spans && s->has[i] != NULL; p++) {
            while (k < set->n && set->spans[k].hi < s->c->bounds[p])
                k++;
            if (k < set->n && set->spans[k].lo <= s->c->bounds[p])
                s->has[i][s->c->classes[p]] = 1;
        }
    }
    return b->err == SLM_OK;
}

struct chars *chars_regex(struct build *b, const char *pattern, size_t n, bool search,
                          const char *where) {
    struct regex re;
    struct chars *c = build_alloc(b, 1, sizeof *c);
    if (c == NULL || !regex_parse(b, pattern, n, where, &re))
        return NULL;
    struct nfa a = { .b = b, .re = &re };
    a.most = b->max_nodes < UINT32_MAX / 4 ? b->max_nodes * 4 : UINT32_MAX;
    nfa_build(&a);
    struct subset s = { .a = &a, .c = c, .search = search };
    if (b->err != SLM_OK || !make_classes(b, &re, c))
        return NULL;
    if (!subset_init(b, &s, &re))
        return NULL;
    s.stamp = 1;
    close_over(&s, a.start, true);
    if (search && s.seen[a.final] == s.stamp) { /* the empty string has a match: so has any */
        s.n_set = 1;
        s.set[0] = a.final;
        subset_state(b, &s, true);
        for (uint32_t k = 0; k < c->n_classes && b->err == SLM_OK; k++)
            c->next[k] = 0;
        return b->err == SLM_OK ? c : NULL;
    }
    if (s.n_set == 0) { /* an anchor that cannot be passed: nothing matches */
        chars_state(b, c, false);
        return b->err == SLM_OK ? c : NULL;
    }
    subset_state(b, &s, true);
    for (uint32_t q = 0; q < c->n_states; q++)
        for (uint32_t k = 0; k < c->n_classes && build_goes_on(b); k++) {
            uint32_t to = q == s.all && q != 0 ? s.all : next_state(b, &s, q, k);
            if (b->err != SLM_OK)
                return NULL;
            c->next[(size_t)q * c->n_classes + k] = to;
        }
    return b->err == SLM_OK ? c : NULL;
}
