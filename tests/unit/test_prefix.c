/* test_prefix.c - kept beginnings in memory: what is found again, why not, sliding windows, thinking
 * that is removed from the history, eviction; random use against a list of what was kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../fake_kv.h"
#include "session/prefix_tree.h"
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

/* A pool, its cache, and one sequence at a time. */
struct box {
    struct model m;
    struct kv_pool *pool;
    struct prefix_cache *c;
    struct fake s;
    struct prefix_note note;
    bool pass; /* full pages are handed on while evaluating */
};

static void open_box(struct box *b, const char *pattern, uint32_t window, uint32_t pages) {
    struct prefix_options o = { .identity = { 1, 2 } };
    memset(b, 0, sizeof *b);
    b->m = fake_model(pattern, window);
    OK(kv_pool_new(NULL, &b->m, KV_F16, (struct kv_pages){ { pages, pages } }, &b->pool, &why));
    OK(prefix_new(NULL, b->pool, &o, &b->c, &why));
}

static void close_box(struct box *b) {
    kv_free(b->s.kv);
    prefix_free(b->c);
    for (unsigned k = 0; k < KV_CLASSES; k++)
        assert_int_equal(kv_pages_free(b->pool, (enum kv_class)k), b->pool->store[k].n_pages);
    kv_pool_free(b->pool);
}

/* A new sequence; what the cache has of ids [n] is taken over. */
static uint32_t start(struct box *b, const int32_t *ids, uint32_t n) {
    kv_free(b->s.kv);
    OK(kv_new(b->pool, FAKE_CONTEXT, 64, &b->s.kv, &why));
    fake_set(&b->s, 0, ids, n);
    uint32_t reused = prefix_fetch(b->c, ids, n, b->s.long_rope, b->s.kv, &b->note);
    assert_true(reused == b->note.reused && reused <= b->note.common && reused <= n);
    assert_int_equal(b->s.kv->length, reused);
    assert_true((b->note.miss == PREFIX_NO_MISS) == (reused == n));
    assert_true(fake_right(&b->s));
    return reused;
}

static void grow_to(struct box *b, uint32_t n, uint32_t chunk) {
    while (b->s.kv->length < n) {
        uint32_t left = n - b->s.kv->length;
        OK(fake_evaluate(&b->s, left < chunk ? left : chunk, &why));
        if (b->pass)
            prefix_keep_full_pages(b->c, b->s.ids, b->s.kv);
    }
    assert_true(fake_right(&b->s));
}

/* The whole of a prompt: fetched, evaluated, kept. Returns what was taken over. */
static uint32_t prompt(struct box *b, const int32_t *ids, uint32_t n) {
    uint32_t reused = start(b, ids, n);
    grow_to(b, n, 64);
    prefix_keep(b->c, ids, b->s.kv);
    return reused;
}

static void numbers(int32_t *ids, uint32_t n, int32_t first) {
    for (uint32_t i = 0; i < n; i++)
        ids[i] = first + (int32_t)(i % 40);
}

/* ------------------------------------------------------------------ what is found */

static void test_again(void **state) {
    (void)state;
    static const char *const patterns[] = { "F", "Fs", "s" };
    int32_t ids[FAKE_CONTEXT], other[FAKE_CONTEXT];
    numbers(ids, FAKE_CONTEXT, 0);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct box b;
        open_box(&b, patterns[i], 100, 100);
        assert_int_equal(prompt(&b, ids, 500), 0);
        assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
        assert_int_equal(prompt(&b, ids, 500), 500);
        assert_int_equal(start(&b, ids, 700), 500); /* also of a longer one */
        assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
        assert_int_equal(b.note.common, 500);
        assert_int_equal(start(&b, ids, 499), 499); /* and of a shorter one */
        memcpy(other, ids, sizeof ids);
        other[470] = 99;
        assert_int_equal(start(&b, other, 500), 470); /* inside a page */
        assert_int_equal(b.note.common, 470);
        assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
        other[0] = 99;
        assert_int_equal(start(&b, other, 500), 0);
        assert_int_equal(b.note.common, 0);
        close_box(&b);
    }
}

