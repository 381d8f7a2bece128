/* vision_weights.c - binds the tensors of an image tower to their slots, and packs its matrices.
 *
 * The slots and their names are in models/ (desc.h, families.c). Some GGUF files call the two
 * feed-forward matrices by each other's name; shapes tell which is which. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/pages.h"
#include "base/pool.h"
#include "model/vision.h"

#define ARENA_LIMIT ((size_t)512 << 20)
#define ALIGN 64

struct vision_binder {
    struct vision_net *net;
    const struct tensors *t;
    const struct family *family;
    bool gguf, swapped; /* swapped: the file has the names of up and down the other way round */
    bool *seen;         /* [t->n] */
    slm_why *why;
};

/* ------------------------------------------------------------------ finding and checking */

static enum vision_slot swap(const struct vision_binder *b, enum vision_slot slot) {
    if (!b->swapped)
        return slot;
    switch (slot) {
    case VISION_UP:
        return VISION_DOWN;
    case VISION_DOWN:
        return VISION_UP;
    case VISION_UP_BIAS:
        return VISION_DOWN_BIAS;
    case VISION_DOWN_BIAS:
        return VISION_UP_BIAS;
    default:
        return slot;
    }
}

static const struct tensor_info *find(const struct vision_binder *b, enum vision_slot slot,
                                      uint32_t layer, char name[SLOT_NAME]) {
    enum vision_slot named = swap(b, slot);
    const char *const *names =
        b->gguf ? &b->family->gguf_vision[named] : b->family->hf_vision[named];
    const struct tensor_info *found = NULL;
    for (size_t i = 0; i < (b->gguf ? 1 : VISION_ALIASES) && names[i] != NULL && found == NULL;
         i++) {
        slot_name(names[i], layer, name);
        found = tensors_find(b->t, name);
    }
    if (found == NULL)
        slot_name(names[0], layer, name);
    return found;
}

static slm_err need(struct vision_binder *b, enum vision_slot slot, uint32_t layer, uint64_t rows,
                    uint64_t cols, const struct tensor_info **out) {
    char name[SLOT_NAME];
    const struct tensor_info *t = find(b, slot, layer, name);
    uint64_t all = 1;
    *out = t;
    if (t == NULL)
        return fail(b->why, SLM_E_FORMAT, SLM_NO_OFFSET, "tensor '%s' is missing", name);
    b->seen[t - b->t->list] = true;
    for (uint32_t i = 1; i < t->n_dims; i++)
        if (!mul_u64_ok(all, t->dims[i], &all))
            all = 0;
    if (t->n_dims < 1 || t->dims[0] != rows || all != cols)
        return fail(b->why, SLM_E_FORMAT, t->offset,
                    "tensor '%s' is [%llu, %llu], expected [%llu, %llu]", t->name,
                    (unsigned long long)(t->n_dims > 0 ? t->dims[0] : 0), (unsigned long long)all,
                    (unsigned long long)rows, (unsigned long long)cols);
    return SLM_OK;
}

/* float32 copy of a vector that is finite. */
static slm_err vector(struct vision_binder *b, enum vision_slot slot, uint32_t layer, uint32_t n,
                      const float **out) {
    const struct tensor_info *t;
    TRY(need(b, slot, layer, n, 1, &t));
    if (t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16)
        return fail(b->why, SLM_E_UNSUPPORTED, t->offset,
                    "tensor '%s' is of type %s; vectors have to be F32, F16 or BF16", t->name,
                    dtype_info(t->dtype)->name);
    float *x = arena_alloc(&b->net->arena, n, sizeof *x);
    if (x == NULL)
        return fail_nomem(b->why, t->name, n * sizeof *x);
    dequant(t->dtype, t->data, x, n);
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return fail(b->why, SLM_E_NUMERIC, t->offset, "tensor '%s' holds no number at index %u",
                        t->name, i);
    *out = x;
    return SLM_OK;
}

static slm_err matrix(struct vision_binder *b, enum vision_slot slot, uint32_t layer, uint32_t rows,
                      uint32_t cols, struct matrix *out) {
    const struct tensor_info *t;
    size_t row_bytes;
    TRY(need(b, slot, layer, rows, cols, &t));
    if (!dtype_supported(t->dtype) || !dtype_row_bytes(t->dtype, cols, &row_bytes) ||
        !matrix_plain(out, t->dtype, rows, cols, t->data))
        return fail(b->why, SLM_E_UNSUPPORTED, t->offset,
                    "tensor '%s' of type %s with rows of %u is not supported", t->name,
                    dtype_info(t->dtype)->name, cols);
    return SLM_OK;
}

/* ------------------------------------------------------------------ slots */

