/* schema_merge.c - the keywords of JSON Schema: which there are, and what several schemas say together.
 *
 * Source: JSON Schema 2020-12 (core and validation) and draft 7; "nullable" and the numeric formats are
 * OpenAPI's. A keyword that is not in the table is refused by name, unless it begins with "x-": what is
 * not understood is not ignored. */
#include <string.h>

#include "constrain/schema.h"

enum keyword_kind {
    K_IGNORED, /* annotations, and what is read elsewhere */
    K_REFUSED,
    K_TYPE,
    K_ENUM,
    K_CONST,
    K_LOW,
    K_LOW_EX,
    K_HIGH,
    K_HIGH_EX,
    K_MULTIPLE,
    K_MIN_LENGTH,
    K_MAX_LENGTH,
    K_PATTERN,
    K_FORMAT,
    K_MIN_ITEMS,
    K_MAX_ITEMS,
    K_MIN_MEMBERS,
    K_MAX_MEMBERS,
    K_UNIQUE,
    K_UNEVALUATED, /* properties: only beside what makes it additionalProperties */
    K_INSIDE       /* read by the files of arrays and objects */
};

static const struct keyword {
    const char *name;
    enum keyword_kind kind;
} keywords[] = {
    /* sorted */
    { "$anchor", K_IGNORED },
    { "$comment", K_IGNORED },
    { "$defs", K_IGNORED },
    { "$dynamicAnchor", K_REFUSED },
    { "$dynamicRef", K_REFUSED },
    { "$id", K_IGNORED },
    { "$recursiveAnchor", K_REFUSED },
    { "$recursiveRef", K_REFUSED },
    { "$ref", K_IGNORED },
    { "$schema", K_IGNORED },
    { "$vocabulary", K_IGNORED },
    { "additionalItems", K_INSIDE },
    { "additionalProperties", K_INSIDE },
    { "allOf", K_IGNORED },
    { "anyOf", K_IGNORED },
    { "const", K_CONST },
    { "contains", K_REFUSED },
    { "contentEncoding", K_IGNORED },
    { "contentMediaType", K_IGNORED },
    { "contentSchema", K_IGNORED },
    { "default", K_IGNORED },
    { "definitions", K_IGNORED },
    { "dependencies", K_REFUSED },
    { "dependentRequired", K_REFUSED },
    { "dependentSchemas", K_REFUSED },
    { "deprecated", K_IGNORED },
    { "description", K_IGNORED },
    { "else", K_REFUSED },
    { "enum", K_ENUM },
    { "example", K_IGNORED },
    { "examples", K_IGNORED },
    { "exclusiveMaximum", K_HIGH_EX },
    { "exclusiveMinimum", K_LOW_EX },
    { "format", K_FORMAT },
    { "if", K_REFUSED },
    { "items", K_INSIDE },
    { "maxContains", K_REFUSED },
    { "maxItems", K_MAX_ITEMS },
    { "maxLength", K_MAX_LENGTH },
    { "maxProperties", K_MAX_MEMBERS },
    { "maximum", K_HIGH },
    { "minContains", K_REFUSED },
    { "minItems", K_MIN_ITEMS },
    { "minLength", K_MIN_LENGTH },
    { "minProperties", K_MIN_MEMBERS },
    { "minimum", K_LOW },
    { "multipleOf", K_MULTIPLE },
    { "not", K_REFUSED },
    { "nullable", K_IGNORED }, /* with "type" */
    { "oneOf", K_IGNORED },
    { "pattern", K_PATTERN },
    { "patternProperties", K_INSIDE },
    { "prefixItems", K_INSIDE },
    { "properties", K_INSIDE },
    { "propertyNames", K_INSIDE },
    { "readOnly", K_IGNORED },
    { "required", K_INSIDE },
    { "then", K_REFUSED },
    { "title", K_IGNORED },
    { "type", K_TYPE },
    { "unevaluatedItems", K_REFUSED },
    { "unevaluatedProperties", K_UNEVALUATED },
    { "uniqueItems", K_UNIQUE },
    { "writeOnly", K_IGNORED },
};

