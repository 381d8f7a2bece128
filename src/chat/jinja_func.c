/* jinja_func.c - functions of the language; methods of list, dict and loop.
 *
 * Source: Jinja 3.1 documentation, "List of Global Functions"; the chat templating pages of
 * Hugging Face transformers (raise_exception, strftime_now); Python 3 documentation, strftime. */
#include <stdio.h>
#include <string.h>

#include "chat/jinja.h"

/* ---- functions ---- */

static slm_err fn_range(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    int64_t v[3] = { 0, 0, 1 };
    void *p;
    (void)self;
    if (c->n_pos > 3 || c->n_kw > 0)
        return vm_type_error(vm, "range takes one to three whole numbers");
    for (size_t i = 0; i < c->n_pos; i++)
        if (!as_int(&c->pos[i], &v[c->n_pos == 1 ? 1 : i]))
            return vm_type_error(vm, "range of a %s", type_name(&c->pos[i]));
    if (v[2] == 0)
        return vm_type_error(vm, "range with step 0");
    /* Distance and step as unsigned numbers: no wrap for the extremes. */
    bool up = v[2] > 0;
    uint64_t distance = up ? (v[0] < v[1] ? (uint64_t)v[1] - (uint64_t)v[0] : 0)
                           : (v[0] > v[1] ? (uint64_t)v[0] - (uint64_t)v[1] : 0);
    uint64_t step = up ? (uint64_t)v[2] : (uint64_t)0 - (uint64_t)v[2];
    uint64_t n = distance == 0 ? 0 : (distance - 1) / step + 1;
    if (n > RANGE_MAX)
        return vm_fail(vm, SLM_E_BUDGET, "a range of %llu numbers, at most %d",
                       (unsigned long long)n, RANGE_MAX);
    TRY(vm_alloc(vm, 1, sizeof(struct range), &p));
    struct range *r = p;
    *r = (struct range){ .start = v[0], .stop = v[1], .step = v[2], .n = (size_t)n };
    *out = (struct value){ .type = V_RANGE };
    out->u.r = r;
    return SLM_OK;
}

/* dict(mapping or pairs, name=value ...) */
static slm_err fill_dict(struct vm *vm, const struct call *c, struct dict **out) {
    struct list *l, *pair;
    TRY(dict_new(vm, out));
    if (c->n_pos > 1)
        return vm_type_error(vm, "at most one positional argument");
    if (c->n_pos == 1 && c->pos[0].type == V_DICT) {
        const struct dict *d = c->pos[0].u.d;
        for (size_t i = 0; i < d->n; i++)
            TRY(dict_set(vm, *out, &d->entries[i].key, &d->entries[i].value));
    } else if (c->n_pos == 1) {
        TRY(iterate(vm, &c->pos[0], &l));
        for (size_t i = 0; i < l->n; i++) {
            TRY(iterate(vm, &l->items[i], &pair));
            if (pair->n != 2)
                return vm_type_error(vm, "item %zu is no pair", i);
            TRY(dict_set(vm, *out, &pair->items[0], &pair->items[1]));
        }
    }
    for (size_t i = 0; i < c->n_kw; i++)
        TRY(dict_set(vm, *out, &c->kw[2 * i], &c->kw[2 * i + 1]));
    return SLM_OK;
}

static slm_err fn_dict(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    struct dict *d;
    (void)self;
    TRY(fill_dict(vm, c, &d));
    *out = v_dict(d);
    return SLM_OK;
}

static slm_err fn_namespace(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    TRY(fn_dict(vm, self, c, out));
    out->type = V_NS;
    return SLM_OK;
}

static slm_err fn_raise_exception(struct vm *vm, const struct value *self, const struct call *c,
                                  struct value *out) {
    const struct str *s;
    (void)self;
    (void)out;
    TRY(to_str(vm, c->arg[0], &s));
    return fail(vm->why, SLM_E_RAISED, SLM_NO_OFFSET, "%.*s", (int)(s->n < 511 ? s->n : 511), s->s);
}

/* ---- strftime_now ---- */

