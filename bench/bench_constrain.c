/* bench_constrain.c - what constraints cost with a real vocabulary.
 *
 *   bench_constrain TOKENIZER.json
 *
 * Prints: building the vocabulary's trie (time, bytes); compiling a schema of 250 KB; for a few
 * constraints, and an answer of each written by choosing among the allowed ids at random, the time of
 * masks: the first visit of each state, and visits of states that were met before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/pool.h"
#include "constrain/constrain.h"
#include "token/token.h"

static struct constrain_vocab *vocab;
static uint32_t n_ids;

static uint64_t seed = 1;
static uint32_t draw(uint32_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static double ms_since(uint64_t start) {
    return (double)(clock_ns() - start) / 1e6;
}

static void make_vocab(const struct tokenizer *t) {
    struct constrain_token *tokens = calloc(n_ids, sizeof *tokens);
    size_t longer = 0;
    for (uint32_t i = 0; tokens != NULL && i < n_ids; i++)
        if (!token_is_control(t, (int32_t)i))
            token_text_of(t, (int32_t)i, &tokens[i].s, &tokens[i].n);
    for (uint32_t i = 0; tokens != NULL && i < n_ids; i++)
        longer += tokens[i].n > 32;
    uint64_t start = clock_ns();
    if (tokens == NULL || constrain_vocab_new(NULL, tokens, n_ids, &vocab, NULL) != SLM_OK)
        exit(1);
    printf("vocabulary of %u ids (%zu longer than 32 bytes): %.1f ms, %.1f MB\n", n_ids, longer,
           ms_since(start), (double)constrain_vocab_bytes(vocab) / 1e6);
    free(tokens);
}

/* ids that end an answer soonest, or any */
static int32_t choose(const uint32_t *mask, unsigned step, unsigned most,
                      const struct tokenizer *t) {
    static const char *const ends[] = { "\"", "\"}", "}", "]", "\"]" };
    for (size_t i = 0; step > most && i < sizeof ends / sizeof ends[0]; i++) {
        int32_t id = token_id_of(t, ends[i], strlen(ends[i]));
        if (id >= 0 && (mask[id / 32] >> (id % 32) & 1))
            return id;
    }
    for (;;) { /* random start, next allowed */
        uint32_t at = draw(n_ids);
        for (uint32_t k = 0; k < n_ids; k++, at = at + 1 == n_ids ? 0 : at + 1)
            if (mask[at / 32] >> (at % 32) & 1)
                return (int32_t)at;
        return -1;
    }
}

static void run(const char *name, struct grammar *g, const struct tokenizer *t, unsigned most) {
    double first_sum = 0, first_max = 0, sum = 0, max = 0, accept = 0;
    unsigned n_first = 0, n = 0;
    struct matcher *m = NULL;
    if (matcher_new(NULL, g, vocab, &m, NULL) != SLM_OK)
        exit(1);
    for (int answer = 0; answer < 40; answer++) {
        matcher_reset(m);
        for (unsigned step = 0; step < most + 60 && !matcher_must_end(m); step++) {
            const uint32_t *mask;
            slm_why why;
            size_t before = grammar_bytes(g);
            uint64_t start = clock_ns();
            if (matcher_mask(m, &mask, &why) != SLM_OK) {
                printf("%s: %s\n", name, why.message);
                exit(1);
            }
            double took = ms_since(start);
            if (grammar_bytes(g) != before) {
                first_sum += took;
                first_max = took > first_max ? took : first_max;
                n_first++;
            } else {
                sum += took;
                max = took > max ? took : max;
                n++;
            }
            int32_t id = choose(mask, step, most, t);
            start = clock_ns();
            if (id < 0 || !matcher_accept(m, id))
                break;
            accept += ms_since(start);
        }
    }
    printf("%-22s first visits %4u: mean %7.4f max %7.3f ms; later %5u: mean %7.4f max %7.3f ms; "
           "accept %.5f ms; "
           "%u nodes, %.2f MB\n",
           name, n_first, n_first ? first_sum / n_first : 0, first_max, n, n ? sum / n : 0, max,
           n + n_first ? accept / (n + n_first) : 0, grammar_nodes(g),
           (double)grammar_bytes(g) / 1e6);
    matcher_free(m);
}

