/* slm_error.h - the one list of error codes, shared by the library and its callers.
 *
 * Published values keep their number for ever; new ones are added at the end.
 * A function that can fail returns slm_err and, when the caller passes a slm_why, fills it with
 * the code, the byte offset in the offending file (SLM_NO_OFFSET when there is none) and a
 * message that names the two values that disagree. */
#ifndef SLM_ERROR_H
#define SLM_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLM_ERROR_LIST(X)                                                                       \
    X(0, OK, "ok")                                                                              \
    X(1, E_NOMEM, "out of memory")                                                              \
    X(2, E_IO, "input or output failed")                                                        \
    X(3, E_FORMAT, "file is malformed")                                                         \
    X(4, E_UNSUPPORTED, "valid, but not supported")                                             \
    X(5, E_ARG, "argument out of range")                                                        \
    X(6, E_CONTEXT, "does not fit the context window")                                          \
    X(7, E_CANCELLED, "cancelled by the caller")                                                \
    X(8, E_TEMPLATE, "chat template is wrong")                                                  \
    X(9, E_RAISED, "chat template refused the conversation")                                    \
    X(10, E_BUDGET, "a budget was exhausted")                                                   \
    X(11, E_MEMORY, "memory plan refused")                                                      \
    X(12, E_NOTFOUND, "not found")                                                              \
    X(13, E_NUMERIC, "not a number in the computation")                                         \
    X(14, E_MISMATCH, "file disagrees with the known model")                                    \
    X(15, E_ENCODING, "invalid UTF-8")                                                          \
    X(16, E_STATE, "not possible in this state")                                                \
    X(17, E_NET, "network failed")                                                              \
    X(18, E_CHECKSUM, "checksum differs")                                                       \
    X(19, E_BUSY, "no place is free")

typedef enum slm_err {
#define X(number, name, text) SLM_##name = number,
    SLM_ERROR_LIST(X)
#undef X
} slm_err;

#define SLM_NO_OFFSET UINT64_MAX

/* Detail of a failure; the caller owns it. Only written on failure. */
typedef struct slm_why {
    slm_err code;
    uint64_t offset;   /* byte offset in the file, or SLM_NO_OFFSET */
    char message[512]; /* UTF-8, zero-terminated, no newline at the end */
} slm_why;

#ifdef __cplusplus
}
#endif
#endif
