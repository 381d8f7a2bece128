/* events.c - the log: one JSON object a line on standard error for each thing that happened.
 *
 * What comes from clients is quoted and cut; bodies are only written when that was asked for. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "server/core.h"

const char *log_quote(const char *s, char *text, size_t size) {
    struct buf b;
    buf_init(&b, NULL, size - 1);
    size_t n = strlen(s);
    /* a character takes up to six bytes as an escape */
    if (n > (size - 3) / 6)
        n = (size - 3) / 6;
    json_quote(&b, s, n);
    snprintf(text, size, "%s", b.err == SLM_OK && b.data ? b.data : "\"\"");
    buf_free(&b);
    return text;
}

void log_event(struct server *s, const char *event, const char *format, ...) {
    char line[4096];
    struct timespec now;
    struct tm utc;
    va_list args;
    if (s->cli->quiet)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof line, "{\"time\":\"%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ\",\"event\":\"%s\"",
                          now.tv_nsec / 1000000, event);
    if (format[0]) {
        line[n++] = ',';
        va_start(args, format);
        int more = vsnprintf(line + n, sizeof line - n - 3, format, args);
        va_end(args);
        n += more < 0 ? 0 : (size_t)more < sizeof line - n - 4 ? (size_t)more : sizeof line - n - 4;
    }
    line[n++] = '}';
    line[n++] = '\n';
    /* one write, so that lines of several threads do not mix */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}

void log_exchange(struct exchange *x) {
    char path[1600], model[600], key[200] = "null";
    struct server *s = x->server;
    if (s->cli->quiet)
        return;
    log_quote(x->path ? x->path : "", path, sizeof path);
    if (x->key)
        log_quote(x->key->name, key, sizeof key);
    log_quote(x->model_name[0] ? x->model_name : "", model, sizeof model);
    log_event(s, "request",
              "\"id\":\"%s\",\"client\":\"%s\",\"key\":%s,\"method\":\"%s\",\"path\":%s,"
              "\"status\":%d,\"ms\":%llu,\"model\":%s,\"prompt_tokens\":%llu,"
              "\"cached_tokens\":%llu,\"output_tokens\":%llu,\"finish\":\"%s\"",
              x->id, x->client, key, x->method, path, x->status,
              (unsigned long long)((clock_ns() - x->arrived_ns) / 1000000), model,
              (unsigned long long)x->tokens_in, (unsigned long long)x->tokens_cached,
              (unsigned long long)x->tokens_out,
              x->finish ? x->finish : exchange_left(x) ? "left" : "");
}

void log_body(const struct exchange *x) {
    char text[3000];
    log_event(x->server, "prompt", "\"id\":\"%s\",\"body\":%s", x->id,
              log_quote(x->body.data ? x->body.data : "", text, sizeof text));
}
