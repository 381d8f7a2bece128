/* matmul_amx.c - products on tile registers (AMX): integers with tdpbsud and tdpbssd, BF16 with
 * tdpbf16ps.
 *
 * A tile holds 16 rows of 64 bytes. C (16 tokens x 16 rows of the matrix, 32 bits) += A (16 tokens
 * x 64 bytes of columns) * B (16 groups of 4 bytes x 16 rows). A row of B is a group of a panel
 * (panel.h), and A is read straight from the prepared activations, one token per row.
 *
 * Integers: a unit of 256 columns of GROUP panels is unpacked into a buffer and then used by all
 * tokens, so signs and scales are put in there, once:
 *   blocks of 32   weight = level - offset as int8. Every block has scales of its own, so a product
 *                  runs over 32 columns; its sums are stored and scaled in vector registers while
 *                  the next product is under way.
 *   blocks of 256  scale * weight of the sub-block, 14 bits, as 256 * high + low, low unsigned.
 *                  Two products over all 256 columns, sum = 256 * (sum of high) + (sum of low), in
 *                  place of one product and one 32-bit multiplication per sub-block.
 * All of this is exact, the float steps are ref/matmul.c's, y is the accumulator between units: the
 * bits are those of every other instruction set. Fewer than FEW tokens take the VNNI code.
 *
 * BF16: tdpbf16ps sums the even and the odd columns of 32 apart, each in its own chain, adds the two
 * and then the sum to C, all rounded to nearest even, denormals as zero. vdpbf16ps has another order,
 * so the bits would differ; here every number of tokens goes through tdpbf16ps, in steps of 32
 * columns from column 0, and an output depends on its token and row alone.
 *
 * Sources: Intel 64 and IA-32 Software Developer's Manual, volume 1 chapter 18 (tiles), volume 2
 * (LDTILECFG, TDPBSSD, TDPBSUD, TDPBF16PS, VDPBF16PS). The tests run this file on a model of the
 * instructions (tests/kernels/amx_model.h). Each call configures the tiles of its thread and
 * releases them at its end. */
#include "kernels/x86/matmul_x86.h"

#ifdef HAVE_AMX_KERNELS
#include "kernels/ref/matmul.h"
#include "kernels/x86/unpack_avx512.h"

#define INLINE_AMX ATTR_INLINE ISA_AMX

#define UNIT 256  /* columns unpacked at once */
#define GROUP 4   /* panels unpacked at once: with 32 tokens' activations they fill an L1 cache */
#define WINDOW 16 /* panels that meet one unit's activations before the next unit */
#define BATCH 512 /* tokens: one unit of theirs and the outputs of a window stay in an L2 cache */
#define HALF 16   /* tokens in a tile */
#define PAIR 32   /* tokens in two tiles */
#define FEW 8     /* tokens below which the work of unpacking does not pay */
#define TILE_BYTES 1024

/* ---- configuration ---- */

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct tile_config) == 64, "operand of ldtilecfg");

/* Tile i: `rows` rows of `bytes`; none of both for a tile that is not used. */
static void shape(struct tile_config *c, unsigned i, unsigned rows, unsigned bytes) {
    c->rows[i] = (uint8_t)rows;
    c->row_bytes[i] = (uint16_t)(rows ? bytes : 0);
}

/* Also clears the tiles. */
INLINE_AMX void configure(const struct tile_config *c) {
    COMPILER_BARRIER(); /* all of *c must be in memory */
    _tile_loadconfig(c);
}

/* 0, 1: sums; 2, 3: activations of `tokens` tokens, 32 columns; 4, 5: weights. */
static ISA_AMX void configure_32(unsigned tokens) {
    struct tile_config c = { .palette = 1 };
    for (unsigned i = 0; i < 2; i++) {
        shape(&c, i, tokens, 64);
        shape(&c, 2 + i, tokens, CHUNK);
        shape(&c, 4 + i, CHUNK / 4, 64);
    }
    configure(&c);
}

