/* format_internal.h - what the files of this folder share: where bytes come from, growing the list
 * of tensors, and the rules for names. */
#ifndef SLM_FORMAT_INTERNAL_H
#define SLM_FORMAT_INTERNAL_H

#include "format/format.h"

#define MAX_NAME                                                                                   \
    255 /* bytes of a tensor name or metadata key; ggml allows 63, published files have 80 */
#define MAX_KV 65536
#define ALIGNMENT_KEY "general.alignment"
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN 8
#define ALIGNMENT_MAX 65536

/* Metadata of one GGUF file; everything lives in the container's arena. */
struct gguf {
    uint32_t version;
    uint32_t n;
    uint64_t alignment;
    struct gguf_value *values;        /* [n] in file order */
    const struct gguf_value **by_key; /* [n] sorted */
};
/* Bytes of one item of a fixed-size type; 0 for STRING, ARRAY and unknown types. */
size_t gguf_type_bytes(uint32_t type);

/* ---- where named files come from: a folder, or the caller's memory ---- */
struct source {
    const char *dir;                 /* NULL: memory */
    const struct slm_memory_file *files; /* [n] */
    size_t n;
    bool numbers; /* integer and F64 safetensors are listed too */
};
slm_err source_has(const struct source *s, const struct slm_hooks *h, const char *name, bool *has,
                   slm_why *why);
/* Maps the file; *path (in t->arena) is how to name it. Raises the arena's ceiling by 4 x size. */
slm_err source_map(const struct source *s, struct tensors *t, const char *name,
                   struct tensor_file *out, slm_why *why);

/* ---- reading one file into the container ---- each adds its tensors to t->list, unsorted */
slm_err gguf_read(struct tensors *t, uint32_t file, slm_why *why);
slm_err safetensors_read(struct tensors *t, uint32_t file, bool numbers, slm_why *why);
/* A folder's index: maps all shards it names. */
slm_err shards_read(struct tensors *t, const struct source *s, const char *index_name,
                    slm_why *why);

/* Room for one more tensor, zeroed, counted in t->n. The caller checks MAX_TENSORS first; NULL when
 * out of memory. The list may move. */
struct tensor_info *tensors_add(struct tensors *t);
/* Sorts the list by name and refuses names that occur twice. */
slm_err tensors_sort(struct tensors *t, slm_why *why);
/* "model.safetensors" of "/x/y/model.safetensors" */
const char *base_name(const char *path);

/* ---- names.c ---- */
/* NULL if a name is fine: 1..MAX_NAME bytes of UTF-8 without control characters. Otherwise what is
 * wrong with it, for a message. */
const char *name_fault(const char *s, size_t n);
/* Sorts in place, n log n always, without allocating (qsort allocates). size at most 128. */
void sort_items(void *base, size_t n, size_t size, int (*compare)(const void *, const void *));

#endif
