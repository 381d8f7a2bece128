/* help.c - `slm --help` and `slm help COMMAND`: text of at most 80 columns out of the table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { COLUMNS = 80, OPTION_COLUMN = 28 };

/* Appends text in lines of at most COLUMNS, each after `indent` spaces; `at` is the column that the
 * first line has already reached. Ends with a newline. */
static void wrap(struct buf *b, const char *text, size_t indent, size_t at) {
    bool first = true;
    while (*text) {
        size_t space = strspn(text, " ");
        text += space;
        size_t n = strcspn(text, " "), columns = text_columns(text, n);
        if (!n)
            break;
        if (!first && at + 1 + columns > COLUMNS) {
            buf_putc(b, '\n');
            at = 0;
            first = true;
        }
        if (first)
            for (; at < indent; at++)
                buf_putc(b, ' ');
        else
            buf_putc(b, ' ');
        buf_put(b, text, n);
        at += columns + !first;
        first = false;
        text += n;
    }
    buf_putc(b, '\n');
}

static void paragraphs(struct buf *b, const char *text) {
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        size_t n = end ? (size_t)(end - text) : strlen(text);
        char *one = keep(strndup(text, n));
        buf_putc(b, '\n');
        wrap(b, one, 0, 0);
        free(one);
        text = end ? end + 2 : NULL;
    }
}

static void option_line(struct buf *b, const struct option_row *row) {
    char name[96], help[512];
    const char *open = row->kind == ARG_OPTIONAL ? "[=" : row->kind == ARG_FLAG ? "" : " ";
    int n = snprintf(name, sizeof name, "  %c%c%s --%s%s%s%s", row->letter ? '-' : ' ',
                     row->letter ? row->letter : ' ', row->letter ? "," : " ", row->name, open,
                     row->kind == ARG_FLAG ? "" : row->value, row->kind == ARG_OPTIONAL ? "]" : "");
    snprintf(help, sizeof help, "%s%s%s%s", row->help, row->fallback ? " (default: " : "",
             row->fallback ? row->fallback : "", row->fallback ? ")" : "");
    buf_puts(b, name);
    if (n >= OPTION_COLUMN) {
        buf_putc(b, '\n');
        n = 0;
    }
    wrap(b, help, OPTION_COLUMN, (size_t)n);
}

static void options_of(struct buf *b, uint32_t mask, size_t first_group) {
    for (size_t g = first_group; g < GROUP_COUNT; g++) {
        bool titled = false;
        for (size_t i = 0; i < OPT_COUNT; i++) {
            if (option_table[i].group != g || !(option_table[i].commands & mask))
                continue;
            if (!titled)
                buf_printf(b, "\n%s:\n", group_titles[g]);
            titled = true;
            option_line(b, &option_table[i]);
        }
    }
}

static void home_help(struct buf *b) {
    buf_puts(b, "slm - small language models on this machine, offline\n\n"
                "  slm                 what this machine is, what fits it, and a chat\n"
                "  slm COMMAND ...     one of these:\n\n");
    for (size_t i = 1; i < CMD_COUNT; i++) {
        char name[64];
        int n = snprintf(name, sizeof name, "  %-10s", command_table[i].name);
        buf_puts(b, name);
        wrap(b, command_table[i].line, 14, (size_t)n);
    }
    buf_puts(b, "\nMODEL is an id that 'slm models' lists, 'demo', a .gguf file, or a folder in\n"
                "Hugging Face layout. Ids are looked for in place: $SLM_HOME/models, the Hugging\n"
                "Face cache, Ollama's and LM Studio's folders. ID:QUANT takes one weight type.\n");
    options_of(b, 1u << CMD_HOME, GROUP_MACHINE);
    buf_puts(b,
             "\nExit codes: 0 done, 1 could not, 2 usage, 3 file refused, 4 memory plan refused,\n"
             "130 interrupted. 'slm help COMMAND' lists what a command takes; slm alone takes\n"
             "what 'slm chat' takes.\n");
}

char *help_text(enum command_id command) {
    const struct command_row *row = &command_table[command];
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    if (command == CMD_HOME) {
        home_help(&b);
    } else {
        buf_printf(&b, "slm %s%s%s\n\n", row->name, row->usage[0] ? " " : "", row->usage);
        char *line = text_printf(
            "%c%s.", row->line[0] - ('a' <= row->line[0] && row->line[0] <= 'z' ? 32 : 0),
            row->line + 1);
        wrap(&b, line, 0, 0);
        free(line);
        paragraphs(&b, row->text);
        if (row->examples) {
            buf_puts(&b, "\nExamples:\n");
            for (const char *e = row->examples; *e;) {
                size_t n = strcspn(e, "\n");
                buf_printf(&b, "  %.*s\n", (int)n, e);
                e += n + (e[n] == '\n');
            }
        }
        options_of(&b, 1u << command, 0);
    }
    return buf_take(&b);
}

static enum command_id command_named(const char *name) {
    for (size_t i = 1; i < CMD_COUNT; i++)
        if (strcmp(command_table[i].name, name) == 0)
            return (enum command_id)i;
    return CMD_COUNT;
}

static const char *next_name(void *user, size_t i) {
    (void)user;
    return i + 1 < CMD_COUNT ? command_table[i + 1].name : NULL;
}

int cmd_help(struct cli *c) {
    enum command_id command = CMD_HOME;
    char *text;
    if (opt_set(c, OPT_MAN) && opt_set(c, OPT_COMPLETIONS))
        return report_usage(c, NULL, "--man and --completions exclude each other");
    if (c->options.n_args) {
        command = command_named(c->options.args[0]);
        if (command == CMD_COUNT) {
            const char *near = nearest_name(c->options.args[0], next_name, NULL);
            char *way = text_printf("%s%s%sslm help", near ? "did you mean 'slm help " : "",
                                    near ? near : "", near ? "'?\n" : "");
            int code = report_usage(c, way, "'%s' is not a command", c->options.args[0]);
            free(way);
            return code;
        }
    }
    if (opt_set(c, OPT_MAN))
        text = man_page();
    else if (opt_set(c, OPT_COMPLETIONS))
        text = completions(opt_text(c, OPT_COMPLETIONS));
    else
        text = help_text(command);
    out_text(&c->out, keep(text));
    free(text);
    return EXIT_DONE;
}
