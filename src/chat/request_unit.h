/* request_unit.h - the steps from a request to what a template takes.
 *
 * request.c          the document: tools, choices, thinking; calls the others in order
 * request_messages.c messages as they come -> one shape for all dialects, checked
 * request_form.c     that shape -> what a template with this dialect needs
 * request_text.c     values as JSON and Python text */
#ifndef SLM_CHAT_REQUEST_UNIT_H
#define SLM_CHAT_REQUEST_UNIT_H

#include "chat/request.h"

struct reading {
    const struct slm_hooks *hooks;
    enum call_dialect dialect;
    struct request_think model;
    struct request *out;
    slm_why *why;
};

#define WARNINGS_MAX 16384 /* bytes; what comes later is not worth more */
void request_warn(struct reading *r, const char *format, ...) ATTR_PRINTF(2, 3);
const char *request_model(const struct reading *r);

/* Takes v (NULL: it could not be made) into an object or array. */
slm_err request_set(struct reading *r, json_t *object, const char *key, json_t *v);
slm_err request_add(struct reading *r, json_t *array, json_t *v);
json_t *request_string(const struct buf *b); /* NULL when b failed */

/* Messages of a request to objects with "role" (system, user, assistant, tool), "content" (a string; a
 * list of parts when there are images), and where there are some "reasoning_content", "name",
 * "tool_call_id", "tool_calls" with arguments as objects. *out: new array. */
slm_err request_messages(struct reading *r, const json_t *messages, json_t **out);
/* What a user typed to switch thinking. */
enum think_word { THINK_WORD_NONE, THINK_WORD_ON, THINK_WORD_OFF };
enum think_word request_think_word(const json_t *messages, enum call_dialect dialect,
                                   size_t *message);
/* Takes the word away again. */
slm_err request_drop_word(struct reading *r, json_t *messages, size_t message);

/* Puts tools (NULL: none) into messages and kwargs as the dialect wants it. */
slm_err request_form(struct reading *r, json_t *messages, json_t *kwargs, const json_t *tools);

/* A value as json.dumps(ensure_ascii=False) or as a Python literal (strings in double quotes). */
enum value_style { STYLE_JSON, STYLE_PYTHON };
slm_err request_value(struct buf *b, const json_t *v, enum value_style style, slm_why *why);

#endif
