/* tiles.h - products of panels cut into tiles that fit the registers.
 *
 * A tile function multiplies a few panels with a few prepared rows of activations over all columns
 * and leaves 16 sums for each of panels * tokens. Every output has its own accumulator, so that which shape
 * computes it cannot change its bits. */
#ifndef SLM_KERNELS_TILES_H
#define SLM_KERNELS_TILES_H

#include "kernels/panel.h"

#define TILE_PANELS 4
#define TILE_TOKENS 12
#define TILE_OUTPUTS 16 /* most panels * tokens of one tile */

/* panels: one panel's data each, acts: one prepared row each, out: [panel * tokens + token]: place
 * of 16 sums, any alignment */
typedef void tile_fn(const struct matrix *m, const uint8_t *const *panels, const void *const *acts,
                     float *const *out);

struct tile_shape {
    unsigned panels, tokens;
    tile_fn *run;
};

/* shapes: descending number of tokens, the last with one token, then { 0, 0, NULL }. Other
 * parameters as in matmul_fn. */
void tiles_run(const struct tile_shape *shapes, const struct matrix *m, const void *acts,
               size_t n_tokens, uint32_t first, uint32_t n, float *y, size_t y_stride);

#endif
