/* test_api.c - the wire dialects against the files api_*.txt of tests/data/server: requests to calls,
 * events to bytes.
 *
 * A case begins with "@case NAME"; below it METHOD PATH and the body. Then, each beginning with its own
 * line:  @call   the call that it becomes, in the words of show_call
 *        @error  STATUS CODE PARAM and the message; then the body of the error as the dialect has it
 *        @events what the candidates give: begin N.., prompt P ID LOGPROB [ID:LOGPROB ...],
 *                choice I ID LOGPROB [...], text I WORDS, reason I WORDS, call I NAME JSON,
 *                embed P N X.., done I FINISH PROMPT REUSED OUTPUT REASONING [STOP_INDEX], ping, fail
 *        @reply  the bytes of the answer
 * Every case with events is also run the other way (streamed or whole), and both have to say the same.
 * SLM_WRITE_CASES=1 writes the files again with what came out: read the difference before keeping it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/api_write.h"
#include "server/params.h"
#include "support.h"

/* ------------------------------------------------------------------ what a case is made of */

enum section { IN_CASE, IN_CALL, IN_ERROR, IN_EVENTS, IN_REPLY, N_SECTIONS };
static const char *const marks[N_SECTIONS] = { "@case", "@call", "@error", "@events", "@reply" };

struct one_case {
    char name[128];
    char *text[N_SECTIONS]; /* NULL: not there; without the last newline */
};

static char *join(char *old, const char *line, size_t n) {
    size_t len = old != NULL ? strlen(old) + 1 : 0;
    char *out = realloc(old, len + n + 1);
    assert_non_null(out);
    if (len > 0)
        out[len - 1] = '\n';
    memcpy(out + len, line, n);
    out[len + n] = '\0';
    return out;
}

/* The next case at *at; false at the end. */
static bool next_case(const char **at, struct one_case *c) {
    memset(c, 0, sizeof *c);
    int section = -1;
    while (**at != '\0') {
        const char *line = *at, *end = strchr(line, '\n');
        size_t n = end != NULL ? (size_t)(end - line) : strlen(line);
        int mark = -1;
        for (int i = 0; i < N_SECTIONS; i++)
            if (strncmp(line, marks[i], strlen(marks[i])) == 0)
                mark = i;
        if (mark == IN_CASE && section >= 0)
            return true;
        *at = line + n + (end != NULL);
        if (mark >= 0) {
            section = mark;
            if (mark == IN_CASE)
                snprintf(c->name, sizeof c->name, "%.*s", (int)(n > 6 ? n - 6 : 0), line + 6);
            else
                c->text[mark] = calloc(1, 1);
            if (mark != IN_CASE) {
                free(c->text[mark]);
                c->text[mark] = NULL;
            }
        } else if (section >= 0 && !(n == 0 && section != IN_REPLY)) {
            c->text[section] = join(c->text[section], line, n);
        }
    }
    return section >= 0;
}

/* ------------------------------------------------------------------ a vocabulary of few words */

static const char *token_of(void *user, int32_t id, size_t *n) {
    static const char *const words[] = { "Hello", " world", "\xe2\x82", "\xac", "!", "1", " is" };
    static char byte;
    (void)user;
    if (id >= 1000 && id < 1000 + (int32_t)ARRAY_LEN(words)) {
        *n = strlen(words[id - 1000]);
        return words[id - 1000];
    }
    byte = (char)id;
    *n = id >= 32 && id < 127;
    return &byte;
}

/* ------------------------------------------------------------------ calls as text */

static void show_sampling(struct buf *b, const struct api_call *c) {
    static const char *const names[] = { "temperature",
                                         "top_k",
                                         "top_p",
                                         "min_p",
                                         "typical_p",
                                         "repetition_penalty",
                                         "presence_penalty",
                                         "frequency_penalty" };
    const slm_sampling *v = &c->sampling.values;
    const double values[] = { (double)v->temperature,
                              v->top_k,
                              (double)v->top_p,
                              (double)v->min_p,
                              (double)v->typical_p,
                              (double)v->repetition_penalty,
                              (double)v->presence_penalty,
                              (double)v->frequency_penalty };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (c->sampling.set & 1u << i)
            buf_printf(b, "%s %.7g\n", names[i], values[i]);
    if (c->seed_set)
        buf_printf(b, "seed %llu\n", (unsigned long long)v->seed);
    for (size_t i = 0; i < v->n_bias; i++)
        buf_printf(b, "bias %d %g\n", v->bias[i].id, (double)v->bias[i].bias);
}

static void show_flag(struct buf *b, const char *name, bool set) {
    if (set)
        buf_printf(b, "%s\n", name);
}

static void show_number(struct buf *b, const char *name, int64_t v) {
    if (v != 0)
        buf_printf(b, "%s %lld\n", name, (long long)v);
}

