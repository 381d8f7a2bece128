/* slm.h - small language models on a CPU: open, plan, render, tokenize, evaluate, generate.
 *
 * A complete program:
 *
 *     #include <slm.h>
 *     #include <stdio.h>
 *     #include <string.h>
 *
 *     static bool say(void *user, enum slm_part part, const char *text, size_t n) {
 *         (void)user;
 *         if (part == SLM_PART_ANSWER)
 *             fwrite(text, 1, n, stdout);
 *         return true; // false would stop the generation
 *     }
 *
 *     int main(int argc, char **argv) {
 *         const char *chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"What is 47 * 36?\"}]}";
 *         slm_engine *engine = NULL;
 *         slm_session *session = NULL;
 *         slm_why why;
 *         slm_result result = {sizeof result};
 *         slm_generate_options options = slm_generate_default();
 *         options.on_text = say;
 *         if (argc < 2 || slm_engine_open(argv[1], NULL, &engine, &why) != SLM_OK ||
 *             slm_session_open(engine, NULL, &session, &why) != SLM_OK ||
 *             slm_chat(session, chat, strlen(chat), &options, &result, &why) != SLM_OK)
 *             return argc < 2 ? 2 : (fprintf(stderr, "%s\n", why.message), 1);
 *         slm_session_close(session);
 *         slm_engine_close(engine);
 *         return 0;
 *     }
 *
 * Threads. An engine is constant once open and may be shared by any number of threads. A session
 * belongs to one thread at a time (slm_session_cancel alone may be called from anywhere, also from
 * a signal handler), and so does a batch. The library starts worker threads per session or batch and
 * for loading; it installs no signal handlers, reads no environment variables, never prints, exits or
 * aborts.
 *
 * Structs with a `size` field: set it to sizeof before the call (the _default() functions do); a
 * size that cannot be right is E_ARG. Fields beyond the caller's size are not touched, so programs
 * built with an older header keep working; options of a newer header are taken as long as the
 * fields that this library does not know are zero, else E_ARG. Structs that stand inside others
 * (slm_sampling, slm_render_options) keep their size: later fields use up `reserved`.
 *
 * Pointers may be NULL only where their comment says so, and always: a slm_why (no reason wanted),
 * an options struct (the defaults), a callback, and what a _close or slm_free function is given.
 * Results are NULL or untouched when a call fails, and *why is written only then.
 *
 * Memory. What a function "returns owned" is freed with slm_free(engine, p). Text is UTF-8 with
 * explicit lengths; returned text also ends with a zero byte. Once a session is open, producing a
 * token allocates nothing; answers with a constraint, or with calls of tools that are held until they are
 * complete, may. */
#ifndef SLM_H
#define SLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slm_error.h"
#include "slm_hooks.h"

#if defined(_WIN32)
#define SLM_API
#elif defined(__GNUC__)
#define SLM_API __attribute__((visibility("default")))
#else
#define SLM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SLM_VERSION "0.1.0"
SLM_API const char *slm_version(void);
/* Fixed short text ("file is malformed") and symbolic name ("E_FORMAT") of a code; never NULL. */
SLM_API const char *slm_err_text(slm_err code);
SLM_API const char *slm_err_name(slm_err code);

/* ------------------------------------------------------------------ the models known by name */

enum slm_think {
    SLM_THINK_NONE,   /* never thinks */
    SLM_THINK_SWITCH, /* thinks unless told not to */
    SLM_THINK_ALWAYS  /* cannot be told not to */
};

typedef struct slm_sampling {
    size_t size;
    float temperature;        /* 0: greedy, and nothing below it matters */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float typical_p;          /* 1: off */
    float repetition_penalty; /* 1: off; multiplicative, over prompt and output */
    float presence_penalty;   /* 0: off; subtracted once for each token of the output */
    float frequency_penalty;  /* 0: off; subtracted per occurrence in the output */
    uint64_t seed;            /* same seed, same text */
    const struct slm_bias {   /* borrowed; added to logits before everything else */
        int32_t id;
        float bias; /* -INFINITY bans */
    } *bias;
    size_t n_bias;
    void *reserved[4]; /* NULL */
} slm_sampling;
/* Greedy, everything off, seed 0. */
SLM_API slm_sampling slm_sampling_default(void);

struct slm_score {
    const char *benchmark, *source;
    double value; /* per cent, unless the name says otherwise */
};
struct slm_hub_file {
    const char *quant, *repo, *file; /* file NULL: the repository's safetensors */
    uint64_t bytes;                  /* about; 0 unknown */
};
/* One row of the table of known models; every pointer is static, NULL or 0 where nothing is known. */
typedef struct slm_card {
    size_t size;
    const char *id, *title, *maker, *hub_id, *family, *modalities, *languages, *licence, *licence_url, *thinking,
        *tool_use, *good_at, *sampling_note;
    uint64_t params;         /* text part, tied embedding counted once */
    uint64_t params_embed;   /* of these, the embedding */
    uint32_t context, layers, hidden, vocab;
    uint64_t kv_bytes_token; /* f16, layers that grow */
    uint64_t kv_bytes_fixed; /* f16, sliding layers when full */
    enum slm_think think;
    slm_sampling sampling, sampling_no_think;
    uint32_t suggested_output;
    const struct slm_score *scores;
    size_t n_scores;
    const struct slm_hub_file *files;
    size_t n_files;
    bool builtin; /* the demo model */
} slm_card;
SLM_API size_t slm_catalog_count(void);
/* i in 0..count-1; E_ARG otherwise. */
SLM_API slm_err slm_catalog_get(size_t i, slm_card *out);
SLM_API slm_err slm_catalog_find(const char *id, slm_card *out); /* E_NOTFOUND */

