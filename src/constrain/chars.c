/* chars.c - automata over code points: making, combining, asking. */
#include "constrain/chars.h"

#include <string.h>

#include "base/utf8.h"

/* ------------------------------------------------------------------ states in a table */

static struct chars *chars_new(struct build *b, uint32_t n_spans, uint32_t n_classes) {
    struct chars *c = build_alloc(b, 1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->n_spans = n_spans;
    c->n_classes = n_classes;
    c->bounds = build_alloc(b, n_spans, sizeof *c->bounds);
    c->classes = build_alloc(b, n_spans, sizeof *c->classes);
    return b->err == SLM_OK ? c : NULL;
}

uint32_t chars_state(struct build *b, struct chars *c, bool accept) {
    if (!build_goes_on(b))
        return NODE_NONE;
    if (c->n_states >= b->max_nodes) {
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET,
                   "a string of the constraint needs more than its budget of %u states",
                   b->max_nodes);
        return NODE_NONE;
    }
    uint32_t cap = c->cap_states;
    void *next = c->next, *flags = c->accept;
    if (!build_grow(b, &next, c->n_states, &cap, c->n_classes * sizeof *c->next) ||
        !build_grow(b, &flags, c->n_states, &c->cap_states, 1))
        return NODE_NONE;
    c->next = next;
    c->accept = flags;
    c->accept[c->n_states] = accept;
    memset(c->next + (size_t)c->n_states * c->n_classes, 0xff, c->n_classes * sizeof *c->next);
    return c->n_states++;
}

static uint32_t class_of(const struct chars *c, uint32_t cp) {
    uint32_t lo = 0, hi = c->n_spans;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (c->bounds[mid] <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return c->classes[lo];
}

bool chars_match(const struct chars *c, const char *s, size_t n) {
    uint32_t at = 0;
    for (size_t i = 0; i < n && at != NODE_NONE;) {
        uint32_t cp;
        size_t len = utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            return false;
        at = c->next[(size_t)at * c->n_classes + class_of(c, cp)];
        i += len;
    }
    return at != NODE_NONE && c->accept[at];
}

/* ------------------------------------------------------------------ making */

struct chars *chars_length(struct build *b, uint32_t min, uint32_t max) {
    struct chars *c = chars_new(b, 1, 1);
    uint32_t last = max == UINT32_MAX ? min : max;
    if (c == NULL)
        return NULL;
    for (uint32_t i = 0; i <= last && b->err == SLM_OK; i++) {
        uint32_t state = chars_state(b, c, i >= min);
        if (state != NODE_NONE && i > 0)
            c->next[state - 1] = state;
        if (i == last)
            break; /* last may be the largest number there is */
    }
    if (b->err == SLM_OK && max == UINT32_MAX)
        c->next[c->n_states - 1] = c->n_states - 1;
    return b->err == SLM_OK ? c : NULL;
}

void chars_sort(uint32_t *v, uint32_t n) {
    for (uint32_t start = n / 2, end = n; end > 1;) {
        uint32_t x, hole;
        if (start > 0)
            x = v[--start];
        else {
            x = v[--end];
            v[end] = v[0];
        }
        hole = start;
        for (uint32_t child; (child = 2 * hole + 1) < end; hole = child) {
            if (child + 1 < end && v[child] < v[child + 1])
                child++;
            if (x >= v[child])
                break;
            v[hole] = v[child];
        }
        v[hole] = x;
    }
}

/* One class for each character that occurs, and one for all others. */
static struct chars *word_classes(struct build *b, const char *const *words, uint32_t n) {
    size_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += strlen(words[i]);
    if (total > UINT32_MAX / 4) {
        build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "strings of the constraint are too long");
        return NULL;
    }
    uint32_t *used = build_alloc(b, total + 1, sizeof *used), n_used = 0;
    for (uint32_t i = 0; i < n && build_goes_on(b); i++)
        for (size_t k = 0, len = strlen(words[i]); k < len;) {
            size_t step = utf8_decode(words[i] + k, len - k, &used[n_used]);
            k += step > 0 ? step : 1;
            n_used += step > 0;
        }
    if (b->err != SLM_OK)
        return NULL;
    chars_sort(used, n_used);
    struct chars *c = chars_new(b, 2 * n_used + 1, 1);
    if (c == NULL)
        return NULL;
    c->n_spans = 0;
    for (uint32_t i = 0, edge = 0; i <= n_used; i++) { /* edge: first character not yet in a span */
        if (i < n_used && i > 0 && used[i] == used[i - 1])
            continue;
        uint32_t stop = i < n_used ? used[i] : CP_MAX + 1;
        if (edge < stop) {
            c->bounds[c->n_spans] = edge;
            c->classes[c->n_spans++] = 0;
        }
        if (i < n_used) {
            c->bounds[c->n_spans] = stop;
            c->classes[c->n_spans++] = c->n_classes++;
        }
        edge = stop + 1;
    }
    return c;
}

