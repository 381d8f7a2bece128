/* quantise_fit.h - finding scales: the search that all block writers share.
 *
 * The error that is made small is sum w (x - y)^2 with w = mean(x^2) + x^2: without knowledge of
 * the activations large weights matter more, but small ones are not free.
 * A scale is searched in two steps: codes are made with several trial scales around the one that
 * just covers the range, and for each set of codes the best scale is the least-squares one; then
 * codes and scale of the best trial are made from each other until nothing improves (Lloyd, "Least
 * squares quantization in PCM", 1982). */
#ifndef SLM_KERNELS_REF_QUANTISE_FIT_H
#define SLM_KERNELS_REF_QUANTISE_FIT_H

#include "kernels/ref/blocks.h"

#include <stdbool.h>

/* Values that a code can stand for before scaling: the integers lo..hi, or a table of 16. */
struct grid {
    int lo, hi;
    const int8_t *levels; /* NULL: integers; else [16] ascending, codes 0..15 */
};
extern const struct grid grid_q3, grid_q4, grid_q5, grid_q6, grid_iq4;

/* What a code stands for. */
int grid_value(const struct grid *g, int code);

/* w[i] = mean(x^2) + x[i]^2. Returns the sum of x^2. */
float fit_weights(const float *x, unsigned n, float *w);

/* Rounds to the nearest f16 value. */
float round_f16(float v);

/* y = s value(code): returns s; it may be negative when the grid reaches further down than up. */
float fit_grid(const struct grid *g, const float *x, const float *w, unsigned n);

/* y = s code + offset, code 0..top: fills *s >= 0 and *offset (at most 0 when non_positive). */
void fit_affine(unsigned top, const float *x, const float *w, unsigned n, bool non_positive,
                float *s, float *offset);

/* Codes of x for a given scale (0: all codes stand for zero) and their weighted error. */
float grid_codes(const struct grid *g, float s, const float *x, const float *w, unsigned n,
                 int8_t *codes);
float affine_codes(unsigned top, float s, float offset, const float *x, const float *w, unsigned n,
                   uint8_t *codes);

/* Nearest integer (ties to even) of |v| < 2^22. */
static inline int nearest(float v) {
    float t = v + 0x1.8p+23f;
    return (int)(t - 0x1.8p+23f);
}
static inline float clamp_float(float v, float lo, float hi) {
    return v < lo ? lo : v > hi ? hi : v;
}

#endif
