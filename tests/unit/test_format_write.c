/* test_format_write.c - the GGUF and NPY writers: what is written is read back the same, and what
 * cannot be written leaves nothing behind. */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/outfile.h"
#include "format_image.h"
#include "support.h"

/* after the rest: cmocka has a macro named fail */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* A path in this process's temporary folder, where no file is yet. */
static char *new_path(char *buf, size_t n, const char *name) {
    assert_true(temp_file(buf, n, name, "", 0));
    assert_int_equal(unlink(buf), 0);
    return buf;
}

static size_t files_beside(const char *path) {
    char dir[1024];
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *d = opendir(dir);
    assert_non_null(d);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static uint64_t next_random(uint64_t *s) { /* xorshift64* */
    *s ^= *s >> 12;
    *s ^= *s << 25;
    *s ^= *s >> 27;
    return *s * 0x2545f4914f6cdd1du;
}

/* ---- GGUF ---- */

static void every_kind_of_value(void **state) {
    (void)state;
    char path[1024], copy[1024];
    struct gguf_writer *w;
    slm_why why;
    assert_int_equal(gguf_writer_new(NULL, new_path(path, sizeof path, "a.gguf"), &w, &why),
                     SLM_OK);
    const char *words[] = { "one", "", "three\0four" };
    const size_t lengths[] = { 3, 0, 10 };
    const int32_t ints[] = { 1, -2, INT32_MIN };
    const float floats[] = { 1.5f, -0.0f };
    assert_int_equal(gguf_put_u32(w, "u", 7), SLM_OK);
    assert_int_equal(gguf_put_f32(w, "f", 0.25f), SLM_OK);
    assert_int_equal(gguf_put_bool(w, "yes", true), SLM_OK);
    assert_int_equal(gguf_put_str(w, "s", "text\0more", 9), SLM_OK);
    assert_int_equal(gguf_put_strs(w, "words", words, lengths, 3), SLM_OK);
    assert_int_equal(gguf_put_i32s(w, "ints", ints, 3), SLM_OK);
    assert_int_equal(gguf_put_f32s(w, "floats", floats, 2), SLM_OK);
    assert_int_equal(gguf_put_u32(w, "general.alignment", 64), SLM_OK);
    const uint64_t da[] = { 2, 3, 5 }, db[] = { 7 };
    assert_int_equal(gguf_put_tensor(w, "zz", DT_F16, 3, da), SLM_OK); /* 60 bytes */
    assert_int_equal(gguf_put_tensor(w, "aa", DT_F32, 1, db), SLM_OK); /* 28 bytes */
    uint8_t data[88];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i + 1);
    for (size_t i = 0; i < sizeof data; i += 11) /* pieces that cross tensors */
        assert_int_equal(gguf_write_data(w, data + i, 11, &why), SLM_OK);
    assert_false(access(path, F_OK) == 0); /* not before it is complete */
    assert_int_equal(gguf_writer_close(w, true, &why), SLM_OK);
    struct tensors *t;
    assert_int_equal(tensors_open(NULL, path, &t, &why), SLM_OK);
    assert_int_equal(gguf_version(t->gguf), 3);
    assert_int_equal(gguf_alignment(t->gguf), 64);
    slm_err err = SLM_OK;
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    const char *s;
    size_t n;
    assert_true(gguf_u32(t->gguf, "u", &u, &err, &why) && u == 7);
    assert_true(gguf_f32(t->gguf, "f", &f, &err, &why) && f == 0.25f);
    assert_true(gguf_bool(t->gguf, "yes", &b, &err, &why) && b);
    assert_true(gguf_str(t->gguf, "s", &s, &n, &err, &why) && n == 9 &&
                memcmp(s, "text\0more", 9) == 0);
    uint64_t cursor = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(gguf_next_str(gguf_find(t->gguf, "words"), &cursor, &s, &n));
        assert_int_equal(n, lengths[i]);
        assert_memory_equal(s, words[i], n);
    }
    assert_false(gguf_next_str(gguf_find(t->gguf, "words"), &cursor, &s, &n));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(gguf_item_int(gguf_find(t->gguf, "ints"), i), ints[i]);
    assert_true(gguf_item_f32(gguf_find(t->gguf, "floats"), 0) == 1.5f);
    const struct tensor_info *x = tensors_find(t, "zz");
    assert_int_equal(x->n_dims, 3);
    assert_memory_equal(x->dims, da, sizeof da);
    assert_int_equal(x->offset % 64, 0);
    assert_memory_equal(x->data, data, 60);
    x = tensors_find(t, "aa");
    assert_memory_equal(x->data, data + 60, 28);
    assert_int_equal(t->files[0].map.size % 64, 0);
    /* a copy by put_raw is the same file, byte for byte */
    assert_int_equal(gguf_writer_new(NULL, new_path(copy, sizeof copy, "b.gguf"), &w, &why),
                     SLM_OK);
    for (uint32_t i = 0; i < gguf_count(t->gguf); i++)
        assert_int_equal(gguf_put_raw(w, gguf_at(t->gguf, i)), SLM_OK);
    assert_int_equal(gguf_put_tensor(w, "zz", DT_F16, 3, da), SLM_OK);
    assert_int_equal(gguf_put_tensor(w, "aa", DT_F32, 1, db), SLM_OK);
    assert_int_equal(gguf_write_data(w, data, sizeof data, &why), SLM_OK);
    assert_int_equal(gguf_writer_close(w, true, &why), SLM_OK);
    size_t n_copy;
    char *bytes = slurp(copy, &n_copy);
    assert_int_equal(n_copy, t->files[0].map.size);
    assert_memory_equal(bytes, t->files[0].map.data, n_copy);
    free(bytes);
    tensors_close(t);
    unlink(path);
    unlink(copy);
}

