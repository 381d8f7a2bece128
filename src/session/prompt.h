/* prompt.h - the inside of slm_prompt: a request made ready to be answered. */
#ifndef SLM_SESSION_PROMPT_H
#define SLM_SESSION_PROMPT_H

#include "session/language.h"

struct slm_prompt {
    const slm_engine *engine;
    int32_t *ids; /* [n_ids] */
    size_t n_ids;
    struct template_output text;
    bool in_thinking, no_think, thinks;
    json_t *tools; /* array that the model was told of, or NULL */
    enum call_dialect dialect; /* how its answer is read; CALLS_NONE: all is text */
    struct grammar *format, *calls; /* NULL: none */
    bool must_call;
    struct buf warnings;
};

/* text.c: text of a conversation to ids, and whether it ends inside a thinking block. */
slm_err prompt_encode(const slm_engine *e, const struct template_output *text, int32_t **ids,
                      size_t *n_ids, slm_why *why);
bool prompt_in_thinking(const slm_engine *e, const struct template_output *text);
/* messages and kwargs through the template; kwargs gets add_generation_prompt where it is not given. */
slm_err prompt_render(const slm_engine *e, const json_t *messages, json_t *kwargs, int64_t date,
                      struct template_output *out, slm_why *why);

/* ---- prompt_images.c ---- */
struct prompt_image {
    uint32_t views;     /* the picture and its crops */
    const int32_t *ids; /* [views][tokens] borrowed */
};
/* The images of the image parts of messages, in their order: array of o->n_images, returned owned, or NULL
 * when there are none. E_ARG when their numbers differ, E_STATE for a model that sees none. */
slm_err prompt_images(const slm_engine *e, const json_t *messages, const slm_render_options *o,
                      struct prompt_image **out, slm_why *why);
/* Marks of images in the rendered text become places for their views; and, in the ids of that text, their
 * ids are put there. v: the tower that they are for. */
slm_err prompt_place_images(const slm_engine *e, const struct vision *v,
                            const struct prompt_image *images, size_t n_images,
                            struct template_output *text, slm_why *why);
slm_err prompt_put_images(const slm_engine *e, const struct vision *v,
                          const struct prompt_image *images, size_t n_images, int32_t **ids,
                          size_t *n_ids, slm_why *why);

#endif
