/* test_session_images.c - images in sessions and batches, on the twin of a model that sees.
 *
 * Logits against the official code's numbers; the same bits for every chunk, from a prefix cache, in a
 * batch beside others; what is refused. */
#include "../golden/twin.h"

#include <unistd.h>

#include "slm.h"

#define FOLDER "golden/gemma-3-4b-it"

struct seen {
    slm_engine *engine;
    slm_image *image[3];
    struct tensors *gold;
    json_t *golden;
    slm_why why;
};

#define GOOD(s, expr)                                                                              \
    do {                                                                                           \
        if ((expr) != SLM_OK)                                                                      \
            fail_msg("%s: %s", #expr, (s)->why.message);                                           \
    } while (0)

static const float *pixels_of(const struct seen *s, uint32_t i) {
    const struct tensor_info *t = tensors_find(s->gold, "pixel_values");
    return (const float *)(const void *)t->data + (size_t)i * 3 * 56 * 56;
}

static void seen_open(struct seen *s) {
    char folder[512], path[640];
    slm_engine_options o = slm_engine_default();
    o.need = o.want = SLM_WEIGHTS;
    o.exact = true;
    o.isa = test_isa();
    *s = (struct seen){ 0 };
    data_path(folder, sizeof folder, FOLDER);
    GOOD(s, slm_engine_open(folder, &o, &s->engine, &s->why));
    snprintf(path, sizeof path, "%s/vision/golden.safetensors", folder);
    GOOD(s, tensors_open_numbers(NULL, path, &s->gold, &s->why));
    snprintf(path, sizeof path, "%s/vision/golden.json", folder);
    s->golden = json_load_file(path, 0, NULL);
    assert_non_null(s->golden);
    for (uint32_t i = 0; i < 3; i++)
        GOOD(s, slm_image_open_pixels(s->engine, pixels_of(s, i), NULL, &s->image[i], &s->why));
}

static void seen_close(struct seen *s) {
    for (uint32_t i = 0; i < 3; i++)
        slm_image_close(s->image[i]);
    slm_engine_close(s->engine);
    tensors_close(s->gold);
    json_decref(s->golden);
}

/* A golden prompt with the ids of its images in the place of the vendor's one for them. */
static uint32_t prompt_ids(const struct seen *s, const json_t *prompt, int32_t *ids) {
    uint32_t n = json_ids(json_object_get(prompt, "ids"), ids), seen = 0;
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == 302) {
            slm_image_info info = { .size = sizeof info };
            size_t which = (size_t)json_integer_value(
                json_array_get(json_object_get(prompt, "images"), seen++));
            slm_image_get(s->image[which], &info);
            memcpy(ids + i, info.ids, info.tokens * sizeof *ids);
            i += info.tokens - 1;
        }
    return n;
}

static slm_session *session(struct seen *s, uint32_t chunk, uint64_t cache_bytes) {
    slm_session_options o = slm_session_default();
    slm_session *q;
    o.context = 128;
    o.chunk = chunk;
    o.logit_rows = chunk;
    o.kv = SLM_KV_F32;
    o.threads = 2;
    o.cache_bytes = cache_bytes;
    GOOD(s, slm_session_open(s->engine, &o, &q, &s->why));
    return q;
}

static void test_logits(void **state) {
    struct seen s;
    const char *name;
    json_t *prompt;
    int32_t ids[MAX_PROMPT];
    (void)state;
    seen_open(&s);
    json_object_foreach(json_object_get(s.golden, "prompts"), name, prompt) {
        uint32_t n = prompt_ids(&s, prompt, ids);
        const struct tensor_info *t =
            tensors_find(s.gold, json_string_value(json_object_get(prompt, "logits")));
        slm_session *q = session(&s, 64, 0);
        float *logits = malloc((size_t)n * 320 * sizeof *logits);
        assert_non_null(logits);
        GOOD(&s, slm_session_append(q, ids, n, true, logits, NULL, &s.why));
        double is = max_abs(logits, (const float *)(const void *)t->data, (size_t)n * 320);
        if (!(is <= 5e-5))
            fail_msg("%s: logits differ by %g", name, is);
        for (uint32_t chunk = 4; chunk <= 9; chunk++) { /* images are never cut */
            slm_session *cut = session(&s, chunk, 0);
            GOOD(&s, slm_session_sync(cut, ids, n, NULL, &s.why));
            assert_memory_equal(slm_session_logits(cut), logits + (size_t)(n - 1) * 320,
                                320 * sizeof *logits);
            slm_session_close(cut);
        }
        free(logits);
        slm_session_close(q);
    }
    seen_close(&s);
}

