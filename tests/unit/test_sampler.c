/* test_sampler.c - the sampler against the official library's definitions, written out literally.
 *
 * The reference below sorts ascending, takes cumulative sums and masks, as the warpers of the
 * official library are described; the sampler under test sorts descending and shrinks a list. Both
 * must keep the same ids for random logits and parameters, ties included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sample/sampler.h"

#include <cmocka.h> /* after ours: it defines a macro fail() */

#define V 300

static uint64_t state = 88172645463325252u;

static double rnd(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) * 0x1p-53;
}

/* ------------------------------------------------------------------ the reference */

struct ref {
    double score[V];
};

static void ref_softmax(const struct ref *r, double *p) {
    double max = -INFINITY, sum = 0.0;
    for (int i = 0; i < V; i++)
        max = fmax(max, r->score[i]);
    for (int i = 0; i < V; i++)
        sum += p[i] = exp(r->score[i] - max);
    for (int i = 0; i < V; i++)
        p[i] /= sum;
}

static const double *sort_key;

static int ascending(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    if (sort_key[x] != sort_key[y])
        return sort_key[x] < sort_key[y] ? -1 : 1;
    return y - x; /* among equals the lower id is kept longer */
}

static void order(int *index, const double *key) {
    for (int i = 0; i < V; i++)
        index[i] = i;
    sort_key = key;
    qsort(index, V, sizeof *index, ascending);
}

static void ref_top_k(struct ref *r, uint32_t k) {
    int index[V];
    order(index, r->score);
    if (k == 0 || k >= V)
        return;
    double kth = r->score[index[V - (int)k]];
    for (int i = 0; i < V; i++)
        if (r->score[i] < kth)
            r->score[i] = -INFINITY;
}

static void ref_top_p(struct ref *r, double top_p) {
    int index[V];
    double p[V], sum = 0.0;
    if (top_p >= 1.0)
        return;
    ref_softmax(r, p);
    order(index, r->score);
    for (int i = 0; i < V - 1; i++) { /* the last one is always kept */
        sum += p[index[i]];
        if (sum <= 1.0 - top_p)
            r->score[index[i]] = -INFINITY;
    }
}

static void ref_min_p(struct ref *r, double min_p) {
    double p[V], max = 0.0;
    ref_softmax(r, p);
    for (int i = 0; i < V; i++)
        max = fmax(max, p[i]);
    for (int i = 0; i < V; i++)
        if (p[i] < min_p * max)
            r->score[i] = -INFINITY;
}

static void ref_typical(struct ref *r, double mass) {
    int index[V];
    double p[V], shift[V], entropy = 0.0, sum = 0.0;
    if (mass >= 1.0)
        return;
    ref_softmax(r, p);
    for (int i = 0; i < V; i++)
        if (p[i] > 0.0)
            entropy -= p[i] * log(p[i]);
    for (int i = 0; i < V; i++)
        shift[i] = p[i] > 0.0 ? fabs(-log(p[i]) - entropy) : INFINITY;
    order(index, shift);
    int last = 0;
    for (int i = 0; i < V; i++) {
        sum += p[index[i]];
        if (sum < mass)
            last = i + 1;
    }
    last = last < V ? last : V - 1;
    double limit = shift[index[last]];
    for (int i = 0; i < V; i++)
        if (shift[i] > limit)
            r->score[i] = -INFINITY;
}

/* ------------------------------------------------------------------ helpers */

static struct slm_hooks hooks;

static struct sampler *make(const uint32_t *allowed) {
    struct sampler *s;
    hooks_init(&hooks, NULL);
    assert_int_equal(sampler_new(&hooks, V, allowed, &s, NULL), SLM_OK);
    return s;
}

static int32_t pick(struct sampler *s, const float *logits) {
    int32_t id = -1;
    assert_int_equal(sampler_pick(s, logits, NULL, &id, NULL), SLM_OK);
    return id;
}

static void random_logits(float *x) {
    for (int i = 0; i < V; i++)
        x[i] = (float)((rnd() + rnd() + rnd() - 1.5) * 8.0);
}

/* ------------------------------------------------------------------ tests */

/* Many draws from the filtered set: every id drawn must be kept by the reference, and every kept id
 * of noticeable probability must be drawn at about its rate. */
