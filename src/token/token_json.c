/* token_json.c - reads a tokenizer.json (format of the Hugging Face tokenizers library).
 *
 * In:  the whole text, up to tens of megabytes, nearly all of it vocabulary and merges: these go
 *      through the pull parser. The small parts (normaliser, pre-tokeniser, post-processor,
 *      decoder) are parsed as trees and recognised as a whole: what is not known is refused by its
 *      name, because a part that is skipped would change ids silently.
 * The order of members is free in JSON, but the vocabulary can only be read once the small parts
 * are known, and merges once the vocabulary is known. Files are written in that order; for others
 * the text is walked again.
 * truncation and padding are run-time settings that the file happens to keep; the official
 * transformers library switches both off before it encodes, and so they are skipped here. */
#include <string.h>

#include "base/json.h"
#include "token/split.h"
#include "token/tokenizer.h"

struct added_item {
    struct vocab_item item; /* s is an offset into names until the end */
    size_t name;
};

struct loader {
    struct tokenizer *t;
    struct json_pull p;
    slm_why *why;
    const char *data;
    bool walked; /* the small parts are known */
    bool model_done, merges_done;
    /* what the small parts say */
    bool byte_level, byte_decoder, spm_decoder, metaspace, splits_space;
    int64_t bos_id;
    bool has_bos;
    /* of the model */
    bool fallback;
    char unk[ADDED_LENGTH_MAX];
    size_t n_unk;
    bool has_unk;
    struct added_item *added; /* [n_added] */
    size_t n_added, cap_added;
    struct buf names; /* contents of added tokens */
    struct buf pair;  /* the merge at hand */
};

static bool is(const struct json_pull *p, const char *text) {
    return p->n == strlen(text) && memcmp(p->text, text, p->n) == 0;
}

/* ---- small parts ---- */

/* The value whose first event was just read, as a tree (owned by the caller). */
static slm_err read_tree(struct loader *l, enum json_event first, json_t **out) {
    if (first != PULL_OBJECT && first != PULL_ARRAY)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "an object was expected");
    size_t start = l->p.pos - 1;
    json_skip(&l->p, first);
    if (l->p.err != SLM_OK)
        return l->p.err;
    slm_why inner;
    slm_err err = json_text(l->data + start, l->p.pos - start, out, &inner);
    if (err == SLM_OK)
        return SLM_OK;
    return fail(l->why, err, inner.offset == SLM_NO_OFFSET ? start : start + inner.offset, "%s",
                inner.message);
}

static const char *text_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s != NULL ? s : "";
}
static bool has_text(const json_t *o, const char *key, const char *value) {
    return strcmp(text_of(o, key), value) == 0;
}
static bool is_on(const json_t *o, const char *key) {
    return json_is_true(json_object_get(o, key));
}
static bool pattern_is(const json_t *o, const char *kind, const char *value) {
    return has_text(json_object_get(o, "pattern"), kind, value);
}

static slm_err unknown_part(struct loader *l, const char *part, const json_t *o,
                            const char *detail) {
    char type[TOKEN_NAME_MAX], about[TOKEN_NAME_MAX];
    const char *name = text_of(o, "type");
    return fail(l->why, SLM_E_UNSUPPORTED, l->p.pos, "%s '%s'%s%s is not supported", part,
                token_name(type, name, strlen(name)), detail[0] != 0 ? " with " : "",
                token_name(about, detail, strlen(detail)));
}

