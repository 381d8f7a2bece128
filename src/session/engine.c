/* engine.c - opening a model: find its parts, check them against each other, bind the weights.
 *
 * In: a path (GGUF file or folder) or files in memory.     Out: a constant slm_engine.
 * Order: containers are mapped, facts read and compared with the table of known models, then the
 * vocabulary and the template, and last (the slow part) the weights are bound and packed. */
#include "session/constraint.h"
#include "session/image.h"

#include <string.h>

slm_engine_options slm_engine_default(void) {
    return (
        slm_engine_options){ .size = sizeof(slm_engine_options), .need = SLM_ALL, .want = SLM_ALL };
}

/* ------------------------------------------------------------------ parts */

slm_err parts_have(const struct parts *p, const char *name, bool *out, slm_why *why) {
    *out = false;
    for (size_t i = 0; p->files != NULL && i < p->n_files; i++)
        if (strcmp(p->files[i].name, name) == 0)
            *out = true;
    if (!p->is_folder)
        return SLM_OK;
    char *path = path_join(p->hooks, p->path, name);
    if (path == NULL)
        return fail_nomem(why, "path", strlen(p->path));
    *out = file_exists(path);
    mem_free(p->hooks, path);
    return SLM_OK;
}

slm_err parts_map(const struct parts *p, const char *name, size_t limit, struct mapping *out,
                  slm_why *why) {
    *out = (struct mapping){ 0 };
    if (p->files != NULL) {
        for (size_t i = 0; i < p->n_files; i++)
            if (strcmp(p->files[i].name, name) == 0)
                *out = (struct mapping){ .data = p->files[i].data, .size = p->files[i].size };
    } else if (p->is_folder) {
        char *path = path_join(p->hooks, p->path, name);
        if (path == NULL)
            return fail_nomem(why, "path", strlen(p->path));
        slm_err err = file_exists(path) ? file_map(path, out, why) : SLM_OK;
        mem_free(p->hooks, path);
        TRY(err);
    }
    if (out->size > limit) {
        size_t size = out->size;
        file_unmap(out);
        *out = (struct mapping){ 0 };
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "%s has %zu bytes, at most %zu", name, size,
                    limit);
    }
    return SLM_OK;
}

/* A GGUF file of an image tower alone ("mmproj"). */
static bool is_tower(const struct gguf *g) {
    const char *arch;
    size_t n;
    slm_err err = SLM_OK;
    return gguf_str(g, "general.architecture", &arch, &n, &err, NULL) && n == 4 &&
           memcmp(arch, "clip", 4) == 0;
}

slm_err parts_facts(const struct parts *p, const struct tensors *t, const char *hint,
                    struct facts *out, bool *there, slm_why *why) {
    struct mapping config, generation;
    *there = false;
    if (t != NULL && t->gguf != NULL && is_tower(t->gguf))
        return SLM_OK; /* tensors can be listed, nothing can be run */
    if (t != NULL && t->gguf != NULL) {
        TRY(facts_from_gguf(p->hooks, t, hint, out, why));
        *there = true;
        return SLM_OK;
    }
    TRY(parts_map(p, "config.json", (size_t)16 << 20, &config, why));
    if (config.data == NULL)
        return SLM_OK;
    slm_err err = parts_map(p, "generation_config.json", (size_t)1 << 20, &generation, why);
    if (err == SLM_OK)
        err = facts_from_config(p->hooks, (const char *)config.data, config.size,
                                (const char *)generation.data, generation.size, hint, out, why);
    file_unmap(&config);
    file_unmap(&generation);
    *there = err == SLM_OK;
    return err;
}

/* The last part of a path without its suffix: a name for a model that does not say one, and a hint
 * where two known models have the same numbers. */
static char *base_name(slm_engine *e, const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (end - start > 5 && strncmp(path + end - 5, ".gguf", 5) == 0)
        end -= 5;
    return arena_strdup(&e->arena, path + start, end - start);
}

/* ------------------------------------------------------------------ what may be sampled, what thinks */