struct chars *chars_words(struct build *b, const char *const *words, uint32_t n, bool except) {
    struct chars *c = word_classes(b, words, n);
    if (c == NULL || chars_state(b, c, except) == NODE_NONE)
        return NULL;
    uint32_t rest = NODE_NONE; /* state of every string that has left the words */
    if (except) {
        rest = chars_state(b, c, true);
        for (uint32_t k = 0; k < c->n_classes && b->err == SLM_OK; k++)
            c->next[(size_t)rest * c->n_classes + k] = rest;
    }
    for (uint32_t i = 0; i < n && b->err == SLM_OK; i++) {
        uint32_t at = 0;
        for (size_t k = 0, len = strlen(words[i]); k < len && b->err == SLM_OK;) {
            uint32_t cp;
            size_t step = utf8_decode(words[i] + k, len - k, &cp);
            if (step == 0)
                break;
            k += step;
            size_t slot = (size_t)at * c->n_classes + class_of(c, cp);
            if (c->next[slot] == NODE_NONE) {
                uint32_t state = chars_state(b, c, except);
                if (state != NODE_NONE)
                    c->next[slot] = state;
            }
            at = b->err == SLM_OK ? c->next[slot] : 0;
        }
        if (b->err == SLM_OK)
            c->accept[at] = !except;
    }
    for (size_t k = 0; except && b->err == SLM_OK && k < (size_t)c->n_states * c->n_classes; k++)
        if (c->next[k] == NODE_NONE)
            c->next[k] = rest;
    return b->err == SLM_OK ? c : NULL;
}

/* ------------------------------------------------------------------ two at a time */

struct pair_table {
    uint64_t
        *slots; /* [mask + 1] (x state + 1) << 32 | (y state + 1), 0 = empty; NODE_NONE + 1 is 0 */
    uint32_t *state; /* [mask + 1] */
    uint32_t mask, used;
};

static uint64_t pair_key(uint32_t x, uint32_t y) {
    return (uint64_t)(x + 1) << 32 | (uint32_t)(y + 1);
}

static uint32_t pair_slot(const struct pair_table *t, uint64_t key) {
    uint32_t at = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32) & t->mask;
    while (t->slots[at] != 0 && t->slots[at] != key)
        at = (at + 1) & t->mask;
    return at;
}

static void pair_room(struct build *b, struct pair_table *t) {
    if (t->slots != NULL && t->used * 2 <= t->mask)
        return;
    struct pair_table big = { .mask = t->slots == NULL ? 255 : t->mask * 2 + 1, .used = t->used };
    big.slots = build_alloc(b, (size_t)big.mask + 1, sizeof *big.slots);
    big.state = build_alloc(b, (size_t)big.mask + 1, sizeof *big.state);
    if (b->err != SLM_OK)
        return;
    for (uint32_t i = 0; t->slots != NULL && i <= t->mask; i++)
        if (t->slots[i] != 0) {
            uint32_t at = pair_slot(&big, t->slots[i]);
            big.slots[at] = t->slots[i];
            big.state[at] = t->state[i];
        }
    *t = big;
}

