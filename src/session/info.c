/* info.c - what an opened model is, what it costs, and what is in its file. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/reader.h"
#include "session/image.h"
#include "session/constraint.h"
#include "session/runner.h"

#define PLACES_MAX 1024 /* of a batch */
#define GUESSES 7       /* of one pass, unless told otherwise */
#define FIT_MIN 256     /* positions: a smaller context is not worth opening a session for */

static const char *const packed_names[] = { [PACKED_NONE] = NULL,
                                            [PACKED_MEMORY] = "memory",
                                            [PACKED_WRITTEN] = "written",
                                            [PACKED_CACHED] = "cached" };

static void info_numbers(const struct model *m, slm_info *i) {
    i->params = m->params;
    i->context = m->context;
    i->layers = m->layers;
    i->hidden = m->hidden;
    i->heads = m->heads;
    i->kv_heads = m->kv_heads;
    i->head_dim = m->head_dim;
    i->ffn = m->ffn;
    i->vocab = m->vocab;
    i->vocab_used = m->vocab_used > 0 ? m->vocab_used : m->vocab;
    i->window = m->window;
    i->bos = m->bos;
    i->suggested_output = m->suggested_output;
    for (; m->stop[i->n_stop] >= 0; i->n_stop++)
        i->stop[i->n_stop] = m->stop[i->n_stop];
}

slm_err slm_engine_info(const slm_engine *e, slm_info *out) {
    slm_info i = {
        .size = out->size, .bos = -1, .image_token = -1, .name = e->name, .container = e->container, .types = e->types
    };
    i.isa = isa_name(kernels_isa(e->kernels));
    i.parts = (e->tokenizer != NULL ? SLM_TOKENIZER : 0u) | (e->chat != NULL ? SLM_TEMPLATE : 0u) |
              (e->bound ? SLM_WEIGHTS : 0u);
    i.trust = "unknown";
    if (e->has_facts) {
        const struct facts *f = &e->facts;
        info_numbers(&f->m, &i);
        i.id = f->known != NULL ? f->known->name : NULL;
        i.family = f->m.family->name;
        i.trust = f->trust == TRUST_VERIFIED ? "verified" : "derived, not verified";
        i.think =
            e->think_open >= 0 || e->tokenizer == NULL ? think_public(f->m.think) : SLM_THINK_NONE;
        if (e->images != NULL)
            i.image_token = image_vision(e->images)->soft;
        i.has_vision = e->images != NULL || (f->has_vision && !e->bound);
    }
    i.tools = dialect_name(dialect_of(e));
    i.file_bytes = e->file_bytes;
    i.tensor_bytes = e->tensor_bytes;
    i.packed_bytes = e->bound ? e->net.packed_bytes : 0;
    i.packed = e->bound ? packed_names[e->net.packed_from] : NULL;
    i.sampling = e->sampling;
    i.sampling_no_think = e->sampling_no_think;
    i.chat_template = e->chat_source;
    i.bos_text = e->bos_text;
    i.eos_text = e->eos_text;
    i.n_tensors = e->tensors != NULL ? e->tensors->n : 0;
    i.n_meta = e->tensors != NULL && e->tensors->gguf != NULL ? gguf_count(e->tensors->gguf) : 0;
    return result_give(out, &i, sizeof i);
}

slm_err slm_engine_identity(const slm_engine *e, char text[33], slm_why *why) {
    uint64_t id[2];
    struct hash h;
    if (e->tensors == NULL || !e->has_facts)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model has no file of weights");
    net_identity(e->tensors, &e->facts, id);
    hash_init(&h, id[0]);
    hash_add_u64(&h, id[1]);
    hash_add_u64(&h, e->exact);
    hash_add(&h, e->chat_source, e->chat_size);
    hash_end(&h, id);
    snprintf(text, 33, "%016llx%016llx", (unsigned long long)id[0], (unsigned long long)id[1]);
    return SLM_OK;
}

slm_err slm_engine_tensor(const slm_engine *e, size_t i, slm_tensor *out) {
    if (e->tensors == NULL || i >= e->tensors->n)
        return SLM_E_ARG;
    const struct tensor_info *t = &e->tensors->list[i];
    slm_tensor r = { .size = out->size,
                     .name = t->name,
                     .type = dtype_info(t->dtype)->name,
                     .n_dims = t->n_dims,
                     .bytes = t->size,
                     .offset = t->offset,
                     .file = e->tensors->files[t->file].path };
    for (uint32_t d = 0; d < t->n_dims; d++)
        r.dims[d] = t->dims[d];
    return result_give(out, &r, sizeof r);
}

