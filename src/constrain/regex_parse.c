/* regex_parse.c - text of a regular expression to its tree.
 *
 * Syntax: patterns of ECMA-262 (2023, 22.2.1) over code points, with what Annex B allows for braces and
 * brackets that open nothing. Not supported, and refused by name: look-around, back references, \b, \B,
 * and \p. A lazy quantifier has the same language as a greedy one.
 *
 * Groups may be nested without limit: what is open is kept in an array, not on the C stack. */
#include "constrain/regex.h"

#include <string.h>

#include "base/utf8.h"

/* What one level of parentheses has so far: alternatives before the last '|', and the sequence after. */
struct level {
    uint32_t alternatives, sequence; /* NODE_NONE: nothing yet */
    size_t at;                       /* of its '(' */
};

struct parser {
    struct build *b;
    const char *s, *where;
    size_t n, pos;
    struct regex *re;
    struct level *levels; /* [depth + 1] */
    uint32_t depth, cap_levels;
};

static bool wrong(struct parser *p, slm_err code, size_t at, const char *what) {
    build_fail(p->b, code, at, "%s%s at byte %zu of the pattern", p->where, what, at);
    return false;
}

static bool malformed(struct parser *p, size_t at, const char *what) {
    return wrong(p, SLM_E_FORMAT, at, what);
}

static bool unsupported(struct parser *p, size_t at, const char *what) {
    return wrong(p, SLM_E_UNSUPPORTED, at, what);
}

static int peek(const struct parser *p) {
    return p->pos < p->n ? (uint8_t)p->s[p->pos] : -1;
}

/* The characters are known to be valid UTF-8. */
static uint32_t take_char(struct parser *p) {
    uint32_t cp = 0;
    p->pos += utf8_decode(p->s + p->pos, p->n - p->pos, &cp);
    return cp;
}

/* ------------------------------------------------------------------ tree */

static uint32_t new_node(struct parser *p, struct re_node node) {
    struct regex *re = p->re;
    void *nodes = re->nodes;
    if (!build_goes_on(p->b) ||
        !build_grow(p->b, &nodes, re->n_nodes, &re->cap_nodes, sizeof *re->nodes))
        return 0;
    re->nodes = nodes;
    re->nodes[re->n_nodes] = node;
    return re->n_nodes++;
}

static uint32_t join(struct parser *p, enum re_kind kind, uint32_t left, uint32_t right) {
    if (left == NODE_NONE)
        return right;
    return new_node(p, (struct re_node){ .kind = (uint8_t)kind, .left = left, .right = right });
}

static uint32_t new_set(struct parser *p, struct re_set set) {
    struct regex *re = p->re;
    for (uint32_t i = re->n_sets, looked = 0; i-- > 0 && looked < 64; looked++)
        if (re->sets[i].n == set.n &&
            (set.n == 0 || memcmp(re->sets[i].spans, set.spans, set.n * sizeof *set.spans) == 0))
            return new_node(p, (struct re_node){ .kind = RE_SET, .left = i });
    void *sets = re->sets;
    if (!build_grow(p->b, &sets, re->n_sets, &re->cap_sets, sizeof *re->sets))
        return 0;
    re->sets = sets;
    re->sets[re->n_sets] = set;
    return new_node(p, (struct re_node){ .kind = RE_SET, .left = re->n_sets++ });
}

/* ------------------------------------------------------------------ sets of characters */

static void add_span(struct parser *p, struct re_set *set, uint32_t lo, uint32_t hi) {
    void *spans = set->spans;
    if (!build_grow(p->b, &spans, set->n, &set->cap, sizeof *set->spans))
        return;
    set->spans = spans;
    set->spans[set->n++] = (struct span){ lo, hi };
}

static void sort_spans(struct span *v, uint32_t n) {
    for (uint32_t start = n / 2, end = n; end > 1;) {
        struct span x;
        if (start > 0)
            x = v[--start];
        else {
            x = v[--end];
            v[end] = v[0];
        }
        uint32_t hole = start;
        for (uint32_t child; (child = 2 * hole + 1) < end; hole = child) {
            if (child + 1 < end && v[child].lo < v[child + 1].lo)
                child++;
            if (x.lo >= v[child].lo)
                break;
            v[hole] = v[child];
        }
        v[hole] = x;
    }
}

/* Sorted and apart; turned around when wanted. */
static void settle(struct parser *p, struct re_set *set, bool negate) {
    uint32_t kept = 0;
    sort_spans(set->spans, set->n);
    for (uint32_t i = 0; i < set->n; i++) {
        struct span *last = kept > 0 ? &set->spans[kept - 1] : NULL;
        if (last != NULL && set->spans[i].lo <= last->hi + 1)
            last->hi = last->hi > set->spans[i].hi ? last->hi : set->spans[i].hi;
        else
            set->spans[kept++] = set->spans[i];
    }
    set->n = kept;
    if (!negate)
        return;
    struct re_set out = { NULL, 0, 0 };
    uint32_t from = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        if (set->spans[i].lo > from)
            add_span(p, &out, from, set->spans[i].lo - 1);
        from = set->spans[i].hi + 1;
    }
    if (from <= CP_MAX)
        add_span(p, &out, from, CP_MAX);
    *set = out;
}

