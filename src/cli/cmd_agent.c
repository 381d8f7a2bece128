/* cmd_agent.c - `slm agent MODEL --mcp FILE PROMPT`: the model answers with the help of tools.
 *
 * One session answers all steps, so that a step evaluates what is new since the last one. The calls of
 * an answer are made in its order, one after the other; an answer without calls is the last. */
#include "cli/cmd_agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"

enum { STEPS_MOST = 16, PROMPT_MOST = 64 << 20 };

/* ------------------------------------------------------------------ notes of servers */

static void on_note(void *user, const char *server, enum mcp_note kind, const char *text) {
    struct agent *a = user;
    static const char *const names[] = { "warning", "log", "stderr", "progress", "news" };
    bool shown = kind == MCP_WARNING || kind == MCP_NEWS || opt_set(a->c, OPT_SERVER_LOG);
    if (shown)
        note(a->c, "%s: %s", server, text);
    transcript_put(&a->transcript, "note",
                   json_pack("{s:s, s:s, s:s}", "server", server, "kind", names[kind], "text", text));
}

static void on_warning(void *user, const char *text) {
    note(((struct agent *)user)->c, "%s", text);
}

static int written(struct agent *a) {
    if (!a->transcript.failed)
        return EXIT_DONE;
    return report(a->c, EXIT_COULD_NOT, "E_IO", NULL, "cannot write %s: %s", a->transcript.path,
                  strerror(a->transcript.failed));
}

/* ------------------------------------------------------------------ setting up */

static const char *environment(const char *name) {
    return getenv(name);
}

