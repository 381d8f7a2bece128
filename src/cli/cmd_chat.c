/* cmd_chat.c - `slm chat MODEL`: a conversation.
 *
 * Every finished turn is saved (store.c) before the next prompt appears. Lines that start with '/'
 * are commands (a message may start with '//'). Without a terminal each line is a message, which
 * makes the chat usable from scripts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/prompt.h"

struct chat {
    struct cli *c;
    struct loaded m;
    const char *model_name; /* as the user wrote it; what --resume looks for */
    json_t *messages;
    struct asking asking;
    json_t *pictures; /* files that go with the next message */
    struct shown shown[2]; /* of this turn and of the one before, in turns */
    bool which;
    char *system; /* owned or NULL */
    enum think_choice think;
    uint32_t think_budget; /* 0: none */
    struct store *store;   /* NULL with --no-save */
    int64_t id;            /* 0: not saved yet */
    size_t saved;          /* messages of it on disk */
    slm_result last;
    bool has_last, quit;
    int failed; /* exit code of the last turn that failed, for scripts */
};

/* ------------------------------------------------------------------ saving */

static void save(struct chat *chat) {
    int64_t id = chat->id;
    size_t n = json_array_size(chat->messages);
    if (!chat->store || n == 0)
        return;
    if (!store_save(chat->store, &id, chat->model_name, chat->system, chat->messages,
                    chat->saved)) {
        chat->failed = report(chat->c, EXIT_COULD_NOT, "E_IO", NULL, "the turn was not saved: %s",
                              store_error(chat->store));
        return;
    }
    if (chat->id && id != chat->id)
        note(chat->c, "conversation %lld went on elsewhere; this one is now %lld",
             (long long)chat->id, (long long)id);
    chat->id = id;
    chat->saved = n;
}

static void forget(struct chat *chat) {
    json_array_clear(chat->messages);
    chat->id = 0;
    chat->saved = 0;
    chat->has_last = false;
}

static int load(struct chat *chat, int64_t id, bool take_system) {
    json_t *messages = keep_json(json_array());
    char *model, *system;
    if (!store_load(chat->store, id, messages, &model, &system)) {
        json_decref(messages);
        free(model);
        free(system);
        return report(chat->c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read conversation %lld: %s",
                      (long long)id, store_error(chat->store));
    }
    json_decref(chat->messages);
    chat->messages = messages;
    chat->id = id;
    chat->saved = json_array_size(messages);
    if (take_system) {
        free(chat->system);
        chat->system = system;
    } else {
        free(system);
    }
    if (model && strcmp(model, chat->model_name) != 0)
        note(chat->c, "this conversation was held with %s", model);
    note(chat->c, "conversation %lld, %zu turns so far", (long long)id, chat->saved / 2);
    free(model);
    return EXIT_DONE;
}

/* ------------------------------------------------------------------ one turn */

/* The message as the model is given it: pictures before its text, nothing of the program's own. */
static json_t *as_asked(json_t *message) {
    const json_t *pictures = json_object_get(message, "pictures");
    size_t n = json_array_size(pictures);
    json_t *copy = keep_json(json_copy(message));
    json_object_del(copy, "finish");
    if (n == 0)
        return copy;
    json_object_del(copy, "pictures");
    json_object_set_new(copy, "content", picture_parts(n, json_object_get(message, "content")));
    return copy;
}

static json_t *turn_messages(const struct chat *chat) {
    json_t *all = keep_json(json_array());
    if (chat->system)
        json_array_append_new(
            all, keep_json(json_pack("{s:s, s:s}", "role", "system", "content", chat->system)));
    size_t i;
    json_t *message;
    json_array_foreach(chat->messages, i, message)
        json_array_append_new(all, as_asked(message));
    return all;
}

/* Opens the pictures of all messages again: what the engine remembers costs nothing. */
static int show_history(struct chat *chat, struct shown *s) {
    size_t i, j;
    json_t *message, *path;
    int code = EXIT_DONE;
    json_array_foreach(chat->messages, i, message)
        json_array_foreach(json_object_get(message, "pictures"), j, path)
            if (code == EXIT_DONE)
                code = show_picture(chat->c, &chat->m, json_string_value(path), s);
    return code;
}

