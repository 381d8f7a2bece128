/* safetensors.c - reads the header of one safetensors file.
 *
 * In:  a mapped file.   Out: tensors in t->list.
 * Layout: u64 n (little-endian), n bytes of JSON, the data. The JSON is an object of
 *   "name": {"dtype": "BF16", "shape": [rows, cols], "data_offsets": [begin, end]}
 * with offsets into the data, and perhaps "__metadata__", an object of strings.
 * Source: the format's page (huggingface.co/docs/safetensors) and README: the header has at most
 * 100 MB and begins with '{'; names are unique; the tensors cover the data without hole or overlap.
 *
 * slm asks for two things more, because the numbers are used where they stand: at most MAX_DIMS
 * dimensions of at least 1, and data aligned to its element. Writers since 2023 give that. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "base/reader.h"
#include "format/format_internal.h"

#define HEADER_LIMIT 100000000u
#define LENGTH_BYTES 8 /* of n, in front of the JSON */

/* ---- element types ---- */

static const struct element {
    const char *name;
    int id;        /* enum dtype or ggml type id; -1: known by name only */
    uint8_t bytes; /* 0 where id is -1 */
    bool number;   /* only listed by tensors_open_numbers */
} elements[] = {
    { "F32", DT_F32, 4, false }, { "F16", DT_F16, 2, false }, { "BF16", DT_BF16, 2, false },
    { "I8", 24, 1, true },       { "I16", 25, 2, true },      { "I32", 26, 4, true },
    { "I64", 27, 8, true },      { "F64", 28, 8, true },      { "BOOL", -1, 0, false },
    { "U8", -1, 0, false },      { "U16", -1, 0, false },     { "U32", -1, 0, false },
    { "U64", -1, 0, false },     { "C64", -1, 0, false },     { "F8_E4M3", -1, 0, false },
    { "F8_E5M2", -1, 0, false }, { "F8_E8M0", -1, 0, false }, { "F6_E2M3", -1, 0, false },
    { "F6_E3M2", -1, 0, false }, { "F4", -1, 0, false },
};

/* ---- one entry ---- */

struct entry {
    struct json_pull *p;
    struct tensor_info *x;
    bool numbers;
    const struct element *element; /* NULL until dtype came */
    bool has_shape, has_offsets;
    uint64_t begin, end; /* in the data */
};

static slm_err wrong(struct entry *e, const char *field, const char *wanted) {
    return json_pull_fail(e->p, SLM_E_FORMAT, "tensor '%s': %s is not %s", e->x->name, field,
                          wanted);
}

static slm_err twice(struct entry *e, const char *field) {
    return json_pull_fail(e->p, SLM_E_FORMAT, "tensor '%s': field '%s' occurs twice", e->x->name,
                          field);
}

static slm_err read_dtype(struct entry *e) {
    if (e->element != NULL)
        return twice(e, "dtype");
    if (json_next(e->p) != PULL_STRING)
        return wrong(e, "dtype", "a string");
    for (size_t i = 0; i < ARRAY_LEN(elements); i++)
        if (strlen(elements[i].name) == e->p->n &&
            memcmp(elements[i].name, e->p->text, e->p->n) == 0)
            e->element = &elements[i];
    if (e->element == NULL)
        return json_pull_fail(e->p, SLM_E_UNSUPPORTED, "tensor '%s' has the unknown type '%.*s'",
                              e->x->name, e->p->n > 32 ? 32 : (int)e->p->n, e->p->text);
    if (e->element->id < 0 || (e->element->number && !e->numbers))
        return json_pull_fail(e->p, SLM_E_UNSUPPORTED,
                              "tensor '%s' has type %s; BF16, F16 and F32 are read", e->x->name,
                              e->element->name);
    e->x->dtype = (enum dtype)e->element->id;
    return SLM_OK;
}

/* A whole number that is not negative; the event was given already. */
static slm_err whole(struct entry *e, enum json_event event, const char *field, uint64_t *out) {
    int64_t v;
    if (event != PULL_NUMBER)
        return wrong(e, field, "a list of whole numbers");
    if (!json_pull_int(e->p, &v) || v < 0)
        return json_pull_fail(
            e->p, SLM_E_FORMAT, "tensor '%s': %s has %.*s, not a whole number from 0 to %" PRId64,
            e->x->name, field, e->p->n > 32 ? 32 : (int)e->p->n, e->p->text, INT64_MAX);
    *out = (uint64_t)v;
    return SLM_OK;
}

static slm_err read_shape(struct entry *e) {
    if (e->has_shape)
        return twice(e, "shape");
    if (json_next(e->p) != PULL_ARRAY)
        return wrong(e, "shape", "a list of whole numbers");
    e->has_shape = true;
    for (;;) {
        enum json_event event = json_next(e->p);
        if (event == PULL_ARRAY_END)
            return SLM_OK;
        uint64_t v;
        TRY(whole(e, event, "shape", &v));
        if (e->x->n_dims == MAX_DIMS)
            return json_pull_fail(e->p, SLM_E_UNSUPPORTED,
                                  "tensor '%s' has %d dimensions or more, at most %d are read",
                                  e->x->name, MAX_DIMS + 1, MAX_DIMS);
        if (v == 0)
            return json_pull_fail(e->p, SLM_E_UNSUPPORTED,
                                  "tensor '%s' is empty: dimension %" PRIu32
                                  " is 0, at least 1 is read",
                                  e->x->name, e->x->n_dims);
        e->x->dims[e->x->n_dims++] = v;
    }
}

