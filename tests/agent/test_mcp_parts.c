/* test_mcp_parts.c - the parts of the MCP client by themselves: messages, event streams, configurations,
 * marked parameters, names of tools, results as text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/mirror.h"
#include "agent/rpc.h"
#include "agent/toolbox.h"
#include "agent/wire.h"
#include "base/json.h"
#include "cli/cli.h"

/* ------------------------------------------------------------------ messages */

static void messages(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum rpc_kind kind;
    } good[] = {
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", RPC_RESULT },
        { "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{\"x\":[1]}}", RPC_RESULT },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", RPC_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":null}", RPC_REQUEST },
        { "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{}}", RPC_NOTIFICATION },
        { "{\"jsonrpc\":\"2.0\",\"id\":3,\"error\":{\"code\":-1,\"message\":\"m\"}}", RPC_ERROR },
        { "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"m\"}}", RPC_ERROR },
        { "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-1,\"message\":\"m\",\"data\":7}}", RPC_ERROR },
    };
    static const char *const bad[] = {
        "",
        "[]",
        "1",
        "{}",
        "{\"id\":1,\"result\":{}}",
        "{\"jsonrpc\":2.0,\"id\":1,\"result\":{}}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":[],\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{\"code\":1,\"message\":\"\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[1]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"1\",\"message\":\"\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"result\":{}}",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}]",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}x",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"x\":\"\xff\"}}",
    };
    struct rpc_message m;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(rpc_read(good[i].text, strlen(good[i].text), &m, NULL), SLM_OK);
        assert_int_equal(m.kind, good[i].kind);
        rpc_free(&m);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (rpc_read(bad[i], strlen(bad[i]), &m, NULL) == SLM_OK)
            fail_msg("accepted: %s", bad[i]);
}

/* What is written is read back as the same. */
static void written(void **state) {
    (void)state;
    struct rpc_message m;
    json_t *id = json_string("q\"1");
    char *texts[] = { rpc_request(7, "a/b", json_pack("{s:s}", "x", "line\nbreak")),
                      rpc_notification("n", NULL), rpc_result(id, NULL),
                      rpc_error(id, RPC_NO_METHOD, "no") };
    static const enum rpc_kind kinds[] = { RPC_REQUEST, RPC_NOTIFICATION, RPC_RESULT, RPC_ERROR };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_non_null(texts[i]);
        assert_null(strchr(texts[i], '\n'));
        assert_int_equal(rpc_read(texts[i], strlen(texts[i]), &m, NULL), SLM_OK);
        assert_int_equal(m.kind, kinds[i]);
        if (i > 1)
            assert_true(json_equal(m.id, id));
        rpc_free(&m);
        free(texts[i]);
    }
    json_decref(id);
}

/* ------------------------------------------------------------------ event streams */

static bool collect(void *user, const char *data, size_t n) {
    buf_put(user, data, n);
    buf_putc(user, '|');
    return true;
}

static bool first_only(void *user, const char *data, size_t n) {
    collect(user, data, n);
    return false;
}

/* Every stream cut at every place gives the same events. */
static void events(void **state) {
    (void)state;
    static const struct {
        const char *stream, *want, *id;
        unsigned retry;
    } cases[] = {
        { "data: a\n\n", "a|", "", 0 },
        { "data:a\r\n\r\ndata: b\r\rdata:  c\n\n", "a|b| c|", "", 0 },
        { "\xef\xbb\xbf" "data: a\n\n", "a|", "", 0 },
        { ": note\n\ndata: a\n:x\ndata: b\n\n", "a\nb|", "", 0 },
        { "event: message\ndata: a\n\nevent: other\ndata: b\n\ndata: c\n\n", "a|c|", "", 0 },
        { "id: 7\ndata\n\nid: 8\nretry: 250\ndata: a\n\n", "a|", "8", 250 },
        { "retry: 1x\nid: ok\nunknown: 1\nnothing\ndata: a\n\n", "a|", "ok", 0 },
        { "data: a\n\ndata: half", "a|", "", 0 },
        { "data: {\ndata: \"x\":1\ndata: }\n\n", "{\n\"x\":1\n}|", "", 0 },
        { "\n\n\r\n\ndata:\n\ndata: a\n\n", "a|", "", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].stream);
        for (size_t cut = 0; cut <= n; cut++) {
            struct sse s;
            struct buf got;
            sse_init(&s, 1000);
            buf_init(&got, NULL, 1000);
            assert_int_equal(sse_feed(&s, cases[i].stream, cut, collect, &got), SLM_OK);
            assert_int_equal(sse_feed(&s, cases[i].stream + cut, n - cut, collect, &got), SLM_OK);
            assert_string_equal(got.len ? got.data : "", cases[i].want);
            assert_string_equal(s.id, cases[i].id);
            assert_int_equal(s.retry_ms, cases[i].retry);
            buf_free(&got);
            sse_free(&s);
        }
    }
}

