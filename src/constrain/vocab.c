/* vocab.c - bytes of all ids as one trie.
 *
 * Ids are sorted by their bytes; a sorted list is a trie read aloud: an entry is new where a token's
 * bytes differ from those of the token before it. */
#include "constrain/vocab.h"

#include <string.h>

#include "base/hash.h"
#include "constrain/grammar.h"

#define LONGEST_MOST 4096 /* bytes of a token; longer ones are never allowed */

struct sort_item {
    uint64_t head; /* the first eight bytes, so that comparing them compares numbers */
    uint32_t id;
};

struct sorting {
    const struct constrain_vocab *v;
    struct sort_item *items, *spare; /* [n] */
    uint32_t n;
};

static size_t length_of(const struct constrain_vocab *v, uint32_t id) {
    return v->offset[id + 1] - v->offset[id];
}

static const char *text_of(const struct constrain_vocab *v, uint32_t id) {
    return v->text + v->offset[id];
}

static uint64_t head_of(const char *s, size_t n) {
    uint64_t head = 0;
    for (size_t i = 0; i < 8; i++)
        head = head << 8 | (i < n ? (uint8_t)s[i] : 0);
    return head;
}

/* Equal texts by id, so that the order is one. */
static bool comes_first(const struct constrain_vocab *v, const struct sort_item *a,
                        const struct sort_item *b) {
    if (a->head != b->head)
        return a->head < b->head;
    size_t na = length_of(v, a->id), nb = length_of(v, b->id), n = na < nb ? na : nb;
    int order = memcmp(text_of(v, a->id), text_of(v, b->id), n);
    if (order != 0)
        return order < 0;
    return na != nb ? na < nb : a->id < b->id;
}

/* Merge sort from short runs to long ones. */
static void sort_ids(struct sorting *s) {
    for (uint32_t width = 1; width<s->n; width = width> s->n / 2 ? s->n : width * 2) {
        for (uint32_t lo = 0; lo < s->n;) {
            uint32_t mid = s->n - lo > width ? lo + width : s->n;
            uint32_t hi = s->n - mid > width ? mid + width : s->n;
            uint32_t i = lo, k = mid;
            for (uint32_t out = lo; out < hi; out++)
                s->spare[out] =
                    k == hi || (i < mid && !comes_first(s->v, &s->items[k], &s->items[i]))
                        ? s->items[i++]
                        : s->items[k++];
            lo = hi;
        }
        struct sort_item *swap = s->items;
        s->items = s->spare;
        s->spare = swap;
    }
}

static size_t common(const char *a, size_t na, const char *b, size_t nb) {
    size_t n = na < nb ? na : nb, i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* With trie == NULL only counts the entries. */
static uint32_t read_aloud(struct constrain_vocab *v, const struct sorting *s, uint32_t *open) {
    uint32_t n = 0;
    size_t depth = 0; /* open[d]: entry at depth d + 1 of the path at hand */
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t id = s->items[i].id;
        const char *text = text_of(v, id);
        size_t len = length_of(v, id), shared = 0;
        if (i > 0) {
            uint32_t before = s->items[i - 1].id;
            shared = common(text_of(v, before), length_of(v, before), text, len);
        }
        for (; v->trie != NULL && depth > shared; depth--)
            v->trie[open[depth - 1]].next = n;
        if (v->trie != NULL && shared == len) { /* the same bytes as the id before */
            v->same[id] = v->trie[open[len - 1]].token & TOKEN_ID;
            v->trie[open[len - 1]].token = id | TOKEN_SAME;
            continue;
        }
        if (v->trie == NULL) {
            n += (uint32_t)(len - shared);
            continue;
        }
        for (depth = shared; depth < len; depth++) {
            open[depth] = n;
            v->trie[n++] = (struct trie_entry){ .token = TOKEN_NONE,
                                                .depth = (uint16_t)(depth + 1),
                                                .byte = (uint8_t)text[depth] };
        }
        v->trie[n - 1].token = id;
    }
    for (; v->trie != NULL && depth > 0; depth--)
        v->trie[open[depth - 1]].next = n;
    return n;
}

