/* test_picture.c - pictures from bytes: the three formats, which way up, what is refused, and that a
 * decoder which breaks down, hangs or reaches for something takes nobody with it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jpeglib.h>
#include <png.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <webp/encode.h>
#include <zlib.h>

#include "base/compiler.h"
#include "picture/decoders.h"
#include "support.h"

static char program[512];

static slm_err decode(const void *data, size_t n, const struct picture_options *o,
                      struct picture_rgb *out, slm_why *why) {
    struct picture_options mine = o != NULL ? *o : (struct picture_options){ 0 };
    if (mine.program == NULL)
        mine.program = program;
    return picture_decode(data, n, &mine, out, why);
}

/* ------------------------------------------------------------------ making pictures */

struct bytes {
    uint8_t *data;
    size_t n;
};

/* Smooth, so that JPEG and WebP come close; no two corners alike. channels 1, 3 or 4. */
static uint8_t *pattern(uint32_t width, uint32_t height, unsigned channels) {
    uint8_t *p = malloc((size_t)width * height * channels), *to = p;
    assert_non_null(p);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (unsigned c = 0; c < channels; c++)
                *to++ = (uint8_t)(c == 0   ? 255 * x / width
                                  : c == 1 ? 255 * y / height
                                  : c == 2 ? 255 * (x + y) / (width + height)
                                           : 7);
    return p;
}

static struct bytes make_png(uint32_t width, uint32_t height, png_uint_32 format) {
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = format
    };
    unsigned channels = PNG_IMAGE_SAMPLE_CHANNELS(format);
    uint8_t *p = pattern(width, height, channels);
    struct bytes b = { NULL, 0 };
    png_alloc_size_t n = 0;
    assert_true(png_image_write_get_memory_size(image, n, 0, p, 0, NULL) && n > 0);
    b.data = malloc(n);
    assert_non_null(b.data);
    assert_true(png_image_write_to_memory(&image, b.data, &n, 0, p, 0, NULL));
    b.n = n;
    free(p);
    return b;
}

static struct bytes make_jpeg(uint32_t width, uint32_t height, J_COLOR_SPACE space,
                              unsigned orientation) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr manager;
    unsigned char *data = NULL;
    unsigned long n = 0;
    unsigned channels = space == JCS_GRAYSCALE ? 1 : space == JCS_CMYK ? 4 : 3;
    uint8_t *p = pattern(width, height, channels);
    c.err = jpeg_std_error(&manager);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &n);
    c.image_width = width;
    c.image_height = height;
    c.input_components = (int)channels;
    c.in_color_space = space;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    jpeg_start_compress(&c, TRUE);
    if (orientation > 0) {
        uint8_t exif[] = { 'E',  'x',  'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1,
                           0x01, 0x12, 0,   3,   0, 0, 0,   1,   0, 0,  0, 0, 0, 0, 0, 0 };
        exif[25] = (uint8_t)orientation;
        jpeg_write_marker(&c, JPEG_APP0 + 1, exif, sizeof exif);
    }
    for (uint32_t y = 0; y < height; y++) {
        JSAMPROW row = p + (size_t)y * width * channels;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(p);
    return (struct bytes){ data, n };
}

static struct bytes make_webp(uint32_t width, uint32_t height, bool alpha) {
    struct bytes b = { NULL, 0 };
    uint8_t *p = pattern(width, height, alpha ? 4 : 3), *data = NULL;
    b.n = alpha ? WebPEncodeLosslessRGBA(p, (int)width, (int)height, (int)width * 4, &data)
                : WebPEncodeLosslessRGB(p, (int)width, (int)height, (int)width * 3, &data);
    assert_true(b.n > 0);
    b.data = malloc(b.n);
    assert_non_null(b.data);
    memcpy(b.data, data, b.n);
    WebPFree(data);
    free(p);
    return b;
}

/* ------------------------------------------------------------------ what comes out */

