/* number.h - decimal text to numbers, the same in every locale and thread. */
#ifndef SLM_BASE_NUMBER_H
#define SLM_BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

#define NUMBER_TEXT_MAX 512 /* characters that are read at most */

/* The double nearest to text [n], written with digits, a point, an exponent, signs; beyond the range
 * infinity or 0. False for anything else, and for more than NUMBER_TEXT_MAX characters. */
bool number_read(const char *s, size_t n, double *out);

#endif
