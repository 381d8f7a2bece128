/* picture.c - resizing, normalising and cutting pictures for an image tower.
 *
 * Resize: for each axis with scale = in / out and f = max(scale, 1), output i has its centre at
 * c = (i + 0.5) * scale and takes inputs x from max(trunc(c - f + 0.5), 0) to
 * min(trunc(c + f + 0.5), in) with weight max(0, 1 - |(x - c + 0.5) * (1 / f)|), in double, divided by
 * their sum, as fixed point of 22 bits rounded half up; a pass gives clip((2^21 + sum) >> 22) in 8 bits.
 * Source: Pillow's BILINEAR resampling, which the official processor calls.
 * Pan and scan: min_crop_size 256, max_num_crops 4, min_ratio_to_activate 1.2 of the same processor. */
#include "model/picture.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"

#define BITS 22
#define CROP_LEAST 256
#define RATIO_LEAST 1.2

/* Weights of one axis: output i takes `n[i]` inputs from `first[i]`, weights at i * most. */
struct axis {
    uint32_t *first, *n; /* [out] */
    int32_t *weights;    /* [out][most] */
    uint32_t most;
};

static void axis_free(const struct slm_hooks *h, struct axis *a) {
    mem_free(h, a->first);
    mem_free(h, a->n);
    mem_free(h, a->weights);
}

static slm_err axis_new(const struct slm_hooks *h, uint32_t in, uint32_t out, struct axis *a,
                        slm_why *why) {
    double scale = (double)in / (double)out, f = scale > 1.0 ? scale : 1.0, inverse = 1.0 / f;
    a->most = (uint32_t)ceil(f) * 2 + 1;
    a->first = mem_alloc(h, out, sizeof *a->first);
    a->n = mem_alloc(h, out, sizeof *a->n);
    a->weights = mem_alloc(h, (size_t)out * a->most, sizeof *a->weights);
    double *w = mem_alloc(h, a->most, sizeof *w);
    if (a->first == NULL || a->n == NULL || a->weights == NULL || w == NULL) {
        mem_free(h, w);
        return fail_nomem(why, "weights of a resize", (size_t)out * a->most * sizeof *a->weights);
    }
    for (uint32_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0.0;
        double low = trunc(centre - f + 0.5), high = trunc(centre + f + 0.5);
        uint32_t from = low > 0.0 ? (uint32_t)low : 0, to = high < in ? (uint32_t)high : in;
        for (uint32_t x = from; x < to; x++) {
            double v = 1.0 - fabs(((double)x - centre + 0.5) * inverse);
            w[x - from] = v > 0.0 ? v : 0.0;
            sum += w[x - from];
        }
        for (uint32_t x = from; x < to; x++) {
            double v = sum != 0.0 ? w[x - from] * (1.0 / sum) : w[x - from];
            a->weights[(size_t)i * a->most + x - from] = (int32_t)(v * (1 << BITS) + 0.5);
        }
        a->first[i] = from;
        a->n[i] = to - from;
    }
    mem_free(h, w);
    return SLM_OK;
}

static uint8_t round_8(int64_t sum) {
    int64_t v = (sum + (1 << (BITS - 1))) >> BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* A row of the box to `side` columns. */
static void shrink_row(const uint8_t *row, const struct axis *a, uint32_t side, uint8_t *out) {
    for (uint32_t i = 0; i < side; i++) {
        const int32_t *w = a->weights + (size_t)i * a->most;
        const uint8_t *in = row + (size_t)a->first[i] * 3;
        int64_t sum[3] = { 0, 0, 0 };
        for (uint32_t j = 0; j < a->n[i]; j++)
            for (unsigned c = 0; c < 3; c++)
                sum[c] += (int64_t)w[j] * in[j * 3 + c];
        for (unsigned c = 0; c < 3; c++)
            out[i * 3 + c] = round_8(sum[c]);
    }
}

/* Rows of `between` [.][side][3] to output row i. */
static void mix_rows(const uint8_t *between, const struct axis *a, uint32_t i, uint32_t side,
                     uint8_t *out) {
    const int32_t *w = a->weights + (size_t)i * a->most;
    const uint8_t *in = between + (size_t)a->first[i] * side * 3;
    for (size_t x = 0; x < (size_t)side * 3; x++) {
        int64_t sum = 0;
        for (uint32_t j = 0; j < a->n[i]; j++)
            sum += (int64_t)w[j] * in[(size_t)j * side * 3 + x];
        out[x] = round_8(sum);
    }
}

static slm_err check_box(const struct picture *p, const struct picture_box *b, slm_why *why) {
    if (p->width == 0 || p->height == 0 || p->width > PICTURE_SIDE_MOST ||
        p->height > PICTURE_SIDE_MOST)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a picture of %u x %u, sides are 1 to %u",
                    p->width, p->height, PICTURE_SIDE_MOST);
    if (b->width == 0 || b->height == 0 || b->x > p->width || b->width > p->width - b->x ||
        b->y > p->height || b->height > p->height - b->y)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "a box of %u x %u at %u, %u in a picture of %u x %u", b->width, b->height, b->x,
                    b->y, p->width, p->height);
    return SLM_OK;
}

