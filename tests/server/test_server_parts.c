/* test_server_parts.c - the server's parts that need no connection: allowances of keys, the gate, the
 * pace of a queue, figures as text, notices, and the table of parameters with wrong values for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json.h"
#include "server/api.h"
#include "server/gate.h"
#include "server/keys.h"
#include "server/meter.h"
#include "server/notify.h"
#include "server/pace.h"
#include "server/params.h"

#define SECOND UINT64_C(1000000000)

/* ------------------------------------------------------------------ keys */

static const char key_text[] = "# who may ask\n"
                               "alice correct-horse-battery-staple\n"
                               "\n"
                               "  bob\tanother-key-0123456789 rpm=60 concurrent=2 tpm=600\r\n"
                               "carol sha256:"
                               "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8\n";

static void test_keys_find(void **state) {
    (void)state;
    struct keys k;
    slm_why why;
    assert_int_equal(keys_parse(&k, key_text, sizeof key_text - 1, &why), SLM_OK);
    assert_int_equal(k.n, 3);
    const char *alice = "correct-horse-battery-staple";
    size_t n = strlen(alice);
    assert_string_equal(keys_find(&k, alice, n)->name, "alice");
    assert_string_equal(keys_find(&k, "another-key-0123456789", 22)->name, "bob");
    assert_string_equal(keys_find(&k, "password", 8)->name, "carol"); /* by its hash alone */
    for (size_t cut = 0; cut < n; cut++)
        assert_null(keys_find(&k, alice, cut));
    char longer[64];
    for (int c = 0; c < 256; c++) {
        snprintf(longer, sizeof longer, "%s%c", alice, c);
        assert_null(keys_find(&k, longer, n + 1));
        memcpy(longer, alice, n);
        longer[7] = (char)c;
        assert_true((keys_find(&k, longer, n) == NULL) == (longer[7] != alice[7]));
    }
    char *huge = calloc(1, 65536);
    memset(huge, 'k', 65536);
    assert_null(keys_find(&k, huge, 65536));
    free(huge);
    keys_free(&k);
}

static void test_keys_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "", "\n# nothing\n", "alice\n", "alice short\n", "a/b correct-horse-battery-staple\n",
        "a sha256:12\n",
        "a sha256:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542dx\n",
        "a correct-horse-battery-staple rpm=0\n", "a correct-horse-battery-staple rpm=-1\n",
        "a correct-horse-battery-staple rpm=1x\n", "a correct-horse-battery-staple rpm=\n",
        "a correct-horse-battery-staple rpm=99999999999999999999999\n",
        "a correct-horse-battery-staple speed=1\n",
        "a correct-horse-battery-staple\nb correct-horse-battery-staple\n",
        "a correct-horse-battery-staple\na another-key-0123456789\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct keys k;
        slm_why why = { .message = "" };
        assert_int_equal(keys_parse(&k, bad[i], strlen(bad[i]), &why), SLM_E_FORMAT);
        assert_null(strstr(why.message, "horse")); /* a key is never repeated */
        assert_int_equal(k.n, 0);
    }
    struct keys k;
    slm_why why;
    assert_int_equal(keys_parse(&k, "a correct-horse\0-battery-staple\n", 32, &why), SLM_E_FORMAT);
}

