/* answer_scan.c - finds calls of tools in text that arrives in pieces.
 *
 * In:  text, cut anywhere.   Out: text and calls, the same for every way of cutting.
 * A call is written in a form: a mark that opens it, one or more calls as JSON objects or Python calls,
 * a mark that closes it. What may be a call is held, until it is one or the first byte comes that it
 * cannot have; then all of it is text, and the search goes on with that byte. Each byte is looked at
 * once (a mark's few bytes a few times), so the cost is linear whatever the text.
 *
 * White space: blanks before a call belong to it. Blanks behind a call belong to it too, unless there
 * was text before it and there is text behind it: then they part the two. Blanks around what turns
 * out to be no call are text. */
#include "chat/answer_unit.h"

#include <string.h>

#define FENCE_WORD_MAX 16

struct call_form {
    const char *open, *close; /* close NULL: one JSON object, which the opening brace begins */
    const char *between;      /* bytes that may stand around the calls, besides blanks */
    bool json, python;
    bool known; /* only tools that the model was told of: without them it is ordinary text */
    bool
        certain; /* the mark has no other meaning: what does not become a call counts as malformed */
    bool fence;  /* a word and a line end follow the opening mark */
};

#define FORM_HERMES                                                                                \
    {                                                                                              \
        .open = "<tool_call>", .close = "</tool_call>", .between = "[],", .json = true,            \
        .certain = true                                                                            \
    }
#define FORM_BARE_OBJECT                                                                           \
    { .open = "{", .json = true, .known = true }
#define FORM_BARE_LIST(has_python)                                                                 \
    {                                                                                              \
        .open = "[", .close = "]", .between = ",", .json = true, .python = (has_python),           \
        .known = true                                                                              \
    }

static const struct call_form hermes[] = { FORM_HERMES };
static const struct call_form hermes_known[] = { { .open = "<tool_call>",
                                                   .close = "</tool_call>",
                                                   .between = "[],",
                                                   .json = true,
                                                   .known = true } };
static const struct call_form smollm3[] = {
    FORM_HERMES,
    { .open = "<code>", .close = "</code>", .between = "[],;", .python = true, .known = true },
};
static const struct call_form phi4[] = {
    { .open = "<|tool_call|>",
      .close = "<|/tool_call|>",
      .between = "[],",
      .json = true,
      .certain = true },
    { .open = "functools[", .close = "]", .between = ",", .json = true },
    FORM_BARE_LIST(false),
    FORM_BARE_OBJECT,
};
static const struct call_form gemma[] = {
    { .open = "```",
      .close = "```",
      .between = "[],;",
      .json = true,
      .python = true,
      .known = true,
      .fence = true },
    FORM_BARE_LIST(true),
    FORM_BARE_OBJECT,
};

enum {
    SCAN_TEXT,
    SCAN_MARK,  /* the bytes from mark_at on begin an opening mark */
    SCAN_FENCE, /* in the word behind a fence */
    SCAN_BETWEEN,
    SCAN_JSON,
    SCAN_PYTHON,
    SCAN_CLOSE /* the bytes from mark_at on begin a closing mark */
};

enum taken {
    TAKEN,    /* the byte is held, or done with */
    REFUSED,  /* with this byte what is held is text; the byte itself is still to be looked at */
    FORM_DONE /* the calls that were found are calls */
};

static void use_forms(struct scan *s, const struct call_form *forms, size_t n) {
    bool known = json_array_size(s->tools) > 0;
    s->forms = forms;
    s->n_forms = n;
    for (size_t i = 0; i < n; i++)
        if (known || !forms[i].known)
            s->first[(unsigned char)forms[i].open[0]] = true;
}

