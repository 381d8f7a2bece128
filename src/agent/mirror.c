/* mirror.c - parameters of a tool call that a server wants in headers, so that what stands between can
 * route by them.
 *
 * Source: MCP 2026-07-28, "Custom Headers from Tool Parameters". A mark counts where only "properties"
 * lead from the root of the schema to it; anywhere else it makes the tool invalid. The schema is walked
 * with a stack of our own, the arguments beside it. */
#include "agent/mirror.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

enum { NODES_MOST = 20000, MARKS_MOST = 64 };
#define MARK "x-mcp-header"

enum place {
    PLACE_ROOT,
    PLACE_PARAMETER, /* a schema that "properties" lead to */
    PLACE_NAMES,     /* the object behind such a "properties" */
    PLACE_ELSEWHERE
};
struct node {
    const json_t *v, *argument; /* argument NULL: none there */
    enum place place;
};
struct walk {
    struct node *stack;
    size_t n, room, seen;
    struct mirror *out;
    const char *marks[MARKS_MOST];
    size_t n_marks;
    slm_why *why;
};

static char *base64(const char *text, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = keep(malloc((n + 2) / 3 * 4 + 1)), *p = out;
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)(unsigned char)text[i] << 16;
        v |= i + 1 < n ? (unsigned)(unsigned char)text[i + 1] << 8 : 0;
        v |= i + 2 < n ? (unsigned)(unsigned char)text[i + 2] : 0;
        *p++ = digits[v >> 18];
        *p++ = digits[v >> 12 & 63];
        *p++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *p++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *p = 0;
    return out;
}

static bool plain(const char *value, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((value[i] < 0x20 && value[i] != '\t') || value[i] > 0x7e)
            return false;
    bool padded = n && (value[0] == ' ' || value[0] == '\t' || value[n - 1] == ' ' ||
                        value[n - 1] == '\t');
    bool marked = n >= 11 && memcmp(value, "=?base64?", 9) == 0 && memcmp(value + n - 2, "?=", 2) == 0;
    return !padded && !marked;
}

char *mirror_line(const char *prefix, const char *name, const char *value, size_t n) {
    if (!n)
        return text_printf("%s%s;", prefix, name); /* libcurl's way to say: without a value */
    if (plain(value, n))
        return text_printf("%s%s: %.*s", prefix, name, (int)n, value);
    char *code = base64(value, n), *line = text_printf("%s%s: =?base64?%s?=", prefix, name, code);
    free(code);
    return line;
}

static slm_err push(struct walk *w, const json_t *v, const json_t *argument, enum place place) {
    if (!json_is_object(v) && !json_is_array(v))
        return SLM_OK;
    if (++w->seen > NODES_MOST)
        return fail(w->why, SLM_E_BUDGET, SLM_NO_OFFSET, "its schema has more than %d parts",
                    NODES_MOST);
    if (w->n == w->room) {
        w->room = w->room ? 2 * w->room : 64;
        w->stack = keep(realloc(w->stack, w->room * sizeof *w->stack));
    }
    w->stack[w->n++] = (struct node){ v, argument, place };
    return SLM_OK;
}

static bool token(const char *s) {
    const char *first = s;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr("!#$%&'*+-.^_`|~", *s)))
            return false;
    return s > first && s - first <= 128;
}

static slm_err check_mark(struct walk *w, const struct node *at, const char *mark) {
    const char *type = json_string_value(json_object_get(at->v, "type"));
    if (!mark || !token(mark))
        return fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET, "its " MARK " is no name of a header");
    if (at->place != PLACE_PARAMETER)
        return fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET, "its " MARK " '%s' marks no parameter",
                    mark);
    if (!type || (strcmp(type, "string") != 0 && strcmp(type, "integer") != 0 &&
                  strcmp(type, "boolean") != 0))
        return fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "its " MARK " '%s' marks a parameter that is no string, integer or boolean",
                    mark);
    for (size_t i = 0; i < w->n_marks; i++)
        if (strcasecmp(w->marks[i], mark) == 0)
            return fail(w->why, SLM_E_FORMAT, SLM_NO_OFFSET, "its " MARK " '%s' is there twice",
                        mark);
    if (w->n_marks == MARKS_MOST)
        return fail(w->why, SLM_E_BUDGET, SLM_NO_OFFSET, "it has more than %d " MARK, MARKS_MOST);
    w->marks[w->n_marks++] = mark;
    return SLM_OK;
}

static void put_value(struct mirror *out, const char *mark, const json_t *v) {
    char number[32];
    const char *text = number;
    size_t n = 0;
    if (json_is_string(v)) {
        text = json_string_value(v);
        n = json_string_length(v);
    } else if (json_is_integer(v)) {
        n = (size_t)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
    } else if (json_is_boolean(v)) {
        n = (size_t)snprintf(number, sizeof number, "%s", json_is_true(v) ? "true" : "false");
    } else {
        return; /* null, or what the schema does not allow: the server will say so */
    }
    out->lines = keep(realloc(out->lines, (out->n + 1) * sizeof *out->lines));
    out->lines[out->n++] = mirror_line("Mcp-Param-", mark, text, n);
}

static slm_err visit(struct walk *w, const struct node *at) {
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_array(at->v)) {
        json_array_foreach(at->v, i, v)
            TRY(push(w, v, NULL, PLACE_ELSEWHERE));
        return SLM_OK;
    }
    bool schema = at->place == PLACE_ROOT || at->place == PLACE_PARAMETER;
    json_object_foreach((json_t *)at->v, key, v) {
        if (at->place == PLACE_NAMES) {
            TRY(push(w, v, json_object_get(at->argument, key), PLACE_PARAMETER));
        } else if (strcmp(key, MARK) == 0 && (schema || json_is_string(v))) {
            TRY(check_mark(w, at, json_string_value(v)));
            if (at->argument)
                put_value(w->out, json_string_value(v), at->argument);
        } else if (schema && strcmp(key, "properties") == 0 && json_is_object(v)) {
            TRY(push(w, v, at->argument, PLACE_NAMES));
        } else {
            TRY(push(w, v, NULL, PLACE_ELSEWHERE));
        }
    }
    return SLM_OK;
}

slm_err mirror_arguments(const json_t *schema, const json_t *arguments, struct mirror *out,
                         slm_why *why) {
    struct walk w = { .out = out, .why = why };
    slm_err err = push(&w, schema, arguments, PLACE_ROOT);
    while (err == SLM_OK && w.n) {
        struct node at = w.stack[--w.n];
        err = visit(&w, &at);
    }
    free(w.stack);
    return err;
}

void mirror_free(struct mirror *m) {
    for (size_t i = 0; i < m->n; i++)
        free(m->lines[i]);
    free(m->lines);
    *m = (struct mirror){ NULL, 0 };
}
