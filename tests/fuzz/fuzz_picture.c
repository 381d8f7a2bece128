/* fuzz_picture.c - the three decoders and the camera's notes over any bytes: an error, or a picture of the
 * size that it says, within the limit. In the program this runs in a locked child. */
#include <stdint.h>
#include <stdlib.h>

#include "picture/decoders.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct decoding d = { .data = data, .n = size, .max_pixels = 1 << 16 };
    slm_err err = decode_any(&d);
    if ((err == SLM_OK) != (d.out.data != NULL) || (err != SLM_OK && d.why.message[0] == 0))
        abort();
    if (err == SLM_OK && ((uint64_t)d.out.width * d.out.height > d.max_pixels || d.out.width == 0))
        abort();
    uint8_t sum = 0;
    for (size_t i = 0; err == SLM_OK && i < (size_t)d.out.width * d.out.height * 3; i++)
        sum = (uint8_t)(sum + d.out.data[i]);
    free(d.out.data);
    unsigned o = exif_orientation(data, size);
    if (o < 1 || o > 8)
        abort();
    return sum & 0;
}