static const struct span digits[] = { { '0', '9' } };
static const struct span words[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } };
/* WhiteSpace and LineTerminator of ECMA-262, 12.2 and 12.3 */
static const struct span spaces[] = { { 0x09, 0x0d },     { 0x20, 0x20 },     { 0xa0, 0xa0 },
                                      { 0x1680, 0x1680 }, { 0x2000, 0x200a }, { 0x2028, 0x2029 },
                                      { 0x202f, 0x202f }, { 0x205f, 0x205f }, { 0x3000, 0x3000 },
                                      { 0xfeff, 0xfeff } };
static const struct span line_ends[] = { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } };

static void add_class(struct parser *p, struct re_set *set, const struct span *spans, uint32_t n,
                      bool negate) {
    uint32_t from = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!negate)
            add_span(p, set, spans[i].lo, spans[i].hi);
        else if (spans[i].lo > from)
            add_span(p, set, from, spans[i].lo - 1);
        from = spans[i].hi + 1;
    }
    if (negate)
        add_span(p, set, from, CP_MAX);
}

/* \d \w \s and their opposites. False: it is another escape, nothing was taken. */
static bool class_escape(struct parser *p, struct re_set *set) {
    int c = peek(p);
    if (c == 'd' || c == 'D')
        add_class(p, set, digits, ARRAY_LEN(digits), c == 'D');
    else if (c == 'w' || c == 'W')
        add_class(p, set, words, ARRAY_LEN(words), c == 'W');
    else if (c == 's' || c == 'S')
        add_class(p, set, spaces, ARRAY_LEN(spaces), c == 'S');
    else
        return false;
    p->pos++;
    return true;
}

/* ------------------------------------------------------------------ escapes */

