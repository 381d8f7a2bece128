/* test_session_think.c - whether a model thinks is seen in its template where its numbers do not
 * tell: fine-tunes with the numbers of a model that never thinks, and unlisted ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "slm.h"
#include "support.h"

#define ROUND "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
#define PLAIN ROUND "assistant:"
#define ALWAYS ROUND "assistant: <think>\n"
#define SWITCH ROUND "assistant:{% if enable_thinking is false %}<think></think>{% endif %}"

/* qwen3-4b-instruct-2507's numbers, which others have too; other widths of the family. */
#define CONFIG(hidden)                                                                             \
    "{\"model_type\":\"qwen3\",\"architectures\":[\"Qwen3ForCausalLM\"],\"hidden_size\":" hidden   \
    ",\"num_hidden_layers\":36,\"num_attention_heads\":32,\"num_key_value_heads\":8,"              \
    "\"head_dim\":128,\"intermediate_size\":9728,\"vocab_size\":151936,"                           \
    "\"rope_theta\":5000000,\"rms_norm_eps\":1e-6,\"max_position_embeddings\":262144,"             \
    "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}"

static char *tokenizer;
static size_t n_tokenizer;

static int setup(void **state) {
    char path[512];
    (void)state;
    if (data_path(path, sizeof path, "../demo-model/tokenizer.json") == NULL)
        return 1;
    tokenizer = slurp(path, &n_tokenizer);
    return tokenizer != NULL ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    free(tokenizer);
    return 0;
}

static void check(const char *config, const char *template, enum slm_think want, bool want_inside) {
    static const char chat[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    const struct slm_memory_file files[] = { { "config.json", config, strlen(config) },
                                             { "tokenizer.json", tokenizer, n_tokenizer },
                                             { "chat_template.jinja", template,
                                               strlen(template) } };
    slm_engine_options o = slm_engine_default();
    slm_engine *e = NULL;
    slm_why why;
    slm_info info = { .size = sizeof info };
    int32_t *ids;
    size_t n;
    bool inside = !want_inside;
    o.need = SLM_TOKENIZER | SLM_TEMPLATE;
    if (slm_engine_open_memory(files, 3, &o, &e, &why) != SLM_OK)
        fail_msg("%s", why.message);
    assert_int_equal(slm_engine_info(e, &info), SLM_OK);
    assert_int_equal(info.think, want);
    assert_int_equal(slm_render_ids(e, chat, sizeof chat - 1, NULL, &ids, &n, &inside, &why),
                     SLM_OK);
    assert_int_equal(inside, want_inside);
    slm_free(e, ids);
    slm_engine_close(e);
}

static void test_numbers_of_one_that_never_thinks(void **state) {
    (void)state;
    check(CONFIG("2560"), PLAIN, SLM_THINK_NONE, false);
    check(CONFIG("2560"), ALWAYS, SLM_THINK_ALWAYS, true);
    check(CONFIG("2560"), SWITCH, SLM_THINK_SWITCH, false);
}

static void test_unlisted(void **state) {
    (void)state;
    check(CONFIG("4096"), ALWAYS, SLM_THINK_ALWAYS, true);
    check(CONFIG("4096"), SWITCH, SLM_THINK_SWITCH, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_of_one_that_never_thinks),
        cmocka_unit_test(test_unlisted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
