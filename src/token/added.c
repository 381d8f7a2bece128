/* added.c - finds added tokens: leftmost, and of those the longest.
 *
 * A trie whose edges lie in one hash table is walked from every byte that some token starts with;
 * a content has at most ADDED_LENGTH_MAX bytes, so the walk is linear in the text. Rules for
 * stripping, whole words and normalised tokens: added_vocabulary.rs of the tokenizers library. One
 * deviation: a control token is always matched in the raw text, also when the file says
 * normalized, so that each of its bytes has a known origin. */
#include "token/added.h"

#include <string.h>

#include "token/nfc.h"
#include "token/unicode.h"

enum { NODE_BITS = 24 };
#define NODE_MASK (((uint32_t)1 << NODE_BITS) - 1)
#define NODES_MAX NODE_MASK

/* ---- trie ---- */

static size_t edge_place(const struct added_trie *trie, uint64_t edge) {
    return (size_t)(edge * PAIR_MULTIPLIER >> 20) & trie->mask;
}

static uint32_t child_of(const struct added_trie *trie, uint32_t node, uint8_t byte) {
    uint64_t edge = (uint64_t)node << 8 | byte;
    for (size_t i = edge_place(trie, edge);; i = (i + 1) & trie->mask) {
        uint64_t slot = trie->slots[i];
        if (slot == 0)
            return 0;
        if (slot >> NODE_BITS == edge)
            return (uint32_t)slot & NODE_MASK;
    }
}

static void edge_put(struct added_trie *trie, uint64_t slot) {
    size_t i = edge_place(trie, slot >> NODE_BITS);
    while (trie->slots[i] != 0)
        i = (i + 1) & trie->mask;
    trie->slots[i] = slot;
    trie->used++;
}

/* Room for n more edges and nodes. */
static slm_err trie_reserve(const struct slm_hooks *h, struct added_trie *trie, size_t n,
                            slm_why *why) {
    if (trie->n_nodes + n > NODES_MAX)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "added tokens have more than %u bytes",
                    NODES_MAX);
    if (trie->n_nodes + n + 1 > trie->cap_nodes) {
        size_t cap = trie->cap_nodes * 2 + n + 64;
        uint32_t *token = mem_resize(h, trie->token, cap, sizeof *token);
        if (token == NULL)
            return fail_nomem(why, "added tokens", cap * sizeof *token);
        trie->token = token;
        trie->cap_nodes = (uint32_t)cap;
    }
    if ((trie->used + n) * 2 <= trie->mask)
        return SLM_OK;
    struct added_trie bigger = *trie;
    bigger.mask = trie->mask > 0 ? trie->mask : 255;
    while ((trie->used + n) * 2 > bigger.mask)
        bigger.mask = bigger.mask * 2 + 1;
    bigger.slots = mem_zalloc(h, bigger.mask + 1, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return fail_nomem(why, "added tokens", (bigger.mask + 1) * sizeof *bigger.slots);
    bigger.used = 0;
    for (size_t i = 0; trie->slots != NULL && i <= trie->mask; i++)
        if (trie->slots[i] != 0)
            edge_put(&bigger, trie->slots[i]);
    mem_free(h, trie->slots);
    *trie = bigger;
    return SLM_OK;
}

slm_err added_put(const struct slm_hooks *h, struct added_trie *trie, const char *s, size_t n,
                  uint32_t id, bool *fresh, slm_why *why) {
    TRY(trie_reserve(h, trie, n, why));
    if (trie->n_nodes == 0) {
        trie->token[0] = 0;
        trie->n_nodes = 1;
    }
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = child_of(trie, node, (uint8_t)s[i]);
        if (next == 0) {
            next = trie->n_nodes++;
            trie->token[next] = 0;
            edge_put(trie, ((uint64_t)node << 8 | (uint8_t)s[i]) << NODE_BITS | next);
        }
        node = next;
    }
    *fresh = trie->token[node] == 0;
    if (*fresh)
        trie->token[node] = id + 1;
    trie->first[(uint8_t)s[0]] = true;
    return SLM_OK;
}

uint32_t added_find(const struct added_trie *trie, const char *s, size_t n) {
    if (trie->n_nodes == 0 || n == 0)
        return NO_TOKEN;
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = child_of(trie, node, (uint8_t)s[i]);
        if (node == 0)
            return NO_TOKEN;
    }
    return trie->token[node] - 1;
}

void added_free(const struct slm_hooks *h, struct added_trie *trie) {
    mem_free(h, trie->slots);
    mem_free(h, trie->token);
    *trie = (struct added_trie){ 0 };
}

