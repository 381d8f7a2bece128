/* schema_object.c - objects: members in the order of the schema, then others where they are allowed.
 *
 * Known members, i = 0 .. n-1: behind member i the next is one of i+1 .. up to and with the first that is
 * required. Those keys are a tree of characters that is made from the last member backwards: the tree
 * before i is the tree before i+1 and one key more, and shares all nodes but those on the way to that
 * key. (So n optional members cost n keys, not n * n.)
 *
 * Other members: which schemas apply to them depends on which of the patternProperties their key
 * matches; for each combination that some key has, there is a rule for such keys, and one for the value.
 * They come behind the known ones. Their keys are strings in one spelling, and never repeated: the
 * matcher sees to that (run.c). It must not be possible to run out of keys half way through one: where a
 * language of keys is small, the keys are listed and become known members; and where few would be left
 * (KEYS_LEFT), a key does not go. */
#include <string.h>

#include "constrain/schema.h"

#define PATTERNS_MOST 6  /* patternProperties of one set: 2^n combinations */
#define LISTED_MOST 1024 /* keys that are listed, not matched */
#define KEYS_LEFT 65536  /* more than a matcher takes in one object */
#define COUNTED_MOST 4096

struct member {
    const char *name;
    bool required;
    struct parts value;
    uint32_t key; /* node where a key may begin, with this member the first allowed */
};
struct key_kind {
    uint32_t keys, value; /* node behind the opening quote; rule */
};
struct object {
    struct schema *s;
    struct build *b;
    const struct merged *m;
    struct member *members; /* [n] */
    uint32_t n, cap;
    struct memo names;        /* name to index */
    const char **patterns;    /* [n_patterns] all different */
    struct chars **languages; /* [n_patterns] keys that match */
    uint32_t n_patterns;
    struct key_kind kinds[1 << PATTERNS_MOST];
    uint32_t n_kinds;
    struct chars *name_language; /* of propertyNames; NULL: any */
    bool call;                   /* written as arguments of a function: a=1, b=2) */
};

/* ------------------------------------------------------------------ what the schemas name */

static const json_t *object_of(struct schema *s, const json_t *schema, const char *keyword) {
    const json_t *v = json_object_get(schema, keyword);
    if (v != NULL && !json_is_object(v))
        schema_malformed(s, schema, keyword, "is no object");
    return v;
}

static bool takes_part(const struct schema *s, const json_t *schema) {
    return !(s->draft7 && json_object_get(schema, "$ref") != NULL);
}

static uint32_t add_member(struct object *o, const char *name) {
    uint32_t slot, at = memo_get(o->b, &o->names, name, (uint32_t)strlen(name), &slot);
    if (at != NODE_NONE || o->b->err != SLM_OK)
        return at;
    void *array = o->members;
    if (!build_grow(o->b, &array, o->n, &o->cap, sizeof *o->members))
        return 0;
    o->members = array;
    o->members[o->n] = (struct member){ .name = name };
    memo_put(&o->names, slot, o->n);
    return o->n++;
}

static void add_required(struct object *o, const json_t *schema, const json_t *list) {
    size_t i;
    json_t *v;
    if (!json_is_array(list))
        schema_malformed(o->s, schema, "required", "is no array of strings");
    json_array_foreach((json_t *)(uintptr_t)list, i, v) {
        if (!json_is_string(v)) {
            schema_malformed(o->s, schema, "required", "is no array of strings");
            return;
        }
        uint32_t at = add_member(o, json_string_value(v));
        if (!build_goes_on(o->b))
            return;
        o->members[at].required = true;
    }
}

static void add_pattern(struct object *o, const json_t *schema, const char *pattern) {
    struct buf where;
    for (uint32_t i = 0; i < o->n_patterns; i++)
        if (strcmp(o->patterns[i], pattern) == 0)
            return;
    if (o->n_patterns == PATTERNS_MOST) {
        schema_unsupported(o->s, schema, "patternProperties",
                           "with more than 6 patterns is not supported");
        return;
    }
    buf_init(&where, o->b->hooks, 1024);
    buf_printf(&where, "schema: 'patternProperties' at %s: ", schema_place(o->s, schema));
    if (where.err == SLM_OK) {
        o->patterns[o->n_patterns] = pattern;
        o->languages[o->n_patterns++] =
            chars_regex(o->b, pattern, strlen(pattern), true, where.data);
    } else
        build_fail(o->b, where.err, SLM_NO_OFFSET, "out of memory for a constraint");
    buf_free(&where);
}

