/* qwen3_4b_instruct_2507.c - numbers from config.json of Qwen/Qwen3-4B-Instruct-2507; 4,022,468,096
 * parameters.
 *
 * head_dim is 128 although hidden / heads is 80. The rope base is 5e6 (the first Qwen3 4B: 1e6). */
#include "models/desc.h"

#define CARD "model card"

const struct model qwen3_4b_instruct_2507 = {
    .name = "qwen3-4b-instruct-2507", .family = &family_qwen3, .params = 4022468096,
    .layers = 36, .hidden = 2560, .heads = 32, .kv_heads = 8, .head_dim = 128, .ffn = 9728,
    .vocab = 151936, .vocab_used = 151669,
    .pattern = "F", .theta = 5e6f, .rotary = 128, .eps = 1e-6f, .context = 262144, .bos = -1,
    .stop = { 151645, 151643, -1 }, .tied = true, .think = THINK_NONE,
    .sampling = { .sample = true, .temperature = 0.7f, .top_p = 0.8f, .top_k = 20 },
    .suggested_output = 16384,
    .card = {
        .title = "Qwen3 4B Instruct 2507", .maker = "Alibaba (Qwen)", .hub_id = "Qwen/Qwen3-4B-Instruct-2507",
        .modalities = "text", .languages = "over 100",
        .licence = "Apache-2.0", .licence_url = "https://www.apache.org/licenses/LICENSE-2.0",
        .thinking = "Never thinks.",
        .tool_use = "Trained for tool calls, JSON between <tool_call> tags.",
        .good_at = "The strongest of the seven without thinking: knowledge, mathematics, code, tools.",
        .sampling_note = "Presence penalty 0 to 2 helps against repetition.",
        .scores = {
            { "MMLU-Pro", CARD, 69.6 },
            { "MMLU-Redux", CARD, 84.2 },
            { "GPQA", CARD, 62.0 },
            { "SuperGPQA", CARD, 42.8 },
            { "AIME 2025", CARD, 47.4 },
            { "ZebraLogic", CARD, 80.2 },
            { "LiveBench", CARD, 63.0 },
            { "LiveCodeBench v6", CARD, 35.1 },
            { "MultiPL-E", CARD, 76.8 },
            { "IFEval", CARD, 83.4 },
            { "Arena-Hard v2", CARD, 43.4 },
            { "WritingBench", CARD, 83.4 },
            { "BFCL v3", CARD, 61.9 },
            { "TAU1 retail", CARD, 48.7 },
            { "TAU1 airline", CARD, 32.0 },
            { "TAU2 retail", CARD, 40.4 },
            { "TAU2 airline", CARD, 24.0 },
            { "TAU2 telecom", CARD, 13.2 },
            { "Multi-IF", CARD, 69.0 },
            { "MMLU-ProX", CARD, 61.6 },
            { "PolyMATH", CARD, 31.1 },
        },
        .files = {
            { "bf16", "Qwen/Qwen3-4B-Instruct-2507", NULL, 8044982080 },
            { "q4_k_m", "unsloth/Qwen3-4B-Instruct-2507-GGUF", "Qwen3-4B-Instruct-2507-Q4_K_M.gguf", 2497281120 },
            { "q8_0", "unsloth/Qwen3-4B-Instruct-2507-GGUF", "Qwen3-4B-Instruct-2507-Q8_0.gguf", 4280404704 },
        },
    },
};