static void test_same_picture(void **state) {
    struct seen s;
    slm_image *again;
    slm_image_info first = { .size = sizeof first }, info = { .size = sizeof info };
    (void)state;
    seen_open(&s);
    slm_image_get(s.image[1], &first);
    GOOD(&s, slm_image_open_pixels(s.engine, pixels_of(&s, 1), NULL, &again, &s.why));
    slm_image_get(again, &info);
    assert_true(info.cached && !first.cached);
    assert_memory_equal(info.ids, first.ids, info.tokens * sizeof *info.ids);
    slm_image_close(again);
    seen_close(&s);
}

/* A second question about the same picture takes all before it from what is there; another picture in
 * its place does not. */
static void test_prefix(void **state) {
    struct seen s;
    int32_t ids[MAX_PROMPT], other[MAX_PROMPT];
    size_t reused;
    (void)state;
    seen_open(&s);
    const json_t *prompt = json_object_get(json_object_get(s.golden, "prompts"), "one_image");
    uint32_t n = prompt_ids(&s, prompt, ids);
    slm_image_info info = { .size = sizeof info };
    slm_image_get(s.image[2], &info);
    memcpy(other, ids, n * sizeof *ids);
    memcpy(other + 7, info.ids, 4 * sizeof *ids);
    for (int cached = 0; cached < 2; cached++) {
        slm_session *q = session(&s, 64, cached ? 1 << 20 : 0), *fresh = session(&s, 64, 0);
        ids[n - 1] = 78;
        GOOD(&s, slm_session_sync(q, ids, n, &reused, &s.why));
        ids[n - 1] = 77;
        GOOD(&s, slm_session_sync(q, ids, n, &reused, &s.why));
        assert_int_equal(reused, n - 1);
        GOOD(&s, slm_session_sync(fresh, ids, n, NULL, &s.why));
        assert_memory_equal(slm_session_logits(q), slm_session_logits(fresh), 320 * sizeof(float));
        GOOD(&s, slm_session_sync(q, other, n, &reused, &s.why));
        assert_int_equal(reused, 7);
        GOOD(&s, slm_session_sync(fresh, other, n, NULL, &s.why));
        assert_memory_equal(slm_session_logits(q), slm_session_logits(fresh), 320 * sizeof(float));
        slm_session_close(q);
        slm_session_close(fresh);
    }
    seen_close(&s);
}

/* A prompt that ends with an image: asked again, the image is read again whole. */
static void test_ends_with_image(void **state) {
    struct seen s;
    int32_t ids[MAX_PROMPT];
    size_t reused;
    (void)state;
    seen_open(&s);
    uint32_t n =
        prompt_ids(&s, json_object_get(json_object_get(s.golden, "prompts"), "one_image"), ids);
    assert_true(n > 11);
    slm_session *q = session(&s, 64, 0), *fresh = session(&s, 64, 0);
    GOOD(&s, slm_session_sync(q, ids, n, NULL, &s.why));
    GOOD(&s, slm_session_sync(q, ids, 11, &reused, &s.why));
    assert_int_equal(reused, 7);
    GOOD(&s, slm_session_sync(fresh, ids, 11, NULL, &s.why));
    assert_memory_equal(slm_session_logits(q), slm_session_logits(fresh), 320 * sizeof(float));
    assert_int_equal(slm_session_truncate(q, 9, &s.why), SLM_E_STATE);
    GOOD(&s, slm_session_truncate(q, 7, &s.why));
    slm_session_close(q);
    slm_session_close(fresh);
    seen_close(&s);
}

/* ------------------------------------------------------------------ batches */

struct taken {
    int32_t ids[16];
    size_t n;
    slm_err err;
    slm_why why;
};

static bool take_id(void *user, int32_t id, float logprob) {
    struct taken *t = user;
    (void)logprob;
    t->ids[t->n++] = id;
    return true;
}