static int read_config(struct agent *a) {
    const char *path = opt_text(a->c, OPT_MCP);
    size_t n;
    slm_why why;
    if (!path)
        return report_usage(a->c, "--mcp FILE    {\"mcpServers\": {...}}", "there are no servers: --mcp FILE");
    char *text = read_path(path, MCP_CONFIG_MOST, &n);
    if (!text)
        return report(a->c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read %s: %s", path, strerror(errno));
    slm_err err = mcp_config_read(text, n, environment, on_warning, a, &a->box.file, &why);
    free(text);
    if (err != SLM_OK)
        return report(a->c, EXIT_COULD_NOT, slm_err_name(err), NULL, "%s: %s", path, why.message);
    for (size_t i = 0; i < a->box.file.n; i++)
        if (!a->box.file.servers[i].disabled)
            return EXIT_DONE;
    return report(a->c, EXIT_COULD_NOT, "E_NOTFOUND", NULL, "%s: no server that is not disabled", path);
}

static int fill(struct agent *a) {
    const struct option_value *allow = &a->c->options.values[OPT_ALLOW_TOOL];
    const struct option_value *deny = &a->c->options.values[OPT_DENY_TOOL];
    struct tool_choice choice = { allow->all, deny->all, allow->n, deny->n };
    slm_why why;
    slm_err err = toolbox_fill(&a->box, &choice, on_warning, a, &why);
    return err == SLM_OK ? agent_take_tools(a) : report_error(a->c, AT_WORK, err, &why, NULL);
}

static json_t *tools_event(const struct agent *a) {
    json_t *list = keep_json(json_array());
    for (size_t i = 0; i < a->box.n; i++) {
        const struct tool *t = &a->box.tools[i];
        json_t *row = tool_json(t);
        json_object_set_new(row, "server", json_string(t->config->name));
        json_object_set_new(row, "tokens", json_integer((json_int_t)t->tokens));
        json_array_append_new(list, row);
    }
    return keep_json(json_pack("{s:o, s:I, s:I}", "tools", list, "tokens", (json_int_t)a->tools_tokens,
                               "context", (json_int_t)slm_session_context(a->m->session)));
}

static void tell_servers(struct agent *a) {
    for (size_t i = 0; i < a->box.file.n; i++)
        if (a->box.servers[i])
            transcript_put(&a->transcript, "server",
                           json_pack("{s:s, s:s, s:s}", "name", mcp_name(a->box.servers[i]), "title",
                                     mcp_title(a->box.servers[i]), "protocol",
                                     mcp_version(a->box.servers[i])));
}

/* Measures and shows the costs where somebody looks at them. */
static int take_stock(struct agent *a) {
    bool whole = opt_set(a->c, OPT_TOOLS_COST), show = a->c->term.err_tty && !a->c->quiet;
    int code = whole || show || a->transcript.fd >= 0 ? agent_measure(a) : EXIT_DONE;
    if (code != EXIT_DONE)
        return code;
    if (whole || show)
        agent_print_costs(a, whole);
    uint32_t context = slm_session_context(a->m->session);
    if (!whole && a->tools_tokens > context / 2)
        note(a->c, "the tools take %zu tokens of a context of %u (--context N, --allow-tool PATTERN)",
             a->tools_tokens, (unsigned)context);
    transcript_put(&a->transcript, "tools", tools_event(a));
    return written(a);
}

static int open_servers(struct agent *a) {
    struct mcp_host host = { on_note, a };
    slm_why why;
    slm_err err = toolbox_open(&a->box, &host, &why);
    if (err != SLM_OK)
        return report_error(a->c, AT_WORK, err, &why,
                            err == SLM_E_CANCELLED ? NULL : "\"disabled\": true    goes on without it");
    tell_servers(a);
    return fill(a);
}

static int open_transcript(struct agent *a, const struct buf *prompt) {
    const char *path = opt_text(a->c, OPT_TRANSCRIPT);
    char now[32] = "";
    time_t t = time(NULL);
    struct tm tm;
    a->transcript.fd = -1;
    if (!path)
        return EXIT_DONE;
    int failed = transcript_open(&a->transcript, path);
    if (failed)
        return report(a->c, EXIT_COULD_NOT, "E_IO", NULL, "cannot write %s: %s", path, strerror(failed));
    if (gmtime_r(&t, &tm))
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    transcript_put(&a->transcript, "start",
                   json_pack("{s:s, s:s, s:s, s:s%}", "time", now, "slm", SLM_VERSION, "model",
                             a->c->options.args[0], "prompt", prompt->data, prompt->len));
    return written(a);
}

/* ------------------------------------------------------------------ one step */

static int report_full(struct agent *a, size_t tokens) {
    char n[32], have[32], tools[120] = "";
    uint32_t context = slm_session_context(a->m->session);
    if (!a->tools_tokens)
        agent_measure(a);
    if (a->tools_tokens)
        snprintf(tools, sizeof tools, "--allow-tool PATTERN    the tools take %zu of them (--tools-cost)\n",
                 a->tools_tokens);
    char *ways = text_printf("%s%s--result-tokens N    shorter results\n"
                             "slm models    another model (this one ends at %u)",
                             context < a->m->info.context ? "--context N\n" : "", tools,
                             (unsigned)a->m->info.context);
    int code = report(a->c, EXIT_COULD_NOT, "E_CONTEXT", ways,
                      "the prompt of step %u has %s tokens, the context holds %s; nothing was dropped",
                      a->step, format_count(tokens, n, sizeof n),
                      format_count(context, have, sizeof have));
    free(ways);
    return code;
}

static void add_usage(struct agent *a, const slm_result *r) {
    a->prompt_tokens += r->prompt_tokens;
    a->cached_tokens += r->reused_tokens;
    a->output_tokens += r->output_tokens;
    a->prefill_ns += r->prefill_ns;
    a->decode_ns += r->decode_ns;
}

/* Ids that no other call of the run has. */
static void number_calls(struct agent *a, json_t *calls) {
    char id[48];
    size_t i;
    json_t *one;
    json_array_foreach(calls, i, one) {
        snprintf(id, sizeof id, "call_%u_%zu", a->step, i + 1);
        json_object_set_new(one, "id", json_string(id));
    }
}

/* The answer becomes part of the conversation. */
static void take_answer(struct agent *a, const struct speaker *s, const slm_result *r) {
    json_t *message = keep_json(json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                          s->answer.len ? s->answer.data : "", s->answer.len));
    if (s->reasoning.len)
        json_object_set_new(message, "reasoning_content",
                            json_stringn(s->reasoning.data, s->reasoning.len));
    if (json_array_size(s->calls))
        json_object_set(message, "tool_calls", s->calls);
    json_t *event = keep_json(json_object());
    json_object_set_new(event, "step", json_integer((json_int_t)a->step));
    json_object_set(event, "message", message);
    add_receipt(event, a->c, a->m, r);
    transcript_put(&a->transcript, "answer", event);
    json_array_append_new(a->messages, message);
    a->told = json_array_size(a->messages);
}

static void tell_request(struct agent *a) {
    json_t *fresh = keep_json(json_array());
    for (; a->told < json_array_size(a->messages); a->told++)
        json_array_append(fresh, json_array_get(a->messages, a->told));
    transcript_put(&a->transcript, "request",
                   json_pack("{s:I, s:o}", "step", (json_int_t)a->step, "new_messages", fresh));
}

