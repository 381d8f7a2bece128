/* test_session_cache.c - the prompt cache of sessions and batches: what was kept gives the bits of what
 * is evaluated whole, on models of every wiring; how much is reused, and what is said when it is not. */
#include "../answers.h"

#include <dirent.h>
#include <unistd.h>

#include "model/net.h"

static char folder[600];

/* An empty folder of its own for each test. */
static void new_folder(const char *name) {
    char path[512], file[128];
    snprintf(file, sizeof file, "%s/x", name);
    assert_true(temp_file(path, sizeof path, file, "", 0));
    unlink(path);
    *strrchr(path, '/') = '\0';
    snprintf(folder, sizeof folder, "%s/cache", path);
}

/* The harness removes its own files only. */
static void empty_folder(void) {
    DIR *d = opendir(folder);
    char path[1100];
    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(folder);
}

static slm_session *open_session(const slm_engine *e, uint64_t cache_bytes, const char *where) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    slm_why why;
    o.context = ASK_CONTEXT;
    o.chunk = 32;
    o.threads = 1;
    o.cache_bytes = cache_bytes;
    o.prompt_cache = where;
    if (slm_session_open(e, &o, &s, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return s;
}

/* The answer to an ask; the session keeps what it held before. Gives the tokens reused. */
static size_t answer(slm_session *s, struct ask *a, struct heard *h) {
    size_t reused = 0;
    *h = (struct heard){ .r = { .size = sizeof h->r }, .done = 1 };
    ask_hear(a, h);
    assert_int_equal(slm_session_sync(s, a->ids, a->n, &reused, NULL), SLM_OK);
    h->err = slm_generate(s, &a->o, &h->r, NULL);
    assert_int_equal(h->err, SLM_OK);
    return reused;
}

/* Prompts that share beginnings: [0, 100) the system prompt, then three ways on, two of them with more
 * in common; the last is the first again with another end. */
#define TALKS 6
static struct ask talks[TALKS];
static struct heard fresh[TALKS];

static void make_talks(const slm_engine *e) {
    uint32_t vocab = ask_vocab(e);
    struct ask a[3];
    slm_session *s = open_session(e, 0, NULL);
    for (unsigned k = 0; k < 3; k++)
        ask_make(&a[k], k == 0 ? 13 : k + 1, vocab);
    for (unsigned k = 0; k < TALKS; k++) {
        talks[k] = a[0];
        talks[k].n = 120 + 7 * k;
        for (size_t i = 100; i < talks[k].n; i++)
            talks[k].ids[i] = (int32_t)((i * 31 + k * 97 + 5) % 250);
        talks[k].o = slm_generate_default();
        talks[k].o.default_sampling = false;
        talks[k].o.ignore_stop_ids = true;
        talks[k].o.max_tokens = 30;
        talks[k].o.sampling.temperature = k % 2 ? 0.8f : 0.0f;
        talks[k].o.sampling.seed = k;
    }
    memcpy(talks[3].ids, talks[1].ids, 115 * sizeof(int32_t));
    talks[5] = talks[0];
    talks[5].ids[119] = 3;
    for (unsigned k = 0; k < TALKS; k++) {
        assert_int_equal(slm_session_truncate(s, 0, NULL), SLM_OK);
        assert_int_equal(answer(s, &talks[k], &fresh[k]), 0);
        assert_null(fresh[k].r.cache_miss);
    }
    slm_session_close(s);
}

static const uint64_t plenty = 4 << 20;

/* Hopping between conversations: what was answered before is reused whole. */
static void test_in_memory(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        static struct heard h;
        make_talks(e);
        slm_session *s = open_session(e, plenty, NULL);
        assert_int_equal(answer(s, &talks[0], &h), 0);
        heard_same(&h, &fresh[0]);
        assert_non_null(h.r.cache_miss);
        for (unsigned k = 1; k < TALKS; k++) {
            size_t reused = answer(s, &talks[k], &h);
            heard_same(&h, &fresh[k]);
            assert_true(reused >= 64 && reused < talks[k].n);
            assert_true(reused <= (k == 5 ? 119 : k == 3 ? 115 : 100));
            assert_int_equal(h.r.disk_tokens, 0);
            assert_true((h.r.cache_miss == NULL) == (reused == talks[k].n - 1));
        }
        for (unsigned round = 0; round < 2; round++)
            for (unsigned k = 0; k < TALKS; k++) {
                assert_int_equal(answer(s, &talks[k], &h), talks[k].n - 1);
                assert_null(h.r.cache_miss);
                heard_same(&h, &fresh[k]);
            }
        slm_session_close(s);
        slm_engine_close(e);
    }
}

