/* template.h - vendors' chat templates: messages in, prompt text out.
 *
 * In:  a Jinja template (untrusted, from the model's files), messages and arguments as JSON.
 * Out: the text, and for every byte whether it came from an untrusted message.
 * Language: Jinja 3.1 with trim_blocks and lstrip_blocks, loop controls and the functions that
 * Hugging Face's apply_chat_template offers. docs/internals/chat.md lists what is supported.
 * A template has no access to the host: no files, no environment, no clock but `now`. */
#ifndef SLM_CHAT_TEMPLATE_H
#define SLM_CHAT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

struct template;

#define TEMPLATE_TEXT_MAX ((size_t)1 << 20) /* bytes of template text; more is SLM_E_BUDGET */

/* Compiles text [n] (not kept). An unknown filter, test, function, method or statement is
 * SLM_E_TEMPLATE with the byte offset, at load. Invalid UTF-8 is SLM_E_ENCODING.
 * h is copied. *out is owned by the caller (template_free) and NULL on failure. The result is
 * constant: several threads may render it at once. */
slm_err template_compile(const struct slm_hooks *h, const char *text, size_t n,
                         struct template **out, slm_why *why);
void template_free(struct template *t); /* NULL allowed */

/* Zero takes the default. Exhausting one is SLM_E_BUDGET with the budget's name. */
struct template_budget {
    size_t max_steps;        /* 20 million; one step is one instruction or 64 bytes of work */
    size_t max_output_bytes; /* 64 MiB */
    size_t max_memory_bytes; /* 256 MiB, for all values of one rendering */
    unsigned max_depth;      /* 128: macro calls inside each other, values inside each other */
};

struct template_input {
    const json_t *messages;            /* array, borrowed */
    const json_t *kwargs;              /* object or NULL: tools, documents, add_generation_prompt,
                               enable_thinking, ...; its names win over the fields below */
    const char *bos_token, *eos_token; /* NULL: undefined in the template */
    int64_t now; /* seconds since the epoch for strftime_now; the local calendar given as UTC */
    struct template_budget budget;
};

/* A run of the output. data = true: the bytes come from something untrusted, and control tokens
 * spelled in them are only text. Untrusted are all values and keys inside a message whose role is
 * not system, developer or assistant; in those three, all but role and content (calls of tools and
 * reasoning are what a model wrote); and all arrays and objects among the arguments (tools,
 * documents ...). Trusted are the template's own text, the contents of the other messages, arguments
 * that are plain strings (bos_token, a date), and the word in "role" itself when it is a well-known
 * one. A message whose content is put together of both kinds says which bytes are data:
 * "content_data": [start, length, start, length ...], which the template does not see. */
struct template_run {
    size_t start, n;
    bool data;
};
struct template_output {
    char *text; /* [n] and a zero byte, owned (hooks) */
    size_t n;
    struct template_run *runs; /* [n_runs], in order, cover the text; neighbours differ in data */
    size_t n_runs;
};

/* SLM_E_RAISED: the template called raise_exception; the message is the template's own words.
 * SLM_E_TEMPLATE: an error inside the template, with line and byte offset.
 * *out is empty on failure. */
slm_err template_render(const struct template *t, const struct slm_hooks *h,
                        const struct template_input *in, struct template_output *out, slm_why *why);
void template_output_free(const struct slm_hooks *h, struct template_output *o);

/* Found without running it: a variable, attribute or argument called exactly `name`, or a piece
 * of text (string literal or text between tags) that contains it. */
bool template_mentions(const struct template *t, const char *name);

#endif