static const struct keyword *keyword_of(const char *name) {
    size_t lo = 0, hi = ARRAY_LEN(keywords);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, keywords[mid].name);
        if (order == 0)
            return &keywords[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ------------------------------------------------------------------ types and values */

static const struct {
    const char *name;
    uint32_t bits;
} types[] = {
    { "null", TYPE_NULL },     { "boolean", TYPE_BOOL },
    { "integer", TYPE_WHOLE }, { "number", TYPE_WHOLE | TYPE_REAL },
    { "string", TYPE_STRING }, { "array", TYPE_ARRAY },
    { "object", TYPE_OBJECT },
};

static uint32_t type_bits(const json_t *name) {
    const char *text = json_string_value(name);
    for (size_t i = 0; text != NULL && i < ARRAY_LEN(types); i++)
        if (strcmp(text, types[i].name) == 0)
            return types[i].bits;
    return 0;
}

static void merge_type(struct schema *s, const json_t *whose, const json_t *v, struct merged *m) {
    uint32_t bits = type_bits(v);
    size_t i;
    json_t *name;
    if (json_is_array(v))
        json_array_foreach(v, i, name) {
            uint32_t more = type_bits(name);
            if (more == 0)
                schema_malformed(s, whose, "type", "names an unknown type");
            bits |= more;
        }
    if (bits == 0) {
        schema_malformed(s, whose, "type", "names an unknown type");
        return;
    }
    if (json_is_true(json_object_get(whose, "nullable")))
        bits |= TYPE_NULL;
    m->types &= bits;
}

static uint32_t type_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_NULL:
        return TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return TYPE_BOOL;
    case JSON_INTEGER:
        return TYPE_WHOLE;
    case JSON_REAL: {
        double x = json_real_value(v);
        return x > -9e15 && x < 9e15 && x == (double)(int64_t)x ? TYPE_WHOLE : TYPE_REAL;
    }
    case JSON_STRING:
        return TYPE_STRING;
    case JSON_ARRAY:
        return TYPE_ARRAY;
    case JSON_OBJECT:
        break;
    }
    return TYPE_OBJECT;
}

/* Equal as JSON Schema means it: 1 and 1.0 are one number (on the outside of arrays and objects; inside,
 * a difference of spelling makes two values, which can only allow less). */
static bool same_value(struct build *b, const json_t *x, const json_t *y) {
    struct decimal dx, dy;
    if (json_is_number(x) && json_is_number(y))
        return decimal_of(b, x, &dx) && decimal_of(b, y, &dy) && decimal_compare(&dx, &dy) == 0;
    return json_equal(x, y) != 0;
}

/* Values that were allowed so far and are in the list [n] too. */
static void keep_values(struct schema *s, struct merged *m, json_t *const *list, size_t n) {
    if (!m->has_values) {
        m->has_values = true;
        m->values = build_alloc(s->b, n, sizeof *m->values);
        for (size_t i = 0; i < n && build_goes_on(s->b); i++)
            m->values[m->n_values++] = list[i];
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->n_values; i++) {
        bool found = false;
        for (size_t k = 0; k < n && !found && build_goes_on(s->b); k++)
            found = same_value(s->b, m->values[i], list[k]);
        if (found)
            m->values[kept++] = m->values[i];
    }
    m->n_values = kept;
}

static void merge_enum(struct schema *s, const json_t *whose, json_t *v, struct merged *m) {
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n > UINT32_MAX) {
        schema_malformed(s, whose, "enum", "is no array");
        return;
    }
    json_t **list = build_alloc(s->b, n + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < n; i++)
        list[i] = json_array_get(v, i);
    if (list != NULL)
        keep_values(s, m, list, n);
}

/* ------------------------------------------------------------------ numbers */

static void merge_bound(struct schema *s, const json_t *whose, const char *name, const json_t *v,
                        bool high, bool excluded, struct merged *m) {
    struct decimal x;
    struct decimal *bound = high ? &m->high : &m->low;
    bool *has = high ? &m->has_high : &m->has_low, *ex = high ? &m->digits.below : &m->digits.above;
    if (json_is_boolean(v) && excluded) {
        schema_unsupported(s, whose, name, "as a boolean (draft 4) is not supported");
        return;
    }
    if (!json_is_number(v)) {
        schema_malformed(s, whose, name, "is no number");
        return;
    }
    if (!decimal_of(s->b, v, &x))
        return;
    int order = *has ? decimal_compare(&x, bound) : 0;
    if (!*has || (high ? order < 0 : order > 0)) {
        *bound = x;
        *ex = excluded;
    } else if (order == 0)
        *ex = *ex || excluded;
    *has = true;
}