/* Spans of both, with the class of x and of y for each; classes of pairs are numbered as they come. */
static struct chars *joint_classes(struct build *b, const struct chars *x, const struct chars *y,
                                   uint32_t **of_x, uint32_t **of_y) {
    uint32_t most = x->n_spans + y->n_spans;
    struct chars *c = chars_new(b, most, 0);
    struct pair_table t = { .slots = NULL };
    *of_x = build_alloc(b, most, sizeof **of_x);
    *of_y = build_alloc(b, most, sizeof **of_y);
    if (b->err != SLM_OK)
        return NULL;
    c->n_spans = 0;
    for (uint32_t i = 0, k = 0; i < x->n_spans || k < y->n_spans;) {
        uint32_t xb = i < x->n_spans ? x->bounds[i] : UINT32_MAX;
        uint32_t yb = k < y->n_spans ? y->bounds[k] : UINT32_MAX;
        uint32_t at = xb < yb ? xb : yb;
        i += xb == at;
        k += yb == at;
        pair_room(b, &t);
        if (!build_goes_on(b))
            return NULL;
        uint32_t cx = x->classes[i - 1], cy = y->classes[k - 1];
        uint64_t key = pair_key(cx, cy);
        uint32_t slot = pair_slot(&t, key);
        if (t.slots[slot] == 0) {
            t.slots[slot] = key;
            t.used++;
            (*of_x)[c->n_classes] = cx;
            (*of_y)[c->n_classes] = cy;
            t.state[slot] = c->n_classes++;
        }
        c->bounds[c->n_spans] = at;
        c->classes[c->n_spans++] = t.state[slot];
    }
    return c;
}

struct product {
    const struct chars *x, *y;
    bool without; /* y's acceptance is turned around, and y may have no way on */
    struct pair_table table;
    uint32_t *pairs; /* [2, states] what each state stands for */
    uint32_t cap_pairs;
};

static bool is_state(const struct chars *c, uint32_t s) {
    return s != NODE_NONE && c->accept[s];
}

static uint32_t product_state(struct build *b, struct product *p, struct chars *c, uint32_t x,
                              uint32_t y) {
    pair_room(b, &p->table);
    if (b->err != SLM_OK)
        return NODE_NONE;
    uint64_t key = pair_key(x, y);
    uint32_t slot = pair_slot(&p->table, key);
    if (p->table.slots[slot] != 0)
        return p->table.state[slot];
    uint32_t state = chars_state(b, c, is_state(p->x, x) && is_state(p->y, y) != p->without);
    void *pairs = p->pairs;
    if (state == NODE_NONE || !build_grow(b, &pairs, state, &p->cap_pairs, 2 * sizeof *p->pairs))
        return NODE_NONE;
    p->pairs = pairs;
    p->pairs[2 * state] = x;
    p->pairs[2 * state + 1] = y;
    p->table.slots[slot] = key;
    p->table.state[slot] = state;
    p->table.used++;
    return state;
}

static struct chars *product(struct build *b, const struct chars *x, const struct chars *y,
                             bool without) {
    uint32_t *of_x, *of_y;
    struct chars *c = joint_classes(b, x, y, &of_x, &of_y);
    struct product p = { .x = x, .y = y, .without = without };
    if (c == NULL)
        return NULL;
    product_state(b, &p, c, 0, 0);
    for (uint32_t s = 0; s < c->n_states; s++)
        for (uint32_t k = 0; k < c->n_classes && build_goes_on(b); k++) {
            uint32_t sx = p.pairs[2 * s], sy = p.pairs[2 * s + 1];
            sx = x->next[(size_t)sx * x->n_classes + of_x[k]];
            if (sy != NODE_NONE)
                sy = y->next[(size_t)sy * y->n_classes + of_y[k]];
            if (sx == NODE_NONE || (sy == NODE_NONE && !without))
                continue;
            uint32_t to = product_state(b, &p, c, sx, sy);
            if (to != NODE_NONE)
                c->next[(size_t)s * c->n_classes + k] = to;
        }
    return b->err == SLM_OK ? c : NULL;
}

