/* dtype.h - element types of weights as they stand in files.
 *
 * Numbers are GGUF's ggml_type ids, so that a file's id is a dtype after a range check.
 * Source: gguf specification (ggml-org/ggml docs/gguf.md) and the block structs named there. */
#ifndef SLM_BASE_DTYPE_H
#define SLM_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q2_K = 10,
    DT_Q3_K = 11,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_IQ4_NL = 20,
    DT_IQ4_XS = 23,
    DT_BF16 = 30,
    DT_COUNT = 64,
};

/* NULL-named rows are types that slm does not read (dtype_supported false); types known by name
 * only (Q8_1, IQ2_XXS, TQ1_0 ...) have a name and block 0. */
struct dtype_info {
    const char *name;     /* "Q4_K" */
    uint32_t block;       /* elements in one block */
    uint32_t block_bytes; /* bytes in one block */
};
const struct dtype_info *dtype_info(uint32_t id); /* never NULL; name may be NULL for unknown ids */
bool dtype_supported(uint32_t id);
/* Type by name, case-insensitive ("q4_k", "bf16"); -1 if unknown. */
int dtype_by_name(const char *name);
/* Bytes of one row of cols elements; false if cols is no multiple of the block or it overflows. */
bool dtype_row_bytes(enum dtype t, uint64_t cols, size_t *out);

/* bit-exact conversions, round to nearest even on the way down */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f);

#endif
