/* constraint.c - languages of answers: from slm.h's constraints, from a request's format, from its
 * tools; and the engine's tokens as a vocabulary for them. */
#include "session/constraint.h"

#include <string.h>

#include "base/json.h"

/* ------------------------------------------------------------------ vocabulary */

static bool ends_answers(const slm_engine *e, int32_t id) {
    for (size_t i = 0; e->has_facts && e->facts.m.stop[i] >= 0; i++)
        if (e->facts.m.stop[i] == id)
            return true;
    return false;
}

static void fill(const slm_engine *e, struct constrain_token *tokens, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        int32_t id = (int32_t)i;
        const char *text;
        size_t len;
        if (token_text_of(e->tokenizer, id, &text, &len) && !token_is_control(e->tokenizer, id) &&
            !token_is_special(e->tokenizer, id) && !ends_answers(e, id) && id != e->think_open &&
            id != e->think_close)
            tokens[i] = (struct constrain_token){ text, len };
    }
}

slm_err vocabulary_of(const slm_engine *e, const struct constrain_vocab **out, slm_why *why) {
    struct constrain_vocab *v = atomic_load(&e->late->vocab), *first = NULL;
    *out = v;
    if (v != NULL)
        return SLM_OK;
    if (e->tokenizer == NULL)
        return fail(why, SLM_E_NOTFOUND, SLM_NO_OFFSET, "this model was opened without a tokenizer");
    uint32_t n = e->has_facts ? e->facts.m.vocab : tokenizer_size(e->tokenizer);
    struct constrain_token *tokens = mem_zalloc(&e->hooks, n, sizeof *tokens);
    if (tokens == NULL)
        return fail_nomem(why, "vocabulary", n * sizeof *tokens);
    fill(e, tokens, n);
    slm_err err = constrain_vocab_new(&e->hooks, tokens, n, &v, why);
    mem_free(&e->hooks, tokens);
    TRY(err);
    if (!atomic_compare_exchange_strong(&e->late->vocab, &first, v)) {
        constrain_vocab_free(v);
        v = first;
    }
    *out = v;
    return SLM_OK;
}

/* ------------------------------------------------------------------ formats */

slm_err grammar_of_format(const struct slm_hooks *h, const json_t *format, struct grammar **out,
                          slm_why *why) {
    const char *type = json_string_value(json_object_get(format, "type"));
    const json_t *value;
    *out = NULL;
    if (format == NULL || (type != NULL && strcmp(type, "text") == 0))
        return SLM_OK;
    if (type == NULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "\"format\" is an object with a \"type\"");
    if (strcmp(type, "json_object") == 0)
        return grammar_json(h, NULL, out, why);
    if (strcmp(type, "json_schema") == 0) {
        value = json_object_get(format, "schema");
        return value != NULL ? grammar_schema(h, value, NULL, out, why)
                             : fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                                    "\"format\" of type json_schema lacks its \"schema\"");
    }
    if (strcmp(type, "choices") == 0) {
        value = json_object_get(format, "choices");
        return json_is_array(value) ? grammar_choices(h, value, NULL, out, why)
                                    : fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                                           "\"format\" of type choices lacks its array \"choices\"");
    }
    if (strcmp(type, "regex") == 0) {
        value = json_object_get(format, "pattern");
        return json_is_string(value)
                   ? grammar_regex(h, json_string_value(value), json_string_length(value), NULL,
                                   out, why)
                   : fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                          "\"format\" of type regex lacks its string \"pattern\"");
    }
    return fail(why, SLM_E_ARG, SLM_NO_OFFSET,
                "\"format\" of type '%s': known are text, json_object, json_schema, choices, regex",
                type);
}

/* ------------------------------------------------------------------ calls of tools */

/* open and close as call_shape has them; both begin or end with a control token where the dialect has
 * these. */
static const struct dialect {
    const char *name;
    enum call_style style;
    const char *open_token, *close_token;
    const char *open, *close, *between;
    const char *key;
} dialects[] = {
    [CALLS_NONE] = { NULL, CALL_JSON, NULL, NULL, "", "", "", "arguments" },
    [CALLS_HERMES] = { "hermes", CALL_JSON, "<tool_call>", "</tool_call>", "<tool_call>\n",
                       "\n</tool_call>", "\n", "arguments" },
    [CALLS_SMOLLM3] = { "smollm3", CALL_JSON, "<tool_call>", "</tool_call>", "<tool_call>\n",
                        "\n</tool_call>", "\n", "arguments" },
    [CALLS_PHI4] = { "phi4", CALL_LIST, "<|tool_call|>", "<|/tool_call|>", "<|tool_call|>",
                     "<|/tool_call|>", "", "arguments" },
    [CALLS_GEMMA] = { "gemma-prompt", CALL_PYTHON, NULL, NULL, "", "", "", "parameters" },
};

