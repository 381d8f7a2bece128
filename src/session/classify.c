/* classify.c - slm_classify: which of several labels a model would answer, as probabilities.
 *
 * A label counts as a whole answer: the log-probability of its tokens one after another behind the
 * prompt, and of the turn ending there. So a label that another one begins with ("spam", "spam with
 * a link") is not favoured by being the beginning, and the probabilities that the model gives to all
 * labels together are at most 1. With `beginnings` the end counts only for labels that another one
 * begins with, which saves evaluating the last token of every other one. What the model gives to
 * other answers is left out:
 *     z[i] = (score[i] + bias[i]) / temperature       score: the sum, or the mean over the tokens
 *     probability[i] = exp(z[i]) / sum over j of exp(z[j])
 *
 * Tokens are those of the label in its place: the end of the prompt and the label are encoded together,
 * because a tokenizer may cut the same letters differently at the beginning of a text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/pool.h"
#include "session/branches.h"

#define LABELS_MAX 4096
#define REQUESTS_MAX 1024
#define TAIL_MAX 64 /* ids of the prompt that a label is encoded behind */

slm_classify_options slm_classify_default(void) {
    return (slm_classify_options){ .size = sizeof(slm_classify_options),
                                   .render = slm_render_default(),
                                   .temperature = 1.0 };
}

/* ------------------------------------------------------------------ prompt */

struct prompt {
    int32_t *ids; /* [n], hooks of the engine */
    size_t n;
};

/* What a decision cannot have, and thinking switched off for models that can be told. */
static slm_err settle_request(const slm_engine *e, json_t *root, slm_why *why) {
    const json_t *kwargs = json_object_get(root, "kwargs"),
                 *format = json_object_get(root, "format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (json_is_true(json_object_get(root, "think")) ||
        json_is_true(json_object_get(kwargs, "enable_thinking")))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a label is chosen without thinking");
    if (format != NULL && !json_is_null(format) && (type == NULL || strcmp(type, "text") != 0))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "the labels are the format of a decision; the request has one, too");
    json_object_del(root, "think"); /* a model that cannot switch would refuse it */
    if (e->has_facts && e->facts.m.think == THINK_DEFAULT_ON &&
        json_object_set_new(root, "think", json_false()) != 0)
        return fail_nomem(why, "request", 1);
    return SLM_OK;
}

/* A model that always thinks begins inside the block: it is closed at once, as it would close it. */
static slm_err close_thinking(const slm_engine *e, struct prompt *p, slm_why *why) {
    static const char close[] = "\n" THINK_CLOSE "\n\n";
    struct token_piece piece = { close, sizeof close - 1, false };
    int32_t *ids, *all;
    size_t n;
    TRY(tokenizer_encode(e->tokenizer, &piece, 1, 0, &ids, &n, why));
    all = mem_resize(&e->hooks, p->ids, p->n + n, sizeof *all);
    if (all != NULL) {
        p->ids = all;
        memcpy(all + p->n, ids, n * sizeof *all);
        p->n += n;
    }
    mem_free(&e->hooks, ids);
    return all != NULL ? SLM_OK : fail_nomem(why, "prompt", (p->n + n) * sizeof *ids);
}

/* The prompt's ids, in memory of their own. */
static slm_err take_ids(const slm_engine *e, const slm_prompt *made, struct prompt *p,
                        slm_why *why) {
    slm_prompt_info i = { .size = sizeof i };
    slm_prompt_get(made, &i);
    p->ids = mem_alloc(&e->hooks, i.n, sizeof *p->ids);
    if (p->ids == NULL)
        return fail_nomem(why, "prompt", i.n * sizeof *p->ids);
    memcpy(p->ids, i.ids, i.n * sizeof *p->ids);
    p->n = i.n;
    if (p->n == 0)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the request has an empty prompt");
    return i.in_thinking && e->think_close >= 0 ? close_thinking(e, p, why) : SLM_OK;
}

static int put_piece(const char *data, size_t n, void *user) {
    struct buf *b = user;
    buf_put(b, data, n);
    return b->err == SLM_OK ? 0 : -1;
}

static slm_err make_prompt(const slm_engine *e, const char *request, size_t n,
                           const slm_classify_options *o, struct prompt *p, slm_why *why) {
    json_t *root = NULL;
    slm_prompt *made = NULL;
    struct buf text;
    slm_err err;
    TRY(json_text(request, n, &root, why));
    buf_init(&text, &e->hooks, (size_t)1 << 30);
    if (!json_is_object(root))
        TRY_OUT(fail(why, SLM_E_FORMAT, 0, "a request is a JSON object"));
    TRY_OUT(settle_request(e, root, why));
    if (json_dump_callback(root, put_piece, &text, JSON_COMPACT) != 0)
        TRY_OUT(fail_nomem(why, "request", n));
    TRY_OUT(slm_prompt_make(e, text.data, text.len, &o->render, &made, why));
    TRY_OUT(take_ids(e, made, p, why));
out:
    slm_prompt_free(made);
    buf_free(&text);
    json_decref(root);
    return err;
}

