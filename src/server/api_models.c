/* api_models.c - what models and places there are: OpenAI's and Anthropic's /v1/models, Ollama's tags,
 * show and ps, llama-server's props and slots.
 *
 * One /v1/models serves both families of clients: an entry has OpenAI's fields, Anthropic's (type,
 * display_name, created_at), and what editors look for (meta.n_ctx, architecture, status). */
#include <stdio.h>
#include <string.h>

#include "server/api_inform.h"
#include "server/api_write.h"

static const char *const states[] = {
    [API_UNLOADED] = "unloaded", [API_LOADING] = "loading", [API_LOADED] = "loaded"
};

static void put_modalities(struct buf *b, const char *key, bool images) {
    put_open(b, key, '[');
    put_str(b, NULL, "text");
    if (images)
        put_str(b, NULL, "image");
    put_close(b, ']');
}

/* ------------------------------------------------------------------ /v1/models */

static void put_model(struct buf *b, const struct api_model *m) {
    put_open(b, NULL, '{');
    put_str(b, "id", m->id);
    put_str(b, "object", "model");
    put_int(b, "created", m->modified_ns / 1000000000);
    put_str(b, "owned_by", m->maker != NULL ? m->maker : "slm");
    put_str(b, "type", "model");
    put_str(b, "display_name", m->title != NULL ? m->title : m->id);
    put_time(b, "created_at", m->modified_ns);
    put_open(b, "meta", '{');
    put_size(b, "n_ctx", m->context > 0 ? m->context : m->context_most);
    put_size(b, "n_ctx_train", m->context_most);
    put_size(b, "n_params", m->params);
    put_size(b, "size", m->file_bytes);
    put_str(b, "quantization", m->quant);
    put_close(b, '}');
    put_size(b, "max_model_len", m->context > 0 ? m->context : m->context_most);
    put_open(b, "architecture", '{');
    put_modalities(b, "input_modalities", m->takes_images);
    put_modalities(b, "output_modalities", false);
    put_close(b, '}');
    put_open(b, "capabilities", '{');
    put_bool(b, "tools", m->tools != NULL);
    put_bool(b, "thinking", m->think != SLM_THINK_NONE);
    put_bool(b, "thinking_switch", m->think == SLM_THINK_SWITCH);
    put_close(b, '}');
    put_open(b, "status", '{');
    put_str(b, "value", states[m->state]);
    put_close(b, '}');
    put_close(b, '}');
}

static void put_models(struct buf *b, const struct api_world *w) {
    put_open(b, NULL, '{');
    put_str(b, "object", "list");
    put_open(b, "data", '[');
    for (size_t i = 0; i < w->n_models; i++)
        put_model(b, &w->models[i]);
    put_close(b, ']');
    put_bool(b, "has_more", false);
    put_str(b, "first_id", w->n_models > 0 ? w->models[0].id : NULL);
    put_str(b, "last_id", w->n_models > 0 ? w->models[w->n_models - 1].id : NULL);
    put_close(b, '}');
}

/* ------------------------------------------------------------------ Ollama */

static void put_details(struct buf *b, const struct api_model *m) {
    char size[32] = "";
    if (m->params >= 1000000000)
        snprintf(size, sizeof size, "%.1fB", (double)m->params / 1e9);
    else if (m->params > 0)
        snprintf(size, sizeof size, "%.1fM", (double)m->params / 1e6);
    for (char *p = size; *p != '\0'; p++)
        if (*p == ',')
            *p = '.';
    put_open(b, "details", '{');
    put_str(b, "parent_model", "");
    put_str(b, "format",
            m->quant != NULL && strcmp(m->quant, "safetensors") == 0 ? "safetensors" : "gguf");
    put_str(b, "family", m->family != NULL ? m->family : "");
    put_open(b, "families", '[');
    if (m->family != NULL)
        put_str(b, NULL, m->family);
    put_close(b, ']');
    put_str(b, "parameter_size", size);
    put_str(b, "quantization_level", m->quant != NULL ? m->quant : "");
    put_close(b, '}');
}

static void put_entry(struct buf *b, const struct api_model *m, bool running) {
    put_open(b, NULL, '{');
    put_str(b, "name", m->id);
    put_str(b, "model", m->id);
    if (!running)
        put_time(b, "modified_at", m->modified_ns);
    put_size(b, "size", running ? m->memory_bytes : m->file_bytes);
    put_str(b, "digest", m->identity != NULL ? m->identity : "");
    put_details(b, m);
    if (running) {
        /* for ever: a time that no client will live to see */
        put_time(b, "expires_at",
                 m->expires_ns > 0 ? m->expires_ns : INT64_C(9000000000) * 1000000000);
        put_size(b, "size_vram", 0);
        put_size(b, "context_length", m->context);
    }
    put_close(b, '}');
}

static void put_entries(struct buf *b, const struct api_world *w, bool running) {
    put_open(b, NULL, '{');
    put_open(b, "models", '[');
    for (size_t i = 0; i < w->n_models; i++)
        if (!running || w->models[i].state == API_LOADED)
            put_entry(b, &w->models[i], running);
    put_close(b, ']');
    put_close(b, '}');
}

/* "temperature 0.6\ntop_k 20": the model's own sampling, a line each. */
static void put_parameters(struct buf *b, const slm_info *info) {
    const slm_sampling *s = &info->sampling;
    struct buf text;
    buf_init(&text, NULL, 4096);
    buf_puts(&text, "temperature ");
    put_float(&text, NULL, s->temperature);
    buf_puts(&text, "\ntop_p ");
    put_float(&text, NULL, s->top_p);
    buf_puts(&text, "\ntop_k ");
    put_size(&text, NULL, s->top_k);
    buf_puts(&text, "\nmin_p ");
    put_float(&text, NULL, s->min_p);
    put_text(b, "parameters", text.data, text.len);
    buf_free(&text);
}

