/* test_constrain_random.c - random schemas against a validator that knows nothing of automata.
 *
 * Documents that are written through masks have to be valid; and of documents made by changing them, those
 * that a matcher takes have to be valid, and those that are valid have to be taken. Along the way masks are
 * compared with the trial of every token. SLM_RANDOM_SCHEMAS sets how many schemas (default 400). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <math.h>
#include <regex.h>

#include "constrain_walk.h"

static struct pieces pieces;
static struct constrain_vocab *vocab;

/* ------------------------------------------------------------------ a validator */

static const json_t *document; /* the schema, for $ref */

static size_t characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

static bool equal(const json_t *a, const json_t *b) {
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b) != 0;
}

static bool is_type(const json_t *v, const char *t) {
    double x = json_number_value(v);
    return strcmp(t, "null") == 0      ? json_is_null(v)
           : strcmp(t, "boolean") == 0 ? json_is_boolean(v)
           : strcmp(t, "string") == 0  ? json_is_string(v)
           : strcmp(t, "array") == 0   ? json_is_array(v)
           : strcmp(t, "object") == 0  ? json_is_object(v)
           : strcmp(t, "number") == 0  ? json_is_number(v)
                                       : json_is_integer(v) || (json_is_real(v) && x == floor(x));
}

static bool matches(const char *pattern, const char *text) {
    regex_t r;
    if (regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool yes = regexec(&r, text, 0, NULL, 0) == 0;
    regfree(&r);
    return yes;
}

static bool valid(const json_t *s, const json_t *v);

static bool valid_object(const json_t *s, const json_t *v) {
    const json_t *properties = json_object_get(s, "properties"),
                 *more = json_object_get(s, "additionalProperties");
    const json_t *patterns = json_object_get(s, "patternProperties");
    const char *key, *p;
    json_t *member, *sub;
    size_t i;
    json_array_foreach(json_object_get(s, "required"), i,
                       sub) if (json_object_get(v, json_string_value(sub)) == NULL) return false;
    json_object_foreach((json_t *)(uintptr_t)v, key, member) {
        const json_t *own = json_object_get(properties, key);
        bool spoken = own != NULL;
        if (own != NULL && !valid(own, member))
            return false;
        json_object_foreach((json_t *)(uintptr_t)patterns, p, sub) if (matches(p, key)) {
            spoken = true;
            if (!valid(sub, member))
                return false;
        }
        if (!spoken && more != NULL && !valid(more, member))
            return false;
    }
    const json_t *least = json_object_get(s, "minProperties");
    return least == NULL || (json_int_t)json_object_size(v) >= json_integer_value(least);
}

static bool valid_array(const json_t *s, const json_t *v) {
    const json_t *places = json_object_get(s, "prefixItems"), *rest = json_object_get(s, "items");
    const json_t *least = json_object_get(s, "minItems"), *most = json_object_get(s, "maxItems");
    size_t n = json_array_size(v);
    if ((least != NULL && (json_int_t)n < json_integer_value(least)) ||
        (most != NULL && (json_int_t)n > json_integer_value(most)))
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = i < json_array_size(places) ? json_array_get(places, i) : rest;
        if (item != NULL && !valid(item, json_array_get(v, i)))
            return false;
    }
    return true;
}

static bool valid_scalar(const json_t *s, const json_t *v) {
    const json_t *k;
    if (json_is_string(v)) {
        json_int_t n = (json_int_t)characters(json_string_value(v), json_string_length(v));
        return !((k = json_object_get(s, "minLength")) != NULL && n < json_integer_value(k)) &&
               !((k = json_object_get(s, "maxLength")) != NULL && n > json_integer_value(k)) &&
               !((k = json_object_get(s, "pattern")) != NULL &&
                 !matches(json_string_value(k), json_string_value(v)));
    }
    if (!json_is_number(v))
        return true;
    double x = json_number_value(v);
    return !((k = json_object_get(s, "minimum")) != NULL && x < json_number_value(k)) &&
           !((k = json_object_get(s, "maximum")) != NULL && x > json_number_value(k)) &&
           !((k = json_object_get(s, "exclusiveMinimum")) != NULL && x <= json_number_value(k)) &&
           !((k = json_object_get(s, "exclusiveMaximum")) != NULL && x >= json_number_value(k)) &&
           !((k = json_object_get(s, "multipleOf")) != NULL && fmod(x, json_number_value(k)) != 0);
}

