/* tokenizer.c - builds struct tokenizer entry by entry, and answers questions about ids.
 *
 * In:  vocabulary entries, merges and added tokens as token_json.c or token_spec.c read them.
 * Out: tables in which encode.c and decode.c need no further checks: every id below size, every
 *      merge's parts and result present, every byte with a token.
 * The byte alphabet is the one of GPT-2: printable Latin-1 stands for itself, the other 68 bytes
 * are written as U+0100..U+0143 in their order. */
#include "token/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "token/added.h"
#include "token/unicode.h"

#define TEXT_LENGTH_MAX 65535
#define PROBES_MAX 4096 /* no honest table comes near; a made one must not take for ever */

/* ---- texts ---- */

const char *token_name(char buf[TOKEN_NAME_MAX], const char *s, size_t n) {
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (at > 40) {
            memcpy(buf + at, "...", 3);
            at += 3;
            break;
        }
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c < 0x7f) {
            buf[at++] = (char)c;
        } else {
            buf[at++] = '\\';
            buf[at++] = 'x';
            buf[at++] = hex[c >> 4];
            buf[at++] = hex[c & 15];
        }
    }
    buf[at] = 0;
    return buf;
}

/* Only has to spread; lives and dies with one tokenizer, so byte order does not matter. */
uint64_t text_hash(const void *bytes, size_t n) {
    const uint64_t k = 0x9fb21c651e98df25u;
    const unsigned char *p = bytes;
    uint64_t h = n * k, w;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * k;
        h ^= h >> 29;
    }
    if (n > 0) {
        w = 0;
        memcpy(&w, p, n);
        h = (h ^ w) * k;
        h ^= h >> 29;
    }
    h *= k;
    return h ^ h >> 32;
}

/* The byte that a character of the byte alphabet stands for, or -1. */
static int alphabet_byte(uint32_t cp) {
    if (cp < 256)
        return (cp > 32 && cp < 127) || (cp > 160 && cp != 173) ? (int)cp : -1;
    uint32_t n = cp - 256;
    if (n < 33)
        return (int)n;
    if (n < 67)
        return (int)(127 + n - 33);
    return n == 67 ? 173 : -1;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static bool spell_bytes(const char *s, size_t n, char *out, size_t *n_out, unsigned *flags) {
    size_t at = 0, len;
    for (size_t i = 0; i < n; i += len) {
        uint32_t cp;
        len = utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            return false;
        int byte = alphabet_byte(cp);
        if (byte < 0) {
            memcpy(out, s, n);
            *n_out = n;
            *flags |= TF_RAW;
            return utf8_valid(s, n) == n;
        }
        out[at++] = (char)byte;
    }
    *n_out = at;
    return true;
}

bool vocab_spell(const struct tokenizer *t, const char *s, size_t n, char *out, size_t *n_out,
                 unsigned *flags) {
    if (t->model == TOKEN_BPE_BYTES)
        return spell_bytes(s, n, out, n_out, flags);
    if (n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>') {
        if (hex_digit(s[3]) < 0 || hex_digit(s[4]) < 0)
            return false;
        *flags |= TF_BYTE;
    }
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(s + i, METASPACE, 3) == 0) {
            out[at++] = ' ';
            i += 3;
        } else {
            if (s[i] == ' ')
                *flags |= TF_RAW; /* text never has a plain space where merges are looked up */
            out[at++] = s[i++];
        }
    }
    *n_out = at;
    return true;
}

/* ---- the map of texts ---- */

static bool same_text(const struct tokenizer *t, uint32_t id, const char *bytes, size_t n,
                      unsigned raw) {
    const struct token_entry *e = &t->tok[id];
    return e->n == n && (e->flags & TF_RAW) == raw &&
           (n == 0 || memcmp(t->pool.data + e->offset, bytes, n) == 0);
}

static uint64_t entry_hash(const char *bytes, size_t n, unsigned raw) {
    return text_hash(bytes, n) ^ (raw ? 0x5bd1e995a5a5a5a5u : 0);
}

uint32_t vocab_find(const struct tokenizer *t, const char *bytes, size_t n, unsigned raw) {
    uint64_t h = entry_hash(bytes, n, raw);
    const uint64_t high = 0xffffffff00000000u;
    for (size_t i = (size_t)h & t->texts.mask;; i = (i + 1) & t->texts.mask) {
        uint64_t slot = t->texts.slots[i];
        if (slot == 0)
            return NO_TOKEN;
        if ((slot & high) == (h & high) && same_text(t, (uint32_t)slot - 1, bytes, n, raw))
            return (uint32_t)slot - 1;
    }
}

