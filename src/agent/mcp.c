/* mcp.c - what is said to a server: finding out its era, the handshake where there is one, tools, calls.
 *
 * Source: the Model Context Protocol, revisions 2026-07-28 and 2025-11-25 (and those before it back to
 * 2024-11-05, which differ in nothing that is used here). The era is probed with server/discover: an
 * answer, or an error that only newer servers know, means the stateless protocol; any other error, and
 * silence, the handshake. A program that does not survive the question is started again without it.
 *
 * What a server asks of us: ping is answered, everything else (sampling, roots, elicitation) declined;
 * none of it was offered. */
#include "agent/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mirror.h"
#include "agent/rpc.h"
#include "agent/wire.h"
#include "base/pool.h"
#include "cli/cli.h"

#define MODERN "2026-07-28"
#define META "io.modelcontextprotocol/"
#define SECOND_NS UINT64_C(1000000000)
enum { PROBE_S = 5, NOTES_MOST = 20 };

/* Newest first. */
static const char *const handshakes[] = { "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05" };

struct mcp {
    const struct mcp_config *config;
    struct mcp_host host;
    struct wire *wire;
    bool modern, changed;
    char version[16], title[128];
    json_int_t last_id, waits, late; /* late: the probe that was not waited for any longer; 0 none */
    struct rpc_message reply;        /* what was waited for; doc NULL: not yet */
    unsigned malformed, notes;
    char bad[200]; /* the last malformed message, why */
};

/* ------------------------------------------------------------------ what a server says by itself */

static void say(struct mcp *m, enum mcp_note kind, const char *text) {
    bool often = kind == MCP_PROGRESS || kind == MCP_STDERR; /* the wire counts the latter itself */
    if (!m->host.note || (!often && m->notes > NOTES_MOST))
        return;
    m->notes += !often;
    m->host.note(m->host.user, m->config->name, kind,
                 m->notes > NOTES_MOST ? "it has more to say than is shown" : text);
}

static void warn(struct mcp *m, const char *format, ...) ATTR_PRINTF(2, 3);
static void warn(struct mcp *m, const char *format, ...) {
    char text[400], clean[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    say(m, MCP_WARNING, line_clean(text, strlen(text), clean, sizeof clean));
}

static void wire_said(void *user, enum mcp_note kind, const char *text) {
    say(user, kind, text);
}

static void take_log(struct mcp *m, const json_t *params) {
    const json_t *data = json_object_get(params, "data");
    const char *level = json_string_value(json_object_get(params, "level"));
    char *text = json_is_string(data) ? NULL
                 : data               ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY)
                                      : NULL;
    char line[400], clean[400];
    snprintf(line, sizeof line, "%s: %s", level ? level : "log",
             text ? text : json_is_string(data) ? json_string_value(data) : "");
    say(m, MCP_LOG, line_clean(line, strlen(line), clean, sizeof clean));
    free(text);
}

static void take_progress(struct mcp *m, const json_t *params) {
    const json_t *done = json_object_get(params, "progress"), *all = json_object_get(params, "total");
    const char *words = json_string_value(json_object_get(params, "message"));
    char line[300] = "", clean[300];
    if (json_is_number(done) && json_is_number(all))
        snprintf(line, sizeof line, "%g of %g%s%s", json_number_value(done), json_number_value(all),
                 words ? ": " : "", words ? words : "");
    else
        snprintf(line, sizeof line, "%s", words ? words : "working");
    say(m, MCP_PROGRESS, line_clean(line, strlen(line), clean, sizeof clean));
}

static void take_notification(struct mcp *m, const struct rpc_message *r) {
    if (strcmp(r->method, "notifications/tools/list_changed") == 0)
        m->changed = true;
    else if (strcmp(r->method, "notifications/message") == 0)
        take_log(m, r->params);
    else if (strcmp(r->method, "notifications/progress") == 0)
        take_progress(m, r->params);
}

