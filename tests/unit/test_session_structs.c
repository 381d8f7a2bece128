/* test_session_structs.c - the edges of slm.h: structs of other sizes, hooks that are incomplete,
 * plans and contexts within a limit, dates, metadata as text, NULL where it is allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "format_image.h"
#include "tiny_model.h"

static struct tiny twin;
static slm_engine *engine;

static int setup(void **state) {
    (void)state;
    tiny_init(&twin, "gemma-3-270m-it");
    tiny_build(&twin);
    return tiny_open(&twin, SLM_ALL, NULL, &engine, NULL) == SLM_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    slm_engine_close(engine);
    tiny_free(&twin);
    return 0;
}

/* ------------------------------------------------------------------ sizes */

static void test_options_sizes(void **state) {
    (void)state;
    struct {
        slm_session_options o;
        uint64_t later;
    } newer = { slm_session_default(), 0 };
    slm_session *s = NULL;
    slm_why why;
    static const size_t wrong[] = { 0, 1, 7, 65537, SIZE_MAX };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        newer.o.size = wrong[i];
        assert_int_equal(slm_session_open(engine, &newer.o, &s, &why), SLM_E_ARG);
        assert_null(s);
    }
    newer.o = slm_session_default();
    newer.o.context = 64;
    newer.o.threads = 1;
    newer.o.size = sizeof newer; /* a newer header, nothing set in what is unknown here */
    assert_int_equal(slm_session_open(engine, &newer.o, &s, &why), SLM_OK);
    slm_session_close(s);
    newer.later = 1;
    assert_int_equal(slm_session_open(engine, &newer.o, &s, &why), SLM_E_ARG);
    newer.o.size = offsetof(slm_session_options, chunk); /* an older one: only the context */
    assert_int_equal(slm_session_open(engine, &newer.o, &s, &why), SLM_OK);
    assert_int_equal(slm_session_context(s), 64);

    slm_generate_options g = slm_generate_default();
    slm_result r = { .size = 0 };
    int32_t ids[] = { 1, 2 };
    assert_int_equal(slm_session_sync(s, ids, 2, NULL, NULL), SLM_OK);
    g.max_tokens = 2;
    assert_int_equal(slm_generate(s, &g, &r, &why), SLM_E_ARG); /* before any work */
    assert_int_equal(slm_session_length(s), 2);
    r.size = offsetof(slm_result, reused_tokens);
    memset((char *)&r + r.size, 0x55, sizeof r - r.size);
    assert_int_equal(slm_generate(s, &g, &r, &why), SLM_OK);
    assert_int_equal(r.prompt_tokens, 2);
    size_t untouched;
    memset(&untouched, 0x55, sizeof untouched);
    assert_int_equal(r.reused_tokens, untouched);
    g.size = 0;
    assert_int_equal(slm_generate(s, &g, NULL, &why), SLM_E_ARG);
    slm_session_close(s);

    slm_engine_options eo = slm_engine_default();
    slm_engine *e;
    eo.size = 4;
    assert_int_equal(slm_engine_open_memory(twin.files, twin.n_files, &eo, &e, &why), SLM_E_ARG);
    assert_null(e);
    slm_render_options ro = slm_render_default();
    char *text;
    size_t n;
    ro.size = 0;
    assert_int_equal(slm_render(engine, "{\"messages\":[]}", 15, &ro, &text, &n, &why), SLM_E_ARG);
    slm_quantize_options q = slm_quantize_default();
    q.size = 0;
    assert_int_equal(slm_quantize("a", "b", "q8_0", &q, &why), SLM_E_ARG);
}

static void test_result_sizes(void **state) {
    (void)state;
    slm_info i = { .size = 0 };
    slm_plan p = { .size = 0 };
    slm_tensor t = { .size = 0 };
    slm_cost c = { .size = 0 };
    slm_card card = { .size = 0 };
    slm_machine m = { .size = 0 };
    slm_why why;
    assert_int_equal(slm_engine_info(engine, &i), SLM_E_ARG);
    assert_int_equal(slm_engine_plan(engine, NULL, &p, &why), SLM_E_ARG);
    assert_int_equal(slm_engine_tensor(engine, 0, &t), SLM_E_ARG);
    assert_int_equal(slm_engine_cost(engine, SLM_KV_F16, 1, &c), SLM_E_ARG);
    assert_int_equal(slm_catalog_get(0, &card), SLM_E_ARG);
    assert_int_equal(slm_machine_get(SLM_MEASURE_NOTHING, 1, &m, &why), SLM_E_ARG);
    struct {
        slm_plan p;
        uint64_t later;
    } newer = { { .size = sizeof newer }, 77 };
    assert_int_equal(slm_engine_plan(engine, NULL, &newer.p, &why), SLM_OK);
    assert_int_equal(newer.later, 77);
    assert_int_equal(newer.p.size, sizeof newer);
    t.size = sizeof t;
    assert_int_equal(slm_engine_tensor(engine, 0, &t), SLM_OK);
    i.size = sizeof i;
    assert_int_equal(slm_engine_info(engine, &i), SLM_OK);
    assert_int_equal(slm_engine_tensor(engine, i.n_tensors, &t), SLM_E_ARG);
}

