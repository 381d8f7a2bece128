/* image.c - pictures to ids: encoding, remembering, giving rows to passes.
 *
 * The store of an engine holds the tower, which is bound by the first image, and the rows of images that
 * are open or were open last. Encoding is done by one thread at a time with all threads of the machine;
 * looking up takes a lock for a moment. Pictures are known by 128 bits over their pixel values. */
#include "session/image.h"

#include <pthread.h>
#include <string.h>

#include "base/hash.h"
#include "base/pool.h"
#include "model/picture.h"
#include "model/vision.h"

#define KEPT 16 /* images that nobody has open */
#define VIEWS_MOST (1 + PICTURE_CROPS_MOST)

struct entry {
    uint64_t hash[2];
    uint32_t serial;
    unsigned open; /* by how many */
    uint64_t used; /* clock */
    float *rows;   /* [tokens][H] */
};
struct image_store {
    const slm_engine *engine;
    struct tensors *file; /* of the tower; NULL: the engine's own */
    struct vision v;
    pthread_mutex_t encoding; /* one picture at a time; guards tower and bound */
    struct vision_net tower;
    bool bound;
    pthread_mutex_t lock; /* guards what follows */
    struct entry *list;   /* [n] in the order of their serials */
    size_t n, room;
    uint32_t next_serial;
    uint64_t clock, seed; /* seed of the hashes: nobody outside knows it */
};
struct slm_image {
    const slm_engine *engine;
    uint32_t views;
    uint32_t serials[VIEWS_MOST];
    int32_t *ids;
    bool cached;
    uint64_t encode_ns;
};

/* ------------------------------------------------------------------ the store */

slm_err image_store_new(const slm_engine *e, const char *path, struct image_store **out,
                        slm_why *why) {
    struct image_store *s;
    slm_err err = SLM_OK;
    *out = NULL;
    if (!e->has_facts || (path == NULL && (!e->facts.has_vision || e->tensors == NULL)))
        return SLM_OK;
    s = mem_zalloc(&e->hooks, 1, sizeof *s);
    if (s == NULL)
        return fail_nomem(why, "images", sizeof *s);
    s->engine = e;
    s->v = e->facts.m.vision;
    s->seed = clock_ns() ^ (uint64_t)(uintptr_t)s;
    pthread_mutex_init(&s->encoding, NULL);
    pthread_mutex_init(&s->lock, NULL);
    if (path != NULL) {
        err = tensors_open(&e->hooks, path, &s->file, why);
        if (err == SLM_OK)
            err = vision_facts_gguf(s->file, &e->facts, &s->v, why);
    }
    if (err == SLM_OK && e->facts.m.window > 0 && s->v.tokens >= e->facts.m.window)
        err = fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                   "an image of %u positions does not fit the sliding window of %u", s->v.tokens,
                   e->facts.m.window);
    if (err != SLM_OK) {
        image_store_free(s);
        return err;
    }
    *out = s;
    return SLM_OK;
}

void image_store_free(struct image_store *s) {
    if (s == NULL)
        return;
    const struct slm_hooks *h = &s->engine->hooks;
    if (s->bound)
        vision_free(&s->tower);
    for (size_t i = 0; i < s->n; i++)
        mem_free(h, s->list[i].rows);
    mem_free(h, s->list);
    tensors_close(s->file);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->encoding);
    mem_free(h, s);
}

const struct vision *image_vision(const struct image_store *s) {
    return &s->v;
}

/* By binary search: serials only grow. The lock is held. */
static struct entry *find_serial(struct image_store *s, uint32_t serial) {
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->list[middle].serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->n && s->list[low].serial == serial ? &s->list[low] : NULL;
}

static struct entry *find_hash(struct image_store *s, const uint64_t hash[2]) {
    for (size_t i = 0; i < s->n; i++)
        if (s->list[i].hash[0] == hash[0] && s->list[i].hash[1] == hash[1])
            return &s->list[i];
    return NULL;
}

/* Forgets the images that were used longest ago until at most KEPT are there that nobody has open. */
static void forget_old(struct image_store *s) {
    for (;;) {
        size_t idle = 0, oldest = s->n;
        for (size_t i = 0; i < s->n; i++)
            if (s->list[i].open == 0) {
                idle++;
                oldest = oldest == s->n || s->list[i].used < s->list[oldest].used ? i : oldest;
            }
        if (idle <= KEPT)
            return;
        mem_free(&s->engine->hooks, s->list[oldest].rows);
        memmove(&s->list[oldest], &s->list[oldest + 1], (s->n - oldest - 1) * sizeof *s->list);
        s->n--;
    }
}