/* The prompt of a step. What there is to say about it is said once, not at every step. */
static int make_prompt(struct agent *a, slm_prompt **out) {
    slm_prompt_info info = { .size = sizeof info };
    slm_why why;
    size_t n;
    char *text = request_text(a->m, a->messages, a->think, &a->asking, &n);
    slm_err err = slm_prompt_make(a->m->engine, text, n, &a->options.render, out, &why);
    free(text);
    if (err != SLM_OK)
        return report_error(a->c, AT_WORK, err, &why, NULL);
    if (slm_prompt_get(*out, &info) == SLM_OK && info.warnings &&
        (!a->warnings || strcmp(a->warnings, info.warnings) != 0)) {
        for (const char *line = info.warnings; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL))
            note(a->c, "%.*s", (int)strcspn(line, "\n"), line);
        free(a->warnings);
        a->warnings = keep(strdup(info.warnings));
    }
    return EXIT_DONE;
}

/* One answer of the model. *calls: new reference to its calls. */
static int answer(struct agent *a, struct speaker *s, slm_result *r, json_t **calls) {
    slm_prompt *prompt = NULL;
    slm_why why;
    int code = make_prompt(a, &prompt);
    if (code != EXIT_DONE)
        return code;
    slm_generate_options o = a->options;
    o.prompt = prompt;
    o.on_text = speaker_text;
    o.on_call = speaker_call;
    o.on_prefill = speaker_prefill;
    o.user = s;
    signals_watch(a->m->session);
    slm_err err = slm_chat(a->m->session, NULL, 0, &o, r, &why);
    signals_watch(NULL);
    slm_prompt_free(prompt);
    speaker_end(s);
    add_usage(a, r);
    if (err == SLM_E_CONTEXT && r->prompt_tokens)
        return report_full(a, r->prompt_tokens);
    if (err != SLM_OK)
        return report_error(a->c, AT_WORK, err, &why, NULL);
    number_calls(a, s->calls);
    take_answer(a, s, r);
    note_finish(a->c, a->m, r);
    if (r->malformed_calls)
        note(a->c, "%zu calls of the model cannot be read and stand in its text", r->malformed_calls);
    *calls = json_incref(s->calls);
    return interrupted() ? EXIT_INTERRUPTED : written(a);
}

static void show_calls(const struct agent *a, const json_t *calls) {
    size_t i;
    json_t *one;
    json_array_foreach(calls, i, one) {
        const json_t *f = json_object_get(one, "function");
        note(a->c, "call %s %.300s", json_string_value(json_object_get(f, "name")),
             json_string_value(json_object_get(f, "arguments")));
    }
}

static int refresh(struct agent *a) {
    if (!toolbox_changed(&a->box))
        return EXIT_DONE;
    note(a->c, "the tools have changed");
    int code = fill(a);
    a->tools_tokens = 0;
    transcript_put(&a->transcript, "tools", tools_event(a));
    return code;
}

/* ------------------------------------------------------------------ the end */

static void print_json(struct agent *a, const struct speaker *s, const slm_result *r) {
    json_t *doc = keep_json(json_object());
    json_object_set_new(doc, "answer", keep_json(json_stringn(s->answer.len ? s->answer.data : "", s->answer.len)));
    json_object_set_new(doc, "reasoning",
                        s->reasoning.len ? json_stringn(s->reasoning.data, s->reasoning.len) : json_null());
    json_object_set_new(doc, "steps", json_integer((json_int_t)a->step));
    json_object_set(doc, "calls", a->calls);
    add_receipt(doc, a->c, a->m, r);
    json_object_set_new(doc, "total",
                        keep_json(json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "prompt_tokens",
                                            (json_int_t)a->prompt_tokens, "cached_tokens",
                                            (json_int_t)a->cached_tokens, "output_tokens",
                                            (json_int_t)a->output_tokens, "prefill_ms",
                                            (double)a->prefill_ns / 1e6, "decode_ms",
                                            (double)a->decode_ns / 1e6, "tools_ms",
                                            (double)a->tools_ns / 1e6)));
    out_json(&a->c->out, doc, false);
}

