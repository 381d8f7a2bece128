/* constrain_walk.h - what the tests of constraints share: vocabularies, and documents walked through
 * grammars byte for byte, token by token, and against masks found by trying every token. */
#ifndef SLM_TESTS_CONSTRAIN_WALK_H
#define SLM_TESTS_CONSTRAIN_WALK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "constrain/constrain.h"
#include "support.h"

struct rng {
    uint64_t s;
};
static inline uint32_t rng_below(struct rng *r, uint32_t n) {
    r->s = r->s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((r->s >> 33) % n);
}

/* All single bytes, then pieces of documents and of what tends to stand in them: as a vocabulary has. */
struct pieces {
    struct constrain_token tokens[4096];
    char text[65536];
    size_t n, used;
};

static inline void piece_add(struct pieces *p, const char *s, size_t n) {
    if (p->n == sizeof p->tokens / sizeof p->tokens[0] || p->used + n > sizeof p->text)
        return;
    memcpy(p->text + p->used, s, n);
    p->tokens[p->n++] = (struct constrain_token){ p->text + p->used, n };
    p->used += n;
}

static inline void pieces_bytes(struct pieces *p) {
    static const char *const common[] = {
        "\"",
        "\":",
        "\": ",
        "\", \"",
        "\",",
        "},",
        "}, {",
        "{\"",
        "\"}",
        "[{\"",
        "\"]",
        "\"], \"",
        ", ",
        ": ",
        "[]",
        "{}",
        "true",
        "false",
        "null",
        "12",
        "00",
        "-1",
        ".5",
        "e+",
        "\\n",
        "\\u00",
        "\\\"",
        "abc",
        "name",
        "id",
        "type",
        "a\"",
        "\"a\"",
        "\"a\": ",
        "\"a\": 1, \"a\"",
        "\xe2\x82",
        "\xf0\x9f\x98",
        "\xc3\xa9",
        "  ",
        "\n  ",
        "\"id\": ",
        "\"b\": 2}",
        "\": \"",
        "1, \"",
        "]]",
        "}}",
        "2024",
        "-01",
        "T1",
        "aaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"",
        "\\ud83d",
        "\\ude00",
        "</",
    };
    p->n = p->used = 0;
    piece_add(p, "", 0); /* an id without a token */
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        piece_add(p, &c, 1);
    }
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        piece_add(p, common[i], strlen(common[i]));
    piece_add(p, "a", 1); /* two ids with the same bytes */
}

/* Pieces of a document, cut at random. */
static inline void pieces_cut(struct pieces *p, struct rng *r, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t len = 1 + rng_below(r, 7);
        len = len < n - i ? len : n - i;
        piece_add(p, s + i, len);
        i += len;
    }
}

static inline bool mask_has(const uint32_t *mask, uint32_t id) {
    return (mask[id / 32] >> (id % 32) & 1) != 0;
}

/* The mask of a matcher is what trying every token says. Prints and returns false when it is not. */
static inline bool mask_is_right(struct matcher *m, const struct pieces *p, const char *prefix,
                                 size_t n) {
    const uint32_t *mask;
    slm_why why;
    char copy[16384];
    if (n >= sizeof copy)
        return true;
    slm_err err = matcher_mask(m, &mask, &why);
    if (err != SLM_OK) {
        printf("# no mask behind '%.*s': %s\n", (int)n, prefix, why.message);
        return false;
    }
    memcpy(copy, prefix, n);
    uint32_t words = (uint32_t)(p->n + 31) / 32;
    uint32_t *given = malloc(words * sizeof *given);
    memcpy(given, mask, words * sizeof *given);
    bool ok = true;
    for (uint32_t id = 0; id < p->n && ok; id++) {
        bool want = matcher_accept(m, (int32_t)id);
        if (want) {
            matcher_reset(m);
            if (n > 0 && !matcher_accept_bytes(m, copy, n))
                ok = false;
        }
        if (want != mask_has(given, id)) {
            printf("# behind '%.*s' token '%.*s' is %s, mask says %d\n", (int)n, prefix,
                   (int)p->tokens[id].n, p->tokens[id].s, want ? "of the language" : "not", !want);
            ok = false;
        }
    }
    free(given);
    return ok;
}

/* s [n] byte by byte: how far it goes; *ends: it may end there. */
static inline size_t walk_bytes(struct matcher *m, const char *s, size_t n, bool *ends) {
    size_t i = 0;
    matcher_reset(m);
    while (i < n && matcher_accept_bytes(m, s + i, 1))
        i++;
    *ends = i == n && matcher_may_end(m);
    return i;
}

/* In tokens of the vocabulary, chosen at random among those that fit the text; each has to be in the mask.
 * Only for texts that are of the language. */
static inline bool walk_tokens(struct matcher *m, const struct pieces *p, struct rng *r,
                               const char *s, size_t n) {
    matcher_reset(m);
    for (size_t i = 0; i < n;) {
        const uint32_t *mask;
        uint32_t fits = 0, pick = 0;
        for (uint32_t id = 0; id < p->n; id++)
            if (p->tokens[id].n > 0 && p->tokens[id].n <= n - i &&
                memcmp(p->tokens[id].s, s + i, p->tokens[id].n) == 0 && rng_below(r, ++fits) == 0)
                pick = id;
        if (matcher_mask(m, &mask, NULL) != SLM_OK || !mask_has(mask, pick) ||
            !matcher_accept(m, (int32_t)pick)) {
            printf("# at byte %zu of '%.*s' token '%.*s' is refused\n", i, (int)n, s,
                   (int)p->tokens[pick].n, p->tokens[pick].s);
            return false;
        }
        i += p->tokens[pick].n;
    }
    return matcher_may_end(m);
}

/* A random answer through masks, at most `most` tokens; ends where the text may end (always, once that
 * many tokens are out: then by the shortest way that masks show). Returns its length, or SIZE_MAX when
 * there was no way on, SIZE_MAX - 1 when it did not fit. */
static inline size_t walk_random(struct matcher *m, const struct pieces *p, struct rng *r,
                                 unsigned most, char *out, size_t room) {
    size_t n = 0;
    matcher_reset(m);
    for (unsigned step = 0;; step++) {
        const uint32_t *mask;
        slm_why why;
        bool end = matcher_may_end(m);
        if (end && (matcher_must_end(m) || step >= most || rng_below(r, 4) == 0))
            return n;
        if (matcher_mask(m, &mask, &why) != SLM_OK) {
            printf("# no way on behind '%.*s': %s\n", (int)n, out, why.message);
            return SIZE_MAX;
        }
        uint32_t fits = 0, pick = UINT32_MAX;
        static const char closers[] = "\"}]";
        for (const char *c = closers; step >= most && *c != '\0' && pick == UINT32_MAX; c++)
            if (mask_has(mask, 1 + (uint8_t)*c)) /* the byte c */
                pick = 1 + (uint8_t)*c;
        for (uint32_t id = 0, none = pick == UINT32_MAX; id < p->n && none; id++)
            if (mask_has(mask, id) && rng_below(r, ++fits) == 0)
                pick = id;
        if (pick == UINT32_MAX || n + p->tokens[pick].n > room)
            return pick == UINT32_MAX ? SIZE_MAX : SIZE_MAX - 1;
        if (!matcher_accept(m, (int32_t)pick)) {
            printf("# token '%.*s' of the mask is refused behind '%.*s'\n", (int)p->tokens[pick].n,
                   p->tokens[pick].s, (int)n, out);
            return SIZE_MAX;
        }
        memcpy(out + n, p->tokens[pick].s, p->tokens[pick].n);
        n += p->tokens[pick].n;
    }
}

#endif
