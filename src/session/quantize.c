/* quantize.c - slm_quantize: any model that slm reads -> one GGUF file with smaller blocks.
 *
 * A Hugging Face folder is converted on the way as the established converters do it, so that other
 * programs read the result: tensors get GGUF's names, norm weights are float32 (1 + w where the
 * family multiplies by 1 + w), rows of q and k are permuted per head for families whose GGUF rope
 * turns neighbouring pairs, an output matrix equal to the embedding is left out, longrope factors
 * become tensors. The image tower goes to a file of its own (quantize_tower.c).
 *
 * Types per tensor follow the mixes that users know by name (q4_k_m ...): see recipes below. A row
 * that is no multiple of 256 falls back to the nearest type with blocks of 32. */
#include "session/quantize.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/pool.h"

#define PIECE_BYTES ((size_t)8 << 20) /* of float32 input handled at once */

/* ------------------------------------------------------------------ recipes */

struct recipe {
    const char *name, *note;
    enum dtype base;    /* matrices in general */
    enum dtype embed;   /* embedding and output */
    enum dtype more;    /* attention values and ffn down of the layers that matter most */
    uint32_t file_type; /* GGUF general.file_type */
    bool tower;         /* the image tower instead of the text part */
};
static const struct recipe recipes[] = {
    { "f32", "float32, for checking", DT_F32, DT_F32, DT_F32, 0, false },
    { "f16", "half precision", DT_F16, DT_F16, DT_F16, 1, false },
    { "bf16", "as the vendors publish", DT_BF16, DT_BF16, DT_BF16, 32, false },
    { "q8_0", "nearly lossless, half of bf16", DT_Q8_0, DT_Q8_0, DT_Q8_0, 7, false },
    { "q6_k", "very close, 6.6 bits per weight", DT_Q6_K, DT_Q6_K, DT_Q6_K, 18, false },
    { "q5_k_m", "close, 5.7 bits", DT_Q5_K, DT_Q6_K, DT_Q6_K, 17, false },
    { "q4_k_m", "the usual choice, 4.8 bits", DT_Q4_K, DT_Q6_K, DT_Q6_K, 15, false },
    { "q4_k_s", "4.6 bits", DT_Q4_K, DT_Q6_K, DT_Q4_K, 14, false },
    { "q3_k_m", "3.9 bits, visibly worse", DT_Q3_K, DT_Q6_K, DT_Q5_K, 12, false },
    { "q2_k", "3.0 bits, for when nothing else fits", DT_Q2_K, DT_Q6_K, DT_Q3_K, 10, false },
    { "q4_0", "4.5 bits, simple blocks, fastest prompt", DT_Q4_0, DT_Q6_K, DT_Q4_0, 2, false },
    { "q4_1", "5 bits, simple blocks with a minimum", DT_Q4_1, DT_Q6_K, DT_Q4_1, 3, false },
    { "q5_0", "5.5 bits, simple blocks", DT_Q5_0, DT_Q6_K, DT_Q5_0, 8, false },
    { "q5_1", "6 bits, simple blocks with a minimum", DT_Q5_1, DT_Q6_K, DT_Q5_1, 9, false },
    { "iq4_nl", "4.5 bits, uneven levels", DT_IQ4_NL, DT_Q6_K, DT_IQ4_NL, 25, false },
    { "iq4_xs", "4.3 bits, uneven levels", DT_IQ4_XS, DT_Q6_K, DT_Q5_K, 30, false },
    { "mmproj-f16", "the image tower alone, half precision", DT_F16, DT_F16, DT_F16, 1, true },
    { "mmproj-bf16", "the image tower alone, as the vendors publish", DT_BF16, DT_BF16, DT_BF16, 32,
      true },
    { "mmproj-q8_0", "the image tower alone, half of that", DT_Q8_0, DT_Q8_0, DT_Q8_0, 7, true },
    { "mmproj-f32", "the image tower alone, for checking", DT_F32, DT_F32, DT_F32, 0, true },
};

const char *slm_quantize_type(size_t i, const char **note) {
    if (i >= ARRAY_LEN(recipes))
        return NULL;
    if (note != NULL)
        *note = recipes[i].note;
    return recipes[i].name;
}

static const struct recipe *find_recipe(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(recipes); i++)
        if (strcasecmp(recipes[i].name, name) == 0)
            return &recipes[i];
    return NULL;
}

