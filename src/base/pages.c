/* pages.c - transparent huge pages.
 *
 * A walk through memory misses the address cache once per page; with 2 MiB pages it hardly ever
 * does, and the processor's own read-ahead does not stop every 4 KiB.
 * Source: Linux Documentation/admin-guide/mm/transhuge.rst ("always", "madvise", "never"). */
#include "base/pages.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/enabled"
#define SETTING_BYTES 4096

/* Whether the system would give huge pages to whoever asks. True where it does not tell. */
static bool allowed(void) {
    char *text;
    size_t n;
    if (file_read(NULL, SETTING, SETTING_BYTES, &text, &n, NULL) != SLM_OK)
        return true;
    bool never = strstr(text, "[never]") != NULL;
    mem_free(NULL, text);
    return !never;
}

bool pages_size(void *p, size_t n, bool huge) {
#ifdef MADV_HUGEPAGE
    uintptr_t first = ((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)p + n) & ~(uintptr_t)(HUGE_PAGE - 1);
    return first < end &&
           madvise((void *)first, end - first, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0 &&
           (!huge || allowed());
#else
    (void)p, (void)n, (void)huge, (void)allowed;
    return false;
#endif
}
