/* test_base_hash.c - pieces do not matter, every bit does, results are spread evenly, and they are
 * the same numbers on every machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/hash.h"
#include "base/pool.h"

static uint64_t seed = 1;

static uint64_t rnd(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static unsigned bits(uint64_t x) {
    unsigned n = 0;
    for (; x != 0; x &= x - 1)
        n++;
    return n;
}

/* Computed by a second implementation (whole numbers of any size, in Python). Files that hold a hash
 * must still be good with the next version. */
static void test_vectors(void **state) {
    (void)state;
    static const struct {
        size_t n;
        uint64_t seed, want[2];
    } vectors[] = {
        { 0, 0u, { 0xbbc684c77f04ed13u, 0x1c3b147cdbec6c3du } },
        { 0, 1u, { 0x32f8a7091da53d24u, 0xb96a7a4799e2e721u } },
        { 1, 0u, { 0xdd513e1a69850f41u, 0x6ace915914907147u } },
        { 7, 0u, { 0x82c8b5cd9675fc30u, 0x107244e5030923e3u } },
        { 8, 0u, { 0x409cbd76e967a239u, 0x5d099711c744599fu } },
        { 63, 0u, { 0x0f56901b4f3f511au, 0xcdc941f970bbe23du } },
        { 64, 0u, { 0x5287e327ba194b05u, 0x2acb2a04f8b77492u } },
        { 65, 0u, { 0x6b9e1e8901a34983u, 0x4603b248534ccea6u } },
        { 127, UINT64_MAX, { 0x5352135d9563e413u, 0xa99ff4f5c5612de5u } },
        { 128, 0u, { 0x861dfd1dd2e8eef1u, 0x7a2ab2bcbba46ca6u } },
        { 1000, 0u, { 0x78c5f93d07bffd8bu, 0x3ff2fe317ae5c05eu } },
        { 1000, 12345u, { 0xafd125cf3bc1acd9u, 0x5ccb09c1a176b7d1u } },
    };
    uint8_t data[1000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        uint64_t out[2];
        hash_bytes(data, vectors[i].n, vectors[i].seed, out);
        if (out[0] != vectors[i].want[0] || out[1] != vectors[i].want[1])
            fail_msg("%zu bytes, seed %llu: %016llx %016llx", vectors[i].n,
                     (unsigned long long)vectors[i].seed, (unsigned long long)out[0],
                     (unsigned long long)out[1]);
    }
}

static void test_pieces(void **state) {
    (void)state;
    uint8_t data[700];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)rnd();
    for (unsigned round = 0; round < 2000; round++) {
        size_t n = rnd() % sizeof data, at = 0;
        uint64_t whole[2], pieces[2], early[2];
        struct hash h;
        hash_bytes(data, n, round, whole);
        hash_init(&h, round);
        while (at < n) {
            size_t take = rnd() % 150;
            take = take < n - at ? take : n - at;
            hash_add(&h, data + at, take);
            hash_end(&h, early); /* a look in between changes nothing */
            at += take;
        }
        hash_end(&h, pieces);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
    uint64_t a[2], b[2];
    struct hash h;
    hash_init(&h, 5);
    hash_add_u64(&h, 0x0807060504030201u);
    hash_end(&h, a);
    hash_bytes("\1\2\3\4\5\6\7\10", 8, 5, b);
    assert_memory_equal(a, b, sizeof a);
}

/* Flips every bit of inputs of many lengths: both halves change, by about half of their bits. */
static void test_avalanche(void **state) {
    (void)state;
    static const size_t lengths[] = { 1, 7, 8, 9, 31, 63, 64, 65, 128, 200 };
    uint64_t flips[2][64] = { 0 }, trials = 0;
    for (size_t l = 0; l < ARRAY_LEN(lengths); l++)
        for (unsigned round = 0; round < 20; round++) {
            uint8_t data[200];
            for (size_t i = 0; i < lengths[l]; i++)
                data[i] = round == 0 ? 0 : (uint8_t)rnd();
            uint64_t was[2], now[2];
            hash_bytes(data, lengths[l], 0, was);
            for (size_t bit = 0; bit < lengths[l] * 8; bit++, trials++) {
                data[bit / 8] ^= (uint8_t)(1u << bit % 8);
                hash_bytes(data, lengths[l], 0, now);
                data[bit / 8] ^= (uint8_t)(1u << bit % 8);
                for (unsigned half = 0; half < 2; half++) {
                    uint64_t x = was[half] ^ now[half];
                    assert_in_range(bits(x), 8, 56);
                    for (unsigned i = 0; i < 64; i++)
                        flips[half][i] += x >> i & 1;
                }
            }
        }
    for (unsigned i = 0; i < 128; i++) {
        double share = (double)flips[i / 64][i % 64] / (double)trials;
        if (share < 0.48 || share > 0.52)
            fail_msg("bit %u of the result flips in %.3f of the cases", i, share);
    }
}

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Inputs that differ in little: lengths of zeros, counters, two bits at a time, words in another
 * order. No two give the same half. */
