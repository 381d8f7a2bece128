/* cmd_info.c - `slm info PATH`: what is in a file, without computing anything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { META_TEXT = 256 };

static const char *shape_text(const slm_tensor *t, char *text, size_t size) {
    size_t n = 0;
    text[0] = 0;
    for (uint32_t d = 0; d < t->n_dims && d < 4 && n < size; d++)
        n += (size_t)snprintf(text + n, size - n, "%s%llu", d ? " x " : "",
                              (unsigned long long)t->dims[d]);
    return text;
}

static json_t *tensors_json(const slm_engine *engine, size_t n) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < n; i++) {
        slm_tensor t = { .size = sizeof t };
        json_t *shape = keep_json(json_array());
        if (slm_engine_tensor(engine, i, &t) == SLM_OK) {
            for (uint32_t d = 0; d < t.n_dims && d < 4; d++)
                json_array_append_new(shape, json_integer((json_int_t)t.dims[d]));
            json_array_append_new(list, json_pack("{s:s, s:s, s:O, s:I, s:I, s:s?}", "name", t.name,
                                                  "type", t.type, "shape", shape, "bytes",
                                                  (json_int_t)t.bytes, "offset",
                                                  (json_int_t)t.offset, "file", t.file));
        }
        json_decref(shape);
    }
    return list;
}

static json_t *meta_json(const slm_engine *engine, size_t n) {
    json_t *all = keep_json(json_object());
    for (size_t i = 0; i < n; i++) {
        char value[4096];
        const char *key;
        if (slm_engine_meta(engine, i, &key, value, sizeof value) == SLM_OK) {
            json_t *text = json_string(value);
            json_object_set_new(all, key, text ? text : json_null());
        }
    }
    return all;
}

static json_t *stops_json(const slm_info *f) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < f->n_stop; i++)
        json_array_append_new(list, json_integer(f->stop[i]));
    return list;
}

static const char *think_word(enum slm_think think) {
    return think == SLM_THINK_SWITCH ? "on/off" : think == SLM_THINK_ALWAYS ? "always" : "never";
}

static void print_json(struct cli *c, const struct loaded *m) {
    const slm_info *f = &m->info;
    json_t *o =
        keep_json(json_pack("{s:s?, s:s?, s:s?, s:s?, s:s?, s:s?, s:s?}", "name", f->name, "id",
                            f->id, "path", m->found.path, "family", f->family, "trust", f->trust,
                            "container", f->container, "types", f->types));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = { { "params", f->params },
                    { "file_bytes", f->file_bytes },
                    { "tensor_bytes", f->tensor_bytes },
                    { "tensors", f->n_tensors },
                    { "metadata", f->n_meta },
                    { "context", f->context },
                    { "layers", f->layers },
                    { "hidden", f->hidden },
                    { "heads", f->heads },
                    { "kv_heads", f->kv_heads },
                    { "head_dim", f->head_dim },
                    { "ffn", f->ffn },
                    { "vocab", f->vocab },
                    { "vocab_used", f->vocab_used },
                    { "window", f->window },
                    { "suggested_output", f->suggested_output } };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_object_set_new(o, numbers[i].name, json_integer((json_int_t)numbers[i].value));
    json_object_set_new(o, "bos", f->bos >= 0 ? json_integer(f->bos) : json_null());
    json_object_set_new(o, "stop", stops_json(f));
    json_object_set_new(o, "thinks", json_string(think_word(f->think)));
    json_object_set_new(o, "tokenizer", json_boolean(f->parts & SLM_TOKENIZER));
    json_object_set_new(o, "template", json_boolean(f->parts & SLM_TEMPLATE));
    json_object_set_new(o, "vision", json_boolean(f->has_vision));
    if (opt_set(c, OPT_TENSORS))
        json_object_set_new(o, "tensor_list", tensors_json(m->engine, f->n_tensors));
    if (opt_set(c, OPT_META))
        json_object_set_new(o, "metadata_list", meta_json(m->engine, f->n_meta));
    out_json(&c->out, o, false);
}

static void print_numbers(struct cli *c, const slm_info *f) {
    char a[32], b[32];
    if (!f->family)
        return;
    out_printf(&c->out, "family       %s\n", f->family);
    out_printf(&c->out, "parameters   %s\n", format_count(f->params, a, sizeof a));
    out_printf(&c->out, "shape        %u layers, width %u, %u heads (%u for keys) of %u, ffn %u\n",
               f->layers, f->hidden, f->heads, f->kv_heads, f->head_dim, f->ffn);
    out_printf(&c->out, "vocabulary   %s, of these %s in use\n",
               format_count(f->vocab, a, sizeof a), format_count(f->vocab_used, b, sizeof b));
    out_printf(&c->out, "context      %s", format_count(f->context, a, sizeof a));
    out_printf(&c->out, f->window ? ", sliding window %u\n" : "\n", f->window);
    out_printf(&c->out, "thinks       %s\n", think_word(f->think));
    if (f->has_vision)
        out_text(&c->out, "images       the file holds an image tower (not used)\n");
}

static void print_text(struct cli *c, const struct loaded *m) {
    const slm_info *f = &m->info;
    char a[32], b[32], shape[128];
    out_printf(&c->out, "name         %s\n", model_title(m));
    if (m->found.path)
        out_printf(&c->out, "path         %s%s%s%s\n", m->found.path, m->found.place ? " (" : "",
                   m->found.place ? m->found.place : "", m->found.place ? ")" : "");
    out_printf(&c->out, "trust        %s\n", f->trust ? f->trust : "unknown");
    out_printf(&c->out, "container    %s, %s, %s tensors, %zu metadata entries\n", f->container,
               format_bytes(f->file_bytes, a, sizeof a), format_count(f->n_tensors, b, sizeof b),
               f->n_meta);
    if (f->types && f->types[0])
        out_printf(&c->out, "types        %s\n", f->types);
    print_numbers(c, f);
    out_printf(&c->out, "tokenizer    %s\n", f->parts & SLM_TOKENIZER ? "yes" : "no");
    out_printf(&c->out, "template     %s\n", f->parts & SLM_TEMPLATE ? "yes" : "no");
    if (f->n_stop) {
        out_text(&c->out, "stops at     ");
        for (size_t i = 0; i < f->n_stop; i++)
            out_printf(&c->out, "%s%d", i ? ", " : "", f->stop[i]);
        out_text(&c->out, "\n");
    }
    for (size_t i = 0; opt_set(c, OPT_META) && i < f->n_meta; i++) {
        char value[META_TEXT];
        const char *key;
        if (slm_engine_meta(m->engine, i, &key, value, sizeof value) == SLM_OK) {
            value[strcspn(value, "\r\n")] = 0;
            out_printf(&c->out, "meta         %s = %s\n", key, value);
        }
    }
    for (size_t i = 0; opt_set(c, OPT_TENSORS) && i < f->n_tensors; i++) {
        slm_tensor t = { .size = sizeof t };
        if (slm_engine_tensor(m->engine, i, &t) == SLM_OK)
            out_printf(&c->out, "tensor       %-44s %-6s %-18s %s\n", t.name, t.type,
                       shape_text(&t, shape, sizeof shape), format_bytes(t.bytes, a, sizeof a));
    }
}

int cmd_info(struct cli *c) {
    struct loaded m = { 0 };
    int code = model_open(c, c->options.args[0], 0, SLM_TOKENIZER | SLM_TEMPLATE, &m);
    slm_info f = { .size = sizeof f };
    if (code == EXIT_DONE && slm_engine_info(m.engine, &f) == SLM_OK && f.family == NULL &&
        f.parts == 0 && f.n_tensors == 0)
        code = report(c, EXIT_COULD_NOT, "E_NOTFOUND",
                      "a .gguf file, or a folder with config.json, tokenizer.json or a template",
                      "%s holds nothing of a model", c->options.args[0]);
    else if (code == EXIT_DONE) {
        if (c->json)
            print_json(c, &m);
        else
            print_text(c, &m);
    }
    model_close(&m);
    return code;
}