/* ------------------------------------------------------------------ metadata as text */

static void put_scalar(struct buf *b, const struct gguf_value *v) {
    struct reader r;
    reader_init(&r, v->data, (size_t)v->size, NULL);
    switch (v->type) {
    case GGUF_U8:
        buf_printf(b, "%u", read_u8(&r));
        break;
    case GGUF_I8:
        buf_printf(b, "%d", (int8_t)read_u8(&r));
        break;
    case GGUF_U16:
        buf_printf(b, "%u", read_u16(&r));
        break;
    case GGUF_I16:
        buf_printf(b, "%d", (int16_t)read_u16(&r));
        break;
    case GGUF_U32:
        buf_printf(b, "%u", read_u32(&r));
        break;
    case GGUF_I32:
        buf_printf(b, "%d", (int32_t)read_u32(&r));
        break;
    case GGUF_F32:
        buf_printf(b, "%.9g", (double)read_f32(&r));
        break;
    case GGUF_BOOL:
        buf_puts(b, read_u8(&r) ? "true" : "false");
        break;
    case GGUF_U64:
        buf_printf(b, "%llu", (unsigned long long)read_u64(&r));
        break;
    case GGUF_I64:
        buf_printf(b, "%lld", (long long)read_u64(&r));
        break;
    case GGUF_F64:
        buf_printf(b, "%.17g", read_f64(&r));
        break;
    case GGUF_STRING:
        buf_put(b, v->data, (size_t)v->size);
        break;
    case GGUF_ARRAY:
        break;
    }
}

static void put_array(struct buf *b, const struct gguf_value *v) {
    uint64_t cursor = 0, shown = 0;
    const char *s;
    size_t n;
    buf_putc(b, '[');
    while (shown < v->count && shown < 8) {
        buf_puts(b, shown > 0 ? ", " : "");
        if (v->item == GGUF_STRING) {
            if (!gguf_next_str(v, &cursor, &s, &n))
                break;
            buf_put(b, s, n < 40 ? n : 40);
        } else if (v->item == GGUF_F32) {
            buf_printf(b, "%.9g", (double)gguf_item_f32(v, shown));
        } else {
            buf_printf(b, "%lld", (long long)gguf_item_int(v, shown));
        }
        shown++;
    }
    buf_printf(b, "%s] (%llu)", shown < v->count ? ", ..." : "", (unsigned long long)v->count);
}

/* As much of b as fits, cut between characters, with a mark that says how long it was. */
static void give_text(const struct buf *b, char *value, size_t size) {
    char mark[48] = "";
    size_t n = b->len, len = 0;
    if (n > size - 1) {
        len = (size_t)snprintf(mark, sizeof mark, "... (%zu bytes)", b->len);
        len = len < size - 1 ? len : 0;
        n = size - 1 - len;
        while (n > 0 && ((unsigned char)b->data[n] & 0xc0) == 0x80)
            n--;
    }
    if (n > 0)
        memcpy(value, b->data, n);
    memcpy(value + n, mark, len);
    value[n + len] = '\0';
}

slm_err slm_engine_meta(const slm_engine *e, size_t i, const char **key, char *value,
                        size_t value_size) {
    if (e->tensors == NULL || e->tensors->gguf == NULL || i >= gguf_count(e->tensors->gguf) ||
        value_size == 0)
        return SLM_E_ARG;
    const struct gguf_value *v = gguf_at(e->tensors->gguf, (uint32_t)i);
    struct buf b;
    buf_init(&b, &e->hooks, (size_t)v->size + 4096);
    if (v->type == GGUF_ARRAY)
        put_array(&b, v);
    else
        put_scalar(&b, v);
    slm_err err = b.err;
    if (err == SLM_OK) {
        *key = v->key;
        give_text(&b, value, value_size);
    }
    buf_free(&b);
    return err;
}

/* ------------------------------------------------------------------ plan and cost */

slm_session_options slm_session_default(void) {
    return (slm_session_options){ .size = sizeof(slm_session_options) };
}

enum kv_type kv_internal(enum slm_kv kv) {
    return kv == SLM_KV_F32    ? KV_F32
           : kv == SLM_KV_BF16 ? KV_BF16
           : kv == SLM_KV_Q8   ? KV_Q8
                               : KV_F16;
}

