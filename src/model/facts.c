/* facts.c - judging the numbers of a file: possible at all? a known model? one that was altered?
 *
 * In:  a struct model as read from config.json or GGUF metadata.
 * Out: the table row when every number agrees (verified), the file's own numbers when it is another
 *      model of a known family (derived), E_MISMATCH when it claims to be a known one and differs. */
#include "model/facts.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_LAYERS 1024
#define MAX_WIDTH 65536 /* hidden, heads x head_dim */
#define MAX_HEAD 1024
#define MAX_FFN (1u << 20)
#define MAX_VOCAB (1u << 22)
#define MAX_CONTEXT (1u << 24)
#define ARENA_LIMIT ((size_t)1 << 20)

void facts_start(struct facts *f, const struct slm_hooks *h, const struct family *family,
                 bool from_gguf) {
    *f = (struct facts){ .from_gguf = from_gguf, .trust = TRUST_DERIVED };
    f->m.family = family;
    f->m.bos = -1;
    for (size_t i = 0; i < MODEL_STOPS; i++)
        f->m.stop[i] = -1;
    f->m.think = family->think;
    f->m.rope.attention_factor = f->m.rope.factor = 1.0f;
    f->m.sampling.temperature = f->m.sampling.top_p = 1.0f;
    arena_init(&f->arena, h, ARENA_LIMIT);
}

void facts_from_model(const struct slm_hooks *h, const struct model *m, struct facts *out) {
    facts_start(out, h, m->family, false);
    out->m = *m;
    out->known = m;
    out->trust = TRUST_VERIFIED;
}

void facts_free(struct facts *f) {
    if (f != NULL)
        arena_free(&f->arena);
}

void facts_list_families(char *out, size_t n) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; families_all[i] != NULL && used < n; i++)
        used += (size_t)snprintf(out + used, n - used, "%s%s", i > 0 ? ", " : "",
                                 families_all[i]->name);
}

slm_err facts_add_stop(struct model *m, int64_t id, const char *where, slm_why *why) {
    if (id < 0 || id > INT32_MAX)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s: %lld is no token id", where,
                    (long long)id);
    size_t n = 0;
    while (m->stop[n] >= 0)
        if (m->stop[n++] == (int32_t)id)
            return SLM_OK;
    if (n + 1 >= MODEL_STOPS)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s: more than %d ids end a text", where,
                    MODEL_STOPS - 1);
    m->stop[n] = (int32_t)id;
    m->stop[n + 1] = -1;
    return SLM_OK;
}

float long_rope_attention_factor(uint32_t context, uint32_t original) {
    double scale = (double)context / (double)original;
    return scale <= 1.0 ? 1.0f : (float)sqrt(1.0 + log(scale) / log((double)original));
}

/* ------------------------------------------------------------------ possible at all? */

struct limit {
    const char *what;
    uint64_t value, most;
};

static slm_err check_rope(const struct model *m, slm_why *why) {
    if (m->rotary == 0 || m->rotary % 2 != 0 || m->rotary > m->head_dim)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "%u dimensions of a head are to be turned, of %u", m->rotary, m->head_dim);
    if (!(m->theta >= 1.0f && m->theta < 1e12f))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "rope base is %g", (double)m->theta);
    if (m->rope.kind == ROPE_LINEAR && !(m->rope.factor >= 1e-3f && m->rope.factor <= 1e6f))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "linear rope factor is %g",
                    (double)m->rope.factor);
    if (m->rope.kind != ROPE_LONG)
        return SLM_OK;
    if (m->rope.original_context < 2)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "original context of longrope is %u",
                    m->rope.original_context);
    if (!(m->rope.attention_factor > 0.0f && m->rope.attention_factor < 1e3f))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "attention factor is %g",
                    (double)m->rope.attention_factor);
    for (uint32_t i = 0; i < m->rotary / 2; i++) {
        const float *both[] = { m->rope.short_factors, m->rope.long_factors };
        for (size_t k = 0; k < 2; k++)
            if (!(both[k][i] > 1e-6f && both[k][i] < 1e6f))
                return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s rope factor %u is %g",
                            k == 0 ? "short" : "long", i, (double)both[k][i]);
    }
    return SLM_OK;
}

