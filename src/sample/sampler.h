/* sampler.h - logits and a mask -> one token id, reproducible from a seed.
 *
 * Order and definitions follow the official library's generation (logits processors, then warpers):
 *   1. bias            logit += bias                                  (ids of the bias list)
 *   2. repetition      logit > 0 ? logit / p : logit * p              (ids in prompt or output)
 *   3. presence, frequency: logit -= presence + frequency * count     (ids in the output; the
 *                      definition of the OpenAI API; the official library has none)
 *   4. temperature     logit /= t                                     (0: the largest logit wins)
 *   5. top_k           keep logits >= the k-th largest                (ties are kept)
 *   6. top_p           keep the smallest set of most probable ids whose mass reaches top_p:
 *                      an id goes when the mass of it and all less probable ones is <= 1 - top_p
 *   7. min_p           keep p >= min_p * largest p
 *   8. typical_p       keep ids nearest in -log p to the entropy until their mass reaches typical_p
 * and one draw from what is left. Masses are sums in double, in a fixed order, so the choice is the
 * same on every run; draw number i of a seed does not depend on the draws before it. */
#ifndef SLM_SAMPLE_SAMPLER_H
#define SLM_SAMPLE_SAMPLER_H

#include "base/mem.h"
#include "slm.h"

struct sampler;

/* For logits of `vocab` entries. allowed: bit set over ids [ceil(vocab/32)], borrowed for the
 * sampler's life, or NULL: ids that exist at all. Everything is allocated here. */
slm_err sampler_new(const struct slm_hooks *h, uint32_t vocab, const uint32_t *allowed,
                    struct sampler **out, slm_why *why);
void sampler_free(struct sampler *s);
/* Bytes that sampler_new asks for. */
uint64_t sampler_bytes(uint32_t vocab);

/* Checks the parameters (E_ARG names the one that is out of range) and starts a new output.
 * prompt [n]: ids that the repetition penalty counts from the start. bias is borrowed until the next
 * begin. Cost: O(vocab). */
slm_err sampler_begin(struct sampler *s, const slm_sampling *p, const int32_t *prompt, size_t n,
                      slm_why *why);

/* Chooses an id. logits [vocab] are not changed. mask: bit set of ids that may come next, or NULL.
 * E_NUMERIC: a logit is not a number; E_STATE: nothing may come next. Does not count the id. */
slm_err sampler_pick(struct sampler *s, const float *logits, const uint32_t *mask, int32_t *id,
                     slm_why *why);
/* Counts an id as part of the output (chosen or forced) and moves on to the next draw. */
void sampler_accept(struct sampler *s, int32_t id);

/* log of the probability that the logits alone give to id (temperature 1, no filters), over allowed ids */
float sampler_logprob(const struct sampler *s, const float *logits, int32_t id);
/* What that takes, for several ids of one row: it is logits[id] - max - log_sum. */
void sampler_normal(const struct sampler *s, const float *logits, double *max, double *log_sum);

/* The same, and the most likely ids of all with theirs: top [*n_top], most likely first, equal ones by
 * id; *n_top becomes less where fewer ids are allowed. Cost: O(vocab), and for each id that enters the
 * list O(n_top). */
float sampler_likely(const struct sampler *s, const float *logits, int32_t id,
                     struct slm_likely *top, size_t *n_top);

/* The i-th number in [0, 1) of a seed: 53 bits of a counter-based generator (two rounds of the
 * SplitMix64 finaliser over seed and counter). */
double sampler_uniform(uint64_t seed, uint64_t i);

#endif
