/* api_convo.c - conversations and tools of every dialect in the one shape of slm_prompt_make's document.
 *
 * What goes in is copied, so that nothing of the client's body reaches the library but what is named
 * here: role, content, reasoning_content, tool_calls, tool_call_id, name; of tools name, description,
 * parameters. */
#include <stdlib.h>
#include <string.h>

#include "server/api_read.h"
#include "server/api_write.h"

json_t *share(const json_t *v) {
    return json_incref((json_t *)(uintptr_t)v);
}

/* ------------------------------------------------------------------ content */

static bool is_text_part(const char *type) {
    return strcmp(type, "text") == 0 || strcmp(type, "input_text") == 0 ||
           strcmp(type, "output_text") == 0;
}

/* Adds the text of one part of a content. */
static bool part_text(struct api_reader *r, const json_t *part, const char *name, struct buf *b) {
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    if (type == NULL)
        return bad_field(r, name, "has a content part without a type");
    if (strcmp(type, "refusal") == 0)
        text = json_object_get(part, "refusal");
    else if (!is_text_part(type))
        return api_fail(r->error, 400, "unsupported_content", name,
                        "'%s' has a content part of type '%.64s'; known are text parts", name,
                        type);
    if (!json_is_string(text))
        return bad_field(r, name, "has a text part without text");
    buf_put(b, json_string_value(text), json_string_length(text));
    return true;
}

static bool is_image(const json_t *part) {
    const char *type = json_string_value(json_object_get(part, "type"));
    return type != NULL && image_is_part(type);
}

/* The text so far becomes a part of its own. */
static bool close_text(struct api_reader *r, struct buf *b, json_t *parts) {
    if (b->len == 0 && b->err == SLM_OK)
        return true;
    json_t *part = b->err == SLM_OK ? json_pack("{s:s, s:o}", "type", "text", "text",
                                                json_stringn_nocheck(b->data, b->len))
                                    : NULL;
    b->len = 0;
    return (part != NULL && json_array_append_new(parts, part) == 0) || no_memory(r);
}

/* A list with images among its parts. */
static json_t *content_parts(struct api_reader *r, const json_t *content, const char *name,
                             struct buf *b) {
    json_t *parts = json_array();
    const json_t *part;
    size_t i;
    bool ok = parts != NULL || no_memory(r);
    json_array_foreach(content, i, part) {
        if (ok && is_image(part))
            ok = close_text(r, b, parts) && image_part(r, part, name, parts);
        else if (ok)
            ok = part_text(r, part, name, b);
    }
    if (ok && close_text(r, b, parts))
        return parts;
    json_decref(parts);
    return NULL;
}

static json_t *content_words(struct api_reader *r, const json_t *content, const char *name,
                             struct buf *b) {
    const json_t *part;
    size_t i;
    json_array_foreach(content, i, part) {
        if (!part_text(r, part, name, b))
            return NULL;
    }
    json_t *out = b->err == SLM_OK ? json_stringn_nocheck(b->len > 0 ? b->data : "", b->len) : NULL;
    if (out == NULL)
        no_memory(r);
    return out;
}

json_t *content_text(struct api_reader *r, const json_t *content, const char *name) {
    const json_t *part;
    json_t *out = NULL;
    struct buf b;
    size_t i;
    bool images = false;
    if (json_is_string(content))
        return share(content);
    if (!json_is_array(content)) {
        bad_field(r, name, "has a content that is neither text nor a list of parts");
        return NULL;
    }
    json_array_foreach(content, i, part) images = images || is_image(part);
    buf_init(&b, NULL, (size_t)1 << 28);
    out = images ? content_parts(r, content, name, &b) : content_words(r, content, name, &b);
    buf_free(&b);
    return out;
}

