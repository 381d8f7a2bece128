/* test_kv_pool.c - pages: how many, sharing, copies when written, sliding windows, going back, full
 * pools; random operations of several sequences against known contents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../fake_kv.h"
#include "support.h"

static slm_why why;
static uint64_t seed = 88172645463325252u;

static uint32_t rnd(uint32_t below) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 20) % below;
}

#define OK(expr)                                                                                   \
    do {                                                                                           \
        slm_err err_ = (expr);                                                                     \
        if (err_ != SLM_OK)                                                                        \
            fail_msg("%s: %s (%s)", #expr, why.message, err_name(err_));                           \
    } while (0)

static struct fake *open_fake(struct kv_pool *pool, uint32_t chunk) {
    struct fake *s = calloc(1, sizeof *s);
    OK(kv_new(pool, FAKE_CONTEXT, chunk, &s->kv, &why));
    return s;
}

static void close_fake(struct fake *s) {
    kv_free(s->kv);
    free(s);
}

static void set_random(struct fake *s, uint32_t at, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = (int32_t)rnd(50);
        fake_set(s, at + i, &id, 1);
    }
}

/* Holders of all pages add up to what the sequences' tables name; nothing is lost. */
static void check_pool(const struct kv_pool *pool, struct fake *const *s, size_t n) {
    for (unsigned c = 0; c < KV_CLASSES; c++) {
        const struct kv_store *store = &pool->store[c];
        uint32_t *named = calloc(store->n_pages + 1, sizeof *named), used = 0;
        for (size_t i = 0; i < n; i++)
            for (uint32_t k = 0; k < s[i]->kv->slots; k++)
                if (s[i]->kv->pages[c][k] != KV_NO_PAGE)
                    named[s[i]->kv->pages[c][k]]++;
        for (uint32_t i = 0; i < store->n_fresh; i++) {
            assert_int_equal(store->refs[i], named[i]);
            used += named[i] > 0;
        }
        assert_int_equal(store->n_pages - used, kv_pages_free(pool, (enum kv_class)c));
        free(named);
    }
}

/* ------------------------------------------------------------------ sizes */

static void test_pages_for(void **state) {
    (void)state;
    struct model both = fake_model("Fs", 100), full = fake_model("FN", 0),
                 none = fake_model("F", 9);
    struct kv_pages p = kv_pages_for(&both, 1000, 30, 1);
    assert_int_equal(p.n[KV_FULL], 16);
    assert_int_equal(p.n[KV_SLIDING], 3); /* 129 positions in a row touch three pages at most */
    p = kv_pages_for(&both, 1000, 31, 1);
    assert_int_equal(p.n[KV_SLIDING], 4 - 1 + (99 + 31 >= 130));
    p = kv_pages_for(&both, 100, 64, 3);
    assert_int_equal(p.n[KV_FULL], 6);
    assert_int_equal(p.n[KV_SLIDING], 6); /* no more than the context */
    p = kv_pages_for(&full, 65, 1, 1);
    assert_int_equal(p.n[KV_FULL], 2);
    assert_int_equal(p.n[KV_SLIDING], 0);
    p = kv_pages_for(&none, 1, 1, 1); /* a window without sliding layers */
    assert_true(p.n[KV_FULL] == 1 && p.n[KV_SLIDING] == 0);
    p = kv_pages_for(&full, UINT32_MAX, 1, UINT32_MAX);
    assert_int_equal(p.n[KV_FULL], UINT32_MAX);
    assert_int_equal(kv_page_bytes(&both, KV_F16, KV_FULL), 2 * 2 * 2 * 64 * 10);
    assert_int_equal(kv_page_bytes(&both, KV_F16, KV_SLIDING), 1 * 2 * 2 * 64 * 10);
    both.kv_heads = both.head_dim = UINT32_MAX;
    assert_true(kv_page_bytes(&both, KV_F16, KV_FULL) == UINT64_MAX);
    assert_true(kv_pool_bytes(&both, KV_F16, (struct kv_pages){ { 1, 1 } }) == UINT64_MAX);
    struct kv_pool *pool;
    assert_int_equal(kv_pool_new(NULL, &both, KV_F16, p, &pool, &why), SLM_E_NOMEM);
    assert_null(pool);
}