/* Opens what is known; false: nothing is. */
static bool take_known(struct image_store *s, const uint64_t hash[2], uint32_t *serial) {
    pthread_mutex_lock(&s->lock);
    struct entry *e = find_hash(s, hash);
    if (e != NULL) {
        e->open++;
        e->used = ++s->clock;
        *serial = e->serial;
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

/* Takes rows, also when it fails. */
static slm_err add(struct image_store *s, const uint64_t hash[2], float *rows, uint32_t *serial,
                   slm_why *why) {
    slm_err err = SLM_OK;
    pthread_mutex_lock(&s->lock);
    uint64_t end = s->engine->facts.m.vocab + ((uint64_t)s->next_serial + 1) * s->v.tokens;
    if (end > INT32_MAX) {
        err = fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "this engine has seen %u images, its ids end",
                   s->next_serial);
    } else if (s->n == s->room) {
        size_t room = s->room > 0 ? s->room * 2 : 8;
        struct entry *list = mem_resize(&s->engine->hooks, s->list, room, sizeof *list);
        if (list == NULL) {
            err = fail_nomem(why, "images", room * sizeof *list);
        } else {
            s->list = list;
            s->room = room;
        }
    }
    if (err == SLM_OK) {
        *serial = s->next_serial++;
        s->list[s->n++] = (struct entry){ .hash = { hash[0], hash[1] },
                                          .serial = *serial,
                                          .open = 1,
                                          .used = ++s->clock,
                                          .rows = rows };
        forget_old(s);
    } else {
        mem_free(&s->engine->hooks, rows);
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

static void let_go(struct image_store *s, uint32_t serial) {
    pthread_mutex_lock(&s->lock);
    find_serial(s, serial)->open--;
    forget_old(s);
    pthread_mutex_unlock(&s->lock);
}

/* ------------------------------------------------------------------ encoding */

struct telling {
    const slm_image_options *o;
    uint32_t view, views;
};

static bool tell(void *user, uint32_t done, uint32_t total) {
    const struct telling *t = user;
    return t->o->progress == NULL ||
           t->o->progress(t->o->user, "image", (uint64_t)t->view * total + done,
                          (uint64_t)t->views * total);
}

static slm_err bind(struct image_store *s, struct pool *pool, slm_why *why) {
    const slm_engine *e = s->engine;
    struct net_options o = { .exact = e->exact, .kernels = e->kernels, .pool = pool };
    if (s->bound)
        return SLM_OK;
    slm_err err = vision_bind(&s->tower, &e->hooks, s->file != NULL ? s->file : e->tensors,
                              &e->facts, &s->v, &o, why);
    if (err != SLM_OK)
        vision_free(&s->tower);
    s->bound = err == SLM_OK;
    return err;
}

static slm_err encode(struct image_store *s, const float *pixels, const struct telling *t,
                      const uint64_t hash[2], uint32_t *serial, slm_why *why) {
    const slm_engine *e = s->engine;
    struct pool *pool;
    float *rows = mem_alloc(&e->hooks, (size_t)s->v.tokens * e->facts.m.hidden, sizeof *rows);
    if (rows == NULL)
        return fail_nomem(why, "image", (size_t)s->v.tokens * e->facts.m.hidden * sizeof *rows);
    slm_err err = pool_new(&e->hooks, t->o->threads > 0 ? t->o->threads : cpu_count(), &pool, why);
    if (err == SLM_OK)
        err = bind(s, pool, why);
    if (err == SLM_OK)
        err = vision_run(&s->tower, pool, pixels, NULL, tell, (void *)t, rows, why);
    pool_free(pool);
    if (err == SLM_OK)
        return add(s, hash, rows, serial, why);
    mem_free(&e->hooks, rows);
    return err;
}

/* One view: known, or computed now. */
static slm_err open_view(slm_image *image, const float *pixels, const struct telling *t,
                         slm_why *why) {
    struct image_store *s = image->engine->images;
    uint32_t *serial = &image->serials[image->views];
    uint64_t hash[2];
    slm_err err = SLM_OK;
    hash_bytes(pixels, (size_t)3 * s->v.image * s->v.image * sizeof *pixels, s->seed, hash);
    if (!take_known(s, hash, serial)) {
        pthread_mutex_lock(&s->encoding);
        if (!take_known(s, hash, serial)) { /* by another thread, meanwhile */
            err = encode(s, pixels, t, hash, serial, why);
            image->cached = false;
        }
        pthread_mutex_unlock(&s->encoding);
    }
    image->views += err == SLM_OK;
    return err;
}

/* ------------------------------------------------------------------ public */

slm_image_options slm_image_default(void) {
    return (slm_image_options){ .size = sizeof(slm_image_options) };
}

uint32_t slm_image_side(const slm_engine *e, uint32_t *tokens) {
    if (tokens != NULL)
        *tokens = e->images != NULL ? e->images->v.tokens : 0;
    return e->images != NULL ? e->images->v.image : 0;
}

/* A known model that does. */
static const char *seeing_model(void) {
    for (size_t i = 0; models_all[i] != NULL; i++)
        if (models_all[i]->vision.image > 0)
            return models_all[i]->name;
    return "none of the known models";
}

static slm_err make(const slm_engine *e, const slm_image_options *given, slm_image_options *o,
                    slm_image **out, slm_why *why) {
    *out = NULL;
    *o = slm_image_default();
    TRY(options_copy(o, sizeof *o, given, why));
    if (e->images == NULL && e->has_facts && e->facts.m.vision.image > 0)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET,
                    "%s sees images with its image tower, a file of its own (mmproj) that was not "
                    "given",
                    e->name);
    if (e->images == NULL)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "%s does not see images; %s does", e->name,
                    seeing_model());
    *out = mem_zalloc(&e->hooks, 1, sizeof **out);
    if (*out == NULL)
        return fail_nomem(why, "image", sizeof **out);
    (*out)->engine = e;
    (*out)->cached = true;
    return SLM_OK;
}

/* The ids of all views; on failure the image is closed. */
static slm_err finish(slm_image *image, slm_err err, uint64_t start, slm_image **out,
                      slm_why *why) {
    const slm_engine *e = image->engine;
    uint32_t tokens = e->images->v.tokens;
    image->encode_ns = clock_ns() - start;
    if (err == SLM_OK) {
        image->ids = mem_alloc(&e->hooks, (size_t)image->views * tokens, sizeof *image->ids);
        if (image->ids == NULL)
            err = fail_nomem(why, "image", (size_t)image->views * tokens * sizeof *image->ids);
    }
    for (uint32_t i = 0; err == SLM_OK && i < image->views * tokens; i++)
        image->ids[i] =
            (int32_t)(e->facts.m.vocab + image->serials[i / tokens] * tokens + i % tokens);
    if (err != SLM_OK)
        slm_image_close(image);
    *out = err == SLM_OK ? image : NULL;
    return err;
}

slm_err slm_image_open_pixels(const slm_engine *e, const float *pixels,
                              const slm_image_options *options, slm_image **out, slm_why *why) {
    slm_image_options o;
    slm_image *image;
    uint64_t start = clock_ns();
    *out = NULL;
    TRY(make(e, options, &o, &image, why));
    const struct telling t = { &o, 0, 1 };
    return finish(image, open_view(image, pixels, &t, why), start, out, why);
}

slm_err slm_image_open_npy(const slm_engine *e, const char *path, size_t i,
                           const slm_image_options *options, slm_image **out, size_t *n,
                           slm_why *why) {
    struct mapping m;
    const float *data;
    uint32_t n_dims, side = slm_image_side(e, NULL);
    uint64_t dims[MAX_DIMS];
    slm_image_options o;
    slm_image *none;
    *out = NULL;
    TRY(make(e, options, &o, &none, why));
    slm_image_close(none);
    TRY(npy_map_f32(path, &m, &data, &n_dims, dims, why));
    slm_err err = SLM_OK;
    if (n_dims != 4 || dims[1] != 3 || dims[2] != side || dims[3] != side)
        err = fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s is not [n, 3, %u, %u]", path, side, side);
    else if (i >= dims[0])
        err = fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%s has %llu pictures, not %zu", path,
                   (unsigned long long)dims[0], i + 1);
    else
        err = slm_image_open_pixels(e, data + i * 3 * side * side, options, out, why);
    if (err == SLM_OK && n != NULL)
        *n = (size_t)dims[0];
    file_unmap(&m);
    return err;
}

