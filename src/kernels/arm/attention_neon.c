/* attention_neon.c - attention over one span of keys, 4 elements at a time; the same bits as
 * ref/attention.c.
 *
 * The 16 lanes of a sum are four registers, "quarters" 0..3. Scores: a tile holds 16 sums, 4 keys x
 * 1 query x 4 quarters, or x 2 queries x 2 quarters, or x 4 queries x 1 quarter; with fewer quarters
 * than four it runs over the rows again for the others. Mix: 64, 32 or 16 elements of 1, 2 or 4
 * queries stay in registers while the values pass. With more than 4 queries keys or values are
 * converted to float32 once, in blocks that stay in the first-level cache. Head sizes that are no
 * multiple of 16 occur in no model: the reference does them. */
#include "kernels/arm/vmath_neon.h"
#include "kernels/ref/rows.h"

#ifdef HAVE_ARM_KERNELS

#define CONVERTED 4096 /* floats of the block of converted rows */
#define DIRECT 4       /* up to so many queries rows are converted as they are used */
#define TILE_KEYS 4
#define TILE_SUMS 16   /* registers of sums in a tile */
#define MIX_BYTES 2048 /* values that pass all tiles of elements before the next ones do */

/* ---- rows of the cache ---- */

/* Elements i..i+3 of a row, i a multiple of 4. */
ATTR_INLINE float32x4_t load_kv_4(enum kv_type t, const uint8_t *row, size_t d, size_t i) {
    if (t == KV_F32)
        return vreinterpretq_f32_u8(vld1q_u8(row + 4 * i));
    if (t == KV_F16)
        return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(row + 2 * i)));
    if (t == KV_BF16)
        return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(row + 2 * i)), 16));
    uint16_t scale;
    uint32_t codes;
    memcpy(&scale, row + 2 * (i / KV_GROUP), 2);
    memcpy(&codes, row + 2 * ((d + KV_GROUP - 1) / KV_GROUP) + i, 4);
    int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(codes)));
    float32x4_t code = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
    return vmulq_f32(code, vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(scale))));
}

/* bfloat16 of 4 floats as base's f32_to_bf16: nearest even; NaN becomes quiet. */
ATTR_INLINE uint16x4_t bf16_of_4(float32x4_t v) {
    uint32x4_t u = vreinterpretq_u32_f32(v);
    uint32x4_t even = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t near = vaddq_u32(u, vaddq_u32(even, vdupq_n_u32(0x7fff)));
    uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), near, quiet), 16);
}

/* d a multiple of 4, not Q8 */
static void store_halves(enum kv_type t, const float *x, size_t d, uint8_t *dst) {
    for (size_t i = 0; i < d; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        uint16x4_t h = t == KV_F16 ? vreinterpret_u16_f16(vcvt_f16_f32(v)) : bf16_of_4(v);
        vst1_u8(dst + 2 * i, vreinterpret_u8_u16(h));
    }
}

/* One whole group of 32: its scale and codes. */
static void store_group(const float *x, uint8_t *scale_at, uint8_t *codes) {
    uint32x4_t peak = vdupq_n_u32(0);
    float32x4_t v[8];
    UNROLL
    for (int c = 0; c < 8; c++) {
        v[c] = vld1q_f32(x + 4 * c);
        peak = vmaxq_u32(peak,
                         vandq_u32(vreinterpretq_u32_f32(v[c]), vdupq_n_u32(0x7fffffffu)));
    }
    float inverse;
    uint16_t scale = kv_q8_scale(float_of_bits(vmaxvq_u32(peak)), &inverse);
    memcpy(scale_at, &scale, 2);
    if (inverse == 0.0f) {
        memset(codes, 0, KV_GROUP);
        return;
    }
    UNROLL
    for (int c = 0; c < 8; c += 2) {
        int16x4_t half[2];
        UNROLL
        for (int i = 0; i < 2; i++) {
            float32x4_t y = vmaxq_f32(vmulq_n_f32(v[c + i], inverse), vdupq_n_f32(-127.0f));
            half[i] = vmovn_s32(vcvtnq_s32_f32(vminq_f32(y, vdupq_n_f32(127.0f))));
        }
        vst1_u8(codes + 4 * c, vreinterpret_u8_s8(vmovn_s16(vcombine_s16(half[0], half[1]))));
    }
}

