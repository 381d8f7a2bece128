/* api_logprobs.c - log-probabilities of tokens in the two forms that clients know.
 *
 * Chat:        {"token": text, "logprob": x, "bytes": [..], "top_logprobs": [the same without tops]}
 * Completions: four arrays side by side; a token that is no whole text is written "bytes:\xe2\x82", the
 *              form that OpenAI's API has for it. The first token of a sequence has null, null.
 * Sources: OpenAI's API reference; lm-evaluation-harness, models/openai_completions.py, which sums
 * token_logprobs[ctxlen:-1] and compares each with the largest of top_logprobs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "server/api_reply.h"

void logprobs_init(struct api_logprobs *l) {
    buf_init(&l->content, NULL, API_REPLY_MOST);
    buf_init(&l->tokens, NULL, API_REPLY_MOST);
    buf_init(&l->values, NULL, API_REPLY_MOST);
    buf_init(&l->tops, NULL, API_REPLY_MOST);
    buf_init(&l->offsets, NULL, API_REPLY_MOST);
}

void logprobs_free(struct api_logprobs *l) {
    buf_free(&l->content);
    buf_free(&l->tokens);
    buf_free(&l->values);
    buf_free(&l->tops);
    buf_free(&l->offsets);
}

static const char *token_bytes(const struct api_reply *r, int32_t id, size_t *n) {
    const char *s = r->facts->token != NULL ? r->facts->token(r->facts->user, id, n) : NULL;
    *n = s != NULL ? *n : 0;
    return s != NULL ? s : "";
}

/* ------------------------------------------------------------------ chat */

static void put_token(struct buf *b, const struct api_reply *r, int32_t id, float logprob) {
    size_t n;
    const char *s = token_bytes(r, id, &n);
    put_text(b, "token", s, n);
    put_float(b, "logprob", logprob);
    put_open(b, "bytes", '[');
    for (size_t i = 0; i < n; i++)
        put_int(b, NULL, (unsigned char)s[i]);
    put_close(b, ']');
}

void logprobs_chat(struct api_reply *r, struct api_logprobs *l, const slm_choice *choice) {
    struct buf *b = &l->content;
    put_open(b, NULL, '{');
    put_token(b, r, choice->id, choice->logprob);
    put_open(b, "top_logprobs", '[');
    for (size_t i = 0; i < choice->n_top && i < r->call->top; i++) {
        put_open(b, NULL, '{');
        put_token(b, r, choice->top[i].id, choice->top[i].logprob);
        put_close(b, '}');
    }
    put_close(b, ']');
    put_close(b, '}');
}

void put_logprobs_list(struct buf *b, const char *key, struct api_logprobs *l) {
    put_open(b, key, '[');
    buf_put(b, l->content.data, l->content.len);
    put_close(b, ']');
    l->content.len = 0;
}

void put_logprobs_chat(struct buf *b, const char *key, struct api_reply *r,
                       struct api_logprobs *l) {
    if (!r->call->logprobs) {
        put_null(b, key);
        return;
    }
    put_open(b, key, '{');
    put_logprobs_list(b, "content", l);
    put_null(b, "refusal");
    put_close(b, '}');
}

/* ------------------------------------------------------------------ completions */

/* The token as a key or a string: its text, or "bytes:" and its bytes in hexadecimal. */
static void put_token_text(struct buf *b, const char *s, size_t n) {
    char text[6 + 4 * 64 + 1] = "bytes:";
    if (utf8_valid(s, n) == n || n > 64) {
        put_text(b, NULL, s, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        snprintf(text + 6 + 4 * i, 5, "\\x%02x", (unsigned char)s[i]);
    put_str(b, NULL, text);
}

static size_t characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)s[i] & 0xc0) != 0x80;
    return count;
}

/* {"text": logprob, ...}: the likeliest, and the chosen one if it is none of them. Of two tokens with the
 * same text the likelier one counts, as an object has room for one. */
static void put_top(struct buf *b, const struct api_reply *r, const slm_choice *choice) {
    struct slm_likely list[SLM_TOP_MOST + 1];
    size_t n_list = 0, n, n_other;
    bool there = false;
    for (size_t i = 0; i < choice->n_top && i < r->call->top && i < SLM_TOP_MOST; i++) {
        there = there || choice->top[i].id == choice->id;
        list[n_list++] = choice->top[i];
    }
    if (!there)
        list[n_list++] = (struct slm_likely){ choice->id, choice->logprob };
    put_open(b, NULL, '{');
    for (size_t i = 0; i < n_list; i++) {
        char copy[256];
        bool again = false;
        const char *s = token_bytes(r, list[i].id, &n);
        size_t keep = n < sizeof copy ? n : sizeof copy;
        memcpy(copy, s, keep);
        for (size_t k = 0; k < i && !again; k++) {
            const char *other = token_bytes(r, list[k].id, &n_other);
            again = n == n_other && n <= sizeof copy && memcmp(copy, other, n) == 0;
        }
        if (again)
            continue;
        s = token_bytes(r, list[i].id, &n);
        put_token_text(b, s, n);
        buf_putc(b, ':');
        put_float(b, NULL, list[i].logprob);
    }
    put_close(b, '}');
}

void logprobs_text(struct api_reply *r, struct api_logprobs *l, const slm_choice *choice) {
    size_t n;
    const char *s = token_bytes(r, choice->id, &n);
    put_token_text(&l->tokens, s, n);
    put_size(&l->offsets, NULL, l->n_characters);
    l->n_characters += characters(s, n);
    if (isnan(choice->logprob)) {
        put_null(&l->values, NULL);
        put_null(&l->tops, NULL);
        return;
    }
    put_float(&l->values, NULL, choice->logprob);
    put_top(&l->tops, r, choice);
}

/* One array of what stands in front and what is pending, which is taken; either may be NULL. */
static void put_joined(struct buf *b, const char *key, const struct buf *front, struct buf *rest) {
    put_open(b, key, '[');
    if (front != NULL && front->len > 0)
        put_raw(b, NULL, front->data, front->len);
    if (rest != NULL && rest->len > 0) {
        put_raw(b, NULL, rest->data, rest->len);
        rest->len = 0;
    }
    put_close(b, ']');
}

void put_logprobs_text(struct buf *b, const char *key, const struct api_logprobs *prompt,
                       struct api_logprobs *l) {
    put_open(b, key, '{');
    put_joined(b, "tokens", prompt ? &prompt->tokens : NULL, l ? &l->tokens : NULL);
    put_joined(b, "token_logprobs", prompt ? &prompt->values : NULL, l ? &l->values : NULL);
    put_joined(b, "top_logprobs", prompt ? &prompt->tops : NULL, l ? &l->tops : NULL);
    put_joined(b, "text_offset", prompt ? &prompt->offsets : NULL, l ? &l->offsets : NULL);
    put_close(b, '}');
}
