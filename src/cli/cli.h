/* cli.h - what the files of the program share: one struct per run, output, reports, models.
 *
 * Folder rule: only include/ and src/base are used from here, which proves that the public header
 * suffices. Memory of the program comes from malloc; keep() ends the program when there is none. */
#ifndef SLM_CLI_CLI_H
#define SLM_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/mem.h"
#include "cli/options.h"
#include "slm.h"

/* Published in DESIGN.md section 2. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_COULD_NOT = 1,
    EXIT_USAGE = 2,
    EXIT_FILE_REFUSED = 3,
    EXIT_MEMORY_REFUSED = 4,
    EXIT_INTERRUPTED = 130
};

/* ---- output.c: standard output ---- */
struct output {
    char data[16384];
    size_t n;
    bool broken; /* the reader went away: quietly nothing more is written */
    int failed;  /* errno of another failure */
};
/* False when nobody reads any more or writing failed: work can stop. */
bool out_write(struct output *o, const void *data, size_t n);
bool out_text(struct output *o, const char *text);
bool out_printf(struct output *o, const char *format, ...) ATTR_PRINTF(2, 3);
bool out_flush(struct output *o);
/* One document and a newline; compact for JSONL. Takes the reference, also when it fails. */
bool out_json(struct output *o, json_t *value, bool compact);

/* ---- term.c: terminals ---- */
struct term {
    bool in_tty, out_tty, err_tty;
    bool out_colour, err_colour; /* a terminal, not "dumb", NO_COLOR unset */
    unsigned width;              /* columns, 80 where unknown */
};
void term_init(struct term *t);

struct progress {
    const struct term *term;
    bool enabled, shown;
    uint64_t start_ns, last_ns;
    char label[64], unit[16];
};
/* A line on standard error for work that takes longer than a second; nothing without a terminal.
 * unit "B" shows sizes, another one counts. A stage change starts the clock anew. */
void progress_start(struct progress *p, const struct term *t, bool quiet, const char *label,
                    const char *unit);
void progress_step(struct progress *p, uint64_t done, uint64_t total);
void progress_end(struct progress *p);

/* "1.4 GiB", "639 MiB"; "12,345"; "2 min 5 s". They write to text[size] and return it. */
const char *format_bytes(uint64_t bytes, char *text, size_t size);
const char *format_count(uint64_t n, char *text, size_t size);
const char *format_seconds(double seconds, char *text, size_t size);
/* Columns of UTF-8 text on a terminal, near enough: one per code point. */
size_t text_columns(const char *s, size_t n);

/* ---- memory.c: this machine ---- */
struct machine_memory {
    uint64_t total, available; /* bytes; of the cgroup where that is tighter */
    bool limited;              /* by a cgroup */
};
void memory_get(struct machine_memory *out);
/* The same from given places, for tests: meminfo's text, the text of /proc/self/cgroup, and where
 * the cgroup file system is mounted. */
void memory_parse(const char *meminfo, const char *membership, const char *root,
                  struct machine_memory *out);
/* Model name of the first CPU, or the architecture. */
const char *cpu_name(char *text, size_t size);

/* ---- the program's state ---- */
struct cli {
    struct parsed options;
    struct output out;
    struct term term;
    struct slm_hooks hooks; /* the library's warnings go to note() */
    bool json, quiet;
};

static inline bool opt_set(const struct cli *c, enum option_id id) {
    return c->options.values[id].set;
}
static inline const char *opt_text(const struct cli *c, enum option_id id) {
    return c->options.values[id].text;
}
static inline int64_t opt_int(const struct cli *c, enum option_id id, int64_t fallback) {
    return opt_set(c, id) ? c->options.values[id].integer : fallback;
}
static inline double opt_float(const struct cli *c, enum option_id id, double fallback) {
    return opt_set(c, id) ? c->options.values[id].number : fallback;
}
/* Index of the chosen word of an ARG_ENUM. */
static inline unsigned opt_word(const struct cli *c, enum option_id id, unsigned fallback) {
    return opt_set(c, id) ? (unsigned)c->options.values[id].number : fallback;
}

/* Ends the program with a message when p is NULL, else returns it. */
void *keep(void *p);
json_t *keep_json(json_t *p);
/* printf into owned memory. */
char *text_printf(const char *format, ...) ATTR_PRINTF(1, 2);

/* ---- errors.c: what happened, the two numbers, the ways out ---- */
enum stage { AT_LOAD, AT_WORK };
/* Prints "slm: message" and the ways out (one per line in `ways`, may be NULL) to standard error, or
 * the JSON form to standard output. Returns code. name: "E_USAGE", "E_CONTEXT", ... */
int report(struct cli *c, int code, const char *name, const char *ways, const char *format, ...)
    ATTR_PRINTF(5, 6);
