/* test_format_gguf.c - the GGUF reader on files made for one purpose each, and on the twins. */
#include <inttypes.h>

#include "base/err.h"
#include "format_image.h"
#include "support.h"

/* after the rest: cmocka has a macro named fail */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static slm_err open_image(const struct image *g, struct tensors **t, slm_why *why) {
    struct slm_memory_file file = { "x.gguf", g->data, g->n };
    memset(why, 0, sizeof *why);
    return tensors_open_memory(NULL, &file, 1, t, why);
}

/* The image is refused with this code, at this byte, and the message has each of the words. */
static void refused_at(struct image *g, slm_err code, uint64_t offset, const char *a, const char *b,
                       const char *c) {
    struct tensors *t;
    slm_why why;
    slm_err err = open_image(g, &t, &why);
    const char *words[] = { "x.gguf: ", a, b, c };
    bool all = true;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        all = all && (words[i] == NULL || strstr(why.message, words[i]) != NULL);
    if (err != code || !all || (offset != SLM_NO_OFFSET && why.offset != offset))
        print_error("%s at %" PRIu64 ": %s\n", err_name(err), why.offset, why.message);
    assert_int_equal(err, code);
    assert_true(all);
    if (offset != SLM_NO_OFFSET)
        assert_int_equal(why.offset, offset);
    assert_null(t);
    img_free(g);
}

/* A file of one tensor "w"; data [n]. */
static struct image one_tensor(uint32_t type, uint64_t d0, uint64_t d1, uint64_t offset,
                               size_t n_data) {
    struct image g = { 0 };
    img_head(&g, 3, 1, 0);
    img_tensor(&g, "w", type, offset, d0, d1);
    img_pad(&g, 32);
    img_fill(&g, n_data);
    return g;
}

/* ---- header ---- */

static void versions(void **state) {
    (void)state;
    struct image g = img_sample();
    struct tensors *t;
    slm_why why;
    g.data[4] = 2;
    assert_int_equal(open_image(&g, &t, &why), SLM_OK);
    assert_int_equal(gguf_version(t->gguf), 2);
    tensors_close(t);
    g.data[4] = 1;
    refused_at(&g, SLM_E_UNSUPPORTED, 4, "version 1", "2 and 3", NULL);
    g = img_sample();
    g.data[4] = 4;
    refused_at(&g, SLM_E_UNSUPPORTED, 4, "version 4", "2 and 3", NULL);
    g = img_sample();
    g.data[4] = 0;
    refused_at(&g, SLM_E_UNSUPPORTED, 4, "version 0", "2 and 3", NULL);
    g = img_sample();
    g.data[4] = 0;
    g.data[7] = 3;
    refused_at(&g, SLM_E_UNSUPPORTED, 4, "big-endian", "0x03000000", NULL);
}

static void counts(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 10, 0);
    img_fill(&g, 329);
    refused_at(&g, SLM_E_FORMAT, 8, "10 tensors", "329 bytes", NULL);
    img_head(&g, 3, 0, 25);
    img_fill(&g, 349);
    refused_at(&g, SLM_E_FORMAT, 16, "25 metadata", "349 bytes", NULL);
    /* possible in the bytes, but more than is read */
    img_head(&g, 3, 65537, 0);
    img_fill(&g, 65537 * 33);
    refused_at(&g, SLM_E_UNSUPPORTED, 8, "65537 tensors", "65536", NULL);
    img_head(&g, 3, 0, 65537);
    img_fill(&g, 65537 * 14);
    refused_at(&g, SLM_E_UNSUPPORTED, 16, "65537 metadata", "65536", NULL);
}

static void no_tensors_is_fine(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 0, 1);
    img_kv_str(&g, "general.architecture",
               "x"); /* a vocabulary alone, without padding at the end */
    struct tensors *t;
    slm_why why;
    assert_int_equal(open_image(&g, &t, &why), SLM_OK);
    assert_int_equal(t->n, 0);
    assert_int_equal(gguf_count(t->gguf), 1);
    assert_null(tensors_find(t, "w"));
    tensors_close(t);
    img_free(&g);
}

/* ---- metadata ---- */

