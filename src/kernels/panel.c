/* panel.c - matrices: their two layouts, sizes, packing into panels, reading a row back.
 *
 * The layout of a panel is described in panel.h. Packing takes each block of the file apart
 * (levels.c) and spreads its levels over the panel in words of 4 columns, which is the unit that
 * stays together; reading a row is the exact way back and then the file's own dequantisation. */
#include "kernels/panel.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/pack_words.h"
#include "kernels/ref/blocks.h"
#include "kernels/table.h"

/* ---- the types ---- */

static const struct panel_kind kinds[] = {
    [DT_Q4_0] = { FORM_4, HEADER_D, 32, 0, 64, 64, 256, 8, false, false },
    [DT_Q4_1] = { FORM_4, HEADER_DM, 32, 0, 32, 64, 256, 0, true, false },
    [DT_Q5_0] = { FORM_4_1, HEADER_D, 32, 0, 64, 64, 320, 16, false, false },
    [DT_Q5_1] = { FORM_4_1, HEADER_DM, 32, 0, 32, 64, 320, 0, true, false },
    [DT_Q8_0] = { FORM_8, HEADER_D, 32, 0, 64, 64, 512, 128, false, false },
    [DT_IQ4_NL] = { FORM_4, HEADER_D, 32, 0, 64, 64, 256, 128, false, true },
    [DT_Q2_K] = { FORM_2, HEADER_Q2, 256, 16, 256, 320, 128, 0, true, false },
    [DT_Q3_K] = { FORM_2_1, HEADER_Q3, 256, 16, 256, 256, 192, 4, false, false },
    [DT_Q4_K] = { FORM_4, HEADER_K4, 256, 32, 256, 256, 256, 0, true, false },
    [DT_Q5_K] = { FORM_4_1, HEADER_K4, 256, 32, 256, 256, 320, 0, true, false },
    [DT_Q6_K] = { FORM_4_2, HEADER_I8, 256, 16, 256, 320, 384, 32, false, false },
    [DT_IQ4_XS] = { FORM_4, HEADER_I8, 256, 32, 256, 192, 256, 128, false, true },
};

const struct panel_kind *panel_kind(enum dtype t) {
    if ((size_t)t >= ARRAY_LEN(kinds) || kinds[t].block == 0)
        return NULL;
    return &kinds[t];
}

static size_t unit_bytes(const struct panel_kind *k) {
    return k->header_bytes + (size_t)k->unit_cols / CHUNK * k->chunk_bytes;
}

/* Bytes of one panel; false: no such layout, or cols do not fit the blocks, or overflow. */
static bool panel_size(enum dtype t, uint32_t cols, size_t *out) {
    const struct panel_kind *k = panel_kind(t);
    size_t n;
    if (cols == 0)
        return false;
    if (k) {
        if (cols % k->block)
            return false;
        size_t rest = cols % k->unit_cols;
        if (!mul_ok(cols / k->unit_cols, unit_bytes(k), &n))
            return false;
        return add_ok(n, rest ? k->header_bytes + rest / CHUNK * k->chunk_bytes : 0, out);
    }
    if (t == DT_F32)
        return mul_ok(cols, VEC, out);
    if (t == DT_F16 || t == DT_BF16)
        return mul_ok(((size_t)cols + 1) / 2, VEC, out);
    return false;
}

/* ---- one chunk of one row: 32 levels as 8 words of 4 columns ---- */

#define EACH(x) ((uint32_t)(x)*0x01010101u) /* the same byte four times */

static uint32_t word_get(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}

static void word_or(uint8_t *p, uint32_t w) {
    w |= word_get(p);
    memcpy(p, &w, 4);
}

/* Spreads `bits` bits of each level, from bit `place` up, over vectors: 8 / bits groups share one. */
static void plane_put(uint8_t *vec, unsigned r, unsigned bits, unsigned place, const uint8_t *q) {
    unsigned per = 8 / bits;
    for (unsigned g = 0; g < CHUNK / 4; g++) {
        uint32_t w = word_get(q + 4 * g) >> place & EACH((1u << bits) - 1);
        word_or(vec + VEC * (g / per) + 4 * r, w << (g % per * bits));
    }
}

