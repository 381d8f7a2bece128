/* test_prefix_disk.c - kept beginnings across restarts: what a folder gives back, who may not have it,
 * damage, foreign files, the limit on its size, several processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../fake_kv.h"
#include "session/prefix_file.h"
#include "support.h"

static slm_why why;
static char base[512]; /* a temporary folder of this process */
static unsigned n_folders;

#define OK(expr)                                                                                   \
    do {                                                                                           \
        slm_err err_ = (expr);                                                                     \
        if (err_ != SLM_OK)                                                                        \
            fail_msg("%s: %s (%s)", #expr, why.message, err_name(err_));                           \
    } while (0)

/* ------------------------------------------------------------------ folders */

static void new_folder(char out[600]) {
    snprintf(out, 600, "%s/cache%u/below", base, n_folders++);
}

/* Calls fn with the path of each file; returns how many there are, and their bytes. */
static size_t each_file(const char *folder, void (*fn)(const char *path, void *user), void *user,
                        uint64_t *bytes) {
    size_t n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[1200];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        n++;
        if (bytes != NULL)
            *bytes += (uint64_t)st.st_size;
        if (fn != NULL)
            fn(path, user);
    }
    closedir(d);
    return n;
}

static void remove_file(const char *path, void *user) {
    (void)user;
    unlink(path);
}

static void remove_folder(char folder[600]) {
    each_file(folder, remove_file, NULL, NULL);
    rmdir(folder);
    folder[strlen(folder) - strlen("/below")] = '\0';
    rmdir(folder);
}

static void copy_path(const char *path, void *user) {
    snprintf(user, 1200, "%s", path);
}

/* ------------------------------------------------------------------ a process's life */

struct box {
    struct model m;
    struct kv_pool *pool;
    struct prefix_cache *c;
    struct fake s;
    struct prefix_note note;
};

static struct prefix_options options(const char *folder) {
    return (struct prefix_options){ .folder = folder, .identity = { 11, 22 }, .isa = "ref" };
}

static void open_box(struct box *b, const char *pattern, enum kv_type type,
                     const struct prefix_options *o) {
    memset(b, 0, sizeof *b);
    b->m = fake_model(pattern, strchr(pattern, 's') != NULL ? 100 : 0);
    OK(kv_pool_new(NULL, &b->m, type, (struct kv_pages){ { 60, 60 } }, &b->pool, &why));
    OK(prefix_new(NULL, b->pool, o, &b->c, &why));
    OK(kv_new(b->pool, FAKE_CONTEXT, 64, &b->s.kv, &why));
}

static void close_box(struct box *b) {
    kv_free(b->s.kv);
    prefix_free(b->c);
    for (unsigned k = 0; k < KV_CLASSES; k++)
        assert_int_equal(kv_pages_free(b->pool, (enum kv_class)k), 60);
    kv_pool_free(b->pool);
}

static uint32_t fetch(struct box *b, const int32_t *ids, uint32_t n) {
    kv_truncate(b->s.kv, 0);
    fake_set(&b->s, 0, ids, n);
    uint32_t reused = prefix_fetch(b->c, ids, n, b->s.long_rope, b->s.kv, &b->note);
    assert_true(fake_right(&b->s));
    assert_true(reused == b->note.reused && b->note.from_disk <= reused);
    return reused;
}

static void evaluate(struct box *b, uint32_t n) {
    while (b->s.kv->length < n) {
        uint32_t left = n - b->s.kv->length;
        OK(fake_evaluate(&b->s, left < 64 ? left : 64, &why));
    }
}

static void numbers(int32_t *ids, uint32_t n, int32_t first) {
    for (uint32_t i = 0; i < n; i++)
        ids[i] = first + (int32_t)(i % 40);
}

