/* work.c - the workers: from a request's body to lanes in a model's queue, or to an answer.
 *
 * Reading JSON, rendering templates, making tokens and compiling schemas may take long on hostile
 * input, so neither the connections' threads nor the models' do it. A request whose model is not loaded
 * comes here twice: what was read the first time is kept. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "picture/picture.h"
#include "server/core.h"

/* ------------------------------------------------------------------ prompts */

static bool oom(struct api_error *e) {
    return api_fail(e, 503, "out_of_memory", NULL, "not enough memory for this request");
}

static bool image_progress(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)stage;
    (void)done;
    (void)total;
    return !exchange_left(user);
}

/* Decoded in a child that can do nothing else, then shown to the model; a picture that it has seen costs
 * nothing. */
static bool open_image(struct exchange *x, const struct api_image *image, struct api_error *e) {
    const struct picture_options limits = { 0 };
    slm_image_options o = slm_image_default();
    struct picture_rgb rgb;
    uint8_t *bytes;
    size_t n;
    slm_why why;
    if (slm_image_side(x->model->engine, NULL) == 0) { /* the library knows who does see */
        const slm_picture dot = { .size = sizeof dot, .rgb = (const uint8_t *)"   ", .width = 1, .height = 1 };
        slm_image_open(x->model->engine, &dot, NULL, &x->images[x->n_images], &why);
        return api_fail(e, 400, "unsupported_content", "messages", "%s", why.message);
    }
    if (!api_image_bytes(image, &bytes, &n, e))
        return false;
    slm_err err = picture_decode(bytes, n, &limits, &rgb, &why);
    free(bytes);
    if (err == SLM_E_BUDGET || err == SLM_E_FORMAT || err == SLM_E_UNSUPPORTED)
        return api_fail(e, 400, "invalid_image", "messages", "%s", why.message);
    if (err != SLM_OK)
        return api_fail_slm(e, err, &why);
    const slm_picture p = {
        .size = sizeof p, .rgb = rgb.data, .width = rgb.width, .height = rgb.height
    };
    o.progress = image_progress;
    o.user = x;
    err = slm_image_open(x->model->engine, &p, &o, &x->images[x->n_images], &why);
    picture_free(&rgb);
    x->n_images += err == SLM_OK;
    return err == SLM_OK || api_fail_slm(e, err, &why);
}

static bool open_images(struct exchange *x, struct api_error *e) {
    while (x->n_images < x->call.n_images)
        if (exchange_left(x) || !open_image(x, &x->call.images[x->n_images], e))
            return false;
    return true;
}

static bool make_chat(struct exchange *x, size_t i, struct api_error *e) {
    const struct api_prompt *p = &x->call.prompts[i];
    slm_prompt_info info = { .size = sizeof info };
    slm_why why;
    slm_prompt_free(x->prompts[i]);
    x->prompts[i] = NULL;
    slm_render_options o = slm_render_default();
    o.images = (const slm_image *const *)x->images + x->call.first_image;
    o.n_images = x->n_images - x->call.first_image;
    slm_err err = slm_prompt_make(x->model->engine, p->text, p->n, &o, &x->prompts[i], &why);
    if (err == SLM_OK)
        err = slm_prompt_get(x->prompts[i], &info);
    if (err != SLM_OK)
        return api_fail_slm(e, err, &why);
    x->prompt_tokens[i] = info.n;
    return true;
}

static bool make_text(struct exchange *x, size_t i, struct api_error *e) {
    const struct api_prompt *p = &x->call.prompts[i];
    slm_why why;
    slm_err err = slm_encode(x->model->engine, p->text, p->n, p->no_bos ? 0 : SLM_ENCODE_BOS,
                             &x->encoded[i], &x->prompt_tokens[i], &why);
    if (err != SLM_OK)
        return api_fail_slm(e, err, &why);
    if (x->prompt_tokens[i] == 0)
        return api_fail(e, 400, "invalid_value", "prompt", "the prompt is empty");
    return true;
}

static bool make_prompt(struct exchange *x, size_t i, struct api_error *e) {
    const struct api_prompt *p = &x->call.prompts[i];
    bool made = true;
    if (p->kind == API_CHAT)
        made = open_images(x, e) && make_chat(x, i, e);
    else if (p->kind == API_TEXT)
        made = make_text(x, i, e);
    else
        x->prompt_tokens[i] = p->n_ids;
    while (made && !api_fit(&x->call, x->prompt_tokens[i], x->model->context, e)) {
        if (p->kind != API_CHAT || !x->call.truncate || !api_drop_turn(&x->call) || exchange_left(x))
            return false;
        made = make_chat(x, i, e);
    }
    return made;
}

