/* test_page_files.c - the web page's files as the server gives them: addresses, ETags, headers, size,
 * and that what is taken out of scripts and style is only what nobody misses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "server/page.h"

static const char *const names[] = { "style.css",   "icon.svg",  "app.js",      "chats.js",
                                     "client.js",   "dom.js",    "markdown.js", "messages.js",
                                     "models.js",   "settings.js", "sse.js",    "theme.js" };

static struct page *opened(void) {
    struct page *p = page_open();
    assert_non_null(p);
    return p;
}

/* "/page/HASH/name", with the hash that the document names. */
static void address(const struct page *p, const char *name, char *out, size_t size) {
    struct page_file file;
    assert_true(page_find(p, "/", &file));
    const char *at = memmem(file.data, file.n, "page/", 5);
    assert_non_null(at);
    snprintf(out, size, "/page/%.32s/%s", at + 5, name);
}

static void test_every_file(void **state) {
    (void)state;
    struct page *p = opened();
    struct page_file document, file;
    size_t total = 0;
    assert_true(page_find(p, "/", &document));
    assert_string_equal(document.type, "text/html; charset=utf-8");
    assert_string_equal(document.cache, "no-cache");
    assert_null(memmem(document.data, document.n, "page/0/", 7));
    total += document.n;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[128];
        address(p, names[i], path, sizeof path);
        assert_true(page_find(p, path, &file));
        assert_true(file.n > 0);
        assert_non_null(strstr(file.cache, "immutable"));
        assert_string_not_equal(file.etag, document.etag);
        assert_null(memmem(file.data, file.n, "innerHTML", 9));
        assert_null(memmem(file.data, file.n, "eval(", 5));
        total += file.n;
    }
    assert_true(total < 100 * 1024);
    page_close(p);
}

static void test_what_is_not_there(void **state) {
    (void)state;
    static const char *const wrong[] = { "", "/page", "/page/", "/page/0/app.js", "/index.html",
                                         "/page/00000000000000000000000000000000/app.js", "//" };
    struct page *p = opened();
    struct page_file file;
    char path[128];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(page_find(p, wrong[i], &file));
    static const char *const bad[] = { "", "../app.js", "app.js/", "APP.JS", "index.html" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        address(p, bad[i], path, sizeof path);
        assert_false(page_find(p, path, &file));
    }
    /* every beginning of a right address */
    address(p, "app.js", path, sizeof path);
    while (strlen(path) > 1) {
        path[strlen(path) - 1] = 0;
        assert_true(!page_find(p, path, &file) || strcmp(path, "/") == 0);
    }
    page_close(p);
}

static void test_fresh(void **state) {
    (void)state;
    struct page *p = opened();
    struct page_file file;
    char text[256];
    assert_true(page_find(p, "/", &file));
    assert_false(page_fresh(&file, NULL));
    assert_false(page_fresh(&file, ""));
    assert_false(page_fresh(&file, "\"other\""));
    assert_true(page_fresh(&file, file.etag));
    assert_true(page_fresh(&file, "*"));
    snprintf(text, sizeof text, "\"a\", W/%s ,\"b\"", file.etag);
    assert_true(page_fresh(&file, text));
    snprintf(text, sizeof text, "x%s", file.etag);
    assert_false(page_fresh(&file, text));
    snprintf(text, sizeof text, "%.*s", (int)strlen(file.etag) - 1, file.etag);
    assert_false(page_fresh(&file, text));
    page_close(p);
}

static void test_same_each_time(void **state) {
    (void)state;
    struct page *a = opened(), *b = opened();
    struct page_file x, y;
    assert_true(page_find(a, "/", &x) && page_find(b, "/", &y));
    assert_string_equal(x.etag, y.etag);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.data, y.data, x.n);
    page_close(a);
    page_close(b);
    page_close(NULL);
}

/* Comments and indents are gone, the code and the words in it are not. */
static void test_lean(void **state) {
    (void)state;
    struct page *p = opened();
    struct page_file file;
    char path[128];
    address(p, "sse.js", path, sizeof path);
    assert_true(page_find(p, path, &file));
    assert_null(memmem(file.data, file.n, "\n ", 2));
    assert_null(memmem(file.data, file.n, "Living Standard", 15));
    assert_non_null(memmem(file.data, file.n, "export class EventParser {\nconstructor(", 39));
    assert_non_null(memmem(file.data, file.n, "this.id = value;\n}\n}\n}\n", 23));
    address(p, "icon.svg", path, sizeof path);
    assert_true(page_find(p, path, &file));
    assert_memory_equal(file.data, "<svg ", 5);
    page_close(p);
}

static const char *header(const char *name) {
    for (const struct page_header *h = page_headers; h->name; h++)
        if (strcmp(h->name, name) == 0)
            return h->value;
    fail_msg("no header %s", name);
    return NULL;
}

static void test_policy(void **state) {
    (void)state;
    const char *policy = header("Content-Security-Policy");
    static const char *const parts[] = {
        "default-src 'none'", "script-src 'self'", "style-src 'self'",  "connect-src 'self'",
        "form-action 'none'", "base-uri 'none'",   "frame-ancestors 'none'",
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        assert_non_null(strstr(policy, parts[i]));
    assert_null(strstr(policy, "unsafe"));
    assert_null(strstr(policy, "http"));
    assert_string_equal(header("X-Content-Type-Options"), "nosniff");
    assert_string_equal(header("Referrer-Policy"), "no-referrer");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_file), cmocka_unit_test(test_what_is_not_there),
        cmocka_unit_test(test_fresh),      cmocka_unit_test(test_same_each_time),
        cmocka_unit_test(test_lean),       cmocka_unit_test(test_policy),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