/* Random files: types, shapes, alignments, sizes of pieces. */
static void random_round_trips(void **state) {
    (void)state;
    uint64_t seed = 20240607;
    static const enum dtype types[] = { DT_F32,  DT_F16,  DT_BF16, DT_Q4_0,
                                        DT_Q8_0, DT_Q4_K, DT_Q6_K, DT_IQ4_XS };
    for (int round = 0; round < 60; round++) {
        char path[1024], name[64];
        struct gguf_writer *w;
        slm_why why;
        uint64_t begin = seed;
        assert_int_equal(gguf_writer_new(NULL, new_path(path, sizeof path, "r.gguf"), &w, &why),
                         SLM_OK);
        if (round % 3)
            gguf_put_u32(w, "general.alignment", 8u << next_random(&seed) % 10);
        uint32_t n = (uint32_t)(next_random(&seed) % 40),
                 n_kv = (uint32_t)(next_random(&seed) % 100);
        for (uint32_t i = 0; i < n_kv; i++) {
            snprintf(name, sizeof name, "key.%" PRIu64, next_random(&seed) % 1000 * 1000 + i);
            gguf_put_u32(w, name, i);
        }
        size_t total = 0;
        for (uint32_t i = 0; i < n; i++) {
            enum dtype type = types[next_random(&seed) % ARRAY_LEN(types)];
            uint64_t dims[MAX_DIMS] = { 1 + next_random(&seed) % 5, 1 + next_random(&seed) % 3, 1,
                                        1 };
            uint32_t n_dims = 1 + (uint32_t)(next_random(&seed) % MAX_DIMS);
            dims[n_dims - 1] = dtype_info((uint32_t)type)->block * (1 + next_random(&seed) % 3);
            snprintf(name, sizeof name, "t%" PRIu32, i);
            assert_int_equal(gguf_put_tensor(w, name, type, n_dims, dims), SLM_OK);
            uint64_t size = dtype_info((uint32_t)type)->block_bytes * dims[n_dims - 1] /
                            dtype_info((uint32_t)type)->block;
            for (uint32_t d = 0; d + 1 < n_dims; d++)
                size *= dims[d];
            total += (size_t)size;
        }
        uint8_t *data = malloc(total + 1);
        for (size_t i = 0; i < total; i++)
            data[i] = (uint8_t)next_random(&seed);
        for (size_t at = 0; at < total;) {
            size_t piece = 1 + next_random(&seed) % 4000;
            piece = piece < total - at ? piece : total - at;
            assert_int_equal(gguf_write_data(w, data + at, piece, &why), SLM_OK);
            at += piece;
        }
        assert_int_equal(gguf_writer_close(w, true, &why), SLM_OK);
        struct tensors *t;
        slm_err err = tensors_open(NULL, path, &t, &why);
        if (err != SLM_OK)
            print_error("seed %" PRIu64 ": %s\n", begin, why.message);
        assert_int_equal(err, SLM_OK);
        assert_int_equal(t->n, n);
        size_t at = 0;
        for (uint32_t i = 0; i < n; i++) {
            snprintf(name, sizeof name, "t%" PRIu32, i);
            const struct tensor_info *x = tensors_find(t, name);
            assert_memory_equal(x->data, data + at, x->size);
            at += (size_t)x->size;
        }
        assert_int_equal(at, total);
        tensors_close(t);
        free(data);
        unlink(path);
    }
}