/* ------------------------------------------------------------------ engine: an opened model */

typedef struct slm_engine slm_engine;

enum slm_parts { SLM_TOKENIZER = 1, SLM_TEMPLATE = 2, SLM_WEIGHTS = 4, SLM_ALL = 7 };

/* done and total are bytes. Return false to cancel (the call then gives E_CANCELLED). May be called
 * from a thread of the library, one at a time. */
typedef bool (*slm_progress)(void *user, const char *stage, uint64_t done, uint64_t total);

typedef struct slm_engine_options {
    size_t size;
    const struct slm_hooks *hooks; /* copied; NULL: C library */
    unsigned need;       /* slm_parts that must be there: E_NOTFOUND otherwise */
    unsigned want;       /* parts that are loaded when they are there */
    bool exact;          /* float32 from dequantised weights, no packing: slow, for checking */
    const char *isa;     /* highest instruction set step: "ref", "avx2", "avx512", "neon"; NULL: best */
    unsigned threads;    /* for loading; 0: as many as the machine has */
    const char *id_hint; /* which known model is meant where two have the same numbers; may be NULL */
    slm_progress progress;
    void *user;
    /* Folder that keeps packed weights from one start to the next, or NULL: they are packed into memory
     * each time. Holds one file per model, about as large as the model's own, made by the first open
     * (0600; folders that are missing 0700) and mapped by the next ones, which then read nothing
     * of the model's matrices. Nothing in it is trusted; it is safe to delete at any time. What cannot
     * be used, or written (no permission, less than 1 GiB would stay free), goes to the log and is
     * packed into memory. Ignored for models from memory. */
    const char *packed_dir;
    /* GGUF file of the model's image tower ("mmproj"), or NULL: that of the model's own folder, where it has
     * one. It is mapped and checked now, and packed by the first image (memory beyond the plan: about
     * its size). E_MISMATCH when it is another model's. */
    const char *vision;
} slm_engine_options;
SLM_API slm_engine_options slm_engine_default(void); /* need and want: SLM_ALL */

/* A file of the caller's memory, for models compiled into a program. */
struct slm_memory_file {
    const char *name; /* "config.json", "model.safetensors", ... or one "x.gguf" */
    const void *data;
    size_t size;
};

/* path: a .gguf file or a folder in Hugging Face layout. Files are mapped, not copied, and must not
 * change while the engine is open.
 * Returns E_FORMAT or E_UNSUPPORTED for a bad file, E_MISMATCH when it claims to be a known model
 *         but is not or its parts do not fit each other, E_NUMERIC for norms that are no numbers,
 *         E_TEMPLATE, E_BUDGET, E_NOTFOUND for a missing part, E_ARG, E_IO, E_NOMEM, E_CANCELLED. */
SLM_API slm_err slm_engine_open(const char *path, const slm_engine_options *options, slm_engine **out, slm_why *why);
/* The same from memory: the files of a folder, or one whose name ends in ".gguf". Names and data are
 * borrowed until close. */
SLM_API slm_err slm_engine_open_memory(const struct slm_memory_file *files, size_t n, const slm_engine_options *options,
                                       slm_engine **out, slm_why *why);
/* Every session must be closed before. */
SLM_API void slm_engine_close(slm_engine *engine);
SLM_API void slm_free(const slm_engine *engine, void *p);

typedef struct slm_info {
    size_t size;
    const char *name;     /* of the known model, or as the file calls itself */
    const char *id;       /* row of the catalog, or NULL */
    const char *family;   /* NULL when nothing but a tokenizer or template was there */
    const char *trust;    /* "verified", "derived, not verified"; "unknown" without facts */
    const char *container;/* "gguf", "safetensors", "none" */
    const char *isa;      /* instruction set in use */
    const char *types;    /* element types of the matrices, "Q4_K 61 %, Q6_K 39 %" by bytes */
    unsigned parts;       /* slm_parts that are loaded */
    bool has_vision;      /* there is an image tower: slm_image_open works */
    uint64_t params, file_bytes, tensor_bytes, packed_bytes;
    uint32_t context, layers, hidden, heads, kv_heads, head_dim, ffn, vocab, vocab_used, window;
    enum slm_think think;
    int32_t bos;          /* -1: none */
    int32_t stop[16];
    size_t n_stop;
    slm_sampling sampling, sampling_no_think; /* defaults: of the file's generation config, else of the table */
    uint32_t suggested_output;
    size_t n_tensors, n_meta;
    const char *packed; /* "memory", "written" (a file in packed_dir, now), "cached" (it was there); NULL: nothing is */
    const char *tools;  /* how the model is told of tools and calls them: "hermes", "smollm3", "phi4", "gemma-prompt"; NULL: not at all */
    const char *chat_template;       /* its text; NULL: none */
    const char *bos_text, *eos_text; /* as templates see them; NULL: unknown */
    int32_t image_token; /* the vendor's id at the place of each row of an image; -1: it sees none */
} slm_info;
/* Pointers live as long as the engine. */
SLM_API slm_err slm_engine_info(const slm_engine *engine, slm_info *out);
/* What answers, as 32 hexadecimal digits and a zero byte: from the numbers of the model, name, type, shape
 * and both ends of every tensor, the sizes of its files, the chat template and the exactness it was opened
 * with. A copy of a file is the same; another quantisation, fine-tune or template is not. No protection
 * against somebody who makes files collide. E_NOTFOUND without a file of
 * weights (loaded or not). Cost: two pages of each tensor. */
SLM_API slm_err slm_engine_identity(const slm_engine *engine, char text[33], slm_why *why);

