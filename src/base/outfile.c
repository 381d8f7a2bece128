/* outfile.c - buffered writing to a temporary name, then sync and rename.
 *
 * The folder is synced after the rename, so that after a power cut there is either the old file or
 * the whole new one. Names of temporaries are TARGET.tmp<pid>.<n>, created exclusively. */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTFILE_BUFFER (256 * 1024)
#define TEMP_SUFFIX 48 /* ".tmp<pid>.<n>" and the zero byte, generously */
#define TEMP_TRIES 100

struct outfile {
    const struct slm_hooks *hooks;
    char *path;
    char *temp; /* "" when the target is written directly */
    int fd;
    bool cache;      /* private and not synced */
    slm_err err;     /* first failure */
    slm_why failure; /* its reason, so that close can tell it again */
    uint64_t size;   /* bytes appended */
    size_t pending;  /* of them in buffer */
    uint8_t buffer[OUTFILE_BUFFER];
};

static slm_err fail_errno(struct outfile *f, int number, const char *what) {
    char text[128];
    f->err = fail(&f->failure, number == ENOMEM ? SLM_E_NOMEM : SLM_E_IO, SLM_NO_OFFSET,
                  "%s '%s': %s", what, f->path, strerror_r(number, text, sizeof text));
    return f->err;
}

/* Tells the sticky failure, if any. */
static slm_err report(const struct outfile *f, slm_why *why) {
    if (f->err != SLM_OK && why != NULL)
        *why = f->failure;
    return f->err;
}

static bool is_special(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static slm_err open_target(struct outfile *f, size_t n_path) {
    if (is_special(f->path)) {
        f->temp[0] = '\0';
        f->fd = open(f->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return f->fd >= 0 ? SLM_OK : fail_errno(f, errno, "cannot write");
    }
    for (int i = 0; i < TEMP_TRIES; i++) {
        snprintf(f->temp, n_path + TEMP_SUFFIX, "%s.tmp%ld.%d", f->path, (long)getpid(), i);
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                     f->cache ? 0600 : 0666);
        if (f->fd >= 0)
            return SLM_OK;
        if (errno != EEXIST)
            break;
    }
    int number = errno;
    f->temp[0] = '\0'; /* not ours to remove */
    return fail_errno(f, number, "cannot create");
}

static void outfile_free(struct outfile *f) {
    mem_free(f->hooks, f->temp);
    mem_free(f->hooks, f->path);
    mem_free(f->hooks, f);
}

static slm_err open_any(const struct slm_hooks *h, const char *path, bool cache,
                        struct outfile **out, slm_why *why) {
    *out = NULL;
    size_t n_path = strlen(path);
    struct outfile *f = mem_alloc(h, 1, sizeof *f);
    if (f == NULL)
        return fail_nomem(why, "an output buffer", sizeof *f);
    f->hooks = h;
    f->fd = -1;
    f->cache = cache;
    f->err = SLM_OK;
    f->size = 0;
    f->pending = 0;
    f->path = mem_strdup(h, path, n_path);
    f->temp = mem_zalloc(h, n_path + TEMP_SUFFIX, 1);
    if (f->path == NULL || f->temp == NULL) {
        outfile_free(f);
        return fail_nomem(why, "a file name", n_path);
    }
    if (open_target(f, n_path) != SLM_OK) {
        slm_err err = report(f, why);
        outfile_free(f);
        return err;
    }
    *out = f;
    return SLM_OK;
}

slm_err outfile_open(const struct slm_hooks *h, const char *path, struct outfile **out,
                     slm_why *why) {
    return open_any(h, path, false, out, why);
}

slm_err outfile_open_cache(const struct slm_hooks *h, const char *path, struct outfile **out,
                           slm_why *why) {
    return open_any(h, path, true, out, why);
}

static slm_err write_all(struct outfile *f, const uint8_t *data, size_t n) {
    while (n > 0 && f->err == SLM_OK) {
        ssize_t done = write(f->fd, data, n);
        if (done > 0) {
            data += done;
            n -= (size_t)done;
        } else if (done == 0) {
            fail_errno(f, ENOSPC, "cannot write");
        } else if (errno != EINTR) {
            fail_errno(f, errno, "cannot write");
        }
    }
    return f->err;
}

static slm_err flush(struct outfile *f) {
    size_t n = f->pending;
    f->pending = 0;
    return write_all(f, f->buffer, n);
}

slm_err outfile_write(struct outfile *f, const void *data, size_t n, slm_why *why) {
    if (f->err != SLM_OK || n == 0)
        return report(f, why);
    f->size += n;
    if (n > sizeof f->buffer - f->pending) {
        flush(f);
        if (n >= sizeof f->buffer) { /* large pieces need no copy */
            write_all(f, data, n);
            return report(f, why);
        }
    }
    memcpy(f->buffer + f->pending, data, n);
    f->pending += n;
    return report(f, why);
}

uint64_t outfile_size(const struct outfile *f) {
    return f->size;
}

/* Some file systems and all pipes cannot sync; that is no failure of the writing. */
static bool sync_fd(int fd) {
    return fsync(fd) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP;
}

/* Makes the rename itself durable; the bytes are safe already, so a failure here is not told. */
static void sync_folder(const struct outfile *f) {
    const char *slash = strrchr(f->path, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - f->path);
    memcpy(f->temp, f->path, n);
    f->temp[n] = '\0';
    int fd = open(slash == NULL ? "." : n == 0 ? "/" : f->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)sync_fd(fd);
        close(fd);
    }
}

slm_err outfile_close(struct outfile *f, bool finish, slm_why *why) {
    if (f == NULL)
        return SLM_OK;
    if (finish && f->err == SLM_OK)
        flush(f);
    if (finish && !f->cache && f->err == SLM_OK && !sync_fd(f->fd))
        fail_errno(f, errno, "cannot sync");
    if (close(f->fd) != 0 && errno != EINTR && finish && f->err == SLM_OK)
        fail_errno(f, errno, "cannot close");
    if (f->temp[0] != '\0') {
        if (finish && f->err == SLM_OK && rename(f->temp, f->path) != 0)
            fail_errno(f, errno, "cannot rename to");
        if (!finish || f->err != SLM_OK)
            unlink(f->temp);
        else if (!f->cache)
            sync_folder(f);
    }
    slm_err err = finish ? report(f, why) : SLM_OK;
    outfile_free(f);
    return err;
}
