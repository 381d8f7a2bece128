/* api_read.h - what the readers of the dialects share: fields of a body to struct api_call.
 *
 * Every dialect goes by the table of params.h for single values; what is built of parts (messages, tools,
 * formats) is brought into the one shape of slm_prompt_make's document here. Functions return false with
 * the reader's error filled. */
#ifndef SLM_SERVER_API_READ_H
#define SLM_SERVER_API_READ_H

#include "server/api.h"
#include "server/params.h"

enum api_thinking { THINK_AS_IS, THINK_NO, THINK_YES };

/* Text that is being added to a message: many blocks become one string in linear time. */
struct api_joint {
    json_t *message; /* NULL: none */
    const char *key;
    struct buf text;
};
struct api_reader {
    struct api_joint joints[2]; /* of "content", and of reasoning */
    const char *name;           /* what stood in the place of the path's star, or NULL */
    const json_t *body;         /* an object; empty where there is none */
    struct params params;
    struct api_call *call;
    struct api_error *error;
    json_t *document;     /* of a chat: owned, an object */
    json_t *messages;     /* borrowed from it */
    json_t *reasoning;    /* text for the next message of the assistant; owned, or NULL */
    const json_t *format; /* borrowed or held by `held` */
    json_t *held;         /* array of values that were made on the way; owned */
    enum api_thinking think;
};

/* ---- the dialects' readers, by route ---- */
bool read_chat(struct api_reader *r);
bool read_completions(struct api_reader *r);
bool read_responses(struct api_reader *r);
bool read_embeddings(struct api_reader *r);
bool read_messages(struct api_reader *r);
bool read_count(struct api_reader *r);
bool read_ollama_chat(struct api_reader *r);
bool read_ollama_generate(struct api_reader *r);
bool read_ollama_embed(struct api_reader *r);
bool read_ollama_show(struct api_reader *r);
bool read_ollama_options(struct api_reader *r); /* "options", keep_alive */
bool read_llama_completion(struct api_reader *r);
bool read_llama_embedding(struct api_reader *r);
bool read_llama_template(struct api_reader *r);
bool read_tokenize(struct api_reader *r);
bool read_detokenize(struct api_reader *r);
bool read_name(struct api_reader *r);

/* ---- single values ---- */
/* Reads `object` by the rows of a place into r->params; notes unknown and idle fields; the model. */
bool read_params(struct api_reader *r, const json_t *object, unsigned place);
bool read_stream(struct api_reader *r);  /* stream, stream_options, return_progress */
bool read_choices(struct api_reader *r); /* n, best_of */
bool read_sampling(struct api_reader *r, const struct params *p);
bool read_stops(struct api_reader *r, const struct params *p);
bool read_bias(struct api_reader *r);
bool read_limit(struct api_reader *r, const struct params *p);
bool read_parallel(struct api_reader *r);
/* What the answer has to be, from all the names there are for it, into r->format in slm.h's words. */
bool read_formats(struct api_reader *r);
/* {"type": "json_schema", ...} of OpenAI's shapes (schema inside json_schema, or beside type). */
bool read_format_object(struct api_reader *r, const json_t *format, const char *name);
bool format_schema(struct api_reader *r, const json_t *schema);
/* r->format as the constraint of raw prompts. */
bool read_constraint(struct api_reader *r);
/* reasoning_effort, think, thinking, enable_thinking, budgets. */
bool read_think(struct api_reader *r);
bool think_effort(struct api_reader *r, const char *word, const char *name);
bool think_set(struct api_reader *r, bool on, const char *name);
/* Text, list of texts, ids, list of lists of ids to prompts. */
bool read_prompts(struct api_reader *r, const json_t *value, const char *name);
/* A whole number 0.. of an array of ids. */
bool read_ids(struct api_reader *r, const json_t *list, const char *name, const int32_t **ids,
              size_t *n);
const char *keep_text(struct api_reader *r, const char *s,
                      size_t n); /* in the arena; NULL: failed */

/* ---- conversations ---- */
/* r->messages of OpenAI's list. */
bool chat_messages(struct api_reader *r, const json_t *list);
/* "tools" of the document: functions in OpenAI's shape (wrapped) or with their fields beside type (flat);
 * other types are left out with a warning. */
bool chat_tools(struct api_reader *r, const json_t *list);
bool chat_tool(struct api_reader *r, const char *name, const json_t *description,
               const json_t *parameters);
/* auto, none, required, {"type":"function",...} */
bool chat_tool_choice(struct api_reader *r, const json_t *choice);
bool tool_choice_word(struct api_reader *r, const char *word);
bool tool_choice_name(struct api_reader *r, const char *name);
/* A new reference to what is not changed by anybody: strings, schemas. */
json_t *share(const json_t *v);
/* A new message at the end; content is taken (NULL: it could not be made). NULL when out of memory (error
 * filled). */
json_t *chat_add(struct api_reader *r, const char *role, json_t *content);
/* The assistant's message at the end, made when the last one is not his (or has results behind it). */
json_t *chat_assistant(struct api_reader *r);
bool chat_add_call(struct api_reader *r, const char *id, const char *name, const char *arguments);
bool chat_add_result(struct api_reader *r, const char *id, const char *name, json_t *content);
/* Text of a content: a string, or parts of which all are text. New string; NULL: error filled. */
/* Text, or an array of parts where there are images. */
json_t *content_text(struct api_reader *r, const json_t *content, const char *name);
/* Joins text to the content of a message, behind a blank line; text is taken. It is there after the next
 * message_done. */
/* ---- api_images.c ---- */
bool image_is_part(const char *type);
/* Keeps the bytes of a part, and appends {"type":"image"}. */
bool image_part(struct api_reader *r, const json_t *part, const char *name, json_t *parts);
/* Ollama's: images of a message and its text (taken) as parts; NULL after a failure. */
json_t *image_content(struct api_reader *r, const json_t *images, json_t *text, const char *name);
size_t image_count(const json_t *message);

bool message_append(struct api_reader *r, json_t *message, const char *key, json_t *text);
bool message_done(struct api_reader *r);
/* Prompt 0 is the document. */
bool chat_document(struct api_reader *r);
bool document_text(struct api_call *call);

/* The error of a field whose value is no good; the out-of-memory error. Both return false. */
bool bad_field(struct api_reader *r, const char *name, const char *format, ...) ATTR_PRINTF(3, 4);
bool no_memory(struct api_reader *r);

#endif
