/* thinking.h - splits generated text into reasoning and answer; the same whole or streamed. */
#ifndef SLM_CHAT_THINKING_H
#define SLM_CHAT_THINKING_H

#include <stdbool.h>
#include <stddef.h>

enum think_part { PART_REASONING, PART_CONTENT };
typedef void (*think_emit)(void *user, enum think_part part, const char *text, size_t n);

struct think_parser {
    const char *open, *close; /* borrowed markers */
    think_emit emit;
    void *user;
    int state;
    char held[64];
    size_t n_held;
};

void think_parser_init(struct think_parser *p, const char *open, const char *close, bool starts_inside, think_emit emit,
                       void *user);
void think_parser_put(struct think_parser *p, const char *text, size_t n);
void think_parser_end(struct think_parser *p);

#endif
