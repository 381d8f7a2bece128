/* cmd_agent.h - what the files of `slm agent` share. */
#ifndef SLM_CLI_CMD_AGENT_H
#define SLM_CLI_CMD_AGENT_H

#include "agent/toolbox.h"
#include "cli/cli.h"

struct agent {
    struct cli *c;
    struct loaded *m;
    struct toolbox box;
    struct transcript transcript;
    json_t *messages;
    struct asking asking;  /* its tools are box's */
    enum think_choice think;
    slm_generate_options options;
    size_t told;           /* messages that are in the transcript */
    size_t frame_tokens;   /* of the prompt: what telling of tools costs beside the tools themselves */
    size_t tools_tokens;   /* all of it; 0: not measured */
    unsigned step;
    json_t *made;          /* {key: times} calls by name and arguments */
    json_t *calls;         /* of the run, for --json */
    uint64_t prompt_tokens, cached_tokens, output_tokens, prefill_ns, decode_ns, tools_ns;
    char *warnings;        /* of the last prompt */
    bool quit;             /* somebody said so when asked */
};

/* ---- agent_cost.c ---- */
/* Takes tools out whose text the model would read as control tokens, checks --max-tools, and tells asking of
 * the rest. Exit code. */
int agent_take_tools(struct agent *a);
/* Counts what each tool costs of the context: the prompt with and without it. Exit code. */
int agent_measure(struct agent *a);
/* The table; to standard output for --tools-cost, else to standard error, shortened. */
void agent_print_costs(struct agent *a, bool whole);

/* ---- agent_calls.c ---- */
/* Makes the calls of an answer in order and appends their results to the messages. Exit code: EXIT_DONE to
 * go on. */
int agent_make_calls(struct agent *a, json_t *calls);

#endif