typedef struct slm_tensor {
    size_t size;
    const char *name, *type;
    uint32_t n_dims;
    uint64_t dims[4]; /* outermost first */
    uint64_t bytes, offset;
    const char *file;
} slm_tensor;
/* i-th tensor by name; E_ARG past the end. */
SLM_API slm_err slm_engine_tensor(const slm_engine *engine, size_t i, slm_tensor *out);
/* i-th metadata entry as text, zero-terminated in value [value_size, at least 1] (long values are cut
 * between characters and marked with their length). *key lives with the engine. E_ARG past the end. */
SLM_API slm_err slm_engine_meta(const slm_engine *engine, size_t i, const char **key, char *value, size_t value_size);

/* ------------------------------------------------------------------ plan: memory before loading */

enum slm_kv { SLM_KV_F16, SLM_KV_F32, SLM_KV_BF16, SLM_KV_Q8 };

/* Guessing tokens ahead and checking several in one pass. Each token is still chosen from the model's
 * own logits with the draw of its position, and a guess counts only when it equals that token, so
 * answers have the same bits with and without it. How many are tried follows from what they cost and
 * how often they were right here: none when it does not pay. */
enum slm_speculate {
    SLM_SPECULATE_LOOKUP, /* what followed the same words earlier in the prompt or output, and the draft
                             model where there is one */
    SLM_SPECULATE_OFF
};

typedef struct slm_session_options {
    size_t size;
    uint32_t context;   /* positions; 0: the model's, or the most that max_bytes allows (from 256 on) */
    uint32_t chunk;     /* prompt tokens evaluated together; 0: 256 */
    uint32_t sequences; /* for plans: how many such sessions; 0: 1. Of a batch: its places; 0: 8 */
    uint32_t logit_rows;/* rows of logits one call may ask for; 0: 1 */
    enum slm_kv kv;     /* no options at all on an exact engine: F32 */
    unsigned threads;   /* 0: as many as the machine has */
    uint64_t max_bytes; /* plan's total must not exceed this; 0: no limit. E_MEMORY names both */
    bool batch;         /* for plans: the sequences are those of one slm_batch (which sets it itself) */
    enum slm_speculate speculate;
    uint32_t guesses;   /* most tokens guessed in one pass, up to 15; 0: 7. Room for their logits */
    struct slm_session *draft; /* borrowed until close, not used by others meanwhile: a session on a
                           smaller model whose tokenizer gives the same ids (else E_MISMATCH, naming the
                           first that differs). NULL: none; not for batches (E_ARG) */
    /* Prompt cache: beginnings that were evaluated before are kept for whoever starts alike (a shared
     * system prompt, the conversation before, thinking removed from its history), with the same bits.
     * On when one of these is set. Memory that sequences do not need just now is used for it, too. */
    uint64_t cache_bytes;     /* more memory for keys and values, for what is kept alone */
    const char *prompt_cache; /* folder that keeps it across restarts, made when it is not there; borrowed
                                 until close. May be shared by processes. Answers are written when they end.
                                 What cannot be written is told to the log */
    uint64_t disk_bytes;      /* most that the folder may hold; 0: 4 GiB */
} slm_session_options;
SLM_API slm_session_options slm_session_default(void);

typedef struct slm_plan {
    size_t size;
    uint32_t context;        /* that was planned for */
    uint64_t weights_file;   /* mapped: read whole, or (an embedding that is not the output too) as
                                tokens need their rows; counted whole */
    uint64_t weights_packed; /* in memory, arranged for this machine */
    uint64_t kv, scratch;    /* of all sequences */
    uint64_t vocabulary;     /* tokenizer and template, estimated; the rest is exact */
    uint64_t total;          /* expected peak of resident memory beyond the program itself */
} slm_plan;
/* Needs no SLM_WEIGHTS part: an engine opened with need = want = 0 will do, so nothing has to be
 * loaded. Counts one model and `sequences` sessions with these options. E_NOTFOUND without a file
 * of weights; E_CONTEXT and E_MEMORY as slm_session_open. */
SLM_API slm_err slm_engine_plan(const slm_engine *engine, const slm_session_options *options, slm_plan *out, slm_why *why);

/* ------------------------------------------------------------------ text and ids */

enum slm_encode_flags {
    SLM_ENCODE_BOS = 1, /* what the model wants in front of raw text */
    SLM_ENCODE_DATA = 2 /* control tokens in the text stay text */
};
/* text [n] borrowed; *ids is returned owned. E_ENCODING for invalid UTF-8 (offset in why). */
SLM_API slm_err slm_encode(const slm_engine *engine, const char *text, size_t n, unsigned flags, int32_t **ids,
                           size_t *n_ids, slm_why *why);
/* *text is returned owned. ids [n] borrowed. skip_special drops special tokens. E_ARG for an id out of
 * range. */
SLM_API slm_err slm_decode(const slm_engine *engine, const int32_t *ids, size_t n, bool skip_special, char **text,
                           size_t *n_text, slm_why *why);
/* Bytes that one id stands for (control tokens: their name), which need not be whole characters: *bytes
 * [*n] lives as long as the engine and has no zero byte behind it; *n is 0 for an id that stands for nothing.
 * E_ARG for an id out of range, E_NOTFOUND without a tokenizer. */
SLM_API slm_err slm_token_bytes(const slm_engine *engine, int32_t id, const char **bytes, size_t *n);

/* ------------------------------------------------------------------ images */

/* 8-bit RGB, rows from the top: borrowed. Decoding files is the program's affair. */
typedef struct slm_picture {
    size_t size;
    const uint8_t *rgb; /* [height][width][3] */
    uint32_t width, height;
    bool pan_scan; /* also show up to four crops of a picture that is far from square, as the official
                      processor does when asked */
} slm_picture;
typedef struct slm_image_options {
    size_t size;
    unsigned threads; /* 0: as many as the machine has */
    /* "image", blocks of work done and in all; false cancels. May be NULL. */
    slm_progress progress;
    void *user;
} slm_image_options;
SLM_API slm_image_options slm_image_default(void);
/* A picture as the model sees it: rows that take the place of embeddings. Constant; may be used by any
 * number of prompts and threads. The engine remembers the last ones by their pixels, so that the same
 * picture costs nothing the next time. */
