/* rpc.h - JSON-RPC 2.0 messages, and the two ways they are framed: lines and server-sent events.
 *
 * What a server writes is untrusted: every reader here has a ceiling and refuses rather than guesses. */
#ifndef SLM_AGENT_RPC_H
#define SLM_AGENT_RPC_H

#include <jansson.h>

#include "base/mem.h"

enum rpc_kind { RPC_REQUEST, RPC_NOTIFICATION, RPC_RESULT, RPC_ERROR };

enum { /* error codes of JSON-RPC, and those of MCP 2026-07-28 */
    RPC_NO_METHOD = -32601,
    RPC_BAD_PARAMS = -32602,
    RPC_HEADER_MISMATCH = -32020,
    RPC_CAPABILITY = -32021,
    RPC_VERSION = -32022
};

struct rpc_message {
    enum rpc_kind kind;
    json_t *doc;         /* owned; everything below lives in it */
    const json_t *id;    /* text or whole number; of an RPC_ERROR NULL when it belongs to no request */
    const char *method;  /* of requests and notifications */
    json_t *params;      /* object, or NULL */
    json_t *result;      /* object */
    json_int_t code;     /* of an RPC_ERROR, with its message and data (may be NULL) */
    const char *message;
    json_t *data;
};

/* One message, strictly: "jsonrpc" is "2.0", an id is text or a whole number, params and result are
 * objects (arrays of params are not used by MCP), and nothing is a request and an answer at once.
 * Errors as json_text, and E_FORMAT naming what is wrong. *out is filled on success only. */
slm_err rpc_read(const char *text, size_t n, struct rpc_message *out, slm_why *why);
void rpc_free(struct rpc_message *m);

/* Messages as text on one line, without its newline. Return owned; params and result are taken and
 * may be NULL. */
char *rpc_request(json_int_t id, const char *method, json_t *params);
char *rpc_notification(const char *method, json_t *params);
char *rpc_result(const json_t *id, json_t *result);
char *rpc_error(const json_t *id, int code, const char *message);

/* ---- server-sent events ---- */
/* Format: the event stream of the HTML standard: lines end with LF, CR or CRLF, a byte order mark may
 * come first, an empty line ends an event, events without data are nothing. */
struct sse {
    struct buf line, data; /* what has come of the current line and event */
    char event[32];        /* its name, "" for "message" */
    char id[256];          /* last id seen, for resuming; "" none */
    unsigned retry_ms;     /* pause before resuming that the server asks for; 0: none asked */
    bool begun, after_cr, has_data;
};
/* limit: most bytes of a line, and of an event's data. */
void sse_init(struct sse *s, size_t limit);
/* Takes n bytes. event() is called for each event named "message" with its data, and returns false to
 * stop: the rest of the bytes is then dropped. E_BUDGET above the limit, E_NOMEM. */
slm_err sse_feed(struct sse *s, const char *bytes, size_t n,
                 bool (*event)(void *user, const char *data, size_t n), void *user);
void sse_free(struct sse *s);

#endif
