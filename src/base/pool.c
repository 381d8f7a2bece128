/* pool.c - a fixed team of threads.
 *
 * One run: the caller writes fn and arg and the state of a new run, and advances `start`; each helper
 * that sees it works and is counted in the state; the caller does its own share and waits until the
 * count says that the others are through. In a shared run only those are counted who came in time:
 * a helper without a processor is not waited for, neither at the end nor between phases, unless it
 * holds units of work. The barrier counts arrivals and advances its own number.
 *
 * Every wait spins first (a decoded token has a hundred phases, microseconds apart) and then blocks,
 * so that other processes get the processor when this one has nothing to do with it. No wake-up can be lost: a sleeper announces itself in `sleepers` before it looks at the
 * word once more, the waker changes the word before it looks at `sleepers`, both sequentially
 * consistent, so at least one of the two sees the other; the lock closes the gap until the
 * sleeper really sleeps.
 *
 * Some schedulers leave two threads that wake each other on one processor while another is idle, for
 * seconds (seen on virtual machines of two processors: half the speed). So a helper that finds itself
 * where the caller of the run is asks to run elsewhere. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#define LINE 64         /* bytes of a cache line: words written by different threads */
#define SPIN_NS 100000u /* how long a wait spins before it blocks */
#define SPIN_TURNS 64   /* pauses between two looks at the clock */
#define STACK_BYTES (1u << 20)

