/* support.c - see support.h. */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char *root(void) {
    const char *dir = getenv("SLM_ROOT");
    return dir != NULL && dir[0] != '\0' ? dir : ".";
}

static const char *joined(char *buf, size_t n, const char *a, const char *b, const char *c) {
    int len = snprintf(buf, n, "%s/%s%s", a, b, c);
    return len > 0 && (size_t)len < n ? buf : NULL;
}

const char *ref_path(char *buf, size_t n, const char *rel) {
    const char *dir = getenv("SLM_REFERENCE");
    struct stat st;
    const char *path;
    if (dir != NULL && dir[0] != '\0')
        path = joined(buf, n, dir, rel, "");
    else
        path = joined(buf, n, root(), "../shared/", rel);
    if (path != NULL && stat(path, &st) == 0)
        return path;
    printf("# skip no reference file %s\n", rel);
    return NULL;
}

const char *data_path(char *buf, size_t n, const char *rel) {
    return joined(buf, n, root(), "tests/", rel);
}

char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return NULL;
    size_t len = 0, cap = 65536;
    char *text = malloc(cap + 1);
    while (text != NULL) {
        len += fread(text + len, 1, cap - len, f);
        if (len < cap)
            break;
        cap *= 2;
        char *more = realloc(text, cap + 1);
        if (more == NULL)
            free(text);
        text = more;
    }
    bool bad = ferror(f) != 0;
    fclose(f);
    if (text == NULL || bad) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    if (n != NULL)
        *n = len;
    return text;
}

char *slurp_gz(const char *path, size_t *n) {
    gzFile f = gzopen(path, "rb");
    if (f == NULL)
        return NULL;
    size_t len = 0, cap = 1 << 20;
    char *text = malloc(cap + 1);
    int got = 0;
    while (text != NULL) {
        got = gzread(f, text + len, (unsigned)(cap - len > 1 << 30 ? 1 << 30 : cap - len));
        if (got <= 0)
            break;
        len += (size_t)got;
        if (len < cap)
            continue;
        cap *= 2;
        char *more = realloc(text, cap + 1);
        if (more == NULL)
            free(text);
        text = more;
    }
    gzclose(f);
    if (text == NULL || got < 0) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    if (n != NULL)
        *n = len;
    return text;
}

/* ---- temporary files ---- */

static char temp_dir[256];

static void temp_remove(void) {
    char command[sizeof temp_dir + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", temp_dir);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", temp_dir);
}

bool temp_file(char *buf, size_t n_buf, const char *name, const void *data, size_t n) {
    if (temp_dir[0] == '\0') {
        const char *base = getenv("TMPDIR");
        snprintf(temp_dir, sizeof temp_dir, "%s/slm-test-XXXXXX", base != NULL ? base : "/tmp");
        if (mkdtemp(temp_dir) == NULL) {
            temp_dir[0] = '\0';
            return false;
        }
        atexit(temp_remove);
    }
    if (joined(buf, n_buf, temp_dir, name, "") == NULL)
        return false;
    for (char *slash = buf + strlen(temp_dir) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        bool made = mkdir(buf, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!made)
            return false;
    }
    FILE *f = fopen(buf, "wb");
    if (f == NULL)
        return false;
    bool ok = n == 0 || fwrite(data, 1, n, f) == n;
    return (fclose(f) == 0) && ok;
}

const char *test_isa(void) {
    const char *isa = getenv("SLM_ISA");
    return isa != NULL && isa[0] != '\0' ? isa : NULL;
}

/* ---- hooks ---- */

static bool refused(struct test_hooks *t) {
    size_t number = atomic_fetch_add(&t->requests, 1) + 1;
    if (t->fail_at == 0 || number < t->fail_at || (t->once && number > t->fail_at))
        return false;
    atomic_store(&t->failed, true);
    return true;
}

static void *test_alloc(void *user, size_t n) {
    struct test_hooks *t = user;
    if (refused(t))
        return NULL;
    void *p = malloc(n);
    if (p != NULL)
        atomic_fetch_add(&t->live, 1);
    return p;
}

static void *test_resize(void *user, void *p, size_t n) {
    struct test_hooks *t = user;
    if (refused(t))
        return NULL;
    return realloc(p, n);
}

static void test_release(void *user, void *p) {
    struct test_hooks *t = user;
    atomic_fetch_sub(&t->live, 1);
    free(p);
}

void test_hooks_init(struct test_hooks *t, size_t fail_at) {
    memset(t, 0, sizeof *t);
    t->hooks = (struct slm_hooks){
        .size = sizeof t->hooks,
        .alloc = test_alloc,
        .resize = test_resize,
        .release = test_release,
        .user = t,
    };
    t->fail_at = fail_at;
}
