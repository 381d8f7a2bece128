/* schema.c - rules of sets of schemas: references, alternatives, and what each type reads. */
#include "constrain/schema.h"

#include <string.h>

/* ------------------------------------------------------------------ memory of what was made */

static uint64_t hash_key(const uint8_t *key, uint32_t n) {
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ key[i]) * 0x100000001b3u;
    return h * 0x9e3779b97f4a7c15u;
}

static uint32_t memo_slot(const struct memo *m, const void *key, uint32_t n) {
    uint32_t at = (uint32_t)(hash_key(key, n) >> 32) & m->mask;
    while (m->slots[at].used && (m->slots[at].n != n || memcmp(m->slots[at].key, key, n) != 0))
        at = (at + 1) & m->mask;
    return at;
}

uint32_t memo_get(struct build *b, struct memo *m, const void *key, uint32_t n, uint32_t *slot) {
    if (m->slots == NULL || m->n * 2 > m->mask) {
        struct memo big = { .mask = m->slots == NULL ? 63 : m->mask * 2 + 1, .n = m->n };
        big.slots = build_alloc(b, (size_t)big.mask + 1, sizeof *big.slots);
        if (big.slots == NULL)
            return 0;
        for (uint32_t i = 0; m->slots != NULL && i <= m->mask; i++)
            if (m->slots[i].used)
                big.slots[memo_slot(&big, m->slots[i].key, m->slots[i].n)] = m->slots[i];
        *m = big;
    }
    uint32_t at = memo_slot(m, key, n);
    if (m->slots[at].used)
        return m->slots[at].value;
    void *copy = build_alloc(b, (size_t)n + 1, 1);
    if (copy == NULL)
        return 0;
    memcpy(copy, key, n);
    m->slots[at] = (struct memo_slot){ copy, n, 0, 1 };
    m->n++;
    *slot = at;
    return NODE_NONE;
}

void memo_put(struct memo *m, uint32_t slot, uint32_t value) {
    m->slots[slot].value = value;
}

/* ------------------------------------------------------------------ places, for messages */

struct search {
    const json_t *value;
    void *iter;
    size_t index;
    const char *key; /* of the member at hand */
};

/* The next member of a container on the way through the document; NULL: none is left. */
static const json_t *search_member(struct search *l) {
    if (json_is_object(l->value)) {
        json_t *object = (json_t *)(uintptr_t)l->value;
        l->iter =
            l->index++ == 0 ? json_object_iter(object) : json_object_iter_next(object, l->iter);
        l->key = l->iter != NULL ? json_object_iter_key(l->iter) : NULL;
        return l->iter != NULL ? json_object_iter_value(l->iter) : NULL;
    }
    return json_array_get(l->value, l->index++);
}

static void put_path(struct buf *out, const struct search *level, uint32_t depth) {
    buf_putc(out, '#');
    for (uint32_t i = 0; i < depth; i++) {
        buf_putc(out, '/');
        if (json_is_array(level[i].value))
            buf_printf(out, "%zu", level[i].index - 1);
        for (const char *k = json_is_array(level[i].value) ? "" : level[i].key; *k != '\0'; k++)
            if (*k == '~' || *k == '/')
                buf_puts(out, *k == '~' ? "~0" : "~1");
            else
                buf_putc(out, *k);
    }
}

#define PLACE_BYTES 300 /* messages are cut at 511 */

/* Looks through the whole document: only for messages, of which there is one. */
const char *schema_place(struct schema *s, const json_t *where) {
    struct search *level = NULL;
    uint32_t depth = 0, cap = 0;
    struct buf out;
    const char *text = "?";
    void *array = NULL;
    buf_init(&out, s->b->hooks, PLACE_BYTES);
    if (!build_grow(s->b, &array, 0, &cap, sizeof *level))
        return text;
    level = array;
    level[0] = (struct search){ .value = s->root };
    const json_t *at = s->root;
    while (at != where && build_goes_on(s->b)) {
        at = search_member(&level[depth]);
        if (at == where)
            depth++;
        else if (at == NULL && depth-- == 0)
            break;
        else if (json_is_object(at) || json_is_array(at)) {
            array = level;
            if (!build_grow(s->b, &array, depth + 1, &cap, sizeof *level))
                return text;
            level = array;
            level[++depth] = (struct search){ .value = at };
        }
    }
    if (at == where)
        put_path(&out, level, depth);
    if (out.len > 0 && s->b->err == SLM_OK) {
        const char *copy = arena_strdup(&s->b->arena, out.data, out.len);
        text = copy != NULL ? copy : text;
    }
    buf_free(&out);
    return text;
}

