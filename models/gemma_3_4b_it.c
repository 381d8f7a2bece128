/* gemma_3_4b_it.c - numbers from config.json of google/gemma-3-4b-it with the defaults of its
 * configuration class filled in; 3,880,263,168 parameters of text (4,300,079,472 with the image tower).
 *
 * Full layers: 5, 11, 17, 23, 29 (30..33 slide). Positions are divided by 8 on the full layers only.
 * Rows 262145..262207 of the vocabulary have no token. */
#include "models/desc.h"

#define REPORT "Gemma 3 Technical Report, Tables 6, 15, 16 and 18"

const struct model gemma_3_4b_it = {
    .name = "gemma-3-4b-it", .family = &family_gemma3, .params = 3880263168,
    .layers = 34, .hidden = 2560, .heads = 8, .kv_heads = 4, .head_dim = 256, .ffn = 10240,
    .vocab = 262208, .vocab_used = 262145, .vocab_cut = 262144,
    .pattern = "sssssF", .window = 1024,
    .theta = 1e6f, .theta_sliding = 1e4f, .rotary = 256,
    .attn_scale = 0.0625f, /* query_pre_attn_scalar 256, to the power -1/2 */
    .eps = 1e-6f, .rope = { .kind = ROPE_LINEAR, .factor = 8.0f },
    .context = 131072, .bos = 2,
    .stop = { 1, 106, -1 }, .tied = true, .think = THINK_NONE,
    .sampling = { .sample = true, .temperature = 1.0f, .top_p = 0.95f, .top_k = 64 },
    .suggested_output = 8192,
    .vision = { .hidden = 1152, .layers = 27, .heads = 16, .ffn = 4304, .image = 896, .patch = 14,
                .tokens = 256, .eps = 1e-6f, .begin = 255999, .end = 256000, .soft = 262144 },
    .card = {
        .title = "Gemma 3 4B it", .maker = "Google", .hub_id = "google/gemma-3-4b-it",
        .modalities = "text, images", .languages = "over 140",
        .licence = "Gemma", .licence_url = "https://ai.google.dev/gemma/terms",
        .thinking = "Never thinks.",
        .tool_use = "No tool tokens; functions are described in the prompt and called as [f(a=1)] or JSON.",
        .good_at = "Many languages, summaries and writing; instructions followed closely; long documents.",
        .sampling_note = "Temperature 1.0, top-k 64, top-p 0.95, as generation_config.json asks for.",
        .scores = {
            { "MMLU", REPORT, 58.1 },
            { "MMLU-Pro", REPORT, 43.6 },
            { "GPQA Diamond", REPORT, 30.8 },
            { "GSM8K", REPORT, 89.2 },
            { "MATH", REPORT, 75.6 },
            { "HiddenMath", REPORT, 43.0 },
            { "IFEval", REPORT, 90.2 },
            { "BIG-Bench Hard", REPORT, 72.2 },
            { "BIG-Bench Extra Hard", REPORT, 11.0 },
            { "LiveCodeBench (of Table 6)", REPORT, 12.6 },
            { "HumanEval", REPORT, 71.3 },
            { "MBPP", REPORT, 63.2 },
            { "Bird-SQL", REPORT, 36.3 },
            { "SimpleQA", REPORT, 4.0 },
            { "FACTS Grounding", REPORT, 70.1 },
            { "Global-MMLU-Lite", REPORT, 54.5 },
            { "WMT24++", REPORT, 46.8 },
            { "RULER 32k", REPORT, 61.4 },
            { "RULER 128k", REPORT, 46.8 },
            { "MMMU (images)", REPORT, 48.8 },
            { "DocVQA (images)", REPORT, 75.8 },
            { "ChartQA (images)", REPORT, 68.8 },
            { "BFCL v3", "third party's site", 39.6 },
        },
        .files = {
            { "bf16", "google/gemma-3-4b-it", NULL, 8600158944 },
            { "q4_k_m", "ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q4_K_M.gguf", 2489757856 },
            { "q8_0", "ggml-org/gemma-3-4b-it-GGUF", "gemma-3-4b-it-Q8_0.gguf", 4130226336 },
            { "mmproj-f16", "ggml-org/gemma-3-4b-it-GGUF", "mmproj-model-f16.gguf", 851251104 },
        },
    },
};