/* A process that evaluates ids [n] and saves them. Returns what it found there. */
static uint32_t life(const struct prefix_options *o, const char *pattern, enum kv_type type,
                     const int32_t *ids, uint32_t n, bool long_rope) {
    struct box b;
    open_box(&b, pattern, type, o);
    b.s.long_rope = long_rope;
    uint32_t reused = fetch(&b, ids, n);
    assert_int_equal(b.note.from_disk, reused);
    evaluate(&b, n);
    prefix_keep(b.c, ids, b.s.kv);
    OK(prefix_save(b.c, ids, b.s.kv, &why));
    assert_int_equal(fetch(&b, ids, n), n);
    assert_int_equal(b.note.from_disk, 0); /* that was in memory */
    close_box(&b);
    return reused;
}

/* What a new process finds. */
static uint32_t found(const struct prefix_options *o, const char *pattern, enum kv_type type,
                      const int32_t *ids, uint32_t n, bool long_rope) {
    struct box b;
    open_box(&b, pattern, type, o);
    b.s.long_rope = long_rope;
    uint32_t reused = fetch(&b, ids, n);
    assert_int_equal(b.note.from_disk, reused);
    assert_true((b.note.miss == PREFIX_NO_MISS) == (reused == n));
    evaluate(&b, n); /* and it goes on from there */
    assert_true(fake_right(&b.s));
    close_box(&b);
    return reused;
}

/* ------------------------------------------------------------------ restarts */