static void neon_kv_store(enum kv_type t, const float *x, size_t d, void *dst) {
    uint8_t *p = dst;
    if (t == KV_F32) {
        memcpy(p, x, 4 * d);
    } else if (t == KV_Q8 && d % KV_GROUP == 0) {
        for (size_t i = 0; i < d; i += KV_GROUP)
            store_group(x + i, p + i / KV_GROUP * 2, p + d / KV_GROUP * 2 + i);
        memset(p + d / KV_GROUP * 2 + d, 0, kv_row_bytes(t, d) - d / KV_GROUP * 2 - d);
    } else if (t != KV_Q8 && d % 4 == 0) {
        store_halves(t, x, d, p);
    } else {
        attention_ops_ref.kv_store(t, x, d, dst);
    }
}

ATTR_INLINE void load_row(enum kv_type t, const uint8_t *src, size_t d, float *x) {
    for (size_t i = 0; i < d; i += 4)
        vst1q_f32(x + i, load_kv_4(t, src, d, i));
}

static void neon_kv_load(enum kv_type t, const void *src, size_t d, float *x) {
    if (t == KV_F32)
        memcpy(x, src, 4 * d);
    else if (d % 4)
        attention_ops_ref.kv_load(t, src, d, x);
    else if (t == KV_F16)
        load_row(KV_F16, src, d, x);
    else if (t == KV_BF16)
        load_row(KV_BF16, src, d, x);
    else
        load_row(KV_Q8, src, d, x);
}

/* ---- scores ---- */

/* n_q (1, 2 or 4, constant) queries against 4 keys; stores n (1..4) scores of each query. */
ATTR_INLINE void score_tile(enum kv_type t, int n_q, const float *q, size_t d,
                            const uint8_t *const *key, size_t n, float scale, float *scores,
                            size_t stride) {
    const int per = 4 / n_q; /* quarters at a time */
    float32x4_t whole[4][TILE_SUMS];
    UNROLL
    for (int first = 0; first < 4; first += per) {
        float32x4_t sum[TILE_SUMS]; /* [quarter][query][key] */
        UNROLL
        for (int s = 0; s < TILE_SUMS; s++)
            sum[s] = vdupq_n_f32(0);
        for (size_t i = 4 * (size_t)first; i < d; i += LANES) {
            UNROLL
            for (int p = 0; p < per; p++) {
                float32x4_t k[TILE_KEYS];
                UNROLL
                for (int j = 0; j < TILE_KEYS; j++)
                    k[j] = load_kv_4(t, key[j], d, i + 4 * (size_t)p);
                UNROLL
                for (int r = 0; r < n_q; r++) {
                    float32x4_t v = vld1q_f32(q + (size_t)r * d + i + 4 * p);
                    UNROLL
                    for (int j = 0; j < TILE_KEYS; j++)
                        sum[(p * n_q + r) * TILE_KEYS + j] =
                            vfmaq_f32(sum[(p * n_q + r) * TILE_KEYS + j], v, k[j]);
                }
            }
        }
        UNROLL
        for (int s = 0; s < TILE_SUMS; s++)
            whole[first + s / (n_q * TILE_KEYS)][s % (n_q * TILE_KEYS)] = sum[s];
    }
    for (int r = 0; r < n_q; r++)
        for (int j = 0; j < (int)n; j++) {
            int s = r * TILE_KEYS + j;
            scores[(size_t)r * stride + (size_t)j] =
                scale * sum_4x4(whole[0][s], whole[1][s], whole[2][s], whole[3][s]);
        }
}

struct score_job {
    const float *q; /* [n_q, d] */
    size_t n_q, d;
    const uint8_t *keys; /* [n_keys] rows of row_bytes */
    size_t row_bytes, n_keys;
    float scale, *scores; /* [n_q] rows of stride */
    size_t stride;
};

ATTR_INLINE void score_all(enum kv_type t, const struct score_job *job) {
    for (size_t j = 0; j < job->n_keys; j += TILE_KEYS) {
        size_t n = job->n_keys - j < TILE_KEYS ? job->n_keys - j : TILE_KEYS, r = 0;
        const uint8_t *key[TILE_KEYS];
        for (size_t l = 0; l < TILE_KEYS; l++) /* past the end: the last key again, not stored */
            key[l] = job->keys + (j + (l < n ? l : n - 1)) * job->row_bytes;
        for (; r + 4 <= job->n_q; r += 4)
            score_tile(t, 4, job->q + r * job->d, job->d, key, n, job->scale,
                       job->scores + r * job->stride + j, job->stride);
        for (; r + 2 <= job->n_q; r += 2)
            score_tile(t, 2, job->q + r * job->d, job->d, key, n, job->scale,
                       job->scores + r * job->stride + j, job->stride);
        if (r < job->n_q)
            score_tile(t, 1, job->q + r * job->d, job->d, key, n, job->scale,
                       job->scores + r * job->stride + j, job->stride);
    }
}