static void show_call(struct buf *b, const struct api_call *c) {
    static const char *const kinds[] = { "chat", "text", "ids" }, *const languages[] = {
        "schema", "json", "choices", "regex"
    };
    buf_printf(b, "op %d model %s\n", (int)c->op, c->model != NULL ? c->model : "-");
    for (size_t p = 0; p < c->n_prompts; p++) {
        const struct api_prompt *q = &c->prompts[p];
        buf_printf(b, "%s", kinds[q->kind]);
        if (q->kind == API_IDS)
            for (size_t i = 0; i < q->n_ids; i++)
                buf_printf(b, " %d", q->ids[i]);
        else
            buf_printf(b, " %.*s", (int)q->n, q->text);
        buf_puts(b, "\n");
    }
    for (size_t i = 0; i < c->n_images; i++)
        buf_printf(b, "image %.*s\n", (int)c->images[i].n, c->images[i].base64);
    show_flag(b, "stream", c->stream);
    show_number(b, "choices", c->choices != 1 ? (int64_t)c->choices : 0);
    show_sampling(b, c);
    show_number(b, "max_tokens", c->max_tokens);
    show_flag(b, "score_only", c->score_only);
    show_number(b, "think_budget", c->think_budget);
    for (size_t i = 0; i < c->n_stop; i++)
        buf_printf(b, "stop %s\n", c->stop[i]);
    show_flag(b, "logprobs", c->logprobs);
    show_number(b, "top", c->top);
    show_flag(b, "echo", c->echo);
    show_flag(b, "ignore_stop_ids", c->ignore_stop_ids);
    show_flag(b, "include_usage", c->include_usage);
    show_flag(b, "truncate", c->truncate);
    show_number(b, "num_ctx", c->num_ctx);
    if (c->keep_alive_set)
        buf_printf(b, "keep_alive %lld\n", (long long)c->keep_alive_s);
    show_number(b, "dimensions", c->dimensions);
    show_flag(b, "base64", c->base64);
    show_flag(b, "add_special", c->add_special);
    if (c->has_constraint)
        buf_printf(b, "constraint %s %.*s\n", languages[c->constraint_kind], (int)c->n_constraint,
                   c->constraint);
    if (c->warnings.len > 0)
        buf_printf(b, "warning %.*s\n", (int)c->warnings.len, c->warnings.data);
}

/* ------------------------------------------------------------------ events from text */

struct words {
    char *at;
};

static char *word(struct words *w) {
    char *start = w->at;
    while (*w->at != '\0' && *w->at != ' ')
        w->at++;
    if (*w->at == ' ')
        *w->at++ = '\0';
    return start;
}

/* \n, \\ and \xNN stand for those bytes. */
static size_t unescape(char *s) {
    size_t n = 0;
    for (char *p = s; *p != '\0'; p++) {
        if (p[0] == '\\' && p[1] == 'n') {
            s[n++] = '\n';
            p++;
        } else if (p[0] == '\\' && p[1] == '\\') {
            s[n++] = '\\';
            p++;
        } else if (p[0] == '\\' && p[1] == 'x') {
            char hex[3] = { p[2], p[3], '\0' };
            s[n++] = (char)strtol(hex, NULL, 16);
            p += 3;
        } else {
            s[n++] = *p;
        }
    }
    s[n] = '\0';
    return n;
}

static void choice_event(struct api_reply *r, bool prompt, struct words *w) {
    struct slm_likely top[SLM_TOP_MOST];
    size_t i = strtoul(word(w), NULL, 10);
    slm_choice c = { .size = sizeof c, .top = top };
    c.id = (int32_t)strtol(word(w), NULL, 10);
    c.logprob = strtof(word(w), NULL);
    while (*w->at != '\0') {
        char *pair = word(w);
        if (strcmp(pair, "stop") == 0) {
            c.stop = true;
            continue;
        }
        if (strcmp(pair, "reason") == 0) {
            c.part = SLM_PART_REASONING;
            continue;
        }
        top[c.n_top].id = (int32_t)strtol(pair, &pair, 10);
        top[c.n_top++].logprob = strtof(pair + 1, NULL);
    }
    if (prompt)
        api_reply_prompt(r, i, &c);
    else
        api_reply_choice(r, i, &c);
}

static void done_event(struct api_reply *r, struct words *w) {
    static const char *const finishes[] = { "stop", "string", "length", "context", "cancelled" };
    const struct api_spent spent = { .queue_ns = 1000000, .load_ns = 2000000, .total_ns = 9000000 };
    slm_result result = { .size = sizeof result, .prefill_ns = 4000000, .decode_ns = 2000000 };
    size_t i = strtoul(word(w), NULL, 10);
    const char *finish = word(w);
    for (size_t k = 0; k < ARRAY_LEN(finishes); k++)
        if (strcmp(finish, finishes[k]) == 0)
            result.finish = (enum slm_finish)k;
    result.prompt_tokens = strtoul(word(w), NULL, 10);
    result.reused_tokens = strtoul(word(w), NULL, 10);
    result.output_tokens = strtoul(word(w), NULL, 10);
    result.reasoning_tokens = strtoul(word(w), NULL, 10);
    result.stop_index = strtoul(word(w), NULL, 10);
    result.sampling = slm_sampling_default();
    api_reply_done(r, i, &result, &spent);
}

static void call_event(struct api_reply *r, size_t *n_calls, struct words *w) {
    size_t i = strtoul(word(w), NULL, 10);
    slm_tool_call call = { .size = sizeof call, .index = n_calls[i]++ };
    call.name = word(w);
    call.n_name = strlen(call.name);
    call.arguments = w->at;
    call.n_arguments = strlen(w->at);
    api_reply_call(r, i, &call);
}

static void begin_event(struct api_reply *r, struct words *w) {
    size_t tokens[API_PROMPTS_MOST] = { 0 };
    for (size_t n = 0; *w->at != '\0'; n++)
        tokens[n] = strtoul(word(w), NULL, 10);
    api_reply_begin(r, tokens);
}

static void embed_event(struct api_reply *r, struct words *w) {
    float values[16];
    size_t p = strtoul(word(w), NULL, 10), tokens = strtoul(word(w), NULL, 10), n = 0;
    while (*w->at != '\0')
        values[n++] = strtof(word(w), NULL);
    api_reply_embedding(r, p, values, n, tokens);
}

