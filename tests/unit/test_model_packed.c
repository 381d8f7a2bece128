/* test_model_packed.c - packed weights kept in a file: the same bits whether they were packed into
 * memory, just written or found; and nothing that stands in the folder is believed.
 *
 * Models: the twins of tests/golden, copied to a folder of this process, and the demo model quantised.
 * "Bits" are the logits of a short prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bigfile.h"
#include "base/compiler.h"
#include "base/hash.h"
#include "slm.h"
#include "support.h"

#define VOCAB_MOST 8192
#define HEAD_SEED 0x70616e656c686421u /* as src/model/packed_file.c has them */
#define BLOCK_SEED 0x70616e656c626c6bu

struct bits {
    float logits[VOCAB_MOST];
    char from[16];
    unsigned warnings;
};

static char work[400]; /* a folder of this process, removed at exit */

/* ------------------------------------------------------------------ models and folders */

static void copy_file(const char *from, const char *name, char path[512]) {
    size_t n;
    char *data = slurp(from, &n);
    assert_non_null(data);
    assert_true(temp_file(path, 512, name, data, n));
    free(data);
}

static const char *twin_copy(const char *twin, char folder[512]) {
    static const char *const files[] = { "config.json", "generation_config.json",
                                         "model.safetensors" };
    char rel[128], from[512], name[128], path[512];
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(rel, sizeof rel, "golden/%s/%s", twin, files[i]);
        snprintf(name, sizeof name, "%s/%s", twin, files[i]);
        copy_file(data_path(from, sizeof from, rel), name, path);
    }
    snprintf(folder, 512, "%.*s", (int)(strrchr(path, '/') - path), path);
    return folder;
}

/* A fresh folder name for packed files; it does not exist yet. */
static const char *packed_folder(char dir[512]) {
    static unsigned n;
    snprintf(dir, 512, "%s/packed-%u/below", work, ++n);
    return dir;
}

/* The only file in the folder; false when there is none. */
static bool only_file(const char *dir, char path[1024]) {
    DIR *d = opendir(dir);
    unsigned n = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            snprintf(path, 1024, "%s/%s", dir, e->d_name);
            n++;
        }
    if (d != NULL)
        closedir(d);
    assert_true(n <= 1);
    return n == 1;
}

