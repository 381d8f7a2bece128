/* test_classify.c - slm_classify: probabilities of labels are those of scoring each label alone with
 * slm_session_append, to the bit, on every wiring (twins) and on trained weights (demo); whatever the
 * order of labels, threads, chunk, rows of a pass, pages left, and what the session held before. */
#include "answers.h"
#include "session/runner.h"

#include <math.h>

#define LABELS 9
#define PLAIN                                                                                      \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Classify the sentiment of this text as "      \
    "positive, negative: I love the new phone.\"}]}"
#define OTHER                                                                                      \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Classify the sentiment of this text as "      \
    "positive, negative: The food was cold and the waiter rude.\"}]}"
/* As long as a twin with two sets of rope factors keeps the short ones (64 positions): the labels cross it. */
#define SHORT                                                                                      \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"What is this? Is it good or bad, or is it "   \
    "neither of the two\"}]}"

/* Some begin alike, some are the beginning of others. */
static const char *const labels[LABELS] = { "positive", "negative", "neg",   "negatively", "pos",
                                            "neutral",  "a",        "abcab", "abc" };

static const char *const models[] = { "qwen3-0.6b", "gemma-3-270m-it", "smollm3-3b",
                                      "phi-4-mini-instruct", "demo" };

static slm_session *open_session(const slm_engine *e, uint32_t context, uint32_t chunk,
                                 uint32_t guesses, unsigned threads) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    slm_why why;
    o.context = context;
    o.chunk = chunk;
    o.guesses = guesses;
    o.threads = threads;
    if (slm_session_open(e, &o, &s, &why) != SLM_OK)
        fail_msg("%s", why.message);
    return s;
}

static void score(slm_session *s, const char *request, const char *const *list, size_t n,
                  const slm_classify_options *o, double *logprob, double *probability) {
    slm_why why;
    if (slm_classify(s, request, strlen(request), list, n, o, logprob, probability, NULL, &why) !=
        SLM_OK)
        fail_msg("%s", why.message);
}

/* The prompt as the header promises it: without thinking. */
static int32_t *prompt_ids(const slm_engine *e, const char *request, size_t *n) {
    char text[1024];
    int32_t *ids = NULL;
    assert_true((size_t)snprintf(text, sizeof text, "%.*s,\"kwargs\":{\"enable_thinking\":false}}",
                                 (int)strlen(request) - 1, request) < sizeof text);
    assert_int_equal(slm_render_ids(e, text, strlen(text), NULL, &ids, n, NULL, NULL), SLM_OK);
    return ids;
}

/* log of the probability of id, summed as the engine does (bits) and plainly (value). */
static double logprob_of(const struct sampler *sampler, const slm_engine *e, const float *logits,
                         int32_t id) {
    double max, log_sum;
    long double sum = 0;
    sampler_normal(sampler, logits, &max, &log_sum);
    for (uint32_t i = 0; i < e->facts.m.vocab; i++)
        if (e->allowed == NULL || (e->allowed[i / 32] >> i % 32 & 1))
            sum += expl((long double)logits[i] - (long double)logits[id]);
    double bits = (double)logits[id] - max - log_sum;
    assert_true(fabs(bits + (double)logl(sum)) < 1e-9);
    return bits;
}

