/* test_session_rows.c - numbers beside an answer: the likely ids at each choice, log-probabilities of a
 * prompt, means of states; in sessions and batches, with the same bits, next to requests of any kind. */
#include "../answers.h"

#include <math.h>

static slm_engine *twin;

/* ------------------------------------------------------------------ from logits, the plain way */

struct row {
    int32_t id;
    float logprob;
    bool forced, stop;
    size_t position, n_top;
    struct slm_likely top[SLM_TOP_MOST];
};
struct rows {
    struct row row[ASK_CONTEXT];
    size_t n, stop_after;
};

static bool note_row(void *user, const slm_choice *c) {
    struct rows *r = user;
    assert_true(r->n < ASK_CONTEXT && c->n_top <= SLM_TOP_MOST);
    struct row *to = &r->row[r->n++];
    *to = (struct row){ c->id, c->logprob, c->forced, c->stop, c->position, c->n_top, { { 0 } } };
    if (c->n_top > 0)
        memcpy(to->top, c->top, c->n_top * sizeof *c->top);
    return r->n != r->stop_after;
}

static bool exists[4096]; /* ids that stand for something */

static void note_existing(const slm_engine *e) {
    uint32_t vocab = ask_vocab(e);
    assert_true(vocab <= ARRAY_LEN(exists));
    for (int32_t id = 0; id < (int32_t)vocab; id++) {
        char *text;
        size_t n = 0;
        exists[id] = slm_decode(e, &id, 1, false, &text, &n, NULL) == SLM_OK && n > 0;
        if (exists[id])
            slm_free(e, text);
    }
}

/* log-softmax over the ids that exist, and the first `top` of a stable sort */
static void plain(const float *logits, uint32_t vocab, int32_t id, size_t top, struct row *out) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        max = exists[i] && (double)logits[i] > max ? (double)logits[i] : max;
    for (uint32_t i = 0; i < vocab; i++)
        sum += !exists[i] ? 0 : exp((double)logits[i] - max);
    out->logprob = (float)((double)logits[id] - max - log(sum));
    bool used[4096] = { false };
    for (size_t k = 0; k < top; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < vocab; i++)
            if (exists[i] && !used[i] && (best == UINT32_MAX || logits[i] > logits[best]))
                best = i;
        used[best] = true;
        out->top[k] = (struct slm_likely){ (int32_t)best,
                                           (float)((double)logits[best] - max - log(sum)) };
    }
}

static void same_row(const struct row *a, const struct row *b, size_t top) {
    assert_true(fabsf(a->logprob - b->logprob) < 1e-4f);
    for (size_t k = 0; k < top; k++) {
        assert_int_equal(a->top[k].id, b->top[k].id);
        assert_true(fabsf(a->top[k].logprob - b->top[k].logprob) < 1e-4f);
    }
}

static slm_session *open_session(const slm_engine *e, uint32_t chunk, uint32_t rows) {
    slm_session_options o = slm_session_default();
    slm_session *s = NULL;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.logit_rows = rows;
    o.threads = 1;
    assert_int_equal(slm_session_open(e, &o, &s, NULL), SLM_OK);
    return s;
}

/* ------------------------------------------------------------------ choices */

static void test_choices(void **state) {
    (void)state;
    uint32_t vocab = ask_vocab(twin);
    slm_session *s = open_session(twin, 32, 1);
    for (unsigned k = 0; k < ASKS; k++) {
        static struct ask a;
        static struct heard h, plainly;
        static struct rows r;
        ask_make(&a, k, vocab);
        ask_alone(s, &a, &plainly);
        struct ask with = a;
        memset(&r, 0, sizeof r);
        memset(&h, 0, sizeof h);
        ask_hear(&with, &h);
        with.o.on_token = NULL;
        with.o.on_text = NULL;
        with.o.on_choice = note_row;
        with.o.user = &r;
        with.o.top = k % 2 ? 5 : 0;
        slm_result result = { .size = sizeof result };
        assert_int_equal(slm_session_truncate(s, 0, NULL), SLM_OK);
        assert_int_equal(slm_session_sync(s, a.ids, a.n, NULL, NULL), SLM_OK);
        assert_int_equal(slm_generate(s, &with.o, &result, NULL), SLM_OK);
        assert_int_equal(r.n, plainly.n);
        for (size_t i = 0; i < r.n; i++) {
            assert_int_equal(r.row[i].id, plainly.ids[i]);
            assert_memory_equal(&r.row[i].logprob, &plainly.logprob[i], sizeof(float));
            assert_int_equal(r.row[i].n_top, with.o.top);
            assert_false(r.row[i].forced);
            for (size_t j = 1; j < r.row[i].n_top; j++)
                assert_true(r.row[i].top[j - 1].logprob > r.row[i].top[j].logprob ||
                            (r.row[i].top[j - 1].logprob >= r.row[i].top[j].logprob &&
                             r.row[i].top[j - 1].id < r.row[i].top[j].id));
        }
    }
    slm_generate_options o = slm_generate_default();
    o.top = SLM_TOP_MOST + 1;
    assert_int_equal(slm_generate(s, &o, NULL, NULL), SLM_E_ARG);
    slm_session_close(s);
}