typedef struct slm_image slm_image;
typedef struct slm_image_info {
    size_t size;
    uint32_t views;     /* the picture, and its crops */
    uint32_t tokens;    /* positions that each of them takes */
    bool cached;        /* nothing had to be computed */
    uint64_t encode_ns; /* that it took */
    const int32_t *ids; /* [views][tokens] ids that stand for its rows: beyond the vocabulary, known to this
                           engine as long as the image is open */
} slm_image_info;
/* Resizes, normalises and encodes, bit for bit as the official processor and, up to rounding, the official
 * tower. E_STATE for a model without one, naming what would have it; E_ARG, E_NOMEM, E_CANCELLED,
 * E_FORMAT or E_MISMATCH for a bad tower. Cost at full size: 5.5e12 multiply-adds (docs/SPEED.md). */
SLM_API slm_err slm_image_open(const slm_engine *engine, const slm_picture *picture, const slm_image_options *options,
                               slm_image **out, slm_why *why);
/* The same from pixel values in -1..1, float [3][side][side], side as the tower wants it. */
SLM_API slm_err slm_image_open_pixels(const slm_engine *engine, const float *pixels, const slm_image_options *options,
                                      slm_image **out, slm_why *why);
/* The same from picture i of an NPY file of float32 [n, 3, side, side], for checking; *n (may be NULL) gets
 * how many it has. */
SLM_API slm_err slm_image_open_npy(const slm_engine *engine, const char *path, size_t i,
                                   const slm_image_options *options, slm_image **out, size_t *n, slm_why *why);
/* After every prompt, session and answer that has its ids. */
SLM_API void slm_image_close(slm_image *image);
/* Pointers live as long as the image. */
SLM_API slm_err slm_image_get(const slm_image *image, slm_image_info *out);
/* Side of the pictures that the tower takes and positions of one; 0 without a tower. */
SLM_API uint32_t slm_image_side(const slm_engine *engine, uint32_t *tokens);

/* ------------------------------------------------------------------ conversations */

/* A conversation is JSON text: {"messages":[{"role","content",...}], "kwargs":{...}}; kwargs go to
 * the template as they are (enable_thinking, ...); add_generation_prompt is true unless given.
 * slm_render and slm_render_ids show the template exactly these; slm_prompt_make takes the richer
 * document below and makes of it what the model's template needs. */
typedef struct slm_render_options {
    size_t size;
    int64_t date; /* what templates that print the date see: seconds since the epoch of a calendar
                     in UTC. INT64_MIN: now, in the time zone of the C library */
    const slm_image *const *images; /* [n_images] for the image parts of the messages, in their order;
                                       borrowed for the call, and by slm_chat until it returns */
    size_t n_images;
} slm_render_options;
SLM_API slm_render_options slm_render_default(void);

/* request [n] borrowed; *text is returned owned. E_RAISED carries the template's own words; E_BUDGET;
 * E_FORMAT for bad JSON; E_NOTFOUND without a template. */
SLM_API slm_err slm_render(const slm_engine *engine, const char *request, size_t n, const slm_render_options *options,
                           char **text, size_t *n_text, slm_why *why);
/* Renders and encodes: control tokens count where the template wrote them (or an assistant or
 * system message has them); in user and tool messages they stay text.
 * in_thinking, if not NULL: whether the prompt ends inside a thinking block. */
SLM_API slm_err slm_render_ids(const slm_engine *engine, const char *request, size_t n, const slm_render_options *options,
                               int32_t **ids, size_t *n_ids, bool *in_thinking, slm_why *why);

/* ------------------------------------------------------------------ constraints: what may be written */

/* A language that an answer has to be of, compiled to an automaton over the model's tokens. Constant once
 * compiled; may be shared by threads and answers. Every answer that ends by itself is of the language:
 * what cannot be compiled is an error, never an answer without the constraint. What has to come whatever is
 * chosen is not sampled, and evaluated together. The first constraint of an engine makes a trie of its
 * tokens (10 to 100 ms; memory beyond the plan, some tens of bytes for each byte of the vocabulary), which
 * stays until the engine is closed. */
typedef struct slm_constraint slm_constraint;
enum slm_constraint_kind {
    SLM_CONSTRAINT_SCHEMA,  /* JSON Schema, draft 2020-12 or 7: JSON text */
    SLM_CONSTRAINT_JSON,    /* any JSON object; text is not looked at */
    SLM_CONSTRAINT_CHOICES, /* one of the strings of a JSON array */
    SLM_CONSTRAINT_REGEX    /* all of the answer matches the regular expression (ECMA-262 without look-around
                               and back references) */
};
typedef struct slm_constraint_options {
    size_t size;
    uint32_t max_nodes;     /* of the automaton; 0: 200,000 */
    uint64_t max_bytes;     /* of memory; 0: 64 MiB */
    uint64_t max_ns;        /* for compiling; 0: 2 s */
    bool any_whitespace;    /* between JSON tokens; false: ", " and ": " as most models were trained on */
} slm_constraint_options;
SLM_API slm_constraint_options slm_constraint_default(void);
/* text [n] borrowed for the call. E_FORMAT for what is no schema or expression (with the byte offset),
 * E_UNSUPPORTED naming a keyword that is not supported and its place, E_BUDGET naming the budget,
 * E_ARG, E_NOMEM; E_NOTFOUND without a tokenizer. */