/* Closing a writer that was misused: its error, and no file. */
static void ends_with(struct gguf_writer *w, const char *path, slm_err code, const char *words) {
    slm_why why = { 0 };
    slm_err err = gguf_writer_close(w, true, &why);
    if (err != code || strstr(why.message, words) == NULL)
        print_error("%s: %s\n", err_name(err), why.message);
    assert_int_equal(err, code);
    assert_non_null(strstr(why.message, words));
    assert_int_equal(why.code, code);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void misuse(void **state) {
    (void)state;
    char path[1024];
    new_path(path, sizeof path, "m.gguf");
    size_t before = files_beside(path);
    struct gguf_writer *w;
    slm_why why;
    const uint64_t four[] = { 4, 4 }, none[] = { 4, 0 }, huge[] = { UINT64_MAX / 2, 4 };
    const float zeros[17] = { 0 };
#define FRESH() assert_int_equal(gguf_writer_new(NULL, path, &w, &why), SLM_OK)
    FRESH();
    gguf_put_u32(w, "k", 1);
    gguf_put_bool(w, "k", true);
    ends_with(w, path, SLM_E_ARG, "key 'k' was put twice");
    FRESH();
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    gguf_write_data(w, zeros, 4, &why);
    ends_with(w, path, SLM_E_ARG, "tensor 't' was put twice");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", DT_F32, 2, none), SLM_E_ARG);
    assert_int_equal(gguf_put_u32(w, "k", 1), SLM_E_ARG); /* sticks */
    ends_with(w, path, SLM_E_ARG, "'t'");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", DT_F32, 2, huge), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "'t'");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", DT_Q4_K, 2, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "Q4_K");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", DT_F32, 0, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "0 dimensions, not 1 to 4");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", DT_F32, 5, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "5 dimensions, not 1 to 4");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "t", (enum dtype)34, 2, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "type 34");
    FRESH();
    assert_int_equal(gguf_put_tensor(w, "", DT_F32, 2, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "is empty");
    FRESH();
    assert_int_equal(gguf_put_u32(w, "a\n", 1), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "control");
    FRESH();
    assert_int_equal(gguf_put_u32(w, "general.alignment", 48), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "48, not a power of two from 8 to 65536");
    FRESH();
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    gguf_write_data(w, zeros, 60, &why);
    ends_with(w, path, SLM_E_STATE, "'t' got 60 of its 64 bytes");
    FRESH();
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    assert_int_equal(gguf_write_data(w, zeros, 65, &why), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "1 bytes of data after the last of 1 tensors");
    FRESH();
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    gguf_write_data(w, zeros, 64, &why);
    assert_int_equal(gguf_put_u32(w, "late", 1), SLM_E_STATE);
    ends_with(w, path, SLM_E_STATE, "'late' after the first data");
    FRESH();
    gguf_write_data(w, zeros, 0, &why);
    assert_int_equal(gguf_put_tensor(w, "late", DT_F32, 2, four), SLM_E_STATE);
    ends_with(w, path, SLM_E_STATE, "'late' after the first data");
    FRESH();
    gguf_put_tensor(w, "t", DT_F32, 2, four);
    assert_int_equal(gguf_writer_close(w, false, &why), SLM_OK); /* given up */
    assert_int_equal(gguf_writer_close(NULL, true, &why), SLM_OK);
    assert_int_equal(files_beside(path), before);
    FRESH();
    const uint64_t wide[] = { (uint64_t)1 << 60, 4 };
    gguf_put_tensor(w, "a", DT_F32, 1, wide);
    gguf_put_tensor(w, "b", DT_F32, 1, wide);
    ends_with(w, path, SLM_E_ARG, "up to tensor 'b' exceeds 9223372036854775807");
    FRESH();
    char key[32];
    for (int i = 0; i < 65536; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(gguf_put_bool(w, key, false), SLM_OK);
    }
    assert_int_equal(gguf_put_u32(w, "more", 1), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "65537 metadata entries, at most 65536");
    FRESH();
    for (int i = 0; i < MAX_TENSORS; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(gguf_put_tensor(w, key, DT_F32, 2, four), SLM_OK);
    }
    assert_int_equal(gguf_put_tensor(w, "more", DT_F32, 2, four), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "65537 tensors, at most 65536");
    FRESH();
    const uint8_t bytes[8] = { 32 };
    const struct gguf_value odd = { "general.alignment", GGUF_U64, GGUF_U8, 1, bytes, 8, 0 };
    assert_int_equal(gguf_put_raw(w, &odd), SLM_E_ARG);
    ends_with(w, path, SLM_E_ARG, "of type u64, not u32");
#undef FRESH
}

