/* rows.h - small pieces that the row and attention kernels of all instruction sets share. */
#ifndef SLM_KERNELS_REF_ROWS_H
#define SLM_KERNELS_REF_ROWS_H

#include "kernels/table.h"

#define KV_GROUP 32 /* values per scale of KV_Q8 */

/* float32 of 1 / sqrt(sum / n + eps) */
float norm_factor(double sum, size_t n, float eps);

/* f16 bits of the scale of a KV_Q8 group whose largest magnitude is amax, and in *inverse what its
 * values are multiplied by before rounding (0: all codes are 0). A group with infinity or NaN
 * (amax not finite) gets a NaN scale: bad numbers must stay visible, not become codes. */
uint16_t kv_q8_scale(float amax, float *inverse);

/* Bytes from rows to those that come next (kernels.h: next); 0: none do. */
static inline size_t kv_distance(const void *rows, const void *next) {
    return next ? (size_t)((uintptr_t)next - (uintptr_t)rows) : 0;
}

#endif
