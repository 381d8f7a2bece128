/* branches.h - how likely each of many continuations of one sequence is.
 *
 * The continuations form a tree: what several begin with in common is evaluated once. Its branches are
 * evaluated beside each other, several in a pass, on forks of the sequence: sequences that share its
 * pages of keys and values and get pages of their own from where they differ. A token's numbers do not
 * depend on what is computed with it (forward.c), so every continuation gets the bits that it would
 * get if it were appended alone. */
#ifndef SLM_SESSION_BRANCHES_H
#define SLM_SESSION_BRANCHES_H

#include "session/runner.h"

#define BRANCH_NONE UINT32_MAX
#define BRANCH_NODES_MAX ((size_t)1 << 20) /* tokens of all continuations together */

struct branch_node {
    int32_t id;
    uint32_t parent, child, next; /* nodes; the root, which stands for the sequence, is 0 */
    uint32_t depth;               /* ids after the sequence; of the root 0 */
    bool asked;                   /* the logits behind it are looked at */
    bool given;                   /* it was added as part of a prompt */
    double logprob;               /* of id after the ids before it; of the root 0 */
    double end;                   /* log-probability that the turn ends behind id (any stop id); of
                                     a model without stop ids 0 */
};
struct branches {
    const struct slm_hooks *hooks; /* borrowed */
    struct branch_node *nodes;     /* [n] a node comes after its parent */
    size_t n, room;
    bool
        open; /* continuations need not end: nodes that nothing follows are not evaluated, their end is 0 */
    size_t passes, rows; /* that branches_score took; rows of given ids are not counted */
};

slm_err branches_init(struct branches *b, const struct slm_hooks *h, slm_why *why);
void branches_free(struct branches *b); /* also one of zeros */
/* Adds ids [n >= 1] behind node `at` (0: behind the sequence); *leaf is the node of the last one. *twice (may
 * be NULL): it was there before. given: they are part of a prompt, nothing is asked behind them but the
 * last one. */
slm_err branches_add(struct branches *b, uint32_t at, const int32_t *ids, size_t n, bool given,
                     uint32_t *leaf, bool *twice, slm_why *why);
/* Fills in logprob and end of every node that is asked about, or as `open` says. q is evaluated, with logits
 * where the root is asked about, and has room for the longest
 * continuation; it holds the same ids afterwards, but its logits are gone. Errors as forward_run.
 * Cost: one row of a pass for each node that is evaluated; in a pass as many as the runner keeps logits of,
 * `chunk` of those that are given, and as there are free pages for. Memory for the tree alone is taken. */
slm_err branches_score(struct branches *b, struct sequence *q, slm_why *why);
/* log-probability of what leads from node `from` to a leaf: of all its ids, and of the end of the turn
 * behind them. */
double branches_sum(const struct branches *b, uint32_t from, uint32_t leaf);

#endif