/* A text or parts, and more of them, as parts. Takes more. */
static bool append_parts(struct api_reader *r, json_t *message, const char *key, json_t *more) {
    json_t *both[2] = { json_object_get(message, key), more }, *all = json_array();
    bool ok = all != NULL;
    for (int i = 0; i < 2 && ok; i++) {
        if (json_is_array(both[i]))
            ok = json_array_extend(all, both[i]) == 0;
        else if (json_is_string(both[i]) && json_string_length(both[i]) > 0)
            ok = json_array_append_new(
                     all, json_pack("{s:s, s:O}", "type", "text", "text", both[i])) == 0;
    }
    json_decref(more);
    if (ok && json_object_set_new(message, key, all) == 0)
        return true;
    return no_memory(r);
}

static bool joint_close(struct api_reader *r, struct api_joint *j) {
    bool ok = true;
    if (j->message != NULL)
        ok = j->text.err == SLM_OK &&
             json_object_set_new(j->message, j->key,
                                 json_stringn_nocheck(j->text.data, j->text.len)) == 0;
    buf_free(&j->text);
    j->message = NULL;
    return ok || no_memory(r);
}

bool message_done(struct api_reader *r) {
    bool first = joint_close(r, &r->joints[0]), second = joint_close(r, &r->joints[1]);
    return first && second;
}

bool message_append(struct api_reader *r, json_t *message, const char *key, json_t *text) {
    struct api_joint *j = &r->joints[strcmp(key, "content") != 0];
    json_t *old = json_object_get(message, key);
    if (text == NULL)
        return false;
    if (json_is_array(old) || (json_is_array(text) && old != NULL)) {
        if (joint_close(r, j))
            return append_parts(r, message, key, text);
        json_decref(text);
        return false;
    }
    if (!json_is_string(old) || json_string_length(old) == 0)
        return json_object_set_new(message, key, text) == 0 || no_memory(r);
    if (j->message != message) {
        if (!joint_close(r, j)) {
            json_decref(text);
            return false;
        }
        *j = (struct api_joint){ .message = message, .key = key };
        buf_init(&j->text, NULL, (size_t)1 << 28);
        buf_put(&j->text, json_string_value(old), json_string_length(old));
    }
    buf_puts(&j->text, "\n\n");
    buf_put(&j->text, json_string_value(text), json_string_length(text));
    json_decref(text);
    return j->text.err == SLM_OK || no_memory(r);
}

/* ------------------------------------------------------------------ messages */

static bool have_messages(struct api_reader *r) {
    if (r->messages != NULL)
        return true;
    r->messages = json_array();
    if (json_object_set_new(r->document, "messages", r->messages) == 0)
        return true;
    r->messages = NULL;
    return no_memory(r);
}

json_t *chat_add(struct api_reader *r, const char *role, json_t *content) {
    json_t *m = have_messages(r) && message_done(r) ? json_object() : NULL;
    int rc = m == NULL || content == NULL;
    rc = rc || json_object_set_new(m, "role", json_string(role)) != 0;
    if (rc == 0)
        rc = json_object_set(m, "content", content);
    if (rc == 0 && r->reasoning != NULL && strcmp(role, "assistant") == 0) {
        rc = json_object_set_new(m, "reasoning_content", r->reasoning);
        r->reasoning = NULL;
    }
    json_decref(content);
    if (rc != 0 || json_array_append(r->messages, m) != 0) {
        json_decref(m);
        no_memory(r);
        return NULL;
    }
    json_decref(m); /* the array holds it */
    return m;
}

json_t *chat_assistant(struct api_reader *r) {
    json_t *last =
        r->messages != NULL ? json_array_get(r->messages, json_array_size(r->messages) - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    if (role != NULL && strcmp(role, "assistant") == 0 && r->reasoning == NULL)
        return last;
    return chat_add(r, "assistant", json_string(""));
}

bool chat_add_call(struct api_reader *r, const char *id, const char *name, const char *arguments) {
    json_t *m = chat_assistant(r), *calls = json_object_get(m, "tool_calls");
    char made[48];
    if (m == NULL)
        return false;
    if (calls == NULL) {
        calls = json_array();
        if (json_object_set_new(m, "tool_calls", calls) != 0)
            return no_memory(r);
    }
    if (id == NULL) {
        snprintf(made, sizeof made, "call_%zu_%zu", json_array_size(r->messages),
                 json_array_size(calls));
        id = made;
    }
    json_t *call = json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function",
                             "name", name, "arguments", arguments);
    return (call != NULL && json_array_append_new(calls, call) == 0) || no_memory(r);
}