void schema_unsupported(struct schema *s, const json_t *where, const char *keyword,
                        const char *what) {
    build_fail(s->b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "schema: '%s' at %s %s", keyword,
               schema_place(s, where), what);
}

void schema_malformed(struct schema *s, const json_t *where, const char *keyword,
                      const char *what) {
    build_fail(s->b, SLM_E_FORMAT, SLM_NO_OFFSET, "schema: '%s' at %s %s", keyword,
               schema_place(s, where), what);
}

/* ------------------------------------------------------------------ sets */

bool parts_add(struct schema *s, struct parts *p, const json_t *schema, uint32_t took) {
    if (json_is_true(schema))
        return true; /* says nothing */
    for (uint32_t i = 0; i < p->n; i++)
        if (p->v[i].schema == schema)
            return true;
    void *array = p->v;
    if (!build_grow(s->b, &array, p->n, &p->cap, sizeof *p->v))
        return false;
    p->v = array;
    p->v[p->n++] = (struct part){ schema, took, NODE_NONE };
    return true;
}

uint32_t schema_rule_of(struct schema *s, const struct parts *p) {
    struct build *b = s->b;
    uint32_t slot;
    if (p->n == 0)
        return rule_any(b);
    /* a struct part has padding: the key is made of its fields */
    uint32_t size = (uint32_t)(sizeof(const json_t *) + sizeof(uint32_t));
    char *key = build_alloc(b, p->n, size);
    if (key == NULL)
        return 0;
    for (uint32_t i = 0; i < p->n; i++) {
        memcpy(key + (size_t)i * size, &p->v[i].schema, sizeof p->v[i].schema);
        memcpy(key + (size_t)i * size + sizeof p->v[i].schema, &p->v[i].took, sizeof p->v[i].took);
    }
    uint32_t node = memo_get(b, &s->rules, key, p->n * size, &slot);
    if (node != NODE_NONE)
        return node;
    node = build_node(b);
    void *queue = s->queue;
    if (b->err != SLM_OK || !build_grow(b, &queue, s->n_queue, &s->cap_queue, sizeof *s->queue))
        return 0;
    memo_put(&s->rules, slot, node);
    s->queue = queue;
    s->queue[s->n_queue++] = (struct waiting){ *p, node };
    return node;
}

uint32_t schema_rule(struct schema *s, const json_t *schema) {
    struct parts p = { NULL, 0, 0 };
    if (!json_is_object(schema) && !json_is_boolean(schema)) {
        schema_malformed(s, schema, "schema", "is neither an object nor a boolean");
        return 0;
    }
    return parts_add(s, &p, schema, 0) ? schema_rule_of(s, &p) : 0;
}

/* ------------------------------------------------------------------ references */

/* One step of a JSON pointer, unescaped into `name`: RFC 6901, in a URI fragment. */
static const char *pointer_step(const char *p, char *name, size_t room) {
    size_t n = 0;
    for (; *p != '\0' && *p != '/' && n + 1 < room; p++) {
        char c = *p;
        if (c == '%') {
            int hex = 0;
            for (int i = 1; i <= 2; i++) {
                char d = p[i];
                int v = d >= '0' && d <= '9'   ? d - '0'
                        : d >= 'a' && d <= 'f' ? d - 'a' + 10
                        : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                               : -1;
                if (v < 0)
                    return NULL;
                hex = hex * 16 + v;
            }
            c = (char)hex;
            p += 2;
        }
        if (c == '~') {
            if (p[1] != '0' && p[1] != '1')
                return NULL;
            c = *++p == '0' ? '~' : '/';
        }
        name[n++] = c;
    }
    name[n] = '\0';
    return *p == '\0' || *p == '/' ? p : NULL;
}