/* Everything but the context: defaults, and what disagrees with the model. */
static slm_err settle(const slm_engine *e, const slm_session_options *options,
                      slm_session_options *o, slm_why *why) {
    *o = slm_session_default();
    TRY(options_copy(o, sizeof *o, options, why));
    if (!e->has_facts)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model has no config.json or weights");
    if (o->context > e->facts.m.context)
        return fail(why, SLM_E_CONTEXT, SLM_NO_OFFSET,
                    "context %u is larger than the %u positions that %s was made for", o->context,
                    e->facts.m.context, e->name);
    if ((int)o->kv < 0 || o->kv > SLM_KV_Q8)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "unknown type of keys and values: %d, known are 0 to %d", (int)o->kv,
                    (int)SLM_KV_Q8);
    if ((int)o->speculate < 0 || o->speculate > SLM_SPECULATE_OFF || o->guesses > DRAFT_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "speculation %d with %u guesses, known are 0 and 1, at most %d guesses",
                    (int)o->speculate, o->guesses, DRAFT_MAX);
    if (o->batch && o->draft != NULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a batch cannot use a draft model's session");
    if (o->speculate == SLM_SPECULATE_OFF)
        o->guesses = 0;
    else if (o->guesses == 0)
        o->guesses = GUESSES;
    if (options == NULL && e->exact)
        o->kv = SLM_KV_F32;
    if (o->chunk == 0)
        o->chunk = 256;
    if (o->sequences == 0)
        o->sequences = o->batch ? 8 : 1;
    if (o->batch && o->sequences > PLACES_MAX)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "a batch of %u sequences, at most %d",
                    o->sequences, PLACES_MAX);
    if (o->threads == 0)
        o->threads = cpu_count();
    return SLM_OK;
}

/* What depends on the context: a chunk larger than it would never fill. A pass of a batch has a row
 * for each place at least. */
static void set_context(slm_session_options *o, const slm_session_options *asked,
                        uint32_t context) {
    uint64_t most = (uint64_t)context * (o->batch ? o->sequences : 1);
    o->context = context;
    o->chunk = asked->chunk < most ? asked->chunk : (uint32_t)most;
    if (o->batch && o->chunk < o->sequences)
        o->chunk = o->sequences;
    o->guesses = asked->guesses < o->chunk ? asked->guesses : o->chunk - 1;
    o->logit_rows = asked->logit_rows == 0         ? 1
                    : asked->logit_rows < o->chunk ? asked->logit_rows
                                                   : o->chunk;
}

/* The plan of settled options. */
static slm_err plan_of(const slm_engine *e, const slm_session_options *o, slm_plan *out,
                       slm_why *why) {
    struct plan p;
    if (e->tensors == NULL)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "a plan needs the weights' file");
    const struct model *m = &e->facts.m;
    struct runner_shape s = runner_shape_of(m, o);
    /* the caller's rows of logits, when it asks for more than the runner keeps; plan_net counts `asked` */
    uint64_t theirs = !o->batch && o->logit_rows > 1 ? o->logit_rows : 0;
    uint64_t rows = s.kept + theirs - s.asked;
    struct plan_request r = { .context = s.context,
                              .sequences = o->sequences,
                              .runners = o->sequences / s.places,
                              .chunk = s.rows,
                              .logit_rows = s.asked,
                              .kv = s.kv,
                              .spare = s.spare,
                              .threads = s.threads,
                              .exact = e->exact,
                              .session_bytes =
                                  runner_bytes(m, &s) + rows * m->vocab * sizeof(float),
                              .vocabulary_bytes = e->vocabulary_bytes };
    if (e->bound) /* binding again would compare a separate output with the embedding once more */
        TRY(plan_net(&e->net, &r, &p, why));
    else
        TRY(plan_make(&e->facts, e->tensors, e->kernels, &r, &p, why));
    *out = (slm_plan){ .size = sizeof *out,
                       .context = o->context,
                       .weights_file = p.weights_file,
                       .weights_packed = p.weights_packed,
                       .kv = p.kv,
                       .scratch = p.scratch,
                       .vocabulary = p.vocabulary,
                       .total = p.total };
    return SLM_OK;
}

