/* hub_cache.c - the Hugging Face cache on this disk, in the layout that other programs share.
 *
 *   <root>/models--org--name/refs/<revision>             a commit, as text
 *                            blobs/<hash>                a whole, checked file
 *                            blobs/<hash>.incomplete     the beginning of one
 *                            snapshots/<commit>/<path>   symbolic link ../../blobs/<hash>
 *   <root>/.locks/models--org--name/<hash>.lock          flock(2) while <hash> is being fetched
 * Source: the hub's documentation, "Hub Local Cache".
 *
 * Below the repository's folder every name is opened relative to the folder above it and no symbolic
 * link is followed on the way, so that nothing that a list or an earlier run left there leads out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli/hub.h"

#define FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static slm_err fail_io(slm_why *why, const char *what, const char *path) {
    int reason = errno;
    return fail(why, SLM_E_IO, SLM_NO_OFFSET, "cannot %s %s: %s", what, path, strerror(reason));
}

char *hub_cache_root(void) {
    const char *hub = getenv("HF_HUB_CACHE"), *hf = getenv("HF_HOME"),
               *cache = getenv("XDG_CACHE_HOME"), *user = getenv("HOME");
    if (hub && hub[0])
        return text_printf("%s", hub);
    if (hf && hf[0])
        return text_printf("%s/hub", hf);
    if (cache && cache[0])
        return text_printf("%s/huggingface/hub", cache);
    return text_printf("%s/.cache/huggingface/hub", user && user[0] ? user : "/nonexistent");
}

/* ------------------------------------------------------------------ folders */

/* A path given by the user, with everything above it. */
static slm_err make_path(const char *path, slm_why *why) {
    char *copy = keep(strdup(path));
    slm_err err = SLM_OK;
    for (char *p = copy + 1; err == SLM_OK; p++) {
        char end = *p;
        if (end != '/' && end)
            continue;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            err = fail_io(why, "make the folder", copy);
        *p = end;
        if (!end)
            break;
    }
    free(copy);
    return err;
}

/* Folder `name` in `at`; -1 with errno when it is not there and not to be made. */
static int sub_folder(int at, const char *name, bool make) {
    if (at < 0)
        return -1;
    if (make && mkdirat(at, name, 0777) != 0 && errno != EEXIST)
        return -1;
    return openat(at, name, FOLDER);
}

/* The folder that holds the last part of `path` below `at`; *name is that part, in `path` itself.
 * Returns a descriptor to close, or -1 with errno. */
static int folder_of(int at, const char *path, bool make, const char **name) {
    int dir = fcntl(at, F_DUPFD_CLOEXEC, 0);
    for (const char *slash; dir >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char *part = keep(strndup(path, (size_t)(slash - path)));
        int next = sub_folder(dir, part, make), reason = errno;
        free(part);
        close(dir);
        errno = reason;
        dir = next;
    }
    *name = path;
    return dir;
}

