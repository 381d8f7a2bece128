/* identity.c - a number for a file of weights, without reading it whole.
 *
 * Goes in: every number of the model that the forward pass uses, the size of every file, and of every
 * tensor its name, type, shape, size and the first and last IDENTITY_SAMPLE bytes. Two files that
 * differ in none of these are taken for the same; what trains or converts a model changes the
 * beginnings of tensors too. Paths, times and metadata of the tokenizer stay out: a copy of a file
 * is the same file. Cost: two pages of each tensor, some thousand in all. */
#include <string.h>

#include "base/hash.h"
#include "model/net.h"

#define IDENTITY_SEED 0x736c6d2d6e657401u /* the last byte counts changes of what goes in */
#define IDENTITY_SAMPLE 4096

static void add_text(struct hash *h, const char *s) {
    size_t n = s != NULL ? strlen(s) : 0;
    hash_add_u64(h, n);
    hash_add(h, s, n);
}

static void add_float(struct hash *h, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    hash_add_u64(h, bits);
}

static void add_factors(struct hash *h, const float *v, uint32_t n) {
    hash_add_u64(h, v != NULL ? n : 0);
    for (uint32_t i = 0; v != NULL && i < n; i++)
        add_float(h, v[i]);
}

static void add_model(struct hash *h, const struct model *m) {
    const uint32_t numbers[] = { m->layers, m->hidden,     m->heads,    m->kv_heads, m->head_dim,
                                 m->ffn,    m->vocab,      m->window,   m->rotary,   m->context,
                                 m->tied,   m->vocab_used, m->vocab_cut };
    add_text(h, m->family->name);
    add_text(h, m->pattern);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        hash_add_u64(h, numbers[i]);
    add_float(h, m->theta);
    add_float(h, m->theta_sliding);
    add_float(h, m->attn_scale);
    add_float(h, m->eps);
    hash_add_u64(h, (uint64_t)m->rope.kind);
    add_float(h, m->rope.factor);
    hash_add_u64(h, m->rope.original_context);
    add_float(h, m->rope.attention_factor);
    add_factors(h, m->rope.short_factors, m->rotary / 2);
    add_factors(h, m->rope.long_factors, m->rotary / 2);
}

static void add_tensor(struct hash *h, const struct tensor_info *t) {
    size_t size = (size_t)t->size; /* mapped, so it fits */
    size_t n = size < IDENTITY_SAMPLE ? size : IDENTITY_SAMPLE;
    add_text(h, t->name);
    hash_add_u64(h, (uint64_t)t->dtype);
    hash_add_u64(h, t->n_dims);
    for (uint32_t i = 0; i < t->n_dims; i++)
        hash_add_u64(h, t->dims[i]);
    hash_add_u64(h, t->size);
    hash_add(h, t->data, n);
    hash_add(h, n > 0 ? t->data + (size - n) : NULL, n);
}

void net_identity(const struct tensors *t, const struct facts *f, uint64_t out[2]) {
    struct hash h;
    hash_init(&h, IDENTITY_SEED);
    hash_add_u64(&h, f->from_gguf);
    add_model(&h, &f->m);
    hash_add_u64(&h, t->n_files);
    for (uint32_t i = 0; i < t->n_files; i++)
        hash_add_u64(&h, t->files[i].map.size);
    hash_add_u64(&h, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct tensor_info *x = &t->list[i];
        const struct mapping *map = &t->files[x->file].map;
        add_tensor(&h, x);
        file_drop(map, (size_t)(x->data - map->data), (size_t)x->size); /* two huge pages, perhaps */
    }
    hash_end(&h, out);
}