/* ------------------------------------------------------------------ labels to ids */

/* The text of the prompt's last ids, from the last control token on. *n_ids: how many these are. */
static slm_err tail_text(const slm_engine *e, const struct prompt *p, struct buf *text,
                         size_t *n_ids, slm_why *why) {
    size_t k = 0;
    const char *s;
    while (k < p->n && k < TAIL_MAX) {
        int32_t id = p->ids[p->n - ++k];
        if (token_is_control(e->tokenizer, id))
            break;
    }
    for (size_t i = p->n - k; i < p->n; i++) {
        size_t n;
        if (token_text_of(e->tokenizer, p->ids[i], &s, &n))
            buf_put(text, s, n);
    }
    *n_ids = k;
    return text->err == SLM_OK ? SLM_OK : fail(why, text->err, SLM_NO_OFFSET, "prompt");
}

struct context {
    const slm_engine *e;
    const struct prompt *prompt;
    struct buf tail;
    size_t n_tail;
};

/* Ids of a label behind the prompt: what the encoding of both has more than the prompt. Where the
 * border falls inside a token, or the tail is no whole text, the label alone. *ids is owned (hooks). */
static slm_err label_ids(const struct context *c, const char *label, int32_t **ids, size_t *n,
                         slm_why *why) {
    const int32_t *tail = c->prompt->ids + c->prompt->n - c->n_tail;
    struct token_piece pieces[2] = { { c->tail.data, c->tail.len, false },
                                     { label, strlen(label), true } };
    slm_why ignored;
    *ids = NULL;
    slm_err err = tokenizer_encode(c->e->tokenizer, pieces, 2, 0, ids, n, &ignored);
    if (err == SLM_OK && *n > c->n_tail && memcmp(*ids, tail, c->n_tail * sizeof *tail) == 0) {
        *n -= c->n_tail;
        memmove(*ids, *ids + c->n_tail, *n * sizeof **ids);
        return SLM_OK;
    }
    mem_free(&c->e->hooks, *ids);
    *ids = NULL;
    return tokenizer_encode(c->e->tokenizer, pieces + 1, 1, 0, ids, n, why);
}

/* The labels behind node `from`, where a prompt ends. leaves [n_labels]. */
static slm_err add_labels(const slm_engine *e, const struct prompt *p, uint32_t from,
                          const char *const *labels, size_t n_labels, struct branches *b,
                          uint32_t *leaves, slm_why *why) {
    struct context c = { .e = e, .prompt = p };
    slm_err err;
    buf_init(&c.tail, &e->hooks, (size_t)1 << 20);
    TRY_OUT(tail_text(e, p, &c.tail, &c.n_tail, why));
    for (size_t i = 0; i < n_labels; i++) {
        int32_t *ids;
        size_t n;
        bool twice = false;
        err = label_ids(&c, labels[i], &ids, &n, why);
        if (err != SLM_OK) {
            fail_prefix(why, err, "label %zu", i);
            goto out;
        }
        if (n > 0)
            err = branches_add(b, from, ids, n, false, &leaves[i], &twice, why);
        mem_free(&e->hooks, ids);
        if (err != SLM_OK)
            goto out;
        for (size_t j = 0; (twice || n == 0) && j <= i; j++)
            if (n == 0 || (j < i && leaves[j] == leaves[i]))
                TRY_OUT(fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                             n == 0 ? "label %zu is empty" : "label %zu is the same as label %zu",
                             i, j));
    }
out:
    buf_free(&c.tail);
    return err;
}

/* ------------------------------------------------------------------ probabilities */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Softmax of z [n] in place. The sum is taken from the smallest on, so that it has the same bits in
 * whatever order the labels are given. work [n]. */
static void normalise(double *z, size_t n, double *work) {
    double max = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    for (size_t i = 0; i < n; i++)
        work[i] = z[i] = exp(z[i] - max);
    qsort(work, n, sizeof *work, ascending);
    for (size_t i = 0; i < n; i++)
        sum += work[i];
    for (size_t i = 0; i < n; i++)
        z[i] /= sum;
}

/* Whether the end of the turn is part of a label's score. */
static unsigned asks_end(const struct branches *b, uint32_t leaf) {
    return !b->open || b->nodes[leaf].child != BRANCH_NONE;
}

