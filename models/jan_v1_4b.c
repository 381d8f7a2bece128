/* jan_v1_4b.c - janhq/Jan-v1-4B, a fine-tune of Qwen3-4B-Thinking-2507 whose config.json it inherits;
 * 4,022,468,096 parameters.
 *
 * Every number equals that of qwen3-4b-instruct-2507, so the two are told apart by name only. The
 * template opens the thinking block: the output holds the closing tag alone. */
#include "models/desc.h"

const struct model jan_v1_4b = {
    .name = "jan-v1-4b", .family = &family_qwen3, .params = 4022468096,
    .layers = 36, .hidden = 2560, .heads = 32, .kv_heads = 8, .head_dim = 128, .ffn = 9728,
    .vocab = 151936, .vocab_used = 151669,
    .pattern = "F", .theta = 5e6f, .rotary = 128, .eps = 1e-6f, .context = 262144, .bos = -1,
    .stop = { 151645, 151643, -1 }, .tied = true, .chosen_by_name = true, .think = THINK_ALWAYS,
    .sampling = { .sample = true, .temperature = 0.6f, .top_p = 0.95f, .top_k = 20 },
    .suggested_output = 2048,
    .card = {
        .title = "Jan v1 4B", .maker = "Menlo Research (Jan)", .hub_id = "janhq/Jan-v1-4B",
        .modalities = "text", .languages = "English",
        .licence = "Apache-2.0", .licence_url = "https://www.apache.org/licenses/LICENSE-2.0",
        .thinking = "Always thinks; cannot be turned off.",
        .tool_use = "Trained to work with tools, web search above all; JSON between <tool_call> tags.",
        .good_at = "Questions that need several searches; reasoning before answering.",
        .sampling_note = "Temperature 0.6, top-p 0.95, top-k 20.",
        .scores = {
            { "SimpleQA (with search tools)", "model card", 91.1 },
        },
        .files = {
            { "bf16", "janhq/Jan-v1-4B", NULL, 8044982080 },
            { "q4_k_m", "janhq/Jan-v1-4B-GGUF", "Jan-v1-4B-Q4_K_M.gguf", 2497281000 },
            { "q8_0", "janhq/Jan-v1-4B-GGUF", "Jan-v1-4B-Q8_0.gguf", 4280404000 },
        },
    },
};
