/* tiles.c - walks a product tile by tile.
 *
 * Tokens are taken in batches whose activations fit half of a second-level cache; within a batch a
 * panel meets all full tiles of tokens before the next panel comes, so it is read from memory once
 * per batch. Tokens that are left over are done for TILE_PANELS panels together. */
#include "kernels/tiles.h"

#include <string.h>

#include "base/compiler.h"

#define BATCH_BYTES (384u * 1024)

struct walk {
    const struct matrix *m;
    const uint8_t *acts; /* row of token 0 */
    size_t act_size;
    float *y; /* [n_tokens, y_stride], row of token 0 */
    size_t y_stride;
};

/* One tile, straight into y. Where fewer panels or tokens are left than the shape has, the last one is
 * repeated; its copies, and a panel of fewer rows, go to a spare row first. */
static void tile_run(const struct tile_shape *s, const struct walk *w, uint32_t panel,
                     uint32_t n_panels, size_t token, size_t n_tokens) {
    float spare[TILE_OUTPUTS][PANEL_ROWS], *out[TILE_OUTPUTS];
    const uint8_t *panels[TILE_PANELS];
    const void *acts[TILE_TOKENS];
    unsigned last_rows = panel_rows(w->m, panel + n_panels - 1);
    for (size_t t = 0; t < s->tokens; t++)
        acts[t] = w->acts + (token + (t < n_tokens ? t : n_tokens - 1)) * w->act_size;
    for (uint32_t p = 0; p < s->panels; p++) {
        uint32_t place = panel + (p < n_panels ? p : n_panels - 1);
        float *y = w->y + token * w->y_stride + (size_t)place * PANEL_ROWS;
        bool whole = p + 1 < n_panels || (p + 1 == n_panels && last_rows == PANEL_ROWS);
        panels[p] = w->m->data + place * w->m->panel_bytes;
        for (size_t t = 0; t < s->tokens; t++) {
            size_t i = p * s->tokens + t;
            out[i] = whole && t < n_tokens ? y + t * w->y_stride : spare[i];
        }
    }
    s->run(w->m, panels, acts, out);
    if (last_rows == PANEL_ROWS)
        return;
    size_t row = (size_t)(panel + n_panels - 1) * PANEL_ROWS;
    for (size_t t = 0; t < n_tokens; t++)
        memcpy(w->y + (token + t) * w->y_stride + row, spare[(n_panels - 1) * s->tokens + t],
               last_rows * sizeof(float));
}

static void shape_run(const struct tile_shape *s, const struct walk *w, uint32_t panel, uint32_t n,
                      size_t token, size_t n_tokens) {
    for (uint32_t p = 0; p < n; p += s->panels) {
        uint32_t left = n - p;
        tile_run(s, w, panel + p, left < s->panels ? left : s->panels, token, n_tokens);
    }
}

/* Shape for `left` tokens: the largest that is at least three quarters full. */
static const struct tile_shape *shape_for(const struct tile_shape *s, size_t left) {
    while (s->tokens > 1 && 4 * left < 3 * (size_t)s->tokens)
        s++;
    return s;
}

static void batch_run(const struct tile_shape *shapes, const struct walk *w, uint32_t panel,
                      uint32_t n, size_t token, size_t n_tokens) {
    size_t full = n_tokens / shapes->tokens * shapes->tokens;
    for (uint32_t p = 0; p < n && full > 0; p += shapes->panels)
        for (size_t t = 0; t < full; t += shapes->tokens)
            shape_run(shapes, w, panel + p, n - p < shapes->panels ? n - p : shapes->panels,
                      token + t, shapes->tokens);
    for (size_t t = full; t < n_tokens;) {
        size_t left = n_tokens - t;
        const struct tile_shape *s = shape_for(shapes, left);
        size_t take = left < s->tokens ? left : s->tokens;
        shape_run(s, w, panel, n, token + t, take);
        t += take;
    }
}

void tiles_run(const struct tile_shape *shapes, const struct matrix *m, const void *acts,
               size_t n_tokens, uint32_t first, uint32_t n, float *y, size_t y_stride) {
    struct walk w = { m, acts, act_bytes(m->act, m->cols), y, y_stride };
    size_t batch = BATCH_BYTES / w.act_size / shapes->tokens * shapes->tokens;
    if (batch < 2 * (size_t)shapes->tokens)
        batch = 2 * (size_t)shapes->tokens;
    for (size_t t = 0; t < n_tokens; t += batch) {
        size_t tokens = n_tokens - t < batch ? n_tokens - t : batch;
        for (uint32_t p = 0; p < n; p += TILE_PANELS)
            batch_run(shapes, &w, first + p, n - p < TILE_PANELS ? n - p : TILE_PANELS, t, tokens);
    }
}
