/* bpe.c - byte pair merging: the pair of lowest rank first, the leftmost of equals.
 *
 * In:  a word as bytes.    Out: ids, exactly those of merging one pair after the other.
 *
 * Words: a symbol per byte (byte-level) or per character (SPM), and over the ranks of neighbouring
 * symbols a tournament tree, whose root is the next merge; a merge changes three leaves. Short
 * words are looked up in a cache first.
 *
 * Runs longer than WINDOW (16 MiB of letters without a space) would need a tree far larger than
 * the caches of the machine, so they are merged in windows that are joined where that provably
 * changes nothing:
 *
 *   Claim. Let t1..tk be tokens whose texts make up the run, such that merging the text of ti and
 *   t(i+1) alone gives just [ti, t(i+1)], for every i. Then merging the run gives [t1..tk].
 *   Proof. Take the first merge that crosses a border, say between ti and t(i+1). Until then
 *   nothing crossed the borders of ti t(i+1), so the merges inside these two were chosen among
 *   themselves: whenever the smallest (rank, position) of the run lay inside, it was the smallest
 *   inside. They are thus the merges that ti t(i+1) alone goes through, in the same order, and the
 *   crossing one would happen there as well, which it does not. So nothing ever crosses, and what
 *   is inside each border ends as ti.
 *   Converse: neighbours in the result of a run are such a pair, by the same argument.
 *
 * So windows start where the tokens before are already accepted, the last MARGIN bytes of a window
 * are left to the next one, and only the pair at the joint has to be merged alone to be sure. If
 * that fails, the windows before are done again as one longer one. */
#include "token/bpe.h"

#include <string.h>

#include "token/unicode.h"

enum {
    WINDOW = 512,       /* bytes: tree and symbols stay in the first cache */
    WINDOW_LONG = 4096, /* where tokens are so long that little of a window is accepted */
    MARGIN = 24,        /* bytes at the end of a window that the next one does again */
    CACHE_TEXT = 30,    /* a cache slot is one cache line */
    CACHE_IDS = 8,
    CACHE_MIN = 64,
    CACHE_MAX = 1 << 14
};

struct cache_slot {
    uint8_t n_text, n_ids; /* n_text 0: empty */
    uint8_t text[CACHE_TEXT];
    int32_t ids[CACHE_IDS];
};

/* A window: where it starts, how many ids were there before it, where the token before it starts,
 * and how many bytes it had when it was accepted. */
struct window {
    size_t pos, n_ids, before, size;
};

struct bpe {
    const struct tokenizer *t;
    struct id_list *out;
    struct cache_slot *cache; /* [cache_mask + 1] */
    size_t cache_mask;
    /* symbols of the text at hand; the result is the list from 0 along next */
    uint32_t *id;     /* [cap] */
    uint32_t *start;  /* [cap + 1] offset of the symbol; start[n] is the end */
    uint32_t *prev;   /* [cap] */
    uint32_t *next;   /* [cap] n for the last one */
    uint32_t *result; /* [cap] what the symbol becomes when it is merged with the next one */
    uint64_t *tree;   /* [2 * 2^ceil(log2 cap)] rank << 32 | left symbol; root 1; UINT64_MAX none */
    size_t cap;
    struct window *windows; /* [cap_windows] stack of the run at hand */
    size_t n_windows, cap_windows;
};

