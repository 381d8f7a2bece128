/* pack_words.c - packing into panels eight columns at a time, in plain 64-bit arithmetic.
 *
 * In:  16 rows of a file's blocks.     Out: one panel, byte for byte what panel.c packs in the plain way
 * (levels.c, panel_put), which stays as the reference and says how the bytes are arranged.
 * A register holds the levels of 8 neighbouring columns of one row, a byte each, first column lowest:
 * two groups of a panel. Each plane of a chunk is then a few shifts, and one store of 4 bytes per
 * group and row. Units outside, rows inside: the unit that is being written stays in the first-level
 * cache, the 16 rows are read as 16 streams. Assumes little-endian, as the mapped files do.
 * Speed: docs/SPEED.md, "Start". */
#include <string.h>

#include "base/compiler.h"
#include "kernels/pack_words.h"
#include "kernels/panel.h"
#include "kernels/ref/blocks.h"

#define EIGHT (CHUNK / 8) /* registers in a chunk */
#define EACH(x) ((uint64_t)(x)*0x0101010101010101u) /* the same byte eight times */
#define EACH4(x) ((uint32_t)(x)*0x01010101u)

ATTR_INLINE uint64_t get8(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

ATTR_INLINE uint32_t get4(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* The lower half of a register: one group of one row. */
ATTR_INLINE void put4(uint8_t *p, uint64_t x) {
    uint32_t w = (uint32_t)x;
    memcpy(p, &w, 4);
}

/* ---- planes: x[v] holds groups 2v and 2v + 1 of row r; to points at row r of the first vector ----
 * No byte of x has bits above those of its plane, so nothing is shifted into a neighbour. */

ATTR_INLINE void plane_8(uint8_t *to, const uint64_t *x) {
    UNROLL_SHORT for (unsigned v = 0; v < EIGHT; v++) {
        put4(to + VEC * 2 * v, x[v]);
        put4(to + VEC * (2 * v + 1), x[v] >> 32);
    }
}

ATTR_INLINE void plane_4(uint8_t *to, const uint64_t *x) {
    UNROLL_SHORT for (unsigned v = 0; v < EIGHT; v++)
        put4(to + VEC * v, x[v] | x[v] >> 28);
}

ATTR_INLINE void plane_2(uint8_t *to, const uint64_t *x) {
    UNROLL_SHORT for (unsigned v = 0; v < EIGHT; v += 2)
        put4(to + VEC * (v / 2), x[v] | x[v] >> 30 | x[v + 1] << 4 | x[v + 1] >> 26);
}

ATTR_INLINE void plane_1(uint8_t *to, const uint64_t *x) {
    put4(to, x[0] | x[0] >> 31 | x[1] << 2 | x[1] >> 29 | x[2] << 4 | x[2] >> 27 | x[3] << 6 |
                 x[3] >> 25);
}

/* ---- levels of one chunk out of the file's bytes ---- */

/* Bits [place, place + bits) of each byte, 32 bytes. */
ATTR_INLINE void field_32(const uint8_t *p, unsigned place, unsigned bits, uint64_t *x) {
    UNROLL_SHORT for (unsigned v = 0; v < EIGHT; v++)
        x[v] = get8(p + 8 * v) >> place & EACH((1u << bits) - 1);
}

/* 16 bytes: low nibbles first, then the high ones. */
ATTR_INLINE void nibbles_16(const uint8_t *p, uint64_t *x) {
    uint64_t a = get8(p), b = get8(p + 8);
    x[0] = a & EACH(15);
    x[1] = b & EACH(15);
    x[2] = a >> 4 & EACH(15);
    x[3] = b >> 4 & EACH(15);
}

/* 32 bits, one per column. Bit k of a byte is kept in byte k, then made the lowest bit there. */
ATTR_INLINE void bits_32(const uint8_t *p, uint64_t *x) {
    UNROLL_SHORT for (unsigned v = 0; v < EIGHT; v++)
        x[v] = ((EACH(p[v]) & 0x8040201008040201u) + EACH(0x7f)) >> 7 & EACH(1);
}

/* ---- headers ---- */

/* Numbers of a unit's rows before they are joined: set A and set B, a byte each, at their places. */
struct six {
    uint8_t a[128], b[128];
};

ATTR_INLINE void by_row(uint8_t *to, unsigned r, uint64_t eight) { /* place 16 j + r */
    UNROLL_SHORT for (unsigned j = 0; j < 8; j++)
        to[16 * j + r] = (uint8_t)(eight >> (8 * j));
}

ATTR_INLINE void by_pair(uint8_t *to, unsigned r, uint64_t eight) { /* 32 (j / 2) + 2 r + j % 2 */
    UNROLL_SHORT for (unsigned j = 0; j < 8; j += 2) {
        uint16_t pair = (uint16_t)(eight >> (8 * j));
        memcpy(to + 16 * j + 2 * r, &pair, 2);
    }
}

static void six_join(const struct six *s, uint8_t *h) {
    for (unsigned i = 0; i < 128; i++)
        h[i] = (uint8_t)((s->a[i] & 15) | (s->b[i] & 15) << 4);
    for (unsigned i = 0; i < 64; i++)
        h[128 + i] = (uint8_t)(s->a[i] >> 4 | s->a[i + 64] >> 4 << 2 | s->b[i] >> 4 << 4 |
                               s->b[i + 64] >> 4 << 6);
}

/* Six-bit scales and minima of Q4_K and Q5_K out of their 12 bytes (ref/blocks.h). */
ATTR_INLINE void k4_numbers(const uint8_t *sc, struct six *s, unsigned r) {
    uint32_t a = get4(sc), b = get4(sc + 4), c = get4(sc + 8);
    uint64_t scales = (c & EACH4(15)) | (a >> 6 & EACH4(3)) << 4;
    uint64_t mins = (c >> 4 & EACH4(15)) | (b >> 6 & EACH4(3)) << 4;
    by_row(s->a, r, scales << 32 | (a & EACH4(63)));
    by_pair(s->b, r, mins << 32 | (b & EACH4(63)));
}

ATTR_INLINE void q3_numbers(const uint8_t *sc, struct six *s, unsigned r) {
    uint64_t low = get8(sc), high = get4(sc + 8);
    uint64_t a = (high & EACH4(3)) | (high >> 2 & EACH4(3)) << 32;
    uint64_t b = (high >> 4 & EACH4(3)) | (high >> 6 & EACH4(3)) << 32;
    by_row(s->a, r, (low & EACH(15)) | a << 4);
    by_row(s->b, r, (low >> 4 & EACH(15)) | b << 4);
}

ATTR_INLINE void copy_2(uint8_t *to, const uint8_t *from) {
    memcpy(to, from, 2);
}

/* ---- one unit of 256 columns per type ----
 * rows[r] + at: the row's block.  unit: zeroed where no row writes. */

static void unit_q4_k(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    struct six s = { { 0 }, { 0 } };
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 256 + 4 * r;
        copy_2(unit + 2 * r, b + Q4_K_D);
        copy_2(unit + 32 + 2 * r, b + Q4_K_DMIN);
        k4_numbers(b + Q4_K_SC, &s, r);
        for (unsigned c = 0; c < 8; c++) {
            uint64_t x[EIGHT];
            field_32(b + Q4_K_QS + 32 * (c / 2), 4 * (c % 2), 4, x);
            plane_4(to + c * 4 * VEC, x);
        }
    }
    six_join(&s, unit + 64);
}

static void unit_q5_k(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    struct six s = { { 0 }, { 0 } };
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 256 + 4 * r;
        copy_2(unit + 2 * r, b + Q4_K_D);
        copy_2(unit + 32 + 2 * r, b + Q4_K_DMIN);
        k4_numbers(b + Q4_K_SC, &s, r);
        for (unsigned c = 0; c < 8; c++) {
            uint64_t x[EIGHT];
            field_32(b + Q5_K_QS + 32 * (c / 2), 4 * (c % 2), 4, x);
            plane_4(to + c * 5 * VEC, x);
            field_32(b + Q5_K_QH, c, 1, x);
            plane_1(to + c * 5 * VEC + 4 * VEC, x);
        }
    }
    six_join(&s, unit + 64);
}

