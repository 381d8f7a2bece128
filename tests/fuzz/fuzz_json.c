/* fuzz_json.c - the pull parser against jansson: both accept the same documents, and the events
 * build the same tree. Where the two differ on purpose is said in `comparable`. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* the library under test only returns errors; the fuzzer wants a crash */
static void expect(bool truth) {
    if (!truth)
        abort();
}

/* Adds v to the innermost open container, or makes it the document. Takes v. */
static void attach(json_t **open, unsigned depth, char keys[][256], json_t **root, json_t *v) {
    expect(v != NULL);
    if (depth == 0)
        *root = v;
    else if (json_is_array(open[depth - 1]))
        json_array_append_new(open[depth - 1], v);
    else
        json_object_set_new(open[depth - 1], keys[depth - 1], v);
}

/* Builds a tree from the events; NULL on error. *odd is set where jansson is known to differ:
 * zero bytes, keys that are too long for this test or repeated, numbers out of its range. */
static json_t *tree_of(const char *text, size_t n, bool *odd, slm_err *err) {
    struct json_pull p;
    slm_why why;
    json_t *open[JSON_PULL_DEPTH], *root = NULL;
    static char keys[JSON_PULL_DEPTH][256];
    unsigned depth = 0;
    json_pull_init(&p, NULL, text, n, &why);
    for (;;) {
        enum json_event e = json_next(&p);
        expect(p.pos <= n && p.depth <= JSON_PULL_DEPTH);
        json_t *v = NULL;
        char number[512];
        switch (e) {
        case PULL_ERROR:
            expect(p.err != SLM_OK && why.code == p.err && why.offset <= n);
            json_decref(root);
            root = NULL;
            /* fall through */
        case PULL_END:
            *err = p.err;
            json_pull_free(&p);
            return root;
        case PULL_OBJECT:
        case PULL_ARRAY:
            v = e == PULL_OBJECT ? json_object() : json_array();
            attach(open, depth, keys, &root, v);
            open[depth++] = v;
            continue;
        case PULL_OBJECT_END:
        case PULL_ARRAY_END:
            depth--;
            continue;
        case PULL_KEY:
            *odd |= p.n > 255 || memchr(p.text, 0, p.n) != NULL;
            snprintf(keys[depth - 1], sizeof keys[0], "%.*s", (int)(p.n > 255 ? 255 : p.n), p.text);
            *odd |= json_object_get(open[depth - 1], keys[depth - 1]) != NULL;
            continue;
        case PULL_STRING:
            *odd |= memchr(p.text, 0, p.n) != NULL;
            v = json_stringn(p.text, p.n);
            break;
        case PULL_NUMBER: {
            int64_t whole;
            bool is_whole = json_pull_int(&p, &whole);
            bool real =
                memchr(p.text, '.', p.n) || memchr(p.text, 'e', p.n) || memchr(p.text, 'E', p.n);
            *odd |= !real && !is_whole; /* too big for either */
            *odd |= p.n >= sizeof number;
            snprintf(number, sizeof number, "%.*s", (int)(p.n > 500 ? 500 : p.n), p.text);
            double d = strtod(number, NULL);
            *odd |= d - d != 0; /* infinite */
            v = is_whole ? json_integer(whole) : json_real(d - d != 0 ? 0 : d);
            break;
        }
        case PULL_TRUE:
        case PULL_FALSE:
            v = json_boolean(e == PULL_TRUE);
            break;
        case PULL_NULL:
            v = json_null();
            break;
        }
        attach(open, depth, keys, &root, v);
    }
}

/* quoting what was read and reading it again gives the same bytes */
static void round_trip(const char *text, size_t n) {
    struct buf b;
    buf_init(&b, NULL, n * 6 + 2);
    json_quote(&b, text, n);
    expect(b.err == SLM_OK);
    struct json_pull p;
    json_pull_init(&p, NULL, b.data, b.len, NULL);
    expect(json_next(&p) == PULL_STRING);
    struct buf again;
    buf_init(&again, NULL, p.n * 6 + 2);
    json_quote(&again, p.text, p.n);
    expect(again.len == b.len && memcmp(again.data, b.data, b.len) == 0);
    expect(json_next(&p) == PULL_END);
    json_pull_free(&p);
    buf_free(&again);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    bool odd = false;
    slm_err err;
    json_t *mine = tree_of(text, size, &odd, &err), *ours = NULL;
    json_t *theirs = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    bool zero = size > 0 && memchr(text, 0, size) != NULL; /* jansson passes some */
    slm_err our_err = json_text(text, size, &ours, NULL);
    expect((our_err == SLM_OK) == (ours != NULL));
    if (ours != NULL)
        expect(theirs != NULL && json_equal(ours, theirs));
    if (!odd && !zero && err != SLM_E_BUDGET) {
        expect((err == SLM_OK) == (ours != NULL));
        expect((err == SLM_OK) == (theirs != NULL));
        if (err == SLM_OK)
            expect(json_equal(mine, theirs));
    }
    json_decref(mine);
    json_decref(ours);
    json_decref(theirs);
    if (size < 4096)
        round_trip(text, size);
    return 0;
}