static slm_err note_allowed(slm_engine *e, slm_why *why) {
    const struct model *m = &e->facts.m;
    uint32_t used = m->vocab_used > 0 && m->vocab_used < m->vocab ? m->vocab_used : m->vocab;
    e->allowed = mem_zalloc(&e->hooks, (m->vocab + 31) / 32, sizeof *e->allowed);
    if (e->allowed == NULL)
        return fail_nomem(why, "vocabulary mask", m->vocab / 8);
    for (uint32_t id = 0; id < used; id++) {
        const char *text;
        size_t n;
        if (e->tokenizer == NULL || token_text_of(e->tokenizer, (int32_t)id, &text, &n))
            e->allowed[id >> 5] |= 1u << (id & 31);
    }
    return SLM_OK;
}

/* Ids of the thinking markers, for models that think and whose tokenizer has them whole. A fine-tune
 * can have the numbers of a model that never thinks, or of one that can be switched, and be another
 * in this: where nothing vouches for it, its template says so. */
static void note_thinking(slm_engine *e) {
    struct model *m = &e->facts.m;
    e->think_open = e->think_close = -1;
    if (e->tokenizer == NULL || !e->has_facts)
        return;
    if ((m->think == THINK_NONE || e->facts.known == NULL) && e->chat != NULL &&
        template_mentions(e->chat, THINK_OPEN))
        m->think = template_mentions(e->chat, "enable_thinking") ? THINK_DEFAULT_ON : THINK_ALWAYS;
    if (m->think == THINK_NONE)
        return;
    e->think_open = token_id_of(e->tokenizer, THINK_OPEN, strlen(THINK_OPEN));
    e->think_close = token_id_of(e->tokenizer, THINK_CLOSE, strlen(THINK_CLOSE));
}

/* ------------------------------------------------------------------ open */

/* "Q4_K 61 %, Q6_K 39 %" of the bytes in matrices, largest first */
static slm_err note_types(slm_engine *e, slm_why *why) {
    uint64_t bytes[DT_COUNT] = { 0 }, total = 0;
    struct buf b;
    for (uint32_t i = 0; e->tensors != NULL && i < e->tensors->n; i++) {
        const struct tensor_info *t = &e->tensors->list[i];
        e->tensor_bytes += t->size;
        if (t->n_dims >= 2) {
            bytes[t->dtype] += t->size;
            total += t->size;
        }
    }
    buf_init(&b, &e->hooks, 1024);
    for (;;) {
        size_t top = 0;
        for (size_t i = 1; i < DT_COUNT; i++)
            if (bytes[i] > bytes[top])
                top = i;
        if (bytes[top] == 0)
            break;
        buf_printf(&b, "%s%s", b.len > 0 ? ", " : "", dtype_info((uint32_t)top)->name);
        if (bytes[top] < total)
            buf_printf(&b, " %.0f %%", 100.0 * (double)bytes[top] / (double)total);
        bytes[top] = 0;
    }
    e->types = arena_strdup(&e->arena, b.len > 0 ? b.data : "", b.len);
    bool ok = b.err == SLM_OK && e->types != NULL;
    buf_free(&b);
    return ok ? SLM_OK : fail_nomem(why, "type summary", 1024);
}

static slm_err need_parts(const slm_engine *e, const struct parts *p, unsigned need, slm_why *why) {
    if ((need & SLM_WEIGHTS) && e->tensors != NULL && e->tensors->gguf != NULL && !e->has_facts)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "%s is the image tower of a model (mmproj): it goes beside one",
                    p->path != NULL ? p->path : "the model in memory");
    const char *missing = (need & SLM_WEIGHTS) && e->tensors == NULL
                              ? "weights (a .gguf file, or model.safetensors)"
                          : (need & SLM_WEIGHTS) && !e->has_facts          ? "config.json"
                          : (need & SLM_TOKENIZER) && e->tokenizer == NULL ? "tokenizer"
                          : (need & SLM_TEMPLATE) && e->chat == NULL       ? "chat template"
                                                                           : NULL;
    if (missing == NULL)
        return SLM_OK;
    return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "%s has no %s",
                p->path != NULL ? p->path : "the model in memory", missing);
}