static void test_hooks(void **state) {
    (void)state;
    struct test_hooks t;
    slm_engine *e;
    slm_why why;
    for (int missing = 0; missing < 4; missing++) {
        test_hooks_init(&t, 0);
        if (missing == 0)
            t.hooks.alloc = NULL;
        else if (missing == 1)
            t.hooks.resize = NULL;
        else if (missing == 2)
            t.hooks.release = NULL;
        else
            t.hooks.size = 8;
        assert_int_equal(tiny_open(&twin, SLM_ALL, &t.hooks, &e, &why), SLM_E_ARG);
        assert_null(e);
        assert_int_equal(t.requests, 0);
    }
}

static void test_null(void **state) {
    (void)state;
    slm_engine_close(NULL);
    slm_session_close(NULL);
    slm_free(engine, NULL);
    slm_free(NULL, NULL);
    slm_session *s;
    assert_int_equal(slm_session_open(engine, NULL, &s, NULL), SLM_OK);
    int32_t ids[] = { 1, 2, 99999 };
    assert_int_equal(slm_session_sync(s, ids, 3, NULL, NULL), SLM_E_ARG);
    assert_int_equal(slm_session_sync(s, ids, 2, NULL, NULL), SLM_OK);
    slm_generate_options g = slm_generate_default();
    g.max_tokens = 2;
    assert_int_equal(slm_generate(s, &g, NULL, NULL), SLM_OK);
    assert_int_equal(slm_chat(s, "{", 1, NULL, NULL, NULL), SLM_E_FORMAT);
    assert_non_null(slm_session_ids(s));
    assert_int_equal(slm_session_truncate(s, 0, NULL), SLM_OK);
    assert_int_equal(slm_session_length(s), 0);
    assert_null(slm_session_logits(s));
    slm_session_close(s);
}

/* ------------------------------------------------------------------ plans */

static slm_plan plan_with(const slm_engine *e, slm_session_options o) {
    slm_plan p = { .size = sizeof p };
    assert_int_equal(slm_engine_plan(e, &o, &p, NULL), SLM_OK);
    return p;
}

static void test_fitting(void **state) {
    (void)state;
    slm_session_options o = slm_session_default();
    slm_why why;
    slm_session *s;
    o.threads = 1;
    o.chunk = 32;
    o.context = 1024;
    uint64_t whole = plan_with(engine, o).total;
    o.context = 500;
    uint64_t half = plan_with(engine, o).total;
    assert_true(half < whole);
    o.context = 0;
    assert_int_equal(plan_with(engine, o).context, 1024);
    o.max_bytes = half; /* the most that fits: one position more would not */
    slm_plan p = plan_with(engine, o);
    assert_true(p.context >= 500 && p.context < 1024 && p.total <= half);
    assert_int_equal(slm_session_open(engine, &o, &s, &why), SLM_OK);
    assert_int_equal(slm_session_context(s), p.context);
    slm_session_close(s);
    slm_session_options more = o;
    more.max_bytes = 0;
    more.context = p.context + 1;
    assert_true(plan_with(engine, more).total > half);
    more.max_bytes = half; /* asked for explicitly, it is refused with both numbers */
    assert_int_equal(slm_session_open(engine, &more, &s, &why), SLM_E_MEMORY);
    assert_null(s);
    o.max_bytes = 1000;
    assert_int_equal(slm_session_open(engine, &o, &s, &why), SLM_E_MEMORY);
    assert_non_null(strstr(why.message, "256"));
    o.max_bytes = 0;
    o.context = 500;
    o.sequences = 3;
    assert_true(plan_with(engine, o).kv ==
                3 * plan_with(engine, more = (slm_session_options){ .size = sizeof more,
                                                                    .context = 500,
                                                                    .chunk = 32,
                                                                    .threads = 1 })
                        .kv);
    o.context = 1025;
    assert_int_equal(slm_engine_plan(engine, &o, &p, &why), SLM_E_CONTEXT);
    o.context = 10;
    o.kv = (enum slm_kv)7;
    assert_int_equal(slm_engine_plan(engine, &o, &p, &why), SLM_E_ARG);
}

/* A session's allocations are what its plan says; NULL options of an exact engine mean float32. */
static void test_plan_of_exact(void **state) {
    (void)state;
    struct test_hooks t;
    slm_engine_options o = slm_engine_default();
    slm_session_options so = slm_session_default();
    slm_engine *e;
    slm_plan p = { .size = sizeof p }, f16 = p;
    test_hooks_init(&t, 0);
    o.exact = true;
    o.hooks = &t.hooks;
    assert_int_equal(slm_engine_open_memory(twin.files, twin.n_files, &o, &e, NULL), SLM_OK);
    assert_int_equal(slm_engine_plan(e, NULL, &p, NULL), SLM_OK);
    assert_int_equal(slm_engine_plan(e, &so, &f16, NULL), SLM_OK);
    assert_true(p.weights_packed == 0 && p.weights_file > 0);
    assert_true(p.kv > f16.kv * 19 / 10 && p.kv <= f16.kv * 2);
    slm_engine_close(e);
    assert_int_equal(t.live, 0);
}

