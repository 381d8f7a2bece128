/* api.h - the wire dialects of `slm serve`: bytes of a request to what has to be done, and what came of
 * it to bytes of the answer. Pure conversion: no sockets, no threads, no clock, no models but what a call
 * is handed. OpenAI (chat, completions, responses, embeddings, models), Anthropic, Ollama, llama-server.
 *
 * The way of a request:
 *   api_route_find     method and path to a row of the table: which dialect, what is to be done
 *   api_read           body to struct api_call, or to an error (also for what is not supported)
 *   api_inform         answers that need no generating: lists of models, tokens of a text, counts
 *   api_fit            does the prompt fit? (400 with both numbers)
 *   api_options        options of slm_generate for one candidate
 *   api_reply_*        what happens to the candidates, to bytes: pieces of a stream, or one body
 *   api_error_body     any error, in the words of the dialect
 * Candidates: prompt p has the candidates p * choices .. p * choices + choices - 1.
 *
 * Untrusted: body and path. Nothing recurses on them (base/json.h bounds the depth); what grows has a
 * ceiling. A call, a reply: one thread at a time. Memory comes from malloc. */
#ifndef SLM_SERVER_API_H
#define SLM_SERVER_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "slm.h"

/* ------------------------------------------------------------------ routes */

enum api_family {
    API_OPENAI,
    API_ANTHROPIC,
    API_OLLAMA,
    API_LLAMA
}; /* whose words errors are in */
enum api_op {
    API_GENERATE, /* prompts to candidates; api_reply */
    API_EMBED,    /* prompts to vectors; api_reply */
    API_LOAD,     /* only load the model, or unload it (keep_alive 0); api_inform */
    API_COUNT,    /* tokens of the prompt; api_inform */
    API_TOKENIZE, /* api_inform, and so are all below */
    API_DETOKENIZE,
    API_TEMPLATE,  /* the prompt as text */
    API_TOKENIZER, /* special tokens and template */
    API_SHOW,      /* one model, loaded or not */
    API_PROPS,
    API_MODELS,  /* the models there are */
    API_MODEL,   /* one of them */
    API_RUNNING, /* those that are loaded */
    API_SLOTS,
    API_VERSION,
    API_PULL /* an error that tells how */
};
struct api_reader; /* api_read.h */
struct api_shape;  /* api_reply.h */
struct api_route {
    const char *method, *path; /* a path that ends in "/" + "*" takes a name in its place */
    enum api_family family;
    enum api_op op;
    bool has_body;    /* JSON is wanted in the request */
    bool wants_model; /* the call's model has to be loaded before it is answered */
    const char *what; /* one line for the docs */
    bool (*read)(struct api_reader *r); /* body to call; NULL: nothing is read of it */
    const struct api_shape *shape;      /* how a reply looks; of GENERATE and EMBED */
};
/* The table, ended by a row without path. */
extern const struct api_route api_routes[];
/* NULL: no such path (*known false) or not with that method (*known true: 405). *name is what stands in
 * the place of the star, else NULL. A trailing slash is the same path. */
const struct api_route *api_route_find(const char *method, const char *path, const char **name,
                                       bool *known);

/* ------------------------------------------------------------------ errors */

struct api_error {
    int status; /* of HTTP */
    const char
        *type; /* OpenAI's word, static: "invalid_request_error"; others follow from status */
    const char *code; /* "context_length_exceeded", static, or NULL */
    char param[64];   /* field that is meant, or "" */
    char message[640];
    uint64_t n_prompt, n_context; /* of context_length_exceeded, else 0 */
    uint64_t retry_ms;            /* when to try again (Retry-After, retry-after-ms); 0: no use */
};
/* Fills *e; type follows from the status. code: static or NULL; param may be NULL. Returns false, for
 * callers that return whether it worked. */
bool api_fail(struct api_error *e, int status, const char *code, const char *param,
              const char *format, ...) ATTR_PRINTF(5, 6);
/* From an error of the library: E_CONTEXT, E_ARG, E_FORMAT, E_UNSUPPORTED, E_RAISED, E_BUDGET, E_ENCODING
 * are the request's fault (400), E_NOTFOUND 404, E_BUSY 429, E_MEMORY and E_NOMEM 503, the rest 500. */
bool api_fail_slm(struct api_error *e, slm_err err, const slm_why *why);
/* The body of an answer with that status, in the family's words. */
void api_error_body(enum api_family family, const struct api_error *e, struct buf *out);

/* ------------------------------------------------------------------ calls */

enum api_prompt_kind {
    API_CHAT, /* a document for slm_prompt_make */
    API_TEXT, /* raw text; BOS in front where the model wants one */
    API_IDS
};
struct api_prompt {
    enum api_prompt_kind kind;
    const char *text; /* [n] of CHAT and TEXT; a zero byte follows */
    size_t n;
    const int32_t *ids; /* [n_ids] of IDS */
    size_t n_ids;
    bool no_bos; /* of TEXT: as it is */
};