static void schema_run(const char *name, const char *text, const struct tokenizer *t,
                       unsigned most) {
    json_t *v = NULL;
    struct grammar *g = NULL;
    slm_why why = { .message = "" };
    if (json_text(text, strlen(text), &v, &why) != SLM_OK ||
        grammar_schema(NULL, v, NULL, &g, &why) != SLM_OK) {
        printf("%s: %s\n", name, why.message);
        exit(1);
    }
    run(name, g, t, most);
    grammar_free(g);
    json_decref(v);
}

static void compile_large(bool open) {
    size_t room = 400000, n = 0;
    char *text = malloc(room);
    if (text == NULL)
        exit(1);
    n += (size_t)snprintf(text + n, room - n, "{\"type\":\"object\",\"properties\":{");
    for (unsigned i = 0; n < 250000; i++)
        n += (size_t)snprintf(
            text + n, room - n,
            "%s\"section_%u\":{\"type\":\"object\",\"description\":\"Section number %u of the "
            "form, with its fields\","
            "\"properties\":{\"identifier\":{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-\\\\d{4}$"
            "\"},\"title\":{\"type\":"
            "\"string\",\"minLength\":1,\"maxLength\":120},\"kind\":{\"enum\":[\"alpha_%u\","
            "\"beta\",\"gamma\"]},\"count\":{"
            "\"type\":\"integer\",\"minimum\":0,\"maximum\":%u},\"when\":{\"type\":\"string\","
            "\"format\":\"date-time\"},"
            "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":10},"
            "\"nested\":{\"anyOf\":[{\"type\":"
            "\"null\"},{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\"},\"y\":{"
            "\"type\":\"number\"}},"
            "\"required\":[\"x\",\"y\"]%s}]}},\"required\":[\"identifier\",\"kind\"]%s}",
            i ? "," : "", i, i, i, 1000 + i, open ? "" : ",\"additionalProperties\":false",
            open ? "" : ",\"additionalProperties\":false");
    n += (size_t)snprintf(text + n, room - n, "}}");
    json_t *v = NULL;
    if (json_text(text, n, &v, NULL) != SLM_OK)
        exit(1);
    double best = 1e9;
    struct grammar *g = NULL;
    for (int i = 0; i < 5; i++) {
        slm_why why = { .message = "" };
        grammar_free(g);
        g = NULL;
        uint64_t start = clock_ns();
        if (grammar_schema(NULL, v, NULL, &g, &why) != SLM_OK)
            printf("%s\n", why.message);
        double took = ms_since(start);
        best = took < best ? took : best;
    }
    if (g != NULL)
        printf("schema of %zu bytes, %s: %.1f ms, %u nodes, %.1f MB\n", n,
               open ? "open objects" : "closed objects", best, grammar_nodes(g),
               (double)grammar_bytes(g) / 1e6);
    grammar_free(g);
    json_decref(v);
    free(text);
}

int main(int argc, char **argv) {
    struct mapping f;
    struct tokenizer *t = NULL;
    slm_why why = { .message = "" };
    if (argc != 2 || file_map(argv[1], &f, &why) != SLM_OK ||
        tokenizer_from_json(NULL, (const char *)f.data, f.size, &t, &why) != SLM_OK) {
        printf("bench_constrain TOKENIZER.json: %s\n", why.message);
        return 2;
    }
    n_ids = tokenizer_size(t);
    make_vocab(t);
    compile_large(false);
    compile_large(true);
    struct grammar *g = NULL;
    if (grammar_json(NULL, NULL, &g, &why) != SLM_OK)
        return 1;
    run("any object", g, t, 100);
    grammar_free(g);
    schema_run("strings",
               "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":"
               "\"string\"}},"
               "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}",
               t, 100);
    schema_run(
        "string of 2000",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":2000},"
        "\"b\":{\"type\":\"string\",\"maxLength\":100}},"
        "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}",
        t, 100);
    schema_run("numbers and enums",
               "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":"
               "[\"red\",\"green\",\"blue\"]},"
               "\"n\":{\"type\":\"integer\",\"minimum\":-5,\"maximum\":5000},\"d\":{\"type\":"
               "\"string\",\"format\":\"date\"}},"
               "\"required\":[\"k\",\"n\",\"d\"],\"additionalProperties\":false}}",
               t, 100);
    g = NULL;
    const char *pattern = "[A-Z][a-z]{2,30}( [A-Z][a-z]{1,20}){1,3}";
    if (grammar_regex(NULL, pattern, strlen(pattern), NULL, &g, &why) != SLM_OK)
        return 1;
    run("names (expression)", g, t, 30);
    grammar_free(g);
    constrain_vocab_free(vocab);
    tokenizer_free(t);
    file_unmap(&f);
    return 0;
}
