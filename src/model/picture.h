/* picture.h - 8-bit pictures of any size to pixel values of a tower's size, bit for bit as the official
 * processor does it (docs/internals/model.md; goldens in tests/golden/gemma-3-4b-it/vision/preprocess). */
#ifndef SLM_MODEL_PICTURE_H
#define SLM_MODEL_PICTURE_H

#include "base/err.h"
#include "base/mem.h"

#define PICTURE_SIDE_MOST 65535u
#define PICTURE_CROPS_MOST 4

/* RGB, 8 bits a channel, rows from the top: data [height][width][3], borrowed. */
struct picture {
    const uint8_t *data;
    uint32_t width, height;
};
struct picture_box {
    uint32_t x, y, width, height;
};

/* Resizes a box of the picture to side x side: triangle filter whose support grows with the shrink
 * factor (antialiased bilinear), columns first, then rows, each pass rounded to 8 bits. out
 * [side][side][3]. E_ARG for a box that is empty or lies outside. Cost: about (width + side) x height
 * x 3 x support multiply-adds. */
slm_err picture_resize(const struct slm_hooks *h, const struct picture *p,
                       const struct picture_box *box, uint32_t side, uint8_t *out, slm_why *why);
/* value / 127.5 - 1 in float32, channel by channel: out [3][side][side]. */
void picture_normalise(const uint8_t *rgb, uint32_t side, float *out);
/* Both. */
slm_err picture_pixels(const struct slm_hooks *h, const struct picture *p,
                       const struct picture_box *box, uint32_t side, float *out, slm_why *why);
/* Pan and scan: the boxes that are shown besides the whole picture, left to right or top to bottom.
 * Returns how many: 0 for a picture that is about square or whose crops would be too small. */
uint32_t picture_crops(uint32_t width, uint32_t height, struct picture_box out[PICTURE_CROPS_MOST]);

#endif