struct chars *chars_both(struct build *b, const struct chars *x, const struct chars *y) {
    if (b->err != SLM_OK)
        return NULL;
    if (x == NULL || y == NULL) /* what both share may be changed by nobody but chars_trim */
        return (struct chars *)(uintptr_t)(x == NULL ? y : x);
    return product(b, x, y, false);
}

struct chars *chars_without(struct build *b, const struct chars *x, const struct chars *y) {
    return b->err != SLM_OK ? NULL : product(b, x, y, true);
}

/* ------------------------------------------------------------------ what can end, and how often */

/* States by who leads to them: [n_states + 1] offsets into a list of predecessors. */
static bool predecessors(struct build *b, const struct chars *c, uint32_t **first,
                         uint32_t **list) {
    size_t n = (size_t)c->n_states * c->n_classes;
    *first = build_alloc(b, (size_t)c->n_states + 2, sizeof **first);
    *list = build_alloc(b, n, sizeof **list);
    if (b->err != SLM_OK)
        return false;
    for (size_t i = 0; i < n; i++)
        if (c->next[i] != NODE_NONE)
            (*first)[c->next[i] + 2]++;
    for (uint32_t s = 0; s < c->n_states; s++)
        (*first)[s + 2] += (*first)[s + 1];
    for (size_t i = 0; i < n; i++)
        if (c->next[i] != NODE_NONE)
            (*list)[(*first)[c->next[i] + 1]++] = (uint32_t)(i / c->n_classes);
    return true;
}

void chars_trim(struct build *b, struct chars *c) {
    uint32_t *first, *list;
    if (c == NULL || b->err != SLM_OK || !predecessors(b, c, &first, &list))
        return;
    uint8_t *alive = build_alloc(b, c->n_states, 1);
    uint32_t *queue = build_alloc(b, c->n_states, sizeof *queue), n = 0;
    if (b->err != SLM_OK)
        return;
    for (uint32_t s = 0; s < c->n_states; s++)
        if (c->accept[s]) {
            alive[s] = 1;
            queue[n++] = s;
        }
    for (uint32_t q = 0; q < n && build_goes_on(b); q++)
        for (uint32_t i = first[queue[q]]; i < first[queue[q] + 1]; i++)
            if (!alive[list[i]]) {
                alive[list[i]] = 1;
                queue[n++] = list[i];
            }
    for (size_t i = 0; i < (size_t)c->n_states * c->n_classes; i++)
        if (c->next[i] != NODE_NONE && !alive[c->next[i]])
            c->next[i] = NODE_NONE;
}

bool chars_empty(const struct chars *c) {
    for (uint32_t k = 0; k < c->n_classes; k++)
        if (c->next[k] != NODE_NONE)
            return false;
    return !c->accept[0];
}

/* Characters of each class, without the halves of surrogate pairs and without zero. */
static uint32_t *class_sizes(struct build *b, const struct chars *c) {
    uint32_t *size = build_alloc(b, c->n_classes, sizeof *size);
    for (uint32_t i = 0; size != NULL && i < c->n_spans; i++) {
        uint32_t lo = c->bounds[i], hi = i + 1 < c->n_spans ? c->bounds[i + 1] - 1 : CP_MAX;
        uint32_t low = lo > 0xd800 ? lo : 0xd800, high = hi < 0xdfff ? hi : 0xdfff;
        size[c->classes[i]] += hi - lo + 1 - (low <= high ? high - low + 1 : 0) - (lo == 0);
    }
    return size;
}

