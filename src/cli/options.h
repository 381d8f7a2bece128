/* options.h - the one table of commands and options, and the parser that reads it.
 *
 * Parsing, --help, the man page and the shell completions all come from these rows, so that an
 * option exists everywhere or nowhere. To add a subcommand: an id, a row in option_table.c, a line
 * in main.c's dispatch table and its cmd_*.c. To add an option: an id and a row. */
#ifndef SLM_CLI_OPTIONS_H
#define SLM_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum command_id {
    CMD_HOME, /* slm alone */
    CMD_RUN,
    CMD_CHAT,
    CMD_COMPLETE,
    CMD_MODELS,
    CMD_PLAN,
    CMD_INFO,
    CMD_PULL,
    CMD_QUANTIZE,
    CMD_BENCH,
    CMD_TOKENIZE,
    CMD_DETOKENIZE,
    CMD_RENDER,
    CMD_LOGITS,
    CMD_SERVE,
    CMD_DEPLOY,
    CMD_CLASSIFY,
    CMD_EXTRACT,
    CMD_AGENT,
    CMD_HELP,
    CMD_COUNT
};

/* What a positional argument is, for completions. */
enum place_kind { PLACE_NONE, PLACE_MODEL, PLACE_FILE, PLACE_TEXT, PLACE_ID, PLACE_COMMAND };

struct command_row {
    const char *name;     /* "run"; "" for slm alone */
    const char *usage;    /* "MODEL [PROMPT...]" */
    const char *line;     /* what it does, without a full stop */
    const char *text;     /* paragraphs separated by an empty line; may be NULL */
    const char *examples; /* one per line; may be NULL */
    unsigned min_args, max_args;
    enum place_kind first, rest;
};

enum arg_kind {
    ARG_FLAG,
    ARG_TEXT,
    ARG_INT,   /* low..high */
    ARG_FLOAT, /* low..high */
    ARG_ENUM,  /* value is "a|b|c" */
    ARG_FILE,
    ARG_DATE,     /* YYYY-MM-DD */
    ARG_SIZE,     /* bytes with K, M, G (powers of 1024) */
    ARG_INTS,     /* 1,2,3 each low..high */
    ARG_OPTIONAL, /* text that only --name=TEXT gives */
};

enum option_group {
    GROUP_ANSWER,
    GROUP_SAMPLING,
    GROUP_CHAT,
    GROUP_AGENT,
    GROUP_SERVER,
    GROUP_INPUT,
    GROUP_MACHINE,
    GROUP_GENERAL,
    GROUP_COUNT
};

enum option_id {
    OPT_SYSTEM,
    OPT_THINK,
    OPT_THINK_BUDGET,
    OPT_SHOW_THINKING,
    OPT_TOOLS,
    OPT_TOOL_CHOICE,
    OPT_SCHEMA,
    OPT_JSON_OBJECT,
    OPT_CHOICES,
    OPT_REGEX,
    OPT_MAX_TOKENS,
    OPT_STOP,
    OPT_ECHO,
    OPT_IMAGE,
    OPT_ROW_PICTURES,
    OPT_PAN_SCAN,
    OPT_NO_EXIF,
    OPT_MMPROJ,
    OPT_PIXELS,
    OPT_SPECULATE,
    OPT_DRAFT,
    OPT_PROMPT_CACHE,
    OPT_GREEDY,
    OPT_TEMP,
    OPT_TOP_K,
    OPT_TOP_P,
    OPT_MIN_P,
    OPT_TYPICAL_P,
    OPT_REPEAT_PENALTY,
    OPT_PRESENCE_PENALTY,
    OPT_FREQUENCY_PENALTY,
    OPT_LOGIT_BIAS,
    OPT_SEED,
    OPT_RESUME,
    OPT_LIST_CHATS,
    OPT_DELETE_CHAT,
    OPT_NO_SAVE,
    OPT_HOST,
    OPT_PORT,
    OPT_TLS_CERT,
    OPT_TLS_KEY,
    OPT_KEYS,
    OPT_INSECURE_NO_KEY,
    OPT_ALLOW_HOST,
    OPT_ALLOW_ORIGIN,
    OPT_PARALLEL,
    OPT_QUEUE,
    OPT_QUEUE_TOKENS,
    OPT_TIMEOUT,
    OPT_DRAIN,
    OPT_DRAIN_DELAY,
    OPT_UNLOAD_AFTER,
    OPT_CACHE_MEMORY,
    OPT_SHARE_CACHE,
    OPT_CONNECTIONS,
    OPT_CONNECTIONS_PER_IP,
    OPT_MAX_BODY,
    OPT_METRICS_NAMES,
    OPT_LOG_PROMPTS,
    OPT_NO_PAGE,
    OPT_PARAMETERS,
    OPT_SERVERS,
    OPT_SERVERS_CA,
    OPT_READ_AHEAD,
    OPT_QUEUE_TIME,
    OPT_STATS_PORT,
    OPT_TENSORS,
    OPT_META,
    OPT_QUANT,
    OPT_REPO,
    OPT_PULL_FILE,
    OPT_REVISION,
    OPT_YES,
    OPT_MCP,
    OPT_ALLOW_TOOL,
    OPT_DENY_TOOL,
    OPT_MAX_TOOLS,
    OPT_TOOLS_COST,
    OPT_APPROVE,
    OPT_APPROVE_ALL,
    OPT_MAX_STEPS,
    OPT_ALLOW_REPEATS,
    OPT_MAX_RESULT,
    OPT_RESULT_TOKENS,
    OPT_TRANSCRIPT,
    OPT_SERVER_LOG,
    OPT_DRY_RUN,
    OPT_TYPE,
    OPT_FORCE,
    OPT_BENCH_PROMPT,
    OPT_BENCH_OUTPUT,
    OPT_BENCH_DEPTH,
    OPT_BENCH_ROUNDS,
    OPT_BENCH_BATCH,
    OPT_BENCH_FULL,
    OPT_BENCH_MACHINE,
    OPT_BENCH_PEER,
    OPT_BENCH_PEER_TIMEOUT,
    OPT_CSV,
    OPT_JSONL,
    OPT_BOS,
    OPT_DATA,
    OPT_SKIP_SPECIAL,
    OPT_IDS,
    OPT_SPLIT,
    OPT_ROWS,
    OPT_HIDDEN,
    OPT_OUT,
    OPT_LABELS,
    OPT_LABELS_FILE,
    OPT_INSTRUCTION,
    OPT_TEMPLATE,
    OPT_BY_LENGTH,
    OPT_BEGINNINGS,
    OPT_INPUT,
    OPT_INPUT_FORMAT,
    OPT_FIELD,
    OPT_ID_FIELD,
    OPT_LABEL_FIELD,
    OPT_OUTPUT_FORMAT,
    OPT_CALIBRATE,
    OPT_SAVE_CALIBRATION,
    OPT_CALIBRATION,
    OPT_EVALUATE,
    OPT_PARALLEL_ROWS,
    OPT_DATE,
    OPT_FIXED_DATE,
    OPT_MAN,
    OPT_COMPLETIONS,
    OPT_CONTEXT,
    OPT_CONTEXTS,
    OPT_SEQUENCES,
    OPT_KV,
    OPT_CHUNK,
    OPT_MAX_MEMORY,
    OPT_EXACT,
    OPT_NO_PACKED_CACHE,
    OPT_THREADS,
    OPT_ISA,
    OPT_JSON,
    OPT_QUIET,
    OPT_HELP,
    OPT_VERSION,
    OPT_COUNT
};

