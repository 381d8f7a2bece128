#include "constrain/constrain.h"
#define WEAK __attribute__((weak))
struct constrain_vocab { int x; };
static slm_err no(slm_why *why) { return fail(why, SLM_E_UNSUPPORTED, 0, "constraints are not in this build"); }
WEAK slm_err constrain_vocab_new(const struct slm_hooks *h, const struct constrain_token *tokens, size_t n, struct constrain_vocab **out, slm_why *why) { (void)h; (void)tokens; (void)n; *out = NULL; return no(why); }
WEAK void constrain_vocab_free(struct constrain_vocab *v) { (void)v; }
WEAK slm_err grammar_schema(const struct slm_hooks *h, const json_t *s, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)s; (void)l; *out = NULL; return no(why); }
WEAK slm_err grammar_json(const struct slm_hooks *h, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)l; *out = NULL; return no(why); }
WEAK slm_err grammar_choices(const struct slm_hooks *h, const json_t *s, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)s; (void)l; *out = NULL; return no(why); }
WEAK slm_err grammar_regex(const struct slm_hooks *h, const char *p, size_t n, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)p; (void)n; (void)l; *out = NULL; return no(why); }
WEAK slm_err grammar_calls(const struct slm_hooks *h, const struct call_shape *s, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)s; (void)l; *out = NULL; return no(why); }
WEAK void grammar_free(struct grammar *g) { (void)g; }
WEAK slm_err matcher_new(const struct slm_hooks *h, const struct grammar *g, const struct constrain_vocab *v, struct matcher **out, slm_why *why) { (void)h; (void)g; (void)v; *out = NULL; return no(why); }
WEAK void matcher_free(struct matcher *m) { (void)m; }
WEAK void matcher_reset(struct matcher *m) { (void)m; }
WEAK slm_err matcher_mask(struct matcher *m, const uint32_t **mask, slm_why *why) { (void)m; *mask = NULL; return no(why); }
WEAK bool matcher_accept(struct matcher *m, int32_t id) { (void)m; (void)id; return false; }
WEAK bool matcher_accept_bytes(struct matcher *m, const char *s, size_t n) { (void)m; (void)s; (void)n; return false; }
WEAK bool matcher_may_end(const struct matcher *m) { (void)m; return true; }
WEAK bool matcher_must_end(struct matcher *m) { (void)m; return true; }
WEAK size_t matcher_forced(struct matcher *m, char *bytes, size_t room) { (void)m; (void)bytes; (void)room; return 0; }
