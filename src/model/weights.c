/* weights.c - binds the tensors of a file to the slots of a net.
 *
 * In:  tensors by name, facts.     Out: matrices over the file, or descriptions of panels; norms.
 * Every tensor of the file is looked for, checked and accounted for: a missing, mis-shaped or unknown
 * one is an error. Left aside, and noted: an image tower, an output equal to the tied embedding.
 * Fused tensors are row ranges (blocks of quantised types lie along columns, so rows are whole).
 * What is to be packed is packed by pack.c. */
#include "model/weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

#define ARENA_LIMIT ((size_t)64 << 20)

struct binder {
    struct net *net;
    const struct tensors *t; /* may be NULL */
    const struct facts *f;
    const struct family *family;
    struct bindings *out;
    bool *seen; /* [t->n] tensors that found their slot */
    bool plan_only;
    slm_why *why;
};

/* ------------------------------------------------------------------ finding and checking tensors */

static const struct tensor_info *find_slot(struct binder *b, enum slot slot, uint32_t layer,
                                           char name[SLOT_NAME]) {
    const char *const *names =
        b->f->from_gguf ? &b->family->gguf_names[slot] : b->family->hf_names[slot];
    size_t n = b->f->from_gguf ? 1 : NAME_ALIASES;
    const struct tensor_info *found = NULL;
    for (size_t i = 0; i < n && names[i] != NULL && found == NULL; i++) {
        slot_name(names[i], layer, name);
        found = tensors_find(b->t, name);
    }
    if (found != NULL)
        b->seen[found - b->t->list] = true;
    else if (names[0] != NULL)
        slot_name(names[0], layer, name); /* the usual spelling, for the message */
    return found;
}

static slm_err check_shape(struct binder *b, enum slot slot, const struct tensor_info *t) {
    uint64_t want[2] = { 0, 0 };
    unsigned n = slot_shape(b->net->m, slot, want);
    if (slot == SLOT_OUTPUT && n == 0)
        n = slot_shape(b->net->m, SLOT_EMBED, want);
    if (t->n_dims == n && t->dims[0] == want[0] && (n == 1 || t->dims[1] == want[1]))
        return SLM_OK;
    char is[64] = "";
    for (uint32_t i = 0, used = 0; i < t->n_dims && used < sizeof is; i++)
        used += (uint32_t)snprintf(is + used, sizeof is - used, "%s%llu", i > 0 ? ", " : "",
                                   (unsigned long long)t->dims[i]);
    if (n == 1)
        return fail(b->why, SLM_E_FORMAT, t->offset, "tensor '%s' is [%s], expected [%llu]",
                    t->name, is, (unsigned long long)want[0]);
    return fail(b->why, SLM_E_FORMAT, t->offset, "tensor '%s' is [%s], expected [%llu, %llu]",
                t->name, is, (unsigned long long)want[0], (unsigned long long)want[1]);
}

static slm_err need_slot(struct binder *b, enum slot slot, uint32_t layer,
                         const struct tensor_info **out) {
    char name[SLOT_NAME] = "?";
    *out = find_slot(b, slot, layer, name);
    if (*out == NULL)
        return fail(b->why, SLM_E_FORMAT, SLM_NO_OFFSET, "tensor '%s' is missing", name);
    return check_shape(b, slot, *out);
}

/* ------------------------------------------------------------------ norms */

static slm_err check_finite(struct binder *b, const struct tensor_info *t, const float *x,
                            size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return fail(b->why, SLM_E_NUMERIC, t->offset, "tensor '%s' holds %s at index %zu",
                        t->name, isnan(x[i]) ? "NaN" : "infinity", i);
    return SLM_OK;
}

/* float32 copy of a vector; *out stays NULL where the family has none, or in a plan. */
static slm_err bind_norm(struct binder *b, enum slot slot, uint32_t layer, const float **out) {
    const struct tensor_info *t;
    uint64_t dims[2];
    *out = NULL;
    if (b->t == NULL || slot_shape(b->net->m, slot, dims) == 0)
        return SLM_OK;
    TRY(need_slot(b, slot, layer, &t));
    if (t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16)
        return fail(b->why, SLM_E_UNSUPPORTED, t->offset,
                    "tensor '%s' is of type %s; vectors have to be F32, F16 or BF16", t->name,
                    dtype_info(t->dtype)->name);
    if (b->plan_only)
        return SLM_OK;
    float *x = arena_alloc(&b->net->arena, dims[0], sizeof *x);
    if (x == NULL)
        return fail_nomem(b->why, t->name, dims[0] * sizeof *x);
    dequant(t->dtype, t->data, x, dims[0]);
    TRY(check_finite(b, t, x, dims[0]));
    *out = x;
    return SLM_OK;
}