static void plane_get(const uint8_t *vec, unsigned r, unsigned bits, unsigned place, uint8_t *q) {
    unsigned per = 8 / bits;
    for (unsigned g = 0; g < CHUNK / 4; g++) {
        uint32_t w = word_get(vec + VEC * (g / per) + 4 * r) >> (g % per * bits);
        word_or(q + 4 * g, (w & EACH((1u << bits) - 1)) << place);
    }
}

/* The planes of a form: bits per level in the low one and in the high one. */
static const uint8_t form_bits[][2] = {
    [FORM_8] = { 8, 0 },   [FORM_4] = { 4, 0 }, [FORM_4_1] = { 4, 1 },
    [FORM_4_2] = { 4, 2 }, [FORM_2] = { 2, 0 }, [FORM_2_1] = { 2, 1 },
};

static void chunk_put(unsigned form, uint8_t *chunk, unsigned r, const uint8_t *q) {
    unsigned low = form_bits[form][0], high = form_bits[form][1];
    plane_put(chunk, r, low, 0, q);
    if (high)
        plane_put(chunk + low * VEC, r, high, low, q);
}

static void chunk_get(unsigned form, const uint8_t *chunk, unsigned r, uint8_t *q) {
    unsigned low = form_bits[form][0], high = form_bits[form][1];
    memset(q, 0, CHUNK);
    plane_get(chunk, r, low, 0, q);
    if (high)
        plane_get(chunk + low * VEC, r, high, low, q);
}

/* ---- headers ---- */

static unsigned scale_place(unsigned j, unsigned r) {
    return 16 * j + r;
}

static unsigned min_place(unsigned j, unsigned r) {
    return 32 * (j / 2) + 2 * r + j % 2;
}

/* Number v (6 bits) at `place` of set 0 (A) or 1 (B). */
static void six_put(uint8_t *six, unsigned set, unsigned place, unsigned v) {
    uint8_t *low = six + place, *high = six + 128 + place % 64;
    *low = (uint8_t)(*low | (v & 15) << (4 * set));
    *high = (uint8_t)(*high | v >> 4 << (4 * set + place / 64 * 2));
}

static unsigned six_get(const uint8_t *six, unsigned set, unsigned place) {
    unsigned low = (unsigned)(six[place] >> (4 * set)) & 15u;
    unsigned high = (unsigned)(six[128 + place % 64] >> (4 * set + place / 64 * 2)) & 3u;
    return low | high << 4;
}

static void header_put(const struct panel_kind *k, uint8_t *h, size_t b, unsigned r,
                       const struct levels *l) {
    if (k->header == HEADER_D)
        h += b % 2 * 32;
    put_u16(h + 2 * r, l->d);
    if (k->min)
        put_u16(h + 32 + 2 * r, l->m);
    switch (k->header) {
    case HEADER_K4:
        for (unsigned j = 0; j < 8; j++) {
            six_put(h + 64, 0, scale_place(j, r), (unsigned)l->scale[j]);
            six_put(h + 64, 1, min_place(j, r), l->min[j]);
        }
        break;
    case HEADER_Q2:
        for (unsigned j = 0; j < 16; j++) {
            uint8_t *s = h + 64 + scale_place(j, r), *m = h + 64 + min_place(j, r);
            *s = (uint8_t)(*s | l->scale[j]);
            *m = (uint8_t)(*m | l->min[j] << 4);
        }
        break;
    case HEADER_Q3:
        for (unsigned j = 0; j < 16; j++)
            six_put(h + 32, j / 8, scale_place(j % 8, r), (unsigned)(l->scale[j] + 32));
        break;
    case HEADER_I8:
        for (unsigned j = 0; j < SUPER / k->sub; j++)
            h[32 + scale_place(j, r)] = (uint8_t)l->scale[j];
        break;
    default: /* HEADER_D, HEADER_DM: nothing more */
        break;
    }
}