SLM_API slm_err slm_constraint_open(const slm_engine *engine, enum slm_constraint_kind kind, const char *text, size_t n,
                                    const slm_constraint_options *options, slm_constraint **out, slm_why *why);
/* After every answer that uses it. */
SLM_API void slm_constraint_close(slm_constraint *constraint);

/* ------------------------------------------------------------------ prompts: requests made ready */

/* A request is one JSON document for every interface; names and shapes are those of OpenAI's chat API:
 *   "messages"    [{"role","content",...}]: roles system, developer, user, assistant, tool; content a string
 *                 or parts {"type":"text","text"} (joined with line ends), {"type":"image"} (the next of
 *                 render.images); of assistants also "reasoning_content" and "tool_calls", whose arguments
 *                 are objects or their text; of tools "tool_call_id" and "name"
 *   "tools"       [{"type":"function","function":{"name","description","parameters"}}]
 *   "tool_choice" "auto" | "none" | "required" | {"type":"function","function":{"name"}}
 *   "parallel_tool_calls"  false: one call at most
 *   "think"       true | false; absent: kwargs.enable_thinking, else /think or /no_think at the end of the
 *                 last user message or the system message, else as the model does by itself. E_ARG for a
 *                 model that cannot
 *   "format"      {"type":"text"} | {"type":"json_object"} | {"type":"json_schema","schema":{...}} |
 *                 {"type":"choices","choices":[...]} | {"type":"regex","pattern":"..."}
 *   "kwargs"      go to the template as they are
 * Another name is E_ARG. The model is told of tools in the way it was trained for, calls and results of
 * the history are replayed in its own form, and what the answer has to be is compiled. */
typedef struct slm_prompt slm_prompt;
typedef struct slm_prompt_info {
    size_t size;
    const int32_t *ids;  /* [n] */
    size_t n;
    const char *text;    /* [n_text] as rendered */
    size_t n_text;
    bool in_thinking;    /* it ends inside a thinking block */
    bool no_think;       /* thinking was switched off */
    bool thinks;         /* the answer may begin with thinking */
    size_t n_tools;      /* that the model was told of */
    bool constrained;    /* the answer, or its calls, have to be of a language */
    const char *warnings;/* what was understood differently than it was said, one per line; NULL: nothing */
} slm_prompt_info;
/* request [n] borrowed for the call. Errors as slm_render_ids and slm_constraint_open; E_ARG names the
 * part of the request that cannot be. */
SLM_API slm_err slm_prompt_make(const slm_engine *engine, const char *request, size_t n,
                                const slm_render_options *options, slm_prompt **out, slm_why *why);
/* Pointers live as long as the prompt. */
SLM_API slm_err slm_prompt_get(const slm_prompt *prompt, slm_prompt_info *out);
/* After every answer that uses it. */
SLM_API void slm_prompt_free(slm_prompt *prompt);

/* The parser of answers by itself: text of an answer (reasoning included) to its parts, for whoever has
 * the text from elsewhere. Gives the same as generating does, however the text is cut. */
enum slm_part { SLM_PART_ANSWER, SLM_PART_REASONING };
/* One call of a tool: complete, and valid JSON. arguments [n] is an object, "{}" when the model gave none. */
typedef struct slm_tool_call {
    size_t size;
    size_t index; /* in this answer, from 0 */
    const char *name, *arguments;
    size_t n_name, n_arguments;
} slm_tool_call;
typedef struct slm_answer_events {
    bool (*on_text)(void *user, enum slm_part part, const char *text, size_t n); /* may be NULL */
    bool (*on_call)(void *user, const slm_tool_call *call);                      /* may be NULL */
    void *user;
} slm_answer_events;
/* *n_malformed (may be NULL): calls that were no calls and came as text. E_CANCELLED: a callback said so. */
SLM_API slm_err slm_answer_parse(const slm_prompt *prompt, const char *text, size_t n, const slm_answer_events *events,
                                 size_t *n_malformed, slm_why *why);

/* ------------------------------------------------------------------ session: one sequence */

typedef struct slm_session slm_session;

/* All memory of the session is reserved here; pages are taken as they are used. E_MEMORY: the plan
 * exceeds max_bytes; E_CONTEXT: context is larger than the model's; E_STATE: no weights loaded. */
SLM_API slm_err slm_session_open(const slm_engine *engine, const slm_session_options *options, slm_session **out,
                                 slm_why *why);
SLM_API void slm_session_close(slm_session *session);
/* Asks whatever the session is doing to stop soon with E_CANCELLED (or finish SLM_FINISH_CANCELLED).
 * Async-signal-safe. Stays set until slm_session_resume. */
SLM_API void slm_session_cancel(slm_session *session);
SLM_API void slm_session_resume(slm_session *session);

/* Make the session hold exactly `ids`: keeps the common prefix, evaluates the rest in chunks.
 * ids     [n] borrowed; n from 1 to the session's context.
 * reused  may be NULL; receives the number of tokens (0..n) that were kept.
 * Returns SLM_OK; E_CONTEXT with both numbers if n is too large (session unchanged); E_ARG for an
 *         id outside the vocabulary; E_CANCELLED (session holds a shorter, valid prefix); E_NUMERIC.
 * Cost: one prefill of the new tokens. */
SLM_API slm_err slm_session_sync(slm_session *session, const int32_t *ids, size_t n, size_t *reused, slm_why *why);
/* Appends ids in one chunk (n from 1 to chunk) and gives what was asked for.
 * logits  NULL, or float [rows][vocab]: all_rows ? n rows : the last one; rows <= logit_rows.
 * hidden  NULL, or float [n][hidden]: states after the final norm.
 * Returns as slm_session_sync; on failure the session holds what it held before (or, where a rope
 *         switch had to evaluate the sequence again, a shorter prefix of it). */