slm_err id_list_put(struct id_list *list, int32_t id, slm_why *why) {
    if (list->n == list->cap) {
        size_t cap = list->cap < 16 ? 32 : list->cap * 2;
        int32_t *ids = mem_resize(list->hooks, list->ids, cap, sizeof *ids);
        if (ids == NULL)
            return fail_nomem(why, "ids", cap * sizeof *ids);
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return SLM_OK;
}

/* ---- scratch ---- */

static size_t power_of_two(size_t n) {
    size_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Room for the symbols of n bytes. */
static slm_err reserve(struct bpe *b, size_t n, slm_why *why) {
    if (n <= b->cap)
        return SLM_OK;
    size_t cap = power_of_two(n);
    const struct slm_hooks *h = &b->t->hooks;
    mem_free(h, b->tree);
    b->cap = 0;
    b->id = NULL;
    /* one block: the tree first, as it wants the larger alignment */
    b->tree = mem_alloc(h, cap * 2 * sizeof *b->tree + (cap * 5 + 1) * sizeof *b->id, 1);
    if (b->tree == NULL)
        return fail_nomem(why, "merging", cap * 2 * sizeof *b->tree + cap * 5 * sizeof *b->id);
    b->id = (uint32_t *)(b->tree + cap * 2);
    b->prev = b->id + cap;
    b->next = b->prev + cap;
    b->result = b->next + cap;
    b->start = b->result + cap;
    b->cap = cap;
    return SLM_OK;
}

slm_err bpe_new(const struct tokenizer *t, struct id_list *out, size_t n_text, struct bpe **result,
                slm_why *why) {
    struct bpe *b = mem_zalloc(&t->hooks, 1, sizeof *b);
    if (b == NULL)
        return fail_nomem(why, "merging", sizeof *b);
    b->t = t;
    b->out = out;
    size_t slots = CACHE_MIN;
    while (slots < CACHE_MAX && slots < n_text / 32)
        slots *= 2;
    b->cache_mask = slots - 1;
    b->cache = mem_zalloc(&t->hooks, slots, sizeof *b->cache);
    slm_err err = b->cache == NULL ? fail_nomem(why, "merging", slots * sizeof *b->cache)
                                   : reserve(b, WINDOW, why);
    if (err != SLM_OK) {
        bpe_free(b);
        return err;
    }
    *result = b;
    return SLM_OK;
}

void bpe_free(struct bpe *b) {
    if (b == NULL)
        return;
    const struct slm_hooks *h = &b->t->hooks;
    mem_free(h, b->cache);
    mem_free(h, b->tree);
    mem_free(h, b->windows);
    mem_free(h, b);
}

/* ---- symbols ---- */

/* A character without a token: its bytes, or the unknown token, which takes in unknown characters
 * that follow when the model says so. Returns the new number of symbols. */
static uint32_t unknown_char(struct bpe *b, const uint8_t *s, size_t at, size_t len, uint32_t n) {
    const struct tokenizer *t = b->t;
    if (t->byte_fallback) {
        for (size_t i = 0; i < len; i++, n++) {
            b->id[n] = t->byte_id[s[at + i]];
            b->start[n] = (uint32_t)(at + i);
        }
        return n;
    }
    if (t->fuse_unk && n > 0 && b->id[n - 1] == t->unk)
        return n;
    b->id[n] = t->unk;
    b->start[n] = (uint32_t)at;
    return n + 1;
}

static uint32_t make_symbols(struct bpe *b, const uint8_t *s, size_t n_bytes) {
    const struct tokenizer *t = b->t;
    uint32_t n = 0;
    if (t->model == TOKEN_BPE_BYTES) {
        for (; n < n_bytes; n++) {
            b->id[n] = t->byte_id[s[n]];
            b->start[n] = n;
        }
    } else {
        size_t len;
        for (size_t i = 0; i < n_bytes; i += len) {
            uint32_t id = char_token(t, char_at(s + i, &len));
            if (id == NO_TOKEN) {
                n = unknown_char(b, s, i, len, n);
            } else {
                b->id[n] = id;
                b->start[n++] = (uint32_t)i;
            }
        }
    }
    b->start[n] = (uint32_t)n_bytes;
    return n;
}

/* ---- merging ---- */

/* The leaf of a pair whose left symbol is `left`; what it would become is kept beside it. */
static inline uint64_t merge_key(const struct bpe *b, uint32_t left, struct pair_probe probe) {
    uint32_t rank = pair_answer(b->t, probe);
    if (rank == RANK_NONE)
        return UINT64_MAX;
    b->result[left] = b->t->merged[rank];
    return (uint64_t)rank << 32 | left;
}

static inline void tree_set(uint64_t *tree, size_t node, uint64_t key) {
    tree[node] = key;
    while (node > 1) {
        uint64_t other = tree[node ^ 1];
        if (other < key)
            key = other;
        node >>= 1;
        if (tree[node] == key)
            break;
        tree[node] = key;
    }
}

/* Merges n symbols to the end; symbol 0 always stays the first. */
static void merge_symbols(struct bpe *b, uint32_t n) {
    uint64_t *tree = b->tree;
    for (uint32_t i = 0; i < n; i++) {
        b->prev[i] = i - 1;
        b->next[i] = i + 1;
    }
    if (n < 2)
        return;
    size_t width = power_of_two(n);
    for (uint32_t i = 0; i + 1 < n; i++)
        tree[width + i] = merge_key(b, i, pair_ask(b->t, b->id[i], b->id[i + 1]));
    for (size_t i = n - 1; i < width; i++)
        tree[width + i] = UINT64_MAX;
    for (size_t i = width - 1; i > 0; i--)
        tree[i] = tree[2 * i] < tree[2 * i + 1] ? tree[2 * i] : tree[2 * i + 1];
    while (tree[1] != UINT64_MAX) {
        uint32_t left = (uint32_t)tree[1], right = b->next[left], after = b->next[right];
        uint32_t before = b->prev[left], id = b->result[left];
        struct pair_probe ahead = { 0 }, behind = { 0 };
        if (after < n)
            ahead = pair_ask(b->t, id, b->id[after]);
        if (left > 0)
            behind = pair_ask(b->t, b->id[before], id);
        b->id[left] = id;
        b->next[left] = after;
        tree_set(tree, width + right, UINT64_MAX);
        if (after < n)
            b->prev[after] = left;
        tree_set(tree, width + left, after < n ? merge_key(b, left, ahead) : UINT64_MAX);
        if (left > 0)
            tree_set(tree, width + before, merge_key(b, before, behind));
    }
}

/* Merges s [n]; returns the number n of the symbols before merging, which ends the list. */
static slm_err merge_text(struct bpe *b, const uint8_t *s, size_t n_bytes, uint32_t *n,
                          slm_why *why) {
    TRY(reserve(b, n_bytes, why));
    *n = make_symbols(b, s, n_bytes);
    merge_symbols(b, *n);
    return SLM_OK;
}

/* ---- long runs ---- */

static bool char_starts(const struct bpe *b, const uint8_t *s, size_t n, size_t pos) {
    return b->t->model == TOKEN_BPE_BYTES || pos == n || (s[pos] & 0xc0) != 0x80;
}

/* Whether merging the two tokens alone, s [n_left + n_right], leaves just these. */
static slm_err joint_holds(struct bpe *b, const uint8_t *s, size_t n_left, size_t n_right,
                           const int32_t id[2], bool *holds, slm_why *why) {
    /* bytes of a character without a token take part in no merge, and are no text alone */
    const struct token_entry *left = &b->t->tok[id[0]], *right = &b->t->tok[id[1]];
    if (b->t->model == TOKEN_BPE_SPM &&
        (((left->flags & TF_BYTE) && n_left == 1) || ((right->flags & TF_BYTE) && n_right == 1))) {
        *holds = true;
        return SLM_OK;
    }
    uint32_t n;
    TRY(merge_text(b, s, n_left + n_right, &n, why));
    uint32_t second = b->next[0];
    *holds = second < n && b->next[second] == n && b->start[second] == n_left &&
             b->id[0] == (uint32_t)id[0] && b->id[second] == (uint32_t)id[1];
    return SLM_OK;
}

static slm_err push_window(struct bpe *b, struct window w, slm_why *why) {
    if (b->n_windows == b->cap_windows) {
        size_t cap = b->cap_windows < 32 ? 64 : b->cap_windows * 2;
        struct window *windows = mem_resize(&b->t->hooks, b->windows, cap, sizeof *windows);
        if (windows == NULL)
            return fail_nomem(why, "merging", cap * sizeof *windows);
        b->windows = windows;
        b->cap_windows = cap;
    }
    b->windows[b->n_windows++] = w;
    return SLM_OK;
}

/* Appends the tokens of the merged window s[w.pos ..) that end at or before `limit` (at a border
 * of characters); *next gets the window that follows (its pos is w->pos if nothing was accepted),
 * *first the length of the first token. */
static slm_err accept_tokens(struct bpe *b, const uint8_t *s, size_t n_run, const struct window *w,
                             uint32_t n, size_t limit, struct window *next, size_t *first,
                             slm_why *why) {
    *next = *w;
    *first = 0;
    for (uint32_t i = 0; i < n && w->pos + b->start[b->next[i]] <= limit; i = b->next[i]) {
        TRY(id_list_put(b->out, (int32_t)b->id[i], why));
        size_t end = w->pos + b->start[b->next[i]];
        if (*first == 0)
            *first = end - w->pos;
        if (char_starts(b, s, n_run, end))
            *next = (struct window){ end, b->out->n, w->pos + b->start[i], 0 };
    }
    b->out->n = next->n_ids;
    return SLM_OK;
}

/* The joint at w->pos does not hold: *w becomes a window further back, and the new size is returned.
 * Both the way back and the size double with each failure, so that work stays in proportion to the
 * distance over which the text depends on itself; and no window is done again in the same size. */
static size_t go_back(struct bpe *b, struct window *w, size_t size) {
    size_t failed = w->pos;
    do {
        *w = b->windows[--b->n_windows];
        if (w->size > size)
            size = w->size;
    } while (b->n_windows > 0 && failed - w->pos < size);
    b->out->n = w->n_ids;
    return size * 2;
}

static slm_err long_run(struct bpe *b, const uint8_t *s, size_t n_run, slm_why *why) {
    struct window w = { 0, b->out->n, 0, 0 };
    size_t size = WINDOW;
    b->n_windows = 0;
    while (w.pos < n_run) {
        size_t end = n_run - w.pos <= size ? n_run : w.pos + size;
        while (!char_starts(b, s, n_run, end))
            end--;
        uint32_t n;
        struct window next;
        size_t first;
        TRY(merge_text(b, s + w.pos, end - w.pos, &n, why));
        TRY(accept_tokens(b, s, n_run, &w, n, end == n_run ? end : end - MARGIN, &next, &first,
                          why));
        if (next.pos == w.pos) { /* one token fills the window */
            size *= 2;
            continue;
        }
        bool holds = true;
        if (w.pos > 0)
            TRY(joint_holds(b, s + w.before, w.pos - w.before, first, b->out->ids + w.n_ids - 1,
                            &holds, why));
        if (!holds) {
            size = go_back(b, &w, size);
            continue;
        }
        w.size = size;
        TRY(push_window(b, w, why));
        if (size < WINDOW_LONG && (next.pos - w.pos) / 7 < size / 8)
            size *= 2;
        else if (size > WINDOW_LONG)
            size /= 2;
        w = next;
    }
    return SLM_OK;
}

/* ---- words ---- */

static slm_err short_word(struct bpe *b, const uint8_t *s, size_t n_bytes, slm_why *why) {
    uint32_t n;
    TRY(merge_text(b, s, n_bytes, &n, why));
    for (uint32_t i = 0; i < n; i = b->next[i])
        TRY(id_list_put(b->out, (int32_t)b->id[i], why));
    return SLM_OK;
}

/* ignore_merges: a word that is itself an entry is taken whole. Added tokens in it are data. */
static bool whole_entry(const struct bpe *b, const uint8_t *s, size_t n, int32_t *id) {
    if (!b->t->ignore_merges || n > b->t->longest || !text_possible(b->t, text_hash(s, n)))
        return false;
    uint32_t found = vocab_find(b->t, (const char *)s, n, 0);
    if (found == NO_TOKEN || (b->t->tok[found].flags & TF_ADDED))
        return false;
    *id = (int32_t)found;
    return true;
}

static slm_err uncached_word(struct bpe *b, const uint8_t *s, size_t n, slm_why *why) {
    int32_t id;
    if (whole_entry(b, s, n, &id))
        return id_list_put(b->out, id, why);
    return n <= WINDOW ? short_word(b, s, n, why) : long_run(b, s, n, why);
}

slm_err bpe_word(struct bpe *b, const uint8_t *s, size_t n, slm_why *why) {
    if (n == 1 && b->t->model == TOKEN_BPE_BYTES)
        return id_list_put(b->out, (int32_t)b->t->byte_id[s[0]], why);
    if (n > CACHE_TEXT)
        return uncached_word(b, s, n, why);
    struct cache_slot *slot = &b->cache[text_hash(s, n) & b->cache_mask];
    if (slot->n_text == n && memcmp(slot->text, s, n) == 0) {
        for (unsigned i = 0; i < slot->n_ids; i++)
            TRY(id_list_put(b->out, slot->ids[i], why));
        return SLM_OK;
    }
    size_t before = b->out->n;
    TRY(uncached_word(b, s, n, why));
    size_t n_ids = b->out->n - before;
    if (n_ids <= CACHE_IDS) {
        slot->n_text = (uint8_t)n;
        slot->n_ids = (uint8_t)n_ids;
        memcpy(slot->text, s, n);
        memcpy(slot->ids, b->out->ids + before, n_ids * sizeof *slot->ids);
    }
    return SLM_OK;
}
