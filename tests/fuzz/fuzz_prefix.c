/* fuzz_prefix.c - files of a prefix cache's folder.
 *
 * In: a file that continues nothing, put into a folder under the name that is looked for. By the first
 * byte (which is not part of it): its lowest bit set, the hash of the header is made right, so that
 * the numbers behind it are reached; the next bit, the hash of the first pages too.
 * What a sequence gets must then be readable, and whoever writes on gets pages of his own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "session/prefix_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONTEXT 320
#define PAGES 12

static struct model model = { .name = "fuzz",
                              .layers = 2,
                              .kv_heads = 1,
                              .head_dim = 1,
                              .pattern = "Fs",
                              .window = 70,
                              .context = CONTEXT };
static char folder[64], path[200];

static void expect(bool ok) {
    if (!ok)
        abort();
}

static void clean(void) {
    unlink(path);
    rmdir(folder);
}

static uint32_t u32_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_u64_at(uint8_t *p, uint64_t v) {
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* Makes hashes right where the numbers leave room for them. */
static void repair(uint8_t *file, size_t n, bool pages, const struct prefix_kind *kind) {
    uint64_t hash[2];
    if (n < 112)
        return;
    uint32_t header = u32_at(file + 12), n_ids = u32_at(file + 96), slots = u32_at(file + 100);
    if (header < 128 || header > n || n_ids > 10000 || slots > 200)
        return;
    for (uint32_t i = 0; pages && i < slots * KV_CLASSES; i++) {
        size_t at = 112 + (size_t)n_ids * 4 + (size_t)i * 32;
        if (at + 32 > header)
            return;
        uint32_t rows = u32_at(file + at), offset = u32_at(file + at + 8);
        uint64_t bytes = prefix_piece_bytes(kind, (enum kv_class)(i % KV_CLASSES), rows % 65);
        if (offset > n || bytes > n - offset)
            continue;
        hash_bytes(file + offset, (size_t)bytes, 0x70616765u, hash);
        put_u64_at(file + at + 16, hash[0]);
        put_u64_at(file + at + 24, hash[1]);
    }
    hash_bytes(file, header - 16, 0x68656164u, hash);
    put_u64_at(file + header - 16, hash[0]);
    put_u64_at(file + header - 8, hash[1]);
}

static void use(struct kv_pool *pool, struct prefix_cache *c) {
    int32_t ids[CONTEXT];
    struct prefix_note note;
    struct kv *kv;
    uint64_t sum = 0;
    for (int32_t i = 0; i < CONTEXT; i++)
        ids[i] = i % 7;
    expect(kv_new(pool, CONTEXT, 64, &kv, NULL) == SLM_OK);
    uint32_t n = prefix_fetch(c, ids, CONTEXT, false, kv, &note);
    expect(n == kv_length(kv) && note.reused == n && note.from_disk == n && n <= CONTEXT);
    for (uint32_t p = n > 69 ? n - 69 : 0; p < n; p++)
        for (uint32_t l = 0; l < model.layers; l++)
            sum += *kv_key(kv, &kv->layers[l], 0, p) + *kv_value(kv, &kv->layers[l], 0, p);
    while (kv_length(kv) < CONTEXT) {
        uint32_t left = CONTEXT - kv_length(kv), rows = left < 64 ? left : 64;
        expect(kv_reserve(kv, rows, NULL) == SLM_OK);
        for (uint32_t p = kv_length(kv); p < kv_length(kv) + rows; p++)
            for (uint32_t l = 0; l < model.layers; l++)
                memset(kv_key(kv, &kv->layers[l], 0, p), (int)(sum & 0xff), kv->row_bytes);
        kv->length += rows;
    }
    prefix_keep(c, ids, kv);
    expect(prefix_save(c, ids, kv, NULL) == SLM_OK);
    kv_free(kv);
}

static void remove_saved(void *user, const char *name) {
    (void)user;
    char other[300];
    snprintf(other, sizeof other, "%s/%s", folder, name);
    unlink(other);
}

static bool each(void *user, const struct folder_entry *e) {
    remove_saved(user, e->name);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct kv_pool *pool;
    struct prefix_cache *c;
    uint64_t key[2];
    if (size < 1 || size > 100000)
        return 0;
    if (folder[0] == '\0') {
        strcpy(folder, "/tmp/fuzz-prefix-XXXXXX");
        expect(mkdtemp(folder) != NULL);
        atexit(clean);
    }
    struct prefix_options o = { .folder = folder, .identity = { 1, 2 }, .isa = "ref" };
    expect(kv_pool_new(NULL, &model, KV_F16, (struct kv_pages){ { PAGES, PAGES } }, &pool, NULL) ==
           SLM_OK);
    expect(prefix_new(NULL, pool, &o, &c, NULL) == SLM_OK);
    struct prefix_kind kind = prefix_kind_of(c, false);
    prefix_key_start(&kind, key);
    snprintf(path, sizeof path, "%s/%016llx%016llx-0000000000000000.kv", folder,
             (unsigned long long)key[0], (unsigned long long)key[1]);
    uint8_t *file = malloc(size);
    memcpy(file, data, size);
    if (data[0] & 1)
        repair(file + 1, size - 1, (data[0] & 2) != 0, &kind);
    FILE *f = fopen(path, "wb");
    expect(f != NULL && (size == 1 || fwrite(file + 1, size - 1, 1, f) == 1) && fclose(f) == 0);
    free(file);
    use(pool, c);
    prefix_free(c);
    for (unsigned k = 0; k < KV_CLASSES; k++)
        expect(kv_pages_free(pool, (enum kv_class)k) == PAGES);
    kv_pool_free(pool);
    (void)folder_each(folder, 1000, each, NULL, NULL);
    return 0;
}
