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