enum call_dialect dialect_of(const slm_engine *e) {
    static const enum call_dialect of[] = { [TOOLS_NONE] = CALLS_NONE,
                                            [TOOLS_HERMES] = CALLS_HERMES,
                                            [TOOLS_SMOLLM3] = CALLS_SMOLLM3,
                                            [TOOLS_PHI4] = CALLS_PHI4,
                                            [TOOLS_GEMMA_PROMPT] = CALLS_GEMMA };
    return e->has_facts ? of[e->facts.m.family->tools] : CALLS_NONE;
}

const char *dialect_name(enum call_dialect d) {
    return dialects[d].name;
}

const char *dialect_open(enum call_dialect d) {
    return dialects[d].open_token;
}

const char *dialect_close(enum call_dialect d) {
    return dialects[d].close_token;
}

slm_err grammar_of_calls(const struct slm_hooks *h, const struct request *r, enum call_dialect d,
                         struct grammar **out, slm_why *why) {
    const struct dialect *is = &dialects[d];
    struct call_shape shape = { .style = is->style,
                                .open = is->open,
                                .close = is->close,
                                .between = is->between,
                                .arguments_key = is->key,
                                .tools = r->tools,
                                .name = r->choice == TOOLS_NAMED ? r->tool_name : NULL,
                                .many = r->many_calls };
    return grammar_calls(h, &shape, NULL, out, why);
}

/* ------------------------------------------------------------------ public */

slm_constraint_options slm_constraint_default(void) {
    return (slm_constraint_options){ .size = sizeof(slm_constraint_options) };
}

static slm_err compile(const struct slm_hooks *h, enum slm_constraint_kind kind, const char *text,
                       size_t n, const struct grammar_limits *limits, struct grammar **out,
                       slm_why *why) {
    json_t *json = NULL;
    slm_err err;
    if (kind == SLM_CONSTRAINT_JSON)
        return grammar_json(h, limits, out, why);
    if (kind == SLM_CONSTRAINT_REGEX)
        return grammar_regex(h, text, n, limits, out, why);
    if (kind != SLM_CONSTRAINT_SCHEMA && kind != SLM_CONSTRAINT_CHOICES)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "unknown kind of constraint: %d", (int)kind);
    TRY(json_text(text, n, &json, why));
    if (kind == SLM_CONSTRAINT_SCHEMA)
        err = grammar_schema(h, json, limits, out, why);
    else if (json_is_array(json))
        err = grammar_choices(h, json, limits, out, why);
    else
        err = fail(why, SLM_E_FORMAT, 0, "choices are a JSON array of strings");
    json_decref(json);
    return err;
}

slm_err slm_constraint_open(const slm_engine *e, enum slm_constraint_kind kind, const char *text,
                            size_t n, const slm_constraint_options *options, slm_constraint **out,
                            slm_why *why) {
    slm_constraint_options o = slm_constraint_default();
    const struct constrain_vocab *v;
    *out = NULL;
    TRY(options_copy(&o, sizeof o, options, why));
    TRY(vocabulary_of(e, &v, why));
    const struct grammar_limits limits = { .max_nodes = o.max_nodes,
                                           .max_bytes = (size_t)o.max_bytes,
                                           .max_ns = o.max_ns,
                                           .any_whitespace = o.any_whitespace };
    slm_constraint *c = mem_zalloc(&e->hooks, 1, sizeof *c);
    if (c == NULL)
        return fail_nomem(why, "constraint", sizeof *c);
    c->engine = e;
    slm_err err = compile(&e->hooks, kind, text, n, &limits, &c->grammar, why);
    if (err != SLM_OK) {
        mem_free(&e->hooks, c);
        return err;
    }
    *out = c;
    return SLM_OK;
}

void slm_constraint_close(slm_constraint *c) {
    if (c == NULL)
        return;
    const slm_engine *e = c->engine;
    grammar_free(c->grammar);
    mem_free(&e->hooks, c);
}
