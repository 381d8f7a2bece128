/* token_spec.c - a tokenizer from arrays, as GGUF keeps them (keys tokenizer.ggml.*).
 *
 * What the arrays leave out is known by the name of the pre-tokeniser: pattern, normaliser, whether
 * a whole word may be taken without merging. "llama" vocabularies carry scores in place of merges;
 * the merges are derived as transformers' converter derives those of tokenizer.json: every split of
 * every piece into two pieces, best score first, then the longer left part. With that, both forms
 * of one tokenizer give the same ids. */
#include <math.h>
#include <string.h>

#include "token/added.h"
#include "token/tokenizer.h"

#define LONGEST_TEXT ((size_t)1 << 17) /* of an entry of the arrays; tokenizer.c is stricter */
#define PIECE_LENGTH_MAX 255           /* bytes of a piece whose splits are looked for */

static const struct {
    const char *name;
    enum token_split split;
    bool nfc, ignore_merges;
} pres[] = {
    { "qwen2", SPLIT_QWEN2, true, false },      { "llama-bpe", SPLIT_LLAMA3, false, true },
    { "llama3", SPLIT_LLAMA3, false, true },    { "llama-v3", SPLIT_LLAMA3, false, true },
    { "smaug-bpe", SPLIT_LLAMA3, false, true }, { "gpt-4o", SPLIT_O200K, false, false },
};

/* Tokens of the Phi-4-mini dialect swallow the white space behind them; GGUF has no place to say
 * so. The dialect is recognised by its three turn markers. */
static const char *const turn_tokens[] = { "<|user|>",      "<|assistant|>",  "<|end|>",
                                           "<|system|>",    "<|tool|>",       "<|/tool|>",
                                           "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>",
                                           "<|tag|>" };
enum { TURN_MARKERS = 3 };

struct spec_loader {
    struct tokenizer *t;
    const struct token_spec *spec;
    slm_why *why;
    struct buf text;
};

/* ---- tokens ---- */

static bool is_padding(const struct token_text *s) {
    return s->n > 4 && memcmp(s->s, "[PAD", 4) == 0 && s->s[s->n - 1] == ']';
}

/* Converters write the spaces of user-defined pieces plainly; vocabularies have U+2581. */
static slm_err with_metaspace(struct spec_loader *l, const struct token_text *s,
                              struct vocab_item *item) {
    l->text.len = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->s[i] == ' ')
            buf_put(&l->text, METASPACE, 3);
        else
            buf_putc(&l->text, s->s[i]);
    }
    if (l->text.err != SLM_OK)
        return fail_nomem(l->why, "vocabulary", s->n);
    item->s = l->text.data;
    item->n = l->text.len;
    return SLM_OK;
}

static slm_err take_added(struct spec_loader *l, const struct token_text *s,
                          struct vocab_item *item, bool user) {
    struct tokenizer *t = l->t;
    bool spm = t->model == TOKEN_BPE_SPM;
    item->flags = user ? 0 : TF_SPECIAL;
    if (!spm || s->n == 0 || memchr(s->s, ' ', s->n) == NULL)
        return vocab_add_added(t, item, l->why);
    bool only_spaces = true, fresh;
    for (size_t i = 0; i < s->n; i++)
        only_spaces = only_spaces && s->s[i] == ' ';
    TRY(vocab_add_added(t, item, l->why));
    /* a run of spaces is left to merging, which gives the same, as tokenizer.json does */
    return only_spaces
               ? SLM_OK
               : added_put(&t->hooks, &t->raw, s->s, s->n, (uint32_t)item->id, &fresh, l->why);
}

