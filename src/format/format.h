/* format.h - bytes on disk <-> named tensors and metadata. Interprets nothing.
 *
 * Two containers give the same view: GGUF v3 (one file; metadata inside) and a Hugging Face folder
 * (safetensors, single or sharded, with JSON files beside it). Files are mapped and never copied;
 * every number is checked before it is used; a lie is E_FORMAT with the byte offset and the two
 * values that disagree. */
#ifndef SLM_FORMAT_H
#define SLM_FORMAT_H

#include "base/dtype.h"
#include "base/file.h"
#include "slm.h"

#define MAX_DIMS 4
#define MAX_TENSORS 65536
#define MAX_SHARDS 1024

struct tensor_info {
    const char *name; /* zero-terminated, lives with the container */
    enum dtype dtype;
    uint32_t n_dims;
    uint64_t dims[MAX_DIMS]; /* [n_dims] outermost first, as in safetensors: a matrix is
                                [rows, cols] (GGUF's order is turned round) */
    const uint8_t *data;     /* [size] inside a mapping. Aligned, counted from the file's start:
                                GGUF to its alignment (8 at least), safetensors to one element */
    uint64_t size;           /* bytes, equals what dims and dtype ask for */
    uint64_t offset;         /* of data in its file */
    uint32_t file;           /* index into files */
};

struct tensor_file {
    char *path;
    struct mapping map;
};

struct gguf; /* metadata of a GGUF file, below */

struct tensors {
    const struct slm_hooks *hooks;
    struct arena arena;
    struct tensor_file *files; /* [n_files] */
    uint32_t n_files;
    struct tensor_info *list; /* [n] sorted by name; names are unique, printable, 1..255 bytes */
    uint32_t n;
    uint32_t cap;      /* entries allocated */
    struct gguf *gguf; /* NULL for safetensors */
};

/* path: a .gguf file, a .safetensors file (told apart by their first bytes, not by their names), or
 * a folder (model.safetensors, or model.safetensors.index.json with its shards; where both are, the
 * single file, as the reference implementation does).
 * Returns E_NOTFOUND for a folder without weights or a missing shard; E_FORMAT for a file that lies;
 *         E_UNSUPPORTED for what is valid but not read (pickles, old versions, other element types):
 *         the message names it; E_IO, E_NOMEM. Messages name the file.
 * Memory beside the mappings: at most 64 MiB and 4 times the files' size.
 * h is borrowed until tensors_close. */
slm_err tensors_open(const struct slm_hooks *h, const char *path, struct tensors **out,
                     slm_why *why);
/* The same over memory: files[] as a folder would hold them (or one .gguf). Borrows the data and the
 * names. Alignment of the tensors is that of the data plus their offset. */
slm_err tensors_open_memory(const struct slm_hooks *h, const struct slm_memory_file *files, size_t n,
                            struct tensors **out, slm_why *why);
/* As tensors_open for files of numbers rather than weights (goldens, checkpoints): safetensors of
 * I8, I16, I32, I64 and F64 are listed too; their dtype is the ggml type id (24 to 28), which
 * dtype_info names and dtype_supported denies. */
slm_err tensors_open_numbers(const struct slm_hooks *h, const char *path, struct tensors **out,
                             slm_why *why);
void tensors_close(struct tensors *t);
const struct tensor_info *tensors_find(const struct tensors *t,
                                       const char *name); /* NULL if absent */

/* ---- GGUF metadata ---- */
enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};
struct gguf_value {
    const char *key; /* zero-terminated */
    enum gguf_type type;
    enum gguf_type item; /* ARRAY: element type (nested arrays are refused) */
    uint64_t count;      /* ARRAY: elements; otherwise 1 */
    const uint8_t
        *data;       /* raw little-endian bytes in the file: scalar, string bytes, or array items */
    uint64_t size;   /* bytes of data */
    uint64_t offset; /* of data in the file */
};
const char *gguf_type_name(enum gguf_type t); /* "u32", "string", "array" */
uint32_t gguf_count(const struct gguf *g);
const struct gguf_value *gguf_at(const struct gguf *g, uint32_t i);
const struct gguf_value *gguf_find(const struct gguf *g, const char *key); /* NULL if absent */
/* Typed access: false if absent; a value of another kind or out of range is false too, and sets *err
 * and why (the first error is kept). Integers of any width convert when they fit. Strings are borrowed, not zero-terminated. */
