/* cmd_run.c - `slm run MODEL [PROMPT]`: one answer, streamed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "cli/cli.h"

enum { PROMPT_MOST = 64 << 20 };

static int read_input(struct cli *c, struct buf *b) {
    size_t n;
    char *text = read_all(STDIN_FILENO, PROMPT_MOST, &n);
    if (!text && interrupted())
        return EXIT_INTERRUPTED;
    if (!text)
        return report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read standard input: %s",
                      strerror(errno));
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    buf_put(b, text, n);
    free(text);
    return EXIT_DONE;
}

/* The words of the command line, "-" replaced by standard input; a pipe that no "-" took is put
 * after them, apart by an empty line. */
int gather_prompt(struct cli *c, struct buf *b) {
    bool taken = false;
    int code = EXIT_DONE;
    for (size_t i = 1; i < c->options.n_args && code == EXIT_DONE; i++) {
        buf_puts(b, i > 1 ? " " : "");
        if (strcmp(c->options.args[i], "-") == 0 && !taken) {
            code = read_input(c, b);
            taken = true;
        } else {
            buf_puts(b, c->options.args[i]);
        }
    }
    if (code == EXIT_DONE && !taken && input_is_piped(c, b->len == 0)) {
        size_t before = b->len;
        buf_puts(b, before ? "\n\n" : "");
        size_t separated = b->len;
        code = read_input(c, b);
        if (b->len == separated)
            b->len = before;
    }
    if (code == EXIT_DONE && b->err)
        code = report(c, EXIT_COULD_NOT, "E_BUDGET", "shorten the prompt",
                      "the prompt has more than %d bytes", PROMPT_MOST);
    if (code == EXIT_DONE && b->len == 0)
        code = report_usage(c, "slm run MODEL 'your question'\nslm chat MODEL    a conversation",
                            "there is no prompt");
    return code;
}

static json_t *text_or_null(const struct buf *b) {
    return b->len ? json_stringn(b->data, b->len) : json_null();
}

static void print_json(struct cli *c, const struct loaded *m, const struct speaker *s,
                       const slm_result *r, const struct shown *shown) {
    json_t *doc = keep_json(json_object());
    json_t *answer = s->answer.len ? text_or_null(&s->answer) : json_string("");
    json_object_set_new(doc, "answer", keep_json(answer));
    json_object_set_new(doc, "reasoning", keep_json(text_or_null(&s->reasoning)));
    if (json_array_size(s->calls) > 0)
        json_object_set(doc, "tool_calls", s->calls);
    add_receipt(doc, c, m, r);
    if (shown->n > 0)
        json_object_set_new(json_object_get(doc, "receipt"), "images", shown_receipt(shown));
    out_json(&c->out, doc, false);
}

/* The pictures of --image stand before the text of the prompt. */
static void add_pictures(json_t *message, size_t n) {
    json_object_set_new(message, "content", picture_parts(n, json_object_get(message, "content")));
}

static int answer(struct cli *c, struct loaded *m, json_t *messages, const struct asking *a,
                  const struct shown *shown) {
    enum think_choice think = think_option(c);
    slm_generate_options o;
    slm_prompt *prompt;
    slm_result r = { .size = sizeof r };
    slm_why why;
    struct speaker s;
    int code = answer_options(c, m, think, &o);
    o.render.images = (const slm_image *const *)shown->list;
    o.render.n_images = shown->n;
    if (shown->n > 0)
        add_pictures(json_array_get(messages, json_array_size(messages) - 1), shown->n);
    if (code == EXIT_DONE)
        code = prompt_of(c, m, messages, think, a, &o, &prompt);
    if (code != EXIT_DONE)
        return code;
    speaker_init(&s, c, !c->json);
    o.prompt = prompt;
    o.on_text = speaker_text;
    o.on_call = speaker_call;
    o.on_prefill = speaker_prefill;
    o.user = &s;
    signals_watch(m->session);
    slm_err err = slm_chat(m->session, NULL, 0, &o, &r, &why);
    signals_watch(NULL);
    slm_prompt_free(prompt);
    speaker_end(&s);
    if (err != SLM_OK) {
        code = report_answer(c, m, err, &why, r.prompt_tokens);
    } else {
        if (c->json)
            print_json(c, m, &s, &r, shown);
        note_finish(c, m, &r);
        code = interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
    }
    speaker_free(&s);
    return code;
}