/* The largest context within max_bytes; at least FIT_MIN (or what the model has), fitting or not. */
static slm_err fit_context(const slm_engine *e, const slm_session_options *asked,
                           slm_session_options *o, slm_plan *p, slm_why *why) {
    uint32_t most = e->facts.m.context, low = most < FIT_MIN ? most : FIT_MIN, high = most;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        set_context(o, asked, middle);
        TRY(plan_of(e, o, p, why));
        if (p->total <= o->max_bytes)
            low = middle;
        else
            high = middle - 1;
    }
    set_context(o, asked, low);
    return plan_of(e, o, p, why);
}

static slm_err settle_and_plan(const slm_engine *e, const slm_session_options *options,
                               slm_session_options *o, slm_plan *p, slm_why *why) {
    TRY(settle(e, options, o, why));
    const slm_session_options asked = *o;
    set_context(o, &asked, asked.context > 0 ? asked.context : e->facts.m.context);
    TRY(plan_of(e, o, p, why));
    if (o->max_bytes == 0 || p->total <= o->max_bytes)
        return SLM_OK;
    if (asked.context == 0)
        TRY(fit_context(e, &asked, o, p, why));
    if (p->total <= o->max_bytes)
        return SLM_OK;
    return fail(why, SLM_E_MEMORY, SLM_NO_OFFSET,
                "context %u needs %.1f MB in all (weights %.1f, keys and values %.1f, scratch "
                "%.1f), allowed are %.1f MB",
                p->context, (double)p->total / 1e6,
                (double)(p->weights_file + p->weights_packed) / 1e6, (double)p->kv / 1e6,
                (double)p->scratch / 1e6, (double)o->max_bytes / 1e6);
}

slm_err session_settings(const slm_engine *e, const slm_session_options *options,
                         slm_session_options *o, slm_why *why) {
    slm_plan p;
    if (e->has_facts && !e->bound)
        return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "the model was opened without its weights");
    TRY(settle(e, options, o, why));
    if (o->max_bytes > 0)
        return settle_and_plan(e, options, o, &p, why);
    const slm_session_options asked = *o;
    set_context(o, &asked, asked.context > 0 ? asked.context : e->facts.m.context);
    return SLM_OK;
}

slm_err slm_engine_plan(const slm_engine *e, const slm_session_options *options, slm_plan *out,
                        slm_why *why) {
    slm_session_options o;
    slm_plan p;
    TRY(settle_and_plan(e, options, &o, &p, why));
    if (result_give(out, &p, sizeof p) != SLM_OK)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the size of slm_plan is not set: %zu",
                    out->size);
    return SLM_OK;
}

static void add_matrix(slm_cost *c, const struct matrix *m) {
    size_t row;
    if (!dtype_row_bytes(m->dtype, m->cols, &row))
        return;
    c->file_bytes += (uint64_t)row * m->rows;
    c->weight_bytes += matrix_bytes(m);
    c->weight_macs += (uint64_t)m->rows * m->cols;
}

/* The matrices that one token passes through; the input embedding is looked up, not multiplied. */
static void matrix_cost(const struct net *n, slm_cost *c) {
    for (uint32_t i = 0; i < n->m->layers; i++) {
        const struct layer *l = &n->layers[i];
        const struct matrix *const all[] = {
            &l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down
        };
        for (size_t k = 0; k < ARRAY_LEN(all); k++)
            add_matrix(c, all[k]);
    }
    add_matrix(c, &n->output);
}

slm_err slm_engine_cost(const slm_engine *e, enum slm_kv kv, uint32_t depth, slm_cost *out) {
    slm_cost c = { .size = out->size, .multiply = "f32" };
    if (!e->bound)
        return SLM_E_STATE;
    const struct model *m = &e->facts.m;
    matrix_cost(&e->net, &c);
    for (uint32_t i = 0; i < m->layers; i++) {
        uint64_t keys = pattern_at(m->pattern, i) == 's' && depth > m->window ? m->window : depth;
        c.kv_bytes += keys * m->kv_heads * 2 * kv_row_bytes(kv_internal(kv), m->head_dim);
        c.attention_macs += keys * m->heads * 2 * m->head_dim;
    }
    if (m->layers > 0)
        c.multiply = e->net.layers[0].gate.act == ACT_BF16  ? "bf16"
                     : e->net.layers[0].gate.act == ACT_F32 ? "f32"
                                                            : "int8";
    return result_give(out, &c, sizeof c);
}
