/* attention.c - reference of the cache rows and of attention over one span of keys.
 *
 * A span is scored (attn_scores), turned into weights relative to its own maximum (attn_softmax),
 * mixed (attn_mix) and merged into the running result (attn_merge):
 *   score[j] = scale * q.k[j]     m = max score, p[j] = exp(score[j] - m), l = sum p, a = sum p[j] v[j]
 *   M' = max(M, m)     L' = L exp(M - M') + l exp(m - M')     A' = A exp(M - M') + a exp(m - M')
 * and the caller divides A by L at the end. Source: FlashAttention (Dao et al. 2022, arXiv
 * 2205.14135), section 3.1. Vector versions (x86/attention_*.c) give the same bits.
 *
 * Row of KV_Q8: ceil(d / 32) f16 scales, d int8, zeros up to a multiple of 4 bytes; the value is
 * float(code) * float(scale), rounded once. */
#include "kernels/ref/rows.h"
#include "kernels/ref/vmath.h"

size_t kv_row_bytes(enum kv_type t, size_t d) {
    switch (t) {
    case KV_F32:
        return 4 * d;
    case KV_F16:
    case KV_BF16:
        return 2 * d;
    case KV_Q8:
        return (2 * ((d + KV_GROUP - 1) / KV_GROUP) + d + 3) / 4 * 4;
    default:
        return 0;
    }
}

uint16_t kv_q8_scale(float amax, float *inverse) {
    uint16_t d = f32_to_f16(amax / 127.0f);
    *inverse = 0.0f;
    if ((d & 0x7c00u) == 0x7c00u) /* not finite, or too large for f16 */
        return 0x7e00u;
    if (d != 0)
        *inverse = 1.0f / f16_to_f32(d);
    return d;
}

/* Magnitudes compared as integers: NaN > infinity > any number. */
static float group_peak(const float *x, size_t n) {
    uint32_t peak = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffffu;
        peak = magnitude > peak ? magnitude : peak;
    }
    return float_of_bits(peak);
}

/* Adding 1.5 * 2^23 rounds to nearest even and leaves the integer in the low bits. */
static uint8_t q8_code(float x, float inverse) {
    float v = x * inverse;
    v = v > -127.0f ? v : -127.0f;
    v = v < 127.0f ? v : 127.0f;
    return (uint8_t)(bits_of_float(v + EXP_ROUND) & 0xffu);
}

static void store_q8(const float *x, size_t d, uint8_t *dst) {
    size_t groups = (d + KV_GROUP - 1) / KV_GROUP, used = 2 * groups + d;
    uint8_t *codes = dst + 2 * groups;
    for (size_t g = 0; g < groups; g++) {
        size_t first = g * KV_GROUP, n = d - first < KV_GROUP ? d - first : KV_GROUP;
        float inverse;
        uint16_t scale = kv_q8_scale(group_peak(x + first, n), &inverse);
        memcpy(dst + 2 * g, &scale, 2);
        for (size_t i = first; i < first + n; i++)
            codes[i] = inverse == 0.0f ? 0 : q8_code(x[i], inverse);
    }
    memset(dst + used, 0, kv_row_bytes(KV_Q8, d) - used);
}

static void ref_kv_store(enum kv_type t, const float *x, size_t d, void *dst) {
    uint8_t *p = dst;
    if (t == KV_F32) {
        memcpy(p, x, 4 * d);
    } else if (t == KV_Q8) {
        store_q8(x, d, p);
    } else {
        for (size_t i = 0; i < d; i++) {
            uint16_t h = t == KV_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
            memcpy(p + 2 * i, &h, 2);
        }
    }
}