static void one_event(struct api_reply *r, size_t *n_calls, char *line) {
    struct words w = { line };
    const char *what = word(&w);
    if (strcmp(what, "begin") == 0) {
        begin_event(r, &w);
    } else if (strcmp(what, "prompt") == 0 || strcmp(what, "choice") == 0) {
        choice_event(r, what[0] == 'p', &w);
    } else if (strcmp(what, "text") == 0 || strcmp(what, "reason") == 0) {
        size_t i = strtoul(word(&w), NULL, 10);
        size_t n = unescape(w.at);
        api_reply_text(r, i, what[0] == 't' ? SLM_PART_ANSWER : SLM_PART_REASONING, w.at, n);
    } else if (strcmp(what, "call") == 0) {
        call_event(r, n_calls, &w);
    } else if (strcmp(what, "embed") == 0) {
        embed_event(r, &w);
    } else if (strcmp(what, "done") == 0) {
        done_event(r, &w);
    } else if (strcmp(what, "ping") == 0) {
        api_reply_ping(r);
    } else if (strcmp(what, "progress") == 0) {
        api_reply_progress(r, 0, 3, 9);
    } else if (strcmp(what, "fail") == 0) {
        struct api_error e;
        api_fail(&e, 503, "server_shutdown", NULL, "the server ends");
        api_reply_error(r, &e);
    } else {
        fail_msg("unknown event %s", what);
    }
}

/* What the events become, as one text. */
static struct buf play(const struct api_call *call, const char *events) {
    static const struct api_facts facts = { .unique = "Abc123xyz",
                                            .model = "tiny",
                                            .fingerprint = "fp_0011",
                                            .created_ns = INT64_C(1700000000123456789),
                                            .token = token_of };
    struct api_reply *r = api_reply_new(call, &facts);
    size_t n_calls[API_CANDIDATES_MOST] = { 0 };
    struct buf all;
    char *copy = strdup(events), *save = NULL;
    assert_non_null(r);
    buf_init(&all, NULL, 1 << 24);
    for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        one_event(r, n_calls, line);
    api_reply_end(r);
    assert_int_equal(api_reply_out(r)->err, SLM_OK);
    buf_put(&all, api_reply_out(r)->data, api_reply_out(r)->len);
    api_reply_free(r);
    free(copy);
    return all;
}

/* ------------------------------------------------------------------ streamed and whole say the same */

struct said {
    struct buf answer, reasoning, calls, logprobs, finish;
};

static void add_str(struct buf *b, const json_t *v) {
    if (json_is_string(v))
        buf_put(b, json_string_value(v), json_string_length(v));
}

static void add_tree(struct buf *b, const json_t *v) {
    if (v == NULL || json_is_null(v))
        return;
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    buf_puts(b, text);
    free(text);
}

static const json_t *at(const json_t *v, const char *a, const char *b) {
    v = json_object_get(v, a);
    return b != NULL ? json_object_get(v, b) : v;
}

/* OpenAI's choices: a delta and a message have the same fields. */
static void openai_said(struct said *s, const json_t *piece) {
    const json_t *choice, *v;
    size_t i, k;
    json_array_foreach(json_object_get(piece, "choices"), i, choice) {
        const json_t *m = at(choice, "delta", NULL);
        m = m != NULL ? m : at(choice, "message", NULL);
        add_str(&s->answer, at(m, "content", NULL));
        add_str(&s->answer, at(choice, "text", NULL));
        add_str(&s->reasoning, at(m, "reasoning_content", NULL));
        json_array_foreach(at(m, "tool_calls", NULL), k, v) {
            add_str(&s->calls, at(v, "id", NULL));
            add_str(&s->calls, at(v, "function", "name"));
            add_str(&s->calls, at(v, "function", "arguments"));
        }
        json_array_foreach(at(choice, "logprobs", "content"), k, v) {
            add_tree(&s->logprobs, v);
        }
        json_array_foreach(at(choice, "logprobs", "token_logprobs"), k, v) {
            add_tree(&s->logprobs, v);
        }
        json_array_foreach(at(choice, "logprobs", "text_offset"), k, v) {
            add_tree(&s->finish, v);
        }
        add_str(&s->finish, at(choice, "finish_reason", NULL));
    }
}

static void anthropic_said(struct said *s, const json_t *piece) {
    const json_t *block = at(piece, "content_block", NULL), *d = at(piece, "delta", NULL), *v;
    size_t k;
    if (block != NULL) {
        add_str(&s->calls, at(block, "id", NULL));
        add_str(&s->calls, at(block, "name", NULL));
    }
    add_str(&s->answer, at(d, "text", NULL));
    add_str(&s->reasoning, at(d, "thinking", NULL));
    add_str(&s->reasoning, at(d, "signature", NULL));
    add_str(&s->calls, at(d, "partial_json", NULL));
    add_str(&s->finish, at(d, "stop_reason", NULL));
    json_array_foreach(json_object_get(piece, "content"), k, v) {
        add_str(&s->answer, at(v, "text", NULL));
        add_str(&s->reasoning, at(v, "thinking", NULL));
        add_str(&s->reasoning, at(v, "signature", NULL));
        add_str(&s->calls, at(v, "id", NULL));
        add_str(&s->calls, at(v, "name", NULL));
        add_tree(&s->calls, at(v, "input", NULL));
    }
    add_str(&s->finish, at(piece, "stop_reason", NULL));
}