/* First and last eighth of the layers, and every third in between, get more bits. */
static bool more_bits(uint32_t layer, uint32_t layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static enum dtype narrow_fallback(enum dtype t) {
    switch (t) {
    case DT_Q2_K:
    case DT_Q3_K:
        return DT_Q4_0;
    case DT_Q4_K:
        return DT_Q5_0;
    case DT_Q5_K:
        return DT_Q5_1;
    case DT_Q6_K:
        return DT_Q8_0;
    case DT_IQ4_XS:
        return DT_IQ4_NL;
    default:
        return t;
    }
}

static enum dtype choose_type(const struct recipe *r, enum slot slot, uint32_t layer,
                              uint32_t layers, uint64_t cols) {
    enum dtype t = r->base;
    size_t row;
    if (slot == SLOT_EMBED || slot == SLOT_OUTPUT)
        t = r->embed;
    else if ((slot == SLOT_V || slot == SLOT_QKV || slot == SLOT_DOWN) && more_bits(layer, layers))
        t = r->more;
    if (!dtype_row_bytes(t, cols, &row))
        t = narrow_fallback(t);
    return dtype_row_bytes(t, cols, &row) ? t : DT_F16;
}

/* ------------------------------------------------------------------ one tensor of the output */

int64_t match_layer(const char *pattern, const char *name) {
    const char *mark = strstr(pattern, "%u");
    if (mark == NULL)
        return strcmp(pattern, name) == 0 ? 0 : -1;
    size_t head = (size_t)(mark - pattern);
    if (strncmp(pattern, name, head) != 0 || name[head] < '0' || name[head] > '9')
        return -1;
    int64_t layer = 0;
    const char *p = name + head;
    while (*p >= '0' && *p <= '9' && layer < 100000)
        layer = layer * 10 + (*p++ - '0');
    return strcmp(p, mark + 2) == 0 ? layer : -1;
}

static bool match_slot(const struct family *f, bool gguf, const char *name, enum slot *slot,
                       uint32_t *layer) {
    for (int s = 0; s < SLOT_COUNT; s++)
        for (int a = 0; a < (gguf ? 1 : NAME_ALIASES); a++) {
            const char *pattern = gguf ? f->gguf_names[s] : f->hf_names[s][a];
            int64_t at = pattern != NULL ? match_layer(pattern, name) : -1;
            if (at >= 0) {
                *slot = (enum slot)s;
                *layer = (uint32_t)at;
                return true;
            }
        }
    return false;
}

static void gguf_name(const struct family *f, enum slot slot, uint32_t layer, char *out, size_t n) {
    const char *pattern = f->gguf_names[slot], *mark = strstr(pattern, "%u");
    if (mark == NULL)
        snprintf(out, n, "%s", pattern);
    else
        snprintf(out, n, "%.*s%u%s", (int)(mark - pattern), pattern, layer, mark + 2);
}

static bool is_norm(enum slot s) {
    return s == SLOT_FINAL_NORM || s == SLOT_ATTN_NORM || s == SLOT_Q_NORM || s == SLOT_K_NORM ||
           s == SLOT_POST_ATTN_NORM || s == SLOT_FFN_NORM || s == SLOT_POST_FFN_NORM;
}

/* Fills in what becomes of one tensor; false if it is left out. */
static bool plan_item(const struct source *in, const struct recipe *r, const struct tensor_info *t,
                      struct item *it) {
    const struct family *f = in->facts.m.family;
    bool gguf = in->tensors->gguf != NULL;
    *it = (struct item){ .from = t, .slot = SLOT_COUNT, .type = t->dtype };
    if (!match_slot(f, gguf, t->name, &it->slot, &it->layer)) {
        if (!gguf)
            return false; /* image tower and the like */
        snprintf(it->name, sizeof it->name, "%s", t->name);
        return true;
    }
    if (it->slot == SLOT_OUTPUT && in->facts.m.tied)
        return false;
    gguf_name(f, it->slot, it->layer, it->name, sizeof it->name);
    if (t->n_dims < 2) {
        it->type = DT_F32;
        it->plus_one = !gguf && f->norm_plus_one && is_norm(it->slot);
        return true;
    }
    it->type = choose_type(r, it->slot, it->layer, in->facts.m.layers, t->dims[t->n_dims - 1]);
    if (!gguf && f->gguf_interleaved && it->slot == SLOT_Q)
        it->permute = in->facts.m.heads;
    if (!gguf && f->gguf_interleaved && it->slot == SLOT_K)
        it->permute = in->facts.m.kv_heads;
    return true;
}

/* ------------------------------------------------------------------ rows through float32 */

struct job {
    const struct item *it;
    uint64_t cols, first, n; /* rows first..first+n */
    size_t in_row, out_row;
    uint64_t rows;
    float *floats; /* [n][cols] */
    uint8_t *out;  /* [n][out_row] */
    struct ticket ticket;
};

/* Row of the source that becomes row r: rotate-half order -> neighbouring pairs, per head. */
static uint64_t source_row(const struct item *it, uint64_t rows, uint64_t r) {
    if (it->permute == 0)
        return r;
    uint64_t d = rows / it->permute, head = r / d, i = r % d;
    return head * d + (i % 2 == 0 ? i / 2 : d / 2 + i / 2);
}

static void convert_rows(void *arg, unsigned index, unsigned count) {
    struct job *j = arg;
    (void)index;
    (void)count;
    for (uint64_t k; (k = ticket_take(&j->ticket, 1)) < j->n;) {
        float *row = j->floats + k * j->cols;
        uint64_t from = source_row(j->it, j->rows, j->first + k);
        dequant(j->it->from->dtype, j->it->from->data + from * j->in_row, row, (size_t)j->cols);
        for (uint64_t c = 0; j->it->plus_one && c < j->cols; c++)
            row[c] += 1.0f;
        if (j->it->type == DT_F32)
            memcpy(j->out + k * j->out_row, row, j->out_row);
        else
            quantise(j->it->type, row, j->out + k * j->out_row, (size_t)j->cols);
    }
}

struct progress {
    const slm_quantize_options *o;
    uint64_t done, total;
};

static slm_err step(struct progress *p, uint64_t bytes, slm_why *why) {
    p->done += bytes;
    if (p->o->progress != NULL && !p->o->progress(p->o->user, "quantize", p->done, p->total))
        return fail(why, SLM_E_CANCELLED, SLM_NO_OFFSET, "cancelled");
    return SLM_OK;
}

static slm_err write_converted(const struct source *in, const struct item *it, struct pool *pool,
                               struct gguf_writer *w, struct progress *p, slm_why *why) {
    const struct tensor_info *t = it->from;
    struct job j = { .it = it, .cols = t->dims[t->n_dims - 1], .rows = 1 };
    slm_err err = SLM_OK;
    for (uint32_t d = 0; d + 1 < t->n_dims; d++)
        j.rows *= t->dims[d];
    if (!dtype_row_bytes(t->dtype, j.cols, &j.in_row) ||
        !dtype_row_bytes(it->type, j.cols, &j.out_row))
        return fail(why, SLM_E_UNSUPPORTED, t->offset,
                    "tensor '%s': rows of %llu do not fit its blocks", t->name,
                    (unsigned long long)j.cols);
    uint64_t piece = PIECE_BYTES / (j.cols * sizeof(float));
    piece = piece == 0 ? 1 : piece > j.rows ? j.rows : piece;
    j.floats = mem_alloc_aligned(&in->hooks, (size_t)(piece * j.cols), sizeof(float));
    j.out = mem_alloc_aligned(&in->hooks, (size_t)piece, j.out_row);
    if (j.floats == NULL || j.out == NULL)
        err = fail_nomem(why, "rows", PIECE_BYTES);
    for (j.first = 0; err == SLM_OK && j.first < j.rows; j.first += j.n) {
        j.n = j.rows - j.first < piece ? j.rows - j.first : piece;
        atomic_store(&j.ticket.next, 0);
        pool_run(pool, convert_rows, &j);
        err = gguf_write_data(w, j.out, (size_t)j.n * j.out_row, why);
        if (err == SLM_OK)
            err = step(p, j.n * j.in_row, why);
    }
    mem_free_aligned(&in->hooks, j.floats);
    mem_free_aligned(&in->hooks, j.out);
    return err;
}

static slm_err write_item(const struct source *in, const struct item *it, struct pool *pool,
                          struct gguf_writer *w, struct progress *p, slm_why *why) {
    if (it->values != NULL)
        return gguf_write_data(w, it->values, (size_t)it->n_values * sizeof(float), why);
    if (it->type == it->from->dtype && it->permute == 0 && !it->plus_one) {
        TRY(gguf_write_data(w, it->from->data, (size_t)it->from->size, why));
        return step(p, it->from->size, why);
    }
    return write_converted(in, it, pool, w, p, why);
}

/* ------------------------------------------------------------------ the whole file */

static slm_err put_rope(const struct source *in, struct item *list, size_t *n) {
    const struct rope_scaling *r = &in->facts.m.rope;
    const struct family *f = in->facts.m.family;
    if (in->tensors->gguf != NULL || r->kind != ROPE_LONG || f->gguf_names[SLOT_ROPE_LONG] == NULL)
        return SLM_OK;
    const float *const values[] = { r->long_factors, r->short_factors };
    const enum slot slots[] = { SLOT_ROPE_LONG, SLOT_ROPE_SHORT };
    for (size_t i = 0; i < 2; i++) {
        struct item *it = &list[(*n)++];
        *it = (struct item){ .slot = slots[i],
                             .type = DT_F32,
                             .values = values[i],
                             .n_values = in->facts.m.rotary / 2 };
        snprintf(it->name, sizeof it->name, "%s", f->gguf_names[slots[i]]);
    }
    return SLM_OK;
}

static slm_err declare(struct gguf_writer *w, const struct item *list, size_t n, slm_why *why) {
    for (size_t i = 0; i < n; i++) {
        const struct item *it = &list[i];
        slm_err err = it->values != NULL ? gguf_put_tensor(w, it->name, it->type, 1, &it->n_values)
                                         : gguf_put_tensor(w, it->name, it->type, it->from->n_dims,
                                                           it->from->dims);
        if (err != SLM_OK)
            return fail(why, err, SLM_NO_OFFSET, "tensor '%s' cannot be written: %s", it->name,
                        err_text(err));
    }
    return SLM_OK;
}

static slm_err write_file(const struct source *in, const struct recipe *r,
                          const slm_quantize_options *o, struct gguf_writer *w, slm_why *why) {
    struct progress p = { .o = o };
    struct pool *pool = NULL;
    size_t n = 0;
    slm_err err = SLM_OK;
    struct item *list = mem_zalloc(&in->hooks, (size_t)in->tensors->n + 2, sizeof *list);
    if (list == NULL)
        return fail_nomem(why, "tensor list", in->tensors->n * sizeof *list);
    if (!r->tower)
        TRY_OUT(put_rope(in, list, &n));
    for (uint32_t i = 0; i < in->tensors->n; i++)
        if (r->tower ? tower_item(in, r->base, &in->tensors->list[i], &list[n])
                     : plan_item(in, r, &in->tensors->list[i], &list[n])) {
            p.total += in->tensors->list[i].size;
            n++;
        }
    TRY_OUT(declare(w, list, n, why));
    TRY_OUT(pool_new(&in->hooks, o->threads > 0 ? o->threads : cpu_count(), &pool, why));
    for (size_t i = 0; i < n; i++)
        TRY_OUT(write_item(in, &list[i], pool, w, &p, why));
out:
    pool_free(pool);
    mem_free(&in->hooks, list);
    return err;
}

static slm_err open_source(struct source *in, const char *path, slm_why *why) {
    in->parts = (struct parts){ .hooks = &in->hooks, .path = path, .is_folder = dir_exists(path) };
    TRY(tensors_open(&in->hooks, path, &in->tensors, why));
    TRY(parts_facts(&in->parts, in->tensors, path, &in->facts, &in->has_facts, why));
    return in->has_facts ? SLM_OK
                         : fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "%s has no config.json", path);
}