static void check_distribution(const slm_sampling *p, const float *logits) {
    struct sampler *s = make(NULL);
    struct ref r;
    double want[V];
    int got[V] = { 0 }, draws = 4000;
    for (int i = 0; i < V; i++)
        r.score[i] = (double)(logits[i] / p->temperature);
    ref_top_k(&r, p->top_k);
    ref_top_p(&r, (double)p->top_p);
    ref_min_p(&r, (double)p->min_p);
    ref_typical(&r, (double)p->typical_p);
    ref_softmax(&r, want);
    for (int i = 0; i < draws; i++) {
        slm_sampling q = *p;
        q.seed = (uint64_t)i;
        assert_int_equal(sampler_begin(s, &q, NULL, 0, NULL), SLM_OK);
        got[pick(s, logits)]++;
    }
    for (int i = 0; i < V; i++) {
        double sigma = sqrt(want[i] * (1.0 - want[i]) * draws);
        if (want[i] == 0.0)
            assert_int_equal(got[i], 0);
        else
            assert_true(fabs(got[i] - want[i] * draws) <= 5.0 * sigma + 3.0);
    }
    sampler_free(s);
}

static void test_filters(void **unused) {
    (void)unused;
    float logits[V];
    static const struct {
        float t, top_p, min_p, typical;
        uint32_t k;
    } cases[] = {
        { 1.0f, 1.0f, 0.0f, 1.0f, 0 },   { 0.7f, 1.0f, 0.0f, 1.0f, 5 },
        { 1.0f, 0.9f, 0.0f, 1.0f, 0 },   { 0.6f, 0.95f, 0.0f, 1.0f, 20 },
        { 1.5f, 1.0f, 0.1f, 1.0f, 0 },   { 1.0f, 1.0f, 0.0f, 0.5f, 0 },
        { 1.0f, 0.8f, 0.05f, 0.9f, 50 }, { 1.0f, 0.0f, 0.0f, 1.0f, 0 },
        { 2.0f, 0.3f, 0.0f, 1.0f, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        slm_sampling p = slm_sampling_default();
        random_logits(logits);
        p.temperature = cases[i].t;
        p.top_p = cases[i].top_p;
        p.min_p = cases[i].min_p;
        p.typical_p = cases[i].typical;
        p.top_k = cases[i].k;
        check_distribution(&p, logits);
    }
}

static void test_greedy(void **unused) {
    (void)unused;
    struct sampler *s = make(NULL);
    float logits[V];
    random_logits(logits);
    logits[40] = logits[41] = 50.0f;
    slm_sampling p = slm_sampling_default();
    assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 40); /* the lowest id among equals */
    struct slm_bias bias[] = { { 40, -INFINITY }, { 7, 100.0f } };
    p.bias = bias;
    p.n_bias = 1;
    assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 41);
    p.n_bias = 2;
    assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 7);
    sampler_free(s);
}