/* slots [2^k] is large enough for one more. False when it was made to collide. */
static bool text_map_put(struct text_map *m, uint64_t h, uint32_t id) {
    size_t i = (size_t)h & m->mask;
    for (size_t probes = 0; m->slots[i] != 0; probes++) {
        if (probes == PROBES_MAX)
            return false;
        i = (i + 1) & m->mask;
    }
    m->slots[i] = (h & 0xffffffff00000000u) | (id + 1);
    m->used++;
    return true;
}

static slm_err too_many_probes(slm_why *why, uint64_t offset, const char *what) {
    return fail(why, SLM_E_BUDGET, offset, "%s: more than %d fall on one place of the table", what,
                PROBES_MAX);
}

static slm_err text_map_grow(struct tokenizer *t, slm_why *why) {
    struct text_map bigger = { .mask = t->texts.mask * 2 + 1 };
    bigger.slots = mem_zalloc(&t->hooks, bigger.mask + 1, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return fail_nomem(why, "vocabulary", (bigger.mask + 1) * sizeof *bigger.slots);
    for (size_t i = 0; i <= t->texts.mask; i++) {
        if (t->texts.slots[i] == 0)
            continue;
        uint32_t id = (uint32_t)t->texts.slots[i] - 1;
        const struct token_entry *e = &t->tok[id];
        if (!text_map_put(&bigger, entry_hash(t->pool.data + e->offset, e->n, e->flags & TF_RAW),
                          id)) {
            mem_free(&t->hooks, bigger.slots);
            return too_many_probes(why, SLM_NO_OFFSET, "vocabulary");
        }
    }
    mem_free(&t->hooks, t->texts.slots);
    t->texts = bigger;
    return SLM_OK;
}

/* ---- entries ---- */

slm_err tokenizer_new(const struct slm_hooks *h, struct tokenizer **out, slm_why *why) {
    struct slm_hooks hooks;
    hooks_init(&hooks, h);
    struct tokenizer *t = mem_zalloc(&hooks, 1, sizeof *t);
    if (t == NULL)
        return fail_nomem(why, "tokenizer", sizeof *t);
    t->hooks = hooks;
    t->bos = -1;
    t->unk = NO_TOKEN;
    buf_init(&t->pool, &t->hooks, (size_t)1 << 30);
    for (unsigned b = 0; b < 256; b++) {
        t->byte_id[b] = NO_TOKEN;
        t->byte_text[b] = (uint8_t)b;
    }
    t->texts.mask = 4095;
    t->texts.slots = mem_zalloc(&t->hooks, t->texts.mask + 1, sizeof *t->texts.slots);
    t->pairs.shift = 64 - 12;
    t->pairs.slots = mem_alloc(&t->hooks, 4096, sizeof *t->pairs.slots);
    if (t->texts.slots == NULL || t->pairs.slots == NULL) {
        tokenizer_free(t);
        return fail_nomem(why, "tokenizer", 4096 * sizeof(uint64_t));
    }
    memset(t->pairs.slots, 0xff, 4096 * sizeof *t->pairs.slots);
    *out = t;
    return SLM_OK;
}

void tokenizer_free(struct tokenizer *t) {
    if (t == NULL)
        return;
    const struct slm_hooks hooks = t->hooks;
    mem_free(&hooks, t->tok);
    buf_free(&t->pool);
    mem_free(&hooks, t->texts.slots);
    mem_free(&hooks, t->texts.filter);
    mem_free(&hooks, t->pairs.slots);
    mem_free(&hooks, t->pairs.filter);
    mem_free(&hooks, t->merged);
    added_free(&hooks, &t->raw);
    added_free(&hooks, &t->normalised);
    mem_free(&hooks, t->char_page);
    mem_free(&hooks, t->char_ids);
    mem_free(&hooks, t->joined);
    mem_free(&hooks, t);
}

/* Room for entry id; new entries are absent. */
static slm_err reserve_id(struct tokenizer *t, const struct vocab_item *item, slm_why *why) {
    char name[TOKEN_NAME_MAX];
    if (item->id < 0 || item->id >= (int64_t)TOKEN_IDS_MAX)
        return fail(why, SLM_E_FORMAT, item->offset, "token '%s' has id %lld, allowed are 0 to %u",
                    token_name(name, item->s, item->n), (long long)item->id, TOKEN_IDS_MAX - 1);
    uint32_t id = (uint32_t)item->id;
    if (id >= t->cap_tok) {
        uint32_t cap = t->cap_tok < 4096 ? 4096 : t->cap_tok;
        while (cap <= id)
            cap *= 2;
        struct token_entry *tok = mem_resize(&t->hooks, t->tok, cap, sizeof *tok);
        if (tok == NULL)
            return fail_nomem(why, "vocabulary", cap * sizeof *tok);
        memset(tok + t->cap_tok, 0, (cap - t->cap_tok) * sizeof *tok);
        t->tok = tok;
        t->cap_tok = cap;
    }
    return SLM_OK;
}

static slm_err store_text(struct tokenizer *t, uint32_t id, const char *bytes, size_t n,
                          unsigned flags, slm_why *why) {
    struct token_entry *e = &t->tok[id];
    e->offset = (uint32_t)t->pool.len;
    e->n = (uint16_t)n;
    buf_put(&t->pool, bytes, n);
    if (t->pool.err != SLM_OK)
        return t->pool.err == SLM_E_NOMEM ? fail_nomem(why, "vocabulary", n)
                                          : fail(why, t->pool.err, SLM_NO_OFFSET,
                                                 "vocabulary has more than 1 GiB of text");
    e->flags = (uint16_t)(flags | TF_PRESENT);
    if (id >= t->size)
        t->size = id + 1;
    return SLM_OK;
}

/* What a text stands for, in a buffer of the caller; long texts are refused by name. */
static slm_err spell_item(const struct tokenizer *t, const struct vocab_item *item, char *out,
                          size_t *n, unsigned *flags, slm_why *why) {
    char name[TOKEN_NAME_MAX];
    if (item->n > TEXT_LENGTH_MAX)
        return fail(why, SLM_E_FORMAT, item->offset, "token '%s' has %zu bytes, at most %d",
                    token_name(name, item->s, item->n), item->n, TEXT_LENGTH_MAX);
    if (utf8_valid(item->s, item->n) != item->n)
        return fail(why, SLM_E_FORMAT, item->offset, "token %lld '%s' is not UTF-8",
                    (long long)item->id, token_name(name, item->s, item->n));
    if (!vocab_spell(t, item->s, item->n, out, n, flags))
        return fail(why, SLM_E_FORMAT, item->offset, "token %lld '%s' names no byte",
                    (long long)item->id, token_name(name, item->s, item->n));
    return SLM_OK;
}

slm_err vocab_add(struct tokenizer *t, const struct vocab_item *item, slm_why *why) {
    char name[TOKEN_NAME_MAX], other[TOKEN_NAME_MAX], small[512];
    char *bytes = small;
    if (item->n > sizeof small) {
        bytes = mem_alloc(&t->hooks, item->n, 1);
        if (bytes == NULL)
            return fail_nomem(why, "vocabulary", item->n);
    }
    slm_err err = SLM_OK;
    size_t n = 0;
    unsigned flags = item->flags;
    TRY_OUT(reserve_id(t, item, why));
    uint32_t id = (uint32_t)item->id;
    if (t->tok[id].flags & TF_PRESENT)
        TRY_OUT(fail(why, SLM_E_FORMAT, item->offset, "id %u is both '%s' and '%s'", id,
                     token_name(name, t->pool.data + t->tok[id].offset, t->tok[id].n),
                     token_name(other, item->s, item->n)));
    TRY_OUT(spell_item(t, item, bytes, &n, &flags, why));
    if (item->hash) {
        uint32_t twin = vocab_find(t, bytes, n, flags & TF_RAW);
        if (twin != NO_TOKEN)
            TRY_OUT(fail(why, SLM_E_FORMAT, item->offset, "token '%s' has ids %u and %u",
                         token_name(name, item->s, item->n), twin, id));
        flags |= TF_VOCAB;
        if (n > t->longest)
            t->longest = n;
        if (t->texts.used * 2 >= t->texts.mask)
            TRY_OUT(text_map_grow(t, why));
    }
    TRY_OUT(store_text(t, id, bytes, n, flags, why));
    if (item->hash && !text_map_put(&t->texts, entry_hash(bytes, n, flags & TF_RAW), id))
        err = too_many_probes(why, item->offset, "vocabulary");
out:
    if (bytes != small)
        mem_free(&t->hooks, bytes);
    return err;
}

/* ---- merges ---- */

/* Replaces the rank when the pair is there (the official library keeps the last one too). */
static bool pair_put(struct pair_map *m, uint64_t key, uint32_t rank) {
    size_t mask = ((size_t)1 << (64 - m->shift)) - 1;
    size_t i = (size_t)((key * PAIR_MULTIPLIER) >> m->shift);
    for (size_t probes = 0; m->slots[i] != PAIR_EMPTY && m->slots[i] >> 20 != key; probes++) {
        if (probes == PROBES_MAX)
            return false;
        i = (i + 1) & mask;
    }
    m->used += m->slots[i] == PAIR_EMPTY;
    m->slots[i] = key << 20 | rank;
    return true;
}

static slm_err pair_map_grow(struct tokenizer *t, slm_why *why) {
    size_t old_size = (size_t)1 << (64 - t->pairs.shift);
    struct pair_map bigger = { .shift = t->pairs.shift - 1 };
    bigger.slots = mem_alloc(&t->hooks, old_size * 2, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return fail_nomem(why, "merges", old_size * 2 * sizeof *bigger.slots);
    memset(bigger.slots, 0xff, old_size * 2 * sizeof *bigger.slots);
    for (size_t i = 0; i < old_size; i++) {
        uint64_t slot = t->pairs.slots[i];
        if (slot != PAIR_EMPTY && !pair_put(&bigger, slot >> 20, (uint32_t)slot & 0xfffff)) {
            mem_free(&t->hooks, bigger.slots);
            return too_many_probes(why, SLM_NO_OFFSET, "merges");
        }
    }
    mem_free(&t->hooks, t->pairs.slots);
    t->pairs = bigger;
    return SLM_OK;
}

slm_err vocab_merge_ids(struct tokenizer *t, uint32_t left, uint32_t right, uint32_t result,
                        slm_why *why) {
    if (t->n_merges == TOKEN_MERGES_MAX)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "more than %u merges", TOKEN_MERGES_MAX);
    if (t->n_merges == t->cap_merges) {
        uint32_t cap = t->cap_merges < 4096 ? 4096 : t->cap_merges * 2;
        uint32_t *merged = mem_resize(&t->hooks, t->merged, cap, sizeof *merged);
        if (merged == NULL)
            return fail_nomem(why, "merges", cap * sizeof *merged);
        t->merged = merged;
        t->cap_merges = cap;
    }
    if (t->pairs.used * 2 >= (size_t)1 << (64 - t->pairs.shift))
        TRY(pair_map_grow(t, why));
    if (!pair_put(&t->pairs, (uint64_t)left << 20 | right, t->n_merges))
        return too_many_probes(why, SLM_NO_OFFSET, "merges");
    t->merged[t->n_merges++] = result;
    return SLM_OK;
}

/* Byte tokens stand for parts of characters that have no token; in text they are only made when
 * merging begins. A merge of one would need them to be found again in the middle of characters. */
static slm_err refuse_byte_part(const struct tokenizer *t, uint32_t id, uint64_t offset,
                                slm_why *why) {
    char name[TOKEN_NAME_MAX];
    const struct token_entry *e = &t->tok[id];
    if (t->model == TOKEN_BPE_SPM && (e->flags & TF_BYTE))
        return fail(why, SLM_E_UNSUPPORTED, offset, "merge of the byte token '%s'",
                    token_name(name, t->pool.data + e->offset, e->n));
    return SLM_OK;
}

slm_err vocab_merge(struct tokenizer *t, const char *s, size_t n_left, size_t n_right,
                    uint64_t offset, slm_why *why) {
    char small[1024], name[TOKEN_NAME_MAX];
    const size_t start[3] = { 0, n_left, 0 }, length[3] = { n_left, n_right, n_left + n_right };
    uint32_t id[3];
    if (n_left > TEXT_LENGTH_MAX || n_right > TEXT_LENGTH_MAX)
        return fail(why, SLM_E_FORMAT, offset,
                    "merge %u has parts of %zu and %zu bytes, at most %d", t->n_merges, n_left,
                    n_right, TEXT_LENGTH_MAX);
    char *bytes = small;
    if (n_left + n_right > sizeof small) {
        bytes = mem_alloc(&t->hooks, n_left + n_right, 1);
        if (bytes == NULL)
            return fail_nomem(why, "merges", n_left + n_right);
    }
    slm_err err = SLM_OK;
    for (int i = 0; i < 3; i++) {
        unsigned flags = 0;
        size_t n = 0;
        id[i] = NO_TOKEN;
        if (vocab_spell(t, s + start[i], length[i], bytes, &n, &flags))
            id[i] = vocab_find(t, bytes, n, flags & TF_RAW);
        if (id[i] == NO_TOKEN)
            TRY_OUT(fail(why, SLM_E_FORMAT, offset, "merge %u needs '%s', which is no token",
                         t->n_merges, token_name(name, s + start[i], length[i])));
        if (i < 2)
            TRY_OUT(refuse_byte_part(t, id[i], offset, why));
    }
    err = vocab_merge_ids(t, id[0], id[1], id[2], why);
out:
    if (bytes != small)
        mem_free(&t->hooks, bytes);
    return err;
}

/* ---- added tokens ---- */

static bool looks_like_control(const char *s, size_t n) {
    return n >= 5 && memcmp(s, "<|", 2) == 0 && memcmp(s + n - 2, "|>", 2) == 0;
}

/* Entry for the content: the vocabulary's own, or a new one under the given id. */
static slm_err added_entry(struct tokenizer *t, const struct vocab_item *item, char *bytes,
                           slm_why *why) {
    char name[TOKEN_NAME_MAX], other[TOKEN_NAME_MAX];
    size_t n = 0;
    unsigned flags = 0;
    TRY(reserve_id(t, item, why));
    TRY(spell_item(t, item, bytes, &n, &flags, why));
    uint32_t id = (uint32_t)item->id, found = vocab_find(t, bytes, n, flags & TF_RAW);
    struct token_entry *e = &t->tok[id];
    if (found != NO_TOKEN && found != id)
        return fail(why, SLM_E_FORMAT, item->offset,
                    "added token '%s' has id %u, in the vocabulary it has id %u",
                    token_name(name, item->s, item->n), id, found);
    if (found == NO_TOKEN && (e->flags & TF_PRESENT))
        return fail(why, SLM_E_FORMAT, item->offset, "id %u is both '%s' and the added token '%s'",
                    id, token_name(other, t->pool.data + e->offset, e->n),
                    token_name(name, item->s, item->n));
    if (found != NO_TOKEN && t->model == TOKEN_BPE_SPM)
        return SLM_OK;
    /* byte-level decoding gives an added token back as it is written */
    if (t->model == TOKEN_BPE_BYTES) {
        if (found != NO_TOKEN && n == item->n)
            return SLM_OK;
        memcpy(bytes, item->s, item->n);
        n = item->n;
        flags = TF_RAW;
    }
    return store_text(t, id, bytes, n, flags | (found != NO_TOKEN ? e->flags : 0u), why);
}

slm_err vocab_add_added(struct tokenizer *t, const struct vocab_item *item, slm_why *why) {
    char name[TOKEN_NAME_MAX], bytes[ADDED_LENGTH_MAX];
    if (item->n == 0 || item->n > ADDED_LENGTH_MAX)
        return fail(why, item->n == 0 ? SLM_E_FORMAT : SLM_E_UNSUPPORTED, item->offset,
                    "added token %lld '%s' has %zu bytes, allowed are 1 to %d", (long long)item->id,
                    token_name(name, item->s, item->n), item->n, ADDED_LENGTH_MAX);
    TRY(added_entry(t, item, bytes, why));
    uint32_t id = (uint32_t)item->id;
    unsigned flags = item->flags | TF_ADDED;
    if ((flags & TF_SPECIAL) || looks_like_control(item->s, item->n))
        flags |= TF_CONTROL;
    t->tok[id].flags |= (uint16_t)flags;
    bool fresh = false;
    TRY(added_put(&t->hooks, &t->raw, item->s, item->n, id, &fresh, why));
    if (!fresh)
        return fail(why, SLM_E_FORMAT, item->offset, "added token '%s' is declared twice",
                    token_name(name, item->s, item->n));
    return SLM_OK;
}

/* ---- tables ---- */

/* Byte-level: every byte needs a token, or a text could not be encoded. */
static slm_err find_byte_tokens(struct tokenizer *t, slm_why *why) {
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        uint32_t id = vocab_find(t, &byte, 1, 0);
        if (id == NO_TOKEN)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "vocabulary has no token for byte 0x%02x",
                        b);
        t->byte_id[b] = id;
    }
    return SLM_OK;
}

