/* request_messages.c - messages of a request to one shape for all dialects, checked.
 *
 * In:  messages as clients send them: null contents, parts, arguments as strings, developer for system.
 * Out: messages with string contents (or parts, when there are images), arguments as objects, results in
 *      the order of their calls. What cannot be is E_ARG with the message's number. */
#include "chat/request_unit.h"

#include <string.h>

#include "base/json.h"
#include "chat/answer_unit.h"

struct message_reading {
    struct reading *r;
    size_t at;       /* number of the message */
    json_t *waiting; /* id -> name of calls that have no result yet */
    json_t *known;   /* ids of all calls so far */
    bool any_call;
};

#define WHERE "messages[%zu]: "

static slm_err bad(struct message_reading *m, const char *what) {
    return fail(m->r->why, SLM_E_ARG, SLM_NO_OFFSET, WHERE "%s", m->at, what);
}

static bool is_word(const json_t *v, const char *word) {
    return json_is_string(v) && strcmp(json_string_value(v), word) == 0;
}

/* ---- content ---- */

static bool is_image(const json_t *part) {
    const json_t *type = json_object_get(part, "type");
    return is_word(type, "image") || is_word(type, "image_url");
}

/* An image goes on as it came, under the one type that templates know. */
static slm_err take_image(struct message_reading *m, const char *role, json_t *part, json_t *out) {
    if (!m->r->model.images)
        return fail(m->r->why, SLM_E_ARG, SLM_NO_OFFSET, WHERE "%s reads text only, no images",
                    m->at, request_model(m->r));
    if (strcmp(role, "user") != 0)
        return bad(m, "images belong into messages of users");
    json_t *copy = json_copy(part);
    TRY(request_add(m->r, out, copy));
    return request_set(m->r, copy, "type", json_string("image"));
}

static slm_err add_text(struct message_reading *m, json_t *parts, const struct buf *text) {
    json_t *part = json_object();
    TRY(request_add(m->r, parts, part));
    TRY(request_set(m->r, part, "type", json_string("text")));
    return request_set(m->r, part, "text", request_string(text));
}

/* Texts become one, a line end between neighbours; images stay parts between them. */
static slm_err take_parts(struct message_reading *m, const char *role, const json_t *list,
                          struct buf *text, json_t *parts) {
    bool between = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *part = json_array_get(list, i), *words = json_object_get(part, "text");
        if (is_image(part)) {
            if (between)
                TRY(add_text(m, parts, text));
            text->len = 0;
            between = false;
            TRY(take_image(m, role, part, parts));
            continue;
        }
        if (!is_word(json_object_get(part, "type"), "text") || !json_is_string(words))
            return bad(m, "a part of content is neither {\"type\":\"text\",\"text\"} nor an image");
        if (between)
            buf_putc(text, '\n');
        buf_put(text, json_string_value(words), json_string_length(words));
        between = true;
    }
    return json_array_size(parts) > 0 && between ? add_text(m, parts, text) : SLM_OK;
}

static slm_err take_content(struct message_reading *m, const char *role, json_t *in, json_t *out) {
    json_t *content = json_object_get(in, "content");
    if (json_is_string(content))
        return request_set(m->r, out, "content", json_incref(content));
    if (content == NULL || json_is_null(content)) {
        if (strcmp(role, "assistant") != 0 && strcmp(role, "tool") != 0)
            return bad(m, "content is missing");
        return request_set(m->r, out, "content", json_string(""));
    }
    if (!json_is_array(content))
        return bad(m, "content is neither a string nor an array of parts");
    struct buf text;
    json_t *parts = json_array();
    buf_init(&text, m->r->hooks, (size_t)1 << 30);
    slm_err err = parts == NULL ? fail_nomem(m->r->why, "content", 0)
                                : take_parts(m, role, content, &text, parts);
    if (err == SLM_OK)
        err = request_set(m->r, out, "content",
                          json_array_size(parts) > 0 ? json_incref(parts) : request_string(&text));
    json_decref(parts);
    buf_free(&text);
    return err;
}

/* ---- calls ---- */

/* Arguments as an object: given as one, as its text, or not at all. */
static slm_err take_arguments(struct message_reading *m, const char *name, json_t *in,
                              json_t *out) {
    json_t *object;
    if (in == NULL || json_is_null(in))
        return request_set(m->r, out, "arguments", json_object());
    if (json_is_object(in))
        return request_set(m->r, out, "arguments", json_incref(in));
    if (!json_is_string(in))
        return bad(m, "arguments of a call are neither an object nor its text");
    const char *text = json_string_value(in);
    if (text[strspn(text, " \t\r\n")] == '\0')
        return request_set(m->r, out, "arguments", json_object());
    slm_err err = json_text(text, json_string_length(in), &object, m->r->why);
    if (err != SLM_OK)
        return fail_prefix(m->r->why, err, WHERE "arguments of %s", m->at, name);
    if (!json_is_object(object)) {
        json_decref(object);
        return bad(m, "arguments of a call are no JSON object");
    }
    return request_set(m->r, out, "arguments", object);
}