static slm_err check_numbers(const struct model *m, slm_why *why) {
    const struct limit limits[] = {
        { "layers", m->layers, MAX_LAYERS },
        { "hidden", m->hidden, MAX_WIDTH },
        { "heads", m->heads, MAX_WIDTH },
        { "kv heads", m->kv_heads, m->heads },
        { "head dimension", m->head_dim, MAX_HEAD },
        { "heads x head dimension", (uint64_t)m->heads * m->head_dim, MAX_WIDTH },
        { "ffn", m->ffn, MAX_FFN },
        { "vocabulary", m->vocab, MAX_VOCAB },
        { "context", m->context, MAX_CONTEXT },
    };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        if (limits[i].value == 0 || limits[i].value > limits[i].most)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%s is %llu, expected 1 to %llu",
                        limits[i].what, (unsigned long long)limits[i].value,
                        (unsigned long long)limits[i].most);
    if (m->heads % m->kv_heads != 0)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "%u heads cannot share %u kv heads", m->heads,
                    m->kv_heads);
    if (!(m->eps > 0.0f && m->eps < 1.0f))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "epsilon of the norms is %g", (double)m->eps);
    if (m->attn_scale < 0.0f || !isfinite(m->attn_scale))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "attention scale is %g",
                    (double)m->attn_scale);
    for (uint32_t i = 0; i < m->layers; i++)
        if (pattern_at(m->pattern, i) == 's' &&
            (m->window == 0 || !(m->theta_sliding >= 1.0f && m->theta_sliding < 1e12f)))
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "layer %u slides, but the window is %u and its rope base %g", i, m->window,
                        (double)m->theta_sliding);
    return check_rope(m, why);
}

/* ------------------------------------------------------------------ the same as a known model? */

struct difference {
    const char *what; /* NULL: none */
    double file, table;
};

static bool differs(struct difference *d, const char *what, double file, double table) {
    if (file == table)
        return false;
    *d = (struct difference){ what, file, table };
    return true;
}

/* Values that went through different roundings on their way (an attention factor as a decimal). */
static bool differs_much(struct difference *d, const char *what, double file, double table) {
    return fabs(file - table) > 1e-6 * fabs(table) && differs(d, what, file, table);
}

static bool factors_differ(struct difference *d, const char *what, const float *file,
                           const float *table, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (differs_much(d, what, (double)file[i], (double)table[i]))
            return true;
    return false;
}

static bool rope_differs(struct difference *d, const struct model *f, const struct model *t) {
    if (differs(d, "rope base", (double)f->theta, (double)t->theta) ||
        differs(d, "rope dimensions", f->rotary, t->rotary) ||
        differs(d, "kind of rope scaling (0 none, 1 linear, 2 longrope)", (double)f->rope.kind,
                (double)t->rope.kind))
        return true;
    if (t->rope.kind == ROPE_LINEAR)
        return differs(d, "rope factor", (double)f->rope.factor, (double)t->rope.factor);
    if (t->rope.kind != ROPE_LONG)
        return false;
    return differs(d, "original context", f->rope.original_context, t->rope.original_context) ||
           differs_much(d, "rope attention factor", (double)f->rope.attention_factor,
                        (double)t->rope.attention_factor) ||
           factors_differ(d, "a short rope factor", f->rope.short_factors, t->rope.short_factors,
                          t->rotary / 2) ||
           factors_differ(d, "a long rope factor", f->rope.long_factors, t->rope.long_factors,
                          t->rotary / 2);
}

/* The first number of the arithmetic in which a file of the same shape differs from the table. */
static bool model_differs(struct difference *d, const struct model *f, const struct model *t) {
    bool slides = false;
    if (differs(d, "kv heads", f->kv_heads, t->kv_heads) ||
        differs(d, "head dimension", f->head_dim, t->head_dim) ||
        differs(d, "epsilon of the norms", (double)f->eps, (double)t->eps) ||
        differs_much(d, "attention scale", (double)model_attn_scale(f),
                     (double)model_attn_scale(t)) ||
        rope_differs(d, f, t))
        return true;
    for (uint32_t i = 0; i < t->layers; i++) {
        char file = pattern_at(f->pattern, i), table = pattern_at(t->pattern, i);
        slides = slides || table == 's';
        if (differs(d, "kind of a layer ('F' 70, 'N' 78, 's' 115)", file, table))
            return true;
    }
    return slides && (differs(d, "sliding window", f->window, t->window) ||
                      differs(d, "rope base of sliding layers", (double)f->theta_sliding,
                              (double)t->theta_sliding));
}

static bool same_vocabulary(const struct facts *f, const struct model *t) {
    return f->m.vocab == t->vocab ||
           (f->from_gguf && t->vocab_cut > 0 && f->m.vocab == t->vocab_cut);
}

static bool same_shape(const struct facts *f, const struct model *t) {
    return f->m.family == t->family && f->m.layers == t->layers && f->m.hidden == t->hidden &&
           f->m.heads == t->heads && f->m.ffn == t->ffn && same_vocabulary(f, t);
}

/* Whether `text` holds `name` when only letters and digits count, in either case. */
static bool mentions(const char *text, const char *name) {
    if (text == NULL || name == NULL)
        return false;
    for (; *text != '\0'; text++) {
        const char *t = text, *n = name;
        for (;;) {
            while (*n != '\0' && !isalnum((unsigned char)*n))
                n++;
            if (*n == '\0')
                return true;
            while (*t != '\0' && !isalnum((unsigned char)*t))
                t++;
            if (tolower((unsigned char)*t) != tolower((unsigned char)*n))
                break;
            t++, n++;
        }
    }
    return false;
}

