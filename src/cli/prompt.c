/* prompt.c - reading what a person types in a chat: line editing and history on a terminal, plain
 * lines elsewhere. A line that ends in a backslash goes on in the next one; lines between two lines
 * of """ are one message. */
#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/prompt.h"

struct prompt {
    EditLine *edit; /* NULL: plain lines */
    History *history;
    char *history_path; /* NULL: not kept */
    struct lines lines;
    struct buf message;
    bool more;   /* inside a message of several lines */
    bool broken; /* Ctrl-C at the prompt */
};

static char *prompt_text(EditLine *edit) {
    static char first[] = "> ", more[] = ". ";
    struct prompt *p;
    el_get(edit, EL_CLIENTDATA, &p);
    return p->more ? more : first;
}

/* One character from the terminal. Unlike the library's own reader it gives up on Ctrl-C. */
static int read_char(EditLine *edit, wchar_t *out) {
    mbstate_t state;
    struct prompt *p;
    el_get(edit, EL_CLIENTDATA, &p);
    memset(&state, 0, sizeof state);
    for (;;) {
        char byte;
        ssize_t k = read(STDIN_FILENO, &byte, 1);
        if (k < 0 && errno == EINTR) {
            if (!interrupted())
                continue;
            p->broken = true;
            return -1;
        }
        if (k <= 0)
            return (int)k;
        size_t n = mbrtowc(out, &byte, 1, &state);
        if (n == (size_t)-1) { /* no character of this locale: let it pass as a question mark */
            *out = L'?';
            return 1;
        }
        if (n != (size_t)-2)
            return 1;
    }
}

struct prompt *prompt_new(struct cli *c, bool keep_history) {
    struct prompt *p = keep(calloc(1, sizeof *p));
    lines_init(&p->lines);
    buf_init(&p->message, NULL, LINE_MOST);
    if (!c->term.in_tty || !c->term.out_tty)
        return p;
    HistEvent event;
    p->edit = el_init("slm", stdin, stdout, stderr);
    p->history = history_init();
    if (!p->edit || !p->history)
        return p;
    el_set(p->edit, EL_CLIENTDATA, p);
    el_set(p->edit, EL_PROMPT, prompt_text);
    el_set(p->edit, EL_EDITOR, "emacs");
    el_set(p->edit, EL_SIGNAL, 0);
    el_set(p->edit, EL_GETCFN, read_char);
    el_set(p->edit, EL_HIST, history, p->history);
    history(p->history, &event, H_SETSIZE, 1000);
    history(p->history, &event, H_SETUNIQUE, 1);
    if (keep_history) {
        p->history_path = home_path("history");
        history(p->history, &event, H_LOAD, p->history_path);
    }
    return p;
}

void prompt_free(struct prompt *p) {
    HistEvent event;
    if (p->history && p->history_path) {
        mode_t before = umask(077);
        history(p->history, &event, H_SAVE, p->history_path);
        umask(before);
    }
    if (p->history)
        history_end(p->history);
    if (p->edit)
        el_end(p->edit);
    free(p->history_path);
    buf_free(&p->message);
    lines_free(&p->lines);
    free(p);
}

/* Next line as text [*n], without its newline; NULL at the end or on Ctrl-C. */
static const char *next_line(struct prompt *p, size_t *n) {
    if (!p->edit) {
        if (!lines_next(&p->lines))
            return NULL;
        *n = p->lines.line.len;
        return p->lines.line.data ? p->lines.line.data : "";
    }
    int count = 0;
    HistEvent event;
    const char *line = el_gets(p->edit, &count);
    if (!line || count <= 0)
        return NULL;
    if (line[strspn(line, " \t\r\n")])
        history(p->history, &event, H_ENTER, line);
    *n = strlen(line);
    while (*n && (line[*n - 1] == '\n' || line[*n - 1] == '\r'))
        --*n;
    return line;
}

enum prompt_event prompt_read(struct prompt *p, const char **text, size_t *n) {
    bool block = false;
    p->message.len = 0;
    p->more = p->broken = false;
    for (;;) {
        size_t len = 0;
        const char *line = next_line(p, &len);
        if (!line && (p->broken || interrupted()))
            return PROMPT_BREAK;
        if (!line && !p->more)
            return PROMPT_END;
        if (!line)
            break; /* the end of input ends the message too */
        bool fence = len == 3 && memcmp(line, "\"\"\"", 3) == 0;
        if (fence && (block || !p->more)) {
            block = !block;
            p->more = true;
            if (!block)
                break;
            continue;
        }
        bool goes_on = !block && len && line[len - 1] == '\\';
        if (p->message.len)
            buf_putc(&p->message, '\n');
        buf_put(&p->message, line, len - goes_on);
        if (!block && !goes_on)
            break;
        p->more = true;
    }
    buf_putc(&p->message, '\0');
    p->message.len -= p->message.len > 0;
    *text = p->message.data ? p->message.data : "";
    *n = p->message.len;
    return PROMPT_TEXT;
}