static int hex_value(int c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* n hexadecimal digits at pos; false and nothing taken when they are not there. */
static bool take_hex(struct parser *p, unsigned n, uint32_t *out) {
    uint32_t value = 0;
    if (n > p->n - p->pos)
        return false;
    for (unsigned i = 0; i < n; i++) {
        int digit = hex_value((uint8_t)p->s[p->pos + i]);
        if (digit < 0)
            return false;
        value = value << 4 | (uint32_t)digit;
    }
    p->pos += n;
    *out = value;
    return true;
}

static bool unicode_escape(struct parser *p, size_t at, uint32_t *cp) {
    if (peek(p) == '{') {
        uint32_t value = 0;
        size_t start = ++p->pos;
        for (int digit; (digit = hex_value(peek(p))) >= 0 && value <= CP_MAX; p->pos++)
            value = value << 4 | (uint32_t)digit;
        if (p->pos == start || peek(p) != '}' || value > CP_MAX)
            return malformed(p, at, "no code point in an escape");
        p->pos++;
        *cp = value;
    } else if (!take_hex(p, 4, cp))
        return malformed(p, at, "no four hexadecimal digits in an escape");
    if (*cp < 0xd800 || *cp > 0xdfff)
        return true;
    uint32_t low;
    if (*cp < 0xdc00 && p->n - p->pos >= 6 && memcmp(p->s + p->pos, "\\u", 2) == 0) {
        p->pos += 2;
        if (take_hex(p, 4, &low) && low >= 0xdc00 && low <= 0xdfff) {
            *cp = 0x10000 + ((*cp - 0xd800) << 10) + (low - 0xdc00);
            return true;
        }
    }
    return malformed(p, at, "half of a surrogate pair");
}

/* One character behind a backslash, which was taken at `at`. */
static bool char_escape(struct parser *p, size_t at, bool in_class, uint32_t *cp) {
    static const char letters[] = "tnvfr", values[] = "\t\n\v\f\r";
    int c = peek(p);
    if (c < 0)
        return malformed(p, at, "a backslash with nothing behind it");
    const char *known = strchr(letters, c);
    *cp = take_char(p);
    if (c != 0 && known != NULL)
        *cp = (uint8_t)values[known - letters];
    else if (c == 'u')
        return unicode_escape(p, at, cp);
    else if (c == 'x') {
        if (!take_hex(p, 2, cp))
            return malformed(p, at, "no two hexadecimal digits in an escape");
    } else if (c == 'c') {
        int letter = peek(p) | 0x20;
        if (peek(p) < 0 || letter < 'a' || letter > 'z')
            return malformed(p, at, "no letter in a control escape");
        *cp = (uint32_t)(letter & 0x1f);
        p->pos++;
    } else if (c == '0' && !(peek(p) >= '0' && peek(p) <= '9'))
        *cp = 0;
    else if (c == 'b' && in_class)
        *cp = '\b';
    else if (c == 'b' || c == 'B')
        return unsupported(p, at, "a word boundary");
    else if ((c >= '0' && c <= '9') || c == 'k')
        return unsupported(p, at, "a back reference");
    else if (c == 'p' || c == 'P')
        return unsupported(p, at, "a property of characters");
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return malformed(p, at, "an unknown escape");
    return true;
}

/* ------------------------------------------------------------------ brackets */

/* One item: a character, or a class, which ends ranges (then *is_class). */
static bool class_item(struct parser *p, struct re_set *set, uint32_t *cp, bool *is_class) {
    size_t at = p->pos;
    *is_class = false;
    if (peek(p) != '\\') {
        *cp = take_char(p);
        return true;
    }
    p->pos++;
    *is_class = class_escape(p, set);
    return *is_class || char_escape(p, at, true, cp);
}

static bool parse_class(struct parser *p, uint32_t *node) {
    struct re_set set = { NULL, 0, 0 };
    size_t open = p->pos++;
    bool negate = peek(p) == '^';
    p->pos += negate;
    while (peek(p) != ']') {
        uint32_t lo, hi;
        bool lo_class, hi_class;
        if (peek(p) < 0)
            return malformed(p, open, "a bracket that is not closed");
        size_t at = p->pos;
        if (!build_goes_on(p->b) || !class_item(p, &set, &lo, &lo_class))
            return false;
        if (peek(p) != '-' || p->pos + 1 >= p->n || p->s[p->pos + 1] == ']') {
            if (!lo_class)
                add_span(p, &set, lo, lo);
            continue;
        }
        p->pos++;
        if (!class_item(p, &set, &hi, &hi_class))
            return false;
        if (lo_class || hi_class) { /* as in [\w-x]: the hyphen is one */
            add_span(p, &set, '-', '-');
            if (!lo_class)
                add_span(p, &set, lo, lo);
            if (!hi_class)
                add_span(p, &set, hi, hi);
        } else if (lo > hi)
            return malformed(p, at, "a range that runs backwards");
        else
            add_span(p, &set, lo, hi);
    }
    p->pos++;
    settle(p, &set, negate);
    *node = new_set(p, set);
    return p->b->err == SLM_OK;
}

/* ------------------------------------------------------------------ quantifiers */

/* A number of {n,m}: at most a little more than REPEAT_MOST, whatever is written. */
static bool take_count(struct parser *p, uint32_t *out) {
    size_t start = p->pos;
    for (*out = 0; peek(p) >= '0' && peek(p) <= '9'; p->pos++)
        if (*out <= REPEAT_MOST)
            *out = *out * 10 + (uint32_t)(peek(p) - '0');
    return p->pos > start;
}

/* {n} {n,} {n,m} at pos; false and nothing taken when these braces are no quantifier. */
static bool take_braces(struct parser *p, uint32_t *min, uint32_t *max) {
    size_t start = p->pos++;
    if (take_count(p, min)) {
        *max = *min;
        if (peek(p) == ',') {
            p->pos++;
            if (!take_count(p, max))
                *max = REPEAT_ENDLESS;
        }
        if (peek(p) == '}') {
            p->pos++;
            return true;
        }
    }
    p->pos = start;
    return false;
}

static bool take_quantifier(struct parser *p, uint32_t *min, uint32_t *max) {
    int c = peek(p);
    if (c == '{')
        return take_braces(p, min, max);
    if (c != '*' && c != '+' && c != '?')
        return false;
    *min = c == '+';
    *max = c == '?' ? 1 : REPEAT_ENDLESS;
    p->pos++;
    return true;
}

static bool quantify(struct parser *p, uint32_t *node) {
    uint32_t min = 0, max = 0;
    size_t at = p->pos;
    if (!take_quantifier(p, &min, &max))
        return true;
    if (p->re->nodes[*node].kind == RE_BEGIN || p->re->nodes[*node].kind == RE_END)
        return malformed(p, at, "a repeated anchor");
    if (min > REPEAT_MOST || (max > REPEAT_MOST && max != REPEAT_ENDLESS))
        return wrong(p, SLM_E_BUDGET, at, "a repetition of more than 10000");
    if (min > max)
        return malformed(p, at, "a repetition whose numbers run backwards");
    if (peek(p) == '?')
        p->pos++; /* lazy */
    size_t next = p->pos;
    uint32_t more;
    if (take_quantifier(p, &more, &more))
        return malformed(p, next, "a repetition of a repetition");
    *node =
        new_node(p, (struct re_node){ .kind = RE_REPEAT, .left = *node, .min = min, .max = max });
    return p->b->err == SLM_OK;
}

/* ------------------------------------------------------------------ terms */

static bool open_group(struct parser *p) {
    size_t at = p->pos++;
    if (peek(p) == '?') {
        size_t left = p->n - p->pos;
        const char *s = p->s + p->pos;
        if (left >= 2 && s[1] == ':')
            p->pos += 2;
        else if (left >= 2 && (s[1] == '=' || s[1] == '!'))
            return unsupported(p, at, "look-ahead");
        else if (left >= 3 && s[1] == '<' && (s[2] == '=' || s[2] == '!'))
            return unsupported(p, at, "look-behind");
        else if (left >= 3 && s[1] == '<') {
            const char *end = memchr(s, '>', left);
            if (end == NULL || end == s + 2)
                return malformed(p, at, "a group whose name does not end");
            p->pos += (size_t)(end - s) + 1;
        } else
            return malformed(p, at, "an unknown kind of group");
    }
    void *levels = p->levels;
    if (!build_grow(p->b, &levels, p->depth + 1, &p->cap_levels, sizeof *p->levels))
        return false;
    p->levels = levels;
    p->levels[++p->depth] = (struct level){ NODE_NONE, NODE_NONE, at };
    return true;
}

/* All of a level: the alternatives, an empty one where nothing stands. */
static uint32_t level_end(struct parser *p, struct level *l) {
    if (l->sequence == NODE_NONE)
        l->sequence = new_node(p, (struct re_node){ .kind = RE_EMPTY });
    return join(p, RE_ALT, l->alternatives, l->sequence);
}

/* One atom that is no group; *node gets it. */
static bool parse_atom(struct parser *p, uint32_t *node) {
    size_t at = p->pos;
    struct re_set set = { NULL, 0, 0 };
    uint32_t cp;
    int c = peek(p);
    if (c == '[')
        return parse_class(p, node);
    if (c == '^' || c == '$') {
        p->pos++;
        *node = new_node(p, (struct re_node){ .kind = c == '^' ? RE_BEGIN : RE_END });
        return p->b->err == SLM_OK;
    }
    if (c == '*' || c == '+' || c == '?')
        return malformed(p, at, "a repetition of nothing");
    uint32_t min, max;
    if (c == '{' && take_braces(p, &min, &max))
        return malformed(p, at, "a repetition of nothing");
    if (c == '.') {
        p->pos++;
        add_class(p, &set, line_ends, ARRAY_LEN(line_ends), true);
    } else if (c == '\\') {
        p->pos++;
        if (!class_escape(p, &set)) {
            if (!char_escape(p, at, false, &cp))
                return false;
            add_span(p, &set, cp, cp);
        }
    } else {
        cp = take_char(p);
        add_span(p, &set, cp, cp);
    }
    *node = new_set(p, set);
    return p->b->err == SLM_OK;
}

static bool parse_term(struct parser *p) {
    struct level *l = &p->levels[p->depth];
    uint32_t node = 0;
    int c = peek(p);
    if (c == '(')
        return open_group(p);
    if (c == '|') {
        p->pos++;
        l->alternatives = level_end(p, l);
        l->sequence = NODE_NONE;
        return p->b->err == SLM_OK;
    }
    if (c == ')') {
        if (p->depth == 0)
            return malformed(p, p->pos, "a parenthesis that nothing opened");
        p->pos++;
        node = level_end(p, l);
        l = &p->levels[--p->depth];
    } else if (!parse_atom(p, &node))
        return false;
    if (p->b->err != SLM_OK || !quantify(p, &node))
        return false;
    l->sequence = join(p, RE_CAT, l->sequence, node);
    return p->b->err == SLM_OK;
}

bool regex_parse(struct build *b, const char *pattern, size_t n, const char *where,
                 struct regex *out) {
    struct parser p = { .b = b, .s = pattern, .n = n, .re = out, .where = where };
    memset(out, 0, sizeof *out);
    size_t bad = utf8_valid(pattern, n);
    if (bad < n) {
        build_fail(b, SLM_E_ENCODING, bad, "%sthe pattern is not UTF-8 at byte %zu", where, bad);
        return false;
    }
    void *levels = NULL;
    if (!build_grow(b, &levels, 0, &p.cap_levels, sizeof *p.levels))
        return false;
    p.levels = levels;
    p.levels[0] = (struct level){ NODE_NONE, NODE_NONE, 0 };
    while (p.pos < n)
        if (!build_goes_on(b) || !parse_term(&p))
            return false;
    if (p.depth > 0)
        return malformed(&p, p.levels[p.depth].at, "a parenthesis that is not closed");
    out->root = level_end(&p, &p.levels[0]);
    return b->err == SLM_OK;
}
