/* test_draft.c - guesses for speculation: what is found, what it costs, when none are made.
 *
 * Passes are simulated: the text and the time of a pass of r rows are given, so every decision is
 * reproducible. Plain decoding takes one unit per id; what a run took is compared with that. The
 * smaller model is the demo model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "session/draft.h"
#include "session/draft_lookup.h"
#include "support.h"

#define UNIT 10000000.0 /* ns of a pass of one row */
#define CONTEXT 8192

/* ------------------------------------------------------------------ small things */

struct random {
    uint64_t state;
};

static uint32_t draw(struct random *r, uint32_t below) {
    r->state = r->state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(((r->state >> 33) * below) >> 31);
}

static struct drafter *new_drafter(const struct draft_options *o) {
    struct drafter *d = NULL;
    assert_int_equal(drafter_new(NULL, o, &d, NULL), SLM_OK);
    return d;
}

static struct drafter *lookup_drafter(void) {
    struct draft_options o = { .lookup = true, .max = DRAFT_MAX, .context = CONTEXT };
    return new_drafter(&o);
}

static struct lookup *new_lookup(uint32_t context, uint32_t **index) {
    struct lookup *l = malloc(sizeof *l);
    *index = malloc((size_t)lookup_words(context) * sizeof **index);
    assert_non_null(l);
    assert_non_null(*index);
    lookup_init(l, context, *index);
    return l;
}

/* ------------------------------------------------------------------ lookup */

static void expect_guess(struct lookup *l, const int32_t *ids, uint32_t n, const int32_t *want,
                         uint32_t k) {
    int32_t out[DRAFT_MAX];
    double p[DRAFT_MAX];
    lookup_update(l, ids, n);
    assert_int_equal(lookup_guess(l, ids, k, out, p), k);
    assert_memory_equal(out, want, k * sizeof *want);
    for (uint32_t j = 0; j < k; j++)
        assert_true(p[j] > 0 && p[j] < 1);
}

static void test_lookup_finds(void **state) {
    (void)state;
    uint32_t *index;
    int32_t out[1];
    double p[1];
    struct lookup *l = new_lookup(64, &index);
    static const int32_t fresh[] = { 5, 6, 7, 8 };
    lookup_update(l, fresh, 4);
    assert_int_equal(lookup_guess(l, fresh, 1, out, p), 0);
    /* two places after (1 2): the later one */
    static const int32_t late[] = { 1, 2, 30, 9, 1, 2, 40, 8, 1, 2 };
    expect_guess(l, late, 10, (int32_t[]){ 40, 8, 1 }, 3);
    /* the longer match, although it is earlier; the end of the text continues with the guesses */
    static const int32_t longer[] = { 3, 1, 2, 4, 7, 9, 9, 1, 2, 4, 8, 3, 1, 2, 4 };
    expect_guess(l, longer, 15, (int32_t[]){ 7, 9, 9, 1 }, 4);
    static const int32_t period[] = { 6, 1, 2, 3, 1, 2, 3 };
    expect_guess(l, period, 7, (int32_t[]){ 1, 2, 3, 1, 2, 3, 1, 2 }, 8);
    free(l);
    free(index);
}

/* A text is repeated with one word replaced: the guesses go on after the word. */
static void test_lookup_resumes(void **state) {
    (void)state;
    uint32_t *index;
    struct lookup *l = new_lookup(256, &index);
    int32_t ids[100];
    for (int32_t i = 0; i < 100; i++)
        ids[i] = 100 + i % 50;
    ids[70] = 7;
    expect_guess(l, ids, 70, (int32_t[]){ 120, 121 }, 2);
    expect_guess(l, ids, 71, (int32_t[]){ 121, 122, 123 }, 3);
    expect_guess(l, ids, 72, (int32_t[]){ 122, 123, 124 }, 3);
    free(l);
    free(index);
}

