/* demo_blob.S - the files of the demo model, as they are in demo-model/, in read-only memory.
 *
 * The assembler looks for them below the include paths (-I. from the project's root). demo_model.c
 * declares these symbols. */

    .section .rodata
.macro embed name, file
    .balign 64
    .globl demo_\name
    .hidden demo_\name
    .globl demo_\name\()_end
    .hidden demo_\name\()_end
demo_\name:
    .incbin "\file"
demo_\name\()_end:
    .byte 0
.endm

    embed config, demo-model/config.json
    embed generation, demo-model/generation_config.json
    embed tokenizer, demo-model/tokenizer.json
    embed tokenizer_config, demo-model/tokenizer_config.json
    embed template, demo-model/chat_template.jinja
    embed weights, demo-model/model.safetensors

#if defined(__linux__) && defined(__ELF__)
    .section .note.GNU-stack, "", %progbits
#endif