/* Thinking that is removed from the history: the next prompt differs right behind the prompt before,
 * while the window has moved on. Without a cache everything is evaluated again, and that is said. */
static void test_removed_from_history(void **state) {
    (void)state;
    slm_engine *e = ask_engine("gemma-3-270m-it", NULL);
    static struct heard h, want;
    make_talks(e);
    struct ask next = talks[0];
    next.n = 150;
    for (size_t i = talks[0].n; i < next.n; i++)
        next.ids[i] = (int32_t)(i * 7 % 250);
    slm_session *plain = open_session(e, 0, NULL), *cached = open_session(e, plenty, NULL);
    talks[0].o.max_tokens = 90; /* several windows of 16, more than a page */
    answer(plain, &talks[0], &h);
    assert_int_equal(answer(plain, &next, &want), 0);
    assert_non_null(strstr(want.r.cache_miss, "window"));
    answer(cached, &talks[0], &h);
    size_t reused = answer(cached, &next, &h);
    heard_same(&h, &want);
    assert_true(reused >= talks[0].n - 1);
    /* in the middle of the answer, and of the prompt */
    struct ask part = talks[0];
    part.o = next.o;
    part.n = 70;
    part.ids[69] = 1;
    assert_int_equal(slm_session_truncate(plain, 0, NULL), SLM_OK);
    answer(plain, &part, &want);
    reused = answer(cached, &part, &h);
    heard_same(&h, &want);
    assert_true(reused >= 64 && reused <= 69);
    slm_session_close(plain);
    slm_session_close(cached);
    slm_engine_close(e);
}

/* What an answer wrote is kept too: its end, and every window on the way; also what was appended piece
 * by piece. The end of a prompt is kept without a byte to spare being asked for. */
static void test_answers_are_kept(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        static struct heard h;
        make_talks(e);
        slm_session *s = open_session(e, plenty, NULL), *tight = open_session(e, 1, NULL);
        struct ask a = talks[0], next = talks[0];
        bool is_long = strncmp(ask_models[m], "phi", 3) == 0;
        a.n = is_long ? 120 : 70; /* on one side of the rope switch */
        a.o.max_tokens = is_long ? 30 : 90;
        answer(s, &a, &h);
        size_t n = slm_session_length(s);
        memcpy(next.ids, slm_session_ids(s), n * sizeof(int32_t));
        answer(s, &talks[1], &h);
        next.n = n;
        assert_int_equal(answer(s, &next, &h), n - 1);
        answer(s, &talks[1], &h);
        next.n = is_long ? 140 : 120;
        next.ids[next.n - 10] ^= 1;
        assert_int_equal(answer(s, &next, &h), next.n - 10);
        /* appended */
        size_t reused;
        assert_int_equal(slm_session_sync(s, talks[2].ids, 100, NULL, NULL), SLM_OK);
        assert_int_equal(slm_session_append(s, talks[4].ids, 30, false, NULL, NULL, NULL), SLM_OK);
        memcpy(next.ids, slm_session_ids(s), 130 * sizeof(int32_t));
        answer(s, &talks[1], &h);
        assert_int_equal(slm_session_sync(s, next.ids, 130, &reused, NULL), SLM_OK);
        assert_int_equal(reused, 129);
        answer(tight, &a, &h);
        assert_int_equal(answer(tight, &a, &h), a.n - 1);
        slm_session_close(tight);
        slm_session_close(s);
        slm_engine_close(e);
    }
}

