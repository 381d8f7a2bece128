/* options.c - reads the command line by the table in option_table.c.
 *
 * Rules, as getopt_long users expect them: --name=value, --name value, -x value, -xvalue, clustered
 * flags -qj, "--" ends options, a single "-" is an argument. Names are not abbreviated. An option
 * that the chosen command does not know is an error, never ignored. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/compiler.h"

/* ------------------------------------------------------------------ values */

bool parse_int(const char *text, int64_t *out) {
    char *end;
    if (!((text[0] >= '0' && text[0] <= '9') ||
          (text[0] == '-' && text[1] >= '0' && text[1] <= '9')))
        return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end)
        return false;
    *out = v;
    return true;
}

static bool parse_float(const char *text, double *out) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || errno == ERANGE || !isfinite(v))
        return false;
    *out = v;
    return true;
}

bool parse_size(const char *text, uint64_t *bytes) {
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    double v = strtod(text, &end), unit = 1;
    switch (*end) {
    case 'k':
    case 'K':
        unit = 1024.0;
        break;
    case 'm':
    case 'M':
        unit = 1024.0 * 1024;
        break;
    case 'g':
    case 'G':
        unit = 1024.0 * 1024 * 1024;
        break;
    case 't':
    case 'T':
        unit = 1024.0 * 1024 * 1024 * 1024;
        break;
    default:
        break;
    }
    if (unit > 1)
        end++;
    if (unit > 1 && *end == 'i')
        end++;
    if (*end == 'B' || *end == 'b')
        end++;
    if (*end || !isfinite(v) || v * unit > 9e18)
        return false;
    *bytes = (uint64_t)(v * unit);
    return true;
}

/* Days from 1970-01-01 of the proleptic Gregorian calendar, by counting whole 400-year eras.
 * Formula: days_from_civil, H. Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static int64_t days_from_date(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned of_era = (unsigned)(year - era * 400);
    unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return era * 146097 + (int64_t)days - 719468;
}

bool parse_date(const char *text, int64_t *seconds) {
    static const unsigned char length[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    unsigned part[3] = { 0, 0, 0 };
    if (strlen(text) != 10)
        return false;
    for (size_t i = 0, k = 0; i < 10; i++) {
        if (i == 4 || i == 7) {
            if (text[i] != '-')
                return false;
            k++;
        } else {
            if (text[i] < '0' || text[i] > '9')
                return false;
            part[k] = part[k] * 10 + (unsigned)(text[i] - '0');
        }
    }
    bool leap = (part[0] % 4 == 0 && part[0] % 100 != 0) || part[0] % 400 == 0;
    if (part[1] < 1 || part[1] > 12 || part[2] < 1)
        return false;
    if (part[2] > length[part[1] - 1] + (part[1] == 2 && leap ? 1u : 0u))
        return false;
    *seconds = days_from_date(part[0], part[1], part[2]) * 86400;
    return true;
}

int64_t *parse_ints(const char *text, size_t *n, const char **bad) {
    int64_t *list = NULL;
    size_t used = 0, room = 0;
    for (const char *p = text;;) {
        while (*p == ',' || *p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
            p++;
        if (!*p)
            break;
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (end == p || errno || (*end && !strchr(", \t\r\n", *end))) {
            *bad = p;
            free(list);
            return NULL;
        }
        if (used == room) {
            room = room ? room * 2 : 64;
            int64_t *more =
                room <= SIZE_MAX / sizeof *list ? realloc(list, room * sizeof *list) : NULL;
            if (!more) {
                *bad = "out of memory";
                free(list);
                return NULL;
            }
            list = more;
        }
        list[used++] = v;
        p = end;
    }
    if (!used) {
        *bad = "an empty list";
        return NULL;
    }
    *n = used;
    return list;
}

bool option_word(const struct option_row *row, unsigned i, char *word, size_t size) {
    const char *p = row->value;
    for (; i && p; i--) {
        p = strchr(p, '|');
        if (p)
            p++;
    }
    if (!p)
        return false;
    size_t n = strcspn(p, "|");
    snprintf(word, size, "%.*s", (int)n, p);
    return true;
}

/* ------------------------------------------------------------------ names */

