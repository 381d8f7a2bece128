/* image.h - images as ids: the inside of slm_image, and what runners ask of it.
 *
 * An encoded image has a serial number, and its rows stand for ids beyond the vocabulary: the row j of
 * image k is the id vocab + k * tokens + j. So prefixes, batches and caches compare images by comparing
 * ids, and the same picture has the same ids as long as the engine remembers it. */
#ifndef SLM_SESSION_IMAGE_H
#define SLM_SESSION_IMAGE_H

#include "session/engine.h"

struct image_store;

/* The tower of an engine: of its own folder, or of the GGUF file `path` (may be NULL). *out NULL when
 * there is none. Nothing is packed yet. */
slm_err image_store_new(const slm_engine *e, const char *path, struct image_store **out,
                        slm_why *why);
void image_store_free(struct image_store *s); /* NULL allowed */
/* The tower's numbers. */
const struct vision *image_vision(const struct image_store *s);

static inline bool image_is_id(const slm_engine *e, int32_t id) {
    return id >= 0 && (uint32_t)id >= e->facts.m.vocab && e->images != NULL;
}
/* Row of an id of an open image [H], NULL for any other id. *index: its place in the image. */
const float *image_row(const slm_engine *e, int32_t id, uint32_t *index);
/* Where the image begins that ids[at] lies inside of; at itself when it lies in none or is its first row. */
size_t image_start(const slm_engine *e, const int32_t *ids, size_t at);
/* The rows of ids [n] from position `from` on, for forward_run. */
void image_rows(const slm_engine *e, const int32_t *ids, uint32_t n, uint32_t from,
                struct soft_row *out);

#endif
