/* api_routes.c - the table of routes. To add one: a row, a reader (api_read.h), and for GENERATE and EMBED
 * a shape (api_reply.h).
 *
 * Clients disagree on whether the base address ends in /v1: OpenAI's routes are there with and without. */
#include <string.h>

#include "server/api_read.h"
#include "server/api_reply.h"

#define POST(path, family, op, read, shape, what)                                                  \
    { "POST", path, API_##family, API_##op, true, true, what, read, shape }
#define ASK(path, family, op, read, what)                                                          \
    { "POST", path, API_##family, API_##op, true, true, what, read, NULL }
#define GET(path, family, op, model, what)                                                         \
    { "GET", path, API_##family, API_##op, false, model, what, NULL, NULL }

/* clang-format off */
const struct api_route api_routes[] = {
    POST("/v1/chat/completions", OPENAI, GENERATE, read_chat, &shape_chat, "a conversation to its next message"),
    POST("/v1/completions", OPENAI, GENERATE, read_completions, &shape_completions, "raw text or ids to their continuation"),
    POST("/v1/responses", OPENAI, GENERATE, read_responses, &shape_responses, "input items to output items"),
    POST("/v1/embeddings", OPENAI, EMBED, read_embeddings, &shape_embeddings, "texts to vectors"),
    GET("/v1/models", OPENAI, MODELS, false, "the models there are"),
    GET("/v1/models/*", OPENAI, MODEL, false, "one of them"),
    POST("/chat/completions", OPENAI, GENERATE, read_chat, &shape_chat, "as /v1/chat/completions"),
    POST("/embeddings", OPENAI, EMBED, read_embeddings, &shape_embeddings, "as /v1/embeddings"),
    POST("/responses", OPENAI, GENERATE, read_responses, &shape_responses, "as /v1/responses"),
    GET("/models", OPENAI, MODELS, false, "as /v1/models"),

    POST("/v1/messages", ANTHROPIC, GENERATE, read_messages, &shape_messages, "a conversation to its next message"),
    ASK("/v1/messages/count_tokens", ANTHROPIC, COUNT, read_count, "tokens that a conversation makes"),

    POST("/api/chat", OLLAMA, GENERATE, read_ollama_chat, &shape_ollama_chat, "a conversation to its next message"),
    POST("/api/generate", OLLAMA, GENERATE, read_ollama_generate, &shape_ollama_generate, "a prompt to its answer"),
    POST("/api/embed", OLLAMA, EMBED, read_ollama_embed, &shape_ollama_embed, "texts to vectors of length 1"),
    POST("/api/embeddings", OLLAMA, EMBED, read_ollama_embed, &shape_ollama_embedding, "one text to its vector"),
    GET("/api/tags", OLLAMA, MODELS, false, "the models there are"),
    { "POST", "/api/show", API_OLLAMA, API_SHOW, true, false, "what is known of one", read_ollama_show, NULL },
    GET("/api/ps", OLLAMA, RUNNING, false, "those that are loaded"),
    GET("/api/version", OLLAMA, VERSION, false, "the version of Ollama's API that this is, and ours"),
    { "POST", "/api/pull", API_OLLAMA, API_PULL, true, false, "an error that tells how", read_ollama_show, NULL },

    POST("/completion", LLAMA, GENERATE, read_llama_completion, &shape_llama, "raw text or ids to their continuation"),
    POST("/completions", LLAMA, GENERATE, read_llama_completion, &shape_llama, "as /completion"),
    POST("/embedding", LLAMA, EMBED, read_llama_embedding, &shape_llama_embedding, "texts to vectors"),
    ASK("/tokenize", LLAMA, TOKENIZE, read_tokenize, "text to ids"),
    ASK("/detokenize", LLAMA, DETOKENIZE, read_detokenize, "ids to text"),
    ASK("/apply-template", LLAMA, TEMPLATE, read_llama_template, "a conversation to the text of its prompt"),
    GET("/tokenizer_info", LLAMA, TOKENIZER, true, "special tokens and template"),
    GET("/props", LLAMA, PROPS, true, "what the model and the server can"),
    GET("/slots", LLAMA, SLOTS, false, "what each place does"),
    { .path = NULL },
};
/* clang-format on */

/* What stands in the place of the star, "" when the path is the row's; NULL when it is not. */
static const char *match(const char *row, const char *path, size_t n) {
    size_t len = strlen(row);
    if (len > 0 && row[len - 1] == '*')
        return n >= len && strncmp(row, path, len - 1) == 0 ? path + len - 1 : NULL;
    return n == len && strncmp(row, path, n) == 0 ? "" : NULL;
}

const struct api_route *api_route_find(const char *method, const char *path, const char **name,
                                       bool *known) {
    size_t n = strlen(path);
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *name = NULL;
    *known = false;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (const struct api_route *r = api_routes; r->path != NULL; r++) {
        const char *rest = match(r->path, path, n);
        if (rest == NULL)
            continue;
        *known = true;
        if (strcmp(r->method, wanted) != 0)
            continue;
        *name = rest[0] != '\0' ? rest : NULL;
        return r;
    }
    return NULL;
}
