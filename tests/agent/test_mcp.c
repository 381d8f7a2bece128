/* test_mcp.c - the MCP client against tests/agent/server.py: both eras, both transports, and servers
 * that misbehave in the known ways. Time limits are generous where nothing is being timed: machines
 * that run tests are busy. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/mcp.h"
#include "base/json.h"
#include "base/pool.h"
#include "cli/cli.h"

#define SECOND UINT64_C(1000000000)

static char folder[] = "/tmp/slm-mcp-XXXXXX";

struct peer {
    struct mcp_config_file config;
    struct mcp *mcp;
    json_t *tools;
    char notes[8192]; /* "kind text\n" each */
    slm_err err;
    slm_why why;
    pid_t server; /* of an HTTP server */
};

static void note_of(void *user, const char *server, enum mcp_note kind, const char *text) {
    struct peer *p = user;
    size_t n = strlen(p->notes);
    assert_string_equal(server, "t");
    snprintf(p->notes + n, sizeof p->notes - n, "%d %s\n", (int)kind, text);
}

static const char *variable(const char *name) {
    return strcmp(name, "DIR") == 0 ? folder : getenv(name);
}

/* Opens what the JSON text of one server says; p->err tells how that went. */
static void open_json(struct peer *p, const char *server) {
    char text[2048];
    struct mcp_host host = { note_of, p };
    snprintf(text, sizeof text, "{\"mcpServers\":{\"t\":%s}}", server);
    memset(p, 0, sizeof *p);
    p->err = mcp_config_read(text, strlen(text), variable, NULL, NULL, &p->config, &p->why);
    if (p->err == SLM_OK)
        p->err = mcp_open(&p->config.servers[0], &host, &p->mcp, &p->why);
    if (p->err == SLM_OK)
        p->err = mcp_tools(p->mcp, &p->tools, &p->why);
}

/* args: JSON strings with commas between them; more: further keys of the server. */
static void open_stdio(struct peer *p, const char *args, const char *more) {
    char text[1500];
    snprintf(text, sizeof text,
             "{\"command\":\"python3\",\"args\":[\"tests/agent/server.py\"%s%s]%s%s}", *args ? "," : "",
             args, *more ? "," : "", more);
    open_json(p, text);
}

static void end(struct peer *p) {
    mcp_close(p->mcp);
    json_decref(p->tools);
    mcp_config_free(&p->config);
    if (p->server > 0) {
        kill(p->server, SIGKILL);
        waitpid(p->server, NULL, 0);
    }
}

static json_t *tool(const struct peer *p, const char *name) {
    size_t i;
    json_t *t;
    json_array_foreach(p->tools, i, t)
        if (strcmp(json_string_value(json_object_get(t, "name")), name) == 0)
            return t;
    return NULL;
}

static slm_err call(struct peer *p, const char *name, const char *arguments,
                    struct mcp_result *r) {
    json_t *args = NULL;
    assert_int_equal(json_text(arguments, strlen(arguments), &args, NULL), SLM_OK);
    json_t *t = tool(p, name);
    assert_non_null(t);
    slm_err err = mcp_call(p->mcp, t, args, r, &p->why);
    json_decref(args);
    return err;
}

/* The first text of the answer. */
static void says(struct peer *p, const char *name, const char *arguments, const char *want) {
    struct mcp_result r;
    slm_err err = call(p, name, arguments, &r);
    if (err != SLM_OK)
        fail_msg("%s: %s", name, p->why.message);
    const char *text = json_string_value(json_object_get(
        json_array_get(json_object_get(r.result, "content"), 0), "text"));
    assert_non_null(text);
    assert_string_equal(text, want);
    mcp_result_free(&r);
}

static void opened(const struct peer *p, const char *version) {
    if (p->err != SLM_OK)
        fail_msg("not opened: %s", p->why.message);
    assert_string_equal(mcp_version(p->mcp), version);
}