/* Where threads sleep that wait for some word to change. */
struct gate {
    alignas(LINE) _Atomic unsigned sleepers;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

struct member {
    alignas(LINE) struct pool *pool;
    unsigned index;
    pthread_t thread;
    _Atomic int cpu; /* where it was last seen, -1 unknown */
};

/* state of a run: number of the run << 32 | flags | members that are counted.
 *   pool_run    OPEN | ALL: counts members that are not through yet, from n - 1 down
 *   pool_share  OPEN: counts members inside; closed when the caller is through */
#define RUN_SHIFT 32
#define OPEN ((uint64_t)1 << 31)
#define ALL ((uint64_t)1 << 30)

struct pool {
    struct gate start_gate, finish_gate, barrier_gate, phase_gate;
    alignas(LINE) _Atomic uint64_t start;   /* number of the run */
    alignas(LINE) _Atomic uint64_t state;   /* of the run, see above */
    alignas(LINE) _Atomic uint64_t barrier; /* number of the barrier */
    alignas(LINE) _Atomic unsigned arrived; /* members at the barrier */
    pthread_mutex_t turn;                   /* callers, one after another */
    pool_fn fn;
    void *arg;
    atomic_bool ending; /* written before the last start */
    struct slm_hooks hooks;
    unsigned n_threads;
    unsigned n_started; /* helper threads that run: members 1 .. n_started */
    unsigned spin_ns;
    struct member members[]; /* [n_threads] */
};

/* ---- gates ---- */

static bool gate_init(struct gate *g) {
    atomic_init(&g->sleepers, 0);
    if (pthread_mutex_init(&g->lock, NULL) != 0)
        return false;
    if (pthread_cond_init(&g->moved, NULL) != 0) {
        pthread_mutex_destroy(&g->lock);
        return false;
    }
    return true;
}

static void gate_destroy(struct gate *g) {
    pthread_cond_destroy(&g->moved);
    pthread_mutex_destroy(&g->lock);
}

/* To be called after the word was changed (sequentially consistent). */
static void gate_wake(struct gate *g) {
    if (atomic_load(&g->sleepers) == 0)
        return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

/* Whether the wait is over: the word left `value`, or (until) it reached it. */
static bool word_moved(const _Atomic uint64_t *word, uint64_t value, bool until) {
    return (atomic_load(word) == value) == until;
}

static void gate_wait(struct gate *g, const _Atomic uint64_t *word, uint64_t value, bool until,
                      unsigned spin_ns) {
    if (word_moved(word, value, until))
        return;
    for (uint64_t begin = clock_ns(); clock_ns() - begin < spin_ns;) {
        for (int i = 0; i < SPIN_TURNS; i++) {
            CPU_PAUSE();
            if (word_moved(word, value, until))
                return;
        }
    }
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while (!word_moved(word, value, until))
        pthread_cond_wait(&g->moved, &g->lock);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
}

/* ---- helpers ---- */

/* Enters run number `run`, if it still takes members. */
static bool enter(struct pool *p, uint64_t run) {
    uint64_t state = atomic_load(&p->state);
    while (state >> RUN_SHIFT == (run & UINT32_MAX) && (state & OPEN)) {
        if (state & ALL)
            return true; /* counted from the start */
        if (atomic_compare_exchange_weak(&p->state, &state, state + 1))
            return true;
    }
    return false;
}

/* ---- one processor each ---- */

#if defined(__linux__)
/* Processor of the calling thread, noted for the others. */
static void note_cpu(struct member *m) {
    atomic_store_explicit(&m->cpu, sched_getcpu(), memory_order_relaxed);
}

/* A helper on the processor of a member before it goes to one where no member was seen, of those that
 * it may use at all. It stays free to be moved among these. Nothing happens when there is none. */
static void keep_apart(struct member *m, const cpu_set_t *allowed) {
    struct pool *p = m->pool;
    bool crowded = false;
    note_cpu(m);
    int mine = atomic_load_explicit(&m->cpu, memory_order_relaxed);
    for (unsigned i = 0; i < m->index && mine >= 0; i++)
        crowded = crowded || atomic_load_explicit(&p->members[i].cpu, memory_order_relaxed) == mine;
    if (!crowded)
        return;
    cpu_set_t free_set = *allowed;
    for (unsigned i = 0; i < p->n_threads; i++) {
        int cpu = atomic_load_explicit(&p->members[i].cpu, memory_order_relaxed);
        if (cpu >= 0 && cpu < CPU_SETSIZE)
            CPU_CLR((size_t)cpu, &free_set);
    }
    if (CPU_COUNT(&free_set) > 0 && sched_setaffinity(0, sizeof free_set, &free_set) == 0)
        note_cpu(m);
}
#else
typedef int cpu_set_t;
static void note_cpu(struct member *m) {
    (void)m;
}
static void keep_apart(struct member *m, const cpu_set_t *allowed) {
    (void)m;
    (void)allowed;
}
static int sched_getaffinity(int pid, size_t size, cpu_set_t *set) {
    (void)pid;
    (void)size;
    *set = 0;
    return -1;
}
#endif

static void *helper_main(void *arg) {
    struct member *m = arg;
    struct pool *p = m->pool;
    cpu_set_t allowed;
    bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    for (uint64_t seen = 0;;) {
        gate_wait(&p->start_gate, &p->start, seen, false, p->spin_ns);
        seen = atomic_load(&p->start);
        if (atomic_load(&p->ending))
            return NULL;
        if (known)
            keep_apart(m, &allowed);
        if (!enter(p, seen))
            continue;
        p->fn(p->arg, m->index, p->n_threads);
        atomic_fetch_sub(&p->state, 1);
        gate_wake(&p->finish_gate);
    }
}

/* Starts one helper with all signals blocked: those are for the program's own threads. */
static int helper_start(struct member *m) {
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    (void)pthread_attr_setstacksize(&attr, STACK_BYTES); /* refused: the default will do */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&m->thread, &attr, helper_main, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* ---- public ---- */

static bool gates_init(struct pool *p) {
    struct gate *const all[] = { &p->start_gate, &p->finish_gate, &p->barrier_gate,
                                 &p->phase_gate };
    size_t n = 0;
    while (n < ARRAY_LEN(all) && gate_init(all[n]))
        n++;
    if (n == ARRAY_LEN(all) && pthread_mutex_init(&p->turn, NULL) == 0)
        return true;
    while (n > 0)
        gate_destroy(all[--n]);
    return false;
}

slm_err pool_new(const struct slm_hooks *h, unsigned n_threads, struct pool **out, slm_why *why) {
    *out = NULL;
    if (n_threads < 1 || n_threads > POOL_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%u threads, from 1 to %d are possible",
                    n_threads, POOL_MAX);
    size_t bytes = sizeof(struct pool) + n_threads * sizeof(struct member);
    struct pool *p = mem_alloc_aligned(h, bytes, 1);
    if (p == NULL)
        return fail_nomem(why, "threads", bytes);
    memset(p, 0, bytes);
    hooks_init(&p->hooks, h);
    p->n_threads = n_threads;
    /* with fewer CPUs than threads, spinning only keeps the awaited thread from running */
    p->spin_ns = n_threads <= cpu_count() ? SPIN_NS : 0;
    atomic_init(&p->ending, false);
    atomic_init(&p->start, 0);
    atomic_init(&p->state, 0);
    atomic_init(&p->barrier, 0);
    atomic_init(&p->arrived, 0);
    if (!gates_init(p)) {
        mem_free_aligned(h, p);
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "no lock for %u threads", n_threads);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        p->members[i].pool = p;
        p->members[i].index = i;
        atomic_init(&p->members[i].cpu, -1);
    }
    for (unsigned i = 1; i < n_threads; i++) {
        int rc = helper_start(&p->members[i]);
        if (rc != 0) {
            pool_free(p);
            return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "thread %u of %u did not start (error %d)",
                        i + 1, n_threads, rc);
        }
        p->n_started = i;
    }
    *out = p;
    return SLM_OK;
}

/* Begins a run; only the caller's thread writes fn, arg and start. */
static uint64_t begin(struct pool *p, pool_fn fn, void *arg, uint64_t flags) {
    uint64_t run = atomic_load(&p->start) + 1, base = (run & UINT32_MAX) << RUN_SHIFT;
    p->fn = fn;
    p->arg = arg;
    note_cpu(&p->members[0]);
    atomic_store(&p->state, base | flags);
    atomic_store(&p->start, run);
    gate_wake(&p->start_gate);
    return base;
}

void pool_run(struct pool *p, pool_fn fn, void *arg) {
    if (p->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&p->turn);
    uint64_t base = begin(p, fn, arg, OPEN | ALL | (p->n_threads - 1));
    fn(arg, 0, p->n_threads);
    gate_wait(&p->finish_gate, &p->state, base | OPEN | ALL, true, p->spin_ns);
    pthread_mutex_unlock(&p->turn);
}

void pool_share(struct pool *p, pool_fn fn, void *arg) {
    if (p->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&p->turn);
    uint64_t base = begin(p, fn, arg, OPEN);
    fn(arg, 0, p->n_threads);
    atomic_fetch_and(&p->state, ~OPEN);
    gate_wait(&p->finish_gate, &p->state, base, true, p->spin_ns);
    pthread_mutex_unlock(&p->turn);
}

unsigned pool_size(const struct pool *p) {
    return p->n_threads;
}

void pool_barrier(struct pool *p, unsigned index) {
    (void)index; /* one counter serves all members */
    if (p->n_threads == 1)
        return;
    uint64_t number = atomic_load(&p->barrier); /* cannot advance before this member arrives */
    if (atomic_fetch_add(&p->arrived, 1) + 1 < p->n_threads) {
        gate_wait(&p->barrier_gate, &p->barrier, number, false, p->spin_ns);
        return;
    }
    atomic_store(&p->arrived, 0);
    atomic_fetch_add(&p->barrier, 1);
    gate_wake(&p->barrier_gate);
}

void phase_credit(struct pool *p, struct phase *ph, unsigned n, unsigned total) {
    if (atomic_fetch_add(&ph->done, n) + n == total)
        gate_wake(&p->phase_gate);
}

void phase_wait(struct pool *p, struct phase *ph, unsigned total) {
    gate_wait(&p->phase_gate, &ph->done, total, true, p->spin_ns);
}

void pool_free(struct pool *p) {
    if (p == NULL)
        return;
    atomic_store(&p->ending, true);
    atomic_fetch_add(&p->start, 1);
    gate_wake(&p->start_gate);
    for (unsigned i = 1; i <= p->n_started; i++)
        pthread_join(p->members[i].thread, NULL);
    pthread_mutex_destroy(&p->turn);
    gate_destroy(&p->phase_gate);
    gate_destroy(&p->barrier_gate);
    gate_destroy(&p->finish_gate);
    gate_destroy(&p->start_gate);
    struct slm_hooks hooks = p->hooks;
    mem_free_aligned(&hooks, p);
}