static void test_penalties(void **unused) {
    (void)unused;
    struct sampler *s = make(NULL);
    float logits[V];
    for (int i = 0; i < V; i++)
        logits[i] = -10.0f;
    logits[1] = 2.0f;
    logits[2] = 1.5f;
    logits[3] = -1.0f;
    slm_sampling p = slm_sampling_default();
    int32_t prompt[] = { 1 };
    p.repetition_penalty = 2.0f; /* of prompt and output: 2.0 -> 1.0 */
    assert_int_equal(sampler_begin(s, &p, prompt, 1, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 2);
    sampler_accept(s, 2); /* 1.5 -> 0.75 */
    assert_int_equal(pick(s, logits), 1);
    p = slm_sampling_default();
    p.presence_penalty = 1.0f; /* of the output only */
    assert_int_equal(sampler_begin(s, &p, prompt, 1, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 1);
    sampler_accept(s, 1);
    assert_int_equal(pick(s, logits), 2);
    sampler_accept(s, 2); /* 1.0 and 0.5: presence counts once */
    sampler_accept(s, 1);
    assert_int_equal(pick(s, logits), 1);
    p.presence_penalty = 0.0f;
    p.frequency_penalty = 0.3f;
    assert_int_equal(sampler_begin(s, &p, prompt, 1, NULL), SLM_OK);
    sampler_accept(s, 1);
    assert_int_equal(pick(s, logits), 1); /* 1.7 against 1.5 */
    sampler_accept(s, 1);
    assert_int_equal(pick(s, logits), 2); /* 1.4 */
    sampler_free(s);
}

static void test_masks(void **unused) {
    (void)unused;
    uint32_t allowed[(V + 31) / 32] = { 0 }, mask[(V + 31) / 32] = { 0 };
    float logits[V];
    random_logits(logits);
    logits[200] = 99.0f;
    allowed[0] = 0xffffffffu; /* ids 0..31 exist */
    struct sampler *s = make(allowed);
    slm_sampling p = slm_sampling_default();
    for (int t = 0; t < 2; t++) {
        p.temperature = (float)t;
        assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
        assert_true(pick(s, logits) < 32);
        int32_t id;
        mask[0] = 1u << 9;
        assert_int_equal(sampler_pick(s, logits, mask, &id, NULL), SLM_OK);
        assert_int_equal(id, 9);
        mask[0] = 0;
        assert_int_equal(sampler_pick(s, logits, mask, &id, NULL), SLM_E_STATE);
    }
    assert_true(sampler_logprob(s, logits, 5) < 0.0f);
    logits[200] = NAN; /* not allowed, so it does not matter */
    pick(s, logits);
    logits[3] = NAN;
    int32_t id;
    slm_why why;
    assert_int_equal(sampler_pick(s, logits, NULL, &id, &why), SLM_E_NUMERIC);
    sampler_free(s);
}

static void test_bad_parameters(void **unused) {
    (void)unused;
    struct sampler *s = make(NULL);
    slm_why why;
    float bad[] = { NAN, INFINITY, -INFINITY, -1.0f, 1000.0f };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (int field = 0; field < 7; field++) {
            slm_sampling p = slm_sampling_default();
            float *fields[] = { &p.temperature,
                                &p.top_p,
                                &p.min_p,
                                &p.typical_p,
                                &p.repetition_penalty,
                                &p.presence_penalty,
                                &p.frequency_penalty };
            *fields[field] = field >= 5 && bad[i] == -1.0f ? NAN : bad[i];
            assert_int_equal(sampler_begin(s, &p, NULL, 0, &why), SLM_E_ARG);
        }
    struct slm_bias bias = { V, 1.0f };
    slm_sampling p = slm_sampling_default();
    p.bias = &bias;
    p.n_bias = 1;
    assert_int_equal(sampler_begin(s, &p, NULL, 0, &why), SLM_E_ARG);
    bias = (struct slm_bias){ 3, NAN };
    assert_int_equal(sampler_begin(s, &p, NULL, 0, &why), SLM_E_ARG);
    sampler_free(s);
}

/* Draw i of a seed depends on i alone; the generator is uniform enough for its use. */
static void test_seed(void **unused) {
    (void)unused;
    struct sampler *s = make(NULL);
    float logits[V];
    slm_sampling p = slm_sampling_default();
    int32_t a[20], b[20];
    random_logits(logits);
    p.temperature = 1.0f;
    p.seed = 42;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
        for (int i = 0; i < 20; i++) {
            (round ? b : a)[i] = pick(s, logits);
            sampler_accept(s, (round ? b : a)[i]);
        }
    }
    assert_memory_equal(a, b, sizeof a);
    double sum = 0.0, square = 0.0;
    int n = 100000;
    for (int i = 0; i < n; i++) {
        double u = sampler_uniform(7, (uint64_t)i);
        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
        square += u * u;
    }
    assert_true(fabs(sum / n - 0.5) < 0.004);
    assert_true(fabs(square / n - 1.0 / 3.0) < 0.004);
    sampler_free(s);
}

/* ------------------------------------------------------------------ large vocabularies */

#define LARGE 40000

struct plain {
    double key;
    int32_t id;
};

static int falling(const void *a, const void *b) {
    const struct plain *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->id - y->id;
}

/* The same draw by sorting everything and adding up: filters are prefixes of that order. */
static int32_t plain_pick(const float *logits, const slm_sampling *p, uint64_t draw) {
    static struct plain list[LARGE];
    size_t n = LARGE, k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    double total = 0.0, mass = 0.0;
    for (int i = 0; i < LARGE; i++)
        list[i] = (struct plain){ (double)(logits[i] / p->temperature), i };
    qsort(list, n, sizeof *list, falling);
    while (k < n && list[k].key == list[k - 1].key)
        k++;
    n = k;
    for (size_t i = 0; i < n; i++)
        total += exp(list[i].key - list[0].key);
    size_t kept = 0;
    while (p->top_p < 1.0f && kept < n && mass < (double)p->top_p * total)
        mass += exp(list[kept++].key - list[0].key);
    n = p->top_p < 1.0f ? (kept > 0 ? kept : 1) : n;
    while (p->min_p > 0.0f && exp(list[n - 1].key - list[0].key) < (double)p->min_p)
        n--;
    total = mass = 0.0;
    for (size_t i = 0; i < n; i++)
        total += exp(list[i].key - list[0].key);
    for (size_t i = 0; i < n; i++) {
        mass += exp(list[i].key - list[0].key);
        if (mass >= sampler_uniform(p->seed, draw) * total)
            return list[i].id;
    }
    return list[n - 1].id;
}

static struct sampler *make_large(void) {
    struct sampler *s;
    hooks_init(&hooks, NULL);
    assert_int_equal(sampler_new(&hooks, LARGE, NULL, &s, NULL), SLM_OK);
    return s;
}

/* Shapes of logits: like a model's, nearly flat, one far ahead, few values with many ties, all equal. */
static void large_logits(float *x, int shape) {
    for (int i = 0; i < LARGE; i++) {
        double bell = (rnd() + rnd() + rnd() + rnd() - 2.0) * 8.0;
        x[i] = (float)(shape == 0   ? bell
                       : shape == 1 ? bell * 0.001
                       : shape == 2 ? bell * 0.01 + (i == 31234 ? 9.0 : 0.0)
                       : shape == 3 ? floor(bell)
                                    : 2.5);
    }
    if (shape == 0)
        for (int i = 0; i < LARGE; i += 997)
            x[i] += 12.0f;
}

static void test_large(void **unused) {
    (void)unused;
    static float logits[LARGE];
    static const struct {
        float t, top_p, min_p;
        uint32_t k;
    } cases[] = {
        { 1.0f, 1.0f, 0.0f, 0 },   { 0.6f, 0.95f, 0.0f, 20 },  { 0.7f, 0.8f, 0.0f, 0 },
        { 2.0f, 1.0f, 0.05f, 0 },  { 1.0f, 0.5f, 0.02f, 700 }, { 1.0f, 1.0f, 0.0f, 3000 },
        { 0.1f, 0.999f, 0.0f, 0 }, { 1.0f, 1.0f, 0.0f, 1 },    { 1.0f, 0.0f, 0.0f, 0 },
    };
    struct sampler *s = make_large();
    for (int shape = 0; shape < 5; shape++) {
        large_logits(logits, shape);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            slm_sampling p = slm_sampling_default();
            p.temperature = cases[i].t;
            p.top_p = cases[i].top_p;
            p.min_p = cases[i].min_p;
            p.top_k = cases[i].k;
            p.seed = 1000 * (uint64_t)shape + i;
            assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
            for (uint64_t draw = 0; draw < 4; draw++) {
                int32_t got = pick(s, logits), want = plain_pick(logits, &p, draw);
                if (got != want)
                    print_error("shape %d case %zu draw %d\n", shape, i, (int)draw);
                assert_int_equal(got, want);
                sampler_accept(s, got);
            }
        }
    }
    sampler_free(s);
}

