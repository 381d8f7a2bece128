/* answer_unit.h - what the parser of answers is made of: one call as JSON, one as Python, a list of
 * calls that wait, and the machine that finds them in text.
 *
 * All of them take a byte at a time and look at each byte once, so that a long call that comes in
 * small pieces costs no more than one that comes whole. */
#ifndef SLM_CHAT_ANSWER_UNIT_H
#define SLM_CHAT_ANSWER_UNIT_H

#include "base/json.h"
#include "chat/answer.h"

#define CALL_NAME_MAX 64 /* bytes */
#define PY_WORD_MAX 512  /* bytes of a number or an identifier */

enum unit_step {
    UNIT_MORE,
    UNIT_DONE, /* with this byte */
    UNIT_BAD   /* with this byte it can be no call any more */
};

/* ---- tools that the model was told of (answer_json.c) ----
 * tools: array of {"type":"function","function":{...}} or of the inner objects; NULL: none. */
bool call_name_byte(char c);
bool call_name_valid(const char *name, size_t n);
/* The object with name and parameters; NULL: no such tool. */
const json_t *tool_find(const json_t *tools, const char *name, size_t n);
/* Some tool's name begins so. */
bool tool_begins(const json_t *tools, const char *name, size_t n);
/* Name of the i-th parameter of a tool, as its schema lists them; NULL past the last. */
const char *tool_parameter(const json_t *tool, size_t i);

/* ---- calls that are complete and wait for what is around them ---- */
struct call_at {
    size_t name, n_name, arguments, n_arguments; /* in bytes; each with a zero byte behind */
};
struct call_list {
    const struct slm_hooks *hooks; /* borrowed */
    struct buf bytes;              /* its error counts for all of it */
    struct call_at *at;            /* [n] */
    size_t n, cap;
};
void call_list_init(struct call_list *l, const struct slm_hooks *h);
/* Begins a call: its name, arguments follow in bytes. */
void call_list_open(struct call_list *l, const char *name, size_t n);
/* The arguments are in bytes: true when they are an object that json_text reads. *err E_NOMEM. */
bool call_list_close(struct call_list *l, slm_err *err);
void call_list_clear(struct call_list *l);
void call_list_free(struct call_list *l);

/* ---- one object as JSON ---- */
enum json_ended { ENDED_NOTHING, ENDED_KEY, ENDED_STRING };
struct json_unit {
    uint8_t state, ended; /* what the last byte was the end of, at the object's own level */
    bool is_key;
    unsigned depth;
    size_t at, string_at; /* bytes so far; where the last string at the object's level begins */
    uint8_t stack[JSON_PULL_DEPTH];
};
/* The first byte given has to be '{'. Structure is checked at once, so that what can be no JSON is
 * known to be none early; numbers, escapes and UTF-8 are left to call_from_json. */
void json_unit_init(struct json_unit *u);
enum unit_step json_unit_put(struct json_unit *u, char c);
/* Object text [n] into the list: true when it is a call. *err E_NOMEM. */
bool call_from_json(const char *text, size_t n, struct call_list *out, slm_err *err);

/* ---- one call as Python (answer_python.c) ---- */
struct py_unit {
    const json_t *tools, *tool; /* tool: NULL until the name is complete */
    struct call_list *out;      /* borrowed: the arguments are written as they are read */
    uint8_t state;
    bool printing;            /* inside print( ) */
    bool is_key;              /* the value being read is the key of a dict */
    bool keyword, positional; /* an argument with a name was there; this one has none */
    char quote;
    bool triple, raw;
    uint8_t quotes, digits; /* of triple quotes seen; hexadecimal or octal digits still wanted */
    uint32_t code;
    unsigned depth;
    size_t n_arguments, n_word;
    uint8_t stack[JSON_PULL_DEPTH];    /* '[', '(' or '{' */
    bool items[JSON_PULL_DEPTH + 1];   /* something stands in this container already */
    bool comma[JSON_PULL_DEPTH];       /* of '(': it is a tuple */
    size_t opened_at[JSON_PULL_DEPTH]; /* of '(': where its bracket is in out */
    char word[PY_WORD_MAX];
};
/* The first byte given has to be the first of the name: of a tool, or print around a call of one. */
void py_unit_init(struct py_unit *u, const json_t *tools, struct call_list *out);
/* UNIT_DONE: the arguments are complete in the list and want call_list_close. */
enum unit_step py_unit_put(struct py_unit *u, char c);

/* ---- calls in text (answer_scan.c) ---- */
struct call_form; /* one way of writing calls */
struct scan {
    const struct slm_hooks *hooks;
    const json_t *tools;
    const struct call_form *forms; /* [n_forms] */
    size_t n_forms;
    void (*text)(void *user, const char *text, size_t n);
    void (*call)(void *user, const struct call_list *list, size_t i);
    void *user;
    bool defer;      /* calls count only when nothing follows them: see scan_end */
    bool first[256]; /* bytes that a form begins with */
    struct buf held; /* blanks [n_blanks], then what may be a call */
    size_t n_blanks;
    uint8_t state;
    const struct call_form *in;
    size_t mark_at, unit_at;    /* in held: of the mark that is being matched, of the object */
    bool key_is_name;           /* of an object: its next string is the name */
    bool serious;               /* if this is no call, it is a malformed one */
    size_t n_before;            /* calls of forms before this one that are held, too */
    bool any_text, behind_call; /* text came out; the last thing was a call */
    size_t malformed;
    slm_err err; /* E_NOMEM: from there on all is text */
    struct call_list calls;
    struct json_unit json;
    struct py_unit py;
};
void scan_init(struct scan *s, const struct slm_hooks *h, enum call_dialect dialect,
               const json_t *tools, bool thinking);
void scan_put(struct scan *s, const char *text, size_t n);
/* What is held comes out as text. */
void scan_release(struct scan *s);
/* Nothing comes any more. With defer: calls are calls now, if nothing but blanks follows them. */
void scan_end(struct scan *s);
void scan_free(struct scan *s);

#endif
