/* dtype.c - the table of element types, and float conversions bit by bit.
 *
 * Block sizes: ggml's block structs (block_q4_K and so on) as the GGUF specification names them.
 * Conversions: IEEE 754 binary16 and bfloat16 (the upper half of binary32). NaNs come out quiet,
 * with the payload bits that fit, as the F16C and AVX-512 instructions give them. */
#include "base/dtype.h"

#include <ctype.h>
#include <string.h>

/* block 0: known by name only */
static const struct dtype_info types[DT_COUNT] = {
    [DT_F32] = { "F32", 1, 4 },
    [DT_F16] = { "F16", 1, 2 },
    [DT_Q4_0] = { "Q4_0", 32, 18 }, /* f16 scale, 16 bytes of nibbles */
    [DT_Q4_1] = { "Q4_1", 32, 20 }, /* f16 scale and minimum, nibbles */
    [DT_Q5_0] = { "Q5_0", 32, 22 }, /* f16 scale, 4 bytes of high bits, nibbles */
    [DT_Q5_1] = { "Q5_1", 32, 24 }, /* f16 scale and minimum, high bits, nibbles */
    [DT_Q8_0] = { "Q8_0", 32, 34 }, /* f16 scale, 32 int8 */
    [9] = { "Q8_1", 0, 0 },
    [DT_Q2_K] = { "Q2_K", 256, 84 },  /* 16 scale bytes, 64 of 2 bits, f16 scale and minimum */
    [DT_Q3_K] = { "Q3_K", 256, 110 }, /* 32 of high bits, 64 of 2 bits, 12 of scales, f16 */
    [DT_Q4_K] = { "Q4_K", 256, 144 }, /* f16 scale and minimum, 12 of scales, 128 of nibbles */
    [DT_Q5_K] = { "Q5_K", 256, 176 }, /* as Q4_K and 32 of high bits */
    [DT_Q6_K] = { "Q6_K", 256, 210 }, /* 128 low, 64 high, 16 int8 scales, f16 */
    [15] = { "Q8_K", 0, 0 },
    [16] = { "IQ2_XXS", 0, 0 },
    [17] = { "IQ2_XS", 0, 0 },
    [18] = { "IQ3_XXS", 0, 0 },
    [19] = { "IQ1_S", 0, 0 },
    [DT_IQ4_NL] = { "IQ4_NL", 32, 18 }, /* f16 scale, nibbles into a table of 16 values */
    [21] = { "IQ3_S", 0, 0 },
    [22] = { "IQ2_S", 0, 0 },
    [DT_IQ4_XS] = { "IQ4_XS", 256, 136 }, /* f16 scale, 2 + 4 of scales, 128 of nibbles */
    [24] = { "I8", 0, 0 },
    [25] = { "I16", 0, 0 },
    [26] = { "I32", 0, 0 },
    [27] = { "I64", 0, 0 },
    [28] = { "F64", 0, 0 },
    [29] = { "IQ1_M", 0, 0 },
    [DT_BF16] = { "BF16", 1, 2 },
    [34] = { "TQ1_0", 0, 0 },
    [35] = { "TQ2_0", 0, 0 },
    [39] = { "MXFP4", 0, 0 },
};

const struct dtype_info *dtype_info(uint32_t id) {
    static const struct dtype_info unknown = { NULL, 0, 0 };
    return id < DT_COUNT ? &types[id] : &unknown;
}

bool dtype_supported(uint32_t id) {
    return dtype_info(id)->block > 0;
}

static bool same_name(const char *a, const char *b) {
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (toupper((unsigned char)*a) != toupper((unsigned char)*b))
            return false;
    return *a == *b;
}

int dtype_by_name(const char *name) {
    for (int id = 0; id < DT_COUNT; id++)
        if (types[id].name != NULL && same_name(types[id].name, name))
            return id;
    return -1;
}

bool dtype_row_bytes(enum dtype t, uint64_t cols, size_t *out) {
    const struct dtype_info *info = dtype_info((uint32_t)t);
    if (info->block == 0 || cols % info->block != 0)
        return false;
    uint64_t blocks = cols / info->block;
    if (blocks > SIZE_MAX / info->block_bytes)
        return false;
    *out = (size_t)blocks * info->block_bytes;
    return true;
}

/* ---- conversions ---- */

static float f32_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* value >> shift, rounded to nearest, ties to even; shift from 1 to 31 */
static uint32_t shift_even(uint32_t value, unsigned shift) {
    uint32_t kept = value >> shift, rest = value & ((1u << shift) - 1), half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff;
    if (exponent == 0x1f) /* infinity, or a NaN made quiet */
        return f32_of(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in binary32 */
        float magnitude = (float)fraction * 0x1p-24f;
        return f32_of(sign | bits_of(magnitude));
    }
    return f32_of(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

uint16_t f32_to_f16(float f) {
    uint32_t bits = bits_of(f), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | ((magnitude >> 13) & 0x3ff); /* NaN */
    } else if (magnitude >= 0x47800000) {
        half = 0x7c00; /* 2^16 and above, infinity */
    } else if (magnitude >= 0x38800000) {
        /* normal: a carry out of the fraction raises the exponent, at the top to infinity */
        half = shift_even(magnitude - ((127 - 15) << 23), 13);
    } else if (magnitude >= 0x33000000) {
        /* subnormal: units of 2^-24, from 2^-25 (half a unit, a tie) upwards */
        unsigned shift = 126 - (magnitude >> 23);
        half = shift_even((magnitude & 0x7fffff) | 0x800000, shift);
    } else {
        half = 0;
    }
    return (uint16_t)(sign | half);
}

float bf16_to_f32(uint16_t h) {
    return f32_of((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f) {
    uint32_t bits = bits_of(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN: quiet, so that the cut cannot make infinity */
    return (uint16_t)shift_even(bits, 16);
}
