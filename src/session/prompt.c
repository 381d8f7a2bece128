/* prompt.c - a request in one JSON document -> ids, and what its answer has to be.
 *
 * chat/request.c makes of it what the model's template takes; here it is rendered and encoded, the
 * thinking switch is looked up, and the languages of format and calls are compiled. */
#include "session/prompt.h"

#include <string.h>

#include "base/json.h"
#include "session/image.h"

static struct request_think think_of(const slm_engine *e) {
    enum think_mode mode = e->has_facts ? e->facts.m.think : THINK_NONE;
    return (struct request_think){ .can_switch = mode == THINK_DEFAULT_ON,
                                   .always = mode == THINK_ALWAYS,
                                   .images = e->images != NULL,
                                   .name = e->name };
}

/* Tools that the template was given itself: calls of them are told apart. */
static void note_kwargs(slm_prompt *p, const struct request *r) {
    json_t *tools = json_object_get(r->kwargs, "tools");
    if (p->tools == NULL && json_is_array(tools) && json_array_size(tools) > 0)
        p->tools = json_incref(tools);
}

/* Calls are held to their language where the answer has to be one, or where a token says that one
 * begins. A schema that cannot be compiled is an error in the first case; in the second nothing was
 * promised about arguments, and it is told. */
static slm_err compile_calls(slm_prompt *p, const struct request *r, slm_why *why) {
    const slm_engine *e = p->engine;
    const char *open = dialect_open(p->dialect);
    bool marked = open != NULL && token_id_of(e->tokenizer, open, strlen(open)) >= 0;
    slm_why own;
    if (p->dialect == CALLS_NONE || r->tools == NULL || r->choice == TOOLS_NO)
        return SLM_OK;
    p->must_call = r->choice == TOOLS_REQUIRED || r->choice == TOOLS_NAMED;
    if (p->must_call)
        return grammar_of_calls(&e->hooks, r, p->dialect, &p->calls, why);
    if (!marked) {
        if (p->format != NULL)
            buf_puts(&p->warnings, "tools: the answer has a format, so none can be called\n");
        return SLM_OK;
    }
    slm_err err = grammar_of_calls(&e->hooks, r, p->dialect, &p->calls, &own);
    if (err == SLM_E_UNSUPPORTED) {
        buf_printf(&p->warnings, "tools: arguments are not held to their schemas: %s\n",
                   own.message);
        return SLM_OK;
    }
    if (err != SLM_OK && why != NULL)
        *why = own;
    return err;
}

/* The rendered text to ids, images in their places. */
static slm_err encode(slm_prompt *p, const json_t *messages, const slm_render_options *o,
                      slm_why *why) {
    const slm_engine *e = p->engine;
    struct prompt_image *images;
    TRY(prompt_images(e, messages, o, &images, why));
    slm_err err = images != NULL ? prompt_place_images(e, image_vision(e->images), images,
                                                       o->n_images, &p->text, why)
                                 : SLM_OK;
    if (err == SLM_OK)
        err = prompt_encode(e, &p->text, &p->ids, &p->n_ids, why);
    if (err == SLM_OK && images != NULL)
        err = prompt_put_images(e, image_vision(e->images), images, o->n_images, &p->ids,
                                &p->n_ids, why);
    mem_free(&e->hooks, images);
    return err;
}

static slm_err take(slm_prompt *p, struct request *r, const slm_render_options *o, slm_why *why) {
    const slm_engine *e = p->engine;
    const struct constrain_vocab *v;
    TRY(prompt_render(e, r->messages, r->kwargs, o->date, &p->text, why));
    TRY(encode(p, r->messages, o, why));
    p->in_thinking = prompt_in_thinking(e, &p->text);
    p->no_think = r->no_think;
    p->tools = r->tools != NULL ? json_incref(r->tools) : NULL;
    p->dialect = r->choice == TOOLS_NO ? CALLS_NONE : dialect_of(e);
    note_kwargs(p, r);
    if (p->tools == NULL)
        p->dialect = CALLS_NONE;
    p->thinks = r->thinks && e->think_open >= 0;
    if (r->warnings.len > 0)
        buf_put(&p->warnings, r->warnings.data, r->warnings.len);
    TRY(grammar_of_format(&e->hooks, r->format, &p->format, why));
    TRY(compile_calls(p, r, why));
    if (p->format != NULL || p->calls != NULL)
        TRY(vocabulary_of(e, &v, why));
    if (p->warnings.err != SLM_OK)
        return fail_nomem(why, "warnings", p->warnings.cap);
    return SLM_OK;
}

