/* split.h - pre-tokeniser scanners: where the next word of a text ends. */
#ifndef SLM_TOKEN_SPLIT_H
#define SLM_TOKEN_SPLIT_H

#include <stdint.h>

#include "token/token.h"

/* End of the pre-token that starts at pos < n, in valid UTF-8; pos < result <= n. */
size_t split_next(enum token_split split, const uint8_t *s, size_t n, size_t pos);

/* The scanner of a regular expression, compared byte for byte; SPLIT_NONE when it is not known. */
enum token_split split_by_pattern(const char *pattern, size_t n);

#endif