static void not_writable(void **state) {
    (void)state;
    struct gguf_writer *w;
    slm_why why = { 0 };
    assert_int_equal(gguf_writer_new(NULL, "/nowhere/at/all.gguf", &w, &why), SLM_E_IO);
    assert_null(w);
    assert_non_null(strstr(why.message, "/nowhere/at/all.gguf"));
}

/* ---- full disk: the limit on the size of files stands for it ---- */

static void with_limit(rlim_t bytes, struct rlimit *old) {
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, old), 0);
    struct rlimit small = { bytes, old->rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
}

static void full_disk(void **state) {
    (void)state;
    char path[1024];
    assert_true(temp_file(path, sizeof path, "keep.gguf", "old", 3));
    size_t before = files_beside(path);
    struct gguf_writer *w;
    slm_why why = { 0 };
    const uint64_t dims[] = { 1024, 1024 };
    uint8_t *data = calloc(1024, 4096);
    /* the disk is full at once, in the data, and only at the last flush */
    const rlim_t limits[] = { 0, 100000, 4 * 1024 * 1024 };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rlimit old;
        with_limit(limits[i], &old);
        slm_err opened = gguf_writer_new(NULL, path, &w, &why);
        slm_err closed = SLM_OK;
        if (opened == SLM_OK) {
            gguf_put_u32(w, "k", 1);
            gguf_put_tensor(w, "t", DT_F32, 2, dims);
            for (size_t k = 0; k < 1024; k++)
                gguf_write_data(w, data + 4096 * k, 4096, &why);
            memset(&why, 0, sizeof why);
            closed = gguf_writer_close(w, true, &why);
        }
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(opened, SLM_OK);
        assert_int_equal(closed, SLM_E_IO);
        assert_non_null(strstr(why.message, path));
        assert_int_equal(files_beside(path), before);
        size_t n;
        char *kept = slurp(path, &n); /* the old file is as it was */
        assert_int_equal(n, 3);
        assert_memory_equal(kept, "old", 3);
        free(kept);
    }
    float one = 1;
    const uint64_t shape[] = { 1 };
    struct rlimit old;
    with_limit(64, &old);
    slm_err err = npy_write_f32(path, &one, 1, shape, &why);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(err, SLM_E_IO);
    assert_int_equal(files_beside(path), before);
    free(data);
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(npy_write_f32("/dev/full", &one, 1, shape, &why), SLM_E_IO);
        assert_non_null(strstr(why.message, "No space"));
        assert_int_equal(access("/dev/full", F_OK), 0);
    }
    assert_int_equal(npy_write_f32("/dev/null", &one, 1, shape, &why),
                     SLM_OK); /* no rename over a device */
    struct stat st;
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    unlink(path);
}