static void ollama_said(struct said *s, const json_t *piece) {
    const json_t *m = at(piece, "message", NULL), *v;
    size_t k;
    add_str(&s->answer, at(m, "content", NULL));
    add_str(&s->answer, at(piece, "response", NULL));
    add_str(&s->reasoning, at(m, "thinking", NULL));
    add_str(&s->reasoning, at(piece, "thinking", NULL));
    json_array_foreach(at(m, "tool_calls", NULL), k, v) {
        add_tree(&s->calls, v);
    }
    json_array_foreach(at(piece, "logprobs", NULL), k, v) {
        add_tree(&s->logprobs, v);
    }
    add_str(&s->finish, at(piece, "done_reason", NULL));
}

static void responses_said(struct said *s, const json_t *piece) {
    const json_t *output = at(piece, "output", NULL), *item, *part, *v;
    const char *type = json_string_value(at(piece, "type", NULL));
    size_t i, k, j;
    if (type != NULL && strcmp(type, "response.output_text.delta") == 0) {
        add_str(&s->answer, at(piece, "delta", NULL));
        json_array_foreach(at(piece, "logprobs", NULL), j, v) {
            add_tree(&s->logprobs, v);
        }
    } else if (type != NULL && strcmp(type, "response.reasoning_text.delta") == 0) {
        add_str(&s->reasoning, at(piece, "delta", NULL));
    } else if (type != NULL && strcmp(type, "response.function_call_arguments.done") == 0) {
        add_str(&s->calls, at(piece, "item_id", NULL));
        add_str(&s->calls, at(piece, "name", NULL));
        add_str(&s->calls, at(piece, "arguments", NULL));
    }
    if (output == NULL)
        return;
    json_array_foreach(output, i, item) {
        const char *kind = json_string_value(at(item, "type", NULL));
        if (strcmp(kind, "function_call") == 0) {
            add_str(&s->calls, at(item, "id", NULL));
            add_str(&s->calls, at(item, "name", NULL));
            add_str(&s->calls, at(item, "arguments", NULL));
        }
        json_array_foreach(at(item, "content", NULL), k, part) {
            add_str(kind[0] == 'r' ? &s->reasoning : &s->answer, at(part, "text", NULL));
            json_array_foreach(at(part, "logprobs", NULL), j, v) {
                add_tree(&s->logprobs, v);
            }
        }
    }
}

static void llama_said(struct said *s, const json_t *piece) {
    const json_t *v;
    size_t k;
    add_str(&s->answer, at(piece, "content", NULL));
    json_array_foreach(at(piece, "completion_probabilities", NULL), k, v) {
        add_tree(&s->logprobs, v);
    }
    add_str(&s->finish, at(piece, "stop_type", NULL));
}

static void said_piece(const struct api_call *call, struct said *s, const char *text, size_t n) {
    json_error_t error;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error), *item;
    size_t i;
    if (v == NULL)
        fail_msg("not JSON: %s in %.*s", error.text, (int)n, text);
    if (json_is_array(v)) { /* several of llama-server's */
        json_array_foreach(v, i, item) {
            llama_said(s, item);
        }
    } else if (call->route->family == API_ANTHROPIC) {
        anthropic_said(s, v);
    } else if (call->route->family == API_OLLAMA) {
        ollama_said(s, v);
    } else if (call->route->family == API_LLAMA) {
        llama_said(s, v);
    } else if (strstr(call->route->path, "responses") != NULL) {
        responses_said(s, v);
    } else {
        openai_said(s, v);
    }
    json_decref(v);
}

static struct said what_is_said(const struct api_call *call, const struct buf *out) {
    struct said s;
    struct buf *all[] = { &s.answer, &s.reasoning, &s.calls, &s.logprobs, &s.finish };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_init(all[i], NULL, 1 << 24);
    if (!call->stream) {
        said_piece(call, &s, out->data, out->len);
        return s;
    }
    for (const char *line = out->data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        size_t skip = line[0] == '{' ? 0 : strncmp(line, "data: ", 6) == 0 ? 6 : SIZE_MAX;
        if (skip != SIZE_MAX && line[skip] == '{')
            said_piece(call, &s, line + skip, (size_t)(end - line) - skip);
    }
    return s;
}

static void check_same(struct one_case *c, struct api_call *call, const struct buf *out) {
    static const char *const names[] = { "answer", "reasoning", "calls", "logprobs", "finish" };
    bool mixed = call->n_prompts * call->choices > 1; /* choices come mixed in a stream */
    if (call->op != API_GENERATE || strstr(c->text[IN_EVENTS], "fail") != NULL || mixed)
        return;
    struct said one = what_is_said(call, out), two;
    call->stream = !call->stream;
    struct buf other = play(call, c->text[IN_EVENTS]);
    two = what_is_said(call, &other);
    call->stream = !call->stream;
    struct buf *a[] = { &one.answer, &one.reasoning, &one.calls, &one.logprobs, &one.finish },
               *b[] = { &two.answer, &two.reasoning, &two.calls, &two.logprobs, &two.finish };
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        if (a[i]->len != b[i]->len ||
            (a[i]->len > 0 && memcmp(a[i]->data, b[i]->data, a[i]->len) != 0))
            fail_msg("%s: %s differs between stream and whole: %.*s | %.*s", c->name, names[i],
                     (int)a[i]->len, a[i]->data, (int)b[i]->len, b[i]->data);
        buf_free(a[i]);
        buf_free(b[i]);
    }
    buf_free(&other);
}

/* ------------------------------------------------------------------ one case */

