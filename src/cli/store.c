/* store.c - conversations in SQLite ($SLM_HOME/chats.db).
 *
 * Write-ahead log with synchronous=FULL: a turn is on disk when store_save returns, whatever happens
 * to the program or the machine afterwards. Several programs may use the file at once; when two go on
 * with the same conversation, the second one's turns go to a copy. user_version holds the version of
 * the tables; a file of a newer program is left alone. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cli.h"

enum { STORE_VERSION = 3, WAIT_MS = 10000 };

struct store {
    sqlite3 *db;
    char failed[256]; /* message of a failed transaction, which its rollback would hide */
};

/* [i] brings version i to i + 1. */
static const char *const migrations[STORE_VERSION] = {
    "CREATE TABLE conversation(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, model TEXT "
    "NOT NULL,"
    " system TEXT, created INTEGER NOT NULL, changed INTEGER NOT NULL);"
    "CREATE TABLE message(conversation INTEGER NOT NULL REFERENCES conversation(id) ON DELETE "
    "CASCADE,"
    " position INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, reasoning TEXT, finish "
    "TEXT,"
    " created INTEGER NOT NULL, PRIMARY KEY(conversation, position)) WITHOUT ROWID;"
    "CREATE INDEX conversation_changed ON conversation(changed);",
    /* calls of tools, a JSON array */
    "ALTER TABLE message ADD COLUMN calls TEXT;",
    /* files that go with it, a JSON array */
    "ALTER TABLE message ADD COLUMN pictures TEXT;",
};

const char *store_error(struct store *s) {
    return s->failed[0] ? s->failed : sqlite3_errmsg(s->db);
}

static bool run_sql(struct store *s, const char *sql) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static sqlite3_stmt *prepare(struct store *s, const char *sql) {
    sqlite3_stmt *statement = NULL;
    return sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL) == SQLITE_OK ? statement : NULL;
}

