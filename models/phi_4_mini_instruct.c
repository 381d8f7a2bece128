/* phi_4_mini_instruct.c - numbers from config.json of microsoft/Phi-4-mini-instruct; 3,836,021,760
 * parameters.
 *
 * Only the first 96 of 128 dimensions of a head are turned (partial_rotary_factor 0.75), so there are
 * 48 factors. A sequence longer than 4096 uses the long ones, for all its positions. cos and sin are
 * multiplied by sqrt(1 + ln(131072 / 4096) / ln 4096) in both cases. The sliding window of the
 * config, 262144, is larger than the context and does nothing. Rows 199998, 200000..200017 and
 * 200029..200063 of the vocabulary have no token. */
#include "models/desc.h"

#define CARD "model card"
#define QWEN "measured in the Qwen3 Technical Report, Tables 19 and 20"

static const float short_factors[48] = {
    1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f,
    1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f,
    1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f,
};
static const float long_factors[48] = {
    1.0f,         1.118320672f, 1.250641126f, 1.398617824f, 1.564103225f, 1.74916897f,
    1.956131817f, 2.187582649f, 2.446418898f, 2.735880826f, 3.059592084f, 3.421605075f,
    3.826451687f, 4.279200023f, 4.785517845f, 5.351743533f, 5.984965424f, 6.693110555f,
    7.485043894f, 8.370679318f, 9.36110372f,  10.4687158f,  11.70738129f, 13.09260651f,
    14.64173252f, 16.37415215f, 18.31155283f, 20.47818807f, 22.90118105f, 25.61086418f,
    28.64115884f, 32.03f,       32.1f,        32.13f,       32.23f,       32.6f,
    32.61f,       32.64f,       32.66f,       32.7f,        32.71f,       32.93f,
    32.97f,       33.28f,       33.49f,       33.5f,        44.16f,       47.77f,
};

const struct model phi_4_mini_instruct = {
    .name = "phi-4-mini-instruct", .family = &family_phi3, .params = 3836021760,
    .layers = 32, .hidden = 3072, .heads = 24, .kv_heads = 8, .head_dim = 128, .ffn = 8192,
    .vocab = 200064, .vocab_used = 200029,
    .pattern = "F", .theta = 1e4f, .rotary = 96, .eps = 1e-5f,
    .rope = { .kind = ROPE_LONG, .short_factors = short_factors, .long_factors = long_factors,
              .original_context = 4096, .attention_factor = 1.1902380714238083f },
    .context = 131072, .bos = -1,
    .stop = { 200020, 199999, -1 }, .tied = true, .think = THINK_NONE,
    .sampling = { .sample = false },
    .card = {
        .title = "Phi-4 mini instruct", .maker = "Microsoft", .hub_id = "microsoft/Phi-4-mini-instruct",
        .modalities = "text",
        .languages = "23: Arabic, Chinese, Czech, Danish, Dutch, English, Finnish, French, German, Hebrew, "
                     "Hungarian, Italian, Japanese, Korean, Norwegian, Polish, Portuguese, Russian, Spanish, "
                     "Swedish, Thai, Turkish, Ukrainian",
        .licence = "MIT", .licence_url = "https://opensource.org/license/mit",
        .thinking = "Never thinks.",
        .tool_use = "Trained for function calls: a JSON list between <|tool_call|> tags.",
        .good_at = "Mathematics and instructions without thinking; a permissive licence.",
        .sampling_note = "Greedy, as in the model card's examples.",
        .scores = {
            { "MMLU (5-shot)", CARD, 67.3 },
            { "MMLU-Pro", CARD, 52.8 },
            { "MMLU-Redux", QWEN, 67.9 },
            { "GPQA", CARD, 25.2 },
            { "GSM8K", CARD, 88.6 },
            { "MATH", CARD, 64.0 },
            { "MATH-500", QWEN, 67.6 },
            { "AIME 2025", QWEN, 5.3 },
            { "IFEval", QWEN, 68.6 },
            { "BFCL v3", QWEN, 31.3 },
            { "BIG-Bench Hard", CARD, 70.4 },
            { "LiveCodeBench v5", QWEN, 10.4 },
            { "MMMLU", CARD, 49.3 },
            { "MGSM", CARD, 63.9 },
            { "Arena-Hard", CARD, 32.8 },
        },
        .files = {
            { "bf16", "microsoft/Phi-4-mini-instruct", NULL, 7672080000 },
            { "q4_k_m", "unsloth/Phi-4-mini-instruct-GGUF", "Phi-4-mini-instruct-Q4_K_M.gguf", 2491874272 },
            { "q8_0", "unsloth/Phi-4-mini-instruct-GGUF", "Phi-4-mini-instruct.Q8_0.gguf", 4084611040 },
        },
    },
};
