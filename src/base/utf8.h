/* utf8.h - strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
#ifndef SLM_BASE_UTF8_H
#define SLM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one code point at s[0..n); *cp gets it. Returns its length 1..4, or 0 when the bytes
 * there are not valid UTF-8 (or n is 0). */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes cp (valid scalar value) to out[4]; returns 1..4. */
size_t utf8_encode(uint32_t cp, char *out);
/* Offset of the first invalid byte, or n when all is valid. */
size_t utf8_valid(const char *s, size_t n);
/* How many of the n bytes form complete characters (n, or n minus an incomplete tail of 1..3). A
 * byte that can never be part of a character counts as complete. */
size_t utf8_complete(const char *s, size_t n);

#endif