struct option_row {
    const char *name; /* without dashes; two rows may share one when no command has both */
    char letter;      /* short form, 0 none */
    enum arg_kind kind;
    double low, high;     /* ARG_INT, ARG_INTS, ARG_FLOAT */
    const char *value;    /* placeholder, or the words of an ARG_ENUM */
    const char *fallback; /* what holds without it, as text; NULL where the help line says it */
    const char *help;
    enum option_group group;
    uint32_t commands; /* bit per command_id */
    bool repeat;       /* may be given several times */
};

extern const struct command_row command_table[CMD_COUNT];
extern const struct option_row option_table[OPT_COUNT];
extern const char *const group_titles[GROUP_COUNT];

#define MAX_REPEAT 64

struct option_value {
    bool set;
    const char *text;            /* as written; the last one of a repeated option */
    double number;               /* ARG_FLOAT; ARG_ENUM: index of the word */
    int64_t integer;             /* ARG_INT, ARG_SIZE; ARG_DATE: seconds since the epoch */
    const char *all[MAX_REPEAT]; /* of a repeated option */
    size_t n;
};

struct parsed {
    enum command_id command;
    struct option_value values[OPT_COUNT];
    const char **args; /* [n_args] positional arguments, borrowed from argv; the array is owned */
    size_t n_args;
    char error[320]; /* empty: parsed */
    char hint[160];  /* what may have been meant; may be empty */
};

/* Reads argv[1..argc-1]. Options may stand before and after the command; "--" ends them; "-x" may be
 * clustered when all but the last are flags. False with p->error set on a usage error; values read so
 * far (--json above all) are kept. The strings of argv are borrowed. */
bool options_parse(struct parsed *p, int argc, char **argv);
void options_free(struct parsed *p);
/* Checks and stores one value as if it had been given, for defaults from the environment. */
bool options_set(struct parsed *p, enum option_id id, const char *text, const char *origin);
/* Words of an ARG_ENUM: the i-th goes to word[size]; false past the end. */
bool option_word(const struct option_row *row, unsigned i, char *word, size_t size);
/* "12", "64K", "5.5G" in bytes; false when it is none. */
bool parse_size(const char *text, uint64_t *bytes);
/* YYYY-MM-DD as seconds since the epoch, UTC midnight. */
bool parse_date(const char *text, int64_t *seconds);
/* Whole decimal number with nothing after it. */
bool parse_int(const char *text, int64_t *out);
/* "1,2,3" (commas or spaces). Returns owned [*n] (free), NULL on a malformed list, where *bad then
 * points at the offending place (or at "out of memory" text of its own). */
int64_t *parse_ints(const char *text, size_t *n, const char **bad);

/* Nearest of the names that next() gives, or NULL when none is near enough to be a slip. */
const char *nearest_name(const char *word, const char *(*next)(void *user, size_t i), void *user);

/* Text of `slm --help` (CMD_HOME) and `slm help COMMAND`, at most 80 columns. Returns owned (free). */
char *help_text(enum command_id command);
/* mdoc source of slm(1); "bash", "zsh" or "fish" completions. Return owned (free). */
char *man_page(void);
char *completions(const char *shell);

#endif
