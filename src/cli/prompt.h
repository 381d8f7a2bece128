/* prompt.h - reading messages for a chat (prompt.c). */
#ifndef SLM_CLI_PROMPT_H
#define SLM_CLI_PROMPT_H

#include "cli/cli.h"

struct prompt;
enum prompt_event {
    PROMPT_TEXT,  /* a message, possibly empty */
    PROMPT_END,   /* end of input */
    PROMPT_BREAK, /* Ctrl-C */
};

/* Line editing where standard input and output are terminals. Ends the program when out of memory. */
struct prompt *prompt_new(struct cli *c, bool keep_history);
void prompt_free(struct prompt *p);
/* *text [*n] has a zero byte after it and is valid until the next call. */
enum prompt_event prompt_read(struct prompt *p, const char **text, size_t *n);

#endif