static void event_limits(void **state) {
    (void)state;
    struct sse s;
    struct buf got;
    buf_init(&got, NULL, 1000);
    sse_init(&s, 16);
    assert_int_equal(sse_feed(&s, "data: 0123456789abcdef", 22, collect, &got), SLM_E_BUDGET);
    sse_free(&s);
    sse_init(&s, 16);
    assert_int_equal(sse_feed(&s, "data: 0123456789\ndata: 0123456789\n\n", 35, collect, &got),
                     SLM_E_BUDGET);
    sse_free(&s);
    assert_int_equal(got.len, 0);
    sse_init(&s, 16);
    assert_int_equal(sse_feed(&s, "data: a\n\ndata: b\n\n", 18, first_only, &got), SLM_OK);
    assert_string_equal(got.data, "a|");
    sse_free(&s);
    buf_free(&got);
}

/* ------------------------------------------------------------------ configuration */

static const char *variable(const char *name) {
    return strcmp(name, "KEY") == 0     ? "se${X}cret"
           : strcmp(name, "EMPTY") == 0 ? ""
                                        : NULL;
}

static void count(void *user, const char *text) {
    ++*(int *)user;
    assert_null(strchr(text, '\n'));
}

static void configuration(void **state) {
    (void)state;
    static const char text[] =
        "{\"mcpServers\":{\"z\":{\"args\":[\"-k\",\"${KEY}\",\"${NONE:-a b}\",\"${EMPTY:-c}\",\"$x ${\"],"
        "\"command\":\"prog\",\"env\":{\"A\":\"${env:KEY}\",\"B\":\"\"},\"cwd\":\"/tmp\",\"type\":\"stdio\","
        "\"disabled\":true,\"autoApprove\":[\"one\"],\"alwaysAllow\":[\"two\"],\"colour\":1},"
        "\"a\":{\"url\":\"https://h/m\",\"headers\":{\"X-Key\":\"${KEY}\"},\"type\":\"streamable-http\","
        "\"slm\":{\"call_timeout_s\":5,\"start_timeout_s\":6,\"stop_timeout_s\":7,\"result_bytes\":8,"
        "\"allow_http\":true,\"protocol\":\"2025-06-18\"}}},\"other\":{}}";
    struct mcp_config_file f;
    slm_why why;
    int warnings = 0;
    if (mcp_config_read(text, strlen(text), variable, count, &warnings, &f, &why) != SLM_OK)
        fail_msg("%s", why.message);
    assert_int_equal(f.n, 2);
    assert_int_equal(warnings, 2);
    const struct mcp_config *z = &f.servers[0], *a = &f.servers[1];
    static const char *const argv[] = { "prog", "-k", "se${X}cret", "a b", "c", "$x ${" };
    assert_int_equal(z->n_args, ARRAY_LEN(argv));
    for (size_t i = 0; i < ARRAY_LEN(argv); i++)
        assert_string_equal(z->argv[i], argv[i]);
    assert_null(z->argv[z->n_args]);
    assert_string_equal(z->name, "z");
    assert_string_equal(z->env[0], "A=se${X}cret");
    assert_string_equal(z->env[1], "B=");
    assert_string_equal(z->cwd, "/tmp");
    assert_true(z->disabled);
    assert_int_equal(z->n_approved, 2);
    assert_string_equal(z->approved[1], "two");
    assert_int_equal(z->call_s, 60);
    assert_string_equal(a->url, "https://h/m");
    assert_string_equal(a->headers[0], "X-Key: se${X}cret");
    assert_int_equal(a->call_s, 5);
    assert_int_equal(a->start_s, 6);
    assert_int_equal(a->stop_s, 7);
    assert_int_equal(a->result_bytes, 8);
    assert_true(a->allow_http);
    assert_string_equal(a->protocol, "2025-06-18");
    mcp_config_free(&f);
}

