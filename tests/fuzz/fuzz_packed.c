/* fuzz_packed.c - files of packed weights: what is judged good is good, and no value does harm.
 *
 * The model is a twin of tests/golden. In, by the first byte:
 *   E  a good file with edits: each 4 bytes of offset (lowest first) and a byte that is added there;
 *      a last rest of 1 to 4 bytes is the new size of the file. Good in the end: the right panels
 *   V  panels with these bytes, over and over, and hashes that fit: judged good, then every matrix is
 *      multiplied and read row by row, with the reference kernels and the best ones
 *   else the whole file */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "model/pack.h"
#include "support.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TWIN "golden/phi-4-mini-instruct"

static struct model_files {
    struct tensors *tensors;
    struct facts facts;
    struct net net;
    struct bindings bindings;
    struct packed_file expected;
    struct pool *pool;
    uint8_t *good, *file; /* [size] what is right; what is judged (64-byte aligned) */
    size_t size;
} all;

static void expect(bool ok) {
    if (!ok)
        abort();
}

/* ------------------------------------------------------------------ a good file */

static void finish_file(uint8_t *file) {
    const struct packed_file *p = &all.expected;
    uint64_t(*hashes)[2] = calloc(p->n_blocks, sizeof *hashes);
    for (uint32_t i = 0; i < p->n_blocks; i++) {
        uint64_t at = i * PACK_BLOCK, left = p->panels_bytes - at;
        packed_block_hash(file + p->panels_offset + at,
                          (size_t)(left < PACK_BLOCK ? left : PACK_BLOCK), hashes[i]);
    }
    char *head = packed_file_head(p, hashes);
    expect(head != NULL);
    memcpy(file, head, (size_t)p->head_bytes);
    free(head);
    free(hashes);
}

/* Points every matrix at its panels in `file` and packs them there when asked to. */
static void place(uint8_t *file, bool pack) {
    uint8_t *at = file + all.expected.panels_offset;
    for (uint32_t i = 0; i < all.bindings.n; i++) {
        struct binding *b = &all.bindings.list[i];
        struct matrix plain;
        size_t row;
        if (b->file == NULL)
            continue;
        expect(dtype_row_bytes(b->matrix->dtype, b->matrix->cols, &row) &&
               matrix_plain(&plain, b->matrix->dtype, b->matrix->rows, b->matrix->cols,
                            b->file->data + b->first_row * row));
        if (pack)
            matrix_pack(all.net.kernels, &plain, b->matrix, at, 0, matrix_panels(b->matrix), NULL);
        b->matrix->data = at;
        at += matrix_bytes(b->matrix);
    }
}

static void prepare(void) {
    char folder[512], path[600];
    size_t n;
    expect(data_path(folder, sizeof folder, TWIN) != NULL);
    expect(tensors_open(NULL, folder, &all.tensors, NULL) == SLM_OK);
    snprintf(path, sizeof path, "%s/config.json", folder);
    char *config = slurp(path, &n);
    expect(config != NULL && facts_from_config(NULL, config, n, NULL, 0, NULL, &all.facts, NULL) ==
                                 SLM_OK);
    free(config);
    all.net = (struct net){ .kernels = kernels_pick(ISA_LEVEL_COUNT) };
    expect(weights_bind(&all.net, &all.bindings, NULL, all.tensors, &all.facts, false, NULL) ==
           SLM_OK);
    expect(weights_arrange(&all.net, &all.bindings, NULL) == SLM_OK);
    expect(packed_file_of(&all.net, &all.bindings, all.tensors, &all.facts, folder, &all.expected,
                          NULL) == SLM_OK);
    expect(pool_new(NULL, 1, &all.pool, NULL) == SLM_OK);
    all.size = (size_t)(all.expected.panels_offset + all.expected.panels_bytes);
    all.good = mem_alloc_aligned(NULL, all.size, 1);
    all.file = mem_alloc_aligned(NULL, all.size, 1);
    expect(all.good != NULL && all.file != NULL);
    memset(all.good, 0, all.size);
    place(all.good, true);
    finish_file(all.good);
}

/* ------------------------------------------------------------------ judging and using */

static enum packed_state judge(const uint8_t *file, size_t size) {
    struct mapping m = { .data = file, .size = size };
    slm_why why = { SLM_OK, 0, "" };
    enum packed_state state = packed_file_judge(&all.expected, &m, all.pool, &why);
    expect(state == PACKED_GOOD || (why.code != SLM_OK && why.message[0] != '\0'));
    return state;
}

static void edited(const uint8_t *data, size_t n) {
    const struct packed_file *p = &all.expected;
    size_t size = all.size;
    memcpy(all.file, all.good, all.size);
    for (; n >= 5; data += 5, n -= 5) {
        size_t at = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24;
        all.file[at % all.size] = (uint8_t)(all.file[at % all.size] + data[4]);
    }
    if (n > 0)
        size = (data[0] | (n > 1 ? (size_t)data[1] << 8 : 0) | (n > 2 ? (size_t)data[2] << 16 : 0)) %
               (all.size + 1);
    if (judge(all.file, size) == PACKED_GOOD)
        expect(size == all.size && memcmp(all.file + p->panels_offset, all.good + p->panels_offset,
                                          (size_t)p->panels_bytes) == 0);
}

static void use(const struct kernels *k, const struct matrix *m) {
    size_t n_act = act_bytes(m->act, m->cols), rows = (size_t)matrix_panels(m) * PANEL_ROWS;
    float *x = calloc(m->cols, sizeof *x), *y = calloc(3 * rows, sizeof *y);
    uint8_t *acts = mem_alloc_aligned(NULL, 3, n_act);
    void *scratch = mem_alloc_aligned(NULL, 1, matmul_scratch(m, 3) + 64);
    expect(x != NULL && y != NULL && acts != NULL && scratch != NULL);
    for (uint32_t t = 0; t < 3; t++) {
        for (uint32_t c = 0; c < m->cols; c++)
            x[c] = (float)((c * 37 + t * 11) % 19) - 9.0f;
        act_prepare(k, m->act, x, m->cols, acts + t * n_act);
    }
    matmul(k, m, acts, 1, 0, matrix_panels(m), y, rows, scratch);
    matmul(k, m, acts, 3, 0, matrix_panels(m), y, rows, scratch);
    for (uint32_t r = 0; r < m->rows; r += 7)
        matrix_row(k, m, r, x);
    mem_free_aligned(NULL, scratch);
    mem_free_aligned(NULL, acts);
    free(y);
    free(x);
}

static void values(const uint8_t *data, size_t n) {
    const struct packed_file *p = &all.expected;
    if (n == 0)
        return;
    for (uint64_t i = 0; i < p->panels_bytes; i++)
        all.file[p->panels_offset + i] = data[i % n];
    finish_file(all.file);
    expect(judge(all.file, all.size) == PACKED_GOOD);
    place(all.file, false);
    for (uint32_t i = 0; i < all.bindings.n; i++)
        if (all.bindings.list[i].file != NULL) {
            use(kernels_at(ISA_LEVEL_REF), all.bindings.list[i].matrix);
            use(all.net.kernels, all.bindings.list[i].matrix);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (all.good == NULL)
        prepare();
    if (size > 0 && data[0] == 'E')
        edited(data + 1, size - 1);
    else if (size > 0 && data[0] == 'V')
        values(data + 1, size - 1);
    else
        expect(judge(data, size) != PACKED_GOOD || size == all.size);
    return 0;
}