/* Another session, as after a restart. A repeated prompt costs its last token. */
static void test_on_disk(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = ask_engine(ask_models[m], NULL);
        static struct heard h;
        char name[64];
        snprintf(name, sizeof name, "disk-%zu", m);
        new_folder(name);
        make_talks(e);
        slm_session *s = open_session(e, 0, folder);
        for (unsigned k = 0; k < TALKS; k++) {
            answer(s, &talks[k], &h);
            heard_same(&h, &fresh[k]);
        }
        slm_session_close(s);
        for (unsigned k = 0; k < TALKS; k++) {
            s = open_session(e, 0, folder);
            assert_int_equal(answer(s, &talks[k], &h), talks[k].n - 1);
            heard_same(&h, &fresh[k]);
            assert_int_equal(h.r.disk_tokens, talks[k].n - 1);
            assert_null(h.r.cache_miss);
            slm_session_close(s);
        }
        slm_engine_close(e);
        /* a model with other weights does not take what is there */
        e = ask_engine(ask_models[m == 0], NULL);
        s = open_session(e, 0, folder);
        for (size_t i = 0; i < talks[0].n; i++)
            talks[0].ids[i] %= 300;
        assert_int_equal(answer(s, &talks[0], &h), 0);
        assert_int_equal(h.r.disk_tokens, 0);
        slm_session_close(s);
        slm_engine_close(e);
        empty_folder();
    }
}

/* ------------------------------------------------------------------ batches */

static void note_done(void *user, uint64_t id, const slm_result *r, slm_err err,
                      const slm_why *why) {
    struct heard *h = user;
    (void)id;
    (void)why;
    h->r = *r;
    h->err = err;
    h->done++;
}

static struct heard got[TALKS];

static void run_talks(slm_batch *b, unsigned first, unsigned end) {
    for (unsigned k = first; k < end; k++) {
        slm_request r = { .size = sizeof r,
                          .ids = talks[k].ids,
                          .n = talks[k].n,
                          .options = &talks[k].o,
                          .on_done = note_done,
                          .user = &got[k] };
        got[k] = (struct heard){ .done = 0 };
        ask_hear(&talks[k], &got[k]);
        assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
    }
    while (slm_batch_step(b) > 0)
        ;
    for (unsigned k = first; k < end; k++)
        heard_same(&got[k], &fresh[k]);
}

