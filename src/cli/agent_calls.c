/* agent_calls.c - the calls of one answer: consent, the call itself, and its result as the model sees it.
 *
 * Whatever goes wrong with a call becomes its result, in words, so that the model can go on: a tool that
 * there is not, no consent, a server that is gone. What the model is not shown, it is told of: cut
 * results end in a mark with both sizes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/wire.h"
#include "cli/cmd_agent.h"

enum {
    RESULT_MOST = 256 << 10,
    REPEATS_MOST = 3, /* of one call, then the run is ended */
    SHOWN_MOST = 2000 /* bytes of arguments that are shown when consent is asked for */
};

struct outcome {
    const char *consent; /* static */
    char *text;          /* [n] owned */
    size_t n;
    bool error, cut;
    uint64_t whole_bytes, whole_tokens, tokens, wall_ns;
};

/* What we say in place of a tool, in the form that tools mostly use for it. */
static void say_error(struct outcome *o, const char *format, ...) ATTR_PRINTF(2, 3);
static void say_error(struct outcome *o, const char *format, ...) {
    char text[1200], clean[1200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    line_clean(text, strlen(text), clean, sizeof clean);
    json_t *doc = keep_json(json_pack("{s:s}", "error", clean));
    free(o->text);
    o->text = keep(json_dumps(doc, 0));
    o->n = strlen(o->text);
    o->error = true;
    json_decref(doc);
}

/* ------------------------------------------------------------------ consent */

/* One line from the terminal; its first letter, 0 at its end or for Ctrl-C. */
static char read_letter(void) {
    char first = 0, k;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, &k, 1);
        if (n < 0 && errno == EINTR && !interrupted())
            continue;
        if (n <= 0 || interrupted())
            return 0;
        if (k == '\n')
            return first ? first : '?';
        first = first || k == ' ' ? first : k;
    }
}

static void show_question(const struct agent *a, const struct tool *t, const char *arguments) {
    char clean[SHOWN_MOST];
    size_t n = strlen(arguments);
    line_clean(arguments, n, clean, sizeof clean);
    fprintf(stderr, "\n%s of '%s' wants to be called with %s%s\n", t->name, t->config->name, clean,
            n >= sizeof clean ? " ... (cut)" : "");
    if (n >= sizeof clean)
        fprintf(stderr, "(%zu bytes in all)\n", n);
    (void)a;
}

static const char *ask(struct agent *a, struct tool *t, const char *arguments) {
    out_flush(&a->c->out);
    show_question(a, t, arguments);
    for (;;) {
        fputs("[y] once  [a] always in this run  [n] no  [v] never in this run  [q] quit: ", stderr);
        switch (read_letter()) {
        case 'y':
            return "asked: once";
        case 'a':
            t->approved = true;
            return "asked: always";
        case 'n':
            return "refused: no";
        case 'v':
            t->refused = true;
            return "refused: never";
        case 'q':
        case 0:
            a->quit = true;
            return "refused: quit";
        default:
            break;
        }
    }
}

/* What was decided; begins with "refused" when the call must not be made. */
static const char *consent(struct agent *a, struct tool *t, const char *arguments) {
    const struct option_value *patterns = &a->c->options.values[OPT_APPROVE];
    if (t->refused)
        return "refused: never";
    if (opt_set(a->c, OPT_APPROVE_ALL))
        return "--yes";
    for (size_t i = 0; i < patterns->n; i++)
        if (tool_matches(t, patterns->all[i]))
            return "--approve";
    if (t->approved)
        return "approved";
    if (!a->c->term.in_tty || !a->c->term.err_tty)
        return "refused: no terminal";
    return ask(a, t, arguments);
}

static void tell_refusal(struct agent *a, const struct tool *t, struct outcome *o) {
    if (strcmp(o->consent, "refused: no terminal") == 0)
        note(a->c, "the call of %s was refused: there is no terminal to ask on (--approve '%s', --yes)",
             t->name, t->name);
    say_error(o, "permission denied by the user");
}

