/* pool.c - a fixed team of threads.
 *
 * One run: the caller writes fn and arg, sets `pending` to the number of helpers and advances
 * `epoch`; each helper that sees a new epoch works and takes one off `pending`; the caller does
 * its own share and waits for zero. The barrier counts arrivals and advances its own epoch.
 *
 * Every wait spins first (a decoded token has several hundred runs, microseconds apart) and then
 * blocks. No wake-up can be lost: a sleeper announces itself in `sleepers` before it looks at the
 * word once more, the waker changes the word before it looks at `sleepers`, both sequentially
 * consistent, so at least one of the two sees the other; the lock closes the gap until the
 * sleeper really sleeps. */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>

#define LINE 64         /* bytes of a cache line: words written by different threads */
#define SPIN_NS 100000u /* how long a wait spins before it blocks */
#define SPIN_TURNS 64   /* pauses between two looks at the clock */
#define STACK_BYTES (1u << 20)

/* One word that threads wait on, with the bed of those that fell asleep. */
struct gate {
    alignas(LINE) _Atomic unsigned word;
    alignas(LINE) _Atomic unsigned sleepers;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

struct member {
    struct pool *pool;
    unsigned index;
    pthread_t thread;
};

struct pool {
    struct gate start;                      /* word: epoch of the run */
    struct gate finish;                     /* word: helpers that still work */
    struct gate barrier;                    /* word: epoch of the barrier */
    alignas(LINE) _Atomic unsigned arrived; /* members at the barrier */
    pthread_mutex_t turn;                   /* callers of pool_run, one after another */
    pool_fn fn;                             /* NULL tells helpers to end */
    void *arg;
    struct slm_hooks hooks;
    unsigned n_threads;
    unsigned n_started; /* helper threads that run: members 1 .. n_started */
    unsigned spin_ns;
    struct member members[]; /* [n_threads] */
};

/* ---- gates ---- */

static bool gate_init(struct gate *g) {
    atomic_init(&g->word, 0);
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
static bool gate_open(struct gate *g, unsigned value, bool until) {
    return (atomic_load(&g->word) == value) == until;
}

static void gate_wait(struct gate *g, unsigned value, bool until, unsigned spin_ns) {
    if (gate_open(g, value, until))
        return;
    for (uint64_t begin = clock_ns(); clock_ns() - begin < spin_ns;) {
        for (int i = 0; i < SPIN_TURNS; i++) {
            CPU_PAUSE();
            if (gate_open(g, value, until))
                return;
        }
    }
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while (!gate_open(g, value, until))
        pthread_cond_wait(&g->moved, &g->lock);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
}

/* ---- helpers ---- */

static void *helper_main(void *arg) {
    struct member *m = arg;
    struct pool *p = m->pool;
    for (unsigned seen = 0;; seen++) {
        gate_wait(&p->start, seen, false, p->spin_ns);
        if (p->fn == NULL)
            return NULL;
        p->fn(p->arg, m->index, p->n_threads);
        if (atomic_fetch_sub(&p->finish.word, 1) == 1)
            gate_wake(&p->finish);
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
    if (!gate_init(&p->start))
        return false;
    if (!gate_init(&p->finish))
        goto no_finish;
    if (!gate_init(&p->barrier))
        goto no_barrier;
    if (pthread_mutex_init(&p->turn, NULL) == 0)
        return true;
    gate_destroy(&p->barrier);
no_barrier:
    gate_destroy(&p->finish);
no_finish:
    gate_destroy(&p->start);
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
    atomic_init(&p->arrived, 0);
    if (!gates_init(p)) {
        mem_free_aligned(h, p);
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "no lock for %u threads", n_threads);
    }
    for (unsigned i = 1; i < n_threads; i++) {
        p->members[i] = (struct member){ .pool = p, .index = i };
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

void pool_run(struct pool *p, pool_fn fn, void *arg) {
    if (p->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&p->turn);
    p->fn = fn;
    p->arg = arg;
    atomic_store(&p->finish.word, p->n_threads - 1);
    atomic_fetch_add(&p->start.word, 1);
    gate_wake(&p->start);
    fn(arg, 0, p->n_threads);
    gate_wait(&p->finish, 0, true, p->spin_ns);
    pthread_mutex_unlock(&p->turn);
}

unsigned pool_size(const struct pool *p) {
    return p->n_threads;
}

void pool_barrier(struct pool *p, unsigned index) {
    (void)index; /* one counter serves all members */
    if (p->n_threads == 1)
        return;
    unsigned epoch = atomic_load(&p->barrier.word); /* cannot advance before this member arrives */
    if (atomic_fetch_add(&p->arrived, 1) + 1 < p->n_threads) {
        gate_wait(&p->barrier, epoch, false, p->spin_ns);
        return;
    }
    atomic_store(&p->arrived, 0);
    atomic_fetch_add(&p->barrier.word, 1);
    gate_wake(&p->barrier);
}

void pool_free(struct pool *p) {
    if (p == NULL)
        return;
    p->fn = NULL;
    atomic_fetch_add(&p->start.word, 1);
    gate_wake(&p->start);
    for (unsigned i = 1; i <= p->n_started; i++)
        pthread_join(p->members[i].thread, NULL);
    pthread_mutex_destroy(&p->turn);
    gate_destroy(&p->barrier);
    gate_destroy(&p->finish);
    gate_destroy(&p->start);
    struct slm_hooks hooks = p->hooks;
    mem_free_aligned(&hooks, p);
}
