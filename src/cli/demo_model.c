/* demo_model.c - the demo model that is compiled into the program (demo_blob.S), as memory files. */
#include "cli/cli.h"

extern const unsigned char demo_config[], demo_config_end[], demo_generation[],
    demo_generation_end[], demo_tokenizer[], demo_tokenizer_end[], demo_tokenizer_config[],
    demo_tokenizer_config_end[], demo_template[], demo_template_end[], demo_weights[],
    demo_weights_end[];

size_t demo_files(const struct slm_memory_file **files) {
    /* sizes are differences of two symbols, which C does not count as constant expressions */
    static struct slm_memory_file list[6];
    static const struct {
        const char *name;
        const unsigned char *from, *to;
    } parts[] = {
        { "config.json", demo_config, demo_config_end },
        { "generation_config.json", demo_generation, demo_generation_end },
        { "tokenizer.json", demo_tokenizer, demo_tokenizer_end },
        { "tokenizer_config.json", demo_tokenizer_config, demo_tokenizer_config_end },
        { "chat_template.jinja", demo_template, demo_template_end },
        { "model.safetensors", demo_weights, demo_weights_end },
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        list[i] = (struct slm_memory_file){ parts[i].name, parts[i].from,
                                            (size_t)(parts[i].to - parts[i].from) };
    *files = list;
    return ARRAY_LEN(parts);
}
