/* check_amx.c - what check_matmul does not see of the products on tiles: the model of the
 * instructions against sums worked out by hand, the order of bfloat16 sums, detection.
 *
 * usage: check_amx [--seed N]
 * The model (amx_model.h) runs everywhere; where the processor has the instructions, they are put
 * beside it, tile by tile. */
#include "kernels/checking.h"

#include "kernels/panel.h"
#include "kernels/table.h"

#ifdef HAVE_AMX_KERNELS
#include "kernels/amx_model.h"

static const struct kernels model = { ISA_LEVEL_AMX, &matmul_ops_amx_model, NULL, NULL };

/* ---- single instructions ---- */

/* Operand of ldtilecfg: sums 0, activations 1, weights 2. */
static void config(uint8_t c[64], unsigned m, unsigned k, unsigned n) {
    memset(c, 0, 64);
    c[0] = 1;
    c[16] = (uint8_t)(4 * n);
    c[18] = (uint8_t)(4 * k);
    c[20] = (uint8_t)(4 * n);
    c[48] = (uint8_t)m;
    c[49] = (uint8_t)m;
    c[50] = (uint8_t)k;
}

static void test_bytes(void **unused) {
    (void)unused;
    static const int8_t a[2][4] = { { -128, 127, 2, 0 }, { 1, 1, 1, 1 } };
    static const uint8_t b[8] = { 255, 255, 128, 9, 1, 2, 3, 4 }; /* one group, two rows */
    static const int32_t with_unsigned[4] = { 1, 132, 647, 10 };
    static const int32_t with_signed[4] = { -255, 132, -121, 10 };
    int32_t sum[4] = { 0, 0, 0, 0 };
    uint8_t c[64];
    config(c, 2, 1, 2);
    amx_loadconfig(c);
    amx_zero(0);
    amx_loadd(1, a, 4);
    amx_loadd(2, b, 8);
    amx_dpbsud(0, 1, 2);
    amx_stored(0, sum, 8);
    assert_memory_equal(sum, with_unsigned, sizeof sum);
    amx_zero(0);
    amx_dpbssd(0, 1, 2);
    amx_dpbssd(0, 1, 2); /* accumulates */
    amx_stored(0, sum, 8);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(sum[i], 2 * with_signed[i]);
    amx_release();
}

static uint16_t some_bf16(void) {
    static const uint16_t special[] = { 0x0000, 0x8000, 0x0001, 0x8040, 0x0080, 0x3F80, 0x7F7F };
    return below(12) ? f32_to_bf16(normal()) : special[below(ARRAY_LEN(special))];
}

/* Even and odd columns in chains of their own: 2. One chain gives 1, vdpbf16ps 0. */
static void test_bf16_chains(void **unused) {
    (void)unused;
    uint16_t a[4], b[4];
    const float x[4] = { 0x1p24f, 1, -0x1p24f, 1 };
    float sum = 0;
    uint8_t c[64];
    for (unsigned i = 0; i < 4; i++) {
        a[i] = f32_to_bf16(x[i]);
        b[i] = f32_to_bf16(1);
    }
    config(c, 1, 2, 1);
    amx_loadconfig(c);
    amx_zero(0);
    amx_loadd(1, a, 8);
    amx_loadd(2, b, 4);
    amx_dpbf16ps(0, 1, 2);
    amx_stored(0, &sum, 4);
    assert_true(sum == 2);
    amx_release();
}

/* ---- the peak loops ---- */

/* They do what they are counted for: check_peak.c asks the same of every instruction set. */
static void test_peak(void **unused) {
    (void)unused;
    for (uint64_t r = 0; r < 4; r++) {
        assert_int_equal(peak_int8_amx_model(r), r * PEAK_INT8_AMX_OPS / 2 * 6);
        assert_int_equal(peak_bf16_amx_model(r), r * PEAK_BF16_AMX_OPS / 2 / 8);
    }
}

/* ---- the order of a bfloat16 product ---- */

static float times(const uint8_t *w, const uint16_t *x, size_t i, float sum) {
    uint16_t bits;
    memcpy(&bits, w + 2 * i, 2);
    return fmaf(bf16_to_f32(bits), bf16_to_f32(x[i]), sum);
}

/* One output as kernels.md states it. w: a row of bf16 as in the file. */
static float ordered(const uint8_t *w, const uint16_t *x, size_t cols) {
    float y = 0;
    for (size_t from = 0; from < cols; from += 32) {
        float even = 0, odd = 0;
        for (size_t i = from; i < from + 32 && i < cols; i += 2) {
            even = times(w, x, i, even);
            odd = i + 1 < cols ? times(w, x, i + 1, odd) : odd;
        }
        y += even + odd;
    }
    return y;
}

