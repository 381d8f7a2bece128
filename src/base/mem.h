/* mem.h - all allocation of the library: through the caller's hooks, in bounded pieces.
 *
 * Nothing in levels 0-3 calls malloc directly (jansson's trees are the one exception: that
 * library's hooks are process-wide, so an embedder sets them with json_set_alloc_funcs). */
#ifndef SLM_BASE_MEM_H
#define SLM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "slm_hooks.h"

/* Copies *user (NULL: the C library's malloc family, no log) into *out with every field set. */
void hooks_init(struct slm_hooks *out, const struct slm_hooks *user);
/* False when *user gives some but not all of the three memory functions, or its size is too small
 * to hold them: entry points check this and refuse. NULL is valid. (hooks_init takes the C library
 * for all three in that case, never a mixture.) */
bool hooks_valid(const struct slm_hooks *user);
/* In every function below a NULL `h` means the C library's malloc family. */

/* Checked size arithmetic: false when the result does not fit; *out is then unchanged. */
bool mul_ok(size_t a, size_t b, size_t *out);
bool add_ok(size_t a, size_t b, size_t *out);
bool mul_u64_ok(uint64_t a, uint64_t b, uint64_t *out);
bool add_u64_ok(uint64_t a, uint64_t b, uint64_t *out);

/* n * size bytes; NULL on overflow, on n * size == 0 is one byte. mem_zalloc gives zeroed memory. */
void *mem_alloc(const struct slm_hooks *h, size_t n, size_t size);
void *mem_zalloc(const struct slm_hooks *h, size_t n, size_t size);
void *mem_resize(const struct slm_hooks *h, void *p, size_t n,
                 size_t size);                                        /* p stays valid on NULL */
void mem_free(const struct slm_hooks *h, void *p);                    /* p may be NULL */
char *mem_strdup(const struct slm_hooks *h, const char *s, size_t n); /* adds a zero byte */

/* 64-byte aligned memory for numbers (weights, keys and values, scratch). Not zeroed, not touched.
 * Free with mem_free_aligned only. */
#define MEM_ALIGN 64
void *mem_alloc_aligned(const struct slm_hooks *h, size_t n, size_t size);
void mem_free_aligned(const struct slm_hooks *h, void *p);

/* Arena: many small objects that die together. Never moves what it gave out. */
struct arena {
    const struct slm_hooks *hooks; /* borrowed */
    struct arena_block *blocks;    /* newest first */
    size_t used_bytes;             /* sum of what was handed out */
    size_t limit_bytes;            /* ceiling on the sum of blocks; 0 = none */
};
void arena_init(struct arena *a, const struct slm_hooks *h, size_t limit_bytes);
void *arena_alloc(struct arena *a, size_t n, size_t size); /* 16-byte aligned; NULL on failure */
void *arena_zalloc(struct arena *a, size_t n, size_t size);
char *arena_strdup(struct arena *a, const char *s, size_t n); /* adds a zero byte */
void arena_free(struct arena *a);                             /* everything; a may be reused */

/* Growing byte buffer with a ceiling. Errors are sticky: check buf.err once at the end. */
struct buf {
    const struct slm_hooks *hooks; /* borrowed */
    char *data;                    /* [len] and a zero byte after it when len > 0 */
    size_t len, cap;               /* bytes used; bytes allocated */
    size_t limit;                  /* most bytes len may reach */
    slm_err err;                   /* SLM_OK, SLM_E_NOMEM or SLM_E_BUDGET */
};
void buf_init(struct buf *b, const struct slm_hooks *h, size_t limit);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) ATTR_PRINTF(2, 3);
char *
buf_take(struct buf *b); /* returns owned (hooks), zero-terminated; NULL if err; b is empty then */
void buf_free(struct buf *b); /* releases the memory and forgets the error; b may be used again */

#endif