/* Every id that text can give has to have a row. Special tokens beyond the rows are left alone: some
 * vendors share a tokenizer between models with and without images; nothing ever gives these ids. */
static slm_err check_vocabulary(const slm_engine *e, slm_why *why) {
    if (e->tokenizer == NULL || !e->has_facts)
        return SLM_OK;
    uint32_t rows = e->facts.m.vocab, size = tokenizer_size(e->tokenizer);
    for (uint32_t id = rows; id < size; id++) {
        const char *text;
        size_t n;
        if (token_text_of(e->tokenizer, (int32_t)id, &text, &n) &&
            !token_is_special(e->tokenizer, (int32_t)id))
            return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                        "the tokenizer has %u ids, the model has rows for %u", size, rows);
    }
    return SLM_OK;
}

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && strcmp(name + n - n_end, end) == 0;
}

/* A folder may hold a tokenizer or a template only. One that names weights has to have them whole. */
static slm_err has_weights(const struct parts *p, bool *out, slm_why *why) {
    *out = p->files == NULL && !p->is_folder;
    for (size_t i = 0; i < p->n_files; i++)
        if (ends_with(p->files[i].name, ".gguf") || ends_with(p->files[i].name, ".safetensors"))
            *out = true;
    if (!*out)
        TRY(parts_have(p, "model.safetensors", out, why));
    if (!*out)
        TRY(parts_have(p, "model.safetensors.index.json", out, why));
    return SLM_OK;
}

static slm_err open_tensors(slm_engine *e, const struct parts *p, slm_why *why) {
    bool there;
    TRY(has_weights(p, &there, why));
    if (!there)
        return SLM_OK;
    TRY(p->files != NULL ? tensors_open_memory(&e->hooks, p->files, p->n_files, &e->tensors, why)
                         : tensors_open(&e->hooks, p->path, &e->tensors, why));
    e->container = e->tensors->gguf != NULL ? "gguf" : "safetensors";
    for (uint32_t i = 0; i < e->tensors->n_files; i++)
        e->file_bytes += e->tensors->files[i].map.size;
    return SLM_OK;
}

/* progress of packing, told to the caller as bytes */
struct told {
    const slm_engine_options *options;
};

static bool tell(void *user, uint64_t done, uint64_t total) {
    const struct told *t = user;
    return t->options->progress(t->options->user, "pack", done, total);
}

static slm_err bind(slm_engine *e, const slm_engine_options *o, slm_why *why) {
    struct told told = { o };
    struct net_options n = { .exact = o->exact,
                             .kernels = e->kernels,
                             .progress = o->progress != NULL ? tell : NULL,
                             .user = &told,
                             .packed_dir = o->packed_dir };
    TRY(rope_new(&e->hooks, &e->facts.m, &e->rope, why));
    TRY(pool_new(&e->hooks, o->threads > 0 ? o->threads : cpu_count(), &n.pool, why));
    slm_err err = net_bind(&e->net, &e->hooks, e->tensors, &e->facts, &n, why);
    pool_free(n.pool);
    e->bound = err == SLM_OK;
    return err;
}

static slm_err fill(slm_engine *e, const struct parts *p, const slm_engine_options *o,
                    slm_why *why) {
    e->container = "none";
    e->name = p->path != NULL ? base_name(e, p->path) : "";
    if (e->name == NULL)
        return fail_nomem(why, "name", 0);
    TRY(open_tensors(e, p, why));
    TRY(parts_facts(p, e->tensors, o->id_hint != NULL ? o->id_hint : e->name, &e->facts,
                    &e->has_facts, why));
    if (e->tensors != NULL && e->tensors->gguf != NULL)
        TRY(vocab_from_gguf(e, o->want | o->need, why));
    else
        TRY(vocab_from_parts(e, p, o->want | o->need, why));
    const char *bos = e->has_facts && e->bos_text == NULL ? e->facts.m.family->bos_text : NULL;
    if (bos != NULL && (e->bos_text = arena_strdup(&e->arena, bos, strlen(bos))) == NULL)
        return fail_nomem(why, "special token", strlen(bos));
    if (e->tokenizer != NULL && e->chat != NULL)
        tokenizer_mark_control(e->tokenizer, e->chat_source, e->chat_size);
    TRY(need_parts(e, p, o->need, why));
    TRY(check_vocabulary(e, why));
    TRY(vocab_estimate(e, p, o->want | o->need, why));
    TRY(note_types(e, why));
    note_thinking(e);
    if (!e->has_facts)
        return SLM_OK;
    model_sampling(&e->facts.m, &e->sampling, &e->sampling_no_think);
    if (e->facts.known != NULL || e->facts.m.name != NULL)
        e->name = e->facts.m.name;
    TRY(note_allowed(e, why));
    if (e->tensors == NULL || ((o->want | o->need) & SLM_WEIGHTS) == 0)
        return SLM_OK;
    TRY(image_store_new(e, o->vision, &e->images, why));
    if (e->images != NULL) /* a GGUF file of the text part alone does not know them */
        e->facts.m.vision = *image_vision(e->images);
    return bind(e, o, why);
}