static void bind_text(sqlite3_stmt *st, int at, const char *text) {
    if (text)
        sqlite3_bind_text(st, at, text, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(st, at);
}

/* Runs a statement that gives no rows and frees it. */
static bool finish(sqlite3_stmt *st) {
    bool ok = st && sqlite3_step(st) == SQLITE_DONE;
    sqlite3_finalize(st);
    return ok;
}

/* First number of the first row, or fallback. */
static int64_t one_number(sqlite3_stmt *st, int64_t fallback) {
    int64_t v = fallback;
    if (st && sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return v;
}

/* ------------------------------------------------------------------ open */

/* The version is read again inside the transaction: two programs may start at once on a new file. */
static bool migrate(struct store *s, int64_t *version) {
    *version = one_number(prepare(s, "PRAGMA user_version"), -1);
    if (*version == STORE_VERSION)
        return true;
    if (!run_sql(s, "BEGIN IMMEDIATE"))
        return false;
    *version = one_number(prepare(s, "PRAGMA user_version"), -1);
    bool ok = *version >= 0 && *version <= STORE_VERSION;
    for (int64_t v = *version; ok && v < STORE_VERSION; v++) {
        char set[64];
        snprintf(set, sizeof set, "PRAGMA user_version = %d", (int)v + 1);
        ok = run_sql(s, migrations[v]) && run_sql(s, set);
    }
    if (ok && run_sql(s, "COMMIT"))
        return true;
    run_sql(s, "ROLLBACK");
    return false;
}

struct store *store_open(struct cli *c) {
    if (!home_make(c))
        return NULL;
    char *path = home_path("chats.db");
    struct store *s = keep(calloc(1, sizeof *s));
    int64_t version = 0;
    mode_t before = umask(077); /* conversations are private */
    bool ok = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) ==
              SQLITE_OK;
    ok = ok && sqlite3_busy_timeout(s->db, WAIT_MS) == SQLITE_OK &&
         run_sql(s, "PRAGMA journal_mode = WAL") && run_sql(s, "PRAGMA synchronous = FULL") &&
         run_sql(s, "PRAGMA foreign_keys = ON") && migrate(s, &version);
    umask(before);
    if (!ok) {
        if (version > STORE_VERSION)
            report(c, EXIT_COULD_NOT, "E_STATE", "--no-save    chats without the file",
                   "%s was written by a newer slm (version %lld, this one knows %d)", path,
                   (long long)version, STORE_VERSION);
        else
            report(c, EXIT_COULD_NOT, "E_IO", "--no-save    chats without the file",
                   "cannot use %s: %s", path, s->db ? store_error(s) : "out of memory");
        store_close(s);
        s = NULL;
    }
    free(path);
    return s;
}

void store_close(struct store *s) {
    if (!s)
        return;
    sqlite3_close(s->db);
    free(s);
}

/* ------------------------------------------------------------------ read */

bool store_list(struct store *s, bool (*each)(void *user, const struct store_row *row),
                void *user) {
    sqlite3_stmt *st = prepare(
        s,
        "SELECT c.id, c.name, c.model, c.system, c.changed,"
        " (SELECT count(*) FROM message WHERE conversation = c.id AND role = 'user'),"
        " (SELECT substr(content, 1, 200) FROM message WHERE conversation = c.id AND role = 'user'"
        "  ORDER BY position LIMIT 1)"
        " FROM conversation c ORDER BY c.changed DESC, c.id DESC");
    int step = SQLITE_ERROR;
    while (st && (step = sqlite3_step(st)) == SQLITE_ROW) {
        struct store_row row = { .id = sqlite3_column_int64(st, 0),
                                 .name = (const char *)sqlite3_column_text(st, 1),
                                 .model = (const char *)sqlite3_column_text(st, 2),
                                 .system = (const char *)sqlite3_column_text(st, 3),
                                 .changed = sqlite3_column_int64(st, 4),
                                 .turns = sqlite3_column_int64(st, 5),
                                 .first = (const char *)sqlite3_column_text(st, 6) };
        if (!each(user, &row)) {
            step = SQLITE_DONE;
            break;
        }
    }
    sqlite3_finalize(st);
    return step == SQLITE_DONE;
}

int64_t store_find(struct store *s, const char *key, const char *model) {
    int64_t number, id = 0;
    sqlite3_stmt *st;
    if (!key || !key[0]) {
        st = prepare(s, "SELECT id FROM conversation WHERE ?1 IS NULL OR model = ?1 ORDER BY "
                        "changed DESC, id DESC LIMIT 1");
        if (st)
            bind_text(st, 1, model);
        return one_number(st, 0);
    }
    st = prepare(s, "SELECT id FROM conversation WHERE name = ?1");
    if (st)
        bind_text(st, 1, key);
    id = one_number(st, 0);
    if (!id && parse_int(key, &number)) {
        st = prepare(s, "SELECT id FROM conversation WHERE id = ?1");
        if (st)
            sqlite3_bind_int64(st, 1, number);
        id = one_number(st, 0);
    }
    return id;
}

static char *column_copy(sqlite3_stmt *st, int at) {
    const char *text = (const char *)sqlite3_column_text(st, at);
    return text ? keep(strdup(text)) : NULL;
}

static void append_row(json_t *messages, sqlite3_stmt *st) {
    json_t *m = keep_json(json_object());
    static const char *const keys[] = { "role", "content", "reasoning_content", "finish" };
    for (int i = 0; i < 4; i++) {
        const char *text = (const char *)sqlite3_column_text(st, i);
        json_t *value = text ? json_stringn(text, (size_t)sqlite3_column_bytes(st, i)) : NULL;
        if (value)
            json_object_set_new(m, keys[i], value);
    }
    static const char *const lists[] = { "tool_calls", "pictures" };
    for (int i = 0; i < 2; i++) {
        const char *text = (const char *)sqlite3_column_text(st, 4 + i);
        json_t *list = text ? json_loads(text, 0, NULL) : NULL;
        if (list)
            json_object_set_new(m, lists[i], list);
    }
    json_array_append_new(messages, m);
}

bool store_load(struct store *s, int64_t id, json_t *messages, char **model, char **system) {
    sqlite3_stmt *st = prepare(s, "SELECT model, system FROM conversation WHERE id = ?1");
    *model = *system = NULL;
    if (st)
        sqlite3_bind_int64(st, 1, id);
    bool ok = st && sqlite3_step(st) == SQLITE_ROW;
    if (ok) {
        *model = column_copy(st, 0);
        *system = column_copy(st, 1);
    }
    sqlite3_finalize(st);
    st = ok ? prepare(s, "SELECT role, content, reasoning, finish, calls, pictures FROM message WHERE conversation "
                         "= ?1 ORDER BY position")
            : NULL;
    if (st)
        sqlite3_bind_int64(st, 1, id);
    int step = SQLITE_ERROR;
    while (st && (step = sqlite3_step(st)) == SQLITE_ROW)
        append_row(messages, st);
    sqlite3_finalize(st);
    return ok && step == SQLITE_DONE;
}

/* ------------------------------------------------------------------ write */

static bool new_conversation(struct store *s, const char *model, const char *system, int64_t now,
                             int64_t *id) {
    sqlite3_stmt *st = prepare(
        s, "INSERT INTO conversation(model, system, created, changed) VALUES(?1, ?2, ?3, ?3)");
    if (!st)
        return false;
    bind_text(st, 1, model);
    bind_text(st, 2, system);
    sqlite3_bind_int64(st, 3, now);
    if (!finish(st))
        return false;
    *id = sqlite3_last_insert_rowid(s->db);
    return true;
}

static bool touch_conversation(struct store *s, const char *model, const char *system, int64_t now,
                               int64_t id) {
    sqlite3_stmt *st =
        prepare(s, "UPDATE conversation SET model = ?1, system = ?2, changed = ?3 WHERE id = ?4");
    if (!st)
        return false;
    bind_text(st, 1, model);
    bind_text(st, 2, system);
    sqlite3_bind_int64(st, 3, now);
    sqlite3_bind_int64(st, 4, id);
    return finish(st);
}

static void bind_list(sqlite3_stmt *st, int at, const json_t *list) {
    char *text = list ? keep(json_dumps(list, JSON_COMPACT)) : NULL;
    bind_text(st, at, text);
    free(text);
}

static bool insert_message(struct store *s, int64_t id, size_t position, const json_t *m,
                           int64_t now) {
    sqlite3_stmt *st = prepare(
        s, "INSERT INTO message(conversation, position, role, content, reasoning, finish, created, "
           "calls, pictures) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    if (!st)
        return false;
    sqlite3_bind_int64(st, 1, id);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)position);
    bind_text(st, 3, json_string_value(json_object_get(m, "role")));
    const json_t *content = json_object_get(m, "content");
    sqlite3_bind_text64(st, 4, json_string_value(content), json_string_length(content),
                        SQLITE_TRANSIENT, SQLITE_UTF8);
    bind_text(st, 5, json_string_value(json_object_get(m, "reasoning_content")));
    bind_text(st, 6, json_string_value(json_object_get(m, "finish")));
    sqlite3_bind_int64(st, 7, now);
    bind_list(st, 8, json_object_get(m, "tool_calls"));
    bind_list(st, 9, json_object_get(m, "pictures"));
    return finish(st);
}