static void put_bytes(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* ------------------------------------------------------------------ running */

static void count_warning(void *user, enum slm_log_level level, const char *line) {
    (void)line;
    *(unsigned *)user += level >= SLM_LOG_WARN;
}

static slm_err run_model(const char *path, const char *dir, unsigned threads, struct bits *out) {
    slm_engine_options o = slm_engine_default();
    slm_session_options so = slm_session_default();
    slm_info info = { .size = sizeof info };
    slm_engine *e = NULL;
    slm_session *s = NULL;
    slm_why why;
    *out = (struct bits){ .warnings = 0 };
    struct slm_hooks hooks = { .size = sizeof hooks, .log = count_warning, .user = &out->warnings };
    o.hooks = &hooks;
    o.need = o.want = SLM_WEIGHTS;
    o.threads = threads;
    o.isa = test_isa();
    o.packed_dir = dir;
    so.context = 32;
    so.threads = threads;
    slm_err err = slm_engine_open(path, &o, &e, &why);
    if (err == SLM_OK)
        err = slm_session_open(e, &so, &s, &why);
    if (err == SLM_OK) {
        const int32_t ids[] = { 1, 5, 9, 2, 77, 30 };
        slm_engine_info(e, &info);
        assert_true(info.vocab <= VOCAB_MOST);
        snprintf(out->from, sizeof out->from, "%s", info.packed != NULL ? info.packed : "none");
        err = slm_session_append(s, ids, ARRAY_LEN(ids), false, out->logits, NULL, &why);
    }
    if (err != SLM_OK)
        print_message("# %s\n", why.message);
    slm_session_close(s);
    slm_engine_close(e);
    return err;
}

/* Runs and expects where the panels come from, the bits of `same` (NULL: any) and warnings. */
static void expect(const char *path, const char *dir, const char *from, const struct bits *same,
                   bool warned, int line) {
    struct bits b;
    assert_int_equal(run_model(path, dir, 2, &b), SLM_OK);
    if (strcmp(b.from, from) != 0)
        fail_msg("line %d: panels are '%s', expected '%s'", line, b.from, from);
    if (same != NULL && memcmp(b.logits, same->logits, sizeof b.logits) != 0)
        fail_msg("line %d: other bits", line);
    if ((b.warnings > 0) != warned)
        fail_msg("line %d: %u warnings", line, b.warnings);
}
#define EXPECT(path, dir, from, same, warned) expect(path, dir, from, same, warned, __LINE__)

/* ------------------------------------------------------------------ hit, miss, none */

static void check_model(const char *path) {
    struct bits none, b;
    char dir[512], file[1024];
    struct stat st;
    assert_int_equal(run_model(path, NULL, 1, &none), SLM_OK);
    assert_string_equal(none.from, "memory");
    EXPECT(path, packed_folder(dir), "written", &none, false);
    assert_true(only_file(dir, file));
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    EXPECT(path, dir, "cached", &none, false);
    assert_int_equal(run_model(path, dir, 1, &b), SLM_OK);
    assert_string_equal(b.from, "cached");
    assert_memory_equal(b.logits, none.logits, sizeof b.logits);
    assert_true(only_file(dir, file));
}

static void test_twins(void **state) {
    (void)state;
    static const char *const twins[] = { "qwen3-0.6b", "gemma-3-270m-it", "phi-4-mini-instruct",
                                         "smollm3-3b", "gemma-3-4b-it" };
    char folder[512];
    for (size_t i = 0; i < ARRAY_LEN(twins); i++)
        check_model(twin_copy(twins[i], folder));
}

/* Blocks of all kinds, and rows that have to be put back in order (llama.cpp's q and k). */
static void test_types(void **state) {
    (void)state;
    static const char *const types[] = { "q8_0", "q4_0", "q5_1", "q4_k_m", "q6_k", "q3_k_m", "f16" };
    char path[512], name[64];
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        slm_quantize_options o = slm_quantize_default();
        slm_why why;
        snprintf(name, sizeof name, "demo-%s.gguf", types[i]);
        assert_true(temp_file(path, sizeof path, name, "", 0));
        if (slm_quantize("demo-model", path, types[i], &o, &why) != SLM_OK)
            fail_msg("%s: %s", types[i], why.message);
        check_model(path);
    }
}

static void test_nothing_to_pack(void **state) {
    (void)state;
    char folder[512], dir[512], file[1024];
    slm_engine_options o = slm_engine_default();
    slm_info info = { .size = sizeof info };
    slm_engine *e;
    o.need = o.want = SLM_WEIGHTS;
    o.exact = true;
    o.packed_dir = packed_folder(dir);
    assert_int_equal(slm_engine_open(twin_copy("qwen3-0.6b", folder), &o, &e, NULL), SLM_OK);
    slm_engine_info(e, &info);
    assert_null(info.packed);
    slm_engine_close(e);
    assert_false(only_file(dir, file));
}

/* ------------------------------------------------------------------ a changed model */

static void flip_byte(const char *path, size_t at, bool keep_times) {
    struct stat st;
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    if (keep_times) {
        struct timespec times[2] = { st.st_atim, st.st_mtim };
        assert_int_equal(futimens(fd, times), 0);
    }
    close(fd);
}

/* Same path, same size: rewritten in place, in the middle of a tensor, with the old time put back. */
static void test_changed(void **state) {
    (void)state;
    char folder[512], dir[512], weights[600], file[1024];
    struct bits before, after;
    struct stat st;
    snprintf(weights, sizeof weights, "%s/model.safetensors", twin_copy("qwen3-0.6b", folder));
    assert_int_equal(run_model(folder, packed_folder(dir), 1, &before), SLM_OK);
    assert_int_equal(stat(weights, &st), 0);
    for (int i = 0; i < 2; i++) {
        usleep(20000); /* the clock of the file system has ticks */
        flip_byte(weights, (size_t)st.st_size / 2, i != 0);
        assert_int_equal(run_model(folder, NULL, 1, &after), SLM_OK);
        EXPECT(folder, dir, "written", &after, false);
        EXPECT(folder, dir, "cached", &after, false);
    }
    assert_memory_equal(before.logits, after.logits, sizeof after.logits); /* flipped back */
    assert_true(only_file(dir, file)); /* the old panels were replaced */
}