static slm_err note_call(struct message_reading *m, json_t *id, json_t *name) {
    m->any_call = true;
    if (id == NULL || json_is_null(id))
        return SLM_OK;
    if (!json_is_string(id))
        return bad(m, "\"id\" of a call is no string");
    TRY(request_set(m->r, m->known, json_string_value(id), json_true()));
    return request_set(m->r, m->waiting, json_string_value(id), json_incref(name));
}

static slm_err take_call(struct message_reading *m, json_t *in, json_t *calls) {
    json_t *function = json_object_get(in, "function"), *id = json_object_get(in, "id");
    json_t *name = json_object_get(function, "name");
    if (!json_is_string(name) ||
        !call_name_valid(json_string_value(name), json_string_length(name)))
        return bad(m, "a call has no \"function\" with a name of 1 to 64 letters, digits, _ . -");
    json_t *call = json_object(), *inner = json_object();
    slm_err err = request_add(m->r, calls, call);
    if (err == SLM_OK && json_is_string(id))
        err = request_set(m->r, call, "id", json_incref(id));
    if (err == SLM_OK)
        err = request_set(m->r, call, "type", json_string("function"));
    if (err != SLM_OK) {
        json_decref(inner);
        return err;
    }
    TRY(request_set(m->r, call, "function", inner));
    TRY(request_set(m->r, inner, "name", json_incref(name)));
    TRY(take_arguments(m, json_string_value(name), json_object_get(function, "arguments"), inner));
    return note_call(m, id, name);
}

static slm_err take_calls(struct message_reading *m, json_t *in, json_t *out) {
    json_t *list = json_object_get(in, "tool_calls");
    size_t n = json_array_size(list);
    if (list == NULL || json_is_null(list) || (json_is_array(list) && n == 0))
        return SLM_OK;
    if (!json_is_array(list))
        return bad(m, "\"tool_calls\" is no array");
    if (n > REQUEST_CALLS_MAX)
        return fail(m->r->why, SLM_E_ARG, SLM_NO_OFFSET, WHERE "%zu calls, at most %d", m->at, n,
                    REQUEST_CALLS_MAX);
    json_t *calls = json_array();
    TRY(request_set(m->r, out, "tool_calls", calls));
    for (size_t i = 0; i < n; i++)
        TRY(take_call(m, json_array_get(list, i), calls));
    return SLM_OK;
}

/* A result: which call it belongs to is known by the id, where there is one. */
static slm_err take_result(struct message_reading *m, json_t *in, json_t *out) {
    json_t *id = json_object_get(in, "tool_call_id");
    if (!m->any_call)
        return bad(m, "the result of a tool before any call");
    if (id == NULL || json_is_null(id))
        return SLM_OK;
    if (!json_is_string(id))
        return bad(m, "\"tool_call_id\" is no string");
    TRY(request_set(m->r, out, "tool_call_id", json_incref(id)));
    const char *text = json_string_value(id);
    json_t *name = json_object_get(m->waiting, text);
    if (name == NULL) {
        request_warn(m->r, WHERE "%s", m->at,
                     json_object_get(m->known, text) != NULL
                         ? "a second result of the same call"
                         : "tool_call_id belongs to no call before it");
        return SLM_OK;
    }
    if (json_object_get(in, "name") == NULL)
        TRY(request_set(m->r, out, "name", json_incref(name)));
    (void)json_object_del(m->waiting, text);
    return SLM_OK;
}

/* ---- a message ---- */

static const char *role_of(const json_t *message) {
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    const json_t *role = json_object_get(message, "role");
    if (is_word(role, "developer"))
        return roles[0];
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (is_word(role, roles[i]))
            return roles[i];
    return NULL;
}

static void warn_unknown(struct message_reading *m, json_t *in) {
    static const char *const known[] = { "role",       "content",      "reasoning_content",
                                         "tool_calls", "tool_call_id", "name" };
    for (void *it = json_object_iter(in); it != NULL; it = json_object_iter_next(in, it)) {
        const char *key = json_object_iter_key(it);
        bool is_known = json_is_null(json_object_iter_value(it));
        for (size_t i = 0; i < ARRAY_LEN(known) && !is_known; i++)
            is_known = strcmp(key, known[i]) == 0;
        if (!is_known)
            request_warn(m->r, WHERE "\"%.64s\" was not used", m->at, key);
    }
}