/* 0, 1: sums of the first 16 of `tokens` tokens with the weights in 6, 7; 2, 3: of the others;
 * 4, 5: activations of the first and of the others. */
static ISA_AMX void configure_pair(unsigned tokens) {
    unsigned first = tokens < HALF ? tokens : HALF, others = tokens - first;
    struct tile_config c = { .palette = 1 };
    for (unsigned i = 0; i < 2; i++) {
        shape(&c, i, first, 64);
        shape(&c, 2 + i, others, 64);
        shape(&c, 6 + i, 16, 64);
    }
    shape(&c, 4, first, 64);
    shape(&c, 5, others, 64);
    configure(&c);
}

/* ---- one call ---- */

struct call {
    const struct matrix *m;
    const uint8_t *acts; /* row of token 0 */
    size_t act_size, n_tokens;
    uint32_t first, n; /* panels */
    float *y;          /* [n_tokens, y_stride] */
    size_t y_stride;
};

/* A step through the product: some panels and tokens, one unit of the columns. */
struct place {
    uint32_t panel, n_panels;
    size_t token, n_tokens;
    size_t unit;
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Goes through the n panels of a window, `step` at a time. False at its end. */
static bool next_panels(const struct call *c, uint32_t window, uint32_t step, struct place *at) {
    at->panel += at->n_panels;
    uint32_t end = (uint32_t)least(c->n, (size_t)window + WINDOW) + c->first;
    at->n_panels = (uint32_t)least(step, end - at->panel);
    return at->n_panels > 0;
}

/* Outputs of one panel for a run of tokens. */
struct outputs {
    float *y; /* [tokens, stride] */
    size_t stride;
    __mmask16 rows; /* that exist */
};

INLINE struct outputs outputs_of(const struct call *c, uint32_t panel, size_t token) {
    float *y = c->y + token * c->y_stride + (size_t)panel * PANEL_ROWS;
    return (struct outputs){ y, c->y_stride, (__mmask16)((1u << panel_rows(c->m, panel)) - 1) };
}

/* n accumulators: zero in the first unit, then what the last unit left. Of tokens that do not exist
 * the last one is taken. */
INLINE void outputs_load(const struct outputs *o, bool first, size_t token, size_t end, int n,
                         __m512 *acc) {
    UNROLL
    for (int t = 0; t < n; t++)
        acc[t] = first ? _mm512_setzero_ps()
                       : _mm512_maskz_loadu_ps(o->rows, o->y + least(token + (size_t)t, end - 1) *
                                                                   o->stride);
}

INLINE void outputs_store(const struct outputs *o, size_t token, size_t end, int n,
                          const __m512 *acc) {
    UNROLL
    for (int t = 0; t < n; t++)
        if (token + (size_t)t < end)
            _mm512_mask_storeu_ps(o->y + (token + (size_t)t) * o->stride, o->rows, acc[t]);
}

/* ---- blocks of 32 columns ---- */

#define BLOCKS (UNIT / 32)

struct unpacked_32 {
    _Alignas(64) int8_t weight[UNIT / 4][VEC];
    float d[BLOCKS][PANEL_ROWS], m[BLOCKS][PANEL_ROWS];
};

/* The float factors of 16 tokens, side by side; zero for tokens that do not exist. */
struct factors {
    float d[BLOCKS][HALF], dsum[BLOCKS][HALF];
};

/* n blocks of a panel, from block `from` on. */
INLINE void unpack_32(const struct traits k, const uint8_t *panel, size_t from, size_t n,
                      struct unpacked_32 *w) {
    const __m512i offset = _mm512_set1_epi8((char)k.offset);
    for (size_t b = 0; b < n; b++) {
        size_t block = from + b, odd = k.header == HEADER_D ? block % 2 : 0;
        size_t chunks = block * (size_t)k.chunk_bytes;
        /* the headers before this block, its own included */
        size_t headers = VEC * (k.header == HEADER_D ? block / 2 + 1 : block + 1);
        const uint8_t *chunk = panel + chunks + headers;
        const uint8_t *header = chunk - VEC - odd * (size_t)k.chunk_bytes;
        UNROLL
        for (int g = 0; g < 8; g++) {
            __m512i v = group(k.form, chunk, g);
            if (k.iq4)
                v = iq4_values(v);
            _mm512_store_si512(w->weight[8 * b + (size_t)g], _mm512_sub_epi8(v, offset));
        }
        _mm512_store_ps(w->d[b], load_f16(header + 32 * odd));
        if (k.min)
            _mm512_store_ps(w->m[b], load_f16(header + 32));
    }
}

INLINE void factors_read(bool min, const struct call *c, const struct place *at, size_t n,
                         struct factors *f) {
    const uint8_t *acts =
        c->acts + at->token * c->act_size + at->unit * BLOCKS * sizeof(struct act_32);
    if (at->n_tokens < HALF)
        memset(f, 0, sizeof *f);
    for (size_t t = 0; t < at->n_tokens; t++, acts += c->act_size) {
        const struct act_32 *a = (const void *)acts;
        for (size_t b = 0; b < n; b++) {
            f->d[b][t] = a[b].d;
            if (min)
                f->dsum[b][t] = a[b].dsum;
        }
    }
}

/* sum += activations * weights of one block, with tiles sum, a, b */
#define MULTIPLY_32(sum, a, b, acts, act_size, weights)                                            \
    do {                                                                                           \
        _tile_loadd(a, acts, act_size);                                                            \
        _tile_loadd(b, weights, VEC);                                                              \
        _tile_zero(sum);                                                                           \
        _tile_dpbssd(sum, a, b);                                                                   \
    } while (0)

/* One panel's n blocks for up to 16 tokens. */
INLINE_AMX void product_32(const struct traits k, const struct call *c, const struct place *at,
                           size_t n, const struct unpacked_32 *w, const struct factors *f,
                           int32_t (*sums)[HALF][PANEL_ROWS], const struct outputs *o) {
    const uint8_t *acts =
        c->acts + at->token * c->act_size + at->unit * BLOCKS * sizeof(struct act_32);
    __m512 acc[HALF];
    outputs_load(o, at->unit == 0, 0, at->n_tokens, HALF, acc);
    for (size_t b = 0; b <= n; b++) {
        const uint8_t *a = acts + b * sizeof(struct act_32);
        if (b < n && b % 2 == 0)
            MULTIPLY_32(0, 2, 4, a, c->act_size, w->weight[8 * b]);
        else if (b < n)
            MULTIPLY_32(1, 3, 5, a, c->act_size, w->weight[8 * b]);
        if (b > 0) { /* the block before, while the tiles work */
            __m512 d = _mm512_load_ps(w->d[b - 1]);
            UNROLL
            for (int t = 0; t < HALF; t++) {
                __m512i sum = _mm512_load_si512((const void *)sums[(b - 1) % 2][t]);
                acc[t] = scaled(sum, d, f->d[b - 1][t], acc[t]);
                if (k.min)
                    acc[t] = _mm512_fmadd_ps(_mm512_load_ps(w->m[b - 1]),
                                             _mm512_set1_ps(f->dsum[b - 1][t]), acc[t]);
            }
        }
        if (b < n && b % 2 == 0)
            _tile_stored(0, sums[0], VEC);
        else if (b < n)
            _tile_stored(1, sums[1], VEC);
    }
    outputs_store(o, 0, at->n_tokens, HALF, acc);
}

/* The tokens of one batch with the panels of one group. */
INLINE_AMX void group_32(const struct traits k, const struct call *c, struct place at,
                         unsigned *configured) {
    struct unpacked_32 w[GROUP];
    struct factors f;
    _Alignas(64) int32_t sums[2][HALF][PANEL_ROWS];
    size_t n = least(BLOCKS, c->m->cols / 32 - at.unit * BLOCKS), end = at.token + at.n_tokens;
    memset(sums, 0, sizeof sums); /* rows of tokens that do not exist are never stored */
    for (uint32_t p = 0; p < at.n_panels; p++)
        unpack_32(k, c->m->data + (at.panel + p) * c->m->panel_bytes, at.unit * BLOCKS, n, w + p);
    COMPILER_BARRIER(); /* the tiles read what was written */
    for (; at.token < end; at.token += at.n_tokens) {
        at.n_tokens = least(HALF, end - at.token);
        factors_read(k.min, c, &at, n, &f);
        if (*configured != at.n_tokens)
            configure_32(*configured = (unsigned)at.n_tokens);
        for (uint32_t p = 0; p < at.n_panels; p++) {
            struct outputs o = outputs_of(c, at.panel + p, at.token);
            product_32(k, c, &at, n, w + p, &f, sums, &o);
        }
    }
}

/* ---- blocks of 256 columns ---- */

struct unpacked_256 {
    _Alignas(64) uint8_t low[UNIT / 4][VEC];
    int8_t high[UNIT / 4][VEC];
    struct unit_scales scales;
    const uint8_t *unit;
};

/* Q2_K: scale * weight is at most 45 and needs no high byte. */
#define WIDE(k) ((k).header != HEADER_Q2)

INLINE void unpack_256(const struct traits k, const uint8_t *unit, struct unpacked_256 *w) {
    const __m512i low_bytes = _mm512_set1_epi16(255);
    const int halves = 32 / k.sub, per = k.sub / 4;
    w->unit = unit;
    scales_read(k.header, unit, &w->scales);
    for (int c = 0; c < 8; c++) {
        const uint8_t *chunk = unit + k.header_bytes + c * k.chunk_bytes;
        UNROLL
        for (int h = 0; h < halves; h++) {
            __m512i s = scale_of(k.header, unit, &w->scales, (size_t)(c * halves + h));
            s = _mm512_mask_blend_epi16(_cvtu32_mask32(0xAAAAAAAAu), s, _mm512_slli_epi32(s, 16));
            const __m512i base = _mm512_mullo_epi16(s, _mm512_set1_epi16((short)k.offset));
            UNROLL
            for (int g = h * per; g < (h + 1) * per; g++) {
                __m512i v = group(k.form, chunk, g);
                if (k.iq4)
                    v = iq4_values(v);
                __m512i even = _mm512_mullo_epi16(_mm512_and_si512(v, low_bytes), s);
                __m512i odd = _mm512_mullo_epi16(_mm512_srli_epi16(v, 8), s);
                even = _mm512_sub_epi16(even, base);
                odd = _mm512_sub_epi16(odd, base);
                _mm512_store_si512(
                    w->low[8 * c + g],
                    _mm512_or_si512(_mm512_and_si512(even, low_bytes), _mm512_slli_epi16(odd, 8)));
                if (WIDE(k))
                    _mm512_store_si512(w->high[8 * c + g],
                                       _mm512_or_si512(_mm512_srli_epi16(even, 8),
                                                       _mm512_andnot_si512(low_bytes, odd)));
            }
        }
    }
}

struct sums_256 {
    _Alignas(64) int32_t low[HALF][PANEL_ROWS];
    int32_t high[HALF][PANEL_ROWS];
};

/* The products of one panel and up to 32 tokens whose activations start at acts. */
INLINE_AMX void multiply_256(bool wide, bool two, const struct unpacked_256 *w, const uint8_t *acts,
                             size_t act_size) {
    _tile_zero(0);
    if (wide)
        _tile_zero(1);
    if (two)
        _tile_zero(2);
    if (two && wide)
        _tile_zero(3);
    for (size_t i = 0; i < UNIT / 64; i++) {
        _tile_loadd(4, acts + 64 * i, act_size);
        _tile_loadd(6, w->low[16 * i], VEC);
        _tile_dpbsud(0, 4, 6);
        if (wide) {
            _tile_loadd(7, w->high[16 * i], VEC);
            _tile_dpbssd(1, 4, 7);
        }
        if (two) {
            _tile_loadd(5, acts + HALF * act_size + 64 * i, act_size);
            _tile_dpbsud(2, 5, 6);
        }
        if (two && wide)
            _tile_dpbssd(3, 5, 7);
    }
}

INLINE_AMX void store_256(bool wide, bool two, struct sums_256 *s) {
    _tile_stored(0, s[0].low, VEC);
    if (wide)
        _tile_stored(1, s[0].high, VEC);
    if (two)
        _tile_stored(2, s[1].low, VEC);
    if (two && wide)
        _tile_stored(3, s[1].high, VEC);
}

#define STEP 8 /* tokens finished side by side */

/* From integer sums to outputs. */
INLINE void finish_256(const struct traits k, const struct call *c, const struct place *at,
                       const struct unpacked_256 *w, const struct sums_256 *s,
                       const struct outputs *o) {
    const uint8_t *acts = c->acts + at->token * c->act_size + at->unit * sizeof(struct act_256);
    __m512 d = load_f16(w->unit);
    for (size_t from = 0; from < at->n_tokens; from += STEP, s += from == HALF) {
        const struct act_256 *a[STEP];
        __m512 acc[STEP];
        outputs_load(o, at->unit == 0, from, at->n_tokens, STEP, acc);
        UNROLL
        for (int t = 0; t < STEP; t++) {
            size_t row = (from + (size_t)t) % HALF, last = at->n_tokens - 1;
            a[t] = (const void *)(acts + least(from + (size_t)t, last) * c->act_size);
            __m512i sum = _mm512_load_si512((const void *)s->low[row]);
            if (WIDE(k))
                sum = _mm512_add_epi32(
                    sum, _mm512_slli_epi32(_mm512_load_si512((const void *)s->high[row]), 8));
            acc[t] = scaled(sum, d, a[t]->d, acc[t]);
        }
        if (k.min)
            add_minima(k, STEP, w->unit, &w->scales, a, acc);
        outputs_store(o, from, at->n_tokens, STEP, acc);
    }
}

INLINE_AMX void group_256(const struct traits k, const struct call *c, struct place at,
                          unsigned *configured) {
    struct unpacked_256 w[GROUP];
    struct sums_256 sums[2];
    struct outputs before = { 0 };
    size_t end = at.token + at.n_tokens;
    size_t unit_bytes = (size_t)(k.header_bytes + 8 * k.chunk_bytes);
    memset(sums, 0, sizeof sums); /* rows of tokens that do not exist are never stored */
    for (uint32_t p = 0; p < at.n_panels; p++)
        unpack_256(k, c->m->data + (at.panel + p) * c->m->panel_bytes + at.unit * unit_bytes,
                   w + p);
    COMPILER_BARRIER(); /* the tiles read what was written */
    for (; at.token < end; at.token += at.n_tokens) {
        at.n_tokens = least(PAIR, end - at.token);
        if (*configured != at.n_tokens)
            configure_pair(*configured = (unsigned)at.n_tokens);
        bool two = at.n_tokens > HALF;
        const uint8_t *acts = c->acts + at.token * c->act_size + at.unit * sizeof(struct act_256);
        for (uint32_t p = 0; p <= at.n_panels; p++) {
            if (p < at.n_panels)
                multiply_256(WIDE(k), two, w + p, acts, c->act_size);
            if (p > 0) /* the panel before, while the tiles work */
                finish_256(k, c, &at, w + p - 1, sums, &before);
            if (p < at.n_panels) {
                store_256(WIDE(k), two, sums);
                before = outputs_of(c, at.panel + p, at.token);
            }
        }
    }
}

/* ---- the integer types ---- */

/* All of a call: batches of tokens, windows of panels, units of columns, groups of panels. */
INLINE_AMX void run(const struct traits k, const struct call *c) {
    unsigned configured = 0; /* tokens that the tiles are set up for */
    size_t units = ((size_t)c->m->cols + UNIT - 1) / UNIT;
    for (size_t token = 0; token < c->n_tokens; token += BATCH)
        for (uint32_t window = 0; window < c->n; window += WINDOW)
            for (size_t unit = 0; unit < units; unit++) {
                struct place at = { c->first + window, 0, token, least(BATCH, c->n_tokens - token),
                                    unit };
                while (next_panels(c, window, GROUP, &at))
                    if (k.sub)
                        group_256(k, c, at, &configured);
                    else
                        group_32(k, c, at, &configured);
            }
    _tile_release();
}

/* { form, header, chunk_bytes, header_bytes, sub, offset, min, iq4 } as in panel.c */
#define MATMUL(type, ...)                                                                          \
    static ISA_AMX void matmul_##type##_amx(const struct matrix *m, const void *acts,              \
                                            size_t n_tokens, uint32_t first, uint32_t n, float *y, \
                                            size_t y_stride, void *scratch) {                      \
        static const struct traits traits = { __VA_ARGS__ };                                       \
        struct call c = { m, acts, act_bytes(m->act, m->cols), n_tokens, first, n, y, y_stride };  \
        if (n_tokens < FEW)                                                                        \
            matmul_##type##_avx512(m, acts, n_tokens, first, n, y, y_stride, scratch);             \
        else                                                                                       \
            run(traits, &c);                                                                       \
    }

