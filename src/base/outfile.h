/* outfile.h - a new file that appears under its name only when it is complete.
 *
 * Bytes go to a temporary file in the same folder; closing with finish = true syncs it and renames
 * it over the target in one step (a symbolic link there is replaced, not followed). On any failure,
 * or finish = false, the temporary is removed and the target is as it was. A target that exists and
 * is no regular file (a pipe, /dev/stdout) is written directly. */
#ifndef SLM_BASE_OUTFILE_H
#define SLM_BASE_OUTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct outfile;

slm_err outfile_open(const struct slm_hooks *h, const char *path, struct outfile **out,
                     slm_why *why);
/* The same for a file that can be made again at any time: only its owner may read it (0600), and it is
 * not synced. After a power cut there may be a torn file under the name, so whoever reads it has to be
 * able to tell. */
slm_err outfile_open_cache(const struct slm_hooks *h, const char *path, struct outfile **out,
                           slm_why *why);
/* Appends n bytes, in any number of pieces. The first failure sticks. */
slm_err outfile_write(struct outfile *f, const void *data, size_t n, slm_why *why);
uint64_t outfile_size(const struct outfile *f); /* bytes appended so far */
/* Frees f in any case; f may be NULL. Returns the first failure (SLM_OK for finish = false). */
slm_err outfile_close(struct outfile *f, bool finish, slm_why *why);

#endif