static void answer_request(struct mcp *m, const struct rpc_message *r) {
    bool ping = strcmp(r->method, "ping") == 0;
    char *text = keep(ping ? rpc_result(r->id, NULL)
                           : rpc_error(r->id, RPC_NO_METHOD, "this client does not do that"));
    m->wire->reply(m->wire, text, strlen(text));
    free(text);
    if (!ping)
        warn(m, "it asks for %.60s, which is not offered", r->method);
}

/* Our ids are whole numbers; servers that give them back as text are met in the field. */
static json_int_t id_of(const json_t *id) {
    if (json_is_integer(id))
        return json_integer_value(id);
    char *end;
    const char *text = json_string_value(id);
    long long v = text ? strtoll(text, &end, 10) : -1;
    return text && *text && !*end ? (json_int_t)v : -1;
}

/* An answer: whether it is the one. */
static bool is_ours(struct mcp *m, const struct rpc_message *r) {
    json_int_t id = r->id ? id_of(r->id) : m->waits; /* without an id: about what was sent last */
    if (m->waits && id == m->waits)
        return true;
    if (m->late && id == m->late) { /* only good news are news: the handshake goes on otherwise */
        m->late = r->kind == RPC_RESULT ? m->late : 0;
        return r->kind == RPC_RESULT && m->waits;
    }
    if (id < 1 || id > m->last_id)
        warn(m, "it answers a request that was not made");
    return false; /* or one that is not waited for any longer */
}

static enum wire_verdict wire_message(void *user, const char *text, size_t n) {
    struct mcp *m = user;
    struct rpc_message r;
    slm_why why;
    if (rpc_read(text, n, &r, &why) != SLM_OK) {
        snprintf(m->bad, sizeof m->bad, "%.190s", why.message);
        warn(m, "it writes what is no message: %s", m->bad);
        return ++m->malformed > MCP_MALFORMED_MOST ? WIRE_STOP : WIRE_MORE;
    }
    bool answer = r.kind == RPC_RESULT || r.kind == RPC_ERROR;
    if (answer && is_ours(m, &r) && !m->reply.doc) {
        m->reply = r;
        return WIRE_DONE;
    }
    if (r.kind == RPC_NOTIFICATION)
        take_notification(m, &r);
    if (r.kind == RPC_REQUEST)
        answer_request(m, &r);
    rpc_free(&r);
    return WIRE_MORE;
}

/* ------------------------------------------------------------------ asking */

static json_t *client_info(void) {
    return keep_json(json_pack("{s:s, s:s}", "name", "slm", "version", SLM_VERSION));
}

/* _meta of a request; params are taken. */
static json_t *with_meta(const struct mcp *m, json_t *params, bool progress) {
    json_t *meta = keep_json(json_object());
    params = params ? params : keep_json(json_object());
    if (m->modern) {
        json_object_set_new(meta, META "protocolVersion", json_string(MODERN));
        json_object_set_new(meta, META "clientInfo", client_info());
        json_object_set_new(meta, META "clientCapabilities", json_object());
    }
    if (progress)
        json_object_set_new(meta, "progressToken", json_integer(m->last_id + 1));
    if (json_object_size(meta))
        json_object_set(params, "_meta", meta);
    json_decref(meta);
    return params;
}

/* The server is told that nobody waits for it any longer. */
static void cancel(struct mcp *m, json_int_t id, const char *reason) {
    char *text = rpc_notification("notifications/cancelled",
                                  json_pack("{s:I, s:s}", "requestId", id, "reason", reason));
    if (text && (m->wire->pid || !m->modern)) { /* over stateless HTTP, hanging up says it */
        m->wire->reply(m->wire, text, strlen(text));
        m->wire->drain(m->wire);
    }
    free(text);
}

static slm_err explain(struct mcp *m, slm_err err, slm_why *why) {
    if (m->malformed > MCP_MALFORMED_MOST)
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "server '%s' is given up: %u times it wrote what is no message, last: %s",
                    m->config->name, m->malformed, m->bad);
    return err;
}