static bool valid(const json_t *s, const json_t *v) {
    const json_t *k;
    json_t *sub;
    size_t i, hits = 0;
    if (json_is_boolean(s))
        return json_is_true(s);
    if ((k = json_object_get(s, "$ref")) != NULL) {
        const char *name = strrchr(json_string_value(k), '/');
        const json_t *to =
            name == NULL ? document : json_object_get(json_object_get(document, "$defs"), name + 1);
        if (!valid(to, v))
            return false;
    }
    if ((k = json_object_get(s, "type")) != NULL) {
        bool ok = json_is_string(k) && is_type(v, json_string_value(k));
        json_array_foreach((json_t *)(uintptr_t)k, i, sub) ok =
            ok || is_type(v, json_string_value(sub));
        if (!ok)
            return false;
    }
    if ((k = json_object_get(s, "const")) != NULL && !equal(k, v))
        return false;
    if ((k = json_object_get(s, "enum")) != NULL) {
        json_array_foreach((json_t *)(uintptr_t)k, i, sub) hits += equal(sub, v);
        if (hits == 0)
            return false;
    }
    json_array_foreach(json_object_get(s, "allOf"), i, sub) if (!valid(sub, v)) return false;
    hits = 0;
    json_array_foreach(json_object_get(s, "anyOf"), i, sub) hits += valid(sub, v);
    if (json_object_get(s, "anyOf") != NULL && hits == 0)
        return false;
    hits = 0;
    json_array_foreach(json_object_get(s, "oneOf"), i, sub) hits += valid(sub, v);
    if (json_object_get(s, "oneOf") != NULL && hits != 1)
        return false;
    return json_is_object(v)  ? valid_object(s, v)
           : json_is_array(v) ? valid_array(s, v)
                              : valid_scalar(s, v);
}

/* ------------------------------------------------------------------ random schemas */

static struct rng r = { 20241124 };

static json_t *scalar(void) {
    static const char *const words[] = { "", "a", "ab", "b", "x1", "\xc3\xa9", "aaaa" };
    switch (rng_below(&r, 6)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(rng_below(&r, 2));
    case 2:
        return json_real((double)rng_below(&r, 200) / 8 - 10);
    case 3:
    case 4:
        return json_integer((json_int_t)rng_below(&r, 40) - 15);
    default:
        return json_string(words[rng_below(&r, sizeof words / sizeof words[0])]);
    }
}

static void set(json_t *o, const char *key, json_t *v) {
    assert_int_equal(json_object_set_new(o, key, v), 0);
}

static json_t *schema(unsigned depth);

static void about_numbers(json_t *s) {
    static const char *const low[] = { "minimum", "exclusiveMinimum" };
    static const char *const high[] = { "maximum", "exclusiveMaximum" };
    set(s, "type", json_string(rng_below(&r, 2) ? "integer" : "number"));
    if (rng_below(&r, 2))
        set(s, low[rng_below(&r, 2)],
            rng_below(&r, 2) ? json_integer((json_int_t)rng_below(&r, 300) - 150)
                             : json_real((double)rng_below(&r, 80) / 4 - 10));
    if (rng_below(&r, 2))
        set(s, high[rng_below(&r, 2)],
            rng_below(&r, 2) ? json_integer((json_int_t)rng_below(&r, 3000) - 50)
                             : json_real((double)rng_below(&r, 80) / 4));
    if (rng_below(&r, 4) == 0)
        set(s, "multipleOf",
            rng_below(&r, 2) ? json_integer(1 + rng_below(&r, 12)) : json_real(0.25));
}

static void about_strings(json_t *s) {
    static const char *const patterns[] = { "^a",        "b$",    "^[a-c]*$", "a.*b",
                                            "^(ab|x)+$", "[0-9]", "^.{2}$" };
    set(s, "type", json_string("string"));
    if (rng_below(&r, 3) == 0)
        set(s, "minLength", json_integer(rng_below(&r, 4)));
    if (rng_below(&r, 3) == 0)
        set(s, "maxLength", json_integer(rng_below(&r, 70)));
    if (rng_below(&r, 2))
        set(s, "pattern", json_string(patterns[rng_below(&r, 7)]));
}

