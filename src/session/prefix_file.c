/* prefix_file.c - headers and pages of a prefix cache's files (layout in prefix_file.h).
 *
 * A file may come from anywhere: sizes are checked before memory is asked for, everything is inside
 * the file, and nothing is used whose hash was not compared after it was read. */
#include "session/prefix_file.h"

#include <string.h>

#include "base/hash.h"
#include "base/reader.h"

#define MAGIC "SLMKEEP\n"
#define FIXED 112 /* bytes before the ids */
#define ENTRY 32  /* bytes of a piece */
#define READ_PIECE ((size_t)128 << 10)
#define HASH_SEED_KEY 0x6b6579u
#define HASH_SEED_HEADER 0x68656164u
#define HASH_SEED_PAGE 0x70616765u

struct prefix_kind prefix_kind_of(const struct prefix_cache *c, bool long_rope) {
    const struct model *m = c->pool->m;
    struct prefix_kind k = { .identity = { c->o.identity[0], c->o.identity[1] },
                             .salt = c->salt,
                             .numbers = { (uint32_t)c->pool->type,
                                          (uint32_t)long_rope | (uint32_t)c->o.exact << 1,
                                          m->layers, m->kv_heads, m->head_dim, c->window } };
    memcpy(k.isa, c->isa, sizeof k.isa);
    for (unsigned i = 0; i < KV_CLASSES; i++)
        k.page_bytes[i] = c->pool->store[i].page_bytes;
    return k;
}

void prefix_key_start(const struct prefix_kind *k, uint64_t key[2]) {
    struct hash h;
    hash_init(&h, HASH_SEED_KEY);
    hash_add_u64(&h, PREFIX_VERSION);
    hash_add_u64(&h, k->identity[0]);
    hash_add_u64(&h, k->identity[1]);
    hash_add(&h, k->isa, sizeof k->isa);
    for (size_t i = 0; i < ARRAY_LEN(k->numbers); i++)
        hash_add_u64(&h, k->numbers[i]);
    for (unsigned i = 0; i < KV_CLASSES; i++)
        hash_add_u64(&h, k->page_bytes[i]);
    if (k->salt != 0)
        hash_add_u64(&h, k->salt);
    hash_end(&h, key);
}

void prefix_key_next(uint64_t key[2], const int32_t ids[KV_PAGE]) {
    struct hash h;
    hash_init(&h, HASH_SEED_KEY);
    hash_add_u64(&h, key[0]);
    hash_add_u64(&h, key[1]);
    for (unsigned i = 0; i < KV_PAGE; i++)
        hash_add_u64(&h, (uint32_t)ids[i]);
    hash_end(&h, key);
}

uint64_t prefix_piece_bytes(const struct prefix_kind *k, enum kv_class c, uint32_t rows) {
    return k->page_bytes[c] / KV_PAGE * rows;
}

static uint32_t slots_of(uint32_t n_ids) {
    return n_ids / KV_PAGE + (n_ids % KV_PAGE > 0);
}

static uint32_t rows_of(uint32_t n_ids, uint32_t slot) {
    uint32_t left = n_ids - slot * KV_PAGE;
    return left < KV_PAGE ? left : KV_PAGE;
}

size_t prefix_header_size(uint32_t n_ids) {
    uint64_t n = FIXED + (uint64_t)n_ids * 4 + (uint64_t)slots_of(n_ids) * KV_CLASSES * ENTRY + 16;
    return n <= PREFIX_HEADER_MAX ? (size_t)n : 0;
}

/* ------------------------------------------------------------------ writing */

static void put_u32(struct buf *b, uint32_t v) {
    const uint8_t bytes[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                               (uint8_t)(v >> 24) };
    buf_put(b, bytes, sizeof bytes);
}

static void put_u64(struct buf *b, uint64_t v) {
    put_u32(b, (uint32_t)v);
    put_u32(b, (uint32_t)(v >> 32));
}

