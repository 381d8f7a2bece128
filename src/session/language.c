/* language.c - the state machine between a grammar and the ids of an answer.
 *
 *   thinking --closing marker--> [line ends] --> the format, or calls, or free text
 *   free text --token that opens a call--> calls
 *
 * Where text has to come whatever is chosen, it is made into ids at once: those that the tokenizer
 * gives for it, without the last one, which might have been another had the text gone on (a word that
 * is not complete yet); a control token stands for itself and is kept. */
#include "session/language.h"

#include <string.h>

#include "base/utf8.h"

static void allow(struct language *l, int32_t id) {
    l->mask[(uint32_t)id >> 5] |= 1u << ((uint32_t)id & 31);
}

/* The id of a text that is one token; -1. */
static int32_t only_id(const slm_engine *e, const char *text) {
    return token_id_of(e->tokenizer, text, strlen(text));
}

/* ------------------------------------------------------------------ forced text */

/* How many of ids [n] spell a beginning of s [size] of at most `most` bytes, whole ids only; *at gets
 * its length. */
static size_t spelled(const struct tokenizer *t, const int32_t *ids, size_t n, const char *s,
                      size_t size, size_t most, size_t *at) {
    size_t k = 0;
    *at = 0;
    for (; k < n; k++) {
        const char *text;
        size_t len;
        if (!token_text_of(t, ids[k], &text, &len) || len == 0 || len > size - *at ||
            *at + len > most || memcmp(s + *at, text, len) != 0)
            break;
        *at += len;
    }
    return k;
}

/* Control tokens are meant only where calls are written. */
static slm_err encode_forced(struct language *l, const char *s, size_t n, slm_why *why) {
    const struct tokenizer *t = l->engine->tokenizer;
    struct token_piece piece = { s, n, l->now != l->calls };
    size_t whole = n == FORCED_BYTES ? n - 64 : n, at; /* cut somewhere: not to the last byte */
    int32_t *ids;
    size_t n_ids;
    TRY(tokenizer_encode(t, &piece, 1, 0, &ids, &n_ids, why));
    size_t k = spelled(t, ids, n_ids, s, n, whole, &at);
    if (k > 0 && !token_is_control(t, ids[k - 1]))
        k--;
    mem_free(&l->engine->hooks, l->forced);
    l->forced = ids;
    l->n_forced = k;
    l->at = 0;
    return SLM_OK;
}

static slm_err look_ahead(struct language *l, slm_why *why) {
    char bytes[FORCED_BYTES];
    l->n_forced = l->at = 0;
    if (l->state != LANGUAGE_ON)
        return SLM_OK;
    size_t n = matcher_forced(l->now, bytes, sizeof bytes);
    n = utf8_valid(bytes, n); /* no half character; and none where an id ended inside one */
    return n > 1 ? encode_forced(l, bytes, n, why) : SLM_OK; /* one is the last: the sampler's */
}

/* ------------------------------------------------------------------ states */

static slm_err turn_on(struct language *l, struct matcher *m, slm_why *why) {
    l->now = m;
    l->state = LANGUAGE_ON;
    return look_ahead(l, why);
}

/* Where the answer begins: after the thinking, or at once. */
static slm_err begin_answer(struct language *l, bool thought, slm_why *why) {
    struct matcher *m = l->setup.must_call ? l->calls : l->format;
    l->blanks = thought ? 2 : 0;
    l->state = m == NULL ? LANGUAGE_FREE : LANGUAGE_BEGINS;
    l->now = m;
    bool calls_too = !l->setup.must_call && l->marker >= 0;
    if (m != NULL && l->blanks == 0 && !calls_too && !(l->first && l->setup.may_think))
        return turn_on(l, m, why);
    return SLM_OK;
}

slm_err language_answer(struct language *l, slm_why *why) {
    if (l->state != LANGUAGE_BEGINS)
        return SLM_OK;
    l->blanks = 0;
    bool calls_too = !l->setup.must_call && l->marker >= 0;
    return calls_too ? SLM_OK : turn_on(l, l->now, why);
}

static slm_err refused(const struct language *l, int32_t id, slm_why *why) {
    (void)l;
    return fail(why, SLM_E_STATE, SLM_NO_OFFSET, "id %d is not of the answer's language", id);
}

/* The text of an id, for what the vocabulary of the matcher leaves out. */
static bool accept_text(struct language *l, int32_t id) {
    const char *text;
    size_t n;
    return token_text_of(l->engine->tokenizer, id, &text, &n) &&
           matcher_accept_bytes(l->now, text, n);
}

static slm_err open_call(struct language *l, slm_why *why) {
    matcher_reset(l->calls);
    l->now = l->calls;
    if (!accept_text(l, l->marker))
        return refused(l, l->marker, why);
    return turn_on(l, l->calls, why);
}