static const json_t *pointer_follow(const json_t *at, const char *p) {
    char name[1024];
    while (at != NULL && *p == '/') {
        p = pointer_step(p + 1, name, sizeof name);
        if (p == NULL)
            return NULL;
        if (json_is_array(at)) {
            size_t index = 0;
            for (const char *d = name; *d != '\0'; d++) {
                if (*d < '0' || *d > '9' || index > 1000000)
                    return NULL;
                index = index * 10 + (size_t)(*d - '0');
            }
            at = name[0] != '\0' ? json_array_get(at, index) : NULL;
        } else
            at = json_object_get(at, name);
    }
    return *p == '\0' ? at : NULL;
}

/* The schema that $ref means; NULL and failed when there is none here. */
static const json_t *reference(struct schema *s, const json_t *where, const json_t *ref) {
    const char *text = json_string_value(ref);
    const char *id = json_string_value(json_object_get(s->root, "$id"));
    if (text == NULL) {
        schema_malformed(s, where, "$ref", "is no string");
        return NULL;
    }
    size_t base = id != NULL ? strcspn(id, "#") : 0;
    if (base > 0 && strncmp(text, id, base) == 0 && (text[base] == '#' || text[base] == '\0'))
        text += base;
    else if (text[0] != '#') {
        schema_unsupported(s, where, "$ref", "leads out of the document, which is not supported");
        return NULL;
    }
    text += text[0] == '#';
    const json_t *found = NULL;
    if (text[0] == '\0' || text[0] == '/')
        found = pointer_follow(s->root, text);
    else {
        const char *const folders[] = { "$defs", "definitions" };
        for (size_t f = 0; f < ARRAY_LEN(folders) && found == NULL; f++) {
            const char *key;
            json_t *member, *all = json_object_get(s->root, folders[f]);
            json_object_foreach(all, key, member) {
                const char *anchor = json_string_value(json_object_get(member, "$anchor"));
                const char *old = json_string_value(json_object_get(member, "$id"));
                if ((anchor != NULL && strcmp(anchor, text) == 0) ||
                    (old != NULL && old[0] == '#' && strcmp(old + 1, text) == 0))
                    found = member;
            }
        }
    }
    if (found == NULL || !(json_is_object(found) || json_is_boolean(found))) {
        schema_malformed(s, where, "$ref", "leads nowhere");
        return NULL;
    }
    return found;
}

/* A schema that is reached again from itself with nothing of the value in between says nothing that could
 * be decided. (What is reached twice, but not from itself, is one schema said twice.) */
static bool goes_round(const struct parts *p, uint32_t from, const json_t *schema) {
    uint32_t i = 0;
    while (i < p->n && p->v[i].schema != schema)
        i++;
    if (i == p->n)
        return false;
    if (p->v[i].took & (TOOK_ANY | TOOK_ONE)) /* we are in one of its alternatives */
        return true;
    while (from != i && from != NODE_NONE)
        from = p->v[from].parent;
    return from == i;
}

static bool add_child(struct schema *s, struct parts *out, uint32_t from, const json_t *schema) {
    uint32_t n = out->n;
    if (!parts_add(s, out, schema, 0))
        return false;
    if (out->n > n)
        out->v[n].parent = from;
    return true;
}

static bool add_all_of(struct schema *s, uint32_t from, const json_t *list, struct parts *out) {
    const json_t *where = out->v[from].schema;
    size_t i;
    json_t *v;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        schema_malformed(s, where, "allOf", "is no array of schemas");
        return false;
    }
    json_array_foreach(list, i, v) {
        if (!json_is_object(v) && !json_is_boolean(v)) {
            schema_malformed(s, where, "allOf", "is no array of schemas");
            return false;
        }
        if (!add_child(s, out, from, v))
            return false;
    }
    return true;
}

bool schema_flatten(struct schema *s, const struct parts *in, struct parts *out) {
    *out = (struct parts){ NULL, 0, 0 };
    for (uint32_t i = 0; i < in->n; i++)
        if (!parts_add(s, out, in->v[i].schema, in->v[i].took))
            return false;
    for (uint32_t i = 0; i < out->n && build_goes_on(s->b); i++) {
        struct part p = out->v[i];
        if (json_is_false(p.schema))
            return false;
        const json_t *ref = json_object_get(p.schema, "$ref");
        const json_t *all = json_object_get(p.schema, "allOf");
        if (p.took & TOOK_REF)
            continue;
        out->v[i].took |= TOOK_REF;
        if (ref != NULL) {
            const json_t *to = reference(s, p.schema, ref);
            if (to != NULL && goes_round(out, i, to))
                schema_unsupported(s, p.schema, "$ref", "leads back to itself");
            if (to == NULL || s->b->err != SLM_OK || !add_child(s, out, i, to))
                return false;
        }
        if (all != NULL && !(ref != NULL && s->draft7) && !add_all_of(s, i, all, out))
            return false;
    }
    return s->b->err == SLM_OK;
}