/* Greedy and top_k = 1 over every place of the largest logit's block, and with ties: the lowest id. */
static void test_first_among_equals(void **unused) {
    (void)unused;
    static float logits[LARGE];
    struct sampler *s = make_large();
    slm_sampling p = slm_sampling_default();
    for (int i = 0; i < LARGE; i++)
        logits[i] = (float)(rnd() * 4.0 - 9.0); /* all negative */
    for (int i = 0; i < 70; i++) {
        int at = i < 35 ? i : LARGE - 1 - (i - 35);
        float before = logits[at], tie = logits[20000];
        logits[at] = logits[20000] = -0.5f;
        assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
        assert_int_equal(pick(s, logits), at < 20000 ? at : 20000);
        logits[at] = before;
        logits[20000] = tie;
    }
    for (int i = 0; i < LARGE; i++)
        logits[i] = 1.0f;
    assert_int_equal(sampler_begin(s, &p, NULL, 0, NULL), SLM_OK);
    assert_int_equal(pick(s, logits), 0);
    logits[LARGE - 1] = INFINITY;
    int32_t id;
    slm_why why;
    assert_int_equal(sampler_pick(s, logits, NULL, &id, &why), SLM_E_NUMERIC);
    assert_non_null(strstr(why.message, "39999"));
    sampler_free(s);
}

