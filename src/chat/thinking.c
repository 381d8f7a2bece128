/* thinking.c - splits generated text into reasoning and answer; see thinking.h for the rules.
 *
 * A machine that reads byte by byte where a tag or a line end is possible, and passes whole pieces
 * elsewhere. Held bytes are known by their count: line ends are all alike, and the matched part of
 * a tag is the tag's own beginning. Only blanks before a block need a small buffer. */
#include "chat/thinking.h"

#include <string.h>

static void emit(struct think_parser *p, enum think_part part, const char *text, size_t n) {
    if (n > 0)
        p->emit(p->user, part, text, n);
}

void think_parser_init(struct think_parser *p, const char *open, const char *close,
                       bool starts_inside, think_emit emit_fn, void *user) {
    bool tags = open != NULL && close != NULL && open[0] != '\0' && close[0] != '\0';
    *p = (struct think_parser){ .open = open,
                                .close = close,
                                .emit = emit_fn,
                                .user = user,
                                .state = tags ? THINK_START : THINK_CONTENT,
                                .starts_inside = tags && starts_inside };
}

/* Longest beginning of tag that ends `tag[0..matched)` followed by c: how much of the tag is
 * matched after c. */
static size_t match_next(const char *tag, size_t matched, char c) {
    for (size_t k = matched + 1; k > 0; k--)
        if (tag[k - 1] == c && memcmp(tag, tag + (matched + 1 - k), k - 1) == 0)
            return k;
    return 0;
}

static void flush_newlines(struct think_parser *p) {
    static const char lines[] = "\n\n\n\n\n\n\n\n";
    while (p->newlines > 0) {
        size_t n = p->newlines < sizeof lines - 1 ? p->newlines : sizeof lines - 1;
        emit(p, PART_REASONING, lines, n);
        p->newlines -= n;
    }
}

/* Held line ends turn out to stand inside the reasoning; those at its start are dropped. */
static void reasoning_goes_on(struct think_parser *p) {
    if (p->state == THINK_OPENED)
        p->newlines = 0;
    p->state = THINK_INSIDE;
    flush_newlines(p);
}

/* One byte inside the block. */
static void inside(struct think_parser *p, char c) {
    size_t before = p->matched, now = match_next(p->close, before, c);
    if (p->close[now] == '\0') {
        p->state = THINK_CLOSED;
        p->matched = p->newlines = 0;
        return;
    }
    /* before + 1 bytes are held, of which the last `now` may still be the tag. */
    size_t out = before + 1 - now;
    p->matched = now;
    if (out == 0)
        return;
    if (before == 0 && c == '\n') {
        p->newlines++;
        return;
    }
    if (before > 0) {
        size_t from_tag = out < before ? out : before;
        reasoning_goes_on(p);
        emit(p, PART_REASONING, p->close, from_tag);
        out -= from_tag;
    }
    if (out > 0 && c == '\n') {
        p->newlines++;
    } else if (out > 0) {
        reasoning_goes_on(p);
        emit(p, PART_REASONING, &c, 1);
    }
}

/* The start is over and was no opening tag: what was held is reasoning or content after all. */
static void give_up_tag(struct think_parser *p) {
    size_t matched = p->matched;
    p->matched = 0;
    if (!p->starts_inside) {
        p->state = THINK_CONTENT;
        emit(p, PART_CONTENT, p->blanks, p->n_blanks);
        emit(p, PART_CONTENT, p->open, matched);
        return;
    }
    p->state = THINK_OPENED;
    for (size_t i = 0; i < p->n_blanks; i++)
        inside(p, p->blanks[i]);
    for (size_t i = 0; i < matched; i++)
        inside(p, p->open[i]);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One byte at the start; false when it belongs to the next state. */
static bool start(struct think_parser *p, char c) {
    if (p->matched == 0 && is_blank(c) && p->n_blanks < THINK_BLANKS) {
        p->blanks[p->n_blanks++] = c;
        return true;
    }
    if (p->open[p->matched] != c) {
        give_up_tag(p);
        return false;
    }
    if (p->open[++p->matched] == '\0') {
        p->state = THINK_OPENED;
        p->matched = 0;
    }
    return true;
}

void think_parser_put(struct think_parser *p, const char *text, size_t n) {
    size_t i = 0;
    while (i < n && p->state == THINK_START)
        i += start(p, text[i]);
    while (i < n && (p->state == THINK_OPENED || p->state == THINK_INSIDE)) {
        size_t run = i;
        if (p->state == THINK_INSIDE && p->matched == 0 && p->newlines == 0)
            while (i < n && text[i] != p->close[0] && text[i] != '\n')
                i++;
        emit(p, PART_REASONING, text + run, i - run);
        if (i < n)
            inside(p, text[i++]);
    }
    while (i < n && p->state == THINK_CLOSED && text[i] == '\n')
        i++;
    if (i < n) {
        p->state = THINK_CONTENT;
        emit(p, PART_CONTENT, text + i, n - i);
    }
}

void think_parser_end(struct think_parser *p) {
    if (p->state == THINK_START)
        give_up_tag(p);
    if ((p->state == THINK_OPENED || p->state == THINK_INSIDE) && p->matched > 0) {
        reasoning_goes_on(p);
        emit(p, PART_REASONING, p->close, p->matched);
        p->matched = 0;
    }
    p->state = THINK_CONTENT;
}

bool think_parser_reasoning(const struct think_parser *p) {
    return p->state == THINK_START ? p->starts_inside
                                   : p->state == THINK_OPENED || p->state == THINK_INSIDE;
}
