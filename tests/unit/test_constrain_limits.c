/* test_constrain_limits.c - constraints when something is refused or much: memory, budgets, nesting,
 * threads, large schemas, real vocabularies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "constrain_walk.h"

static struct pieces pieces;
static const char schema_text[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":"
                                  "\"string\",\"maxLength\":40},\"tags\":{\"type\":\"array\","
                                  "\"items\":{\"enum\":[\"a\",\"b\",1.5]},\"minItems\":1},\"when\":"
                                  "{\"format\":\"date\"},\"n\":{\"type\":\"integer\","
                                  "\"minimum\":3,\"maximum\":77},\"next\":{\"anyOf\":[{\"$ref\":\"#"
                                  "\"},{\"type\":\"null\"}]}},\"required\":[\"name\"],"
                                  "\"patternProperties\":{\"^x\":{\"type\":\"string\",\"pattern\":"
                                  "\"^[a-c]+$\"}},\"additionalProperties\":true}";
static const char document[] =
    "{\"name\": \"abc\", \"tags\": [\"a\", 1.5], \"n\": 5, \"next\": {\"name\": \"a\", \"xa\": "
    "\"ab\", \"other\": {\"a\": []}}, \"z\": 1}";
static const char tools_text[] =
    "[{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":{\"type\":\"string\"}}}}]";
static json_t *schema, *choices, *tools;

/* ------------------------------------------------------------------ memory */

enum { LIFE_SCHEMA, LIFE_JSON, LIFE_REGEX, LIFE_CHOICES, LIFE_CALLS, N_LIVES };

static slm_err compile(const struct slm_hooks *h, int life, struct grammar **g, slm_why *why) {
    static const char pattern[] = "[a-z]{2,40}(x|\\d+)?";
    struct call_shape shape = { .style = CALL_PYTHON, .arguments_key = "", .tools = tools };
    return life == LIFE_SCHEMA    ? grammar_schema(h, schema, NULL, g, why)
           : life == LIFE_JSON    ? grammar_json(h, NULL, g, why)
           : life == LIFE_REGEX   ? grammar_regex(h, pattern, sizeof pattern - 1, NULL, g, why)
           : life == LIFE_CHOICES ? grammar_choices(h, choices, NULL, g, why)
                                  : grammar_calls(h, &shape, NULL, g, why);
}

static slm_err live(const struct slm_hooks *h, int life) {
    static const char *const texts[] = { document, "{\"a\": {\"b\": 1}, \"c\": [[1]]}", "abc12",
                                         "yes", "[f(a=\"x\")]" };
    struct constrain_vocab *v = NULL;
    struct grammar *g = NULL;
    struct matcher *m = NULL;
    slm_why why;
    slm_err err = constrain_vocab_new(h, pieces.tokens, pieces.n, &v, &why);
    if (err == SLM_OK)
        err = compile(h, life, &g, &why);
    if (err == SLM_OK)
        err = matcher_new(h, g, v, &m, &why);
    for (size_t i = 0; err == SLM_OK && i < strlen(texts[life]); i++) {
        const uint32_t *mask;
        char forced[64];
        err = matcher_mask(m, &mask, &why);
        matcher_forced(m, forced, sizeof forced);
        if (err == SLM_OK && !matcher_accept_bytes(m, texts[life] + i, 1))
            err = SLM_E_NOMEM; /* what else: the text is of the language */
    }
    if (err == SLM_OK)
        assert_true(matcher_may_end(m));
    matcher_free(m);
    grammar_free(g);
    constrain_vocab_free(v);
    return err;
}

static void test_memory(void **state) {
    (void)state;
    for (int life = 0; life < N_LIVES; life++)
        for (int once = 0; once < 2; once++)
            for (size_t k = 1;; k++) {
                struct test_hooks t;
                test_hooks_init(&t, k);
                t.once = once != 0;
                slm_err err = live(&t.hooks, life);
                assert_int_equal(t.live, 0);
                if (!t.failed) {
                    assert_int_equal(err, SLM_OK);
                    break;
                }
                /* OK: what was refused was a place in a cache, or the return of what was left over */
                assert_true(err == SLM_E_NOMEM || err == SLM_OK);
            }
}

/* ------------------------------------------------------------------ budgets */

static slm_err with_limits(struct grammar_limits limits, const char *text, char *said, size_t n) {
    json_t *v = NULL;
    struct grammar *g = NULL;
    slm_why why = { .message = "" };
    assert_int_equal(json_text(text, strlen(text), &v, NULL), SLM_OK);
    slm_err err = grammar_schema(NULL, v, &limits, &g, &why);
    snprintf(said, n, "%s", why.message);
    grammar_free(g);
    json_decref(v);
    return err;
}

