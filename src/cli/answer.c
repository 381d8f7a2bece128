/* answer.c - what `run`, `chat` and `complete` share: options of an answer, the request, printing
 * while it comes, and the receipt of what produced it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/pool.h"
#include "base/utf8.h"
#include "cli/cli.h"

enum { TEXT_MOST = 256 << 20 };

/* ------------------------------------------------------------------ thinking */

enum think_choice think_option(const struct cli *c) {
    if (!opt_set(c, OPT_THINK))
        return THINK_ASIS;
    return opt_word(c, OPT_THINK, 0) == 0 ? THINK_ON : THINK_OFF;
}

int think_check(struct cli *c, const struct loaded *m, enum think_choice think) {
    if (m->info.think == SLM_THINK_ALWAYS && think == THINK_OFF)
        return report_usage(
            c, "--think-budget N    keeps it short\nslm models    which models can switch",
            "%s always thinks", model_title(m));
    if (m->info.think == SLM_THINK_NONE && think == THINK_ON)
        return report_usage(c, "slm models    which models can", "%s never thinks", model_title(m));
    if (m->info.think == SLM_THINK_NONE && opt_set(c, OPT_THINK_BUDGET))
        return report_usage(c, "slm models    which models can", "--think-budget: %s never thinks",
                            model_title(m));
    if (m->info.think == SLM_THINK_NONE && think == THINK_OFF)
        note(c, "%s never thinks; --think off changes nothing", model_title(m));
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ sampling */

static int seed_option(struct cli *c, uint64_t *seed) {
    const char *text = opt_text(c, OPT_SEED);
    int64_t v;
    *seed = 0;
    if (!text)
        return EXIT_DONE;
    if (strcmp(text, "random") == 0) {
        uint32_t drawn = 0; /* short enough to type again */
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            return report(c, EXIT_COULD_NOT, "E_IO", NULL, "no random seed: %s", strerror(errno));
        *seed = drawn;
        return EXIT_DONE;
    }
    if (!parse_int(text, &v) || v < 0)
        return report_usage(c, NULL, "--seed wants a number from 0, or 'random', not '%s'", text);
    *seed = (uint64_t)v;
    return EXIT_DONE;
}

static int bias_option(struct cli *c, const struct loaded *m, slm_sampling *s) {
    static struct slm_bias list[MAX_REPEAT]; /* borrowed by the options for the whole run */
    const struct option_value *v = &c->options.values[OPT_LOGIT_BIAS];
    for (size_t i = 0; i < v->n; i++) {
        char *end;
        const char *equal = strchr(v->all[i], '=');
        long id = strtol(v->all[i], &end, 10);
        if (!equal || end != equal || end == v->all[i] || id < 0 || (uint64_t)id >= m->info.vocab)
            return report_usage(c, "slm tokenize MODEL TEXT    shows ids",
                                "--logit-bias wants ID=B with ID below %u, not '%s'", m->info.vocab,
                                v->all[i]);
        float bias = strtof(equal + 1, &end);
        if (end == equal + 1 || *end || isnan(bias) || (isinf(bias) && bias > 0))
            return report_usage(c, NULL, "--logit-bias wants a number or -inf after '=', not '%s'",
                                v->all[i]);
        list[i] = (struct slm_bias){ (int32_t)id, bias };
    }
    s->bias = v->n ? list : NULL;
    s->n_bias = v->n;
    return EXIT_DONE;
}

static int sampling_option(struct cli *c, const struct loaded *m, enum think_choice think,
                           slm_sampling *s) {
    *s = think == THINK_OFF ? m->info.sampling_no_think : m->info.sampling;
    if (opt_set(c, OPT_GREEDY)) {
        if (opt_float(c, OPT_TEMP, 0) > 0)
            return report_usage(c, NULL, "--greedy and --temp %s exclude each other",
                                opt_text(c, OPT_TEMP));
        *s = slm_sampling_default();
    }
    s->temperature = (float)opt_float(c, OPT_TEMP, (double)s->temperature);
    s->top_k = (uint32_t)opt_int(c, OPT_TOP_K, s->top_k);
    s->top_p = (float)opt_float(c, OPT_TOP_P, (double)s->top_p);
    s->min_p = (float)opt_float(c, OPT_MIN_P, (double)s->min_p);
    s->typical_p = (float)opt_float(c, OPT_TYPICAL_P, (double)s->typical_p);
    s->repetition_penalty = (float)opt_float(c, OPT_REPEAT_PENALTY, (double)s->repetition_penalty);
    s->presence_penalty = (float)opt_float(c, OPT_PRESENCE_PENALTY, (double)s->presence_penalty);
    s->frequency_penalty = (float)opt_float(c, OPT_FREQUENCY_PENALTY, (double)s->frequency_penalty);
    int code = seed_option(c, &s->seed);
    return code != EXIT_DONE ? code : bias_option(c, m, s);
}

int answer_options(struct cli *c, const struct loaded *m, enum think_choice think,
                   slm_generate_options *out) {
    const struct option_value *stops = &c->options.values[OPT_STOP];
    *out = slm_generate_default();
    int code = sampling_option(c, m, think, &out->sampling);
    if (code != EXIT_DONE)
        return code;
    for (size_t i = 0; i < stops->n; i++)
        if (!stops->all[i][0])
            return report_usage(c, NULL, "--stop wants a text that is not empty");
    if (opt_set(c, OPT_DATE) && opt_set(c, OPT_FIXED_DATE))
        return report_usage(c, NULL, "--date and --deterministic-date exclude each other");
    out->default_sampling = false;
    out->no_think = think == THINK_OFF;
    out->max_tokens = (uint32_t)opt_int(c, OPT_MAX_TOKENS, 0);
    out->think_budget = (uint32_t)opt_int(c, OPT_THINK_BUDGET, 0);
    out->stop = stops->all;
    out->n_stop = stops->n;
    out->render.date =
        opt_int(c, OPT_DATE, opt_set(c, OPT_FIXED_DATE) ? DATE_FIXED : out->render.date);
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ messages */

bool add_message(struct cli *c, json_t *messages, const char *role, const char *text, size_t n) {
    const char *zero = n ? memchr(text, 0, n) : NULL;
    json_t *content = zero ? NULL : json_stringn(text, n);
    if (zero) {
        report(c, EXIT_COULD_NOT, "E_ENCODING", NULL,
               "the %s message is no text: byte %zu of %zu is zero", role, (size_t)(zero - text),
               n);
        return false;
    }
    if (!content) {
        report(c, EXIT_COULD_NOT, "E_ENCODING", NULL,
               "the %s message is not UTF-8: byte %zu of %zu is invalid", role, utf8_valid(text, n),
               n);
        return false;
    }
    json_array_append_new(messages,
                          keep_json(json_pack("{s:s, s:o}", "role", role, "content", content)));
    return true;
}

/* ------------------------------------------------------------------ printing */

void speaker_init(struct speaker *s, struct cli *c, bool stream) {
    memset(s, 0, sizeof *s);
    s->c = c;
    s->stream = stream;
    s->show_reasoning = c->term.out_tty || opt_set(c, OPT_SHOW_THINKING);
    s->framed = !c->term.out_colour;
    s->part = -1;
    s->calls = keep_json(json_array());
    buf_init(&s->answer, NULL, TEXT_MOST);
    buf_init(&s->reasoning, NULL, TEXT_MOST);
    progress_start(&s->progress, &c->term, c->quiet, "prompt", "tokens");
}

static void end_part(struct speaker *s) {
    struct output *o = &s->c->out;
    s->held = 0;
    if (s->part == SLM_PART_REASONING) {
        out_text(o, s->framed ? "" : "\033[0m");
        out_text(o, s->line_open ? "\n\n" : "\n");
        s->line_open = false;
        signals_last_words(NULL);
    }
    s->part = -1;
}

static void begin_part(struct speaker *s, enum slm_part part) {
    struct output *o = &s->c->out;
    bool reasoned = s->part == SLM_PART_REASONING;
    end_part(s);
    s->part = (int)part;
    s->any = false;
    if (part == SLM_PART_REASONING) {
        out_text(o, s->framed ? "[thinking]\n" : "\033[2m");
        signals_last_words(s->framed ? NULL : "\033[0m\n");
    } else if (reasoned && s->framed) {
        out_text(o, "[answer]\n");
    }
}

/* Empty lines around a part belong to the markers, not to what was said: those before it are
 * dropped, those after the reasoning never printed. */
static void print_piece(struct speaker *s, enum slm_part part, const char *text, size_t n) {
    struct output *o = &s->c->out;
    if (!s->any || s->part != (int)part) {
        bool after = s->reasoning.len > 0;
        while (n && *text == '\n' && (part == SLM_PART_REASONING || after)) {
            text++;
            n--;
        }
        if (!n)
            return;
        if (s->part != (int)part)
            begin_part(s, part);
        s->any = true;
    }
    size_t tail = 0;
    while (part == SLM_PART_REASONING && tail < n && text[n - 1 - tail] == '\n')
        tail++;
    if (n > tail)
        for (; s->held; s->held--)
            out_text(o, "\n");
    out_write(o, text, n - tail);
    s->held += tail;
    if (n > tail)
        s->line_open = text[n - tail - 1] != '\n';
}

bool speaker_text(void *user, enum slm_part part, const char *text, size_t n) {
    struct speaker *s = user;
    progress_end(&s->progress);
    buf_put(part == SLM_PART_ANSWER ? &s->answer : &s->reasoning, text, n);
    if (!s->stream || (part == SLM_PART_REASONING && !s->show_reasoning))
        return true;
    print_piece(s, part, text, n);
    return out_flush(&s->c->out);
}

bool speaker_call(void *user, const slm_tool_call *call) {
    struct speaker *s = user;
    struct output *o = &s->c->out;
    char id[32];
    progress_end(&s->progress);
    snprintf(id, sizeof id, "call_%zu", call->index);
    json_array_append_new(
        s->calls, keep_json(json_pack("{s:s, s:s, s:{s:s%, s:s%}}", "id", id, "type", "function",
                                      "function", "name", call->name, call->n_name, "arguments",
                                      call->arguments, call->n_arguments)));
    if (!s->stream)
        return true;
    end_part(s);
    out_text(o, s->line_open ? "\n" : "");
    s->line_open = false;
    out_text(o, "[call] ");
    out_write(o, call->name, call->n_name);
    out_text(o, " ");
    out_write(o, call->arguments, call->n_arguments);
    out_text(o, "\n");
    return out_flush(o);
}

bool speaker_prefill(void *user, size_t done, size_t total) {
    struct speaker *s = user;
    progress_step(&s->progress, done, total);
    return !interrupted();
}

void speaker_end(struct speaker *s) {
    progress_end(&s->progress);
    end_part(s);
    if (s->line_open)
        out_text(&s->c->out, "\n");
    s->line_open = false;
    out_flush(&s->c->out);
}

void speaker_free(struct speaker *s) {
    buf_free(&s->answer);
    buf_free(&s->reasoning);
    json_decref(s->calls);
    s->calls = NULL;
}

/* ------------------------------------------------------------------ errors and receipt */

static int report_too_long(struct cli *c, const struct loaded *m, size_t tokens) {
    char n[32], have[32], most[32], more[32], ways[512];
    size_t used = 0;
    uint32_t context = slm_session_context(m->session), room = 512; /* for the answer */
    uint64_t wanted = ((uint64_t)tokens + room + 1023) / 1024 * 1024;
    if (wanted > m->info.context)
        wanted = m->info.context;
    if (tokens < m->info.context) {
        slm_session_options o = session_options(c);
        slm_plan plan = { .size = sizeof plan };
        o.context = (uint32_t)wanted;
        if (slm_engine_plan(m->engine, &o, &plan, NULL) == SLM_OK)
            used = (size_t)snprintf(ways, sizeof ways, "--context %u    (+%s)\n", o.context,
                                    format_bytes(plan.total - m->plan.total, more, sizeof more));
    }
    snprintf(ways + used, sizeof ways - used,
             "shorten the prompt\nslm models    another model (this one ends at %s)",
             format_count(m->info.context, most, sizeof most));
    return report(c, EXIT_COULD_NOT, "E_CONTEXT", ways,
                  "the prompt has %s tokens, the context holds %s; nothing was dropped",
                  format_count(tokens, n, sizeof n), format_count(context, have, sizeof have));
}

int report_answer(struct cli *c, const struct loaded *m, slm_err err, const slm_why *why,
                  size_t prompt_tokens) {
    if (err == SLM_E_CONTEXT && prompt_tokens)
        return report_too_long(c, m, prompt_tokens);
    return report_error(c, AT_WORK, err, why, NULL);
}

const char *finish_name(enum slm_finish finish) {
    switch (finish) {
    case SLM_FINISH_STOP:
        return "stop";
    case SLM_FINISH_STRING:
        return "stop_string";
    case SLM_FINISH_LENGTH:
        return "length";
    case SLM_FINISH_CONTEXT:
        return "context";
    case SLM_FINISH_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}

void note_finish(const struct cli *c, const struct loaded *m, const slm_result *r) {
    char n[32];
    if (r->finish == SLM_FINISH_CONTEXT)
        note(c, "the context of %s is full, the answer ends here%s",
             format_count(slm_session_context(m->session), n, sizeof n),
             slm_session_context(m->session) < m->info.context ? " (--context N)" : "");
    else if (r->finish == SLM_FINISH_LENGTH && c->term.err_tty)
        note(c, "the answer ends at %u tokens (--max-tokens)", (unsigned)r->output_tokens);
    if (r->malformed_calls)
        note(c, "%s of the answer only looked like a call of a tool, and stands in its text",
             format_count(r->malformed_calls, n, sizeof n));
    if (r->reevaluated_tokens)
        note(c, "%s tokens were evaluated again because the long rope factors took over",
             format_count(r->reevaluated_tokens, n, sizeof n));
}

/* The shortest decimal that means this float: 0.6, not 0.600000024. */
static json_t *float_json(float f) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)f);
    return json_real(strtod(text, NULL));
}