/* ------------------------------------------------------------------ matrices */

/* PLAIN over rows [first, first + rows) of the tensor (t NULL: of a bfloat16 one that is not there). */
static slm_err bind_rows(struct binder *b, const struct tensor_info *t, uint64_t first,
                         uint64_t rows, uint64_t cols, struct matrix *out) {
    enum dtype type = t != NULL ? t->dtype : DT_BF16;
    size_t row_bytes;
    if (t != NULL && (!dtype_supported(type) || !dtype_row_bytes(type, cols, &row_bytes)))
        return fail(b->why, SLM_E_UNSUPPORTED, t->offset,
                    "tensor '%s' of type %s with rows of %llu is not supported", t->name,
                    dtype_info(type)->name, (unsigned long long)cols);
    if (!dtype_row_bytes(type, cols, &row_bytes) ||
        !matrix_plain(out, type, (uint32_t)rows, (uint32_t)cols,
                      t != NULL ? t->data + first * row_bytes : NULL))
        return fail(b->why, SLM_E_FORMAT, t != NULL ? t->offset : SLM_NO_OFFSET,
                    "a matrix of %llu x %llu is too large", (unsigned long long)rows,
                    (unsigned long long)cols);
    b->out->list[b->out->n++] = (struct binding){ .matrix = out, .file = t, .first_row = first };
    return SLM_OK;
}

static slm_err bind_matrix(struct binder *b, enum slot slot, uint32_t layer, struct matrix *out) {
    const struct tensor_info *t = NULL;
    uint64_t dims[2];
    if (slot_shape(b->net->m, slot, dims) != 2)
        return SLM_OK;
    if (b->t != NULL)
        TRY(need_slot(b, slot, layer, &t));
    return bind_rows(b, t, 0, dims[0], dims[1], out);
}

/* Row ranges of one tensor, one after another. */
static slm_err bind_fused(struct binder *b, enum slot slot, uint32_t layer,
                          struct matrix *const parts[], const uint64_t rows[], size_t n) {
    const struct tensor_info *t = NULL;
    uint64_t first = 0;
    if (b->t != NULL)
        TRY(need_slot(b, slot, layer, &t));
    for (size_t i = 0; i < n; i++) {
        TRY(bind_rows(b, t, first, rows[i], b->net->m->hidden, parts[i]));
        first += rows[i];
    }
    return SLM_OK;
}

static slm_err bind_projections(struct binder *b, uint32_t i, struct layer *l) {
    const struct model *m = b->net->m;
    uint64_t q = (uint64_t)m->heads * m->head_dim, k = (uint64_t)m->kv_heads * m->head_dim;
    if (b->family->fused_qkv)
        return bind_fused(b, SLOT_QKV, i, (struct matrix *const[]){ &l->q, &l->k, &l->v },
                          (const uint64_t[]){ q, k, k }, 3);
    TRY(bind_matrix(b, SLOT_Q, i, &l->q));
    TRY(bind_matrix(b, SLOT_K, i, &l->k));
    if (b->net->interleaved_rope) {
        b->out->list[b->out->n - 2].permuted_heads = m->heads;
        b->out->list[b->out->n - 1].permuted_heads = m->kv_heads;
    }
    return bind_matrix(b, SLOT_V, i, &l->v);
}

