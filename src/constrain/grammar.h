/* grammar.h - the compiled automaton, and the builder that makes it.
 *
 * The automaton reads bytes and has a stack. A node has edges, each for a range of bytes: to another
 * node of the same frame, or, with `ret`, into a new frame whose end goes on at `ret`. A frame ends at
 * a final node. Several edges of a node may take the same byte: a matcher follows all of them.
 *
 * While it is built a node may also have calls ("what this rule reads comes here, then go on there")
 * and aliases ("this node also reads what that one reads"); build_finish turns both into plain edges by
 * copying the first edges of what is called, so that every step of the result consumes a byte. A rule is
 * the node where it starts; it begins with bytes or aliases, never with a call, and is never empty.
 *
 * Free keys: JSON objects whose keys are not known beforehand must not repeat one. Nodes inside such a
 * key are marked NODE_KEY, its end NODE_KEY_END; the matcher remembers the keys of every open object.
 * A key has one spelling only (chars.h), so equal keys are equal bytes. */
#ifndef SLM_CONSTRAIN_GRAMMAR_H
#define SLM_CONSTRAIN_GRAMMAR_H

#include <stdatomic.h>

#include "constrain/constrain.h"

#define NODE_NONE UINT32_MAX

enum node_flag {
    NODE_FINAL = 1,
    NODE_KEY = 2,     /* reached inside a free key: the byte that led here belongs to it */
    NODE_KEY_END = 4, /* final, and behind a free key */
    NODE_CHAIN = 8    /* of a long repetition: has twins, perhaps */
};
struct node {
    uint32_t first, n_edges; /* in edges */
    uint32_t flags;
};
struct edge {
    uint32_t to, ret; /* ret NODE_NONE: stays in the frame */
    uint8_t lo, hi;
};

/* Masks that were computed, by vocabulary and node: kept in the grammar, so that all its matchers share
 * them. A bucket is a list that only ever grows at its head. */
struct mask_entry;
#define MASK_BUCKETS 1024
#define MASK_CACHE_BYTES ((size_t)32 << 20)
struct mask_cache {
    _Atomic(struct mask_entry *) bucket[MASK_BUCKETS];
    _Atomic size_t bytes;
};

/* Few tokens are longer than the first, hardly any than the second. */
enum { TWINS = 2, TWIN_BYTES = 32, TWIN_BYTES_FAR = 128 };

struct grammar {
    struct slm_hooks hooks;
    struct node *nodes; /* [n_nodes] */
    struct edge *edges; /* [n_edges], those of a node by lo */
    uint32_t
        *twin[TWINS]; /* [n_nodes] the node that stands for all that read the same for twin_bytes[i]
                              bytes, NODE_NONE: it is alone; NULL: not looked for */
    uint32_t n_nodes, n_edges, start;
    size_t bytes;
    struct mask_cache *cache;
};

void mask_cache_free(const struct slm_hooks *h, struct mask_cache *c);

/* ------------------------------------------------------------------ builder */

enum build_kind { EDGE_BYTES, EDGE_CALL, EDGE_ALIAS };
struct build_edge {
    uint32_t to, ret, next; /* next edge of the node, NODE_NONE at the end */
    uint8_t lo, hi, kind;
};
struct build_node {
    uint32_t edges; /* first, NODE_NONE */
    uint32_t flags;
};

struct chars;
struct build {
    const struct slm_hooks *hooks;
    slm_why *why;
    slm_err err;              /* the first failure sticks; everything below does nothing then */
    struct arena arena;       /* of what is needed while building, within max_bytes */
    struct build_node *nodes; /* [n_nodes] */
    struct build_edge *edges; /* [n_edges] */
    uint32_t n_nodes, cap_nodes, n_edges, cap_edges;
    uint32_t max_nodes;
    size_t max_bytes, grown; /* grown: bytes of the arrays */
    uint64_t deadline;       /* clock_ns */
    uint32_t ticks;
    bool spaced, python; /* any white space between JSON tokens; literals of Python */
    bool chained;        /* long repetitions: look for twins */
    uint32_t any, any_object, string, string_body, number, integer,
        space_rule; /* NODE_NONE: not made yet */
    uint32_t
        into[7]; /* shared endings of UTF-8 sequences, see chars.c; into[0] NODE_NONE: not made */
    uint32_t escapes; /* the shared rule of what follows a backslash */
};

slm_err build_init(struct build *b, const struct slm_hooks *h, const struct grammar_limits *limits,
                   slm_why *why);
void build_free(struct build *b);
/* Fills why and sticks. Returns the code. */
slm_err build_fail(struct build *b, slm_err code, uint64_t offset, const char *format, ...)
    ATTR_PRINTF(4, 5);
/* False when building has failed, and when time is over (which then is the failure). Cheap enough for
 * inner loops. */
bool build_goes_on(struct build *b);
/* Zeroed memory that lives as long as the builder; NULL (and failed) when there is none. */
void *build_alloc(struct build *b, size_t n, size_t size);
/* Makes room for one more in an array of the arena: the old one stays where it is until the end, so
 * arrays double. */
bool build_grow(struct build *b, void **array, uint32_t n, uint32_t *cap, size_t size);

uint32_t build_node(struct build *b); /* node 0, which is harmless, after a failure */
uint32_t build_final(struct build *b);
void build_mark(struct build *b, uint32_t node, uint32_t flags);
void build_edge(struct build *b, uint32_t from, unsigned lo, unsigned hi, uint32_t to);
void build_push(struct build *b, uint32_t from, unsigned lo, unsigned hi, uint32_t to,
                uint32_t ret);
void build_call(struct build *b, uint32_t from, uint32_t rule, uint32_t after);
void build_alias(struct build *b, uint32_t from, uint32_t rule);
/* Reads the bytes s [n] one after the other; returns the node behind them. */
uint32_t build_text(struct build *b, uint32_t from, const char *s, size_t n);
void build_text_to(struct build *b, uint32_t from, const char *s, size_t n,
                   uint32_t to); /* n > 0 */
/* The same in a tree of words below `from`, which has edges for single bytes only: beginnings are shared. */
uint32_t build_word(struct build *b, uint32_t from, const char *s, size_t n);
/* White space that may stand between JSON tokens: a node that also reads it and goes on as `node`. */
uint32_t build_spaced(struct build *b, uint32_t node);
/* Takes away what cannot end, and what cannot be reached. E_FORMAT when nothing is left: the language
 * is empty. *out is returned owned. The builder is of no use afterwards but to build_free. */
slm_err build_finish(struct build *b, uint32_t start, struct grammar **out);

/* ------------------------------------------------------------------ rules that all share (json_rules.c) */

uint32_t rule_any(struct build *b); /* any JSON value */
uint32_t rule_any_object(struct build *b);
uint32_t rule_string(struct build *b); /* with quotes */
uint32_t rule_number(struct build *b);
uint32_t rule_integer(struct build *b);
/* From `from` the literal null, true or false to `to`. */
void rule_null(struct build *b, uint32_t from, uint32_t to);
void rule_true(struct build *b, uint32_t from, uint32_t to);
void rule_false(struct build *b, uint32_t from, uint32_t to);
/* Text of a JSON value in the spelling that constants have: members as they are ordered, ", " and ": "
 * (or none, when white space is free), and Python's names for the literals where those are wanted. */
bool rule_spell(struct build *b, const json_t *value, struct buf *out);
/* A string as a key or a constant is spelled, with quotes: only what must be escaped is. */
void rule_quote(struct buf *out, const char *s, size_t n);

#endif