static void score_f32(const struct score_job *job) {
    score_all(KV_F32, job);
}
static void score_f16(const struct score_job *job) {
    score_all(KV_F16, job);
}
static void score_bf16(const struct score_job *job) {
    score_all(KV_BF16, job);
}
static void score_q8(const struct score_job *job) {
    score_all(KV_Q8, job);
}

static void neon_scores(enum kv_type t, const float *q, size_t n_q, size_t d, const void *keys,
                        size_t n_keys, float scale, float *scores, size_t stride,
                        const void *next) {
    static void (*const score[KV_COUNT])(const struct score_job *) = { score_f32, score_f16,
                                                                       score_bf16, score_q8 };
    struct score_job job = { q, n_q, d, keys, kv_row_bytes(t, d), n_keys, scale, scores, stride };
    (void)next; /* what asking ahead gains has not been measured on such a processor */
    if (d % LANES) {
        attention_ops_ref.scores(t, q, n_q, d, keys, n_keys, scale, scores, stride, next);
        return;
    }
    if (t == KV_F32 || n_q <= DIRECT || d > CONVERTED / TILE_KEYS) {
        score[t](&job);
        return;
    }
    float block[CONVERTED];
    size_t per_block = CONVERTED / d / TILE_KEYS * TILE_KEYS, stored_bytes = job.row_bytes;
    job.row_bytes = 4 * d;
    job.keys = (const uint8_t *)block;
    for (size_t j = 0; j < n_keys; j += per_block) {
        job.n_keys = n_keys - j < per_block ? n_keys - j : per_block;
        for (size_t l = 0; l < job.n_keys; l++)
            neon_kv_load(t, (const uint8_t *)keys + (j + l) * stored_bytes, d, block + l * d);
        job.scores = scores + j;
        score_f32(&job);
    }
}

/* ---- softmax ---- */

static void neon_softmax(float *s, size_t n, float *max, float *sum) {
    float32x4_t top = vdupq_n_f32(-INFINITY), total[4];
    for (size_t i = 0; i < n; i += 4) {
        float32x4_t v = vld1q_f32(s + i);
        top = vbslq_f32(vcgtq_f32(v, top), v, top); /* NaN in s: top stays */
    }
    float m = vmaxvq_f32(top) + 0.0f;
    float32x4_t shift = vdupq_n_f32(m == -INFINITY ? 0.0f : m);
    UNROLL
    for (int c = 0; c < 4; c++)
        total[c] = vdupq_n_f32(0);
    for (size_t i = 0; i < n; i += LANES) {
        UNROLL
        for (int c = 0; c < 4; c++) {
            float32x4_t e = exp_4(vsubq_f32(vld1q_f32(s + i + 4 * c), shift));
            vst1q_f32(s + i + 4 * c, e);
            total[c] = vaddq_f32(total[c], e);
        }
    }
    *max = m;
    *sum = sum_4x4(total[0], total[1], total[2], total[3]);
}

/* ---- mix ---- */

struct mix_job {
    const float *p; /* [n_q] rows of stride, n_keys used */
    size_t stride, n_q, d;
    const uint8_t *values; /* [n_keys] rows of row_bytes */
    size_t row_bytes, n_keys;
    float *acc;  /* [n_q, d] */
    bool stored; /* values come from the cache, not from the block of converted ones */
};

/* Elements i..i+4*width-1 of n_q queries from r on (n_q * width <= 16, both constant) over the
 * values from..to-1. */
ATTR_INLINE void mix_tile(enum kv_type t, int n_q, int width, const struct mix_job *job, size_t r,
                          size_t i, size_t from, size_t to) {
    float32x4_t sum[TILE_SUMS];
    float *acc = job->acc + r * job->d + i;
    const float *p = job->p + r * job->stride;
    UNROLL
    for (int s = 0; s < n_q * width; s++)
        sum[s] = vld1q_f32(acc + (size_t)(s / width) * job->d + 4 * (s % width));
    for (size_t j = from; j < to; j++) {
        const uint8_t *value = job->values + j * job->row_bytes;
        float32x4_t weight[4];
        UNROLL
        for (int a = 0; a < n_q; a++)
            weight[a] = vdupq_n_f32(p[(size_t)a * job->stride + j]);
        UNROLL
        for (int c = 0; c < width; c++) {
            float32x4_t v = load_kv_4(t, value, job->d, i + 4 * (size_t)c);
            UNROLL
            for (int a = 0; a < n_q; a++)
                sum[a * width + c] = vfmaq_f32(sum[a * width + c], weight[a], v);
        }
    }
    UNROLL
    for (int s = 0; s < n_q * width; s++)
        vst1q_f32(acc + (size_t)(s / width) * job->d + 4 * (s % width), sum[s]);
}

