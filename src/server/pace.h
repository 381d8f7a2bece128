/* pace.h - how fast a queue drains: what Retry-After is made of.
 *
 * Keeps the mean time between departures, weighted to the latest ones. Not its own lock's keeper. */
#ifndef SLM_SERVER_PACE_H
#define SLM_SERVER_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pace {
    uint64_t last_ns; /* of the last departure; 0: none yet */
    double mean_ns;   /* between two; 0: unknown */
};
enum { PACE_LEAST_MS = 100, PACE_MOST_MS = 120000, PACE_UNKNOWN_MS = 1000 };
/* One request has ended. busy: others waited or ran since the last one, so the gap says something. */
void pace_departed(struct pace *p, uint64_t now_ns, bool busy);
/* In how many ms `ahead` requests will have left: PACE_LEAST_MS to PACE_MOST_MS. */
uint32_t pace_wait_ms(const struct pace *p, size_t ahead, uint64_t now_ns);

#endif