bool chat_add_result(struct api_reader *r, const char *id, const char *name, json_t *content) {
    json_t *m = content != NULL ? chat_add(r, "tool", content) : NULL;
    if (m == NULL)
        return false;
    if (id != NULL && json_object_set_new(m, "tool_call_id", json_string(id)) != 0)
        return no_memory(r);
    if (name != NULL && json_object_set_new(m, "name", json_string(name)) != 0)
        return no_memory(r);
    return true;
}

/* ------------------------------------------------------------------ OpenAI's messages */

/* One of tool_calls: {"id", "type", "function": {"name", "arguments"}}, arguments as text or object. */
static bool openai_call(struct api_reader *r, const json_t *call) {
    const json_t *function = json_object_get(call, "function"),
                 *arguments = json_object_get(function, "arguments");
    const char *name = json_string_value(json_object_get(function, "name")),
               *id = json_string_value(json_object_get(call, "id")),
               *text = json_string_value(arguments);
    size_t n;
    if (name == NULL)
        return bad_field(r, "messages", "has a tool call without a name");
    if (json_is_object(arguments)) {
        char *dump = tree_text(arguments, &n);
        bool ok = dump != NULL ? chat_add_call(r, id, name, dump) : no_memory(r);
        free(dump);
        return ok;
    }
    if (arguments != NULL && text == NULL && !json_is_null(arguments))
        return bad_field(r, "messages", "has a tool call whose arguments are no text");
    return chat_add_call(r, id, name, text != NULL && text[0] != '\0' ? text : "{}");
}

static bool openai_calls(struct api_reader *r, const json_t *list) {
    const json_t *call;
    size_t i;
    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return bad_field(r, "messages", "has tool_calls that are no list");
    json_array_foreach(list, i, call) {
        if (!openai_call(r, call))
            return false;
    }
    return true;
}

static bool openai_assistant(struct api_reader *r, const json_t *message) {
    static const char *const names[] = { "reasoning_content", "reasoning", "thinking" };
    const json_t *content = json_object_get(message, "content");
    for (size_t i = 0; i < ARRAY_LEN(names) && r->reasoning == NULL; i++) {
        const json_t *v = json_object_get(message, names[i]);
        if (json_is_string(v) && json_string_length(v) > 0)
            r->reasoning = share(v);
    }
    json_t *text = content == NULL || json_is_null(content) ? json_string("")
                                                            : content_text(r, content, "messages");
    return text != NULL && chat_add(r, "assistant", text) != NULL &&
           openai_calls(r, json_object_get(message, "tool_calls"));
}

static bool openai_message(struct api_reader *r, const json_t *message) {
    static const char *const plain[] = { "system", "developer", "user" };
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    if (role == NULL)
        return bad_field(r, "messages", "has a message without a role");
    if (strcmp(role, "assistant") == 0)
        return openai_assistant(r, message);
    bool tool = strcmp(role, "tool") == 0 || strcmp(role, "function") == 0, known = tool;
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        known = known || strcmp(role, plain[i]) == 0;
    if (!known)
        return bad_field(r, "messages",
                         "has the role '%.64s'; known are system, developer, user, assistant, tool",
                         role);
    if (content == NULL || json_is_null(content))
        return bad_field(r, "messages", "has a message of the role %s without content", role);
    json_t *text = content_text(r, content, "messages");
    const json_t *images = json_object_get(message, "images"); /* Ollama's */
    if (text != NULL && json_is_string(text) && json_array_size(images) > 0)
        text = image_content(r, images, text, "messages");
    if (!tool)
        return text != NULL && chat_add(r, role, text) != NULL;
    const char *name = json_string_value(json_object_get(message, "name"));
    if (name == NULL)
        name = json_string_value(json_object_get(message, "tool_name"));
    return chat_add_result(r, json_string_value(json_object_get(message, "tool_call_id")), name,
                           text);
}