static int run(struct cli *c, const struct buf *prompt, struct loaded *m) {
    json_t *messages = keep_json(json_array());
    struct asking a = { 0 };
    struct shown shown = { 0 };
    const char *system = opt_text(c, OPT_SYSTEM);
    int code = EXIT_DONE;
    if ((system && !add_message(c, messages, "system", system, strlen(system))) ||
        !add_message(c, messages, "user", prompt->data, prompt->len))
        code = EXIT_COULD_NOT;
    if (code == EXIT_DONE)
        code = model_open(c, c->options.args[0], SLM_ALL, SLM_ALL, m);
    if (code == EXIT_DONE)
        code = think_check(c, m, think_option(c));
    if (code == EXIT_DONE)
        code = asking_options(c, m, &a);
    if (code == EXIT_DONE)
        code = model_session(c, m);
    if (code == EXIT_DONE) {
        note_model(c, m);
        code = show_given(c, m, &shown);
    }
    if (code == EXIT_DONE)
        code = answer(c, m, messages, &a, &shown);
    asking_free(&a);
    json_decref(messages);
    model_session_close(m);
    shown_free(&shown);
    model_close(m);
    return code;
}

int cmd_run(struct cli *c) {
    struct buf prompt;
    struct loaded m = { 0 };
    buf_init(&prompt, NULL, PROMPT_MOST);
    int code = gather_prompt(c, &prompt);
    if (code == EXIT_DONE)
        code = run(c, &prompt, &m);
    buf_free(&prompt);
    return code;
}

/* ------------------------------------------------------------------ complete */

/* Evaluates the text and goes on with it. */
static int complete(struct cli *c, struct loaded *m, const struct buf *text,
                    const slm_constraint *constraint) {
    slm_generate_options o;
    slm_result r = { .size = sizeof r };
    slm_why why;
    struct speaker s;
    int32_t *ids = NULL;
    size_t n_ids = 0, reused = 0;
    int code = answer_options(c, m, THINK_ASIS, &o);
    if (code != EXIT_DONE)
        return code;
    speaker_init(&s, c, !c->json);
    o.split_thinking = false;
    o.constraint = constraint;
    o.on_text = speaker_text;
    o.user = &s;
    slm_err err = slm_encode(m->engine, text->data, text->len, SLM_ENCODE_BOS, &ids, &n_ids, &why);
    signals_watch(m->session);
    uint64_t start = clock_ns();
    if (err == SLM_OK)
        err = slm_session_sync(m->session, ids, n_ids, &reused, &why);
    uint64_t prefill_ns = clock_ns() - start;
    if (err == SLM_OK && opt_set(c, OPT_ECHO))
        speaker_text(&s, SLM_PART_ANSWER, text->data, text->len);
    if (err == SLM_OK)
        err = slm_generate(m->session, &o, &r, &why);
    signals_watch(NULL);
    slm_free(m->engine, ids);
    r.prefill_ns = prefill_ns;
    r.reused_tokens = reused;
    speaker_end(&s);
    if (err != SLM_OK) {
        code = report_answer(c, m, err, &why, n_ids);
    } else {
        if (c->json) {
            json_t *doc =
                keep_json(json_pack("{s:o}", "text", json_stringn(s.answer.data, s.answer.len)));
            add_receipt(doc, c, m, &r);
            out_json(&c->out, doc, false);
        }
        note_finish(c, m, &r);
        code = interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
    }
    speaker_free(&s);
    return code;
}

int cmd_complete(struct cli *c) {
    struct buf text;
    struct asking a = { 0 };
    slm_constraint *constraint = NULL;
    struct loaded m = { 0 };
    int code = EXIT_DONE;
    buf_init(&text, NULL, PROMPT_MOST);
    if (c->options.n_args == 2 && strcmp(c->options.args[1], "-") == 0)
        code = read_input(c, &text);
    else
        for (size_t i = 1; i < c->options.n_args; i++) {
            buf_puts(&text, i > 1 ? " " : "");
            buf_puts(&text, c->options.args[i]);
        }
    if (code == EXIT_DONE && text.len == 0)
        code = report_usage(c, NULL, "there is no text to go on with");
    if (code == EXIT_DONE)
        code = model_open(c, c->options.args[0], SLM_TOKENIZER | SLM_WEIGHTS,
                          SLM_TOKENIZER | SLM_WEIGHTS, &m);
    if (code == EXIT_DONE)
        code = model_session(c, &m);
    if (code == EXIT_DONE)
        code = asking_options(c, &m, &a);
    if (code == EXIT_DONE)
        code = constraint_of(c, &m, &a, &constraint);
    if (code == EXIT_DONE) {
        note_model(c, &m);
        code = complete(c, &m, &text, constraint);
    }
    slm_constraint_close(constraint);
    asking_free(&a);
    model_close(&m);
    buf_free(&text);
    return code;
}
