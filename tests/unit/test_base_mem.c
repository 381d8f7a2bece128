/* test_base_mem.c - hooks, checked arithmetic, aligned memory, arena and buffer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "support.h"

static void test_arithmetic(void **state) {
    (void)state;
    size_t out = 7;
    assert_true(mul_ok(0, SIZE_MAX, &out) && out == 0);
    assert_true(mul_ok(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_true(mul_ok(SIZE_MAX / 3, 3, &out) && out == SIZE_MAX / 3 * 3);
    out = 7;
    assert_false(mul_ok(SIZE_MAX / 3 + 1, 3, &out));
    assert_false(mul_ok((size_t)1 << 32, (size_t)1 << 32, &out));
    assert_false(add_ok(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7); /* unchanged on failure */
    assert_true(add_ok(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    uint64_t wide = 9;
    assert_false(mul_u64_ok(UINT64_MAX, 2, &wide));
    assert_false(add_u64_ok(UINT64_MAX, 1, &wide));
    assert_int_equal(wide, 9);
    assert_true(mul_u64_ok(UINT64_MAX / 5, 5, &wide) && wide == UINT64_MAX / 5 * 5);
    assert_true(add_u64_ok(UINT64_MAX, 0, &wide) && wide == UINT64_MAX);
}

static void *other_alloc(void *user, size_t n) {
    (void)user;
    return malloc(n);
}

static void test_hooks_rules(void **state) {
    (void)state;
    assert_true(hooks_valid(NULL));
    struct slm_hooks user = { .size = sizeof user };
    assert_true(hooks_valid(&user));
    user.alloc = other_alloc;
    assert_false(hooks_valid(&user)); /* one of three */
    struct slm_hooks out;
    hooks_init(&out, &user);
    assert_true(out.alloc != other_alloc); /* never a mixture of two allocators */
    assert_true(out.resize != NULL && out.release != NULL && out.log != NULL);
    user = (struct slm_hooks){ .size = 8 };
    assert_false(hooks_valid(&user));
    struct test_hooks t;
    test_hooks_init(&t, 0);
    hooks_init(&out, &t.hooks);
    assert_true(out.alloc == t.hooks.alloc && out.user == &t);
    out.log(out.user, SLM_LOG_INFO, "goes nowhere"); /* filled in, harmless */
}

static void test_pieces(void **state) {
    (void)state;
    struct test_hooks t;
    test_hooks_init(&t, 0);
    assert_null(mem_alloc(&t.hooks, SIZE_MAX, 2));
    assert_null(mem_alloc(&t.hooks, SIZE_MAX / 2 + 2, 1)); /* beyond PTRDIFF_MAX */
    assert_null(mem_zalloc(&t.hooks, SIZE_MAX / 8 + 1, 8));
    assert_int_equal(t.requests, 0);
    char *p = mem_alloc(&t.hooks, 0, 16); /* a pointer of its own */
    assert_non_null(p);
    p = mem_resize(&t.hooks, p, 10, 10);
    memset(p, 1, 100);
    assert_null(mem_resize(&t.hooks, p, SIZE_MAX, 2));
    assert_int_equal(p[99], 1); /* still there */
    mem_free(&t.hooks, p);
    mem_free(&t.hooks, NULL);
    unsigned char *z = mem_zalloc(&t.hooks, 3, 333);
    for (size_t i = 0; i < 999; i++)
        assert_int_equal(z[i], 0);
    mem_free(&t.hooks, z);
    char *s = mem_strdup(&t.hooks, "abc", 2);
    assert_string_equal(s, "ab");
    mem_free(&t.hooks, s);
    s = mem_strdup(&t.hooks, NULL, 0);
    assert_string_equal(s, "");
    mem_free(&t.hooks, s);
    assert_null(mem_strdup(&t.hooks, "x", SIZE_MAX));
    p = mem_resize(&t.hooks, NULL, 4, 4);
    mem_free(&t.hooks, p);
    p = mem_alloc(NULL, 4, 4); /* no hooks: the C library */
    mem_free(NULL, p);
    assert_int_equal(t.live, 0);
}

static void test_aligned(void **state) {
    (void)state;
    struct test_hooks t;
    test_hooks_init(&t, 0);
    for (size_t n = 0; n < 300; n += 7) {
        char *p = mem_alloc_aligned(&t.hooks, n, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % MEM_ALIGN, 0);
        memset(p, 0x5a, n);
        mem_free_aligned(&t.hooks, p);
    }
    mem_free_aligned(&t.hooks, NULL);
    assert_null(mem_alloc_aligned(&t.hooks, SIZE_MAX, 1));
    assert_null(mem_alloc_aligned(&t.hooks, SIZE_MAX / 2, 1));
    assert_int_equal(t.live, 0);
}

static void test_arena(void **state) {
    (void)state;
    struct test_hooks t;
    test_hooks_init(&t, 0);
    struct arena a;
    arena_init(&a, &t.hooks, 0);
    enum { N = 3000 };
    static char *p[N];
    for (size_t i = 0; i < N; i++) { /* sizes from 0 to beyond a block, none overlap or move */
        size_t n = i % 100 == 99 ? 20000 : i % 61;
        p[i] = arena_alloc(&a, n, 1);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)(i % 251), n);
    }
    for (size_t i = 0; i < N; i++) {
        size_t n = i % 100 == 99 ? 20000 : i % 61;
        for (size_t k = 0; k < n; k++)
            assert_int_equal((unsigned char)p[i][k], i % 251);
    }
    assert_true(t.requests < 60); /* blocks, not objects */
    assert_string_equal(arena_strdup(&a, "hello", 4), "hell");
    unsigned char *z = arena_zalloc(&a, 100, 10);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(z[i], 0);
    assert_null(arena_alloc(&a, SIZE_MAX, 3));
    assert_null(arena_alloc(&a, SIZE_MAX / 2 - 8, 1));
    assert_null(arena_strdup(&a, "x", SIZE_MAX));
    arena_free(&a);
    assert_int_equal(t.live, 0);
    assert_non_null(arena_alloc(&a, 1, 1)); /* may be used again */
    arena_free(&a);
    assert_int_equal(t.live, 0);
}