bool gguf_u32(const struct gguf *g, const char *key, uint32_t *out, slm_err *err, slm_why *why);
bool gguf_f32(const struct gguf *g, const char *key, float *out, slm_err *err, slm_why *why);
bool gguf_bool(const struct gguf *g, const char *key, bool *out, slm_err *err, slm_why *why);
bool gguf_str(const struct gguf *g, const char *key, const char **s, size_t *n, slm_err *err,
              slm_why *why);
/* Strings of an array, one after another: *cursor starts at 0; false at the end (all lengths were
 * checked when the file was opened). */
bool gguf_next_str(const struct gguf_value *array, uint64_t *cursor, const char **s, size_t *n);
/* i below count. F32 and F64 items; 0 for any other type. */
float gguf_item_f32(const struct gguf_value *array, uint64_t i);
/* Items of any integer type or BOOL; a U64 above INT64_MAX gives INT64_MAX; 0 for any other type. */
int64_t gguf_item_int(const struct gguf_value *array, uint64_t i);
uint32_t gguf_version(const struct gguf *g);
uint64_t gguf_alignment(const struct gguf *g);

/* ---- writers ---- (to a temporary name, fsync, rename; a full disk leaves nothing behind)
 * The first failure of a writer sticks; every later call returns it, and gguf_writer_close tells
 * its reason. E_ARG: a key or tensor twice, a name or shape that the reader would refuse, more data
 * than the tensors ask for; E_STATE: metadata or tensors after data, close before all data came. */
struct gguf_writer;
slm_err gguf_writer_new(const struct slm_hooks *h, const char *path, struct gguf_writer **out,
                        slm_why *why);
/* Metadata first; keys and values are copied. general.alignment (u32) is obeyed when it is put. */
slm_err gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v);
slm_err gguf_put_f32(struct gguf_writer *w, const char *key, float v);
slm_err gguf_put_bool(struct gguf_writer *w, const char *key, bool v);
slm_err gguf_put_str(struct gguf_writer *w, const char *key, const char *s, size_t n);
slm_err gguf_put_raw(struct gguf_writer *w,
                     const struct gguf_value *v); /* copies a value of another file */
slm_err gguf_put_strs(struct gguf_writer *w, const char *key, const char *const *s, const size_t *n,
                      uint64_t count);
slm_err gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, uint64_t count);
slm_err gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, uint64_t count);
/* then the list of tensors, dims outermost first */
slm_err gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype t, uint32_t n_dims,
                        const uint64_t *dims);
/* then the data of each tensor in the same order, in any number of pieces; padding between tensors
 * is the writer's business, a piece may span several tensors */
slm_err gguf_write_data(struct gguf_writer *w, const void *data, size_t n, slm_why *why);
/* Checks that every byte came, syncs and renames. Frees w in any case (abort: finish = false). */
slm_err gguf_writer_close(struct gguf_writer *w, bool finish, slm_why *why);

/* ---- NPY ---- float32 arrays in C order, version 1.0; n_dims from 0 (one number) to MAX_DIMS */
slm_err npy_write_f32(const char *path, const float *data, uint32_t n_dims, const uint64_t *dims,
                      slm_why *why);
/* Finds the numbers in the bytes of a '<f4' C-order array; *data points into them. Other element
 * types, orders and versions: E_UNSUPPORTED by name. bytes must be aligned to 4. */
slm_err npy_parse_f32(const void *bytes, size_t size, const float **data, uint32_t *n_dims,
                      uint64_t dims[MAX_DIMS], slm_why *why);
/* The same over a mapped file; file_unmap(m) ends it. */
slm_err npy_map_f32(const char *path, struct mapping *m, const float **data, uint32_t *n_dims,
                    uint64_t dims[MAX_DIMS], slm_why *why);

#endif