static slm_err bind_layer(struct vision_binder *b, uint32_t i, struct vision_layer *l) {
    uint32_t d = b->net->v.hidden, f = b->net->v.ffn;
    TRY(vector(b, VISION_NORM1, i, d, &l->norm1));
    TRY(vector(b, VISION_NORM1_BIAS, i, d, &l->norm1_bias));
    TRY(matrix(b, VISION_Q, i, d, d, &l->q));
    TRY(vector(b, VISION_Q_BIAS, i, d, &l->q_bias));
    TRY(matrix(b, VISION_K, i, d, d, &l->k));
    TRY(vector(b, VISION_K_BIAS, i, d, &l->k_bias));
    TRY(matrix(b, VISION_V, i, d, d, &l->v));
    TRY(vector(b, VISION_V_BIAS, i, d, &l->v_bias));
    TRY(matrix(b, VISION_O, i, d, d, &l->o));
    TRY(vector(b, VISION_O_BIAS, i, d, &l->o_bias));
    TRY(vector(b, VISION_NORM2, i, d, &l->norm2));
    TRY(vector(b, VISION_NORM2_BIAS, i, d, &l->norm2_bias));
    TRY(matrix(b, VISION_UP, i, f, d, &l->up));
    TRY(vector(b, VISION_UP_BIAS, i, f, &l->up_bias));
    TRY(matrix(b, VISION_DOWN, i, d, f, &l->down));
    return vector(b, VISION_DOWN_BIAS, i, d, &l->down_bias);
}

/* The file holds the projection as [d, H], to be multiplied from the right: turned round, as float32. */
static slm_err bind_projection(struct vision_binder *b) {
    struct vision_net *net = b->net;
    uint32_t d = net->v.hidden, h = net->out;
    struct matrix file;
    TRY(matrix(b, VISION_PROJECTION, 0, d, h, &file));
    float *turned = arena_alloc(&net->arena, (size_t)d * h, sizeof *turned);
    float *row = arena_alloc(&net->arena, h, sizeof *row);
    if (turned == NULL || row == NULL)
        return fail_nomem(b->why, "projection", (size_t)d * h * sizeof *turned);
    for (uint32_t i = 0; i < d; i++) {
        matrix_row(net->kernels, &file, i, row);
        for (uint32_t j = 0; j < h; j++)
            turned[(size_t)j * d + i] = row[j];
    }
    matrix_plain(&net->projection, DT_F32, h, d, (const uint8_t *)turned);
    return SLM_OK;
}

static slm_err bind_all(struct vision_binder *b) {
    struct vision_net *net = b->net;
    uint32_t d = net->v.hidden;
    char name[SLOT_NAME];
    net->layers = arena_zalloc(&net->arena, net->v.layers, sizeof *net->layers);
    float *ones = arena_alloc(&net->arena, net->v.ffn, sizeof *ones);
    if (net->layers == NULL || ones == NULL)
        return fail_nomem(b->why, "image tower", net->v.layers * sizeof *net->layers);
    for (uint32_t i = 0; i < net->v.ffn; i++)
        ones[i] = 1.0f;
    net->ones = ones;
    const struct tensor_info *up = find(b, VISION_UP, 0, name);
    b->swapped = b->gguf && up != NULL && up->n_dims == 2 && d != net->v.ffn && up->dims[0] == d;
    TRY(matrix(b, VISION_PATCH, 0, d, net->patch, &net->patches));
    TRY(vector(b, VISION_PATCH_BIAS, 0, d, &net->patch_bias));
    TRY(matrix(b, VISION_POSITION, 0, net->n, d, &net->position));
    for (uint32_t i = 0; i < net->v.layers; i++)
        TRY(bind_layer(b, i, &net->layers[i]));
    TRY(vector(b, VISION_POST_NORM, 0, d, &net->post_norm));
    TRY(vector(b, VISION_POST_NORM_BIAS, 0, d, &net->post_norm_bias));
    TRY(vector(b, VISION_SOFT_NORM, 0, d, &net->soft_norm));
    TRY(bind_projection(b));
    for (uint32_t i = 0; i < b->t->n; i++) {
        const struct tensor_info *t = &b->t->list[i];
        bool tower = false;
        for (size_t j = 0; j < VISION_PREFIXES && b->family->vision_prefixes[j] != NULL; j++)
            tower = tower || strncmp(t->name, b->family->vision_prefixes[j],
                                     strlen(b->family->vision_prefixes[j])) == 0;
        if (!b->seen[i] && (tower || b->gguf))
            return fail(b->why, SLM_E_FORMAT, t->offset,
                        "tensor '%s' is not part of an image tower of %u layers", t->name,
                        net->v.layers);
    }
    return SLM_OK;
}

/* ------------------------------------------------------------------ packing */

/* One matrix and where its panels go. */
struct packing {
    struct matrix *m, from;
    uint8_t *narrow; /* the same as bfloat16 where that loses nothing; owned */
    size_t offset;
};
struct packer {
    const struct vision_net *net;
    struct packing *list;
    uint32_t n;
    struct ticket next;
};