/* ------------------------------------------------------------------ damage */

static void test_damaged(void **state) {
    (void)state;
    char folder[512], dir[512], file[1024];
    struct bits good;
    size_t n;
    assert_int_equal(run_model(twin_copy("phi-4-mini-instruct", folder), packed_folder(dir), 1, &good),
                     SLM_OK);
    assert_true(only_file(dir, file));
    char *data = slurp(file, &n);
    uint64_t head, panels;
    memcpy(&head, data + 16, 8);
    memcpy(&panels, data + 24, 8);
    assert_true(head < panels && panels < n);
    /* every byte of the header, and panels here and there */
    for (size_t at = 0; at < n; at += at < head ? 1 : (n - panels) / 37 + 1) {
        if (at >= head && at < panels)
            at = panels;
        data[at] ^= 0x20;
        put_bytes(file, data, n);
        data[at] ^= 0x20;
        /* what is known beforehand tells another version from damage; either way it is replaced */
        struct bits b;
        assert_int_equal(run_model(folder, dir, 1, &b), SLM_OK);
        if (strcmp(b.from, "written") != 0)
            fail_msg("byte %zu of %zu was changed and not noticed", at, n);
        assert_memory_equal(b.logits, good.logits, sizeof b.logits);
        if (at >= panels)
            assert_true(b.warnings > 0);
        if (at > 900 && at + 200 < head) /* rows of one table: a few are enough */
            at += 61;
    }
    static const size_t cuts[] = { 0, 1, 7, 8, 15, 16, 88, 500 };
    for (size_t i = 0; i < ARRAY_LEN(cuts) + 3; i++) {
        size_t cut = i < ARRAY_LEN(cuts)        ? cuts[i]
                     : i == ARRAY_LEN(cuts)     ? (size_t)head
                     : i == ARRAY_LEN(cuts) + 1 ? (size_t)panels
                                                : n - 1;
        put_bytes(file, data, cut);
        EXPECT(folder, dir, "written", &good, true);
    }
    data = realloc(data, n + 1);
    data[n] = 0;
    put_bytes(file, data, n + 1);
    EXPECT(folder, dir, "written", &good, true);
    put_bytes(file, "a text of the user", 18);
    EXPECT(folder, dir, "written", &good, true);
    EXPECT(folder, dir, "cached", &good, false);
    free(data);
}

/* Hashes that fit, over panels of any content: numbers, at worst not finite ones. */
static void test_hostile_values(void **state) {
    (void)state;
    char path[512], dir[512], file[1024];
    slm_quantize_options o = slm_quantize_default();
    struct bits b;
    size_t n;
    assert_true(temp_file(path, sizeof path, "hostile.gguf", "", 0));
    assert_int_equal(slm_quantize("demo-model", path, "q4_k_m", &o, NULL), SLM_OK);
    assert_int_equal(run_model(path, packed_folder(dir), 1, &b), SLM_OK);
    assert_true(only_file(dir, file));
    char *data = slurp(file, &n);
    uint64_t head, panels, blocks, x = 88172645463325252u;
    memcpy(&head, data + 16, 8);
    memcpy(&panels, data + 24, 8);
    memcpy(&blocks, data + 40, 8);
    for (int round = 0; round < 3; round++) {
        for (size_t i = panels; i < n; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            data[i] = (char)(round == 0 ? -1 : round == 1 ? 0x7c : (int)(x >> 32));
        }
        for (uint64_t i = 0; i < blocks; i++) {
            size_t at = panels + (i << 21), left = n - at;
            uint64_t hash[2];
            hash_bytes(data + at, left < (1u << 21) ? left : 1u << 21, BLOCK_SEED, hash);
            memcpy(data + head - 16 - 16 * (blocks - i), hash, 16);
        }
        uint64_t all[2];
        hash_bytes(data, head - 16, HEAD_SEED, all);
        memcpy(data + head - 16, all, 16);
        put_bytes(file, data, n);
        slm_err err = run_model(path, dir, 2, &b);
        assert_true(err == SLM_OK || err == SLM_E_NUMERIC);
        assert_string_equal(b.from, "cached");
    }
    free(data);
}

