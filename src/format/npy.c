/* npy.c - float32 arrays in NumPy's file format.
 *
 * Layout of version 1.0: "\x93NUMPY", bytes 1 and 0, u16 length (little-endian), that many bytes of
 * a Python dictionary ended by a newline and padded so that the data begins at a multiple of 64:
 *   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 * Source: NumPy Enhancement Proposal 1 (numpy.lib.format). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/outfile.h"
#include "base/reader.h"
#include "format/format_internal.h"

#define NPY_MAGIC "\x93NUMPY\x01\x00"
#define NPY_PREFIX 10 /* magic, version, length */
#define NPY_ALIGN 64
#define NPY_HEADER_MAX 512 /* of what is written: four numbers of 20 digits need far less */

/* ---- writing ---- */

static bool count_elements(uint32_t n_dims, const uint64_t *dims, uint64_t *bytes) {
    *bytes = sizeof(float);
    for (uint32_t d = 0; d < n_dims; d++)
        if (!mul_u64_ok(*bytes, dims[d], bytes))
            return false;
    return *bytes <= PTRDIFF_MAX;
}

/* Prefix and dictionary into out[NPY_HEADER_MAX]; returns their length, a multiple of NPY_ALIGN. */
static size_t make_header(char *out, uint32_t n_dims, const uint64_t *dims) {
    char shape[128] = "";
    size_t n = 0;
    for (uint32_t d = 0; d < n_dims; d++)
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%" PRIu64 ", ", dims[d]);
    if (n_dims > 1)
        shape[n - 2] = '\0'; /* (3, 4) but (3,) */
    else if (n_dims == 1)
        shape[n - 1] = '\0';
    memcpy(out, NPY_MAGIC, 8);
    size_t len =
        NPY_PREFIX + (size_t)snprintf(out + NPY_PREFIX, NPY_HEADER_MAX - NPY_PREFIX,
                                      "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }",
                                      shape);
    size_t total = (len + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    memset(out + len, ' ', total - len);
    out[total - 1] = '\n';
    out[8] = (char)(uint8_t)((total - NPY_PREFIX) & 0xff);
    out[9] = (char)(uint8_t)((total - NPY_PREFIX) >> 8);
    return total;
}

/* Numbers little-endian, whatever the machine is. */
static slm_err put_floats(struct outfile *f, const float *data, uint64_t n, slm_why *why) {
    uint8_t piece[4096];
    for (uint64_t i = 0; i < n;) {
        size_t k = 0;
        for (; k < sizeof piece && i < n; i++, k += 4) {
            uint32_t bits;
            memcpy(&bits, &data[i], sizeof bits);
            for (size_t b = 0; b < 4; b++)
                piece[k + b] = (uint8_t)(bits >> (8 * b));
        }
        TRY(outfile_write(f, piece, k, why));
    }
    return SLM_OK;
}

slm_err npy_write_f32(const char *path, const float *data, uint32_t n_dims, const uint64_t *dims,
                      slm_why *why) {
    uint64_t bytes;
    if (n_dims > MAX_DIMS)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%" PRIu32 " dimensions, at most %d", n_dims,
                    MAX_DIMS);
    if (!count_elements(n_dims, dims, &bytes))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "an array of %" PRIu64 " rows of %" PRIu64 " is too large", dims[0],
                    dims[n_dims - 1]);
    char header[NPY_HEADER_MAX];
    size_t n = make_header(header, n_dims, dims);
    struct outfile *f = NULL;
    TRY(outfile_open(NULL, path, &f, why));
    slm_err err = outfile_write(f, header, n, why);
    if (err == SLM_OK)
        err = put_floats(f, data, bytes / sizeof(float), why);
    slm_err closed = outfile_close(f, err == SLM_OK, why);
    return err != SLM_OK ? err : closed;
}

/* ---- reading ---- */

/* The dictionary: the few Python literals that NumPy writes there. */
struct dict {
    const char *s; /* [n] */
    size_t n, pos;
    bool has_descr, has_order, has_shape;
    bool fortran;
    char descr[16];
    uint32_t n_dims;
    uint64_t dims[MAX_DIMS];
    slm_why *why;
};