/* ------------------------------------------------------------------ prompts */

static int32_t text_ids[ASK_PROMPT];
static size_t n_text;
static float *text_logits; /* [n_text][vocab] of one pass */
static float *text_mean;   /* [hidden] by slm_embed */

static slm_engine *prepare(const char *model) {
    slm_engine *e = ask_engine(model, NULL);
    static struct ask a;
    slm_info i = { .size = sizeof i };
    assert_int_equal(slm_engine_info(e, &i), SLM_OK);
    ask_make(&a, 1, i.vocab);
    n_text = a.n;
    memcpy(text_ids, a.ids, a.n * sizeof *a.ids);
    text_logits = malloc(n_text * i.vocab * sizeof *text_logits);
    text_mean = malloc(i.hidden * sizeof *text_mean);
    assert_true(text_logits != NULL && text_mean != NULL);
    slm_session *s = open_session(e, 256, 256);
    assert_int_equal(
        slm_session_append(s, text_ids, n_text, true, text_logits, NULL, NULL), SLM_OK);
    slm_session_close(s);
    s = open_session(e, 256, 1);
    assert_int_equal(slm_embed(s, text_ids, n_text, text_mean, NULL), SLM_OK);
    slm_session_close(s);
    return e;
}

static void unprepare(slm_engine *e) {
    free(text_logits);
    free(text_mean);
    slm_engine_close(e);
}

struct ending {
    unsigned done;
    slm_err err;
    slm_result r;
};
static void note_end(void *user, uint64_t id, const slm_result *r, slm_err err,
                     const slm_why *why) {
    struct ending *end = *(struct ending **)user;
    (void)id, (void)why;
    end->done++;
    end->err = err;
    end->r = *r;
}

/* One request of each kind, user data of all in one place. */
struct asked {
    struct ending *end; /* first: note_end finds it */
    struct rows rows;
    struct ending ending;
    float mean[4096];
};
static bool note_prompt(void *user, const slm_choice *c) {
    struct asked *a = user;
    return note_row(&a->rows, c);
}

static slm_request request_of(struct asked *a, const slm_generate_options *o) {
    memset(a, 0, sizeof *a);
    a->end = &a->ending;
    return (slm_request){ .size = sizeof(slm_request),
                          .ids = text_ids,
                          .n = n_text,
                          .options = o,
                          .on_done = note_end,
                          .user = a };
}

static void check_prompt(const struct asked *a, uint32_t vocab, size_t top) {
    assert_int_equal(a->rows.n, n_text);
    assert_true(isnan(a->rows.row[0].logprob));
    assert_int_equal(a->rows.row[0].n_top, 0);
    for (size_t i = 0; i < n_text; i++) {
        struct row want = { 0 };
        assert_int_equal(a->rows.row[i].id, text_ids[i]);
        assert_int_equal(a->rows.row[i].position, i);
        if (i == 0)
            continue;
        assert_int_equal(a->rows.row[i].n_top, top);
        plain(text_logits + (i - 1) * vocab, vocab, text_ids[i], top, &want);
        same_row(&a->rows.row[i], &want, top);
    }
}

static slm_batch *open_batch(const slm_engine *e, uint32_t places, uint32_t chunk, uint32_t rows,
                             uint64_t cache) {
    slm_session_options o = slm_session_default();
    slm_batch *b = NULL;
    o.sequences = places;
    o.context = ASK_CONTEXT;
    o.chunk = chunk;
    o.logit_rows = rows;
    o.threads = 1;
    o.cache_bytes = cache;
    assert_int_equal(slm_batch_open(e, &o, &b, NULL), SLM_OK);
    return b;
}

/* Prompts that are shown, that are only read, means, and plain answers, side by side; whatever rows of
 * logits there are, the numbers of each are the same bits. */
