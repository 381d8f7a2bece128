/* test_dequant.c - first rows of every kind of matrix in the GGUF twins, difference 0.
 *
 * tests/golden/gguf/<family>/golden.safetensors holds `<tag>.dequant.<tensor>.rows0_1`, float32
 * [2, cols]: rows 0 and 1 of that tensor of <family>-<tag>.gguf after dequantising, as
 * gguf/README.md describes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "kernels/kernels.h"
#include "support.h"

static struct tensors *open_golden(const char *family, const char *file) {
    char rel[256], path[4096];
    struct tensors *t;
    slm_why why;
    snprintf(rel, sizeof rel, "golden/gguf/%s/%s", family, file);
    assert_non_null(data_path(path, sizeof path, rel));
    if (tensors_open(NULL, path, &t, &why) != SLM_OK)
        fail_msg("%s: %s", path, why.message);
    return t;
}

/* Compares one golden tensor; returns the block type that it proved. */
static enum dtype check_rows(const char *family, const struct tensor_info *want) {
    char tag[32], file[128], name[256];
    const char *dequant_at = strstr(want->name, ".dequant."), *end = strstr(want->name, ".rows0_1");
    assert_non_null(end);
    snprintf(tag, sizeof tag, "%.*s", (int)(dequant_at - want->name), want->name);
    dequant_at += strlen(".dequant.");
    snprintf(name, sizeof name, "%.*s", (int)(end - dequant_at), dequant_at);
    snprintf(file, sizeof file, "%s-%s.gguf", family, tag);

    struct tensors *t = open_golden(family, file);
    const struct tensor_info *from = tensors_find(t, name);
    assert_non_null(from);
    assert_int_equal(want->dtype, DT_F32);
    size_t cols = (size_t)from->dims[1];
    assert_int_equal(want->dims[1], cols);
    float *got = malloc(2 * cols * sizeof *got);
    assert_non_null(got);
    dequant(from->dtype, from->data, got, 2 * cols);
    for (size_t i = 0; i < 2 * cols; i++)
        if (memcmp(&got[i], want->data + 4 * i, 4) != 0)
            fail_msg("%s of %s, element %zu of the first two rows is %a", name, file, i,
                     (double)got[i]);
    enum dtype type = from->dtype;
    free(got);
    tensors_close(t);
    return type;
}

static void check_family(const char *family, unsigned least) {
    struct tensors *golden = open_golden(family, "golden.safetensors");
    bool seen[DT_COUNT] = { false };
    unsigned types = 0, tensors = 0;
    for (uint32_t i = 0; i < golden->n; i++) {
        if (!strstr(golden->list[i].name, ".dequant."))
            continue;
        enum dtype t = check_rows(family, &golden->list[i]);
        types += !seen[t];
        seen[t] = true;
        tensors++;
    }
    print_message("# %s: %u tensors of %u types\n", family, tensors, types);
    assert_true(types >= least);
    tensors_close(golden);
}

static void test_qwen3(void **state) {
    (void)state;
    check_family("qwen3", 6); /* F32, F16, Q8_0, Q4_0, Q4_K, Q6_K */
}
static void test_smollm3(void **state) {
    (void)state;
    check_family("smollm3", 5);
}

int main(void) {
    static const struct CMUnitTest tests[] = { cmocka_unit_test(test_qwen3),
                                               cmocka_unit_test(test_smollm3) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