static void test_keys_limits(void **state) {
    (void)state;
    struct keys k;
    uint32_t retry;
    uint64_t now = 1000 * SECOND;
    assert_int_equal(keys_parse(&k, key_text, sizeof key_text - 1, NULL), SLM_OK);
    struct key *bob = keys_find(&k, "another-key-0123456789", 22);
    assert_int_equal(keys_enter(&k, NULL, now, &retry), KEY_TAKEN);
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_CONCURRENT);
    assert_true(retry > 0);
    keys_leave(&k, bob, 0, now);
    keys_leave(&k, bob, 0, now);
    for (int i = 0; i < 58; i++) { /* the other 58 of this minute */
        assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
        keys_leave(&k, bob, 0, now);
    }
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_REQUESTS);
    assert_in_range(retry, 900, 1001); /* one a second comes back */
    now += (uint64_t)retry * 1000000;
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
    keys_leave(&k, bob, 1800, now); /* three minutes' worth of tokens, two of them owed */
    now += 60 * SECOND;
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TOKENS);
    assert_in_range(retry, 59000, 61000);
    now += (uint64_t)retry * 1000000;
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
    keys_leave(&k, bob, 0, now);
    now += 3600 * SECOND; /* more than a minute's worth is not saved up */
    for (int i = 0; i < 60; i++) {
        assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_TAKEN);
        keys_leave(&k, bob, 0, now);
    }
    assert_int_equal(keys_enter(&k, bob, now, &retry), KEY_REQUESTS);
    keys_free(&k);
}

/* ------------------------------------------------------------------ the gate */

