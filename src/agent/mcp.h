/* mcp.h - clients of Model Context Protocol servers: configuration, one connection, its tools.
 *
 *     config.c   the "mcpServers" file                     mcp.c     what is said: both eras of the protocol
 *     stdio.c    a program's standard input and output     http.c    streamable HTTP
 *
 * Both eras: 2026-07-28 is stateless (server/discover, version and capabilities in each request);
 * 2025-11-25, 2025-06-18, 2025-03-26 and 2024-11-05 begin with a handshake. Which one a server speaks
 * is found out when it is opened. A connection belongs to one thread. Memory is malloc's, as in all
 * of the program. */
#ifndef SLM_AGENT_MCP_H
#define SLM_AGENT_MCP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "slm_error.h"

enum {
    MCP_LINE_MOST = 4 << 20,    /* bytes of one message */
    MCP_STREAM_MOST = 64 << 20, /* bytes of one HTTP answer, all events together */
    MCP_CONFIG_MOST = 1 << 20,  /* bytes of a configuration file */
    MCP_SERVERS_MOST = 64,
    MCP_TOOLS_MOST = 1024, /* of one server */
    MCP_PAGES_MOST = 128,  /* of its list */
    MCP_MALFORMED_MOST = 16 /* lines that are no messages, then the server is given up */
};

/* ------------------------------------------------------------------ configuration */

struct mcp_config {
    char *name;
    /* stdio: argv is NULL-terminated, env is "NAME=value" [n_env]; cwd may be NULL */
    char **argv, **env, *cwd;
    size_t n_args, n_env;
    /* HTTP: headers are "Name: value" [n_headers] */
    char *url, **headers;
    size_t n_headers;
    char **approved; /* [n_approved] tools that need no consent; "*" is all of them */
    size_t n_approved;
    bool disabled, allow_http;
    const char *protocol; /* static: the only version to speak; NULL: whichever both know */
    uint32_t start_s, call_s, stop_s; /* seconds for starting, for one call, and for ending by itself */
    uint64_t result_bytes; /* most bytes of a result that are looked at; 0: the command's limit */
};
struct mcp_config_file {
    struct mcp_config servers[MCP_SERVERS_MOST];
    size_t n;
};
/* Reads the text [n] of a configuration file, {"mcpServers": {NAME: {...}}}: "command", "args", "env",
 * "cwd" or "url", "headers"; "type", "disabled", "autoApprove", "alwaysAllow"; and our own limits in
 * "slm". ${NAME} and ${NAME:-default} stand for variables of the environment, which variable() gives
 * (NULL: not set). warn() hears of every key that has no meaning here. Servers keep their order.
 * E_FORMAT for another shape, E_ARG for values that cannot be, E_NOTFOUND for a variable that is not
 * set, E_BUDGET. On failure *out is empty. */
slm_err mcp_config_read(const char *text, size_t n, const char *(*variable)(const char *name),
                        void (*warn)(void *user, const char *text), void *user,
                        struct mcp_config_file *out, slm_why *why);
void mcp_config_free(struct mcp_config_file *file);

/* ------------------------------------------------------------------ one server */

enum mcp_note {
    MCP_WARNING,  /* something was not as it should be, and was gone over */
    MCP_LOG,      /* a log message of the server */
    MCP_STDERR,   /* a line of its standard error */
    MCP_PROGRESS, /* of the call that is running */
    MCP_NEWS      /* it was started again; its tools changed */
};
struct mcp_host {
    /* text is one printable line. May be NULL. */
    void (*note)(void *user, const char *server, enum mcp_note kind, const char *text);
    void *user;
};

struct mcp;
/* Starts or connects to a server and finds out what it speaks; config and host are borrowed until close.
 * E_IO: it cannot be started or ended; E_NET: it does not answer, or not in time; E_UNSUPPORTED: no common
 * version, or it has no tools; E_FORMAT: it answers nonsense; E_ARG for an address that must not be used;
 * E_CANCELLED. *out is NULL on failure. */
slm_err mcp_open(const struct mcp_config *config, const struct mcp_host *host, struct mcp **out,
                 slm_why *why);
/* All pages of its tools, as an array of the protocol's own objects; new reference. Tools without a name or
 * schema are left out with a warning. Errors as mcp_open. */
slm_err mcp_tools(struct mcp *m, json_t **out, slm_why *why);

struct mcp_result {
    json_t *result;    /* owned: "content", "structuredContent", "isError"; NULL when it refused the call */
    json_int_t code;   /* of the refusal */
    char message[512]; /* and its words, printable */
    uint64_t wall_ns;
};
/* Calls a tool (an entry of mcp_tools) with an object of arguments, borrowed. SLM_OK also for a refusal:
 * the server could be asked. A server that has ended is started again first, once in a row. Errors as
 * mcp_open. */
slm_err mcp_call(struct mcp *m, const json_t *tool, json_t *arguments, struct mcp_result *out,
                 slm_why *why);
void mcp_result_free(struct mcp_result *r);

/* Takes in what the server has said meanwhile, without waiting. True: its tools have changed since they
 * were last asked for. */
bool mcp_changed(struct mcp *m);
const char *mcp_name(const struct mcp *m);    /* as configured */
const char *mcp_version(const struct mcp *m); /* of the protocol */
const char *mcp_title(const struct mcp *m);   /* what it calls itself, printable; may be "" */
pid_t mcp_pid(const struct mcp *m);           /* its process; 0: none */
/* Ends the session; a program is asked to end, and ended with all that it started. NULL is allowed. */
void mcp_close(struct mcp *m);

#endif