/* What one request gets: its prompt ends at node `from`. logprob, probability [n]; work [n]. */
static void give_scores(const struct branches *b, uint32_t from, const uint32_t *leaves, size_t n,
                        const slm_classify_options *o, double *logprob, double *probability,
                        double *work) {
    for (size_t i = 0; i < n; i++) {
        double score = branches_sum(b, from, leaves[i]);
        if (o->by_length)
            score /=
                (double)(b->nodes[leaves[i]].depth - b->nodes[from].depth + asks_end(b, leaves[i]));
        if (logprob != NULL)
            logprob[i] = score;
        if (probability != NULL)
            probability[i] = (score + (o->bias != NULL ? o->bias[i] : 0.0)) / o->temperature;
    }
    if (probability != NULL)
        normalise(probability, n, work);
}

/* ------------------------------------------------------------------ public */

static slm_err take_options(slm_classify_options *o, const slm_classify_options *given,
                            const char *const *labels, size_t n_labels, slm_why *why) {
    *o = slm_classify_default();
    TRY(options_copy(o, sizeof *o, given, why));
    if (o->temperature == 0.0)
        o->temperature = 1.0;
    if (!(o->temperature >= 1e-3 && o->temperature <= 1e6))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "temperature is %g, allowed is 0.001 to 1e6",
                    o->temperature);
    if (n_labels < 2 || n_labels > LABELS_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%zu labels, allowed are 2 to %d", n_labels,
                    LABELS_MAX);
    for (size_t i = 0; i < n_labels; i++) {
        if (labels[i][0] == '\0')
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "label %zu is empty", i);
        if (o->bias != NULL && !isfinite(o->bias[i]))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the bias of label %zu is no number", i);
    }
    return SLM_OK;
}

static size_t depth_of(const struct branches *b) {
    size_t longest = 0;
    for (size_t i = 0; i < b->n; i++)
        longest = b->nodes[i].depth > longest ? b->nodes[i].depth : longest;
    return longest;
}

/* The first n ids of a prompt into the session, with room and rope factors for the longest way through
 * the tree behind them. */
static slm_err hold_prompt(slm_session *s, const struct prompt *p, size_t n,
                           const struct branches *b, slm_result *r, slm_why *why) {
    struct sequence *q = &s->sequence;
    size_t longest = depth_of(b), context = s->runner.shape.context;
    if (n > context || longest > context - n)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "the prompt and its longest label have %zu tokens, the context holds %zu; "
                    "nothing was dropped",
                    n + longest, context);
    size_t expect = q->expect;
    q->expect = n + longest > expect ? n + longest : expect;
    q->reevaluated = 0;
    slm_err err = session_sync(s, p->ids, n, &r->reused_tokens, NULL, NULL, why);
    q->expect = expect;
    r->reevaluated_tokens = q->reevaluated;
    r->disk_tokens = q->note.from_disk;
    r->cache_miss = q->note.miss != PREFIX_NO_MISS ? prefix_miss_text(q->note.miss) : NULL;
    return err;
}

/* How many ids all prompts begin with; of several, each has one more at least. */
static size_t common_ids(const struct prompt *p, size_t n) {
    size_t same = p[0].n - (n > 1);
    for (size_t i = 1; i < n; i++) {
        size_t k = 0, most = p[i].n - 1 < same ? p[i].n - 1 : same;
        while (k < most && p[i].ids[k] == p[0].ids[k])
            k++;
        same = k;
    }
    return same;
}

struct asking {
    const struct prompt *prompts; /* [n] */
    size_t n;
    const char *const *labels; /* [n_labels] */
    size_t n_labels;
    const slm_classify_options *o;
    double *logprob, *probability; /* [n][n_labels], or NULL */
};

/* The tree: what each prompt has behind the first `same` ids, and the labels behind that. */
static slm_err build(const slm_engine *e, const struct asking *a, size_t same, struct branches *b,
                     uint32_t *ends, uint32_t *leaves, slm_why *why) {
    b->open = a->o->beginnings;
    for (size_t i = 0; i < a->n; i++) {
        const struct prompt *p = &a->prompts[i];
        ends[i] = 0;
        if (p->n > same)
            TRY(branches_add(b, 0, p->ids + same, p->n - same, true, &ends[i], NULL, why));
        TRY(add_labels(e, p, ends[i], a->labels, a->n_labels, b, leaves + i * a->n_labels, why));
    }
    return SLM_OK;
}

static slm_err classify(slm_session *s, const struct asking *a, slm_result *r, slm_why *why);

/* A model with two sets of rope factors takes those of a sequence's own length, so requests that need
 * not be of one kind share no keys. */
static bool mixes_ropes(const slm_engine *e, size_t length) {
    const struct model *m = &e->facts.m;
    return m->rope.kind == ROPE_LONG && length > m->rope.original_context;
}