static void names_of_keys(void **state) {
    (void)state;
    char longest[257];
    memset(longest, 'k', 256);
    longest[256] = '\0';
    struct image g = { 0 };
    img_head(&g, 3, 0, 1);
    img_kv_u32(&g, longest, 1);
    refused_at(&g, SLM_E_UNSUPPORTED, 24, "key is too long", "256 bytes", "255");
    longest[255] = '\0';
    img_head(&g, 3, 0, 1);
    img_kv_u32(&g, longest, 1);
    struct tensors *t;
    slm_why why;
    assert_int_equal(open_image(&g, &t, &why), SLM_OK);
    assert_non_null(gguf_find(t->gguf, longest));
    tensors_close(t);
    img_free(&g);
    static const char *const bad[][2] = { { "", "is empty" },
                                          { "a\nb", "control" },
                                          { "a\x7f", "control" },
                                          { "\xff", "UTF-8" },
                                          { "\xc2\x9b", "control" } };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        img_head(&g, 3, 0, 1);
        img_kv_u32(&g, bad[i][0], 1);
        img_fill(&g, 8);
        refused_at(&g, SLM_E_FORMAT, 24, bad[i][1], "255", NULL);
    }
    img_head(&g, 3, 0, 2);
    img_kv_u32(&g, "twice", 1); /* value at 24+8+5+4 = 41 */
    img_kv_u32(&g, "twice", 2); /* at 45+8+5+4 = 62 */
    refused_at(&g, SLM_E_FORMAT, 62, "'twice' occurs twice", "41", "62");
}

static void values_refused(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 0, 1);
    img_kv(&g, "k", (enum gguf_type)13);
    img_fill(&g, 8);
    refused_at(&g, SLM_E_FORMAT, 33, "type 13", "12", NULL);
    img_head(&g, 3, 0, 1);
    img_array(&g, "k", GGUF_ARRAY, 1);
    img_fill(&g, 20);
    refused_at(&g, SLM_E_UNSUPPORTED, 37, "array of arrays", NULL, NULL);
    img_head(&g, 3, 0, 1);
    img_array(&g, "k", (enum gguf_type)99, 1);
    refused_at(&g, SLM_E_FORMAT, 37, "items of type 99", "12", NULL);
    img_head(&g, 3, 0, 1);
    img_array(&g, "k", GGUF_U16, 5);
    img_fill(&g, 9);
    refused_at(&g, SLM_E_FORMAT, 41, "5 array items", "9 bytes", NULL);
    img_head(&g, 3, 0, 1);
    img_kv(&g, "k", GGUF_STRING);
    img_le(&g, 11, 8);
    img_fill(&g, 10);
    refused_at(&g, SLM_E_FORMAT, 37, "string value of 11 bytes", "10 left", NULL);
    img_head(&g, 3, 0, 1);
    img_array(&g, "k", GGUF_STRING, 2);
    img_text(&g, "abc");
    img_le(&g, UINT64_MAX, 8);
    img_fill(&g, 4);
    refused_at(&g, SLM_E_FORMAT, 60, "string 1 of 18446744073709551615 bytes", "4 left", NULL);
    img_head(&g, 3, 0, 1);
    img_kv(&g, "k", GGUF_BOOL);
    img_le(&g, 2, 1);
    refused_at(&g, SLM_E_FORMAT, 37, "bool is 2", "0 or 1", NULL);
    img_head(&g, 3, 0, 1);
    img_array(&g, "k", GGUF_BOOL, 3);
    img_le(&g, 0x070001, 3);
    refused_at(&g, SLM_E_FORMAT, 51, "bool is 7", "0 or 1", NULL);
}

