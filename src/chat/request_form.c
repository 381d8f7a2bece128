/* request_form.c - messages of one shape to what a template with a certain dialect needs.
 *
 * hermes   the template has places for all of it: tools, calls, results, reasoning.
 * smollm3  the template has a place for tools, and drops calls: they go into the content as the model
 *          writes them. It reads a system message only at the start.
 * phi4     tools are a field of the system message, as text; calls go into the content.
 * gemma    no places at all: tools are words in the first user turn, calls are Python in the content,
 *          results are user turns, and roles alternate strictly.
 * What a model or a tool wrote is marked as data where it moves into the content of an assistant.
 * Sources: the vendors' templates; the card of Phi-4-mini; Google's page on function calling with
 * Gemma 3. */
#include <string.h>

#include "chat/request_unit.h"

#define CONTENT_MAX ((size_t)1 << 30)

static bool role_is(const json_t *message, const char *role) {
    const char *is = json_string_value(json_object_get(message, "role"));
    return is != NULL && strcmp(is, role) == 0;
}

/* ---- contents that are put together of trusted text and data ---- */

struct content {
    struct reading *r;
    struct buf text;
    json_t *data; /* start, length, start, length ... of the bytes that are data */
    size_t from;  /* where the open piece of data begins */
};

static slm_err content_begin(struct content *c, struct reading *r) {
    *c = (struct content){ .r = r, .data = json_array() };
    buf_init(&c->text, r->hooks, CONTENT_MAX);
    return c->data != NULL ? SLM_OK : fail_nomem(r->why, "content", 0);
}

static void data_begin(struct content *c) {
    c->from = c->text.len;
}

static slm_err data_end(struct content *c) {
    TRY(request_add(c->r, c->data, json_integer((json_int_t)c->from)));
    return request_add(c->r, c->data, json_integer((json_int_t)(c->text.len - c->from)));
}

static void put_string(struct content *c, const json_t *s) {
    buf_put(&c->text, json_string_value(s), json_string_length(s));
}

/* The content of a message, with the marks that it has. */
static slm_err put_content(struct content *c, const json_t *message) {
    const json_t *data = json_object_get(message, "content_data");
    json_int_t base = (json_int_t)c->text.len;
    for (size_t i = 0; i < json_array_size(data); i++) {
        json_int_t at = json_integer_value(json_array_get(data, i));
        TRY(request_add(c->r, c->data, json_integer(i % 2 == 0 ? at + base : at)));
    }
    put_string(c, json_object_get(message, "content"));
    return SLM_OK;
}

/* Becomes the content of the message, also when err says that it failed; gives err or its own. */
static slm_err content_end(struct content *c, json_t *message, slm_err err) {
    if (err == SLM_OK)
        err = request_set(c->r, message, "content", request_string(&c->text));
    if (err == SLM_OK && json_array_size(c->data) > 0)
        err = request_set(c->r, message, "content_data", json_incref(c->data));
    json_decref(c->data);
    buf_free(&c->text);
    return err;
}

/* ---- calls as a model writes them ---- */

static const json_t *call_function(const json_t *calls, size_t i) {
    return json_object_get(json_array_get(calls, i), "function");
}

static slm_err put_object(struct content *c, const json_t *function, const char *key) {
    buf_puts(&c->text, "{\"name\": \"");
    put_string(c, json_object_get(function, "name"));
    buf_puts(&c->text, "\", \"");
    buf_puts(&c->text, key);
    buf_puts(&c->text, "\": ");
    TRY(request_value(&c->text, json_object_get(function, "arguments"), STYLE_JSON, c->r->why));
    buf_putc(&c->text, '}');
    return SLM_OK;
}

