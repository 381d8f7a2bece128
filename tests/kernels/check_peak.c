/* check_peak.c - the loops that measure the limits do all the work that they are counted for, on
 * every instruction set: reads see each byte, multiplications give the sum of all products. */
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "checking.h"
#include "kernels/peak.h"

#define REGION ((size_t)24 << 10)

/* fn for each instruction set of this machine, the reference too. */
static void each_ops(void (*fn)(const struct peak_ops *ops)) {
    for (int level = 0; level < ISA_LEVEL_COUNT; level++) {
        const struct kernels *k = kernels_at((enum isa)level);
        if (k) {
            print_message("# %s\n", isa_name((enum isa)level));
            fn(peak_ops_at(k));
        }
    }
}

static void check_read(const struct peak_ops *ops) {
    static const size_t sizes[] = { 1024, 3072, REGION }, ahead[] = { 0, 64, 512, 4096 };
    uint8_t *p = aligned_alloc(64, REGION);
    for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
        uint64_t want = 0, w;
        for (size_t i = 0; i < sizes[n]; i++)
            p[i] = (uint8_t)(i * 37 + (i >> 7) + 11);
        for (size_t i = 0; i < sizes[n]; i += sizeof w) {
            memcpy(&w, p + i, sizeof w);
            want += w;
        }
        for (size_t a = 0; a < ARRAY_LEN(ahead); a++) {
            assert_int_equal(ops->read(p, sizes[n], 1, ahead[a]), want);
            assert_int_equal(ops->read(p, sizes[n], 4, ahead[a]), want);
        }
    }
    free(p);
}

static void test_reads(void **state) {
    (void)state;
    each_ops(check_read);
}

static void check_multiply(const struct peak_ops *ops) {
    static const uint64_t rounds[] = { 0, 1, 7, 1000, 65536 };
    for (size_t i = 0; i < ARRAY_LEN(rounds); i++) {
        uint64_t r = rounds[i];
        assert_int_equal(ops->int8(r), (uint32_t)(r * ops->int8_ops / 2 * 6));
        assert_int_equal(ops->f32(r), r * ops->f32_ops / 2 / 8);
        if (ops->bf16)
            assert_int_equal(ops->bf16(r), r * ops->bf16_ops / 2 / 8);
    }
}

static void test_multiplies(void **state) {
    (void)state;
    each_ops(check_multiply);
}

static void test_measure(void **state) {
    (void)state;
    const struct kernels *k = kernels_pick(ISA_LEVEL_COUNT);
    struct pool *pool;
    struct peak p;
    assert_int_equal(pool_new(NULL, 2, &pool, NULL), SLM_OK);
    assert_int_equal(peak_measure(k, NULL, pool, 0, true, &p, NULL), SLM_OK);
    assert_true(p.n_reads == 4 && p.n_multiplies >= 2);
    double best = 0;
    for (unsigned i = 0; i < p.n_reads; i++) {
        assert_true(p.reads[i].all_s > 0 && p.reads[i].one_s == 0);
        best = p.reads[i].all_s > best ? p.reads[i].all_s : best;
    }
    assert_true(p.read_bytes_s == best);
    assert_true(p.int8_ops_s > 0 && p.bf16_ops_s > 0 && p.f32_ops_s > 0);
    assert_int_equal(peak_pulse(k, NULL, pool, &p, NULL), SLM_OK);
    assert_true(p.read_bytes_s > 0 && p.int8_ops_s > 0 && p.n_reads == 0);
    pool_free(pool);
    assert_int_equal(pool_new(NULL, 1, &pool, NULL), SLM_OK);
    assert_int_equal(peak_measure(k, NULL, pool, SIZE_MAX - 1, true, &p, NULL), SLM_E_NOMEM);
    pool_free(pool);
}

/* Pages of any size hold what is written. */
static void test_pages(void **state) {
    (void)state;
    size_t n = 3 * HUGE_PAGE;
    uint8_t *p = malloc(n);
    print_message("# huge pages: %s\n", pages_size(p, n, true) ? "yes" : "no");
    memset(p, 7, n);
    assert_int_equal(p[n - 1], 7);
    assert_false(pages_size(p, 4096, true)); /* no whole one inside */
    free(p);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_multiplies),
        cmocka_unit_test(test_measure),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
