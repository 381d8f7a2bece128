/* packed_file.c - the file that keeps a model's panels from one start to the next (format: pack.h).
 *
 * In:  a net whose matrices are described but not packed.     Out: a mapped file, or why not.
 * The header that has to be there is computed from the net and compared byte for byte; from the file
 * itself come the hashes of the blocks and the panels, and no number in either is an offset, a size
 * or an index. So a hostile file can give wrong numbers (as a hostile model file can), nothing else.
 * Hashes are checked each time: files are not synced when they are written, and 2.5 GB take 0.1 s. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/pages.h"
#include "model/pack.h"

#define MAGIC "SLMPANEL"
#define VERSION 1u
#define HEAD_SEED 0x70616e656c686421u
#define BLOCK_SEED 0x70616e656c626c6bu
#define READ_AHEAD 8       /* blocks asked for before they are hashed */
#define NAME_MOST 64       /* characters of the model's name in the file name */
#define SUFFIX ".panels"

/* ------------------------------------------------------------------ describing */

static void put(struct buf *b, uint64_t v, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        buf_putc(b, (char)(uint8_t)(v >> (8 * i)));
}

/* The state of the model's files: rewriting one changes it, whatever is written. */
static void files_stamp(const struct tensors *t, uint64_t out[2]) {
    struct hash h;
    hash_init(&h, HEAD_SEED);
    for (uint32_t i = 0; i < t->n_files; i++) {
        hash_add_u64(&h, t->files[i].map.size);
        hash_add_u64(&h, t->files[i].map.modified);
        hash_add_u64(&h, t->files[i].map.changed);
    }
    hash_end(&h, out);
}

static void put_matrices(struct buf *head, const struct bindings *b) {
    uint64_t n = 0, at = 0;
    for (uint32_t i = 0; i < b->n; i++)
        n += b->list[i].file != NULL;
    put(head, n, 8);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct matrix *m = b->list[i].matrix;
        if (b->list[i].file == NULL)
            continue;
        put(head, at, 8);
        put(head, matrix_bytes(m), 8);
        put(head, m->rows, 4);
        put(head, m->cols, 4);
        put(head, (uint64_t)m->dtype, 4);
        put(head, b->list[i].permuted_heads, 4);
        at += matrix_bytes(m);
    }
}

static slm_err make_path(struct packed_file *p, const struct net *net, const struct tensors *t,
                         const char *dir, slm_why *why) {
    char name[NAME_MOST + 1] = "model", file[NAME_MOST + 32];
    uint64_t hash[2];
    const char *given = net->m->name != NULL ? net->m->name : "";
    for (size_t i = 0; i < NAME_MOST && given[i] != '\0'; i++) {
        unsigned char c = (unsigned char)given[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     ((c == '.' || c == '_') && i > 0);
        name[i] = plain ? (char)c : '-';
        name[i + 1] = '\0';
    }
    char *real = file_real(p->hooks, t->files[0].path);
    if (real == NULL)
        return fail(why, SLM_E_IO, SLM_NO_OFFSET, "'%s' has no path", t->files[0].path);
    hash_bytes(real, strlen(real), matrix_layout(net->kernels), hash);
    mem_free(p->hooks, real);
    snprintf(file, sizeof file, "%s-%016llx" SUFFIX, name, (unsigned long long)hash[0]);
    p->path = path_join(p->hooks, dir, file);
    return p->path != NULL ? SLM_OK : fail_nomem(why, "path", strlen(dir));
}

slm_err packed_file_of(const struct net *net, const struct bindings *b, const struct tensors *t,
                       const struct facts *f, const char *dir, struct packed_file *out,
                       slm_why *why) {
    uint64_t identity[2], stamp[2], n_blocks = (net->packed_bytes + PACK_BLOCK - 1) / PACK_BLOCK;
    size_t entry = 32, fixed = 88, most;
    *out = (struct packed_file){ .hooks = net->hooks, .panels_bytes = net->packed_bytes };
    buf_init(&out->head, net->hooks, SIZE_MAX / 2);
    if (n_blocks == 0 || n_blocks > UINT32_MAX / 2 || !mul_ok(b->n, entry, &most))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "%llu bytes of panels do not fit a file",
                    (unsigned long long)net->packed_bytes);
    TRY(make_path(out, net, t, dir, why));
    net_identity(t, f, identity);
    files_stamp(t, stamp);
    uint64_t matrices = 0;
    for (uint32_t i = 0; i < b->n; i++)
        matrices += b->list[i].file != NULL;
    out->n_blocks = (uint32_t)n_blocks;
    out->head_bytes = fixed + matrices * entry + 16 * n_blocks + 16;
    out->panels_offset = (out->head_bytes + PACK_BLOCK - 1) / PACK_BLOCK * PACK_BLOCK;
    buf_put(&out->head, MAGIC, 8);
    put(&out->head, VERSION, 4);
    put(&out->head, matrix_layout(net->kernels), 4);
    put(&out->head, out->head_bytes, 8);
    put(&out->head, out->panels_offset, 8);
    put(&out->head, out->panels_bytes, 8);
    put(&out->head, n_blocks, 8);
    for (unsigned i = 0; i < 2; i++)
        put(&out->head, identity[i], 8);
    for (unsigned i = 0; i < 2; i++)
        put(&out->head, stamp[i], 8);
    put_matrices(&out->head, b);
    return out->head.err == SLM_OK ? SLM_OK : fail_nomem(why, "header", most);
}