static void test_in_batches(void **state) {
    (void)state;
    for (size_t m = 1; m < ARRAY_LEN(ask_models); m += 2) { /* windows; two ropes */
        slm_engine *e = ask_engine(ask_models[m], NULL);
        slm_session_options o = slm_session_default();
        slm_batch *b;
        char name[64];
        snprintf(name, sizeof name, "batch-%zu", m);
        new_folder(name);
        make_talks(e);
        o.sequences = TALKS;
        o.context = ASK_CONTEXT;
        o.chunk = 48;
        o.threads = 2;
        o.cache_bytes = plenty;
        o.prompt_cache = folder;
        for (int round = 0; round < 3; round++) { /* new folder, restart, no folder */
            o.prompt_cache = round < 2 ? folder : NULL;
            assert_int_equal(slm_batch_open(e, &o, &b, NULL), SLM_OK);
            run_talks(b, 0, 1);
            assert_int_equal(got[0].r.reused_tokens, round == 1 ? talks[0].n - 1 : 0);
            assert_int_equal(got[0].r.disk_tokens, got[0].r.reused_tokens);
            run_talks(b, 1, TALKS);
            for (unsigned k = 1; k < TALKS; k++)
                assert_true(got[k].r.reused_tokens >= 64);
            run_talks(b, 0, TALKS); /* all at once share what they have in common */
            for (unsigned k = 0; k < TALKS; k++)
                assert_int_equal(got[k].r.reused_tokens, talks[k].n - 1);
            struct ask more = talks[0]; /* goes on with the answer */
            more.n = talks[0].n + got[0].n;
            memcpy(more.ids + talks[0].n, got[0].ids, got[0].n * sizeof(int32_t));
            static struct heard h;
            slm_request r = { .size = sizeof r,
                              .ids = more.ids,
                              .n = more.n,
                              .options = &more.o,
                              .on_done = note_done,
                              .user = &h };
            ask_hear(&more, &h);
            more.o.on_token = NULL;
            more.o.on_text = NULL;
            more.o.max_tokens = 1;
            assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
            while (slm_batch_step(b) > 0)
                ;
            assert_int_equal(h.r.reused_tokens, more.n - 1);
            slm_batch_close(b);
        }
        /* no page to spare: the cache gives way */
        o.cache_bytes = 1;
        o.prompt_cache = NULL;
        o.sequences = 2;
        assert_int_equal(slm_batch_open(e, &o, &b, NULL), SLM_OK);
        for (unsigned k = 0; k < 3 * TALKS; k += 2)
            run_talks(b, k % TALKS, k % TALKS + 2);
        slm_batch_close(b);
        slm_engine_close(e);
        empty_folder();
    }
}

/* ------------------------------------------------------------------ memory, failures */

static struct test_hooks counted;
static size_t at_first, at_last, seen;

static bool watch(void *user, int32_t id, float logprob) {
    (void)user;
    (void)id;
    (void)logprob;
    if (seen++ == 0)
        at_first = counted.requests;
    at_last = counted.requests;
    return true;
}

static slm_err life(const slm_engine *e) {
    slm_session_options o = slm_session_default();
    slm_session *s;
    o.context = ASK_CONTEXT;
    o.chunk = 32;
    o.threads = 1;
    o.cache_bytes = plenty;
    o.prompt_cache = folder;
    TRY(slm_session_open(e, &o, &s, NULL));
    slm_err err = SLM_OK;
    for (unsigned k = 0; k < 2 && err == SLM_OK; k++) {
        err = slm_session_sync(s, talks[k].ids, talks[k].n, NULL, NULL);
        if (err == SLM_OK)
            err = slm_generate(s, &talks[k].o, NULL, NULL);
    }
    slm_session_close(s);
    return err;
}

/* Opening with a cache fails whole; later only what the folder needs is lost. */
static void test_memory(void **state) {
    (void)state;
    test_hooks_init(&counted, 0);
    new_folder("memory");
    slm_engine *e = ask_engine("gemma-3-270m-it", &counted.hooks);
    make_talks(e);
    for (unsigned k = 0; k < TALKS; k++)
        talks[k].o.on_token = NULL, talks[k].o.on_text = NULL, talks[k].o.max_tokens = 20;
    slm_session *s = open_session(e, plenty, NULL);
    seen = 0;
    talks[0].o.on_token = watch;
    assert_int_equal(slm_session_sync(s, talks[0].ids, talks[0].n, NULL, NULL), SLM_OK);
    assert_int_equal(slm_generate(s, &talks[0].o, NULL, NULL), SLM_OK);
    assert_true(seen == 20 && at_first == at_last);
    slm_session_close(s);
    talks[0].o.on_token = NULL;
    size_t before = counted.requests, at_rest = counted.live, well = 0;
    assert_int_equal(life(e), SLM_OK);
    size_t requests = counted.requests - before;
    for (int once = 0; once < 2; once++)
        for (size_t k = 1; k <= requests; k += k < 24 ? 1 : 3) {
            empty_folder();
            counted.fail_at = counted.requests + k;
            counted.once = once;
            counted.failed = false;
            slm_err err = life(e);
            assert_true(counted.failed);
            assert_true(err == SLM_E_NOMEM || (err == SLM_OK && k > 10));
            well += err == SLM_OK;
            counted.fail_at = 0;
            assert_int_equal(counted.live, at_rest);
        }
    print_message("# %zu requests, %zu refusals cost only the file\n", requests, well);
    assert_true(well > 0);
    slm_engine_close(e);
    assert_int_equal(counted.live, 0);
    empty_folder();
}

