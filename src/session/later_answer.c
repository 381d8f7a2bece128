#include "chat/answer.h"
#define WEAK __attribute__((weak))
struct answer_parser { struct slm_hooks h; struct answer_events ev; struct think_parser t; };
static void fwd(void *user, enum think_part part, const char *text, size_t n) {
    struct answer_parser *p = user;
    p->ev.text(p->ev.user, part, text, n);
}
WEAK slm_err answer_parser_new(const struct slm_hooks *h, const struct answer_setup *setup,
                          const struct answer_events *events, struct answer_parser **out,
                          slm_why *why) {
    struct answer_parser *p = mem_zalloc(h, 1, sizeof *p);
    if (p == NULL) return fail_nomem(why, "parser", sizeof *p);
    p->h = *h; p->ev = *events;
    think_parser_init(&p->t, setup->open, setup->close, setup->starts_inside, fwd, p);
    *out = p;
    return SLM_OK;
}
WEAK void answer_parser_put(struct answer_parser *p, const char *text, size_t n) { think_parser_put(&p->t, text, n); }
WEAK slm_err answer_parser_end(struct answer_parser *p, slm_why *why) { (void)why; think_parser_end(&p->t); return SLM_OK; }
WEAK size_t answer_parser_calls(const struct answer_parser *p) { (void)p; return 0; }
WEAK size_t answer_parser_malformed(const struct answer_parser *p) { (void)p; return 0; }
WEAK void answer_parser_free(struct answer_parser *p) { if (p) { struct slm_hooks h = p->h; mem_free(&h, p); } }
