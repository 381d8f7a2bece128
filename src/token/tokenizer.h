/* tokenizer.h - the inside of struct tokenizer: vocabulary, merges, added tokens, and their builder.
 *
 * Texts are kept as the bytes that a token stands for: the byte alphabet of byte-level BPE and the
 * metaspace (U+2581) of SentencePiece vocabularies are undone when an entry is added, once, so that
 * encoding and decoding work on plain UTF-8. */
#ifndef SLM_TOKEN_TOKENIZER_H
#define SLM_TOKEN_TOKENIZER_H

#include "token/token.h"

#define RANK_NONE UINT32_MAX
#define NO_TOKEN UINT32_MAX
#define METASPACE "\xe2\x96\x81" /* stands for a space in SentencePiece vocabularies */
#define METASPACE_CP 0x2581u

enum token_flag {
    TF_PRESENT = 1,
    TF_VOCAB = 2,        /* entry of the model's vocabulary: can be the part or result of a merge */
    TF_ADDED = 4,        /* cut from the text before anything else */
    TF_SPECIAL = 8,      /* left out by skip_special_tokens */
    TF_CONTROL = 16,     /* never matched in text that comes from an untrusted place */
    TF_BYTE = 32,        /* <0xNN> of a SentencePiece vocabulary: stands for that one byte */
    TF_RAW = 64,         /* text is as written in the file: it cannot come from the alphabet */
    TF_LSTRIP = 128,     /* swallows white space before it */
    TF_RSTRIP = 256,     /* swallows white space after it */
    TF_SINGLE = 512,     /* only between characters that are no word characters */
    TF_NORMALIZED = 1024 /* matched in the normalised text */
};

struct token_entry {
    uint32_t offset; /* in pool */
    uint16_t n;
    uint16_t flags;
};

/* Open addressing, linear probing. A slot holds the upper half of the text's hash and id + 1. */
struct text_map {
    uint64_t *slots; /* [mask + 1], 0 = empty */
    size_t mask, used;
    uint64_t *filter; /* with ignore_merges: a bit for the hash of each entry */
};

#define TEXT_FILTER_BITS ((size_t)1 << 20)

/* (left, right) -> rank. A slot holds left (20 bits), right (20), rank (20); all ones = empty. */
struct pair_map {
    uint64_t *slots; /* [1 << (64 - shift)] */
    unsigned shift;
    size_t used;
    /* filter: a pair that is there has two bits set in one word; most that are not are turned away
     * here, in a cache that the slots do not fit into */
    uint64_t *filter; /* [1 << (64 - filter_shift)] */
    unsigned filter_shift;
};
#define PAIR_EMPTY UINT64_MAX
#define PAIR_MULTIPLIER 0x9e3779b97f4a7c15u

/* Trie of added tokens, edges in a hash table: (node, byte) -> child. */
struct added_trie {
    uint64_t *slots; /* [mask + 1]; node (24 bits) << 32 | byte << 24 | child (24); 0 = empty */
    size_t mask, used;
    uint32_t
        *token; /* [n_nodes] id + 1 of the token that ends here, 0 = none; node 0 is the root */
    uint32_t n_nodes, cap_nodes;
    bool first[256]; /* bytes that some token starts with */
};
#define ADDED_LENGTH_MAX 255 /* bytes of an added token; bounds the work per byte of text */

struct tokenizer {
    struct slm_hooks hooks;
    enum token_model model;
    enum token_split split;
    bool nfc, space_prefix, byte_fallback, fuse_unk, ignore_merges;
    uint32_t size; /* highest id + 1 */
    int32_t bos;
    uint32_t unk; /* NO_TOKEN when there is none */

    struct token_entry *tok; /* [cap_tok], [size] used */
    uint32_t cap_tok;
    size_t longest; /* bytes of the longest vocabulary entry */
    struct buf pool;
    struct text_map texts; /* vocabulary entries by text */
    struct pair_map pairs;
    uint32_t *merged; /* [n_merges] rank -> id of the result */
    uint32_t n_merges, cap_merges;
    struct added_trie raw;        /* added tokens by content */
    struct added_trie normalised; /* those with TF_NORMALIZED, by normalised content */

    uint32_t byte_id[256]; /* byte-level: token of the byte; SPM: of <0xNN>; NO_TOKEN = none */
    /* SPM only: code point -> token, two stages; page 0 is all NO_TOKEN */
    uint16_t *char_page;       /* [0x1100] */
    uint32_t (*char_ids)[256]; /* [n_pages][256] */
    /* SPM only: bit set of the pairs of characters that stand side by side in a result of a merge
     * (hashed: a false positive only means that a safe border is not used) */
    uint64_t *joined;       /* [JOINED_BITS / 64] */
    uint8_t byte_text[256]; /* byte_text[b] = b: the texts of TF_BYTE tokens */
};
#define JOINED_BITS ((size_t)1 << 20)

