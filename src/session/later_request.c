#include <string.h>
#include "chat/request.h"
#define WEAK __attribute__((weak))
WEAK slm_err request_read(const struct slm_hooks *h, const json_t *root, enum call_dialect dialect,
                     struct request_think think, struct request *out, slm_why *why) {
    memset(out, 0, sizeof *out);
    buf_init(&out->warnings, h, 4096);
    const json_t *messages = json_object_get(root, "messages"), *kwargs = json_object_get(root, "kwargs");
    if (!json_is_object(root) || !json_is_array(messages))
        return fail(why, SLM_E_FORMAT, 0, "a conversation is an object with an array \"messages\"");
    if (kwargs != NULL && !json_is_null(kwargs) && !json_is_object(kwargs))
        return fail(why, SLM_E_FORMAT, 0, "\"kwargs\" is not an object");
    out->messages = json_incref((json_t *)(uintptr_t)messages);
    out->kwargs = json_object();
    if (out->kwargs == NULL || (json_is_object(kwargs) && json_object_update(out->kwargs, (json_t *)(uintptr_t)kwargs) != 0)) {
        json_decref(out->messages); json_decref(out->kwargs);
        return fail_nomem(why, "kwargs", 0);
    }
    const json_t *t = json_object_get(root, "think"), *tools = json_object_get(root, "tools");
    out->thinks = think.can_switch || think.always;
    out->many_calls = !json_is_false(json_object_get(root, "parallel_tool_calls"));
    if (json_is_boolean(t)) {
        if (json_is_true(t) ? !out->thinks : think.always)
            return fail(why, SLM_E_ARG, 0, "\"think\": this model cannot");
        json_object_set_new(out->kwargs, "enable_thinking", json_boolean(json_is_true(t)));
        out->no_think = json_is_false(t);
    }
    if (json_is_array(tools) && json_array_size(tools) > 0 && dialect != CALLS_NONE) {
        out->tools = json_incref((json_t *)(uintptr_t)tools);
        json_object_set(out->kwargs, "tools", out->tools);
    }
    const char *choice = json_string_value(json_object_get(root, "tool_choice"));
    if (choice != NULL && strcmp(choice, "required") == 0) out->choice = TOOLS_REQUIRED;
    if (choice != NULL && strcmp(choice, "none") == 0) out->choice = TOOLS_NO;
    const json_t *f = json_object_get(root, "format");
    out->format = f != NULL ? json_incref((json_t *)(uintptr_t)f) : NULL;
    return SLM_OK;
}
WEAK void request_free(const struct slm_hooks *h, struct request *r) {
    json_decref(r->messages); json_decref(r->kwargs); json_decref(r->tools); json_decref(r->format);
    mem_free(h, r->tool_name);
    buf_free(&r->warnings);
    memset(r, 0, sizeof *r);
}
