/* file.c - read-only files for the core: mapped, or read whole with a ceiling.
 *
 * A mapped file that someone else cuts shorter while it is in use raises SIGBUS in this process;
 * no check here can prevent that. Files are opened without waiting, so that a pipe that was put in
 * a file's place is refused at once. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static slm_err fail_errno(slm_why *why, int number, const char *path, const char *what) {
    char text[128];
    const char *reason = strerror_r(number, text, sizeof text);
    slm_err code = SLM_E_IO;
    if (number == ENOENT || number == ENOTDIR)
        code = SLM_E_NOTFOUND;
    else if (number == ENOMEM)
        code = SLM_E_NOMEM;
    return fail(why, code, SLM_NO_OFFSET, "%s '%s': %s", what, path, reason);
}

static uint64_t nanoseconds(struct timespec t) {
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* Opens for reading and tells the size and the times; *fd is the caller's to close on success. */
static slm_err open_sized(const char *path, bool regular_only, int *fd, struct mapping *is,
                          slm_why *why) {
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (regular_only ? O_NONBLOCK : 0));
    if (f < 0)
        return fail_errno(why, errno, path, "cannot open");
    struct stat st;
    slm_err err = SLM_OK;
    if (fstat(f, &st) != 0)
        err = fail_errno(why, errno, path, "cannot stat");
    else if (S_ISDIR(st.st_mode))
        err = fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' is a folder, not a file", path);
    else if (regular_only && !S_ISREG(st.st_mode))
        err = fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' is not a regular file", path);
    else if (st.st_size < 0 || (uint64_t)st.st_size > PTRDIFF_MAX)
        err = fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' has %lld bytes, at most %lld can be mapped",
                   path, (long long)st.st_size, (long long)PTRDIFF_MAX);
    if (err != SLM_OK) {
        close(f);
        return err;
    }
    *fd = f;
    *is = (struct mapping){ .size = (size_t)st.st_size,
                            .modified = nanoseconds(st.st_mtim),
                            .changed = nanoseconds(st.st_ctim) };
    return SLM_OK;
}

slm_err file_map(const char *path, struct mapping *out, slm_why *why) {
    *out = (struct mapping){ 0 };
    int fd;
    struct mapping m;
    TRY(open_sized(path, true, &fd, &m, why));
    slm_err err = SLM_OK;
    if (m.size > 0) {
        void *p = mmap(NULL, m.size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            err = fail_errno(why, errno, path, "cannot map");
        } else {
            m.data = p;
            m.owned = true;
            *out = m;
        }
    }
    close(fd); /* the mapping keeps the file */
    return err;
}

void file_unmap(struct mapping *m) {
    if (m->owned && m->data != NULL)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (struct mapping){ 0 };
}

/* Advice about [offset, offset + size): whole pages inside it, or all pages that it touches. */
static void advise(const struct mapping *m, size_t offset, size_t size, bool inside, int advice) {
    if (m->data == NULL || offset >= m->size)
        return;
    if (size > m->size - offset)
        size = m->size - offset;
    long page_size = sysconf(_SC_PAGESIZE);
    size_t page = page_size > 0 ? (size_t)page_size : 4096;
    size_t begin = offset / page * page, end = offset + size; /* data itself is page-aligned */
    if (inside) {
        begin = begin < offset ? begin + page : begin;
        end = end < m->size ? end / page * page : end;
    }
    if (begin < end)
        (void)madvise((void *)(uintptr_t)(m->data + begin), end - begin, advice);
}

void file_drop(const struct mapping *m, size_t offset, size_t size) {
    if (m->owned) /* on memory that is not a file's, this advice would erase it */
        advise(m, offset, size, true, MADV_DONTNEED);
}

void file_want(const struct mapping *m, size_t offset, size_t size) {
    if (m->owned)
        advise(m, offset, size, false, MADV_WILLNEED);
}

void file_neighbours(const struct mapping *m, bool wanted) {
    if (m->owned)
        advise(m, 0, m->size, false, wanted ? MADV_NORMAL : MADV_RANDOM);
}

/* Reads until the end into b, which knows its ceiling. */
static slm_err read_all(int fd, const char *path, struct buf *b, slm_why *why) {
    char chunk[16384];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(why, errno, path, "cannot read");
        if (got == 0)
            return SLM_OK;
        buf_put(b, chunk, (size_t)got);
        if (b->err == SLM_E_BUDGET)
            return fail(why, SLM_E_BUDGET, b->limit, "'%s' has more than %zu bytes", path,
                        b->limit);
        if (b->err != SLM_OK)
            return fail_nomem(why, path, b->len + (size_t)got);
    }
}

slm_err file_read(const struct slm_hooks *h, const char *path, size_t limit, char **out, size_t *n,
                  slm_why *why) {
    int fd;
    struct mapping is;
    TRY(open_sized(path, false, &fd, &is, why));
    if (is.size > limit) {
        close(fd);
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "'%s' has %zu bytes, at most %zu are read",
                    path, is.size, limit);
    }
    struct buf b;
    buf_init(&b, h, limit);
    slm_err err = read_all(fd, path, &b, why);
    close(fd);
    size_t len = b.len;
    char *text = err == SLM_OK ? buf_take(&b) : NULL;
    buf_free(&b);
    if (err == SLM_OK && text == NULL)
        err = fail_nomem(why, path, len + 1);
    if (err == SLM_OK) {
        *out = text;
        *n = len;
    }
    return err;
}

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

bool dir_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *file_real(const struct slm_hooks *h, const char *path) {
    char real[PATH_MAX];
    return realpath(path, real) != NULL ? mem_strdup(h, real, strlen(real)) : NULL;
}

char *path_join(const struct slm_hooks *h, const char *dir, const char *name) {
    size_t n_dir = strlen(dir), n_name = strlen(name), bytes;
    bool slash = n_dir > 0 && dir[n_dir - 1] != '/';
    if (!add_ok(n_dir, n_name, &bytes) || !add_ok(bytes, 2, &bytes))
        return NULL;
    char *path = mem_alloc(h, bytes, 1);
    if (path == NULL)
        return NULL;
    memcpy(path, dir, n_dir);
    if (slash)
        path[n_dir++] = '/';
    memcpy(path + n_dir, name, n_name + 1);
    return path;
}
