/* gemma_3_270m_it.c - numbers from config.json of google/gemma-3-270m-it; 268,098,176 parameters.
 *
 * Full layers: 5, 11, 17. The vocabulary has 262,144 rows although the shared tokenizer knows one id
 * more (262144, the place of an image, which this model cannot take). config.json says end of text
 * is 1 only; turns end with 106 (generation_config.json). */
#include "models/desc.h"

#define TABLE "table on a third party's page, labelled as the maker's"

const struct model gemma_3_270m_it = {
    .name = "gemma-3-270m-it", .family = &family_gemma3, .params = 268098176,
    .layers = 18, .hidden = 640, .heads = 4, .kv_heads = 1, .head_dim = 256, .ffn = 2048,
    .vocab = 262144, .vocab_used = 262144,
    .pattern = "sssssF", .window = 512,
    .theta = 1e6f, .theta_sliding = 1e4f, .rotary = 256,
    .attn_scale = 0.0625f, /* query_pre_attn_scalar 256, to the power -1/2 */
    .eps = 1e-6f, .context = 32768, .bos = 2,
    .stop = { 1, 106, -1 }, .tied = true, .think = THINK_NONE,
    .sampling = { .sample = true, .temperature = 1.0f, .top_p = 0.95f, .top_k = 64 },
    .card = {
        .title = "Gemma 3 270M it", .maker = "Google", .hub_id = "google/gemma-3-270m-it",
        .modalities = "text", .languages = "over 140 for the family; so small a model is best in English",
        .licence = "Gemma", .licence_url = "https://ai.google.dev/gemma/terms",
        .thinking = "Never thinks.",
        .tool_use = "No tool tokens; functions can be described in the prompt, unreliable at this size.",
        .good_at = "Classification, extraction and rewriting after fine-tuning; instant answers on any machine.",
        .sampling_note = "Temperature 1.0, top-k 64, top-p 0.95, as generation_config.json asks for.",
        .scores = {
            { "IFEval", TABLE, 51.2 },
            { "BIG-Bench Hard", TABLE, 26.7 },
        },
        .files = {
            { "bf16", "google/gemma-3-270m-it", NULL, 536223056 },
            { "q8_0", "ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf", 291545600 },
        },
    },
};
