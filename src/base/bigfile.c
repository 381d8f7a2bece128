/* bigfile.c - space is reserved first, so that a full disk is noticed before the work and not in the
 * middle of it; then pieces are written wherever they belong.
 *
 * The lock (flock) is on the temporary file itself. Whoever gets it looks whether the name still
 * leads to the file that was locked: the process before may just have renamed it. A file that is
 * longer than the process may write would raise SIGXFSZ; the limit is asked for before. */
#include "base/bigfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/folder.h"

#define TEMP_SUFFIX ".tmp"
#define WRITE_MOST ((size_t)1 << 30) /* bytes of one call */

struct bigfile {
    const struct slm_hooks *hooks;
    char *path, *temp;
    int fd; /* -1: nothing to remove */
    uint64_t size;
    _Atomic int failure; /* errno of the first failed write, 0 none */
};

static slm_err fail_errno(const struct bigfile *f, int number, const char *what, slm_why *why) {
    char text[128];
    return fail(why, number == ENOMEM ? SLM_E_NOMEM : SLM_E_IO, SLM_NO_OFFSET, "%s '%s': %s", what,
                f->path, strerror_r(number, text, sizeof text));
}

static slm_err make_folder(struct bigfile *f, slm_why *why) {
    char *slash = strrchr(f->temp, '/');
    if (slash == NULL || slash == f->temp)
        return SLM_OK;
    *slash = '\0';
    slm_err err = folder_make(f->hooks, f->temp, why);
    *slash = '/';
    return err;
}

static slm_err take_temp(struct bigfile *f, slm_why *why) {
    struct stat mine, named;
    f->fd = open(f->temp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (f->fd < 0)
        return fail_errno(f, errno, "cannot write", why);
    bool locked = flock(f->fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK)
        return fail_errno(f, errno, "cannot lock", why); /* a leftover is better than two writers */
    if (!locked || fstat(f->fd, &mine) != 0 || lstat(f->temp, &named) != 0 ||
        mine.st_ino != named.st_ino || mine.st_dev != named.st_dev)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "another process is writing '%s'", f->path);
    if (!S_ISREG(mine.st_mode) || mine.st_nlink != 1)
        return fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' is not a file of its own", f->temp);
    if (ftruncate(f->fd, 0) != 0 || fchmod(f->fd, 0600) != 0)
        return fail_errno(f, errno, "cannot write", why);
    return SLM_OK;
}

/* Refuses to fill a disk, and where the file system can, reserves the blocks. */
static slm_err reserve(struct bigfile *f, slm_why *why) {
    struct statvfs fs;
    struct rlimit most;
    if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY &&
        most.rlim_cur < f->size)
        return fail(why, SLM_E_IO, SLM_NO_OFFSET,
                    "'%s' would have %llu bytes; this process may write files of %llu", f->path,
                    (unsigned long long)f->size, (unsigned long long)most.rlim_cur);
    if (f->size > INT64_MAX)
        return fail_errno(f, EFBIG, "cannot write", why);
    if (fstatvfs(f->fd, &fs) == 0 && fs.f_frsize > 0 && fs.f_blocks > 0) {
        uint64_t tenth = (uint64_t)fs.f_blocks / 10, margin = BIGFILE_MARGIN / fs.f_frsize;
        uint64_t need = f->size / fs.f_frsize + 1, left = tenth < margin ? tenth : margin;
        if (fs.f_bavail < need || fs.f_bavail - need < left)
            return fail(why, SLM_E_IO, SLM_NO_OFFSET,
                        "no room for '%s': %llu MB, %llu MB are free and %llu MB should stay so",
                        f->path, (unsigned long long)(f->size / 1000000),
                        (unsigned long long)fs.f_bavail * fs.f_frsize / 1000000,
                        (unsigned long long)left * fs.f_frsize / 1000000);
    }
    if (f->size > 0 && fallocate(f->fd, 0, 0, (off_t)f->size) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS)
        return fail_errno(f, errno, "cannot reserve the space of", why);
    if (ftruncate(f->fd, (off_t)f->size) != 0) /* where nothing was reserved */
        return fail_errno(f, errno, "cannot write", why);
    return SLM_OK;
}

static void bigfile_free(struct bigfile *f) {
    mem_free(f->hooks, f->path);
    mem_free(f->hooks, f->temp);
    mem_free(f->hooks, f);
}

slm_err bigfile_open(const struct slm_hooks *h, const char *path, uint64_t size,
                     struct bigfile **out, slm_why *why) {
    size_t n = strlen(path);
    *out = NULL;
    struct bigfile *f = mem_zalloc(h, 1, sizeof *f);
    if (f == NULL)
        return fail_nomem(why, "a file", sizeof *f);
    f->hooks = h;
    f->fd = -1;
    f->size = size;
    f->path = mem_strdup(h, path, n);
    f->temp = mem_zalloc(h, n + sizeof TEMP_SUFFIX, 1);
    slm_err err = f->path == NULL || f->temp == NULL ? fail_nomem(why, "a file name", n) : SLM_OK;
    if (err == SLM_OK) {
        memcpy(f->temp, path, n);
        memcpy(f->temp + n, TEMP_SUFFIX, sizeof TEMP_SUFFIX);
        err = make_folder(f, why);
    }
    if (err == SLM_OK)
        err = take_temp(f, why);
    if (err == SLM_OK && (err = reserve(f, why)) != SLM_OK)
        unlink(f->temp); /* ours: it was locked */
    if (err != SLM_OK) {
        if (f->fd >= 0)
            close(f->fd);
        bigfile_free(f);
        return err;
    }
    *out = f;
    return SLM_OK;
}

bool bigfile_write(struct bigfile *f, uint64_t offset, const void *data, size_t n) {
    const uint8_t *p = data;
    while (n > 0 && atomic_load_explicit(&f->failure, memory_order_relaxed) == 0) {
        ssize_t done = pwrite(f->fd, p, n < WRITE_MOST ? n : WRITE_MOST, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            int none = 0;
            atomic_compare_exchange_strong(&f->failure, &none, done < 0 ? errno : ENOSPC);
            return false;
        }
        p += done;
        n -= (size_t)done;
        offset += (uint64_t)done;
    }
    return n == 0;
}

slm_err bigfile_close(struct bigfile *f, bool finish, struct mapping *map, slm_why *why) {
    if (f == NULL)
        return SLM_OK;
    slm_err err = SLM_OK;
    int failure = atomic_load(&f->failure);
    if (finish && failure != 0)
        err = fail_errno(f, failure, "cannot write", why);
    if (finish && err == SLM_OK && map != NULL)
        err = file_map(f->temp, map, why);
    if (finish && err == SLM_OK && rename(f->temp, f->path) != 0) {
        err = fail_errno(f, errno, "cannot rename to", why);
        if (map != NULL)
            file_unmap(map);
    }
    if (!finish || err != SLM_OK)
        unlink(f->temp);
    close(f->fd); /* and with it the lock */
    bigfile_free(f);
    return err;
}