static void alignments(void **state) {
    (void)state;
    static const uint32_t bad[] = { 0, 1, 4, 7, 12, 131072, 1u << 31, UINT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct image g = { 0 };
        char number[32];
        snprintf(number, sizeof number, "is %" PRIu32 ",", bad[i]);
        img_head(&g, 3, 0, 1);
        img_kv_u32(&g, "general.alignment", bad[i]);
        refused_at(&g, SLM_E_FORMAT, 53, number, "8 to 65536", NULL);
    }
    for (uint32_t a = 8; a <= 65536; a *= 2) {
        struct image g = { 0 };
        img_head(&g, 3, 1, 1);
        img_kv_u32(&g, "general.alignment", a);
        img_tensor(&g, "w", DT_F32, a, 2, 0);
        img_pad(&g, a);
        size_t start = g.n;
        img_fill(&g, a + 8);
        struct tensors *t;
        slm_why why;
        assert_int_equal(open_image(&g, &t, &why), SLM_OK);
        assert_int_equal(gguf_alignment(t->gguf), a);
        assert_int_equal(t->list[0].offset, start + a);
        assert_ptr_equal(t->list[0].data, g.data + start + a);
        tensors_close(t);
        img_free(&g);
    }
    struct image g = { 0 };
    img_head(&g, 3, 0, 1);
    img_kv_str(&g, "general.alignment", "32");
    refused_at(&g, SLM_E_FORMAT, SLM_NO_OFFSET, "general.alignment", "string", "whole number");
}

static void parts_of_split_files(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 0, 2);
    img_kv_u32(&g, "split.no", 1);
    img_kv_u32(&g, "split.count", 3);
    refused_at(&g, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "part 2 of 3", "join", NULL);
}

static void typed_access(void **state) {
    (void)state;
    struct image g = { 0 };
    const struct {
        const char *key;
        enum gguf_type type;
        uint64_t bits;
        size_t n;
    } kv[] = {
        { "u8", GGUF_U8, 200, 1 },
        { "i8", GGUF_I8, 0x80, 1 },
        { "u16", GGUF_U16, 65535, 2 },
        { "i16", GGUF_I16, 0x7fff, 2 },
        { "u32", GGUF_U32, UINT32_MAX, 4 },
        { "i32", GGUF_I32, 0xffffffff, 4 },
        { "u64", GGUF_U64, 1u << 31, 8 },
        { "u64big", GGUF_U64, (uint64_t)1 << 32, 8 },
        { "i64", GGUF_I64, 5, 8 },
        { "i64min", GGUF_I64, (uint64_t)1 << 63, 8 },
        { "f32", GGUF_F32, 0x3fc00000, 4 },
        { "nan", GGUF_F32, 0x7fc00000, 4 },
        { "f64", GGUF_F64, 0x3ff8000000000000, 8 },
        { "f64big", GGUF_F64, 0x7fe0000000000000, 8 },
        { "yes", GGUF_BOOL, 1, 1 },
        { "no", GGUF_BOOL, 0, 1 },
    };
    img_head(&g, 3, 0, ARRAY_LEN(kv) + 2);
    for (size_t i = 0; i < ARRAY_LEN(kv); i++) {
        img_kv(&g, kv[i].key, kv[i].type);
        img_le(&g, kv[i].bits, kv[i].n);
    }
    img_kv_str(&g, "str", "hello");
    img_array(&g, "arr", GGUF_I64, 2);
    img_le(&g, (uint64_t)-7, 8);
    img_le(&g, 9, 8);
    struct tensors *t;
    slm_why why, detail = { 0 };
    assert_int_equal(open_image(&g, &t, &why), SLM_OK);
    const struct gguf *m = t->gguf;
    const struct {
        const char *key;
        bool ok;
        uint32_t value;
        const char *message;
    } whole[] = {
        { "u8", true, 200, NULL },
        { "u16", true, 65535, NULL },
        { "i16", true, 32767, NULL },
        { "u32", true, UINT32_MAX, NULL },
        { "u64", true, 1u << 31, NULL },
        { "i64", true, 5, NULL },
        { "i8", false, 0, "'i8' is -128, not from 0 to 4294967295" },
        { "i32", false, 0, "'i32' is -1, not from 0 to 4294967295" },
        { "u64big", false, 0, "'u64big' is 4294967296, not from 0 to 4294967295" },
        { "i64min", false, 0, "'i64min' is -9223372036854775808, not" },
        { "f32", false, 0, "'f32' is of type f32, a whole number" },
        { "yes", false, 0, "'yes' is of type bool, a whole number" },
        { "str", false, 0, "'str' is of type string, a whole number" },
        { "arr", false, 0, "'arr' is of type array, a whole number" },
    };
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        uint32_t v = 12345;
        slm_err err = SLM_OK;
        assert_int_equal(gguf_u32(m, whole[i].key, &v, &err, &detail), whole[i].ok);
        assert_int_equal(v, whole[i].ok ? whole[i].value : 12345);
        assert_int_equal(err, whole[i].ok ? SLM_OK : SLM_E_FORMAT);
        if (!whole[i].ok)
            assert_non_null(strstr(detail.message, whole[i].message));
    }
    slm_err err = SLM_OK;
    uint32_t u = 3;
    float f = 0;
    bool b = false;
    const char *s;
    size_t n;
    assert_false(gguf_u32(m, "absent", &u, &err, &detail));
    assert_true(gguf_f32(m, "f32", &f, &err, &detail) && f == 1.5f);
    assert_true(gguf_f32(m, "f64", &f, &err, &detail) && f == 1.5f);
    assert_true(gguf_bool(m, "yes", &b, &err, &detail) && b);
    assert_true(gguf_bool(m, "no", &b, &err, &detail) && !b);
    assert_true(gguf_str(m, "str", &s, &n, &err, &detail) && n == 5 && memcmp(s, "hello", 5) == 0);
    assert_int_equal(err, SLM_OK);
    assert_false(gguf_f32(m, "nan", &f, &err, &detail));
    assert_int_equal(err, SLM_E_FORMAT);
    err = SLM_OK;
    assert_false(gguf_f32(m, "f64big", &f, &err, &detail));
    assert_int_equal(err, SLM_E_FORMAT);
    err = SLM_OK;
    assert_false(gguf_bool(m, "u8", &b, &err, &detail));
    assert_non_null(strstr(detail.message, "'u8' is of type u8, a bool"));
    /* the first error is kept */
    assert_false(gguf_str(m, "u8", &s, &n, &err, &detail));
    assert_non_null(strstr(detail.message, "a bool"));
    err = SLM_OK;
    assert_false(gguf_f32(m, "u8", &f, &err, &detail));
    assert_non_null(strstr(detail.message, "'u8' is of type u8, a floating-point"));
    err = SLM_OK;
    assert_false(gguf_f32(m, "absent", &f, &err, NULL));
    assert_false(gguf_bool(m, "absent", &b, &err, NULL));
    assert_false(gguf_str(m, "absent", &s, &n, &err, NULL));
    assert_int_equal(err, SLM_OK);
    uint64_t cursor = 0;
    assert_false(gguf_next_str(gguf_find(m, "u8"), &cursor, &s, &n));
    assert_false(gguf_next_str(gguf_find(m, "arr"), &cursor, &s, &n));
    assert_null(gguf_at(m, gguf_count(m)));
    assert_string_equal(gguf_type_name(GGUF_STRING), "string");
    assert_string_equal(gguf_type_name((enum gguf_type)13), "unknown");
    const struct gguf_value *arr = gguf_find(m, "arr");
    assert_int_equal(arr->count, 2);
    assert_int_equal(gguf_item_int(arr, 0), -7);
    assert_int_equal(gguf_item_int(arr, 1), 9);
    tensors_close(t);
    img_free(&g);
}