static void unit_q6_k(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 320 + 4 * r;
        copy_2(unit + 2 * r, b + Q6_K_D);
        by_row(unit + 32, r, get8(b + Q6_K_SC));
        by_row(unit + 160, r, get8(b + Q6_K_SC + 8));
        for (unsigned c = 0; c < 8; c++) {
            unsigned half = c / 4, s = c % 4;
            uint64_t x[EIGHT];
            field_32(b + Q6_K_QL + 64 * half + 32 * (s % 2), 4 * (s / 2), 4, x);
            plane_4(to + c * 6 * VEC, x);
            field_32(b + Q6_K_QH + 32 * half, 2 * s, 2, x);
            plane_2(to + c * 6 * VEC + 4 * VEC, x);
        }
    }
}

static void unit_q2_k(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    uint8_t scales[256] = { 0 }, mins[256] = { 0 };
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 320 + 4 * r;
        copy_2(unit + 2 * r, b + Q2_K_D);
        copy_2(unit + 32 + 2 * r, b + Q2_K_DMIN);
        for (unsigned j = 0; j < 2; j++) {
            uint64_t eight = get8(b + Q2_K_SC + 8 * j);
            by_row(scales + 128 * j, r, eight & EACH(15));
            by_pair(mins + 128 * j, r, eight & EACH(0xf0));
        }
        for (unsigned c = 0; c < 8; c++) {
            uint64_t x[EIGHT];
            field_32(b + Q2_K_QS + 32 * (c / 4), 2 * (c % 4), 2, x);
            plane_2(to + c * 2 * VEC, x);
        }
    }
    for (unsigned i = 0; i < 256; i++)
        unit[64 + i] = scales[i] | mins[i];
}

