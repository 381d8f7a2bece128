/* prefix_file.h - one file of a prefix cache's folder.
 *
 * All numbers little-endian. Sizes in bytes.
 *      0   8  "SLMKEEP\n"
 *      8   4  version of this layout; 12  4  size of the header, H
 *     16  16  identity of the weights;  32 16  key of the beginning that this file continues
 *     48  16  instruction set, zero bytes after it
 *     64  24  six u32: type of keys and values, flags (1 long rope factors, 2 exact), layers, kv heads,
 *             dimensions of a head, window of sliding layers
 *     88  16  four u32: positions of a page, first slot, number of ids, number of slots
 *    104   8  size of the file
 *    112      ids, i32 each; then for each slot, full layers and then sliding layers:
 *             u32 rows (0: not in this file), u32 zero, u64 offset, u64 u64 hash of the rows
 *    H-16 16  hash of the header before it
 *     ...     pages: for each layer and kv head, the rows of the keys, then those of the values
 *
 * The key of a beginning is a hash of everything up to there: what computes, and all ids. A file's
 * name begins with its key, so that the files that may continue a sequence are found by name. */
#ifndef SLM_SESSION_PREFIX_FILE_H
#define SLM_SESSION_PREFIX_FILE_H

#include "base/folder.h"
#include "session/prefix_tree.h"

#define PREFIX_VERSION 1
#define PREFIX_HEADER_MAX ((size_t)16 << 20)
#define PREFIX_NAME 53 /* of a file, with its zero byte: 32 digits '-' 16 digits ".kv" */
#define PREFIX_SUFFIX ".kv"

/* What has to agree before a file's numbers mean anything here. */
struct prefix_kind {
    uint64_t identity[2];
    uint64_t salt; /* of the sequence: in the keys, not in the files themselves */
    char isa[16];
    uint32_t numbers[6];             /* type, flags, layers, kv_heads, head_dim, window */
    uint64_t page_bytes[KV_CLASSES]; /* follows from these */
};
struct prefix_kind prefix_kind_of(const struct prefix_cache *c, bool long_rope);
void prefix_key_start(const struct prefix_kind *k, uint64_t key[2]);
void prefix_key_next(uint64_t key[2], const int32_t ids[KV_PAGE]); /* one page further */

/* Rows of a page in a file. */
struct prefix_piece {
    uint64_t offset, hash[2];
    uint32_t rows; /* in the file; 0: not there */
    uint32_t good; /* of these, that belong to the ids that were asked for */
    uint32_t file; /* in a listing */
};
uint64_t prefix_piece_bytes(const struct prefix_kind *k, enum kv_class c, uint32_t rows);

/* A header: either made to be written, or read from a file. */
struct prefix_header {
    uint64_t key[2];
    uint32_t slot, n_ids, n_slots;
    uint64_t file_size;
    int32_t *ids;                /* [n_ids] */
    struct prefix_piece *pieces; /* [n_slots][KV_CLASSES] */
};
/* Size of a header; 0 when that is more than is read. */
size_t prefix_header_size(uint32_t n_ids);
void prefix_header_put(const struct prefix_kind *k, const struct prefix_header *x, struct buf *out);
/* Reads and checks bytes [n], the header of a file of `file_size` bytes of this kind. Memory for the
 * ids and pieces comes from `a`. E_FORMAT for what is damaged, E_MISMATCH for another kind. */
slm_err prefix_header_parse(const struct prefix_kind *k, const void *bytes, size_t n,
                            uint64_t file_size, struct arena *a, struct prefix_header *out,
                            slm_why *why);
/* The header of an open file. */
slm_err prefix_header_read(const struct prefix_kind *k, const struct infile *f,
                           const struct slm_hooks *h, struct arena *a, struct prefix_header *out,
                           slm_why *why);
/* Reads a piece into a page of the pool, and checks its hash: E_CHECKSUM. */
slm_err prefix_piece_read(const struct kv_pool *pool, const struct infile *f, enum kv_class c,
                          const struct prefix_piece *p, uint32_t page, slm_why *why);
/* The hash that a piece of these rows has. */
void prefix_piece_hash(const struct kv_pool *pool, enum kv_class c, uint32_t page, uint32_t rows,
                       uint64_t hash[2]);
/* The first rows of a page, as a file holds them, handed to fn part by part. */
typedef slm_err (*prefix_part)(void *user, const void *data, size_t n);
slm_err prefix_piece_walk(const struct kv_pool *pool, enum kv_class c, uint32_t page, uint32_t rows,
                          prefix_part fn, void *user);

#endif
