/* digits.h - numbers as text: exact decimals, and the automaton of those between bounds. */
#ifndef SLM_CONSTRAIN_DIGITS_H
#define SLM_CONSTRAIN_DIGITS_H

#include "constrain/grammar.h"

/* A number of a schema, as its decimal digits: no exponent, no leading zeros but a single one before the
 * point, no trailing ones behind it. Doubles stand for the shortest decimal that reads back as them. */
struct decimal {
    bool negative;                /* never of zero */
    const char *whole, *fraction; /* [n_whole] at least one, [n_fraction]; in the builder's arena */
    uint32_t n_whole, n_fraction;
};
bool decimal_of(struct build *b, const json_t *number, struct decimal *out);
int decimal_compare(const struct decimal *x, const struct decimal *y); /* < 0, 0, > 0 */
bool decimal_whole(const struct decimal *x);

struct digits {
    bool whole;                       /* integers only */
    const struct decimal *low, *high; /* NULL: no bound */
    bool above, below;                /* the bound itself is excluded */
    uint64_t step;                    /* multiples of step * 10^-places; 0: any */
    uint32_t places;
};
/* The step that makes numbers multiples of each of the decimals [n] (all positive). False (and failed
 * with E_UNSUPPORTED or E_FORMAT) when there is none that is small enough. */
bool digits_step(struct build *b, const struct decimal *v, uint32_t n, struct digits *d,
                 const char *where);
/* From `start` the text of the numbers. At most 18 digits, without an exponent; numbers that need not be
 * whole have at most 15, which doubles tell apart, so that no reader rounds one across a bound. */
void digits_emit(struct build *b, const struct digits *d, uint32_t start);
/* The same question for one number: a constant of the schema. */
bool digits_match(const struct digits *d, const struct decimal *x);

#endif