static slm_err read_offsets(struct entry *e) {
    if (e->has_offsets)
        return twice(e, "data_offsets");
    if (json_next(e->p) != PULL_ARRAY)
        return wrong(e, "data_offsets", "a list of whole numbers");
    e->has_offsets = true;
    TRY(whole(e, json_next(e->p), "data_offsets", &e->begin));
    TRY(whole(e, json_next(e->p), "data_offsets", &e->end));
    if (json_next(e->p) != PULL_ARRAY_END)
        return wrong(e, "data_offsets", "a list of two");
    return SLM_OK;
}

/* All fields are there: do they agree with each other and with the room for data? */
static slm_err check_entry(struct entry *e, uint64_t room) {
    struct tensor_info *x = e->x;
    if (e->element == NULL || !e->has_shape || !e->has_offsets)
        return json_pull_fail(e->p, SLM_E_FORMAT, "tensor '%s' has no %s", x->name,
                              e->element == NULL ? "dtype"
                              : !e->has_shape    ? "shape"
                                                 : "data_offsets");
    uint64_t size = e->element->bytes;
    for (uint32_t d = 0; d < x->n_dims; d++)
        if (!mul_u64_ok(size, x->dims[d], &size))
            return json_pull_fail(e->p, SLM_E_FORMAT,
                                  "tensor '%s': its size exceeds 64 bits, dimension %" PRIu32
                                  " is %" PRIu64,
                                  x->name, d, x->dims[d]);
    if (e->end < e->begin || e->end - e->begin != size)
        return json_pull_fail(e->p, SLM_E_FORMAT,
                              "tensor '%s': data_offsets %" PRIu64 " to %" PRIu64
                              ", but its shape and %s need %" PRIu64 " bytes",
                              x->name, e->begin, e->end, e->element->name, size);
    if (e->end > room)
        return json_pull_fail(e->p, SLM_E_FORMAT,
                              "tensor '%s' ends at data byte %" PRIu64 ", the file has %" PRIu64
                              " bytes of data; is it complete?",
                              x->name, e->end, room);
    x->size = size;
    x->offset = e->begin;
    return SLM_OK;
}

static slm_err read_entry(struct json_pull *p, struct tensor_info *x, bool numbers, uint64_t room) {
    struct entry e = { .p = p, .x = x, .numbers = numbers };
    if (json_next(p) != PULL_OBJECT)
        return wrong(&e, "its entry", "an object");
    for (;;) {
        enum json_event event = json_next(p);
        if (event == PULL_OBJECT_END)
            return check_entry(&e, room);
        if (event != PULL_KEY)
            return p->err;
        if (p->n == 5 && memcmp(p->text, "dtype", 5) == 0)
            TRY(read_dtype(&e));
        else if (p->n == 5 && memcmp(p->text, "shape", 5) == 0)
            TRY(read_shape(&e));
        else if (p->n == 12 && memcmp(p->text, "data_offsets", 12) == 0)
            TRY(read_offsets(&e));
        else
            return json_pull_fail(p, SLM_E_FORMAT, "tensor '%s' has the unknown field '%.*s'",
                                  x->name, p->n > 32 ? 32 : (int)p->n, p->text);
    }
}

/* ---- the header ---- */

/* Its content means nothing to slm, but it must be what the format says. */
static slm_err check_metadata(struct json_pull *p) {
    if (json_next(p) != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "__metadata__ is not an object");
    for (;;) {
        enum json_event event = json_next(p);
        if (event == PULL_OBJECT_END)
            return SLM_OK;
        if (event != PULL_KEY)
            return p->err;
        if (json_next(p) != PULL_STRING)
            return json_pull_fail(p, SLM_E_FORMAT, "a value of __metadata__ is not a string");
    }
}

/* At the key of an entry: its name into a new tensor. */
static slm_err add_named(struct tensors *t, struct json_pull *p, struct tensor_info **out) {
    const char *fault = name_fault(p->text, p->n);
    if (fault != NULL)
        return json_pull_fail(
            p, p->n > MAX_NAME ? SLM_E_UNSUPPORTED : SLM_E_FORMAT,
            "tensor name %s: %zu bytes '%.*s', from 1 to %d printable ones are read", fault, p->n,
            p->n > 64 ? 64 : (int)p->n, p->text, MAX_NAME);
    if (t->n >= MAX_TENSORS)
        return json_pull_fail(p, SLM_E_UNSUPPORTED, "%d tensors or more, at most %d are read",
                              MAX_TENSORS + 1, MAX_TENSORS);
    struct tensor_info *x = tensors_add(t);
    if (x == NULL)
        return fail_nomem(p->why, "the list of tensors", (t->n + 1) * sizeof *x);
    x->name = arena_strdup(&t->arena, p->text, p->n);
    if (x->name == NULL)
        return fail_nomem(p->why, "a tensor name", p->n + 1);
    *out = x;
    return SLM_OK;
}

