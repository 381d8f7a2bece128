/* nfc.h - canonical composition (NFC) of valid UTF-8, touching only what can change. */
#ifndef SLM_TOKEN_NFC_H
#define SLM_TOKEN_NFC_H

#include "base/mem.h"

/* Appends the NFC of s [n] to out when it differs from s in any way that has to be looked at:
 * *changed tells; when it is false nothing is appended and s is its own NFC. */
slm_err nfc_text(const struct slm_hooks *h, const char *s, size_t n, struct buf *out, bool *changed,
                 slm_why *why);

#endif