static bool is_identifier(const char *s) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    size_t first = strspn(s, letters);
    return first > 0 &&
           s[first + strspn(s + first, "abcdefghijklmnopqrstuvwxyz"
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")] == '\0';
}

/* f(a=1, b="x"); as JSON where an argument's name cannot be written so. */
static slm_err put_python(struct content *c, const json_t *function) {
    json_t *arguments = json_object_get(function, "arguments");
    void *it = json_object_iter(arguments);
    for (; it != NULL; it = json_object_iter_next(arguments, it))
        if (!is_identifier(json_object_iter_key(it)))
            return put_object(c, function, "parameters");
    put_string(c, json_object_get(function, "name"));
    buf_putc(&c->text, '(');
    it = json_object_iter(arguments);
    for (size_t i = 0; it != NULL; it = json_object_iter_next(arguments, it), i++) {
        buf_puts(&c->text, i > 0 ? ", " : "");
        buf_puts(&c->text, json_object_iter_key(it));
        buf_putc(&c->text, '=');
        TRY(request_value(&c->text, json_object_iter_value(it), STYLE_PYTHON, c->r->why));
    }
    buf_putc(&c->text, ')');
    return SLM_OK;
}

static slm_err put_tagged(struct content *c, const json_t *calls) {
    for (size_t i = 0; i < json_array_size(calls); i++) {
        buf_puts(&c->text, i > 0 ? "\n<tool_call>\n" : "<tool_call>\n");
        data_begin(c);
        TRY(put_object(c, call_function(calls, i), "arguments"));
        TRY(data_end(c));
        buf_puts(&c->text, "\n</tool_call>");
    }
    return SLM_OK;
}

static slm_err put_list(struct content *c, const json_t *calls, bool python) {
    buf_puts(&c->text, python ? "" : "<|tool_call|>");
    data_begin(c);
    buf_putc(&c->text, '[');
    for (size_t i = 0; i < json_array_size(calls); i++) {
        buf_puts(&c->text, i > 0 ? ", " : "");
        TRY(python ? put_python(c, call_function(calls, i))
                   : put_object(c, call_function(calls, i), "arguments"));
    }
    buf_putc(&c->text, ']');
    TRY(data_end(c));
    buf_puts(&c->text, python ? "" : "<|/tool_call|>");
    return SLM_OK;
}

/* Thinking of the turn that is being worked on, as the model wrote it. */
static slm_err put_thinking(struct content *c, const json_t *message) {
    const json_t *thought = json_object_get(message, "reasoning_content");
    buf_puts(&c->text, "<think>\n");
    data_begin(c);
    put_string(c, thought);
    TRY(data_end(c));
    buf_puts(&c->text, "\n</think>\n");
    return SLM_OK;
}

/* Thinking (if wished), words and calls of an assistant into its content. */
static slm_err fold_assistant(struct reading *r, json_t *message, bool thinking) {
    json_t *calls = json_object_get(message, "tool_calls");
    struct content c;
    slm_err err = content_begin(&c, r);
    if (err == SLM_OK && thinking && json_object_get(message, "reasoning_content") != NULL)
        err = put_thinking(&c, message);
    if (err == SLM_OK)
        err = put_content(&c, message);
    bool words = json_string_length(json_object_get(message, "content")) > 0;
    if (err == SLM_OK && json_array_size(calls) > 0) {
        buf_puts(&c.text, words && r->dialect != CALLS_PHI4 ? "\n" : "");
        err = r->dialect == CALLS_SMOLLM3 ? put_tagged(&c, calls)
                                          : put_list(&c, calls, r->dialect == CALLS_GEMMA);
    }
    err = content_end(&c, message, err);
    (void)json_object_del(message, "tool_calls");
    (void)json_object_del(message, "reasoning_content");
    return err;
}

static slm_err fold_assistants(struct reading *r, json_t *messages, size_t thinking_from) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (role_is(message, "assistant"))
            TRY(fold_assistant(r, message, i >= thinking_from));
    }
    return SLM_OK;
}

/* ---- several messages as one ---- */

static bool any_parts(const json_t *messages, size_t from, size_t to) {
    for (size_t i = from; i < to; i++)
        if (json_is_array(json_object_get(json_array_get(messages, i), "content")))
            return true;
    return false;
}

