/* request.c - the document of a request: what may stand in it, tools, choices, thinking.
 *
 * In:  a parsed JSON document.   Out: struct request; see request.h and slm_prompt_make in slm.h. */
#include "chat/request.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "chat/answer_unit.h"
#include "chat/request_unit.h"

/* ---- small helpers ---- */

void request_warn(struct reading *r, const char *format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (r->out->warnings.len + sizeof line > WARNINGS_MAX)
        return;
    for (char *c = line; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20)
            *c = ' ';
    buf_puts(&r->out->warnings, line);
    buf_putc(&r->out->warnings, '\n');
}

const char *request_model(const struct reading *r) {
    return r->model.name != NULL ? r->model.name : "this model";
}

static slm_err no_memory(struct reading *r) {
    return fail_nomem(r->why, "request", 0);
}

slm_err request_set(struct reading *r, json_t *object, const char *key, json_t *v) {
    return json_object_set_new_nocheck(object, key, v) == 0 ? SLM_OK : no_memory(r);
}

slm_err request_add(struct reading *r, json_t *array, json_t *v) {
    return json_array_append_new(array, v) == 0 ? SLM_OK : no_memory(r);
}

json_t *request_string(const struct buf *b) {
    return b->err == SLM_OK ? json_stringn_nocheck(b->len > 0 ? b->data : "", b->len) : NULL;
}

static slm_err bad(struct reading *r, const char *what) {
    return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "%s", what);
}

/* The field, or NULL when it is not there or null. */
static json_t *field(const json_t *object, const char *key) {
    json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

static bool is_word(const json_t *v, const char *word) {
    return json_is_string(v) && strcmp(json_string_value(v), word) == 0;
}

static slm_err check_fields(struct reading *r, const json_t *root) {
    static const char *const known[] = { "messages", "tools",  "tool_choice", "parallel_tool_calls",
                                         "think",    "format", "kwargs" };
    union {
        const json_t *from;
        json_t *to;
    } o = { .from = root };
    if (!json_is_object(root))
        return bad(r, "a request is a JSON object");
    for (void *it = json_object_iter(o.to); it != NULL; it = json_object_iter_next(o.to, it)) {
        bool found = false;
        for (size_t i = 0; i < ARRAY_LEN(known) && !found; i++)
            found = strcmp(known[i], json_object_iter_key(it)) == 0;
        if (!found)
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                        "\"%.64s\" is no part of a request: messages, tools, tool_choice, "
                        "parallel_tool_calls, think, format, kwargs",
                        json_object_iter_key(it));
    }
    if (!json_is_array(json_object_get(root, "messages")))
        return bad(r, "\"messages\" is no array");
    return SLM_OK;
}

/* ---- tools ---- */

static slm_err check_tool(struct reading *r, const json_t *tools, size_t i) {
    const json_t *tool = json_array_get(tools, i), *function = json_object_get(tool, "function");
    const json_t *name = json_object_get(function, "name");
    const json_t *text = field(function, "description"),
                 *parameters = field(function, "parameters");
    if (!json_is_object(function) || !is_word(json_object_get(tool, "type"), "function"))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                    "tools[%zu]: not {\"type\":\"function\",\"function\":{...}}", i);
    if (!json_is_string(name) ||
        !call_name_valid(json_string_value(name), json_string_length(name)))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                    "tools[%zu]: \"name\" has to be 1 to %d letters, digits, _ . or -", i,
                    CALL_NAME_MAX);
    if (text != NULL && !json_is_string(text))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "tools[%zu]: \"description\" is no string",
                    i);
    if (parameters != NULL && !json_is_object(parameters))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "tools[%zu]: \"parameters\" is no object", i);
    for (size_t k = 0; k < i; k++)
        if (json_equal(
                json_object_get(json_object_get(json_array_get(tools, k), "function"), "name"),
                name))
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "tools[%zu]: a second tool '%s'", i,
                        json_string_value(name));
    return SLM_OK;
}

static slm_err read_tools(struct reading *r, const json_t *root) {
    json_t *tools = field(root, "tools");
    size_t n = json_array_size(tools);
    if (tools != NULL && !json_is_array(tools))
        return bad(r, "\"tools\" is no array");
    if (n > REQUEST_TOOLS_MAX)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "%zu tools, at most %d", n,
                    REQUEST_TOOLS_MAX);
    for (size_t i = 0; i < n; i++)
        TRY(check_tool(r, tools, i));
    r->out->tools = n > 0 ? json_incref(tools) : NULL;
    return SLM_OK;
}

static slm_err choose_named(struct reading *r, const json_t *choice) {
    const json_t *name = json_object_get(json_object_get(choice, "function"), "name");
    if (!is_word(json_object_get(choice, "type"), "function") || !json_is_string(name))
        return bad(r, "\"tool_choice\" is none of \"auto\", \"none\", \"required\", "
                      "{\"type\":\"function\",\"function\":{\"name\"}}");
    const char *text = json_string_value(name);
    size_t n = json_string_length(name);
    if (tool_find(r->out->tools, text, n) == NULL)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"tool_choice\": there is no tool '%.64s'",
                    text);
    r->out->choice = TOOLS_NAMED;
    r->out->tool_name = mem_strdup(r->hooks, text, n);
    return r->out->tool_name != NULL ? SLM_OK : no_memory(r);
}