/* ------------------------------------------------------------------ dates */

static void test_dates(void **state) {
    (void)state;
    static const char template[] = "{{ strftime_now('%Y-%m-%d %H') }}",
                      request[] = "{\"messages\":[]}";
    static const char *const zones[] = { "UTC", "AAA+12", "BBB-14" };
    struct slm_memory_file file = { "chat_template.jinja", template, sizeof template - 1 };
    slm_engine_options o = slm_engine_default();
    slm_render_options r = slm_render_default();
    slm_engine *e;
    char *text;
    size_t n;
    o.need = o.want = SLM_TEMPLATE;
    assert_int_equal(slm_engine_open_memory(&file, 1, &o, &e, NULL), SLM_OK);
    for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
        char before[32], after[32];
        setenv("TZ", zones[i], 1);
        tzset();
        time_t now = time(NULL);
        strftime(before, sizeof before, "%Y-%m-%d %H", localtime(&now));
        assert_int_equal(slm_render(e, request, sizeof request - 1, NULL, &text, &n, NULL), SLM_OK);
        now = time(NULL);
        strftime(after, sizeof after, "%Y-%m-%d %H", localtime(&now));
        if (strcmp(before, after) == 0) /* the hour did not change meanwhile */
            assert_string_equal(text, before);
        slm_free(e, text);
        r.date = 86400 * 365; /* given: the calendar of UTC, in every zone */
        assert_int_equal(slm_render(e, request, sizeof request - 1, &r, &text, &n, NULL), SLM_OK);
        assert_string_equal(text, "1971-01-01 00");
        slm_free(e, text);
    }
    unsetenv("TZ");
    tzset();
    slm_engine_close(e);
}

/* ------------------------------------------------------------------ metadata as text */

static void test_metadata(void **state) {
    (void)state;
    struct image g = { 0 };
    slm_engine_options o = slm_engine_default();
    slm_engine *e;
    slm_why why;
    char value[64];
    const char *key;
    static const char *const numbers[] = { "block_count",          "context_length",
                                           "embedding_length",     "feed_forward_length",
                                           "attention.head_count", "attention.head_count_kv",
                                           "attention.key_length", "attention.value_length" };
    img_head(&g, 3, 1, 15);
    img_kv_str(&g, "general.architecture", "qwen3");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char name[64];
        snprintf(name, sizeof name, "qwen3.%s", numbers[i]);
        img_kv_u32(&g, name, i == 0 || i == 4 || i == 5 ? 1 : 32);
    }
    img_kv(&g, "qwen3.attention.layer_norm_rms_epsilon", GGUF_F32);
    img_le(&g, 0x358637bd, 4); /* 1e-6 */
    img_kv(&g, "qwen3.rope.freq_base", GGUF_F32);
    img_le(&g, 0x461c4000, 4); /* 10000 */
    img_kv_str(&g, "a.long",
               "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82"
               "\xac\xe2\x82\xac"
               "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82"
               "\xac\xe2\x82\xac"
               "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82"
               "\xac\xe2\x82\xac");
    img_kv_u32(&g, "a.number", 4000000000u);
    img_kv_str(&g, "a.empty", "");
    img_array(&g, "a.list", GGUF_U8, 10);
    for (unsigned i = 0; i < 10; i++)
        img_le(&g, i, 1);
    img_tensor(&g, "token_embd.weight", 0, 0, 32, 4);
    img_pad(&g, 32);
    img_fill(&g, 32 * 4 * 4);
    struct slm_memory_file file = { "m.gguf", g.data, g.n };
    o.need = o.want = 0;
    if (slm_engine_open_memory(&file, 1, &o, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    slm_info info = { .size = sizeof info };
    assert_int_equal(slm_engine_info(e, &info), SLM_OK);
    assert_int_equal(info.n_meta, 15);
    for (size_t i = 0; i < info.n_meta; i++)
        for (size_t size = 1; size <= sizeof value; size++) {
            memset(value, 0x55, sizeof value);
            assert_int_equal(slm_engine_meta(e, i, &key, value, size), SLM_OK);
            assert_true(strlen(value) < size);
            assert_int_equal(utf8_valid(value, strlen(value)), strlen(value));
            assert_true(size == sizeof value || value[size] == 0x55);
        }
    assert_int_equal(slm_engine_meta(e, info.n_meta, &key, value, sizeof value), SLM_E_ARG);
    assert_int_equal(slm_engine_meta(e, 0, &key, value, 0), SLM_E_ARG);
    slm_engine_close(e);
    img_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_sizes), cmocka_unit_test(test_result_sizes),
        cmocka_unit_test(test_hooks),         cmocka_unit_test(test_null),
        cmocka_unit_test(test_fitting),       cmocka_unit_test(test_plan_of_exact),
        cmocka_unit_test(test_dates),         cmocka_unit_test(test_metadata),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