static void put_info(struct buf *b, const struct api_model *m, const slm_info *info) {
    static const char *const keys[] = { "context_length", "embedding_length", "block_count",
                                        "attention.head_count", "attention.head_count_kv" };
    const uint64_t values[] = { m->context_most, info->hidden, info->layers, info->heads,
                                info->kv_heads };
    const char *family = m->family != NULL ? m->family : "unknown";
    char key[96];
    put_open(b, "model_info", '{');
    put_str(b, "general.architecture", family);
    put_str(b, "general.basename", m->id);
    put_size(b, "general.parameter_count", m->params);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (i > 0 && info->layers == 0)
            continue; /* not loaded: nothing is known */
        snprintf(key, sizeof key, "%.48s.%s", family, keys[i]);
        put_size(b, key, values[i]);
    }
    put_close(b, '}');
}

static void put_show(struct buf *b, const struct api_model *m) {
    slm_info info = { .size = sizeof info };
    if (m->engine != NULL)
        slm_engine_info(m->engine, &info);
    put_open(b, NULL, '{');
    put_str(b, "license", m->licence != NULL ? m->licence : "");
    put_str(b, "modelfile", "");
    if (m->engine != NULL)
        put_parameters(b, &info);
    else
        put_str(b, "parameters", "");
    put_str(b, "template", info.chat_template != NULL ? info.chat_template : "");
    put_details(b, m);
    put_info(b, m, &info);
    put_open(b, "capabilities", '[');
    put_str(b, NULL, "completion");
    if (m->tools != NULL)
        put_str(b, NULL, "tools");
    if (m->think != SLM_THINK_NONE)
        put_str(b, NULL, "thinking");
    if (m->takes_images)
        put_str(b, NULL, "vision");
    put_close(b, ']');
    put_time(b, "modified_at", m->modified_ns);
    put_close(b, '}');
}

/* ------------------------------------------------------------------ llama-server */

static void put_props(struct buf *b, const struct api_model *m) {
    slm_info info = { .size = sizeof info };
    uint32_t context = m->context > 0 ? m->context : m->context_most;
    if (m->engine != NULL)
        slm_engine_info(m->engine, &info);
    put_open(b, NULL, '{');
    put_open(b, "default_generation_settings", '{');
    put_size(b, "n_ctx", context);
    put_open(b, "params", '{');
    put_float(b, "temperature", info.sampling.temperature);
    put_size(b, "top_k", info.sampling.top_k);
    put_float(b, "top_p", info.sampling.top_p);
    put_float(b, "min_p", info.sampling.min_p);
    put_close(b, '}');
    put_close(b, '}');
    put_size(b, "total_slots", m->slots);
    put_str(b, "model_alias", m->id);
    put_str(b, "model_path", m->path != NULL ? m->path : "");
    put_open(b, "modalities", '{');
    put_bool(b, "vision", m->takes_images);
    put_bool(b, "audio", false);
    put_close(b, '}');
    put_str(b, "chat_template", info.chat_template != NULL ? info.chat_template : "");
    put_open(b, "chat_template_caps", '{');
    put_bool(b, "supports_tools", m->tools != NULL);
    put_bool(b, "supports_tool_calls", m->tools != NULL);
    put_bool(b, "supports_parallel_tool_calls", m->tools != NULL);
    put_bool(b, "supports_system_role", true);
    put_close(b, '}');
    put_str(b, "bos_token", info.bos_text != NULL ? info.bos_text : "");
    put_str(b, "eos_token", info.eos_text != NULL ? info.eos_text : "");
    put_str(b, "build_info", "slm " SLM_VERSION);
    put_str(b, "fingerprint", m->identity);
    put_close(b, '}');
}

static void put_slots(struct buf *b, const struct api_world *w) {
    put_open(b, NULL, '[');
    for (size_t i = 0; i < w->n_slots; i++) {
        const struct api_slot *s = &w->slots[i];
        put_open(b, NULL, '{');
        put_size(b, "id", i);
        put_str(b, "model", s->model);
        put_size(b, "n_ctx", s->context);
        put_bool(b, "is_processing", s->busy);
        put_size(b, "id_task", s->request);
        put_size(b, "n_prompt_tokens", s->n_prompt);
        put_size(b, "n_decoded", s->n_decoded);
        put_close(b, '}');
    }
    put_close(b, ']');
}

/* ------------------------------------------------------------------ */

static bool no_model(const struct api_call *call, struct api_error *e) {
    return api_fail(e, 404, "model_not_found", "model",
                    "model '%.128s' not found; GET /v1/models lists those there are",
                    call->model != NULL ? call->model : "");
}

bool inform_models(const struct api_call *call, const struct api_world *world,
                   const struct api_model *model, struct buf *out, struct api_error *e) {
    bool ollama = call->route->family == API_OLLAMA;
    if (model == NULL && call->op == API_PROPS && call->model == NULL && world->n_models > 0)
        model = &world->models[0];
    bool one = call->op == API_MODEL || call->op == API_SHOW || call->op == API_PROPS;
    if (one && model == NULL)
        return no_model(call, e);
    if (call->op == API_SLOTS)
        put_slots(out, world);
    else if (call->op == API_MODEL)
        put_model(out, model);
    else if (call->op == API_SHOW)
        put_show(out, model);
    else if (call->op == API_PROPS)
        put_props(out, model);
    else if (ollama)
        put_entries(out, world, call->op == API_RUNNING);
    else
        put_models(out, world);
    return true;
}