static void fails(const struct peer *p, slm_err err, const char *words) {
    assert_int_equal(p->err, err);
    if (!strstr(p->why.message, words))
        fail_msg("'%s' says nothing of '%s'", p->why.message, words);
}

static void file_name(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", folder, name);
}

static char *log_text(const char *name) {
    char path[256];
    size_t n;
    file_name(path, sizeof path, name);
    return keep(read_path(path, 1 << 20, &n));
}

/* ------------------------------------------------------------------ eras */

static void eras(void **state) {
    (void)state;
    static const struct {
        const char *args, *more, *version;
    } cases[] = {
        { "\"--era\",\"modern\"", "", "2026-07-28" },
        { "\"--era\",\"both\"", "", "2026-07-28" },
        { "\"--era\",\"legacy\"", "", "2025-11-25" },
        { "\"--era\",\"legacy\",\"--version\",\"2025-06-18\"", "", "2025-06-18" },
        { "\"--era\",\"legacy\",\"--version\",\"2025-03-26\"", "", "2025-03-26" },
        { "\"--era\",\"legacy\",\"--version\",\"2024-11-05\"", "", "2024-11-05" },
        { "\"--era\",\"both\"", "\"slm\":{\"protocol\":\"2025-06-18\"}", "2025-06-18" },
        { "\"--era\",\"both\"", "\"slm\":{\"protocol\":\"2026-07-28\"}", "2026-07-28" },
        { "\"--era\",\"legacy\",\"--bad\",\"crash-discover\"", "", "2025-11-25" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        open_stdio(&p, cases[i].args, cases[i].more);
        opened(&p, cases[i].version);
        assert_string_equal(mcp_title(p.mcp), "test-server 1.0");
        says(&p, "add", "{\"a\":2,\"b\":40}", "{\"result\": 42}");
        says(&p, "args", "{\"a\":[1,{\"b\":null}]}", "{\"a\": [1, {\"b\": null}]}");
        end(&p);
    }
}

/* Each request of the stateless protocol says who asks; the handshake says it once. */
static void what_is_sent(void **state) {
    (void)state;
    struct peer p;
    open_stdio(&p, "\"--log\",\"${DIR}/modern\"", "");
    opened(&p, "2026-07-28");
    says(&p, "echo", "{\"text\":\"x\"}", "x");
    end(&p);
    char *text = log_text("modern");
    assert_null(strstr(text, "initialize"));
    int requests = 0;
    for (const char *at = text; (at = strstr(at, "\"jsonrpc\"")) != NULL; at++)
        requests++;
    int metas = 0;
    for (const char *at = text; (at = strstr(at, "modelcontextprotocol/protocolVersion\": \"2026-07-28")); at++)
        metas++;
    assert_int_equal(requests, 3);
    assert_int_equal(metas, 3);
    assert_non_null(strstr(text, "end of input")); /* it was not killed */
    free(text);
    open_stdio(&p, "\"--log\",\"${DIR}/legacy\",\"--era\",\"legacy\"", "");
    opened(&p, "2025-11-25");
    end(&p);
    text = log_text("legacy");
    assert_non_null(strstr(text, "notifications/initialized"));
    assert_non_null(strstr(text, "\"clientInfo\": {\"name\": \"slm\""));
    free(text);
}

static void no_common_version(void **state) {
    (void)state;
    struct peer p;
    open_stdio(&p, "\"--era\",\"modern\"", "\"slm\":{\"protocol\":\"2025-11-25\"}");
    fails(&p, SLM_E_UNSUPPORTED, "no common version");
    end(&p);
    open_stdio(&p, "\"--era\",\"legacy\"", "\"slm\":{\"protocol\":\"2026-07-28\"}");
    assert_int_equal(p.err, SLM_E_UNSUPPORTED);
    end(&p);
    open_stdio(&p, "\"--era\",\"legacy\",\"--version\",\"2024-11-05\"",
               "\"slm\":{\"protocol\":\"2025-11-25\"}");
    fails(&p, SLM_E_UNSUPPORTED, "2024-11-05");
    end(&p);
    open_stdio(&p, "\"--bad\",\"future\"", "");
    fails(&p, SLM_E_UNSUPPORTED, "2099-01-01");
    end(&p);
    open_stdio(&p, "\"--bad\",\"no-tools\"", "");
    fails(&p, SLM_E_UNSUPPORTED, "has no tools");
    end(&p);
}

/* ------------------------------------------------------------------ servers that misbehave */

static void bad_but_usable(void **state) {
    (void)state;
    static const struct {
        const char *args, *version, *note;
    } cases[] = {
        { "\"--bad\",\"burst\"", "2026-07-28", NULL },
        { "\"--bad\",\"malformed\"", "2026-07-28", "no message" },
        { "\"--bad\",\"wrong-id\"", "2026-07-28", "a request that was not made" },
        { "\"--bad\",\"text-id\"", "2026-07-28", NULL },
        { "\"--bad\",\"asks\"", "2026-07-28", "roots/list, which is not offered" },
        { "\"--bad\",\"pages\"", "2026-07-28", NULL },
        { "\"--bad\",\"pages\",\"--era\",\"legacy\"", "2025-11-25", NULL },
        { "\"--bad\",\"slow-start\"", "2026-07-28", NULL },
        { "\"--bad\",\"slow-start\",\"--era\",\"legacy\"", "2025-11-25", NULL },
        { "\"--bad\",\"silent-discover\",\"--era\",\"legacy\"", "2025-11-25", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        open_stdio(&p, cases[i].args, "");
        opened(&p, cases[i].version);
        assert_int_equal(json_array_size(p.tools), 18);
        says(&p, "echo", "{\"text\":\"still here\"}", "still here");
        if (cases[i].note && !strstr(p.notes, cases[i].note))
            fail_msg("no note of '%s': %s", cases[i].note, p.notes);
        end(&p);
    }
}

static void bad_at_start(void **state) {
    (void)state;
    static const struct {
        const char *server, *words;
        slm_err err;
    } cases[] = {
        { "{\"command\":\"/nonexistent/program\"}", "cannot be started: No such file", SLM_E_IO },
        { "{\"command\":\"sh\",\"args\":[\"-c\",\"echo no such luck >&2; exit 4\"]}",
          "ended with exit code 4; it said: no such luck", SLM_E_NET },
        { "{\"command\":\"sleep\",\"args\":[\"60\"],\"slm\":{\"start_timeout_s\":1}}", "in time",
          SLM_E_NET },
        { "{\"command\":\"python3\",\"args\":[\"tests/agent/server.py\",\"--bad\",\"garbage\"]}",
          "17 times it wrote what is no message", SLM_E_FORMAT },
        { "{\"command\":\"python3\",\"args\":[\"tests/agent/server.py\",\"--bad\",\"endless\"]}",
          "does not end", SLM_E_BUDGET },
        { "{\"command\":\"sh\",\"args\":[\"-c\",\"yes aaaaaaaaaaaaaaaa | tr -d '\\\\n'\"]}",
          "a line of more than 4194304 bytes", SLM_E_BUDGET },
        { "{\"command\":\"true\",\"cwd\":\"/nonexistent\"}", "cannot be started", SLM_E_IO },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        open_json(&p, cases[i].server);
        fails(&p, cases[i].err, cases[i].words);
        assert_null(p.tools);
        end(&p);
    }
}

static void bad_at_call(void **state) {
    (void)state;
    static const struct {
        const char *args, *more, *words;
        slm_err err;
    } cases[] = {
        { "\"--bad\",\"crash\"", "", "ended with exit code 3; it said: it ?[31mbroke", SLM_E_NET },
        { "\"--bad\",\"slow\"", "\"slm\":{\"call_timeout_s\":1}", "did not answer tools/call in time",
          SLM_E_NET },
        { "\"--bad\",\"huge-line\"", "", "more than 4194304 bytes", SLM_E_BUDGET },
        { "\"--bad\",\"half\"", "", "ended with exit code 0", SLM_E_NET },
        { "\"--bad\",\"grandchild\"", "", "ended with exit code 0", SLM_E_NET },
        { "\"--bad\",\"deaf\",\"--era\",\"legacy\"", "", "server 't'", SLM_E_NET },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        struct mcp_result r;
        uint64_t begun = clock_ns();
        open_stdio(&p, cases[i].args, cases[i].more);
        if (p.err == SLM_OK)
            p.err = call(&p, "echo", "{\"text\":\"x\"}", &r);
        fails(&p, cases[i].err, cases[i].words);
        end(&p);
        if (clock_ns() - begun > 25 * SECOND)
            fail_msg("%s took %.1f s", cases[i].args, (double)(clock_ns() - begun) / 1e9);
    }
}

/* What a server started is gone when it is closed. */
static void grandchildren(void **state) {
    (void)state;
    static const char *const modes[] = { "grandchild", "stubborn" };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct peer p;
        char args[200];
        snprintf(args, sizeof args, "\"--bad\",\"%s\",\"--log\",\"${DIR}/%s\"", modes[i], modes[i]);
        open_stdio(&p, args, "\"slm\":{\"stop_timeout_s\":1}");
        opened(&p, "2026-07-28");
        pid_t leader = mcp_pid(p.mcp);
        char *text = log_text(modes[i]);
        const char *at = strstr(text, "\"grandchild\": ");
        assert_non_null(at);
        pid_t child = (pid_t)atoi(at + 14);
        free(text);
        assert_int_equal(kill(child, 0), 0);
        assert_int_equal(getpgid(child), leader);
        end(&p);
        for (int k = 0; k < 200 && kill(child, 0) == 0; k++) {
            char path[64], what[8] = "";
            snprintf(path, sizeof path, "/proc/%d/stat", (int)child);
            size_t n;
            char *stat = read_path(path, 4096, &n);
            if (stat && strstr(stat, ") Z")) /* dead; whoever inherits it takes it away */
                snprintf(what, sizeof what, "Z");
            free(stat);
            if (*what)
                break;
            poll(NULL, 0, 10);
            assert_true(k < 199);
        }
        assert_int_not_equal(kill(leader, 0), 0);
        assert_int_equal(errno, ESRCH);
    }
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        const char *bad, *words;
    } cases[] = { { "input", "more input" }, { "odd-type", "riddle" } };
    struct mcp_result r;
    struct peer p;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char args[64];
        snprintf(args, sizeof args, "\"--bad\",\"%s\"", cases[i].bad);
        open_stdio(&p, args, "");
        opened(&p, "2026-07-28");
        assert_int_equal(call(&p, "echo", "{\"text\":\"x\"}", &r), SLM_OK);
        assert_null(r.result);
        assert_non_null(strstr(r.message, cases[i].words));
        end(&p);
    }
    open_stdio(&p, "", "");
    opened(&p, "2026-07-28");
    json_t *unknown = json_pack("{s:s}", "name", "nothing"), *args = json_object();
    assert_int_equal(mcp_call(p.mcp, unknown, args, &r, &p.why), SLM_OK);
    assert_null(r.result);
    assert_int_equal(r.code, -32602);
    assert_string_equal(r.message, "Unknown tool: nothing");
    json_decref(unknown);
    json_decref(args);
    assert_int_equal(call(&p, "fail", "{}", &r), SLM_OK);
    assert_true(json_is_true(json_object_get(r.result, "isError")));
    mcp_result_free(&r);
    end(&p);
}