/* ---- files that appear when they are complete ---- */

static void output_files(void **state) {
    (void)state;
    char path[1024], dir[2048];
    new_path(path, sizeof path, "o.bin");
    size_t before = files_beside(path);
    struct outfile *f;
    slm_why why;
    const size_t n = 1000000; /* pieces below and above the buffer */
    uint8_t *data = malloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i * i >> 3);
    assert_int_equal(outfile_open(NULL, path, &f, &why), SLM_OK);
    static const size_t cuts[] = { 0, 1, 200000, 262145, 262146, 700000, 1000000 };
    for (size_t i = 1; i < ARRAY_LEN(cuts); i++)
        assert_int_equal(outfile_write(f, data + cuts[i - 1], cuts[i] - cuts[i - 1], &why), SLM_OK);
    assert_int_equal(outfile_size(f), n);
    assert_int_equal(outfile_close(f, true, &why), SLM_OK);
    size_t n_back;
    char *back = slurp(path, &n_back);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, data, n);
    free(back);
    /* given up: the old one stays; two writers at once do not meet */
    struct outfile *g;
    assert_int_equal(outfile_open(NULL, path, &f, &why), SLM_OK);
    assert_int_equal(outfile_open(NULL, path, &g, &why), SLM_OK);
    outfile_write(f, "abc", 3, &why);
    outfile_write(g, "defg", 4, &why);
    assert_int_equal(outfile_close(f, false, &why), SLM_OK);
    back = slurp(path, &n_back);
    assert_int_equal(n_back, n);
    free(back);
    assert_int_equal(outfile_close(g, true, &why), SLM_OK);
    back = slurp(path, &n_back);
    assert_int_equal(n_back, 4);
    free(back);
    assert_int_equal(files_beside(path), before + 1);
    /* a folder is in the way */
    snprintf(dir, sizeof dir, "%s.d", path);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(outfile_open(NULL, dir, &f, &why), SLM_OK);
    outfile_write(f, "abc", 3, &why);
    assert_int_equal(outfile_close(f, true, &why), SLM_E_IO);
    assert_non_null(strstr(why.message, "cannot rename"));
    rmdir(dir);
    assert_int_equal(files_beside(path), before + 1);
    assert_int_equal(outfile_close(NULL, true, &why), SLM_OK);
    unlink(path);
    free(data);
}

/* ---- NPY ---- */

