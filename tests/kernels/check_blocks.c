/* check_blocks.c - weight blocks: decoding against a published decoder, quality of the writers.
 *
 * usage: check_blocks [--seed N]     the checks; prints its seed
 *        check_blocks --bench        speed of both directions, error of the writers
 * tests/data/blocks.txt holds blocks of random bits with their float32 values. The writers are held
 * to an error on Gaussian numbers (standard deviation 1) a little above what they reach, and to
 * reading back what they wrote. */
#include "checking.h"

#include "support.h"

/* rms: plain root mean square error allowed; again: the same between the first and the second pass
 * through writer and reader. rms of ggml's own writers, same numbers: 0.0859, 0.0783, 0.0427, 0.0379,
 * 0.00535, 0.296, 0.151, 0.0714, 0.0361, 0.0178, 0.0788, 0.0767 in the order below from Q4_0 on. */
static const struct quality {
    enum dtype type;
    double rms, again;
} qualities[] = {
    { DT_F16, 3.0e-4, 0 },       { DT_BF16, 2.4e-3, 0 },       { DT_Q4_0, 0.0835, 1e-6 },
    { DT_Q4_1, 0.0718, 1e-6 },   { DT_Q5_0, 0.0412, 1e-6 },    { DT_Q5_1, 0.0346, 1e-6 },
    { DT_Q8_0, 5.4e-3, 1e-6 },   { DT_Q2_K, 0.278, 0.012 },    { DT_Q3_K, 0.150, 0.002 },
    { DT_Q4_K, 0.0723, 0.004 },  { DT_Q5_K, 0.0355, 0.006 },   { DT_Q6_K, 0.0177, 0.0012 },
    { DT_IQ4_NL, 0.0756, 1e-6 }, { DT_IQ4_XS, 0.0761, 0.001 },
};
enum { N = 256 * 64 };

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One line of blocks.txt: every value of the block must have the bits that stand there. */
static void check_line(char *line) {
    char *save, *word = strtok_r(line, " ", &save);
    int type = dtype_by_name(word);
    assert_true(type >= 0);
    const struct dtype_info *info = dtype_info((uint32_t)type);
    struct guarded src = guarded_new(info->block_bytes, 1), out = guarded_new(4 * info->block, 4);
    word = strtok_r(NULL, " ", &save);
    assert_int_equal(strlen(word), 2 * info->block_bytes);
    for (size_t i = 0; i < info->block_bytes; i++)
        src.data[i] = (uint8_t)(hex_digit(word[2 * i]) << 4 | hex_digit(word[2 * i + 1]));
    dequant((enum dtype)type, src.data, (float *)(void *)out.data, info->block);
    guarded_check(&out, info->name);
    for (size_t i = 0; i < info->block; i++) {
        uint32_t got;
        word = strtok_r(NULL, " ", &save);
        assert_non_null(word);
        memcpy(&got, out.data + 4 * i, 4);
        if (got != strtoul(word, NULL, 16))
            fail_msg("%s element %zu is %08x, should be %s", info->name, i, got, word);
    }
    guarded_free(&src);
    guarded_free(&out);
}

static void test_decoding(void **state) {
    (void)state;
    char path[4096], *save, seen[DT_COUNT] = { 0 };
    assert_non_null(data_path(path, sizeof path, "data/blocks.txt"));
    char *text = slurp(path, NULL);
    assert_non_null(text);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#')
            continue;
        char name[16];
        assert_int_equal(sscanf(line, "%15s", name), 1);
        assert_true(dtype_by_name(name) >= 0);
        seen[dtype_by_name(name)] = 1;
        check_line(line);
    }
    for (uint32_t t = 0; t < DT_COUNT; t++) /* a new block type needs a line */
        if (dtype_supported(t) && dtype_info(t)->block > 1 && !seen[t])
            fail_msg("no block of %s in %s", dtype_info(t)->name, path);
    free(text);
}