SLM_API slm_err slm_session_append(slm_session *session, const int32_t *ids, size_t n, bool all_rows, float *logits,
                                   float *hidden, slm_why *why);
/* Announces that the sequence will reach n positions. A model with two sets of rope factors takes
 * those of the announced length from the start, so that appending in pieces gives the bits of one
 * call; without it, crossing the switch re-evaluates the sequence. 0 takes the announcement back. */
SLM_API void slm_session_expect(slm_session *session, size_t n);
SLM_API size_t slm_session_length(const slm_session *session);
SLM_API uint32_t slm_session_context(const slm_session *session);
/* The ids held, [length], valid until the next call that changes the session; never NULL. */
SLM_API const int32_t *slm_session_ids(const slm_session *session);
/* Forgets positions >= n (0 always works). E_STATE when a sliding window has already dropped what
 * would be needed. */
SLM_API slm_err slm_session_truncate(slm_session *session, size_t n, slm_why *why);
/* Logits after the last token, float [vocab]; NULL when the session is empty. */
SLM_API const float *slm_session_logits(const slm_session *session);

enum slm_finish {
    SLM_FINISH_STOP,      /* a stop id: the model ended its turn */
    SLM_FINISH_STRING,    /* a stop string */
    SLM_FINISH_LENGTH,    /* max_tokens */
    SLM_FINISH_CONTEXT,   /* the context is full */
    SLM_FINISH_CANCELLED  /* a callback or slm_session_cancel */
};

/* A chosen token and what else was likely, under the model (temperature 1, no filters, no constraint). */
struct slm_likely {
    int32_t id;
    float logprob;
};
typedef struct slm_choice {
    size_t size;
    int32_t id;
    float logprob;      /* of a prompt's first token: NAN */
    size_t position;    /* in the sequence */
    bool stop;          /* a stop id: the answer ends before it */
    bool forced;        /* it was the only one possible, and not sampled */
    enum slm_part part; /* where its text goes */
    const struct slm_likely *top; /* [n_top] most likely first; ties by id */
    size_t n_top;
} slm_choice;
enum { SLM_TOP_MOST = 20 };

typedef struct slm_generate_options {
    size_t size;
    slm_sampling sampling;
    bool default_sampling;       /* use the model's defaults instead of sampling (its seed and bias still count) */
    uint32_t max_tokens;         /* 0: until the context is full */
    const char *const *stop;     /* [n_stop] strings that end the answer and are not part of it */
    size_t n_stop;
    bool ignore_stop_ids;
    bool split_thinking;         /* give reasoning and answer apart (default true) */
    bool no_think;               /* thinking was switched off: default_sampling takes that mode's values */
    bool in_thinking;            /* the prompt ended inside a thinking block (slm_chat sets it) */
    uint32_t think_budget;       /* reasoning tokens after which the block is closed for the model; 0: none */
    slm_render_options render;   /* for slm_chat */
    /* Pieces of text as they come, never half a character; false stops. May be NULL. */
    bool (*on_text)(void *user, enum slm_part part, const char *text, size_t n);
    /* Each chosen id with its log-probability under the model (temperature 1, no filters). May be NULL. */
    bool (*on_token)(void *user, int32_t id, float logprob);
    /* While the prompt is evaluated: tokens done and in all. May be NULL. */
    bool (*on_prefill)(void *user, size_t done, size_t total);
    void *user;
    enum slm_speculate speculate; /* OFF: not for this answer */
    /* What the answer belongs to; borrowed until it has ended. Sets in_thinking and no_think, gives calls
     * of tools to on_call instead of on_text, and holds the answer to the prompt's format. slm_chat sets it. */
    const slm_prompt *prompt;
    const slm_constraint *constraint; /* the answer after the thinking is of this language; borrowed; E_ARG
                                         beside a prompt that has one of its own */
    /* A call of a tool, complete. Without it calls come as text, as the model wrote them. May be NULL. */
    bool (*on_call)(void *user, const slm_tool_call *call);
    /* Each chosen id, a stop id too, with the `top` (up to SLM_TOP_MOST) most likely ones. May be NULL. */
    bool (*on_choice)(void *user, const slm_choice *choice);
    uint32_t top;
    bool no_forcing; /* tokens that have to come are evaluated one by one all the same: for measuring what it
                        gains; the text is the same */
} slm_generate_options;
SLM_API slm_generate_options slm_generate_default(void); /* default_sampling, split_thinking */

typedef struct slm_result {
    size_t size;
    enum slm_finish finish;
    size_t prompt_tokens, reused_tokens, output_tokens, reasoning_tokens;
    size_t reevaluated_tokens; /* because a rope switch was crossed */
    uint64_t prefill_ns, decode_ns;
    size_t stop_index;         /* of the stop string */
    bool think_closed;         /* the thinking budget closed the block */
    slm_sampling sampling;     /* as used */
    size_t guessed_tokens, accepted_tokens; /* by speculation; both are in no other count */
    size_t disk_tokens;        /* of reused_tokens, read from the folder of the prompt cache */
    const char *cache_miss;    /* why not all of the prompt was reused, where more might have been (static
                                  text); NULL otherwise */
    size_t calls, malformed_calls; /* of tools; malformed ones came as text */
    size_t forced_tokens;          /* of output_tokens: the constraint left no choice, so none was sampled */
    uint64_t constraint_ns;        /* of decode_ns: finding out what the constraint allows */
} slm_result;

/* Continues the sequence that the session holds (at least one token; E_STATE otherwise). A stop id is
 * not kept in the sequence. result may be NULL; it is filled on failure too, as far as it came. E_ARG for parameters out of range, E_NUMERIC when
 * the model computes something that is no number: the session stays usable. */
