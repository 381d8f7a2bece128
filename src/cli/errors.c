/* errors.c - how the program says that something went wrong.
 *
 * On standard error: what happened with the two numbers, then the ways out, one per line. With
 * --json the same as {"error":{"code","message","offset"?,"ways"?}} on standard output, so that a
 * script always finds one document there. Exit codes: DESIGN.md section 2. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int exit_code_of(enum stage stage, slm_err err) {
    switch (err) {
    case SLM_OK:
        return EXIT_DONE;
    case SLM_E_CANCELLED:
        return EXIT_INTERRUPTED;
    case SLM_E_MEMORY:
        return EXIT_MEMORY_REFUSED;
    case SLM_E_FORMAT:
    case SLM_E_UNSUPPORTED:
    case SLM_E_MISMATCH:
    case SLM_E_TEMPLATE:
    case SLM_E_BUDGET:
    case SLM_E_NUMERIC:
    case SLM_E_ENCODING:
        return stage == AT_LOAD ? EXIT_FILE_REFUSED : EXIT_COULD_NOT;
    default:
        return EXIT_COULD_NOT;
    }
}

static json_t *lines_json(const char *lines) {
    json_t *list = keep_json(json_array());
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        if (n)
            json_array_append_new(list, json_stringn(lines, n));
        lines += n + (lines[n] == '\n');
    }
    return list;
}

static int report_text(struct cli *c, int code, const char *name, uint64_t offset, const char *ways,
                       const char *message) {
    if (c->json) {
        json_t *error = keep_json(json_pack("{s:s, s:s}", "code", name, "message", message));
        if (offset != SLM_NO_OFFSET)
            json_object_set_new(error, "offset", json_integer((json_int_t)offset));
        if (ways)
            json_object_set_new(error, "ways", lines_json(ways));
        out_json(&c->out, json_pack("{s:o}", "error", error), false);
        out_flush(&c->out);
        return code;
    }
    out_flush(&c->out);
    fprintf(stderr, "slm: %s", message);
    if (offset != SLM_NO_OFFSET)
        fprintf(stderr, " (at byte %llu)", (unsigned long long)offset);
    fputc('\n', stderr);
    while (ways && *ways) {
        size_t n = strcspn(ways, "\n");
        fprintf(stderr, "  %.*s\n", (int)n, ways);
        ways += n + (ways[n] == '\n');
    }
    return code;
}

int report(struct cli *c, int code, const char *name, const char *ways, const char *format, ...) {
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    return report_text(c, code, name, SLM_NO_OFFSET, ways, message);
}

int report_usage(struct cli *c, const char *ways, const char *format, ...) {
    char message[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    return report_text(c, EXIT_USAGE, "E_USAGE", SLM_NO_OFFSET, ways, message);
}

int report_error(struct cli *c, enum stage stage, slm_err err, const slm_why *why,
                 const char *ways) {
    int code = exit_code_of(stage, err);
    if (err == SLM_E_CANCELLED)
        return c->json ? report_text(c, code, "E_CANCELLED", SLM_NO_OFFSET, NULL, "interrupted")
                       : code;
    const char *message = why->message[0] ? why->message : slm_err_text(err);
    return report_text(c, code, slm_err_name(err), why->offset, ways, message);
}

json_t *error_json(slm_err err, const slm_why *why) {
    json_t *error = keep_json(json_pack("{s:s, s:s}", "code", slm_err_name(err), "message",
                                        why->message[0] ? why->message : slm_err_text(err)));
    if (why->offset != SLM_NO_OFFSET)
        json_object_set_new(error, "offset", json_integer((json_int_t)why->offset));
    return error;
}

void note(const struct cli *c, const char *format, ...) {
    va_list list;
    if (c->quiet)
        return;
    va_start(list, format);
    fputs("slm: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}