bool chat_messages(struct api_reader *r, const json_t *list) {
    const json_t *message;
    size_t i;
    if (!have_messages(r))
        return false;
    json_array_foreach(list, i, message) {
        if (!json_is_object(message))
            return bad_field(r, "messages", "has an item that is no object");
        if (!openai_message(r, message))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ tools */

bool chat_tool(struct api_reader *r, const char *name, const json_t *description,
               const json_t *parameters) {
    json_t *tools = json_object_get(r->document, "tools"), *function;
    if (tools == NULL) {
        tools = json_array();
        if (json_object_set_new(r->document, "tools", tools) != 0)
            return no_memory(r);
    }
    function = json_pack("{s:s}", "name", name);
    int rc = function == NULL;
    if (rc == 0 && json_is_string(description))
        rc = json_object_set_new(function, "description", share(description));
    if (rc == 0)
        rc = json_object_set_new(function, "parameters",
                                 json_is_object(parameters)
                                     ? share(parameters)
                                     : json_pack("{s:s, s:{}}", "type", "object", "properties"));
    json_t *tool =
        rc == 0 ? json_pack("{s:s, s:O}", "type", "function", "function", function) : NULL;
    json_decref(function);
    return (tool != NULL && json_array_append_new(tools, tool) == 0) || no_memory(r);
}

bool chat_tools(struct api_reader *r, const json_t *list) {
    const json_t *tool;
    size_t i;
    json_array_foreach(list, i, tool) {
        const char *type = json_string_value(json_object_get(tool, "type"));
        const json_t *function = json_object_get(tool, "function");
        char words[128];
        if (!json_is_object(tool))
            return bad_field(r, "tools", "has an item that is no object");
        if (type != NULL && strcmp(type, "function") != 0) {
            snprintf(words, sizeof words, "tool of type %.64s left out: only functions are known",
                     type);
            api_warn(r->call, words);
            continue;
        }
        if (!json_is_object(function))
            function = tool;
        const char *name = json_string_value(json_object_get(function, "name"));
        if (name == NULL || name[0] == '\0')
            return bad_field(r, "tools", "has a function without a name");
        const json_t *parameters = json_object_get(function, "parameters");
        if (parameters != NULL && !json_is_null(parameters) && !json_is_object(parameters))
            return bad_field(r, "tools", "has parameters of '%.64s' that are no object", name);
        if (!chat_tool(r, name, json_object_get(function, "description"), parameters))
            return false;
    }
    return true;
}

static bool has_tool(const struct api_reader *r, const char *name) {
    const json_t *tool;
    size_t i;
    json_array_foreach(json_object_get(r->document, "tools"), i, tool) {
        const char *s =
            json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (s != NULL && strcmp(s, name) == 0)
            return true;
    }
    return false;
}

bool tool_choice_word(struct api_reader *r, const char *word) {
    if (strcmp(word, "auto") != 0 && strcmp(word, "none") != 0 && strcmp(word, "required") != 0)
        return bad_field(r, "tool_choice",
                         "is '%.64s'; known are auto, none, required and one function", word);
    if (strcmp(word, "required") == 0 && json_object_get(r->document, "tools") == NULL)
        return bad_field(r, "tool_choice", "is required, but there are no tools");
    if (json_object_get(r->document, "tools") == NULL)
        return true; /* says nothing */
    return json_object_set_new(r->document, "tool_choice", json_string(word)) == 0 || no_memory(r);
}

bool tool_choice_name(struct api_reader *r, const char *name) {
    if (name == NULL)
        return bad_field(r, "tool_choice", "names no function");
    if (!has_tool(r, name))
        return bad_field(r, "tool_choice", "names '%.64s', which is not among the tools", name);
    json_t *v = json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", name);
    return (v != NULL && json_object_set_new(r->document, "tool_choice", v) == 0) || no_memory(r);
}

/* Name of a function: {"function": {"name"}}, or {"name"} as Responses has it. */
static const char *function_name(const json_t *v) {
    const json_t *function = json_object_get(v, "function");
    return json_string_value(json_object_get(json_is_object(function) ? function : v, "name"));
}

enum { TOOLS_MOST = 256 }; /* as params.c has it of "tools" */

/* {"type": "allowed_tools", "mode", "tools"}, in chat with both inside "allowed_tools": only these are
 * told to the model. */
static bool allowed_tools(struct api_reader *r, const json_t *choice) {
    const json_t *inner = json_object_get(choice, "allowed_tools"), *list, *v;
    const char *mode;
    json_t *tools = json_object_get(r->document, "tools"), *kept = json_array();
    size_t i, k;
    int rc = 0;
    choice = json_is_object(inner) ? inner : choice;
    list = json_object_get(choice, "tools");
    if (kept == NULL)
        return no_memory(r);
    if (json_array_size(list) > TOOLS_MOST) {
        json_decref(kept);
        return bad_field(r, "tool_choice", "allows %zu tools, at most %d", json_array_size(list),
                         TOOLS_MOST);
    }
    mode = json_string_value(json_object_get(choice, "mode"));
    for (i = 0; i < json_array_size(tools); i++) {
        const char *name = function_name(json_array_get(tools, i));
        json_array_foreach(list, k, v) {
            const char *wanted = function_name(v);
            if (name != NULL && wanted != NULL && strcmp(name, wanted) == 0) {
                rc = rc != 0 ? rc : json_array_append(kept, json_array_get(tools, i));
                break;
            }
        }
    }
    if (rc != 0 || json_array_size(kept) == 0) {
        json_decref(kept);
        return rc != 0 ? no_memory(r) : bad_field(r, "tool_choice", "allows none of the tools");
    }
    return (json_object_set_new(r->document, "tools", kept) == 0 || no_memory(r)) &&
           tool_choice_word(r, mode != NULL ? mode : "auto");
}

bool chat_tool_choice(struct api_reader *r, const json_t *choice) {
    if (choice == NULL)
        return true;
    if (json_is_string(choice))
        return tool_choice_word(r, json_string_value(choice));
    const char *type = json_string_value(json_object_get(choice, "type"));
    if (type != NULL && strcmp(type, "allowed_tools") == 0)
        return allowed_tools(r, choice);
    if (type == NULL || strcmp(type, "function") != 0)
        return bad_field(r, "tool_choice",
                         "has to be auto, none, required, {\"type\": \"function\", ...} or "
                         "{\"type\": \"allowed_tools\", ...}");
    return tool_choice_name(r, function_name(choice));
}

/* ------------------------------------------------------------------ the document */

bool document_text(struct api_call *call) {
    size_t n;
    free(call->document_text);
    call->document_text = tree_text(call->document, &n);
    if (call->document_text == NULL)
        return false;
    call->prompts[0].text = call->document_text;
    call->prompts[0].n = n;
    return true;
}

/* Arguments of the template but enable_thinking, which is "think" already. (json_copy would leave members
 * out when memory is refused.) */
static int set_kwargs(struct api_reader *r) {
    const json_t *kwargs = r->params.values[P_TEMPLATE_KWARGS].json;
    json_t *copy = json_object(), *v;
    const char *key;
    int rc = copy == NULL;
    json_object_foreach((json_t *)(uintptr_t)kwargs, key, v) {
        if (rc == 0 && strcmp(key, "enable_thinking") != 0)
            rc = json_object_set(copy, key, v);
    }
    if (rc == 0 && json_object_size(copy) > 0)
        rc = json_object_set(r->document, "kwargs", copy);
    json_decref(copy);
    return rc;
}

bool chat_document(struct api_reader *r) {
    struct api_call *call = r->call;
    int rc = 0;
    if ((r->reasoning != NULL && chat_assistant(r) == NULL) || !message_done(r))
        return false;
    if (r->think != THINK_AS_IS)
        rc = json_object_set_new(r->document, "think", json_boolean(r->think == THINK_YES));
    if (rc == 0 && r->format != NULL)
        rc = json_object_set_new(r->document, "format", share(r->format));
    if (rc == 0)
        rc = set_kwargs(r);
    if (r->think == THINK_NO)
        call->think_budget = 0;
    call->prompts = arena_zalloc(&call->arena, 1, sizeof *call->prompts);
    if (rc != 0 || call->prompts == NULL)
        return no_memory(r);
    call->n_prompts = 1;
    call->prompts[0].kind = API_CHAT;
    call->document = json_incref(r->document);
    return document_text(call) || no_memory(r);
}

/* How many messages go together at `at`: calls with their results. */
static size_t turn_length(const json_t *messages, size_t at) {
    size_t n = 1;
    while (at + n < json_array_size(messages)) {
        const char *role =
            json_string_value(json_object_get(json_array_get(messages, at + n), "role"));
        if (role == NULL || strcmp(role, "user") == 0 || strcmp(role, "system") == 0)
            break;
        n++;
    }
    return n;
}

/* One warning for all that were taken, with their number as it is now. */
static void warn_dropped(struct api_call *call, size_t n) {
    char words[80];
    if (call->n_dropped == 0)
        call->drop_mark = call->warnings.len;
    call->n_dropped += n;
    call->warnings.len = call->drop_mark;
    snprintf(words, sizeof words, "the oldest %zu turns were dropped: the context is full",
             call->n_dropped);
    api_warn(call, words);
}

/* About how much of the prompt a message makes: bytes of its texts. */
static size_t message_bytes(const json_t *message) {
    const json_t *content = json_object_get(message, "content"), *v;
    size_t n = 16 + json_string_length(content) +
               json_string_length(json_object_get(message, "reasoning_content")),
           i;
    json_array_foreach(json_object_get(message, "tool_calls"), i, v) {
        n += 16 + json_string_length(json_object_get(json_object_get(v, "function"), "arguments"));
    }
    json_array_foreach(content, i, v) {
        n += 16 + json_string_length(json_object_get(v, "text"));
    }
    return n;
}

static size_t bytes_between(const json_t *messages, size_t from, size_t to) {
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        n += message_bytes(json_array_get(messages, i));
    return n;
}

/* messages without those of from..to-1 */
static bool cut_messages(struct api_call *call, const json_t *messages, size_t from, size_t to) {
    json_t *kept = json_array();
    int rc = kept == NULL;
    for (size_t i = 0; rc == 0 && i < json_array_size(messages); i++)
        if (i < from || i >= to)
            rc = json_array_append(kept, json_array_get(messages, i));
    for (size_t i = from; rc == 0 && i < to; i++)
        call->first_image += image_count(json_array_get(messages, i));
    if (rc == 0)
        rc = json_object_set(call->document, "messages", kept);
    json_decref(kept);
    return rc == 0;
}

bool api_drop_turn(struct api_call *call) {
    const json_t *messages = json_object_get(call->document, "messages");
    size_t all = json_array_size(messages), at = 0;
    if (!call->truncate)
        return false;
    for (; at < all; at++) {
        const char *role = json_string_value(json_object_get(json_array_get(messages, at), "role"));
        if (role != NULL && strcmp(role, "system") != 0 && strcmp(role, "developer") != 0)
            break;
    }
    /* nine tenths of what is too much at once, then turn by turn, more when that does not end: rendering
     * is what costs */
    size_t end = at, dropped = 0, least = (size_t)1 << (call->n_drops++ / 8 % 32);
    double share_over = call->over_n > call->over_limit && call->over_n > 0
                            ? 1.0 - (double)call->over_limit / (double)call->over_n
                            : 0.0;
    double target = 0.9 * share_over * (double)bytes_between(messages, 0, all), gone = 0;
    do {
        size_t n = turn_length(messages, end);
        if (end + n >= all)
            break; /* the last turn stays */
        gone += (double)bytes_between(messages, end, end + n);
        end += n;
        dropped++;
    } while (gone < target || dropped < least);
    if (dropped == 0)
        return false;
    warn_dropped(call, dropped);
    return cut_messages(call, messages, at, end) && document_text(call);
}
