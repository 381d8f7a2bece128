/* asking.c - what is asked of a model beside its messages: tools, whether they are called, and what the
 * answer has to be; and the request made of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

enum { ASKING_MOST = 16 << 20 };

/* A JSON document of an option's file. Exit code after a report. */
static int read_json(struct cli *c, enum option_id id, json_t **out) {
    const char *path = opt_text(c, id);
    size_t n;
    slm_why why;
    char *text = read_path(path, ASKING_MOST, &n);
    if (!text)
        return report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read the %s file %s: %s",
                      option_table[id].name, path, strerror(errno));
    slm_err err = json_text(text, n, out, &why);
    free(text);
    return err == SLM_OK
               ? EXIT_DONE
               : report(c, EXIT_COULD_NOT, slm_err_name(err), NULL, "%s: %s", path, why.message);
}

/* ------------------------------------------------------------------ tools */

/* Does the template show tools at all? One that leaves them out silently would mislead. */
static bool template_takes_tools(const struct loaded *m, json_t *tools) {
    json_t *messages = keep_json(json_pack("[{s:s, s:s}]", "role", "user", "content", "Hello"));
    char *text[2] = { NULL, NULL };
    size_t size[2] = { 0, 0 };
    bool known = true;
    for (int i = 0; i < 2; i++) {
        json_t *request = keep_json(json_pack("{s:O, s:{}}", "messages", messages, "kwargs"));
        if (i)
            json_object_set(json_object_get(request, "kwargs"), "tools", tools);
        char *dump = keep(json_dumps(request, JSON_COMPACT));
        known = known && slm_render(m->engine, dump, strlen(dump), NULL, &text[i], &size[i],
                                    NULL) == SLM_OK;
        free(dump);
        json_decref(request);
    }
    bool takes = !known || size[0] != size[1] || memcmp(text[0], text[1], size[0]) != 0;
    slm_free(m->engine, text[0]);
    slm_free(m->engine, text[1]);
    json_decref(messages);
    return takes;
}

/* Two ways of telling a model of its tools need no place in the template. */
static bool takes_tools(const struct loaded *m, json_t *tools) {
    const char *how = m->info.tools;
    if (how && (strcmp(how, "phi4") == 0 || strcmp(how, "gemma-prompt") == 0))
        return true;
    return how && template_takes_tools(m, tools);
}

static int tools_option(struct cli *c, const struct loaded *m, struct asking *a) {
    if (!opt_set(c, OPT_TOOLS))
        return EXIT_DONE;
    int code = read_json(c, OPT_TOOLS, &a->tools);
    if (code != EXIT_DONE)
        return code;
    if (!json_is_array(a->tools))
        return report(c, EXIT_COULD_NOT, "E_FORMAT", NULL, "%s: a JSON array of tools is wanted",
                      opt_text(c, OPT_TOOLS));
    if (!takes_tools(m, a->tools))
        return report(c, EXIT_COULD_NOT, "E_UNSUPPORTED", "slm models    which models take tools",
                      "the template of %s has no place for tools", model_title(m));
    return EXIT_DONE;
}

static int choice_option(struct cli *c, struct asking *a) {
    const char *word = opt_text(c, OPT_TOOL_CHOICE);
    if (!word)
        return EXIT_DONE;
    if (!a->tools)
        return report_usage(c, "--tools FILE", "--tool-choice %s: there are no tools", word);
    if (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0 || strcmp(word, "required") == 0)
        a->choice = keep_json(json_string(word));
    else
        a->choice = json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", word);
    return a->choice ? EXIT_DONE : report_usage(c, NULL, "--tool-choice wants UTF-8 text");
}

/* ------------------------------------------------------------------ formats */

/* "a,b,c", or a JSON array where the texts have commas. NULL: no UTF-8. */
static json_t *choices_of(const char *text) {
    json_t *list = NULL;
    if (text[0] == '[' && json_text(text, strlen(text), &list, NULL) == SLM_OK &&
        json_is_array(list))
        return list;
    json_decref(list);
    list = keep_json(json_array());
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        json_t *one = json_stringn(at, n);
        if (!one) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, one);
        at += n;
        if (!*at)
            return list;
    }
}

static int schema_format(struct cli *c, struct asking *a) {
    json_t *schema;
    int code = read_json(c, OPT_SCHEMA, &schema);
    if (code == EXIT_DONE)
        a->format = keep_json(json_pack("{s:s, s:o}", "type", "json_schema", "schema", schema));
    return code;
}

