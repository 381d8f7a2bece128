#include "constrain/constrain.h"
#define WEAK __attribute__((weak))
static slm_err no(slm_why *why) { return fail(why, SLM_E_UNSUPPORTED, 0, "constraints are not in this build"); }
WEAK slm_err grammar_calls(const struct slm_hooks *h, const struct call_shape *s, const struct grammar_limits *l, struct grammar **out, slm_why *why) { (void)h; (void)s; (void)l; *out = NULL; return no(why); }
