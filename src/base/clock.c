/* clock.c - see clock.h. */
#include "base/clock.h"

#include <time.h>

int64_t clock_local(void) {
    time_t now = time(NULL);
    struct tm tm;
    if (localtime_r(&now, &tm) == NULL) /* a year that does not fit: UTC will do */
        return (int64_t)now;
    return (int64_t)now + tm.tm_gmtoff;
}

int64_t clock_utc_ns(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0)
        return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