/* ---- building (tokenizer.c) ---- */
slm_err tokenizer_new(const struct slm_hooks *h, struct tokenizer **out, slm_why *why);

/* What an entry of the file stands for: n bytes at s become *n_out <= n bytes at out; flags get
 * TF_RAW or TF_BYTE. False when a byte-level text is not UTF-8. */
bool vocab_spell(const struct tokenizer *t, const char *s, size_t n, char *out, size_t *n_out,
                 unsigned *flags);

/* Adds the entry `s` [n] (as written in the file) under id. hash: also findable by its text. */
struct vocab_item {
    int64_t id;
    const char *s;
    size_t n;
    unsigned flags;
    bool hash;
    uint64_t offset; /* in the file, for messages */
};
slm_err vocab_add(struct tokenizer *t, const struct vocab_item *item, slm_why *why);
uint32_t vocab_find(const struct tokenizer *t, const char *bytes, size_t n, unsigned raw);
/* The next merge by rank; parts are as written in the file: left [n_left] right [n_right] stand
 * side by side at s. */
slm_err vocab_merge(struct tokenizer *t, const char *s, size_t n_left, size_t n_right,
                    uint64_t offset, slm_why *why);
slm_err vocab_merge_ids(struct tokenizer *t, uint32_t left, uint32_t right, uint32_t result,
                        slm_why *why);
/* Declares content [n] as an added token; the id is that of the vocabulary entry of this text, if
 * there is one, and a new entry otherwise. */
slm_err vocab_add_added(struct tokenizer *t, const struct vocab_item *item, slm_why *why);
/* Last step: byte tokens, tables, consistency. */
slm_err vocab_finish(struct tokenizer *t, slm_why *why);

/* Text for a message: printable, at most 47 bytes. Returns buf. */
#define TOKEN_NAME_MAX 64
const char *token_name(char buf[TOKEN_NAME_MAX], const char *s, size_t n);

/* ---- reading ---- */
static inline const struct token_entry *token_entry(const struct tokenizer *t, int64_t id) {
    if (id < 0 || id >= (int64_t)t->size || !(t->tok[id].flags & TF_PRESENT))
        return NULL;
    return &t->tok[id];
}

/* Two bits of the filter's word, from bits of the product that choose neither word nor slot. */
static inline uint64_t pair_bits(uint64_t product) {
    return (uint64_t)1 << (product >> 28 & 63) | (uint64_t)1 << (product >> 34 & 63);
}

/* A lookup in two steps, so that two of them can wait for memory at the same time. */
struct pair_probe {
    uint64_t key, product, word; /* word of the filter */
};
static inline struct pair_probe pair_ask(const struct tokenizer *t, uint32_t left, uint32_t right) {
    struct pair_probe p;
    p.key = (uint64_t)left << 20 | right;
    p.product = p.key * PAIR_MULTIPLIER;
    p.word = t->pairs.filter[p.product >> t->pairs.filter_shift];
    return p;
}
static inline uint32_t pair_answer(const struct tokenizer *t, struct pair_probe p) {
    uint64_t bits = pair_bits(p.product);
    if ((p.word & bits) != bits)
        return RANK_NONE;
    size_t mask = ((size_t)1 << (64 - t->pairs.shift)) - 1;
    for (size_t i = (size_t)(p.product >> t->pairs.shift);; i = (i + 1) & mask) {
        uint64_t slot = t->pairs.slots[i];
        if (slot >> 20 == p.key)
            return (uint32_t)slot & 0xfffff;
        if (slot == PAIR_EMPTY)
            return RANK_NONE;
    }
}

/* SPM: token of one character (a space finds the metaspace), NO_TOKEN if it has none. */
static inline uint32_t char_token(const struct tokenizer *t, uint32_t cp) {
    return t->char_ids[t->char_page[cp >> 8]][cp & 255];
}

static inline size_t joined_bit(uint32_t a, uint32_t b) {
    return (a * 0x9e3779b1u ^ (b * 0x85ebca6bu + (b << 13))) >> 12;
}
/* SPM: whether some merge may put these two characters into one token */
static inline bool chars_joined(const struct tokenizer *t, uint32_t a, uint32_t b) {
    size_t bit = joined_bit(a, b);
    return t->joined[bit >> 6] >> (bit & 63) & 1;
}

uint64_t text_hash(const void *bytes, size_t n);
static inline size_t text_filter_bit(uint64_t hash) {
    return (size_t)(hash >> 44);
}
/* ignore_merges: whether a word with this hash may be an entry */
static inline bool text_possible(const struct tokenizer *t, uint64_t hash) {
    size_t bit = text_filter_bit(hash);
    return t->texts.filter[bit >> 6] >> (bit & 63) & 1;
}

#endif
