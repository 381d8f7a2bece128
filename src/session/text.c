/* text.c - text <-> ids and conversations -> prompts, for slm.h. */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "session/prompt.h"

slm_render_options slm_render_default(void) {
    return (slm_render_options){ .size = sizeof(slm_render_options), .date = INT64_MIN };
}

static slm_err want_tokenizer(const slm_engine *e, slm_why *why) {
    return e->tokenizer != NULL ? SLM_OK
                                : fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET,
                                       "this model was opened without a tokenizer");
}

slm_err slm_encode(const slm_engine *e, const char *text, size_t n, unsigned flags, int32_t **ids,
                   size_t *n_ids, slm_why *why) {
    struct token_piece piece = { text, n, (flags & SLM_ENCODE_DATA) != 0 };
    *ids = NULL;
    *n_ids = 0;
    TRY(want_tokenizer(e, why));
    return tokenizer_encode(e->tokenizer, &piece, 1, flags & SLM_ENCODE_BOS ? TOKEN_ADD_BOS : 0,
                            ids, n_ids, why);
}

slm_err slm_decode(const slm_engine *e, const int32_t *ids, size_t n, bool skip_special,
                   char **text, size_t *n_text, slm_why *why) {
    struct buf b;
    *text = NULL;
    *n_text = 0;
    TRY(want_tokenizer(e, why));
    buf_init(&b, &e->hooks, (size_t)1 << 30);
    slm_err err = tokenizer_decode(e->tokenizer, ids, n, skip_special, &b, why);
    if (err == SLM_OK) {
        size_t len = b.len;
        *text = buf_take(&b);
        err = *text != NULL ? SLM_OK : fail_nomem(why, "decoded text", len);
        *n_text = *text != NULL ? len : 0;
    }
    buf_free(&b);
    return err;
}

slm_err slm_token_bytes(const slm_engine *e, int32_t id, const char **bytes, size_t *n) {
    const char *s = "";
    size_t len = 0;
    TRY(want_tokenizer(e, NULL));
    if (id < 0 || (uint32_t)id >= tokenizer_size(e->tokenizer))
        return SLM_E_ARG;
    bool there = token_text_of(e->tokenizer, id, &s, &len);
    *bytes = there ? s : "";
    *n = there ? len : 0;
    return SLM_OK;
}

slm_err prompt_render(const slm_engine *e, const json_t *messages, json_t *kwargs, int64_t date,
                      struct template_output *out, slm_why *why) {
    if (json_object_get(kwargs, "add_generation_prompt") == NULL &&
        json_object_set_new(kwargs, "add_generation_prompt", json_true()) != 0)
        return fail_nomem(why, "kwargs", 0);
    struct template_input in = {
        .messages = messages,
        .kwargs = kwargs,
        .bos_token = e->bos_text,
        .eos_token = e->eos_text,
        .now = date != INT64_MIN ? date : clock_local(),
    };
    return template_render(e->chat, &e->hooks, &in, out, why);
}

/* The parts of a conversation; *kwargs is a new reference. */
static slm_err parse_request(const char *request, size_t n, json_t **root, json_t **kwargs,
                             slm_why *why) {
    TRY(json_text(request, n, root, why));
    if (!json_is_object(*root) || !json_is_array(json_object_get(*root, "messages")))
        return fail(why, SLM_E_FORMAT, 0, "a conversation is an object with an array \"messages\"");
    json_t *given = json_object_get(*root, "kwargs");
    if (given != NULL && !json_is_null(given) && !json_is_object(given))
        return fail(why, SLM_E_FORMAT, 0, "\"kwargs\" is not an object");
    *kwargs = json_is_object(given) ? json_incref(given) : json_object();
    return *kwargs != NULL ? SLM_OK : fail_nomem(why, "kwargs", n);
}

static slm_err render(const slm_engine *e, const char *request, size_t n,
                      const slm_render_options *options, struct template_output *out,
                      slm_why *why) {
    slm_render_options o = slm_render_default();
    json_t *root = NULL, *kwargs = NULL;
    slm_err err = SLM_OK;
    TRY(options_copy(&o, sizeof o, options, why));
    if (e->chat == NULL)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model has no chat template");
    TRY_OUT(parse_request(request, n, &root, &kwargs, why));
    err = prompt_render(e, json_object_get(root, "messages"), kwargs, o.date, out, why);
out:
    json_decref(kwargs);
    json_decref(root);
    return err;
}

slm_err slm_render(const slm_engine *e, const char *request, size_t n,
                   const slm_render_options *options, char **text, size_t *n_text, slm_why *why) {
    struct template_output out = { 0 };
    *text = NULL;
    *n_text = 0;
    TRY(render(e, request, n, options, &out, why));
    *text = out.text;
    *n_text = out.n;
    out.text = NULL;
    template_output_free(&e->hooks, &out);
    return SLM_OK;
}

/* Its last words are the open marker. */
bool prompt_in_thinking(const slm_engine *e, const struct template_output *out) {
    static const char mark[] = THINK_OPEN;
    size_t n = out->n;
    while (n > 0 && strchr(" \n\t\r", out->text[n - 1]) != NULL)
        n--;
    return e->think_open >= 0 && n >= sizeof mark - 1 &&
           memcmp(out->text + n - (sizeof mark - 1), mark, sizeof mark - 1) == 0;
}

slm_err prompt_encode(const slm_engine *e, const struct template_output *text, int32_t **ids,
                      size_t *n_ids, slm_why *why) {
    struct token_piece *pieces = mem_alloc(&e->hooks, text->n_runs, sizeof *pieces);
    if (pieces == NULL)
        return fail_nomem(why, "prompt", text->n_runs * sizeof *pieces);
    for (size_t i = 0; i < text->n_runs; i++)
        pieces[i] = (struct token_piece){ text->text + text->runs[i].start, text->runs[i].n,
                                          text->runs[i].data };
    slm_err err = tokenizer_encode(e->tokenizer, pieces, text->n_runs, 0, ids, n_ids, why);
    mem_free(&e->hooks, pieces);
    return err;
}

slm_err slm_render_ids(const slm_engine *e, const char *request, size_t n,
                       const slm_render_options *options, int32_t **ids, size_t *n_ids,
                       bool *in_thinking, slm_why *why) {
    struct template_output out = { 0 };
    *ids = NULL;
    *n_ids = 0;
    TRY(want_tokenizer(e, why));
    TRY(render(e, request, n, options, &out, why));
    slm_err err = prompt_encode(e, &out, ids, n_ids, why);
    if (err == SLM_OK && in_thinking != NULL)
        *in_thinking = prompt_in_thinking(e, &out);
    template_output_free(&e->hooks, &out);
    return err;
}