static void bad_configuration(void **state) {
    (void)state;
    static const struct {
        const char *server;
        slm_err err;
    } cases[] = {
        { "1", SLM_E_FORMAT },
        { "{}", SLM_E_FORMAT },
        { "{\"command\":1}", SLM_E_FORMAT },
        { "{\"command\":\"\"}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"args\":\"y\"}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"args\":[\"y\",1]}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"env\":[]}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"env\":{\"A\":1}}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"env\":{\"A=B\":\"1\"}}", SLM_E_ARG },
        { "{\"command\":\"x\",\"env\":{\"\":\"1\"}}", SLM_E_ARG },
        { "{\"command\":\"x\",\"disabled\":\"yes\"}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"url\":\"http://h\"}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"type\":\"http\"}", SLM_E_FORMAT },
        { "{\"url\":\"https://h\",\"type\":\"stdio\"}", SLM_E_FORMAT },
        { "{\"url\":\"https://h\",\"type\":\"carrier pigeon\"}", SLM_E_FORMAT },
        { "{\"url\":\"https://h\",\"type\":\"sse\"}", SLM_E_UNSUPPORTED },
        { "{\"url\":\"https://h\",\"headers\":{\"A B\":\"1\"}}", SLM_E_ARG },
        { "{\"url\":\"https://h\",\"headers\":{\"A\":\"1\\r\\nB: 2\"}}", SLM_E_ARG },
        { "{\"command\":\"${NONE}\"}", SLM_E_NOTFOUND },
        { "{\"command\":\"${1A}\"}", SLM_E_ARG },
        { "{\"command\":\"${}\"}", SLM_E_ARG },
        { "{\"command\":\"${input:key}\"}", SLM_E_ARG },
        { "{\"command\":\"x\",\"slm\":{\"call_timeout_s\":0}}", SLM_E_ARG },
        { "{\"command\":\"x\",\"slm\":{\"call_timeout_s\":1.5}}", SLM_E_ARG },
        { "{\"command\":\"x\",\"slm\":{\"protocol\":\"2020-01-01\"}}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"slm\":{\"typo\":1}}", SLM_E_ARG },
        { "{\"command\":\"x\",\"slm\":[]}", SLM_E_FORMAT },
        { "{\"command\":\"x\",\"autoApprove\":true}", SLM_E_FORMAT },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[300];
        struct mcp_config_file f;
        slm_why why = { .code = SLM_OK };
        snprintf(text, sizeof text, "{\"mcpServers\":{\"good\":{\"command\":\"a\",\"args\":[\"b\"]},\"s\":%s}}",
                 cases[i].server);
        slm_err err = mcp_config_read(text, strlen(text), variable, NULL, NULL, &f, &why);
        if (err != cases[i].err)
            fail_msg("%s: %d %s", cases[i].server, (int)err, why.message);
        assert_int_equal(f.n, 0);
        assert_non_null(strstr(why.message, "'s'"));
    }
}

/* ------------------------------------------------------------------ marked parameters */

static slm_err mirror(const char *schema, const char *arguments, struct mirror *out) {
    json_t *s = json_loads(schema, 0, NULL), *a = arguments ? json_loads(arguments, 0, NULL) : NULL;
    assert_non_null(s);
    *out = (struct mirror){ NULL, 0 };
    slm_err err = mirror_arguments(s, a, out, NULL);
    json_decref(s);
    json_decref(a);
    return err;
}

#define P(x) "{\"type\":\"object\",\"properties\":{" x "}}"
#define STRING(mark) "{\"type\":\"string\",\"x-mcp-header\":\"" mark "\"}"

static void marks(void **state) {
    (void)state;
    static const struct {
        const char *arguments, *line; /* NULL: none */
    } values[] = {
        { "{\"a\":\"us-west1\"}", "Mcp-Param-A: us-west1" },
        { "{\"a\":\"\\u4e16\"}", "Mcp-Param-A: =?base64?5LiW?=" },
        { "{\"a\":\" padded \"}", "Mcp-Param-A: =?base64?IHBhZGRlZCA=?=" },
        { "{\"a\":\"line1\\nline2\"}", "Mcp-Param-A: =?base64?bGluZTEKbGluZTI=?=" },
        { "{\"a\":\"=?base64?literal?=\"}", "Mcp-Param-A: =?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=" },
        { "{\"a\":\"\"}", "Mcp-Param-A;" },
        { "{\"a\":null}", NULL },
        { "{\"b\":1}", NULL },
    };
    static const char *const bad[] = {
        P("\"a\":" STRING("")),
        P("\"a\":" STRING("a b")),
        P("\"a\":{\"type\":\"string\",\"x-mcp-header\":1}"),
        P("\"a\":{\"type\":\"number\",\"x-mcp-header\":\"A\"}"),
        P("\"a\":{\"x-mcp-header\":\"A\"}"),
        P("\"a\":" STRING("A") ",\"b\":" STRING("a")),
        P("\"a\":{\"type\":\"array\",\"items\":" STRING("A") "}"),
        P("\"a\":{\"anyOf\":[" STRING("A") "]}"),
        "{\"type\":\"string\",\"x-mcp-header\":\"A\"}",
        "{\"$defs\":{\"d\":" STRING("A") "}}",
    };
    struct mirror m;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        assert_int_equal(mirror(P("\"a\":" STRING("A")), values[i].arguments, &m), SLM_OK);
        assert_int_equal(m.n, values[i].line != NULL);
        if (values[i].line)
            assert_string_equal(m.lines[0], values[i].line);
        mirror_free(&m);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (mirror(bad[i], NULL, &m) == SLM_OK)
            fail_msg("accepted: %s", bad[i]);
        mirror_free(&m);
    }
    assert_int_equal(mirror(P("\"o\":" P("\"n\":{\"type\":\"integer\",\"x-mcp-header\":\"N\"},"
                                         "\"x-mcp-header\":{\"type\":\"boolean\",\"x-mcp-header\":\"B\"}")),
                            "{\"o\":{\"n\":-42,\"x-mcp-header\":true}}", &m),
                     SLM_OK);
    assert_int_equal(m.n, 2);
    bool first = strcmp(m.lines[0], "Mcp-Param-N: -42") == 0; /* either may come first */
    assert_string_equal(m.lines[!first], "Mcp-Param-N: -42");
    assert_string_equal(m.lines[first], "Mcp-Param-B: true");
    mirror_free(&m);
}

