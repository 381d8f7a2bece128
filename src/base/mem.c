/* mem.c - allocation through hooks: checked sizes, aligned blocks, arenas, bounded buffers.
 *
 * This is the only file of levels 0-3 that names malloc, realloc and free. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- hooks ---- */

static void *libc_alloc(void *user, size_t n) {
    (void)user;
    return malloc(n);
}

static void *libc_resize(void *user, void *p, size_t n) {
    (void)user;
    return realloc(p, n);
}

static void libc_release(void *user, void *p) {
    (void)user;
    free(p);
}

static void no_log(void *user, enum slm_log_level level, const char *line) {
    (void)user;
    (void)level;
    (void)line;
}

static const struct slm_hooks libc_hooks = {
    .size = sizeof(struct slm_hooks),
    .alloc = libc_alloc,
    .resize = libc_resize,
    .release = libc_release,
    .log = no_log,
    .user = NULL,
};

bool hooks_valid(const struct slm_hooks *user) {
    if (user == NULL)
        return true;
    if (user->size < sizeof(struct slm_hooks))
        return false;
    bool all = user->alloc != NULL && user->resize != NULL && user->release != NULL;
    bool none = user->alloc == NULL && user->resize == NULL && user->release == NULL;
    return all || none;
}

void hooks_init(struct slm_hooks *out, const struct slm_hooks *user) {
    struct slm_hooks given = user != NULL && hooks_valid(user) ? *user : libc_hooks;
    *out = libc_hooks;
    out->user = given.user;
    if (given.alloc != NULL) {
        out->alloc = given.alloc;
        out->resize = given.resize;
        out->release = given.release;
    }
    if (given.log != NULL)
        out->log = given.log;
}

/* ---- checked arithmetic ---- */

