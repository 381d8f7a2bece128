/* regex.h - the tree of a regular expression, between its parser and the automaton made from it. */
#ifndef SLM_CONSTRAIN_REGEX_H
#define SLM_CONSTRAIN_REGEX_H

#include "constrain/chars.h"

#define REPEAT_MOST 10000 /* {n,m} */
#define REPEAT_ENDLESS UINT32_MAX

enum re_kind { RE_EMPTY, RE_SET, RE_CAT, RE_ALT, RE_REPEAT, RE_BEGIN, RE_END };
struct re_node {
    uint8_t kind;
    uint32_t left, right; /* CAT, ALT: nodes; REPEAT: left; SET: left is the set */
    uint32_t min, max;    /* REPEAT */
};
struct re_set {
    struct span *spans; /* [n] sorted, apart */
    uint32_t n, cap;
};
struct regex {
    struct re_node *nodes; /* [n_nodes] */
    struct re_set *sets;   /* [n_sets] */
    uint32_t n_nodes, cap_nodes, n_sets, cap_sets;
    uint32_t root;
};

/* E_FORMAT with the offset in the pattern, E_UNSUPPORTED for look-around, back references, word
 * boundaries and properties of characters; sticks in the builder. */
bool regex_parse(struct build *b, const char *pattern, size_t n, const char *where,
                 struct regex *out);

#endif