/* Ids that change without a word: guesses may be bad, but come from the ids that are there. */
static void test_lookup_changed_ids(void **state) {
    (void)state;
    uint32_t *index;
    struct random r = { 5 };
    int32_t ids[512], out[DRAFT_MAX];
    double p[DRAFT_MAX];
    struct lookup *l = new_lookup(512, &index);
    for (int i = 0; i < 512; i++)
        ids[i] = (int32_t)draw(&r, 4);
    for (int round = 0; round < 20000; round++) {
        uint32_t n = 1 + draw(&r, 512);
        ids[draw(&r, 512)] = (int32_t)draw(&r, 4);
        lookup_update(l, ids, n);
        assert_int_equal(l->n, n);
        assert_true(l->source < n);
        uint32_t k = lookup_guess(l, ids, DRAFT_MAX, out, p);
        for (uint32_t j = 0; j < k; j++)
            assert_in_range(out[j], 0, 3);
    }
    /* a shorter sequence, or another end, is noticed: nothing of the old one is guessed */
    static const int32_t other[] = { 90, 91, 92, 93, 94, 95, 96, 97, 98, 99 };
    lookup_update(l, other, 10);
    assert_int_equal(lookup_guess(l, other, 1, out, p), 0);
    free(l);
    free(index);
}

/* Steps of every update with one new id, for texts that are made to be expensive. */
static void check_steps(const int32_t *ids, uint32_t n) {
    uint32_t *index;
    struct lookup *l = new_lookup(n, &index);
    uint64_t before = 0,
             most = LOOKUP_LEVELS + 1 + LOOKUP_LEVELS * LOOKUP_DEPTH * (LOOKUP_DEEP + 1);
    for (uint32_t i = 1; i <= n; i++) {
        lookup_update(l, ids, i);
        assert_true(l->steps - before <= most);
        before = l->steps;
    }
    lookup_reset(l); /* all at once: a few steps per id, and one search */
    lookup_update(l, ids, n);
    assert_true(l->steps - before <= (uint64_t)(LOOKUP_LEVELS + 1) * n + most);
    free(l);
    free(index);
}

/* The de Bruijn sequence of words of four ids out of eight: every word once, no longer repeats. */
static uint32_t de_bruijn(int32_t *ids) {
    static bool used[4096];
    uint32_t n = 0, word = 0;
    memset(used, 0, sizeof used);
    for (; n < 4096; n++) { /* the largest id that makes a new word */
        int32_t id = 7;
        while (id >= 0 && used[(word * 8 + (uint32_t)id) % 4096])
            id--;
        if (id < 0)
            break;
        word = (word * 8 + (uint32_t)id) % 4096;
        used[word] = true;
        ids[n] = id;
    }
    return n;
}

static void test_hostile_steps(void **state) {
    (void)state;
    static int32_t ids[CONTEXT];
    struct random r = { 11 };
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = 1;
    check_steps(ids, CONTEXT);
    for (int i = 0; i < CONTEXT; i++) /* long runs that end differently each time */
        ids[i] = i % 40 == 39 ? 1000 + i : 1;
    check_steps(ids, CONTEXT);
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)draw(&r, 2);
    check_steps(ids, CONTEXT);
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = (int32_t)draw(&r, 150000);
    check_steps(ids, CONTEXT);
    uint32_t n = de_bruijn(ids);
    assert_in_range(n, 4000, 4096);
    check_steps(ids, n);
}

/* ------------------------------------------------------------------ simulated passes */

typedef double (*cost_fn)(uint32_t rows);

static double flat(uint32_t rows) { /* bound by reading the weights */
    return 1 + .02 * (rows - 1);
}
static double middling(uint32_t rows) {
    return 1 + .25 * (rows - 1);
}
static double stairs(uint32_t rows) { /* kernels for 1, 4, 8 and 16 rows */
    return rows == 1 ? 1 : rows <= 4 ? 1.4 : rows <= 8 ? 1.9 : 3;
}
static double cliff(uint32_t rows) { /* cheap up to 4 rows, from there on a pass each */
    return rows <= 4 ? 1 + .02 * (rows - 1) : rows - 2.94;
}
static double linear(uint32_t rows) { /* bound by multiplying */
    return rows;
}

