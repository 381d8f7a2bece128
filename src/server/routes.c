/* routes.c - the server's own routes, and the server as the dialects' lists of models show it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "server/core.h"

/* ------------------------------------------------------------------ own routes */

static const struct own_row {
    const char *path;
    enum own_route route;
    bool public;
} own_rows[] = {
    /* probes of load balancers and service managers have no key, and learn nothing from these */
    { "/health", OWN_HEALTH, true },
    { "/v1/health", OWN_HEALTH, true },
    { "/health/ready", OWN_READY, true },
    { "/metrics", OWN_METRICS, false },
};

enum own_route own_route_find(struct server *s, const char *method, const char *path,
                              const char *accept, bool *known) {
    struct page_file file;
    /* clients of Ollama ask for "/" too, to see whether it is there; browsers say what they want */
    bool wants_page = strcmp(path, "/") != 0 || (accept && strstr(accept, "text/html"));
    if (s->page && wants_page && page_find(s->page, path, &file)) {
        *known = true;
        return strcmp(method, "GET") == 0 ? OWN_PAGE : OWN_NONE;
    }
    for (size_t i = 0; i < ARRAY_LEN(own_rows); i++) {
        if (strcmp(own_rows[i].path, path) != 0)
            continue;
        *known = true;
        return strcmp(method, "GET") == 0 ? own_rows[i].route : OWN_NONE;
    }
    return OWN_NONE;
}

bool own_route_public(enum own_route route) {
    if (route == OWN_PAGE)
        return true; /* the same bytes as in every copy of the program; what it asks for wants a key */
    for (size_t i = 0; i < ARRAY_LEN(own_rows); i++)
        if (own_rows[i].route == route)
            return own_rows[i].public;
    return false;
}

bool server_ready(struct server *s, const char **why) {
    *why = "ok";
    if (atomic_load(&s->ending) || atomic_load(&s->draining)) {
        *why = "the server is being stopped";
        return false;
    }
    return registry_ready(&s->registry, why);
}

static void metrics(struct server *s, struct buf *out) {
    struct registry *r = &s->registry;
    struct gauges g = { .start_s = (uint64_t)s->start_s };
    const char *why;
    uint64_t used = 0, positions = 0;
    g.ready = server_ready(s, &why);
    pthread_mutex_lock(&s->watch.lock);
    g.connections = s->watch.n;
    pthread_mutex_unlock(&s->watch.lock);
    pthread_mutex_lock(&r->lock);
    struct model_gauge *models = calloc(r->n + 1, sizeof *models);
    size_t n = 0;
    for (struct served_model *m = r->first; m && models; m = m->next) {
        if (m->state != MODEL_LOADED)
            continue;
        struct model_gauge *row = &models[n++];
        pthread_mutex_lock(&m->lock);
        *row = (struct model_gauge){ .name = m->name,
                                     .running = m->n_running,
                                     .waiting = m->n_waiting,
                                     .places = m->places,
                                     .bytes = m->bytes,
                                     .prompt_tokens = atomic_load(&m->prompt_tokens),
                                     .generation_tokens = atomic_load(&m->output_tokens) };
        g.waiting_tokens += m->waiting_tokens;
        for (uint32_t i = 0; i < m->places; i++) {
            struct lane *lane = m->placed[i];
            positions += m->context;
            if (lane)
                used += atomic_load(&lane->prompt_done) + atomic_load(&lane->output);
        }
        pthread_mutex_unlock(&m->lock);
        g.running += row->running;
        g.waiting += row->waiting;
        g.places += row->places;
        g.models_loaded++;
        g.models_bytes += row->bytes;
    }
    g.waiting += workers_waiting(&s->workers);
    g.cache_used = positions > 0 ? (double)used / (double)positions : 0;
    meter_text(&s->meter, &g, models, n, s->options.metrics_names, out);
    pthread_mutex_unlock(&r->lock); /* names belong to it */
    free(models);
}

void own_route_answer(struct server *s, enum own_route route, int *status, const char **type, struct buf *out) {
    const char *why = "";
    switch (route) {
    case OWN_HEALTH:
        buf_puts(out, "{\"status\":\"ok\"}\n");
        break;
    case OWN_READY:
        if (!server_ready(s, &why))
            *status = 503;
        buf_printf(out, "{\"status\":\"%s\",\"reason\":\"%s\"}\n", *status == 200 ? "ready" : "not ready",
                   why);
        break;
    case OWN_METRICS:
        *type = "text/plain; version=0.0.4; charset=utf-8";
        metrics(s, out);
        break;
    case OWN_PAGE: /* http.c */
    case OWN_NONE:
        break;
    }
}

