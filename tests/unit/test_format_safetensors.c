/* test_format_safetensors.c - the safetensors reader and sharded folders, on purpose-made files and
 * on the twins. */
#include <inttypes.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "format_image.h"
#include "support.h"

/* after the rest: cmocka has a macro named fail */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void expect(slm_err err, const struct tensors *t, const slm_why *why, slm_err code,
                   const char *a, const char *b) {
    bool all = (a == NULL || strstr(why->message, a) != NULL) &&
               (b == NULL || strstr(why->message, b) != NULL);
    if (err != code || !all)
        print_error("%s at %" PRIu64 ": %s (wanted %s, '%s', '%s')\n", err_name(err), why->offset,
                    why->message, err_name(code), a != NULL ? a : "", b != NULL ? b : "");
    assert_int_equal(err, code);
    assert_true(all);
    assert_null(t);
}

static void refused(const char *json, size_t n_data, slm_err code, const char *a, const char *b) {
    struct image g = img_safetensors(json, n_data);
    struct slm_memory_file file = { "m.safetensors", g.data, g.n };
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(NULL, &file, 1, &t, &why);
    expect(err, t, &why, code, a, b);
    assert_true(strncmp(why.message, "m.safetensors: ", 15) == 0);
    assert_true(why.offset <= g.n);
    img_free(&g);
}

#define W "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void sound(void **state) {
    (void)state;
    /* order of fields and of tensors, escapes, scalars, metadata, trailing spaces: all as allowed */
    struct image g = img_safetensors(
        "{\"b\":{\"data_offsets\":[8,10],\"dtype\":\"BF16\",\"shape\":[]},"
        "\"__metadata__\":{\"format\":\"pt\"}," W ","
        "\"h\\u00e9\":{\"shape\":[1,1,1,1],\"dtype\":\"F16\",\"data_offsets\":[10,12]}}   ",
        12);
    struct slm_memory_file file = { "m.safetensors", g.data, g.n };
    struct tensors *t;
    slm_why why;
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_OK);
    assert_true(image_sound(t, &file, 1));
    assert_int_equal(t->n, 3);
    assert_null(t->gguf);
    const struct tensor_info *x = tensors_find(t, "w");
    assert_int_equal(x->dtype, DT_F32);
    assert_int_equal(x->size, 8);
    assert_ptr_equal(x->data, g.data + g.n - 12);
    x = tensors_find(t, "b");
    assert_int_equal(x->dtype, DT_BF16);
    assert_int_equal(x->n_dims, 0);
    assert_int_equal(x->size, 2);
    x = tensors_find(t, "h\xc3\xa9");
    assert_int_equal(x->n_dims, 4);
    tensors_close(t);
    img_free(&g);
    g = img_safetensors("{}", 0);
    file = (struct slm_memory_file){ "m.safetensors", g.data, g.n };
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_OK);
    assert_int_equal(t->n, 0);
    tensors_close(t);
    img_free(&g);
}

static void element_types(void **state) {
    (void)state;
    static const char *const no[] = { "I8",  "I16",  "I32", "I64", "U8",      "U16",     "U32",
                                      "U64", "BOOL", "F64", "C64", "F8_E4M3", "F8_E5M2", "F4" };
    char json[256];
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        snprintf(json, sizeof json,
                 "{\"w\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[0,8]}}", no[i]);
        refused(json, 8, SLM_E_UNSUPPORTED, no[i], "BF16, F16 and F32");
    }
    refused("{\"w\":{\"dtype\":\"Q9\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, SLM_E_UNSUPPORTED,
            "unknown type 'Q9'", "'w'");
    refused("{\"w\":{\"dtype\":\"f32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
            SLM_E_UNSUPPORTED, "'f32'", "'w'");
}