/* Edit distance with neighbours swapped counting once, for short names only. */
static size_t distance(const char *a, const char *b) {
    enum { MOST = 40 };
    size_t rows[3][MOST + 1], na = strlen(a), nb = strlen(b);
    size_t *before = rows[0], *last = rows[1], *now = rows[2];
    if (na > MOST || nb > MOST)
        return MOST;
    for (size_t j = 0; j <= nb; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= na; i++) {
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *t = before;
        before = last;
        last = now;
        now = t;
    }
    return last[nb];
}

const char *nearest_name(const char *word, const char *(*next)(void *user, size_t i), void *user) {
    const char *best = NULL, *name;
    size_t n = strlen(word), best_distance = n < 4 ? 2 : n / 3 + 1; /* at most this, or no slip */
    if (best_distance > 4)
        best_distance = 4;
    best_distance++;
    for (size_t i = 0; n && (name = next(user, i)) != NULL; i++) {
        size_t d = distance(word, name);
        if (n >= 3 && d >= best_distance && strncasecmp(name, word, n) == 0)
            d = best_distance - 1; /* the beginning of a name is a slip as well */
        if (d < best_distance && d < strlen(name)) {
            best_distance = d;
            best = name;
        }
    }
    return best;
}

struct option_walk {
    uint32_t mask;
};

static const char *next_option(void *user, size_t i) {
    const struct option_walk *walk = user;
    for (size_t k = 0; k < OPT_COUNT; k++)
        if ((option_table[k].commands & walk->mask) && i-- == 0)
            return option_table[k].name;
    return NULL;
}

static const char *next_command(void *user, size_t i) {
    (void)user;
    return i + 1 < CMD_COUNT ? command_table[i + 1].name : NULL;
}

/* Row with that name for the command; any command's when there is none yet (before the command's
 * name). OPT_COUNT if nothing. */
static enum option_id find_name(const char *name, size_t n, uint32_t mask) {
    for (size_t k = 0; k < OPT_COUNT; k++) {
        const struct option_row *row = &option_table[k];
        if ((row->commands & mask) && strlen(row->name) == n && memcmp(row->name, name, n) == 0)
            return (enum option_id)k;
    }
    return OPT_COUNT;
}

static enum option_id find_letter(char letter, uint32_t mask) {
    for (size_t k = 0; k < OPT_COUNT; k++)
        if ((option_table[k].commands & mask) && option_table[k].letter == letter)
            return (enum option_id)k;
    return OPT_COUNT;
}

/* ------------------------------------------------------------------ one option */

static bool usage_error(struct parsed *p, const char *format, ...) ATTR_PRINTF(2, 3);
static bool usage_error(struct parsed *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    if (!p->error[0])
        vsnprintf(p->error, sizeof p->error, format, list);
    va_end(list);
    return false;
}

static bool check_int(struct parsed *p, const struct option_row *row, const char *origin,
                      const char *text, struct option_value *v) {
    if (!parse_int(text, &v->integer))
        return usage_error(p, "%s wants a whole number, not '%s'", origin, text);
    if ((double)v->integer < row->low || (double)v->integer > row->high)
        return usage_error(p, "%s is %s, allowed are %.0f to %.0f", origin, text, row->low,
                           row->high);
    return true;
}

static bool check_ints(struct parsed *p, const struct option_row *row, const char *origin,
                       const char *text) {
    size_t n = 0;
    const char *bad = NULL;
    int64_t *list = parse_ints(text, &n, &bad);
    if (!list)
        return usage_error(p, "%s wants numbers with commas between them, not '%s'", origin, text);
    for (size_t i = 0; i < n; i++)
        if ((double)list[i] < row->low || (double)list[i] > row->high) {
            usage_error(p, "%s holds %lld, allowed are %.0f to %.0f", origin, (long long)list[i],
                        row->low, row->high);
            break;
        }
    free(list);
    return !p->error[0];
}