static slm_err put_part(struct reading *r, json_t *parts, json_t *text) {
    json_t *part = json_object();
    TRY(request_add(r, parts, part));
    TRY(request_set(r, part, "type", json_string("text")));
    return request_set(r, part, "text", json_incref(text));
}

/* Contents of messages [from, to), some of which are lists of parts, as one list. */
static slm_err join_parts(struct reading *r, json_t *messages, size_t from, size_t to) {
    json_t *parts = json_array();
    slm_err err = parts != NULL ? SLM_OK : fail_nomem(r->why, "content", 0);
    for (size_t i = from; err == SLM_OK && i < to; i++) {
        json_t *content = json_object_get(json_array_get(messages, i), "content");
        if (!json_is_array(content))
            err = put_part(r, parts, content);
        else if (json_array_extend(parts, content) != 0)
            err = fail_nomem(r->why, "content", 0);
    }
    if (err == SLM_OK)
        err = request_set(r, json_array_get(messages, from), "content", json_incref(parts));
    json_decref(parts);
    return err;
}

/* Contents of messages [from, to) become that of the first. */
static slm_err join(struct reading *r, json_t *messages, size_t from, size_t to,
                    const char *between) {
    struct content c;
    if (to - from < 2)
        return SLM_OK;
    if (any_parts(messages, from, to))
        return join_parts(r, messages, from, to);
    slm_err err = content_begin(&c, r);
    for (size_t i = from; err == SLM_OK && i < to; i++) {
        buf_puts(&c.text, i > from ? between : "");
        err = put_content(&c, json_array_get(messages, i));
    }
    return content_end(&c, json_array_get(messages, from), err);
}

/* Neighbours of one role become one message: in the first `most` groups of them, SIZE_MAX: in all. */
static slm_err join_neighbours(struct reading *r, json_t *messages, size_t most,
                               const char *between) {
    size_t n = json_array_size(messages), to;
    json_t *kept = json_array();
    slm_err err = kept != NULL ? SLM_OK : fail_nomem(r->why, "request", 0);
    for (size_t i = 0; err == SLM_OK && i < n; i = to) {
        const json_t *role = json_object_get(json_array_get(messages, i), "role");
        to = i + 1;
        while (most > 0 && to < n &&
               json_equal(json_object_get(json_array_get(messages, to), "role"), role))
            to++;
        most -= most > 0;
        err = join(r, messages, i, to, between);
        if (err == SLM_OK)
            err = request_add(r, kept, json_incref(json_array_get(messages, i)));
    }
    if (err == SLM_OK &&
        (json_array_clear(messages) != 0 || json_array_extend(messages, kept) != 0))
        err = fail_nomem(r->why, "request", 0);
    json_decref(kept);
    return err;
}

/* ---- system messages ---- */

/* Those at the start become one. Later ones, which the template would drop or refuse, become user
 * turns. */
static slm_err one_system(struct reading *r, json_t *messages) {
    if (role_is(json_array_get(messages, 0), "system"))
        TRY(join_neighbours(r, messages, 1, "\n\n"));
    for (size_t i = 1; i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!role_is(message, "system"))
            continue;
        request_warn(r, "a system message behind the start is given to %s as a user's",
                     request_model(r));
        TRY(request_set(r, message, "role", json_string("user")));
    }
    return SLM_OK;
}

/* ---- tools as text ---- */

/* The inner objects, which is what these models were shown. */
static slm_err put_tools(struct buf *b, const json_t *tools, const char *before,
                         const char *between, const char *behind, slm_why *why) {
    buf_puts(b, before);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        buf_puts(b, i > 0 ? between : "");
        TRY(request_value(b, json_object_get(json_array_get(tools, i), "function"), STYLE_JSON,
                          why));
    }
    buf_puts(b, behind);
    return SLM_OK;
}

/* ---- dialects ---- */

static size_t last_user(const json_t *messages) {
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(messages); i++)
        at = role_is(json_array_get(messages, i), "user") ? i : at;
    return at;
}