/* Calls fn for o, or, when o is a Sequence, for each of the members under `key`. */
typedef slm_err (*part_fn)(struct loader *l, const json_t *o);
static slm_err each_part(struct loader *l, const json_t *o, const char *key, part_fn fn) {
    if (!has_text(o, "type", "Sequence"))
        return fn(l, o);
    const json_t *list = json_object_get(o, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(fn(l, json_array_get(list, i)));
    return SLM_OK;
}

static slm_err take_normalizer(struct loader *l, const json_t *o) {
    if (has_text(o, "type", "NFC") && !l->metaspace) {
        l->t->nfc = true;
    } else if (has_text(o, "type", "Replace") && pattern_is(o, "String", " ") &&
               has_text(o, "content", METASPACE)) {
        l->metaspace = true;
    } else if (has_text(o, "type", "Prepend") && has_text(o, "prepend", METASPACE) &&
               !l->metaspace) {
        l->t->space_prefix = true;
    } else {
        return unknown_part(l, "normalizer", o, text_of(o, "content"));
    }
    return SLM_OK;
}

static slm_err take_pre_tokenizer(struct loader *l, const json_t *o) {
    if (has_text(o, "type", "ByteLevel")) {
        if (is_on(o, "add_prefix_space") || is_on(o, "use_regex") || l->byte_level)
            return unknown_part(l, "pre_tokenizer", o, "prefix space or its own pattern");
        l->byte_level = true;
        return SLM_OK;
    }
    if (!has_text(o, "type", "Split") || l->byte_level || l->t->split != SPLIT_NONE)
        return unknown_part(l, "pre_tokenizer", o, "");
    if (pattern_is(o, "String", " ") && has_text(o, "behavior", "MergedWithPrevious")) {
        l->splits_space = true; /* no effect: the normaliser leaves no space */
        return SLM_OK;
    }
    /* the patterns match every character, so these two say the same */
    bool isolated = has_text(o, "behavior", "Isolated") && !is_on(o, "invert");
    bool removed = has_text(o, "behavior", "Removed") && is_on(o, "invert");
    const char *pattern = text_of(json_object_get(o, "pattern"), "Regex");
    enum token_split split = split_by_pattern(pattern, strlen(pattern));
    if (split == SPLIT_NONE || !(isolated || removed))
        return unknown_part(l, "pre_tokenizer", o, pattern);
    l->t->split = split;
    return SLM_OK;
}

static slm_err take_decoder(struct loader *l, const json_t *o) {
    bool strip = has_text(o, "type", "Strip") && has_text(o, "content", " ") &&
                 json_integer_value(json_object_get(o, "start")) == 1 &&
                 json_integer_value(json_object_get(o, "stop")) == 0 && l->t->space_prefix;
    if (has_text(o, "type", "ByteLevel"))
        l->byte_decoder = true;
    else if (has_text(o, "type", "ByteFallback"))
        l->spm_decoder = true;
    else if (!strip && !has_text(o, "type", "Fuse") &&
             !(has_text(o, "type", "Replace") && pattern_is(o, "String", METASPACE) &&
               has_text(o, "content", " ")))
        return unknown_part(l, "decoder", o, "");
    return SLM_OK;
}

/* [A] or [one special token, A]; the special token is what add_special_tokens puts in front. */
static slm_err take_template(struct loader *l, const json_t *o) {
    const json_t *single = json_object_get(o, "single");
    size_t n = json_array_size(single);
    const json_t *last = n > 0 ? json_object_get(json_array_get(single, n - 1), "Sequence") : NULL;
    if (n < 1 || n > 2 || !has_text(last, "id", "A"))
        return unknown_part(l, "post_processor", o, "something after the text");
    if (n == 1)
        return SLM_OK;
    const char *id = text_of(json_object_get(json_array_get(single, 0), "SpecialToken"), "id");
    const json_t *special = json_object_get(json_object_get(o, "special_tokens"), id);
    const json_t *ids = json_object_get(special, "ids");
    if (l->has_bos || json_array_size(ids) != 1 || !json_is_integer(json_array_get(ids, 0)))
        return unknown_part(l, "post_processor", o, "other than one token in front");
    l->has_bos = true;
    l->bos_id = json_integer_value(json_array_get(ids, 0));
    return SLM_OK;
}

static slm_err take_post_processor(struct loader *l, const json_t *o) {
    if (has_text(o, "type", "ByteLevel"))
        return SLM_OK; /* offsets only */
    if (has_text(o, "type", "TemplateProcessing"))
        return take_template(l, o);
    return unknown_part(l, "post_processor", o, "");
}

static slm_err read_part(struct loader *l, const char *list, part_fn fn) {
    enum json_event e = json_next(&l->p);
    if (l->walked) {
        json_skip(&l->p, e);
        return l->p.err;
    }
    if (e == PULL_NULL)
        return SLM_OK;
    json_t *tree = NULL;
    TRY(read_tree(l, e, &tree));
    slm_err err = each_part(l, tree, list, fn);
    json_decref(tree);
    return err;
}

/* ---- added tokens ---- */

static slm_err read_added_member(struct loader *l, struct added_item *a) {
    static const struct {
        const char *key;
        unsigned flag;
    } flags[] = { { "special", TF_SPECIAL },
                  { "lstrip", TF_LSTRIP },
                  { "rstrip", TF_RSTRIP },
                  { "single_word", TF_SINGLE },
                  { "normalized", TF_NORMALIZED } };
    struct json_pull *p = &l->p;
    if (is(p, "id")) {
        if (json_next(p) != PULL_NUMBER || !json_pull_int(p, &a->item.id))
            return json_pull_fail(p, SLM_E_FORMAT, "id of an added token is no whole number");
        return SLM_OK;
    }
    if (is(p, "content")) {
        if (json_next(p) != PULL_STRING)
            return json_pull_fail(p, SLM_E_FORMAT, "content of an added token is no string");
        a->name = l->names.len;
        a->item.n = p->n;
        buf_put(&l->names, p->text, p->n);
        return l->names.err == SLM_OK ? SLM_OK : fail_nomem(l->why, "added tokens", p->n);
    }
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (!is(p, flags[i].key))
            continue;
        enum json_event e = json_next(p);
        if (e != PULL_TRUE && e != PULL_FALSE)
            return json_pull_fail(p, SLM_E_FORMAT, "'%s' of an added token is not true or false",
                                  flags[i].key);
        a->item.flags |= e == PULL_TRUE ? flags[i].flag : 0;
        return SLM_OK;
    }
    char name[TOKEN_NAME_MAX];
    return json_pull_fail(p, SLM_E_UNSUPPORTED, "member '%s' of an added token is not known",
                          token_name(name, p->text, p->n));
}