static void about_arrays(json_t *s, unsigned depth) {
    set(s, "type", json_string("array"));
    if (rng_below(&r, 2))
        set(s, "items", schema(depth + 1));
    if (rng_below(&r, 3) == 0) {
        json_t *places = json_array();
        for (uint32_t i = 0, n = 1 + rng_below(&r, 3); i < n; i++)
            json_array_append_new(places, schema(depth + 1));
        set(s, "prefixItems", places);
    }
    if (rng_below(&r, 3) == 0)
        set(s, "minItems", json_integer(rng_below(&r, 3)));
    if (rng_below(&r, 3) == 0)
        set(s, "maxItems", json_integer(rng_below(&r, 5)));
}

static void about_objects(json_t *s, unsigned depth) {
    static const char *const names[] = { "a", "b", "ab", "abc", "id", "\xc3\xa9", "a\"" };
    json_t *properties = json_object(), *required = json_array();
    set(s, "type", json_string("object"));
    for (uint32_t i = 0, n = rng_below(&r, 6); i < n; i++)
        set(properties, names[rng_below(&r, 7)], schema(depth + 1));
    for (uint32_t i = 0, n = rng_below(&r, 3); i < n; i++)
        json_array_append_new(required, json_string(names[rng_below(&r, 7)]));
    set(s, "properties", properties);
    set(s, "required", required);
    if (rng_below(&r, 2))
        set(s, "additionalProperties", rng_below(&r, 2) ? json_false() : schema(depth + 1));
    if (rng_below(&r, 5) == 0) {
        static const char *const patterns[] = { "^a", "b", "^[ab]$" };
        json_t *by = json_object();
        set(by, patterns[rng_below(&r, 3)], schema(depth + 1));
        set(s, "patternProperties", by);
    }
    if (rng_below(&r, 8) == 0)
        set(s, "minProperties", json_integer(1));
}

static json_t *schema(unsigned depth) {
    json_t *s = json_object();
    uint32_t kind = rng_below(&r, depth > 2 ? 4 : 11);
    if (rng_below(&r, 12) == 0) {
        json_decref(s);
        return json_boolean(rng_below(&r, 4) != 0);
    }
    if (kind == 0) {
        json_t *list = json_array();
        for (uint32_t i = 0, n = 1 + rng_below(&r, 4); i < n; i++)
            json_array_append_new(list, scalar());
        set(s, "enum", list);
    } else if (kind == 1)
        about_numbers(s);
    else if (kind == 2)
        about_strings(s);
    else if (kind == 3)
        set(s, "type",
            json_pack("[s,s]", rng_below(&r, 2) ? "null" : "boolean",
                      rng_below(&r, 2) ? "integer" : "string"));
    else if (kind <= 5)
        about_arrays(s, depth);
    else if (kind <= 8)
        about_objects(s, depth);
    else if (kind == 9)
        set(s, "$ref", json_string(rng_below(&r, 2) ? "#/$defs/x" : "#/$defs/y"));
    else {
        static const char *const words[] = { "anyOf", "allOf", "oneOf" };
        json_t *list = json_array();
        for (uint32_t i = 0, n = 1 + rng_below(&r, 3); i < n; i++)
            json_array_append_new(list, schema(depth + 1));
        set(s, words[rng_below(&r, 3)], list);
    }
    return s;
}

/* ------------------------------------------------------------------ documents */

/* A copy with something changed: a value replaced, a member or an item taken away or put in. */
static json_t *changed(const json_t *v, unsigned depth) {
    if (rng_below(&r, 4) == 0 || depth > 3)
        return scalar();
    if (json_is_object(v)) {
        json_t *out = json_object(), *member;
        const char *key;
        json_object_foreach((json_t *)(uintptr_t)v, key, member) {
            uint32_t what = rng_below(&r, 6);
            if (what != 0)
                set(out, key, what == 1 ? changed(member, depth + 1) : json_incref(member));
        }
        if (rng_below(&r, 3) == 0)
            set(out, rng_below(&r, 2) ? "new" : "a", scalar());
        return out;
    }
    if (json_is_array(v)) {
        json_t *out = json_array();
        for (size_t i = 0; i < json_array_size(v); i++) {
            uint32_t what = rng_below(&r, 6);
            if (what != 0)
                json_array_append_new(out, what == 1 ? changed(json_array_get(v, i), depth + 1)
                                                     : json_incref(json_array_get(v, i)));
        }
        if (rng_below(&r, 3) == 0)
            json_array_append_new(out, scalar());
        return out;
    }
    return scalar();
}

