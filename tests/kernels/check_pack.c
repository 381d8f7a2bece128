/* check_pack.c - packing: every instruction set's panels against the reference's, byte for byte.
 *
 * usage: check_pack [--seed N]                   the checks; prints its seed
 *        check_pack --bench [TYPE] [--isa NAME]  speed of one thread, small matrices and large ones
 * All types over random bytes: every number of rows in the last panel, short last units, odd columns,
 * rows in another order, panels packed one by one over whatever stood there before. */
#include "checking.h"

#include "base/compiler.h"

static const enum dtype types[] = {
    DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,   DT_Q5_1, DT_IQ4_NL, DT_Q2_K, DT_Q3_K,
    DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_IQ4_XS, DT_BF16, DT_F16,    DT_F32,
};

/* Rows of random bytes at an odd address, whatever numbers they mean. */
static struct guarded random_rows(enum dtype t, uint32_t rows, uint32_t cols, struct matrix *m) {
    size_t row;
    assert_true(dtype_row_bytes(t, cols, &row));
    struct guarded g = guarded_new(row * rows, 1);
    for (size_t i = 0; i < g.n; i++)
        g.data[i] = (uint8_t)(rnd() >> 24);
    assert_true(matrix_plain(m, t, rows, cols, g.data));
    return g;
}

static void check_one(const struct kernels *ref, const struct kernels *k, enum dtype t,
                      uint32_t rows, uint32_t cols, bool reorder) {
    struct matrix plain, a, b;
    uint32_t map[64];
    struct guarded data = random_rows(t, rows, cols, &plain);
    assert_true(matrix_panel(ref, &a, t, rows, cols));
    if (!matrix_panel(k, &b, t, rows, cols)) { /* a table without panels of this type */
        guarded_free(&data);
        return;
    }
    assert_int_equal(matrix_bytes(&b), matrix_bytes(&a));
    struct guarded want = guarded_new(matrix_bytes(&a), 0), got = guarded_new(matrix_bytes(&a), 0);
    for (uint32_t r = 0; r < rows; r++)
        map[r] = below(rows);
    matrix_pack(ref, &plain, &a, want.data, 0, matrix_panels(&a), reorder ? map : NULL);
    memset(got.data, 0xC3, got.n);
    for (uint32_t p = matrix_panels(&b); p-- > 0;)
        matrix_pack(k, &plain, &b, got.data, p, 1, reorder ? map : NULL);
    for (size_t i = 0; i < want.n; i++)
        if (want.data[i] != got.data[i])
            fail_msg("%s, %u x %u: byte %zu of %zu is %02x, reference %02x", dtype_info(t)->name,
                     rows, cols, i, want.n, got.data[i], want.data[i]);
    guarded_check(&got, dtype_info(t)->name);
    guarded_free(&data);
    guarded_free(&want);
    guarded_free(&got);
}

static void check_isa(const struct kernels *ref, const struct kernels *k) {
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        uint32_t block = dtype_info(types[i])->block;
        for (uint32_t round = 0; round < 60; round++) {
            uint32_t rows = round < 33 ? round + 1 : 1 + below(50);
            uint32_t cols = block == 1 ? 1 + below(140) : block * (1 + below(block == 32 ? 9 : 3));
            check_one(ref, k, types[i], rows, cols, round % 2 != 0);
        }
    }
}

static void test_equal(void **unused) {
    (void)unused;
    each_isa(check_isa);
}

/* The reference packs what the file's own dequantisation reads. */
static void test_rows_back(void **unused) {
    (void)unused;
    const struct kernels *ref = kernels_at(ISA_LEVEL_REF);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct matrix plain, panel;
        float a[512], b[512];
        struct guarded data = random_rows(types[i], 19, 512, &plain);
        assert_true(matrix_panel(ref, &panel, types[i], 19, 512));
        struct guarded packed = guarded_new(matrix_bytes(&panel), 0);
        matrix_pack(ref, &plain, &panel, packed.data, 0, matrix_panels(&panel), NULL);
        panel.data = packed.data;
        for (uint32_t r = 0; r < 19; r++) {
            matrix_row(ref, &plain, r, a);
            matrix_row(ref, &panel, r, b);
            assert_memory_equal(a, b, sizeof a);
        }
        guarded_free(&data);
        guarded_free(&packed);
    }
}

static int bench(int argc, char **argv) {
    enum { COLS = 2560 };
    int only = -1, isa = ISA_LEVEL_COUNT;
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            isa = isa_by_name(argv[++i]);
        else
            only = dtype_by_name(argv[i]);
    const struct kernels *k = kernels_pick((enum isa)isa);
    printf("%s, one thread, bytes of the file per second\n", isa_name(kernels_isa(k)));
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (only >= 0 && (int)types[i] != only)
            continue;
        printf("%-7s", dtype_info(types[i])->name);
        for (uint32_t rows = 64; rows <= 16384; rows *= 256) {
            struct matrix plain, panel;
            struct guarded data = random_rows(types[i], rows, COLS, &plain);
            matrix_panel(k, &panel, types[i], rows, COLS);
            struct guarded packed = guarded_new(matrix_bytes(&panel), 0);
            double s;
            BENCH(s, matrix_pack(k, &plain, &panel, packed.data, 0, matrix_panels(&panel), NULL));
            printf("  %8.1f KiB %6.2f GB/s", (double)data.n / 1024, (double)data.n / s * 1e-9);
            guarded_free(&data);
            guarded_free(&packed);
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_back),
        cmocka_unit_test(test_equal),
    };
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench(argc, argv);
    check_start(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