static void test_bf16_order(void **unused) {
    (void)unused;
    if (!kernels_at(ISA_LEVEL_AVX512))
        skip();
    static const uint32_t widths[] = { 1, 2, 31, 32, 33, 77, 256, 300, 1000 };
    enum { ROWS = 53, TOKENS = 41, COLS = 1000 };
    static float x[TOKENS * COLS], y[TOKENS * ROWS];
    static uint8_t w[ROWS * COLS * 2];
    const struct kernels *list[2] = { &model, kernels_at(ISA_LEVEL_AMX) };
    for (size_t i = 0; i < 2 * ARRAY_LEN(widths); i++) {
        const struct kernels *k = list[i / ARRAY_LEN(widths)];
        uint32_t cols = widths[i % ARRAY_LEN(widths)];
        struct matrix plain, panel;
        if (!k)
            continue;
        for (size_t n = 0; n < (size_t)ROWS * cols; n++) {
            uint16_t bits = f32_to_bf16(normal());
            memcpy(w + 2 * n, &bits, 2);
        }
        fill(x, (size_t)TOKENS * cols, NORMAL);
        assert_true(matrix_plain(&plain, DT_BF16, ROWS, cols, w));
        assert_true(matrix_panel(k, &panel, DT_BF16, ROWS, cols));
        size_t act_size = act_bytes(ACT_BF16, cols);
        struct guarded data = guarded_new(matrix_bytes(&panel), 0);
        struct guarded acts = guarded_new(TOKENS * act_size, 0);
        matrix_pack(k, &plain, &panel, data.data, 0, matrix_panels(&panel), NULL);
        panel.data = data.data;
        /* what lies beyond the columns must not matter: NaN */
        memset(acts.data, 0xFF, acts.n);
        for (size_t t = 0; t < TOKENS; t++)
            act_prepare(k, ACT_BF16, x + t * cols, cols, acts.data + t * act_size);
        matmul(k, &panel, acts.data, TOKENS, 0, matrix_panels(&panel), y, ROWS, NULL);
        for (size_t t = 0; t < TOKENS; t++)
            for (size_t r = 0; r < ROWS; r++) {
                const uint16_t *row = (const void *)(acts.data + t * act_size);
                float want = ordered(w + r * plain.row_bytes, row, cols);
                same_floats(&want, &y[t * ROWS + r], 1, "bf16");
            }
        guarded_free(&data);
        guarded_free(&acts);
    }
}

/* ---- the processor beside the model ---- */

static ISA_AMX void hardware(const uint8_t c[64], unsigned which, const uint8_t *a,
                             const uint8_t *b, uint8_t *sum, size_t stride) {
    COMPILER_BARRIER();
    _tile_loadconfig(c);
    _tile_loadd(0, sum, stride);
    _tile_loadd(1, a, 64);
    _tile_loadd(2, b, 64);
    if (which == 0)
        _tile_dpbssd(0, 1, 2);
    else if (which == 1)
        _tile_dpbsud(0, 1, 2);
    else
        _tile_dpbf16ps(0, 1, 2);
    _tile_stored(0, sum, stride);
    _tile_release();
}

static void software(const uint8_t c[64], unsigned which, const uint8_t *a, const uint8_t *b,
                     uint8_t *sum, size_t stride) {
    amx_loadconfig(c);
    amx_loadd(0, sum, stride);
    amx_loadd(1, a, 64);
    amx_loadd(2, b, 64);
    if (which == 0)
        amx_dpbssd(0, 1, 2);
    else if (which == 1)
        amx_dpbsud(0, 1, 2);
    else
        amx_dpbf16ps(0, 1, 2);
    amx_stored(0, sum, stride);
    amx_release();
}

static void test_hardware(void **unused) {
    (void)unused;
    if (!kernels_at(ISA_LEVEL_AMX)) {
        print_message("# skip this machine has no tiles: the model stands alone\n");
        skip();
    }
    enum { STRIDE = 72 };
    for (unsigned round = 0; round < 3000; round++) {
        _Alignas(64) uint8_t c[64], a[1024], b[1024], want[16 * STRIDE], got[16 * STRIDE];
        config(c, 1 + below(16), 1 + below(16), 1 + below(16));
        for (size_t i = 0; i < sizeof a; i += 2) {
            uint16_t x = round % 3 == 2 ? some_bf16() : (uint16_t)rnd(),
                     y = round % 3 == 2 ? some_bf16() : (uint16_t)rnd();
            memcpy(a + i, &x, 2);
            memcpy(b + i, &y, 2);
        }
        for (size_t i = 0; i < sizeof want; i += 4) {
            float f = normal();
            uint32_t bits = rnd();
            memcpy(want + i, round % 3 == 2 ? (const void *)&f : (const void *)&bits, 4);
        }
        memcpy(got, want, sizeof got);
        software(c, round % 3, a, b, want, STRIDE);
        hardware(c, round % 3, a, b, got, STRIDE);
        if (round % 3 == 2)
            same_floats((const float *)(const void *)want, (const float *)(const void *)got,
                        sizeof want / 4, "tdpbf16ps");
        else
            assert_memory_equal(want, got, sizeof want);
    }
}
#endif

/* ---- detection ---- */

/* The system's own list of features says the same, where it has one. */
static void test_detection(void **unused) {
    (void)unused;
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[16384];
    bool tile = false, int8 = false, bf16 = false, avx512 = false, found = false;
    while (f && !found && fgets(line, sizeof line, f)) {
        found = strncmp(line, "flags", 5) == 0;
        tile = found && strstr(line, " amx_tile");
        int8 = found && strstr(line, " amx_int8");
        bf16 = found && strstr(line, " amx_bf16");
        avx512 = found && strstr(line, " avx512_vnni");
    }
    if (f)
        fclose(f);
    const struct kernels *k = kernels_at(ISA_LEVEL_AMX);
    if (k)
        assert_true(kernels_isa(k) == ISA_LEVEL_AMX && kernels_pick(ISA_LEVEL_COUNT) == k);
    if (found && !(tile && int8 && bf16 && avx512))
        assert_null(k);
    print_message("# tiles: %s\n", k ? "yes" : tile ? "refused by the system" : "no");
}

int main(int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
#ifdef HAVE_AMX_KERNELS
        cmocka_unit_test(test_peak),        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_bf16_chains), cmocka_unit_test(test_bf16_order),
        cmocka_unit_test(test_hardware),
#endif
        cmocka_unit_test(test_detection),
    };
    check_start(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
