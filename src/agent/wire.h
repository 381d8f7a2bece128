/* wire.h - how messages get to a server and back: what stdio.c and http.c have in common.
 *
 * A wire carries text; what it says is mcp.c's business. Every wait has a deadline and ends at Ctrl-C. */
#ifndef SLM_AGENT_WIRE_H
#define SLM_AGENT_WIRE_H

#include "agent/mcp.h"
#include "base/mem.h"

enum wire_verdict {
    WIRE_MORE, /* not yet what is waited for */
    WIRE_DONE, /* it has come */
    WIRE_STOP  /* the server is given up */
};
struct wire_ear {
    /* One message, not yet parsed. */
    enum wire_verdict (*message)(void *user, const char *text, size_t n);
    void (*said)(void *user, enum mcp_note kind, const char *text);
    void *user;
};

struct wire_send {
    const char *text; /* [n] one message */
    size_t n;
    bool answer;      /* wait until the ear says DONE */
    uint64_t deadline_ns;
    /* For HTTP's headers. headers: "Name: value" lines, [n_headers] */
    const char *method, *name, *version;
    char **headers;
    size_t n_headers;
};

struct wire {
    /* E_NET: it ended, did not answer in time, or answered with an error status; E_BUDGET: a message or an
     * answer that is too long; E_FORMAT: the ear said STOP; E_CANCELLED. */
    slm_err (*send)(struct wire *w, const struct wire_send *s, slm_why *why);
    /* Answers a request of the server: best effort, also from within the ear. */
    void (*reply)(struct wire *w, const char *text, size_t n);
    void (*drain)(struct wire *w); /* takes in what is there */
    bool (*alive)(struct wire *w);
    void (*close)(struct wire *w); /* frees w */
    pid_t pid;                     /* 0: no process */
    long status;                   /* HTTP status of the last send, 0 */
    bool session_lost;             /* HTTP: the server does not know our session any more */
};

slm_err stdio_open(const struct mcp_config *config, const struct wire_ear *ear, struct wire **out,
                   slm_why *why);
slm_err http_open(const struct mcp_config *config, const struct wire_ear *ear, struct wire **out,
                  slm_why *why);

/* Text made fit for a terminal and one line: control characters and what is no UTF-8 become '?' or
 * spaces; cut at size - 1 bytes between characters. Returns `to`. */
char *line_clean(const char *text, size_t n, char *to, size_t size);

#endif
