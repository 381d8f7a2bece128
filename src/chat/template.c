/* template.c - chat templates: compiling, rendering, and what the caller's values become.
 *
 * In:  template text; messages and arguments as JSON.   Out: text with its trusted and untrusted
 * runs. Trust begins here: all strings but role and content of system, developer and assistant, and
 * arguments that are plain strings, are marked byte for byte. */
#include "chat/template.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "chat/jinja.h"

#define DEFAULT_STEPS ((size_t)20000000)
#define DEFAULT_OUTPUT ((size_t)64 << 20)
#define DEFAULT_MEMORY ((size_t)256 << 20)
#define DEFAULT_DEPTH 128u

/* ---- errors with a place ---- */

static unsigned line_of(const struct template *t, size_t pos) {
    unsigned line = 1;
    for (size_t i = 0; i < pos && i < t->n_text; i++)
        line += t->text[i] == '\n';
    return line;
}

slm_err template_fail(const struct template *t, slm_why *why, slm_err code, size_t pos,
                      const char *format, ...) {
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(why, code, pos, "chat template, line %u: %s", line_of(t, pos), text);
}

slm_err parse_fail(struct parser *p, const char *format, ...) {
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return template_fail(p->t, p->why, SLM_E_TEMPLATE, tok(p)->pos, "%s", text);
}

slm_err vm_fail(struct vm *vm, slm_err code, const char *format, ...) {
    char text[384];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t at = vm->pc > 0 ? vm->pc - 1 : 0;
    return template_fail(vm->t, vm->why, code, vm->t->code[at].pos, "%s", text);
}

/* ---- compile ---- */

/* Copies the text with "\n" for "\r\n" and "\r", and without a line end at its end, as Jinja. */
static slm_err take_text(struct template *t, const char *text, size_t n, slm_why *why) {
    if (n > TEMPLATE_TEXT_MAX)
        return fail(why, SLM_E_BUDGET, SLM_NO_OFFSET, "chat template of %zu bytes, at most %zu", n,
                    TEMPLATE_TEXT_MAX);
    size_t valid = utf8_valid(text, n);
    if (valid < n)
        return fail(why, SLM_E_ENCODING, valid, "chat template: invalid UTF-8");
    t->text = mem_alloc(&t->hooks, n + 1, 1);
    if (t->text == NULL)
        return fail_nomem(why, "chat template", n);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
            continue;
        t->text[t->n_text++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (t->n_text > 0 && t->text[t->n_text - 1] == '\n')
        t->n_text--;
    t->text[t->n_text] = '\0';
    return SLM_OK;
}

/* Offsets count in the text with "\n"; this is where that byte stands in the original. */
static void original_offset(slm_why *why, const char *text, size_t n) {
    if (why == NULL || why->offset == SLM_NO_OFFSET)
        return;
    for (size_t i = 0; i + 1 < n && i <= why->offset; i++)
        why->offset += text[i] == '\r' && text[i + 1] == '\n';
}

slm_err template_compile(const struct slm_hooks *h, const char *text, size_t n,
                         struct template **out, slm_why *why) {
    *out = NULL;
    struct template *t = mem_zalloc(h, 1, sizeof *t);
    if (t == NULL)
        return fail_nomem(why, "chat template", sizeof *t);
    hooks_init(&t->hooks, h);
    arena_init(&t->arena, &t->hooks, 0);
    struct parser p = { .t = t, .why = why };
    slm_err err = take_text(t, text, n, why);
    if (err == SLM_OK) {
        err = jinja_lex(t, &p.tokens, why);
        if (err == SLM_OK)
            err = jinja_parse(&p);
        if (err != SLM_OK && err != SLM_E_NOMEM)
            original_offset(why, text, n);
    }
    mem_free(&t->hooks, p.tokens.list);
    if (err != SLM_OK) {
        template_free(t);
        return err;
    }
    *out = t;
    return SLM_OK;
}

void template_free(struct template *t) {
    if (t == NULL)
        return;
    struct slm_hooks h = t->hooks;
    arena_free(&t->arena);
    mem_free(&h, t->text);
    mem_free(&h, t->code);
    mem_free(&h, t->words);
    mem_free(&h, t->word_index);
    mem_free(&h, t->consts);
    mem_free(&h, t->macros);
    mem_free(&h, t);
}

bool template_mentions(const struct template *t, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < t->n_words; i++) {
        const struct word *w = &t->words[i];
        if ((w->flags & (WORD_NAME | WORD_ATTR)) != 0 && str_is(w->str, name))
            return true;
        if ((w->flags & WORD_TEXT) != 0 && n > 0 && memmem(w->str->s, w->str->n, name, n) != NULL)
            return true;
    }
    return false;
}

/* ---- values from JSON ---- */

#define MESSAGE_MARKS "content_data" /* see template.h */

static slm_err from_text(struct vm *vm, const char *s, size_t n, bool data, struct value *out) {
    return str_wrap(vm, s, n, data ? taint_all : NULL, out);
}