static void side_by_side(const char *model) {
    slm_engine *e = prepare(model);
    uint32_t vocab = ask_vocab(e);
    slm_info info = { .size = sizeof info };
    static const uint32_t shapes[][3] = { { 8, 256, 0 }, { 5, 64, 40 }, { 6, 6, 0 }, { 8, 23, 9 } };
    static struct asked a[4], first;
    static struct ask plain_ask;
    static struct heard alone, got;
    slm_generate_options o = slm_generate_default();
    assert_int_equal(slm_engine_info(e, &info), SLM_OK);
    note_existing(e);
    slm_session *s = open_session(e, 32, 1);
    ask_make(&plain_ask, 4, vocab);
    ask_alone(s, &plain_ask, &alone);
    slm_session_close(s);
    o.max_tokens = 3;
    o.ignore_stop_ids = true;
    for (size_t k = 0; k < ARRAY_LEN(shapes); k++) {
        slm_batch *b = open_batch(e, shapes[k][0], shapes[k][1], shapes[k][2],
                                  k % 2 ? 1 << 20 : 0);
        slm_request r = request_of(&a[0], &o), mean = request_of(&a[1], &o);
        slm_request read = request_of(&a[2], &o), both = request_of(&a[3], &o);
        r.on_prompt = both.on_prompt = read.on_prompt = note_prompt;
        r.prompt_top = read.prompt_top = 3;
        read.prompt_only = true;
        mean.mean_hidden = a[1].mean;
        both.mean_hidden = a[3].mean;
        memset(&got, 0, sizeof got);
        ask_hear(&plain_ask, &got);
        slm_request usual = { .size = sizeof usual,
                              .ids = plain_ask.ids,
                              .n = plain_ask.n,
                              .options = &plain_ask.o };
        assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
        assert_int_equal(slm_batch_add(b, &usual, NULL, NULL), SLM_OK);
        assert_int_equal(slm_batch_add(b, &mean, NULL, NULL), SLM_OK);
        assert_int_equal(slm_batch_add(b, &read, NULL, NULL), SLM_OK);
        assert_int_equal(slm_batch_add(b, &both, NULL, NULL), SLM_OK);
        for (unsigned steps = 0; slm_batch_step(b) > 0; steps++)
            assert_true(steps < 2000);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(a[i].ending.done, 1);
            assert_int_equal(a[i].ending.err, SLM_OK);
            assert_int_equal(a[i].ending.r.finish, SLM_FINISH_LENGTH);
            assert_int_equal(a[i].ending.r.reused_tokens, 0);
            assert_int_equal(a[i].ending.r.output_tokens, i == 0 ? 3 : 0);
        }
        check_prompt(&a[0], vocab, 3);
        check_prompt(&a[2], vocab, 3);
        check_prompt(&a[3], vocab, 0);
        assert_memory_equal(a[1].mean, text_mean, info.hidden * sizeof(float));
        assert_memory_equal(a[3].mean, text_mean, info.hidden * sizeof(float));
        if (k == 0)
            first = a[0];
        assert_memory_equal(a[0].rows.row, first.rows.row, n_text * sizeof first.rows.row[0]);
        assert_memory_equal(a[2].rows.row, first.rows.row, n_text * sizeof first.rows.row[0]);
        assert_int_equal(got.n, alone.n);
        assert_memory_equal(got.ids, alone.ids, got.n * sizeof *got.ids);
        assert_memory_equal(got.logprob, alone.logprob, got.n * sizeof *got.logprob);
        slm_batch_close(b);
    }
    unprepare(e);
}

static void test_side_by_side(void **state) {
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++)
        side_by_side(ask_models[m]);
}

/* A prompt of one id, one that the caller stops, one beyond what may be asked. */
static void test_prompt_ends(void **state) {
    (void)state;
    static struct asked a;
    slm_engine *e = prepare("qwen3-0.6b");
    slm_batch *b = open_batch(e, 2, 16, 0, 0);
    slm_request r = request_of(&a, NULL);
    r.n = 1;
    r.on_prompt = note_prompt;
    r.prompt_only = true;
    assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
    assert_int_equal(slm_batch_step(b), 0);
    assert_int_equal(a.rows.n, 1);
    assert_int_equal(a.ending.r.finish, SLM_FINISH_LENGTH);
    for (size_t stop = 1; stop <= n_text; stop += n_text - 1) {
        r = request_of(&a, NULL);
        r.on_prompt = note_prompt;
        a.rows.stop_after = stop;
        assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
        while (slm_batch_step(b) > 0)
            ;
        assert_int_equal(a.rows.n, stop);
        assert_int_equal(a.ending.done, 1);
        assert_int_equal(a.ending.err, stop < n_text ? SLM_E_CANCELLED : SLM_OK);
        if (stop == n_text)
            assert_int_equal(a.ending.r.finish, SLM_FINISH_CANCELLED);
        assert_int_equal(a.ending.r.output_tokens, 0);
    }
    r = request_of(&a, NULL);
    r.on_prompt = note_prompt;
    r.prompt_top = SLM_TOP_MOST + 1;
    assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_E_ARG);
    r.prompt_top = 1;
    r.mean_hidden = a.mean;
    assert_int_equal(slm_batch_add(b, &r, NULL, NULL), SLM_OK);
    slm_batch_close(b); /* cancels: nothing was written to the mean */
    assert_int_equal(a.ending.err, SLM_E_CANCELLED);
    for (size_t i = 0; i < 64; i++)
        assert_true(a.mean[i] == 0.0f);
    unprepare(e);
}

