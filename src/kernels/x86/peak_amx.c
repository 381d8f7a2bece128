/* peak_amx.c - the multiply peaks of tile registers: four sums, so that no product waits for the
 * one before (its latency is about three times its 16 cycles). What is read and multiplied, and what
 * is returned: struct peak_ops. */
#include "kernels/peak.h"

#include "base/compiler.h"

#ifdef HAVE_AMX_KERNELS
#include <immintrin.h>
#include <string.h>

/* Every tile 16 rows of 64 bytes: sums 0 to 3 are zero, tile 4 holds x, tile 5 holds y. */
ISA_AMX static void tiles_start(uint32_t x, uint32_t y) {
    _Alignas(64) uint8_t config[64] = { 1 /* palette */ };
    _Alignas(64) uint32_t numbers[2][256];
    for (size_t i = 0; i < 8; i++) {
        config[16 + 2 * i] = 64;
        config[48 + i] = 16;
    }
    for (size_t i = 0; i < 256; i++) {
        numbers[0][i] = x;
        numbers[1][i] = y;
    }
    COMPILER_BARRIER(); /* the tiles read what was written */
    _tile_loadconfig(config);
    _tile_loadd(4, numbers[0], 64);
    _tile_loadd(5, numbers[1], 64);
}

ISA_AMX static void tiles_end(uint32_t sums[4][256]) {
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    _tile_release();
}

ISA_AMX uint64_t peak_int8_amx(uint64_t rounds) {
    uint32_t sums[4][256], sum = 0;
    tiles_start(0x03030303, 0x02020202);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbsud(0, 4, 5);
        _tile_dpbsud(1, 4, 5);
        _tile_dpbsud(2, 4, 5);
        _tile_dpbsud(3, 4, 5);
    }
    tiles_end(sums);
    for (size_t i = 0; i < 1024; i++)
        sum += sums[i / 256][i % 256];
    return sum;
}

ISA_AMX uint64_t peak_bf16_amx(uint64_t rounds) {
    uint32_t sums[4][256];
    double sum = 0;
    float f;
    tiles_start(0x3f003f00 /* 0.5 */, 0x3e803e80 /* 0.25 */);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    tiles_end(sums);
    for (size_t i = 0; i < 1024; i++) {
        memcpy(&f, &sums[i / 256][i % 256], sizeof f);
        sum += (double)f;
    }
    return (uint64_t)sum;
}
#endif
