/* memory.c - how much memory this process may use.
 *
 * /proc/meminfo: MemTotal and MemAvailable (page cache that can be dropped counts as available).
 * Control groups, version 2: memory.max and memory.current of this process's group and every one
 * above it; version 1: memory.limit_in_bytes and memory.usage_in_bytes. File pages of the group
 * that can be dropped (inactive_file in memory.stat) count as available.
 * Source: Linux Documentation/filesystems/proc.rst and admin-guide/cgroup-v2.rst. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "cli/cli.h"

enum { SMALL_FILE = 256 * 1024 };

/* Number after "key" at the start of a line. */
static bool field(const char *text, const char *key, uint64_t *out) {
    size_t n = strlen(key);
    for (const char *line = text; line && *line;) {
        if (strncmp(line, key, n) == 0 && (line[n] == ' ' || line[n] == '\t')) {
            *out = strtoull(line + n, NULL, 10);
            return true;
        }
        line = strchr(line, '\n');
        if (line)
            line++;
    }
    return false;
}

static bool number_in(const char *dir, const char *name, uint64_t *out) {
    char path[4352];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    char *text = read_path(path, SMALL_FILE, &n);
    bool ok = text && text[0] >= '0' && text[0] <= '9';
    if (ok)
        *out = strtoull(text, NULL, 10);
    free(text);
    return ok;
}

static void take_group(const char *dir, const char *limit_name, const char *usage_name,
                       const char *cache_key, struct machine_memory *out) {
    uint64_t limit, used = 0, cache = 0;
    if (!number_in(dir, limit_name, &limit) || limit >= out->total)
        return;
    number_in(dir, usage_name, &used);
    char path[4352];
    size_t n;
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    char *stat = read_path(path, SMALL_FILE, &n);
    if (stat)
        field(stat, cache_key, &cache);
    free(stat);
    used = used > cache ? used - cache : 0;
    out->total = limit;
    out->limited = true;
    uint64_t left = limit > used ? limit - used : 0;
    if (left < out->available)
        out->available = left;
}

/* Group `path` of one line of /proc/self/cgroup and all above it. */
static void take_groups(const char *root, const char *sub, const char *path, bool v2,
                        struct machine_memory *out) {
    char dir[4096];
    size_t root_len = strlen(root) + strlen(sub);
    if ((size_t)snprintf(dir, sizeof dir, "%s%s%s", root, sub, path) >= sizeof dir ||
        strstr(path, ".."))
        return;
    for (;;) {
        size_t n = strlen(dir);
        while (n > root_len && dir[n - 1] == '/')
            dir[--n] = 0;
        if (v2)
            take_group(dir, "memory.max", "memory.current", "inactive_file", out);
        else
            take_group(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                       out);
        if (n <= root_len)
            return;
        *strrchr(dir, '/') = 0;
    }
}

void memory_parse(const char *meminfo, const char *membership, const char *root,
                  struct machine_memory *out) {
    uint64_t kib;
    memset(out, 0, sizeof *out);
    if (field(meminfo, "MemTotal:", &kib))
        out->total = kib * 1024;
    out->available = out->total;
    if (field(meminfo, "MemAvailable:", &kib) && kib * 1024 < out->total)
        out->available = kib * 1024;
    for (const char *line = membership; line && *line;) {
        char copy[4096];
        size_t n = strcspn(line, "\n");
        snprintf(copy, sizeof copy, "%.*s", (int)(n < sizeof copy ? n : 0), line);
        char *controllers = strchr(copy, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (path) {
            *path++ = 0;
            controllers++;
            if (!*controllers)
                take_groups(root, "", path, true, out);
            else if (strcmp(controllers, "memory") == 0)
                take_groups(root, "/memory", path, false, out);
        }
        line += n + (line[n] == '\n');
    }
}

void memory_get(struct machine_memory *out) {
    size_t n;
    char *meminfo = read_path("/proc/meminfo", SMALL_FILE, &n);
    char *membership = read_path("/proc/self/cgroup", SMALL_FILE, &n);
    memory_parse(meminfo ? meminfo : "", membership ? membership : "", "/sys/fs/cgroup", out);
    free(meminfo);
    free(membership);
}

const char *cpu_name(char *text, size_t size) {
    size_t n;
    char *info = read_path("/proc/cpuinfo", 16 * SMALL_FILE, &n);
    const char *line = info ? strstr(info, "model name") : NULL;
    const char *colon = line ? strchr(line, ':') : NULL;
    struct utsname host;
    if (colon) {
        colon += strspn(colon, ": \t");
        snprintf(text, size, "%.*s", (int)strcspn(colon, "\n"), colon);
    } else {
        snprintf(text, size, "%s", uname(&host) == 0 ? host.machine : "unknown CPU");
    }
    free(info);
    return text;
}