static void unit_q3_k(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    struct six s = { { 0 }, { 0 } };
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 256 + 4 * r;
        copy_2(unit + 2 * r, b + Q3_K_D);
        q3_numbers(b + Q3_K_SC, &s, r);
        for (unsigned c = 0; c < 8; c++) {
            uint64_t x[EIGHT];
            field_32(b + Q3_K_QS + 32 * (c / 4), 2 * (c % 4), 2, x);
            plane_2(to + c * 3 * VEC, x);
            field_32(b + Q3_K_HM, c, 1, x);
            plane_1(to + c * 3 * VEC + 2 * VEC, x);
        }
    }
    six_join(&s, unit + 32);
}

static void unit_iq4_xs(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                        uint8_t *unit) {
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 192 + 4 * r;
        unsigned high = get_u16(b + IQ4_XS_SH);
        copy_2(unit + 2 * r, b + IQ4_XS_D);
        for (unsigned j = 0; j < 8; j++) {
            unsigned low = (unsigned)b[IQ4_XS_SL + j / 2] >> (j % 2 * 4) & 15u;
            unit[32 + 16 * j + r] = (uint8_t)((low | (high >> (2 * j) & 3u) << 4) - 32u);
        }
        for (unsigned c = 0; c < 8; c++) {
            uint64_t x[EIGHT];
            nibbles_16(b + IQ4_XS_QS + 16 * c, x);
            plane_4(to + c * 4 * VEC, x);
        }
    }
}

/* ---- units of blocks of 32 columns: one block, or two with their scales in one header ---- */