static void merge_step(struct schema *s, const json_t *whose, const json_t *v, struct merged *m) {
    if (!json_is_number(v) || json_number_value(v) <= 0) {
        schema_malformed(s, whose, "multipleOf", "is no number above 0");
        return;
    }
    if (m->n_steps == ARRAY_LEN(m->steps)) {
        schema_unsupported(s, whose, "multipleOf", "is not supported so often for one value");
        return;
    }
    if (decimal_of(s->b, v, &m->steps[m->n_steps]))
        m->n_steps++;
}

/* A bound so far out that our numbers of 18 digits do not reach it: one that keeps nothing away is
 * dropped. */
static void settle_numbers(struct schema *s, struct merged *m) {
    if (m->has_low && m->low.n_whole > 18 && m->low.negative)
        m->has_low = false;
    if (m->has_high && m->high.n_whole > 18 && !m->high.negative)
        m->has_high = false;
    m->digits.whole = (m->types & TYPE_REAL) == 0;
    m->digits.low = m->has_low ? &m->low : NULL;
    m->digits.high = m->has_high ? &m->high : NULL;
    if (m->n_steps > 0 && (m->types & TYPE_WHOLE))
        digits_step(s->b, m->steps, m->n_steps, &m->digits, schema_place(s, m->whose));
}

/* ------------------------------------------------------------------ counts, strings */

static void merge_count(struct schema *s, const json_t *whose, const char *name, const json_t *v,
                        bool most, uint32_t *count) {
    double x = json_number_value(v);
    if (!json_is_number(v) || x < 0 || (x < 1e15 && x != (double)(int64_t)x)) {
        schema_malformed(s, whose, name, "is no whole number from 0 on");
        return;
    }
    uint32_t n = x >= (double)(UINT32_MAX - 1) ? UINT32_MAX - 1 : (uint32_t)x;
    if (most ? n < *count : n > *count)
        *count = n;
}

static void add_text(struct schema *s, const json_t *whose, const char *name, const json_t *v,
                     struct texts *t) {
    void *array = t->v;
    if (!json_is_string(v)) {
        schema_malformed(s, whose, name, "is no string");
        return;
    }
    for (uint32_t i = 0; i < t->n; i++)
        if (strcmp(t->v[i], json_string_value(v)) == 0)
            return;
    if (!build_grow(s->b, &array, t->n, &t->cap, sizeof *t->v))
        return;
    t->v = array;
    t->v[t->n++] = json_string_value(v);
}