static void entries(void **state) {
    (void)state;
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", 9, SLM_E_FORMAT,
            "0 to 9", "8 bytes");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, SLM_E_FORMAT,
            "8 to 0", "8 bytes");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}", 8, SLM_E_FORMAT,
            "data byte 12", "8 bytes of data");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
            8, SLM_E_FORMAT, "64 bits", "4294967296");
    refused(
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,2,2],\"data_offsets\":[0,0]}}", 0,
        SLM_E_FORMAT, "64 bits", "dimension 0 is 4611686018427387904");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT,
            "-1", "from 0 to 9223");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT,
            "2.0", "whole number");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808],\"data_offsets\":[0,8]}}", 8,
            SLM_E_FORMAT, "9223372036854775808", "9223372036854775807");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT,
            "shape is not", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT,
            "shape is not", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]}}", 8,
            SLM_E_UNSUPPORTED, "5 dimensions", "at most 4");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2,0],\"data_offsets\":[0,0]}}", 0,
            SLM_E_UNSUPPORTED, "dimension 1 is 0", "at least 1");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, SLM_E_FORMAT,
            "data_offsets", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, SLM_E_FORMAT,
            "list of two", "'w'");
    refused("{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT, "no dtype", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, SLM_E_FORMAT, "no shape",
            "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, SLM_E_FORMAT, "no data_offsets", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
            SLM_E_FORMAT, "'shape' occurs twice", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
            SLM_E_FORMAT, "'dtype' occurs twice", "'w'");
    refused(
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"data_offsets\":[0,8]}}",
        8, SLM_E_FORMAT, "'data_offsets' occurs twice", "'w'");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"pad\":0}}", 8,
            SLM_E_FORMAT, "unknown field 'pad'", "'w'");
    refused("{\"w\":[]}", 0, SLM_E_FORMAT, "'w'", "not an object");
    refused("{\"w\":{\"dtype\":1}}", 0, SLM_E_FORMAT, "dtype is not", "a string");
}

static void headers(void **state) {
    (void)state;
    refused("{" W "," W "}", 8, SLM_E_FORMAT, "'w' begins at data byte 0, inside 'w'", "8");
    refused("{" W ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
            SLM_E_FORMAT, "'v' begins at data byte 4, inside 'w'", "ends at 8");
    refused("{" W ",\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16,
            SLM_E_FORMAT, "hole in the data: tensor 'v' begins at 12", "ends at 8");
    refused("{" W ",\"v\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[9,11]}}", 11,
            SLM_E_FORMAT, "hole in the data: tensor 'v' begins at 9", "ends at 8");
    refused("{" W ",\"v\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[7,9]}}", 9,
            SLM_E_FORMAT, "'v' begins at data byte 7, inside 'w'", "ends at 8");
    refused("{" W "}", 9, SLM_E_FORMAT, "end at data byte 8", "9 bytes");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, SLM_E_FORMAT,
            "hole", "begins at 4");
    refused("{" W "}", 11, SLM_E_FORMAT, "end at data byte 8", "11 bytes");
    refused("{}", 5, SLM_E_FORMAT, "no tensors", "5 bytes");
    refused("{\"__metadata__\":{\"a\":\"b\"},\"__metadata__\":{}," W "}", 8, SLM_E_FORMAT,
            "__metadata__ occurs twice", NULL);
    refused("{\"__metadata__\":{\"a\":1}," W "}", 8, SLM_E_FORMAT, "__metadata__ is not a string",
            NULL);
    refused("{\"__metadata__\":{\"a\":{\"b\":\"c\"}}," W "}", 8, SLM_E_FORMAT,
            "__metadata__ is not a string", NULL);
    refused("{\"__metadata__\":[]," W "}", 8, SLM_E_FORMAT, "__metadata__ is not an object", NULL);
    refused("{" W "} x", 8, SLM_E_FORMAT, "JSON", NULL);
    refused("{" W ",}", 8, SLM_E_FORMAT, "JSON", NULL);
    refused("{\"__metadata__\":{\"a\":\"b\" 1}," W "}", 8, SLM_E_FORMAT, "JSON", NULL);
    char name[300] = "{\"";
    memset(name + 2, 'n', 256);
    strcpy(name + 258, "\":{}}");
    refused(name, 0, SLM_E_UNSUPPORTED, "too long: 256 bytes", "from 1 to 255");
    refused("{\"\":{}}", 0, SLM_E_FORMAT, "is empty", "255");
    refused("{\"a\\u0000b\":{}}", 0, SLM_E_FORMAT, "control character", "255");
    refused("{\"a\xff\":{}}", 0, SLM_E_ENCODING, "UTF-8", NULL);
    refused("{\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
            "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
            6, SLM_E_UNSUPPORTED, "'w' begins at byte", "4-byte elements");
    /* the same name at two places */
    refused("{" W ",\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12,
            SLM_E_FORMAT, "'w' occurs twice", "of 'm.safetensors'");
    char deep[400] = "{\"__metadata__\":";
    memset(deep + strlen(deep), '[', 300);
    refused(deep, 0, SLM_E_FORMAT, "__metadata__ is not an object", NULL);
}