/* ---- tensors ---- */

static void every_type(void **state) {
    (void)state;
    size_t read = 0;
    for (uint32_t id = 0; id < 80; id++) {
        const struct dtype_info *type = dtype_info(id);
        if (!dtype_supported(id)) {
            struct image g = one_tensor(id, 256, 2, 0, 4096);
            char number[16];
            snprintf(number, sizeof number, "%" PRIu32, id);
            /* head 24, name 9, n_dims 4, dims 16: the type stands at 53 */
            refused_at(&g, SLM_E_UNSUPPORTED, 53, type->name != NULL ? type->name : "type", number,
                       "'w'");
            continue;
        }
        read++;
        size_t bytes = 3 * (512 / type->block) * type->block_bytes;
        struct image g = one_tensor(id, 512, 3, 0, bytes);
        struct tensors *t;
        slm_why why;
        assert_int_equal(open_image(&g, &t, &why), SLM_OK);
        const struct tensor_info *x = tensors_find(t, "w");
        assert_int_equal(x->dtype, id);
        assert_int_equal(x->size, bytes);
        assert_int_equal(x->n_dims, 2);
        assert_int_equal(x->dims[0], 3); /* turned round */
        assert_int_equal(x->dims[1], 512);
        tensors_close(t);
        img_free(&g);
        if (type->block > 1) {
            char cols[16], block[16];
            snprintf(cols, sizeof cols, "%u", type->block + 8);
            snprintf(block, sizeof block, "%u", type->block);
            g = one_tensor(id, type->block + 8, 1, 0, 4096);
            refused_at(&g, SLM_E_FORMAT, SLM_NO_OFFSET, type->name, cols, block);
        }
    }
    assert_int_equal(read, 15);
}

