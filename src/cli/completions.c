/* completions.c - completion scripts for bash, zsh and fish, out of the table.
 *
 * All three complete commands, options and their words, ids of known models, and files. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void ids(struct buf *b) {
    slm_card card = { .size = sizeof card };
    for (size_t i = 0; i < slm_catalog_count(); i++)
        if (slm_catalog_get(i, &card) == SLM_OK)
            buf_printf(b, "%s%s", i ? " " : "", card.id);
}

static void commands(struct buf *b) {
    for (size_t i = 1; i < CMD_COUNT; i++)
        buf_printf(b, "%s%s", i > 1 ? " " : "", command_table[i].name);
}

static void words(struct buf *b, const char *value) {
    for (; *value; value++)
        buf_putc(b, *value == '|' ? ' ' : *value);
}

/* ------------------------------------------------------------------ bash */

static void bash_options(struct buf *b, uint32_t mask) {
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (option_table[i].commands & mask)
            buf_printf(b, " --%s", option_table[i].name);
}

static void bash(struct buf *b) {
    buf_puts(
        b, "# bash completion for slm, written by slm help --completions bash\n"
           "_slm() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} "
           "command='' i\n"
           "    COMPREPLY=()\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case "
           "${COMP_WORDS[i]} in\n"
           "        -*) ;;\n        *) command=${COMP_WORDS[i]}; break ;;\n        esac\n    done\n"
           "    case $prev in\n");
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *row = &option_table[i];
        if (row->kind == ARG_ENUM) {
            buf_printf(b, "    --%s) mapfile -t COMPREPLY < <(compgen -W '", row->name);
            words(b, row->value);
            buf_puts(b, "' -- \"$cur\"); return ;;\n");
        } else if (row->kind == ARG_FILE) {
            buf_printf(b, "    --%s) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n",
                       row->name);
        }
    }
    buf_puts(b, "    esac\n    if [[ -z $command && $cur != -* ]]; then\n"
                "        mapfile -t COMPREPLY < <(compgen -W '");
    commands(b);
    buf_puts(
        b, "' -- \"$cur\")\n        return\n    fi\n    local options=''\n    case $command in\n");
    for (size_t i = 0; i < CMD_COUNT; i++) {
        buf_printf(b, "    %s) options='", i ? command_table[i].name : "''");
        bash_options(b, 1u << i);
        buf_puts(b, "' ;;\n");
    }
    buf_puts(b,
             "    esac\n    if [[ $cur == -* ]]; then\n"
             "        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$cur\")\n        "
             "return\n    fi\n"
             "    if [[ $command == help ]]; then\n        mapfile -t COMPREPLY < <(compgen -W '");
    commands(b);
    buf_puts(b,
             "' -- \"$cur\")\n        return\n    fi\n    mapfile -t COMPREPLY < <(compgen -W '");
    ids(b);
    buf_puts(b, "' -- \"$cur\"; compgen -f -- \"$cur\")\n}\ncomplete -o filenames -F _slm slm\n");
}

/* ------------------------------------------------------------------ zsh */

/* Inside single quotes of an _arguments specification. */
static void zsh_text(struct buf *b, const char *s) {
    for (; *s; s++) {
        if (*s == '\'')
            buf_puts(b, "'\\''");
        else if (strchr("[]:\\", *s))
            buf_printf(b, "\\%c", *s);
        else
            buf_putc(b, *s);
    }
}

static void zsh_option(struct buf *b, const struct option_row *row) {
    buf_printf(b, "            '%s--%s%s[", row->repeat ? "*" : "", row->name,
               row->kind == ARG_FLAG       ? ""
               : row->kind == ARG_OPTIONAL ? "=-"
                                           : "=");
    zsh_text(b, row->help);
    buf_putc(b, ']');
    if (row->kind == ARG_ENUM) {
        buf_puts(b, ":word:(");
        words(b, row->value);
        buf_putc(b, ')');
    } else if (row->kind == ARG_FILE) {
        buf_puts(b, ":file:_files");
    } else if (row->kind != ARG_FLAG) {
        buf_puts(b, row->kind == ARG_OPTIONAL ? "::" : ":");
        zsh_text(b, row->value);
        buf_putc(b, ':');
    }
    buf_puts(b, "' \\\n");
}