static slm_err open_views(slm_image *image, const slm_picture *p, const slm_image_options *o,
                          slm_why *why) {
    const slm_engine *e = image->engine;
    const struct picture picture = { p->rgb, p->width, p->height };
    struct picture_box boxes[VIEWS_MOST] = { { 0, 0, p->width, p->height } };
    uint32_t side = e->images->v.image,
             n = 1 + (p->pan_scan ? picture_crops(p->width, p->height, boxes + 1) : 0);
    slm_err err = SLM_OK;
    float *pixels = mem_alloc(&e->hooks, (size_t)3 * side * side, sizeof *pixels);
    if (pixels == NULL)
        return fail_nomem(why, "pixels", (size_t)3 * side * side * sizeof *pixels);
    for (uint32_t i = 0; i < n && err == SLM_OK; i++) {
        const struct telling t = { o, i, n };
        err = picture_pixels(&e->hooks, &picture, &boxes[i], side, pixels, why);
        if (err == SLM_OK)
            err = open_view(image, pixels, &t, why);
    }
    mem_free(&e->hooks, pixels);
    return err;
}

slm_err slm_image_open(const slm_engine *e, const slm_picture *picture,
                       const slm_image_options *options, slm_image **out, slm_why *why) {
    slm_picture p = { .size = sizeof p };
    slm_image_options o;
    slm_image *image;
    uint64_t start = clock_ns();
    *out = NULL;
    TRY(options_copy(&p, sizeof p, picture, why));
    TRY(make(e, options, &o, &image, why));
    return finish(image, open_views(image, &p, &o, why), start, out, why);
}