/* The offset in why counts from the start of the file, not of the JSON. */
static void offsets(void **state) {
    (void)state;
    struct image g = img_safetensors("{\"w\":x", 0);
    struct slm_memory_file file = { "m.safetensors", g.data, g.n };
    struct tensors *t;
    slm_why why;
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_E_FORMAT);
    assert_int_equal(why.offset, 8 + 5);
    img_free(&g);
    g = img_safetensors("{}", 0);
    g.data[0] = 0xff;
    g.data[3] = 0xff; /* a header of 4 GB */
    file = (struct slm_memory_file){ "m.safetensors", g.data, g.n };
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_E_FORMAT);
    assert_non_null(strstr(why.message, "header of 4278190335 bytes, 8 left"));
    assert_int_equal(why.offset, 0);
    memset(g.data, 0xff, 8); /* and one whose end wraps round to byte 7 */
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_E_FORMAT);
    assert_non_null(strstr(why.message, "header of 18446744073709551615 bytes, 8 left"));
    img_free(&g);
}

/* A header longer than 100,000,000 bytes is refused before it is parsed. */
static void long_header(void **state) {
    (void)state;
    const size_t n = 100000001;
    char *data = malloc(8 + n);
    assert_non_null(data);
    memset(data, ' ', 8 + n);
    for (size_t i = 0; i < 8; i++)
        data[i] = (char)(uint8_t)((uint64_t)n >> (8 * i));
    memcpy(data + 8, "{}", 2);
    struct slm_memory_file file = { "m.safetensors", data, 8 + n };
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(NULL, &file, 1, &t, &why);
    expect(err, t, &why, SLM_E_FORMAT, "header of 100000001 bytes", "at most 100000000");
    data[0]--;
    file.size--;
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_OK);
    tensors_close(t);
    free(data);
}

/* ---- folders ---- */

#define MAX_FILES 8
struct folder {
    struct image images[MAX_FILES];
    struct slm_memory_file files[MAX_FILES];
    size_t n;
};
static void put_text_file(struct folder *f, const char *name, const char *text) {
    img_bytes(&f->images[f->n], text, strlen(text));
    f->files[f->n] = (struct slm_memory_file){ name, f->images[f->n].data, f->images[f->n].n };
    f->n++;
}
static void put_weights(struct folder *f, const char *name, const char *json, size_t n_data) {
    f->images[f->n] = img_safetensors(json, n_data);
    f->files[f->n] = (struct slm_memory_file){ name, f->images[f->n].data, f->images[f->n].n };
    f->n++;
}
static void folder_free(struct folder *f) {
    for (size_t i = 0; i < f->n; i++)
        img_free(&f->images[i]);
    *f = (struct folder){ 0 };
}
/* Opens from memory and from a real folder: both must say the same. Takes the folder. */
static void folder_gives(struct folder *f, slm_err code, const char *a, const char *b) {
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(NULL, f->files, f->n, &t, &why);
    if (code == SLM_OK) {
        if (err != SLM_OK)
            print_error("%s\n", why.message);
        assert_int_equal(err, SLM_OK);
        assert_true(image_sound(t, f->files, f->n));
        tensors_close(t);
    } else {
        expect(err, t, &why, code, a, b);
    }
    char dir[1024], path[2048];
    assert_true(temp_file(path, sizeof path, "anchor", "", 0));
    snprintf(dir, sizeof dir, "%.*s/model", (int)(strrchr(path, '/') - path), path);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (size_t i = 0; i < f->n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, f->files[i].name);
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        if (f->files[i].size > 0)
            assert_int_equal(fwrite(f->files[i].data, 1, f->files[i].size, out), f->files[i].size);
        fclose(out);
    }
    memset(&why, 0, sizeof why);
    err = tensors_open(NULL, dir, &t, &why);
    if (code == SLM_OK) {
        assert_int_equal(err, SLM_OK);
        tensors_close(t);
    } else {
        expect(err, t, &why, code, a, b);
    }
    for (size_t i = 0; i < f->n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, f->files[i].name);
        unlink(path);
    }
    rmdir(dir);
    folder_free(f);
}

#define INDEX "model.safetensors.index.json"
#define V "\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"

