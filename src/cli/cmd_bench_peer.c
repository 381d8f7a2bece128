/* cmd_bench_peer.c - llama.cpp's llama-bench on the same file, one round at a time.
 *
 * The words of --peer are its command and whatever stands before it ("chroot DIR llama-bench"); added
 * are  -m FILE -t THREADS -p P -n N -d DEPTH -r 1 -fa SETTINGS -o json.  It prints an array of objects,
 * one per test, of which are read: n_prompt, n_gen, n_depth, flash_attn, avg_ts (tokens per second),
 * build_commit and build_number. Everything it prints is judged before it is used. Both settings of
 * flash attention run, and for each cell the better one counts: which one wins depends on processor,
 * model and depth. At a depth each setting has a run of its own, because the program takes the keys
 * and values of one test over into the next, which do not fit the other setting. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/pool.h"
#include "cli/cmd_bench.h"

#define PEER_MOST_BYTES ((size_t)1 << 20)
#define PEER_MOST_ROWS 64
#define PEER_MOST_RATE 1e9 /* tokens per second: more is no measurement */
#define PEER_TIMEOUT_S 3600

/* ------------------------------------------------------------------ its output */

static bool number_of(const json_t *row, const char *key, double *out) {
    const json_t *v = json_object_get(row, key);
    if (!json_is_number(v))
        return false;
    *out = json_number_value(v);
    return isfinite(*out) != 0;
}

/* 0 or 1 of a boolean or a number; -1: neither. */
static int setting_of(const json_t *row) {
    const json_t *v = json_object_get(row, "flash_attn");
    double number;
    if (json_is_boolean(v))
        return json_is_true(v) ? FLASH_ON : FLASH_OFF;
    if (!number_of(row, "flash_attn", &number))
        return -1;
    return number == 1 ? FLASH_ON : number == 0 ? FLASH_OFF : -1;
}

/* The test that a row is about; false: none that was asked for. */
static bool row_place(const struct bench *b, const json_t *row, uint32_t depth, int *setting,
                      int *kind) {
    double prompt, output, at;
    if (!number_of(row, "n_prompt", &prompt) || !number_of(row, "n_gen", &output))
        return false;
    if (!number_of(row, "n_depth", &at))
        at = 0; /* versions that know no depth */
    *setting = setting_of(row);
    *kind = prompt == b->prompt && output == 0   ? BENCH_PREFILL
            : prompt == 0 && output == b->output ? BENCH_DECODE
                                                 : -1;
    return *setting >= 0 && *kind >= 0 && at == depth;
}

static void note_build(struct bench *b, const json_t *row) {
    const char *commit = json_string_value(json_object_get(row, "build_commit"));
    double number;
    char text[sizeof b->peer_build];
    if (b->peer_build[0] || !commit || !number_of(row, "build_number", &number))
        return;
    if (number > 0)
        snprintf(text, sizeof text, "build %.0f %.32s", number, commit);
    else
        snprintf(text, sizeof text, "%.40s", commit);
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    memcpy(b->peer_build, text, sizeof text);
}

static bool complain(char *why, size_t size, const char *what) {
    snprintf(why, size, "%s", what);
    return false;
}

/* Rates of one run's document into `rate`, marked in `seen`. */
static bool read_rows(struct bench *b, const json_t *doc, uint32_t depth,
                      double rate[FLASH_SETTINGS][BENCH_KINDS],
                      bool seen[FLASH_SETTINGS][BENCH_KINDS], char *why, size_t size) {
    if (!json_is_array(doc) || json_array_size(doc) > PEER_MOST_ROWS)
        return complain(why, size, "the peer printed JSON, but not the list of results of a bench");
    for (size_t i = 0; i < json_array_size(doc); i++) {
        const json_t *row = json_array_get(doc, i);
        int setting, kind;
        double speed;
        if (!row_place(b, row, depth, &setting, &kind))
            continue;
        if (!number_of(row, "avg_ts", &speed) || speed <= 0 || speed > PEER_MOST_RATE)
            return complain(why, size, "the peer's speed (avg_ts) is no positive number");
        rate[setting][kind] = speed;
        seen[setting][kind] = true;
        note_build(b, row);
    }
    return true;
}

/* ------------------------------------------------------------------ its command */

static char *number_word(uint32_t n) {
    return text_printf("%u", n);
}

/* The command of a run; words_free frees it. */
static char **command(const struct bench *b, uint32_t depth, const char *settings) {
    char *const more[] = { text_printf("-m"),  text_printf("%s", b->m.found.path),
                           text_printf("-t"),  number_word(b->machine.threads),
                           text_printf("-p"),  number_word(b->prompt),
                           text_printf("-n"),  number_word(b->output),
                           text_printf("-d"),  number_word(depth),
                           text_printf("-r"),  number_word(1),
                           text_printf("-fa"), text_printf("%s", settings),
                           text_printf("-o"),  text_printf("json") };
    char **words = keep(calloc(b->n_peer + ARRAY_LEN(more) + 1, sizeof *words));
    for (size_t i = 0; i < b->n_peer; i++)
        words[i] = text_printf("%s", b->peer[i]);
    memcpy(words + b->n_peer, more, sizeof more);
    return words;
}

