/* test_format_changed.c - a file that somebody writes to while it is in use gives wrong texts, but
 * never ones that lie outside of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* err.h's function of that name, used by headers of the library */

#include "format_image.h"

static void test_strings_stay_inside(void **state) {
    static const uint64_t lies[] = { 4, 13, 1000, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63 };
    struct image g = { 0 };
    struct tensors *t = NULL;
    (void)state;
    img_head(&g, 3, 0, 1);
    img_array(&g, "texts", GGUF_STRING, 2);
    size_t at = g.n;
    img_text(&g, "one");
    img_text(&g, "two");
    const struct slm_memory_file file = { "x.gguf", g.data, g.n };
    slm_why why;
    assert_int_equal(tensors_open_memory(NULL, &file, 1, &t, &why), SLM_OK);
    const struct gguf_value *v = gguf_find(t->gguf, "texts");
    assert_non_null(v);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        const char *s;
        size_t n;
        uint64_t cursor = 0;
        for (unsigned b = 0; b < 8; b++)
            g.data[at + b] = (uint8_t)(lies[i] >> (8 * b));
        while (gguf_next_str(v, &cursor, &s, &n)) {
            assert_true((const uint8_t *)s >= g.data + at);
            assert_true(n <= (size_t)(g.data + g.n - (const uint8_t *)s));
        }
    }
    tensors_close(t);
    free(g.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings_stay_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