/* ------------------------------------------------------------------ embeddings */

static void test_embed(void **state) {
    (void)state;
    static const uint32_t chunks[] = { 1, 7, 64 };
    static float mean[4096], *hidden;
    for (size_t m = 0; m < ARRAY_LEN(ask_models); m++) {
        slm_engine *e = prepare(ask_models[m]);
        slm_info info = { .size = sizeof info };
        assert_int_equal(slm_engine_info(e, &info), SLM_OK);
        /* against the states themselves */
        hidden = malloc(n_text * info.hidden * sizeof *hidden);
        assert_non_null(hidden);
        slm_session *s = open_session(e, 256, 1);
        assert_int_equal(slm_session_append(s, text_ids, n_text, false, NULL, hidden, NULL),
                         SLM_OK);
        for (size_t k = 0; k < info.hidden; k++) {
            double sum = 0;
            for (size_t i = 0; i < n_text; i++)
                sum += (double)hidden[i * info.hidden + k];
            assert_true(text_mean[k] == (float)(sum / (double)n_text));
        }
        free(hidden);
        slm_session_close(s);
        /* by any chunks, whatever the session held; it goes on from there as after a sync */
        for (size_t c = 0; c < ARRAY_LEN(chunks); c++) {
            s = open_session(e, chunks[c], 1);
            if (c > 0)
                assert_int_equal(slm_session_sync(s, text_ids, 20, NULL, NULL), SLM_OK);
            assert_int_equal(slm_embed(s, text_ids, n_text, mean, NULL), SLM_OK);
            assert_memory_equal(mean, text_mean, info.hidden * sizeof *mean);
            assert_int_equal(slm_session_length(s), n_text);
            assert_memory_equal(slm_session_logits(s), text_logits + (n_text - 1) * info.vocab,
                                info.vocab * sizeof(float));
            assert_int_equal(slm_embed(s, slm_session_ids(s), n_text, mean, NULL), SLM_OK);
            assert_memory_equal(mean, text_mean, info.hidden * sizeof *mean);
            assert_int_equal(slm_embed(s, text_ids, 0, mean, NULL), SLM_E_ARG);
            assert_int_equal(slm_embed(s, text_ids, ASK_CONTEXT + 1, mean, NULL), SLM_E_CONTEXT);
            slm_session_cancel(s);
            assert_int_equal(slm_embed(s, text_ids, n_text, mean, NULL), SLM_E_CANCELLED);
            slm_session_resume(s);
            assert_int_equal(slm_session_sync(s, text_ids, n_text, NULL, NULL), SLM_OK);
            assert_memory_equal(slm_session_logits(s), text_logits + (n_text - 1) * info.vocab,
                                info.vocab * sizeof(float));
            slm_session_close(s);
        }
        unprepare(e);
    }
}

/* More rows of logits are part of the plan of a batch. */
static void test_plan(void **state) {
    (void)state;
    slm_session_options o = slm_session_default();
    slm_plan few = { .size = sizeof few }, many = { .size = sizeof many };
    uint32_t vocab = ask_vocab(twin);
    o.batch = true;
    o.sequences = 4;
    o.context = ASK_CONTEXT;
    assert_int_equal(slm_engine_plan(twin, &o, &few, NULL), SLM_OK);
    o.logit_rows = 64;
    assert_int_equal(slm_engine_plan(twin, &o, &many, NULL), SLM_OK);
    assert_true(many.scratch >= few.scratch + (64 - 8) * (uint64_t)vocab * sizeof(float));
}

static int setup(void **state) {
    (void)state;
    twin = ask_engine("qwen3-0.6b", NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    slm_engine_close(twin);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices),     cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_prompt_ends), cmocka_unit_test(test_embed),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
