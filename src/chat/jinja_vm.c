/* jinja_vm.c - runs the instructions of a template.
 *
 * In:  the compiled template, a scope with the caller's variables.   Out: text in the sink.
 * Everything that nests (expressions, loops, captures, macro calls) is on stacks in the arena, so
 * one C frame runs all. A scope is made per round of a loop, per macro call, per with and capture;
 * names are looked up outwards. A scope is reused for the next round unless a macro made inside
 * remembers it.
 * Source: Jinja 3.1 documentation, "Assignments" and "Scoping Behavior", and its behaviour. */
#include <string.h>

#include "chat/jinja.h"

/* ---- scopes and names ---- */

slm_err scope_new(struct vm *vm, struct scope *parent, struct scope **out) {
    void *p;
    TRY(vm_alloc(vm, 1, sizeof(struct scope), &p));
    struct scope *s = p;
    *s = (struct scope){ .parent = parent };
    *out = s;
    return SLM_OK;
}

static struct value *scope_find(const struct scope *s, uint32_t name) {
    for (uint32_t i = 0; i < s->n; i++)
        if (s->vars[i].name == name)
            return &s->vars[i].value;
    return NULL;
}

slm_err scope_set(struct vm *vm, struct scope *s, uint32_t name, const struct value *v) {
    struct value *have = scope_find(s, name);
    TRY(vm_charge(vm, s->n / 8));
    if (have != NULL) {
        *have = *v;
        return SLM_OK;
    }
    void *vars = s->vars;
    size_t cap = s->cap;
    TRY(vm_grow(vm, &vars, &cap, (size_t)s->n + 1, sizeof *s->vars, s->n));
    s->vars = vars;
    s->cap = (uint32_t)cap;
    s->vars[s->n++] = (struct binding){ .name = name, .value = *v };
    return SLM_OK;
}

static slm_err lookup(struct vm *vm, uint32_t name, struct value *out) {
    for (const struct scope *s = vm->scope; s != NULL; s = s->parent) {
        const struct value *v = scope_find(s, name);
        TRY(vm_charge(vm, s->n / 8 + (s != vm->scope)));
        if (v != NULL) {
            *out = *v;
            return SLM_OK;
        }
    }
    const struct str *s = vm->t->words[name].str;
    const struct native *f = native_find(jinja_functions, s->s, s->n);
    *out = (struct value){ .type = f != NULL ? V_NATIVE : V_UNDEF, .sub = MISSING_NAME };
    if (f != NULL)
        out->u.native = f;
    else
        out->u.s = s;
    return SLM_OK;
}

static slm_err scope_enter(struct vm *vm) {
    struct scope *s;
    TRY(scope_new(vm, vm->scope, &s));
    vm->scope = s;
    return SLM_OK;
}

/* ---- stack ---- */

static slm_err push(struct vm *vm, const struct value *v) {
    void *stack = vm->stack;
    TRY(vm_grow(vm, &stack, &vm->cap, vm->sp + 1, sizeof *v, vm->sp));
    vm->stack = stack;
    vm->stack[vm->sp++] = *v;
    return SLM_OK;
}

static struct value *pop(struct vm *vm) {
    return &vm->stack[--vm->sp]; /* the compiler keeps pushes and pops in balance */
}

/* Replaces the n topmost values by one. */
static slm_err replace(struct vm *vm, size_t n, const struct value *v) {
    vm->sp -= n;
    return push(vm, v);
}

/* ---- captures ---- */

static slm_err capture(struct vm *vm) {
    void *p;
    TRY(vm_alloc(vm, 1, sizeof(struct builder), &p));
    struct builder *b = p;
    *b = (struct builder){ .outer = vm->sink };
    vm->sink = b;
    return SLM_OK;
}

static slm_err capture_end(struct vm *vm) {
    struct value text;
    TRY(build_done(vm, vm->sink, &text));
    vm->sink = vm->sink->outer;
    return push(vm, &text);
}

/* ---- loops ---- */