static bool make_prompts(struct exchange *x, struct api_error *e) {
    size_t n = x->call.n_prompts;
    x->prompts = calloc(n + 1, sizeof *x->prompts);
    x->encoded = calloc(n + 1, sizeof *x->encoded);
    x->prompt_tokens = calloc(n + 1, sizeof *x->prompt_tokens);
    if (!x->prompts || !x->encoded || !x->prompt_tokens)
        return oom(e);
    for (size_t i = 0; i < n; i++)
        if (exchange_left(x) || !make_prompt(x, i, e))
            return false;
    for (size_t i = 0; i < n; i++) {
        slm_prompt_info info = { .size = sizeof info };
        if (x->prompts[i] && slm_prompt_get(x->prompts[i], &info) == SLM_OK && info.warnings)
            api_warn(&x->call, info.warnings);
    }
    if (!x->call.has_constraint)
        return true;
    slm_why why;
    slm_err err = slm_constraint_open(x->model->engine, x->call.constraint_kind, x->call.constraint,
                                      x->call.n_constraint, NULL, &x->constraint, &why);
    return err == SLM_OK || api_fail_slm(e, err, &why);
}

/* ------------------------------------------------------------------ lanes */

static void lane_ids(struct exchange *x, size_t p, struct lane *lane, bool *no_think) {
    slm_prompt_info info = { .size = sizeof info };
    if (x->prompts[p] && slm_prompt_get(x->prompts[p], &info) == SLM_OK) {
        lane->ids = info.ids;
        lane->n_ids = info.n;
        *no_think = info.no_think;
    } else if (x->encoded[p]) {
        lane->ids = x->encoded[p];
        lane->n_ids = x->prompt_tokens[p];
    } else {
        lane->ids = x->call.prompts[p].ids;
        lane->n_ids = x->call.prompts[p].n_ids;
    }
}

static bool make_lanes(struct exchange *x, struct api_error *e) {
    struct api_call *call = &x->call;
    bool embeds = call->op == API_EMBED;
    size_t choices = embeds ? 1 : call->choices, n = call->n_prompts * choices;
    if (n == 0 || n > API_CANDIDATES_MOST)
        return api_fail(e, 400, "invalid_value", NULL, "%zu answers are wanted, from 1 to %d can be",
                        n, API_CANDIDATES_MOST);
    x->lanes = calloc(n, sizeof *x->lanes);
    if (x->lanes == NULL)
        return oom(e);
    x->n_lanes = n;
    for (size_t i = 0; i < n; i++) {
        struct lane *lane = &x->lanes[i];
        size_t p = i / choices;
        bool no_think = false;
        lane->exchange = x;
        lane->index = i;
        lane_ids(x, p, lane, &no_think);
        x->waiting_tokens += lane->n_ids;
        api_options(call, i, &x->model->info, no_think, lane->n_ids, x->model->context,
                    &lane->options);
        lane->options.prompt = x->prompts[p];
        lane->options.constraint = x->constraint;
        if (embeds && (lane->hidden = calloc(x->model->info.hidden, sizeof(float))) == NULL)
            return oom(e);
    }
    return true;
}

static const char *token_bytes(void *user, int32_t id, size_t *n) {
    const struct served_model *m = user;
    const char *bytes = NULL;
    *n = 0;
    slm_token_bytes(m->engine, id, &bytes, n);
    return bytes;
}

static void random_seed(struct exchange *x) {
    uint64_t seed = 0;
    if (!x->call.seed_set && gnutls_rnd(GNUTLS_RND_NONCE, &seed, sizeof seed) == 0)
        x->call.sampling.values.seed = seed >> 11; /* a number that JSON can say */
}

static bool make_reply(struct exchange *x, struct api_error *e) {
    x->facts = (struct api_facts){
        .unique = x->id + 4,
        .model = x->model->name,
        .fingerprint = x->model->fingerprint,
        .created_ns = x->created_ns,
        .token = token_bytes,
        .user = x->model,
    };
    x->reply = api_reply_new(&x->call, &x->facts);
    return x->reply != NULL || oom(e);
}

static void warn(struct exchange *x) {
    if (x->call.warnings.len > 0)
        exchange_header(x, "x-slm-warning", "%.*s", (int)(x->call.warnings.len < 1000 ? x->call.warnings.len : 1000),
                        x->call.warnings.data);
}

static bool queue(struct exchange *x, struct api_error *e) {
    struct served_model *m = x->model;
    random_seed(x);
    if (!make_prompts(x, e) || !make_lanes(x, e) || !make_reply(x, e))
        return false;
    warn(x);
    exchange_header(x, "x-slm-model", "%s", m->name);
    api_reply_begin(x->reply, x->prompt_tokens);
    x->queued_ns = clock_ns();
    x->ping_ns = x->queued_ns + PING_SECONDS * UINT64_C(1000000000);
    pthread_mutex_lock(&x->lock);
    x->queued_at = m;
    atomic_store(&x->stage, STAGE_QUEUE);
    pthread_mutex_unlock(&x->lock);
    exchange_ref(x);
    if (drive_admit(m, x, e))
        return true;
    pthread_mutex_lock(&x->lock);
    x->queued_at = NULL;
    atomic_store(&x->stage, STAGE_WORK);
    pthread_mutex_unlock(&x->lock);
    exchange_unref(x);
    if (e->status == 429)
        atomic_fetch_add(&x->server->meter.rejected[REJECT_QUEUE], 1);
    return false;
}