static void keep_answer(struct chat *chat, const struct speaker *s, const slm_result *r) {
    json_t *m = keep_json(json_pack("{s:s}", "role", "assistant"));
    json_object_set_new(
        m, "content", keep_json(json_stringn(s->answer.len ? s->answer.data : "", s->answer.len)));
    if (s->reasoning.len)
        json_object_set_new(m, "reasoning_content",
                            json_stringn(s->reasoning.data, s->reasoning.len));
    if (json_array_size(s->calls) > 0)
        json_object_set(m, "tool_calls", s->calls);
    json_object_set_new(m, "finish", json_string(finish_name(r->finish)));
    json_array_append_new(chat->messages, m);
}

static void print_turn_json(struct chat *chat, const struct speaker *s, const slm_result *r) {
    json_t *doc = keep_json(json_object());
    json_object_set_new(doc, "answer",
                        json_stringn(s->answer.len ? s->answer.data : "", s->answer.len));
    json_object_set_new(doc, "reasoning",
                        s->reasoning.len ? json_stringn(s->reasoning.data, s->reasoning.len)
                                         : json_null());
    if (json_array_size(s->calls) > 0)
        json_object_set(doc, "tool_calls", s->calls);
    json_object_set_new(doc, "conversation", chat->id ? json_integer(chat->id) : json_null());
    add_receipt(doc, chat->c, &chat->m, r);
    out_json(&chat->c->out, doc, true);
}

/* Asks the model; the answer is printed as it comes. */
static slm_err ask(struct chat *chat, struct speaker *s, slm_result *r, slm_why *why, int *code) {
    slm_generate_options o;
    slm_prompt *prompt;
    struct shown *shown = &chat->shown[!chat->which];
    *code = answer_options(chat->c, &chat->m, chat->think, &o);
    if (*code != EXIT_DONE)
        return SLM_OK;
    json_t *messages = turn_messages(chat);
    *code = show_history(chat, shown);
    o.render.images = (const slm_image *const *)shown->list;
    o.render.n_images = shown->n;
    if (*code == EXIT_DONE)
        *code = prompt_of(chat->c, &chat->m, messages, chat->think, &chat->asking, &o, &prompt);
    json_decref(messages);
    if (*code != EXIT_DONE) {
        shown_free(shown);
        return SLM_OK;
    }
    o.prompt = prompt;
    o.think_budget = chat->think_budget;
    o.on_text = speaker_text;
    o.on_call = speaker_call;
    o.on_prefill = speaker_prefill;
    o.user = s;
    slm_session_resume(chat->m.session);
    signals_watch(chat->m.session);
    slm_err err = slm_chat(chat->m.session, NULL, 0, &o, r, why);
    signals_idle();
    slm_prompt_free(prompt);
    chat->which = !chat->which; /* the session may still hold the ones of the turn before until now */
    shown_free(&chat->shown[!chat->which]);
    return err;
}

static void turn(struct chat *chat, const char *text, size_t n) {
    struct cli *c = chat->c;
    struct speaker s;
    slm_result r = { .size = sizeof r };
    slm_why why;
    int code;
    if (!add_message(c, chat->messages, "user", text, n)) {
        chat->failed = EXIT_COULD_NOT;
        return;
    }
    if (chat->pictures) {
        json_object_set_new(json_array_get(chat->messages, json_array_size(chat->messages) - 1),
                            "pictures", chat->pictures);
        chat->pictures = NULL;
    }
    speaker_init(&s, c, !c->json);
    slm_err err = ask(chat, &s, &r, &why, &code);
    speaker_end(&s);
    if (code == EXIT_DONE && err != SLM_OK)
        code = report_answer(c, &chat->m, err, &why, r.prompt_tokens);
    bool stopped = err == SLM_OK && r.finish == SLM_FINISH_CANCELLED;
    if (code != EXIT_DONE || (stopped && s.answer.len == 0 && json_array_size(s.calls) == 0)) {
        json_array_remove(chat->messages, json_array_size(chat->messages) - 1);
        chat->failed = stopped ? EXIT_INTERRUPTED : code;
    } else {
        keep_answer(chat, &s, &r);
        save(chat);
        chat->last = r;
        chat->has_last = true;
        if (c->json)
            print_turn_json(chat, &s, &r);
        note_finish(c, &chat->m, &r);
    }
    out_flush(&c->out);
    speaker_free(&s);
}