/* Sequences of another salt share nothing, and are not even known of. */
static void test_salts(void **state) {
    (void)state;
    static const char *const patterns[] = { "F", "Fs", "s" };
    int32_t ids[FAKE_CONTEXT];
    numbers(ids, FAKE_CONTEXT, 0);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        struct box b;
        open_box(&b, patterns[i], 100, 200);
        for (uint64_t salt = 0; salt < 3; salt++) {
            prefix_salt(b.c, salt);
            assert_int_equal(prompt(&b, ids, 500), 0);
            assert_int_equal(b.note.common, 0);
            assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
            assert_int_equal(prompt(&b, ids, 500), 500);
        }
        prefix_salt(b.c, 1);
        assert_int_equal(start(&b, ids, 700), 500);
        close_box(&b);
    }
}

/* Branches: each prompt shares what it has in common with any other. */
static void test_branches(void **state) {
    (void)state;
    struct box b;
    int32_t ids[FAKE_CONTEXT];
    open_box(&b, "F", 0, 200);
    static const uint32_t differ[] = { 600, 64, 63, 65, 1, 200, 130, 599 };
    for (size_t i = 0; i < ARRAY_LEN(differ); i++) {
        numbers(ids, 600, 0);
        if (differ[i] < 600)
            numbers(ids + differ[i], 600 - differ[i], 100 * (int32_t)(i + 1));
        assert_int_equal(prompt(&b, ids, 600), i == 0 ? 0 : differ[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(differ); i++) { /* all of them are still there */
        numbers(ids, 600, 0);
        if (differ[i] < 600)
            numbers(ids + differ[i], 600 - differ[i], 100 * (int32_t)(i + 1));
        assert_int_equal(start(&b, ids, 600), 600);
    }
    close_box(&b);
}

/* Keys of the other rope factors are another sequence, and the reason is told. */
static void test_rope(void **state) {
    (void)state;
    struct box b;
    int32_t ids[300];
    open_box(&b, "F", 0, 50);
    numbers(ids, 300, 0);
    prompt(&b, ids, 200);
    b.s.long_rope = true;
    assert_int_equal(start(&b, ids, 300), 0);
    assert_int_equal(b.note.miss, PREFIX_ROPE);
    prompt(&b, ids, 250);
    assert_int_equal(start(&b, ids, 300), 250);
    assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
    b.s.long_rope = false;
    assert_int_equal(start(&b, ids, 300), 200);
    assert_int_equal(b.note.miss, PREFIX_ROPE);
    for (int i = PREFIX_NO_MISS; i <= PREFIX_ROPE; i++)
        assert_true(strlen(prefix_miss_text((enum prefix_miss)i)) > 10);
    close_box(&b);
}

/* ------------------------------------------------------------------ sliding windows */

/* A conversation of a model that thinks: its next prompt has the answer without the thinking, so it
 * differs shortly after the prompt before. */
static void test_thinking_removed(void **state) {
    (void)state;
    int32_t ids[FAKE_CONTEXT], next[FAKE_CONTEXT];
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned kept = 0; kept < 2; kept++) {
            struct box b;
            open_box(&b, "Fs", 70, 100);
            b.pass = pass == 1;
            numbers(ids, FAKE_CONTEXT, 0);
            start(&b, ids, 500);
            grow_to(&b, 500, 64);
            if (kept == 1)
                prefix_keep(b.c, ids, b.s.kv);
            fake_set(&b.s, 500, ids + 500, 300);
            grow_to(&b, 800, 1); /* thinking and answer, token by token */
            prefix_keep(b.c, ids, b.s.kv);
            memcpy(next, ids, sizeof ids);
            numbers(next + 503, 200, 77); /* the answer without its thinking */
            uint32_t reused = start(&b, next, 700);
            assert_int_equal(b.note.common, 503);
            /* pages in passing: all of it; the end of the prompt kept: up to there; neither: nothing */
            assert_int_equal(reused, pass == 1 ? 503 : kept == 1 ? 500 : 0);
            assert_int_equal(b.note.miss, pass == 1 ? PREFIX_DIFFERENT : PREFIX_WINDOW_GONE);
            grow_to(&b, 700, 64);
            prefix_keep(b.c, next, b.s.kv);
            assert_int_equal(start(&b, ids, 800),
                             800); /* the way with the thinking is still there */
            assert_int_equal(start(&b, next, 700), 700);
            close_box(&b);
        }
}

/* Pages of sliding layers are given up without those of the full ones, and oldest first: what is kept
 * in the end is what the last uses need. */
static void test_window_gone(void **state) {
    (void)state;
    struct box b;
    int32_t ids[FAKE_CONTEXT];
    open_box(&b, "Fs", 100, 40);
    b.pass = true;
    numbers(ids, FAKE_CONTEXT, 0);
    prompt(&b, ids, 1000);
    kv_free(b.s.kv);
    b.s.kv = NULL;
    /* somebody needs all sliding pages but three */
    uint32_t taken[40], n = 0;
    while (n < 37) {
        taken[n] = kv_page_take(b.pool, KV_SLIDING);
        assert_true(taken[n++] != KV_NO_PAGE);
    }
    for (uint32_t i = 0; i < n; i++)
        kv_page_drop(b.pool, KV_SLIDING, taken[i]);
    assert_int_equal(start(&b, ids, 1000), 1000); /* the end of what was kept */
    assert_int_equal(start(&b, ids, 990), 990);
    ids[700] = 99;
    assert_int_equal(start(&b, ids, 900), 0);
    assert_int_equal(b.note.miss, PREFIX_WINDOW_GONE);
    assert_int_equal(b.note.common, 700);
    grow_to(&b, 700, 64); /* evaluated again, it fills the gap up to there */
    prefix_keep(b.c, ids, b.s.kv);
    assert_int_equal(start(&b, ids, 900), 700);
    assert_int_equal(b.note.miss, PREFIX_DIFFERENT);
    close_box(&b);
}

/* ------------------------------------------------------------------ full pools */

static void test_eviction(void **state) {
    (void)state;
    struct box b;
    int32_t ids[4][300];
    for (int i = 0; i < 4; i++)
        numbers(ids[i], 300, 100 * i);
    for (unsigned sliding = 0; sliding < 2; sliding++) {
        open_box(&b, sliding ? "Fs" : "F", sliding ? 100 : 0, 16); /* room for three prompts */
        for (unsigned i = 0; i < 3; i++)
            prompt(&b, ids[i], 300);
        assert_int_equal(start(&b, ids[0], 300),
                         300);   /* the oldest is used: now it is the youngest */
        prompt(&b, ids[3], 300); /* there is no room */
        assert_int_equal(start(&b, ids[0], 300), 300);
        assert_true(start(&b, ids[1], 300) < 300); /* the least recently used one gave way */
        assert_int_equal(b.note.miss, sliding ? PREFIX_WINDOW_GONE : PREFIX_EVICTED);
        assert_int_equal(start(&b, ids[3], 300), 300);
        close_box(&b);
    }

    /* what a living sequence shares makes no room: it stays, however long ago it was used */
    open_box(&b, "F", 0, 10);
    prompt(&b, ids[0], 300);
    struct kv *living = b.s.kv;
    b.s.kv = NULL;
    prompt(&b, ids[1], 300);
    assert_int_equal(start(&b, ids[2], 100), 0);
    grow_to(&b, 100, 50);
    kv_free(living);
    assert_int_equal(start(&b, ids[0], 300), 300);
    assert_true(start(&b, ids[1], 300) < 300);
    close_box(&b);

    /* one sequence may have the whole pool, whatever is kept */
    open_box(&b, "F", 0, FAKE_CONTEXT / KV_PAGE + 1);
    int32_t most[FAKE_CONTEXT];
    for (int i = 0; i < 6; i++) {
        numbers(most, FAKE_CONTEXT, 50 * i);
        start(&b, most, 100 + 37 * (uint32_t)i);
        for (uint32_t n = b.s.kv->length; n < FAKE_CONTEXT; n = b.s.kv->length) {
            fake_set(&b.s, n, most + n, FAKE_CONTEXT - n);
            grow_to(&b, n + 90 < FAKE_CONTEXT ? n + 90 : FAKE_CONTEXT, 31);
            prefix_keep(b.c, most, b.s.kv);
        }
        assert_int_equal(start(&b, most, FAKE_CONTEXT), FAKE_CONTEXT);
    }
    close_box(&b);
}

/* More branches than nodes: the oldest ends are forgotten, and nothing else happens. */
static void test_many_branches(void **state) {
    (void)state;
    struct box b;
    int32_t ids[70];
    open_box(&b, "F", 0, 12);
    for (int i = 0; i < 500; i++) {
        numbers(ids, 70, 10 * i);
        prompt(&b, ids, 70);
        assert_int_equal(start(&b, ids, 70), 70);
    }
    assert_true(b.c->n_fresh <= b.c->n_nodes);
    numbers(ids, 70, 0);
    assert_int_equal(start(&b, ids, 70), 0);
    assert_int_equal(b.note.miss, PREFIX_DIFFERENT); /* so long ago that it is not even known */
    close_box(&b);
}

/* ------------------------------------------------------------------ random use */

struct kept {
    int32_t ids[FAKE_CONTEXT];
    uint32_t n;
};

/* Holders of every page: sequences and nodes, no more and no less. */
static void check_holders(const struct box *b, struct fake *const *s, size_t n) {
    for (unsigned k = 0; k < KV_CLASSES; k++) {
        const struct kv_store *store = &b->pool->store[k];
        uint32_t *named = calloc(store->n_pages + 1, sizeof *named);
        for (size_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < s[i]->kv->slots; j++)
                if (s[i]->kv->pages[k][j] != KV_NO_PAGE)
                    named[s[i]->kv->pages[k][j]]++;
        for (uint32_t i = 0; i < b->c->n_fresh; i++) {
            const struct node *x = &b->c->nodes[i];
            assert_true((x->page[k] == KV_NO_PAGE) == (x->rows[k] == 0));
            assert_true(x->rows[k] <= x->n_ids);
            if (x->page[k] != KV_NO_PAGE)
                named[x->page[k]]++;
            if (b->c->has[KV_FULL] && i > 1 && x->parent > 1 && x->n_ids > 0 &&
                b->c->nodes[x->parent].page[KV_FULL] == KV_NO_PAGE)
                assert_true(x->page[k] == KV_NO_PAGE); /* nobody gets there */
        }
        for (uint32_t i = 0; i < store->n_fresh; i++)
            assert_int_equal(store->refs[i], named[i]);
        free(named);
    }
}

static void random_use(const char *pattern, uint32_t window, uint32_t pages) {
    enum { SEQUENCES = 3, KEPT = 200 };
    struct box b;
    struct fake *s[SEQUENCES];
    struct kept *list = calloc(KEPT, sizeof *list);
    uint64_t found = 0, in_common = 0;
    unsigned n_kept = 0, refused = 0;
    open_box(&b, pattern, window, pages);
    for (size_t i = 0; i < SEQUENCES; i++) {
        s[i] = calloc(1, sizeof *s[i]);
        OK(kv_new(b.pool, FAKE_CONTEXT, 100, &s[i]->kv, &why));
    }
    for (unsigned round = 0; round < 1500; round++) {
        struct fake *a = s[rnd(SEQUENCES)];
        if (rnd(4) == 0 &&
            n_kept > 0) { /* a new sequence, like one that was kept up to somewhere */
            const struct kept *like = &list[rnd(n_kept)];
            int32_t ids[FAKE_CONTEXT];
            uint32_t n = like->n, best = 0;
            memcpy(ids, like->ids, n * sizeof *ids);
            for (uint32_t i = rnd(2) ? rnd(n) : n; i < n; i++)
                ids[i] = (int32_t)rnd(1000);
            for (unsigned i = 0; i < n_kept; i++) {
                uint32_t common = ids_in_common(ids, list[i].ids, n < list[i].n ? n : list[i].n);
                best = common > best ? common : best;
            }
            kv_truncate(a->kv, 0);
            fake_set(a, 0, ids, n);
            struct prefix_note note;
            if (rnd(3) == 0) /* the same ids in pages of its own */
                continue;
            uint32_t reused = prefix_fetch(b.c, ids, n, false, a->kv, &note);
            assert_true(reused <= best);
            assert_true(note.common <= best);
            found += reused;
            in_common += best;
            if (window == 0 && pages > 1500)
                assert_int_equal(reused, best);
            a->kv->length = reused;
        } else {
            uint32_t at = a->kv->length, n = 1 + rnd(100), left = FAKE_CONTEXT - at;
            if (rnd(8) == 0 && kv_truncate(a->kv, rnd(at + 1)))
                at = a->kv->length;
            n = n < left ? n : left;
            const struct kept *like = n_kept > 0 && rnd(2) == 0 ? &list[rnd(n_kept)] : NULL;
            for (uint32_t i = at; i < at + n; i++) {
                int32_t id = like != NULL && i < like->n ? like->ids[i] : (int32_t)rnd(1000);
                fake_set(a, i, &id, 1);
            }
            slm_err err = n > 0 ? fake_evaluate(a, n, &why) : SLM_OK;
            assert_true(err == SLM_OK || err == SLM_E_MEMORY);
            refused += err != SLM_OK;
            if (n == 0 || err != SLM_OK)
                kv_truncate(a->kv, 0);
            if (a->kv->length > 0 && rnd(3) == 0) {
                struct kept *x = &list[n_kept < KEPT ? n_kept++ : rnd(KEPT)];
                x->n = a->kv->length;
                memcpy(x->ids, a->ids, sizeof x->ids);
                prefix_keep(b.c, a->ids, a->kv);
            } else if (rnd(2) == 0) {
                prefix_keep_full_pages(b.c, a->ids, a->kv);
            }
        }
        assert_true(fake_right(a));
        if (round % 100 == 0) {
            check_holders(&b, s, SEQUENCES);
            for (size_t i = 0; i < SEQUENCES; i++)
                assert_true(fake_right(s[i]));
        }
        if (n_kept == KEPT && pages > 1500)
            break; /* the list forgets, the tree does not */
    }
    print_message("# %s, window %u, %u pages: %.0f %% of what was in common was found\n", pattern,
                  window, pages, 100.0 * (double)found / (double)in_common);
    assert_true(found > 0);
    /* three sequences of the whole context at most: only these can exhaust the pool */
    assert_true(refused == 0 || pages < SEQUENCES * (FAKE_CONTEXT / KV_PAGE + 1));
    for (size_t i = 0; i < SEQUENCES; i++) {
        kv_free(s[i]->kv);
        free(s[i]);
    }
    check_holders(&b, s, 0);
    free(list);
    close_box(&b);
}

static void test_random(void **state) {
    (void)state;
    random_use("F", 0, 4000);
    random_use("F", 0, 60);
    random_use("F", 0, 25);
    random_use("Fs", 70, 4000);
    random_use("Fs", 130, 60);
    random_use("sN", 40, 30);
    random_use("s", 64, 60);
    random_use("sF", 1, 60);
}

static void test_no_memory(void **state) {
    (void)state;
    struct model m = fake_model("Fs", 70);
    int32_t ids[200];
    numbers(ids, 200, 0);
    for (size_t k = 1;; k++) {
        struct test_hooks h;
        struct prefix_options o = { .isa = "ref" };
        struct prefix_cache *c;
        struct kv_pool *pool;
        struct fake s = { 0 };
        OK(kv_pool_new(NULL, &m, KV_F16, (struct kv_pages){ { 20, 20 } }, &pool, &why));
        test_hooks_init(&h, k);
        slm_err err = prefix_new(&h.hooks, pool, &o, &c, &why);
        size_t before = h.requests;
        if (err == SLM_OK) {
            OK(kv_new(pool, FAKE_CONTEXT, 64, &s.kv, &why));
            fake_set(&s, 0, ids, 200);
            OK(fake_evaluate(&s, 200, &why));
            prefix_keep(c, ids, s.kv);
            kv_truncate(s.kv, 0);
            assert_int_equal(prefix_fetch(c, ids, 200, false, s.kv, NULL), 200);
            assert_int_equal(h.requests, before); /* nothing is allocated on the way */
            kv_free(s.kv);
        }
        prefix_free(c);
        kv_pool_free(pool);
        assert_int_equal(h.live, 0);
        if (!h.failed) {
            OK(err);
            break;
        }
        assert_int_equal(err, SLM_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_salts),         cmocka_unit_test(test_again),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_rope),          cmocka_unit_test(test_thinking_removed),
        cmocka_unit_test(test_window_gone),   cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_many_branches), cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
