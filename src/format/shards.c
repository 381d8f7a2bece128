/* shards.c - a model in several safetensors files, held together by an index.
 *
 * In:  model.safetensors.index.json: {"metadata": {...}, "weight_map": {"tensor": "file", ...}}.
 * Out: every shard mapped, in the order in which the index first names them, its tensors in t->list.
 * Source: huggingface_hub's and transformers' sharded checkpoints.
 *
 * The index and the shards must tell the same: each tensor in the file that the index names, none
 * missing, none more. "metadata" (a total size that published files get wrong) means nothing here.
 * File names come from an untrusted file and are joined to the folder: plain names only. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "format/format_internal.h"

#define INDEX_LIMIT 100000000u

struct mapped_name {
    const char *tensor;
    uint32_t file; /* index into names */
};

struct index {
    struct tensors *t;       /* names are copied to its arena */
    struct mapped_name *map; /* [n] */
    uint32_t n, cap;
    const char *names[MAX_SHARDS]; /* [n_names] shards in the order of the file */
    uint32_t order[MAX_SHARDS];    /* [n_names] sorted by name */
    uint32_t n_names;
};

/* ---- the index ---- */

static const char *file_name_fault(const char *s, size_t n) {
    const char *fault = name_fault(s, n);
    if (fault != NULL)
        return fault;
    if (memchr(s, '/', n) != NULL || memchr(s, '\\', n) != NULL)
        return "is a path, not a plain name";
    for (size_t i = 0; i + 1 < n; i++)
        if (s[i] == '.' && s[i + 1] == '.')
            return "has '..'";
    return n == 1 && s[0] == '.' ? "is a folder" : NULL;
}

static int compare_text(const char *a, const char *b, size_t n_b) {
    size_t n_a = strlen(a), n = n_a < n_b ? n_a : n_b;
    int order = memcmp(a, b, n);
    return order != 0 ? order : n_a < n_b ? -1 : n_a > n_b;
}

/* Number of the shard named text [n], a new one if need be. */
static slm_err shard_number(struct index *x, struct json_pull *p, uint32_t *out) {
    uint32_t low = 0, high = x->n_names;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_text(x->names[x->order[middle]], p->text, p->n);
        if (order == 0) {
            *out = x->order[middle];
            return SLM_OK;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const char *fault = file_name_fault(p->text, p->n);
    if (fault != NULL)
        return json_pull_fail(p, SLM_E_FORMAT, "weight_map: shard name '%.*s' %s",
                              p->n > 64 ? 64 : (int)p->n, p->text, fault);
    if (x->n_names == MAX_SHARDS)
        return json_pull_fail(p, SLM_E_UNSUPPORTED,
                              "weight_map: %d shards or more, at most %d are read", MAX_SHARDS + 1,
                              MAX_SHARDS);
    char *name = arena_strdup(&x->t->arena, p->text, p->n);
    if (name == NULL)
        return fail_nomem(p->why, "a shard name", p->n + 1);
    memmove(x->order + low + 1, x->order + low, (x->n_names - low) * sizeof *x->order);
    x->order[low] = x->n_names;
    x->names[x->n_names] = name;
    *out = x->n_names++;
    return SLM_OK;
}

static slm_err add_mapping(struct index *x, struct json_pull *p) {
    const char *fault = name_fault(p->text, p->n);
    if (fault != NULL)
        return json_pull_fail(p, SLM_E_FORMAT, "weight_map: tensor name %s: %zu bytes '%.*s'",
                              fault, p->n, p->n > 64 ? 64 : (int)p->n, p->text);
    if (x->n >= MAX_TENSORS)
        return json_pull_fail(p, SLM_E_UNSUPPORTED,
                              "weight_map: %d tensors or more, at most %d are read",
                              MAX_TENSORS + 1, MAX_TENSORS);
    if (x->n == x->cap) {
        uint32_t cap = x->cap == 0 ? 64 : x->cap * 2; /* at most MAX_TENSORS */
        struct mapped_name *map = mem_resize(x->t->hooks, x->map, cap, sizeof *map);
        if (map == NULL)
            return fail_nomem(p->why, "weight_map", cap * sizeof *map);
        x->map = map;
        x->cap = cap;
    }
    struct mapped_name *m = &x->map[x->n];
    m->tensor = arena_strdup(&x->t->arena, p->text, p->n);
    if (m->tensor == NULL)
        return fail_nomem(p->why, "a tensor name", p->n + 1);
    if (json_next(p) != PULL_STRING)
        return json_pull_fail(p, SLM_E_FORMAT, "weight_map: the value of '%s' is not a file name",
                              m->tensor);
    TRY(shard_number(x, p, &m->file));
    x->n++;
    return SLM_OK;
}

static slm_err read_weight_map(struct index *x, struct json_pull *p) {
    if (json_next(p) != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "weight_map is not an object");
    for (;;) {
        enum json_event event = json_next(p);
        if (event == PULL_OBJECT_END)
            return SLM_OK;
        if (event != PULL_KEY)
            return p->err;
        TRY(add_mapping(x, p));
    }
}

static slm_err read_index(struct index *x, struct json_pull *p) {
    bool found = false;
    if (json_next(p) != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "the index is not an object");
    for (;;) {
        enum json_event event = json_next(p);
        if (event == PULL_OBJECT_END)
            break;
        if (event != PULL_KEY)
            return p->err;
        if (p->n == 10 && memcmp(p->text, "weight_map", 10) == 0) {
            if (found)
                return json_pull_fail(p, SLM_E_FORMAT, "weight_map occurs twice");
            found = true;
            TRY(read_weight_map(x, p));
        } else if (p->n == 8 && memcmp(p->text, "metadata", 8) == 0) {
            json_skip(p, json_next(p));
        } else {
            return json_pull_fail(p, SLM_E_FORMAT, "the index has the unknown field '%.*s'",
                                  p->n > 32 ? 32 : (int)p->n, p->text);
        }
    }
    if (json_next(p) != PULL_END)
        return p->err;
    if (x->n == 0)
        return json_pull_fail(p, SLM_E_FORMAT,
                              found ? "weight_map is empty" : "the index has no weight_map");
    return SLM_OK;
}

static int compare_mapped(const void *a, const void *b) {
    const struct mapped_name *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

static slm_err load_index(struct index *x, const struct source *s, const char *name, slm_why *why) {
    struct tensor_file file;
    TRY(source_map(s, x->t, name, &file, why));
    slm_err err;
    struct json_pull p = { 0 };
    if (file.map.size > INDEX_LIMIT)
        TRY_OUT(fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                     "an index of %zu bytes, at most %u are read", file.map.size, INDEX_LIMIT));
    json_pull_init(&p, x->t->hooks, file.map.data != NULL ? (const char *)file.map.data : "",
                   file.map.size, why);
    TRY_OUT(read_index(x, &p));
    sort_items(x->map, x->n, sizeof *x->map, compare_mapped);
    for (uint32_t i = 1; i < x->n; i++)
        if (strcmp(x->map[i - 1].tensor, x->map[i].tensor) == 0)
            TRY_OUT(fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                         "weight_map has tensor '%s' twice, in '%s' and '%s'", x->map[i].tensor,
                         x->names[x->map[i - 1].file], x->names[x->map[i].file]));
out:
    json_pull_free(&p);
    file_unmap(&file.map);
    return err != SLM_OK ? fail_prefix(why, err, "%s", name) : SLM_OK;
}