/* A pool of exactly kv_pages_for is always enough, whatever the chunks, and one page less is not. */
static void test_enough(void **state) {
    (void)state;
    static const uint32_t windows[] = { 1, 2, 63, 64, 65, 100, 129, 500 };
    static const uint32_t chunks[] = { 1, 5, 63, 64, 65, 200 };
    for (size_t w = 0; w < ARRAY_LEN(windows); w++)
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++) {
            struct model m = fake_model("Fss", windows[w]);
            struct kv_pages p = kv_pages_for(&m, FAKE_CONTEXT, chunks[c], 1);
            for (unsigned less = 0; less < 2; less++) {
                struct kv_pool *pool;
                p.n[KV_SLIDING] -= less;
                OK(kv_pool_new(NULL, &m, KV_F16, p, &pool, &why));
                struct fake *s = open_fake(pool, chunks[c]);
                set_random(s, 0, FAKE_CONTEXT);
                bool failed = false;
                for (unsigned round = 0; round < 40 && !failed; round++) {
                    uint32_t at = round % 2 == 0 ? rnd(64) : 0; /* chunks begin anywhere */
                    kv_truncate(s->kv, 0);
                    while (s->kv->length < FAKE_CONTEXT && !failed) {
                        uint32_t left = FAKE_CONTEXT - s->kv->length, before = s->kv->length;
                        uint32_t n = at > 0 && before < at ? 1 : chunks[c];
                        n = n < left ? n : left;
                        slm_err err = fake_evaluate(s, n, &why);
                        failed = err != SLM_OK;
                        if (failed) {
                            assert_int_equal(err, SLM_E_MEMORY);
                            assert_int_equal(s->kv->length, before);
                            assert_true(fake_right(s)); /* as it was */
                            assert_true(kv_can_truncate(s->kv, before));
                        }
                    }
                    assert_true(failed || fake_right(s));
                }
                assert_true(failed == (less > 0));
                check_pool(pool, &s, 1);
                close_fake(s);
                assert_int_equal(kv_pages_free(pool, KV_SLIDING), p.n[KV_SLIDING]);
                kv_pool_free(pool);
            }
        }
}

/* Pages that were never needed were never touched: a pool may be larger than the memory. */
static void test_untouched(void **state) {
    (void)state;
    struct model m = fake_model("F", 0);
    struct kv_pages p = { { 100000, 0 } }; /* 1.9 GB */
    struct kv_pool *pool;
    m.head_dim = 40;
    OK(kv_pool_new(NULL, &m, KV_F16, p, &pool, &why));
    for (unsigned i = 0; i < 1000; i++) { /* given back, taken again: always the same few */
        uint32_t a = kv_page_take(pool, KV_FULL), b = kv_page_take(pool, KV_FULL);
        assert_true(a < 2 && b < 2 && a != b);
        kv_page_drop(pool, KV_FULL, a);
        kv_page_drop(pool, KV_FULL, b);
    }
    assert_int_equal(pool->store[KV_FULL].n_fresh, 2);
    kv_pool_free(pool);
}

/* ------------------------------------------------------------------ sharing */

/* `to` starts with the pages of the first n positions of `from`. */
static void start_from(struct fake *to, const struct fake *from, uint32_t n) {
    struct kv *kv = to->kv;
    const struct model *m = kv->m;
    kv_truncate(kv, 0);
    to->long_rope = from->long_rope;
    to->sums[0] = from->sums[0];
    fake_set(to, 0, from->ids, n);
    for (unsigned c = 0; c < KV_CLASSES; c++)
        for (uint32_t i = c == KV_SLIDING ? kv_slots_gone(m, n) : 0; i * KV_PAGE < n; i++)
            if (from->kv->pages[c][i] != KV_NO_PAGE)
                kv_share(kv, (enum kv_class)c, i, from->kv->pages[c][i]);
    kv_started(kv, n, from->long_rope);
}