void scan_init(struct scan *s, const struct slm_hooks *h, enum call_dialect dialect,
               const json_t *tools, bool thinking) {
    memset(s, 0, sizeof *s);
    s->hooks = h;
    s->tools = tools;
    s->defer = thinking;
    buf_init(&s->held, h, CALL_BYTES_MAX);
    call_list_init(&s->calls, h);
    bool tagged = dialect == CALLS_HERMES || dialect == CALLS_SMOLLM3;
    if (thinking && tagged)
        use_forms(s, hermes_known, ARRAY_LEN(hermes_known));
    else if (thinking)
        use_forms(s, NULL, 0);
    else if (dialect == CALLS_HERMES)
        use_forms(s, hermes, ARRAY_LEN(hermes));
    else if (dialect == CALLS_SMOLLM3)
        use_forms(s, smollm3, ARRAY_LEN(smollm3));
    else if (dialect == CALLS_PHI4)
        use_forms(s, phi4, ARRAY_LEN(phi4));
    else if (dialect == CALLS_GEMMA)
        use_forms(s, gemma, ARRAY_LEN(gemma));
}

void scan_free(struct scan *s) {
    buf_free(&s->held);
    call_list_free(&s->calls);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void emit(struct scan *s, const char *text, size_t n) {
    if (n == 0)
        return;
    s->any_text = true;
    s->behind_call = false;
    s->text(s->user, text, n);
}

/* ---- held bytes ---- */

/* All that is held is text. Blanks at its beginning that follow a call are the call's, when nothing
 * stands before it. */
void scan_release(struct scan *s) {
    bool drop = s->behind_call && !s->any_text;
    size_t from = drop ? s->n_blanks : 0;
    s->malformed += s->serious;
    s->serious = false;
    s->state = SCAN_TEXT;
    if (s->calls.bytes.err == SLM_E_NOMEM)
        s->err = SLM_E_NOMEM;
    call_list_clear(&s->calls);
    s->n_before = 0;
    if (s->held.len > 0)
        emit(s, s->held.data + from, s->held.len - from);
    s->held.len = s->n_blanks = 0;
    s->behind_call = false;
}

/* Holds as many bytes as there is room for, and says how many. When there is none, what is held is text
 * and the bytes are still to be looked at: with every cut the same. */
static size_t hold(struct scan *s, const char *text, size_t n) {
    size_t room = CALL_BYTES_MAX - s->held.len, take = n < room ? n : room;
    if (take > 0)
        buf_put(&s->held, text, take);
    if (s->held.err != SLM_OK)
        s->err = SLM_E_NOMEM;
    if (take > 0 && s->err == SLM_OK)
        return take;
    scan_release(s);
    return 0;
}

/* ---- inside a form ---- */

static void form_begin(struct scan *s, const struct call_form *form) {
    s->in = form;
    s->serious = form->certain;
    s->n_before = s->calls.n;
    s->key_is_name = false;
    s->state = form->fence ? SCAN_FENCE : SCAN_BETWEEN;
    s->mark_at = s->held.len;
    if (form->close == NULL) {
        s->unit_at = s->held.len - 1;
        json_unit_init(&s->json);
        (void)json_unit_put(&s->json, '{');
        s->state = SCAN_JSON;
    }
}

static bool may_begin(const struct scan *s, const struct call_form *form) {
    return !form->known || json_array_size(s->tools) > 0;
}

static bool form_has_call(const struct scan *s) {
    return s->calls.n > s->n_before;
}

static enum taken mark_byte(struct scan *s) {
    const char *mark = s->held.data + s->mark_at;
    size_t n = s->held.len - s->mark_at;
    bool begins = false;
    for (size_t i = 0; i < s->n_forms; i++) {
        const struct call_form *form = &s->forms[i];
        if (!may_begin(s, form) || strncmp(form->open, mark, n) != 0)
            continue;
        begins = true;
        if (form->open[n] == '\0') {
            form_begin(s, form);
            return TAKEN;
        }
    }
    return begins ? TAKEN : REFUSED;
}

/* Behind ``` stands nothing, or a word that Gemma puts there before a call. */
static enum taken fence_byte(struct scan *s, char c) {
    static const char *const words[] = { "", "tool_code", "tool_call", "json", "python" };
    const char *word = s->held.data + s->mark_at;
    size_t n = s->held.len - s->mark_at;
    bool line = c == '\n';
    n -= line;
    while (n > 0 && (word[n - 1] == ' ' || word[n - 1] == '\r'))
        n--;
    if (s->held.len - s->mark_at > FENCE_WORD_MAX)
        return REFUSED;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        bool whole = strlen(words[i]) == n;
        if (strncmp(words[i], word, n) == 0 && (whole || !line)) {
            s->state = line ? SCAN_BETWEEN : SCAN_FENCE;
            return TAKEN;
        }
    }
    return REFUSED;
}

