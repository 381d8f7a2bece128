/* token.h - text <-> ids, for byte-level BPE and for SentencePiece-style BPE with byte fallback.
 *
 * A tokenizer is constant after loading (and tokenizer_mark_control) and may be shared between
 * threads; each call brings its own scratch memory. Sources: the tokenizer.json format of the
 * Hugging Face tokenizers library, whose ids are reproduced exactly, and the tokenizer.ggml.* keys
 * of the GGUF specification. docs/internals/token.md says how the parts work together. */
#ifndef SLM_TOKEN_TOKEN_H
#define SLM_TOKEN_TOKEN_H

#include "base/mem.h"

enum token_split { SPLIT_NONE, SPLIT_QWEN2, SPLIT_LLAMA3, SPLIT_O200K }; /* pre-tokeniser scanner */
enum token_model { TOKEN_BPE_BYTES, TOKEN_BPE_SPM };

struct tokenizer;

/* Most bytes of one text, most ids of one vocabulary, most merges. */
#define TOKEN_TEXT_MAX ((size_t)1 << 30)
#define TOKEN_IDS_MAX ((uint32_t)1 << 20)
#define TOKEN_MERGES_MAX ((uint32_t)1 << 20)

/* From the text [n] of a tokenizer.json (borrowed for the call). *out is returned owned.
 * E_FORMAT with the byte offset when the file is malformed or contradicts itself; E_UNSUPPORTED
 * naming the pattern, normaliser, pre-tokeniser, post-processor or model that is not known. */
slm_err tokenizer_from_json(const struct slm_hooks *h, const char *text, size_t n,
                            struct tokenizer **out, slm_why *why);

/* From arrays (GGUF metadata); strings are borrowed for the call, counted by their length. */
struct token_text {
    const char *s;
    size_t n;
};
enum token_type { /* GGUF numbers */
                  TT_NORMAL = 1,
                  TT_UNKNOWN = 2,
                  TT_CONTROL = 3,
                  TT_USER = 4,
                  TT_UNUSED = 5,
                  TT_BYTE = 6
};
struct token_spec {
    const char *model; /* "gpt2" or "llama" */
    const char *pre;   /* "qwen2", "llama-bpe", "smaug-bpe", "gpt-4o"; "default" for "llama" */
    const struct token_text *tokens; /* [n_tokens] */
    const int32_t *types;            /* [n_tokens], may be NULL: all normal */
    const float *scores;             /* [n_tokens], may be NULL; "llama" needs them */
    size_t n_tokens;
    const struct token_text *merges; /* [n_merges], "left right"; "gpt2" needs them */
    size_t n_merges;
    bool add_space_prefix;
    int32_t bos, eos, unk; /* -1: none */
    bool add_bos;
};
slm_err tokenizer_from_spec(const struct slm_hooks *h, const struct token_spec *spec,
                            struct tokenizer **out, slm_why *why);
void tokenizer_free(struct tokenizer *t); /* NULL allowed */

/* Ids are 0..size-1 (highest id + 1); ids without a token exist. */
uint32_t tokenizer_size(const struct tokenizer *t);
/* Raw bytes that the token stands for (added tokens: their content); false if there is none. */
bool token_text_of(const struct tokenizer *t, int32_t id, const char **text, size_t *n);
bool token_is_control(const struct tokenizer *t, int32_t id);
bool token_is_special(const struct tokenizer *t, int32_t id); /* skip_special_tokens */
/* The added token with exactly this content, else the vocabulary's token for these bytes; or -1. */
int32_t token_id_of(const struct tokenizer *t, const char *text, size_t n);
/* What add_special_tokens puts in front, or -1. */
int32_t tokenizer_bos(const struct tokenizer *t);

/* Marks as control every added token whose text occurs in `text` (the model's chat template),
 * besides the special ones and those of the form <|...|>. Runs of white space (Gemma's newlines)
 * are layout, not control, and stay as they are. Call once before sharing. */
void tokenizer_mark_control(struct tokenizer *t, const char *text, size_t n);

/* One piece of text; data = true when it comes from an untrusted place: control tokens inside it
 * stay text. */
struct token_piece {
    const char *text; /* [n], borrowed; may be NULL when n is 0 */
    size_t n;
    bool data;
};
enum { TOKEN_ADD_BOS = 1 };

/* Ids of the concatenation of the pieces. A control token is matched only where every byte of it
 * comes from pieces with data == false; other added tokens always match; BPE runs across the
 * borders of pieces, so that pieces with data == false give what one string gives.
 * *ids [*n_ids] is returned owned (hooks of the tokenizer: release with mem_free).
 * E_ENCODING with the byte offset in the concatenation when the text is not UTF-8; E_ARG when it is
 * longer than TOKEN_TEXT_MAX.
 * Cost: linear in the text; bench/bench_token.c measures it. Memory: about 5 bytes per byte of text,
 * more where a run depends on itself over a long distance (head of bpe.c). Thread: any. */
slm_err tokenizer_encode(const struct tokenizer *t, const struct token_piece *pieces,
                         size_t n_pieces, unsigned flags, int32_t **ids, size_t *n_ids,
                         slm_why *why);

/* Streaming decoder: never gives half a code point. */
struct token_decoder {
    const struct tokenizer *t; /* borrowed */
    bool skip_special;
    unsigned char pending[8];
    size_t n_pending;
    bool first;
};
void token_decoder_init(struct token_decoder *d, const struct tokenizer *t, bool skip_special);
/* Appends the characters that are complete. An id without a token appends nothing. */
void token_decoder_put(struct token_decoder *d, int32_t id, struct buf *out);
/* What is pending becomes U+FFFD, as in the official library's lossy decoding. */
void token_decoder_end(struct token_decoder *d, struct buf *out);
/* All at once, the same bytes as through the streaming decoder. An id that is negative or not
 * below tokenizer_size: E_ARG. */
slm_err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                         struct buf *out, slm_why *why);

#endif