static slm_err dict_fail(struct dict *d, slm_err code, const char *what) {
    return fail(d->why, code, NPY_PREFIX + d->pos, "NPY header: %s at character %zu of %zu", what,
                d->pos, d->n);
}

static void skip_space(struct dict *d) {
    while (d->pos < d->n && (d->s[d->pos] == ' ' || d->s[d->pos] == '\n' || d->s[d->pos] == '\t'))
        d->pos++;
}

/* Takes c, if it is next behind spaces. */
static bool take(struct dict *d, char c) {
    skip_space(d);
    if (d->pos >= d->n || d->s[d->pos] != c)
        return false;
    d->pos++;
    return true;
}

static bool take_word(struct dict *d, const char *word) {
    size_t n = strlen(word);
    skip_space(d);
    if (d->n - d->pos < n || memcmp(d->s + d->pos, word, n) != 0)
        return false;
    d->pos += n;
    return true;
}

/* A string in either quotes without escapes, cut short if it does not fit: then it equals nothing. */
static slm_err take_string(struct dict *d, char *out, size_t size) {
    char quote = '\'';
    if (!take(d, '\'')) {
        quote = '"';
        if (!take(d, '"'))
            return dict_fail(d, SLM_E_FORMAT, "a string is missing");
    }
    size_t begin = d->pos;
    while (d->pos < d->n && d->s[d->pos] != quote)
        d->pos++;
    if (d->pos == d->n)
        return dict_fail(d, SLM_E_FORMAT, "a string does not end");
    size_t n = d->pos - begin < size - 1 ? d->pos - begin : size - 1;
    memcpy(out, d->s + begin, n);
    out[n] = '\0';
    d->pos++;
    return SLM_OK;
}

