/* answer_json.c - one call of a tool as a JSON object, byte by byte, and what the parser of answers
 * knows about tools.
 *
 * In:  {"name": "f", "arguments": {...}}; "parameters" for "arguments"; arguments may be missing, null,
 *      or a string that holds the object. Other keys are not looked at.
 * Out: name and arguments, the latter as they were written. */
#include "chat/answer_unit.h"

#include <string.h>

/* Escapes of Python text grow six times at most; the rest is room for many short calls. */
#define LIST_BYTES_MAX (8 * CALL_BYTES_MAX)

/* ---- tools ---- */

bool call_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

bool call_name_valid(const char *name, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!call_name_byte(name[i]))
            return false;
    return n > 0 && n <= CALL_NAME_MAX;
}

static const json_t *tool_object(const json_t *tool) {
    const json_t *function = json_object_get(tool, "function");
    return json_is_object(function) ? function : tool;
}

static const char *tool_name(const json_t *tool, size_t *n) {
    const json_t *name = json_object_get(tool, "name");
    *n = json_string_length(name);
    return json_string_value(name);
}

const json_t *tool_find(const json_t *tools, const char *name, size_t n) {
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = tool_object(json_array_get(tools, i));
        size_t n_is;
        const char *is = tool_name(tool, &n_is);
        if (is != NULL && n_is == n && memcmp(is, name, n) == 0)
            return tool;
    }
    return NULL;
}

bool tool_begins(const json_t *tools, const char *name, size_t n) {
    for (size_t i = 0; i < json_array_size(tools); i++) {
        size_t n_is;
        const char *is = tool_name(tool_object(json_array_get(tools, i)), &n_is);
        if (is != NULL && n_is >= n && memcmp(is, name, n) == 0)
            return true;
    }
    return false;
}

const char *tool_parameter(const json_t *tool, size_t i) {
    json_t *properties = json_object_get(json_object_get(tool, "parameters"), "properties");
    void *it = json_object_iter(properties);
    while (it != NULL && i-- > 0)
        it = json_object_iter_next(properties, it);
    return it != NULL ? json_object_iter_key(it) : NULL;
}

/* ---- the list ---- */

void call_list_init(struct call_list *l, const struct slm_hooks *h) {
    *l = (struct call_list){ .hooks = h };
    buf_init(&l->bytes, h, LIST_BYTES_MAX);
}

void call_list_open(struct call_list *l, const char *name, size_t n) {
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 4;
        struct call_at *at = mem_resize(l->hooks, l->at, cap, sizeof *at);
        if (at == NULL) {
            l->bytes.err = SLM_E_NOMEM;
            return;
        }
        l->at = at;
        l->cap = cap;
    }
    struct call_at *call = &l->at[l->n];
    call->name = l->bytes.len;
    call->n_name = n;
    buf_put(&l->bytes, name, n);
    buf_putc(&l->bytes, '\0');
    call->arguments = l->bytes.len;
}

/* Exactly what request_read demands of a call in the history, so that every call can be sent back. */
static bool is_object(const char *text, size_t n, slm_err *err) {
    json_t *root;
    slm_err read = json_text(text, n, &root, NULL);
    bool good = read == SLM_OK && json_is_object(root);
    json_decref(root);
    if (read == SLM_E_NOMEM)
        *err = read;
    return good;
}

bool call_list_close(struct call_list *l, slm_err *err) {
    if (l->bytes.err != SLM_OK) {
        if (l->bytes.err == SLM_E_NOMEM)
            *err = SLM_E_NOMEM;
        return false;
    }
    struct call_at *call = &l->at[l->n];
    call->n_arguments = l->bytes.len - call->arguments;
    buf_putc(&l->bytes, '\0');
    if (l->bytes.err != SLM_OK) {
        *err = l->bytes.err == SLM_E_NOMEM ? SLM_E_NOMEM : *err;
        return false;
    }
    if (!is_object(l->bytes.data + call->arguments, call->n_arguments, err))
        return false;
    l->n++;
    return true;
}