static slm_err take_strings(struct message_reading *m, const char *role, json_t *in, json_t *out) {
    json_t *name = json_object_get(in, "name"), *thought = json_object_get(in, "reasoning_content");
    if (name != NULL && !json_is_null(name)) {
        if (!json_is_string(name))
            return bad(m, "\"name\" is no string");
        TRY(request_set(m->r, out, "name", json_incref(name)));
    }
    if (thought == NULL || json_is_null(thought))
        return SLM_OK;
    if (!json_is_string(thought))
        return bad(m, "\"reasoning_content\" is no string");
    return strcmp(role, "assistant") == 0
               ? request_set(m->r, out, "reasoning_content", json_incref(thought))
               : bad(m, "only assistants have \"reasoning_content\"");
}

/* Calls that nobody answered before the conversation went on. */
static void warn_waiting(struct message_reading *m) {
    void *it = json_object_iter(m->waiting);
    for (; it != NULL; it = json_object_iter_next(m->waiting, it))
        request_warn(m->r, WHERE "a call of %s before it has no result", m->at,
                     json_string_value(json_object_iter_value(it)));
    json_object_clear(m->waiting);
}

static slm_err take_message(struct message_reading *m, json_t *in, json_t *messages) {
    if (!json_is_object(in))
        return bad(m, "no object");
    const char *role = role_of(in);
    if (role == NULL)
        return bad(m, "\"role\" is none of system, developer, user, assistant, tool");
    bool assistant = strcmp(role, "assistant") == 0, tool = strcmp(role, "tool") == 0;
    json_t *out = json_object();
    TRY(request_add(m->r, messages, out));
    TRY(request_set(m->r, out, "role", json_string(role)));
    TRY(take_content(m, role, in, out));
    TRY(take_strings(m, role, in, out));
    warn_unknown(m, in);
    if (!tool)
        warn_waiting(m);
    if (tool)
        return take_result(m, in, out);
    if (assistant)
        return take_calls(m, in, out);
    return json_array_size(json_object_get(in, "tool_calls")) > 0
               ? bad(m, "only assistants have \"tool_calls\"")
               : SLM_OK;
}

/* ---- results in the order of their calls, which is all that most templates tell of them ---- */

/* id -> place in calls; NULL: no memory. */
static json_t *call_places(const json_t *calls) {
    json_t *places = json_object();
    for (size_t i = 0; places != NULL && i < json_array_size(calls); i++) {
        const char *id = json_string_value(json_object_get(json_array_get(calls, i), "id"));
        if (id != NULL &&
            json_object_set_new_nocheck(places, id, json_integer((json_int_t)i)) != 0) {
            json_decref(places);
            return NULL;
        }
    }
    return places;
}

/* The place of each of the messages [from, to) among the calls; behind the last for those without. */
static slm_err places_of(struct reading *r, const json_t *messages, const json_t *calls,
                         size_t from, size_t to, size_t **out) {
    json_t *places = call_places(calls);
    *out = mem_alloc(r->hooks, to - from, sizeof **out);
    if (*out == NULL || places == NULL) {
        json_decref(places);
        return fail_nomem(r->why, "results", to - from);
    }
    for (size_t i = from; i < to; i++) {
        const json_t *result = json_array_get(messages, i);
        const char *id = json_string_value(json_object_get(result, "tool_call_id"));
        const json_t *at = id != NULL ? json_object_get(places, id) : NULL;
        (*out)[i - from] = at != NULL ? (size_t)json_integer_value(at) : json_array_size(calls);
    }
    json_decref(places);
    return SLM_OK;
}

/* Messages [from, to) are results of calls; those without one come last. */
static slm_err order_results(struct reading *r, json_t *messages, const json_t *calls, size_t from,
                             size_t to) {
    json_t *sorted = json_array();
    size_t *places = NULL;
    slm_err err = sorted != NULL ? places_of(r, messages, calls, from, to, &places)
                                 : fail_nomem(r->why, "results", to - from);
    for (size_t place = 0; err == SLM_OK && place <= json_array_size(calls); place++)
        for (size_t i = from; err == SLM_OK && i < to; i++)
            if (places[i - from] == place)
                err = request_add(r, sorted, json_incref(json_array_get(messages, i)));
    for (size_t i = from; err == SLM_OK && i < to; i++)
        (void)json_array_set(messages, i, json_array_get(sorted, i - from));
    mem_free(r->hooks, places);
    json_decref(sorted);
    return err;
}

static slm_err order_all(struct reading *r, json_t *messages) {
    size_t n = json_array_size(messages);
    for (size_t i = 0; i < n; i++) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        size_t to = i + 1;
        while (to < n && is_word(json_object_get(json_array_get(messages, to), "role"), "tool"))
            to++;
        if (json_array_size(calls) > 1 && to - i > 2 && to - i <= 4 * REQUEST_CALLS_MAX)
            TRY(order_results(r, messages, calls, i + 1, to));
        i = to - 1;
    }
    return SLM_OK;
}

