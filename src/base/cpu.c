/* cpu.c - how many CPUs this process may use, what they offer, and the clock.
 *
 * The smaller of the affinity mask and the quota of the control groups that the process is in.
 * Sources: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max: "QUOTA PERIOD" or "max PERIOD"),
 * scheduler/sched-bwc.rst (version 1: cpu.cfs_quota_us, -1 for none, and cpu.cfs_period_us);
 * arch/x86/xstate.rst (leave to use tile registers). */
#include "base/pool.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#endif

#include "base/file.h"

#define PATH_BYTES 4096
#define SMALL_FILE 65536 /* files below /proc and /sys that are read here */

uint64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool cpu_allow_tiles(void) {
#if defined(__linux__) && defined(__x86_64__)
    const long request = 0x1023 /* ARCH_REQ_XCOMP_PERM */, tile_data = 18 /* XFEATURE_XTILEDATA */;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

uint64_t cpu_features(unsigned word) {
#ifdef __linux__
    return getauxval(word == 0 ? AT_HWCAP : AT_HWCAP2);
#else
    (void)word;
    return 0;
#endif
}

/* ---- control groups ---- */

/* Up to two numbers of a small file; "max" counts as -1. Returns how many were read. */
static int read_numbers(const char *path, int64_t out[2]) {
    char *text;
    size_t n;
    if (file_read(NULL, path, SMALL_FILE, &text, &n, NULL) != SLM_OK)
        return 0;
    int count = 0;
    for (const char *p = text; count < 2; count++) {
        while (*p == ' ')
            p++;
        if (strncmp(p, "max", 3) == 0) {
            out[count] = -1;
            p += 3;
            continue;
        }
        char *end;
        out[count] = strtoll(p, &end, 10);
        if (end == p)
            break;
        p = end;
    }
    mem_free(NULL, text);
    return count;
}

/* CPUs by the quota of one group's folder, rounded up; 0: no limit there. */
static unsigned group_quota(const char *folder, bool v2) {
    char path[PATH_BYTES + 64];
    int64_t pair[2], quota, period;
    if (v2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        if (read_numbers(path, pair) < 2)
            return 0;
        quota = pair[0];
        period = pair[1];
    } else {
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
        if (read_numbers(path, pair) < 1)
            return 0;
        quota = pair[0];
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (read_numbers(path, pair) < 1)
            return 0;
        period = pair[0];
    }
    if (quota <= 0 || period <= 0)
        return 0;
    int64_t cpus = quota / period + (quota % period != 0);
    return cpus > POOL_MAX ? POOL_MAX : (unsigned)cpus;
}

/* The tightest quota from the group `path` up to the root of the hierarchy. A container often sees
 * its own group as the root while /proc names the outer path: then only the root exists. */
static unsigned tightest(const char *root, const char *path, size_t n_path, bool v2) {
    char folder[PATH_BYTES];
    size_t n_root = strlen(root);
    if (n_root + n_path >= sizeof folder)
        return 0;
    memcpy(folder, root, n_root);
    memcpy(folder + n_root, path, n_path);
    size_t n = n_root + n_path;
    unsigned best = 0;
    for (;;) {
        while (n > n_root && folder[n - 1] == '/')
            n--;
        folder[n] = '\0';
        unsigned cpus = group_quota(folder, v2);
        if (cpus > 0 && (best == 0 || cpus < best))
            best = cpus;
        if (n <= n_root)
            return best;
        while (n > n_root && folder[n - 1] != '/')
            n--;
    }
}

/* Whether a comma-separated list [n] of controllers holds "cpu". */
static bool lists_cpu(const char *list, size_t n) {
    for (size_t i = 0, start = 0; i <= n; i++) {
        if (i < n && list[i] != ',')
            continue;
        if (i - start == 3 && memcmp(list + start, "cpu", 3) == 0)
            return true;
        start = i + 1;
    }
    return false;
}

unsigned cpu_quota(const char *membership, const char *root) {
    unsigned best = 0;
    for (const char *line = membership; *line != '\0';) {
        size_t n = strcspn(line, "\n");
        /* "id:controllers:path"; version 2 has no controllers */
        const char *list = memchr(line, ':', n);
        const char *path = NULL;
        if (list != NULL) {
            list++;
            path = memchr(list, ':', n - (size_t)(list - line));
        }
        if (path != NULL) {
            size_t n_list = (size_t)(path - list);
            path++;
            size_t n_path = n - (size_t)(path - line);
            bool v2 = n_list == 0;
            char v1_root[PATH_BYTES];
            int m = snprintf(v1_root, sizeof v1_root, "%s/%.*s", root, (int)n_list, list);
            unsigned cpus = 0;
            if (v2)
                cpus = tightest(root, path, n_path, true);
            else if (lists_cpu(list, n_list) && m > 0 && (size_t)m < sizeof v1_root)
                cpus = tightest(v1_root, path, n_path, false);
            if (cpus > 0 && (best == 0 || cpus < best))
                best = cpus;
        }
        line += n + (line[n] == '\n');
    }
    return best;
}

/* ---- affinity ---- */

static unsigned affinity_count(void) {
    /* the kernel refuses masks shorter than its own; machines beyond 1024 CPUs need a longer one */
    for (size_t n_cpus = 1024; n_cpus <= 1u << 16; n_cpus *= 4) {
        size_t bytes = CPU_ALLOC_SIZE(n_cpus);
        cpu_set_t *set = mem_zalloc(NULL, 1, bytes);
        if (set == NULL)
            break;
        int rc = sched_getaffinity(0, bytes, set);
        int count = rc == 0 ? CPU_COUNT_S(bytes, set) : 0;
        mem_free(NULL, set);
        if (count > 0)
            return (unsigned)count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

unsigned cpu_count(void) {
    unsigned count = affinity_count();
    char *membership;
    size_t n;
    if (file_read(NULL, "/proc/self/cgroup", SMALL_FILE, &membership, &n, NULL) == SLM_OK) {
        unsigned quota = cpu_quota(membership, "/sys/fs/cgroup");
        if (quota > 0 && quota < count)
            count = quota;
        mem_free(NULL, membership);
    }
    return count > POOL_MAX ? POOL_MAX : count;
}