static json_t *sampling_json(const slm_sampling *s) {
    json_t *o = keep_json(json_object());
    json_object_set_new(o, "temperature", float_json(s->temperature));
    json_object_set_new(o, "top_k", json_integer((json_int_t)s->top_k));
    json_object_set_new(o, "top_p", float_json(s->top_p));
    json_object_set_new(o, "min_p", float_json(s->min_p));
    json_object_set_new(o, "typical_p", float_json(s->typical_p));
    json_object_set_new(o, "repetition_penalty", float_json(s->repetition_penalty));
    json_object_set_new(o, "presence_penalty", float_json(s->presence_penalty));
    json_object_set_new(o, "frequency_penalty", float_json(s->frequency_penalty));
    return o;
}

static double per_second(size_t tokens, uint64_t ns) {
    return ns ? (double)tokens * 1e9 / (double)ns : 0.0;
}

void add_receipt(json_t *into, const struct cli *c, const struct loaded *m, const slm_result *r) {
    size_t evaluated = r->prompt_tokens - r->reused_tokens;
    json_object_set_new(into, "finish", json_string(finish_name(r->finish)));
    json_object_set_new(
        into, "usage",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "prompt_tokens",
                  (json_int_t)r->prompt_tokens, "cached_tokens", (json_int_t)r->reused_tokens,
                  "output_tokens", (json_int_t)r->output_tokens, "reasoning_tokens",
                  (json_int_t)r->reasoning_tokens, "reevaluated_tokens",
                  (json_int_t)r->reevaluated_tokens, "disk_tokens", (json_int_t)r->disk_tokens,
                  "guessed_tokens", (json_int_t)r->guessed_tokens, "accepted_tokens",
                  (json_int_t)r->accepted_tokens, "forced_tokens", (json_int_t)r->forced_tokens));
    json_object_set_new(into, "timings",
                        json_pack("{s:f, s:f, s:f, s:f, s:f}", "load_ms", (double)m->load_ns / 1e6,
                                  "prefill_ms", (double)r->prefill_ns / 1e6, "decode_ms",
                                  (double)r->decode_ns / 1e6, "prefill_tok_s",
                                  per_second(evaluated, r->prefill_ns), "decode_tok_s",
                                  per_second(r->output_tokens, r->decode_ns)));
    json_t *receipt = keep_json(json_pack(
        "{s:s, s:s?, s:s?, s:s?, s:s, s:s?, s:s?, s:I, s:I, s:I, s:i, s:I, s:I, s:b}", "model",
        model_title(m), "id", m->info.id, "path", m->found.path, "place", m->found.place, "trust",
        m->info.trust ? m->info.trust : "unknown", "types", m->info.types, "isa", m->info.isa,
        "threads", (json_int_t)opt_int(c, OPT_THREADS, (int64_t)cpu_count()), "context",
        (json_int_t)slm_session_context(m->session), "window_used",
        (json_int_t)slm_session_length(m->session), "dropped", 0, "cached",
        (json_int_t)r->reused_tokens, "seed", (json_int_t)r->sampling.seed, "think_closed",
        r->think_closed));
    json_object_set_new(receipt, "speculate",
                        json_string(opt_word(c, OPT_SPECULATE, 1) == 0 ? "off" : "lookup"));
    json_object_set_new(receipt, "draft", m->draft_name ? json_string(m->draft_name) : json_null());
    json_object_set_new(receipt, "cache_miss",
                        r->cache_miss ? json_string(r->cache_miss) : json_null());
    json_object_set_new(receipt, "exact", json_boolean(opt_set(c, OPT_EXACT)));
    json_object_set_new(receipt, "sampling", sampling_json(&r->sampling));
    json_object_set_new(into, "receipt", receipt);
}
