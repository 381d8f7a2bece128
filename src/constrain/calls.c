/* calls.c - calls of tools as a model writes them: which tools there are, and what they may be given.
 *
 * Around the arguments everything is one fixed spelling; the names of tools share their beginnings, so
 * that a model chooses among them by the characters in which they differ. Arguments are of the tool's
 * schema, and an object whatever it says. Members that a tool does not name are not taken unless its
 * schema speaks of them (with "additionalProperties", "patternProperties" or by alternatives and
 * references): a tool asks for what it names. */
#include <string.h>

#include "constrain/schema.h"

#define TOOLS_MOST 4096

struct tool {
    const char *name;
    const json_t *parameters; /* NULL: takes nothing */
    json_t *frame;            /* a schema made here that holds beside them; owned */
};
struct calls {
    struct build *b;
    const struct call_shape *shape;
    struct tool *tools; /* [n] */
    size_t n;
};

/* ------------------------------------------------------------------ tools */

/* {"type":"object"}, closed where the tool leaves open what else there may be. */
static json_t *frame_of(const json_t *parameters) {
    static const char *const speaks[] = { "additionalProperties",
                                          "patternProperties",
                                          "unevaluatedProperties",
                                          "propertyNames",
                                          "$ref",
                                          "allOf",
                                          "anyOf",
                                          "oneOf" };
    json_t *frame = json_object(), *names = json_object();
    int rc = json_object_set_new(frame, "type", json_string("object"));
    bool closed = true;
    for (size_t i = 0; i < ARRAY_LEN(speaks); i++)
        closed = closed && json_object_get(parameters, speaks[i]) == NULL;
    const char *key;
    size_t i;
    json_t *v;
    json_object_foreach(json_object_get(parameters, "properties"), key, v) rc |=
        json_object_set_new(names, key, json_true());
    json_array_foreach(json_object_get(parameters, "required"), i, v) if (json_is_string(v)) rc |=
        json_object_set_new(names, json_string_value(v), json_true());
    if (closed && rc == 0) {
        rc |= json_object_set(frame, "properties", names);
        rc |= json_object_set_new(frame, "additionalProperties", json_false());
    }
    json_decref(names);
    if (rc != 0) {
        json_decref(frame);
        return NULL;
    }
    return frame;
}

static slm_err read_tools(struct calls *c) {
    const struct call_shape *shape = c->shape;
    struct build *b = c->b;
    size_t n = json_array_size(shape->tools), i;
    json_t *v;
    if (!json_is_array(shape->tools) || n == 0 || n > TOOLS_MOST)
        return build_fail(b, SLM_E_ARG, SLM_NO_OFFSET, "tools are no array of 1 to %d", TOOLS_MOST);
    c->tools = build_alloc(b, n, sizeof *c->tools);
    json_array_foreach((json_t *)(uintptr_t)shape->tools, i, v) {
        const json_t *function = json_object_get(v, "function");
        function = function != NULL ? function : v;
        const char *name = json_string_value(json_object_get(function, "name"));
        const json_t *parameters = json_object_get(function, "parameters");
        if (name == NULL || name[0] == '\0')
            return build_fail(b, SLM_E_ARG, SLM_NO_OFFSET, "tool %zu has no name", i);
        if (parameters != NULL && !json_is_object(parameters) && !json_is_null(parameters))
            return build_fail(b, SLM_E_ARG, SLM_NO_OFFSET, "parameters of tool '%s' are no object",
                              name);
        if (shape->name != NULL && strcmp(shape->name, name) != 0)
            continue;
        for (size_t k = 0; k < c->n; k++)
            if (strcmp(c->tools[k].name, name) == 0)
                return build_fail(b, SLM_E_ARG, SLM_NO_OFFSET, "two tools are called '%s'", name);
        if (b->err != SLM_OK)
            return b->err;
        struct tool *t = &c->tools[c->n++];
        *t = (struct tool){ name, json_is_object(parameters) ? parameters : NULL,
                            frame_of(parameters) };
        if (t->frame == NULL)
            return build_fail(b, SLM_E_NOMEM, SLM_NO_OFFSET, "out of memory for tools");
    }
    if (c->n == 0)
        return build_fail(b, SLM_E_ARG, SLM_NO_OFFSET, "there is no tool '%s'", shape->name);
    return b->err;
}

/* ------------------------------------------------------------------ arguments */

static slm_err named(struct calls *c, const struct tool *t) {
    return c->b->err == SLM_OK ? SLM_OK : fail_prefix(c->b->why, c->b->err, "tool '%s'", t->name);
}

static bool tool_parts(struct schema *s, const struct tool *t, struct parts *p) {
    *p = (struct parts){ NULL, 0, 0 };
    return (t->parameters == NULL || parts_add(s, p, t->parameters, 0)) &&
           parts_add(s, p, t->frame, 0);
}

/* From `from` the tool's arguments as a JSON object, then on at `after`. */
static slm_err object_arguments(struct calls *c, const struct tool *t, uint32_t from,
                                uint32_t after) {
    struct schema s;
    struct parts p;
    schema_init(&s, c->b, t->parameters != NULL ? t->parameters : t->frame);
    if (tool_parts(&s, t, &p)) {
        build_call(c->b, from, schema_rule_of(&s, &p), after);
        schema_fill(&s);
    }
    return named(c, t);
}