static slm_err take_token(struct spec_loader *l, size_t i) {
    const struct token_spec *spec = l->spec;
    const struct token_text *s = &spec->tokens[i];
    char name[TOKEN_NAME_MAX];
    bool spm = l->t->model == TOKEN_BPE_SPM;
    int32_t type = spec->types != NULL ? spec->types[i] : TT_NORMAL;
    struct vocab_item item = {
        .id = (int64_t)i, .s = s->n > 0 ? s->s : "", .n = s->n, .offset = SLM_NO_OFFSET
    };
    if (spm && s->n > 0 && s->n <= LONGEST_TEXT && memchr(s->s, ' ', s->n) != NULL)
        TRY(with_metaspace(l, s, &item));
    switch (type) {
    case TT_NORMAL:
        item.hash = true;
        return vocab_add(l->t, &item, l->why);
    case TT_USER:
        item.hash = spm;
        if (spm)
            TRY(vocab_add(l->t, &item, l->why));
        return take_added(l, s, &item, true);
    case TT_UNKNOWN:
    case TT_CONTROL:
        return take_added(l, s, &item, false);
    case TT_UNUSED:
        return is_padding(s) ? SLM_OK : vocab_add(l->t, &item, l->why);
    case TT_BYTE:
        if (!spm || s->n != 6 || memcmp(s->s, "<0x", 3) != 0)
            return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET, "byte token %zu '%s' names no byte", i,
                        token_name(name, s->s, s->n));
        return vocab_add(l->t, &item, l->why);
    default:
        return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "token %zu '%s' has type %d, known are 1 to 6", i, token_name(name, s->s, s->n),
                    type);
    }
}

static void mark_turn_tokens(struct tokenizer *t) {
    for (size_t i = 0; i < TURN_MARKERS; i++)
        if (added_find(&t->raw, turn_tokens[i], strlen(turn_tokens[i])) == NO_TOKEN)
            return;
    for (size_t i = 0; i < ARRAY_LEN(turn_tokens); i++) {
        uint32_t id = added_find(&t->raw, turn_tokens[i], strlen(turn_tokens[i]));
        if (id != NO_TOKEN)
            t->tok[id].flags |= TF_RSTRIP;
    }
}

/* ---- merges ---- */

static slm_err take_merges(struct spec_loader *l) {
    const struct token_spec *spec = l->spec;
    if (spec->n_merges > 0 && spec->merges == NULL)
        return fail(l->why, SLM_E_ARG, SLM_NO_OFFSET, "%zu merges are missing", spec->n_merges);
    for (size_t i = 0; i < spec->n_merges; i++) {
        const struct token_text *m = &spec->merges[i];
        char name[TOKEN_NAME_MAX];
        bool fits = m->n > 2 && m->n <= LONGEST_TEXT;
        const char *space = fits ? memchr(m->s + 1, ' ', m->n - 2) : NULL;
        if (space == NULL || m->s[0] == ' ' || m->s[m->n - 1] == ' ' ||
            memchr(space + 1, ' ', (size_t)(m->s + m->n - space) - 1) != NULL)
            return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "merge %zu '%s' is not two texts with one space", i,
                        token_name(name, m->s, m->n));
        size_t left = (size_t)(space - m->s);
        l->text.len = 0;
        buf_put(&l->text, m->s, left);
        buf_put(&l->text, space + 1, m->n - left - 1);
        if (l->text.err != SLM_OK)
            return fail_nomem(l->why, "merges", m->n);
        TRY(vocab_merge(l->t, l->text.data, left, m->n - left - 1, SLM_NO_OFFSET, l->why));
    }
    return SLM_OK;
}

/* A split of a piece. order sorts ascending: score (best first), longer left, longer right. */
struct split_piece {
    uint64_t order;
    uint32_t left, right, result;
};
struct split_list {
    struct split_piece *at; /* [n] */
    size_t n, cap;
};

static uint64_t split_order(float score, size_t left_chars, size_t right_chars) {
    uint32_t bits;
    score += 0.0f; /* -0 counts as 0 */
    memcpy(&bits, &score, sizeof bits);
    uint32_t rising = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)~rising << 32 | (uint64_t)(0xffff - left_chars) << 16 | (0xffff - right_chars);
}