static void types_by_name(void **state) {
    (void)state;
    static const struct {
        uint32_t id;
        const char *name;
    } types[] = { { 34, "TQ1_0" }, { 35, "TQ2_0" }, { 16, "IQ2_XXS" },
                  { 19, "IQ1_S" }, { 39, "MXFP4" }, { 31, "Q4_0_4_4" },
                  { 9, "Q8_1" },   { 27, "I64" },   { 4, "Q4_2" } };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct image g = one_tensor(types[i].id, 256, 2, 0, 4096);
        refused_at(&g, SLM_E_UNSUPPORTED, 53, types[i].name, "'w'", NULL);
    }
}

static void shapes_and_places(void **state) {
    (void)state;
    struct image g = one_tensor(DT_F32, 4, 0, 0, 16);
    g.data[33] = 0; /* n_dims at 24 + 9 */
    refused_at(&g, SLM_E_FORMAT, 33, "0 dimensions", "1 to 4", NULL);
    g = one_tensor(DT_F32, 4, 0, 0, 16);
    g.data[33] = 5;
    refused_at(&g, SLM_E_FORMAT, 33, "5 dimensions", "1 to 4", NULL);
    g = one_tensor(DT_F32, 4, 2, 0, 32);
    memset(g.data + 45, 0, 8);
    refused_at(&g, SLM_E_FORMAT, 45, "dimension 1 is 0", "at least 1", NULL);
    g = one_tensor(DT_F32, (uint64_t)1 << 33, (uint64_t)1 << 33, 0, 32);
    refused_at(&g, SLM_E_FORMAT, SLM_NO_OFFSET, "8589934592", "64 bits", NULL);
    g = one_tensor(DT_F32, (uint64_t)1 << 62, 0, 0, 32);
    refused_at(&g, SLM_E_FORMAT, SLM_NO_OFFSET, "4611686018427387904", "64 bits", NULL);
    g = one_tensor(DT_F32, 4, 2, 0, 31);
    refused_at(&g, SLM_E_FORMAT, 57, "needs 32 bytes at data offset 0", "31 bytes", "complete");
    g = one_tensor(DT_F32, 4, 2, 32, 63);
    refused_at(&g, SLM_E_FORMAT, 57, "needs 32 bytes at data offset 32", "63 bytes", NULL);
    g = one_tensor(DT_F32, 4, 2, 64, 32);
    refused_at(&g, SLM_E_FORMAT, 57, "data offset 64", "32 bytes", NULL);
    g = one_tensor(DT_F32, 4, 2, 16, 64);
    refused_at(&g, SLM_E_FORMAT, 57, "offset 16", "multiple of 32", NULL);
    g = one_tensor(DT_F32, 4, 2, UINT64_MAX - 31,
                   64); /* start + offset + size would wrap to inside */
    refused_at(&g, SLM_E_FORMAT, 57, "18446744073709551584", "64 bytes", NULL);
    g = one_tensor(DT_F32, 4, 2, 0, 0);
    g.n = 65; /* not even the padding is there */
    refused_at(&g, SLM_E_FORMAT, 57, "starts at byte 96", "has 65", NULL);
}

static void tensors_against_each_other(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 2, 0);
    img_tensor(&g, "a", DT_F32, 32, 8, 0);
    img_tensor(&g, "b", DT_F32, 0, 9, 0); /* 36 bytes: four into a */
    img_pad(&g, 32);
    img_fill(&g, 64);
    refused_at(&g, SLM_E_FORMAT, 128, "'a' begins at byte 128", "'b'", "132");
    img_head(&g, 3, 2, 0);
    img_tensor(&g, "a", DT_F32, 0, 8, 0);
    img_tensor(&g, "b", DT_F32, 0, 8, 0);
    img_pad(&g, 32);
    img_fill(&g, 64);
    refused_at(&g, SLM_E_FORMAT, 96, "begins at byte 96", "inside", "128");
    img_head(&g, 3, 2, 0);
    img_tensor(&g, "a", DT_F32, 0, 8, 0);
    img_tensor(&g, "a", DT_F32, 32, 8, 0);
    img_pad(&g, 32);
    img_fill(&g, 64);
    refused_at(&g, SLM_E_FORMAT, 128, "'a' occurs twice", "96", "128");
}