struct bytes {
    struct slm_hooks hooks;
    size_t total;
    char line[256];
};
static void *bytes_alloc(void *user, size_t n) {
    ((struct bytes *)user)->total += n;
    return malloc(n);
}
static void *bytes_resize(void *user, void *p, size_t n) {
    ((struct bytes *)user)->total += n;
    return realloc(p, n);
}
static void bytes_release(void *user, void *p) {
    (void)user;
    free(p);
}
static void bytes_log(void *user, enum slm_log_level level, const char *line) {
    struct bytes *b = user;
    assert_int_equal(level, SLM_LOG_WARN);
    snprintf(b->line, sizeof b->line, "%s", line);
}

static struct bytes bytes = { .hooks = { .size = sizeof bytes.hooks,
                                         .alloc = bytes_alloc,
                                         .resize = bytes_resize,
                                         .release = bytes_release,
                                         .log = bytes_log,
                                         .user = &bytes } };

static void test_plan(void **state) {
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        slm_engine *e = ask_engine(ask_models[m], &bytes.hooks);
        for (int batch = 0; batch < 2; batch++) {
            slm_session_options o = slm_session_default();
            slm_plan p = { .size = sizeof p }, without = p;
            slm_session *s = NULL;
            slm_batch *b = NULL;
            o.sequences = batch ? 3 : 1;
            o.batch = batch;
            o.context = ASK_CONTEXT;
            o.threads = 1;
            assert_int_equal(slm_engine_plan(e, &o, &without, NULL), SLM_OK);
            o.cache_bytes = 1 << 20;
            assert_int_equal(slm_engine_plan(e, &o, &p, NULL), SLM_OK);
            assert_true(p.kv > without.kv + (1 << 20) - (1 << 16));
            bytes.total = 0;
            assert_int_equal(batch ? slm_batch_open(e, &o, &b, NULL)
                                   : slm_session_open(e, &o, &s, NULL),
                             SLM_OK);
            assert_true(bytes.total >= p.kv + p.scratch &&
                        bytes.total <= p.kv + p.scratch + 16384 + 4096 * o.sequences);
            slm_session_close(s);
            slm_batch_close(b);
        }
        slm_engine_close(e);
    }
}

/* A folder that cannot be: at opening an error, later a line for the log. */
static void test_folder_gone(void **state) {
    (void)state;
    slm_engine *e = ask_engine("qwen3-0.6b", &bytes.hooks);
    slm_session_options o = slm_session_default();
    slm_session *s;
    slm_why why;
    static struct heard h;
    make_talks(e);
    o.context = ASK_CONTEXT;
    o.threads = 1;
    o.prompt_cache = "Makefile/cache";
    assert_int_equal(slm_session_open(e, &o, &s, &why), SLM_E_IO);
    assert_null(s);
    assert_non_null(strstr(why.message, "Makefile"));
    new_folder("gone");
    s = open_session(e, 0, folder);
    empty_folder();
    *strrchr(folder, '/') = '\0';
    rmdir(folder);
    bytes.line[0] = '\0';
    answer(s, &talks[0], &h);
    heard_same(&h, &fresh[0]);
    assert_non_null(strstr(bytes.line, "the prompt cache was not written"));
    slm_session_close(s);
    slm_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory),
        cmocka_unit_test(test_removed_from_history),
        cmocka_unit_test(test_answers_are_kept),
        cmocka_unit_test(test_on_disk),
        cmocka_unit_test(test_in_batches),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_folder_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
