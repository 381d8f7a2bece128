/* answer.h - the text of an answer to its parts: reasoning, content, calls of tools.
 *
 * In:  text as it comes, cut anywhere, and what the model was told of.
 * Out: the same events for every way of cutting it. What looks like a call but is none (broken JSON, an
 *      unknown shape) comes as content, byte for byte, and is counted; nothing is lost.
 * A call is held until it is complete, so that its arguments are known to be JSON. */
#ifndef SLM_CHAT_ANSWER_H
#define SLM_CHAT_ANSWER_H

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "chat/thinking.h"

/* How a model writes calls of tools; which one it is, is a property of its family. */
enum call_dialect {
    CALLS_NONE,    /* all is text */
    CALLS_HERMES,  /* <tool_call>{"name","arguments"}</tool_call>, several in a row */
    CALLS_SMOLLM3, /* as hermes; and <code>print(f(a=1))</code> */
    CALLS_PHI4, /* <|tool_call|>[{"name","arguments"}]<|/tool_call|>; functools[...]; closing tag or brackets missing */
    CALLS_GEMMA /* [f(a=1), g()] or {"name","parameters"}, bare or in a fence (```tool_code, ```json), also
                      behind text; only names of tools that the model was told of */
};

#define CALL_BYTES_MAX ((size_t)4 << 20) /* of one call that is held; longer is text */

struct answer_call {
    size_t index;                 /* in this answer */
    const char *name, *arguments; /* arguments is a JSON object */
    size_t n_name, n_arguments;
};
struct answer_events {
    void (*text)(void *user, enum think_part part, const char *text, size_t n);
    void (*call)(void *user, const struct answer_call *call);
    void *user;
};
struct answer_setup {
    enum call_dialect dialect;
    const json_t *tools; /* array as the model was told, or NULL; borrowed for the parser's life */
    const char *open, *close; /* of thinking, as think_parser_init */
    bool starts_inside;
};
struct answer_parser;
/* Buffers grow with a call that is held; E_NOMEM shows in answer_parser_end. */
slm_err answer_parser_new(const struct slm_hooks *h, const struct answer_setup *setup,
                          const struct answer_events *events, struct answer_parser **out,
                          slm_why *why);
void answer_parser_put(struct answer_parser *p, const char *text, size_t n);
/* The text is complete: what was held comes out, as calls or as text. */
slm_err answer_parser_end(struct answer_parser *p, slm_why *why);
/* True while what comes next would be reasoning. */
bool answer_parser_reasoning(const struct answer_parser *p);
size_t answer_parser_calls(const struct answer_parser *p);
size_t answer_parser_malformed(const struct answer_parser *p);
void answer_parser_free(struct answer_parser *p); /* NULL allowed */

#endif