static slm_err read_added_token(struct loader *l) {
    if (l->n_added == l->cap_added) {
        size_t cap = l->cap_added == 0 ? 64 : l->cap_added * 2;
        struct added_item *added = mem_resize(&l->t->hooks, l->added, cap, sizeof *added);
        if (added == NULL)
            return fail_nomem(l->why, "added tokens", cap * sizeof *added);
        l->added = added;
        l->cap_added = cap;
    }
    struct added_item a = { .item = { .id = -1, .offset = l->p.pos } };
    enum json_event e;
    while ((e = json_next(&l->p)) == PULL_KEY)
        TRY(read_added_member(l, &a));
    if (e != PULL_OBJECT_END)
        return l->p.err;
    l->added[l->n_added++] = a;
    return SLM_OK;
}

static slm_err read_added_tokens(struct loader *l) {
    enum json_event e = json_next(&l->p);
    if (l->walked) {
        json_skip(&l->p, e);
        return l->p.err;
    }
    if (e == PULL_NULL)
        return SLM_OK;
    if (e != PULL_ARRAY)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "added_tokens is no list");
    while ((e = json_next(&l->p)) == PULL_OBJECT)
        TRY(read_added_token(l));
    if (e != PULL_ARRAY_END)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "an added token is no object");
    return SLM_OK;
}

/* ---- model ---- */

