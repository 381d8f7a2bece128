/* api_reply.h - the inside of a reply: what the dialects (api_*.c) add bytes to.
 *
 * api_reply.c collects what the candidates give, and calls the shape of the route: for streams at every
 * event, for whole answers once at the end. What a dialect needs later is kept only when it says so. */
#ifndef SLM_SERVER_API_REPLY_H
#define SLM_SERVER_API_REPLY_H

#include "server/api.h"
#include "server/api_write.h"

enum { API_REPLY_MOST = 256 << 20 }; /* bytes of one answer */

struct api_tool { /* a call of a tool that was made; offsets into api_candidate.calls */
    size_t name, n_name, arguments, n_arguments;
};
/* Tokens with their log-probabilities, as JSON that only wants brackets around it. */
struct api_logprobs {
    struct buf content; /* {"token",...},... since the last time it was given out (chat) */
    struct buf tokens, values, tops, offsets; /* of /v1/completions */
    size_t n_characters;                      /* offset of the next token */
};
struct api_candidate {
    struct buf answer, reasoning; /* as far as kept */
    struct buf calls;             /* names and arguments of the tools, behind each other */
    struct api_tool *tools;       /* [n_tools] */
    size_t n_tools;
    struct api_logprobs logprobs;
    int block;              /* what a dialect of blocks has open: enum api_block */
    size_t n_blocks;        /* that were opened */
    size_t block_begin;     /* of the text in answer or reasoning, where it is kept */
    struct buf ids;         /* that were chosen, where the call wants them */
    struct buf given;       /* Responses: log-probabilities of the item that is open */
    struct buf items;       /* Responses: output items that are complete, comma between them */
    bool thought, answered; /* reasoning, and text of the answer, have come */
    bool started, done;
    slm_result result;
    struct api_spent spent;
};
enum api_block { BLOCK_NONE, BLOCK_REASONING, BLOCK_ANSWER };

struct api_prompt_seen {
    size_t n_tokens;
    struct api_logprobs logprobs; /* of echo */
};
struct api_reply {
    const struct api_call *call;
    const struct api_facts *facts;
    struct buf out;
    struct api_candidate *candidates; /* [n_candidates] */
    size_t n_candidates;
    struct api_prompt_seen *prompts; /* [call->n_prompts] */
    struct buf *vectors;             /* [call->n_prompts] of embeddings, rendered; else NULL */
    uint64_t sequence;               /* Responses: number of the next event */
    bool begun, ended;
};

/* How a dialect's replies look. Any function may be NULL. */
struct api_shape {
    bool lines; /* streams are lines of JSON, not server-sent events */
    bool keep;  /* keep texts and calls in a stream, too */
    void (*begin)(struct api_reply *r);
    void (*text)(struct api_reply *r, size_t i, enum slm_part part, const char *text, size_t n);
    void (*call)(struct api_reply *r, size_t i, const slm_tool_call *call);
    void (*progress)(struct api_reply *r, size_t i, size_t done, size_t total);
    void (*done)(struct api_reply *r, size_t i);
    void (*ping)(struct api_reply *r); /* NULL: a comment in events, nothing in lines */
    void (*end)(struct api_reply *r);
    void (*error)(struct api_reply *r, const struct api_error *e);
    void (*whole)(struct api_reply *r);
};
extern const struct api_shape shape_chat, shape_completions, shape_responses, shape_embeddings,
    shape_messages, shape_ollama_chat, shape_ollama_generate, shape_ollama_embed,
    shape_ollama_embedding, shape_llama, shape_llama_embedding;

/* ---- framing ---- */
/* An event of a stream: "event: NAME\n" (name may be NULL), "data: ", the JSON that is written between
 * the two calls, and what ends it; a line of JSON in dialects of lines. */
void frame_open(struct api_reply *r, const char *name);
void frame_close(struct api_reply *r);
/* Puts `data` at the end of a stream as it is: "[DONE]". */
void frame_done(struct api_reply *r);

/* ---- shared pieces ---- */
/* "chatcmpl-" and the reply's unique letters. */
void put_id(struct buf *b, const char *key, const char *prefix, const struct api_reply *r);
/* The id of call k of candidate i: unique in the conversation. */
void put_call_id(struct buf *b, const char *key, const char *prefix, const struct api_reply *r,
                 size_t i, size_t k);
const char *tool_name(const struct api_candidate *c, size_t k, size_t *n);
const char *tool_arguments(const struct api_candidate *c, size_t k, size_t *n);

struct api_usage {
    uint64_t prompt, cached, output, reasoning;
};
/* Of all candidates: a prompt counts once, cached is what its first candidate reused. */
struct api_usage reply_usage(const struct api_reply *r);
/* "usage":{...} as OpenAI's chat and completions have it; null before the end of a stream. */
void put_usage(struct buf *b, const struct api_reply *r);
/* What OpenAI's chat and completions begin with, up to "choices":[ */
void open_choices(struct api_reply *r, const char *prefix, const char *object);
/* How their streams end: usage where it was asked for, and [DONE]. */
void end_choices(struct api_reply *r, const char *prefix, const char *object);
/* "timings":{...} as llama-server has it, for one candidate. */
void put_timings(struct buf *b, const struct api_candidate *c);
/* "stop", "length", "tool_calls" */
const char *finish_reason(const struct api_candidate *c);
/* The stop string that ended it, or NULL. */
const char *stop_string(const struct api_reply *r, const struct api_candidate *c);

/* ---- log-probabilities (api_logprobs.c) ---- */
void logprobs_init(struct api_logprobs *l);
void logprobs_free(struct api_logprobs *l);
/* One token, in both forms: what a dialect does not use stays empty. */
void logprobs_chat(struct api_reply *r, struct api_logprobs *l, const slm_choice *choice);
void logprobs_text(struct api_reply *r, struct api_logprobs *l, const slm_choice *choice);
/* "logprobs":{"content":[...],"refusal":null} of what is pending, which is then taken, or null. */
void put_logprobs_chat(struct buf *b, const char *key, struct api_reply *r, struct api_logprobs *l);
/* [...] alone */
void put_logprobs_list(struct buf *b, const char *key, struct api_logprobs *l);
/* {"tokens","token_logprobs","top_logprobs","text_offset"}: the prompt's in front, and what is pending of
 * an answer, which is taken; either may be NULL. */
void put_logprobs_text(struct buf *b, const char *key, const struct api_logprobs *prompt,
                       struct api_logprobs *l);

#endif