MATMUL(q8_0, FORM_8, HEADER_D, 512, 64, 0, 128, false, false)
MATMUL(q4_0, FORM_4, HEADER_D, 256, 64, 0, 8, false, false)
MATMUL(q4_1, FORM_4, HEADER_DM, 256, 64, 0, 0, true, false)
MATMUL(q5_0, FORM_4_1, HEADER_D, 320, 64, 0, 16, false, false)
MATMUL(q5_1, FORM_4_1, HEADER_DM, 320, 64, 0, 0, true, false)
MATMUL(iq4_nl, FORM_4, HEADER_D, 256, 64, 0, 128, false, true)
MATMUL(q2_k, FORM_2, HEADER_Q2, 128, 320, 16, 0, true, false)
MATMUL(q3_k, FORM_2_1, HEADER_Q3, 192, 256, 16, 4, false, false)
MATMUL(q4_k, FORM_4, HEADER_K4, 256, 256, 32, 0, true, false)
MATMUL(q5_k, FORM_4_1, HEADER_K4, 320, 256, 32, 0, true, false)
MATMUL(q6_k, FORM_4_2, HEADER_I8, 384, 320, 16, 32, false, false)
MATMUL(iq4_xs, FORM_4, HEADER_I8, 256, 192, 32, 128, false, true)

