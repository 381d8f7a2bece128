/* test_format_oom.c - every allocation of opening and writing fails once, and for good; memory stays
 * within the budget; a vocabulary of half a million strings opens in no time. */
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "format_image.h"
#include "support.h"

/* after the rest: cmocka has a macro named fail */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

typedef slm_err (*work_fn)(const struct slm_hooks *h, void *user, slm_why *why);

/* The k-th request fails, alone or with all after it, until the work succeeds. */
static void fails_cleanly(work_fn work, void *user, size_t at_least) {
    for (int once = 0; once < 2; once++) {
        size_t k = 1;
        for (;; k++) {
            struct test_hooks t;
            test_hooks_init(&t, k);
            t.once = once;
            slm_why why = { 0 };
            slm_err err = work(&t.hooks, user, &why);
            assert_int_equal(t.live, 0);
            if (!t.failed) {
                if (err != SLM_OK)
                    print_error("%s\n", why.message);
                assert_int_equal(err, SLM_OK);
                break;
            }
            if (err != SLM_E_NOMEM)
                print_error("request %zu: %s: %s\n", k, err_name(err), why.message);
            assert_int_equal(err, SLM_E_NOMEM);
            assert_int_equal(why.code, SLM_E_NOMEM);
            assert_non_null(strstr(why.message, "memory"));
        }
        assert_true(k - 1 >= at_least);
    }
}

struct memory_model {
    struct slm_memory_file files[4];
    size_t n;
};

static slm_err open_memory(const struct slm_hooks *h, void *user, slm_why *why) {
    struct memory_model *m = user;
    struct tensors *t;
    slm_err err = tensors_open_memory(h, m->files, m->n, &t, why);
    assert_true((err == SLM_OK) == (t != NULL));
    tensors_close(t);
    return err;
}

static slm_err open_path(const struct slm_hooks *h, void *user, slm_why *why) {
    struct tensors *t;
    slm_err err = tensors_open(h, user, &t, why);
    assert_true((err == SLM_OK) == (t != NULL));
    tensors_close(t);
    return err;
}

static void opening(void **state) {
    (void)state;
    struct image g = img_sample();
    struct memory_model m = { { { "x.gguf", g.data, g.n } }, 1 };
    fails_cleanly(open_memory, &m, 4);
    img_free(&g);
    /* a name with an escape, and enough tensors that the list grows */
    const char *first = "{\"a\\u0041\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
    img_bytes(&g, first, strlen(first));
    for (int i = 1; i < 200; i++) {
        char entry[128];
        int n =
            snprintf(entry, sizeof entry,
                     ",\"tensor.%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i,
                     4 * i, 4 * i + 4);
        img_bytes(&g, entry, (size_t)n);
    }
    img_bytes(&g, "}", 2);
    struct image s = img_safetensors((const char *)g.data, 800);
    m = (struct memory_model){ { { "m.safetensors", s.data, s.n } }, 1 };
    fails_cleanly(open_memory, &m, 6);
    img_free(&g);
    img_free(&s);
}

/* Long keys and names, so that the arena asks for block after block. */
static void opening_large(void **state) {
    (void)state;
    for (int front = 0; front < 20; front++) { /* moves the edges of blocks over every request */
        struct image g = { 0 };
        char name[256];
        img_head(&g, 3, 130, 130);
        for (int i = 0; i < 130; i++) {
            snprintf(name, sizeof name, "%0*d", 60 + 9 * front, i);
            img_kv_u32(&g, name, 1);
        }
        for (int i = 0; i < 130; i++) {
            snprintf(name, sizeof name, "%0*d", 60 + 9 * front, i);
            img_tensor(&g, name, DT_F32, 32 * (uint64_t)i, 1, 0);
        }
        img_pad(&g, 32);
        img_fill(&g, (size_t)130 * 32);
        struct memory_model m = { { { "x.gguf", g.data, g.n } }, 1 };
        fails_cleanly(open_memory, &m, 6);
        img_free(&g);
        struct image index = { 0 }, one = { 0 };
        img_bytes(&index, "{\"weight_map\":", 14);
        for (int i = 0; i < 130; i++) {
            char entry[512];
            int n =
                snprintf(entry, sizeof entry, "%c\"%0*d\":\"a\"", i ? ',' : '{', 60 + 9 * front, i);
            img_bytes(&index, entry, (size_t)n);
            n = snprintf(entry, sizeof entry,
                         "%c\"%0*d\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                         i ? ',' : '{', 60 + 9 * front, i, 4 * i, 4 * i + 4);
            img_bytes(&one, entry, (size_t)n);
        }
        img_bytes(&index, "}}", 2);
        img_bytes(&one, "}", 2);
        struct image shard = img_safetensors((const char *)one.data, 520);
        m = (struct memory_model){ { { "model.safetensors.index.json", index.data, index.n },
                                     { "a", shard.data, shard.n } },
                                   2 };
        fails_cleanly(open_memory, &m, 10);
        img_free(&index);
        img_free(&one);
        img_free(&shard);
    }
}

static void opening_files(void **state) {
    (void)state;
    static const char *const files[] = { "golden/qwen3-4b-instruct-2507", "golden/jan-v1-4b",
                                         "golden/gguf/smollm3/smollm3-mixed.gguf" };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[1024];
        assert_non_null(data_path(path, sizeof path, files[i]));
        fails_cleanly(open_path, path, 4);
    }
}