/* One label by itself: each token appended, its log-probability taken from the logits before it. */
static double alone(slm_session *s, const int32_t *prompt, size_t n_prompt, const char *label,
                    size_t longest) {
    const slm_engine *e = s->runner.engine;
    struct sampler *sampler = s->sequence.sampler;
    int32_t *ids = NULL;
    size_t n;
    double sum = 0, path[64], ends = 0;
    assert_int_equal(slm_encode(e, label, strlen(label), SLM_ENCODE_DATA, &ids, &n, NULL), SLM_OK);
    assert_in_range(n, 1, 63);
    slm_session_expect(s, n_prompt + longest);
    assert_int_equal(slm_session_sync(s, prompt, n_prompt, NULL, NULL), SLM_OK);
    for (size_t i = 0; i < n; i++) {
        path[i] = logprob_of(sampler, e, slm_session_logits(s), ids[i]);
        assert_int_equal(slm_session_append(s, ids + i, 1, false, NULL, NULL, NULL), SLM_OK);
    }
    for (const int32_t *stop = e->facts.m.stop; *stop >= 0; stop++)
        ends += exp(logprob_of(sampler, e, slm_session_logits(s), *stop));
    sum = e->facts.m.stop[0] >= 0 ? log(ends) : 0;
    for (size_t i = n; i-- > 0;)
        sum += path[i];
    slm_free(e, ids);
    slm_session_expect(s, 0);
    return sum;
}

static size_t longest_label(const slm_engine *e) {
    size_t longest = 0;
    for (size_t i = 0; i < LABELS; i++) {
        int32_t *ids;
        size_t n;
        assert_int_equal(slm_encode(e, labels[i], strlen(labels[i]), 0, &ids, &n, NULL), SLM_OK);
        slm_free(e, ids);
        longest = n > longest ? n : longest;
    }
    return longest;
}

static void check_model(const char *name) {
    slm_engine *e = ask_engine(name, NULL);
    double expected[3][LABELS], got[LABELS], probability[LABELS], again[LABELS];
    const char *const requests[3] = { PLAIN, OTHER, SHORT };
    slm_session *s = open_session(e, 256, 16, 7, 1);
    for (int r = 0; r < 3; r++) {
        size_t n;
        int32_t *prompt = prompt_ids(e, requests[r], &n);
        for (size_t i = 0; i < LABELS; i++)
            expected[r][i] = alone(s, prompt, n, labels[i], longest_label(e));
        slm_free(e, prompt);
    }
    for (int r = 0; r < 3; r++) {
        score(s, requests[r], labels, LABELS, NULL, got, probability);
        assert_memory_equal(got, expected[r], sizeof got);
        double total = 0, mass = 0;
        for (size_t i = 0; i < LABELS; i++) {
            total += probability[i];
            mass += exp(got[i]);
        }
        assert_true(fabs(total - 1) < 1e-12 && mass < 1 + 1e-9);
        for (size_t i = 0; i < LABELS; i++)
            assert_true(fabs(probability[i] - exp(got[i]) / mass) < 1e-12);
    }
    slm_session_close(s);
    /* rows of a pass, chunk, threads, room for forks: the same bits */
    static const struct {
        uint32_t context, chunk, guesses;
        unsigned threads;
    } shapes[] = { { 256, 16, 1, 1 },
                   { 256, 1, 3, 1 },
                   { 256, 256, 15, 2 },
                   { 200, 64, 7, 2 },
                   { 512, 33, 4, 1 } };
    for (size_t k = 0; k < ARRAY_LEN(shapes); k++) {
        s = open_session(e, shapes[k].context, shapes[k].chunk, shapes[k].guesses,
                         shapes[k].threads);
        for (int r = 0; r < 6; r++) {
            score(s, requests[r % 3], labels, LABELS, NULL, again, NULL);
            assert_memory_equal(again, expected[r % 3], sizeof again);
        }
        slm_session_close(s);
    }
    slm_engine_close(e);
}

static void every_model(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        check_model(models[i]);
}

/* The context ends right behind the longest label, so that no page is left for a fork. */
static void no_room_for_forks(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        slm_engine *e = ask_engine(models[i], NULL);
        double wide[LABELS], tight[LABELS];
        size_t n, longest = longest_label(e);
        slm_why why;
        slm_free(e, prompt_ids(e, PLAIN, &n));
        slm_session *s = open_session(e, 512, 32, 7, 1);
        score(s, PLAIN, labels, LABELS, NULL, wide, NULL);
        slm_session_close(s);
        s = open_session(e, (uint32_t)(n + longest), 32, 7, 1);
        for (int k = 0; k < 2; k++) {
            score(s, PLAIN, labels, LABELS, NULL, tight, NULL);
            assert_memory_equal(wide, tight, sizeof wide);
        }
        assert_int_equal(slm_session_length(s), n);
        slm_session_close(s);
        s = open_session(e, (uint32_t)(n + longest - 1), 32, 7, 1);
        assert_int_equal(
            slm_classify(s, PLAIN, strlen(PLAIN), labels, LABELS, NULL, tight, NULL, NULL, &why),
            SLM_E_CONTEXT);
        slm_session_close(s);
        slm_engine_close(e);
    }
}