static slm_err read_vocab(struct loader *l) {
    struct json_pull *p = &l->p;
    if (json_next(p) != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "vocab is no object");
    enum json_event e;
    while ((e = json_next(p)) == PULL_KEY) {
        /* the next event may reuse the memory of the key */
        l->pair.len = 0;
        buf_put(&l->pair, p->text, p->n);
        if (l->pair.err != SLM_OK)
            return fail_nomem(l->why, "vocabulary", p->n);
        struct vocab_item item = { .s = l->pair.len > 0 ? l->pair.data : "",
                                   .n = l->pair.len,
                                   .hash = true,
                                   .offset = p->pos };
        char name[TOKEN_NAME_MAX];
        if (json_next(p) != PULL_NUMBER || !json_pull_int(p, &item.id))
            return json_pull_fail(p, SLM_E_FORMAT, "id of token '%s' is no whole number",
                                  token_name(name, item.s, item.n));
        TRY(vocab_add(l->t, &item, l->why));
    }
    return e == PULL_OBJECT_END ? SLM_OK : p->err;
}

/* One merge whose first event was read: "left right" or ["left", "right"]. */
static slm_err read_merge(struct loader *l, enum json_event e) {
    struct json_pull *p = &l->p;
    size_t left = 0;
    uint64_t offset = p->pos;
    l->pair.len = 0;
    if (e == PULL_STRING) {
        const char *space = p->n > 0 ? memchr(p->text, ' ', p->n) : NULL;
        left = space != NULL ? (size_t)(space - p->text) : p->n;
        if (space == NULL || memchr(space + 1, ' ', p->n - left - 1) != NULL)
            return json_pull_fail(p, SLM_E_FORMAT, "merge %u is not two texts with one space",
                                  l->t->n_merges);
        buf_put(&l->pair, p->text, left);
        buf_put(&l->pair, space + 1, p->n - left - 1);
    } else {
        for (int i = 0; i < 2; i++) {
            if (e != PULL_ARRAY || json_next(p) != PULL_STRING)
                return json_pull_fail(p, SLM_E_FORMAT, "merge %u is no pair of strings",
                                      l->t->n_merges);
            buf_put(&l->pair, p->text, p->n);
            left = i == 0 ? p->n : left;
        }
        if (json_next(p) != PULL_ARRAY_END)
            return json_pull_fail(p, SLM_E_FORMAT, "merge %u is no pair of strings",
                                  l->t->n_merges);
    }
    if (l->pair.err != SLM_OK)
        return fail_nomem(l->why, "merges", l->pair.len);
    const char *s = l->pair.len > 0 ? l->pair.data : "";
    return vocab_merge(l->t, s, left, l->pair.len - left, offset, l->why);
}

static slm_err read_merges(struct loader *l) {
    struct json_pull *p = &l->p;
    if (json_next(p) != PULL_ARRAY)
        return json_pull_fail(p, SLM_E_FORMAT, "merges is no list");
    enum json_event e;
    while ((e = json_next(p)) == PULL_ARRAY || e == PULL_STRING)
        TRY(read_merge(l, e));
    return e == PULL_ARRAY_END
               ? SLM_OK
               : json_pull_fail(p, SLM_E_FORMAT, "merge %u is no pair", l->t->n_merges);
}

static slm_err read_switch(struct loader *l, bool *value) {
    enum json_event e = json_next(&l->p);
    if (e != PULL_TRUE && e != PULL_FALSE && e != PULL_NULL)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "a switch of the model is not true or false");
    *value = e == PULL_TRUE;
    return SLM_OK;
}

/* Members that must have no effect: null, "" or 0. */
static slm_err read_absent(struct loader *l, const char *key) {
    enum json_event e = json_next(&l->p);
    if (e == PULL_NULL || (e == PULL_STRING && l->p.n == 0) ||
        (e == PULL_NUMBER && is(&l->p, "0.0")) || (e == PULL_NUMBER && is(&l->p, "0")))
        return SLM_OK;
    return json_pull_fail(&l->p, SLM_E_UNSUPPORTED, "model with %s is not supported", key);
}

static slm_err read_unk(struct loader *l) {
    enum json_event e = json_next(&l->p);
    if (e == PULL_NULL)
        return SLM_OK;
    if (e != PULL_STRING || l->p.n > sizeof l->unk)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "unk_token is no short string");
    memcpy(l->unk, l->p.text, l->p.n);
    l->n_unk = l->p.n;
    l->has_unk = true;
    return SLM_OK;
}