static uint32_t count_state(const struct chars *c, const uint32_t *size, const uint32_t *count,
                            uint32_t s) {
    uint64_t sum = c->accept[s];
    for (uint32_t k = 0; k < c->n_classes && sum < UINT32_MAX; k++) {
        uint32_t to = c->next[(size_t)s * c->n_classes + k];
        if (to != NODE_NONE)
            sum += (uint64_t)size[k] * count[to];
    }
    return sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

/* Counts come from the ends backwards, as in sorting by dependencies; what such sorting never reaches is
 * on a cycle or leads to one, and has no end of strings. */
uint32_t *chars_count(struct build *b, const struct chars *c) {
    uint32_t *first, *list, n = 0;
    if (b->err != SLM_OK || !predecessors(b, c, &first, &list))
        return NULL;
    uint32_t *size = class_sizes(b, c);
    uint32_t *count = build_alloc(b, c->n_states, sizeof *count);
    uint32_t *waits = build_alloc(b, c->n_states, sizeof *waits);
    uint32_t *queue = build_alloc(b, c->n_states, sizeof *queue);
    if (b->err != SLM_OK)
        return NULL;
    for (uint32_t s = 0; s < c->n_states; s++) {
        count[s] = UINT32_MAX;
        for (uint32_t k = 0; k < c->n_classes; k++)
            waits[s] += c->next[(size_t)s * c->n_classes + k] != NODE_NONE;
        if (waits[s] == 0)
            queue[n++] = s;
    }
    for (uint32_t q = 0; q < n && build_goes_on(b); q++) {
        count[queue[q]] = count_state(c, size, count, queue[q]);
        for (uint32_t i = first[queue[q]]; i < first[queue[q] + 1]; i++)
            if (--waits[list[i]] == 0)
                queue[n++] = list[i];
    }
    return b->err == SLM_OK ? count : NULL;
}

/* ------------------------------------------------------------------ listing */

struct list_level {
    uint32_t state, span, cp; /* next character to try */
    uint32_t len;             /* bytes of the prefix */
};

#define LIST_BYTES 1024 /* of one string, as of the keys that are read */

uint32_t chars_list(struct build *b, const struct chars *c, char **out, uint32_t most) {
    struct list_level *level = build_alloc(b, LIST_BYTES, sizeof *level);
    char *text = build_alloc(b, LIST_BYTES + 8, 1);
    uint32_t n = 0, depth = 0;
    if (b->err != SLM_OK)
        return 0;
    if (c->accept[0])
        out[n++] = arena_strdup(&b->arena, "", 0);
    level[0] = (struct list_level){ 0, 0, 1, 0 };
    while (n < most && build_goes_on(b)) {
        struct list_level *l = &level[depth];
        uint32_t end = l->span + 1 < c->n_spans ? c->bounds[l->span + 1] : CP_MAX + 1;
        if (l->cp >= 0xd800 && l->cp <= 0xdfff)
            l->cp = 0xe000;
        uint32_t to = NODE_NONE;
        if (l->cp < end)
            to = c->next[(size_t)l->state * c->n_classes + c->classes[l->span]];
        if (to == NODE_NONE) { /* nothing more in this span */
            if (l->span + 1 < c->n_spans) {
                l->span++;
                l->cp = l->cp > end ? l->cp : end;
            } else if (depth == 0)
                break;
            else
                depth--;
            continue;
        }
        uint32_t len = l->len + (uint32_t)utf8_encode(l->cp++, text + l->len);
        if (len >= LIST_BYTES - 4 || depth + 1 >= LIST_BYTES) {
            build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "a key of more than %d bytes", LIST_BYTES);
            break;
        }
        if (c->accept[to]) {
            out[n] = arena_strdup(&b->arena, text, len);
            if (out[n++] == NULL)
                build_fail(b, SLM_E_BUDGET, SLM_NO_OFFSET, "keys of the constraint are too long");
        }
        level[++depth] = (struct list_level){ to, 0, 1, len };
    }
    return b->err == SLM_OK ? n : 0;
}
