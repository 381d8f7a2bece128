/* pool.h - a fixed team of threads that runs one function on all members and waits.
 *
 * pool_run(p, fn, arg) calls fn(arg, i, n) for i = 0..n-1, i = 0 on the caller's thread, and
 * returns when all are done. Waiting spins for some microseconds, then blocks on a futex-backed
 * condition, so a busy machine is not made worse. Results never depend on n: callers split work
 * by output rows. */
#ifndef SLM_BASE_POOL_H
#define SLM_BASE_POOL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/mem.h"

struct pool;
typedef void (*pool_fn)(void *arg, unsigned index, unsigned count);

#define POOL_MAX 1024 /* threads in one pool */

/* n_threads from 1 to POOL_MAX counts the caller: 1 creates no thread. Returns owned. */
slm_err pool_new(const struct slm_hooks *h, unsigned n_threads, struct pool **out, slm_why *why);
/* Callers on several threads take turns. fn must not call pool_run on the same pool. */
void pool_run(struct pool *p, pool_fn fn, void *arg);
/* The same for work that goes on without members that have no processor just now: fn is called on the
 * caller's thread, and on each other member that comes before the caller is done. So it has to hand
 * out its work by phases (below) or tickets, not by index, and must not use pool_barrier. */
void pool_share(struct pool *p, pool_fn fn, void *arg);
unsigned pool_size(const struct pool *p);
void pool_free(struct pool *p); /* NULL allowed */
/* All members of the running pool_run meet here; may be used several times inside one fn. */
void pool_barrier(struct pool *p, unsigned index);

/* Shared counter for handing out work in pieces: returns the next index, >= limit when done. */
struct ticket {
    _Atomic unsigned next;
};
static inline unsigned ticket_take(struct ticket *t, unsigned n) {
    return atomic_fetch_add_explicit(&t->next, n, memory_order_relaxed);
}

/* A phase of a shared run: units of work handed out in pieces. It is over when every unit was credited
 * by whoever took it, so a member that took nothing is waited for by nobody. Zero it before the run. */
struct phase {
    _Alignas(64) _Atomic unsigned next; /* first unit not handed out */
    _Atomic uint64_t done;              /* units credited */
};
/* Takes up to `step` of `total` units: [*from, *to). false: none are left. */
static inline bool phase_take(struct phase *p, unsigned total, unsigned step, unsigned *from,
                              unsigned *to) {
    if (atomic_load_explicit(&p->next, memory_order_relaxed) >= total)
        return false; /* keeps the counter from running on */
    *from = atomic_fetch_add_explicit(&p->next, step, memory_order_relaxed);
    *to = total - *from < step ? total : *from + step;
    return *from < total;
}
/* n of the units that this thread took are finished. */
void phase_credit(struct pool *p, struct phase *ph, unsigned n, unsigned total);
/* Returns when all units are credited; what was written for them is visible then. */
void phase_wait(struct pool *p, struct phase *ph, unsigned total);

/* CPUs this process may run on (affinity and cgroup limit respected), at least 1. */
unsigned cpu_count(void);
/* Asks the system to keep tile registers (AMX) for this process, all threads, from now on; signal
 * frames of threads that use them grow by 8 KiB. False: it does not. Asking again changes nothing. */
bool cpu_allow_tiles(void);
/* The cgroup half of cpu_count: CPUs granted by the quotas of the groups that `membership` (text of
 * /proc/self/cgroup) names below the mount point `root`, rounded up; 0 when there is no limit. */
unsigned cpu_quota(const char *membership, const char *root);
/* Words of feature bits that the system hands to programs about its CPU: Linux' AT_HWCAP (word 0)
 * and AT_HWCAP2 (word 1), whose meaning depends on the architecture; 0 on other systems. */
uint64_t cpu_features(unsigned word);
/* Monotonic clock in nanoseconds. */
uint64_t clock_ns(void);

#endif
