/* test_cli_options.c - the command line parser, and the values that it checks. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cli/options.h"

enum { WORDS_MOST = 100 };

/* Parses the words of one line (single spaces; '_' inside a word stands for a space). */
static bool parse(struct parsed *p, const char *line) {
    static char copy[2048];
    static char *argv[WORDS_MOST];
    int argc = 0;
    argv[argc++] = (char *)(uintptr_t) "slm";
    strncpy(copy, line, sizeof copy - 1);
    for (char *w = strtok(copy, " "); w && argc < WORDS_MOST; w = strtok(NULL, " ")) {
        for (char *c = w; *c; c++)
            if (*c == '_')
                *c = ' ';
        argv[argc++] = w;
    }
    return options_parse(p, argc, argv);
}

static void good_lines(void **state) {
    struct parsed p;
    (void)state;
    assert_true(parse(&p, ""));
    assert_int_equal(p.command, CMD_HOME);
    options_free(&p);

    assert_true(parse(&p, "run demo What is --temp 0.5 this --top-k=7 -n5"));
    assert_int_equal(p.command, CMD_RUN);
    assert_int_equal(p.n_args, 4);
    assert_string_equal(p.args[1], "What");
    assert_string_equal(p.args[3], "this");
    assert_float_equal(p.values[OPT_TEMP].number, 0.5, 0);
    assert_int_equal(p.values[OPT_TOP_K].integer, 7);
    assert_int_equal(p.values[OPT_MAX_TOKENS].integer, 5);
    options_free(&p);

    assert_true(parse(&p, "--threads 2 -qj run demo - -- --temp -1"));
    assert_int_equal(p.values[OPT_THREADS].integer, 2);
    assert_true(p.values[OPT_QUIET].set && p.values[OPT_JSON].set);
    assert_int_equal(p.n_args, 4);
    assert_string_equal(p.args[1], "-");
    assert_string_equal(p.args[2], "--temp");
    options_free(&p);

    assert_true(parse(&p, "run demo x --stop a --stop=b_c --logit-bias 1=-inf"));
    assert_int_equal(p.values[OPT_STOP].n, 2);
    assert_string_equal(p.values[OPT_STOP].all[1], "b c");
    assert_int_equal(p.values[OPT_LOGIT_BIAS].n, 1);
    options_free(&p);

    /* one name, two rows: the command decides */
    assert_true(parse(&p, "plan demo --context 1,2,3"));
    assert_true(p.values[OPT_CONTEXTS].set && !p.values[OPT_CONTEXT].set);
    options_free(&p);
    assert_true(parse(&p, "-c 512 run demo x"));
    assert_int_equal(p.values[OPT_CONTEXT].integer, 512);
    options_free(&p);
    assert_true(parse(&p, "bench demo -n 4 -p 8 -r 2 -d 0,64 -b 1,16"));
    assert_int_equal(p.values[OPT_BENCH_OUTPUT].integer, 4);
    assert_string_equal(p.values[OPT_BENCH_BATCH].text, "1,16");
    assert_false(p.values[OPT_CHUNK].set);
    assert_false(p.values[OPT_MAX_TOKENS].set);
    options_free(&p);

    assert_true(parse(&p, "chat --resume"));
    assert_string_equal(p.values[OPT_RESUME].text, "");
    options_free(&p);
    assert_true(parse(&p, "chat --resume=tea demo"));
    assert_string_equal(p.values[OPT_RESUME].text, "tea");
    assert_string_equal(p.args[0], "demo");
    options_free(&p);

    assert_true(parse(&p, "run --help")); /* although MODEL is missing */
    options_free(&p);
}