static void zsh(struct buf *b) {
    buf_puts(b, "#compdef slm\n# zsh completion for slm, written by slm help --completions "
                "zsh\n_slm_models() {\n"
                "    local -a known=(");
    ids(b);
    buf_puts(b, ")\n    _alternative 'ids:known model:compadd -a known' 'files:file:_files'\n}\n"
                "_slm() {\n    local -a commands=(\n");
    for (size_t i = 1; i < CMD_COUNT; i++) {
        buf_printf(b, "        '%s:", command_table[i].name);
        zsh_text(b, command_table[i].line);
        buf_puts(b, "'\n");
    }
    buf_puts(
        b,
        "    )\n    local word command=''\n    for word in ${words[2,CURRENT-1]}; do\n"
        "        [[ $word == -* ]] || { command=$word; break; }\n    done\n    case $command in\n");
    for (size_t i = 0; i < CMD_COUNT; i++) {
        buf_printf(b, "    %s)\n        _arguments \\\n", i ? command_table[i].name : "''");
        for (size_t k = 0; k < OPT_COUNT; k++)
            if (option_table[k].commands & (1u << i))
                zsh_option(b, &option_table[k]);
        if (i == CMD_HOME)
            buf_puts(b, "            '1:command:{_describe command commands}'\n");
        else if (i == CMD_HELP)
            buf_puts(b, "            '1: :' '2:command:{_describe command commands}'\n");
        else
            buf_puts(b, "            '1: :' '*:model or file:_slm_models'\n");
        buf_puts(b, "        ;;\n");
    }
    buf_puts(b, "    esac\n}\nif [[ $funcstack[1] == _slm ]]; then _slm \"$@\"; else compdef _slm "
                "slm; fi\n");
}

/* ------------------------------------------------------------------ fish */

static void fish_text(struct buf *b, const char *s) {
    buf_putc(b, '\'');
    for (; *s; s++)
        buf_printf(b, strchr("'\\", *s) ? "\\%c" : "%c", *s);
    buf_putc(b, '\'');
}

static void fish_option(struct buf *b, const struct option_row *row) {
    buf_puts(b, "complete -c slm");
    if (row->commands != 0xffffffffu) {
        buf_puts(b, " -n '__fish_seen_subcommand_from");
        for (size_t i = 1; i < CMD_COUNT; i++)
            if (row->commands & (1u << i))
                buf_printf(b, " %s", command_table[i].name);
        if (row->commands & (1u << CMD_HOME))
            buf_puts(b, "; or __fish_use_subcommand");
        buf_putc(b, '\'');
    }
    buf_printf(b, " -l %s", row->name);
    if (row->letter)
        buf_printf(b, " -s %c", row->letter);
    if (row->kind == ARG_ENUM) {
        buf_puts(b, " -x -a '");
        words(b, row->value);
        buf_putc(b, '\'');
    } else if (row->kind == ARG_FILE) {
        buf_puts(b, " -r -F");
    } else if (row->kind != ARG_FLAG && row->kind != ARG_OPTIONAL) {
        buf_puts(b, " -x");
    }
    buf_puts(b, " -d ");
    fish_text(b, row->help);
    buf_putc(b, '\n');
}

static void fish(struct buf *b) {
    buf_puts(b, "# fish completion for slm, written by slm help --completions fish\n"
                "complete -c slm -n __fish_use_subcommand -f\n");
    for (size_t i = 1; i < CMD_COUNT; i++) {
        buf_printf(b, "complete -c slm -n __fish_use_subcommand -a %s -d ", command_table[i].name);
        fish_text(b, command_table[i].line);
        buf_putc(b, '\n');
    }
    buf_puts(b, "complete -c slm -n '__fish_seen_subcommand_from");
    for (size_t i = 1; i < CMD_COUNT; i++)
        if (command_table[i].first == PLACE_MODEL || command_table[i].first == PLACE_ID)
            buf_printf(b, " %s", command_table[i].name);
    buf_puts(b, "' -a '");
    ids(b);
    buf_puts(b, "'\n");
    for (size_t i = 0; i < OPT_COUNT; i++)
        fish_option(b, &option_table[i]);
}

char *completions(const char *shell) {
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    if (strcmp(shell, "bash") == 0)
        bash(&b);
    else if (strcmp(shell, "zsh") == 0)
        zsh(&b);
    else
        fish(&b);
    return buf_take(&b);
}