/* Steps until there are no calls. s and r are those of the last answer. */
static int work(struct agent *a, struct speaker *s, slm_result *r) {
    bool stream = !a->c->json && (a->c->term.out_tty || opt_set(a->c, OPT_SHOW_THINKING));
    int64_t most = opt_int(a->c, OPT_MAX_STEPS, STEPS_MOST);
    for (;;) {
        json_t *calls = NULL;
        a->step++;
        tell_request(a);
        speaker_free(s);
        speaker_init(s, a->c, stream);
        int code = answer(a, s, r, &calls);
        bool done = json_array_size(calls) == 0;
        if (code == EXIT_DONE && !done && a->step >= most)
            code = report(a->c, EXIT_COULD_NOT, "E_BUDGET", "--max-steps N",
                          "the model still calls tools after %u steps, --max-steps is %lld", a->step,
                          (long long)most);
        if (code == EXIT_DONE && !done && !stream)
            show_calls(a, calls);
        if (code == EXIT_DONE && !done)
            code = agent_make_calls(a, calls);
        json_decref(calls);
        if (code == EXIT_DONE && !done)
            code = refresh(a);
        if (code != EXIT_DONE || done)
            return code;
    }
}

static int finish(struct agent *a, const struct speaker *s, const slm_result *r) {
    if (a->c->json) {
        print_json(a, s, r);
    } else if (!s->stream) {
        const char *text = s->answer.len ? s->answer.data : "";
        size_t skip = s->reasoning.len ? strspn(text, "\n") : 0; /* empty lines after the reasoning */
        out_write(&a->c->out, text + skip, s->answer.len - skip);
        if (s->answer.len > skip && text[s->answer.len - 1] != '\n')
            out_text(&a->c->out, "\n");
    }
    return EXIT_DONE;
}

static int converse(struct agent *a) {
    struct speaker s;
    slm_result r = { .size = sizeof r };
    speaker_init(&s, a->c, false);
    int code = work(a, &s, &r);
    if (code == EXIT_DONE)
        code = finish(a, &s, &r);
    speaker_free(&s);
    return code;
}

static int start(struct agent *a, const struct buf *prompt) {
    const char *system = opt_text(a->c, OPT_SYSTEM);
    if ((system && !add_message(a->c, a->messages, "system", system, strlen(system))) ||
        !add_message(a->c, a->messages, "user", prompt->data, prompt->len))
        return EXIT_COULD_NOT;
    int code = read_config(a);
    if (code == EXIT_DONE)
        code = model_open(a->c, a->c->options.args[0], SLM_ALL, SLM_ALL, a->m);
    a->think = think_option(a->c);
    if (code == EXIT_DONE && !a->m->info.tools)
        code = report(a->c, EXIT_COULD_NOT, "E_UNSUPPORTED", "slm models    which models take tools",
                      "%s was not made to call tools", model_title(a->m));
    if (code == EXIT_DONE)
        code = think_check(a->c, a->m, a->think);
    if (code == EXIT_DONE)
        code = answer_options(a->c, a->m, a->think, &a->options);
    if (code == EXIT_DONE)
        code = model_session(a->c, a->m);
    return code;
}

static int run(struct agent *a, const struct buf *prompt) {
    int code = start(a, prompt);
    if (code == EXIT_DONE)
        code = open_transcript(a, prompt);
    if (code != EXIT_DONE)
        return code;
    note_model(a->c, a->m);
    signals_servers(true);
    code = open_servers(a);
    if (code == EXIT_DONE)
        code = take_stock(a);
    if (code == EXIT_DONE && !opt_set(a->c, OPT_TOOLS_COST))
        code = converse(a);
    transcript_put(&a->transcript, "end",
                   json_pack("{s:i, s:I}", "exit_code", code, "steps", (json_int_t)a->step));
    out_flush(&a->c->out);
    return code;
}

int cmd_agent(struct cli *c) {
    struct loaded m = { 0 };
    struct agent a = { .c = c, .m = &m };
    struct buf prompt;
    a.transcript.fd = -1;
    a.messages = keep_json(json_array());
    a.calls = keep_json(json_array());
    a.made = keep_json(json_object());
    buf_init(&prompt, NULL, PROMPT_MOST);
    int code = EXIT_DONE;
    if (opt_set(c, OPT_TOOLS_COST) && c->options.n_args < 2)
        buf_puts(&prompt, "?");
    else
        code = gather_prompt(c, &prompt);
    if (code == EXIT_DONE)
        code = run(&a, &prompt);
    toolbox_close(&a.box);
    signals_servers(false);
    transcript_close(&a.transcript);
    asking_free(&a.asking);
    free(a.warnings);
    json_decref(a.messages);
    json_decref(a.calls);
    json_decref(a.made);
    model_close(&m);
    buf_free(&prompt);
    return code;
}
