/* pages.h - the size of the pages behind memory that is read from end to end. */
#ifndef SLM_BASE_PAGES_H
#define SLM_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20) /* bytes of a huge page on x86-64 and on ARM with 4 KiB pages */

/* Asks that the whole huge pages inside p[n] be taken as such (huge) or as small pages. To be called
 * before the memory is touched for the first time. False when the system gives none. */
bool pages_size(void *p, size_t n, bool huge);

#endif