/* <0xNN> tokens stand for their byte; several spellings of one byte: the lowest id counts. */
static void find_fallback_tokens(struct tokenizer *t) {
    for (uint32_t id = t->size; id-- > 0;) {
        struct token_entry *e = &t->tok[id];
        if (!(e->flags & TF_PRESENT) || !(e->flags & TF_BYTE))
            continue;
        const char *s = t->pool.data + e->offset;
        t->byte_id[hex_digit(s[3]) * 16 + hex_digit(s[4])] = id;
    }
    for (unsigned b = 0; b < 256; b++)
        t->byte_fallback = t->byte_fallback && t->byte_id[b] != NO_TOKEN;
}

/* The code point of an entry that is exactly one character; false otherwise. */
static bool single_char(const struct tokenizer *t, const struct token_entry *e, uint32_t *cp) {
    return (e->flags & TF_VOCAB) && !(e->flags & TF_RAW) && e->n >= 1 && e->n <= 4 &&
           utf8_decode(t->pool.data + e->offset, e->n, cp) == e->n;
}

static slm_err build_char_table(struct tokenizer *t, slm_why *why) {
    enum { PAGES = 0x1100, PAGE = 256 };
    t->char_page = mem_zalloc(&t->hooks, PAGES, sizeof *t->char_page);
    if (t->char_page == NULL)
        return fail_nomem(why, "characters", PAGES * sizeof *t->char_page);
    uint16_t n_pages = 1;
    uint32_t cp = 0;
    t->char_page[METASPACE_CP >> 8] = n_pages++;
    for (uint32_t id = 0; id < t->size; id++)
        if (single_char(t, &t->tok[id], &cp) && t->char_page[cp >> 8] == 0)
            t->char_page[cp >> 8] = n_pages++;
    t->char_ids = mem_alloc(&t->hooks, n_pages, sizeof *t->char_ids);
    if (t->char_ids == NULL)
        return fail_nomem(why, "characters", n_pages * sizeof *t->char_ids);
    memset(t->char_ids, 0xff, n_pages * sizeof *t->char_ids);
    for (uint32_t id = 0; id < t->size; id++)
        if (single_char(t, &t->tok[id], &cp))
            t->char_ids[t->char_page[cp >> 8]][cp & 255] = id;
    t->char_ids[t->char_page[METASPACE_CP >> 8]][METASPACE_CP & 255] = char_token(t, ' ');
    return SLM_OK;
}