void slm_image_close(slm_image *image) {
    if (image == NULL)
        return;
    const slm_engine *e = image->engine;
    for (uint32_t i = 0; i < image->views; i++)
        let_go(e->images, image->serials[i]);
    mem_free(&e->hooks, image->ids);
    mem_free(&e->hooks, image);
}

slm_err slm_image_get(const slm_image *image, slm_image_info *out) {
    const slm_image_info i = { .size = sizeof i,
                               .views = image->views,
                               .tokens = image->engine->images->v.tokens,
                               .cached = image->cached,
                               .encode_ns = image->encode_ns,
                               .ids = image->ids };
    return result_give(out, &i, sizeof i);
}

/* ------------------------------------------------------------------ for runners */

const float *image_row(const slm_engine *e, int32_t id, uint32_t *index) {
    struct image_store *s = e->images;
    if (!image_is_id(e, id))
        return NULL;
    uint32_t at = (uint32_t)id - e->facts.m.vocab;
    *index = at % s->v.tokens;
    pthread_mutex_lock(&s->lock);
    const struct entry *found = find_serial(s, at / s->v.tokens);
    const float *rows = found != NULL && found->open > 0 ? found->rows : NULL;
    pthread_mutex_unlock(&s->lock);
    return rows != NULL ? rows + (size_t)*index * e->facts.m.hidden : NULL;
}

size_t image_start(const slm_engine *e, const int32_t *ids, size_t at) {
    if (!image_is_id(e, ids[at]))
        return at;
    uint32_t index = ((uint32_t)ids[at] - e->facts.m.vocab) % e->images->v.tokens;
    return index <= at ? at - index : 0;
}

void image_rows(const slm_engine *e, const int32_t *ids, uint32_t n, uint32_t from,
                struct soft_row *out) {
    const float *first = NULL;
    for (uint32_t i = 0, index; i < n; i++) {
        out[i] = (struct soft_row){ 0 };
        if (!image_is_id(e, ids[i])) {
            first = NULL;
            continue;
        }
        index = ((uint32_t)ids[i] - e->facts.m.vocab) % e->images->v.tokens;
        if (index == 0) /* images are never cut, so each begins here */
            first = image_row(e, ids[i], &index);
        if (first != NULL)
            out[i] = (struct soft_row){ first + (size_t)index * e->facts.m.hidden,
                                        from + i - index + e->images->v.tokens };
    }
}
