/* png.c - PNG through libpng: palettes and grey to RGB, alpha and transparency dropped, of 16 bits the
 * upper 8. Gamma and colour profiles are not applied, as Pillow does not. */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "picture/decoders.h"

struct source {
    struct decoding *d;
    size_t at;
};

static void on_error(png_structp png, png_const_charp text) {
    struct source *s = png_get_error_ptr(png);
    decode_fail(s->d, SLM_E_FORMAT, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static void read_bytes(png_structp png, png_bytep out, size_t n) {
    struct source *s = png_get_io_ptr(png);
    if (n > s->d->n - s->at)
        png_error(png, "the file ends before the picture does");
    memcpy(out, s->d->data + s->at, n);
    s->at += n;
}

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Whether there is an animation control chunk before the picture data. */
static bool animated(const struct decoding *d) {
    for (size_t at = 8; d->n - at >= 12;) {
        uint32_t size = big_endian(d->data + at);
        if (memcmp(d->data + at + 4, "acTL", 4) == 0)
            return true;
        if (memcmp(d->data + at + 4, "IDAT", 4) == 0 || size > d->n - at - 12)
            return false;
        at += (size_t)size + 12;
    }
    return false;
}

static void ask_for_rgb(png_structp png, png_infop info) {
    int type = png_get_color_type(png, info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(png);
    if ((type & PNG_COLOR_MASK_COLOR) == 0)
        png_set_gray_to_rgb(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
}

static slm_err read_all(png_structp png, png_infop info, struct decoding *d,
                        png_bytep *volatile *rows) {
    png_bytep exif;
    png_uint_32 n_exif;
    png_read_info(png, info);
    slm_err err = decode_room(d, png_get_image_width(png, info), png_get_image_height(png, info));
    if (err != SLM_OK)
        return err;
    ask_for_rgb(png, info);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != (size_t)d->out.width * 3)
        return decode_fail(d, SLM_E_FORMAT, "PNG: rows of %zu bytes for %u pixels",
                           png_get_rowbytes(png, info), d->out.width);
    *rows = malloc(d->out.height * sizeof **rows);
    if (*rows == NULL)
        return decode_fail(d, SLM_E_NOMEM, "no memory for %u rows", d->out.height);
    for (uint32_t y = 0; y < d->out.height; y++)
        (*rows)[y] = d->out.data + (size_t)y * d->out.width * 3;
    png_read_image(png, *rows);
    png_read_end(png, info);
    if (png_get_eXIf_1(png, info, &n_exif, &exif) != 0)
        d->orientation = exif_orientation(exif, n_exif);
    return SLM_OK;
}

slm_err decode_png(struct decoding *d) {
    struct source source = { .d = d };
    png_bytep *volatile rows = NULL;
    volatile slm_err err = SLM_OK;
    d->out.format = "PNG";
    if (animated(d))
        return decode_fail(d, SLM_E_UNSUPPORTED, "an animated PNG; one picture is wanted");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_error, on_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL) {
        png_destroy_read_struct(&png, NULL, NULL);
        return decode_fail(d, SLM_E_NOMEM, "no memory for a PNG reader");
    }
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_user_limits(png, SIDE_MOST, SIDE_MOST);
        png_set_chunk_malloc_max(png, 8 << 20);
        png_set_chunk_cache_max(png, 64);
        png_set_read_fn(png, &source, read_bytes);
        err = read_all(png, info, d, &rows);
    } else {
        err = d->why.code;
    }
    png_destroy_read_struct(&png, &info, NULL);
    free((void *)rows);
    return err;
}