static void test_no_collisions(void **state) {
    (void)state;
    enum { MOST = 400000 };
    uint64_t *all[2] = { malloc(MOST * sizeof(uint64_t)), malloc(MOST * sizeof(uint64_t)) };
    uint8_t *data = calloc(1, 4096);
    size_t n = 0;
#define PUT(p, size)                                                                               \
    do {                                                                                           \
        uint64_t out_[2];                                                                          \
        hash_bytes(p, size, 0, out_);                                                              \
        assert_true(n < MOST);                                                                     \
        all[0][n] = out_[0];                                                                       \
        all[1][n++] = out_[1];                                                                     \
    } while (0)
    for (size_t i = 0; i < 4096; i++)
        PUT(data, i);
    for (uint64_t i = 1; i < 100000; i++) {
        uint8_t word[8];
        for (unsigned k = 0; k < 8; k++)
            word[k] = (uint8_t)(i >> 8 * k);
        PUT(word, sizeof word);
    }
    for (unsigned i = 0; i < 136 * 8; i += 3) /* two bits: also in words of the same lane */
        for (unsigned k = i + 1; k < 136 * 8; k += 2) {
            data[i / 8] ^= (uint8_t)(1u << i % 8);
            data[k / 8] ^= (uint8_t)(1u << k % 8);
            PUT(data, 136);
            data[i / 8] ^= (uint8_t)(1u << i % 8);
            data[k / 8] ^= (uint8_t)(1u << k % 8);
        }
    for (unsigned i = 0; i < 40; i++) /* exchanged words */
        for (unsigned k = i + 1; k < 40; k++) {
            memset(data, 0, 4096);
            for (unsigned w = 0; w < 40; w++)
                data[w * 8] = (uint8_t)(w + 1);
            data[i * 8] = (uint8_t)(k + 1);
            data[k * 8] = (uint8_t)(i + 1);
            PUT(data, 320);
        }
    for (unsigned half = 0; half < 2; half++) {
        qsort(all[half], n, sizeof(uint64_t), by_value);
        for (size_t i = 1; i < n; i++)
            if (all[half][i] == all[half][i - 1])
                fail_msg("half %u: two of %zu inputs give %016llx", half, n,
                         (unsigned long long)all[half][i]);
        unsigned in[256] = { 0 }; /* evenly over the top byte */
        for (size_t i = 0; i < n; i++)
            in[all[half][i] >> 56]++;
        double chi = 0.0, want = (double)n / 256.0;
        for (unsigned i = 0; i < 256; i++)
            chi += ((double)in[i] - want) * ((double)in[i] - want) / want;
        assert_true(chi > 150.0 && chi < 380.0); /* 255 expected, 23 of deviation */
        free(all[half]);
    }
    free(data);
}

/* Different seeds are different functions. */
static void test_seeds(void **state) {
    (void)state;
    uint64_t a[2], b[2];
    for (uint64_t i = 0; i < 64; i++) {
        hash_bytes("abc", 3, 0, a);
        hash_bytes("abc", 3, (uint64_t)1 << i, b);
        assert_true(a[0] != b[0] && a[1] != b[1]);
        assert_in_range(bits(a[0] ^ b[0]), 8, 56);
    }
}

/* A figure, not a limit: the machine may be busy. */
static void test_rate(void **state) {
    (void)state;
    size_t n = (size_t)4 << 20;
    uint8_t *data = calloc(1, n);
    uint64_t out[2] = { 0 };
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t start = clock_ns();
        hash_bytes(data, n, out[0], out);
        uint64_t took = clock_ns() - start;
        best = took < best ? took : best;
    }
    print_message("# %.1f GB/s\n", (double)n / (double)best);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),       cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_avalanche),     cmocka_unit_test(test_no_collisions),
        cmocka_unit_test(test_seeds),         cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
