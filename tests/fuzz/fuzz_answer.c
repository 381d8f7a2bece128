/* fuzz_answer.c - hostile answers in every dialect.
 *
 * In: a byte of flags (dialect, thinking), a byte that seeds the cuts, then the answer. Checks, beyond
 * memory: cut at random places and byte by byte it gives the events of the whole; arguments are JSON
 * objects that can be sent back; without calls and thinking the text comes out byte for byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chat/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{},"
    "\"b\":{}}}}},{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}},{\"name\":\"g.h-i\"}"
    "]";

struct events {
    struct buf text; /* all events */
    int last;
    size_t calls;
};

static void on_text(void *user, enum think_part part, const char *text, size_t n) {
    struct events *e = user;
    if (n == 0)
        abort();
    if (e->last != (int)part + 1)
        buf_puts(&e->text, part == PART_REASONING ? "\1R" : "\1T");
    e->last = (int)part + 1;
    buf_put(&e->text, text, n);
}

static void on_call(void *user, const struct answer_call *call) {
    struct events *e = user;
    json_t *arguments;
    if (json_text(call->arguments, call->n_arguments, &arguments, NULL) != SLM_OK ||
        !json_is_object(arguments) || call->n_name == 0 || call->index != e->calls)
        abort();
    json_decref(arguments);
    e->last = 0;
    e->calls++;
    buf_puts(&e->text, "\1C");
    buf_put(&e->text, call->name, call->n_name);
    buf_putc(&e->text, '\2');
    buf_put(&e->text, call->arguments, call->n_arguments);
}

/* Pieces of 1 to `most` bytes. */
static void parse(const struct answer_setup *setup, const char *text, size_t n, size_t most,
                  uint32_t seed, struct events *e, size_t *malformed) {
    const struct answer_events events = { on_text, on_call, e };
    struct answer_parser *p;
    buf_init(&e->text, NULL, (size_t)1 << 30);
    if (answer_parser_new(NULL, setup, &events, &p, NULL) != SLM_OK)
        abort();
    for (size_t i = 0, piece; i < n; i += piece) {
        seed = seed * 1664525u + 1013904223u;
        piece = 1 + (seed >> 8) % most;
        piece = piece < n - i ? piece : n - i;
        answer_parser_put(p, text + i, piece);
    }
    if (answer_parser_end(p, NULL) != SLM_OK || answer_parser_calls(p) != e->calls)
        abort();
    *malformed = answer_parser_malformed(p);
    answer_parser_free(p);
}

static bool same(const struct buf *a, const struct buf *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    const char *text = (const char *)data + 2;
    size_t n = size - 2, bad_whole, bad_parts;
    bool thinks = (data[0] & 8) != 0;
    json_t *tools;
    if (json_text(tools_text, sizeof tools_text - 1, &tools, NULL) != SLM_OK)
        abort();
    const struct answer_setup setup = { .dialect = (enum call_dialect)((data[0] & 7) % 5),
                                        .tools = (data[0] & 32) != 0 ? NULL : tools,
                                        .open = thinks ? "<think>" : NULL,
                                        .close = thinks ? "</think>" : NULL,
                                        .starts_inside = (data[0] & 16) != 0 };
    struct events whole = { .last = 0 };
    parse(&setup, text, n, n + 1, 0, &whole, &bad_whole);
    for (int way = 0; way < 3; way++) {
        struct events parts = { .last = 0 };
        parse(&setup, text, n,
              way == 0   ? 1
              : way == 1 ? 5
                         : 40,
              data[1] + (uint32_t)way, &parts, &bad_parts);
        if (!same(&whole.text, &parts.text) || bad_whole != bad_parts)
            abort();
        buf_free(&parts.text);
    }
    if (whole.calls == 0 && !thinks && n > 0 &&
        (whole.text.len != n + 2 || memcmp(whole.text.data + 2, text, n) != 0))
        abort();
    buf_free(&whole.text);
    json_decref(tools);
    return 0;
}