/* ------------------------------------------------------------------ alternatives */

static bool hidden(const struct schema *s, const json_t *schema) {
    return s->draft7 && json_object_get(schema, "$ref") != NULL;
}

/* One of the members of `list` beside everything else. */
static void alternatives(struct schema *s, const struct parts *p, uint32_t which, uint32_t took,
                         const char *keyword, const json_t *list, uint32_t node) {
    size_t i;
    json_t *v;
    const json_t *whose = p->v[which].schema;
    if (!json_is_array(list) || json_array_size(list) == 0) {
        schema_malformed(s, whose, keyword, "is no array of schemas");
        return;
    }
    json_array_foreach(list, i, v) {
        struct parts q = { NULL, 0, 0 };
        if (!json_is_object(v) && !json_is_boolean(v)) {
            schema_malformed(s, whose, keyword, "is no array of schemas");
            return;
        }
        for (uint32_t k = 0; k < p->n; k++)
            if (!parts_add(s, &q, p->v[k].schema, p->v[k].took | (k == which ? took : 0)))
                return;
        if (!parts_add(s, &q, v, 0))
            return;
        build_alias(s->b, node, schema_rule_of(s, &q));
        if (!build_goes_on(s->b))
            return;
    }
}

/* oneOf is anyOf when no value is of two alternatives; nothing else is taken for it. */
static bool all_disjoint(struct schema *s, const json_t *whose, const json_t *list) {
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n && build_goes_on(s->b); k++)
            if (!schema_disjoint(s, json_array_get(list, i), json_array_get(list, k))) {
                if (s->b->err == SLM_OK)
                    build_fail(s->b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                               "schema: 'oneOf' at %s is not supported where alternatives may "
                               "overlap, as %zu and %zu",
                               schema_place(s, whose), i, k);
                return false;
            }
    return s->b->err == SLM_OK;
}