static slm_err take_texts(struct constrain_vocab *v, const struct constrain_token *tokens,
                          slm_why *why) {
    size_t total = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (tokens[i].n <= LONGEST_MOST && !add_ok(total, tokens[i].n, &total))
            return fail_nomem(why, "a vocabulary", SIZE_MAX);
    if (total > UINT32_MAX / 2)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a vocabulary of %zu bytes, at most %u", total,
                    UINT32_MAX / 2);
    v->text = mem_alloc(&v->hooks, total + 1, 1);
    v->offset = mem_alloc(&v->hooks, (size_t)v->n_tokens + 1, sizeof *v->offset);
    v->same = mem_alloc(&v->hooks, v->n_tokens, sizeof *v->same);
    if (v->text == NULL || v->offset == NULL || v->same == NULL)
        return fail_nomem(why, "a vocabulary", total);
    size_t at = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        v->offset[i] = at;
        v->same[i] = TOKEN_NONE;
        if (tokens[i].n == 0 || tokens[i].n > LONGEST_MOST)
            continue;
        memcpy(v->text + at, tokens[i].s, tokens[i].n);
        at += tokens[i].n;
        if (tokens[i].n > v->longest)
            v->longest = (uint32_t)tokens[i].n;
        v->n_long += tokens[i].n > TWIN_BYTES;
    }
    v->offset[v->n_tokens] = at;
    v->bytes =
        total + ((size_t)v->n_tokens + 1) * sizeof *v->offset + v->n_tokens * sizeof *v->same;
    return SLM_OK;
}

static slm_err make_trie(struct constrain_vocab *v, struct sorting *s, slm_why *why) {
    s->items = mem_alloc(&v->hooks, v->n_tokens, sizeof *s->items);
    s->spare = mem_alloc(&v->hooks, v->n_tokens, sizeof *s->spare);
    v->long_ids = mem_alloc(&v->hooks, v->n_long, sizeof *v->long_ids);
    if (s->items == NULL || s->spare == NULL || v->long_ids == NULL)
        return fail_nomem(why, "a vocabulary", v->n_tokens * sizeof *s->items);
    v->n_long = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        size_t len = length_of(v, i);
        if (len > 0)
            s->items[s->n++] = (struct sort_item){ head_of(text_of(v, i), len), i };
        if (len > TWIN_BYTES)
            v->long_ids[v->n_long++] = i;
    }
    sort_ids(s);
    v->n_entries = read_aloud(v, s, NULL);
    uint32_t *open = mem_alloc(&v->hooks, v->longest, sizeof *open);
    v->trie = mem_alloc(&v->hooks, v->n_entries, sizeof *v->trie);
    if (open != NULL && v->trie != NULL)
        read_aloud(v, s, open);
    mem_free(&v->hooks, open);
    if (open == NULL || v->trie == NULL)
        return fail_nomem(why, "a vocabulary", v->n_entries * sizeof *v->trie);
    v->bytes += v->n_entries * sizeof *v->trie + v->n_long * sizeof *v->long_ids + sizeof *v;
    return SLM_OK;
}

static void name_vocab(struct constrain_vocab *v) {
    struct hash h;
    uint64_t out[2];
    hash_init(&h, 0);
    hash_add(&h, v->offset, ((size_t)v->n_tokens + 1) * sizeof *v->offset);
    hash_add(&h, v->text, v->offset[v->n_tokens]);
    hash_end(&h, out);
    v->identity = out[0];
}

slm_err constrain_vocab_new(const struct slm_hooks *h, const struct constrain_token *tokens,
                            size_t n, struct constrain_vocab **out, slm_why *why) {
    if (n == 0 || n > INT32_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a vocabulary of %zu ids", n);
    struct constrain_vocab *v = mem_zalloc(h, 1, sizeof *v);
    if (v == NULL)
        return fail_nomem(why, "a vocabulary", sizeof *v);
    hooks_init(&v->hooks, h);
    v->n_tokens = (uint32_t)n;
    struct sorting s = { .v = v };
    slm_err err = take_texts(v, tokens, why);
    if (err == SLM_OK)
        err = make_trie(v, &s, why);
    mem_free(&v->hooks, s.items);
    mem_free(&v->hooks, s.spare);
    if (err != SLM_OK) {
        constrain_vocab_free(v);
        return err;
    }
    name_vocab(v);
    *out = v;
    return SLM_OK;
}

void constrain_vocab_free(struct constrain_vocab *v) {
    if (v == NULL)
        return;
    struct slm_hooks h = v->hooks;
    mem_free(&h, v->trie);
    mem_free(&h, v->same);
    mem_free(&h, v->offset);
    mem_free(&h, v->text);
    mem_free(&h, v->long_ids);
    mem_free(&h, v);
}

size_t constrain_vocab_bytes(const struct constrain_vocab *v) {
    return v->bytes;
}

const char *vocab_path(const struct constrain_vocab *v, uint32_t entry) {
    while (v->trie[entry].token == TOKEN_NONE) /* the first below a path is one byte further */
        entry++;
    return text_of(v, v->trie[entry].token & TOKEN_ID);
}