static void close_source(struct source *in) {
    if (in->has_facts)
        facts_free(&in->facts);
    tensors_close(in->tensors);
}

slm_quantize_options slm_quantize_default(void) {
    return (slm_quantize_options){ .size = sizeof(slm_quantize_options) };
}

slm_err slm_quantize(const char *in_path, const char *out_path, const char *type,
                     const slm_quantize_options *options, slm_why *why) {
    slm_quantize_options o = slm_quantize_default();
    struct source in = { 0 };
    struct gguf_writer *w = NULL;
    const struct recipe *r = type != NULL ? find_recipe(type) : NULL;
    slm_err err;
    TRY(options_copy(&o, sizeof o, options, why));
    if (in_path == NULL || out_path == NULL || type == NULL || !hooks_valid(o.hooks))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "input, output, type and whole hooks are needed");
    if (r == NULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "unknown type '%s'", type);
    hooks_init(&in.hooks, o.hooks);
    TRY_OUT(open_source(&in, in_path, why));
    TRY_OUT(gguf_writer_new(&in.hooks, out_path, &w, why));
    TRY_OUT(r->tower                   ? tower_metadata(&in, r->file_type, w, why)
            : in.tensors->gguf != NULL ? metadata_copy(&in, r->file_type, w, why)
                                       : metadata_from_folder(&in, r->file_type, w, why));
    TRY_OUT(write_file(&in, r, &o, w, why));
    err = gguf_writer_close(w, true, why);
    w = NULL;
out:
    if (w != NULL)
        gguf_writer_close(w, false, NULL);
    close_source(&in);
    return err;
}