static void started_again(void **state) {
    (void)state;
    struct peer p;
    struct mcp_result r;
    open_stdio(&p, "\"--bad\",\"crash-once\",\"--log\",\"${DIR}/once\"", "");
    opened(&p, "2026-07-28");
    pid_t first = mcp_pid(p.mcp);
    assert_int_equal(call(&p, "echo", "{\"text\":\"x\"}", &r), SLM_E_NET);
    says(&p, "echo", "{\"text\":\"again\"}", "again");
    assert_int_not_equal(mcp_pid(p.mcp), first);
    assert_non_null(strstr(p.notes, "started again"));
    end(&p);
}

/* A server that took too long is told so, and its late answer is not taken for the next one's. */
static void late_answers(void **state) {
    (void)state;
    struct peer p;
    struct mcp_result r;
    open_stdio(&p, "\"--log\",\"${DIR}/late\"", "\"slm\":{\"call_timeout_s\":1}");
    opened(&p, "2026-07-28");
    kill(mcp_pid(p.mcp), SIGSTOP);
    assert_int_equal(call(&p, "echo", "{\"text\":\"first\"}", &r), SLM_E_NET);
    kill(mcp_pid(p.mcp), SIGCONT);
    says(&p, "echo", "{\"text\":\"second\"}", "second");
    char *text = log_text("late");
    assert_non_null(strstr(text, "notifications/cancelled"));
    assert_non_null(strstr(text, "it took too long"));
    free(text);
    end(&p);
}

