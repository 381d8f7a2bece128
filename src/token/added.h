/* added.h - added tokens: exact strings that are cut from the text before anything else. */
#ifndef SLM_TOKEN_ADDED_H
#define SLM_TOKEN_ADDED_H

#include "token/tokenizer.h"

/* Adds s [n] -> id; *fresh is false when the string was there (nothing changes then). */
slm_err added_put(const struct slm_hooks *h, struct added_trie *trie, const char *s, size_t n,
                  uint32_t id, bool *fresh, slm_why *why);
/* Fills t->normalised with the normalised contents of the tokens that have TF_NORMALIZED. */
slm_err added_put_normalised(struct tokenizer *t, slm_why *why);
uint32_t added_find(const struct added_trie *trie, const char *s, size_t n); /* or NO_TOKEN */
void added_mark(struct tokenizer *t, const char *text, size_t n);
void added_free(const struct slm_hooks *h, struct added_trie *trie);

/* Where text is trusted: the borders of the pieces. */
struct trust {
    const struct token_piece *pieces; /* [n], NULL: all is trusted */
    size_t n;
    size_t at, at_start; /* the piece that was asked for last, and where it starts */
};

/* One walk over a text: cuts it into added tokens and what is between them. */
struct added_scan {
    const struct tokenizer *t;
    const struct added_trie *trie;
    const uint8_t *s; /* [n] */
    size_t n;
    size_t pos;           /* where the search goes on */
    size_t done;          /* end of the last token that was given out */
    struct trust *trust;  /* NULL: all is trusted */
    bool normalised_pass; /* match the tokens that the pass over the raw text left */
};
struct added_match {
    uint32_t id;
    size_t start, stop; /* bytes that the token replaces, stripped white space included */
};
/* The next token, false when there is none. The text before it is s[scan.done before the call ..
 * match.start). */
bool added_next(struct added_scan *scan, struct added_match *match);

#endif