static bool choose(struct schema *s, const struct parts *p, uint32_t node) {
    for (uint32_t i = 0; i < p->n; i++) {
        const json_t *schema = p->v[i].schema;
        const json_t *any = json_object_get(schema, "anyOf"),
                     *one = json_object_get(schema, "oneOf");
        if (hidden(s, schema))
            continue;
        if (any != NULL && !(p->v[i].took & TOOK_ANY)) {
            alternatives(s, p, i, TOOK_ANY, "anyOf", any, node);
            return true;
        }
        if (one != NULL && !(p->v[i].took & TOOK_ONE)) {
            if (all_disjoint(s, schema, one))
                alternatives(s, p, i, TOOK_ONE, "oneOf", one, node);
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ values */

static void read_constants(struct schema *s, const struct merged *m, uint32_t node) {
    struct build *b = s->b;
    for (uint32_t i = 0; i < m->n_values && build_goes_on(b); i++) {
        if (!schema_allows(s, m, m->values[i]))
            continue;
        struct buf text;
        buf_init(&text, b->hooks, b->max_bytes);
        if (rule_spell(b, m->values[i], &text) && text.err == SLM_OK) {
            uint32_t end = build_word(b, node, text.data, text.len);
            build_mark(b, end, NODE_FINAL);
        } else if (b->err == SLM_OK)
            build_fail(b, text.err == SLM_OK ? SLM_E_NOMEM : text.err, SLM_NO_OFFSET,
                       "a constant of the schema does not fit in memory");
        buf_free(&text);
    }
}

/* What the language of the string is made from, as text: equal ones share their nodes. */
static bool text_key(struct schema *s, const struct merged *m, struct buf *key) {
    buf_init(key, s->b->hooks, s->b->max_bytes);
    buf_printf(key, "%u %u", m->min_length, m->max_length);
    for (uint32_t i = 0; i < m->formats.n; i++)
        buf_printf(key, "%c%s", 1, m->formats.v[i]);
    for (uint32_t i = 0; i < m->patterns.n; i++)
        buf_printf(key, "%c%s", 2, m->patterns.v[i]);
    if (key->err != SLM_OK)
        build_fail(s->b, key->err, SLM_NO_OFFSET, "a string of the schema does not fit in memory");
    return s->b->err == SLM_OK;
}

static void read_string(struct schema *s, const struct merged *m, uint32_t node) {
    struct build *b = s->b;
    bool plain = m->patterns.n == 0 && m->formats.n == 0;
    if (plain && m->min_length == 0 && m->max_length == UINT32_MAX) {
        build_alias(b, node, rule_string(b));
        return;
    }
    struct buf key;
    uint32_t slot = 0, body = 0;
    if (text_key(s, m, &key)) {
        body = memo_get(b, &s->texts, key.data, (uint32_t)key.len, &slot);
        if (body == NODE_NONE) {
            if (plain && !b->python)
                body = m->min_length <= m->max_length
                           ? chars_any_string(b, m->min_length, m->max_length)
                           : build_node(b); /* nothing */
            else {
                struct chars *c = schema_chars(s, m);
                body = chars_emit(b, c, CHARS_STRING);
            }
            memo_put(&s->texts, slot, body);
        }
    }
    buf_free(&key);
    build_edge(b, node, '"', '"', body);
}

static void read_number(struct schema *s, const struct merged *m, uint32_t node) {
    bool whole = (m->types & TYPE_REAL) == 0;
    if (!m->has_low && !m->has_high && m->n_steps == 0)
        build_alias(s->b, node, whole ? rule_integer(s->b) : rule_number(s->b));
    else {
        uint32_t start = build_node(s->b);
        digits_emit(s->b, &m->digits, start);
        build_alias(s->b, node, start);
    }
}

static void fill_rule(struct schema *s, const struct parts *set, uint32_t node) {
    struct build *b = s->b;
    struct parts p;
    struct merged m;
    if (!schema_flatten(s, set, &p) || !schema_merge(s, &p, &m) || choose(s, &p, node))
        return;
    if (m.has_values) {
        read_constants(s, &m, node);
        return;
    }
    if (m.types == TYPE_ALL && p.n > 0 && !m.structured && m.patterns.n == 0 && m.formats.n == 0 &&
        m.min_length == 0 && m.max_length == UINT32_MAX && !m.has_low && !m.has_high &&
        m.n_steps == 0) {
        build_alias(b, node, rule_any(b));
        return;
    }
    uint32_t end = m.types & (TYPE_NULL | TYPE_BOOL) ? build_final(b) : NODE_NONE;
    if (m.types & TYPE_NULL)
        rule_null(b, node, end);
    if (m.types & TYPE_BOOL) {
        rule_true(b, node, end);
        rule_false(b, node, end);
    }
    if (m.types & TYPE_WHOLE)
        read_number(s, &m, node);
    if (m.types & TYPE_STRING)
        read_string(s, &m, node);
    if (m.types & TYPE_ARRAY)
        schema_array(s, &m, node);
    if (m.types & TYPE_OBJECT)
        schema_object(s, &m, node);
}

void schema_fill(struct schema *s) {
    for (; s->done < s->n_queue && build_goes_on(s->b); s->done++) {
        struct waiting w = s->queue[s->done];
        fill_rule(s, &w.parts, w.node);
    }
}

void schema_init(struct schema *s, struct build *b, const json_t *root) {
    const char *draft = json_string_value(json_object_get(root, "$schema"));
    memset(s, 0, sizeof *s);
    s->b = b;
    s->root = root;
    s->draft7 =
        draft != NULL && (strstr(draft, "draft-07") != NULL || strstr(draft, "draft-06") != NULL ||
                          strstr(draft, "draft-04") != NULL);
}

slm_err grammar_schema(const struct slm_hooks *h, const json_t *schema,
                       const struct grammar_limits *limits, struct grammar **out, slm_why *why) {
    struct build b;
    struct schema s;
    slm_err err = build_init(&b, h, limits, why);
    if (err == SLM_OK) {
        schema_init(&s, &b, schema);
        uint32_t start = schema_rule(&s, schema);
        schema_fill(&s);
        err = build_finish(&b, start, out);
    }
    build_free(&b);
    return err;
}
