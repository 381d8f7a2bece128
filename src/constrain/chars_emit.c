/* chars_emit.c - from automata over code points to nodes that read bytes.
 *
 * A character above ASCII is two to four bytes. Where all characters behind a lead byte go to the same
 * state (nearly always), what follows the lead is one of seven small pieces: one, two or three
 * continuation bytes, or the narrower second byte after E0, ED, F0 and F4 (RFC 3629, section 4). The
 * pieces exist once for each state that they lead to, or once for all as rules of a frame of their own:
 * the latter keeps long chains, as of "maxLength", at one node for each character. */
#include <string.h>

#include "constrain/chars.h"

#define CHAIN 256     /* from so many states on, pieces are shared */
#define TWINS_FROM 33 /* fewer have none: TWIN_BYTES */

enum { CONT1, CONT2, CONT3, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4, N_INTO };

static const struct lead {
    uint8_t lo, hi, into, length;
} leads[] = {
    { 0xc2, 0xdf, CONT1, 2 },    { 0xe0, 0xe0, AFTER_E0, 3 }, { 0xe1, 0xec, CONT2, 3 },
    { 0xed, 0xed, AFTER_ED, 3 }, { 0xee, 0xef, CONT2, 3 },    { 0xf0, 0xf0, AFTER_F0, 4 },
    { 0xf1, 0xf3, CONT3, 4 },    { 0xf4, 0xf4, AFTER_F4, 4 },
};

/* The seven pieces, all leading to `to`. */
static void make_into(struct build *b, uint32_t to, uint32_t flags, uint32_t into[N_INTO]) {
    for (int i = 0; i < N_INTO; i++) {
        into[i] = build_node(b);
        build_mark(b, into[i], flags);
    }
    build_edge(b, into[CONT1], 0x80, 0xbf, to);
    build_edge(b, into[CONT2], 0x80, 0xbf, into[CONT1]);
    build_edge(b, into[CONT3], 0x80, 0xbf, into[CONT2]);
    build_edge(b, into[AFTER_E0], 0xa0, 0xbf, into[CONT1]);
    build_edge(b, into[AFTER_ED], 0x80, 0x9f, into[CONT1]);
    build_edge(b, into[AFTER_F0], 0x90, 0xbf, into[CONT2]);
    build_edge(b, into[AFTER_F4], 0x80, 0x8f, into[CONT2]);
}

static const uint32_t *shared_into(struct build *b) {
    if (b->into[0] == NODE_NONE)
        make_into(b, build_final(b), 0, b->into);
    return b->into;
}

/* ------------------------------------------------------------------ escapes of JSON strings */

static void edge_hex(struct build *b, uint32_t from, uint32_t to, unsigned least) {
    if (least <= 9)
        build_edge(b, from, '0' + least, '9', to);
    build_edge(b, from, least > 9 ? 'a' + least - 10 : 'a', 'f', to);
    build_edge(b, from, least > 9 ? 'A' + least - 10 : 'A', 'F', to);
}

/* What may follow a backslash, any spelling: RFC 8259, section 7, with surrogates in pairs and without
 * the zero character. Leads to `to`. */
static uint32_t any_escape(struct build *b, uint32_t to) {
    static const char plain[] = "\"\\/bfnrt";
    uint32_t start = build_node(b), u = build_node(b);
    for (const char *p = plain; *p != '\0'; p++)
        build_edge(b, start, (uint8_t)*p, (uint8_t)*p, to);
    build_edge(b, start, 'u', 'u', u);
    uint32_t x1 = build_node(b), x2 = build_node(b), x3 = build_node(b); /* digits still to come */
    edge_hex(b, x1, to, 0);
    edge_hex(b, x2, x1, 0);
    edge_hex(b, x3, x2, 0);
    uint32_t zero = build_node(b), zeros = build_node(b), last = build_node(b);
    build_edge(b, u, '0', '0', zero);
    build_edge(b, zero, '0', '0', zeros);
    edge_hex(b, zero, x2, 1);
    build_edge(b, zeros, '0', '0', last);
    edge_hex(b, zeros, x1, 1);
    edge_hex(b, last, to, 1);
    uint32_t d = build_node(b);
    build_edge(b, u, '1', '9', x3);
    build_edge(b, u, 'a', 'c', x3);
    build_edge(b, u, 'A', 'C', x3);
    build_edge(b, u, 'e', 'f', x3);
    build_edge(b, u, 'E', 'F', x3);
    build_edge(b, u, 'd', 'd', d);
    build_edge(b, u, 'D', 'D', d);
    build_edge(b, d, '0', '7', x2);
    uint32_t high = build_node(b), high1 = build_node(b), pair = build_node(b);
    build_edge(b, d, '8', '9', high);
    build_edge(b, d, 'a', 'b', high);
    build_edge(b, d, 'A', 'B', high);
    edge_hex(b, high, high1, 0);
    edge_hex(b, high1, pair, 0);
    uint32_t low = build_text(b, pair, "\\u", 2), low2 = build_node(b);
    uint32_t low3 = build_node(b);
    build_edge(b, low, 'd', 'd', low2);
    build_edge(b, low, 'D', 'D', low2);
    edge_hex(b, low2, low3, 12);
    edge_hex(b, low3, x1, 0);
    return start;
}