/* ------------------------------------------------------------------ commands of the chat */

static void show_help(struct chat *chat) {
    out_text(&chat->c->out,
             "/think on|off|N   reasoning on, off, or at most N tokens of it\n"
             "/system TEXT      the system message; without TEXT it is taken away\n"
             "/reset            a new conversation\n"
             "/save NAME        give this conversation a name\n"
             "/load NAME        go on with another one, by name or number\n"
             "/list             the saved conversations\n"
             "/image FILE       shows a picture with the next message\n"
             "/stats            tokens, speed and context of the last answer\n"
             "/help  /quit      Ctrl-C stops an answer, Ctrl-D leaves\n"
             "A line ending in \\ goes on; lines between two lines of \"\"\" are one message;\n"
             "// at the start is a message that starts with /.\n");
}

static void show_stats(struct chat *chat) {
    char a[32], b[32], d[32];
    struct output *o = &chat->c->out;
    const slm_result *r = &chat->last;
    out_printf(o, "model     %s, %s, %s\n", model_title(&chat->m), chat->m.info.types,
               chat->m.info.isa);
    out_printf(o, "memory    %s planned\n", format_bytes(chat->m.plan.total + chat->m.draft_bytes, a, sizeof a));
    out_printf(o, "context   %s of %s tokens used\n",
               format_count(slm_session_length(chat->m.session), a, sizeof a),
               format_count(slm_session_context(chat->m.session), b, sizeof b));
    if (!chat->has_last)
        return;
    size_t evaluated = r->prompt_tokens - r->reused_tokens;
    out_printf(o, "prompt    %s tokens, %s of them from the cache, %.0f tokens/s\n",
               format_count(r->prompt_tokens, a, sizeof a),
               format_count(r->reused_tokens, b, sizeof b),
               r->prefill_ns ? (double)evaluated * 1e9 / (double)r->prefill_ns : 0.0);
    out_printf(o, "answer    %s tokens, %s of them reasoning, %.1f tokens/s, seed %llu\n",
               format_count(r->output_tokens, a, sizeof a),
               format_count(r->reasoning_tokens, d, sizeof d),
               r->decode_ns ? (double)r->output_tokens * 1e9 / (double)r->decode_ns : 0.0,
               (unsigned long long)r->sampling.seed);
    if (r->guessed_tokens)
        out_printf(o, "guesses   %s, %s of them right%s%s\n",
                   format_count(r->guessed_tokens, a, sizeof a),
                   format_count(r->accepted_tokens, b, sizeof b),
                   chat->m.draft_name ? ", with " : "",
                   chat->m.draft_name ? chat->m.draft_name : "");
    if (r->disk_tokens)
        out_printf(o, "cache     %s tokens from the folder\n",
                   format_count(r->disk_tokens, a, sizeof a));
    if (r->cache_miss)
        out_printf(o, "cache     not all of the prompt: %s\n", r->cache_miss);
}

