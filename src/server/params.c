/* params.c - the table of request parameters, and the one reader that goes by it.
 *
 * A number is never rounded, cut or taken from a string: what is out of its range is an error that says
 * the range. A row is one name in the places where it means that; where two dialects give a name two
 * types there are two rows. */
#include "server/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/api.h"

#define OPENAI (IN_CHAT | IN_COMPLETIONS | IN_RESPONSES)
#define TALK (IN_CHAT | IN_RESPONSES | IN_MESSAGES)
#define SAMPLES (OPENAI | IN_MESSAGES | IN_OLLAMA_OPTIONS | IN_LLAMA)
#define OURS (IN_CHAT | IN_COMPLETIONS | IN_OLLAMA_OPTIONS | IN_LLAMA) /* beyond what OpenAI has */
#define ALL_BODIES                                                                                 \
    (OPENAI | IN_EMBEDDINGS | IN_MESSAGES | IN_OLLAMA | IN_LLAMA | IN_UTIL)
#define MIB (1024.0 * 1024.0)
#define TEXT_MOST (32.0 * MIB) /* the body's own limit comes first */
#define MODELS "the model's"

/* clang-format off */
const struct param_row param_table[] = {
    { "model", P_MODEL, PARAM_STRING, 0, 512, "the first model of the server", ALL_BODIES, false,
      "Model to answer with, as /v1/models lists it." },
    { "name", P_MODEL, PARAM_STRING, 0, 512, NULL, IN_UTIL, false,
      "Older name of model in Ollama's routes." },
    { "messages", P_MESSAGES, PARAM_ARRAY, 1, 4096, NULL, IN_CHAT | IN_MESSAGES, true,
      "The conversation." },
    { "messages", P_MESSAGES, PARAM_ARRAY, 0, 4096, NULL, IN_OLLAMA | IN_UTIL, false,
      "The conversation; none at all only loads the model." },
    { "prompt", P_PROMPT, PARAM_ANY, 0, 0, NULL, IN_COMPLETIONS | IN_LLAMA | IN_OLLAMA | IN_UTIL, false,
      "Raw text, token ids, or a list of either." },
    { "input", P_INPUT, PARAM_ANY, 0, 0, NULL, IN_RESPONSES | IN_EMBEDDINGS | IN_OLLAMA, false,
      "Text or items to answer, or texts to embed." },
    { "system", P_SYSTEM, PARAM_ANY, 0, 0, NULL, IN_MESSAGES | IN_OLLAMA, false,
      "What goes before the conversation as system message." },
    { "instructions", P_SYSTEM, PARAM_STRING, 0, TEXT_MOST, NULL, IN_RESPONSES, false,
      "What goes before the input as system message." },
    { "suffix", P_SUFFIX, PARAM_STRING, 0, TEXT_MOST, NULL, IN_COMPLETIONS | IN_OLLAMA, false,
      "Text after the gap; none of the models was trained to fill gaps, so only an empty one is taken." },

    { "stream", P_STREAM, PARAM_BOOL, 0, 0, "false; Ollama's routes: true",
      OPENAI | IN_MESSAGES | IN_OLLAMA | IN_LLAMA, false, "Send the answer in pieces as it is written." },
    { "stream_options", P_STREAM_OPTIONS, PARAM_OBJECT, 0, 0, NULL, OPENAI, false,
      "include_usage: a last piece with token counts." },
    { "return_progress", P_PROGRESS, PARAM_BOOL, 0, 0, "false", IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Pieces that tell how much of the prompt is evaluated." },
    { "timings_per_token", P_TIMINGS, PARAM_BOOL, 0, 0, "false", IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Timings in every piece." },

    { "max_tokens", P_MAX_TOKENS, PARAM_INT, 0, 1e9, "until the context is full", IN_CHAT, false,
      "Most tokens to write, reasoning included; the end of the context comes first." },
    { "max_tokens", P_MAX_TOKENS, PARAM_INT, 0, 1e9, "16, as in OpenAI's API", IN_COMPLETIONS, false,
      "Most tokens to write, reasoning included; the end of the context comes first." },
    { "max_tokens", P_MAX_TOKENS, PARAM_INT, 0, 1e9, NULL, IN_MESSAGES, false, "Most tokens to write." },
    { "max_completion_tokens", P_MAX_TOKENS, PARAM_INT, 0, 1e9, NULL, IN_CHAT, false,
      "The same as max_tokens." },
    { "max_output_tokens", P_MAX_TOKENS, PARAM_INT, 0, 1e9, NULL, IN_RESPONSES, false,
      "The same as max_tokens." },
    { "num_predict", P_MAX_TOKENS, PARAM_INT, -2, 1e9, "-1: until the context is full",
      IN_OLLAMA_OPTIONS, false, "Most tokens to write; below 0 no limit." },
    { "n_predict", P_MAX_TOKENS, PARAM_INT, -2, 1e9, "-1: until the context is full", IN_LLAMA, false,
      "Most tokens to write; below 0 no limit." },

    { "temperature", P_TEMPERATURE, PARAM_FLOAT, 0, 100, MODELS, SAMPLES, false,
      "Divides the scores before sampling; 0 always takes the likeliest token." },
    { "top_p", P_TOP_P, PARAM_FLOAT, 0, 1, MODELS, SAMPLES, false,
      "Only the likeliest tokens that make up this probability together." },
    { "top_k", P_TOP_K, PARAM_INT, -1, 1e9, MODELS, OURS | IN_MESSAGES, false,
      "Only that many of the likeliest tokens; 0 and -1 are off." },
    { "min_p", P_MIN_P, PARAM_FLOAT, 0, 1, MODELS, OURS, false,
      "Only tokens at least so likely in proportion to the likeliest." },
    { "typical_p", P_TYPICAL_P, PARAM_FLOAT, 0, 1, MODELS, OURS, false,
      "Only the most typical tokens that make up this probability." },
    { "repeat_penalty", P_REPEAT_PENALTY, PARAM_FLOAT, 0.01, 100, MODELS, IN_CHAT | IN_COMPLETIONS | IN_OLLAMA_OPTIONS | IN_LLAMA,
      false, "Divides the score of tokens seen before." },
    { "repetition_penalty", P_REPEAT_PENALTY, PARAM_FLOAT, 0.01, 100, NULL, IN_CHAT | IN_COMPLETIONS, false,
      "The same as repeat_penalty." },
    { "presence_penalty", P_PRESENCE_PENALTY, PARAM_FLOAT, -100, 100, MODELS,
      OPENAI | IN_OLLAMA_OPTIONS | IN_LLAMA, false, "Subtracted once from tokens written before." },
    { "frequency_penalty", P_FREQUENCY_PENALTY, PARAM_FLOAT, -100, 100, MODELS,
      OPENAI | IN_OLLAMA_OPTIONS | IN_LLAMA, false, "Subtracted for each time a token was written." },
    { "seed", P_SEED, PARAM_INT, -9007199254740992.0, 9007199254740992.0, "a random one",
      IN_CHAT | IN_COMPLETIONS | IN_RESPONSES | IN_OLLAMA_OPTIONS | IN_LLAMA, false,
      "The same seed gives the same text; -1 draws one." },
    { "stop", P_STOP, PARAM_STRINGS, 0, 16, NULL, IN_CHAT | IN_COMPLETIONS | IN_OLLAMA_OPTIONS | IN_LLAMA,
      false, "Texts of at most 256 bytes that end the answer and are not part of it." },
    { "stop_sequences", P_STOP, PARAM_STRINGS, 0, 16, NULL, IN_MESSAGES, false, "The same as stop." },
    { "logit_bias", P_LOGIT_BIAS, PARAM_ANY, 0, 0, NULL, IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Added to the scores of up to 1,024 token ids: an object, or pairs." },
    { "ignore_eos", P_IGNORE_EOS, PARAM_BOOL, 0, 0, "false", IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Write on after the model has ended its turn." },

    { "n", P_N, PARAM_INT, 1, 8, "1", IN_CHAT | IN_COMPLETIONS, false, "Answers to each prompt." },
    { "best_of", P_BEST_OF, PARAM_INT, 1, 8, "n", IN_COMPLETIONS, false,
      "Only as many as n: answers are not ranked." },
    { "n_cmpl", P_N, PARAM_INT, 1, 8, "1", IN_LLAMA, false, "Answers to each prompt." },
    { "logprobs", P_LOGPROBS, PARAM_BOOL, 0, 0, "false", IN_CHAT, false,
      "Give the log-probability of each token." },
    { "logprobs", P_TOP_LOGPROBS, PARAM_INT, 0, 20, NULL, IN_COMPLETIONS, false,
      "Log-probabilities, with so many of the likeliest tokens." },
    { "top_logprobs", P_TOP_LOGPROBS, PARAM_INT, 0, 20, "0", IN_CHAT | IN_RESPONSES | IN_OLLAMA, false,
      "So many of the likeliest tokens beside each." },
    { "logprobs", P_LOGPROBS, PARAM_BOOL, 0, 0, "false", IN_OLLAMA, false,
      "Give the log-probability of each token." },
    { "n_probs", P_TOP_LOGPROBS, PARAM_INT, 0, 20, "0", IN_LLAMA, false,
      "So many of the likeliest tokens beside each." },
    { "echo", P_ECHO, PARAM_BOOL, 0, 0, "false", IN_COMPLETIONS, false, "Give the prompt, too." },

    { "tools", P_TOOLS, PARAM_ARRAY, 0, 256, NULL, TALK | IN_OLLAMA | IN_UTIL, false,
      "Functions that the model may call." },
    { "tool_choice", P_TOOL_CHOICE, PARAM_ANY, 0, 0, "auto", TALK, false,
      "Whether a tool is to be called: auto, none, required or which one." },
    { "parallel_tool_calls", P_PARALLEL_TOOL_CALLS, PARAM_BOOL, 0, 0, "true", IN_CHAT | IN_RESPONSES, false,
      "Several calls in one answer are allowed." },
    { "response_format", P_FORMAT, PARAM_OBJECT, 0, 0, NULL, IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Hold the answer to JSON or to a schema." },
    { "text", P_FORMAT, PARAM_OBJECT, 0, 0, NULL, IN_RESPONSES, false,
      "text.format holds the answer to JSON or to a schema." },
    { "format", P_FORMAT, PARAM_ANY, 0, 0, NULL, IN_OLLAMA, false, "\"json\" or a schema." },
    { "output_config", P_FORMAT, PARAM_OBJECT, 0, 0, NULL, IN_MESSAGES, false,
      "output_config.format holds the answer to a schema." },
    { "json_schema", P_SCHEMA, PARAM_ANY, 0, 0, NULL, IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Hold the answer to this schema." },
    { "guided_json", P_SCHEMA, PARAM_ANY, 0, 0, NULL, IN_CHAT | IN_COMPLETIONS, false,
      "The same as json_schema." },
    { "guided_regex", P_REGEX, PARAM_STRING, 0, 65536, NULL, IN_CHAT | IN_COMPLETIONS, false,
      "Hold the answer to this regular expression." },
    { "guided_choice", P_CHOICES, PARAM_ARRAY, 1, 4096, NULL, IN_CHAT | IN_COMPLETIONS, false,
      "The answer is one of these texts." },
    { "grammar", P_GRAMMAR, PARAM_STRING, 0, 65536, NULL, IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "GBNF is not supported: an empty one only; use json_schema or guided_regex." },

    { "reasoning_effort", P_EFFORT, PARAM_STRING, 0, 32, MODELS, IN_CHAT, false,
      "none and minimal switch thinking off; low thinks for 512 tokens at most, medium 2,048, high, xhigh "
      "and max as long as it takes." },
    { "reasoning", P_REASONING, PARAM_OBJECT, 0, 0, MODELS, IN_CHAT | IN_RESPONSES, false,
      "reasoning.effort as reasoning_effort." },
    { "thinking", P_THINKING, PARAM_OBJECT, 0, 0, MODELS, IN_CHAT | IN_MESSAGES, false,
      "type enabled or disabled, budget_tokens." },
    { "think", P_THINK, PARAM_ANY, 0, 0, MODELS, IN_CHAT | IN_OLLAMA, false,
      "Whether to think: true, false, or a level." },
    { "enable_thinking", P_THINK, PARAM_BOOL, 0, 0, MODELS, IN_CHAT, false, "The same as think." },
    { "thinking_budget", P_THINK_BUDGET, PARAM_INT, 0, 1e9, "no limit", IN_CHAT | IN_LLAMA, false,
      "Close the thinking after so many tokens." },
    { "thinking_budget_tokens", P_THINK_BUDGET, PARAM_INT, -1, 1e9, "no limit", IN_CHAT | IN_LLAMA, false,
      "The same as thinking_budget." },
    { "chat_template_kwargs", P_TEMPLATE_KWARGS, PARAM_OBJECT, 0, 0, NULL, IN_CHAT | IN_UTIL, false,
      "Go to the template as they are." },

    { "options", P_OPTIONS, PARAM_OBJECT, 0, 0, NULL, IN_OLLAMA, false, "Sampling and limits." },
    { "num_ctx", P_NUM_CTX, PARAM_INT, 1, 1e9, "the server's", IN_OLLAMA_OPTIONS, false,
      "Use no more of the context than this." },
    { "keep_alive", P_KEEP_ALIVE, PARAM_ANY, 0, 0, "the server's", IN_OLLAMA, false,
      "How long the model stays loaded: seconds or \"5m\"; 0 unloads it." },
    { "raw", P_RAW, PARAM_BOOL, 0, 0, "false", IN_OLLAMA, false, "The prompt without a template." },
    { "template", P_TEMPLATE, PARAM_STRING, 0, TEXT_MOST, NULL, IN_OLLAMA, false,
      "Templates of requests are off: an empty one only." },
    { "images", P_IMAGES, PARAM_ARRAY, 0, 16, NULL, IN_OLLAMA, false,
      "Pictures that go with the prompt, in base64." },
    { "context", P_OLD_CONTEXT, PARAM_ARRAY, 0, 1e7, NULL, IN_OLLAMA, false,
      "Token ids of the conversation before, as the last answer gave them." },
    { "truncate", P_TRUNCATE, PARAM_BOOL, 0, 0, "false", IN_OLLAMA, false,
      "Drop the oldest turns, or the end of a text to embed, when the context is too small." },
    { "shift", P_IGNORED, PARAM_BOOL, 0, 0, NULL, IN_OLLAMA, false, "Without effect: the context never shifts." },

    { "encoding_format", P_ENCODING, PARAM_STRING, 0, 16, "float", IN_EMBEDDINGS, false, "float or base64." },
    { "dimensions", P_DIMENSIONS, PARAM_INT, 1, 1e6, "the model's", IN_EMBEDDINGS | IN_OLLAMA, false,
      "Only so many of the first values, scaled to length 1." },

    { "content", P_TEXT, PARAM_STRING, 0, TEXT_MOST, NULL, IN_UTIL, false, "Text to make tokens of." },
    { "tokens", P_TOKENS, PARAM_ARRAY, 0, 1e7, NULL, IN_UTIL, false, "Token ids to make text of." },
    { "add_special", P_ADD_SPECIAL, PARAM_BOOL, 0, 0, "false", IN_UTIL, false,
      "The start token in front, where the model wants one." },
    { "add_special_tokens", P_ADD_SPECIAL, PARAM_BOOL, 0, 0, "true", IN_UTIL, false,
      "The start token in front, where the model wants one." },
    { "parse_special", P_PARSE_SPECIAL, PARAM_BOOL, 0, 0, "true", IN_UTIL, false,
      "Control tokens in the text count." },
    { "with_pieces", P_PIECES, PARAM_BOOL, 0, 0, "false", IN_UTIL, false, "Give the text of each token, too." },
    { "return_tokens", P_RETURN_TOKENS, PARAM_BOOL, 0, 0, "false", IN_LLAMA, false,
      "Give the ids that were written." },
    { "cache_prompt", P_CACHE_PROMPT, PARAM_BOOL, 0, 0, "true", IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Always on: a beginning that was evaluated before has the same bits." },
    { "id_slot", P_IGNORED, PARAM_INT, -1, 1e6, NULL, IN_CHAT | IN_COMPLETIONS | IN_LLAMA, false,
      "Without effect: places are given out by the server." },
    { "prompt_cache_key", P_SESSION, PARAM_STRING, 0, 1024, NULL, IN_CHAT | IN_RESPONSES, false,
      "For routers in front of several servers." },
    { "previous_response_id", P_PREVIOUS, PARAM_STRING, 0, 256, NULL, IN_RESPONSES, false,
      "Answers are not stored: an error when given." },
    { "store", P_IGNORED, PARAM_BOOL, 0, 0, NULL, IN_CHAT | IN_RESPONSES, false, "Without effect: nothing is stored." },
    { "user", P_IGNORED, PARAM_STRING, 0, 1024, NULL, OPENAI | IN_EMBEDDINGS, false, "Without effect." },
    { "safety_identifier", P_IGNORED, PARAM_STRING, 0, 1024, NULL, IN_CHAT | IN_RESPONSES, false, "Without effect." },
    { "metadata", P_METADATA, PARAM_OBJECT, 0, 0, NULL, IN_CHAT | IN_RESPONSES | IN_MESSAGES, false,
      "Given back where the dialect does so; otherwise without effect." },
    { "service_tier", P_IGNORED, PARAM_STRING, 0, 64, NULL, IN_CHAT | IN_RESPONSES | IN_MESSAGES, false, "Without effect." },
    { "include", P_INCLUDE, PARAM_ARRAY, 0, 64, NULL, IN_RESPONSES, false,
      "message.output_text.logprobs gives log-probabilities." },
    { "truncation", P_TRUNCATION, PARAM_STRING, 0, 64, "disabled", IN_RESPONSES, false,
      "auto drops the oldest turns when the context is too small." },
    { "verbosity", P_IGNORED, PARAM_STRING, 0, 64, NULL, IN_CHAT, false, "Without effect." },
    { "background", P_BACKGROUND, PARAM_BOOL, 0, 0, "false", IN_RESPONSES, false, "Only false." },
};
/* clang-format on */
const size_t n_params = ARRAY_LEN(param_table);

/* ------------------------------------------------------------------ one value */

static bool is_whole(double v) {
    return v == floor(v) && fabs(v) <= 9007199254740992.0;
}

static bool wrong(struct api_error *e, const struct param_row *row, const char *what) {
    char range[96] = "";
    if (row->type == PARAM_INT)
        snprintf(range, sizeof range, "a whole number from %.0f to %.0f", row->low, row->high);
    else if (row->type == PARAM_FLOAT)
        snprintf(range, sizeof range, "a number from %g to %g", row->low, row->high);
    else if (row->type == PARAM_BOOL)
        snprintf(range, sizeof range, "true or false");
    else if (row->type == PARAM_STRING)
        snprintf(range, sizeof range, "a string of at most %.0f bytes", row->high);
    else if (row->type == PARAM_STRINGS)
        snprintf(range, sizeof range, "a string or an array of %.0f to %.0f strings", row->low,
                 row->high);
    else if (row->type == PARAM_ARRAY)
        snprintf(range, sizeof range, "an array of %.0f to %.0f items", row->low, row->high);
    else
        snprintf(range, sizeof range, "an object");
    return api_fail(e, 400, "invalid_value", row->name, "'%s' has to be %s%s", row->name, range, what);
}

static bool read_number(const struct param_row *row, const json_t *v, struct param_value *out,
                        struct api_error *e) {
    if (!json_is_number(v))
        return wrong(e, row, json_is_string(v) ? ", not a string" : "");
    double number = json_number_value(v);
    /* a double between -2^53 and 2^53 holds whole numbers exactly; jansson refuses NaN and infinity */
    if (row->type == PARAM_INT && !is_whole(number))
        return wrong(e, row, "");
    if (!(number >= row->low && number <= row->high))
        return wrong(e, row, "");
    out->number = number;
    out->integer = json_is_integer(v)        ? json_integer_value(v)
                   : fabs(number) <= 9.0e15 ? (int64_t)number
                                            : 0;
    return true;
}

static bool read_strings(const struct param_row *row, const json_t *v, struct param_value *out,
                         struct api_error *e) {
    enum { BYTES_MOST = 256 };
    const json_t *item;
    size_t i;
    out->n = json_is_string(v) ? 1 : json_array_size(v);
    if ((!json_is_string(v) && !json_is_array(v)) || (double)out->n < row->low ||
        (double)out->n > row->high)
        return wrong(e, row, "");
    for (i = 0; i < out->n; i++) {
        item = json_is_string(v) ? v : json_array_get(v, i);
        if (!json_is_string(item))
            return wrong(e, row, "");
        if (json_string_length(item) > BYTES_MOST)
            return api_fail(e, 400, "invalid_value", row->name,
                            "'%s' has a text of %zu bytes, at most %d", row->name,
                            json_string_length(item), BYTES_MOST);
    }
    return true;
}

static bool read_value(const struct param_row *row, const json_t *v, struct param_value *out,
                       struct api_error *e) {
    out->json = v;
    switch (row->type) {
    case PARAM_BOOL:
        out->flag = json_is_true(v);
        return json_is_boolean(v) || wrong(e, row, "");
    case PARAM_INT:
    case PARAM_FLOAT:
        return read_number(row, v, out, e);
    case PARAM_STRING:
        out->text = json_string_value(v);
        out->n = json_string_length(v);
        return (json_is_string(v) && (double)out->n <= row->high) || wrong(e, row, "");
    case PARAM_STRINGS:
        return read_strings(row, v, out, e);
    case PARAM_ARRAY:
        out->n = json_array_size(v);
        return (json_is_array(v) && (double)out->n >= row->low && (double)out->n <= row->high) ||
               wrong(e, row, "");
    case PARAM_OBJECT:
        return json_is_object(v) || wrong(e, row, "");
    case PARAM_ANY:
        break;
    }
    return true;
}

/* ------------------------------------------------------------------ an object */

const struct param_row *params_row(const char *name, unsigned place) {
    for (size_t i = 0; i < n_params; i++)
        if ((param_table[i].places & place) && strcmp(param_table[i].name, name) == 0)
            return &param_table[i];
    return NULL;
}

static void note_name(const char **list, size_t *n, const char *name) {
    if (*n < PARAM_NOTED_MOST)
        list[*n] = name;
    ++*n;
}

static bool read_field(const char *name, const json_t *v, struct params *out, struct api_error *e) {
    const struct param_row *row = params_row(name, out->place);
    struct param_value value = { .set = true, .name = name };
    if (row == NULL) {
        note_name(out->unknown, &out->n_unknown, name);
        return true;
    }
    if (!read_value(row, v, &value, e))
        return false;
    if (row->id == P_IGNORED) {
        note_name(out->ignored, &out->n_ignored, name);
        return true;
    }
    struct param_value *old = &out->values[row->id];
    if (old->set && !json_equal(old->json, v))
        return api_fail(e, 400, "invalid_value", row->name,
                        "'%s' and '%s' mean the same and differ", old->name, row->name);
    value.name = row->name;
    *old = value;
    return true;
}

bool params_read(const json_t *object, unsigned place, struct params *out, struct api_error *e) {
    memset(out, 0, sizeof *out);
    out->object = object;
    out->place = place;
    if (!json_is_object(object))
        return api_fail(e, 400, "invalid_value", NULL, "the request has to be a JSON object");
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, name, v) {
        if (!json_is_null(v) && !read_field(name, v, out, e))
            return false;
    }
    for (size_t i = 0; i < n_params; i++) {
        const struct param_row *row = &param_table[i];
        if (row->required && (row->places & place) && !out->values[row->id].set)
            return api_fail(e, 400, "missing_required_parameter", row->name, "'%s' is missing",
                            row->name);
    }
    return true;
}

bool params_bool(const struct params *p, enum param_id id, bool fallback) {
    return p->values[id].set ? p->values[id].flag : fallback;
}

/* ------------------------------------------------------------------ documentation */

static const struct place_name {
    unsigned place;
    const char *name;
} place_names[] = {
    { IN_CHAT, "chat/completions" },     { IN_COMPLETIONS, "completions" },
    { IN_RESPONSES, "responses" },       { IN_EMBEDDINGS, "embeddings" },
    { IN_MESSAGES, "messages" },         { IN_OLLAMA, "api/*" },
    { IN_OLLAMA_OPTIONS, "api/* options" }, { IN_LLAMA, "completion" },
    { IN_UTIL, "tokenize and alike" },
};

static void put_type(struct buf *b, const struct param_row *row) {
    static const char *const words[] = { "true, false", "whole", "number", "string", "strings",
                                         "array", "object", "see text" };
    buf_puts(b, words[row->type]);
    switch (row->type) {
    case PARAM_INT:
        buf_printf(b, ", %.0f to %.0f", row->low, row->high);
        break;
    case PARAM_FLOAT:
        buf_printf(b, ", %g to %g", row->low, row->high);
        break;
    case PARAM_STRINGS:
    case PARAM_ARRAY:
        buf_printf(b, ", %.0f to %.0f", row->low, row->high);
        break;
    default:
        break;
    }
}

char *params_markdown(void) {
    struct buf b;
    buf_init(&b, NULL, 1 << 20);
    buf_puts(&b, "| name | where | type and range | without it | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < n_params; i++) {
        const struct param_row *row = &param_table[i];
        buf_printf(&b, "| `%s`%s | ", row->name, row->required ? " (required)" : "");
        const char *between = "";
        for (size_t k = 0; k < ARRAY_LEN(place_names); k++) {
            if (!(row->places & place_names[k].place))
                continue;
            buf_printf(&b, "%s%s", between, place_names[k].name);
            between = ", ";
        }
        buf_puts(&b, " | ");
        put_type(&b, row);
        buf_printf(&b, " | %s | %s |\n", row->fallback ? row->fallback : "", row->help);
    }
    char *text = buf_take(&b);
    buf_free(&b);
    return text;
}