static bool named(const struct model *t, const char *name) {
    const char *hub = t->card.hub_id != NULL ? strrchr(t->card.hub_id, '/') : NULL;
    return mentions(name, t->name) || (hub != NULL && mentions(name, hub + 1));
}

struct match {
    const struct model *equal;    /* every number agrees */
    const struct model *claimed;  /* shape agrees, something else does not */
    struct difference difference; /* of claimed */
};

/* Where rows have equal numbers the one named wins, else the one that does not wait for its name.
 * Equal arithmetic with another context is a sister of the model (its base, say): derived. */
static void find_match(const struct facts *f, const char *own, const char *hint,
                       struct match *found) {
    *found = (struct match){ 0 };
    int best_equal = -1, best_claimed = -1;
    for (size_t i = 0; models_all[i] != NULL; i++) {
        const struct model *t = models_all[i];
        struct difference d = { 0 };
        if (!same_shape(f, t))
            continue;
        bool is_named = named(t, own) || named(t, hint);
        int rank = is_named ? 2 : t->chosen_by_name ? 0 : 1;
        bool same_context = f->m.context == t->context;
        if (!model_differs(&d, &f->m, t)) {
            if (same_context && rank > best_equal) {
                best_equal = rank;
                found->equal = t;
            }
        } else if ((same_context || is_named) && rank > best_claimed) {
            best_claimed = rank;
            found->claimed = t;
            found->difference = d;
        }
    }
}

/* The table row with what may rightly differ taken from the file: rows cut off, more stop ids. */
static slm_err take_row(struct facts *f, const struct model *row, slm_why *why) {
    struct model file = f->m;
    f->m = *row;
    f->known = row;
    f->trust = TRUST_VERIFIED;
    f->m.vocab = file.vocab;
    if (f->m.vocab_used > f->m.vocab)
        f->m.vocab_used = f->m.vocab;
    f->m.tied = file.tied;
    for (size_t i = 0; file.stop[i] >= 0; i++)
        TRY(facts_add_stop(&f->m, file.stop[i], "stop ids", why));
    return SLM_OK;
}

static slm_err identify(struct facts *f, const char *own, const char *hint, slm_why *why) {
    struct match found;
    find_match(f, own, hint, &found);
    if (found.equal != NULL)
        return take_row(f, found.equal, why);
    if (found.claimed != NULL)
        return fail(why, SLM_E_MISMATCH, SLM_NO_OFFSET,
                    "the file has the shape of %s, but its %s is %.9g, not %.9g",
                    found.claimed->name, found.difference.what, found.difference.file,
                    found.difference.table);
    const char *name = own != NULL && own[0] != '\0'     ? own
                       : hint != NULL && hint[0] != '\0' ? hint
                                                         : f->m.family->name;
    f->m.name = arena_strdup(&f->arena, name, strlen(name));
    return f->m.name != NULL ? SLM_OK : fail_nomem(why, "name of the model", strlen(name));
}

/* ------------------------------------------------------------------ what the file recommends */

static slm_err take_sampling(struct model *m, const struct file_sampling *s, slm_why *why) {
    if ((s->has_temperature && !(s->temperature >= 0.0 && s->temperature <= 100.0)) ||
        (s->has_top_p && !(s->top_p >= 0.0 && s->top_p <= 1.0)) ||
        (s->has_min_p && !(s->min_p >= 0.0 && s->min_p <= 1.0)))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "recommended sampling is out of range: temperature %g, top_p %g, min_p %g",
                    s->temperature, s->top_p, s->min_p);
    if (s->has_sample)
        m->sampling.sample = s->sample;
    if (m->sampling.sample && m->sampling.temperature == 0.0f && !s->has_temperature)
        m->sampling.temperature = 1.0f;
    if (s->has_temperature)
        m->sampling.temperature = (float)s->temperature;
    if (s->has_top_p)
        m->sampling.top_p = (float)s->top_p;
    if (s->has_min_p)
        m->sampling.min_p = (float)s->min_p;
    if (s->has_top_k)
        m->sampling.top_k = s->top_k;
    return SLM_OK;
}

slm_err facts_finish(struct facts *f, const char *own_name, const char *hint,
                     const struct file_sampling *s, slm_why *why) {
    TRY(check_numbers(&f->m, why));
    if (f->m.vocab_used == 0 || f->m.vocab_used > f->m.vocab)
        f->m.vocab_used = f->m.vocab;
    TRY(identify(f, own_name, hint, why));
    f->m.params = model_params(&f->m);
    for (size_t i = 0; f->m.stop[i] >= 0; i++)
        if ((uint32_t)f->m.stop[i] >= f->m.vocab)
            return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                        "stop id %d lies outside the vocabulary of %u", f->m.stop[i], f->m.vocab);
    return take_sampling(&f->m, s, why);
}
