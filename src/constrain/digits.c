/* digits.c - numbers between bounds, and multiples, as an automaton over their digits.
 *
 * While digits are read it is known how many there are, how they compare with as many digits of each
 * bound, and what is left over when they are divided by the step; that is a state. Bounds of negative
 * numbers are those of their magnitudes, exchanged. States that no digits complete are pruned later, by
 * the builder. */
#include "constrain/digits.h"

#include <stdio.h>
#include <string.h>

#include "base/number.h"

#define WHOLE_DIGITS 18 /* every 64-bit reader holds them */
#define REAL_DIGITS 15  /* doubles tell them apart */
#define STEP_MOST 1000000u

/* ------------------------------------------------------------------ decimals */

/* The digits of text as "%.*e" writes it, with the exponent taken into account. */
static bool place_point(struct build *b, const char *digits, int n, int exponent,
                        struct decimal *out) {
    int whole = exponent + 1; /* digits before the point */
    int size = n + (whole > n ? whole - n : 0) + (whole < 0 ? -whole : 0) + 2;
    char *text = build_alloc(b, (size_t)size, 1);
    if (text == NULL)
        return false;
    int at = 0;
    for (int i = whole < 0 ? whole : 0; i < n || i < whole;
         i++) /* zeros where there are no digits */
        text[at++] = i >= 0 && i < n ? digits[i] : '0';
    int split = whole > 0 ? whole : 0;
    out->fraction = text + split;
    out->n_fraction = (uint32_t)(at - split);
    while (out->n_fraction > 0 && out->fraction[out->n_fraction - 1] == '0')
        out->n_fraction--;
    out->whole = split > 0 ? text : "0";
    out->n_whole = split > 0 ? (uint32_t)split : 1;
    while (out->n_whole > 1 && out->whole[0] == '0') {
        out->whole++;
        out->n_whole--;
    }
    return true;
}

bool decimal_of(struct build *b, const json_t *number, struct decimal *out) {
    char text[48];
    memset(out, 0, sizeof *out);
    if (json_is_integer(number)) {
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(number));
        out->negative = text[0] == '-';
        const char *digits = text + out->negative;
        return place_point(b, digits, (int)strlen(digits), (int)strlen(digits) - 1, out);
    }
    double value = json_real_value(number), back;
    for (int n = 0; n < 17; n++) {
        snprintf(text, sizeof text, "%.*e", n, value);
        for (char *p = text; *p != '\0'; p++)
            *p = *p == ',' ? '.' : *p;
        if (number_read(text, strlen(text), &back) && back == value)
            break;
    }
    char digits[24];
    int n = 0, exponent = 0;
    const char *p = text + (text[0] == '-');
    for (; *p != '\0' && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    if (*p == 'e') {
        bool down = p[1] == '-';
        for (p += 2; *p >= '0' && *p <= '9'; p++)
            exponent = exponent * 10 + (*p - '0');
        exponent = down ? -exponent : exponent;
    }
    out->negative = text[0] == '-' && value != 0;
    return place_point(b, digits, n, exponent, out);
}

static int compare_digits(const char *x, uint32_t nx, const char *y, uint32_t ny) {
    int order = memcmp(x, y, nx < ny ? nx : ny);
    return order != 0 ? order : nx < ny ? -1 : nx > ny;
}

static int compare_magnitudes(const struct decimal *x, const struct decimal *y) {
    if (x->n_whole != y->n_whole)
        return x->n_whole < y->n_whole ? -1 : 1;
    int order = memcmp(x->whole, y->whole, x->n_whole);
    return order != 0 ? order
                      : compare_digits(x->fraction, x->n_fraction, y->fraction, y->n_fraction);
}

int decimal_compare(const struct decimal *x, const struct decimal *y) {
    if (x->negative != y->negative)
        return x->negative ? -1 : 1;
    return x->negative ? compare_magnitudes(y, x) : compare_magnitudes(x, y);
}

bool decimal_whole(const struct decimal *x) {
    return x->n_fraction == 0;
}

/* ------------------------------------------------------------------ steps */

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* x * 10^places as a whole number; false when it is too large. */
static bool scaled(const struct decimal *x, uint32_t places, uint64_t *out) {
    uint64_t v = 0;
    if (x->n_whole + places > WHOLE_DIGITS)
        return false;
    for (uint32_t i = 0; i < x->n_whole + places; i++) {
        uint32_t k = i - x->n_whole;
        char digit = i < x->n_whole ? x->whole[i] : k < x->n_fraction ? x->fraction[k] : '0';
        v = v * 10 + (uint64_t)(digit - '0');
    }
    *out = v;
    return true;
}