static void expect(struct one_case *c, enum section section, const struct buf *got) {
    size_t n = got->len;
    while (n > 0 && got->data[n - 1] == '\n')
        n--;
    char *text = calloc(1, n + 1);
    if (n > 0)
        memcpy(text, got->data, n);
    const char *want = c->text[section] != NULL ? c->text[section] : "";
    size_t n_want = strlen(want);
    while (n_want > 0 && want[n_want - 1] == '\n')
        n_want--;
    if (getenv("SLM_WRITE_CASES") == NULL && (n != n_want || memcmp(text, want, n) != 0))
        fail_msg("%s %s\nwanted: %s\ngot:    %s", c->name, marks[section], want, text);
    free(c->text[section]);
    c->text[section] = text;
}

static void run_case(struct one_case *c) {
    char method[16], path[128], *body = strchr(c->text[IN_CASE], '\n');
    const char *name;
    bool known;
    struct api_call call;
    struct api_error e;
    struct buf b;
    assert_int_equal(sscanf(c->text[IN_CASE], "%15s %127s", method, path), 2);
    const struct api_route *route = api_route_find(method, path, &name, &known);
    if (route == NULL)
        fail_msg("%s: no route %s %s", c->name, method, path);
    buf_init(&b, NULL, 1 << 24);
    body = body != NULL ? body + 1 : path + strlen(path);
    if (!api_read(route, name, body, strlen(body), &call, &e)) {
        buf_printf(&b, "%d %s %s\n%s\n", e.status, e.code, e.param[0] ? e.param : "-", e.message);
        api_error_body(route->family, &e, &b);
        expect(c, IN_ERROR, &b);
        assert_null(c->text[IN_CALL]);
    } else {
        show_call(&b, &call);
        expect(c, IN_CALL, &b);
        assert_null(c->text[IN_ERROR]);
    }
    if (c->text[IN_EVENTS] != NULL) {
        struct buf out = play(&call, c->text[IN_EVENTS]);
        check_same(c, &call, &out);
        expect(c, IN_REPLY, &out);
        buf_free(&out);
    }
    buf_free(&b);
    api_call_free(&call);
}

static void write_case(FILE *f, const struct one_case *c) {
    fprintf(f, "@case %s\n%s\n", c->name, c->text[IN_CASE]);
    for (int i = IN_CALL; i < N_SECTIONS; i++)
        if (c->text[i] != NULL)
            fprintf(f, "%s\n%s\n", marks[i], c->text[i]);
    fputc('\n', f);
}

static void run_file(const char *path) {
    char *text = slurp(path, NULL);
    const char *where = text;
    struct one_case c;
    size_t n = 0;
    assert_non_null(text);
    FILE *f = getenv("SLM_WRITE_CASES") != NULL ? fopen(path, "w") : NULL;
    while (next_case(&where, &c)) {
        run_case(&c);
        if (f != NULL)
            write_case(f, &c);
        for (int i = 0; i < N_SECTIONS; i++)
            free(c.text[i]);
        n++;
    }
    if (f != NULL)
        fclose(f);
    free(text);
    assert_true(n > 0);
}

static void test_cases(void **state) {
    char dir[1024], path[2048];
    (void)state;
    DIR *d = opendir(data_path(dir, sizeof dir, "data/server"));
    size_t files = 0;
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        size_t n = strlen(entry->d_name);
        if (n < 5 || strcmp(entry->d_name + n - 4, ".txt") != 0 ||
            strncmp(entry->d_name, "api_", 4) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        run_file(path);
        files++;
    }
    closedir(d);
    assert_true(files >= 6);
}

/* ------------------------------------------------------------------ the rest of api.h */

static const struct api_route *find(const char *method, const char *path) {
    const char *name;
    bool known;
    return api_route_find(method, path, &name, &known);
}

static void test_routes(void **state) {
    const char *name;
    bool known;
    (void)state;
    assert_non_null(find("POST", "/v1/chat/completions"));
    assert_ptr_equal(find("POST", "/v1/chat/completions/"), find("POST", "/v1/chat/completions"));
    assert_ptr_equal(find("HEAD", "/v1/models"), find("GET", "/v1/models"));
    assert_null(api_route_find("GET", "/v1/chat/completions", &name, &known));
    assert_true(known);
    assert_null(api_route_find("GET", "/v1/nothing", &name, &known));
    assert_false(known);
    assert_null(api_route_find("GET", "/v1/modelsX", &name, &known));
    assert_non_null(api_route_find("GET", "/v1/models/a/b", &name, &known));
    assert_string_equal(name, "a/b");
    assert_null(find("GET", ""));
    for (const struct api_route *r = api_routes; r->path != NULL; r++) {
        assert_true(r->what != NULL && (r->read != NULL || !r->has_body));
        assert_true((r->shape != NULL) == (r->op == API_GENERATE || r->op == API_EMBED));
        for (const struct api_route *other = api_routes; other < r; other++)
            assert_true(strcmp(r->path, other->path) != 0 || strcmp(r->method, other->method) != 0);
    }
}

static void read_ok(struct api_call *call, const char *path, const char *body) {
    struct api_error e;
    if (!api_read(find("POST", path), NULL, body, strlen(body), call, &e))
        fail_msg("%s", e.message);
}

static slm_info some_model(void) {
    slm_info info = { .size = sizeof info };
    info.sampling = info.sampling_no_think = slm_sampling_default();
    info.sampling.temperature = 0.6f;
    info.sampling_no_think.temperature = 0.7f;
    info.sampling.top_p = 0.95f;
    return info;
}

