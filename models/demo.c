/* demo.c - the model that is compiled into the program; 4,984,832 parameters, our own.
 *
 * Wired like Qwen3 with nothing special-cased; trained from scratch on generated text of a narrow
 * domain (arithmetic, capitals, extraction, classification, tool calls). */
#include "models/desc.h"

const struct model demo = {
    .name = "demo", .family = &family_qwen3, .params = 4984832,
    .layers = 6, .hidden = 256, .heads = 8, .kv_heads = 2, .head_dim = 64, .ffn = 512,
    .vocab = 2560, .vocab_used = 2560,
    .pattern = "F", .theta = 1e6f, .rotary = 64, .eps = 1e-6f, .context = 1024, .bos = -1,
    .stop = { 2553, 2551, -1 }, .tied = true, .think = THINK_DEFAULT_ON,
    .sampling = { .sample = false },
    .card = {
        .title = "slm demo", .maker = "the slm project", .licence = "Apache-2.0",
        .licence_url = "https://www.apache.org/licenses/LICENSE-2.0",
        .modalities = "text", .languages = "English",
        .thinking = "Thinks by default; can be told not to.",
        .tool_use = "Single tool calls with values taken literally from the sentence.",
        .good_at = "Showing that everything works with nothing downloaded: sums, capitals, small extractions.",
        .sampling_note = "Greedy; sampling costs accuracy.",
        .scores = {
            { "own held-out cases (thinking)", "evaluation kept with the model, 3300 cases", 70.9 },
            { "own held-out cases (no thinking)", "evaluation kept with the model, 3300 cases", 52.0 },
        },
    },
};