static void add_names(struct object *o, const json_t *schema) {
    const char *name;
    json_t *v;
    struct schema *s = o->s;
    const json_t *more = json_object_get(schema, "unevaluatedProperties");
    static const char *const others[] = { "$ref", "allOf", "anyOf", "oneOf" };
    for (size_t i = 0; i < ARRAY_LEN(others) && more != NULL && !json_is_true(more); i++)
        if (json_object_get(schema, others[i]) != NULL)
            schema_unsupported(s, schema, "unevaluatedProperties",
                               "beside references or alternatives is not supported");
    json_object_foreach((json_t *)(uintptr_t)object_of(s, schema, "properties"), name,
                        v) if (build_goes_on(o->b)) add_member(o, name);
    json_object_foreach((json_t *)(uintptr_t)object_of(s, schema, "patternProperties"), name,
                        v) if (build_goes_on(o->b)) add_pattern(o, schema, name);
}

/* ------------------------------------------------------------------ keys */

/* The language that "propertyNames" leaves: of the set of those schemas, as a string. */
static void read_property_names(struct object *o) {
    struct parts names = { NULL, 0, 0 }, flat;
    struct merged m;
    struct schema *s = o->s;
    for (uint32_t i = 0; i < o->m->parts->n; i++) {
        const json_t *schema = o->m->parts->v[i].schema,
                     *v = json_object_get(schema, "propertyNames");
        if (v == NULL || !takes_part(s, schema))
            continue;
        if (!json_is_object(v) && !json_is_boolean(v))
            schema_malformed(s, schema, "propertyNames", "is neither an object nor a boolean");
        else
            parts_add(s, &names, v, 0);
    }
    if (names.n == 0 || o->b->err != SLM_OK)
        return;
    if (!schema_flatten(s, &names, &flat)) {
        o->name_language = chars_words(o->b, NULL, 0, false);
        return;
    }
    for (uint32_t i = 0; i < flat.n; i++)
        if (json_object_get(flat.v[i].schema, "anyOf") ||
            json_object_get(flat.v[i].schema, "oneOf"))
            schema_unsupported(s, flat.v[i].schema, "propertyNames",
                               "with alternatives is not supported");
    if (!schema_merge(s, &flat, &m))
        return;
    if (m.has_values || !(m.types & TYPE_STRING)) {
        const char **words = build_alloc(o->b, (size_t)m.n_values + 1, sizeof *words);
        uint32_t n = 0;
        for (uint32_t i = 0; words != NULL && i < m.n_values; i++)
            if (json_is_string(m.values[i]) && schema_allows(s, &m, m.values[i]))
                words[n++] = json_string_value(m.values[i]);
        if (words != NULL)
            o->name_language = chars_words(o->b, words, n, false);
    } else
        o->name_language = schema_chars(s, &m);
}

/* The schemas for the member of a key: those of "properties" by name (NULL: none), those of the patterns
 * in the bit set, and where neither speaks the schema's "additionalProperties". */
static bool value_parts(struct object *o, const char *name, uint32_t patterns, struct parts *out) {
    const struct parts *p = o->m->parts;
    for (uint32_t i = 0; i < p->n; i++) {
        const json_t *schema = p->v[i].schema;
        if (!takes_part(o->s, schema))
            continue;
        const json_t *own =
            name != NULL ? json_object_get(json_object_get(schema, "properties"), name) : NULL;
        const json_t *by_pattern = json_object_get(schema, "patternProperties");
        bool spoken = own != NULL;
        if (own != NULL && !parts_add(o->s, out, own, 0))
            return false;
        for (uint32_t k = 0; k < o->n_patterns; k++) {
            const json_t *v = json_object_get(by_pattern, o->patterns[k]);
            if (v == NULL || !(patterns >> k & 1))
                continue;
            spoken = true;
            if (!parts_add(o->s, out, v, 0))
                return false;
        }
        const json_t *more = json_object_get(schema, "additionalProperties");
        if (more == NULL)
            more = json_object_get(schema, "unevaluatedProperties");
        if (!spoken && more != NULL && !parts_add(o->s, out, more, 0))
            return false;
    }
    for (uint32_t i = 0; i < out->n; i++)
        if (!json_is_object(out->v[i].schema) && !json_is_boolean(out->v[i].schema)) {
            schema_malformed(o->s, out->v[i].schema, "schema",
                             "is neither an object nor a boolean");
            return false;
        }
    return o->b->err == SLM_OK;
}