static void test_copy_on_write(void **state) {
    (void)state;
    struct model m = fake_model("Fs", 100);
    struct kv_pool *pool;
    OK(kv_pool_new(NULL, &m, KV_BF16, kv_pages_for(&m, FAKE_CONTEXT, 50, 2), &pool, &why));
    struct fake *s[2] = { open_fake(pool, 50), open_fake(pool, 50) };
    set_random(s[0], 0, 300);
    for (unsigned i = 0; i < 4; i++)
        OK(fake_evaluate(s[0], 50, &why));
    uint32_t free_before = kv_pages_free(pool, KV_FULL);
    start_from(s[1], s[0], 200);
    assert_int_equal(kv_pages_free(pool, KV_FULL), free_before); /* nothing was copied */
    assert_true(fake_right(s[1]));
    set_random(s[1], 200, 300);
    uint32_t shared = s[0]->kv->pages[KV_FULL][3];
    assert_int_equal(kv_page_refs(pool, KV_FULL, shared), 2);
    OK(fake_evaluate(s[1], 20, &why)); /* writes into slot 3, rows 8 on */
    assert_int_equal(kv_page_refs(pool, KV_FULL, shared), 1);
    assert_true(s[1]->kv->pages[KV_FULL][3] != shared);
    assert_true(s[1]->kv->pages[KV_FULL][2] == s[0]->kv->pages[KV_FULL][2]);
    assert_true(fake_right(s[0]) && fake_right(s[1]));
    OK(fake_evaluate(s[0], 50, &why)); /* alone again: no copy */
    assert_true(s[0]->kv->pages[KV_FULL][3] == shared);
    assert_true(fake_right(s[0]) && fake_right(s[1]));
    /* going back into a page that is shared in the middle of the sequence */
    assert_true(kv_truncate(s[1]->kv, 170));
    set_random(s[1], 170, 300);
    OK(fake_evaluate(s[1], 10, &why));
    assert_true(fake_right(s[0]) && fake_right(s[1]));
    assert_true(s[1]->kv->pages[KV_FULL][2] != s[0]->kv->pages[KV_FULL][2]);
    check_pool(pool, s, 2);
    close_fake(s[0]);
    assert_true(fake_right(s[1]));
    close_fake(s[1]);
    kv_pool_free(pool);
}

struct reclaimer {
    struct kv_pool *pool;
    uint32_t pages[4];
    unsigned n, asked;
    enum kv_class c;
};

static bool give_one(void *user, enum kv_class c) {
    struct reclaimer *r = user;
    r->asked++;
    assert_int_equal(c, r->c);
    if (r->n == 0)
        return false;
    kv_page_drop(r->pool, c, r->pages[--r->n]);
    return true;
}

static void test_reclaim(void **state) {
    (void)state;
    struct model m = fake_model("F", 0);
    struct kv_pool *pool;
    OK(kv_pool_new(NULL, &m, KV_F32, (struct kv_pages){ { 4, 0 } }, &pool, &why));
    struct fake *s = open_fake(pool, 64);
    struct reclaimer r = { .pool = pool, .n = 2, .c = KV_FULL };
    for (unsigned i = 0; i < 2; i++)
        r.pages[i] = kv_page_take(pool, KV_FULL);
    set_random(s, 0, 400);
    OK(fake_evaluate(s, 64, &why));
    OK(fake_evaluate(s, 64, &why));
    assert_int_equal(fake_evaluate(s, 1, &why), SLM_E_MEMORY); /* nobody to ask */
    assert_non_null(strstr(why.message, "1 pages"));
    assert_non_null(strstr(why.message, "of 4"));
    kv_pool_on_full(pool, give_one, &r);
    OK(fake_evaluate(s, 1, &why));
    assert_true(r.asked == 1 && r.n == 1);
    OK(fake_evaluate(s, 63, &why));
    OK(fake_evaluate(s, 64, &why));
    assert_true(r.asked == 2 && r.n == 0);
    assert_int_equal(fake_evaluate(s, 64, &why), SLM_E_MEMORY);
    assert_int_equal(r.asked, 3);
    assert_int_equal(s->kv->length, 256);
    assert_true(fake_right(s));
    /* a page shared with a cache alone lacks only until the cache lets go of it */
    assert_true(kv_truncate(s->kv, 250));
    r.pages[0] = s->kv->pages[KV_FULL][3];
    r.n = 1;
    kv_page_hold(pool, KV_FULL, r.pages[0]);
    OK(fake_evaluate(s, 1, &why));
    assert_true(s->kv->pages[KV_FULL][3] == r.pages[0] && r.n == 0);
    assert_true(fake_right(s));
    close_fake(s);
    assert_int_equal(kv_pages_free(pool, KV_FULL), 4);
    kv_pool_free(pool);
}

/* ------------------------------------------------------------------ random operations */

