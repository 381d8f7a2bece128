/* config.c - the configuration file that MCP clients share: {"mcpServers": {NAME: {...}}}.
 *
 * There is no standard for it; the keys are those that Claude Desktop, Cursor, Cline and others have in
 * common. What is of one program alone is named in a warning instead of being passed over: some of
 * those keys hold tools back, and somebody may rely on that. */
#include "agent/mcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/wire.h"
#include "base/json.h"
#include "cli/cli.h"

enum {
    NAME_MOST = 64,
    LIST_MOST = 256,
    VALUE_MOST = 64 << 10, /* bytes of a text after its variables are in */
    START_S = 30,
    CALL_S = 60,
    STOP_S = 2
};

struct reading {
    const char *(*variable)(const char *name);
    void (*warn)(void *user, const char *text);
    void *user;
    const char *server;
    slm_why *why;
};

static void warn(const struct reading *r, const char *format, ...) ATTR_PRINTF(2, 3);
static void warn(const struct reading *r, const char *format, ...) {
    char text[400], clean[400];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (r->warn && n >= 0)
        r->warn(r->user, line_clean(text, strlen(text), clean, sizeof clean));
}

/* ------------------------------------------------------------------ variables */

static bool name_char(char k, bool first) {
    return k == '_' || (k >= 'A' && k <= 'Z') || (k >= 'a' && k <= 'z') ||
           (!first && k >= '0' && k <= '9');
}

/* What stands between "${" and "}": NAME, NAME:-default or env:NAME. */
static slm_err put_variable(struct reading *r, struct buf *b, const char *at, size_t n) {
    char name[128];
    if (n > 4 && memcmp(at, "env:", 4) == 0) {
        at += 4;
        n -= 4;
    }
    size_t k = 0;
    while (k < n && name_char(at[k], k == 0))
        k++;
    bool fallback = k + 1 < n && at[k] == ':' && at[k + 1] == '-';
    if (k == 0 || k >= sizeof name || (k < n && !fallback))
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                    "server '%s': '${%.*s}' is no variable of the environment", r->server, (int)n,
                    at);
    memcpy(name, at, k);
    name[k] = 0;
    const char *value = r->variable ? r->variable(name) : NULL;
    if (value && (*value || !fallback))
        buf_puts(b, value);
    else if (fallback)
        buf_put(b, at + k + 2, n - k - 2);
    else
        return fail(r->why, SLM_E_NOTFOUND, SLM_NO_OFFSET,
                    "server '%s' wants the variable %s, which is not set", r->server, name);
    return SLM_OK;
}

/* A text with its variables replaced; once, so that a value cannot name another one. Returns owned. */
static slm_err expand(struct reading *r, const char *text, char **out) {
    struct buf b;
    slm_err err = SLM_OK;
    buf_init(&b, NULL, VALUE_MOST);
    while (*text && err == SLM_OK) {
        const char *open = strstr(text, "${"), *end = open ? strchr(open, '}') : NULL;
        if (!end) {
            buf_puts(&b, text);
            break;
        }
        buf_put(&b, text, (size_t)(open - text));
        err = put_variable(r, &b, open + 2, (size_t)(end - open - 2));
        text = end + 1;
    }
    if (err == SLM_OK && b.err)
        err = fail(r->why, b.err, SLM_NO_OFFSET, "server '%s': a value of more than %d bytes",
                   r->server, VALUE_MOST);
    if (err == SLM_OK)
        *out = b.len ? keep(buf_take(&b)) : keep(strdup(""));
    buf_free(&b);
    return err;
}

/* ------------------------------------------------------------------ typed values */

static slm_err wrong(struct reading *r, const char *key, const char *wanted) {
    return fail(r->why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s': \"%s\" wants %s", r->server, key,
                wanted);
}

static slm_err take_text(struct reading *r, const char *key, const json_t *v, char **out) {
    if (!json_is_string(v))
        return wrong(r, key, "a text");
    return expand(r, json_string_value(v), out);
}

/* Texts of an array behind those already in the list; room for one more is kept, for a NULL. */
static slm_err take_list(struct reading *r, const char *key, const json_t *v, char ***list,
                         size_t *n) {
    if (!json_is_array(v) || json_array_size(v) > LIST_MOST)
        return wrong(r, key, "an array of up to 256 texts");
    *list = keep(realloc(*list, (*n + json_array_size(v) + 1) * sizeof **list));
    for (size_t i = 0; i < json_array_size(v); i++) {
        TRY(take_text(r, key, json_array_get(v, i), &(*list)[*n]));
        (*list)[++*n] = NULL;
    }
    return SLM_OK;
}

/* Both halves of a header or a variable on one line. */
static bool line_ok(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' && *text != '\t')
            return false;
    return true;
}

static bool header_name(const char *s) {
    if (!*s)
        return false;
    for (; *s; s++)
        if (!name_char(*s, false) && !strchr("!#$%&'*+-.^`|~", *s))
            return false;
    return true;
}

