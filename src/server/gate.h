/* gate.h - what a request's head must be before anything of it is read further.
 *
 * Pure functions over header values, so that every combination can be tested. A browser that shows a
 * foreign page must not reach the server: its requests carry that page's Origin, or (after rebinding a
 * name to this address) that page's name as Host. */
#ifndef SLM_SERVER_GATE_H
#define SLM_SERVER_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gate {
    const char *const *hosts; /* [n_hosts] allowed beyond addresses, localhost and `self` */
    size_t n_hosts;
    const char *self; /* this machine's name, or NULL */
    const char *const *origins;
    size_t n_origins;
};
/* Is the Host header one of ours? Numeric addresses always are (a name is needed for rebinding),
 * localhost and names below it, the machine's own name, and the list. Any port. */
bool gate_host(const struct gate *g, const char *host);
enum origin_verdict { ORIGIN_NONE, ORIGIN_SAME, ORIGIN_LISTED, ORIGIN_FOREIGN };
/* origin NULL: not from a browser, or a page of our own that only reads. */
enum origin_verdict gate_origin(const struct gate *g, const char *origin, const char *host);
/* "application/json" with or without parameters. */
bool gate_json_type(const char *content_type);
/* The token of "Bearer TOKEN" (scheme in any case); NULL when it is something else. */
const char *gate_bearer(const char *authorization);
/* Reads a Content-Length: false unless it is digits only, below 2^63. */
bool gate_length(const char *text, uint64_t *out);
/* Whether a bind address ("127.0.0.1", "::1", "localhost") is only reached from this machine. */
bool gate_is_loopback(const char *host);

#endif
