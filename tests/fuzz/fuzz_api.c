/* fuzz_api.c - requests of every dialect: "METHOD PATH\n" and a body. What is read is answered with a few
 * events, streamed and whole; both answers have to be made of valid JSON. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool truth) {
    if (!truth)
        abort();
}

static void expect_json(const char *s, size_t n) {
    json_t *v = NULL;
    expect(json_text(s, n, &v, NULL) == SLM_OK);
    json_decref(v);
}

static void expect_stream(const struct buf *out) {
    for (size_t i = 0; i < out->len;) {
        const char *line = out->data + i, *end = memchr(line, '\n', out->len - i);
        expect(end != NULL);
        size_t n = (size_t)(end - line);
        if (n > 6 && memcmp(line, "data: {", 7) == 0)
            expect_json(line + 6, n - 6);
        else if (n > 0 && line[0] == '{')
            expect_json(line, n);
        i += n + 1;
    }
}

static const char *token(void *user, int32_t id, size_t *n) {
    static const char bytes[] = "\xf0\x9f\xa6\x8a";
    (void)user;
    *n = (size_t)id % 5; /* halves of a character, too */
    return bytes;
}

static void events(struct api_reply *r, size_t i) {
    const struct slm_likely top[2] = { { 3, -0.5f }, { 4, -1.0f / 0.0f } };
    const slm_choice choice = {
        .size = sizeof choice, .id = 3, .logprob = -0.5f, .top = top, .n_top = 2
    };
    const slm_tool_call call = { .size = sizeof call,
                                 .name = "f\"",
                                 .n_name = 2,
                                 .arguments = "{\"a\": [1]}",
                                 .n_arguments = 10 };
    api_reply_text(r, i, SLM_PART_REASONING, "hm", 2);
    api_reply_choice(r, i, &choice);
    api_reply_text(r, i, SLM_PART_ANSWER, "\xff\"\n", 3);
    api_reply_call(r, i, &call);
    api_reply_text(r, i, SLM_PART_ANSWER, "b", 1);
}

static void play(const struct api_call *call) {
    static const struct api_facts facts = {
        .unique = "abcdefgh", .model = "m\"", .fingerprint = "f", .token = token
    };
    static const float vector[3] = { 1, -2, 0.5f };
    const slm_choice first = { .size = sizeof first, .id = 2, .logprob = 0.0f / 0.0f };
    slm_result result = { .size = sizeof result, .finish = SLM_FINISH_STRING, .prompt_tokens = 3 };
    size_t tokens[API_PROMPTS_MOST] = { 0 };
    struct api_reply *r = api_reply_new(call, &facts);
    expect(r != NULL && call->n_prompts <= API_PROMPTS_MOST);
    api_reply_begin(r, tokens);
    api_reply_ping(r);
    for (size_t p = 0; p < call->n_prompts; p++) {
        api_reply_prompt(r, p, &first);
        if (call->op == API_EMBED)
            api_reply_embedding(r, p, vector, 3, 1);
    }
    for (size_t i = 0; i < call->n_prompts * call->choices; i++) {
        if (call->op == API_GENERATE)
            events(r, i);
        api_reply_done(r, i, &result, NULL);
    }
    api_reply_end(r);
    const struct buf *out = api_reply_out(r);
    expect(out->err == SLM_OK);
    if (call->stream && call->op == API_GENERATE)
        expect_stream(out);
    else
        expect_json(out->data, out->len);
    api_reply_free(r);
}

/* What a call promises whoever runs it. */
static void check_call(struct api_call *call) {
    slm_info info = { .size = sizeof info };
    slm_generate_options o;
    struct api_error e;
    for (size_t p = 0; p < call->n_prompts; p++) {
        const struct api_prompt *q = &call->prompts[p];
        expect(q->kind == API_IDS ? q->ids != NULL : q->text != NULL && strlen(q->text) == q->n);
        if (q->kind == API_CHAT)
            expect_json(q->text, q->n);
    }
    expect(call->n_prompts * call->choices <= API_CANDIDATES_MOST);
    for (size_t i = 0; i < call->warnings.len; i++)
        expect(call->warnings.data[i] >= 0x20 && call->warnings.data[i] < 0x7f);
    if (call->op == API_GENERATE) {
        info.sampling = info.sampling_no_think = slm_sampling_default();
        api_options(call, 0, &info, false, 3, 64, &o);
        expect(o.max_tokens <= 1000000000);
        api_fit(call, 3, 64, &e);
    }
    if ((call->op == API_GENERATE || call->op == API_EMBED) && call->n_prompts > 0) {
        play(call);
        if (call->op == API_GENERATE) {
            call->stream = !call->stream;
            play(call);
        }
    }
    while (api_drop_turn(call))
        expect_json(call->prompts[0].text, call->prompts[0].n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    char line[256], *path;
    const char *name;
    bool known;
    size_t n = end != NULL ? (size_t)(end - data) : 0;
    if (n == 0 || n >= sizeof line || memchr(data, 0, n) != NULL)
        return 0;
    memcpy(line, data, n);
    line[n] = '\0';
    path = strchr(line, ' ');
    if (path == NULL)
        return 0;
    *path++ = '\0';
    const struct api_route *route = api_route_find(line, path, &name, &known);
    if (route == NULL)
        return 0;
    struct api_call call;
    struct api_error e;
    struct buf b;
    if (api_read(route, name, (const char *)end + 1, size - n - 1, &call, &e)) {
        check_call(&call);
    } else {
        buf_init(&b, NULL, 1 << 16);
        expect(e.status >= 400 && e.message[0] != '\0');
        api_error_body(route->family, &e, &b);
        expect_json(b.data, b.len);
        buf_free(&b);
    }
    api_call_free(&call);
    return 0;
}