static slm_err split_list_put(struct spec_loader *l, struct split_list *list,
                              const struct split_piece *piece) {
    if (list->n == TOKEN_MERGES_MAX)
        return fail(l->why, SLM_E_BUDGET, SLM_NO_OFFSET, "more than %u merges", TOKEN_MERGES_MAX);
    if (list->n == list->cap) {
        size_t cap = list->cap == 0 ? 4096 : list->cap * 2;
        struct split_piece *at = mem_resize(&l->t->hooks, list->at, cap, sizeof *at);
        if (at == NULL)
            return fail_nomem(l->why, "merges", cap * sizeof *at);
        list->at = at;
        list->cap = cap;
    }
    list->at[list->n++] = *piece;
    return SLM_OK;
}

/* Every way to make piece `id` of two pieces. */
static slm_err find_splits(struct spec_loader *l, uint32_t id, float score,
                           struct split_list *list) {
    const struct tokenizer *t = l->t;
    const struct token_entry *e = &t->tok[id];
    const char *s = t->pool.data + e->offset;
    size_t chars = 0, before = 1;
    for (size_t i = 0; i < e->n; i++)
        chars += (s[i] & 0xc0) != 0x80;
    for (size_t i = 1; i < e->n; i++) {
        if ((s[i] & 0xc0) == 0x80)
            continue;
        size_t left_chars = before++;
        struct split_piece piece = { split_order(score, left_chars, chars - left_chars),
                                     vocab_find(t, s, i, 0), NO_TOKEN, id };
        if (piece.left == NO_TOKEN)
            continue;
        piece.right = vocab_find(t, s + i, e->n - i, 0);
        if (piece.right != NO_TOKEN)
            TRY(split_list_put(l, list, &piece));
    }
    return SLM_OK;
}

/* Stable: least significant byte first; bytes that are the same everywhere cost one pass to see. */
static slm_err sort_splits(struct spec_loader *l, struct split_list *list) {
    struct split_piece *other = mem_alloc(&l->t->hooks, list->n, sizeof *other), *from = list->at;
    if (other == NULL)
        return fail_nomem(l->why, "merges", list->n * sizeof *other);
    for (unsigned shift = 0; shift < 64; shift += 8) {
        size_t start[257] = { 0 };
        for (size_t i = 0; i < list->n; i++)
            start[(from[i].order >> shift & 255) + 1]++;
        if (list->n > 0 && start[(from[0].order >> shift & 255) + 1] == list->n)
            continue;
        for (size_t c = 1; c < 257; c++)
            start[c] += start[c - 1];
        for (size_t i = 0; i < list->n; i++)
            other[start[from[i].order >> shift & 255]++] = from[i];
        struct split_piece *swap = from;
        from = other;
        other = swap;
    }
    list->at = from;
    mem_free(&l->t->hooks, other);
    return SLM_OK;
}

static slm_err derive_merges(struct spec_loader *l) {
    const struct token_spec *spec = l->spec;
    struct split_list list = { 0 };
    slm_err err = SLM_OK;
    char name[TOKEN_NAME_MAX];
    if (spec->scores == NULL)
        return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "vocabulary has neither merges nor scores");
    for (uint32_t id = 0; id < l->t->size; id++) {
        const struct token_entry *e = &l->t->tok[id];
        if (!(e->flags & TF_VOCAB) || (e->flags & (TF_RAW | TF_BYTE)))
            continue;
        if (e->n > PIECE_LENGTH_MAX)
            TRY_OUT(fail(l->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                         "token %u '%s' has %u bytes, at most %d can be split", id,
                         token_name(name, l->t->pool.data + e->offset, e->n), e->n,
                         PIECE_LENGTH_MAX));
        if (isnan(spec->scores[id]))
            TRY_OUT(
                fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET, "score of token %u is not a number", id));
        /* user-defined pieces have no score; they come before all others */
        TRY_OUT(find_splits(l, id, e->flags & TF_ADDED ? 0.0f : spec->scores[id], &list));
    }
    TRY_OUT(sort_splits(l, &list));
    for (size_t i = 0; i < list.n; i++)
        TRY_OUT(
            vocab_merge_ids(l->t, list.at[i].left, list.at[i].right, list.at[i].result, l->why));