/* Element i of a stored row. Rows lie at any address, hence memcpy. */
static float kv_at(enum kv_type t, const uint8_t *row, size_t d, size_t i) {
    uint16_t h;
    if (t == KV_F32) {
        float x;
        memcpy(&x, row + 4 * i, 4);
        return x;
    }
    if (t == KV_Q8) {
        memcpy(&h, row + 2 * (i / KV_GROUP), 2);
        int8_t code = (int8_t)row[2 * ((d + KV_GROUP - 1) / KV_GROUP) + i];
        return (float)code * f16_to_f32(h);
    }
    memcpy(&h, row + 2 * i, 2);
    return t == KV_F16 ? f16_to_f32(h) : bf16_to_f32(h);
}

static void ref_kv_load(enum kv_type t, const void *src, size_t d, float *x) {
    for (size_t i = 0; i < d; i++)
        x[i] = kv_at(t, src, d, i);
}

/* d is padded with zeros to a multiple of 16, in the vector versions too. */
static void ref_scores(enum kv_type t, const float *q, size_t n_q, size_t d, const void *keys,
                       size_t n_keys, float scale, float *scores, size_t stride, const void *next) {
    (void)next;
    size_t padded = (d + LANES - 1) / LANES * LANES, row_bytes = kv_row_bytes(t, d);
    for (size_t j = 0; j < n_keys; j++) {
        const uint8_t *key = (const uint8_t *)keys + j * row_bytes;
        for (size_t r = 0; r < n_q; r++) {
            float lanes[LANES] = { 0 };
            for (size_t i = 0; i < padded; i++) {
                float k = i < d ? kv_at(t, key, d, i) : 0.0f;
                lanes[i % LANES] = fmaf(i < d ? q[r * d + i] : 0.0f, k, lanes[i % LANES]);
            }
            scores[r * stride + j] = scale * sum_lanes(lanes);
        }
    }
}

/* Adding 0 makes a maximum of -0 one of +0, so that it does not depend on the order of comparing. */
static void ref_softmax(float *s, size_t n, float *max, float *sum) {
    float m = -INFINITY, lanes[LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        m = s[i] > m ? s[i] : m;
    m += 0.0f;
    float shift = m == -INFINITY ? 0.0f : m; /* all masked: exp(-inf - 0) = 0 */
    for (size_t i = 0; i < n; i++) {
        s[i] = exp_one(s[i] - shift);
        lanes[i % LANES] += s[i];
    }
    *max = m;
    *sum = sum_lanes(lanes);
}

static void ref_mix(enum kv_type t, const float *p, size_t n_q, size_t stride, size_t d,
                    const void *values, size_t n_keys, float *acc, const void *next) {
    (void)next;
    size_t row_bytes = kv_row_bytes(t, d);
    for (size_t j = 0; j < n_keys; j++) {
        const uint8_t *value = (const uint8_t *)values + j * row_bytes;
        for (size_t i = 0; i < d; i++) {
            float v = kv_at(t, value, d, i);
            for (size_t r = 0; r < n_q; r++)
                acc[r * d + i] = fmaf(p[r * stride + j], v, acc[r * d + i]);
        }
    }
}

/* Nothing so far (run_max -inf): the span is the result, and run_acc need not be initialised. */
static void ref_merge(float *run_max, float *run_sum, float *run_acc, float max, float sum,
                      const float *acc, size_t d) {
    if (max == -INFINITY && sum == 0.0f && *run_max != -INFINITY)
        return;
    if (*run_max == -INFINITY) {
        *run_max = max;
        *run_sum = sum;
        memcpy(run_acc, acc, d * sizeof *acc);
        return;
    }
    float top = max > *run_max ? max : *run_max;
    float keep = exp_one(*run_max - top), take = exp_one(max - top);
    for (size_t i = 0; i < d; i++)
        run_acc[i] = fmaf(run_acc[i], keep, acc[i] * take);
    *run_sum = fmaf(*run_sum, keep, sum * take);
    *run_max = top;
}

const struct attention_ops attention_ops_ref = {
    .kv_store = ref_kv_store,
    .kv_load = ref_kv_load,
    .scores = ref_scores,
    .softmax = ref_softmax,
    .mix = ref_mix,
    .merge = ref_merge,
};