static slm_err loop_start(struct vm *vm, bool collects) {
    struct list *items;
    void *p;
    TRY(iterate(vm, pop(vm), &items));
    TRY(vm_alloc(vm, 1, sizeof(struct loop), &p));
    struct loop *l = p;
    *l = (struct loop){ .outer = vm->loop,
                        .items = items,
                        .n = items->n,
                        .scope_before = vm->scope,
                        .sink = vm->sink };
    if (collects)
        TRY(list_new(vm, 0, &l->kept));
    vm->loop = l;
    return scope_enter(vm);
}

static void loop_stop(struct vm *vm) {
    struct loop *l = vm->loop;
    vm->scope = l->scope_before;
    vm->sink = l->sink;
    vm->loop = l->outer;
    vm->loop_ran = l->completed;
    vm->kept = l->kept;
}

/* Next round: true with the item on the stack, or false after the last. */
static slm_err loop_next(struct vm *vm, bool *more) {
    struct loop *l = vm->loop;
    *more = l->i < l->n;
    if (!*more) {
        loop_stop(vm);
        return SLM_OK;
    }
    if (vm->scope->captured) {
        vm->scope = l->scope_before;
        TRY(scope_enter(vm));
    }
    vm->scope->n = 0;
    if (l->kept == NULL) {
        struct value self = { .type = V_LOOP };
        self.u.loop = l;
        TRY(scope_set(vm, vm->scope, vm->t->loop, &self));
    }
    return push(vm, &l->items->items[l->i++]);
}

/* ---- calls ---- */

static slm_err frame_push(struct vm *vm, const struct macro *m) {
    if (vm->n_frames >= vm->max_depth)
        return vm_fail(vm, SLM_E_BUDGET, "macros call each other deeper than %u", vm->max_depth);
    void *frames = vm->frames;
    TRY(vm_grow(vm, &frames, &vm->cap_frames, vm->n_frames + 1, sizeof *vm->frames, vm->n_frames));
    vm->frames = frames;
    vm->frames[vm->n_frames++] = (struct frame){
        .return_to = (uint32_t)vm->pc, .scope = vm->scope, .sink = vm->sink, .loop = vm->loop
    };
    struct scope *s;
    TRY(scope_new(vm, m->scope, &s));
    vm->scope = s;
    vm->loop = NULL;
    return capture(vm);
}

static slm_err frame_pop(struct vm *vm) {
    struct value text;
    TRY(build_done(vm, vm->sink, &text));
    const struct frame *f = &vm->frames[--vm->n_frames];
    vm->scope = f->scope;
    vm->sink = f->sink;
    vm->loop = f->loop;
    vm->pc = f->return_to;
    return push(vm, &text);
}

static bool is_param(const struct macro_def *d, uint32_t word) {
    for (uint32_t i = 0; i < d->n_params; i++)
        if (d->params[i] == word)
            return true;
    return false;
}

/* Word of a named argument among the parameters and caller; NONE_AT when it is neither. */
static uint32_t param_word(struct vm *vm, const struct macro_def *d, const struct str *name) {
    const struct template *t = vm->t;
    for (uint32_t i = 0; i < d->n_params; i++)
        if (str_order(t->words[d->params[i]].str, name) == 0)
            return d->params[i];
    return str_is(name, "caller") && (d->flags & MACRO_CALLER) != 0 ? t->caller : NONE_AT;
}

static slm_err bind_positional(struct vm *vm, const struct macro_def *d, const struct value *pos,
                               size_t n_pos) {
    struct list *rest;
    for (size_t i = 0; i < n_pos && i < d->n_params; i++)
        TRY(scope_set(vm, vm->scope, d->params[i], &pos[i]));
    if ((d->flags & MACRO_VARARGS) != 0 && !is_param(d, vm->t->varargs)) {
        TRY(list_new(vm, 0, &rest));
        for (size_t i = d->n_params; i < n_pos; i++)
            TRY(list_add(vm, rest, &pos[i]));
        const struct value v = v_list(V_TUPLE, rest);
        return scope_set(vm, vm->scope, vm->t->varargs, &v);
    }
    if (n_pos > d->n_params)
        return vm_type_error(vm, "macro '%.*s' takes %u arguments, not %zu",
                             (int)vm->t->words[d->name].str->n, vm->t->words[d->name].str->s,
                             d->n_params, n_pos);
    return SLM_OK;
}

