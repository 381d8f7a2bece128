/* folder.c - POSIX calls on a folder of files. */
#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static slm_err fail_errno(slm_why *why, int number, const char *path, const char *what) {
    char text[128];
    const char *reason = strerror_r(number, text, sizeof text);
    return fail(why,
                number == ENOENT || number == ENOTDIR ? SLM_E_NOTFOUND
                : number == ENOMEM                    ? SLM_E_NOMEM
                                                      : SLM_E_IO,
                SLM_NO_OFFSET, "%s '%s': %s", what, path, reason);
}

/* ------------------------------------------------------------------ folders */

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Another process may make the same one at the same time. */
static bool make_one(const char *path) {
    return mkdir(path, 0700) == 0 || (errno == EEXIST && is_folder(path));
}

slm_err folder_make(const struct slm_hooks *h, const char *path, slm_why *why) {
    size_t n = strlen(path);
    if (n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the name of a folder is empty");
    if (is_folder(path))
        return SLM_OK;
    char *part = mem_strdup(h, path, n);
    if (part == NULL)
        return fail_nomem(why, "a folder's name", n);
    slm_err err = SLM_OK;
    for (size_t i = 1; i <= n && err == SLM_OK; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        if (!is_folder(part) && !make_one(part))
            err = fail(why, SLM_E_IO, SLM_NO_OFFSET, "cannot make the folder '%s': %s", part,
                       strerror_r(errno, (char[128]){ 0 }, 128));
        part[i] = path[i];
    }
    mem_free(h, part);
    return err;
}

slm_err folder_each(const char *path, size_t most, folder_fn fn, void *user, slm_why *why) {
    DIR *d = opendir(path);
    if (d == NULL)
        return fail_errno(why, errno, path, "cannot read the folder");
    bool more = true;
    for (size_t i = 0; more && i < most; i++) {
        struct stat st;
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL)
            break;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        struct folder_entry entry = { .name = e->d_name,
                                      .size = st.st_size > 0 ? (uint64_t)st.st_size : 0,
                                      .used = (int64_t)st.st_mtim.tv_sec * 1000000000 +
                                              st.st_mtim.tv_nsec };
        more = fn(user, &entry);
    }
    closedir(d);
    return SLM_OK;
}

/* ------------------------------------------------------------------ files */

slm_err infile_open(const char *path, struct infile *out, slm_why *why) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0)
        return fail_errno(why, errno, path, "cannot open");
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' is not a regular file", path);
    }
    *out = (struct infile){ .fd = fd, .size = st.st_size > 0 ? (uint64_t)st.st_size : 0 };
    return SLM_OK;
}

slm_err infile_read(const struct infile *f, uint64_t offset, void *to, size_t n, slm_why *why) {
    uint8_t *p = to;
    if (offset > f->size || n > f->size - offset)
        return fail(why, SLM_E_IO, offset, "%zu bytes wanted, the file has %llu", n,
                    (unsigned long long)f->size);
    while (n > 0) {
        ssize_t got = pread(f->fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(why, SLM_E_IO, offset, "cannot read %zu bytes: %s", n,
                        got == 0 ? "the file has become shorter"
                                 : strerror_r(errno, (char[128]){ 0 }, 128));
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return SLM_OK;
}

void infile_close(struct infile *f) {
    close(f->fd);
    f->fd = -1;
}

void file_mark_used(const char *path) {
    (void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

bool file_remove(const char *path) {
    return unlink(path) == 0;
}