static slm_err write_gguf(const struct slm_hooks *h, void *user, slm_why *why) {
    struct gguf_writer *w;
    const uint64_t dims[] = { 4 };
    const float data[4] = { 0 };
    slm_err err = gguf_writer_new(h, user, &w, why);
    if (err != SLM_OK)
        return err;
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "a.rather.long.key.%d", i);
        gguf_put_str(w, name, "value", 5);
        gguf_put_tensor(w, name, DT_F32, 1, dims);
    }
    for (int i = 0; i < 100; i++)
        gguf_write_data(w, data, sizeof data, NULL);
    err = gguf_writer_close(w, true, why);
    assert_int_equal(access(user, F_OK) == 0, err == SLM_OK);
    unlink(user);
    return err;
}

static void writing(void **state) {
    (void)state;
    char path[1024];
    assert_true(temp_file(path, sizeof path, "w.gguf", "", 0));
    unlink(path);
    fails_cleanly(write_gguf, path, 10);
}

/* ---- size and time ---- */

#define TOKENS 262144
#define MERGES 514906

static struct image vocabulary(void) {
    struct image g = { 0 };
    char text[32];
    img_head(&g, 3, 0, 4);
    img_kv_u32(&g, "general.alignment", 32);
    img_array(&g, "tokenizer.ggml.tokens", GGUF_STRING, TOKENS);
    for (int i = 0; i < TOKENS; i++) {
        snprintf(text, sizeof text, "token%x", i);
        img_text(&g, text);
    }
    img_array(&g, "tokenizer.ggml.merges", GGUF_STRING, MERGES);
    for (int i = 0; i < MERGES; i++) {
        snprintf(text, sizeof text, "m%x e%x", i, i / 3);
        img_text(&g, text);
    }
    img_array(&g, "tokenizer.ggml.token_type", GGUF_I32, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        img_le(&g, 1, 4);
    return g;
}

static void half_a_million_strings(void **state) {
    (void)state;
    struct image g = vocabulary();
    char path[1024];
    assert_true(temp_file(path, sizeof path, "vocab.gguf", g.data, g.n));
    double best = 1e9;
    for (int i = 0; i < 7; i++) {
        struct counter c;
        counter_init(&c);
        struct timespec a, b;
        struct tensors *t;
        slm_why why;
        clock_gettime(CLOCK_MONOTONIC, &a);
        assert_int_equal(tensors_open(&c.hooks, path, &t, &why), SLM_OK);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
        best = ms < best ? ms : best;
        assert_true(c.calls < 20); /* no allocation per string */
        assert_true(c.peak < 64 * 1024);
        const struct gguf_value *v = gguf_find(t->gguf, "tokenizer.ggml.merges");
        assert_int_equal(v->count, MERGES);
        uint64_t cursor = 0, n = 0;
        const char *s;
        size_t len;
        while (gguf_next_str(v, &cursor, &s, &len))
            n++;
        assert_int_equal(n, MERGES);
        tensors_close(t);
        assert_int_equal(c.live, 0);
    }
    print_message("# %zu bytes of metadata opened in %.1f ms\n", g.n, best);
#if !defined(HAVE_ASAN) && !defined(__SANITIZE_THREAD__)
    assert_true(best < 50);
#endif
    img_free(&g);
}

/* The largest counts that are accepted, with the smallest files that hold them. */
static void budget(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct image g = { 0 };
        char name[32];
        if (kind == 0) {
            img_head(&g, 3, 0, 65536);
            for (int i = 0; i < 65536; i++) {
                snprintf(name, sizeof name, "%x", i);
                img_kv(&g, name, GGUF_U8);
                img_le(&g, 1, 1);
            }
        } else if (kind == 1) {
            img_head(&g, 3, MAX_TENSORS, 1);
            img_kv_u32(&g, "general.alignment", 8);
            for (int i = 0; i < MAX_TENSORS; i++) {
                snprintf(name, sizeof name, "%x", i);
                img_tensor(&g, name, DT_BF16, 8 * (uint64_t)i, 1, 0);
            }
            img_pad(&g, 8);
            img_fill(&g, (size_t)8 * MAX_TENSORS);
        } else {
            struct image json = { 0 };
            for (int i = 0; i < MAX_TENSORS; i++) {
                char entry[96];
                int n =
                    snprintf(entry, sizeof entry,
                             "%c\"%x\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                             i ? ',' : '{', i, 2 * i, 2 * i + 2);
                img_bytes(&json, entry, (size_t)n);
            }
            img_bytes(&json, "}", 2);
            g = img_safetensors((const char *)json.data, (size_t)2 * MAX_TENSORS);
            img_free(&json);
        }
        struct slm_memory_file file = { kind == 2 ? "m.safetensors" : "x.gguf", g.data, g.n };
        struct counter c;
        counter_init(&c);
        struct tensors *t;
        slm_why why = { 0 };
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        slm_err err = tensors_open_memory(&c.hooks, &file, 1, &t, &why);
        clock_gettime(CLOCK_MONOTONIC, &b);
        if (err != SLM_OK)
            print_error("%s\n", why.message);
        assert_int_equal(err, SLM_OK);
        print_message("# %zu bytes: %zu held at most, %.0f ms\n", g.n, c.peak,
                      (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6);
        assert_true(c.peak <= 4 * g.n + (64u << 20));
        assert_true(image_sound(t, &file, 1));
        tensors_close(t);
        assert_int_equal(c.live, 0);
        img_free(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening),       cmocka_unit_test(opening_large),
        cmocka_unit_test(opening_files), cmocka_unit_test(writing),
        cmocka_unit_test(budget),        cmocka_unit_test(half_a_million_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