/* ---- the shards ---- */

static slm_err load_shard(struct index *x, const struct source *s, uint32_t i, slm_why *why) {
    struct tensors *t = x->t;
    bool has = false;
    TRY(source_has(s, t->hooks, x->names[i], &has, why));
    if (!has)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET,
                    "shard '%s' is missing: number %" PRIu32 " of %" PRIu32 " that the index names",
                    x->names[i], i + 1, x->n_names);
    TRY(source_map(s, t, x->names[i], &t->files[i], why));
    t->n_files = i + 1;
    slm_err err = safetensors_read(t, i, s->numbers, why);
    return err != SLM_OK ? fail_prefix(why, err, "%s", x->names[i]) : SLM_OK;
}

static const char *shard_name(const struct tensors *t, const struct tensor_info *x) {
    return base_name(t->files[x->file].path);
}

/* Both lists are sorted by name and hold each name once: walk them together. */
static slm_err compare_lists(const struct index *x, const char *index_name, slm_why *why) {
    const struct tensors *t = x->t;
    for (uint32_t i = 0, k = 0; i < x->n || k < t->n;) {
        int order = i == x->n ? 1 : k == t->n ? -1 : strcmp(x->map[i].tensor, t->list[k].name);
        if (order > 0)
            return fail(why, SLM_E_FORMAT, t->list[k].offset,
                        "%s: tensor '%s' is in shard '%s', but not in the index", index_name,
                        t->list[k].name, shard_name(t, &t->list[k]));
        const char *named = x->names[x->map[i].file];
        if (order < 0)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "%s: tensor '%s' is said to be in shard '%s', which does "
                        "not hold it",
                        index_name, x->map[i].tensor, named);
        if (x->map[i].file != t->list[k].file)
            return fail(why, SLM_E_FORMAT, t->list[k].offset,
                        "%s: tensor '%s' is said to be in shard '%s', but is in "
                        "'%s'",
                        index_name, x->map[i].tensor, named, shard_name(t, &t->list[k]));
        i++;
        k++;
    }
    return SLM_OK;
}

slm_err shards_read(struct tensors *t, const struct source *s, const char *index_name,
                    slm_why *why) {
    struct index *x = mem_zalloc(t->hooks, 1, sizeof *x);
    if (x == NULL)
        return fail_nomem(why, "the index", sizeof *x);
    x->t = t;
    slm_err err;
    TRY_OUT(load_index(x, s, index_name, why));
    t->files = arena_zalloc(&t->arena, x->n_names, sizeof *t->files);
    if (t->files == NULL)
        TRY_OUT(fail_nomem(why, "the list of shards", x->n_names * sizeof *t->files));
    for (uint32_t i = 0; i < x->n_names; i++)
        TRY_OUT(load_shard(x, s, i, why));
    TRY_OUT(tensors_sort(t, why));
    err = compare_lists(x, index_name, why);
out:
    mem_free(t->hooks, x->map);
    mem_free(t->hooks, x);
    return err;
}