static void done(void *user, uint64_t id, const slm_result *r, slm_err err, const slm_why *why) {
    struct taken *t = user;
    (void)id;
    (void)r;
    t->err = err;
    if (why != NULL)
        t->why = *why;
}

static void test_batch(void **state) {
    struct seen s;
    const char *names[] = { "one_image", "two_images", "two_adjacent_images",
                            "image_after_window" };
    int32_t ids[4][MAX_PROMPT];
    uint32_t n[4];
    struct taken alone[4] = { 0 }, together[4] = { 0 };
    (void)state;
    seen_open(&s);
    slm_generate_options g = slm_generate_default();
    g.default_sampling = false;
    g.max_tokens = 12;
    g.ignore_stop_ids = true;
    g.on_token = take_id;
    for (int i = 0; i < 4; i++) {
        n[i] =
            prompt_ids(&s, json_object_get(json_object_get(s.golden, "prompts"), names[i]), ids[i]);
        slm_session *q = session(&s, 64, 0);
        GOOD(&s, slm_session_sync(q, ids[i], n[i], NULL, &s.why));
        g.user = &alone[i];
        GOOD(&s, slm_generate(q, &g, NULL, &s.why));
        slm_session_close(q);
    }
    /* the official code's own continuation */
    const json_t *greedy =
        json_object_get(json_object_get(json_object_get(s.golden, "greedy"), "one_image"), "ids");
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(alone[0].ids[i], json_integer_value(json_array_get(greedy, i)));
    for (uint32_t chunk = 4; chunk <= 64; chunk *= 2) {
        slm_session_options o = slm_session_default();
        slm_batch *b;
        o.context = 128;
        o.chunk = chunk;
        o.kv = SLM_KV_F32;
        o.sequences = 4;
        o.threads = 2;
        GOOD(&s, slm_batch_open(s.engine, &o, &b, &s.why));
        for (int i = 0; i < 4; i++) {
            together[i] = (struct taken){ 0 };
            g.user = &together[i];
            slm_request r = { .size = sizeof r,
                              .ids = ids[i],
                              .n = n[i],
                              .options = &g,
                              .on_done = done,
                              .user = &together[i] };
            GOOD(&s, slm_batch_add(b, &r, NULL, &s.why));
        }
        for (int steps = 0; slm_batch_step(b) > 0; steps++)
            assert_true(steps < 1000);
        for (int i = 0; i < 4; i++) {
            if (together[i].err != SLM_OK)
                fail_msg("%s: %s", names[i], together[i].why.message);
            assert_int_equal(together[i].n, alone[i].n);
            assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
        }
        slm_batch_close(b);
    }
    seen_close(&s);
}

/* ------------------------------------------------------------------ refusals */

static void test_refusals(void **state) {
    struct seen s;
    int32_t ids[MAX_PROMPT];
    (void)state;
    seen_open(&s);
    uint32_t n =
        prompt_ids(&s, json_object_get(json_object_get(s.golden, "prompts"), "one_image"), ids);
    slm_session *q = session(&s, 64, 0), *small = session(&s, 3, 0);
    assert_int_equal(slm_session_sync(q, ids, 9, NULL, &s.why), SLM_E_ARG); /* half an image */
    assert_int_equal(slm_session_sync(q, ids + 8, n - 8, NULL, &s.why), SLM_E_ARG);
    assert_int_equal(slm_session_sync(small, ids, n, NULL, &s.why), SLM_E_ARG);
    assert_non_null(strstr(s.why.message, "chunk of 3"));
    ids[7] += 4 * 100; /* of nobody */
    assert_int_equal(slm_session_sync(q, ids, n, NULL, &s.why), SLM_E_ARG);
    assert_non_null(strstr(s.why.message, "not open"));
    slm_session_close(q);
    slm_session_close(small);
    seen_close(&s);
}