out:
    mem_free(&l->t->hooks, list.at);
    return err;
}

/* ---- all ---- */

static slm_err choose_kind(struct spec_loader *l) {
    const struct token_spec *spec = l->spec;
    struct tokenizer *t = l->t;
    const char *model = spec->model != NULL ? spec->model : "";
    const char *pre = spec->pre != NULL ? spec->pre : "default";
    char name[TOKEN_NAME_MAX];
    if (strcmp(model, "llama") == 0) {
        if (strcmp(pre, "default") != 0)
            return fail(l->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                        "tokenizer.ggml.pre '%s' of a 'llama' tokenizer is not supported",
                        token_name(name, pre, strlen(pre)));
        t->model = TOKEN_BPE_SPM;
        t->space_prefix = spec->add_space_prefix;
        t->byte_fallback = t->fuse_unk = true;
        return SLM_OK;
    }
    if (strcmp(model, "gpt2") != 0)
        return fail(l->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "tokenizer.ggml.model '%s' is not supported",
                    token_name(name, model, strlen(model)));
    t->model = TOKEN_BPE_BYTES;
    for (size_t i = 0; i < ARRAY_LEN(pres); i++) {
        if (strcmp(pre, pres[i].name) != 0)
            continue;
        t->split = pres[i].split;
        t->nfc = pres[i].nfc;
        t->ignore_merges = pres[i].ignore_merges;
        return SLM_OK;
    }
    return fail(l->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                "tokenizer.ggml.pre '%s' is not supported", token_name(name, pre, strlen(pre)));
}

static slm_err check_id(struct spec_loader *l, const char *what, int32_t id) {
    if (id >= -1 && (id < 0 || (size_t)id < l->spec->n_tokens))
        return SLM_OK;
    return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s token has id %d, the vocabulary has %zu",
                what, id, l->spec->n_tokens);
}

static slm_err load(struct spec_loader *l) {
    const struct token_spec *spec = l->spec;
    struct tokenizer *t = l->t;
    TRY(choose_kind(l));
    if (spec->n_tokens == 0 || spec->n_tokens > TOKEN_IDS_MAX || spec->tokens == NULL)
        return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "vocabulary has %zu tokens, allowed are 1 to %u", spec->n_tokens,
                    TOKEN_IDS_MAX);
    TRY(check_id(l, "first", spec->bos));
    TRY(check_id(l, "last", spec->eos));
    TRY(check_id(l, "unknown", spec->unk));
    for (size_t i = 0; i < spec->n_tokens; i++)
        TRY(take_token(l, i));
    if (t->split == SPLIT_O200K)
        mark_turn_tokens(t);
    TRY(t->model == TOKEN_BPE_BYTES ? take_merges(l) : derive_merges(l));
    if (spec->add_bos)
        t->bos = spec->bos;
    if (spec->unk >= 0 && token_entry(t, spec->unk) != NULL)
        t->unk = (uint32_t)spec->unk;
    return vocab_finish(t, l->why);
}

slm_err tokenizer_from_spec(const struct slm_hooks *h, const struct token_spec *spec,
                            struct tokenizer **out, slm_why *why) {
    struct spec_loader l = { .spec = spec, .why = why };
    *out = NULL;
    TRY(tokenizer_new(h, &l.t, why));
    buf_init(&l.text, &l.t->hooks, (size_t)1 << 20);
    slm_err err = load(&l);
    buf_free(&l.text);
    if (err == SLM_OK)
        *out = l.t;
    else
        tokenizer_free(l.t);
    return err;
}