static slm_err from_json(struct vm *vm, const json_t *j, bool data, unsigned depth,
                         struct value *out);

static slm_err from_array(struct vm *vm, const json_t *j, bool data, unsigned depth,
                          struct value *out) {
    size_t n = json_array_size(j);
    struct list *l;
    TRY(list_new(vm, n, &l));
    for (; l->n < n; l->n++)
        TRY(from_json(vm, json_array_get(j, l->n), data, depth + 1, &l->items[l->n]));
    *out = v_list(V_LIST, l);
    return SLM_OK;
}

/* jansson's iterators want a pointer that is not const, and change nothing. */
static json_t *unconst(const json_t *j) {
    union {
        const json_t *from;
        json_t *to;
    } u = { .from = j };
    return u.to;
}

static slm_err from_object(struct vm *vm, const json_t *j, bool data, unsigned depth,
                           struct value *out) {
    struct dict *d;
    TRY(dict_new(vm, &d));
    json_t *o = unconst(j);
    for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
        struct value key, v;
        TRY(from_text(vm, json_object_iter_key(it), strlen(json_object_iter_key(it)), data, &key));
        TRY(from_json(vm, json_object_iter_value(it), data, depth + 1, &v));
        TRY(dict_set(vm, d, &key, &v));
    }
    *out = v_dict(d);
    return SLM_OK;
}

static slm_err from_json(struct vm *vm, const json_t *j, bool data, unsigned depth,
                         struct value *out) {
    TRY(vm_depth(vm, depth));
    TRY(vm_charge(vm, 1));
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return from_object(vm, j, data, depth, out);
    case JSON_ARRAY:
        return from_array(vm, j, data, depth, out);
    case JSON_STRING:
        return from_text(vm, json_string_value(j), json_string_length(j), data, out);
    case JSON_INTEGER:
        *out = v_int(json_integer_value(j));
        return SLM_OK;
    case JSON_REAL:
        *out = v_float(json_real_value(j));
        return SLM_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = v_bool(json_is_true(j));
        return SLM_OK;
    case JSON_NULL:
        break;
    }
    *out = v_none();
    return SLM_OK;
}

static bool one_of(const char *s, const char *const *words, size_t n) {
    for (size_t i = 0; s != NULL && i < n; i++)
        if (strcmp(s, words[i]) == 0)
            return true;
    return false;
}

/* The content of a trusted message, with the bytes that its marks say are data. */
static slm_err marked_text(struct vm *vm, const json_t *content, const json_t *marks,
                           struct value *out) {
    size_t n = json_string_length(content);
    uint8_t *taint = arena_zalloc(&vm->arena, n + 1, 1);
    TRY(vm_charge(vm, n / 64 + json_array_size(marks)));
    if (taint == NULL)
        return vm_fail(vm, SLM_E_NOMEM, "out of memory for a message of %zu bytes", n);
    for (size_t i = 0; i + 1 < json_array_size(marks); i += 2) {
        json_int_t start = json_integer_value(json_array_get(marks, i));
        json_int_t len = json_integer_value(json_array_get(marks, i + 1));
        if (start < 0 || len < 0 || (uint64_t)start > n || (uint64_t)len > n - (uint64_t)start)
            return vm_fail(vm, SLM_E_ARG, "marks of data outside of the content");
        memset(taint + start, 1, (size_t)len);
    }
    return str_wrap(vm, json_string_value(content), n, taint, out);
}

/* Only role and content of a message can be trusted; its content up to the marks it has. */
static slm_err from_member(struct vm *vm, const json_t *message, const char *key, const json_t *j,
                           bool data, struct value *out) {
    const json_t *marks = json_object_get(message, MESSAGE_MARKS);
    bool content = strcmp(key, "content") == 0;
    if (!data && content && json_is_string(j) && json_array_size(marks) > 0)
        return marked_text(vm, j, marks, out);
    return from_json(vm, j, data || !(content || strcmp(key, "role") == 0), 2, out);
}

/* A message is trusted or not by its role. The role's own word, when it is one that everybody
 * uses, is always trusted: some templates spell a control token with it ("<|" + role + "|>"). */
static slm_err from_message(struct vm *vm, const json_t *j, struct value *out) {
    static const char *const trusted[] = { "system", "developer", "assistant" };
    static const char *const known[] = { "system", "developer", "assistant", "user",
                                         "tool",   "function",  "model" };
    const char *role = json_string_value(json_object_get(j, "role"));
    bool data = !one_of(role, trusted, ARRAY_LEN(trusted));
    bool known_role = one_of(role, known, ARRAY_LEN(known));
    json_t *o = unconst(j);
    struct dict *d;
    TRY(vm_charge(vm, 1));
    TRY(dict_new(vm, &d));
    for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
        const char *name = json_object_iter_key(it);
        struct value key, v;
        if (strcmp(name, MESSAGE_MARKS) == 0)
            continue;
        bool word = known_role && strcmp(name, "role") == 0;
        TRY(from_text(vm, name, strlen(name), data, &key));
        TRY(from_member(vm, j, name, json_object_iter_value(it), data && !word, &v));
        TRY(dict_set(vm, d, &key, &v));
    }
    *out = v_dict(d);
    return SLM_OK;
}

