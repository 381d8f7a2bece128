/* api_inform.c - answers that need no generating: tokens of a text, rendered prompts, counts.
 *
 * Lists of models and what is known of one are api_models.c's. */
#include <string.h>

#include "base/utf8.h"
#include "server/api_inform.h"
#include "server/api_write.h"

static bool want_engine(const struct api_model *m, struct api_error *e) {
    if (m != NULL && m->engine != NULL)
        return true;
    return api_fail(e, 503, "model_not_loaded", "model", "the model is not loaded");
}

/* ------------------------------------------------------------------ tokens of a text */

/* A piece is text, or its bytes where it is no whole text. */
static void put_piece(struct buf *b, const slm_engine *engine, int32_t id) {
    const char *s = "";
    size_t n = 0;
    slm_token_bytes(engine, id, &s, &n);
    put_open(b, NULL, '{');
    put_int(b, "id", id);
    if (utf8_valid(s, n) == n) {
        put_text(b, "piece", s, n);
    } else {
        put_open(b, "piece", '[');
        for (size_t i = 0; i < n; i++)
            put_int(b, NULL, (unsigned char)s[i]);
        put_close(b, ']');
    }
    put_close(b, '}');
}

static bool tokenize(const struct api_call *call, const struct api_model *m, struct buf *b,
                     struct api_error *e) {
    const struct api_prompt *p = &call->prompts[0];
    unsigned flags =
        (call->add_special ? SLM_ENCODE_BOS : 0u) | (call->parse_special ? 0u : SLM_ENCODE_DATA);
    int32_t *ids;
    size_t n;
    slm_why why;
    slm_err err = slm_encode(m->engine, p->text, p->n, flags, &ids, &n, &why);
    if (err != SLM_OK)
        return api_fail_slm(e, err, &why);
    put_open(b, NULL, '{');
    put_open(b, "tokens", '[');
    for (size_t i = 0; i < n; i++) {
        if (call->pieces)
            put_piece(b, m->engine, ids[i]);
        else
            put_int(b, NULL, ids[i]);
    }
    put_close(b, ']');
    put_size(b, "count", n);
    put_size(b, "max_model_len", m->context > 0 ? m->context : m->context_most);
    put_close(b, '}');
    slm_free(m->engine, ids);
    return true;
}

static bool detokenize(const struct api_call *call, const struct api_model *m, struct buf *b,
                       struct api_error *e) {
    const struct api_prompt *p = &call->prompts[0];
    char *text;
    size_t n;
    slm_why why;
    slm_err err = slm_decode(m->engine, p->ids, p->n_ids, false, &text, &n, &why);
    if (err != SLM_OK)
        return api_fail_slm(e, err, &why);
    put_open(b, NULL, '{');
    put_text(b, "content", text, n); /* llama-server's word */
    put_text(b, "prompt", text, n);  /* vLLM's and lm-eval's */
    put_close(b, '}');
    slm_free(m->engine, text);
    return true;
}

/* What the document becomes: its text for /apply-template, its number of tokens for count_tokens. */
static bool rendered(const struct api_call *call, const struct api_model *m, struct buf *b,
                     struct api_error *e) {
    const struct api_prompt *p = &call->prompts[0];
    slm_prompt_info info = { .size = sizeof info };
    slm_prompt *prompt = NULL;
    slm_why why;
    if (call->n_images > 0)
        return api_fail(e, 400, "unsupported_content", "messages",
                        "images are not shown here: this is not answered for messages with images");
    slm_err err = slm_prompt_make(m->engine, p->text, p->n, NULL, &prompt, &why);
    if (err == SLM_OK)
        err = slm_prompt_get(prompt, &info);
    if (err != SLM_OK) {
        slm_prompt_free(prompt);
        return api_fail_slm(e, err, &why);
    }
    put_open(b, NULL, '{');
    if (call->op == API_COUNT)
        put_size(b, "input_tokens", info.n);
    else
        put_text(b, "prompt", info.text, info.n_text);
    put_close(b, '}');
    slm_prompt_free(prompt);
    return true;
}

static bool tokenizer(const struct api_model *m, struct buf *b, struct api_error *e) {
    slm_info info = { .size = sizeof info };
    if (!want_engine(m, e))
        return false;
    slm_engine_info(m->engine, &info);
    put_open(b, NULL, '{');
    put_str(b, "tokenizer_class", "PreTrainedTokenizerFast");
    put_str(b, "bos_token", info.bos_text);
    put_str(b, "eos_token", info.eos_text);
    put_str(b, "pad_token", info.eos_text);
    put_null(b, "unk_token");
    put_size(b, "vocab_size", info.vocab);
    put_size(b, "model_max_length", m->context > 0 ? m->context : m->context_most);
    put_str(b, "chat_template", info.chat_template);
    put_close(b, '}');
    return true;
}

/* ------------------------------------------------------------------ the rest of Ollama's */

static void loaded(const struct api_call *call, const struct api_world *world,
                   const struct api_model *m, struct buf *b) {
    bool unload = call->keep_alive_set && call->keep_alive_s == 0;
    put_open(b, NULL, '{');
    put_str(b, "model", call->model != NULL ? call->model : m != NULL ? m->id : "");
    put_time(b, "created_at", world->now_ns);
    if (strcmp(call->route->path, "/api/chat") == 0) {
        put_open(b, "message", '{');
        put_str(b, "role", "assistant");
        put_str(b, "content", "");
        put_close(b, '}');
    } else {
        put_str(b, "response", "");
    }
    put_bool(b, "done", true);
    put_str(b, "done_reason", unload ? "unload" : "load");
    put_size(b, "load_duration", world->load_ns);
    put_close(b, '}');
    if (call->stream)
        buf_putc(b, '\n');
}

/* The version of Ollama whose routes these are: clients compare it with what they need. */
static void version(struct buf *b) {
    put_open(b, NULL, '{');
    put_str(b, "version", "0.12.11");
    put_str(b, "server", "slm " SLM_VERSION);
    put_close(b, '}');
}

static bool pull(const struct api_call *call, struct api_error *e) {
    return api_fail(e, 501, "unsupported_value", "model",
                    "this server fetches nothing; on its machine: slm pull %.128s",
                    call->model != NULL ? call->model : "ID");
}

bool api_inform(const struct api_call *call, const struct api_world *world,
                const struct api_model *model, struct buf *out, struct api_error *e) {
    bool ok = true;
    switch (call->op) {
    case API_GENERATE:
    case API_EMBED:
        return api_fail(e, 500, "internal_error", NULL, "not a question about the server");
    case API_LOAD:
        loaded(call, world, model, out);
        break;
    case API_TOKENIZE:
        ok = want_engine(model, e) && tokenize(call, model, out, e);
        break;
    case API_DETOKENIZE:
        ok = want_engine(model, e) && detokenize(call, model, out, e);
        break;
    case API_COUNT:
    case API_TEMPLATE:
        ok = want_engine(model, e) && rendered(call, model, out, e);
        break;
    case API_TOKENIZER:
        ok = tokenizer(model, out, e);
        break;
    case API_VERSION:
        version(out);
        break;
    case API_PULL:
        return pull(call, e);
    case API_SHOW:
    case API_PROPS:
    case API_MODELS:
    case API_MODEL:
    case API_RUNNING:
    case API_SLOTS:
        ok = inform_models(call, world, model, out, e);
        break;
    }
    if (ok && out->err != SLM_OK)
        return api_fail_slm(e, out->err, NULL);
    return ok;
}
