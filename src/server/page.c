/* page.c - the table of the web page's files (page_blob.S) and the document with their address in it.
 *
 * In the document as it is in the tree that address is "page/0/"; the zero is replaced by the hash.
 * Style and scripts are sent lean: without the spaces in front of lines, without empty lines and without
 * comments that have their lines for themselves. The tree has no text over several lines in them that
 * this could change (a test compares what they do). */
#include "server/page.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define EMBEDDED(name) extern const unsigned char page_##name[], page_##name##_end[];
EMBEDDED(index)
EMBEDDED(style)
EMBEDDED(icon)
EMBEDDED(app)
EMBEDDED(chats)
EMBEDDED(client)
EMBEDDED(dom)
EMBEDDED(markdown)
EMBEDDED(messages)
EMBEDDED(models)
EMBEDDED(pictures)
EMBEDDED(settings)
EMBEDDED(sse)
EMBEDDED(theme)
#undef EMBEDDED

#define JS "text/javascript; charset=utf-8"
#define ROW(file, name, type) { file, type, page_##name, page_##name##_end }
static const struct row {
    const char *name, *type;
    const unsigned char *from, *to;
} rows[] = {
    ROW("style.css", style, "text/css; charset=utf-8"),
    ROW("icon.svg", icon, "image/svg+xml"),
    ROW("app.js", app, JS),
    ROW("chats.js", chats, JS),
    ROW("client.js", client, JS),
    ROW("dom.js", dom, JS),
    ROW("markdown.js", markdown, JS),
    ROW("messages.js", messages, JS),
    ROW("models.js", models, JS),
    ROW("pictures.js", pictures, JS),
    ROW("settings.js", settings, JS),
    ROW("sse.js", sse, JS),
    ROW("theme.js", theme, JS),
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

const struct page_header page_headers[] = {
    { "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
      "img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
      "require-trusted-types-for 'script'; trusted-types 'none'" },
    { "X-Content-Type-Options", "nosniff" },
    { "X-Frame-Options", "DENY" },
    { "Referrer-Policy", "no-referrer" },
    { "Cross-Origin-Opener-Policy", "same-origin" },
    { "Cross-Origin-Resource-Policy", "same-origin" },
    { "Permissions-Policy", "camera=(), microphone=(), geolocation=()" },
    { NULL, NULL },
};

struct text {
    char *data; /* [n] owned */
    size_t n;
};

struct page {
    struct text files[N_ROWS];
    struct text document;
    char hash[33];          /* of all files, hexadecimal */
    char etag[36];          /* of the files: the hash in quotes */
    char document_etag[36]; /* of the document */
};

static void hex(const uint64_t value[2], char out[33]) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)value[0], (unsigned long long)value[1]);
}

/* A copy of a row's file, lean if it is style or script. */
static bool make_lean(const struct row *row, struct text *out) {
    const char *s = (const char *)row->from, *end = (const char *)row->to;
    const bool lean = strncmp(row->type, "text/", 5) == 0;
    bool comment = false; /* in one that began with its line */
    char *to = out->data = malloc((size_t)(end - s) + 1);
    if (to == NULL)
        return false;
    while (s < end) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        stop = stop ? stop + 1 : end;
        const char *next = stop;
        if (lean)
            s += strspn(s, " ");
        if (lean && (comment || strncmp(s, "/*", 2) == 0)) {
            comment = memmem(s, (size_t)(stop - s), "*/", 2) == NULL;
        } else if (!lean || (*s != '\n' && strncmp(s, "//", 2) != 0)) {
            memcpy(to, s, (size_t)(stop - s));
            to += stop - s;
        }
        s = next;
    }
    out->n = (size_t)(to - out->data);
    return true;
}

static void hash_files(struct page *p) {
    struct hash h;
    uint64_t value[2];
    hash_init(&h, 0);
    for (size_t i = 0; i < N_ROWS; i++) {
        hash_add(&h, rows[i].name, strlen(rows[i].name) + 1);
        hash_add(&h, p->files[i].data, p->files[i].n);
    }
    hash_end(&h, value);
    hex(value, p->hash);
}

/* The document with every "page/0/" made "page/HASH/". */
static bool make_document(struct page *p) {
    static const char mark[] = "page/0/";
    const size_t n_mark = sizeof mark - 1, more = strlen(p->hash) - 1;
    const char *from = (const char *)page_index, *end = (const char *)page_index_end;
    size_t marks = 0;
    for (const char *s = from; (s = memmem(s, (size_t)(end - s), mark, n_mark)); s += n_mark)
        marks++;
    char *to = p->document.data = malloc((size_t)(end - from) + marks * more + 1);
    if (to == NULL)
        return false;
    for (const char *s; (s = memmem(from, (size_t)(end - from), mark, n_mark)); from = s + n_mark) {
        memcpy(to, from, (size_t)(s - from));
        to += s - from;
        to += snprintf(to, n_mark + more + 1, "page/%s/", p->hash);
    }
    memcpy(to, from, (size_t)(end - from));
    p->document.n = (size_t)(to - p->document.data) + (size_t)(end - from);
    return true;
}

struct page *page_open(void) {
    struct page *p = calloc(1, sizeof *p);
    uint64_t value[2];
    char text[33];
    bool ok = p != NULL;
    for (size_t i = 0; ok && i < N_ROWS; i++)
        ok = make_lean(&rows[i], &p->files[i]);
    if (ok) {
        hash_files(p);
        ok = make_document(p);
    }
    if (!ok) {
        page_close(p);
        return NULL;
    }
    hash_bytes(p->document.data, p->document.n, 0, value);
    hex(value, text);
    snprintf(p->etag, sizeof p->etag, "\"%s\"", p->hash);
    snprintf(p->document_etag, sizeof p->document_etag, "\"%s\"", text);
    return p;
}

void page_close(struct page *p) {
    if (p == NULL)
        return;
    for (size_t i = 0; i < N_ROWS; i++)
        free(p->files[i].data);
    free(p->document.data);
    free(p);
}

bool page_find(const struct page *p, const char *path, struct page_file *out) {
    const size_t n_hash = strlen(p->hash);
    if (strcmp(path, "/") == 0) {
        *out = (struct page_file){ "text/html; charset=utf-8", "no-cache", p->document_etag,
                                   p->document.data, p->document.n };
        return true;
    }
    if (strncmp(path, "/page/", 6) != 0 || strncmp(path + 6, p->hash, n_hash) != 0 ||
        path[6 + n_hash] != '/')
        return false;
    const char *name = path + 6 + n_hash + 1;
    for (size_t i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name) == 0) {
            *out = (struct page_file){ rows[i].type, "public, max-age=31536000, immutable",
                                       p->etag, p->files[i].data, p->files[i].n };
            return true;
        }
    return false;
}

bool page_fresh(const struct page_file *file, const char *if_none_match) {
    const size_t n = strlen(file->etag);
    for (const char *s = if_none_match; s && *s;) {
        s += strspn(s, " \t,");
        if (*s == '*')
            return true;
        if (strncmp(s, "W/", 2) == 0)
            s += 2;
        if (strncmp(s, file->etag, n) == 0)
            return true;
        s = strchr(s, ',');
    }
    return false;
}