slm_err picture_resize(const struct slm_hooks *h, const struct picture *p,
                       const struct picture_box *box, uint32_t side, uint8_t *out, slm_why *why) {
    const struct picture_box whole = { 0, 0, p->width, p->height }, *b = box != NULL ? box : &whole;
    struct axis across = { 0 }, down = { 0 };
    uint8_t *between = NULL;
    slm_err err = SLM_OK;
    TRY(check_box(p, b, why));
    if (side == 0 || side > PICTURE_SIDE_MOST)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "resize to a side of %u", side);
    TRY_OUT(axis_new(h, b->width, side, &across, why));
    TRY_OUT(axis_new(h, b->height, side, &down, why));
    between = mem_alloc(h, (size_t)b->height * side, 3);
    if (between == NULL)
        TRY_OUT(fail_nomem(why, "resize", (size_t)b->height * side * 3));
    for (uint32_t y = 0; y < b->height; y++)
        shrink_row(p->data + ((size_t)(b->y + y) * p->width + b->x) * 3, &across, side,
                   between + (size_t)y * side * 3);
    for (uint32_t i = 0; i < side; i++)
        mix_rows(between, &down, i, side, out + (size_t)i * side * 3);
out:
    mem_free(h, between);
    axis_free(h, &across);
    axis_free(h, &down);
    return err;
}

void picture_normalise(const uint8_t *rgb, uint32_t side, float *out) {
    size_t n = (size_t)side * side;
    float table[256];
    for (unsigned v = 0; v < 256; v++)
        table[v] = (float)v / 127.5f - 1.0f;
    for (size_t i = 0; i < n; i++)
        for (unsigned c = 0; c < 3; c++)
            out[c * n + i] = table[rgb[i * 3 + c]];
}

slm_err picture_pixels(const struct slm_hooks *h, const struct picture *p,
                       const struct picture_box *box, uint32_t side, float *out, slm_why *why) {
    uint8_t *rgb = mem_alloc(h, (size_t)side * side, 3);
    if (rgb == NULL)
        return fail_nomem(why, "picture", (size_t)side * side * 3);
    slm_err err = picture_resize(h, p, box, side, rgb, why);
    if (err == SLM_OK)
        picture_normalise(rgb, side, out);
    mem_free(h, rgb);
    return err;
}

uint32_t picture_crops(uint32_t width, uint32_t height,
                       struct picture_box out[PICTURE_CROPS_MOST]) {
    bool wide = width >= height;
    uint32_t longer = wide ? width : height, shorter = wide ? height : width;
    if (shorter == 0 || (double)longer / (double)shorter < RATIO_LEAST)
        return 0;
    uint32_t n = (uint32_t)floor((double)longer / (double)shorter + 0.5);
    uint32_t fit = longer / CROP_LEAST;
    n = fit < n ? fit : n;
    n = n < 2 ? 2 : n;
    n = n > PICTURE_CROPS_MOST ? PICTURE_CROPS_MOST : n;
    uint32_t each = longer / n + (longer % n > 0);
    if (each < CROP_LEAST || shorter < CROP_LEAST)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i * each, size = longer - at < each ? longer - at : each;
        out[i] = wide ? (struct picture_box){ at, 0, size, height }
                      : (struct picture_box){ 0, at, width, size };
    }
    return n;
}
