/* fuzz_safetensors.c - any bytes as a folder of safetensors.
 *
 * The first byte says how the rest is cut: 0: one file, as it is; 1: one file, in front of which the
 * length of the header is put, so that the fuzzer need not guess it (it ends at the last '}'); 2: an
 * index and two shards, separated by 0xff 0xfe 0xfd. Checks as in fuzz_gguf.c. */
#include <stdlib.h>

#include "format_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct slm_memory_file *files, size_t n, size_t size) {
    struct counter c;
    counter_init(&c);
    struct tensors *t;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(&c.hooks, files, n, &t, &why);
    if (err == SLM_OK ? !image_sound(t, files, n)
                      : (t != NULL || why.code != err || why.message[0] == '\0'))
        abort();
    tensors_close(t);
    if (c.live != 0 || c.peak > 4 * size + (64u << 20))
        abort();
}

/* Header and data from text and data: json up to the last '}', padded, with its length in front. */
static struct image with_length(const uint8_t *data, size_t size) {
    size_t end = size;
    while (end > 0 && data[end - 1] != '}')
        end--;
    struct image g = { 0 };
    img_le(&g, (end + 7) / 8 * 8, 8);
    img_bytes(&g, data, end);
    for (size_t i = end; i % 8 != 0; i++)
        img_le(&g, ' ', 1);
    img_bytes(&g, data + end, size - end);
    return g;
}

static size_t find_separator(const uint8_t *data, size_t size, size_t from) {
    for (size_t i = from; i + 3 <= size; i++)
        if (data[i] == 0xff && data[i + 1] == 0xfe && data[i + 2] == 0xfd)
            return i;
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    uint8_t kind = data[0] % 3;
    data++;
    size--;
    if (kind == 0) {
        struct slm_memory_file file = { "m.safetensors", data, size };
        check(&file, 1, size);
    } else if (kind == 1) {
        struct image g = with_length(data, size);
        struct slm_memory_file file = { "m.safetensors", g.data, g.n };
        check(&file, 1, g.n);
        img_free(&g);
    } else {
        size_t a = find_separator(data, size, 0),
               b = a < size ? find_separator(data, size, a + 3) : size;
        struct image one = with_length(data + (a < size ? a + 3 : size), a < size ? b - a - 3 : 0);
        struct image two =
            with_length(data + (b < size ? b + 3 : size), b < size ? size - b - 3 : 0);
        struct slm_memory_file files[] = { { "model.safetensors.index.json", data, a },
                                       { "a.safetensors", one.data, one.n },
                                       { "b.safetensors", two.data, two.n } };
        check(files, 3, a + one.n + two.n);
        img_free(&one);
        img_free(&two);
    }
    return 0;
}