struct question {
    const char *method, *name; /* name: of the tool, for a header */
    json_t *params;            /* taken */
    uint32_t seconds;
    bool progress;
    struct mirror *mirror;     /* more headers, or NULL */
};

/* Sends it and waits; the answer, a result or an error, is in m->reply until the next question. */
static slm_err ask(struct mcp *m, const struct question *q, slm_why *why) {
    struct mirror lines = { NULL, 0 };
    json_t *params = with_meta(m, q->params, q->progress);
    json_int_t id = ++m->last_id;
    char *text = keep(rpc_request(id, q->method, params));
    rpc_free(&m->reply);
    m->waits = id;
    if (m->modern && m->config->url) {
        size_t extra = q->mirror ? q->mirror->n : 0;
        lines.lines = keep(calloc(extra + 2, sizeof *lines.lines));
        lines.lines[lines.n++] = mirror_line("", "Mcp-Method", q->method, strlen(q->method));
        if (q->name)
            lines.lines[lines.n++] = mirror_line("", "Mcp-Name", q->name, strlen(q->name));
        for (size_t i = 0; i < extra; i++)
            lines.lines[lines.n++] = keep(strdup(q->mirror->lines[i]));
    }
    struct wire_send send = { .text = text,
                              .n = strlen(text),
                              .answer = true,
                              .deadline_ns = clock_ns() + q->seconds * SECOND_NS,
                              .method = q->method,
                              .name = q->name,
                              .version = m->version,
                              .headers = lines.lines,
                              .n_headers = lines.n };
    slm_err err = m->wire->send(m->wire, &send, why);
    bool gave_up = err == SLM_E_CANCELLED || (err == SLM_E_NET && m->wire->alive(m->wire));
    if (gave_up && strcmp(q->method, "initialize") != 0 && m->wire->status < 400)
        cancel(m, id, err == SLM_E_CANCELLED ? "interrupted" : "it took too long");
    m->waits = 0;
    free(text);
    mirror_free(&lines);
    return explain(m, err, why);
}

/* The result of the last answer; an error, or a kind of result that is none, fails. */
static slm_err result_of(struct mcp *m, const char *method, json_t **result, slm_why *why) {
    char clean[300];
    if (m->reply.kind == RPC_ERROR)
        return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "server '%s' answers %s with error %lld: %s",
                    m->config->name, method, (long long)m->reply.code,
                    line_clean(m->reply.message, strlen(m->reply.message), clean, sizeof clean));
    const json_t *type = json_object_get(m->reply.result, "resultType");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "complete") != 0))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "server '%s' answers %s with a result of the type '%.40s'", m->config->name,
                    method, json_is_string(type) ? json_string_value(type) : "?");
    *result = m->reply.result;
    return SLM_OK;
}

/* ------------------------------------------------------------------ finding a common version */

static const char *known_handshake(const char *version) {
    for (size_t i = 0; version && i < ARRAY_LEN(handshakes); i++)
        if (strcmp(version, handshakes[i]) == 0)
            return handshakes[i];
    return NULL;
}

static bool lists(const json_t *versions, const char *version) {
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const char *v = json_string_value(json_array_get(versions, i));
        if (v && strcmp(v, version) == 0)
            return true;
    }
    return false;
}

static void take_title(struct mcp *m, const json_t *info) {
    const char *name = json_string_value(json_object_get(info, "name"));
    const char *version = json_string_value(json_object_get(info, "version"));
    char text[128];
    snprintf(text, sizeof text, "%.80s%s%.30s", name ? name : "", version ? " " : "",
             version ? version : "");
    line_clean(text, strlen(text), m->title, sizeof m->title);
}

static slm_err need_tools(struct mcp *m, const json_t *result, slm_why *why) {
    if (json_is_object(json_object_get(json_object_get(result, "capabilities"), "tools")))
        return SLM_OK;
    return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET, "server '%s' has no tools", m->config->name);
}