/* ------------------------------------------------------------------ results */

static void mark_cut(struct outcome *o, size_t kept) {
    char *text = text_printf("%.*s\n[cut here: %zu of %llu bytes are shown]", (int)kept, o->text, kept,
                             (unsigned long long)o->whole_bytes);
    free(o->text);
    o->text = text;
    o->n = strlen(text);
    o->cut = true;
}

/* Bytes of the text [n] that its first `most` tokens say. */
static slm_err bytes_of_tokens(const struct agent *a, const int32_t *ids, size_t most, const char *text,
                               size_t n, size_t *bytes, slm_why *why) {
    char *said = NULL;
    size_t n_said = 0, same = 0;
    slm_err err = slm_decode(a->m->engine, ids, most, false, &said, &n_said, why);
    while (err == SLM_OK && same < n && same < n_said && said[same] == text[same])
        same++;
    slm_free(a->m->engine, said);
    *bytes = result_cut(text, n, same);
    return err;
}

/* Keeps the text within the limits of bytes and tokens. */
static slm_err limit(struct agent *a, const struct tool *t, struct outcome *o, slm_why *why) {
    uint64_t most = t->config->result_bytes
                        ? t->config->result_bytes
                        : (uint64_t)opt_int(a->c, OPT_MAX_RESULT, RESULT_MOST);
    size_t share = slm_session_context(a->m->session) / 4;
    size_t tokens = (size_t)opt_int(a->c, OPT_RESULT_TOKENS, (int64_t)share);
    size_t kept = result_cut(o->text, o->n, most < o->n ? (size_t)most : o->n), n_ids = 0;
    int32_t *ids = NULL;
    o->whole_bytes = o->n;
    slm_err err = slm_encode(a->m->engine, o->text, kept, SLM_ENCODE_DATA, &ids, &n_ids, why);
    o->whole_tokens = o->tokens = n_ids;
    if (err == SLM_OK && n_ids > tokens) {
        err = bytes_of_tokens(a, ids, tokens, o->text, kept, &kept, why);
        o->tokens = tokens;
    }
    slm_free(a->m->engine, ids);
    if (err == SLM_OK && kept < o->n)
        mark_cut(o, kept);
    return err;
}

static int call(struct agent *a, struct tool *t, json_t *arguments, struct outcome *o) {
    struct mcp_result r;
    slm_why why;
    slm_err err = mcp_call(t->server, t->def, arguments, &r, &why);
    o->wall_ns = r.wall_ns;
    a->tools_ns += r.wall_ns;
    if (err == SLM_E_CANCELLED)
        return EXIT_INTERRUPTED;
    if (err != SLM_OK) {
        note(a->c, "%s", why.message);
        say_error(o, "%s", why.message);
        return EXIT_DONE;
    }
    if (!r.result) {
        say_error(o, "%s", r.message);
        return EXIT_DONE;
    }
    o->error = json_is_true(json_object_get(r.result, "isError"));
    o->text = result_text(r.result, &o->n);
    mcp_result_free(&r);
    err = limit(a, t, o, &why);
    return err == SLM_OK ? EXIT_DONE : report_error(a->c, AT_WORK, err, &why, NULL);
}

/* ------------------------------------------------------------------ one call */