static void test_options(void **state) {
    struct api_call call;
    slm_info info = some_model();
    slm_generate_options o;
    (void)state;
    read_ok(
        &call, "/v1/chat/completions",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"n\":3,\"seed\":7,\"top_p\":0.5,"
        "\"max_tokens\":50,\"thinking_budget\":9,\"stop\":\"x\"}");
    api_options(&call, 2, &info, false, 10, 100, &o);
    assert_int_equal(o.sampling.seed, 9); /* each choice has its own */
    assert_true(o.sampling.temperature == 0.6f && o.sampling.top_p == 0.5f);
    assert_false(o.default_sampling);
    assert_int_equal(o.max_tokens, 50);
    assert_int_equal(o.think_budget, 9);
    assert_int_equal(o.n_stop, 1);
    assert_true(o.split_thinking);
    api_options(&call, 0, &info, true, 10, 100, &o);
    assert_true(o.sampling.temperature == 0.7f);
    api_options(&call, 0, &info, true, 60, 100, &o);
    assert_int_equal(o.max_tokens, 0); /* the context ends first */
    call.num_ctx = 80;
    api_options(&call, 0, &info, true, 60, 100, &o);
    assert_int_equal(o.max_tokens, 20);
    api_call_free(&call);
    read_ok(&call, "/v1/completions",
            "{\"prompt\":\"a\",\"max_tokens\":0,\"echo\":true,\"logprobs\":2}");
    api_options(&call, 0, &info, false, 1, 100, &o);
    assert_int_equal(o.max_tokens, 1); /* one is written and not shown */
    assert_int_equal(o.top, 2);
    assert_false(o.split_thinking);
    uint32_t top = 0;
    assert_true(api_wants_prompt(&call, &top));
    assert_int_equal(top, 2);
    api_call_free(&call);
}

static void test_fit(void **state) {
    struct api_call call;
    struct api_error e;
    (void)state;
    read_ok(&call, "/api/chat",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
            "\"options\":{\"num_ctx\":64}}");
    assert_true(api_fit(&call, 63, 1024, &e));
    assert_false(api_fit(&call, 64, 1024, &e));
    assert_false(api_fit(&call, 2007, 1024, &e));
    assert_int_equal(e.status, 400);
    assert_string_equal(e.code, "context_length_exceeded");
    assert_int_equal(e.n_prompt, 2007);
    assert_int_equal(e.n_context, 64);
    assert_non_null(strstr(e.message, "2007"));
    assert_non_null(strstr(e.message, "64"));
    call.num_ctx = 0;
    assert_true(api_fit(&call, 1023, 1024, &e));
    assert_false(api_fit(&call, 1024, 1024, &e));
    api_call_free(&call);
}

/* The oldest turns go, a call of a tool with its result, the system message and the last turn stay. */
static void test_drop(void **state) {
    struct api_call call;
    (void)state;
    read_ok(
        &call, "/v1/responses",
        "{\"truncation\":\"auto\",\"instructions\":\"S\",\"input\":[{\"role\":\"user\",\"content\":"
        "\"one\"},"
        "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},"
        "{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"r\"},"
        "{\"role\":\"assistant\",\"content\":\"two\"},{\"role\":\"user\",\"content\":\"three\"}]}");
    assert_non_null(strstr(call.prompts[0].text, "\"one\""));
    assert_true(api_drop_turn(&call));
    assert_string_equal(call.prompts[0].text,
                        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
                        "{\"role\":\"user\",\"content\":\"three\"}]}");
    assert_int_equal(call.prompts[0].n, strlen(call.prompts[0].text));
    assert_false(api_drop_turn(&call));
    assert_int_equal(call.n_dropped, 1);
    assert_string_equal(call.warnings.data, "the oldest 1 turns were dropped: the context is full");
    api_call_free(&call);
    read_ok(&call, "/api/chat",
            "{\"truncate\":true,\"x\":1,\"messages\":[{\"role\":\"user\",\"content\":\"one\"},"
            "{\"role\":\"user\",\"content\":\"two\"},{\"role\":\"user\",\"content\":\"three\"}]}");
    while (api_drop_turn(&call))
        ;
    assert_int_equal(call.n_dropped, 2);
    assert_string_equal(call.warnings.data,
                        "unknown fields: x; the oldest 2 turns were dropped: the context is full");
    api_call_free(&call);
    read_ok(&call, "/v1/responses",
            "{\"input\":[{\"role\":\"user\",\"content\":\"one\"},"
            "{\"role\":\"user\",\"content\":\"two\"}]}");
    assert_false(api_drop_turn(&call)); /* nobody asked for that */
    api_call_free(&call);
}

/* Far too long: about what is too much goes at once, images with their turns. Near the end one by one. */
static void test_drop_many(void **state) {
    struct api_call call;
    struct api_error e;
    struct buf b;
    size_t rounds = 0;
    (void)state;
    buf_init(&b, NULL, 1 << 20);
    buf_puts(&b, "{\"truncate\":true,\"messages\":[");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "{\"role\":\"user\",\"content\":\"turn %d\"%s},", i,
                   i < 2 ? ",\"images\":[\"QUJD\"]" : "");
    buf_puts(&b, "{\"role\":\"user\",\"content\":\"last\"}]}");
    read_ok(&call, "/api/chat", b.data);
    assert_int_equal(call.n_images, 2);
    while (!api_fit(&call, 10 * (1001 - call.n_dropped), 1024, &e)) {
        assert_true(api_drop_turn(&call));
        rounds++;
    }
    assert_in_range(call.n_dropped, 899, 903); /* 102 turns of ten tokens fit; not many more went */
    assert_in_range(rounds, 2, 12);
    assert_int_equal(call.first_image, 2);
    assert_non_null(strstr(call.prompts[0].text, "\"last\""));
    api_call_free(&call);
    buf_free(&b);
}