/* {"NAME": "value"} as "NAME=value" or "NAME: value". */
static slm_err take_pairs(struct reading *r, const char *key, json_t *v, bool header, char ***list,
                          size_t *n) {
    const char *name;
    json_t *value;
    if (!json_is_object(v) || json_object_size(v) > LIST_MOST)
        return wrong(r, key, "an object of up to 256 texts");
    *list = keep(calloc(json_object_size(v) + 1, sizeof **list));
    json_object_foreach(v, name, value) {
        char *text = NULL;
        if (header ? !header_name(name) : !*name || strchr(name, '=') != NULL)
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "server '%s': '%s' is no name for \"%s\"",
                        r->server, name, key);
        TRY(take_text(r, key, value, &text));
        if (header && !line_ok(text)) {
            free(text);
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                        "server '%s': the header %s holds a control character", r->server, name);
        }
        (*list)[(*n)++] = text_printf(header ? "%s: %s" : "%s=%s", name, text);
        free(text);
    }
    return SLM_OK;
}

static slm_err take_bool(struct reading *r, const char *key, const json_t *v, bool *out) {
    if (!json_is_boolean(v))
        return wrong(r, key, "true or false");
    *out = json_is_true(v);
    return SLM_OK;
}

static slm_err take_number(struct reading *r, const char *key, const json_t *v, json_int_t most,
                           json_int_t *out) {
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > most)
        return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                    "server '%s': \"%s\" wants a whole number from 1 to %lld", r->server, key,
                    (long long)most);
    *out = json_integer_value(v);
    return SLM_OK;
}

/* ------------------------------------------------------------------ one server */

/* Our own limits. */
static slm_err take_own(struct reading *r, json_t *v, struct mcp_config *c) {
    static const char *const versions[] = { "2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26",
                                            "2024-11-05" };
    const char *key;
    json_t *value;
    json_int_t number = 0;
    if (!json_is_object(v))
        return wrong(r, "slm", "an object");
    json_object_foreach(v, key, value) {
        if (strcmp(key, "start_timeout_s") == 0) {
            TRY(take_number(r, key, value, 86400, &number));
            c->start_s = (uint32_t)number;
        } else if (strcmp(key, "call_timeout_s") == 0) {
            TRY(take_number(r, key, value, 86400, &number));
            c->call_s = (uint32_t)number;
        } else if (strcmp(key, "stop_timeout_s") == 0) {
            TRY(take_number(r, key, value, 60, &number));
            c->stop_s = (uint32_t)number;
        } else if (strcmp(key, "result_bytes") == 0) {
            TRY(take_number(r, key, value, MCP_LINE_MOST, &number));
            c->result_bytes = (uint64_t)number;
        } else if (strcmp(key, "allow_http") == 0) {
            TRY(take_bool(r, key, value, &c->allow_http));
        } else if (strcmp(key, "protocol") == 0) {
            for (size_t i = 0; i < ARRAY_LEN(versions); i++)
                if (json_is_string(value) && strcmp(json_string_value(value), versions[i]) == 0)
                    c->protocol = versions[i];
            if (!c->protocol)
                return wrong(r, key, "2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26 or 2024-11-05");
        } else { /* our own keys have no other program to be for */
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET, "server '%s': \"slm\" has no \"%s\"",
                        r->server, key);
        }
    }
    return SLM_OK;
}

static slm_err take_type(struct reading *r, const json_t *v, const char **type) {
    const char *text = json_string_value(v);
    if (text && strcasecmp(text, "stdio") == 0)
        *type = "stdio";
    else if (text && (strcasecmp(text, "http") == 0 || strcasecmp(text, "streamable-http") == 0 ||
                      strcasecmp(text, "streamableHttp") == 0))
        *type = "http";
    else if (text && strcasecmp(text, "sse") == 0)
        return fail(r->why, SLM_E_UNSUPPORTED, SLM_NO_OFFSET,
                    "server '%s': the old transport \"sse\" of 2024 is not supported; most such "
                    "servers have an address for \"http\" too",
                    r->server);
    else
        return wrong(r, "type", "\"stdio\" or \"http\"");
    return SLM_OK;
}