static slm_err check(const slm_engine *e, slm_why *why) {
    if (e->tokenizer == NULL)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model was opened without a tokenizer");
    if (e->chat == NULL)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model has no chat template");
    return SLM_OK;
}

slm_err slm_prompt_make(const slm_engine *e, const char *request, size_t n,
                        const slm_render_options *options, slm_prompt **out, slm_why *why) {
    slm_render_options o = slm_render_default();
    struct request r;
    json_t *root;
    *out = NULL;
    TRY(options_copy(&o, sizeof o, options, why));
    TRY(check(e, why));
    TRY(json_text(request, n, &root, why));
    slm_err err = request_read(&e->hooks, root, dialect_of(e), think_of(e), &r, why);
    json_decref(root);
    TRY(err);
    slm_prompt *p = mem_zalloc(&e->hooks, 1, sizeof *p);
    if (p == NULL) {
        err = fail_nomem(why, "prompt", sizeof *p);
    } else {
        p->engine = e;
        buf_init(&p->warnings, &e->hooks, (size_t)1 << 16);
        err = take(p, &r, &o, why);
    }
    request_free(&e->hooks, &r);
    if (err != SLM_OK) {
        slm_prompt_free(p);
        return err;
    }
    *out = p;
    return SLM_OK;
}

slm_err slm_prompt_get(const slm_prompt *p, slm_prompt_info *out) {
    const slm_prompt_info i = { .size = sizeof i,
                                .ids = p->ids,
                                .n = p->n_ids,
                                .text = p->text.text,
                                .n_text = p->text.n,
                                .in_thinking = p->in_thinking,
                                .no_think = p->no_think,
                                .thinks = p->thinks,
                                .n_tools = json_array_size(p->tools),
                                .constrained = p->format != NULL || p->calls != NULL,
                                .warnings = p->warnings.len > 0 ? p->warnings.data : NULL };
    return result_give(out, &i, sizeof i);
}

void slm_prompt_free(slm_prompt *p) {
    if (p == NULL)
        return;
    const struct slm_hooks *h = &p->engine->hooks;
    mem_free(h, p->ids);
    template_output_free(h, &p->text);
    json_decref(p->tools);
    grammar_free(p->format);
    grammar_free(p->calls);
    buf_free(&p->warnings);
    mem_free(h, p);
}

/* ------------------------------------------------------------------ the parser by itself */

struct telling {
    const slm_answer_events *events;
    bool refused;
};

static void tell_text(void *user, enum think_part part, const char *text, size_t n) {
    struct telling *t = user;
    enum slm_part to = part == PART_REASONING ? SLM_PART_REASONING : SLM_PART_ANSWER;
    if (n > 0 && !t->refused && t->events->on_text != NULL)
        t->refused = !t->events->on_text(t->events->user, to, text, n);
}

static void tell_call(void *user, const struct answer_call *c) {
    struct telling *t = user;
    const slm_tool_call call = { .size = sizeof call,
                                 .index = c->index,
                                 .name = c->name,
                                 .arguments = c->arguments,
                                 .n_name = c->n_name,
                                 .n_arguments = c->n_arguments };
    if (!t->refused && t->events->on_call != NULL)
        t->refused = !t->events->on_call(t->events->user, &call);
}

slm_err slm_answer_parse(const slm_prompt *p, const char *text, size_t n,
                         const slm_answer_events *events, size_t *n_malformed, slm_why *why) {
    struct telling t = { .events = events };
    const struct answer_events to = { tell_text, tell_call, &t };
    bool thinks = p->engine->think_open >= 0;
    const struct answer_setup setup = { .dialect = p->dialect,
                                        .tools = p->tools,
                                        .open = thinks ? THINK_OPEN : NULL,
                                        .close = thinks ? THINK_CLOSE : NULL,
                                        .starts_inside = p->in_thinking };
    struct answer_parser *parser;
    TRY(answer_parser_new(&p->engine->hooks, &setup, &to, &parser, why));
    answer_parser_put(parser, text, n);
    slm_err err = answer_parser_end(parser, why);
    if (err == SLM_OK && n_malformed != NULL)
        *n_malformed = answer_parser_malformed(parser);
    answer_parser_free(parser);
    if (err == SLM_OK && t.refused)
        err = fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "a callback said stop");
    return err;
}