static void news(void **state) {
    (void)state;
    struct peer p;
    open_stdio(&p, "\"--tools\",\"change,progress,echo\",\"--era\",\"legacy\"", "");
    opened(&p, "2025-11-25");
    assert_false(mcp_changed(p.mcp));
    says(&p, "progress", "{}", "done");
    assert_non_null(strstr(p.notes, "3 2 of 3: step"));
    assert_non_null(strstr(p.notes, "1 info: {\"said\":\"half way\"}"));
    says(&p, "change", "{}", "changed");
    assert_true(mcp_changed(p.mcp));
    json_decref(p.tools);
    assert_int_equal(mcp_tools(p.mcp, &p.tools, &p.why), SLM_OK);
    assert_int_equal(json_array_size(p.tools), 4);
    assert_false(mcp_changed(p.mcp));
    end(&p);
}

/* What of ours a server gets: named variables, three files, its folder. */
static void surroundings(void **state) {
    (void)state;
    struct peer p;
    setenv("SLM_TEST_SECRET", "hidden", 1);
    setenv("HOME", "/tmp", 1);
    setenv("SLM_TEST_GIVEN", "over", 1);
    open_stdio(&p, "\"--tools\",\"env,value,fds,where\"",
               "\"env\":{\"EXTRA\":\"${SLM_TEST_GIVEN}!\",\"LANG\":\"xx\"}");
    opened(&p, "2026-07-28");
    says(&p, "value", "{\"name\":\"SLM_TEST_SECRET\"}", "-");
    says(&p, "value", "{\"name\":\"SLM_TEST_GIVEN\"}", "-");
    says(&p, "value", "{\"name\":\"EXTRA\"}", "over!");
    says(&p, "value", "{\"name\":\"LANG\"}", "xx");
    says(&p, "value", "{\"name\":\"HOME\"}", getenv("HOME"));
    says(&p, "fds", "{}", "0 1 2");
    end(&p);
    char server[600], here[300];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(server, sizeof server,
             "{\"command\":\"python3\",\"args\":[\"%s/tests/agent/server.py\"],\"cwd\":\"%s\"}", here,
             folder);
    open_json(&p, server);
    opened(&p, "2026-07-28");
    says(&p, "where", "{}", folder);
    end(&p);
}