/* How it ended, in words; true when it ended well. */
static bool judge_end(const struct bench *b, const struct child *c, unsigned timeout_s, char *why,
                      size_t size) {
    const char *name = b->peer[0], *said = c->said[0] ? ": " : "";
    switch (c->end) {
    case CHILD_EXITED:
        if (c->status == 0)
            return true;
        snprintf(why, size, "the peer (%.64s) ended with exit code %d%s%s", name, c->status, said,
                 c->said);
        break;
    case CHILD_KILLED:
        snprintf(why, size, "the peer (%.64s) was ended by signal %d%s%s", name, c->status, said,
                 c->said);
        break;
    case CHILD_NOT_STARTED:
        snprintf(why, size, "the peer (%.64s) cannot be started: %s", name, strerror(c->status));
        break;
    case CHILD_TIMEOUT:
        snprintf(why, size, "the peer (%.64s) was ended: it took more than %u s", name, timeout_s);
        break;
    case CHILD_TOO_MUCH:
        snprintf(why, size, "the peer (%.64s) was ended: it printed more than %zu bytes", name,
                 PEER_MOST_BYTES);
        break;
    case CHILD_INTERRUPTED:
        snprintf(why, size, "interrupted");
        break;
    }
    return false;
}

static int run_once(struct bench *b, uint32_t depth, const char *settings,
                    double rate[FLASH_SETTINGS][BENCH_KINDS],
                    bool seen[FLASH_SETTINGS][BENCH_KINDS], char *why, size_t size) {
    unsigned timeout_s = (unsigned)opt_int(b->c, OPT_BENCH_PEER_TIMEOUT, PEER_TIMEOUT_S);
    char **words = command(b, depth, settings);
    struct child child;
    json_t *doc = NULL;
    slm_why wrong;
    child_run(words, timeout_s, PEER_MOST_BYTES, &child);
    words_free(words);
    bool good = judge_end(b, &child, timeout_s, why, size);
    if (good && json_text(child.out, child.n, &doc, &wrong) != SLM_OK) {
        snprintf(why, size, "the peer's output is not JSON: %s%s%s",
                 child.n ? wrong.message : "it printed nothing", child.said[0] ? "; it said: " : "",
                 child.said);
        good = false;
    }
    good = good && read_rows(b, doc, depth, rate, seen, why, size);
    json_decref(doc);
    bool stopped = child.end == CHILD_INTERRUPTED;
    child_free(&child);
    return good ? EXIT_DONE : stopped ? EXIT_INTERRUPTED : EXIT_COULD_NOT;
}

/* ------------------------------------------------------------------ a round */

int peer_round(struct bench *b, uint32_t depth, double rate[FLASH_SETTINGS][BENCH_KINDS], char *why,
               size_t size) {
    static const char *const together[] = { "0,1", NULL }, *const apart[] = { "0", "1", NULL };
    bool seen[FLASH_SETTINGS][BENCH_KINDS] = { { false } };
    int code = EXIT_DONE;
    for (const char *const *s = depth ? apart : together; *s && code == EXIT_DONE; s++)
        code = run_once(b, depth, *s, rate, seen, why, size);
    for (int f = 0; f < FLASH_SETTINGS && code == EXIT_DONE; f++)
        for (int k = 0; k < BENCH_KINDS && code == EXIT_DONE; k++)
            if (!seen[f][k]) {
                snprintf(why, size, "the peer gave no result for %s with flash attention %s",
                         k == BENCH_PREFILL ? "prefill" : "decode", f == FLASH_ON ? "on" : "off");
                code = EXIT_COULD_NOT;
            }
    return code;
}

void peer_summarise(struct cell *cell) {
    struct peer_side *p = &cell->peer;
    for (int f = 0; f < FLASH_SETTINGS; f++)
        samples_summarise(&p->setting[f]);
    p->best = p->setting[FLASH_ON].median > p->setting[FLASH_OFF].median ? FLASH_ON : FLASH_OFF;
    const struct samples *theirs = &p->setting[p->best];
    if (theirs->n == 0 || theirs->median <= 0)
        return;
    p->ratio = cell->ours.median / theirs->median;
    for (size_t i = 0; i < theirs->n && i < cell->ours.n; i++) {
        double r = cell->ours.rate[i] / theirs->rate[i];
        p->ratio_low = i == 0 || r < p->ratio_low ? r : p->ratio_low;
        p->ratio_high = i == 0 || r > p->ratio_high ? r : p->ratio_high;
    }
}