static void check(const struct bytes *b, uint32_t width, uint32_t height, const char *format,
                  unsigned channels, int tolerance) {
    struct picture_rgb p;
    slm_why why;
    uint8_t *want = pattern(width, height, channels);
    if (decode(b->data, b->n, NULL, &p, &why) != SLM_OK)
        fail_msg("%s", why.message);
    assert_int_equal(p.width, width);
    assert_int_equal(p.height, height);
    assert_string_equal(p.format, format);
    for (size_t i = 0; i < (size_t)width * height; i++)
        for (unsigned c = 0; c < 3; c++) {
            int is = p.data[i * 3 + c], wanted = want[i * channels + (channels >= 3 ? c : 0)];
            if (is < wanted - tolerance || is > wanted + tolerance)
                fail_msg("pixel %zu channel %u is %d, expected %d", i, c, is, wanted);
        }
    free(want);
    picture_free(&p);
}

static void test_formats(void **state) {
    (void)state;
    const struct {
        struct bytes b;
        const char *format;
        unsigned channels;
        int tolerance;
    } cases[] = {
        { make_png(37, 23, PNG_FORMAT_RGB), "PNG", 3, 0 },
        { make_png(37, 23, PNG_FORMAT_RGBA), "PNG", 4, 0 },
        { make_png(37, 23, PNG_FORMAT_GRAY), "PNG", 1, 0 },
        { make_jpeg(37, 23, JCS_RGB, 0), "JPEG", 3, 12 },
        { make_jpeg(37, 23, JCS_GRAYSCALE, 0), "JPEG", 1, 4 },
        { make_webp(37, 23, false), "WebP", 3, 0 },
        { make_webp(37, 23, true), "WebP", 4, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check(&cases[i].b, 37, 23, cases[i].format, cases[i].channels, cases[i].tolerance);
        free(cases[i].b.data);
    }
}

static void test_small_and_long(void **state) {
    static const uint32_t sizes[][2] = { { 1, 1 }, { 16384, 1 }, { 1, 16384 }, { 2, 3 } };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct bytes b = make_png(sizes[i][0], sizes[i][1], PNG_FORMAT_RGB);
        check(&b, sizes[i][0], sizes[i][1], "PNG", 3, 0);
        free(b.data);
    }
}

static void test_cmyk(void **state) {
    struct bytes b = make_jpeg(16, 16, JCS_CMYK, 0);
    struct picture_rgb p;
    slm_why why;
    (void)state;
    assert_int_equal(decode(b.data, b.n, NULL, &p, &why), SLM_OK);
    /* libjpeg marks CMYK files as Adobe's, whose inks are inverted: 7 of black is nearly all black */
    assert_true(p.data[0] <= 8 && p.data[(16 * 16 - 1) * 3] <= 8);
    picture_free(&p);
    free(b.data);
}

/* The corner that is stored first goes where the orientation says. */
static void test_orientation(void **state) {
    (void)state;
    for (unsigned o = 1; o <= 8; o++) {
        struct bytes b = make_jpeg(32, 16, JCS_RGB, o);
        struct picture_rgb p, stored;
        const struct picture_options as_stored = { .ignore_exif = true };
        slm_why why;
        assert_int_equal(decode(b.data, b.n, NULL, &p, &why), SLM_OK);
        assert_int_equal(decode(b.data, b.n, &as_stored, &stored, &why), SLM_OK);
        assert_int_equal(p.turned, o);
        assert_int_equal(stored.turned, 1);
        assert_int_equal(p.width, o >= 5 ? 16 : 32);
        assert_int_equal(p.height, o >= 5 ? 32 : 16);
        bool right = o == 2 || o == 3 || o == 6 || o == 7, bottom = o == 3 || o == 4 || o >= 7;
        size_t at = (bottom ? p.height - 1 : 0) * (size_t)p.width + (right ? p.width - 1 : 0);
        assert_memory_equal(p.data + at * 3, stored.data, 3);
        picture_free(&p);
        picture_free(&stored);
        free(b.data);
    }
}