struct text;
/* The id that really comes after ids[0..n). guessed: what the drafter says, -1 if nothing. */
typedef int32_t (*next_fn)(struct text *t, int32_t guessed);

struct text {
    next_fn next;
    int32_t ids[CONTEXT];
    uint32_t n;
    double rate; /* of guesses that are right */
    uint32_t period;
    struct random random;
    struct lookup *shadow; /* says what lookup would guess, where the drafter guesses nothing */
    uint32_t *index;
};

struct outcome {
    double time, plain, speed; /* units; speed: plain / time */
    double worst;              /* most that time was ahead of plain */
    struct draft_counts counts;
};

static struct outcome simulate(struct drafter *d, struct text *t, cost_fn cost, uint32_t n_ids,
                               double outliers) {
    struct outcome r = { 0 };
    struct random noise = { 77 };
    for (uint32_t made = 0; made < n_ids && t->n < CONTEXT - DRAFT_MAX - 1;) {
        int32_t out[DRAFT_MAX];
        uint32_t k = drafter_guess(d, t->ids, t->n, DRAFT_MAX, out), right = 0;
        for (;;) {
            int32_t guessed = right < k ? out[right] : -1, id = t->next(t, guessed);
            t->ids[t->n++] = id;
            if (right == k || id != guessed)
                break;
            right++;
        }
        double took = cost(1 + k), shown = took * (1 + .02 * (draw(&noise, 201) - 100.) / 100);
        if (draw(&noise, 1000) < outliers * 1000)
            shown *= 50;
        drafter_learn(d, 1 + k, right, (uint64_t)(shown * UNIT));
        r.time += took;
        r.plain += 1 + right;
        made += 1 + right;
        if (r.time - r.plain > r.worst)
            r.worst = r.time - r.plain;
    }
    drafter_counts(d, &r.counts);
    r.speed = r.plain / r.time;
    return r;
}

static int32_t shadow_guess(struct text *t) {
    int32_t out[1];
    double p[1];
    lookup_update(t->shadow, t->ids, t->n);
    return lookup_guess(t->shadow, t->ids, 1, out, p) == 1 ? out[0] : -1;
}

/* Guesses are right at a rate, by chance; where none is made, lookup's would be. */
static int32_t at_rate(struct text *t, int32_t guessed) {
    int32_t likely = guessed >= 0 ? guessed : shadow_guess(t);
    if (likely >= 0 && draw(&t->random, 1000) < t->rate * 1000)
        return likely;
    int32_t id = (int32_t)draw(&t->random, 4); /* so few ids that lookup always finds something */
    return id == likely ? 4 : id;
}

/* Right for a while, and then never, until it has been believed for long enough again. */
static int32_t treacherous(struct text *t, int32_t guessed) {
    t->rate = t->n / t->period % 2 == 0 ? 1 : 0;
    return at_rate(t, guessed);
}

/* Repeats the first `period` ids with a new id here and there. */
static int32_t copying(struct text *t, int32_t guessed) {
    (void)guessed;
    return draw(&t->random, 1000) < 20 ? (int32_t)draw(&t->random, 50000)
                                       : t->ids[t->n % t->period];
}

static int32_t unrelated(struct text *t, int32_t guessed) {
    (void)guessed;
    return (int32_t)draw(&t->random, 50000);
}

static struct text *new_text(next_fn next, double rate, uint32_t prompt, uint32_t period) {
    struct text *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->next = next;
    t->rate = rate;
    t->period = period;
    t->random.state = 3;
    t->shadow = new_lookup(CONTEXT, &t->index);
    for (; t->n < prompt; t->n++)
        t->ids[t->n] = (int32_t)draw(&t->random, next == copying ? 50000 : 4);
    return t;
}

