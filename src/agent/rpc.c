/* rpc.c - JSON-RPC 2.0 messages: reading strictly, writing.
 *
 * Source: the JSON-RPC 2.0 specification as the Model Context Protocol narrows it: no batches, no null
 * ids, params and results are objects. */
#include "agent/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

/* ------------------------------------------------------------------ reading */

static bool good_id(const json_t *id) {
    return json_is_integer(id) || (json_is_string(id) && json_string_length(id) <= 256);
}

static slm_err read_error(struct rpc_message *m, const json_t *error, slm_why *why) {
    const json_t *code = json_object_get(error, "code");
    m->kind = RPC_ERROR;
    m->message = json_string_value(json_object_get(error, "message"));
    m->data = json_object_get(error, "data");
    if (!json_is_integer(code) || !m->message)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "an error wants a whole number 'code' and a text 'message'");
    m->code = json_integer_value(code);
    return SLM_OK;
}

static slm_err read_call(struct rpc_message *m, const json_t *method, slm_why *why) {
    m->kind = m->id ? RPC_REQUEST : RPC_NOTIFICATION;
    m->method = json_string_value(method);
    m->params = json_object_get(m->doc, "params");
    if (json_is_null(m->params))
        m->params = NULL;
    if (!m->method)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'method' is no text");
    if (m->params && !json_is_object(m->params))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'params' is no object");
    return SLM_OK;
}

static slm_err read_fields(struct rpc_message *m, slm_why *why) {
    const char *version = json_string_value(json_object_get(m->doc, "jsonrpc"));
    json_t *method = json_object_get(m->doc, "method"), *error = json_object_get(m->doc, "error");
    m->id = json_object_get(m->doc, "id");
    m->result = json_object_get(m->doc, "result");
    if (!json_is_object(m->doc))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "a message is an object");
    if (!version || strcmp(version, "2.0") != 0)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'jsonrpc' is not \"2.0\"");
    if (json_is_null(m->id) && error)
        m->id = NULL; /* an error about something that had no id that could be read */
    if (m->id && !good_id(m->id))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'id' is neither text nor a whole number");
    if ((method != NULL) + (error != NULL) + (m->result != NULL) != 1)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "a message has exactly one of 'method', 'result' and 'error'");
    if (method)
        return read_call(m, method, why);
    if (error)
        return read_error(m, error, why);
    m->kind = RPC_RESULT;
    if (!m->id)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "a result without 'id'");
    if (!json_is_object(m->result))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "'result' is no object");
    return SLM_OK;
}

slm_err rpc_read(const char *text, size_t n, struct rpc_message *out, slm_why *why) {
    struct rpc_message m = { .doc = NULL };
    TRY(json_text(text, n, &m.doc, why));
    slm_err err = read_fields(&m, why);
    if (err == SLM_OK)
        *out = m;
    else
        json_decref(m.doc);
    return err;
}

void rpc_free(struct rpc_message *m) {
    json_decref(m->doc);
    memset(m, 0, sizeof *m);
}

/* ------------------------------------------------------------------ writing */

/* Takes doc; what of it could not be made makes it NULL. */
static char *line_of(json_t *doc) {
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

static json_t *with(json_t *doc, const char *key, json_t *value) {
    if (doc && value && json_object_set_new(doc, key, value) != 0) {
        json_decref(doc);
        return NULL;
    }
    return doc;
}

char *rpc_request(json_int_t id, const char *method, json_t *params) {
    json_t *doc = json_pack("{s:s, s:I, s:s}", "jsonrpc", "2.0", "id", id, "method", method);
    return line_of(with(doc, "params", params));
}

char *rpc_notification(const char *method, json_t *params) {
    json_t *doc = json_pack("{s:s, s:s}", "jsonrpc", "2.0", "method", method);
    return line_of(with(doc, "params", params));
}

char *rpc_result(const json_t *id, json_t *result) {
    return line_of(json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "id", json_deep_copy(id),
                             "result", result ? result : json_object()));
}

char *rpc_error(const json_t *id, int code, const char *message) {
    return line_of(json_pack("{s:s, s:o, s:{s:i, s:s}}", "jsonrpc", "2.0", "id",
                             json_deep_copy(id), "error", "code", code, "message", message));
}
