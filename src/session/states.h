/* states.h - the mean of the states after the final norm over a text.
 *
 * Added in double, position by position, so that it has the same bits for any chunks and whatever is
 * evaluated beside it. */
#ifndef SLM_SESSION_STATES_H
#define SLM_SESSION_STATES_H

#include <stddef.h>

/* sum [hidden] += each of the states [n][hidden], in their order. */
void states_add(double *sum, const float *states, size_t n, size_t hidden);
/* out [hidden] = sum / n */
void states_mean(const double *sum, size_t n, size_t hidden, float *out);

#endif