/* Where thinking goes on, calls are only calls when nothing follows: they stay held. */
static void form_done(struct scan *s) {
    s->serious = false;
    s->state = SCAN_TEXT;
    if (s->defer)
        return;
    for (size_t i = 0; i < s->calls.n; i++)
        s->call(s->user, &s->calls, i);
    call_list_clear(&s->calls);
    s->held.len = s->n_blanks = 0;
    s->behind_call = true;
}

/* A call that is complete, as far as its own bytes go. */
static enum taken unit_done(struct scan *s, bool good) {
    if (!good)
        return REFUSED;
    s->state = SCAN_BETWEEN;
    return s->in->close == NULL ? FORM_DONE : TAKEN;
}

/* Keys and the name of an object that is a call only if it says the right things. */
static bool object_may_be_call(struct scan *s) {
    static const char *const keys[] = { "name", "arguments", "parameters", "type", "id" };
    const char *text = s->held.data + s->unit_at + s->json.string_at + 1;
    size_t n = s->json.at - s->json.string_at - 2;
    if (s->json.ended == ENDED_STRING) {
        bool is_name = s->key_is_name;
        s->key_is_name = false;
        if (!is_name)
            return true;
        bool known = tool_find(s->tools, text, n) != NULL;
        s->serious = s->serious || known;
        return known;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strlen(keys[i]) == n && memcmp(keys[i], text, n) == 0) {
            s->key_is_name = i == 0;
            return true;
        }
    return false;
}

static enum taken json_byte(struct scan *s, char c) {
    enum unit_step step = json_unit_put(&s->json, c);
    if (step == UNIT_BAD ||
        (s->in->known && s->json.ended != ENDED_NOTHING && !object_may_be_call(s)))
        return REFUSED;
    if (step == UNIT_MORE)
        return TAKEN;
    const char *text = s->held.data + s->unit_at;
    return unit_done(s, call_from_json(text, s->held.len - s->unit_at, &s->calls, &s->err));
}

static enum taken python_byte(struct scan *s, char c) {
    enum unit_step step = py_unit_put(&s->py, c);
    s->serious = s->serious || s->py.tool != NULL;
    if (step == UNIT_MORE)
        return TAKEN;
    return unit_done(s, step == UNIT_DONE && call_list_close(&s->calls, &s->err));
}

static enum taken close_byte(struct scan *s) {
    const char *mark = s->held.data + s->mark_at;
    size_t n = s->held.len - s->mark_at;
    const struct call_form *form = s->in;
    if (strncmp(form->close, mark, n) == 0) {
        if (form->close[n] != '\0')
            return TAKEN;
        if (form_has_call(s))
            return FORM_DONE;
        scan_release(s);
        return TAKEN;
    }
    /* the closing mark is missing and the next call begins */
    if (!form->certain || !form_has_call(s) || strncmp(form->open, mark, n) != 0)
        return REFUSED;
    if (form->open[n] == '\0') {
        char open[16];
        memcpy(open, mark, n);
        form_done(s);
        if (hold(s, open, n) == n)
            form_begin(s, form);
        else
            emit(s, open, n);
    }
    return TAKEN;
}