static bool is_never(const struct parts *p) {
    for (uint32_t i = 0; i < p->n; i++)
        if (json_is_false(p->v[i].schema))
            return true;
    return false;
}

static uint32_t patterns_of(const struct object *o, const char *name) {
    uint32_t bits = 0;
    for (uint32_t k = 0; k < o->n_patterns; k++)
        bits |= (uint32_t)chars_match(o->languages[k], name, strlen(name)) << k;
    return bits;
}

static void value_of_member(struct object *o, struct member *m) {
    uint32_t bits = patterns_of(o, m->name);
    if (!value_parts(o, m->name, bits, &m->value))
        return;
    if (o->name_language != NULL && !chars_match(o->name_language, m->name, strlen(m->name)))
        parts_add(o->s, &m->value, json_false(), 0);
}

/* Keys of no known member that match just these patterns. NULL after a failure. */
static struct chars *other_keys(struct object *o, uint32_t bits) {
    const char **names = build_alloc(o->b, (size_t)o->n + 1, sizeof *names);
    for (uint32_t i = 0; names != NULL && i < o->n; i++)
        names[i] = o->members[i].name;
    struct chars *c = chars_words(o->b, names, o->n, true);
    c = chars_both(o->b, c, o->name_language);
    for (uint32_t k = 0; k < o->n_patterns; k++)
        c = bits >> k & 1 ? chars_both(o->b, c, o->languages[k])
                          : chars_without(o->b, c, o->languages[k]);
    chars_trim(o->b, c);
    return o->b->err == SLM_OK ? c : NULL;
}

/* Keys that would leave too few others go. False: none are left. */
static bool keep_open(struct object *o, struct chars *c) {
    uint32_t *count = chars_count(o->b, c);
    for (size_t i = 0; count != NULL && i < (size_t)c->n_states * c->n_classes; i++)
        if (c->next[i] != NODE_NONE && count[c->next[i]] < KEYS_LEFT)
            c->next[i] = NODE_NONE;
    chars_trim(o->b, c);
    return o->b->err == SLM_OK && !chars_empty(c);
}

static void add_other_keys(struct object *o, uint32_t bits) {
    struct parts value = { NULL, 0, 0 };
    if (!value_parts(o, NULL, bits, &value) || is_never(&value))
        return;
    struct chars *c = other_keys(o, bits);
    if (c == NULL || chars_empty(c))
        return;
    uint32_t *count = chars_count(o->b, c);
    if (count == NULL)
        return;
    if (count[0] <= LISTED_MOST) {
        char **list = build_alloc(o->b, LISTED_MOST + 1, sizeof *list);
        uint32_t n = list != NULL ? chars_list(o->b, c, list, LISTED_MOST + 1) : 0;
        for (uint32_t i = 0; i < n && build_goes_on(o->b); i++) {
            uint32_t at = add_member(o, list[i]);
            if (o->b->err == SLM_OK)
                o->members[at].value = value;
        }
        return;
    }
    if (!keep_open(o, c)) {
        if (o->b->err == SLM_OK)
            schema_unsupported(o->s, o->m->whose, bits != 0 ? "patternProperties" : "propertyNames",
                               "with keys of so few characters is not supported");
        return;
    }
    o->kinds[o->n_kinds++] =
        (struct key_kind){ chars_emit(o->b, c, CHARS_KEY), schema_rule_of(o->s, &value) };
}

/* ------------------------------------------------------------------ trees of keys */

/* The tree `old` (NODE_NONE: none) and one key more; nodes on the way are new. */
static uint32_t with_key(struct build *b, uint32_t old, const char *key, size_t n, uint32_t to) {
    uint32_t root = build_node(b), at = root;
    for (size_t i = 0; i < n && build_goes_on(b); i++) {
        uint8_t byte = (uint8_t)key[i];
        uint32_t below = NODE_NONE, e = old != NODE_NONE ? b->nodes[old].edges : NODE_NONE;
        for (; e != NODE_NONE && build_goes_on(b);) {
            struct build_edge copy = b->edges[e];
            e = copy.next;
            if (copy.lo == byte)
                below = copy.to;
            else
                build_edge(b, at, copy.lo, copy.hi, copy.to);
        }
        uint32_t next = i + 1 < n ? build_node(b) : to;
        build_edge(b, at, byte, byte, next);
        at = next;
        old = below;
    }
    return root;
}