static slm_err read_model_member(struct loader *l, bool *has_vocab) {
    struct json_pull *p = &l->p;
    char name[TOKEN_NAME_MAX];
    if (is(p, "vocab") && !l->model_done) {
        if (*has_vocab)
            return json_pull_fail(p, SLM_E_FORMAT, "model has two vocabularies");
        *has_vocab = true;
        return read_vocab(l);
    }
    if (is(p, "merges") && *has_vocab) {
        if (l->merges_done)
            return json_pull_fail(p, SLM_E_FORMAT, "model has two lists of merges");
        l->merges_done = true;
        return read_merges(l);
    }
    if (l->model_done || is(p, "merges")) {
        json_skip(p, PULL_KEY);
        return p->err;
    }
    if (is(p, "type")) {
        if (json_next(p) == PULL_STRING && is(p, "BPE"))
            return SLM_OK;
        return json_pull_fail(p, SLM_E_UNSUPPORTED, "model type '%s' is not supported",
                              token_name(name, p->text, p->text != NULL ? p->n : 0));
    }
    if (is(p, "byte_fallback"))
        return read_switch(l, &l->fallback);
    if (is(p, "fuse_unk"))
        return read_switch(l, &l->t->fuse_unk);
    if (is(p, "ignore_merges"))
        return read_switch(l, &l->t->ignore_merges);
    if (is(p, "unk_token"))
        return read_unk(l);
    if (is(p, "dropout"))
        return read_absent(l, "dropout");
    if (is(p, "continuing_subword_prefix"))
        return read_absent(l, "continuing_subword_prefix");
    if (is(p, "end_of_word_suffix"))
        return read_absent(l, "end_of_word_suffix");
    return json_pull_fail(p, SLM_E_UNSUPPORTED, "member '%s' of the model is not known",
                          token_name(name, p->text, p->n));
}

/* What the small parts say must fit together before the vocabulary can be read. */
static slm_err choose_model(struct loader *l) {
    struct tokenizer *t = l->t;
    t->model = l->byte_level ? TOKEN_BPE_BYTES : TOKEN_BPE_SPM;
    const char *odd = NULL;
    if (l->byte_level)
        odd = l->metaspace || t->space_prefix      ? "a normalizer for SentencePiece"
              : l->splits_space                    ? "a split at spaces"
              : !l->byte_decoder || l->spm_decoder ? "another decoder"
                                                   : NULL;
    else
        odd = !l->metaspace                        ? "no normalizer of spaces"
              : t->nfc                             ? "NFC"
              : t->split != SPLIT_NONE             ? "a split pattern"
              : !l->spm_decoder || l->byte_decoder ? "another decoder"
                                                   : NULL;
    if (odd != NULL)
        return fail(l->why, SLM_E_UNSUPPORTED, l->p.pos, "%s tokenizer with %s is not supported",
                    l->byte_level ? "byte-level" : "SentencePiece-style", odd);
    return SLM_OK;
}

static slm_err read_model(struct loader *l, bool small_parts_known) {
    struct json_pull *p = &l->p;
    enum json_event e = json_next(p);
    if (e != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "model is no object");
    if (!small_parts_known || (l->model_done && l->merges_done)) {
        json_skip(p, e);
        return p->err;
    }
    if (!l->model_done)
        TRY(choose_model(l));
    bool has_vocab = l->model_done;
    while ((e = json_next(p)) == PULL_KEY)
        TRY(read_model_member(l, &has_vocab));
    if (e != PULL_OBJECT_END)
        return p->err;
    if (!has_vocab)
        return json_pull_fail(p, SLM_E_FORMAT, "model has no vocab");
    l->model_done = true;
    return SLM_OK;
}

/* ---- document ---- */

enum { SEEN_NORMALIZER = 1, SEEN_PRE = 2, SEEN_DECODER = 4, SEEN_ALL = 7 };