static void test_budgets(void **state) {
    (void)state;
    char said[512];
    const char *big = "{\"type\":\"string\",\"maxLength\":10000}";
    assert_int_equal(with_limits((struct grammar_limits){ 0 }, big, said, sizeof said), SLM_OK);
    assert_int_equal(
        with_limits((struct grammar_limits){ .max_nodes = 5000 }, big, said, sizeof said),
        SLM_E_BUDGET);
    assert_non_null(strstr(said, "5000 nodes"));
    assert_int_equal(
        with_limits((struct grammar_limits){ .max_bytes = 100000 }, big, said, sizeof said),
        SLM_E_BUDGET);
    assert_non_null(strstr(said, "100000 bytes"));
    assert_int_equal(with_limits((struct grammar_limits){ .max_ns = 1 }, big, said, sizeof said),
                     SLM_E_BUDGET);
    assert_non_null(strstr(said, "too long"));
    static const char *const large[] = {
        "{\"type\":\"array\",\"minItems\":4000000000}",
        "{\"type\":\"string\",\"minLength\":4000000000}",
        "{\"type\":\"string\",\"pattern\":\"(a|b)*a(a|b){18}\"}",
        "{\"type\":\"string\",\"pattern\":\"((((a{10000}){10000}){10000}){10000}){10000}\"}",
        "{\"type\":\"string\",\"pattern\":\"((((((a|)*){10000}){10000}){10000}){10000}){10000}\"}",
        "{\"type\":\"string\",\"minLength\":5000,\"pattern\":\"a.{100}\"}",
    };
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        slm_err err = with_limits((struct grammar_limits){ 0 }, large[i], said, sizeof said);
        if (err != SLM_E_BUDGET)
            printf("# %s: %d %s\n", large[i], err, said);
        assert_int_equal(err, SLM_E_BUDGET);
    }
}

/* ------------------------------------------------------------------ nesting */

#define GROUPS 60000

static void *deep(void *result) {
    char *text = malloc(3 * GROUPS + 1);
    struct grammar *g = NULL;
    bool ok = text != NULL;
    struct grammar_limits limits = { .max_ns = 60000000000u };
    if (ok) {
        memset(text, '(', GROUPS);
        text[GROUPS] = 'a';
        memset(text + GROUPS + 1, ')', GROUPS);
        ok = grammar_regex(NULL, text, 2 * GROUPS + 1, &limits, &g, NULL) == SLM_OK &&
             grammar_nodes(g) == 2;
        grammar_free(g);
        g = NULL;
        /* not closed; and each repeated */
        ok = ok && grammar_regex(NULL, text, GROUPS + 5, &limits, &g, NULL) == SLM_E_FORMAT;
        for (size_t i = 0; i < GROUPS; i++) {
            text[GROUPS + 1 + 2 * i] = ')';
            text[GROUPS + 2 + 2 * i] = i % 2 ? '*' : '?';
        }
        ok = ok && grammar_regex(NULL, text, 3 * GROUPS + 1, &limits, &g, NULL) == SLM_OK;
        grammar_free(g);
        g = NULL;
    }
    if (!ok)
        printf("# deep expressions\n");
    /* schemas deeper than our reader allows, made by hand */
    json_t *s = json_pack("{s:s}", "type", "integer");
    for (int i = 0; i < 3000 && s != NULL; i++)
        s = i % 2 ? json_pack("{s:s,s:o}", "type", "array", "items", s)
                  : json_pack("{s:{s:o},s:s,s:b}", "properties", "a", s, "type", "object",
                              "additionalProperties", 0);
    ok = ok && s != NULL && grammar_schema(NULL, s, &limits, &g, NULL) == SLM_OK;
    grammar_free(g);
    *(json_t **)result = s;
    free(text);
    return ok ? result : NULL;
}

static void test_nesting(void **state) {
    (void)state;
    pthread_attr_t small;
    pthread_t thread;
    void *done = NULL;
    json_t *s = NULL;
    pthread_attr_init(&small);
    assert_int_equal(pthread_attr_setstacksize(&small, 256 * 1024), 0);
    assert_int_equal(pthread_create(&thread, &small, deep, &s), 0);
    pthread_join(thread, &done);
    pthread_attr_destroy(&small);
    json_decref(s); /* here: jansson recurses */
    assert_non_null(done);
}