void prefix_header_put(const struct prefix_kind *k, const struct prefix_header *x,
                       struct buf *out) {
    uint64_t hash[2];
    size_t start = out->len;
    buf_put(out, MAGIC, 8);
    put_u32(out, PREFIX_VERSION);
    put_u32(out, (uint32_t)prefix_header_size(x->n_ids));
    put_u64(out, k->identity[0]);
    put_u64(out, k->identity[1]);
    put_u64(out, x->key[0]);
    put_u64(out, x->key[1]);
    buf_put(out, k->isa, sizeof k->isa);
    for (size_t i = 0; i < ARRAY_LEN(k->numbers); i++)
        put_u32(out, k->numbers[i]);
    put_u32(out, KV_PAGE);
    put_u32(out, x->slot);
    put_u32(out, x->n_ids);
    put_u32(out, x->n_slots);
    put_u64(out, x->file_size);
    for (uint32_t i = 0; i < x->n_ids; i++)
        put_u32(out, (uint32_t)x->ids[i]);
    for (uint32_t i = 0; i < x->n_slots * KV_CLASSES; i++) {
        const struct prefix_piece *p = &x->pieces[i];
        put_u32(out, p->rows);
        put_u32(out, 0);
        put_u64(out, p->offset);
        put_u64(out, p->hash[0]);
        put_u64(out, p->hash[1]);
    }
    if (out->err != SLM_OK)
        return;
    hash_bytes(out->data + start, out->len - start, HASH_SEED_HEADER, hash);
    put_u64(out, hash[0]);
    put_u64(out, hash[1]);
}

slm_err prefix_piece_walk(const struct kv_pool *pool, enum kv_class c, uint32_t page, uint32_t rows,
                          prefix_part fn, void *user) {
    const uint8_t *data = kv_page_data(pool, c, page);
    size_t half = pool->head_bytes / 2, bytes = pool->store[c].page_bytes;
    if (rows == KV_PAGE)
        return fn(user, data, bytes);
    for (size_t at = 0; at < bytes; at += half)
        TRY(fn(user, data + at, rows * pool->row_bytes));
    return SLM_OK;
}

static slm_err add_part(void *user, const void *data, size_t n) {
    hash_add(user, data, n);
    return SLM_OK;
}

void prefix_piece_hash(const struct kv_pool *pool, enum kv_class c, uint32_t page, uint32_t rows,
                       uint64_t hash[2]) {
    struct hash h;
    hash_init(&h, HASH_SEED_PAGE);
    (void)prefix_piece_walk(pool, c, page, rows, add_part, &h);
    hash_end(&h, hash);
}

/* ------------------------------------------------------------------ reading */

/* What comes before the ids. */
static slm_err parse_fixed(const struct prefix_kind *k, struct reader *r, size_t n,
                           uint64_t file_size, struct prefix_header *x) {
    const uint8_t *magic = read_bytes(r, 8);
    if (magic == NULL || memcmp(magic, MAGIC, 8) != 0)
        return reader_fail(r, SLM_E_FORMAT, "not a file of a prefix cache");
    uint32_t version = read_u32(r), size = read_u32(r);
    if (version != PREFIX_VERSION)
        return reader_fail(r, SLM_E_MISMATCH, "version %u, this is %d", version, PREFIX_VERSION);
    bool same = read_u64(r) == k->identity[0];
    same = read_u64(r) == k->identity[1] && same;
    x->key[0] = read_u64(r);
    x->key[1] = read_u64(r);
    const uint8_t *isa = read_bytes(r, sizeof k->isa);
    same = isa != NULL && memcmp(isa, k->isa, sizeof k->isa) == 0 && same;
    for (size_t i = 0; i < ARRAY_LEN(k->numbers); i++)
        same = read_u32(r) == k->numbers[i] && same;
    same = read_u32(r) == KV_PAGE && same;
    if (!same)
        return reader_fail(r, SLM_E_MISMATCH, "made for other weights, or computed otherwise");
    x->slot = read_u32(r);
    x->n_ids = read_u32(r);
    x->n_slots = read_u32(r);
    x->file_size = read_u64(r);
    if (x->n_ids == 0 || x->n_slots != slots_of(x->n_ids) || size != prefix_header_size(x->n_ids) ||
        size != n || x->file_size != file_size || n > file_size)
        return reader_fail(r, SLM_E_FORMAT, "%u ids, a header of %u bytes in a file of %llu",
                           x->n_ids, size, (unsigned long long)file_size);
    return r->err;
}