void call_list_clear(struct call_list *l) {
    l->n = 0;
    l->bytes.len = 0;
    l->bytes.err = SLM_OK;
}

void call_list_free(struct call_list *l) {
    buf_free(&l->bytes);
    mem_free(l->hooks, l->at);
    l->at = NULL;
    l->n = l->cap = 0;
}

/* ---- where an object ends ---- */

enum {
    JU_BEGIN,     /* before '{' */
    JU_KEY_FIRST, /* behind '{' */
    JU_KEY,       /* behind ',' in an object */
    JU_COLON,
    JU_VALUE,
    JU_ITEM_FIRST, /* behind '[' */
    JU_AFTER,      /* behind a value */
    JU_SCALAR,     /* in a number or word */
    JU_STRING,
    JU_ESCAPE
};

void json_unit_init(struct json_unit *u) {
    u->state = JU_BEGIN;
    u->ended = ENDED_NOTHING;
    u->is_key = false;
    u->depth = 0;
    u->at = u->string_at = 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static enum unit_step unit_open(struct json_unit *u, char c) {
    if (u->depth == JSON_PULL_DEPTH)
        return UNIT_BAD;
    u->stack[u->depth++] = (uint8_t)c;
    u->state = c == '{' ? JU_KEY_FIRST : JU_ITEM_FIRST;
    return UNIT_MORE;
}

static enum unit_step unit_close(struct json_unit *u, char c) {
    if (u->stack[u->depth - 1] != (c == '}' ? '{' : '['))
        return UNIT_BAD;
    u->state = JU_AFTER;
    return --u->depth == 0 ? UNIT_DONE : UNIT_MORE;
}

static enum unit_step unit_value(struct json_unit *u, char c) {
    if (c == '"') {
        u->is_key = false;
        u->string_at = u->depth == 1 ? u->at : u->string_at;
        u->state = JU_STRING;
        return UNIT_MORE;
    }
    if (c == '{' || c == '[')
        return unit_open(u, c);
    if (c == ']' && u->state == JU_ITEM_FIRST)
        return unit_close(u, c);
    u->state = JU_SCALAR;
    return c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n' ? UNIT_MORE
                                                                                  : UNIT_BAD;
}

static enum unit_step unit_key(struct json_unit *u, char c) {
    if (c == '}' && u->state == JU_KEY_FIRST)
        return unit_close(u, c);
    if (c != '"')
        return UNIT_BAD;
    u->is_key = true;
    u->string_at = u->depth == 1 ? u->at : u->string_at;
    u->state = JU_STRING;
    return UNIT_MORE;
}

static enum unit_step unit_after(struct json_unit *u, char c) {
    if (c == '}' || c == ']')
        return unit_close(u, c);
    if (c != ',')
        return UNIT_BAD;
    u->state = u->stack[u->depth - 1] == '{' ? JU_KEY : JU_VALUE;
    return UNIT_MORE;
}

static enum unit_step unit_string(struct json_unit *u, char c) {
    if ((unsigned char)c < 0x20)
        return UNIT_BAD;
    if (c == '\\')
        u->state = JU_ESCAPE;
    if (c != '"')
        return UNIT_MORE;
    if (u->depth == 1)
        u->ended = u->is_key ? ENDED_KEY : ENDED_STRING;
    u->state = u->is_key ? JU_COLON : JU_AFTER;
    return UNIT_MORE;
}

static bool in_scalar(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'E' || c == '.' || c == '+' ||
           c == '-';
}

static enum unit_step unit_byte(struct json_unit *u, char c) {
    if (u->state == JU_STRING)
        return unit_string(u, c);
    if (u->state == JU_ESCAPE) {
        u->state = JU_STRING;
        return strchr("\"\\/bfnrtu", c) != NULL && c != '\0' ? UNIT_MORE : UNIT_BAD;
    }
    if (u->state == JU_SCALAR) {
        if (in_scalar(c))
            return UNIT_MORE;
        u->state = JU_AFTER;
    }
    if (is_blank(c) && u->state != JU_BEGIN)
        return UNIT_MORE;
    switch (u->state) {
    case JU_BEGIN:
        return c == '{' ? unit_open(u, c) : UNIT_BAD;
    case JU_KEY_FIRST:
    case JU_KEY:
        return unit_key(u, c);
    case JU_COLON:
        u->state = JU_VALUE;
        return c == ':' ? UNIT_MORE : UNIT_BAD;
    case JU_VALUE:
    case JU_ITEM_FIRST:
        return unit_value(u, c);
    default:
        return unit_after(u, c);
    }
}

enum unit_step json_unit_put(struct json_unit *u, char c) {
    u->ended = ENDED_NOTHING;
    enum unit_step step = unit_byte(u, c);
    u->at++;
    return step;
}

/* ---- what the object says ---- */

struct call_fields {
    char name[CALL_NAME_MAX];
    size_t n_name;
    const char *arguments; /* [n_arguments] in the text or in unescaped; NULL: none */
    size_t n_arguments;
    bool has_arguments;
    struct buf unescaped;
};

static bool key_is(const struct json_pull *p, const char *key) {
    return p->n == strlen(key) && memcmp(p->text, key, p->n) == 0;
}

static bool read_name(struct json_pull *p, struct call_fields *f) {
    if (f->n_name > 0 || json_next(p) != PULL_STRING || !call_name_valid(p->text, p->n))
        return false;
    memcpy(f->name, p->text, p->n);
    f->n_name = p->n;
    return true;
}

static bool blank_text(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_blank(text[i]))
            return false;
    return true;
}