/* Nothing in range may make numbers that are not: extremes of logits, temperature and penalties. */
static void test_extremes(void **unused) {
    (void)unused;
    static float logits[LARGE];
    static const float values[] = {
        3.4e38f, -3.4e38f, 1e-45f, 0.0f, -1e-45f, 1e30f, -1e30f, 88.0f
    };
    struct sampler *s = make_large();
    slm_sampling p = slm_sampling_default();
    int32_t prompt[LARGE];
    for (int i = 0; i < LARGE; i++)
        prompt[i] = i;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < LARGE; i += 1 + (round & 7))
            logits[i] = values[(size_t)(rnd() * (double)ARRAY_LEN(values))];
        p.temperature = (float[]){ 0.0f, 1e-38f, 0.01f, 1.0f, 100.0f }[round % 5];
        p.top_k = (uint32_t[]){ 0, 1, 40, 39999 }[round % 4];
        p.top_p = (float[]){ 1.0f, 0.9f, 0.0f }[round % 3];
        p.min_p = (float[]){ 0.0f, 1.0f, 0.1f }[round / 3 % 3];
        p.typical_p = (float[]){ 1.0f, 0.5f, 0.0f }[round / 9 % 3];
        p.repetition_penalty = (float[]){ 1.0f, 100.0f, 0.01f }[round / 2 % 3];
        p.presence_penalty = round % 7 == 0 ? 100.0f : 0.0f;
        assert_int_equal(sampler_begin(s, &p, prompt, (size_t)(round % 3) * 13333, NULL), SLM_OK);
        int32_t id = pick(s, logits);
        assert_true(id >= 0 && id < LARGE);
    }
    sampler_free(s);
}

static void test_logprob(void **unused) {
    (void)unused;
    static float logits[LARGE];
    struct sampler *s = make_large();
    for (int shape = 0; shape < 5; shape++) {
        double max = -INFINITY, sum = 0.0;
        large_logits(logits, shape);
        for (int i = 0; i < LARGE; i++)
            max = fmax(max, (double)logits[i]);
        for (int i = 0; i < LARGE; i++)
            sum += exp((double)logits[i] - max);
        for (int32_t id = 0; id < LARGE; id += 4001) {
            double want = (double)logits[id] - max - log(sum);
            assert_true(fabs((double)sampler_logprob(s, logits, id) - want) < 1e-6 * (1.0 - want));
        }
    }
    sampler_free(s);
}

static size_t countdown;

static void *failing_alloc(void *user, size_t n) {
    (void)user;
    return countdown-- == 0 ? NULL : malloc(n);
}

static void *failing_resize(void *user, void *p, size_t n) {
    (void)user;
    return countdown-- == 0 ? NULL : realloc(p, n);
}

static void release(void *user, void *p) {
    (void)user;
    free(p);
}

static void test_no_memory(void **unused) {
    (void)unused;
    struct slm_hooks given = { sizeof given, failing_alloc, failing_resize, release, NULL, NULL },
                     h;
    hooks_init(&h, &given);
    for (size_t k = 0;; k++) {
        struct sampler *s = NULL;
        countdown = k;
        slm_err err = sampler_new(&h, V, NULL, &s, NULL);
        if (err == SLM_OK) {
            sampler_free(s);
            assert_true(k >= 5);
            return;
        }
        assert_int_equal(err, SLM_E_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filters),        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_penalties),      cmocka_unit_test(test_masks),
        cmocka_unit_test(test_bad_parameters), cmocka_unit_test(test_seed),
        cmocka_unit_test(test_large),          cmocka_unit_test(test_first_among_equals),
        cmocka_unit_test(test_extremes),       cmocka_unit_test(test_logprob),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