slm_err hub_cache_open(struct hub_cache *k, const char *repo, const char *commit, bool make,
                       slm_why *why) {
    const char *slash = strchr(repo, '/');
    slm_err err = SLM_OK;
    memset(k, 0, sizeof *k);
    k->repo = k->blobs = k->locks = -1;
    snprintf(k->commit, sizeof k->commit, "%s", commit);
    k->root = hub_cache_root();
    char *folder = text_printf("models--%.*s--%s", (int)(slash - repo), repo, slash + 1);
    k->repo_dir = text_printf("%s/%s", k->root, folder);
    if (make)
        err = make_path(k->repo_dir, why);
    if (err == SLM_OK) {
        k->repo = open(k->repo_dir,
                       O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* may be a link to another disk */
        k->blobs = sub_folder(k->repo, "blobs", make);
        if (make && k->blobs < 0)
            err = fail_io(why, "use the folder", k->repo_dir);
    }
    if (err == SLM_OK && make) {
        int root = open(k->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
            locks = sub_folder(root, ".locks", true);
        k->locks = sub_folder(locks, folder, true);
        if (k->locks < 0)
            err = fail_io(why, "make the folder of locks in", k->root);
        if (locks >= 0)
            close(locks);
        if (root >= 0)
            close(root);
    }
    free(folder);
    return err;
}

void hub_cache_close(struct hub_cache *k) {
    if (!k->root) /* never opened */
        return;
    if (k->locks >= 0)
        close(k->locks);
    if (k->blobs >= 0)
        close(k->blobs);
    if (k->repo >= 0)
        close(k->repo);
    free(k->repo_dir);
    free(k->root);
    memset(k, 0, sizeof *k);
}

/* ------------------------------------------------------------------ refs */

bool hub_cache_ref(const struct hub_cache *k, const char *revision, char commit[HUB_COMMIT_MOST]) {
    const char *name;
    char text[HUB_COMMIT_MOST + 8] = "";
    if (hub_hex_ok(revision, HUB_COMMIT_MOST - 1)) {
        memcpy(commit, revision, HUB_COMMIT_MOST);
        return true;
    }
    int refs = sub_folder(k->repo, "refs", false),
        dir = refs >= 0 ? folder_of(refs, revision, false, &name) : -1;
    int fd = dir >= 0 ? openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    if (refs >= 0)
        close(refs);
    text[n > 0 ? strcspn(text, " \r\n") : 0] = 0;
    if (!hub_hex_ok(text, HUB_COMMIT_MOST - 1))
        return false;
    memcpy(commit, text, HUB_COMMIT_MOST);
    return true;
}

/* A new file under a name of this process, then renamed: readers see the old commit or the new one. */
static bool write_ref(int dir, const char *name, const char *commit) {
    char temporary[64];
    size_t n = strlen(commit);
    snprintf(temporary, sizeof temporary, ".slm-%ld", (long)getpid());
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && write(fd, commit, n) == (ssize_t)n;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    ok = ok && renameat(dir, temporary, dir, name) == 0;
    if (!ok && fd >= 0) {
        int reason = errno;
        unlinkat(dir, temporary, 0);
        errno = reason;
    }
    return ok;
}

slm_err hub_cache_set_ref(struct hub_cache *k, const char *revision, slm_why *why) {
    const char *name;
    if (hub_hex_ok(revision, HUB_COMMIT_MOST - 1))
        return SLM_OK; /* a commit is its own name */
    int refs = sub_folder(k->repo, "refs", true),
        dir = refs >= 0 ? folder_of(refs, revision, true, &name) : -1;
    bool ok = dir >= 0 && write_ref(dir, name, k->commit);
    slm_err err = ok ? SLM_OK : fail_io(why, "write the revision in", k->repo_dir);
    if (dir >= 0)
        close(dir);
    if (refs >= 0)
        close(refs);
    return err;
}

/* ------------------------------------------------------------------ blobs and links */

/* Size of a regular file, -1 for anything else. */
static int64_t blob_size(const struct hub_cache *k, const char *name) {
    struct stat s;
    if (k->blobs < 0 || fstatat(k->blobs, name, &s, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(s.st_mode))
        return -1;
    return (int64_t)s.st_size;
}

bool hub_cache_has_blob(const struct hub_cache *k, const struct hub_file *f) {
    return blob_size(k, f->hash) == (int64_t)f->size;
}

uint64_t hub_cache_partial(const struct hub_cache *k, const struct hub_file *f) {
    char name[HUB_HASH_MOST + 16];
    snprintf(name, sizeof name, "%s.incomplete", f->hash);
    int64_t size = blob_size(k, name);
    return size > 0 && (uint64_t)size <= f->size ? (uint64_t)size : 0;
}

/* "../../blobs/<hash>" with one ".." more per folder in the path. */
static void link_target(const struct hub_file *f, char *target, size_t size) {
    char ups[64] = "";
    for (const char *p = f->path; (p = strchr(p, '/')) != NULL; p++)
        strncat(ups, "../", sizeof ups - strlen(ups) - 1);
    snprintf(target, size, "%s../../blobs/%s", ups, f->hash);
}

static bool make_link(int dir, const char *name, const char *target) {
    char temporary[64], there[256];
    ssize_t n = readlinkat(dir, name, there, sizeof there);
    if (n == (ssize_t)strlen(target) && memcmp(there, target, (size_t)n) == 0)
        return true;
    snprintf(temporary, sizeof temporary, ".slm-%ld", (long)getpid());
    unlinkat(dir, temporary, 0);
    return symlinkat(target, dir, temporary) == 0 && renameat(dir, temporary, dir, name) == 0;
}

slm_err hub_cache_link(struct hub_cache *k, const struct hub_file *f, slm_why *why) {
    char target[256];
    const char *name = f->path;
    int snapshots = sub_folder(k->repo, "snapshots", true),
        snapshot = sub_folder(snapshots, k->commit, true);
    int dir = snapshot >= 0 ? folder_of(snapshot, f->path, true, &name) : -1;
    link_target(f, target, sizeof target);
    bool ok = dir >= 0 && make_link(dir, name, target);
    slm_err err = ok ? SLM_OK : fail_io(why, "make the link in the cache for", f->path);
    if (dir >= 0)
        close(dir);
    if (snapshot >= 0)
        close(snapshot);
    if (snapshots >= 0)
        close(snapshots);
    return err;
}

char *hub_cache_path(const struct hub_cache *k, const char *file) {
    return text_printf("%s/snapshots/%s%s%s", k->repo_dir, k->commit, file ? "/" : "",
                       file ? file : "");
}

uint64_t hub_cache_free_bytes(const struct hub_cache *k) {
    struct statvfs s;
    char *path = keep(strdup(k->repo_dir));
    uint64_t bytes = UINT64_MAX;
    /* the nearest folder that is there already */
    while (statvfs(path, &s) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) {
            free(path);
            return bytes;
        }
        *slash = 0;
    }
    free(path);
    return mul_u64_ok(s.f_bavail, s.f_frsize, &bytes) ? bytes : UINT64_MAX;
}
