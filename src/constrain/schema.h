/* schema.h - how a JSON Schema becomes rules.
 *
 * A rule reads what a set of schemas accepts together: a schema alone, a schema and what its $ref and
 * allOf add, and with one of the alternatives of each anyOf chosen. Rules are made once for each such
 * set, and wait in a queue until they are filled; so recursion in schemas is recursion of rules, and
 * nothing here recurses. */
#ifndef SLM_CONSTRAIN_SCHEMA_H
#define SLM_CONSTRAIN_SCHEMA_H

#include "constrain/chars.h"
#include "constrain/digits.h"

/* A member of the set. What was taken from it already: */
enum { TOOK_REF = 1 /* $ref and allOf */, TOOK_ANY = 2, TOOK_ONE = 4 };
struct part {
    const json_t *schema; /* an object, or false */
    uint32_t took;
    uint32_t parent; /* in this set: whose $ref or allOf it is; NODE_NONE: it was there before */
};
struct parts {
    struct part *v;
    uint32_t n, cap;
};

enum type_bit {
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_WHOLE = 4,
    TYPE_REAL = 8, /* numbers that are not whole */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};

struct texts {
    const char **v;
    uint32_t n, cap;
};
/* All keywords of a set that say something about the value itself, together. */
struct merged {
    const struct parts *parts;
    const json_t *whose; /* the first of them, for messages */
    uint32_t types;
    const json_t **values; /* [n_values] of enum and const: nothing else is allowed */
    uint32_t n_values;
    bool has_values, structured; /* structured: keywords that look into arrays or objects */
    struct decimal low, high, steps[16];
    bool has_low, has_high;
    struct digits digits; /* points to low and high */
    uint32_t n_steps;
    uint32_t min_length, max_length, min_items, max_items, min_members, max_members;
    struct texts patterns, formats;
};

struct memo_slot {
    const void *key;
    uint32_t n, value, used;
};
struct memo {                /* bytes to a number */
    struct memo_slot *slots; /* [mask + 1] */
    uint32_t mask, n;
};
/* The value of a key [n]; NODE_NONE when it is new: *slot is then where memo_put stores it. */
uint32_t memo_get(struct build *b, struct memo *m, const void *key, uint32_t n, uint32_t *slot);
void memo_put(struct memo *m, uint32_t slot, uint32_t value);

struct waiting {
    struct parts parts;
    uint32_t node;
};
struct schema {
    struct build *b;
    const json_t *root;
    bool draft7;        /* $ref hides what stands beside it */
    struct memo rules;  /* parts to start nodes */
    struct memo texts;  /* languages of strings to the nodes of their bodies */
    struct memo places; /* JSON pointers that were followed, to themselves */
    struct waiting *queue;
    uint32_t n_queue, cap_queue, done;
};

void schema_init(struct schema *s, struct build *b, const json_t *root);
/* The rule of a schema (object or boolean), or of a set. */
uint32_t schema_rule(struct schema *s, const json_t *schema);
uint32_t schema_rule_of(struct schema *s, const struct parts *p);
/* Fills every rule that waits, and those that they need. */
void schema_fill(struct schema *s);

/* ---- between the files of the compiler ---- */

bool parts_add(struct schema *s, struct parts *p, const json_t *schema, uint32_t took);
/* "#/properties/a" of a place in the document, in the arena. */
const char *schema_place(struct schema *s, const json_t *where);
/* E_UNSUPPORTED and E_FORMAT about a keyword of a schema. */
void schema_unsupported(struct schema *s, const json_t *where, const char *keyword,
                        const char *what);
void schema_malformed(struct schema *s, const json_t *where, const char *keyword, const char *what);
/* Follows $ref and allOf until nothing is added. False: nothing satisfies the set (or failure). */
bool schema_flatten(struct schema *s, const struct parts *in, struct parts *out);
/* Reads the keywords of a flattened set. */
bool schema_merge(struct schema *s, const struct parts *p, struct merged *m);
/* NULL: any string. */
struct chars *schema_chars(struct schema *s, const struct merged *m);
/* A constant is of the set, as far as keywords of its own type tell. */
bool schema_allows(struct schema *s, const struct merged *m, const json_t *value);
/* No value is of both. */
bool schema_disjoint(struct schema *s, const json_t *x, const json_t *y);
/* Adds what the set reads to the node `from`. */
void schema_object(struct schema *s, const struct merged *m, uint32_t from);
void schema_array(struct schema *s, const struct merged *m, uint32_t from);
/* The same object as the arguments of a function call, from the opening parenthesis on: known members only,
 * and their names have to be identifiers. */
void schema_arguments(struct schema *s, const struct merged *m, uint32_t from);
/* The language of a "format", NULL: not known. Numeric ones are ignored here. */
const char *format_pattern(const char *name);

#endif