static void free_text(struct text *t) {
    free(t->shadow);
    free(t->index);
    free(t);
}

static struct outcome run_text(next_fn next, double rate, uint32_t period, cost_fn cost,
                               uint32_t n_ids, double outliers) {
    struct drafter *d = lookup_drafter();
    struct text *t = new_text(next, rate, next == copying ? period : 50, period);
    struct outcome r = simulate(d, t, cost, n_ids, outliers);
    free_text(t);
    drafter_free(d);
    return r;
}

static const struct {
    const char *name;
    cost_fn cost;
} costs[] = { { "flat", flat },
              { "middling", middling },
              { "stairs", stairs },
              { "cliff", cliff },
              { "linear", linear } };
#define N_COSTS (sizeof costs / sizeof *costs)

/* Whatever the machine and the text: at most 3 % slower than plain, after 100 ids already. */
static void test_never_much_slower(void **state) {
    (void)state;
    static const double rates[] = { 0, .1, .3, .6, .9, 1 };
    for (size_t c = 0; c < N_COSTS; c++)
        for (size_t i = 0; i < 6; i++) {
            struct outcome brief = run_text(at_rate, rates[i], 0, costs[c].cost, 100, 0);
            struct outcome r = run_text(at_rate, rates[i], 0, costs[c].cost, 4000, 0);
            print_message("%-8s right %.1f: speed %.3f, after 100 ids %.3f, lost at most %.2f\n",
                          costs[c].name, rates[i], r.speed, brief.speed, r.worst);
            assert_true(brief.speed > .97 && r.speed > .97);
            assert_true(r.speed > .985 || rates[i] > 0);
        }
}

/* Texts that lead on: right until it is believed, then wrong. */
static void test_treacherous(void **state) {
    (void)state;
    static const uint32_t periods[] = { 3, 10, 37, 150, 600 };
    for (size_t c = 0; c < N_COSTS; c++)
        for (size_t i = 0; i < 5; i++) {
            struct outcome r = run_text(treacherous, 0, periods[i], costs[c].cost, 4000, 0);
            print_message("%-8s period %3u: speed %.3f, lost at most %.2f\n", costs[c].name,
                          periods[i], r.speed, r.worst);
            assert_true(r.speed > .97);
            assert_true(r.worst < 4000 * .01 + 2);
        }
}

static void test_worth_it(void **state) {
    (void)state;
    assert_true(run_text(at_rate, 1, 0, flat, 2000, 0).speed > 8);
    assert_true(run_text(at_rate, .9, 0, flat, 4000, 0).speed > 4);
    assert_true(run_text(at_rate, .6, 0, flat, 4000, 0).speed > 1.7);
    assert_true(run_text(at_rate, .9, 0, middling, 4000, 0).speed > 1.5);
    assert_true(run_text(at_rate, .9, 0, stairs, 4000, 0).speed > 2);
    assert_true(run_text(at_rate, .9, 0, cliff, 4000, 0).speed > 2.2);
    /* a text that repeats its prompt with some changes */
    assert_true(run_text(copying, 0, 400, flat, 400, 0).speed > 4);
    assert_true(run_text(copying, 0, 400, middling, 400, 0).speed > 1.7);
    assert_true(run_text(copying, 0, 60, stairs, 60, 0).speed > 1.5);
}

/* Nothing repeats: nothing is guessed, so nothing is lost. */
static void test_unrelated(void **state) {
    (void)state;
    struct outcome r = run_text(unrelated, 0, 0, linear, 3000, 0);
    assert_true(r.time - r.plain < 1 && r.counts.guessed < 10);
    r = run_text(at_rate, 1, 0, linear, 3000, 0); /* always right, and still not worth a row each */
    assert_true(r.counts.guessed < 100 && r.speed > .98);
}

