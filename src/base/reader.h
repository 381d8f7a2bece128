/* reader.h - reading untrusted little-endian bytes.
 *
 * The first failure sticks: later reads return zero, and r->err, r->pos tell what and where.
 * Compares as n > size - pos, so no addition can wrap. */
#ifndef SLM_BASE_READER_H
#define SLM_BASE_READER_H

#include "base/err.h"

struct reader {
    const uint8_t *data; /* borrowed, [size] */
    size_t size;
    size_t pos; /* offset of the next byte, or of the failure */
    slm_err err;
    slm_why *why; /* may be NULL; filled at the first failure */
};

void reader_init(struct reader *r, const void *data, size_t size, slm_why *why);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
float read_f32(struct reader *r);
double read_f64(struct reader *r);
const uint8_t *read_bytes(struct reader *r, uint64_t n); /* borrowed [n]; NULL on failure */
void read_skip(struct reader *r, uint64_t n);
/* Marks the reader as failed (unless it is already) at r->pos and returns the sticky error. */
slm_err reader_fail(struct reader *r, slm_err code, const char *format, ...) ATTR_PRINTF(3, 4);

#endif
