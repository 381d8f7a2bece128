/* api_embed.c - embeddings: OpenAI's /v1/embeddings, Ollama's two, llama-server's.
 *
 * A vector is the mean of the states after the final norm over the tokens of a text. OpenAI and Ollama's
 * /api/embed give vectors of length 1; the others give the mean as it is. */
#include <math.h>
#include <string.h>

#include "server/api_embed.h"
#include "server/api_read.h"
#include "server/api_reply.h"

/* ------------------------------------------------------------------ requests */

bool read_embeddings(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    if (!read_params(r, r->body, IN_EMBEDDINGS))
        return false;
    const struct param_value *encoding = &p->values[P_ENCODING];
    if (encoding->set && strcmp(encoding->text, "float") != 0 &&
        strcmp(encoding->text, "base64") != 0)
        return bad_field(r, "encoding_format", "is '%.16s'; known are float and base64",
                         encoding->text);
    call->base64 = encoding->set && encoding->text[0] == 'b';
    call->dimensions = (uint32_t)p->values[P_DIMENSIONS].integer;
    call->unit_vectors = true;
    return read_prompts(r, p->values[P_INPUT].json, "input");
}

bool read_ollama_embed(struct api_reader *r) {
    const struct params *p = &r->params;
    struct api_call *call = r->call;
    bool old = call->route->shape == &shape_ollama_embedding;
    if (!read_params(r, r->body, IN_OLLAMA))
        return false;
    call->dimensions = (uint32_t)p->values[P_DIMENSIONS].integer;
    call->truncate = params_bool(p, P_TRUNCATE, false);
    call->unit_vectors = !old;
    return read_ollama_options(r) &&
           read_prompts(r, p->values[old ? P_PROMPT : P_INPUT].json, old ? "prompt" : "input");
}

bool read_llama_embedding(struct api_reader *r) {
    const json_t *content;
    if (!read_params(r, r->body, IN_UTIL | IN_EMBEDDINGS))
        return false;
    content = r->params.values[P_TEXT].json;
    r->call->unit_vectors = true;
    return read_prompts(r, content != NULL ? content : r->params.values[P_INPUT].json, "content");
}

/* ------------------------------------------------------------------ vectors */

static void put_base64(struct buf *b, const unsigned char *s, size_t n) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)s[i] << 16 | (i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0) |
                     (i + 2 < n ? s[i + 2] : 0u);
        buf_putc(b, letters[v >> 18]);
        buf_putc(b, letters[v >> 12 & 63]);
        buf_putc(b, i + 1 < n ? letters[v >> 6 & 63] : '=');
        buf_putc(b, i + 2 < n ? letters[v & 63] : '=');
    }
}

void embedding_render(const struct api_call *call, const float *values, size_t n, struct buf *out) {
    double sum = 0;
    if (call->dimensions > 0 && call->dimensions < n)
        n = call->dimensions;
    for (size_t i = 0; i < n; i++)
        sum += (double)values[i] * (double)values[i];
    double scale = call->unit_vectors && sum > 0 ? 1.0 / sqrt(sum) : 1.0;
    if (!call->base64)
        put_open(out, NULL, '[');
    unsigned char bytes[12];
    size_t held = 0;
    if (call->base64)
        buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        float v = (float)((double)values[i] * scale);
        uint32_t bits;
        if (!call->base64) {
            put_float(out, NULL, v);
            continue;
        }
        memcpy(&bits, &v, sizeof bits);
        for (int k = 0; k < 4; k++)
            bytes[held++] = (unsigned char)(bits >> (8 * k));
        if (held == sizeof bytes || i + 1 == n) { /* twelve bytes: no padding but at the end */
            put_base64(out, bytes, held);
            held = 0;
        }
    }
    if (call->base64)
        buf_putc(out, '"');
    else
        put_close(out, ']');
}

/* ------------------------------------------------------------------ replies */

static size_t all_tokens(const struct api_reply *r) {
    size_t n = 0;
    for (size_t p = 0; p < r->call->n_prompts; p++)
        n += r->prompts[p].n_tokens;
    return n;
}

static void put_vector(struct api_reply *r, const char *key, size_t p) {
    const struct buf *v = &r->vectors[p];
    if (v->err != SLM_OK || v->len == 0)
        r->out.err = v->err != SLM_OK ? v->err : SLM_E_NOMEM;
    else
        put_raw(&r->out, key, v->data, v->len);
}

static void openai_whole(struct api_reply *r) {
    struct buf *b = &r->out;
    put_open(b, NULL, '{');
    put_str(b, "object", "list");
    put_open(b, "data", '[');
    for (size_t p = 0; p < r->call->n_prompts; p++) {
        put_open(b, NULL, '{');
        put_str(b, "object", "embedding");
        put_size(b, "index", p);
        put_vector(r, "embedding", p);
        put_close(b, '}');
    }
    put_close(b, ']');
    put_str(b, "model", r->facts->model);
    put_open(b, "usage", '{');
    put_size(b, "prompt_tokens", all_tokens(r));
    put_size(b, "total_tokens", all_tokens(r));
    put_close(b, '}');
    put_close(b, '}');
}

static void ollama_whole(struct api_reply *r) {
    struct buf *b = &r->out;
    struct api_spent spent = r->n_candidates > 0 ? r->candidates[0].spent : (struct api_spent){ 0 };
    put_open(b, NULL, '{');
    put_str(b, "model", r->facts->model);
    put_open(b, "embeddings", '[');
    for (size_t p = 0; p < r->call->n_prompts; p++)
        put_vector(r, NULL, p);
    put_close(b, ']');
    put_size(b, "total_duration", spent.total_ns);
    put_size(b, "load_duration", spent.load_ns);
    put_size(b, "prompt_eval_count", all_tokens(r));
    put_close(b, '}');
}

static void ollama_old_whole(struct api_reply *r) {
    put_open(&r->out, NULL, '{');
    put_vector(r, "embedding", 0);
    put_close(&r->out, '}');
}

static void llama_whole(struct api_reply *r) {
    struct buf *b = &r->out;
    put_open(b, NULL, '[');
    for (size_t p = 0; p < r->call->n_prompts; p++) {
        put_open(b, NULL, '{');
        put_size(b, "index", p);
        put_open(b, "embedding", '[');
        put_vector(r, NULL, p);
        put_close(b, ']');
        put_close(b, '}');
    }
    put_close(b, ']');
}

const struct api_shape shape_embeddings = { .whole = openai_whole };
const struct api_shape shape_ollama_embed = { .whole = ollama_whole };
const struct api_shape shape_ollama_embedding = { .whole = ollama_old_whole };
const struct api_shape shape_llama_embedding = { .whole = llama_whole };