/* ------------------------------------------------------------------ the world of api_inform */

static void view_info(struct api_model *v, const struct served_model *m) {
    v->engine = m->engine;
    v->context = m->context;
    v->context_most = m->info.context;
    v->params = m->info.params;
    v->think = m->info.think;
    v->tools = m->info.tools;
    v->takes_images = m->engine != NULL && slm_image_side(m->engine, NULL) > 0;
    v->family = m->info.family;
    v->slots = m->places;
    v->identity = m->identity;
    if (v->file_bytes == 0)
        v->file_bytes = m->info.file_bytes;
}

static void view_card(struct api_model *v, const char *id) {
    slm_card card = { .size = sizeof card };
    if (id == NULL || slm_catalog_find(id, &card) != SLM_OK)
        return;
    v->context_most = card.context;
    v->params = card.params;
    v->think = card.think;
    v->family = card.family;
    v->title = card.title;
    v->maker = card.maker;
    v->licence = card.licence;
}

static void view_model(struct api_model *v, const struct served_model *m, uint64_t now, int64_t now_ns) {
    int64_t keep = registry_keep_seconds(m);
    v->id = m->name;
    v->path = m->found.path;
    v->quant = m->found.quant[0] ? m->found.quant : NULL;
    v->file_bytes = m->file_bytes;
    v->memory_bytes = m->bytes;
    v->modified_ns = m->modified_ns;
    v->state = m->state == MODEL_LOADED    ? API_LOADED
               : m->state == MODEL_LOADING ? API_LOADING
                                           : API_UNLOADED;
    view_card(v, m->found.id);
    if (m->state == MODEL_LOADED)
        view_info(v, m);
    if (keep >= 0)
        v->expires_ns = now_ns + keep * INT64_C(1000000000) - (int64_t)(now - m->used_ns);
}

static void view_slots(struct world_view *v, struct served_model *m) {
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->places; i++) {
        struct api_slot *slot = &v->slots[v->world.n_slots++];
        struct lane *lane = m->placed[i];
        slot->model = m->name;
        slot->context = m->context;
        if (lane == NULL)
            continue;
        slot->busy = true;
        slot->request = lane->request;
        slot->n_prompt = lane->n_ids;
        slot->n_decoded = atomic_load(&lane->output);
    }
    pthread_mutex_unlock(&m->lock);
}

bool world_open(struct server *s, struct world_view *v) {
    struct registry *r = &s->registry;
    uint64_t now = clock_ns();
    int64_t now_ns = clock_utc_ns();
    size_t places = 0, n = 0;
    memset(v, 0, sizeof *v);
    pthread_mutex_lock(&r->lock);
    for (struct served_model *m = r->first; m; m = m->next)
        places += m->state == MODEL_LOADED ? m->places : 0;
    v->models = calloc(r->n + 1, sizeof *v->models);
    v->held = calloc(r->n + 1, sizeof *v->held);
    v->slots = calloc(places + 1, sizeof *v->slots);
    bool ok = v->models && v->held && v->slots;
    for (struct served_model *m = r->first; ok && m; m = m->next) {
        view_model(&v->models[n++], m, now, now_ns);
        v->held[v->n_held++] = m;
        if (m->state != MODEL_LOADED)
            continue;
        m->refs++; /* its engine is looked at */
        view_slots(v, m);
    }
    pthread_mutex_unlock(&r->lock);
    v->world.models = v->models;
    v->world.n_models = n;
    v->world.slots = v->slots;
    v->world.now_ns = now_ns;
    if (!ok)
        world_close(s, v);
    return ok;
}

bool world_is(const struct world_view *v, size_t i, const struct served_model *held,
              const char *name) {
    return held ? v->held[i] == held : name ? strcasecmp(v->models[i].id, name) == 0 : i == 0;
}

void world_close(struct server *s, struct world_view *v) {
    for (size_t i = 0; i < v->n_held; i++)
        if (v->models[i].state == API_LOADED)
            registry_unview(&s->registry, v->held[i]);
    free(v->models);
    free(v->held);
    free(v->slots);
}
