/* bigfile.h - a large new file of known size, written in pieces by several threads, that appears under
 * its name only when it is complete.
 *
 * Made for caches: it takes space only where enough stays free, is readable by its owner alone, and is
 * not synced to the disk: after a power cut it may hold zeros, so its reader has to check its bytes
 * (outfile.h is for what must not be lost). Bytes go to PATH.tmp, which one process at a time holds by
 * a lock; what a killed process left there is taken over by the next. */
#ifndef SLM_BASE_BIGFILE_H
#define SLM_BASE_BIGFILE_H

#include "base/file.h"

struct bigfile;

/* Reserves size bytes at path, making its folder (0700) and those above it where they are missing.
 * E_STATE: another process is writing it. E_IO: no permission; or the space that would be left free
 * is less than BIGFILE_MARGIN (a tenth of the file system where that is smaller); or the process may
 * not write files of this size. E_NOMEM. On success *out is the caller's to close. */
#define BIGFILE_MARGIN ((uint64_t)1 << 30)
slm_err bigfile_open(const struct slm_hooks *h, const char *path, uint64_t size,
                     struct bigfile **out, slm_why *why);
/* Writes n bytes at offset, inside size. May be called from several threads at once. False when it
 * failed, now or before: bigfile_close tells why. */
bool bigfile_write(struct bigfile *f, uint64_t offset, const void *data, size_t n);
/* finish: the file gets its name and, when map is not NULL, is mapped read-only; on failure, and
 * without finish, it is removed. Frees f in any case (NULL allowed). Returns the first failure of
 * writing too; SLM_OK without finish. */
slm_err bigfile_close(struct bigfile *f, bool finish, struct mapping *map, slm_why *why);

#endif
