/* manpage.c - slm(1) in mdoc, out of the table of commands and options.
 *
 * Format: mdoc(7) as groff and mandoc read it. Text from the table is escaped: backslashes, a dot or
 * an apostrophe at the start of a line, and macro names at the start of an argument. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define PAGE_DATE "November 24, 2026" /* of the text, not of the build: equal builds, equal pages */

/* One word or sentence inside running text. */
static void escape(struct buf *b, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\')
            buf_puts(b, "\\e");
        else if (s[i] == '-')
            buf_puts(b, "\\-");
        else
            buf_putc(b, s[i]);
    }
}

/* A paragraph: sentences start on a new line, as mdoc wants them. */
static void prose(struct buf *b, const char *text, size_t n) {
    bool start = true;
    for (size_t i = 0; i < n; i++) {
        if (start && (text[i] == '.' || text[i] == '\''))
            buf_puts(b, "\\&");
        start = false;
        bool end = (text[i] == '.' || text[i] == ':' || text[i] == '?') && i + 2 < n &&
                   text[i + 1] == ' ' && isupper((unsigned char)text[i + 2]) && text[i] != ':';
        escape(b, text + i, 1);
        if (end) {
            buf_putc(b, '\n');
            i++;
            start = true;
        }
    }
    buf_putc(b, '\n');
}

static void paragraphs(struct buf *b, const char *text) {
    while (text && *text) {
        const char *end = strstr(text, "\n\n");
        size_t n = end ? (size_t)(end - text) : strlen(text);
        buf_puts(b, ".Pp\n");
        prose(b, text, n);
        text = end ? end + 2 : NULL;
    }
}

/* Words of a usage line as arguments: capitals are names of values, brackets optional. */
static void usage(struct buf *b, const char *text) {
    while (*text) {
        bool optional = *text == '[';
        size_t n = strcspn(text, " ");
        const char *word = text + optional;
        size_t len = n - optional - (optional && text[n - 1] == ']');
        bool dots = len > 3 && strncmp(word + len - 3, "...", 3) == 0;
        if (dots)
            len -= 3;
        buf_printf(b, optional ? ".Op Ar %.*s%s\n" : ".Ar %.*s%s\n", (int)len, word,
                   dots ? " ..." : "");
        text += n;
        text += strspn(text, " ");
    }
}

static void option(struct buf *b, const struct option_row *row) {
    buf_puts(b, ".It");
    if (row->letter)
        buf_printf(b, " Fl %c ,", row->letter);
    buf_printf(b, " Fl \\-%s", row->name);
    if (row->kind == ARG_OPTIONAL)
        buf_printf(b, " Ns Op = Ns Ar %s", row->value);
    else if (row->kind != ARG_FLAG)
        buf_printf(b, " Ar %s", row->value);
    buf_putc(b, '\n');
    char *text = text_printf("%c%s.%s%s%s", toupper((unsigned char)row->help[0]), row->help + 1,
                             row->fallback ? " Default: " : "", row->fallback ? row->fallback : "",
                             row->fallback ? "." : "");
    prose(b, text, strlen(text));
    free(text);
}

/* Rows that only some commands have come with those; what all share comes once. */
static void options(struct buf *b, uint32_t mask, bool shared) {
    const uint32_t everywhere = 0xffffffffu;
    bool any = false;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        if (!(row->commands & mask) || (row->commands == everywhere) != shared)
            continue;
        if (!any)
            buf_puts(b, ".Bl -tag -width Ds\n");
        any = true;
        option(b, row);
    }
    if (any)
        buf_puts(b, ".El\n");
}

static void command(struct buf *b, enum command_id id) {
    const struct command_row *row = &command_table[id];
    buf_printf(b, ".Ss slm %s\n.Nm\n.Cm %s\n", row->name, row->name);
    usage(b, row->usage);
    buf_puts(b, ".Pp\n");
    char *line = text_printf("%c%s.", toupper((unsigned char)row->line[0]), row->line + 1);
    prose(b, line, strlen(line));
    free(line);
    paragraphs(b, row->text);
    options(b, 1u << id, false);
}

static void examples(struct buf *b) {
    buf_puts(b, ".Sh EXAMPLES\n");
    for (size_t i = 1; i < CMD_COUNT; i++) {
        if (!command_table[i].examples)
            continue;
        buf_puts(b, ".Bd -literal -offset indent\n");
        for (const char *e = command_table[i].examples; *e;) {
            size_t n = strcspn(e, "\n");
            escape(b, e, n);
            buf_putc(b, '\n');
            e += n + (e[n] == '\n');
        }
        buf_puts(b, ".Ed\n");
    }
}

static void environment(struct buf *b) {
    static const struct {
        const char *name, *text;
    } rows[] = {
        { "SLM_HOME", "Folder of slm's own files: models/, chats.db, history, packed/. Default: "
                      "~/.local/share/slm." },
        { "SLM_ISA", "Default of \\-\\-isa." },
        { "SLM_THREADS", "Default of \\-\\-threads." },
        { "NO_COLOR", "When set and not empty, no colours and no dim text." },
        { "HF_HUB_CACHE", "The Hugging Face cache, as other programs use it; also HF_HOME." },
        { "OLLAMA_MODELS", "Folder of Ollama's models." },
        { "HF_TOKEN", "Sent by slm pull to the hub's host only." },
        { "HF_ENDPOINT", "Another hub for slm pull." },
        { "HF_HUB_OFFLINE", "When 1, slm pull refuses to use the network." },
    };
    buf_puts(b, ".Sh ENVIRONMENT\n.Bl -tag -width HF_HUB_OFFLINE\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_printf(b, ".It Ev %s\n%s\n", rows[i].name, rows[i].text);
    buf_puts(b, ".El\n");
}

char *man_page(void) {
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    buf_puts(&b, ".\\\" Written by slm help --man from the program's table of options.\n"
                 ".Dd " PAGE_DATE
                 "\n.Dt SLM 1\n.Os\n.Sh NAME\n.Nm slm\n.Nd small language models on this machine\n"
                 ".Sh SYNOPSIS\n.Nm\n.Nm\n.Ar command\n.Op Ar options\n.Op Ar arguments\n.Sh "
                 "DESCRIPTION\n.Nm\n"
                 "runs small language models on ordinary CPUs, offline.\n"
                 "Without a command it says what this machine is, which models fit it and which "
                 "are on disk,\n"
                 "and starts a chat with the best of those.\n.Pp\n");
    buf_puts(&b, ".Ar MODEL\nis an id that\n.Nm\n.Cm models\nlists,\n.Cm demo ,\na GGUF file, or a "
                 "folder in Hugging Face "
                 "layout.\nIds are looked for in place and never copied: in\n.Pa $SLM_HOME/models "
                 ",\nthe Hugging Face "
                 "cache, Ollama's and LM Studio's folders.\n.Ar ID Ns \\&: Ns Ar QUANT\ntakes one "
                 "type of weights.\n"
                 ".Sh COMMANDS\n");
    for (size_t i = 1; i < CMD_COUNT; i++)
        command(&b, (enum command_id)i);
    buf_puts(&b, ".Ss Options of every command\n");
    options(&b, 1u << CMD_HOME, true);
    environment(&b);
    buf_puts(
        &b,
        ".Sh EXIT STATUS\n.Bl -tag -width Ds\n.It 0\nDone.\n.It 1\nCould not; the message says "
        "why.\n"
        ".It 2\nWrong usage.\n.It 3\nThe file was refused.\n.It 4\nThe memory plan was refused.\n"
        ".It 130\nInterrupted.\n.El\n");
    examples(&b);
    return buf_take(&b);
}
