/* amx_model.h - the tile instructions (AMX) in plain C, for machines that have none.
 *
 * The Makefile compiles matmul_amx.c and peak_amx.c of src/kernels/x86 a second time with this header
 * in front: their intrinsics become the functions below, what they export ends in _model, and nothing
 * else changes. What the processor would answer with a fault ends the test program with a message.
 *
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: "Operation" of
 * LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBSSD, TDPBSUD and TDPBF16PS. */
#ifndef SLM_TESTS_KERNELS_AMX_MODEL_H
#define SLM_TESTS_KERNELS_AMX_MODEL_H

#include <immintrin.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct amx_tile {
    unsigned rows, row_bytes;
    uint8_t data[16][64];
};
/* The state of one thread: not configured after the start and after a release. */
struct amx_state {
    bool configured;
    struct amx_tile tile[8];
};
static _Thread_local struct amx_state amx_state;

static inline void amx_fault(bool fault, const char *what) {
    if (fault) {
        fprintf(stderr, "amx_model: %s\n", what);
        abort();
    }
}

static inline struct amx_tile *amx_tile(unsigned i) {
    amx_fault(!amx_state.configured, "tiles are not configured");
    amx_fault(i >= 8 || amx_state.tile[i].rows == 0, "tile has no rows");
    return &amx_state.tile[i];
}

static inline void amx_loadconfig(const void *from) {
    uint8_t c[64];
    memcpy(c, from, sizeof c);
    amx_fault(c[0] != 1, "palette is not 1");
    memset(&amx_state, 0, sizeof amx_state);
    for (unsigned i = 1; i < 64; i++)
        amx_fault((i < 16 || (i >= 32 && i < 48) || i >= 56) && c[i], "reserved byte is not 0");
    for (unsigned i = 0; i < 8; i++) {
        struct amx_tile *t = &amx_state.tile[i];
        t->row_bytes = c[16 + 2 * i] | (unsigned)c[17 + 2 * i] << 8;
        t->rows = c[48 + i];
        amx_fault(t->rows > 16 || t->row_bytes > 64 || t->row_bytes % 4,
                  "tile is too large or odd");
        amx_fault((t->rows == 0) != (t->row_bytes == 0), "tile has only one dimension");
    }
    amx_state.configured = true;
}

static inline void amx_release(void) {
    memset(&amx_state, 0, sizeof amx_state);
}

static inline void amx_zero(unsigned tile) {
    memset(amx_tile(tile)->data, 0, sizeof amx_state.tile[0].data);
}

static inline void amx_loadd(unsigned tile, const void *from, size_t stride) {
    struct amx_tile *t = amx_tile(tile);
    memset(t->data, 0, sizeof t->data);
    for (unsigned r = 0; r < t->rows; r++)
        memcpy(t->data[r], (const uint8_t *)from + r * stride, t->row_bytes);
}

static inline void amx_stored(unsigned tile, void *to, size_t stride) {
    const struct amx_tile *t = amx_tile(tile);
    for (unsigned r = 0; r < t->rows; r++)
        memcpy((uint8_t *)to + r * stride, t->data[r], t->row_bytes);
}

/* C (m x n) += A (m x k) * B (k x n) in elements of 4 bytes: the shapes must fit. */
static inline void amx_shapes(unsigned c, unsigned a, unsigned b) {
    amx_fault(c == a || a == b || c == b, "the same tile twice in a product");
    const struct amx_tile *tc = amx_tile(c), *ta = amx_tile(a), *tb = amx_tile(b);
    amx_fault(tc->rows != ta->rows || tc->row_bytes != tb->row_bytes ||
                  ta->row_bytes / 4 != tb->rows,
              "shapes of a product do not fit");
}

static inline void amx_dot_bytes(unsigned c, unsigned a, unsigned b, bool b_signed) {
    amx_shapes(c, a, b);
    struct amx_tile *tc = amx_tile(c), *ta = amx_tile(a), *tb = amx_tile(b);
    for (unsigned m = 0; m < tc->rows; m++)
        for (unsigned n = 0; n < tc->row_bytes / 4; n++) {
            uint32_t sum;
            memcpy(&sum, &tc->data[m][4 * n], sizeof sum);
            for (unsigned k = 0; k < tb->rows; k++)
                for (unsigned i = 0; i < 4; i++) {
                    int x = (int8_t)ta->data[m][4 * k + i], y = tb->data[k][4 * n + i];
                    sum += (uint32_t)(x * (b_signed ? (int8_t)y : y)); /* wraps, never saturates */
                }
            memcpy(&tc->data[m][4 * n], &sum, sizeof sum);
        }
}

static inline void amx_dpbssd(unsigned c, unsigned a, unsigned b) {
    amx_dot_bytes(c, a, b, true);
}

static inline void amx_dpbsud(unsigned c, unsigned a, unsigned b) {
    amx_dot_bytes(c, a, b, false);
}

/* Denormals are zero on the way in and out, whatever MXCSR says. */
static inline float amx_flush(float x) {
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

static inline float amx_bf16(const uint8_t *p) {
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float x;
    memcpy(&x, &bits, sizeof x);
    return amx_flush(x);
}

static inline void amx_dpbf16ps(unsigned c, unsigned a, unsigned b) {
    amx_shapes(c, a, b);
    struct amx_tile *tc = amx_tile(c), *ta = amx_tile(a), *tb = amx_tile(b);
    for (unsigned m = 0; m < tc->rows; m++)
        for (unsigned n = 0; n < tc->row_bytes / 4; n++) {
            float chain[2] = { 0, 0 }, old;
            for (unsigned k = 0; k < tb->rows; k++)
                for (unsigned i = 0; i < 2; i++)
                    chain[i] = amx_flush(fmaf(amx_bf16(&ta->data[m][4 * k + 2 * i]),
                                              amx_bf16(&tb->data[k][4 * n + 2 * i]), chain[i]));
            memcpy(&old, &tc->data[m][4 * n], sizeof old);
            float sum = amx_flush(amx_flush(old) + amx_flush(chain[0] + chain[1]));
            memcpy(&tc->data[m][4 * n], &sum, sizeof sum);
        }
}

#ifdef SLM_AMX_MODEL_REPLACES /* the second build of matmul_amx.c */
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_loadconfig
#define _tile_release amx_release
#define _tile_loadd amx_loadd
#define _tile_stored amx_stored
#define _tile_zero amx_zero
#define _tile_dpbssd amx_dpbssd
#define _tile_dpbsud amx_dpbsud
#define _tile_dpbf16ps amx_dpbf16ps
#define matmul_ops_amx matmul_ops_amx_model
#define peak_int8_amx peak_int8_amx_model
#define peak_bf16_amx peak_bf16_amx_model
#else
extern const struct matmul_ops matmul_ops_amx_model;
uint64_t peak_int8_amx_model(uint64_t rounds), peak_bf16_amx_model(uint64_t rounds);
#endif

#endif