static void npy_round_trips(void **state) {
    (void)state;
    static const struct {
        uint32_t n;
        uint64_t dims[MAX_DIMS];
        const char *shape;
    } cases[] = { { 0, { 0 }, "'shape': (), " },
                  { 1, { 7 }, "'shape': (7,), " },
                  { 2, { 3, 4 }, "'shape': (3, 4), " },
                  { 3, { 2, 1, 5 }, "'shape': (2, 1, 5), " },
                  { 4, { 1, 3, 4, 4 }, "'shape': (1, 3, 4, 4), " },
                  { 2, { 0, 5 }, "'shape': (0, 5), " } };
    float data[64];
    for (size_t i = 0; i < ARRAY_LEN(data); i++)
        data[i] = (float)i * 0.5f - 3;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char path[1024];
        slm_why why;
        assert_int_equal(npy_write_f32(new_path(path, sizeof path, "a.npy"), data, cases[i].n,
                                       cases[i].dims, &why),
                         SLM_OK);
        struct mapping m;
        const float *back;
        uint32_t n;
        uint64_t dims[MAX_DIMS], count = 1;
        assert_int_equal(npy_map_f32(path, &m, &back, &n, dims, &why), SLM_OK);
        assert_int_equal(n, cases[i].n);
        for (uint32_t d = 0; d < n; d++) {
            assert_int_equal(dims[d], cases[i].dims[d]);
            count *= dims[d];
        }
        assert_memory_equal(back, data, count * sizeof(float));
        assert_int_equal((size_t)((const uint8_t *)back - m.data) % 64, 0);
        assert_memory_equal(
            m.data, "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, ", 51);
        assert_memory_equal(m.data + 51, cases[i].shape, strlen(cases[i].shape));
        file_unmap(&m);
        unlink(path);
    }
    const uint64_t five[5] = { 1, 1, 1, 1, 1 }, huge[] = { UINT64_MAX, 2 };
    slm_why why;
    assert_int_equal(npy_write_f32("/nowhere/x.npy", data, 5, five, &why), SLM_E_ARG);
    assert_non_null(strstr(why.message, "5 dimensions, at most 4"));
    assert_int_equal(npy_write_f32("/nowhere/x.npy", data, 2, huge, &why), SLM_E_ARG);
    assert_int_equal(npy_write_f32("/nowhere/x.npy", data, 1, five, &why), SLM_E_IO);
}

static void npy_refused(const char *version, const char *dict, size_t n_data, slm_err code,
                        const char *a, const char *b) {
    struct image g = { 0 };
    img_bytes(&g, "\x93NUMPY", 6);
    img_bytes(&g, version, 2);
    size_t n = strlen(dict), padded = (10 + n + 63) / 64 * 64 - 10;
    img_le(&g, padded, 2);
    img_bytes(&g, dict, n);
    for (size_t i = n; i < padded; i++)
        img_bytes(&g, " ", 1);
    img_fill(&g, n_data);
    const float *data = NULL;
    uint32_t n_dims;
    uint64_t dims[MAX_DIMS];
    slm_why why = { 0 };
    slm_err err = npy_parse_f32(g.data, g.n, &data, &n_dims, dims, &why);
    bool all = (a == NULL || strstr(why.message, a) != NULL) &&
               (b == NULL || strstr(why.message, b) != NULL);
    if (err != code || !all)
        print_error("%s: %s\n", err_name(err), why.message);
    assert_int_equal(err, code);
    assert_true(all);
    if (code == SLM_OK) { /* no shorter file will do */
        for (size_t k = 0; k < g.n; k++) {
            uint8_t *cut = malloc(k + 1);
            memcpy(cut, g.data, k);
            assert_int_equal(npy_parse_f32(cut, k, &data, &n_dims, dims, &why), SLM_E_FORMAT);
            free(cut);
        }
    }
    img_free(&g);
}

