/* registry.c - the models that can be asked for: which there are, which are loaded, what they may take.
 *
 * Names come from the command line, the built-in model and the catalog's models on this disk; a request
 * can name one of these and nothing else, so no path ever comes from a request. A model is loaded when it
 * is asked for. Its memory is planned from the file's header first and has to fit beside the others;
 * models that nobody uses make room, the least recently used first. Who uses one holds a reference,
 * counted under the registry's lock, and a model with references is never unloaded.
 *
 * A model's thread loads it, drives it, unloads it: engine and batch are opened and closed by it alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "server/core.h"

enum { RESCAN_SECONDS = 10, FAILED_SECONDS = 10, CONTEXT_LEAST = 256, HANG_SECONDS = 30 };
#define SECOND UINT64_C(1000000000)

/* ------------------------------------------------------------------ which there are */

static struct served_model *by_name(struct registry *r, const char *name) {
    struct served_model *m = r->first;
    while (m && strcasecmp(m->name, name) != 0)
        m = m->next;
    return m;
}

static void describe(struct served_model *m) {
    struct stat s;
    slm_card card = { .size = sizeof card };
    if (m->found.id && slm_catalog_find(m->found.id, &card) == SLM_OK)
        m->title = card.title;
    if (m->found.path && stat(m->found.path, &s) == 0) {
        if (S_ISREG(s.st_mode) && m->file_bytes == 0)
            m->file_bytes = (uint64_t)s.st_size;
        m->modified_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    }
}

/* Takes name and what found holds; NULL when there is no memory. */
static struct served_model *add(struct registry *r, char *name, struct found *found) {
    struct served_model *m = name ? calloc(1, sizeof *m) : NULL, **end = &r->first;
    if (m == NULL) {
        free(name);
        found_free(found);
        return NULL;
    }
    m->server = r->server;
    m->name = name;
    m->found = *found;
    m->keep_s = INT64_MIN;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->more, NULL);
    describe(m);
    while (*end)
        end = &(*end)->next;
    *end = m;
    r->n++;
    return m;
}

/* "models/qwen.gguf" is asked for as "qwen". */
static char *name_of_path(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/')
        from--;
    if (n - from > 5 && strncasecmp(path + n - 5, ".gguf", 5) == 0)
        n -= 5;
    char *name = strndup(path + from, n - from);
    for (char *p = name; p && *p; p++)
        if ((unsigned char)*p < 0x21 || (unsigned char)*p == 0x7f || strchr("\"\\/", *p))
            *p = '_';
    return name;
}

static void add_from_disk(struct registry *r, const struct disk_model *d, bool with_quant) {
    struct found found = { .path = strdup(d->path), .place = d->place, .id = d->id };
    char name[256];
    snprintf(found.quant, sizeof found.quant, "%s", d->quant);
    snprintf(name, sizeof name, "%s%s%s", d->id, with_quant ? ":" : "", with_quant ? d->quant : "");
    if (found.path == NULL || by_name(r, name)) {
        found_free(&found);
        return;
    }
    struct served_model *m = add(r, strdup(name), &found);
    if (m)
        m->file_bytes = d->bytes;
}

/* Once per known model without a type (the best that fits), and each file with its type. */
static void scan(struct registry *r) {
    struct disk_list list;
    uint64_t memory = r->server->options.max_memory;
    r->scanned_ns = clock_ns();
    disk_scan(&list);
    for (size_t i = 0; i < list.n; i++) {
        const struct disk_model *best = disk_best(&list, list.items[i].id, NULL, memory);
        if (best && !by_name(r, best->id))
            add_from_disk(r, best, false);
    }
    for (size_t i = 0; i < list.n; i++)
        if (list.items[i].quant[0])
            add_from_disk(r, &list.items[i], true);
    disk_free(&list);
}

static struct served_model *by_known_name(struct registry *r, const char *name) {
    char base[256], tag[64] = "latest";
    slm_card card;
    struct served_model *m = by_name(r, name);
    if (m)
        return m;
    for (size_t i = 0; i < slm_catalog_count(); i++) {
        card.size = sizeof card;
        if (slm_catalog_get(i, &card) == SLM_OK && card.hub_id &&
            strcasecmp(card.hub_id, name) == 0)
            return by_name(r, card.id);
    }
    const char *colon = strchr(name, ':');
    size_t n = colon ? (size_t)(colon - name) : strlen(name);
    if (n == 0 || n >= sizeof base)
        return NULL;
    memcpy(base, name, n);
    base[n] = '\0';
    if (colon)
        snprintf(tag, sizeof tag, "%s", colon + 1);
    if (strcmp(tag, "latest") == 0 && (m = by_name(r, base)) != NULL)
        return m;
    const char *id = match_ollama(base, tag);
    return id ? by_name(r, id) : NULL;
}