/* Sampling that the request states; the rest is the model's default. */
enum api_sampling_field {
    SET_TEMPERATURE,
    SET_TOP_K,
    SET_TOP_P,
    SET_MIN_P,
    SET_TYPICAL_P,
    SET_REPETITION_PENALTY,
    SET_PRESENCE_PENALTY,
    SET_FREQUENCY_PENALTY
};
struct api_sampling {
    unsigned set; /* 1 << enum api_sampling_field */
    slm_sampling values;
};

/* Bytes of an image part of the document, as the body has them: borrowed from it. */
struct api_image {
    const char *base64;
    size_t n;
};
/* Decodes it. *bytes [n] is owned by the caller (free), NULL on failure. */
bool api_image_bytes(const struct api_image *image, uint8_t **bytes, size_t *n,
                     struct api_error *e);

enum { API_IMAGES_MOST = 16 };
enum { API_CHOICES_MOST = 64, API_PROMPTS_MOST = 256, API_CANDIDATES_MOST = 256 };

struct api_call {
    const struct api_route *route;
    enum api_op op;    /* the route's, or API_LOAD for an Ollama request without a prompt */
    const char *model; /* NULL: the one there is, or the default one */
    struct api_prompt *prompts; /* [n_prompts] */
    size_t n_prompts, choices;  /* candidates: n_prompts * choices */
    /* for the image parts of a chat, in their order; those before first_image went with api_drop_turn */
    struct api_image images[API_IMAGES_MOST];
    size_t n_images, first_image;
    bool stream;
    bool truncate; /* E_CONTEXT may be avoided by api_drop_turn */

    /* for api_options and api_reply; the server has no need to look at these */
    struct api_sampling sampling;
    bool seed_set;           /* else the server puts a random number into sampling.values.seed */
    bool score_only;         /* no output was asked for: max_tokens 0 */
    uint32_t max_tokens;     /* 0: until the context is full */
    uint32_t think_budget;   /* 0: none */
    const char *const *stop; /* [n_stop] */
    size_t n_stop;
    uint32_t top; /* alternatives per token */
    bool logprobs, echo;
    bool ignore_stop_ids;
    bool include_usage, progress, timings, return_tokens, base64;
    bool add_special, parse_special, pieces; /* of the small routes */
    bool both_keys;                          /* /tokenize was asked in the words of lm-eval */
    uint32_t dimensions;                     /* of embeddings; 0: all */
    bool unit_vectors;                       /* scaled to length 1 */

    /* for the server */
    uint32_t num_ctx; /* the context may not be used beyond this; 0: all of it */
    bool keep_alive_set;
    int64_t keep_alive_s; /* negative: for ever */
    bool has_constraint;  /* of raw prompts: slm_constraint_open; a chat's is in its document */
    enum slm_constraint_kind constraint_kind;
    const char *constraint; /* [n_constraint] */
    size_t n_constraint;
    const char *session; /* affinity key of the client (prompt_cache_key, x-session-id), or NULL */
    struct buf
        warnings; /* "ignored: foo, bar; ..." for the header x-slm-warning; printable ASCII */

    /* the rest is the dialects' own */
    json_t *body;        /* as parsed, or NULL */
    json_t *document;    /* of a chat */
    char *document_text; /* prompts[0].text of a chat */
    size_t n_dropped;    /* turns that api_drop_turn took */
    size_t n_drops;      /* calls of api_drop_turn */
    size_t over_n, over_limit; /* of the last prompt that did not fit */
    size_t drop_mark;    /* where the warning about them begins */
    struct arena arena;  /* everything that is pointed to lives here */
};
/* body [n] borrowed for the call; name: what api_route_find gave. False and *e filled when it cannot be;
 * *out needs api_call_free in either case. */
bool api_read(const struct api_route *route, const char *name, const char *body, size_t n,
              struct api_call *out, struct api_error *e);
void api_call_free(struct api_call *call);
/* Adds to the warnings: what the library said of the prompt (one per line), or the server's own words. */
void api_warn(struct api_call *call, const char *words);

/* Does a prompt of n tokens fit a context (and the call's num_ctx)? At least one token must be left for
 * the answer. The error has both numbers. */
bool api_fit(struct api_call *call, size_t n, uint32_t context, struct api_error *e);
/* With truncate: takes the oldest turns that are neither system nor the last from prompt 0 (calls of tools
 * go with their results): about as many as the last api_fit found too much, at least one; counts them, and says so in the warnings. False when there is none left. */
bool api_drop_turn(struct api_call *call);
/* How candidate i is generated: the model's defaults (those without thinking when no_think), what the call
 * says, seed + number of the choice, and max_tokens within the context (n_prompt of context are taken). All
 * but callbacks, user, prompt and constraint; stop and bias are borrowed from the call. */
