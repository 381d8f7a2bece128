/* test_format_boundary.c - files made wrong by machine: every number at its boundaries, alone and in
 * pairs, every truncation, every byte; each image ends at a page that cannot be read. */
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "format_image.h"

/* after the rest: cmocka has a macro named fail */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* A buffer whose last byte is followed by an unreadable page. */
struct guarded {
    uint8_t *pages;
    size_t n_pages;
    uint8_t *data;
    size_t n;
};

static void guard_put(struct guarded *g, const void *image, size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    g->n_pages = room + page;
    g->pages = mmap(NULL, g->n_pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(g->pages, MAP_FAILED);
    assert_int_equal(mprotect(g->pages + room, page, PROT_NONE), 0);
    g->data = g->pages + room - n;
    g->n = n;
    if (n > 0)
        memcpy(g->data, image, n);
}

static void guard_free(struct guarded *g) {
    munmap(g->pages, g->n_pages);
}

/* One file: an error with a reason, or a sound container; and the memory budget. */
static slm_err try_image(const char *name, const uint8_t *data, size_t n) {
    struct slm_memory_file file = { name, data, n };
    struct counter c;
    counter_init(&c);
    struct tensors *t = NULL;
    slm_why why = { 0 };
    slm_err err = tensors_open_memory(&c.hooks, &file, 1, &t, &why);
    if (err == SLM_OK) {
        assert_true(image_sound(t, &file, 1));
        tensors_close(t);
    } else {
        assert_null(t);
        assert_true(err == SLM_E_FORMAT || err == SLM_E_UNSUPPORTED || err == SLM_E_ENCODING ||
                    err == SLM_E_BUDGET);
        assert_int_equal(why.code, err);
        assert_true(strlen(why.message) > strlen(name) + 10 &&
                    strncmp(why.message, name, strlen(name)) == 0);
        assert_true(why.offset == SLM_NO_OFFSET || why.offset <= n);
    }
    assert_int_equal(c.live, 0);
    assert_true(c.peak <= 4 * n + (64u << 20));
    return err;
}

#define MAX_FIELDS 128

static void gguf_fields_alone_and_in_pairs(void **state) {
    (void)state;
    struct image g = img_sample();
    assert_int_equal(try_image("x.gguf", g.data, g.n), SLM_OK);
    struct field fields[MAX_FIELDS];
    size_t n_fields = fields_find(g.data, g.n, fields, MAX_FIELDS);
    assert_true(n_fields > 40 && n_fields < MAX_FIELDS);
    uint64_t values[BOUNDARY_VALUES];
    boundary_values(g.n, 32, values);
    struct guarded p;
    guard_put(&p, g.data, g.n);
    size_t files = 0, good = 0;
    for (size_t i = 0; i < n_fields; i++)
        for (size_t a = 0; a < BOUNDARY_VALUES; a++) {
            field_set(p.data, &fields[i], values[a]);
            good += try_image("x.gguf", p.data, p.n) == SLM_OK;
            files++;
            for (size_t k = i + 1; k < n_fields; k++) {
                for (size_t b = 0; b < BOUNDARY_VALUES; b++) {
                    field_set(p.data, &fields[k], values[b]);
                    good += try_image("x.gguf", p.data, p.n) == SLM_OK;
                    files++;
                }
                memcpy(p.data + fields[k].pos, g.data + fields[k].pos, fields[k].width);
            }
            memcpy(p.data + fields[i].pos, g.data + fields[i].pos, fields[i].width);
        }
    assert_memory_equal(p.data, g.data, g.n);
    print_message("# %zu files, %zu of them sound\n", files, good);
    assert_true(files >= 20000);
    assert_true(good > 100 && good < files / 2);
    guard_free(&p);
    img_free(&g);
}

/* The same for the numbers in a safetensors header, which are text. */
static void safetensors_fields_alone_and_in_pairs(void **state) {
    (void)state;
    enum { SLOTS = 9 };
    const uint64_t sound[SLOTS] = { 3, 4, 0, 48, 5, 48, 58, 58, 62 };
    uint64_t values[BOUNDARY_VALUES];
    size_t files = 0, good = 0;
    boundary_values(62, 48, values);
    for (size_t i = 0; i < SLOTS; i++)
        for (size_t k = i; k < SLOTS; k++)
            for (size_t a = 0; a < BOUNDARY_VALUES; a++)
                for (size_t b = 0; b < (i == k ? 1 : BOUNDARY_VALUES); b++) {
                    uint64_t v[SLOTS];
                    memcpy(v, sound, sizeof v);
                    v[i] = values[a];
                    if (k != i)
                        v[k] = values[b];
                    char json[512];
                    snprintf(
                        json, sizeof json,
                        "{\"w\":{\"dtype\":\"F32\",\"shape\":[%llu,%llu],\"data_offsets\":[%llu,%"
                        "llu]},"
                        "\"b\":{\"dtype\":\"BF16\",\"shape\":[%llu],\"data_offsets\":[%llu,%llu]},"
                        "\"s\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[%llu,%llu]}}",
                        (unsigned long long)v[0], (unsigned long long)v[1],
                        (unsigned long long)v[2], (unsigned long long)v[3],
                        (unsigned long long)v[4], (unsigned long long)v[5],
                        (unsigned long long)v[6], (unsigned long long)v[7],
                        (unsigned long long)v[8]);
                    struct image g = img_safetensors(json, 62);
                    struct guarded p;
                    guard_put(&p, g.data, g.n);
                    good += try_image("m.safetensors", p.data, p.n) == SLM_OK;
                    files++;
                    guard_free(&p);
                    img_free(&g);
                }
    print_message("# %zu files, %zu of them sound\n", files, good);
    assert_true(files >= 20000);
    assert_true(good > 0 && good < 100);
}

/* The length in front of the header. */
static void safetensors_header_length(void **state) {
    (void)state;
    struct image g =
        img_safetensors("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    assert_int_equal(try_image("m.safetensors", g.data, g.n), SLM_OK);
    uint64_t values[BOUNDARY_VALUES];
    boundary_values(g.n, g.n - 8, values);
    const struct field length = { 0, 8, "header length", true };
    struct guarded p;
    guard_put(&p, g.data, g.n);
    for (size_t i = 0; i < BOUNDARY_VALUES; i++) {
        field_set(p.data, &length, values[i]);
        assert_int_equal(try_image("m.safetensors", p.data, p.n), SLM_E_FORMAT);
    }
    guard_free(&p);
    img_free(&g);
}

static void truncated_at_every_byte(const char *name, struct image g) {
    assert_int_equal(try_image(name, g.data, g.n), SLM_OK);
    for (size_t n = 0; n < g.n; n++) {
        struct guarded p;
        guard_put(&p, g.data, n);
        assert_int_equal(try_image(name, p.data, n), SLM_E_FORMAT);
        guard_free(&p);
    }
    img_free(&g);
}

static void gguf_truncated(void **state) {
    (void)state;
    truncated_at_every_byte("x.gguf", img_sample());
}

static void safetensors_truncated(void **state) {
    (void)state;
    truncated_at_every_byte(
        "m.safetensors",
        img_safetensors("{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":"
                        "[2,3],\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[],"
                        "\"data_offsets\":[24,26]}}",
                        26));
}

/* Every byte of the front part with each bit turned, and set to 0 and 255. */
static void bits_turned(const char *name, struct image g, size_t front) {
    struct guarded p;
    guard_put(&p, g.data, g.n);
    for (size_t i = 0; i < front; i++) {
        for (unsigned k = 0; k < 10; k++) {
            unsigned byte = k < 8 ? g.data[i] ^ 1u << k : k == 8 ? 0 : 255;
            p.data[i] = (uint8_t)byte;
            try_image(name, p.data, p.n);
        }
        p.data[i] = g.data[i];
    }
    guard_free(&p);
    img_free(&g);
}

static void gguf_bits(void **state) {
    (void)state;
    struct image g = img_sample();
    bits_turned("x.gguf", g, g.n - 170);
}

static void safetensors_bits(void **state) {
    (void)state;
    struct image g = img_safetensors(
        "{\"w\\u0041\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    bits_turned("m.safetensors", g, g.n - 8);
}

/* Absurd counts must cost nothing: not memory, not time. */
static void absurd_counts(void **state) {
    (void)state;
    const uint64_t counts[] = { 65536,           65537,     1u << 20, UINT32_MAX, (uint64_t)1 << 40,
                                UINT64_MAX / 14, UINT64_MAX };
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        for (int kind = 0; kind < 4; kind++) {
            struct image g = { 0 };
            img_head(&g, 3, kind == 0 ? counts[i] : 0, kind == 1 ? counts[i] : 1);
            if (kind >= 2)
                img_array(&g, "a", kind == 2 ? GGUF_STRING : GGUF_F64, counts[i]);
            img_fill(&g, 200);
            struct slm_memory_file file = { "x.gguf", g.data, g.n };
            struct counter c;
            counter_init(&c);
            struct tensors *t;
            slm_why why;
            assert_int_equal(tensors_open_memory(&c.hooks, &file, 1, &t, &why), SLM_E_FORMAT);
            assert_true(c.peak < 65536);
            char number[32];
            snprintf(number, sizeof number, "%llu ", (unsigned long long)counts[i]);
            assert_non_null(strstr(why.message, number));
            img_free(&g);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_fields_alone_and_in_pairs),
        cmocka_unit_test(safetensors_fields_alone_and_in_pairs),
        cmocka_unit_test(safetensors_header_length),
        cmocka_unit_test(gguf_truncated),
        cmocka_unit_test(safetensors_truncated),
        cmocka_unit_test(gguf_bits),
        cmocka_unit_test(safetensors_bits),
        cmocka_unit_test(absurd_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
