/* thinking.h - splits generated text into reasoning and answer while it arrives.
 *
 * Only a block at the very start (after at most THINK_BLANKS blanks) is reasoning; tags later in
 * the text are text. Line ends next to the tags belong to them, as the vendors' templates treat
 * history: reasoning has none at its ends, content after a block none at its start. An empty block
 * gives no reasoning. A block that is never closed stays reasoning. Text without a block comes out
 * as it went in.
 * The pieces may be cut anywhere, inside tags and characters too: the concatenated result is the
 * same. Nothing is allocated, and nothing is held back that a later byte could not change. */
#ifndef SLM_CHAT_THINKING_H
#define SLM_CHAT_THINKING_H

#include <stdbool.h>
#include <stddef.h>

#define THINK_BLANKS 64

enum think_part { PART_REASONING, PART_CONTENT };
/* text [n] is valid during the call; n > 0 */
typedef void (*think_emit)(void *user, enum think_part part, const char *text, size_t n);

enum think_state {
    THINK_START,  /* blanks, perhaps the beginning of the opening tag */
    THINK_OPENED, /* inside the block, nothing but line ends so far */
    THINK_INSIDE,
    THINK_CLOSED, /* behind the block, nothing but line ends so far */
    THINK_CONTENT,
};

struct think_parser {
    const char *open, *close; /* borrowed */
    think_emit emit;
    void *user;
    enum think_state state;
    bool starts_inside;
    char blanks[THINK_BLANKS]; /* [n_blanks] held before a possible opening tag */
    size_t n_blanks;
    size_t matched;  /* bytes of the opening or closing tag that were seen and held */
    size_t newlines; /* line ends held inside the block, before the matched bytes */
};

/* open "<think>", close "</think>"; either NULL or empty: all text is content.
 * starts_inside: the prompt already opened the block (the tag may still be repeated). */
void think_parser_init(struct think_parser *p, const char *open, const char *close,
                       bool starts_inside, think_emit emit, void *user);
void think_parser_put(struct think_parser *p, const char *text, size_t n);
/* The text is complete: gives out what was held. The parser is then used up. */
void think_parser_end(struct think_parser *p);
/* True while what comes next would be reasoning (a budget of thinking counts these tokens). Before
 * the first byte that decides, this is starts_inside. */
bool think_parser_reasoning(const struct think_parser *p);

#endif
