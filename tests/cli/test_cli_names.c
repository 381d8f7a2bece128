/* test_cli_names.c - which known model a name on disk stands for. The names come from the catalog, so
 * that a new model is covered without a change here; the traps are written out. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static void same(const char *got, const char *wanted) {
    if (wanted)
        assert_string_equal(got ? got : "(none)", wanted);
    else
        assert_null(got);
}

/* Every name that the catalog itself gives leads back to its id. */
static void catalog_names(void **state) {
    slm_card card = { .size = sizeof card };
    size_t known = 0;
    (void)state;
    for (size_t i = 0; i < slm_catalog_count(); i++) {
        char text[300];
        assert_int_equal(slm_catalog_get(i, &card), SLM_OK);
        if (card.builtin)
            continue;
        known++;
        same(match_repo(card.hub_id), card.id);
        const char *base = strchr(card.hub_id, '/') + 1;
        static const char *const tails[] = { ".gguf",       "-Q8_0.gguf", "-Q4_K_M.gguf",
                                             ".Q6_K.gguf",  "-bf16.gguf", "-UD-Q4_K_XL.gguf",
                                             "-IQ4_XS.gguf" };
        for (size_t k = 0; k < ARRAY_LEN(tails); k++) {
            snprintf(text, sizeof text, "%s%s", base, tails[k]);
            same(match_file(text), card.id);
        }
        snprintf(text, sizeof text, "somebody/%s-GGUF", base);
        same(match_repo(text), card.id);
        snprintf(text, sizeof text, "somebody/%.*s_%s-GGUF", (int)(base - 1 - card.hub_id),
                 card.hub_id, base);
        same(match_repo(text), card.id);
        static const char *const others[] = { "-medical",          "-Base", "-FP8", "-AWQ",
                                              "-abliterated-GGUF", "-v2" };
        for (size_t k = 0; k < ARRAY_LEN(others); k++) {
            snprintf(text, sizeof text, "somebody/%s%s", base, others[k]);
            same(match_repo(text), NULL);
        }
        for (size_t k = 0; k < card.n_files; k++)
            same(match_repo(card.files[k].repo), card.id);
    }
    assert_true(known >= 7);
}

static void traps(void **state) {
    (void)state;
    same(match_file("mmproj-model-f16.gguf"), NULL);
    same(match_file("Qwen3-4B-Q4_K_M.gguf"), NULL); /* not the 2507 instruct model */
    same(match_file("Qwen3-0.6B-Q8_0.gguf"), "qwen3-0.6b");
    same(match_file("unknown.gguf"), NULL);
    same(match_file(""), NULL);
    same(match_repo("/"), NULL);
    char long_name[1000];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    same(match_file(long_name), NULL);
}

static void ollama(void **state) {
    static const struct {
        const char *name, *tag, *id;
    } cases[] = {
        { "qwen3", "0.6b", "qwen3-0.6b" },
        { "qwen3", "0.6b-q8_0", "qwen3-0.6b" },
        { "qwen3", "4b", NULL },
        { "qwen3", "latest", NULL },
        { "qwen3", "4b-instruct", "qwen3-4b-instruct-2507" },
        { "qwen3", "4b-instruct-2507-q4_K_M", "qwen3-4b-instruct-2507" },
        { "qwen3", "4b-thinking-2507-q4_K_M", NULL },
        { "gemma3", "270m", "gemma-3-270m-it" },
        { "gemma3", "4b", "gemma-3-4b-it" },
        { "gemma3", "4b-it-q8_0", "gemma-3-4b-it" },
        { "gemma3", "12b", NULL },
        { "gemma3", "latest", NULL },
        { "phi4-mini", "latest", "phi-4-mini-instruct" },
        { "phi4-mini", "3.8b", "phi-4-mini-instruct" },
        { "phi4", "latest", NULL },
        { "smollm3", "3b", "smollm3-3b" },
        { "llama3.2", "3b", NULL },
        { "", "", NULL },
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        same(match_ollama(cases[i].name, cases[i].tag), cases[i].id);
}

static void quants(void **state) {
    static const struct {
        const char *file, *quant;
    } cases[] = {
        { "Qwen3-0.6B-Q8_0.gguf", "q8_0" },
        { "m.Q4_K_M.gguf", "q4_k_m" },
        { "a-UD-Q4_K_XL.gguf", "q4_k_xl" },
        { "x-BF16.gguf", "bf16" },
        { "x-iq4_nl.gguf", "iq4_nl" },
        { "qwen3-0.6b.gguf", "" },
        { "x-f16-GGUF", "f16" },
        { "q8_0.gguf", "" },
        { "", "" },
    };
    char quant[24];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        quant_of(cases[i].file, quant, sizeof quant);
        assert_string_equal(quant, cases[i].quant);
    }
}

static void best_of_several(void **state) {
    static char a[] = "a", b[] = "b", d[] = "d";
    struct disk_model items[] = {
        { .path = a,
          .place = "x",
          .id = "m",
          .quant = "safetensors",
          .bytes = 1000,
          .folder = true },
        { .path = b, .place = "x", .id = "m", .quant = "q4_k_m", .bytes = 300 },
        { .path = d, .place = "y", .id = "m", .quant = "q8_0", .bytes = 600 },
    };
    struct disk_list list = { items, 3, 3 };
    (void)state;
    assert_string_equal(disk_best(&list, "m", NULL, 0)->path, "d");
    assert_string_equal(disk_best(&list, "m", NULL, 599)->path,
                        "b"); /* the better one does not fit */
    assert_string_equal(disk_best(&list, "m", NULL, 10)->path, "b"); /* none fits: the smallest */
    assert_string_equal(disk_best(&list, "m", "Q4_K_M", 0)->path, "b");
    assert_null(disk_best(&list, "m", "q6_k", 0));
    assert_null(disk_best(&list, "n", NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(catalog_names),   cmocka_unit_test(traps),
        cmocka_unit_test(ollama),          cmocka_unit_test(quants),
        cmocka_unit_test(best_of_several),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
