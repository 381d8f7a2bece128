/* err.c - error codes as text, and the one place that fills struct slm_why. */
#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Ends the message between two characters and replaces what must not reach a terminal. */
static void clean_message(char *s, size_t n) {
    n = utf8_complete(s, n);
    s[n] = '\0';
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_decode(s + i, n - i, &cp);
        bool printable = len > 0 && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0);
        if (printable) {
            i += len;
            continue;
        }
        for (size_t end = i + (len ? len : 1); i < end; i++)
            s[i] = '?';
    }
}

/* Prints into the message at `at`; returns the length of the whole message, cut to fit. */
static size_t print_at(char *message, size_t size, size_t at, const char *format, va_list args) {
    int n = vsnprintf(message + at, size - at, format, args);
    if (n < 0) { /* a conversion failed: the format itself says more than nothing */
        int m = snprintf(message + at, size - at, "%s", format);
        n = m < 0 ? 0 : m;
    }
    size_t len = at + (size_t)n;
    return len < size ? len : size - 1;
}

slm_err fail(slm_why *why, slm_err code, uint64_t offset, const char *format, ...) {
    if (why == NULL)
        return code;
    why->code = code;
    why->offset = offset;
    va_list args;
    va_start(args, format);
    size_t n = print_at(why->message, sizeof why->message, 0, format, args);
    va_end(args);
    clean_message(why->message, n);
    return code;
}

slm_err fail_prefix(slm_why *why, slm_err code, const char *format, ...) {
    if (why == NULL)
        return code;
    char old[sizeof why->message];
    memcpy(old, why->message, sizeof old);
    old[sizeof old - 1] = '\0';
    va_list args;
    va_start(args, format);
    size_t n = print_at(why->message, sizeof why->message, 0, format, args);
    va_end(args);
    int m = snprintf(why->message + n, sizeof why->message - n, ": %s", old);
    n += m < 0 ? 0 : (size_t)m;
    if (n >= sizeof why->message)
        n = sizeof why->message - 1;
    clean_message(why->message, n);
    return code;
}

slm_err fail_nomem(slm_why *why, const char *what, size_t n) {
    return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "out of memory: %zu bytes for %s", n, what);
}

const char *err_text(slm_err code) {
    switch (code) {
#define X(number, name, text)                                                                      \
    case SLM_##name:                                                                               \
        return text;
        SLM_ERROR_LIST(X)
#undef X
    }
    return "unknown error";
}

const char *err_name(slm_err code) {
    switch (code) {
#define X(number, name, text)                                                                      \
    case SLM_##name:                                                                               \
        return #name;
        SLM_ERROR_LIST(X)
#undef X
    }
    return "E_UNKNOWN";
}