ATTR_INLINE void mix_queries(enum kv_type t, int n_q, const struct mix_job *job, size_t r,
                             size_t from, size_t to) {
    const size_t wide = (size_t)(4 * TILE_SUMS / n_q);
    size_t i = 0;
    for (; i + wide <= job->d; i += wide)
        mix_tile(t, n_q, TILE_SUMS / n_q, job, r, i, from, to);
    for (; i < job->d; i += LANES)
        mix_tile(t, n_q, 4, job, r, i, from, to);
}

/* A row takes several tiles: they run over a few values at a time, or memory would be read in
 * pieces of rows. */
ATTR_INLINE void mix_all(enum kv_type t, const struct mix_job *job) {
    const size_t block = job->stored ? MIX_BYTES / job->row_bytes + 1 : job->n_keys;
    for (size_t from = 0, to; from < job->n_keys; from = to) {
        size_t r = 0;
        to = job->n_keys - from < block ? job->n_keys : from + block;
        for (; r + 4 <= job->n_q; r += 4)
            mix_queries(t, 4, job, r, from, to);
        for (; r + 2 <= job->n_q; r += 2)
            mix_queries(t, 2, job, r, from, to);
        if (r < job->n_q)
            mix_queries(t, 1, job, r, from, to);
    }
}

static void mix_f32(const struct mix_job *job) {
    mix_all(KV_F32, job);
}
static void mix_f16(const struct mix_job *job) {
    mix_all(KV_F16, job);
}
static void mix_bf16(const struct mix_job *job) {
    mix_all(KV_BF16, job);
}
static void mix_q8(const struct mix_job *job) {
    mix_all(KV_Q8, job);
}

static void neon_mix(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
                     const void *values, size_t n_keys, float *acc, const void *next) {
    static void (*const mix[KV_COUNT])(const struct mix_job *) = { mix_f32, mix_f16, mix_bf16,
                                                                   mix_q8 };
    struct mix_job job = { p, stride, n_q, d, values, kv_row_bytes(t, d), n_keys, acc, true };
    (void)next;
    if (d % LANES) {
        attention_ops_ref.mix(t, p, n_q, stride, d, values, n_keys, acc, next);
        return;
    }
    if (t == KV_F32 || n_q <= DIRECT || d > CONVERTED) {
        mix[t](&job);
        return;
    }
    float block[CONVERTED];
    size_t per_block = CONVERTED / d, stored_bytes = job.row_bytes;
    job.row_bytes = 4 * d;
    job.values = (const uint8_t *)block;
    job.stored = false;
    for (size_t j = 0; j < n_keys; j += per_block) {
        job.n_keys = n_keys - j < per_block ? n_keys - j : per_block;
        for (size_t l = 0; l < job.n_keys; l++)
            neon_kv_load(t, (const uint8_t *)values + (j + l) * stored_bytes, d, block + l * d);
        job.p = p + j;
        mix_f32(&job);
    }
}

/* ---- merge ---- */

static void neon_merge(float *run_max, float *run_sum, float *run_acc, float max, float sum,
                       const float *acc, size_t d) {
    if (*run_max == -INFINITY || (max == -INFINITY && sum == 0.0f)) {
        attention_ops_ref.merge(run_max, run_sum, run_acc, max, sum, acc,
                                d); /* copies, or nothing */
        return;
    }
    float top = max > *run_max ? max : *run_max;
    float keep = exp_one(*run_max - top), take = exp_one(max - top);
    size_t i = 0;
    for (; i + 4 <= d; i += 4) {
        float32x4_t add = vmulq_n_f32(vld1q_f32(acc + i), take);
        vst1q_f32(run_acc + i, vfmaq_n_f32(add, vld1q_f32(run_acc + i), keep));
    }
    for (; i < d; i++)
        run_acc[i] = fmaf(run_acc[i], keep, acc[i] * take);
    *run_sum = fmaf(*run_sum, keep, sum * take);
    *run_max = top;
}

const struct attention_ops attention_ops_neon = {
    .kv_store = neon_kv_store,
    .kv_load = neon_kv_load,
    .scores = neon_scores,
    .softmax = neon_softmax,
    .mix = neon_mix,
    .merge = neon_merge,
};

#endif