/* All 65,536 halves, and float32 as it is. */
static void test_float_types(void **state) {
    (void)state;
    static uint16_t h[65536];
    static float y[65536];
    for (size_t i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    dequant(DT_F16, (const uint8_t *)h, y, 65536);
    for (size_t i = 0; i < 65536; i++)
        assert_true(y[i] == f16_to_f32(h[i]) || isnan(y[i]));
    dequant(DT_BF16, (const uint8_t *)h, y, 65536);
    for (size_t i = 0; i < 65536; i++)
        assert_true(y[i] == bf16_to_f32(h[i]) || isnan(y[i]));
    float x[5] = { 1.5f, -0.0f, INFINITY, 1e-42f, -3.0f }, z[5];
    uint8_t bytes[21];
    memcpy(bytes + 1, x, 20); /* odd address */
    dequant(DT_F32, bytes + 1, z, 5);
    assert_memory_equal(x, z, 20);
}

static double rms(const float *a, const float *b, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(s / (double)n);
}

static struct guarded written(enum dtype t, const float *x, size_t n, float *back) {
    size_t bytes;
    assert_true(dtype_row_bytes(t, n, &bytes));
    struct guarded g = guarded_new(bytes, 1);
    assert_true(quantise(t, x, g.data, n));
    guarded_check(&g, dtype_info(t)->name);
    dequant(t, g.data, back, n);
    return g;
}

static void test_quality(void **state) {
    (void)state;
    static float x[N], y[N], z[N];
    for (size_t i = 0; i < N; i++)
        x[i] = normal();
    for (size_t q = 0; q < ARRAY_LEN(qualities); q++) {
        struct guarded once = written(qualities[q].type, x, N, y),
                       twice = written(qualities[q].type, y, N, z);
        double error = rms(x, y, N), again = rms(y, z, N);
        print_message("# %-6s error %.5f, second pass %.6f\n", dtype_info(qualities[q].type)->name,
                      error, again);
        assert_true(error <= qualities[q].rms);
        assert_true(again <= qualities[q].again);
        guarded_free(&once);
        guarded_free(&twice);
    }
}

/* Scale must not matter, down to where f16 scales lose bits and up to where they end. */
static void test_scales(void **state) {
    (void)state;
    static const float scales[] = { 0.01f, 1.0f, 100.0f, 10000.0f };
    static float x[2048], y[2048];
    for (size_t q = 0; q < ARRAY_LEN(qualities); q++) {
        for (size_t s = 0; s < ARRAY_LEN(scales); s++) {
            for (size_t i = 0; i < 2048; i++)
                x[i] = normal() * scales[s];
            struct guarded g = written(qualities[q].type, x, 2048, y);
            if (rms(x, y, 2048) > 1.15 * qualities[q].rms * (double)scales[s])
                fail_msg("%s at scale %g: error %g", dtype_info(qualities[q].type)->name,
                         (double)scales[s], rms(x, y, 2048));
            guarded_free(&g);
        }
    }
}

/* Rows with few distinct values come back within some per cent of their peak. IQ4 has no zero and no
 * pair of opposite levels, the 2 to 5 bit types have no code exactly between their ends. */
static void test_special_rows(void **state) {
    (void)state;
    static float x[256], y[256];
    for (size_t q = 0; q < ARRAY_LEN(qualities); q++) {
        enum dtype t = qualities[q].type;
        struct guarded g = written(t, x, 256, y); /* zeros */
        for (size_t i = 0; i < 256; i++)
            assert_true(y[i] == 0.0f);
        guarded_free(&g);
        for (int kind = 0; kind < 4; kind++) {
            for (size_t i = 0; i < 256;
                 i++) /* one spike, a positive and a negative constant, two values */
                x[i] = kind == 0   ? (i == 77 ? 8.0f : 0.0f)
                       : kind == 1 ? 3.0f
                       : kind == 2 ? -3.0f
                       : i % 2     ? 1.0f
                                   : -1.0f;
            g = written(t, x, 256, y);
            for (size_t i = 0; i < 256; i++)
                if (!(fabsf(x[i] - y[i]) <=
                      (kind == 3 ? 0.13f : 0.03f) * (kind == 0 ? 8.0f : fabsf(x[i]))))
                    fail_msg("%s row %d element %zu: %g for %g", dtype_info(t)->name, kind, i,
                             (double)y[i], (double)x[i]);
            guarded_free(&g);
        }
        memset(x, 0, sizeof x);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static float x[256];
    uint8_t out[1024];
    assert_false(can_quantise((enum dtype)9)); /* Q8_1 has no writer */
    assert_false(quantise((enum dtype)9, x, out, 256));
    for (size_t q = 0; q < ARRAY_LEN(qualities); q++) {
        enum dtype t = qualities[q].type;
        assert_true(can_quantise(t));
        x[100] = NAN;
        assert_false(quantise(t, x, out, 256));
        x[100] = -INFINITY;
        assert_false(quantise(t, x, out, 256));
        x[100] = 65504.0f; /* no f16 scale holds it */
        assert_true(quantise(t, x, out, 256) == (t == DT_BF16));
        x[100] = 65000.0f;
        assert_true(quantise(t, x, out, 256));
        x[100] = 1e-42f;
        assert_true(quantise(t, x, out, 256));
        x[100] = 0;
    }
}

static int bench(void) {
    static float x[N], y[N];
    static uint8_t out[4 * N];
    for (size_t i = 0; i < N; i++)
        x[i] = normal();
    for (size_t q = 0; q < ARRAY_LEN(qualities); q++) {
        double down, up;
        enum dtype t = qualities[q].type;
        BENCH(down, quantise(t, x, out, N));
        BENCH(up, dequant(t, out, y, N));
        printf("%-6s  write %7.2f ns, read %5.2f ns an element, error %.5f\n", dtype_info(t)->name,
               down * 1e9 / N, up * 1e9 / N, rms(x, y, N));
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding),     cmocka_unit_test(test_float_types),
        cmocka_unit_test(test_quality),      cmocka_unit_test(test_scales),
        cmocka_unit_test(test_special_rows), cmocka_unit_test(test_refusals),
    };
    check_start(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
