/* support.h - what test programs share: finding and reading inputs, allocation hooks that fail.
 *
 * Programs run in the root of the project (or SLM_ROOT names it). SLM_REFERENCE names the folder
 * with the vendors' files, which are not part of the project; without it, ../shared is tried. */
#ifndef SLM_TESTS_SUPPORT_H
#define SLM_TESTS_SUPPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slm_hooks.h"

/* Path of `rel` in the reference folder, in buf [n]; NULL when there is no folder or no such file
 * (or folder), then after a line `# skip <reason>`, so that the caller only has to skip(). */
const char *ref_path(char *buf, size_t n, const char *rel);

/* Path of `rel` in the project's tests/ folder, in buf [n]; NULL when it does not fit. */
const char *data_path(char *buf, size_t n, const char *rel);

/* Whole file, zero byte after it, to be freed with free(); NULL when it cannot be read. The second
 * one unpacks gzip (and reads plain files as they are). n may be NULL. */
char *slurp(const char *path, size_t *n);
char *slurp_gz(const char *path, size_t *n);

/* Writes n bytes to a new file below a temporary folder of this process, whose path comes back in
 * buf; the folder and its files are removed at exit. False when it cannot be written. */
bool temp_file(char *buf, size_t n_buf, const char *name, const void *data, size_t n);

/* The instruction set that SLM_ISA asks for ("ref", ...), or NULL. */
const char *test_isa(void);

/* Hooks that count, and that refuse from the fail_at-th request on (1 is the first; 0: never).
 * Usage: for (k = 1;; k++) { test_hooks_init(&t, k); err = work(&t.hooks); assert(t.live == 0);
 *        if (!t.failed) break; assert(err == SLM_E_NOMEM); }                                      */
struct test_hooks {
    struct slm_hooks hooks;
    _Atomic size_t requests; /* alloc and resize calls so far */
    _Atomic size_t live;     /* blocks not yet released */
    size_t fail_at;
    bool once;           /* only that one request fails, not all after it */
    _Atomic bool failed; /* a request was refused */
};
void test_hooks_init(struct test_hooks *t, size_t fail_at);

#endif
