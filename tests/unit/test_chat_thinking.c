/* test_chat_thinking.c - splitting answers into reasoning and content, whole and cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chat/thinking.h"

struct result {
    char text[2][512]; /* by part */
    size_t n[2];
};

static void take(void *user, enum think_part part, const char *text, size_t n) {
    struct result *r = user;
    assert_true(n > 0 && n < sizeof r->text[0] - r->n[part]);
    assert_true(part == PART_CONTENT || r->n[PART_CONTENT] == 0); /* reasoning comes first */
    memcpy(r->text[part] + r->n[part], text, n);
    r->n[part] += n;
    r->text[part][r->n[part]] = '\0';
}

struct thinking_case {
    const char *text;
    bool inside;
    const char *reasoning, *content;
};

/* Text cut at a and b. */
static struct result parse(const struct thinking_case *c, const char *open, const char *close,
                           size_t a, size_t b) {
    struct result r = { .n = { 0 } };
    struct think_parser p;
    think_parser_init(&p, open, close, c->inside, take, &r);
    think_parser_put(&p, c->text, a);
    think_parser_put(&p, c->text + a, b - a);
    think_parser_put(&p, c->text + b, strlen(c->text) - b);
    think_parser_end(&p);
    return r;
}

static const struct thinking_case cases[] = {
    { "", false, "", "" },
    { "", true, "", "" },
    { "Hello", false, "", "Hello" },
    { "<think>\neasy\n</think>\n\n4", false, "easy", "4" },
    { "<think>easy</think>4", false, "easy", "4" },
    { "<think>\n\n</think>\n\nHi", false, "", "Hi" },
    { "<think></think>Hi", false, "", "Hi" },
    { "<think></think>", false, "", "" },
    { "\n  <think>\nx\n</think>\n y", false, "x", " y" },
    { "  Hi", false, "", "  Hi" },
    { "\n\nHi", false, "", "\n\nHi" },
    { "   ", false, "", "   " },
    { "Use <think>x</think> tags", false, "", "Use <think>x</think> tags" },
    { "<thin air", false, "", "<thin air" },
    { "<thi", false, "", "<thi" },
    { "<<think>x</think>", false, "", "<<think>x</think>" },
    { "<think>\na\n\nb\n\n\n</think>\nc\n\nd\n", false, "a\n\nb", "c\n\nd\n" },
    { "<think>never closed\n\n", false, "never closed", "" },
    { "<think>cut here </thi", false, "cut here </thi", "" },
    { "<think>\n\n</", false, "</", "" },
    { "<think>a\n</thin\n</think>b", false, "a\n</thin", "b" },
    { "<think>a<</think>b", false, "a<", "b" },
    { "<think>a</</think>b", false, "a</", "b" },
    { "<think>a\n\n<\n</think>b", false, "a\n\n<", "b" },
    { "<think>a</think>b</think>c", false, "a", "b</think>c" },
    { "<think>a<think>b</think>c", false, "a<think>b", "c" },
    { "<think>\xc3\xa4\n\xe4\xbd\xa0</think>\xf0\x9f\x99\x82", false, "\xc3\xa4\n\xe4\xbd\xa0",
      "\xf0\x9f\x99\x82" },
    { "reasons\n</think>\n\nanswer", true, "reasons", "answer" },
    { "\n\nreasons</think>answer", true, "reasons", "answer" },
    { "</think>\n\nanswer", true, "", "answer" },
    { "\n</think>answer", true, "", "answer" },
    { "<think>\nsaid again\n</think>\nanswer", true, "said again", "answer" },
    { "<thin</think>x", true, "<thin", "x" },
    { "<</think>x", true, "<", "x" },
    { "only reasons", true, "only reasons", "" },
    { "  \n indented", true, "  \n indented", "" },
    { "<think> \n</think>x", false, " ", "x" },
    { "<think>a\r\n</think>\n\r\nx", false, "a\r", "\r\nx" },
};

