/* slm_hooks.h - how an embedder lends its allocator and its log to the library. */
#ifndef SLM_HOOKS_H
#define SLM_HOOKS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum slm_log_level { SLM_LOG_DEBUG = 0, SLM_LOG_INFO = 1, SLM_LOG_WARN = 2 };

/* Any function may be NULL: the C library's malloc, realloc and free; no log.
 * The three memory functions are given together or not at all. They may be called from several
 * threads at once. log gets one line without newline; the pointer is valid during the call. */
struct slm_hooks {
    size_t size; /* sizeof(struct slm_hooks) */
    void *(*alloc)(void *user, size_t n);
    void *(*resize)(void *user, void *p, size_t n);
    void (*release)(void *user, void *p);
    void (*log)(void *user, enum slm_log_level level, const char *line);
    void *user;
};

#ifdef __cplusplus
}
#endif
#endif
