/* err.h - returning errors with a reason.
 *
 * fail() fills *why (which may be NULL) and returns the code, so that a check is one statement:
 *     if (n > MAX) return fail(why, SLM_E_FORMAT, pos, "%u dimensions, at most %u", n, MAX);
 * TRY(expr) forwards an error; TRY_OUT(expr) stores it in the local `err` and jumps to `out:`. */
#ifndef SLM_BASE_ERR_H
#define SLM_BASE_ERR_H

#include "base/compiler.h"
#include <stddef.h>

#include "slm_error.h"

/* Messages are made clean: cut at 511 bytes between characters, invalid UTF-8 and control
 * characters (a tensor name from a hostile file may hold terminal escapes) become '?'. */
slm_err(fail)(slm_why *why, slm_err code, uint64_t offset, const char *format, ...)
    ATTR_PRINTF(4, 5); /* the parentheses: cmocka has a macro of this name, which tests include */

/* Puts "prefix: " before the message already in *why (file name, tensor name ...). Returns code. */
slm_err fail_prefix(slm_why *why, slm_err code, const char *format, ...) ATTR_PRINTF(3, 4);

/* out of memory while `what` was wanted; n is the size in bytes */
slm_err fail_nomem(slm_why *why, const char *what, size_t n);

/* The fixed short text and the symbolic name ("E_FORMAT") of a code; never NULL. */
const char *err_text(slm_err code);
const char *err_name(slm_err code);

#define TRY(expr)                                                                                  \
    do {                                                                                           \
        slm_err try_err_ = (expr);                                                                 \
        if (try_err_ != SLM_OK)                                                                    \
            return try_err_;                                                                       \
    } while (0)

#define TRY_OUT(expr)                                                                              \
    do {                                                                                           \
        err = (expr);                                                                              \
        if (err != SLM_OK)                                                                         \
            goto out;                                                                              \
    } while (0)

#endif