/* Passes that take fifty times as long now and then change little. */
static void test_outliers(void **state) {
    (void)state;
    double quiet = run_text(at_rate, .9, 0, flat, 4000, 0).speed;
    double noisy = run_text(at_rate, .9, 0, flat, 4000, .03).speed;
    print_message("quiet %.2f, with interruptions %.2f\n", quiet, noisy);
    assert_true(noisy > .85 * quiet);
    assert_true(run_text(at_rate, 0, 0, flat, 4000, .03).speed > .97);
    assert_true(run_text(at_rate, .3, 0, linear, 4000, .03).speed > .97);
}

/* A machine that becomes slower (two other processes, a growing depth) is no reason to stop. */
static void test_slower_machine(void **state) {
    (void)state;
    struct pace p;
    pace_init(&p);
    for (int i = 0; i < 40; i++) {
        pace_learn(&p, 1, 1000);
        pace_learn(&p, 4, 1200);
    }
    assert_true(pace_ready(&p));
    assert_float_equal((float)pace_rows(&p, 4), 1.2f, .01f);
    assert_true(pace_rows(&p, 2) > 1 && pace_rows(&p, 2) < pace_rows(&p, 3));
    assert_float_equal((float)pace_rows(&p, 7), 1.4f, .01f);
    for (int i = 0; i < 40; i++)
        pace_learn(&p, 4, 3600);
    assert_float_equal((float)p.one_ns, 3000.f, 300.f);
    assert_float_equal((float)pace_rows(&p, 4), 1.2f, .12f);
    /* after many passes of several rows, one of one row is asked for */
    for (int i = 0; i < 256; i++)
        pace_learn(&p, 4, 3600);
    assert_false(pace_ready(&p));
    pace_learn(&p, 1, 3000);
    assert_true(pace_ready(&p));
}

/* Guesses that are always believed and never right: the account alone keeps the loss to one percent,
 * also while it is not known what rows cost. */
static void test_account(void **state) {
    (void)state;
    static const double sure[DRAFT_MAX] = { .99, .99, .99, .99, .99, .99, .99, .99,
                                            .99, .99, .99, .99, .99, .99, .99 };
    for (size_t c = 0; c < N_COSTS; c++) {
        struct pace_offer offer = { .p = sure, .most = DRAFT_MAX };
        struct pace p;
        double lost = 0, rate, account;
        uint32_t guessed = 0, refused = 0;
        pace_init(&p);
        for (uint32_t pass = 1; pass <= 3000; pass++) {
            uint32_t k = pace_ready(&p) ? pace_best(&p, &offer, &rate) : 0;
            pace_learn(&p, 1 + k, (uint64_t)(UNIT * costs[c].cost(1 + k)));
            pace_settle(&p, 1 + k, 1, 0);
            lost += costs[c].cost(1 + k) - 1;
            guessed += k;
            refused += k == 0;
            assert_true(lost <= PACE_START + .01 * pass + .001);
        }
        assert_true(guessed > 0 && refused > 1000);
        /* what is gained is kept, up to a limit; making guesses is charged */
        for (int i = 0; i < 100; i++)
            pace_settle(&p, 1, 2, 0);
        account = p.account;
        assert_true(account == PACE_CAP);
        pace_settle(&p, 1, 1, .5);
        assert_float_equal((float)p.account, (float)account - .49f, 1e-5f);
    }
}

/* The same passes, the same guesses. */
static void test_reproducible(void **state) {
    (void)state;
    struct outcome a = run_text(at_rate, .6, 0, stairs, 2000, .01);
    struct outcome b = run_text(at_rate, .6, 0, stairs, 2000, .01);
    assert_memory_equal(&a, &b, sizeof a);
}

/* ------------------------------------------------------------------ memory, arguments */

struct counting {
    struct slm_hooks hooks;
    size_t bytes, requests, fail_at;
    long live;
};

static void *count_alloc(void *user, size_t n) {
    struct counting *c = user;
    if (++c->requests == c->fail_at)
        return NULL;
    c->bytes += n;
    c->live++;
    return malloc(n);
}