slm_err added_put_normalised(struct tokenizer *t, slm_why *why) {
    for (uint32_t id = 0; id < t->size; id++) {
        const struct token_entry *e = &t->tok[id];
        if (!(e->flags & TF_NORMALIZED))
            continue;
        const char *s = t->pool.data + e->offset;
        struct buf text;
        buf_init(&text, &t->hooks, ADDED_LENGTH_MAX * 4);
        bool changed = false, fresh;
        slm_err err = SLM_OK;
        if (t->nfc)
            TRY_OUT(nfc_text(&t->hooks, s, e->n, &text, &changed, why));
        if (changed && text.len > 0)
            TRY_OUT(added_put(&t->hooks, &t->normalised, text.data, text.len, id, &fresh, why));
        else
            TRY_OUT(added_put(&t->hooks, &t->normalised, s, e->n, id, &fresh, why));
    out:
        buf_free(&text);
        TRY(err);
    }
    return SLM_OK;
}

/* ---- control ---- */

static bool only_space(const char *s, size_t n) {
    size_t len;
    for (size_t i = 0; i < n; i += len) {
        uint32_t cp = char_at((const uint8_t *)s + i, &len);
        if (char_class(cp) != CC_SPACE && cp != METASPACE_CP)
            return false;
    }
    return true;
}

void added_mark(struct tokenizer *t, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!t->raw.first[(uint8_t)text[i]])
            continue;
        uint32_t node = 0;
        for (size_t k = i; k < n && (node = child_of(&t->raw, node, (uint8_t)text[k])) != 0; k++)
            if (t->raw.token[node] != 0 && !only_space(text + i, k + 1 - i))
                t->tok[t->raw.token[node] - 1].flags |= TF_CONTROL;
    }
}

/* ---- search ---- */

/* Whether each of the bytes [from, to) comes from a piece that is no data. Asked with growing
 * `from`, so that the walk over the pieces happens once. */
static bool trusted(struct trust *trust, size_t from, size_t to) {
    if (trust == NULL || trust->pieces == NULL)
        return true;
    while (trust->at < trust->n && from - trust->at_start >= trust->pieces[trust->at].n)
        trust->at_start += trust->pieces[trust->at++].n;
    size_t start = trust->at_start;
    for (size_t i = trust->at; i < trust->n && start < to; i++) {
        if (trust->pieces[i].data && trust->pieces[i].n > 0)
            return false;
        start += trust->pieces[i].n;
    }
    return true;
}

static bool eligible(const struct added_scan *scan, uint32_t id, size_t start, size_t stop) {
    unsigned flags = scan->t->tok[id].flags;
    bool in_normalised = (flags & TF_NORMALIZED) && !(flags & TF_CONTROL);
    if (in_normalised != scan->normalised_pass)
        return false;
    return !(flags & TF_CONTROL) || trusted(scan->trust, start, stop);
}

/* Longest eligible token that starts at `start`; false if there is none. */
static bool match_at(const struct added_scan *scan, size_t start, struct added_match *match) {
    bool found = false;
    uint32_t node = 0;
    for (size_t i = start; i < scan->n; i++) {
        node = child_of(scan->trie, node, scan->s[i]);
        if (node == 0)
            break;
        uint32_t token = scan->trie->token[node];
        if (token != 0 && eligible(scan, token - 1, start, i + 1)) {
            *match = (struct added_match){ token - 1, start, i + 1 };
            found = true;
        }
    }
    return found;
}

static bool word_at_border(const struct added_scan *scan, const struct added_match *match) {
    size_t len;
    if (match->start > 0 && (char_flags(char_before(scan->s, match->start, &len)) & CC_WORD))
        return true;
    return match->stop < scan->n && (char_flags(char_at(scan->s + match->stop, &len)) & CC_WORD);
}

static void swallow_space(const struct added_scan *scan, struct added_match *match) {
    unsigned flags = scan->t->tok[match->id].flags;
    size_t len;
    if (flags & TF_LSTRIP)
        while (match->start > scan->done &&
               char_class(char_before(scan->s, match->start, &len)) == CC_SPACE)
            match->start -= len;
    if (flags & TF_RSTRIP)
        while (match->stop < scan->n &&
               char_class(char_at(scan->s + match->stop, &len)) == CC_SPACE)
            match->stop += len;
}

bool added_next(struct added_scan *scan, struct added_match *match) {
    if (scan->trie->n_nodes == 0)
        return false;
    while (scan->pos < scan->n) {
        while (scan->pos < scan->n && !scan->trie->first[scan->s[scan->pos]])
            scan->pos++;
        if (scan->pos == scan->n)
            return false;
        if (!match_at(scan, scan->pos, match)) {
            scan->pos++;
            continue;
        }
        scan->pos = match->stop;
        if ((scan->t->tok[match->id].flags & TF_SINGLE) && word_at_border(scan, match))
            continue;
        swallow_space(scan, match);
        scan->pos = match->stop; /* what was swallowed is gone, also for tokens of white space */
        scan->done = match->stop;
        return true;
    }
    return false;
}