static void expect(const struct thinking_case *c, const struct result *r) {
    if (strcmp(r->text[PART_REASONING], c->reasoning) != 0 ||
        strcmp(r->text[PART_CONTENT], c->content) != 0)
        fail_msg("'%s': reasoning '%s', content '%s'", c->text, r->text[PART_REASONING],
                 r->text[PART_CONTENT]);
}

static void test_every_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        for (size_t a = 0; a <= n; a++)
            for (size_t b = a; b <= n; b++) {
                struct result r = parse(&cases[i], "<think>", "</think>", a, b);
                expect(&cases[i], &r);
            }
    }
}

/* Random texts of tag pieces: byte by byte equals whole, and no byte but tags and line ends next
 * to them is lost. Tags that overlap themselves exercise the matcher. */
static void test_random(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "<", "think>", "<think>", "</think>", "/",    "\n", "a",
        " ", "</",     "think",   "aab",      "aaab", "b",  "\n\n"
    };
    uint32_t seed = 12345;
    for (int round = 0; round < 20000; round++) {
        char text[128] = "";
        for (int k = 0; k < 10; k++) {
            seed = seed * 1664525u + 1013904223u;
            strcat(text, pieces[(seed >> 16) % (sizeof pieces / sizeof pieces[0])]);
        }
        const struct thinking_case c = { text, (seed >> 9 & 1) != 0, "", "" };
        bool odd = (seed >> 10 & 1) != 0;
        const char *open = odd ? "aa" : "<think>", *close = odd ? "aaab" : "</think>";
        size_t n = strlen(text);
        struct result whole = parse(&c, open, close, n, n), bytes = { .n = { 0 } };
        struct think_parser p;
        think_parser_init(&p, open, close, c.inside, take, &bytes);
        for (size_t i = 0; i < n; i++)
            think_parser_put(&p, text + i, 1);
        think_parser_end(&p);
        assert_string_equal(whole.text[0], bytes.text[0]);
        assert_string_equal(whole.text[1], bytes.text[1]);
        if (whole.n[0] == 0 && !c.inside && strncmp(text, open, strlen(open)) != 0 &&
            strchr(" \n", text[0]) == NULL)
            assert_string_equal(whole.text[1], text);
    }
}

static void test_no_tags(void **state) {
    (void)state;
    const struct thinking_case c = { "\n<think>x</think>y", true, "", "\n<think>x</think>y" };
    struct result r = parse(&c, NULL, NULL, 3, 7);
    expect(&c, &r);
    r = parse(&c, "", "", 3, 7);
    expect(&c, &r);
}

/* More blanks than are held: then it is no block, however the text is cut. */
static void test_many_blanks(void **state) {
    (void)state;
    char text[THINK_BLANKS + 32];
    for (size_t n = THINK_BLANKS - 1; n <= THINK_BLANKS + 1; n++) {
        memset(text, ' ', n);
        strcpy(text + n, "<think>a</think>b");
        bool block = n <= THINK_BLANKS;
        const struct thinking_case c = { text, false, block ? "a" : "", block ? "b" : text };
        for (size_t a = 0; a <= strlen(text); a++) {
            struct result r = parse(&c, "<think>", "</think>", a, a);
            expect(&c, &r);
        }
    }
}

static void test_reasoning_flag(void **state) {
    (void)state;
    struct result r = { .n = { 0 } };
    struct think_parser p;
    think_parser_init(&p, "<think>", "</think>", false, take, &r);
    assert_false(think_parser_reasoning(&p));
    think_parser_put(&p, "<think>", 7);
    assert_true(think_parser_reasoning(&p));
    think_parser_put(&p, "a\n</think>", 10);
    assert_false(think_parser_reasoning(&p));
    think_parser_init(&p, "<think>", "</think>", true, take, &r);
    assert_true(think_parser_reasoning(&p));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),      cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_tags),        cmocka_unit_test(test_many_blanks),
        cmocka_unit_test(test_reasoning_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