static enum taken between_byte(struct scan *s, char c) {
    const struct call_form *form = s->in;
    if (is_blank(c))
        return TAKEN;
    if (c == form->close[0]) {
        s->state = SCAN_CLOSE;
        s->mark_at = s->held.len - 1;
        return close_byte(s);
    }
    if (strchr(form->between, c) != NULL && c != '\0')
        return c == '[' || form_has_call(s) ? TAKEN : REFUSED;
    s->unit_at = s->held.len - 1;
    s->key_is_name = false;
    if (form->json && c == '{') {
        s->state = SCAN_JSON;
        s->serious = s->serious || !form->known;
        json_unit_init(&s->json);
        return json_byte(s, c);
    }
    if (form->python && call_name_byte(c)) {
        s->state = SCAN_PYTHON;
        py_unit_init(&s->py, s->tools, &s->calls);
        return python_byte(s, c);
    }
    return REFUSED;
}

static enum taken form_byte(struct scan *s, char c) {
    switch (s->state) {
    case SCAN_MARK:
        return mark_byte(s);
    case SCAN_FENCE:
        return fence_byte(s, c);
    case SCAN_BETWEEN:
        return between_byte(s, c);
    case SCAN_JSON:
        return json_byte(s, c);
    case SCAN_PYTHON:
        return python_byte(s, c);
    default:
        return close_byte(s);
    }
}

/* ---- text ---- */

/* Text up to where a form may begin; how many bytes were taken. Blanks at its end are held. */
static size_t text_run(struct scan *s, const char *text, size_t n) {
    size_t i = 0, run, blank;
    if (s->held.len > 0 || s->behind_call) {
        while (i < n && is_blank(text[i]))
            i++;
        size_t took = i > 0 ? hold(s, text, i) : 0;
        if (took < i)
            return took;
        s->n_blanks = s->calls.n > 0 ? s->n_blanks : s->held.len;
        if (i == n || s->first[(unsigned char)text[i]])
            return i;
        scan_release(s);
    }
    for (run = blank = i; i < n && !s->first[(unsigned char)text[i]]; i++)
        if (!is_blank(text[i]))
            blank = i + 1;
    emit(s, text + run, blank - run);
    if (blank < i) {
        i = blank + hold(s, text + blank, i - blank);
        s->n_blanks = s->held.len;
    }
    return i;
}

/* One byte that begins a form or is inside one; 0 when it is still to be looked at. */
static size_t form_put(struct scan *s, const char *c) {
    if (s->state == SCAN_TEXT) {
        s->state = SCAN_MARK;
        s->mark_at = s->held.len;
    }
    if (hold(s, c, 1) == 0)
        return 0;
    enum taken taken = form_byte(s, *c);
    if (taken == REFUSED) {
        s->held.len--;
        scan_release(s);
        return 0;
    }
    if (taken == FORM_DONE)
        form_done(s);
    return 1;
}

void scan_put(struct scan *s, const char *text, size_t n) {
    size_t i = 0;
    if (s->n_forms == 0) {
        emit(s, text, n);
        return;
    }
    while (i < n && s->err == SLM_OK) {
        if (s->state == SCAN_TEXT)
            i += text_run(s, text + i, n - i);
        if (i < n && s->err == SLM_OK)
            i += form_put(s, text + i);
    }
    if (i < n) {
        scan_release(s);
        emit(s, text + i, n - i);
    }
}

void scan_end(struct scan *s) {
    bool complete = form_has_call(s) && (s->state == SCAN_BETWEEN || s->state == SCAN_CLOSE);
    if (complete || (s->defer && s->calls.n > 0 && s->state == SCAN_TEXT)) {
        s->defer = false;
        form_done(s);
    }
    if (s->state == SCAN_TEXT && s->behind_call)
        s->held.len = s->n_blanks = 0;
    scan_release(s);
}