static void bad_lines(void **state) {
    static const struct {
        const char *line, *error, *hint;
    } cases[] = {
        { "runn", "'runn' is not a command", "did you mean 'slm run'?" },
        { "chta", "'chta' is not a command", "did you mean 'slm chat'?" },
        { "frobnicate", "'frobnicate' is not a command", "" },
        { "run", "'slm run' wants MODEL [PROMPT...]", "" },
        { "quantize a", "'slm quantize' wants IN OUT", "" },
        { "plan a b", "'b' is one argument too many", "" },
        { "run demo --tmep 1", "unknown option '--tmep'", "did you mean --temp?" },
        { "run demo --zzzzzzzz", "unknown option '--zzzzzzzz'", "" },
        { "run demo --jsonl", "'--jsonl' is not an option of 'slm run'", "" },
        { "run demo -p 3", "'-p' is not an option of 'slm run'", "" },
        { "run demo -Z", "unknown option '-Z' in '-Z'", "" },
        { "run demo --temp", "--temp wants a value: T", "" },
        { "run demo --temp hot", "--temp wants a number, not 'hot'", "" },
        { "run demo --temp nan", "--temp wants a number, not 'nan'", "" },
        { "run demo --top-p 1.5", "--top-p is 1.5, allowed are 0 to 1", "" },
        { "run demo --top-k -1", "--top-k is -1, allowed are 0 to 1000000000", "" },
        { "run demo -n 0", "-n is 0, allowed are 1 to 1000000000", "" },
        { "run demo -n 5x", "-n wants a whole number, not '5x'", "" },
        { "run demo -n 99999999999999999999", "-n wants a whole number, not '99999999999999999999'",
          "" },
        { "run demo --think maybe", "--think is one of on|off, not 'maybe'", "" },
        { "run demo --isa sse", "--isa is one of ref|avx2|avx512|amx|neon, not 'sse'", "" },
        { "run demo --json=1", "--json takes no value", "" },
        { "run demo --temp 1 --temp 2", "--temp is given twice", "" },
        { "run demo --date 2025-02-30", "--date wants a date YYYY-MM-DD, not '2025-02-30'", "" },
        { "run demo --max-memory lots", "--max-memory wants a size such as 500M or 6G, not 'lots'",
          "" },
        { "plan demo --context 1,x", "--context wants numbers with commas between them, not '1,x'",
          "" },
        { "plan demo --context 0", "--context holds 0, allowed are 1 to 1000000000", "" },
        { "logits demo --ids 1 --split 0", "--split holds 0, allowed are 1 to 10000000", "" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parsed p;
        assert_false(parse(&p, cases[i].line));
        assert_string_equal(p.error, cases[i].error);
        assert_string_equal(p.hint, cases[i].hint);
        options_free(&p);
    }
}

/* --json shapes the report of an error in front of it. */
static void json_after_error(void **state) {
    struct parsed p;
    (void)state;
    assert_false(parse(&p, "run demo --bogus --json"));
    assert_true(p.values[OPT_JSON].set);
    options_free(&p);
}

static void many_of_one(void **state) {
    struct parsed p;
    (void)state;
    assert_true(parse(&p, "run demo x"));
    for (int i = 0; i < MAX_REPEAT; i++)
        assert_true(options_set(&p, OPT_STOP, "a", "--stop"));
    assert_false(options_set(&p, OPT_STOP, "a", "--stop"));
    assert_string_equal(p.error, "--stop is given more than 64 times");
    options_free(&p);
}

static void values(void **state) {
    uint64_t bytes;
    int64_t n;
    size_t count;
    const char *bad;
    (void)state;
    assert_true(parse_size("500M", &bytes) && bytes == UINT64_C(500) << 20);
    assert_true(parse_size("1.5G", &bytes) && bytes == UINT64_C(3) << 29);
    assert_true(parse_size("6GiB", &bytes) && bytes == UINT64_C(6) << 30);
    assert_true(parse_size("7", &bytes) && bytes == 7);
    assert_false(parse_size("", &bytes) || parse_size("-1", &bytes) || parse_size("G", &bytes));
    assert_false(parse_size("1X", &bytes) || parse_size("1e30G", &bytes) ||
                 parse_size("nan", &bytes));

    assert_true(parse_date("1970-01-01", &n) && n == 0);
    assert_true(parse_date("2025-07-08", &n) && n == 1751932800);
    assert_true(parse_date("2000-02-29", &n) && n == 951782400);
    assert_true(parse_date("1969-12-31", &n) && n == -86400);
    assert_false(parse_date("1900-02-29", &n) || parse_date("2025-13-01", &n) ||
                 parse_date("2025-00-10", &n));
    assert_false(parse_date("2025-1-01", &n) || parse_date("2025/01/01", &n) ||
                 parse_date("2025-01-0x", &n));

    int64_t *list = parse_ints("1, 2,3\n4", &count, &bad);
    assert_non_null(list);
    assert_int_equal(count, 4);
    assert_int_equal(list[3], 4);
    free(list);
    assert_null(parse_ints("", &count, &bad));
    assert_null(parse_ints("1;2", &count, &bad));
    assert_string_equal(bad, "1;2");
}

/* No two options of one command share a name or a letter, and every row is complete. */
static void table_is_sound(void **state) {
    (void)state;
    for (size_t i = 0; i < OPT_COUNT; i++) {
        const struct option_row *a = &option_table[i];
        assert_non_null(a->name);
        assert_non_null(a->help);
        assert_true(a->commands != 0);
        assert_true((a->kind == ARG_FLAG) == (a->value == NULL));
        for (size_t k = i + 1; k < OPT_COUNT; k++) {
            const struct option_row *b = &option_table[k];
            if (!(a->commands & b->commands))
                continue;
            assert_string_not_equal(a->name, b->name);
            assert_true(!a->letter || a->letter != b->letter);
        }
    }
    for (size_t i = 0; i < CMD_COUNT; i++)
        assert_true(command_table[i].name && command_table[i].line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_lines),       cmocka_unit_test(bad_lines),
        cmocka_unit_test(json_after_error), cmocka_unit_test(many_of_one),
        cmocka_unit_test(values),           cmocka_unit_test(table_is_sound),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