static int64_t stored_messages(struct store *s, int64_t id) {
    sqlite3_stmt *st = prepare(s, "SELECT count(*) FROM message WHERE conversation = ?1");
    if (st)
        sqlite3_bind_int64(st, 1, id);
    return one_number(st, -1);
}

bool store_save(struct store *s, int64_t *id, const char *model, const char *system,
                json_t *messages, size_t from) {
    int64_t now = (int64_t)time(NULL), into = *id;
    s->failed[0] = 0;
    if (!run_sql(s, "BEGIN IMMEDIATE"))
        return false;
    bool ok = true;
    if (into && stored_messages(s, into) != (int64_t)from)
        into = 0; /* somebody else went on with it, or deleted it */
    if (into) {
        ok = touch_conversation(s, model, system, now, into);
    } else {
        ok = new_conversation(s, model, system, now, &into);
        from = 0;
    }
    for (size_t i = from; ok && i < json_array_size(messages); i++)
        ok = insert_message(s, into, i, json_array_get(messages, i), now);
    ok = ok && run_sql(s, "COMMIT");
    if (ok) {
        *id = into;
        return true;
    }
    snprintf(s->failed, sizeof s->failed, "%s", sqlite3_errmsg(s->db));
    if (!sqlite3_get_autocommit(s->db))
        run_sql(s, "ROLLBACK");
    return false;
}

bool store_name(struct store *s, int64_t id, const char *name) {
    sqlite3_stmt *st = prepare(s, "UPDATE conversation SET name = ?1 WHERE id = ?2");
    if (!st)
        return false;
    bind_text(st, 1, name);
    sqlite3_bind_int64(st, 2, id);
    return finish(st);
}

bool store_delete(struct store *s, int64_t id) {
    sqlite3_stmt *st = prepare(s, "DELETE FROM conversation WHERE id = ?1");
    if (!st)
        return false;
    sqlite3_bind_int64(st, 1, id);
    return finish(st);
}