/* Members of objects whose order is the schema's in no simple way are out of the second question. */
static bool plain_order(const json_t *v) {
    if (json_is_object(v))
        return json_object_size(v) < 2;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!plain_order(json_array_get(v, i)))
            return false;
    return true;
}

static unsigned n_taken, n_refused, n_walks;

static void check_changed(struct matcher *m, const json_t *s, const json_t *from) {
    json_t *v = changed(from, 0);
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    bool ends, good = valid(s, v);
    assert_non_null(text);
    walk_bytes(m, text, strlen(text), &ends);
    bool must = good && plain_order(v) && strstr(text, ".0") == NULL &&
                strstr(text, "\\u") == NULL; /* spellings */
    if ((ends && !good) || (must && !ends)) {
        char *as = json_dumps(s, JSON_ENCODE_ANY);
        printf("# %s\n# %s is %s and was %s\n", as, text, good ? "valid" : "not valid",
               ends ? "taken" : "refused");
        free(as);
    }
    assert_false(ends && !good);
    assert_false(must && !ends);
    n_taken += ends;
    n_refused += !ends;
    free(text);
    json_decref(v);
}

static void check_walks(const struct grammar *g, const json_t *s) {
    struct matcher *m = NULL;
    assert_int_equal(matcher_new(NULL, g, vocab, &m, NULL), SLM_OK);
    for (int i = 0; i < 6; i++) {
        char out[8192];
        size_t n = walk_random(m, &pieces, &r, 25, out, sizeof out);
        assert_true(n != SIZE_MAX);
        if (n == SIZE_MAX - 1)
            continue;
        json_t *v = NULL;
        slm_why why = { .message = "" };
        slm_err err = json_text(out, n, &v, &why);
        if (err != SLM_OK || !valid(s, v)) {
            char *as = json_dumps(s, JSON_ENCODE_ANY);
            printf("# %s\n# wrote %.*s %s\n", as, (int)n, out, why.message);
            free(as);
        }
        assert_int_equal(err, SLM_OK);
        assert_true(valid(s, v));
        n_walks++;
        size_t cut = n > 0 ? rng_below(&r, (uint32_t)n) : 0;
        matcher_reset(m);
        assert_true(cut == 0 || matcher_accept_bytes(m, out, cut));
        assert_true(mask_is_right(m, &pieces, out, cut));
        for (int k = 0; k < 8; k++)
            check_changed(m, s, v);
        json_decref(v);
    }
    matcher_free(m);
}

static void test_random(void **state) {
    (void)state;
    const char *wanted = getenv("SLM_RANDOM_SCHEMAS");
    unsigned n = wanted != NULL ? (unsigned)atoi(wanted) : 400, compiled = 0, empty = 0,
             refused = 0;
    for (unsigned i = 0; i < n; i++) {
        json_t *s = schema(0), *defs = json_object();
        if (!json_is_object(s)) {
            json_decref(s);
            s = json_object();
        }
        set(defs, "x", schema(1));
        set(defs, "y", schema(2));
        set(s, "$defs", defs);
        document = s;
        struct grammar *g = NULL;
        struct grammar_limits limits = { .any_whitespace = rng_below(&r, 3) == 0 };
        slm_why why = { .message = "" };
        slm_err err = grammar_schema(NULL, s, &limits, &g, &why);
        if (err == SLM_OK) {
            compiled++;
            check_walks(g, s);
        } else {
            assert_true(err == SLM_E_UNSUPPORTED ||
                        (err == SLM_E_FORMAT && strstr(why.message, "nothing can")));
            empty += err == SLM_E_FORMAT;
            refused += err != SLM_E_FORMAT;
        }
        grammar_free(g);
        json_decref(s);
    }
    printf("# %u schemas: %u compiled, %u of nothing, %u refused; %u answers written, %u documents "
           "taken, %u not\n",
           n, compiled, empty, refused, n_walks, n_taken, n_refused);
    assert_true(compiled > n / 2);
    assert_true(n_walks > compiled && n_taken > compiled && n_refused > compiled);
}

static int setup(void **state) {
    (void)state;
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) /* the validator's expressions read characters */
        return -1;
    pieces_bytes(&pieces);
    return constrain_vocab_new(NULL, pieces.tokens, pieces.n, &vocab, NULL) == SLM_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    constrain_vocab_free(vocab);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };
    return cmocka_run_group_tests(tests, setup, teardown);
}