static void set_think(struct chat *chat, const char *word) {
    int64_t n;
    enum think_choice wanted;
    uint32_t budget = 0;
    if (strcmp(word, "off") == 0) {
        wanted = THINK_OFF;
    } else if (strcmp(word, "on") == 0) {
        wanted = THINK_ON;
    } else if (parse_int(word, &n) && n > 0 && n <= INT32_MAX) {
        wanted = chat->m.info.think == SLM_THINK_ALWAYS ? THINK_ASIS : THINK_ON;
        budget = (uint32_t)n;
        if (chat->m.info.think == SLM_THINK_NONE)
            wanted = THINK_ON; /* refused below, with the model's name */
    } else {
        note(chat->c, "/think takes on, off or a number of tokens; it is %s now",
             chat->think == THINK_OFF               ? "off"
             : chat->m.info.think == SLM_THINK_NONE ? "not possible"
                                                    : "on");
        return;
    }
    int code = think_check(chat->c, &chat->m, wanted);
    if (code != EXIT_DONE) {
        chat->failed = code;
        return;
    }
    chat->think = wanted;
    chat->think_budget = budget;
}

static bool print_row(void *user, const struct store_row *row) {
    struct cli *c = user;
    char when[32], model[32], first[64];
    time_t at = (time_t)row->changed;
    struct tm tm;
    localtime_r(&at, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    snprintf(model, sizeof model, "%.22s", row->model ? row->model : "");
    /* beginning of the first message, cut between characters */
    size_t n = 0, columns = 0;
    const char *text = row->name ? row->name : row->first ? row->first : "";
    while (text[n] && text[n] != '\n' && n + 1 < sizeof first) {
        if (((unsigned char)text[n] & 0xC0) != 0x80 && columns++ == 26)
            break;
        n++;
    }
    snprintf(first, sizeof first, "%.*s", (int)n, text);
    return out_printf(&c->out, "%5lld  %s %5lld  %-22s %s\n", (long long)row->id, when,
                      (long long)row->turns, model, first);
}

static bool add_row(void *user, const struct store_row *row) {
    json_array_append_new(user,
                          json_pack("{s:I, s:s?, s:s?, s:s?, s:I, s:I, s:s?}", "id",
                                    (json_int_t)row->id, "name", row->name, "model", row->model,
                                    "system", row->system, "changed", (json_int_t)row->changed,
                                    "turns", (json_int_t)row->turns, "first", row->first));
    return true;
}

static int list_chats(struct cli *c, struct store *store) {
    bool ok;
    if (c->json) {
        json_t *all = keep_json(json_array());
        ok = store_list(store, add_row, all);
        out_json(&c->out, all, false);
    } else {
        out_text(&c->out,
                 "    #  last turn        turns  model                  name or beginning\n");
        ok = store_list(store, print_row, c);
    }
    return ok || c->out.broken ? EXIT_DONE
                               : report(c, EXIT_COULD_NOT, "E_IO", NULL,
                                        "cannot read the conversations: %s", store_error(store));
}

static int find_chat(struct cli *c, struct store *store, const char *key, const char *model,
                     int64_t *id) {
    *id = store_find(store, key, model);
    if (*id)
        return EXIT_DONE;
    if (key && key[0])
        return report(c, EXIT_COULD_NOT, "E_NOTFOUND", "slm chat --list",
                      "there is no conversation '%s'", key);
    return report(c, EXIT_COULD_NOT, "E_NOTFOUND", "slm chat --list",
                  "there is no conversation%s%s yet", model ? " with " : "", model ? model : "");
}

/* Commands that need the file of conversations. */
static void store_command(struct chat *chat, const char *name, const char *rest) {
    int64_t id;
    if (!chat->store) {
        note(chat->c, "nothing is saved with --no-save");
        return;
    }
    if (strcmp(name, "list") == 0) {
        list_chats(chat->c, chat->store);
    } else if (!rest[0]) {
        note(chat->c, "/%s wants a name", name);
    } else if (strcmp(name, "save") == 0) {
        if (!chat->id)
            note(chat->c, "there is nothing to save yet");
        else if (!store_name(chat->store, chat->id, rest))
            note(chat->c, "cannot name it '%s': %s", rest, store_error(chat->store));
        else
            note(chat->c, "conversation %lld is now '%s'; every turn is saved by itself",
                 (long long)chat->id, rest);
    } else if (find_chat(chat->c, chat->store, rest, NULL, &id) == EXIT_DONE) {
        load(chat, id, true);
    }
}

/* /image FILE: looked at now, so that a bad one is known before the question is typed. */
static void take_picture(struct chat *chat, const char *path) {
    struct shown *s = &chat->shown[chat->which];
    if (!path[0]) {
        note(chat->c, "/image FILE shows a picture with the next message");
        return;
    }
    if (show_picture(chat->c, &chat->m, path, s) != EXIT_DONE)
        return;
    char *whole = realpath(path, NULL); /* the conversation may go on from another folder */
    json_t *name = json_string(whole ? whole : path);
    free(whole);
    if (!chat->pictures)
        chat->pictures = keep_json(json_array());
    if (name)
        json_array_append_new(chat->pictures, name);
    note(chat->c, name ? "goes with your next message" : "its name is no UTF-8, it cannot be kept");
}

static void command(struct chat *chat, const char *text) {
    char name[16];
    size_t n = strcspn(text, " \t");
    const char *rest = text + n + strspn(text + n, " \t");
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), text);
    if (strcmp(name, "help") == 0 || strcmp(name, "?") == 0) {
        show_help(chat);
    } else if (strcmp(name, "quit") == 0 || strcmp(name, "exit") == 0 || strcmp(name, "bye") == 0) {
        chat->quit = true;
    } else if (strcmp(name, "think") == 0) {
        set_think(chat, rest);
    } else if (strcmp(name, "no_think") == 0) {
        set_think(chat, "off");
    } else if (strcmp(name, "system") == 0) {
        free(chat->system);
        chat->system = rest[0] ? keep(strdup(rest)) : NULL;
        note(chat->c, rest[0] ? "system message set" : "no system message");
    } else if (strcmp(name, "reset") == 0) {
        forget(chat);
        note(chat->c, "a new conversation");
    } else if (strcmp(name, "image") == 0) {
        take_picture(chat, rest);
    } else if (strcmp(name, "stats") == 0) {
        show_stats(chat);
    } else if (strcmp(name, "save") == 0 || strcmp(name, "load") == 0 ||
               strcmp(name, "list") == 0) {
        store_command(chat, name, rest);
    } else {
        note(chat->c, "there is no /%s; /help lists what there is, // starts a message with /",
             name);
    }
}