static void unit_q4_0(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) { /* IQ4_NL too */
    for (unsigned r = 0; r < n; r++)
        for (unsigned i = 0; i < blocks; i++) {
            const uint8_t *b = rows[r] + at + i * Q4_0_BYTES;
            uint64_t x[EIGHT];
            copy_2(unit + 32 * i + 2 * r, b);
            nibbles_16(b + Q4_0_QS, x);
            plane_4(unit + 64 + i * 4 * VEC + 4 * r, x);
        }
}

static void unit_q5_0(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    for (unsigned r = 0; r < n; r++)
        for (unsigned i = 0; i < blocks; i++) {
            const uint8_t *b = rows[r] + at + i * Q5_0_BYTES;
            uint8_t *to = unit + 64 + i * 5 * VEC + 4 * r;
            uint64_t x[EIGHT];
            copy_2(unit + 32 * i + 2 * r, b);
            nibbles_16(b + Q5_0_QS, x);
            plane_4(to, x);
            bits_32(b + Q5_0_QH, x);
            plane_1(to + 4 * VEC, x);
        }
}

static void unit_q8_0(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    for (unsigned r = 0; r < n; r++)
        for (unsigned i = 0; i < blocks; i++) {
            const uint8_t *b = rows[r] + at + i * Q8_0_BYTES;
            uint64_t x[EIGHT];
            copy_2(unit + 32 * i + 2 * r, b);
            for (unsigned v = 0; v < EIGHT; v++)
                x[v] = get8(b + Q8_0_QS + 8 * v) ^ EACH(0x80);
            plane_8(unit + 64 + i * 8 * VEC + 4 * r, x);
        }
}

static void unit_q4_1(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint64_t x[EIGHT];
        copy_2(unit + 2 * r, b);
        copy_2(unit + 32 + 2 * r, b + Q4_1_M);
        nibbles_16(b + Q4_1_QS, x);
        plane_4(unit + 64 + 4 * r, x);
    }
}

static void unit_q5_1(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                      uint8_t *unit) {
    (void)blocks;
    for (unsigned r = 0; r < n; r++) {
        const uint8_t *b = rows[r] + at;
        uint8_t *to = unit + 64 + 4 * r;
        uint64_t x[EIGHT];
        copy_2(unit + 2 * r, b);
        copy_2(unit + 32 + 2 * r, b + Q5_1_M);
        nibbles_16(b + Q5_1_QS, x);
        plane_4(to, x);
        bits_32(b + Q5_1_QH, x);
        plane_1(to + 4 * VEC, x);
    }
}

typedef void unit_fn(const uint8_t *const *rows, size_t at, unsigned n, unsigned blocks,
                     uint8_t *unit);
static unit_fn *const units[DT_COUNT] = {
    [DT_Q4_0] = unit_q4_0, [DT_Q4_1] = unit_q4_1, [DT_Q5_0] = unit_q5_0,     [DT_Q5_1] = unit_q5_1,
    [DT_Q8_0] = unit_q8_0, [DT_Q2_K] = unit_q2_k, [DT_Q3_K] = unit_q3_k,     [DT_Q4_K] = unit_q4_k,
    [DT_Q5_K] = unit_q5_k, [DT_Q6_K] = unit_q6_k, [DT_IQ4_XS] = unit_iq4_xs, [DT_IQ4_NL] = unit_q4_0,
};

/* ---- float types: 64 bytes of each row at a time, which are whole lines of the panel too ---- */

static void float_f32(const uint8_t *row, uint32_t begin, uint32_t end, unsigned r,
                      uint8_t *panel) {
    for (uint32_t c = begin; c < end; c++)
        put4(panel + (size_t)VEC * c + 4 * r, get4(row + 4 * (size_t)c));
}