/* Many blocks of one message become one text in linear time: quadratic would take minutes here. */
static void test_many_blocks(void **state) {
    enum { BLOCKS = 300000 };
    static const char *const heads[] = {
        "{\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[",
        "{\"max_tokens\":9,\"messages\":[{\"role\":\"assistant\",\"content\":["
    };
    (void)state;
    for (size_t h = 0; h < ARRAY_LEN(heads); h++) {
        struct api_call call;
        struct buf b;
        buf_init(&b, NULL, 1 << 26);
        buf_puts(&b, heads[h]);
        for (int i = 0; i < BLOCKS; i++)
            buf_puts(&b, h == 1 && i % 2 == 1 ? "{\"type\":\"thinking\",\"thinking\":\"y\"},"
                                              : "{\"type\":\"text\",\"text\":\"x\"},");
        b.len--;
        buf_puts(&b, "]}]}");
        read_ok(&call, "/v1/messages", b.data);
        assert_true(call.prompts[0].n > (size_t)BLOCKS * 5);
        api_call_free(&call);
        buf_free(&b);
    }
}

/* Errors of the library and their bodies in every dialect. */
static void test_errors(void **state) {
    static const char *const want[] = {
        "{\"error\":{\"message\":\"a "
        "\\\"b\\\"\",\"type\":\"invalid_request_error\",\"param\":\"top_p\","
        "\"code\":\"invalid_value\"}}",
        "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"a "
        "\\\"b\\\"\"},"
        "\"request_id\":null}",
        "{\"error\":\"a \\\"b\\\"\"}",
        "{\"error\":{\"message\":\"a "
        "\\\"b\\\"\",\"type\":\"invalid_request_error\",\"param\":\"top_p\","
        "\"code\":400}}",
    };
    struct api_error e;
    slm_why why = { .message = "deep" };
    (void)state;
    for (int family = API_OPENAI; family <= API_LLAMA; family++) {
        struct buf b;
        buf_init(&b, NULL, 4096);
        api_fail(&e, 400, "invalid_value", "top_p", "a \"b\"");
        api_error_body((enum api_family)family, &e, &b);
        assert_string_equal(b.data, want[family]);
        buf_free(&b);
    }
    assert_false(api_fail_slm(&e, SLM_E_CONTEXT, &why));
    assert_int_equal(e.status, 400);
    assert_string_equal(e.code, "context_length_exceeded");
    assert_string_equal(e.message, "deep");
    api_fail_slm(&e, SLM_E_BUSY, NULL);
    assert_int_equal(e.status, 429);
    api_fail_slm(&e, SLM_E_NUMERIC, NULL);
    assert_int_equal(e.status, 500);
}

/* Whatever the cuts of the text, a stream adds up to it: random pieces, also inside of characters. */
static void test_pieces(void **state) {
    static const char text[] = "Caf\xc3\xa9 \"q\" \\ \n\t \xf0\x9f\xa6\x8a end";
    static const char *const paths[] = { "/v1/chat/completions", "/v1/responses",
                                         "/v1/messages",         "/api/chat",
                                         "/v1/completions",      "/completion" };
    uint32_t seed = 12345;
    (void)state;
    for (size_t round = 0; round < 200; round++) {
        const char *path = paths[round % ARRAY_LEN(paths)];
        struct api_call call;
        struct api_reply *r;
        struct api_facts facts = { .unique = "abcdefgh", .model = "m", .token = token_of };
        slm_result result = { .size = sizeof result };
        size_t prompt = 1;
        read_ok(&call, path,
                strstr(path, "completions") != NULL && strstr(path, "chat") == NULL
                    ? "{\"prompt\":\"a\",\"stream\":true}"
                : strstr(path, "completion") != NULL && strstr(path, "chat") == NULL
                    ? "{\"prompt\":\"a\",\"stream\":true}"
                : strstr(path, "responses") != NULL
                    ? "{\"input\":\"a\",\"stream\":true}"
                    : "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":9,"
                      "\"stream\":true}");
        r = api_reply_new(&call, &facts);
        api_reply_begin(r, &prompt);
        for (size_t i = 0; i < strlen(text);) {
            seed = seed * 1664525u + 1013904223u;
            size_t n = 1 + (seed >> 16) % 5;
            while (i + n < strlen(text) && ((unsigned char)text[i + n] & 0xc0) == 0x80)
                n++; /* pieces are whole characters (slm.h) */
            n = i + n > strlen(text) ? strlen(text) - i : n;
            api_reply_text(r, 0, SLM_PART_ANSWER, text + i, n);
            i += n;
        }
        api_reply_done(r, 0, &result, NULL);
        api_reply_end(r);
        struct buf *out = api_reply_out(r);
        buf_putc(out, '\n');
        struct said s = what_is_said(&call, out);
        assert_int_equal(s.answer.len, strlen(text));
        assert_memory_equal(s.answer.data, text, s.answer.len);
        struct buf *all[] = { &s.answer, &s.reasoning, &s.calls, &s.logprobs, &s.finish };
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            buf_free(all[i]);
        api_reply_free(r);
        api_call_free(&call);
    }
}

/* ------------------------------------------------------------------ memory that is refused */

static size_t json_requests, json_fail_at; /* only the k-th request fails; 0: none */