/* ------------------------------------------------------------------ results, lines */

static void results(void **state) {
    (void)state;
    static const struct {
        const char *result, *text;
    } cases[] = {
        { "{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}", "a\nb" },
        { "{\"content\":[]}", "[the tool gave nothing back]" },
        { "{}", "[the tool gave nothing back]" },
        { "{\"content\":[],\"structuredContent\":{\"t\":21}}", "{\"t\":21}" },
        { "{\"structuredContent\":7}", "7" },
        { "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}],\"structuredContent\":{\"t\":21}}", "a" },
        { "{\"content\":[{\"type\":\"image\",\"data\":\"AAAA\",\"mimeType\":\"image/png\"}]}",
          "[image image/png, 3 bytes: not shown]" },
        { "{\"content\":[{\"type\":\"audio\",\"data\":\"AA==\"}]}", "[audio ?, 1 bytes: not shown]" },
        { "{\"content\":[{\"type\":\"resource\",\"resource\":{\"uri\":\"u\",\"text\":\"t\"}}]}",
          "[resource u]\nt" },
        { "{\"content\":[{\"type\":\"resource\",\"resource\":{\"uri\":\"u\",\"blob\":\"AAA=\"}}]}",
          "[resource u, unknown type, 2 bytes: not shown]" },
        { "{\"content\":[{\"type\":\"resource_link\",\"uri\":\"u\",\"name\":\"n\"}]}", "[link n u]" },
        { "{\"content\":[{\"type\":\"hologram\"}]}", "[content of the unknown type 'hologram': not shown]" },
        { "{\"content\":[7,null,{\"type\":\"text\"}]}",
          "[content of the unknown type '': not shown]\n[content of the unknown type '': not shown]\n" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *r = json_loads(cases[i].result, 0, NULL);
        size_t n;
        char *text = result_text(r, &n);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(n, strlen(text));
        free(text);
        json_decref(r);
    }
    const char *e = "a\xc3\xa9\xe2\x82\xac"; /* 1, 2 and 3 bytes */
    static const size_t cuts[] = { 0, 1, 1, 3, 3, 3, 6, 6 };
    for (size_t i = 0; i < ARRAY_LEN(cuts); i++)
        assert_int_equal(result_cut(e, 6, i), cuts[i]);
}

static void clean_lines(void **state) {
    (void)state;
    char to[16];
    assert_string_equal(line_clean("a\n\tb", 4, to, sizeof to), "a  b");
    assert_string_equal(line_clean("\x1b[31m\x7f", 6, to, sizeof to), "?[31m?");
    assert_string_equal(line_clean("\xff\xc3\xa9\xc2\x9b", 5, to, sizeof to), "?\xc3\xa9?");
    assert_string_equal(line_clean("\xe2\x80\xaexyz", 6, to, sizeof to), "?xyz"); /* right to left */
    assert_string_equal(line_clean("0123456789abcd\xc3\xa9", 16, to, sizeof to), "0123456789abcd");
    assert_string_equal(line_clean("", 0, to, sizeof to), "");
}

static void base_names(void **state) {
    (void)state;
    struct mcp_config c = { .name = (char *)"my server" };
    struct tool t = { .name = (char *)"my_server__a", .own = "a", .config = &c };
    assert_true(tool_matches(&t, "my_server__a"));
    assert_true(tool_matches(&t, "my server/a"));
    assert_true(tool_matches(&t, "*/a"));
    assert_true(tool_matches(&t, "my*"));
    assert_false(tool_matches(&t, "a"));
    assert_false(tool_matches(&t, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),      cmocka_unit_test(written),
        cmocka_unit_test(events),        cmocka_unit_test(event_limits),
        cmocka_unit_test(configuration), cmocka_unit_test(bad_configuration),
        cmocka_unit_test(marks),         cmocka_unit_test(results),
        cmocka_unit_test(clean_lines),   cmocka_unit_test(base_names),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