bool digits_step(struct build *b, const struct decimal *v, uint32_t n, struct digits *d,
                 const char *where) {
    d->step = 0;
    d->places = 0;
    for (uint32_t i = 0; i < n; i++)
        d->places = v[i].n_fraction > d->places ? v[i].n_fraction : d->places;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t step;
        bool ok = d->places <= 9 && scaled(&v[i], d->places, &step) && step <= STEP_MOST;
        if (ok && step > 0)
            step = d->step == 0 ? step : d->step / common_divisor(d->step, step) * step;
        if (!ok || step > STEP_MOST) {
            build_fail(b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                       "'multipleOf' at %s: a step of more than %u last places is not supported",
                       where, STEP_MOST);
            return false;
        }
        d->step = step;
    }
    return true;
}

/* ------------------------------------------------------------------ bounds of magnitudes */

enum { LESS, SAME, MORE };

/* What is asked of a magnitude. */
struct span_of {
    const struct decimal *low, *high; /* not negative; NULL: no bound */
    bool above, below;
};

static bool is_zero(const struct decimal *x) {
    return x->n_whole == 1 && x->whole[0] == '0' && x->n_fraction == 0;
}

/* False: no number of this sign is between the bounds. */
static bool magnitudes(const struct digits *d, bool negative, struct span_of *out) {
    const struct decimal *low = negative ? d->high : d->low, *high = negative ? d->low : d->high;
    *out = (struct span_of){ low, high, negative ? d->below : d->above,
                             negative ? d->above : d->below };
    if (high != NULL && high->negative != negative && !is_zero(high))
        return false; /* above zero is too much already */
    if (low != NULL && low->negative != negative && !is_zero(low))
        out->low = NULL;
    return true;
}

struct state {
    uint8_t behind;    /* the point was read */
    uint8_t zero;      /* the digit before the point is a zero: no other may follow it */
    uint8_t n;         /* digits before the point, or behind it */
    uint8_t total;     /* of all digits */
    uint8_t low, high; /* how they compare with the digits of the bounds */
    uint32_t rest;     /* of the division by the step */
};

static uint8_t compare_next(const struct decimal *bound, const struct state *s, uint8_t so_far,
                            char digit) {
    if (bound == NULL)
        return SAME;
    char other;
    if (s->behind)
        other = s->n < bound->n_fraction ? bound->fraction[s->n] : '0';
    else if (s->n >= bound->n_whole)
        return MORE;
    else
        other = bound->whole[s->n];
    if (so_far != SAME)
        return so_far;
    return digit < other ? LESS : digit > other ? MORE : SAME;
}

/* The digits before the point are complete. */
static uint8_t compare_point(const struct decimal *bound, const struct state *s, uint8_t so_far) {
    return bound != NULL && s->n < bound->n_whole ? LESS : so_far;
}

/* All digits are there. */
static uint8_t compare_end(const struct decimal *bound, const struct state *s, uint8_t so_far) {
    if (bound == NULL)
        return SAME;
    if (!s->behind)
        so_far = compare_point(bound, s, so_far);
    uint32_t known = s->behind ? s->n : 0;
    return so_far == SAME && bound->n_fraction > known ? LESS : so_far;
}

static bool accepts(const struct digits *d, const struct span_of *m, const struct state *s) {
    uint8_t low = compare_end(m->low, s, s->low), high = compare_end(m->high, s, s->high);
    if (m->low != NULL && (low == LESS || (low == SAME && m->above)))
        return false;
    if (m->high != NULL && (high == MORE || (high == SAME && m->below)))
        return false;
    uint64_t rest = s->rest;
    for (uint32_t i = s->behind ? s->n : 0; i < d->places && d->step != 0; i++)
        rest = rest * 10 % d->step;
    return d->step == 0 || rest == 0;
}

/* ------------------------------------------------------------------ states to nodes */

struct emit {
    struct build *b;
    const struct digits *d;
    struct span_of m;
    struct state *states; /* [n] */
    uint32_t *nodes;      /* [n] */
    uint32_t n, cap, cap_nodes;
    uint32_t *slots, mask;
};

static uint32_t hash_state(const struct state *s) {
    uint64_t h = (uint64_t)s->rest << 32 | (uint32_t)(s->behind * 2 + s->zero) << 24 |
                 (uint32_t)s->n << 16 | (uint32_t)s->total << 8 | (uint32_t)s->low << 4 | s->high;
    return (uint32_t)((h * 0x9e3779b97f4a7c15u) >> 32);
}

static bool same_state(const struct state *a, const struct state *b) {
    return a->behind == b->behind && a->zero == b->zero && a->n == b->n && a->total == b->total &&
           a->low == b->low && a->high == b->high && a->rest == b->rest;
}