/* The same model as a GGUF file and its tower in another, both written by slm. */
static void test_tower_file(void **state) {
    struct seen s;
    int32_t ids[MAX_PROMPT];
    char folder[512], model[256], tower[256];
    static const char *const types[] = { "mmproj-f32", "mmproj-f16", "mmproj-bf16" };
    const char *tmp = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    (void)state;
    seen_open(&s);
    data_path(folder, sizeof folder, FOLDER);
    snprintf(model, sizeof model, "%s/images.%ld.gguf", tmp, (long)getpid());
    snprintf(tower, sizeof tower, "%s/tower.%ld.gguf", tmp, (long)getpid());
    GOOD(&s, slm_quantize(folder, model, "bf16", NULL, &s.why));
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct seen g = s;
        slm_engine_options o = slm_engine_default();
        o.need = o.want = SLM_WEIGHTS;
        o.exact = true;
        o.isa = test_isa();
        o.vision = tower;
        GOOD(&s, slm_quantize(folder, tower, types[i], NULL, &s.why));
        GOOD(&s, slm_engine_open(model, &o, &g.engine, &s.why));
        for (uint32_t j = 0; j < 3; j++)
            GOOD(&s, slm_image_open_pixels(g.engine, pixels_of(&s, j), NULL, &g.image[j], &s.why));
        const json_t *prompt = json_object_get(json_object_get(s.golden, "prompts"), "two_images");
        const struct tensor_info *t = tensors_find(s.gold, "two_images.logits");
        uint32_t n = prompt_ids(&g, prompt, ids);
        slm_session *q = session(&g, 64, 0);
        GOOD(&s, slm_session_sync(q, ids, n, NULL, &s.why));
        double is = max_abs(slm_session_logits(q),
                            (const float *)(const void *)t->data + (size_t)(n - 1) * 320, 320);
        if (!(is <= 5e-5))
            fail_msg("%s: logits differ by %g", types[i], is);
        slm_session_close(q);
        for (uint32_t j = 0; j < 3; j++)
            slm_image_close(g.image[j]);
        slm_engine_close(g.engine);
    }
    /* a tower is no model, and another file is no tower */
    slm_engine_options o = slm_engine_default();
    slm_engine *e;
    assert_int_equal(slm_engine_open(tower, &o, &e, &s.why), SLM_E_UNSUPPORTED);
    o.need = o.want = SLM_WEIGHTS;
    o.vision = model;
    assert_int_equal(slm_engine_open(model, &o, &e, &s.why), SLM_E_FORMAT);
    unlink(model);
    unlink(tower);
    seen_close(&s);
}

static void test_blind(void **state) {
    char folder[512];
    slm_engine_options o = slm_engine_default();
    slm_engine *e;
    slm_image *image;
    slm_why why;
    const uint8_t dot[3] = { 1, 2, 3 };
    const slm_picture p = { .size = sizeof p, .rgb = dot, .width = 1, .height = 1 };
    (void)state;
    o.need = o.want = SLM_WEIGHTS;
    data_path(folder, sizeof folder, "golden/qwen3-0.6b");
    assert_int_equal(slm_engine_open(folder, &o, &e, &why), SLM_OK);
    assert_int_equal(slm_image_side(e, NULL), 0);
    assert_int_equal(slm_image_open(e, &p, NULL, &image, &why), SLM_E_STATE);
    assert_null(image);
    slm_engine_close(e);
}

/* Sixteen closed images are remembered, the seventeenth pushes the oldest out. */
static void test_forgets(void **state) {
    struct seen s;
    uint8_t rgb[3 * 4];
    slm_image *image;
    (void)state;
    seen_open(&s);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 20; i++) {
            const slm_picture p = {
                .size = sizeof p, .rgb = rgb, .width = 2, .height = 2, .pan_scan = true
            };
            slm_image_info info = { .size = sizeof info };
            memset(rgb, i * 12, sizeof rgb);
            GOOD(&s, slm_image_open(s.engine, &p, NULL, &image, &s.why));
            slm_image_get(image, &info);
            assert_int_equal(info.views, 1);
            assert_false(info.cached); /* 20 in turn never meet again */
            slm_image_close(image);
            GOOD(&s, slm_image_open(s.engine, &p, NULL, &image, &s.why));
            slm_image_get(image, &info);
            assert_true(info.cached);
            slm_image_close(image);
        }
    seen_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),     cmocka_unit_test(test_same_picture),
        cmocka_unit_test(test_prefix),     cmocka_unit_test(test_ends_with_image),
        cmocka_unit_test(test_batch),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_tower_file), cmocka_unit_test(test_blind),
        cmocka_unit_test(test_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