/* ------------------------------------------------------------------ HTTP */

static pid_t run_server(const char *const *args) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a test fails in the middle */
        char *argv[16] = { (char *)"python3", (char *)"tests/agent/server.py" };
        for (size_t i = 0; args[i] && i < 12; i++)
            argv[i + 2] = (char *)args[i];
        execvp(argv[0], argv);
        _exit(127);
    }
    return pid;
}

/* Starts a server that listens, and opens it with `more` keys. words: its arguments, a space between. */
static void open_http(struct peer *p, const char *words, const char *more) {
    char port_file[256], copy[256], server[600];
    const char *args[14] = { "--http", port_file };
    size_t n = 2, size;
    file_name(port_file, sizeof port_file, "port");
    unlink(port_file);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *at = strtok(copy, " "); at; at = strtok(NULL, " "))
        args[n++] = at;
    args[n] = NULL;
    pid_t pid = run_server(args);
    char *port = NULL;
    for (int i = 0; i < 3000 && !(port = read_path(port_file, 64, &size)); i++)
        poll(NULL, 0, 10);
    assert_non_null(port);
    snprintf(server, sizeof server, "{\"url\":\"http://127.0.0.1:%s/mcp\"%s%s}", port,
             *more ? "," : "", more);
    free(port);
    open_json(p, server);
    p->server = pid;
}

