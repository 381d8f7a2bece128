/* test_hub.c - the parts of the hub's client that judge what comes from outside: names, hashes,
 * lists, headers, addresses; and the cache's folders. No network. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/hub.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void names(void **state) {
    static const char *const good[] = { "a/b", "Qwen/Qwen3-0.6B-GGUF", "ggml-org/SmolLM3-3B-GGUF",
                                        "x_y/z.1" };
    static const char *const bad[] = { "",       "a",      "/",      "a/",    "/b",
                                       "a/b/c",  "../b",   "a/..",   "a/.b",  "-a/b",
                                       "a/b-",   "a--b/c", "a/b..c", "a b/c", "a/b\n",
                                       "a\\b/c", "a/b%2f", "a/b?x",  "a/b#",  "\xc3\xa9/b" };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(hub_repo_ok(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (hub_repo_ok(bad[i]))
            fail_msg("repository '%s' was accepted", bad[i]);
    assert_true(hub_revision_ok("main") && hub_revision_ok("refs/pr/1") && hub_revision_ok(COMMIT));
    assert_false(hub_revision_ok("") || hub_revision_ok("../x") || hub_revision_ok("a//b") ||
                 hub_revision_ok("a b") || hub_revision_ok("-x") || hub_revision_ok("a/./b") ||
                 hub_revision_ok("a/") || hub_revision_ok("/a"));
}

static void paths(void **state) {
    static const char *const good[] = { "a",   "config.json", "sub/dir/x.gguf", "...",
                                        "..a", "a..",         ".gitattributes", "caf\xc3\xa9.txt" };
    static const char *const bad[] = { "",
                                       "/a",
                                       "a/",
                                       "a//b",
                                       "..",
                                       ".",
                                       "../a",
                                       "a/../b",
                                       "a/.",
                                       "./a",
                                       "a\\b",
                                       "a\nb",
                                       "a\x7f",
                                       "\xff",
                                       "a\xc2\x85",
                                       "\xe2\x80\xae"
                                       "abc",
                                       "\xed\xa0\x80" };
    char longer[2000];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!hub_path_ok(good[i]))
            fail_msg("path '%s' was refused", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (hub_path_ok(bad[i]))
            fail_msg("path '%s' was accepted", bad[i]);
    memset(longer, 'a', sizeof longer);
    longer[256] = 0;
    assert_false(hub_path_ok(longer)); /* one name of 256 bytes */
    longer[255] = 0;
    assert_true(hub_path_ok(longer));
    for (size_t i = 0; i < sizeof longer; i++)
        longer[i] = i % 2 ? '/' : 'a';
    longer[2 * 16 - 1] = 0;
    assert_true(hub_path_ok(longer)); /* 16 deep */
    longer[2 * 16 - 1] = '/';
    longer[2 * 17 - 1] = 0;
    assert_false(hub_path_ok(longer));
    assert_true(hub_hex_ok(COMMIT, 40) && hub_hex_ok(SHA256, 64));
    assert_false(hub_hex_ok(COMMIT, 64) ||
                 hub_hex_ok("0123456789ABCDEF0123456789abcdef01234567", 40) || hub_hex_ok("", 40));
}

static slm_err tree(const char *text, struct hub_listing *l) {
    slm_why why;
    memset(l, 0, sizeof *l);
    return hub_parse_tree(text, strlen(text), l, &why);
}

static void lists(void **state) {
    struct hub_listing l;
    slm_why why;
    (void)state;
    assert_int_equal(tree("[{\"type\":\"directory\",\"path\":\"../x\"},"
                          "{\"type\":\"file\",\"path\":\"c.json\",\"size\":7,\"oid\":\"" COMMIT
                          "\"},"
                          "{\"type\":\"file\",\"path\":\"m/w.gguf\",\"size\":130,\"oid\":\"" COMMIT
                          "\",\"lfs\":{\"oid\":\"" SHA256
                          "\",\"size\":1000,\"pointerSize\":130},\"xetHash\":\"zz\"}]",
                          &l),
                     SLM_OK);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.files[0].path, "c.json");
    assert_int_equal(l.files[0].size, 7);
    assert_false(l.files[0].sha256);
    assert_string_equal(l.files[1].hash, SHA256);
    assert_int_equal(l.files[1].size, 1000);
    assert_true(l.files[1].sha256);
    assert_int_equal(hub_parse_tree("[]", 2, &l, &why), SLM_OK); /* a page more */
    assert_int_equal(l.n, 2);
    hub_listing_free(&l);
    static const char *const bad[] = {
        "",
        "{}",
        "null",
        "[1]",
        "[[]]",
        "[null]",
        "[{}]",
        "[{\"type\":\"file\"}]",
        "[{\"type\":7}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":1}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"" SHA256 "\"}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":1,\"oid\":\"" COMMIT
        "\",\"lfs\":{\"oid\":\"" COMMIT "\",\"size\":1}}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":\"1\",\"oid\":\"" COMMIT "\"}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":1125899906842625,\"oid\":\"" COMMIT "\"}]",
        "[{\"type\":\"file\",\"path\":\"a/../b\",\"size\":1,\"oid\":\"" COMMIT "\"}]",
        "[{\"type\":\"file\",\"path\":[\"a\"],\"size\":1,\"oid\":\"" COMMIT "\"}]",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (tree(bad[i], &l) == SLM_OK)
            fail_msg("list %zu was accepted", i);
        hub_listing_free(&l);
    }
}