/* One byte, one block, one dimension too much: where checks are off by one, it shows here. */
static void by_the_smallest_step(void **state) {
    (void)state;
    struct image g = { 0 };
    img_head(&g, 3, 2, 0);
    img_tensor(&g, "a", DT_Q8_0, 0, 32, 0); /* 34 bytes, two into b */
    img_tensor(&g, "b", DT_F32, 32, 8, 0);
    img_pad(&g, 32);
    img_fill(&g, 64);
    refused_at(&g, SLM_E_FORMAT, 128, "'b' begins at byte 128", "inside 'a'", "130");
    for (int last = 0; last < 2; last++) {
        img_head(&g, 3, 0, 1);
        img_array(&g, "k", GGUF_STRING, last ? 1 : 2);
        img_le(&g, 9, 8);
        img_fill(&g, 8);
        refused_at(&g, SLM_E_FORMAT, 49, "string 0 of 9 bytes", "8 left", NULL);
    }
    /* rows that multiply to 2^64, that is to 0 */
    img_head(&g, 3, 1, 0);
    img_text(&g, "w");
    img_le(&g, 3, 4);
    img_le(&g, 4, 8);
    img_le(&g, (uint64_t)1 << 32, 8);
    img_le(&g, (uint64_t)1 << 32, 8);
    img_le(&g, DT_F32, 4);
    img_le(&g, 0, 8);
    img_pad(&g, 32);
    img_fill(&g, 64);
    refused_at(&g, SLM_E_FORMAT, SLM_NO_OFFSET, "4294967296", "64 bits", NULL);
}

static void names_of_tensors(void **state) {
    (void)state;
    static const char *const bad[] = { "", "a\x1b[2J", "\xc3\x28" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct image g = { 0 };
        img_head(&g, 3, 1, 0);
        img_tensor(&g, bad[i], DT_F32, 0, 8, 0);
        img_pad(&g, 32);
        img_fill(&g, 32);
        refused_at(&g, SLM_E_FORMAT, 24, "tensor name", "255", NULL);
    }
    char longest[257];
    memset(longest, 'n', 256);
    longest[256] = '\0';
    struct image g = { 0 };
    img_head(&g, 3, 1, 0);
    img_tensor(&g, longest, DT_F32, 0, 8, 0);
    img_pad(&g, 32);
    img_fill(&g, 32);
    refused_at(&g, SLM_E_UNSUPPORTED, 24, "is too long", "256 bytes", "255");
}

/* ---- what else is found where a model should be ---- */

static void strangers(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        slm_err code;
        const char *word;
    } cases[] = {
        { "PK\x03\x04 and so on", 14, SLM_E_UNSUPPORTED, "pickles can run code" },
        { "\x80\x02}q\x01", 5, SLM_E_UNSUPPORTED, "pickles can run code" },
        { "tjgg\x01\0\0\0", 8, SLM_E_UNSUPPORTED, "GGJT" },
        { "\x93NUMPY\x01\0", 8, SLM_E_UNSUPPORTED, "NumPy" },
        { "version https://git-lfs.github.com/spec/v1\n", 43, SLM_E_FORMAT, "Git LFS pointer" },
        { "<!DOCTYPE html>", 15, SLM_E_FORMAT, "web page" },
        { "{\"weight_map\":{}}", 17, SLM_E_UNSUPPORTED, "give the folder" },
        { "GGU", 3, SLM_E_FORMAT, "3 bytes that begin with 47 47 55" },
        { "", 0, SLM_E_FORMAT, "0 bytes that begin with nothing" },
        { "some text that is no model", 26, SLM_E_FORMAT, "26 bytes that begin with 73 6f" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct image g = { 0 };
        img_bytes(&g, cases[i].bytes, cases[i].n);
        refused_at(&g, cases[i].code, 0, cases[i].word, NULL, NULL);
    }
}