static void *count_resize(void *user, void *p, size_t n) {
    struct counting *c = user;
    c->requests++;
    return realloc(p, n);
}

static void count_release(void *user, void *p) {
    struct counting *c = user;
    c->live -= p != NULL;
    free(p);
}

static struct counting counting(size_t fail_at) {
    return (struct counting){ .hooks = { .size = sizeof(struct slm_hooks),
                                         .alloc = count_alloc,
                                         .resize = count_resize,
                                         .release = count_release },
                              .fail_at = fail_at };
}

static void test_memory(void **state) {
    (void)state;
    static const uint32_t contexts[] = { 0, 1, 64, 1000, 4096, CONTEXT };
    for (size_t i = 0; i < 6; i++) {
        struct counting c = counting(0);
        struct draft_options o = { .lookup = true, .max = 4, .context = contexts[i] };
        struct drafter *d = NULL;
        c.hooks.user = &c;
        assert_int_equal(drafter_new(&c.hooks, &o, &d, NULL), SLM_OK);
        assert_int_equal(c.bytes, drafter_bytes(contexts[i]));
        size_t requests = c.requests;
        if (contexts[i] == CONTEXT) { /* nothing more while guessing */
            struct text *t = new_text(at_rate, .9, 50, 0);
            simulate(d, t, flat, 1000, 0);
            drafter_reset(d);
            simulate(d, t, flat, 1000, 0);
            free_text(t);
        }
        assert_int_equal(c.requests, requests);
        drafter_free(d);
        assert_int_equal(c.live, 0);
        for (size_t k = 1; k <= requests; k++) {
            c = counting(k);
            c.hooks.user = &c;
            d = (struct drafter *)&c;
            assert_int_equal(drafter_new(&c.hooks, &o, &d, NULL), SLM_E_NOMEM);
            assert_null(d);
            assert_int_equal(c.live, 0);
        }
    }
    drafter_free(NULL);
}

static void test_limits(void **state) {
    (void)state;
    struct draft_options o = { .lookup = true, .max = 3, .context = 100, .vocab = 50 };
    struct drafter *d = NULL;
    int32_t ids[200], out[DRAFT_MAX];
    for (int i = 0; i < 200; i++)
        ids[i] = i % 5;
    o.max = 0;
    assert_int_equal(drafter_new(NULL, &o, &d, NULL), SLM_E_ARG);
    o.max = DRAFT_MAX + 1;
    assert_int_equal(drafter_new(NULL, &o, &d, NULL), SLM_E_ARG);
    o.max = 3;
    d = new_drafter(&o);
    assert_int_equal(drafter_guess(d, ids, 50, 9, out), 0); /* costs are not known yet */
    for (uint32_t rows = 1; rows <= 4; rows++)
        for (int i = 0; i < 4; i++)
            drafter_learn(d, rows, 0, 1000);
    assert_int_equal(drafter_guess(d, ids, 50, 9, out), 3);
    assert_int_equal(out[0], 0);
    assert_int_equal(drafter_guess(d, ids, 51, 2, out), 2);
    assert_int_equal(drafter_guess(d, ids, 52, 0, out), 0);
    assert_int_equal(drafter_guess(d, ids, 101, 3, out), 0); /* longer than was announced */
    assert_int_equal(drafter_guess(d, ids, 0, 3, out), 0);
    assert_int_equal(drafter_guess(d, ids, 60, 3, out), 3);
    drafter_learn(d, 0, 0, 1000); /* passes that cannot be change nothing */
    drafter_learn(d, 17, 99, 1000);
    drafter_learn(d, 1, 99, 0);
    ids[42] = 55; /* what is no id of the model is not guessed */
    for (int i = 43; i < 90; i++)
        ids[i] = ids[i - 20];
    drafter_reset(d);
    uint32_t k = drafter_guess(d, ids, 61, 3, out);
    for (uint32_t j = 0; j < k; j++)
        assert_in_range(out[j], 0, 49);
    drafter_free(d);
}