static void order_of_labels(void **state) {
    (void)state;
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *s = open_session(e, 256, 64, 7, 1);
    double logprob[LABELS], probability[LABELS], l[LABELS], p[LABELS];
    score(s, PLAIN, labels, LABELS, NULL, logprob, probability);
    for (size_t turn = 1; turn < LABELS; turn++) {
        const char *turned[LABELS];
        for (size_t i = 0; i < LABELS; i++)
            turned[i] = labels[(i * 2 + turn) % LABELS];
        score(s, PLAIN, turned, LABELS, NULL, l, p);
        for (size_t i = 0; i < LABELS; i++) {
            assert_memory_equal(&l[i], &logprob[(i * 2 + turn) % LABELS], sizeof *l);
            assert_memory_equal(&p[i], &probability[(i * 2 + turn) % LABELS], sizeof *p);
        }
    }
    /* two of them alone have the same log-probabilities */
    for (size_t i = 1; i < LABELS; i++) {
        const char *two[2] = { labels[0], labels[i] };
        score(s, PLAIN, two, 2, NULL, l, p);
        assert_memory_equal(&l[0], &logprob[0], sizeof *l);
        assert_memory_equal(&l[1], &logprob[i], sizeof *l);
    }
    slm_session_close(s);
    slm_engine_close(e);
}

/* As beginnings: a label is its tokens alone, unless another one begins with it; what nothing is asked
 * behind is not evaluated. */
static void beginnings(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        slm_engine *e = ask_engine(models[m], NULL);
        slm_session *s = open_session(e, 256, 64, 7, 1);
        slm_classify_options o = slm_classify_default();
        slm_result whole = { .size = sizeof whole }, open = whole;
        double with[LABELS], without[LABELS];
        assert_int_equal(
            slm_classify(s, PLAIN, strlen(PLAIN), labels, LABELS, NULL, with, NULL, &whole, NULL),
            SLM_OK);
        o.beginnings = true;
        assert_int_equal(
            slm_classify(s, PLAIN, strlen(PLAIN), labels, LABELS, &o, without, NULL, &open, NULL),
            SLM_OK);
        assert_true(open.output_tokens < whole.output_tokens);
        size_t n, saved = 0;
        int32_t *prompt = prompt_ids(e, PLAIN, &n);
        for (size_t i = 0; i < LABELS; i++) {
            int32_t *ids[LABELS];
            size_t k[LABELS];
            bool begins = false;
            for (size_t j = 0; j < LABELS; j++)
                assert_int_equal(
                    slm_encode(e, labels[j], strlen(labels[j]), 0, &ids[j], &k[j], NULL), SLM_OK);
            for (size_t j = 0; j < LABELS; j++)
                begins |= k[j] > k[i] && memcmp(ids[j], ids[i], k[i] * sizeof *ids[i]) == 0;
            if (begins) {
                assert_memory_equal(&with[i], &without[i], sizeof *with);
            } else {
                double sum = 0, path[64];
                assert_int_equal(slm_session_sync(s, prompt, n, NULL, NULL), SLM_OK);
                slm_session_expect(s, n + longest_label(e));
                for (size_t j = 0; j < k[i]; j++) {
                    path[j] = logprob_of(s->sequence.sampler, e, slm_session_logits(s), ids[i][j]);
                    assert_int_equal(slm_session_append(s, ids[i] + j, 1, false, NULL, NULL, NULL),
                                     SLM_OK);
                }
                for (size_t j = k[i]; j-- > 0;)
                    sum += path[j];
                slm_session_expect(s, 0);
                assert_memory_equal(&without[i], &sum, sizeof sum);
                saved++;
            }
            for (size_t j = 0; j < LABELS; j++)
                slm_free(e, ids[j]);
        }
        assert_int_equal(whole.output_tokens - open.output_tokens, saved);
        slm_free(e, prompt);
        slm_session_close(s);
        slm_engine_close(e);
    }
}