static slm_err read_choice(struct reading *r, const json_t *root) {
    const json_t *choice = field(root, "tool_choice"), *many = field(root, "parallel_tool_calls");
    struct request *o = r->out;
    if (many != NULL && !json_is_boolean(many))
        return bad(r, "\"parallel_tool_calls\" is neither true nor false");
    o->many_calls = !json_is_false(many);
    if (is_word(choice, "none"))
        o->choice = TOOLS_NO;
    else if (is_word(choice, "required"))
        o->choice = TOOLS_REQUIRED;
    else if (choice != NULL && !is_word(choice, "auto"))
        TRY(choose_named(r, choice));
    if (o->choice == TOOLS_REQUIRED && o->tools == NULL)
        return bad(r, "\"tool_choice\" is required, and there are no tools");
    if (o->choice == TOOLS_NO) {
        json_decref(o->tools);
        o->tools = NULL;
    }
    if (o->tools != NULL && r->dialect == CALLS_NONE)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"tools\": %s cannot be told of tools",
                    request_model(r));
    return SLM_OK;
}

static slm_err read_format(struct reading *r, const json_t *root) {
    json_t *format = field(root, "format");
    if (format == NULL)
        return SLM_OK;
    if (!json_is_string(json_object_get(format, "type")))
        return bad(r, "\"format\" is no object with a \"type\"");
    r->out->format = json_incref(format);
    return SLM_OK;
}

static slm_err read_kwargs(struct reading *r, const json_t *root) {
    json_t *kwargs = field(root, "kwargs");
    static const char *const taken[] = { "tools", "xml_tools" };
    if (kwargs != NULL && !json_is_object(kwargs))
        return bad(r, "\"kwargs\" is no object");
    if (json_object_get(kwargs, "messages") != NULL)
        return bad(r, "\"messages\" stand in \"kwargs\" again");
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        if (r->out->tools != NULL && field(kwargs, taken[i]) != NULL)
            return bad(r, "tools stand in \"kwargs\" again");
    r->out->kwargs = json_object();
    if (r->out->kwargs == NULL) /* json_copy would not say what it could not copy */
        return no_memory(r);
    if (kwargs != NULL && json_object_update(r->out->kwargs, kwargs) != 0)
        return no_memory(r);
    if (json_object_get(r->out->kwargs, "add_generation_prompt") == NULL)
        TRY(request_set(r, r->out->kwargs, "add_generation_prompt", json_true()));
    return SLM_OK;
}

/* ---- thinking: "think", else kwargs.enable_thinking, else a word in the messages ---- */

static slm_err check_switch(struct reading *r, const json_t *wish, const char *where) {
    if (wish != NULL && !json_is_boolean(wish))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"%s\" is neither true nor false", where);
    if (json_is_false(wish) && r->model.always)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"%s\": %s always thinks", where,
                    request_model(r));
    if (json_is_true(wish) && !r->model.always && !r->model.can_switch)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"%s\": %s cannot think", where,
                    request_model(r));
    return SLM_OK;
}

static slm_err read_think(struct reading *r, const json_t *root, json_t *messages) {
    const json_t *think = field(root, "think"), *arg = field(r->out->kwargs, "enable_thinking");
    struct request *o = r->out;
    size_t at;
    TRY(check_switch(r, think, "think"));
    TRY(check_switch(r, arg, "enable_thinking"));
    o->thinks = r->model.always;
    if (!r->model.can_switch)
        return SLM_OK;
    if (think != NULL && arg != NULL && json_is_true(think) != json_is_true(arg))
        request_warn(r, "\"think\" counts, not \"enable_thinking\", which says something else");
    const json_t *wish = think != NULL ? think : arg;
    enum think_word word = request_think_word(messages, r->dialect, &at);
    bool on = wish != NULL ? json_is_true(wish) : word != THINK_WORD_OFF;
    if (wish != NULL && word != THINK_WORD_NONE && on != (word == THINK_WORD_ON)) {
        request_warn(r, "\"%s\" counts, not the word in messages[%zu], which says something else",
                     think != NULL ? "think" : "enable_thinking", at);
        TRY(request_drop_word(r, messages, at));
    }
    o->thinks = on;
    o->no_think = !on;
    if (wish == NULL && word == THINK_WORD_NONE)
        return SLM_OK;
    return request_set(r, o->kwargs, "enable_thinking", json_boolean(on));
}

/* ---- all of it ---- */

static slm_err read_all(struct reading *r, const json_t *root) {
    struct request *o = r->out;
    TRY(check_fields(r, root));
    TRY(read_tools(r, root));
    TRY(read_choice(r, root));
    TRY(read_format(r, root));
    TRY(read_kwargs(r, root));
    TRY(request_messages(r, json_object_get(root, "messages"), &o->messages));
    TRY(read_think(r, root, o->messages));
    TRY(request_form(r, o->messages, o->kwargs, o->tools));
    return o->warnings.err == SLM_OK ? SLM_OK : no_memory(r);
}

slm_err request_read(const struct slm_hooks *h, const json_t *root, enum call_dialect dialect,
                     struct request_think think, struct request *out, slm_why *why) {
    struct reading r = { .hooks = h, .dialect = dialect, .model = think, .out = out, .why = why };
    *out = (struct request){ .messages = NULL };
    buf_init(&out->warnings, h, WARNINGS_MAX);
    slm_err err = read_all(&r, root);
    if (err != SLM_OK)
        request_free(h, out);
    return err;
}

void request_free(const struct slm_hooks *h, struct request *r) {
    json_decref(r->messages);
    json_decref(r->kwargs);
    json_decref(r->tools);
    json_decref(r->format);
    mem_free(h, r->tool_name);
    buf_free(&r->warnings);
    *r = (struct request){ .messages = NULL };
}
