/* bpe.h - byte pair merging of one word at a time; scratch memory and cache of one call. */
#ifndef SLM_TOKEN_BPE_H
#define SLM_TOKEN_BPE_H

#include "token/tokenizer.h"

/* Ids that grow; released with mem_free(hooks, ids). */
struct id_list {
    const struct slm_hooks *hooks; /* borrowed */
    int32_t *ids;                  /* [n] */
    size_t n, cap;
};
slm_err id_list_put(struct id_list *list, int32_t id, slm_why *why);

struct bpe;
/* n_text: bytes that will come in all; sizes the cache. t and out are borrowed until bpe_free. */
slm_err bpe_new(const struct tokenizer *t, struct id_list *out, size_t n_text, struct bpe **b,
                slm_why *why);
void bpe_free(struct bpe *b); /* NULL allowed */

/* Appends the ids of the word s [n], n > 0, which no merge leaves or enters. */
slm_err bpe_word(struct bpe *b, const uint8_t *s, size_t n, slm_why *why);

#endif
