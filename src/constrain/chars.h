/* chars.h - languages over code points: what strings a pattern, a length or a list of words allows.
 *
 * A struct chars is a deterministic automaton whose alphabet is the code points in classes that no
 * transition tells apart. Patterns, lengths and exclusions are intersected here, on characters, and only
 * the result becomes nodes that read bytes (UTF-8, or the body of a JSON string with its escapes).
 * Everything is in the builder's arena; a failure sticks in the builder and gives NULL. */
#ifndef SLM_CONSTRAIN_CHARS_H
#define SLM_CONSTRAIN_CHARS_H

#include "constrain/grammar.h"

#define CP_MAX 0x10ffffu

struct span {
    uint32_t lo, hi; /* code points, both included */
};
struct chars {
    uint32_t *bounds;  /* [n_spans] where each span begins; bounds[0] is 0 */
    uint32_t *classes; /* [n_spans] class of its characters */
    uint32_t n_spans, n_classes;
    uint32_t *next;                /* [n_states, n_classes]; NODE_NONE: no way on */
    uint8_t *accept;               /* [n_states] */
    uint32_t n_states, cap_states; /* state 0 is the start */
};

/* A state without transitions. Returns its number, NODE_NONE after a failure. */
uint32_t chars_state(struct build *b, struct chars *c, bool accept);
void chars_sort(uint32_t *v, uint32_t n); /* ascending; without memory or a bad case */
/* From an expression: `search`: strings that contain a match; else those that match as a whole. `where`
 * is put before messages and may be "". */
struct chars *chars_regex(struct build *b, const char *pattern, size_t n, bool search,
                          const char *where);
/* Strings of min to max characters; max UINT32_MAX: any number from min on. */
struct chars *chars_length(struct build *b, uint32_t min, uint32_t max);
/* Exactly these n strings (`except` false), or all others. Valid UTF-8, zero-terminated. */
struct chars *chars_words(struct build *b, const char *const *words, uint32_t n, bool except);
/* Strings that both allow. Either may be NULL: the other. */
struct chars *chars_both(struct build *b, const struct chars *x, const struct chars *y);
/* Those that x allows and y does not. */
struct chars *chars_without(struct build *b, const struct chars *x, const struct chars *y);
/* Transitions that cannot lead to acceptance are removed; states keep their numbers. */
void chars_trim(struct build *b, struct chars *c);
/* After chars_trim: no string at all. */
bool chars_empty(const struct chars *c);
bool chars_match(const struct chars *c, const char *s, size_t n);
/* After chars_trim: how many strings each state still allows, [n_states], at most UINT32_MAX, which also
 * stands for no end of them. NULL after a failure. */
uint32_t *chars_count(struct build *b, const struct chars *c);
/* The strings of c, zero-terminated, in the order of code points, up to `most`. */
uint32_t chars_list(struct build *b, const struct chars *c, char **out, uint32_t most);

enum chars_kind {
    CHARS_RAW,    /* the characters themselves; ends at final nodes */
    CHARS_STRING, /* body of a JSON string behind its opening quote, ends behind the closing one */
    CHARS_KEY /* the same as a free key: no frames inside, nodes marked NODE_KEY, end NODE_KEY_END */
};
/* Nodes that read what c allows; returns the first. In strings every character has one spelling: itself,
 * and an escape (the short one where there is one, else four hexadecimal digits in lower case) only where
 * JSON demands it. After chars_trim; the language is not empty. */
uint32_t chars_emit(struct build *b, const struct chars *c, enum chars_kind kind);
/* The body of any JSON string with any spelling (no \u0000), min to max characters long. */
uint32_t chars_any_string(struct build *b, uint32_t min, uint32_t max);

#endif
