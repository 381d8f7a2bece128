/* ref_bits.c - one line per kernel of the reference table: a hash of the bits that it computes from
 * fixed numbers. test_portable.sh builds it for several processors and compares: the reference is
 * the meaning of every kernel, so it has to be the same everywhere.
 *
 * Needs only src/base (without JSON) and src/kernels, so that it can be linked without libraries. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

#define ROWS 21u /* two panels, the second one with padding */
#define COLS 512u
#define TOKENS 3u
#define KEYS 37u
#define HEAD 40u

static uint32_t state = 1;

/* in [-1, 1), from exact operations only */
static float number(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)(state & 0xffffff00u) * 0x1p-31f;
}

static void fill(float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = number();
}

/* FNV-1a, 64 bits */
static void say(const char *what, const char *which, const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    printf("%-8s %-7s %016" PRIx64 "\n", what, which, h);
}

static void *need(void *p) {
    if (p == NULL)
        exit(2);
    return p;
}

static void products(const struct kernels *k, enum dtype t) {
    static float weights[ROWS * COLS], x[TOKENS * COLS], y[TOKENS * ROWS];
    const char *name = dtype_info(t)->name;
    struct matrix plain, panel;
    size_t row;
    if (!dtype_row_bytes(t, COLS, &row) || (t != DT_F32 && !can_quantise(t)))
        return;
    fill(weights, ROWS * COLS);
    fill(x, TOKENS * COLS);
    uint8_t *file = need(calloc(ROWS, row));
    for (size_t r = 0; r < ROWS; r++)
        if (t == DT_F32)
            memcpy(file + r * row, weights + r * COLS, row);
        else
            quantise(t, weights + r * COLS, file + r * row, COLS);
    say("quantise", name, file, ROWS * row);
    if (!matrix_plain(&plain, t, ROWS, COLS, file) || !matrix_panel(k, &panel, t, ROWS, COLS))
        exit(2);
    uint8_t *packed = need(mem_alloc_aligned(NULL, matrix_bytes(&panel), 1));
    matrix_pack(k, &plain, &panel, packed, 0, matrix_panels(&panel), NULL);
    panel.data = packed;
    const struct matrix *const both[] = { &plain, &panel };
    for (size_t i = 0; i < 2; i++) {
        size_t act = act_bytes(both[i]->act, COLS);
        uint8_t *acts = need(mem_alloc_aligned(NULL, TOKENS, act));
        void *scratch = need(mem_alloc_aligned(NULL, matmul_scratch(both[i], TOKENS) + 1, 1));
        for (size_t j = 0; j < TOKENS; j++)
            act_prepare(k, both[i]->act, x + j * COLS, COLS, acts + j * act);
        matmul(k, both[i], acts, TOKENS, 0, matrix_panels(both[i]), y, ROWS, scratch);
        say(i == 0 ? "plain" : "panel", name, y, sizeof y);
        mem_free_aligned(NULL, acts);
        mem_free_aligned(NULL, scratch);
    }
    mem_free_aligned(NULL, packed);
    free(file);
}

static void rows(const struct kernels *k) {
    static float x[COLS], w[COLS], y[COLS];
    fill(x, COLS);
    fill(w, COLS);
    rmsnorm(k, x, w, true, 1e-6f, COLS, y);
    say("rmsnorm", "", y, sizeof y);
    silu_mul(k, x, w, COLS, y);
    say("silu", "", y, sizeof y);
    gelu_mul(k, x, w, COLS, y);
    say("gelu", "", y, sizeof y);
    rope_apply(k, x, w, w + COLS / 2, COLS / 2, false);
    say("rope", "", x, sizeof x);
}

static void attention(const struct kernels *k, enum kv_type t, const char *name) {
    static float q[TOKENS * HEAD], one[HEAD], scores[TOKENS * SPAN], mix[TOKENS * HEAD];
    size_t bytes = kv_row_bytes(t, HEAD);
    uint8_t *keys = need(calloc(KEYS, bytes));
    float max, sum;
    fill(q, TOKENS * HEAD);
    for (size_t i = 0; i < KEYS; i++) {
        fill(one, HEAD);
        kv_store(k, t, one, HEAD, keys + i * bytes);
    }
    memset(scores, 0, sizeof scores);
    memset(mix, 0, sizeof mix);
    attn_scores(k, t, q, TOKENS, HEAD, keys, KEYS, 0.158f, scores, SPAN, NULL);
    for (size_t i = 0; i < TOKENS; i++)
        attn_softmax(k, scores + i * SPAN, 48, &max, &sum);
    attn_mix(k, t, scores, TOKENS, SPAN, HEAD, keys, KEYS, mix, NULL);
    say("scores", name, scores, sizeof scores);
    say("mix", name, mix, sizeof mix);
    free(keys);
}

int main(void) {
    const struct kernels *k = kernels_at(ISA_LEVEL_REF);
    for (unsigned t = 0; t < DT_COUNT; t++)
        products(k, (enum dtype)t);
    rows(k);
    attention(k, KV_F32, "F32");
    attention(k, KV_F16, "F16");
    attention(k, KV_BF16, "BF16");
    attention(k, KV_Q8, "Q8");
    return 0;
}