/* With the lock held. NULL or "": the default. */
static struct served_model *find(struct registry *r, const char *name) {
    if (name == NULL || name[0] == '\0')
        return r->first;
    struct served_model *m = by_known_name(r, name);
    if (m == NULL && clock_ns() - r->scanned_ns > RESCAN_SECONDS * SECOND) {
        scan(r);
        m = by_known_name(r, name);
    }
    return m;
}

/* ------------------------------------------------------------------ memory */

static uint64_t used_bytes(const struct registry *r) {
    uint64_t used = 0;
    for (const struct served_model *m = r->first; m; m = m->next)
        used += m->bytes;
    return used;
}

/* With the lock held. */
static void unload(struct served_model *m) {
    m->state = MODEL_UNLOADING;
    drive_stop(m);
}

/* The least recently used of the models that nobody uses; NULL: none. */
static struct served_model *victim(struct registry *r) {
    struct served_model *oldest = NULL;
    for (struct served_model *m = r->first; m; m = m->next)
        if (m->state == MODEL_LOADED && m->refs == 0 && (!oldest || m->used_ns < oldest->used_ns))
            oldest = m;
    return oldest;
}

static bool any_unloading(const struct registry *r) {
    const struct served_model *m = r->first;
    while (m && m->state != MODEL_UNLOADING)
        m = m->next;
    return m != NULL;
}

/* Counts bytes for m, after others that nobody uses have gone where that is needed. */
static bool reserve(struct registry *r, struct served_model *m, uint64_t bytes, uint64_t *left) {
    uint64_t most = r->server->options.max_memory;
    bool fits = false;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        uint64_t used = used_bytes(r);
        *left = most > used ? most - used : 0;
        fits = bytes <= *left;
        struct served_model *gone = fits || r->closing ? NULL : victim(r);
        if (gone)
            unload(gone);
        if (fits || (!gone && !any_unloading(r)))
            break;
        pthread_cond_wait(&r->changed, &r->lock);
    }
    if (fits)
        m->bytes = bytes;
    pthread_mutex_unlock(&r->lock);
    return fits;
}

/* ------------------------------------------------------------------ loading */

static void on_library_log(void *user, enum slm_log_level level, const char *line) {
    char text[640];
    if (level >= SLM_LOG_WARN)
        log_event(user, "library", "\"message\":%s", log_quote(line, text, sizeof text));
}

static slm_engine_options load_options(struct served_model *m) {
    struct cli *c = m->server->cli;
    slm_engine_options o = slm_engine_default();
    o.exact = opt_set(c, OPT_EXACT);
    o.isa = opt_text(c, OPT_ISA);
    o.threads = (unsigned)opt_int(c, OPT_THREADS, 0);
    o.id_hint = m->found.id;
    return o;
}

static slm_session_options batch_options(struct served_model *m) {
    slm_session_options o = session_options(m->server->cli);
    o.batch = true;
    o.sequences = m->server->options.parallel;
    o.cache_bytes = m->server->options.cache_bytes;
    return o;
}

/* How much context each place gets, and the memory of it all, which is counted then. */
static slm_err plan(struct served_model *m, slm_session_options *o, slm_why *why) {
    struct registry *r = &m->server->registry;
    slm_engine_options bare_options = load_options(m);
    slm_engine *bare = NULL;
    slm_info info = { .size = sizeof info };
    slm_plan p = { .size = sizeof p };
    uint64_t left = 0;
    bare_options.need = bare_options.want = 0;
    TRY(open_found(&m->found, &bare_options, &bare, why));
    slm_engine_info(bare, &info);
    uint32_t asked = m->server->options.context;
    uint32_t most = info.context < CONTEXT_DEFAULT ? info.context : CONTEXT_DEFAULT;
    o->context = asked ? asked : most;
    slm_err err = slm_engine_plan(bare, o, &p, why);
    if (err == SLM_OK && !reserve(r, m, p.total, &left)) {
        uint64_t wanted = p.total;
        o->context = asked ? 0 : context_within(bare, o, most, left);
        if (o->context >= CONTEXT_LEAST)
            err = slm_engine_plan(bare, o, &p, why);
        if (err == SLM_OK && (o->context < CONTEXT_LEAST || !reserve(r, m, p.total, &left)))
            err = fail(why, SLM_E_MEMORY, SLM_NO_OFFSET,
                       "%s needs %llu MiB with %u places, %llu MiB are free", m->name,
                       (unsigned long long)(wanted >> 20), o->sequences,
                       (unsigned long long)(left >> 20));
    }
    slm_engine_close(bare);
    return err;
}

