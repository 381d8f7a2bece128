/* toolbox.h - the tools of several servers as one list, and what comes back from a call as text. */
#ifndef SLM_AGENT_TOOLBOX_H
#define SLM_AGENT_TOOLBOX_H

#include "agent/mcp.h"

struct tool {
    char *name;       /* as the model knows it: 1 to 64 of A-Z a-z 0-9 _ -, unique in the box */
    const char *own;  /* as its server knows it */
    json_t *def;      /* of mcp_tools; owned */
    struct mcp *server;
    const struct mcp_config *config;
    bool approved;    /* by the configuration, or by somebody since */
    bool refused;     /* by somebody, for good */
    size_t tokens;    /* what it costs of the context, where that was measured */
};
struct toolbox {
    struct mcp_config_file file;
    struct mcp *servers[MCP_SERVERS_MOST]; /* NULL: disabled */
    struct tool *tools;                    /* [n] */
    size_t n, offered;                     /* offered: before patterns left some out */
};
struct tool_choice {
    const char *const *allow, *const *deny; /* patterns [n_allow], [n_deny] as fnmatch(3) has them, of a
                                               name or of server/own; no allow: all */
    size_t n_allow, n_deny;
};

/* Opens every server of box->file that is not disabled, in order. On failure those that were opened stay
 * open until toolbox_close. */
slm_err toolbox_open(struct toolbox *box, const struct mcp_host *host, slm_why *why);
/* Asks all servers for their tools and puts them in order: servers as configured, tools as listed. Names that
 * two servers have, or that models cannot be trusted to write, become server__tool. What somebody decided about
 * a tool stays with it. warn() hears of patterns that fit nothing. */
slm_err toolbox_fill(struct toolbox *box, const struct tool_choice *choice,
                     void (*warn)(void *user, const char *text), void *user, slm_why *why);
/* Whether a server has said that its tools changed. */
bool toolbox_changed(struct toolbox *box);
/* NULL: there is none of that name [n]. */
struct tool *toolbox_find(struct toolbox *box, const char *name, size_t n);
/* Takes one out. */
void toolbox_drop(struct toolbox *box, struct tool *t);
bool tool_matches(const struct tool *t, const char *pattern);
/* One tool, and all but `without` (NULL: all), in the shape that slm_prompt_make wants; new references. */
json_t *tool_json(const struct tool *t);
json_t *toolbox_json(const struct toolbox *box, const struct tool *without);
void toolbox_close(struct toolbox *box);

/* What a result says, as text for a model: texts as they are, structured content as JSON where there is no
 * text, and a line in brackets for what cannot be shown (images, sound, what is unknown). Returns owned. */
char *result_text(const json_t *result, size_t *n);
/* Largest length up to `most` that does not cut a character of text [n]. */
size_t result_cut(const char *text, size_t n, size_t most);

/* ---- transcript: one JSON object per line, written as things happen ---- */
struct transcript {
    int fd; /* -1: none */
    uint64_t start_ns;
    int failed; /* errno of the first failure */
    char path[512];
};
/* Appends to path, which is made for its owner alone (0600). Not through a symbolic link. 0, or errno. */
int transcript_open(struct transcript *t, const char *path);
/* {"event": name, "t_ms": milliseconds since opening, ...fields}; fields are taken and may be NULL. False
 * when it could not be written. */
bool transcript_put(struct transcript *t, const char *event, json_t *fields);
void transcript_close(struct transcript *t);

#endif