slm_err request_messages(struct reading *r, const json_t *messages, json_t **out) {
    struct message_reading m = { .r = r, .waiting = json_object(), .known = json_object() };
    slm_err err = SLM_OK;
    *out = json_array();
    if (*out == NULL || m.waiting == NULL || m.known == NULL)
        err = fail_nomem(r->why, "messages", 0);
    for (; err == SLM_OK && m.at < json_array_size(messages); m.at++)
        err = take_message(&m, json_array_get(messages, m.at), *out);
    if (err == SLM_OK && json_array_size(*out) == 0)
        err = fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "\"messages\" is empty");
    if (err == SLM_OK)
        err = order_all(r, *out);
    json_decref(m.waiting);
    json_decref(m.known);
    return err;
}

/* ---- the words that switch thinking ---- */

static const char word_off[] = "/no_think", word_on[] = "/think";

static bool ends_in(const char *text, size_t n, const char *word, size_t n_word) {
    return n >= n_word && memcmp(text + n - n_word, word, n_word) == 0 &&
           (n == n_word || strchr(" \t\r\n", text[n - n_word - 1]) != NULL);
}

/* Length of text without the word at its end and the blanks around it; *word says which it was. */
static size_t before_word(const char *text, size_t n, enum think_word *word) {
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
        n--;
    *word = ends_in(text, n, word_off, sizeof word_off - 1) ? THINK_WORD_OFF
            : ends_in(text, n, word_on, sizeof word_on - 1) ? THINK_WORD_ON
                                                            : THINK_WORD_NONE;
    n -= *word == THINK_WORD_OFF  ? sizeof word_off - 1
         : *word == THINK_WORD_ON ? sizeof word_on - 1
                                  : 0;
    while (*word != THINK_WORD_NONE && n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL)
        n--;
    return n;
}

/* The object and key of the text that a word may end: the content, or its last part. */
static json_t *last_text(json_t *message, const char **key) {
    json_t *content = json_object_get(message, "content");
    json_t *part = json_array_get(content, json_array_size(content) - 1);
    *key = json_is_string(content) ? "content" : "text";
    return json_is_string(content) ? message : part;
}

static enum think_word word_of(json_t *message, enum call_dialect dialect) {
    const char *key;
    const json_t *object = last_text(message, &key), *text = json_object_get(object, key);
    enum think_word word = THINK_WORD_NONE;
    if (!json_is_string(text))
        return word;
    const char *s = json_string_value(text);
    /* this template takes the words anywhere in the system message, the first of them first */
    if (dialect == CALLS_SMOLLM3 && is_word(json_object_get(message, "role"), "system"))
        return strstr(s, word_off) != NULL  ? THINK_WORD_OFF
               : strstr(s, word_on) != NULL ? THINK_WORD_ON
                                            : THINK_WORD_NONE;
    (void)before_word(s, json_string_length(text), &word);
    return word;
}

enum think_word request_think_word(const json_t *messages, enum call_dialect dialect,
                                   size_t *message) {
    for (size_t i = json_array_size(messages); i-- > 0;) {
        json_t *m = json_array_get(messages, i);
        if (!is_word(json_object_get(m, "role"), "user"))
            continue;
        *message = i;
        enum think_word word = word_of(m, dialect);
        if (word != THINK_WORD_NONE)
            return word;
        break;
    }
    json_t *first = json_array_get(messages, 0);
    *message = 0;
    return is_word(json_object_get(first, "role"), "system") ? word_of(first, dialect)
                                                             : THINK_WORD_NONE;
}

/* The text without any of the words. */
static void without_words(struct buf *b, const char *s) {
    while (*s != '\0') {
        if (strncmp(s, word_off, sizeof word_off - 1) == 0)
            s += sizeof word_off - 1;
        else if (strncmp(s, word_on, sizeof word_on - 1) == 0)
            s += sizeof word_on - 1;
        else
            buf_putc(b, *s++);
    }
}

slm_err request_drop_word(struct reading *r, json_t *messages, size_t message) {
    const char *key;
    json_t *m = json_array_get(messages, message), *object = last_text(m, &key);
    json_t *text = json_object_get(object, key);
    const char *s = json_string_value(text);
    struct buf b;
    enum think_word word;
    buf_init(&b, r->hooks, (size_t)1 << 30);
    if (r->dialect == CALLS_SMOLLM3 && is_word(json_object_get(m, "role"), "system"))
        without_words(&b, s);
    else
        buf_put(&b, s, before_word(s, json_string_length(text), &word));
    slm_err err = request_set(r, object, key, request_string(&b));
    buf_free(&b);
    return err;
}
