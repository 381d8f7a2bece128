/* test_base_pool.c - the team of threads: every share done once, visible afterwards; barriers;
 * sleeping and waking; several callers; CPU quotas. Run under ThreadSanitizer too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pool.h"
#include "support.h"

enum { MAX_THREADS = 9, SLOTS = 64 };

struct job {
    unsigned counts[MAX_THREADS * SLOTS]; /* plain memory: the pool alone makes it visible */
    unsigned seen_count;
};

static void share(void *arg, unsigned index, unsigned count) {
    struct job *job = arg;
    job->counts[index * SLOTS]++;
    if (index == 0)
        job->seen_count = count;
}

static void test_shares(void **state) {
    (void)state;
    for (unsigned n = 1; n <= MAX_THREADS; n += n < 4 ? 1 : 5) {
        struct pool *p;
        struct job job = { { 0 }, 0 };
        assert_int_equal(pool_new(NULL, n, &p, NULL), SLM_OK);
        assert_int_equal(pool_size(p), n);
        for (unsigned run = 1; run <= 2000; run++) {
            pool_run(p, share, &job);
            for (unsigned i = 0; i < n; i++)
                assert_int_equal(job.counts[i * SLOTS], run);
            assert_int_equal(job.seen_count, n);
        }
        pool_free(p);
    }
    pool_free(NULL);
}

/* helpers fall asleep between the runs and must all wake */
static void test_sleep_and_wake(void **state) {
    (void)state;
    struct pool *p;
    struct job job = { { 0 }, 0 };
    assert_int_equal(pool_new(NULL, 3, &p, NULL), SLM_OK);
    for (unsigned run = 1; run <= 60; run++) {
        usleep(run % 20 * 50); /* shorter and longer than the spin */
        pool_run(p, share, &job);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(job.counts[i * SLOTS], run);
    }
    usleep(2000);
    pool_free(p); /* while all sleep */
}

struct relay {
    struct pool *pool;
    unsigned value[MAX_THREADS]; /* [n] each member writes its own, reads its neighbour's */
    unsigned rounds;
    _Atomic unsigned wrong;
};

static void relay(void *arg, unsigned index, unsigned count) {
    struct relay *r = arg;
    for (unsigned round = 1; round <= r->rounds; round++) {
        r->value[index] = round;
        pool_barrier(r->pool, index);
        if (r->value[(index + 1) % count] != round)
            atomic_fetch_add(&r->wrong, 1);
        if (index == round % count && round % 50 == 0)
            usleep(300); /* the others fall asleep at the barrier */
        pool_barrier(r->pool, index);
    }
}

static void test_barrier(void **state) {
    (void)state;
    for (unsigned n = 1; n <= 5; n++) {
        struct relay r = { .rounds = 300 };
        assert_int_equal(pool_new(NULL, n, &r.pool, NULL), SLM_OK);
        for (int again = 0; again < 3; again++)
            pool_run(r.pool, relay, &r);
        assert_int_equal(r.wrong, 0);
        pool_free(r.pool);
    }
}

/* A shared run: every unit of every phase once, and what a phase wrote visible in the next. */
enum { PHASES = 50, UNITS = 33 };
struct phased {
    struct pool *pool;
    struct phase phases[PHASES];
    unsigned value[PHASES][UNITS]; /* plain memory: the phases alone make it visible */
    unsigned nap;                  /* member that goes to sleep inside */
    _Atomic unsigned wrong;
};

static void phased(void *arg, unsigned index, unsigned count) {
    struct phased *w = arg;
    (void)count;
    if (index == w->nap)
        usleep(200); /* comes late, or holds a unit for long */
    for (unsigned i = 0; i < PHASES; i++) {
        unsigned held = 0, from, to;
        for (; phase_take(&w->phases[i], UNITS, 5, &from, &to); held = to - from) {
            if (held > 0)
                phase_credit(w->pool, &w->phases[i], held, UNITS);
            if (index == w->nap && i % 16 == 7)
                usleep(150);
            for (unsigned u = from; u < to; u++) {
                unsigned before = i > 0 ? w->value[i - 1][(u * 7 + i) % UNITS] : i;
                w->value[i][u] = before + 1;
                if (before != i)
                    atomic_fetch_add(&w->wrong, 1);
            }
        }
        if (held > 0)
            phase_credit(w->pool, &w->phases[i], held, UNITS);
        phase_wait(w->pool, &w->phases[i], UNITS);
    }
}

static void test_phases(void **state) {
    (void)state;
    static struct phased w;
    for (unsigned n = 1; n <= 5; n++) {
        assert_int_equal(pool_new(NULL, n, &w.pool, NULL), SLM_OK);
        for (unsigned again = 0; again < 200; again++) {
            memset(w.phases, 0, sizeof w.phases);
            memset(w.value, 0, sizeof w.value);
            w.nap = again % 8; /* 5 and above: nobody */
            pool_share(w.pool, phased, &w);
            assert_int_equal(w.wrong, 0);
            for (unsigned u = 0; u < UNITS; u++)
                assert_int_equal(w.value[PHASES - 1][u], PHASES);
        }
        pool_free(w.pool);
    }
}

/* Both kinds of runs in turn: a helper that comes late to one must not work in the other twice. */
static void test_shared_and_full(void **state) {
    (void)state;
    static struct phased w;
    struct job job = { { 0 }, 0 };
    assert_int_equal(pool_new(NULL, 3, &w.pool, NULL), SLM_OK);
    w.nap = 9;
    for (unsigned run = 1; run <= 3000; run++) {
        memset(w.phases, 0, sizeof w.phases);
        pool_share(w.pool, phased, &w);
        pool_run(w.pool, share, &job);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(job.counts[i * SLOTS], run);
    }
    pool_free(w.pool);
}

