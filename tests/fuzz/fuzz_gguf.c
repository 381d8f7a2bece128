/* fuzz_gguf.c - any bytes as a GGUF file (or whatever the first bytes make of it).
 *
 * Checks what no sanitizer sees: an error comes with a reason, a success is sound in all that
 * format.h promises, memory stays within 4 x size + 64 MiB and is all given back.
 * The mutator knows the format: it finds the number fields of the input and sets one to a value at
 * which sizes go wrong, or repeats or removes what a field counts, and mends the count. */
#include <stdlib.h>

#include "format_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* Absent where the corpus is only replayed; clang and gcc both know this attribute. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slm_memory_file file = { "x", data, size };
    struct counter c;
    counter_init(&c);
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(&c.hooks, &file, 1, &t, &why);
    if (err == SLM_OK ? !image_sound(t, &file, 1)
                      : (t != NULL || why.code != err || why.message[0] == '\0'))
        abort();
    tensors_close(t);
    if (c.live != 0 || c.peak > 4 * size + (64u << 20))
        abort();
    return 0;
}

/* ---- mutator ---- */

#define MAX_FIELDS 512

static uint64_t next_random(uint64_t *s) { /* splitmix64 */
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t field_get(const uint8_t *data, const struct field *f) {
    uint64_t v = 0;
    for (unsigned i = f->width; i-- > 0;)
        v = v << 8 | data[f->pos + i];
    return v;
}

/* Copies the bytes between two fields to another place, so that entries are repeated. */
static size_t repeat(uint8_t *data, size_t size, size_t max_size, size_t from, size_t to) {
    if (to <= from || to - from > max_size - size)
        return size;
    size_t n = to - from;
    memmove(data + to + n, data + to, size - to);
    memcpy(data + to, data + from, n);
    return size + n;
}

static size_t cut_out(uint8_t *data, size_t size, size_t from, size_t to) {
    if (to <= from)
        return size;
    memmove(data + from, data + to, size - to);
    return size - (to - from);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint64_t s = seed;
    struct field fields[MAX_FIELDS];
    size_t n = size >= 24 && memcmp(data, "GGUF", 4) == 0
                   ? fields_find(data, size, fields, MAX_FIELDS)
                   : 0;
    if (n < 3 || next_random(&s) % 4 == 0)
        return LLVMFuzzerMutate != NULL ? LLVMFuzzerMutate(data, size, max_size) : size;
    for (unsigned rounds = 1 + (unsigned)(next_random(&s) % 3); rounds > 0; rounds--) {
        const struct field *f = &fields[next_random(&s) % n];
        uint64_t values[BOUNDARY_VALUES], old = field_get(data, f);
        boundary_values(size, 32, values);
        switch (next_random(&s) % 8) {
        case 0: /* another small number: types, counts of dimensions */
            field_set(data, f, next_random(&s) % 48);
            break;
        case 1:
            field_set(data, f, old + (next_random(&s) % 9 - 4));
            break;
        case 2:
            field_set(data, f, old << (next_random(&s) % 8));
            break;
        case 3: /* a stretch from one field to a later one twice, counted or not */
        case 4: {
            size_t a = 3 + next_random(&s) % n, b = a + 1 + next_random(&s) % 8;
            if (b < n) {
                bool mend = next_random(&s) % 2;
                const struct field *count = &fields[1 + next_random(&s) % 2];
                if (mend)
                    field_set(data, count, field_get(data, count) + 1);
                return repeat(data, size, max_size, fields[a].pos, fields[b].pos);
            }
            break;
        }
        case 5: {
            size_t a = 3 + next_random(&s) % n, b = a + 1 + next_random(&s) % 8;
            if (b < n) {
                const struct field *count = &fields[1 + next_random(&s) % 2];
                if (next_random(&s) % 2)
                    field_set(data, count, field_get(data, count) - 1);
                return cut_out(data, size, fields[a].pos, fields[b].pos);
            }
            break;
        }
        default:
            field_set(data, f, values[next_random(&s) % BOUNDARY_VALUES]);
        }
    }
    return size;
}
