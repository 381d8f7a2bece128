/* decoders.h - what the child's files share. */
#ifndef SLM_PICTURE_DECODERS_H
#define SLM_PICTURE_DECODERS_H

#include "picture/picture.h"

#define SIDE_MOST 65500u /* of a picture that is opened at all; libjpeg's own limit */

struct decoding {
    const uint8_t *data; /* [n] the file, borrowed */
    size_t n;
    uint64_t max_pixels;
    bool ignore_exif;
    struct picture_rgb out;
    unsigned orientation; /* 1..8 as the file says; 1 when it says nothing */
    slm_why why;
};

/* Fills in d->why and returns code. */
slm_err decode_fail(struct decoding *d, slm_err code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Checks the sides, then makes room: d->out.data. E_BUDGET, E_FORMAT, E_NOMEM. */
slm_err decode_room(struct decoding *d, uint64_t width, uint64_t height);

slm_err decode_jpeg(struct decoding *d);
slm_err decode_png(struct decoding *d);
slm_err decode_webp(struct decoding *d);
/* The orientation in EXIF data (a TIFF header follows, "Exif\0\0" may stand before), 1 when there is none
 * or it makes no sense. */
unsigned exif_orientation(const uint8_t *data, size_t n);

/* The file by its first bytes, then turned upright unless d->ignore_exif. On failure d->out has no data. */
slm_err decode_any(struct decoding *d);
/* Turns a picture by an EXIF orientation 2..8 in new memory. */
slm_err turn(struct picture_rgb *p, unsigned orientation, slm_why *why);

/* Gives up every right of this process but to read, write, take memory and end. false: not possible
 * here. There is no way back. */
bool picture_lock(uint64_t max_pixels, size_t max_bytes, unsigned timeout_s);

#endif