int report_usage(struct cli *c, const char *ways, const char *format, ...) ATTR_PRINTF(3, 4);
/* The same from a library error; the code follows from it (a file refused at load: 3). Reports
 * nothing but the interruption for E_CANCELLED. */
int report_error(struct cli *c, enum stage stage, slm_err err, const slm_why *why,
                 const char *ways);
int exit_code_of(enum stage stage, slm_err err);
/* {"code","message","offset"?} of a failed line in JSONL. */
json_t *error_json(slm_err err, const slm_why *why);
/* One line on standard error unless --quiet. */
void note(const struct cli *c, const char *format, ...) ATTR_PRINTF(2, 3);

/* ---- signals.c: Ctrl-C ---- */
void signals_install(void);
/* What the first Ctrl-C cancels (may be NULL); the second one ends the program at once. */
void signals_watch(slm_session *session);
/* At a prompt, Ctrl-C only sets the flag, however often. */
void signals_idle(void);
/* While another program runs for this one: Ctrl-C, SIGTERM and SIGHUP only set the flag, so that the
 * other one can be ended first. false: SIGTERM and SIGHUP end this program again, and what Ctrl-C does
 * is for signals_watch to say. */
void signals_child(bool runs);
/* While programs run that have to be ended before this one: Ctrl-C, SIGTERM and SIGHUP, however often,
 * cancel the watched session and set the flag. false: as before. */
void signals_servers(bool run);
bool interrupted(void);
void interrupted_clear(void);
/* Written to the terminal if the second Ctrl-C ends the program; static text or NULL. */
void signals_last_words(const char *text);

/* ---- home.c: where slm keeps its own files ---- */
/* $SLM_HOME, else $XDG_DATA_HOME/slm, else ~/.local/share/slm, with "/rel" after it. Returns owned. */
char *home_path(const char *rel);
/* Makes the folder (0700) and those above it. */
bool home_make(struct cli *c);
/* Whole file or stream as text with a zero byte after it. Returns owned; NULL with errno. */
char *read_all(int fd, size_t limit, size_t *n);
char *read_path(const char *path, size_t limit, size_t *n);

/* ---- piped.c ---- */
/* Whether standard input (a pipe or a file) belongs to the prompt. needed: there is no other prompt. */
bool input_is_piped(struct cli *c, bool needed);

/* ---- lines.c: standard input, or another file, by lines ---- */
enum { LINE_MOST = 256 << 20 };
struct lines {
    struct buf line; /* the current one, without its newline, a zero byte after it */
    char data[65536]; /* [at, n) is read and not yet taken */
    size_t at, n;
    int fd; /* standard input after lines_init */
    bool end, failed;
};
void lines_init(struct lines *l);
/* Reads more when everything was taken. False at the end, on failure, or when interrupted. */
bool lines_fill(struct lines *l);
/* False at the end, on failure, or when interrupted. line.err is set for a line above LINE_MOST. */
bool lines_next(struct lines *l);
bool lines_blank(const struct lines *l);
void lines_free(struct lines *l);

/* ---- find.c, places.c, model_names.c: which file a MODEL means ---- */
struct disk_model {
    char *path;        /* file or folder */
    const char *place; /* "Hugging Face cache" */
    const char *id;    /* of the catalog */
    char quant[24];    /* "q8_0"; "safetensors" for a folder; "" unknown */
    uint64_t bytes;
    bool folder;
};
struct disk_list {
    struct disk_model *items; /* [n] */
    size_t n, room;
};
/* Everything on this disk that is one of the known models, in the order of the places. */
void disk_scan(struct disk_list *list);
void disk_free(struct disk_list *list);
/* The one to use for an id: that quant if given; else the best of those whose size is below
 * `memory` (0: any). NULL if none. */
const struct disk_model *disk_best(const struct disk_list *list, const char *id, const char *quant,
                                   uint64_t memory);

/* The file of a card that `slm pull` fetches unless told otherwise, by the same order; NULL if none. */
const struct slm_hub_file *default_file(const slm_card *card);

/* Which known model a repository ("Qwen/Qwen3-0.6B-GGUF", may be NULL) or a file in it
 * ("Qwen3-0.6B-Q8_0.gguf", may be NULL) is, by the catalog's names. NULL: none. */
const char *match_repo(const char *repo);
const char *match_file(const char *file);
/* Ollama's library name and tag ("qwen3", "0.6b"). */
const char *match_ollama(const char *name, const char *tag);
/* Type of weights that a file name tells ("q4_k_m"), "" if none. */
void quant_of(const char *file, char *quant, size_t size);

struct found {
    bool demo;
    char *path;        /* NULL for the built-in demo */
    const char *place; /* NULL: a path was given */
    const char *id;    /* known id that was asked for, or NULL; static */
    char quant[24];
};
/* Resolves MODEL. Returns EXIT_DONE or the code of what it reported. */
int find_model(struct cli *c, const char *name, struct found *out);
void found_free(struct found *f);

