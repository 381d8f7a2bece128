/* vocab.h - the trie of a vocabulary, as the matcher walks it.
 *
 * Entries stand in the order of a walk: an entry, then all that lies below it. So a walk reads memory
 * forward, and to leave out what lies below an entry is to go on at its `next`. */
#ifndef SLM_CONSTRAIN_VOCAB_H
#define SLM_CONSTRAIN_VOCAB_H

#include "constrain/constrain.h"

#define TOKEN_NONE UINT32_MAX
#define TOKEN_SAME ((uint32_t)1 << 31) /* of an entry's token: there are others with these bytes */
#define TOKEN_ID (TOKEN_SAME - 1)

struct trie_entry {
    uint32_t next;  /* first entry behind everything below this one */
    uint32_t token; /* id whose bytes end here, with TOKEN_SAME; TOKEN_NONE: none */
    uint16_t depth; /* bytes down to here, at least 1 */
    uint8_t byte;
};
struct constrain_vocab {
    struct slm_hooks hooks;
    uint32_t n_tokens, n_entries, longest; /* longest: bytes of the longest token */
    struct trie_entry *trie;               /* [n_entries] */
    uint32_t *same; /* [n_tokens] another id with the same bytes, TOKEN_NONE at the end */
    size_t *offset; /* [n_tokens + 1] in text */
    char *text;
    uint32_t *long_ids; /* [n_long] tokens of more than TWIN_BYTES bytes, by id */
    uint32_t n_long;
    uint64_t identity; /* of its contents, for caches */
    size_t bytes;
};

/* Bytes of the path down to an entry: of the first token at or below it. */
const char *vocab_path(const struct constrain_vocab *v, uint32_t entry);

#endif
