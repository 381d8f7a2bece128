/* test_cli_store.c - conversations on disk: what is saved comes back, two writers do not mix, names,
 * deletion, and a file from a newer program. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

static struct cli c; /* zero: reports go to standard error */

static int make_home(void **state) {
    char home[] = "/tmp/slm-test-XXXXXX";
    if (!mkdtemp(home))
        return -1;
    setenv("SLM_HOME", home, 1);
    *state = strdup(home);
    return *state ? 0 : -1;
}

static int drop_home(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(command);
}

static json_t *talk(size_t turns) {
    json_t *list = json_array();
    for (size_t i = 0; i < turns; i++) {
        char text[64];
        snprintf(text, sizeof text, "question %zu \xc3\xa9", i);
        json_array_append_new(list, json_pack("{s:s, s:s}", "role", "user", "content", text));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "role", "assistant",
                                              "content", "answer", "reasoning_content", "because",
                                              "finish", "stop"));
    }
    return list;
}

static void round_trip(void **state) {
    (void)state;
    struct store *s = store_open(&c);
    json_t *wrote = talk(2), *read = json_array();
    char *model, *system;
    int64_t id = 0;
    assert_non_null(s);
    assert_true(store_save(s, &id, "demo", "be brief", wrote, 0));
    assert_true(id > 0);
    json_t *more = talk(3);
    assert_true(store_save(s, &id, "demo", "be brief", more, 4));
    store_close(s);
    s = store_open(&c);
    assert_true(store_find(s, NULL, "demo") == id);
    assert_true(store_find(s, "", NULL) == id);
    assert_true(store_find(s, NULL, "other") == 0);
    assert_true(store_load(s, id, read, &model, &system));
    assert_true(json_equal(read, more));
    assert_string_equal(model, "demo");
    assert_string_equal(system, "be brief");
    free(model);
    free(system);
    json_decref(wrote);
    json_decref(more);
    json_decref(read);
    store_close(s);
}

/* Two programs go on with one conversation: the second to save gets a copy, nothing is lost. */
static void two_writers(void **state) {
    (void)state;
    struct store *a = store_open(&c), *b = store_open(&c);
    json_t *one = talk(1), *two = talk(2), *three = talk(3), *read = json_array();
    char *model, *system;
    int64_t id_a = 0, id_b;
    assert_true(store_save(a, &id_a, "demo", NULL, one, 0));
    id_b = id_a;
    assert_true(store_save(a, &id_a, "demo", NULL, three, 2));
    assert_true(store_save(b, &id_b, "demo", NULL, two, 2));
    assert_true(id_a != id_b);
    assert_true(store_load(b, id_a, read, &model, &system));
    assert_true(json_equal(read, three));
    assert_null(system);
    free(model);
    json_array_clear(read);
    assert_true(store_load(a, id_b, read, &model, &system));
    assert_true(json_equal(read, two));
    free(model);
    json_decref(one);
    json_decref(two);
    json_decref(three);
    json_decref(read);
    store_close(a);
    store_close(b);
}

static bool count_rows(void *user, const struct store_row *row) {
    ++*(int *)user;
    assert_true(row->id > 0);
    assert_int_equal(row->turns, 1);
    assert_string_equal(row->first, "question 0 \xc3\xa9");
    return true;
}

static void names(void **state) {
    (void)state;
    struct store *s = store_open(&c);
    json_t *one = talk(1);
    int64_t a = 0, b = 0;
    char number[24];
    int rows = 0;
    assert_true(store_save(s, &a, "demo", NULL, one, 0));
    assert_true(store_save(s, &b, "demo", NULL, one, 0));
    assert_true(store_name(s, a, "tea"));
    assert_false(store_name(s, b, "tea")); /* taken */
    assert_true(store_find(s, "tea", NULL) == a);
    snprintf(number, sizeof number, "%lld", (long long)b);
    assert_true(store_find(s, number, NULL) == b);
    assert_true(store_find(s, "'; DROP TABLE message; --", NULL) == 0);
    assert_true(store_list(s, count_rows, &rows));
    assert_int_equal(rows, 2);
    assert_true(store_delete(s, a));
    assert_true(store_find(s, "tea", NULL) == 0);
    /* saving to a conversation that was deleted meanwhile makes a new one */
    int64_t gone = a;
    json_t *two = talk(2);
    assert_true(store_save(s, &gone, "demo", NULL, two, 2));
    assert_true(gone != a);
    json_decref(one);
    json_decref(two);
    store_close(s);
}

static void newer_file(void **state) {
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/chats.db", (const char *)*state);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_null(store_open(&c));
}

static void private_files(void **state) {
    struct stat st;
    char path[128];
    struct store *s = store_open(&c);
    snprintf(path, sizeof path, "%s/chats.db", (const char *)*state);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    store_close(s);
}

static void broken_file(void **state) {
    char path[128];
    snprintf(path, sizeof path, "%s/chats.db", (const char *)*state);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 2000; i++)
        fputs("no database ", f);
    fclose(f);
    assert_null(store_open(&c));
}

int main(void) {
#define IN_HOME(test) cmocka_unit_test_setup_teardown(test, make_home, drop_home)
    const struct CMUnitTest tests[] = {
        IN_HOME(round_trip), IN_HOME(two_writers),   IN_HOME(names),
        IN_HOME(newer_file), IN_HOME(private_files), IN_HOME(broken_file),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
