/* images.c - pictures for a model: files to decoded pixels to what the model sees.
 *
 * Files are decoded by a locked child (picture/). The engine remembers pictures by their pixels, so a
 * conversation may open the same file in every turn. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/cli.h"
#include "picture/picture.h"

enum { PICTURE_FILE_MOST = 10 << 20 };

char *tower_beside(const char *model) {
    const char *slash = model ? strrchr(model, '/') : NULL;
    size_t n = model ? strlen(model) : 0;
    char *found = NULL;
    if (n < 5 || strcmp(model + n - 5, ".gguf") != 0)
        return NULL;
    char *folder = slash ? text_printf("%.*s", (int)(slash - model) + 1, model) : text_printf("./");
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        if (strncmp(e->d_name, "mmproj", 6) != 0 || len < 5 ||
            strcmp(e->d_name + len - 5, ".gguf") != 0)
            continue;
        if (found) { /* which one is not ours to guess */
            free(found);
            found = NULL;
            break;
        }
        found = text_printf("%s%s", folder, e->d_name);
    }
    if (d)
        closedir(d);
    free(folder);
    return found;
}

slm_err open_seeing(const struct found *f, slm_engine_options *o, slm_engine **engine, slm_why *why,
                    slm_why *left) {
    char *beside = o->vision || f->demo ? NULL : tower_beside(f->path);
    left->code = SLM_OK;
    if (!beside)
        return open_found(f, o, engine, why);
    o->vision = beside;
    slm_err err = open_found(f, o, engine, why);
    o->vision = NULL;
    if (err != SLM_OK && err != SLM_E_CANCELLED) { /* perhaps it is another model's */
        slm_why first = *why;
        err = open_found(f, o, engine, why);
        if (err == SLM_OK)
            *left = first;
    }
    free(beside);
    return err;
}

static bool encode_progress(void *user, const char *stage, uint64_t done, uint64_t total) {
    struct shown *s = user;
    if (!s->progress.label[0])
        progress_start(&s->progress, &s->cli->term, s->cli->quiet, stage, "steps");
    progress_step(&s->progress, done, total);
    return !interrupted();
}

static void keep_image(struct shown *s, slm_image *image) {
    s->list = keep(realloc(s->list, (s->n + 1) * sizeof *s->list));
    s->list[s->n++] = image;
}

static slm_image_options image_options(struct cli *c, struct shown *s) {
    slm_image_options o = slm_image_default();
    s->cli = c;
    s->progress = (struct progress){ .enabled = false };
    o.threads = (unsigned)opt_int(c, OPT_THREADS, 0);
    o.progress = encode_progress;
    o.user = s;
    return o;
}

static int report_blind(struct cli *c, const struct loaded *m) {
    slm_card card = { .size = sizeof card };
    char ways[512];
    size_t used = 0;
    for (size_t i = 0; i < slm_catalog_count() && used + 128 < sizeof ways; i++)
        if (slm_catalog_get(i, &card) == SLM_OK && card.modalities &&
            strstr(card.modalities, "image"))
            used +=
                (size_t)snprintf(ways + used, sizeof ways - used, "%s    sees pictures\n", card.id);
    if (m->info.id && slm_catalog_find(m->info.id, &card) == SLM_OK && card.modalities &&
        strstr(card.modalities, "image"))
        snprintf(ways, sizeof ways, "--mmproj FILE    its image tower, a GGUF file of its own");
    return report(c, EXIT_COULD_NOT, "E_STATE", ways, "%s does not see pictures", model_title(m));
}

static slm_err read_picture(const char *path, char **data, size_t *n, slm_why *why) {
    *data = read_path(path, PICTURE_FILE_MOST, n);
    if (*data)
        return SLM_OK;
    *why = (slm_why){ .code = errno == EFBIG ? SLM_E_BUDGET : SLM_E_IO, .offset = SLM_NO_OFFSET };
    snprintf(why->message, sizeof why->message, "cannot read the picture %.300s: %s", path,
             strerror(errno));
    return why->code;
}