static slm_err build_joined(struct tokenizer *t, slm_why *why) {
    t->joined = mem_zalloc(&t->hooks, JOINED_BITS / 64, sizeof *t->joined);
    if (t->joined == NULL)
        return fail_nomem(why, "pairs of characters", JOINED_BITS / 8);
    uint32_t last = NO_TOKEN;
    for (uint32_t rank = 0; rank < t->n_merges; rank++) {
        if (t->merged[rank] == last)
            continue;
        last = t->merged[rank];
        const struct token_entry *e = &t->tok[last];
        const uint8_t *s = (const uint8_t *)t->pool.data + e->offset;
        size_t len;
        uint32_t before = char_at(s, &len);
        for (size_t i = len; i < e->n; i += len) {
            uint32_t cp = char_at(s + i, &len);
            size_t bit = joined_bit(before, cp);
            t->joined[bit >> 6] |= (uint64_t)1 << (bit & 63);
            before = cp;
        }
    }
    return SLM_OK;
}

static slm_err build_filter(struct tokenizer *t, slm_why *why) {
    unsigned log = 6;
    while (((size_t)1 << log) * 8 < t->pairs.used)
        log++;
    t->pairs.filter_shift = 64 - log;
    t->pairs.filter = mem_zalloc(&t->hooks, (size_t)1 << log, sizeof *t->pairs.filter);
    if (t->pairs.filter == NULL)
        return fail_nomem(why, "merges", ((size_t)1 << log) * sizeof *t->pairs.filter);
    size_t n_slots = (size_t)1 << (64 - t->pairs.shift);
    for (size_t i = 0; i < n_slots; i++) {
        if (t->pairs.slots[i] == PAIR_EMPTY)
            continue;
        uint64_t product = (t->pairs.slots[i] >> 20) * PAIR_MULTIPLIER;
        t->pairs.filter[product >> t->pairs.filter_shift] |= pair_bits(product);
    }
    return SLM_OK;
}

