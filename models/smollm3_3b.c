/* smollm3_3b.c - numbers from config.json of HuggingFaceTB/SmolLM3-3B; 3,075,098,624 parameters.
 *
 * Layers 3, 7, ..., 35 have no rope: no_rope_layers holds 1 where rope IS used. The rope base is 5e6
 * (the configuration class assumes 2e6). The vocabulary is Llama's but turns end with 128012. */
#include "models/desc.h"

#define CARD "model card"

const struct model smollm3_3b = {
    .name = "smollm3-3b", .family = &family_smollm3, .params = 3075098624,
    .layers = 36, .hidden = 2048, .heads = 16, .kv_heads = 4, .head_dim = 128, .ffn = 11008,
    .vocab = 128256, .vocab_used = 128256,
    .pattern = "FFFN", .theta = 5e6f, .rotary = 128, .eps = 1e-6f, .context = 65536, .bos = -1,
    .stop = { 128012, -1 }, .tied = true, .think = THINK_DEFAULT_ON,
    .sampling = { .sample = true, .temperature = 0.6f, .top_p = 0.95f },
    .card = {
        .title = "SmolLM3 3B", .maker = "Hugging Face", .hub_id = "HuggingFaceTB/SmolLM3-3B",
        .modalities = "text",
        .languages = "English, French, Spanish, German, Italian, Portuguese; some Arabic, Chinese, Russian",
        .licence = "Apache-2.0", .licence_url = "https://www.apache.org/licenses/LICENSE-2.0",
        .thinking = "Thinks by default; can be told not to.",
        .tool_use = "Trained for tool calls, JSON between <tool_call> tags, or Python between <code> tags.",
        .good_at = "European languages, reasoning and long texts; training data and recipe are public.",
        .sampling_note = "Temperature 0.6, top-p 0.95; no top-k (the official generate() falls back to 50).",
        .scores = {
            { "GPQA Diamond (no thinking)", CARD, 35.7 },
            { "GPQA Diamond (thinking)", CARD, 41.7 },
            { "GSM-Plus (no thinking)", CARD, 72.8 },
            { "GSM-Plus (thinking)", CARD, 83.4 },
            { "AIME 2025 (no thinking)", CARD, 9.3 },
            { "AIME 2025 (thinking)", CARD, 36.7 },
            { "IFEval (no thinking)", CARD, 76.7 },
            { "IFEval (thinking)", CARD, 71.2 },
            { "BFCL, own subset (no thinking)", CARD, 92.3 },
            { "BFCL, own subset (thinking)", CARD, 88.8 },
            { "LiveCodeBench v4 (no thinking)", CARD, 15.2 },
            { "LiveCodeBench v4 (thinking)", CARD, 30.0 },
            { "Global MMLU (no thinking)", CARD, 53.5 },
            { "Global MMLU (thinking)", CARD, 64.1 },
            { "MMLU-CF (base model)", CARD, 44.1 },
            { "GSM8K (base model)", CARD, 67.6 },
            { "MATH (base model)", CARD, 46.1 },
            { "RULER 32k (base model)", CARD, 76.4 },
            { "RULER 64k (base model)", CARD, 67.9 },
            { "RULER 128k (base model)", CARD, 61.0 },
        },
        .files = {
            { "bf16", "HuggingFaceTB/SmolLM3-3B", NULL, 6150235000 },
            { "q4_k_m", "ggml-org/SmolLM3-3B-GGUF", "SmolLM3-Q4_K_M.gguf", 1915305312 },
            { "q8_0", "ggml-org/SmolLM3-3B-GGUF", "SmolLM3-Q8_0.gguf", 3275574624 },
        },
    },
};