static slm_err classify_each(slm_session *s, const struct asking *a, slm_result *r, slm_why *why) {
    slm_result sum = { .size = sizeof sum, .sampling = r->sampling };
    for (size_t i = 0; i < a->n; i++) {
        struct asking one = *a;
        size_t at = i * a->n_labels;
        one.prompts = &a->prompts[i];
        one.n = 1;
        one.logprob = a->logprob != NULL ? a->logprob + at : NULL;
        one.probability = a->probability != NULL ? a->probability + at : NULL;
        *r = (slm_result){ .size = sizeof *r, .sampling = sum.sampling };
        TRY(classify(s, &one, r, why));
        sum.prompt_tokens += r->prompt_tokens;
        sum.reused_tokens += r->reused_tokens;
        sum.output_tokens += r->output_tokens;
        sum.reevaluated_tokens += r->reevaluated_tokens;
        sum.disk_tokens += r->disk_tokens;
        sum.prefill_ns += r->prefill_ns;
        sum.decode_ns += r->decode_ns;
    }
    *r = sum;
    return SLM_OK;
}

static slm_err classify(slm_session *s, const struct asking *a, slm_result *r, slm_why *why) {
    const slm_engine *e = s->runner.engine;
    struct branches b = { 0 };
    slm_err err;
    size_t same = common_ids(a->prompts, a->n), k = a->n_labels;
    uint64_t start = clock_ns();
    uint32_t *leaves = mem_alloc(&e->hooks, a->n * k, sizeof *leaves),
             *ends = mem_alloc(&e->hooks, a->n, sizeof *ends);
    double *work = mem_alloc(&e->hooks, k, sizeof *work);
    TRY_OUT(branches_init(&b, &e->hooks, why));
    if (leaves == NULL || ends == NULL || work == NULL)
        TRY_OUT(fail_nomem(why, "labels", a->n * k * sizeof *leaves));
    if (same == 0)
        TRY_OUT(fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the prompts have no beginning in common"));
    for (size_t i = 0; i < a->n; i++)
        r->prompt_tokens += a->prompts[i].n;
    TRY_OUT(build(e, a, same, &b, ends, leaves, why));
    if (a->n > 1 && mixes_ropes(e, same + depth_of(&b))) {
        err = classify_each(s, a, r, why);
        goto out;
    }
    TRY_OUT(hold_prompt(s, &a->prompts[0], same, &b, r, why));
    r->reused_tokens += (a->n - 1) * same;
    r->prefill_ns = clock_ns() - start;
    TRY_OUT(branches_score(&b, &s->sequence, why));
    for (size_t i = 0; i < a->n; i++)
        give_scores(&b, ends[i], leaves + i * k, k, a->o,
                    a->logprob != NULL ? a->logprob + i * k : NULL,
                    a->probability != NULL ? a->probability + i * k : NULL, work);
    r->output_tokens = b.rows;
    r->decode_ns = clock_ns() - start - r->prefill_ns;
out:
    branches_free(&b);
    mem_free(&e->hooks, work);
    mem_free(&e->hooks, ends);
    mem_free(&e->hooks, leaves);
    return err;
}

slm_err slm_classify_many(slm_session *s, const char *const *requests, const size_t *sizes,
                          size_t n, const char *const *labels, size_t n_labels,
                          const slm_classify_options *options, double *logprob, double *probability,
                          slm_result *result, slm_why *why) {
    const slm_engine *e = s->runner.engine;
    slm_result r = { .size = sizeof r, .sampling = slm_sampling_default() };
    slm_classify_options o;
    slm_err err = SLM_OK;
    TRY(take_options(&o, options, labels, n_labels, why));
    if (result != NULL && result_give(result, &r, sizeof r) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_result is not set: %zu",
                    result->size);
    if (n == 0 || n > REQUESTS_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%zu requests, allowed are 1 to %d", n,
                    REQUESTS_MAX);
    struct prompt *prompts = mem_zalloc(&e->hooks, n, sizeof *prompts);
    if (prompts == NULL)
        return fail_nomem(why, "prompts", n * sizeof *prompts);
    for (size_t i = 0; i < n && err == SLM_OK; i++)
        err = make_prompt(e, requests[i], sizes[i], &o, &prompts[i], why);
    const struct asking a = { .prompts = prompts,
                              .n = n,
                              .labels = labels,
                              .n_labels = n_labels,
                              .o = &o,
                              .logprob = logprob,
                              .probability = probability };
    if (err == SLM_OK)
        err = classify(s, &a, &r, why);
    for (size_t i = 0; i < n; i++)
        mem_free(&e->hooks, prompts[i].ids);
    mem_free(&e->hooks, prompts);
    if (result != NULL)
        result_give(result, &r, sizeof r);
    return err;
}

slm_err slm_classify(slm_session *s, const char *request, size_t n, const char *const *labels,
                     size_t n_labels, const slm_classify_options *options, double *logprob,
                     double *probability, slm_result *result, slm_why *why) {
    return slm_classify_many(s, &request, &n, 1, labels, n_labels, options, logprob, probability,
                             result, why);
}
