/* tiny_model.h - whole models of a megabyte in memory, for tests that change one thing in them: a
 * twin of tests/golden as a Hugging Face folder, with a tokenizer and a template of our own. */
#ifndef SLM_TESTS_TINY_MODEL_H
#define SLM_TESTS_TINY_MODEL_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "format/format.h"
#include "slm.h"
#include "support.h"
#include "unit/token_mini.h"

#define TINY_FILES 8
#define TINY_TENSORS 256

/* Renders "<s>content</s>" for every message and "<a>" at the end. */
#define TINY_TEMPLATE                                                                              \
    "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"                                 \
    "{% if add_generation_prompt %}<a>{% endif %}"

struct tiny_tensor {
    char name[96];
    enum dtype dtype;
    uint32_t n_dims;
    uint64_t dims[MAX_DIMS];
    uint8_t *data; /* [size], malloc */
    size_t size;
};

struct tiny {
    struct slm_memory_file files[TINY_FILES]; /* data: malloc */
    size_t n_files;
    struct tiny_tensor list[TINY_TENSORS];
    size_t n;
    json_t *config;
};

ATTR_UNUSED static void tiny_check(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "tiny model: %s\n", what);
        abort();
    }
}

/* Puts a file in place (copied), or takes it away (data NULL). */
ATTR_UNUSED static void tiny_file(struct tiny *t, const char *name, const void *data, size_t n) {
    size_t i = 0;
    while (i < t->n_files && strcmp(t->files[i].name, name) != 0)
        i++;
    if (i < t->n_files) {
        free((void *)(uintptr_t)t->files[i].data);
        t->files[i] = t->files[--t->n_files];
    }
    if (data == NULL)
        return;
    tiny_check(t->n_files < TINY_FILES, "too many files");
    char *copy = malloc(n + 1);
    tiny_check(copy != NULL, "memory");
    memcpy(copy, data, n);
    copy[n] = '\0';
    t->files[t->n_files++] = (struct slm_memory_file){ name, copy, n };
}

ATTR_UNUSED static void tiny_text(struct tiny *t, const char *name, const char *text) {
    tiny_file(t, name, text, strlen(text));
}

ATTR_UNUSED static struct tiny_tensor *tiny_add(struct tiny *t, const char *name, enum dtype dtype,
                                                uint32_t n_dims, const uint64_t *dims,
                                                const void *data, size_t size) {
    struct tiny_tensor *x = &t->list[t->n++];
    tiny_check(t->n <= TINY_TENSORS, "too many tensors");
    *x = (struct tiny_tensor){ .dtype = dtype, .n_dims = n_dims, .size = size };
    snprintf(x->name, sizeof x->name, "%s", name);
    memcpy(x->dims, dims, n_dims * sizeof *dims);
    x->data = malloc(size > 0 ? size : 1);
    memcpy(x->data, data, size);
    return x;
}

ATTR_UNUSED static struct tiny_tensor *tiny_find(struct tiny *t, const char *name) {
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->list[i].name, name) == 0)
            return &t->list[i];
    tiny_check(false, name);
    return NULL;
}

ATTR_UNUSED static void tiny_drop(struct tiny *t, const char *name) {
    struct tiny_tensor *x = tiny_find(t, name);
    free(x->data);
    *x = t->list[--t->n];
}

/* The twin `name`, its vocabulary being `vocab` bytes and more. */
ATTR_UNUSED static void tiny_init(struct tiny *t, const char *name) {
    static const char added[] =
        "[{\"id\":256,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false,\"special\":true},{\"id\":257,\"content\":\"</"
        "s>\",\"single_word\":false,"
        "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},{\"id\":258,"
        "\"content\":\"<a>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false,\"special\":true}]";
    char path[512], rel[128];
    size_t n;
    struct tensors *from;
    *t = (struct tiny){ 0 };
    snprintf(rel, sizeof rel, "golden/%s", name);
    tiny_check(data_path(path, sizeof path, rel) != NULL, "path");
    tiny_check(tensors_open(NULL, path, &from, NULL) == SLM_OK, "weights");
    for (uint32_t i = 0; i < from->n; i++) {
        const struct tensor_info *x = &from->list[i];
        tiny_add(t, x->name, x->dtype, x->n_dims, x->dims, x->data, (size_t)x->size);
    }
    tensors_close(from);
    snprintf(rel, sizeof rel, "golden/%s/config.json", name);
    char *text = slurp(data_path(path, sizeof path, rel), &n);
    tiny_check(text != NULL, "config.json");
    t->config = json_loadb(text, n, 0, NULL);
    free(text);
    snprintf(rel, sizeof rel, "golden/%s/generation_config.json", name);
    text = slurp(data_path(path, sizeof path, rel), &n);
    if (text != NULL)
        tiny_file(t, "generation_config.json", text, n);
    free(text);
    struct mini m = { .added = added };
    text = mini_json(&m);
    tiny_text(t, "tokenizer.json", text);
    free(text);
    tiny_text(t, "chat_template.jinja", TINY_TEMPLATE);
}

/* Writes config.json and model.safetensors from the lists; files that were put by hand stay. */
ATTR_UNUSED static void tiny_build(struct tiny *t) {
    json_t *head = json_object();
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct tiny_tensor *x = &t->list[i];
        json_t *shape = json_array();
        for (uint32_t d = 0; d < x->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)x->dims[d]));
        json_object_set_new(head, x->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                                      x->dtype == DT_BF16  ? "BF16"
                                      : x->dtype == DT_F16 ? "F16"
                                                           : "F32",
                                      "shape", shape, "data_offsets", (json_int_t)at,
                                      (json_int_t)(at + x->size)));
        at += x->size;
    }
    char *text = json_dumps(head, JSON_COMPACT);
    json_decref(head);
    uint64_t n = (strlen(text) + 7) / 8 * 8;
    char *bytes = malloc(8 + n + at);
    memset(bytes, ' ', 8 + n);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, text, strlen(text));
    free(text);
    at = 8 + n;
    for (size_t i = 0; i < t->n; i++) {
        memcpy(bytes + at, t->list[i].data, t->list[i].size);
        at += t->list[i].size;
    }
    tiny_file(t, "model.safetensors", bytes, at);
    free(bytes);
    text = json_dumps(t->config, 0);
    tiny_text(t, "config.json", text);
    free(text);
}

/* Opens what is in the files. parts: needed and wanted. */
ATTR_UNUSED static slm_err tiny_open(const struct tiny *t, unsigned parts,
                                     const struct slm_hooks *hooks, slm_engine **out,
                                     slm_why *why) {
    slm_engine_options o = slm_engine_default();
    o.need = o.want = parts;
    o.hooks = hooks;
    o.threads = 1;
    o.isa = test_isa();
    return slm_engine_open_memory(t->files, t->n_files, &o, out, why);
}

ATTR_UNUSED static void tiny_free(struct tiny *t) {
    while (t->n_files > 0)
        tiny_file(t, t->files[0].name, NULL, 0);
    while (t->n > 0)
        free(t->list[--t->n].data);
    json_decref(t->config);
}

#endif
