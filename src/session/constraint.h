/* constraint.h - grammars of answers, and the vocabulary that they are walked with.
 *
 * The vocabulary trie belongs to the engine and is made when the first grammar needs it (vocabulary_of):
 * the one thing of an engine that comes later than its opening. */
#ifndef SLM_SESSION_CONSTRAINT_H
#define SLM_SESSION_CONSTRAINT_H

#include "chat/request.h"
#include "constrain/constrain.h"
#include "session/engine.h"

struct slm_constraint {
    const slm_engine *engine;
    struct grammar *grammar;
};

/* What an engine makes when it is first asked for; shared by threads. */
struct engine_late {
    _Atomic(struct constrain_vocab *) vocab; /* NULL: not made yet */
};
/* The trie of the engine's tokens. Control tokens and ids that end an answer are never allowed in it.
 * Two threads that ask for the first time may both make one; one of them is kept.
 * E_NOTFOUND without a tokenizer, E_NOMEM. */
slm_err vocabulary_of(const slm_engine *e, const struct constrain_vocab **out, slm_why *why);

/* The grammar of a request's format; NULL for {"type":"text"}. E_ARG for a type that is not known. */
slm_err grammar_of_format(const struct slm_hooks *h, const json_t *format, struct grammar **out,
                          slm_why *why);

/* How a dialect writes calls. */
enum call_dialect dialect_of(const slm_engine *e);
const char *dialect_name(enum call_dialect d); /* as slm_info gives it; NULL for none */
/* Texts of the control tokens around calls, or NULL: where both are one token of the model's, calls
 * are recognised and closed by them. */
const char *dialect_open(enum call_dialect d);
const char *dialect_close(enum call_dialect d);
/* The language of calls of r's tools. E_UNSUPPORTED names the keyword and its place. */
slm_err grammar_of_calls(const struct slm_hooks *h, const struct request *r, enum call_dialect d,
                         struct grammar **out, slm_why *why);

#endif