/* Whether bfloat16 holds every value of the matrix; then *out has them. */
static bool narrowed(const struct vision_net *net, const struct matrix *m, uint8_t **out) {
    uint16_t *to = mem_alloc(net->hooks, (size_t)m->rows * m->cols, sizeof *to);
    float *row = mem_alloc(net->hooks, m->cols, sizeof *row);
    bool same = to != NULL && row != NULL;
    for (uint32_t r = 0; r < m->rows && same; r++) {
        matrix_row(net->kernels, m, r, row);
        for (uint32_t c = 0; c < m->cols && same; c++) {
            uint32_t bits;
            memcpy(&bits, &row[c], sizeof bits);
            same = (bits & 0xffff) == 0;
            to[(size_t)r * m->cols + c] = (uint16_t)(bits >> 16);
        }
    }
    mem_free(net->hooks, row);
    if (!same) {
        mem_free(net->hooks, to);
        return false;
    }
    *out = (uint8_t *)to;
    return true;
}

static void add(struct packer *p, struct matrix *m) {
    struct packing *item = &p->list[p->n];
    *item = (struct packing){ .m = m, .from = *m };
    if ((m->dtype == DT_F16 || m->dtype == DT_F32) &&
        matrix_can_pack(p->net->kernels, DT_BF16, m->rows, m->cols) &&
        narrowed(p->net, m, &item->narrow))
        matrix_plain(&item->from, DT_BF16, m->rows, m->cols, item->narrow);
    p->n += matrix_can_pack(p->net->kernels, item->from.dtype, m->rows, m->cols);
}

static void pack_some(void *arg, unsigned index, unsigned count) {
    struct packer *p = arg;
    (void)index;
    (void)count;
    for (unsigned i; (i = ticket_take(&p->next, 1)) < p->n;) {
        struct packing *item = &p->list[i];
        matrix_pack(p->net->kernels, &item->from, item->m, p->net->packed + item->offset, 0,
                    matrix_panels(item->m), NULL);
    }
}

static void add_all(struct packer *p, struct vision_net *net) {
    add(p, &net->patches);
    for (uint32_t i = 0; i < net->v.layers; i++) {
        struct vision_layer *l = &net->layers[i];
        struct matrix *const all[] = { &l->q, &l->k, &l->v, &l->o, &l->up, &l->down };
        for (size_t j = 0; j < ARRAY_LEN(all); j++)
            add(p, all[j]);
    }
    add(p, &net->projection);
}

static slm_err pack(struct vision_net *net, struct pool *pool, slm_why *why) {
    struct packer p = { .net = net };
    slm_err err = SLM_OK;
    size_t total = 0;
    p.list = mem_zalloc(net->hooks, (size_t)net->v.layers * 6 + 3, sizeof *p.list);
    if (p.list == NULL)
        return fail_nomem(why, "list of matrices", net->v.layers * sizeof *p.list);
    add_all(&p, net);
    for (uint32_t i = 0; i < p.n; i++) {
        struct packing *item = &p.list[i];
        matrix_panel(net->kernels, item->m, item->from.dtype, item->from.rows, item->from.cols);
        item->offset = total;
        if (!add_ok(total, (matrix_bytes(item->m) + ALIGN - 1) / ALIGN * ALIGN, &total))
            TRY_OUT(fail_nomem(why, "packed image tower", SIZE_MAX));
    }
    net->packed = mem_alloc_aligned(net->hooks, total, 1);
    if (net->packed == NULL)
        TRY_OUT(fail_nomem(why, "packed image tower", total));
    pages_size(net->packed, total, true);
    net->packed_bytes = total;
    pool_run(pool, pack_some, &p);
    for (uint32_t i = 0; i < p.n; i++)
        p.list[i].m->data = net->packed + p.list[i].offset;
out:
    for (uint32_t i = 0; i < p.n; i++)
        mem_free(net->hooks, p.list[i].narrow);
    mem_free(net->hooks, p.list);
    return err;
}

/* ------------------------------------------------------------------ */

slm_err vision_bind(struct vision_net *net, const struct slm_hooks *h, const struct tensors *t,
                    const struct facts *f, const struct vision *v, const struct net_options *o,
                    slm_why *why) {
    uint32_t side = v->image / v->patch;
    *net = (struct vision_net){ .hooks = h,
                                .kernels = o->kernels,
                                .v = *v,
                                .out = f->m.hidden,
                                .patch = 3 * v->patch * v->patch,
                                .n = side * side,
                                .text_eps = f->m.eps,
                                .exact = o->exact,
                                .soft_plus_one = f->m.family->norm_plus_one && t->gguf == NULL };
    arena_init(&net->arena, h, ARENA_LIMIT);
    bool *seen = mem_zalloc(h, t->n > 0 ? t->n : 1, sizeof *seen);
    if (seen == NULL)
        return fail_nomem(why, "list of tensors", t->n);
    struct vision_binder b = {
        .net = net, .t = t, .family = f->m.family, .gguf = t->gguf != NULL, .seen = seen, .why = why
    };
    slm_err err = bind_all(&b);
    mem_free(h, seen);
    return err == SLM_OK && !o->exact ? pack(net, o->pool, why) : err;
}

void vision_free(struct vision_net *net) {
    mem_free_aligned(net->hooks, net->packed);
    arena_free(&net->arena);
    *net = (struct vision_net){ 0 };
}