static slm_err bind_named(struct vm *vm, const struct macro_def *d, const struct value *kw,
                          size_t n_kw) {
    struct dict *rest = NULL;
    if ((d->flags & MACRO_KWARGS) != 0 && !is_param(d, vm->t->kwargs)) {
        TRY(dict_new(vm, &rest));
        const struct value v = v_dict(rest);
        TRY(scope_set(vm, vm->scope, vm->t->kwargs, &v));
    }
    for (size_t i = 0; i < n_kw; i++) {
        const struct str *name = kw[2 * i].u.s;
        uint32_t word = param_word(vm, d, name);
        if (word == NONE_AT && rest != NULL) {
            TRY(dict_set(vm, rest, &kw[2 * i], &kw[2 * i + 1]));
            continue;
        }
        if (word == NONE_AT || scope_find(vm->scope, word) != NULL)
            return vm_type_error(vm, "macro '%.*s' %s '%.*s'", (int)vm->t->words[d->name].str->n,
                                 vm->t->words[d->name].str->s,
                                 word == NONE_AT ? "takes no argument"
                                                 : "got two values for argument",
                                 (int)(name->n < 60 ? name->n : 60), name->s);
        TRY(scope_set(vm, vm->scope, word, &kw[2 * i + 1]));
    }
    return SLM_OK;
}

/* [callee][positional ...][name, value ...] are on the stack. */
static slm_err call(struct vm *vm, const struct insn *in) {
    size_t n_pos = in->n, n_kw = in->n_kw, n = 1 + n_pos + 2 * n_kw;
    const struct value *base = vm->stack + vm->sp - n;
    const struct value callee = *base;
    struct value out;
    switch (callee.type) {
    case V_MACRO:
        TRY(frame_push(vm, callee.u.macro));
        TRY(bind_positional(vm, callee.u.macro->def, base + 1, n_pos));
        TRY(bind_named(vm, callee.u.macro->def, base + 1 + n_pos, n_kw));
        vm->sp -= n;
        vm->pc = callee.u.macro->def->entry;
        return SLM_OK;
    case V_NATIVE:
        TRY(native_call(vm, callee.u.native, NULL, base + 1, n_pos, base + 1 + n_pos, n_kw, &out));
        return replace(vm, n, &out);
    case V_METHOD:
        TRY(native_call(vm, callee.u.method->native, &callee.u.method->self, base + 1, n_pos,
                        base + 1 + n_pos, n_kw, &out));
        return replace(vm, n, &out);
    case V_UNDEF:
        return undefined_error(vm, &callee);
    default:
        return vm_type_error(vm, "a %s cannot be called", type_name(&callee));
    }
}

static slm_err call_native(struct vm *vm, const struct insn *in) {
    size_t n_pos = in->n, n_kw = in->n_kw, n = 1 + n_pos + 2 * n_kw;
    const struct value *base = vm->stack + vm->sp - n;
    const struct native *f = vm->t->consts[in->arg].u.native;
    struct value out;
    TRY(native_call(vm, f, base, base + 1, n_pos, base + 1 + n_pos, n_kw, &out));
    return replace(vm, n, &out);
}

static slm_err make_macro(struct vm *vm, uint32_t index) {
    void *p;
    TRY(vm_alloc(vm, 1, sizeof(struct macro), &p));
    struct macro *m = p;
    *m = (struct macro){ .def = &vm->t->macros[index], .scope = vm->scope };
    for (struct scope *s = vm->scope; s != NULL && !s->captured; s = s->parent)
        s->captured = true;
    struct value v = { .type = V_MACRO };
    v.u.macro = m;
    return push(vm, &v);
}

/* ---- values ---- */