static bool goes_on_loading(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)stage;
    (void)done;
    (void)total;
    return !atomic_load(&((struct registry *)user)->closing);
}

static slm_err open_model(struct served_model *m, slm_why *why) {
    struct server *s = m->server;
    slm_session_options b = batch_options(m);
    slm_engine_options o = load_options(m);
    struct slm_hooks hooks = { .size = sizeof hooks, .log = on_library_log, .user = s };
    TRY(plan(m, &b, why));
    o.hooks = &hooks;
    o.progress = goes_on_loading;
    o.user = &s->registry;
    o.need = SLM_WEIGHTS | SLM_TOKENIZER;
    o.want = SLM_ALL;
    char *packed = opt_set(s->cli, OPT_NO_PACKED_CACHE) ? NULL : home_path("packed");
    o.packed_dir = packed;
    slm_why left;
    slm_err err = open_seeing(&m->found, &o, &m->engine, why, &left);
    free(packed);
    TRY(err);
    if (left.code != SLM_OK)
        on_library_log(s, SLM_LOG_WARN, left.message);
    m->info = (slm_info){ .size = sizeof m->info };
    slm_engine_info(m->engine, &m->info);
    if (slm_engine_identity(m->engine, m->identity, NULL) != SLM_OK)
        m->identity[0] = '\0';
    snprintf(m->fingerprint, sizeof m->fingerprint, "fp_%.12s", m->identity);
    slm_batch *batch = NULL;
    TRY(slm_batch_open(m->engine, &b, &batch, why));
    m->placed = calloc(b.sequences, sizeof *m->placed);
    if (m->placed == NULL) {
        slm_batch_close(batch);
        return fail_nomem(why, "places", b.sequences * sizeof *m->placed);
    }
    m->places = b.sequences;
    m->context = slm_batch_context(batch);
    pthread_mutex_lock(&m->lock);
    m->batch = batch;
    m->stop = false;
    pthread_mutex_unlock(&m->lock);
    return SLM_OK;
}

static void close_model(struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    slm_batch *batch = m->batch;
    m->batch = NULL;
    pthread_mutex_unlock(&m->lock);
    slm_batch_close(batch);
    slm_engine_close(m->engine);
    m->engine = NULL;
    free(m->placed);
    m->placed = NULL;
    m->places = 0;
}

static void log_load(struct served_model *m, slm_err err, const slm_why *why, uint64_t ns) {
    char name[300], text[640];
    if (err == SLM_OK)
        log_event(m->server, "model_loaded",
                  "\"model\":%s,\"ms\":%llu,\"memory_mib\":%llu,\"context\":%u,\"places\":%u",
                  log_quote(m->name, name, sizeof name), (unsigned long long)(ns / 1000000),
                  (unsigned long long)(m->bytes >> 20), m->context, m->places);
    else
        log_event(m->server, "model_refused", "\"model\":%s,\"code\":\"%s\",\"message\":%s",
                  log_quote(m->name, name, sizeof name), slm_err_name(err),
                  log_quote(why->message, text, sizeof text));
}

static void name_model(struct exchange *x, const struct served_model *m) {
    snprintf(x->model_name, sizeof x->model_name, "%s", m->name);
}

