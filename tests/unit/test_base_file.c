/* test_base_file.c - mapping, reading with a ceiling, and each way in which a path can be wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "support.h"

static void test_map(void **state) {
    (void)state;
    char path[512];
    enum { N = 3 * 65536 + 17 };
    char *data = malloc(N);
    for (size_t i = 0; i < N; i++)
        data[i] = (char)(i * 7);
    assert_true(temp_file(path, sizeof path, "plain", data, N));
    struct mapping m;
    assert_int_equal(file_map(path, &m, NULL), SLM_OK);
    assert_int_equal(m.size, N);
    assert_memory_equal(m.data, data, N);
    file_want(&m, 0, N);
    file_want(&m, 100, SIZE_MAX);
    file_drop(&m, 5, N - 10);
    file_drop(&m, SIZE_MAX, 5);
    file_drop(&m, N, 1);
    assert_memory_equal(m.data, data, N); /* dropped pages come back from the file */
    file_unmap(&m);
    assert_null(m.data);
    file_unmap(&m); /* twice is harmless */
    /* memory of the caller is neither dropped nor unmapped */
    struct mapping own = { .data = (const uint8_t *)data, .size = N };
    file_drop(&own, 0, N);
    file_unmap(&own);
    assert_int_equal(data[1], 7);
    free(data);
}

static void test_map_refusals(void **state) {
    (void)state;
    char path[512], fifo[600];
    slm_why why;
    struct mapping m = { .size = 9 };
    assert_true(temp_file(path, sizeof path, "empty", "", 0));
    assert_int_equal(file_map(path, &m, &why), SLM_OK);
    assert_true(m.data == NULL && m.size == 0);
    file_unmap(&m);
    assert_int_equal(file_map("/nowhere/at/all", &m, &why), SLM_E_NOTFOUND);
    assert_non_null(strstr(why.message, "/nowhere/at/all"));
    assert_int_equal(file_map(path, &m, NULL), SLM_OK);
    char below[600];
    snprintf(below, sizeof below, "%s/x", path); /* a file is not a folder */
    assert_int_equal(file_map(below, &m, &why), SLM_E_NOTFOUND);
    assert_int_equal(file_map("/", &m, &why), SLM_E_IO);
    assert_int_equal(file_map("/dev/null", &m, &why), SLM_E_IO);
    snprintf(fifo, sizeof fifo, "%s.fifo", path); /* must not wait for a writer */
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_map(fifo, &m, &why), SLM_E_IO);
    assert_null(m.data);
}

static void test_read(void **state) {
    (void)state;
    char path[512];
    struct test_hooks t;
    test_hooks_init(&t, 0);
    slm_why why;
    assert_true(temp_file(path, sizeof path, "text", "hello\0world", 11));
    char *text = NULL;
    size_t n = 0;
    assert_int_equal(file_read(&t.hooks, path, 11, &text, &n, &why), SLM_OK);
    assert_int_equal(n, 11);
    assert_memory_equal(text, "hello\0world", 12);
    mem_free(&t.hooks, text);
    text = NULL;
    assert_int_equal(file_read(&t.hooks, path, 10, &text, &n, &why), SLM_E_BUDGET);
    assert_null(text);
    assert_non_null(strstr(why.message, "11 bytes, at most 10"));
    assert_int_equal(file_read(&t.hooks, "/nowhere", 10, &text, &n, &why), SLM_E_NOTFOUND);
    assert_int_equal(file_read(&t.hooks, "/", 10, &text, &n, &why), SLM_E_IO);
    /* a file whose size is not known beforehand */
    assert_int_equal(file_read(&t.hooks, "/proc/self/status", 1 << 20, &text, &n, &why), SLM_OK);
    assert_true(n > 100);
    mem_free(&t.hooks, text);
    assert_int_equal(file_read(&t.hooks, "/dev/zero", 100000, &text, &n, &why), SLM_E_BUDGET);
    assert_int_equal(t.live, 0);
    for (size_t k = 1;; k++) {
        test_hooks_init(&t, k);
        slm_err err = file_read(&t.hooks, path, 1000, &text, &n, &why);
        if (err == SLM_OK) {
            mem_free(&t.hooks, text);
            assert_false(t.failed);
            break;
        }
        assert_int_equal(err, SLM_E_NOMEM);
        assert_int_equal(t.live, 0);
    }
}

static void test_paths(void **state) {
    (void)state;
    char path[512];
    assert_true(temp_file(path, sizeof path, "sub/exists", "x", 1));
    assert_true(file_exists(path));
    assert_false(dir_exists(path));
    *strrchr(path, '/') = '\0';
    assert_true(dir_exists(path));
    assert_false(file_exists(path));
    assert_false(file_exists("/nowhere"));
    static const char *cases[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "/", "b", "/b" },
        { "", "b", "b" },    { "a", "", "a/" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *p = path_join(NULL, cases[i][0], cases[i][1]);
        assert_string_equal(p, cases[i][2]);
        mem_free(NULL, p);
    }
    struct test_hooks t;
    test_hooks_init(&t, 1);
    assert_null(path_join(&t.hooks, "a", "b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_refusals),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