void api_options(const struct api_call *call, size_t i, const slm_info *info, bool no_think,
                 size_t n_prompt, uint32_t context, slm_generate_options *out);
/* Whether on_prompt of slm_request is needed (echo with logprobs), and its prompt_top. */
bool api_wants_prompt(const struct api_call *call, uint32_t *top);

/* ------------------------------------------------------------------ answers without generating */

enum api_state { API_UNLOADED, API_LOADING, API_LOADED };
/* One model as the server has it. Pointers may be NULL where nothing is known. */
struct api_model {
    const char *id;       /* what calls name */
    const char *path;     /* for /props; NULL for the one in the program */
    const char *quant;    /* "q8_0" */
    const char *identity; /* hash of weights and template, hexadecimal */
    enum api_state state;
    const slm_engine
        *engine; /* of a loaded one; for /api/show and /tokenize a tokenizer suffices */
    uint32_t context, context_most; /* in use, and of the model */
    uint64_t file_bytes, memory_bytes, params;
    int64_t modified_ns, expires_ns; /* since the epoch; expires 0: never */
    bool takes_images;
    enum slm_think think;
    const char *tools; /* as in slm_info */
    const char *family, *title, *maker, *licence;
    size_t slots;
};
struct api_slot {
    const char *model;
    bool busy;
    uint64_t request;
    size_t n_prompt, n_decoded;
    uint32_t context;
};
struct api_world {
    const struct api_model *models; /* [n_models] */
    size_t n_models;
    const struct api_slot *slots; /* [n_slots] */
    size_t n_slots;
    int64_t now_ns;   /* since the epoch */
    uint64_t load_ns; /* what loading the model of this call took just now */
};
/* The whole body for every op but GENERATE and EMBED. model: the call's, NULL where the route needs none.
 * False and *e filled when it cannot be. Cost: that of encoding the text in the call. */
bool api_inform(const struct api_call *call, const struct api_world *world,
                const struct api_model *model, struct buf *out, struct api_error *e);

/* ------------------------------------------------------------------ replies */

/* What the answer is called; borrowed for the reply's life. */
struct api_facts {
    const char *unique; /* [A-Za-z0-9]{8,40}, different for every request: ids are made of it */
    const char *model;  /* as answers name it */
    const char *fingerprint; /* what weights and template answer: system_fingerprint */
    int64_t created_ns;      /* since the epoch */
    /* Bytes that an id stands for, valid until the next call; NULL and 0 for none. */
    const char *(*token)(void *user, int32_t id, size_t *n);
    void *user;
};
struct api_spent { /* of a candidate, beside what slm_result has */
    uint64_t queue_ns, load_ns, total_ns;
};

struct api_reply;
/* call and facts are borrowed. NULL when out of memory. */
struct api_reply *api_reply_new(const struct api_call *call, const struct api_facts *facts);
void api_reply_free(struct api_reply *reply); /* NULL allowed */
/* "text/event-stream", "application/x-ndjson", "application/json; charset=utf-8" */
const char *api_reply_type(const struct api_call *call);
/* Bytes to be sent now: take them and set len 0. Without stream there are none before api_reply_end. Its
 * err is sticky: E_NOMEM, or E_BUDGET for an answer beyond 256 MiB; nothing is added then. */
struct buf *api_reply_out(struct api_reply *reply);

/* In this order. The prompts are ready and will be evaluated: number of tokens of each, [n_prompts]. */
void api_reply_begin(struct api_reply *reply, const size_t *prompt_tokens);
/* Events of candidate i (of prompt p), as the callbacks of slm_request give them; candidates may be mixed. */
void api_reply_prompt(struct api_reply *reply, size_t p, const slm_choice *choice);
void api_reply_choice(struct api_reply *reply, size_t i, const slm_choice *choice);
void api_reply_text(struct api_reply *reply, size_t i, enum slm_part part, const char *text,
                    size_t n);
void api_reply_call(struct api_reply *reply, size_t i, const slm_tool_call *call);
void api_reply_embedding(struct api_reply *reply, size_t p, const float *values, size_t n,
                         size_t n_tokens);
void api_reply_progress(struct api_reply *reply, size_t i, size_t done, size_t total);
void api_reply_done(struct api_reply *reply, size_t i, const slm_result *result,
                    const struct api_spent *spent);
/* A sign of life while nothing else comes: a comment, or the dialect's ping; nothing without stream. */
void api_reply_ping(struct api_reply *reply);
/* All candidates are done: what ends the stream, or the whole body. */
void api_reply_end(struct api_reply *reply);
/* Instead of api_reply_end, after a stream has begun: the error as the dialect's last event. */
void api_reply_error(struct api_reply *reply, const struct api_error *error);

#endif
