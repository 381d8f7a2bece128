/* folder.h - a folder of files that belong together, read piece by piece: for caches on disk.
 *
 * Files are read by position into memory of the caller and not mapped: a file that somebody cuts short
 * meanwhile then is a short read, and what was checked is what is used. */
#ifndef SLM_BASE_FOLDER_H
#define SLM_BASE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

/* Makes a folder that only the owner may enter (0700), and those above it that are missing; one that
 * exists stays as it is. E_IO when a part of the path is no folder or cannot be made. */
slm_err folder_make(const struct slm_hooks *h, const char *path, slm_why *why);

struct folder_entry {
    const char *name; /* valid during the call */
    uint64_t size;    /* bytes */
    int64_t used;     /* time of the last change, nanoseconds */
};
/* Calls fn for every regular file (links are not followed), in no order, until it returns false or
 * `most` entries were seen. E_NOTFOUND, E_IO when the folder cannot be read. */
typedef bool (*folder_fn)(void *user, const struct folder_entry *e);
slm_err folder_each(const char *path, size_t most, folder_fn fn, void *user, slm_why *why);

/* A file open for reading. */
struct infile {
    int fd;
    uint64_t size; /* when it was opened */
};
/* Regular files only; a symbolic link is refused. E_NOTFOUND, E_IO. */
slm_err infile_open(const char *path, struct infile *out, slm_why *why);
/* Exactly n bytes from `offset`; E_IO, also when the file ends before. */
slm_err infile_read(const struct infile *f, uint64_t offset, void *to, size_t n, slm_why *why);
void infile_close(struct infile *f);

void file_mark_used(const char *path); /* sets the time of the last change to now, if it can */
bool file_remove(const char *path);

#endif