static void grow_slots(struct emit *e) {
    uint32_t mask = e->slots == NULL ? 255 : e->mask * 2 + 1;
    uint32_t *slots = build_alloc(e->b, (size_t)mask + 1, sizeof *slots);
    for (uint32_t i = 0; slots != NULL && i < e->n; i++) {
        uint32_t at = hash_state(&e->states[i]) & mask;
        while (slots[at] != 0)
            at = (at + 1) & mask;
        slots[at] = i + 1;
    }
    e->slots = slots;
    e->mask = mask;
}

static uint32_t node_of(struct emit *e, struct state s) {
    if (e->slots == NULL || e->n * 2 > e->mask)
        grow_slots(e);
    if (!build_goes_on(e->b))
        return 0;
    uint32_t at = hash_state(&s) & e->mask;
    for (; e->slots[at] != 0; at = (at + 1) & e->mask)
        if (same_state(&e->states[e->slots[at] - 1], &s))
            return e->nodes[e->slots[at] - 1];
    void *states = e->states, *nodes = e->nodes;
    if (!build_grow(e->b, &states, e->n, &e->cap, sizeof *e->states) ||
        !build_grow(e->b, &nodes, e->n, &e->cap_nodes, sizeof *e->nodes))
        return 0;
    e->states = states;
    e->nodes = nodes;
    e->states[e->n] = s;
    e->nodes[e->n] = build_node(e->b);
    bool started = s.n > 0 || s.behind;
    if (started && !(s.behind && s.n == 0) && accepts(e->d, &e->m, &s))
        build_mark(e->b, e->nodes[e->n], NODE_FINAL);
    e->slots[at] = e->n + 1;
    return e->nodes[e->n++];
}

static void digit_edge(struct emit *e, uint32_t from, const struct state *s, char digit) {
    struct state next = { .behind = s->behind,
                          .zero = !s->behind && s->n == 0 && digit == '0',
                          .n = (uint8_t)(s->n + 1),
                          .total = (uint8_t)(s->total + 1),
                          .low = compare_next(e->m.low, s, s->low, digit),
                          .high = compare_next(e->m.high, s, s->high, digit) };
    if (e->d->step != 0)
        next.rest = (uint32_t)(((uint64_t)s->rest * 10 + (uint64_t)(digit - '0')) % e->d->step);
    build_edge(e->b, from, (uint8_t)digit, (uint8_t)digit, node_of(e, next));
}

/* Magnitudes whose first digit `from` reads. */
static void emit_magnitudes(struct emit *e, uint32_t from) {
    const struct digits *d = e->d;
    uint32_t most = d->whole ? WHOLE_DIGITS : REAL_DIGITS;
    uint32_t places = d->whole ? 0 : d->step != 0 ? d->places : REAL_DIGITS;
    const struct state none = { .low = SAME, .high = SAME };
    for (char c = '0'; c <= '9'; c++)
        digit_edge(e, from, &none, c);
    for (uint32_t q = 0; q < e->n && build_goes_on(e->b); q++) {
        struct state s = e->states[q];
        uint32_t node = e->nodes[q];
        if (s.total < most && !s.zero && !(s.behind && s.n >= places))
            for (char c = '0'; c <= '9'; c++)
                digit_edge(e, node, &s, c);
        if (!s.behind && places > 0 && s.total < most) {
            struct state point = { .behind = 1,
                                   .total = s.total,
                                   .low = compare_point(e->m.low, &s, s.low),
                                   .high = compare_point(e->m.high, &s, s.high),
                                   .rest = s.rest };
            build_edge(e->b, node, '.', '.', node_of(e, point));
        }
    }
}

void digits_emit(struct build *b, const struct digits *d, uint32_t start) {
    for (int negative = 0; negative < 2; negative++) {
        struct emit e = { .b = b, .d = d };
        if (!magnitudes(d, negative != 0, &e.m))
            continue;
        uint32_t from = start;
        if (negative) {
            from = build_node(b);
            build_edge(b, start, '-', '-', from);
        }
        emit_magnitudes(&e, from);
    }
}

bool digits_match(const struct digits *d, const struct decimal *x) {
    uint64_t v;
    if ((d->whole && !decimal_whole(x)) ||
        (d->low != NULL && decimal_compare(x, d->low) < (d->above ? 1 : 0)) ||
        (d->high != NULL && decimal_compare(x, d->high) > (d->below ? -1 : 0)))
        return false;
    if (d->step == 0)
        return true;
    return x->n_fraction <= d->places && scaled(x, d->places, &v) && v % d->step == 0;
}