static slm_err make_list(struct vm *vm, const struct insn *in) {
    size_t n = (size_t)in->arg;
    struct list *l;
    TRY(list_new(vm, n, &l));
    if (n > 0)
        memcpy(l->items, vm->stack + vm->sp - n, n * sizeof *l->items);
    l->n = n;
    l->open = in->op == OP_LIST;
    const struct value v = v_list(in->op == OP_LIST ? V_LIST : V_TUPLE, l);
    return replace(vm, n, &v);
}

static slm_err make_dict(struct vm *vm, size_t n) {
    struct dict *d;
    TRY(dict_new(vm, &d));
    /* an empty display may come before the stack has any memory */
    const struct value *pairs = n > 0 ? vm->stack + vm->sp - 2 * n : NULL;
    for (size_t i = 0; i < n; i++)
        TRY(dict_set(vm, d, &pairs[2 * i], &pairs[2 * i + 1]));
    const struct value v = v_dict(d);
    return replace(vm, 2 * n, &v);
}

static slm_err unpack(struct vm *vm, size_t n) {
    struct list *l;
    const struct value v = *pop(vm);
    if (v.type == V_UNDEF)
        return undefined_error(vm, &v);
    TRY(iterate(vm, &v, &l));
    if (l->n != n)
        return vm_type_error(vm, "%zu values for %zu names", l->n, n);
    for (size_t i = n; i > 0; i--)
        TRY(push(vm, &l->items[i - 1]));
    return SLM_OK;
}

static slm_err store_attr(struct vm *vm, uint32_t name) {
    const struct value ns = *pop(vm), v = *pop(vm);
    if (ns.type != V_NS)
        return ns.type == V_UNDEF
                   ? undefined_error(vm, &ns)
                   : vm_type_error(vm, "attributes can only be set on a namespace, not on a %s",
                                   type_name(&ns));
    struct value key = { .type = V_STR };
    key.u.s = vm->t->words[name].str;
    return dict_set(vm, ns.u.d, &key, &v);
}

static slm_err compare(struct vm *vm, const struct insn *in) {
    bool result;
    struct value *b = pop(vm), *a = pop(vm);
    TRY(op_compare(vm, (enum compare)in->n, a, b, &result));
    struct value v = v_bool(result);
    if (in->op == OP_CHAIN && result)
        v = *b; /* stays for the next link */
    else if (in->op == OP_CHAIN)
        vm->pc += (size_t)(in->arg - 1);
    return push(vm, &v);
}

/* Instructions that turn the values on the stack into one. */
static slm_err compute(struct vm *vm, const struct insn *in) {
    const struct value *top = vm->stack + vm->sp; /* one past */
    struct value out;
    switch ((enum op)in->op) {
    case OP_ATTR:
        TRY(op_attr(vm, top - 1, vm->t->words[in->arg].str, &out));
        return replace(vm, 1, &out);
    case OP_ITEM:
        TRY(op_item(vm, top - 2, top - 1, &out));
        return replace(vm, 2, &out);
    case OP_SLICE:
        TRY(op_slice(vm, top - 4, top - 3, top - 2, top - 1, &out));
        return replace(vm, 4, &out);
    case OP_NOT:
        out = v_bool(!truth(top - 1));
        return replace(vm, 1, &out);
    case OP_NEG:
    case OP_POS:
        TRY(op_sign(vm, (enum op)in->op, top - 1, &out));
        return replace(vm, 1, &out);
    case OP_CONCAT:
        TRY(op_concat(vm, top - in->arg, (size_t)in->arg, &out));
        return replace(vm, (size_t)in->arg, &out);
    default:
        TRY(op_arith(vm, (enum op)in->op, top - 2, top - 1, &out));
        return replace(vm, 2, &out);
    }
}