static void test_arena_limit(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, NULL, 10000);
    size_t got = 0;
    while (arena_alloc(&a, 100, 1) != NULL)
        got += 100;
    assert_true(got > 5000 && got <= 10000);
    assert_null(arena_alloc(&a, 9000, 1));
    arena_free(&a);
    assert_non_null(arena_alloc(&a, 9000, 1)); /* the ceiling counts what is held */
    assert_null(arena_alloc(&a, 9000, 1));
    arena_free(&a);
    arena_init(&a, NULL, 8);
    assert_null(arena_alloc(&a, 1, 1));
    arena_free(&a);
}

static void test_buf(void **state) {
    (void)state;
    struct test_hooks t;
    test_hooks_init(&t, 0);
    struct buf b;
    buf_init(&b, &t.hooks, 1000);
    buf_puts(&b, "");
    assert_null(b.data);
    buf_puts(&b, "one");
    buf_putc(&b, ' ');
    buf_printf(&b, "%d %s", 2, "three");
    assert_string_equal(b.data, "one 2 three");
    assert_int_equal(b.len, 11);
    char *taken = buf_take(&b);
    assert_string_equal(taken, "one 2 three");
    mem_free(&t.hooks, taken);
    assert_int_equal(b.len, 0);
    taken = buf_take(&b); /* empty: still a string */
    assert_string_equal(taken, "");
    mem_free(&t.hooks, taken);
    char wide[400];
    memset(wide, 'w', sizeof wide);
    wide[399] = '\0';
    buf_printf(&b, "%s%s", wide, wide); /* longer than the inner piece of buf_printf */
    assert_int_equal(b.len, 798);
    assert_int_equal(b.data[798], 0);
    buf_free(&b);
    assert_int_equal(t.live, 0);
}

static void test_buf_limit(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, NULL, 100);
    for (int i = 0; i < 100; i++)
        buf_putc(&b, 'a');
    assert_int_equal(b.err, SLM_OK);
    assert_true(b.cap <= 101);
    buf_putc(&b, 'b');
    assert_int_equal(b.err, SLM_E_BUDGET);
    assert_int_equal(b.len, 100);
    buf_printf(&b, "more"); /* sticky */
    assert_int_equal(b.len, 100);
    assert_null(buf_take(&b));
    assert_int_equal(b.err, SLM_E_BUDGET); /* still tells why */
    buf_free(&b);
    assert_int_equal(b.err, SLM_OK);
    buf_init(&b, NULL, 0);
    buf_put(&b, "", 0);
    assert_int_equal(b.err, SLM_OK);
    buf_putc(&b, 'x');
    assert_int_equal(b.err, SLM_E_BUDGET);
    buf_free(&b);
    buf_init(&b, NULL, SIZE_MAX);
    buf_put(&b, "abc", 3);
    buf_put(&b, "abc", SIZE_MAX - 1); /* refused before a byte is read */
    assert_int_equal(b.err, SLM_E_BUDGET);
    buf_free(&b);
    buf_init(&b, NULL, SIZE_MAX);
    buf_put(&b, "abc", SIZE_MAX / 2 + 1);
    assert_int_equal(b.err, SLM_E_NOMEM);
    buf_free(&b);
}

/* every allocation fails in turn: a NULL or a sticky error each time, nothing lost */
static void test_oom(void **state) {
    (void)state;
    struct test_hooks t;
    for (size_t k = 1;; k++) {
        test_hooks_init(&t, k);
        struct arena a;
        arena_init(&a, &t.hooks, 0);
        bool all = true;
        for (size_t i = 0; i < 100; i++)
            all = arena_alloc(&a, i * 100, 1) != NULL && all;
        arena_free(&a);
        struct buf b;
        buf_init(&b, &t.hooks, 100000);
        for (int i = 0; i < 1000; i++)
            buf_printf(&b, "line %d, ", i);
        slm_err err = b.err;
        char *text = buf_take(&b);
        assert_true((err == SLM_OK) == (text != NULL));
        mem_free(&t.hooks, text);
        assert_int_equal(t.live, 0);
        if (!t.failed) {
            assert_true(all && err == SLM_OK);
            assert_true(k > 10);
            break;
        }
        assert_int_equal(err, SLM_E_NOMEM); /* once refused, always refused */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic), cmocka_unit_test(test_hooks_rules),
        cmocka_unit_test(test_pieces),     cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_arena),      cmocka_unit_test(test_arena_limit),
        cmocka_unit_test(test_buf),        cmocka_unit_test(test_buf_limit),
        cmocka_unit_test(test_oom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