static slm_err parse_pieces(const struct prefix_kind *k, struct reader *r,
                            struct prefix_header *x) {
    for (uint32_t i = 0; i < x->n_slots * KV_CLASSES; i++) {
        struct prefix_piece *p = &x->pieces[i];
        enum kv_class c = (enum kv_class)(i % KV_CLASSES);
        uint32_t rows = read_u32(r), zero = read_u32(r);
        *p = (struct prefix_piece){ .rows = rows };
        p->offset = read_u64(r);
        p->hash[0] = read_u64(r);
        p->hash[1] = read_u64(r);
        if (rows > rows_of(x->n_ids, i / KV_CLASSES) || zero != 0 || p->offset > x->file_size ||
            prefix_piece_bytes(k, c, rows) > x->file_size - p->offset ||
            (rows > 0 && k->page_bytes[c] == 0))
            return reader_fail(r, SLM_E_FORMAT, "piece %u has %u rows at %llu of %llu bytes", i,
                               rows, (unsigned long long)p->offset,
                               (unsigned long long)x->file_size);
    }
    return r->err;
}

slm_err prefix_header_parse(const struct prefix_kind *k, const void *bytes, size_t n,
                            uint64_t file_size, struct arena *a, struct prefix_header *out,
                            slm_why *why) {
    struct reader r;
    struct prefix_header x = { .n_ids = 0 };
    uint64_t hash[2];
    reader_init(&r, bytes, n, why);
    TRY(parse_fixed(k, &r, n, file_size, &x));
    hash_bytes(bytes, n - 16, HASH_SEED_HEADER, hash);
    x.ids = arena_alloc(a, x.n_ids, sizeof *x.ids);
    x.pieces = arena_alloc(a, (size_t)x.n_slots * KV_CLASSES, sizeof *x.pieces);
    if (x.ids == NULL || x.pieces == NULL)
        return fail_nomem(why, "the header of kept pages", n);
    for (uint32_t i = 0; i < x.n_ids; i++)
        x.ids[i] = (int32_t)read_u32(&r);
    TRY(parse_pieces(k, &r, &x));
    bool same = read_u64(&r) == hash[0];
    if (read_u64(&r) != hash[1] || !same)
        return reader_fail(&r, SLM_E_CHECKSUM, "the header is damaged");
    *out = x;
    return SLM_OK;
}

slm_err prefix_header_read(const struct prefix_kind *k, const struct infile *f,
                           const struct slm_hooks *h, struct arena *a, struct prefix_header *out,
                           slm_why *why) {
    uint8_t fixed[16];
    struct reader r;
    TRY(infile_read(f, 0, fixed, sizeof fixed, why));
    reader_init(&r, fixed, sizeof fixed, why);
    read_skip(&r, 12);
    size_t n = read_u32(&r);
    if (n < FIXED || n > PREFIX_HEADER_MAX || n > f->size)
        return fail(why, SLM_E_FORMAT, 12, "a header of %zu bytes in a file of %llu", n,
                    (unsigned long long)f->size);
    uint8_t *bytes = mem_alloc(h, n, 1);
    if (bytes == NULL)
        return fail_nomem(why, "the header of kept pages", n);
    slm_err err = infile_read(f, 0, bytes, n, why);
    if (err == SLM_OK)
        err = prefix_header_parse(k, bytes, n, f->size, a, out, why);
    mem_free(h, bytes);
    return err;
}

slm_err prefix_piece_read(const struct kv_pool *pool, const struct infile *f, enum kv_class c,
                          const struct prefix_piece *p, uint32_t page, slm_why *why) {
    uint8_t *data = kv_page_data(pool, c, page);
    uint64_t hash[2];
    size_t part = p->rows * pool->row_bytes, half = pool->head_bytes / 2;
    size_t parts = pool->store[c].page_bytes / half, n = parts * part;
    struct hash h;
    hash_init(&h, HASH_SEED_PAGE);
    for (size_t at = 0, take; at < n; at += take) { /* hashed while it is near */
        take = n - at < READ_PIECE ? n - at : READ_PIECE;
        TRY(infile_read(f, p->offset + at, data + at, take, why));
        hash_add(&h, data + at, take);
    }
    hash_end(&h, hash);
    if (hash[0] != p->hash[0] || hash[1] != p->hash[1])
        return fail(why, SLM_E_CHECKSUM, p->offset, "a page of %zu bytes is damaged", n);
    for (size_t i = parts; i-- > 1 && p->rows < KV_PAGE;) /* from the end: the parts move up */
        memmove(data + i * half, data + i * part, part);
    return SLM_OK;
}