static struct folder two_shards(const char *index) {
    struct folder f = { 0 };
    put_text_file(&f, INDEX, index);
    put_weights(&f, "a.safetensors", "{" W "}", 8);
    put_weights(&f, "b.safetensors", "{" V "}", 4);
    return f;
}

static void shards(void **state) {
    (void)state;
    struct folder f =
        two_shards("{\"metadata\":{\"total_size\":12},\"weight_map\":{\"w\":\"a.safetensors\","
                   "\"v\":\"b.safetensors\"}}");
    struct tensors *t;
    slm_why why;
    assert_int_equal(tensors_open_memory(NULL, f.files, f.n, &t, &why), SLM_OK);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->n_files, 2);
    assert_string_equal(t->files[tensors_find(t, "w")->file].path, "a.safetensors");
    assert_string_equal(t->files[tensors_find(t, "v")->file].path, "b.safetensors");
    tensors_close(t);
    folder_gives(&f, SLM_OK, NULL, NULL);

    f = two_shards("{\"weight_map\":{\"w\":\"b.safetensors\",\"v\":\"a.safetensors\"}}");
    folder_gives(&f, SLM_E_FORMAT, "'v' is said to be in shard 'a.safetensors'",
                 "is in 'b.safetensors'");
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\",\"u\":\"b.safetensors\"}}");
    folder_gives(&f, SLM_E_FORMAT, "'u' is said to be in shard 'b.safetensors'",
                 "does not hold it");
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\",\"x\":\"b.safetensors\"}}");
    folder_gives(&f, SLM_E_FORMAT, "'v' is in shard 'b.safetensors', but not in the index", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"c.safetensors\"}}");
    folder_gives(&f, SLM_E_NOTFOUND, "shard 'c.safetensors' is missing", "number 2 of 2");
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"b.safetensors\",\"w\":\"b."
                   "safetensors\"}}");
    folder_gives(&f, SLM_E_FORMAT, "'w' twice", "'b.safetensors'");
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"b.safetensors\"},\"more\":1}");
    folder_gives(&f, SLM_E_FORMAT, "unknown field 'more'", INDEX);
    f = two_shards("{\"weight_map\":{}}");
    folder_gives(&f, SLM_E_FORMAT, "weight_map is empty", INDEX);
    f = two_shards("{\"metadata\":{}}");
    folder_gives(&f, SLM_E_FORMAT, "no weight_map", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":3}}");
    folder_gives(&f, SLM_E_FORMAT, "'w' is not a file name", INDEX);
    f = two_shards("{\"weight_map\":");
    folder_gives(&f, SLM_E_FORMAT, "JSON", INDEX);
    f = two_shards("");
    folder_gives(&f, SLM_E_FORMAT, "JSON", INDEX);

    f = two_shards("[]");
    folder_gives(&f, SLM_E_FORMAT, "the index is not an object", INDEX);
    f = two_shards("{\"weight_map\":[]}");
    folder_gives(&f, SLM_E_FORMAT, "weight_map is not an object", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\"},\"weight_map\":{}}");
    folder_gives(&f, SLM_E_FORMAT, "weight_map occurs twice", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\" \"v\"");
    folder_gives(&f, SLM_E_FORMAT, "JSON", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\"} \"v\"");
    folder_gives(&f, SLM_E_FORMAT, "JSON", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\"}} x");
    folder_gives(&f, SLM_E_FORMAT, "JSON", INDEX);
    f = two_shards("{\"weight_map\":{\"w\\u0007\":\"a.safetensors\"}}");
    folder_gives(&f, SLM_E_FORMAT, "tensor name holds a control character: 2 bytes", INDEX);
    f = two_shards("{\"weight_map\":{\"w\":\"a.safetensors\"}}");
    folder_gives(&f, SLM_OK, NULL, NULL); /* other files in the folder are none of its business */
    f = (struct folder){ 0 };
    put_text_file(&f, INDEX, "{\"weight_map\":{\"w\":\"a.safetensors\"}}");
    put_text_file(&f, "a.safetensors", "short");
    folder_gives(&f, SLM_E_FORMAT, "a.safetensors: 8 bytes wanted, 5 left", NULL);
    f = (struct folder){ 0 };
    put_text_file(&f, INDEX, "{\"weight_map\":{\"w\":\"a.safetensors\"}}");
    put_text_file(&f, "a.safetensors", "\1\0\0\0\0\0\0\0");
    f.images[1].n = 0; /* a header of one byte that is no object */
    img_bytes(&f.images[1], "\1\0\0\0\0\0\0\0[]", 10);
    f.files[1] = (struct slm_memory_file){ "a.safetensors", f.images[1].data, 10 };
    folder_gives(&f, SLM_E_FORMAT, "the header of 1 bytes does not begin with '{'", NULL);

    static const char *const paths[] = {
        "../a.safetensors", "/etc/passwd", "x/a.safetensors", "..", ".", "", "a..b",
        "x\\\\y",           "a\\u0000b"
    };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char index[256];
        snprintf(index, sizeof index, "{\"weight_map\":{\"w\":\"%s\"}}", paths[i]);
        f = two_shards(index);
        folder_gives(&f, SLM_E_FORMAT, "shard name", NULL);
    }
    /* a shard that is broken is named */
    f = (struct folder){ 0 };
    put_text_file(&f, INDEX, "{\"weight_map\":{\"w\":\"a.safetensors\"}}");
    put_weights(&f, "a.safetensors", "{" W "}", 7);
    folder_gives(&f, SLM_E_FORMAT, "a.safetensors: tensor 'w' ends at data byte 8", "7 bytes");
    /* one tensor in two shards */
    f = (struct folder){ 0 };
    put_text_file(&f, INDEX, "{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"b.safetensors\"}}");
    put_weights(&f, "a.safetensors", "{" W "}", 8);
    put_weights(&f, "b.safetensors",
                "{" V ",\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8);
    folder_gives(&f, SLM_E_FORMAT, "'w' occurs twice", "'b.safetensors'");
}

