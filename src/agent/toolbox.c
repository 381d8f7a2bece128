/* toolbox.c - the tools of several servers as one list with names of its own. */
#include "agent/toolbox.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "cli/cli.h"

enum { NAME_MOST = 64 };

slm_err toolbox_open(struct toolbox *box, const struct mcp_host *host, slm_why *why) {
    slm_err err = SLM_OK;
    for (size_t i = 0; i < box->file.n && err == SLM_OK; i++)
        if (!box->file.servers[i].disabled)
            err = mcp_open(&box->file.servers[i], host, &box->servers[i], why);
    return err;
}

/* ------------------------------------------------------------------ names */

static bool name_char(char k) {
    return (k >= 'a' && k <= 'z') || (k >= 'A' && k <= 'Z') || (k >= '0' && k <= '9') || k == '_' ||
           k == '-';
}

static bool good_name(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!name_char(name[i]))
            return false;
    return n > 0 && n <= NAME_MOST;
}

static size_t times(const struct toolbox *box, const char *own) {
    size_t k = 0;
    for (size_t i = 0; i < box->n; i++)
        k += strcmp(box->tools[i].own, own) == 0;
    return k;
}

static bool taken(const struct toolbox *box, const char *name) {
    for (size_t i = 0; i < box->n; i++)
        if (box->tools[i].name && strcmp(box->tools[i].name, name) == 0)
            return true;
    return false;
}

/* server__tool in permitted characters, with a number where that is taken. Returns owned. */
static char *long_name(const struct toolbox *box, const struct tool *t) {
    char base[NAME_MOST + 1], name[NAME_MOST + 1];
    int room = (int)(strlen(t->own) < 40 ? 62 - strlen(t->own) : 22);
    snprintf(base, sizeof base, "%.*s__%s", room, t->config->name, t->own);
    for (char *p = base; *p; p++)
        *p = name_char(*p) ? *p : '_';
    snprintf(name, sizeof name, "%s", base);
    for (unsigned k = 2; taken(box, name); k++)
        snprintf(name, sizeof name, "%.*s_%u", NAME_MOST - 6, base, k);
    return keep(strdup(name));
}

static void give_names(struct toolbox *box) {
    for (size_t i = 0; i < box->n; i++)
        if (good_name(box->tools[i].own) && times(box, box->tools[i].own) == 1)
            box->tools[i].name = keep(strdup(box->tools[i].own));
    for (size_t i = 0; i < box->n; i++)
        if (!box->tools[i].name)
            box->tools[i].name = long_name(box, &box->tools[i]);
}

/* ------------------------------------------------------------------ filling */

static void free_tools(struct tool *tools, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(tools[i].name);
        json_decref(tools[i].def);
    }
    free(tools);
}

static bool approved_by(const struct mcp_config *c, const char *own) {
    for (size_t i = 0; i < c->n_approved; i++)
        if (strcmp(c->approved[i], "*") == 0 || strcmp(c->approved[i], own) == 0)
            return true;
    return false;
}

static void add_tool(struct toolbox *box, size_t server, json_t *def) {
    const char *own = json_string_value(json_object_get(def, "name"));
    box->tools = keep(realloc(box->tools, (box->n + 1) * sizeof *box->tools));
    box->tools[box->n++] = (struct tool){ .own = own,
                                          .def = json_incref(def),
                                          .server = box->servers[server],
                                          .config = &box->file.servers[server],
                                          .approved = approved_by(&box->file.servers[server], own) };
}

/* A server that lists a name twice has its second one left out. */
static bool listed(const struct toolbox *box, const struct mcp *server, const json_t *def) {
    const char *own = json_string_value(json_object_get(def, "name"));
    for (size_t i = 0; i < box->n; i++)
        if (box->tools[i].server == server && strcmp(box->tools[i].own, own) == 0)
            return true;
    return false;
}

bool tool_matches(const struct tool *t, const char *pattern) {
    char whole[256];
    snprintf(whole, sizeof whole, "%s/%s", t->config->name, t->own);
    return fnmatch(pattern, t->name, 0) == 0 || fnmatch(pattern, whole, 0) == 0;
}

static bool matches_any(const struct tool *t, const char *const *patterns, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (tool_matches(t, patterns[i]))
            return true;
    return false;
}