/* ------------------------------------------------------------------ where it cannot be written */

static void test_no_room(void **state) {
    (void)state;
    char folder[512], dir[512], below[600], file[1024];
    struct bits good;
    struct bigfile *f;
    slm_why why;
    struct rlimit old, small = { 0, 0 };
    assert_int_equal(run_model(twin_copy("qwen3-0.6b", folder), NULL, 1, &good), SLM_OK);
    /* a limit on the size of files */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_cur = 4096;
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct bits b;
    slm_err err = run_model(folder, packed_folder(dir), 1, &b);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, SLM_OK);
    assert_string_equal(b.from, "memory");
    assert_int_equal(b.warnings, 1);
    assert_memory_equal(b.logits, good.logits, sizeof b.logits);
    assert_false(only_file(dir, file));
    /* a file in the folder's place; a folder in the file's */
    snprintf(below, sizeof below, "%s/config.json/packed", folder);
    EXPECT(folder, below, "memory", &good, true);
    EXPECT(folder, dir, "written", &good, false);
    assert_true(only_file(dir, file));
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkdir(file, 0700), 0);
    EXPECT(folder, dir, "memory", &good, true);
    assert_int_equal(rmdir(file), 0);
    /* a disk that would be filled */
    snprintf(file, sizeof file, "%s/large", dir);
    assert_int_equal(bigfile_open(NULL, file, (uint64_t)1 << 60, &f, &why), SLM_E_IO);
    assert_null(f);
    assert_non_null(strstr(why.message, "no room"));
    assert_false(only_file(dir, file));
}

static void test_bigfile(void **state) {
    (void)state;
    char dir[512], path[600], found[1024];
    struct bigfile *f, *g;
    struct mapping m;
    slm_why why;
    snprintf(path, sizeof path, "%s/file", packed_folder(dir));
    assert_int_equal(bigfile_open(NULL, path, 10, &f, &why), SLM_OK);
    assert_int_equal(bigfile_open(NULL, path, 10, &g, &why), SLM_E_STATE);
    assert_true(bigfile_write(f, 4, "56789X", 6) && bigfile_write(f, 0, "01234", 5));
    assert_false(file_exists(path));
    assert_int_equal(bigfile_close(f, true, &m, &why), SLM_OK);
    assert_true(m.size == 10 && memcmp(m.data, "012346789X", 10) == 0);
    file_unmap(&m);
    /* given up: the old one stays */
    assert_int_equal(bigfile_open(NULL, path, 5, &f, &why), SLM_OK);
    assert_int_equal(bigfile_close(f, false, NULL, &why), SLM_OK);
    assert_true(only_file(dir, found));
    assert_string_equal(found, path);
    /* what a killed process left is taken over; a link is not followed */
    snprintf(found, sizeof found, "%s.tmp", path);
    put_bytes(found, "left over and longer than the new one", 37);
    assert_int_equal(bigfile_open(NULL, path, 3, &f, &why), SLM_OK);
    assert_true(bigfile_write(f, 0, "abc", 3));
    assert_int_equal(bigfile_close(f, true, &m, &why), SLM_OK);
    assert_true(m.size == 3 && memcmp(m.data, "abc", 3) == 0);
    file_unmap(&m);
    assert_int_equal(symlink(path, found), 0);
    assert_int_equal(bigfile_open(NULL, path, 3, &f, &why), SLM_E_IO);
    assert_int_equal(unlink(found), 0);
    assert_int_equal(link(path, found), 0);
    assert_int_equal(bigfile_open(NULL, path, 3, &f, &why), SLM_E_IO);
    assert_int_equal(unlink(found), 0);
    assert_true(file_map(path, &m, &why) == SLM_OK && m.size == 3);
    file_unmap(&m);
}

