/* exif.c - which way up a camera held its picture: tag 0x0112 of the first directory, and turning.
 *
 * Format: TIFF 6.0 header ("II" or "MM", 42, offset of the directory), directory of 12-byte entries
 * (tag, type, count, value). Everything lies in untrusted bytes: what does not fit means "upright". */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "picture/decoders.h"

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define ENTRY 12

static uint32_t number(const uint8_t *p, unsigned bytes, bool big) {
    uint32_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[big ? i : bytes - 1 - i];
    return v;
}

unsigned exif_orientation(const uint8_t *data, size_t n) {
    if (n >= 6 && memcmp(data, "Exif\0", 6) == 0) {
        data += 6;
        n -= 6;
    }
    if (n < 8 || (memcmp(data, "II", 2) != 0 && memcmp(data, "MM", 2) != 0))
        return 1;
    bool big = data[0] == 'M';
    uint32_t at = number(data + 4, 4, big);
    if (number(data + 2, 2, big) != 42 || at > n || n - at < 2)
        return 1;
    uint32_t entries = number(data + at, 2, big);
    for (size_t e = at + 2; entries > 0 && n - e >= ENTRY; e += ENTRY, entries--)
        if (number(data + e, 2, big) == TAG_ORIENTATION &&
            number(data + e + 2, 2, big) == TYPE_SHORT) {
            uint32_t v = number(data + e + 8, 2, big);
            return v >= 1 && v <= 8 ? v : 1;
        }
    return 1;
}

/* Orientations 5 to 8 swap the sides. Place (x, y) of the upright picture comes from the stored one at:
 * 2 mirrored; 3 turned half; 4 upside down; 5 along the diagonal; 6 turned left; 7 along the other
 * diagonal; 8 turned right. */
static size_t source_of(unsigned o, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
    uint32_t sx = x, sy = y;
    if (o >= 5) {
        sx = y;
        sy = x;
    }
    if (o == 2 || o == 3 || o == 7 || o == 8)
        sx = width - 1 - sx;
    if (o == 3 || o == 4 || o == 6 || o == 7)
        sy = height - 1 - sy;
    return (size_t)sy * width + sx;
}

slm_err turn(struct picture_rgb *p, unsigned o, slm_why *why) {
    uint32_t width = o >= 5 ? p->height : p->width, height = o >= 5 ? p->width : p->height;
    uint8_t *to = malloc((size_t)width * height * 3), *next = to;
    if (to == NULL)
        return fail(why, SLM_E_NOMEM, SLM_NO_OFFSET, "no memory to turn a picture of %u x %u",
                    p->width, p->height);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++, next += 3)
            memcpy(next, p->data + source_of(o, x, y, p->width, p->height) * 3, 3);
    free(p->data);
    p->data = to;
    p->width = width;
    p->height = height;
    p->turned = o;
    return SLM_OK;
}