static void test_gate_hosts(void **state) {
    (void)state;
    static const char *const list[] = { "slm.example" };
    struct gate g = { .hosts = list, .n_hosts = 1, .self = "box7" };
    static const char *const good[] = { "127.0.0.1",   "127.0.0.1:80", "[::1]",       "[::1]:8080",
                                        "10.1.2.3",    "localhost",    "LocalHost:1", "a.localhost",
                                        "slm.example", "SLM.example:9", "box7",       "localhost." };
    static const char *const bad[] = { "",          ":80",          "evil.example",   "localhost.evil",
                                       "127.0.0.1.evil.example",    "slm.example.evil", "xslm.example",
                                       "[::1",      "[::1]x",       "[evil]",         "[::1]:x",
                                       "localhost:8x", "127.1",     "0x7f.0.0.1",     "local host",
                                       "localhost/", "user@localhost", ".localhost@x" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!gate_host(&g, good[i]))
            fail_msg("refused: '%s'", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (gate_host(&g, bad[i]))
            fail_msg("allowed: '%s'", bad[i]);
    assert_false(gate_host(&g, NULL));
    char huge[400];
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_false(gate_host(&g, huge));
}

static void test_gate_rest(void **state) {
    (void)state;
    static const char *const list[] = { "https://app.example" }, *const any[] = { "*" };
    struct gate g = { .origins = list, .n_origins = 1 }, open = { .origins = any, .n_origins = 1 };
    assert_int_equal(gate_origin(&g, NULL, "h"), ORIGIN_NONE);
    assert_int_equal(gate_origin(&g, "http://h:1", "h:1"), ORIGIN_SAME);
    assert_int_equal(gate_origin(&g, "https://h:1", "h:1"), ORIGIN_SAME);
    assert_int_equal(gate_origin(&g, "http://h:2", "h:1"), ORIGIN_FOREIGN);
    assert_int_equal(gate_origin(&g, "null", "null"), ORIGIN_FOREIGN);
    assert_int_equal(gate_origin(&g, "", ""), ORIGIN_FOREIGN);
    assert_int_equal(gate_origin(&g, "https://app.example", "h"), ORIGIN_LISTED);
    assert_int_equal(gate_origin(&g, "https://app.example.evil", "h"), ORIGIN_FOREIGN);
    assert_int_equal(gate_origin(&open, "http://anything", "h"), ORIGIN_LISTED);
    assert_true(gate_json_type("application/json"));
    assert_true(gate_json_type("Application/JSON; charset=utf-8"));
    assert_false(gate_json_type("application/jsonp"));
    assert_false(gate_json_type("text/plain"));
    assert_false(gate_json_type(NULL));
    assert_string_equal(gate_bearer("bearer  abc"), "abc");
    assert_null(gate_bearer("Basic abc"));
    assert_null(gate_bearer("Bearer"));
    uint64_t n = 7;
    assert_true(gate_length("0", &n) && n == 0);
    assert_true(gate_length("9000000000000000000", &n));
    static const char *const bad[] = { "", "-1", "+1", "1 ", " 1", "1e3", "0x1", "9999999999999999999" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(gate_length(bad[i], &n));
    assert_true(gate_is_loopback("127.0.0.1") && gate_is_loopback("127.8.8.8") &&
                gate_is_loopback("::1") && gate_is_loopback("localhost"));
    assert_false(gate_is_loopback("0.0.0.0") || gate_is_loopback("::") ||
                 gate_is_loopback("192.168.0.1") || gate_is_loopback("::ffff:127.0.0.1"));
}

/* ------------------------------------------------------------------ pace */

static void test_pace(void **state) {
    (void)state;
    struct pace p = { 0 };
    uint64_t now = 5 * SECOND;
    assert_int_equal(pace_wait_ms(&p, 10, now), PACE_UNKNOWN_MS);
    for (int i = 0; i < 40; i++, now += SECOND / 2)
        pace_departed(&p, now, true); /* two a second */
    assert_in_range(pace_wait_ms(&p, 10, now), 4900, 5100);
    assert_in_range(pace_wait_ms(&p, 0, now), 490, 510);
    pace_departed(&p, now + 3600 * SECOND, false); /* nobody was there meanwhile */
    assert_in_range(pace_wait_ms(&p, 10, now + 3600 * SECOND), 4900, 5100);
    /* when nothing departs any more the estimate grows with the wait */
    assert_in_range(pace_wait_ms(&p, 10, now + 3605 * SECOND), 49000, 51000);
    assert_int_equal(pace_wait_ms(&p, 100000, now + 3600 * SECOND), PACE_MOST_MS);
    struct pace fast = { 0 };
    for (int i = 0; i < 40; i++)
        pace_departed(&fast, SECOND + (uint64_t)i * 1000, true);
    assert_int_equal(pace_wait_ms(&fast, 1, SECOND + 40000), PACE_LEAST_MS);
}

/* ------------------------------------------------------------------ figures */

static void test_meter(void **state) {
    (void)state;
    static struct meter m;
    struct gauges g = { .running = 3, .waiting = 2, .ready = true, .cache_used = 0.25 };
    struct model_gauge model = { .name = "a\"b\\c\nd", .places = 4 };
    struct buf b;
    meter_observe(&m.queue, 0);
    meter_observe(&m.queue, 1000000);      /* 1 ms: in the first bucket */
    meter_observe(&m.queue, 1000001);      /* in the second */
    meter_observe(&m.queue, 400 * SECOND); /* above all */
    m.prompt_tokens = UINT64_C(1) << 52;
    buf_init(&b, NULL, 1 << 20);
    meter_text(&m, &g, &model, 1, 1, &b);
    assert_int_equal(b.err, SLM_OK);
    static const char *const lines[] = {
        "slm_num_requests_running 3\n",
        "vllm:num_requests_running 3\n",
        "slm_prompt_tokens_total 4503599627370496\n",
        "slm_request_queue_time_seconds_bucket{le=\"0.001\"} 2\n",
        "slm_request_queue_time_seconds_bucket{le=\"0.0025\"} 3\n",
        "slm_request_queue_time_seconds_bucket{le=\"300\"} 3\n",
        "slm_request_queue_time_seconds_bucket{le=\"+Inf\"} 4\n",
        "slm_request_queue_time_seconds_count 4\n",
        "slm_request_success_total{finished_reason=\"stop\"} 0\n",
        "slm_model_places{model=\"a\\\"b\\\\c?d\"} 4\n",
        "# TYPE slm_request_queue_time_seconds histogram\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        if (strstr(b.data, lines[i]) == NULL)
            fail_msg("lacks %s", lines[i]);
    /* every line is a comment or NAME[{LABELS}] VALUE, and no family is said twice */
    char *save = NULL;
    for (char *line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *end, *space = strrchr(line, ' ');
        assert_non_null(space);
        if (line[0] == '#')
            continue;
        strtod(space + 1, &end);
        assert_true(*end == '\0' && end > space + 1);
    }
    buf_free(&b);
    buf_init(&b, NULL, 1 << 20);
    meter_text(&m, &g, NULL, 0, 2, &b);
    assert_non_null(strstr(b.data, "llamacpp:requests_deferred 2\n"));
    assert_null(strstr(b.data, "vllm:"));
    buf_free(&b);
}

/* ------------------------------------------------------------------ notices */

static void test_notify(void **state) {
    (void)state;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char got[64] = "";
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/slm-test-notify-%d", (int)getpid());
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    assert_true(notify_send(a.sun_path, "READY=1"));
    assert_int_equal(recv(fd, got, sizeof got - 1, 0), 7);
    assert_string_equal(got, "READY=1");
    close(fd);
    unlink(a.sun_path);
    assert_false(notify_send(a.sun_path, "READY=1"));
    assert_true(notify_send(NULL, "READY=1") && notify_send("", "READY=1"));
    assert_false(notify_send("relative", "READY=1"));
    assert_int_equal(notify_watchdog_ms("30000000"), 15000);
    assert_int_equal(notify_watchdog_ms(NULL) + notify_watchdog_ms("x") + notify_watchdog_ms("-5"), 0);
}

/* ------------------------------------------------------------------ parameters */

/* Twenty-five values that few parameters can have. */
static const char *const values[25] = {
    "true", "\"\"", "\"text\"", "[]", "{}", "-1", "0", "1.5", "-0.0001", "1e308", "-1e308",
    "9223372036854775807", "-9223372036854775808", "4294967296", "2147483648", "1e-320", "[1]",
    "[null]", "[[]]", "{\"a\":1}", "\"1\"", "\"\\ud83d\\ude00\"", "[\"a\",1]", "false",
    "\"nan\"",
};

static bool may_be(const struct param_row *row, const json_t *v) {
    double number = json_number_value(v);
    size_t n = json_is_string(v) ? 1 : json_array_size(v);
    switch (row->type) {
    case PARAM_BOOL:
        return json_is_boolean(v);
    case PARAM_INT:
        return json_is_number(v) && number == floor(number) && fabs(number) <= 9007199254740992.0 &&
               number >= row->low && number <= row->high;
    case PARAM_FLOAT:
        return json_is_number(v) && number >= row->low && number <= row->high;
    case PARAM_STRING:
        return json_is_string(v) && (double)json_string_length(v) <= row->high;
    case PARAM_STRINGS:
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!json_is_string(json_array_get(v, i)))
                return false;
        return (json_is_string(v) || json_is_array(v)) && (double)n >= row->low &&
               (double)n <= row->high;
    case PARAM_ARRAY:
        return json_is_array(v) && (double)n >= row->low && (double)n <= row->high;
    case PARAM_OBJECT:
        return json_is_object(v);
    case PARAM_ANY:
        return true;
    }
    return false;
}

static bool says_name(const struct api_error *e, const struct param_row *row) {
    return strcmp(e->param, row->name) == 0 && strstr(e->message, row->name) != NULL;
}

static void one_value(const struct param_row *row, unsigned place, const json_t *v) {
    static struct params p;
    struct api_error e = { .status = 0 };
    json_t *o = json_object();
    json_object_set(o, row->name, (json_t *)(uintptr_t)v);
    for (size_t i = 0; i < n_params; i++) /* what the place cannot do without */
        if (param_table[i].required && (param_table[i].places & place) &&
            strcmp(param_table[i].name, row->name) != 0)
            json_object_set_new(o, param_table[i].name, json_pack("[s]", "x"));
    bool ok = params_read(o, place, &p, &e);
    if (ok != may_be(row, v)) {
        char *text = json_dumps(v, JSON_ENCODE_ANY);
        fail_msg("%s = %s: %s", row->name, text, ok ? "taken" : e.message);
    }
    if (!ok) {
        assert_int_equal(e.status, 400);
        assert_true(says_name(&e, row));
    } else if (row->id != P_IGNORED) {
        assert_true(p.values[row->id].set && json_equal(p.values[row->id].json, v));
    } else {
        assert_int_equal(p.n_ignored, 1);
    }
    json_decref(o);
}

static void test_params_values(void **state) {
    (void)state;
    size_t n = 0, taken = 0;
    for (size_t r = 0; r < n_params; r++) {
        for (unsigned place = 1; place <= IN_UTIL; place *= 2) {
            if (!(param_table[r].places & place) ||
                params_row(param_table[r].name, place) != &param_table[r])
                continue;
            for (size_t i = 0; i < ARRAY_LEN(values); i++, n++) {
                json_t *v = json_loads(values[i], JSON_DECODE_ANY, NULL);
                assert_non_null(v);
                one_value(&param_table[r], place, v);
                taken += may_be(&param_table[r], v);
                json_decref(v);
            }
        }
    }
    assert_true(n > 2500 && taken < n * 2 / 3);
    print_message("%zu parameters, %zu values, %zu of them right\n", n_params, n, taken);
}

static void test_params_table(void **state) {
    (void)state;
    for (size_t i = 0; i < n_params; i++) {
        const struct param_row *row = &param_table[i];
        assert_true(row->name[0] && row->help[0] && row->places != 0 && row->id < P_COUNT);
        assert_true(row->high >= row->low);
        /* one row only for a name in a place */
        for (size_t k = 0; k < i; k++)
            if (strcmp(param_table[k].name, row->name) == 0 && (param_table[k].places & row->places))
                fail_msg("'%s' stands twice", row->name);
    }
    char *text = params_markdown();
    size_t lines = 0;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, n_params + 2);
    free(text);
}

static void test_params_object(void **state) {
    (void)state;
    static struct params p;
    struct api_error e = { .status = 0 };
    json_t *o = json_loads("{\"messages\":[1],\"max_tokens\":5,\"max_completion_tokens\":5,\"top_p\":null,"
                           "\"foo\":1,\"bar\":2,\"user\":\"me\",\"temperature\":0}", 0, NULL);
    assert_true(params_read(o, IN_CHAT, &p, &e));
    assert_int_equal(p.values[P_MAX_TOKENS].integer, 5);
    assert_false(p.values[P_TOP_P].set); /* null is absent */
    assert_true(p.values[P_TEMPERATURE].set);
    assert_int_equal(p.n_unknown, 2);
    assert_int_equal(p.n_ignored, 1);
    json_object_set_new(o, "max_tokens", json_integer(6));
    assert_false(params_read(o, IN_CHAT, &p, &e)); /* they mean the same and differ */
    assert_int_equal(e.status, 400);
    json_object_del(o, "max_tokens");
    json_object_del(o, "messages");
    assert_false(params_read(o, IN_CHAT, &p, &e));
    assert_string_equal(e.param, "messages");
    json_decref(o);
    o = json_array();
    assert_false(params_read(o, IN_CHAT, &p, &e));
    json_decref(o);
    o = json_pack("{s:[s]}", "messages", "x"); /* more unknown names than are held */
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        json_object_set_new(o, name, json_null());
        json_object_set_new(o, name, json_true());
    }
    assert_true(params_read(o, IN_CHAT, &p, &e));
    assert_int_equal(p.n_unknown, 1000);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_find),     cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_keys_limits),   cmocka_unit_test(test_gate_hosts),
        cmocka_unit_test(test_gate_rest),     cmocka_unit_test(test_pace),
        cmocka_unit_test(test_meter),         cmocka_unit_test(test_notify),
        cmocka_unit_test(test_params_values), cmocka_unit_test(test_params_table),
        cmocka_unit_test(test_params_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