/* Two rows share the words of a column. */
static void float_f16(const uint8_t *a, const uint8_t *b, uint32_t begin, uint32_t end, unsigned r,
                      uint8_t *panel) {
    uint32_t c = begin;
    for (; c + 4 <= end; c += 4) {
        uint64_t x = get8(a + 2 * (size_t)c), y = b ? get8(b + 2 * (size_t)c) : 0;
        for (unsigned i = 0; i < 4; i++)
            put4(panel + VEC / 2 * (size_t)(c + i) + 2 * r,
                 (x >> (16 * i) & 0xffff) | (y >> (16 * i) & 0xffff) << 16);
    }
    for (; c < end; c++) {
        copy_2(panel + VEC / 2 * (size_t)c + 2 * r, a + 2 * (size_t)c);
        if (b)
            copy_2(panel + VEC / 2 * (size_t)c + 2 * r + 2, b + 2 * (size_t)c);
    }
}

static void float_bf16(const uint8_t *row, uint32_t begin, uint32_t end, unsigned r,
                       uint8_t *panel) {
    uint32_t c = begin;
    for (; c + 4 <= end; c += 4) {
        uint64_t x = get8(row + 2 * (size_t)c);
        put4(panel + VEC / 2 * (size_t)c + 4 * r, x);
        put4(panel + VEC / 2 * (size_t)(c + 2) + 4 * r, x >> 32);
    }
    for (; c < end; c++)
        copy_2(panel + VEC * (size_t)(c / 2) + 4 * r + c % 2 * 2, row + 2 * (size_t)c);
}

static void pack_float(enum dtype t, const uint8_t *const *rows, unsigned n, uint32_t cols,
                       uint8_t *panel) {
    uint32_t step = t == DT_F32 ? 16 : 32;
    for (uint32_t begin = 0; begin < cols; begin += step) {
        uint32_t end = cols - begin < step ? cols : begin + step;
        for (unsigned r = 0; r < n; r++)
            if (t == DT_F32)
                float_f32(rows[r], begin, end, r, panel);
            else if (t == DT_BF16)
                float_bf16(rows[r], begin, end, r, panel);
            else if (r % 2 == 0)
                float_f16(rows[r], r + 1 < n ? rows[r + 1] : NULL, begin, end, r, panel);
    }
}

/* ---- one panel ---- */

/* The rows of the next panel usually follow these. The processor's own prefetching gives up on 16
 * streams that are read in turns; asking for the same place one panel further keeps up (2 to 3 times
 * the speed on weights that are not in a cache). */
static void ask_ahead(const uint8_t *const *rows, size_t at, unsigned n, size_t bytes,
                      size_t row_bytes) {
    size_t ahead = at + PANEL_ROWS * row_bytes;
    for (unsigned r = 0; r < n; r++)
        for (size_t i = 0; i < bytes; i += VEC)
            PREFETCH((const void *)((uintptr_t)rows[r] + ahead + i)); /* perhaps behind the file */
}

void pack_words(const struct matrix *from, const uint8_t *const *rows, unsigned n_rows,
                size_t panel_bytes, uint8_t *panel) {
    const struct panel_kind *k = panel_kind(from->dtype);
    if (k == NULL) {
        if (n_rows < PANEL_ROWS || from->cols % 2) /* else every byte is written */
            memset(panel, 0, panel_bytes);
        pack_float(from->dtype, rows, n_rows, from->cols, panel);
        return;
    }
    size_t block_bytes = dtype_info(from->dtype)->block_bytes;
    size_t whole = k->header_bytes + (size_t)k->unit_cols / CHUNK * k->chunk_bytes;
    for (uint32_t c = 0; c < from->cols; c += k->unit_cols, panel += whole) {
        uint32_t left = from->cols - c;
        unsigned blocks = (left < k->unit_cols ? left : k->unit_cols) / k->block;
        memset(panel, 0,
               n_rows == PANEL_ROWS ? k->header_bytes
                                    : k->header_bytes + blocks * (size_t)k->block / CHUNK *
                                                            k->chunk_bytes);
        ask_ahead(rows, c / k->block * block_bytes, n_rows, blocks * block_bytes, from->row_bytes);
        units[from->dtype](rows, c / k->block * block_bytes, n_rows, blocks, panel);
    }
}
