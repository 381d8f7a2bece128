/* test_base_folder.c - making folders, listing them, reading files by position, files of caches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/folder.h"
#include "base/outfile.h"
#include "support.h"

static char base[400];
static slm_why why;

static const char *under_base(const char *name) {
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", base, name);
    return path;
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(under_base(name), "wb");
    assert_true(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void test_make(void **state) {
    (void)state;
    struct stat st;
    assert_int_equal(folder_make(NULL, under_base("a/b//c/"), &why), SLM_OK);
    assert_int_equal(folder_make(NULL, under_base("a/b/c"), &why), SLM_OK); /* it is there */
    assert_true(stat(under_base("a/b"), &st) == 0 && (st.st_mode & 0777) == 0700);
    assert_int_equal(chmod(under_base("a/b"), 0755), 0);
    assert_int_equal(folder_make(NULL, under_base("a/b"), &why), SLM_OK);
    assert_true(stat(under_base("a/b"), &st) == 0 && (st.st_mode & 0777) == 0755); /* as it was */
    assert_int_equal(folder_make(NULL, "", &why), SLM_E_ARG);
    write_file("plain", "x");
    assert_int_equal(folder_make(NULL, under_base("plain"), &why), SLM_E_IO);
    assert_int_equal(folder_make(NULL, under_base("plain/d"), &why), SLM_E_IO);
    struct test_hooks h;
    test_hooks_init(&h, 1);
    assert_int_equal(folder_make(&h.hooks, under_base("e"), &why), SLM_E_NOMEM);
    rmdir(under_base("a/b/c"));
    rmdir(under_base("a/b"));
    rmdir(under_base("a"));
    unlink(under_base("plain"));
}

struct seen {
    size_t n, most;
    uint64_t bytes;
    int64_t used;
};

static bool see(void *user, const struct folder_entry *e) {
    struct seen *s = user;
    assert_true(strncmp(e->name, "file", 4) == 0);
    s->bytes += e->size;
    s->used = e->used;
    return ++s->n < s->most;
}

static void test_each(void **state) {
    (void)state;
    struct seen s = { .most = 100 };
    assert_int_equal(folder_make(NULL, under_base("list/below"), &why), SLM_OK);
    write_file("list/file1", "abc");
    write_file("list/file2", "defgh");
    assert_int_equal(symlink("file1", under_base("list/link")), 0);
    assert_int_equal(folder_each(under_base("list"), 100, see, &s, &why), SLM_OK);
    assert_true(s.n == 2 && s.bytes == 8); /* no folder, no link */
    s = (struct seen){ .most = 1 };
    assert_int_equal(folder_each(under_base("list"), 100, see, &s, &why), SLM_OK);
    assert_int_equal(s.n, 1);
    s = (struct seen){ .most = 100 };
    assert_int_equal(folder_each(under_base("list"), 0, see, &s, &why), SLM_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(folder_each(under_base("nowhere"), 9, see, &s, &why), SLM_E_NOTFOUND);
    assert_true(file_remove(under_base("list/file2")));
    assert_false(file_remove(under_base("list/file2")));
    struct timespec old[2] = { { .tv_sec = 5 }, { .tv_sec = 5 } };
    assert_int_equal(utimensat(-1, under_base("list/file1"), old, 0), 0);
    assert_int_equal(folder_each(under_base("list"), 100, see, &s, &why), SLM_OK);
    assert_true(s.used == (int64_t)5 * 1000000000);
    int64_t before = clock_utc_ns();
    file_mark_used(under_base("list/file1"));
    file_mark_used(under_base("nowhere")); /* no harm */
    assert_int_equal(folder_each(under_base("list"), 100, see, &s, &why), SLM_OK);
    assert_true(s.used > before - (int64_t)60 * 1000000000 &&
                s.used < before + (int64_t)60 * 1000000000);
    unlink(under_base("list/file1"));
    unlink(under_base("list/link"));
    rmdir(under_base("list/below"));
    rmdir(under_base("list"));
}

static void test_read(void **state) {
    (void)state;
    struct infile f;
    char to[8] = "";
    write_file("text", "0123456789");
    assert_int_equal(infile_open(under_base("text"), &f, &why), SLM_OK);
    assert_int_equal(f.size, 10);
    assert_int_equal(infile_read(&f, 3, to, 4, &why), SLM_OK);
    assert_memory_equal(to, "3456", 4);
    assert_int_equal(infile_read(&f, 10, to, 0, &why), SLM_OK);
    assert_int_equal(infile_read(&f, 7, to, 4, &why), SLM_E_IO);
    assert_int_equal(infile_read(&f, UINT64_MAX, to, 1, &why), SLM_E_IO);
    assert_int_equal(truncate(under_base("text"), 5), 0); /* while it is open */
    assert_int_equal(infile_read(&f, 3, to, 4, &why), SLM_E_IO);
    assert_non_null(strstr(why.message, "shorter"));
    infile_close(&f);
    assert_int_equal(symlink("text", under_base("link")), 0);
    assert_int_equal(infile_open(under_base("link"), &f, &why), SLM_E_IO);
    assert_int_equal(mkfifo(under_base("fifo"), 0600), 0);
    assert_int_equal(infile_open(under_base("fifo"), &f, &why), SLM_E_IO); /* and does not wait */
    assert_int_equal(infile_open(base, &f, &why), SLM_E_IO);
    assert_int_equal(infile_open(under_base("nowhere"), &f, &why), SLM_E_NOTFOUND);
    unlink(under_base("link"));
    unlink(under_base("fifo"));
    unlink(under_base("text"));
}

static void test_cache_file(void **state) {
    (void)state;
    struct outfile *f;
    struct stat st;
    mode_t mask = umask(0);
    for (unsigned finish = 0; finish < 2; finish++) {
        assert_int_equal(outfile_open_cache(NULL, under_base("kept"), &f, &why), SLM_OK);
        assert_int_equal(outfile_write(f, "abc", 3, &why), SLM_OK);
        assert_int_not_equal(access(under_base("kept"), F_OK), 0);
        assert_int_equal(outfile_close(f, finish == 1, &why), SLM_OK);
        assert_int_equal(access(under_base("kept"), F_OK) == 0, finish == 1);
    }
    assert_true(stat(under_base("kept"), &st) == 0 && (st.st_mode & 0777) == 0600);
    umask(mask);
    unlink(under_base("kept"));
}

static int setup(void **state) {
    (void)state;
    if (!temp_file(base, sizeof base, "here", "", 0))
        return -1;
    *strrchr(base, '/') = '\0';
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_cache_file),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