static void npy_files(void **state) {
    (void)state;
    const char *v1 = "\x01\x00";
#define D(descr, order, shape)                                                                     \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }"
    npy_refused(v1, D("<f4", "False", "(2, 3)"), 24, SLM_OK, NULL, NULL);
    npy_refused(v1, "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}\n", 24, SLM_OK,
                NULL, NULL);
    npy_refused("\x02\x00", D("<f4", "False", "(2, 3)"), 24, SLM_E_UNSUPPORTED, "version 2.0",
                "1.0");
    npy_refused(v1, D("<f8", "False", "(2, 3)"), 48, SLM_E_UNSUPPORTED, "'<f8'", "'<f4'");
    npy_refused(v1, D(">f4", "False", "(2, 3)"), 24, SLM_E_UNSUPPORTED, "'>f4'", "'<f4'");
    npy_refused(v1, D("a very long type name", "False", "(2, 3)"), 24, SLM_E_UNSUPPORTED, "'a very",
                "'<f4'");
    npy_refused(v1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8,
                SLM_E_UNSUPPORTED, "records", NULL);
    npy_refused(v1, D("<f4", "True", "(2, 3)"), 24, SLM_E_UNSUPPORTED, "Fortran", "C order");
    npy_refused(v1, D("<f4", "False", "(2, 3)"), 23, SLM_E_FORMAT, "24 bytes", "23 are there");
    npy_refused(v1, D("<f4", "False", "(2, 3)"), 25, SLM_E_FORMAT, "24 bytes", "25 are there");
    npy_refused(v1, D("<f4", "False", "(1, 1, 1, 1, 1)"), 4, SLM_E_UNSUPPORTED, "5 dimensions",
                "at most 4");
    npy_refused(v1, D("<f4", "False", "(4611686018427387904, 4)"), 4, SLM_E_FORMAT,
                "4611686018427387904", "64 bits");
    npy_refused(v1, D("<f4", "False", "(99999999999999999999)"), 4, SLM_E_FORMAT, "exceeds 64 bits",
                NULL);
    npy_refused(v1, D("<f4", "False", "(3)"), 12, SLM_E_FORMAT, "',' is missing", NULL);
    npy_refused(v1, D("<f4", "False", "(-3,)"), 12, SLM_E_FORMAT, "number is missing", NULL);
    npy_refused(v1, D("<f4", "None", "(3,)"), 12, SLM_E_FORMAT, "True or False", NULL);
    npy_refused(v1, "{'descr': '<f4', 'shape': (1,)}", 4, SLM_E_FORMAT, "is missing", NULL);
    npy_refused(v1, "{'descr': '<f4', 'descr': '<f4'}", 4, SLM_E_FORMAT, "came before", NULL);
    npy_refused(v1, "{'more': 1}", 4, SLM_E_FORMAT, "unknown key", NULL);
    npy_refused(v1, "{'descr", 4, SLM_E_FORMAT, "does not end", NULL);
    npy_refused(v1, "{1}", 4, SLM_E_FORMAT, "string is missing", NULL);
    npy_refused(v1, "{'descr' '<f4'}", 4, SLM_E_FORMAT, "':' is missing", NULL);
    npy_refused(v1, "{'descr': '<f4' 'x': 1}", 4, SLM_E_FORMAT, "',' is missing", NULL);
    npy_refused(v1, D("<f4", "False", "3"), 4, SLM_E_FORMAT, "'(' is missing", NULL);
    npy_refused(v1, D("<f4", "False", "(1,)") " x", 4, SLM_E_FORMAT, "after '}'", NULL);
    npy_refused(v1, "", 4, SLM_E_FORMAT, "'{' is missing", NULL);
#undef D
    char path[1024];
    assert_true(temp_file(path, sizeof path, "bad.npy", "not an array", 12));
    struct mapping m;
    const float *data;
    uint32_t n;
    uint64_t dims[MAX_DIMS];
    slm_why why;
    assert_int_equal(npy_map_f32("/nowhere/x.npy", &m, &data, &n, dims, &why), SLM_E_NOTFOUND);
    struct image odd = { 0 }; /* sound, but the data is not where floats may be */
    const char *dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
    img_bytes(&odd, "\x93NUMPY\x01\x00", 8);
    img_le(&odd, strlen(dict), 2);
    img_bytes(&odd, dict, strlen(dict));
    img_fill(&odd, 4);
    assert_int_equal(npy_parse_f32(odd.data, odd.n, &data, &n, dims, &why), SLM_E_UNSUPPORTED);
    assert_non_null(strstr(why.message, "at byte 67, no multiple of 4"));
    img_free(&odd);
    assert_int_equal(npy_map_f32(path, &m, &data, &n, dims, &why), SLM_E_FORMAT);
    assert_non_null(
        strstr(why.message, "bad.npy: no NPY file: it begins with byte 0x6e, not 0x93"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(random_round_trips),
        cmocka_unit_test(misuse),
        cmocka_unit_test(output_files),
        cmocka_unit_test(not_writable),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(npy_round_trips),
        cmocka_unit_test(npy_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