struct shared_pool {
    struct pool *pool;
    struct job job;
};

static void *caller(void *arg) {
    struct shared_pool *s = arg;
    for (int i = 0; i < 500; i++)
        pool_run(s->pool, share, &s->job);
    return NULL;
}

static void test_callers_take_turns(void **state) {
    (void)state;
    static struct shared_pool s;
    memset(&s, 0, sizeof s);
    assert_int_equal(pool_new(NULL, 2, &s.pool, NULL), SLM_OK);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, caller, &s), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s.job.counts[0], 1500);
    assert_int_equal(s.job.counts[SLOTS], 1500);
    pool_free(s.pool);
}

struct pieces {
    struct ticket next;
    unsigned char done[1000];
};

static void take_pieces(void *arg, unsigned index, unsigned count) {
    (void)index;
    (void)count;
    struct pieces *w = arg;
    for (unsigned i; (i = ticket_take(&w->next, 7)) < sizeof w->done;)
        for (unsigned k = i; k < i + 7 && k < sizeof w->done; k++)
            w->done[k]++;
}

static void test_ticket(void **state) {
    (void)state;
    static struct pieces w;
    struct pool *p;
    assert_int_equal(pool_new(NULL, 3, &p, NULL), SLM_OK);
    pool_run(p, take_pieces, &w);
    pool_free(p);
    for (size_t i = 0; i < sizeof w.done; i++)
        assert_int_equal(w.done[i], 1);
}

static void test_refusals(void **state) {
    (void)state;
    struct pool *p = (struct pool *)1;
    slm_why why;
    assert_int_equal(pool_new(NULL, 0, &p, &why), SLM_E_ARG);
    assert_null(p);
    assert_int_equal(pool_new(NULL, POOL_MAX + 1, &p, &why), SLM_E_ARG);
    struct test_hooks t;
    test_hooks_init(&t, 1);
    assert_int_equal(pool_new(&t.hooks, 2, &p, &why), SLM_E_NOMEM);
    test_hooks_init(&t, 0);
    assert_int_equal(pool_new(&t.hooks, 2, &p, &why), SLM_OK);
    pool_free(p);
    assert_int_equal(t.live, 0);
}

/* No room for the stacks of so many threads: those that started are ended again. In a process of
 * its own, whose address space is limited; sanitizers need theirs. */
static void test_no_threads(void **state) {
    (void)state;
#if defined(HAVE_ASAN) || defined(__SANITIZE_THREAD__)
    print_message("# skip sanitizers need the address space that this test takes away\n");
    skip();
#endif
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = { 64 << 20, 64 << 20 };
        setrlimit(RLIMIT_AS, &limit);
        struct test_hooks t;
        test_hooks_init(&t, 0);
        struct pool *p;
        slm_err err = pool_new(&t.hooks, 1000, &p, NULL);
        _exit(err == SLM_E_NOMEM && p == NULL && t.live == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- CPU quotas, on a made-up /sys/fs/cgroup ---- */

static void put(char *root, size_t n, const char *rel, const char *text) {
    char path[1024];
    assert_true(temp_file(path, sizeof path, rel, text, strlen(text)));
    size_t n_root = strlen(path) - strlen(rel) + strcspn(rel, "/");
    assert_true(n_root < n);
    memcpy(root, path, n_root);
    root[n_root] = '\0';
}

static void test_quota(void **state) {
    (void)state;
    char root[1024];
    put(root, sizeof root, "v2/a/b/cpu.max", "max 100000\n");
    put(root, sizeof root, "v2/a/cpu.max", "250000 100000\n");
    put(root, sizeof root, "v2/c/cpu.max", "50000 100000\n");
    put(root, sizeof root, "v2/bad/cpu.max", "what\n");
    put(root, sizeof root, "v2/zero/cpu.max", "100 0\n");
    put(root, sizeof root, "v2/huge/cpu.max", "9223372036854775807 1\n");
    assert_int_equal(cpu_quota("0::/a/b\n", root), 3); /* 2.5 of the parent, rounded up */
    assert_int_equal(cpu_quota("0::/a", root), 3);
    assert_int_equal(cpu_quota("0::/c\n", root), 1);
    assert_int_equal(cpu_quota("0::/\n", root), 0);
    assert_int_equal(cpu_quota("0::/bad\n", root), 0);
    assert_int_equal(cpu_quota("0::/zero\n", root), 0);
    assert_int_equal(cpu_quota("0::/huge\n", root), POOL_MAX);
    assert_int_equal(cpu_quota("0::/gone/away\n", root), 0);
    assert_int_equal(cpu_quota("", root), 0);
    assert_int_equal(cpu_quota("nonsense\n:\n::\n5:cpu\n", root), 0);
    put(root, sizeof root, "v1/cpu,cpuacct/x/cpu.cfs_quota_us", "150000\n");
    put(root, sizeof root, "v1/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    put(root, sizeof root, "v1/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put(root, sizeof root, "v1/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_quota("4:memory:/x\n3:cpu,cpuacct:/x\n1:cpuset:/x\n", root), 2);
    assert_int_equal(cpu_quota("3:cpu,cpuacct:/\n", root), 0);
    assert_true(cpu_count() >= 1);
    uint64_t a = clock_ns(), b = clock_ns();
    assert_true(b >= a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),     cmocka_unit_test(test_sleep_and_wake),
        cmocka_unit_test(test_barrier),    cmocka_unit_test(test_callers_take_turns),
        cmocka_unit_test(test_phases),     cmocka_unit_test(test_shared_and_full),
        cmocka_unit_test(test_ticket),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_threads), cmocka_unit_test(test_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
