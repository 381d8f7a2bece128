/* constrain.h - which ids may come next, so that an answer is of a given language.
 *
 * A grammar is a language over bytes: an automaton with a stack, compiled from a JSON schema, a regular
 * expression, a list of choices or a set of tools. A vocabulary is the bytes of every id in a trie. A
 * matcher walks one answer through a grammar and tells after each id which ids may follow. Grammars and
 * vocabularies are constant once made and shared by threads; a matcher belongs to one answer.
 *
 * Schemas, expressions and tools are untrusted: nothing recurses on them, and compiling has budgets. */
#ifndef SLM_CONSTRAIN_CONSTRAIN_H
#define SLM_CONSTRAIN_CONSTRAIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

/* ------------------------------------------------------------------ vocabulary */

struct constrain_token {
    const char *s; /* bytes that the id stands for, borrowed for the call */
    size_t n;      /* 0: never allowed (control tokens, ids without a token) */
};
struct constrain_vocab;
/* tokens [n] by id. Cost: O(bytes), tens of milliseconds for 262,144 ids; memory as
 * constrain_vocab_bytes says. */
slm_err constrain_vocab_new(const struct slm_hooks *h, const struct constrain_token *tokens,
                            size_t n, struct constrain_vocab **out, slm_why *why);
void constrain_vocab_free(struct constrain_vocab *v); /* NULL allowed */
size_t constrain_vocab_bytes(const struct constrain_vocab *v);

/* ------------------------------------------------------------------ grammars */

struct grammar;
struct grammar_limits { /* 0: the default */
    uint32_t max_nodes; /* 200,000 */
    size_t max_bytes;   /* 64 MiB, of the grammar and while it is made */
    uint64_t max_ns;    /* 2 s */
    bool
        any_whitespace; /* between JSON tokens any, up to a few in a row; false: ", " and ": " and none else */
};
/* JSON text that the schema accepts, properties in the order of the schema. E_UNSUPPORTED names the
 * keyword and its place (a JSON pointer); E_FORMAT for a schema that is malformed; E_BUDGET. */
slm_err grammar_schema(const struct slm_hooks *h, const json_t *schema,
                       const struct grammar_limits *limits, struct grammar **out, slm_why *why);
/* Any JSON object. */
slm_err grammar_json(const struct slm_hooks *h, const struct grammar_limits *limits,
                     struct grammar **out, slm_why *why);
/* One of the strings of an array. */
slm_err grammar_choices(const struct slm_hooks *h, const json_t *choices,
                        const struct grammar_limits *limits, struct grammar **out, slm_why *why);
/* Text that as a whole matches. Offsets of errors are in the pattern. */
slm_err grammar_regex(const struct slm_hooks *h, const char *pattern, size_t n,
                      const struct grammar_limits *limits, struct grammar **out, slm_why *why);

/* How calls of tools are written. */
enum call_style {
    CALL_JSON,  /* {"name": N, "arguments": {...}} each between open and close */
    CALL_LIST,  /* open [{"name": N, "arguments": {...}}, ...] close */
    CALL_PYTHON /* [f(a=1, b="x"), ...] with Python literals: open and close are not used */
};
struct call_shape {
    enum call_style style;
    const char *open, *close;  /* around one call (JSON) or all (LIST); may be "" */
    const char *between;       /* CALL_JSON: between two calls */
    const char *arguments_key; /* "arguments" or "parameters" */
    const json_t *tools;       /* OpenAI's array; parameters are schemas of objects */
    const char *name;          /* only this tool; NULL: any */
    bool many;                 /* more than one call */
    bool opened;               /* the answer already holds `open`: the language begins behind it */
};
slm_err grammar_calls(const struct slm_hooks *h, const struct call_shape *shape,
                      const struct grammar_limits *limits, struct grammar **out, slm_why *why);
void grammar_free(struct grammar *g); /* NULL allowed */
size_t grammar_bytes(const struct grammar *g);
uint32_t grammar_nodes(const struct grammar *g);

/* ------------------------------------------------------------------ matcher */

struct matcher;
/* Everything a step needs is allocated here or grows rarely (a deeper stack). Both are borrowed. */
slm_err matcher_new(const struct slm_hooks *h, const struct grammar *g,
                    const struct constrain_vocab *v, struct matcher **out, slm_why *why);
void matcher_free(struct matcher *m); /* NULL allowed */
void matcher_reset(struct matcher *m);
/* Bit set of the ids that may come next, [ceil(n/32)] words, valid until the matcher changes. Ids that
 * end an answer are not in it: they may come when matcher_may_end. E_NOMEM, E_BUDGET (a stack that
 * became too deep). */
slm_err matcher_mask(struct matcher *m, const uint32_t **mask, slm_why *why);
/* Goes on with an id, or with bytes. false, and nothing changed: not of the language. */
bool matcher_accept(struct matcher *m, int32_t id);
bool matcher_accept_bytes(struct matcher *m, const char *s, size_t n);
/* The answer is complete and may end here. */
bool matcher_may_end(const struct matcher *m);
/* It has to end: nothing can follow. */
bool matcher_must_end(struct matcher *m);
/* Bytes that have to come next, whatever is chosen: up to room of them, 0 when there is a choice at once
 * (or the answer may end here). Does not change the matcher. */
size_t matcher_forced(struct matcher *m, char *bytes, size_t room);

#endif
