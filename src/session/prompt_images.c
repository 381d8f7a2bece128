/* prompt_images.c - the places of images in a prompt.
 *
 * The template writes one mark where an image part stands. As the official processor does it, the mark
 * becomes "\n\n", begin, rows, end, "\n\n" before the text is encoded; a picture with crops becomes a
 * sentence with such a place for each view. Rows have no text: ids of begin and end stand side by side
 * after encoding, and the image's ids are put between them. */
#include <string.h>

#include "session/image.h"
#include "session/prompt.h"

#define FIRST_VIEW "Here is the original image "
#define OTHER_VIEWS " and here are some crops to help you see better "

struct marks {
    const char *begin, *end;
    size_t n_begin, n_end;
};

static slm_err find_marks(const slm_engine *e, const struct vision *v, struct marks *m,
                          slm_why *why) {
    if (token_text_of(e->tokenizer, v->begin, &m->begin, &m->n_begin) &&
        token_text_of(e->tokenizer, v->end, &m->end, &m->n_end) && m->n_begin > 0)
        return SLM_OK;
    return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                "the tokenizer has no tokens for images (ids %d and %d)", v->begin, v->end);
}

/* Image parts of all messages. */
static size_t count_parts(const json_t *messages) {
    size_t n = 0, i, j;
    json_t *message, *part;
    json_array_foreach(messages, i, message)
        json_array_foreach(json_object_get(message, "content"), j, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        n += type != NULL && strcmp(type, "image") == 0;
    }
    return n;
}

static void put_view(struct buf *b, const struct marks *m) {
    buf_puts(b, "\n\n");
    buf_put(b, m->begin, m->n_begin);
    buf_put(b, m->end, m->n_end);
    buf_puts(b, "\n\n");
}

static void put_image(struct buf *b, const struct marks *m, uint32_t views) {
    if (views == 1) {
        put_view(b, m);
        return;
    }
    buf_puts(b, FIRST_VIEW);
    put_view(b, m);
    buf_puts(b, OTHER_VIEWS);
    for (uint32_t i = 1; i < views; i++) {
        buf_puts(b, i > 1 ? " " : "");
        put_view(b, m);
    }
}

/* One run of the text with its marks replaced; *at counts the images. */
static void replace(struct buf *b, const struct marks *m, const char *text, size_t n,
                    const struct prompt_image *images, size_t n_images, size_t *at) {
    const char *end = text + n, *mark;
    while ((mark = memmem(text, (size_t)(end - text), m->begin, m->n_begin)) != NULL) {
        buf_put(b, text, (size_t)(mark - text));
        if (*at < n_images)
            put_image(b, m, images[*at].views);
        else
            buf_put(b, m->begin, m->n_begin);
        ++*at;
        text = mark + m->n_begin;
    }
    buf_put(b, text, (size_t)(end - text));
}

slm_err prompt_place_images(const slm_engine *e, const struct vision *v,
                            const struct prompt_image *images, size_t n_images,
                            struct template_output *t, slm_why *why) {
    size_t at = 0;
    struct marks m;
    struct buf b;
    TRY(find_marks(e, v, &m, why));
    buf_init(&b, &e->hooks, (size_t)1 << 30);
    for (size_t i = 0; i < t->n_runs; i++) {
        struct template_run *r = &t->runs[i];
        size_t start = b.len;
        if (r->data)
            buf_put(&b, t->text + r->start, r->n);
        else
            replace(&b, &m, t->text + r->start, r->n, images, n_images, &at);
        r->start = start;
        r->n = b.len - start;
    }
    size_t n = b.len;
    char *text = at == n_images ? buf_take(&b) : NULL;
    buf_free(&b);
    if (at != n_images)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "the template has %zu places for images, %zu images were given", at, n_images);
    if (text == NULL)
        return fail_nomem(why, "prompt", n);
    mem_free(&e->hooks, t->text);
    t->text = text;
    t->n = n;
    return SLM_OK;
}

slm_err prompt_put_images(const slm_engine *e, const struct vision *v,
                          const struct prompt_image *images, size_t n_images, int32_t **ids,
                          size_t *n_ids, slm_why *why) {
    size_t rows = 0, view = 0, n = 0, image = 0;
    for (size_t i = 0; i < n_images; i++)
        rows += (size_t)images[i].views * v->tokens;
    int32_t *to = mem_alloc(&e->hooks, *n_ids + rows, sizeof *to);
    if (to == NULL)
        return fail_nomem(why, "prompt", (*n_ids + rows) * sizeof *to);
    for (size_t i = 0; i < *n_ids; i++) {
        to[n++] = (*ids)[i];
        bool place = (*ids)[i] == v->begin && i + 1 < *n_ids && (*ids)[i + 1] == v->end;
        if (!place || image == n_images)
            continue;
        memcpy(to + n, images[image].ids + view * v->tokens, v->tokens * sizeof *to);
        n += v->tokens;
        view = view + 1 < images[image].views ? view + 1 : 0;
        image += view == 0;
    }
    mem_free(&e->hooks, *ids);
    *ids = to;
    *n_ids = n;
    return image == n_images
               ? SLM_OK
               : fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                      "%zu of %zu images have their places after encoding", image, n_images);
}

slm_err prompt_images(const slm_engine *e, const json_t *messages, const slm_render_options *o,
                      struct prompt_image **out, slm_why *why) {
    size_t parts = count_parts(messages);
    *out = NULL;
    if (parts != o->n_images)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "the messages have %zu image parts, %zu images were given", parts, o->n_images);
    if (parts == 0)
        return SLM_OK;
    if (e->images == NULL)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "%s does not see images", e->name);
    struct prompt_image *list = mem_alloc(&e->hooks, parts, sizeof *list);
    if (list == NULL)
        return fail_nomem(why, "images of a prompt", parts * sizeof *list);
    for (size_t i = 0; i < parts; i++) {
        slm_image_info info = { .size = sizeof info };
        slm_image_get(o->images[i], &info);
        list[i] = (struct prompt_image){ info.views, info.ids };
    }
    *out = list;
    return SLM_OK;
}