/* ---- BF16 ---- */

#define STEP_GROUPS 16 /* pairs of columns in one product: a tile of weights */

/* Up to 2 panels times up to 32 tokens. */
struct quad {
    const uint8_t *acts, *panels[2];
    size_t act_size;
    float *c[2]; /* accumulators of each panel: [tokens, c_bytes / 4] */
    size_t c_bytes[2];
};

INLINE_AMX void quad_load(bool panels, bool tokens, const struct quad *q, bool first) {
    if (first) {
        _tile_zero(0);
        if (panels)
            _tile_zero(1);
        if (tokens)
            _tile_zero(2);
        if (panels && tokens)
            _tile_zero(3);
        return;
    }
    _tile_loadd(0, q->c[0], q->c_bytes[0]);
    if (panels)
        _tile_loadd(1, q->c[1], q->c_bytes[1]);
    if (tokens)
        _tile_loadd(2, (uint8_t *)q->c[0] + HALF * q->c_bytes[0], q->c_bytes[0]);
    if (panels && tokens)
        _tile_loadd(3, (uint8_t *)q->c[1] + HALF * q->c_bytes[1], q->c_bytes[1]);
}

INLINE_AMX void quad_store(bool panels, bool tokens, const struct quad *q) {
    _tile_stored(0, q->c[0], q->c_bytes[0]);
    if (panels)
        _tile_stored(1, q->c[1], q->c_bytes[1]);
    if (tokens)
        _tile_stored(2, (uint8_t *)q->c[0] + HALF * q->c_bytes[0], q->c_bytes[0]);
    if (panels && tokens)
        _tile_stored(3, (uint8_t *)q->c[1] + HALF * q->c_bytes[1], q->c_bytes[1]);
}

