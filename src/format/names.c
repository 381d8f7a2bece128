/* names.c - which names of tensors and keys are accepted, and sorting that input cannot slow down. */
#include <assert.h>
#include <string.h>

#include "base/utf8.h"
#include "format/format_internal.h"

const char *name_fault(const char *s, size_t n) {
    if (n == 0)
        return "is empty";
    if (n > MAX_NAME)
        return "is too long";
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = utf8_decode(s + i, n - i, &cp);
        if (len == 0)
            return "is not valid UTF-8";
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            return "holds a control character";
        i += len;
    }
    return NULL;
}

#define SORT_MAX_SIZE 128

static void swap_items(uint8_t *a, uint8_t *b, size_t size) {
    uint8_t tmp[SORT_MAX_SIZE];
    memcpy(tmp, a, size);
    memcpy(a, b, size);
    memcpy(b, tmp, size);
}

/* Lets the item at root sink until no child is larger; n items are in the heap. */
static void sift_down(uint8_t *base, size_t size, size_t root, size_t n,
                      int (*compare)(const void *, const void *)) {
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n)
            return;
        if (child + 1 < n && compare(base + child * size, base + (child + 1) * size) < 0)
            child++;
        if (compare(base + root * size, base + child * size) >= 0)
            return;
        swap_items(base + root * size, base + child * size, size);
        root = child;
    }
}

void sort_items(void *base, size_t n, size_t size, int (*compare)(const void *, const void *)) {
    assert(size <= SORT_MAX_SIZE);
    uint8_t *items = base;
    for (size_t root = n / 2; root-- > 0;)
        sift_down(items, size, root, n, compare);
    for (size_t end = n; end-- > 1;) {
        swap_items(items, items + end * size, size);
        sift_down(items, size, 0, end, compare);
    }
}
