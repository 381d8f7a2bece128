/* result.c - what a tool gave back, as text for a model; and the transcript of a run. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/toolbox.h"
#include "base/mem.h"
#include "base/pool.h"
#include "cli/cli.h"

/* ------------------------------------------------------------------ content */

static const char *text_of(const json_t *o, const char *key, const char *fallback) {
    const char *v = json_string_value(json_object_get(o, key));
    return v ? v : fallback;
}

/* Bytes that base64 stands for. */
static size_t binary_size(const json_t *data) {
    size_t n = json_string_length(data), pad = 0;
    const char *text = json_string_value(data);
    while (pad < 2 && pad < n && text[n - 1 - pad] == '=')
        pad++;
    return n / 4 * 3 - (n >= 4 ? pad : 0);
}

static void put_resource(struct buf *b, const json_t *r) {
    const char *text = json_string_value(json_object_get(r, "text"));
    const char *uri = text_of(r, "uri", "?");
    if (text)
        buf_printf(b, "[resource %s]\n%s", uri, text);
    else
        buf_printf(b, "[resource %s, %s, %zu bytes: not shown]", uri,
                   text_of(r, "mimeType", "unknown type"), binary_size(json_object_get(r, "blob")));
}

static void put_content(struct buf *b, const json_t *item) {
    const char *type = text_of(item, "type", "");
    if (strcmp(type, "text") == 0)
        buf_puts(b, text_of(item, "text", ""));
    else if (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0)
        buf_printf(b, "[%s %s, %zu bytes: not shown]", type, text_of(item, "mimeType", "?"),
                   binary_size(json_object_get(item, "data")));
    else if (strcmp(type, "resource") == 0)
        put_resource(b, json_object_get(item, "resource"));
    else if (strcmp(type, "resource_link") == 0)
        buf_printf(b, "[link %s %s%s%s]", text_of(item, "name", ""), text_of(item, "uri", "?"),
                   json_object_get(item, "description") ? ": " : "", text_of(item, "description", ""));
    else
        buf_printf(b, "[content of the unknown type '%.40s': not shown]", type);
}

char *result_text(const json_t *result, size_t *n) {
    const json_t *content = json_object_get(result, "content"), *item;
    json_t *structured = json_object_get(result, "structuredContent");
    struct buf b;
    size_t i;
    bool texts = false;
    buf_init(&b, NULL, 8 * (size_t)MCP_LINE_MOST);
    json_array_foreach(content, i, item) {
        texts |= strcmp(text_of(item, "type", ""), "text") == 0;
        buf_puts(&b, b.len ? "\n" : "");
        put_content(&b, item);
    }
    if (structured && !texts) {
        char *dump = keep(json_dumps(structured, JSON_COMPACT | JSON_ENCODE_ANY));
        buf_puts(&b, b.len ? "\n" : "");
        buf_puts(&b, dump);
        free(dump);
    }
    if (!b.len && !b.err)
        buf_puts(&b, "[the tool gave nothing back]");
    *n = b.len;
    return keep(buf_take(&b));
}

size_t result_cut(const char *text, size_t n, size_t most) {
    if (n <= most)
        return n;
    while (most && ((unsigned char)text[most] & 0xc0) == 0x80)
        most--;
    return most;
}

/* ------------------------------------------------------------------ transcript */

int transcript_open(struct transcript *t, const char *path) {
    struct stat s;
    memset(t, 0, sizeof *t);
    snprintf(t->path, sizeof t->path, "%s", path);
    t->start_ns = clock_ns();
    t->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (t->fd < 0)
        return t->failed = errno;
    if (fstat(t->fd, &s) == 0 && !S_ISREG(s.st_mode)) {
        close(t->fd);
        t->fd = -1;
        return t->failed = EINVAL;
    }
    return 0;
}

static bool write_all(int fd, const char *text, size_t n) {
    while (n) {
        ssize_t k = write(fd, text, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return false;
        text += k;
        n -= (size_t)k;
    }
    return true;
}

bool transcript_put(struct transcript *t, const char *event, json_t *fields) {
    bool ok = t->failed == 0;
    if (t->fd >= 0 && ok) {
        json_int_t ms = (json_int_t)((clock_ns() - t->start_ns) / 1000000);
        json_t *line = keep_json(json_pack("{s:s, s:I}", "event", event, "t_ms", ms));
        if (fields)
            json_object_update(line, fields);
        char *dump = keep(json_dumps(line, JSON_COMPACT)), *text = text_printf("%s\n", dump);
        ok = write_all(t->fd, text, strlen(text)); /* in one piece: a reader sees whole lines */
        t->failed = ok ? 0 : errno;
        free(text);
        free(dump);
        json_decref(line);
    }
    json_decref(fields);
    return ok;
}

void transcript_close(struct transcript *t) {
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
}