/* ------------------------------------------------------------------ the loop */

static int talk(struct chat *chat) {
    struct cli *c = chat->c;
    struct prompt *prompt = prompt_new(c, chat->store != NULL);
    bool terminal = c->term.in_tty && c->term.out_tty;
    int breaks = 0, code = EXIT_DONE;
    while (!chat->quit && !c->out.broken) {
        const char *text;
        size_t n;
        out_flush(&c->out);
        if (terminal) { /* in a script a Ctrl-C that came meanwhile still counts */
            interrupted_clear();
            signals_idle();
        } else {
            signals_watch(NULL);
        }
        enum prompt_event event = prompt_read(prompt, &text, &n);
        if (event == PROMPT_END) {
            out_text(&c->out, terminal ? "\n" : "");
            break;
        }
        if (event == PROMPT_BREAK) {
            out_text(&c->out, terminal ? "^C\n" : "");
            code = EXIT_INTERRUPTED;
            if (!terminal || ++breaks == 2)
                break;
            note(c, "Ctrl-C again or /quit leaves");
            continue;
        }
        breaks = 0;
        code = EXIT_DONE;
        if (n == 0 || text[strspn(text, " \t\n")] == 0)
            continue;
        if (text[0] == '/' && text[1] != '/')
            command(chat, text + 1);
        else
            turn(chat, text + (text[0] == '/'), n - (text[0] == '/'));
        if (!terminal && interrupted())
            chat->quit = true;
    }
    prompt_free(prompt);
    signals_watch(NULL);
    if (terminal) {
        interrupted_clear();
        return code;
    }
    return interrupted() ? EXIT_INTERRUPTED : chat->failed;
}

