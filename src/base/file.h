/* file.h - read-only mapped files and whole-file helpers; the only POSIX file calls of the core. */
#ifndef SLM_BASE_FILE_H
#define SLM_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct mapping {
    const uint8_t *data; /* [size], read-only */
    size_t size;
    bool owned; /* munmap at file_unmap (false: memory of the caller) */
    /* of the file when it was opened, in nanoseconds: content, and anything about it; 0 unknown */
    uint64_t modified, changed;
};

/* Maps a regular file read-only. Empty files give size 0 and data NULL. */
slm_err file_map(const char *path, struct mapping *out, slm_why *why);
void file_unmap(struct mapping *m);
/* Tells the kernel that these pages will not be needed again soon (drops them from our RSS). */
void file_drop(const struct mapping *m, size_t offset, size_t size);
/* Asks for read-ahead of these pages. */
void file_want(const struct mapping *m, size_t offset, size_t size);
/* Whether a page that is touched brings its neighbours with it: not while single pages are picked. */
void file_neighbours(const struct mapping *m, bool wanted);
/* The name without symbolic links, "." and "..": one per file. Returns owned (hooks); NULL when there
 * is no such file, or no memory. */
char *file_real(const struct slm_hooks *h, const char *path);
/* Whole file into memory (hooks), zero byte after it; refuses more than limit bytes. Returns owned. */
slm_err file_read(const struct slm_hooks *h, const char *path, size_t limit, char **out, size_t *n,
                  slm_why *why);
bool file_exists(const char *path);
bool dir_exists(const char *path);
/* dir + "/" + name, returns owned (hooks); NULL when out of memory */
char *path_join(const struct slm_hooks *h, const char *dir, const char *name);

#endif