static void header_get(const struct panel_kind *k, const uint8_t *h, size_t b, unsigned r,
                       struct levels *l) {
    if (k->header == HEADER_D)
        h += b % 2 * 32;
    l->d = get_u16(h + 2 * r);
    if (k->min)
        l->m = get_u16(h + 32 + 2 * r);
    switch (k->header) {
    case HEADER_K4:
        for (unsigned j = 0; j < 8; j++) {
            l->scale[j] = (int8_t)six_get(h + 64, 0, scale_place(j, r));
            l->min[j] = (uint8_t)six_get(h + 64, 1, min_place(j, r));
        }
        break;
    case HEADER_Q2:
        for (unsigned j = 0; j < 16; j++) {
            l->scale[j] = (int8_t)(h[64 + scale_place(j, r)] & 15);
            l->min[j] = h[64 + min_place(j, r)] >> 4;
        }
        break;
    case HEADER_Q3:
        for (unsigned j = 0; j < 16; j++)
            l->scale[j] = (int8_t)((int)six_get(h + 32, j / 8, scale_place(j % 8, r)) - 32);
        break;
    case HEADER_I8:
        for (unsigned j = 0; j < SUPER / k->sub; j++)
            l->scale[j] = (int8_t)h[32 + scale_place(j, r)];
        break;
    default:
        break;
    }
}

/* ---- one block of one row ---- */

/* Offset of the unit that holds block b, and of the block's first chunk. */
static size_t unit_offset(const struct panel_kind *k, size_t b, size_t *chunk) {
    size_t per_unit = k->unit_cols / k->block;
    size_t unit = b / per_unit * unit_bytes(k);
    *chunk = unit + k->header_bytes + b % per_unit * (k->block / CHUNK) * k->chunk_bytes;
    return unit;
}

void panel_put(const struct panel_kind *k, uint8_t *panel, size_t b, unsigned r,
               const struct levels *l) {
    size_t at;
    header_put(k, panel + unit_offset(k, b, &at), b, r, l);
    for (unsigned c = 0; c < k->block; c += CHUNK, at += k->chunk_bytes)
        chunk_put(k->form, panel + at, r, l->q + c);
}

void panel_get(const struct panel_kind *k, const uint8_t *panel, size_t b, unsigned r,
               struct levels *l) {
    size_t at;
    header_get(k, panel + unit_offset(k, b, &at), b, r, l);
    for (unsigned c = 0; c < k->block; c += CHUNK, at += k->chunk_bytes)
        chunk_get(k->form, panel + at, r, l->q + c);
}

/* ---- float panels ---- */

/* Place of element (column c, row r) in a float panel. */
static size_t float_place(enum dtype t, size_t c, unsigned r) {
    if (t == DT_F32)
        return VEC * c + 4 * r;
    if (t == DT_F16)
        return VEC / 2 * c + 2 * r;
    return VEC * (c / 2) + 4 * r + c % 2 * 2;
}

static void float_row_put(enum dtype t, const uint8_t *src, uint32_t cols, unsigned r,
                          uint8_t *panel) {
    size_t size = t == DT_F32 ? 4 : 2;
    for (uint32_t c = 0; c < cols; c++)
        memcpy(panel + float_place(t, c, r), src + size * c, size);
}

static void float_row_get(enum dtype t, const uint8_t *panel, uint32_t cols, unsigned r,
                          float *out) {
    size_t size = t == DT_F32 ? 4 : 2;
    for (uint32_t c = 0; c < cols; c++) {
        uint8_t element[4];
        memcpy(element, panel + float_place(t, c, r), size);
        dequant(t, element, out + c, 1);
    }
}

/* ---- matrices ---- */

bool matrix_can_pack(const struct kernels *k, enum dtype t, uint32_t rows, uint32_t cols) {
    struct matrix m;
    return matrix_panel(k, &m, t, rows, cols);
}

bool matrix_plain(struct matrix *m, enum dtype t, uint32_t rows, uint32_t cols,
                  const uint8_t *data) {
    size_t row, all;
    if (!dtype_supported(t) || rows == 0 || cols == 0 || !dtype_row_bytes(t, cols, &row) ||
        !mul_ok(row, rows, &all))
        return false;
    *m = (struct matrix){ .dtype = t,
                          .layout = MATRIX_PLAIN,
                          .act = ACT_F32,
                          .rows = rows,
                          .cols = cols,
                          .data = data,
                          .row_bytes = row };
    return true;
}