/* Tells those who waited for the load: each gets its reference, or the error. */
static void loaded(struct served_model *m, slm_err err, const slm_why *why, uint64_t ns) {
    struct registry *r = &m->server->registry;
    pthread_mutex_lock(&r->lock);
    struct exchange *x = m->waiters;
    m->waiters = NULL;
    m->failure.status = 0;
    m->load_ns = ns;
    m->load_err = err;
    m->tried = true;
    m->used_ns = clock_ns();
    if (err == SLM_OK) {
        m->state = MODEL_LOADED;
        m->loaded_s = (int64_t)(clock_utc_ns() / 1000000000);
        atomic_fetch_add(&m->server->meter.loads, 1);
    } else {
        m->bytes = 0;
        m->failed_ns = clock_ns();
        m->why = *why;
        atomic_fetch_add(&m->server->meter.load_failures, 1);
        if (err == SLM_E_MEMORY || err == SLM_E_NOMEM) {
            api_fail(&m->failure, 503, "model_does_not_fit", "model", "%s", why->message);
            m->failure.retry_ms = 5000;
        } else {
            api_fail(&m->failure, 500, "model_load_failed", "model",
                     "%s cannot be loaded: %s", m->name, slm_err_text(err));
        }
    }
    for (struct exchange *next; x; x = next) {
        next = x->next;
        x->next = NULL;
        if (err == SLM_OK) {
            m->refs++;
            x->model = m;
            name_model(x, m);
            x->load_ns = ns;
        } else {
            x->failed = true;
            x->error = m->failure;
        }
        workers_give(&m->server->workers, x);
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* Whether it is to be loaded again at once, because somebody asked meanwhile. */
static bool unloaded(struct served_model *m) {
    struct registry *r = &m->server->registry;
    char name[300];
    log_event(m->server, "model_unloaded", "\"model\":%s", log_quote(m->name, name, sizeof name));
    atomic_fetch_add(&m->server->meter.unloads, 1);
    pthread_mutex_lock(&r->lock);
    m->bytes = 0;
    bool again = m->waiters != NULL && !r->closing;
    m->state = again ? MODEL_LOADING : MODEL_ON_DISK;
    m->retire = false;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return again;
}

static void *model_thread(void *arg) {
    struct served_model *m = arg;
    struct registry *r = &m->server->registry;
    for (bool again = true; again;) {
        slm_why why = { .code = SLM_OK };
        uint64_t start = clock_ns();
        slm_err err = open_model(m, &why);
        uint64_t ns = clock_ns() - start;
        if (err != SLM_OK)
            close_model(m);
        log_load(m, err, &why, ns);
        loaded(m, err, &why, ns);
        if (err != SLM_OK)
            break;
        drive_run(m);
        close_model(m);
        again = unloaded(m);
    }
    pthread_mutex_lock(&r->lock);
    m->thread_ended = true;
    if (m->state == MODEL_LOADING) /* it failed */
        m->state = MODEL_ON_DISK;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* With the lock held. */
static bool begin_load(struct served_model *m) {
    if (m->thread_started && m->thread_ended) {
        pthread_join(m->thread, NULL); /* it is past its last lock: this does not wait */
        m->thread_started = false;
    }
    m->thread_ended = false;
    m->state = MODEL_LOADING;
    m->thread_started = pthread_create(&m->thread, NULL, model_thread, m) == 0;
    if (!m->thread_started)
        m->state = MODEL_ON_DISK;
    return m->thread_started;
}

/* ------------------------------------------------------------------ asking for one */

static enum acquired wait_for(struct served_model *m, struct exchange *x) {
    exchange_ref(x);
    atomic_store(&x->stage, STAGE_LOAD);
    x->next = m->waiters;
    m->waiters = x;
    return ACQUIRE_WAITS;
}

enum acquired registry_acquire(struct registry *r, const char *name, struct exchange *x,
                               struct api_error *e) {
    enum acquired got = ACQUIRE_FAILED;
    pthread_mutex_lock(&r->lock);
    struct served_model *m = find(r, name);
    if (m == NULL) {
        api_fail(e, 404, "model_not_found", "model",
                 "there is no model of that name here; /v1/models lists those there are");
    } else if (r->closing) {
        api_fail(e, 503, "server_stopping", NULL, "the server is being stopped");
    } else if (m->state == MODEL_LOADED) {
        m->refs++;
        m->used_ns = clock_ns();
        x->model = m;
        name_model(x, m);
        got = ACQUIRED;
    } else if (m->state == MODEL_ON_DISK && m->failure.status == 500 &&
               clock_ns() - m->failed_ns < FAILED_SECONDS * SECOND) {
        *e = m->failure;
    } else if (m->state != MODEL_ON_DISK || begin_load(m)) {
        got = wait_for(m, x);
    } else {
        api_fail(e, 503, "out_of_memory", NULL, "no thread for the model could be made");
    }
    pthread_mutex_unlock(&r->lock);
    return got;
}

/* With the lock held. */
static void let_go(struct registry *r, struct served_model *m) {
    m->refs--;
    if (m->refs == 0 && m->retire && m->state == MODEL_LOADED)
        unload(m);
    pthread_cond_broadcast(&r->changed);
}

void registry_release(struct registry *r, struct served_model *m) {
    pthread_mutex_lock(&r->lock);
    m->used_ns = clock_ns();
    let_go(r, m);
    pthread_mutex_unlock(&r->lock);
}

void registry_unview(struct registry *r, struct served_model *m) {
    pthread_mutex_lock(&r->lock);
    let_go(r, m);
    pthread_mutex_unlock(&r->lock);
}

void registry_keep(struct registry *r, struct served_model *m, int64_t seconds) {
    pthread_mutex_lock(&r->lock);
    m->keep_s = seconds;
    m->retire = seconds == 0;
    pthread_mutex_unlock(&r->lock);
}

/* ------------------------------------------------------------------ from the server's own thread */

int64_t registry_keep_seconds(const struct served_model *m) {
    int64_t idle = m->server->options.idle_s;
    return m->keep_s != INT64_MIN ? m->keep_s : idle > 0 ? idle : -1;
}

void registry_idle(struct registry *r) {
    uint64_t now = clock_ns();
    pthread_mutex_lock(&r->lock);
    for (struct served_model *m = r->first; m; m = m->next) {
        int64_t keep = registry_keep_seconds(m);
        if (m->state == MODEL_LOADED && m->refs == 0 && keep >= 0 &&
            now > m->used_ns && now - m->used_ns > (uint64_t)keep * SECOND)
            unload(m);
    }
    pthread_mutex_unlock(&r->lock);
}

bool registry_ready(struct registry *r, const char **why) {
    uint64_t now = clock_ns();
    bool ready = true;
    pthread_mutex_lock(&r->lock);
    for (struct served_model *m = r->first; m && ready; m = m->next) {
        uint64_t step = atomic_load(&m->step_ns);
        pthread_mutex_lock(&m->lock);
        bool full = m->n_waiting >= m->server->options.queue && m->n_waiting > 0;
        pthread_mutex_unlock(&m->lock);
        if (m->listed && !m->tried)
            *why = "loading";
        else if (step != 0 && now > step && now - step > HANG_SECONDS * SECOND)
            *why = "a model does not go on";
        else if (full)
            *why = "the queue is full";
        else
            continue;
        ready = false;
    }
    pthread_mutex_unlock(&r->lock);
    return ready;
}

enum load_state registry_listed(struct registry *r, struct served_model **failed) {
    enum load_state state = LOADS_DONE;
    pthread_mutex_lock(&r->lock);
    for (struct served_model *m = r->first; m; m = m->next) {
        if (m->listed && m->tried && m->load_err != SLM_OK) {
            *failed = m;
            state = LOADS_FAILED;
            break;
        }
        if (m->listed && !m->tried)
            state = LOADS_GO_ON;
    }
    pthread_mutex_unlock(&r->lock);
    return state;
}

static int add_listed(struct registry *r, const char *const *models, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct found found;
        int code = find_model(r->server->cli, models[i], &found);
        if (code != EXIT_DONE)
            return code;
        char *name = found.id && !strchr(models[i], ':') ? strdup(found.id)
                     : found.id                          ? strdup(models[i])
                                                         : name_of_path(models[i]);
        if (name && by_name(r, name)) {
            int bad = report_usage(r->server->cli, NULL, "two models would be called '%s'", name);
            free(name);
            found_free(&found);
            return bad;
        }
        struct served_model *m = add(r, name, &found);
        if (m == NULL)
            return report(r->server->cli, EXIT_COULD_NOT, "E_NOMEM", NULL, "out of memory");
        m->listed = true;
    }
    return EXIT_DONE;
}

int registry_open(struct registry *r, struct server *s, const char *const *models, size_t n) {
    r->server = s;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    int code = add_listed(r, models, n);
    if (code != EXIT_DONE)
        return code;
    struct found demo = { .demo = true, .id = "demo" };
    if (!by_name(r, "demo"))
        add(r, strdup("demo"), &demo);
    scan(r);
    return EXIT_DONE;
}

void registry_load_listed(struct registry *r) {
    pthread_mutex_lock(&r->lock);
    for (struct served_model *m = r->first; m; m = m->next)
        if (m->listed && m->state == MODEL_ON_DISK)
            begin_load(m);
    pthread_mutex_unlock(&r->lock);
}

void registry_close(struct registry *r) {
    if (r->server == NULL)
        return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    for (struct served_model *m = r->first; m; m = m->next) {
        while (m->state == MODEL_LOADING || (m->state == MODEL_LOADED && m->refs > 0))
            pthread_cond_wait(&r->changed, &r->lock);
        if (m->state == MODEL_LOADED)
            unload(m);
    }
    while (any_unloading(r))
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void registry_stop(struct registry *r) {
    for (struct served_model *m = r->first, *next; m; m = next) {
        next = m->next;
        if (m->thread_started)
            pthread_join(m->thread, NULL);
        pthread_cond_destroy(&m->more);
        pthread_mutex_destroy(&m->lock);
        found_free(&m->found);
        free(m->name);
        free(m);
    }
    r->first = NULL;
}