static void test_restart(void **state) {
    (void)state;
    static const char *const patterns[] = { "F", "Fs", "ssN" };
    int32_t ids[FAKE_CONTEXT];
    numbers(ids, FAKE_CONTEXT, 0);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
        for (unsigned t = 0; t < KV_COUNT; t++)
            for (uint32_t n = 64; n <= 500; n += 109) { /* on and off the end of a page */
                char folder[600];
                struct stat st;
                uint64_t first = 0, second = 0, third = 0;
                enum kv_type type = (enum kv_type)t;
                new_folder(folder);
                struct prefix_options o = options(folder);
                assert_int_equal(life(&o, patterns[i], type, ids, n, false), 0);
                assert_int_equal(each_file(folder, NULL, NULL, &first), 1);
                assert_int_equal(found(&o, patterns[i], type, ids, n, false), n);
                /* what is there is not written again */
                assert_int_equal(life(&o, patterns[i], type, ids, n, false), n);
                assert_int_equal(each_file(folder, NULL, NULL, &second), 1);
                assert_true(first == second);
                /* a longer one adds what it has more */
                assert_int_equal(life(&o, patterns[i], type, ids, n + 80, false), n);
                assert_int_equal(each_file(folder, NULL, NULL, &third), 2);
                if (n > 300)
                    assert_true(third - second < first);
                assert_int_equal(found(&o, patterns[i], type, ids, n + 80, false), n + 80);
                assert_int_equal(found(&o, patterns[i], type, ids, n, false), n);
                assert_true(stat(folder, &st) == 0 && (st.st_mode & 0777) == 0700);
                char path[1200];
                each_file(folder, copy_path, path, NULL);
                assert_true(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
                remove_folder(folder);
            }
}

/* Sequences that share their beginning share its file; each is found whole. */
static void test_branches(void **state) {
    (void)state;
    char folder[600];
    int32_t ids[FAKE_CONTEXT];
    static const uint32_t differ[] = { 600, 400, 390, 64, 1, 599, 401 };
    for (unsigned sliding = 0; sliding < 2; sliding++) {
        const char *pattern = sliding ? "Fs" : "F";
        new_folder(folder);
        struct prefix_options o = options(folder);
        for (unsigned pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < ARRAY_LEN(differ); i++) {
                numbers(ids, 600, 0);
                if (differ[i] < 600)
                    numbers(ids + differ[i], 600 - differ[i], 100 * (int32_t)(i + 1));
                if (pass == 1)
                    assert_int_equal(found(&o, pattern, KV_F16, ids, 600, false), 600);
                else if (!sliding)
                    assert_int_equal(life(&o, pattern, KV_F16, ids, 600, false),
                                     i == 0 ? 0 : differ[i]);
                else /* the window before the difference is there only near an end */
                    assert_true(life(&o, pattern, KV_F16, ids, 600, false) <= differ[i]);
            }
        assert_int_equal(each_file(folder, NULL, NULL, NULL), ARRAY_LEN(differ));
        remove_folder(folder);
    }
}

/* Memory and folder together: the tree has the beginning, the folder what follows. */
static void test_both(void **state) {
    (void)state;
    char folder[600];
    int32_t ids[FAKE_CONTEXT];
    struct box b;
    numbers(ids, FAKE_CONTEXT, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    life(&o, "Fs", KV_F16, ids, 700, false);
    open_box(&b, "Fs", KV_F16, &o);
    fake_set(&b.s, 0, ids, 300);
    evaluate(&b, 300);
    prefix_keep(b.c, ids, b.s.kv);
    assert_int_equal(fetch(&b, ids, 700), 700);
    assert_int_equal(b.note.from_disk, 400);
    assert_int_equal(fetch(&b, ids, 700), 700);
    assert_int_equal(b.note.from_disk, 0);
    close_box(&b);
    /* a pool that is too small for it: less is found, nothing breaks */
    life(&o, "F", KV_F16, ids, 700, false);
    for (uint32_t pages = 1; pages < 14; pages++)
        for (unsigned sliding = 0; sliding < 2; sliding++) {
            memset(&b, 0, sizeof b);
            b.m = fake_model(sliding ? "Fs" : "F", sliding ? 100 : 0);
            OK(kv_pool_new(NULL, &b.m, KV_F16, (struct kv_pages){ { pages, pages } }, &b.pool,
                           &why));
            OK(prefix_new(NULL, b.pool, &o, &b.c, &why));
            OK(kv_new(b.pool, FAKE_CONTEXT, 64, &b.s.kv, &why));
            uint32_t reused = fetch(&b, ids, 700);
            assert_int_equal(reused, pages >= 11 ? 700 : sliding ? 0 : pages * 64);
            kv_free(b.s.kv);
            prefix_free(b.c);
            kv_pool_free(b.pool);
        }
    remove_folder(folder);
}

/* ------------------------------------------------------------------ not for everybody */

static void test_foreign(void **state) {
    (void)state;
    char folder[600], path[1200], other[1300];
    int32_t ids[300];
    numbers(ids, 300, 0);
    new_folder(folder);
    struct prefix_options o = options(folder), x;
    life(&o, "Fs", KV_F16, ids, 300, false);
    x = o, x.identity[1]++;
    assert_int_equal(found(&x, "Fs", KV_F16, ids, 300, false), 0);
    x = o, x.identity[0]++;
    assert_int_equal(found(&x, "Fs", KV_F16, ids, 300, false), 0);
    x = o, x.isa = "avx2";
    assert_int_equal(found(&x, "Fs", KV_F16, ids, 300, false), 0);
    x = o, x.exact = true;
    assert_int_equal(found(&x, "Fs", KV_F16, ids, 300, false), 0);
    assert_int_equal(found(&o, "Fs", KV_BF16, ids, 300, false), 0);
    assert_int_equal(found(&o, "Fs", KV_F16, ids, 300, true), 0);
    assert_int_equal(found(&o, "sF", KV_F16, ids, 300, false), 0); /* other sizes of pages */
    assert_int_equal(found(&o, "Fs", KV_F16, ids, 300, false), 300);
    /* a file of other weights under a name that is looked for */
    struct box b;
    uint64_t key[2];
    x = o, x.identity[0]++;
    open_box(&b, "Fs", KV_F16, &x);
    struct prefix_kind kind = prefix_kind_of(b.c, false);
    prefix_key_start(&kind, key);
    close_box(&b);
    each_file(folder, copy_path, path, NULL);
    snprintf(other, sizeof other, "%s/%016llx%016llx-0123456789abcdef.kv", folder,
             (unsigned long long)key[0], (unsigned long long)key[1]);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(found(&x, "Fs", KV_F16, ids, 300, false), 0);
    assert_int_equal(rename(other, path), 0);
    /* things of other people, under names like ours */
    char *at = strrchr(path, '/') + 1;
    snprintf(other, sizeof other, "%s/%.32s-1111111111111111.kv", folder, at);
    assert_int_equal(mkdir(other, 0700), 0);
    snprintf(other, sizeof other, "%s/%.32s-2222222222222222.kv", folder, at);
    assert_int_equal(symlink("/dev/zero", other), 0);
    snprintf(other, sizeof other, "%s/%.32s-3333333333333333.kv", folder, at);
    assert_int_equal(mkfifo(other, 0600), 0);
    snprintf(other, sizeof other, "%s/%.32s-4444444444444444.kv", folder, at);
    FILE *f = fopen(other, "wb");
    assert_true(f != NULL && fputs("SLMKEEP\n", f) >= 0 && fclose(f) == 0);
    snprintf(other, sizeof other, "%s/notes.txt", folder);
    f = fopen(other, "wb");
    assert_true(f != NULL && fputs("mine", f) >= 0 && fclose(f) == 0);
    assert_int_equal(found(&o, "Fs", KV_F16, ids, 300, false), 300);
    assert_int_equal(life(&o, "Fs", KV_F16, ids, 300, false), 300);
    assert_int_equal(access(other, F_OK), 0);
    for (int i = 1; i <= 3; i++) {
        snprintf(other, sizeof other, "%s/%.32s-%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d.kv", folder, at, i,
                 i, i, i, i, i, i, i, i, i, i, i, i, i, i, i);
        assert_int_equal(remove(other), 0);
    }
    remove_folder(folder);
    /* no folder where one is asked for */
    snprintf(other, sizeof other, "%s/file", base);
    f = fopen(other, "wb");
    assert_true(f != NULL && fclose(f) == 0);
    struct model m = fake_model("F", 0);
    struct kv_pool *pool;
    struct prefix_cache *c;
    OK(kv_pool_new(NULL, &m, KV_F16, (struct kv_pages){ { 2, 0 } }, &pool, &why));
    x = options(other);
    assert_int_equal(prefix_new(NULL, pool, &x, &c, &why), SLM_E_IO);
    snprintf(other, sizeof other, "%s/file/below", base);
    assert_int_equal(prefix_new(NULL, pool, &x, &c, &why), SLM_E_IO);
    x.folder = "";
    assert_int_equal(prefix_new(NULL, pool, &x, &c, &why), SLM_E_ARG);
    kv_pool_free(pool);
    snprintf(other, sizeof other, "%s/file", base);
    unlink(other);
}

/* A folder that disappears: fetching finds nothing, saving says so, the sequence goes on. */
static void test_no_folder(void **state) {
    (void)state;
    char folder[600];
    int32_t ids[200];
    struct box b;
    numbers(ids, 200, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    open_box(&b, "F", KV_F16, &o);
    remove_folder(folder);
    strcpy(folder + strlen(folder), "/below");
    assert_int_equal(fetch(&b, ids, 200), 0);
    evaluate(&b, 200);
    assert_int_equal(prefix_save(b.c, ids, b.s.kv, &why), SLM_E_NOTFOUND);
    assert_true(fake_right(&b.s));
    prefix_keep(b.c, ids, b.s.kv);
    assert_int_equal(fetch(&b, ids, 200), 200);
    close_box(&b);
}

/* ------------------------------------------------------------------ damage */

static void test_damage(void **state) {
    (void)state;
    char folder[600], path[1200];
    int32_t ids[200];
    size_t n;
    numbers(ids, 200, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    life(&o, "Fs", KV_F16, ids, 170, false);
    each_file(folder, copy_path, path, NULL);
    char *good = slurp(path, &n);
    assert_non_null(good);
    size_t header = prefix_header_size(170);
    unsigned whole = 0;
    for (size_t at = 0; at < n; at += at < header ? 1 : 97) { /* every byte of the header */
        FILE *f = fopen(path, "wb");
        good[at] ^= (char)(1 + at % 255);
        assert_true(f != NULL && fwrite(good, n, 1, f) == 1 && fclose(f) == 0);
        good[at] ^= (char)(1 + at % 255);
        uint32_t reused = found(&o, "Fs", KV_F16, ids, 170, false);
        if (at < header)
            assert_int_equal(reused, 0);
        whole += reused == 170; /* bytes between pages, and none else */
    }
    assert_true(whole < 5);
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : 513) { /* every length */
        FILE *f = fopen(path, "wb");
        assert_true(f != NULL && (cut == 0 || fwrite(good, cut, 1, f) == 1) && fclose(f) == 0);
        assert_int_equal(found(&o, "Fs", KV_F16, ids, 170, false), 0);
    }
    /* saving again repairs it */
    assert_int_equal(life(&o, "Fs", KV_F16, ids, 170, false), 0);
    assert_int_equal(found(&o, "Fs", KV_F16, ids, 170, false), 170);
    FILE *f =
        fopen(path, "r+b"); /* a page under a good header: it is removed when it is found out */
    assert_true(f != NULL && fseek(f, (long)header + 500, SEEK_SET) == 0 && fputc('?', f) >= 0 &&
                fclose(f) == 0);
    assert_true(found(&o, "Fs", KV_F16, ids, 170, false) < 170);
    life(&o, "Fs", KV_F16, ids, 170, false);
    assert_int_equal(found(&o, "Fs", KV_F16, ids, 170, false), 170);
    free(good);
    remove_folder(folder);
}

/* Headers whose hash is right and whose numbers are not: nothing is read outside the file. */
static void test_lies(void **state) {
    (void)state;
    char folder[600], path[1200];
    int32_t ids[200];
    struct box b;
    size_t n;
    numbers(ids, 200, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    life(&o, "Fs", KV_F16, ids, 170, false);
    each_file(folder, copy_path, path, NULL);
    char *good = slurp(path, &n);
    open_box(&b, "Fs", KV_F16, &o);
    struct prefix_kind kind = prefix_kind_of(b.c, false);
    struct arena a;
    struct prefix_header x;
    arena_init(&a, NULL, 0);
    size_t size = prefix_header_size(170);
    OK(prefix_header_parse(&kind, good, size, n, &a, &x, &why));
    struct {
        uint32_t *field, value;
    } lies[] = {
        { &x.slot, 1 },
        { &x.slot, UINT32_MAX },
        { &x.n_slots, 2 },
        { &x.n_slots, 4 },
        { &x.pieces[0].rows, 65 },
        { &x.pieces[4].rows, 43 },
        { &x.pieces[0].rows, 63 },
        { &x.pieces[4].rows, UINT32_MAX },
    };
    struct {
        uint64_t *field, value;
    } far[] = {
        { &x.pieces[0].offset, UINT64_MAX },
        { &x.pieces[0].offset, n },
        { &x.pieces[0].offset, n - 100 },
        { &x.pieces[0].offset, 0 },
        { &x.file_size, n + 1 },
        { &x.file_size, UINT64_MAX },
        { &x.key[0], 5 },
        { &x.pieces[0].hash[1], 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(lies) + ARRAY_LEN(far); i++) {
        struct buf out;
        buf_init(&out, NULL, PREFIX_HEADER_MAX);
        bool wide = i >= ARRAY_LEN(lies);
        size_t k = wide ? i - ARRAY_LEN(lies) : i;
        uint64_t was = wide ? *far[k].field : *lies[k].field;
        uint32_t slots = x.n_slots;
        if (wide)
            *far[k].field = far[k].value;
        else
            *lies[k].field = lies[k].value;
        uint32_t told = x.n_slots;
        x.n_slots = told > slots ? slots : told; /* no more entries than there are */
        prefix_header_put(&kind, &x, &out);
        x.n_slots = slots;
        if (wide)
            *far[k].field = was;
        else
            *lies[k].field = (uint32_t)was;
        FILE *f = fopen(path, "wb");
        assert_true(f != NULL && fwrite(out.data, out.len, 1, f) == 1 &&
                    fwrite(good + out.len, n - out.len, 1, f) == 1 && fclose(f) == 0);
        if (told <= slots) {
            kv_truncate(b.s.kv, 0);
            assert_int_equal(fetch(&b, ids, 170), 0);
        }
        buf_free(&out);
    }
    arena_free(&a);
    close_box(&b);
    free(good);
    remove_folder(folder);
}

/* ------------------------------------------------------------------ limits */

static void test_limit(void **state) {
    (void)state;
    char folder[600];
    int32_t ids[300];
    uint64_t one = 0, all = 0;
    new_folder(folder);
    struct prefix_options o = options(folder);
    numbers(ids, 300, 0);
    life(&o, "F", KV_F16, ids, 300, false);
    each_file(folder, NULL, NULL, &one);
    o.disk_bytes = 4 * one + one / 2;
    for (int i = 1; i < 12; i++) {
        usleep(15000); /* times of files that differ on any file system */
        numbers(ids, 300, 0);
        assert_int_equal(found(&o, "F", KV_F16, ids, 300, false), 300); /* used all the time */
        usleep(15000);
        numbers(ids, 300, 50 * i);
        assert_int_equal(life(&o, "F", KV_F16, ids, 300, false), 0);
        all = 0;
        size_t n = each_file(folder, NULL, NULL, &all);
        assert_true(all <= o.disk_bytes && n == (i < 3 ? (size_t)i + 1 : 4));
    }
    for (int i = 0; i < 12; i++) {
        numbers(ids, 300, 50 * i);
        assert_int_equal(found(&o, "F", KV_F16, ids, 300, false), i == 0 || i > 8 ? 300 : 0);
    }
    struct box b;
    o.disk_bytes = one / 2; /* nothing of the kind fits: said, and nothing is thrown away for it */
    numbers(ids, 300, 999);
    open_box(&b, "F", KV_F16, &o);
    assert_int_equal(fetch(&b, ids, 300), 0);
    evaluate(&b, 300);
    assert_int_equal(prefix_save(b.c, ids, b.s.kv, &why), SLM_E_BUDGET);
    close_box(&b);
    assert_int_equal(each_file(folder, NULL, NULL, NULL), 4);
    remove_folder(folder);
}

/* What a process left unfinished long ago is removed, what is being written now is not. */
static void test_stale(void **state) {
    (void)state;
    char folder[600], old[1200], fresh[1200], other[1200];
    int32_t ids[100];
    numbers(ids, 100, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    life(&o, "F", KV_F16, ids, 64, false);
    static const char name[] = "00112233445566778899aabbccddeeff-0123456789abcdef.kv";
    snprintf(old, sizeof old, "%s/%s.tmp77.0", folder, name);
    snprintf(fresh, sizeof fresh, "%s/%s.tmp78.0", folder, name);
    snprintf(other, sizeof other, "%s/thesis.tmp", folder);
    const char *const paths[] = { old, fresh, other };
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        FILE *f = fopen(paths[i], "wb");
        assert_true(f != NULL && fclose(f) == 0);
        struct timespec times[2] = { { .tv_sec = 1000000 }, { .tv_sec = 1000000 } };
        if (i != 1)
            assert_int_equal(utimensat(AT_FDCWD, paths[i], times, 0), 0);
    }
    life(&o, "F", KV_F16, ids, 100, false);
    assert_int_not_equal(access(old, F_OK), 0);
    assert_int_equal(access(fresh, F_OK), 0);
    assert_int_equal(access(other, F_OK), 0);
    remove_folder(folder);
}

/* ------------------------------------------------------------------ company */

static void worker(const char *folder, uint64_t limit, unsigned number) {
    struct prefix_options o = options(folder);
    int32_t ids[400];
    uint64_t x = number + 1;
    o.disk_bytes = limit;
    for (unsigned round = 0; round < 60; round++) {
        struct box b;
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint32_t n = 50 + (uint32_t)(x >> 40) % 350;
        numbers(ids, 400, 100 * (int32_t)((x >> 33) % 5));
        open_box(&b, "Fs", KV_F16, &o);
        fetch(&b, ids, n); /* checks every number */
        evaluate(&b, n);
        slm_err err = prefix_save(b.c, ids, b.s.kv, &why);
        if (err != SLM_OK && err != SLM_E_BUDGET && err != SLM_E_IO)
            _exit(1);
        close_box(&b);
    }
}

static void test_processes(void **state) {
    (void)state;
    char folder[600];
    pid_t children[3];
    int32_t ids[400];
    for (unsigned tight = 0; tight < 2; tight++) {
        new_folder(folder);
        fflush(NULL);
        for (unsigned i = 0; i < ARRAY_LEN(children); i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                worker(folder, tight ? 100000 : 0, i);
                _exit(0);
            }
        }
        for (unsigned i = 0; i < ARRAY_LEN(children); i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        struct prefix_options o = options(folder);
        for (int i = 0; i < 5 && !tight; i++) {
            numbers(ids, 400, 100 * i);
            assert_true(found(&o, "Fs", KV_F16, ids, 400, false) > 300);
        }
        remove_folder(folder);
    }
}

/* ------------------------------------------------------------------ no memory */

static void test_no_memory(void **state) {
    (void)state;
    char folder[600];
    int32_t ids[300];
    numbers(ids, 300, 0);
    new_folder(folder);
    struct prefix_options o = options(folder);
    life(&o, "Fs", KV_F16, ids, 200, false);
    for (unsigned once = 0; once < 2; once++)
        for (size_t k = 1;; k++) {
            struct test_hooks h;
            struct box b = { .m = fake_model("Fs", 100) };
            OK(kv_pool_new(NULL, &b.m, KV_F16, (struct kv_pages){ { 60, 60 } }, &b.pool, &why));
            OK(kv_new(b.pool, FAKE_CONTEXT, 64, &b.s.kv, &why));
            test_hooks_init(&h, k);
            h.once = once == 1;
            slm_err err = prefix_new(&h.hooks, b.pool, &o, &b.c, &why);
            if (err == SLM_OK) {
                uint32_t reused = fetch(&b, ids, 300); /* without memory it counts as absent */
                assert_true(reused <= 200 && (h.failed || reused == 200));
                evaluate(&b, 300);
                err = prefix_save(b.c, ids, b.s.kv, &why);
                assert_true(fake_right(&b.s));
            }
            bool failed = h.failed;
            kv_free(b.s.kv);
            prefix_free(b.c);
            kv_pool_free(b.pool);
            assert_int_equal(h.live, 0);
            if (!failed) {
                OK(err);
                break;
            }
            assert_true(err == SLM_OK || err == SLM_E_NOMEM); /* times of use may fail to be set */
            each_file(folder, remove_file, NULL, NULL);
            life(&o, "Fs", KV_F16, ids, 200, false);
        }
    remove_folder(folder);
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
        cmocka_unit_test(test_restart),   cmocka_unit_test(test_branches),
        cmocka_unit_test(test_both),      cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_no_folder), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_lies),      cmocka_unit_test(test_limit),
        cmocka_unit_test(test_stale),     cmocka_unit_test(test_processes),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