static slm_err bind_layer(struct binder *b, uint32_t i, struct layer *l) {
    const struct model *m = b->net->m;
    l->kind = pattern_at(m->pattern, i);
    TRY(bind_norm(b, SLOT_ATTN_NORM, i, &l->attn_norm));
    TRY(bind_projections(b, i, l));
    TRY(bind_norm(b, SLOT_Q_NORM, i, &l->q_norm));
    TRY(bind_norm(b, SLOT_K_NORM, i, &l->k_norm));
    TRY(bind_matrix(b, SLOT_O, i, &l->o));
    TRY(bind_norm(b, SLOT_POST_ATTN_NORM, i, &l->post_attn_norm));
    TRY(bind_norm(b, SLOT_FFN_NORM, i, &l->ffn_norm));
    if (b->family->fused_gate_up) {
        TRY(bind_fused(b, SLOT_GATE_UP, i, (struct matrix *const[]){ &l->gate, &l->up },
                       (const uint64_t[]){ m->ffn, m->ffn }, 2));
    } else {
        TRY(bind_matrix(b, SLOT_GATE, i, &l->gate));
        TRY(bind_matrix(b, SLOT_UP, i, &l->up));
    }
    TRY(bind_matrix(b, SLOT_DOWN, i, &l->down));
    return bind_norm(b, SLOT_POST_FFN_NORM, i, &l->post_ffn_norm);
}

/* ------------------------------------------------------------------ embedding and output */