struct date {
    int64_t year;
    int month, day, hour, minute, second; /* month 1..12 */
    int weekday, yearday;                 /* Sunday 0; January 1st 0 */
    int64_t epoch;
};

/* Proleptic Gregorian calendar. Days are counted in years that begin in March, so that the leap
 * day is the last one; 146097 days are 400 years. */
static struct date date_of(int64_t seconds) {
    struct date d = { .epoch = seconds };
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    d.hour = (int)(rest / 3600);
    d.minute = (int)(rest / 60 % 60);
    d.second = (int)(rest % 60);
    d.weekday = (int)(((days + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
    int64_t z = days + 719468;                   /* since 0000-03-01 */
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    d.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    d.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    d.year = yoe + era * 400 + (d.month <= 2);
    bool leap = d.year % 4 == 0 && (d.year % 100 != 0 || d.year % 400 == 0);
    d.yearday = (int)(d.month > 2 ? doy + 59 + leap : doy - 306);
    return d;
}

/* ISO 8601: week 1 has the year's first Thursday. */
static void iso_week(const struct date *d, int64_t *year, int *week) {
    int monday = (d->weekday + 6) % 7;
    int w = (d->yearday - monday + 10) / 7;
    *year = d->year;
    if (w < 1) {
        const struct date last = date_of(d->epoch - ((int64_t)d->yearday + 1) * 86400);
        iso_week(&last, year, &w);
    } else if (w == 53) {
        bool leap = d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
        if (d->yearday - monday + 3 >= 365 + leap) {
            w = 1;
            ++*year;
        }
    }
    *week = w;
}

static const char *const day_names[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                         "Thursday", "Friday", "Saturday" };
static const char *const month_names[] = { "January",   "February", "March",    "April",
                                           "May",       "June",     "July",     "August",
                                           "September", "October",  "November", "December" };

/* A number of `width` digits; flag '-' none, '_' blanks, '0' zeros, 0: the directive's own. */
static void put_number(char *out, size_t n, int64_t v, int width, char fill, char flag) {
    if (flag == '-')
        snprintf(out, n, "%lld", (long long)v);
    else if (flag == '_' || (flag != '0' && fill == ' '))
        snprintf(out, n, "%*lld", width, (long long)v);
    else
        snprintf(out, n, "%0*lld", width, (long long)v);
}

/* Directives that stand for several others; NULL when c is none. */
static const char *composite(char c) {
    switch (c) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    default:
        return NULL;
    }
}

/* One numeric directive; false when c is none. */
static bool number_directive(const struct date *d, char c, char flag, char *out, size_t n) {
    int hour12 = d->hour % 12 == 0 ? 12 : d->hour % 12, week;
    int64_t year, v;
    int width = 2;
    char fill = '0';
    iso_week(d, &year, &week);
    switch (c) {
    case 'C':
        v = d->year / 100;
        break;
    case 'd':
        v = d->day;
        break;
    case 'e':
        v = d->day;
        fill = ' ';
        break;
    case 'f':
        v = 0;
        width = 6;
        flag = 0;
        break;
    case 'G':
        v = year;
        width = 4;
        break;
    case 'g':
        v = year % 100;
        break;
    case 'H':
        v = d->hour;
        break;
    case 'I':
        v = hour12;
        break;
    case 'j':
        v = d->yearday + 1;
        width = 3;
        break;
    case 'k':
        v = d->hour;
        fill = ' ';
        break;
    case 'l':
        v = hour12;
        fill = ' ';
        break;
    case 'M':
        v = d->minute;
        break;
    case 'm':
        v = d->month;
        break;
    case 'S':
        v = d->second;
        break;
    case 's':
        v = d->epoch;
        width = 1;
        break;
    case 'U':
        v = (d->yearday + 7 - d->weekday) / 7;
        break;
    case 'u':
        v = d->weekday == 0 ? 7 : d->weekday;
        width = 1;
        break;
    case 'V':
        v = week;
        break;
    case 'W':
        v = (d->yearday + 7 - (d->weekday + 6) % 7) / 7;
        break;
    case 'w':
        v = d->weekday;
        width = 1;
        break;
    case 'Y':
        v = d->year;
        width = 1;
        break;
    case 'y':
        v = d->year % 100;
        break;
    default:
        return false;
    }
    put_number(out, n, v, width, fill, flag);
    return true;
}

/* Names and signs; NULL when c is none. %z and %Z are empty: the date has no zone. */
static const char *word_directive(const struct date *d, char c, char *out, size_t n) {
    switch (c) {
    case 'A':
        return day_names[d->weekday];
    case 'B':
        return month_names[d->month - 1];
    case 'a':
        snprintf(out, n, "%.3s", day_names[d->weekday]);
        return out;
    case 'b':
    case 'h':
        snprintf(out, n, "%.3s", month_names[d->month - 1]);
        return out;
    case 'p':
        return d->hour < 12 ? "AM" : "PM";
    case 'P':
        return d->hour < 12 ? "am" : "pm";
    case 'n':
        return "\n";
    case 't':
        return "\t";
    case 'z':
    case 'Z':
        return "";
    case '%':
        return "%";
    default:
        return NULL;
    }
}

/* format [n] with the date put in; composites are at most one level deep. */
static slm_err put_date(struct vm *vm, struct builder *b, const struct date *d, const char *format,
                        size_t n, bool data, unsigned level) {
    for (size_t i = 0; i < n; i++) {
        char text[64];
        size_t at = i;
        if (format[i] != '%' || i + 1 == n) {
            TRY(build_put(vm, b, format + i, 1, data));
            continue;
        }
        char flag = 0;
        i++;
        while (i + 1 < n && memchr("-_0^#", format[i], 5) != NULL)
            flag = format[i++];
        const char *word = word_directive(d, format[i], text, sizeof text);
        const char *more = level == 0 ? composite(format[i]) : NULL;
        if (more != NULL) {
            TRY(put_date(vm, b, d, more, strlen(more), data, level + 1));
        } else if (word != NULL) {
            for (; *word != '\0'; word++) {
                bool upper = flag == '^' && *word >= 'a' && *word <= 'z';
                const char c = upper ? (char)(*word - 32) : *word;
                TRY(build_put(vm, b, &c, 1, data));
            }
        } else if (number_directive(d, format[i], flag, text, sizeof text)) {
            TRY(build_put(vm, b, text, strlen(text), data));
        } else {
            TRY(build_put(vm, b, format + at, i + 1 - at, data)); /* unknown: stays as it is */
        }
    }
    return SLM_OK;
}

static slm_err fn_strftime_now(struct vm *vm, const struct value *self, const struct call *c,
                               struct value *out) {
    const struct str *format;
    struct builder b = { 0 };
    (void)self;
    TRY(arg_str(vm, c, 0, &format));
    /* Python's calendar: years 1 to 9999. */
    if (format == NULL || vm->now < -62135596800 || vm->now > 253402300799)
        return vm_type_error(vm, format == NULL ? "strftime_now needs a format"
                                                : "the date is out of range");
    const struct date d = date_of(vm->now);
    TRY(vm_charge(vm, format->n / 4));
    TRY(put_date(vm, &b, &d, format->s, format->n, format->taint != NULL, 0));
    return build_done(vm, &b, out);
}

const struct native jinja_functions[] = {
    { "range", "*", fn_range, 1 },
    { "dict", "*", fn_dict, 0 },
    { "namespace", "*", fn_namespace, 0 },
    { "raise_exception", "message", fn_raise_exception, 1 },
    { "strftime_now", "format", fn_strftime_now, 1 },
    { NULL, NULL, NULL, 0 },
};

/* ---- list ---- */

/* Lists of the caller stay as they are; those that the template made may grow. */
static slm_err m_append(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    if (self->type != V_LIST || !self->u.l->open)
        return vm_type_error(vm, "append to a list that the template did not make");
    *out = v_none();
    return list_add(vm, self->u.l, c->arg[0]);
}

static slm_err m_list_index(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    for (size_t i = 0; i < self->u.l->n; i++) {
        bool same;
        TRY(vm_charge(vm, 1));
        TRY(value_equal(vm, &self->u.l->items[i], c->arg[0], 0, &same));
        if (same) {
            *out = v_int((int64_t)i);
            return SLM_OK;
        }
    }
    return vm_type_error(vm, "the value is not in the list");
}

static slm_err m_list_count(struct vm *vm, const struct value *self, const struct call *c,
                            struct value *out) {
    int64_t n = 0;
    for (size_t i = 0; i < self->u.l->n; i++) {
        bool same;
        TRY(vm_charge(vm, 1));
        TRY(value_equal(vm, &self->u.l->items[i], c->arg[0], 0, &same));
        n += same;
    }
    *out = v_int(n);
    return SLM_OK;
}

const struct native jinja_list_methods[] = {
    { "append", "item", m_append, 1 },
    { "index", "value", m_list_index, 1 },
    { "count", "value", m_list_count, 1 },
    { NULL, NULL, NULL, 0 },
};

/* ---- dict ---- */

static slm_err view(struct vm *vm, const struct value *self, enum view which, struct value *out) {
    const struct dict *d = self->u.d;
    struct list *l;
    TRY(list_new(vm, d->n, &l));
    for (size_t i = 0; i < d->n; i++) {
        if (which == VIEW_ITEMS)
            TRY(tuple2(vm, &d->entries[i].key, &d->entries[i].value, &l->items[i]));
        else
            l->items[i] = which == VIEW_KEYS ? d->entries[i].key : d->entries[i].value;
        l->n++;
    }
    *out = v_list(V_VIEW, l);
    out->sub = (uint8_t)which;
    return SLM_OK;
}
static slm_err m_keys(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    (void)c;
    return view(vm, self, VIEW_KEYS, out);
}
static slm_err m_values(struct vm *vm, const struct value *self, const struct call *c,
                        struct value *out) {
    (void)c;
    return view(vm, self, VIEW_VALUES, out);
}
static slm_err m_items(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    (void)c;
    return view(vm, self, VIEW_ITEMS, out);
}

static slm_err m_get(struct vm *vm, const struct value *self, const struct call *c,
                     struct value *out) {
    const struct value *found;
    TRY(dict_get(vm, self->u.d, c->arg[0], &found));
    *out = found != NULL ? *found : c->arg[1] != NULL ? *c->arg[1] : v_none();
    return SLM_OK;
}

static slm_err m_copy(struct vm *vm, const struct value *self, const struct call *c,
                      struct value *out) {
    const struct call one = { .pos = self, .n_pos = 1 };
    (void)c;
    return fn_dict(vm, NULL, &one, out);
}

const struct native jinja_dict_methods[] = {
    { "get", "key,default", m_get, 1 }, { "keys", "", m_keys, 0 }, { "values", "", m_values, 0 },
    { "items", "", m_items, 0 },        { "copy", "", m_copy, 0 }, { NULL, NULL, NULL, 0 },
};

/* ---- loop ---- */

static slm_err m_cycle(struct vm *vm, const struct value *self, const struct call *c,
                       struct value *out) {
    (void)vm;
    *out = c->pos[(self->u.loop->i - 1) % c->n_pos];
    return SLM_OK;
}

/* True in the first round and whenever the arguments differ from those of the last call. */
static slm_err m_changed(struct vm *vm, const struct value *self, const struct call *c,
                         struct value *out) {
    struct loop *l = self->u.loop;
    void *p;
    bool same = l->changed != NULL && l->n_changed == c->n_pos;
    for (size_t i = 0; i < c->n_pos && same; i++)
        TRY(value_equal(vm, &l->changed[i], &c->pos[i], 0, &same));
    *out = v_bool(!same);
    if (same)
        return SLM_OK;
    TRY(vm_alloc(vm, c->n_pos + 1, sizeof(struct value), &p));
    if (c->n_pos > 0)
        memcpy(p, c->pos, c->n_pos * sizeof(struct value));
    l->changed = p;
    l->n_changed = c->n_pos;
    return SLM_OK;
}

const struct native jinja_loop_methods[] = {
    { "cycle", "*", m_cycle, 1 },
    { "changed", "*", m_changed, 0 },
    { NULL, NULL, NULL, 0 },
};