/* Node behind an opening quote: the keys that may come where member i is the first not yet decided. */
static void make_keys(struct object *o, uint32_t free_keys, const uint32_t *colon) {
    struct build *b = o->b;
    uint32_t tree = NODE_NONE;
    bool more = true; /* nothing required from here on */
    for (uint32_t i = o->n; i-- > 0 && build_goes_on(b);) {
        struct member *m = &o->members[i];
        struct buf key;
        buf_init(&key, b->hooks, 1 << 20);
        if (o->call)
            buf_printf(&key, "(%s=", m->name); /* the first byte is where the quote would be */
        else
            rule_quote(&key, m->name, strlen(m->name));
        if (key.err != SLM_OK) {
            build_fail(b, key.err, SLM_NO_OFFSET, "a key of the schema is too long");
        } else if (m->required || !is_never(&m->value)) {
            if (m->required)
                more = false;
            tree = with_key(b, m->required ? NODE_NONE : tree, key.data + 1, key.len - 1, colon[i]);
        }
        buf_free(&key);
        m->key = build_node(b);
        if (tree != NODE_NONE && o->call)
            build_alias(b, m->key, tree);
        else if (tree != NODE_NONE)
            build_edge(b, m->key, '"', '"', tree);
        if (more && free_keys != NODE_NONE)
            build_alias(b, m->key, free_keys);
    }
}

/* ------------------------------------------------------------------ objects */

/* "," and what may come behind a member, "}" where the object may end. */
static void member_end(struct object *o, uint32_t after, bool may_end, uint32_t next,
                       uint32_t end) {
    unsigned close = o->call ? ')' : '}';
    if (may_end)
        build_edge(o->b, after, close, close, end);
    if (next == NODE_NONE)
        return;
    if (o->b->spaced)
        build_edge(o->b, after, ',', ',', build_spaced(o->b, next));
    else
        build_text_to(o->b, after, ", ", 2, next);
}

static uint32_t colon_node(struct object *o, uint32_t value_rule, uint32_t after) {
    uint32_t colon = build_node(o->b), value = build_node(o->b);
    build_call(o->b, value, value_rule, build_spaced(o->b, after));
    if (o->call)
        return value;
    if (o->b->spaced)
        build_edge(o->b, colon, ':', ':', build_spaced(o->b, value));
    else
        build_text_to(o->b, colon, ": ", 2, value);
    return build_spaced(o->b, colon);
}

/* Members that are not known, one after the other, count .. of them there already; with bounds on their
 * number there is a node for each. Returns where a key may begin. */
static uint32_t free_members(struct object *o, uint32_t end, uint32_t min, uint32_t max) {
    struct build *b = o->b;
    uint32_t last = max != UINT32_MAX ? max : min > 0 ? min : 1, next = NODE_NONE, key = NODE_NONE;
    if (o->n_kinds == 0 || max == 0)
        return NODE_NONE;
    for (uint32_t i = last; i > 0 && build_goes_on(b); i--) { /* the i-th member */
        uint32_t after = build_node(b);
        key = build_node(b);
        for (uint32_t k = 0; k < o->n_kinds; k++)
            build_push(b, key, '"', '"', o->kinds[k].keys, colon_node(o, o->kinds[k].value, after));
        member_end(o, after, i >= min, i == last && max == UINT32_MAX ? key : next, end);
        next = key;
    }
    return key;
}

/* Bounds on the number of members: exact where all members are known or none is. */
static bool count_members(struct object *o, uint32_t *min, uint32_t *max) {
    uint32_t required = 0;
    for (uint32_t i = 0; i < o->n; i++)
        required += o->members[i].required;
    *min = o->m->min_members;
    *max = o->m->max_members;
    if (*min <= required)
        *min = 0;
    if (o->n_kinds == 0 && *max >= o->n)
        *max = UINT32_MAX;
    bool counted = *min > 0 || *max != UINT32_MAX;
    const char *keyword = *min > 0 ? "minProperties" : "maxProperties";
    if (counted && o->n > 0 && !(*min == 1 && *max == UINT32_MAX)) {
        schema_unsupported(o->s, o->m->whose, keyword,
                           "is not supported where it depends on which known members there are");
        return false;
    }
    if (counted && (*min > COUNTED_MOST || (*max != UINT32_MAX && *max > COUNTED_MOST))) {
        schema_unsupported(o->s, o->m->whose, keyword, "of more than 4096 is not supported");
        return false;
    }
    return true;
}