/* n steps of 32 columns. */
INLINE_AMX void quad_steps(bool panels, bool tokens, const struct quad *q, size_t n) {
    for (size_t i = 0; i < n; i++) {
        _tile_loadd(4, q->acts + 4 * STEP_GROUPS * i, q->act_size);
        _tile_loadd(6, q->panels[0] + TILE_BYTES * i, VEC);
        _tile_dpbf16ps(0, 4, 6);
        if (panels) {
            _tile_loadd(7, q->panels[1] + TILE_BYTES * i, VEC);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (tokens) {
            _tile_loadd(5, q->acts + HALF * q->act_size + 4 * STEP_GROUPS * i, q->act_size);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (panels && tokens)
            _tile_dpbf16ps(3, 5, 7);
    }
}

/* Columns that do not fill a step, as a step with zeros: the same value on both sides, so that
 * whatever lies beyond the columns has no part in it. */
struct last_step {
    _Alignas(64) uint8_t acts[PAIR][4 * STEP_GROUPS], panels[2][TILE_BYTES];
};

static ISA_AMX void quad_last(bool panels, size_t n_tokens, size_t groups, struct quad *q,
                              struct last_step *l) {
    memset(l, 0, sizeof *l);
    for (size_t t = 0; t < n_tokens; t++)
        memcpy(l->acts[t], q->acts + t * q->act_size, 4 * groups);
    for (size_t p = 0; p < (panels ? 2 : 1); p++)
        memcpy(l->panels[p], q->panels[p], VEC * groups);
    *q = (struct quad){ l->acts[0],
                        { l->panels[0], l->panels[1] },
                        sizeof l->acts[0],
                        { q->c[0], q->c[1] },
                        { q->c_bytes[0], q->c_bytes[1] } };
    COMPILER_BARRIER(); /* the tiles read what was written */
}

/* `steps` whole steps and, if groups > 0, one of that many groups. */
INLINE_AMX void quad_run(bool panels, bool tokens, struct quad q, bool first, size_t steps,
                         size_t groups, size_t n_tokens) {
    struct last_step l;
    quad_load(panels, tokens, &q, first);
    quad_steps(panels, tokens, &q, steps);
    if (groups) {
        q.acts += 4 * STEP_GROUPS * steps;
        q.panels[0] += TILE_BYTES * steps;
        q.panels[1] += panels ? TILE_BYTES * steps : 0;
        quad_last(panels, n_tokens, groups, &q, &l);
        quad_steps(panels, tokens, &q, 1);
    }
    quad_store(panels, tokens, &q);
}

/* Rows of y and of a panel that is not full, one way or the other. */
static void copy_edge(float (*edge)[PANEL_ROWS], float *y, size_t y_stride, size_t n_tokens,
                      unsigned rows, bool to_y) {
    for (size_t t = 0; t < n_tokens; t++)
        memcpy(to_y ? y + t * y_stride : edge[t], to_y ? edge[t] : y + t * y_stride,
               rows * sizeof(float));
}

/* One place, at most 2 panels and 32 tokens, groups from..to-1 of the columns. */
static ISA_AMX void product_bf16(const struct call *c, const struct place *at, size_t from,
                                 size_t to) {
    _Alignas(64) float edge[PAIR][PANEL_ROWS];
    struct quad q = { .acts = c->acts + at->token * c->act_size + 4 * from,
                      .act_size = c->act_size };
    bool two_panels = at->n_panels > 1, two = at->n_tokens > HALF, first = from == 0;
    uint32_t last = at->panel + at->n_panels - 1;
    unsigned rows = panel_rows(c->m, last);
    float *y = c->y + at->token * c->y_stride + (size_t)last * PANEL_ROWS;
    size_t steps = (to - from) / STEP_GROUPS, groups = (to - from) % STEP_GROUPS;
    for (uint32_t p = 0; p < at->n_panels; p++) {
        q.panels[p] = c->m->data + (at->panel + p) * c->m->panel_bytes + VEC * from;
        q.c[p] = c->y + at->token * c->y_stride + (size_t)(at->panel + p) * PANEL_ROWS;
        q.c_bytes[p] = c->y_stride * sizeof(float);
    }
    if (rows < PANEL_ROWS) { /* its outputs do not fill a row of a tile */
        memset(edge, 0, sizeof edge);
        if (!first)
            copy_edge(edge, y, c->y_stride, at->n_tokens, rows, false);
        q.c[at->n_panels - 1] = edge[0];
        q.c_bytes[at->n_panels - 1] = sizeof edge[0];
    }
    COMPILER_BARRIER(); /* the tiles read what was written */
    if (two_panels && two)
        quad_run(true, true, q, first, steps, groups, at->n_tokens);
    else if (two_panels)
        quad_run(true, false, q, first, steps, groups, at->n_tokens);
    else if (two)
        quad_run(false, true, q, first, steps, groups, at->n_tokens);
    else
        quad_run(false, false, q, first, steps, groups, at->n_tokens);
    if (rows < PANEL_ROWS)
        copy_edge(edge, y, c->y_stride, at->n_tokens, rows, true);
}

/* Where tokens share what was read, columns are cut into units that stay in a cache; for few tokens
 * a panel is read from end to end. */
static ISA_AMX void matmul_bf16_amx(const struct matrix *m, const void *acts, size_t n_tokens,
                                    uint32_t first, uint32_t n, float *y, size_t y_stride,
                                    void *scratch) {
    struct call c = { m, acts, act_bytes(m->act, m->cols), n_tokens, first, n, y, y_stride };
    size_t groups = ((size_t)m->cols + 1) / 2, unit = n_tokens <= PAIR ? groups : UNIT / 2;
    unsigned configured = 0;
    (void)scratch;
    for (size_t token = 0; token < n_tokens; token += BATCH)
        for (uint32_t window = 0; window < n; window += WINDOW)
            for (size_t from = 0; from < groups; from += unit) {
                struct place at = { .panel = first + window };
                while (next_panels(&c, window, 2, &at))
                    for (at.token = token; at.token < least(n_tokens, token + BATCH);
                         at.token += at.n_tokens) {
                        at.n_tokens = least(PAIR, n_tokens - at.token);
                        if (configured != at.n_tokens)
                            configure_pair(configured = (unsigned)at.n_tokens);
                        product_bf16(&c, &at, from, least(groups, from + unit));
                    }
            }
    _tile_release();
}

const struct matmul_ops matmul_ops_amx = {
    .act = { [ACT_F32] = act_f32_ref,
             [ACT_BF16] = act_bf16_avx512,
             [ACT_Q8_32] = act_q8_32_avx512,
             [ACT_Q8_256] = act_q8_256_avx512 },
    .plain = matmul_plain_avx512,
    .panel = { [DT_F32] = matmul_f32_avx512,
               [DT_F16] = matmul_f16_avx512,
               [DT_BF16] = matmul_bf16_amx,
               [DT_Q8_0] = matmul_q8_0_amx,
               [DT_Q4_0] = matmul_q4_0_amx,
               [DT_Q4_1] = matmul_q4_1_amx,
               [DT_Q5_0] = matmul_q5_0_amx,
               [DT_Q5_1] = matmul_q5_1_amx,
               [DT_IQ4_NL] = matmul_iq4_nl_amx,
               [DT_Q2_K] = matmul_q2_k_amx,
               [DT_Q3_K] = matmul_q3_k_amx,
               [DT_Q4_K] = matmul_q4_k_amx,
               [DT_Q5_K] = matmul_q5_k_amx,
               [DT_Q6_K] = matmul_q6_k_amx,
               [DT_IQ4_XS] = matmul_iq4_xs_amx },
};
#endif