static void *json_alloc(size_t n) {
    return ++json_requests == json_fail_at ? NULL : malloc(n);
}

/* The k-th allocation of JSON fails, for every k: an error that says so, or the very same call. */
static void refuse_json(const struct one_case *c) {
    char method[16], path[128], *body = strchr(c->text[IN_CASE], '\n');
    const char *name;
    bool known;
    struct buf want;
    buf_init(&want, NULL, 1 << 24);
    assert_int_equal(sscanf(c->text[IN_CASE], "%15s %127s", method, path), 2);
    const struct api_route *route = api_route_find(method, path, &name, &known);
    body = body != NULL ? body + 1 : path + strlen(path);
    for (size_t k = 0;; k++) {
        struct api_call call;
        struct api_error e;
        struct buf got;
        buf_init(&got, NULL, 1 << 24);
        json_requests = 0;
        json_fail_at = k;
        bool ok = api_read(route, name, body, strlen(body), &call, &e);
        bool failed = json_fail_at > 0 && json_requests >= json_fail_at;
        json_fail_at = 0;
        if (ok)
            show_call(&got, &call);
        else
            buf_printf(&got, "%d %s", e.status, e.message);
        api_call_free(&call);
        if (k == 0)
            buf_put(&want, got.data, got.len);
        else if (ok ? strcmp(got.data, want.data) != 0
                    : e.status != 503 && strcmp(got.data, want.data) != 0)
            fail_msg("%s, allocation %zu: %s", c->name, k, got.data);
        buf_free(&got);
        if (k > 0 && !failed)
            break;
    }
    buf_free(&want);
}

static void test_refused_memory(void **state) {
    static const char *const files[] = { "chat",   "completions", "responses",
                                         "ollama", "anthropic",   "llama" };
    char rel[64], path[1024];
    (void)state;
    json_set_alloc_funcs(json_alloc, free);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct one_case c;
        snprintf(rel, sizeof rel, "data/server/api_%s.txt", files[i]);
        char *text = slurp(data_path(path, sizeof path, rel), NULL);
        const char *where = text;
        assert_non_null(text);
        while (next_case(&where, &c)) {
            refuse_json(&c);
            for (int k = 0; k < N_SECTIONS; k++)
                free(c.text[k]);
        }
        free(text);
    }
    json_set_alloc_funcs(malloc, free);
}

/* ------------------------------------------------------------------ the page */

/* What stands between two marks of docs/SERVER.md; with SLM_WRITE_CASES it is written there. */
static void check_page(const char *mark, const char *want) {
    char begin[64], end[64];
    char *page = slurp("docs/SERVER.md", NULL);
    assert_non_null(page);
    snprintf(begin, sizeof begin, "<!-- %s -->\n", mark);
    snprintf(end, sizeof end, "<!-- end of %s -->", mark);
    char *from = strstr(page, begin), *to = strstr(page, end);
    assert_true(from != NULL && to != NULL && from < to);
    from += strlen(begin);
    if (getenv("SLM_WRITE_CASES") != NULL) {
        FILE *f = fopen("docs/SERVER.md", "w");
        assert_non_null(f);
        fprintf(f, "%.*s%s%s", (int)(from - page), page, want, to);
        fclose(f);
    } else if (strlen(want) != (size_t)(to - from) || memcmp(want, from, strlen(want)) != 0) {
        fail_msg("docs/SERVER.md has not the %s that there are; SLM_WRITE_CASES=1 writes them",
                 mark);
    }
    free(page);
}

static void test_page(void **state) {
    static const char *const families[] = { "OpenAI", "Anthropic", "Ollama", "llama-server" };
    struct buf b;
    (void)state;
    buf_init(&b, NULL, 1 << 16);
    buf_puts(&b, "| route | dialect | |\n|---|---|---|\n");
    for (const struct api_route *r = api_routes; r->path != NULL; r++)
        buf_printf(&b, "| `%s %s` | %s | %s |\n", r->method, r->path, families[r->family], r->what);
    check_page("routes", b.data);
    buf_free(&b);
    char *table = params_markdown();
    assert_non_null(table);
    check_page("parameters", table);
    free(table);
}

/* ------------------------------------------------------------------ base64 of images */

static void test_base64(void **state) {
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } cases[] = {
        { "", "" },        { "QQ==", "A" },        { "QQ", "A" },         { "QUI=", "AB" },
        { "QUJD", "ABC" }, { "QUJDRA==", "ABCD" }, { "-_8", "\xfb\xff" }, { "Q", NULL },
        { "Q=Q=", NULL },  { "QU JD", NULL },      { "====", NULL },      { "Q\xc3\xa9", NULL }
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct api_image image = { cases[i].text, strlen(cases[i].text) };
        struct api_error e = { .status = 0 };
        uint8_t *bytes;
        size_t n;
        bool ok = api_image_bytes(&image, &bytes, &n, &e);
        if (ok != (cases[i].bytes != NULL))
            fail_msg("'%s' is %s", cases[i].text, ok ? "taken" : "refused");
        if (ok && (n != strlen(cases[i].bytes) || memcmp(bytes, cases[i].bytes, n) != 0))
            fail_msg("'%s' gives %zu other bytes", cases[i].text, n);
        assert_true(ok || e.status == 400);
        free(bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_cases),       cmocka_unit_test(test_routes),
        cmocka_unit_test(test_options),     cmocka_unit_test(test_fit),
        cmocka_unit_test(test_drop),        cmocka_unit_test(test_drop_many),
        cmocka_unit_test(test_many_blocks), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_pieces),      cmocka_unit_test(test_refused_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