bool mul_ok(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool add_ok(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

bool mul_u64_ok(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool add_u64_ok(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b)
        return false;
    *out = a + b;
    return true;
}

/* ---- plain pieces ---- */

/* Objects beyond PTRDIFF_MAX break pointer subtraction, and no allocator gives them anyway. */
static bool size_of_array(size_t n, size_t size, size_t *out) {
    size_t bytes;
    if (!mul_ok(n, size, &bytes) || bytes > PTRDIFF_MAX)
        return false;
    *out = bytes == 0 ? 1 : bytes;
    return true;
}

static const struct slm_hooks *hooks_or_libc(const struct slm_hooks *h) {
    return h != NULL ? h : &libc_hooks;
}

void *mem_alloc(const struct slm_hooks *h, size_t n, size_t size) {
    size_t bytes;
    if (!size_of_array(n, size, &bytes))
        return NULL;
    h = hooks_or_libc(h);
    return h->alloc(h->user, bytes);
}

void *mem_zalloc(const struct slm_hooks *h, size_t n, size_t size) {
    void *p = mem_alloc(h, n, size);
    if (p != NULL)
        memset(p, 0, n * size);
    return p;
}

void *mem_resize(const struct slm_hooks *h, void *p, size_t n, size_t size) {
    size_t bytes;
    if (!size_of_array(n, size, &bytes))
        return NULL;
    h = hooks_or_libc(h);
    return p == NULL ? h->alloc(h->user, bytes) : h->resize(h->user, p, bytes);
}

void mem_free(const struct slm_hooks *h, void *p) {
    h = hooks_or_libc(h);
    if (p != NULL)
        h->release(h->user, p);
}

char *mem_strdup(const struct slm_hooks *h, const char *s, size_t n) {
    size_t bytes;
    if (!add_ok(n, 1, &bytes))
        return NULL;
    char *copy = mem_alloc(h, bytes, 1);
    if (copy == NULL)
        return NULL;
    if (n > 0)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

/* The pointer that the hook gave stands right before the aligned memory. */
void *mem_alloc_aligned(const struct slm_hooks *h, size_t n, size_t size) {
    size_t bytes;
    if (!size_of_array(n, size, &bytes) || !add_ok(bytes, MEM_ALIGN + sizeof(void *), &bytes))
        return NULL;
    char *base = mem_alloc(h, bytes, 1);
    if (base == NULL)
        return NULL;
    uintptr_t first = (uintptr_t)base + sizeof(void *);
    size_t skip = sizeof(void *) + (size_t)(-first & (MEM_ALIGN - 1));
    char *p = base + skip;
    memcpy(p - sizeof(void *), &base, sizeof(void *));
    return p;
}

void mem_free_aligned(const struct slm_hooks *h, void *p) {
    if (p == NULL)
        return;
    void *base;
    memcpy(&base, (char *)p - sizeof(void *), sizeof(void *));
    mem_free(h, base);
}

/* ---- arena ---- */

#define ARENA_ALIGN 16
#define ARENA_FIRST_BYTES 4096      /* first block; each next one doubles ... */
#define ARENA_LAST_BYTES (1u << 20) /* ... up to this */
#ifdef HAVE_ASAN
#define ARENA_GAP 16 /* stays poisoned after every object */
#else
#define ARENA_GAP 0
#endif

struct arena_block {
    struct arena_block *next;
    size_t size, used;                /* bytes after the header: all, handed out */
    alignas(ARENA_ALIGN) char data[]; /* [size] */
};

void arena_init(struct arena *a, const struct slm_hooks *h, size_t limit_bytes) {
    *a = (struct arena){ .hooks = h, .limit_bytes = limit_bytes };
}

/* Bytes that the ceiling still allows for a block with its header. */
static size_t arena_room(const struct arena *a) {
    if (a->limit_bytes == 0)
        return PTRDIFF_MAX;
    size_t taken = 0;
    for (const struct arena_block *b = a->blocks; b != NULL; b = b->next)
        taken += sizeof *b + b->size;
    return taken < a->limit_bytes ? a->limit_bytes - taken : 0;
}

/* A new block with room for `need` bytes; larger, for the objects to come, where that is allowed. */
static struct arena_block *arena_grow(struct arena *a, size_t need) {
    size_t room = arena_room(a);
    if (room < sizeof(struct arena_block) || need > room - sizeof(struct arena_block))
        return NULL;
    room -= sizeof(struct arena_block);
    size_t size = a->blocks != NULL ? a->blocks->size : ARENA_FIRST_BYTES / 2;
    size = size >= ARENA_LAST_BYTES / 2 ? ARENA_LAST_BYTES : size * 2;
    if (size > room)
        size = room;
    bool own = need > size / 4; /* a large object gets a block of exactly its size ... */
    if (own)
        size = need;
    struct arena_block *b = mem_alloc(a->hooks, sizeof *b + size, 1);
    if (b == NULL)
        return NULL;
    *b = (struct arena_block){ .size = size };
    MEM_POISON(b->data, size);
    if (own && a->blocks != NULL) { /* ... behind the block that small ones still fill */
        b->next = a->blocks->next;
        a->blocks->next = b;
    } else {
        b->next = a->blocks;
        a->blocks = b;
    }
    return b;
}

void *arena_alloc(struct arena *a, size_t n, size_t size) {
    size_t bytes, need;
    if (!size_of_array(n, size, &bytes) || !add_ok(bytes, ARENA_ALIGN - 1 + ARENA_GAP, &need) ||
        need > PTRDIFF_MAX - sizeof(struct arena_block))
        return NULL;
    need &= ~(size_t)(ARENA_ALIGN - 1);
    struct arena_block *b = a->blocks;
    if (b == NULL || need > b->size - b->used)
        b = arena_grow(a, need);
    if (b == NULL)
        return NULL;
    void *p = b->data + b->used;
    b->used += need;
    a->used_bytes += bytes;
    MEM_UNPOISON(p, bytes);
    return p;
}

void *arena_zalloc(struct arena *a, size_t n, size_t size) {
    void *p = arena_alloc(a, n, size);
    if (p != NULL)
        memset(p, 0, n * size);
    return p;
}

char *arena_strdup(struct arena *a, const char *s, size_t n) {
    size_t bytes;
    if (!add_ok(n, 1, &bytes))
        return NULL;
    char *copy = arena_alloc(a, bytes, 1);
    if (copy == NULL)
        return NULL;
    if (n > 0)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

void arena_free(struct arena *a) {
    for (struct arena_block *b = a->blocks, *next; b != NULL; b = next) {
        next = b->next;
        MEM_UNPOISON(b->data, b->size);
        mem_free(a->hooks, b);
    }
    a->blocks = NULL;
    a->used_bytes = 0;
}

/* ---- growing buffer ---- */

void buf_init(struct buf *b, const struct slm_hooks *h, size_t limit) {
    *b = (struct buf){ .hooks = h, .limit = limit };
}

/* Room for n more bytes and the zero after them. */
static bool buf_reserve(struct buf *b, size_t n) {
    if (b->err != SLM_OK)
        return false;
    if (n > b->limit || b->len > b->limit - n) {
        b->err = SLM_E_BUDGET;
        return false;
    }
    size_t need;
    if (!add_ok(b->len + n, 1, &need)) {
        b->err = SLM_E_NOMEM;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap - 1 > b->limit)
        cap = b->limit + 1; /* no wrap: need - 1 <= limit and need itself did not wrap */
    char *data = mem_resize(b->hooks, b->data, cap, 1);
    if (data == NULL) {
        b->err = SLM_E_NOMEM;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void buf_put(struct buf *b, const void *p, size_t n) {
    if (n == 0 || !buf_reserve(b, n))
        return;
    memcpy(b->data + b->len, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s) {
    buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c) {
    buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *format, ...) {
    char small[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (n < 0) {
        if (b->err == SLM_OK)
            b->err = SLM_E_NOMEM; /* the C library's only reasons: memory, or more than INT_MAX */
        return;
    }
    if ((size_t)n < sizeof small) {
        buf_put(b, small, (size_t)n);
        return;
    }
    if (!buf_reserve(b, (size_t)n))
        return;
    va_start(args, format);
    vsnprintf(b->data + b->len, (size_t)n + 1, format, args);
    va_end(args);
    b->len += (size_t)n;
}

char *buf_take(struct buf *b) {
    slm_err err = b->err;
    char *data = NULL;
    if (err == SLM_OK) {
        data = b->data != NULL ? b->data : mem_strdup(b->hooks, "", 0);
        b->data = NULL;
        if (data == NULL)
            err = SLM_E_NOMEM;
    }
    buf_free(b);
    b->err = err;
    return data;
}

void buf_free(struct buf *b) {
    mem_free(b->hooks, b->data);
    b->data = NULL;
    b->len = b->cap = 0;
    b->err = SLM_OK;
}
