/* reader.c - little-endian reads from untrusted memory with a sticky error. */
#include "base/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void reader_init(struct reader *r, const void *data, size_t size, slm_why *why) {
    *r = (struct reader){ .data = data, .size = size, .why = why };
}

const uint8_t *read_bytes(struct reader *r, uint64_t n) {
    if (r->err != SLM_OK)
        return NULL;
    if (n > r->size - r->pos) {
        reader_fail(r, SLM_E_FORMAT, "%llu bytes wanted, %zu left", (unsigned long long)n,
                    r->size - r->pos);
        return NULL;
    }
    /* an empty reader may have data NULL: zero bytes of it are still a success */
    const uint8_t *p = r->data != NULL ? r->data + r->pos : (const uint8_t *)"";
    r->pos += (size_t)n;
    return p;
}

void read_skip(struct reader *r, uint64_t n) {
    (void)read_bytes(r, n);
}

uint8_t read_u8(struct reader *r) {
    const uint8_t *p = read_bytes(r, 1);
    return p != NULL ? p[0] : 0;
}

uint16_t read_u16(struct reader *r) {
    const uint8_t *p = read_bytes(r, 2);
    return p != NULL ? (uint16_t)((unsigned)p[0] | (unsigned)p[1] << 8) : 0;
}

static uint32_t load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t read_u32(struct reader *r) {
    const uint8_t *p = read_bytes(r, 4);
    return p != NULL ? load_u32(p) : 0;
}

uint64_t read_u64(struct reader *r) {
    const uint8_t *p = read_bytes(r, 8);
    return p != NULL ? load_u32(p) | (uint64_t)load_u32(p + 4) << 32 : 0;
}

float read_f32(struct reader *r) {
    uint32_t bits = read_u32(r);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

double read_f64(struct reader *r) {
    uint64_t bits = read_u64(r);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

slm_err reader_fail(struct reader *r, slm_err code, const char *format, ...) {
    if (r->err != SLM_OK)
        return r->err;
    r->err = code;
    if (r->why == NULL)
        return code;
    char message[sizeof r->why->message];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return fail(r->why, code, r->pos, "%s", n < 0 ? format : message);
}
