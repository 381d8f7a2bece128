/* hash.h - a fast 128-bit hash over many bytes: tells damaged, foreign and changed data apart.
 *
 * Eight lanes of 64 bits run beside each other, each taking one word of eight; a word enters by
 * operations that can be undone (exclusive or, odd multiplications, a rotation), so a change inside
 * one word always changes its lane, and each half of the result. Changes in several words are found
 * but for chance (2^-64). It is no protection against somebody who chooses the bytes to collide.
 * The result depends on the bytes alone: not on the pieces they came in, nor on the machine. */
#ifndef SLM_BASE_HASH_H
#define SLM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_LANES 8
#define HASH_BLOCK (HASH_LANES * 8)

struct hash {
    uint64_t lane[HASH_LANES];
    uint64_t size;            /* bytes so far */
    uint8_t tail[HASH_BLOCK]; /* [size % HASH_BLOCK] not yet in the lanes */
};

void hash_init(struct hash *h, uint64_t seed);
void hash_add(struct hash *h, const void *data, size_t n);
void hash_add_u64(struct hash *h, uint64_t v); /* as eight bytes, lowest first */
/* May be called again after more was added: h is not changed. */
void hash_end(const struct hash *h, uint64_t out[2]);
/* All in one. */
void hash_bytes(const void *data, size_t n, uint64_t seed, uint64_t out[2]);

#endif
