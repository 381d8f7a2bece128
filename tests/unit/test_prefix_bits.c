/* test_prefix_bits.c - the twins' logits are the same bits whether a sequence is evaluated whole, starts
 * from a beginning that another one left in memory, or from one that a folder kept: for full and for
 * sliding attention, both sets of rope factors, every type of keys and values. */
#include <dirent.h>
#include <unistd.h>

#include "../golden/twin.h"
#include "session/prefix.h"

#define LENGTH 400
#define CHUNK 50
#define STEPS 5 /* tokens that are written after the prompt, greedily */

static char base[512];
static unsigned n_folders;

struct life {
    struct kv_pool *pool;
    struct prefix_cache *c;
    struct forward *f;
    struct kv *kv;
};

static void open_life(struct life *l, struct twin *t, enum kv_type type, const char *folder) {
    const struct model *m = &t->facts.m;
    struct kv_pages pages = kv_pages_for(m, LENGTH + STEPS, CHUNK, 6);
    struct prefix_options o = { .folder = folder, .isa = isa_name(kernels_isa(t->net.kernels)) };
    net_identity(t->weights, &t->facts, o.identity);
    OK(t, kv_pool_new(NULL, m, type, pages, &l->pool, &t->why));
    OK(t, prefix_new(NULL, l->pool, &o, &l->c, &t->why));
    OK(t, forward_new(NULL, &t->net, t->rope, t->pool, CHUNK, 2, LENGTH + STEPS, &l->f, &t->why));
    OK(t, kv_new(l->pool, LENGTH + STEPS, CHUNK, &l->kv, &t->why));
}

static void close_life(struct life *l) {
    kv_free(l->kv);
    forward_free(l->f);
    prefix_free(l->c);
    kv_pool_free(l->pool);
}

static void evaluate(struct life *l, struct twin *t, struct kv *kv, const int32_t *ids, uint32_t n,
                     bool long_rope, float *logits) {
    while (kv_length(kv) < n) {
        uint32_t at = kv_length(kv), size = n - at < CHUNK ? n - at : CHUNK;
        struct slice s = { .kv = kv, .n = size, .long_rope = long_rope, .rows = LOGITS_LAST };
        OK(t, forward_run(l->f, &s, 1, ids + at, logits, NULL, &t->why));
    }
}

/* The logits after the prompt and after each of STEPS tokens: [STEPS + 1, vocab] */
static void go_on(struct life *l, struct twin *t, struct kv *kv, const int32_t *prompt, uint32_t n,
                  bool long_rope, float *logits) {
    int32_t ids[LENGTH + STEPS];
    uint32_t vocab = t->facts.m.vocab;
    memcpy(ids, prompt, n * sizeof *ids);
    for (uint32_t i = 0; i <= STEPS; i++) {
        bool finite;
        float *row = logits + (size_t)i * vocab;
        evaluate(l, t, kv, ids, n + i, long_rope, row);
        if (i < STEPS)
            ids[n + i] = (int32_t)argmax(t->net.kernels, row, vocab, &finite);
    }
}

static void remove_folder(const char *folder) {
    DIR *d = opendir(folder);
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
    rmdir(folder);
}

static void check(const char *name, enum kv_type type, bool long_rope, bool exact) {
    static const uint32_t kept[] = { 1, 63, 64, 200, 301, LENGTH - 1 };
    struct twin t;
    char golden[64], folder[600];
    int32_t ids[LENGTH];
    snprintf(golden, sizeof golden, "golden/%s", name);
    twin_open(&t, golden, kernels_pick(ISA_LEVEL_COUNT), exact, 2);
    uint32_t vocab = t.facts.m.vocab, seed = 77;
    size_t bytes = (STEPS + 1) * (size_t)vocab * sizeof(float);
    for (uint32_t i = 0; i < LENGTH; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(seed >> 8) % (int32_t)vocab;
    }
    float *whole = malloc(bytes), *other = malloc(bytes);
    struct life l;
    open_life(&l, &t, type, NULL);
    go_on(&l, &t, l.kv, ids, LENGTH, long_rope, whole);
    close_life(&l);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        struct prefix_note note;
        struct kv *second;
        snprintf(folder, sizeof folder, "%s/bits%u", base, n_folders++);
        open_life(&l, &t, type, folder);
        evaluate(&l, &t, l.kv, ids, kept[i], long_rope, other);
        prefix_keep(l.c, ids, l.kv);
        OK(&t, prefix_save(l.c, ids, l.kv, &t.why));
        /* from memory, while the first goes on another way in the pages that they share */
        OK(&t, kv_new(l.pool, LENGTH + STEPS, CHUNK, &second, &t.why));
        assert_int_equal(prefix_fetch(l.c, ids, LENGTH - 1, long_rope, second, &note), kept[i]);
        assert_int_equal(note.from_disk, 0);
        struct slice other_way = {
            .kv = l.kv, .n = 1, .long_rope = long_rope, .rows = LOGITS_NONE
        };
        evaluate(&l, &t, second, ids, LENGTH - 1, long_rope, other);
        OK(&t, forward_run(l.f, &other_way, 1, ids + 5, NULL, NULL, &t.why));
        go_on(&l, &t, second, ids, LENGTH, long_rope, other);
        if (memcmp(whole, other, bytes) != 0)
            fail_msg("%s, type %d: other bits from %u positions in memory", name, (int)type,
                     kept[i]);
        kv_free(second);
        close_life(&l);
        /* from the folder */
        open_life(&l, &t, type, folder);
        assert_int_equal(prefix_fetch(l.c, ids, LENGTH - 1, long_rope, l.kv, &note), kept[i]);
        assert_int_equal(note.from_disk, kept[i]);
        go_on(&l, &t, l.kv, ids, LENGTH, long_rope, other);
        if (memcmp(whole, other, bytes) != 0)
            fail_msg("%s, type %d: other bits from %u positions of a folder", name, (int)type,
                     kept[i]);
        close_life(&l);
        remove_folder(folder);
    }
    free(whole);
    free(other);
    twin_close(&t);
}

static void test_full(void **state) {
    (void)state;
    for (unsigned type = 0; type < KV_COUNT; type++)
        check("qwen3-0.6b", (enum kv_type)type, false, type == KV_F32);
    check("smollm3-3b", KV_F16, false, false);
}

static void test_sliding(void **state) {
    (void)state;
    for (unsigned type = 0; type < KV_COUNT; type++)
        check("gemma-3-270m-it", (enum kv_type)type, false, type == KV_F32);
    check("gemma-3-4b-it", KV_Q8, false, false);
}

static void test_long_rope(void **state) {
    (void)state;
    check("phi-4-mini-instruct", KV_F16, true, false);
    check("phi-4-mini-instruct", KV_Q8, false, false);
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
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_sliding),
        cmocka_unit_test(test_long_rope),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