/* ---- render ---- */

/* A name that the template never uses needs no variable. */
static slm_err set_variable(struct vm *vm, const char *name, const struct value *v) {
    uint32_t word = word_find(vm->t, name, strlen(name));
    return word == NONE_AT ? SLM_OK : scope_set(vm, vm->scope, word, v);
}

static slm_err set_text(struct vm *vm, const char *name, const char *s) {
    struct value v;
    if (s == NULL)
        return SLM_OK;
    TRY(from_text(vm, s, strlen(s), false, &v));
    return set_variable(vm, name, &v);
}

static slm_err set_messages(struct vm *vm, const json_t *messages) {
    size_t n = json_array_size(messages);
    struct list *l;
    TRY(list_new(vm, n, &l));
    for (; l->n < n; l->n++)
        TRY(from_message(vm, json_array_get(messages, l->n), &l->items[l->n]));
    const struct value v = v_list(V_LIST, l);
    return set_variable(vm, "messages", &v);
}

static slm_err set_kwargs(struct vm *vm, const json_t *kwargs) {
    json_t *o = unconst(kwargs);
    for (void *it = json_object_iter(o); it != NULL; it = json_object_iter_next(o, it)) {
        const json_t *j = json_object_iter_value(it);
        struct value v;
        TRY(from_json(vm, j, json_is_array(j) || json_is_object(j), 1, &v));
        TRY(set_variable(vm, json_object_iter_key(it), &v));
    }
    return SLM_OK;
}

static slm_err take_output(const struct slm_hooks *h, const struct builder *b,
                           struct template_output *out, slm_why *why) {
    size_t max_runs = b->n_edges + 1;
    out->text = mem_alloc(h, b->n + 1, 1);
    out->runs = mem_alloc(h, max_runs, sizeof *out->runs);
    if (out->text == NULL || out->runs == NULL) {
        template_output_free(h, out);
        return fail_nomem(why, "rendered prompt", b->n);
    }
    if (b->n > 0)
        memcpy(out->text, b->text, b->n);
    out->text[b->n] = '\0';
    out->n = b->n;
    size_t start = 0;
    for (size_t i = 0; i <= b->n_edges; i++) {
        size_t end = i < b->n_edges ? b->edges[i] : b->n;
        if (end > start)
            out->runs[out->n_runs++] =
                (struct template_run){ .start = start, .n = end - start, .data = i % 2 == 1 };
        start = end;
    }
    return SLM_OK;
}

static slm_err check_input(const struct template_input *in, slm_why *why) {
    if (!json_is_array(in->messages))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "messages must be an array");
    for (size_t i = 0; i < json_array_size(in->messages); i++)
        if (!json_is_object(json_array_get(in->messages, i)))
            return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "message %zu is no object", i);
    if (in->kwargs != NULL && !json_is_object(in->kwargs))
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "the template's arguments must be an object");
    if (json_object_get(in->kwargs, "messages") != NULL)
        return fail(why, SLM_E_ARG, SLM_NO_OFFSET, "messages given twice");
    return SLM_OK;
}

slm_err template_render(const struct template *t, const struct slm_hooks *h,
                        const struct template_input *in, struct template_output *out,
                        slm_why *why) {
    const struct template_budget *b = &in->budget;
    struct builder text = { 0 };
    *out = (struct template_output){ 0 };
    TRY(check_input(in, why));
    struct vm vm = {
        .t = t,
        .why = why,
        .max_steps = b->max_steps != 0 ? b->max_steps : DEFAULT_STEPS,
        .max_output = b->max_output_bytes != 0 ? b->max_output_bytes : DEFAULT_OUTPUT,
        .max_memory = b->max_memory_bytes != 0 ? b->max_memory_bytes : DEFAULT_MEMORY,
        .max_depth = b->max_depth != 0 ? b->max_depth : DEFAULT_DEPTH,
        .now = in->now,
        .sink = &text,
    };
    arena_init(&vm.arena, h, 0);
    slm_err err;
    TRY_OUT(scope_new(&vm, NULL, &vm.scope));
    TRY_OUT(set_text(&vm, "bos_token", in->bos_token));
    TRY_OUT(set_text(&vm, "eos_token", in->eos_token));
    TRY_OUT(set_messages(&vm, in->messages));
    if (in->kwargs != NULL)
        TRY_OUT(set_kwargs(&vm, in->kwargs));
    TRY_OUT(vm_run(&vm));
    TRY_OUT(take_output(h, &text, out, why));
out:
    arena_free(&vm.arena);
    return err;
}

void template_output_free(const struct slm_hooks *h, struct template_output *o) {
    mem_free(h, o->text);
    mem_free(h, o->runs);
    *o = (struct template_output){ 0 };
}