/* From `from` the tool's arguments in parentheses. */
static slm_err call_arguments(struct calls *c, const struct tool *t, uint32_t from,
                              uint32_t after) {
    struct schema s;
    struct parts p, flat;
    struct merged m;
    struct build *b = c->b;
    schema_init(&s, b, t->parameters != NULL ? t->parameters : t->frame);
    if (tool_parts(&s, t, &p) && schema_flatten(&s, &p, &flat) && schema_merge(&s, &flat, &m)) {
        static const char *const other[] = { "anyOf", "oneOf", "enum", "const" };
        for (uint32_t i = 0; i < flat.n; i++)
            for (size_t k = 0; k < ARRAY_LEN(other); k++)
                if (json_object_get(flat.v[i].schema, other[k]) != NULL)
                    schema_unsupported(&s, flat.v[i].schema, other[k],
                                       "is not supported for the arguments of a call");
        uint32_t rule = build_node(b);
        schema_arguments(&s, &m, rule);
        build_call(b, from, rule, after);
        schema_fill(&s);
    }
    return named(c, t);
}

/* ------------------------------------------------------------------ calls */

/* One call from `from` on, then on at `after`. */
static slm_err json_call(struct calls *c, uint32_t from, uint32_t after) {
    struct build *b = c->b;
    slm_err err = SLM_OK;
    for (size_t i = 0; i < c->n && err == SLM_OK; i++) {
        const struct tool *t = &c->tools[i];
        struct buf text;
        buf_init(&text, b->hooks, 1 << 16);
        buf_puts(&text, "{\"name\": ");
        rule_quote(&text, t->name, strlen(t->name));
        buf_printf(&text, ", \"%s\": ", c->shape->arguments_key);
        if (text.err != SLM_OK)
            err = build_fail(b, text.err, SLM_NO_OFFSET, "the name of a tool is too long");
        else {
            uint32_t value = build_word(b, from, text.data, text.len), end = build_node(b);
            build_edge(b, end, '}', '}', after);
            err = object_arguments(c, t, value, end);
        }
        buf_free(&text);
    }
    return err;
}

static bool callable(const char *name) {
    for (const char *p = name; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
              (p > name && ((*p >= '0' && *p <= '9') || *p == '.' || *p == '-'))))
            return false;
    return true;
}

static slm_err python_call(struct calls *c, uint32_t from, uint32_t after) {
    slm_err err = SLM_OK;
    for (size_t i = 0; i < c->n && err == SLM_OK; i++) {
        const struct tool *t = &c->tools[i];
        if (!callable(t->name))
            return build_fail(c->b, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                              "tool '%s': not the name of a function", t->name);
        err = call_arguments(c, t, build_word(c->b, from, t->name, strlen(t->name)), after);
    }
    return err;
}

/* open {...} close, again with `between` before it. */
static uint32_t separate_calls(struct calls *c) {
    struct build *b = c->b;
    const struct call_shape *s = c->shape;
    uint32_t start = build_node(b), call, end = build_final(b), body = build_node(b);
    call = build_node(b);
    if (s->opened || s->open[0] == '\0')
        build_alias(b, start, body);
    else
        build_alias(b, start, call);
    if (s->open[0] == '\0')
        build_alias(b, call, body);
    else
        build_text_to(b, call, s->open, strlen(s->open), body);
    uint32_t after = s->close[0] == '\0' ? end : build_node(b);
    if (after != end)
        build_text_to(b, after, s->close, strlen(s->close), end);
    json_call(c, body, after);
    if (s->many && s->between[0] == '\0')
        build_alias(b, end, call);
    else if (s->many)
        build_text_to(b, end, s->between, strlen(s->between), call);
    return start;
}

/* open [call, call] close. */
static uint32_t listed_calls(struct calls *c, const char *open, const char *close) {
    struct build *b = c->b;
    uint32_t start = build_node(b);
    uint32_t bracket = c->shape->opened ? start : build_text(b, start, open, strlen(open));
    uint32_t call = build_node(b), after = build_node(b), end = build_final(b);
    build_edge(b, bracket, '[', '[', call);
    if (c->shape->style == CALL_PYTHON)
        python_call(c, call, after);
    else
        json_call(c, call, after);
    uint32_t last = close[0] == '\0' ? end : build_node(b);
    build_edge(b, after, ']', ']', last);
    if (last != end)
        build_text_to(b, last, close, strlen(close), end);
    if (c->shape->many)
        build_text_to(b, after, ", ", 2, call);
    return start;
}

slm_err grammar_calls(const struct slm_hooks *h, const struct call_shape *shape,
                      const struct grammar_limits *limits, struct grammar **out, slm_why *why) {
    struct build b;
    struct calls c = { .b = &b, .shape = shape };
    slm_err err = build_init(&b, h, limits, why);
    b.python = shape->style == CALL_PYTHON;
    if (err == SLM_OK && (err = read_tools(&c)) == SLM_OK) {
        uint32_t start = shape->style == CALL_JSON   ? separate_calls(&c)
                         : shape->style == CALL_LIST ? listed_calls(&c, shape->open, shape->close)
                                                     : listed_calls(&c, "", "");
        err = build_finish(&b, start, out);
    }
    for (size_t i = 0; i < c.n; i++)
        json_decref(c.tools[i].frame);
    build_free(&b);
    return err;
}