static void test_bad_exif(void **state) {
    uint8_t exif[] = { 'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0 };
    (void)state;
    assert_int_equal(exif_orientation(exif, sizeof exif), 6);
    for (size_t n = 0; n < sizeof exif - 2; n++)
        assert_int_equal(exif_orientation(exif, n), 1);
    exif[18] = 9;
    assert_int_equal(exif_orientation(exif, sizeof exif), 1);
    exif[4] = 0xff;
    exif[7] = 0xff;
    assert_int_equal(exif_orientation(exif, sizeof exif), 1);
}

/* ------------------------------------------------------------------ what is refused */

static void refused(const void *data, size_t n, const struct picture_options *o, slm_err code,
                    const char *words) {
    struct picture_rgb p;
    slm_why why = { 0 };
    slm_err err = decode(data, n, o, &p, &why);
    if (err != code || strstr(why.message, words) == NULL)
        fail_msg("%d '%s', expected %d '...%s...'", err, why.message, code, words);
    assert_null(p.data);
}

static void test_refusals(void **state) {
    static const char gif[] = "GIF89a\1\0\1\0\0\0\0;", text[] = "Dear all,\nthis is no picture.";
    struct bytes png = make_png(300, 200, PNG_FORMAT_RGB), jpeg = make_jpeg(300, 200, JCS_RGB, 0),
                 webp = make_webp(300, 200, false);
    const struct picture_options few = { .max_pixels = 59999 }, small = { .max_bytes = 100 };
    (void)state;
    refused(gif, sizeof gif - 1, NULL, SLM_E_UNSUPPORTED, "a GIF");
    refused(text, sizeof text - 1, NULL, SLM_E_UNSUPPORTED, "text");
    refused("", 0, NULL, SLM_E_UNSUPPORTED, "empty");
    refused(png.data, png.n, &few, SLM_E_BUDGET, "60000 pixels, at most 59999");
    refused(jpeg.data, jpeg.n, &few, SLM_E_BUDGET, "60000 pixels, at most 59999");
    refused(webp.data, webp.n, &few, SLM_E_BUDGET, "60000 pixels, at most 59999");
    refused(png.data, png.n, &small, SLM_E_BUDGET, "at most 100");
    refused(png.data, png.n / 2, NULL, SLM_E_FORMAT, "PNG");
    refused(jpeg.data, jpeg.n / 2, NULL, SLM_E_FORMAT, "ends before");
    refused(webp.data, webp.n / 2, NULL, SLM_E_FORMAT, "ends before");
    free(png.data), free(jpeg.data), free(webp.data);
}

/* A header that promises 30,000 x 30,000 pixels in a few bytes. */
static void test_bomb(void **state) {
    struct bytes b = make_png(4, 4, PNG_FORMAT_RGB);
    (void)state;
    b.data[16] = b.data[17] = b.data[20] = b.data[21] = 0;
    b.data[18] = b.data[22] = 30000 >> 8;
    b.data[19] = b.data[23] = 30000 & 255;
    uLong crc = crc32(0, b.data + 12, 17);
    for (int i = 0; i < 4; i++)
        b.data[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    refused(b.data, b.n, NULL, SLM_E_BUDGET, "900000000 pixels, at most 40000000");
    free(b.data);
}

static void test_animations(void **state) {
    struct bytes png = make_png(4, 4, PNG_FORMAT_RGB);
    static const uint8_t chunk[] = { 0, 0, 0, 8, 'a', 'c', 'T', 'L', 0, 0,
                                     0, 2, 0, 0, 0,   0,   0,   0,   0, 0 };
    /* RIFF, VP8X with the animation flag, 4 x 4, ANIM, and no frames */
    static const uint8_t webp[] = { 'R', 'I', 'F', 'F', 44,  0,   0,   0,   'W', 'E', 'B', 'P', 'V',
                                    'P', '8', 'X', 10,  0,   0,   0,   2,   0,   0,   0,   3,   0,
                                    0,   3,   0,   0,   'A', 'N', 'I', 'M', 6,   0,   0,   0,   0,
                                    0,   0,   0,   0,   0,   'A', 'N', 'M', 'F', 0,   0,   0,   0 };
    uint8_t *animated = malloc(png.n + sizeof chunk);
    (void)state;
    assert_non_null(animated);
    memcpy(animated, png.data, 33);
    memcpy(animated + 33, chunk, sizeof chunk);
    memcpy(animated + 33 + sizeof chunk, png.data + 33, png.n - 33);
    refused(animated, png.n + sizeof chunk, NULL, SLM_E_UNSUPPORTED, "animated PNG");
    refused(webp, sizeof webp, NULL, SLM_E_UNSUPPORTED, "animated WebP");
    free(animated);
    free(png.data);
}

/* Cut anywhere: an error or, where only the end is missing, a picture; never anything else. */
static void test_cut_anywhere(void **state) {
    struct bytes all[] = { make_png(9, 7, PNG_FORMAT_RGB), make_jpeg(9, 7, JCS_RGB, 6),
                           make_webp(9, 7, false) };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (size_t n = 0; n < all[i].n; n += all[i].n / 24 + 1) {
            struct decoding d = { .data = all[i].data, .n = n, .max_pixels = 1000 };
            slm_err err = decode_any(&d);
            assert_true((err == SLM_OK) == (d.out.data != NULL));
            free(d.out.data);
        }
        free(all[i].data);
    }
}

/* ------------------------------------------------------------------ children that go wrong */

static void with_script(const char *script, unsigned timeout_s, slm_err code, const char *words) {
    char path[256];
    FILE *f;
    snprintf(path, sizeof path, "%s/child.%ld",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (long)getpid());
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", script);
    fclose(f);
    chmod(path, 0700);
    const struct picture_options o = { .program = path, .timeout_s = timeout_s };
    struct bytes b = make_png(40, 40, PNG_FORMAT_RGB);
    refused(b.data, b.n, &o, code, words);
    free(b.data);
    unlink(path);
}

static void test_broken_children(void **state) {
    const struct picture_options none = { .program = "/nonexistent/program" };
    (void)state;
    with_script("kill -SEGV $$", 5, SLM_E_IO, "signal 11");
    with_script("exit 3", 5, SLM_E_IO, "exit code 3");
    with_script("sleep 60", 1, SLM_E_BUDGET, "more than 1 s");
    with_script("cat >/dev/null; echo some nonsense that is long enough for a head of it", 5,
                SLM_E_IO, "makes no sense");
    with_script("exit 65", 5, SLM_E_UNSUPPORTED, "seccomp");
    refused("x", 1, &none, SLM_E_IO, "does not start");
}

/* Locked in, a process that reaches for anything else is ended. */
static void locked(void (*reach)(void)) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!picture_lock(1000, 1000, 5))
            _exit(99);
        reach();
        _exit(98);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
        fail_msg("status %x, expected to be ended by SIGSYS", (unsigned)status);
}

static void reach_socket(void) {
    (void)!socket(AF_INET, SOCK_STREAM, 0);
}
static void reach_program(void) {
    char *const argv[] = { (char *)"true", NULL };
    execve("/bin/true", argv, NULL);
}
static void reach_trace(void) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static void reach_fork(void) {
    (void)!fork();
}
static void reach_kill(void) {
    kill(getppid(), 0);
}
#ifndef HAVE_ASAN
static void reach_file(void) {
    (void)!open("/etc/passwd", O_RDONLY);
}
#endif

static void test_lock(void **state) {
    (void)state;
    locked(reach_socket);
    locked(reach_program);
    locked(reach_trace);
    locked(reach_fork);
    locked(reach_kill);
#ifndef HAVE_ASAN
    locked(reach_file);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),      cmocka_unit_test(test_small_and_long),
        cmocka_unit_test(test_cmyk),         cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_bad_exif),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bomb),         cmocka_unit_test(test_animations),
        cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_broken_children),
        cmocka_unit_test(test_lock),
    };
    const char *build = getenv("SLM_BUILD");
    snprintf(program, sizeof program, "%s/slm", build != NULL ? build : "build");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
