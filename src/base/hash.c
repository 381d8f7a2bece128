/* hash.c - eight lanes of exclusive or, multiply, rotate, multiply.
 *
 * lane = rotl((lane ^ word) * M1, 32) * M2. A multiplication carries differences upwards only; the
 * rotation between two of them brings the upper half down, so that every bit of a word reaches every
 * bit of its lane within two words, and no fixed difference of one word is undone by a fixed
 * difference of the next. Two multiplications per eight bytes keep one multiplier busy all the time:
 * four bytes a cycle. The end folds the lanes one after another into each half of the result. */
#include "base/hash.h"

#include "base/compiler.h"

#include <string.h>

/* Odd, with about half of their bits set: 2^64 times the fractional parts of square roots (as SHA-512
 * takes them), made odd. */
#define M1 0x6a09e667f3bcc909u /* sqrt 2 */
#define M2 0xbb67ae8584caa73bu /* sqrt 3 */
#define M3 0x3c6ef372fe94f82bu /* sqrt 5 */
#define M4 0xa54ff53a5f1d36f1u /* sqrt 7 */

ATTR_INLINE uint64_t rotl(uint64_t x, unsigned n) {
    return x << n | x >> (64 - n);
}

/* Compilers make one load of it. */
ATTR_INLINE uint64_t word_at(const uint8_t *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

ATTR_INLINE uint64_t step(uint64_t lane, uint64_t word) {
    return rotl((lane ^ word) * M1, 32) * M2;
}

/* The lanes live in variables of their own: registers, not an array that is written back. */
static void blocks(uint64_t lane[HASH_LANES], const uint8_t *p, size_t n_blocks) {
    uint64_t a = lane[0], b = lane[1], c = lane[2], d = lane[3];
    uint64_t e = lane[4], f = lane[5], g = lane[6], h = lane[7];
    for (; n_blocks > 0; n_blocks--, p += HASH_BLOCK) {
        a = step(a, word_at(p));
        b = step(b, word_at(p + 8));
        c = step(c, word_at(p + 16));
        d = step(d, word_at(p + 24));
        e = step(e, word_at(p + 32));
        f = step(f, word_at(p + 40));
        g = step(g, word_at(p + 48));
        h = step(h, word_at(p + 56));
    }
    lane[0] = a, lane[1] = b, lane[2] = c, lane[3] = d;
    lane[4] = e, lane[5] = f, lane[6] = g, lane[7] = h;
}

void hash_init(struct hash *h, uint64_t seed) {
    for (unsigned i = 0; i < HASH_LANES; i++)
        h->lane[i] = (seed + M3) * M4 + i * M2;
    h->size = 0;
}

void hash_add(struct hash *h, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t held = (size_t)(h->size % HASH_BLOCK);
    if (n == 0)
        return;
    h->size += n;
    if (held > 0) {
        size_t take = HASH_BLOCK - held < n ? HASH_BLOCK - held : n;
        memcpy(h->tail + held, p, take);
        if (held + take < HASH_BLOCK)
            return;
        blocks(h->lane, h->tail, 1);
        p += take;
        n -= take;
    }
    blocks(h->lane, p, n / HASH_BLOCK);
    if (n % HASH_BLOCK > 0)
        memcpy(h->tail, p + n / HASH_BLOCK * HASH_BLOCK, n % HASH_BLOCK);
}

void hash_add_u64(struct hash *h, uint64_t v) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    hash_add(h, bytes, sizeof bytes);
}

/* Every bit to every bit, and back again: a bijection. */
static uint64_t finish(uint64_t x) {
    x = (x ^ x >> 32) * M3;
    x = (x ^ x >> 29) * M4;
    return x ^ x >> 32;
}

void hash_end(const struct hash *h, uint64_t out[2]) {
    uint64_t lane[HASH_LANES];
    uint8_t last[HASH_BLOCK] = { 0 };
    size_t held = (size_t)(h->size % HASH_BLOCK);
    memcpy(lane, h->lane, sizeof lane);
    if (held > 0) { /* the size, which goes in below, tells padding from zeros */
        memcpy(last, h->tail, held);
        blocks(lane, last, 1);
    }
    uint64_t low = finish(h->size ^ M1), high = finish(h->size ^ M2);
    for (unsigned i = 0; i < HASH_LANES; i++) {
        low = step(low, lane[i]);
        high = rotl((high ^ lane[i]) * M3, 29) * M4;
    }
    out[0] = finish(low);
    out[1] = finish(high);
}

void hash_bytes(const void *data, size_t n, uint64_t seed, uint64_t out[2]) {
    struct hash h;
    hash_init(&h, seed);
    hash_add(&h, data, n);
    hash_end(&h, out);
}