/* Many at once give each the bits that it has alone, with room for all of them or for none; also
 * twice the same, and one that is longer than a chunk. */
static void many_at_once(void **state) {
    (void)state;
    static const char longer[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Classify the sentiment of this text as "
        "positive, negative: It rained. It rained again. Then it stopped for a while.\"}]}";
    static const char brief[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Good?\"}]}";
    const char *const requests[7] = { PLAIN, OTHER, SHORT, PLAIN, longer, SHORT, brief };
    size_t sizes[7];
    for (size_t i = 0; i < 7; i++)
        sizes[i] = strlen(requests[i]);
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        slm_engine *e = ask_engine(models[m], NULL);
        double l[7][LABELS], p[7][LABELS], lone[LABELS], p_lone[LABELS];
        static const struct {
            uint32_t context, chunk, guesses;
        } shapes[] = { { 512, 256, 7 }, { 512, 16, 15 }, { 256, 7, 1 }, { 160, 64, 7 } };
        for (size_t k = 0; k < ARRAY_LEN(shapes); k++)
            for (int beginnings = 0; beginnings < 2; beginnings++) {
                slm_session *s = open_session(e, shapes[k].context, shapes[k].chunk,
                                              shapes[k].guesses, 1 + k % 2);
                slm_classify_options o = slm_classify_default();
                slm_result r = { .size = sizeof r }, one = r;
                size_t prompts = 0;
                o.beginnings = beginnings;
                for (int turn = 0; turn < 2; turn++)
                    assert_int_equal(slm_classify_many(s, requests, sizes, 7, labels, LABELS, &o,
                                                       l[0], p[0], &r, NULL),
                                     SLM_OK);
                for (size_t i = 0; i < 7; i++) {
                    assert_int_equal(slm_classify(s, requests[i], sizes[i], labels, LABELS, &o,
                                                  lone, p_lone, &one, NULL),
                                     SLM_OK);
                    assert_memory_equal(l[i], lone, sizeof lone);
                    assert_memory_equal(p[i], p_lone, sizeof p_lone);
                    prompts += one.prompt_tokens;
                }
                assert_int_equal(r.prompt_tokens, prompts);
                /* two were there before, unless each was asked alone */
                assert_true(r.output_tokens == 5 * one.output_tokens ||
                            r.output_tokens == 7 * one.output_tokens);
                slm_session_close(s);
            }
        slm_engine_close(e);
    }
}

/* Trained weights answer as they were trained to. */
static void decides(void **state) {
    (void)state;
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *s = open_session(e, 256, 64, 7, 1);
    slm_result r = { .size = sizeof r };
    double p[2], mass[2];
    score(s, PLAIN, labels, 2, NULL, mass, p);
    assert_true(p[0] > 0.8 && exp(mass[0]) + exp(mass[1]) > 0.9);
    assert_int_equal(slm_classify(s, OTHER, strlen(OTHER), labels, 2, NULL, NULL, p, &r, NULL),
                     SLM_OK);
    assert_true(p[1] > 0.8);
    assert_true(r.reused_tokens > 10 && r.reused_tokens < r.prompt_tokens);
    assert_int_equal(r.prompt_tokens, slm_session_length(s));
    assert_true(r.output_tokens >= 2);
    slm_session_close(s);
    slm_engine_close(e);
}

static void length_temperature_bias(void **state) {
    (void)state;
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *s = open_session(e, 256, 64, 7, 1);
    slm_classify_options o = slm_classify_default();
    double plain[LABELS], l[LABELS], p[LABELS], z[LABELS], sum, bias[LABELS];
    score(s, PLAIN, labels, LABELS, NULL, plain, NULL);
    for (int by_length = 0; by_length < 2; by_length++) {
        o.by_length = by_length;
        o.temperature = 1.7;
        o.bias = bias;
        for (size_t i = 0; i < LABELS; i++)
            bias[i] = 0.3 * (double)i - 1;
        score(s, PLAIN, labels, LABELS, &o, l, p);
        sum = 0;
        for (size_t i = 0; i < LABELS; i++) {
            int32_t *ids;
            size_t n;
            assert_int_equal(slm_encode(e, labels[i], strlen(labels[i]), 0, &ids, &n, NULL),
                             SLM_OK);
            slm_free(e, ids);
            assert_true(fabs(l[i] - (by_length ? plain[i] / (double)(n + 1) : plain[i])) < 1e-12);
            z[i] = exp((l[i] + bias[i]) / 1.7);
            sum += z[i];
        }
        for (size_t i = 0; i < LABELS; i++)
            assert_true(fabs(p[i] - z[i] / sum) < 1e-12);
    }
    slm_session_close(s);
    slm_engine_close(e);
}

static void refuse(slm_session *s, const char *request, const char *const *list, size_t n,
                   const slm_classify_options *o, slm_err err, const char *words) {
    slm_why why = { .message = "" };
    double p[LABELS] = { -7 };
    assert_int_equal(slm_classify(s, request, strlen(request), list, n, o, NULL, p, NULL, &why),
                     err);
    if (strstr(why.message, words) == NULL)
        fail_msg("'%s' has no '%s'", why.message, words);
    assert_true(p[0] == -7);
}

static void refusals(void **state) {
    (void)state;
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *s = open_session(e, 256, 64, 7, 1);
    slm_classify_options o = slm_classify_default();
    const char *const same[2] = { "caf\xc3\xa9", "cafe\xcc\x81" },
                      *const twice[3] = { "a", "b", "a" }, *const empty[2] = { "a", "" },
                      *const bad[2] = { "a", "\xff" };
    double bias[2] = { 0, NAN };
    refuse(s, PLAIN, labels, 1, NULL, SLM_E_ARG, "2 to 4096");
    refuse(s, PLAIN, twice, 3, NULL, SLM_E_ARG, "label 2 is the same as label 0");
    refuse(s, PLAIN, same, 2, NULL, SLM_E_ARG, "same");
    refuse(s, PLAIN, empty, 2, NULL, SLM_E_ARG, "label 1 is empty");
    refuse(s, PLAIN, bad, 2, NULL, SLM_E_ENCODING, "label 1");
    refuse(s, "[]", labels, 2, NULL, SLM_E_FORMAT, "object");
    refuse(s, "{", labels, 2, NULL, SLM_E_FORMAT, "");
    refuse(s, "{\"messages\":[],\"think\":true}", labels, 2, NULL, SLM_E_ARG, "thinking");
    refuse(s, "{\"messages\":[],\"format\":{\"type\":\"json_object\"}}", labels, 2, NULL, SLM_E_ARG,
           "format");
    o.temperature = -1;
    refuse(s, PLAIN, labels, 2, &o, SLM_E_ARG, "temperature");
    o.temperature = 1;
    o.bias = bias;
    refuse(s, PLAIN, labels, 2, &o, SLM_E_ARG, "bias");
    slm_session_cancel(s);
    refuse(s, PLAIN, labels, 2, NULL, SLM_E_CANCELLED, "cancelled");
    slm_session_resume(s);
    double p[2];
    score(s, PLAIN, labels, 2, NULL, NULL, p);
    assert_true(p[0] > 0.8);
    slm_session_close(s);
    slm_engine_close(e);
}

/* A session goes on as if nothing had been asked in between. */
static void session_goes_on(void **state) {
    (void)state;
    slm_engine *e = ask_engine("demo", NULL);
    slm_session *s = open_session(e, 512, 64, 7, 1);
    struct ask a;
    struct heard before, after;
    ask_make(&a, 3, ask_vocab(e));
    ask_alone(s, &a, &before);
    score(s, PLAIN, labels, LABELS, NULL, NULL, NULL);
    ask_alone(s, &a, &after);
    heard_same(&before, &after);
    /* generating behind the prompt that was classified is generating behind that prompt */
    slm_generate_options o = slm_generate_default();
    struct heard one = { .r = { .size = sizeof one.r } }, two = one;
    size_t n;
    int32_t *ids = prompt_ids(e, PLAIN, &n);
    o.on_token = hear_token;
    o.user = &one;
    assert_int_equal(slm_session_sync(s, ids, n, NULL, NULL), SLM_OK);
    assert_int_equal(slm_generate(s, &o, NULL, NULL), SLM_OK);
    score(s, PLAIN, labels, LABELS, NULL, NULL, NULL);
    o.user = &two;
    assert_int_equal(slm_generate(s, &o, NULL, NULL), SLM_OK);
    assert_int_equal(one.n, two.n);
    assert_memory_equal(one.logprob, two.logprob, one.n * sizeof *one.logprob);
    slm_free(e, ids);
    slm_session_close(s);
    slm_engine_close(e);
}

static void out_of_memory(void **state) {
    (void)state;
    struct test_hooks t;
    double expected[LABELS], got[LABELS];
    slm_err err = SLM_E_NOMEM;
    for (size_t k = 0; err != SLM_OK; k++) {
        test_hooks_init(&t, 0);
        slm_engine *e = ask_engine("gemma-3-270m-it", &t.hooks);
        slm_session *s = open_session(e, 256, 16, 7, 1);
        if (k == 0) {
            score(s, PLAIN, labels, LABELS, NULL, expected, NULL);
            slm_session_truncate(s, 0, NULL);
        }
        t.fail_at = k > 0 ? t.requests + k : 0;
        err = slm_classify(s, PLAIN, strlen(PLAIN), labels, LABELS, NULL, got, NULL, NULL, NULL);
        if (t.failed)
            assert_int_equal(err, SLM_E_NOMEM);
        t.fail_at = 0;
        if (k == 0)
            err = SLM_E_NOMEM;
        score(s, PLAIN, labels, LABELS, NULL, got, NULL); /* usable afterwards */
        assert_memory_equal(got, expected, sizeof got);
        slm_session_close(s);
        slm_engine_close(e);
        assert_int_equal(t.live, 0);
    }
}

static void many_out_of_memory(void **state) {
    (void)state;
    struct test_hooks t;
    const char *const requests[2] = { PLAIN, OTHER };
    const size_t sizes[2] = { strlen(PLAIN), strlen(OTHER) };
    double got[2][LABELS];
    slm_why why;
    slm_err err = SLM_E_NOMEM;
    for (size_t k = 1; err != SLM_OK; k++) {
        test_hooks_init(&t, 0);
        slm_engine *e = ask_engine("qwen3-0.6b", &t.hooks);
        slm_session *s = open_session(e, 512, 16, 7, 1);
        t.fail_at = t.requests + k;
        err = slm_classify_many(s, requests, sizes, 2, labels, LABELS, NULL, got[0], NULL, NULL,
                                &why);
        if (t.failed)
            assert_int_equal(err, SLM_E_NOMEM);
        slm_session_close(s);
        slm_engine_close(e);
        assert_int_equal(t.live, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model),
        cmocka_unit_test(no_room_for_forks),
        cmocka_unit_test(order_of_labels),
        cmocka_unit_test(decides),
        cmocka_unit_test(beginnings),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(length_temperature_bias),
        cmocka_unit_test(refusals),
        cmocka_unit_test(session_goes_on),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(many_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
