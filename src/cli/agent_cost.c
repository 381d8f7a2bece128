/* agent_cost.c - what tools cost: each of them takes its place in every prompt of a run.
 *
 * Counted, not estimated: the prompt is made as it will be, with all tools, with none, and with all but
 * each one. What is left is the frame, the words around the list. */
#include <stdlib.h>
#include <string.h>

#include "cli/cmd_agent.h"

enum { TABLE_SHORT = 12, TOOLS_MEASURED = 256 };

/* Whether some of the text would be control tokens of the model: a server could end its own description
 * with them and go on in another's name. */
static int has_control(const struct agent *a, const json_t *def, bool *has) {
    char *text = keep(json_dumps(def, JSON_COMPACT));
    int32_t *ids[2] = { NULL, NULL };
    size_t n[2];
    slm_why why;
    slm_err err = slm_encode(a->m->engine, text, strlen(text), 0, &ids[0], &n[0], &why);
    if (err == SLM_OK)
        err = slm_encode(a->m->engine, text, strlen(text), SLM_ENCODE_DATA, &ids[1], &n[1], &why);
    *has = err == SLM_OK && (n[0] != n[1] || memcmp(ids[0], ids[1], n[0] * sizeof **ids) != 0);
    slm_free(a->m->engine, ids[0]);
    slm_free(a->m->engine, ids[1]);
    free(text);
    return err == SLM_OK ? EXIT_DONE : report_error(a->c, AT_WORK, err, &why, NULL);
}

int agent_take_tools(struct agent *a) {
    char ways[200];
    int code = EXIT_DONE;
    for (size_t i = a->box.n; i-- > 0 && code == EXIT_DONE;) {
        json_t *def = tool_json(&a->box.tools[i]);
        bool has = false;
        code = has_control(a, def, &has);
        json_decref(def);
        if (!has)
            continue;
        note(a->c, "the tool %s of '%s' is left out: its description holds control tokens of the model",
             a->box.tools[i].name, a->box.tools[i].config->name);
        toolbox_drop(&a->box, &a->box.tools[i]);
    }
    if (code != EXIT_DONE)
        return code;
    int64_t most = opt_int(a->c, OPT_MAX_TOOLS, 0);
    snprintf(ways, sizeof ways,
             "--allow-tool PATTERN, --deny-tool PATTERN    choose\n--max-tools %zu\n"
             "--tools-cost    what each costs",
             a->box.n);
    if (most && a->box.n > (uint64_t)most)
        return report(a->c, EXIT_COULD_NOT, "E_BUDGET", ways,
                      "there are %zu tools, --max-tools is %lld; none was left out", a->box.n,
                      (long long)most);
    if (!a->box.n)
        return report(a->c, EXIT_COULD_NOT, "E_NOTFOUND",
                      a->box.offered ? "--allow-tool PATTERN, --deny-tool PATTERN" : NULL,
                      "there are no tools: the servers have %zu, none is chosen", a->box.offered);
    json_decref(a->asking.tools);
    a->asking.tools = toolbox_json(&a->box, NULL);
    return EXIT_DONE;
}

/* Tokens of the prompt with these tools; NULL: none. */
static slm_err count(const struct agent *a, json_t *tools, size_t *n, slm_why *why) {
    struct asking asking = { .tools = tools };
    slm_prompt *prompt = NULL;
    slm_prompt_info info = { .size = sizeof info };
    size_t size;
    char *request = request_text(a->m, a->messages, a->think, &asking, &size);
    slm_err err = slm_prompt_make(a->m->engine, request, size, &a->options.render, &prompt, why);
    free(request);
    if (err == SLM_OK)
        err = slm_prompt_get(prompt, &info);
    *n = info.n;
    slm_prompt_free(prompt);
    return err;
}

int agent_measure(struct agent *a) {
    size_t all = 0, none = 0, sum = 0;
    slm_why why;
    slm_err err = count(a, a->asking.tools, &all, &why);
    if (err == SLM_OK)
        err = count(a, NULL, &none, &why);
    for (size_t i = 0; i < a->box.n && i < TOOLS_MEASURED && err == SLM_OK; i++) {
        json_t *rest = toolbox_json(&a->box, &a->box.tools[i]);
        size_t n = 0;
        err = a->box.n > 1 ? count(a, rest, &n, &why) : SLM_OK;
        json_decref(rest);
        struct tool *t = &a->box.tools[i];
        t->tokens = a->box.n > 1 && all > n ? all - n : 0;
        sum += t->tokens;
    }
    if (err != SLM_OK)
        return report_error(a->c, AT_WORK, err, &why, NULL);
    a->tools_tokens = all > none ? all - none : 0;
    if (a->box.n == 1)
        a->box.tools[0].tokens = sum = a->tools_tokens;
    a->frame_tokens = a->tools_tokens > sum ? a->tools_tokens - sum : 0;
    return EXIT_DONE;
}

static void print_json(struct agent *a) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < a->box.n; i++) {
        const struct tool *t = &a->box.tools[i];
        json_array_append_new(list, keep_json(json_pack("{s:s, s:s, s:s, s:I}", "name", t->name, "server",
                                                        t->config->name, "tool", t->own, "tokens",
                                                        (json_int_t)t->tokens)));
    }
    out_json(&a->c->out,
             keep_json(json_pack("{s:o, s:I, s:I, s:I}", "tools", list, "frame_tokens",
                                 (json_int_t)a->frame_tokens, "tokens", (json_int_t)a->tools_tokens,
                                 "context", (json_int_t)slm_session_context(a->m->session))),
             false);
}

static int by_tokens(const void *x, const void *y) {
    const struct tool *const *p = x, *const *q = y;
    if ((*p)->tokens != (*q)->tokens)
        return (*p)->tokens < (*q)->tokens ? 1 : -1;
    return *p < *q ? -1 : 1;
}

static void print_row(struct agent *a, bool out, const char *name, const char *server, size_t tokens) {
    char n[32], line[200];
    double share = 100.0 * (double)tokens / slm_session_context(a->m->session);
    snprintf(line, sizeof line, "  %8s  %5.1f %%  %-32s %s\n", format_count(tokens, n, sizeof n), share,
             name, server);
    for (size_t k = strlen(line); k > 1 && line[k - 2] == ' '; k--)
        line[k - 2] = '\n', line[k - 1] = 0;
    if (out)
        out_text(&a->c->out, line);
    else
        fputs(line, stderr);
}

void agent_print_costs(struct agent *a, bool whole) {
    if (a->c->json && whole) {
        print_json(a);
        return;
    }
    const struct tool **order = keep(calloc(a->box.n + 1, sizeof *order));
    char rest[64];
    size_t others = 0, shown = whole || a->box.n <= TABLE_SHORT ? a->box.n : TABLE_SHORT - 2;
    for (size_t i = 0; i < a->box.n; i++)
        order[i] = &a->box.tools[i];
    qsort(order, a->box.n, sizeof *order, by_tokens);
    print_row(a, whole, "all tools, of the context", "", a->tools_tokens);
    for (size_t i = 0; i < shown; i++)
        print_row(a, whole, order[i]->name, order[i]->config->name, order[i]->tokens);
    for (size_t i = shown; i < a->box.n; i++)
        others += order[i]->tokens;
    snprintf(rest, sizeof rest, "%zu others (--tools-cost)", a->box.n - shown);
    if (shown < a->box.n)
        print_row(a, whole, rest, "", others);
    print_row(a, whole, "words around them", "", a->frame_tokens);
    free(order);
}
