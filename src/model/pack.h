/* pack.h - filling panels, and the file that keeps them: between pack.c and packed_file.c. */
#ifndef SLM_MODEL_PACK_H
#define SLM_MODEL_PACK_H

#include "model/weights.h"

/* Panels are packed, hashed and written in blocks of a huge page. */
#define PACK_BLOCK ((uint64_t)2 << 20)

/* A packed file is a header and then the panels of all matrices one after another, in the order and
 * with the bytes that they have in memory. Numbers are little-endian:
 *   "SLMPANEL", u32 version, u32 matrix_layout()
 *   u64 size of the header, u64 offset of the panels (a multiple of PACK_BLOCK), u64 bytes of panels,
 *   u64 blocks of PACK_BLOCK bytes (the last may be shorter)
 *   u64[2] net_identity() of the model file, u64[2] hash of the sizes and times of its files
 *   u64 matrices, then for each u64 offset in the panels, u64 bytes, u32 rows, u32 cols, u32 type,
 *   u32 heads whose rows were put back in order
 *   u64[2] hash of each block
 *   u64[2] hash of everything before
 * All of it but the hashes of the blocks is known to who reads it: it is computed and compared. */
struct packed_file {
    const struct slm_hooks *hooks;
    char *path;
    struct buf head; /* everything before the hashes of the blocks */
    uint64_t head_bytes, panels_offset, panels_bytes;
    uint32_t n_blocks;
};
enum packed_state {
    PACKED_ABSENT,  /* no such file */
    PACKED_OTHER,   /* of another version, layout or state of the model file */
    PACKED_DAMAGED, /* says that it is what is wanted, and is not */
    PACKED_GOOD,
};
/* Describes the file in which the panels of a net belong. `b` is arranged. Its name comes from the
 * model's name and the path of its first file, so that a changed model replaces its own panels.
 * Call packed_file_free in any case. */
slm_err packed_file_of(const struct net *net, const struct bindings *b, const struct tensors *t,
                       const struct facts *f, const char *dir, struct packed_file *out,
                       slm_why *why);
void packed_file_free(struct packed_file *p);
/* Judges the bytes of a file [size]: nothing in them is believed. Reads all of them, on all threads. */
enum packed_state packed_file_judge(const struct packed_file *p, const struct mapping *file,
                                    struct pool *pool, slm_why *why);
/* Maps it when it is good. */
enum packed_state packed_file_find(const struct packed_file *p, struct pool *pool,
                                   struct mapping *out, slm_why *why);
/* The hash of block i, whose bytes are at data. */
void packed_block_hash(const uint8_t *data, size_t n, uint64_t out[2]);
/* The finished header [head_bytes] for panels with these hashes. Returns owned (hooks) or NULL. */
char *packed_file_head(const struct packed_file *p, uint64_t (*hashes)[2]);

#endif