/* ------------------------------------------------------------------ several at once */

static void test_processes(void **state) {
    (void)state;
    enum { PROCESSES = 4 };
    char folder[512], dir[512], file[1024];
    struct bits good, b;
    pid_t children[PROCESSES];
    assert_int_equal(run_model(twin_copy("smollm3-3b", folder), NULL, 1, &good), SLM_OK);
    packed_folder(dir);
    fflush(NULL);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            bool ok = true;
            for (int k = 0; k < 5 && ok; k++)
                ok = run_model(folder, dir, 1, &b) == SLM_OK && b.warnings == 0 &&
                     memcmp(b.logits, good.logits, sizeof b.logits) == 0;
            _exit(ok ? 0 : 1);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_true(only_file(dir, file)); /* nothing temporary stays */
    EXPECT(folder, dir, "cached", &good, false);
    /* one is writing: the other does not wait */
    struct bigfile *f;
    slm_why why;
    assert_int_equal(unlink(file), 0);
    assert_int_equal(bigfile_open(NULL, file, 10, &f, &why), SLM_OK);
    EXPECT(folder, dir, "memory", &good, false);
    assert_int_equal(bigfile_close(f, false, NULL, &why), SLM_OK);
    EXPECT(folder, dir, "written", &good, false);
}

/* ------------------------------------------------------------------ cancelled, out of memory */

static bool stop_packing(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    *(unsigned *)user += 1;
    return strcmp(stage, "pack") != 0;
}

static void test_cancelled(void **state) {
    (void)state;
    char folder[512], dir[512], file[1024];
    unsigned told = 0;
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why;
    o.need = o.want = SLM_WEIGHTS;
    o.threads = 1;
    o.isa = test_isa();
    o.progress = stop_packing;
    o.user = &told;
    o.packed_dir = packed_folder(dir);
    twin_copy("qwen3-0.6b", folder);
    assert_int_equal(slm_engine_open(folder, &o, &e, &why), SLM_E_CANCELLED);
    assert_null(e);
    assert_int_equal(told, 1);
    assert_false(only_file(dir, file));
    o.progress = NULL;
    assert_int_equal(slm_engine_open(folder, &o, &e, &why), SLM_OK);
    slm_engine_close(e);
    o.progress = stop_packing; /* nothing is packed: nothing is told */
    told = 0;
    assert_int_equal(slm_engine_open(folder, &o, &e, &why), SLM_OK);
    slm_engine_close(e);
    assert_int_equal(told, 0);
}

/* Each allocation refused: an error, or panels in memory; nothing is left behind. */
static void test_no_memory(void **state) {
    (void)state;
    char folder[512], dir[512], file[1024];
    twin_copy("smollm3-3b", folder);
    packed_folder(dir);
    for (int cached = 0; cached < 2; cached++)
        for (size_t k = 1;; k++) {
            struct test_hooks h;
            slm_engine_options o = slm_engine_default();
            slm_engine *e = NULL;
            test_hooks_init(&h, k);
            h.once = k % 2 != 0;
            o.hooks = &h.hooks;
            o.need = o.want = SLM_WEIGHTS;
            o.threads = 1;
            o.isa = test_isa();
            o.packed_dir = dir;
            slm_err err = slm_engine_open(folder, &o, &e, NULL);
            assert_true(err == SLM_OK || err == SLM_E_NOMEM);
            slm_engine_close(e);
            assert_int_equal(h.live, 0);
            if (!cached && only_file(dir, file))
                assert_int_equal(unlink(file), 0);
            if (!h.failed) {
                assert_int_equal(err, SLM_OK);
                break;
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bigfile),   cmocka_unit_test(test_twins),
        cmocka_unit_test(test_types),     cmocka_unit_test(test_nothing_to_pack),
        cmocka_unit_test(test_changed),   cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_no_room),   cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_processes), cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_no_memory),
    };
    char path[512];
    if (!temp_file(path, sizeof path, "here", "", 0))
        return 1;
    snprintf(work, sizeof work, "%.*s", (int)(strrchr(path, '/') - path), path);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