uint32_t chars_any_string(struct build *b, uint32_t min, uint32_t max) {
    uint32_t last = max == UINT32_MAX ? min : max, end = build_final(b), first = NODE_NONE;
    bool chain = last >= CHAIN, twins = last >= TWINS_FROM;
    uint32_t next = NODE_NONE, own[N_INTO];
    uint32_t flags = twins ? NODE_CHAIN : 0;
    b->chained = b->chained || twins;
    /* from the last state backwards, so that what a state leads to exists */
    for (uint32_t i = last;; i--) {
        uint32_t at = build_node(b), to = i == last && max == UINT32_MAX ? at : next;
        build_mark(b, at, flags);
        if (i >= min)
            build_edge(b, at, '"', '"', end);
        if (to != NODE_NONE) {
            build_edge(b, at, 0x20, 0x21, to);
            build_edge(b, at, 0x23, 0x5b, to);
            build_edge(b, at, 0x5d, 0x7f, to);
            bool frame = chain && to != at, escape = last > 4 && to != at;
            if (escape && b->escapes == NODE_NONE)
                b->escapes = any_escape(b, build_final(b));
            const uint32_t *into = frame ? shared_into(b) : own;
            if (!frame)
                make_into(b, to, flags, own);
            uint32_t ret = frame ? to : NODE_NONE;
            build_push(b, at, '\\', '\\', escape ? b->escapes : any_escape(b, to),
                       escape ? to : NODE_NONE);
            for (size_t k = 0; k < ARRAY_LEN(leads); k++)
                build_push(b, at, leads[k].lo, leads[k].hi, into[leads[k].into], ret);
        }
        first = next = at;
        if (i == 0 || b->err != SLM_OK)
            return first;
    }
}

/* ------------------------------------------------------------------ one automaton */

struct emit {
    struct build *b;
    const struct chars *c;
    enum chars_kind kind;
    uint32_t flags;  /* of all nodes made */
    uint32_t *node;  /* [n_states] NODE_NONE: not met */
    uint32_t *queue; /* [n_states] */
    uint32_t n_queue, end;
    uint32_t *into;   /* [n_states, N_INTO], into[0] NODE_NONE: not made */
    uint32_t *escape; /* [n_states] what follows a backslash when all goes to that state */
    uint32_t shared_escape;
    bool chain;
};

static uint32_t new_node(struct emit *e) {
    uint32_t node = build_node(e->b);
    build_mark(e->b, node, e->flags);
    return node;
}

static uint32_t state_node(struct emit *e, uint32_t state) {
    if (e->node[state] == NODE_NONE) {
        e->node[state] = new_node(e);
        e->queue[e->n_queue++] = state;
    }
    return e->node[state];
}