static void random_round(const char *pattern, uint32_t window, enum kv_type type, uint32_t pages) {
    struct model m = fake_model(pattern, window);
    struct kv_pool *pool;
    struct fake *s[4];
    unsigned refused = 0, grown = 0, shared = 0;
    OK(kv_pool_new(NULL, &m, type, (struct kv_pages){ { pages, pages } }, &pool, &why));
    for (size_t i = 0; i < ARRAY_LEN(s); i++)
        s[i] = open_fake(pool, 100);
    for (unsigned round = 0; round < 1500; round++) {
        struct fake *a = s[rnd(ARRAY_LEN(s))], *b = s[rnd(ARRAY_LEN(s))];
        uint32_t length = a->kv->length;
        switch (rnd(5)) {
        case 0: {
            uint32_t n = rnd(length + 2);
            bool can = kv_can_truncate(a->kv, n);
            assert_true(kv_truncate(a->kv, n) == can);
            assert_int_equal(a->kv->length, can && n < length ? n : length);
            break;
        }
        case 1:
            if (a != b && kv_can_truncate(b->kv, b->kv->length)) {
                start_from(a, b, b->kv->length);
                shared++;
            }
            break;
        default: {
            uint32_t n = 1 + rnd(100), left = FAKE_CONTEXT - length;
            n = n < left ? n : left;
            if (n == 0) {
                kv_truncate(a->kv, 0);
                break;
            }
            if (a->kv->length == 0)
                a->long_rope = rnd(2) == 0;
            set_random(a, length, n);
            slm_err err = fake_evaluate(a, n, &why);
            assert_true(err == SLM_OK || err == SLM_E_MEMORY);
            assert_int_equal(a->kv->length, err == SLM_OK ? length + n : length);
            refused += err != SLM_OK;
            grown += err == SLM_OK;
            if (err == SLM_OK) /* whatever is decided about these rows */
                assert_true(kv_can_truncate(a->kv, length));
            else if (rnd(2) == 0)
                kv_truncate(a->kv, 0);
        }
        }
        assert_true(fake_right(a) && fake_right(b));
        if (round % 50 == 0)
            check_pool(pool, s, ARRAY_LEN(s));
    }
    for (size_t i = 0; i < ARRAY_LEN(s); i++) {
        assert_true(fake_right(s[i]));
        close_fake(s[i]);
    }
    for (unsigned c = 0; c < KV_CLASSES; c++)
        assert_int_equal(kv_pages_free(pool, (enum kv_class)c), pages);
    kv_pool_free(pool);
    if (grown < 300 || shared < 50)
        fail_msg("%s, window %u: %u grown, %u shared, %u refused", pattern, window, grown, shared,
                 refused);
    assert_true(refused > 0 || pages >= 4 * (FAKE_CONTEXT / KV_PAGE + 1));
}

static void test_random(void **state) {
    (void)state;
    for (unsigned t = 0; t < KV_COUNT; t++) {
        random_round("F", 0, (enum kv_type)t, 100);
        random_round("Fs", 70, (enum kv_type)t, 25);
        random_round("ssF", 128, (enum kv_type)t, 30);
        random_round("s", 1, (enum kv_type)t, 12);
        random_round("sN", 300, (enum kv_type)t, 18);
    }
}

static void test_no_memory(void **state) {
    (void)state;
    struct model m = fake_model("Fs", 70);
    for (size_t k = 1;; k++) {
        struct test_hooks h;
        struct kv_pool *pool;
        struct kv *kv = NULL;
        test_hooks_init(&h, k);
        slm_err err = kv_pool_new(&h.hooks, &m, KV_F16, (struct kv_pages){ { 4, 4 } }, &pool, &why);
        if (err == SLM_OK)
            err = kv_new(pool, 100, 10, &kv, &why);
        size_t before = h.requests;
        if (err == SLM_OK)
            err = kv_reserve(kv, 10, &why);
        assert_true(err != SLM_OK || h.requests == before); /* nothing is allocated for rows */
        kv_free(kv);
        kv_pool_free(pool);
        assert_int_equal(h.live, 0);
        if (!h.failed) {
            assert_int_equal(err, SLM_OK);
            break;
        }
        assert_int_equal(err, SLM_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_for), cmocka_unit_test(test_enough),
        cmocka_unit_test(test_untouched), cmocka_unit_test(test_copy_on_write),
        cmocka_unit_test(test_reclaim),   cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