static int start(struct chat *chat) {
    struct cli *c = chat->c;
    const char *system = opt_text(c, OPT_SYSTEM);
    int64_t id = 0;
    int code = EXIT_DONE;
    if (opt_set(c, OPT_RESUME))
        code = find_chat(c, chat->store, opt_text(c, OPT_RESUME), chat->model_name, &id);
    if (code == EXIT_DONE)
        code = model_open(c, chat->model_name, SLM_ALL, SLM_ALL, &chat->m);
    chat->think = think_option(c);
    chat->think_budget = (uint32_t)opt_int(c, OPT_THINK_BUDGET, 0);
    if (code == EXIT_DONE)
        code = think_check(c, &chat->m, chat->think);
    if (code == EXIT_DONE)
        code = asking_options(c, &chat->m, &chat->asking);
    if (code == EXIT_DONE)
        code = model_session(c, &chat->m);
    if (code != EXIT_DONE)
        return code;
    note_model(c, &chat->m);
    chat->system = system ? keep(strdup(system)) : NULL;
    return id ? load(chat, id, system == NULL) : EXIT_DONE;
}

int chat_with(struct cli *c, const char *model) {
    struct chat chat = { .c = c, .model_name = model, .messages = keep_json(json_array()) };
    int code = EXIT_DONE;
    if (!opt_set(c, OPT_NO_SAVE) && (chat.store = store_open(c)) == NULL)
        code = EXIT_COULD_NOT;
    if (code == EXIT_DONE)
        code = start(&chat);
    if (code == EXIT_DONE)
        code = talk(&chat);
    json_decref(chat.messages);
    json_decref(chat.pictures);
    asking_free(&chat.asking);
    free(chat.system);
    store_close(chat.store);
    model_session_close(&chat.m);
    shown_free(&chat.shown[0]);
    shown_free(&chat.shown[1]);
    model_close(&chat.m);
    return code;
}

/* ------------------------------------------------------------------ slm chat */

/* --list, --delete: no model is loaded. */
static int manage(struct cli *c) {
    struct store *store = store_open(c);
    int64_t id;
    if (!store)
        return EXIT_COULD_NOT;
    int code = EXIT_DONE;
    if (opt_set(c, OPT_DELETE_CHAT)) {
        code = find_chat(c, store, opt_text(c, OPT_DELETE_CHAT), NULL, &id);
        if (code == EXIT_DONE && !store_delete(store, id))
            code =
                report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot delete it: %s", store_error(store));
        else if (code == EXIT_DONE)
            note(c, "conversation %lld is deleted", (long long)id);
    }
    if (code == EXIT_DONE && opt_set(c, OPT_LIST_CHATS))
        code = list_chats(c, store);
    store_close(store);
    return code;
}

/* `slm chat --resume` without a model takes the conversation's. Returns owned or NULL after a report. */
static char *model_of_chat(struct cli *c, int *code) {
    struct store *store = store_open(c);
    char *model = NULL, *system = NULL;
    json_t *messages = keep_json(json_array());
    int64_t id = 0;
    *code = store ? find_chat(c, store, opt_text(c, OPT_RESUME), NULL, &id) : EXIT_COULD_NOT;
    if (*code == EXIT_DONE && !store_load(store, id, messages, &model, &system))
        *code = report(c, EXIT_COULD_NOT, "E_IO", NULL, "cannot read conversation %lld: %s",
                       (long long)id, store_error(store));
    json_decref(messages);
    free(system);
    store_close(store);
    return model;
}

int cmd_chat(struct cli *c) {
    int code;
    if (opt_set(c, OPT_LIST_CHATS) || opt_set(c, OPT_DELETE_CHAT))
        return manage(c);
    if (opt_set(c, OPT_NO_SAVE) && opt_set(c, OPT_RESUME))
        return report_usage(c, NULL, "--resume and --no-save exclude each other");
    if (c->options.n_args)
        return chat_with(c, c->options.args[0]);
    if (!opt_set(c, OPT_RESUME))
        return report_usage(c, "slm chat demo    the built-in model\nslm models    the others",
                            "slm chat wants a MODEL");
    char *model = model_of_chat(c, &code);
    if (model)
        code = chat_with(c, model);
    free(model);
    return code;
}