/* Every prefix and every single changed byte of a good list ends well, with files that are accepted. */
static void damaged_lists(void **state) {
    static const char good[] = "[{\"type\":\"file\",\"path\":\"ab/c\",\"size\":70,\"oid\":\"" COMMIT
                               "\",\"lfs\":{\"oid\":\"" SHA256 "\",\"size\":1}}]";
    struct hub_listing l;
    slm_why why;
    char text[sizeof good];
    (void)state;
    for (size_t i = 0; i + 1 < sizeof good; i++)
        for (int value = -1; value < 256; value += value < 0 ? 1 : 5) {
            memcpy(text, good, sizeof good);
            if (value >= 0)
                text[i] = (char)value;
            memset(&l, 0, sizeof l);
            hub_parse_tree(text, value < 0 ? i : sizeof good - 1, &l, &why);
            for (size_t k = 0; k < l.n; k++)
                assert_true(hub_path_ok(l.files[k].path) &&
                            hub_hex_ok(l.files[k].hash, l.files[k].sha256 ? 64 : 40));
            hub_listing_free(&l);
        }
}

static void info(void **state) {
    static const char good[] =
        "{\"sha\":\"" COMMIT "\",\"gated\":\"manual\",\"cardData\":{\"license\":\"other\","
                             "\"license_name\":\"x\\u001b[2Jy\"}}";
    struct hub_listing l = { 0 };
    slm_why why;
    (void)state;
    assert_int_equal(hub_parse_info(good, sizeof good - 1, &l, &why), SLM_OK);
    assert_string_equal(l.commit, COMMIT);
    assert_string_equal(l.licence, "x?[2Jy");
    assert_true(l.gated);
    static const char *const bad[] = { "{}",
                                       "[]",
                                       "{\"sha\":1}",
                                       "{\"sha\":\"\"}",
                                       "{\"sha\":\"" COMMIT "0\"}",
                                       "{\"sha\":\"../x\"}",
                                       "\"x\"" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_not_equal(hub_parse_info(bad[i], strlen(bad[i]), &l, &why), SLM_OK);
}

static void headers(void **state) {
    char url[64];
    uint64_t a, b, c;
    (void)state;
    assert_true(hub_next_link("<http://x/1>; rel=\"next\"", url, sizeof url));
    assert_string_equal(url, "http://x/1");
    assert_true(
        hub_next_link("<http://x/0>; rel=\"prev\", <http://x/2>; rel=\"next\"", url, sizeof url));
    assert_string_equal(url, "http://x/2");
    assert_false(hub_next_link("<http://x/0>; rel=\"prev\"", url, sizeof url));
    assert_false(hub_next_link("<http://x", url, sizeof url));
    assert_false(hub_next_link("", url, sizeof url));
    assert_false(hub_next_link("<>; rel=\"next\"", url, sizeof url));
    assert_false(hub_next_link(
        "<http://xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx>; "
        "rel=\"next\"",
        url, sizeof url));
    assert_true(hub_parse_range("bytes 5-9/10", &a, &b, &c) && a == 5 && b == 9 && c == 10);
    assert_true(hub_parse_range("bytes 0-0/*", &a, &b, &c) && c == UINT64_MAX);
    static const char *const bad[] = { "",
                                       "bytes",
                                       "bytes 5-9",
                                       "bytes 9-5/10",
                                       "bytes 5-10/10",
                                       "bytes -9/10",
                                       "bytes 5-/10",
                                       "items 5-9/10",
                                       "bytes 5-9/10x",
                                       "bytes */10",
                                       "bytes 99999999999999999999-9/10" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(hub_parse_range(bad[i], &a, &b, &c));
}

static void origins(void **state) {
    char o[HUB_ORIGIN_MOST];
    bool https, safe;
    (void)state;
    assert_true(hub_origin("https://Hub.Example/x?y", o, &https, &safe) && https && safe);
    assert_string_equal(o, "https://hub.example:443");
    assert_true(hub_origin("http://127.0.0.1:8080/", o, &https, &safe) && !https && safe);
    assert_string_equal(o, "http://127.0.0.1:8080");
    assert_true(hub_origin("http://[::1]:1/", o, &https, &safe) && safe);
    assert_true(hub_origin("http://localhost/", o, &https, &safe) && safe);
    static const char *const unsafe[] = { "http://hub.example/", "http://127.0.0.1.example/",
                                          "http://10.0.0.1/",    "http://localhost.example/",
                                          "ftp://127.0.0.1/",    "file:///etc/passwd" };
    for (size_t i = 0; i < ARRAY_LEN(unsafe); i++)
        assert_false(hub_origin(unsafe[i], o, &https, &safe) && safe);
    assert_false(hub_origin("https://name@hub.example/", o, &https, &safe));
    assert_false(hub_origin("https://name:word@hub.example/", o, &https, &safe));
    assert_false(hub_origin("not an address", o, &https, &safe));
    struct buf b;
    buf_init(&b, NULL, 100);
    hub_escape(&b, "a b/c%?#\xc3\xa9", true);
    assert_string_equal(b.data, "a%20b/c%25%3F%23%C3%A9");
    buf_free(&b);
}

static void text(void **state) {
    char a[] = "x\x1b[31m\xff\xc2\x9b"
               "y\xc3\xa9";
    (void)state;
    hub_clean(a);
    assert_string_equal(a, "x?[31m???y\xc3\xa9");
}

/* refs, partial sizes, links and their way up, in a folder of the test's own */
static void cache(void **state) {
    char root[] = "/tmp/slm-hub-XXXXXX", target[256], commit[HUB_COMMIT_MOST];
    struct hub_cache k;
    slm_why why;
    struct hub_file f = {
        .path = (char[]){ "sub/deep/w.gguf" }, .size = 3, .hash = SHA256, .sha256 = true
    };
    (void)state;
    assert_non_null(mkdtemp(root));
    setenv("HF_HUB_CACHE", root, 1);
    assert_int_equal(hub_cache_open(&k, "org/name", COMMIT, false, &why), SLM_OK);
    assert_int_equal(k.repo, -1);
    assert_false(hub_cache_has_blob(&k, &f) || hub_cache_ref(&k, "main", commit));
    assert_true(hub_cache_free_bytes(&k) > 0);
    hub_cache_close(&k);
    assert_int_equal(hub_cache_open(&k, "org/name", COMMIT, true, &why), SLM_OK);
    assert_int_equal(hub_cache_set_ref(&k, "refs/pr/3", &why), SLM_OK);
    assert_true(hub_cache_ref(&k, "refs/pr/3", commit));
    assert_string_equal(commit, COMMIT);
    assert_true(hub_cache_ref(&k, COMMIT, commit)); /* a commit is its own name */
    int fd = openat(k.blobs, SHA256 ".incomplete", O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "ab", 2), 2);
    close(fd);
    assert_int_equal(hub_cache_partial(&k, &f), 2);
    assert_int_equal(renameat(k.blobs, SHA256 ".incomplete", k.blobs, SHA256), 0);
    assert_false(hub_cache_has_blob(&k, &f)); /* two bytes, not three */
    f.size = 2;
    assert_true(hub_cache_has_blob(&k, &f));
    for (int i = 0; i < 2; i++) /* the second time it is there already */
        assert_int_equal(hub_cache_link(&k, &f, &why), SLM_OK);
    char *path = hub_cache_path(&k, f.path);
    ssize_t n = readlink(path, target, sizeof target - 1);
    assert_true(n > 0);
    target[n] = 0;
    assert_string_equal(target, "../../../../blobs/" SHA256);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, 2);
    free(path);
    hub_cache_close(&k);
    char *clean = text_printf("rm -rf %s", root);
    assert_int_equal(system(clean), 0);
    free(clean);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),         cmocka_unit_test(paths), cmocka_unit_test(lists),
        cmocka_unit_test(damaged_lists), cmocka_unit_test(info),  cmocka_unit_test(headers),
        cmocka_unit_test(origins),       cmocka_unit_test(text),  cmocka_unit_test(cache),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