static slm_err form_smollm3(struct reading *r, json_t *messages, json_t *kwargs,
                            const json_t *tools) {
    TRY(one_system(r, messages));
    const json_t *first = json_array_get(messages, 0);
    const char *system = json_string_value(json_object_get(first, "content"));
    if (tools != NULL && role_is(first, "system") && system != NULL &&
        strstr(system, "/system_override") != NULL)
        request_warn(r, "/system_override in the system message leaves out the tools");
    TRY(fold_assistants(r, messages, r->out->thinks ? last_user(messages) : SIZE_MAX));
    return tools != NULL ? request_set(r, kwargs, "xml_tools", json_incref(r->out->tools)) : SLM_OK;
}

/* The template adds content and tools as they are: both have to be strings. */
static slm_err form_phi4(struct reading *r, json_t *messages, const json_t *tools) {
    TRY(fold_assistants(r, messages, SIZE_MAX));
    if (tools == NULL)
        return SLM_OK;
    json_t *first = json_array_get(messages, 0);
    if (!role_is(first, "system")) {
        first = json_object();
        if (json_array_insert_new(messages, 0, first) != 0)
            return fail_nomem(r->why, "request", 0);
        TRY(request_set(r, first, "role", json_string("system")));
        TRY(request_set(r, first, "content",
                        json_string("You are a helpful assistant with some tools.")));
    }
    struct buf b;
    buf_init(&b, r->hooks, CONTENT_MAX);
    slm_err err = put_tools(&b, tools, "[", ", ", "]", r->why);
    if (err == SLM_OK)
        err = request_set(r, first, "tools", request_string(&b));
    buf_free(&b);
    return err;
}

/* Roles alternate and the user begins: results are the user's, and neighbours one turn. */
static slm_err alternate(struct reading *r, json_t *messages) {
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (role_is(json_array_get(messages, i), "tool"))
            TRY(request_set(r, json_array_get(messages, i), "role", json_string("user")));
    return join_neighbours(r, messages, SIZE_MAX, "\n");
}

static const char gemma_tools[] =
    "You have access to functions. If you decide to invoke any of the function(s),\n"
    " you MUST put it in the format of\n"
    "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
    "\n"
    "You SHOULD NOT include any other text in the response if you call a function\n"
    "[\n  ";

/* A user turn at the start, behind the system message; the tools' words, if any, begin it. */
static slm_err begin_user(struct reading *r, json_t *messages, const json_t *tools) {
    size_t at = role_is(json_array_get(messages, 0), "system") ? 1 : 0;
    struct buf b;
    if (tools == NULL && role_is(json_array_get(messages, at), "user"))
        return SLM_OK;
    json_t *turn = json_object();
    if (json_array_insert_new(messages, at, turn) != 0)
        return fail_nomem(r->why, "request", 0);
    TRY(request_set(r, turn, "role", json_string("user")));
    buf_init(&b, r->hooks, CONTENT_MAX);
    slm_err err =
        tools != NULL ? put_tools(&b, tools, gemma_tools, ",\n  ", "\n]", r->why) : SLM_OK;
    if (err == SLM_OK)
        err = request_set(r, turn, "content", request_string(&b));
    buf_free(&b);
    return err;
}

static slm_err form_gemma(struct reading *r, json_t *messages, const json_t *tools) {
    TRY(one_system(r, messages));
    TRY(fold_assistants(r, messages, SIZE_MAX));
    TRY(begin_user(r, messages, tools));
    return alternate(r, messages);
}

slm_err request_form(struct reading *r, json_t *messages, json_t *kwargs, const json_t *tools) {
    switch (r->dialect) {
    case CALLS_SMOLLM3:
        return form_smollm3(r, messages, kwargs, tools);
    case CALLS_PHI4:
        return form_phi4(r, messages, tools);
    case CALLS_GEMMA:
        return form_gemma(r, messages, tools);
    case CALLS_HERMES:
    case CALLS_NONE:
        break;
    }
    return tools != NULL ? request_set(r, kwargs, "tools", json_incref(r->out->tools)) : SLM_OK;
}