static bool check_word(struct parsed *p, const struct option_row *row, const char *origin,
                       const char *text, struct option_value *v) {
    char word[32];
    for (unsigned i = 0; option_word(row, i, word, sizeof word); i++)
        if (strcmp(word, text) == 0) {
            v->number = i;
            return true;
        }
    return usage_error(p, "%s is one of %s, not '%s'", origin, row->value, text);
}

bool options_set(struct parsed *p, enum option_id id, const char *text, const char *origin) {
    const struct option_row *row = &option_table[id];
    struct option_value *v = &p->values[id];
    uint64_t bytes;
    bool ok = true;
    switch (row->kind) {
    case ARG_INT:
        ok = check_int(p, row, origin, text, v);
        break;
    case ARG_INTS:
        ok = check_ints(p, row, origin, text);
        break;
    case ARG_ENUM:
        ok = check_word(p, row, origin, text, v);
        break;
    case ARG_FLOAT:
        if (!parse_float(text, &v->number))
            ok = usage_error(p, "%s wants a number, not '%s'", origin, text);
        else if (v->number < row->low || v->number > row->high)
            ok =
                usage_error(p, "%s is %s, allowed are %g to %g", origin, text, row->low, row->high);
        break;
    case ARG_DATE:
        if (!parse_date(text, &v->integer))
            ok = usage_error(p, "%s wants a date YYYY-MM-DD, not '%s'", origin, text);
        break;
    case ARG_SIZE:
        if (!parse_size(text, &bytes) || bytes == 0)
            ok = usage_error(p, "%s wants a size such as 500M or 6G, not '%s'", origin, text);
        else
            v->integer = (int64_t)bytes;
        break;
    case ARG_FLAG:
    case ARG_TEXT:
    case ARG_FILE:
    case ARG_OPTIONAL:
        break;
    }
    if (!ok)
        return false;
    if (v->set && !row->repeat && row->kind != ARG_FLAG)
        return usage_error(p, "%s is given twice", origin);
    if (v->n == MAX_REPEAT)
        return usage_error(p, "%s is given more than %d times", origin, MAX_REPEAT);
    v->all[v->n] = text;
    v->n += row->repeat;
    v->text = text;
    v->set = true;
    return true;
}

static bool unknown_option(struct parsed *p, const char *arg, const char *name, uint32_t mask) {
    const char *command = command_table[p->command].name;
    char word[48];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(name, "="), name);
    bool elsewhere = find_name(word, strlen(word), UINT32_MAX) != OPT_COUNT;
    if (p->command != CMD_HOME && elsewhere)
        return usage_error(p, "'%s' is not an option of 'slm %s'", arg, command);
    if (p->command == CMD_HOME && elsewhere)
        return usage_error(p, "'%s' belongs after a command", arg);
    usage_error(p, "unknown option '%s'", arg);
    struct option_walk walk = { mask };
    const char *near = nearest_name(word, next_option, &walk);
    if (near)
        snprintf(p->hint, sizeof p->hint, "did you mean --%s?", near);
    return false;
}

static bool long_option(struct parsed *p, int argc, char **argv, int *i, uint32_t mask) {
    const char *name = argv[*i] + 2, *equal = strchr(name, '=');
    size_t n = equal ? (size_t)(equal - name) : strlen(name);
    enum option_id id = find_name(name, n, mask);
    if (id == OPT_COUNT)
        return unknown_option(p, argv[*i], name, mask);
    char origin[48];
    snprintf(origin, sizeof origin, "--%s", option_table[id].name);
    if (option_table[id].kind == ARG_FLAG) {
        if (equal)
            return usage_error(p, "%s takes no value", origin);
        return options_set(p, id, "", origin);
    }
    if (option_table[id].kind == ARG_OPTIONAL)
        return options_set(p, id, equal ? equal + 1 : "", origin);
    if (equal)
        return options_set(p, id, equal + 1, origin);
    if (*i + 1 >= argc)
        return usage_error(p, "%s wants a value: %s", origin, option_table[id].value);
    return options_set(p, id, argv[++*i], origin);
}