SLM_API slm_err slm_generate(slm_session *session, const slm_generate_options *options, slm_result *result, slm_why *why);
/* Makes the request [n] a prompt (slm_prompt_make; warnings are lost), syncs the session to it and generates
 * the answer. request NULL: options->prompt is answered instead. result may be NULL.
 * E_CONTEXT when the prompt does not fit: message has both numbers; nothing is dropped. Cancelled
 * while the prompt is evaluated: E_CANCELLED; later: SLM_FINISH_CANCELLED. */
SLM_API slm_err slm_chat(slm_session *session, const char *request, size_t n, const slm_generate_options *options,
                         slm_result *result, slm_why *why);

/* Mean of the states after the final norm over ids [n], float out[hidden], not normalised: an embedding
 * of the text as good as a model that was not trained for it gives. The session holds ids afterwards. */
SLM_API slm_err slm_embed(slm_session *session, const int32_t *ids, size_t n, float *out, slm_why *why);

/* ------------------------------------------------------------------ typed decisions */

typedef struct slm_classify_options {
    size_t size;
    slm_render_options render;
    bool by_length;       /* compare labels by the mean log-probability of their tokens (the end of the turn is
                             one of them), not the sum */
    double temperature;   /* what is compared is divided by it before it is normalised; 0: 1 */
    const double *bias;   /* [n_labels] added to it before that, or NULL */
    bool beginnings;      /* a label counts as the beginning of an answer, whatever follows; only of labels that
                             another one begins with, the end counts. Labels of one token then cost no pass */
} slm_classify_options;
SLM_API slm_classify_options slm_classify_default(void);
/* Probabilities of labels as answers to a request, from the model's own probabilities of their tokens.
 * request [n] as for slm_prompt_make; a label is chosen without thinking: it is switched off where the model
 * can, and the block closed at once where it always thinks. labels [n_labels] 2 to 4096, all different, none
 * empty. logprob, probability: double [n_labels]; either may be NULL. result may be NULL; its output_tokens
 * are the tokens of labels that were evaluated.
 * logprob is that of the whole answer: the label's tokens behind the prompt, then the end of the turn, as the
 * model itself has them; with by_length the mean over these. Without it, the sum of exp(logprob) tells how
 * sure the model is to answer with one of the labels at all. Both have the same bits for any order of labels,
 * threads, chunks and whatever the session held.
 * The session holds the prompt afterwards (without logits), so that the next request of the same beginning
 * goes on from there. E_ARG for labels that are the same to the model, or a request that wants thinking or
 * has a format; E_CONTEXT, E_ENCODING, E_CANCELLED; the others as slm_chat.
 * Cost: one prefill of what the session does not hold yet, and one row for each token of the labels that
 * they do not begin with in common, 1 + guesses rows in a pass. */
SLM_API slm_err slm_classify(slm_session *session, const char *request, size_t n, const char *const *labels,
                             size_t n_labels, const slm_classify_options *options, double *logprob,
                             double *probability, slm_result *result, slm_why *why);

/* The same for requests [n_requests, 1 to 1024] that begin alike: logprob and probability are double
 * [n_requests][n_labels], with the bits that slm_classify gives to each. What they begin with is evaluated once,
 * the rest of them and their labels beside each other, so that the weights are read less often. The session
 * holds the common beginning afterwards. result counts all of them. All or nothing: when one of them fails,
 * so does the call. Room for all of them at once makes it fast; with less it goes on in smaller groups. */
SLM_API slm_err slm_classify_many(slm_session *session, const char *const *requests, const size_t *sizes,
                                  size_t n_requests, const char *const *labels, size_t n_labels,
                                  const slm_classify_options *options, double *logprob, double *probability,
                                  slm_result *result, slm_why *why);

/* ------------------------------------------------------------------ batch: many sequences */

/* A batch answers many requests at once: each step takes one pass through the model with the next
 * rows of all of them, so that the weights are read once for all. Every request gets the bits that a
 * session of its own would give it, whatever runs beside it.
 *
 * Threads: one thread drives a batch (add, step, close); slm_batch_cancel may be called from any, also
 * from a signal handler. Callbacks come from the driving thread inside add, step and close; they may
 * call slm_batch_add and slm_batch_cancel, not step or close. */
typedef struct slm_batch slm_batch;

/* Options as for a session: `sequences` places, each of `context` positions; `chunk` is the rows of one
 * pass over all of them (at least one for each place); logit_rows is how many rows of logits one pass may
 * give (at least one for each place), which bounds how fast prompts with on_prompt are read. All memory is
 * reserved here. Errors as slm_session_open. */
SLM_API slm_err slm_batch_open(const slm_engine *engine, const slm_session_options *options, slm_batch **out,
                               slm_why *why);
/* Requests that still run end as cancelled: their on_done is called. */
SLM_API void slm_batch_close(slm_batch *batch);

typedef struct slm_request {
    size_t size;
    const int32_t *ids; /* [n] the prompt, copied; n from 1 to the context */
    size_t n;
    /* How to answer (NULL: the defaults). Copied; stop strings, bias and `user` are borrowed until
     * on_done, and so are its prompt and constraint. in_thinking is the caller's to set (slm_render_ids
     * tells) where there is no prompt. */
    const slm_generate_options *options;
    /* The request has ended and its place is free again: called exactly once for each request that was
     * added. err as slm_chat returns it, with why (NULL when SLM_OK); the result is filled as far as it
     * came. Both are valid during the call. May be NULL. */
    void (*on_done)(void *user, uint64_t id, const slm_result *result, slm_err err, const slm_why *why);
    void *user; /* of on_done */
    /* Each id of the prompt with its log-probability after those before it and the `prompt_top` most likely
     * ones (see slm_choice), under the logits that slm_session_append gives: all of the prompt is evaluated
     * then, whatever the cache has. `user` is that of the request. false ends it as slm_batch_cancel would.
     * May be NULL. */
    bool (*on_prompt)(void *user, const slm_choice *choice);
    uint32_t prompt_top;
    /* Receives the mean over the prompt of the states after the final norm, float [hidden]; the request
     * then ends as with prompt_only. The same bits as slm_embed gives. NULL: not wanted. */
    float *mean_hidden;
    /* Requests share evaluated beginnings only with requests of the same salt, in memory and in the folder
     * of the prompt cache: for tenants who must not learn, from times or counts, what others asked. */
    uint64_t cache_salt;
    bool prompt_only; /* it ends when its prompt has been read, as SLM_FINISH_LENGTH, without writing */
} slm_request;

