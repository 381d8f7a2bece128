/* panel.h - how weights lie in a panel and how activations lie beside them.
 *
 * A panel holds 16 rows of a matrix, column by column in reading order, so that one 64-byte load
 * gives 4 neighbouring columns of each of the 16 rows (a "group"): byte 4 r + i is column 4 g + i
 * of row r. A dot-product instruction multiplies that with 4 activations repeated 16 times; every
 * row keeps its own lane and nothing is ever summed across lanes.
 *
 * Quantised types. The columns are cut into chunks of 32 (8 groups). A chunk is a run of 64-byte
 * vectors, first the low planes, then the high ones; enum form says which:
 *   FORM_8    vector g          = group g, 8 bits
 *   FORM_4    vector v          = group 2v in the low nibbles, group 2v + 1 in the high ones
 *   FORM_4_1  FORM_4, then one vector whose bit g is bit 4 of group g
 *   FORM_4_2  FORM_4, then two vectors; vector 4 + v: bits 2j, 2j + 1 are bits 4, 5 of group 4v + j
 *   FORM_2    vector v: bits 2j, 2j + 1 are group 4v + j
 *   FORM_2_1  FORM_2, then one vector whose bit g is bit 2 of group g
 * A unit is a header of scales and the chunks they belong to; enum header says which:
 *   HEADER_D    f16 d[2][16]: scales of the unit's two blocks of 32          64 bytes, 64 columns
 *   HEADER_DM   f16 d[16], m[16]: scale and minimum of one block of 32       64 bytes, 32 columns
 *   HEADER_K4   f16 d[16], dmin[16], then 16 six-bit numbers per row         256 bytes, 256 columns
 *   HEADER_Q2   f16 d[16], dmin[16], then 16 bytes scale | minimum << 4      320 bytes, 256 columns
 *   HEADER_Q3   f16 d[16], then 16 six-bit numbers (scale + 32) per row      256 bytes, 256 columns
 *   HEADER_I8   f16 d[16], then int8 scale per sub-block and row             320 (Q6_K) or 192 bytes
 * Six-bit numbers are two sets A, B of eight: 128 bytes with A's low nibble | B's low nibble << 4,
 * then 64 bytes with the upper pairs of bits: A 0..3 in bits 0-1, A 4..7 in bits 2-3, B 0..3 in
 * bits 4-5, B 4..7 in bits 6-7. Number j of row r has place 16 j + r; minima have place
 * 32 (j / 2) + 2 r + j % 2, so that neighbours form the pairs of a 16-bit dot product.
 * A matrix whose last unit is short (an odd number of blocks of 32) has a short last unit.
 *
 * Float types: F32 and F16 one vector of 16 numbers per column; BF16 pairs of columns, number
 * 2 r + i is column 2 g + i of row r; an odd last column is padded with zeros.
 *
 * Bytes per weight equal the file's but for the padding of headers: Q6_K +1.0 %, Q3_K +1.8 %,
 * IQ4_XS +2.9 %. */
#ifndef SLM_KERNELS_PANEL_H
#define SLM_KERNELS_PANEL_H

#include "kernels/kernels.h"

#define CHUNK 32 /* columns in a chunk */
#define VEC 64   /* bytes of one group of all 16 rows */

enum form { FORM_8, FORM_4, FORM_4_1, FORM_4_2, FORM_2, FORM_2_1 };
enum header { HEADER_D, HEADER_DM, HEADER_K4, HEADER_Q2, HEADER_Q3, HEADER_I8 };

/* What distinguishes the quantised types once they are in a panel. */
struct panel_kind {
    uint8_t form, header;
    uint16_t block;        /* columns of one block of the file: 32 or 256 */
    uint16_t sub;          /* columns that share one integer scale; 0: none (blocks of 32) */
    uint16_t unit_cols;    /* 32, 64 or 256 */
    uint16_t header_bytes; /* multiple of 64 */
    uint16_t chunk_bytes;  /* multiple of 64 */
    int16_t offset;        /* weight = level - offset; 0 for types with minima */
    bool min;              /* weight = scale * level - minimum */
    bool iq4;              /* levels index iq4_levels[]; offset 128 is added to its values */
};
/* NULL for float types and unknown ones. */
const struct panel_kind *panel_kind(enum dtype t);

/* One block of one row, taken apart. Same content as the file's block, so both ways are exact. */
struct levels {
    uint8_t q[256];   /* level of each column (Q8_0: value + 128) */
    uint16_t d, m;    /* f16 scale; f16 minimum or scale of minima */
    int8_t scale[16]; /* integer scale per sub-block */
    uint8_t min[16];  /* integer minimum per sub-block */
};
void levels_read(enum dtype t, const uint8_t *block, struct levels *l);
void levels_write(enum dtype t, const struct levels *l, uint8_t *block);

/* Block b of row r (0..15) of one panel. put expects zeros where it writes. */
void panel_put(const struct panel_kind *k, uint8_t *panel, size_t b, unsigned r,
               const struct levels *l);
void panel_get(const struct panel_kind *k, const uint8_t *panel, size_t b, unsigned r,
               struct levels *l);

/* ---- activations ----
 * d = absmax / 127, q = round to nearest even of x * (127 / absmax). A block whose absmax is below
 * ACT_TINY counts as zero; a block that holds an infinity or NaN gets d = NaN, q = 0, so that the
 * fault reaches the outputs. Sums are stored negated: every use subtracts. */
#define ACT_TINY 1e-30f

struct act_32 { /* 32 columns of ACT_Q8_32 */
    int8_t q[32];
    float d;
    int32_t nsum; /* -(sum of q) */
    float dsum;   /* d * (float)(sum of q), rounded once */
    uint32_t unused;
};
struct act_256 { /* 256 columns of ACT_Q8_256 */
    int8_t q[256];
    int32_t nsum[16];    /* -(sum of q) per 16 columns */
    int16_t nsum_16[16]; /* the same numbers */
    int16_t nsum_32[8];  /* per 32 columns */
    float d;
    uint8_t unused[12];
};

/* Rows of a panel that exist in the matrix: 16, or fewer in the last panel. */
static inline unsigned panel_rows(const struct matrix *m, uint32_t panel) {
    uint32_t left = m->rows - panel * PANEL_ROWS;
    return left < PANEL_ROWS ? left : PANEL_ROWS;
}

#endif