static void read_members(struct object *o, uint32_t from) {
    struct build *b = o->b;
    uint32_t min, max, end = build_final(b), first = build_node(b);
    uint32_t *colon = build_alloc(b, (size_t)o->n + 1, sizeof *colon);
    uint32_t *after = build_alloc(b, (size_t)o->n + 1, sizeof *after);
    if (b->err != SLM_OK || !count_members(o, &min, &max))
        return;
    uint32_t free_keys = free_members(o, end, o->n > 0 ? 0 : min, max);
    for (uint32_t i = 0; i < o->n && build_goes_on(b); i++) {
        struct member *m = &o->members[i];
        after[i] = build_node(b);
        colon[i] = colon_node(
            o, is_never(&m->value) ? build_node(b) : schema_rule_of(o->s, &m->value), after[i]);
    }
    if (b->err == SLM_OK)
        make_keys(o, free_keys, colon);
    bool may_end = true;
    for (uint32_t i = o->n; i-- > 0 && build_goes_on(b);) { /* may_end: nothing required behind i */
        uint32_t next = i + 1 < o->n ? o->members[i + 1].key : free_keys;
        member_end(o, after[i], may_end, next, end);
        may_end = may_end && !o->members[i].required;
    }
    if (b->err != SLM_OK)
        return;
    unsigned open = o->call ? '(' : '{', close = o->call ? ')' : '}';
    if (may_end && min == 0)
        build_edge(b, first, close, close, end);
    uint32_t key = o->n > 0 ? o->members[0].key : free_keys;
    if (key != NODE_NONE)
        build_alias(b, first, key);
    build_edge(b, from, open, open, build_spaced(b, first));
}

/* Names and values of all members; false after a failure. */
static bool gather(struct object *o) {
    struct schema *s = o->s;
    const struct parts *p = o->m->parts;
    o->patterns = build_alloc(s->b, PATTERNS_MOST, sizeof *o->patterns);
    o->languages = build_alloc(s->b, PATTERNS_MOST, sizeof *o->languages);
    for (uint32_t i = 0; i < p->n && s->b->err == SLM_OK; i++)
        if (takes_part(s, p->v[i].schema))
            add_names(o, p->v[i].schema);
    for (uint32_t i = 0; i < p->n && s->b->err == SLM_OK; i++) {
        const json_t *required = json_object_get(p->v[i].schema, "required");
        if (required != NULL && takes_part(s, p->v[i].schema))
            add_required(o, p->v[i].schema, required);
    }
    read_property_names(o);
    for (uint32_t i = 0; i < o->n && build_goes_on(s->b); i++)
        value_of_member(o, &o->members[i]);
    return s->b->err == SLM_OK;
}

void schema_object(struct schema *s, const struct merged *m, uint32_t from) {
    struct object o = { .s = s, .b = s->b, .m = m };
    if (!gather(&o))
        return;
    for (uint32_t bits = 0; bits < 1u << o.n_patterns && build_goes_on(s->b); bits++)
        add_other_keys(&o, bits);
    if (s->b->err == SLM_OK)
        read_members(&o, from);
}

static bool is_identifier(const char *name) {
    for (const char *p = name; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
              (p > name && *p >= '0' && *p <= '9')))
            return false;
    return name[0] != '\0';
}

void schema_arguments(struct schema *s, const struct merged *m, uint32_t from) {
    struct object o = { .s = s, .b = s->b, .m = m, .call = true };
    if (!gather(&o))
        return;
    for (uint32_t i = 0; i < o.n && s->b->err == SLM_OK; i++)
        if (!is_identifier(o.members[i].name))
            build_fail(s->b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                       "schema: the property '%s' cannot be the name of an argument",
                       o.members[i].name);
    if (s->b->err == SLM_OK)
        read_members(&o, from);
}
