/* qwen3_0_6b.c - numbers from config.json of Qwen/Qwen3-0.6B; 596,049,920 parameters.
 *
 * head_dim is 128 although hidden / heads is 64. Rows 151669..151935 of the vocabulary have no token. */
#include "models/desc.h"

#define REPORT "Qwen3 Technical Report, Tables 19 and 20"

const struct model qwen3_0_6b = {
    .name = "qwen3-0.6b", .family = &family_qwen3, .params = 596049920,
    .layers = 28, .hidden = 1024, .heads = 16, .kv_heads = 8, .head_dim = 128, .ffn = 3072,
    .vocab = 151936, .vocab_used = 151669,
    .pattern = "F", .theta = 1e6f, .rotary = 128, .eps = 1e-6f, .context = 40960, .bos = -1,
    .stop = { 151645, 151643, -1 }, .tied = true, .think = THINK_DEFAULT_ON,
    .sampling = { .sample = true, .temperature = 0.6f, .top_p = 0.95f, .top_k = 20 },
    .sampling_no_think = { .set = true, .temperature = 0.7f, .top_p = 0.8f, .top_k = 20 },
    .suggested_output = 32768,
    .card = {
        .title = "Qwen3 0.6B", .maker = "Alibaba (Qwen)", .hub_id = "Qwen/Qwen3-0.6B",
        .modalities = "text", .languages = "over 100 (the report counts 119)",
        .licence = "Apache-2.0", .licence_url = "https://www.apache.org/licenses/LICENSE-2.0",
        .thinking = "Thinks by default; can be told not to.",
        .tool_use = "Trained for tool calls, JSON between <tool_call> tags.",
        .good_at = "The smallest of the seven that reasons and calls tools.",
        .sampling_note = "Never greedy while thinking: it loops. Presence penalty 0 to 2 helps against repetition.",
        .scores = {
            { "MMLU-Redux (thinking)", REPORT, 55.6 },
            { "MMLU-Redux (no thinking)", REPORT, 44.6 },
            { "GPQA Diamond (thinking)", REPORT, 27.9 },
            { "GPQA Diamond (no thinking)", REPORT, 22.9 },
            { "MATH-500 (thinking)", REPORT, 77.6 },
            { "MATH-500 (no thinking)", REPORT, 55.2 },
            { "AIME 2025 (thinking)", REPORT, 15.1 },
            { "AIME 2025 (no thinking)", REPORT, 2.6 },
            { "IFEval, strict prompt (thinking)", REPORT, 59.2 },
            { "IFEval, strict prompt (no thinking)", REPORT, 54.5 },
            { "BFCL v3 (thinking)", REPORT, 46.4 },
            { "BFCL v3 (no thinking)", REPORT, 44.1 },
            { "LiveCodeBench v5 (thinking)", REPORT, 12.3 },
            { "LiveCodeBench v5 (no thinking)", REPORT, 3.6 },
            { "MMMLU (thinking)", REPORT, 43.1 },
            { "MMMLU (no thinking)", REPORT, 37.1 },
            { "INCLUDE (thinking)", REPORT, 35.9 },
            { "INCLUDE (no thinking)", REPORT, 34.4 },
            { "Multi-IF (thinking)", REPORT, 36.1 },
            { "Multi-IF (no thinking)", REPORT, 33.3 },
            { "Arena-Hard (thinking)", REPORT, 8.5 },
            { "Arena-Hard (no thinking)", REPORT, 6.5 },
        },
        .files = {
            { "bf16", "Qwen/Qwen3-0.6B", NULL, 1503300328 },
            { "q8_0", "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", 639446688 },
        },
    },
};