static void list_names(const struct agent *a, char *text, size_t size) {
    size_t used = 0;
    *text = 0;
    for (size_t i = 0; i < a->box.n && used + 70 < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", a->box.tools[i].name);
}

/* How often this very call has been made before; counts it. */
static json_int_t repeats(struct agent *a, const char *name, json_t *arguments) {
    char *args = keep(json_dumps(arguments, JSON_COMPACT | JSON_SORT_KEYS));
    char *key = text_printf("%s %s", name, args);
    json_int_t before = json_integer_value(json_object_get(a->made, key));
    json_object_set_new(a->made, key, json_integer(before + 1));
    free(key);
    free(args);
    return before;
}

static void record(struct agent *a, const char *id, const char *name, json_t *arguments,
                   const struct tool *t, const struct outcome *o) {
    json_t *doc = keep_json(json_pack(
        "{s:I, s:s, s:s, s:s?, s:O, s:s?, s:s%, s:b, s:b, s:I, s:I, s:f}", "step", (json_int_t)a->step,
        "id", id, "name", name, "server", t ? t->config->name : NULL, "arguments", arguments, "consent",
        o->consent, "result", o->text, o->n, "error", o->error, "cut", o->cut, "bytes",
        (json_int_t)(o->cut ? o->whole_bytes : o->n), "tokens", (json_int_t)o->tokens, "wall_ms",
        (double)o->wall_ns / 1e6));
    json_array_append(a->calls, doc);
    transcript_put(&a->transcript, "result", doc);
}

static int decide(struct agent *a, const char *id, const char *name, struct tool *t, json_t *arguments,
                  struct outcome *o) {
    char names[900];
    json_int_t before = repeats(a, name, arguments);
    if (!t) {
        list_names(a, names, sizeof names);
        say_error(o, "there is no tool '%.64s'; the tools are: %s", name, names);
    } else if (before && !opt_set(a->c, OPT_ALLOW_REPEATS)) {
        say_error(o, "this call was made before with the same arguments; its result stands above");
    } else {
        char *shown = keep(json_dumps(arguments, JSON_COMPACT));
        o->consent = consent(a, t, shown);
        free(shown);
        transcript_put(&a->transcript, "consent",
                       json_pack("{s:I, s:s, s:s, s:s}", "step", (json_int_t)a->step, "id", id, "name",
                                 t->name, "decision", o->consent));
        if (strncmp(o->consent, "refused", 7) != 0)
            return call(a, t, arguments, o);
        tell_refusal(a, t, o);
        return interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
    }
    if (before + 1 >= REPEATS_MOST && !opt_set(a->c, OPT_ALLOW_REPEATS))
        return report(a->c, EXIT_COULD_NOT, "E_BUDGET",
                      "--allow-repeats    for tools whose answers change",
                      "the model has made the same call %lld times: %.64s", (long long)before + 1, name);
    return EXIT_DONE;
}

static int make_call(struct agent *a, json_t *one) {
    const json_t *function = json_object_get(one, "function");
    const char *name = json_string_value(json_object_get(function, "name"));
    const char *id = json_string_value(json_object_get(one, "id"));
    const char *text = json_string_value(json_object_get(function, "arguments"));
    struct tool *t = toolbox_find(&a->box, name, strlen(name));
    struct outcome o = { .consent = NULL };
    json_t *arguments = json_loads(text, 0, NULL);
    arguments = json_is_object(arguments) ? arguments : keep_json(json_object());
    int code = decide(a, id, name, t, arguments, &o);
    if (code == EXIT_DONE) {
        record(a, id, name, arguments, t, &o);
        json_array_append_new(a->messages,
                              keep_json(json_pack("{s:s, s:s, s:s, s:s%}", "role", "tool", "tool_call_id",
                                                  id, "name", name, "content", o.text, o.n)));
        if (o.cut)
            note(a->c, "the result of %s is cut: %zu of %llu bytes", name, o.n,
                 (unsigned long long)o.whole_bytes);
    }
    free(o.text);
    json_decref(arguments);
    return code;
}

int agent_make_calls(struct agent *a, json_t *calls) {
    size_t i;
    json_t *one;
    json_array_foreach(calls, i, one) {
        int code = make_call(a, one);
        if (code != EXIT_DONE)
            return code;
        if (a->transcript.failed)
            return report(a->c, EXIT_COULD_NOT, "E_IO", NULL, "cannot write %s: %s", a->transcript.path,
                          strerror(a->transcript.failed));
        if (a->quit)
            return EXIT_INTERRUPTED;
    }
    return EXIT_DONE;
}