void packed_file_free(struct packed_file *p) {
    mem_free(p->hooks, p->path);
    buf_free(&p->head);
    *p = (struct packed_file){ 0 };
}

void packed_block_hash(const uint8_t *data, size_t n, uint64_t out[2]) {
    hash_bytes(data, n, BLOCK_SEED, out);
}

char *packed_file_head(const struct packed_file *p, uint64_t (*hashes)[2]) {
    struct buf b;
    uint64_t all[2];
    buf_init(&b, p->hooks, (size_t)p->head_bytes);
    buf_put(&b, p->head.data, p->head.len);
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        put(&b, hashes[i][0], 8);
        put(&b, hashes[i][1], 8);
    }
    if (b.err == SLM_OK) {
        hash_bytes(b.data, b.len, HEAD_SEED, all);
        put(&b, all[0], 8);
        put(&b, all[1], 8);
    }
    char *head = buf_take(&b);
    buf_free(&b);
    return head;
}

/* ------------------------------------------------------------------ judging */

static uint64_t get(const uint8_t *p) {
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

struct judging {
    const struct packed_file *p;
    const struct mapping *file;
    struct ticket ticket;
    _Atomic uint32_t bad; /* a block that is not what its hash says, plus 1 */
};

static void judge_blocks(void *arg, unsigned index, unsigned count) {
    struct judging *j = arg;
    const struct packed_file *p = j->p;
    (void)index;
    (void)count;
    for (unsigned i; (i = ticket_take(&j->ticket, 1)) < p->n_blocks;) {
        uint64_t at = i * PACK_BLOCK, left = p->panels_bytes - at, hash[2];
        const uint8_t *want = j->file->data + p->head.len + 16 * (size_t)i;
        file_want(j->file, (size_t)(p->panels_offset + at + READ_AHEAD * PACK_BLOCK),
                  (size_t)PACK_BLOCK);
        packed_block_hash(j->file->data + p->panels_offset + at,
                          (size_t)(left < PACK_BLOCK ? left : PACK_BLOCK), hash);
        if (hash[0] != get(want) || hash[1] != get(want + 8)) {
            atomic_store(&j->bad, i + 1);
            return;
        }
    }
}

enum packed_state packed_file_judge(const struct packed_file *p, const struct mapping *file,
                                    struct pool *pool, slm_why *why) {
    uint64_t hash[2];
    size_t n = p->head.len;
    if (file->size < 8 || memcmp(file->data, MAGIC, 8) != 0) {
        fail(why, SLM_E_FORMAT, 0, "'%s' is no packed file", p->path);
        return PACKED_DAMAGED;
    }
    if (memcmp(file->data, p->head.data, file->size < n ? file->size : n) != 0) {
        fail(why, SLM_E_MISMATCH, 0, "'%s' is of another state of the model", p->path);
        return PACKED_OTHER;
    }
    if (file->size != p->panels_offset + p->panels_bytes) {
        fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'%s' has %zu bytes, expected %llu", p->path,
             file->size, (unsigned long long)(p->panels_offset + p->panels_bytes));
        return PACKED_DAMAGED;
    }
    const uint8_t *last = file->data + p->head_bytes - 16;
    hash_bytes(file->data, (size_t)p->head_bytes - 16, HEAD_SEED, hash);
    if (hash[0] != get(last) || hash[1] != get(last + 8)) {
        fail(why, SLM_E_FORMAT, 0, "the header of '%s' is damaged", p->path);
        return PACKED_DAMAGED;
    }
    struct judging j = { .p = p, .file = file };
    pool_run(pool, judge_blocks, &j);
    uint32_t bad = atomic_load(&j.bad);
    if (bad != 0) {
        fail(why, SLM_E_FORMAT, p->panels_offset + (bad - 1) * PACK_BLOCK, "'%s' is damaged",
             p->path);
        return PACKED_DAMAGED;
    }
    return PACKED_GOOD;
}

enum packed_state packed_file_find(const struct packed_file *p, struct pool *pool,
                                   struct mapping *out, slm_why *why) {
    *out = (struct mapping){ 0 };
    if (!file_exists(p->path) || file_map(p->path, out, why) != SLM_OK)
        return PACKED_ABSENT;
    if (out->data != NULL)
        pages_size((void *)(uintptr_t)out->data, out->size, true);
    enum packed_state state = packed_file_judge(p, out, pool, why);
    if (state != PACKED_GOOD)
        file_unmap(out);
    return state;
}
