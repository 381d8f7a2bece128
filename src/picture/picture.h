/* picture.h - pictures from untrusted bytes: JPEG, PNG and WebP to 8-bit RGB, in a child process that can
 * do nothing else.
 *
 * decode.c     the program's side: starts the child, feeds it, waits no longer than allowed
 * child.c      the child's side: limits, system call filter, then one decoder
 * jpeg.c png.c webp.c   one format each, over the libraries; pixels are counted before any is decoded
 * exif.c       the one number that is wanted of a camera's notes: which way up
 *
 * Not the official processor's way: the camera's orientation is applied unless told otherwise. Alpha is
 * dropped, not blended; CMYK is converted; of 16 bits the upper 8 count; animations are refused. */
#ifndef SLM_PICTURE_PICTURE_H
#define SLM_PICTURE_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slm_error.h"

struct picture_options {
    size_t max_bytes;    /* of the file; 0: 10 MiB */
    uint64_t max_pixels; /* 0: 40 million */
    bool ignore_exif;    /* leave the picture as it is stored */
    unsigned timeout_s;  /* 0: 20 */
    const char *program; /* that has picture_child_main; NULL: this program's own file */
};
struct picture_rgb {
    uint8_t *data; /* [height][width][3], owned: picture_free */
    uint32_t width, height;
    const char *format; /* "JPEG", "PNG", "WebP": static */
    unsigned turned;    /* EXIF orientation that was applied, 1: none */
};

/* Decodes data [n]. E_UNSUPPORTED: another format, or an animation. E_FORMAT: damaged or cut short.
 * E_BUDGET: more bytes, pixels or a longer side than allowed, or the child took too long, with both
 * numbers. E_IO: the child could not be started or broke down (its crash is this error, and no more).
 * Threads: any. */
slm_err picture_decode(const void *data, size_t n, const struct picture_options *options,
                       struct picture_rgb *out, slm_why *why);
void picture_free(struct picture_rgb *p);

/* The first argument that main hands over with: the program is a child then. */
#define PICTURE_CHILD_ARG "--decode-picture"
/* argv as main got it. Returns the exit code. */
int picture_child_main(int argc, char **argv);

#endif
