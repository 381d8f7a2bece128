/* main.c - reads the command line and the environment, and calls the command.
 *
 * The program alone looks at the environment: SLM_HOME (folder), SLM_ISA and SLM_THREADS (defaults
 * of --isa and --threads), NO_COLOR, and the variables of other programs' caches (places.c). */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "picture/picture.h"

static int (*const run_command[CMD_COUNT])(struct cli *) = {
    [CMD_HOME] = cmd_home,         [CMD_RUN] = cmd_run,           [CMD_CHAT] = cmd_chat,
    [CMD_COMPLETE] = cmd_complete, [CMD_MODELS] = cmd_models,     [CMD_PLAN] = cmd_plan,
    [CMD_INFO] = cmd_info,         [CMD_PULL] = cmd_pull,         [CMD_QUANTIZE] = cmd_quantize,
    [CMD_BENCH] = cmd_bench,       [CMD_TOKENIZE] = cmd_tokenize, [CMD_DETOKENIZE] = cmd_detokenize,
    [CMD_RENDER] = cmd_render,     [CMD_LOGITS] = cmd_logits,     [CMD_SERVE] = cmd_serve,
    [CMD_DEPLOY] = cmd_deploy,     [CMD_CLASSIFY] = cmd_classify, [CMD_EXTRACT] = cmd_extract,
    [CMD_AGENT] = cmd_agent,       [CMD_HELP] = cmd_help,
};

static bool take_environment(struct cli *c) {
    const char *isa = getenv("SLM_ISA"), *threads = getenv("SLM_THREADS");
    struct parsed *p = &c->options;
    if (isa && isa[0] && !p->values[OPT_ISA].set && !options_set(p, OPT_ISA, isa, "SLM_ISA"))
        return false;
    return !threads || !threads[0] || p->values[OPT_THREADS].set ||
           options_set(p, OPT_THREADS, threads, "SLM_THREADS");
}

/* Characters only: decimal points stay points. */
static void set_locale(void) {
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int usage(struct cli *c) {
    char ways[256];
    const char *name = command_table[c->options.command].name;
    snprintf(ways, sizeof ways, "%s%sslm help%s%s", c->options.hint, c->options.hint[0] ? "\n" : "",
             *name ? " " : "", name);
    return report_usage(c, ways, "%s", c->options.error);
}

static int dispatch(struct cli *c, int argc, char **argv) {
    bool ok = options_parse(&c->options, argc, argv);
    c->json = opt_set(c, OPT_JSON);
    c->quiet = opt_set(c, OPT_QUIET);
    if (!ok || !take_environment(c))
        return usage(c);
    if (opt_set(c, OPT_VERSION)) {
        out_printf(&c->out, "slm %s\n", slm_version());
        return EXIT_DONE;
    }
    if (opt_set(c, OPT_HELP)) {
        char *text = keep(help_text(c->options.command));
        out_text(&c->out, text);
        free(text);
        return EXIT_DONE;
    }
    return run_command[c->options.command](c);
}

int main(int argc, char **argv) {
    static struct cli c; /* large, and zero to begin with */
    if (argc > 1 && strcmp(argv[1], PICTURE_CHILD_ARG) == 0)
        return picture_child_main(argc, argv);
    set_locale();
    signals_install();
    term_init(&c.term);
    int code = dispatch(&c, argc, argv);
    out_flush(&c.out);
    if (c.out.failed) {
        fprintf(stderr, "slm: cannot write to standard output: %s\n", strerror(c.out.failed));
        code = EXIT_COULD_NOT;
    } else if (code == EXIT_DONE && interrupted()) {
        code = EXIT_INTERRUPTED;
    }
    options_free(&c.options);
    return code;
}
