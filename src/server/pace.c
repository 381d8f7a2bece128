/* pace.c - see pace.h. */
#include "server/pace.h"

void pace_departed(struct pace *p, uint64_t now_ns, bool busy) {
    static const double weight = 0.2; /* of the latest gap */
    if (p->last_ns != 0 && busy) {
        double gap = (double)(now_ns - p->last_ns);
        p->mean_ns = p->mean_ns > 0 ? p->mean_ns + weight * (gap - p->mean_ns) : gap;
    }
    p->last_ns = now_ns;
}

uint32_t pace_wait_ms(const struct pace *p, size_t ahead, uint64_t now_ns) {
    double gap = p->mean_ns, ms;
    if (gap <= 0)
        return PACE_UNKNOWN_MS;
    /* a queue that stands still longer than its mean is slower than it was */
    if (now_ns > p->last_ns && (double)(now_ns - p->last_ns) > gap)
        gap = (double)(now_ns - p->last_ns);
    ms = gap * (double)(ahead > 0 ? ahead : 1) / 1e6;
    return ms < PACE_LEAST_MS ? PACE_LEAST_MS : ms > PACE_MOST_MS ? PACE_MOST_MS : (uint32_t)ms;
}