/* Takes a place. *id (may be NULL) names the request: from 1 on, never used again by this batch.
 * E_BUSY when every place is taken: a batch has no queue, what waits is the caller's to order. E_CONTEXT
 * with both numbers, E_ARG; on_done is not called then. Cost: no evaluation. */
SLM_API slm_err slm_batch_add(slm_batch *batch, const slm_request *request, uint64_t *id, slm_why *why);
/* One pass over everything that runs; returns how many requests run afterwards (0: nothing to do). Each
 * request that writes gets its next token; the rows that are left go in equal shares to prompts that are
 * still read, so that neither a long prompt nor a full batch lets anybody wait. Failures go to the
 * on_done of the request that caused them. Allocates nothing for a token. */
SLM_API size_t slm_batch_step(slm_batch *batch);
/* The request ends as cancelled at the next step (E_CANCELLED while its prompt is read, else
 * SLM_FINISH_CANCELLED); an id that does not run is ignored. 0: all that run, and the pass at hand stops
 * after a layer. */
SLM_API void slm_batch_cancel(slm_batch *batch, uint64_t id);
/* Positions of each place. */
SLM_API uint32_t slm_batch_context(const slm_batch *batch);

/* ------------------------------------------------------------------ files */

typedef struct slm_quantize_options {
    size_t size;
    const struct slm_hooks *hooks;
    unsigned threads;
    slm_progress progress;
    void *user;
} slm_quantize_options;
SLM_API slm_quantize_options slm_quantize_default(void);
/* in: anything slm_engine_open reads; out: a new GGUF file; type: "f32", "f16", "bf16", "q8_0", "q4_0",
 * "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs" ... (slm_quantize_type).
 * The file appears under its name only when complete. */
SLM_API slm_err slm_quantize(const char *in, const char *out, const char *type, const slm_quantize_options *options,
                             slm_why *why);
/* i-th type name that slm_quantize knows, NULL past the end; *note (may be NULL) gets a sentence on it. */
SLM_API const char *slm_quantize_type(size_t i, const char **note);

/* ------------------------------------------------------------------ the machine */

/* How fast memory is read forward, the best of several repetitions. */
struct slm_read_rate {
    unsigned streams;         /* walks that one thread advances side by side: 1 or 4 */
    unsigned prefetch_bytes;  /* asked for that far ahead; 0: nothing is asked for */
    bool huge_pages;
    double one_gb_s, all_gb_s; /* one thread, all threads; 0 not measured */
};
/* How fast one instruction set multiplies in registers. A multiply-add counts as two. */
struct slm_multiply_rate {
    const char *isa;           /* "ref", "avx2", ...: static */
    const char *unit;          /* "int8", "bf16", "f32" */
    double one_tops, all_tops; /* 10^12 operations per second, one thread, all threads; 0 not measured */
};
typedef struct slm_machine {
    size_t size;
    const char *isa;        /* best instruction set step of this CPU that slm has kernels for */
    unsigned threads;       /* CPUs this process may use */
    double read_gb_s;       /* read bandwidth as decoding reads, all threads; 0 unless measured */
    double int8_tops, bf16_tflops, f32_tflops; /* multiply peaks of the kernels' instructions, all threads */
    struct slm_read_rate reads[8]; /* what read_gb_s is the best of */
    size_t n_reads;
    struct slm_multiply_rate multiplies[16]; /* each instruction set up to `isa`, each unit that it has */
    size_t n_multiplies;
} slm_machine;
enum slm_measure {
    SLM_MEASURE_NOTHING, /* isa and threads only */
    SLM_MEASURE_PULSE,   /* read_gb_s and int8_tops alone, means over some 20 ms, not the best: what the
                            machine gives just now, which on a shared one is not always the same; 0.15 s, 256 MiB */
    SLM_MEASURE_QUICK,   /* all threads only; 0.6 s, 512 MiB */
    SLM_MEASURE_FULL     /* everything; about 3 s, longer on slow machines; 512 MiB */
};
/* threads: as many as will compute; 0: all. Measuring wants the machine for itself. */
SLM_API slm_err slm_machine_get(enum slm_measure measure, unsigned threads, slm_machine *out, slm_why *why);

/* Bytes read and multiply-adds done for one token at a depth, for `slm bench`. E_STATE without weights. */
typedef struct slm_cost {
    size_t size;
    uint64_t weight_bytes;  /* read once per pass, as stored in memory */
    uint64_t file_bytes;    /* the same matrices as in the file: what the limit is computed from */
    uint64_t kv_bytes;      /* read per token at that depth */
    uint64_t weight_macs;   /* multiply-adds in matrices per token, output row included */
    uint64_t attention_macs;
    const char *multiply;   /* which peak bounds it: "int8", "bf16", "f32" */
} slm_cost;
SLM_API slm_err slm_engine_cost(const slm_engine *engine, enum slm_kv kv, uint32_t depth, slm_cost *out);

#ifdef __cplusplus
}
#endif
#endif