static slm_err read_member(struct loader *l, unsigned *seen) {
    struct json_pull *p = &l->p;
    if (is(p, "added_tokens"))
        return read_added_tokens(l);
    if (is(p, "normalizer")) {
        *seen |= SEEN_NORMALIZER;
        return read_part(l, "normalizers", take_normalizer);
    }
    if (is(p, "pre_tokenizer")) {
        *seen |= SEEN_PRE;
        return read_part(l, "pretokenizers", take_pre_tokenizer);
    }
    if (is(p, "decoder")) {
        *seen |= SEEN_DECODER;
        return read_part(l, "decoders", take_decoder);
    }
    if (is(p, "post_processor"))
        return read_part(l, "processors", take_post_processor);
    if (is(p, "model"))
        return read_model(l, l->walked || *seen == SEEN_ALL);
    if (!is(p, "version") && !is(p, "truncation") && !is(p, "padding")) {
        char name[TOKEN_NAME_MAX];
        return json_pull_fail(p, SLM_E_UNSUPPORTED, "member '%s' of tokenizer.json is not known",
                              token_name(name, p->text, p->n));
    }
    json_skip(p, PULL_KEY);
    return p->err;
}

static slm_err walk(struct loader *l, size_t n) {
    unsigned seen = 0;
    json_pull_free(&l->p);
    json_pull_init(&l->p, &l->t->hooks, l->data, n, l->why);
    if (json_next(&l->p) != PULL_OBJECT)
        return json_pull_fail(&l->p, SLM_E_FORMAT, "tokenizer.json is no object");
    enum json_event e;
    while ((e = json_next(&l->p)) == PULL_KEY)
        TRY(read_member(l, &seen));
    if (e == PULL_OBJECT_END && json_next(&l->p) == PULL_END) {
        l->walked = true;
        return SLM_OK;
    }
    return l->p.err != SLM_OK ? l->p.err
                              : json_pull_fail(&l->p, SLM_E_FORMAT, "text after the document");
}

static slm_err walk_until_done(struct loader *l, size_t n) {
    for (int round = 0; round < 3; round++) {
        TRY(walk(l, n));
        if (l->model_done && l->merges_done)
            return SLM_OK;
    }
    return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET, "tokenizer.json has no %s",
                l->model_done ? "merges" : "model");
}

static slm_err finish(struct loader *l) {
    struct tokenizer *t = l->t;
    char name[TOKEN_NAME_MAX];
    for (size_t i = 0; i < l->n_added; i++) {
        struct vocab_item *item = &l->added[i].item;
        item->s = item->n > 0 ? l->names.data + l->added[i].name : "";
        TRY(vocab_add_added(t, item, l->why));
    }
    if (l->has_unk) {
        int32_t id = token_id_of(t, l->unk, l->n_unk);
        if (id < 0)
            return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET, "unk_token '%s' is no token",
                        token_name(name, l->unk, l->n_unk));
        t->unk = (uint32_t)id;
    }
    if (l->has_bos) {
        if (token_entry(t, l->bos_id) == NULL)
            return fail(l->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "post_processor puts id %lld in front, which is no token",
                        (long long)l->bos_id);
        t->bos = (int32_t)l->bos_id;
    }
    t->byte_fallback = l->fallback;
    return vocab_finish(t, l->why);
}

slm_err tokenizer_from_json(const struct slm_hooks *h, const char *text, size_t n,
                            struct tokenizer **out, slm_why *why) {
    struct loader l = { .data = text, .why = why };
    *out = NULL;
    TRY(tokenizer_new(h, &l.t, why));
    buf_init(&l.names, &l.t->hooks, n);
    buf_init(&l.pair, &l.t->hooks, n);
    json_pull_init(&l.p, &l.t->hooks, text, n, why);
    slm_err err = walk_until_done(&l, n);
    if (err == SLM_OK)
        err = finish(&l);
    json_pull_free(&l.p);
    buf_free(&l.names);
    buf_free(&l.pair);
    mem_free(&l.t->hooks, l.added);
    if (err == SLM_OK)
        *out = l.t;
    else
        tokenizer_free(l.t);
    return err;
}