static enum act panel_act(enum dtype t) {
    const struct panel_kind *k = panel_kind(t);
    if (k)
        return k->block == BLOCK ? ACT_Q8_32 : ACT_Q8_256;
    return t == DT_BF16 ? ACT_BF16 : ACT_F32;
}

bool matrix_panel(const struct kernels *k, struct matrix *m, enum dtype t, uint32_t rows,
                  uint32_t cols) {
    size_t panel, all;
    if (t >= DT_COUNT || !k->matmul->panel[t] || rows == 0 || rows > UINT32_MAX - PANEL_ROWS)
        return false;
    uint32_t panels = (rows + PANEL_ROWS - 1) / PANEL_ROWS;
    if (!panel_size(t, cols, &panel) || !mul_ok(panel, panels, &all))
        return false;
    *m = (struct matrix){ .dtype = t,
                          .layout = MATRIX_PANEL,
                          .act = panel_act(t),
                          .rows = rows,
                          .cols = cols,
                          .panel_bytes = panel };
    return true;
}

uint32_t matrix_layout(const struct kernels *k) {
    (void)k; /* one layout for all instruction sets so far */
    return 1;
}

size_t matrix_bytes(const struct matrix *m) {
    if (m->layout == MATRIX_PLAIN)
        return m->row_bytes * m->rows;
    return m->panel_bytes * matrix_panels(m);
}

uint32_t matrix_panels(const struct matrix *m) {
    return m->rows / PANEL_ROWS + (m->rows % PANEL_ROWS != 0);
}

/* Blocks outside, rows inside: the 16 rows are read as 16 streams and the unit that is being
 * written stays in the first-level cache. */
static void pack_blocks(const struct matrix *from, const uint8_t *const *rows, unsigned n_rows,
                        uint8_t *panel) {
    const struct panel_kind *kind = panel_kind(from->dtype);
    size_t block_bytes = dtype_info(from->dtype)->block_bytes;
    struct levels l;
    for (size_t b = 0; b < from->cols / kind->block; b++)
        for (unsigned r = 0; r < n_rows; r++) {
            levels_read(from->dtype, rows[r] + b * block_bytes, &l);
            panel_put(kind, panel, b, r, &l);
        }
}

void matrix_pack(const struct kernels *k, const struct matrix *from, struct matrix *to,
                 uint8_t *to_data, uint32_t first, uint32_t n, const uint32_t *row_map) {
    bool plain = k->isa == ISA_LEVEL_REF; /* the layout is one; the reference packs it step by step */
    for (uint32_t p = first; p < first + n; p++) {
        uint8_t *panel = to_data + p * to->panel_bytes;
        unsigned n_rows = panel_rows(to, p);
        const uint8_t *rows[PANEL_ROWS];
        for (unsigned r = 0; r < n_rows; r++) {
            uint32_t row = p * PANEL_ROWS + r;
            rows[r] = from->data + (row_map ? row_map[row] : row) * from->row_bytes;
        }
        if (!plain) {
            pack_words(from, rows, n_rows, to->panel_bytes, panel);
            continue;
        }
        memset(panel, 0, to->panel_bytes);
        if (panel_kind(from->dtype))
            pack_blocks(from, rows, n_rows, panel);
        else
            for (unsigned r = 0; r < n_rows; r++)
                float_row_put(from->dtype, rows[r], from->cols, r, panel);
    }
}

void matrix_row(const struct kernels *k, const struct matrix *m, uint32_t row, float *out) {
    (void)k;
    if (m->layout == MATRIX_PLAIN) {
        dequant(m->dtype, m->data + row * m->row_bytes, out, m->cols);
        return;
    }
    const struct panel_kind *kind = panel_kind(m->dtype);
    const uint8_t *panel = m->data + row / PANEL_ROWS * m->panel_bytes;
    unsigned r = row % PANEL_ROWS;
    if (!kind) {
        float_row_get(m->dtype, panel, m->cols, r, out);
        return;
    }
    struct levels l;
    uint8_t block[256];
    for (size_t b = 0; b < m->cols / kind->block; b++) {
        panel_get(kind, panel, b, r, &l);
        levels_write(m->dtype, &l, block);
        dequant(m->dtype, block, out + b * kind->block, kind->block);
    }
}
