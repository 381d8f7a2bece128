/* api_error.c - errors in the words of each dialect.
 *
 * OpenAI, llama-server  {"error": {"message", "type", "param", "code"}}; llama-server's own routes have
 *                       the status as `code`, and n_prompt_tokens, n_ctx of a prompt that is too long
 * Anthropic             {"type": "error", "error": {"type", "message"}, "request_id": null}
 * Ollama                {"error": "message"}
 * Sources: the SDKs' error classes; Anthropic's API reference, "Errors"; llama-server's README. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "server/api.h"
#include "server/api_write.h"

/* One row per status: OpenAI's and Anthropic's words for it. */
static const struct words {
    int status;
    const char *openai, *anthropic;
} words[] = {
    { 400, "invalid_request_error", "invalid_request_error" },
    { 401, "authentication_error", "authentication_error" },
    { 403, "permission_error", "permission_error" },
    { 404, "not_found_error", "not_found_error" },
    { 405, "invalid_request_error", "invalid_request_error" },
    { 408, "timeout_error", "timeout_error" },
    { 413, "invalid_request_error", "request_too_large" },
    { 415, "invalid_request_error", "invalid_request_error" },
    { 429, "rate_limit_error", "rate_limit_error" },
    { 499, "cancelled_error", "api_error" },
    { 500, "server_error", "api_error" },
    { 501, "server_error", "api_error" },
    { 503, "server_error", "overloaded_error" },
    { 504, "timeout_error", "timeout_error" },
};

static const struct words *words_of(int status) {
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (words[i].status == status)
            return &words[i];
    return status >= 500 ? words_of(500) : words_of(400);
}

/* Cuts a broken character off the end and makes the rest printable. */
static void clean(char *s, size_t n) {
    size_t len = strlen(s);
    if (len == n - 1)
        len = utf8_complete(s, len);
    s[len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 && s[i] != '\n')
            s[i] = ' ';
}

bool api_fail(struct api_error *e, int status, const char *code, const char *param,
              const char *format, ...) {
    va_list args;
    *e = (struct api_error){ .status = status, .type = words_of(status)->openai, .code = code };
    if (param != NULL)
        snprintf(e->param, sizeof e->param, "%s", param);
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    clean(e->message, sizeof e->message);
    clean(e->param, sizeof e->param);
    return false;
}

bool api_fail_slm(struct api_error *e, slm_err err, const slm_why *why) {
    static const struct {
        slm_err err;
        int status;
        const char *code;
    } rows[] = {
        { SLM_E_CONTEXT, 400, "context_length_exceeded" },
        { SLM_E_ARG, 400, "invalid_value" },
        { SLM_E_FORMAT, 400, "invalid_value" },
        { SLM_E_UNSUPPORTED, 400, "unsupported_value" },
        { SLM_E_RAISED, 400, "invalid_value" },
        { SLM_E_BUDGET, 400, "too_large" },
        { SLM_E_ENCODING, 400, "invalid_value" },
        { SLM_E_NOTFOUND, 404, "not_found" },
        { SLM_E_BUSY, 429, "server_overloaded" },
        { SLM_E_MEMORY, 503, "out_of_memory" },
        { SLM_E_NOMEM, 503, "out_of_memory" },
    };
    const char *message = why != NULL && why->message[0] != '\0' ? why->message : slm_err_text(err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].err == err)
            return api_fail(e, rows[i].status, rows[i].code, NULL, "%s", message);
    return api_fail(e, 500, "internal_error", NULL, "%s", message);
}

static void openai_body(const struct api_error *e, bool llama, struct buf *b) {
    put_open(b, NULL, '{');
    put_open(b, "error", '{');
    put_str(b, "message", e->message);
    put_str(b, "type", e->type != NULL ? e->type : words_of(e->status)->openai);
    put_str(b, "param", e->param[0] != '\0' ? e->param : NULL);
    if (llama)
        put_int(b, "code", e->status);
    else
        put_str(b, "code", e->code);
    if (e->n_context > 0) {
        put_size(b, "n_prompt_tokens", e->n_prompt);
        put_size(b, "n_ctx", e->n_context);
    }
    put_close(b, '}');
    put_close(b, '}');
}

void api_error_body(enum api_family family, const struct api_error *e, struct buf *b) {
    switch (family) {
    case API_OPENAI:
    case API_LLAMA:
        openai_body(e, family == API_LLAMA, b);
        break;
    case API_ANTHROPIC:
        put_open(b, NULL, '{');
        put_str(b, "type", "error");
        put_open(b, "error", '{');
        put_str(b, "type", words_of(e->status)->anthropic);
        put_str(b, "message", e->message);
        put_close(b, '}');
        put_null(b, "request_id");
        put_close(b, '}');
        break;
    case API_OLLAMA:
        put_open(b, NULL, '{');
        put_str(b, "error", e->message);
        put_close(b, '}');
        break;
    }
}