static slm_err no_version(struct mcp *m, const json_t *versions, slm_why *why) {
    char *theirs = versions ? json_dumps(versions, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char clean[200] = "others";
    if (theirs)
        line_clean(theirs, strlen(theirs), clean, sizeof clean);
    free(theirs);
    return fail(why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                "server '%s' speaks %s, slm %s%s: no common version", m->config->name, clean,
                m->config->protocol ? m->config->protocol : MODERN,
                m->config->protocol ? " (as configured)" : " and 2025-11-25 to 2024-11-05");
}

/* An answer to server/discover. *handshake: a version to begin a handshake with instead, or NULL. */
static slm_err take_discovery(struct mcp *m, const char **handshake, slm_why *why) {
    const json_t *versions;
    json_t *result = NULL;
    *handshake = NULL;
    if (m->reply.kind == RPC_ERROR && m->reply.code == RPC_VERSION) {
        versions = json_object_get(m->reply.data, "supported");
    } else if (m->reply.kind == RPC_ERROR && m->reply.code != RPC_HEADER_MISMATCH &&
               m->reply.code != RPC_CAPABILITY) {
        *handshake = handshakes[0]; /* it does not know the question */
        return SLM_OK;
    } else {
        TRY(result_of(m, "server/discover", &result, why));
        versions = json_object_get(result, "supportedVersions");
        if (lists(versions, MODERN)) {
            take_title(m, json_object_get(json_object_get(result, "_meta"), META "serverInfo"));
            if (json_object_get(result, "serverInfo"))
                take_title(m, json_object_get(result, "serverInfo"));
            return need_tools(m, result, why);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(handshakes) && !*handshake; i++)
        if (lists(versions, handshakes[i]))
            *handshake = handshakes[i];
    return *handshake && !m->config->protocol ? SLM_OK : no_version(m, versions, why);
}

static void be_modern(struct mcp *m, bool modern) {
    m->modern = modern;
    snprintf(m->version, sizeof m->version, "%s", modern ? MODERN : "");
}

static slm_err shake_hands(struct mcp *m, const char *version, slm_why *why) {
    json_t *result = NULL, *params;
    const char *other;
    be_modern(m, false);
    params = keep_json(json_pack("{s:s, s:{}, s:o}", "protocolVersion", version, "capabilities",
                                 "clientInfo", client_info()));
    struct question q = { .method = "initialize", .params = params, .seconds = m->config->start_s };
    TRY(ask(m, &q, why));
    if (m->late && m->reply.id && id_of(m->reply.id) == m->late) { /* slow to start, but a newer one */
        be_modern(m, true);
        m->late = 0;
        return take_discovery(m, &other, why);
    }
    if (m->reply.kind == RPC_ERROR && m->reply.code == RPC_VERSION)
        return no_version(m, json_object_get(m->reply.data, "supported"), why);
    TRY(result_of(m, "initialize", &result, why));
    const char *theirs = known_handshake(json_string_value(json_object_get(result, "protocolVersion")));
    if (!theirs || (m->config->protocol && strcmp(theirs, version) != 0))
        return no_version(m, json_object_get(result, "protocolVersion"), why);
    snprintf(m->version, sizeof m->version, "%s", theirs);
    take_title(m, json_object_get(result, "serverInfo"));
    TRY(need_tools(m, result, why));
    char *text = keep(rpc_notification("notifications/initialized", NULL));
    struct wire_send send = { .text = text,
                              .n = strlen(text),
                              .deadline_ns = clock_ns() + m->config->start_s * SECOND_NS,
                              .method = "notifications/initialized",
                              .version = m->version };
    slm_err err = m->wire->send(m->wire, &send, why);
    free(text);
    return explain(m, err, why);
}

static slm_err open_wire(struct mcp *m, slm_why *why) {
    struct wire_ear ear = { .message = wire_message, .said = wire_said, .user = m };
    if (m->wire)
        m->wire->close(m->wire);
    m->wire = NULL;
    m->late = 0;
    m->malformed = 0;
    return m->config->url ? http_open(m->config, &ear, &m->wire, why)
                          : stdio_open(m->config, &ear, &m->wire, why);
}

/* Whether a failed question means that the server is of the older kind rather than not there. */
static bool may_be_older(struct mcp *m, slm_err err) {
    long status = m->wire->status;
    if (m->config->protocol || err != SLM_E_NET)
        return false;
    if (m->config->url) /* an answer, but not to that */
        return status >= 400 && status != 401 && status != 403 && status != 407;
    return true;
}

static slm_err connect_server(struct mcp *m, slm_why *why) {
    const char *handshake = NULL;
    TRY(open_wire(m, why));
    if (m->config->protocol && strcmp(m->config->protocol, MODERN) != 0)
        return shake_hands(m, m->config->protocol, why);
    be_modern(m, true);
    struct question q = { .method = "server/discover", .seconds = m->config->start_s };
    if (!m->config->url && !m->config->protocol && q.seconds > PROBE_S)
        q.seconds = PROBE_S;
    slm_err err = ask(m, &q, why);
    if (err == SLM_OK) {
        TRY(take_discovery(m, &handshake, why));
        return !handshake           ? SLM_OK
               : m->config->protocol ? no_version(m, NULL, why)
                                     : shake_hands(m, handshake, why);
    }
    if (!may_be_older(m, err))
        return err;
    if (m->wire->alive(m->wire)) {
        m->late = m->last_id;
    } else {
        warn(m, "it did not survive the question which version it speaks; it is started again");
        TRY(open_wire(m, why));
    }
    return shake_hands(m, handshakes[0], why);
}

slm_err mcp_open(const struct mcp_config *config, const struct mcp_host *host, struct mcp **out,
                 slm_why *why) {
    struct mcp *m = keep(calloc(1, sizeof *m));
    *out = NULL;
    m->config = config;
    if (host)
        m->host = *host;
    slm_err err = connect_server(m, why);
    if (err == SLM_OK)
        *out = m;
    else
        mcp_close(m);
    return err;
}

void mcp_close(struct mcp *m) {
    if (!m)
        return;
    if (m->wire)
        m->wire->close(m->wire);
    rpc_free(&m->reply);
    free(m);
}

/* ------------------------------------------------------------------ tools */

/* Adds what can be used of one page. */
static slm_err take_page(struct mcp *m, const json_t *page, json_t *tools, slm_why *why) {
    struct mirror none = { NULL, 0 };
    size_t i;
    json_t *tool;
    slm_why reason;
    if (!json_is_array(page))
        return fail(why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s': tools/list without \"tools\"",
                    m->config->name);
    json_array_foreach(page, i, tool) {
        const char *name = json_string_value(json_object_get(tool, "name"));
        const json_t *schema = json_object_get(tool, "inputSchema");
        if (!name || !*name || !json_is_object(schema))
            warn(m, "its tool '%.80s' has no %s and is left out", name ? name : "",
                 name && *name ? "inputSchema" : "name");
        else if (m->modern && m->config->url &&
                 mirror_arguments(schema, NULL, &none, &reason) != SLM_OK)
            warn(m, "its tool '%.80s' is left out: %.200s", name, reason.message);
        else if (json_array_size(tools) == MCP_TOOLS_MOST)
            return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "server '%s' has more than %d tools",
                        m->config->name, MCP_TOOLS_MOST);
        else if (json_array_append(tools, tool) != 0)
            return fail_nomem(why, "tools", 0);
    }
    return SLM_OK;
}

static slm_err list_pages(struct mcp *m, json_t *tools, slm_why *why) {
    char *cursor = NULL;
    slm_err err = SLM_OK;
    for (int page = 0; err == SLM_OK; page++) {
        json_t *result = NULL;
        json_t *params = cursor ? keep_json(json_pack("{s:s}", "cursor", cursor)) : NULL;
        struct question q = { .method = "tools/list", .params = params, .seconds = m->config->start_s };
        TRY_OUT(ask(m, &q, why));
        TRY_OUT(result_of(m, "tools/list", &result, why));
        TRY_OUT(take_page(m, json_object_get(result, "tools"), tools, why));
        const char *next = json_string_value(json_object_get(result, "nextCursor"));
        if (!next || !*next)
            break;
        if (page + 1 == MCP_PAGES_MOST || (cursor && strcmp(cursor, next) == 0))
            err = fail(why, SLM_E_BUDGET, SLM_NO_OFFSET,
                       "server '%s': its list of tools does not end (page %d)", m->config->name,
                       page + 1);
        free(cursor);
        cursor = keep(strdup(next));
    }
out:
    free(cursor);
    return err;
}

slm_err mcp_tools(struct mcp *m, json_t **out, slm_why *why) {
    *out = keep_json(json_array());
    m->changed = false;
    slm_err err = list_pages(m, *out, why);
    if (err != SLM_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return err;
}

/* ------------------------------------------------------------------ calls */

/* A server that has ended since the last call is started again. */
static slm_err revive(struct mcp *m, slm_why *why) {
    if (m->wire && m->wire->alive(m->wire))
        return SLM_OK;
    slm_err err = connect_server(m, why);
    if (err == SLM_OK)
        say(m, MCP_NEWS, "it had ended and was started again");
    return err;
}

static slm_err call_once(struct mcp *m, const json_t *tool, json_t *arguments, slm_why *why) {
    struct mirror mirror = { NULL, 0 };
    const char *name = json_string_value(json_object_get(tool, "name"));
    if (m->modern && m->config->url)
        TRY(mirror_arguments(json_object_get(tool, "inputSchema"), arguments, &mirror, why));
    struct question q = { .method = "tools/call",
                          .name = name,
                          .params = keep_json(
                              json_pack("{s:s, s:O}", "name", name, "arguments", arguments)),
                          .seconds = m->config->call_s,
                          .progress = true,
                          .mirror = &mirror };
    slm_err err = ask(m, &q, why);
    mirror_free(&mirror);
    return err;
}

slm_err mcp_call(struct mcp *m, const json_t *tool, json_t *arguments, struct mcp_result *out,
                 slm_why *why) {
    slm_why reason = { .code = SLM_OK };
    uint64_t begun = clock_ns();
    memset(out, 0, sizeof *out);
    TRY(revive(m, why));
    slm_err err = call_once(m, tool, arguments, why);
    if (err == SLM_E_NET && m->wire->session_lost) { /* it never saw the call: ask again */
        TRY(revive(m, why));
        err = call_once(m, tool, arguments, why);
    }
    out->wall_ns = clock_ns() - begun;
    TRY(err);
    const char *type = m->reply.kind == RPC_RESULT
                           ? json_string_value(json_object_get(m->reply.result, "resultType"))
                           : NULL;
    if (m->reply.kind == RPC_ERROR) {
        out->code = m->reply.code;
        line_clean(m->reply.message, strlen(m->reply.message), out->message, sizeof out->message);
    } else if (type && strcmp(type, "input_required") == 0) {
        snprintf(out->message, sizeof out->message,
                 "it wants more input from a person, which this client does not ask for");
    } else if (result_of(m, "tools/call", &out->result, &reason) != SLM_OK) {
        snprintf(out->message, sizeof out->message, "%s", reason.message);
    }
    json_incref(out->result);
    return SLM_OK;
}

void mcp_result_free(struct mcp_result *r) {
    json_decref(r->result);
    r->result = NULL;
}

bool mcp_changed(struct mcp *m) {
    if (m->wire && m->wire->alive(m->wire))
        m->wire->drain(m->wire);
    return m->changed;
}

const char *mcp_name(const struct mcp *m) {
    return m->config->name;
}

const char *mcp_version(const struct mcp *m) {
    return m->version;
}

const char *mcp_title(const struct mcp *m) {
    return m->title;
}

pid_t mcp_pid(const struct mcp *m) {
    return m->wire ? m->wire->pid : 0;
}