static slm_err take_number(struct dict *d, uint64_t *out) {
    skip_space(d);
    size_t begin = d->pos;
    uint64_t v = 0;
    for (; d->pos < d->n && d->s[d->pos] >= '0' && d->s[d->pos] <= '9'; d->pos++) {
        uint64_t digit = (uint64_t)(d->s[d->pos] - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return dict_fail(d, SLM_E_FORMAT, "a dimension exceeds 64 bits");
        v = v * 10 + digit;
    }
    *out = v;
    return d->pos > begin ? SLM_OK : dict_fail(d, SLM_E_FORMAT, "a number is missing");
}

static slm_err take_shape(struct dict *d) {
    if (!take(d, '('))
        return dict_fail(d, SLM_E_FORMAT, "'(' is missing");
    while (!take(d, ')')) {
        if (d->n_dims == MAX_DIMS)
            return fail(d->why, SLM_E_UNSUPPORTED, NPY_PREFIX + d->pos,
                        "%d dimensions or more, at most %d are read", MAX_DIMS + 1, MAX_DIMS);
        TRY(take_number(d, &d->dims[d->n_dims++]));
        if (take(d, ','))
            continue;
        if (!take(d, ')') || d->n_dims == 1) /* (3) is a number, (3,) a tuple */
            return dict_fail(d, SLM_E_FORMAT, "',' is missing");
        break;
    }
    return SLM_OK;
}

static slm_err take_item(struct dict *d) {
    char key[16];
    TRY(take_string(d, key, sizeof key));
    if (!take(d, ':'))
        return dict_fail(d, SLM_E_FORMAT, "':' is missing");
    bool *seen = strcmp(key, "descr") == 0           ? &d->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &d->has_order
                 : strcmp(key, "shape") == 0         ? &d->has_shape
                                                     : NULL;
    if (seen == NULL)
        return dict_fail(d, SLM_E_FORMAT, "an unknown key");
    if (*seen)
        return dict_fail(d, SLM_E_FORMAT, "a key that came before");
    *seen = true;
    if (seen == &d->has_shape)
        return take_shape(d);
    if (seen == &d->has_descr) {
        skip_space(d);
        if (d->pos < d->n && d->s[d->pos] == '[')
            return dict_fail(d, SLM_E_UNSUPPORTED, "an array of records; '<f4' is read,");
        return take_string(d, d->descr, sizeof d->descr);
    }
    d->fortran = take_word(d, "True");
    return d->fortran || take_word(d, "False")
               ? SLM_OK
               : dict_fail(d, SLM_E_FORMAT, "True or False is missing");
}

static slm_err parse_dict(struct dict *d) {
    if (!take(d, '{'))
        return dict_fail(d, SLM_E_FORMAT, "'{' is missing");
    while (!take(d, '}')) {
        TRY(take_item(d));
        if (take(d, ','))
            continue;
        if (!take(d, '}'))
            return dict_fail(d, SLM_E_FORMAT, "',' is missing");
        break;
    }
    skip_space(d);
    if (d->pos != d->n)
        return dict_fail(d, SLM_E_FORMAT, "something after '}'");
    if (!d->has_descr || !d->has_order || !d->has_shape)
        return dict_fail(d, SLM_E_FORMAT, "one of descr, fortran_order and shape is missing");
    if (strcmp(d->descr, "<f4") != 0)
        return fail(d->why, SLM_E_UNSUPPORTED, NPY_PREFIX,
                    "an array of type '%s', only '<f4' is read", d->descr);
    if (d->fortran)
        return fail(d->why, SLM_E_UNSUPPORTED, NPY_PREFIX,
                    "an array in Fortran order, only C order is read");
    return SLM_OK;
}

slm_err npy_parse_f32(const void *bytes, size_t size, const float **data, uint32_t *n_dims,
                      uint64_t dims[MAX_DIMS], slm_why *why) {
    struct reader r;
    reader_init(&r, bytes, size, why);
    const uint8_t *magic = read_bytes(&r, 8);
    if (magic == NULL)
        return r.err;
    if (memcmp(magic, NPY_MAGIC, 6) != 0)
        return fail(why, SLM_E_FORMAT, 0, "no NPY file: it begins with byte 0x%02x, not 0x93",
                    magic[0]);
    if (magic[6] != 1 || magic[7] != 0)
        return fail(why, SLM_E_UNSUPPORTED, 6, "NPY version %u.%u, only 1.0 is read", magic[6],
                    magic[7]);
    uint16_t length = read_u16(&r);
    const uint8_t *text = read_bytes(&r, length);
    if (text == NULL)
        return r.err;
    struct dict d = { .s = (const char *)text, .n = length, .why = why };
    TRY(parse_dict(&d));
    uint64_t need = 0, left = size - r.pos;
    if (!count_elements(d.n_dims, d.dims, &need))
        return fail(why, SLM_E_FORMAT, NPY_PREFIX,
                    "an array of %" PRIu64 " rows and more exceeds 64 bits, %" PRIu64
                    " bytes are there",
                    d.dims[0], left);
    if (need != left)
        return fail(why, SLM_E_FORMAT, r.pos,
                    "the shape needs %" PRIu64 " bytes, %" PRIu64 " are there", need, left);
    if (r.pos % sizeof(float) != 0)
        return fail(why, SLM_E_UNSUPPORTED, r.pos,
                    "the data begins at byte %zu, no multiple of %zu", r.pos, sizeof(float));
    *data = (const float *)(const void *)((const uint8_t *)bytes + r.pos);
    *n_dims = d.n_dims;
    memcpy(dims, d.dims, sizeof d.dims);
    return SLM_OK;
}

slm_err npy_map_f32(const char *path, struct mapping *m, const float **data, uint32_t *n_dims,
                    uint64_t dims[MAX_DIMS], slm_why *why) {
    TRY(file_map(path, m, why));
    slm_err err = npy_parse_f32(m->data, m->size, data, n_dims, dims, why);
    if (err == SLM_OK)
        return SLM_OK;
    file_unmap(m);
    return fail_prefix(why, err, "%s", base_name(path));
}