/* ------------------------------------------------------------------ answers that need no generating */

static bool inform(struct exchange *x, struct api_error *e) {
    struct server *s = x->server;
    struct world_view view;
    struct buf out;
    const struct api_model *model = NULL;
    if (x->call.op == API_LOAD && x->call.keep_alive_set && x->model)
        registry_keep(&s->registry, x->model, x->call.keep_alive_s);
    if (!world_open(s, &view))
        return oom(e);
    view.world.load_ns = x->load_ns;
    for (size_t i = 0; i < view.world.n_models; i++)
        if (world_is(&view, i, x->model, x->call.model))
            model = &view.models[i];
    buf_init(&out, NULL, 256u << 20);
    bool ok = api_inform(&x->call, &view.world, model, &out, e);
    world_close(s, &view);
    if (ok) {
        warn(x);
        exchange_reply(x, 200, api_reply_type(&x->call), &out);
    }
    buf_free(&out);
    return ok;
}

/* ------------------------------------------------------------------ one request */

static bool needs_model(const struct exchange *x) {
    return x->route->wants_model || x->call.op == API_GENERATE || x->call.op == API_EMBED ||
           x->call.op == API_LOAD;
}

static bool read_call(struct exchange *x, struct api_error *e) {
    if (x->has_call)
        return true;
    x->has_call = true; /* freed also after a failure */
    if (!api_read(x->route, x->has_name ? x->name : NULL, x->body.data ? x->body.data : "",
                  x->body.len, &x->call, e))
        return false;
    if (x->server->options.log_prompts)
        log_body(x);
    buf_free(&x->body);
    return true;
}

/* False: *e says why, unless the client has left. *waits: it will come again. */
static bool work_on(struct exchange *x, struct api_error *e, bool *waits) {
    struct registry *r = &x->server->registry;
    if (!read_call(x, e))
        return false;
    if (x->model == NULL && needs_model(x)) {
        enum acquired got = registry_acquire(r, x->call.model, x, e);
        *waits = got == ACQUIRE_WAITS;
        if (got != ACQUIRED)
            return got == ACQUIRE_WAITS;
        if (x->call.keep_alive_set)
            registry_keep(r, x->model, x->call.keep_alive_s);
    }
    bool evaluates = x->call.op == API_GENERATE || x->call.op == API_EMBED;
    *waits = evaluates; /* in the model's queue, which holds a reference of its own */
    bool ok = evaluates ? queue(x, e) : inform(x, e);
    if (!ok)
        *waits = false;
    return ok;
}

static void work(struct exchange *x) {
    struct api_error e = { .status = 0 };
    bool waits = false;
    atomic_store(&x->stage, STAGE_WORK);
    if (x->failed) /* the model could not be loaded */
        exchange_error(x, &x->error);
    else if (!exchange_left(x) && !work_on(x, &e, &waits) && !exchange_left(x))
        exchange_error(x, &e);
    if (!waits) /* else it belongs to another thread now */
        exchange_drop_work(x);
    exchange_unref(x);
}

/* ------------------------------------------------------------------ threads */

static void *worker(void *arg) {
    struct workers *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->first == NULL && !w->stop)
            pthread_cond_wait(&w->more, &w->lock);
        struct exchange *x = w->first;
        if (x == NULL)
            break;
        w->first = x->next;
        if (w->first == NULL)
            w->last = NULL;
        w->waiting--;
        x->next = NULL;
        pthread_mutex_unlock(&w->lock);
        work(x);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

void workers_give(struct workers *w, struct exchange *x) {
    pthread_mutex_lock(&w->lock);
    x->next = NULL;
    if (w->last)
        w->last->next = x;
    else
        w->first = x;
    w->last = x;
    w->waiting++;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

size_t workers_waiting(struct workers *w) {
    pthread_mutex_lock(&w->lock);
    size_t n = w->waiting;
    pthread_mutex_unlock(&w->lock);
    return n;
}

bool workers_start(struct workers *w, struct server *s) {
    w->server = s;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    while (w->n < WORKERS && pthread_create(&w->threads[w->n], NULL, worker, w) == 0)
        w->n++;
    return w->n > 0;
}

void workers_stop(struct workers *w) {
    if (w->server == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 0; i < w->n; i++)
        pthread_join(w->threads[i], NULL);
    w->n = 0;
}