static slm_err take_first_of_answer(struct language *l, int32_t id, bool first, slm_why *why) {
    if (first && l->setup.may_think && id == l->engine->think_open) {
        l->state = LANGUAGE_THINKING;
        return SLM_OK;
    }
    if (!l->setup.must_call && l->marker >= 0 && id == l->marker)
        return open_call(l, why);
    if (l->state == LANGUAGE_FREE)
        return SLM_OK;
    for (unsigned k = 0; k < 2; k++)
        if (id == l->blank[k] && l->blanks >= k + 1) {
            l->blanks -= k + 1;
            return l->blanks == 0 ? language_answer(l, why) : SLM_OK;
        }
    if (!matcher_accept(l->now, id))
        return refused(l, id, why);
    return turn_on(l, l->now, why);
}

slm_err language_take(struct language *l, int32_t id, slm_why *why) {
    bool first = l->first;
    l->first = false;
    switch (l->state) {
    case LANGUAGE_NONE:
        break;
    case LANGUAGE_THINKING:
        if (id == l->engine->think_close)
            return begin_answer(l, true, why);
        break;
    case LANGUAGE_FREE:
    case LANGUAGE_BEGINS:
        return take_first_of_answer(l, id, first, why);
    case LANGUAGE_ON:
        if (language_forced(l) == id) {
            if (!accept_text(l, id))
                return refused(l, id, why);
            if (++l->at < l->n_forced)
                return SLM_OK;
        } else if (!matcher_accept(l->now, id)) {
            return refused(l, id, why);
        }
        return look_ahead(l, why);
    }
    return SLM_OK;
}

bool language_over(const struct language *l) {
    return l->state == LANGUAGE_ON && l->at == l->n_forced && matcher_must_end(l->now);
}

uint32_t language_ahead(const struct language *l, int32_t *ids, uint32_t room) {
    uint32_t n = 0;
    for (size_t i = l->at; i < l->n_forced && n < room; i++)
        ids[n++] = l->forced[i];
    return n;
}

/* ------------------------------------------------------------------ the mask */

static void allow_stops(struct language *l, bool yes) {
    const struct model *m = &l->engine->facts.m;
    for (const int32_t *stop = m->stop; *stop >= 0; stop++) {
        if ((uint32_t)*stop >= m->vocab)
            continue;
        if (yes && !l->setup.ignore_stop)
            allow(l, *stop);
        else
            l->mask[(uint32_t)*stop >> 5] &= ~(1u << ((uint32_t)*stop & 31));
    }
}

static void allow_before(struct language *l) {
    if (l->first && l->setup.may_think)
        allow(l, l->engine->think_open);
    if (!l->setup.must_call && l->marker >= 0)
        allow(l, l->marker);
    for (unsigned k = 0; k < 2; k++)
        if (l->blank[k] >= 0 && l->blanks >= k + 1)
            allow(l, l->blank[k]);
}

slm_err language_mask(struct language *l, const uint32_t **mask, slm_why *why) {
    const uint32_t *from;
    *mask = NULL;
    if (l->state == LANGUAGE_NONE || l->state == LANGUAGE_FREE)
        return SLM_OK;
    if (l->state == LANGUAGE_THINKING) {
        if (l->format == NULL && !l->setup.must_call)
            return SLM_OK;
        memset(l->mask, 0xff, l->words * sizeof *l->mask);
        allow_stops(l, false); /* an answer has to follow */
    } else {
        TRY(matcher_mask(l->now, &from, why));
        memcpy(l->mask, from, l->words * sizeof *l->mask);
        allow_stops(l, matcher_may_end(l->now));
        if (l->state == LANGUAGE_BEGINS)
            allow_before(l);
    }
    *mask = l->mask;
    return SLM_OK;
}

/* ------------------------------------------------------------------ begin and end */

slm_err language_begin(struct language *l, const slm_engine *e, const struct language_setup *setup,
                       slm_why *why) {
    const struct constrain_vocab *v;
    const char *open = dialect_open(setup->dialect);
    *l = (struct language){ .engine = e, .setup = *setup, .first = true, .marker = -1 };
    if (setup->format == NULL && setup->calls == NULL)
        return SLM_OK;
    TRY(vocabulary_of(e, &v, why));
    l->words = (e->facts.m.vocab + 31) / 32;
    l->mask = mem_alloc(&e->hooks, l->words, sizeof *l->mask);
    if (l->mask == NULL)
        return fail_nomem(why, "mask", l->words * sizeof *l->mask);
    if (setup->format != NULL)
        TRY(matcher_new(&e->hooks, setup->format, v, &l->format, why));
    if (setup->calls != NULL)
        TRY(matcher_new(&e->hooks, setup->calls, v, &l->calls, why));
    if (setup->calls != NULL && open != NULL)
        l->marker = only_id(e, open);
    l->blank[0] = only_id(e, "\n");
    l->blank[1] = only_id(e, "\n\n");
    l->setup.may_think = setup->may_think && e->think_open >= 0 && e->think_close >= 0;
    if (setup->inside && e->think_close >= 0) {
        l->state = LANGUAGE_THINKING;
        return SLM_OK;
    }
    return begin_answer(l, false, why);
}

void language_end(struct language *l) {
    if (l->engine == NULL)
        return;
    const struct slm_hooks *h = &l->engine->hooks;
    matcher_free(l->format);
    matcher_free(l->calls);
    mem_free(h, l->mask);
    mem_free(h, l->forced);
    *l = (struct language){ 0 };
}
