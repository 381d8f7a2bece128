/* answer.c - an answer to reasoning, content and calls; see answer.h for the rules.
 *
 * Text goes through the parser of thinking first; content and reasoning then go through a machine each
 * that finds calls (answer_scan.c). Reasoning stays reasoning, with one exception: a model that ends
 * its turn inside the thinking with a call has made that call. */
#include "chat/answer.h"

#include "chat/answer_unit.h"

struct answer_parser {
    struct slm_hooks hooks;
    struct think_parser think;
    struct scan reasoning, content;
    struct answer_events events;
    size_t n_calls;
};

static void on_call(void *user, const struct call_list *list, size_t i) {
    struct answer_parser *p = user;
    const struct call_at *at = &list->at[i];
    const struct answer_call call = {
        .index = p->n_calls++,
        .name = list->bytes.data + at->name,
        .n_name = at->n_name,
        .arguments = list->bytes.data + at->arguments,
        .n_arguments = at->n_arguments,
    };
    if (p->events.call != NULL)
        p->events.call(p->events.user, &call);
}

static void on_reasoning(void *user, const char *text, size_t n) {
    struct answer_parser *p = user;
    if (p->events.text != NULL)
        p->events.text(p->events.user, PART_REASONING, text, n);
}

static void on_content(void *user, const char *text, size_t n) {
    struct answer_parser *p = user;
    if (p->events.text != NULL)
        p->events.text(p->events.user, PART_CONTENT, text, n);
}

static void on_part(void *user, enum think_part part, const char *text, size_t n) {
    struct answer_parser *p = user;
    if (part == PART_REASONING) {
        scan_put(&p->reasoning, text, n);
        return;
    }
    scan_release(&p->reasoning); /* the thinking was closed */
    scan_put(&p->content, text, n);
}

slm_err answer_parser_new(const struct slm_hooks *h, const struct answer_setup *setup,
                          const struct answer_events *events, struct answer_parser **out,
                          slm_why *why) {
    *out = NULL;
    struct answer_parser *p = mem_zalloc(h, 1, sizeof *p);
    if (p == NULL)
        return fail_nomem(why, "parser of answers", sizeof *p);
    hooks_init(&p->hooks, h);
    p->events = *events;
    think_parser_init(&p->think, setup->open, setup->close, setup->starts_inside, on_part, p);
    scan_init(&p->reasoning, &p->hooks, setup->dialect, setup->tools, true);
    scan_init(&p->content, &p->hooks, setup->dialect, setup->tools, false);
    p->reasoning.text = on_reasoning;
    p->content.text = on_content;
    p->reasoning.call = p->content.call = on_call;
    p->reasoning.user = p->content.user = p;
    *out = p;
    return SLM_OK;
}

void answer_parser_put(struct answer_parser *p, const char *text, size_t n) {
    think_parser_put(&p->think, text, n);
    if (!think_parser_reasoning(&p->think))
        scan_release(&p->reasoning);
}

slm_err answer_parser_end(struct answer_parser *p, slm_why *why) {
    think_parser_end(&p->think);
    scan_end(&p->reasoning); /* holds something only if the thinking was never closed */
    scan_end(&p->content);
    if (p->reasoning.err != SLM_OK || p->content.err != SLM_OK)
        return fail_nomem(why, "call of a tool", p->content.held.len);
    return SLM_OK;
}

bool answer_parser_reasoning(const struct answer_parser *p) {
    return think_parser_reasoning(&p->think);
}

size_t answer_parser_calls(const struct answer_parser *p) {
    return p->n_calls;
}

size_t answer_parser_malformed(const struct answer_parser *p) {
    return p->content.malformed; /* what looks like a call in the reasoning is thinking about one */
}

void answer_parser_free(struct answer_parser *p) {
    if (p == NULL)
        return;
    struct slm_hooks h = p->hooks;
    scan_free(&p->reasoning);
    scan_free(&p->content);
    mem_free(&h, p);
}