/* ------------------------------------------------------------------ threads */

struct shared {
    const struct grammar *g;
    const struct constrain_vocab *v;
    uint64_t hash;
    unsigned index;
};

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* All threads meet all states, in different orders; the masks are the same. */
static void *walk_shared(void *arg) {
    struct shared *s = arg;
    struct matcher *m = NULL;
    size_t n = sizeof document - 1;
    if (matcher_new(NULL, s->g, s->v, &m, NULL) != SLM_OK)
        return NULL;
    for (size_t k = 0; k < n; k++) {
        size_t at = (k * 7 + s->index * 13) % n;
        const uint32_t *mask;
        matcher_reset(m);
        if ((at > 0 && !matcher_accept_bytes(m, document, at)) ||
            matcher_mask(m, &mask, NULL) != SLM_OK)
            break;
        uint64_t h = at;
        for (size_t i = 0; i < (pieces.n + 31) / 32; i++)
            h = mix(h, mask[i]);
        s->hash += h;
    }
    matcher_free(m);
    return arg;
}

static void test_threads(void **state) {
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct shared s[THREADS];
    struct grammar *g = NULL;
    struct constrain_vocab *v = NULL;
    assert_int_equal(constrain_vocab_new(NULL, pieces.tokens, pieces.n, &v, NULL), SLM_OK);
    for (int round = 0; round < 5; round++) {
        assert_int_equal(grammar_schema(NULL, schema, NULL, &g, NULL), SLM_OK);
        for (unsigned i = 0; i < THREADS; i++) {
            s[i] = (struct shared){ g, v, 0, i };
            assert_int_equal(pthread_create(&threads[i], NULL, walk_shared, &s[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            void *done = NULL;
            pthread_join(threads[i], &done);
            assert_non_null(done);
            assert_int_equal(s[i].hash, s[0].hash);
        }
        grammar_free(g);
    }
    constrain_vocab_free(v);
}

/* Twins: a string of up to 300 characters has the same mask as one that tries every token, with tokens
 * longer than twins reach. */
static void test_twins(void **state) {
    (void)state;
    static struct pieces p;
    static const unsigned lengths[] = { 31, 33, 40, 120, 129, 140, 250 };
    char run[400];
    json_t *s = json_pack("{s:s,s:i,s:i}", "type", "string", "maxLength", 300, "minLength", 5);
    struct grammar *g[2] = { NULL, NULL };
    struct constrain_vocab *v = NULL;
    memset(run, 'b', sizeof run);
    pieces_bytes(&p);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        piece_add(&p, run, lengths[i]);
        char with_end[400];
        memcpy(with_end, run, lengths[i]);
        with_end[lengths[i]] = '"';
        piece_add(&p, with_end, lengths[i] + 1);
    }
    memset(run, 'c', sizeof run); /* just as long as twins reach, and nothing longer begins so */
    piece_add(&p, run, 32);
    memset(run, 'd', sizeof run);
    piece_add(&p, run, 128);
    assert_int_equal(constrain_vocab_new(NULL, p.tokens, p.n, &v, NULL), SLM_OK);
    assert_int_equal(grammar_schema(NULL, s, NULL, &g[0], NULL), SLM_OK);
    assert_int_equal(grammar_regex(NULL, "[^b]{0,9}b{0,290}c?", 19, NULL, &g[1], NULL), SLM_OK);
    for (int k = 0; k < 2; k++) {
        struct matcher *m = NULL;
        assert_int_equal(matcher_new(NULL, g[k], v, &m, NULL), SLM_OK);
        char text[400] = "\"";
        memset(text + 1, 'b', sizeof text - 1);
        for (size_t n = 1; n < 300; n += n < 20 || n > 250 ? 1 : 7) {
            matcher_reset(m);
            if (!matcher_accept_bytes(m, text, n))
                break;
            assert_true(mask_is_right(m, &p, text, n));
        }
        matcher_free(m);
        grammar_free(g[k]);
    }
    constrain_vocab_free(v);
    json_decref(s);
}

static int setup(void **state) {
    (void)state;
    pieces_bytes(&pieces);
    choices = json_pack("[s,s,s]", "yes", "no", "yesterday");
    return json_text(schema_text, sizeof schema_text - 1, &schema, NULL) != SLM_OK ||
           json_text(tools_text, sizeof tools_text - 1, &tools, NULL) != SLM_OK;
}

static int teardown(void **state) {
    (void)state;
    json_decref(schema);
    json_decref(choices);
    json_decref(tools);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),  cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_nesting), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_twins),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