static uint32_t span_of(const struct chars *c, uint32_t cp) {
    uint32_t lo = 0, hi = c->n_spans;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (c->bounds[mid] <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

static uint32_t target(const struct emit *e, uint32_t state, uint32_t span) {
    return e->c->next[(size_t)state * e->c->n_classes + e->c->classes[span]];
}

/* All code points lo..hi go to one place: it (or NODE_NONE for nowhere) is in *to. */
static bool uniform(const struct emit *e, uint32_t state, uint32_t lo, uint32_t hi, uint32_t *to) {
    uint32_t span = span_of(e->c, lo);
    *to = target(e, state, span);
    while (++span < e->c->n_spans && e->c->bounds[span] <= hi)
        if (target(e, state, span) != *to)
            return false;
    return true;
}

/* An edge from `from` for a lead byte (or one of those within a sequence) into a piece that ends at the
 * state `to`. */
static void edge_into(struct emit *e, uint32_t from, unsigned lo, unsigned hi, unsigned piece,
                      uint32_t state, uint32_t to) {
    if (e->chain && to != state) {
        build_push(e->b, from, lo, hi, shared_into(e->b)[piece], state_node(e, to));
        return;
    }
    uint32_t *into = e->into + (size_t)to * N_INTO;
    if (into[0] == NODE_NONE)
        make_into(e->b, state_node(e, to), e->flags, into);
    build_edge(e->b, from, lo, hi, into[piece]);
}

struct partial {
    uint32_t node, base; /* code point of the continuation bytes 80 80 .. */
    unsigned left;       /* continuation bytes to come */
    unsigned lo, hi;     /* allowed for the next one */
};

/* A lead byte whose characters go to several places. */
static void emit_partial(struct emit *e, uint32_t state, struct partial first) {
    struct partial stack[3 * 64]; /* at most 64 are added where one was taken, on three levels */
    unsigned n = 0;
    stack[n++] = first;
    while (n > 0 && build_goes_on(e->b)) {
        struct partial p = stack[--n];
        for (unsigned byte = p.lo; byte <= p.hi; byte++) {
            uint32_t size = (uint32_t)1 << (6 * (p.left - 1)), to;
            uint32_t base = p.base + (byte - 0x80) * size;
            bool one = uniform(e, state, base, base + size - 1, &to);
            if (one && to == NODE_NONE)
                continue;
            if (p.left == 1)
                build_edge(e->b, p.node, byte, byte, state_node(e, to));
            else if (one)
                edge_into(e, p.node, byte, byte, p.left == 2 ? CONT1 : CONT2, state, to);
            else {
                uint32_t node = new_node(e);
                build_edge(e->b, p.node, byte, byte, node);
                stack[n++] = (struct partial){ node, base, p.left - 1, 0x80, 0xbf };
            }
        }
    }
}

static void emit_lead(struct emit *e, uint32_t state, const struct lead *l, unsigned byte) {
    uint32_t size = (uint32_t)1 << (6 * (l->length - 1)), to;
    static const uint8_t range[N_INTO][2] = { { 0x80, 0xbf }, { 0x80, 0xbf }, { 0x80, 0xbf },
                                              { 0xa0, 0xbf }, { 0x80, 0x9f }, { 0x90, 0xbf },
                                              { 0x80, 0x8f } };
    unsigned lo = range[l->into][0], hi = range[l->into][1];
    uint32_t base = l->length == 2   ? (uint32_t)(byte & 0x1f) << 6
                    : l->length == 3 ? (uint32_t)(byte & 0x0f) << 12
                                     : (uint32_t)(byte & 0x07) << 18;
    uint32_t low = base + (lo - 0x80) * (size >> 6), high = base + (hi - 0x7f) * (size >> 6) - 1;
    if (uniform(e, state, low, high, &to)) {
        if (to != NODE_NONE)
            edge_into(e, e->node[state], byte, byte, l->into, state, to);
        return;
    }
    uint32_t node = new_node(e);
    build_edge(e->b, e->node[state], byte, byte, node);
    emit_partial(e, state, (struct partial){ node, base, l->length - 1u, lo, hi });
}

static void emit_above_ascii(struct emit *e, uint32_t state) {
    uint32_t to;
    bool one = uniform(e, state, 0x80, CP_MAX, &to);
    if (one && to == NODE_NONE)
        return;
    for (size_t i = 0; i < ARRAY_LEN(leads); i++) {
        if (one)
            edge_into(e, e->node[state], leads[i].lo, leads[i].hi, leads[i].into, state, to);
        for (unsigned byte = leads[i].lo; !one && byte <= leads[i].hi; byte++)
            emit_lead(e, state, &leads[i], byte);
    }
}

static void ascii_edges(struct emit *e, uint32_t state, unsigned lo, unsigned hi) {
    while (lo <= hi) {
        uint32_t span = span_of(e->c, lo), to = target(e, state, span);
        unsigned end = hi;
        while (++span < e->c->n_spans && e->c->bounds[span] <= hi)
            if (target(e, state, span) != to) {
                end = e->c->bounds[span] - 1;
                break;
            }
        if (to != NODE_NONE)
            build_edge(e->b, e->node[state], lo, end, state_node(e, to));
        lo = end + 1;
    }
}

/* ------------------------------------------------------------------ the one spelling in strings */

static const struct short_escape {
    char letter, cp;
} short_escapes[] = { { '"', '"' },  { '\\', '\\' }, { 'b', '\b' }, { 'f', '\f' },
                      { 'n', '\n' }, { 'r', '\r' },  { 't', '\t' } };

static bool has_short(unsigned cp) {
    for (size_t i = 0; i < ARRAY_LEN(short_escapes); i++)
        if ((unsigned)short_escapes[i].cp == cp)
            return true;
    return false;
}

/* What follows a backslash in a state; `to` for every character, or by the state's own transitions. */
static uint32_t escape_node(struct emit *e, uint32_t state, uint32_t all) {
    struct build *b = e->b;
    uint32_t start = new_node(e), digit[2] = { NODE_NONE, NODE_NONE }, zeros = NODE_NONE;
    for (size_t i = 0; i < ARRAY_LEN(short_escapes); i++) {
        unsigned cp = (uint8_t)short_escapes[i].cp, letter = (uint8_t)short_escapes[i].letter;
        uint32_t to = all != NODE_NONE ? all : target(e, state, span_of(e->c, cp));
        if (all == NODE_NONE && to != NODE_NONE)
            to = state_node(e, to);
        if (to != NODE_NONE)
            build_edge(b, start, letter, letter, to);
    }
    for (unsigned cp = 1; cp < 0x20; cp++) {
        uint32_t to = all != NODE_NONE ? all : target(e, state, span_of(e->c, cp));
        if (to == NODE_NONE || has_short(cp))
            continue;
        if (all == NODE_NONE)
            to = state_node(e, to);
        if (zeros == NODE_NONE) {
            uint32_t u = new_node(e), zero = new_node(e);
            zeros = new_node(e);
            build_edge(b, start, 'u', 'u', u);
            build_edge(b, u, '0', '0', zero);
            build_edge(b, zero, '0', '0', zeros);
        }
        unsigned high = cp >> 4, low = cp & 15;
        if (digit[high] == NODE_NONE) {
            digit[high] = new_node(e);
            build_edge(b, zeros, '0' + high, '0' + high, digit[high]);
        }
        unsigned hex = low < 10 ? '0' + low : 'a' + low - 10;
        build_edge(b, digit[high], hex, hex, to);
    }
    return start;
}

static void emit_escapes(struct emit *e, uint32_t state) {
    uint32_t to, quote, slash;
    bool one = uniform(e, state, 1, 0x1f, &to);
    uniform(e, state, '"', '"', &quote);
    uniform(e, state, '\\', '\\', &slash);
    uint32_t from = e->node[state];
    if (!one || quote != to || slash != to) {
        build_edge(e->b, from, '\\', '\\', escape_node(e, state, NODE_NONE));
    } else if (to != NODE_NONE && e->chain && to != state) {
        if (e->shared_escape == NODE_NONE)
            e->shared_escape = escape_node(e, 0, build_final(e->b));
        build_push(e->b, from, '\\', '\\', e->shared_escape, state_node(e, to));
    } else if (to != NODE_NONE) {
        if (e->escape[to] == NODE_NONE)
            e->escape[to] = escape_node(e, 0, state_node(e, to));
        build_edge(e->b, from, '\\', '\\', e->escape[to]);
    }
}

static void emit_state(struct emit *e, uint32_t state) {
    if (e->kind == CHARS_RAW) {
        if (e->c->accept[state])
            build_mark(e->b, e->node[state], NODE_FINAL);
        ascii_edges(e, state, 1, 0x7f);
    } else {
        if (e->c->accept[state])
            build_edge(e->b, e->node[state], '"', '"', e->end);
        ascii_edges(e, state, 0x20, 0x21);
        ascii_edges(e, state, 0x23, 0x5b);
        ascii_edges(e, state, 0x5d, 0x7f);
        emit_escapes(e, state);
    }
    emit_above_ascii(e, state);
}

uint32_t chars_emit(struct build *b, const struct chars *c, enum chars_kind kind) {
    if (b->err != SLM_OK || c == NULL)
        return 0;
    struct emit e = { .b = b, .c = c, .kind = kind, .shared_escape = NODE_NONE };
    bool twins = kind != CHARS_KEY && c->n_states >= TWINS_FROM;
    e.flags = (kind == CHARS_KEY ? NODE_KEY : 0) | (twins ? NODE_CHAIN : 0);
    e.chain = kind != CHARS_KEY && c->n_states >= CHAIN;
    b->chained = b->chained || twins;
    e.node = build_alloc(b, c->n_states, sizeof *e.node);
    e.queue = build_alloc(b, c->n_states, sizeof *e.queue);
    e.into = build_alloc(b, c->n_states, N_INTO * sizeof *e.into);
    e.escape = build_alloc(b, c->n_states, sizeof *e.escape);
    if (b->err != SLM_OK)
        return 0;
    memset(e.node, 0xff, c->n_states * sizeof *e.node);
    memset(e.into, 0xff, c->n_states * N_INTO * sizeof *e.into);
    memset(e.escape, 0xff, c->n_states * sizeof *e.escape);
    if (kind != CHARS_RAW)
        e.end = build_final(b);
    if (kind == CHARS_KEY)
        build_mark(b, e.end, NODE_KEY_END);
    state_node(&e, 0);
    for (uint32_t q = 0; q < e.n_queue && build_goes_on(b); q++)
        emit_state(&e, e.queue[q]);
    return e.node[0];
}