static bool same_tensor(const struct tensor_info *a, const struct tensor_info *b) {
    return a->dtype == b->dtype && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static void drop_tensor(const struct tensors *t, const struct tensor_info *info) {
    const struct mapping *map = &t->files[info->file].map;
    file_drop(map, (size_t)(info->data - map->data), (size_t)info->size);
}

/* The embedding is bound last, as the output, so that it is packed as the matrix that it is used as.
 * A separate output: the same bytes as the embedding are left aside; different ones are used, except
 * against a config.json that says tied, where two readings of the folder would give two models. */
static slm_err bind_output(struct binder *b) {
    struct net *net = b->net;
    const struct tensor_info *embed = NULL, *output = NULL;
    uint64_t dims[2];
    char name[SLOT_NAME];
    slot_shape(net->m, SLOT_EMBED, dims);
    if (b->t != NULL) {
        TRY(need_slot(b, SLOT_EMBED, 0, &embed));
        output = find_slot(b, SLOT_OUTPUT, 0, name);
    }
    if (output != NULL) {
        TRY(check_shape(b, SLOT_OUTPUT, output));
        /* comparing reads both matrices: a plan takes the word of a file that says tied */
        bool same = (b->plan_only && net->m->tied) || same_tensor(embed, output);
        if (!same && net->m->tied)
            return fail(
                b->why, SLM_E_MISMATCH, output->offset,
                "config.json says that output and embedding are tied, but '%s' differs from '%s'",
                output->name, embed->name);
        drop_tensor(b->t, output); /* comparing may have read both */
        drop_tensor(b->t, embed);
        if (same)
            output = NULL;
    } else if (b->t != NULL && !net->m->tied) {
        return fail(b->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "tensor '%s' is missing, and the output is not tied", name);
    }
    TRY(bind_rows(b, embed, 0, dims[0], dims[1], &net->embed));
    if (output == NULL && (b->t != NULL || net->m->tied)) {
        b->out->list[b->out->n - 1].matrix = &net->output;
        b->out->shared = true;
        net->output = net->embed;
        return SLM_OK;
    }
    b->out->n--; /* an embedding of its own is only looked up: it stays in the file */
    return bind_rows(b, output, 0, dims[0], dims[1], &net->output);
}

/* ------------------------------------------------------------------ what is left over */

static bool is_vision(const struct family *family, const char *name) {
    for (size_t i = 0; i < VISION_PREFIXES && family->vision_prefixes[i] != NULL; i++)
        if (strncmp(name, family->vision_prefixes[i], strlen(family->vision_prefixes[i])) == 0)
            return true;
    return false;
}

/* Tables of inverse frequencies that old versions of the vendor's library saved. They are computed. */
static bool is_rope_table(const char *name) {
    static const char end[] = "rotary_emb.inv_freq";
    size_t n = strlen(name);
    return n >= sizeof end - 1 && strcmp(name + n - (sizeof end - 1), end) == 0;
}

static slm_err account_for_all(struct binder *b) {
    for (uint32_t i = 0; i < b->t->n; i++) {
        const struct tensor_info *t = &b->t->list[i];
        if (b->seen[i])
            continue;
        if (is_vision(b->family, t->name))
            b->net->has_vision = true;
        else if (b->f->from_gguf || !is_rope_table(t->name))
            return fail(b->why, SLM_E_FORMAT, t->offset,
                        "tensor '%s' is not part of a %s model of %u layers", t->name,
                        b->family->name, b->net->m->layers);
    }
    return SLM_OK;
}

static slm_err bind_all(struct binder *b) {
    struct net *net = b->net;
    const struct model *m = net->m;
    char name[SLOT_NAME];
    net->layers = arena_zalloc(&net->arena, m->layers, sizeof *net->layers);
    b->out->list = arena_zalloc(&net->arena, (size_t)m->layers * 7 + 2, sizeof *b->out->list);
    if (net->layers == NULL || b->out->list == NULL)
        return fail_nomem(b->why, "layers", (size_t)m->layers * sizeof *net->layers);
    for (uint32_t i = 0; i < m->layers; i++)
        TRY(bind_layer(b, i, &net->layers[i]));
    TRY(bind_norm(b, SLOT_FINAL_NORM, 0, &net->final_norm));
    TRY(bind_output(b));
    if (b->t == NULL)
        return SLM_OK;
    if (b->f->from_gguf && m->rope.kind == ROPE_LONG) { /* read by facts_gguf.c */
        find_slot(b, SLOT_ROPE_LONG, 0, name);
        find_slot(b, SLOT_ROPE_SHORT, 0, name);
    }
    return account_for_all(b);
}

slm_err weights_bind(struct net *net, struct bindings *out, const struct slm_hooks *h,
                     const struct tensors *t, const struct facts *f, bool plan_only, slm_why *why) {
    const struct family *family = f->m.family;
    bool *seen = NULL;
    net->hooks = h;
    net->m = &f->m;
    net->norm_plus_one = family->norm_plus_one && !f->from_gguf;
    net->interleaved_rope = family->gguf_interleaved && f->from_gguf;
    net->embed_scale = family->embed_scale_sqrt ? (float)sqrt((double)f->m.hidden) : 1.0f;
    net->has_vision = f->has_vision;
    arena_init(&net->arena, h, ARENA_LIMIT);
    *out = (struct bindings){ 0 };
    if (t != NULL && (seen = mem_zalloc(h, t->n > 0 ? t->n : 1, sizeof *seen)) == NULL)
        return fail_nomem(why, "list of tensors", t->n);
    struct binder b = { .net = net,
                        .t = t,
                        .f = f,
                        .family = family,
                        .out = out,
                        .seen = seen,
                        .plan_only = plan_only,
                        .why = why };
    slm_err err = bind_all(&b);
    mem_free(h, seen);
    return err;
}

/* ------------------------------------------------------------------ arranging */

/* q and k rows of permuted files are put back in order while packing. That needs a panel layout for
 * all of them; otherwise all stay as they are and rope turns neighbouring pairs. */
static bool can_reorder(const struct net *net, const struct bindings *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        const struct matrix *m = b->list[i].matrix;
        if (b->list[i].permuted_heads > 0 &&
            !matrix_can_pack(net->kernels, m->dtype, m->rows, m->cols))
            return false;
    }
    return true;
}

slm_err weights_arrange(struct net *net, struct bindings *b, slm_why *why) {
    uint64_t packed = 0, mapped = 0;
    if (!net->exact && net->interleaved_rope && can_reorder(net, b))
        net->interleaved_rope = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct matrix *m = b->list[i].matrix;
        struct matrix panel;
        bool pack = !net->exact && matrix_can_pack(net->kernels, m->dtype, m->rows, m->cols) &&
                    matrix_panel(net->kernels, &panel, m->dtype, m->rows, m->cols);
        uint64_t bytes = pack ? (matrix_bytes(&panel) + 63) / 64 * 64 : matrix_bytes(m);
        if (!add_u64_ok(pack ? packed : mapped, bytes, pack ? &packed : &mapped))
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the matrices have too many bytes");
        if (net->interleaved_rope)
            b->list[i].permuted_heads = 0;
        if (pack)
            *m = panel;
        else
            b->list[i].file = NULL; /* nothing to pack */
    }
    if (b->shared)
        net->embed = net->output;
    else if (!add_u64_ok(mapped, matrix_bytes(&net->embed), &mapped))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "the matrices have too many bytes");
    net->packed_bytes = packed;
    net->mapped_bytes = mapped;
    return SLM_OK;
}