/* ---- the twins ---- */

static void twins(void **state) {
    (void)state;
    static const struct {
        const char *file;
        uint32_t n, alignment;
        enum dtype embed;
        uint32_t key_length;
    } cases[] = {
        { "qwen3/qwen3-f32.gguf", 24, 32, DT_F32, 64 },
        { "qwen3/qwen3-f16.gguf", 24, 64, DT_F16, 64 },
        { "qwen3/qwen3-q8_0.gguf", 24, 32, DT_Q8_0, 64 },
        { "qwen3/qwen3-q4_0.gguf", 24, 32, DT_Q4_0, 64 },
        { "qwen3/qwen3-q4_k.gguf", 24, 32, DT_Q4_K, 64 },
        { "qwen3/qwen3-q6_k.gguf", 24, 32, DT_Q6_K, 64 },
        { "smollm3/smollm3-f16.gguf", 38, 64, DT_F16, 0 },
        { "smollm3/smollm3-q8_0.gguf", 38, 32, DT_Q8_0, 0 },
        { "smollm3/smollm3-q4_0.gguf", 38, 32, DT_Q4_0, 0 },
        { "smollm3/smollm3-q4_k.gguf", 38, 32, DT_Q4_K, 0 },
        { "smollm3/smollm3-q6_k.gguf", 38, 32, DT_Q6_K, 0 },
        { "smollm3/smollm3-mixed.gguf", 38, 32, DT_Q6_K, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char rel[256], path[1024];
        snprintf(rel, sizeof rel, "golden/gguf/%s", cases[i].file);
        assert_non_null(data_path(path, sizeof path, rel));
        struct tensors *t;
        slm_why why;
        slm_err err = tensors_open(NULL, path, &t, &why);
        if (err != SLM_OK)
            print_error("%s\n", why.message);
        assert_int_equal(err, SLM_OK);
        struct slm_memory_file whole = { "x", t->files[0].map.data, t->files[0].map.size };
        assert_true(image_sound(t, &whole, 1));
        assert_int_equal(t->n, cases[i].n);
        assert_int_equal(gguf_alignment(t->gguf), cases[i].alignment);
        assert_string_equal(t->files[0].path, path);
        const struct tensor_info *x = tensors_find(t, "token_embd.weight");
        assert_int_equal(x->dtype, cases[i].embed);
        assert_int_equal(x->dims[0], 320);
        assert_int_equal(x->dims[1], 256);
        uint32_t v = 0;
        err = SLM_OK;
        assert_int_equal(gguf_u32(t->gguf, "qwen3.attention.key_length", &v, &err, &why),
                         cases[i].key_length != 0);
        assert_int_equal(v, cases[i].key_length);
        const struct gguf_value *tokens = gguf_find(t->gguf, "tokenizer.ggml.tokens");
        assert_int_equal(tokens->count, 320);
        assert_int_equal(gguf_find(t->gguf, "tokenizer.ggml.token_type")->count, 320);
        assert_int_equal(gguf_item_int(gguf_find(t->gguf, "tokenizer.ggml.token_type"), 0), 1);
        tensors_close(t);
    }
}

static void missing_file(void **state) {
    (void)state;
    struct tensors *t;
    slm_why why;
    assert_int_equal(tensors_open(NULL, "/nowhere/at/all.gguf", &t, &why), SLM_E_NOTFOUND);
    assert_non_null(strstr(why.message, "/nowhere/at/all.gguf"));
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions),
        cmocka_unit_test(counts),
        cmocka_unit_test(no_tensors_is_fine),
        cmocka_unit_test(names_of_keys),
        cmocka_unit_test(values_refused),
        cmocka_unit_test(alignments),
        cmocka_unit_test(parts_of_split_files),
        cmocka_unit_test(typed_access),
        cmocka_unit_test(every_type),
        cmocka_unit_test(types_by_name),
        cmocka_unit_test(shapes_and_places),
        cmocka_unit_test(tensors_against_each_other),
        cmocka_unit_test(by_the_smallest_step),
        cmocka_unit_test(names_of_tensors),
        cmocka_unit_test(strangers),
        cmocka_unit_test(twins),
        cmocka_unit_test(missing_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