static bool read_arguments(struct json_pull *p, struct call_fields *f) {
    if (f->has_arguments)
        return false;
    f->has_arguments = true;
    enum json_event event = json_next(p);
    switch (event) {
    case PULL_OBJECT: {
        size_t start = p->pos - 1;
        json_skip(p, event);
        f->arguments = p->data + start;
        f->n_arguments = p->pos - start;
        return true;
    }
    case PULL_STRING:
        if (blank_text(p->text, p->n))
            return true;
        buf_put(&f->unescaped, p->text, p->n);
        f->arguments = f->unescaped.data;
        f->n_arguments = f->unescaped.len;
        return f->unescaped.err == SLM_OK;
    default:
        return event == PULL_NULL;
    }
}

static bool read_fields(struct json_pull *p, struct call_fields *f) {
    if (json_next(p) != PULL_OBJECT)
        return false;
    enum json_event event;
    while ((event = json_next(p)) == PULL_KEY) {
        if (key_is(p, "name")) {
            if (!read_name(p, f))
                return false;
        } else if (key_is(p, "arguments") || key_is(p, "parameters")) {
            if (!read_arguments(p, f))
                return false;
        } else {
            json_skip(p, PULL_KEY);
        }
    }
    return event == PULL_OBJECT_END && json_next(p) == PULL_END && f->n_name > 0;
}

bool call_from_json(const char *text, size_t n, struct call_list *out, slm_err *err) {
    struct json_pull p;
    struct call_fields f = { .n_name = 0 };
    buf_init(&f.unescaped, out->hooks, CALL_BYTES_MAX);
    json_pull_init(&p, out->hooks, text, n, NULL);
    bool good = read_fields(&p, &f);
    if (p.err == SLM_E_NOMEM || f.unescaped.err == SLM_E_NOMEM)
        *err = SLM_E_NOMEM;
    if (good) {
        call_list_open(out, f.name, f.n_name);
        if (f.arguments != NULL)
            buf_put(&out->bytes, f.arguments, f.n_arguments);
        else
            buf_puts(&out->bytes, "{}");
        good = call_list_close(out, err);
    }
    json_pull_free(&p);
    buf_free(&f.unescaped);
    return good;
}