/* type with its value under a key. value may be NULL: the text was none. */
static int text_format(struct cli *c, struct asking *a, enum option_id id, const char *key,
                       json_t *value) {
    const char *name = option_table[id].name;
    if (!value)
        return report_usage(c, NULL, "--%s wants UTF-8 text", name);
    a->format = keep_json(json_pack("{s:s, s:o}", "type", name, key, value));
    return EXIT_DONE;
}

static int format_option(struct cli *c, struct asking *a) {
    static const enum option_id ways[] = { OPT_SCHEMA, OPT_JSON_OBJECT, OPT_CHOICES, OPT_REGEX };
    enum option_id way = OPT_COUNT;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        if (opt_set(c, ways[i]) && way != OPT_COUNT)
            return report_usage(c, NULL, "--%s and --%s exclude each other",
                                option_table[way].name, option_table[ways[i]].name);
        if (opt_set(c, ways[i]))
            way = ways[i];
    }
    if (way == OPT_SCHEMA)
        return schema_format(c, a);
    if (way == OPT_JSON_OBJECT)
        a->format = keep_json(json_pack("{s:s}", "type", "json_object"));
    if (way == OPT_CHOICES)
        return text_format(c, a, way, "choices", choices_of(opt_text(c, way)));
    if (way == OPT_REGEX)
        return text_format(c, a, way, "pattern", json_string(opt_text(c, way)));
    return EXIT_DONE;
}

int asking_options(struct cli *c, const struct loaded *m, struct asking *a) {
    *a = (struct asking){ 0 };
    int code = tools_option(c, m, a);
    if (code == EXIT_DONE)
        code = choice_option(c, a);
    return code == EXIT_DONE ? format_option(c, a) : code;
}

void asking_free(struct asking *a) {
    json_decref(a->tools);
    json_decref(a->choice);
    json_decref(a->format);
    *a = (struct asking){ 0 };
}

/* ------------------------------------------------------------------ the request */

char *request_text(const struct loaded *m, json_t *messages, enum think_choice think,
                   const struct asking *a, size_t *n) {
    json_t *request = keep_json(json_pack("{s:O}", "messages", messages));
    if (think != THINK_ASIS && m->info.think == SLM_THINK_SWITCH)
        json_object_set_new(request, "think", json_boolean(think == THINK_ON));
    if (a->tools)
        json_object_set(request, "tools", a->tools);
    if (a->choice)
        json_object_set(request, "tool_choice", a->choice);
    if (a->format)
        json_object_set(request, "format", a->format);
    char *text = keep(json_dumps(request, JSON_COMPACT));
    json_decref(request);
    *n = strlen(text);
    return text;
}

static void note_warnings(struct cli *c, const slm_prompt *p) {
    slm_prompt_info i = { .size = sizeof i };
    if (slm_prompt_get(p, &i) != SLM_OK || !i.warnings)
        return;
    for (const char *at = i.warnings; *at;) {
        size_t n = strcspn(at, "\n");
        note(c, "%.*s", (int)n, at);
        at += n + (at[n] == '\n');
    }
}

int prompt_of(struct cli *c, const struct loaded *m, json_t *messages, enum think_choice think,
              const struct asking *a, const slm_generate_options *o, slm_prompt **out) {
    slm_why why;
    size_t n;
    char *request = request_text(m, messages, think, a, &n);
    slm_err err = slm_prompt_make(m->engine, request, n, &o->render, out, &why);
    free(request);
    if (err != SLM_OK)
        return report_error(c, AT_WORK, err, &why, NULL);
    note_warnings(c, *out);
    return EXIT_DONE;
}

int constraint_of(struct cli *c, const struct loaded *m, const struct asking *a,
                  slm_constraint **out) {
    static const struct {
        const char *key;
        enum slm_constraint_kind kind;
    } rows[] = { { "schema", SLM_CONSTRAINT_SCHEMA },
                 { "choices", SLM_CONSTRAINT_CHOICES },
                 { "pattern", SLM_CONSTRAINT_REGEX } };
    enum slm_constraint_kind kind = SLM_CONSTRAINT_JSON;
    json_t *value = NULL;
    slm_why why;
    *out = NULL;
    if (!a->format)
        return EXIT_DONE;
    for (size_t i = 0; i < ARRAY_LEN(rows) && !value; i++) {
        value = json_object_get(a->format, rows[i].key);
        kind = value ? rows[i].kind : kind;
    }
    char *text = json_is_string(value) ? keep(strdup(json_string_value(value)))
                 : value               ? keep(json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY))
                                       : keep(strdup(""));
    slm_err err = slm_constraint_open(m->engine, kind, text, strlen(text), NULL, out, &why);
    free(text);
    return err == SLM_OK ? EXIT_DONE : report_error(c, AT_WORK, err, &why, NULL);
}