static void too_many_shards(void **state) {
    (void)state;
    struct image g = { 0 };
    img_bytes(&g, "{\"weight_map\":{", 15);
    for (int i = 0; i <= MAX_SHARDS; i++) {
        char entry[64];
        int n = snprintf(entry, sizeof entry, "%s\"t%d\":\"s%d\"", i ? "," : "", i, i);
        img_bytes(&g, entry, (size_t)n);
    }
    img_bytes(&g, "}}", 2);
    struct slm_memory_file files[] = { { INDEX, g.data, g.n }, { "other", "", 0 } };
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(NULL, files, 2, &t, &why);
    expect(err, t, &why, SLM_E_UNSUPPORTED, "1025 shards", "at most 1024");
    img_free(&g);
}

/* Counts just above what is read, in a file and in an index. */
static void too_many_tensors(void **state) {
    (void)state;
    struct image json = { 0 }, index = { 0 };
    img_bytes(&index, "{\"weight_map\":", 14);
    for (int i = 0; i <= MAX_TENSORS; i++) {
        char entry[96];
        int n = snprintf(entry, sizeof entry,
                         "%c\"%x\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                         i ? ',' : '{', i, 2 * i, 2 * i + 2);
        img_bytes(&json, entry, (size_t)n);
        n = snprintf(entry, sizeof entry, "%c\"%x\":\"a\"", i ? ',' : '{', i);
        img_bytes(&index, entry, (size_t)n);
    }
    img_bytes(&json, "}", 2);
    img_bytes(&index, "}}", 2);
    refused((const char *)json.data, (size_t)2 * MAX_TENSORS + 2, SLM_E_UNSUPPORTED,
            "65537 tensors", "at most 65536");
    struct slm_memory_file files[] = { { INDEX, index.data, index.n }, { "a", "", 0 } };
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(NULL, files, 2, &t, &why);
    expect(err, t, &why, SLM_E_UNSUPPORTED, "65537 tensors", "at most 65536");
    img_free(&json);
    img_free(&index);
    char *large = calloc(100000001, 1);
    assert_non_null(large);
    files[0] = (struct slm_memory_file){ INDEX, large, 100000001 };
    err = tensors_open_memory(NULL, files, 2, &t, &why);
    expect(err, t, &why, SLM_E_UNSUPPORTED, "index of 100000001 bytes", "at most 100000000");
    free(large);
}

static void folders(void **state) {
    (void)state;
    struct folder f = { 0 };
    put_text_file(&f, "config.json", "{}");
    put_text_file(&f, "other.txt", "");
    folder_gives(&f, SLM_E_NOTFOUND, "model.safetensors", INDEX);
    put_text_file(&f, "config.json", "{}");
    put_text_file(&f, "pytorch_model.bin", "PK");
    folder_gives(&f, SLM_E_UNSUPPORTED, "pytorch_model.bin", "pickles can run code");
    /* both: the single file is read */
    f = two_shards("no index at all");
    put_weights(&f, "model.safetensors", "{" W "}", 8);
    folder_gives(&f, SLM_OK, NULL, NULL);
    /* a GGUF among other files of memory */
    struct image g = img_sample();
    struct slm_memory_file files[] = { { "config.json", "{}", 2 }, { "x.gguf", g.data, g.n } };
    struct tensors *t;
    slm_why why;
    assert_int_equal(tensors_open_memory(NULL, files, 2, &t, &why), SLM_OK);
    assert_non_null(t->gguf);
    tensors_close(t);
    img_free(&g);
    assert_int_equal(tensors_open_memory(NULL, files, 0, &t, &why), SLM_E_ARG);
}

/* ---- the twins ---- */

static void twins(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t n_files;
    } cases[] = { { "gemma-3-270m-it", 1 },        { "qwen3-0.6b", 1 },    { "smollm3-3b", 1 },
                  { "qwen3-4b-instruct-2507", 2 }, { "gemma-3-4b-it", 1 }, { "jan-v1-4b", 1 },
                  { "phi-4-mini-instruct", 1 } };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char rel[256], path[1024];
        snprintf(rel, sizeof rel, "golden/%s", cases[i].name);
        assert_non_null(data_path(path, sizeof path, rel));
        struct tensors *t;
        slm_why why;
        slm_err err = tensors_open(NULL, path, &t, &why);
        if (err != SLM_OK)
            print_error("%s\n", why.message);
        assert_int_equal(err, SLM_OK);
        assert_int_equal(t->n_files, cases[i].n_files);
        struct slm_memory_file files[2];
        for (uint32_t k = 0; k < t->n_files; k++)
            files[k] = (struct slm_memory_file){ "x", t->files[k].map.data, t->files[k].map.size };
        assert_true(image_sound(t, files, t->n_files));
        uint64_t sum = 0, all = 0;
        for (uint32_t k = 0; k < t->n; k++) {
            assert_int_equal(t->list[k].dtype, DT_BF16);
            sum += t->list[k].size;
        }
        for (uint32_t k = 0; k < t->n_files; k++)
            all +=
                t->files[k].map.size - 8 - t->files[k].map.data[0] - 256u * t->files[k].map.data[1];
        assert_int_equal(sum, all); /* headers are shorter than 64 KiB */
        tensors_close(t);
        /* goldens: a file of its own, float32 */
        snprintf(rel, sizeof rel, "golden/%s/golden.safetensors", cases[i].name);
        assert_non_null(data_path(path, sizeof path, rel));
        assert_int_equal(tensors_open(NULL, path, &t, &why), SLM_OK);
        const struct tensor_info *x = tensors_find(t, "p7.logits");
        assert_non_null(x);
        assert_int_equal(x->dims[0], 7);
        for (uint64_t k = 0; k < x->size / 4; k++) {
            float f;
            memcpy(&f, x->data + 4 * k, 4);
            assert_true(isfinite(f));
        }
        tensors_close(t);
        /* rope tables hold integers: refused as weights, read as numbers */
        snprintf(rel, sizeof rel, "golden/%s/rope_full_size.safetensors", cases[i].name);
        assert_non_null(data_path(path, sizeof path, rel));
        assert_int_equal(tensors_open(NULL, path, &t, &why), SLM_E_UNSUPPORTED);
        assert_non_null(
            strstr(why.message, "rope_full_size.safetensors: tensor 'positions' has type I32"));
        assert_int_equal(tensors_open_numbers(NULL, path, &t, &why), SLM_OK);
        x = tensors_find(t, "positions");
        assert_string_equal(dtype_info((uint32_t)x->dtype)->name, "I32");
        assert_int_equal(x->size, 4 * x->dims[0]);
        tensors_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound),
        cmocka_unit_test(element_types),
        cmocka_unit_test(entries),
        cmocka_unit_test(headers),
        cmocka_unit_test(offsets),
        cmocka_unit_test(long_header),
        cmocka_unit_test(shards),
        cmocka_unit_test(too_many_shards),
        cmocka_unit_test(too_many_tensors),
        cmocka_unit_test(folders),
        cmocka_unit_test(twins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
