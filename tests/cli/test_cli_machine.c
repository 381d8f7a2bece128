/* test_cli_machine.c - memory of the machine and its control groups, and numbers for people. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

static const char meminfo[] =
    "MemTotal:        8000000 kB\nMemFree:         100000 kB\nMemAvailable:    5000000 kB\n";

static void put(const char *root, const char *rel, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, rel);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = 0;
        mkdir(path, 0700);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make_root(void **state) {
    static char root[] = "/tmp/slm-test-XXXXXX";
    *state = mkdtemp(root);
    return *state ? 0 : -1;
}

static int drop_root(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (const char *)*state);
    return system(command);
}

static void plain(void **state) {
    struct machine_memory m;
    memory_parse(meminfo, "", *state, &m);
    assert_true(m.total == UINT64_C(8000000) * 1024);
    assert_true(m.available == UINT64_C(5000000) * 1024);
    assert_false(m.limited);
    memory_parse("", "", *state, &m);
    assert_true(m.total == 0 && m.available == 0);
}

static void version_two(void **state) {
    struct machine_memory m;
    put(*state, "user/app/memory.max", "max\n");
    put(*state, "user/memory.max", "1000000000\n"); /* the one above counts too */
    put(*state, "user/memory.current", "600000000\n");
    put(*state, "user/memory.stat", "anon 1\nfile 2\ninactive_file 100000000\nactive_file 3\n");
    memory_parse(meminfo, "0::/user/app\n", *state, &m);
    assert_true(m.limited);
    assert_true(m.total == 1000000000);
    assert_true(m.available == 500000000);
    /* a limit above the machine's memory is none */
    put(*state, "wide/memory.max", "9000000000000\n");
    memory_parse(meminfo, "0::/wide\n", *state, &m);
    assert_false(m.limited);
    /* nothing is read outside the mount */
    memory_parse(meminfo, "0::/../../etc\n", *state, &m);
    assert_false(m.limited);
}

static void version_one(void **state) {
    struct machine_memory m;
    put(*state, "memory/box/memory.limit_in_bytes", "2000000000\n");
    put(*state, "memory/box/memory.usage_in_bytes", "2500000000\n");
    memory_parse(meminfo, "7:cpu:/other\n5:memory:/box\n", *state, &m);
    assert_true(m.limited && m.total == 2000000000 && m.available == 0);
}

static void numbers(void **state) {
    char t[40];
    (void)state;
    assert_string_equal(format_bytes(0, t, sizeof t), "0 B");
    assert_string_equal(format_bytes(999, t, sizeof t), "999 B");
    assert_string_equal(format_bytes(1023, t, sizeof t), "1.0 KiB");
    assert_string_equal(format_bytes(UINT64_C(639) << 20, t, sizeof t), "639 MiB");
    assert_string_equal(format_bytes(UINT64_C(3) << 29, t, sizeof t), "1.5 GiB");
    assert_string_equal(format_bytes(UINT64_MAX, t, sizeof t), "16777216 TiB");
    assert_string_equal(format_count(0, t, sizeof t), "0");
    assert_string_equal(format_count(999, t, sizeof t), "999");
    assert_string_equal(format_count(1000, t, sizeof t), "1,000");
    assert_string_equal(format_count(1234567, t, sizeof t), "1,234,567");
    assert_string_equal(format_seconds(59.4, t, sizeof t), "59 s");
    assert_string_equal(format_seconds(125, t, sizeof t), "2 min 5 s");
    assert_string_equal(format_seconds(7260, t, sizeof t), "2 h 1 min");
    assert_int_equal(text_columns("h\xc3\xa9!", 4), 3);
}

static void exit_codes(void **state) {
    (void)state;
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_FORMAT), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_UNSUPPORTED), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_MISMATCH), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_TEMPLATE), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_BUDGET), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_NUMERIC), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_ENCODING), 3);
    assert_int_equal(exit_code_of(AT_LOAD, SLM_E_NOTFOUND), 1);
    assert_int_equal(exit_code_of(AT_WORK, SLM_E_FORMAT), 1);
    assert_int_equal(exit_code_of(AT_WORK, SLM_E_BUDGET), 1);
    assert_int_equal(exit_code_of(AT_WORK, SLM_E_MEMORY), 4);
    assert_int_equal(exit_code_of(AT_WORK, SLM_E_CONTEXT), 1);
    assert_int_equal(exit_code_of(AT_WORK, SLM_E_CANCELLED), 130);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),   cmocka_unit_test(version_two), cmocka_unit_test(version_one),
        cmocka_unit_test(numbers), cmocka_unit_test(exit_codes),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
