/* request.h - a request in the shape of OpenAI's chat API to what a template takes.
 *
 * In:  messages, tools, choices (see slm_prompt_make in slm.h), and how the model is told of tools.
 * Out: messages and arguments for template_render: tools where the template has a place for them (hermes,
 *      smollm3), in the system message's field (phi4), or as the vendor's documented words in the first
 *      user turn (gemma); calls of the history in the model's own form where the template drops them
 *      (smollm3, phi4, gemma); results in the role that the template knows, in the order of their calls;
 *      arguments as objects; content parts as text.
 * Trust: what users, tools and models wrote stays untrusted, also where it has to move into a message
 *      that the template renderer trusts ("content_data", see template.h). */
#ifndef SLM_CHAT_REQUEST_H
#define SLM_CHAT_REQUEST_H

#include "chat/answer.h"

#define REQUEST_TOOLS_MAX 256
#define REQUEST_CALLS_MAX 256 /* of one message */

struct request_think { /* what this model can */
    bool can_switch;   /* its thinking, by the template's argument enable_thinking */
    bool always;       /* it thinks, and cannot be told not to */
    bool images;       /* content may have parts {"type":"image"}; they are handed on as they are */
    const char *name;  /* for messages; NULL: "this model" */
};
enum tool_choice { TOOLS_AUTO, TOOLS_NO, TOOLS_REQUIRED, TOOLS_NAMED };
struct request {
    json_t *messages; /* for the template, owned */
    json_t *kwargs;   /* likewise: an object */
    json_t *tools;    /* that the model is told of: array as in the request, or NULL; owned */
    json_t *format;   /* as given, or NULL; owned */
    enum tool_choice choice;
    char *tool_name; /* of TOOLS_NAMED; owned (hooks) */
    bool many_calls;
    bool thinks, no_think; /* may think; was switched off (also by /no_think in the messages) */
    struct buf warnings;   /* one per line */
};
/* root: the parsed document, borrowed. E_ARG names the part that cannot be, E_FORMAT is for arguments of
 * calls that are no JSON object; *out is empty on failure. */
slm_err request_read(const struct slm_hooks *h, const json_t *root, enum call_dialect dialect,
                     struct request_think think, struct request *out, slm_why *why);
void request_free(const struct slm_hooks *h, struct request *r);

#endif
