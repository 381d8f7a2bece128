/* test_base_dtype.c - the table of types, and float conversions over every half and every edge. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/dtype.h"

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void test_table(void **state) {
    (void)state;
    static const struct {
        int id;
        const char *name;
        uint32_t block, bytes;
    } rows[] = {
        { 0, "F32", 1, 4 },       { 1, "F16", 1, 2 },         { 2, "Q4_0", 32, 18 },
        { 3, "Q4_1", 32, 20 },    { 6, "Q5_0", 32, 22 },      { 7, "Q5_1", 32, 24 },
        { 8, "Q8_0", 32, 34 },    { 10, "Q2_K", 256, 84 },    { 11, "Q3_K", 256, 110 },
        { 12, "Q4_K", 256, 144 }, { 13, "Q5_K", 256, 176 },   { 14, "Q6_K", 256, 210 },
        { 20, "IQ4_NL", 32, 18 }, { 23, "IQ4_XS", 256, 136 }, { 30, "BF16", 1, 2 },
    };
    size_t supported = 0;
    for (uint32_t id = 0; id < 200; id++)
        supported += dtype_supported(id);
    assert_int_equal(supported, sizeof rows / sizeof rows[0]);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct dtype_info *info = dtype_info((uint32_t)rows[i].id);
        assert_string_equal(info->name, rows[i].name);
        assert_int_equal(info->block, rows[i].block);
        assert_int_equal(info->block_bytes, rows[i].bytes);
        assert_int_equal(dtype_by_name(rows[i].name), rows[i].id);
    }
    assert_int_equal(dtype_by_name("q4_k"), 12);
    assert_int_equal(dtype_by_name("bf16"), 30);
    assert_int_equal(dtype_by_name("Q4_KK"), -1);
    assert_int_equal(dtype_by_name("Q4"), -1);
    assert_int_equal(dtype_by_name(""), -1);
    assert_string_equal(dtype_info(16)->name, "IQ2_XXS"); /* by name only */
    assert_int_equal(dtype_info(16)->block, 0);
    assert_null(dtype_info(4)->name); /* removed from the format long ago */
    assert_null(dtype_info(UINT32_MAX)->name);
    assert_false(dtype_supported(UINT32_MAX));
}

static void test_row_bytes(void **state) {
    (void)state;
    size_t n = 5;
    assert_true(dtype_row_bytes(DT_Q4_K, 1024, &n) && n == 4 * 144);
    assert_true(dtype_row_bytes(DT_F32, 0, &n) && n == 0);
    n = 5;
    assert_false(dtype_row_bytes(DT_Q4_K, 1000, &n));
    assert_false(dtype_row_bytes(DT_F32, UINT64_MAX / 2, &n));
    assert_false(dtype_row_bytes((enum dtype)9, 256, &n));
    assert_false(dtype_row_bytes((enum dtype)63, 256, &n));
    assert_int_equal(n, 5);
}

static void test_half_up(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3ff;
        assert_int_equal(bits_of(f) >> 31, h >> 15);
        if (exponent == 31) {
            assert_true(fraction ? isnan(f) : isinf(f));
            uint32_t quiet = fraction ? h | 0x200 : h; /* a NaN comes back quiet */
            assert_int_equal(f32_to_f16(f), quiet);
            continue;
        }
        double value = exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24);
        assert_true(fabs((double)f) == value);
        assert_int_equal(f32_to_f16(f), h);
    }
}

/* The nearest half by search: halves of one sign are ordered like their bits. */
static uint16_t nearest_half(float f) {
    uint16_t sign = (uint16_t)(bits_of(f) >> 16 & 0x8000);
    double x = fabs((double)f);
    if (x >= 65520) /* halfway from the largest half to 2^16 */
        return sign | 0x7c00;
    uint32_t low = 0, high = 0x7bff;
    while (low < high) { /* largest half that is <= x */
        uint32_t mid = (low + high + 1) / 2;
        if ((double)f16_to_f32((uint16_t)mid) <= x)
            low = mid;
        else
            high = mid - 1;
    }
    if (low == 0x7bff)
        return (uint16_t)(sign | low);
    double below = x - (double)f16_to_f32((uint16_t)low);
    double above = (double)f16_to_f32((uint16_t)(low + 1)) - x;
    if (above < below || (above == below && (low & 1)))
        low++;
    return (uint16_t)(sign | low);
}

static void test_half_down(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) { /* around every half and every midpoint of two */
        uint32_t half = bits_of(f16_to_f32((uint16_t)h));
        uint32_t middle =
            bits_of((float)(((double)f16_to_f32((uint16_t)h) +
                             (h == 0x7bff ? 65536.0 : (double)f16_to_f32((uint16_t)(h + 1)))) /
                            2));
        for (uint32_t d = 0; d < 3; d++) {
            float a = float_of(half + d), b = float_of(middle - 1 + d);
            assert_int_equal(f32_to_f16(a), nearest_half(a));
            assert_int_equal(f32_to_f16(b), nearest_half(b));
            assert_int_equal(f32_to_f16(-b), nearest_half(-b));
        }
    }
    uint32_t seed = 12345;
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 1664525u + 1013904223u;
        float f = float_of(seed);
        if (!isnan(f))
            assert_int_equal(f32_to_f16(f), nearest_half(f));
    }
    assert_int_equal(f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(3.4e38f), 0x7c00);
    assert_int_equal(f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(f32_to_f16(0x1p-25f), 0); /* tie to even zero */
    assert_int_equal(f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(f32_to_f16(float_of(0x7f800001)) & 0x7e00, 0x7e00); /* stays a NaN */
}

static void test_bfloat(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        assert_int_equal(f32_to_bf16(f), isnan(f) ? (h | 0x40) : h);
        if (isnan(f) || isinf(f))
            continue;
        uint32_t next = h + 1; /* halfway: to the even one; a hair on either side: to the nearer */
        assert_int_equal(f32_to_bf16(float_of((h << 16) | 0x7fff)), h);
        assert_int_equal(f32_to_bf16(float_of((h << 16) | 0x8001)), next);
        assert_int_equal(f32_to_bf16(float_of((h << 16) | 0x8000)), h & 1 ? next : h);
    }
    assert_int_equal(f32_to_bf16(float_of(0x7f7fffff)), 0x7f80); /* the largest float: infinity */
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0x7f800001)))));
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0xffffffff)))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),   cmocka_unit_test(test_row_bytes),
        cmocka_unit_test(test_half_up), cmocka_unit_test(test_half_down),
        cmocka_unit_test(test_bfloat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