/* ------------------------------------------------------------------ the smaller model */

static slm_engine *engine;
static struct test_hooks memory;

static int open_engine(void **state) {
    (void)state;
    slm_engine_options o = slm_engine_default();
    test_hooks_init(&memory, 0);
    o.hooks = &memory.hooks;
    o.threads = 1;
    o.isa = test_isa();
    return slm_engine_open("demo-model", &o, &engine, NULL) == SLM_OK ? 0 : -1;
}

static int close_engine(void **state) {
    (void)state;
    slm_engine_close(engine);
    return memory.live == 0 ? 0 : -1;
}

static slm_session *open_session(uint32_t context) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = context;
    o.chunk = 16;
    o.threads = 1;
    assert_int_equal(slm_session_open(engine, &o, &s, NULL), SLM_OK);
    return s;
}

static int32_t most_likely(slm_session *s) {
    slm_info info = { .size = sizeof info };
    const float *x = slm_session_logits(s);
    int32_t best = 0;
    assert_non_null(x);
    assert_int_equal(slm_engine_info(engine, &info), SLM_OK);
    for (int32_t i = 1; i < (int32_t)info.vocab; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

struct pair {
    slm_session *main, *small;
    struct drafter *d;
    int32_t ids[400];
    uint32_t n;
    bool lookup;
    double unit; /* ns of a pass */
};

static void open_pair(struct pair *p, uint32_t small_context, bool lookup) {
    *p = (struct pair){ .main = open_session(400),
                        .small = open_session(small_context),
                        .lookup = lookup,
                        .unit = 1e10 };
    struct draft_options o = {
        .model = p->small, .lookup = lookup, .max = DRAFT_MAX, .context = 400
    };
    p->d = new_drafter(&o);
    for (p->n = 0; p->n < 40; p->n++)
        p->ids[p->n] = (int32_t)(p->n * 37 % 300);
}

static void close_pair(struct pair *p) {
    drafter_free(p->d);
    slm_session_close(p->main);
    slm_session_close(p->small);
}

/* Passes until `end` ids; every `wrong`-th id is not the most likely one. Returns the passes. */
static uint32_t decode(struct pair *p, uint32_t end, uint32_t wrong) {
    uint32_t passes = 0;
    for (; p->n < end; passes++) {
        int32_t out[DRAFT_MAX];
        uint32_t k = drafter_guess(p->d, p->ids, p->n, DRAFT_MAX, out), right = 0;
        if (k > 0 && !p->lookup) { /* they follow the sequence and not guesses that were wrong */
            assert_true(slm_session_length(p->small) >= p->n);
            assert_memory_equal(slm_session_ids(p->small), p->ids, p->n * sizeof *p->ids);
        }
        for (;;) {
            assert_int_equal(slm_session_sync(p->main, p->ids, p->n, NULL, NULL), SLM_OK);
            int32_t id = most_likely(p->main);
            if (wrong > 0 && p->n % wrong == 0)
                id = (id + 1) % 300;
            p->ids[p->n++] = id;
            if (right == k || id != out[right])
                break;
            right++;
        }
        if (wrong == 0 && !p->lookup) /* the model itself: never wrong */
            assert_int_equal(right, k);
        drafter_learn(p->d, 1 + k, right, (uint64_t)(p->unit * (1 + .02 * k)));
    }
    return passes;
}

static void test_model(void **state) {
    (void)state;
    struct pair p;
    struct draft_counts c;
    open_pair(&p, 400, false);
    size_t requests = memory.requests;
    uint32_t passes = decode(&p, 200, 0);
    assert_true(passes < 30);
    drafter_counts(p.d, &c);
    assert_int_equal(c.passes, passes);
    assert_true(c.right == c.guessed && c.right > 120 && c.model_ns > 0);
    /* ids that the model did not expect: it goes on from them, and is right again */
    passes = decode(&p, 300, 9);
    assert_true(passes < 40);
    /* another text */
    drafter_reset(p.d);
    p.n = 20;
    p.ids[7] = 3;
    assert_true(decode(&p, 150, 0) < 25);
    /* a prompt is added */
    for (uint32_t end = p.n + 50; p.n < end; p.n++)
        p.ids[p.n] = (int32_t)(p.n * 11 % 300);
    assert_true(decode(&p, 300, 0) < 30);
    assert_int_equal(memory.requests, requests);
    close_pair(&p);
}

/* What goes wrong in the smaller model ends guessing and nothing else. */
static void test_model_fails(void **state) {
    (void)state;
    struct pair p;
    struct draft_counts before, after;
    open_pair(&p, 400, false);
    decode(&p, 100, 0);
    slm_session_cancel(p.small);
    drafter_counts(p.d, &before);
    assert_int_equal(decode(&p, p.n + 50, 0), 50);
    slm_session_resume(p.small);
    assert_int_equal(decode(&p, p.n + 10, 0), 10); /* until a reset */
    drafter_counts(p.d, &after);
    assert_int_equal(before.guessed, after.guessed);
    drafter_reset(p.d);
    assert_true(decode(&p, p.n + 100, 0) < 30);
    /* its session is changed behind the drafter's back */
    assert_int_equal(slm_session_truncate(p.small, 0, NULL), SLM_OK);
    assert_int_equal(decode(&p, p.n + 40, 0), 40);
    close_pair(&p);
    /* its context is shorter; an id that it does not have */
    open_pair(&p, 120, false);
    decode(&p, 200, 0);
    drafter_counts(p.d, &after);
    assert_true(after.right > 50 && after.right <= 80);
    close_pair(&p);
    open_pair(&p, 400, false);
    decode(&p, 100, 0);
    int32_t out[DRAFT_MAX];
    p.ids[p.n++] = 1 << 20;
    assert_int_equal(drafter_guess(p.d, p.ids, p.n, DRAFT_MAX, out), 0);
    close_pair(&p);
}

/* A model that is slower than the one it helps is asked hardly ever; lookup goes on beside it. */
static void test_model_too_slow(void **state) {
    (void)state;
    struct pair p;
    struct draft_counts c;
    open_pair(&p, 400, false);
    p.unit = 1000;
    uint32_t passes = decode(&p, 390, 0);
    drafter_counts(p.d, &c);
    assert_true(passes >= 345 && c.guessed <= 4);
    close_pair(&p);
    open_pair(&p, 400, true);
    p.unit = 1000;
    for (; p.n < 200; p.n++)
        p.ids[p.n] = p.ids[p.n % 40];
    decode(&p, 390, 0);
    drafter_counts(p.d, &c);
    assert_true(c.right > 100);
    close_pair(&p);
}

/* A model that is always wrong costs its investment, and then next to nothing. */
static void test_model_useless(void **state) {
    (void)state;
    struct pair p;
    struct draft_counts c;
    open_pair(&p, 400, false);
    decode(&p, 390, 1);
    drafter_counts(p.d, &c);
    assert_int_equal(c.right, 0);
    assert_true((double)c.guessed * .02 < .01 * (double)c.passes); /* what a guess costs here */
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup_finds),
        cmocka_unit_test(test_lookup_resumes),
        cmocka_unit_test(test_lookup_changed_ids),
        cmocka_unit_test(test_hostile_steps),
        cmocka_unit_test(test_never_much_slower),
        cmocka_unit_test(test_treacherous),
        cmocka_unit_test(test_worth_it),
        cmocka_unit_test(test_unrelated),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_slower_machine),
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_reproducible),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_limits),
        cmocka_unit_test_setup_teardown(test_model, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(test_model_fails, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(test_model_too_slow, open_engine, close_engine),
        cmocka_unit_test_setup_teardown(test_model_useless, open_engine, close_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
