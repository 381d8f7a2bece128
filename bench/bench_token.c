/* bench_token.c - MB/s of the tokenizers on 16 MiB of each kind of character, on a 64 KiB stack.
 *
 *   bench_token TOKENIZER.json [MIB [KIND]]
 *
 * Prints one line per kind: name, MB/s of encoding (CPU time of the thread), ids, MB/s of decoding. Runs of one character
 * and of random characters of a class are the cases in which other tokenizers fail or crawl. */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/utf8.h"
#include "token/token.h"

struct kind {
    const char *name;
    uint32_t first, last; /* random characters from here to there */
};
static const struct kind kinds[] = {
    { "letter a", 'a', 'a' },      { "letters", 'a', 'z' },
    { "capital A", 'A', 'A' },     { "capitals", 'A', 'Z' },
    { "CJK", 0x4e00, 0x9fa5 },     { "Hangul", 0xac00, 0xd7a3 },
    { "digits", '0', '9' },        { "spaces", ' ', ' ' },
    { "newlines", '\n', '\n' },    { "tabs", '\t', '\t' },
    { "dots", '.', '.' },          { "punctuation", '!', '/' },
    { "mark", 0x301, 0x301 },      { "marks", 0x300, 0x36f },
    { "emoji", 0x1f600, 0x1f64f }, { "unassigned", 0xe0080, 0xe00ff },
    { "ASCII", ' ', '~' },         { "mixed", 0, 0 },
    { "English", 0, 0 },
};

static uint32_t state = 1;
static uint32_t draw(uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * below >> 32);
}

static size_t fill(const struct kind *kind, char *text, size_t n) {
    static const char english[] =
        "The quick brown fox jumps over the lazy dog, and then it's told that nothing of this "
        "kind was ever seen in 1984. \"Why?\" asked Anna; there were reasons, of course, such as "
        "weather, taste and money.\n\n";
    size_t at = 0, e = draw(sizeof english - 1);
    while (at + 4 < n) {
        if (strcmp(kind->name, "English") == 0) {
            /* sentences in changing order */
            text[at++] = english[e];
            if (english[e] == ' ' && draw(8) == 0)
                e = draw(sizeof english - 1);
            e = (e + 1) % (sizeof english - 1);
            continue;
        }
        const struct kind *k = kind->last != 0 ? kind : &kinds[draw(17)];
        at += utf8_encode(k->first + draw(k->last - k->first + 1), text + at);
    }
    return at;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct job {
    const struct tokenizer *t;
    struct token_piece piece;
    int32_t *ids;
    size_t n_ids;
    slm_err err;
    double encode_s, decode_s;
    bool same;
};

static void *work(void *arg) {
    struct job *j = arg;
    struct slm_hooks hooks;
    hooks_init(&hooks, NULL);
    double start = now();
    j->err = tokenizer_encode(j->t, &j->piece, 1, 0, &j->ids, &j->n_ids, NULL);
    j->encode_s = now() - start;
    if (j->err != SLM_OK)
        return NULL;
    struct buf out;
    buf_init(&out, &hooks, j->piece.n * 4 + 64);
    start = now();
    j->err = tokenizer_decode(j->t, j->ids, j->n_ids, false, &out, NULL);
    j->decode_s = now() - start;
    j->same = out.len == j->piece.n && memcmp(out.data, j->piece.text, out.len) == 0;
    buf_free(&out);
    return NULL;
}

int main(int argc, char **argv) {
    slm_why why;
    char *json;
    size_t n_json, mib = argc > 2 ? (size_t)atoi(argv[2]) : 16, n = mib << 20;
    struct tokenizer *t;
    if (argc < 2 || file_read(NULL, argv[1], (size_t)1 << 30, &json, &n_json, &why) != SLM_OK) {
        fprintf(stderr, "usage: bench_token TOKENIZER.json [MIB [KIND]]\n");
        return 2;
    }
    double start = now();
    if (tokenizer_from_json(NULL, json, n_json, &t, &why) != SLM_OK) {
        fprintf(stderr, "%s: %s\n", argv[1], why.message);
        return 1;
    }
    printf("load\t%.0f ms\t%.1f MB\n", (now() - start) * 1e3, (double)n_json * 1e-6);
    char *text = malloc(n);
    const char *only = argc > 3 ? argv[3] : NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (only != NULL && strcmp(only, kinds[i].name) != 0)
            continue;
        struct job job = { .t = t };
        job.piece = (struct token_piece){ text, fill(&kinds[i], text, n), false };
        pthread_attr_t attr;
        pthread_t thread;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 65536);
        pthread_create(&thread, &attr, work, &job);
        pthread_join(thread, NULL);
        if (job.err != SLM_OK)
            return 1;
        double mb = (double)job.piece.n * 1e-6;
        printf("%-12s\t%7.1f MB/s\t%9zu ids\tdecode %7.1f MB/s%s\n", kinds[i].name,
               mb / job.encode_s, job.n_ids, mb / job.decode_s,
               job.same ? "" : "\tnot the same text");
        free(job.ids);
    }
    free(text);
    tokenizer_free(t);
    free(json);
    return 0;
}