/* The file's name before what is wrong with it. */
static slm_err of_file(const char *path, slm_why *why) {
    char message[sizeof why->message];
    snprintf(message, sizeof message, "%.200s: %.300s", path, why->message);
    memcpy(why->message, message, sizeof message);
    return why->code;
}

slm_err open_picture(struct cli *c, const struct loaded *m, const char *path, struct shown *s,
                     slm_image **image, slm_why *why) {
    struct picture_options how = { .ignore_exif = opt_set(c, OPT_NO_EXIF) };
    struct picture_rgb rgb;
    char *data;
    size_t n;
    TRY(read_picture(path, &data, &n, why));
    slm_err err = picture_decode(data, n, &how, &rgb, why);
    free(data);
    if (err != SLM_OK)
        return of_file(path, why);
    const slm_picture p = { .size = sizeof p,
                            .rgb = rgb.data,
                            .width = rgb.width,
                            .height = rgb.height,
                            .pan_scan = opt_set(c, OPT_PAN_SCAN) };
    slm_image_options o = image_options(c, s);
    err = slm_image_open(m->engine, &p, &o, image, why);
    progress_end(&s->progress);
    if (err == SLM_OK && rgb.turned > 1)
        note(c, "%s was turned the way up that its camera noted (--no-exif leaves it)", path);
    picture_free(&rgb);
    return err;
}

int picture_check(struct cli *c, const struct loaded *m) {
    return m->info.has_vision && slm_image_side(m->engine, NULL) > 0 ? EXIT_DONE
                                                                     : report_blind(c, m);
}

int show_picture(struct cli *c, const struct loaded *m, const char *path, struct shown *s) {
    slm_image *image;
    slm_why why;
    int code = picture_check(c, m);
    if (code != EXIT_DONE)
        return code;
    slm_err err = open_picture(c, m, path, s, &image, &why);
    if (err == SLM_OK)
        keep_image(s, image);
    return err == SLM_OK ? EXIT_DONE : report_error(c, AT_LOAD, err, &why, NULL);
}

static int show_pixels(struct cli *c, const struct loaded *m, const char *path, struct shown *s) {
    slm_image_options o = image_options(c, s);
    slm_why why;
    if (slm_image_side(m->engine, NULL) == 0)
        return report_blind(c, m);
    for (size_t i = 0, n = 1; i < n; i++) {
        slm_image *image;
        slm_err err = slm_image_open_npy(m->engine, path, i, &o, &image, &n, &why);
        progress_end(&s->progress);
        if (err != SLM_OK)
            return report_error(c, AT_WORK, err, &why, NULL);
        keep_image(s, image);
    }
    return EXIT_DONE;
}

int show_given(struct cli *c, const struct loaded *m, struct shown *s) {
    const struct option_value *v = &c->options.values[OPT_IMAGE];
    int code = EXIT_DONE;
    for (size_t i = 0; i < v->n && code == EXIT_DONE; i++)
        code = show_picture(c, m, v->all[i], s);
    if (code == EXIT_DONE && opt_set(c, OPT_PIXELS))
        code = show_pixels(c, m, opt_text(c, OPT_PIXELS), s);
    return code;
}

json_t *shown_receipt(const struct shown *s) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < s->n; i++) {
        slm_image_info info = { .size = sizeof info };
        slm_image_get(s->list[i], &info);
        json_array_append_new(
            list,
            keep_json(json_pack("{s:I, s:I, s:b, s:f}", "views", (json_int_t)info.views, "tokens",
                                (json_int_t)info.views * info.tokens, "cached", (int)info.cached,
                                "encode_ms", (double)info.encode_ns / 1e6)));
    }
    return list;
}

json_t *picture_parts(size_t n, json_t *text) {
    json_t *parts = keep_json(json_array());
    for (size_t i = 0; i < n; i++)
        json_array_append_new(parts, keep_json(json_pack("{s:s}", "type", "image")));
    json_array_append_new(parts, keep_json(json_pack("{s:s, s:O}", "type", "text", "text", text)));
    return parts;
}

void shown_free(struct shown *s) {
    for (size_t i = 0; i < s->n; i++)
        slm_image_close(s->list[i]);
    free(s->list);
    *s = (struct shown){ 0 };
}