static slm_err take_key(struct reading *r, const char *key, json_t *v, struct mcp_config *c,
                        const char **type) {
    if (strcmp(key, "command") == 0) {
        c->argv = c->argv ? c->argv : keep(calloc(2, sizeof *c->argv));
        return take_text(r, key, v, &c->argv[0]);
    }
    if (strcmp(key, "cwd") == 0)
        return take_text(r, key, v, &c->cwd);
    if (strcmp(key, "env") == 0)
        return take_pairs(r, key, v, false, &c->env, &c->n_env);
    if (strcmp(key, "url") == 0)
        return take_text(r, key, v, &c->url);
    if (strcmp(key, "headers") == 0)
        return take_pairs(r, key, v, true, &c->headers, &c->n_headers);
    if (strcmp(key, "disabled") == 0)
        return take_bool(r, key, v, &c->disabled);
    if (strcmp(key, "autoApprove") == 0 || strcmp(key, "alwaysAllow") == 0)
        return take_list(r, key, v, &c->approved, &c->n_approved);
    if (strcmp(key, "type") == 0 || strcmp(key, "transport") == 0)
        return take_type(r, v, type);
    if (strcmp(key, "slm") == 0)
        return take_own(r, v, c);
    if (strcmp(key, "args") != 0 && strcmp(key, "description") != 0)
        warn(r, "server '%s': \"%s\" has no meaning here and is ignored", r->server, key);
    return SLM_OK;
}

/* "args" come behind the command, wherever the two stand. */
static slm_err take_args(struct reading *r, const json_t *v, struct mcp_config *c) {
    c->n_args = 1;
    return v ? take_list(r, "args", v, &c->argv, &c->n_args) : SLM_OK;
}

static slm_err take_server(struct reading *r, json_t *v, struct mcp_config *c) {
    const char *key, *type = NULL;
    json_t *value;
    c->name = keep(strdup(r->server));
    c->start_s = START_S;
    c->call_s = CALL_S;
    c->stop_s = STOP_S;
    if (!json_is_object(v))
        return fail(r->why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s' is no object", r->server);
    json_object_foreach(v, key, value)
        TRY(take_key(r, key, value, c, &type));
    bool program = c->argv != NULL;
    if (program == (c->url != NULL))
        return fail(r->why, SLM_E_FORMAT, SLM_NO_OFFSET,
                    "server '%s' wants either \"command\" or \"url\"", r->server);
    if (type && program != (strcmp(type, "stdio") == 0))
        return fail(r->why, SLM_E_FORMAT, SLM_NO_OFFSET, "server '%s': \"type\" is %s beside \"%s\"",
                    r->server, type, program ? "command" : "url");
    if (program && !c->argv[0][0])
        return wrong(r, "command", "the name of a program");
    if (program)
        return take_args(r, json_object_get(v, "args"), c);
    if (json_object_get(v, "args") || c->env || c->cwd)
        warn(r, "server '%s': \"args\", \"env\" and \"cwd\" are for a \"command\"", r->server);
    return SLM_OK;
}

static bool server_name_ok(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    return n > 0 && n <= NAME_MOST;
}

static slm_err take_file(struct reading *r, json_t *doc, struct mcp_config_file *out) {
    const char *key;
    json_t *value, *servers = json_object_get(doc, "mcpServers");
    if (!json_is_object(servers))
        return fail(r->why, SLM_E_FORMAT, SLM_NO_OFFSET, "there is no object \"mcpServers\"%s",
                    json_object_get(doc, "servers") ? " (\"servers\" is another program's shape)"
                                                    : "");
    json_object_foreach(doc, key, value)
        if (strcmp(key, "mcpServers") != 0)
            warn(r, "\"%s\" has no meaning here and is ignored", key);
    if (json_object_size(servers) > MCP_SERVERS_MOST)
        return fail(r->why, SLM_E_BUDGET, SLM_NO_OFFSET, "%zu servers, at most %d",
                    json_object_size(servers), MCP_SERVERS_MOST);
    json_object_foreach(servers, key, value) {
        r->server = key;
        if (!server_name_ok(key))
            return fail(r->why, SLM_E_ARG, SLM_NO_OFFSET,
                        "the server name '%s' is not 1 to %d printable bytes", key, NAME_MOST);
        TRY(take_server(r, value, &out->servers[out->n++]));
    }
    return SLM_OK;
}

slm_err mcp_config_read(const char *text, size_t n, const char *(*variable)(const char *name),
                        void (*warn_user)(void *user, const char *text), void *user,
                        struct mcp_config_file *out, slm_why *why) {
    struct reading r = { .variable = variable, .warn = warn_user, .user = user, .why = why };
    json_t *doc = NULL;
    memset(out, 0, sizeof *out);
    TRY(json_text(text, n, &doc, why));
    slm_err err = take_file(&r, doc, out);
    json_decref(doc);
    if (err != SLM_OK)
        mcp_config_free(out);
    return err;
}

static void free_list(char **list, size_t n) {
    for (size_t i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

void mcp_config_free(struct mcp_config_file *file) {
    for (size_t i = 0; i < file->n; i++) {
        struct mcp_config *c = &file->servers[i];
        free_list(c->argv, c->argv ? (c->n_args ? c->n_args : 1) : 0);
        free_list(c->env, c->n_env);
        free_list(c->headers, c->n_headers);
        free_list(c->approved, c->n_approved);
        free(c->name);
        free(c->cwd);
        free(c->url);
    }
    memset(file, 0, sizeof *file);
}