/* Jumps. The distance counts from the instruction itself; pc is already one past it. */
static slm_err branch(struct vm *vm, const struct insn *in) {
    const struct value *top = vm->sp > 0 ? &vm->stack[vm->sp - 1] : NULL;
    bool taken = true, more;
    switch ((enum op)in->op) {
    case OP_JUMP_FALSE:
        taken = !truth(pop(vm));
        break;
    case OP_AND:
    case OP_OR:
        taken = truth(top) == (in->op == OP_OR);
        vm->sp -= !taken;
        break;
    case OP_NEXT:
        TRY(loop_next(vm, &more));
        taken = !more;
        break;
    case OP_RAN:
        taken = vm->loop_ran;
        break;
    case OP_CONTINUE: /* leaves captures and scopes inside the loop's body */
        vm->loop->completed |= in->n != 0;
        vm->sink = vm->loop->sink;
        while (vm->scope->parent != vm->loop->scope_before)
            vm->scope = vm->scope->parent;
        break;
    case OP_BREAK:
        loop_stop(vm);
        break;
    default:
        break;
    }
    if (taken)
        vm->pc += (size_t)(in->arg - 1); /* wraps for jumps backwards, as meant */
    return SLM_OK;
}

static slm_err step(struct vm *vm, const struct insn *in) {
    struct value v;
    switch ((enum op)in->op) {
    case OP_TEXT:
        return build_str(vm, vm->sink, vm->t->consts[in->arg].u.s);
    case OP_OUTPUT:
        return build_value(vm, vm->sink, pop(vm));
    case OP_CONST:
        return push(vm, &vm->t->consts[in->arg]);
    case OP_LOAD:
        TRY(lookup(vm, (uint32_t)in->arg, &v));
        return push(vm, &v);
    case OP_STORE:
        return scope_set(vm, vm->scope, (uint32_t)in->arg, pop(vm));
    case OP_STORE_NS:
        return store_attr(vm, (uint32_t)in->arg);
    case OP_UNPACK:
        return unpack(vm, in->n);
    case OP_UNDEF:
        v = v_undef();
        return push(vm, &v);
    case OP_LIST:
    case OP_TUPLE:
        return make_list(vm, in);
    case OP_DICT:
        return make_dict(vm, (size_t)in->arg);
    case OP_COMPARE:
    case OP_CHAIN:
        return compare(vm, in);
    case OP_UNBOUND:
        v = v_bool(scope_find(vm->scope, (uint32_t)in->arg) == NULL);
        return push(vm, &v);
    case OP_FILTER:
    case OP_TEST:
        return call_native(vm, in);
    case OP_CALL:
        return call(vm, in);
    case OP_CAPTURE:
        return capture(vm);
    case OP_CAPTURE_END:
        return capture_end(vm);
    case OP_SCOPE:
        return scope_enter(vm);
    case OP_UNSCOPE:
        vm->scope = vm->scope->parent;
        return SLM_OK;
    case OP_FOR:
        return loop_start(vm, in->n != 0);
    case OP_KEEP:
        return truth(pop(vm))
                   ? list_add(vm, vm->loop->kept, &vm->loop->items->items[vm->loop->i - 1])
                   : SLM_OK;
    case OP_KEPT:
        v = v_list(V_LIST, vm->kept);
        return push(vm, &v);
    case OP_MACRO:
        return make_macro(vm, (uint32_t)in->arg);
    case OP_RETURN:
        return frame_pop(vm);
    case OP_JUMP:
    case OP_JUMP_FALSE:
    case OP_AND:
    case OP_OR:
    case OP_NEXT:
    case OP_RAN:
    case OP_CONTINUE:
    case OP_BREAK:
        return branch(vm, in);
    default:
        return compute(vm, in);
    }
}

slm_err vm_run(struct vm *vm) {
    for (;;) {
        const struct insn *in = &vm->t->code[vm->pc++];
        if (in->op == OP_HALT)
            return SLM_OK;
        TRY(vm_charge(vm, 1));
        TRY(step(vm, in));
    }
}

/* ---- natives ---- */

const struct native *native_find(const struct native *table, const char *name, size_t n) {
    for (; table->name != NULL; table++)
        if (strlen(table->name) == n && memcmp(table->name, name, n) == 0)
            return table;
    return NULL;
}

const struct native *filter_find(const char *name, size_t n) {
    const struct native *f = native_find(jinja_filters, name, n);
    return f != NULL ? f : native_find(jinja_seq_filters, name, n);
}

