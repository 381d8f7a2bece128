/* jpeg.c - JPEG through libjpeg-turbo, with its default (accurate) transform, as Pillow uses it. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* these want FILE and size_t, and each other in this order */
#include <jpeglib.h>

#include <jerror.h>

#include "picture/decoders.h"

#define SCANS_MOST 200 /* of a progressive file: more are made to waste time */

struct failing {
    struct jpeg_error_mgr manager; /* first: libjpeg knows only this */
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    struct decoding *d;
    const char *ours; /* what we refuse ourselves */
};

static void on_error(j_common_ptr c) {
    struct failing *f = (struct failing *)c->err;
    char text[JMSG_LENGTH_MAX];
    if (f->ours == NULL)
        c->err->format_message(c, text);
    decode_fail(f->d, SLM_E_FORMAT, "JPEG: %s", f->ours != NULL ? f->ours : text);
    longjmp(f->back, 1);
}

/* A warning: a file that ends too early is refused as Pillow does it, other damage is shown. */
static void on_message(j_common_ptr c, int level) {
    struct failing *f = (struct failing *)c->err;
    if (level >= 0 || c->err->msg_code != JWRN_JPEG_EOF)
        return;
    f->ours = "the file ends before the picture does";
    on_error(c);
}

static void on_progress(j_common_ptr c) {
    struct failing *f = (struct failing *)c->err;
    if (((j_decompress_ptr)c)->input_scan_number <= SCANS_MOST)
        return;
    f->ours = "too many scans";
    on_error(c);
}

static uint8_t times(unsigned a, unsigned b) { /* a * b / 255, rounded */
    unsigned v = a * b + 128;
    return (uint8_t)(((v >> 8) + v) >> 8);
}

/* Adobe's files hold CMYK inverted: c is 255 - ink already. */
static void cmyk_row(const uint8_t *in, uint32_t width, bool inverted, uint8_t *out) {
    for (uint32_t i = 0; i < width; i++, in += 4, out += 3)
        for (unsigned c = 0; c < 3; c++) {
            unsigned ink = inverted ? 255u - in[c] : in[c], black = inverted ? 255u - in[3] : in[3];
            unsigned light = 255 - black;
            out[c] = (uint8_t)(light - times(ink, light));
        }
}

static void find_orientation(j_decompress_ptr c, struct decoding *d) {
    for (jpeg_saved_marker_ptr m = c->marker_list; m != NULL; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0", 6) == 0) {
            d->orientation = exif_orientation(m->data, m->data_length);
            return;
        }
}

static slm_err read_rows(j_decompress_ptr c, struct decoding *d, uint8_t *ink) {
    while (c->output_scanline < c->output_height) {
        uint8_t *row = d->out.data + (size_t)c->output_scanline * d->out.width * 3;
        uint8_t *to = ink != NULL ? ink : row;
        if (jpeg_read_scanlines(c, &to, 1) == 1 && ink != NULL)
            cmyk_row(ink, d->out.width, c->saw_Adobe_marker, row);
    }
    jpeg_finish_decompress(c);
    return SLM_OK;
}

slm_err decode_jpeg(struct decoding *d) {
    struct jpeg_decompress_struct c;
    struct failing f = { .d = d };
    uint8_t *volatile ink = NULL;
    volatile slm_err err = SLM_OK;
    memset(&c, 0, sizeof c);
    c.err = jpeg_std_error(&f.manager);
    f.manager.error_exit = on_error;
    f.manager.emit_message = on_message;
    f.progress.progress_monitor = on_progress;
    if (setjmp(f.back) != 0) {
        err = d->why.code;
        goto out;
    }
    jpeg_create_decompress(&c);
    c.progress = &f.progress;
    jpeg_mem_src(&c, d->data, (unsigned long)d->n);
    jpeg_save_markers(&c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&c, TRUE);
    d->out.format = "JPEG";
    find_orientation(&c, d);
    err = decode_room(d, c.image_width, c.image_height);
    if (err != SLM_OK)
        goto out;
    bool four = c.jpeg_color_space == JCS_CMYK || c.jpeg_color_space == JCS_YCCK;
    c.out_color_space = four ? JCS_CMYK : JCS_RGB;
    ink = four ? malloc((size_t)d->out.width * 4) : NULL;
    if (four && ink == NULL) {
        err = decode_fail(d, SLM_E_NOMEM, "no memory for a row of %u", d->out.width);
        goto out;
    }
    jpeg_start_decompress(&c);
    err = read_rows(&c, d, ink);
out:
    jpeg_destroy_decompress(&c);
    free(ink);
    return err;
}