/* ignore_merges asks for every word that is not cached; most are no entry. */
static slm_err build_text_filter(struct tokenizer *t, slm_why *why) {
    t->texts.filter = mem_zalloc(&t->hooks, TEXT_FILTER_BITS / 64, sizeof *t->texts.filter);
    if (t->texts.filter == NULL)
        return fail_nomem(why, "vocabulary", TEXT_FILTER_BITS / 8);
    for (uint32_t id = 0; id < t->size; id++) {
        const struct token_entry *e = &t->tok[id];
        if (!(e->flags & TF_VOCAB) || (e->flags & (TF_RAW | TF_ADDED)))
            continue;
        size_t bit = text_filter_bit(text_hash(t->pool.data + e->offset, e->n));
        t->texts.filter[bit >> 6] |= (uint64_t)1 << (bit & 63);
    }
    return SLM_OK;
}

/* The unknown token only exists as a symbol when merging begins (see refuse_byte_part). */
static slm_err refuse_unknown_part(const struct tokenizer *t, slm_why *why) {
    size_t n_slots = (size_t)1 << (64 - t->pairs.shift);
    for (size_t i = 0; i < n_slots; i++) {
        uint64_t slot = t->pairs.slots[i];
        if (slot != PAIR_EMPTY && (slot >> 40 == t->unk || (slot >> 20 & 0xfffff) == t->unk))
            return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "merge of the unknown token %u",
                        t->unk);
    }
    return SLM_OK;
}

