/* clock.h - the calendar. (Durations: clock_ns in pool.h.) */
#ifndef SLM_BASE_CLOCK_H
#define SLM_BASE_CLOCK_H

#include <stdint.h>

/* Now, as the calendar and the clock on the wall show it in the time zone of the C library, given as
 * the seconds since the epoch at which UTC would show the same. */
int64_t clock_local(void);

/* Nanoseconds since the epoch, UTC: comparable with the times of files. */
int64_t clock_utc_ns(void);

#endif