static slm_err open_parts(struct parts *p, const slm_engine_options *options, slm_engine **out,
                          slm_why *why) {
    slm_engine_options o = slm_engine_default();
    struct slm_hooks hooks;
    *out = NULL;
    TRY(options_copy(&o, sizeof o, options, why));
    if (!hooks_valid(o.hooks))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "hooks need their size and all three memory functions, or none of them");
    int limit = o.isa != NULL ? isa_by_name(o.isa) : ISA_LEVEL_COUNT;
    if (limit < 0 || (o.isa != NULL && kernels_at((enum isa)limit) == NULL))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                    "instruction set '%s' is not available here, the best one is '%s'", o.isa,
                    isa_name(kernels_isa(kernels_pick(ISA_LEVEL_COUNT))));
    hooks_init(&hooks, o.hooks);
    slm_engine *e = mem_zalloc(&hooks, 1, sizeof *e);
    if (e == NULL)
        return fail_nomem(why, "engine", sizeof *e);
    e->hooks = hooks;
    e->exact = o.exact;
    e->late = mem_zalloc(&hooks, 1, sizeof *e->late);
    if (e->late == NULL) {
        mem_free(&hooks, e);
        return fail_nomem(why, "engine", sizeof *e->late);
    }
    atomic_init(&e->late->vocab, NULL);
    p->hooks = &e->hooks;
    arena_init(&e->arena, &e->hooks, 0);
    e->sampling = e->sampling_no_think = slm_sampling_default();
    e->kernels = o.isa != NULL ? kernels_at((enum isa)limit) : kernels_pick(ISA_LEVEL_COUNT);
    slm_err err = fill(e, p, &o, why);
    if (err != SLM_OK) {
        slm_engine_close(e);
        return err;
    }
    *out = e;
    return SLM_OK;
}

slm_err slm_engine_open(const char *path, const slm_engine_options *options, slm_engine **out,
                        slm_why *why) {
    struct parts p = { .path = path, .is_folder = dir_exists(path) };
    *out = NULL;
    if (!p.is_folder && !file_exists(path))
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "%s: no such file or folder", path);
    return open_parts(&p, options, out, why);
}

slm_err slm_engine_open_memory(const struct slm_memory_file *files, size_t n,
                               const slm_engine_options *options, slm_engine **out, slm_why *why) {
    struct parts p = { .files = files, .n_files = n };
    return open_parts(&p, options, out, why);
}

void slm_engine_close(slm_engine *e) {
    if (e == NULL)
        return;
    struct slm_hooks hooks = e->hooks;
    constrain_vocab_free(atomic_load(&e->late->vocab));
    mem_free(&hooks, e->late);
    image_store_free(e->images);
    net_free(&e->net);
    rope_free(e->rope);
    mem_free(&e->hooks, e->allowed);
    tokenizer_free(e->tokenizer);
    template_free(e->chat);
    if (e->has_facts)
        facts_free(&e->facts);
    tensors_close(e->tensors);
    arena_free(&e->arena);
    mem_free(&hooks, e);
}

void slm_free(const slm_engine *engine, void *p) {
    if (engine != NULL)
        mem_free(&engine->hooks, p);
}