static bool short_options(struct parsed *p, int argc, char **argv, int *i, uint32_t mask) {
    for (const char *c = argv[*i] + 1; *c; c++) {
        enum option_id id = find_letter(*c, mask);
        char origin[3] = { '-', *c, 0 };
        if (id == OPT_COUNT) {
            if (find_letter(*c, UINT32_MAX) != OPT_COUNT && p->command != CMD_HOME)
                return usage_error(p, "'%s' is not an option of 'slm %s'", origin,
                                   command_table[p->command].name);
            return usage_error(p, "unknown option '%s' in '%s'", origin, argv[*i]);
        }
        if (option_table[id].kind == ARG_FLAG) {
            if (!options_set(p, id, "", origin))
                return false;
            continue;
        }
        if (c[1])
            return options_set(p, id, c + 1, origin);
        if (*i + 1 >= argc)
            return usage_error(p, "%s wants a value: %s", origin, option_table[id].value);
        return options_set(p, id, argv[++*i], origin);
    }
    return true;
}

/* ------------------------------------------------------------------ the whole line */

static bool choose_command(struct parsed *p, const char *word) {
    for (size_t k = 1; k < CMD_COUNT; k++)
        if (strcmp(command_table[k].name, word) == 0) {
            p->command = (enum command_id)k;
            return true;
        }
    usage_error(p, "'%s' is not a command", word);
    const char *near = nearest_name(word, next_command, NULL);
    if (near)
        snprintf(p->hint, sizeof p->hint, "did you mean 'slm %s'?", near);
    return false;
}

/* The command's name decides what options mean, also those in front of it, so it is looked for
 * first: the first word that is neither an option nor the value of one. */
static bool find_command(struct parsed *p, int argc, char **argv, int *at) {
    *at = argc;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (a[0] != '-' || !a[1]) {
            *at = i;
            return choose_command(p, a);
        }
        if (strcmp(a, "--") == 0)
            return true;
        enum option_id id = OPT_COUNT;
        if (a[1] == '-' && !strchr(a, '='))
            id = find_name(a + 2, strlen(a + 2), UINT32_MAX);
        else if (a[1] != '-' && !a[2])
            id = find_letter(a[1], UINT32_MAX);
        if (id != OPT_COUNT && option_table[id].kind != ARG_FLAG &&
            option_table[id].kind != ARG_OPTIONAL)
            i++;
    }
    return true;
}

static bool check_count(struct parsed *p) {
    const struct command_row *row = &command_table[p->command];
    if (p->values[OPT_HELP].set || p->values[OPT_VERSION].set)
        return true;
    if (p->n_args < row->min_args)
        return usage_error(p, "'slm %s' wants %s", row->name, row->usage);
    if (p->n_args > row->max_args)
        return usage_error(p, "'%s' is one argument too many", p->args[row->max_args]);
    return true;
}

bool options_parse(struct parsed *p, int argc, char **argv) {
    int at;
    memset(p, 0, sizeof *p);
    p->args = calloc((size_t)(argc > 0 ? argc : 1), sizeof *p->args);
    if (!p->args)
        return usage_error(p, "out of memory");
    bool ok = find_command(p, argc, argv, &at);
    uint32_t mask = 1u << p->command;
    bool open = true; /* options are still possible */
    for (int i = 1; i < argc && (ok || open); i++) {
        const char *a = argv[i];
        bool fine = true;
        if (i == at)
            continue;
        if (open && strcmp(a, "--") == 0)
            open = false;
        else if (open && a[0] == '-' && a[1] == '-')
            fine = long_option(p, argc, argv, &i, mask);
        else if (open && a[0] == '-' && a[1])
            fine = short_options(p, argc, argv, &i, mask);
        else
            p->args[p->n_args++] = a;
        ok = ok && fine; /* goes on after an error: --json may follow, and shapes the report */
    }
    return ok && check_count(p);
}

void options_free(struct parsed *p) {
    free(p->args);
    p->args = NULL;
    p->n_args = 0;
}