static slm_err read_entries(struct tensors *t, struct json_pull *p, uint32_t file, bool numbers,
                            uint64_t room) {
    bool has_metadata = false;
    if (json_next(p) != PULL_OBJECT)
        return json_pull_fail(p, SLM_E_FORMAT, "the header is not an object");
    for (;;) {
        enum json_event event = json_next(p);
        if (event == PULL_OBJECT_END)
            break;
        if (event != PULL_KEY)
            return p->err;
        if (p->n == 12 && memcmp(p->text, "__metadata__", 12) == 0) {
            if (has_metadata)
                return json_pull_fail(p, SLM_E_FORMAT, "__metadata__ occurs twice");
            has_metadata = true;
            TRY(check_metadata(p));
            continue;
        }
        struct tensor_info *x = NULL;
        TRY(add_named(t, p, &x));
        x->file = file;
        TRY(read_entry(p, x, numbers, room));
    }
    return json_next(p) == PULL_END ? SLM_OK : p->err;
}

/* ---- the data ---- */

static int compare_offsets(const void *a, const void *b) {
    const struct tensor_info *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* list [n]: the tensors of this file, offsets into its data. Together they must be all of it. */
static slm_err place(struct tensor_info *list, uint32_t n, const struct mapping *m, uint64_t start,
                     bool numbers, slm_why *why) {
    sort_items(list, n, sizeof *list, compare_offsets);
    uint64_t end = 0, room = m->size - start;
    for (uint32_t i = 0; i < n; i++) {
        struct tensor_info *x = &list[i];
        uint64_t begin = x->offset, at = start + begin;
        if (begin < end)
            return fail(why, SLM_E_FORMAT, at,
                        "tensor '%s' begins at data byte %" PRIu64 ", inside '%s', which ends "
                        "at %" PRIu64,
                        x->name, begin, list[i - 1].name, end);
        if (begin > end)
            return fail(why, SLM_E_FORMAT, start + end,
                        "a hole in the data: tensor '%s' begins at %" PRIu64
                        ", what is before it ends at %" PRIu64,
                        x->name, begin, end);
        uint64_t bytes = 0;
        for (size_t k = 0; k < ARRAY_LEN(elements); k++)
            if (elements[k].id == (int)x->dtype)
                bytes = elements[k].bytes;
        if (!numbers && at % bytes != 0)
            return fail(why, SLM_E_UNSUPPORTED, at,
                        "tensor '%s' begins at byte %" PRIu64 ", no multiple of its %" PRIu64
                        "-byte elements; save it again with a current version of safetensors",
                        x->name, at, bytes);
        end = begin + x->size;
        x->offset = at;
        x->data = m->data + at;
    }
    if (end != room)
        return fail(why, SLM_E_FORMAT, start + end,
                    "the tensors end at data byte %" PRIu64 ", the file has %" PRIu64
                    " bytes of data",
                    end, room);
    return SLM_OK;
}

slm_err safetensors_read(struct tensors *t, uint32_t file, bool numbers, slm_why *why) {
    const struct mapping *m = &t->files[file].map;
    struct reader r;
    reader_init(&r, m->data, m->size, why);
    uint64_t n = read_u64(&r);
    if (r.err != SLM_OK)
        return r.err;
    if (n > m->size - LENGTH_BYTES)
        return fail(why, SLM_E_FORMAT, 0,
                    "header of %" PRIu64 " bytes, %zu left; is the file complete?", n,
                    m->size - LENGTH_BYTES);
    if (n > HEADER_LIMIT)
        return fail(why, SLM_E_FORMAT, 0, "header of %" PRIu64 " bytes, at most %u are allowed", n,
                    HEADER_LIMIT);
    const uint8_t *json = m->data + LENGTH_BYTES;
    if (n == 0 || json[0] != '{')
        return fail(why, SLM_E_FORMAT, LENGTH_BYTES,
                    "the header of %" PRIu64 " bytes does not begin with '{'", n);
    uint32_t first = t->n;
    uint64_t start = LENGTH_BYTES + n;
    struct json_pull p;
    json_pull_init(&p, t->hooks, (const char *)json, (size_t)n, why);
    slm_err err = read_entries(t, &p, file, numbers, m->size - start);
    json_pull_free(&p);
    if (err != SLM_OK) {
        if (why != NULL && why->offset != SLM_NO_OFFSET)
            why->offset += LENGTH_BYTES; /* the parser counts from the JSON's first byte */
        return err;
    }
    if (t->n == first) /* list may be NULL */
        return m->size == start
                   ? SLM_OK
                   : fail(why, SLM_E_FORMAT, start, "no tensors, but %" PRIu64 " bytes of data",
                          m->size - start);
    return place(t->list + first, t->n - first, m, start, numbers, why);
}