const struct native *test_find(const char *name, size_t n) {
    return native_find(jinja_tests, name, n);
}

bool method_known(const char *name, size_t n) {
    return native_find(jinja_str_methods, name, n) != NULL ||
           native_find(jinja_list_methods, name, n) != NULL ||
           native_find(jinja_dict_methods, name, n) != NULL ||
           native_find(jinja_loop_methods, name, n) != NULL;
}

bool method_refused(const char *name, size_t n) {
    static const char *const names[] = { "clear",   "fromkeys",   "pop",
                                         "popitem", "setdefault", "update" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
            return true;
    return false;
}

/* Index of a parameter in "a,b,c", or NATIVE_ARGS_MAX. */
static unsigned param_index(const char *params, const char *name, size_t n) {
    for (unsigned i = 0; *params != '\0'; i++) {
        size_t len = strcspn(params, ",");
        if (len == n && memcmp(params, name, n) == 0)
            return i;
        params += len + (params[len] == ',');
    }
    return NATIVE_ARGS_MAX;
}

static unsigned param_count(const char *params) {
    unsigned n = *params != '\0';
    for (; *params != '\0'; params++)
        n += *params == ',';
    return n;
}

slm_err native_call(struct vm *vm, const struct native *f, const struct value *self,
                    const struct value *pos, size_t n_pos, const struct value *kw, size_t n_kw,
                    struct value *out) {
    struct call c = { .pos = pos, .kw = kw, .n_pos = n_pos, .n_kw = n_kw };
    if (f->params[0] == '*') {
        if (n_pos < f->min)
            return vm_type_error(vm, "'%s' needs at least %u arguments", f->name, f->min);
        return f->fn(vm, self, &c, out);
    }
    unsigned takes = param_count(f->params);
    if (n_pos > takes)
        return vm_type_error(vm, "'%s' takes %u arguments, not %zu", f->name, takes, n_pos);
    for (size_t i = 0; i < n_pos; i++)
        c.arg[i] = &pos[i];
    for (size_t i = 0; i < n_kw; i++) {
        const struct str *name = kw[2 * i].u.s;
        unsigned at = param_index(f->params, name->s, name->n);
        if (at == NATIVE_ARGS_MAX || c.arg[at] != NULL)
            return vm_type_error(vm, "'%s' %s '%.*s'", f->name,
                                 at == NATIVE_ARGS_MAX ? "takes no argument"
                                                       : "got two values for argument",
                                 (int)(name->n < 60 ? name->n : 60), name->s);
        c.arg[at] = &kw[2 * i + 1];
    }
    for (unsigned i = 0; i < f->min; i++)
        if (c.arg[i] == NULL)
            return vm_type_error(vm, "'%s' needs %u arguments", f->name, f->min);
    return f->fn(vm, self, &c, out);
}

bool arg_given(const struct call *c, unsigned i) {
    return c->arg[i] != NULL && c->arg[i]->type != V_NONE;
}

slm_err arg_int(struct vm *vm, const struct call *c, unsigned i, int64_t fallback, int64_t *out) {
    *out = fallback;
    if (!arg_given(c, i) || as_int(c->arg[i], out))
        return SLM_OK;
    return vm_type_error(vm, "argument %u is a %s, not a whole number", i + 1,
                         type_name(c->arg[i]));
}

bool arg_bool(const struct call *c, unsigned i, bool fallback) {
    return c->arg[i] != NULL ? truth(c->arg[i]) : fallback;
}

slm_err arg_str(struct vm *vm, const struct call *c, unsigned i, const struct str **out) {
    *out = NULL;
    if (!arg_given(c, i))
        return SLM_OK;
    if (c->arg[i]->type == V_UNDEF)
        return undefined_error(vm, c->arg[i]);
    if (c->arg[i]->type != V_STR)
        return vm_type_error(vm, "argument %u is a %s, not a str", i + 1, type_name(c->arg[i]));
    *out = c->arg[i]->u.s;
    return SLM_OK;
}