slm_err vocab_finish(struct tokenizer *t, slm_why *why) {
    if (t->size == 0)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "vocabulary has no tokens");
    if (t->bos >= 0 && token_entry(t, t->bos) == NULL)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "first token has id %d, which is no token",
                    t->bos);
    TRY(added_put_normalised(t, why));
    TRY(build_filter(t, why));
    if (t->ignore_merges)
        TRY(build_text_filter(t, why));
    if (t->model == TOKEN_BPE_BYTES)
        return find_byte_tokens(t, why);
    find_fallback_tokens(t);
    if (!t->byte_fallback && t->unk == NO_TOKEN)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "vocabulary has neither all 256 byte tokens nor an unknown token");
    if (!t->byte_fallback)
        TRY(refuse_unknown_part(t, why));
    if (vocab_find(t, " ", 1, 0) == NO_TOKEN)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "vocabulary has no token for U+2581 (space)");
    TRY(build_char_table(t, why));
    return build_joined(t, why);
}

/* ---- questions ---- */

uint32_t tokenizer_size(const struct tokenizer *t) {
    return t->size;
}

int32_t tokenizer_bos(const struct tokenizer *t) {
    return t->bos;
}

bool token_text_of(const struct tokenizer *t, int32_t id, const char **text, size_t *n) {
    const struct token_entry *e = token_entry(t, id);
    if (e == NULL)
        return false;
    const char *s = e->n > 0 ? t->pool.data + e->offset : "";
    if (e->flags & TF_BYTE) {
        *text = (const char *)&t->byte_text[hex_digit(s[3]) * 16 + hex_digit(s[4])];
        *n = 1;
    } else {
        *text = s;
        *n = e->n;
    }
    return true;
}

bool token_is_control(const struct tokenizer *t, int32_t id) {
    const struct token_entry *e = token_entry(t, id);
    return e != NULL && (e->flags & TF_CONTROL);
}

bool token_is_special(const struct tokenizer *t, int32_t id) {
    const struct token_entry *e = token_entry(t, id);
    return e != NULL && (e->flags & TF_SPECIAL);
}

int32_t token_id_of(const struct tokenizer *t, const char *text, size_t n) {
    uint32_t id = added_find(&t->raw, text, n);
    if (id != NO_TOKEN)
        return (int32_t)id;
    id = vocab_find(t, text, n, 0);
    if (id == NO_TOKEN)
        id = vocab_find(t, text, n, TF_RAW);
    if (id == NO_TOKEN && t->model == TOKEN_BPE_SPM && n == 1)
        id = t->byte_id[(uint8_t)text[0]];
    return id == NO_TOKEN || (t->tok[id].flags & TF_BYTE && n != 1) ? -1 : (int32_t)id;
}

void tokenizer_mark_control(struct tokenizer *t, const char *text, size_t n) {
    added_mark(t, text, n);
}
