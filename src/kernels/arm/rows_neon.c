/* rows_neon.c - row kernels, 4 elements at a time; the same bits as ref/rows.c.
 *
 * What is left of a row after whole registers goes to the reference, whose elements do not depend on
 * each other. */
#include "kernels/arm/vmath_neon.h"
#include "kernels/ref/rows.h"

#ifdef HAVE_ARM_KERNELS

/* Sixteen float64 sums in eight registers; index modulo 16 picks the lane. The last, incomplete 16
 * elements are filled up with zeros, which change no sum. */
static double sum_squares(const float *x, size_t n) {
    float64x2_t s[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        s[i] = vdupq_n_f64(0);
    for (size_t c = 0; c < n; c += LANES) {
        float last[LANES] = { 0 };
        const float *from = x + c;
        if (n - c < LANES) {
            memcpy(last, from, (n - c) * sizeof *from);
            from = last;
        }
        UNROLL
        for (int i = 0; i < 4; i++) {
            float32x4_t v = vld1q_f32(from + 4 * i);
            float64x2_t a = vcvt_f64_f32(vget_low_f32(v)), b = vcvt_high_f64_f32(v);
            s[2 * i] = vfmaq_f64(s[2 * i], a, a);
            s[2 * i + 1] = vfmaq_f64(s[2 * i + 1], b, b);
        }
    }
    UNROLL
    for (int half = 4; half > 0; half /= 2) {
        UNROLL
        for (int i = 0; i < half; i++)
            s[i] = vaddq_f64(s[i], s[i + half]);
    }
    return vaddvq_f64(s[0]);
}

static void neon_rmsnorm(const float *x, const float *w, bool plus_one, float eps, size_t n,
                         float *out) {
    float factor = norm_factor(sum_squares(x, n), n, eps);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t weight = vld1q_f32(w + i);
        if (plus_one)
            weight = vaddq_f32(vdupq_n_f32(1.0f), weight);
        vst1q_f32(out + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), factor), weight));
    }
    for (; i < n; i++)
        out[i] = x[i] * factor * (plus_one ? 1.0f + w[i] : w[i]);
}

static void neon_add(float *x, const float *y, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vaddq_f32(vld1q_f32(x + i), vld1q_f32(y + i)));
    row_ops_ref.add(x + i, y + i, n - i);
}

static void neon_scale(float *x, float s, size_t n) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), s));
    row_ops_ref.scale(x + i, s, n - i);
}

static void neon_silu_mul(const float *gate, const float *up, size_t n, float *h) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(h + i, vmulq_f32(silu_4(vld1q_f32(gate + i)), vld1q_f32(up + i)));
    row_ops_ref.silu_mul(gate + i, up + i, n - i, h + i);
}

static void neon_gelu_mul(const float *gate, const float *up, size_t n, float *h) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(h + i, vmulq_f32(gelu_4(vld1q_f32(gate + i)), vld1q_f32(up + i)));
    row_ops_ref.gelu_mul(gate + i, up + i, n - i, h + i);
}

/* (a, b) turned: a c - b s, b c + a s; the second product is rounded first */
ATTR_INLINE void turn(float32x4_t *a, float32x4_t *b, float32x4_t c, float32x4_t s) {
    float32x4_t first = vfmaq_f32(vnegq_f32(vmulq_f32(*b, s)), *a, c);
    *b = vfmaq_f32(vmulq_f32(*a, s), *b, c);
    *a = first;
}

static void rope_halves(float *x, const float *cosine, const float *sine, size_t n) {
    float *y = x + n;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t a = vld1q_f32(x + i), b = vld1q_f32(y + i);
        turn(&a, &b, vld1q_f32(cosine + i), vld1q_f32(sine + i));
        vst1q_f32(x + i, a);
        vst1q_f32(y + i, b);
    }
    for (; i < n; i++) {
        float pair[2] = { x[i], y[i] };
        row_ops_ref.rope(pair, cosine + i, sine + i, 1, true);
        x[i] = pair[0];
        y[i] = pair[1];
    }
}

static void rope_neighbours(float *x, const float *cosine, const float *sine, size_t n_pairs) {
    size_t i = 0;
    for (; i + 4 <= n_pairs; i += 4) {
        float32x4x2_t v = vld2q_f32(x + 2 * i);
        turn(&v.val[0], &v.val[1], vld1q_f32(cosine + i), vld1q_f32(sine + i));
        vst2q_f32(x + 2 * i, v);
    }
    row_ops_ref.rope(x + 2 * i, cosine + i, sine + i, n_pairs - i, true);
}

static void neon_rope(float *x, const float *cosine, const float *sine, size_t n_pairs,
                      bool interleaved) {
    if (interleaved)
        rope_neighbours(x, cosine, sine, n_pairs);
    else
        rope_halves(x, cosine, sine, n_pairs);
}

/* Each lane keeps its first largest value; of those the largest with the lowest index wins. */
static uint32_t neon_argmax(const float *x, size_t n, bool *finite) {
    static const uint32_t first[4] = { 0, 1, 2, 3 };
    const uint32x4_t exponent = vdupq_n_u32(0x7f800000);
    float32x4_t best = vdupq_n_f32(-INFINITY);
    uint32x4_t index = vdupq_n_u32(0), odd = vdupq_n_u32(0), at = vld1q_u32(first);
    size_t whole = n / 4 * 4;
    for (size_t i = 0; i < whole; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        uint32x4_t e = vandq_u32(vreinterpretq_u32_f32(v), exponent);
        odd = vorrq_u32(odd, vceqq_u32(e, exponent));
        uint32x4_t more = vcgtq_f32(v, best);
        best = vbslq_f32(more, v, best);
        index = vbslq_u32(more, at, index);
        at = vaddq_u32(at, vdupq_n_u32(4));
    }
    float value[4], top = -INFINITY;
    uint32_t where[4], result = 0;
    vst1q_f32(value, best);
    vst1q_u32(where, index);
    for (unsigned l = 0; l < 4; l++) {
        if (value[l] > top || (value[l] == top && where[l] < result)) {
            top = value[l];
            result = where[l];
        }
    }
    bool all_finite = vmaxvq_u32(odd) == 0;
    for (size_t i = whole; i < n; i++) {
        all_finite = all_finite && isfinite(x[i]);
        if (x[i] > top) {
            top = x[i];
            result = (uint32_t)i;
        }
    }
    *finite = all_finite;
    return result;
}

const struct row_ops row_ops_neon = {
    .rmsnorm = neon_rmsnorm,
    .add = neon_add,
    .scale = neon_scale,
    .silu_mul = neon_silu_mul,
    .gelu_mul = neon_gelu_mul,
    .rope = neon_rope,
    .argmax = neon_argmax,
};

#endif