/* ---- demo_model.c ---- */
size_t demo_files(const struct slm_memory_file **files);

/* ---- load.c: engine and session for a command ---- */
struct loaded {
    struct found found;
    slm_engine *engine;
    slm_info info;
    slm_session *session;
    slm_plan plan;
    struct found draft_found; /* --draft */
    slm_engine *draft_engine;
    slm_session *draft;     /* NULL: none */
    const char *draft_name; /* lives with its engine */
    uint64_t draft_bytes;   /* planned for it */
    uint64_t allowed;       /* memory that was free for the model before it was loaded */
    uint64_t load_ns;
    struct progress progress;
    struct cli *cli;
};
/* Opens MODEL. With SLM_WEIGHTS in want the memory plan is checked first. Exit code. */
int model_open(struct cli *c, const char *name, unsigned need, unsigned want, struct loaded *m);
/* Opens a session in the context of --context, or the default. Exit code. */
int model_session(struct cli *c, struct loaded *m);
void model_close(struct loaded *m);
/* Its session alone: before images that the session holds are let go. */
void model_session_close(struct loaded *m);
/* Options of a plan or session as the command line has them, context and max_bytes left 0. */
slm_session_options session_options(const struct cli *c);
/* slm_engine_open for what find_model found, the built-in model included. */
slm_err open_found(const struct found *f, const slm_engine_options *o, slm_engine **engine,
                   slm_why *why);
/* Engine options as the command line has them. */
slm_engine_options engine_options(struct cli *c, const char *id_hint);
/* Memory that a model may take: --max-memory, or what is free less a margin. */
uint64_t memory_allowed(const struct cli *c);
/* Largest context up to `most` whose plan stays within `bytes`; 0 if not even 256 do. */
uint32_t context_within(const slm_engine *engine, const slm_session_options *base, uint32_t most,
                        uint64_t bytes);
enum { CONTEXT_DEFAULT = 8192 };
enum { DATE_FIXED = 1751932800 }; /* 2025-07-08, what --deterministic-date means */
/* What the model is called in messages. */
const char *model_title(const struct loaded *m);

/* ---- answer.c: options, request, printing and receipt of one answer ---- */
enum think_choice { THINK_ASIS, THINK_ON, THINK_OFF };
enum think_choice think_option(const struct cli *c);
/* Whether the model can be asked for that. Exit code. */
int think_check(struct cli *c, const struct loaded *m, enum think_choice think);
/* Sampling, limits, stops, date. Exit code. */
int answer_options(struct cli *c, const struct loaded *m, enum think_choice think,
                   slm_generate_options *out);
/* A message; false when the text is not UTF-8 (reported). */
bool add_message(struct cli *c, json_t *messages, const char *role, const char *text, size_t n);

/* ---- asking.c: what is asked of a model beside its messages ---- */
struct asking {
    json_t *tools, *choice, *format; /* as in slm_prompt_make; NULL: not given */
};
/* --tools, --tool-choice, --schema, --json-object, --choices, --regex. Exit code; asking_free follows
 * in any case. */
int asking_options(struct cli *c, const struct loaded *m, struct asking *a);
void asking_free(struct asking *a);
/* The document for slm_prompt_make. Borrows; returns owned. */
char *request_text(const struct loaded *m, json_t *messages, enum think_choice think,
                   const struct asking *a, size_t *n);
/* Makes the prompt and prints its warnings as notes. Exit code after a report. */
int prompt_of(struct cli *c, const struct loaded *m, json_t *messages, enum think_choice think,
              const struct asking *a, const slm_generate_options *o, slm_prompt **out);
/* The format of a->format for text without a template; NULL when there is none. Exit code. */
int constraint_of(struct cli *c, const struct loaded *m, const struct asking *a,
                  slm_constraint **out);

struct speaker {
    struct cli *c;
    bool stream, show_reasoning, framed; /* framed: reasoning marked by words, not by dimness */
    struct buf answer, reasoning;
    json_t *calls;       /* array of tool calls in OpenAI's shape */
    int part;            /* last printed, -1 none */
    bool any, line_open; /* something of this part was printed; the last character was no newline */
    size_t held;         /* newlines held back until more of the part comes */
    struct progress progress;
};
void speaker_init(struct speaker *s, struct cli *c, bool stream);
/* on_text and on_prefill of slm_generate_options. */
bool speaker_text(void *user, enum slm_part part, const char *text, size_t n);
/* on_call: a line of its own. */
bool speaker_call(void *user, const slm_tool_call *call);
bool speaker_prefill(void *user, size_t done, size_t total);
/* Ends colours and the line. */
void speaker_end(struct speaker *s);
void speaker_free(struct speaker *s);