static void http_eras(void **state) {
    (void)state;
    static const struct {
        const char *args, *version;
    } cases[] = {
        { "--era modern", "2026-07-28" },
        { "--era modern --sse", "2026-07-28" },
        { "--era legacy", "2025-11-25" },
        { "--era legacy --sse", "2025-11-25" },
        { "--era legacy --stateless --version 2025-03-26", "2025-03-26" },
        { "--era both --sse --bad asks", "2026-07-28" },
        { "--era legacy --sse --bad asks", "2025-11-25" },
        { "--era legacy --bad redirect", "2025-11-25" },
        { "--era modern --bad redirect", "2026-07-28" },
        { "--era legacy --bad forget", "2025-11-25" },
        { "--era legacy --sse --bad cut-stream", "2025-11-25" },
        { "--era legacy --bad pages", "2025-11-25" },
        { "--era modern --bad pages", "2026-07-28" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        open_http(&p, cases[i].args, "");
        opened(&p, cases[i].version);
        says(&p, "echo", "{\"text\":\"over \\u00e9 HTTP\"}", "over \xc3\xa9 HTTP");
        says(&p, "add", "{\"a\":1,\"b\":2}", "{\"result\": 3}");
        end(&p);
    }
}

static void http_marks(void **state) {
    (void)state;
    struct peer p;
    open_http(&p, "--era modern", "");
    opened(&p, "2026-07-28");
    assert_null(tool(&p, "mismarked"));
    assert_non_null(strstr(p.notes, "'mismarked' is left out"));
    says(&p, "marked", "{\"region\":\"us-west1\"}", "us-west1");
    says(&p, "marked", "{\"region\":\"Hello, \\u4e16\"}", "=?base64?SGVsbG8sIOS4lg==?=");
    says(&p, "marked", "{\"q\":\"x\"}", "none");
    end(&p);
    open_http(&p, "--era legacy", "");
    opened(&p, "2025-11-25");
    assert_non_null(tool(&p, "mismarked"));
    says(&p, "marked", "{\"region\":\"us-west1\"}", "none");
    end(&p);
}

static void http_sessions(void **state) {
    (void)state;
    struct peer p;
    char args[300];
    snprintf(args, sizeof args, "--era legacy --log %s/session", folder);
    open_http(&p, args, "");
    opened(&p, "2025-11-25");
    mcp_close(p.mcp);
    p.mcp = NULL;
    char *text = log_text("session");
    const char *at = strstr(text, "{\"delete\": \"");
    assert_non_null(at);
    assert_int_equal(strcspn(at + 12, "\""), 32);
    free(text);
    end(&p);
}

static void http_bad(void **state) {
    (void)state;
    static const struct {
        const char *args, *more, *words;
        slm_err err;
    } cases[] = {
        { "--key secret", "", "HTTP status 401", SLM_E_NET },
        { "--bad redirect-away", "", "which is not followed", SLM_E_NET },
        { "--bad html", "", "ends without a result, as text/html", SLM_E_NET },
        { "--bad future --era modern", "", "2099-01-01", SLM_E_UNSUPPORTED },
        { "--bad no-tools --era legacy", "", "has no tools", SLM_E_UNSUPPORTED },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        open_http(&p, cases[i].args, cases[i].more);
        fails(&p, cases[i].err, cases[i].words);
        end(&p);
    }
    struct peer p;
    setenv("SLM_TEST_KEY", "secret", 1);
    open_http(&p, "--key secret", "\"headers\":{\"Authorization\":\"Bearer ${SLM_TEST_KEY}\"}");
    opened(&p, "2026-07-28");
    end(&p);
    open_http(&p, "--bad slow --sse", "\"slm\":{\"call_timeout_s\":1}");
    opened(&p, "2026-07-28");
    struct mcp_result r;
    assert_int_equal(call(&p, "echo", "{\"text\":\"x\"}", &r), SLM_E_NET);
    assert_non_null(strstr(p.why.message, "in time"));
    end(&p);
    open_http(&p, "--bad huge-line --sse", "");
    opened(&p, "2026-07-28");
    assert_int_equal(call(&p, "echo", "{\"text\":\"x\"}", &r), SLM_E_BUDGET);
    end(&p);
    open_http(&p, "--bad huge-line", "");
    assert_int_equal(call(&p, "echo", "{\"text\":\"x\"}", &r), SLM_E_BUDGET);
    end(&p);
}

static void http_addresses(void **state) {
    (void)state;
    static const struct {
        const char *url, *words;
        slm_err err;
    } cases[] = {
        { "http://example.com/mcp", "not encrypted", SLM_E_ARG },
        { "http://192.168.1.1/mcp", "not encrypted", SLM_E_ARG },
        { "http://127.0.0.1.example.com/mcp", "not encrypted", SLM_E_ARG },
        { "http://0.0.0.0:1/mcp", "not encrypted", SLM_E_ARG },
        { "http://169.254.169.254/latest", "not encrypted", SLM_E_ARG },
        { "http://[::ffff:10.0.0.1]/mcp", "not encrypted", SLM_E_ARG },
        { "http://user:pass@127.0.0.1/mcp", "no address", SLM_E_ARG },
        { "ftp://127.0.0.1/mcp", "no address", SLM_E_ARG },
        { "file:///etc/passwd", "no address", SLM_E_ARG },
        { "gopher://127.0.0.1/", "no address", SLM_E_ARG },
        { "127.0.0.1:8080/mcp", "no address", SLM_E_ARG },
        { "", "no address", SLM_E_ARG },
        { "http://127.0.0.1\\\\@example.com/", "no address", SLM_E_ARG },
        { "http://127.0.0.1:1/mcp", "server 't': http://127.0.0.1:1", SLM_E_NET },
        { "http://localhost:1/mcp", "server 't'", SLM_E_NET },
        { "http://2130706433:1/mcp", "server 't'", SLM_E_NET }, /* 127.0.0.1 as one number */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p;
        char server[300];
        snprintf(server, sizeof server, "{\"url\":\"%s\"}", cases[i].url);
        open_json(&p, server);
        if (p.err != cases[i].err || !strstr(p.why.message, cases[i].words))
            fail_msg("%s: %d %s", cases[i].url, (int)p.err, p.why.message);
        end(&p);
    }
}

static int begin(void **state) {
    *state = mkdtemp(folder);
    signal(SIGPIPE, SIG_IGN);
    return *state ? 0 : -1;
}

static int finish(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (const char *)*state);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eras),          cmocka_unit_test(what_is_sent),
        cmocka_unit_test(no_common_version), cmocka_unit_test(bad_but_usable),
        cmocka_unit_test(bad_at_start),  cmocka_unit_test(bad_at_call),
        cmocka_unit_test(grandchildren), cmocka_unit_test(refusals),
        cmocka_unit_test(started_again), cmocka_unit_test(late_answers),
        cmocka_unit_test(news),          cmocka_unit_test(surroundings),
        cmocka_unit_test(http_eras),     cmocka_unit_test(http_marks),
        cmocka_unit_test(http_sessions), cmocka_unit_test(http_bad),
        cmocka_unit_test(http_addresses),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, begin, finish);
}
