/* params.h - the one table of what requests may say: names, types, ranges, meaning.
 *
 * The dialects read requests by it, `slm serve --parameters` prints docs from it, and a test gives each
 * parameter twenty-five wrong values. Names of several dialects that mean the same lead to one id. */
#ifndef SLM_SERVER_PARAMS_H
#define SLM_SERVER_PARAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct api_error;

/* Where a name may stand. */
enum param_place {
    IN_CHAT = 1,            /* OpenAI /v1/chat/completions */
    IN_COMPLETIONS = 2,     /* OpenAI /v1/completions */
    IN_RESPONSES = 4,       /* OpenAI /v1/responses */
    IN_EMBEDDINGS = 8,      /* OpenAI /v1/embeddings */
    IN_MESSAGES = 16,       /* Anthropic /v1/messages and count_tokens */
    IN_OLLAMA = 32,         /* Ollama: top level of chat, generate, embed */
    IN_OLLAMA_OPTIONS = 64, /* Ollama: inside "options" */
    IN_LLAMA = 128,         /* llama-server: /completion */
    IN_UTIL = 256           /* tokenize, detokenize, apply-template, show and the like */
};

enum param_type {
    PARAM_BOOL,
    PARAM_INT,     /* whole, low..high */
    PARAM_FLOAT,   /* low..high */
    PARAM_STRING,  /* at most `high` bytes */
    PARAM_STRINGS, /* a string or an array of strings: low..high of them, of at most 256 bytes each */
    PARAM_ARRAY,   /* low..high items */
    PARAM_OBJECT,
    PARAM_ANY /* whoever reads it looks at it */
};

/* One meaning; several rows may lead to it. To add a parameter: an id and a row. */
enum param_id {
    P_MODEL,
    P_MESSAGES,
    P_PROMPT,
    P_INPUT,
    P_SYSTEM,
    P_SUFFIX,
    P_STREAM,
    P_STREAM_OPTIONS,
    P_PROGRESS,
    P_TIMINGS,
    P_MAX_TOKENS,
    P_TEMPERATURE,
    P_TOP_P,
    P_TOP_K,
    P_MIN_P,
    P_TYPICAL_P,
    P_REPEAT_PENALTY,
    P_PRESENCE_PENALTY,
    P_FREQUENCY_PENALTY,
    P_SEED,
    P_STOP,
    P_LOGIT_BIAS,
    P_IGNORE_EOS,
    P_N,
    P_BEST_OF,
    P_LOGPROBS,
    P_TOP_LOGPROBS,
    P_ECHO,
    P_TOOLS,
    P_TOOL_CHOICE,
    P_PARALLEL_TOOL_CALLS,
    P_FORMAT,
    P_SCHEMA,
    P_REGEX,
    P_CHOICES,
    P_GRAMMAR,
    P_EFFORT,
    P_REASONING,
    P_THINKING,
    P_THINK,
    P_THINK_BUDGET,
    P_TEMPLATE_KWARGS,
    P_OPTIONS,
    P_NUM_CTX,
    P_KEEP_ALIVE,
    P_RAW,
    P_TEMPLATE,
    P_IMAGES,
    P_OLD_CONTEXT,
    P_TRUNCATE,
    P_ENCODING,
    P_DIMENSIONS,
    P_TEXT,
    P_TOKENS,
    P_ADD_SPECIAL,
    P_PARSE_SPECIAL,
    P_PIECES,
    P_RETURN_TOKENS,
    P_CACHE_PROMPT,
    P_SESSION,
    P_PREVIOUS,
    P_METADATA,
    P_INCLUDE,
    P_TRUNCATION,
    P_BACKGROUND,
    P_IGNORED, /* known, without effect here: user, store, service_tier ...; only its name is noted */
    P_COUNT
};

struct param_row {
    const char *name;
    enum param_id id;
    enum param_type type;
    double low, high;     /* of numbers; of counts of strings and items; bytes of a string (high) */
    const char *fallback; /* what holds without it, in words; NULL: nothing to say */
    unsigned places;      /* param_place bits */
    bool required;
    const char *help; /* one sentence */
};
extern const struct param_row param_table[];
extern const size_t n_params;
/* The row of a name in one of these places; NULL: there is none. */
const struct param_row *params_row(const char *name, unsigned place);

struct param_value {
    bool set;
    bool flag;          /* PARAM_BOOL */
    int64_t integer;    /* PARAM_INT; of a PARAM_FLOAT without its fraction */
    double number;      /* PARAM_INT, PARAM_FLOAT */
    const char *text;   /* PARAM_STRING: [n] borrowed from the tree */
    size_t n;           /* bytes of a string, strings, items of an array */
    const json_t *json; /* the value itself, borrowed */
    const char *name;   /* as the client called it; static */
};
enum { PARAM_NOTED_MOST = 16 };
struct params {
    struct param_value values[P_COUNT];
    const json_t *object;
    unsigned place;
    const char *unknown[PARAM_NOTED_MOST]; /* names that no row has, borrowed from the tree */
    const char *ignored[PARAM_NOTED_MOST]; /* known ones without effect */
    size_t n_unknown, n_ignored;           /* how many there were; the first ones are held */
};
/* Reads an object by the rows of a place. null counts as absent. Two names of one meaning are an error
 * unless they say the same. False: *e is the error (400, with param and what would be right). The
 * object is borrowed while *out is used. */
bool params_read(const json_t *object, unsigned place, struct params *out, struct api_error *e);
bool params_bool(const struct params *p, enum param_id id, bool fallback);
/* The table as Markdown. Returns owned (free); NULL without memory. */
char *params_markdown(void);

#endif