/* Reports an error of slm_chat, slm_session_sync or slm_generate; for a prompt that is too long with
 * the ways out. */
int report_answer(struct cli *c, const struct loaded *m, slm_err err, const slm_why *why,
                  size_t prompt_tokens);
/* One line about model, machine and context, where standard error is a terminal. */
void note_model(const struct cli *c, const struct loaded *m);
/* finish, usage, timings and receipt into `into`. */
void add_receipt(json_t *into, const struct cli *c, const struct loaded *m, const slm_result *r);
const char *finish_name(enum slm_finish finish);
/* Words on an answer that ended early, for standard error; nothing when it ended by itself. */
void note_finish(const struct cli *c, const struct loaded *m, const slm_result *r);

/* ---- images.c: pictures for a model ---- */
struct shown {
    slm_image **list; /* [n] */
    size_t n;
    struct progress progress;
    struct cli *cli;
};
/* Decodes a file and lets the model see it: appended to the list. Exit code after a report. */
int show_picture(struct cli *c, const struct loaded *m, const char *path, struct shown *s);
/* The same with an error instead of a report; s is for the progress. *image is owned. */
slm_err open_picture(struct cli *c, const struct loaded *m, const char *path, struct shown *s,
                     slm_image **image, slm_why *why);
/* Reports a model that does not see. Exit code. */
int picture_check(struct cli *c, const struct loaded *m);
/* All of --image, and of --pixels. */
int show_given(struct cli *c, const struct loaded *m, struct shown *s);
/* An array: how many views and tokens each takes, whether it was known already, or the time it took. */
json_t *shown_receipt(const struct shown *s);
/* The content of a message: n pictures, then its text (borrowed). */
json_t *picture_parts(size_t n, json_t *text);
void shown_free(struct shown *s);
/* The mmproj*.gguf beside a GGUF model, if there is exactly one. Returns owned, or NULL. */
char *tower_beside(const char *model);
/* open_found with that file as the image tower, unless o->vision names one. Where it does not belong to
 * the model this is opened without; *left then says why (code SLM_OK otherwise). */
slm_err open_seeing(const struct found *f, slm_engine_options *o, slm_engine **engine, slm_why *why,
                    slm_why *left);

/* ---- cmd_run.c ---- */
/* The words of the command line from the second on, joined; '-' and what is piped in. Exit code. */
int gather_prompt(struct cli *c, struct buf *b);

/* ---- cmd_chat.c ---- */
int chat_with(struct cli *c, const char *model); /* also what `slm` alone ends in */

/* ---- store.c: conversations in SQLite ---- */
struct store;
struct store_row {
    int64_t id, changed;               /* seconds since the epoch */
    const char *name, *model, *system; /* name and system may be NULL; valid during the call */
    int64_t turns;
    const char *first; /* beginning of the first message */
};
/* Opens or makes $SLM_HOME/chats.db. NULL after a report. */
struct store *store_open(struct cli *c);
void store_close(struct store *s);
/* Newest first; each() returns false to stop. */
bool store_list(struct store *s, bool (*each)(void *user, const struct store_row *row), void *user);
/* By name or number; the newest with that model when key is empty. 0: there is none. */
int64_t store_find(struct store *s, const char *key, const char *model);
/* Appends the messages to the array; *system is returned owned or NULL, like *model. */
bool store_load(struct store *s, int64_t id, json_t *messages, char **model, char **system);
/* Writes messages[from..] of a conversation; *id 0 makes a new one. If another program has gone on
 * with the same conversation meanwhile, a copy is made and *id changes. One transaction, on disk when
 * this returns. */
bool store_save(struct store *s, int64_t *id, const char *model, const char *system,
                json_t *messages, size_t from);
bool store_name(struct store *s, int64_t id, const char *name);
bool store_delete(struct store *s, int64_t id);
const char *store_error(struct store *s);

/* ---- commands ---- */
int cmd_home(struct cli *c);
int cmd_run(struct cli *c);
int cmd_chat(struct cli *c);
int cmd_complete(struct cli *c);
int cmd_models(struct cli *c);
int cmd_plan(struct cli *c);
int cmd_info(struct cli *c);
int cmd_pull(struct cli *c);
int cmd_quantize(struct cli *c);
int cmd_bench(struct cli *c);
int cmd_tokenize(struct cli *c);
int cmd_detokenize(struct cli *c);
int cmd_render(struct cli *c);
int cmd_logits(struct cli *c);
int cmd_serve(struct cli *c);
int cmd_deploy(struct cli *c);
int cmd_agent(struct cli *c);
int cmd_classify(struct cli *c);
int cmd_extract(struct cli *c);
int cmd_help(struct cli *c);

#endif
