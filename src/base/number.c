/* number.c - decimal text to numbers through strtod, which wants the point of the locale. */
#include "base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool number_read(const char *s, size_t n, double *out) {
    char text[NUMBER_TEXT_MAX + 16], half[16];
    size_t len = 0;
    /* The point that strtod wants: what stands between the digits of 0.5 here. localeconv would
     * tell as well, but may not be called by several threads. */
    int n_half = snprintf(half, sizeof half, "%.1f", 0.5);
    if (n == 0 || n > NUMBER_TEXT_MAX || n_half < 3 || (size_t)n_half >= sizeof half)
        return false;
    size_t n_point = (size_t)n_half - 2;
    bool pointed = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' && !pointed) {
            memcpy(text + len, half + 1, n_point);
            len += n_point;
            pointed = true;
        } else if (s[i] != '\0' && strchr("0123456789eE+-", s[i]) != NULL) {
            text[len++] = s[i];
        } else {
            return false;
        }
    }
    text[len] = '\0';
    char *end;
    double value = strtod(text, &end);
    if (end != text + len)
        return false;
    *out = value;
    return true;
}