static void merge_format(struct schema *s, const json_t *whose, const json_t *v, struct merged *m) {
    static const char *const silent[] = { "int64", "float", "double", "password" };
    const char *name = json_string_value(v);
    struct build *b = s->b;
    if (name == NULL) {
        schema_malformed(s, whose, "format", "is no string");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        if (strcmp(name, silent[i]) == 0)
            return; /* what they say about numbers, ours are; the last is about screens */
    if (strcmp(name, "int32") == 0) {
        json_t *low = json_integer(INT32_MIN), *high = json_integer(INT32_MAX);
        if (low == NULL || high == NULL)
            build_fail(b, SLM_E_NOMEM, SLM_NO_OFFSET, "out of memory for a constraint");
        else {
            merge_bound(s, whose, "format", low, false, false, m);
            merge_bound(s, whose, "format", high, true, false, m);
        }
        json_decref(low);
        json_decref(high);
    } else if (format_pattern(name) == NULL) {
        build_fail(b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                   "schema: 'format' at %s: '%s' is not supported", schema_place(s, whose), name);
    } else
        add_text(s, whose, "format", v, &m->formats);
}

struct chars *schema_chars(struct schema *s, const struct merged *m) {
    struct build *b = s->b;
    struct chars *c = NULL;
    const char *where = "";
    struct buf place;
    if (m->patterns.n > 0) {
        buf_init(&place, b->hooks, 1024);
        buf_printf(&place, "schema: 'pattern' at %s: ", schema_place(s, m->whose));
        const char *copy =
            place.err == SLM_OK ? arena_strdup(&b->arena, place.data, place.len) : NULL;
        where = copy != NULL ? copy : where;
        buf_free(&place);
    }
    for (uint32_t i = 0; i < m->formats.n; i++) {
        const char *p = format_pattern(m->formats.v[i]);
        c = chars_both(b, c, chars_regex(b, p, strlen(p), false, "format: "));
    }
    for (uint32_t i = 0; i < m->patterns.n; i++)
        c = chars_both(b, c,
                       chars_regex(b, m->patterns.v[i], strlen(m->patterns.v[i]), true, where));
    if (m->min_length > m->max_length) {
        c = chars_words(b, NULL, 0, false); /* none */
    } else if (m->min_length > 0 || m->max_length != UINT32_MAX)
        c = chars_both(b, c, chars_length(b, m->min_length, m->max_length));
    if (c == NULL && b->err == SLM_OK && b->python)
        c = chars_length(b, 0, UINT32_MAX);
    chars_trim(b, c);
    return b->err == SLM_OK ? c : NULL;
}

/* ------------------------------------------------------------------ all keywords of a set */

static void merge_keyword(struct schema *s, const json_t *whose, const struct keyword *k, json_t *v,
                          struct merged *m) {
    switch (k->kind) {
    case K_IGNORED:
        break;
    case K_REFUSED:
        schema_unsupported(s, whose, k->name, "is not supported");
        break;
    case K_TYPE:
        merge_type(s, whose, v, m);
        break;
    case K_ENUM:
        merge_enum(s, whose, v, m);
        break;
    case K_CONST:
        keep_values(s, m, &v, 1);
        break;
    case K_LOW:
    case K_LOW_EX:
        merge_bound(s, whose, k->name, v, false, k->kind == K_LOW_EX, m);
        break;
    case K_HIGH:
    case K_HIGH_EX:
        merge_bound(s, whose, k->name, v, true, k->kind == K_HIGH_EX, m);
        break;
    case K_MULTIPLE:
        merge_step(s, whose, v, m);
        break;
    case K_MIN_LENGTH:
        merge_count(s, whose, k->name, v, false, &m->min_length);
        break;
    case K_MAX_LENGTH:
        merge_count(s, whose, k->name, v, true, &m->max_length);
        break;
    case K_PATTERN:
        add_text(s, whose, k->name, v, &m->patterns);
        break;
    case K_FORMAT:
        merge_format(s, whose, v, m);
        break;
    case K_MIN_ITEMS:
        merge_count(s, whose, k->name, v, false, &m->min_items);
        break;
    case K_MAX_ITEMS:
        merge_count(s, whose, k->name, v, true, &m->max_items);
        break;
    case K_MIN_MEMBERS:
        merge_count(s, whose, k->name, v, false, &m->min_members);
        break;
    case K_MAX_MEMBERS:
        merge_count(s, whose, k->name, v, true, &m->max_members);
        break;
    case K_UNIQUE:
        if (json_is_true(v) && !(m->max_items <= 1))
            schema_unsupported(s, whose, k->name, "is not supported");
        break;
    case K_UNEVALUATED:
    case K_INSIDE:
        m->structured = true;
        break;
    }
}

static void merge_schema(struct schema *s, const json_t *whose, struct merged *m) {
    const char *name;
    json_t *v;
    bool ref_hides = s->draft7 && json_object_get(whose, "$ref") != NULL;
    if (ref_hides)
        return;
    /* first, because uniqueItems asks for it */
    v = json_object_get(whose, "maxItems");
    if (v != NULL)
        merge_count(s, whose, "maxItems", v, true, &m->max_items);
    json_object_foreach((json_t *)(uintptr_t)whose, name, v) {
        const struct keyword *k = keyword_of(name);
        if (k != NULL)
            merge_keyword(s, whose, k, v, m);
        else if (strncmp(name, "x-", 2) != 0)
            schema_unsupported(s, whose, name, "is not a keyword that is supported");
        if (!build_goes_on(s->b))
            return;
    }
}

bool schema_merge(struct schema *s, const struct parts *p, struct merged *m) {
    memset(m, 0, sizeof *m);
    m->parts = p;
    m->whose = p->n > 0 ? p->v[0].schema : s->root;
    m->types = TYPE_ALL;
    m->max_length = m->max_items = m->max_members = UINT32_MAX;
    for (uint32_t i = 0; i < p->n && build_goes_on(s->b); i++)
        merge_schema(s, p->v[i].schema, m);
    if (m->min_items > 0 || m->max_items != UINT32_MAX || m->min_members > 0 ||
        m->max_members != UINT32_MAX)
        m->structured = true;
    if (s->b->err == SLM_OK)
        settle_numbers(s, m);
    return s->b->err == SLM_OK;
}

/* ------------------------------------------------------------------ constants */

bool schema_allows(struct schema *s, const struct merged *m, const json_t *value) {
    uint32_t type = type_of(value);
    if (!(m->types & type))
        return false;
    if (type & (TYPE_WHOLE | TYPE_REAL)) {
        struct decimal x;
        struct digits any_real = m->digits;
        any_real.whole = any_real.whole && type == TYPE_WHOLE && json_is_integer(value);
        return decimal_of(s->b, value, &x) && digits_match(&any_real, &x);
    }
    if (type == TYPE_STRING) {
        bool free = m->formats.n == 0 && m->patterns.n == 0 && m->min_length == 0 &&
                    m->max_length == UINT32_MAX;
        struct chars *c = free ? NULL : schema_chars(s, m);
        return free ||
               (c != NULL && chars_match(c, json_string_value(value), json_string_length(value)));
    }
    if (type & (TYPE_ARRAY | TYPE_OBJECT) && m->structured) {
        schema_unsupported(s, m->whose, "enum",
                           "with arrays or objects is not supported beside keywords that look into "
                           "them");
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------ nothing in common */

struct shape { /* a schema by itself, for comparing */
    struct parts parts;
    struct merged m;
    bool never;
};

static bool shape_of(struct schema *s, const json_t *schema, struct shape *out) {
    struct parts one = { NULL, 0, 0 };
    if (!json_is_object(schema) && !json_is_boolean(schema)) {
        schema_malformed(s, schema, "schema", "is neither an object nor a boolean");
        return false;
    }
    if (!parts_add(s, &one, schema, 0))
        return false;
    out->never = !schema_flatten(s, &one, &out->parts);
    if (!out->never && schema_merge(s, &out->parts, &out->m) && out->m.has_values) {
        uint32_t of_values = 0; /* types that the values have */
        for (uint32_t i = 0; i < out->m.n_values; i++)
            of_values |= type_of(out->m.values[i]);
        out->m.types &= of_values;
    }
    return s->b->err == SLM_OK;
}

static bool values_apart(struct schema *s, const struct merged *x, const struct merged *y) {
    for (uint32_t i = 0; i < x->n_values && build_goes_on(s->b); i++)
        if (y->has_values) {
            for (uint32_t k = 0; k < y->n_values && build_goes_on(s->b); k++)
                if (same_value(s->b, x->values[i], y->values[k]) ||
                    (type_of(x->values[i]) & type_of(y->values[k]) & (TYPE_ARRAY | TYPE_OBJECT)))
                    return false; /* numbers inside are not compared: 1 and 1.0 are one */
        } else if ((type_of(x->values[i]) & (TYPE_ARRAY | TYPE_OBJECT) && y->structured &&
                    (type_of(x->values[i]) & y->types)) ||
                   schema_allows(s, y, x->values[i]))
            return false;
    return true;
}

static bool numbers_apart(const struct merged *x, const struct merged *y) {
    const struct merged *pair[2][2] = { { x, y }, { y, x } };
    for (int i = 0; i < 2; i++) {
        const struct merged *lower = pair[i][0], *upper = pair[i][1];
        if (!lower->has_high || !upper->has_low)
            continue;
        int order = decimal_compare(&lower->high, &upper->low);
        if (order < 0 || (order == 0 && (lower->digits.below || upper->digits.above)))
            return true;
    }
    return false;
}

static bool strings_apart(struct schema *s, const struct merged *x, const struct merged *y) {
    if (x->min_length > y->max_length || y->min_length > x->max_length)
        return true;
    if (x->patterns.n + x->formats.n == 0 || y->patterns.n + y->formats.n == 0)
        return false;
    struct chars *both = chars_both(s->b, schema_chars(s, x), schema_chars(s, y));
    chars_trim(s->b, both);
    return both != NULL && chars_empty(both);
}

/* Everything but objects. */
static bool scalars_apart(struct schema *s, const struct merged *x, const struct merged *y,
                          uint32_t both) {
    if ((both & (TYPE_NULL | TYPE_BOOL)) != 0)
        return false;
    if ((both & (TYPE_WHOLE | TYPE_REAL)) != 0 && !numbers_apart(x, y))
        return false;
    if ((both & TYPE_STRING) != 0 && !strings_apart(s, x, y))
        return false;
    if ((both & TYPE_ARRAY) != 0 && x->min_items <= y->max_items && y->min_items <= x->max_items)
        return false;
    return true;
}

static const json_t *member_schema(const struct parts *p, const char *name) {
    for (uint32_t i = 0; i < p->n; i++) {
        const json_t *v = json_object_get(json_object_get(p->v[i].schema, "properties"), name);
        if (v != NULL)
            return v;
    }
    return NULL;
}

/* Some schema of the set allows no member of that name. */
static bool member_refused(const struct parts *p, const char *name) {
    for (uint32_t i = 0; i < p->n; i++) {
        const json_t *schema = p->v[i].schema;
        if (json_is_false(json_object_get(schema, "additionalProperties")) &&
            json_object_get(schema, "patternProperties") == NULL &&
            json_object_get(json_object_get(schema, "properties"), name) == NULL)
            return true;
    }
    return false;
}

/* The members of that name have nothing in common, by type or value. */
static bool members_apart(struct schema *s, const json_t *a, const json_t *b) {
    struct shape x, y;
    if (!shape_of(s, a, &x) || !shape_of(s, b, &y))
        return false;
    if (x.never || y.never)
        return true;
    uint32_t both = x.m.types & y.m.types;
    if (both == 0)
        return true;
    if ((x.m.has_values && values_apart(s, &x.m, &y.m)) ||
        (y.m.has_values && values_apart(s, &y.m, &x.m)))
        return true;
    return (both & TYPE_OBJECT) == 0 && scalars_apart(s, &x.m, &y.m, both);
}

/* A member that x demands, and y does not allow, or allows only with other values (when both demand
 * it). */
static bool objects_apart(struct schema *s, const struct parts *x, const struct parts *y) {
    for (uint32_t i = 0; i < x->n; i++) {
        const json_t *list = json_object_get(x->v[i].schema, "required");
        size_t k;
        json_t *v;
        json_array_foreach((json_t *)(uintptr_t)list, k, v) {
            const char *name = json_string_value(v);
            if (name == NULL || !build_goes_on(s->b))
                return false;
            if (member_refused(y, name))
                return true;
            const json_t *mx = member_schema(x, name), *my = member_schema(y, name);
            if (mx != NULL && my != NULL && members_apart(s, mx, my))
                return true;
        }
    }
    return false;
}

bool schema_disjoint(struct schema *s, const json_t *a, const json_t *b) {
    struct shape x, y;
    if (!shape_of(s, a, &x) || !shape_of(s, b, &y))
        return false;
    if (x.never || y.never)
        return true;
    uint32_t both = x.m.types & y.m.types;
    if (both == 0)
        return true;
    if ((x.m.has_values && values_apart(s, &x.m, &y.m)) ||
        (y.m.has_values && values_apart(s, &y.m, &x.m)))
        return true;
    if ((both & TYPE_OBJECT) != 0 && !objects_apart(s, &x.parts, &y.parts) &&
        !objects_apart(s, &y.parts, &x.parts))
        return false;
    return s->b->err == SLM_OK && scalars_apart(s, &x.m, &y.m, both);
}