static void check_patterns(const struct toolbox *box, const char *const *patterns, size_t n,
                           void (*warn)(void *, const char *), void *user) {
    char text[200];
    for (size_t i = 0; i < n; i++) {
        bool used = false;
        for (size_t k = 0; k < box->n && !used; k++)
            used = tool_matches(&box->tools[k], patterns[i]);
        snprintf(text, sizeof text, "no tool is called '%.100s'", patterns[i]);
        if (!used && warn)
            warn(user, text);
    }
}

void toolbox_drop(struct toolbox *box, struct tool *t) {
    size_t at = (size_t)(t - box->tools);
    free(t->name);
    json_decref(t->def);
    memmove(t, t + 1, (box->n - at - 1) * sizeof *t);
    box->n--;
}

static void choose(struct toolbox *box, const struct tool_choice *choice) {
    for (size_t i = box->n; i-- > 0;) {
        struct tool *t = &box->tools[i];
        if ((choice->n_allow && !matches_any(t, choice->allow, choice->n_allow)) ||
            matches_any(t, choice->deny, choice->n_deny))
            toolbox_drop(box, t);
    }
}

static void keep_decisions(struct toolbox *box, const struct tool *old, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < box->n; k++)
            if (box->tools[k].config == old[i].config && strcmp(box->tools[k].own, old[i].own) == 0 &&
                json_equal(box->tools[k].def, old[i].def)) { /* a tool that changed is another one */
                box->tools[k].approved |= old[i].approved;
                box->tools[k].refused |= old[i].refused;
            }
}

slm_err toolbox_fill(struct toolbox *box, const struct tool_choice *choice,
                     void (*warn)(void *user, const char *text), void *user, slm_why *why) {
    struct tool *old = box->tools;
    size_t n_old = box->n;
    slm_err err = SLM_OK;
    box->tools = NULL;
    box->n = 0;
    for (size_t i = 0; i < box->file.n && err == SLM_OK; i++) {
        json_t *list = NULL, *def;
        size_t k;
        if (!box->servers[i])
            continue;
        err = mcp_tools(box->servers[i], &list, why);
        json_array_foreach(list, k, def)
            if (!listed(box, box->servers[i], def))
                add_tool(box, i, def);
            else if (warn)
                warn(user, "a server lists two tools of one name; the second is left out");
        json_decref(list);
    }
    give_names(box);
    box->offered = box->n;
    check_patterns(box, choice->allow, choice->n_allow, warn, user);
    check_patterns(box, choice->deny, choice->n_deny, warn, user);
    choose(box, choice);
    keep_decisions(box, old, n_old);
    free_tools(old, n_old);
    return err;
}

bool toolbox_changed(struct toolbox *box) {
    bool changed = false;
    for (size_t i = 0; i < box->file.n; i++)
        changed |= box->servers[i] && mcp_changed(box->servers[i]);
    return changed;
}

/* ------------------------------------------------------------------ using */

struct tool *toolbox_find(struct toolbox *box, const char *name, size_t n) {
    for (size_t i = 0; i < box->n; i++)
        if (strlen(box->tools[i].name) == n && memcmp(box->tools[i].name, name, n) == 0)
            return &box->tools[i];
    return NULL;
}

json_t *tool_json(const struct tool *t) {
    const json_t *words = json_object_get(t->def, "description");
    if (!json_is_string(words) || !json_string_length(words))
        words = json_object_get(t->def, "title");
    json_t *function = keep_json(json_pack("{s:s}", "name", t->name));
    if (json_is_string(words))
        json_object_set(function, "description", (json_t *)words);
    json_object_set(function, "parameters", json_object_get(t->def, "inputSchema"));
    return keep_json(json_pack("{s:s, s:o}", "type", "function", "function", function));
}

json_t *toolbox_json(const struct toolbox *box, const struct tool *without) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < box->n; i++)
        if (&box->tools[i] != without)
            json_array_append_new(list, tool_json(&box->tools[i]));
    return list;
}

void toolbox_close(struct toolbox *box) {
    free_tools(box->tools, box->n);
    for (size_t i = 0; i < box->file.n; i++)
        mcp_close(box->servers[i]);
    mcp_config_free(&box->file);
    memset(box, 0, sizeof *box);
}
